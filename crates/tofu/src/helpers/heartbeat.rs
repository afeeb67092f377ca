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
mod tests {
    use tofu_proto::{Refusal, Status};

    use super::{
        super::{reconnect::Random, recorder::Recorder},
        *,
    };

    const CHANNEL: ChannelNumber = ChannelNumber::new(1);
    const OTHER: ChannelNumber = ChannelNumber::new(2);
    const INTERVAL: Duration = Duration::from_secs(10);
    const MISSES: u32 = 3;

    struct Fixture {
        heartbeat: Heartbeat,
        recorder: Recorder,
        now: Instant,
    }

    impl Fixture {
        fn new(channels: &[ChannelNumber]) -> Self {
            let now = Instant::now();
            let mut heartbeat = Heartbeat::new(INTERVAL, MISSES);
            for &channel in channels {
                heartbeat.watch(channel, now);
            }
            Self {
                heartbeat,
                recorder: Recorder::default(),
                now,
            }
        }

        /// Who is dead when so much time has passed, with a look each second.
        fn waits(&mut self, seconds: u64) -> Vec<ChannelNumber> {
            let mut dead = Vec::new();
            for _ in 0..seconds {
                self.now += Duration::from_secs(1);
                dead.extend(self.idle());
            }
            dead
        }

        fn idle(&mut self) -> Vec<ChannelNumber> {
            let mut dead = Vec::new();
            while let Some(found) = self.heartbeat.idle(self.now, &mut self.recorder) {
                dead.push(found.channel);
            }
            dead
        }

        fn tell(&mut self, event: Event) -> Option<Event> {
            self.heartbeat.handle(event, self.now, &mut self.recorder)
        }

        fn asks(&self) -> usize {
            let asked = |it: &&Message| says(it, OpCode::Request, ASK);
            self.recorder.posted.iter().filter(asked).count()
        }
    }

    fn signal(channel: ChannelNumber) -> Event {
        Event::Message(Message::signal(channel))
    }

    #[test]
    fn who_is_silent_is_asked_once_and_then_dead() {
        let mut f = Fixture::new(&[CHANNEL]);
        assert_eq!(f.waits(9), []);
        assert_eq!(f.asks(), 0);
        assert_eq!(f.waits(1), []);
        assert_eq!(f.asks(), 1);
        assert_eq!(f.waits(29), []);
        assert_eq!(f.asks(), 1, "tcp loses nothing: once is enough");
        f.now += Duration::from_secs(1);
        let dead = f.heartbeat.idle(f.now, &mut f.recorder);
        let silence = INTERVAL * 4;
        assert_eq!(
            dead,
            Some(Dead {
                channel: CHANNEL,
                silence
            })
        );
        assert!(!f.heartbeat.is_watched(CHANNEL));
        assert_eq!(f.waits(1_000), []);
        assert_eq!(f.heartbeat.next_deadline(), None);
    }

    #[test]
    fn who_says_anything_is_neither_asked_nor_dead() {
        let mut f = Fixture::new(&[CHANNEL, OTHER]);
        for _ in 0..20 {
            assert_eq!(f.waits(9), []);
            assert!(f.tell(signal(CHANNEL)).is_some());
            assert!(f.tell(signal(OTHER)).is_some());
        }
        assert_eq!(f.asks(), 0);
        // What one says is not the other one's.
        let mut dead = Vec::new();
        for _ in 0..5 {
            dead.extend(f.waits(9));
            f.tell(signal(OTHER));
        }
        assert_eq!(dead, [CHANNEL]);
    }

    #[test]
    fn who_answers_lives_and_its_answers_are_nobody_elses() {
        let mut f = Fixture::new(&[CHANNEL]);
        for round in 1..=20 {
            assert_eq!(f.waits(15), []);
            assert_eq!(f.asks(), round);
            // As a peer answers that knows nothing of heartbeats.
            let answer = f.recorder.last().reply().expect("an answer");
            assert!(f.tell(Event::Message(answer)).is_none());
        }
        let stranger = Message::new(OpCode::Response, CHANNEL, 99);
        assert!(f.tell(Event::Message(stranger)).is_some());
    }

    #[test]
    fn an_answer_after_something_else_is_still_known_as_one() {
        let mut f = Fixture::new(&[CHANNEL]);
        let mut questions = Vec::new();
        for _ in 0..=ASKS_MAX {
            assert_eq!(f.waits(12), []);
            questions.push(f.recorder.last().clone());
            f.tell(signal(CHANNEL));
        }
        assert_eq!(f.asks(), questions.len(), "asked anew in each silence");
        for (index, question) in questions.iter().enumerate() {
            let answer = question.reply().expect("an answer");
            let mine = f.tell(Event::Message(answer)).is_none();
            assert_eq!(mine, index > 0, "only so many are remembered");
        }
        // One that says so itself is known in any case.
        let answer = questions[0].reply().expect("an answer");
        let answer = answer.with_header(NAME, ANSWER);
        assert!(f.tell(Event::Message(answer)).is_none());
    }

    #[test]
    fn a_question_is_answered_also_on_channels_that_nobody_watches() {
        let mut f = Fixture::new(&[]);
        let ask = Message::request(CHANNEL).with_id(7_u64);
        let ask = ask.with_header(NAME, ASK);
        assert!(f.tell(Event::Message(ask.clone())).is_none());
        let answer = f.recorder.last();
        assert_eq!(answer.op_code(), OpCode::Response);
        assert_eq!(
            (answer.channel(), answer.id()),
            (CHANNEL, MessageId::new(7))
        );
        f.recorder
            .refusals
            .push_back(Refusal::ChannelClosing(CHANNEL));
        assert!(f.tell(Event::Message(ask)).is_none());
    }

    #[test]
    fn two_that_watch_each_other_are_content() {
        let (mut one, mut other) = (Fixture::new(&[CHANNEL]), Fixture::new(&[CHANNEL]));
        for _ in 0..1_000 {
            assert_eq!(one.waits(1), []);
            assert_eq!(other.waits(1), []);
            for _ in 0..3 {
                for message in std::mem::take(&mut one.recorder.posted) {
                    assert!(other.tell(Event::Message(message)).is_none());
                }
                for message in std::mem::take(&mut other.recorder.posted) {
                    assert!(one.tell(Event::Message(message)).is_none());
                }
            }
        }
    }

    #[test]
    fn time_in_which_we_did_not_look_does_not_count() {
        let mut f = Fixture::new(&[CHANNEL]);
        assert_eq!(f.waits(10), []);
        assert_eq!(f.asks(), 1);
        // Three intervals are three looks, however long each of them took.
        for _ in 0..MISSES - 1 {
            f.now += INTERVAL * 1_000;
            assert_eq!(f.idle(), []);
        }
        f.tell(signal(CHANNEL));
        for _ in 0..MISSES {
            f.now += INTERVAL * 1_000;
            assert_eq!(f.idle(), []);
        }
        assert_eq!(f.asks(), 2);
        f.now += INTERVAL * 1_000;
        assert_eq!(f.idle(), [CHANNEL]);
    }

    #[test]
    fn handling_events_alone_finds_nobody_dead() {
        let mut f = Fixture::new(&[CHANNEL]);
        f.waits(12);
        for _ in 0..100 {
            // It has so much to do with the other's events that it never gets to the end of them.
            f.now += Duration::from_secs(5);
            f.tell(signal(OTHER));
        }
        f.tell(signal(CHANNEL));
        assert_eq!(f.idle(), []);
    }

    #[test]
    fn a_full_queue_and_an_empty_pool_are_not_the_peers_death() {
        let mut f = Fixture::new(&[CHANNEL]);
        let full = Refusal::QueueFull {
            channel: CHANNEL,
            queued_bytes: 1,
        };
        f.recorder.refusals = VecDeque::from(vec![full; 10]);
        assert_eq!(f.waits(100), []);
        assert!(f.recorder.refusals.is_empty(), "once in an interval");
        assert_eq!(f.asks(), 0);
        assert_eq!(f.waits(39), []);
        assert_eq!(f.asks(), 1);
        assert!(f.tell(Event::PoolEmpty).is_some());
        assert_eq!(f.waits(39), []);
        assert_eq!(f.waits(1), [CHANNEL]);
    }

    #[test]
    fn a_channel_that_is_closed_is_not_watched_any_more() {
        let mut f = Fixture::new(&[CHANNEL, OTHER]);
        let closed = Event::Closed {
            channel: CHANNEL,
            id: MessageId::new(1),
            reason: Status::CHANNEL_CLOSED.into(),
        };
        assert!(f.tell(closed).is_some());
        f.heartbeat.unwatch(OTHER);
        assert_eq!(f.heartbeat.next_deadline(), None);
        assert_eq!(f.waits(1_000), []);
        assert_eq!(f.asks(), 0);
    }

    #[test]
    fn what_comes_back_of_it_is_nobody_elses() {
        let mut f = Fixture::new(&[]);
        let reason = Status::PEER_DISCONNECTED.into();
        let ask = Message::request(CHANNEL).with_header(NAME, ASK);
        let answer = Message::new(OpCode::Response, CHANNEL, 7);
        let other = Message::request(CHANNEL).with_header(NAME, "is weak");
        for (message, mine) in [
            (ask, true),
            (answer.with_header(NAME, ANSWER), true),
            (other, false),
        ] {
            let event = Event::Returned { message, reason };
            assert_eq!(f.tell(event).is_none(), mine);
        }
    }

    #[test]
    fn who_waits_as_told_is_called_as_often_as_needed_and_no_more() {
        let mut f = Fixture::new(&[CHANNEL]);
        let mut looks = 0;
        while let Some(due) = f.heartbeat.next_deadline() {
            // Who sleeps wakes up a little late.
            f.now = due + Duration::from_micros(50);
            f.idle();
            looks += 1;
        }
        assert!(looks <= 2 * MISSES, "{looks} looks");
    }
    /// However seldom it looks, and however often it has something else to do.
    #[test]
    fn by_chance_who_answers_within_an_interval_lives_and_who_does_not_is_dead() {
        let mut random = Random(0x0007_0F0B);
        for run in 0..300 {
            let mut f = Fixture::new(&[CHANNEL, OTHER]);
            let misses = 1 + run % 3;
            f.heartbeat.misses = misses;
            let (mut answers, mut answered) = (Vec::new(), 0);
            let mut idle_for = Duration::ZERO;
            for _ in 0..200 {
                let passed = random.up_to(INTERVAL * 2);
                f.now += passed;
                idle_for += passed.min(INTERVAL);
                // What has arrived by now is read first; only OTHER never says anything.
                for (at, answer) in std::mem::take(&mut answers) {
                    if at > f.now {
                        answers.push((at, answer));
                    } else {
                        f.heartbeat
                            .handle(Event::Message(answer), f.now, &mut f.recorder);
                    }
                }
                if random.up_to(INTERVAL) < INTERVAL / 3 {
                    continue;
                }
                let dead = f.idle();
                assert!(!dead.contains(&CHANNEL), "run {run}");
                if dead.contains(&OTHER) {
                    assert!(idle_for >= INTERVAL * (1 + misses), "run {run}");
                }
                for question in &f.recorder.posted[answered..] {
                    if question.channel() == CHANNEL {
                        let answer = question.reply().expect("an answer");
                        let at =
                            f.now + random.up_to(INTERVAL.saturating_sub(Duration::from_nanos(1)));
                        answers.push((at, answer));
                    }
                }
                answered = f.recorder.posted.len();
            }
            assert!(f.heartbeat.is_watched(CHANNEL) && !f.heartbeat.is_watched(OTHER));
        }
    }
}
