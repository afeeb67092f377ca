//! What must hold at any time, and in the end.

use std::time::Duration;

use tofu::{Header, Metrics, OpType, Status};

use super::{Checked, End, Kind, Ledger, Name, Posted, Standing, check, told};
use crate::{Limits, Promise, network::State};

/// Bytes by which an engine's queues may pass their bound, for each channel: short byes and hellos always fit.
const SLACK: usize = 8 * 1024;
/// Bytes in which a channel takes its part of the engine's bound.
const STEP: usize = 4 * 1024;
/// What the byes of a channel take that a group that closes says by itself.
const OWN_BYES: usize = 2 * Header::LEN + STEP;
/// How long what is gathered may wait, but for a keeper that the system lets wait: twice and more what is promised.
const GATHERED_MAX: Duration = Duration::from_millis(10);
/// How long nothing may happen that could.
const IDLE_MAX: Duration = Duration::from_secs(1);
impl Ledger {
    /// Whether an engine is within its bounds, as it counts itself, and as is counted here.
    pub(crate) fn bounds(
        &self,
        host: usize,
        metrics: &Metrics,
        limits: &Limits,
        network: &State,
    ) -> Checked {
        let queue_max = limits.engine_queue_bytes + SLACK * (1 + metrics.channels_open);
        for (what, level, max) in [
            (
                "messages out of the pool",
                metrics.pool_messages_out,
                limits.pool_messages,
            ),
            ("bytes queued", metrics.queued_bytes, queue_max),
            ("half-open connections", metrics.half_open, limits.half_open),
            ("channels", metrics.channels_open, limits.channels),
        ] {
            check(level <= max, Promise::Bounds, || {
                format!("host {host} has {level} {what}, at most {max} are allowed")
            })?;
        }
        let (least, most) = self.queued_on(host, network);
        let most = most + SLACK * metrics.channels_open;
        let said = metrics.queued_bytes;
        check((least..=most).contains(&said), Promise::Bounds, || {
            format!(
                "host {host} says that {said} bytes are queued, and there are {least} to {most}"
            )
        })
    }

    /// Bytes that were posted on a host and are not in a stream: those that are still to be sent for sure, and all that
    /// may be, as the engine counts them.
    fn queued_on(&self, host: usize, network: &State) -> (usize, usize) {
        let (mut least, mut most) = (0, 0);
        let ends = self.ends.iter().filter(|(name, _)| name.0 == host);
        for (name, end) in ends {
            if end.closed.is_some() || end.kind == Kind::Listener {
                continue;
            }
            let queued = end.queued(*name, network);
            most += queued + OWN_BYES;
            // What comes back counts until all has, and what is reported is not known before.
            let serves = self.groups[end.group].standing == Standing::Serves;
            if serves && end.returns.is_none() {
                least += queued;
            }
        }
        if self.leaves(host) {
            // Also on channels of which no application has heard, and will not before there is a report.
            let all = network.channels_of(host);
            let unheard = all.filter(|channel| !self.ends.contains_key(&(host, *channel)));
            most += unheard.count() * OWN_BYES;
        }
        (least, most)
    }

    /// Looks for channels on which something could go on, and does not.
    pub(crate) fn progress(
        &mut self,
        now: Duration,
        network: &State,
        keeper_lag_max: Duration,
        has_messages: impl Fn(usize) -> bool,
        stopped_until: impl Fn(usize) -> Duration,
    ) -> Checked {
        let gathered_max = GATHERED_MAX + 4 * keeper_lag_max;
        for (name, end) in &mut self.ends {
            if end.closed.is_some() {
                continue;
            }
            if !self.groups[end.group].standing.is_told() {
                continue;
            }
            // Nobody does anything in a process that is stopped.
            let stopped_until = stopped_until(name.0);
            let idle = |stuck: Option<(Duration, usize)>| {
                stuck.map_or(Duration::ZERO, |(since, _)| {
                    now.saturating_sub(since.max(stopped_until))
                })
            };
            if end.kind == Kind::Listener {
                let has_heard_all = self.groups[end.group].has_heard_all;
                listener_progress(now, *name, end, has_heard_all, network, idle)?;
                continue;
            }
            let Some(tally) = network.tally(name.0, name.1) else {
                continue;
            };
            let could_write = end.bytes() > tally.written && tally.takes_bytes && !tally.is_closed;
            since(&mut end.unwritten, could_write, now, tally.written);
            let could_read = tally.has_bytes && !tally.is_closed && has_messages(name.0);
            since(&mut end.unread, could_read, now, tally.read);
            // What only waits for company leaves before long, for the keeper looks.
            let gathers = tally.written > 0 && !tally.was_full;
            let write_max = if gathers { gathered_max } else { IDLE_MAX };
            for (stuck, what, max) in [
                (end.unwritten, "write", write_max),
                (end.unread, "read", IDLE_MAX),
            ] {
                let idle = idle(stuck);
                check(idle < max, Promise::Progress, || {
                    format!(
                        "{} could {what}, and has not for {idle:?}: {} bytes posted, {tally:?}",
                        told(*name),
                        end.bytes()
                    )
                })?;
            }
        }
        for (index, group) in self.groups.iter().enumerate() {
            let stopped_until = stopped_until(group.host);
            let missed = group.misses_since().map_or(Duration::ZERO, |since| {
                now.saturating_sub(since.max(stopped_until))
            });
            check(missed < IDLE_MAX, Promise::Events, || {
                format!("group {index} waits, and has not heard a notification for {missed:?}")
            })?;
        }
        Ok(())
    }

    /// Everything has come to its end. In a gentle run, everything has ended well.
    pub(crate) fn finish(&self, gentle: bool, network: &State) -> Checked {
        for (name, end) in &self.ends {
            let is_told = self.groups[end.group].standing.is_told();
            check(end.closed.is_some() || !is_told, Promise::Closing, || {
                format!("{} was never closed", told(*name))
            })?;
        }
        if !gentle {
            return Ok(());
        }
        for (name, end) in &self.ends {
            let Some(other) = network.other_end(name.0, name.1) else {
                continue;
            };
            let Some(peer) = self.ends.get(&other) else {
                continue;
            };
            let is_disturbed = |name: Name| {
                network
                    .tally(name.0, name.1)
                    .is_none_or(|it| it.is_disturbed)
            };
            let listens = |end: &End| {
                let standing = self.groups[end.group].standing;
                standing == Standing::Serves
                    || (end.closed.is_some() && standing != Standing::ShutsDown)
            };
            let is_rude = |end: &End| {
                end.said_signal || matches!(self.groups[end.group].standing, Standing::Gone)
            };
            if is_disturbed(*name) || is_disturbed(other) || is_rude(end) || is_rude(peer) {
                continue;
            }
            if listens(peer) && peer.closed != Some(Status::CONNECT_REFUSED) {
                // Byes are not in a report.
                let serves = self.groups[peer.group].standing == Standing::Serves;
                let is_said =
                    |posted: &Posted| serves || posted.message.op_code().op_type() != OpType::Bye;
                let last = end.posted.iter().rposition(is_said);
                check(
                    peer.delivered >= last.map_or(0, |last| last + 1),
                    Promise::Grace,
                    || {
                        format!(
                            "{} has posted {} messages, and {} has got {}",
                            told(*name),
                            end.posted.len(),
                            told(other),
                            peer.delivered
                        )
                    },
                )?;
            }
            let both_serve = [end, peer]
                .iter()
                .all(|end| self.groups[end.group].standing.is_told());
            if both_serve {
                check(
                    end.closed == Some(Status::CHANNEL_CLOSED),
                    Promise::Grace,
                    || {
                        format!(
                            "nothing went wrong, and {} is closed with {:?}",
                            told(*name),
                            end.closed
                        )
                    },
                )?;
            }
        }
        Ok(())
    }
}

/// A listener accepts what waits, or is told that there is no descriptor for it; and who asked for it hears of it.
fn listener_progress(
    now: Duration,
    name: Name,
    end: &mut End,
    has_heard_all: bool,
    network: &State,
    idle: impl Fn(Option<(Duration, usize)>) -> Duration,
) -> Checked {
    let Some(backlog) = network.backlog(name.0, name.1) else {
        (end.unwritten, end.unread) = (None, None);
        return Ok(());
    };
    since(&mut end.unread, backlog.waiting > 0, now, backlog.answers);
    since(&mut end.unwritten, has_heard_all && !end.listens, now, 0);
    for (stuck, what) in [
        (end.unread, "accept a connection"),
        (end.unwritten, "say that it listens"),
    ] {
        let idle = idle(stuck);
        check(idle < IDLE_MAX, Promise::Progress, || {
            format!(
                "{} could {what}, and has not for {idle:?}: {backlog:?}",
                told(name)
            )
        })?;
    }
    Ok(())
}

fn since(stuck: &mut Option<(Duration, usize)>, could: bool, now: Duration, moved: usize) {
    match stuck {
        Some((_, then)) if could && *then == moved => {}
        _ => *stuck = could.then_some((now, moved)),
    }
}
