//! One thing after the other: who is next, and what must hold in between.

use std::time::Duration;

use super::{Failure, World};
use crate::{Broken, Promise, broken::caught};

/// Steps from one look at the bounds to the next.
const STEPS_UNTIL_LOOK: usize = 16;

/// Who acts next.
#[derive(Clone, Copy, Debug)]
enum Actor {
    Network,
    Keeper(usize),
    Group(usize),
    Shutdown(usize),
    Chance,
}

/// A host of which a group is driven.
#[derive(Clone, Copy, Debug)]
pub(super) struct Driven {
    host: usize,
    writes_before: usize,
}

impl World {
    /// Lets the next thing happen, if it is due by then. `false` says that there is none.
    pub(super) fn step(&mut self, until: Option<Duration>) -> Result<bool, Box<Failure>> {
        let Some((due, actor)) = self.next() else {
            if let Some(until) = until {
                self.shared.network.state().now = until;
            }
            return Ok(false);
        };
        if let Some(until) = until
            && due > until
        {
            self.shared.network.state().now = until;
            return Ok(false);
        }
        self.steps += 1;
        if self.steps > self.steps_max {
            let how = format!(
                "more than {} steps, and World::allow_steps allows no more; {}",
                self.steps_max,
                self.what_is_left()
            );
            return Err(self.failure(Broken::new(Promise::End, how)));
        }
        let cost = self.shared.random.duration(Duration::from_micros(5));
        {
            let mut state = self.shared.network.state();
            state.now = state.now.max(due) + cost;
        }
        if let Err(said) = caught(|| self.act(actor)) {
            return Err(self.failure(Broken::new(Promise::NoPanic, said)));
        }
        if self.steps.is_multiple_of(STEPS_UNTIL_LOOK) {
            self.look();
        }
        match self.shared.broken.take() {
            Some(broken) => Err(self.failure(broken)),
            None => Ok(true),
        }
    }

    fn act(&mut self, actor: Actor) {
        match actor {
            Actor::Network => self.shared.network.state().go_on(),
            Actor::Keeper(host) => self.keep(host),
            Actor::Group(group) => self.turn(group),
            Actor::Shutdown(host) => self.look_at_shutdown(host),
            Actor::Chance => self.chance(),
        }
    }

    /// Who is next, and when.
    fn next(&mut self) -> Option<(Duration, Actor)> {
        let chance = self.chance_due();
        let state = self.shared.network.state();
        let mut all: Vec<(Duration, Actor)> = Vec::with_capacity(16);
        all.extend(chance.map(|due| (due, Actor::Chance)));
        all.extend(state.next_due().map(|due| (due, Actor::Network)));
        for (index, host) in self.hosts.iter().enumerate() {
            if let Some(keeper) = &host.keeper {
                let called = state.ready_since(keeper.poller());
                let due = [called, host.keeper_due].into_iter().flatten().min();
                let due = due.map(|due| (due + host.keeper_lag).max(host.stopped_until));
                all.extend(due.map(|due| (due, Actor::Keeper(index))));
            }
            if host.shutdown.is_some() {
                let due = host.looks_at.max(host.stopped_until);
                all.push((due, Actor::Shutdown(index)));
            }
        }
        let now = state.now;
        drop(state);
        for (index, group) in self.groups.iter().enumerate() {
            if group.channels.is_none() && group.closing.is_none() {
                continue;
            }
            let woken = group.woken.is_up().then_some(now);
            let alarm = group.alarm.map(|alarm| alarm + group.lag);
            let due = [group.back_at, alarm, woken].into_iter().flatten().min();
            let stopped_until = self.hosts[group.host].stopped_until;
            all.extend(due.map(|due| (due.max(stopped_until), Actor::Group(index))));
        }
        let first = all.iter().map(|(due, _)| (*due).max(now)).min()?;
        let who: Vec<_> = all
            .into_iter()
            .filter(|(due, _)| (*due).max(now) == first)
            .collect();
        let one = self.shared.random.below(who.len());
        Some(who[one])
    }

    fn keep(&mut self, host: usize) {
        let lag_max = self.lag_max(self.faults.keeper_lag_max);
        let driven = self.drives(host);
        let state = &mut self.hosts[host];
        let Some(keeper) = &mut state.keeper else {
            return;
        };
        let before = self.shared.network.state().carried;
        keeper.turn();
        let patience = keeper.patience();
        self.has_driven(driven);
        let (now, after, has_happened) = {
            let state = self.shared.network.state();
            (state.now, state.carried, state.has_happened())
        };
        let state = &mut self.hosts[host];
        state.keeper_due = patience.map(|patience| now + patience);
        state.keeper_lag = self.shared.random.duration(lag_max);
        if after != before || has_happened {
            let (read, written) = (after.read - before.read, after.written - before.written);
            self.shared.note(|| {
                format!("host {host}'s keeper looks: {read} bytes read, {written} written")
            });
        }
    }

    /// A group of this host may be driven now: the ledger is to know whether the pool has messages to receive into.
    pub(super) fn drives(&mut self, host: usize) -> Driven {
        let state = &self.hosts[host];
        let has_messages = state
            .engine
            .as_ref()
            .is_some_and(|engine| engine.metrics().pool_messages_out < state.limits.pool_messages);
        self.shared.ledger.drives(host, has_messages);
        let writes_before = self.shared.network.state().writes(host);
        Driven {
            host,
            writes_before,
        }
    }

    /// It was driven.
    pub(super) fn has_driven(&mut self, driven: Driven) {
        let writes = self.shared.network.state().writes(driven.host);
        let writes = writes - driven.writes_before;
        self.shared.ledger.has_driven(driven.host, writes);
    }

    /// Once the end has come, nobody is slow any more.
    pub(super) fn lag_max(&self, max: Duration) -> Duration {
        if self.is_ending {
            max.min(Duration::from_millis(1))
        } else {
            max
        }
    }

    /// Looks at what must always hold.
    fn look(&mut self) {
        let mut has_messages = Vec::new();
        for index in 0..self.hosts.len() {
            let host = &self.hosts[index];
            let Some(engine) = &host.engine else {
                has_messages.push(false);
                continue;
            };
            let metrics = engine.metrics();
            has_messages.push(metrics.pool_messages_out < host.limits.pool_messages);
            let checked = {
                let state = self.shared.network.state();
                let ledger = &self.shared.ledger;
                ledger.bounds(index, &metrics, &host.limits, &state)
            };
            self.shared.hold(checked);
        }
        let checked = {
            let state = self.shared.network.state();
            let now = state.now;
            self.shared.ledger.progress(
                now,
                &state,
                self.faults.keeper_lag_max,
                |host| has_messages[host],
                |host| self.hosts[host].stopped_until,
            )
        };
        self.shared.hold(checked);
    }
}
