//! The system that all engines of a world run on: sockets, pollers, the network between them, and time.
//!
//! It does what Linux does, as far as an engine can tell: edge-triggered pollers that nest, socket buffers
//! that fill, resets that throw away what was still to leave. A descriptor is never given out twice, and what
//! is known of a stream outlives it, for the ledger to look up.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, IoSlice},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tofu::{
    ChannelNumber,
    simulation::{Descriptor, Endpoint, Ready, System, channel_of},
};

use crate::{Faults, Random};

/// An error that says that there are no descriptors left.
const EMFILE: i32 = 24;
/// When a connection is tried again that found the backlog full.
const SYN_AGAIN: Duration = Duration::from_secs(1);
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
    next_port: u16,
    /// The stream of each channel.
    channels: BTreeMap<(usize, ChannelNumber), Descriptor>,
    /// What happened, for the trace.
    pub(crate) happened: Option<Vec<String>>,
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
                next_port: FREE_PORT,
                channels: BTreeMap::new(),
                happened: None,
            }),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A system for one more process.
    pub(crate) fn process(self: &Arc<Self>) -> Arc<dyn System> {
        let mut state = self.state();
        let host = state.dead.len();
        state.dead.push(false);
        drop(state);
        Arc::new(Process {
            network: Arc::clone(self),
            host,
        })
    }
}

/// The address of a process.
pub(crate) fn ip_of(host: usize) -> IpAddr {
    let host = u16::try_from(host + 1).unwrap_or(u16::MAX).to_be_bytes();
    Ipv4Addr::new(10, 0, host[0], host[1]).into()
}

/// What the scheduler and the ledger ask.
impl State {
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
            ..stream.tally
        })
    }

    fn is_blocked_uds(&self, stream: &Stream) -> bool {
        stream.is_uds()
            && stream.peer.is_none_or(|peer| match &self.nodes[peer.0] {
                Node::Stream(peer) => {
                    peer.is_closed || peer.arrived.len() >= self.faults.buffer_max
                }
                _ => false,
            })
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

    pub(crate) fn note(&mut self, told: impl FnOnce() -> String) {
        if let Some(happened) = &mut self.happened {
            happened.push(told());
        }
    }
}

/// What happens by itself.
impl State {
    fn stream(&mut self, descriptor: Descriptor) -> Option<&mut Stream> {
        match self.nodes.get_mut(descriptor.0) {
            Some(Node::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    fn add(&mut self, node: Node) -> Descriptor {
        let descriptor = Descriptor(self.nodes.len());
        if matches!(node, Node::Stream(_)) {
            self.live.push(descriptor);
        }
        self.nodes.push(node);
        descriptor
    }

    fn delay(&mut self) -> Duration {
        let max = self.faults.delay_max;
        self.random.duration(max)
    }

    /// Lets the next thing happen that is due.
    pub(crate) fn go_on(&mut self) {
        let now = self.now;
        let due: Vec<_> = self
            .live
            .iter()
            .copied()
            .filter(|&at| self.due_of(at).is_some_and(|due| due <= now))
            .collect();
        if due.is_empty() {
            return;
        }
        let descriptor = self.random.pick(&due);
        let Some(stream) = self.stream(descriptor) else {
            return;
        };
        if stream.reset_at.is_some_and(|at| at <= now) {
            stream.reset_at = None;
            self.reset(descriptor);
        } else if matches!(stream.phase, Phase::Connecting { .. }) {
            self.connect_now(descriptor);
        } else {
            stream.carries_at = None;
            self.carry(descriptor);
        }
        if self.nodes.len().is_multiple_of(16) {
            self.forget_the_dead();
        }
    }

    fn forget_the_dead(&mut self) {
        let mut live = std::mem::take(&mut self.live);
        live.retain(|&at| match &self.nodes[at.0] {
            Node::Stream(stream) => !stream.is_closed || self.due_of(at).is_some(),
            _ => false,
        });
        self.live = live;
    }

    fn connect_now(&mut self, descriptor: Descriptor) {
        let (now, refusals) = (self.now, self.faults.refusals);
        let refused = self.random.percent(refusals);
        let Some(stream) = self.stream(descriptor) else {
            return;
        };
        let (to, host) = (stream.to.clone(), stream.host);
        let listener = self.listener_at(&to).filter(|_| !refused);
        let Some(listener) = listener else {
            if let Some(stream) = self.stream(descriptor) {
                stream.phase = Phase::Failed(io::ErrorKind::ConnectionRefused);
                stream.tally.is_disturbed = true;
            }
            self.note(|| format!("host {host} is refused at {to:?}"));
            return self.is_ready(descriptor);
        };
        let Node::Listener(listening) = &self.nodes[listener.0] else {
            return;
        };
        if listening.backlog.len() >= listening.backlog_max {
            if let Some(stream) = self.stream(descriptor) {
                stream.phase = Phase::Connecting {
                    at: now + SYN_AGAIN,
                };
            }
            return;
        }
        self.join(descriptor, listener);
        self.is_ready(descriptor);
    }

    /// Connects a client's stream to one that waits to be accepted.
    fn join(&mut self, client: Descriptor, listener: Descriptor) {
        let Node::Listener(listening) = &self.nodes[listener.0] else {
            return;
        };
        let (server_host, to) = (listening.host, listening.endpoint.clone());
        let mut accepted = Stream::new(server_host, to, Phase::Open);
        accepted.peer = Some(client);
        let accepted = self.add(Node::Stream(Box::new(accepted)));
        if let Some(stream) = self.stream(client) {
            stream.phase = Phase::Open;
            stream.peer = Some(accepted);
            let host = stream.host;
            self.note(|| format!("host {host} connects to host {server_host}"));
        }
        if let Node::Listener(listening) = &mut self.nodes[listener.0] {
            listening.backlog.push_back(accepted);
        }
        self.is_ready(listener);
    }

    fn listener_at(&self, to: &Endpoint) -> Option<Descriptor> {
        self.listeners.get(to).copied()
    }

    /// Some bytes of `from`, or the end of its stream, travel to the peer.
    fn carry(&mut self, from: Descriptor) {
        let now = self.now;
        if self.is_disturbed_now(from) {
            return;
        }
        let (grain, buffer) = (self.faults.grain_max, self.faults.buffer_max);
        let portion = self.random.between(1, grain);
        let next = now + self.delay();
        let Some(stream) = self.stream(from) else {
            return;
        };
        let Some(peer) = stream.peer else {
            return;
        };
        let mut leaving = std::mem::take(&mut stream.leaving);
        let ends = leaving.is_empty() && stream.is_shut;
        let Some(target) = self.stream(peer) else {
            return;
        };
        let mut carried = 0;
        if target.is_closed {
            // Nobody is there any more to take it.
            let is_lost = !leaving.is_empty();
            leaving.clear();
            if is_lost {
                self.send_reset(from);
            }
        } else if matches!(target.phase, Phase::Open) {
            let room = buffer.saturating_sub(target.arrived.len());
            carried = leaving.len().min(portion).min(room);
            target.arrived.extend(leaving.drain(..carried));
            target.peer_ended |= ends;
            if carried > 0 || ends {
                self.is_ready(peer);
            }
        }
        let Some(stream) = self.stream(from) else {
            return;
        };
        stream.leaving = leaving;
        stream.end_arrived |= ends;
        let goes_on = stream.has_to_carry() && (carried > 0 || stream.leaving.is_empty());
        stream.carries_at = goes_on.then_some(next);
        let has_room = stream.leaving.len() <= buffer * 2 / 3;
        if stream.wants_room && has_room {
            stream.wants_room = false;
            self.is_ready(from);
        }
    }

    /// Whether a fault keeps bytes from travelling.
    fn is_disturbed_now(&mut self, from: Descriptor) -> bool {
        let now = self.now;
        let faults = self.faults.clone();
        let stalls = self.random.below(1_000) < faults.stalls;
        let resets = self.random.below(10_000) < faults.resets;
        let ends = self.random.below(10_000) < faults.half_closes;
        let stall = self.random.duration(faults.stall_max);
        let Some(stream) = self.stream(from) else {
            return true;
        };
        if stream.is_uds() {
            return false;
        }
        if stalls {
            stream.stalled_until = now + stall;
            let host = stream.host;
            self.note(|| format!("a stream of host {host} stands still for {stall:?}"));
        } else if resets {
            self.cut(from);
        } else if ends && !stream.is_shut {
            stream.is_shut = true;
            let host = stream.host;
            self.disturb(from);
            self.note(|| format!("host {host}'s direction of a stream ends too early"));
        }
        let Some(stream) = self.stream(from) else {
            return true;
        };
        if stream.stalled_until > now {
            stream.carries_at = Some(stream.stalled_until);
            return true;
        }
        false
    }

    fn disturb(&mut self, descriptor: Descriptor) {
        let peer = self.stream(descriptor).and_then(|stream| {
            stream.tally.is_disturbed = true;
            stream.peer
        });
        if let Some(stream) = peer.and_then(|peer| self.stream(peer)) {
            stream.tally.is_disturbed = true;
        }
    }

    /// Something in the middle resets a stream.
    fn cut(&mut self, descriptor: Descriptor) {
        self.disturb(descriptor);
        let peer = self.stream(descriptor).and_then(|stream| stream.peer);
        self.note(|| "a stream is reset in the middle".to_owned());
        self.send_reset(descriptor);
        if let Some(peer) = peer {
            self.send_reset(peer);
        }
    }

    fn send_reset(&mut self, to: Descriptor) {
        let at = self.now + self.delay();
        if let Some(stream) = self.stream(to)
            && !stream.is_closed
            && stream.phase == Phase::Open
        {
            stream.reset_at = Some(at.max(stream.stalled_until));
        }
    }

    fn reset(&mut self, descriptor: Descriptor) {
        let keeps = self.faults.reset_keeps_unread;
        let Some(stream) = self.stream(descriptor) else {
            return;
        };
        if stream.is_closed || stream.phase != Phase::Open {
            return;
        }
        stream.phase = Phase::Reset;
        stream.leaving.clear();
        stream.carries_at = None;
        if !keeps && !stream.is_uds() {
            stream.arrived.clear();
        }
        let host = stream.host;
        self.note(|| format!("a reset reaches host {host}"));
        self.is_ready(descriptor);
    }

    /// Kills a process: the system closes what it had.
    pub(crate) fn kill(&mut self, host: usize) {
        for index in 0..self.nodes.len() {
            let descriptor = Descriptor(index);
            let is_theirs = match &mut self.nodes[index] {
                Node::Stream(stream) => stream.host == host && !stream.is_closed,
                Node::Listener(listener) => listener.host == host,
                Node::Poller(_) | Node::Closed => false,
            };
            if is_theirs {
                self.disturb(descriptor);
                self.close(descriptor);
            }
        }
        self.dead[host] = true;
    }

    /// From now on nothing goes wrong any more.
    pub(crate) fn calm_down(&mut self) {
        let now = self.now;
        let calm = Faults::none();
        self.faults = Faults {
            grain_max: self.faults.grain_max.max(1_460),
            buffer_max: self.faults.buffer_max,
            reset_keeps_unread: self.faults.reset_keeps_unread,
            ..calm
        };
        for node in &mut self.nodes {
            if let Node::Stream(stream) = node {
                stream.stalled_until = stream.stalled_until.min(now);
                stream.carries_at = stream.carries_at.map(|at| at.min(now));
                stream.reset_at = stream.reset_at.map(|at| at.min(now));
            }
        }
    }
}

/// Pollers.
impl State {
    /// Something changed: whoever waits for it is told.
    fn is_ready(&mut self, descriptor: Descriptor) {
        let poller = match &self.nodes[descriptor.0] {
            Node::Stream(stream) => stream.poller,
            Node::Listener(listener) => listener.poller,
            Node::Poller(poller) => poller.outer,
            Node::Closed => None,
        };
        if let Some(poller) = poller {
            self.tell(poller, Some(descriptor));
        }
    }

    fn tell(&mut self, at: Descriptor, what: Option<Descriptor>) {
        let now = self.now;
        let Node::Poller(poller) = &mut self.nodes[at.0] else {
            return;
        };
        if let Some(what) = what
            && !poller.ready.contains(&what)
        {
            poller.ready.push(what);
        }
        poller.ready_since.get_or_insert(now);
        if let Some(outer) = poller.outer {
            self.tell(outer, Some(at));
        }
    }

    fn readiness(&self, what: Descriptor, on_writable: bool) -> Option<Ready> {
        let (readable, writable, ends) = match &self.nodes[what.0] {
            Node::Stream(stream) => (
                stream.is_readable(),
                stream.is_writable(self.faults.buffer_max)
                    && (stream.peer_ended || !self.is_blocked_uds(stream)),
                stream.is_over(),
            ),
            Node::Listener(listener) => (!listener.backlog.is_empty(), false, false),
            Node::Poller(poller) => {
                let is_ready = !poller.woken.is_empty()
                    || poller.ready.iter().any(|what| {
                        poller
                            .registered
                            .get(what)
                            .is_some_and(|&(_, on)| self.readiness(*what, on).is_some())
                    });
                (is_ready, false, false)
            }
            Node::Closed => return None,
        };
        let writable = writable && (on_writable || ends);
        (readable || writable).then_some(Ready {
            token: 0,
            readable,
            writable,
            ends,
        })
    }

    fn poll(&mut self, at: Descriptor) -> Vec<Ready> {
        let Node::Poller(poller) = &mut self.nodes[at.0] else {
            return Vec::new();
        };
        let mut ready = std::mem::take(&mut poller.ready);
        let woken = std::mem::take(&mut poller.woken);
        poller.ready_since = None;
        let spurious = self.faults.spurious;
        if spurious > 0 && self.random.percent(spurious) {
            self.make_up(at, &mut ready);
        }
        let mut told = Vec::new();
        for what in ready {
            let Node::Poller(poller) = &self.nodes[at.0] else {
                break;
            };
            if let Some(&(token, on_writable)) = poller.registered.get(&what)
                && let Some(ready) = self.readiness(what, on_writable)
            {
                told.push(Ready { token, ..ready });
            }
        }
        told.extend(woken.into_iter().map(|token| Ready {
            token,
            readable: true,
            writable: false,
            ends: false,
        }));
        // In any order.
        for last in (1..told.len()).rev() {
            let other = self.random.below(last + 1);
            told.swap(last, other);
        }
        told
    }

    /// Something that is not ready, or was told already.
    fn make_up(&mut self, at: Descriptor, ready: &mut Vec<Descriptor>) {
        if let Node::Poller(poller) = &self.nodes[at.0] {
            let all: Vec<_> = poller.registered.keys().copied().collect();
            if !all.is_empty() {
                let one = self.random.pick(&all);
                if !ready.contains(&one) {
                    ready.push(one);
                }
            }
        }
    }

    fn register(&mut self, at: Descriptor, what: Descriptor, token: usize, on_writable: bool) {
        if let Node::Poller(poller) = &mut self.nodes[at.0] {
            poller.registered.insert(what, (token, on_writable));
        }
        match &mut self.nodes[what.0] {
            Node::Stream(stream) => {
                stream.poller = Some(at);
                let end = (stream.host, channel_of(token));
                stream.end = Some(end);
                self.channels.insert(end, what);
            }
            Node::Listener(listener) => listener.poller = Some(at),
            Node::Poller(poller) => poller.outer = Some(at),
            Node::Closed => {}
        }
        if self.readiness(what, on_writable).is_some() {
            self.tell(at, Some(what));
        }
    }

    fn deregister(&mut self, at: Descriptor, what: Descriptor) {
        if let Node::Poller(poller) = &mut self.nodes[at.0] {
            poller.registered.remove(&what);
            poller.ready.retain(|ready| *ready != what);
        }
        match &mut self.nodes[what.0] {
            Node::Stream(stream) => stream.poller = None,
            Node::Listener(listener) => listener.poller = None,
            Node::Poller(poller) => poller.outer = None,
            Node::Closed => {}
        }
    }
}

/// Sockets.
impl State {
    fn connect(&mut self, host: usize, to: &Endpoint) -> io::Result<Descriptor> {
        if self.dead[host] {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let descriptors = self.faults.descriptors;
        if self.random.percent(descriptors) {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        if matches!(to, Endpoint::Uds(_)) {
            let Some(listener) = self.listener_at(to) else {
                return Err(io::ErrorKind::ConnectionRefused.into());
            };
            if let Node::Listener(listening) = &self.nodes[listener.0]
                && listening.backlog.len() >= listening.backlog_max
            {
                return would_block();
            }
            let stream = Stream::new(host, to.clone(), Phase::Open);
            let client = self.add(Node::Stream(Box::new(stream)));
            self.join(client, listener);
            return Ok(client);
        }
        let to = match to {
            Endpoint::Tcp(address) if address.ip().is_loopback() => {
                Endpoint::Tcp(SocketAddr::new(ip_of(host), address.port()))
            }
            other => other.clone(),
        };
        let lost = self.faults.lost_connects;
        let at = if self.random.percent(lost) {
            Duration::MAX
        } else {
            self.now + self.delay()
        };
        let phase = Phase::Connecting { at };
        Ok(self.add(Node::Stream(Box::new(Stream::new(host, to, phase)))))
    }

    fn listen(
        &mut self,
        host: usize,
        at: &Endpoint,
        backlog_max: usize,
    ) -> io::Result<(Descriptor, Endpoint)> {
        if self.dead[host] {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let endpoint = match at {
            Endpoint::Tcp(address) => {
                let port = match address.port() {
                    0 => {
                        self.next_port += 1;
                        self.next_port
                    }
                    port => port,
                };
                Endpoint::Tcp(SocketAddr::new(ip_of(host), port))
            }
            other => other.clone(),
        };
        if self.listeners.contains_key(&endpoint) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let listener = self.add(Node::Listener(Listener {
            host,
            endpoint: endpoint.clone(),
            backlog: VecDeque::new(),
            backlog_max,
            poller: None,
        }));
        self.listeners.insert(endpoint.clone(), listener);
        Ok((listener, endpoint))
    }

    fn accept(&mut self, listener: Descriptor) -> io::Result<Descriptor> {
        let descriptors = self.faults.descriptors;
        let is_out = self.random.percent(descriptors);
        let Node::Listener(listening) = &mut self.nodes[listener.0] else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if listening.backlog.is_empty() {
            return would_block();
        }
        if is_out {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        match listening.backlog.pop_front() {
            Some(stream) => Ok(stream),
            None => would_block(),
        }
    }

    fn read(&mut self, descriptor: Descriptor, buffer: &mut [u8]) -> io::Result<usize> {
        let (now, next) = (self.now, self.now + self.delay());
        let Some(stream) = self.stream(descriptor) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let count = stream.arrived.len().min(buffer.len());
        if count == 0 {
            return match stream.phase {
                Phase::Reset => Err(io::ErrorKind::ConnectionReset.into()),
                Phase::Failed(kind) => Err(kind.into()),
                _ if stream.peer_ended => Ok(0),
                _ => would_block(),
            };
        }
        for (slot, byte) in buffer.iter_mut().zip(stream.arrived.drain(..count)) {
            *slot = byte;
        }
        stream.tally.read += count;
        stream.tally.moved = now;
        stream.tally.read_at = now;
        let peer = stream.peer;
        if let Some(peer) = peer
            && let Some(writer) = self.stream(peer)
        {
            // There is room again.
            if writer.is_uds() {
                if writer.wants_room {
                    writer.wants_room = false;
                    self.is_ready(peer);
                }
            } else if writer.has_to_carry() && writer.carries_at.is_none() {
                writer.carries_at = Some(next);
            }
        }
        Ok(count)
    }

    fn write(&mut self, descriptor: Descriptor, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let (now, next) = (self.now, self.now + self.delay());
        let buffer_max = self.faults.buffer_max;
        let Some(stream) = self.stream(descriptor) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        match stream.phase {
            Phase::Open if stream.is_shut => return Err(io::ErrorKind::BrokenPipe.into()),
            Phase::Open => {}
            Phase::Connecting { .. } => return would_block(),
            Phase::Reset | Phase::Failed(_) => {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
        if stream.is_uds() {
            return self.write_uds(descriptor, slices);
        }
        let mut room = buffer_max.saturating_sub(stream.leaving.len());
        if room == 0 {
            stream.wants_room = true;
            return would_block();
        }
        let mut count = 0;
        for slice in slices {
            let some = slice.len().min(room);
            stream.leaving.extend(&slice[..some]);
            room -= some;
            count += some;
        }
        stream.tally.written += count;
        stream.tally.moved = now;
        let at = next.max(stream.stalled_until);
        stream.carries_at.get_or_insert(at);
        Ok(count)
    }

    /// What is written to a Unix domain socket is where the peer reads it, at once.
    fn write_uds(&mut self, from: Descriptor, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let (now, buffer_max) = (self.now, self.faults.buffer_max);
        let peer = self.stream(from).and_then(|stream| stream.peer);
        let Some((peer, target)) = peer.and_then(|peer| Some((peer, self.stream(peer)?))) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        if target.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut room = buffer_max.saturating_sub(target.arrived.len());
        let mut count = 0;
        for slice in slices {
            let some = slice.len().min(room);
            target.arrived.extend(&slice[..some]);
            room -= some;
            count += some;
        }
        if count > 0 {
            self.is_ready(peer);
        }
        let Some(stream) = self.stream(from) else {
            return would_block();
        };
        if count == 0 {
            stream.wants_room = true;
            return would_block();
        }
        stream.tally.written += count;
        stream.tally.moved = now;
        Ok(count)
    }

    fn shutdown_write(&mut self, descriptor: Descriptor) {
        let next = self.now + self.delay();
        let Some(stream) = self.stream(descriptor) else {
            return;
        };
        if stream.is_shut || stream.phase != Phase::Open {
            return;
        }
        stream.is_shut = true;
        if stream.is_uds() {
            stream.end_arrived = true;
            let peer = stream.peer;
            self.end_at(peer);
        } else {
            let at = next.max(stream.stalled_until);
            stream.carries_at.get_or_insert(at);
        }
    }

    fn end_at(&mut self, peer: Option<Descriptor>) {
        if let Some(peer) = peer
            && let Some(stream) = self.stream(peer)
        {
            stream.peer_ended = true;
            self.is_ready(peer);
        }
    }

    fn close(&mut self, what: Descriptor) {
        match &mut self.nodes[what.0] {
            Node::Stream(stream) if !stream.is_closed => {
                if let Some(poller) = stream.poller.take() {
                    self.deregister(poller, what);
                }
                self.close_stream(what);
            }
            Node::Listener(listener) => {
                let backlog = std::mem::take(&mut listener.backlog);
                let (endpoint, poller) = (listener.endpoint.clone(), listener.poller);
                self.listeners.remove(&endpoint);
                if let Some(poller) = poller {
                    self.deregister(poller, what);
                }
                self.nodes[what.0] = Node::Closed;
                for waiting in backlog {
                    self.disturb(waiting);
                    self.close_stream(waiting);
                }
            }
            Node::Poller(poller) => {
                if let Some(outer) = poller.outer {
                    self.deregister(outer, what);
                }
                self.nodes[what.0] = Node::Closed;
            }
            Node::Stream(_) | Node::Closed => {}
        }
    }

    fn close_stream(&mut self, what: Descriptor) {
        let some = self.random.pick(&[0, 1, 100, usize::MAX]);
        let next = self.now + self.delay();
        let Some(stream) = self.stream(what) else {
            return;
        };
        stream.is_closed = true;
        stream.tally.unread = stream.arrived.len();
        stream.arrived.clear();
        stream.reset_at = None;
        let goes_on = stream.lingers && stream.tally.unread == 0 && stream.phase == Phase::Open;
        let (is_uds, has_unread, peer) = (stream.is_uds(), stream.tally.unread > 0, stream.peer);
        if goes_on && !is_uds {
            stream.is_shut = true;
            let at = next.max(stream.stalled_until);
            stream.carries_at.get_or_insert(at);
            return;
        }
        let mut last = std::mem::take(&mut stream.leaving);
        stream.carries_at = None;
        let was_open = stream.phase == Phase::Open;
        let Some(peer) = peer.filter(|_| was_open) else {
            return;
        };
        if is_uds {
            if has_unread {
                self.send_reset(peer);
            } else {
                self.end_at(Some(peer));
            }
            return;
        }
        // Some of what was under way arrives before the reset.
        let room = self.faults.buffer_max;
        if let Some(target) = self.stream(peer)
            && !target.is_closed
            && target.phase == Phase::Open
        {
            let room = room.saturating_sub(target.arrived.len());
            let count = last.len().min(some).min(room);
            target.arrived.extend(last.drain(..count));
            self.is_ready(peer);
        }
        self.send_reset(peer);
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

    fn poll(&self, poller: Descriptor) -> Vec<Ready> {
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
        match number {
            Some(number) => Ok(vec![ip_of(number)]),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn read(&self, stream: Descriptor, buffer: &mut [u8]) -> io::Result<usize> {
        self.network.state().read(stream, buffer)
    }

    fn write(&self, stream: Descriptor, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.network.state().write(stream, slices)
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
