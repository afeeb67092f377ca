//! Tables in Markdown: one for each metric of each workload.

use std::fmt::Write;

use crate::{
    summary::{Cell, Results, Row},
    workload::Metric,
};

/// The tables of a workload. The first one has the ratios and the processor time in its cells.
pub(crate) fn tables(results: &Results) -> String {
    let workload = results.workload;
    let mut text = format!("## {}\n\n{}.\n", workload.name, capitalized(workload.about));
    for &metric in workload.metrics {
        if metric == Metric::Cpu {
            // It stands in the cells of the first table.
            continue;
        }
        let _ = write!(text, "\n{}\n", legend(results, metric));
        text.push_str(&table(results, metric));
    }
    for failure in failures(results) {
        let _ = write!(text, "\n{failure}\n");
    }
    text
}

fn is_first(results: &Results, metric: Metric) -> bool {
    results.workload.metrics.first() == Some(&metric)
}

fn shows_cpu(results: &Results, metric: Metric) -> bool {
    is_first(results, metric) && results.workload.metrics.contains(&Metric::Cpu)
}

/// What a cell says.
fn legend(results: &Results, metric: Metric) -> String {
    let mut parts = vec![format!("**{}**: median (min to max)", metric.name())];
    let is_compared = |row: &Row| {
        let columns = 0..results.columns.len();
        let mut ratios = columns.flat_map(|column| results.ratios(row, column, metric));
        ratios.any(|ratio| ratio.is_some())
    };
    if results.rows.iter().any(is_compared) {
        let baselines: Vec<_> = results
            .workload
            .baselines
            .iter()
            .map(|name| format!("*{name}*"))
            .collect();
        parts.push(format!("ratio to {}", baselines.join(" / ")));
    }
    if shows_cpu(results, metric) {
        parts.push("CPU seconds of both processes per million".to_owned());
    }
    format!("{}\n", parts.join("; "))
}

fn table(results: &Results, metric: Metric) -> String {
    let mut lines = vec![vec![String::new()]];
    lines[0].extend(results.columns.iter().map(|column| column.name()));
    for row in &results.rows {
        let mut line = vec![row.name.to_owned()];
        line.extend((0..results.columns.len()).map(|column| cell(results, row, column, metric)));
        lines.push(line);
    }
    aligned(&lines)
}

fn cell(results: &Results, row: &Row, column: usize, metric: Metric) -> String {
    let cell = &row.cells[column];
    let Some(spread) = cell.spread(metric) else {
        return match cell {
            Cell::Failed(_) => "failed".to_owned(),
            Cell::Measured(_) => "-".to_owned(),
        };
    };
    let mut parts = vec![format!(
        "{} ({} to {})",
        figure(spread.median),
        figure(spread.min),
        figure(spread.max)
    )];
    let ratios = results.ratios(row, column, metric);
    if ratios.iter().any(Option::is_some) {
        let ratio = |ratio: &Option<f64>| ratio.map_or("-".to_owned(), |r| format!("{r:.2}"));
        parts.push(ratios.iter().map(ratio).collect::<Vec<_>>().join(" / "));
    }
    if shows_cpu(results, metric)
        && let Some(cpu) = cell.spread(Metric::Cpu)
    {
        parts.push(figure(cpu.median));
    }
    parts.join("; ")
}

fn failures(results: &Results) -> Vec<String> {
    let mut lines = Vec::new();
    for row in &results.rows {
        for (column, cell) in results.columns.iter().zip(&row.cells) {
            if let Cell::Failed(reason) = cell {
                let reason = reason.replace('\n', " ");
                lines.push(format!(
                    "- {} failed, {}: {reason}",
                    row.name,
                    column.name()
                ));
            }
        }
    }
    if lines.is_empty() {
        return lines;
    }
    vec![lines.join("\n")]
}

/// Three digits that count.
pub(crate) fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or(0).max(3)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (cell, &width) in line.iter().zip(&widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            for &width in &widths {
                let _ = write!(text, "| {} ", "-".repeat(width));
            }
            text.push_str("|\n");
        }
    }
    text
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        // The name of the project begins no sentence in capitals.
        Some(first) if !text.starts_with("tofu") => first.to_uppercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::results;

    #[test]
    fn a_cell_has_median_spread_ratios_and_processor_time() {
        let text = tables(&results());
        for line in [
            "|      | tcp split                              |",
            "| raw  | 50.0 (40.0 to 60.0); 1.00 / 5.00; 1000 |",
            "| tofu | 10.0 (10.0 to 10.0); 0.20 / 1.00; 1000 |",
        ] {
            assert!(
                text.lines().any(|other| other == line),
                "{line} is not in\n{text}"
            );
        }
    }

    #[test]
    fn lines_of_a_table_are_equally_long() {
        let text = table(&results(), Metric::P99);
        let mut lens = text.lines().map(str::len);
        let first = lens.next().unwrap();
        assert!(lens.all(|len| len == first), "{text}");
    }

    #[test]
    fn where_nothing_can_be_compared_no_ratio_is_promised() {
        assert!(legend(&results(), Metric::P50).contains("ratio to *raw*"));
        assert!(!legend(&results(), Metric::Memory).contains("ratio"));
    }

    #[test]
    fn a_failure_is_never_silent() {
        let text = tables(&results());
        assert!(text.contains("| nng  | failed"), "{text}");
        assert!(text.contains("- nng failed, tcp split: it hangs"), "{text}");
    }

    #[test]
    fn a_figure_has_three_digits_that_count() {
        let figures = [1234.56, 123.4, 12.34, 1.234, 0.123_4, 0.0].map(figure);
        assert_eq!(figures, ["1235", "123", "12.3", "1.23", "0.12", "0.00"]);
    }
}
