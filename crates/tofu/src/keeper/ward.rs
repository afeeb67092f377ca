//! A group in the keeper's care: whether to watch it, to stand back, or to drive.

use std::{io, mem, sync::Arc, task::Waker, time::Duration};

use tofu_proto::Instant;

use super::rest::{GATHERED_WAIT_MAX, Rest};
use crate::{
    net::Registry,
    reactor::seat::{Driver, Seat},
};

/// How long the keeper stands back at first, and at most.
pub(crate) const BACK_MIN: Duration = Duration::from_millis(2);
pub(crate) const BACK_MAX: Duration = Duration::from_millis(64);
/// Looks at one group, of which each but the last was nudged, before others are seen to.
pub(super) const LOOKS_MAX: usize = 8;

/// A group, as the keeper knows it.
pub(crate) trait Cared {
    /// What its driver drives.
    type Reactor;

    fn seat(&self) -> &Seat<Self::Reactor>;
    fn rest(&self) -> &Rest;
    fn now(&self) -> Instant;

    /// Whether no caller will be back: it closes, or a task waits.
    fn is_left_to_keeper(&self, reactor: &Self::Reactor) -> bool;

    /// Drives it: for a caller who is near, only as far as there is no need to ask the poller.
    fn drive(
        self: &Arc<Self>,
        driver: &mut Driver<'_, Self::Reactor>,
        caller_is_near: bool,
    ) -> Driven;

    /// When its next timer is due.
    fn next_deadline(reactor: &Self::Reactor) -> Option<Instant>;

    /// Nothing gathers there any more: it has no use for memory that it keeps for that.
    fn give_up_memory(&self);

    /// Has the keeper's poller tell what its own does, or not for now, or not any more.
    fn nest(&self, keeper: &Registry) -> io::Result<()>;
    fn mute(&self, keeper: &Registry);
    fn take_out(&self, keeper: &Registry);
}

/// What is to be done after driving.
#[derive(Debug)]
pub(crate) struct Driven {
    /// When to drive again, if nothing happens.
    pub(crate) due: Option<Instant>,
    /// The task to wake.
    pub(crate) task: Option<Waker>,
    /// Whether the group is finished for good.
    pub(crate) is_finished: bool,
}

/// What came of a look at a group.
#[derive(Debug)]
enum Look {
    Enough,
    /// Something was left in the seat that nobody else will see, and that does not wait for the poller.
    WasNudged,
    Finished,
}

pub(super) struct Ward<G> {
    pub(super) group: Arc<G>,
    pub(super) care: Care,
    turns_seen: u64,
    gatherings_seen: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Care {
    /// Its poller is nested in the keeper's; a timer of it may be due.
    Watching { due: Option<Instant> },
    /// A caller drives. How long the keeper stands back this time, and when it looks again.
    StandingBack { back: Duration, look_at: Instant },
}

impl<G: Cared> Ward<G> {
    /// Takes a group into the keeper's care, and watches it.
    pub(super) fn new(group: Arc<G>, registry: &Registry) -> Self {
        let mut ward = Self {
            turns_seen: 0,
            gatherings_seen: 0,
            care: Care::StandingBack {
                back: BACK_MIN,
                look_at: Instant::ORIGIN,
            },
            group,
        };
        ward.watch(registry, None);
        ward
    }

    /// When the keeper wants to look.
    pub(super) fn looks_at(&self) -> Option<Instant> {
        match self.care {
            Care::Watching { due } => due,
            Care::StandingBack { look_at, .. } => Some(look_at),
        }
    }

    /// Sees to the group if nobody else does. `true` says that it is finished for good.
    pub(super) fn visit(&mut self, mut called: bool, registry: &Registry) -> bool {
        for _ in 0..LOOKS_MAX {
            match self.look(called, registry) {
                Look::Enough => return false,
                Look::WasNudged => called = true,
                Look::Finished => return true,
            }
        }
        // Others are to be seen to as well.
        self.look_by(Some(Instant::ORIGIN));
        false
    }

    fn look(&mut self, called: bool, registry: &Registry) -> Look {
        let group = Arc::clone(&self.group);
        let rest = group.rest();
        let turns = rest.caller_turns();
        let caller_was_here = mem::replace(&mut self.turns_seen, turns) != turns;
        let gatherings = rest.gatherings();
        let gathers = mem::replace(&mut self.gatherings_seen, gatherings) != gatherings;
        let gathered = rest.has_gathered();
        if !gathers && !gathered {
            group.give_up_memory();
        }
        if caller_was_here && !called && !gathered {
            if gathers {
                // It will again: to look once more is less than to be called.
                self.stop_watching(registry);
                let soon = group.now() + GATHERED_WAIT_MAX;
                self.stand_back_until(BACK_MIN, soon);
                self.heed_those_who_left();
            } else {
                self.stand_back(registry);
            }
            return Look::Enough;
        }
        let Some(mut driver) = group.seat().try_take() else {
            self.leave_to_caller(called, registry);
            return Look::Enough;
        };
        let now = group.now();
        // Who was called looks again before long, however often it is called until then.
        let before_long = now + BACK_MIN;
        let look_at = match self.care {
            _ if group.is_left_to_keeper(&driver) => None,
            _ if caller_was_here => Some(before_long),
            Care::StandingBack { look_at, .. } if look_at > now => Some(look_at.min(before_long)),
            _ => None,
        };
        let caller_is_near = look_at.is_some();
        let Driven {
            due,
            task,
            is_finished,
        } = group.drive(&mut driver, caller_is_near);
        // More may be gathered: those who gather count on an early look.
        let soon = gathered.then_some(now + GATHERED_WAIT_MAX);
        let look_at = look_at.into_iter().chain(soon).chain(due).min();
        if let Some(look_at) = look_at.filter(|_| caller_is_near) {
            self.stop_watching(registry);
            self.stand_back_until(BACK_MIN, look_at);
        } else {
            self.watch(registry, look_at);
        }
        let was_nudged = driver.leave();
        if was_nudged && !caller_is_near {
            self.watch(registry, Some(Instant::ORIGIN));
        }
        // Not from within the seat, which the task may want at once.
        if let Some(task) = task {
            task.wake();
        }
        match (is_finished, was_nudged && caller_is_near) {
            (true, _) => Look::Finished,
            (false, true) => Look::WasNudged,
            (false, false) => Look::Enough,
        }
    }

    /// Somebody else is in the seat.
    fn leave_to_caller(&mut self, called: bool, registry: &Registry) {
        match self.care {
            // Whoever drives looks at what the call was for.
            _ if called => {}
            Care::StandingBack { back, .. } if back >= BACK_MAX => {
                // It has been asleep in the poller for long.
                self.watch(registry, None);
                if self.group.seat().is_empty() {
                    self.stand_back(registry);
                }
            }
            _ => self.stand_back(registry),
        }
    }

    fn watch(&mut self, registry: &Registry, due: Option<Instant>) {
        if matches!(self.care, Care::StandingBack { .. }) && self.group.nest(registry).is_err() {
            // Out of memory for it: then by looking.
            self.stand_back(registry);
            return self.look_by(due);
        }
        self.group.rest().watched(true);
        let due = self.rest_until(due);
        self.care = Care::Watching { due };
    }

    fn stop_watching(&mut self, registry: &Registry) {
        if let Care::Watching { .. } = self.care {
            self.group.mute(registry);
            self.group.rest().watched(false);
        }
    }

    /// Cares for it no longer.
    pub(super) fn let_go(self, registry: &Registry) {
        self.group.take_out(registry);
    }

    fn stand_back(&mut self, registry: &Registry) {
        self.stop_watching(registry);
        let back = match self.care {
            Care::Watching { .. } => BACK_MIN,
            Care::StandingBack { back, .. } => (back * 2).min(BACK_MAX),
        };
        let look_at = self.group.now() + back;
        self.stand_back_until(back, look_at);
        self.heed_those_who_left();
    }

    fn stand_back_until(&mut self, back: Duration, look_at: Instant) {
        let look_at = self.rest_until(Some(look_at)).unwrap_or(look_at);
        self.care = Care::StandingBack { back, look_at };
    }

    /// Looks when a timer is due, if that is sooner, and at once if nobody will be back: whoever left the seat
    /// up to now counted on an earlier look, or on being watched. Whoever sits there will see how the keeper rests.
    fn heed_those_who_left(&mut self) {
        let group = Arc::clone(&self.group);
        if let Some(driver) = group.seat().try_take() {
            let due = G::next_deadline(&driver);
            let is_left = group.is_left_to_keeper(&driver);
            let was_nudged = driver.leave();
            self.look_by(if was_nudged || is_left {
                Some(Instant::ORIGIN)
            } else {
                due
            });
        }
    }

    /// Stands back no longer than this.
    fn look_by(&mut self, due: Option<Instant>) {
        if let Care::StandingBack { back, look_at } = self.care
            && let Some(due) = due.filter(|due| *due < look_at)
        {
            self.stand_back_until(back, due);
        }
    }

    /// Something is gathered, by someone who found that the keeper would look too late.
    pub(super) fn look_soon(&mut self) {
        self.care = match self.care {
            Care::Watching { due } => Care::Watching {
                due: self.rest_until(due),
            },
            Care::StandingBack { back, look_at } => Care::StandingBack {
                back,
                look_at: self.rest_until(Some(look_at)).unwrap_or(look_at),
            },
        };
    }

    /// Lets it be known when the keeper will look. Sooner, if frames were gathered by someone who
    /// counted on an earlier look: whoever gathers later sees the new time.
    fn rest_until(&self, time: Option<Instant>) -> Option<Instant> {
        let rest = self.group.rest();
        rest.until(time);
        if !rest.has_gathered() {
            return time;
        }
        let soon = self.group.now() + GATHERED_WAIT_MAX;
        let time = Some(time.map_or(soon, |time| time.min(soon)));
        rest.until(time);
        time
    }
}
