//! Some seeds keep every promise, and between them come everywhere; and a seed is always the same run.

use std::{collections::BTreeSet, process::Command};

use tofu_sim::{Faults, KINDS, Report, Scenario};

const SEEDS: u64 = 60;

fn run(seed: u64) -> Report {
    let scenario = Scenario::new(seed);
    match scenario.run() {
        Ok(report) => report,
        Err(failure) => {
            let failure = scenario.run_reduced().err().unwrap_or(failure);
            panic!("{failure}")
        }
    }
}

#[test]
fn every_seed_keeps_every_promise_and_every_end_is_reached() {
    let mut ends = BTreeSet::new();
    let (mut delivered, mut returned, mut queue_full, mut pool_empty, mut gentle) = (0, 0, 0, 0, 0);
    for seed in 0..SEEDS {
        let report = run(seed);
        delivered += report.delivered;
        returned += report.returned;
        queue_full += report.queue_full;
        pool_empty += report.pool_empty;
        gentle += u64::from(report.gentle);
        ends.extend(report.closed.into_keys());
    }
    for end in [
        "channel: channel_closed",
        "channel: peer_disconnected",
        "channel: connect_refused",
        "listener: channel_closed",
    ] {
        assert!(ends.contains(end), "{end} is not among {ends:?}");
    }
    assert!(delivered > 5_000, "{delivered} delivered");
    assert!(returned > 100, "{returned} returned");
    assert!(queue_full > 10, "{queue_full} without room");
    assert!(pool_empty > 100, "{pool_empty} times without a message");
    assert!((10..SEEDS - 10).contains(&gentle), "{gentle} gentle");
}

#[test]
fn a_seed_is_always_the_same_run() {
    for seed in [0, 3, 11, 17] {
        let (report, trace) = Scenario::new(seed).run_traced();
        let (again, trace_again) = Scenario::new(seed).run_traced();
        assert_eq!(report.unwrap(), again.unwrap());
        assert_eq!(trace, trace_again);
    }
}

/// Another process has other hash seeds, addresses of memory, and message ids.
#[test]
fn a_seed_is_the_same_run_in_another_process() {
    for seed in ["3", "11"] {
        let program = Command::new(env!("CARGO_BIN_EXE_tofu-sim"))
            .args(["--seed", seed, "--trace"])
            .output()
            .expect("the program runs");
        let trace = Scenario::new(seed.parse().unwrap()).run_traced().1;
        let told = String::from_utf8(program.stdout).unwrap();
        assert!(told.starts_with(&trace), "seed {seed} differs");
    }
}

#[test]
fn faults_can_be_left_out_one_by_one() {
    // Where some are not to be had, leaving them out shows nothing.
    let has_all = |seed: &u64| {
        let faults = Faults::of_seed(*seed);
        KINDS.iter().all(|kind| faults.without(kind).is_some())
    };
    let seed = (0..100_000).find(has_all).expect("a seed with all of them");
    for kind in KINDS {
        let scenario = Scenario::new(seed).without(kind);
        assert!(scenario.command().contains(kind), "{}", scenario.command());
        let report = scenario.run();
        report.unwrap_or_else(|failure| panic!("without {kind}: {failure}"));
    }
}
