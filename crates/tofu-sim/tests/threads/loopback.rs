//! A system in which nothing goes wrong but the order in which threads take turns. Whoever polls with nothing
//! ready sleeps, and for ever if nobody wakes it: then shuttle says that there is a deadlock.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::{self, IoSlice},
    net::IpAddr,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use shuttle::sync::{Condvar, Mutex, MutexGuard};
use tofu::simulation::{Descriptor, Endpoint, Ready, System};

/// Time passes while somebody asks for it.
const TICK: Duration = Duration::from_micros(1);

/// Who waits as long as this counts on being woken: for him time does not pass.
const FOR_EVER: Duration = Duration::from_secs(3_600);

/// What it does not do, to show that this is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lacks {
    Nothing,
    /// A poller that is woken is not.
    Wakes,
    /// Nobody is told that a stream can be written again.
    Room,
}

#[derive(Debug)]
pub(crate) struct Loopback {
    lacks: Lacks,
    /// Bytes that a stream holds.
    capacity: usize,
    nodes: Mutex<Vec<Node>>,
    changed: Condvar,
    /// Nanoseconds since the start.
    clock: AtomicU64,
    writes: AtomicU64,
}

#[derive(Debug)]
enum Node {
    Poller(Poller),
    Listener(Listener),
    Stream(Stream),
    Closed,
}

#[derive(Debug, Default)]
struct Poller {
    /// By token, and whether it is to tell of room.
    heard: BTreeMap<Descriptor, (usize, bool)>,
    muted: BTreeSet<Descriptor>,
    /// What has become ready and was not told yet.
    ready: BTreeSet<Descriptor>,
    woken: BTreeSet<usize>,
    outer: Option<Descriptor>,
}

#[derive(Debug)]
struct Listener {
    at: Endpoint,
    poller: Option<Descriptor>,
    waiting: VecDeque<Descriptor>,
}

#[derive(Debug, Default)]
struct Stream {
    poller: Option<Descriptor>,
    peer: Option<Descriptor>,
    /// Bytes that have arrived.
    bytes: VecDeque<u8>,
    /// The peer writes no more.
    ended: bool,
}

type Nodes<'a> = MutexGuard<'a, Vec<Node>>;

impl Loopback {
    pub(crate) fn start(lacks: Lacks, capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            lacks,
            capacity,
            nodes: Mutex::default(),
            changed: Condvar::new(),
            clock: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        })
    }

    /// Writes that took something.
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    fn nodes(&self) -> Nodes<'_> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, time: Duration) -> Duration {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.clock.fetch_add(nanos, Ordering::Relaxed))
    }

    fn add(nodes: &mut Nodes<'_>, node: Node) -> Descriptor {
        nodes.push(node);
        Descriptor(nodes.len() - 1)
    }

    /// Something came of it: whoever waits for it is told.
    fn tell(&self, nodes: &mut Nodes<'_>, what: Descriptor) {
        let poller = match &nodes[what.0] {
            Node::Stream(stream) => stream.poller,
            Node::Listener(listener) => listener.poller,
            Node::Poller(poller) => poller.outer,
            Node::Closed => None,
        };
        if let Some(at) = poller
            && let Node::Poller(poller) = &mut nodes[at.0]
            && !poller.muted.contains(&what)
        {
            poller.ready.insert(what);
            self.tell(nodes, at);
            self.changed.notify_all();
        }
    }

    /// Bytes that the stream takes; `None` if its peer is gone.
    fn room(&self, nodes: &[Node], stream: &Stream) -> Option<usize> {
        match &nodes[stream.peer?.0] {
            Node::Stream(peer) => Some(self.capacity.saturating_sub(peer.bytes.len())),
            _ => None,
        }
    }

    fn readiness(&self, nodes: &[Node], what: Descriptor) -> Ready {
        let (readable, writable, ends) = match &nodes[what.0] {
            Node::Stream(stream) => (
                !stream.bytes.is_empty() || stream.ended,
                self.room(nodes, stream).is_none_or(|room| room > 0),
                stream.ended,
            ),
            Node::Listener(listener) => (!listener.waiting.is_empty(), false, false),
            Node::Poller(poller) => {
                let is_ready = !poller.woken.is_empty() || !poller.ready.is_empty();
                (is_ready, false, false)
            }
            Node::Closed => (false, false, false),
        };
        Ready {
            token: 0,
            readable,
            writable,
            ends,
        }
    }

    fn take_ready(&self, nodes: &mut Nodes<'_>, at: Descriptor) -> Vec<Ready> {
        let Node::Poller(poller) = &mut nodes[at.0] else {
            return Vec::new();
        };
        let ready = std::mem::take(&mut poller.ready);
        let woken = std::mem::take(&mut poller.woken);
        let heard = poller.heard.clone();
        let mut told: Vec<_> = ready
            .into_iter()
            .filter_map(|what| {
                let (token, on_writable) = *heard.get(&what)?;
                let ready = self.readiness(nodes, what);
                let writable = ready.writable && on_writable && self.lacks != Lacks::Room;
                (ready.readable || writable).then_some(Ready {
                    token,
                    writable,
                    ..ready
                })
            })
            .collect();
        told.extend(woken.into_iter().map(|token| Ready {
            token,
            readable: true,
            writable: false,
            ends: false,
        }));
        told
    }
}

fn stream(nodes: &mut [Node], descriptor: Descriptor) -> io::Result<&mut Stream> {
    match &mut nodes[descriptor.0] {
        Node::Stream(stream) => Ok(stream),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

impl System for Loopback {
    fn now(&self) -> Duration {
        self.pass(TICK)
    }

    fn open_poller(&self) -> Descriptor {
        Self::add(&mut self.nodes(), Node::Poller(Poller::default()))
    }

    fn register(&self, at: Descriptor, what: Descriptor, token: usize, on_writable: bool) {
        let mut nodes = self.nodes();
        if let Node::Poller(poller) = &mut nodes[at.0] {
            poller.heard.insert(what, (token, on_writable));
            poller.muted.remove(&what);
        }
        match &mut nodes[what.0] {
            Node::Stream(stream) => stream.poller = Some(at),
            Node::Listener(listener) => listener.poller = Some(at),
            Node::Poller(poller) => poller.outer = Some(at),
            Node::Closed => {}
        }
        self.tell(&mut nodes, what);
    }

    fn mute(&self, at: Descriptor, what: Descriptor) {
        if let Node::Poller(poller) = &mut self.nodes()[at.0] {
            poller.muted.insert(what);
            poller.ready.remove(&what);
        }
    }

    fn deregister(&self, at: Descriptor, what: Descriptor) {
        let mut nodes = self.nodes();
        if let Node::Poller(poller) = &mut nodes[at.0] {
            poller.heard.remove(&what);
            poller.muted.remove(&what);
            poller.ready.remove(&what);
        }
        if let Node::Poller(poller) = &mut nodes[what.0] {
            poller.outer = None;
        }
    }

    fn wake(&self, poller: Descriptor, token: usize) {
        if self.lacks == Lacks::Wakes {
            return;
        }
        let mut nodes = self.nodes();
        if let Node::Poller(poller) = &mut nodes[poller.0] {
            poller.woken.insert(token);
        }
        self.tell(&mut nodes, poller);
        self.changed.notify_all();
    }

    fn poll(&self, at: Descriptor, patience: Option<Duration>) -> Vec<Ready> {
        let mut nodes = self.nodes();
        let mut told = self.take_ready(&mut nodes, at);
        match patience.filter(|patience| *patience < FOR_EVER) {
            None => {
                while told.is_empty() {
                    let woken = self.changed.wait(nodes);
                    nodes = woken.unwrap_or_else(PoisonError::into_inner);
                    told = self.take_ready(&mut nodes, at);
                }
            }
            Some(patience) if told.is_empty() && !patience.is_zero() => {
                // Others may do much in that time, or nothing.
                drop(nodes);
                shuttle::thread::yield_now();
                self.pass(patience);
                told = self.take_ready(&mut self.nodes(), at);
            }
            Some(_) => {}
        }
        told
    }

    fn connect(&self, to: &Endpoint) -> io::Result<Descriptor> {
        let mut nodes = self.nodes();
        let at = nodes
            .iter()
            .position(|node| matches!(node, Node::Listener(listener) if listener.at == *to));
        let at = Descriptor(at.ok_or(io::ErrorKind::ConnectionRefused)?);
        let ours = Self::add(&mut nodes, Node::Stream(Stream::default()));
        let theirs = Self::add(&mut nodes, Node::Stream(Stream::default()));
        stream(&mut nodes, ours)?.peer = Some(theirs);
        stream(&mut nodes, theirs)?.peer = Some(ours);
        if let Node::Listener(listener) = &mut nodes[at.0] {
            listener.waiting.push_back(theirs);
        }
        self.tell(&mut nodes, at);
        Ok(ours)
    }

    fn finish_connect(&self, _: Descriptor) -> io::Result<bool> {
        Ok(true)
    }

    fn listen(&self, at: &Endpoint, _: usize) -> io::Result<(Descriptor, Endpoint)> {
        let listener = Listener {
            at: at.clone(),
            poller: None,
            waiting: VecDeque::new(),
        };
        let descriptor = Self::add(&mut self.nodes(), Node::Listener(listener));
        Ok((descriptor, at.clone()))
    }

    fn accept(&self, listener: Descriptor) -> io::Result<Descriptor> {
        match &mut self.nodes()[listener.0] {
            Node::Listener(listener) => {
                let accepted = listener.waiting.pop_front();
                accepted.ok_or_else(|| io::ErrorKind::WouldBlock.into())
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn read(&self, descriptor: Descriptor, buffer: &mut [u8]) -> io::Result<usize> {
        let mut nodes = self.nodes();
        let stream = stream(&mut nodes, descriptor)?;
        if stream.bytes.is_empty() && !stream.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = stream.bytes.len().min(buffer.len());
        for (to, byte) in buffer.iter_mut().zip(stream.bytes.drain(..count)) {
            *to = byte;
        }
        let peer = stream.peer;
        if let Some(peer) = peer.filter(|_| count > 0) {
            self.tell(&mut nodes, peer);
        }
        Ok(count)
    }

    fn write(&self, descriptor: Descriptor, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut nodes = self.nodes();
        let writer = stream(&mut nodes, descriptor)?;
        let peer = writer.peer.ok_or(io::ErrorKind::BrokenPipe)?;
        let Node::Stream(reader) = &mut nodes[peer.0] else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let room = self.capacity.saturating_sub(reader.bytes.len());
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied());
        let before = reader.bytes.len();
        reader.bytes.extend(bytes.take(room));
        let count = reader.bytes.len() - before;
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.tell(&mut nodes, peer);
        Ok(count)
    }

    fn shutdown_write(&self, descriptor: Descriptor) {
        let mut nodes = self.nodes();
        let peer = stream(&mut nodes, descriptor).ok().and_then(|it| it.peer);
        if let Some(peer) = peer
            && let Ok(reader) = stream(&mut nodes, peer)
        {
            reader.ended = true;
            self.tell(&mut nodes, peer);
        }
    }

    /// Nothing that was written is ever lost here.
    fn linger(&self, _: Descriptor) {}

    fn close(&self, what: Descriptor) {
        self.shutdown_write(what);
        let mut nodes = self.nodes();
        if let Node::Listener(listener) = &nodes[what.0] {
            for never_accepted in listener.waiting.clone() {
                nodes[never_accepted.0] = Node::Closed;
            }
        }
        nodes[what.0] = Node::Closed;
        for node in &mut *nodes {
            if let Node::Poller(poller) = node {
                poller.heard.remove(&what);
                poller.muted.remove(&what);
                poller.ready.remove(&what);
            }
        }
    }
}
