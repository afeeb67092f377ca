//! What is shown when a promise was broken.

use std::fmt;

use crate::{Broken, Faults, trace::Trace};

/// A promise was broken: which, how to see it again, and what happened just before.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What decided the run.
    pub seed: u64,
    /// What was broken.
    pub broken: Broken,
    /// What shows it again, if it is known: the command of a [`Scenario`](crate::Scenario), or how to make the
    /// [`World`](crate::World) of a run of your own.
    pub replay: Option<String>,
    /// What can go wrong in the run. Crashes and stops are not among it if no process may meet with them.
    pub faults: Faults,
    pub(crate) crashes: usize,
    pub(crate) stops: usize,
    pub(crate) trace: Trace,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} breaks {}", self.seed, self.broken)?;
        if let Some(replay) = &self.replay {
            writeln!(f, "see it again: {replay}")?;
        }
        writeln!(f, "{:?}", self.faults)?;
        if self.crashes + self.stops > 0 {
            let (crashes, stops) = (self.crashes, self.stops);
            writeln!(f, "until then: {crashes} killed, {stops} stopped")?;
        }
        write!(f, "{}", self.trace)
    }
}

impl std::error::Error for Failure {}
