//! Some hundred seeds keep every promise, and between them come everywhere.

use std::collections::BTreeSet;

use tofu_proto::Status;
use tofu_sim::pair::{Both, Bye, Event, Report, Simulation};

const SEEDS: u64 = 600;

fn run(seed: u64) -> Report {
    Simulation::new(seed)
        .run()
        .unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn every_seed_keeps_every_promise_and_every_end_is_reached() {
    let mut ends = Both::of(|_| BTreeSet::new());
    let (mut starved, mut queue_full, mut lost, mut returned, mut gentle) = (0, 0, 0, 0, 0);
    for seed in 0..SEEDS {
        let report = run(seed);
        ends.client.extend(report.closed.client);
        ends.server.extend(report.closed.server);
        starved += report.starved;
        queue_full += report.queue_full;
        lost += report.lost;
        returned += report.returned;
        gentle += usize::from(report.gentle);
    }
    let common = [
        Status::CHANNEL_CLOSED,
        Status::PEER_DISCONNECTED,
        Status::BYE_TIMEOUT,
        Status::FRAME_TIMEOUT,
    ];
    let with = |own| common.into_iter().chain([own]).collect::<BTreeSet<_>>();
    assert_eq!(ends.client, with(Status::CONNECT_TIMEOUT));
    assert_eq!(ends.server, with(Status::HELLO_TIMEOUT));
    for (what, count) in [
        ("starved", starved),
        ("queue full", queue_full),
        ("lost", lost),
        ("returned", returned),
        ("gentle", gentle),
    ] {
        assert!(count > 100, "{what}: {count} in {SEEDS} seeds");
    }
}

#[test]
fn a_seed_is_always_the_same_run() {
    for seed in [0, 61, 113, 1_319, 2_307] {
        let (report, events) = Simulation::new(seed).run_traced();
        let (again, events_again) = Simulation::new(seed).run_traced();
        assert_eq!(report.unwrap(), again.unwrap());
        assert_eq!(events, events_again);
    }
}

#[test]
fn byes_that_cross_end_well() {
    let mut crossed = 0;
    for seed in 0..SEEDS {
        let simulation = Simulation::new(seed);
        let mut plan = simulation.plan().clone();
        if !plan.is_gentle() {
            continue;
        }
        plan.scripts.client.bye = Bye::First;
        plan.scripts.server.bye = Bye::WhenHeard;
        let (report, events) = simulation.with_plan(plan).run_traced();
        let report = report.unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(report.closed.client, Some(Status::CHANNEL_CLOSED));
        assert_eq!(report.closed.server, Some(Status::CHANNEL_CLOSED));
        let half_closes = events
            .iter()
            .filter(|event| matches!(event, Event::HalfClosed(_)))
            .count();
        crossed += usize::from(half_closes > 0);
    }
    assert!(crossed > 100, "byes crossed in {crossed} runs");
}
