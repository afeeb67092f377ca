//! One run: for each workload, transport and pinning all rows in turn, again and again.
//!
//! Rounds are interleaved, so that whatever else the machine does meets all rows alike. A row that
//! fails keeps its place in the table, with the reason.

use std::{
    io::{IsTerminal, Write},
    path::Path,
};

use crate::{
    arguments::{Pins, Run, Transport},
    contender::Fallible,
    pair::Pair,
    report::json,
    summary::{Cell, Column, Results},
    workload::{Case, Measurement, Workload},
};

/// Measurements begin with so many messages, and more while they are too short to calibrate with.
const COUNT_MIN: u64 = 500;
const COUNT_MAX: u64 = 200_000_000;
/// On a busy machine no two runs may take the same time.
const ATTEMPTS_MAX: u32 = 10;

/// Measures all that was asked for, and hands out each workload's results as they are there.
pub(crate) fn run(
    run: &Run,
    log: &mut json::Log,
    mut done: impl FnMut(&Results) -> Fallible,
) -> Fallible {
    let directory = tempfile::Builder::new().prefix("tofu-benches").tempdir()?;
    let (contenders, named) = run.contenders();
    let mut nothing = true;
    for workload in run.workloads() {
        let cases = workload.cases(&contenders, named);
        if cases.is_empty() {
            continue;
        }
        nothing = false;
        let rows: Vec<_> = cases.iter().map(|case| case.row).collect();
        let mut results = Results::new(workload, &rows);
        for column in columns(run) {
            let mut measured = measure_column(run, workload, &cases, column, directory.path());
            for (case, cell) in cases.iter().zip(&mut measured) {
                log.cell(workload, case, column, cell)?;
            }
            results.add(column, measured);
        }
        log.summaries(&results)?;
        done(&results)?;
    }
    progress(&[]);
    if nothing {
        return Err("none of these contenders takes part in these workloads".into());
    }
    Ok(())
}

fn columns(run: &Run) -> Vec<Column> {
    let pairs = run.transports.iter().flat_map(|&transport: &Transport| {
        let pins = run.pins.iter();
        pins.map(move |&pins: &Pins| Column { transport, pins })
    });
    pairs.collect()
}

/// A row while it is measured.
enum State {
    Running {
        pair: Box<Pair>,
        count: u64,
        measurements: Vec<Measurement>,
    },
    Failed(String),
}

fn measure_column(
    run: &Run,
    workload: &Workload,
    cases: &[Case],
    column: Column,
    directory: &Path,
) -> Vec<Cell> {
    let place = format!("{} {}", workload.name, column.name());
    let mut states: Vec<_> = cases
        .iter()
        .map(|case| {
            progress(&[&place, "warm-up", case.row]);
            start(run, case, column, directory).unwrap_or_else(|error| failed(&*error))
        })
        .collect();
    for round in 1..=run.rounds() {
        for (case, state) in cases.iter().zip(&mut states) {
            progress(&[&place, &format!("round {round}"), case.row]);
            let State::Running {
                pair,
                count,
                measurements,
            } = state
            else {
                continue;
            };
            match pair.measure(case.command, *count) {
                Ok(measurement) => measurements.push(measurement),
                // Its processes are killed here.
                Err(error) => *state = failed(&*error),
            }
        }
    }
    let cells = states.into_iter().map(|state| match state {
        State::Running { measurements, .. } => Cell::Measured(measurements),
        State::Failed(reason) => Cell::Failed(reason),
    });
    cells.collect()
}

fn failed(error: &(dyn std::error::Error + Send + Sync)) -> State {
    State::Failed(error.to_string())
}

fn start(run: &Run, case: &Case, column: Column, directory: &Path) -> Fallible<State> {
    let mut pair = Pair::start(case, column.transport, column.pins, directory)?;
    let count = match case.count {
        Some(count) => count,
        None => calibrate(&mut pair, case, run.seconds())?,
    };
    Ok(State::Running {
        pair: Box::new(pair),
        count,
        measurements: Vec::new(),
    })
}

/// How often the command runs in about so many seconds: this is the warm-up, too.
fn calibrate(pair: &mut Pair, case: &Case, seconds: f64) -> Fallible<u64> {
    let mut count = COUNT_MIN;
    for _ in 0..ATTEMPTS_MAX {
        let took = pair.measure(case.command, count)?.outcome.seconds;
        if is_about(took, seconds) {
            break;
        }
        count = next_count(count, took, seconds);
    }
    Ok(count)
}

/// Whether that is near enough for a measurement. A count is taken only after a run of that length: a
/// short one may have met a pause of the machine's.
fn is_about(took: f64, seconds: f64) -> bool {
    (seconds / 2.0..=seconds * 2.0).contains(&took)
}

/// As many as will take `seconds`, but not many times more than what has been tried.
fn next_count(count: u64, took: f64, seconds: f64) -> u64 {
    let growth = (seconds / took).clamp(0.01, 10.0);
    let next = crate::workload::float(count) * growth;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and clamped right after"
    )]
    let next = next as u64;
    next.clamp(1, COUNT_MAX)
}

/// Says on standard error how far it is; on a terminal, always in the same line.
fn progress(words: &[&str]) {
    let mut stderr = std::io::stderr().lock();
    let line = words.join(", ");
    // Nobody's measurement ends because nobody reads this.
    let _ = if stderr.is_terminal() {
        write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush())
    } else if words.is_empty() {
        Ok(())
    } else {
        writeln!(stderr, "{line}")
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_and_twice_the_time_are_near_enough() {
        assert!(is_about(0.25, 0.5) && is_about(0.5, 0.5) && is_about(1.0, 0.5));
        assert!(!is_about(0.24, 0.5) && !is_about(1.01, 0.5));
    }

    #[test]
    fn a_count_grows_to_the_time_it_is_to_take_and_tenfold_at_most() {
        assert_eq!(next_count(500, 0.25, 0.5), 1000);
        assert_eq!(next_count(500, 0.000_1, 0.5), 5000);
        assert_eq!(next_count(500, 0.0, 0.5), 5000);
        assert_eq!(next_count(500, 5.0, 0.5), 50);
        assert_eq!(next_count(1, 100.0, 0.5), 1);
        assert_eq!(next_count(COUNT_MAX, 0.1, 0.5), COUNT_MAX);
    }
}
