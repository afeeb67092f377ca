//! Sockets and pollers of a [simulated system](System), as the rest of this room wants them.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use mio::{Interest, Token};

use super::poller::Ready;
use crate::simulation::{Descriptor, Endpoint, System};

/// Something that the simulated system gave out; dropping it closes it.
#[derive(Debug)]
struct Open {
    system: Arc<dyn System>,
    descriptor: Descriptor,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.system.close(self.descriptor);
    }
}

#[derive(Debug)]
pub(crate) struct Poller(Open);

/// It lives no longer than its poller.
#[derive(Debug)]
pub(crate) struct Registry {
    system: Arc<dyn System>,
    poller: Descriptor,
}

#[derive(Debug)]
pub(crate) struct Waker {
    registry: Registry,
    token: Token,
}

impl Poller {
    pub(super) fn new(system: &Arc<dyn System>) -> Self {
        Self(Open {
            system: Arc::clone(system),
            descriptor: system.open_poller(),
        })
    }

    pub(super) fn poll(&mut self, events: &mut Vec<(Token, Ready)>, patience: Option<Duration>) {
        events.clear();
        let ready = self.0.system.poll(self.0.descriptor, patience);
        events.extend(ready.into_iter().map(|event| {
            let ready = Ready {
                readable: event.readable,
                writable: event.writable,
                ends: event.ends,
            };
            (Token(event.token), ready)
        }));
    }

    pub(super) fn registry(&self) -> Registry {
        Registry {
            system: Arc::clone(&self.0.system),
            poller: self.0.descriptor,
        }
    }

    pub(super) fn waker(&self, token: Token) -> Waker {
        Waker {
            registry: self.registry(),
            token,
        }
    }

    pub(super) fn descriptor(&self) -> Descriptor {
        self.0.descriptor
    }
}

impl Registry {
    pub(super) fn register(&self, descriptor: Descriptor, token: Token, interest: Interest) {
        self.system
            .register(self.poller, descriptor, token.0, interest.is_writable());
    }

    pub(super) fn mute(&self, descriptor: Descriptor) {
        self.system.mute(self.poller, descriptor);
    }

    pub(super) fn deregister(&self, descriptor: Descriptor) {
        self.system.deregister(self.poller, descriptor);
    }
}

impl Waker {
    pub(super) fn wake(&self) {
        self.registry
            .system
            .wake(self.registry.poller, self.token.0);
    }
}

#[derive(Debug)]
pub(crate) struct Stream(Open);

impl Stream {
    pub(super) fn connect(system: &Arc<dyn System>, to: &Endpoint) -> io::Result<Self> {
        Ok(Self(Open {
            descriptor: system.connect(to)?,
            system: Arc::clone(system),
        }))
    }

    pub(super) fn finish_connect(&self) -> io::Result<Option<()>> {
        let connected = self.0.system.finish_connect(self.0.descriptor)?;
        Ok(connected.then_some(()))
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.system.read(self.0.descriptor, buffer)
    }

    pub(super) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.system.write(self.0.descriptor, slices)
    }

    pub(super) fn close_gently(&self) {
        self.0.system.linger(self.0.descriptor);
    }

    pub(super) fn shutdown_write(&self) {
        self.0.system.shutdown_write(self.0.descriptor);
    }

    pub(super) fn register(&self, registry: &Registry, token: Token, interest: Interest) {
        registry.register(self.0.descriptor, token, interest);
    }
}

#[derive(Debug)]
pub(crate) struct Listener {
    open: Open,
    endpoint: Endpoint,
}

impl Listener {
    pub(super) fn bind(
        system: &Arc<dyn System>,
        at: &Endpoint,
        backlog: usize,
    ) -> io::Result<Self> {
        let (descriptor, endpoint) = system.listen(at, backlog)?;
        let system = Arc::clone(system);
        Ok(Self {
            open: Open { system, descriptor },
            endpoint,
        })
    }

    pub(super) fn accept(&self) -> io::Result<Stream> {
        let descriptor = self.open.system.accept(self.open.descriptor)?;
        let system = Arc::clone(&self.open.system);
        Ok(Stream(Open { system, descriptor }))
    }

    /// The address really bound.
    pub(super) fn tcp(&self) -> Option<SocketAddr> {
        match self.endpoint {
            Endpoint::Tcp(address) => Some(address),
            Endpoint::Uds(_) => None,
        }
    }

    pub(super) fn register(&self, registry: &Registry, token: Token, interest: Interest) {
        registry.register(self.open.descriptor, token, interest);
    }
}

/// A socket of the one kind at a poller of the other: no engine has both.
pub(super) fn two_worlds() -> io::Error {
    io::ErrorKind::Unsupported.into()
}
