//! A channel group as its threads share it: its channels, what was left for the driver, and posting.

use std::{
    collections::HashSet,
    io, mem,
    os::fd::{AsRawFd, RawFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    },
    time::Duration,
};

use mio::{Poll, Registry, Token, Waker};
use tofu_proto::{ChannelNumber, Connection, Instant, Message, Refusal};

use crate::{
    channels::{ChannelGuard, GroupId},
    engine::Shared,
    keeper,
    pool::{Shelf, Stock},
    reactor::{
        self, Attention, BusyPoll, Reactor,
        channel::{Channel, End, ListenerSocket},
        close::Mode,
        seat::{Driver, Nudge, Seat},
    },
};

/// How long gathered frames wait for a driver at most.
pub(crate) const GATHERED_WAIT_MAX: Duration = Duration::from_millis(1);
/// Pieces of memory, for frames that leave together, that are kept while no channel has a use for them.
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
    /// The reactor's poller, for the keeper to nest. It lives as long as the group.
    pub(crate) poller_descriptor: RawFd,
    waker: Waker,
    /// The group takes no more messages. Set with the members locked.
    retired: AtomicBool,
    members: Mutex<HashSet<Token>>,
    attention: Mutex<Vec<Attention>>,
    /// Channels on which frames wait for others to leave with.
    gathered: Mutex<Vec<Token>>,
    gatherings: AtomicU64,
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
    /// How often a caller took the seat: tells the keeper whether somebody drives.
    caller_turns: AtomicU64,
    /// When the keeper will look here anyway, in nanoseconds of the engine's clock.
    keeper_looks_at: AtomicU64,
}

impl Group {
    pub(crate) fn new(id: GroupId, engine: Arc<Shared>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let busy_poll = BusyPoll::new(engine.options.busy_poll);
        let shelf = Shelf::new(&engine.pool);
        let stock = Stock::new(Arc::clone(&shelf));
        Ok(Self {
            id,
            engine,
            registry: poll.registry().try_clone()?,
            shelf,
            poller_descriptor: poll.as_raw_fd(),
            waker: Waker::new(poll.registry(), reactor::WAKER)?,
            seat: Seat::new(Reactor::new(poll, busy_poll, stock)),
            retired: AtomicBool::new(false),
            members: Mutex::default(),
            attention: Mutex::default(),
            gathered: Mutex::default(),
            gatherings: AtomicU64::new(0),
            spare: Mutex::default(),
            looks: AtomicU64::new(0),
            left_before_look: AtomicU64::new(u64::MAX),
            left_at: AtomicU64::new(0),
            has_unread: AtomicBool::new(false),
            tokens: AtomicUsize::new(0),
            caller_turns: AtomicU64::new(0),
            keeper_looks_at: AtomicU64::new(u64::MAX),
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
        lock(&self.gathered).push(channel);
        self.gatherings.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence in `keeper_rests_until`, as in `leave`.
        fence(Ordering::SeqCst);
        if !self.seat.is_empty() {
            self.nudge();
        } else if self.keeper_looks_at.load(Ordering::Relaxed)
            > (now + GATHERED_WAIT_MAX).as_nanos()
        {
            self.engine.keeper.call_soon(self.id);
        }
    }

    /// How often frames began to wait.
    pub(crate) fn gatherings(&self) -> u64 {
        self.gatherings.load(Ordering::Relaxed)
    }

    pub(crate) fn has_gathered(&self) -> bool {
        !lock(&self.gathered).is_empty()
    }

    /// Gives memory to a channel that begins to gather.
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
        mem::take(&mut *lock(&self.gathered))
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
        self.caller_turns.fetch_add(1, Ordering::Relaxed);
        self.take_seat()
    }

    /// The same, for one who does not count as a caller.
    pub(crate) fn take_seat(&self) -> Option<Driver<'_, Reactor>> {
        let empty = self.seat.try_take();
        empty.or_else(|| (!self.engine.is_inherited()).then(|| self.seat.take()))
    }

    /// A caller leaves the seat: to the keeper, if there is something that cannot wait until the
    /// keeper looks anyway. One who has a number of `events` to see to will be back, and what was left
    /// unfinished for want of time can wait for the keeper: two of its looks at most, for the first one only sees that a
    /// caller was here.
    pub(crate) fn leave(&self, driver: Driver<'_, Reactor>, events: usize) {
        let timer = driver.next_deadline().map_or(u64::MAX, Instant::as_nanos);
        let due = match driver.is_busy(self) {
            true if events > 1 => timer.min((driver.time() + keeper::BACK_MAX).as_nanos()),
            true => 0,
            false => timer,
        };
        let nudged = driver.leave();
        // Pairs with the fence in `keeper_rests_until`: either we see when the keeper will look, or
        // it sees that we left.
        fence(Ordering::SeqCst);
        if nudged || due < self.keeper_looks_at.load(Ordering::Relaxed) {
            self.engine.keeper.call(self.id);
        }
    }

    pub(crate) fn caller_turns(&self) -> u64 {
        self.caller_turns.load(Ordering::Relaxed)
    }

    /// The keeper will look here at this time, and not before unless it is called.
    pub(crate) fn keeper_rests_until(&self, time: Option<Instant>) {
        let time = time.map_or(u64::MAX, Instant::as_nanos);
        self.keeper_looks_at.store(time, Ordering::Relaxed);
        fence(Ordering::SeqCst);
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

    pub(crate) fn all_channels(&self) -> Vec<Token> {
        lock(&self.members).iter().copied().collect()
    }

    pub(crate) fn channels_open(&self) -> usize {
        lock(&self.members).len()
    }

    pub(crate) fn has_no_channels(&self) -> bool {
        self.channels_open() == 0
    }

    pub(crate) fn call_when_room(&self, channel: Token, bytes: usize) {
        if let Some(group) = self.engine.group(self.id) {
            self.engine.budget.call_when_room(&group, channel, bytes);
        }
    }

    /// The group's channels, for one to be added: `None` if the group is retired. As long as they are
    /// held it is not, and whoever retires it later finds the new one.
    pub(crate) fn join(&self) -> Option<MutexGuard<'_, HashSet<Token>>> {
        let members = lock(&self.members);
        (!self.is_retired()).then_some(members)
    }

    /// Adds a channel that the driver opens.
    pub(crate) fn add(&self, token: Token, end: End) {
        self.open_at(token, end, &mut lock(&self.members));
    }

    pub(crate) fn open_at(&self, token: Token, end: End, members: &mut HashSet<Token>) {
        members.insert(token);
        let channel = Channel {
            group: self.id,
            token,
            end,
        };
        self.engine.channels.open(number_of(token), channel);
    }

    /// Forgets a closed channel, and lets its number rest.
    pub(crate) fn remove(&self, token: Token) {
        lock(&self.members).remove(&token);
        self.engine.channels.release(number_of(token));
    }

    /// Takes no more messages, and closes all channels this way.
    pub(crate) fn retire(&self, mode: Mode) {
        let members = lock(&self.members);
        self.retired.store(true, Ordering::Release);
        drop(members);
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
        self.retired.load(Ordering::Acquire)
    }

    /// The channel that a message is posted to.
    #[inline]
    pub(crate) fn channel(&self, number: ChannelNumber) -> Result<ChannelGuard<'_>, Refusal> {
        if self.is_retired() {
            return Err(Refusal::ShutdownStarted);
        }
        match self.engine.channels.lock(number) {
            Some(channel) if channel.group == self.id => Ok(channel),
            // The group may have been retired, and said bye by itself, since this began.
            _ if self.is_retired() => Err(Refusal::ShutdownStarted),
            Some(_) => Err(Refusal::InvalidChannelGroup(number)),
            None => Err(Refusal::InvalidChannelNumber(number)),
        }
    }
}

/// The number of the channel that has this token.
pub(crate) fn number_of(token: Token) -> ChannelNumber {
    ChannelNumber::new(u16::try_from(token.0 & usize::from(u16::MAX)).unwrap_or_default())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
