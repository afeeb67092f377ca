use std::time::Duration;

use tofu_proto::{OpCode, Status};

use super::{super::recorder::Recorder, *};

const CHANNEL: ChannelNumber = ChannelNumber::new(1);
const OTHER: ChannelNumber = ChannelNumber::new(2);

struct Fixture {
    calls: Calls<u32>,
    recorder: Recorder,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        Self {
            calls: Calls::new(),
            recorder: Recorder::default(),
            now: Instant::now(),
        }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.now + Duration::from_secs(seconds)
    }

    fn ask(&mut self, channel: ChannelNumber, seconds: u64, context: u32) -> CallId {
        let deadline = self.at(seconds);
        let request = Message::request(channel);
        self.calls
            .post(&mut self.recorder, request, deadline, context)
            .expect("taken")
    }

    /// What is told at this time, each in a word.
    fn told(&mut self, seconds: u64) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(outcome) = self.calls.poll(self.at(seconds)) {
            told.push(match outcome {
                Outcome::Part { .. } => "part".to_owned(),
                Outcome::Answered { context, .. } => format!("{context} answered"),
                Outcome::Returned { context, .. } => format!("{context} returned"),
                Outcome::Closed { context, .. } => format!("{context} closed"),
                Outcome::TimedOut { context, .. } => format!("{context} timed out"),
                Outcome::Late { .. } => "late".to_owned(),
            });
        }
        told
    }
}

fn response(call: CallId) -> Message {
    Message::new(OpCode::Response, call.channel, call.id)
}

fn answer(call: CallId) -> Event {
    Event::Message(response(call))
}

fn closed(channel: ChannelNumber) -> Event {
    Event::Closed {
        channel,
        id: MessageId::new(1),
        reason: Status::PEER_DISCONNECTED.into(),
    }
}

#[test]
fn answers_find_their_calls_in_any_order() {
    let mut f = Fixture::new();
    let calls: Vec<_> = (0..4).map(|it| f.ask(CHANNEL, 5, it)).collect();
    for &call in calls.iter().rev() {
        assert!(f.calls.handle(answer(call)).is_none());
    }
    let expected = ["3 answered", "2 answered", "1 answered", "0 answered"];
    assert_eq!(f.told(0), expected);
    assert!(f.calls.is_empty());
    assert_eq!(f.calls.next_deadline(), None);
    assert!(f.calls.handle(answer(calls[0])).is_some(), "answered twice");
}

#[test]
fn what_only_looks_like_an_answer_is_given_back() {
    let mut f = Fixture::new();
    let call = f.ask(CHANNEL, 5, 0);
    let elsewhere = CallId {
        channel: OTHER,
        ..call
    };
    for event in [
        answer(elsewhere),
        Event::Message(Message::request(CHANNEL).with_id(call.id)),
        Event::Message(Message::signal(CHANNEL).with_id(call.id)),
        // It answers no request of this kind.
        Event::Message(Message::new(OpCode::ByeResponse, CHANNEL, call.id)),
        Event::Returned {
            message: Message::signal(CHANNEL).with_id(call.id),
            reason: Status::PEER_DISCONNECTED.into(),
        },
        Event::Drained(CHANNEL),
        Event::PoolEmpty,
        Event::Notified(Some(response(call))),
    ] {
        let told = format!("{event:?}");
        let event = f.calls.handle(event);
        assert_eq!(event.map(|it| format!("{it:?}")), Some(told));
    }
    assert_eq!((f.calls.len(), f.told(4).len()), (1, 0));
}

#[test]
fn an_answer_in_parts_has_one_deadline_and_ends_with_its_last_part() {
    let mut f = Fixture::new();
    let (whole, broken) = (f.ask(CHANNEL, 5, 1), f.ask(CHANNEL, 3, 2));
    for call in [whole, broken] {
        f.calls
            .handle(Event::Message(response(call).with_more(true)));
        *f.calls.context_mut(call).expect("it goes on") += 10;
    }
    assert_eq!(f.told(4), ["part", "part", "12 timed out"]);
    f.calls
        .handle(Event::Message(response(broken).with_more(true)));
    f.calls.handle(answer(broken));
    f.calls.handle(answer(whole));
    assert_eq!(f.told(9), ["late", "late", "11 answered"]);
    assert!(f.calls.handle(answer(broken)).is_some(), "it was complete");
}

#[test]
fn calls_expire_in_the_order_of_their_deadlines() {
    let mut f = Fixture::new();
    for (context, seconds) in [(0, 7), (1, 3), (2, 5), (3, 3)] {
        f.ask(CHANNEL, seconds, context);
    }
    assert_eq!(f.calls.next_deadline(), Some(f.at(3)));
    assert!(f.told(2).is_empty());
    assert_eq!(f.told(5), ["1 timed out", "3 timed out", "2 timed out"]);
    assert_eq!(f.calls.next_deadline(), Some(f.at(7)));
}

#[test]
fn a_call_without_a_deadline_waits_until_its_channel_is_closed() {
    let mut f = Fixture::new();
    let request = Message::request(CHANNEL);
    let posted = f.calls.post(&mut f.recorder, request, None, 7);
    posted.expect("taken");
    assert!(f.told(1_000_000).is_empty());
    f.calls.handle(closed(CHANNEL));
    assert_eq!(f.told(0), ["7 closed"]);
}

#[test]
fn all_calls_of_a_closed_channel_fail_once_and_no_others() {
    let mut f = Fixture::new();
    let first = f.ask(CHANNEL, 5, 0);
    f.ask(OTHER, 5, 1);
    f.ask(CHANNEL, 1, 2);
    f.ask(CHANNEL, 5, 3);
    assert_eq!(f.calls.cancel(first), Some(0));
    let event = f.calls.handle(closed(CHANNEL));
    assert!(matches!(event, Some(Event::Closed { .. })));
    assert_eq!(f.told(2), ["2 closed", "3 closed"]);
    assert_eq!(f.told(9), ["1 timed out"]);
    f.calls.handle(closed(CHANNEL));
    assert!(f.told(9).is_empty());
    // The channel is over, and so is what may come late on it.
    assert!(f.calls.handle(answer(first)).is_some());
}

#[test]
fn a_request_that_comes_back_is_not_under_way_any_more() {
    let mut f = Fixture::new();
    let call = f.ask(CHANNEL, 5, 0);
    let message = Message::request(CHANNEL).with_id(call.id);
    let reason = Reason::from(Status::PEER_DISCONNECTED);
    let returned = |message| Event::Returned { message, reason };
    assert!(f.calls.handle(returned(message.clone())).is_none());
    f.calls.handle(closed(CHANNEL));
    assert_eq!(f.told(9), ["0 returned"]);

    // One that was cancelled before is the application's.
    let again = f.calls.post(&mut f.recorder, message.clone(), None, 1);
    let again = again.expect("no answer to this id can come");
    f.calls.cancel(again);
    assert!(f.calls.handle(returned(message.clone())).is_some());
    f.calls
        .post(&mut f.recorder, message, None, 2)
        .expect("free");
}

#[test]
fn a_late_answer_is_told_and_answers_nothing_else() {
    let mut f = Fixture::new();
    let (slow, cancelled) = (f.ask(CHANNEL, 1, 0), f.ask(CHANNEL, 5, 1));
    assert_eq!(f.told(1), ["0 timed out"]);
    assert_eq!(f.calls.cancel(cancelled), Some(1));
    assert_eq!(f.calls.cancel(cancelled), None);
    for call in [slow, cancelled] {
        let request = Message::request(CHANNEL).with_id(call.id);
        let posted = f.calls.post(&mut f.recorder, request, None, 2);
        let error = posted.expect_err("an answer may still come");
        assert_eq!(error.into_message().id(), call.id);
        f.calls.handle(answer(call));
        assert_eq!(f.told(1), ["late"]);
        assert!(f.calls.handle(answer(call)).is_some());
    }
}

#[test]
fn of_late_calls_only_the_last_ones_are_remembered() {
    let mut f = Fixture::new();
    let ids: Vec<_> = (0..=LATE_MAX).map(|_| f.ask(CHANNEL, 5, 0)).collect();
    assert_eq!(f.calls.drain().count(), LATE_MAX + 1);
    assert_eq!((f.calls.len(), f.calls.next_deadline()), (0, None));
    assert!(f.calls.handle(answer(ids[0])).is_some());
    for &id in &ids[1..] {
        assert!(f.calls.handle(answer(id)).is_none());
    }
    assert_eq!(f.told(9).len(), LATE_MAX);
    assert!(f.calls.late.calls.is_empty() && f.calls.late.ages.is_empty());
}

#[test]
fn what_is_not_taken_is_not_under_way() {
    let mut f = Fixture::new();
    f.recorder.refusals.push_back(Refusal::ShutdownStarted);
    for message in [
        Message::request(CHANNEL),
        Message::signal(CHANNEL),
        Message::bye_signal(CHANNEL),
    ] {
        let posted = f.calls.post(&mut f.recorder, message, None, 0);
        posted.expect_err("refused");
    }
    assert!(f.calls.is_empty() && f.recorder.posted.is_empty());
}

#[test]
fn hellos_byes_and_welcomes_are_calls_too() {
    let mut f = Fixture::new();
    let address = "tcp://127.0.0.1:1".parse().expect("an address");
    for (context, (request, op_code)) in [
        (Message::hello_request(&address), OpCode::HelloResponse),
        (Message::bye_request(CHANNEL), OpCode::ByeResponse),
    ]
    .into_iter()
    .enumerate()
    {
        let context = u32::try_from(context).expect("small");
        let call = f.calls.post(&mut f.recorder, request, None, context);
        let call = call.expect("taken");
        let answer = Message::new(op_code, call.channel, call.id);
        assert!(f.calls.handle(Event::Message(answer)).is_none());
    }
    let welcome = Message::welcome_request(&address);
    let call = f.calls.post(&mut f.recorder, welcome, None, 2);
    let call = call.expect("taken");
    let response = Message::new(OpCode::WelcomeResponse, call.channel, call.id);
    let event = Event::Listening { address, response };
    assert!(f.calls.handle(event).is_none());
    assert_eq!(f.told(0), ["0 answered", "1 answered", "2 answered"]);
}
