//! See `src/text_headers.rs`: `cargo fuzz run --fuzz-dir fuzz text_headers`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tofu_fuzz::text_headers::check(data));
