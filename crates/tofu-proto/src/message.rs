//! A message, and the checks before it is posted.
//!
//! A message owns one run of memory: its text headers, then its body. Memory that came from a pool
//! goes back there when the message is dropped; the pool is known here only as a [`Home`].

use alloc::{borrow::Cow, boxed::Box, string::String, sync::Arc, vec::Vec};
use core::{
    fmt,
    ops::{Deref, DerefMut},
};

use crate::{
    Address, ChannelNumber, Frame, Header, HeaderError, MessageId, OpCode, OpType, Origin, Refusal,
    Role, Status,
    wire::{self, CONNECT_TO, LISTEN_ON, TextHeaders},
};

/// Where a dropped message's memory goes: the pool that it came from.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use tofu_proto::{Blank, Home, Message};
///
/// #[derive(Debug, Default)]
/// struct Pool(Mutex<Vec<Blank>>);
/// impl Home for Pool {
///     fn take_back(&self, memory: Blank) {
///         self.0.lock().expect("nobody panics").push(memory);
///     }
/// }
///
/// let pool = Arc::new(Pool::default());
/// drop(Message::from_home(Blank::with_capacity(512), pool.clone()));
/// assert_eq!(pool.0.lock().expect("nobody panics").len(), 1);
/// ```
pub trait Home: Send + Sync + fmt::Debug {
    /// Takes the memory of a message back. It is called exactly once for each message made with
    /// [`Message::from_home`], with no memory when the message has been taken out of the pool's care.
    fn take_back(&self, memory: Blank);
}

/// A message: what a peer says, or what an application orders its engine to do.
///
/// Made by op code, completed with the `with_` methods, posted, and gone: posting moves it.
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::{ChannelNumber, Message, OpCode};
///
/// let channel = ChannelNumber::new(3);
/// let request = Message::request(channel)
///     .with_id(7)
///     .with_header("content-type", "text/plain")
///     .with_body("what time is it?");
/// assert_eq!(request.header("content-type"), Some("text/plain"));
///
/// let answer = request.reply().expect("a request can be answered").with_body("late");
/// assert_eq!(answer.op_code(), OpCode::Response);
/// assert_eq!((answer.channel(), answer.id()), (request.channel(), request.id()));
/// assert_eq!(
///     format!("{answer:?}"),
///     r#"Response channel=3 id=7 body=4 bytes "late""#
/// );
/// ```
pub struct Message {
    content: Owned,
}

/// What a message says, apart: so that a message is as small as a pointer, however often it moves.
#[derive(Clone, Debug)]
struct Content {
    op_code: OpCode,
    origin: Origin,
    more: bool,
    status: Status,
    channel: ChannelNumber,
    id: MessageId,
    /// Text headers, then body.
    payload: Vec<u8>,
    text_headers_len: usize,
    /// The first text header that could not be written: told when the message is posted.
    defect: Option<Box<HeaderError>>,
    home: Option<Arc<dyn Home>>,
}

impl Content {
    /// Says nothing any more, and keeps its memory.
    #[inline]
    fn blank(&mut self) {
        self.op_code = OpCode::Request;
        self.origin = Origin::Application;
        self.more = false;
        self.status = Status::SUCCESS;
        self.channel = ChannelNumber::UNASSIGNED;
        self.id = MessageId::UNASSIGNED;
        self.payload.clear();
        self.text_headers_len = 0;
        self.defect = None;
    }

    const fn empty() -> Self {
        Self::new(
            OpCode::Request,
            ChannelNumber::UNASSIGNED,
            MessageId::UNASSIGNED,
        )
    }

    const fn new(op_code: OpCode, channel: ChannelNumber, id: MessageId) -> Self {
        Self {
            op_code,
            origin: Origin::Application,
            more: false,
            status: Status::SUCCESS,
            channel,
            id,
            payload: Vec::new(),
            text_headers_len: 0,
            defect: None,
            home: None,
        }
    }
}

/// A message's content. It is gone only while the message is being dropped.
#[derive(Clone)]
struct Owned(Option<Box<Content>>);

const OWNED: &str = "a message has its content until it is dropped";

impl Deref for Owned {
    type Target = Content;

    #[inline]
    fn deref(&self) -> &Content {
        self.0.as_deref().expect(OWNED)
    }
}

impl DerefMut for Owned {
    #[inline]
    fn deref_mut(&mut self) -> &mut Content {
        self.0.as_deref_mut().expect(OWNED)
    }
}

/// The memory of a message that says nothing: what a pool keeps. It may be none at all.
///
/// ```
/// use tofu_proto::{Blank, Message};
///
/// let memory = Blank::with_capacity(512);
/// let message = Message::from_memory(memory).with_body("any");
/// assert!(message.into_memory().capacity() >= 512);
/// assert_eq!(Blank::default().capacity(), 0);
/// ```
#[derive(Debug, Default)]
pub struct Blank(Option<Box<Content>>);

impl Blank {
    /// Memory for text headers and body of `capacity` bytes together.
    ///
    /// ```
    /// assert!(tofu_proto::Blank::with_capacity(512).capacity() >= 512);
    /// ```
    pub fn with_capacity(capacity: usize) -> Self {
        let mut content = Content::empty();
        content.payload.reserve(capacity);
        Self(Some(Box::new(content)))
    }

    /// Bytes of text headers and body that fit.
    ///
    /// ```
    /// assert_eq!(tofu_proto::Blank::default().capacity(), 0);
    /// ```
    pub fn capacity(&self) -> usize {
        self.0
            .as_ref()
            .map_or(0, |content| content.payload.capacity())
    }
}

/// What a message that passed its [check](Message::check) orders the engine to do.
///
/// ```
/// use tofu_proto::{Address, ChannelNumber, Message, Order};
///
/// let address: Address = "tcp://localhost:80".parse()?;
/// assert_eq!(Message::hello_request(&address).check()?, Order::Connect(address));
/// assert_eq!(Message::bye_signal(ChannelNumber::new(3)).check()?, Order::Close);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Listen on this address.
    Listen(Address),
    /// Connect to this address, and send the message as the first one.
    Connect(Address),
    /// Send the message.
    Send,
    /// Close the channel at once.
    Close,
}

/// The message cannot be answered: its op code, which is in here, has no [echo](OpCode::echo).
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::{ChannelNumber, Message, NoReply, OpCode};
///
/// let bye = Message::bye_signal(ChannelNumber::new(3));
/// assert_eq!(bye.reply(), Err(NoReply(OpCode::ByeSignal)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoReply(pub OpCode);

impl fmt::Display for NoReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has no answer", self.0)
    }
}

impl core::error::Error for NoReply {}

/// Making messages.
impl Message {
    /// Bytes of the largest body, and of all text headers together (PROTOCOL.md section 1). More goes as several
    /// messages, see [`with_more`](Self::with_more).
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let of_len = |len| Message::signal(ChannelNumber::new(1)).with_body(vec![0; len]);
    /// assert!(of_len(Message::BODY_MAX).check().is_ok());
    /// assert!(of_len(Message::BODY_MAX + 1).check().is_err());
    /// ```
    pub const BODY_MAX: usize = u16::MAX as usize;

    /// An empty message with this op code and id. Mostly another constructor says the same better:
    /// [`request`](Self::request), [`signal`](Self::signal), [`reply`](Self::reply) to a message.
    ///
    /// With id 0 the engine assigns the next of its sequence; a response needs the id of its request.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, OpCode};
    ///
    /// let answer = Message::new(OpCode::Response, ChannelNumber::new(3), 7);
    /// assert_eq!((answer.op_code(), answer.id().get()), (OpCode::Response, 7));
    /// ```
    #[inline]
    pub fn new(op_code: OpCode, channel: ChannelNumber, id: impl Into<MessageId>) -> Self {
        Self {
            content: Owned(Some(Box::new(Content::new(op_code, channel, id.into())))),
        }
    }

    /// Listens on `address`. It never travels: the engine answers it with a WelcomeResponse, which says what
    /// was bound (PROTOCOL.md sections 1 and 2).
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::Message;
    ///
    /// let welcome = Message::welcome_request(&"tcp://127.0.0.1:0".parse()?);
    /// assert_eq!(welcome.header("~listen_on"), Some("tcp|127.0.0.1|0"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn welcome_request(address: &Address) -> Self {
        Self::new(
            OpCode::WelcomeRequest,
            ChannelNumber::UNASSIGNED,
            MessageId::UNASSIGNED,
        )
        .with_header(LISTEN_ON, alloc::format!("{address}"))
    }

    /// Connects to `address`, and is the first message that the server gets, with all its text headers and its
    /// body: a place for a name or a token (PROTOCOL.md sections 2 and 3).
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::Message;
    ///
    /// let hello = Message::hello_request(&"tcp://example.org:80".parse()?).with_header("user", "alice");
    /// assert_eq!(hello.header("~connect_to"), Some("tcp|example.org|80"));
    /// assert_eq!(hello.header("user"), Some("alice"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn hello_request(address: &Address) -> Self {
        Self::new(
            OpCode::HelloRequest,
            ChannelNumber::UNASSIGNED,
            MessageId::UNASSIGNED,
        )
        .with_header(CONNECT_TO, alloc::format!("{address}"))
    }

    /// Asks the peer something. The answer carries the id that posting assigns, or that
    /// [`with_id`](Self::with_id) chose.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, OpCode};
    ///
    /// let request = Message::request(ChannelNumber::new(3)).with_body("what time is it?");
    /// assert_eq!(request.op_code(), OpCode::Request);
    /// assert_eq!(request.body(), b"what time is it?");
    /// ```
    #[inline]
    pub fn request(channel: ChannelNumber) -> Self {
        Self::new(OpCode::Request, channel, MessageId::UNASSIGNED)
    }

    /// Tells the peer something, and expects no answer.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, OpCode};
    ///
    /// let signal = Message::signal(ChannelNumber::new(3)).with_body("it rains");
    /// assert_eq!(signal.op_code(), OpCode::Signal);
    /// ```
    #[inline]
    pub fn signal(channel: ChannelNumber) -> Self {
        Self::new(OpCode::Signal, channel, MessageId::UNASSIGNED)
    }

    /// Closes gracefully: everything posted before still arrives. Nothing can be posted behind it
    /// (PROTOCOL.md section 3). To a listener it is an order to close.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, OpCode};
    ///
    /// let bye = Message::bye_request(ChannelNumber::new(3)).with_body("until tomorrow");
    /// assert_eq!((bye.op_code(), bye.channel().get()), (OpCode::ByeRequest, 3));
    /// ```
    pub fn bye_request(channel: ChannelNumber) -> Self {
        Self::new(OpCode::ByeRequest, channel, MessageId::UNASSIGNED)
    }

    /// Closes at once: what is still queued comes back, and the peer sees a disconnect. It never travels
    /// (PROTOCOL.md section 1).
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, OpCode};
    ///
    /// let bye = Message::bye_signal(ChannelNumber::new(3));
    /// assert_eq!(bye.op_code(), OpCode::ByeSignal);
    /// assert!(!bye.op_code().travels());
    /// ```
    pub fn bye_signal(channel: ChannelNumber) -> Self {
        Self::new(OpCode::ByeSignal, channel, MessageId::UNASSIGNED)
    }

    /// The answer to this message, empty, with its channel and id.
    ///
    /// The answer to a signal is a signal: two peers that both answer all they can would never stop. Where the
    /// other side may do so too, answer only what [is a request](Self::is_request).
    ///
    /// # Errors
    /// The message is an answer itself (or an order to close): nothing answers it.
    ///
    /// # Example
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, OpCode};
    ///
    /// let request = Message::request(ChannelNumber::new(3)).with_id(7).with_body("world");
    /// let answer = request.reply()?.with_body("hello");
    /// assert_eq!((answer.op_code(), answer.id().get()), (OpCode::Response, 7));
    /// assert!(answer.reply().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reply(&self) -> Result<Self, NoReply> {
        let echo = self
            .content
            .op_code
            .echo()
            .ok_or(NoReply(self.content.op_code))?;
        Ok(Self::new(echo, self.content.channel, self.content.id))
    }

    /// Turns this message into its own answer, with its channel, id, text headers, body and memory.
    ///
    /// # Errors
    /// As [`reply`](Self::reply); the message is dropped then.
    ///
    /// # Example
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, OpCode};
    ///
    /// let request = Message::request(ChannelNumber::new(3)).with_id(7).with_body("echo");
    /// let answer = request.into_reply()?;
    /// assert_eq!((answer.op_code(), answer.body()), (OpCode::Response, &b"echo"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_reply(mut self) -> Result<Self, NoReply> {
        self.content.op_code = self
            .content
            .op_code
            .echo()
            .ok_or(NoReply(self.content.op_code))?;
        Ok(self)
    }

    /// With this op code, for a message whose memory came from a pool.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, OpCode};
    ///
    /// let message = Message::request(ChannelNumber::new(3)).with_op_code(OpCode::Signal);
    /// assert_eq!(message, Message::signal(ChannelNumber::new(3)));
    /// ```
    #[must_use]
    #[inline]
    pub fn with_op_code(mut self, op_code: OpCode) -> Self {
        self.content.op_code = op_code;
        self
    }

    /// To this channel.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let note = Message::signal(ChannelNumber::new(3)).with_body("to all");
    /// let copy = note.clone().with_channel(ChannelNumber::new(4));
    /// assert_eq!((copy.channel().get(), copy.body()), (4, note.body()));
    /// ```
    #[must_use]
    #[inline]
    pub fn with_channel(mut self, channel: ChannelNumber) -> Self {
        self.content.channel = channel;
        self
    }

    /// With this message id. Without one, the engine assigns the next of its sequence.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, MessageId};
    ///
    /// let request = Message::request(ChannelNumber::new(3)).with_id(7);
    /// assert_eq!(request.id(), MessageId::new(7));
    /// ```
    #[must_use]
    #[inline]
    pub fn with_id(mut self, id: impl Into<MessageId>) -> Self {
        self.content.id = id.into();
        self
    }

    /// With or without the `more` flag: whether other messages of the same logical unit follow. They carry the
    /// same id; only Request, Response and Signal can be continued (PROTOCOL.md section 1).
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let large = vec![7; 150_000];
    /// let mut parts = large.chunks(65_535).peekable();
    /// let mut messages = Vec::new();
    /// while let Some(part) = parts.next() {
    ///     let has_more = parts.peek().is_some();
    ///     let message = Message::signal(ChannelNumber::new(3)).with_id(7).with_more(has_more);
    ///     messages.push(message.with_body(part));
    /// }
    /// assert_eq!(messages.iter().map(Message::has_more).collect::<Vec<_>>(), [true, true, false]);
    /// ```
    #[must_use]
    #[inline]
    pub fn with_more(mut self, more: bool) -> Self {
        self.content.more = more;
        self
    }

    /// With one more text header, behind those that it has (PROTOCOL.md section 2).
    ///
    /// The name is trimmed, and so is the value when it is read. A name that is empty or has `:`, CR or LF in it, or a value that is empty
    /// or has CR or LF in it, cannot be sent: posting the message tells so
    /// ([`Refusal::InvalidHeader`]); [`push_header`](Self::push_header) tells it at once.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let request = Message::request(ChannelNumber::new(3)).with_header("lang", "en");
    /// assert_eq!(request.header("lang"), Some("en"));
    ///
    /// let forged = request.with_header("lang", "en\r\nuser:root");
    /// assert!(forged.check().is_err()); // posting it is refused as well
    /// ```
    #[must_use]
    pub fn with_header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        if let Err(error) = self.push_header(name, value) {
            self.content.defect.get_or_insert_with(|| Box::new(error));
        }
        self
    }

    /// With this body, in place of the one it had. A message has at most 65,535 bytes of it: more are refused
    /// when it is posted ([`Refusal::InvalidBodyLen`]).
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let signal = Message::signal(ChannelNumber::new(3)).with_body("one").with_body([2, 3]);
    /// assert_eq!(signal.body(), [2, 3]);
    /// ```
    #[must_use]
    #[inline]
    pub fn with_body(mut self, body: impl AsRef<[u8]>) -> Self {
        let content = &mut *self.content;
        if content.payload.capacity() == 0 {
            content.payload = body.as_ref().to_vec();
        } else {
            content.payload.truncate(content.text_headers_len);
            content.payload.extend_from_slice(body.as_ref());
        }
        self
    }

    /// Adds a text header behind those that the message has.
    ///
    /// # Errors
    /// A name or a value that cannot be written; the message stays as it was.
    ///
    /// # Example
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, HeaderError, Message};
    ///
    /// let mut request = Message::request(ChannelNumber::new(3));
    /// request.push_header("lang", "en")?;
    /// assert_eq!(request.push_header("", "en"), Err(HeaderError::EmptyName));
    /// assert_eq!(request.text_headers().iter().count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn push_header(
        &mut self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<(), HeaderError> {
        let body_start = self.content.text_headers_len;
        let old_len = self.content.payload.len();
        wire::encode(&mut self.content.payload, name.as_ref(), value.as_ref())?;
        self.content.text_headers_len += self.content.payload.len() - old_len;
        // Written behind the body: moved in front of it (nothing to move as long as there is none).
        let line_len = self.content.payload.len() - old_len;
        self.content.payload[body_start..].rotate_right(line_len);
        Ok(())
    }

    /// Adds bytes to the end of the body.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let mut signal = Message::signal(ChannelNumber::new(3)).with_body("key=");
    /// signal.extend_body("value");
    /// assert_eq!(signal.body(), b"key=value");
    /// ```
    #[inline]
    pub fn extend_body(&mut self, bytes: impl AsRef<[u8]>) {
        self.content.payload.extend_from_slice(bytes.as_ref());
    }
}

/// Reading messages.
impl Message {
    /// What it means.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, OpCode};
    ///
    /// assert_eq!(Message::signal(ChannelNumber::new(3)).op_code(), OpCode::Signal);
    /// ```
    #[inline]
    pub fn op_code(&self) -> OpCode {
        self.content.op_code
    }

    /// Its channel, local to the engine of the application that reads this (PROTOCOL.md section 1).
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let channel = ChannelNumber::new(3);
    /// assert_eq!(Message::signal(channel).channel(), channel);
    /// let hello = Message::hello_request(&"tcp://localhost".parse()?);
    /// assert_eq!(hello.channel(), ChannelNumber::UNASSIGNED); // until it is posted
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn channel(&self) -> ChannelNumber {
        self.content.channel
    }

    /// Whether its sender waits for an answer: a HelloRequest, a Request, a ByeRequest (and a WelcomeRequest, which
    /// its engine answers).
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let channel = ChannelNumber::new(1);
    /// assert!(Message::request(channel).is_request());
    /// assert!(Message::bye_request(channel).is_request());
    /// assert!(!Message::signal(channel).is_request());
    /// ```
    #[inline]
    pub fn is_request(&self) -> bool {
        self.content.op_code.role() == Role::Request
    }

    /// Its correlation id.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, MessageId};
    ///
    /// let request = Message::request(ChannelNumber::new(3));
    /// assert_eq!(request.id(), MessageId::UNASSIGNED); // until it is posted
    /// assert_eq!(request.with_id(7).id(), MessageId::new(7));
    /// ```
    #[inline]
    pub fn id(&self) -> MessageId {
        self.content.id
    }

    /// Whether more messages of the same logical unit follow.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let part = Message::signal(ChannelNumber::new(3)).with_more(true);
    /// assert!(part.has_more());
    /// ```
    pub fn has_more(&self) -> bool {
        self.content.more
    }

    /// Why it came back; [`Status::SUCCESS`] on a message that did not.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, Status};
    ///
    /// let fresh = Message::request(ChannelNumber::new(3));
    /// assert_eq!(fresh.status(), Status::SUCCESS);
    /// ```
    pub fn status(&self) -> Status {
        self.content.status
    }

    /// Who made it: the engine only if it is a WelcomeResponse.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, Origin};
    ///
    /// assert_eq!(Message::signal(ChannelNumber::new(3)).origin(), Origin::Application);
    /// ```
    pub fn origin(&self) -> Origin {
        self.content.origin
    }

    /// The value of the first text header with this name, if there is one and it is UTF-8. Names are
    /// case-sensitive. For values that are bytes see [`TextHeaders::value`].
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let request = Message::request(ChannelNumber::new(3)).with_header("lang", "en");
    /// assert_eq!(request.header("lang"), Some("en"));
    /// assert_eq!(request.header("Lang"), None);
    /// ```
    pub fn header(&self, name: impl AsRef<[u8]>) -> Option<&str> {
        core::str::from_utf8(self.text_headers().value(name)?).ok()
    }

    /// The address in a welcome or a hello: where to listen or connect, and in the engine's WelcomeResponse what
    /// was really bound. `None` if there is none, or it is not one.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{Address, ChannelNumber, Message};
    ///
    /// let address: Address = "tcp://127.0.0.1:7099".parse().unwrap();
    /// assert_eq!(Message::hello_request(&address).address(), Some(address));
    /// assert_eq!(Message::request(ChannelNumber::new(1)).address(), None);
    /// ```
    pub fn address(&self) -> Option<Address> {
        let name = match self.content.op_code.op_type() {
            OpType::Welcome => LISTEN_ON,
            OpType::Hello => CONNECT_TO,
            OpType::Regular | OpType::Bye => return None,
        };
        Address::from_bytes(self.text_headers().value(name)?).ok()
    }

    /// All its text headers.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let request = Message::request(ChannelNumber::new(3))
    ///     .with_header("lang", "en")
    ///     .with_header("lang", "de");
    /// let values = request.text_headers().iter().filter_map(|header| header.value_str());
    /// assert_eq!(values.collect::<Vec<_>>(), ["en", "de"]);
    /// ```
    #[inline]
    pub fn text_headers(&self) -> TextHeaders<'_> {
        TextHeaders::new(&self.content.payload[..self.content.text_headers_len])
    }

    /// Its body: 0 to 65,535 bytes, of which only the application knows the meaning.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let signal = Message::signal(ChannelNumber::new(3)).with_header("a", "b").with_body("hi");
    /// assert_eq!(signal.body(), b"hi");
    /// ```
    #[inline]
    pub fn body(&self) -> &[u8] {
        &self.content.payload[self.content.text_headers_len..]
    }

    /// Its body as text; what is not UTF-8 in it is replaced by U+FFFD.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let signal = Message::signal(ChannelNumber::new(3)).with_body("tofu");
    /// assert_eq!(signal.body_text(), "tofu");
    /// ```
    pub fn body_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.body())
    }

    /// Its binary header.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let header = Message::signal(ChannelNumber::new(3)).with_body("hi").binary_header();
    /// assert_eq!((header.channel.get(), header.body_len), (3, 2));
    /// ```
    #[inline]
    pub fn binary_header(&self) -> Header {
        let content = &*self.content;
        Header {
            channel: content.channel,
            op_code: content.op_code,
            origin: content.origin,
            more: content.more,
            status: content.status,
            id: content.id,
            text_headers_len: saturated(content.text_headers_len),
            body_len: saturated(content.payload.len() - content.text_headers_len),
        }
    }

    /// The checks before posting that need nothing but the message, and what it orders
    /// (PROTOCOL.md sections 1 and 2).
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    ///
    /// # Example
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, Refusal};
    ///
    /// let signal = Message::signal(ChannelNumber::new(3));
    /// assert!(signal.check().is_ok());
    /// let too_long = signal.with_body(vec![0; 65_536]);
    /// assert_eq!(too_long.check(), Err(Refusal::InvalidBodyLen(65_536)));
    /// ```
    #[inline]
    pub fn check(&self) -> Result<Order, Refusal> {
        let op_code = self.content.op_code;
        if op_code == OpCode::WelcomeResponse {
            return Err(Refusal::InvalidOpCode(op_code));
        }
        if op_code.role() == Role::Response && !self.content.id.is_assigned() {
            return Err(Refusal::InvalidMessageId(op_code));
        }
        if self.content.more && op_code.op_type() != OpType::Regular {
            return Err(Refusal::InvalidMoreUsage(op_code));
        }
        if let Some(defect) = &self.content.defect {
            return Err(Refusal::InvalidHeader((**defect).clone()));
        }
        if self.content.text_headers_len > usize::from(u16::MAX) {
            return Err(Refusal::InvalidHeadersLen(self.content.text_headers_len));
        }
        if self.body().len() > Self::BODY_MAX {
            return Err(Refusal::InvalidBodyLen(self.body().len()));
        }
        match op_code {
            OpCode::HelloRequest | OpCode::WelcomeRequest => {
                if self.content.channel != ChannelNumber::UNASSIGNED {
                    return Err(Refusal::NotAllowed {
                        op_code,
                        channel: self.content.channel,
                        why: "it opens a channel of its own: leave the channel number 0",
                    });
                }
                self.opening_order()
            }
            _ if !self.content.channel.is_assigned() => {
                Err(Refusal::InvalidChannelNumber(self.content.channel))
            }
            OpCode::ByeSignal => Ok(Order::Close),
            _ => Ok(Order::Send),
        }
    }

    fn opening_order(&self) -> Result<Order, Refusal> {
        let name = if self.content.op_code == OpCode::HelloRequest {
            CONNECT_TO
        } else {
            LISTEN_ON
        };
        let value = self
            .text_headers()
            .value(name)
            .ok_or(Refusal::WrongAddress(self.content.op_code))?;
        let address = Address::from_bytes(value).map_err(Refusal::InvalidAddress)?;
        if self.content.op_code == OpCode::WelcomeRequest {
            return Ok(Order::Listen(address));
        }
        address.check_connect().map_err(Refusal::InvalidAddress)?;
        Ok(Order::Connect(address))
    }
}

/// For engines.
impl Message {
    /// An empty message whose memory goes to `home` when it is dropped. See [`Home`] for an example.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use tofu_proto::{Blank, Home, Message};
    /// # #[derive(Debug)]
    /// # struct Pool;
    /// # impl Home for Pool {
    /// #     fn take_back(&self, _: Blank) {}
    /// # }
    /// let message = Message::from_home(Blank::with_capacity(512), Arc::new(Pool));
    /// assert!(message.home().is_some() && message.body().is_empty());
    /// ```
    #[inline]
    pub fn from_home(memory: Blank, home: Arc<dyn Home>) -> Self {
        let mut message = Self::from_memory(memory);
        message.content.home = Some(home);
        message
    }

    /// An empty message of its own.
    ///
    /// ```
    /// use tofu_proto::{Blank, Message};
    ///
    /// let message = Message::from_memory(Blank::with_capacity(512));
    /// assert!(message.home().is_none() && message.body().is_empty());
    /// ```
    #[inline]
    pub fn from_memory(memory: Blank) -> Self {
        let content = memory.0.unwrap_or_else(|| Box::new(Content::empty()));
        Self {
            content: Owned(Some(content)),
        }
    }

    /// Says nothing any more of what it said, and becomes an empty message as [`new`](Self::new) makes it, with
    /// the memory that it has.
    ///
    /// ```
    /// use tofu_proto::{ChannelNumber, Message, MessageId, OpCode};
    ///
    /// let channel = ChannelNumber::new(3);
    /// let mut message = Message::signal(channel).with_header("k", "v").with_body("hi");
    /// message.renew(OpCode::Request, channel, MessageId::UNASSIGNED);
    /// assert_eq!(message, Message::request(channel));
    /// ```
    #[inline]
    pub fn renew(&mut self, op_code: OpCode, channel: ChannelNumber, id: MessageId) {
        let content = &mut *self.content;
        content.blank();
        content.op_code = op_code;
        content.channel = channel;
        content.id = id;
    }

    /// Bytes of text headers and body that fit into its memory.
    ///
    /// ```
    /// use tofu_proto::{Blank, Message};
    ///
    /// assert!(Message::from_memory(Blank::with_capacity(512)).capacity() >= 512);
    /// ```
    #[inline]
    pub fn capacity(&self) -> usize {
        self.content.payload.capacity()
    }

    /// Where its memory goes when it is dropped; `None` if that is its own.
    ///
    /// ```
    /// use tofu_proto::{ChannelNumber, Message};
    ///
    /// assert!(Message::signal(ChannelNumber::new(3)).home().is_none());
    /// ```
    #[inline]
    pub fn home(&self) -> Option<&dyn Home> {
        self.content.home.as_deref()
    }

    /// Its memory, for one who answers for its home: that is not told.
    ///
    /// ```
    /// use tofu_proto::{ChannelNumber, Message};
    ///
    /// let memory = Message::signal(ChannelNumber::new(3)).with_body([0; 100]).into_memory();
    /// assert!(memory.capacity() >= 100);
    /// assert!(Message::from_memory(memory).body().is_empty());
    /// ```
    #[inline]
    pub fn into_memory(mut self) -> Blank {
        self.content.home = None;
        self.content.blank();
        Blank(self.content.0.take())
    }

    /// Takes the message out of its pool's care: it no longer counts there, and keeps its memory.
    ///
    /// ```
    /// use tofu_proto::{ChannelNumber, Message};
    ///
    /// let mut message = Message::signal(ChannelNumber::new(3)).with_body("kept");
    /// message.leave_home();
    /// assert!(message.home().is_none());
    /// assert_eq!(message.body(), b"kept");
    /// ```
    pub fn leave_home(&mut self) {
        if let Some(home) = self.content.home.take() {
            home.take_back(Blank::default());
        }
    }

    /// Becomes what `frame` says, on the local channel `channel`. The status on the wire means
    /// nothing and is read as 0 (PROTOCOL.md section 1).
    ///
    /// ```
    /// use tofu_proto::{ChannelNumber, Frame, Header, Message, OpCode};
    ///
    /// let header = Header { body_len: 2, ..Header::new(OpCode::Signal) };
    /// let mut message = Message::request(ChannelNumber::UNASSIGNED);
    /// message.fill(ChannelNumber::new(3), &Frame { header, payload: b"hi" });
    /// assert_eq!(message, Message::signal(ChannelNumber::new(3)).with_body("hi"));
    /// ```
    #[inline]
    pub fn fill(&mut self, channel: ChannelNumber, frame: &Frame<'_>) {
        let content = &mut *self.content;
        content.op_code = frame.header.op_code;
        content.origin = frame.header.origin;
        content.more = frame.header.more;
        content.status = Status::SUCCESS;
        content.channel = channel;
        content.id = frame.header.id;
        content.text_headers_len = usize::from(frame.header.text_headers_len);
        content.defect = None;
        content.payload.clear();
        content.payload.extend_from_slice(frame.payload);
    }

    /// Clears what an application may not say, and assigns its numbers, before it is sent.
    ///
    /// ```
    /// use tofu_proto::{ChannelNumber, Message, MessageId};
    ///
    /// let mut hello = Message::hello_request(&"tcp://localhost".parse()?);
    /// hello.address_to(ChannelNumber::new(3), MessageId::new(7));
    /// assert_eq!((hello.channel().get(), hello.id().get()), (3, 7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn address_to(&mut self, channel: ChannelNumber, id: MessageId) {
        let content = &mut *self.content;
        content.origin = Origin::Application;
        content.status = Status::SUCCESS;
        content.channel = channel;
        content.id = id;
    }

    /// Marks why the message comes back.
    ///
    /// ```
    /// use tofu_proto::{ChannelNumber, Message, Status};
    ///
    /// let mut message = Message::signal(ChannelNumber::new(3));
    /// message.set_status(Status::PEER_DISCONNECTED);
    /// assert_eq!(message.status(), Status::PEER_DISCONNECTED);
    /// ```
    pub fn set_status(&mut self, status: Status) {
        self.content.status = status;
    }

    /// Marks who made the message: the engine, if it is its own word.
    ///
    /// ```
    /// use tofu_proto::{ChannelNumber, Message, OpCode, Origin};
    ///
    /// let mut answer = Message::new(OpCode::WelcomeResponse, ChannelNumber::new(3), 7);
    /// answer.set_origin(Origin::Engine);
    /// assert_eq!(answer.origin(), Origin::Engine);
    /// ```
    pub fn set_origin(&mut self, origin: Origin) {
        self.content.origin = origin;
    }

    /// Text headers and body, as they travel behind the binary header.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let signal = Message::signal(ChannelNumber::new(3)).with_header("k", "v").with_body("hi");
    /// assert_eq!(signal.payload(), b"k:v\r\nhi");
    /// ```
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.content.payload
    }

    /// Bytes of its frame on the wire: 16 of the header, the text headers, and the body.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let signal = Message::signal(ChannelNumber::new(3)).with_header("k", "v").with_body("hi");
    /// assert_eq!(signal.frame_len(), 16 + 5 + 2);
    /// ```
    #[inline]
    pub fn frame_len(&self) -> usize {
        Header::LEN + self.content.payload.len()
    }
}

impl Drop for Message {
    #[inline]
    fn drop(&mut self) {
        if let Some(mut content) = self.content.0.take()
            && let Some(home) = content.home.take()
        {
            content.blank();
            home.take_back(Blank(Some(content)));
        }
    }
}

/// A copy with memory of its own, which belongs to no pool.
impl Clone for Message {
    fn clone(&self) -> Self {
        let mut content = self.content.clone();
        content.home = None;
        Self { content }
    }
}

/// Equal content; where the memory came from does not matter.
impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.binary_header() == other.binary_header()
            && self.content.text_headers_len == other.content.text_headers_len
            && self.content.payload == other.content.payload
            && self.content.defect == other.content.defect
    }
}

impl Eq for Message {}

/// The message in one line.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BODY_SHOWN: usize = 32;
        write!(
            f,
            "{} channel={} id={}",
            self.content.op_code, self.content.channel, self.content.id
        )?;
        if self.content.more {
            f.write_str(" more")?;
        }
        if !self.content.status.is_success() {
            write!(f, " status={}", self.content.status)?;
        }
        if !self.text_headers().is_empty() {
            write!(f, " headers={:?}", self.text_headers())?;
        }
        let body = self.body();
        if body.is_empty() {
            return Ok(());
        }
        let shown = &body[..body.len().min(BODY_SHOWN)];
        let more = if shown.len() < body.len() { "..." } else { "" };
        write!(
            f,
            " body={} bytes \"{}\"{more}",
            body.len(),
            shown.escape_ascii()
        )
    }
}

/// A message that is posted was checked before: its lengths fit.
fn saturated(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::ToString, vec};
    use core::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const CHANNEL: ChannelNumber = ChannelNumber::new(5);

    fn refusal(message: &Message) -> Refusal {
        message.check().expect_err("must be refused")
    }

    #[test]
    fn a_welcome_response_is_not_posted() {
        let message = Message::new(OpCode::WelcomeResponse, CHANNEL, 1);
        assert_eq!(
            refusal(&message),
            Refusal::InvalidOpCode(OpCode::WelcomeResponse)
        );
    }

    #[test]
    fn a_response_needs_the_id_of_its_request() {
        for op in [OpCode::Response, OpCode::HelloResponse, OpCode::ByeResponse] {
            let message = Message::new(op, CHANNEL, 0);
            assert_eq!(refusal(&message), Refusal::InvalidMessageId(op));
            assert_eq!(message.with_id(9).check(), Ok(Order::Send));
        }
    }

    #[test]
    fn only_regular_messages_are_continued() {
        for op in OpCode::ALL {
            let checked = Message::new(op, CHANNEL, 1).with_more(true).check();
            match op.op_type() {
                OpType::Regular => assert_eq!(checked, Ok(Order::Send)),
                _ if op == OpCode::WelcomeResponse => assert!(checked.is_err()),
                _ => assert_eq!(checked, Err(Refusal::InvalidMoreUsage(op))),
            }
        }
    }

    #[test]
    fn channel_0_and_the_engines_are_no_channels() {
        for number in [ChannelNumber::UNASSIGNED, ChannelNumber::ENGINE] {
            let refused = refusal(&Message::signal(number));
            assert_eq!(refused, Refusal::InvalidChannelNumber(number));
        }
    }

    #[test]
    fn what_opens_a_channel_has_none_yet() {
        let address = Address::tcp("127.0.0.1", 7099).unwrap();
        let mut hello = Message::hello_request(&address);
        assert_eq!(hello.check(), Ok(Order::Connect(address.clone())));
        hello.content.channel = CHANNEL;
        assert_eq!(refusal(&hello).status(), Status::NOT_ALLOWED);
        let mut welcome = Message::welcome_request(&address);
        assert_eq!(welcome.check(), Ok(Order::Listen(address)));
        welcome.content.channel = CHANNEL;
        assert_eq!(refusal(&welcome).status(), Status::NOT_ALLOWED);
    }

    #[test]
    fn an_address_in_the_other_ones_header_is_wrong() {
        for (op, header) in [
            (OpCode::HelloRequest, LISTEN_ON),
            (OpCode::WelcomeRequest, CONNECT_TO),
        ] {
            let message = Message::new(op, ChannelNumber::UNASSIGNED, 0)
                .with_header(header, "tcp|127.0.0.1|7");
            assert_eq!(refusal(&message), Refusal::WrongAddress(op));
        }
    }

    #[test]
    fn an_address_that_does_not_parse_is_named() {
        for text in [
            "udp|127.0.0.1|7",
            "tcp|a|b|7",
            "tcp|127.0.0.1|65536",
            "uds|",
        ] {
            for (op, header) in [
                (OpCode::HelloRequest, CONNECT_TO),
                (OpCode::WelcomeRequest, LISTEN_ON),
            ] {
                let message =
                    Message::new(op, ChannelNumber::UNASSIGNED, 0).with_header(header, text);
                let refused = refusal(&message);
                assert_eq!(refused.status(), Status::INVALID_ADDRESS);
                assert!(refused.to_string().contains(text), "{refused} names {text}");
            }
        }
        let port_0 = Message::hello_request(&Address::tcp("127.0.0.1", 0).unwrap());
        assert_eq!(refusal(&port_0).status(), Status::INVALID_ADDRESS);
    }

    #[test]
    fn headers_and_body_have_at_most_65535_bytes() {
        let max = vec![b'x'; 65_535];
        let message = Message::signal(CHANNEL).with_body(&max);
        assert_eq!(message.check(), Ok(Order::Send));
        let mut too_long = message;
        too_long.extend_body("x");
        assert_eq!(refusal(&too_long), Refusal::InvalidBodyLen(65_536));
        // "n", ":", CR and LF
        let full = Message::signal(CHANNEL).with_header("n", &max[..65_535 - 4]);
        assert_eq!(full.check(), Ok(Order::Send));
        let full = full.with_header("a", "b");
        assert_eq!(refusal(&full), Refusal::InvalidHeadersLen(65_535 + 5));
    }

    #[test]
    fn a_forged_header_is_refused() {
        let message = Message::signal(CHANNEL)
            .with_header("a", "b\r\nc:d")
            .with_header("e", "f");
        assert_eq!(refusal(&message).status(), Status::INVALID_MESSAGE);
        assert_eq!(message.header("c"), None);
        assert_eq!(message.header("e"), Some("f"));
    }

    #[test]
    fn headers_and_body_may_be_set_in_any_order() {
        let one = Message::signal(CHANNEL)
            .with_header("a", "1")
            .with_header("b", "2")
            .with_body("x");
        let other = Message::signal(CHANNEL)
            .with_body("x")
            .with_header("a", "1")
            .with_header("b", "2");
        assert_eq!(one, other);
        assert_eq!(one.payload(), b"a:1\r\nb:2\r\nx");
    }

    #[test]
    fn only_what_asks_has_a_reply() {
        for op in OpCode::ALL {
            let message = Message::new(op, CHANNEL, 3).with_body("x");
            match op.echo() {
                Some(echo) => {
                    let reply = message.reply().unwrap();
                    assert_eq!((reply.op_code(), reply.channel()), (echo, CHANNEL));
                    assert_eq!((reply.id().get(), reply.body()), (3, &b""[..]));
                    assert_eq!(message.into_reply().unwrap().body(), b"x");
                }
                None => assert_eq!(message.reply(), Err(NoReply(op))),
            }
        }
    }

    #[derive(Debug, Default)]
    struct Counter(AtomicUsize);
    impl Home for Counter {
        fn take_back(&self, memory: Blank) {
            self.0.fetch_add(1 + memory.capacity(), Ordering::Relaxed);
        }
    }

    #[test]
    fn memory_goes_home_once() {
        let counter = Arc::new(Counter::default());
        let memory = Blank::with_capacity(99);
        drop(Message::from_home(
            memory,
            Arc::clone(&counter) as Arc<dyn Home>,
        ));
        assert_eq!(counter.0.swap(0, Ordering::Relaxed), 100);
        let mut leaver =
            Message::from_home(Blank::default(), Arc::clone(&counter) as Arc<dyn Home>)
                .with_body("kept");
        leaver.leave_home();
        assert_eq!(counter.0.load(Ordering::Relaxed), 1);
        assert_eq!(leaver.body(), b"kept");
        drop(leaver.clone());
        drop(leaver);
        assert_eq!(counter.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn debug_is_one_line() {
        let message = Message::request(CHANNEL)
            .with_more(true)
            .with_header("k", "v")
            .with_body([b'x'; 40]);
        let line = format!("{message:?}");
        assert!(!line.contains('\n'));
        assert!(
            line.starts_with("Request channel=5 id=0 more headers="),
            "{line}"
        );
        assert!(
            line.ends_with("body=40 bytes \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"..."),
            "{line}"
        );
    }

    #[test]
    fn a_message_that_is_filled_again_says_nothing_of_before() {
        let mut message = Message::request(CHANNEL)
            .with_more(true)
            .with_header("a", "b\r\nc:d")
            .with_body("before");
        assert_eq!(refusal(&message).status(), Status::INVALID_MESSAGE);
        let received = Message::signal(CHANNEL)
            .with_id(7)
            .with_header("k", "v")
            .with_body("x");
        let frame = Frame {
            header: received.binary_header(),
            payload: received.payload(),
        };
        message.fill(CHANNEL, &frame);
        assert_eq!(message, received);
        assert_eq!(message.check(), Ok(Order::Send));
    }
}
