//! Waiting for one thing: an answer, or room for a message. What comes meanwhile is put aside, for `recv`.

use std::{
    fmt,
    future::poll_fn,
    mem,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tofu_proto::{ChannelNumber, Header, Message, OpCode, PostError, Refusal, Role};

use super::ChannelGroup;
use crate::{Event, Reason, RecvError};

/// Waiting for one thing.
impl ChannelGroup {
    /// Posts a request of any kind and waits for its answer, at most `timeout`:
    ///
    /// | the request | its answer |
    /// | --- | --- |
    /// | WelcomeRequest | the engine's WelcomeResponse; its [`address`](Message::address) is what was bound |
    /// | HelloRequest | the peer's HelloResponse; its [`channel`](Message::channel) is the new one |
    /// | Request | the peer's Response, the first one if it is continued with `more` |
    /// | ByeRequest | the peer's ByeResponse; should its own bye cross this one, that is answered as well |
    ///
    /// Everything else that happens is put aside in its order, and comes with the next `recv`. That is no
    /// time to be long: messages put aside are out of the pool.
    ///
    /// # Errors
    /// No answer will come, or none came in time. One that comes later is an ordinary event.
    ///
    /// # Example
    /// ```
    /// use std::{thread, time::Duration};
    /// use tofu::{Engine, Event, Message, Options};
    ///
    /// const PATIENCE: Duration = Duration::from_secs(5);
    /// let engine = Engine::new(Options::default())?;
    /// let mut server = engine.group()?;
    /// let welcome = Message::welcome_request(&"tcp://127.0.0.1:0".parse()?);
    /// let address = server.call(welcome, PATIENCE)?.address().expect("bound");
    /// thread::spawn(move || {
    ///     while let Ok(event) = server.recv() {
    ///         if let Event::Message(message) = event
    ///             && let Ok(answer) = message.into_reply()
    ///         {
    ///             let _ = server.post(answer); // the peer may be gone
    ///         }
    ///     }
    /// });
    ///
    /// let mut client = engine.group()?;
    /// let channel = client.call(Message::hello_request(&address), PATIENCE)?.channel();
    /// let answer = client.call(Message::request(channel).with_body("echo"), PATIENCE)?;
    /// assert_eq!(answer.body(), b"echo");
    /// client.call(Message::bye_request(channel), PATIENCE)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn call(&mut self, request: Message, timeout: Duration) -> Result<Message, CallError> {
        let mut call = self.start_call(request)?;
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if self.fetched.is_empty() {
                if self.is_starved(&mut call) {
                    return Err(CallError::PoolEmpty);
                }
                self.fetch(deadline, &mut Vec::new())?;
                if self.fetched.is_empty() {
                    return Err(CallError::Timeout);
                }
            }
            if let Some(answer) = self.look_for(&mut call) {
                return answer;
            }
        }
    }

    /// As [`call`](Self::call), for a task. It waits as long as it takes: put your runtime's timeout around
    /// it. A future that is dropped loses nothing: the answer is an ordinary event then.
    ///
    /// # Errors
    /// As [`call`](Self::call), but for the timeout.
    ///
    /// # Example
    /// ```
    #[doc = include_str!("../doc/pair.txt")]
    #[doc = include_str!("../doc/block_on.txt")]
    /// # std::thread::spawn(move || {
    /// #     let Ok(Event::Message(request)) = server.recv() else { return };
    /// #     if let Ok(answer) = request.reply() {
    /// #         let _ = server.post(answer.with_body("late"));
    /// #         let _ = server.recv_timeout(PATIENCE);
    /// #     }
    /// # });
    /// let question = Message::request(channel).with_body("what time is it?");
    /// let answer = block_on(client.call_async(question))?; // block_on is that of any runtime
    /// assert_eq!(answer.body(), b"late");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn call_async(&mut self, request: Message) -> Result<Message, CallError> {
        let mut call = self.start_call(request)?;
        poll_fn(|context| self.poll_call(&mut call, context)).await
    }

    /// As [`post`](Self::post), but if a queue is full it waits for room, at most `timeout`. What happens
    /// meanwhile is put aside, and comes with the next `recv`.
    ///
    /// # Errors
    /// As [`post`](Self::post); [`Refusal::QueueFull`] if there was no room in time.
    ///
    /// # Example
    /// ```
    #[doc = include_str!("../doc/pair.txt")]
    /// for part in 0..1_000_u32 {
    ///     let message = Message::signal(channel).with_body(part.to_be_bytes());
    ///     client.post_timeout(message, Duration::from_secs(1))?;
    /// }
    /// let Event::Message(first) = server.recv()? else { panic!() };
    /// assert_eq!(first.body(), [0; 4]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn post_timeout(
        &mut self,
        message: Message,
        timeout: Duration,
    ) -> Result<Header, PostError> {
        let mut outcome = self.post(message);
        let deadline = Instant::now().checked_add(timeout);
        while let Err(error) = outcome {
            let Refusal::QueueFull { channel, .. } = *error.refusal() else {
                return Err(error);
            };
            if !self.has_room_before(deadline, channel) {
                return Err(error);
            }
            outcome = self.post(error.into_message());
        }
        outcome
    }

    fn start_call(&mut self, request: Message) -> Result<Call, CallError> {
        if !request.is_request() {
            return Err(CallError::NoAnswer(request));
        }
        let call = Call {
            request: self.post(request)?,
            pool_was_empty: false,
        };
        // The peer's bye may have been put aside before.
        if call.request.op_code == OpCode::ByeRequest {
            for event in mem::take(&mut self.aside) {
                match call.answer_to_crossed_bye(&event) {
                    Some(answer) => drop(self.post(answer)),
                    None => self.aside.push_back(event),
                }
            }
        }
        Ok(call)
    }

    /// Whether nothing can be received. That the pool was empty may be news from before the call.
    fn is_starved(&self, call: &mut Call) -> bool {
        if !call.pool_was_empty {
            return false;
        }
        // Who drives has messages at hand for a moment that are in use by nobody: not while the seat is ours.
        let Some(mut driver) = self.group.take_seat() else {
            return false;
        };
        call.pool_was_empty = driver.is_starving();
        let is_starved =
            call.pool_was_empty && driver.inbox().is_empty() && self.group.engine.pool.is_empty();
        self.group.leave(driver, 0);
        is_starved
    }

    /// Goes through the events that were fetched.
    fn look_for(&mut self, call: &mut Call) -> Option<Result<Message, CallError>> {
        while let Some(event) = self.fetched.pop() {
            if let Some(answer) = call.answer_to_crossed_bye(&event) {
                // Refused only if the channel has ended meanwhile.
                drop(self.post(answer));
                continue;
            }
            let found = call.look_at(event, &mut self.aside);
            if found.is_some() {
                self.say_unread(self.has_events());
                return found;
            }
        }
        None
    }

    fn poll_call(
        &mut self,
        call: &mut Call,
        context: &mut Context<'_>,
    ) -> Poll<Result<Message, CallError>> {
        loop {
            if let Some(answer) = self.look_for(call) {
                return Poll::Ready(answer);
            }
            if self.is_starved(call) {
                return Poll::Ready(Err(CallError::PoolEmpty));
            }
            ready!(self.poll_fetch(context))?;
        }
    }

    /// Waits until a channel may have room, or is closed.
    fn has_room_before(&mut self, deadline: Option<Instant>, wanted: ChannelNumber) -> bool {
        loop {
            let mut has_room = false;
            while let Some(event) = self.fetched.pop() {
                has_room |= match &event {
                    Event::Drained(channel) | Event::Closed { channel, .. } => *channel == wanted,
                    _ => false,
                };
                // Others may have been refused as well, and count on the event. One says as much as many.
                let is_known = matches!(event, Event::Drained(_))
                    && self.aside.iter().any(|other| {
                        matches!(other, Event::Drained(_)) && other.channel() == event.channel()
                    });
                if !is_known {
                    self.aside.push_back(event);
                }
            }
            if has_room {
                return true;
            }
            if self.fetch(deadline, &mut Vec::new()).is_err() || self.fetched.is_empty() {
                self.say_unread(self.has_events());
                return false;
            }
        }
    }
}

/// A request that waits for its answer.
#[derive(Debug)]
struct Call {
    request: Header,
    /// Channels have starved, and may do so still: nothing more can come then before messages that were put aside, or
    /// that the application has, are read.
    pool_was_empty: bool,
}

impl Call {
    /// The outcome, if this event is it; else it is put aside.
    fn look_at(
        &mut self,
        event: Event,
        aside: &mut impl Extend<Event>,
    ) -> Option<Result<Message, CallError>> {
        match event {
            Event::Message(message)
            | Event::Listening {
                response: message, ..
            } if self.is_answer(&message) => return Some(Ok(message)),
            Event::Returned { message, reason } if message.id() == self.request.id => {
                return Some(Err(CallError::Returned { message, reason }));
            }
            // The error of the call says it.
            Event::PoolEmpty => {
                self.pool_was_empty = true;
                return None;
            }
            _ => {}
        }
        let outcome = match &event {
            Event::Closed {
                channel, reason, ..
            } if *channel == self.request.channel => Some(Err(CallError::Closed(*reason))),
            _ => None,
        };
        aside.extend([event]);
        outcome
    }

    /// Both sides said bye at the same time: nothing is left to say, and the peer waits for its answer as we
    /// do for ours.
    fn answer_to_crossed_bye(&self, event: &Event) -> Option<Message> {
        match event {
            Event::Message(message)
                if self.request.op_code == OpCode::ByeRequest
                    && message.op_code() == OpCode::ByeRequest
                    && message.channel() == self.request.channel =>
            {
                message.reply().ok()
            }
            _ => None,
        }
    }

    fn is_answer(&self, message: &Message) -> bool {
        message.op_code().role() == Role::Response
            && message.op_code().op_type() == self.request.op_code.op_type()
            && (message.channel(), message.id()) == (self.request.channel, self.request.id)
    }
}

/// Why a [call](ChannelGroup::call) has no answer.
///
/// ```
/// use std::time::Duration;
/// use tofu::{CallError, Engine, Message, Options, Status, testing};
///
/// let engine = Engine::new(Options::default())?;
/// let mut group = engine.group()?;
/// let hello = Message::hello_request(&testing::free_tcp_address()?); // nobody listens there
/// match group.call(hello, Duration::from_secs(5)) {
///     Err(CallError::Returned { message, reason }) => {
///         assert_eq!(reason.status(), Status::CONNECT_REFUSED);
///         assert_eq!(message.op_code(), tofu::OpCode::HelloRequest); // to be tried again
///     }
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[non_exhaustive]
pub enum CallError {
    /// Nothing answers this message, so it was not posted: here it is.
    NoAnswer(Message),
    /// The request was not taken: it is in there.
    Refused(PostError),
    /// The request could not be sent, or the channel that it asks for not be opened.
    Returned {
        /// The request, complete.
        message: Message,
        /// Why it came back.
        reason: Reason,
    },
    /// The request has left, and the channel is closed: nobody knows whether it was acted upon. The next events
    /// tell of the end as well. After a ByeRequest the reason may be [graceful](Reason::is_graceful): the
    /// peer's bye has crossed it.
    Closed(Reason),
    /// No answer came in time. It may still come, as an event.
    Timeout,
    /// Reading has stopped because all messages of the pool are out: receive those that were put aside, or
    /// drop some. The answer comes then, as an event.
    PoolEmpty,
    /// The engine is shutting down.
    Over(RecvError),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer(message) => {
                write!(f, "nothing answers a {}: post it", message.op_code())
            }
            Self::Refused(error) => error.fmt(f),
            Self::Returned { message, reason } => {
                write!(f, "{}: {reason}", message.op_code())
            }
            Self::Closed(reason) => {
                write!(f, "no answer: {reason}")
            }
            Self::Timeout => f.write_str("no answer came in time"),
            Self::PoolEmpty => f.write_str(
                "the pool is empty: receive the messages that came before the answer, or drop some",
            ),
            Self::Over(error) => error.fmt(f),
        }
    }
}

/// As it is displayed, with the request if it is there.
impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::NoAnswer(message) | Self::Returned { message, .. } => {
                write!(f, "{self}: {message:?}")
            }
            Self::Closed(_) | Self::Timeout | Self::PoolEmpty | Self::Over(_) => {
                write!(f, "{self}")
            }
        }
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(error) => Some(error),
            Self::Returned { reason, .. } | Self::Closed(reason) => Some(reason),
            Self::Over(error) => Some(error),
            Self::NoAnswer(_) | Self::Timeout | Self::PoolEmpty => None,
        }
    }
}

impl From<PostError> for CallError {
    fn from(error: PostError) -> Self {
        Self::Refused(error)
    }
}

impl From<RecvError> for CallError {
    fn from(error: RecvError) -> Self {
        Self::Over(error)
    }
}
