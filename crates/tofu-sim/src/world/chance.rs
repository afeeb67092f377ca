//! What chance does to processes: it kills and stops those that it may, at moments that the seed decides.

use std::{fmt, time::Duration};

use super::{Host, World};
use crate::{Faults, Random};

/// How far the next crash or stop may be: some come while everything begins, some when it has long settled.
const FAR: [Duration; 3] = [
    Duration::from_millis(10),
    Duration::from_millis(300),
    Duration::from_secs(2),
];
/// The longest from a crash to what follows it.
const DOWN_MAX: Duration = Duration::from_millis(300);

/// What follows a crash.
pub(super) type Then = Box<dyn FnOnce(&mut World)>;

/// What is left of the faults that befall whole processes. It has numbers of its own: a world in which no process
/// may be killed or stopped is the same run with these faults and without.
#[derive(Debug)]
pub(super) struct Chance {
    random: Random,
    crashes: Left,
    stops: Left,
}

/// How often something is still to happen.
#[derive(Debug)]
struct Left {
    count: usize,
    /// When it happens next, once it can.
    at: Option<Duration>,
}

/// How chance stands to a process.
pub(super) enum Crash {
    /// It must not kill it.
    Never,
    /// It may, and this follows.
    May(Then),
    /// It has, and this follows then.
    Follows { at: Duration, then: Then },
}

impl fmt::Debug for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Never => "Never",
            Self::May(_) => "May",
            Self::Follows { .. } => "Follows",
        })
    }
}

impl Chance {
    pub(super) fn new(seed: u64, faults: &Faults) -> Self {
        let left = |count| Left { count, at: None };
        Self {
            random: Random::new(seed ^ 0xC4A2),
            crashes: left(faults.crashes),
            stops: left(faults.stops),
        }
    }
}

impl Left {
    /// When it happens, given that it can: a moment is drawn when there is none.
    fn due(&mut self, can: bool, now: Duration, random: &mut Random) -> Option<Duration> {
        if self.count == 0 || !can {
            return None;
        }
        Some(*self.at.get_or_insert_with(|| {
            let far = random.pick(&FAR);
            now + random.duration(far)
        }))
    }

    /// Whether it happens now. If so, it is once less to happen.
    fn take(&mut self, now: Duration) -> bool {
        let is_due = self.count > 0 && self.at.is_some_and(|at| at <= now);
        if is_due {
            self.count -= 1;
            self.at = None;
        }
        is_due
    }
}

impl World {
    /// When chance does something next. Once the end has come, it does nothing any more.
    pub(super) fn chance_due(&mut self) -> Option<Duration> {
        if self.is_ending {
            return None;
        }
        let now = self.now();
        let can_crash = !self.mortals().is_empty();
        let can_stop = !self.stoppable(now).is_empty();
        let Chance {
            random,
            crashes,
            stops,
        } = &mut self.chance;
        let crash = crashes.due(can_crash, now, random);
        let stop = stops.due(can_stop, now, random);
        let follows = self.hosts.iter().filter_map(|host| match host.crash {
            Crash::Follows { at, .. } => Some(at),
            Crash::Never | Crash::May(_) => None,
        });
        follows.chain(crash).chain(stop).min()
    }

    /// What is due by chance.
    pub(super) fn chance(&mut self) {
        let now = self.now();
        self.follow_up(|at| at <= now);
        let mortals = self.mortals();
        if !mortals.is_empty() && self.chance.crashes.take(now) {
            let host = self.chance.random.pick(&mortals);
            let at = now + self.chance.random.duration(DOWN_MAX);
            let then = std::mem::replace(&mut self.hosts[host].crash, Crash::Never);
            self.crash(Host(host));
            if let Crash::May(then) = then {
                self.hosts[host].crash = Crash::Follows { at, then };
            }
        }
        let stoppable = self.stoppable(now);
        if !stoppable.is_empty() && self.chance.stops.take(now) {
            let host = self.chance.random.pick(&stoppable);
            let time = self.chance.random.duration(self.faults.stop_max);
            self.stop(Host(host), time);
        }
    }

    /// Does what follows the crashes that have been.
    pub(super) fn follow_up(&mut self, is_due: impl Fn(Duration) -> bool) {
        for index in 0..self.hosts.len() {
            let crash = &mut self.hosts[index].crash;
            if !matches!(crash, Crash::Follows { at, .. } if is_due(*at)) {
                continue;
            }
            if let Crash::Follows { then, .. } = std::mem::replace(crash, Crash::Never) {
                then(self);
            }
        }
    }

    /// The faults without those that nobody here may meet with.
    pub(super) fn faults_met(&self) -> Faults {
        let mut faults = self.faults.clone();
        if !self.may_crash {
            faults = faults.without("crashes").unwrap_or(faults);
        }
        if !self.hosts.iter().any(|host| host.may_stop) {
            faults = faults.without("stops").unwrap_or(faults);
        }
        faults
    }

    /// Processes that chance may kill.
    fn mortals(&self) -> Vec<usize> {
        self.those(|world, host| matches!(world.hosts[host].crash, Crash::May(_)))
    }

    /// Processes that chance may stop, and that go on by now.
    fn stoppable(&self, now: Duration) -> Vec<usize> {
        self.those(|world, host| {
            let host = &world.hosts[host];
            host.may_stop && host.stopped_until <= now
        })
    }

    fn those(&self, are: impl Fn(&Self, usize) -> bool) -> Vec<usize> {
        let alive = (0..self.hosts.len()).filter(|&host| self.hosts[host].engine.is_some());
        alive.filter(|&host| are(self, host)).collect()
    }
}
