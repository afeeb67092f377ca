//! How long a driver polls before it sleeps.
//!
//! Putting a thread to sleep and waking it costs some ten times what a message costs. A driver that
//! has reason to expect the next message soon asks the poller again and again instead, for a bounded
//! time. The reason is experience: the last polls found something. After one that did not, the next
//! few waits sleep at once, twice as many after each failure, so that a group whose messages are far
//! between pays next to nothing for trying.
//!
//! While it polls, a driver mostly reads the one socket that the last messages came from, for that is one
//! system call where asking the poller first would be two. Now and then it asks the poller about all the
//! others, also if each wait is over at its first step, and now and then it yields the core. When a yield takes
//! long, somebody else wants this core, most likely the peer itself, and polling would only steal its time: from
//! then on the driver yields before every look, until nobody seems to want the core any more.

use std::time::Duration;

/// Waits that sleep at once after a failure, at most.
const SKIPS_MAX: u32 = 256;

/// A yield that takes this long has let another thread run.
const YIELDED_MIN: Duration = Duration::from_micros(1);
/// Yields in a row, each back at once, after which the core is our own again.
const QUIET_YIELDS: u32 = 8;
/// Steps in a row, in however many waits, after which the poller is asked: the peer that is read may always have more.
const UNASKED_MAX: u32 = 32;

/// What a driver that polls does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read the socket that the last messages came from.
    Read,
    /// Ask the poller about all sockets.
    Ask,
    /// Let others have the core.
    Yield,
}

/// The steps on a core of our own, and on one that others want, again and again.
const ALONE: [Step; 8] = {
    use Step::{Ask, Read, Yield};
    [Read, Read, Read, Ask, Read, Read, Read, Yield]
};
const SHARED: [Step; 4] = {
    use Step::{Ask, Read, Yield};
    [Yield, Read, Yield, Ask]
};

/// The policy of one driver: asked before each wait and each step of it, told what came of it.
#[derive(Debug)]
pub(crate) struct BusyPoll {
    limit: Duration,
    /// Steps taken in this wait.
    steps: usize,
    /// Steps in a row, in all waits, that did not ask the poller.
    unasked: u32,
    /// Yields in a row that were back at once.
    quiet_yields: u32,
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
            steps: 0,
            unasked: 0,
            // Until told otherwise, the core is our own.
            quiet_yields: QUIET_YIELDS,
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
        self.steps = 0;
        self.limit
    }

    /// What to do next.
    pub(crate) fn step(&mut self) -> Step {
        let steps: &[Step] = if self.quiet_yields < QUIET_YIELDS {
            &SHARED
        } else {
            &ALONE
        };
        let step = if self.unasked < UNASKED_MAX {
            steps[self.steps % steps.len()]
        } else {
            Step::Ask
        };
        self.steps += 1;
        self.unasked = match step {
            Step::Ask => 0,
            Step::Read | Step::Yield => self.unasked + 1,
        };
        step
    }

    /// A yield took this long.
    pub(crate) fn yielded(&mut self, took: Duration) {
        if took >= YIELDED_MIN {
            self.quiet_yields = 0;
        } else if self.quiet_yields < QUIET_YIELDS {
            self.quiet_yields += 1;
        }
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

    /// The steps of one wait in which each yield takes this long.
    fn steps(policy: &mut BusyPoll, yield_takes: Duration, count: usize) -> Vec<Step> {
        assert_eq!(policy.time(), LIMIT);
        let step = |_| {
            let step = policy.step();
            if step == Step::Yield {
                policy.yielded(yield_takes);
            }
            step
        };
        (0..count).map(step).collect()
    }

    #[test]
    fn on_a_core_of_its_own_it_mostly_reads_and_never_forgets_the_others() {
        let mut policy = BusyPoll::new(LIMIT);
        let steps = steps(&mut policy, Duration::from_nanos(200), 8 * 100);
        let count = |wanted| steps.iter().filter(|&&step| step == wanted).count();
        assert_eq!((count(Step::Read), count(Step::Ask)), (600, 100));
        assert_eq!(count(Step::Yield), 100);
        assert_eq!(steps[0], Step::Read);
    }

    #[test]
    fn on_a_core_that_the_peer_wants_it_yields_before_every_look() {
        let mut policy = BusyPoll::new(LIMIT);
        steps(&mut policy, Duration::from_micros(5), 8);
        for _ in 0..10 {
            let steps = steps(&mut policy, Duration::from_micros(5), 2);
            assert_eq!(steps, [Step::Yield, Step::Read]);
        }
        let steps = steps(&mut policy, Duration::from_nanos(200), 100);
        assert_eq!(steps[..4], SHARED);
        let yields = steps[92..].iter().filter(|&&step| step == Step::Yield);
        assert_eq!(yields.count(), 1, "nobody wants the core any more");
    }

    #[test]
    fn however_often_the_first_look_finds_something_all_are_asked_now_and_then() {
        let mut policy = BusyPoll::new(LIMIT);
        let first = |_| {
            let step = steps(&mut policy, Duration::from_nanos(200), 1)[0];
            policy.succeeded();
            step
        };
        let firsts: Vec<_> = (0..=UNASKED_MAX).map(first).collect();
        assert_eq!(firsts.last(), Some(&Step::Ask));
        assert!(
            firsts[..firsts.len() - 1]
                .iter()
                .all(|step| *step == Step::Read)
        );
    }
}
