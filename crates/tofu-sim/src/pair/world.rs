//! What both peers live in: time, chance, the stream between them, and who watches.

use std::sync::Arc;

use tofu_proto::{Instant, MessageId, Timeouts};

use super::{
    Plan, Random,
    checker::Checker,
    link::Link,
    trace::{Event, Trace},
};

/// What both peers live in.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) random: Random,
    pub(crate) link: Link,
    pub(crate) checker: Checker,
    pub(crate) trace: Trace,
    pub(crate) timeouts: Arc<Timeouts>,
    pub(crate) grain: usize,
    pub(crate) queue_max: usize,
    next_id: u64,
}

impl World {
    pub(crate) fn new(plan: &Plan, random: Random, trace: Trace) -> Self {
        Self {
            now: Instant::ORIGIN,
            random,
            link: Link::new(plan.buffer_max, plan.reset_keeps_unread),
            checker: Checker::new(plan.timeouts),
            trace,
            timeouts: Arc::new(plan.timeouts),
            grain: plan.grain,
            queue_max: plan.queue_max,
            next_id: 0,
        }
    }

    pub(crate) fn note(&mut self, event: Event) {
        self.trace.note(self.now, event);
    }

    /// How many bytes the next move moves at most.
    pub(crate) fn portion(&mut self) -> usize {
        self.random.between(1, self.grain)
    }

    /// The next id of the engines' sequence.
    pub(crate) fn next_id(&mut self) -> MessageId {
        self.next_id += 1;
        MessageId::new(self.next_id)
    }
}
