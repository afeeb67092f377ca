//! What a group or an engine reports at its end.

use tofu::{CloseReport, OpCode, OpType, Reason};

use super::{Checked, End, Kind, Ledger, Name, Scene, check, told};
use crate::{Broken, Promise, network::State};

impl Ledger {
    /// What a group that closes, or all groups of an engine, report at the end.
    pub(crate) fn reported(
        &mut self,
        report: &CloseReport,
        of_engine: bool,
        scene: Scene<'_>,
    ) -> Checked {
        let Scene { host, network, .. } = scene;
        for message in &report.unread {
            let name = (host, message.channel());
            if of_engine {
                // What applications have at hand comes before it.
                continue;
            }
            if message.op_code() == OpCode::HelloRequest && !self.ends.contains_key(&name) {
                // It was never heard of otherwise.
                continue;
            }
            self.skip_unread_byes(name, network);
            if self.ends.contains_key(&name) && message.channel().is_assigned() {
                self.delivered(name, message, network)?;
            }
        }
        for message in &report.undelivered {
            let name = (host, message.channel());
            let written = network.tally(host, name.1).unwrap_or_default().written;
            let Some(end) = self.ends.get_mut(&name) else {
                continue;
            };
            check(end.closed.is_none(), Promise::Return, || {
                format!("{} is closed, and {message:?} comes back", told(name))
            })?;
            if end.kind == Kind::Listener {
                continue;
            }
            let mut index = end.returns.unwrap_or_else(|| end.within(written));
            while end
                .posted
                .get(index)
                .is_some_and(|posted| posted.message.op_code().op_type() == OpType::Bye)
            {
                index += 1;
            }
            end.returns = Some(index);
            let reason = Reason::from(message.status());
            self.came_back(name, message, reason, written)?;
        }
        for (channel, reason) in &report.closed {
            let name = (host, *channel);
            let Some(end) = self.ends.get(&name) else {
                if of_engine {
                    self.unheard.insert(name, reason.status());
                }
                continue;
            };
            check(end.closed.is_none(), Promise::Closing, || {
                format!("{} is closed twice, at last with {reason}", told(name))
            })?;
            let tally = network.tally(host, *channel).unwrap_or_default();
            let next = end.returns.unwrap_or_else(|| end.within(tally.written));
            let left = end.posted.get(next..).unwrap_or_default();
            let all_back = left
                .iter()
                .all(|posted| posted.message.op_code().op_type() == OpType::Bye);
            check(
                all_back || end.kind == Kind::Listener,
                Promise::Return,
                || {
                    format!(
                        "{} is closed ({reason}), and {} messages are missing from the report",
                        told(name),
                        left.len()
                    )
                },
            )?;
            self.is_closed(name, *reason, tally, scene)?;
        }
        Ok(())
    }

    /// Byes are not in a report.
    fn skip_unread_byes(&mut self, name: Name, network: &State) {
        let Some(from) = network
            .other_end(name.0, name.1)
            .and_then(|other| self.ends.get(&other))
        else {
            return;
        };
        let Some(end) = self.ends.get(&name) else {
            return;
        };
        let byes = from.posted[end.delivered.min(from.posted.len())..]
            .iter()
            .take_while(|posted| posted.message.op_code().op_type() == OpType::Bye)
            .count();
        if let Some(end) = self.ends.get_mut(&name) {
            end.delivered += byes;
        }
    }

    /// After its report there is nothing to add for a group that closed. (What the applications of an engine
    /// that shut down have at hand comes before the report, and may be heard after it.)
    pub(crate) fn all_is_told(&self, group: usize) -> Checked {
        let is_its = |end: &End| end.closed.is_none() && end.group == group;
        let untold = self.ends.iter().find(|(_, end)| is_its(end));
        match untold {
            None => Ok(()),
            Some((name, _)) => Err(Broken::new(
                Promise::Closing,
                format!("{} is not in the report of its closing", told(*name)),
            )),
        }
    }
}
