//! What can go wrong, and how often.

use std::time::Duration;

use crate::Random;

/// What can go wrong in a [`World`](crate::World), and how often. A seed decides it, and it can be set.
///
/// ```
/// use tofu_sim::Faults;
///
/// let mut faults = Faults::none();
/// assert!(faults.is_gentle());
/// faults.resets = 5;
/// assert!(!faults.is_gentle());
/// assert!(faults.without("resets").unwrap().is_gentle());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The most bytes that travel at once: small ones split frames, large ones merge them.
    pub grain_max: usize,
    /// The longest time that bytes take.
    pub delay_max: Duration,
    /// Bytes of each socket buffer.
    pub buffer_max: usize,
    /// How often a stream stands still for a time: of 1,000 times that bytes travel.
    pub stalls: usize,
    /// The longest of these times.
    pub stall_max: Duration,
    /// How often something in the middle resets a stream: of 10,000 times that bytes travel.
    pub resets: usize,
    /// How often one direction of a stream ends too early: of 10,000 times that bytes travel.
    pub half_closes: usize,
    /// How often a connection is refused: of 100.
    pub refusals: usize,
    /// How often nobody answers to a connection: of 100.
    pub lost_connects: usize,
    /// How often there is no descriptor for a connection: of 100.
    pub descriptors: usize,
    /// How often a poller says that a socket is ready, and it is not: of 100.
    pub spurious: usize,
    /// Whether a reset leaves what has arrived to be read, as on Linux, or not.
    pub reset_keeps_unread: bool,
    /// The longest that an application lets events wait.
    pub application_lag_max: Duration,
    /// The longest that the system lets a keeper wait, which has reason to run.
    pub keeper_lag_max: Duration,
    /// Processes that are killed, of those that [may](crate::World::may_crash) be: as many as are there, and
    /// as come to it before the end.
    pub crashes: usize,
    /// Times that a process is [stopped](crate::World::stop), of those that [may](crate::World::may_stop) be: as
    /// many as come to it before the end.
    pub stops: usize,
    /// The longest of these times.
    pub stop_max: Duration,
}

/// The kinds that can be left out, by the names of their fields.
pub const KINDS: [&str; 13] = [
    "crashes",
    "stops",
    "resets",
    "half_closes",
    "refusals",
    "lost_connects",
    "descriptors",
    "stalls",
    "spurious",
    "delay_max",
    "application_lag_max",
    "keeper_lag_max",
    "grain_max",
];

/// The longest stretch of nothing that needs no excuse.
const SHORT: Duration = Duration::from_millis(50);
/// The longest that a process may stand still and no conversation end for it: far below the timeouts of
/// [`Limits`](crate::Limits).
const STOP_GENTLE: Duration = Duration::from_secs(5);

impl Faults {
    /// A network that is fast and reliable, and applications that are prompt.
    pub fn none() -> Self {
        Self {
            grain_max: 1 << 16,
            delay_max: Duration::from_micros(50),
            buffer_max: 1 << 18,
            stalls: 0,
            stall_max: SHORT,
            resets: 0,
            half_closes: 0,
            refusals: 0,
            lost_connects: 0,
            descriptors: 0,
            spurious: 0,
            reset_keeps_unread: true,
            application_lag_max: Duration::from_micros(50),
            keeper_lag_max: Duration::from_micros(50),
            crashes: 0,
            stops: 0,
            stop_max: SHORT,
        }
    }

    /// What this seed decides: for every other one, only what a conversation must survive.
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0xFA17);
        let random = &mut random;
        let gentle = random.percent(50);
        let buffer_max = random.pick(&[700, 5_000, 40_000, 200_000]);
        let mut often = |rates: &[usize]| random.pick(rates);
        let mut faults = Self {
            grain_max: often(&[200, 1_460, 9_000, 70_000]),
            buffer_max,
            stalls: often(&[0, 0, 3, 20]),
            spurious: often(&[0, 0, 5]),
            reset_keeps_unread: true,
            ..Self::none()
        };
        faults.delay_max = random.duration(Duration::from_millis(1));
        faults.application_lag_max =
            random.pick(&[1, 200, 5_000, 50_000]) * Duration::from_micros(1);
        faults.keeper_lag_max = random.pick(&[1, 100, 20_000]) * Duration::from_micros(1);
        // Numbers of their own: what else a seed decides stays what it was before processes were stopped.
        let mut stops = Random::new(seed ^ 0x5709);
        faults.stops = stops.pick(&[0, 0, 1, 3]);
        if faults.stops > 0 {
            let longest = if gentle {
                STOP_GENTLE
            } else {
                Duration::from_secs(20)
            };
            faults.stop_max = stops.pick(&[SHORT, Duration::from_secs(3), longest]);
        }
        if gentle {
            return faults;
        }
        faults.stall_max = random.pick(&[SHORT, Duration::from_secs(3), Duration::from_secs(20)]);
        let mut often = |rates: &[usize]| random.pick(rates);
        faults.resets = often(&[0, 10, 100]);
        faults.half_closes = often(&[0, 0, 30]);
        faults.refusals = often(&[0, 0, 30]);
        faults.lost_connects = often(&[0, 0, 20]);
        faults.descriptors = often(&[0, 0, 20]);
        faults.crashes = often(&[0, 0, 1]);
        faults.reset_keeps_unread = random.percent(70);
        faults
    }

    /// Whether nothing in it is meant to break a conversation. Processes that are stopped for up to five seconds
    /// break none whose timeouts are longer.
    pub fn is_gentle(&self) -> bool {
        let rates = [
            self.resets,
            self.half_closes,
            self.refusals,
            self.lost_connects,
            self.descriptors,
            self.crashes,
        ];
        rates == [0; 6]
            && self.stall_max <= SHORT
            && (self.stops == 0 || self.stop_max <= STOP_GENTLE)
    }

    /// The same without one of the [`KINDS`], if there is any of it.
    pub fn without(&self, kind: &str) -> Option<Self> {
        let mut less = self.clone();
        let none = Self::none();
        match kind {
            "crashes" => less.crashes = 0,
            "stops" => {
                less.stops = 0;
                less.stop_max = none.stop_max;
            }
            "resets" => less.resets = 0,
            "half_closes" => less.half_closes = 0,
            "refusals" => less.refusals = 0,
            "lost_connects" => less.lost_connects = 0,
            "descriptors" => less.descriptors = 0,
            "stalls" => less.stalls = 0,
            "spurious" => less.spurious = 0,
            "delay_max" => less.delay_max = none.delay_max,
            "application_lag_max" => less.application_lag_max = none.application_lag_max,
            "keeper_lag_max" => less.keeper_lag_max = none.keeper_lag_max,
            "grain_max" => {
                less.grain_max = none.grain_max;
                less.buffer_max = none.buffer_max;
            }
            _ => return None,
        }
        (less != *self).then_some(less)
    }

    /// How to write these faults, if they are those of a seed without some [`KINDS`].
    pub(crate) fn written(&self, seed: u64) -> Option<String> {
        let mut same = Self::of_seed(seed);
        let mut text = format!("Faults::of_seed({seed})");
        for kind in KINDS {
            if self.without(kind).is_none()
                && let Some(less) = same.without(kind)
            {
                same = less;
                text += ".without(\"";
                text += kind;
                text += "\").unwrap()";
            }
        }
        (same == *self).then_some(text)
    }
}

/// Leaves out of a failing run one kind of faults after the other, as long as it still fails.
pub(crate) fn reduced<T>(
    mut least: T,
    without: impl Fn(&T, &str) -> Option<T>,
    mut fails: impl FnMut(&T) -> bool,
) -> T {
    for kind in KINDS {
        if let Some(less) = without(&least, kind)
            && fails(&less)
        {
            least = less;
        }
    }
    least
}
