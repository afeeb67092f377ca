//! A chart for each workload: bars for its first metric, a panel for each transport and pinning.

use std::path::{Path, PathBuf};

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    contender::Fallible,
    report::markdown::figure,
    summary::{Cell, Results},
    workload::Metric,
};

const WIDTH: u32 = 1000;
const TITLE_HEIGHT: u32 = 56;
const PANEL_TITLE_HEIGHT: i32 = 26;
const BAR_HEIGHT: u32 = 26;
const LABEL_WIDTH: i32 = 190;
const FIGURE_WIDTH: i32 = 110;
const MARGIN: i32 = 16;
const FONT: &str = "sans-serif";
const TOFU: RGBColor = RGBColor(0x1b, 0x7f, 0x5c);
const OTHERS: RGBColor = RGBColor(0x9a, 0xa5, 0xb1);
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const WHISKER: RGBColor = RGBColor(0x44, 0x44, 0x44);

/// Draws the chart of a workload into a directory, which is made.
pub(crate) fn draw(results: &Results, directory: &Path) -> Fallible<PathBuf> {
    std::fs::create_dir_all(directory)
        .map_err(|error| format!("{} cannot be made: {error}", directory.display()))?;
    let path = directory.join(format!("{}.svg", results.workload.name));
    let panel_height = panel_height(results);
    let panel_rows = results.columns.len().div_ceil(2);
    let height = TITLE_HEIGHT + panel_height * u32::try_from(panel_rows)?;
    let area = SVGBackend::new(&path, (WIDTH, height)).into_drawing_area();
    fill(&area, results, panel_rows)?;
    area.present()?;
    drop(area);
    Ok(path)
}

fn panel_height(results: &Results) -> u32 {
    let bars = u32::try_from(results.rows.len()).unwrap_or(u32::MAX);
    BAR_HEIGHT * bars + PANEL_TITLE_HEIGHT.unsigned_abs() + MARGIN.unsigned_abs()
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn fill(area: &Area<'_>, results: &Results, panel_rows: usize) -> Fallible {
    let Some(&metric) = results.workload.metrics.first() else {
        return Ok(());
    };
    area.fill(&WHITE)?;
    let (title, panels) = area.split_vertically(TITLE_HEIGHT);
    let left = Pos::new(HPos::Left, VPos::Center);
    let large = (FONT, 20).into_font().color(&INK).pos(left);
    let small = (FONT, 14).into_font().color(&INK).pos(left);
    let heading = format!("{}: {}", results.workload.name, metric.name());
    title.draw(&Text::new(heading, (MARGIN, 18), large))?;
    let about = format!("{}; whiskers: min to max", results.workload.about);
    title.draw(&Text::new(about, (MARGIN, 42), small))?;
    let across = if results.columns.len() > 1 { 2 } else { 1 };
    for (column, panel) in panels.split_evenly((panel_rows, across)).iter().enumerate() {
        if column < results.columns.len() {
            draw_panel(panel, results, column, metric)?;
        }
    }
    Ok(())
}

fn draw_panel(panel: &Area<'_>, results: &Results, column: usize, metric: Metric) -> Fallible {
    let (width, _) = panel.dim_in_pixel();
    let bars_width = f64::from(i32::try_from(width)? - LABEL_WIDTH - FIGURE_WIDTH);
    let spreads = results
        .rows
        .iter()
        .map(|row| row.cells[column].spread(metric));
    let highest = spreads
        .flatten()
        .map(|s| s.max)
        .fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| LABEL_WIDTH + pixels(value / highest * bars_width);
    let text = |size: i32, h| {
        (FONT, size)
            .into_font()
            .color(&INK)
            .pos(Pos::new(h, VPos::Center))
    };
    let name = results.columns[column].name();
    panel.draw(&Text::new(
        name,
        (LABEL_WIDTH, PANEL_TITLE_HEIGHT / 2),
        text(16, HPos::Left),
    ))?;
    let mut top = PANEL_TITLE_HEIGHT;
    for row in &results.rows {
        let height = i32::try_from(BAR_HEIGHT)?;
        let middle = top + height / 2;
        let label = (LABEL_WIDTH - 8, middle);
        panel.draw(&Text::new(row.name, label, text(13, HPos::Right)))?;
        let cell = &row.cells[column];
        let (at, said) = if let Some(spread) = cell.spread(metric) {
            let color = if row.name.starts_with("tofu") {
                TOFU
            } else {
                OTHERS
            };
            let bar = [(LABEL_WIDTH, top + 4), (x(spread.median), top + height - 4)];
            panel.draw(&Rectangle::new(bar, color.filled()))?;
            let whisker = vec![(x(spread.min), middle), (x(spread.max), middle)];
            panel.draw(&PathElement::new(whisker, WHISKER.stroke_width(2)))?;
            (x(spread.max), figure(spread.median))
        } else {
            let said = if matches!(cell, Cell::Failed(_)) {
                "failed"
            } else {
                "-"
            };
            (LABEL_WIDTH, said.to_owned())
        };
        panel.draw(&Text::new(said, (at + 6, middle), text(13, HPos::Left)))?;
        top += height;
    }
    Ok(())
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "a share of the width of the picture"
)]
fn pixels(value: f64) -> i32 {
    value as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::results;

    #[test]
    fn a_chart_names_every_row_and_every_figure() {
        let directory = tempfile::tempdir().unwrap();
        let path = draw(&results(), &directory.path().join("charts")).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        for expected in [
            "round-trip",
            "tcp split",
            "raw",
            "50.0",
            "tofu",
            "10.0",
            "nng",
            "failed",
        ] {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
    }
}
