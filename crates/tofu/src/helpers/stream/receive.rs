//! Receiving: what an event means for a stream.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, Write},
    time::{Duration, Instant},
};

use tofu_proto::{Message, OpType};

use super::{ABORTED, StreamId};
use crate::{ChannelGroup, Event, Reason, RecvError};

/// One incoming stream: it is told of events, and tells which of them are its own and what they mean.
///
/// It holds nothing of the stream. Of several at once, each is told every event, or they are found by their
/// [`StreamId`] in a map.
///
/// ```
/// use tofu::{ChannelNumber, Event, Message, Status, helpers::stream::{Cut, Part, Receiver}};
///
/// let channel = ChannelNumber::new(3);
/// let part = Message::signal(channel).with_id(7_u64);
/// let first = part.clone().with_more(true).with_body("hello, ");
/// let mut receiver = Receiver::new(&first);
/// assert_eq!(receiver.take(&first), Some(Part::More(b"hello, ")));
///
/// let of_another = Event::Message(part.clone().with_id(8_u64));
/// assert_eq!(receiver.hear(&of_another), None);
/// let last = Event::Message(part.with_body("world"));
/// assert_eq!(receiver.clone().hear(&last), Some(Part::Last(b"world")));
///
/// let reason = Status::PEER_DISCONNECTED.into();
/// let closed = Event::Closed { channel, id: 1.into(), reason };
/// assert_eq!(receiver.hear(&closed), Some(Part::Incomplete(Cut::Closed(reason))));
/// ```
#[derive(Clone, Debug)]
pub struct Receiver {
    stream: StreamId,
    bytes: u64,
    is_over: bool,
}

/// What an event means for a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// The next bytes; more follow.
    More(&'a [u8]),
    /// The last bytes, mostly fewer, and perhaps none: the stream is complete.
    Last(&'a [u8]),
    /// The sender gave up, and says why: the stream is over, and incomplete.
    Aborted(&'a str),
    /// Nothing more can come: the stream is over, and incomplete.
    Incomplete(Cut),
}

/// Why nothing more of a stream can come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cut {
    /// The peer has said bye, or answered one, in the middle. A ByeRequest is still yours to answer.
    Bye,
    /// The channel is closed.
    Closed(Reason),
}

impl Receiver {
    /// The stream that begins with this message, which has still to be [taken](Self::take).
    pub fn new(first: &Message) -> Self {
        Self {
            stream: StreamId::of(first),
            bytes: 0,
            is_over: false,
        }
    }

    /// Which stream it is.
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// Bytes that came.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing more is to come.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// What a message means for the stream. `None`: nothing, it is of another one, or this one is over.
    ///
    /// The bytes are lent from the message, whose text headers are there to be read as well.
    pub fn take<'a>(&mut self, message: &'a Message) -> Option<Part<'a>> {
        if self.is_over {
            return None;
        }
        if message.channel() == self.stream.channel && message.op_code().op_type() == OpType::Bye {
            // Who has said it sends nothing more.
            self.is_over = true;
            return Some(Part::Incomplete(Cut::Bye));
        }
        if StreamId::of(message) != self.stream {
            return None;
        }
        let body = message.body();
        if message.has_more() {
            self.bytes += body.len() as u64;
            return Some(Part::More(body));
        }
        self.is_over = true;
        if message.text_headers().value(ABORTED).is_some() {
            let reason = message.header(ABORTED);
            return Some(Part::Aborted(reason.unwrap_or("the reason is not text")));
        }
        self.bytes += body.len() as u64;
        Some(Part::Last(body))
    }

    /// As [`take`](Self::take), of any event: the end of the channel is the end of the stream.
    pub fn hear<'a>(&mut self, event: &'a Event) -> Option<Part<'a>> {
        match event {
            Event::Message(message) => self.take(message),
            Event::Closed {
                channel, reason, ..
            } if *channel == self.stream.channel && !self.is_over => {
                self.is_over = true;
                Some(Part::Incomplete(Cut::Closed(*reason)))
            }
            _ => None,
        }
    }
}

/// A stream that came whole.
#[derive(Debug, PartialEq)]
pub struct Received {
    /// Its bytes.
    pub bytes: u64,
    /// Its last message: to read its text headers, and to reply to a stream of Requests.
    pub last: Message,
}

/// Writes a stream that begins with `first` into `writer`, and flushes it. It waits at most `timeout` for each
/// part. What else happens meanwhile comes with the next `recv`; its messages are out of the pool until then,
/// so a group in which much else happens should use a [`Receiver`].
///
/// # Errors
/// The stream is incomplete, or cannot be written. In either case nobody should use what was written; and if
/// the stream goes on, as after [`ReceiveError::Write`], the rest of it comes as ordinary messages: most
/// applications then close the channel.
///
/// See the [module](super) for an example.
pub fn receive_all(
    group: &mut ChannelGroup,
    first: Message,
    mut writer: impl Write,
    timeout: Duration,
) -> Result<Received, ReceiveError> {
    let mut receiver = Receiver::new(&first);
    let mut aside = Aside::default();
    let outcome = receiver.write_all(group, first, &mut writer, timeout, &mut aside);
    group.put_back(aside.events);
    outcome
}

impl Receiver {
    fn write_all(
        &mut self,
        group: &mut ChannelGroup,
        first: Message,
        writer: &mut impl Write,
        timeout: Duration,
        aside: &mut Aside,
    ) -> Result<Received, ReceiveError> {
        let mut message = first;
        // A time that never comes is as good as none.
        let mut deadline = Instant::now().checked_add(timeout);
        loop {
            match self.take(&message) {
                Some(Part::More(bytes)) => {
                    writer.write_all(bytes).map_err(ReceiveError::Write)?;
                    // Back to the pool with it, before the next one is waited for.
                    drop(message);
                    deadline = Instant::now().checked_add(timeout);
                }
                Some(Part::Last(bytes)) => {
                    let written = writer.write_all(bytes).and_then(|()| writer.flush());
                    written.map_err(ReceiveError::Write)?;
                    return Ok(Received {
                        bytes: self.bytes,
                        last: message,
                    });
                }
                Some(Part::Aborted(reason)) => {
                    return Err(ReceiveError::Aborted(reason.to_owned()));
                }
                Some(Part::Incomplete(cut)) => {
                    aside.events.push_back(Event::Message(message));
                    return Err(ReceiveError::Incomplete(cut));
                }
                None => aside.events.push_back(Event::Message(message)),
            }
            message = self.next(group, deadline, aside)?;
        }
    }

    /// The next message of any kind.
    fn next(
        &mut self,
        group: &mut ChannelGroup,
        deadline: Option<Instant>,
        aside: &mut Aside,
    ) -> Result<Message, ReceiveError> {
        loop {
            let left = deadline.map_or(Duration::MAX, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            let Some(event) = group.recv_timeout(left).map_err(ReceiveError::Over)? else {
                return Err(aside.timeout());
            };
            match event {
                Event::Message(message) => return Ok(message),
                // Parts that are still to be written are the reason, as a rule.
                Event::PoolEmpty => aside.was_pool_empty = true,
                other => {
                    let cut = match self.hear(&other) {
                        Some(Part::Incomplete(cut)) => Some(cut),
                        _ => None,
                    };
                    aside.events.push_back(other);
                    if let Some(cut) = cut {
                        return Err(ReceiveError::Incomplete(cut));
                    }
                }
            }
        }
    }
}

/// What happened while parts were waited for.
#[derive(Default)]
struct Aside {
    events: VecDeque<Event>,
    was_pool_empty: bool,
}

impl Aside {
    /// Why nothing came in time.
    fn timeout(&self) -> ReceiveError {
        let is_any_held = self.events.iter().any(|it| matches!(it, Event::Message(_)));
        if self.was_pool_empty && is_any_held {
            return ReceiveError::PoolEmpty;
        }
        ReceiveError::Timeout
    }
}

/// Why a stream was not received whole.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The sender gave up, and said why.
    Aborted(String),
    /// Nothing more of it can come.
    Incomplete(Cut),
    /// What came cannot be written. The sender does not know, and goes on.
    Write(io::Error),
    /// No part came in time.
    Timeout,
    /// No part came in time, and reading had stopped because all messages of the pool were out: those that
    /// were put aside are among them.
    PoolEmpty,
    /// The engine is shutting down.
    Over(RecvError),
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bye => f.write_str("bye was said"),
            Self::Closed(reason) => reason.fmt(f),
        }
    }
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aborted(reason) => write!(f, "the sender gave the stream up: {reason:?}"),
            Self::Incomplete(cut) => write!(f, "the stream is incomplete: {cut}"),
            Self::Write(error) => write!(f, "what came cannot be written: {error}"),
            Self::Timeout => f.write_str("no part of the stream came in time"),
            Self::PoolEmpty => f.write_str(
                "the pool is empty: receive what else came during the stream, or use a Receiver",
            ),
            Self::Over(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReceiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Incomplete(Cut::Closed(reason)) => Some(reason),
            Self::Write(error) => Some(error),
            Self::Over(error) => Some(error),
            Self::Aborted(_) | Self::Incomplete(Cut::Bye) | Self::Timeout | Self::PoolEmpty => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tofu_proto::{ChannelNumber, OpCode, Status};

    use super::*;

    const CHANNEL: ChannelNumber = ChannelNumber::new(3);
    const OTHER: ChannelNumber = ChannelNumber::new(4);

    fn part() -> Message {
        Message::request(CHANNEL).with_id(7_u64).with_body("x")
    }

    fn begun() -> Receiver {
        let first = part().with_more(true);
        let mut receiver = Receiver::new(&first);
        assert_eq!(receiver.take(&first), Some(Part::More(b"x")));
        receiver
    }

    #[test]
    fn only_its_own_parts_are_taken() {
        let mut receiver = begun();
        for other in [
            part().with_channel(OTHER),
            part().with_id(8_u64),
            part().with_op_code(OpCode::Response),
            part().with_op_code(OpCode::Signal),
            Message::bye_request(OTHER),
        ] {
            assert_eq!(receiver.take(&other), None, "{other:?}");
        }
        assert_eq!((receiver.bytes(), receiver.is_over()), (1, false));
        assert_eq!(receiver.take(&part()), Some(Part::Last(b"x")));
        assert_eq!((receiver.bytes(), receiver.is_over()), (2, true));
        assert_eq!(receiver.take(&part()), None, "it is another one's");
    }

    #[test]
    fn only_a_last_part_aborts() {
        let mut receiver = begun();
        let odd = part().with_header(ABORTED, "why").with_more(true);
        assert_eq!(receiver.take(&odd), Some(Part::More(b"x")));
        let last = part().with_header(ABORTED, "why");
        assert_eq!(receiver.take(&last), Some(Part::Aborted("why")));
        let last = part().with_header(ABORTED, b"\xff");
        assert!(matches!(begun().take(&last), Some(Part::Aborted(_))));
    }

    #[test]
    fn a_bye_or_the_end_of_the_channel_in_the_middle_is_told_once() {
        for bye in [
            Message::bye_request(CHANNEL),
            Message::new(OpCode::ByeResponse, CHANNEL, 1),
        ] {
            let mut receiver = begun();
            assert_eq!(receiver.take(&bye), Some(Part::Incomplete(Cut::Bye)));
            assert_eq!(receiver.take(&bye), None);
        }
        let closed = |channel| Event::Closed {
            channel,
            id: 1.into(),
            reason: Status::PEER_DISCONNECTED.into(),
        };
        let mut receiver = begun();
        assert_eq!(receiver.hear(&closed(OTHER)), None);
        let cut = Cut::Closed(Status::PEER_DISCONNECTED.into());
        let event = closed(CHANNEL);
        assert_eq!(receiver.hear(&event), Some(Part::Incomplete(cut)));
        assert_eq!(receiver.hear(&event), None);
    }
}
