//! Closing: what every activity on a channel may lead to, the end of a channel, and the ways in
//! which a whole group closes.

use std::sync::{Arc, MutexGuard, atomic::Ordering};

use tofu_proto::{Instant, Message, OpCode, State, Status};

use super::{
    GROUP, Reactor,
    channel::{Channel, ListenerSocket, Peer, Room, Socket},
};
use crate::{
    engine::next_message_id,
    event::{Event, Reason},
    group::Group,
};

/// What the group as a whole is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It serves its application.
    Serving,
    /// It says bye on every channel, and answers every bye, until then. Its events are collected.
    Leaving(Instant),
    /// Its application is gone. What is queued leaves, until then; what comes is thrown away.
    Draining(Instant),
}

impl Mode {
    /// Whether anybody will hear of what happens.
    pub(super) fn is_listening(self) -> bool {
        !matches!(self, Self::Draining(_))
    }
}

impl Reactor {
    /// What has to follow when anything happened on a peer's channel: write what is queued, say what
    /// is due, note the next timer. An error is the reason to end the channel.
    pub(super) fn service(
        &mut self,
        group: &Group,
        channel: &Channel,
        peer: &mut Peer,
    ) -> Result<(), Reason> {
        peer.flush(&group.registry, channel.token, self.now);
        if peer.is_broken() && !peer.connection.is_held() {
            // No readiness may ever tell.
            self.come_back(channel.token);
        }
        let draining = !self.mode.is_listening();
        if let Socket::Open(open) = &mut peer.socket
            && peer.connection.queue().is_empty()
            && (draining || peer.connection.wants_half_close())
        {
            open.end_writing();
        }
        if peer.room != Room::Unasked && !draining {
            self.make_room(group, channel, peer);
        }
        if let Some(status) = peer.connection.poll_close() {
            return Err(status.into());
        }
        if let Some(status) = peer.connection.handle_timeout(self.now) {
            return Err(status.into());
        }
        let dues = [peer.connection.poll_timeout(), peer.socket.due()];
        for due in dues.into_iter().flatten() {
            self.timers.note(channel.token, &mut peer.noted, due);
        }
        Ok(())
    }

    /// Tells the application that there is room again, in the channel's queue and in the engine's.
    fn make_room(&mut self, group: &Group, channel: &Channel, peer: &mut Peer) {
        if peer.connection.queue().bytes() > group.engine.options.channel_queue_bytes_max / 2 {
            return;
        }
        match peer.room {
            Room::Wanted(bytes) | Room::InLine(bytes) if bytes <= group.engine.budget.room() => {
                peer.room = Room::Unasked;
                self.inbox.push(Event::Drained(channel.number));
            }
            Room::Wanted(bytes) => {
                peer.room = Room::InLine(bytes);
                group.call_when_room(channel.token, bytes);
            }
            Room::InLine(_) | Room::Unasked => {}
        }
    }

    /// Ends the channel if it is `over`, and services it if not.
    pub(super) fn after(
        &mut self,
        group: &Group,
        channel: &Channel,
        mut peer: MutexGuard<'_, Peer>,
        over: Result<(), Reason>,
    ) {
        let over = over.and_then(|()| self.service(group, channel, &mut peer));
        drop(peer);
        if let Err(reason) = over {
            self.end(group, channel, reason);
        }
    }

    pub(super) fn end_peer(&mut self, group: &Group, channel: &Channel, reason: Reason) {
        let Some(mut peer) = channel.peer() else {
            return;
        };
        if let Socket::Open(open) = &peer.socket
            && reason.status() == Status::CHANNEL_CLOSED
            && matches!(peer.connection.state(), State::Answered | State::Parted)
        {
            // Everything was said, and the peer has not closed in time: it may not have read it all.
            open.stream.close_gently();
        }
        // Posters that still hold the channel find it closed. The socket goes now, and hard.
        peer.socket = Socket::Closed;
        group.remove(channel);
        self.timers.tidy(group.channels_open(), |token| {
            token == GROUP || group.channel_at(token).is_some()
        });
        group
            .engine
            .counters
            .count_close(reason.status(), reason.violation());
        if !peer.connection.is_known() {
            group.engine.half_open.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        let unsent = peer.connection.take_unsent();
        let charge = peer.charge.take();
        let id = peer.connection.opened_by();
        drop(peer);
        if self.mode.is_listening() {
            self.inbox.push_unsent(unsent, reason, charge);
            self.inbox.push(Event::Closed {
                channel: channel.number,
                id,
                reason,
            });
        }
    }

    pub(super) fn end_listener(&mut self, group: &Group, channel: &Channel, reason: Reason) {
        let Some(mut listener) = channel.listener() else {
            return;
        };
        listener.socket = ListenerSocket::Closed;
        group.remove(channel);
        let (welcome, id) = (listener.welcome.take(), listener.opened_by);
        drop(listener);
        if !self.mode.is_listening() {
            return;
        }
        if let Some(mut message) = welcome {
            message.set_status(reason.status());
            self.inbox.push(Event::Returned { message, reason });
        }
        self.inbox.push(Event::Closed {
            channel: channel.number,
            id,
            reason,
        });
    }

    /// Starts to close the whole group. A group that drains never listens again.
    pub(super) fn retire(&mut self, group: &Arc<Group>, mode: Mode) {
        if !self.mode.is_listening() {
            return;
        }
        // Of two deadlines the earlier one holds.
        self.mode = match (self.mode, mode) {
            (Mode::Leaving(one), Mode::Leaving(other)) => Mode::Leaving(one.min(other)),
            (_, mode) => mode,
        };
        if !self.mode.is_listening() {
            self.inbox.clear();
            self.starved.clear();
            group.engine.pool.leave_line(group);
        }
        if let Mode::Leaving(until) | Mode::Draining(until) = self.mode {
            self.timers.note(GROUP, &mut self.mode_noted, until);
        }
        for channel in group.all_channels() {
            if let Some(mut peer) = channel.peer() {
                let over = self.retire_peer(&channel, &mut peer);
                self.after(group, &channel, peer, over);
            } else {
                self.end(group, &channel, Status::CHANNEL_CLOSED.into());
            }
        }
    }

    fn retire_peer(&mut self, channel: &Channel, peer: &mut Peer) -> Result<(), Reason> {
        if !peer.connection.is_known() {
            return Err(Status::SHUTDOWN_STARTED.into());
        }
        if self.mode.is_listening() {
            self.say_bye(peer);
            return Ok(());
        }
        // What was held back for want of messages is thrown away with the rest.
        if peer.connection.is_held() {
            peer.connection.resume(self.now);
            self.come_back(channel.token);
        }
        Ok(())
    }

    /// Says what is missing for a graceful end, in place of an application that no longer does.
    pub(super) fn say_bye(&self, peer: &mut Peer) {
        let channel = peer.connection.channel();
        let bye = match peer.connection.bye_to_answer() {
            Some(id) => Message::new(OpCode::ByeResponse, channel).with_id(id),
            None if peer.connection.state() == State::Open => Message::bye_request(channel),
            None => return,
        };
        // A bye always fits; and if it does not belong here, it was said already.
        let _ = peer
            .connection
            .post(bye, usize::MAX, self.now, next_message_id);
    }

    /// The time that a retiring group has is over.
    pub(super) fn end_of_patience(&mut self, group: &Arc<Group>) {
        let reason = match self.mode {
            Mode::Serving => return,
            Mode::Leaving(until) | Mode::Draining(until) if until > self.now => {
                return self.timers.note(GROUP, &mut self.mode_noted, until);
            }
            Mode::Leaving(_) => Status::BYE_TIMEOUT,
            Mode::Draining(_) => Status::SHUTDOWN_STARTED,
        };
        for channel in group.all_channels() {
            self.end(group, &channel, reason.into());
        }
    }

    /// Whether the group has closed its last channel for good.
    pub(crate) fn is_finished(&self, group: &Group) -> bool {
        self.mode != Mode::Serving && group.has_no_channels()
    }
}
