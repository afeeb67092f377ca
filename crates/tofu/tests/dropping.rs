//! Dropping is safe in any order, loses nothing by accident, and ends in time.

mod support;

use std::time::Duration;

use support::*;
use tofu::{ChannelGroup, ChannelNumber, Engine, Event, Message, OpCode, Options, Refusal};

/// Longer than any test may take: what waits for it fails.
const NEVER: Duration = Duration::from_secs(3_600);

fn roomy() -> Options {
    Options::default().queue_bytes(64 << 20, 256 << 20)
}

/// A server, and a raw client that takes little at a time.
fn narrow_pair(engine: &Engine, address: &tofu::Address) -> (ChannelGroup, ChannelNumber, Raw) {
    let mut server = engine.group().expect("a group");
    let (address, _) = listen(&mut server, address);
    let raw = Raw::hello_narrow(&address);
    let channel = message_of(&mut server, OpCode::HelloRequest).channel();
    (server, channel, raw)
}

/// Reads to the end, and gives how many messages came. They are in order, and the first of all.
fn count_to_the_end(raw: &mut Raw) -> usize {
    let messages = frames_in(&raw.read_to_end());
    for (number, message) in messages.iter().enumerate() {
        assert_eq!(number_of(message), number);
    }
    messages.len()
}

#[test]
fn what_a_dropped_group_had_queued_still_leaves() {
    over_both(|address| {
        let engine = engine_with(roomy().drain_timeout(NEVER));
        let (server, channel, mut raw) = narrow_pair(&engine, address);
        let posted = post_until_queued(&server, channel, &engine, 1 << 20);
        drop(server);
        assert_eq!(count_to_the_end(&mut raw), posted);
        drop(raw);
        watched("dropping the engine", || drop(engine));
    });
}

/// All of it is in our kernel and most of it not in the peer's, when the queue is empty: a hard
/// close would throw it away.
#[test]
fn what_has_left_for_our_kernel_only_is_waited_for() {
    over_both(|address| {
        let engine = engine_with(Options::default().drain_timeout(NEVER));
        let (server, channel, mut raw) = narrow_pair(&engine, address);
        for number in 0..16 {
            server.post(numbered(channel, number, 500)).unwrap();
        }
        eventually("the queue is empty", || engine.metrics().queued_bytes == 0);
        drop(server);
        eventually("the listener is closed", || {
            engine.metrics().channels_open == 1
        });
        assert_eq!(count_to_the_end(&mut raw), 16);
        drop(raw);
        watched("dropping the engine", || drop(engine));
    });
}

/// The engine's last handle waits for the drains of its groups.
#[test]
fn dropping_the_engine_waits_for_what_its_groups_had_queued() {
    over_both(|address| {
        let engine = engine_with(roomy().drain_timeout(NEVER));
        let (server, channel, mut raw) = narrow_pair(&engine, address);
        let posted = post_until_queued(&server, channel, &engine, 1 << 20);
        let dropper = Watched::start(move || {
            drop(server);
            drop(engine);
        });
        assert_eq!(count_to_the_end(&mut raw), posted);
        drop(raw);
        dropper.join("dropping group and engine");
    });
}

/// The connection is not even made when the group is dropped.
#[test]
fn a_hello_that_was_just_posted_still_leaves_with_all_behind_it() {
    over_both(|address| {
        let (servers, clients) = (
            engine(),
            engine_with(Options::default().drain_timeout(NEVER)),
        );
        let mut server = servers.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let client = clients.group().unwrap();
        let channel = client
            .post(Message::hello_request(&address))
            .unwrap()
            .channel;
        for number in 0..100 {
            client.post(numbered(channel, number, 100)).unwrap();
        }
        drop(client);
        message_of(&mut server, OpCode::HelloRequest);
        for number in 0..100 {
            assert_eq!(number_of(&message_of(&mut server, OpCode::Signal)), number);
        }
        let (_, reason) = closed(&mut server);
        assert_eq!(reason.status(), tofu::Status::PEER_DISCONNECTED);
        watched("dropping the engine", || drop(clients));
    });
}

#[test]
fn a_drain_timeout_of_zero_closes_at_once() {
    over_both(|address| {
        let engine = engine_with(roomy().drain_timeout(Duration::ZERO));
        let (server, channel, mut raw) = narrow_pair(&engine, address);
        let posted = post_until_queued(&server, channel, &engine, 16 << 20);
        drop(server);
        watched("dropping the engine", || drop(engine));
        assert!(count_to_the_end(&mut raw) < posted);
    });
}

#[test]
fn abort_closes_at_once_whatever_the_drain_timeout() {
    over_both(|address| {
        let engine = engine_with(roomy().drain_timeout(NEVER));
        let (server, channel, mut raw) = narrow_pair(&engine, address);
        let posted = post_until_queued(&server, channel, &engine, 16 << 20);
        let late = server.poster();
        server.abort();
        let refused = late.post(Message::signal(channel)).unwrap_err();
        assert_eq!(refused.refusal(), &Refusal::ShutdownStarted);
        watched("dropping the engine", || drop(engine));
        assert!(count_to_the_end(&mut raw) < posted);
    });
}

#[test]
fn a_stalled_peer_does_not_hold_a_drop_beyond_the_drain_timeout() {
    over_both(|address| {
        let engine = engine_with(roomy().drain_timeout(Duration::from_millis(50)));
        let (server, channel, mut raw) = narrow_pair(&engine, address);
        let posted = post_until_queued(&server, channel, &engine, 16 << 20);
        drop(server);
        watched("dropping the engine", || drop(engine));
        assert!(count_to_the_end(&mut raw) < posted);
    });
}

/// Everything has left, but the peer never closes.
#[test]
fn a_peer_that_stays_does_not_hold_a_drop_beyond_the_drain_timeout() {
    over_both(|address| {
        let engine = engine_with(Options::default().drain_timeout(Duration::from_millis(50)));
        let mut p = raw_pair(&engine, address);
        p.server.post(numbered(p.at_server, 0, 10)).unwrap();
        drop(p.server);
        assert_eq!(count_to_the_end(&mut p.raw), 1);
        watched("dropping the engine", || drop(engine));
    });
}

/// A peer that talks on and on does not keep a group that nobody listens to any more.
#[test]
fn a_peer_that_goes_on_sending_does_not_hold_a_drop() {
    over_both(|address| {
        let options = Options::default()
            .pool_messages(1, 4)
            .drain_timeout(Duration::from_millis(50));
        let engine = engine_with(options);
        let mut p = raw_pair(&engine, address);
        let sender = Watched::start(move || {
            let bytes = frame(&numbered(ChannelNumber::new(1), 0, 10_000));
            while p.raw.try_write(&bytes).is_ok() {}
        });
        eventually("the pool is empty", || engine.metrics().pool_empty > 0);
        drop(p.server);
        watched("dropping the engine", || drop(engine));
        sender.join("sending");
    });
}

#[test]
fn a_dropped_group_gives_its_unread_messages_back_to_the_pool() {
    over_both(|address| {
        let engine = engine_with(Options::default().pool_messages(1, 4));
        let mut p = raw_pair(&engine, address);
        for number in 0..10 {
            p.raw.send(&numbered(ChannelNumber::new(1), number, 10));
        }
        eventually("the pool is empty", || engine.metrics().pool_empty > 0);
        drop(p.server);
        eventually("the pool is full", || {
            engine.metrics().pool_messages_out == 0
        });
        drop(p.raw);
        eventually("all is closed", || engine.metrics().channels_open == 0);
        let mut p = pair(&engine, address);
        p.client.post(numbered(p.at_client, 0, 10)).unwrap();
        assert_eq!(number_of(&message(&mut p.server)), 0);
    });
}

#[test]
fn posters_of_a_dropped_group_are_refused_and_get_their_message_back() {
    over_both(|address| {
        let engine = engine();
        let p = pair(&engine, address);
        let poster = p.client.poster();
        let posting = Watched::start({
            let poster = poster.clone();
            let channel = p.at_client;
            move || {
                loop {
                    if let Err(refused) = poster.post(numbered(channel, 7, 10)) {
                        return refused;
                    }
                }
            }
        });
        drop(p.server);
        drop(p.client);
        let refused = posting.join("posting");
        // The other group may have gone first.
        assert!(
            matches!(
                refused.refusal(),
                Refusal::ShutdownStarted
                    | Refusal::InvalidChannelNumber(_)
                    | Refusal::ChannelClosing(_)
                    | Refusal::QueueFull { .. }
            ),
            "{refused}"
        );
        assert_eq!(refused.into_message(), numbered(p.at_client, 7, 10));

        watched("dropping the engine", move || drop(engine));
        for message in [
            Message::signal(p.at_client),
            Message::bye_signal(p.at_client),
            Message::hello_request(&p.address),
            Message::welcome_request(&p.address),
        ] {
            let refused = poster.post(message.clone()).unwrap_err();
            assert_eq!(refused.refusal(), &Refusal::ShutdownStarted);
            assert_eq!(refused.into_message(), message);
        }
        poster.notify(Some(Message::signal(p.at_client)));
    });
}

#[test]
fn messages_outlive_their_engine() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        for number in 0..10 {
            p.client.post(numbered(p.at_client, number, 100)).unwrap();
        }
        let received: Vec<_> = (0..10).map(|_| message(&mut p.server)).collect();
        let made = engine.message().with_body("made");
        watched("dropping everything else", move || {
            drop(p);
            drop(engine);
        });
        for (number, message) in received.iter().enumerate() {
            assert_eq!(number_of(message), number);
        }
        watched("dropping the messages", move || {
            assert_eq!(made.body(), b"made");
            drop(received);
        });
    });
}

/// Two that drain against each other do not wait for each other.
#[test]
fn two_ends_dropped_at_once_do_not_wait_for_each_other() {
    over_both(|address| {
        let options = || Options::default().drain_timeout(NEVER);
        let (servers, clients) = (engine_with(options()), engine_with(options()));
        let p = pair_between(&servers, &clients, address);
        for number in 0..100 {
            p.client
                .post(numbered(p.at_client, number, 10_000))
                .unwrap();
            p.server
                .post(numbered(p.at_server, number, 10_000))
                .unwrap();
        }
        let (server, client) = (p.server, p.client);
        let ends = [
            Watched::start(move || drop((server, servers))),
            Watched::start(move || drop((client, clients))),
        ];
        for end in ends {
            end.join("dropping one end");
        }
    });
}

/// A thread that posts while the group is dropped: what was taken arrives, the rest is refused.
#[test]
fn what_is_taken_while_the_group_is_dropped_arrives() {
    for _ in 0..100 {
        let engine = engine_with(Options::default().drain_timeout(WATCHDOG));
        let other = engine_with(Options::default());
        let p = pair_between(&other, &engine, &loopback());
        let (mut server, client, channel) = (p.server, p.client, p.at_client);
        let poster = client.poster();
        let posting = Watched::start(move || {
            let mut taken = 0;
            loop {
                match poster.post(Message::signal(channel)) {
                    Ok(_) => taken += 1,
                    Err(refused) => match refused.refusal() {
                        Refusal::QueueFull { .. } => std::thread::yield_now(),
                        _ => return taken,
                    },
                }
            }
        });
        message_of(&mut server, OpCode::Signal);
        drop(client);
        let heard = watched("receiving", move || {
            let mut heard = 1;
            loop {
                match server.recv().expect("not shutting down") {
                    Event::Message(_) => heard += 1,
                    Event::Closed { .. } => return heard,
                    _ => {}
                }
            }
        });
        assert_eq!(heard, posting.join("posting"));
    }
}
