//! What a run of many messages is summed up to: how many a second, and how long a round trip took.

use std::{
    fmt::{self, Display},
    time::Duration,
};

use hdrhistogram::Histogram;

use crate::{error::Failure, output::Object};

/// Decimal digits of a round trip time that are kept.
const SIGNIFICANT_DIGITS: u8 = 3;
/// The longest round trip time that is kept; a longer one counts as this.
const ROUND_TRIP_MAX_NS: u64 = 3_600_000_000_000;

/// Round trip times.
#[derive(Debug)]
pub(crate) struct RoundTrips(Histogram<u64>);

impl RoundTrips {
    pub(crate) fn new() -> Result<Self, Failure> {
        Histogram::new_with_max(ROUND_TRIP_MAX_NS, SIGNIFICANT_DIGITS)
            .map(Self)
            .map_err(|error| Failure::new("histogram", error))
    }

    pub(crate) fn record(&mut self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record(nanoseconds);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time within which this share of the round trips was over.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(share))
    }
}

/// A run of many messages.
#[derive(Debug)]
pub(crate) struct Summary<'a> {
    /// What was counted: requests or signals.
    pub(crate) unit: &'static str,
    pub(crate) count: u64,
    /// From the first message posted to the last answer.
    pub(crate) time: Duration,
    /// For requests: how many waited for their answers at a time, and how long.
    pub(crate) round_trips: Option<(u64, &'a RoundTrips)>,
}

impl Summary<'_> {
    /// Messages a second.
    #[expect(clippy::cast_precision_loss, reason = "a rate is no count")]
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.time.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    pub(crate) fn object(&self) -> Object {
        let object = Object::event("summary")
            .with(self.unit, self.count)
            .with("seconds", seconds(self.time))
            .with("messages_per_second", self.rate().round());
        let Some((in_flight, round_trips)) = self.round_trips else {
            return object;
        };
        let us = |share| microseconds(round_trips.quantile(share));
        object
            .with("in_flight", in_flight)
            .with("p50_us", us(0.5))
            .with("p90_us", us(0.9))
            .with("p99_us", us(0.99))
            .with("p99_9_us", us(0.999))
    }
}

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} in {} s: {:.0} messages/s",
            self.count,
            self.unit,
            seconds(self.time),
            self.rate()
        )?;
        let Some((in_flight, round_trips)) = self.round_trips else {
            return Ok(());
        };
        let us = |share| microseconds(round_trips.quantile(share));
        write!(
            f,
            ", {in_flight} in flight; round trip p50 {:.1} us, p90 {:.1} us, p99 {:.1} us, p99.9 {:.1} us",
            us(0.5),
            us(0.9),
            us(0.99),
            us(0.999)
        )
    }
}

/// A time in seconds, to the microsecond.
pub(crate) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e6
}

/// A time in microseconds, to one decimal digit.
pub(crate) fn microseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e7).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_recorded_times() {
        let mut round_trips = RoundTrips::new().unwrap();
        for us in 1..=1000 {
            round_trips.record(Duration::from_micros(us));
        }
        let summary = Summary {
            unit: "requests",
            count: round_trips.count(),
            time: Duration::from_millis(500),
            round_trips: Some((1, &round_trips)),
        };
        assert!((summary.rate() - 2000.0).abs() < 1e-6);
        let text = summary.to_string();
        assert!(
            text.starts_with(
                "1000 requests in 0.5 s: 2000 messages/s, 1 in flight; round trip p50 "
            ),
            "{text}"
        );
        let p99 = microseconds(round_trips.quantile(0.99));
        assert!((p99 - 990.0).abs() < 1.5, "{p99}");
    }
}
