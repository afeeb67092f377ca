//! tofu in a box: real engines, on a network and a clock that one number decides.
//!
//! A [`World`] runs any number of `tofu::Engine`s, each with its groups and applications, in one thread. There
//! is no socket, no thread and no clock in it: how bytes are split and merged, how long they take, how small
//! the buffers and pools are, how slow the applications, who says bye and when, and what breaks, is all decided
//! by a seed. The same seed always gives the same run.
//!
//! | room | what is real | what it is for |
//! | --- | --- | --- |
//! | [`World`] | engine, groups, posting, reactor, keeper, connections | your own protocol under faults |
//! | [`Scenario`] | the same | a run in which applications do all that may be done: what CI runs |
//! | [`pair`] | only two [`tofu_proto::Connection`]s at a byte stream | the protocol alone, byte by byte |
//!
//! # A protocol of your own
//!
//! Write what a peer does as an [`Application`], start some of them, and let the seed do its worst:
//!
//! ```
//! use std::time::Duration;
//! use tofu::{Address, Event, Message, OpCode};
//! use tofu_sim::{Application, Group, Limits, World};
//!
//! /// Answers requests with the number that it counts.
//! struct Counter(Address, u64);
//!
//! impl Application for Counter {
//!     fn start(&mut self, group: &mut Group<'_>) {
//!         group.post(Message::welcome_request(&self.0)).expect("a good address");
//!     }
//!
//!     fn hear(&mut self, event: Event, group: &mut Group<'_>) {
//!         let Event::Message(message) = event else { return };
//!         if message.op_code() == OpCode::Request {
//!             self.1 += 1;
//!         }
//!         if let Ok(answer) = message.reply() {
//!             // It may be refused: the peer may be gone.
//!             let _ = group.post(answer.with_body(self.1.to_string()));
//!         }
//!     }
//! }
//!
//! /// Asks again and again, and checks that the numbers grow.
//! struct Client(Address, u64);
//!
//! impl Application for Client {
//!     fn start(&mut self, group: &mut Group<'_>) {
//!         if let Ok(hello) = group.post(Message::hello_request(&self.0)) {
//!             let _ = group.post(Message::request(hello.channel));
//!         }
//!     }
//!
//!     fn hear(&mut self, event: Event, group: &mut Group<'_>) {
//!         match event {
//!             Event::Message(answer) if answer.op_code() == OpCode::Response => {
//!                 let number = std::str::from_utf8(answer.body()).unwrap().parse().unwrap();
//!                 if number <= self.1 {
//!                     group.fail(format!("{number} after {}", self.1));
//!                 }
//!                 self.1 = number;
//!                 let _ = group.post(Message::request(answer.channel()));
//!             }
//!             // Once more, until it works.
//!             Event::Closed { .. } => group.wake_in(Duration::from_millis(10)),
//!             _ => {}
//!         }
//!     }
//!
//!     fn wake(&mut self, group: &mut Group<'_>) {
//!         self.start(group);
//!     }
//! }
//!
//! for seed in 0..20 {
//!     let mut world = World::new(seed);
//!     let (one, other) = (world.engine(Limits::default()), world.engine(Limits::default()));
//!     let address = world.tcp(one, 7099);
//!     world.start(one, Counter(address.clone(), 0));
//!     world.start(other, Client(address, 0));
//!     let ended = world.run(Duration::from_millis(50)).and_then(|()| world.finish());
//!     // Which seed, what was broken, and what happened before.
//!     ended.unwrap_or_else(|failure| panic!("{failure}"));
//! }
//! ```
//!
//! While a world runs, tofu itself is held to its [promises](Promise): each message that is posted is delivered
//! once, whole and in order, or comes back once; each channel ends once, for a reason that there was; memory
//! stays within its bounds; nothing that could go on stands still; and once nothing goes wrong any more,
//! everything ends.
//!
//! # Not modelled
//!
//! Threads: a caller that sleeps in `recv` is one that comes back often, and what several threads do to each other
//! at once is for loom and shuttle. Names that have several addresses. Peers that do not speak tofu, which the fuzz targets
//! are. File descriptors of sockets and permissions.

#![forbid(unsafe_code)]

mod broken;
mod faults;
mod group;
mod ledger;
mod network;
pub mod pair;
mod random;
mod report;
mod scenario;
mod trace;
mod world;

pub use broken::{Broken, Promise};
pub use faults::{Faults, KINDS};
pub use group::{Application, Group};
pub use random::Random;
pub use report::Report;
pub use scenario::Scenario;
pub use world::{Failure, Host, Limits, World, run_seeds};
