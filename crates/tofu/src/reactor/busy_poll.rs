//! How long a driver polls before it sleeps.
//!
//! Putting a thread to sleep and waking it costs some ten times what a message costs. A driver that
//! has reason to expect the next message soon asks the poller again and again instead, for a bounded
//! time. The reason is experience: the last polls found something. After one that did not, the next
//! few waits sleep at once, twice as many after each failure, so that a group whose messages are far
//! between pays next to nothing for trying.
//!
//! Between two polls the thread yields, so that a peer on the same core gets to answer.

use std::time::Duration;

/// Waits that sleep at once after a failure, at most.
const SKIPS_MAX: u32 = 256;

/// The policy of one driver: asked before each wait, told what came of it.
#[derive(Debug)]
pub(crate) struct BusyPoll {
    limit: Duration,
    /// Waits that still sleep at once.
    skips_left: u32,
    /// Waits to skip after the next failure.
    skips_next: u32,
}

impl BusyPoll {
    /// Polls at most `limit` before each sleep; zero turns it off.
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            skips_left: 0,
            skips_next: 1,
        }
    }

    /// How long to poll this time.
    pub(crate) fn time(&mut self) -> Duration {
        if self.skips_left > 0 {
            self.skips_left -= 1;
            return Duration::ZERO;
        }
        self.limit
    }

    /// A poll found something in time.
    pub(crate) fn succeeded(&mut self) {
        self.skips_next = 1;
    }

    /// A poll found nothing.
    pub(crate) fn failed(&mut self) {
        self.skips_left = self.skips_next;
        self.skips_next = (self.skips_next * 2).min(SKIPS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_micros(50);

    /// Waits that sleep at once before the next one that polls.
    fn skips(policy: &mut BusyPoll) -> u32 {
        let mut skips = 0;
        while policy.time().is_zero() {
            skips += 1;
        }
        skips
    }

    #[test]
    fn success_keeps_it_polling() {
        let mut policy = BusyPoll::new(LIMIT);
        for _ in 0..1_000 {
            assert_eq!(policy.time(), LIMIT);
            policy.succeeded();
        }
    }

    #[test]
    fn failures_back_off_and_one_success_forgets_them() {
        let mut policy = BusyPoll::new(LIMIT);
        for expected in [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 256] {
            assert_eq!(skips(&mut policy), expected);
            policy.failed();
        }
        assert_eq!(skips(&mut policy), 256);
        policy.succeeded();
        assert_eq!(skips(&mut policy), 0);
        policy.failed();
        assert_eq!(skips(&mut policy), 1);
    }
}
