//! Closing: what every activity on a channel may lead to, the end of a channel, and the ways in
//! which a whole group closes.

use std::sync::{Arc, atomic::Ordering};

use mio::Token;
use tofu_proto::{Instant, Message, OpCode, State, Status};

use super::{
    GROUP, Reactor,
    channel::{By, Channel, End, Listener, ListenerSocket, Peer, Room, Socket},
};
use crate::{
    blanks,
    channels::ChannelGuard,
    engine::next_message_id,
    event::{Event, Reason},
    group::{Group, number_of},
};

/// How often a channel is read before a late driver ends it: as much as sockets hold, and little of what still comes.
const LAST_FEEDS_MAX: usize = 32;

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
    /// What has to follow when anything happened on a peer's channel: write what is queued, unless the poller will
    /// tell when, say what is due, note the next timer. An error is the reason to end the channel.
    pub(super) fn service(
        &mut self,
        group: &Group,
        token: Token,
        peer: &mut Peer,
    ) -> Result<(), Reason> {
        // The poller may have to tell of room that came in time, which is no fault of the peer's; and a group that
        // closes may not ask it again.
        let is_pressed =
            self.mode != Mode::Serving || peer.connection.handle_timeout(self.now).is_some();
        if is_pressed || !peer.awaits_room() {
            peer.flush(&group.registry, token, || self.now, By::Driver);
        }
        if peer.is_broken() && !peer.connection.is_held() {
            // No readiness may ever tell.
            self.come_back(token, peer.pace);
        }
        if peer.connection.queue().is_empty() && !peer.is_noted {
            group.take_memory(&mut peer.connection);
        }
        let draining = !self.mode.is_listening();
        if let Socket::Open(open) = &mut peer.socket
            && peer.connection.queue().is_empty()
            && (draining || peer.connection.wants_half_close())
        {
            open.end_writing();
        }
        if let Room::Wanted(bytes) = peer.room
            && !draining
        {
            self.make_room(group, token, peer, bytes);
        }
        if let Some(status) = peer.connection.poll_close() {
            return Err(status.into());
        }
        match peer.connection.handle_timeout(self.now) {
            // It is read on, and only then there is reason to complain.
            Some(_) if self.unfinished.contains_key(&token) => return Ok(()),
            Some(status) => return Err(status.into()),
            None => {}
        }
        let dues = [peer.connection.poll_timeout(), peer.socket.due()];
        for due in dues.into_iter().flatten() {
            self.timers.note(token, &mut peer.noted, due);
        }
        Ok(())
    }

    /// Tells the application that there is room again, in the channel's queue and in the engine's.
    fn make_room(&mut self, group: &Group, token: Token, peer: &mut Peer, bytes: usize) {
        let options = &group.engine.options;
        let needed = peer.connection.queue().bytes() + bytes;
        // With bounds as small as two frames, half of them may still be too much for what was refused.
        if !peer.has_short_queue(options) || needed > options.channel_queue_bytes_max {
            return;
        }
        let missing = peer.charge.missing(needed);
        if missing <= group.engine.budget.room() {
            peer.room = Room::Unasked;
            self.inbox.push(Event::Drained(number_of(token)));
        } else {
            group.call_when_room(token, missing);
        }
    }

    /// Ends the channel if it is `over`, and services it if not.
    pub(super) fn after(
        &mut self,
        group: &Group,
        mut channel: ChannelGuard<'_>,
        over: Result<(), Reason>,
    ) {
        let token = channel.token;
        let over = match &mut channel.end {
            End::Peer(peer) => over.and_then(|()| self.service(group, token, peer)),
            End::Listener(_) => over,
        };
        if let Err(reason) = over {
            self.end(group, channel, reason);
        }
    }

    /// Ends a channel: the last thing that anyone hears of it.
    pub(super) fn end(&mut self, group: &Group, channel: ChannelGuard<'_>, reason: Reason) {
        // Posters find it closed from now on. The driver's own lock on it is gone as well.
        let channel = channel.close();
        if reason.violation().is_some() {
            crate::warnings::violation(number_of(channel.token), channel.identity, reason);
        }
        match channel.end {
            End::Listener(listener) => self.end_listener(group, channel.token, *listener, reason),
            End::Peer(peer) => self.end_peer(group, channel.token, *peer, reason),
        }
    }

    fn end_peer(&mut self, group: &Group, token: Token, mut peer: Peer, reason: Reason) {
        if let Socket::Open(open) = &peer.socket
            && reason.status() == Status::CHANNEL_CLOSED
            && matches!(peer.connection.state(), State::Answered | State::Parted)
        {
            // Everything was said, and the peer has not closed in time: it may not have read it all.
            open.stream.close_gently();
        }
        // The socket goes now, and hard.
        peer.socket = Socket::Closed;
        group.remove(token);
        group.engine.budget.forget(group.id, token);
        self.tidy_timers(group);
        group
            .engine
            .counters
            .count_close(reason.status(), reason.violation());
        if !peer.connection.is_known() {
            group.engine.half_open.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        if self.mode.is_listening() {
            let unsent = peer.connection.take_unsent();
            self.inbox.push_unsent(unsent, reason, peer.charge);
            self.inbox.push(Event::Closed {
                channel: number_of(token),
                id: peer.connection.opened_by(),
                reason,
            });
        }
    }

    fn end_listener(
        &mut self,
        group: &Group,
        token: Token,
        mut listener: Listener,
        reason: Reason,
    ) {
        listener.socket = ListenerSocket::Closed;
        group.remove(token);
        if !self.mode.is_listening() {
            return;
        }
        if let Some(mut message) = listener.welcome {
            message.set_status(reason.status());
            self.inbox.push(Event::Returned { message, reason });
        }
        self.inbox.push(Event::Closed {
            channel: number_of(token),
            id: listener.opened_by,
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
        if self.mode.is_listening() {
            self.inbox.leave_pool();
        } else {
            self.inbox.clear();
            self.starved.clear();
            group.engine.pool.leave_line(group);
        }
        if let Mode::Leaving(until) | Mode::Draining(until) = self.mode {
            self.timers.note(GROUP, &mut self.mode_noted, until);
        }
        for token in group.all_channels() {
            let Some(mut channel) = group.channel_at(token) else {
                continue;
            };
            let Channel { end, identity, .. } = &mut *channel;
            let over = match end {
                End::Peer(peer) => self.retire_peer(group, token, peer, identity),
                End::Listener(_) => Err(Status::CHANNEL_CLOSED.into()),
            };
            self.after(group, channel, over);
        }
    }

    fn retire_peer(
        &mut self,
        group: &Arc<Group>,
        token: Token,
        peer: &mut Peer,
        identity: &mut Option<crate::Peer>,
    ) -> Result<(), Reason> {
        if !peer.connection.is_known() {
            return Err(Status::SHUTDOWN_STARTED.into());
        }
        // This driver may be late: what is due is looked at first, as ever.
        if peer.connection.handle_timeout(self.now).is_some() {
            self.look_at_peer(group, token, peer, identity)?;
        }
        if self.mode.is_listening() {
            self.say_bye(peer);
            return Ok(());
        }
        // What was held back for want of messages is thrown away with the rest.
        if peer.connection.is_held() {
            peer.connection.resume(self.now);
            self.come_back(token, peer.pace);
        }
        Ok(())
    }

    /// Says what is missing for a graceful end, in place of an application that no longer does.
    pub(super) fn say_bye(&self, peer: &mut Peer) {
        let channel = peer.connection.channel();
        let bye = match peer.connection.bye_to_answer() {
            Some(id) => Message::new(OpCode::ByeResponse, channel, id),
            None if peer.connection.state() == State::Open => Message::bye_request(channel),
            None => return,
        };
        // A bye always fits; and if it does not belong here, it was said already.
        let _ = peer
            .connection
            .post(bye, usize::MAX, || self.now, next_message_id, blanks::keep);
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
        for token in group.all_channels() {
            // This driver may be late: what came in time is here, and what is queued may leave.
            for _ in 0..LAST_FEEDS_MAX {
                let Some(channel) = group.channel_at(token) else {
                    break;
                };
                self.count_anew();
                self.unfinished.remove(&token);
                self.feed(group, channel);
                if !self.unfinished.contains_key(&token) {
                    break;
                }
            }
            if let Some(channel) = group.channel_at(token) {
                self.end(group, channel, reason.into());
            }
        }
    }

    /// Whether the group has closed its last channel for good.
    pub(crate) fn is_finished(&self, group: &Group) -> bool {
        self.mode != Mode::Serving && group.has_no_channels()
    }
}
