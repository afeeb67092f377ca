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
//! due before it would look ([`Group::leave`]), and a keeper that stands back for longer asks in the empty
//! seat what falls due meanwhile.
//!
//! The rooms: [`ward`] decides what to do about one group; [`rest`] is what the group's threads and the
//! keeper know of each other without a word.

pub(crate) mod rest;
#[cfg(test)]
mod tests;
pub(crate) mod ward;

use std::{
    collections::HashMap,
    io, mem,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use mio::{Events, Poll, Registry, Token, Waker};

use self::ward::Ward;
use crate::{channels::GroupId, engine::Shared, group::Group};

const WAKER: Token = Token(usize::MAX);
const EVENTS_MAX: usize = 64;

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
    wards: HashMap<GroupId, Ward<Group>>,
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
                .filter(|(_, ward)| ward.looks_at().is_some_and(|time| time <= now))
                .map(|(id, _)| *id)
                .collect();
            for id in due {
                self.visit(id, false, poll.registry());
            }
        }
    }

    fn patience(&self) -> Option<Duration> {
        let next = self.wards.values().filter_map(Ward::looks_at).min()?;
        Some(next.since(self.shared.clock.now()))
    }

    fn adopt(&mut self, group: Arc<Group>, registry: &Registry) {
        let id = group.id;
        self.wards.insert(id, Ward::new(group, registry));
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
