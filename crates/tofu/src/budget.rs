//! The engine's bound on bytes that wait to be sent, and the line of channels that were refused for its sake.
//!
//! Two rules make it impossible to lose a call, as in the pool's line:
//!
//! - Whoever finds too little room gets in line *first*, and then looks once more.
//! - Whoever gives bytes back gives them back *first*, and then calls.
//!
//! There is no lock around the count of bytes, so that last look is made by changing the count, by nothing:
//! changes have one order, and each knows of those before it. If that look came first, whoever gives back later
//! sees that someone waits; if it came last, it has seen the room. A look that only reads would do for neither.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
};

use mio::Token;

use crate::{
    channels::GroupId,
    sync::{AtomicBool, AtomicUsize, Mutex, Ordering, lock},
};

/// Bytes in which a channel takes its part, and gives it back.
const STEP: usize = 4 * 1024;

/// Who can have a channel for which there was no room.
pub(crate) trait Looks: fmt::Debug + Send + Sync {
    /// There is room: this channel is to be looked at.
    fn look_at(&self, channel: Token);
}

#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    used: AtomicUsize,
    /// Channels that were refused for the engine's sake, to be looked at when there is room.
    refused: Mutex<HashMap<(GroupId, Token), Refused>>,
    /// Whether there are any. Changes with them locked.
    someone_waits: AtomicBool,
}

#[derive(Debug)]
struct Refused {
    group: Weak<dyn Looks>,
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
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that may still be queued.
    pub(crate) fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.used())
    }

    /// Calls the channel's group to look at it once there is room for as many bytes as were missing:
    /// not for more, or peers that never read would keep the others waiting.
    pub(crate) fn call_when_room<G: Looks + 'static>(
        &self,
        (id, group): (GroupId, &Arc<G>),
        channel: Token,
        bytes: usize,
    ) {
        self.line_up((id, group), channel, bytes);
        // The room may have come in the meantime.
        if bytes <= self.room_by_now() {
            self.call_refused();
        }
    }

    fn line_up<G: Looks + 'static>(
        &self,
        (id, group): (GroupId, &Arc<G>),
        channel: Token,
        bytes: usize,
    ) {
        let group: Weak<dyn Looks> = Arc::<G>::downgrade(group);
        let mut refused = lock(&self.refused);
        refused.insert((id, channel), Refused { group, bytes });
        self.someone_waits.store(true, Ordering::Relaxed);
    }

    /// Bytes that may still be queued: whoever gives some back later knows all that this thread has done.
    fn room_by_now(&self) -> usize {
        let used = self.used.fetch_add(0, Ordering::AcqRel);
        self.bytes_max.saturating_sub(used)
    }

    /// Calls nobody to this channel any more: it is closed.
    pub(crate) fn forget(&self, group: GroupId, channel: Token) {
        // A driver of the group has put it in line: it cannot be overlooked here.
        if !self.is_awaited() {
            return;
        }
        let mut refused = lock(&self.refused);
        refused.remove(&(group, channel));
        self.someone_waits
            .store(!refused.is_empty(), Ordering::Relaxed);
    }

    /// Whether a channel waits for room.
    pub(crate) fn is_awaited(&self) -> bool {
        self.someone_waits.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
        self.call_refused();
    }

    fn call_refused(&self) {
        if !self.is_awaited() {
            return;
        }
        let room = self.room();
        let called = {
            let mut refused = lock(&self.refused);
            let called = refused.extract_if(|_, refused| refused.bytes <= room);
            let mut called: Vec<_> = called.collect();
            // The oldest first, and not in an order that nobody knows.
            called.sort_unstable_by_key(|(who, _)| *who);
            self.someone_waits
                .store(!refused.is_empty(), Ordering::Relaxed);
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
        let before = self.bytes;
        if queued > before {
            // The rest of the step only as far as there is room for it.
            let rest = queued.next_multiple_of(STEP) - queued;
            let room = self.budget.room();
            self.bytes = queued + rest.min(room.saturating_sub(queued - before));
            self.budget.take(self.bytes - before);
        } else {
            self.bytes = queued.next_multiple_of(STEP);
            self.budget.give_back(before - self.bytes);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.take(0);
    }
}

#[cfg(test)]
#[cfg(loom)]
mod models {
    use loom::thread;

    use super::*;
    use crate::sync::models::{Bell, Kept, model_bounded};

    const CHANNEL: Token = Token(1);

    /// A group with one channel, as far as the budget knows it.
    #[derive(Debug, Default)]
    struct Group {
        /// What its driver sleeps in.
        poller: Bell,
    }

    impl Looks for Group {
        fn look_at(&self, _: Token) {
            self.poller.ring();
        }
    }

    /// How a channel that was refused waits, and how bytes are given back.
    #[derive(Clone, Copy)]
    struct Ways {
        wait: fn(&Budget, &Arc<Group>, GroupId, usize),
        give_back: fn(&Budget, usize),
    }

    const RIGHT: Ways = Ways {
        wait: |budget, group, id, bytes| budget.call_when_room((id, group), CHANNEL, bytes),
        give_back: Budget::give_back,
    };

    /// As a channel that was refused: sleeps until the budget has this many bytes, and takes them.
    fn queue(budget: &Arc<Budget>, id: GroupId, bytes: usize, ways: Ways) -> Kept<Charge> {
        let group = Arc::new(Group::default());
        let mut charge = Kept::new(Charge::new(Arc::clone(budget)));
        while charge.reach(bytes) < bytes {
            (ways.wait)(budget, &group, id, bytes);
            group.poller.wait();
        }
        charge.set(bytes);
        budget.forget(id, CHANNEL);
        charge
    }

    /// A channel waits for room while another thread gives it back, in so many pieces.
    fn one_waits_for_room(pieces: usize, ways: Ways) {
        const BYTES: usize = 8;
        let budget = Budget::new(BYTES);
        budget.take(BYTES);
        let giving = {
            let budget = Arc::clone(&budget);
            thread::spawn(move || {
                for _ in 0..pieces {
                    (ways.give_back)(&budget, BYTES / pieces);
                }
            })
        };
        let charge = queue(&budget, 0, BYTES, ways);
        giving.join().unwrap();
        assert_eq!(budget.used(), BYTES);
        drop(charge.into_inner());
        assert_eq!(budget.used(), 0);
        assert!(!budget.is_awaited());
    }

    #[test]
    fn room_that_comes_while_a_channel_is_refused_is_found_or_called() {
        loom::model(|| one_waits_for_room(1, RIGHT));
        loom::model(|| one_waits_for_room(2, RIGHT));
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn without_the_second_look_room_is_lost() {
        let wait = |budget: &Budget, group: &Arc<Group>, id, bytes| {
            budget.line_up((id, group), CHANNEL, bytes);
        };
        loom::model(move || one_waits_for_room(1, Ways { wait, ..RIGHT }));
    }

    /// As [`Budget::call_when_room`], but the second look does not take its place among the changes.
    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_second_look_that_only_reads_misses_room() {
        let wait = |budget: &Budget, group: &Arc<Group>, id, bytes| {
            budget.line_up((id, group), CHANNEL, bytes);
            if bytes <= budget.room() {
                budget.call_refused();
            }
        };
        loom::model(move || one_waits_for_room(1, Ways { wait, ..RIGHT }));
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn who_calls_before_it_gives_back_calls_nobody() {
        let give_back = |budget: &Budget, bytes| {
            budget.call_refused();
            budget.used.fetch_sub(bytes, Ordering::AcqRel);
        };
        loom::model(move || one_waits_for_room(1, Ways { give_back, ..RIGHT }));
    }

    /// Two threads give back half of what a channel waits for: the one that comes last calls it.
    #[test]
    fn room_that_comes_from_two_sides_is_found_or_called() {
        model_bounded(3, || {
            let budget = Budget::new(8);
            budget.take(8);
            let giving: Vec<_> = (0..2)
                .map(|_| {
                    let budget = Arc::clone(&budget);
                    thread::spawn(move || budget.give_back(4))
                })
                .collect();
            drop(queue(&budget, 0, 8, RIGHT).into_inner());
            for giving in giving {
                giving.join().unwrap();
            }
            assert_eq!(budget.used(), 0);
        });
    }

    /// Two channels wait for room that comes at once: what the first leaves, or gives back, the other gets.
    fn two_wait_for_room(bytes: usize) {
        let budget = Budget::new(8);
        budget.take(8);
        let waiting = {
            let budget = Arc::clone(&budget);
            thread::spawn(move || drop(queue(&budget, 1, bytes, RIGHT).into_inner()))
        };
        let giving = {
            let budget = Arc::clone(&budget);
            thread::spawn(move || budget.give_back(8))
        };
        drop(queue(&budget, 0, bytes, RIGHT).into_inner());
        waiting.join().unwrap();
        giving.join().unwrap();
        assert_eq!(budget.used(), 0);
        assert!(!budget.is_awaited());
    }

    #[test]
    fn two_channels_that_wait_for_room_both_get_it() {
        model_bounded(2, || two_wait_for_room(4));
    }

    /// A channel closes while room comes: the other one is called all the same.
    #[test]
    fn a_channel_that_closes_in_line_takes_no_call_with_it() {
        model_bounded(3, || {
            let budget = Budget::new(8);
            budget.take(8);
            let group = Arc::new(Group::default());
            budget.call_when_room((1, &group), CHANNEL, 8);
            let closing = {
                let budget = Arc::clone(&budget);
                thread::spawn(move || budget.forget(1, CHANNEL))
            };
            let giving = {
                let budget = Arc::clone(&budget);
                thread::spawn(move || budget.give_back(8))
            };
            drop(queue(&budget, 0, 8, RIGHT).into_inner());
            closing.join().unwrap();
            giving.join().unwrap();
            assert!(!budget.is_awaited());
        });
    }
}
