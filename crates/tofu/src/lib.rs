//! Asynchronous, brokerless, peer-to-peer messages over TCP and Unix domain sockets.
//!
//! In tofu *the message is the API*. There is no `connect()`, `bind()` or `close()`: an application
//! posts a message that means it, and hears the outcome as an event.
//!
//! | to | post | and hear |
//! | --- | --- | --- |
//! | listen | [`Message::welcome_request`] | [`Event::Listening`] |
//! | connect | [`Message::hello_request`] | the peer's HelloResponse, or [`Event::Returned`] |
//! | send | [`Message::request`], [`Message::signal`], [`Message::reply`] | the peer's answers |
//! | close gracefully | [`Message::bye_request`] | the peer's ByeResponse, then [`Event::Closed`] |
//! | close at once | [`Message::bye_signal`] | [`Event::Closed`] |
//!
//! Before the hello there is a client and a server; after it, two equal peers: either may ask, answer,
//! signal, and say bye.
//!
//! # A server and a client
//!
//! ```
//! use std::{thread, time::Duration};
//! use tofu::{ChannelGroup, Engine, Event, Message, Options};
//!
//! const PATIENCE: Duration = Duration::from_secs(5);
//!
//! /// Greets whoever asks, until the engine shuts down.
//! fn serve(mut group: ChannelGroup) {
//!     while let Ok(event) = group.recv() {
//!         let Event::Message(message) = event else {
//!             continue; // somebody has gone, say
//!         };
//!         // A hello and a bye are answered as a request is; a signal is echoed.
//!         if let Ok(answer) = message.reply() {
//!             let body = [b"hello, ", message.body()].concat();
//!             if let Err(error) = group.post(answer.with_body(body)) {
//!                 eprintln!("{error}"); // the client is gone, or does not read
//!             }
//!         }
//!     }
//! }
//!
//! let engine = Engine::new(Options::default())?;
//! let mut server = engine.group()?;
//! let welcome = Message::welcome_request(&"tcp://127.0.0.1:0".parse()?);
//! let address = server.call(welcome, PATIENCE)?.address().ok_or("no address")?;
//! let serving = thread::spawn(move || serve(server));
//!
//! // Mostly in another process, with an engine of its own.
//! let mut client = engine.group()?;
//! let channel = client.call(Message::hello_request(&address), PATIENCE)?.channel();
//! let answer = client.call(Message::request(channel).with_body("world"), PATIENCE)?;
//! assert_eq!(answer.body_text(), "hello, world");
//! client.call(Message::bye_request(channel), PATIENCE)?;
//!
//! let report = engine.shutdown(PATIENCE);
//! assert!(report.is_clean()); // everything arrived, was read, and ended with a bye
//! serving.join().map_err(|_| "the server panicked")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How to think of it
//!
//! **Engine, group, channel, message.** An [`Engine`] owns sockets, a pool of messages, and one thread;
//! mostly a process has one. A [`ChannelGroup`] of it sends and receives over any number of channels:
//! listeners, and connections to peers. Groups never wait for each other: make one for each thread that
//! receives. A [`Message`] is a header of 16 bytes, text headers like HTTP's, and a body, each of the two up
//! to 65,535 bytes. It names its channel by a [`ChannelNumber`], which is local to the engine, and has a
//! [`MessageId`], by which an answer finds its request.
//!
//! **Posting never waits.** [`post`](ChannelGroup::post) checks the message and takes it, which moves it;
//! or it gives the message back in a [`PostError`] that says why. From then on it arrives, or it comes back
//! as [`Event::Returned`], complete, with a [`Reason`]. Any thread posts, through a [`Poster`].
//!
//! **Events say who speaks.** What [`recv`](ChannelGroup::recv) returns is an [`Event`]: the peer's message,
//! or the engine's word. The messages of one channel come in the order in which they were posted; the last
//! word on a channel is [`Event::Closed`], exactly once, with the reason.
//!
//! **Whoever waits drives.** A thread in `recv` or [`call`](ChannelGroup::call) does the group's reading and
//! writing itself, without a thread in between. While nobody waits, and for tasks in
//! [`recv_async`](ChannelGroup::recv_async), the engine's one thread does it, so that what was posted leaves
//! and byes are timed however long the application is busy.
//!
//! **Everything is bounded.** The pool bounds what was received and not yet dropped: when it is empty,
//! reading stops, and the peers feel it. Queues are bounded per channel and for the engine: what does not fit
//! is refused with [`Refusal::QueueFull`], and [`Event::Drained`] says when there is room. Channels,
//! connections without a hello, and every wait for a peer have bounds too. [`Options`] has them all, each
//! with its default, its unit and its cost.
//!
//! **How it ends.** A bye is queued behind what was posted before it, so that nothing is lost; the peer's
//! answer confirms it. [`close`](ChannelGroup::close) says bye on all channels of a group,
//! [`shutdown`](Engine::shutdown) on all of an engine; both have a deadline, and return a [`CloseReport`]. A
//! group that is dropped sends what is queued, in the background. A peer that is gone without a bye is
//! [`Status::PEER_DISCONNECTED`].
//!
//! # You want ...
//!
//! | you want to | call |
//! | --- | --- |
//! | listen | [`call`](ChannelGroup::call) or [`post`](ChannelGroup::post) a [`Message::welcome_request`] |
//! | listen on any free port | the same with port 0; the answer's [`address`](Message::address), or [`Event::Listening`], says which |
//! | write down where | [`Address`]: `"tcp://host:port".parse()`, `"uds:///path".parse()`, [`Address::tcp`], [`Address::uds`] |
//! | connect | `call` a [`Message::hello_request`]; its answer's [`channel`](Message::channel) is the new one |
//! | accept who connects | post the [`reply`](Message::reply) to its HelloRequest |
//! | refuse who connects | post [`Message::bye_signal`] with its channel |
//! | ask, and wait for the answer | [`call`](ChannelGroup::call) a [`Message::request`] |
//! | ask many things at once | post the requests, and keep the [`id`](Header::id) of each: its answer has [the same](Message::id); [`helpers::Calls`] keeps them |
//! | have a connection come back | [`helpers::Reconnect`] |
//! | find out which peers are dead | [`helpers::Heartbeat`] |
//! | answer | post the [`reply`](Message::reply), or [`into_reply`](Message::into_reply) with its body |
//! | tell something | post a [`Message::signal`] |
//! | say more about a message | [`with_header`](Message::with_header), read with [`header`](Message::header) |
//! | read a body | [`body`](Message::body), [`body_text`](Message::body_text) |
//! | send something large | in parts, [`with_more`](Message::with_more) on all but the last one |
//! | wait for room in a full queue | [`post_timeout`](ChannelGroup::post_timeout), or the event [`Drained`](Event::Drained) |
//! | know why a message was refused | [`PostError::refusal`], [`is_queue_full`](PostError::is_queue_full), [`is_channel_over`](PostError::is_channel_over) |
//! | have a refused message back | [`PostError::into_message`] |
//! | wait for what happens | [`recv`](ChannelGroup::recv), [`recv_timeout`](ChannelGroup::recv_timeout) |
//! | look whether something has happened | [`try_recv`](ChannelGroup::try_recv) |
//! | receive many at once | [`recv_many`](ChannelGroup::recv_many) |
//! | receive as a task, on any runtime | [`recv_async`](ChannelGroup::recv_async), [`call_async`](ChannelGroup::call_async), [`poll_recv`](ChannelGroup::poll_recv) |
//! | post from other threads | [`poster`](ChannelGroup::poster), which can be cloned |
//! | post many at once | [`post_many`](ChannelGroup::post_many) |
//! | wake the receiver, or hand it a message | [`notify`](ChannelGroup::notify), heard as [`Event::Notified`] |
//! | allocate nothing | make messages with [`request`](ChannelGroup::request), [`signal`](ChannelGroup::signal), [`reply`](ChannelGroup::reply) of the group; receive with `recv_many` |
//! | know who a peer is | [`peer`](ChannelGroup::peer): its address, or the user and process |
//! | keep strangers out | [`allow_networks`](Options::allow_networks), [`allow_users`](Options::allow_users), [`uds_mode`](Options::uds_mode) |
//! | close a channel gracefully | [`call`](ChannelGroup::call) or post a [`Message::bye_request`] |
//! | close a channel at once | post a [`Message::bye_signal`] |
//! | close all channels of a group | [`close`](ChannelGroup::close); hard, [`abort`](ChannelGroup::abort) |
//! | close everything | [`Engine::shutdown`] |
//! | know what was lost | [`Event::Returned`] as it happens, [`CloseReport`] in the end |
//! | know why a channel ended | the [`Reason`] of [`Event::Closed`]: [`is_graceful`](Reason::is_graceful), [`violation`](Reason::violation), [`os_error`](Reason::os_error) |
//! | bound memory | [`pool_messages`](Options::pool_messages), [`queue_bytes`](Options::queue_bytes), [`channels_max`](Options::channels_max) |
//! | bound waiting | [`connect_timeout`](Options::connect_timeout), [`hello_timeout`](Options::hello_timeout), [`frame_timeout`](Options::frame_timeout), [`bye_timeout`](Options::bye_timeout) |
//! | turn off polling | [`busy_poll`](Options::busy_poll) with zero |
//! | count what happens | [`Engine::metrics`] |
//! | read or write frames without an engine | [`Decoder`], [`Frame`], [`Header`] |
//! | test over both transports | `testing::over_both`, with the feature `testing` |
//!
//! # Features
//!
//! None is on by default.
//!
//! - `testing`: the module `testing`, with a free TCP port and a temporary path for tests of applications.
//! - `tracing`: warnings of the engine (out of descriptors, a peer that breaks the protocol) through
//!   [`tracing`](https://docs.rs/tracing).
//! - `simulation`: engines in a simulated system, for simulators. Not covered by semantic versioning.
//!
//! # Further
//!
//! The package is `tofu-messaging`, the crate `tofu`. It runs on Linux, macOS and the BSDs, in safe Rust.
//!
//! The repository has a guide (`guide/`): `thinking.md` and `flows.md` on messages, `addresses.md`,
//! `patterns.md`, `errors.md` on errors and statuses, `backpressure.md`, `closing.md`, `contract.md` on what
//! is promised of delivery, `trust.md`, `performance.md`, `operations.md`, and the recipes: programs to run
//! and to take apart (`recipes/`). `PROTOCOL.md`, which this documentation cites by its sections, has the
//! wire, and `ARCHITECTURE.md` the inside.

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
pub mod helpers;
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
    Refusal, Role, Status, TextHeader, TextHeaders, TextHeadersIter, UDS_PATH_MAX,
    UnassignedOpCode, Violation,
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
