//! Whoever is slow slows down who sends to it, and nobody else: queues and the pool are bounded,
//! nothing is lost at a bound, and there is word when there is room again.

mod support;

use std::{collections::HashSet, sync::mpsc, thread, time::Duration};

use support::*;
use tofu::{
    Address, ChannelGroup, ChannelNumber, Engine, Event, Header, Message, OpCode, Options, Refusal,
    Status,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Large enough that a system's buffers hold only a few dozen.
const BODY: usize = 50_000;

fn numbered(channel: ChannelNumber, number: u64, len: usize) -> Message {
    Message::signal(channel)
        .with_id(number)
        .with_body(vec![number.to_be_bytes()[7]; len])
}

#[track_caller]
fn is_numbered(message: &Message, number: u64, len: usize) {
    assert_eq!(message.id().get(), number);
    assert_eq!(message.body().len(), len);
    let byte = number.to_be_bytes()[7];
    assert!(message.body().iter().all(|&b| b == byte));
}

/// Posts messages, numbered from `from` on, until one is refused for want of room, and gives the
/// number of that one.
fn fill(group: &ChannelGroup, channel: ChannelNumber, from: u64) -> u64 {
    for number in from.. {
        if let Err(error) = group.post(numbered(channel, number, BODY)) {
            assert!(
                matches!(error.refusal(), Refusal::QueueFull { channel: of, .. } if *of == channel),
                "{error}"
            );
            is_numbered(error.message(), number, BODY);
            return number;
        }
    }
    unreachable!("a queue is bounded");
}

/// Reads the messages with these numbers.
#[track_caller]
fn read(raw: &mut Raw, numbers: std::ops::Range<u64>) {
    for number in numbers {
        is_numbered(&raw.recv(), number, BODY);
    }
}

#[track_caller]
fn drained(group: &mut ChannelGroup, channel: ChannelNumber) {
    match next(group) {
        Event::Drained(of) => assert_eq!(of, channel),
        other => panic!("room was due, not {other:?}"),
    }
}

/// Another raw client of a server.
fn another(group: &mut ChannelGroup, address: &Address) -> (Raw, ChannelNumber) {
    let raw = Raw::hello(address);
    let channel = message_of(group, OpCode::HelloRequest).channel();
    (raw, channel)
}

/// In the original a queue grows until the memory is used up.
#[test]
fn a_peer_that_does_not_read_fills_its_queue_to_the_bound_and_no_further() {
    over_both(|address| {
        let bound = 300 * KIB;
        let engine = Engine::new(Options::default().queue_bytes(bound, 8 * MIB)).unwrap();
        let mut p = raw_pair(&engine, address);
        let mut next_number = 1;
        for _ in 0..3 {
            let refused = fill(&p.server, p.at_server, next_number);
            let queued = engine.metrics().queued_bytes;
            assert!(queued <= bound, "{queued}");
            // Nothing was lost, and nothing comes twice.
            read(&mut p.raw, next_number..refused);
            drained(&mut p.server, p.at_server);
            next_number = refused;
        }
        assert_eq!(engine.metrics().queue_full, 3);
        eventually("nothing is queued", || engine.metrics().queued_bytes == 0);
        quiet(&mut p.server);
    });
}

#[test]
fn a_full_channel_does_not_keep_the_others_from_sending() {
    over_both(|address| {
        let engine = Engine::new(Options::default().queue_bytes(300 * KIB, 8 * MIB)).unwrap();
        let mut p = raw_pair(&engine, address);
        let (mut other, at_other) = another(&mut p.server, &p.address);
        let refused = fill(&p.server, p.at_server, 1);
        for number in 1..50 {
            p.server.post(numbered(at_other, number, BODY)).unwrap();
            is_numbered(&other.recv(), number, BODY);
        }
        read(&mut p.raw, 1..refused);
        drained(&mut p.server, p.at_server);
    });
}

#[test]
fn the_engines_bound_holds_over_all_channels_and_groups() {
    over_both(|address| {
        let bound = 600 * KIB;
        let engine = Engine::new(Options::default().queue_bytes(300 * KIB, bound)).unwrap();
        let mut servers = Vec::new();
        for _ in 0..4 {
            let address = unused_beside(address, servers.len());
            servers.push(raw_pair(&engine, &address));
        }
        let counts: Vec<_> = servers
            .iter()
            .map(|p| fill(&p.server, p.at_server, 1))
            .collect();
        let queued = engine.metrics().queued_bytes;
        assert!(queued <= bound, "{queued}");
        assert!(queued > bound - 2 * BODY, "{queued}");
        // Each is told when there is room again, whatever it was refused for.
        for (p, &refused) in servers.iter_mut().zip(&counts) {
            read(&mut p.raw, 1..refused);
        }
        for p in &mut servers {
            drained(&mut p.server, p.at_server);
            quiet(&mut p.server);
        }
        assert_eq!(engine.metrics().queue_full, 4);
    });
}

/// For TCP the same address, with port 0; for UDS another path.
fn unused_beside(address: &Address, number: usize) -> Address {
    match address.path() {
        Some(path) => Address::uds(format!("{path}.{number}")).expect("a path"),
        None => address.clone(),
    }
}

/// A channel that was refused for its own sake drains while peers that do not read hold almost all of
/// the engine's bytes: there is room for what was refused, and that is told.
#[test]
fn a_channel_that_drains_is_told_though_the_engine_is_almost_full() {
    over_both(|address| {
        // No timer looks at the channel by chance.
        let options = Options::default()
            .queue_bytes(150 * KIB, 2_240 * KIB)
            .hello_timeout(WATCHDOG * 9);
        let engine = Engine::new(options).unwrap();
        let mut p = raw_pair(&engine, address);
        let refused = fill(&p.server, p.at_server, 1);
        // The others take almost all of the engine's bytes, and are not refused.
        let mut others = Vec::new();
        for _ in 0..14 {
            let (raw, channel) = another(&mut p.server, &p.address);
            let before = engine.metrics().queued_bytes;
            let mut count = 0;
            while engine.metrics().queued_bytes < before + 144 * KIB {
                count += 1;
                p.server.post(numbered(channel, count, 1_000)).unwrap();
            }
            others.push((raw, count));
        }
        assert_eq!(engine.metrics().queue_full, 1);
        read(&mut p.raw, 1..refused);
        drained(&mut p.server, p.at_server);
        for (raw, count) in &mut others {
            for number in 1..=*count {
                is_numbered(&raw.recv(), number, 1_000);
            }
        }
        quiet(&mut p.server);
    });
}

/// A channel takes its part of the engine's bytes in steps. What it has taken and does not use is room, too.
#[cfg(target_os = "linux")]
#[test]
fn what_fits_because_of_the_channels_own_part_is_told() {
    const STEP: usize = 4 * KIB;
    const BOUND: usize = 40 * STEP;
    let options = Options::default()
        .queue_bytes(BOUND, BOUND)
        .drain_timeout(Duration::ZERO);
    let engine = Engine::new(options).unwrap();
    let mut group = engine.group().unwrap();
    // Nothing leaves, and each has taken a step for its hello.
    let (socket, address) = refusing_address();
    let _waiting = deafen(&socket);
    let hello = Message::hello_request(&address);
    let [full, refused, closed] = [(); 3].map(|()| group.post(hello.clone()).unwrap().channel);
    let filler = Message::signal(full).with_body([0; STEP - Header::LEN]);
    while engine.metrics().queued_bytes < BOUND {
        group.post(filler.clone()).unwrap();
    }
    // More than the step that becomes free, and less than that and what is left of the first one.
    let large = Message::signal(refused).with_body([0; STEP]);
    let error = group.post(large).expect_err("the engine is full");
    group.post(Message::bye_signal(closed)).unwrap();
    let drained = loop {
        match next(&mut group) {
            Event::Returned { message, .. } => assert_eq!(message.channel(), closed),
            Event::Closed { channel, .. } => assert_eq!(channel, closed),
            Event::Drained(channel) => break channel,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(drained, refused);
    group.post(error.into_message()).expect("as it was told");
}

/// Who only posts, and is refused again and again, has no memory grow with words that it does not receive.
#[test]
fn room_is_told_once_to_who_does_not_receive() {
    const ROUNDS: usize = 10;
    over_both(|address| {
        let engine = Engine::new(Options::default().queue_bytes(4 * BODY, MIB)).unwrap();
        let mut p = raw_pair(&engine, address);
        let mut next = 1;
        for _ in 0..ROUNDS {
            let refused = fill(&p.server, p.at_server, next);
            read(&mut p.raw, next..refused);
            next = refused;
            eventually("room", || engine.metrics().queued_bytes == 0);
        }
        drained(&mut p.server, p.at_server);
        let more = p.server.try_recv();
        assert!(matches!(more, Ok(None)), "not due: {more:?}");
    });
}

/// One peer that never reads again may take most of the engine's bytes, but not the others' word.
#[test]
fn a_peer_that_never_reads_does_not_keep_the_others_from_their_room() {
    over_both(|address| {
        let engine = Engine::new(Options::default().queue_bytes(3 * MIB, 4 * MIB)).unwrap();
        let mut p = raw_pair(&engine, address);
        let (mut second, at_second) = another(&mut p.server, &p.address);
        fill(&p.server, p.at_server, 1);
        let refused = fill(&p.server, at_second, 1);
        read(&mut second, 1..refused);
        drained(&mut p.server, at_second);
        p.server.post(numbered(at_second, refused, BODY)).unwrap();
        read(&mut second, refused..refused + 1);
    });
}

#[test]
fn a_channel_that_is_closed_gives_its_bytes_back_to_the_others() {
    over_both(|address| {
        let engine = Engine::new(Options::default().queue_bytes(MIB, MIB)).unwrap();
        let mut p = raw_pair(&engine, address);
        let (_second, at_second) = another(&mut p.server, &p.address);
        let refused = fill(&p.server, p.at_server, 1);
        // Large enough for the buffers of the system to be no help.
        fill(&p.server, at_second, 1);
        p.server.post(Message::bye_signal(p.at_server)).unwrap();
        let mut expected = None;
        loop {
            match next_but_drained(&mut p.server) {
                Event::Returned { message, .. } => {
                    let number = message.id().get();
                    assert_eq!(number, expected.unwrap_or(number));
                    expected = Some(number + 1);
                }
                Event::Closed { channel, .. } => {
                    assert_eq!(channel, p.at_server);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(expected, Some(refused));
        drained(&mut p.server, at_second);
    });
}

/// What comes back counts as long as nobody has read it: reading it is what makes room.
#[test]
fn messages_on_their_way_back_count_against_the_engines_bound() {
    let engine = Engine::new(Options::default().queue_bytes(MIB, MIB)).unwrap();
    let mut p = raw_pair(&engine, &loopback());
    fill(&p.server, p.at_server, 1);
    drop(p.raw);
    let mut returned = 0;
    let mut bytes = Vec::new();
    loop {
        match next_but_drained(&mut p.server) {
            Event::Returned { message, reason } => {
                assert_eq!(reason.status(), Status::PEER_DISCONNECTED);
                returned += message.body().len();
                bytes.push(engine.metrics().queued_bytes);
            }
            Event::Closed { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(returned > MIB - 3 * BODY);
    assert!(bytes[0] > 0, "the others still wait");
    assert_eq!(engine.metrics().queued_bytes, 0);
}

/// The pool is small, and the application holds all of it for a while.
#[test]
fn a_sender_faster_than_the_application_is_pushed_back_and_nothing_is_lost() {
    const COUNT: u64 = 2_000;
    const LEN: usize = 10_000;
    const POOL: usize = 16;
    over_both(|address| {
        let slow = Engine::new(Options::default().pool_messages(0, POOL)).unwrap();
        let fast = Engine::new(Options::default().queue_bytes(MIB, MIB)).unwrap();
        let mut p = pair_between(&slow, &fast, address);
        let (tell, told) = mpsc::channel();
        let mut client = p.client;
        let channel = p.at_client;
        let sender = thread::spawn(move || {
            let mut pushed_back = 0;
            for number in 1..=COUNT {
                let mut message = numbered(channel, number, LEN);
                while let Err(error) = client.post(message) {
                    assert!(matches!(error.refusal(), Refusal::QueueFull { .. }));
                    pushed_back += 1;
                    tell.send(()).expect("the other side waits");
                    message = error.into_message();
                    drained(&mut client, channel);
                }
            }
            tell.send(()).expect("the other side waits");
            (client, pushed_back)
        });
        let mut held: Vec<_> = (0..POOL).map(|_| message(&mut p.server)).collect();
        assert!(matches!(next(&mut p.server), Event::PoolEmpty));
        // The whole way back to the sender: its queue is full.
        told.recv_timeout(WATCHDOG).unwrap();
        assert_eq!(slow.metrics().pool_messages_out, POOL);
        quiet(&mut p.server);
        for (number, message) in (1..).zip(&held) {
            is_numbered(message, number, LEN);
        }
        held.clear();
        let mut number = 17;
        while number <= COUNT {
            assert!(slow.metrics().pool_messages_out <= POOL);
            match next(&mut p.server) {
                Event::Message(message) => {
                    is_numbered(&message, number, LEN);
                    number += 1;
                }
                Event::PoolEmpty => {}
                other => panic!("{other:?}"),
            }
        }
        let (_client, pushed_back) = sender.join().unwrap();
        assert!(pushed_back > 0);
    });
}

/// In the original each idle connection holds a message: 64 of them starve the default pool.
#[test]
fn idle_connections_hold_no_message() {
    over_both(|address| {
        let engine = Engine::new(Options::default().pool_messages(0, 4)).unwrap();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let mut raws = Vec::new();
        for _ in 0..150 {
            raws.push(another(&mut server, &address));
        }
        // As idle are those who have not said hello, and those who paused within a frame.
        let _silent: Vec<_> = (0..50).map(|_| Raw::connect(&address)).collect();
        for (raw, _) in raws.iter_mut().step_by(2) {
            raw.write(&frame(&numbered(ChannelNumber::UNASSIGNED, 1, 100))[..50]);
        }
        assert_eq!(engine.metrics().pool_messages_out, 0);
        for (raw, channel) in raws.iter_mut().skip(1).step_by(2) {
            raw.send(&numbered(ChannelNumber::UNASSIGNED, 2, 10));
            let heard = message_of(&mut server, OpCode::Signal);
            assert_eq!(heard.channel(), *channel);
            server.post(heard.into_reply().unwrap()).unwrap();
            assert_eq!(raw.recv().id().get(), 2);
        }
        assert_eq!(engine.metrics().pool_messages_out, 0);
        assert_eq!(engine.metrics().pool_empty, 0);
    });
}

/// One peer has much to say, and the pool is empty: the others get their turn nevertheless.
#[test]
fn starved_channels_are_served_in_turn() {
    over_both(|address| {
        let engine = Engine::new(Options::default().pool_messages(0, 1)).unwrap();
        let mut p = raw_pair(&engine, address);
        let mut others: Vec<_> = (0..4).map(|_| another(&mut p.server, &p.address)).collect();
        let burst: Vec<u8> = (1..=200)
            .flat_map(|number| frame(&numbered(ChannelNumber::UNASSIGNED, number, 10)))
            .collect();
        p.raw.write(&burst);
        let first = message(&mut p.server);
        assert_eq!(first.channel(), p.at_server);
        for (raw, _) in &mut others {
            raw.send(&numbered(ChannelNumber::UNASSIGNED, 1, 10));
        }
        // They are seen to be waiting, behind the first.
        assert!(matches!(next(&mut p.server), Event::PoolEmpty));
        quiet(&mut p.server);
        drop(first);
        let mut waiting: HashSet<_> = others.iter().map(|(_, channel)| *channel).collect();
        let mut served = 0;
        while !waiting.is_empty() {
            if let Event::Message(message) = next(&mut p.server) {
                waiting.remove(&message.channel());
                served += 1;
            }
        }
        assert!(served < 20, "{served} were served before the last of five");
        // The rest of what the first has to say arrives too.
        let mut last = 1;
        while last < 200 {
            if let Event::Message(message) = next(&mut p.server) {
                assert!(message.id().get() > last);
                last = message.id().get();
            }
        }
    });
}

/// Many peers send as fast as they can, and one asks now and then: it need not wait until each of the others
/// had its turn.
#[test]
fn who_streams_does_not_delay_who_asks() {
    const POOL: usize = 64;
    const FLOODERS: usize = 24;
    over_both(|address| {
        let engine = Engine::new(Options::default().pool_messages(0, POOL)).unwrap();
        let mut p = raw_pair(&engine, address);
        let flood: Vec<u8> =
            frame(&Message::signal(ChannelNumber::UNASSIGNED).with_body([0; 1000])).repeat(POOL);
        let peers: Vec<_> = (0..FLOODERS)
            .map(|_| another(&mut p.server, &p.address))
            .collect();
        let flooders: Vec<_> = peers
            .into_iter()
            .map(|(mut raw, _)| {
                let flood = flood.clone();
                thread::spawn(move || while raw.try_write(&flood).is_ok() {})
            })
            .collect();
        // Until all have shown that they stream, none can be told from another.
        let (mut noise, mut asked_at, mut is_late, mut heard) = (0, None, false, 0);
        while heard < 100 {
            match next(&mut p.server) {
                Event::Message(message) if message.channel() == p.at_server => {
                    let waited = noise - asked_at.take().expect("asked");
                    assert!(is_late || waited <= 5 * POOL, "{waited} came before it");
                    heard += usize::from(!is_late);
                    is_late = false;
                }
                Event::Message(_) => noise += 1,
                // This thread was kept from reading: that is no fault of the others'.
                Event::PoolEmpty => is_late = true,
                other => panic!("unexpected: {other:?}"),
            }
            if asked_at.is_none() && noise > 200 * FLOODERS && noise % 7 == 0 {
                p.raw
                    .send(&Message::request(ChannelNumber::UNASSIGNED).with_id(1));
                asked_at = Some(noise);
            }
        }
        drop(p.server);
        for flooder in flooders {
            flooder.join().expect("thrown out");
        }
    });
}

#[test]
fn starved_groups_are_served_in_turn() {
    let engine = Engine::new(Options::default().pool_messages(0, 1)).unwrap();
    let mut first = raw_pair(&engine, &loopback());
    let mut second = raw_pair(&engine, &loopback());
    let burst: Vec<u8> = (1..=50)
        .flat_map(|number| frame(&numbered(ChannelNumber::UNASSIGNED, number, 10)))
        .collect();
    first.raw.write(&burst);
    second.raw.write(&burst);
    let heard: Vec<Vec<u64>> = thread::scope(|scope| {
        let readers = [&mut first, &mut second].map(|p| {
            scope.spawn(|| {
                let mut heard = Vec::new();
                while heard.len() < 50 {
                    if let Event::Message(message) = next(&mut p.server) {
                        heard.push(message.id().get());
                    }
                }
                heard
            })
        });
        readers
            .map(|reader| reader.join().expect("no panic"))
            .into()
    });
    for numbers in heard {
        assert!(numbers.into_iter().eq(1..=50));
    }
    assert_eq!(engine.metrics().pool_messages_out, 0);
}

/// A peer that hangs up while the pool is empty: what it said before is not lost.
#[test]
fn what_waits_for_a_message_survives_its_peer() {
    over_both(|address| {
        let engine = Engine::new(Options::default().pool_messages(0, 1)).unwrap();
        let mut p = raw_pair(&engine, address);
        for number in 1..=20 {
            p.raw.send(&numbered(ChannelNumber::UNASSIGNED, number, 10));
        }
        let mut held = Some(message(&mut p.server));
        drop(p.raw);
        assert!(matches!(next(&mut p.server), Event::PoolEmpty));
        quiet(&mut p.server);
        let mut number = 1;
        loop {
            if let Some(message) = held.take() {
                is_numbered(&message, number, 10);
                number += 1;
            }
            match next(&mut p.server) {
                Event::Message(message) => held = Some(message),
                Event::PoolEmpty => {}
                Event::Closed { reason, .. } => {
                    assert_eq!(reason.status(), Status::PEER_DISCONNECTED);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(number, 21);
    });
}

/// Echoes that wait for a peer which does not read are neither being received nor in use.
#[test]
fn a_queued_message_of_the_pool_does_not_starve_the_pool() {
    over_both(|address| {
        let options = Options::default()
            .pool_messages(0, 2)
            .queue_bytes(MIB, 2 * MIB);
        let engine = Engine::new(options).unwrap();
        let mut p = raw_pair(&engine, address);
        let (mut talker, _) = another(&mut p.server, &p.address);
        for number in 1.. {
            talker.send(&numbered(ChannelNumber::UNASSIGNED, number, 40_000));
            let heard = message(&mut p.server);
            assert_eq!(heard.id().get(), number);
            // It is passed on, with its memory.
            if p.server.post(heard.with_channel(p.at_server)).is_err() {
                break;
            }
        }
        assert!(engine.metrics().queued_bytes > MIB / 2);
        eventually("the pool has all its messages", || {
            engine.metrics().pool_messages_out == 0
        });
        assert_eq!(engine.metrics().pool_empty, 0);
        talker.send(&numbered(ChannelNumber::UNASSIGNED, 9, 10));
        is_numbered(&message(&mut p.server), 9, 10);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_hello_on_its_way_does_not_starve_the_pool() {
    let (listener, address) = RawListener::bind(&loopback());
    let engine = Engine::new(Options::default().pool_messages(0, 2)).unwrap();
    let group = engine.group().unwrap();
    let mut raws = Vec::new();
    for _ in 0..5 {
        let hello = engine
            .try_message()
            .unwrap()
            .with_op_code(OpCode::HelloRequest)
            .with_header(tofu::CONNECT_TO, address.to_string());
        let channel = group.post(hello).unwrap().channel;
        for _ in 0..3 {
            let behind = engine.try_message().unwrap();
            let behind = behind.with_op_code(OpCode::Signal).with_channel(channel);
            group.post(behind.with_body([1; 9_000])).unwrap();
        }
        raws.push(listener.accept());
    }
    for raw in &mut raws {
        assert_eq!(raw.recv().op_code(), OpCode::HelloRequest);
        for _ in 0..3 {
            assert_eq!(raw.recv().body().len(), 9_000);
        }
    }
}
