//! Messages posted close to each other leave together, and none is forgotten: not the last of a burst
//! after which the application does something else, and not when another thread sleeps in `recv`.

mod support;

use std::{sync::mpsc, thread};

use support::*;
use tofu::{Event, Message, OpCode, Options};

/// Bursts of every small length, each followed by silence.
const BURSTS: usize = 200;

fn post_burst(post: impl Fn(Message), channel: tofu::ChannelNumber, burst: usize) {
    for number in 0..=burst % 5 {
        post(numbered(channel, number, 10));
    }
}

fn read_burst(raw: &mut Raw, burst: usize) {
    for number in 0..=burst % 5 {
        assert_eq!(number_of(&raw.recv()), number, "burst {burst}");
    }
}

#[test]
fn the_last_message_of_a_burst_leaves_though_nobody_receives() {
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        for burst in 0..BURSTS {
            let post = |message| assert!(p.server.post(message).is_ok());
            post_burst(post, p.at_server, burst);
            read_burst(&mut p.raw, burst);
        }
    });
}

#[test]
fn the_last_message_of_a_burst_leaves_though_the_receiver_sleeps() {
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        let poster = p.server.poster();
        let mut server = p.server;
        let receiver = thread::spawn(move || {
            message_of(&mut server, OpCode::Signal);
            server
        });
        for burst in 0..BURSTS {
            let post = |message| assert!(poster.post(message).is_ok());
            post_burst(post, p.at_server, burst);
            read_burst(&mut p.raw, burst);
        }
        p.raw.send(&Message::signal(p.at_server).with_id(1));
        receiver.join().expect("the receiver");
    });
}

#[test]
fn a_receiver_that_comes_and_goes_loses_no_burst() {
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        for burst in 0..BURSTS {
            // The application is told something, says something, and goes away for as long as the
            // peer takes to read it.
            p.raw.send(&Message::signal(p.at_server).with_id(1));
            message_of(&mut p.server, OpCode::Signal);
            let post = |message| assert!(p.server.post(message).is_ok());
            post_burst(post, p.at_server, burst);
            read_burst(&mut p.raw, burst);
        }
    });
}

#[test]
fn many_threads_post_into_one_group_and_each_ones_order_is_kept() {
    const THREADS: usize = 8;
    const EACH: usize = 2_000;
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        let (done, all_done) = mpsc::channel();
        for thread in 0..THREADS {
            let (poster, channel, done) = (p.client.poster(), p.at_client, done.clone());
            thread::spawn(move || {
                for number in 0..EACH {
                    let message =
                        numbered(channel, number, 10).with_header("thread", thread.to_string());
                    poster.post(message).expect("posted");
                }
                done.send(()).expect("heard");
            });
        }
        let mut next_of = [0; THREADS];
        for _ in 0..THREADS * EACH {
            let message = loop {
                match next(&mut p.server) {
                    Event::Message(message) => break message,
                    // The keeper reads on while this thread waits for a core.
                    Event::PoolEmpty => {}
                    other => panic!("{other:?}"),
                }
            };
            let thread = message.header("thread").expect("it says");
            let thread: usize = thread.parse().expect("a number");
            assert_eq!(number_of(&message), next_of[thread]);
            next_of[thread] += 1;
        }
        assert_eq!(all_done.iter().take(THREADS).count(), THREADS);
    });
}

/// The peer reads, and the socket takes everything: what waits for company must not fill the queue.
#[test]
fn what_only_waits_for_others_keeps_nothing_out() {
    const BOUND: usize = 140_000;
    over_both(|address| {
        let engine = engine_with(Options::default().queue_bytes(BOUND, 8 * BOUND));
        let mut p = raw_pair(&engine, address);
        for round in 0..50 {
            // Small ones gather, and the large one does not fit beside them.
            let first = round * 7;
            for number in first..first + 6 {
                let posted = p.server.post(numbered(p.at_server, number, 4_000));
                posted.expect("small ones fit");
            }
            let large =
                numbered(p.at_server, first + 6, 60_000).with_header("k", "v".repeat(60_000));
            p.server.post(large).expect("the socket has room");
            for number in first..first + 7 {
                assert_eq!(number_of(&p.raw.recv()), number);
            }
        }
    });
}
