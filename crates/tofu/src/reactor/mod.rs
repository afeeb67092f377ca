//! A group's reactor: everything that only the driver touches.
//!
//! A turn goes: look at what was left for the driver, wait for the sockets, see to those that are
//! ready. The same turn serves a caller in `recv`, the keeper, and a group on its way out. It never
//! blocks but in the poller, and what it does for one channel in one turn is bounded, so that a busy
//! channel does not starve the others.
//!
//! The rooms: [`open`] connects and listens, [`accept`] takes connections, [`receive`] reads and
//! delivers, [`close`] ends channels and whole groups, [`channel`] writes, [`timers`] keeps the time,
//! [`seat`] decides who drives.

mod accept;
mod busy_poll;
pub(crate) mod channel;
pub(crate) mod close;
pub(crate) mod gathering;
mod open;
mod receive;
pub(crate) mod seat;
pub(crate) mod timers;

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    io,
    net::SocketAddr,
    sync::Arc,
    task::Waker,
    time::Duration,
};

use mio::Token;
use tofu_proto::{Instant, Message};

pub(crate) use self::busy_poll::BusyPoll;
use self::{
    busy_poll::Step,
    channel::{Channel, End, Pace, Socket},
    close::Mode,
    seat::Driver,
    timers::{Noted, Timers},
};
use crate::{
    channels::ChannelGuard,
    event::{Event, Inbox},
    group::Group,
    keeper::ward::Cared as _,
    net::{Events, Poller, Ready},
    pool::Stock,
};

/// The token of the group's waker.
pub(crate) const WAKER: Token = Token(usize::MAX);
/// The token under which the group's own deadline is noted.
const GROUP: Token = Token(usize::MAX - 1);
/// Readiness events taken from the poller at once.
const EVENTS_MAX: usize = 256;
/// How long streams wait for an application that answers others.
const STREAMS_WAIT_MAX: Duration = Duration::from_millis(1);
/// Turns that the keeper makes for one group before it sees to the next.
const KEEPER_TURNS_MAX: usize = 8;
/// No process forks in less time than this, so within it nobody has to ask whether this is a child.
const FORK_MIN: Duration = Duration::from_micros(20);
/// The scratch buffer: bytes read at once.
const SCRATCH_LEN: usize = 64 * 1024;

/// What others leave for the driver.
#[derive(Debug)]
pub(crate) enum Attention {
    /// Something changed on this channel: it is new, or says bye, or its socket broke.
    Look(Token),
    /// A host name was looked up for this channel.
    Resolved(Token, io::Result<Vec<SocketAddr>>),
    /// Tell the application.
    Notify(Option<Message>),
    /// Close all channels this way.
    Retire(Mode),
}

#[derive(Debug)]
pub(crate) struct Reactor {
    poller: Poller,
    events: Events,
    scratch: Box<[u8]>,
    /// Messages to receive into.
    stock: Stock,
    inbox: Inbox,
    /// The task that waits for something to be in the inbox.
    task: Option<Waker>,
    timers: Timers,
    mode: Mode,
    mode_noted: Noted,
    /// Messages received in this turn.
    received: usize,
    /// Bytes of the messages that came after the application stopped to read.
    unread_bytes: usize,
    /// Bytes read from all sockets, and those of them before this part of the turn.
    bytes_read: u64,
    bytes_read_before: u64,
    /// The channel that was read last, and whether the one before was the same: then it is likely to be the
    /// next one as well.
    last_read: Option<Token>,
    is_hot: bool,
    /// Channels that are ready and stream: those of whom little is expected go first.
    streaming: Vec<(Token, Ready)>,
    /// Since when streams are not read, nor connections accepted: the application is to have first what others brought.
    streams_wait_since: Option<Instant>,
    /// Channels that were not read, or accepted from, to the end, or not at all.
    unfinished: BTreeMap<Token, Pace>,
    /// The first of those that were unfinished in the last turn, by their pace.
    first_quiet: Token,
    first_streaming: Token,
    /// Channels that are not read because the pool is empty, first starved first.
    starved: VecDeque<Token>,
    now: Instant,
    busy_poll: BusyPoll,
}

impl Reactor {
    pub(crate) fn new(poller: Poller, busy_poll: BusyPoll, stock: Stock) -> Self {
        Self {
            poller,
            events: Events::with_capacity(EVENTS_MAX),
            scratch: vec![0; SCRATCH_LEN].into_boxed_slice(),
            stock,
            inbox: Inbox::default(),
            task: None,
            timers: Timers::default(),
            mode: Mode::Serving,
            mode_noted: Noted::default(),
            received: 0,
            unread_bytes: 0,
            bytes_read: 0,
            bytes_read_before: 0,
            last_read: None,
            is_hot: false,
            streaming: Vec::new(),
            streams_wait_since: None,
            unfinished: BTreeMap::new(),
            first_quiet: Token(0),
            first_streaming: Token(0),
            starved: VecDeque::new(),
            now: Instant::ORIGIN,
            busy_poll,
        }
    }

    /// One turn: waits at most `patience` (`None`: as long as it takes) for something to happen, and
    /// sees to it. It does not wait when there is something for the application already, but it
    /// does look at the sockets, so that no flood of other things keeps them waiting. Nor
    /// does it wait if what the driver found left for it says that the driving `is_over`.
    pub(crate) fn turn(
        driver: &mut Driver<'_, Self>,
        group: &Arc<Group>,
        patience: Option<Duration>,
        is_over: impl FnOnce(&Self) -> bool,
    ) -> io::Result<()> {
        let now = group.engine.clock.now();
        if now.since(driver.now) > FORK_MIN && group.engine.is_inherited() {
            return Err(io::Error::other("these sockets are the parent process's"));
        }
        Self::look_around(driver, group, now);
        let patience = if is_over(driver) {
            Some(Duration::ZERO)
        } else {
            driver.patience(group, patience)
        };
        let may_wait = patience.is_none_or(|patience| !patience.is_zero());
        if !may_wait {
            driver.wait(Some(Duration::ZERO))?;
        } else if !Self::busy_poll(driver, group, patience)? {
            // Others may wait for what this driver has no use for, and this one must not sleep over it.
            driver.stock.put_back();
            let patience = driver.patience(group, patience);
            match driver.sleep(|reactor| reactor.wait(patience)) {
                Some(waited) => waited?,
                None => driver.wait(Some(Duration::ZERO))?,
            }
        }
        driver.dispatch(group);
        if driver.is_nudged() {
            Self::look_around(driver, group, group.engine.clock.now());
        }
        Ok(())
    }

    /// Polls for a while, if there is reason to. `true` says that there is something to see to, or that it
    /// was seen to.
    fn busy_poll(
        driver: &mut Driver<'_, Self>,
        group: &Arc<Group>,
        patience: Option<Duration>,
    ) -> io::Result<bool> {
        let time = driver.busy_poll.time();
        if time.is_zero() || patience.is_some_and(|patience| patience < time) {
            return Ok(false);
        }
        let clock = &group.engine.clock;
        // Looking around may have taken a while.
        driver.now = clock.now();
        let start = driver.now;
        loop {
            match driver.busy_poll.step() {
                Step::Read => driver.read_hot(group),
                Step::Ask => driver.wait(Some(Duration::ZERO))?,
                Step::Yield => {
                    std::thread::yield_now();
                    let took = clock.now().since(driver.now);
                    driver.busy_poll.yielded(took);
                }
            }
            if !driver.events.is_empty() || !driver.inbox.is_empty() || driver.is_nudged() {
                driver.busy_poll.succeeded();
                return Ok(true);
            }
            driver.now = clock.now();
            if driver.now.since(start) >= time {
                // Not one socket is to be slept over.
                driver.wait(Some(Duration::ZERO))?;
                if !driver.events.is_empty() {
                    return Ok(true);
                }
                driver.busy_poll.failed();
                return Ok(false);
            }
        }
    }

    /// The keeper's turns: sees to everything that is ready, without waiting, or until a caller wants the seat.
    /// `true` says that there is more to do at once.
    pub(crate) fn keep(driver: &mut Driver<'_, Self>, group: &Arc<Group>) -> io::Result<bool> {
        // The application was not back in time: what it posts need not wait for that any more.
        group.set_has_unread(false);
        let callers = group.rest().caller_turns();
        for _ in 0..KEEPER_TURNS_MAX {
            Self::look_around(driver, group, group.engine.clock.now());
            driver.wait(Some(Duration::ZERO))?;
            let was_quiet = driver.events.is_empty();
            driver.dispatch(group);
            if was_quiet && !driver.is_busy(group) {
                return Ok(false);
            }
            if driver.has_task() && !driver.inbox.is_empty() {
                // It is woken first.
                return Ok(driver.is_busy(group));
            }
            if group.rest().caller_turns() != callers {
                break;
            }
        }
        Ok(true)
    }

    /// The task to wake, if there is something for it.
    pub(crate) fn task_to_wake(&mut self, group: &Group) -> Option<Waker> {
        let has_news = !self.inbox.is_empty() || group.is_retired();
        self.task.take_if(|_| has_news)
    }

    /// The task, which does not wait here any more.
    pub(crate) fn take_task(&mut self) -> Option<Waker> {
        self.task.take()
    }

    /// Whether a task waits for something to be in the inbox.
    pub(crate) fn has_task(&self) -> bool {
        self.task.is_some()
    }

    /// Has this task woken when something comes.
    pub(crate) fn wake_later(&mut self, task: &Waker) {
        self.task = Some(task.clone());
    }

    /// Whether the driver has something to do at once.
    pub(crate) fn is_busy(&self, group: &Group) -> bool {
        !self.unfinished.is_empty() || (self.is_starving() && self.may_receive(group))
    }

    /// Whether channels wait for a message of the pool.
    pub(crate) fn is_starving(&self) -> bool {
        !self.starved.is_empty()
    }

    /// When the driver last looked at the clock.
    pub(crate) fn time(&self) -> Instant {
        self.now
    }

    /// When the next timer is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The messages to receive into.
    pub(crate) fn stock(&mut self) -> &mut Stock {
        &mut self.stock
    }

    /// What waits for the application.
    pub(crate) fn inbox(&mut self) -> &mut Inbox {
        &mut self.inbox
    }

    /// Sees to this channel, or to it once more, when those of its pace have their next turn.
    fn come_back(&mut self, token: Token, pace: Pace) {
        self.unfinished.insert(token, pace);
    }

    /// All that can be done without asking the poller.
    pub(crate) fn look_around(driver: &mut Driver<'_, Self>, group: &Arc<Group>, now: Instant) {
        driver.look();
        driver.now = now;
        driver.see_to_what_was_left(group);
    }

    fn see_to_what_was_left(&mut self, group: &Arc<Group>) {
        self.count_anew();
        for attention in group.take_attention() {
            self.attend(group, attention);
        }
        for token in group.take_gathered() {
            self.flush_gathered(group, token);
        }
        self.expire(group);
        self.feed_starved(group);
    }

    /// What was received up to now is no reason to receive less from now on.
    fn count_anew(&mut self) {
        self.received = 0;
        self.bytes_read_before = self.bytes_read;
    }

    /// Who was not read to the end is served before others use up what the turn can receive. Each turn another
    /// one is the first, for the first may use it up as well.
    fn go_on_with(&mut self, group: &Arc<Group>, pace: Pace) {
        let mut unfinished = self.take_unfinished(pace);
        let first = match pace {
            Pace::Quiet => &mut self.first_quiet,
            Pace::Streaming => &mut self.first_streaming,
        };
        let behind = unfinished.partition_point(|token| token <= first);
        unfinished.rotate_left(behind);
        if let Some(now_first) = unfinished.first() {
            *first = *now_first;
        }
        for token in unfinished {
            self.go_on(group, token);
        }
    }

    /// In the order of their tokens.
    fn take_unfinished(&mut self, pace: Pace) -> Vec<Token> {
        let mut taken = Vec::new();
        if self.unfinished.is_empty() {
            return taken;
        }
        self.unfinished.retain(|token, its| {
            let stays = *its != pace;
            if !stays {
                taken.push(*token);
            }
            stays
        });
        taken
    }

    fn flush_gathered(&mut self, group: &Arc<Group>, token: Token) {
        if let Some(mut channel) = group.channel_at(token) {
            if let End::Peer(peer) = &mut channel.end {
                peer.is_noted = false;
            }
            self.look(group, channel);
        }
    }

    fn attend(&mut self, group: &Arc<Group>, attention: Attention) {
        match attention {
            Attention::Look(token) => {
                if let Some(channel) = group.channel_at(token) {
                    self.look(group, channel);
                }
            }
            Attention::Resolved(token, found) => self.resolved(group, token, found),
            Attention::Notify(message) => {
                if self.mode.is_listening() {
                    self.inbox.push(Event::Notified(message));
                }
            }
            Attention::Retire(mode) => self.retire(group, mode),
        }
    }

    fn expire(&mut self, group: &Arc<Group>) {
        while let Some((due, token)) = self.timers.pop_due(self.now) {
            if token == GROUP {
                self.mode_noted.clear(due);
                self.end_of_patience(group);
                continue;
            }
            let Some(mut channel) = group.channel_at(token) else {
                continue;
            };
            match &mut channel.end {
                End::Peer(peer) => peer.noted.clear(due),
                End::Listener(listener) => listener.noted.clear(due),
            }
            self.look(group, channel);
        }
    }

    /// How long the poller may wait.
    fn patience(&self, group: &Group, patience: Option<Duration>) -> Option<Duration> {
        if self.is_busy(group) || !self.inbox.is_empty() {
            return Some(Duration::ZERO);
        }
        let timer = self.timers.next().map(|due| due.since(self.now));
        match (patience, timer) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    fn wait(&mut self, patience: Option<Duration>) -> io::Result<()> {
        match self.poller.poll(&mut self.events, patience) {
            // A signal was handled: nothing is ready.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            waited => waited,
        }
    }

    /// First those of whom little is expected, then those that stream: each time who could not be read to the
    /// end in the last turn, then whose socket is ready now. What the first bring may be a question, and the
    /// application answers it before it is given what streams bring: these wait, but not for long.
    fn dispatch(&mut self, group: &Arc<Group>) {
        if self.events.is_empty() && self.unfinished.is_empty() {
            return;
        }
        self.now = group.engine.clock.now();
        let received_before = self.received;
        self.go_on_with(group, Pace::Quiet);
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for (token, ready) in events.iter() {
            if token != WAKER {
                self.ready(group, token, ready, Pace::Quiet);
            }
        }
        self.events = events;
        self.events.clear();
        let brought = self.received - received_before;
        let room = group.engine.pool.messages_per_turn();
        let share_of_streams = (room / 8).max(1);
        // Who has much to do is busy for long anyway.
        let is_little = (1..=share_of_streams).contains(&brought);
        if is_little && self.has_streams() && self.can_streams_wait() {
            self.streams_wait_since.get_or_insert(self.now);
        } else {
            self.streams_wait_since = None;
            // However much the others brought, some stream is begun now, and there are messages for it.
            self.bytes_read_before = self.bytes_read;
            self.received = self.received.min(room - share_of_streams);
            self.go_on_with(group, Pace::Streaming);
        }
        let mut streaming = std::mem::take(&mut self.streaming);
        for (token, ready) in streaming.drain(..) {
            self.ready(group, token, ready, Pace::Streaming);
        }
        self.streaming = streaming;
    }

    fn has_streams(&self) -> bool {
        !self.streaming.is_empty()
            || self
                .unfinished
                .values()
                .any(|pace| *pace == Pace::Streaming)
    }

    fn can_streams_wait(&self) -> bool {
        let since = self.streams_wait_since;
        since.is_none_or(|since| self.now.since(since) < STREAMS_WAIT_MAX)
    }

    /// Sees to a channel whose socket is ready, unless it has to wait until it is the turn of its pace.
    fn ready(&mut self, group: &Arc<Group>, token: Token, ready: Ready, turn: Pace) {
        let Some(mut channel) = group.channel_at(token) else {
            return;
        };
        let Channel { end, identity, .. } = &mut *channel;
        let over = match end {
            // To accept a connection costs as much as many messages.
            End::Listener(_) => return self.come_back(token, Pace::Streaming),
            End::Peer(peer) if peer.pace == Pace::Streaming && turn == Pace::Quiet => {
                return self.streaming.push((token, ready));
            }
            End::Peer(peer) if matches!(peer.socket, Socket::Connecting { .. }) => {
                self.check_connecting(group, token, peer, identity)
            }
            End::Peer(peer) => self.peer_ready(group, token, peer, ready),
        };
        self.after(group, channel, over);
    }

    /// Goes on with a channel that was not finished.
    fn go_on(&mut self, group: &Arc<Group>, token: Token) {
        let Some(mut channel) = group.channel_at(token) else {
            return;
        };
        match &mut channel.end {
            End::Listener(listener) => self.accept(group, token, listener),
            End::Peer(_) => drop(self.feed(group, channel)),
        }
    }

    /// Sees to a channel on which something changed but its socket.
    fn look(&mut self, group: &Arc<Group>, mut channel: ChannelGuard<'_>) {
        let token = channel.token;
        let Channel { end, identity, .. } = &mut *channel;
        let over = match end {
            End::Listener(listener) => self.look_at_listener(group, token, listener),
            End::Peer(peer) => self.look_at_peer(group, token, peer, identity),
        };
        self.after(group, channel, over);
    }

    /// Throws away the notes of closed channels, if there may be many.
    fn tidy_timers(&mut self, group: &Group) {
        let open = group.channels_open();
        if self.timers.is_untidy(open) {
            let open: HashSet<_> = group.all_channels().into_iter().collect();
            self.timers
                .retain(|token| token == GROUP || open.contains(&token));
        }
    }
}
