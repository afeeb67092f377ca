//! Dropping engines, groups, posters and messages in any order and on any thread leaves nothing
//! behind: no thread, no descriptor, no socket file.
//!
//! What is counted belongs to the whole process, so this file has one test.

#![cfg(target_os = "linux")]

mod support;

use std::{fs, thread};

use support::*;
use tofu::{Address, Message, OpCode, Options};

fn count(what: &str) -> usize {
    fs::read_dir(format!("/proc/self/{what}"))
        .expect("Linux")
        .count()
}

/// Something that is dropped.
type Part = Box<dyn Send>;

/// An engine in the middle of its work, in parts.
fn parts(address: &Address) -> Vec<Part> {
    let engine = engine_with(Options::default().drain_timeout(std::time::Duration::from_secs(5)));
    let mut p = pair(&engine, address);
    let poster = p.client.poster();
    for number in 0..20 {
        let small = numbered(p.at_client, number, 100);
        poster.post(small).expect("posted");
    }
    let large = numbered(p.at_server, 0, 60_000);
    p.server.post(large).expect("posted");
    let received = message_of(&mut p.server, OpCode::Signal);
    let half_open = Raw::connect(&p.address);
    // A name, which is looked up on a thread of its own.
    let named = Address::tcp("localhost", 1).expect("an address");
    p.client
        .post(Message::hello_request(&named))
        .expect("posted");
    vec![
        Box::new(engine.clone()),
        Box::new(engine),
        Box::new((p.server, half_open)),
        Box::new(p.client),
        Box::new(poster),
        Box::new(received),
    ]
}

/// The nth order of so many parts.
fn ordered(mut parts: Vec<Part>, mut nth: usize) -> Vec<Part> {
    let mut ordered = Vec::new();
    while !parts.is_empty() {
        let next = nth % parts.len();
        nth /= parts.len();
        ordered.push(parts.remove(next));
    }
    ordered
}

#[test]
fn every_order_of_dropping_leaves_nothing_behind() {
    // One round before counting, for what the process makes once.
    over_both(|address| watched("a first round", drop_all(parts(address), 0)));
    let before = (count("task"), count("fd"));
    for nth in (0..720).step_by(7) {
        over_both(|address| {
            let work = drop_all(parts(address), nth);
            watched("dropping", work);
        });
    }
    let mut after = (0, 0);
    // A thread that looks a name up may still be on its way out.
    eventually(&format!("back to {before:?}"), || {
        after = (count("task"), count("fd"));
        after == before
    });
}

/// Drops all in the nth order: some one by one, some each on a thread of its own.
fn drop_all(parts: Vec<Part>, nth: usize) -> impl FnOnce() + Send + 'static {
    let parts = ordered(parts, nth);
    move || {
        if nth.is_multiple_of(2) {
            for part in parts {
                drop(part);
            }
            return;
        }
        let droppers: Vec<_> = parts
            .into_iter()
            .map(|part| thread::spawn(move || drop(part)))
            .collect();
        for dropper in droppers {
            dropper.join().expect("no panic");
        }
    }
}
