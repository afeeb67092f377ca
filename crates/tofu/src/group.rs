//! A channel group as its threads share it: its channels, what was left for the driver, and posting.

use std::{
    collections::BTreeSet,
    io, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use mio::Token;
use tofu_proto::{ChannelNumber, Connection, Instant, Message, Refusal};

use crate::{
    Peer,
    budget::Looks,
    channels::{ChannelGuard, GroupId},
    engine::Shared,
    keeper::{
        rest::{Gathered, NEVER, Rest},
        ward::{BACK_MAX, BACK_MIN, Cared, Driven},
    },
    members::Members,
    net::{Inner, Registry, Waker},
    pool::{Shelf, Stock, Waits},
    reactor::{
        self, Attention, BusyPoll, Reactor,
        channel::{Channel, End, ListenerSocket},
        close::Mode,
        seat::{Driver, Nudge, Seat},
    },
    sync::{Mutex, MutexGuard, lock},
};

/// Pieces of memory, for frames that leave together, that are kept while no channel has a use for them: until
/// the keeper finds that nothing gathers here any more.
const SPARE_MAX: usize = 16;
/// Bits of a token that hold the channel number; the rest tell its holders apart.
const NUMBER_BITS: u32 = u16::BITS;

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) engine: Arc<Shared>,
    pub(crate) registry: Registry,
    /// Its part of the engine's pool.
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) seat: Seat<Reactor>,
    /// What it and the keeper know of each other.
    rest: Rest,
    /// The reactor's poller, for the keeper to nest. It lives as long as the group.
    poller: Inner,
    /// Whether it is nested, and ignored for now. The keeper's own.
    is_muted: AtomicBool,
    waker: Waker,
    members: Members,
    attention: Mutex<Vec<Attention>>,
    /// Memory for what is gathered, which belongs to no channel now.
    spare: Mutex<Vec<Vec<u8>>>,
    /// How often a driver looked at what was left for it.
    looks: AtomicU64,
    /// When a poster last wrote, on whichever channel: before which look, and when in nanoseconds of the
    /// engine's clock.
    left_before_look: AtomicU64,
    left_at: AtomicU64,
    /// The application has events at hand, and has not kept what it says waiting for long.
    has_unread: AtomicBool,
    tokens: AtomicUsize,
}

impl Group {
    pub(crate) fn new(id: GroupId, engine: Arc<Shared>) -> io::Result<Self> {
        let poller = engine.network.poller()?;
        let busy_poll = BusyPoll::new(engine.options.busy_poll);
        let shelf = Shelf::new(&engine.pool);
        let stock = Stock::new(Arc::clone(&shelf));
        Ok(Self {
            id,
            engine,
            registry: poller.registry()?,
            shelf,
            rest: Rest::new(),
            poller: poller.as_inner(),
            is_muted: AtomicBool::new(false),
            waker: poller.waker(reactor::WAKER)?,
            seat: Seat::new(Reactor::new(poller, busy_poll, stock)),
            members: Members::new(id),
            attention: Mutex::default(),
            spare: Mutex::default(),
            looks: AtomicU64::new(0),
            left_before_look: AtomicU64::new(u64::MAX),
            left_at: AtomicU64::new(0),
            has_unread: AtomicBool::new(false),
            tokens: AtomicUsize::new(0),
        })
    }
}

/// The driver's attention.
impl Group {
    /// Leaves something for the driver, and sees to it that somebody looks.
    pub(crate) fn attend(&self, attention: Attention) {
        lock(&self.attention).push(attention);
        self.nudge();
    }

    /// Has the driver tell the application. A retired group tells nobody any more: a message given to
    /// it then is dropped.
    pub(crate) fn notify(&self, message: Option<Message>) {
        if let Some(members) = self.join() {
            // Before the group can be retired, so that it is told before the end.
            lock(&self.attention).push(Attention::Notify(message));
            drop(members);
            self.nudge();
        }
    }

    /// Has the driver look at a channel.
    pub(crate) fn look_at(&self, channel: Token) {
        self.attend(Attention::Look(channel));
    }

    pub(crate) fn take_attention(&self) -> Vec<Attention> {
        mem::take(&mut *lock(&self.attention))
    }

    /// Frames wait on this channel for others to leave with: they leave when a driver looks, or before
    /// long. A caller that comes back soon is that driver, and costs no wake-up.
    pub(crate) fn gather(&self, channel: Token, now: Instant) {
        match self.rest.gather(&self.seat, channel, now) {
            Gathered::Awaited => {}
            Gathered::NudgeSeat => self.nudge(),
            Gathered::CallKeeper => self.engine.keeper.call_soon(self.id),
        }
    }

    /// Gives memory to a channel that has a use for it.
    pub(crate) fn lend_memory(&self, connection: &mut Connection) {
        connection.spare_memory().extend(lock(&self.spare).pop());
    }

    /// Takes the memory of a channel that has nothing to send any more.
    pub(crate) fn take_memory(&self, connection: &mut Connection) {
        let theirs = connection.spare_memory();
        if theirs.capacity() > 0 {
            let mut spare = lock(&self.spare);
            let room = SPARE_MAX - spare.len();
            spare.extend(mem::take(theirs).into_iter().take(room));
        }
    }

    #[cfg(test)]
    pub(crate) fn is_muted(&self) -> bool {
        self.is_muted.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn spare_pieces(&self) -> usize {
        lock(&self.spare).len()
    }

    /// How often a driver looked at what was gathered.
    #[inline]
    pub(crate) fn looks(&self) -> u64 {
        self.looks.load(Ordering::Relaxed)
    }

    /// When a poster of this group last wrote since the driver's last look, if one has.
    #[inline]
    pub(crate) fn left_at(&self) -> Option<Instant> {
        let then = self.left_before_look.load(Ordering::Relaxed);
        (then == self.looks()).then(|| Instant::from_nanos(self.left_at.load(Ordering::Relaxed)))
    }

    /// A poster has written.
    pub(crate) fn note_left(&self, now: Instant) {
        self.left_at.store(now.as_nanos(), Ordering::Relaxed);
        self.left_before_look.store(self.looks(), Ordering::Relaxed);
    }

    /// Whether the application has events at hand, and so will be back for them.
    #[inline]
    pub(crate) fn has_unread(&self) -> bool {
        self.has_unread.load(Ordering::Relaxed)
    }

    pub(crate) fn set_has_unread(&self, has_unread: bool) {
        self.has_unread.store(has_unread, Ordering::Relaxed);
    }

    pub(crate) fn take_gathered(&self) -> Vec<Token> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.rest.take_gathered()
    }

    /// Sees to it that somebody looks at what was left.
    pub(crate) fn nudge(&self) {
        match self.seat.nudge() {
            Nudge::Nothing => {}
            // It fails only if the descriptor is gone, and with it the driver.
            Nudge::WakeDriver => drop(self.waker.wake()),
            Nudge::CallKeeper => self.engine.keeper.call(self.id),
        }
    }

    /// A caller takes the seat. There is none to be had in a process that was forked while another
    /// thread sat there: that one will never leave it.
    pub(crate) fn sit_down(&self) -> Option<Driver<'_, Reactor>> {
        self.rest.note_caller();
        self.take_seat()
    }

    /// The same, for one who does not count as a caller.
    pub(crate) fn take_seat(&self) -> Option<Driver<'_, Reactor>> {
        let empty = self.seat.try_take();
        empty.or_else(|| (!self.engine.is_inherited()).then(|| self.seat.take()))
    }

    /// A caller leaves the seat: to the keeper, if there is something that cannot wait until the
    /// keeper looks anyway, or if nobody will be back and it does not watch the sockets. What was left unfinished for want of time can wait for a caller to be back, or for
    /// the keeper's next looks. One who has a number of `events` to see to is not waited for by the first look:
    /// that only sees that a caller was here, and if it drove, it would read on for an application that takes a
    /// few milliseconds for what it has, until the pool is empty.
    pub(crate) fn leave(&self, driver: Driver<'_, Reactor>, events: usize) {
        let timer = driver.next_deadline().unwrap_or(NEVER);
        let is_left = self.is_left_to_keeper(&driver);
        let due = match driver.is_busy(self) {
            true if is_left => Instant::ORIGIN,
            true if events > 1 => timer.min(driver.time() + BACK_MAX),
            true => timer.min(driver.time() + BACK_MIN),
            false => timer,
        };
        // Only the keeper puts an end to a group, and nothing else may ever have it look at this one again.
        let is_finished = driver.is_finished(self);
        if self.rest.leave(driver, due, is_left) || is_finished {
            self.engine.keeper.call(self.id);
        }
    }
}

impl Cared for Group {
    type Reactor = Reactor;

    fn seat(&self) -> &Seat<Reactor> {
        &self.seat
    }

    fn rest(&self) -> &Rest {
        &self.rest
    }

    fn now(&self) -> Instant {
        self.engine.clock.now()
    }

    fn is_left_to_keeper(&self, reactor: &Reactor) -> bool {
        self.is_retired() || reactor.has_task()
    }

    fn drive(self: &Arc<Self>, driver: &mut Driver<'_, Reactor>, caller_is_near: bool) -> Driven {
        let is_busy = if caller_is_near {
            // What is unfinished can wait for the caller, or for the keeper's next look.
            Reactor::look_around(driver, self, self.engine.clock.now());
            false
        } else {
            // A poller that fails leaves nothing to be done but what its timers say.
            Reactor::keep(driver, self).unwrap_or(false)
        };
        Driven {
            due: if is_busy {
                Some(Instant::ORIGIN)
            } else {
                driver.next_deadline()
            },
            task: driver.task_to_wake(self),
            is_finished: driver.is_finished(self),
        }
    }

    fn next_deadline(reactor: &Reactor) -> Option<Instant> {
        reactor.next_deadline()
    }

    fn give_up_memory(&self) {
        lock(&self.spare).clear();
    }

    fn nest(&self, keeper: &Registry) -> io::Result<()> {
        if self.is_muted.load(Ordering::Relaxed) {
            keeper.unmute(self.poller, Token(self.id))?;
        } else {
            keeper.nest(self.poller, Token(self.id))?;
        }
        self.is_muted.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn mute(&self, keeper: &Registry) {
        if !self.engine.network.keeps_nested(self.channels_open()) {
            return self.take_out(keeper);
        }
        let is_muted = keeper.mute(self.poller, Token(self.id)).is_ok();
        self.is_muted.store(is_muted, Ordering::Relaxed);
        if !is_muted {
            self.take_out(keeper);
        }
    }

    fn take_out(&self, keeper: &Registry) {
        // It fails only if it is not nested.
        let _ = keeper.take_out(self.poller);
    }
}

/// The budget has room again.
impl Looks for Group {
    fn look_at(&self, channel: Token) {
        Group::look_at(self, channel);
    }
}

/// The pool has a message again.
impl Waits for Group {
    fn call(&self) {
        self.nudge();
    }
}

/// The channels.
impl Group {
    /// A token that no other holder of this number ever had.
    pub(crate) fn new_token(&self, number: ChannelNumber) -> Token {
        let generation = self.tokens.fetch_add(1, Ordering::Relaxed) % (usize::MAX >> NUMBER_BITS);
        Token(generation << NUMBER_BITS | usize::from(number.get()))
    }

    /// The channel with this token, if it is still open.
    pub(crate) fn channel_at(&self, token: Token) -> Option<ChannelGuard<'_>> {
        let channel = self.engine.channels.lock(number_of(token))?;
        (channel.token == token && channel.group == self.id).then_some(channel)
    }

    /// The oldest first.
    pub(crate) fn all_channels(&self) -> Vec<Token> {
        self.members.all()
    }

    pub(crate) fn channels_open(&self) -> usize {
        self.members.count()
    }

    pub(crate) fn has_no_channels(&self) -> bool {
        self.channels_open() == 0
    }

    pub(crate) fn call_when_room(&self, channel: Token, bytes: usize) {
        if let Some(group) = self.engine.group(self.id) {
            let budget = &self.engine.budget;
            budget.call_when_room((self.id, &group), channel, bytes);
        }
    }

    /// The group's channels, for one to be added, unless the group is retired.
    pub(crate) fn join(&self) -> Option<MutexGuard<'_, BTreeSet<Token>>> {
        self.members.join()
    }

    /// Adds a channel that the driver opens.
    pub(crate) fn add(&self, token: Token, end: End, identity: Peer) {
        self.open_at(token, end, Some(identity), &mut self.members.hold());
    }

    pub(crate) fn open_at(
        &self,
        token: Token,
        end: End,
        identity: Option<Peer>,
        members: &mut BTreeSet<Token>,
    ) {
        members.insert(token);
        let channel = Channel {
            group: self.id,
            token,
            end,
            identity,
        };
        self.engine.channels.open(number_of(token), channel);
    }

    /// Forgets a closed channel, and lets its number rest.
    pub(crate) fn remove(&self, token: Token) {
        self.members.hold().remove(&token);
        self.engine.channels.release(number_of(token));
    }

    /// Takes no more messages, and closes all channels this way.
    pub(crate) fn retire(&self, mode: Mode) {
        self.members.retire();
        // Their addresses are free when this returns; the rest is the driver's.
        for token in self.all_channels() {
            if let Some(mut channel) = self.channel_at(token)
                && let End::Listener(listener) = &mut channel.end
            {
                listener.socket = ListenerSocket::Closed;
            }
        }
        self.attend(Attention::Retire(mode));
    }

    #[inline]
    pub(crate) fn is_retired(&self) -> bool {
        self.members.is_retired()
    }

    /// Who is, or was, at the other end of a channel of this group.
    pub(crate) fn peer(&self, number: ChannelNumber) -> Option<Peer> {
        self.engine.channels.peer(number, self.id)
    }

    /// The channel that a message is posted to.
    #[inline]
    pub(crate) fn channel(&self, number: ChannelNumber) -> Result<ChannelGuard<'_>, Refusal> {
        self.members.channel(&self.engine.channels, number)
    }
}

/// The number of the channel that has this token.
pub(crate) fn number_of(token: Token) -> ChannelNumber {
    ChannelNumber::new(u16::try_from(token.0 & usize::from(u16::MAX)).unwrap_or_default())
}
