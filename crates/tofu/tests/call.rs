//! `call` waits for one answer and `post_timeout` for room; what happens meanwhile is not lost.

mod support;

use std::{
    pin::pin,
    sync::{Arc, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use support::*;
use tofu::{
    CallError, ChannelGroup, ChannelNumber, Engine, Event, Message, OpCode, Options, RecvError,
    Refusal, Status,
};

const AT_ONCE: Duration = Duration::ZERO;

/// Asks, and has the server see the question in the meantime.
fn ask(p: &mut Pair, timeout: Duration) -> Result<Message, CallError> {
    p.client.call(Message::request(p.at_client), timeout)
}

struct Unparker(Thread);

impl Wake for Unparker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest runtime there is: this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unparker(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(outcome) => return outcome,
            Poll::Pending => thread::park_timeout(WATCHDOG),
        }
    }
}

/// A peer that answers whatever comes, byes included, until it is notified.
fn echo(mut server: ChannelGroup) -> Watched<ChannelGroup> {
    Watched::start(move || {
        loop {
            match next(&mut server) {
                Event::Notified(_) => return server,
                Event::Message(message) => {
                    if let Ok(answer) = message.into_reply() {
                        server.post(answer).expect("taken");
                    }
                }
                _ => {}
            }
        }
    })
}

#[test]
fn a_call_of_each_kind_has_its_answer() {
    over_both(|address| {
        let engine = engine();
        let mut server = engine.group().unwrap();
        let welcome = server.call(Message::welcome_request(address), WATCHDOG);
        let welcome = welcome.unwrap();
        assert_eq!(welcome.op_code(), OpCode::WelcomeResponse);
        let address = welcome.address().expect("what was bound");
        assert!(address.path().is_some() || address.port() != 0);
        let stop = server.poster();
        let serving = echo(server);

        let mut client = engine.group().unwrap();
        let hello = client.call(Message::hello_request(&address), WATCHDOG);
        let channel = hello.unwrap().channel();
        let request = Message::request(channel).with_body("what?");
        let answer = client.call(request, WATCHDOG).unwrap();
        assert_eq!(
            (answer.op_code(), answer.body()),
            (OpCode::Response, &b"what?"[..])
        );
        let bye = client.call(Message::bye_request(channel), WATCHDOG);
        assert_eq!(bye.unwrap().op_code(), OpCode::ByeResponse);
        closed_with(&mut client, channel, Status::CHANNEL_CLOSED);
        stop.notify(None);
        drop(serving.join("serving"));
    });
}

#[test]
fn what_comes_during_a_call_is_next_in_its_order() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        for id in 1..=3_u64 {
            p.client
                .notify(Some(Message::signal(p.at_client).with_id(id)));
        }
        for id in 4..=5_u64 {
            p.server
                .post(Message::signal(p.at_server).with_id(id))
                .unwrap();
        }
        // The answer overtakes nothing, but for the caller.
        let question = p.client.post(Message::request(p.at_client)).unwrap();
        let answer = message_of(&mut p.server, OpCode::Request).reply().unwrap();
        p.server.post(answer).unwrap();
        let error = p.client.call(Message::request(p.at_client), AT_ONCE);
        assert!(matches!(error, Err(CallError::Timeout)), "{error:?}");
        message_of(&mut p.server, OpCode::Request);

        let mut notified = Vec::new();
        let mut heard = Vec::new();
        while heard.len() < 3 {
            match next(&mut p.client) {
                Event::Notified(Some(message)) => notified.push(message.id().get()),
                Event::Message(message) => heard.push(message.id()),
                other => panic!("unexpected: {other:?}"),
            }
        }
        assert_eq!(notified, [1, 2, 3]);
        assert_eq!(heard, [4.into(), 5.into(), question.id]);
        quiet(&mut p.client);
    });
}

#[test]
fn many_events_that_were_put_aside_come_with_recv_many() {
    let engine = engine();
    let mut p = pair(&engine, &loopback());
    for _ in 0..3 {
        p.client.notify(None);
    }
    assert!(matches!(ask(&mut p, AT_ONCE), Err(CallError::Timeout)));
    p.client.notify(Some(Message::signal(p.at_client)));
    assert!(matches!(ask(&mut p, AT_ONCE), Err(CallError::Timeout)));
    let mut events = Vec::new();
    assert_eq!(p.client.recv_many(&mut events, 2), Ok(2));
    assert_eq!(p.client.recv_many(&mut events, 9), Ok(2));
    let last = events.pop();
    assert!(matches!(last, Some(Event::Notified(Some(_)))), "{last:?}");
}

#[test]
fn what_was_put_aside_is_in_the_report() {
    let engine = engine();
    let mut p = pair(&engine, &loopback());
    p.client
        .notify(Some(Message::signal(p.at_client).with_id(7)));
    assert!(matches!(ask(&mut p, AT_ONCE), Err(CallError::Timeout)));
    let report = p.client.close(AT_ONCE);
    let unread: Vec<_> = report.unread.iter().map(|it| it.id().get()).collect();
    assert_eq!(unread, [7]);
}

#[test]
fn a_late_answer_is_an_event() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        assert!(matches!(ask(&mut p, AT_ONCE), Err(CallError::Timeout)));
        let question = message_of(&mut p.server, OpCode::Request);
        p.server.post(question.reply().unwrap()).unwrap();
        assert_eq!(
            message_of(&mut p.client, OpCode::Response).id(),
            question.id()
        );
    });
}

#[test]
fn a_call_says_why_it_has_no_answer() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        let number = p.at_client;

        let error = p
            .client
            .call(Message::signal(number).with_body("s"), WATCHDOG);
        let Err(CallError::NoAnswer(signal)) = error else {
            panic!("a signal has no answer: {error:?}");
        };
        assert_eq!(signal.body(), b"s");

        let nowhere = ChannelNumber::new(4711);
        let error = p.client.call(Message::request(nowhere), WATCHDOG);
        let Err(CallError::Refused(refused)) = error else {
            panic!("no such channel: {error:?}");
        };
        assert_eq!(refused.refusal(), &Refusal::InvalidChannelNumber(nowhere));

        let (_socket, refusing) = refusing_address();
        let error = p.client.call(Message::hello_request(&refusing), WATCHDOG);
        let Err(CallError::Returned { message, reason }) = error else {
            panic!("nobody listens: {error:?}");
        };
        assert_eq!(message.address(), Some(refusing));
        assert_eq!(reason.status(), Status::CONNECT_REFUSED);
        closed_with(&mut p.client, message.channel(), Status::CONNECT_REFUSED);

        // The peer goes while the call waits.
        let server = p.server;
        let going = Watched::start(move || {
            let mut server = server;
            message_of(&mut server, OpCode::Request);
            server.abort();
        });
        let error = p.client.call(Message::request(number), WATCHDOG);
        let Err(CallError::Closed(reason)) = error else {
            panic!("the peer has gone: {error:?}");
        };
        assert_eq!(reason.status(), Status::PEER_DISCONNECTED);
        going.join("going");
        closed_with(&mut p.client, number, Status::PEER_DISCONNECTED);

        engine.shutdown(AT_ONCE);
        let error = p.client.call(Message::hello_request(address), WATCHDOG);
        assert!(error.is_err(), "{error:?}");
    });
}

#[test]
fn a_call_that_waits_ends_with_the_engine() {
    let engine = engine();
    let p = pair(&engine, &loopback());
    let mut client = p.client;
    let channel = p.at_client;
    let waiting = Watched::start(move || client.call(Message::request(channel), WATCHDOG));
    let mut server = p.server;
    message_of(&mut server, OpCode::Request);
    engine.shutdown(AT_ONCE);
    let error = waiting.join("the call ends");
    assert!(
        matches!(
            error,
            Err(CallError::Over(RecvError) | CallError::Closed(_))
        ),
        "{error:?}"
    );
}

/// Messages that were put aside are out of the pool: nobody would ever receive the answer.
#[test]
fn a_call_does_not_wait_for_what_the_pool_keeps_out() {
    over_both(|address| {
        let clients = Engine::new(Options::default().pool_messages(0, 4)).unwrap();
        let mut p = pair_between(&engine(), &clients, address);
        for _ in 0..20 {
            p.server.post(Message::signal(p.at_server)).unwrap();
        }
        let error = p.client.call(Message::request(p.at_client), WATCHDOG);
        assert!(matches!(error, Err(CallError::PoolEmpty)), "{error:?}");
        let question = message_of(&mut p.server, OpCode::Request);
        p.server.post(question.into_reply().unwrap()).unwrap();
        // All of it comes, the answer last.
        let mut signals = 0;
        loop {
            match next(&mut p.client) {
                Event::Message(message) if message.op_code() == OpCode::Response => break,
                Event::Message(_) => signals += 1,
                Event::PoolEmpty => {}
                other => panic!("unexpected: {other:?}"),
            }
        }
        assert_eq!(signals, 20);
    });
}

/// The application has not read yet that it was empty, and has dropped what it had.
#[test]
fn a_call_does_not_mind_that_the_pool_was_empty_before() {
    over_both(|address| {
        let clients = engine_with(Options::default().pool_messages(0, 2));
        let mut p = pair_between(&engine(), &clients, address);
        for _ in 0..3 {
            p.server.post(Message::signal(p.at_server)).unwrap();
        }
        eventually("the pool is empty", || clients.metrics().pool_empty > 0);
        for _ in 0..2 {
            message_of(&mut p.client, OpCode::Signal);
        }
        let stop = p.server.poster();
        let serving = echo(p.server);
        let answer = p.client.call(Message::request(p.at_client), WATCHDOG);
        assert_eq!(answer.unwrap().op_code(), OpCode::Response);
        stop.notify(None);
        drop(serving.join("serving"));
    });
}

#[test]
fn a_call_as_a_task_loses_nothing_when_it_is_dropped() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        {
            let call = p.client.call_async(Message::request(p.at_client));
            let mut call = Box::pin(call);
            let mut context = Context::from_waker(Waker::noop());
            assert!(call.as_mut().poll(&mut context).is_pending());
        }
        let question = message_of(&mut p.server, OpCode::Request);
        p.server.post(question.reply().unwrap()).unwrap();
        assert_eq!(
            message_of(&mut p.client, OpCode::Response).id(),
            question.id()
        );

        let stop = p.server.poster();
        let serving = echo(p.server);
        let answer = block_on(p.client.call_async(Message::bye_request(p.at_client)));
        assert_eq!(answer.unwrap().op_code(), OpCode::ByeResponse);
        stop.notify(None);
        drop(serving.join("serving"));
    });
}

#[test]
fn both_sides_may_call_with_a_bye_at_once() {
    over_both(|address| {
        let engine = engine();
        let p = pair(&engine, address);
        let (mut server, at_server) = (p.server, p.at_server);
        let there = Watched::start(move || {
            let bye = server.call(Message::bye_request(at_server), WATCHDOG);
            (server, bye)
        });
        let mut client = p.client;
        let here = client.call(Message::bye_request(p.at_client), WATCHDOG);
        let (mut server, there) = there.join("the other bye");
        for bye in [here, there] {
            match bye {
                Ok(answer) => assert_eq!(answer.op_code(), OpCode::ByeResponse),
                // The other's bye came first, before this one was posted.
                Err(error) => panic!("{error}"),
            }
        }
        closed_with(&mut client, p.at_client, Status::CHANNEL_CLOSED);
        closed_with(&mut server, at_server, Status::CHANNEL_CLOSED);
    });
}

#[test]
fn a_bye_that_was_put_aside_is_answered_by_the_call_that_says_bye() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        p.server.post(Message::bye_request(p.at_server)).unwrap();
        // It is put aside.
        let error = p.client.call(Message::request(p.at_client), WATCHDOG / 100);
        assert!(error.is_err(), "{error:?}");
        let serving = Watched::start(move || {
            let mut server = p.server;
            let mut answered = 0;
            loop {
                match next(&mut server) {
                    Event::Closed { reason, .. } => return (answered, reason),
                    Event::Message(message) => {
                        if let Ok(answer) = message.into_reply() {
                            answered += usize::from(server.post(answer).is_ok());
                        }
                    }
                    _ => {}
                }
            }
        });
        let bye = p.client.call(Message::bye_request(p.at_client), WATCHDOG);
        assert_eq!(bye.unwrap().op_code(), OpCode::ByeResponse);
        let (answered, reason) = serving.join("the server");
        assert!(answered > 0 && reason.is_graceful(), "{answered}, {reason}");
    });
}

#[test]
fn post_timeout_waits_for_room() {
    over_both(|address| {
        let options = Options::default().queue_bytes(200_000, 1 << 20);
        let engine = engine_with(options);
        let mut p = raw_pair(&engine, address);
        let big = |number| numbered(p.at_server, number, 60_000);
        // The system may take more than it did at first.
        let mut posted = 0;
        let error = loop {
            match p.server.post_timeout(big(posted), AT_ONCE) {
                Ok(_) => posted += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error.refusal(), Refusal::QueueFull { .. }));
        p.server.notify(None);

        let mut raw = p.raw;
        let reading = Watched::start(move || {
            for number in 0..=posted {
                assert_eq!(number_of(&raw.recv()), number);
            }
            raw
        });
        p.server
            .post_timeout(error.into_message(), WATCHDOG)
            .unwrap();
        drop(reading.join("reading"));
        let (mut is_notified, mut is_drained) = (false, false);
        while !(is_notified && is_drained) {
            match next(&mut p.server) {
                Event::Notified(None) => is_notified = true,
                Event::Drained(_) => is_drained = true,
                other => panic!("not due: {other:?}"),
            }
        }
    });
}

/// Who only posts, and never receives, keeps no events for that.
#[test]
fn post_timeout_keeps_one_word_of_room() {
    const ROUNDS: usize = 10;
    let engine = engine_with(Options::default().queue_bytes(200_000, 1 << 20));
    let p = raw_pair(&engine, &loopback());
    let (mut server, channel, mut raw) = (p.server, p.at_server, p.raw);
    let (read_up_to, reads) = mpsc::channel();
    let reading = Watched::start(move || {
        let mut read = 0;
        for up_to in reads {
            for number in read..up_to {
                assert_eq!(number_of(&raw.recv()), number);
            }
            read = up_to;
        }
        raw
    });
    let mut posted = 0;
    for _ in 0..ROUNDS {
        let refused = loop {
            match server.post(numbered(channel, posted, 60_000)) {
                Ok(_) => posted += 1,
                Err(refused) => break refused.into_message(),
            }
        };
        read_up_to.send(posted).unwrap();
        server.post_timeout(refused, WATCHDOG).unwrap();
        posted += 1;
    }
    // All is read, so there is no more to tell.
    read_up_to.send(posted).unwrap();
    eventually("room", || engine.metrics().queued_bytes == 0);
    let mut drained = 0;
    while let Some(event) = server.try_recv().unwrap() {
        drained += usize::from(matches!(event, Event::Drained(_)));
    }
    // One that was put aside, and perhaps one that came since.
    assert!((1..=2).contains(&drained), "{drained}");
    drop(read_up_to);
    drop(reading.join("reading"));
}

#[test]
fn post_timeout_ends_with_the_channel() {
    let options = Options::default().queue_bytes(200_000, 1 << 20);
    let engine = engine_with(options);
    let p = raw_pair(&engine, &loopback());
    let (mut server, channel) = (p.server, p.at_server);
    while server.post(numbered(channel, 1, 60_000)).is_ok() {}
    let mut raw = p.raw;
    // The system may take more than it did at first.
    let waiting = Watched::start(move || {
        loop {
            let posted = server.post_timeout(numbered(channel, 2, 60_000), WATCHDOG);
            if let Err(error) = posted {
                break error;
            }
        }
    });
    // It has been refused at least twice, or is about to be.
    raw.read_some(&mut [0; 100]);
    raw.reset();
    let error = waiting.join("refused");
    assert!(error.refusal().is_channel_over(), "{error}");
}
