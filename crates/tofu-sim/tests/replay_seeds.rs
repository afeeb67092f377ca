//! The kept seeds of the fuzz targets, without the fuzzer.

#![allow(
    unreachable_pub,
    reason = "the targets are a crate of their own where they are fuzzed"
)]

use std::{fs, panic, path::Path};

#[path = "../../../fuzz/src/lib.rs"]
mod targets;

fn replay(target: &str, check: fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/seeds")
        .join(target);
    let mut replayed = 0;
    for seed in fs::read_dir(&seeds).expect("the seeds are in the repository") {
        let path = seed.expect("it can be listed").path();
        let data = fs::read(&path).expect("it can be read");
        let held = panic::catch_unwind(|| check(&data));
        assert!(held.is_ok(), "{} fails, see above", path.display());
        replayed += 1;
    }
    assert!(replayed >= 5, "{replayed} seeds in {}", seeds.display());
}

#[test]
fn address() {
    replay("address", targets::address::check);
}

#[test]
fn connection() {
    replay("connection", targets::connection::check);
}

#[test]
fn decoder() {
    replay("decoder", targets::decoder::check);
}

#[test]
fn text_headers() {
    replay("text_headers", targets::text_headers::check);
}
