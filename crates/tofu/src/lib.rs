//! Asynchronous, brokerless, peer-to-peer messages over TCP and Unix domain sockets.
//!
//! In tofu *the message is the API*. There is no `connect()`, `bind()` or `close()`: an application
//! posts a message that means it and hears the outcome as events.
//!
//! | to | post | and hear |
//! | --- | --- | --- |
//! | listen | [`Message::welcome_request`] | [`Event::Listening`] |
//! | connect | [`Message::hello_request`] | the peer's HelloResponse, or [`Event::Returned`] |
//! | send | [`Message::request`], [`Message::signal`], [`Message::reply`] | the peer's answers |
//! | close gracefully | [`Message::bye_request`] | the peer's ByeResponse, then [`Event::Closed`] |
//! | close at once | [`Message::bye_signal`] | [`Event::Closed`] |
//!
//! Before the hello there is a client and a server; after it, two equal peers.
//!
//! An [`Engine`] owns sockets and a pool of messages. A [`ChannelGroup`] of it sends and receives
//! over any number of channels; its [`Poster`]s send from other threads. A [`Message`] is a header of
//! 16 bytes, text headers, and a body.
//!
//! ```
//! use tofu::{Engine, Event, Message, OpCode, Options};
//!
//! let engine = Engine::new(Options::default())?;
//!
//! // One group listens ...
//! let mut server = engine.group()?;
//! server.post(Message::welcome_request(&"tcp://127.0.0.1:0".parse()?))?;
//! let Event::Listening { address, .. } = server.recv()? else { panic!() };
//!
//! // ... and another one says hello.
//! let mut client = engine.group()?;
//! let channel = client.post(Message::hello_request(&address))?.channel;
//! client.post(Message::request(channel).with_body("what time is it?"))?;
//!
//! for answer in [None, Some("late")] {
//!     let Event::Message(message) = server.recv()? else { panic!() };
//!     server.post(message.reply()?.with_body(answer.unwrap_or_default()))?;
//! }
//! for expected in [OpCode::HelloResponse, OpCode::Response] {
//!     let Event::Message(message) = client.recv()? else { panic!() };
//!     assert_eq!(message.op_code(), expected);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

#[cfg(not(unix))]
compile_error!("tofu needs a Unix: Linux, macOS or a BSD");

mod blanks;
mod budget;
mod channel_group;
mod channels;
mod engine;
mod event;
mod group;
mod keeper;
mod members;
mod metrics;
mod net;
mod network;
mod options;
mod peer;
mod pool;
mod posting;
mod reactor;
#[cfg(feature = "simulation")]
pub mod simulation;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod warnings;

pub use tofu_proto::{
    Address, AddressError, CONNECT_TO, ChannelNumber, DEFAULT_HOST, DEFAULT_PORT, Decoder, Frame,
    Header, HeaderError, LISTEN_ON, Message, MessageId, NoReply, OpCode, OpType, Origin, PostError,
    Refusal, Role, Status, TextHeader, TextHeaders, UDS_PATH_MAX, UnassignedOpCode, Violation,
};

pub use self::{
    channel_group::{CallError, ChannelGroup, Poster},
    engine::{Engine, StartError},
    event::{CloseReport, Event, Reason, RecvError},
    metrics::Metrics,
    network::{Network, NetworkError},
    options::{OptionError, Options},
    peer::{Credentials, Peer},
};
