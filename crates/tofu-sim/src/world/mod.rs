//! Engines, their applications, and chance: what is run, and in which order.
//!
//! Here is what a world is made of. `steps` says who is next, `applications` what they do then, `closing` how groups
//! and engines end, and `ending` how the run does.

mod applications;
mod closing;
mod ending;
mod failure;
mod limits;
mod steps;

use std::{sync::Arc, time::Duration};

use tofu::{
    Address, Engine,
    simulation::{self, Keeper, Shutdown},
};

pub use self::{failure::Failure, limits::Limits};

use self::applications::{GroupState, Nobody, Receiving};
use crate::{
    Application, Broken, Faults, Random,
    group::Shared,
    ledger::Ledger,
    network::{Network, ip_of},
    trace::Trace,
};

/// Lines that a failure shows.
const LINES_SHOWN: usize = 60;

/// One of a world's engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(usize);

/// Any number of engines with their applications, a network that a seed treats badly, and a clock.
///
/// See the [crate](crate) for an example.
#[derive(Debug)]
pub struct World {
    seed: u64,
    faults: Faults,
    hosts: Vec<HostState>,
    groups: Vec<GroupState>,
    shared: Shared,
    steps: usize,
    is_ending: bool,
}

#[derive(Debug)]
struct HostState {
    engine: Option<Engine>,
    keeper: Option<Keeper>,
    keeper_due: Option<Duration>,
    keeper_lag: Duration,
    limits: Limits,
    shutdown: Option<Shutdown>,
    /// Channels that were ever opened here.
    opened: u64,
    looks_at: Duration,
    stopped_until: Duration,
}

impl World {
    /// A world in which goes wrong what this seed decides.
    pub fn new(seed: u64) -> Self {
        Self::with_faults(seed, Faults::of_seed(seed))
    }

    /// A world in which this goes wrong, at times that the seed decides.
    pub fn with_faults(seed: u64, faults: Faults) -> Self {
        let network = Network::new(seed, faults.clone());
        let mut world = Self {
            seed,
            faults,
            hosts: Vec::new(),
            groups: Vec::new(),
            shared: Shared {
                began: std::time::Instant::now(),
                network,
                ledger: Ledger::default(),
                trace: Trace::new(0),
                random: Random::new(seed ^ 0x3075),
                broken: None,
            },
            steps: 0,
            is_ending: false,
        };
        world.keep_trace(LINES_SHOWN);
        world
    }

    /// Keeps that many lines of what happens, to be shown when the run fails. 0 makes runs faster.
    pub fn keep_trace(&mut self, lines_max: usize) {
        self.shared.trace = Trace::new(lines_max);
        self.shared.network.state().happened = (lines_max > 0).then(Vec::new);
    }

    /// All that was kept of what happened.
    pub fn trace(&self) -> String {
        self.shared.trace.to_string()
    }

    /// Starts an engine, in a process of its own.
    ///
    /// # Panics
    /// The limits cannot be.
    pub fn engine(&mut self, limits: Limits) -> Host {
        let system = self.shared.network.process();
        let (engine, keeper) =
            simulation::engine(limits.options(), &system).expect("the limits are possible");
        self.hosts.push(HostState {
            engine: Some(engine),
            keeper: Some(keeper),
            keeper_due: None,
            keeper_lag: Duration::ZERO,
            limits,
            shutdown: None,
            opened: 0,
            looks_at: Duration::ZERO,
            stopped_until: Duration::ZERO,
        });
        Host(self.hosts.len() - 1)
    }

    /// Starts an application with a group of its own.
    ///
    /// # Panics
    /// The host is no more.
    pub fn start(&mut self, host: Host, application: impl Application + 'static) {
        let engine = self.hosts[host.0].engine.as_ref();
        let channels = engine
            .and_then(|engine| engine.group().ok())
            .expect("the engine has neither crashed nor been shut down");
        let random = &mut self.shared.random;
        let receiving = random.pick(&[Receiving::OneByOne, Receiving::Many, Receiving::AsTask]);
        let now = self.shared.now();
        self.groups.push(GroupState {
            host: host.0,
            channels: Some(channels),
            closing: None,
            application: Box::new(application),
            receiving,
            back_at: Some(now),
            away: Duration::ZERO,
            lag: Duration::ZERO,
            alarm: None,
            woken: Arc::default(),
            events: Vec::new(),
            is_told_to_finish: false,
        });
        self.shared.ledger.add_group(host.0);
        let index = self.groups.len() - 1;
        self.shared.note(|| {
            format!(
                "host {} starts group {index}, receives {receiving:?}",
                host.0
            )
        });
        self.with_application(index, |application, group| application.start(group));
    }

    /// A TCP address on this host. Its name is `host-` and its number, which can be resolved.
    ///
    /// # Panics
    /// Never: it is a valid address.
    pub fn tcp(&self, host: Host, port: u16) -> Address {
        Address::tcp(ip_of(host.0).to_string(), port).expect("it has a host and a port")
    }

    /// What an engine has counted. None if it has crashed.
    pub fn metrics(&self, host: Host) -> Option<tofu::Metrics> {
        self.hosts[host.0].engine.as_ref().map(Engine::metrics)
    }

    /// The time since the world began.
    pub fn now(&self) -> Duration {
        self.shared.now()
    }

    /// Numbers that the seed decides.
    pub fn random(&mut self) -> &mut Random {
        &mut self.shared.random
    }

    /// Kills a process: its sockets are closed by the system, and nobody there hears of anything.
    pub fn crash(&mut self, host: Host) {
        self.shared.note(|| format!("host {} crashes", host.0));
        self.shared.network.state().kill(host.0);
        let groups = (0..self.groups.len()).filter(|&it| self.groups[it].host == host.0);
        let groups: Vec<_> = groups.collect();
        self.shared.ledger.is_gone(groups.iter().copied());
        for index in groups {
            let group = &mut self.groups[index];
            group.application = Box::new(Nobody);
            group.alarm = None;
            group.back_at = None;
            group.events.clear();
            let (channels, closing) = (group.channels.take(), group.closing.take());
            drop((channels, closing));
        }
        let state = &mut self.hosts[host.0];
        let gone = (
            state.engine.take(),
            state.keeper.take(),
            state.shutdown.take(),
        );
        drop(gone);
    }

    /// Stops a process for this time, as the signal SIGSTOP does: what is sent to it arrives in its sockets' buffers,
    /// and nobody there does anything.
    pub fn stop(&mut self, host: Host, time: Duration) {
        self.shared
            .note(|| format!("host {} is stopped for {time:?}", host.0));
        let until = self.now() + time;
        let state = &mut self.hosts[host.0];
        state.stopped_until = state.stopped_until.max(until);
    }

    /// Goes on for this time.
    ///
    /// # Errors
    /// A promise was broken.
    pub fn run(&mut self, time: Duration) -> Result<(), Box<Failure>> {
        let until = self.now() + time;
        while self.step(Some(until))? {}
        Ok(())
    }

    fn checked(&mut self, checked: Result<(), Broken>) -> Result<(), Box<Failure>> {
        checked.map_err(|broken| self.failure(broken))
    }

    fn failure(&mut self, broken: Broken) -> Box<Failure> {
        self.shared.note(|| format!("broken: {broken}"));
        Box::new(Failure {
            seed: self.seed,
            broken,
            replay: None,
            faults: self.faults.clone(),
            trace: self.shared.trace.clone(),
        })
    }
}
