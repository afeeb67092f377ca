//! The engine: what all groups share, and its end.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt, io, mem, process,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant as StdInstant},
};

use tofu_proto::{Instant, Message, MessageId, Timeouts};

use crate::{
    ChannelGroup, CloseReport, Metrics, OptionError, Options,
    budget::Budget,
    channels::{Channels, GroupId},
    group::Group,
    keeper::{self, Keeper},
    metrics::Counters,
    net::{Network, Poller, resolve::Resolver},
    pool::{Pool, Shelf},
    reactor::close::Mode,
    sync::unmodelled::{
        Condvar, Mutex, MutexGuard,
        thread::{self, JoinHandle},
    },
};

/// How much longer than its deadline a shutdown waits for threads that are being woken.
const GRACE: Duration = Duration::from_secs(1);

/// Owns sockets and a pool of messages, for any number of channel groups.
///
/// A process may have several engines; they share nothing. Clones are handles of the same engine. It
/// lives as long as any handle or group of it does; the last one to be dropped waits until what the
/// dropped groups had queued has left (at most [`Options::drain_timeout`]) and ends the engine's one
/// thread.
///
/// It belongs to the process that started it. A child that this process forks (and that does not run
/// another program, which inherits nothing) has a copy of it without its thread, and with sockets that are
/// the parent's: there, receiving fails with [`RecvError`](crate::RecvError) and no group can be made;
/// closing and dropping do nothing, and so leave the parent's connections and socket files alone.
/// Posting is not checked, for the sake of its cost, and must not be done. Start a new engine in the
/// child.
///
/// ```
/// use tofu::{Engine, Options};
///
/// let engine = Engine::new(Options::default())?;
/// let mut group = engine.group()?;
/// drop(engine);
/// assert!(group.try_recv()?.is_none()); // the group keeps it alive
/// drop(group); // the engine ends here
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Engine {
    handle: Arc<Handle>,
}

/// What keeps an engine alive: its handles and its groups have one.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    /// None in a simulation, which has no threads, and in which nothing may wait.
    keeper: Option<JoinHandle<()>>,
}

/// The groups of an engine that shuts down.
pub(crate) type Leaving = Vec<Arc<Group>>;

/// What all threads of an engine share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) timeouts: Arc<Timeouts>,
    pub(crate) clock: Clock,
    pub(crate) network: Network,
    pub(crate) pool: Arc<Pool>,
    /// Where the messages come from that applications ask for.
    shelf: Arc<Shelf>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) channels: Channels,
    pub(crate) half_open: AtomicUsize,
    pub(crate) counters: Counters,
    pub(crate) resolver: Resolver,
    pub(crate) keeper: Keeper,
    groups: Mutex<Groups>,
    group_finished: Condvar,
    /// The process in which the keeper runs.
    process: u32,
}

#[derive(Debug, Default)]
struct Groups {
    /// Those that have not closed their last channel for good.
    unfinished: BTreeMap<GroupId, Arc<Group>>,
    started: GroupId,
    shutting_down: bool,
}

impl Engine {
    /// Starts an engine.
    ///
    /// # Errors
    /// An option that cannot be, or a system that gives no descriptor or thread.
    ///
    /// # Example
    /// ```
    /// use tofu::{Engine, Options};
    ///
    /// assert!(Engine::new(Options::default()).is_ok());
    /// let error = Engine::new(Options::default().channels_max(0)).unwrap_err();
    /// assert_eq!(error.option().map(|wrong| wrong.option()), Some("channels_max"));
    /// ```
    pub fn new(options: Options) -> Result<Self, StartError> {
        Self::start(options, Network::System, Clock::default())
    }

    fn start(options: Options, network: Network, clock: Clock) -> Result<Self, StartError> {
        let (shared, poller) = Shared::new(options, network, clock)?;
        let keeper = keeper::start(Arc::clone(&shared), poller)?;
        let keeper = Some(keeper);
        Ok(Self {
            handle: Arc::new(Handle { shared, keeper }),
        })
    }

    /// Starts an engine whose network and clock are simulated, and whose keeper is a thread.
    #[cfg(feature = "simulation")]
    pub(crate) fn threaded(
        options: Options,
        system: &Arc<dyn crate::simulation::System>,
    ) -> Result<Self, StartError> {
        let network = Network::Simulated(Arc::clone(system));
        Self::start(options, network, Clock::simulated(Arc::clone(system)))
    }

    /// Starts an engine whose network, clock and keeper are simulated.
    #[cfg(feature = "simulation")]
    pub(crate) fn simulated(
        options: Options,
        system: &Arc<dyn crate::simulation::System>,
    ) -> Result<(Self, keeper::Rounds), StartError> {
        let network = Network::Simulated(Arc::clone(system));
        let clock = Clock::simulated(Arc::clone(system));
        let (shared, poller) = Shared::new(options, network, clock)?;
        let rounds = keeper::Rounds::new(Arc::clone(&shared), poller)?;
        let keeper = None;
        let engine = Self {
            handle: Arc::new(Handle { shared, keeper }),
        };
        Ok((engine, rounds))
    }

    /// Makes a group, which sends and receives over channels of its own.
    ///
    /// # Errors
    /// The engine is shutting down, or is another process's (see [`Engine`]), or the system gives no
    /// descriptor.
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    /// use tofu::{Engine, Options};
    ///
    /// let engine = Engine::new(Options::default())?;
    /// let (server, client) = (engine.group()?, engine.group()?);
    /// assert_eq!(engine.metrics().channels_open, 0); // they have none yet
    /// # drop((server, client));
    ///
    /// engine.shutdown(Duration::from_secs(1));
    /// assert!(engine.group().is_err());
    /// # Ok::<(), tofu::StartError>(())
    /// ```
    pub fn group(&self) -> Result<ChannelGroup, StartError> {
        let group = self.handle.shared.add_group()?;
        Ok(ChannelGroup::new(group, Arc::clone(&self.handle)))
    }

    /// An empty message with memory from the pool, or with memory of its own when all of the pool is
    /// out. Complete it with [`with_op_code`](Message::with_op_code),
    /// [`with_channel`](Message::with_channel) and so on. It counts as out of the pool until it has
    /// left, or is dropped. Who posts much makes messages with [`ChannelGroup::request`] and its like, which
    /// use this thread's own memory again.
    ///
    /// ```
    /// use tofu::{Engine, Options};
    ///
    /// let engine = Engine::new(Options::default().pool_messages(1, 1))?;
    /// let (of_the_pool, _of_its_own) = (engine.message(), engine.message());
    /// assert_eq!(engine.metrics().pool_messages_out, 1);
    /// drop(of_the_pool);
    /// assert_eq!(engine.metrics().pool_messages_out, 0);
    /// # Ok::<(), tofu::StartError>(())
    /// ```
    pub fn message(&self) -> Message {
        self.handle.shared.shelf.message()
    }

    /// An empty message from the pool, unless all of it is out.
    ///
    /// ```
    /// use tofu::{Engine, Options};
    ///
    /// let engine = Engine::new(Options::default().pool_messages(1, 1))?;
    /// let message = engine.try_message();
    /// assert!(message.is_some());
    /// assert!(engine.try_message().is_none()); // all of the pool is out
    /// # Ok::<(), tofu::StartError>(())
    /// ```
    pub fn try_message(&self) -> Option<Message> {
        self.handle.shared.shelf.try_message()
    }

    /// What the engine has counted, and its present levels.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tofu::{Engine, Message, Options};
    ///
    /// let engine = Engine::new(Options::default())?;
    /// let mut group = engine.group()?;
    /// let welcome = Message::welcome_request(&"tcp://127.0.0.1:0".parse()?);
    /// group.call(welcome, Duration::from_secs(5))?;
    /// assert_eq!(engine.metrics().channels_open, 1); // the listener
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn metrics(&self) -> Metrics {
        let shared = &self.handle.shared;
        Metrics {
            channels_open: shared.channels.count(),
            half_open: shared.half_open.load(Ordering::Relaxed),
            pool_messages_out: shared.pool.out(),
            queued_bytes: shared.budget.used(),
            ..shared.counters.read()
        }
    }

    /// Ends all groups gracefully: says bye on every channel, answers every bye, and waits at most
    /// `timeout` for the peers to do their part: their applications have to answer the byes. Every thread that waits in `recv` is woken with an
    /// error, nothing can be posted any more, and no new group can be made.
    ///
    /// The report says what could not be delivered and what nobody has read.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tofu::{Engine, Message, Options};
    ///
    /// let engine = Engine::new(Options::default())?;
    /// let mut group = engine.group()?;
    /// let welcome = Message::welcome_request(&"tcp://127.0.0.1:0".parse()?);
    /// group.call(welcome, Duration::from_secs(5))?;
    ///
    /// let report = engine.shutdown(Duration::from_secs(5));
    /// assert!(report.is_clean());
    /// assert_eq!(report.closed.len(), 1); // the listener
    /// assert!(group.recv().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown(&self, timeout: Duration) -> CloseReport {
        if self.handle.shared.is_inherited() {
            return CloseReport::default();
        }
        let groups = self.start_to_shut_down(timeout);
        let shared = &self.handle.shared;
        shared.wait_until_finished(timeout.saturating_add(GRACE));
        report_of(&groups)
    }

    pub(crate) fn start_to_shut_down(&self, timeout: Duration) -> Leaving {
        let shared = &self.handle.shared;
        let groups: Leaving = {
            let mut groups = shared.groups();
            groups.shutting_down = true;
            groups.unfinished.values().cloned().collect()
        };
        let until = shared.clock.now() + timeout;
        for group in &groups {
            group.retire(Mode::Leaving(until));
        }
        groups
    }

    #[cfg(feature = "simulation")]
    pub(crate) fn has_shut_down(&self) -> bool {
        self.handle.shared.groups().unfinished.is_empty()
    }
}

/// What could not be delivered and what nobody has read in groups that have left.
pub(crate) fn report_of(groups: &Leaving) -> CloseReport {
    let mut report = CloseReport::default();
    for group in groups {
        // Where somebody drives, `close` is at it, and has a report of its own.
        if let Some(mut driver) = group.seat.try_take() {
            report.add(driver.inbox());
            group.leave(driver, 0);
        }
    }
    report
}

impl Shared {
    /// An engine without its keeper, and the poller for that.
    pub(crate) fn new(
        options: Options,
        network: Network,
        clock: Clock,
    ) -> Result<(Arc<Self>, Poller), StartError> {
        options.check()?;
        let (keeper, poller) = Keeper::new(&network)?;
        let pool = Pool::new(options.pool_messages_initial, options.pool_messages_max);
        let shared = Arc::new(Self {
            timeouts: Arc::new(options.timeouts),
            clock,
            network,
            shelf: Shelf::new(&pool),
            pool,
            budget: Budget::new(options.engine_queue_bytes_max),
            channels: Channels::new(options.channels_max),
            half_open: AtomicUsize::new(0),
            counters: Counters::default(),
            resolver: Resolver::default(),
            keeper,
            groups: Mutex::default(),
            group_finished: Condvar::new(),
            process: process::id(),
            options,
        });
        Ok((shared, poller))
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process is a child of the engine's, forked from it: nobody keeps the engine here. Asks
    /// the system.
    pub(crate) fn is_inherited(&self) -> bool {
        self.process != process::id()
    }

    pub(crate) fn add_group(self: &Arc<Self>) -> Result<Arc<Group>, StartError> {
        if self.is_inherited() {
            return Err(StartError(Problem::Inherited(self.process)));
        }
        let mut groups = self.groups();
        if groups.shutting_down {
            return Err(StartError(Problem::ShuttingDown));
        }
        let id = groups.started;
        let group = Arc::new(Group::new(id, Arc::clone(self))?);
        groups.started += 1;
        groups.unfinished.insert(id, Arc::clone(&group));
        drop(groups);
        self.keeper.adopt(Arc::clone(&group));
        Ok(group)
    }

    pub(crate) fn group(&self, id: GroupId) -> Option<Arc<Group>> {
        self.groups().unfinished.get(&id).cloned()
    }

    /// A group has closed its last channel for good.
    pub(crate) fn finished(&self, id: GroupId) {
        let finished = self.groups().unfinished.remove(&id);
        if let Some(group) = finished {
            self.pool.leave_line(&group);
        }
        self.group_finished.notify_all();
    }

    /// Each of them holds the engine.
    #[cfg(feature = "simulation")]
    pub(crate) fn forget_groups(&self) {
        let groups = mem::take(&mut self.groups().unfinished);
        drop(groups);
    }

    fn wait_until_finished(&self, timeout: Duration) {
        let waited = self
            .group_finished
            .wait_timeout_while(self.groups(), timeout, |groups| {
                !groups.unfinished.is_empty()
            });
        drop(waited);
    }
}

/// The next id of the sequence that the whole process has (PROTOCOL.md section 1). Each thread takes some
/// at a time, so that threads that post do not wait for each other.
#[inline]
pub(crate) fn next_message_id() -> MessageId {
    const TAKEN: u64 = 64;
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static OURS: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
    }
    OURS.with(|ours| {
        let (mut next, mut end) = ours.get();
        if next == end {
            next = NEXT.fetch_add(TAKEN, Ordering::Relaxed);
            end = next + TAKEN;
        }
        ours.set((next + 1, end));
        MessageId::new(next)
    })
}

/// All groups are dropped by now, and drain.
impl Drop for Handle {
    fn drop(&mut self) {
        if self.shared.is_inherited() {
            // There is no such thread here, whatever the handle says.
            if let Some(keeper) = self.keeper.take() {
                forget(keeper);
            }
            return;
        }
        let Some(keeper) = self.keeper.take() else {
            return;
        };
        self.shared.keeper.stop();
        // A task that was woken there may have had the last handle: the keeper goes on when that returns.
        if keeper.thread().id() != thread::current().id() {
            // A keeper that panicked has said so on standard error.
            let _ = keeper.join();
        }
    }
}

#[expect(
    clippy::mem_forget,
    reason = "the system must not be asked to let go of a thread that it does not know"
)]
fn forget(keeper: JoinHandle<()>) {
    mem::forget(keeper);
}

/// The engine's time, which its connections count from its start.
#[derive(Debug)]
pub(crate) struct Clock {
    origin: StdInstant,
    #[cfg(feature = "simulation")]
    system: Option<Arc<dyn crate::simulation::System>>,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            origin: StdInstant::now(),
            #[cfg(feature = "simulation")]
            system: None,
        }
    }
}

impl Clock {
    #[cfg(feature = "simulation")]
    fn simulated(system: Arc<dyn crate::simulation::System>) -> Self {
        Self {
            system: Some(system),
            ..Self::default()
        }
    }

    pub(crate) fn now(&self) -> Instant {
        #[cfg(feature = "simulation")]
        if let Some(system) = &self.system {
            return crate::simulation::time_of(&**system);
        }
        Instant::ORIGIN + self.origin.elapsed()
    }
}

/// An engine or a group that could not start.
///
/// ```
/// use tofu::{Engine, Options};
///
/// let error = Engine::new(Options::default().half_open_max(0)).unwrap_err();
/// assert_eq!(error.to_string(), "option `half_open_max`: it is 0, it must be at least 1");
/// ```
#[derive(Debug)]
pub struct StartError(Problem);

#[derive(Debug)]
enum Problem {
    Option(OptionError),
    System(io::Error),
    ShuttingDown,
    /// The engine of this process, which forked this one.
    Inherited(u32),
}

impl StartError {
    /// The option that cannot be, if it is one.
    ///
    /// ```
    /// use tofu::{Engine, Options};
    ///
    /// let error = Engine::new(Options::default().half_open_max(0)).unwrap_err();
    /// let wrong = error.option().expect("it is an option");
    /// assert_eq!(wrong.option(), "half_open_max");
    /// ```
    pub fn option(&self) -> Option<&OptionError> {
        match &self.0 {
            Problem::Option(error) => Some(error),
            Problem::System(_) | Problem::ShuttingDown | Problem::Inherited(_) => None,
        }
    }
}

impl From<OptionError> for StartError {
    fn from(error: OptionError) -> Self {
        Self(Problem::Option(error))
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self(Problem::System(error))
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Problem::Option(error) => error.fmt(f),
            Problem::System(error) => {
                write!(f, "the system refuses a descriptor or thread: {error}")
            }
            Problem::ShuttingDown => f.write_str("the engine is shutting down"),
            Problem::Inherited(process) => write!(
                f,
                "the engine is that of process {process}, which forked this one: start another here"
            ),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Problem::Option(error) => Some(error),
            Problem::System(error) => Some(error),
            Problem::ShuttingDown | Problem::Inherited(_) => None,
        }
    }
}
