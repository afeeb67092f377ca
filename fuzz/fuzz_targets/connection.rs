//! See `src/connection.rs`: `cargo fuzz run --fuzz-dir fuzz connection`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tofu_fuzz::connection::check(data));
