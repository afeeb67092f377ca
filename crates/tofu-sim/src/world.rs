//! Engines, their applications, and chance: what is run, and in which order.

use std::{
    fmt, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tofu::{
    Address, ChannelGroup, Engine, Event, Options, RecvError,
    simulation::{self, Closing, Keeper, Shutdown},
};

use crate::{
    Application, Broken, Faults, Group, Promise, Random, Report,
    group::{Shared, Wish},
    ledger::{Ledger, Scene, Standing},
    network::{Network, ip_of},
    trace::{Trace, told},
};

/// Lines that a failure shows.
const LINES_SHOWN: usize = 60;
/// Steps after which a run is taken to be endless.
const STEPS_MAX: usize = 400_000;
/// Steps from one look at the bounds to the next.
const STEPS_UNTIL_LOOK: usize = 16;
/// The longest that an application with nothing to do keeps away.
const AWAY_MAX: Duration = Duration::from_millis(200);
/// How long everything may take to end once nothing goes wrong any more.
const END_MAX: Duration = Duration::from_secs(300);

/// The options of a simulated engine, and what the ledger holds it to.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Messages of the pool at first.
    pub pool_messages_initial: usize,
    /// And at most.
    pub pool_messages: usize,
    /// Bytes that may be queued on a channel.
    pub channel_queue_bytes: usize,
    /// And on all channels of the engine.
    pub engine_queue_bytes: usize,
    /// Channels that may be open.
    pub channels: usize,
    /// Connections that may be without their hello.
    pub half_open: usize,
    /// See [`Options::hello_timeout`].
    pub hello_timeout: Duration,
    /// See [`Options::connect_timeout`].
    pub connect_timeout: Duration,
    /// See [`Options::frame_timeout`].
    pub frame_timeout: Duration,
    /// See [`Options::bye_timeout`].
    pub bye_timeout: Duration,
    /// See [`Options::drain_timeout`].
    pub drain_timeout: Duration,
}

impl Default for Limits {
    /// Those of [`Options::default`], but that a bye and a drain may take longer: time costs nothing here.
    fn default() -> Self {
        Self {
            pool_messages_initial: 64,
            pool_messages: 1_024,
            channel_queue_bytes: 8 << 20,
            engine_queue_bytes: 256 << 20,
            channels: 65_534,
            half_open: 1_024,
            hello_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(60),
            frame_timeout: Duration::from_secs(60),
            bye_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(60),
        }
    }
}

impl Limits {
    fn options(&self) -> Options {
        Options::default()
            .pool_messages(self.pool_messages_initial, self.pool_messages)
            .queue_bytes(self.channel_queue_bytes, self.engine_queue_bytes)
            .channels_max(self.channels)
            .half_open_max(self.half_open)
            .hello_timeout(self.hello_timeout)
            .connect_timeout(self.connect_timeout)
            .frame_timeout(self.frame_timeout)
            .bye_timeout(self.bye_timeout)
            .drain_timeout(self.drain_timeout)
    }
}

/// One of a world's engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(usize);

/// A promise was broken: which, how to see it again, and what happened just before.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What decided the run.
    pub seed: u64,
    /// What was broken.
    pub broken: Broken,
    /// The command that shows it again, if it is known.
    pub replay: Option<String>,
    /// What can go wrong in the run.
    pub faults: Faults,
    pub(crate) trace: Trace,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} breaks {}", self.seed, self.broken)?;
        if let Some(replay) = &self.replay {
            writeln!(f, "see it again: {replay}")?;
        }
        writeln!(f, "{:?}", self.faults)?;
        write!(f, "{}", self.trace)
    }
}

impl std::error::Error for Failure {}

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

struct GroupState {
    host: usize,
    channels: Option<ChannelGroup>,
    closing: Option<Closing>,
    application: Box<dyn Application>,
    receiving: Receiving,
    /// When it is back for more, unless something calls it.
    back_at: Option<Duration>,
    away: Duration,
    lag: Duration,
    alarm: Option<Duration>,
    woken: Arc<Flag>,
    events: Vec<Event>,
    is_told_to_finish: bool,
}

impl fmt::Debug for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupState")
            .field("host", &self.host)
            .field("receiving", &self.receiving)
            .field("alarm", &self.alarm)
            .finish_non_exhaustive()
    }
}

/// How an application receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    /// One event after the other, like a thread that is back soon.
    OneByOne,
    /// Many at once.
    Many,
    /// As a task that is woken.
    AsTask,
}

#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Who acts next.
#[derive(Clone, Copy, Debug)]
enum Actor {
    Network,
    Keeper(usize),
    Group(usize),
    Shutdown(usize),
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
        self.shared.ledger.add_group();
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

    /// Ends the run: nothing goes wrong any more, each application is told to finish, and everything that
    /// is still to be done must get done.
    ///
    /// # Errors
    /// A promise was broken.
    pub fn finish(&mut self) -> Result<Report, Box<Failure>> {
        self.shared
            .note(|| "nothing goes wrong any more".to_owned());
        self.shared.network.state().calm_down();
        self.is_ending = true;
        for index in 0..self.groups.len() {
            let group = &mut self.groups[index];
            if !mem::replace(&mut group.is_told_to_finish, true) && group.channels.is_some() {
                self.with_application(index, |application, group| application.finish(group));
            }
        }
        let until = self.now() + END_MAX;
        while !self.is_over() {
            if !self.step(Some(until))? {
                let how = format!("after {END_MAX:?}, {}", self.what_is_left());
                return Err(self.failure(Broken::new(Promise::End, how)));
            }
        }
        for index in 0..self.hosts.len() {
            let checked = self.all_came_back(index);
            self.checked(checked)?;
        }
        let gentle = self.faults.is_gentle();
        let checked = {
            let state = self.shared.network.state();
            self.shared.ledger.finish(gentle, &state)
        };
        self.checked(checked)?;
        let ledger = &self.shared.ledger;
        Ok(Report {
            seed: self.seed,
            steps: self.steps,
            elapsed: self.now(),
            delivered: ledger.delivered,
            returned: ledger.returned,
            queue_full: ledger.queue_full,
            pool_empty: ledger.pool_empty,
            closed: ledger.closed.clone(),
            gentle,
        })
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

    /// Whether nobody has anything to do any more.
    fn is_over(&self) -> bool {
        let groups = self
            .groups
            .iter()
            .all(|group| group.channels.is_none() && group.closing.is_none());
        let state = self.shared.network.state();
        let hosts = self.hosts.iter().all(|host| {
            let is_called = |keeper: &Keeper| state.ready_since(keeper.poller()).is_some();
            host.shutdown.is_none() && !host.keeper.as_ref().is_some_and(is_called)
        });
        drop(state);
        let open = self.hosts.iter().filter_map(|host| host.engine.as_ref());
        let hosts = hosts && open.map(Engine::metrics).all(|it| it.channels_open == 0);
        groups && hosts
    }

    fn what_is_left(&self) -> String {
        let serving = self
            .groups
            .iter()
            .filter(|it| it.channels.is_some())
            .count();
        let closing = self.groups.iter().filter(|it| it.closing.is_some()).count();
        let open: usize = self
            .hosts
            .iter()
            .filter_map(|host| host.engine.as_ref())
            .map(|engine| engine.metrics().channels_open)
            .sum();
        format!("{serving} groups serve, {closing} close, {open} channels are open")
    }

    fn all_came_back(&mut self, host: usize) -> Result<(), Broken> {
        let Some(engine) = &self.hosts[host].engine else {
            return Ok(());
        };
        let left = engine.metrics();
        let levels = [
            left.channels_open,
            left.half_open,
            left.pool_messages_out,
            left.queued_bytes,
        ];
        if levels == [0; 4] {
            return Ok(());
        }
        Err(Broken::new(
            Promise::Bounds,
            format!(
                "host {host} has {} channels, {} half-open, {} messages out of the pool and {} bytes \
                 queued when all is over",
                levels[0], levels[1], levels[2], levels[3]
            ),
        ))
    }
}

/// Nobody: the application of a process that crashed.
struct Nobody;

impl Application for Nobody {
    fn hear(&mut self, _: Event, _: &mut Group<'_>) {}
}

/// Steps.
impl World {
    /// Lets the next thing happen, if it is due by then. `false` says that there is none.
    fn step(&mut self, until: Option<Duration>) -> Result<bool, Box<Failure>> {
        let Some((due, actor)) = self.next() else {
            if let Some(until) = until {
                self.shared.network.state().now = until;
            }
            return Ok(false);
        };
        if let Some(until) = until
            && due > until
        {
            self.shared.network.state().now = until;
            return Ok(false);
        }
        self.steps += 1;
        if self.steps > STEPS_MAX {
            let how = format!("{STEPS_MAX} steps, {}", self.what_is_left());
            return Err(self.failure(Broken::new(Promise::End, how)));
        }
        let cost = self.shared.random.duration(Duration::from_micros(5));
        {
            let mut state = self.shared.network.state();
            state.now = state.now.max(due) + cost;
        }
        match actor {
            Actor::Network => self.shared.network.state().go_on(),
            Actor::Keeper(host) => self.keep(host),
            Actor::Group(group) => self.turn(group),
            Actor::Shutdown(host) => self.look_at_shutdown(host),
        }
        if self.steps.is_multiple_of(STEPS_UNTIL_LOOK) {
            self.look();
        }
        match self.shared.broken.take() {
            Some(broken) => Err(self.failure(broken)),
            None => Ok(true),
        }
    }

    /// Who is next, and when.
    fn next(&mut self) -> Option<(Duration, Actor)> {
        let state = self.shared.network.state();
        let mut all: Vec<(Duration, Actor)> = Vec::with_capacity(16);
        all.extend(state.next_due().map(|due| (due, Actor::Network)));
        for (index, host) in self.hosts.iter().enumerate() {
            if let Some(keeper) = &host.keeper {
                let called = state.ready_since(keeper.poller());
                let due = [called, host.keeper_due].into_iter().flatten().min();
                let due = due.map(|due| (due + host.keeper_lag).max(host.stopped_until));
                all.extend(due.map(|due| (due, Actor::Keeper(index))));
            }
            if host.shutdown.is_some() {
                let due = host.looks_at.max(host.stopped_until);
                all.push((due, Actor::Shutdown(index)));
            }
        }
        let now = state.now;
        drop(state);
        for (index, group) in self.groups.iter().enumerate() {
            if group.channels.is_none() && group.closing.is_none() {
                continue;
            }
            let woken = group.woken.0.load(Ordering::Relaxed).then_some(now);
            let alarm = group.alarm.map(|alarm| alarm + group.lag);
            let due = [group.back_at, alarm, woken].into_iter().flatten().min();
            let stopped_until = self.hosts[group.host].stopped_until;
            all.extend(due.map(|due| (due.max(stopped_until), Actor::Group(index))));
        }
        let first = all.iter().map(|(due, _)| (*due).max(now)).min()?;
        let who: Vec<_> = all
            .into_iter()
            .filter(|(due, _)| (*due).max(now) == first)
            .collect();
        let one = self.shared.random.below(who.len());
        Some(who[one])
    }

    fn keep(&mut self, host: usize) {
        self.shared.note(|| format!("host {host}'s keeper looks"));
        let lag_max = self.lag_max(self.faults.keeper_lag_max);
        let state = &mut self.hosts[host];
        let Some(keeper) = &mut state.keeper else {
            return;
        };
        keeper.turn();
        let now = self.shared.now();
        state.keeper_due = keeper.patience().map(|patience| now + patience);
        state.keeper_lag = self.shared.random.duration(lag_max);
    }

    /// Once the end has come, nobody is slow any more.
    fn lag_max(&self, max: Duration) -> Duration {
        if self.is_ending {
            max.min(Duration::from_millis(1))
        } else {
            max
        }
    }

    fn turn(&mut self, index: usize) {
        let now = self.shared.now();
        let group = &mut self.groups[index];
        group.woken.0.store(false, Ordering::Relaxed);
        if group.closing.is_some() {
            return self.go_on_closing(index);
        }
        if group.alarm.is_some_and(|alarm| alarm <= now) {
            group.alarm = None;
            self.with_application(index, |application, group| application.wake(group));
        }
        let batch = self.shared.random.pick(&[1, 1, 2, 8, 100]);
        let mut heard = 0;
        let (mut is_over, mut is_idle) = (false, false);
        while heard < batch && self.groups[index].channels.is_some() && self.shared.broken.is_none()
        {
            match self.receive(index, batch) {
                Ok(0) => {
                    is_idle = true;
                    break;
                }
                Ok(count) => heard += count,
                Err(RecvError) => {
                    is_over = true;
                    break;
                }
            }
        }
        if is_over {
            self.is_shut_down(index);
        } else if is_idle {
            self.with_application(index, |application, group| application.idle(group));
        }
        self.comes_back(index, heard);
    }

    /// When the application is back.
    fn comes_back(&mut self, index: usize, heard: usize) {
        let now = self.shared.now();
        let lag_max = self.lag_max(self.faults.application_lag_max);
        let lag = self.shared.random.duration(lag_max);
        let group = &mut self.groups[index];
        if group.channels.is_none() && group.closing.is_none() {
            group.back_at = None;
            return;
        }
        group.lag = lag;
        if heard > 0 {
            group.away = lag.max(Duration::from_micros(10));
        } else if group.closing.is_none() && group.receiving == Receiving::AsTask {
            // It has said that it is to be woken.
            group.back_at = None;
            return;
        } else {
            group.away = (group.away * 2).clamp(Duration::from_micros(10), AWAY_MAX);
        }
        group.back_at = Some(now + group.away);
    }

    /// Receives some events, and tells the application. Returns how many.
    fn receive(&mut self, index: usize, max: usize) -> Result<usize, RecvError> {
        let group = &mut self.groups[index];
        let Some(channels) = &mut group.channels else {
            return Ok(0);
        };
        match group.receiving {
            Receiving::OneByOne => {
                let Some(event) = channels.try_recv()? else {
                    return Ok(0);
                };
                self.hear(index, event);
                Ok(1)
            }
            Receiving::AsTask => {
                let waker = Waker::from(Arc::clone(&group.woken));
                match channels.poll_recv(&mut Context::from_waker(&waker)) {
                    Poll::Pending => Ok(0),
                    Poll::Ready(event) => {
                        self.hear(index, event?);
                        Ok(1)
                    }
                }
            }
            Receiving::Many => {
                let mut events = mem::take(&mut group.events);
                let count = simulation::try_recv_many(channels, &mut events, max)?;
                for event in &mut events {
                    // What it has read goes back to the driver, but for what the application takes.
                    let event = mem::replace(event, Event::PoolEmpty);
                    self.hear(index, event);
                }
                events.clear();
                self.groups[index].events = events;
                Ok(count)
            }
        }
    }

    fn hear(&mut self, index: usize, event: Event) {
        let host = self.groups[index].host;
        self.shared
            .note(|| format!("host {host} group {index} hears {}", told(&event)));
        let state = self.shared.network.state();
        let scene = Scene {
            host,
            opened: self.hosts[host].opened,
            limits: &self.hosts[host].limits,
            network: &state,
        };
        let checked = self.shared.ledger.heard(index, &event, scene);
        drop(state);
        self.shared.hold(checked);
        if let Event::Message(message) = &event
            && message.op_code() == tofu::OpCode::HelloRequest
        {
            self.hosts[host].opened += 1;
        }
        if self.groups[index].channels.is_some() {
            self.with_application(index, |application, group| application.hear(event, group));
        }
    }

    fn with_application(
        &mut self,
        index: usize,
        what: impl FnOnce(&mut dyn Application, &mut Group<'_>),
    ) {
        let group = &mut self.groups[index];
        let host = &mut self.hosts[group.host];
        let (Some(channels), Some(engine)) = (&group.channels, &host.engine) else {
            return;
        };
        let mut wish = None;
        let mut view = Group {
            channels,
            engine,
            limits: &host.limits,
            shared: &mut self.shared,
            host: group.host,
            index,
            opened: &mut host.opened,
            alarm: &mut group.alarm,
            wish: &mut wish,
        };
        what(&mut *group.application, &mut view);
        if let Some(wish) = wish {
            self.grant(index, wish);
        }
    }

    fn grant(&mut self, index: usize, wish: Wish) {
        let host = self.groups[index].host;
        self.shared
            .note(|| format!("host {host} group {index} ends: {wish:?}"));
        let now = self.shared.now();
        if self.hosts[host].shutdown.is_some() {
            // It will hear of it.
            return;
        }
        let closes = |it: &GroupState| it.host == host && it.closing.is_some();
        let wish = match wish {
            // In a process, whoever closes a group sits in its seat meanwhile. Here nobody does, and the
            // report of the shutdown would take what belongs into that of the group.
            Wish::ShutDown(timeout) if self.groups.iter().any(closes) => Wish::Close(timeout),
            wish => wish,
        };
        let group = &mut self.groups[index];
        if let Wish::ShutDown(timeout) = wish {
            let mine = |it: &GroupState| it.host == host && it.channels.is_some();
            if let (Some(engine), None) = (&self.hosts[host].engine, &self.hosts[host].shutdown) {
                for other in 0..self.groups.len() {
                    if mine(&self.groups[other]) {
                        self.shared.ledger.stands(other, Standing::ShutsDown);
                        self.groups[other].back_at = Some(now);
                    }
                }
                self.hosts[host].shutdown = Some(simulation::shutdown(engine, timeout));
                self.hosts[host].looks_at = now;
            }
            return;
        }
        let Some(channels) = group.channels.take() else {
            return;
        };
        group.alarm = None;
        group.back_at = Some(now);
        let standing = match wish {
            Wish::Close(timeout) => {
                group.closing = Some(simulation::close(channels, timeout));
                Standing::Closes
            }
            Wish::Abort => {
                channels.abort();
                Standing::Gone
            }
            Wish::Leave | Wish::ShutDown(_) => {
                drop(channels);
                Standing::Drains
            }
        };
        self.shared.ledger.stands(index, standing);
        // What it held comes back.
        group.events.clear();
        group.application = Box::new(Nobody);
    }

    /// The engine shuts down, and the application hears it: it lets go of its group.
    fn is_shut_down(&mut self, index: usize) {
        let group = &mut self.groups[index];
        let host = group.host;
        let channels = group.channels.take();
        group.alarm = None;
        group.application = Box::new(Nobody);
        group.events.clear();
        self.shared
            .note(|| format!("host {host} group {index} hears that the engine shuts down"));
        drop(channels);
    }

    fn go_on_closing(&mut self, index: usize) {
        let group = &mut self.groups[index];
        let report = group.closing.as_mut().and_then(Closing::turn);
        if let Some(report) = report {
            group.closing = None;
            let host = group.host;
            self.report(host, &report, Some(index));
        }
        self.comes_back(index, 0);
    }

    fn look_at_shutdown(&mut self, host: usize) {
        let now = self.shared.now();
        let state = &mut self.hosts[host];
        state.looks_at = now + Duration::from_millis(5);
        if let Some(report) = state.shutdown.as_ref().and_then(Shutdown::try_finish) {
            state.shutdown = None;
            self.report(host, &report, None);
        }
    }

    fn report(&mut self, host: usize, report: &tofu::CloseReport, group: Option<usize>) {
        self.shared.note(|| {
            let closed: Vec<_> = report
                .closed
                .iter()
                .map(|(channel, reason)| format!("channel {channel}: {reason}"))
                .collect();
            format!(
                "host {host} has closed {group:?}: {} undelivered, {} unread, {closed:?}",
                report.undelivered.len(),
                report.unread.len()
            )
        });
        let state = self.shared.network.state();
        let scene = Scene {
            host,
            opened: self.hosts[host].opened,
            limits: &self.hosts[host].limits,
            network: &state,
        };
        let ledger = &mut self.shared.ledger;
        let checked = ledger
            .reported(report, group.is_none(), scene)
            .and_then(|()| group.map_or(Ok(()), |group| ledger.all_is_told(group)));
        drop(state);
        self.shared.hold(checked);
    }

    /// Looks at what must always hold.
    fn look(&mut self) {
        let mut has_messages = Vec::new();
        for index in 0..self.hosts.len() {
            let host = &self.hosts[index];
            let Some(engine) = &host.engine else {
                has_messages.push(false);
                continue;
            };
            let metrics = engine.metrics();
            has_messages.push(metrics.pool_messages_out < host.limits.pool_messages);
            let checked = Ledger::bounds(index, &metrics, &host.limits);
            self.shared.hold(checked);
        }
        let checked = {
            let state = self.shared.network.state();
            let now = state.now;
            self.shared.ledger.progress(
                now,
                &state,
                self.faults.keeper_lag_max,
                |host| has_messages[host],
                |host| self.hosts[host].stopped_until > now,
            )
        };
        self.shared.hold(checked);
    }
}
