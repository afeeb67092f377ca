//! See `src/address.rs`: `cargo fuzz run --fuzz-dir fuzz address`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tofu_fuzz::address::check(data));
