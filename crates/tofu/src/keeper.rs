//! The keeper: the engine's one thread, which drives the groups that nobody else does.
//!
//! As long as a caller keeps coming back to `recv`, the keeper stays out of its way. It cannot be
//! told of every coming and going, for that would cost a wake-up per message, so for each group it
//! does one of two things:
//!
//! - it *watches* the group's poller, nested in its own: whatever happens wakes it, and if nobody
//!   drives, it does;
//! - it *stands back* when it finds that a caller drives: it does not watch, and comes back to look
//!   after a while, and then after twice that, up to a bound. When it finds the seat empty and not
//!   taken since, it drives. When a caller has been asleep in it all the while, it watches again.
//!
//! So an engine in which nothing happens makes no system call, and one whose callers are busy a few
//! dozen a second. Timers need no looking: a caller that leaves calls the keeper if something falls
//! due before it would look ([`Group::leave`]).

use std::{
    collections::HashMap,
    io, mem,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use mio::{Events, Interest, Poll, Registry, Token, Waker, unix::SourceFd};
use tofu_proto::Instant;

use crate::{
    channels::GroupId,
    engine::Shared,
    group::{GATHERED_WAIT_MAX, Group},
    reactor::Reactor,
};

const WAKER: Token = Token(usize::MAX);
const EVENTS_MAX: usize = 64;
/// How long the keeper stands back at first, and at most.
const BACK_MIN: Duration = Duration::from_millis(2);
pub(crate) const BACK_MAX: Duration = Duration::from_millis(64);

/// How other threads reach the keeper.
#[derive(Debug)]
pub(crate) struct Keeper {
    waker: Waker,
    calls: Mutex<Vec<Call>>,
}

#[derive(Debug)]
enum Call {
    Adopt(Arc<Group>),
    Look(GroupId),
    LookSoon(GroupId),
    Stop,
}

impl Keeper {
    pub(crate) fn new() -> io::Result<(Self, Poll)> {
        let poll = Poll::new()?;
        let keeper = Self {
            waker: Waker::new(poll.registry(), WAKER)?,
            calls: Mutex::default(),
        };
        Ok((keeper, poll))
    }

    /// Takes a new group into its care.
    pub(crate) fn adopt(&self, group: Arc<Group>) {
        self.tell(Call::Adopt(group));
    }

    /// Looks at a group, now.
    pub(crate) fn call(&self, group: GroupId) {
        self.tell(Call::Look(group));
    }

    /// Looks at a group in which something is gathered, before that has waited for long.
    pub(crate) fn call_soon(&self, group: GroupId) {
        self.tell(Call::LookSoon(group));
    }

    /// Ends.
    pub(crate) fn stop(&self) {
        self.tell(Call::Stop);
    }

    fn tell(&self, call: Call) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push(call);
        drop(calls);
        // It fails only if the descriptor is gone, and with it the keeper.
        let _ = self.waker.wake();
    }

    fn take_calls(&self) -> Vec<Call> {
        mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Starts the keeper's thread.
pub(crate) fn start(shared: Arc<Shared>, poll: Poll) -> io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name("tofu-keeper".to_owned())
        .spawn(move || {
            Rounds {
                shared,
                wards: HashMap::new(),
            }
            .walk(poll);
        })
}

struct Rounds {
    shared: Arc<Shared>,
    wards: HashMap<GroupId, Ward>,
}

/// A group in the keeper's care.
struct Ward {
    group: Arc<Group>,
    care: Care,
    turns_seen: u64,
    gatherings_seen: u64,
}

#[derive(Clone, Copy, Debug)]
enum Care {
    /// Its poller is nested in the keeper's; a timer of it may be due.
    Watching { due: Option<Instant> },
    /// A caller drives. How long the keeper stands back this time, and when it looks again.
    StandingBack { back: Duration, look_at: Instant },
}

impl Rounds {
    fn walk(mut self, mut poll: Poll) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let patience = self.patience();
            match poll.poll(&mut events, patience) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    // Only a descriptor that is none can cause this.
                    debug_assert!(false, "the keeper's poller failed: {error}");
                    return;
                }
                Err(_) => events.clear(),
                Ok(()) => {}
            }
            for call in self.shared.keeper.take_calls() {
                match call {
                    Call::Adopt(group) => self.adopt(group, poll.registry()),
                    Call::Look(id) => self.visit(id, true, poll.registry()),
                    Call::LookSoon(id) => {
                        if let Some(ward) = self.wards.get_mut(&id) {
                            ward.look_soon();
                        }
                    }
                    Call::Stop => return,
                }
            }
            for event in events.iter().filter(|event| event.token() != WAKER) {
                self.visit(event.token().0, false, poll.registry());
            }
            let now = self.shared.clock.now();
            let due: Vec<_> = self
                .wards
                .iter()
                .filter(|(_, ward)| ward.care.time().is_some_and(|time| time <= now))
                .map(|(id, _)| *id)
                .collect();
            for id in due {
                self.visit(id, false, poll.registry());
            }
        }
    }

    fn patience(&self) -> Option<Duration> {
        let next = self
            .wards
            .values()
            .filter_map(|ward| ward.care.time())
            .min()?;
        Some(next.since(self.shared.clock.now()))
    }

    fn adopt(&mut self, group: Arc<Group>, registry: &Registry) {
        let id = group.id;
        let mut ward = Ward {
            turns_seen: 0,
            gatherings_seen: 0,
            care: Care::StandingBack {
                back: BACK_MIN,
                look_at: Instant::ORIGIN,
            },
            group,
        };
        ward.watch(registry, None);
        self.wards.insert(id, ward);
        self.visit(id, true, registry);
    }

    fn visit(&mut self, id: GroupId, called: bool, registry: &Registry) {
        let Some(ward) = self.wards.get_mut(&id) else {
            return;
        };
        if ward.visit(called, registry) {
            ward.stop_watching(registry);
            self.wards.remove(&id);
            self.shared.finished(id);
        }
    }
}

impl Ward {
    /// Sees to the group if nobody else does. `true` says that it is finished for good.
    fn visit(&mut self, called: bool, registry: &Registry) -> bool {
        let turns = self.group.caller_turns();
        let caller_was_here = mem::replace(&mut self.turns_seen, turns) != turns;
        let gatherings = self.group.gatherings();
        let gathers = mem::replace(&mut self.gatherings_seen, gatherings) != gatherings;
        let gathered = self.group.has_gathered();
        if caller_was_here && !called && !gathered {
            if gathers {
                // It will again: to look once more is less than to be called.
                self.stop_watching(registry);
                let soon = self.group.engine.clock.now() + GATHERED_WAIT_MAX;
                self.stand_back_until(BACK_MIN, soon);
            } else {
                self.stand_back(registry);
            }
            return false;
        }
        let group = Arc::clone(&self.group);
        let Some(mut driver) = group.seat.try_take() else {
            self.leave_to_caller(called, registry);
            return false;
        };
        let is_busy = if caller_was_here && !called {
            // It will be back for the rest.
            Reactor::look_around(&mut driver, &group, group.engine.clock.now());
            driver.is_busy(&group)
        } else {
            // A poller that fails leaves nothing to be done but what its timers say.
            Reactor::keep(&mut driver, &group).unwrap_or(false)
        };
        let finished = driver.is_finished(&group);
        let due = if is_busy {
            Some(Instant::ORIGIN)
        } else {
            driver.next_deadline()
        };
        if gathered {
            // More may be: those who gather count on an early look.
            let soon = group.engine.clock.now() + GATHERED_WAIT_MAX;
            let due = due.map_or(soon, |due| due.min(soon));
            if caller_was_here {
                self.stop_watching(registry);
                self.stand_back_until(BACK_MIN, due);
            } else {
                self.watch(registry, Some(due));
            }
        } else {
            self.watch(registry, due);
        }
        let task = driver.task_to_wake(&group);
        if driver.leave() {
            self.watch(registry, Some(Instant::ORIGIN));
        }
        // Not from within the seat, which the task may want at once.
        if let Some(task) = task {
            task.wake();
        }
        finished
    }

    /// Somebody else is in the seat.
    fn leave_to_caller(&mut self, called: bool, registry: &Registry) {
        match self.care {
            // Whoever drives looks at what the call was for.
            _ if called => {}
            Care::StandingBack { back, .. } if back >= BACK_MAX => {
                // It has been asleep in the poller for long.
                self.watch(registry, None);
                if self.group.seat.is_empty() {
                    self.stand_back(registry);
                }
            }
            _ => self.stand_back(registry),
        }
    }

    fn watch(&mut self, registry: &Registry, due: Option<Instant>) {
        if let Care::StandingBack { .. } = self.care {
            let descriptor = self.group.poller_descriptor;
            let nested = registry.register(
                &mut SourceFd(&descriptor),
                Token(self.group.id),
                Interest::READABLE,
            );
            if nested.is_err() {
                // Out of memory for it: then by looking.
                return self.stand_back(registry);
            }
        }
        let due = self.rest_until(due);
        self.care = Care::Watching { due };
    }

    fn stop_watching(&mut self, registry: &Registry) {
        if let Care::Watching { .. } = self.care {
            // It cannot fail: it is registered.
            let _ = registry.deregister(&mut SourceFd(&self.group.poller_descriptor));
        }
    }

    fn stand_back(&mut self, registry: &Registry) {
        self.stop_watching(registry);
        let back = match self.care {
            Care::Watching { .. } => BACK_MIN,
            Care::StandingBack { back, .. } => (back * 2).min(BACK_MAX),
        };
        let look_at = self.group.engine.clock.now() + back;
        self.stand_back_until(back, look_at);
    }

    fn stand_back_until(&mut self, back: Duration, look_at: Instant) {
        let look_at = self.rest_until(Some(look_at)).unwrap_or(look_at);
        self.care = Care::StandingBack { back, look_at };
    }

    /// Something is gathered, by someone who found that the keeper would look too late.
    fn look_soon(&mut self) {
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
        self.group.keeper_rests_until(time);
        if !self.group.has_gathered() {
            return time;
        }
        let soon = self.group.engine.clock.now() + GATHERED_WAIT_MAX;
        let time = Some(time.map_or(soon, |time| time.min(soon)));
        self.group.keeper_rests_until(time);
        time
    }
}

impl Care {
    /// When the keeper wants to look.
    fn time(self) -> Option<Instant> {
        match self {
            Self::Watching { due } => due,
            Self::StandingBack { look_at, .. } => Some(look_at),
        }
    }
}
