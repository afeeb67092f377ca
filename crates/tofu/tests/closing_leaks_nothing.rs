//! An engine whose groups have closed ends with its last handle, and leaves nothing behind.
//!
//! What is counted belongs to the whole process, so this file has one test.

#![cfg(target_os = "linux")]

mod support;

use std::{fs, net::Shutdown, time::Duration};

use support::*;
use tofu::{Options, testing::TemporaryUds};

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("Linux").count()
}

/// Closing is over before the keeper has heard of it: the peer is gone, and the first turn finds that.
fn close_at_once() {
    const LONG: Duration = Duration::from_secs(3_600);
    let dir = TemporaryUds::new().expect("a directory");
    let engine = engine_with(Options::default().bye_timeout(LONG));
    let mut p = raw_pair(&engine, &dir.address("test.sock"));
    p.raw.socket().shutdown(Shutdown::Read).expect("connected");
    quiet(&mut p.server);
    let report = p.server.close(LONG);
    assert!(!report.closed.is_empty());
}

#[test]
fn an_engine_whose_group_has_closed_leaves_nothing_behind() {
    watched("a first round", close_at_once);
    let before = descriptors();
    // Who is faster, the keeper or the caller, differs.
    watched("some more rounds", || (0..40).for_each(|_| close_at_once()));
    eventually("all descriptors are closed", || descriptors() == before);
}
