//! Two bare connections: the real [`tofu_proto::Connection`] at both ends of a stream that a seed treats
//! badly, without engine, group or reactor.
//!
//! It is the protocol alone, byte by byte: some ten times faster than a [`World`](crate::World), with
//! streams that are split after every byte, and with applications that try whatever the protocol forbids.
//! What an engine adds to a connection is for the [`Scenario`](crate::Scenario).
//!
//! While a run goes on, a [checker](Broken) holds the protocol to its promises:
//!
//! - a posted message is delivered once, whole and in order, or comes back once, never both; one that
//!   is neither was in the stream, to the byte, when the stream was reset;
//! - what may be posted is taken, and what may not comes back unchanged;
//! - a channel ends for a reason that there was, and nothing happens on it any more;
//! - a bye that is answered means that everything said before it has arrived;
//! - every run ends, and without a fault it ends with [`CHANNEL_CLOSED`](tofu_proto::Status) at both
//!   ends and nothing lost;
//! - every message that came from a pool goes back to it.
//!
//! ```
//! use tofu_sim::pair::Simulation;
//!
//! let report = Simulation::new(7).run().unwrap_or_else(|failure| panic!("{failure}"));
//! assert!(report.delivered > 0);
//! assert_eq!(Simulation::new(7).run().unwrap(), report, "a seed is a run");
//! ```
//!
//! A checker that cannot fail is worth nothing, so a run can be [sabotaged](Sabotage):
//!
//! ```
//! use tofu_proto::Side;
//! use tofu_sim::pair::{Sabotage, Simulation};
//!
//! let failure = Simulation::new(7)
//!     .with_sabotage(Side::Client, Sabotage::DropByte(20))
//!     .run()
//!     .unwrap_err();
//! assert!(failure.to_string().contains("cargo run -p tofu-sim -- --pair --seed 7 --trace"));
//! ```

mod application;
mod both;
mod broken;
mod checker;
mod link;
mod peer;
mod pipe;
mod plan;
mod pool;
mod report;
mod sabotage;
mod simulation;
mod trace;
mod world;

pub use both::Both;
pub use broken::Broken;
pub use plan::{Bye, Fault, Plan, Script};
pub use report::{Failure, Report};
pub use sabotage::Sabotage;
pub use simulation::Simulation;
pub use trace::Event;

use crate::Random;
