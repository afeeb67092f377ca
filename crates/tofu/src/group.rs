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
use tofu_proto::{
    ChannelNumber, Connection, Header, Instant, Message, MessageId, OpCode, Order, PostError,
    Refusal,
};

use crate::{
    budget::Charge,
    channels::{ChannelGuard, GroupId},
    engine::{Shared, next_message_id},
    metrics::Counter,
    reactor::{
        self, Attention, BusyPoll, Reactor,
        channel::{Channel, End, Listener, ListenerSocket, Peer, Room, Socket},
        close::Mode,
        seat::{Driver, Nudge, Seat},
    },
};

/// How long gathered frames wait for a driver at most.
pub(crate) const GATHERED_WAIT_MAX: Duration = Duration::from_millis(1);
/// Bits of a token that hold the channel number; the rest tell its holders apart.
const NUMBER_BITS: u32 = u16::BITS;

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) engine: Arc<Shared>,
    pub(crate) registry: Registry,
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
    /// How often a driver looked at what was left for it.
    looks: AtomicU64,
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
        Ok(Self {
            id,
            engine,
            registry: poll.registry().try_clone()?,
            poller_descriptor: poll.as_raw_fd(),
            waker: Waker::new(poll.registry(), reactor::WAKER)?,
            seat: Seat::new(Reactor::new(poll, busy_poll)),
            retired: AtomicBool::new(false),
            members: Mutex::default(),
            attention: Mutex::default(),
            gathered: Mutex::default(),
            looks: AtomicU64::new(0),
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
        let members = lock(&self.members);
        if !self.is_retired() {
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
    fn gather(&self, channel: Token, now: Instant) {
        lock(&self.gathered).push(channel);
        // Pairs with the fence in `keeper_rests_until`, as in `leave`.
        fence(Ordering::SeqCst);
        let soon = (now + GATHERED_WAIT_MAX).as_nanos();
        if !self.seat.is_empty() || self.keeper_looks_at.load(Ordering::Relaxed) > soon {
            self.nudge();
        }
    }

    pub(crate) fn has_gathered(&self) -> bool {
        !lock(&self.gathered).is_empty()
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

    /// A caller takes the seat.
    pub(crate) fn sit_down(&self) -> Driver<'_, Reactor> {
        self.caller_turns.fetch_add(1, Ordering::Relaxed);
        self.seat.take()
    }

    /// A caller leaves the seat: to the keeper, if there is something that cannot wait until the
    /// keeper looks anyway.
    pub(crate) fn leave(&self, driver: Driver<'_, Reactor>) {
        let due = if driver.is_busy(self) {
            0
        } else {
            driver.next_deadline().map_or(u64::MAX, Instant::as_nanos)
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

    /// Adds a channel.
    pub(crate) fn add(&self, number: ChannelNumber, token: Token, end: End) {
        let channel = Channel {
            group: self.id,
            token,
            end,
        };
        self.engine.channels.open(number, channel);
        lock(&self.members).insert(token);
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
    fn channel(&self, number: ChannelNumber) -> Result<ChannelGuard<'_>, Refusal> {
        if self.is_retired() {
            return Err(Refusal::ShutdownStarted);
        }
        match self.engine.channels.lock(number) {
            Some(channel) if channel.group == self.id => Ok(channel),
            Some(_) => Err(Refusal::InvalidChannelGroup(number)),
            None => Err(Refusal::InvalidChannelNumber(number)),
        }
    }
}

/// Posting.
impl Group {
    /// Checks a message, takes it, and returns its header as it travels.
    pub(crate) fn post(&self, message: Message) -> Result<Header, PostError> {
        match message.check() {
            Ok(Order::Send) => self.send(message),
            Ok(Order::Connect(address)) => self.open(message, |message| {
                let now = self.engine.clock.now();
                let timeouts = Arc::clone(&self.engine.timeouts);
                let mut charge = Charge::new(Arc::clone(&self.engine.budget));
                charge.set(message.frame_len());
                let connection = Connection::client(message, timeouts, now);
                let peer = Peer::new(connection, Socket::Unopened(address), charge);
                End::Peer(peer)
            }),
            Ok(Order::Listen(address)) => self.open(message, |message| {
                End::Listener(Listener::new(message, address))
            }),
            Ok(Order::Close) => self.close(message),
            Err(refusal) => Err(PostError::new(message, refusal)),
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
        let token = self.new_token(number);
        let mut members = lock(&self.members);
        if self.is_retired() {
            drop(members);
            self.engine.channels.release(number);
            return Err(PostError::new(message, Refusal::ShutdownStarted));
        }
        // Whoever retires the group from now on finds it.
        members.insert(token);
        message.address_to(number, id_for(&message));
        let header = message.binary_header();
        let channel = Channel {
            group: self.id,
            token,
            end: end(message),
        };
        self.engine.channels.open(number, channel);
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
        if matches!(peer.socket, Socket::Closed) {
            return Err(PostError::new(message, self.closed(token)));
        }
        let now = self.engine.clock.now();
        let queued = peer.connection.queue().bytes();
        let engine_max = queued.saturating_add(self.engine.budget.room());
        let channel_max = self.engine.options.channel_queue_bytes_max;
        let posted =
            peer.connection
                .post(message, channel_max.min(engine_max), now, next_message_id);
        let header = match posted {
            Ok(header) => header,
            // The group says bye by itself, since the channel was looked up.
            Err(error) if self.is_retired() => {
                return Err(PostError::new(
                    error.into_message(),
                    Refusal::ShutdownStarted,
                ));
            }
            Err(error) => {
                if matches!(error.refusal(), Refusal::QueueFull { .. }) {
                    self.engine.counters.count(Counter::QueueFull);
                    let bytes = error.message().frame_len();
                    // A note for less may stand in the budget's line: it only calls too early.
                    peer.room = Room::Wanted(bytes);
                    drop(channel);
                    if engine_max < channel_max {
                        self.look_at(token);
                    }
                }
                return Err(error);
            }
        };
        let look = self.looks.load(Ordering::Relaxed);
        let gathers = peer.gathers(look, now);
        if gathers {
            peer.note_queued();
        } else {
            peer.flush(&self.registry, token, now);
            peer.written = Some((look, now));
        }
        let first_gathered = gathers && !mem::replace(&mut peer.is_gathered, gathers);
        // A bye has a timer; a socket that broke is the driver's to close.
        let needs_driver = peer.is_broken()
            || peer
                .connection
                .poll_timeout()
                .is_some_and(|_| is_bye(&header));
        drop(channel);
        if first_gathered {
            self.gather(token, now);
        }
        if needs_driver {
            self.look_at(token);
        }
        Ok(header)
    }

    pub(crate) fn call_when_room(&self, channel: Token, bytes: usize) {
        if let Some(group) = self.engine.group(self.id) {
            self.engine.budget.call_when_room(&group, channel, bytes);
        }
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
        let mut channel = match self.channel(message.channel()) {
            Ok(channel) => channel,
            Err(refusal) => return Err(PostError::new(message, refusal)),
        };
        let token = channel.token;
        let was_closed = match &mut channel.end {
            End::Peer(peer) if !peer.connection.is_known() => {
                let refusal = Refusal::InvalidChannelNumber(number_of(token));
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
            return Err(PostError::new(message, self.closed(token)));
        }
        message.address_to(number_of(token), id_for(&message));
        self.look_at(token);
        Ok(message.binary_header())
    }

    /// Why a channel without a socket takes nothing: the application closed it a moment ago.
    fn closed(&self, token: Token) -> Refusal {
        if self.is_retired() {
            Refusal::ShutdownStarted
        } else {
            Refusal::ChannelClosing(number_of(token))
        }
    }
}

/// The number of the channel that has this token.
pub(crate) fn number_of(token: Token) -> ChannelNumber {
    ChannelNumber::new(u16::try_from(token.0 & usize::from(u16::MAX)).unwrap_or_default())
}

fn id_for(message: &Message) -> MessageId {
    match message.id() {
        MessageId::UNASSIGNED => next_message_id(),
        chosen => chosen,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_bye(header: &Header) -> bool {
    matches!(header.op_code, OpCode::ByeRequest | OpCode::ByeResponse)
}
