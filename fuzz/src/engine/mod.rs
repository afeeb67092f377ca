//! Hostile peers against a live engine, over real sockets.
//!
//! The input is a list of things that happen to a channel group that is exposed to up to five hostile
//! peers at once, as clients or as servers. They are raw Unix domain sockets, and say good frames, bad
//! ones and plain bytes, split anywhere; read, or do not; and go away. The group's application reads, or
//! does not; hoards messages; answers, or does not; posts what it likes. The engine has a small pool and
//! small bounds, and another group with an honest channel. It lives on from one input to the next.
//!
//! Held to be true:
//! - nothing panics or hangs; the honest channel is answered whatever the others do;
//! - from each peer the application hears exactly the messages that [the rules](crate::rules) find in the
//!   bytes that were written, each once and in order, also when the peer goes away behind them;
//! - a peer that breaks them is closed with the violation that they name, and no other peer is;
//! - each channel that was heard of ends with exactly one `Closed`, and nothing comes behind it;
//! - what was posted arrives in order or comes back, never both, and never neither;
//! - pool, queues, channels and half-open connections stay within their bounds, and are as before when
//!   the peers are gone; so is, within a bound, the memory of the process.

mod house;
mod peer;
mod run;

use std::sync::{LazyLock, Mutex, PoisonError};

use arbitrary::{Arbitrary, Unstructured};

use self::{house::House, run::Run};
use crate::frames::{Len, Saying, Spoken};

/// Steps of one run.
const STEPS_MAX: usize = 80;

#[derive(Arbitrary, Debug)]
enum Step {
    /// A hostile peer connects, or is connected to.
    Connect {
        is_server: bool,
        says_hello: bool,
    },
    /// A peer says something, in pieces; the application may look between them.
    Say {
        peer: u8,
        what: Vec<Saying>,
        pieces: [u8; 3],
        is_heard: bool,
    },
    /// A peer says the same again and again: more than the pool has messages for.
    Flood {
        peer: u8,
        what: Spoken,
        count: u8,
    },
    /// The application reads so many events, if there are.
    Hear {
        events: u8,
    },
    Behave(Manners),
    Post {
        peer: u8,
        op_code: u8,
        more: bool,
        body: Len,
        count: u8,
    },
    /// A peer reads.
    Listen {
        peer: u8,
        max: u16,
    },
    /// A peer says that it has nothing more to say.
    HalfClose {
        peer: u8,
    },
    /// A peer is gone.
    Leave {
        peer: u8,
    },
    /// The application drops the messages that it holds.
    Release,
    /// The honest channel is used meanwhile.
    Honest,
}

/// What the application does with what it hears.
#[derive(Arbitrary, Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "they are independent")]
struct Manners {
    answers_hellos: bool,
    answers_byes: bool,
    echoes: bool,
    hoards: bool,
}

impl Manners {
    const NONE: Self = Self {
        answers_hellos: false,
        answers_byes: false,
        echoes: false,
        hoards: false,
    };
}

static HOUSE: LazyLock<Mutex<House>> = LazyLock::new(|| Mutex::new(House::new()));

/// Panics if anything in the header of this page is not true of `data`.
pub fn check(data: &[u8]) {
    let mut house = HOUSE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut input = Unstructured::new(data);
    let mut run = Run::new(&mut house);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let Ok(step) = Step::arbitrary(&mut input) else {
            break;
        };
        run.take(step);
        run.look();
    }
    run.finish();
    house.look_at_memory();
}
