//! Peers that have fallen silent.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    time::{Duration, Instant},
};

use tofu_proto::{ChannelNumber, Message, MessageId, OpCode, PostError};

use super::Post;
use crate::Event;

/// The text header of a question whether the peer is there, and of its answer.
const NAME: &str = "heartbeat";
const ASK: &str = "ask";
const ANSWER: &str = "answer";

/// Questions on a channel whose answers are recognised when they come late.
const ASKS_MAX: usize = 4;

/// Finds out which peers are dead: those that say nothing, and do not answer when they are asked.
///
/// TCP tells of a peer that has closed or crashed. It does not tell of a machine that was switched off, of a network
/// that carries nothing any more, or of a process that hangs. If a channel that is [watched](Self::watch) was silent
/// for an `interval`, its peer is asked; if it is silent for `misses` further intervals, it is [`Dead`]. Anything that
/// the peer sends counts, once it is there as a whole message; so where there is traffic, nobody is asked.
///
/// What to do about the dead is your decision. Mostly it is a [`bye_signal`](Message::bye_signal): the channel's
/// `Closed` follows, with all that had not left.
///
/// # Its protocol
///
/// The question is a Request with the text header `heartbeat: ask` and no body, the answer a Response with its id and
/// the text header `heartbeat: answer`. One side may ask, or both. A peer that has a `Heartbeat` of its own need watch
/// nothing: [`handle`](Self::handle) answers. So does every peer that answers whatever requests come; but do not watch
/// one that leaves unknown requests unanswered.
///
/// It is the peer's application that answers, and not its engine: one that hangs is found dead as well.
///
/// # Whose fault it is
///
/// A peer is not blamed for what we do:
///
/// * Messages that wait to be read may be its answer. So it is only [found](Self::idle) dead when nothing waits.
/// * Of the time between two looks (calls of `handle` or `idle`) at most one interval counts: a process that was
///   stopped, or a laptop that slept, wakes up to living peers.
/// * While the channel's queue is full it cannot be asked, and so it is not dead: it does not read, which is another
///   matter, and [`Refusal::QueueFull`](crate::Refusal::QueueFull) says so.
/// * When the pool is [empty](Event::PoolEmpty), the engine stops reading: all clocks start anew.
///
/// Choose `interval` times `misses` longer than the peer may take for one of its own events, and than the
/// longest queue of the channel takes to drain: the question waits behind it.
///
/// ```
/// use std::time::{Duration, Instant};
/// use tofu::{Engine, Event, Message, Options, Status, helpers::{Heartbeat, until}};
///
/// let engine = Engine::new(Options::default())?;
/// let (mut server, mut client) = (engine.group()?, engine.group()?);
/// server.post(Message::welcome_request(&"tcp://127.0.0.1:0".parse()?))?;
/// let Event::Listening { address, .. } = server.recv()? else { panic!() };
/// let channel = client.post(Message::hello_request(&address))?.channel;
/// // The server reads nothing any more.
///
/// let mut heartbeat = Heartbeat::new(Duration::from_millis(10), 3);
/// heartbeat.watch(channel, Instant::now());
/// let reason = loop {
///     let patience = until(heartbeat.next_deadline(), Instant::now());
///     match client.recv_timeout(patience)? {
///         Some(event) => match heartbeat.handle(event, Instant::now(), &client) {
///             Some(Event::Closed { reason, .. }) => break reason,
///             other => println!("{other:?}"),
///         },
///         // Nothing is left to read.
///         None => while let Some(dead) = heartbeat.idle(Instant::now(), &client) {
///             println!("channel {}: silent for {:?}", dead.channel, dead.silence);
///             client.post(Message::bye_signal(dead.channel))?;
///         }
///     }
/// };
/// assert_eq!(reason.status(), Status::CHANNEL_CLOSED);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Heartbeat {
    interval: Duration,
    misses: u32,
    watched: BTreeMap<ChannelNumber, Watched>,
    /// One entry for each of them: a time before which nothing is to be done. What is heard does not move it.
    dues: BTreeSet<(Duration, ChannelNumber)>,
    /// Time that counts. It stands still while nobody looks.
    counted: Duration,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Watched {
    /// When something was heard, in time that counts.
    heard: Duration,
    /// When it was asked, if nothing was heard since.
    asked: Option<Duration>,
    /// It could not be asked, and is not before then.
    not_before: Duration,
    /// Questions that are not answered yet, the oldest first.
    asks: VecDeque<MessageId>,
    /// Its entry in `dues`.
    due: Duration,
}

/// A peer that was silent for too long, and is no longer watched.
///
/// ```
/// use std::time::{Duration, Instant};
/// use tofu::{Engine, Event, Message, Options, helpers::Heartbeat};
///
/// # let engine = Engine::new(Options::default())?;
/// # let (mut server, client) = (engine.group()?, engine.group()?);
/// # server.post(Message::welcome_request(&"tcp://127.0.0.1:0".parse()?))?;
/// # let Event::Listening { address, .. } = server.recv()? else { panic!() };
/// # let channel = client.post(Message::hello_request(&address))?.channel;
/// let second = Duration::from_secs(1);
/// let mut heartbeat = Heartbeat::new(second, 1);
/// let now = Instant::now();
/// heartbeat.watch(channel, now);
/// assert!(heartbeat.idle(now + second, &client).is_none()); // it is asked
/// let dead = heartbeat.idle(now + 2 * second, &client).expect("no answer");
/// assert_eq!((dead.channel, dead.silence), (channel, 2 * second));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dead {
    /// Its channel, which is still open.
    pub channel: ChannelNumber,
    /// How long nothing was heard of it, as far as that counts.
    pub silence: Duration,
}

impl Heartbeat {
    /// Asks after an `interval` of silence, and gives a peer up after `misses` further intervals. Both are at least 1
    /// (an interval: 1 ms).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let heartbeat = tofu::helpers::Heartbeat::new(Duration::from_secs(5), 3); // dead after 20 seconds
    /// assert_eq!(heartbeat.next_deadline(), None);
    /// ```
    pub const fn new(interval: Duration, misses: u32) -> Self {
        let is_short = interval.as_millis() == 0;
        Self {
            interval: if is_short {
                Duration::from_millis(1)
            } else {
                interval
            },
            misses: if misses == 0 { 1 } else { misses },
            watched: BTreeMap::new(),
            dues: BTreeSet::new(),
            counted: Duration::ZERO,
            looked: None,
        }
    }

    /// Watches the peer of a channel from now on, until it is dead or the channel closed.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use tofu::{ChannelNumber, helpers::Heartbeat};
    ///
    /// let mut heartbeat = Heartbeat::new(Duration::from_secs(5), 3);
    /// let channel = ChannelNumber::new(1);
    /// heartbeat.watch(channel, Instant::now());
    /// assert!(heartbeat.is_watched(channel));
    /// ```
    pub fn watch(&mut self, channel: ChannelNumber, now: Instant) {
        self.unwatch(channel);
        self.look(now);
        let due = self.counted.saturating_add(self.interval);
        self.dues.insert((due, channel));
        let watched = Watched {
            heard: self.counted,
            asked: None,
            not_before: Duration::ZERO,
            asks: VecDeque::new(),
            due,
        };
        self.watched.insert(channel, watched);
    }

    /// Watches it no longer. That a channel is closed need not be said.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use tofu::{ChannelNumber, helpers::Heartbeat};
    ///
    /// let mut heartbeat = Heartbeat::new(Duration::from_secs(5), 3);
    /// let channel = ChannelNumber::new(1);
    /// heartbeat.watch(channel, Instant::now());
    /// heartbeat.unwatch(channel);
    /// assert!(!heartbeat.is_watched(channel));
    /// ```
    pub fn unwatch(&mut self, channel: ChannelNumber) {
        if let Some(watched) = self.watched.remove(&channel) {
            self.dues.remove(&(watched.due, channel));
        }
    }

    /// Whether the peer of this channel is watched.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tofu::{ChannelNumber, helpers::Heartbeat};
    ///
    /// let heartbeat = Heartbeat::new(Duration::from_secs(5), 3);
    /// assert!(!heartbeat.is_watched(ChannelNumber::new(1)));
    /// ```
    pub fn is_watched(&self, channel: ChannelNumber) -> bool {
        self.watched.contains_key(&channel)
    }

    /// Is told of an event. Gives it back, unless it is a question, which is answered, or an answer.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use tofu::{Engine, Event, Message, OpCode, Options, helpers::Heartbeat};
    ///
    /// # let engine = Engine::new(Options::default())?;
    /// # let (mut server, mut client) = (engine.group()?, engine.group()?);
    /// # server.post(Message::welcome_request(&"tcp://127.0.0.1:0".parse()?))?;
    /// # let Event::Listening { address, .. } = server.recv()? else { panic!() };
    /// # let channel = client.post(Message::hello_request(&address))?.channel;
    /// client.post(Message::request(channel).with_header("heartbeat", "ask"))?;
    ///
    /// // The server watches nobody, and answers.
    /// let mut heartbeat = Heartbeat::new(Duration::from_secs(5), 3);
    /// for mine in [false, true] {
    ///     let event = heartbeat.handle(server.recv()?, Instant::now(), &server);
    ///     assert_eq!(event.is_none(), mine); // the hello is not a question
    /// }
    /// let Event::Message(answer) = client.recv()? else { panic!() };
    /// assert_eq!(answer.op_code(), OpCode::Response);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handle(&mut self, event: Event, now: Instant, post: impl Post) -> Option<Event> {
        self.look(now);
        match event {
            Event::Message(message) => self.handle_message(message, post).map(Event::Message),
            Event::Returned { message, .. } if says(&message, OpCode::Request, ASK) => None,
            Event::Returned { message, .. } if says(&message, OpCode::Response, ANSWER) => None,
            Event::Closed { channel, .. } => {
                self.unwatch(channel);
                Some(event)
            }
            Event::PoolEmpty => {
                for watched in self.watched.values_mut() {
                    watched.hear(self.counted);
                }
                Some(event)
            }
            other => Some(other),
        }
    }

    fn handle_message(&mut self, message: Message, mut post: impl Post) -> Option<Message> {
        let mut watched = self.watched.get_mut(&message.channel());
        if let Some(watched) = &mut watched {
            watched.hear(self.counted);
        }
        if says(&message, OpCode::Request, ASK) {
            if let Ok(answer) = message.reply() {
                // If there is no room for it, other messages are on their way, and say as much.
                let _ = post.post(answer.with_header(NAME, ANSWER));
            }
            return None;
        }
        let is_answer = message.op_code() == OpCode::Response
            && (watched.is_some_and(|it| it.is_answered_by(message.id()))
                || says(&message, OpCode::Response, ANSWER));
        (!is_answer).then_some(message)
    }

    /// Nothing is left to be read: asks who was silent, and tells who is dead, one after the other.
    ///
    /// Call it, until it says `None`, when [`recv_timeout`](crate::ChannelGroup::recv_timeout) or
    /// [`try_recv`](crate::ChannelGroup::try_recv) have just said that there is no event. Called at another time it may
    /// call a peer dead whose answer waits to be read. An application that never gets to the end of its events finds
    /// nobody dead.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use tofu::{Engine, Message, Options, helpers::Heartbeat};
    ///
    /// let engine = Engine::new(Options::default())?;
    /// let group = engine.group()?;
    /// let mut heartbeat = Heartbeat::new(Duration::from_secs(5), 3);
    /// assert!(heartbeat.idle(Instant::now(), &group).is_none()); // nobody is watched
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn idle(&mut self, now: Instant, mut post: impl Post) -> Option<Dead> {
        self.look(now);
        while let Some(&(due, channel)) = self.dues.first()
            && due <= self.counted
        {
            let (interval, misses, counted) = (self.interval, self.misses, self.counted);
            self.dues.pop_first();
            let Some(watched) = self.watched.get_mut(&channel) else {
                continue;
            };
            // Something may have been heard since this was noted.
            if watched.next_due(interval, misses) <= counted {
                if watched.asked.is_some() {
                    let silence = counted.saturating_sub(watched.heard);
                    self.watched.remove(&channel);
                    return Some(Dead { channel, silence });
                }
                let ask = Message::request(channel).with_header(NAME, ASK);
                match post.post(ask) {
                    Ok(header) => watched.ask(header.id, counted),
                    // There is no room, or the channel's end is about to be told.
                    Err(PostError { .. }) => watched.not_before = counted.saturating_add(interval),
                }
            }
            // It may be heard at any time, and silent from then on.
            let next = counted.saturating_add(interval);
            watched.due = watched.next_due(interval, misses).min(next);
            self.dues.insert((watched.due, channel));
        }
        None
    }

    /// When to see whether it is [idle](Self::idle), if nothing happens before.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use tofu::{ChannelNumber, helpers::Heartbeat};
    ///
    /// let interval = Duration::from_secs(5);
    /// let mut heartbeat = Heartbeat::new(interval, 3);
    /// let now = Instant::now();
    /// heartbeat.watch(ChannelNumber::new(1), now);
    /// assert_eq!(heartbeat.next_deadline(), Some(now + interval));
    /// ```
    pub fn next_deadline(&self) -> Option<Instant> {
        let &(due, _) = self.dues.first()?;
        let left = due.saturating_sub(self.counted);
        // Who is away for longer has not counted the time.
        self.looked?.checked_add(left.min(self.interval))
    }

    /// Time passes, as far as somebody looks.
    fn look(&mut self, now: Instant) {
        if let Some(looked) = self.looked {
            let passed = now.saturating_duration_since(looked);
            self.counted = self.counted.saturating_add(passed.min(self.interval));
        }
        self.looked = Some(self.looked.map_or(now, |looked| looked.max(now)));
    }
}

impl Watched {
    fn hear(&mut self, counted: Duration) {
        self.heard = counted;
        self.asked = None;
    }

    fn ask(&mut self, id: MessageId, counted: Duration) {
        self.asked = Some(counted);
        if self.asks.len() == ASKS_MAX {
            self.asks.pop_front();
        }
        self.asks.push_back(id);
    }

    /// Whether this is the answer to a question.
    fn is_answered_by(&mut self, id: MessageId) -> bool {
        let found = self.asks.iter().position(|it| *it == id);
        found.and_then(|it| self.asks.remove(it)).is_some()
    }

    /// When it is to be asked or, if it was, is dead.
    fn next_due(&self, interval: Duration, misses: u32) -> Duration {
        match self.asked {
            None => self.heard.saturating_add(interval).max(self.not_before),
            Some(asked) => asked.saturating_add(interval.saturating_mul(misses)),
        }
    }
}

impl fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heartbeat")
            .field("interval", &self.interval)
            .field("misses", &self.misses)
            .field("watched", &self.watched.len())
            .finish_non_exhaustive()
    }
}

fn says(message: &Message, op_code: OpCode, what: &str) -> bool {
    message.op_code() == op_code && message.header(NAME) == Some(what)
}

#[cfg(test)]
mod tests;
