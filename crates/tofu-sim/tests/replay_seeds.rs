//! The kept seeds of the fuzz targets of `tofu-proto`, without the fuzzer.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "the targets are a crate of their own where they are fuzzed"
)]

#[path = "../../../fuzz/src/address.rs"]
mod address;
#[path = "../../../fuzz/src/connection.rs"]
mod connection;
#[path = "../../../fuzz/src/decoder.rs"]
mod decoder;
#[path = "../../../fuzz/src/frames.rs"]
mod frames;
#[path = "../../../fuzz/src/rules.rs"]
mod rules;
#[path = "../../../fuzz/src/seeds.rs"]
mod seeds;
#[path = "../../../fuzz/src/text_headers.rs"]
mod text_headers;

#[test]
fn addresses() {
    seeds::replay("address", address::check);
}

#[test]
fn connections() {
    seeds::replay("connection", connection::check);
}

#[test]
fn decoders() {
    seeds::replay("decoder", decoder::check);
}

#[test]
fn text_header_lines() {
    seeds::replay("text_headers", text_headers::check);
}
