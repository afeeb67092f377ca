//! See `src/engine/mod.rs`: `cargo fuzz run --fuzz-dir fuzz engine`.

#![no_main]

use std::sync::Arc;

libfuzzer_sys::fuzz_target!(
    init: {
        // libFuzzer's main function is C: nobody has told the system, as every Rust program does, that a
        // broken pipe is no reason to die.
        let handler = signal_hook::flag::register(signal_hook::consts::SIGPIPE, Arc::default());
        handler.expect("a handler");
    },
    |data: &[u8]| tofu_fuzz::engine::check(data)
);
