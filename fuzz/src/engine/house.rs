//! The engine that lives on, and its honest channel.

use std::{
    alloc::System,
    io, process,
    time::{Duration, Instant},
};

use socket2::{Domain, SockAddr, Socket, Type};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tofu::{
    Address, ChannelGroup, ChannelNumber, Engine, Event, Message, Metrics, OpCode, Options,
    RecvError,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How long anything may take.
pub(super) const WATCHDOG: Duration = Duration::from_secs(15);

pub(super) const POOL_MAX: usize = 16;
/// The least that is allowed.
pub(super) const CHANNEL_QUEUE_MAX: usize = 131_086;
pub(super) const ENGINE_QUEUE_MAX: usize = 2 * CHANNEL_QUEUE_MAX;
/// The two listeners, and the two ends of the honest channel.
pub(super) const CHANNELS_BEFORE: usize = 4;
pub(super) const CHANNELS_MAX: usize = CHANNELS_BEFORE + 4;
/// A HelloRequest always fits, and two short byes for each channel.
pub(super) const ALWAYS_FITS: usize = CHANNELS_MAX * 2 * 1_024 + 4_096;
pub(super) const HALF_OPEN_MAX: usize = 2;

/// Bytes of memory in use by which a run may differ from the time before the first one: messages of the
/// pool keep what they once had.
const MEMORY_BETWEEN_MAX: usize = 8 << 20;
/// The same while it goes on, with what the run itself remembers.
const MEMORY_WITHIN_MAX: usize = 32 << 20;

pub(super) struct House {
    pub(super) engine: Engine,
    /// The group that hostile peers talk to, and where it listens.
    pub(super) exposed: ChannelGroup,
    pub(super) address: Address,
    pub(super) listener: ChannelNumber,
    /// Where a hostile server listens.
    pub(super) trap: Socket,
    pub(super) trap_address: Address,
    /// Each peer has a number of its own.
    pub(super) peers: u64,
    honest: Honest,
    memory_before: usize,
}

struct Honest {
    server: ChannelGroup,
    client: ChannelGroup,
    channel: ChannelNumber,
    asked: u64,
}

impl House {
    pub(super) fn new() -> Self {
        // No timer is due before the watchdog: what happens does not depend on the time.
        let long = 10 * WATCHDOG;
        let options = Options::default()
            .pool_messages(4, POOL_MAX)
            .queue_bytes(CHANNEL_QUEUE_MAX, ENGINE_QUEUE_MAX)
            .channels_max(CHANNELS_MAX)
            .half_open_max(HALF_OPEN_MAX)
            .hello_timeout(long)
            .connect_timeout(long)
            .frame_timeout(long)
            .bye_timeout(long)
            .busy_poll(Duration::ZERO);
        let engine = Engine::new(options).expect("an engine");
        let mut exposed = engine.group().expect("a group");
        let (address, listener) = listen(&mut exposed, "exposed");
        let trap_address = place("trap");
        let trap = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        trap.bind(&raw(&trap_address)).expect("bound");
        trap.listen(8).expect("listens");
        trap.set_nonblocking(true).expect("set");
        let honest = Honest::new(&engine);
        Self {
            memory_before: memory(),
            engine,
            exposed,
            address,
            listener,
            trap,
            trap_address,
            peers: 0,
            honest,
        }
    }

    /// A peer's socket, connected to the exposed group.
    pub(super) fn connect(&self) -> Socket {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        socket.connect(&raw(&self.address)).expect("it listens");
        socket.set_nonblocking(true).expect("set");
        socket
    }

    /// The connection that the exposed group makes to the trap, when it is there.
    pub(super) fn trapped(&self) -> Option<Socket> {
        match self.trap.accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(true).expect("set");
                Some(socket)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Asks over the honest channel.
    pub(super) fn ask(&mut self) {
        self.honest.ask();
    }

    /// Goes on with what was asked; `true` when the answer is there.
    pub(super) fn is_answered(&mut self) -> bool {
        self.honest.is_answered()
    }

    pub(super) fn metrics(&self) -> Metrics {
        self.engine.metrics()
    }

    /// Within a run.
    pub(super) fn look_at_memory_within(&self) {
        self.look_at(MEMORY_WITHIN_MAX);
    }

    /// Between two runs.
    pub(super) fn look_at_memory(&self) {
        self.look_at(MEMORY_BETWEEN_MAX);
    }

    fn look_at(&self, max: usize) {
        let grown = memory().saturating_sub(self.memory_before);
        assert!(grown <= max, "{grown} bytes more than before are in use");
    }
}

impl Honest {
    fn new(engine: &Engine) -> Self {
        let mut server = engine.group().expect("a group");
        let mut client = engine.group().expect("a group");
        let (address, _) = listen(&mut server, "honest");
        let channel = client
            .post(Message::hello_request(&address))
            .expect("posted")
            .channel;
        let hello = expect_message(server.recv_timeout(WATCHDOG), OpCode::HelloRequest);
        let answer = hello.into_reply().expect("it has one");
        server.post(answer).expect("posted");
        expect_message(client.recv_timeout(WATCHDOG), OpCode::HelloResponse);
        Self {
            server,
            client,
            channel,
            asked: 0,
        }
    }

    fn ask(&mut self) {
        self.asked += 1;
        let question = Message::request(self.channel).with_id(self.asked);
        let question = question.with_body(format!("question {}", self.asked));
        self.client.post(question).expect("there is room");
    }

    fn is_answered(&mut self) -> bool {
        let expected = format!("question {}", self.asked);
        if let Some(question) = heard(&mut self.server, OpCode::Request) {
            assert_eq!(question.body(), expected.as_bytes());
            let answer = question.into_reply().expect("it has one");
            self.server.post(answer).expect("there is room");
        }
        let Some(answer) = heard(&mut self.client, OpCode::Response) else {
            return false;
        };
        assert_eq!(answer.id().get(), self.asked);
        assert_eq!(answer.body(), expected.as_bytes());
        true
    }
}

/// A message, if there is one. That the others have all messages of the pool is no fault.
fn heard(group: &mut ChannelGroup, op_code: OpCode) -> Option<Message> {
    match group.try_recv() {
        Ok(None | Some(Event::PoolEmpty)) => None,
        event => Some(expect_message(event, op_code)),
    }
}

fn expect_message(event: Result<Option<Event>, RecvError>, op_code: OpCode) -> Message {
    match event {
        Ok(Some(Event::Message(message))) if message.op_code() == op_code => message,
        other => panic!("{op_code} was due, not {other:?}"),
    }
}

fn listen(group: &mut ChannelGroup, name: &str) -> (Address, ChannelNumber) {
    let welcome = Message::welcome_request(&place(name));
    let channel = group.post(welcome).expect("posted").channel;
    match group.recv_timeout(WATCHDOG) {
        Ok(Some(Event::Listening { address, .. })) => (address, channel),
        other => panic!("a listener was due, not {other:?}"),
    }
}

/// A place of this process alone: where there are names without files, one that leaves nothing behind.
fn place(name: &str) -> Address {
    let name = format!("tofu-fuzz-{}-{name}", process::id());
    let path = if cfg!(target_os = "linux") {
        format!("@{name}")
    } else {
        std::env::temp_dir().join(name).display().to_string()
    };
    Address::uds(path).expect("a path")
}

fn raw(address: &Address) -> SockAddr {
    let path = address.path().expect("uds");
    SockAddr::unix(path.replacen('@', "\0", 1)).expect("it is short")
}

/// Bytes of memory in use.
fn memory() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.wrapping_sub(stats.bytes_deallocated)
}

/// A time that must not come.
pub(super) fn deadline() -> Instant {
    Instant::now() + WATCHDOG
}
