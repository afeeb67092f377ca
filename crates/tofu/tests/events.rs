//! What `recv` tells: each event when it is due, with what it carries, and not once more.

mod support;

use std::{sync::mpsc, thread, time::Duration};

use support::*;
use tofu::{
    ChannelGroup, ChannelNumber, Engine, Event, LISTEN_ON, Message, OpCode, Options, Origin,
    RecvError, Status,
};

/// Messages of this many bytes fill a small queue quickly, and leave in pieces.
const LARGE: usize = 60_000;

/// An engine with a small queue per channel.
fn small_queues() -> Engine {
    Engine::new(Options::default().queue_bytes(1 << 20, 1 << 22)).expect("an engine")
}

/// Posts messages of all sizes until the queue is full, and gives copies of what was taken.
fn fill(group: &ChannelGroup, channel: ChannelNumber) -> Vec<Message> {
    let mut taken = Vec::new();
    for id in 1.. {
        let len = if id % 3 == 0 { LARGE } else { 7 };
        let mut message = Message::request(channel)
            .with_id(id)
            .with_header("number", id.to_string())
            .with_body(vec![b'a'; len]);
        match id % 4 {
            0 => message = message.with_op_code(OpCode::Signal),
            1 => message = message.with_more(true),
            _ => {}
        }
        let copy = message.clone();
        if group.post(message).is_err() {
            break;
        }
        taken.push(copy);
    }
    taken
}

/// Checks that what was posted last, and nothing else, comes back, oldest first, until the channel is
/// closed, and gives how much it was.
fn all_come_back(
    group: &mut ChannelGroup,
    mut posted: Vec<Message>,
    channel: ChannelNumber,
    status: Status,
) -> usize {
    let mut returned = Vec::new();
    let closed = loop {
        match next_but_drained(group) {
            Event::Returned { message, reason } => {
                assert_eq!((message.status(), reason.status()), (status, status));
                returned.push(message);
            }
            other => break other,
        }
    };
    match closed {
        Event::Closed {
            channel: of,
            reason,
            ..
        } => assert_eq!((of, reason.status()), (channel, status)),
        other => panic!("{other:?}"),
    }
    let count = returned.len();
    let last_posted = &mut posted[returned_start(&returned)..];
    for message in last_posted.iter_mut() {
        message.set_status(status);
    }
    assert!(returned == last_posted, "complete, unchanged, oldest first");
    count
}

/// Ids are positions, from 1 on.
fn returned_start(returned: &[Message]) -> usize {
    let first = returned.first().expect("something comes back").id().get();
    usize::try_from(first - 1).expect("a position")
}

/// The original never tells it.
#[test]
fn listening_tells_the_real_address() {
    let engine = engine();
    let mut group = engine.group().unwrap();
    for asked in ["tcp|127.0.0.1|0", "tcp||0", "tcp|localhost|0"] {
        let welcome = Message::welcome_request(&asked.parse().unwrap()).with_id(99);
        let posted = group.post(welcome).unwrap();
        let Event::Listening { address, response } = next(&mut group) else {
            panic!("{asked}");
        };
        assert_ne!(address.port(), 0);
        assert_eq!(response.op_code(), OpCode::WelcomeResponse);
        assert_eq!(response.origin(), Origin::Engine);
        assert_eq!(response.status(), Status::SUCCESS);
        assert_eq!(
            (response.channel(), response.id()),
            (posted.channel, posted.id)
        );
        assert_eq!(response.header(LISTEN_ON), Some(&*address.to_string()));

        let reached = tofu::Address::tcp("127.0.0.1", address.port()).unwrap();
        let raw = Raw::hello(&reached);
        let channel = message_of(&mut group, OpCode::HelloRequest).channel();
        drop(raw);
        closed_with(&mut group, channel, Status::PEER_DISCONNECTED);
    }
}

#[test]
fn listening_on_a_path_tells_the_path() {
    over_both(|asked| {
        let engine = engine();
        let mut group = engine.group().unwrap();
        let (address, _) = listen(&mut group, asked);
        assert_eq!(address.path(), asked.path());
    });
}

/// The original gives back the HelloRequest in one case, a HelloResponse in others.
#[test]
fn a_hello_that_fails_comes_back_as_posted() {
    let missing = tofu::testing::TemporaryUds::new().unwrap();
    let (_reserved, refusing) = refusing_address();
    for (address, status) in [
        (refusing, Status::CONNECT_REFUSED),
        (missing.address("nobody"), Status::UDS_PATH_NOT_FOUND),
    ] {
        let engine = engine();
        let mut group = engine.group().unwrap();
        let hello = Message::hello_request(&address)
            .with_header("user", "alice")
            .with_body("password")
            .with_id(12);
        let channel = group.post(hello.clone()).unwrap().channel;
        let (message, reason) = returned(&mut group);
        assert_eq!((message.status(), reason.status()), (status, status));
        let mut expected = hello.with_channel(channel);
        expected.set_status(status);
        assert_eq!(message, expected);
        match next(&mut group) {
            Event::Closed {
                channel: closed,
                id,
                reason,
            } => assert_eq!((closed, id.get(), reason.status()), (channel, 12, status)),
            other => panic!("{other:?}"),
        }
        quiet(&mut group);
        assert_eq!(engine.metrics().channels_open, 0);
        assert_eq!(engine.metrics().queued_bytes, 0);
    }
}

#[test]
fn a_welcome_that_fails_comes_back_as_posted() {
    over_both(|address| {
        let engine = engine();
        let mut group = engine.group().unwrap();
        let (address, _) = listen(&mut group, address);
        let welcome = Message::welcome_request(&address)
            .with_header("name", "second")
            .with_id(13);
        let channel = group.post(welcome.clone()).unwrap().channel;
        let (message, _) = returned(&mut group);
        let mut expected = welcome.with_channel(channel);
        expected.set_status(Status::ADDRESS_IN_USE);
        assert_eq!(message, expected);
        closed_with(&mut group, channel, Status::ADDRESS_IN_USE);
        quiet(&mut group);
    });
}

/// In the original all but the first vanish.
#[test]
fn what_was_posted_behind_a_hello_that_fails_comes_back_behind_it() {
    let engine = engine();
    let mut group = engine.group().unwrap();
    let (_reserved, refusing) = refusing_address();
    let hello = Message::hello_request(&refusing).with_id(1);
    let channel = group.post(hello.clone()).unwrap().channel;
    let mut posted = vec![hello.with_channel(channel)];
    for id in 2..20 {
        let message =
            Message::request(channel)
                .with_id(id)
                .with_body(vec![b'x'; usize::try_from(id).unwrap() * 700]);
        // The connection may have been refused already.
        if group.post(message.clone()).is_err() {
            break;
        }
        posted.push(message);
    }
    let count = posted.len();
    let back = all_come_back(&mut group, posted, channel, Status::CONNECT_REFUSED);
    assert_eq!(back, count);
}

/// In the original later ones vanish, and a partly sent one has its id byte-swapped.
#[test]
fn what_the_peer_did_not_take_comes_back_complete_and_in_order() {
    over_both(|address| {
        let engine = small_queues();
        let mut p = raw_pair(&engine, address);
        let posted = fill(&p.server, p.at_server);
        drop(p.raw);
        let back = all_come_back(
            &mut p.server,
            posted,
            p.at_server,
            Status::PEER_DISCONNECTED,
        );
        assert!(back > 10);
        assert_eq!(engine.metrics().queued_bytes, 0);
        quiet(&mut p.server);
    });
}

#[test]
fn what_is_queued_when_the_application_closes_comes_back_too() {
    over_both(|address| {
        let engine = small_queues();
        let mut p = raw_pair(&engine, address);
        let posted = fill(&p.server, p.at_server);
        p.server.post(Message::bye_signal(p.at_server)).unwrap();
        all_come_back(&mut p.server, posted, p.at_server, Status::CHANNEL_CLOSED);
        assert_eq!(engine.metrics().queued_bytes, 0);
        quiet(&mut p.server);
    });
}

#[test]
fn what_came_back_can_be_posted_again() {
    let engine = engine();
    let mut p = pair(&engine, &loopback());
    let (_reserved, refusing) = refusing_address();
    let hello = Message::hello_request(&refusing).with_body("!");
    p.client.post(hello).unwrap();
    let (message, _) = returned(&mut p.client);
    closed_with(&mut p.client, message.channel(), Status::CONNECT_REFUSED);
    let again = message
        .with_op_code(OpCode::Signal)
        .with_channel(p.at_client);
    let sent = p.client.post(again).unwrap();
    assert_eq!(sent.status, Status::SUCCESS);
    let heard = message_of(&mut p.server, OpCode::Signal);
    assert_eq!((heard.status(), heard.body()), (Status::SUCCESS, &b"!"[..]));
}

#[test]
fn drained_follows_queue_full_once_and_never_comes_alone() {
    over_both(|address| {
        let engine = small_queues();
        let mut p = raw_pair(&engine, address);
        for _ in 0..2 {
            let posted = fill(&p.server, p.at_server);
            for expected in &posted {
                assert_eq!(p.raw.recv().id(), expected.id());
            }
            match next(&mut p.server) {
                Event::Drained(channel) => assert_eq!(channel, p.at_server),
                other => panic!("{other:?}"),
            }
            quiet(&mut p.server);
            p.server.post(Message::signal(p.at_server)).unwrap();
            assert_eq!(p.raw.recv().op_code(), OpCode::Signal);
            quiet(&mut p.server);
        }
    });
}

/// The original says it 318,000 times in 300 ms, in a busy loop.
#[test]
fn an_empty_pool_is_told_once_each_time() {
    over_both(|address| {
        let engine = Engine::new(Options::default().pool_messages(0, 4)).unwrap();
        let mut p = raw_pair(&engine, address);
        let burst: Vec<u8> = (1..=6)
            .flat_map(|id| frame(&Message::signal(ChannelNumber::UNASSIGNED).with_id(id)))
            .collect();
        for times in 1..=3 {
            p.raw.write(&burst);
            let mut held: Vec<_> = (0..4).map(|_| message(&mut p.server)).collect();
            assert!(matches!(next(&mut p.server), Event::PoolEmpty));
            quiet(&mut p.server);
            assert_eq!(engine.metrics().pool_empty, times);
            held.clear();
            for id in 5..=6 {
                assert_eq!(message(&mut p.server).id().get(), id);
            }
            quiet(&mut p.server);
            assert_eq!(engine.metrics().pool_empty, times);
        }
    });
}

#[test]
fn notify_from_another_thread_wakes_recv() {
    let engine = engine();
    let mut group = engine.group().unwrap();
    let poster = group.poster();
    let (step, steps) = mpsc::channel();
    let notifier = thread::spawn(move || {
        for id in 1..=50 {
            poster.notify(None);
            let message = Message::signal(ChannelNumber::UNASSIGNED).with_id(id);
            poster.notify(Some(message));
            // The receiver is back in recv, or about to be.
            steps.recv().unwrap();
        }
    });
    for id in 1..=50 {
        assert!(matches!(next(&mut group), Event::Notified(None)));
        match next(&mut group) {
            Event::Notified(Some(message)) => assert_eq!(message.id().get(), id),
            other => panic!("{other:?}"),
        }
        step.send(()).unwrap();
    }
    notifier.join().unwrap();
    quiet(&mut group);
}

#[test]
fn a_notified_message_may_be_any_and_comes_unchanged() {
    let engine = engine();
    let mut group = engine.group().unwrap();
    for op_code in OpCode::ALL {
        let mut message = engine
            .message()
            .with_op_code(op_code)
            .with_channel(ChannelNumber::ENGINE)
            .with_more(true)
            .with_header("k", "v")
            .with_body(vec![7; 100_000]);
        message.set_status(Status::from_code(200));
        message.set_origin(Origin::Engine);
        let copy = message.clone();
        group.notify(Some(message));
        match next(&mut group) {
            Event::Notified(Some(message)) => assert_eq!(message, copy),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(engine.metrics().pool_messages_out, 0);
}

#[test]
fn notifications_come_in_the_order_in_which_a_thread_gave_them() {
    let engine = engine();
    let mut group = engine.group().unwrap();
    let mut last = [0; 3];
    thread::scope(|scope| {
        for sender in 0..3 {
            let poster = group.poster();
            scope.spawn(move || {
                for id in 1..=200 {
                    let channel = ChannelNumber::new(sender);
                    poster.notify(Some(Message::signal(channel).with_id(id)));
                }
            });
        }
    });
    for _ in 0..600 {
        match next(&mut group) {
            Event::Notified(Some(message)) => {
                let last = &mut last[usize::from(message.channel().get())];
                *last += 1;
                assert_eq!(message.id().get(), *last);
            }
            other => panic!("{other:?}"),
        }
    }
    quiet(&mut group);
}

#[test]
fn closed_is_the_last_word_and_is_said_once() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        let ways: [fn(&Pair, &mut Raw, ChannelNumber); 3] = [
            |p, _, channel| {
                let bye = Message::bye_signal(channel);
                p.server.post(bye).expect("posted");
            },
            |_, raw, _| raw.write(&[0xFF; 16]),
            |_, raw, _| raw.shut_down(),
        ];
        for (way, status) in ways.into_iter().zip([
            Status::CHANNEL_CLOSED,
            Status::PROTOCOL_VIOLATION,
            Status::PEER_DISCONNECTED,
        ]) {
            let mut raw = Raw::hello(&p.address);
            let channel = message_of(&mut p.server, OpCode::HelloRequest).channel();
            way(&p, &mut raw, channel);
            closed_with(&mut p.server, channel, status);
            raw.read_to_end();
            drop(raw);
            quiet(&mut p.server);
        }
        // And on both sides of a bye.
        p.client.post(Message::bye_request(p.at_client)).unwrap();
        let bye = message_of(&mut p.server, OpCode::ByeRequest);
        p.server.post(bye.reply().unwrap()).unwrap();
        message_of(&mut p.client, OpCode::ByeResponse);
        closed_with(&mut p.client, p.at_client, Status::CHANNEL_CLOSED);
        closed_with(&mut p.server, p.at_server, Status::CHANNEL_CLOSED);
        quiet(&mut p.client);
        quiet(&mut p.server);
    });
}

/// The original tells the end of connections of which nobody has heard.
#[test]
fn a_connection_that_never_said_hello_is_never_heard_of() {
    over_both(|address| {
        let engine = engine();
        let mut group = engine.group().unwrap();
        let (address, _) = listen(&mut group, address);
        drop(Raw::connect(&address));
        let mut half = Raw::connect(&address);
        half.write(&frame(&Message::hello_request(&address).with_id(1))[..20]);
        drop(half);
        let mut garbage = Raw::connect(&address);
        garbage.write(&[0xFF; 16]);
        garbage.read_to_end();
        let mut raw = Raw::connect(&address);
        raw.send(&Message::hello_request(&address).with_id(7));
        let hello = message_of(&mut group, OpCode::HelloRequest);
        assert_eq!(hello.id().get(), 7, "it is the first that is heard of");
        quiet(&mut group);
        eventually("their numbers come back", || {
            let metrics = engine.metrics();
            metrics.channels_open == 2 && metrics.half_open == 0
        });
    });
}

#[test]
fn recv_gives_up_only_as_it_was_told() {
    let engine = engine();
    let mut group = engine.group().unwrap();
    assert!(matches!(group.try_recv(), Ok(None)));
    let started = std::time::Instant::now();
    let patience = Duration::from_millis(20);
    assert!(matches!(group.recv_timeout(patience), Ok(None)));
    assert!(started.elapsed() >= patience);
    group.notify(None);
    assert!(matches!(group.try_recv(), Ok(Some(Event::Notified(None)))));
    group.notify(None);
    assert!(matches!(group.recv(), Ok(Event::Notified(None))));
}

#[test]
fn recv_fails_only_when_the_engine_shuts_down() {
    let engine = engine();
    let mut group = engine.group().unwrap();
    let (ready, is_ready) = mpsc::channel();
    let receiver = thread::spawn(move || {
        group.notify(None);
        assert!(matches!(group.recv(), Ok(Event::Notified(None))));
        ready.send(()).unwrap();
        let woken = group.recv();
        assert!(matches!(woken, Err(RecvError)), "{woken:?}");
        assert!(matches!(group.try_recv(), Err(RecvError)));
        assert!(matches!(group.recv_timeout(WATCHDOG), Err(RecvError)));
    });
    is_ready.recv().unwrap();
    engine.shutdown(Duration::ZERO);
    receiver.join().unwrap();
}
