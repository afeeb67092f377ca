//! Whether it holds. It does if the peers were at it at all, which the engine's counters must show; if the
//! honest clients have all their answers in time; and if the server's memory is within what it may be.

use std::fmt;

use crate::{
    counted::{Counted, What},
    enemy::{HEAD_START, PERIOD},
    honest::Latencies,
    kind::Kind,
    server,
};

/// How many times its p99 in peace an honest client may see.
const FACTOR_MAX: f64 = 3.0;
/// The longest p99 in peace: beyond that this machine is too busy with other things to tell anything of these.
const PEACE_P99_MAX_US: f64 = 1_000.0;
/// Memory that no option bounds, beyond what the server has in peace: scratch buffers, tables that grow, the
/// allocator's slack.
const SLACK_KIB: u64 = 16 * 1024;
/// What a connection costs that sends nothing.
const CONNECTION_KIB: u64 = 1;
/// A message's memory beside its content.
const MESSAGE_KIB: u64 = 1;

/// Hostile peers of one kind.
pub(crate) type Troop = (Kind, u64);

/// What was seen, in peace and beside the hostile peers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) alone: Latencies,
    pub(crate) beside: Latencies,
    /// Before the first of them came.
    pub(crate) before: Counted,
    /// After the last measurement.
    pub(crate) after: Counted,
    /// The least of each after any measurement.
    pub(crate) connected_min: u64,
    pub(crate) half_open_min: u64,
    /// The server's memory in peace, and the most that it ever was.
    pub(crate) rss_before_kib: u64,
    pub(crate) rss_max_kib: u64,
}

impl Seen {
    pub(crate) fn factor(&self) -> f64 {
        self.beside.p99_us / self.alone.p99_us
    }
}

/// What is to be said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Holds,
    /// What is not as it must be.
    Fails(Vec<String>),
    /// The hostile peers did not do what they were to do, or there is nothing to compare with: nothing was put to
    /// the test.
    ProvesNothing(Vec<String>),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds => f.write_str("holds"),
            Self::Fails(why) => write!(f, "**fails**: {}", why.join(", ")),
            Self::ProvesNothing(why) => write!(f, "**proves nothing**: {}", why.join(", ")),
        }
    }
}

pub(crate) fn judge(army: &[Troop], seen: &Seen) -> Verdict {
    let mut missing = missing(army, seen);
    let in_peace = seen.alone.p99_us;
    if in_peace.is_nan() || in_peace > PEACE_P99_MAX_US {
        missing.push(format!("no peace, with a p99 of {in_peace:.0} us"));
    }
    if !missing.is_empty() {
        return Verdict::ProvesNothing(missing);
    }
    let mut why = Vec::new();
    let factor = seen.factor();
    if factor.is_nan() || factor > FACTOR_MAX {
        why.push(format!("{factor:.1} times the p99"));
    }
    let bound_kib = bound_kib(army, seen);
    if seen.rss_max_kib > bound_kib {
        why.push(format!("{} KiB of {bound_kib}", seen.rss_max_kib));
    }
    let lost = seen.alone.lost + seen.beside.lost;
    if lost > 0 {
        why.push(format!("{lost} answers lost"));
    }
    if why.is_empty() {
        Verdict::Holds
    } else {
        Verdict::Fails(why)
    }
}

/// What so many peers of a kind leave behind by the time that they are measured, each at least.
#[derive(Clone, Copy, Debug, Default)]
struct Traces {
    accepted: u64,
    /// Those who are never thrown out.
    connected: u64,
    half_open: u64,
    messages: u64,
    /// Thrown out because they never said hello, or not let in because too many did not.
    unheard: u64,
    violations: u64,
    queue_full: u64,
}

impl Traces {
    fn of((kind, peers): Troop) -> Self {
        let none = Self {
            accepted: peers,
            ..Self::default()
        };
        // Their hello is a message.
        let greeted = Self {
            connected: peers,
            messages: peers,
            ..none
        };
        match kind {
            Kind::SlowHello => Self {
                unheard: peers,
                ..none
            },
            Kind::SlowFrame | Kind::Announcer => greeted,
            Kind::Garbage | Kind::Knocker => Self {
                violations: peers,
                ..none
            },
            Kind::Deaf => Self {
                queue_full: peers,
                ..greeted
            },
            Kind::Flooder => Self {
                messages: 1_000 * peers,
                ..greeted
            },
            Kind::Bomber => Self {
                messages: 2 * peers,
                ..greeted
            },
            Kind::Churner => Self {
                accepted: 10 * peers,
                half_open: peers / 2,
                ..none
            },
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            connected: self.connected + other.connected,
            half_open: self.half_open + other.half_open,
            messages: self.messages + other.messages,
            unheard: self.unheard + other.unheard,
            violations: self.violations + other.violations,
            queue_full: self.queue_full + other.queue_full,
        }
    }
}

/// What the hostile peers did not leave behind. A tenth may be missing, for some are between two attempts.
fn missing(army: &[Troop], seen: &Seen) -> Vec<String> {
    let due = army.iter().copied().map(Traces::of);
    let due = due.fold(Traces::default(), Traces::and);
    let grown = |what| seen.after.since(&seen.before, what);
    let unheard = grown(What::HelloTimeouts) + grown(What::RefusedHalfOpen);
    // What the honest ones asked is no trace of the others.
    let messages = grown(What::Messages).saturating_sub(seen.beside.asked);
    // There may be descriptors for fewer than would stay.
    let connected = due.connected.min(seen.after.room());
    [
        ("accepted", grown(What::Accepted), due.accepted),
        ("connected", seen.connected_min, connected),
        ("half-open", seen.half_open_min, due.half_open),
        ("messages of theirs", messages, due.messages),
        ("timed out or refused", unheard, due.unheard),
        ("violations", grown(What::Violations), due.violations),
        ("queue full", grown(What::QueueFull), due.queue_full),
    ]
    .into_iter()
    .map(|(name, count, due)| (name, count, (due * 9).div_ceil(10)))
    .filter(|(_, count, least)| count < least)
    .map(|(name, count, least)| format!("{name} {count} of {least}"))
    .collect()
}

/// The most memory that the server may have beside these peers. Only what they make use of is in it: who queues
/// nothing has no part of the bytes that may be queued.
pub(crate) fn bound_kib(army: &[Troop], seen: &Seen) -> u64 {
    let peers: u64 = army.iter().map(|(_, peers)| peers).sum();
    let connections_kib = peers.min(seen.after.room()) * CONNECTION_KIB;
    let begun_kib: u64 = army.iter().copied().map(begun_kib).sum();
    let largest_kib = army.iter().map(|(kind, _)| largest_kib(*kind)).max();
    let pool_kib = server::POOL_MESSAGES as u64 * (MESSAGE_KIB + largest_kib.unwrap_or(0));
    let deaf = army.iter().filter(|(kind, _)| *kind == Kind::Deaf);
    let deaf: u64 = deaf.map(|(_, peers)| peers).sum();
    let queued = deaf * server::CHANNEL_QUEUE_BYTES as u64;
    let queued_kib = queued.min(server::ENGINE_QUEUE_BYTES as u64) / 1024;
    seen.rss_before_kib + SLACK_KIB + connections_kib + begun_kib + pool_kib + queued_kib
}

/// What they have sent of frames that are not whole.
fn begun_kib((kind, peers): Troop) -> u64 {
    match kind {
        // The memory for what has arrived grows twofold.
        Kind::SlowFrame => peers * (2 * HEAD_START as u64).div_ceil(1024),
        // All come whole: what is on its way is of the last second at most, of the five in which each has its moment.
        Kind::Bomber => peers / PERIOD.as_secs() * largest_kib(kind),
        _ => 0,
    }
}

/// The largest message that they send, or are answered with: those of the pool keep the memory of the largest that
/// they ever were.
fn largest_kib(kind: Kind) -> u64 {
    match kind {
        Kind::Deaf => (server::LARGE_LEN as u64).div_ceil(1024),
        Kind::Bomber => 65,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: u64 = 1_000;

    /// As it is when so many of each kind do what they are to do.
    fn seen() -> Seen {
        let latencies = Latencies {
            p50_us: 60.0,
            p99_us: 200.0,
            asked: 4_000,
            lost: 0,
        };
        let before = Counted::default()
            .with(What::Messages, 4_010)
            .with(What::Accepted, 10)
            .with(What::ChannelsMax, 30_000);
        let after = before
            .with(What::Messages, 4_010 + 4_000 + 1_000 * N)
            .with(What::Accepted, 10 + 10 * N)
            .with(What::HelloTimeouts, N)
            .with(What::Violations, N)
            .with(What::QueueFull, N);
        Seen {
            alone: latencies,
            beside: latencies,
            before,
            after,
            connected_min: N,
            half_open_min: N,
            rss_before_kib: 3_000,
            rss_max_kib: 10_000,
        }
    }

    fn is_missing(verdict: &Verdict, word: &str) -> bool {
        matches!(verdict, Verdict::ProvesNothing(why) if why.iter().any(|it| it.starts_with(word)))
    }

    #[test]
    fn each_kind_holds_if_it_was_at_it() {
        for kind in Kind::ALL {
            assert_eq!(judge(&[(kind, N)], &seen()), Verdict::Holds, "{kind}");
        }
    }

    /// Ten honest clients, and nobody else.
    #[test]
    fn peers_that_never_came_prove_nothing() {
        let nobody = Seen {
            after: seen().before.with(What::Messages, 8_010),
            connected_min: 0,
            half_open_min: 0,
            ..seen()
        };
        for kind in Kind::ALL {
            let verdict = judge(&[(kind, N)], &nobody);
            assert!(is_missing(&verdict, "accepted 0 of"), "{kind}: {verdict}");
        }
    }

    #[test]
    fn each_trace_that_is_missing_is_named() {
        let without = |what| Seen {
            after: seen().after.with(what, seen().before.of(what)),
            ..seen()
        };
        for (kind, what, word) in [
            (Kind::SlowHello, What::HelloTimeouts, "timed out"),
            (Kind::Garbage, What::Violations, "violations 0 of 900"),
            (Kind::Knocker, What::Violations, "violations 0 of 900"),
            (Kind::Deaf, What::QueueFull, "queue full 0 of 900"),
            (Kind::Flooder, What::Messages, "messages of theirs 0 of"),
            (Kind::Bomber, What::Messages, "messages of theirs 0 of"),
            (Kind::SlowFrame, What::Messages, "messages of theirs 0 of"),
            (Kind::Announcer, What::Messages, "messages of theirs 0 of"),
            (Kind::Churner, What::Accepted, "accepted 0 of"),
        ] {
            let verdict = judge(&[(kind, N)], &without(what));
            assert!(is_missing(&verdict, word), "{kind}: {verdict}");
            let all = Kind::ALL.map(|kind| (kind, N));
            let verdict = judge(&all, &without(what));
            assert!(matches!(verdict, Verdict::ProvesNothing(_)), "{verdict}");
        }
        let gone = Seen {
            connected_min: 800,
            half_open_min: 400,
            ..seen()
        };
        for kind in [Kind::SlowFrame, Kind::Announcer, Kind::Deaf, Kind::Bomber] {
            let verdict = judge(&[(kind, N)], &gone);
            assert!(is_missing(&verdict, "connected 800 of 900"), "{kind}");
        }
        let verdict = judge(&[(Kind::Churner, N)], &gone);
        assert!(is_missing(&verdict, "half-open 400 of 450"), "{verdict}");
    }

    #[test]
    fn late_answers_and_lost_ones_fail() {
        let mut late = seen();
        late.beside.p99_us = 601.0;
        let verdict = judge(&[(Kind::Announcer, N)], &late);
        assert_eq!(verdict, Verdict::Fails(vec!["3.0 times the p99".into()]));
        late.beside.p99_us = 600.0;
        assert_eq!(judge(&[(Kind::Announcer, N)], &late), Verdict::Holds);
        late.beside.lost = 2;
        let verdict = judge(&[(Kind::Announcer, N)], &late);
        assert_eq!(verdict, Verdict::Fails(vec!["2 answers lost".into()]));
    }

    /// Three times a p99 of 10 ms would be too easy.
    #[test]
    fn a_busy_machine_proves_nothing() {
        let mut busy = seen();
        busy.alone.p99_us = 1_457.0;
        let verdict = judge(&[(Kind::Announcer, N)], &busy);
        assert!(is_missing(&verdict, "no peace"), "{verdict}");
        busy.alone = Latencies::together(&[]);
        let verdict = judge(&[(Kind::Announcer, N)], &busy);
        assert!(is_missing(&verdict, "no peace"), "{verdict}");
    }

    /// Of what is announced nothing may be held: 32 KiB each, or even 16, are far beyond the bound.
    #[test]
    fn an_announcer_that_costs_memory_fails() {
        let announcers = 7_680;
        let mut dear = seen();
        dear.connected_min = announcers;
        dear.rss_max_kib = dear.rss_before_kib + 16 * announcers;
        dear.after = dear.after.with(What::Accepted, 10 + announcers);
        let verdict = judge(&[(Kind::Announcer, announcers)], &dear);
        assert!(matches!(verdict, Verdict::Fails(_)), "{verdict}");
    }

    #[test]
    fn only_the_deaf_have_a_part_of_the_queues() {
        for kind in Kind::ALL {
            let bound_mib = bound_kib(&[(kind, N)], &seen()) / 1024;
            let queues_mib = 156;
            assert_eq!(bound_mib > queues_mib, kind == Kind::Deaf, "{kind}");
        }
    }
}
