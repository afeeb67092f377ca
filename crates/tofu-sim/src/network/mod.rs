//! The system that all engines of a world run on: sockets, pollers, the network between them, and time.
//!
//! It does what Linux does, as far as an engine can tell: edge-triggered pollers that nest, socket buffers
//! that fill, resets that throw away what was still to leave. A descriptor is never given out twice, and what
//! is known of a stream outlives it, for the ledger to look up.

mod pollers;
mod sockets;
mod travel;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::{self, IoSlice},
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tofu::{
    Address, ChannelNumber, Status,
    simulation::{Descriptor, Endpoint, Ready, System},
};

use crate::{Faults, Random};

/// The first port that is given out where 0 was asked for.
const FREE_PORT: u16 = 40_000;

/// All systems and what is between them.
#[derive(Debug)]
pub(crate) struct Network {
    state: Mutex<State>,
}

/// The system of one process.
#[derive(Debug)]
pub(crate) struct Process {
    network: Arc<Network>,
    host: usize,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) now: Duration,
    pub(crate) faults: Faults,
    random: Random,
    nodes: Vec<Node>,
    /// Streams that something may still happen to.
    live: Vec<Descriptor>,
    listeners: BTreeMap<Endpoint, Descriptor>,
    dead: Vec<bool>,
    /// In whose place each process is, which decides its address.
    places: Vec<usize>,
    next_port: u16,
    pub(crate) carried: Carried,
    /// The stream of each channel.
    channels: BTreeMap<(usize, ChannelNumber), Descriptor>,
    /// What was denied to each host before there was a socket, and how often.
    denied: BTreeMap<(usize, Status), usize>,
    /// How often each host has written, and there was room or an error.
    writes: Vec<usize>,
    /// What happened, for the trace.
    pub(crate) happened: Option<Vec<String>>,
}

/// Bytes that were read and written, on all streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) read: usize,
    pub(crate) written: usize,
}

#[derive(Debug)]
enum Node {
    Poller(Poller),
    Listener(Listener),
    Stream(Box<Stream>),
    Closed,
}

#[derive(Debug, Default)]
struct Poller {
    registered: BTreeMap<Descriptor, (usize, bool)>,
    /// Pollers among them that are not heard for now.
    muted: BTreeSet<Descriptor>,
    /// In the order in which they became ready.
    ready: Vec<Descriptor>,
    woken: Vec<usize>,
    ready_since: Option<Duration>,
    outer: Option<Descriptor>,
}

#[derive(Debug)]
struct Listener {
    host: usize,
    endpoint: Endpoint,
    backlog: VecDeque<Descriptor>,
    backlog_max: usize,
    poller: Option<Descriptor>,
    /// How often accepting a connection gave one, or said that there is no descriptor for it.
    answers: usize,
}

/// What is known of a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backlog {
    pub(crate) waiting: usize,
    pub(crate) answers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting {
        at: Duration,
    },
    Failed(io::ErrorKind),
    Open,
    /// A reset has reached it.
    Reset,
}

/// One end of a connection.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts about a socket, each of which may be true on its own"
)]
struct Stream {
    host: usize,
    /// The channel that its engine has for it.
    end: Option<(usize, ChannelNumber)>,
    to: Endpoint,
    peer: Option<Descriptor>,
    phase: Phase,
    poller: Option<Descriptor>,
    /// Written, and not arrived at the peer.
    leaving: VecDeque<u8>,
    /// When some of it travels on.
    carries_at: Option<Duration>,
    stalled_until: Duration,
    /// Arrived, and not read.
    arrived: VecDeque<u8>,
    /// The peer's direction has ended, behind what has arrived.
    peer_ended: bool,
    /// When a reset arrives.
    reset_at: Option<Duration>,
    /// Our direction has ended.
    is_shut: bool,
    /// The peer has been told so.
    end_arrived: bool,
    lingers: bool,
    wants_room: bool,
    is_closed: bool,
    tally: Tally,
}

/// What is known of one end of a connection, also when it is gone.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts about a socket, each of which may be true on its own"
)]
pub(crate) struct Tally {
    pub(crate) written: usize,
    pub(crate) read: usize,
    /// What had arrived and was not read when it was closed.
    pub(crate) unread: usize,
    /// When bytes were last written or read here.
    pub(crate) moved: Duration,
    /// When bytes were last read.
    pub(crate) read_at: Duration,
    /// A fault broke it: a reset in the middle, an early end, a crash.
    pub(crate) is_disturbed: bool,
    /// It can be written now.
    pub(crate) takes_bytes: bool,
    /// There is something to read now.
    pub(crate) has_bytes: bool,
    pub(crate) is_closed: bool,
    pub(crate) is_shut: bool,
    /// When it was last written, there was not room for all.
    pub(crate) was_full: bool,
    /// It has had a peer.
    pub(crate) has_connected: bool,
    /// How connecting failed, or that a reset has reached it.
    pub(crate) failed: Option<io::ErrorKind>,
}

fn would_block<T>() -> io::Result<T> {
    Err(io::ErrorKind::WouldBlock.into())
}

impl Stream {
    fn new(host: usize, to: Endpoint, phase: Phase) -> Self {
        Self {
            host,
            end: None,
            to,
            peer: None,
            phase,
            poller: None,
            leaving: VecDeque::new(),
            carries_at: None,
            stalled_until: Duration::ZERO,
            arrived: VecDeque::new(),
            peer_ended: false,
            reset_at: None,
            is_shut: false,
            end_arrived: false,
            lingers: false,
            wants_room: false,
            is_closed: false,
            tally: Tally::default(),
        }
    }

    fn is_uds(&self) -> bool {
        matches!(self.to, Endpoint::Uds(_))
    }

    fn has_to_carry(&self) -> bool {
        !self.leaving.is_empty() || (self.is_shut && !self.end_arrived)
    }

    fn is_over(&self) -> bool {
        self.peer_ended || matches!(self.phase, Phase::Reset | Phase::Failed(_))
    }

    fn is_readable(&self) -> bool {
        !self.arrived.is_empty() || self.is_over()
    }

    fn is_writable(&self, buffer_max: usize) -> bool {
        match self.phase {
            Phase::Connecting { .. } => false,
            Phase::Failed(_) | Phase::Reset => true,
            Phase::Open => self.is_shut || self.leaving.len() <= buffer_max * 2 / 3,
        }
    }
}

impl Network {
    pub(crate) fn new(seed: u64, faults: Faults) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                now: Duration::ZERO,
                faults,
                random: Random::new(seed ^ 0x0E7),
                nodes: Vec::new(),
                live: Vec::new(),
                listeners: BTreeMap::new(),
                dead: Vec::new(),
                places: Vec::new(),
                next_port: FREE_PORT,
                carried: Carried::default(),
                channels: BTreeMap::new(),
                denied: BTreeMap::new(),
                writes: Vec::new(),
                happened: None,
            }),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A system for one more process, in the place of one that is dead or in a place of its own.
    pub(crate) fn process(self: &Arc<Self>, place: Option<usize>) -> Arc<dyn System> {
        let mut state = self.state();
        let host = state.dead.len();
        let place = place.map_or(host, |dead| state.places[dead]);
        state.dead.push(false);
        state.places.push(place);
        state.writes.push(0);
        drop(state);
        Arc::new(Process {
            network: Arc::clone(self),
            host,
        })
    }
}

/// The address of a place.
fn ip_of(place: usize) -> IpAddr {
    let host = u16::try_from(place + 1).unwrap_or(u16::MAX).to_be_bytes();
    Ipv4Addr::new(10, 0, host[0], host[1]).into()
}

/// What the scheduler and the ledger ask.
impl State {
    /// The address of a process.
    pub(crate) fn ip(&self, host: usize) -> IpAddr {
        ip_of(self.places[host])
    }

    /// Since when there is something for whoever waits at this poller.
    pub(crate) fn ready_since(&self, poller: Descriptor) -> Option<Duration> {
        match &self.nodes[poller.0] {
            Node::Poller(poller) => poller.ready_since,
            _ => None,
        }
    }

    /// When something happens by itself.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.live.iter().filter_map(|&at| self.due_of(at)).min()
    }

    fn due_of(&self, descriptor: Descriptor) -> Option<Duration> {
        let Node::Stream(stream) = &self.nodes[descriptor.0] else {
            return None;
        };
        let connects = match stream.phase {
            Phase::Connecting { at } if !stream.is_closed => Some(at),
            _ => None,
        };
        [stream.carries_at, stream.reset_at, connects]
            .into_iter()
            .flatten()
            .min()
    }

    /// What is known of the stream of a channel, and the channel at its other end.
    pub(crate) fn tally(&self, host: usize, channel: ChannelNumber) -> Option<Tally> {
        let stream = self.stream_of(host, channel)?;
        Some(Tally {
            takes_bytes: stream.phase == Phase::Open
                && !stream.is_shut
                && stream.is_writable(self.faults.buffer_max)
                && !self.is_blocked_uds(stream),
            has_bytes: !stream.arrived.is_empty(),
            is_closed: stream.is_closed,
            is_shut: stream.is_shut,
            has_connected: stream.peer.is_some(),
            failed: match stream.phase {
                Phase::Failed(kind) => Some(kind),
                Phase::Reset => Some(io::ErrorKind::ConnectionReset),
                Phase::Connecting { .. } | Phase::Open => None,
            },
            ..stream.tally
        })
    }

    fn is_blocked_uds(&self, stream: &Stream) -> bool {
        stream.is_uds()
            && stream.peer.is_none_or(|peer| match &self.nodes[peer.0] {
                Node::Stream(peer) => peer.is_closed || stream.wants_room,
                _ => false,
            })
    }

    /// All channels and listeners that this host ever had.
    pub(crate) fn channels_of(&self, host: usize) -> impl Iterator<Item = ChannelNumber> {
        let from = self.channels.range((host, ChannelNumber::UNASSIGNED)..);
        from.map(|(name, _)| *name)
            .take_while(move |name| name.0 == host)
            .map(|(_, channel)| channel)
    }

    /// What waits at the listener of a channel, while it is open.
    pub(crate) fn backlog(&self, host: usize, channel: ChannelNumber) -> Option<Backlog> {
        self.listener_of(host, channel).map(|listener| Backlog {
            waiting: listener.backlog.len(),
            answers: listener.answers,
        })
    }

    /// Where the listener of a channel listens, while it is open.
    pub(crate) fn listens_at(&self, host: usize, channel: ChannelNumber) -> Option<Address> {
        match &self.listener_of(host, channel)?.endpoint {
            Endpoint::Tcp(at) => Address::tcp(at.ip().to_string(), at.port()).ok(),
            Endpoint::Uds(path) => Address::uds(path).ok(),
        }
    }

    fn listener_of(&self, host: usize, channel: ChannelNumber) -> Option<&Listener> {
        let descriptor = self.channels.get(&(host, channel))?;
        match &self.nodes[descriptor.0] {
            Node::Listener(listener) => Some(listener),
            _ => None,
        }
    }

    /// How often something was denied to a host before there was a socket.
    pub(crate) fn denied(&self, host: usize, status: Status) -> usize {
        self.denied.get(&(host, status)).copied().unwrap_or(0)
    }

    fn deny(&mut self, host: usize, status: Status) {
        *self.denied.entry((host, status)).or_default() += 1;
    }

    /// How often this host has written, and there was room or an error.
    pub(crate) fn writes(&self, host: usize) -> usize {
        self.writes[host]
    }

    fn stream_of(&self, host: usize, channel: ChannelNumber) -> Option<&Stream> {
        let descriptor = self.channels.get(&(host, channel))?;
        match &self.nodes[descriptor.0] {
            Node::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    /// The host and channel at the other end of a channel.
    pub(crate) fn other_end(
        &self,
        host: usize,
        channel: ChannelNumber,
    ) -> Option<(usize, ChannelNumber)> {
        let peer = self.stream_of(host, channel)?.peer?;
        match &self.nodes[peer.0] {
            Node::Stream(peer) => peer.end,
            _ => None,
        }
    }

    /// Whether there is something for the trace.
    pub(crate) fn has_happened(&self) -> bool {
        self.happened.as_ref().is_some_and(|it| !it.is_empty())
    }

    pub(crate) fn note(&mut self, told: impl FnOnce() -> String) {
        if let Some(happened) = &mut self.happened {
            happened.push(told());
        }
    }
}

impl System for Process {
    fn now(&self) -> Duration {
        self.network.state().now
    }

    fn open_poller(&self) -> Descriptor {
        self.network.state().add(Node::Poller(Poller::default()))
    }

    fn register(&self, poller: Descriptor, what: Descriptor, token: usize, on_writable: bool) {
        let mut state = self.network.state();
        state.register(poller, what, token, on_writable);
    }

    fn mute(&self, poller: Descriptor, what: Descriptor) {
        self.network.state().mute(poller, what);
    }

    fn deregister(&self, poller: Descriptor, what: Descriptor) {
        self.network.state().deregister(poller, what);
    }

    fn wake(&self, poller: Descriptor, token: usize) {
        let mut state = self.network.state();
        if let Node::Poller(poller) = &mut state.nodes[poller.0]
            && !poller.woken.contains(&token)
        {
            poller.woken.push(token);
        }
        state.tell(poller, None);
    }

    fn poll(&self, poller: Descriptor, _: Option<Duration>) -> Vec<Ready> {
        self.network.state().poll(poller)
    }

    fn connect(&self, to: &Endpoint) -> io::Result<Descriptor> {
        self.network.state().connect(self.host, to)
    }

    fn finish_connect(&self, stream: Descriptor) -> io::Result<bool> {
        match self.network.state().stream(stream) {
            Some(stream) => match stream.phase {
                Phase::Connecting { .. } => Ok(false),
                Phase::Failed(kind) => Err(kind.into()),
                Phase::Open => Ok(true),
                Phase::Reset => Err(io::ErrorKind::ConnectionReset.into()),
            },
            None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn listen(&self, at: &Endpoint, backlog: usize) -> io::Result<(Descriptor, Endpoint)> {
        self.network.state().listen(self.host, at, backlog)
    }

    fn accept(&self, listener: Descriptor) -> io::Result<Descriptor> {
        self.network.state().accept(listener)
    }

    /// Hosts are named by their numbers: `host-0`, `host-1` and so on.
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let number = host.strip_prefix("host-").and_then(|it| it.parse().ok());
        let Some(number) = number else {
            let mut state = self.network.state();
            state.deny(self.host, Status::NAME_NOT_RESOLVED);
            return Err(io::ErrorKind::NotFound.into());
        };
        Ok(vec![ip_of(number)])
    }

    fn read(&self, stream: Descriptor, buffer: &mut [u8]) -> io::Result<usize> {
        self.network.state().read(stream, buffer)
    }

    fn write(&self, stream: Descriptor, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.network.state();
        let written = state.write(stream, slices);
        // One that fails for good gives its message back as well.
        let is_full = matches!(&written, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        state.writes[self.host] += usize::from(!is_full);
        written
    }

    fn shutdown_write(&self, stream: Descriptor) {
        self.network.state().shutdown_write(stream);
    }

    fn linger(&self, stream: Descriptor) {
        if let Some(stream) = self.network.state().stream(stream) {
            stream.lingers = true;
        }
    }

    fn close(&self, what: Descriptor) {
        self.network.state().close(what);
    }
}
