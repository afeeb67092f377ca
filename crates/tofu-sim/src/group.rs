//! What a simulated application is, and what it may do.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tofu::{
    ChannelGroup, ChannelNumber, Engine, Event, Header, Message, MessageId, OpCode, PostError,
    helpers::Post,
};

use crate::{
    Broken, Limits, Promise, Random,
    ledger::{Ledger, Scene},
    network::Network,
    trace::{Trace, line},
};

/// An application: what it does with a channel group of its own.
///
/// It never waits. It is told what happens, one event after the other, and posts in answer. When and how its
/// events are received is up to the seed.
///
/// The world drops it when its group ends. What a test wants to see of it afterwards, it shares with it, such as an
/// `Rc<RefCell<...>>`; but no messages, which belong to the engine's pool.
pub trait Application {
    /// The group is there.
    fn start(&mut self, group: &mut Group<'_>) {
        let _ = group;
    }

    /// The next event.
    fn hear(&mut self, event: Event, group: &mut Group<'_>);

    /// The time has come that was asked for with [`Group::wake_in`].
    fn wake(&mut self, group: &mut Group<'_>) {
        let _ = group;
    }

    /// It has asked for the next event, and there is none.
    fn idle(&mut self, group: &mut Group<'_>) {
        let _ = group;
    }

    /// Nothing goes wrong any more, and the run comes to its end: the application has to as well, before
    /// long, and in one of the four ways: [`close`](Group::close), [`leave`](Group::leave), [`abort`](Group::abort),
    /// [`shut_down`](Group::shut_down). It may do so later, as when its last answer has come. Unless it says
    /// otherwise, it closes its group at once.
    fn finish(&mut self, group: &mut Group<'_>) {
        group.close(Duration::from_secs(60));
    }
}

/// A channel group in a [`World`](crate::World): what its application may do with it.
///
/// Beside a [`ChannelGroup`] it lacks:
///
/// | there | here |
/// | --- | --- |
/// | `recv` and its kin | [`Application::hear`] is called; which of them was used is up to the seed |
/// | `call`, `call_async` | they wait: post, and hear the answer; [`helpers::Calls`](tofu::helpers::Calls) with [`instant`](Self::instant) for many |
/// | `post_timeout` | it waits: keep what was refused until `Drained` |
/// | `poster`, and any other thread | another group on the same host |
/// | `peer` | nobody is known by address or user |
/// | `reply` | `Message::reply` |
///
/// It [posts](Post), for whatever in [`tofu::helpers`] does so.
#[derive(Debug)]
pub struct Group<'a> {
    pub(crate) channels: &'a ChannelGroup,
    pub(crate) engine: &'a Engine,
    pub(crate) limits: &'a Limits,
    pub(crate) shared: &'a mut Shared,
    pub(crate) host: usize,
    pub(crate) index: usize,
    pub(crate) opened: &'a mut u64,
    pub(crate) alarm: &'a mut Option<Duration>,
    pub(crate) wish: &'a mut Option<Wish>,
}

/// What all hosts of a world share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) began: Instant,
    pub(crate) network: Arc<Network>,
    pub(crate) ledger: Ledger,
    pub(crate) trace: Trace,
    pub(crate) random: Random,
    pub(crate) broken: Option<Broken>,
}

impl Shared {
    pub(crate) fn now(&self) -> Duration {
        self.network.state().now
    }

    pub(crate) fn hold(&mut self, checked: Result<(), Broken>) {
        if let Err(broken) = checked {
            self.broken.get_or_insert(broken);
        }
    }

    pub(crate) fn note(&mut self, told: impl FnOnce() -> String) {
        if self.trace.is_kept() {
            let mut state = self.network.state();
            let now = state.now;
            let happened = state.happened.as_mut().map(std::mem::take);
            drop(state);
            for line in happened.unwrap_or_default() {
                self.trace.note(now, line);
            }
            self.trace.note(now, told());
        }
    }
}

impl Post for Group<'_> {
    fn post(&mut self, message: Message) -> Result<Header, PostError> {
        Self::post(self, message)
    }
}

/// How an application ends its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Close(Duration),
    Abort,
    Leave,
    ShutDown(Duration),
}

impl Group<'_> {
    /// As [`ChannelGroup::post`].
    ///
    /// # Errors
    /// As [`ChannelGroup::post`].
    pub fn post(&mut self, message: Message) -> Result<Header, PostError> {
        let copy = message.clone();
        let posted = self.channels.post(message);
        match &posted {
            Ok(header) => self.took(copy, header),
            Err(error) => self.refused(&copy, error),
        }
        posted
    }

    /// As [`ChannelGroup::post_many`]. Each message must have an id.
    ///
    /// # Errors
    /// As [`ChannelGroup::post_many`].
    ///
    /// # Panics
    /// One has no id.
    pub fn post_many(&mut self, messages: &mut VecDeque<Message>) -> Result<(), PostError> {
        assert!(
            messages.iter().all(|it| it.id() != MessageId::UNASSIGNED),
            "the simulator must know the messages' ids"
        );
        let copies: Vec<_> = messages.iter().cloned().collect();
        let posted = self.channels.post_many(messages);
        let refused = usize::from(posted.is_err());
        let taken = copies.len() - messages.len() - refused;
        let mut copies = copies.into_iter();
        for mut copy in copies.by_ref().take(taken) {
            copy.address_to(copy.channel(), copy.id());
            let header = copy.binary_header();
            self.took(copy, &header);
        }
        if let (Err(error), Some(copy)) = (&posted, copies.next()) {
            self.refused(&copy, error);
        }
        posted
    }

    fn took(&mut self, copy: Message, header: &Header) {
        if matches!(
            copy.op_code(),
            OpCode::HelloRequest | OpCode::WelcomeRequest
        ) {
            *self.opened += 1;
        }
        let shared = &mut *self.shared;
        let (host, index) = (self.host, self.index);
        shared.note(|| format!("host {host} group {index} posts {}", line(header)));
        let name = (host, header.channel);
        let state = shared.network.state();
        let scene = Scene {
            host,
            opened: *self.opened,
            limits: self.limits,
            network: &state,
        };
        let checked = shared.ledger.posted(index, name, copy, header, scene);
        drop(state);
        shared.hold(checked);
    }

    fn refused(&mut self, copy: &Message, error: &PostError) {
        let shared = &mut *self.shared;
        let (host, index) = (self.host, self.index);
        shared.note(|| {
            let header = copy.binary_header();
            let refusal = error.refusal();
            format!(
                "host {host} group {index} may not post {}: {refusal}",
                line(&header)
            )
        });
        let metrics = self.engine.metrics();
        let state = shared.network.state();
        let name = (host, copy.channel());
        let scene = Scene {
            host,
            opened: *self.opened,
            limits: self.limits,
            network: &state,
        };
        let checked = shared
            .ledger
            .refused(index, name, copy, error, &metrics, scene);
        drop(state);
        shared.hold(checked);
    }

    /// As [`ChannelGroup::request`].
    pub fn request(&self, channel: ChannelNumber) -> Message {
        self.channels.request(channel)
    }

    /// As [`ChannelGroup::signal`].
    pub fn signal(&self, channel: ChannelNumber) -> Message {
        self.channels.signal(channel)
    }

    /// As [`ChannelGroup::notify`].
    pub fn notify(&mut self, message: Option<Message>) {
        let now = self.shared.now();
        self.shared
            .ledger
            .notifies(self.index, message.clone(), now);
        self.channels.notify(message);
    }

    /// The engine, to ask it for messages and metrics.
    pub fn engine(&self) -> &Engine {
        self.engine
    }

    /// Numbers that the seed decides.
    pub fn random(&mut self) -> &mut Random {
        &mut self.shared.random
    }

    /// The time since the world began.
    pub fn now(&self) -> Duration {
        self.shared.now()
    }

    /// The same as an instant, for code that asks for one. Only how far instants are apart means anything.
    pub fn instant(&self) -> Instant {
        self.shared.began + self.shared.now()
    }

    /// Has [`Application::wake`] called after this time, instead of any that was asked for before.
    pub fn wake_in(&mut self, time: Duration) {
        *self.alarm = Some(self.shared.now() + time);
    }

    /// Closes the group as [`ChannelGroup::close`] does. The application hears of nothing any more; the report is
    /// held against what was posted.
    pub fn close(&mut self, timeout: Duration) {
        self.wish.get_or_insert(Wish::Close(timeout));
    }

    /// Closes the group as [`ChannelGroup::abort`] does.
    pub fn abort(&mut self) {
        self.wish.get_or_insert(Wish::Abort);
    }

    /// Drops the group.
    pub fn leave(&mut self) {
        self.wish.get_or_insert(Wish::Leave);
    }

    /// Shuts the engine down, as [`Engine::shutdown`] does.
    pub fn shut_down(&mut self, timeout: Duration) {
        self.wish.get_or_insert(Wish::ShutDown(timeout));
    }

    /// Writes a line into the trace.
    pub fn note(&mut self, told: &str) {
        let (host, index) = (self.host, self.index);
        self.shared
            .note(|| format!("host {host} group {index}: {told}"));
    }

    /// Ends the run: a promise was broken that only the application knows.
    pub fn fail(&mut self, how: impl Into<String>) {
        let broken = Broken::new(Promise::Application, how);
        self.shared.hold(Err(broken));
    }
}
