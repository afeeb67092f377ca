//! The samples as a chart: a panel for each figure, over time.

use std::path::Path;

use plotters::prelude::{
    ChartBuilder, IntoDrawingArea, IntoFont, PathElement, RGBColor, SVGBackend, WHITE,
};
use tofu_trials::Fallible;

use crate::samples::Sample;

const SIZE: (u32, u32) = (1_000, 900);
const LINE: RGBColor = RGBColor(0x1b, 0x7f, 0x5c);
const FONT: &str = "sans-serif";

const POINTS_MAX: usize = 600;

type Figure = fn(&Sample) -> f64;

const PANELS: [(&str, Figure); 6] = [
    ("resident memory in MiB", |s| {
        s.usage.rss_kib as f64 / 1_024.0
    }),
    ("descriptors", |s| s.usage.descriptors as f64),
    ("threads", |s| s.usage.threads as f64),
    ("p99 of a round trip in us", |s| s.latency.p99_us),
    ("p50 of a round trip in us", |s| s.latency.p50_us),
    ("thousand messages so far", |s| {
        s.levels.messages as f64 / 1_000.0
    }),
];

pub(crate) fn draw(path: &Path, samples: &[Sample]) -> Fallible {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    let failed = |error: &dyn std::error::Error| format!("no chart: {error}");
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let seconds = samples.last().map_or(1.0, |last| last.second as f64);
    for (panel, (name, figure)) in area.split_evenly((3, 2)).iter().zip(PANELS) {
        // More points than a panel has pixels would only be larger: the highest of those close together.
        let together = samples.len().div_ceil(POINTS_MAX).max(1);
        let points = samples.chunks(together).filter_map(|some| {
            let highest = some.iter().map(figure).fold(0.0, f64::max);
            Some((some.last()?.second as f64, highest))
        });
        let points: Vec<_> = points.collect();
        let highest = points.iter().map(|point| point.1).fold(1.0, f64::max);
        let mut chart = ChartBuilder::on(panel)
            .caption(name, (FONT, 16).into_font())
            .margin(12)
            .x_label_area_size(28)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..seconds, 0.0..highest * 1.15)
            .map_err(|error| failed(&error))?;
        let mut mesh = chart.configure_mesh();
        let mesh = mesh.x_desc("s").x_labels(6).y_labels(5);
        mesh.draw().map_err(|error| failed(&error))?;
        chart
            .draw_series([PathElement::new(points, LINE)])
            .map_err(|error| failed(&error))?;
    }
    area.present().map_err(|error| failed(&error))?;
    Ok(())
}
