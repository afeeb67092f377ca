//! The kept seeds of the fuzz target `engine`, without the fuzzer: hostile peers against a live engine.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "the target is a crate of its own where it is fuzzed"
)]

#[path = "../../../fuzz/src/engine/mod.rs"]
mod engine;
#[path = "../../../fuzz/src/frames.rs"]
mod frames;
#[path = "../../../fuzz/src/rules.rs"]
mod rules;
#[path = "../../../fuzz/src/seeds.rs"]
mod seeds;

/// Twice, for the engine lives on: what one run leaves behind meets the next one.
#[test]
fn hostile_peers_do_no_harm() {
    for _ in 0..2 {
        seeds::replay("engine", engine::check);
    }
}
