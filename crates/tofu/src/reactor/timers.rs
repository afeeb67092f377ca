//! When to look at which channel again.
//!
//! A channel is noted at most a few times, and only ever for earlier than it is noted already;
//! when its time comes, it is asked what is due, and may say that nothing is any more.

use std::{cmp::Reverse, collections::BinaryHeap};

use mio::Token;
use tofu_proto::Instant;

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
}
