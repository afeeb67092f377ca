//! When what is posted leaves: at once, or together with what is posted next.
//!
//! The first message that is posted in a group after a driver's look, or after a pause, leaves at once: an
//! answer is not kept waiting for another one. Those that follow on its heels gather, on their own channel
//! or on another. So do those that an application posts while it has unread events at hand: it will be back
//! for them, and what it says to one leaves together with what it says to the others.
//!
//! What is gathered leaves when there is enough of it, when a driver looks (at the latest when the
//! application is back for more), or with the next message on its channel after a pause. The clock is asked
//! seldom in a stream of messages, for that costs as much as the rest of posting.

use std::time::Duration;

use tofu_proto::Instant;

/// Bytes that are gathered before they are written.
pub(crate) const GATHERED_MAX: usize = 64 * 1024;
/// Messages that are posted this close to each other leave together.
const PAUSE: Duration = Duration::from_micros(20);
/// Messages that gather between two looks at the clock.
const UNTIMED_MAX: u32 = 16;

/// The policy of one channel: asked before each message leaves, told when what was queued has left.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    /// Messages that gathered since.
    streak: u32,
}

impl Gathering {
    /// Whether the message waits for others. `left_at` tells when a message of the group last left since the
    /// driver's last look, `has_more` that the application has unread events.
    #[inline]
    pub(crate) fn waits(
        &mut self,
        left_at: Option<Instant>,
        has_more: bool,
        now: impl FnOnce() -> Instant,
    ) -> bool {
        if has_more && !self.goes_on() {
            return true;
        }
        let waits = self.goes_on() || left_at.is_some_and(|left_at| now().since(left_at) < PAUSE);
        if waits {
            self.streak = self.streak.wrapping_add(1);
        }
        waits
    }

    /// Whether the message waits as those before it do, and there is no need to ask.
    #[inline]
    fn goes_on(&self) -> bool {
        !self.streak.is_multiple_of(UNTIMED_MAX)
    }

    /// What was queued has left, or as much of it as the socket took.
    pub(crate) fn left(&mut self) {
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
    fn the_first_message_after_a_look_leaves_at_once_and_those_on_its_heels_gather() {
        let mut gathering = Gathering::default();
        assert!(!gathering.waits(None, false, unasked));
        gathering.left();
        assert!(gathering.waits(Some(at(0)), false, || at(1)));
    }

    #[test]
    fn a_pause_ends_the_waiting() {
        let mut gathering = Gathering::default();
        assert!(gathering.waits(Some(at(0)), false, || at(19)));
        gathering.left();
        assert!(!gathering.waits(Some(at(0)), false, || at(20)));
    }

    #[test]
    fn a_stream_of_messages_asks_the_clock_seldom() {
        let mut gathering = Gathering::default();
        let mut asked = 0;
        for _ in 0..UNTIMED_MAX * 10 {
            assert!(gathering.waits(Some(at(0)), false, || {
                asked += 1;
                at(1)
            }));
        }
        assert_eq!(asked, 10);
    }

    #[test]
    fn answers_wait_for_each_other_while_there_is_more_to_answer() {
        let mut gathering = Gathering::default();
        for _ in 0..UNTIMED_MAX / 2 {
            assert!(gathering.waits(None, true, unasked));
        }
        assert!(!gathering.waits(None, false, unasked), "the last one");
    }
}
