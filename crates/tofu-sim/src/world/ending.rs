//! The end of a run: everything that is still to be done gets done, and is counted.

use std::{mem, time::Duration};

use tofu::{Engine, simulation::Keeper};

use super::{Failure, World};
use crate::{Broken, Promise, Report, broken::caught};

/// How long everything may take to end once nothing goes wrong any more.
const END_MAX: Duration = Duration::from_secs(300);

impl World {
    /// Ends the run: nothing goes wrong any more, processes that were stopped go on, each application is told to
    /// [finish](crate::Application::finish), and everything that is still to be done must get done, within five
    /// simulated minutes.
    ///
    /// # Errors
    /// A promise was broken.
    pub fn finish(&mut self) -> Result<Report, Box<Failure>> {
        self.shared
            .note(|| "nothing goes wrong any more".to_owned());
        self.shared.network.state().calm_down();
        self.is_ending = true;
        let now = self.now();
        for host in &mut self.hosts {
            host.stopped_until = host.stopped_until.min(now);
        }
        if let Err(said) = caught(|| self.tell_to_finish()) {
            return Err(self.failure(Broken::new(Promise::NoPanic, said)));
        }
        let until = self.now() + END_MAX;
        while !self.is_over() {
            if !self.step(Some(until))? {
                let how = format!("after {END_MAX:?}, {}", self.what_is_left());
                return Err(self.failure(Broken::new(Promise::End, how)));
            }
        }
        for index in 0..self.hosts.len() {
            let checked = self.all_came_back(index);
            self.checked(checked)?;
        }
        let gentle = self.faults_met().is_gentle();
        if gentle {
            let checked = self.nobody_was_late();
            self.checked(checked)?;
        }
        let checked = {
            let state = self.shared.network.state();
            self.shared.ledger.finish(gentle, &state)
        };
        self.checked(checked)?;
        let ledger = &self.shared.ledger;
        Ok(Report {
            seed: self.seed,
            steps: self.steps,
            elapsed: self.now(),
            delivered: ledger.delivered,
            returned: ledger.returned,
            queue_full: ledger.queue_full,
            pool_empty: ledger.pool_empty,
            closed: ledger.closed.clone(),
            crashes: self.crashes,
            stops: self.stops,
            gentle,
        })
    }

    fn tell_to_finish(&mut self) {
        self.follow_up(|_| true);
        for index in 0..self.groups.len() {
            let group = &mut self.groups[index];
            if !mem::replace(&mut group.is_told_to_finish, true) && group.channels.is_some() {
                self.with_application(index, |application, group| application.finish(group));
            }
        }
    }

    /// Whether nobody has anything to do any more.
    fn is_over(&self) -> bool {
        let groups = self
            .groups
            .iter()
            .all(|group| group.channels.is_none() && group.closing.is_none());
        let state = self.shared.network.state();
        let hosts = self.hosts.iter().all(|host| {
            let is_called = |keeper: &Keeper| state.ready_since(keeper.poller()).is_some();
            host.shutdown.is_none() && !host.keeper.as_ref().is_some_and(is_called)
        });
        drop(state);
        let open = self.hosts.iter().filter_map(|host| host.engine.as_ref());
        let hosts = hosts && open.map(Engine::metrics).all(|it| it.channels_open == 0);
        groups && hosts
    }

    pub(super) fn what_is_left(&self) -> String {
        let serving = self
            .groups
            .iter()
            .filter(|it| it.channels.is_some())
            .count();
        let closing = self.groups.iter().filter(|it| it.closing.is_some()).count();
        let open: usize = self
            .hosts
            .iter()
            .filter_map(|host| host.engine.as_ref())
            .map(|engine| engine.metrics().channels_open)
            .sum();
        format!("{serving} groups serve, {closing} close, {open} channels are open")
    }

    /// Where nothing goes wrong, everything comes in time, unless a process was stopped.
    fn nobody_was_late(&self) -> Result<(), Broken> {
        if self.hosts.iter().any(|host| !host.stopped_until.is_zero()) {
            return Ok(());
        }
        let limits = |host: usize| &self.hosts[host].limits;
        self.shared.ledger.nobody_ran_out_of_time(limits)?;
        for (index, host) in self.hosts.iter().enumerate() {
            let metrics = host.engine.as_ref().map(Engine::metrics);
            let late = metrics.map_or(0, |metrics| metrics.hello_timeouts);
            if late > 0 && host.limits.hello_timeout >= Duration::from_secs(60) {
                let how =
                    format!("nothing went wrong, and {late} hellos came late to host {index}");
                return Err(Broken::new(Promise::Grace, how));
            }
        }
        Ok(())
    }

    fn all_came_back(&mut self, host: usize) -> Result<(), Broken> {
        let Some(engine) = &self.hosts[host].engine else {
            return Ok(());
        };
        let left = engine.metrics();
        let levels = [
            left.channels_open,
            left.half_open,
            left.pool_messages_out,
            left.queued_bytes,
        ];
        if levels == [0; 4] {
            return Ok(());
        }
        let mut how = format!(
            "host {host} has {} channels, {} half-open, {} messages out of the pool and {} bytes \
             queued when all is over",
            levels[0], levels[1], levels[2], levels[3]
        );
        if levels[2] > 0 {
            how += "; or does somebody keep messages who outlives the application? A message is out of the pool \
                    until it is dropped";
        }
        Err(Broken::new(Promise::Bounds, how))
    }
}
