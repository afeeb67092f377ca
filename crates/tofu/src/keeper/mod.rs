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
//!   taken since, it drives. When a caller has been asleep in it all the while, it watches again. Called
//!   meanwhile, it does what it is called for, without asking the poller, and looks before long.
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
    collections::BTreeMap,
    io, mem,
    sync::{Arc, PoisonError},
    time::Duration,
};

use mio::Token;

use self::ward::Ward;
use crate::{
    channels::GroupId,
    engine::Shared,
    group::Group,
    net::{Events, Network, Poller, Registry, Waker},
    sync::unmodelled::{
        Mutex,
        thread::{self, JoinHandle},
    },
};

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
    pub(crate) fn new(network: &Network) -> io::Result<(Self, Poller)> {
        let poller = network.poller()?;
        let keeper = Self {
            waker: poller.waker(WAKER)?,
            calls: Mutex::default(),
        };
        Ok((keeper, poller))
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

    /// Ends, as soon as all groups are finished.
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
pub(crate) fn start(shared: Arc<Shared>, poller: Poller) -> io::Result<JoinHandle<()>> {
    let mut rounds = Rounds::new(shared, poller)?;
    thread::Builder::new()
        .name("tofu-keeper".to_owned())
        .spawn(move || {
            let mut goes_on = true;
            while goes_on {
                let patience = rounds.patience();
                goes_on = rounds.walk(patience);
            }
        })
}

/// What the keeper does, and all that it knows.
pub(crate) struct Rounds {
    shared: Arc<Shared>,
    poller: Poller,
    registry: Registry,
    events: Events,
    wards: BTreeMap<GroupId, Ward<Group>>,
    /// No group will come any more.
    is_stopped: bool,
}

impl Rounds {
    pub(crate) fn new(shared: Arc<Shared>, poller: Poller) -> io::Result<Self> {
        Ok(Self {
            shared,
            registry: poller.registry()?,
            poller,
            events: Events::with_capacity(EVENTS_MAX),
            wards: BTreeMap::new(),
            is_stopped: false,
        })
    }

    /// One round: waits for as long as told, and sees to all that needs it. `false` says that it was the
    /// last one.
    pub(crate) fn walk(&mut self, patience: Option<Duration>) -> bool {
        match self.poller.poll(&mut self.events, patience) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                // Only a descriptor that is none can cause this.
                debug_assert!(false, "the keeper's poller failed: {error}");
                return false;
            }
            Err(_) => self.events.clear(),
            Ok(()) => {}
        }
        for call in self.shared.keeper.take_calls() {
            match call {
                Call::Adopt(group) => self.adopt(group),
                Call::Look(id) => self.visit(id, true),
                Call::LookSoon(id) => {
                    if let Some(ward) = self.wards.get_mut(&id) {
                        ward.look_soon();
                    }
                }
                Call::Stop => {
                    self.is_stopped = true;
                    // Somebody waits for the end: nothing that a driver did not tell may put it off.
                    for id in self.wards.keys().copied().collect::<Vec<_>>() {
                        self.visit(id, true);
                    }
                }
            }
        }
        let events = mem::replace(&mut self.events, Events::with_capacity(0));
        for (token, _) in events.iter().filter(|(token, _)| *token != WAKER) {
            self.visit(token.0, false);
        }
        self.events = events;
        let now = self.shared.clock.now();
        let due: Vec<_> = self
            .wards
            .iter()
            .filter(|(_, ward)| ward.looks_at().is_some_and(|time| time <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.visit(id, false);
        }
        !(self.is_stopped && self.wards.is_empty())
    }

    #[cfg(feature = "simulation")]
    pub(crate) fn poller(&self) -> crate::simulation::Descriptor {
        self.poller.as_inner().simulated()
    }

    /// Lets go of all groups: nobody will ever see to them.
    #[cfg(feature = "simulation")]
    pub(crate) fn let_go(&mut self) {
        self.wards.clear();
        drop(self.shared.keeper.take_calls());
        self.shared.forget_groups();
    }

    /// How long nothing needs it, unless something happens.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let next = self.wards.values().filter_map(Ward::looks_at).min()?;
        Some(next.since(self.shared.clock.now()))
    }

    fn adopt(&mut self, group: Arc<Group>) {
        let id = group.id;
        let ward = Ward::new(group, &self.registry);
        self.wards.insert(id, ward);
        self.visit(id, true);
    }

    fn visit(&mut self, id: GroupId, called: bool) {
        let Some(ward) = self.wards.get_mut(&id) else {
            return;
        };
        if ward.visit(called, &self.registry) {
            if let Some(ward) = self.wards.remove(&id) {
                ward.let_go(&self.registry);
            }
            self.shared.finished(id);
        }
    }
}
