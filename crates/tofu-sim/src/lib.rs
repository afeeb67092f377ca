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
//! # In your project
//!
//! The crate is not published, and must come from the same sources as the library, or there are two `tofu`s whose
//! messages are not each other's. With tofu's repository next to yours (or `git = "..."` in place of `path`, the same
//! for both):
//!
//! ```toml
//! [dependencies]
//! tofu = { package = "tofu-messaging", path = "../tofu/crates/tofu" }
//!
//! [dev-dependencies]
//! tofu-sim = { path = "../tofu/crates/tofu-sim" }
//! ```
//!
//! Only in your tests the library then has its feature `simulation`.
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
//! # By seed
//!
//! [`run_seeds`] makes the worlds, and leaves out of one that fails whatever it does not need to fail. Here a process
//! that stores numbers is killed and started again, and stopped, whenever the seed wants it; over a Unix domain socket,
//! with a pool of two messages. What the test wants to see afterwards, or what outlives a process as a disk does, is
//! shared with the application:
//!
//! ```
//! use std::{cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};
//! use tofu::{Address, ChannelNumber, Event, Message, OpCode};
//! use tofu_sim::{Application, Group, Host, Limits, World, run_seeds};
//!
//! type Numbers = Rc<RefCell<BTreeSet<u64>>>;
//!
//! /// Stores what it is asked to.
//! struct Store(Address, Numbers);
//!
//! impl Application for Store {
//!     fn start(&mut self, group: &mut Group<'_>) {
//!         group.post(Message::welcome_request(&self.0)).expect("a good address");
//!     }
//!
//!     fn hear(&mut self, event: Event, group: &mut Group<'_>) {
//!         let Event::Message(message) = event else { return };
//!         if message.op_code() == OpCode::Request {
//!             self.1.borrow_mut().insert(message.body_text().parse().unwrap());
//!         }
//!         if let Ok(answer) = message.reply() {
//!             let _ = group.post(answer); // the peer may be gone
//!         }
//!     }
//! }
//!
//! /// Has one number after the other stored, on one connection after the other.
//! struct Client {
//!     whom: Address,
//!     channel: Option<ChannelNumber>,
//!     number: u64,
//!     stored: Numbers,
//!     is_finishing: bool,
//! }
//!
//! impl Application for Client {
//!     fn start(&mut self, group: &mut Group<'_>) {
//!         let hello = group.post(Message::hello_request(&self.whom));
//!         self.channel = hello.ok().map(|header| header.channel);
//!     }
//!
//!     fn hear(&mut self, event: Event, group: &mut Group<'_>) {
//!         match event {
//!             Event::Message(message) => {
//!                 if message.op_code() == OpCode::Response {
//!                     self.stored.borrow_mut().insert(self.number);
//!                     self.number += 1;
//!                 }
//!                 let next = match message.reply() {
//!                     Ok(bye) => bye,
//!                     Err(_) => Message::request(message.channel()).with_body(self.number.to_string()),
//!                 };
//!                 let _ = group.post(next); // the peer may be gone
//!             }
//!             Event::Closed { .. } if self.is_finishing => group.leave(),
//!             Event::Closed { .. } => {
//!                 self.channel = None;
//!                 group.wake_in(Duration::from_millis(10));
//!             }
//!             _ => {}
//!         }
//!     }
//!
//!     fn wake(&mut self, group: &mut Group<'_>) {
//!         self.start(group);
//!     }
//!
//!     /// It says bye, and leaves when that has an answer.
//!     fn finish(&mut self, group: &mut Group<'_>) {
//!         self.is_finishing = true;
//!         let bye = self.channel.map(|channel| group.post(Message::bye_request(channel)));
//!         if !matches!(bye, Some(Ok(_))) {
//!             group.leave();
//!         }
//!     }
//! }
//!
//! /// Whenever the process is killed, it is started again, with the same disk.
//! fn serve(world: &mut World, host: Host, address: Address, disk: Numbers) {
//!     world.start(host, Store(address.clone(), Rc::clone(&disk)));
//!     world.may_stop(host);
//!     world.may_crash(host, move |world| {
//!         let again = world.restart(host);
//!         serve(world, again, address, disk);
//!     });
//! }
//!
//! let small = Limits { pool_messages: 2, pool_messages_initial: 1, ..Limits::default() };
//! let reports = run_seeds(0..20, |world| {
//!     let (server, client) = (world.engine(small.clone()), world.engine(small.clone()));
//!     let whom = Address::uds("/run/store.sock").expect("a good address");
//!     let (disk, stored) = (Numbers::default(), Numbers::default());
//!     serve(world, server, whom.clone(), Rc::clone(&disk));
//!     let (number, is_finishing) = (0, false);
//!     let told = Rc::clone(&stored);
//!     world.start(client, Client { whom, channel: None, number, stored: told, is_finishing });
//!     world.run(Duration::from_millis(300))?;
//!     let report = world.finish()?;
//!     assert!(disk.borrow().is_superset(&stored.borrow()), "what was acknowledged is stored");
//!     Ok(report)
//! })
//! .unwrap_or_else(|failure| panic!("{failure}"));
//! // The seeds came where they were to come.
//! assert!(reports.iter().any(|it| it.crashes > 0) && reports.iter().any(|it| it.stops > 0));
//! ```
//!
//! Share bytes and numbers, not messages: a [`Message`](tofu::Message) is out of its engine's pool until it is
//! dropped, and one that is kept when [all is over](World::finish) breaks [`Promise::Bounds`].
//!
//! # What goes wrong, and when
//!
//! [`Faults`] says what goes wrong, and how often; [`Faults::of_seed`] what a seed decides, for every other seed only
//! what a conversation must survive. Chance kills and stops only those processes that [may](World::may_crash) be killed
//! or [stopped](World::may_stop). A test that wants it at a certain moment [runs](World::run) the world until
//! then, calls [`World::crash`] or [`World::stop`], and runs on. Splits, delays, stalls, resets and early ends are
//! those of TCP; on a Unix domain socket a write may find room for a part only, and what was written is there at once.
//!
//! # When a seed fails
//!
//! A [`Failure`] shows the promise that was broken, how to make the same world again (for a test of that seed alone:
//! `World::with_faults(17, Faults::of_seed(17).without("resets").unwrap())`), the faults, and the last 100 lines of what
//! happened. More of them are kept after [`World::keep_trace`], and [`Group::note`] adds lines. Looks of a keeper
//! that moved no byte are not among them.
//!
//! # What is promised
//!
//! While a world runs, tofu itself is held to its [promises](Promise): each message that is posted is delivered
//! once, whole and in order, or comes back once; each channel ends once, for a reason that there was; memory
//! stays within its bounds; nothing that could go on stands still; and once nothing goes wrong any more,
//! everything ends. All of them hold for worlds of your own, whatever their applications do, with this:
//!
//! - [`Promise::Grace`], that a conversation ends well, is only asked for where nothing is meant to break one
//!   ([`Faults::is_gentle`]); then the timeouts of your [`Limits`] must be longer than any pause of your applications,
//!   and than five seconds where a process may be stopped.
//! - [`Promise::End`] needs applications that end when they are told to [finish](Application::finish), and a world that
//!   makes no more steps than are [allowed](World::allow_steps).
//! - An engine that opens more than 1,024 channels uses numbers again, and the ledger may take one channel for another.
//! - [`Promise::Application`] is yours: see [`Group::fail`].
//!
//! # Not modelled
//!
//! Threads: a caller that sleeps in `recv` is one that comes back often, and what several threads do to each other
//! at once is for loom and shuttle. So a [`Group`] has nothing that waits, and no posters. Names that have several
//! addresses. Peers that do not speak tofu, which the fuzz targets are. File descriptors of sockets, permissions, and
//! who a [`tofu::Peer`] is.

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
