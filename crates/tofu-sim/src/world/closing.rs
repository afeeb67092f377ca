//! How groups and engines end because their applications want it, and what is reported of it.

use std::time::Duration;

use tofu::simulation::{self, Closing, Shutdown};

use super::{
    World,
    applications::{GroupState, Nobody},
};
use crate::{
    group::Wish,
    ledger::{Scene, Standing},
};

impl World {
    pub(super) fn grant(&mut self, index: usize, wish: Wish) {
        let host = self.groups[index].host;
        self.shared
            .note(|| format!("host {host} group {index} ends: {wish:?}"));
        let now = self.shared.now();
        if self.hosts[host].shutdown.is_some() {
            // It will hear of it.
            return;
        }
        let closes = |it: &GroupState| it.host == host && it.closing.is_some();
        let wish = match wish {
            // In a process, whoever closes a group sits in its seat meanwhile. Here nobody does, and the
            // report of the shutdown would take what belongs into that of the group.
            Wish::ShutDown(timeout) if self.groups.iter().any(closes) => Wish::Close(timeout),
            wish => wish,
        };
        let group = &mut self.groups[index];
        if let Wish::ShutDown(timeout) = wish {
            let mine = |it: &GroupState| it.host == host && it.channels.is_some();
            if let (Some(engine), None) = (&self.hosts[host].engine, &self.hosts[host].shutdown) {
                for other in 0..self.groups.len() {
                    if mine(&self.groups[other]) {
                        self.shared.ledger.stands(other, Standing::ShutsDown);
                        self.groups[other].back_at = Some(now);
                    }
                }
                self.hosts[host].shutdown = Some(simulation::shutdown(engine, timeout));
                self.hosts[host].looks_at = now;
            }
            return;
        }
        let Some(channels) = group.channels.take() else {
            return;
        };
        group.alarm = None;
        group.back_at = Some(now);
        let standing = match wish {
            Wish::Close(timeout) => {
                group.closing = Some(simulation::close(channels, timeout));
                Standing::Closes
            }
            Wish::Abort => {
                channels.abort();
                Standing::Gone
            }
            Wish::Leave | Wish::ShutDown(_) => {
                drop(channels);
                Standing::Drains
            }
        };
        self.shared.ledger.stands(index, standing);
        // What it held comes back.
        group.events.clear();
        group.application = Box::new(Nobody);
    }

    /// The engine shuts down, and the application hears it: it lets go of its group.
    pub(super) fn is_shut_down(&mut self, index: usize) {
        let group = &mut self.groups[index];
        let host = group.host;
        let channels = group.channels.take();
        group.alarm = None;
        group.application = Box::new(Nobody);
        group.events.clear();
        self.shared
            .note(|| format!("host {host} group {index} hears that the engine shuts down"));
        drop(channels);
    }

    pub(super) fn go_on_closing(&mut self, index: usize) {
        let host = self.groups[index].host;
        let driven = self.drives(host);
        let group = &mut self.groups[index];
        let report = group.closing.as_mut().and_then(Closing::turn);
        self.has_driven(driven);
        if let Some(report) = report {
            self.groups[index].closing = None;
            self.report(host, &report, Some(index));
        }
        self.comes_back(index, 0);
    }

    pub(super) fn look_at_shutdown(&mut self, host: usize) {
        let now = self.shared.now();
        let state = &mut self.hosts[host];
        state.looks_at = now + Duration::from_millis(5);
        if let Some(report) = state.shutdown.as_ref().and_then(Shutdown::try_finish) {
            state.shutdown = None;
            self.report(host, &report, None);
        }
    }

    fn report(&mut self, host: usize, report: &tofu::CloseReport, group: Option<usize>) {
        self.shared.note(|| {
            let closed: Vec<_> = report
                .closed
                .iter()
                .map(|(channel, reason)| format!("channel {channel}: {reason}"))
                .collect();
            format!(
                "host {host} has closed {group:?}: {} undelivered, {} unread, {closed:?}",
                report.undelivered.len(),
                report.unread.len()
            )
        });
        let state = self.shared.network.state();
        let scene = Scene {
            host,
            opened: self.hosts[host].opened,
            limits: &self.hosts[host].limits,
            network: &state,
        };
        let ledger = &mut self.shared.ledger;
        let checked = ledger
            .reported(report, group.is_none(), scene)
            .and_then(|()| group.map_or(Ok(()), |group| ledger.all_is_told(group)));
        drop(state);
        self.shared.hold(checked);
    }
}
