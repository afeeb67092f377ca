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
    /// The command that shows it again, if it is known.
    pub replay: Option<String>,
    /// What can go wrong in the run.
    pub faults: Faults,
    pub(crate) trace: Trace,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} breaks {}", self.seed, self.broken)?;
        if let Some(replay) = &self.replay {
            writeln!(f, "see it again: {replay}")?;
        }
        writeln!(f, "{:?}", self.faults)?;
        write!(f, "{}", self.trace)
    }
}

impl std::error::Error for Failure {}
