//! A message, and the checks before it is posted.
//!
//! A message owns one run of memory: its text headers, then its body. Memory that came from a pool
//! goes back there when the message is dropped; the pool is known here only as a [`Home`].

mod engine;
mod reading;

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::{
    fmt,
    ops::{Deref, DerefMut},
};

use crate::{
    Address, ChannelNumber, HeaderError, MessageId, OpCode, Origin, Status,
    wire::{self, CONNECT_TO, LISTEN_ON},
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
    /// What is skipped, then text headers, then body.
    memory: Vec<u8>,
    /// Bytes of the memory in front: the header of the frame that the message came as, or none.
    skipped: usize,
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
        self.memory.clear();
        self.skipped = 0;
        self.text_headers_len = 0;
        self.defect = None;
    }

    /// Text headers, then body.
    #[inline]
    fn payload(&self) -> &[u8] {
        &self.memory[self.skipped..]
    }

    #[inline]
    fn payload_len(&self) -> usize {
        self.memory.len() - self.skipped
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
            memory: Vec::new(),
            skipped: 0,
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
        content.memory.reserve(capacity);
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
            .map_or(0, |content| content.memory.capacity())
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
    /// ([`Refusal::InvalidHeader`](crate::Refusal::InvalidHeader)); [`push_header`](Self::push_header) tells it at once.
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
    /// when it is posted ([`Refusal::InvalidBodyLen`](crate::Refusal::InvalidBodyLen)).
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
        if content.memory.capacity() == 0 {
            content.memory = body.as_ref().to_vec();
        } else {
            content
                .memory
                .truncate(content.skipped + content.text_headers_len);
            content.memory.extend_from_slice(body.as_ref());
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
        let content = &mut *self.content;
        let body_start = content.skipped + content.text_headers_len;
        let old_len = content.memory.len();
        wire::encode(&mut content.memory, name.as_ref(), value.as_ref())?;
        let line_len = content.memory.len() - old_len;
        content.text_headers_len += line_len;
        // Written behind the body: moved in front of it (nothing to move as long as there is none).
        content.memory[body_start..].rotate_right(line_len);
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
        self.content.memory.extend_from_slice(bytes.as_ref());
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
            && self.content.payload() == other.content.payload()
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

#[cfg(test)]
mod tests;
