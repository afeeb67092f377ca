//! One connection that is to be there, however often it is lost.

use std::{
    collections::VecDeque,
    collections::hash_map::RandomState,
    fmt,
    hash::{BuildHasher, Hasher},
    mem,
    time::{Duration, Instant},
};

use tofu_proto::{ChannelNumber, Message, MessageId, OpCode, OpType, PostError, Refusal, Status};

use super::Post;
use crate::{Event, Reason};

/// The shortest back-off: with none at all, a server that refuses at once would be asked without a pause.
const FIRST_MIN: Duration = Duration::from_millis(1);

/// Keeps one connection: connects, and when that fails or the connection is lost, waits and connects again.
///
/// [`poll`](Self::poll) posts the hello when it is due, and tells how it goes: [`Link::Up`] with the channel to use,
/// [`Link::Down`] with the reason, what came back, and the time until the next attempt, and in the end
/// [`Link::Ended`], after [`stop`](Self::stop) or when no further attempt could do better.
///
/// Attempt number *n* after a loss (from 0) comes after a random time between zero and `first` times 2 to the *n*,
/// at most `max`: so the first comes soon, a server that is down for long is asked seldom, and thousands of clients
/// that have lost the same server do not come back at the same moment. A connection that was up for `steady` counts
/// as success, and the next loss starts from the beginning. A shorter one does not, so a server that accepts and
/// hangs up is not asked more and more.
///
/// # What happens to what was posted
///
/// | your message | is |
/// | --- | --- |
/// | refused by `post` | yours, in the error: after the loss, before you have heard of it |
/// | still queued when the connection is lost, even partly sent | in [`Link::Down::returned`], in the order posted |
/// | sent and answered by the peer's application | done |
/// | sent, not answered | *unknown*: the peer may have acted upon it, or never have had it |
///
/// Nothing is posted again by itself: whether the unknown may be done twice, only you can say. Who asks again gives
/// its requests ids or keys of its own, by which the server knows what it has done before.
///
/// A HelloRequest carries what the server has to know of its client, such as a token in the body; it is the same at
/// each attempt. To change it, stop this one and make another. A bye that the peer says is yours to answer; the
/// end that follows is a loss like others, because a server that restarts says bye as well.
///
/// ```
/// use std::time::{Duration, Instant};
/// use tofu::{Engine, Event, Message, Options, testing};
/// use tofu::helpers::{Link, Reconnect, until};
///
/// let engine = Engine::new(Options::default())?;
/// let (mut server, mut client) = (engine.group()?, engine.group()?);
/// let address = testing::free_tcp_address()?; // nobody listens there yet
/// let mut link = Reconnect::new(Message::hello_request(&address))?
///     .backoff(Duration::from_millis(5), Duration::from_millis(50));
///
/// let mut attempts = 0;
/// let channel = loop {
///     match link.poll(Instant::now(), &client) {
///         Some(Link::Up { channel, .. }) => break channel,
///         Some(Link::Down { reason, retry_in, .. }) => {
///             println!("{reason}; again in {retry_in:?}");
///             attempts += 1;
///             if attempts == 2 {
///                 server.post(Message::welcome_request(&address))?;
///             }
///         }
///         Some(ended) => panic!("{ended:?}"),
///         None => {
///             let patience = until(link.next_deadline(), Instant::now());
///             # let patience = patience.min(Duration::from_millis(10));
///             if let Some(event) = client.recv_timeout(patience)? {
///                 link.handle(event, Instant::now());
///             }
///         }
///     }
///     // The server, once it is there, answers the hello.
///     if let Some(Event::Message(hello)) = server.try_recv()? {
///         server.post(hello.reply()?)?;
///     }
/// };
/// assert!(attempts >= 2);
/// assert_eq!(link.channel(), Some(channel));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reconnect {
    hello: Message,
    first: Duration,
    max: Duration,
    steady: Duration,
    answer_timeout: Duration,
    random: Random,
    state: State,
    /// Attempts that failed since it was last up for long enough.
    failures: u32,
    returned: Vec<Message>,
    is_stopping: bool,
    /// What has happened and is not told yet.
    news: VecDeque<Link>,
}

/// ```text
///           poll, when due               HelloResponse
/// Waiting ----------------> Connecting ----------------> Up
///    ^                       |      |                    |
///    |   Closed, or refused  |      | no answer in time  | Closed
///    +-----------------------+      v                    |
///    +------------------------- Abandoned                |
///    +---------------------------------------------------+
/// ```
///
/// Stopping goes from anywhere to `Ended`: over `Parting`, if there is a channel to close.
#[derive(Debug)]
enum State {
    /// For the next attempt. `None`: at once.
    Waiting {
        until: Option<Instant>,
    },
    Connecting {
        channel: ChannelNumber,
        id: MessageId,
        until: Option<Instant>,
    },
    Up {
        channel: ChannelNumber,
        since: Instant,
    },
    /// It is being closed, because the hello was not answered in time.
    Abandoned {
        channel: ChannelNumber,
    },
    /// It was told to stop, and has said so; this is the id of the bye.
    Parting {
        channel: ChannelNumber,
        id: Option<MessageId>,
    },
    Ended,
}

/// How it goes with the connection.
///
/// ```
/// use tofu::helpers::Link;
///
/// fn log(change: &Link) -> String {
///     match change {
///         Link::Up { channel, .. } => format!("up: channel {channel}"),
///         Link::Down { reason, returned, retry_in, .. } => {
///             format!("{reason}; {} came back; again in {retry_in:?}", returned.len())
///         }
///         Link::Ended { reason, .. } => format!("over: {reason}"),
///     }
/// }
/// let reason = tofu::Status::CHANNEL_CLOSED.into();
/// assert_eq!(log(&Link::Ended { reason, returned: Vec::new() }), "over: the channel is closed");
/// ```
#[derive(Debug)]
pub enum Link {
    /// It is up: post to this channel.
    Up {
        /// The new channel.
        channel: ChannelNumber,
        /// The peer's HelloResponse, with what it may have to say.
        response: Message,
    },
    /// It is not: an attempt failed, or the connection is lost. There will be another attempt.
    Down {
        /// The channel that was up and is closed now; `None` if the attempt failed.
        channel: Option<ChannelNumber>,
        /// Why. [Graceful](Reason::is_graceful), if the peer, or you, said bye.
        reason: Reason,
        /// The messages that were posted to the channel and have not left, in their order, without hellos and byes.
        /// They are complete: to post one again, change its [channel](Message::with_channel). A Response is of no
        /// use any more, because its request was the old channel's. Requests that another helper was told of first
        /// are its own.
        returned: Vec<Message>,
        /// The time until the next attempt.
        retry_in: Duration,
    },
    /// The last word: it was told to stop, or another attempt would do no better.
    Ended {
        /// Why. [Graceful](Reason::is_graceful), if it was told to stop, and nothing went wrong.
        reason: Reason,
        /// As in [`Down`](Self::Down).
        returned: Vec<Message>,
    },
}

impl Reconnect {
    /// Will connect with this HelloRequest, again and again, as soon as it is polled.
    ///
    /// | option | default |
    /// | --- | --- |
    /// | [`backoff`](Self::backoff) | 100 ms at first, 30 s at most |
    /// | [`steady`](Self::steady) | 10 s |
    /// | [`answer_timeout`](Self::answer_timeout) | 10 s |
    /// | [`seed`](Self::seed) | another one in each process |
    ///
    /// # Errors
    /// The message, and why it can never be posted: that it is no HelloRequest, or has no valid address.
    ///
    /// # Example
    /// ```
    /// use tofu::{Message, helpers::Reconnect};
    ///
    /// let nowhere = Message::hello_request(&"tcp://127.0.0.1:0".parse()?);
    /// let error = Reconnect::new(nowhere).unwrap_err();
    /// println!("{error}"); // port 0 is for those who listen
    /// # Ok::<(), tofu::AddressError>(())
    /// ```
    pub fn new(hello: Message) -> Result<Self, PostError> {
        if let Err(refusal) = hello.check() {
            return Err(PostError::new(hello, refusal));
        }
        if hello.op_code() != OpCode::HelloRequest {
            let refusal = Refusal::NotAllowed {
                op_code: hello.op_code(),
                channel: hello.channel(),
                why: "only a HelloRequest connects",
            };
            return Err(PostError::new(hello, refusal));
        }
        Ok(Self {
            hello,
            first: Duration::from_millis(100),
            max: Duration::from_secs(30),
            steady: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(10),
            random: Random(RandomState::new().build_hasher().finish()),
            state: State::Waiting { until: None },
            failures: 0,
            returned: Vec::new(),
            is_stopping: false,
            news: VecDeque::new(),
        })
    }

    /// Bounds of the random waiting time: `first` after the first failure (at least 1 ms), twice as much after each
    /// further one, at most `max`.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use tofu::{Engine, Message, Options, helpers::{Link, Reconnect}, testing};
    ///
    /// # let engine = Engine::new(Options::default())?;
    /// # let mut group = engine.group()?;
    /// # let hello = Message::hello_request(&testing::free_tcp_address()?);
    /// let first = Duration::from_millis(20);
    /// let mut link = Reconnect::new(hello)?.backoff(first, Duration::from_secs(1));
    /// // Nobody listens there.
    /// # let now = Instant::now();
    /// # let change = loop {
    /// #     if let Some(change) = link.poll(now, &group) { break change }
    /// #     link.handle(group.recv()?, now);
    /// # };
    /// assert!(matches!(change, Link::Down { retry_in, .. } if retry_in <= first));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn backoff(mut self, first: Duration, max: Duration) -> Self {
        self.first = first.max(FIRST_MIN);
        self.max = max.max(self.first);
        self
    }

    /// How long a connection has to be up for the back-off to start from the beginning.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tofu::{Message, helpers::Reconnect};
    ///
    /// let hello = Message::hello_request(&"tcp://127.0.0.1:7099".parse()?);
    /// let link = Reconnect::new(hello)?.steady(Duration::from_secs(60));
    /// assert_eq!(link.channel(), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn steady(mut self, steady: Duration) -> Self {
        self.steady = steady;
        self
    }

    /// How long an attempt may take, from the hello to its answer. The engine's own
    /// [`connect_timeout`](crate::Options::connect_timeout) is about the transport alone: a server that is there and
    /// whose application does not answer is given up after this time, with
    /// [`HELLO_TIMEOUT`](Status::HELLO_TIMEOUT).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use tofu::{Engine, Event, Message, Options, Status, helpers::{Link, Reconnect}};
    ///
    /// # let engine = Engine::new(Options::default())?;
    /// # let (mut server, mut group) = (engine.group()?, engine.group()?);
    /// # server.post(Message::welcome_request(&"tcp://127.0.0.1:0".parse()?))?;
    /// # let Event::Listening { address, .. } = server.recv()? else { panic!() };
    /// // A server that listens, and never answers.
    /// let timeout = Duration::from_millis(10);
    /// let mut link = Reconnect::new(Message::hello_request(&address))?.answer_timeout(timeout);
    /// let change = loop {
    ///     if let Some(change) = link.poll(Instant::now(), &group) {
    ///         break change;
    ///     }
    ///     if let Some(event) = group.recv_timeout(timeout)? {
    ///         link.handle(event, Instant::now());
    ///     }
    /// };
    /// assert!(matches!(change, Link::Down { reason, .. } if reason.status() == Status::HELLO_TIMEOUT));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = timeout;
        self
    }

    /// Decides the random part of the waiting times, for a test or a simulation. Give no two clients the same.
    ///
    /// ```
    /// use tofu::{Message, helpers::Reconnect};
    ///
    /// let hello = Message::hello_request(&"tcp://127.0.0.1:7099".parse()?);
    /// let link = Reconnect::new(hello)?.seed(7); // each run waits as long as the one before
    /// assert!(!link.is_ended());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.random = Random(seed);
        self
    }

    /// The channel, while the connection is up.
    ///
    /// ```
    /// use tofu::{Message, helpers::Reconnect};
    ///
    /// let link = Reconnect::new(Message::hello_request(&"tcp://127.0.0.1:7099".parse()?))?;
    /// assert_eq!(link.channel(), None); // not polled yet
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn channel(&self) -> Option<ChannelNumber> {
        match self.state {
            State::Up { channel, .. } => Some(channel),
            _ => None,
        }
    }

    /// Whether it is over: it was stopped, or another attempt would do no better.
    ///
    /// ```
    /// use tofu::{Engine, Message, Options, helpers::Reconnect};
    ///
    /// let engine = Engine::new(Options::default())?;
    /// let mut link = Reconnect::new(Message::hello_request(&"tcp://127.0.0.1:7099".parse()?))?;
    /// assert!(!link.is_ended());
    /// link.stop(&engine.group()?);
    /// assert!(link.is_ended());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Is told of an event. Gives it back, unless it is about the opening or the end of its channel: the answer to
    /// the hello, what came back, the channel's `Closed`.
    ///
    /// ```
    /// use std::time::Instant;
    /// use tofu::{Event, Message, helpers::Reconnect};
    ///
    /// let mut link = Reconnect::new(Message::hello_request(&"tcp://127.0.0.1:7099".parse()?))?;
    /// let event = link.handle(Event::PoolEmpty, Instant::now());
    /// assert!(matches!(event, Some(Event::PoolEmpty)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handle(&mut self, event: Event, now: Instant) -> Option<Event> {
        let Some(mine) = self.current().filter(|it| event.channel() == Some(*it)) else {
            return Some(event);
        };
        match event {
            Event::Message(message) => self.handle_message(message, now).map(Event::Message),
            Event::Returned { message, .. } => {
                // The hello is at hand anyway, and a bye means nothing to another channel.
                if message.op_code().op_type() == OpType::Regular {
                    self.returned.push(message);
                }
                None
            }
            Event::Closed { reason, .. } => {
                self.handle_closed(mine, reason, now);
                None
            }
            other => Some(other),
        }
    }

    fn current(&self) -> Option<ChannelNumber> {
        match self.state {
            State::Connecting { channel, .. }
            | State::Up { channel, .. }
            | State::Abandoned { channel }
            | State::Parting { channel, .. } => Some(channel),
            State::Waiting { .. } | State::Ended => None,
        }
    }

    fn handle_message(&mut self, message: Message, now: Instant) -> Option<Message> {
        match (&self.state, message.op_code()) {
            (&State::Connecting { channel, id, .. }, OpCode::HelloResponse)
                if message.id() == id =>
            {
                self.state = State::Up {
                    channel,
                    since: now,
                };
                self.news.push_back(Link::Up {
                    channel,
                    response: message,
                });
                None
            }
            // It was given up a moment ago.
            (State::Abandoned { .. } | State::Parting { .. }, OpCode::HelloResponse) => None,
            (State::Parting { id: Some(id), .. }, OpCode::ByeResponse) if message.id() == *id => {
                None
            }
            _ => Some(message),
        }
    }

    fn handle_closed(&mut self, mine: ChannelNumber, reason: Reason, now: Instant) {
        let state = mem::replace(&mut self.state, State::Ended);
        if self.is_stopping {
            return self.end(reason);
        }
        match state {
            State::Up { since, .. } => {
                if now.saturating_duration_since(since) >= self.steady {
                    self.failures = 0;
                }
                self.retry(Some(mine), reason, now);
            }
            State::Abandoned { .. } => self.retry(None, Status::HELLO_TIMEOUT.into(), now),
            _ => self.retry(None, reason, now),
        }
    }

    /// What happened, and what was due: posts the hello, and gives up who does not answer it.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use tofu::{Engine, Message, Options, helpers::Reconnect};
    ///
    /// let engine = Engine::new(Options::default())?;
    /// let group = engine.group()?;
    /// let mut link = Reconnect::new(Message::hello_request(&"tcp://127.0.0.1:7099".parse()?))?;
    /// let now = Instant::now();
    /// assert!(link.poll(now, &group).is_none()); // the hello is on its way
    /// assert_eq!(link.next_deadline(), Some(now + Duration::from_secs(10))); // for its answer
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn poll(&mut self, now: Instant, mut post: impl Post) -> Option<Link> {
        match self.state {
            State::Waiting { until } if until.is_none_or(|it| it <= now) => {
                self.connect(&mut post, now);
            }
            State::Connecting {
                channel,
                until: Some(until),
                ..
            } if until <= now => {
                // If it is closed already, its end is among the events.
                let _ = post.post(Message::bye_signal(channel));
                self.state = State::Abandoned { channel };
            }
            _ => {}
        }
        self.news.pop_front()
    }

    fn connect(&mut self, post: &mut impl Post, now: Instant) {
        match post.post(self.hello.clone()) {
            Ok(header) => {
                self.state = State::Connecting {
                    channel: header.channel,
                    id: header.id,
                    until: now.checked_add(self.answer_timeout),
                };
            }
            Err(error) => self.retry(None, error.refusal().status().into(), now),
        }
    }

    /// When to poll again, if nothing happens before.
    ///
    /// ```
    /// use tofu::{Message, helpers::Reconnect};
    ///
    /// let link = Reconnect::new(Message::hello_request(&"tcp://127.0.0.1:7099".parse()?))?;
    /// assert_eq!(link.next_deadline(), None); // poll it at once, for the first time
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } | State::Connecting { until, .. } => until,
            _ => None,
        }
    }

    /// Ends it: says bye if the connection is up, gives up an attempt that is under way. [`Link::Ended`] is what
    /// [`poll`](Self::poll) says last, once the channel is closed; until then it has to be told of events.
    ///
    /// ```
    /// use std::time::Instant;
    /// use tofu::{Engine, Message, Options, helpers::{Link, Reconnect}};
    ///
    /// let engine = Engine::new(Options::default())?;
    /// let group = engine.group()?;
    /// let mut link = Reconnect::new(Message::hello_request(&"tcp://127.0.0.1:7099".parse()?))?;
    /// link.stop(&group);
    /// let last = link.poll(Instant::now(), &group);
    /// assert!(matches!(last, Some(Link::Ended { reason, .. }) if reason.is_graceful()));
    /// assert!(link.is_ended());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop(&mut self, mut post: impl Post) {
        if mem::replace(&mut self.is_stopping, true) {
            return;
        }
        match self.state {
            State::Waiting { .. } => self.end(Status::CHANNEL_CLOSED.into()),
            State::Connecting { channel, .. } => {
                // Refused only if it is closed already: its end is among the events.
                let _ = post.post(Message::bye_signal(channel));
                self.state = State::Parting { channel, id: None };
            }
            State::Up { channel, .. } => {
                // A bye is refused only if one was said before, or the channel is closed.
                let bye = post.post(Message::bye_request(channel));
                let id = bye.ok().map(|header| header.id);
                self.state = State::Parting { channel, id };
            }
            State::Abandoned { .. } | State::Parting { .. } | State::Ended => {}
        }
    }

    fn end(&mut self, reason: Reason) {
        self.state = State::Ended;
        let returned = mem::take(&mut self.returned);
        self.news.push_back(Link::Ended { reason, returned });
    }

    /// Waits for the next attempt, if that can do better.
    fn retry(&mut self, channel: Option<ChannelNumber>, reason: Reason, now: Instant) {
        if !may_pass(reason.status()) {
            return self.end(reason);
        }
        let max = self.first.saturating_mul(1 << self.failures.min(31));
        let retry_in = self.random.up_to(max.min(self.max));
        self.failures = self.failures.saturating_add(1);
        self.state = State::Waiting {
            until: now.checked_add(retry_in),
        };
        self.news.push_back(Link::Down {
            channel,
            reason,
            returned: mem::take(&mut self.returned),
            retry_in,
        });
    }
}

impl fmt::Debug for Reconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnect")
            .field("hello", &self.hello)
            .field("state", &self.state)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

/// Whether the same hello may do better another time. What is wrong with the message itself stays wrong, and an engine
/// that shuts down is over. All else may pass: a server starts, a name is entered, a file's mode is changed.
fn may_pass(status: Status) -> bool {
    !matches!(
        status,
        Status::SHUTDOWN_STARTED
            | Status::WRONG_ADDRESS
            | Status::INVALID_ADDRESS
            | Status::INVALID_MESSAGE
            | Status::INVALID_OP_CODE
            | Status::INVALID_HEADERS_LEN
            | Status::INVALID_BODY_LEN
            | Status::INVALID_MORE_USAGE
            | Status::INVALID_MESSAGE_ID
            | Status::NOT_ALLOWED
    )
}

/// Numbers that only look random (splitmix64): good enough to keep clients apart.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A time from zero to `max`.
    pub(super) fn up_to(&mut self, max: Duration) -> Duration {
        let max = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.next().checked_rem(max.saturating_add(1)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests;
