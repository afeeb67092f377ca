//! What the server's engine has counted, as it goes from the server's process to the one that judges.

use std::fmt;

use tofu_trials::Fallible;

use crate::honest::CLIENTS;

/// Channels that are no hostile peer's: two listeners, and the honest clients.
const OURS: u64 = 2 + CLIENTS as u64;

/// One of the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Messages,
    Open,
    HalfOpen,
    QueuedKib,
    PoolOut,
    Accepted,
    RefusedHalfOpen,
    RefusedChannels,
    OutOfDescriptors,
    HelloTimeouts,
    FrameTimeouts,
    Violations,
    QueueFull,
    PoolEmpty,
    /// An option, which depends on how many descriptors the server may have.
    ChannelsMax,
}

impl What {
    const ALL: [(Self, &'static str); 15] = [
        (Self::Messages, "messages heard"),
        (Self::Open, "open"),
        (Self::HalfOpen, "half-open"),
        (Self::QueuedKib, "queued KiB"),
        (Self::PoolOut, "pool out"),
        (Self::Accepted, "accepted"),
        (Self::RefusedHalfOpen, "refused: half-open"),
        (Self::RefusedChannels, "refused: channels"),
        (Self::OutOfDescriptors, "out of descriptors"),
        (Self::HelloTimeouts, "hello timeouts"),
        (Self::FrameTimeouts, "frame timeouts"),
        (Self::Violations, "violations"),
        (Self::QueueFull, "queue full"),
        (Self::PoolEmpty, "pool empty"),
        (Self::ChannelsMax, "channels at most"),
    ];
}

/// All of them at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted([u64; What::ALL.len()]);

impl Counted {
    pub(crate) fn with(mut self, what: What, count: u64) -> Self {
        self.0[what as usize] = count;
        self
    }

    pub(crate) fn of(&self, what: What) -> u64 {
        self.0[what as usize]
    }

    /// How much more this is than it was before.
    pub(crate) fn since(&self, before: &Self, what: What) -> u64 {
        self.of(what).saturating_sub(before.of(what))
    }

    /// How many hostile peers are connected.
    pub(crate) fn connected(&self) -> u64 {
        self.of(What::Open).saturating_sub(OURS)
    }

    /// How many hostile peers could be connected.
    pub(crate) fn room(&self) -> u64 {
        let channels = self.of(What::ChannelsMax);
        channels.saturating_sub(OURS)
    }

    /// As a line for [`parse`](Self::parse).
    pub(crate) fn told(&self) -> String {
        self.0.map(|count| count.to_string()).join(" ")
    }

    pub(crate) fn parse(line: &str) -> Fallible<Self> {
        let counts: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let counts = counts.try_into();
        let counts = counts.map_err(|_| format!("not all that is counted: {line}"))?;
        Ok(Self(counts))
    }
}

/// All that is not 0, for the table.
impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = What::ALL.iter().filter(|(what, _)| {
            // That one says what may be, not what was.
            *what != What::ChannelsMax && self.of(*what) > 0
        });
        let told: Vec<_> = told
            .map(|(what, name)| format!("{name} {}", self.of(*what)))
            .collect();
        f.write_str(&told.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_has_a_place_of_its_own() {
        let mut counted = Counted::default();
        for (at, (what, _)) in What::ALL.iter().enumerate() {
            assert_eq!(*what as usize, at);
            counted = counted.with(*what, at as u64);
        }
        let heard = Counted::parse(&counted.told()).expect("told by the same type");
        assert!(What::ALL.iter().all(|(it, _)| heard.of(*it) == *it as u64));
        assert!(Counted::parse("1 2 3").is_err());
    }
}
