//! How a run ended.

use std::{collections::BTreeMap, time::Duration};

/// A run in which every promise was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What decided the run.
    pub seed: u64,
    /// Things that happened.
    pub steps: usize,
    /// Simulated time.
    pub elapsed: Duration,
    /// Messages delivered.
    pub delivered: usize,
    /// Messages that came back unsent.
    pub returned: usize,
    /// Messages that were refused for want of room.
    pub queue_full: usize,
    /// Times that an application heard that the pool is empty.
    pub pool_empty: usize,
    /// Why channels were closed, and how many.
    pub closed: BTreeMap<String, usize>,
    /// Processes that were killed.
    pub crashes: usize,
    /// Times that a process was stopped.
    pub stops: usize,
    /// Whether nothing in the run was meant to break a conversation.
    pub gentle: bool,
}
