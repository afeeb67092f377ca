use tofu_proto::Address;

use super::{super::recorder::Recorder, *};

const FIRST: Duration = Duration::from_millis(100);
const MAX: Duration = Duration::from_secs(2);
const STEADY: Duration = Duration::from_secs(60);

fn hello() -> Message {
    let address: Address = "tcp://127.0.0.1:7099".parse().expect("an address");
    Message::hello_request(&address).with_body("token")
}

struct Fixture {
    link: Reconnect,
    recorder: Recorder,
    now: Instant,
}

impl Fixture {
    fn new(seed: u64) -> Self {
        let link = Reconnect::new(hello()).expect("a hello");
        Self {
            link: link.backoff(FIRST, MAX).steady(STEADY).seed(seed),
            recorder: Recorder::default(),
            now: Instant::now(),
        }
    }

    fn poll(&mut self) -> Option<Link> {
        self.link.poll(self.now, &mut self.recorder)
    }

    fn tell(&mut self, event: Event) -> Option<Event> {
        self.link.handle(event, self.now)
    }

    /// Waits as long as it takes until the hello is posted.
    fn say_hello(&mut self) -> ChannelNumber {
        let before = self.recorder.posted.len();
        if let Some(until) = self.link.next_deadline() {
            assert!(self.poll().is_none());
            assert!(self.recorder.posted.len() == before || until <= self.now);
            self.now = self.now.max(until);
        }
        assert!(self.poll().is_none());
        assert_eq!(self.recorder.posted.len(), before + 1);
        let posted = self.recorder.last();
        assert_eq!(posted.op_code(), OpCode::HelloRequest);
        assert_eq!(posted.body(), b"token");
        posted.channel()
    }

    fn come_up(&mut self) -> ChannelNumber {
        let channel = self.say_hello();
        let answer = self.recorder.last().reply().expect("an answer");
        assert!(self.tell(Event::Message(answer)).is_none());
        match self.poll() {
            Some(Link::Up { channel: up, .. }) => assert_eq!(up, channel),
            other => panic!("it is up, not {other:?}"),
        }
        assert_eq!(self.link.channel(), Some(channel));
        assert_eq!(self.link.next_deadline(), None);
        channel
    }

    fn close(&mut self, channel: ChannelNumber, status: Status) {
        let event = Event::Closed {
            channel,
            id: MessageId::new(1),
            reason: status.into(),
        };
        assert!(self.tell(event).is_none());
    }

    /// Hears that it is down, what came back, and until when it waits.
    fn down(&mut self) -> (Option<ChannelNumber>, Status, Vec<u64>, Duration) {
        match self.poll() {
            Some(Link::Down {
                channel,
                reason,
                returned,
                retry_in,
            }) => {
                let until = Some(self.now + retry_in);
                assert!(self.link.is_ended() || self.link.next_deadline() == until);
                let returned = returned.iter().map(|it| it.id().get()).collect();
                (channel, reason.status(), returned, retry_in)
            }
            other => panic!("it is down, not {other:?}"),
        }
    }

    fn ended(&mut self) -> (Status, usize) {
        let ended = match self.poll() {
            Some(Link::Ended { reason, returned }) => (reason.status(), returned.len()),
            other => panic!("it is over, not {other:?}"),
        };
        assert!(self.link.is_ended());
        self.now += Duration::from_secs(1_000);
        let posted = self.recorder.posted.len();
        assert!(self.poll().is_none());
        assert_eq!(self.recorder.posted.len(), posted, "after its last word");
        assert_eq!(self.link.next_deadline(), None);
        ended
    }
}

fn returned(channel: ChannelNumber, id: u64) -> Event {
    Event::Returned {
        message: Message::request(channel).with_id(id),
        reason: Status::PEER_DISCONNECTED.into(),
    }
}

#[test]
fn what_can_never_connect_is_refused_at_once() {
    let port_0: Address = "tcp://127.0.0.1:0".parse().expect("an address");
    for message in [
        Message::hello_request(&port_0),
        Message::welcome_request(&port_0),
        Message::request(ChannelNumber::new(3)),
        hello().with_header("bad:name", "x"),
        hello().with_body(vec![0; 70_000]),
    ] {
        let copy = message.clone();
        let error = Reconnect::new(message).expect_err("refused");
        assert_eq!(error.into_message(), copy);
    }
}

#[test]
fn waiting_times_are_random_below_a_bound_that_doubles() {
    let (mut longest, mut first) = ([Duration::ZERO; 10], Duration::ZERO);
    for seed in 0..300 {
        let mut f = Fixture::new(seed);
        for (attempt, longest) in longest.iter_mut().enumerate() {
            let channel = f.say_hello();
            f.close(channel, Status::CONNECT_REFUSED);
            let (was_up, status, _, retry_in) = f.down();
            assert_eq!((was_up, status), (None, Status::CONNECT_REFUSED));
            let bound = (FIRST * (1 << attempt)).min(MAX);
            assert!(retry_in <= bound, "{retry_in:?} at attempt {attempt}");
            *longest = (*longest).max(retry_in);
            if attempt == 0 {
                first += retry_in;
            }
        }
    }
    for (attempt, longest) in longest.into_iter().enumerate() {
        let bound = (FIRST * (1 << attempt)).min(MAX);
        assert!(longest > bound * 9 / 10, "{longest:?} at {attempt}");
    }
    let mean = first / 300;
    assert!(mean > FIRST / 3 && mean < FIRST * 2 / 3, "{mean:?}");
}

#[test]
fn a_seed_decides_and_without_one_no_two_are_alike() {
    let times = |link: Reconnect| {
        let mut random = link.random;
        [random.next(), random.next()]
    };
    let make = || Reconnect::new(hello()).expect("a hello");
    assert_eq!(times(make().seed(7)), times(make().seed(7)));
    assert_ne!(times(make()), times(make()));
}

#[test]
fn a_loss_says_what_came_back_and_whose_it_is() {
    let mut f = Fixture::new(1);
    let channel = f.come_up();
    let other = ChannelNumber::new(1);
    assert!(f.tell(returned(other, 7)).is_some());
    for id in 1..=3 {
        assert!(f.tell(returned(channel, id)).is_none());
    }
    f.close(channel, Status::PEER_DISCONNECTED);
    assert_eq!(f.link.channel(), None);
    let (was_up, status, returned, _) = f.down();
    assert_eq!(was_up, Some(channel));
    assert_eq!(status, Status::PEER_DISCONNECTED);
    assert_eq!(returned, [1, 2, 3]);

    // The next loss has nothing of it.
    let channel = f.come_up();
    f.close(channel, Status::CHANNEL_CLOSED);
    assert_eq!(f.down().2, [0_u64; 0]);
}

#[test]
fn only_a_connection_that_lasted_starts_the_back_off_anew() {
    let mut f = Fixture::new(1);
    for attempt in 1..=5 {
        let channel = f.come_up();
        f.now += STEADY.saturating_sub(Duration::from_millis(1));
        f.close(channel, Status::PEER_DISCONNECTED);
        f.down();
        assert_eq!(f.link.failures, attempt);
    }
    let channel = f.come_up();
    f.now += STEADY;
    f.close(channel, Status::PEER_DISCONNECTED);
    assert!(f.down().3 <= FIRST);
    assert_eq!(f.link.failures, 1);
}

#[test]
fn a_hello_that_came_back_is_said_again_and_is_no_message_of_the_application() {
    let mut f = Fixture::new(1);
    let channel = f.say_hello();
    let reason = Reason::from(Status::CONNECT_REFUSED);
    let message = f.recorder.last().clone();
    let event = Event::Returned { message, reason };
    assert!(f.tell(event).is_none());
    f.close(channel, Status::CONNECT_REFUSED);
    assert_eq!(f.down().2, [0_u64; 0]);
    assert_ne!(f.say_hello(), channel);
}

#[test]
fn a_server_that_does_not_answer_the_hello_is_given_up() {
    let mut f = Fixture::new(1);
    let channel = f.say_hello();
    let (until, hello) = (f.link.next_deadline(), f.recorder.last().clone());
    f.now += Duration::from_secs(10);
    assert_eq!(until, Some(f.now));
    assert!(f.poll().is_none());
    let bye = f.recorder.last();
    assert_eq!((bye.op_code(), bye.channel()), (OpCode::ByeSignal, channel));
    // Its answer comes a moment too late.
    let answer = hello.reply().expect("an answer");
    assert!(f.tell(Event::Message(answer)).is_none());
    assert!(f.poll().is_none());
    f.close(channel, Status::CHANNEL_CLOSED);
    let (was_up, status, ..) = f.down();
    assert_eq!((was_up, status), (None, Status::HELLO_TIMEOUT));
}

#[test]
fn what_may_pass_is_tried_again_and_what_may_not_ends_it() {
    for refusal in [
        Refusal::TooManyChannels(3),
        Refusal::QueueFull {
            channel: ChannelNumber::UNASSIGNED,
            queued_bytes: 1,
        },
    ] {
        let mut f = Fixture::new(1);
        f.recorder.refusals.push_back(refusal);
        f.down();
        f.say_hello();
    }
    let mut f = Fixture::new(1);
    f.recorder.refusals.push_back(Refusal::ShutdownStarted);
    assert_eq!(f.ended(), (Status::SHUTDOWN_STARTED, 0));

    for status in [Status::INVALID_ADDRESS, Status::SHUTDOWN_STARTED] {
        let mut f = Fixture::new(1);
        let channel = f.come_up();
        f.tell(returned(channel, 1));
        f.close(channel, status);
        assert_eq!(f.ended(), (status, 1));
    }
    for status in [
        Status::NAME_NOT_RESOLVED,
        Status::UDS_PATH_NOT_FOUND,
        Status::PERMISSION_DENIED,
        Status::CONNECT_TIMEOUT,
        Status::TOO_MANY_OPEN_FILES,
        Status::PROTOCOL_VIOLATION,
    ] {
        let mut f = Fixture::new(1);
        let channel = f.say_hello();
        f.close(channel, status);
        assert_eq!(f.down().1, status);
    }
}

#[test]
fn it_stops_from_wherever_it_is() {
    // Before it has begun, and while it waits.
    let mut f = Fixture::new(1);
    f.link.stop(&mut f.recorder);
    f.link.stop(&mut f.recorder);
    assert_eq!(f.ended(), (Status::CHANNEL_CLOSED, 0));

    let mut f = Fixture::new(1);
    let channel = f.say_hello();
    f.close(channel, Status::CONNECT_REFUSED);
    f.link.stop(&mut f.recorder);
    f.down();
    assert_eq!(f.ended(), (Status::CHANNEL_CLOSED, 0));

    // While it connects: at once.
    let mut f = Fixture::new(1);
    let channel = f.say_hello();
    f.link.stop(&mut f.recorder);
    assert_eq!(f.recorder.last().op_code(), OpCode::ByeSignal);
    assert!(f.poll().is_none());
    f.close(channel, Status::CHANNEL_CLOSED);
    assert_eq!(f.ended(), (Status::CHANNEL_CLOSED, 0));

    // While it gives up an attempt.
    let mut f = Fixture::new(1);
    let channel = f.say_hello();
    f.now += Duration::from_secs(10);
    assert!(f.poll().is_none());
    f.link.stop(&mut f.recorder);
    f.close(channel, Status::CHANNEL_CLOSED);
    assert_eq!(f.ended(), (Status::CHANNEL_CLOSED, 0));
}

#[test]
fn stopping_says_bye_and_tells_what_came_back() {
    let mut f = Fixture::new(1);
    let channel = f.come_up();
    f.link.stop(&mut f.recorder);
    let bye = f.recorder.last();
    assert_eq!(
        (bye.op_code(), bye.channel()),
        (OpCode::ByeRequest, channel)
    );
    let answer = bye.reply().expect("an answer");
    let others = Message::new(OpCode::ByeResponse, channel, 77);
    assert!(f.tell(Event::Message(answer)).is_none());
    assert!(f.tell(Event::Message(others)).is_some());
    assert!(f.tell(returned(channel, 1)).is_none());
    f.close(channel, Status::PEER_DISCONNECTED);
    assert_eq!(f.ended(), (Status::PEER_DISCONNECTED, 1));
}

#[test]
fn what_is_not_about_the_connection_is_given_back() {
    let mut f = Fixture::new(1);
    let channel = f.come_up();
    let bye = Message::bye_request(channel).with_id(5_u64);
    for event in [
        Event::Message(Message::request(channel)),
        Event::Message(bye),
        Event::Drained(channel),
        Event::PoolEmpty,
        Event::Notified(None),
    ] {
        let told = format!("{event:?}");
        assert_eq!(f.tell(event).map(|it| format!("{it:?}")), Some(told));
    }
}
