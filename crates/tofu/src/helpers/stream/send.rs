//! Sending: what a reader gives becomes messages, one at a time and only when there is room.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, Read},
    time::{Duration, Instant},
};

use tofu_proto::{Header, Message, MessageId, OpType, PostError, Refusal};

use super::{ABORTED, StreamId};
use crate::{ChannelGroup, Event, Reason, RecvError, blanks};

/// Bytes that are read at once, on their way into a message.
const READ_LEN: usize = 16 * 1024;
/// Characters of a reason that the peer is told.
const REASON_LEN_MAX: usize = 1_000;

/// Makes the last message complete, when all was read.
type Complete<R> = Box<dyn FnOnce(&mut R, Message) -> Message + Send>;

/// Makes the messages of one stream of what a reader gives.
///
/// It holds at most one part: the one that found no room. Whoever owns it decides when to go on, so any
/// number of senders can take turns on one channel.
///
/// ```
/// use tofu::{ChannelNumber, Message, helpers::stream::{Sender, Step}};
///
/// let first = Message::signal(ChannelNumber::new(3)).with_id(7_u64).with_header("name", "greeting");
/// let mut sender = Sender::new(first, &b"hello, world"[..]).with_part_len(5);
/// let mut posted = Vec::new();
/// // In earnest this is `|message| group.post(message)`.
/// let mut post = |message: Message| {
///     let header = message.binary_header();
///     posted.push(message);
///     Ok(header)
/// };
/// while sender.post_next(&mut post)? == Step::Posted {}
/// let bodies: Vec<_> = posted.iter().map(Message::body).collect();
/// assert_eq!(bodies, [&b"hello"[..], b", wor", b"ld"]);
/// assert_eq!(posted[0].header("name"), Some("greeting"));
/// assert!(posted[1].has_more() && !posted[2].has_more());
/// # Ok::<(), tofu::helpers::stream::SendError>(())
/// ```
pub struct Sender<R> {
    reader: R,
    part_len: usize,
    buffer: Vec<u8>,
    stream: StreamId,
    /// The message that the application began with, until it is the first part.
    first: Option<Message>,
    /// A part that was made and not taken.
    waiting: Option<Message>,
    complete: Option<Complete<R>>,
    /// Why the reader failed: told when the peer knows.
    failed: Option<io::Error>,
    has_begun: bool,
    /// The last message was made, and says why there is no more.
    is_aborted: bool,
    is_over: bool,
    bytes: u64,
}

/// What became of a turn of a [`Sender`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A part was posted, and there is more: go on when you like.
    Posted,
    /// A queue is full: go on after the channel's [`Drained`](Event::Drained).
    Full,
    /// The last part was posted, now or before. It has not arrived yet: only an answer of the peer, or its
    /// answer to a bye, says that.
    Done,
}

/// A stream that was posted whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The message id of all its parts, and of the peer's answers to them.
    pub id: MessageId,
    /// Its bytes.
    pub bytes: u64,
}

impl<R: Read> Sender<R> {
    /// A stream that begins with this message: a Request, a Response or a Signal. Its text headers are those
    /// of the first part, and its body comes before what is read. Without an id it gets one when it is posted.
    pub fn new(first: Message, reader: R) -> Self {
        Self {
            reader,
            part_len: Message::BODY_MAX,
            buffer: Vec::new(),
            stream: StreamId::of(&first),
            first: Some(first),
            waiting: None,
            complete: None,
            failed: None,
            has_begun: false,
            is_aborted: false,
            is_over: false,
            bytes: 0,
        }
    }

    /// With parts of this many bytes, 1 to [`Message::BODY_MAX`]; what is beyond is taken for the nearest.
    ///
    /// The default is [`Message::BODY_MAX`], at which a message costs least. Small parts let other messages of the
    /// channel come between sooner: one that is posted waits for what the queue holds.
    #[must_use]
    pub fn with_part_len(mut self, len: usize) -> Self {
        self.part_len = len.clamp(1, Message::BODY_MAX);
        self
    }

    /// Has the last message completed by `complete`, when all was read: with text headers that only the
    /// reader knows, such as a hash. A stream that is aborted is not completed.
    ///
    /// ```
    /// use tofu::{ChannelNumber, Message, helpers::stream::Sender};
    ///
    /// let first = Message::signal(ChannelNumber::new(3)).with_id(7_u64);
    /// let mut sender = Sender::new(first, std::io::Cursor::new(b"four"))
    ///     .with_last(|reader, last| last.with_header("length", reader.position().to_string()));
    /// sender.post_next(|message| {
    ///     assert_eq!(message.header("length"), Some("4"));
    ///     Ok(message.binary_header())
    /// })?;
    /// # Ok::<(), tofu::helpers::stream::SendError>(())
    /// ```
    #[must_use]
    pub fn with_last(
        mut self,
        complete: impl FnOnce(&mut R, Message) -> Message + Send + 'static,
    ) -> Self {
        self.complete = Some(Box::new(complete));
        self
    }

    /// The message id of the stream: unassigned until the first part was posted, if it had none.
    pub fn id(&self) -> MessageId {
        self.stream.id
    }

    /// Bytes that were posted.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The reader, such as to ask it for a hash. It is ahead of what was posted by a part that waits.
    pub fn reader(&self) -> &R {
        &self.reader
    }

    /// Reads the next part, unless one waits, and posts it with `post`: mostly `|message| group.post(message)`,
    /// or the same with a [`Poster`](crate::Poster). Reading fills the part, and waits as long as the reader does.
    ///
    /// # Errors
    /// The stream is over, and nothing more is posted: [`SendError::Read`] when the peer was told that the
    /// reader failed, and [`SendError::Refused`] for all but a full queue.
    pub fn post_next(
        &mut self,
        post: impl FnOnce(Message) -> Result<Header, PostError>,
    ) -> Result<Step, SendError> {
        if self.is_over {
            return Ok(Step::Done);
        }
        let op_code = self.stream.op_code;
        if op_code.op_type() != OpType::Regular {
            // It would open or close something, if it were the only part.
            self.is_over = true;
            let first = self.first.take().unwrap_or_else(|| self.part());
            let refusal = Refusal::InvalidMoreUsage(op_code);
            return Err(SendError::Refused(PostError::new(first, refusal)));
        }
        let message = match self.waiting.take() {
            Some(message) => message,
            None => self.make_part(),
        };
        let (len, has_more) = (message.body().len(), message.has_more());
        match post(message) {
            Ok(header) => {
                self.stream.id = header.id;
                self.has_begun = true;
                self.bytes += len as u64;
                if has_more {
                    return Ok(Step::Posted);
                }
                self.is_over = true;
                match self.failed.take() {
                    Some(error) => Err(SendError::Read(error)),
                    None => Ok(Step::Done),
                }
            }
            Err(error) if error.is_queue_full() => {
                self.waiting = Some(error.into_message());
                Ok(Step::Full)
            }
            Err(error) => {
                self.is_over = true;
                Err(SendError::Refused(error))
            }
        }
    }

    /// Gives the stream up: the next message posted is its last, and tells the peer this reason, in one line.
    /// A stream that is over, or whose reader has failed, stays as it is.
    ///
    /// ```
    /// use tofu::{ChannelNumber, Message, helpers::stream::{ABORTED, Sender, Step}};
    ///
    /// let first = Message::signal(ChannelNumber::new(3)).with_id(7_u64);
    /// let mut sender = Sender::new(first, std::io::repeat(0));
    /// let step = sender.post_next(|part| Ok(part.binary_header()))?;
    /// assert_eq!(step, Step::Posted);
    /// sender.abort("enough");
    /// let step = sender.post_next(|last| {
    ///     assert_eq!((last.header(ABORTED), last.has_more()), (Some("enough"), false));
    ///     Ok(last.binary_header())
    /// })?;
    /// assert_eq!(step, Step::Done);
    /// # Ok::<(), tofu::helpers::stream::SendError>(())
    /// ```
    pub fn abort(&mut self, reason: impl fmt::Display) {
        if self.is_over || self.is_aborted {
            return;
        }
        // The text headers of a first part that has not left yet say what it is that was aborted.
        let unposted = self.waiting.take().or_else(|| self.first.take());
        let message = unposted.unwrap_or_else(|| self.part());
        self.waiting = Some(aborting(message, &reason));
        self.is_aborted = true;
    }

    /// Posts all that is left, waiting for room at most `timeout` each time. What else happens meanwhile comes
    /// with the next `recv`, but for parts of the stream that come back when its channel closes.
    ///
    /// # Errors
    /// As [`post_next`](Self::post_next); [`SendError::Closed`] if the channel closed in the middle. After
    /// [`SendError::Timeout`] it may be called again, or the stream aborted; whoever does neither should
    /// close the channel, since the peer still waits for the rest.
    pub fn post_all(
        &mut self,
        group: &mut ChannelGroup,
        timeout: Duration,
    ) -> Result<Sent, SendError> {
        let mut aside = Aside::default();
        let outcome = self.post_aside(group, timeout, &mut aside);
        if aside.has_drained {
            // Others may have been refused as well, and count on the event.
            let drained = Event::Drained(self.stream.channel);
            aside.events.push_back(drained);
        }
        group.put_back(aside.events);
        outcome
    }

    fn post_aside(
        &mut self,
        group: &mut ChannelGroup,
        timeout: Duration,
        aside: &mut Aside,
    ) -> Result<Sent, SendError> {
        loop {
            match self.post_next(|message| group.post(message)) {
                Ok(Step::Posted) => {}
                Ok(Step::Done) => {
                    return Ok(Sent {
                        id: self.stream.id,
                        bytes: self.bytes,
                    });
                }
                Ok(Step::Full) => self.wait(group, timeout, aside)?,
                // It was open a moment ago: the next events say why it is not any more.
                Err(SendError::Refused(error))
                    if self.has_begun
                        && matches!(error.refusal(), Refusal::InvalidChannelNumber(_)) =>
                {
                    while self.wait(group, timeout, aside).is_ok() {}
                    return Err(aside
                        .closed
                        .map_or(SendError::Refused(error), SendError::Closed));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until the channel may have room.
    fn wait(
        &mut self,
        group: &mut ChannelGroup,
        timeout: Duration,
        aside: &mut Aside,
    ) -> Result<(), SendError> {
        // A time that never comes is as good as none.
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let left = deadline.map_or(Duration::MAX, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            let event = group.recv_timeout(left).map_err(SendError::Over)?;
            match event {
                None => return Err(SendError::Timeout),
                Some(Event::Drained(channel)) if channel == self.stream.channel => {
                    aside.has_drained = true;
                    return Ok(());
                }
                // The error says it.
                Some(Event::Returned { message, .. })
                    if self.has_begun && StreamId::of(&message) == self.stream => {}
                Some(event) => {
                    let closed = match &event {
                        Event::Closed {
                            channel, reason, ..
                        } if *channel == self.stream.channel => Some(*reason),
                        _ => None,
                    };
                    aside.events.push_back(event);
                    if let Some(reason) = closed {
                        self.is_over = true;
                        aside.has_drained = false;
                        aside.closed = closed;
                        return Err(SendError::Closed(reason));
                    }
                }
            }
        }
    }

    /// The next part; if the reader fails, the last one, which says so.
    fn make_part(&mut self) -> Message {
        self.buffer.resize(READ_LEN, 0);
        let mut message = self.first.take().unwrap_or_else(|| self.part());
        loop {
            let room = self.part_len.saturating_sub(message.body().len());
            if room == 0 {
                return message.with_more(true);
            }
            let buffer = &mut self.buffer[..room.min(READ_LEN)];
            match self.reader.read(buffer) {
                Ok(0) => {
                    let last = message.with_more(false);
                    return match self.complete.take() {
                        Some(complete) => complete(&mut self.reader, last),
                        None => last,
                    };
                }
                Ok(len) => message.extend_body(&buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let last = aborting(message, &error);
                    self.failed = Some(error);
                    self.is_aborted = true;
                    return last;
                }
            }
        }
    }

    /// An empty part, of memory at hand.
    fn part(&self) -> Message {
        let StreamId {
            channel,
            op_code,
            id,
        } = self.stream;
        blanks::message(op_code, channel, id)
    }
}

/// What happened while a sender waited for room.
#[derive(Default)]
struct Aside {
    events: VecDeque<Event>,
    /// There was room again, however often: one event says as much as many, and a long stream has many.
    has_drained: bool,
    closed: Option<Reason>,
}

/// The last message of a stream that cannot be completed.
fn aborting(message: Message, reason: &dyn fmt::Display) -> Message {
    message
        .with_more(false)
        .with_body(b"")
        .with_header(ABORTED, one_line(&reason.to_string()))
}

/// A reason as the value of a text header.
fn one_line(reason: &str) -> String {
    let characters = reason.chars().take(REASON_LEN_MAX);
    let line: String = characters
        .map(|it| if it.is_control() { ' ' } else { it })
        .collect();
    match line.trim() {
        "" => "no reason was given".to_owned(),
        told => told.to_owned(),
    }
}

impl<R> fmt::Debug for Sender<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("stream", &self.stream)
            .field("bytes", &self.bytes)
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}

/// Posts a stream that begins with `first` and goes on with all that `reader` gives, waiting for room at most
/// `timeout` each time: [`Sender::post_all`] of a new [`Sender`].
///
/// When it returns, everything is posted, and the last parts are still on their way: that they have arrived, an
/// answer of the peer says, or its answer to a bye.
///
/// # Errors
/// As [`Sender::post_all`].
///
/// ```
/// use tofu::{Engine, Message, Options, helpers::stream};
/// use std::{io::Read, time::Duration};
///
/// const PATIENCE: Duration = Duration::from_secs(5);
/// # let engine = Engine::new(Options::default())?;
/// # let mut server = engine.group()?;
/// # let welcome = Message::welcome_request(&"tcp://127.0.0.1:0".parse()?);
/// # let address = server.call(welcome, PATIENCE)?.address().expect("bound");
/// let mut group = engine.group()?;
/// let channel = group.post(Message::hello_request(&address))?.channel;
/// let zeros = std::io::repeat(0).take(1_000_000);
/// let sent = stream::send_all(&mut group, Message::signal(channel), zeros, PATIENCE)?;
/// assert_eq!(sent.bytes, 1_000_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn send_all(
    group: &mut ChannelGroup,
    first: Message,
    reader: impl Read,
    timeout: Duration,
) -> Result<Sent, SendError> {
    Sender::new(first, reader).post_all(group, timeout)
}

/// Why a stream was not posted to its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendError {
    /// The reader failed, and the peer was told.
    Read(io::Error),
    /// A part was refused, and not for want of room: it is in there. The peer was not told.
    Refused(PostError),
    /// The channel closed in the middle: so the peer knows as well, if it is still there.
    Closed(Reason),
    /// There was no room in time: the peer does not read, or not fast enough.
    Timeout,
    /// The engine is shutting down.
    Over(RecvError),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "the source of the stream cannot be read: {error}"),
            Self::Refused(error) => error.fmt(f),
            Self::Closed(reason) => {
                write!(
                    f,
                    "the channel closed in the middle of the stream: {reason}"
                )
            }
            Self::Timeout => f.write_str("the peer took nothing of the stream in time"),
            Self::Over(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::Refused(error) => Some(error),
            Self::Closed(reason) => Some(reason),
            Self::Over(error) => Some(error),
            Self::Timeout => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tofu_proto::{ChannelNumber, OpCode};

    use super::*;

    const CHANNEL: ChannelNumber = ChannelNumber::new(3);

    fn first() -> Message {
        Message::signal(CHANNEL).with_header("name", "it")
    }

    /// An engine that gives ids, and has room for so many messages.
    #[derive(Default)]
    struct Posted {
        messages: Vec<Message>,
        room: usize,
    }

    impl Posted {
        fn post(&mut self, mut message: Message) -> Result<Header, PostError> {
            if self.messages.len() >= self.room {
                let refusal = Refusal::QueueFull {
                    channel: CHANNEL,
                    queued_bytes: 1,
                };
                return Err(PostError::new(message, refusal));
            }
            if !message.id().is_assigned() {
                message = message.with_id(40_u64);
            }
            let header = message.binary_header();
            self.messages.push(message);
            Ok(header)
        }

        fn bytes(&self) -> Vec<u8> {
            let bodies: Vec<_> = self.messages.iter().map(Message::body).collect();
            bodies.concat()
        }

        /// One stream: the same id everywhere, and `more` on all but the last.
        fn assert_one_stream(&self) {
            let (last, others) = self.messages.split_last().expect("a message");
            assert!(!last.has_more() && others.iter().all(Message::has_more));
            let stream = StreamId::of(last);
            assert_eq!((stream.channel, stream.id.get()), (CHANNEL, 40));
            assert!(others.iter().all(|it| StreamId::of(it) == stream));
        }
    }

    fn run<R: Read>(sender: &mut Sender<R>, posted: &mut Posted) -> Result<Step, SendError> {
        loop {
            match sender.post_next(|message| posted.post(message))? {
                Step::Posted => {}
                step => return Ok(step),
            }
        }
    }

    fn unbounded() -> Posted {
        Posted {
            room: usize::MAX,
            ..Posted::default()
        }
    }

    /// Fails after so many bytes, and is interrupted before each.
    struct Broken(usize, bool);

    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if self.0 == 0 {
                return Err(io::Error::other("the disk\r\nis on fire"));
            }
            self.0 -= 1;
            buffer[0] = b'x';
            Ok(1)
        }
    }

    #[test]
    fn any_length_in_parts_of_any_length_is_one_stream() {
        let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
        for len in [0, 1, 5, 16_384, 65_535, 65_536, 70_000] {
            for part_len in [7, 1_000, 16_384, 20_000, usize::MAX] {
                let mut sender = Sender::new(first(), &bytes[..len]).with_part_len(part_len);
                let mut posted = unbounded();
                assert_eq!(run(&mut sender, &mut posted).unwrap(), Step::Done);
                posted.assert_one_stream();
                assert!(posted.bytes() == bytes[..len]);
                assert_eq!((sender.bytes(), sender.id().get()), (len as u64, 40));
                let part_len = part_len.min(Message::BODY_MAX);
                assert_eq!(posted.messages.len(), len / part_len + 1);
                let named = posted.messages.iter().filter_map(|it| it.header("name"));
                assert_eq!(named.count(), 1, "only the first has the text headers");
            }
        }
    }

    #[test]
    fn the_body_of_the_first_message_comes_first() {
        let mut sender = Sender::new(first().with_body("hello, "), &b"world"[..]).with_part_len(8);
        let mut posted = unbounded();
        run(&mut sender, &mut posted).unwrap();
        posted.assert_one_stream();
        assert_eq!(posted.bytes(), b"hello, world");
        assert_eq!(posted.messages.len(), 2);
    }

    #[test]
    fn a_part_without_room_waits_and_nothing_is_read() {
        let mut reader = io::Cursor::new([7; 100]);
        let mut sender = Sender::new(first(), &mut reader).with_part_len(10);
        let mut posted = Posted::default();
        for _ in 0..3 {
            assert_eq!(run(&mut sender, &mut posted).unwrap(), Step::Full);
        }
        posted.room = 4;
        assert_eq!(run(&mut sender, &mut posted).unwrap(), Step::Full);
        assert_eq!(sender.bytes(), 40);
        assert_eq!(sender.reader.position(), 50);
        posted.room = 100;
        assert_eq!(run(&mut sender, &mut posted).unwrap(), Step::Done);
        assert_eq!(posted.bytes(), [7; 100]);
        posted.assert_one_stream();
        assert_eq!(run(&mut sender, &mut posted).unwrap(), Step::Done);
        assert_eq!(posted.messages.len(), 11, "nothing comes after the last");
    }

    #[test]
    fn a_reader_that_fails_is_told_to_the_peer_and_then_to_the_caller() {
        for len in [0, 3, 10, 25] {
            let mut sender = Sender::new(first(), Broken(len, false))
                .with_part_len(10)
                .with_last(|_, last| last.with_header("hash", "1234"));
            let mut posted = Posted {
                room: len / 10,
                ..Posted::default()
            };
            assert_eq!(run(&mut sender, &mut posted).unwrap(), Step::Full);
            posted.room += 1;
            let error = run(&mut sender, &mut posted).unwrap_err();
            assert!(matches!(error, SendError::Read(_)), "{error}");
            posted.assert_one_stream();
            let last = posted.messages.last().unwrap();
            assert_eq!(last.header(ABORTED), Some("the disk  is on fire"));
            assert_eq!((last.header("hash"), last.body()), (None, &b""[..]));
            assert_eq!(posted.messages[0].header("name"), Some("it"));
            assert_eq!(run(&mut sender, &mut posted).unwrap(), Step::Done);
        }
    }

    #[test]
    fn an_aborted_stream_ends_with_the_reason() {
        let mut sender = Sender::new(first(), io::repeat(0));
        sender.abort("\n");
        let mut posted = unbounded();
        assert_eq!(run(&mut sender, &mut posted).unwrap(), Step::Done);
        let [only] = &posted.messages[..] else {
            panic!("one message is a stream")
        };
        assert_eq!(only.header("name"), Some("it"));
        assert_eq!(only.header(ABORTED), Some("no reason was given"));

        let mut sender = Sender::new(first(), io::repeat(0));
        let mut posted = Posted {
            room: 2,
            ..Posted::default()
        };
        assert_eq!(run(&mut sender, &mut posted).unwrap(), Step::Full);
        sender.abort("x".repeat(100_000));
        posted.room = 3;
        assert_eq!(run(&mut sender, &mut posted).unwrap(), Step::Done);
        posted.assert_one_stream();
        let reason = posted.messages[2].header(ABORTED).unwrap();
        assert_eq!(reason, "x".repeat(REASON_LEN_MAX));
        sender.abort("too late");
        assert_eq!(run(&mut sender, &mut posted).unwrap(), Step::Done);
        assert_eq!(posted.messages.len(), 3);
    }

    #[test]
    fn what_cannot_be_continued_is_no_stream() {
        let hello = Message::bye_request(CHANNEL);
        let mut sender = Sender::new(hello, &b""[..]);
        let mut posted = unbounded();
        let SendError::Refused(error) = run(&mut sender, &mut posted).unwrap_err() else {
            panic!("refused")
        };
        let refusal = Refusal::InvalidMoreUsage(OpCode::ByeRequest);
        assert_eq!(error.refusal(), &refusal);
        assert!(posted.messages.is_empty());
    }
}
