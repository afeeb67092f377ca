//! What a seed decides before the first step.

use std::time::Duration;

use tofu_proto::{Side, Timeouts};

use super::{Both, Random};

/// Moves (a write, a carry, a read) that the bytes of one direction should need.
const MOVES: usize = 150;
/// The longest stretch of nothing that needs no excuse.
const SHORT: Duration = Duration::from_millis(50);

/// What a seed decides before the first step.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long the connections wait for what.
    pub timeouts: Timeouts,
    /// The most bytes that one write, carry or read moves.
    pub grain: usize,
    /// The longest time that one step takes.
    pub tick: Duration,
    /// How long the client's socket takes to connect.
    pub connecting: Duration,
    /// Bytes of the socket buffers in which each side's bytes leave and arrive.
    pub buffer_max: Both<usize>,
    /// Whether a reset leaves what has arrived to be read, as on Linux, or not.
    pub reset_keeps_unread: bool,
    /// Bytes that may wait to be sent.
    pub queue_max: usize,
    /// Messages in each side's pool.
    pub pool: Both<usize>,
    /// What the applications do.
    pub scripts: Both<Script>,
    /// What goes wrong, and before which step.
    pub faults: Vec<(usize, Fault)>,
}

/// What one application does.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// Messages that it posts by itself.
    pub posts: usize,
    /// The largest body.
    pub body_max: usize,
    /// The longest that it takes for anything.
    pub pause: Duration,
    /// In how many of 100 cases it answers what asks for an answer.
    pub answers: usize,
    /// When it says bye.
    pub bye: Bye,
    /// Whether it posts all it has before it answers a bye.
    pub finishes: bool,
    /// How often it tries to post what it may not: in so many of 100 cases.
    pub mischief: usize,
}

/// When an application says bye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bye {
    /// Once it has posted all it has.
    First,
    /// When it hears the other's: it says its own before it answers.
    WhenHeard,
    /// Never: it only answers.
    Answers,
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// One side does nothing for a time.
    Freeze(Side, Duration),
    /// Nothing travels for a time.
    Partition(Duration),
    /// One side's messages are all taken for a time.
    Hog(Side, Duration),
    /// Somebody in the middle resets the stream.
    Cut,
    /// One side ends its direction of the stream too early.
    HalfClose(Side),
    /// One side's application says ByeSignal.
    Abandon(Side),
}

impl Plan {
    /// What this seed decides.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let random = &mut random;
        let gentle = random.percent(50);
        let grain = random.pick(&[1, 3, 16, 100, 1_460, 9_000, 70_000, 200_000]);
        let queue_max = random.pick(&[200, 2_000, 100_000, 8 << 20]);
        let buffer_min = random.pick(&[1, 20, 300, 5_000, 100_000]);
        let posts_max = random.pick(&[0, 2, 6, 15]);
        let pause = random.duration(Duration::from_millis(5));
        let budget = MOVES * grain.min(buffer_min) / (posts_max + 1);
        let scripts = Both::of(|_| Script {
            posts: random.between(0, posts_max),
            body_max: budget.min(queue_max - 100).min(u16::MAX.into()),
            pause,
            answers: random.pick(&[0, 50, 100]),
            bye: random.pick(&[Bye::First, Bye::First, Bye::WhenHeard, Bye::Answers]),
            finishes: random.percent(50),
            mischief: random.pick(&[0, 0, 20]),
        });
        let mut plan = Self {
            timeouts: timeouts(gentle, random),
            grain,
            tick: random.duration(Duration::from_micros(200)),
            connecting: random.duration(SHORT),
            buffer_max: Both::of(|_| random.between(buffer_min, 3 * buffer_min)),
            reset_keeps_unread: random.percent(50),
            queue_max,
            pool: Both::of(|_| random.pick(&[1, 1, 2, 5, 50])),
            scripts,
            faults: Vec::new(),
        };
        let speaker = random.pick(&[Side::Client, Side::Server]);
        if plan.scripts[speaker].bye != Bye::First {
            plan.scripts[speaker].bye = Bye::First;
        }
        if !gentle && random.percent(10) {
            plan.connecting = random.duration(Duration::from_secs(20));
        }
        plan.faults = faults(gentle, random);
        plan
    }

    /// Whether nothing in it is meant to break the conversation: delays are short, timeouts long, and
    /// nothing resets the stream.
    pub fn is_gentle(&self) -> bool {
        let short = |time| time <= SHORT;
        self.timeouts.bye >= Duration::from_secs(60)
            && short(self.connecting)
            && self.faults.iter().all(|(_, fault)| match *fault {
                Fault::Freeze(_, time) | Fault::Partition(time) | Fault::Hog(_, time) => {
                    short(time)
                }
                Fault::Cut | Fault::HalfClose(_) | Fault::Abandon(_) => false,
            })
    }
}

fn timeouts(gentle: bool, random: &mut Random) -> Timeouts {
    let mut time = || {
        if gentle {
            Duration::from_secs(60)
        } else {
            Duration::from_secs(1) + random.duration(Duration::from_secs(9))
        }
    };
    Timeouts {
        hello: time(),
        connect: time(),
        frame: time(),
        bye: time(),
    }
}

fn faults(gentle: bool, random: &mut Random) -> Vec<(usize, Fault)> {
    let longest = if gentle {
        SHORT
    } else {
        Duration::from_secs(30)
    };
    let mut faults: Vec<_> = (0..random.between(usize::from(!gentle), 3))
        .map(|_| {
            let side = random.pick(&[Side::Client, Side::Server]);
            let time = random.duration(longest);
            let fault = match random.below(if gentle { 3 } else { 6 }) {
                0 => Fault::Freeze(side, time),
                1 => Fault::Partition(time),
                2 => Fault::Hog(side, time),
                3 => Fault::Cut,
                4 => Fault::HalfClose(side),
                _ => Fault::Abandon(side),
            };
            let steps_max = random.pick(&[10, 100, 1_000]);
            (random.below(steps_max), fault)
        })
        .collect();
    faults.sort_by_key(|&(step, _)| step);
    faults
}
