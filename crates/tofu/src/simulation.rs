//! Engines in a simulated system: feature `simulation`, for simulators and not for applications.
//!
//! An engine made [here](engine) has no sockets, no thread and no clock of its own. All that an operating
//! system does for an engine, a [`System`] does for it, and its keeper makes a [round](Keeper::turn) when
//! it is told to. So one thread can run any number of engines, in whatever order and with whatever faults,
//! and again in exactly the same way. The simulator `tofu-sim` in tofu's repository does that.
//!
//! Nothing here is covered by semantic versioning.
//!
//! In a simulated engine nothing may wait: use [`try_recv`](ChannelGroup::try_recv),
//! [`poll_recv`](ChannelGroup::poll_recv), [`try_recv_many`], [`close`] and [`shutdown`].

use std::{
    fmt,
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tofu_proto::{ChannelNumber, Instant};

use crate::{
    ChannelGroup, CloseReport, Engine, Event, Options, RecvError, StartError, channel_group,
    engine, keeper::Rounds,
};

/// Names what a system has given out: a poller, a listener or a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Descriptor(pub usize);

/// Where to connect or listen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// A TCP address. Port 0, to listen, is any free one; the unspecified address is every interface.
    Tcp(SocketAddr),
    /// The path of a Unix domain socket.
    Uds(String),
}

/// What a poller found ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The token under which it was registered, or woken.
    pub token: usize,
    /// There are bytes to read or connections to accept, or the end of the stream.
    pub readable: bool,
    /// There is room to write, or the stream broke.
    pub writable: bool,
    /// The end of the stream has arrived, or it broke.
    pub ends: bool,
}

/// What an operating system does for an engine. Nothing but [`poll`](Self::poll) may wait: what cannot be done now is
/// [`WouldBlock`](io::ErrorKind::WouldBlock), as with sockets that do not block.
///
/// Pollers are edge-triggered, as mio's: what is ready is told once, and again when more of it comes, or
/// when it is registered again.
pub trait System: fmt::Debug + Send + Sync {
    /// The time since the system started.
    fn now(&self) -> Duration;

    /// A new poller.
    fn open_poller(&self) -> Descriptor;
    /// Waits at this poller for a stream, a listener or another poller to become ready, `on_writable` also
    /// for a stream that can be written. What was registered before is registered anew.
    fn register(&self, poller: Descriptor, what: Descriptor, token: usize, on_writable: bool);
    /// Hears nothing of it until it is registered anew. Only pollers are muted.
    fn mute(&self, poller: Descriptor, what: Descriptor);
    /// Waits for it no more.
    fn deregister(&self, poller: Descriptor, what: Descriptor);
    /// Makes the poller ready, with this token.
    fn wake(&self, poller: Descriptor, token: usize);
    /// What has become ready at this poller since it was last asked. A system whose engines share one thread does not
    /// wait for it; one with a thread for each may, for as long as told (`None`: until there is something).
    fn poll(&self, poller: Descriptor, patience: Option<Duration>) -> Vec<Ready>;

    /// Starts to connect.
    ///
    /// # Errors
    /// It cannot even be tried.
    fn connect(&self, to: &Endpoint) -> io::Result<Descriptor>;
    /// Whether the stream is connected by now.
    ///
    /// # Errors
    /// It will never be.
    fn finish_connect(&self, stream: Descriptor) -> io::Result<bool>;
    /// Listens, and says where really.
    ///
    /// # Errors
    /// Such as somebody else who listens there.
    fn listen(&self, at: &Endpoint, backlog: usize) -> io::Result<(Descriptor, Endpoint)>;
    /// The next connection.
    ///
    /// # Errors
    /// There is none now, or no descriptor for it.
    fn accept(&self, listener: Descriptor) -> io::Result<Descriptor>;
    /// The addresses of a host.
    ///
    /// # Errors
    /// It has none.
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;

    /// Reads what there is, up to the length of `buffer`; 0 is the end of the stream.
    ///
    /// # Errors
    /// There is nothing now, or the stream broke.
    fn read(&self, stream: Descriptor, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes what fits.
    ///
    /// # Errors
    /// Nothing fits now, or the stream broke.
    fn write(&self, stream: Descriptor, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Ends our direction of the stream, behind what was written.
    fn shutdown_write(&self, stream: Descriptor);
    /// When the stream is closed, what was written goes on to the peer. Else closing is a reset.
    fn linger(&self, stream: Descriptor);
    /// Gives it back.
    fn close(&self, what: Descriptor);
}

/// An engine's keeper, which in a simulation is not a thread. Without it, nothing happens in groups whose
/// application does not receive.
pub struct Keeper(Rounds);

/// Starts an engine in a simulated system.
///
/// # Errors
/// An option that cannot be. [`Options::busy_poll`] is taken to be zero.
pub fn engine(options: Options, system: &Arc<dyn System>) -> Result<(Engine, Keeper), StartError> {
    let (engine, rounds) = Engine::simulated(options.busy_poll(Duration::ZERO), system)?;
    Ok((engine, Keeper(rounds)))
}

/// Starts an engine in a simulated system whose [`poll`](System::poll) waits: its keeper is a thread, as it is outside
/// of simulations.
///
/// # Errors
/// An option that cannot be. [`Options::busy_poll`] is taken to be zero.
pub fn threaded_engine(options: Options, system: &Arc<dyn System>) -> Result<Engine, StartError> {
    Engine::threaded(options.busy_poll(Duration::ZERO), system)
}

impl Keeper {
    /// One round: sees to all that needs it. `false` says that the engine has ended.
    pub fn turn(&mut self) -> bool {
        self.0.walk(Some(Duration::ZERO))
    }

    /// In how much time it wants to make the next round, if its poller is not ready before.
    pub fn patience(&self) -> Option<Duration> {
        self.0.patience()
    }

    /// Its poller.
    pub fn poller(&self) -> Descriptor {
        self.0.poller()
    }
}

/// A process that is killed takes everything with it, however far its groups have got.
impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

/// The channel for which an engine has registered a stream or a listener under this token.
pub fn channel_of(token: usize) -> ChannelNumber {
    crate::group::number_of(mio::Token(token))
}

/// As [`recv_many`](ChannelGroup::recv_many), but does not wait: there may be no events.
///
/// # Errors
/// As [`recv_many`](ChannelGroup::recv_many).
pub fn try_recv_many(
    group: &mut ChannelGroup,
    events: &mut Vec<Event>,
    max: usize,
) -> Result<usize, RecvError> {
    group.recv_many_until(Some(std::time::Instant::now()), events, max)
}

/// Begins what [`ChannelGroup::close`] does.
pub fn close(group: ChannelGroup, timeout: Duration) -> Closing {
    Closing(group.start_to_close(timeout))
}

/// A group that closes.
#[derive(Debug)]
pub struct Closing(channel_group::Closing);

impl Closing {
    /// Goes on with it, without waiting. The report, once it is closed.
    pub fn turn(&mut self) -> Option<CloseReport> {
        let is_over = !self.0.turn(Some(Duration::ZERO));
        is_over.then(|| self.0.take_report())
    }
}

/// Begins what [`Engine::shutdown`] does.
pub fn shutdown(engine: &Engine, timeout: Duration) -> Shutdown {
    Shutdown {
        groups: engine.start_to_shut_down(timeout),
        engine: engine.clone(),
    }
}

/// An engine that shuts down.
#[derive(Debug)]
pub struct Shutdown {
    groups: engine::Leaving,
    engine: Engine,
}

impl Shutdown {
    /// The report, once all groups have closed.
    pub fn try_finish(&self) -> Option<CloseReport> {
        self.engine
            .has_shut_down()
            .then(|| engine::report_of(&self.groups))
    }
}

/// The time of a simulated system, as an engine's clock tells it.
pub(crate) fn time_of(system: &dyn System) -> Instant {
    Instant::ORIGIN + system.now()
}
