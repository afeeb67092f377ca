//! Whoever leaves work for a driver is heard, whatever that driver is doing: waking for something else,
//! having no use for a message any more, or being gone.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use support::*;
use tofu::{Event, Message, OpCode, Options, Status, testing::TemporaryUds};

/// A thread sleeps in `recv`. Its socket and another thread's hello wake it at the same moment; it
/// takes what the socket said and does not come back. The hello is posted all the same.
#[test]
fn work_left_while_a_driver_wakes_for_its_socket_is_done() {
    for _ in 0..100 {
        let engine = engine();
        let mut p = raw_pair(&engine, &loopback());
        let (listener, address) = RawListener::bind(&loopback());
        let poster = p.server.poster();
        let receiver = Watched::start(move || {
            message_of(&mut p.server, OpCode::Signal);
            p.server
        });
        let start = Arc::new(AtomicBool::new(false));
        let posting = {
            let start = Arc::clone(&start);
            thread::spawn(move || {
                while !start.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
                poster
                    .post(Message::hello_request(&address))
                    .expect("posted");
            })
        };
        start.store(true, Ordering::Release);
        p.raw.send(&Message::signal(p.at_server).with_id(1));
        let _group = receiver.join("receiving");
        posting.join().expect("posted");
        // Nobody is in recv, and nobody comes back.
        let hello = watched("connecting", move || listener.accept().recv());
        assert_eq!(hello.op_code(), OpCode::HelloRequest);
    }
}

/// Two groups wait for a message of the pool. The first one is dropped, and its poster lives on: the
/// message that comes back is for the second one.
#[test]
fn a_group_that_is_gone_does_not_swallow_the_pools_call() {
    let engine = engine_with(Options::default().pool_messages(0, 1));
    let held = engine.try_message().expect("the one of the pool");
    let (mut first, mut second) = (engine.group().unwrap(), engine.group().unwrap());
    let poster = first.poster();
    let _raws: Vec<_> = [&mut first, &mut second]
        .into_iter()
        .map(|group| {
            let (address, _) = listen(group, &loopback());
            let raw = Raw::hello(&address);
            assert!(matches!(next(group), Event::PoolEmpty));
            raw
        })
        .collect();
    drop(first);
    // Only the second one's listener and connection are left.
    eventually("the first one is gone", || {
        engine.metrics().channels_open == 2
    });
    let receiving = Watched::start(move || {
        message_of(&mut second, OpCode::HelloRequest);
        second
    });
    drop(held);
    receiving.join("receiving");
    drop(poster);
}

#[test]
fn a_message_given_to_notify_after_the_end_goes_back_to_the_pool() {
    let engine = engine();
    let group = engine.group().unwrap();
    let poster = group.poster();
    drop(group);
    poster.notify(Some(engine.message()));
    assert_eq!(engine.metrics().pool_messages_out, 0);
}

/// Of two deadlines the earlier one holds, whichever came first.
#[test]
fn a_close_and_a_shutdown_do_not_wait_for_each_others_deadlines() {
    const LONG: Duration = Duration::from_secs(3_600);
    const SHORT: Duration = Duration::from_millis(50);
    for (close, shutdown) in [(LONG, SHORT), (SHORT, LONG)] {
        let engine = engine_with(Options::default().bye_timeout(LONG));
        let mut p = raw_pair(&engine, &loopback());
        let server = p.server;
        let closing = Watched::start(move || server.close(close));
        assert_eq!(p.raw.recv().op_code(), OpCode::ByeRequest);
        watched("shutting down", move || engine.shutdown(shutdown));
        let report = closing.join("closing");
        assert!(!report.is_clean());
    }
}

/// The driver writes a bye of its own, and learns that the peer reads no more. No readiness tells it.
#[test]
fn a_socket_that_breaks_while_the_driver_writes_is_closed() {
    const LONG: Duration = Duration::from_secs(3_600);
    let dir = TemporaryUds::new().unwrap();
    let engine = engine_with(Options::default().bye_timeout(LONG));
    let mut p = raw_pair(&engine, &dir.address("test.sock"));
    let only_read = std::net::Shutdown::Read;
    p.raw.socket().shutdown(only_read).unwrap();
    // What readiness that makes is seen to before there is anything to write.
    quiet(&mut p.server);
    let (server, channel) = (p.server, p.at_server);
    let report = watched("closing", move || server.close(LONG));
    let reason = report.closed.iter().find(|(closed, _)| *closed == channel);
    let (_, reason) = reason.expect("it is closed");
    assert_eq!(reason.status(), Status::PEER_DISCONNECTED, "{reason}");
}

/// The answer to a peer that reset the connection waits in a queue that never moves again. It does not
/// keep the only message of the pool, for which the end of that channel waits.
#[test]
fn an_answer_that_cannot_leave_does_not_keep_the_pools_message() {
    for _ in 0..20 {
        let engine = engine_with(Options::default().pool_messages(0, 1));
        let mut group = engine.group().unwrap();
        let (address, _) = listen(&mut group, &loopback());
        let mut raw = Raw::hello(&address);
        raw.send(&Message::signal(tofu::ChannelNumber::UNASSIGNED).with_id(2));
        let hello = message_of(&mut group, OpCode::HelloRequest);
        raw.reset();
        // Refused or queued: the channel may be known to be gone already.
        let _ = group.post(hello.into_reply().unwrap());
        while !matches!(next(&mut group), Event::Closed { .. }) {}
        assert_eq!(engine.metrics().pool_messages_out, 0);
    }
}
