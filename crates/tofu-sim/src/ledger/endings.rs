//! Whether a channel ends for a reason that there was, and a listener listens where it should.

use std::io;

use tofu::{Address, LISTEN_ON, Message, OpCode, Reason, Status};

use super::{Checked, End, Kind, Ledger, Name, PATIENT, Scene, Standing, check, told};
use crate::{
    Limits, Promise,
    network::{State, Tally},
};

impl Ledger {
    /// `Listening` was heard.
    pub(super) fn is_listening(
        &mut self,
        name: Name,
        address: &Address,
        response: &Message,
        network: &State,
    ) -> Checked {
        let Some(end) = self.ends.get_mut(&name) else {
            return Ok(());
        };
        let is_first = !std::mem::replace(&mut end.listens, true);
        let asked = end.posted.first().map(|posted| &posted.message);
        let asked = asked.and_then(address_in);
        let listens_at = network.listens_at(name.0, name.1);
        let right = end.kind == Kind::Listener
            && is_first
            && asked.is_some_and(|asked| answers(address, &asked))
            && listens_at.as_ref().is_none_or(|real| real == address)
            && response.op_code() == OpCode::WelcomeResponse
            && response.id() == end.opened_by
            && response.status() == Status::SUCCESS
            && address_in(response).as_ref() == Some(address);
        check(right, Promise::Events, || {
            format!(
                "{} listens on {address}, as {response:?} says, where it had to be {listens_at:?}, for it was \
                 asked for {:?}",
                told(name),
                end.posted.first().map(|posted| &posted.message)
            )
        })
    }

    /// A channel or listener has ended: with the last word, or in a report.
    pub(super) fn is_closed(
        &mut self,
        name: Name,
        reason: Reason,
        tally: Tally,
        scene: Scene<'_>,
    ) -> Checked {
        let Scene {
            limits, network, ..
        } = scene;
        let status = reason.status();
        let Some(end) = self.ends.get_mut(&name) else {
            return Ok(());
        };
        end.closed = Some(status);
        end.wants_room = false;
        let is_listener = end.kind == Kind::Listener;
        let kind = if is_listener { "listener" } else { "channel" };
        *self.closed.entry(format!("{kind}: {status}")).or_default() += 1;
        let was_denied = self.was_denied(name.0, status, tally, network);
        let Some(end) = self.ends.get(&name) else {
            return Ok(());
        };
        let serves = self.groups[end.group].standing == Standing::Serves;
        let quiet = network.now.saturating_sub(tally.moved);
        let right = if is_listener {
            was_denied || (status == Status::CHANNEL_CLOSED && (end.said_signal || !serves))
        } else {
            was_denied || self.had_reason(name, end, status, tally, scene)
        };
        check(right, Promise::Closing, || {
            format!(
                "{} is closed ({reason}), and there was no such reason; quiet for {quiet:?}, {tally:?}",
                told(name)
            )
        })?;
        if is_listener {
            return Ok(());
        }
        // A peer that lives closes when everything was said.
        let waited = status == Status::CHANNEL_CLOSED
            && !end.said_signal
            && !tally.is_disturbed
            && limits.bye_timeout >= PATIENT
            && quiet >= limits.bye_timeout;
        check(!waited, Promise::Grace, || {
            format!("{} has waited {quiet:?} for its peer to close", told(name))
        })?;
        let hangs_up = status == Status::PEER_DISCONNECTED
            || (status == Status::CHANNEL_CLOSED && !end.said_signal);
        if hangs_up && serves {
            let other = network.other_end(name.0, name.1);
            let peer = other.and_then(|other| self.ends.get(&other));
            let read = peer.map_or(0, |peer| peer.within(tally.read));
            let delivered = end.delivered;
            check(
                delivered >= read && tally.unread == 0,
                Promise::HangUp,
                || {
                    format!(
                        "{} is closed ({reason}) after {delivered} messages were delivered, with \
                         {read} read and {} bytes unread",
                        told(name),
                        tally.unread
                    )
                },
            )?;
        }
        Ok(())
    }

    /// Whether a channel that ends with this status had to, for what happened on it.
    fn had_reason(
        &self,
        name: Name,
        end: &End,
        status: Status,
        tally: Tally,
        scene: Scene<'_>,
    ) -> bool {
        let Scene {
            limits, network, ..
        } = scene;
        let now = network.now;
        let serves = self.groups[end.group].standing == Standing::Serves;
        match status {
            Status::CHANNEL_CLOSED => {
                end.said_bye || end.answered_bye || end.said_signal || !serves
            }
            Status::PEER_DISCONNECTED => {
                let other = network.other_end(name.0, name.1);
                let peer = other.and_then(|other| network.tally(other.0, other.1));
                tally.is_disturbed || peer.is_none_or(|peer| peer.is_closed || peer.is_shut)
            }
            // Who was away itself, stopped or slow, blames nobody whose bytes came in time.
            Status::BYE_TIMEOUT | Status::FRAME_TIMEOUT if tally.unread > 0 => false,
            Status::BYE_TIMEOUT => now.saturating_sub(tally.moved) >= limits.bye_timeout || !serves,
            Status::FRAME_TIMEOUT => now.saturating_sub(tally.read_at) >= limits.frame_timeout,
            Status::CONNECT_TIMEOUT => {
                !tally.has_connected && now.saturating_sub(end.opened_at) >= limits.connect_timeout
            }
            // It was reset before it had seen that it was connected.
            Status::CONNECT_FAILED => {
                tally.failed == Some(io::ErrorKind::ConnectionReset) && tally.written == 0
            }
            Status::CONNECT_REFUSED => tally.failed == Some(io::ErrorKind::ConnectionRefused),
            Status::SHUTDOWN_STARTED => !serves,
            // A hello that does not come in time is nothing that an application hears of, and tofu does not
            // break its own protocol.
            _ => false,
        }
    }

    /// Whether the system has denied something with this status before there was a stream: once for each end that says so.
    fn was_denied(&mut self, host: usize, status: Status, tally: Tally, network: &State) -> bool {
        if tally.failed.is_some() || tally.has_connected {
            return false;
        }
        let times = network.denied(host, status);
        let blamed = self.denied.entry((host, status)).or_default();
        let was_denied = *blamed < times;
        *blamed += usize::from(was_denied);
        was_denied
    }

    /// Where nothing goes wrong, nobody who is patient runs out of time, also with a peer that nobody knows.
    pub(crate) fn nobody_ran_out_of_time<'a>(
        &self,
        limits: impl Fn(usize) -> &'a Limits,
    ) -> Checked {
        for (name, end) in &self.ends {
            let limits = limits(name.0);
            let limit = match end.closed {
                Some(Status::CONNECT_TIMEOUT) => limits.connect_timeout,
                Some(Status::FRAME_TIMEOUT) => limits.frame_timeout,
                _ => continue,
            };
            check(limit < PATIENT, Promise::Grace, || {
                format!(
                    "nothing went wrong, and {} is closed with {:?}",
                    told(*name),
                    end.closed
                )
            })?;
        }
        Ok(())
    }
}

fn address_in(message: &Message) -> Option<Address> {
    Address::from_bytes(message.header(LISTEN_ON)?.as_bytes()).ok()
}

/// Whether who asked for one address may get the other: with the real port, and of a name the address that it has.
fn answers(address: &Address, asked: &Address) -> bool {
    let port = match asked.port() {
        0 => address.port() != 0 || asked.path().is_some(),
        port => address.port() == port,
    };
    port && address.path() == asked.path()
}
