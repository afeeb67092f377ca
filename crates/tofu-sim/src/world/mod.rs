//! Engines, their applications, and chance: what is run, and in which order.
//!
//! Here is what a world is made of. `steps` says who is next, `applications` what they do then, `chance` which
//! processes are killed and stopped, `closing` how groups and engines end, and `ending` how the run does. `seeds` runs
//! one world after the other.

mod applications;
mod chance;
mod closing;
mod ending;
mod failure;
mod limits;
mod seeds;
mod steps;

use std::{sync::Arc, time::Duration};

use tofu::{
    Address, Engine,
    simulation::{self, Keeper, Shutdown},
};

pub use self::{failure::Failure, limits::Limits, seeds::run_seeds};

use self::{
    applications::{GroupState, Nobody, Receiving},
    chance::{Chance, Crash},
};
use crate::{
    Application, Broken, Faults, Random, group::Shared, ledger::Ledger, network::Network,
    trace::Trace,
};

/// Lines that a failure shows.
const LINES_SHOWN: usize = 100;
/// Steps after which a run is taken to be endless.
const STEPS_MAX: usize = 400_000;

/// One of a world's engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(usize);

/// Any number of engines with their applications, a network that a seed treats badly, and a clock.
///
/// See the [crate](crate) for examples.
#[derive(Debug)]
pub struct World {
    seed: u64,
    faults: Faults,
    hosts: Vec<HostState>,
    groups: Vec<GroupState>,
    shared: Shared,
    chance: Chance,
    steps: usize,
    steps_max: usize,
    /// Processes that were killed, and times that one was stopped.
    crashes: usize,
    stops: usize,
    /// Whether there ever was a process that chance might kill.
    may_crash: bool,
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
    may_stop: bool,
    crash: Crash,
}

impl World {
    /// A world in which goes wrong what this seed decides.
    pub fn new(seed: u64) -> Self {
        Self::with_faults(seed, Faults::of_seed(seed))
    }

    /// A world in which this goes wrong, at times that the seed decides.
    pub fn with_faults(seed: u64, faults: Faults) -> Self {
        let network = Network::new(seed, faults.clone());
        let chance = Chance::new(seed, &faults);
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
            chance,
            steps: 0,
            steps_max: STEPS_MAX,
            crashes: 0,
            stops: 0,
            may_crash: false,
            is_ending: false,
        };
        world.keep_trace(LINES_SHOWN);
        world
    }

    /// Keeps that many lines of what happens, to be shown when the run fails, instead of 100. 0 makes runs faster.
    pub fn keep_trace(&mut self, lines_max: usize) {
        self.shared.trace = Trace::new(lines_max);
        self.shared.network.state().happened = (lines_max > 0).then(Vec::new);
    }

    /// Allows this world so many steps, instead of 400,000, before it is taken to be endless. Who asks again as soon as
    /// it has an answer makes more than that in ten simulated seconds.
    pub fn allow_steps(&mut self, steps_max: usize) {
        self.steps_max = steps_max;
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
        self.process(limits, None)
    }

    /// Starts an engine with the same limits, in a new process, where one has crashed: it has the addresses of the old
    /// one, and may be killed and stopped only if that is said of it, too.
    ///
    /// # Panics
    /// The host has not crashed.
    pub fn restart(&mut self, crashed: Host) -> Host {
        let before = &self.hosts[crashed.0];
        assert!(before.engine.is_none(), "the process is there");
        self.process(before.limits.clone(), Some(crashed.0))
    }

    /// A process, in the place of another one or in one of its own.
    fn process(&mut self, limits: Limits, place: Option<usize>) -> Host {
        let system = self.shared.network.process(place);
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
            may_stop: false,
            crash: Crash::Never,
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
        let ip = self.shared.network.state().ip(host.0);
        Address::tcp(ip.to_string(), port).expect("it has a host and a port")
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

    /// Lets the seed kill this process while the world [runs](Self::run), at a moment that it decides, if there is
    /// anything left of [`Faults::crashes`]. `then` follows a while later, or at the latest when the world
    /// [finishes](Self::finish): it may [restart](Self::restart) the process, or do nothing.
    ///
    /// ```
    /// use tofu_sim::{Application, Host, World};
    /// # use tofu::Event;
    /// # use tofu_sim::{Faults, Group, Limits};
    /// # use std::time::Duration;
    /// # struct Server;
    /// # impl Application for Server {
    /// #     fn hear(&mut self, _: Event, _: &mut Group<'_>) {}
    /// # }
    ///
    /// /// Whenever the server is killed, it is started again.
    /// fn serve(world: &mut World, host: Host) {
    ///     world.start(host, Server);
    ///     world.may_stop(host);
    ///     world.may_crash(host, move |world| {
    ///         let again = world.restart(host);
    ///         serve(world, again);
    ///     });
    /// }
    /// # let faults = Faults { crashes: 3, ..Faults::none() };
    /// # let mut world = World::with_faults(1, faults);
    /// # let host = world.engine(Limits::default());
    /// # serve(&mut world, host);
    /// # world.run(Duration::from_secs(10)).and_then(|()| world.finish()).map(|it| assert_eq!(it.crashes, 3))?;
    /// # Ok::<(), Box<tofu_sim::Failure>>(())
    /// ```
    pub fn may_crash(&mut self, host: Host, then: impl FnOnce(&mut Self) + 'static) {
        self.may_crash = true;
        self.hosts[host.0].crash = Crash::May(Box::new(then));
    }

    /// Lets the seed [stop](Self::stop) this process while the world [runs](Self::run), at moments that it decides, as
    /// often as [`Faults::stops`] says.
    pub fn may_stop(&mut self, host: Host) {
        self.hosts[host.0].may_stop = true;
    }

    /// Kills a process now: its sockets are closed by the system, and nobody there hears of anything. Its applications
    /// are dropped. To have the seed decide when, see [`may_crash`](Self::may_crash).
    pub fn crash(&mut self, host: Host) {
        self.shared.note(|| format!("host {} crashes", host.0));
        self.crashes += 1;
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

    /// Stops a process now, for this time, as the signal SIGSTOP does: what is sent to it arrives in its sockets'
    /// buffers, and nobody there does anything. It goes on early if the world [finishes](Self::finish). To have the
    /// seed decide when, see [`may_stop`](Self::may_stop).
    ///
    /// Peers may lose their patience with it, which is none of the [`Faults`]: where these are
    /// [gentle](Faults::is_gentle), stop it for less than the timeouts in the [`Limits`], or the lack of a good end is
    /// taken for tofu's. And never for longer than a bye timeout of a minute.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tofu_sim::World;
    /// # use tofu::{Address, Event, Message};
    /// # use tofu_sim::{Application, Faults, Group, Limits};
    /// # struct Server(Address);
    /// # impl Application for Server {
    /// #     fn start(&mut self, group: &mut Group<'_>) {
    /// #         group.post(Message::welcome_request(&self.0)).unwrap();
    /// #     }
    /// #     fn hear(&mut self, _: Event, _: &mut Group<'_>) {}
    /// # }
    ///
    /// # let mut world = World::with_faults(1, Faults::none());
    /// # let server = world.engine(Limits::default());
    /// # world.start(server, Server(world.tcp(server, 7099)));
    /// world.run(Duration::from_millis(20))?;
    /// world.stop(server, Duration::from_secs(3));
    /// // It stands still, and its peers do not; then it goes on.
    /// world.run(Duration::from_secs(4))?;
    /// world.crash(server);
    /// world.run(Duration::from_secs(1))?;
    /// let report = world.finish()?;
    /// assert_eq!((report.stops, report.crashes), (1, 1));
    /// # Ok::<(), Box<tofu_sim::Failure>>(())
    /// ```
    pub fn stop(&mut self, host: Host, time: Duration) {
        self.stops += 1;
        self.shared
            .note(|| format!("host {} is stopped for {time:?}", host.0));
        let until = self.now() + time;
        let state = &mut self.hosts[host.0];
        state.stopped_until = state.stopped_until.max(until);
    }

    /// Goes on for this time. Meanwhile goes wrong what the [`Faults`] say.
    ///
    /// # Errors
    /// A promise was broken. A world that makes more steps than are [allowed](Self::allow_steps) is taken to be
    /// endless, which breaks [`Promise::End`](crate::Promise::End).
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
            replay: self.replay(),
            faults: self.faults_met(),
            crashes: self.crashes,
            stops: self.stops,
            trace: self.shared.trace.clone(),
        })
    }

    /// How to have the same world again, if its faults are those of its seed.
    fn replay(&self) -> Option<String> {
        let faults = self.faults.written(self.seed)?;
        Some(format!("World::with_faults({}, {faults})", self.seed))
    }
}
