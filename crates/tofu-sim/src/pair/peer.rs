//! One side: its application, its connection, and the driver between that and the stream.
//!
//! The driver is the contract of [`tofu_proto::connection`] and nothing else.

use std::{convert::Infallible, sync::Arc};

use tofu_proto::{
    Address, ChannelNumber, Connection, Instant, Message, MessageId, OpCode, Received, Refusal,
    Side, State, Status,
};

use super::{
    Both, Broken, Plan, Sabotage, application::Application, checker::Checked, link::Read,
    pool::Pool, trace::Event, world::World,
};

/// The two ends number the channel differently.
const CHANNELS: Both<ChannelNumber> = Both {
    client: ChannelNumber::new(11),
    server: ChannelNumber::new(22),
};

/// One side.
#[derive(Debug)]
pub(crate) struct Peer {
    side: Side,
    connection: Connection,
    pub(crate) application: Application,
    pool: Arc<Pool>,
    writing: Writing,
    /// Nothing happens here before.
    pub(crate) frozen_until: Instant,
    /// Somebody else has all messages until then.
    pub(crate) hogged_until: Instant,
    /// It was closed while it had no message for what it had read.
    pub(crate) closed_held: bool,
    pub(crate) closed: Option<Status>,
    pub(crate) starved: usize,
    pub(crate) queue_full: usize,
    pub(crate) sabotage: Option<Sabotage>,
}

/// What the stream lets the driver write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Ready,
    /// Nothing until there is room.
    Blocked,
    /// Nothing more: our direction has ended.
    Ended,
    /// Nothing ever again. What the peer sent before may still be read.
    Broken,
}

/// What a peer can do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    Write,
    Read,
    Resume,
    Handle,
    Speak,
    /// A timer is due.
    Time,
}

impl Peer {
    /// The client, which says hello and is not connected yet.
    pub(crate) fn client(plan: &Plan, world: &mut World) -> Checked<Self> {
        let side = Side::Client;
        let address = Address::tcp("127.0.0.1", 7099).expect("it is one");
        let mut hello = Message::hello_request(&address);
        hello.address_to(CHANNELS[side], world.next_id());
        world.note(Event::Posted(side, hello.binary_header()));
        world.checker.posted(side, hello.clone(), world.now)?;
        let connection = Connection::client(hello, Arc::clone(&world.timeouts), world.now);
        Ok(Self::new(connection, side, plan))
    }

    /// The server, which has just accepted.
    pub(crate) fn server(plan: &Plan, world: &World) -> Self {
        let side = Side::Server;
        let connection = Connection::server(CHANNELS[side], Arc::clone(&world.timeouts), world.now);
        Self::new(connection, side, plan)
    }

    fn new(connection: Connection, side: Side, plan: &Plan) -> Self {
        Self {
            side,
            connection,
            application: Application::new(side, CHANNELS[side], plan.scripts[side]),
            pool: Pool::new(plan.pool[side]),
            writing: Writing::Ready,
            frozen_until: Instant::ORIGIN,
            hogged_until: Instant::ORIGIN,
            closed_held: false,
            closed: None,
            starved: 0,
            queue_full: 0,
            sabotage: None,
        }
    }

    /// What it can do now.
    pub(crate) fn moves(&self, world: &World, moves: &mut Vec<Move>) {
        if self.closed.is_some() || self.frozen_until > world.now {
            return;
        }
        if self.connection.is_connected() {
            self.stream_moves(world, moves);
        }
        if self.application.has_mail() && self.application.busy_until <= world.now {
            moves.push(Move::Handle);
        }
        if self.can_speak() && self.application.busy_until <= world.now {
            moves.push(Move::Speak);
        }
        let is_due = self
            .connection
            .poll_timeout()
            .is_some_and(|due| due <= world.now);
        if is_due {
            moves.push(Move::Time);
        }
    }

    fn stream_moves(&self, world: &World, moves: &mut Vec<Move>) {
        let can_write = match self.writing {
            Writing::Ready => true,
            Writing::Blocked => world.link.is_writable(self.side),
            Writing::Ended | Writing::Broken => false,
        };
        if can_write && !self.connection.queue().is_empty() {
            moves.push(Move::Write);
        }
        if self.connection.is_held() {
            if !self.pool.is_empty(self.hogged(world.now)) {
                moves.push(Move::Resume);
            }
        } else if world.link.is_readable(self.side) {
            moves.push(Move::Read);
        }
    }

    fn can_speak(&self) -> bool {
        let queued = self.connection.queue().bytes();
        let has_room = self
            .application
            .waits_below
            .is_none_or(|below| queued < below);
        has_room && self.application.wants_to_speak()
    }

    fn hogged(&self, now: Instant) -> usize {
        if self.hogged_until > now {
            usize::MAX / 2
        } else {
            0
        }
    }

    /// The next time at which it may be able to do what it cannot do now.
    pub(crate) fn wakes_at(&self, now: Instant) -> Option<Instant> {
        if self.closed.is_some() {
            return None;
        }
        let busy = (self.application.has_mail() || self.can_speak())
            .then_some(self.application.busy_until);
        let hogged = self.connection.is_held().then_some(self.hogged_until);
        [
            busy,
            hogged,
            self.connection.poll_timeout(),
            Some(self.frozen_until),
        ]
        .into_iter()
        .flatten()
        .map(|time| time.max(self.frozen_until))
        .filter(|time| *time > now)
        .min()
    }

    pub(crate) fn make(&mut self, next: Move, world: &mut World) -> Checked {
        match next {
            Move::Write => self.write(world),
            Move::Read => self.read(world),
            Move::Resume => self.resume(world),
            Move::Handle => {
                self.handle(world);
                Ok(())
            }
            Move::Speak => self.speak(world),
            Move::Time => self.service(world),
        }
    }

    pub(crate) fn connect(&mut self, now: Instant) {
        self.connection.handle_connected(now);
    }

    pub(crate) fn is_connecting(&self) -> bool {
        self.closed.is_none() && !self.connection.is_connected()
    }

    /// Messages of its pool that never came back.
    pub(crate) fn pool_out(&self) -> usize {
        self.pool.out()
    }
}

/// The driver.
impl Peer {
    fn write(&mut self, world: &mut World) -> Checked {
        let mut room = world.portion();
        let mut bytes = Vec::new();
        for slice in self.connection.queue().slices() {
            bytes.extend_from_slice(&slice[..slice.len().min(room)]);
            room -= slice.len().min(room);
            if room == 0 {
                break;
            }
        }
        match world.link.write(self.side, &bytes) {
            Ok(0) => {
                world.note(Event::Blocked(self.side));
                self.connection.handle_blocked();
                self.writing = Writing::Blocked;
            }
            Ok(count) => {
                world.note(Event::Wrote(self.side, count));
                world.checker.written(self.side, count, world.now)?;
                self.connection.handle_sent(count, || world.now, drop);
                self.writing = Writing::Ready;
            }
            Err(_broken) => {
                self.connection.handle_blocked();
                self.writing = Writing::Broken;
            }
        }
        self.service(world)
    }

    fn read(&mut self, world: &mut World) -> Checked {
        let portion = world.portion();
        match world.link.read(self.side, portion) {
            Read::Bytes(bytes) => {
                world.note(Event::Read(self.side, bytes.len()));
                world.checker.read(self.side, bytes.len(), world.now)?;
                // The rest of a large frame is read to where it stays.
                let landed = self.connection.land(world.now, |place| {
                    let count = place.len().min(bytes.len());
                    place[..count].copy_from_slice(&bytes[..count]);
                    Ok::<_, Infallible>(count)
                });
                let landed = landed.map_or(0, |Ok(landed)| landed);
                self.receive(&bytes[landed..], world)
            }
            Read::Nothing => Ok(()),
            Read::End => self.close(self.connection.reason_at_end(), world),
        }
    }

    fn receive(&mut self, mut input: &[u8], world: &mut World) -> Checked {
        let hogged = self.hogged(world.now);
        loop {
            match self
                .connection
                .receive(&mut input, world.now, || self.pool.take(hogged))
            {
                Received::Message(message) => {
                    world.note(Event::Delivered(self.side, message.binary_header()));
                    let channel = CHANNELS[self.side];
                    world
                        .checker
                        .delivered(self.side, channel, &message, world.now)?;
                    self.application.deliver(message);
                    if let Some(status) = self.connection.poll_close() {
                        return self.close(status, world);
                    }
                }
                Received::Nothing => {
                    world.checker.caught_up(self.side)?;
                    return self.service(world);
                }
                Received::Starved => {
                    world.note(Event::Starved(self.side));
                    self.starved += 1;
                    self.connection.hold();
                    return self.service(world);
                }
                Received::Violation(violation) => {
                    return Err(Broken::Violation(self.side, violation));
                }
            }
        }
    }

    fn resume(&mut self, world: &mut World) -> Checked {
        world.note(Event::Resumed(self.side));
        world.checker.resumed(self.side, world.now)?;
        self.connection.resume(world.now);
        self.receive(&[], world)
    }

    /// What has to follow whatever happened.
    fn service(&mut self, world: &mut World) -> Checked {
        if self.connection.wants_half_close()
            && matches!(self.writing, Writing::Ready | Writing::Blocked)
        {
            self.end_writing(world);
        }
        let is_hasty = self.sabotage == Some(Sabotage::HastyClose)
            && self.connection.state() == State::Answered
            && self.connection.queue().is_empty();
        if is_hasty {
            return self.close(Status::CHANNEL_CLOSED, world);
        }
        if let Some(status) = self.connection.poll_close() {
            return self.close(status, world);
        }
        if let Some(status) = self.connection.handle_timeout(world.now) {
            return self.close(status, world);
        }
        Ok(())
    }

    pub(crate) fn end_writing(&mut self, world: &mut World) {
        if self.closed.is_none() && self.connection.is_connected() {
            world.note(Event::HalfClosed(self.side));
            world.link.end(self.side);
            self.connection.handle_blocked();
            self.writing = Writing::Ended;
        }
    }

    fn close(&mut self, status: Status, world: &mut World) -> Checked {
        world.note(Event::Closed(self.side, status));
        let is_over = world.link.is_over(self.side);
        let said = self.application.said();
        world
            .checker
            .closing(self.side, status, said, is_over, world.now)?;
        if self.connection.is_connected() {
            world.link.close(self.side, &mut world.random);
        }
        self.closed = Some(status);
        self.closed_held = self.connection.is_held();
        for message in self.returned() {
            world.note(Event::Returned(self.side, message.binary_header()));
            world.checker.returned(self.side, &message)?;
        }
        self.application.leave();
        world.checker.closed(self.side, self.closed_held)
    }

    fn returned(&mut self) -> Vec<Message> {
        let mut returned: Vec<_> = self.connection.take_unsent().collect();
        match (self.sabotage, returned.first().cloned()) {
            (Some(Sabotage::DropReturned), Some(_)) => drop(returned.remove(0)),
            (Some(Sabotage::DuplicateReturned), Some(first)) => returned.insert(0, first),
            _ => {}
        }
        returned
    }
}

/// The application's part.
impl Peer {
    fn handle(&mut self, world: &mut World) {
        if let Some(op_code) = self.application.handle(&mut world.random) {
            world.note(Event::Handled(self.side, op_code));
        }
    }

    fn speak(&mut self, world: &mut World) -> Checked {
        let Some(message) = self.application.speak(&mut world.random) else {
            return Ok(());
        };
        self.application.waits_below = None;
        let op_code = message.op_code();
        let may_post = self.application.may_post(op_code);
        let mut copy = message.clone();
        let id = world.next_id();
        let posted = self
            .connection
            .post(message, world.queue_max, || world.now, || id, drop);
        match posted {
            Ok(_) if !may_post => return Err(Broken::Taken(self.side, op_code)),
            Ok(header) => {
                let id = if copy.id() == MessageId::UNASSIGNED {
                    id
                } else {
                    copy.id()
                };
                copy.address_to(CHANNELS[self.side], id);
                if copy.binary_header() != header {
                    return Err(Broken::Mangled(self.side, op_code));
                }
                world.note(Event::Posted(self.side, header));
                world.checker.posted(self.side, copy, world.now)?;
                self.application.posted(op_code);
                if self.writing != Writing::Ready {
                    self.connection.handle_blocked();
                }
            }
            Err(error) => {
                world.note(Event::Refused(self.side, op_code));
                let refusal = error.refusal().clone();
                let message = error.into_message();
                if message != copy {
                    return Err(Broken::Mangled(self.side, op_code));
                }
                match refusal {
                    _ if !may_post => {}
                    Refusal::QueueFull { queued_bytes, .. } if op_code != OpCode::ByeRequest => {
                        self.queue_full += 1;
                        self.application.wait_with(message, queued_bytes);
                    }
                    refusal => return Err(Broken::Refused(self.side, op_code, refusal)),
                }
            }
        }
        self.service(world)
    }

    /// The application says `ByeSignal`.
    pub(crate) fn abandon(&mut self, world: &mut World) -> Checked {
        if self.closed.is_some() {
            return Ok(());
        }
        self.application.abandons();
        self.close(Status::CHANNEL_CLOSED, world)
    }
}
