//! What is sampled, and what it takes to be flat.

use serde_json::json;
use tofu_trials::{Fallible, procfs::Usage};

/// What the server's engine says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Levels {
    pub(crate) channels_open: u64,
    pub(crate) half_open: u64,
    pub(crate) pool_out: u64,
    pub(crate) queued_bytes: u64,
    pub(crate) accepted: u64,
    pub(crate) messages: u64,
}

impl Levels {
    pub(crate) fn told(self) -> String {
        format!(
            "{} {} {} {} {} {}",
            self.channels_open,
            self.half_open,
            self.pool_out,
            self.queued_bytes,
            self.accepted,
            self.messages
        )
    }

    pub(crate) fn parse(line: &str) -> Fallible<Self> {
        let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [
            channels_open,
            half_open,
            pool_out,
            queued_bytes,
            accepted,
            messages,
        ] = numbers[..]
        else {
            return Err(format!("not six numbers: {line}").into());
        };
        Ok(Self {
            channels_open,
            half_open,
            pool_out,
            queued_bytes,
            accepted,
            messages,
        })
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latency {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) second: u64,
    pub(crate) usage: Usage,
    pub(crate) levels: Levels,
    pub(crate) latency: Latency,
    pub(crate) crashes: u64,
}

impl Sample {
    pub(crate) fn json(&self) -> serde_json::Value {
        json!({
            "second": self.second,
            "rss_kib": self.usage.rss_kib,
            "descriptors": self.usage.descriptors,
            "threads": self.usage.threads,
            "cpu_ticks": self.usage.cpu_ticks,
            "channels_open": self.levels.channels_open,
            "half_open": self.levels.half_open,
            "pool_out": self.levels.pool_out,
            "queued_bytes": self.levels.queued_bytes,
            "accepted": self.levels.accepted,
            "messages": self.levels.messages,
            "p50_us": self.latency.p50_us,
            "p99_us": self.latency.p99_us,
            "crashes": self.crashes,
        })
    }
}

type Figure = fn(&Sample) -> f64;

/// What is watched: its name, how to read it, and by which factor and by how much more its median of the
/// last third may exceed that of the first.
const WATCHED: [(&str, Figure, f64, f64); 4] = [
    ("RSS in KiB", |s| s.usage.rss_kib as f64, 1.05, 1_024.0),
    ("descriptors", |s| s.usage.descriptors as f64, 1.1, 8.0),
    ("threads", |s| s.usage.threads as f64, 1.0, 0.0),
    ("p50 in us", |s| s.latency.p50_us, 1.5, 50.0),
];

/// Flat is: after a tenth of the time to warm up, the median of the last third of the samples is not above
/// that of the first third by more than 5 % and 1 MiB of memory, 10 % and 8 descriptors, no thread, and half
/// the latency and 50 us.
pub(crate) fn judge(samples: &[Sample]) -> Fallible<String> {
    let warm = samples.get(samples.len() / 10..).unwrap_or_default();
    let third = warm.len() / 3;
    if third == 0 {
        return Err("too few samples".into());
    }
    let mut told = Vec::new();
    let mut grown = false;
    for (name, figure, factor, more) in WATCHED {
        let before = median(&warm[..third], figure);
        let after = median(&warm[warm.len() - third..], figure);
        let is_flat = after <= before * factor + more;
        grown |= !is_flat;
        let verdict = if is_flat { "" } else { " **(grows)**" };
        told.push(format!("{name} {before:.0} to {after:.0}{verdict}"));
    }
    let told = told.join(", ");
    if grown { Err(told.into()) } else { Ok(told) }
}

fn median(samples: &[Sample], figure: Figure) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples of which each is this much more than the one before.
    fn samples(rss_kib: u64, threads: usize) -> Vec<Sample> {
        let sample = |second: u64| Sample {
            second,
            usage: Usage {
                rss_kib: 16_000 + second * rss_kib,
                descriptors: 100,
                threads: 4 + usize::try_from(second).unwrap_or_default() * threads,
                ..Usage::default()
            },
            levels: Levels::default(),
            latency: Latency::default(),
            crashes: 0,
        };
        (0..300).map(sample).collect()
    }

    #[test]
    fn what_grows_is_not_flat() {
        assert!(judge(&samples(0, 0)).is_ok());
        assert!(judge(&samples(5, 0)).is_ok());
        for grown in [samples(20, 0), samples(0, 1), Vec::new()] {
            assert!(judge(&grown).is_err());
        }
        let mut unknown = samples(0, 0);
        for sample in &mut unknown {
            sample.latency.p50_us = f64::NAN;
        }
        assert!(judge(&unknown).is_err());
    }
}
