//! One direction of a byte stream: two socket buffers and a network between them.
//!
//! A byte that was taken from the sender is, at any time, in one of the buffers, read, or counted as
//! discarded. The checker adds them up.

use std::collections::VecDeque;

use super::sabotage::Saboteur;

/// One direction of a byte stream.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// The sender's socket buffer, and what is under way.
    leaving: VecDeque<u8>,
    /// The receiver's socket buffer.
    arrived: VecDeque<u8>,
    /// Bytes that each buffer holds.
    buffer_max: usize,
    end: End,
    discarded: usize,
    saboteur: Option<Saboteur>,
}

/// Whether the sender has ended the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// Behind what is leaving.
    Leaving,
    /// Behind what has arrived.
    Arrived,
}

impl Pipe {
    pub(crate) fn new(buffer_max: usize) -> Self {
        Self {
            leaving: VecDeque::new(),
            arrived: VecDeque::new(),
            buffer_max,
            end: End::Open,
            discarded: 0,
            saboteur: None,
        }
    }

    pub(crate) fn sabotage(&mut self, saboteur: Saboteur) {
        self.saboteur = Some(saboteur);
    }

    pub(crate) fn has_room(&self) -> bool {
        self.end == End::Open && self.leaving.len() < self.buffer_max
    }

    /// Takes what fits, and says how much that is.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        if !self.has_room() {
            return 0;
        }
        let count = bytes.len().min(self.buffer_max - self.leaving.len());
        match &mut self.saboteur {
            Some(saboteur) => self.leaving.extend(saboteur.pass(&bytes[..count])),
            None => self.leaving.extend(&bytes[..count]),
        }
        count
    }

    /// Ends the stream behind what was written.
    pub(crate) fn end(&mut self) {
        if self.end == End::Open {
            self.end = End::Leaving;
        }
    }

    /// Whether the network has anything to do.
    pub(crate) fn can_carry(&self) -> bool {
        match self.leaving.len() {
            0 => self.end == End::Leaving,
            _ => self.arrived.len() < self.buffer_max,
        }
    }

    /// Moves up to `max` bytes from end to end, or the end of the stream if there are none.
    pub(crate) fn carry(&mut self, max: usize) -> usize {
        let room = self.buffer_max.saturating_sub(self.arrived.len());
        let count = self.leaving.len().min(max).min(room);
        self.arrived.extend(self.leaving.drain(..count));
        if self.leaving.is_empty() && count == 0 && self.end == End::Leaving {
            self.end = End::Arrived;
        }
        count
    }

    pub(crate) fn has_bytes(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// Whether the end of the stream has arrived, behind whatever is still to be read.
    pub(crate) fn has_ended(&self) -> bool {
        self.end == End::Arrived
    }

    pub(crate) fn read(&mut self, max: usize) -> Vec<u8> {
        let count = self.arrived.len().min(max);
        self.arrived.drain(..count).collect()
    }

    /// Throws away what has not arrived.
    pub(crate) fn discard_leaving(&mut self) {
        self.discarded += self.leaving.len();
        self.leaving.clear();
    }

    /// Throws away what has not been read.
    pub(crate) fn discard_arrived(&mut self) {
        self.discarded += self.arrived.len();
        self.arrived.clear();
    }

    /// Bytes that were written and not read: thrown away, or still in the pipe.
    pub(crate) fn unread(&self) -> usize {
        self.discarded + self.leaving.len() + self.arrived.len()
    }

    pub(crate) fn discarded(&self) -> usize {
        self.discarded
    }
}
