//! What `recv` returns, and the inbox in which it waits.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt, io,
};

use tofu_proto::{Address, ChannelNumber, Message, MessageId, OpType, Status, Unsent, Violation};

use crate::budget::Charge;

/// What an application hears: first who speaks, so that nobody takes an engine's word for a peer's.
///
/// Events of one channel come in order. Those of different channels come in any: a peer's hello may come before
/// the word that another listener is ready.
///
/// ```
/// use tofu::{Engine, Event, Message, Options};
///
/// let engine = Engine::new(Options::default())?;
/// let mut group = engine.group()?;
/// group.post(Message::welcome_request(&"tcp://127.0.0.1:0".parse()?))?;
/// match group.recv()? {
///     Event::Listening { address, .. } => assert_ne!(address.port(), 0),
///     Event::Returned { reason, .. } => panic!("not listening: {reason}"),
///     other => println!("{other:?}"), // in one line
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub enum Event {
    /// The peer's application sent this. Its channel number is local.
    Message(Message),
    /// A listener is ready.
    Listening {
        /// The address really bound: with the real port, if 0 was asked for.
        address: Address,
        /// The engine's WelcomeResponse, with the id of the WelcomeRequest.
        response: Message,
    },
    /// Your own message could not be sent (or the channel that it asks for not be opened). It is
    /// complete and unchanged, and its status says why.
    Returned {
        /// The message, op code as posted.
        message: Message,
        /// Why it came back.
        reason: Reason,
    },
    /// A queue that was full has room again: post to this channel again. It is told once, however often there was
    /// room before it is received.
    Drained(ChannelNumber),
    /// Reading has stopped because all messages of the pool are out: drop some.
    PoolEmpty,
    /// Another thread called `notify`, perhaps with a message.
    Notified(Option<Message>),
    /// The last word on a channel: exactly once for every channel that the application has heard of.
    Closed {
        /// The channel. Its number now rests.
        channel: ChannelNumber,
        /// The id of the HelloRequest or WelcomeRequest that opened it.
        id: MessageId,
        /// Why it is closed; [`Status::CHANNEL_CLOSED`] after a bye.
        reason: Reason,
    },
}

impl Event {
    /// The channel that it is about.
    ///
    /// ```
    /// use tofu::{Engine, Options};
    ///
    /// let engine = Engine::new(Options::default())?;
    /// let mut group = engine.group()?;
    /// group.notify(None);
    /// assert_eq!(group.recv()?.channel(), None);
    ///
    /// let listener = group.post(tofu::Message::welcome_request(&"tcp://127.0.0.1:0".parse()?))?;
    /// assert_eq!(group.recv()?.channel(), Some(listener.channel));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn channel(&self) -> Option<ChannelNumber> {
        match self {
            Self::Message(message)
            | Self::Listening {
                response: message, ..
            }
            | Self::Returned { message, .. } => Some(message.channel()),
            Self::Drained(channel) | Self::Closed { channel, .. } => Some(*channel),
            Self::PoolEmpty | Self::Notified(_) => None,
        }
    }
}

/// The event in one line.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(message) => write!(f, "Message {message:?}"),
            Self::Listening { address, response } => {
                write!(f, "Listening on {address} channel={}", response.channel())
            }
            Self::Returned { message, reason } => write!(f, "Returned {message:?}: {reason}"),
            Self::Drained(channel) => write!(f, "Drained channel={channel}"),
            Self::PoolEmpty => f.write_str("PoolEmpty"),
            Self::Notified(None) => f.write_str("Notified"),
            Self::Notified(Some(message)) => write!(f, "Notified {message:?}"),
            Self::Closed {
                channel,
                id,
                reason,
            } => write!(f, "Closed channel={channel} id={id}: {reason}"),
        }
    }
}

/// Why a channel was closed or a message came back: a status, and what the system or the peer did.
///
/// ```
/// use tofu::{Engine, Event, Message, Options, Status, testing};
///
/// let engine = Engine::new(Options::default())?;
/// let mut group = engine.group()?;
/// group.post(Message::hello_request(&testing::free_tcp_address()?))?;
/// let Event::Returned { reason, .. } = group.recv()? else { panic!() };
/// assert_eq!(reason.status(), Status::CONNECT_REFUSED);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    status: Status,
    cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Unsaid,
    /// A code of the operating system.
    Os(i32),
    Violation(Violation),
}

impl Reason {
    pub(crate) fn with_error(status: Status, error: &io::Error) -> Self {
        Self {
            status,
            cause: error.raw_os_error().map_or(Cause::Unsaid, Cause::Os),
        }
    }

    /// The status.
    ///
    /// ```
    /// use tofu::{Reason, Status};
    ///
    /// assert_eq!(Reason::from(Status::PEER_DISCONNECTED).status(), Status::PEER_DISCONNECTED);
    /// ```
    pub fn status(&self) -> Status {
        self.status
    }

    /// Whether the channel ended as it should: with a bye, or because you closed it.
    ///
    /// ```
    /// use tofu::{Reason, Status};
    ///
    /// assert!(Reason::from(Status::CHANNEL_CLOSED).is_graceful());
    /// assert!(!Reason::from(Status::PEER_DISCONNECTED).is_graceful());
    /// ```
    pub fn is_graceful(&self) -> bool {
        self.status == Status::CHANNEL_CLOSED
    }

    /// What the peer did against the protocol, if that is why.
    ///
    /// ```
    /// use tofu::{OpCode, Reason, Status, Violation};
    ///
    /// let reason = Reason::from(Violation::HelloExpected(OpCode::Request));
    /// assert_eq!(reason.status(), Status::PROTOCOL_VIOLATION);
    /// assert_eq!(reason.violation(), Some(Violation::HelloExpected(OpCode::Request)));
    /// ```
    pub fn violation(&self) -> Option<Violation> {
        match self.cause {
            Cause::Violation(violation) => Some(violation),
            Cause::Unsaid | Cause::Os(_) => None,
        }
    }

    /// The operating system's error, if there was one.
    ///
    /// ```
    /// # use tofu::{Engine, Event, Message, Options, testing};
    /// # let engine = Engine::new(Options::default())?;
    /// # let mut group = engine.group()?;
    /// group.post(Message::hello_request(&testing::free_tcp_address()?))?; // nobody listens there
    /// let Event::Returned { reason, .. } = group.recv()? else { panic!() };
    /// let error = reason.os_error().expect("the system refused");
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn os_error(&self) -> Option<io::Error> {
        match self.cause {
            Cause::Os(code) => Some(io::Error::from_raw_os_error(code)),
            Cause::Unsaid | Cause::Violation(_) => None,
        }
    }
}

impl From<Status> for Reason {
    fn from(status: Status) -> Self {
        Self {
            status,
            cause: Cause::Unsaid,
        }
    }
}

impl From<Violation> for Reason {
    fn from(violation: Violation) -> Self {
        Self {
            status: Status::PROTOCOL_VIOLATION,
            cause: Cause::Violation(violation),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.status.describe())?;
        match self.cause {
            Cause::Unsaid => Ok(()),
            // These say what the system's words would only say again.
            Cause::Os(code)
                if self.status.code() >= 64 || self.status == Status::UDS_PATH_NOT_FOUND =>
            {
                write!(f, " (os error {code})")
            }
            Cause::Os(code) => write!(f, ": {}", io::Error::from_raw_os_error(code)),
            Cause::Violation(violation) => write!(f, ": {violation}"),
        }
    }
}

/// As it is displayed, behind the name of the status.
impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self}", self.status)
    }
}

impl std::error::Error for Reason {}

/// Receiving is over: the engine, or this group, is shutting down, or it is that of the process which
/// forked this one (see [`Engine`](crate::Engine)).
///
/// ```
/// use std::time::Duration;
/// use tofu::{Engine, Options, RecvError};
///
/// let engine = Engine::new(Options::default())?;
/// let mut group = engine.group()?;
/// engine.shutdown(Duration::from_secs(1));
/// assert_eq!(group.recv().unwrap_err(), RecvError);
/// # Ok::<(), tofu::StartError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecvError;

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "nothing more is received: the engine is shutting down, or is another process's",
        )
    }
}

impl std::error::Error for RecvError {}

/// Events in their order. Messages that come back are made only when they are asked for.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    entries: VecDeque<Entry>,
    /// Channels whose `Drained` is among them. Who is refused again and again, and does not receive, is told once.
    drained: BTreeSet<ChannelNumber>,
}

/// As small as an event, and that is small: what comes in a burst lies close together.
#[derive(Debug)]
enum Entry {
    Event(Event),
    Unsent(Box<Returning>),
}

/// What a channel could not send, on its way back.
#[derive(Debug)]
struct Returning {
    messages: Unsent,
    reason: Reason,
    /// They still count against the engine's queue bytes.
    _charge: Charge,
}

const _: () = assert!(size_of::<Entry>() == size_of::<Event>() && size_of::<Event>() <= 24);

impl Inbox {
    /// What comes most, and in bursts.
    #[inline]
    pub(crate) fn push_message(&mut self, message: Message) {
        self.entries
            .push_back(Entry::Event(Event::Message(message)));
    }

    pub(crate) fn push(&mut self, event: Event) {
        if let Event::Drained(channel) = event
            && !self.drained.insert(channel)
        {
            return;
        }
        self.entries.push_back(Entry::Event(event));
    }

    /// All that a channel could not send, each to come back for `reason`.
    pub(crate) fn push_unsent(&mut self, messages: Unsent, reason: Reason, charge: Charge) {
        if !messages.is_empty() {
            self.entries.push_back(Entry::Unsent(Box::new(Returning {
                messages,
                reason,
                _charge: charge,
            })));
        }
    }

    /// Puts events before all others.
    pub(crate) fn put_first(&mut self, events: VecDeque<Event>) {
        for event in events.into_iter().rev() {
            self.entries.push_front(Entry::Event(event));
        }
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Event> {
        loop {
            match self.entries.pop_front()? {
                Entry::Event(event) => {
                    if let Event::Drained(channel) = &event {
                        self.told(*channel);
                    }
                    return Some(event);
                }
                Entry::Unsent(returning) => {
                    if let Some(event) = self.next_of(returning) {
                        return Some(event);
                    }
                }
            }
        }
    }

    /// The application hears that the channel has drained, and may be told again.
    #[cold]
    fn told(&mut self, channel: ChannelNumber) {
        self.drained.remove(&channel);
    }

    /// The next of those that return; the others go on waiting.
    #[cold]
    fn next_of(&mut self, mut returning: Box<Returning>) -> Option<Event> {
        let mut message = returning.messages.next()?;
        let reason = returning.reason;
        message.set_status(reason.status());
        self.entries.push_front(Entry::Unsent(returning));
        Some(Event::Returned { message, reason })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Events at least: what a channel could not send is one entry.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.drained.clear();
    }

    /// Gives the messages' memory back to the pool: nobody reads them before long.
    pub(crate) fn leave_pool(&mut self) {
        for entry in &mut self.entries {
            if let Entry::Event(Event::Message(message) | Event::Notified(Some(message))) = entry {
                *message = message.clone();
            }
        }
    }
}

/// What happened while a group or an engine closed, and what nobody has read.
///
/// Byes are not listed among the messages: what became of them is why each channel closed.
///
/// ```
/// use std::time::Duration;
/// use tofu::{Engine, Message, Options};
///
/// let engine = Engine::new(Options::default())?;
/// let group = engine.group()?;
/// let note = Message::signal(tofu::ChannelNumber::new(1)).with_body("read me");
/// group.notify(Some(note));
///
/// let report = group.close(Duration::from_secs(1));
/// assert_eq!(report.unread[0].body(), b"read me");
/// assert!(report.undelivered.is_empty() && report.closed.is_empty());
/// # Ok::<(), tofu::StartError>(())
/// ```
#[derive(Debug, Default)]
pub struct CloseReport {
    /// Messages that were posted and could not be delivered, each with its status.
    pub undelivered: Vec<Message>,
    /// Messages that were received, or given to `notify`, and not read.
    pub unread: Vec<Message>,
    /// Channels, in the order in which they closed, and why.
    pub closed: Vec<(ChannelNumber, Reason)>,
}

impl CloseReport {
    /// Whether nothing was lost: everything posted was delivered, everything received was read, and
    /// every channel ended with a bye.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tofu::{Engine, Options};
    ///
    /// let engine = Engine::new(Options::default())?;
    /// assert!(engine.group()?.close(Duration::from_secs(1)).is_clean());
    /// # Ok::<(), tofu::StartError>(())
    /// ```
    pub fn is_clean(&self) -> bool {
        self.undelivered.is_empty()
            && self.unread.is_empty()
            && self.closed.iter().all(|(_, reason)| reason.is_graceful())
    }

    pub(crate) fn add(&mut self, inbox: &mut Inbox) {
        inbox.leave_pool();
        while let Some(event) = inbox.pop() {
            match event {
                Event::Message(message) | Event::Returned { message, .. }
                    if message.op_code().op_type() == OpType::Bye => {}
                Event::Message(message) | Event::Notified(Some(message)) => {
                    self.unread.push(message);
                }
                Event::Returned { message, .. } => self.undelivered.push(message),
                Event::Closed {
                    channel, reason, ..
                } => self.closed.push((channel, reason)),
                Event::Listening { .. }
                | Event::Drained(_)
                | Event::PoolEmpty
                | Event::Notified(None) => {}
            }
        }
    }
}
