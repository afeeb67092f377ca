//! Posting: from a message to its channel's queue, and out.
//!
//! Whoever posts locks the channel and nothing else, queues the message, and writes what is queued
//! itself, unless it is to [gather](crate::reactor::gathering) or the socket takes nothing for now.

use std::{collections::VecDeque, mem, sync::Arc};

use mio::Token;
use tofu_proto::{
    ChannelNumber, Connection, Header, Message, MessageId, OpCode, Order, PostError, Refusal,
};

use crate::{
    blanks,
    budget::Charge,
    channels::ChannelGuard,
    engine::next_message_id,
    group::{Group, number_of},
    metrics::Counter,
    reactor::channel::{By, End, Listener, ListenerSocket, Peer, Room, Socket},
};

const UNGUARDED: &str = "an abstract name has no file, so that uds_mode and uds_owner keep nobody out: use a \
                         path, or the option allow_users";

impl Group {
    /// Checks a message, takes it, and returns its header as it travels.
    pub(crate) fn post(&self, message: Message) -> Result<Header, PostError> {
        match message.check() {
            Ok(Order::Send) => self.send(message),
            Ok(order) => self.carry_out(order, message),
            Err(refusal) => Err(PostError::new(message, refusal)),
        }
    }

    /// Posts messages, first to last, until one is refused.
    pub(crate) fn post_many(&self, messages: &mut VecDeque<Message>) -> Result<(), PostError> {
        while let Some(message) = messages.pop_front() {
            match message.check() {
                Ok(Order::Send) => self.send_run(message, messages)?,
                Ok(order) => drop(self.carry_out(order, message)?),
                Err(refusal) => return Err(PostError::new(message, refusal)),
            }
        }
        Ok(())
    }

    fn carry_out(&self, order: Order, message: Message) -> Result<Header, PostError> {
        match order {
            Order::Send => self.send(message),
            Order::Connect(address) => self.open(message, |message| {
                let now = self.engine.clock.now();
                let timeouts = Arc::clone(&self.engine.timeouts);
                let mut charge = Charge::new(Arc::clone(&self.engine.budget));
                charge.set(message.frame_len());
                let connection = Connection::client(message, timeouts, now);
                let peer = Peer::new(connection, Socket::Unopened(address), charge);
                End::Peer(Box::new(peer))
            }),
            Order::Listen(address) if self.engine.options.listener.cannot_guard(&address) => {
                let refusal = Refusal::NotAllowed {
                    op_code: message.op_code(),
                    channel: message.channel(),
                    why: UNGUARDED,
                };
                Err(PostError::new(message, refusal))
            }
            Order::Listen(address) => self.open(message, |message| {
                End::Listener(Box::new(Listener::new(message, address)))
            }),
            Order::Close => self.close(message),
        }
    }

    /// Opens a channel for a message that asks for one; the driver does the rest.
    fn open(
        &self,
        mut message: Message,
        end: impl FnOnce(Message) -> End,
    ) -> Result<Header, PostError> {
        if self.is_retired() {
            return Err(PostError::new(message, Refusal::ShutdownStarted));
        }
        let Some(number) = self.engine.channels.allocate() else {
            let refusal = Refusal::TooManyChannels(self.engine.options.channels_max);
            return Err(PostError::new(message, refusal));
        };
        let Some(mut members) = self.join() else {
            self.engine.channels.release(number);
            return Err(PostError::new(message, Refusal::ShutdownStarted));
        };
        message.address_to(number, id_for(&message));
        let header = message.binary_header();
        let token = self.new_token(number);
        self.open_at(token, end(message), None, &mut members);
        drop(members);
        self.look_at(token);
        Ok(header)
    }

    fn send(&self, message: Message) -> Result<Header, PostError> {
        let mut channel = match self.channel(message.channel()) {
            Ok(channel) => channel,
            Err(refusal) => return Err(PostError::new(message, refusal)),
        };
        let token = channel.token;
        let End::Peer(peer) = &mut channel.end else {
            drop(channel);
            return self.send_to_listener(message);
        };
        let header = match self.enqueue(token, peer, message) {
            Ok(header) => header,
            Err(error) => return Err(self.refused(token, peer, error)),
        };
        self.write_or_gather(channel, is_bye(header.op_code));
        Ok(header)
    }

    /// Sends a message, and those behind it that go to the same channel, locking that once.
    fn send_run(
        &self,
        mut message: Message,
        behind: &mut VecDeque<Message>,
    ) -> Result<(), PostError> {
        let mut channel = match self.channel(message.channel()) {
            Ok(channel) => channel,
            Err(refusal) => return Err(PostError::new(message, refusal)),
        };
        let token = channel.token;
        let End::Peer(peer) = &mut channel.end else {
            drop(channel);
            return self.send_to_listener(message).map(drop);
        };
        let mut says_bye = false;
        let outcome = loop {
            match self.enqueue(token, peer, message) {
                Ok(header) => says_bye |= is_bye(header.op_code),
                Err(error) => break Err(self.refused(token, peer, error)),
            }
            let belongs = behind.front().is_some_and(|next| {
                next.channel() == number_of(token) && matches!(next.check(), Ok(Order::Send))
            });
            match behind.pop_front() {
                Some(next) if belongs => message = next,
                Some(other) => {
                    behind.push_front(other);
                    break Ok(());
                }
                None => break Ok(()),
            }
            if peer.has_gathered_enough() {
                self.flush(token, peer);
            }
        };
        self.write_or_gather(channel, says_bye);
        outcome
    }

    /// Queues a message, if its channel and the engine's budget have room for it.
    #[expect(
        clippy::inline_always,
        reason = "called for every message: some 40 of 1,100 instructions"
    )]
    #[inline(always)]
    fn enqueue(
        &self,
        token: Token,
        peer: &mut Peer,
        message: Message,
    ) -> Result<Header, PostError> {
        if peer.takes_no_more() {
            let refusal = self.closed(peer.connection.channel());
            return Err(PostError::new(message, refusal));
        }
        let mut bytes_max = self.bytes_max(peer, &message);
        if peer.connection.queue().bytes() + message.frame_len() > bytes_max
            && peer.waits_for_a_look()
        {
            // What only waits for company does not keep others out.
            self.flush(token, peer);
            bytes_max = self.bytes_max(peer, &message);
        }
        if peer.connection.queue().wants_memory(&message) {
            self.lend_memory(&mut peer.connection);
        }
        let now = || self.engine.clock.now();
        let header =
            peer.connection
                .post(message, bytes_max, now, next_message_id, blanks::keep)?;
        peer.note_queued();
        Ok(header)
    }

    /// How many bytes may be queued on the channel with this message.
    #[inline]
    fn bytes_max(&self, peer: &Peer, message: &Message) -> usize {
        let wanted = peer.connection.queue().bytes() + message.frame_len();
        peer.charge
            .reach(wanted)
            .min(self.engine.options.channel_queue_bytes_max)
    }

    /// What follows when a message was not queued.
    #[cold]
    fn refused(&self, token: Token, peer: &mut Peer, error: PostError) -> PostError {
        if self.is_retired() && !matches!(error.refusal(), Refusal::ShutdownStarted) {
            // The group says bye by itself, since the channel was looked up.
            return PostError::new(error.into_message(), Refusal::ShutdownStarted);
        }
        if let Refusal::QueueFull { .. } = error.refusal() {
            self.engine.counters.count(Counter::QueueFull);
            let bytes = error.message().frame_len();
            // A note for less may stand in the budget's line: it only calls too early.
            peer.room = Room::Wanted(bytes);
            // Else the driver hears of room from the poller.
            if peer.has_short_queue(&self.engine.options) || !peer.awaits_room() {
                self.look_at(token);
            }
        }
        error
    }

    /// Writes what is queued, or leaves it for what is posted next.
    #[inline]
    fn write_or_gather(&self, mut channel: ChannelGuard<'_>, says_bye: bool) {
        let token = channel.token;
        let End::Peer(peer) = &mut channel.end else {
            return;
        };
        let leaves = peer.has_gathered_enough()
            || (peer.takes_bytes()
                && !peer.gathering.waits(self.left_at(), self.has_unread(), || {
                    self.engine.clock.now()
                }));
        if !leaves && peer.is_noted && !says_bye {
            // A driver knows of it: nothing else is to be done.
            return;
        }
        if leaves {
            self.flush(token, peer);
            if peer.connection.queue().is_empty() && !peer.is_noted {
                // No driver will look at it for this.
                self.take_memory(&mut peer.connection);
            }
        }
        let first_left = peer.waits_for_a_look() && !mem::replace(&mut peer.is_noted, true);
        // A bye has a timer; a socket that broke is the driver's to close.
        let needs_driver =
            peer.is_broken() || (says_bye && peer.connection.poll_timeout().is_some());
        drop(channel);
        if first_left {
            self.gather(token, self.engine.clock.now());
        }
        if needs_driver {
            self.look_at(token);
        }
    }

    fn flush(&self, token: Token, peer: &mut Peer) {
        let now = || self.engine.clock.now();
        peer.flush(&self.registry, token, now, By::Poster);
        // Writing takes a while: the pause counts from its end.
        self.note_left(self.engine.clock.now());
    }

    /// A listener takes nothing but an order to close.
    fn send_to_listener(&self, message: Message) -> Result<Header, PostError> {
        if message.op_code() == OpCode::ByeRequest {
            return self.close(message);
        }
        let refusal = Refusal::NotAllowed {
            op_code: message.op_code(),
            channel: message.channel(),
            why: "it is a listener: only ByeSignal and ByeRequest, which close it, make sense",
        };
        Err(PostError::new(message, refusal))
    }

    /// Closes a channel at once; the driver tells the application.
    fn close(&self, mut message: Message) -> Result<Header, PostError> {
        let number = message.channel();
        let mut channel = match self.channel(number) {
            Ok(channel) => channel,
            Err(refusal) => return Err(PostError::new(message, refusal)),
        };
        let token = channel.token;
        let was_closed = match &mut channel.end {
            End::Peer(peer) if !peer.connection.is_known() => {
                let refusal = Refusal::InvalidChannelNumber(number);
                return Err(PostError::new(message, refusal));
            }
            End::Peer(peer) => {
                let before = mem::replace(&mut peer.socket, Socket::Closed);
                matches!(before, Socket::Closed)
            }
            End::Listener(listener) => {
                let before = mem::replace(&mut listener.socket, ListenerSocket::Closed);
                matches!(before, ListenerSocket::Closed)
            }
        };
        drop(channel);
        if was_closed {
            return Err(PostError::new(message, self.closed(number)));
        }
        message.address_to(number, id_for(&message));
        self.look_at(token);
        Ok(message.binary_header())
    }

    /// Why a channel without a socket takes nothing: the application closed it a moment ago.
    fn closed(&self, channel: ChannelNumber) -> Refusal {
        if self.is_retired() {
            Refusal::ShutdownStarted
        } else {
            Refusal::ChannelClosing(channel)
        }
    }
}

fn id_for(message: &Message) -> MessageId {
    match message.id() {
        MessageId::UNASSIGNED => next_message_id(),
        chosen => chosen,
    }
}

fn is_bye(op_code: OpCode) -> bool {
    matches!(op_code, OpCode::ByeRequest | OpCode::ByeResponse)
}
