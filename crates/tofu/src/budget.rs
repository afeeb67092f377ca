//! The engine's bound on bytes that wait to be sent.

use std::{
    mem,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use mio::Token;

use crate::{group::Group, options::FRAME_MAX};

#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    used: AtomicUsize,
    /// Channels that were refused for the engine's sake, to be looked at when there is room.
    refused: Mutex<Vec<(Weak<Group>, Token)>>,
    someone_waits: AtomicBool,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            used: AtomicUsize::new(0),
            refused: Mutex::default(),
            someone_waits: AtomicBool::new(false),
        })
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// Bytes that may still be queued.
    pub(crate) fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.used())
    }

    /// Whether there is enough room to call those that were refused: any message fits, and it is
    /// worth calling them all. Not more, or peers that never read would keep the others waiting.
    pub(crate) fn has_room(&self) -> bool {
        self.room() >= FRAME_MAX.max(self.bytes_max / 8)
    }

    /// Calls `group` to look at the channel once there is room.
    pub(crate) fn call_when_room(&self, group: Weak<Group>, channel: Token) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.push((group, channel));
        self.someone_waits.store(true, Ordering::SeqCst);
        drop(refused);
        // The room may have come in the meantime.
        self.call_refused();
    }

    fn call_refused(&self) {
        if !self.someone_waits.load(Ordering::SeqCst) || !self.has_room() {
            return;
        }
        let called = {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            self.someone_waits.store(false, Ordering::SeqCst);
            mem::take(&mut *refused)
        };
        for (group, channel) in called {
            if let Some(group) = group.upgrade() {
                group.look_at(channel);
            }
        }
    }
}

/// One channel's part of the budget; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, bytes: 0 }
    }

    /// The channel's queue now holds this many bytes.
    pub(crate) fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.budget
                .used
                .fetch_add(bytes - self.bytes, Ordering::SeqCst);
        } else if bytes < self.bytes {
            self.budget
                .used
                .fetch_sub(self.bytes - bytes, Ordering::SeqCst);
            self.budget.call_refused();
        }
        self.bytes = bytes;
    }

    /// The whole part, for someone else to hold.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            budget: Arc::clone(&self.budget),
            bytes: mem::take(&mut self.bytes),
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}
