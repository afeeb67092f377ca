//! A peer that goes away is an event, and no signal: SIGPIPE would end a process that has not been told to
//! ignore it, as every Rust program has, but not every program that a Rust library is part of.

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use support::*;
use tofu::{Event, Message};

#[test]
fn a_peer_that_goes_away_raises_no_sigpipe() {
    let raised = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGPIPE, Arc::clone(&raised)).unwrap();
    over_both(|address| {
        for posts in [1, 5] {
            let engine = engine();
            let mut p = raw_pair(&engine, address);
            p.raw.shut_down();
            drop(p.raw);
            // Until the engine has seen it. The first one leaves at once, the others in one write.
            while (0..posts).all(|_| p.server.post(Message::signal(p.at_server)).is_ok()) {}
            while !matches!(next_of_channel(&mut p.server), Event::Closed { .. }) {}
        }
    });
    assert!(!raised.load(Ordering::Relaxed), "SIGPIPE was raised");
}
