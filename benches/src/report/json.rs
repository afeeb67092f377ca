//! Lines of JSON: one for each measurement, and one for each metric of each cell.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    contender::Fallible,
    summary::{Cell, Column, Results},
    workload::{Case, Workload},
};

/// Where the lines go, if anywhere.
#[derive(Debug)]
pub(crate) struct Log(Option<BufWriter<File>>);

impl Log {
    /// To this file, in place of what is in it.
    pub(crate) fn create(path: Option<&Path>) -> Fallible<Self> {
        let file = path.map(|path| {
            File::create(path)
                .map_err(|error| format!("{} cannot be written: {error}", path.display()))
        });
        Ok(Self(file.transpose()?.map(BufWriter::new)))
    }

    /// All measurements of a cell, or why there are none.
    pub(crate) fn cell(
        &mut self,
        workload: &Workload,
        case: &Case,
        column: Column,
        cell: &Cell,
    ) -> Fallible {
        for line in cell_lines(workload, case, column, cell) {
            self.line(&line)?;
        }
        Ok(())
    }

    /// The summaries of a workload.
    pub(crate) fn summaries(&mut self, results: &Results) -> Fallible {
        for line in summary_lines(results) {
            self.line(&line)?;
        }
        Ok(())
    }

    fn line(&mut self, line: &Value) -> Fallible {
        if let Some(file) = &mut self.0 {
            writeln!(file, "{line}")?;
            file.flush()?;
        }
        Ok(())
    }
}

fn place(workload: &Workload, row: &str, column: Column) -> Value {
    json!({
        "workload": workload.name,
        "row": row,
        "transport": column.transport.name(),
        "pins": column.pins.name(),
    })
}

fn merged(mut line: Value, more: Value) -> Value {
    if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
        line.extend(more);
    }
    line
}

fn cell_lines(workload: &Workload, case: &Case, column: Column, cell: &Cell) -> Vec<Value> {
    let place = merged(
        place(workload, case.row, column),
        json!({ "contender": case.contender, "command": case.command.to_string() }),
    );
    match cell {
        Cell::Measured(measurements) => (1..)
            .zip(measurements)
            .map(|(round, measurement): (u32, _)| {
                let line = json!({ "type": "measurement", "round": round });
                let figures = serde_json::to_value(measurement).unwrap_or_default();
                merged(merged(line, place.clone()), figures)
            })
            .collect(),
        Cell::Failed(reason) => {
            vec![merged(
                json!({ "type": "failure", "reason": reason }),
                place,
            )]
        }
    }
}

fn summary_lines(results: &Results) -> Vec<Value> {
    let mut lines = Vec::new();
    for (at, &column) in results.columns.iter().enumerate() {
        for row in &results.rows {
            for &metric in results.workload.metrics {
                let Some(spread) = row.cells[at].spread(metric) else {
                    continue;
                };
                let baselines = results.workload.baselines.iter();
                let ratios: serde_json::Map<_, _> = baselines
                    .zip(results.ratios(row, at, metric))
                    .map(|(name, ratio)| ((*name).to_owned(), json!(ratio)))
                    .collect();
                let line = json!({
                    "type": "summary",
                    "metric": metric.name(),
                    "median": spread.median,
                    "min": spread.min,
                    "max": spread.max,
                    "ratio_to": ratios,
                });
                lines.push(merged(line, place(results.workload, row.name, column)));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        summary::tests::results,
        workload::{self, Command},
    };

    #[test]
    fn a_measurement_is_a_line_and_a_failure_is_one() {
        let results = results();
        let case = |row| Case {
            row,
            contender: row,
            setup: None,
            command: Command::RoundTrips(64),
            count: None,
        };
        let workload = workload::find("round-trip").unwrap();
        let lines = |row: usize, name| {
            cell_lines(
                workload,
                &case(name),
                results.columns[0],
                &results.rows[row].cells[0],
            )
        };
        let raw = lines(0, "raw");
        assert_eq!(raw.len(), 3);
        assert_eq!(raw[1]["round"], 2);
        assert_eq!(raw[1]["p50_us"], 40.0);
        assert_eq!(raw[1]["pins"], "split");
        let nng = lines(2, "nng");
        assert_eq!(nng.len(), 1);
        assert_eq!(nng[0]["reason"], "it hangs");
    }

    #[test]
    fn a_summary_has_median_spread_and_ratios() {
        let lines = summary_lines(&results());
        assert_eq!(lines.len(), 6);
        assert_eq!(lines[0]["metric"], "p50 (us)");
        assert_eq!(lines[0]["median"], 50.0);
        assert_eq!(lines[0]["min"], 40.0);
        assert_eq!(lines[3]["ratio_to"]["raw"], 0.2);
    }
}
