//! What tofu peers say to each other, without sockets, threads and clocks.
//!
//! This crate is the protocol of [tofu](https://docs.rs/tofu-messaging) alone: messages and their
//! bytes, addresses, statuses, and the state machine of one connection. It is `no_std` with `alloc`
//! and does no I/O, so it can be read, fuzzed and simulated by itself. Applications use the library
//! `tofu`, which re-exports what they need of it.
//!
//! - [`Message`] is what applications make and get; [`Header`] its first 16 bytes.
//! - [`Decoder`] cuts a stream of bytes into [`Frame`]s.
//! - [`Connection`] is one channel's conversation with one peer; its
//!   [module](connection) tells how to drive it.
//!
//! Sections cited as PROTOCOL.md are those of the file with that name in the repository.

#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

extern crate alloc;

mod address;
pub mod connection;
mod error;
mod ids;
mod message;
mod status;
mod time;
mod wire;

pub use address::{Address, AddressError, DEFAULT_HOST, DEFAULT_PORT, UDS_PATH_MAX};
pub use connection::{Connection, Received, SendQueue, Side, State, Timeouts, Unsent};
pub use error::{PostError, Refusal, Violation};
pub use ids::{ChannelNumber, MessageId};
pub use message::{Blank, Home, Message, NoReply, Order};
pub use status::Status;
pub use time::Instant;
pub use wire::{
    CONNECT_TO, Decoder, Frame, Header, HeaderError, LISTEN_ON, OpCode, OpType, Origin, Role,
    TextHeader, TextHeaders, TextHeadersIter, UnassignedOpCode,
};
