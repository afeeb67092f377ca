//! How the figures look: a table, or an object for each row.

use std::fmt::Display;

use super::{
    Server,
    figures::{PERCENTILES, Row},
    plan::{Kind, Plan},
    traffic::IN_FLIGHT,
};
use crate::{
    error::Failure,
    output::{Object, Output},
};

/// The heading of the column that all kinds have.
const CPU: &str = "CPU s/million";

/// Prints what was measured.
pub(super) struct Report<'a> {
    plan: &'a Plan,
    output: &'a mut Output,
}

impl<'a> Report<'a> {
    pub(super) fn new(plan: &'a Plan, output: &'a mut Output) -> Self {
        Self { plan, output }
    }

    /// Says what runs, before it does.
    pub(super) fn begin(&mut self, servers: &[Server]) -> Result<(), Failure> {
        for server in servers {
            let (transport, process) = (server.transport.name(), server.process.id());
            let address = &server.process.address;
            if self.output.is_json() {
                let object = Object::event("server")
                    .with("transport", transport)
                    .with("process", process)
                    .with("address", address.to_string());
                self.output.object(object)?;
            } else {
                self.output.line(format_args!(
                    "the {transport} server, process {process}, listens on {address}"
                ))?;
            }
        }
        self.output.flush()
    }

    /// All rows.
    pub(super) fn rows(&mut self, rows: &[Row]) -> Result<(), Failure> {
        if self.output.is_json() {
            return rows
                .iter()
                .try_for_each(|row| self.output.object(object(self.plan, row)));
        }
        for kind in Kind::ALL {
            let is_kind = |row: &&Row| row.cell.workload.kind() == kind;
            let rows: Vec<&Row> = rows.iter().filter(is_kind).collect();
            if !rows.is_empty() {
                self.table(kind, &rows)?;
            }
        }
        self.output.line(format_args!("\n{}", method(self.plan)))?;
        self.output.line(format_args!(
            "{CPU}: processor seconds of both processes for a million messages, answers included"
        ))
    }

    fn table(&mut self, kind: Kind, rows: &[&Row]) -> Result<(), Failure> {
        let percentiles = PERCENTILES.map(|name| format!("{name} us"));
        let (title, columns) = match kind {
            Kind::RoundTrip => ("round trip".to_owned(), percentiles.to_vec()),
            Kind::OneWay => (
                "one way".to_owned(),
                vec!["messages/s".to_owned(), "MB/s".to_owned()],
            ),
            Kind::InFlight => (
                format!("{IN_FLIGHT} requests in flight"),
                vec!["requests/s".to_owned()],
            ),
        };
        self.output.line("")?;
        self.line(&title, &columns, CPU)?;
        for row in rows {
            let figures = &row.figures;
            let columns = match kind {
                Kind::RoundTrip => figures
                    .latency_us
                    .iter()
                    .flatten()
                    .map(|us| format!("{us:.1}"))
                    .collect(),
                Kind::OneWay => vec![grouped(figures.rate), grouped(row.mb_per_second())],
                Kind::InFlight => vec![grouped(figures.rate)],
            };
            let cell = row.cell;
            let name = format!("  {}  {:>6}", cell.transport.name(), cell.workload.body());
            let cpu = format!("{:.2}", figures.cpu_seconds_per_million);
            self.line(&name, &columns, &cpu)?;
        }
        Ok(())
    }

    fn line(&mut self, name: &str, columns: &[String], last: impl Display) -> Result<(), Failure> {
        let width = 12 * PERCENTILES.len() / columns.len().max(1);
        let columns = columns.iter().fold(String::new(), |line, column| {
            line + &format!("{column:>width$}")
        });
        self.output
            .line(format_args!("{name:<22}{columns}{last:>16}"))
    }
}

/// How it was measured, in words.
pub(super) fn method(plan: &Plan) -> String {
    let (rounds, seconds) = (plan.rounds, plan.time.as_secs_f64());
    let poll = if plan.does_poll { "" } else { ", no busy poll" };
    format!("medians of {rounds} rounds of {seconds} s{poll}")
}

fn object(plan: &Plan, row: &Row) -> Object {
    let (workload, figures) = (row.cell.workload, &row.figures);
    let object = Object::event("result")
        .with("workload", workload.name())
        .with("transport", row.cell.transport.name())
        .with("body_len", workload.body_len())
        .with("rounds", plan.rounds)
        .with("busy_poll", plan.does_poll);
    let object = match workload.kind() {
        Kind::RoundTrip => {
            let latency = PERCENTILES.iter().zip(figures.latency_us.iter().flatten());
            latency.fold(object, |object, (name, us)| {
                let key = format!("{}_us", name.replace('.', "_"));
                object.with(&key, rounded(*us, 10.0))
            })
        }
        Kind::OneWay => object
            .with("messages_per_second", figures.rate.round())
            .with("mb_per_second", rounded(row.mb_per_second(), 10.0)),
        Kind::InFlight => object
            .with("in_flight", IN_FLIGHT)
            .with("requests_per_second", figures.rate.round()),
    };
    object.with(
        "cpu_seconds_per_million_messages",
        rounded(figures.cpu_seconds_per_million, 1000.0),
    )
}

/// To one part in `parts`.
fn rounded(figure: f64, parts: f64) -> f64 {
    (figure * parts).round() / parts
}

/// A whole number, its digits in groups of three.
pub(super) fn grouped(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_in_groups_of_three() {
        let texts = [0.0, 999.4, 1000.0, 12_345.6, 4_200_000.0].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "12,346", "4,200,000"]);
    }

    #[test]
    fn a_figure_is_rounded_to_its_digits() {
        assert_eq!(rounded(8.0499, 10.0).to_string(), "8");
        assert_eq!(rounded(0.12345, 1000.0).to_string(), "0.123");
    }
}
