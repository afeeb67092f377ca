//! When to look at which channel again.
//!
//! A channel is noted at most a few times, and only ever for earlier than it is noted already;
//! when its time comes, it is asked what is due, and may say that nothing is any more. So a note
//! outlives its channel, and peers that come and go quickly leave many: once they are most of all,
//! they are thrown away.

use std::{cmp::Reverse, collections::BinaryHeap};

use mio::Token;
use tofu_proto::Instant;

/// Notes that are kept whether their channels are open or not.
const SPARE: usize = 1024;
/// Notes per open channel beyond which those of closed ones are looked for.
const PER_CHANNEL: usize = 4;

#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Token)>>,
}

/// The time for which one channel is noted.
#[derive(Debug, Default)]
pub(crate) struct Noted(Option<Instant>);

impl Timers {
    /// Sees to it that the channel is looked at by `due`.
    pub(crate) fn note(&mut self, token: Token, noted: &mut Noted, due: Instant) {
        if noted.0.is_none_or(|earlier| due < earlier) {
            noted.0 = Some(due);
            self.heap.push(Reverse((due, token)));
        }
    }

    /// A channel whose time has come. The caller clears its note if it is still the current one.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Instant, Token)> {
        let Reverse((due, _)) = self.heap.peek()?;
        if *due > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Whether the notes of channels that are gone may be most of all, `open` being left.
    pub(crate) fn is_untidy(&self, open: usize) -> bool {
        self.heap.len() > SPARE + PER_CHANNEL * open
    }

    /// Throws away the notes of channels that are gone.
    pub(crate) fn retain(&mut self, is_open: impl Fn(Token) -> bool) {
        self.heap.retain(|Reverse((_, token))| is_open(*token));
    }

    /// When the next channel's time comes.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }
}

impl Noted {
    /// The channel is being looked at, because of the note for `due`.
    pub(crate) fn clear(&mut self, due: Instant) {
        if self.0 == Some(due) {
            self.0 = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ORIGIN + Duration::from_secs(seconds)
    }

    #[test]
    fn only_earlier_times_are_noted() {
        let (mut timers, mut noted) = (Timers::default(), Noted::default());
        timers.note(Token(1), &mut noted, at(10));
        timers.note(Token(1), &mut noted, at(20));
        timers.note(Token(1), &mut noted, at(5));
        assert_eq!(timers.next(), Some(at(5)));
        assert_eq!(timers.pop_due(at(4)), None);
        assert_eq!(timers.pop_due(at(5)), Some((at(5), Token(1))));
        noted.clear(at(5));
        timers.note(Token(1), &mut noted, at(7));
        assert_eq!(timers.pop_due(at(30)), Some((at(7), Token(1))));
        assert_eq!(timers.pop_due(at(30)), Some((at(10), Token(1))));
        assert_eq!(timers.pop_due(at(30)), None);
    }

    #[test]
    fn channels_that_come_and_go_leave_a_bounded_number_of_notes() {
        let mut timers = Timers::default();
        let mut listener = Noted::default();
        timers.note(Token(0), &mut listener, at(1_000_000));
        for token in 1..100_000 {
            timers.note(Token(token), &mut Noted::default(), at(3_600));
            if timers.is_untidy(1) {
                timers.retain(|token| token == Token(0));
            }
            assert!(timers.heap.len() <= SPARE + PER_CHANNEL);
        }
        while timers.pop_due(at(3_600)).is_some() {}
        assert_eq!(timers.next(), Some(at(1_000_000)), "the open one's is kept");
    }
}
