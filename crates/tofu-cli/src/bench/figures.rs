//! From what was counted to the figures of a row: rates, percentiles, medians.

use std::time::Duration;

use super::plan::{Cell, Kind};
use crate::summary::RoundTrips;

/// Which percentiles are told, by name.
pub(super) const PERCENTILES: [&str; 4] = ["p50", "p90", "p99", "p99.9"];
const SHARES: [f64; PERCENTILES.len()] = [0.5, 0.9, 0.99, 0.999];

/// What one measurement has counted.
#[derive(Debug)]
pub(super) struct Measured {
    /// Round trips, signals or requests.
    pub(super) count: u64,
    pub(super) time: Duration,
    /// Of both processes.
    pub(super) cpu: Duration,
    /// How long each took, if it was measured one by one.
    pub(super) round_trips: Option<RoundTrips>,
}

/// The figures of one measurement, or the medians of several.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figures {
    /// Of what is counted, how many a second.
    pub(super) rate: f64,
    /// Processor seconds of both processes for a million messages; an answer is a message, too.
    pub(super) cpu_seconds_per_million: f64,
    /// The [`PERCENTILES`] in microseconds.
    pub(super) latency_us: Option<[f64; PERCENTILES.len()]>,
}

impl Figures {
    #[expect(clippy::cast_precision_loss, reason = "a rate is no count")]
    pub(super) fn new(kind: Kind, measured: &Measured) -> Self {
        // A time of zero is a clock's fault; infinity would be ours.
        let seconds = measured.time.as_secs_f64().max(f64::MIN_POSITIVE);
        let messages = (measured.count * kind.messages()).max(1);
        Self {
            rate: measured.count as f64 / seconds,
            cpu_seconds_per_million: measured.cpu.as_secs_f64() * 1e6 / messages as f64,
            latency_us: measured
                .round_trips
                .as_ref()
                .map(|times| SHARES.map(|share| times.quantile(share).as_secs_f64() * 1e6)),
        }
    }

    /// The median of each figure by itself.
    pub(super) fn medians(rounds: &[Self]) -> Self {
        let of = |figure: &dyn Fn(&Self) -> f64| median(rounds.iter().map(figure).collect());
        let has_latency = rounds.iter().all(|figures| figures.latency_us.is_some());
        let latency = |position: usize| {
            of(&|figures| figures.latency_us.map_or(0.0, |latency| latency[position]))
        };
        Self {
            rate: of(&|figures| figures.rate),
            cpu_seconds_per_million: of(&|figures| figures.cpu_seconds_per_million),
            latency_us: has_latency.then(|| std::array::from_fn(latency)),
        }
    }
}

/// A row of the result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) cell: Cell,
    pub(super) figures: Figures,
}

impl Row {
    /// Bytes of bodies a second, in millions.
    pub(super) fn mb_per_second(&self) -> f64 {
        self.figures.rate * f64::from(self.cell.workload.body_len()) / 1e6
    }
}

/// The one in the middle, or the mean of the two in the middle.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match (figures.get(middle), figures.len() % 2) {
        (None, _) => 0.0,
        (Some(&figure), 1) => figure,
        (Some(&upper), _) => f64::midpoint(figures[middle - 1], upper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::{Transport, Workload};

    #[track_caller]
    fn expect_near(figure: f64, wanted: f64) {
        assert!(
            (figure - wanted).abs() <= wanted * 1e-3,
            "{figure} is not {wanted}"
        );
    }

    fn count(count: u64, time_ms: u64, cpu_ms: u64) -> Measured {
        Measured {
            count,
            time: Duration::from_millis(time_ms),
            cpu: Duration::from_millis(cpu_ms),
            round_trips: None,
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        expect_near(median(vec![9.0, 1.0, 2.0]), 2.0);
        expect_near(median(vec![4.0, 1.0, 2.0, 100.0]), 3.0);
        expect_near(median(vec![7.0]), 7.0);
        expect_near(median(Vec::new()), 0.0);
    }

    #[test]
    fn a_rate_counts_what_is_counted_and_the_cost_counts_messages() {
        let one_way = Figures::new(Kind::OneWay, &count(500_000, 250, 400));
        expect_near(one_way.rate, 2_000_000.0);
        expect_near(one_way.cpu_seconds_per_million, 0.8);
        let requests = Figures::new(Kind::InFlight, &count(500_000, 250, 400));
        expect_near(requests.rate, 2_000_000.0);
        expect_near(requests.cpu_seconds_per_million, 0.4);
        assert_eq!(requests.latency_us, None);
    }

    #[test]
    fn nothing_counted_is_nothing_infinite() {
        let figures = Figures::new(Kind::OneWay, &count(0, 0, 0));
        expect_near(figures.rate, 0.0);
        expect_near(figures.cpu_seconds_per_million, 0.0);
    }

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut times = RoundTrips::new().unwrap();
        for us in 1..=1000 {
            times.record(Duration::from_micros(us));
        }
        let measured = Measured {
            round_trips: Some(times),
            ..count(1000, 500, 500)
        };
        let latency = Figures::new(Kind::RoundTrip, &measured).latency_us.unwrap();
        for (us, wanted) in latency.into_iter().zip([500.0, 900.0, 990.0, 999.0]) {
            expect_near(us, wanted);
        }
    }

    #[test]
    fn each_figure_has_a_median_of_its_own() {
        let round = |rate, cpu_seconds_per_million, us| Figures {
            rate,
            cpu_seconds_per_million,
            latency_us: Some([us, us * 2.0, us * 3.0, us * 4.0]),
        };
        let rounds = [
            round(1.0, 30.0, 5.0),
            round(3.0, 10.0, 7.0),
            round(2.0, 20.0, 6.0),
        ];
        assert_eq!(Figures::medians(&rounds), round(2.0, 20.0, 6.0));
    }

    #[test]
    fn a_megabyte_is_a_million_bytes_of_bodies() {
        let row = Row {
            cell: Cell {
                workload: Workload::OneWay1Kib,
                transport: Transport::Tcp,
            },
            figures: Figures::new(Kind::OneWay, &count(1_000_000, 1000, 0)),
        };
        expect_near(row.mb_per_second(), 1024.0);
    }
}
