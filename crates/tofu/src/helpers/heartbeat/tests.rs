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
                    let at = f.now + random.up_to(INTERVAL.saturating_sub(Duration::from_nanos(1)));
                    answers.push((at, answer));
                }
            }
            answered = f.recorder.posted.len();
        }
        assert!(f.heartbeat.is_watched(CHANNEL) && !f.heartbeat.is_watched(OTHER));
    }
}
