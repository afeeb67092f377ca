//! What is refused, and who has to change something.
//!
//! A [`Refusal`] blames the caller (or says that its own limits are reached): the message was never
//! taken, and comes back with it in a [`PostError`]. A [`Violation`] blames the peer: the connection
//! ends.

use alloc::boxed::Box;
use core::fmt;

use crate::{AddressError, ChannelNumber, HeaderError, Message, OpCode, Status};

/// Why a message was not taken: the caller's mistake, or a bound that is reached.
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::{ChannelNumber, Message, Refusal, Status};
///
/// let nowhere = Message::signal(ChannelNumber::UNASSIGNED);
/// let refusal = nowhere.check().unwrap_err();
/// assert_eq!(refusal, Refusal::InvalidChannelNumber(ChannelNumber::UNASSIGNED));
/// assert_eq!(refusal.status(), Status::INVALID_CHANNEL_NUMBER);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// An op code that only an engine may use.
    InvalidOpCode(OpCode),
    /// A response without the id of its request.
    InvalidMessageId(OpCode),
    /// The `more` flag on a message that cannot be continued.
    InvalidMoreUsage(OpCode),
    /// No channel has this number, or none any more.
    InvalidChannelNumber(ChannelNumber),
    /// The channel belongs to another group.
    InvalidChannelGroup(ChannelNumber),
    /// The message makes no sense on this channel.
    NotAllowed {
        /// The message's op code.
        op_code: OpCode,
        /// The message's channel.
        channel: ChannelNumber,
        /// What stands against it.
        why: &'static str,
    },
    /// A message that opens a channel does not say where, or says it in the other one's header.
    WrongAddress(OpCode),
    /// The address does not parse.
    InvalidAddress(AddressError),
    /// A text header that cannot be written.
    InvalidHeader(HeaderError),
    /// More bytes of text headers than a message can have.
    InvalidHeadersLen(usize),
    /// More bytes of body than a message can have.
    InvalidBodyLen(usize),
    /// The frame does not fit into what the channel, or the whole engine, may queue.
    QueueFull {
        /// The channel; an event says when it has room again.
        channel: ChannelNumber,
        /// Bytes that wait already.
        queued_bytes: usize,
    },
    /// Bye was said on this channel already.
    ChannelClosing(ChannelNumber),
    /// As many channels are open as the options allow.
    TooManyChannels(usize),
    /// The engine, or this group, is shutting down.
    ShutdownStarted,
}

impl Refusal {
    /// The status that says the same.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{Refusal, Status};
    ///
    /// assert_eq!(Refusal::ShutdownStarted.status(), Status::SHUTDOWN_STARTED);
    /// ```
    pub const fn status(&self) -> Status {
        match self {
            Self::InvalidOpCode(_) => Status::INVALID_OP_CODE,
            Self::InvalidMessageId(_) => Status::INVALID_MESSAGE_ID,
            Self::InvalidMoreUsage(_) => Status::INVALID_MORE_USAGE,
            Self::InvalidChannelNumber(_) => Status::INVALID_CHANNEL_NUMBER,
            Self::InvalidChannelGroup(_) => Status::INVALID_CHANNEL_GROUP,
            Self::NotAllowed { .. } => Status::NOT_ALLOWED,
            Self::WrongAddress(_) => Status::WRONG_ADDRESS,
            Self::InvalidAddress(_) => Status::INVALID_ADDRESS,
            Self::InvalidHeader(_) => Status::INVALID_MESSAGE,
            Self::InvalidHeadersLen(_) => Status::INVALID_HEADERS_LEN,
            Self::InvalidBodyLen(_) => Status::INVALID_BODY_LEN,
            Self::QueueFull { .. } => Status::QUEUE_FULL,
            Self::ChannelClosing(_) => Status::CHANNEL_CLOSING,
            Self::TooManyChannels(_) => Status::TOO_MANY_CHANNELS,
            Self::ShutdownStarted => Status::SHUTDOWN_STARTED,
        }
    }

    /// Whether the channel has ended, or is about to: for one who answers late no mistake, but the way of the
    /// world.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Refusal};
    ///
    /// assert!(Refusal::ChannelClosing(ChannelNumber::new(3)).is_channel_over());
    /// assert!(!Refusal::InvalidBodyLen(70_000).is_channel_over());
    /// ```
    pub const fn is_channel_over(&self) -> bool {
        matches!(
            self,
            Self::ChannelClosing(_) | Self::InvalidChannelNumber(_)
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidOpCode(op) => write!(f, "{op} is the engine's word and cannot be posted"),
            Self::InvalidMessageId(op) => {
                write!(f, "{op} has message id 0: give it the id of its request")
            }
            Self::InvalidMoreUsage(op) => write!(
                f,
                "{op} has the more flag: only Request, Response and Signal can be continued"
            ),
            Self::InvalidChannelNumber(channel) if !channel.is_assigned() => write!(
                f,
                "channel {channel} is not a channel: use the number that an event or post gave"
            ),
            Self::InvalidChannelNumber(channel) => {
                write!(f, "channel {channel} does not exist, or is closed")
            }
            Self::InvalidChannelGroup(channel) => {
                write!(f, "channel {channel} belongs to another channel group")
            }
            Self::NotAllowed {
                op_code,
                channel,
                why,
            } => write!(f, "{op_code} is not allowed on channel {channel}: {why}"),
            Self::WrongAddress(OpCode::WelcomeRequest) => f.write_str(
                "WelcomeRequest has no text header ~listen_on that says where to listen",
            ),
            Self::WrongAddress(op) => {
                write!(
                    f,
                    "{op} has no text header ~connect_to that says where to connect"
                )
            }
            Self::InvalidAddress(error) => error.fmt(f),
            Self::InvalidHeader(error) => error.fmt(f),
            Self::InvalidHeadersLen(len) => {
                write!(
                    f,
                    "{len} bytes of text headers: a message has at most 65535"
                )
            }
            Self::InvalidBodyLen(len) => write!(
                f,
                "{len} bytes of body: a message has at most 65535; split it with the more flag"
            ),
            Self::QueueFull {
                channel,
                queued_bytes,
            } => write!(
                f,
                "the send queue is full ({queued_bytes} bytes wait on channel {channel}): \
                 post again after its Drained event"
            ),
            Self::ChannelClosing(channel) => {
                write!(
                    f,
                    "bye was said on channel {channel}: it takes nothing more"
                )
            }
            Self::TooManyChannels(max) => write!(
                f,
                "all {max} channels are open: close some, or raise the option `channels_max`"
            ),
            Self::ShutdownStarted => {
                f.write_str("the engine or this channel group is shutting down")
            }
        }
    }
}

impl core::error::Error for Refusal {}

/// A message that was not taken, unchanged, with the reason.
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::{ChannelNumber, Message, PostError, Refusal};
///
/// let message = Message::signal(ChannelNumber::new(3)).with_body("hi");
/// let error = PostError::new(message, Refusal::ShutdownStarted);
/// assert_eq!(
///     error.to_string(),
///     "message refused: the engine or this channel group is shutting down"
/// );
/// assert_eq!(error.into_message().body(), b"hi");
/// ```
#[derive(PartialEq)]
pub struct PostError(Box<(Message, Refusal)>);

impl PostError {
    /// Refuses `message`, for an engine or a test.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, PostError, Refusal};
    ///
    /// let message = Message::signal(ChannelNumber::new(3));
    /// let error = PostError::new(message, Refusal::ShutdownStarted);
    /// assert_eq!(error.refusal(), &Refusal::ShutdownStarted);
    /// ```
    pub fn new(message: Message, refusal: Refusal) -> Self {
        Self(Box::new((message, refusal)))
    }

    /// Why it was refused.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, PostError, Refusal};
    ///
    /// # let message = Message::signal(ChannelNumber::new(3));
    /// # let refusal = Refusal::QueueFull { channel: message.channel(), queued_bytes: 9 };
    /// # let error = PostError::new(message, refusal);
    /// match error.refusal() {
    ///     Refusal::QueueFull { queued_bytes, .. } => assert_eq!(*queued_bytes, 9), // post again
    ///     refusal if refusal.is_channel_over() => {} // nobody waits for it any more
    ///     refusal => panic!("{refusal}"),
    /// }
    /// ```
    pub fn refusal(&self) -> &Refusal {
        &self.0.1
    }

    /// Whether a queue is full: post the message again after the channel's `Drained` event.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, PostError, Refusal};
    ///
    /// # let message = Message::signal(ChannelNumber::new(3));
    /// let refusal = Refusal::QueueFull { channel: message.channel(), queued_bytes: 8_388_608 };
    /// assert!(PostError::new(message, refusal).is_queue_full());
    /// ```
    pub fn is_queue_full(&self) -> bool {
        matches!(self.refusal(), Refusal::QueueFull { .. })
    }

    /// As [`Refusal::is_channel_over`].
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, PostError, Refusal};
    ///
    /// # let message = Message::signal(ChannelNumber::new(3));
    /// let refusal = Refusal::ChannelClosing(message.channel());
    /// assert!(PostError::new(message, refusal).is_channel_over()); // nobody waits for it any more
    /// ```
    pub fn is_channel_over(&self) -> bool {
        self.refusal().is_channel_over()
    }

    /// The message, as it was.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, PostError, Refusal};
    ///
    /// let message = Message::signal(ChannelNumber::new(3));
    /// let error = PostError::new(message.clone(), Refusal::ShutdownStarted);
    /// assert_eq!(error.message(), &message);
    /// ```
    pub fn message(&self) -> &Message {
        &self.0.0
    }

    /// Gives the message back.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, PostError, Refusal};
    ///
    /// let message = Message::signal(ChannelNumber::new(3)).with_body("hi");
    /// let error = PostError::new(message, Refusal::ShutdownStarted);
    /// assert_eq!(error.into_message().body(), b"hi"); // to be posted again, or elsewhere
    /// ```
    pub fn into_message(self) -> Message {
        self.0.0
    }
}

/// As it is displayed, with the message.
impl fmt::Debug for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}: {:?}", self.message())
    }
}

impl fmt::Display for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message refused: {}", self.refusal())
    }
}

impl core::error::Error for PostError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(self.refusal())
    }
}

/// What a peer did against the protocol: the connection ends (PROTOCOL.md sections 1 and 3).
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::{OpCode, Violation};
///
/// let violation = Violation::HelloExpected(OpCode::Request);
/// assert_eq!(
///     violation.to_string(),
///     "the peer's first message was Request and not HelloRequest"
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Violation {
    /// An op code of 10 to 15.
    UnassignedOpCode(u8),
    /// An order to one's own engine came over the wire.
    LocalOpCode(OpCode),
    /// The message says that an engine made it.
    EngineOrigin(OpCode),
    /// A response with message id 0.
    ResponseWithoutId(OpCode),
    /// `more` on a hello or bye.
    MoreNotAllowed(OpCode),
    /// A client's first message was not HelloRequest.
    HelloExpected(OpCode),
    /// A second hello, or one from the side that may not say it.
    UnexpectedHello(OpCode),
    /// A ByeResponse that answers nothing.
    UnexpectedByeResponse,
    /// A message behind the peer's own bye.
    AfterBye(OpCode),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnassignedOpCode(code) => {
                write!(f, "the peer sent op code {code}, which means nothing")
            }
            Self::LocalOpCode(op) => write!(f, "the peer sent {op}, which never travels"),
            Self::EngineOrigin(op) => write!(f, "the peer sent {op} in the name of an engine"),
            Self::ResponseWithoutId(op) => write!(f, "the peer sent {op} with message id 0"),
            Self::MoreNotAllowed(op) => write!(f, "the peer sent {op} with the more flag"),
            Self::HelloExpected(op) => {
                write!(f, "the peer's first message was {op} and not HelloRequest")
            }
            Self::UnexpectedHello(op) => write!(f, "the peer sent {op} where none was due"),
            Self::UnexpectedByeResponse => {
                f.write_str("the peer sent ByeResponse without having been asked")
            }
            Self::AfterBye(op) => write!(f, "the peer sent {op} behind its own bye"),
        }
    }
}

impl core::error::Error for Violation {}
