//! How a run ended.

use std::{fmt, time::Duration};

use tofu_proto::Status;

use super::{Both, Broken, Plan, trace::Trace};

/// A run in which every promise was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What decided the run.
    pub seed: u64,
    /// Things that happened.
    pub steps: usize,
    /// Simulated time.
    pub elapsed: Duration,
    /// Messages delivered, both ways.
    pub delivered: usize,
    /// Messages that came back unsent.
    pub returned: usize,
    /// Messages that were in the stream, or read but not delivered for want of a message, when it
    /// was reset.
    pub lost: usize,
    /// Times that a receiver had no message to receive into.
    pub starved: usize,
    /// Times that an application had to wait for room in its queue.
    pub queue_full: usize,
    /// Why each side's channel closed. None for a server that nobody connected to.
    pub closed: Both<Option<Status>>,
    /// Whether nothing in the run was meant to break it.
    pub gentle: bool,
}

/// A promise was broken.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What decided the run.
    pub seed: u64,
    /// What was broken.
    pub broken: Broken,
    pub(crate) plan: Plan,
    pub(crate) trace: Trace,
}

/// What was broken, how to see it again, and what happened just before.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.broken)?;
        writeln!(
            f,
            "see all of it: cargo run -p tofu-sim -- --pair --seed {} --trace",
            self.seed
        )?;
        writeln!(f, "{:?}", self.plan)?;
        write!(f, "{}", self.trace)
    }
}

impl std::error::Error for Failure {}
