//! A pool of messages that can run empty, and knows when one has not come back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tofu_proto::{Blank, Home, Message};

/// How many messages are out, of how many there are.
#[derive(Debug)]
pub(crate) struct Pool {
    out: AtomicUsize,
    max: usize,
}

impl Pool {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            out: AtomicUsize::new(0),
            max,
        })
    }

    /// A message, if one is left beside the `reserved` ones.
    pub(crate) fn take(self: &Arc<Self>, reserved: usize) -> Option<Message> {
        if self.is_empty(reserved) {
            return None;
        }
        self.out.fetch_add(1, Ordering::Relaxed);
        Some(Message::from_home(Blank::default(), Arc::clone(self) as _))
    }

    pub(crate) fn is_empty(&self, reserved: usize) -> bool {
        self.out() + reserved >= self.max
    }

    /// Messages that have not come back.
    pub(crate) fn out(&self) -> usize {
        self.out.load(Ordering::Relaxed)
    }
}

impl Home for Pool {
    fn take_back(&self, _memory: Blank) {
        let out = self.out.fetch_sub(1, Ordering::Relaxed);
        assert!(out > 0, "a message came back twice");
    }
}
