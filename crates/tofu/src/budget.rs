//! The engine's bound on bytes that wait to be sent.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use mio::Token;

use crate::{channels::GroupId, group::Group};

/// Bytes in which a channel takes its part, and gives it back.
const STEP: usize = 4 * 1024;

#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    used: AtomicUsize,
    /// Channels that were refused for the engine's sake, to be looked at when there is room.
    refused: Mutex<HashMap<(GroupId, Token), Refused>>,
    someone_waits: AtomicBool,
}

#[derive(Debug)]
struct Refused {
    group: Weak<Group>,
    bytes: usize,
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

    /// Calls `group` to look at the channel once there is room for as many bytes as were missing:
    /// not for more, or peers that never read would keep the others waiting.
    pub(crate) fn call_when_room(&self, group: &Arc<Group>, channel: Token, bytes: usize) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = Refused {
            group: Arc::downgrade(group),
            bytes,
        };
        refused.insert((group.id, channel), entry);
        self.someone_waits.store(true, Ordering::SeqCst);
        drop(refused);
        // The room may have come in the meantime.
        if bytes <= self.room() {
            self.call_refused();
        }
    }

    /// Calls nobody to this channel any more: it is closed.
    pub(crate) fn forget(&self, group: GroupId, channel: Token) {
        if !self.is_awaited() {
            return;
        }
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.remove(&(group, channel));
        self.someone_waits
            .store(!refused.is_empty(), Ordering::SeqCst);
    }

    /// Whether a channel waits for room.
    pub(crate) fn is_awaited(&self) -> bool {
        self.someone_waits.load(Ordering::SeqCst)
    }

    fn call_refused(&self) {
        if !self.is_awaited() {
            return;
        }
        let room = self.room();
        let called: Vec<_> = {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            let called = refused.extract_if(|_, refused| refused.bytes <= room);
            let called = called.collect();
            self.someone_waits
                .store(!refused.is_empty(), Ordering::SeqCst);
            called
        };
        for ((_, channel), refused) in called {
            if let Some(group) = refused.group.upgrade() {
                group.look_at(channel);
            }
        }
    }
}

/// One channel's part of the budget; dropping it gives it back.
///
/// It is taken in steps, so that most messages that are queued touch nothing that other channels touch.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    /// Bytes taken: at least as many as are queued, and less than a step more.
    bytes: usize,
}

impl Charge {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, bytes: 0 }
    }

    /// How many bytes the channel's queue may hold, asked for it to hold `wanted`.
    #[inline]
    pub(crate) fn reach(&self, wanted: usize) -> usize {
        if wanted <= self.bytes {
            return self.bytes;
        }
        self.bytes.saturating_add(self.budget.room())
    }

    /// How many bytes the budget must have for the channel's queue to hold `wanted`.
    pub(crate) fn missing(&self, wanted: usize) -> usize {
        wanted.saturating_sub(self.bytes)
    }

    /// The channel's queue now holds this many bytes.
    #[inline]
    pub(crate) fn set(&mut self, queued: usize) {
        if queued > self.bytes || queued.next_multiple_of(STEP) < self.bytes {
            self.take(queued);
        }
    }

    fn take(&mut self, queued: usize) {
        if queued > self.bytes {
            // The rest of the step only as far as there is room for it.
            let rest = queued.next_multiple_of(STEP) - queued;
            let room = self.budget.room();
            let bytes = queued + rest.min(room.saturating_sub(queued - self.bytes));
            self.budget
                .used
                .fetch_add(bytes - self.bytes, Ordering::SeqCst);
            self.bytes = bytes;
        } else {
            let bytes = queued.next_multiple_of(STEP);
            self.budget
                .used
                .fetch_sub(self.bytes - bytes, Ordering::SeqCst);
            self.bytes = bytes;
            self.budget.call_refused();
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.take(0);
    }
}
