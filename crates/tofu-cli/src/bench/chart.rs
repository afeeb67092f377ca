//! The figures as charts: one SVG file with a panel for each thing that was measured.
//!
//! Latency is drawn over a logarithmic axis, for its tail is many times its middle; rates are bars, and
//! those begin at zero. Every figure stands beside its mark.

use std::{
    env::consts::{ARCH, OS},
    fmt::Display,
    fs::Permissions,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
};

use plotters::{
    coord::Shift,
    prelude::{
        ChartBuilder, Circle, DrawingArea, EmptyElement, IntoDrawingArea, IntoFont, IntoLogRange,
        PathElement, RGBColor, Rectangle, SVGBackend, Text, WHITE,
    },
    style::{
        Color, FontStyle, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};
use tempfile::NamedTempFile;

use super::{
    failed,
    figures::{PERCENTILES, Row},
    plan::{Kind, Plan, Transport, Workload},
    report::{grouped, method},
    traffic::IN_FLIGHT,
};
use crate::error::Failure;

const PANEL_WIDTH: u32 = 560;
const PANEL_HEIGHT: u32 = 360;
const HEAD_HEIGHT: u32 = 84;
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);
const PALE: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
/// The share of a category's width that its bars fill.
const BARS_SHARE: f64 = 0.8;
/// Room above the highest mark, for its figure.
const HEADROOM: f64 = 1.15;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The file that is to be written, made before anything is measured: it takes its name when it is whole.
pub(super) struct SvgFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl SvgFile {
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let failed = |why: &dyn Display| Failure::new(path.display(), why);
        if path.is_dir() {
            return Err(failed(&"is a directory"));
        }
        let directory = match path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory,
            _ => Path::new("."),
        };
        let file = tempfile::Builder::new()
            .prefix(".tofucat-bench-")
            // Less the umask: the rights of any new file.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(directory)
            .map_err(|error| failed(&error))?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Draws the rows and gives the file its name.
    pub(super) fn draw(mut self, plan: &Plan, rows: &[Row]) -> Result<(), Failure> {
        let svg = svg(plan, rows)?;
        let written = self.file.write_all(svg.as_bytes());
        let named = written.and_then(|()| Ok(self.file.persist(&self.path)?));
        named
            .map(drop)
            .map_err(|error| Failure::new(self.path.display(), error))
    }
}

/// What one panel shows.
struct Panel {
    title: String,
    /// What the vertical axis counts.
    unit: &'static str,
    /// What stands along the horizontal axis.
    categories: Vec<String>,
    /// A figure for each category.
    series: Vec<(Transport, Vec<f64>)>,
    kind: Kind,
}

fn svg(plan: &Plan, rows: &[Row]) -> Result<String, Failure> {
    let panels = panels(plan, rows);
    let columns = panels.len().clamp(1, 2);
    let lines = panels.len().div_ceil(columns);
    let size = |count: usize, each: u32| u32::try_from(count).map_or(each, |count| count * each);
    let (width, height) = (size(columns, PANEL_WIDTH), size(lines, PANEL_HEIGHT));
    let mut svg = String::new();
    {
        let root =
            SVGBackend::with_string(&mut svg, (width, HEAD_HEIGHT + height)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let (head, body) = root.split_vertically(HEAD_HEIGHT);
        draw_head(&head, plan)?;
        for (area, panel) in body.split_evenly((lines, columns)).iter().zip(&panels) {
            match panel.kind {
                Kind::RoundTrip => draw_lines(area, panel)?,
                Kind::OneWay | Kind::InFlight => draw_bars(area, panel)?,
            }
        }
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

/// The panels for what was measured.
fn panels(plan: &Plan, rows: &[Row]) -> Vec<Panel> {
    let of_kind = |kind: Kind, figure: &dyn Fn(&Row) -> Vec<f64>| -> Vec<(Transport, Vec<f64>)> {
        let series = plan.transports.iter().map(|&transport| {
            let is_of =
                |row: &&Row| row.cell.workload.kind() == kind && row.cell.transport == transport;
            (
                transport,
                rows.iter().filter(is_of).flat_map(figure).collect(),
            )
        });
        series.collect()
    };
    let bodies = |kind: Kind| -> Vec<String> {
        let mut workloads: Vec<Workload> = plan.cells.iter().map(|cell| cell.workload).collect();
        workloads.dedup();
        workloads.retain(|workload| workload.kind() == kind);
        let bodies = workloads.iter().map(|workload| workload.body());
        bodies.map(str::to_owned).collect()
    };
    let rate = |row: &Row| vec![row.figures.rate];
    let panels = [
        Panel {
            title: "Round trip, 64-byte body".to_owned(),
            unit: "microseconds",
            categories: PERCENTILES.map(str::to_owned).to_vec(),
            series: of_kind(Kind::RoundTrip, &|row| {
                row.figures.latency_us.iter().flatten().copied().collect()
            }),
            kind: Kind::RoundTrip,
        },
        Panel {
            title: format!("{IN_FLIGHT} requests in flight"),
            unit: "requests/s",
            categories: vec!["64-byte body".to_owned()],
            series: of_kind(Kind::InFlight, &rate),
            kind: Kind::InFlight,
        },
        Panel {
            title: "One way, by size of body".to_owned(),
            unit: "messages/s",
            categories: bodies(Kind::OneWay),
            series: of_kind(Kind::OneWay, &rate),
            kind: Kind::OneWay,
        },
        Panel {
            title: "One way, by size of body".to_owned(),
            unit: "MB/s of bodies",
            categories: bodies(Kind::OneWay),
            series: of_kind(Kind::OneWay, &|row| vec![row.mb_per_second()]),
            kind: Kind::OneWay,
        },
    ];
    let is_measured = |panel: &Panel| panel.series.iter().any(|(_, figures)| !figures.is_empty());
    panels.into_iter().filter(is_measured).collect()
}

/// Title, method, and which colour is which transport.
fn draw_head(area: &Area<'_>, plan: &Plan) -> Result<(), Failure> {
    let title = style(22).font.style(FontStyle::Bold).color(&INK);
    let processors = match thread::available_parallelism().map_or(1, usize::from) {
        1 => "1 processor".to_owned(),
        count => format!("{count} processors"),
    };
    let texts = [
        ("tofu between two processes", (24, 18), title),
        (
            &format!(
                "tofucat {} on {OS} {ARCH}, {processors}; {}",
                env!("CARGO_PKG_VERSION"),
                method(plan)
            ),
            (24, 50),
            style(14),
        ),
    ];
    for (text, at, style) in texts {
        area.draw(&Text::new(text, at, style)).map_err(failed)?;
    }
    let (width, _) = area.dim_in_pixel();
    let mut left = i32::try_from(width).unwrap_or(i32::MAX) - 24;
    for &transport in plan.transports.iter().rev() {
        left -= 64;
        let square = [(left, 22), (left + 14, 36)];
        area.draw(&Rectangle::new(square, colour(transport).filled()))
            .map_err(failed)?;
        let name = Text::new(transport.name(), (left + 20, 21), style(16));
        area.draw(&name).map_err(failed)?;
    }
    Ok(())
}

/// Points joined by lines, over a logarithmic axis.
fn draw_lines(area: &Area<'_>, panel: &Panel) -> Result<(), Failure> {
    let all = panel.series.iter().flat_map(|(_, figures)| figures);
    // A clock too coarse gives zero, which has no logarithm.
    let all = all.copied().filter(|figure| *figure > 0.0);
    let (low, high) = all.fold((f64::MAX, 1.0_f64), |(low, high), figure| {
        (low.min(figure), high.max(figure))
    });
    let (low, high) = (low.min(high) / 2.0, high * 2.0);
    let mut chart = chart(area, panel)
        .build_cartesian_2d(range(panel), (low..high).log_scale())
        .map_err(failed)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .bold_line_style(PALE)
        .axis_style(INK)
        .x_labels(panel.categories.len())
        .x_label_formatter(&|x| category(panel, *x))
        .y_label_formatter(&|figure| short(*figure))
        .y_desc(panel.unit)
        .label_style(style(14))
        .draw()
        .map_err(failed)?;
    for (number, (transport, figures)) in panel.series.iter().enumerate() {
        let colour = colour(*transport);
        let heights = figures.iter().map(|figure| figure.max(low));
        let points: Vec<(f64, f64)> = positions().zip(heights).collect();
        let line = PathElement::new(points.clone(), colour.stroke_width(2));
        chart.draw_series([line]).map_err(failed)?;
        let marks = points.iter().enumerate().map(|(position, &point)| {
            // Above the higher line and below the lower one, so that figures do not meet.
            // The lines rise to the right, so aside means out of their way.
            let (aside, anchor) = if highest(panel, position) == Some(number) {
                ((-12, -8), VPos::Bottom)
            } else {
                ((12, 8), VPos::Top)
            };
            EmptyElement::at(point)
                + Circle::new((0, 0), 4, colour.filled())
                + figure(figures[position], aside, anchor)
        });
        chart.draw_series(marks).map_err(failed)?;
    }
    Ok(())
}

/// Which series has the highest figure at this position.
fn highest(panel: &Panel, position: usize) -> Option<usize> {
    let figures = panel.series.iter().enumerate();
    let figures =
        figures.filter_map(|(number, (_, figures))| Some((number, figures.get(position)?)));
    figures
        .max_by(|(_, one), (_, other)| one.total_cmp(other))
        .map(|(number, _)| number)
}

/// Bars side by side in each category.
fn draw_bars(area: &Area<'_>, panel: &Panel) -> Result<(), Failure> {
    let all = panel.series.iter().flat_map(|(_, figures)| figures);
    let high = all.copied().fold(1.0, f64::max) * HEADROOM;
    let mut chart = chart(area, panel)
        .build_cartesian_2d(range(panel), 0.0..high)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .bold_line_style(PALE)
        .axis_style(INK)
        .x_labels(panel.categories.len())
        .x_label_formatter(&|x| category(panel, *x))
        .y_labels(6)
        .y_label_formatter(&|figure| short(*figure))
        .y_desc(panel.unit)
        .label_style(style(14))
        .draw()
        .map_err(failed)?;
    let series = panel.series.len().max(1);
    let width = BARS_SHARE / f64::from(u32::try_from(series).unwrap_or(1));
    for ((transport, figures), shift) in panel.series.iter().zip(positions()) {
        let colour = colour(*transport);
        let bars = figures.iter().zip(positions()).map(|(&rate, position)| {
            let left = position - BARS_SHARE / 2.0 + shift * width;
            Rectangle::new([(left, 0.0), (left + width * 0.94, rate)], colour.filled())
        });
        chart.draw_series(bars).map_err(failed)?;
        let labels = figures.iter().zip(positions()).map(|(&rate, position)| {
            let middle = position - BARS_SHARE / 2.0 + (shift + 0.47) * width;
            EmptyElement::at((middle, rate)) + figure(rate, (0, -4), VPos::Bottom)
        });
        chart.draw_series(labels).map_err(failed)?;
    }
    Ok(())
}

/// What both kinds of panel have around them.
fn chart<'a, 'b>(area: &'a Area<'b>, panel: &Panel) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut builder = ChartBuilder::on(area);
    builder
        .margin(16)
        .caption(&panel.title, style(17))
        .x_label_area_size(32)
        .y_label_area_size(68);
    builder
}

/// A figure beside its mark.
fn figure(figure: f64, aside: (i32, i32), anchor: VPos) -> Text<'static, (i32, i32), String> {
    let style = style(13).pos(Pos::new(HPos::Center, anchor));
    Text::new(short(figure), aside, style)
}

fn style(size: u32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&INK)
}

/// Blue and orange: what most eyes can tell apart.
fn colour(transport: Transport) -> RGBColor {
    match transport {
        Transport::Tcp => RGBColor(0x00, 0x72, 0xb2),
        Transport::Uds => RGBColor(0xe6, 0x9f, 0x00),
    }
}

/// Categories stand at 0, 1, 2 and so on.
fn positions() -> impl Iterator<Item = f64> {
    (0..u32::MAX).map(f64::from)
}

fn range(panel: &Panel) -> std::ops::Range<f64> {
    let count = u32::try_from(panel.categories.len()).unwrap_or(1);
    -0.5..f64::from(count) - 0.5
}

/// The name of the category that stands here, if one does.
fn category(panel: &Panel, position: f64) -> String {
    let named = positions().zip(&panel.categories);
    let mut near = named.filter(|(at, _)| (at - position).abs() < 0.01);
    near.next()
        .map_or_else(String::new, |(_, name)| name.clone())
}

/// A figure in few characters.
fn short(figure: f64) -> String {
    let (figure, unit) = match figure {
        _ if figure >= 1e6 => (figure / 1e6, "M"),
        _ if figure >= 1e4 => (figure / 1e3, "k"),
        _ if figure >= 1e3 => return grouped(figure),
        _ => (figure, ""),
    };
    let digits = usize::from(figure < 100.0);
    let text = format!("{figure:.digits$}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::Figures;

    fn rows(plan: &Plan) -> Vec<Row> {
        let figures = |workload: Workload| Figures {
            rate: 1_234_567.0,
            cpu_seconds_per_million: 1.0,
            latency_us: (workload.kind() == Kind::RoundTrip).then_some([8.1, 9.0, 21.0, 345.6]),
        };
        let rows = plan.cells.iter().map(|&cell| Row {
            cell,
            figures: figures(cell.workload),
        });
        rows.collect()
    }

    #[test]
    fn figures_are_short() {
        let texts = [
            0.0,
            8.14,
            99.0,
            345.6,
            1000.0,
            61_440.0,
            999_000.0,
            4_210_000.0,
        ]
        .map(short);
        let wanted = ["0", "8.1", "99", "346", "1,000", "61.4k", "999k", "4.2M"];
        assert_eq!(texts, wanted);
    }

    #[test]
    fn a_chart_has_a_panel_for_all_that_was_measured() {
        let plan = Plan::new(None, &[], false, true);
        let svg = svg(&plan, &rows(&plan)).unwrap();
        for wanted in [
            "Round trip",
            "requests in flight",
            "p50",
            "p99.9",
            "microseconds",
            "requests/s",
            "messages/s",
            "MB/s",
            "64 B",
            "1 KiB",
            "60 KiB",
            "8.1",
            "346",
            "1.2M",
            "medians of 5 rounds",
            "tcp",
            "uds",
        ] {
            assert!(svg.contains(wanted), "{wanted:?} is missing in {svg}");
        }
    }

    #[test]
    fn a_chart_has_nothing_that_was_not_measured() {
        let plan = Plan::new(Some(Transport::Uds), &[Workload::OneWay1Kib], true, true);
        let svg = svg(&plan, &rows(&plan)).unwrap();
        assert!(svg.contains("1 KiB") && svg.contains("messages/s") && svg.contains("uds"));
        for unwanted in ["Round trip", "in flight", "64 B", "60 KiB", "tcp"] {
            assert!(
                !svg.contains(&format!("{unwanted}\n")),
                "{unwanted:?} in {svg}"
            );
        }
    }

    #[test]
    fn a_clock_that_stands_still_breaks_no_chart() {
        let plan = Plan::new(None, &[Workload::RoundTrip], true, true);
        let mut rows = rows(&plan);
        for row in &mut rows {
            row.figures.latency_us = Some([0.0; PERCENTILES.len()]);
        }
        assert!(svg(&plan, &rows).unwrap().contains("p99.9"));
    }
}
