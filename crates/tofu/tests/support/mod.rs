//! What the integration tests share: both transports, events with a watchdog, raw peers.
#![allow(dead_code, reason = "each test file uses what it needs")]
#![allow(unreachable_pub, reason = "a module of several test crates")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    sync::mpsc,
    thread,
    time::Duration,
};

use socket2::{Domain, SockRef, Socket, Type};
#[allow(unused_imports, reason = "each test file uses what it needs")]
pub use tofu::testing::over_both;
use tofu::{
    Address, ChannelGroup, ChannelNumber, Engine, Event, Frame, Header, Message, OpCode, Options,
    Reason, Status,
};

/// How long anything may take before the test fails.
pub const WATCHDOG: Duration = Duration::from_secs(20);

pub fn engine() -> Engine {
    Engine::new(Options::default()).expect("an engine")
}

/// The next event, or a panic that says what was waited for.
pub fn next(group: &mut ChannelGroup) -> Event {
    group
        .recv_timeout(WATCHDOG)
        .expect("not shutting down")
        .expect("an event before the watchdog")
}

pub fn message(group: &mut ChannelGroup) -> Message {
    match next(group) {
        Event::Message(message) => message,
        other => panic!("a message was due, not {other:?}"),
    }
}

pub fn message_of(group: &mut ChannelGroup, op_code: OpCode) -> Message {
    let message = message(group);
    assert_eq!(message.op_code(), op_code, "{message:?}");
    message
}

pub fn closed(group: &mut ChannelGroup) -> (ChannelNumber, Reason) {
    match next(group) {
        Event::Closed {
            channel, reason, ..
        } => (channel, reason),
        other => panic!("the end of a channel was due, not {other:?}"),
    }
}

#[track_caller]
pub fn closed_with(group: &mut ChannelGroup, channel: ChannelNumber, status: Status) -> Reason {
    let (ended, reason) = closed(group);
    assert_eq!((ended, reason.status()), (channel, status), "{reason}");
    reason
}

pub fn returned(group: &mut ChannelGroup) -> (Message, Reason) {
    match next(group) {
        Event::Returned { message, reason } => (message, reason),
        other => panic!("a message was due back, not {other:?}"),
    }
}

/// Listens, and gives the real address and the listener's channel.
pub fn listen(group: &mut ChannelGroup, address: &Address) -> (Address, ChannelNumber) {
    let posted = group
        .post(Message::welcome_request(address))
        .expect("posted");
    match next(group) {
        Event::Listening { address, response } => {
            assert_eq!(response.channel(), posted.channel);
            assert_eq!(response.id(), posted.id);
            (address, posted.channel)
        }
        other => panic!("a listener was due, not {other:?}"),
    }
}

pub fn loopback() -> Address {
    Address::tcp("127.0.0.1", 0).expect("an address")
}

/// A server and a client that have said hello, with the channel that each sees.
pub struct Pair {
    pub server: ChannelGroup,
    pub client: ChannelGroup,
    pub at_server: ChannelNumber,
    pub at_client: ChannelNumber,
    pub listener: ChannelNumber,
    pub address: Address,
}

pub fn pair(engine: &Engine, address: &Address) -> Pair {
    pair_between(engine, engine, address)
}

pub fn pair_between(servers: &Engine, clients: &Engine, address: &Address) -> Pair {
    let mut server = servers.group().expect("a group");
    let mut client = clients.group().expect("a group");
    let (address, listener) = listen(&mut server, address);
    let hello = Message::hello_request(&address).with_body("hi");
    let at_client = client.post(hello).expect("posted").channel;
    let hello = message_of(&mut server, OpCode::HelloRequest);
    assert_eq!(hello.body(), b"hi");
    let at_server = hello.channel();
    server
        .post(hello.reply().expect("an answer"))
        .expect("posted");
    message_of(&mut client, OpCode::HelloResponse);
    Pair {
        server,
        client,
        at_server,
        at_client,
        listener,
        address,
    }
}

/// A peer without a library: a blocking socket and a decoder of the test's own.
pub enum Raw {
    Tcp(TcpStream),
    Uds(UnixStream),
}

impl Raw {
    pub fn connect(address: &Address) -> Self {
        if let Some(path) = address.path() {
            let stream = UnixStream::connect(path).expect("connected");
            stream.set_read_timeout(Some(WATCHDOG)).expect("set");
            return Self::Uds(stream);
        }
        let host = address.host().expect("tcp");
        let stream = TcpStream::connect((host, address.port())).expect("connected");
        stream.set_read_timeout(Some(WATCHDOG)).expect("set");
        stream.set_nodelay(true).expect("set");
        Self::Tcp(stream)
    }

    /// Connects and says hello.
    pub fn hello(address: &Address) -> Self {
        let mut raw = Self::connect(address);
        raw.send(&Message::hello_request(address).with_id(1));
        raw
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.try_write(bytes).expect("written");
    }

    pub fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Uds(stream) => stream.write_all(bytes),
        }
    }

    pub fn send(&mut self, message: &Message) {
        self.write(&frame(message));
    }

    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Uds(stream) => stream.read(buffer),
        }
    }

    /// Reads the next frame.
    pub fn recv(&mut self) -> Message {
        let mut bytes = vec![0; Header::LEN];
        self.read_exact(&mut bytes);
        let head = bytes.first_chunk().expect("a header");
        let header = Header::from_bytes(head).expect("assigned");
        bytes.resize(header.frame_len(), 0);
        self.read_exact(&mut bytes[Header::LEN..]);
        let frame = Frame::first(&bytes).expect("assigned").expect("whole");
        let mut message = Message::signal(ChannelNumber::UNASSIGNED);
        message.fill(frame.header.channel, &frame);
        message
    }

    fn read_exact(&mut self, mut buffer: &mut [u8]) {
        while !buffer.is_empty() {
            let count = self.read(buffer).expect("read before the watchdog");
            assert_ne!(count, 0, "the stream ended early");
            buffer = &mut buffer[count..];
        }
    }

    /// Reads to the end, which may be a reset, and gives what came before it.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return all,
                Ok(count) => all.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return all,
                Err(error) => panic!("no end of the stream: {error}"),
            }
        }
    }
}

/// Waits for what no event tells, such as a counter or the end of something in the background.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + WATCHDOG;
    while !is_so() {
        assert!(std::time::Instant::now() < end, "never: {what}");
        thread::yield_now();
    }
}

/// Nothing happens, for long enough that something that is wrong would.
#[track_caller]
pub fn quiet(group: &mut ChannelGroup) {
    let heard = group.recv_timeout(Duration::from_millis(60));
    assert!(matches!(heard, Ok(None)), "nothing was due, not {heard:?}");
}

/// The next event that is no [`Event::Drained`], for tests that fill a queue on their way.
pub fn next_but_drained(group: &mut ChannelGroup) -> Event {
    loop {
        match next(group) {
            Event::Drained(_) => {}
            other => return other,
        }
    }
}

/// A server of an engine, and a raw client that has said hello to it (without an answer).
pub struct RawPair {
    pub server: ChannelGroup,
    pub raw: Raw,
    pub at_server: ChannelNumber,
    pub listener: ChannelNumber,
    pub address: Address,
}

pub fn raw_pair(engine: &Engine, address: &Address) -> RawPair {
    let mut server = engine.group().expect("a group");
    let (address, listener) = listen(&mut server, address);
    let raw = Raw::hello(&address);
    let at_server = message_of(&mut server, OpCode::HelloRequest).channel();
    RawPair {
        server,
        raw,
        at_server,
        listener,
        address,
    }
}

/// An address that refuses, for as long as the socket lives: a port that is taken, on which nobody
/// listens.
pub fn refusing_address() -> (Socket, Address) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None);
    let socket = socket.expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("bound");
    let bound = socket.local_addr().expect("an address");
    let port = bound.as_socket().expect("tcp").port();
    (socket, Address::tcp("127.0.0.1", port).expect("an address"))
}

/// A listener without a library.
pub enum RawListener {
    Tcp(std::net::TcpListener),
    Uds(std::os::unix::net::UnixListener),
}

impl RawListener {
    /// Listens, and gives the real address.
    pub fn bind(address: &Address) -> (Self, Address) {
        if let Some(path) = address.path() {
            let listener = std::os::unix::net::UnixListener::bind(path).expect("bound");
            return (Self::Uds(listener), address.clone());
        }
        let host = address.host().expect("tcp");
        let listener = std::net::TcpListener::bind((host, address.port())).expect("bound");
        let port = listener.local_addr().expect("an address").port();
        let address = Address::tcp(host, port).expect("an address");
        (Self::Tcp(listener), address)
    }

    /// The next connection. The file of a UDS listener is the test's to remove.
    pub fn accept(&self) -> Raw {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().expect("accepted");
                stream.set_read_timeout(Some(WATCHDOG)).expect("set");
                stream.set_nodelay(true).expect("set");
                Raw::Tcp(stream)
            }
            Self::Uds(listener) => {
                let (stream, _) = listener.accept().expect("accepted");
                stream.set_read_timeout(Some(WATCHDOG)).expect("set");
                Raw::Uds(stream)
            }
        }
    }
}

impl Raw {
    /// Ends both directions, as a peer that goes away does.
    pub fn shut_down(&mut self) {
        let both = std::net::Shutdown::Both;
        match self {
            Self::Tcp(stream) => stream.shutdown(both),
            Self::Uds(stream) => stream.shutdown(both),
        }
        .expect("shut down");
    }

    /// Reads exactly this many bytes.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.read_exact(&mut bytes);
        bytes
    }
}

/// Runs one test of this file again in a process of its own, started by `prepare`, so that it may
/// use up what all tests share. In that process it returns `true`; in the first one `false`, after
/// the other has passed.
pub fn in_own_process(
    test: &str,
    prepare: impl FnOnce(&std::path::Path) -> std::process::Command,
) -> bool {
    const MARK: &str = "TOFU_TEST_IN_OWN_PROCESS";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let program = std::env::current_exe().expect("a test has a program");
    let output = prepare(&program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .expect("started");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

pub fn frame(message: &Message) -> Vec<u8> {
    let mut bytes = message.binary_header().to_bytes().to_vec();
    bytes.extend_from_slice(message.payload());
    bytes
}

/// An engine with these options.
pub fn engine_with(options: Options) -> Engine {
    Engine::new(options).expect("an engine")
}

/// The next event that is about a channel: not [`Event::PoolEmpty`].
pub fn next_of_channel(group: &mut ChannelGroup) -> Event {
    loop {
        match next(group) {
            Event::PoolEmpty => {}
            event => return event,
        }
    }
}

/// Asserts that nothing more is to be heard now.
#[track_caller]
pub fn silent(group: &mut ChannelGroup) {
    let event = group.try_recv().expect("not shutting down");
    assert!(event.is_none(), "nothing was due, not {event:?}");
}

/// Runs `work` on a thread of its own: a hang fails the test, and so does a panic.
#[track_caller]
pub fn watched<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    Watched::start(work).join(what)
}

/// A thread that a test waits for, and not for ever.
pub struct Watched<T> {
    thread: thread::JoinHandle<()>,
    result: mpsc::Receiver<T>,
}

impl<T: Send + 'static> Watched<T> {
    pub fn start(work: impl FnOnce() -> T + Send + 'static) -> Self {
        let (sender, result) = mpsc::channel();
        // The receiver is gone only if the test has failed already.
        let thread = thread::spawn(move || drop(sender.send(work())));
        Self { thread, result }
    }

    /// What the thread made.
    #[track_caller]
    pub fn join(self, what: &str) -> T {
        match self.result.recv_timeout(WATCHDOG) {
            Ok(made) => {
                self.thread.join().expect("it has ended");
                made
            }
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("hangs: {what}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => panic!("failed: {what}"),
        }
    }
}

/// A signal that tells its place in a sequence, with a body of `len` bytes more.
pub fn numbered(channel: ChannelNumber, number: usize, len: usize) -> Message {
    let mut body = (number as u64).to_be_bytes().to_vec();
    body.resize(body.len() + len, body[7]);
    Message::signal(channel)
        .with_id(number as u64 + 1)
        .with_body(body)
}

/// The place in the sequence of a [`numbered`] message, which must be complete and unchanged.
#[track_caller]
pub fn number_of(message: &Message) -> usize {
    assert_eq!(message.op_code(), OpCode::Signal, "{message:?}");
    let (number, filler) = message.body().split_first_chunk().expect("a number");
    assert!(filler.iter().all(|byte| *byte == number[7]), "{message:?}");
    let number = u64::from_be_bytes(*number);
    assert_eq!(message.id().get(), number + 1, "{message:?}");
    usize::try_from(number).expect("a number of this test")
}

/// Posts numbered messages until at least `bytes` wait in the engine's queues, which they will for
/// as long as the peer does not read. Gives how many.
pub fn post_until_queued(
    group: &ChannelGroup,
    channel: ChannelNumber,
    engine: &Engine,
    bytes: usize,
) -> usize {
    for number in 0.. {
        if engine.metrics().queued_bytes >= bytes {
            return number;
        }
        group
            .post(numbered(channel, number, 60_000))
            .expect("posted");
    }
    unreachable!("queues are bounded");
}

/// All frames in these bytes, the last of which may be incomplete: then it is left out.
pub fn frames_in(mut bytes: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(frame) = Frame::first(bytes).expect("assigned") {
        let mut message = Message::signal(ChannelNumber::UNASSIGNED);
        message.fill(frame.header.channel, &frame);
        messages.push(message);
        bytes = &bytes[frame.len()..];
    }
    messages
}

impl Raw {
    /// Says hello over a socket that takes little: what it does not read stays at the sender.
    pub fn hello_narrow(address: &Address) -> Self {
        let mut raw = if address.path().is_some() {
            Self::connect(address)
        } else {
            let host = address.host().expect("tcp").parse().expect("an ip");
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_recv_buffer_size(4096).expect("set");
            let to = SocketAddr::new(host, address.port());
            socket.connect(&to.into()).expect("connected");
            socket.set_read_timeout(Some(WATCHDOG)).expect("set");
            Self::Tcp(socket.into())
        };
        raw.send(&Message::hello_request(address).with_id(1));
        raw
    }

    pub fn socket(&self) -> SockRef<'_> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream),
            Self::Uds(stream) => SockRef::from(stream),
        }
    }

    /// Closes with a reset.
    pub fn reset(self) {
        self.socket()
            .set_linger(Some(Duration::ZERO))
            .expect("still open");
    }

    /// Reads what is there, at most as much as fits. `None` is the end of the stream.
    pub fn read_some(&mut self, buffer: &mut [u8]) -> Option<usize> {
        match self.read(buffer) {
            Ok(0) => None,
            Ok(count) => Some(count),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("nothing before the watchdog: {error}"),
        }
    }
}

pub fn group_of(options: Options) -> ChannelGroup {
    let engine = Engine::new(options).expect("an engine");
    engine.group().expect("a group")
}

/// Opens with this message, which must fail with `status`.
#[track_caller]
pub fn fails(group: &mut ChannelGroup, opening: Message, status: Status) {
    let channel = group.post(opening).expect("posted").channel;
    let (message, reason) = returned(group);
    assert_eq!(
        (message.channel(), reason.status()),
        (channel, status),
        "{reason}"
    );
    closed_with(group, channel, status);
}

pub fn connect_fails(group: &mut ChannelGroup, address: &Address, status: Status) {
    fails(group, Message::hello_request(address), status);
}

pub fn listen_fails(group: &mut ChannelGroup, address: &Address, status: Status) {
    fails(group, Message::welcome_request(address), status);
}

/// A client of `group` connects, and is heard.
#[track_caller]
pub fn reached(server: &mut ChannelGroup, client: &ChannelGroup, address: &Address) {
    client
        .post(Message::hello_request(address))
        .expect("posted");
    message_of(server, OpCode::HelloRequest);
}

/// Makes a listener whose queue of connections is full: the system answers nobody any more.
#[cfg(target_os = "linux")]
pub fn deafen(socket: &Socket) -> Vec<TcpStream> {
    socket.listen(0).expect("listening");
    let place = socket.local_addr().expect("an address");
    let place = place.as_socket().expect("tcp");
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&place, Duration::from_millis(80)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "its queue is bounded");
    }
    waiting
}
