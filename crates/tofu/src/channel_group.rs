//! The two ends of a channel group that an application holds: one receives, any number post.

mod call;
mod poster;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tofu_proto::{ChannelNumber, Header, Message, MessageId, NoReply, OpCode, PostError};

pub use self::{call::CallError, poster::Poster};
use crate::{
    Event, Peer, RecvError, blanks,
    engine::Handle,
    event::{CloseReport, Inbox},
    group::Group,
    reactor::{Reactor, close::Mode},
};

/// Sends and receives over any number of channels.
///
/// Its receive side has one owner; [`poster`](Self::poster) gives senders to other threads. Whoever
/// waits in [`recv`](Self::recv) does the group's work itself; while nobody does, the engine's own
/// thread does it.
///
/// Dropping a group loses nothing by accident: receiving stops, and what is queued has
/// [`Options::drain_timeout`](crate::Options::drain_timeout) to leave in the background. To say bye
/// and learn what could not be delivered, [`close`](Self::close) it.
///
/// ```
/// use std::time::Duration;
/// use tofu::{Engine, Event, Message, Options};
///
/// let engine = Engine::new(Options::default())?;
/// let mut group = engine.group()?;
/// group.post(Message::welcome_request(&"tcp://127.0.0.1:0".parse()?))?;
/// assert!(matches!(group.recv()?, Event::Listening { .. }));
/// assert!(group.close(Duration::from_secs(1)).is_clean());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ChannelGroup {
    group: Arc<Group>,
    /// Events that came while something else was waited for: they are handed out first.
    aside: VecDeque<Event>,
    /// Events taken from the reactor's inbox, to be handed out without any lock.
    fetched: Inbox,
    /// Whether there are any, as posters were told.
    has_unread: bool,
    engine: Arc<Handle>,
}

impl ChannelGroup {
    pub(crate) fn new(group: Arc<Group>, engine: Arc<Handle>) -> Self {
        Self {
            group,
            aside: VecDeque::new(),
            fetched: Inbox::default(),
            has_unread: false,
            engine,
        }
    }

    /// Checks a message, takes it, and returns its header, with the channel number and message id
    /// that the engine assigned. It never waits: the outcome comes as events.
    ///
    /// # Errors
    /// The message, unchanged, and why it was not taken. See [`Refusal`](crate::Refusal).
    ///
    /// # Example
    /// ```
    /// use tofu::{ChannelNumber, Engine, Message, Options, Refusal};
    ///
    /// let engine = Engine::new(Options::default())?;
    /// let group = engine.group()?;
    /// let header = group.post(Message::welcome_request(&"tcp://127.0.0.1:0".parse()?))?;
    /// assert!(header.channel.is_assigned() && header.id.is_assigned());
    ///
    /// let nowhere = ChannelNumber::new(99);
    /// let error = group.post(Message::signal(nowhere).with_body("hi")).unwrap_err();
    /// assert_eq!(error.refusal(), &Refusal::InvalidChannelNumber(nowhere));
    /// assert_eq!(error.into_message().body(), b"hi");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn post(&self, message: Message) -> Result<Header, PostError> {
        self.group.post(message)
    }

    /// Who is at the other end of a channel: the address over TCP, the credentials over a Unix domain
    /// socket. Both are as the system saw them when the two connected; asking costs no system call.
    ///
    /// It is known from a peer's HelloRequest on, or once your own has connected, and beyond the channel's
    /// end: who has sent something and is gone when you come to read it is known as well, and so is the one
    /// of whom [`Closed`](Event::Closed) tells, until the channel number is given out again (after 1,024
    /// others were closed). `None` for listeners, channels of other groups, and those of which nobody has
    /// heard.
    ///
    /// ```
    /// use tofu::{Credentials, Engine, Event, Message, Options, testing::TemporaryUds};
    ///
    /// let dir = TemporaryUds::new()?;
    /// let engine = Engine::new(Options::default())?;
    /// let (mut server, client) = (engine.group()?, engine.group()?);
    /// server.post(Message::welcome_request(&dir.address("a.sock")))?;
    /// let Event::Listening { address, .. } = server.recv()? else { panic!() };
    /// client.post(Message::hello_request(&address))?;
    ///
    /// let Event::Message(hello) = server.recv()? else { panic!() };
    /// let peer = server.peer(hello.channel()).expect("it has said hello");
    /// assert_eq!(peer.credentials(), Credentials::own()); // this process, that is
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn peer(&self, channel: ChannelNumber) -> Option<Peer> {
        self.group.peer(channel)
    }

    /// [`Message::request`], made of the memory of a message that this thread has posted, if it has some at
    /// hand. A thread that posts many messages allocates nothing for them this way.
    ///
    /// ```
    /// use tofu::{ChannelNumber, Engine, Message, Options};
    ///
    /// let engine = Engine::new(Options::default())?;
    /// let group = engine.group()?;
    /// let channel = ChannelNumber::new(3);
    /// let message = group.request(channel).with_body("hi");
    /// assert_eq!(message, Message::request(channel).with_body("hi"));
    /// # Ok::<(), tofu::StartError>(())
    /// ```
    #[inline]
    pub fn request(&self, channel: ChannelNumber) -> Message {
        blanks::message(OpCode::Request, channel, MessageId::UNASSIGNED)
    }

    /// [`Message::signal`], of memory at hand as [`request`](Self::request).
    ///
    /// ```
    #[doc = include_str!("doc/group.txt")]
    /// let channel = tofu::ChannelNumber::new(3);
    /// assert_eq!(group.signal(channel), Message::signal(channel));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn signal(&self, channel: ChannelNumber) -> Message {
        blanks::message(OpCode::Signal, channel, MessageId::UNASSIGNED)
    }

    /// [`Message::reply`], of memory at hand as [`request`](Self::request).
    ///
    /// # Errors
    /// Nothing answers this message: it is an answer itself, or an order to close.
    ///
    /// # Example
    /// ```
    #[doc = include_str!("doc/pair.txt")]
    /// let asked = client.post(Message::request(channel).with_body("world"))?;
    /// let Event::Message(request) = server.recv()? else { panic!() };
    /// let answer = server.reply(&request)?.with_body("hello");
    /// assert_eq!(answer.id(), asked.id);
    /// server.post(answer)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn reply(&self, message: &Message) -> Result<Message, NoReply> {
        blanks::reply(message)
    }

    /// Posts messages in their order, first to last, until all are taken or one is refused. Where many
    /// are at hand this costs less than posting each alone.
    ///
    /// # Errors
    /// The first message that was not taken, unchanged, and why, as [`post`](Self::post) says it. Those
    /// behind it stay in `messages`.
    ///
    /// # Example
    /// ```
    /// use std::collections::VecDeque;
    /// use tofu::{Engine, Event, Message, Options};
    ///
    /// let engine = Engine::new(Options::default())?;
    /// let (mut server, mut client) = (engine.group()?, engine.group()?);
    /// server.post(Message::welcome_request(&"tcp://127.0.0.1:0".parse()?))?;
    /// let Event::Listening { address, .. } = server.recv()? else { panic!() };
    /// let channel = client.post(Message::hello_request(&address))?.channel;
    ///
    /// let mut signals: VecDeque<_> = (1..=3_u64)
    ///     .map(|id| Message::signal(channel).with_id(id))
    ///     .collect();
    /// client.post_many(&mut signals)?;
    /// assert!(signals.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn post_many(&self, messages: &mut VecDeque<Message>) -> Result<(), PostError> {
        self.group.post_many(messages)
    }

    /// Gives a [`Notified`](Event::Notified) event, with a message or without, to the thread that
    /// receives, and wakes it. The message stays in this process and need not be one that could be posted.
    ///
    /// ```
    #[doc = include_str!("doc/group.txt")]
    /// group.notify(None);
    /// assert!(matches!(group.recv()?, Event::Notified(None)));
    ///
    /// let order = Message::signal(tofu::ChannelNumber::UNASSIGNED);
    /// group.notify(Some(order.with_body("reload")));
    /// let Event::Notified(Some(order)) = group.recv()? else { panic!() };
    /// assert_eq!(order.body(), b"reload");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn notify(&self, message: Option<Message>) {
        self.group.notify(message);
    }

    /// A sender for another thread.
    ///
    /// ```
    #[doc = include_str!("doc/group.txt")]
    /// let poster = group.poster();
    /// let other_thread = std::thread::spawn(move || poster.notify(None));
    /// assert!(matches!(group.recv()?, Event::Notified(None)));
    /// other_thread.join().expect("it has not panicked");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn poster(&self) -> Poster {
        Poster::new(Arc::clone(&self.group))
    }

    /// Waits for the next event, as long as it takes. Meanwhile this thread does the group's work.
    ///
    /// # Errors
    /// The engine is shutting down.
    ///
    /// # Example
    /// ```
    #[doc = include_str!("doc/group.txt")]
    /// group.post(Message::welcome_request(&"tcp://127.0.0.1:0".parse()?))?;
    /// let Event::Listening { address, .. } = group.recv()? else { panic!() };
    /// assert_ne!(address.port(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv(&mut self) -> Result<Event, RecvError> {
        loop {
            if let Some(event) = self.next(None)? {
                return Ok(event);
            }
        }
    }

    /// Waits at most `timeout` for the next event. `None`: nothing happened in that time.
    ///
    /// # Errors
    /// The engine is shutting down.
    ///
    /// # Example
    /// ```
    #[doc = include_str!("doc/group.txt")]
    /// use std::time::Duration;
    ///
    /// assert!(group.recv_timeout(Duration::from_millis(1))?.is_none());
    /// group.notify(None);
    /// assert!(group.recv_timeout(Duration::from_secs(5))?.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, RecvError> {
        // What is at hand needs no clock.
        if let Some(event) = self.next_fetched() {
            return Ok(Some(event));
        }
        // A time that never comes is as good as none.
        self.next(Instant::now().checked_add(timeout))
    }

    /// The next event, if there is one already.
    ///
    /// # Errors
    /// The engine is shutting down.
    ///
    /// # Example
    /// ```
    #[doc = include_str!("doc/group.txt")]
    /// assert!(group.try_recv()?.is_none());
    /// group.notify(None);
    /// assert!(matches!(group.try_recv()?, Some(Event::Notified(None))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_recv(&mut self) -> Result<Option<Event>, RecvError> {
        self.recv_timeout(Duration::ZERO)
    }

    /// Waits for events, puts those that are at hand into `events` in their order, at most `max` of them,
    /// and returns how many there are: at least one, unless `max` is 0.
    ///
    /// What `events` held before is dropped, all at once. So a loop that calls this with the same vector
    /// again and again receives at the least cost: messages are received into those that it has read.
    ///
    /// # Errors
    /// The engine is shutting down; `events` is empty then.
    ///
    /// # Example
    /// ```
    /// use tofu::{Engine, Event, Options};
    ///
    /// let engine = Engine::new(Options::default())?;
    /// let mut group = engine.group()?;
    /// for _ in 0..3 {
    ///     group.notify(None);
    /// }
    /// let (mut events, mut seen) = (Vec::new(), 0);
    /// while seen < 3 {
    ///     seen += group.recv_many(&mut events, 100)?;
    ///     assert!(matches!(events[..], [Event::Notified(None), ..]));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_many(&mut self, events: &mut Vec<Event>, max: usize) -> Result<usize, RecvError> {
        if max == 0 {
            events.clear();
            return Ok(0);
        }
        loop {
            let count = self.recv_many_until(None, events, max)?;
            if count > 0 {
                return Ok(count);
            }
        }
    }

    /// As [`recv_many`](Self::recv_many), but there may be no events at the deadline. `max` is at least 1.
    pub(crate) fn recv_many_until(
        &mut self,
        deadline: Option<Instant>,
        events: &mut Vec<Event>,
        max: usize,
    ) -> Result<usize, RecvError> {
        if self.has_events() {
            self.group.shelf.drop_all(messages_of(events));
        } else {
            self.fetch(deadline, events)?;
        }
        events.clear();
        while events.len() < max
            && let Some(event) = self.pop()
        {
            events.push(event);
        }
        self.say_unread(events.len() > 1 || self.has_events());
        Ok(events.len())
    }

    /// Waits for the next event as a task, on any runtime.
    ///
    /// The engine's thread drives the group meanwhile and wakes the task, so a thread that can afford
    /// to wait is faster off with [`recv`](Self::recv). A future that is dropped loses nothing: what it
    /// would have returned is returned next.
    ///
    /// # Errors
    /// The engine is shutting down.
    ///
    /// # Example
    /// ```
    #[doc = include_str!("doc/group.txt")]
    #[doc = include_str!("doc/block_on.txt")]
    /// # group.notify(None);
    /// // block_on is that of any runtime.
    /// let event = block_on(group.recv_async())?;
    /// assert!(matches!(event, Event::Notified(None)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn recv_async(&mut self) -> Result<Event, RecvError> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// The next event, if there is one already; if not, the task is woken when there is. For those who write
    /// futures of their own; others call [`recv_async`](Self::recv_async).
    ///
    /// # Errors
    /// The engine is shutting down.
    ///
    /// # Example
    /// ```
    #[doc = include_str!("doc/group.txt")]
    /// use std::task::{Context, Poll, Waker};
    ///
    /// let mut context = Context::from_waker(Waker::noop());
    /// assert!(group.poll_recv(&mut context).is_pending());
    /// group.notify(None);
    /// assert!(matches!(group.poll_recv(&mut context), Poll::Ready(Ok(Event::Notified(None)))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<Event, RecvError>> {
        while !self.has_events() {
            ready!(self.poll_fetch(context))?;
        }
        Poll::Ready(self.next_fetched().ok_or(RecvError))
    }

    /// Fetches events, or has the task woken when there are some.
    fn poll_fetch(&mut self, context: &mut Context<'_>) -> Poll<Result<(), RecvError>> {
        self.say_unread(false);
        // Not as a caller who will be back soon: the keeper drives.
        let group = &self.group;
        let Some(mut driver) = group.take_seat() else {
            return Poll::Ready(Err(RecvError));
        };
        let turned = Reactor::turn(&mut driver, group, Some(Duration::ZERO), |_| true);
        let outcome = if turned.is_err() || group.is_retired() {
            Poll::Ready(Err(RecvError))
        } else if driver.inbox().is_empty() {
            driver.wake_later(context.waker());
            Poll::Pending
        } else {
            mem::swap(driver.inbox(), &mut self.fetched);
            Poll::Ready(Ok(()))
        };
        group.leave(driver, self.fetched.len());
        outcome
    }

    /// The next event at hand.
    #[inline]
    fn next_fetched(&mut self) -> Option<Event> {
        let event = self.pop()?;
        self.say_unread(self.has_events());
        Some(event)
    }

    #[inline]
    fn pop(&mut self) -> Option<Event> {
        match self.aside.pop_front() {
            None => self.fetched.pop(),
            event => event,
        }
    }

    /// Puts events before all others: those that a helper has seen on its way, and has no use for.
    pub(crate) fn put_back(&mut self, events: VecDeque<Event>) {
        for event in events.into_iter().rev() {
            self.aside.push_front(event);
        }
        self.say_unread(self.has_events());
    }

    /// Whether there are events at hand.
    #[inline]
    fn has_events(&self) -> bool {
        !self.aside.is_empty() || !self.fetched.is_empty()
    }

    /// Tells those who post whether the application has more events to see to. If it has none, there is no
    /// reason for what they post to wait until it is back.
    #[inline]
    fn say_unread(&mut self, has_unread: bool) {
        if has_unread != mem::replace(&mut self.has_unread, has_unread) {
            self.group.set_has_unread(has_unread);
        }
    }

    fn next(&mut self, deadline: Option<Instant>) -> Result<Option<Event>, RecvError> {
        if !self.has_events() {
            self.fetch(deadline, &mut Vec::new())?;
        }
        Ok(self.next_fetched())
    }

    /// Drives until there are events, and fetches them: none if the deadline comes first. The messages of
    /// `read` are received into again.
    fn fetch(&mut self, deadline: Option<Instant>, read: &mut Vec<Event>) -> Result<(), RecvError> {
        self.say_unread(false);
        if self.group.is_retired() {
            // The seat is the keeper's now, however often the application asks.
            read.clear();
            return Err(RecvError);
        }
        let group = &self.group;
        let Some(mut driver) = group.sit_down() else {
            return Err(RecvError);
        };
        if let Some(task) = driver.take_task() {
            // The keeper drives for it no longer. If it still waits, it will see to that anew.
            task.wake();
        }
        driver.stock().reuse(messages_of(read));
        let outcome = loop {
            if group.is_retired() {
                break Err(RecvError);
            }
            let patience = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            // A poller that fails is none of the application's doing, and nothing comes any more.
            if Reactor::turn(&mut driver, group, patience, |_| group.is_retired()).is_err() {
                break Err(RecvError);
            }
            if !driver.inbox().is_empty() && !group.is_retired() {
                mem::swap(driver.inbox(), &mut self.fetched);
                break Ok(());
            }
            if patience.is_some_and(|patience| patience.is_zero()) {
                break Ok(());
            }
        };
        driver.stock().put_back();
        group.leave(driver, self.fetched.len());
        outcome
    }

    /// Closes gracefully: says bye on every channel, answers every bye, and waits at most `timeout`
    /// for the peers to do their part. Listeners close at once.
    ///
    /// The report says what could not be delivered, what was received and not read, and why each
    /// channel closed.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tofu::{Engine, Message, Options};
    ///
    /// let engine = Engine::new(Options::default())?;
    /// let group = engine.group()?;
    /// group.post(Message::welcome_request(&"tcp://127.0.0.1:0".parse()?))?;
    /// let report = group.close(Duration::from_secs(1));
    /// assert_eq!(report.closed.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(mut self, timeout: Duration) -> CloseReport {
        if self.group.engine.is_inherited() {
            let mut report = CloseReport::default();
            report.add(&mut self.events_at_hand());
            return report;
        }
        let mut closing = self.start_to_close(timeout);
        closing.turn(None);
        closing.take_report()
    }

    /// All events at hand, in their order.
    fn events_at_hand(&mut self) -> Inbox {
        self.fetched.put_first(mem::take(&mut self.aside));
        mem::take(&mut self.fetched)
    }

    pub(crate) fn start_to_close(mut self, timeout: Duration) -> Closing {
        let until = self.group.engine.clock.now() + timeout;
        self.group.retire(Mode::Leaving(until));
        let mut report = CloseReport::default();
        report.add(&mut self.events_at_hand());
        Closing {
            channels: self,
            report,
        }
    }

    /// Closes at once and hard: what is queued is lost, and peers see a disconnect.
    ///
    /// ```
    #[doc = include_str!("doc/pair.txt")]
    /// client.abort();
    /// let Event::Closed { reason, .. } = server.recv()? else { panic!() };
    /// assert_eq!(reason.status(), tofu::Status::PEER_DISCONNECTED);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn abort(self) {
        if self.group.engine.is_inherited() {
            return;
        }
        let now = self.group.engine.clock.now();
        self.group.retire(Mode::Draining(now));
    }
}

/// A group that says bye on all its channels.
#[derive(Debug)]
pub(crate) struct Closing {
    channels: ChannelGroup,
    report: CloseReport,
}

impl Closing {
    /// Drives, until it is over (or, with `patience`, for one turn). `true` says that there is more to do.
    pub(crate) fn turn(&mut self, patience: Option<Duration>) -> bool {
        let group = &self.channels.group;
        let Some(mut driver) = group.sit_down() else {
            return false;
        };
        let is_finished = |reactor: &Reactor| reactor.is_finished(group);
        let mut goes_on = !is_finished(&driver);
        while goes_on {
            goes_on = Reactor::turn(&mut driver, group, patience, is_finished).is_ok()
                && !is_finished(&driver);
            self.report.add(driver.inbox());
            if patience.is_some() {
                break;
            }
        }
        self.report.add(driver.inbox());
        group.leave(driver, 0);
        goes_on
    }

    pub(crate) fn take_report(&mut self) -> CloseReport {
        mem::take(&mut self.report)
    }
}

/// Takes the messages out of events that the application is done with.
fn messages_of(events: &mut Vec<Event>) -> impl Iterator<Item = Message> {
    events.drain(..).filter_map(|event| match event {
        Event::Message(message) => Some(message),
        _ => None,
    })
}

impl Drop for ChannelGroup {
    fn drop(&mut self) {
        let shared = &self.engine.shared;
        // In a forked child all of this is the parent's, who goes on with it. One that is retired closes
        // already, and whoever had it do so waits for its report.
        if shared.is_inherited() || self.group.is_retired() {
            return;
        }
        let until = shared.clock.now() + shared.options.drain_timeout;
        self.group.retire(Mode::Draining(until));
    }
}
