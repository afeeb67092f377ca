//! From single measurements to what a table shows.

use serde::Serialize;

use crate::{
    arguments::{Pins, Transport},
    workload::{Measurement, Metric, Workload},
};

/// One transport and one way to pin: a column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) transport: Transport,
    pub(crate) pins: Pins,
}

impl Column {
    /// Its name in tables.
    pub(crate) fn name(self) -> String {
        format!("{} {}", self.transport.name(), self.pins.name())
    }
}

/// What came of one row in one column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    /// The measurements, one for each round.
    Measured(Vec<Measurement>),
    /// Why there is none.
    Failed(String),
}

impl Cell {
    /// The spread of a metric, if this was measured and has it.
    pub(crate) fn spread(&self, metric: Metric) -> Option<Spread> {
        match self {
            Self::Measured(measurements) => {
                let figures = measurements.iter().map(|one| metric.of(one));
                Spread::of(figures.collect::<Option<Vec<_>>>()?)
            }
            Self::Failed(_) => None,
        }
    }
}

/// The results of a workload.
#[derive(Clone, Debug)]
pub(crate) struct Results {
    pub(crate) workload: &'static Workload,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Row>,
}

/// The results of one row, a cell for each column.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) cells: Vec<Cell>,
}

impl Results {
    /// With nothing measured yet.
    pub(crate) fn new(workload: &'static Workload, rows: &[&'static str]) -> Self {
        let rows = rows.iter().map(|&name| Row {
            name,
            cells: Vec::new(),
        });
        Self {
            workload,
            columns: Vec::new(),
            rows: rows.collect(),
        }
    }

    /// Adds a column, with the cells in the order of the rows.
    pub(crate) fn add(&mut self, column: Column, cells: Vec<Cell>) {
        self.columns.push(column);
        for (row, cell) in self.rows.iter_mut().zip(cells) {
            row.cells.push(cell);
        }
    }

    /// The ratio of a row's median to the median of each baseline, where both are there.
    pub(crate) fn ratios(&self, row: &Row, column: usize, metric: Metric) -> Vec<Option<f64>> {
        let median = |row: &Row| Some(row.cells.get(column)?.spread(metric)?.median);
        let baselines = self.workload.baselines.iter();
        baselines
            .map(|name| {
                let baseline = self.rows.iter().find(|row| row.name == *name)?;
                Some(median(row)? / median(baseline)?)
            })
            .collect()
    }
}

/// A metric over all rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of these figures, if there are any.
    pub(crate) fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = (figures.first()?, figures.last()?);
        let half = figures.len() / 2;
        let median = if figures.len() % 2 == 1 {
            figures[half]
        } else {
            f64::midpoint(figures[half - 1], figures[half])
        };
        Some(Self { median, min, max })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::workload::{self, Outcome};

    /// A measurement whose median round trip takes so long.
    pub(crate) fn round_trip(p50_us: f64) -> Measurement {
        Measurement {
            outcome: Outcome {
                count: 1000,
                seconds: 1.0,
                client_cpu_seconds: 0.5,
                p50_us: Some(p50_us),
                p99_us: Some(2.0 * p50_us),
                flood: None,
            },
            server_cpu_seconds: 0.5,
            kib_per_connection: None,
        }
    }

    /// A table of round trips: raw takes 40, 50 and 60 us, tofu 10, and nng has failed.
    pub(crate) fn results() -> Results {
        let mut results = Results::new(
            workload::find("round-trip").unwrap(),
            &["raw", "tofu", "nng"],
        );
        let column = Column {
            transport: Transport::Tcp,
            pins: Pins::Split,
        };
        let measured =
            |figures: &[f64]| Cell::Measured(figures.iter().map(|&us| round_trip(us)).collect());
        let cells = vec![
            measured(&[60.0, 40.0, 50.0]),
            measured(&[10.0, 10.0, 10.0]),
            Cell::Failed("it hangs".to_owned()),
        ];
        results.add(column, cells);
        results
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two_there() {
        assert_eq!(Spread::of(vec![]), None);
        let spread = |median, min, max| Some(Spread { median, min, max });
        assert_eq!(Spread::of(vec![3.0]), spread(3.0, 3.0, 3.0));
        assert_eq!(Spread::of(vec![9.0, 1.0, 2.0]), spread(2.0, 1.0, 9.0));
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 8.0]), spread(3.0, 1.0, 8.0));
    }

    #[test]
    fn a_ratio_is_that_of_the_medians() {
        let results = results();
        let ratios = |row: usize| results.ratios(&results.rows[row], 0, Metric::P50);
        assert_eq!(ratios(0), [Some(1.0), Some(5.0)]);
        assert_eq!(ratios(1), [Some(0.2), Some(1.0)]);
        assert_eq!(ratios(2), [None, None]);
    }

    #[test]
    fn without_its_baseline_a_row_has_no_ratio() {
        let mut results = results();
        results.rows.remove(0);
        let ratios = results.ratios(&results.rows[0], 0, Metric::P50);
        assert_eq!(ratios, [None, Some(1.0)]);
    }
}
