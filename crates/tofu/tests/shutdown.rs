//! Closing a group or a whole engine gracefully: bye everywhere, within the deadline, with a report
//! that leaves nothing out; and nobody waits for what never comes any more.

mod support;

use std::time::Duration;

use support::*;
use tofu::{
    ChannelGroup, ChannelNumber, CloseReport, Event, Message, OpCode, Options, Poster, RecvError,
    Refusal, Status,
};

/// Longer than any test may take: what needs it all fails.
const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(50);

/// Answers every bye until its one channel is closed. Gives how many other messages it heard.
fn serve(group: &mut ChannelGroup, mut hear: impl FnMut(&Message)) -> usize {
    let mut heard = 0;
    loop {
        match next_of_channel(group) {
            Event::Message(message) if message.op_code() == OpCode::ByeRequest => {
                let answer = message.into_reply().expect("a bye");
                group.post(answer).expect("posted");
            }
            Event::Message(message) => {
                hear(&message);
                heard += 1;
            }
            Event::Closed { reason, .. } => {
                assert_eq!(reason.status(), Status::CHANNEL_CLOSED);
                return heard;
            }
            other => panic!("not due: {other:?}"),
        }
    }
}

#[track_caller]
fn assert_clean(report: &CloseReport, channels: usize) {
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.closed.len(), channels, "{report:?}");
}

#[test]
fn a_group_closed_against_a_cooperative_peer_reports_that_nothing_was_lost() {
    over_both(|address| {
        let (servers, clients) = (engine(), engine());
        let mut p = pair_between(&servers, &clients, address);
        for number in 0..1_000 {
            p.client.post(numbered(p.at_client, number, 1_000)).unwrap();
        }
        let client = p.client;
        let closing = Watched::start(move || client.close(LONG));
        let mut numbers = Vec::new();
        serve(&mut p.server, |message| numbers.push(number_of(message)));
        assert!(numbers.into_iter().eq(0..1_000));
        let report = closing.join("closing");
        assert_clean(&report, 1);
        assert_eq!(
            report.closed,
            [(p.at_client, Status::CHANNEL_CLOSED.into())]
        );

        // The group with the listener: it has nobody to say bye to any more.
        let server = p.server;
        let report = watched("closing the listener", move || server.close(LONG));
        assert_clean(&report, 1);
        assert_eq!(servers.metrics().channels_open, 0);
    });
}

/// The answer to our bye stands behind more messages than the pool has.
#[test]
fn a_closing_group_gets_through_more_unread_messages_than_the_pool_has() {
    over_both(|address| {
        let (servers, clients) = (
            engine(),
            engine_with(Options::default().pool_messages(0, 4)),
        );
        let mut p = pair_between(&servers, &clients, address);
        for number in 0..100 {
            p.server.post(numbered(p.at_server, number, 10)).unwrap();
        }
        eventually("the pool is empty", || clients.metrics().pool_empty > 0);
        let client = p.client;
        let closing = Watched::start(move || client.close(LONG));
        serve(&mut p.server, |_| ());
        let report = closing.join("closing");
        let numbers = report.unread.iter().map(number_of);
        assert!(numbers.eq(0..100));
        assert_eq!(
            report.closed,
            [(p.at_client, Status::CHANNEL_CLOSED.into())]
        );
        drop(report);
        // The group's part of the pool goes back when the engine's thread is done with the group.
        eventually("all messages are back", || {
            clients.metrics().pool_messages_out == 0
        });
    });
}

#[test]
fn a_closing_group_answers_the_byes_of_its_peers() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        // Before the close, and at the same time.
        let mut other = engine.group().unwrap();
        let hello = other.post(Message::hello_request(&p.address)).unwrap();
        message_of(&mut p.server, OpCode::HelloRequest);
        p.client.post(Message::bye_request(p.at_client)).unwrap();
        message_of(&mut p.server, OpCode::ByeRequest);
        other.post(Message::bye_request(hello.channel)).unwrap();
        let server = p.server;
        let closing = Watched::start(move || server.close(LONG));
        message_of(&mut p.client, OpCode::ByeResponse);
        closed_with(&mut p.client, p.at_client, Status::CHANNEL_CLOSED);
        serve(&mut other, |message| {
            assert_eq!(message.op_code(), OpCode::ByeResponse);
        });
        let report = closing.join("closing");
        assert_clean(&report, 3);
    });
}

#[test]
fn the_report_lists_what_a_stalled_peer_did_not_take_and_what_nobody_read() {
    over_both(|address| {
        let engine = engine();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let mut raw = Raw::hello_narrow(&address);
        let channel = message_of(&mut server, OpCode::HelloRequest).channel();
        let posted = post_until_queued(&server, channel, &engine, 1 << 20);
        for number in 0..3 {
            raw.send(&numbered(channel, number, 10));
        }
        server.notify(Some(numbered(channel, 3, 10)));
        server.notify(None);
        eventually("the three have come", || {
            engine.metrics().pool_messages_out >= 3
        });

        let report = watched("closing", move || server.close(SHORT));
        assert!(!report.is_clean());
        let mut unread: Vec<_> = report.unread.iter().map(number_of).collect();
        unread.sort_unstable();
        assert_eq!(unread, [0, 1, 2, 3]);
        let undelivered: Vec<_> = report
            .undelivered
            .iter()
            .map(|message| {
                assert_eq!(message.status(), Status::BYE_TIMEOUT);
                number_of(message)
            })
            .collect();
        assert!(!undelivered.is_empty());
        let first = posted - undelivered.len();
        assert!(undelivered.into_iter().eq(first..posted));
        let mut closed = report.closed.iter().map(|(_, reason)| reason.status());
        assert_eq!(closed.next(), Some(Status::CHANNEL_CLOSED), "the listener");
        assert_eq!(closed.next(), Some(Status::BYE_TIMEOUT), "the channel");
        assert_eq!(closed.next(), None);
        assert_eq!(engine.metrics().channels_open, 0);
        assert!(frames_in(&raw.read_to_end()).len() <= first);
    });
}

/// What a peer would have to say or do never comes, on channels in all conditions.
#[test]
fn no_peer_can_hold_a_close_beyond_its_deadline() {
    over_both(|address| {
        let engine = engine();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let silent = Raw::connect(&address);
        let mut half = Raw::connect(&address);
        half.write(&frame(&Message::hello_request(&address).with_id(1))[..20]);
        let mut peers = Vec::new();
        for said_bye in [false, true] {
            let mut raw = Raw::hello(&address);
            let hello = message_of(&mut server, OpCode::HelloRequest);
            if said_bye {
                raw.send(&Message::bye_request(hello.channel()).with_id(2));
                message_of(&mut server, OpCode::ByeRequest);
            }
            peers.push(raw);
        }
        let left = Raw::hello(&address);
        message_of(&mut server, OpCode::HelloRequest);
        drop(left);
        let report = watched("closing", move || server.close(SHORT));
        // Those that never said hello are not in it.
        assert_eq!(report.closed.len(), 4, "{report:?}");
        assert_eq!(engine.metrics().channels_open, 0);
        assert_eq!(engine.metrics().half_open, 0);
        drop((silent, half));
    });
}

/// Posts until it is refused. Gives how many were taken, and why the next was not.
fn post_on_and_on(poster: &Poster, channel: ChannelNumber) -> (usize, Refusal) {
    let mut taken = 0;
    loop {
        match poster.post(Message::signal(channel).with_body("again")) {
            Ok(_) => taken += 1,
            Err(refused) => match refused.refusal() {
                Refusal::QueueFull { .. } => std::thread::yield_now(),
                other => return (taken, other.clone()),
            },
        }
    }
}

#[test]
fn shutting_down_wakes_everyone_and_refuses_everything() {
    over_both(|address| {
        let (servers, clients) = (engine(), engine());
        let mut pairs: Vec<_> = (0..3)
            .map(|number| {
                let address = match address.path() {
                    Some(path) => tofu::Address::uds(format!("{path}{number}")).unwrap(),
                    None => address.clone(),
                };
                pair_between(&servers, &clients, &address)
            })
            .collect();
        let last = pairs.pop().unwrap();
        let mut waiting = Vec::new();
        let mut posting = Vec::new();
        let mut peers = Vec::new();
        for mut p in pairs {
            let (poster, channel) = (p.server.poster(), p.at_server);
            posting.push(Watched::start(move || post_on_and_on(&poster, channel)));
            waiting.push(Watched::start(move || {
                loop {
                    if let Err(error) = p.server.recv() {
                        return (error, p.server);
                    }
                }
            }));
            peers.push(Watched::start(move || serve(&mut p.client, |_| ())));
        }
        eventually("they post and receive", || {
            clients.metrics().pool_messages_out > 0
        });

        let report = watched("shutting down", {
            let servers = servers.clone();
            let mut client = last.client;
            peers.push(Watched::start(move || serve(&mut client, |_| ())));
            move || servers.shutdown(LONG)
        });
        assert_clean(&report, 6);
        for thread in waiting {
            let (error, mut server) = thread.join("recv");
            assert_eq!(error, RecvError);
            assert_eq!(server.try_recv().unwrap_err(), RecvError);
            let refused = server.post(Message::hello_request(&last.address));
            assert_eq!(refused.unwrap_err().refusal(), &Refusal::ShutdownStarted);
        }
        // Everything that was taken arrived.
        let posted: Vec<_> = posting
            .into_iter()
            .map(|thread| {
                let (posted, refusal) = thread.join("posting");
                assert_eq!(refusal, Refusal::ShutdownStarted);
                posted
            })
            .collect();
        let heard: Vec<_> = peers
            .into_iter()
            .map(|thread| thread.join("the peers"))
            .collect();
        assert_eq!(heard[..2], posted);

        assert!(servers.group().is_err());
        let again = watched("shutting down again", {
            let servers = servers.clone();
            move || servers.shutdown(LONG)
        });
        assert_clean(&again, 0);
        assert_eq!(servers.metrics().channels_open, 0);
        drop(last.server);
        watched("dropping the engine", || drop(servers));
    });
}

/// Whoever waits in `recv` is woken, and what is left for the group then is not forgotten.
#[test]
fn a_group_in_recv_is_shut_down_at_once_and_every_time() {
    for _ in 0..200 {
        let engine = engine();
        let mut p = pair(&engine, &loopback());
        let servers = Watched::start(move || {
            while p.server.recv().is_ok() {}
            p.server
        });
        let clients = Watched::start(move || {
            while p.client.recv().is_ok() {}
            p.client
        });
        let report = watched("shutting down", move || engine.shutdown(LONG));
        assert_clean(&report, 3);
        drop((servers.join("recv"), clients.join("recv")));
    }
}

/// An application that does not take the error for an answer does not stand in the way.
#[test]
fn a_group_that_goes_on_asking_is_shut_down_all_the_same() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        let asking = Watched::start(move || {
            while is_done.try_recv().is_err() {
                let _ = p.server.try_recv();
                let _ = p.client.recv_timeout(Duration::from_micros(10));
            }
        });
        let report = watched("shutting down", move || engine.shutdown(LONG));
        // What it was told before, it was told.
        assert!(report.undelivered.is_empty());
        done.send(()).unwrap();
        asking.join("asking");
    });
}

#[test]
fn two_engines_shut_down_against_each_other() {
    for _ in 0..20 {
        over_both(|address| {
            let (servers, clients) = (engine(), engine());
            let p = pair_between(&servers, &clients, address);
            for number in 0..50 {
                p.server.post(numbered(p.at_server, number, 100)).unwrap();
                p.client.post(numbered(p.at_client, number, 100)).unwrap();
            }
            let ends = [(servers, 2), (clients, 1)].map(|(engine, channels)| {
                let shutting_down = Watched::start(move || engine.shutdown(LONG));
                (shutting_down, channels)
            });
            for (end, channels) in ends {
                let report = end.join("shutting down");
                assert!(report.undelivered.is_empty(), "{report:?}");
                // All was received by an engine that had stopped to hand it out.
                let numbers = report
                    .unread
                    .iter()
                    .filter(|message| message.op_code() == OpCode::Signal)
                    .map(number_of);
                assert!(numbers.eq(0..50));
                assert_eq!(report.closed.len(), channels);
                for (_, reason) in &report.closed {
                    assert_eq!(reason.status(), Status::CHANNEL_CLOSED);
                }
            }
        });
    }
}

#[test]
fn a_shutdown_is_over_at_its_deadline_whatever_peers_do() {
    over_both(|address| {
        let engine = engine_with(Options::default().bye_timeout(LONG));
        let p = raw_pair(&engine, address);
        let mut waiting = engine.group().unwrap();
        let waiting = Watched::start(move || waiting.recv().unwrap_err());
        let (poster, channel) = (p.server.poster(), p.at_server);
        let report = watched("shutting down", {
            let engine = engine.clone();
            move || engine.shutdown(SHORT)
        });
        assert_eq!(waiting.join("recv"), RecvError);
        assert!(!report.is_clean());
        assert_eq!(report.closed.len(), 2);
        let refused = poster.post(Message::signal(channel)).unwrap_err();
        assert_eq!(refused.refusal(), &Refusal::ShutdownStarted);
        assert_eq!(engine.metrics().channels_open, 0);
        drop(p);
        watched("dropping the engine", || drop(engine));
    });
}

#[test]
fn an_engine_shuts_down_while_one_of_its_groups_closes() {
    over_both(|address| {
        let engine = engine();
        let p = raw_pair(&engine, address);
        let server = p.server;
        let closing = Watched::start(move || server.close(LONG));
        eventually("the listener is closed", || {
            engine.metrics().channels_open == 1
        });
        let report = watched("shutting down", {
            let engine = engine.clone();
            move || engine.shutdown(SHORT)
        });
        let closed = closing.join("closing");
        assert_eq!(report.closed.len() + closed.closed.len(), 2);
    });
}

/// What a thread does that is woken with an error: it lets go of its group, while others still say bye.
#[test]
fn a_group_dropped_while_its_engine_shuts_down_still_says_bye_and_is_reported() {
    over_both(|address| {
        let (servers, clients) = (engine(), engine());
        let mut p = pair_between(&servers, &clients, address);
        let shutting_down = Watched::start(move || clients.shutdown(LONG));
        let mut client = p.client;
        while client.recv().is_ok() {}
        drop(client);
        serve(&mut p.server, |_| ());
        assert_clean(&shutting_down.join("shutting down"), 1);
    });
}

/// The peer that is to answer the bye may depend on another group of the engine.
#[test]
fn a_closing_group_keeps_no_messages_from_the_other_groups() {
    over_both(|address| {
        let (servers, clients) = (
            engine(),
            engine_with(Options::default().pool_messages(0, 2)),
        );
        let mut p = pair_between(&servers, &clients, address);
        let mut other = pair_between(&servers, &clients, &loopback());
        for number in 0..10 {
            p.server.post(numbered(p.at_server, number, 10)).unwrap();
        }
        eventually("the pool is empty", || clients.metrics().pool_empty > 0);
        let client = p.client;
        let closing = Watched::start(move || client.close(LONG));
        let bye = message_of(&mut p.server, OpCode::ByeRequest);
        other.server.post(numbered(other.at_server, 7, 10)).unwrap();
        let Event::Message(message) = next_of_channel(&mut other.client) else {
            panic!("a message was posted");
        };
        assert_eq!(number_of(&message), 7);
        p.server.post(bye.into_reply().unwrap()).unwrap();
        let report = closing.join("closing");
        assert_eq!(report.unread.len(), 10);
    });
}

/// Nobody told the keeper, if it had nothing but the group's poller to go by: the engine waited for the group as
/// long as it may, and was never freed.
#[test]
fn a_shutdown_without_patience_ends_a_group_in_which_a_thread_slept() {
    for _ in 0..20 {
        watched("shutting down, and dropping the engine", || {
            let engine = engine_with(Options::default().drain_timeout(LONG));
            let mut group = engine.group().unwrap();
            let (ready, is_ready) = std::sync::mpsc::channel();
            let receiver = std::thread::spawn(move || {
                group.notify(None);
                assert!(matches!(group.recv(), Ok(Event::Notified(None))));
                ready.send(()).unwrap();
                assert!(matches!(group.recv(), Err(RecvError)));
            });
            is_ready.recv().unwrap();
            assert!(engine.shutdown(Duration::ZERO).is_clean());
            receiver.join().unwrap();
        });
    }
}
