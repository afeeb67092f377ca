//! The keeper's rest: until when it leaves a group alone, and what cuts that short.
//!
//! Nobody calls the keeper for what it will see in time by itself: it says when it looks at a group next.
//! Each does one thing first, and then reads what the others did:
//!
//! ```text
//!              first                      and then
//!   a poster   notes what it gathered     somebody in the seat?   nudges it
//!                                         else, a look too late?  calls the keeper
//!   a driver   leaves the seat            a look too late for its next timer, or a nudge?
//!                                                                 calls the keeper
//!                                         nobody will be back, and the sockets are not watched?
//!                                                                 calls the keeper
//!   the keeper says when it looks next,   anything gathered?      looks sooner
//!              and whether it watches     the seat empty?         looks when the timer is due, or at
//!                                                                 once if nobody will be back
//! ```
//!
//! Of any two that meet, at least one sees what the other has done: what is gathered has a lock, which each
//! takes between the two, and where that is not at stake there is a fence. So what was gathered is looked at
//! within [`GATHERED_WAIT_MAX`], a timer when it is due, and what comes for a task when it comes, whoever
//! comes and goes meanwhile.
//!
//! How soon the keeper gets to run is not its own doing; times are those at which it wants to.

use std::{mem, time::Duration};

use mio::Token;
use tofu_proto::Instant;

use crate::{
    reactor::seat::{Driver, Seat},
    sync::{AtomicBool, AtomicU64, Mutex, Ordering, fence, lock},
};

/// When what has no time is due.
pub(crate) const NEVER: Instant = Instant::from_nanos(u64::MAX);
/// How long gathered frames wait for a driver at most.
pub(crate) const GATHERED_WAIT_MAX: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(crate) struct Rest {
    /// When the keeper will look by itself, in nanoseconds of the engine's clock.
    looks_at: AtomicU64,
    /// Whether the group's sockets call the keeper.
    is_watched: AtomicBool,
    /// Channels on which frames wait for others to leave with.
    gathered: Mutex<Vec<Token>>,
    gatherings: AtomicU64,
    caller_turns: AtomicU64,
}

/// What a poster has to do for what it gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Gathered {
    /// Nothing: the keeper looks soon.
    Awaited,
    /// Nudge the seat, for somebody sits there.
    NudgeSeat,
    /// Have the keeper look soon.
    CallKeeper,
}

impl Rest {
    pub(crate) fn new() -> Self {
        Self {
            looks_at: AtomicU64::new(NEVER.as_nanos()),
            is_watched: AtomicBool::new(false),
            gathered: Mutex::default(),
            gatherings: AtomicU64::new(0),
            caller_turns: AtomicU64::new(0),
        }
    }

    /// Frames began to wait on this channel.
    pub(crate) fn gather<R>(&self, seat: &Seat<R>, channel: Token, now: Instant) -> Gathered {
        lock(&self.gathered).push(channel);
        self.gatherings.fetch_add(1, Ordering::Relaxed);
        if !seat.is_empty() {
            Gathered::NudgeSeat
        } else if self.is_too_long_for(now + GATHERED_WAIT_MAX) {
            Gathered::CallKeeper
        } else {
            Gathered::Awaited
        }
    }

    /// A driver is about to look at all that was gathered.
    pub(crate) fn take_gathered(&self) -> Vec<Token> {
        mem::take(&mut *lock(&self.gathered))
    }

    pub(crate) fn has_gathered(&self) -> bool {
        !lock(&self.gathered).is_empty()
    }

    /// How often frames began to wait.
    pub(crate) fn gatherings(&self) -> u64 {
        self.gatherings.load(Ordering::Relaxed)
    }

    /// A caller is about to take the seat.
    pub(crate) fn note_caller(&self) {
        self.caller_turns.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a caller took the seat: tells the keeper whether somebody drives.
    pub(crate) fn caller_turns(&self) -> u64 {
        self.caller_turns.load(Ordering::Relaxed)
    }

    /// Leaves the seat. `true` says that the keeper is to be called: it would look too late for what is
    /// `due`, or something was left that this driver has not looked at, or the group `is_left_to_keeper`,
    /// which does not watch it.
    #[must_use]
    pub(crate) fn leave<R>(
        &self,
        driver: Driver<'_, R>,
        due: Instant,
        is_left_to_keeper: bool,
    ) -> bool {
        let nudged = driver.leave();
        fence(Ordering::SeqCst);
        nudged || self.is_too_long_for(due) || (is_left_to_keeper && !self.is_watched())
    }

    /// Whether the group's sockets call the keeper. To be followed by [`until`](Self::until).
    pub(super) fn watched(&self, is_watched: bool) {
        self.is_watched.store(is_watched, Ordering::Relaxed);
    }

    /// The keeper will look at this time, and not before unless it is called. It has yet to look at what
    /// was left by those who counted on an earlier time.
    pub(super) fn until(&self, time: Option<Instant>) {
        let time = time.unwrap_or(NEVER);
        self.looks_at.store(time.as_nanos(), Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(super) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    pub(super) fn is_too_long_for(&self, due: Instant) -> bool {
        due.as_nanos() < self.looks_at.load(Ordering::Relaxed)
    }
}
