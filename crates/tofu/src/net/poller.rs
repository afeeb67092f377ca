//! Readiness: what says which sockets can be read or written, and wakes whoever waits for that.
//!
//! It is edge-triggered: what is ready is told once, and again when more has come. Without the feature
//! `simulation` there is one kind of poller, mio's, and nothing here costs anything.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
    time::Duration,
};

use mio::{Interest, Token, event::Event, unix::SourceFd};

#[cfg(feature = "simulation")]
use super::simulated;

/// Sockets from which on a poller that is not to be heard for now stays nested. A muted one costs a little for each
/// event, which those with few sockets would notice.
pub(crate) const MUTED_MIN: usize = 256;

/// It waits no longer than this, for systems count the time in few bits.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What the poller says of a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The stream's end may be in sight, so that a short read is not the last one.
    pub(crate) ends: bool,
}

/// Waits for sockets.
#[derive(Debug)]
pub(crate) enum Poller {
    System(mio::Poll),
    #[cfg(feature = "simulation")]
    Simulated(simulated::Poller),
}

/// Where sockets are registered to be waited for.
#[derive(Debug)]
pub(crate) enum Registry {
    System(mio::Registry),
    #[cfg(feature = "simulation")]
    Simulated(simulated::Registry),
}

/// Wakes a poller that waits.
#[derive(Debug)]
pub(crate) enum Waker {
    System(mio::Waker),
    #[cfg(feature = "simulation")]
    Simulated(simulated::Waker),
}

/// Names a poller, for another one to wait for it. The poller must live as long as it is registered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Inner {
    System(RawFd),
    #[cfg(feature = "simulation")]
    Simulated(crate::simulation::Descriptor),
}

/// What a poller found ready.
#[derive(Debug)]
pub(crate) struct Events {
    system: mio::Events,
    #[cfg(feature = "simulation")]
    simulated: Vec<(Token, Ready)>,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        mio::Poll::new().map(Self::System)
    }

    /// Waits at most `patience` (`None`: as long as it takes; at most a day) until something is ready.
    #[inline]
    pub(crate) fn poll(
        &mut self,
        events: &mut Events,
        patience: Option<Duration>,
    ) -> io::Result<()> {
        match self {
            Self::System(poll) => {
                let patience = patience.map(|patience| patience.min(WAIT_MAX));
                poll.poll(&mut events.system, patience)
            }
            #[cfg(feature = "simulation")]
            Self::Simulated(poller) => {
                poller.poll(&mut events.simulated, patience);
                Ok(())
            }
        }
    }

    pub(crate) fn registry(&self) -> io::Result<Registry> {
        match self {
            Self::System(poll) => poll.registry().try_clone().map(Registry::System),
            #[cfg(feature = "simulation")]
            Self::Simulated(poller) => Ok(Registry::Simulated(poller.registry())),
        }
    }

    /// What wakes it, with an event that has this token.
    pub(crate) fn waker(&self, token: Token) -> io::Result<Waker> {
        match self {
            Self::System(poll) => mio::Waker::new(poll.registry(), token).map(Waker::System),
            #[cfg(feature = "simulation")]
            Self::Simulated(poller) => Ok(Waker::Simulated(poller.waker(token))),
        }
    }

    /// Its name, to be waited for by another poller.
    pub(crate) fn as_inner(&self) -> Inner {
        match self {
            Self::System(poll) => Inner::System(poll.as_raw_fd()),
            #[cfg(feature = "simulation")]
            Self::Simulated(poller) => Inner::Simulated(poller.descriptor()),
        }
    }
}

#[cfg(feature = "simulation")]
impl Inner {
    /// The descriptor of a simulated poller.
    pub(crate) fn simulated(self) -> crate::simulation::Descriptor {
        match self {
            Self::Simulated(descriptor) => descriptor,
            Self::System(_) => unreachable!("only simulated engines are asked for it"),
        }
    }
}

impl Registry {
    /// Has this poller become ready when the other one does.
    pub(crate) fn nest(&self, inner: Inner, token: Token) -> io::Result<()> {
        match (self, inner) {
            (Self::System(registry), Inner::System(descriptor)) => {
                registry.register(&mut SourceFd(&descriptor), token, Interest::READABLE)
            }
            #[cfg(feature = "simulation")]
            (Self::Simulated(registry), Inner::Simulated(descriptor)) => {
                registry.register(descriptor, token, Interest::READABLE);
                Ok(())
            }
            #[cfg(feature = "simulation")]
            _ => Err(simulated::two_worlds()),
        }
    }

    /// Ignores a nested poller from now on. That costs the same however many sockets it waits for; to nest it
    /// anew, Linux goes through all of them, and whoever drives has to wait for that.
    pub(crate) fn mute(&self, inner: Inner, token: Token) -> io::Result<()> {
        match (self, inner) {
            (Self::System(registry), Inner::System(descriptor)) => {
                nested::mute(registry, descriptor, token)
            }
            #[cfg(feature = "simulation")]
            (Self::Simulated(registry), Inner::Simulated(descriptor)) => {
                registry.mute(descriptor);
                Ok(())
            }
            #[cfg(feature = "simulation")]
            _ => Err(simulated::two_worlds()),
        }
    }

    /// Heeds a muted poller again, and whatever it has had to say meanwhile.
    pub(crate) fn unmute(&self, inner: Inner, token: Token) -> io::Result<()> {
        match (self, inner) {
            (Self::System(registry), Inner::System(descriptor)) => {
                nested::unmute(registry, descriptor, token)
            }
            #[cfg(feature = "simulation")]
            _ => self.nest(inner, token),
        }
    }

    /// Forgets the other poller.
    pub(crate) fn take_out(&self, inner: Inner) -> io::Result<()> {
        match (self, inner) {
            (Self::System(registry), Inner::System(descriptor)) => {
                registry.deregister(&mut SourceFd(&descriptor))
            }
            #[cfg(feature = "simulation")]
            (Self::Simulated(registry), Inner::Simulated(descriptor)) => {
                registry.deregister(descriptor);
                Ok(())
            }
            #[cfg(feature = "simulation")]
            _ => Err(simulated::two_worlds()),
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod nested {
    use super::{Interest, RawFd, SourceFd, Token, io};

    pub(super) fn mute(registry: &mio::Registry, inner: RawFd, token: Token) -> io::Result<()> {
        // What no poller ever has to say.
        registry.reregister(&mut SourceFd(&inner), token, Interest::PRIORITY)
    }

    pub(super) fn unmute(registry: &mio::Registry, inner: RawFd, token: Token) -> io::Result<()> {
        registry.reregister(&mut SourceFd(&inner), token, Interest::READABLE)
    }
}

/// Elsewhere it costs nothing to nest a poller anew.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod nested {
    use super::{Interest, RawFd, SourceFd, Token, io};

    pub(super) fn mute(registry: &mio::Registry, inner: RawFd, _: Token) -> io::Result<()> {
        registry.deregister(&mut SourceFd(&inner))
    }

    pub(super) fn unmute(registry: &mio::Registry, inner: RawFd, token: Token) -> io::Result<()> {
        registry.register(&mut SourceFd(&inner), token, Interest::READABLE)
    }
}

impl Waker {
    pub(crate) fn wake(&self) -> io::Result<()> {
        match self {
            Self::System(waker) => waker.wake(),
            #[cfg(feature = "simulation")]
            Self::Simulated(waker) => {
                waker.wake();
                Ok(())
            }
        }
    }
}

impl Events {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self {
            system: mio::Events::with_capacity(capacity),
            #[cfg(feature = "simulation")]
            simulated: Vec::new(),
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        #[cfg(feature = "simulation")]
        if !self.simulated.is_empty() {
            return false;
        }
        self.system.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.system.clear();
        #[cfg(feature = "simulation")]
        self.simulated.clear();
    }

    /// What is ready, by the tokens under which it was registered.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Token, Ready)> {
        let all = self
            .system
            .iter()
            .map(|event| (event.token(), event.into()));
        #[cfg(feature = "simulation")]
        let all = all.chain(self.simulated.iter().copied());
        all
    }
}

impl From<&Event> for Ready {
    #[inline]
    fn from(event: &Event) -> Self {
        Self {
            readable: event.is_readable(),
            writable: event.is_writable(),
            ends: event.is_read_closed() || event.is_error(),
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const INNER: Token = Token(1);
    const WAKER: Token = Token(2);

    /// A poller that is nested in another one, and what wakes it.
    struct Nest {
        outer: Poller,
        registry: Registry,
        inner: Poller,
        waker: Waker,
        events: Events,
    }

    impl Nest {
        fn new() -> Self {
            let (outer, inner) = (Poller::new().unwrap(), Poller::new().unwrap());
            let registry = outer.registry().unwrap();
            registry.nest(inner.as_inner(), INNER).unwrap();
            Self {
                waker: inner.waker(WAKER).unwrap(),
                events: Events::with_capacity(8),
                registry,
                outer,
                inner,
            }
        }

        /// Who has something to say to the outer one.
        fn told(&mut self) -> Vec<Token> {
            let patience = Some(Duration::ZERO);
            self.outer.poll(&mut self.events, patience).unwrap();
            self.events.iter().map(|(token, _)| token).collect()
        }

        fn mute(&self) {
            let inner = self.inner.as_inner();
            self.registry.mute(inner, INNER).unwrap();
        }

        fn unmute(&self) {
            let inner = self.inner.as_inner();
            self.registry.unmute(inner, INNER).unwrap();
        }
    }

    #[test]
    fn a_muted_poller_is_not_heard_until_it_is_heeded_again() {
        let mut nest = Nest::new();
        assert_eq!(nest.told(), []);
        nest.mute();
        nest.waker.wake().unwrap();
        assert_eq!(nest.told(), []);
        nest.unmute();
        assert_eq!(nest.told(), [INNER], "what came meanwhile is told");
        assert_eq!(nest.told(), [], "once");
    }

    #[test]
    fn what_was_told_before_is_told_again_to_who_heeds_again() {
        let mut nest = Nest::new();
        nest.waker.wake().unwrap();
        assert_eq!(nest.told(), [INNER]);
        nest.mute();
        assert_eq!(nest.told(), []);
        nest.unmute();
        assert_eq!(nest.told(), [INNER]);
    }

    #[test]
    fn a_muted_poller_can_be_taken_out_and_nested_again() {
        let mut nest = Nest::new();
        nest.mute();
        let inner = nest.inner.as_inner();
        nest.registry.take_out(inner).unwrap();
        nest.waker.wake().unwrap();
        assert_eq!(nest.told(), []);
        nest.registry.nest(inner, INNER).unwrap();
        assert_eq!(nest.told(), [INNER]);
    }
}
