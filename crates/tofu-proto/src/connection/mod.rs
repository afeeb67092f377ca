//! One channel's conversation with one peer, without sockets and without a clock.
//!
//! # The driver's contract
//!
//! A [`Connection`] never does anything by itself. Whoever drives it owns the socket and the clock,
//! and calls:
//!
//! - *commands*: [`post`](Connection::post) queues a message of the application;
//! - *input*: [`handle_connected`](Connection::handle_connected) once a client's socket is connected;
//!   [`receive`](Connection::receive) with bytes that were read, until it asks for more;
//!   [`handle_sent`](Connection::handle_sent) after a write,
//!   [`handle_blocked`](Connection::handle_blocked) after one that the stream did not take, for now
//!   or for ever: else what is queued could keep the message that the receiver waits for;
//!   [`hold`](Connection::hold) and
//!   [`resume`](Connection::resume) around a time in which the driver does not read;
//! - *output*: [`queue`](Connection::queue) tells what to write, [`poll_timeout`](Connection::poll_timeout)
//!   when to call [`handle_timeout`](Connection::handle_timeout), and
//!   [`wants_half_close`](Connection::wants_half_close) whether to end our direction of the stream;
//! - *the end*: [`poll_close`](Connection::poll_close), a timeout or a [`Violation`] tell when to close
//!   the socket, [`reason_at_end`](Connection::reason_at_end) why, if the stream ended instead.
//!   Then [`take_unsent`](Connection::take_unsent) gives back what could not be sent.
//!
//! After a [`Violation`] or an end, nothing but `take_unsent` may be called.
//!
//! # A conversation
//!
//! Two connections, with a vector of bytes in place of the network:
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use tofu_proto::{
//!     Blank, ChannelNumber, Connection, Instant, Message, MessageId, OpCode, Received, Status, Timeouts,
//! };
//!
//! /// Carries all that one has to say to the other: what it hears.
//! fn carry(from: &mut Connection, to: &mut Connection, now: Instant) -> Vec<Message> {
//!     let written = from.queue().slices().collect::<Vec<_>>().concat();
//!     from.handle_sent(written.len(), || now, drop);
//!     let (mut input, mut heard) = (&written[..], Vec::new());
//!     let blank = || Some(Message::from_memory(Blank::default()));
//!     while let Received::Message(message) = to.receive(&mut input, now, blank) {
//!         heard.push(message);
//!     }
//!     heard
//! }
//!
//! const QUEUE_MAX: usize = 1 << 20; // bytes
//! let second = Duration::from_secs(1);
//! let timeouts = Arc::new(Timeouts { hello: second, connect: second, frame: second, bye: second });
//! let now = Instant::ORIGIN;
//! let mut ids = (1..).map(MessageId::new);
//! let mut next_id = || ids.next().expect("there are many");
//!
//! // A client connects, and a server accepts. Each has a number of its own for the channel.
//! let mut hello = Message::hello_request(&"tcp://localhost".parse()?);
//! hello.address_to(ChannelNumber::new(1), next_id());
//! let mut client = Connection::client(hello, Arc::clone(&timeouts), now);
//! client.handle_connected(now);
//! let mut server = Connection::server(ChannelNumber::new(9), timeouts, now);
//!
//! // Hello, and its answer.
//! let heard = carry(&mut client, &mut server, now);
//! assert_eq!(heard[0].op_code(), OpCode::HelloRequest);
//! server.post(heard[0].reply()?, QUEUE_MAX, || now, &mut next_id, drop)?;
//! let heard = carry(&mut server, &mut client, now);
//! assert_eq!(heard[0].op_code(), OpCode::HelloResponse);
//!
//! // Either may speak now. The client does, and says bye behind it.
//! let signal = Message::signal(client.channel()).with_body("it rains");
//! client.post(signal, QUEUE_MAX, || now, &mut next_id, drop)?;
//! let bye = Message::bye_request(client.channel());
//! client.post(bye, QUEUE_MAX, || now, &mut next_id, drop)?;
//! assert_eq!(client.poll_timeout(), Some(now + second)); // to have an answer by then
//! let heard = carry(&mut client, &mut server, now);
//! assert_eq!((heard[0].body(), heard[0].channel().get()), (&b"it rains"[..], 9));
//!
//! // The server answers the bye, and the client closes the socket.
//! server.post(heard[1].reply()?, QUEUE_MAX, || now, &mut next_id, drop)?;
//! carry(&mut server, &mut client, now);
//! assert_eq!(client.poll_close(), Some(Status::CHANNEL_CLOSED));
//! assert_eq!(server.reason_at_end(), Status::CHANNEL_CLOSED); // as it sees the stream end
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod queue;
mod state;

use alloc::{sync::Arc, vec::Vec};
use core::time::Duration;

pub use queue::{SendQueue, Unsent};
pub use state::{Side, State};

use crate::{
    ChannelNumber, Decoder, Header, Instant, Message, MessageId, OpCode, OpType, Origin, PostError,
    Refusal, Role, Status, UnassignedOpCode, Violation, wire::LANDED_MIN,
};

/// The longest frame of a bye that is queued whether there is room or not.
const SHORT_BYE_LEN_MAX: usize = 1_024;

/// How long a connection waits for what.
///
/// ```
/// use core::time::Duration;
/// use tofu_proto::Timeouts;
///
/// let second = Duration::from_secs(1);
/// let timeouts = Timeouts { hello: second, connect: 30 * second, frame: 30 * second, bye: 5 * second };
/// assert!(timeouts.hello < timeouts.bye);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A server, for a client's complete HelloRequest.
    pub hello: Duration,
    /// A client, for its socket to connect.
    pub connect: Duration,
    /// Either side, for the next byte of a frame that has begun.
    pub frame: Duration,
    /// Either side, for the peer's part in a bye, since anything last moved.
    pub bye: Duration,
}

/// What [`Connection::receive`] made of the bytes.
///
/// ```
#[doc = include_str!("example.txt")]
/// let mut none_left = || None;
/// let received = server.receive(&mut &greeting[..], now, &mut none_left);
/// assert!(matches!(received, Received::Starved));
///
/// let received = server.receive(&mut &[][..], now, blank); // it has kept the bytes
/// assert!(matches!(received, Received::Message(hello) if hello.op_code() == OpCode::HelloRequest));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum Received {
    /// The peer's next message, with the local channel number. There may be more.
    Message(Message),
    /// The bytes are used up.
    Nothing,
    /// A message has arrived, and there is none to put it into: it is kept. Call
    /// [`hold`](Connection::hold) and come again when there is one.
    Starved,
    /// The peer broke the protocol.
    Violation(Violation),
}

/// One channel's conversation with one peer. See the [module](self) for how to drive it.
///
/// In the examples below `client` is not connected yet, `server` has just been accepted, `greeting` is the
/// client's HelloRequest as bytes, `blank` gives an empty message, and each timeout is a `second`.
///
/// ```
#[doc = include_str!("example.txt")]
/// assert!(!client.is_connected());
/// client.handle_connected(now);
/// let written = client.queue().slices().map(<[u8]>::len).sum();
/// client.handle_sent(written, || now, drop); // the hello has left
/// assert!(client.queue().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Connection {
    channel: ChannelNumber,
    side: Side,
    transport: Transport,
    state: State,
    hello_answered: bool,
    opened_by: MessageId,
    peer_bye: MessageId,
    decoder: Decoder,
    queue: SendQueue,
    timeouts: Arc<Timeouts>,
    /// Until when what the state waits for must have happened.
    deadline: Option<Instant>,
    arrival: Arrival,
}

/// Whether there is a stream to write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Connecting,
    Connected,
}

/// How far the incoming stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    /// Between two frames.
    AtRest,
    /// Within a frame, which must go on before the deadline.
    MidFrame(Instant),
    /// The driver does not read: nothing that the peer does not say is its fault.
    Held,
}

impl Connection {
    /// A client's connection, not connected yet. `hello` is the HelloRequest, which passed its check
    /// and has its numbers.
    ///
    /// # Panics
    /// In a debug build, if `hello` is no HelloRequest.
    ///
    /// # Example
    /// ```
    #[doc = include_str!("example.txt")]
    /// let client = Connection::client(hello, timeouts, now);
    /// assert_eq!((client.channel().get(), client.opened_by().get()), (1, 7));
    /// assert_eq!(client.poll_timeout(), Some(now + second)); // to be connected by then
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn client(hello: Message, timeouts: Arc<Timeouts>, now: Instant) -> Self {
        debug_assert_eq!(hello.op_code(), OpCode::HelloRequest);
        let mut connection = Self {
            deadline: Some(now + timeouts.connect),
            transport: Transport::Connecting,
            state: State::Open,
            opened_by: hello.id(),
            ..Self::new(hello.channel(), Side::Client, timeouts)
        };
        let header = hello.binary_header();
        connection.queue.push(hello, &header, drop);
        connection.queue.settle();
        connection
    }

    /// A server's connection, just accepted.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let server = Connection::server(ChannelNumber::new(9), timeouts, now);
    /// assert_eq!(server.state(), State::Greeting);
    /// assert_eq!(server.poll_timeout(), Some(now + second)); // to have a hello by then
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn server(channel: ChannelNumber, timeouts: Arc<Timeouts>, now: Instant) -> Self {
        Self {
            deadline: Some(now + timeouts.hello),
            ..Self::new(channel, Side::Server, timeouts)
        }
    }

    fn new(channel: ChannelNumber, side: Side, timeouts: Arc<Timeouts>) -> Self {
        Self {
            channel,
            side,
            transport: Transport::Connected,
            state: State::Greeting,
            hello_answered: false,
            opened_by: MessageId::UNASSIGNED,
            peer_bye: MessageId::UNASSIGNED,
            decoder: Decoder::new(),
            queue: SendQueue::default(),
            timeouts,
            deadline: None,
            arrival: Arrival::AtRest,
        }
    }

    /// What has been said so far.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert_eq!(server.state(), State::Greeting);
    /// server.receive(&mut &greeting[..], now, blank);
    /// assert_eq!(server.state(), State::Open);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn state(&self) -> State {
        self.state
    }

    /// Its local channel.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert_eq!(server.channel(), ChannelNumber::new(9));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn channel(&self) -> ChannelNumber {
        self.channel
    }

    /// The id of the HelloRequest that opened it: 0 before a server has it.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert_eq!(client.opened_by(), MessageId::new(7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn opened_by(&self) -> MessageId {
        self.opened_by
    }

    /// Whether there is a stream to write to.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert!(!client.is_connected());
    /// client.handle_connected(now);
    /// assert!(client.is_connected());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_connected(&self) -> bool {
        self.transport == Transport::Connected
    }

    /// Whether the application has heard of this channel: from its own HelloRequest, or from the
    /// peer's.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert!(!server.is_known());
    /// server.receive(&mut &greeting[..], now, blank);
    /// assert!(server.is_known());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_known(&self) -> bool {
        self.state != State::Greeting
    }

    /// The id of the peer's ByeRequest, while our application owes the answer.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// server.receive(&mut &greeting[..], now, blank);
    /// # let header = Header { id: MessageId::new(8), ..Header::new(OpCode::ByeRequest) };
    /// # let bye = header.to_bytes();
    /// server.receive(&mut &bye[..], now, blank); // a ByeRequest with id 8
    /// assert_eq!(server.bye_to_answer(), Some(MessageId::new(8)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bye_to_answer(&self) -> Option<MessageId> {
        match self.state {
            State::ByeReceived | State::Crossed | State::CrossedHeard => Some(self.peer_bye),
            _ => None,
        }
    }

    /// Queues a message that passed its check, unless more than `queue_max` bytes would wait then. A
    /// bye whose frame has no more than 1,024 bytes is always queued: there is at most one of each kind.
    /// Returns the header as it travels; a message without an id gets the one that `next_id` gives. `now` is
    /// asked if the message moves the conversation on. A message that is `done` with, for its bytes were copied behind others, is handed over:
    /// its memory serves another one, and one of a pool goes home when it is dropped.
    ///
    /// # Errors
    /// The message does not fit the conversation ([`Refusal::NotAllowed`],
    /// [`Refusal::ChannelClosing`]; [`Refusal::InvalidChannelNumber`] before the hello), or the
    /// queue ([`Refusal::QueueFull`]).
    ///
    /// # Example
    /// ```
    #[doc = include_str!("example.txt")]
    /// server.receive(&mut &greeting[..], now, blank);
    /// let signal = Message::signal(server.channel()).with_body("hi");
    /// let header = server.post(signal, 1 << 20, || now, || MessageId::new(5), drop)?;
    /// assert_eq!((header.id.get(), server.queue().bytes()), (5, 18));
    ///
    /// let signal = Message::signal(server.channel()).with_body("hi");
    /// let error = server.post(signal, 20, || now, || MessageId::new(6), drop).unwrap_err();
    /// assert!(matches!(error.refusal(), Refusal::QueueFull { queued_bytes: 18, .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn post(
        &mut self,
        mut message: Message,
        queue_max: usize,
        now: impl FnOnce() -> Instant,
        next_id: impl FnOnce() -> MessageId,
        done: impl FnOnce(Message),
    ) -> Result<Header, PostError> {
        let op_code = message.op_code();
        let next = match self.state.post(self.side, op_code, self.channel) {
            Ok(next) => next,
            Err(refusal) => return Err(PostError::new(message, refusal)),
        };
        if op_code == OpCode::HelloResponse && self.hello_answered {
            let refusal = Refusal::NotAllowed {
                op_code,
                channel: self.channel,
                why: "the hello was answered already",
            };
            return Err(PostError::new(message, refusal));
        }
        let queued_bytes = self.queue.bytes();
        let frame_len = message.frame_len();
        // A longer one may be the peer's own, that is given back: then peers would say how much is queued.
        let always_fits = op_code.op_type() == OpType::Bye && frame_len <= SHORT_BYE_LEN_MAX;
        if queued_bytes + frame_len > queue_max && !always_fits {
            let refusal = Refusal::QueueFull {
                channel: self.channel,
                queued_bytes,
            };
            return Err(PostError::new(message, refusal));
        }
        let id = match message.id() {
            MessageId::UNASSIGNED => next_id(),
            chosen => chosen,
        };
        message.address_to(self.channel, id);
        let header = message.binary_header();
        self.hello_answered |= op_code == OpCode::HelloResponse;
        self.queue.push(message, &header, done);
        if next != self.state {
            self.enter(next, now());
        }
        Ok(header)
    }

    /// What is to be written.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let written = client.queue().slices().collect::<Vec<_>>().concat();
    /// assert_eq!(written, greeting);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn queue(&self) -> &SendQueue {
        &self.queue
    }

    /// The next `count` bytes of the queue have left. The messages that are `done` with are handed over, as by
    /// [`post`](Self::post). `now` is asked while the conversation ends.
    ///
    /// # Panics
    /// In a debug build, if more is said to have left than was queued.
    ///
    /// # Example
    /// ```
    #[doc = include_str!("example.txt")]
    /// client.handle_connected(now);
    /// let len = client.queue().bytes();
    /// client.handle_sent(len - 1, || now, drop);
    /// assert_eq!(client.queue().bytes(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handle_sent(
        &mut self,
        count: usize,
        now: impl FnOnce() -> Instant,
        done: impl FnMut(Message),
    ) {
        self.queue.advance(count, done);
        self.moved(now);
    }

    /// The stream takes no more for now, or never again: what is queued may wait for long.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// client.handle_connected(now);
    /// client.handle_blocked(); // the socket is full
    /// assert!(!client.queue().is_empty()); // nothing is lost
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handle_blocked(&mut self) {
        self.queue.settle();
    }

    /// The memory in which the queue will put the next frames that leave together, for the driver to give
    /// or to take: an idle connection should have none.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// server.spare_memory().push(Vec::with_capacity(4096));
    /// assert_eq!(server.spare_memory().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spare_memory(&mut self) -> &mut Vec<Vec<u8>> {
        self.queue.spare()
    }

    /// The client's socket is connected.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// client.handle_connected(now);
    /// assert_eq!(client.poll_timeout(), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handle_connected(&mut self, now: Instant) {
        self.transport = Transport::Connected;
        self.deadline = None;
        self.moved(|| now);
    }

    /// Makes the next message of `input`, which holds bytes just read (or none, after
    /// [`resume`](Self::resume)). `take` gives an empty message to put it into, if there is one.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let mut input = &greeting[..20];
    /// assert!(matches!(server.receive(&mut input, now, blank), Received::Nothing));
    /// let mut input = &greeting[20..];
    /// let received = server.receive(&mut input, now, blank);
    /// assert!(matches!(received, Received::Message(hello) if hello.channel().get() == 9));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn receive(
        &mut self,
        input: &mut &[u8],
        now: Instant,
        take: impl FnOnce() -> Option<Message>,
    ) -> Received {
        let has_input = !input.is_empty();
        let frame = match self.decoder.peek(input) {
            Ok(Some(frame)) => frame,
            Ok(None) => return self.wait_for_more(has_input, now),
            Err(UnassignedOpCode(code)) => {
                return Received::Violation(Violation::UnassignedOpCode(code));
            }
        };
        let header = frame.header;
        let next = match judge(&header).and_then(|()| {
            let asked = has_asked(&self.queue, header.op_code);
            let answered = self.hello_answered;
            self.state
                .receive(self.side, header.op_code, asked, answered)
        }) {
            Ok(next) => next,
            Err(violation) => return Received::Violation(violation),
        };
        let Some(mut message) = take() else {
            self.decoder.keep(input);
            return Received::Starved;
        };
        let len = frame.len();
        if len < LANDED_MIN {
            message.fill(self.channel, &frame);
            self.decoder.consume(input, len);
        } else {
            self.take_large(&header, input, &mut message);
        }
        self.arrival = Arrival::AtRest;
        match header.op_code {
            OpCode::HelloRequest => self.opened_by = header.id,
            OpCode::HelloResponse => self.hello_answered = true,
            OpCode::ByeRequest => self.peer_bye = header.id,
            _ => {}
        }
        self.enter(next, now);
        Received::Message(message)
    }

    /// Makes the message of a large frame, without a copy if the frame is alone in the decoder's memory.
    fn take_large(&mut self, header: &Header, input: &mut &[u8], message: &mut Message) {
        let len = header.frame_len();
        if let Some(memory) = self.decoder.alone(len) {
            return message.adopt(self.channel, header, memory);
        }
        if let Ok(Some(frame)) = self.decoder.peek(input) {
            message.fill(self.channel, &frame);
        }
        self.decoder.consume(input, len);
    }

    /// Has the rest of a large frame read straight to where it stays, see [`Decoder::land`]: to be tried before
    /// each read. [`receive`](Self::receive) makes the message, with what else was read, if anything, as its input.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// // Nothing large is coming: read as usual.
    /// assert!(server.land(now, |_| Err(())).is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn land<E>(
        &mut self,
        now: Instant,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Option<Result<usize, E>> {
        let landed = self.decoder.land(read)?;
        if matches!(landed, Ok(count) if count > 0) {
            self.moved(|| now);
        }
        Some(landed)
    }

    /// The bytes are used up; part of a frame may be among them.
    fn wait_for_more(&mut self, has_moved: bool, now: Instant) -> Received {
        // A large frame on a slow network is no silence.
        if has_moved {
            self.moved(|| now);
        }
        self.arrival = if self.decoder.is_mid_frame() {
            Arrival::MidFrame(now + self.timeouts.frame)
        } else {
            Arrival::AtRest
        };
        // What must not come need not be waited for: its header tells.
        let begun = match self.decoder.begun() {
            Ok(Some(header)) => header,
            Ok(None) => return Received::Nothing,
            Err(UnassignedOpCode(code)) => {
                return Received::Violation(Violation::UnassignedOpCode(code));
            }
        };
        let asked = has_asked(&self.queue, begun.op_code);
        let allowed = judge(&begun).and_then(|()| {
            self.state
                .receive(self.side, begun.op_code, asked, self.hello_answered)
        });
        match allowed {
            Ok(_) => Received::Nothing,
            Err(violation) => Received::Violation(violation),
        }
    }

    /// Whether the driver does not read (see [`hold`](Self::hold)).
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// server.hold();
    /// assert!(server.is_held());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn is_held(&self) -> bool {
        self.arrival == Arrival::Held
    }

    /// The driver stops reading, for reasons of its own: the peer's time stands still.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// server.hold();
    /// assert_eq!(server.poll_timeout(), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn hold(&mut self) {
        self.arrival = Arrival::Held;
    }

    /// The driver reads again: the peer's time starts anew.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// server.hold();
    /// let later = now + second;
    /// server.resume(later);
    /// assert_eq!(server.poll_timeout(), Some(later + second));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resume(&mut self, now: Instant) {
        self.arrival = if self.decoder.is_mid_frame() {
            Arrival::MidFrame(now + self.timeouts.frame)
        } else {
            Arrival::AtRest
        };
        if self.state == State::Greeting {
            self.deadline = Some(now + self.timeouts.hello);
        }
        self.moved(|| now);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if nothing else happens.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let due = server.poll_timeout().expect("a hello is awaited");
    /// assert_eq!(due.since(now), second);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.arrival {
            Arrival::Held if self.is_connected() => None,
            Arrival::Held | Arrival::AtRest => self.deadline,
            Arrival::MidFrame(frame) => Some(self.deadline.map_or(frame, |other| other.min(frame))),
        }
    }

    /// The status to close with, if a timeout is due.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert_eq!(server.handle_timeout(now), None); // not yet
    /// assert_eq!(server.handle_timeout(now + second), Some(Status::HELLO_TIMEOUT));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handle_timeout(&self, now: Instant) -> Option<Status> {
        if self.poll_timeout().is_none_or(|due| due > now) {
            return None;
        }
        if self.deadline.is_none_or(|due| due > now) {
            return Some(Status::FRAME_TIMEOUT);
        }
        Some(match self.state {
            _ if !self.is_connected() => Status::CONNECT_TIMEOUT,
            State::Greeting => Status::HELLO_TIMEOUT,
            // Everything was said. That the peer does not close is no reason to complain.
            State::Answered | State::Parted if self.queue.is_empty() => Status::CHANNEL_CLOSED,
            _ => Status::BYE_TIMEOUT,
        })
    }

    /// The status to close with, once everything has been said and closing is ours.
    ///
    /// The example of the [module](self) goes that far.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert_eq!(client.poll_close(), None); // nobody has said bye
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn poll_close(&self) -> Option<Status> {
        (self.state == State::Done).then_some(Status::CHANNEL_CLOSED)
    }

    /// Whether our direction of the stream should end now: both sides have said everything, and
    /// neither knows whether the other has it all until it sees the end of the stream.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert!(!client.wants_half_close()); // nobody has said bye
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wants_half_close(&self) -> bool {
        self.state == State::Parted && self.queue.is_empty()
    }

    /// What to say of a stream that ended, or broke.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// // The stream ended before a bye.
    /// assert_eq!(server.reason_at_end(), Status::PEER_DISCONNECTED);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reason_at_end(&self) -> Status {
        match self.state {
            State::Done => Status::CHANNEL_CLOSED,
            State::Answered | State::Parted if self.queue.is_empty() => Status::CHANNEL_CLOSED,
            _ => Status::PEER_DISCONNECTED,
        }
    }

    /// What could not be sent, oldest first; the connection keeps nothing.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// // The connection could not be made.
    /// let unsent: Vec<_> = client.take_unsent().collect();
    /// assert_eq!(unsent[0].op_code(), OpCode::HelloRequest);
    /// assert!(client.queue().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_unsent(&mut self) -> Unsent {
        core::mem::take(&mut self.queue).into_unsent()
    }

    #[inline]
    fn enter(&mut self, next: State, now: Instant) {
        if self.state == State::Greeting {
            self.deadline = None;
        }
        self.state = next;
        self.moved(|| now);
    }

    /// Something moved: a bye that is under way has its time again.
    #[inline]
    fn moved(&mut self, now: impl FnOnce() -> Instant) {
        if self.is_connected() && self.state.is_leaving() {
            self.deadline = Some(now() + self.timeouts.bye);
        }
    }
}

/// Whether our ByeRequest has left completely, if that matters: an answer cannot overtake its question.
#[inline]
fn has_asked(queue: &SendQueue, op_code: OpCode) -> bool {
    op_code != OpCode::ByeResponse || !queue.holds(OpCode::ByeRequest)
}

/// The rules for a frame that hold in every state (PROTOCOL.md section 1).
#[inline]
fn judge(header: &Header) -> Result<(), Violation> {
    let op_code = header.op_code;
    if !op_code.travels() {
        return Err(Violation::LocalOpCode(op_code));
    }
    if header.origin == Origin::Engine {
        return Err(Violation::EngineOrigin(op_code));
    }
    if op_code.role() == Role::Response && !header.id.is_assigned() {
        return Err(Violation::ResponseWithoutId(op_code));
    }
    if header.more && op_code.op_type() != OpType::Regular {
        return Err(Violation::MoreNotAllowed(op_code));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
