//! See `src/decoder.rs`: `cargo fuzz run --fuzz-dir fuzz decoder`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tofu_fuzz::decoder::check(data));
