//! What tofu peers say to each other, without sockets, threads and clocks.
//!
//! This crate is the protocol of [tofu](https://docs.rs/tofu-messaging) alone: messages and their
//! bytes, addresses, statuses, and the state machine of one connection. It is `no_std` with `alloc`
//! and does no I/O, so it can be read, fuzzed and simulated by itself. Applications use the library
//! `tofu`, which re-exports what they need of it.
//!
//! - [`Message`] is what applications make and get; [`Header`] its first 16 bytes.
//! - [`Decoder`] cuts a stream of bytes into [`Frame`]s.
//! - [`Connection`] is one channel's conversation with one peer; its [module](connection) tells how to
//!   drive it, with two of them talking to each other.
//! - A [`Refusal`] blames the application that posts, a [`Violation`] the peer; a [`Status`] says why a
//!   message came back or a channel closed.
//!
//! # Driving a connection
//!
//! | when | call |
//! | --- | --- |
//! | a client begins | [`Connection::client`], and [`handle_connected`](Connection::handle_connected) once its socket is connected |
//! | a server has accepted | [`Connection::server`] |
//! | the application posts | [`Message::check`], then [`post`](Connection::post) |
//! | there may be something to write | [`queue`](Connection::queue), [`SendQueue::slices`], write them, [`handle_sent`](Connection::handle_sent) |
//! | the socket takes no more | [`handle_blocked`](Connection::handle_blocked), and write again when it does |
//! | bytes were read | [`receive`](Connection::receive), again and again, until it is [`Received::Nothing`] |
//! | there is no message to receive into | [`hold`](Connection::hold), and [`resume`](Connection::resume) when there is |
//! | before sleeping | [`poll_timeout`](Connection::poll_timeout), and [`handle_timeout`](Connection::handle_timeout) then |
//! | after each of these | [`poll_close`](Connection::poll_close) and [`wants_half_close`](Connection::wants_half_close) |
//! | the stream ended | [`reason_at_end`](Connection::reason_at_end) |
//! | the socket is closed | [`take_unsent`](Connection::take_unsent) |
//!
//! # From a message to bytes and back
//!
//! ```
//! use tofu_proto::{ChannelNumber, Decoder, Message};
//!
//! let signal = Message::signal(ChannelNumber::new(3)).with_header("k", "v").with_body("hi");
//! let bytes = [&signal.binary_header().to_bytes(), signal.payload()].concat();
//!
//! let (mut decoder, mut input) = (Decoder::new(), &bytes[..]);
//! let frame = decoder.peek(&mut input)?.expect("a whole frame");
//! let mut received = Message::request(ChannelNumber::UNASSIGNED);
//! received.fill(ChannelNumber::new(9), &frame); // the receiver's number for the channel
//! assert_eq!(received.body(), b"hi");
//! assert_eq!(received.header("k"), Some("v"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Sections cited as PROTOCOL.md are those of the file with that name in the repository. What the library
//! re-exports is shown here as an application writes it, with `use tofu::`.

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
