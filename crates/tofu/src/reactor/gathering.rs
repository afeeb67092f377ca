//! When what is posted leaves: at once, or together with what is posted next.
//!
//! The first message after a driver's look, or after a pause, leaves at once: an answer is not kept
//! waiting for another one. Those that follow on its heels gather. So do those that an application posts
//! while it has unread events at hand: it will be back for them, and what it says to one leaves together
//! with what it says to the others.
//!
//! What is gathered leaves when there is enough of it, when a driver looks (at the latest when the
//! application is back for more), or with the next message after a pause. The clock is asked seldom in a
//! stream of messages, for that costs as much as the rest of posting.

use std::time::Duration;

use tofu_proto::Instant;

/// Bytes that are gathered before they are written.
pub(crate) const GATHERED_MAX: usize = 128 * 1024;
/// Messages that are posted this close to each other leave together.
const PAUSE: Duration = Duration::from_micros(20);
/// Messages that gather between two looks at the clock.
const UNTIMED_MAX: u32 = 16;

/// The policy of one channel: asked before each message leaves, told what came of it.
#[derive(Debug)]
pub(crate) struct Gathering {
    /// The driver's look before which a message last left at once, and when that was.
    left: Option<(u64, Instant)>,
    /// Messages that gathered since.
    streak: u32,
}

impl Gathering {
    pub(crate) const fn new() -> Self {
        Self {
            left: None,
            streak: 0,
        }
    }

    /// Whether the message waits for others. `look` numbers the driver's looks, `has_more` says that
    /// the application has unread events.
    #[inline]
    pub(crate) fn waits(
        &mut self,
        look: u64,
        has_more: bool,
        now: impl FnOnce() -> Instant,
    ) -> bool {
        if self.goes_on(look) {
            return true;
        }
        let waits = has_more
            || match self.left {
                Some((then, at)) if then == look => now().since(at) < PAUSE,
                _ => false,
            };
        if waits {
            self.streak = self.streak.wrapping_add(1);
        }
        waits
    }

    /// Whether the message waits as those before it did, if that needs no second thought.
    #[inline]
    pub(crate) fn goes_on(&mut self, look: u64) -> bool {
        let goes_on = !self.streak.is_multiple_of(UNTIMED_MAX)
            && self.left.is_some_and(|(then, _)| then == look);
        if goes_on {
            self.streak = self.streak.wrapping_add(1);
        }
        goes_on
    }

    /// What was queued has left, or as much of it as the socket took.
    pub(crate) fn left(&mut self, look: u64, now: Instant) {
        self.left = Some((look, now));
        self.streak = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::ORIGIN + Duration::from_micros(micros)
    }

    fn unasked() -> Instant {
        panic!("the clock is not asked here")
    }

    #[test]
    fn the_first_message_and_the_first_after_a_look_leave_at_once() {
        let mut gathering = Gathering::new();
        assert!(!gathering.waits(7, false, unasked));
        gathering.left(7, at(0));
        assert!(gathering.waits(7, false, || at(1)));
        assert!(!gathering.waits(8, false, unasked));
    }

    #[test]
    fn a_pause_ends_the_waiting() {
        let mut gathering = Gathering::new();
        gathering.left(7, at(0));
        assert!(gathering.waits(7, false, || at(19)));
        gathering.left(7, at(19));
        assert!(!gathering.waits(7, false, || at(39)));
    }

    #[test]
    fn a_stream_of_messages_asks_the_clock_seldom() {
        let mut gathering = Gathering::new();
        gathering.left(7, at(0));
        let mut asked = 0;
        for _ in 0..UNTIMED_MAX * 10 {
            assert!(gathering.waits(7, false, || {
                asked += 1;
                at(1)
            }));
        }
        assert_eq!(asked, 10);
    }

    #[test]
    fn answers_wait_for_each_other_while_there_is_more_to_answer() {
        let mut gathering = Gathering::new();
        for look in 0..100 {
            assert!(gathering.waits(look, true, unasked));
        }
        assert!(!gathering.waits(100, false, unasked), "the last one");
    }
}
