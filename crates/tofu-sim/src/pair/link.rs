//! The stream between two peers: a pipe each way, and the resets that break both.
//!
//! Closing is hard, as tofu's sockets close: it throws away what the closing end has not read, and
//! what of its own has not arrived. The reset that tells the other end travels like anything else,
//! and throws away there what was still to leave and, on some systems, what was still to be read.

use tofu_proto::{Instant, Side};

use super::{
    Both, Random,
    both::{SIDES, other},
    pipe::Pipe,
    sabotage::Saboteur,
};

/// The stream between two peers.
#[derive(Debug)]
pub(crate) struct Link {
    /// By who sends.
    pipes: Both<Pipe>,
    ends: Both<End>,
    /// Resets under way, by whom they will reach.
    resets: Both<bool>,
    /// Nothing travels before.
    pub(crate) stalled_until: Instant,
    /// Whether a reset leaves what has arrived to be read.
    reset_keeps_unread: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// Closed by its owner.
    Closed,
    /// Reset by the other one.
    Reset,
}

/// What reading gives.
#[derive(Debug)]
pub(crate) enum Read {
    Bytes(Vec<u8>),
    Nothing,
    /// The end of the stream, or a reset.
    End,
}

/// The stream was reset: nothing can be written.
#[derive(Debug)]
pub(crate) struct Broken;

impl Link {
    pub(crate) fn new(buffer_max: Both<usize>, reset_keeps_unread: bool) -> Self {
        Self {
            pipes: Both::of(|side| Pipe::new(buffer_max[side])),
            ends: Both::of(|_| End::Open),
            resets: Both::of(|_| false),
            stalled_until: Instant::ORIGIN,
            reset_keeps_unread,
        }
    }

    pub(crate) fn sabotage(&mut self, from: Side, saboteur: Saboteur) {
        self.pipes[from].sabotage(saboteur);
    }

    pub(crate) fn is_writable(&self, side: Side) -> bool {
        self.ends[side] == End::Reset || self.pipes[side].has_room()
    }

    pub(crate) fn write(&mut self, side: Side, bytes: &[u8]) -> Result<usize, Broken> {
        match self.ends[side] {
            End::Open => Ok(self.pipes[side].write(bytes)),
            End::Closed | End::Reset => Err(Broken),
        }
    }

    /// Ends the direction of the stream in which `side` sends.
    pub(crate) fn end(&mut self, side: Side) {
        self.pipes[side].end();
    }

    pub(crate) fn is_readable(&self, side: Side) -> bool {
        self.pipes[other(side)].has_bytes() || self.is_over(side)
    }

    /// Whether `side` will read the end of the stream, or a reset.
    pub(crate) fn is_over(&self, side: Side) -> bool {
        self.ends[side] == End::Reset || self.pipes[other(side)].has_ended()
    }

    pub(crate) fn read(&mut self, side: Side, max: usize) -> Read {
        let pipe = &mut self.pipes[other(side)];
        if pipe.has_bytes() {
            Read::Bytes(pipe.read(max))
        } else if self.is_over(side) {
            Read::End
        } else {
            Read::Nothing
        }
    }

    /// Whether the network has bytes of `from`, or the end of its stream, to carry.
    pub(crate) fn can_carry(&self, from: Side, now: Instant) -> bool {
        self.stalled_until <= now && self.pipes[from].can_carry()
    }

    pub(crate) fn carry(&mut self, from: Side, max: usize) -> usize {
        let count = self.pipes[from].carry(max);
        if self.ends[other(from)] != End::Open {
            self.pipes[from].discard_arrived();
        }
        count
    }

    /// Whether a reset is about to reach `side`.
    pub(crate) fn can_reset(&self, side: Side, now: Instant) -> bool {
        self.stalled_until <= now && self.resets[side]
    }

    /// The reset reaches `side`.
    pub(crate) fn reset(&mut self, side: Side) {
        self.resets[side] = false;
        self.ends[side] = End::Reset;
        self.pipes[side].discard_leaving();
        self.pipes[other(side)].discard_leaving();
        if !self.reset_keeps_unread {
            self.pipes[other(side)].discard_arrived();
        }
    }

    /// `side` closes, hard. Some of what was under way arrives nevertheless.
    pub(crate) fn close(&mut self, side: Side, random: &mut Random) {
        let max = random.pick(&[0, 1, 100, usize::MAX]);
        self.carry(side, max);
        self.pipes[side].discard_leaving();
        self.pipes[other(side)].discard_arrived();
        self.ends[side] = End::Closed;
        self.resets[side] = false;
        if self.ends[other(side)] == End::Open {
            self.resets[other(side)] = true;
        }
    }

    /// Somebody in the middle breaks the stream.
    pub(crate) fn cut(&mut self) {
        for side in SIDES {
            self.resets[side] = self.ends[side] == End::Open;
        }
    }

    /// Bytes of `from` that were written and not read.
    pub(crate) fn unread(&self, from: Side) -> usize {
        self.pipes[from].unread()
    }

    /// Bytes of `from` that were thrown away.
    pub(crate) fn discarded(&self, from: Side) -> usize {
        self.pipes[from].discarded()
    }
}
