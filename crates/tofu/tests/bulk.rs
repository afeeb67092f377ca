//! Many at once: `post_many` and `recv_many` keep what `post` and `recv` promise.

mod support;

use std::{collections::VecDeque, time::Duration};

use support::*;
use tofu::{ChannelNumber, Event, Message, OpCode, Options, Refusal};

const KIB: usize = 1024;

fn numbered_many(
    channel: ChannelNumber,
    numbers: std::ops::Range<usize>,
    len: usize,
) -> VecDeque<Message> {
    numbers
        .map(|number| numbered(channel, number, len))
        .collect()
}

#[test]
fn what_is_posted_at_once_arrives_in_order_whatever_its_size() {
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        let mut expected = 0;
        for len in [0, 64, 5_000, 60_000, 64] {
            let mut messages = numbered_many(p.at_server, expected..expected + 40, len);
            p.server.post_many(&mut messages).expect("taken");
            assert!(messages.is_empty());
            for _ in 0..40 {
                assert_eq!(number_of(&p.raw.recv()), expected);
                expected += 1;
            }
        }
    });
}

/// The rest of a large frame is read straight into its message's memory, and the next one begins in the same read.
#[test]
fn what_is_large_arrives_whole_however_it_is_cut() {
    const LENS: [usize; 6] = [60_000, 20_000, 8_000, 0, 60_000, 30_000];
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        let stream: Vec<u8> = (0..)
            .zip(LENS.into_iter().cycle().take(60))
            .flat_map(|(number, len)| frame(&numbered(p.at_server, number, len)))
            .collect();
        for piece in [3_001, 16_016, 50_000, 200_000] {
            std::thread::scope(|scope| {
                let raw = &mut p.raw;
                let stream = &stream;
                scope.spawn(move || stream.chunks(piece).for_each(|piece| raw.write(piece)));
                for number in 0..60 {
                    let message = message(&mut p.server);
                    assert_eq!(number_of(&message), number);
                    assert_eq!(message.body().len(), 8 + LENS[number % LENS.len()]);
                }
            });
        }
        assert_eq!(engine.metrics().pool_messages_out, 0);
    });
}

#[test]
fn what_goes_to_several_channels_at_once_arrives_in_order_on_each() {
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        let mut other = Raw::hello(&p.address);
        let at_other = message_of(&mut p.server, OpCode::HelloRequest).channel();
        let mut messages = VecDeque::new();
        for number in 0..60 {
            let channel = if number % 3 == 0 {
                at_other
            } else {
                p.at_server
            };
            messages.push_back(numbered(channel, number, 10));
        }
        p.server.post_many(&mut messages).expect("taken");
        for number in 0..60 {
            let raw = if number % 3 == 0 {
                &mut other
            } else {
                &mut p.raw
            };
            assert_eq!(number_of(&raw.recv()), number);
        }
    });
}

#[test]
fn a_refusal_gives_its_message_back_and_leaves_those_behind_it() {
    let engine = engine();
    let mut p = raw_pair(&engine, &loopback());
    let nowhere = ChannelNumber::new(60_000);
    let mut messages = numbered_many(p.at_server, 0..3, 10);
    messages.push_back(numbered(nowhere, 3, 10));
    messages.extend(numbered_many(p.at_server, 4..6, 10));
    let refused = p
        .server
        .post_many(&mut messages)
        .expect_err("no such channel");
    assert_eq!(refused.refusal(), &Refusal::InvalidChannelNumber(nowhere));
    assert_eq!(refused.into_message(), numbered(nowhere, 3, 10));
    assert_eq!(messages, numbered_many(p.at_server, 4..6, 10));
    p.server.post_many(&mut messages).expect("taken");
    for number in [0, 1, 2, 4, 5] {
        assert_eq!(
            number_of(&p.raw.recv()),
            number,
            "those before it were taken"
        );
    }
}

#[test]
fn a_full_queue_refuses_the_first_message_without_room_and_takes_it_later() {
    over_both(|address| {
        let engine = engine_with(Options::default().queue_bytes(300 * KIB, 8 * KIB * KIB));
        let mut p = raw_pair(&engine, address);
        let (count, len) = (4_000, 2_000);
        let mut messages = numbered_many(p.at_server, 0..count, len);
        let mut read = 0;
        while let Err(refused) = p.server.post_many(&mut messages) {
            assert!(matches!(refused.refusal(), Refusal::QueueFull { .. }));
            messages.push_front(refused.into_message());
            // The peer reads until there is room again.
            loop {
                match p.server.try_recv().expect("not shutting down") {
                    Some(Event::Drained(channel)) => break assert_eq!(channel, p.at_server),
                    Some(other) => panic!("{other:?}"),
                    None if read < count - messages.len() => {
                        assert_eq!(number_of(&p.raw.recv()), read);
                        read += 1;
                    }
                    None => {}
                }
            }
        }
        for number in read..count {
            assert_eq!(number_of(&p.raw.recv()), number);
        }
    });
}

#[test]
fn orders_among_many_are_carried_out_in_their_place() {
    let engine = engine();
    let mut p = pair(&engine, &loopback());
    let mut messages = numbered_many(p.at_client, 0..5, 10);
    messages.push_back(Message::bye_request(p.at_client));
    messages.push_back(numbered(p.at_client, 5, 10));
    let refused = p.client.post_many(&mut messages).expect_err("behind a bye");
    assert_eq!(refused.refusal(), &Refusal::ChannelClosing(p.at_client));
    for number in 0..5 {
        assert_eq!(number_of(&message(&mut p.server)), number);
    }
    let bye = message_of(&mut p.server, OpCode::ByeRequest);
    p.server
        .post(bye.into_reply().expect("a bye has an answer"))
        .expect("taken");
    message_of(&mut p.client, OpCode::ByeResponse);
}

/// Sends numbered signals from a thread of its own, for the server may let it wait.
fn sends(
    mut raw: Raw,
    channel: ChannelNumber,
    lens: impl Iterator<Item = usize> + Send + 'static,
) -> Watched<Raw> {
    Watched::start(move || {
        for (number, len) in lens.enumerate() {
            raw.send(&numbered(channel, number, len));
        }
        raw
    })
}

#[test]
fn many_are_received_in_order_and_never_more_than_asked_for() {
    const EACH: usize = 2_000;
    const MAXES: [usize; 5] = [1, 2, 3, 64, 1_000];
    over_both(|address| {
        let address = address.clone();
        watched("receiving many", move || {
            let engine = engine();
            let mut p = raw_pair(&engine, &address);
            let sender = sends(
                p.raw,
                p.at_server,
                std::iter::repeat_n(20, EACH * MAXES.len()),
            );
            let (mut events, mut expected) = (Vec::new(), 0);
            for (round, max) in (1..).zip(MAXES) {
                while expected < EACH * round {
                    let count = p
                        .server
                        .recv_many(&mut events, max)
                        .expect("not shutting down");
                    assert_eq!(count, events.len());
                    assert!((1..=max).contains(&count), "{count} of at most {max}");
                    for event in &events {
                        match event {
                            Event::Message(message) => {
                                assert_eq!(number_of(message), expected);
                                expected += 1;
                            }
                            // The keeper read on while this thread waited for a core.
                            Event::PoolEmpty => {}
                            other => panic!("{other:?}"),
                        }
                    }
                }
            }
            sender.join("the sender");
        });
    });
}

#[test]
fn a_vector_full_of_read_messages_holds_no_more_than_the_pool_has() {
    const POOL: usize = 8;
    const COUNT: usize = 500;
    over_both(|address| {
        let address = address.clone();
        watched("receiving many", move || {
            let engine = engine_with(Options::default().pool_messages(1, POOL));
            let mut p = raw_pair(&engine, &address);
            let sender = sends(p.raw, p.at_server, 0..COUNT);
            let (mut events, mut expected) = (Vec::new(), 0);
            while expected < COUNT {
                p.server
                    .recv_many(&mut events, 1_000)
                    .expect("not shutting down");
                assert!(engine.metrics().pool_messages_out <= POOL);
                for event in &events {
                    match event {
                        Event::Message(message) => {
                            assert_eq!(number_of(message), expected);
                            assert_eq!(message.body().len(), expected + size_of::<u64>());
                            expected += 1;
                        }
                        Event::PoolEmpty => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
            events.clear();
            assert_eq!(engine.metrics().pool_messages_out, 0);
            sender.join("the sender");
        });
    });
}

#[test]
fn what_is_not_asked_for_is_dropped_and_nothing_is_waited_for() {
    let engine = engine();
    let mut group = engine.group().expect("a group");
    group.notify(Some(engine.message()));
    let mut events = Vec::new();
    assert_eq!(group.recv_many(&mut events, 10), Ok(1));
    assert_eq!(engine.metrics().pool_messages_out, 1);
    assert_eq!(group.recv_many(&mut events, 0), Ok(0), "it does not wait");
    assert!(events.is_empty());
    assert_eq!(engine.metrics().pool_messages_out, 0);
}

#[test]
fn a_shutdown_ends_receiving_many() {
    let engine = engine();
    let mut group = engine.group().expect("a group");
    let waiting = Watched::start(move || {
        let mut events = vec![Event::PoolEmpty];
        let outcome = group.recv_many(&mut events, 10);
        (outcome, events.len())
    });
    engine.shutdown(WATCHDOG);
    assert_eq!(waiting.join("recv_many ends"), (Err(tofu::RecvError), 0));
}

#[test]
fn a_message_of_the_group_is_empty_whatever_was_posted_before() {
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        for number in 0..200 {
            let message = p
                .server
                .signal(p.at_server)
                .with_id(number + 1)
                .with_body(vec![b'x'; usize::try_from(number).expect("few")]);
            p.server.post(message).expect("taken");
            let empty = p.server.request(p.at_server);
            assert_eq!(empty, Message::request(p.at_server));
        }
        for number in 0..200 {
            let message = p.raw.recv();
            assert_eq!(message.id().get(), number + 1);
            assert_eq!(message.body().len() as u64, number);
        }
    });
}

/// Messages of the application's own among those that were read go home as well.
#[test]
fn messages_of_another_group_among_those_that_were_read_block_nobody() {
    watched("receiving", || {
        let engine = engine_with(Options::default().pool_messages(0, 2));
        let mut group = engine.group().expect("a group");
        for _ in 0..4 {
            group.notify(Some(engine.message()));
        }
        let (mut events, mut seen) = (Vec::new(), 0);
        while seen < 4 {
            seen += group.recv_many(&mut events, 1).expect("not shutting down");
        }
        events.clear();
        assert_eq!(engine.metrics().pool_messages_out, 0);
    });
}

/// The event that brings it back is dropped whole, among those whose messages are taken out of them.
#[test]
fn a_message_that_was_handed_on_as_it_was_received_goes_home() {
    watched("receiving", || {
        let engine = engine();
        let mut p = raw_pair(&engine, &loopback());
        p.raw.send(&numbered(p.at_server, 0, 10));
        let heard = message(&mut p.server);
        p.server.notify(Some(heard));
        p.server.notify(None);
        let (mut events, mut seen) = (Vec::new(), 0);
        while seen < 2 {
            seen += p
                .server
                .recv_many(&mut events, 1)
                .expect("not shutting down");
        }
        assert!(matches!(events[..], [Event::Notified(None)]));
        assert_eq!(engine.metrics().pool_messages_out, 0);
    });
}

/// What comes home calls the group that waits for it, and that looks at all shelves of the pool.
#[test]
fn one_vector_for_two_groups_blocks_nobody_while_a_third_one_waits_for_the_pool() {
    watched("receiving", || {
        let engine = engine_with(Options::default().pool_messages(0, 2));
        // Its shelf is the first one that is looked at.
        let mut other = engine.group().expect("a group");
        let [mut one, mut waiting] = [(); 2].map(|()| raw_pair(&engine, &loopback()));
        let _held = engine.try_message().expect("the first of two");
        one.raw.send(&numbered(one.at_server, 0, 10));
        let mut events = Vec::new();
        one.server
            .recv_many(&mut events, 1)
            .expect("not shutting down");
        assert!(matches!(events[..], [Event::Message(_)]));
        waiting.raw.send(&numbered(waiting.at_server, 0, 10));
        assert!(matches!(next(&mut waiting.server), Event::PoolEmpty));
        other.notify(None);
        other.notify(None);
        // The second one is at hand already.
        let mut none = Vec::new();
        assert_eq!(other.recv_many(&mut none, 1), Ok(1));
        assert_eq!(other.recv_many(&mut events, 1), Ok(1));
        assert_eq!(number_of(&message(&mut waiting.server)), 0);
    });
}

#[test]
fn a_receiver_that_sleeps_keeps_no_message_from_other_groups() {
    // It sleeps at once: a read, even of nothing, would put the message back.
    let options = Options::default().busy_poll(Duration::ZERO);
    let engine = engine_with(options.pool_messages(0, 1));
    let [mut one, mut other] = [(); 2].map(|()| raw_pair(&engine, &loopback()));
    one.raw.send(&numbered(one.at_server, 0, 10));
    let mut events = Vec::new();
    assert_eq!(one.server.recv_many(&mut events, 10), Ok(1));
    assert!(matches!(events[..], [Event::Message(_)]));
    let poster = one.server.poster();
    let sleeping = Watched::start(move || one.server.recv_many(&mut events, 10));
    eventually("what was read is put back", || {
        engine.metrics().pool_messages_out == 0
    });
    other.raw.send(&numbered(other.at_server, 0, 10));
    assert_eq!(number_of(&message(&mut other.server)), 0);
    poster.notify(None);
    assert_eq!(sleeping.join("receiving"), Ok(1));
}

/// It waits for a message, and has one to receive into.
#[test]
fn a_receiver_that_had_the_whole_pool_goes_on_with_what_it_gives_back() {
    watched("receiving", || {
        let engine = engine_with(Options::default().pool_messages(0, 1));
        let mut p = raw_pair(&engine, &loopback());
        p.raw.send(&numbered(p.at_server, 0, 10));
        let mut events = Vec::new();
        assert_eq!(p.server.recv_many(&mut events, 1), Ok(1));
        p.raw.send(&numbered(p.at_server, 1, 10));
        assert!(matches!(next(&mut p.server), Event::PoolEmpty));
        assert_eq!(p.server.recv_many(&mut events, 1), Ok(1));
        match &events[..] {
            [Event::Message(message)] => assert_eq!(number_of(message), 1),
            other => panic!("{other:?}"),
        }
    });
}

/// The least bound is reached before so much is gathered that it leaves by itself: then the last thing that
/// happens to the queue is the poster's own write, and nobody else would look at the channel.
#[test]
fn a_refusal_is_followed_by_drained_though_the_posters_own_write_empties_the_queue() {
    const BOUND: usize = 131_086;
    const COUNT: usize = 2_000;
    over_both(|address| {
        let engine = engine_with(Options::default().queue_bytes(BOUND, 8 * BOUND));
        let mut p = raw_pair(&engine, address);
        let mut raw = p.raw;
        let reading = Watched::start(move || {
            for number in 0..COUNT {
                assert_eq!(number_of(&raw.recv()), number);
            }
        });
        let mut messages = numbered_many(p.at_server, 0..COUNT, 3_000);
        while let Err(refused) = p.server.post_many(&mut messages) {
            assert!(matches!(refused.refusal(), Refusal::QueueFull { .. }));
            messages.push_front(refused.into_message());
            match next(&mut p.server) {
                Event::Drained(channel) => assert_eq!(channel, p.at_server),
                other => panic!("room was due, not {other:?}"),
            }
        }
        reading.join("reading");
    });
}
