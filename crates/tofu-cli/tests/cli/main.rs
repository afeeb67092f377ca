//! What scripts rely on: the lines that `tofucat` prints, and how it exits.
//!
//! Every test runs the real program. Nothing sleeps: a test waits for the line, the end of a stream
//! or the exit that it is about, and [`tool::PATIENCE`] is the watchdog of each wait.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod addresses;
mod bench;
mod call;
mod decode;
mod demo;
mod ending;
mod servers;
mod tool;
mod transfer;
