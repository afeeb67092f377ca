//! Opening: name to addresses, addresses to a socket, one after the other until one connects.

use std::{collections::VecDeque, io, net::SocketAddr, sync::Arc, time::Duration};

use mio::{Interest, Token};
use tofu_proto::{Address, DEFAULT_HOST, Instant, Message, OpCode, Origin, Status};

use super::{
    Attention, Reactor,
    channel::{End, Listener, ListenerSocket, OpenSocket, Peer, Socket},
};
use crate::{
    event::{Event, Reason},
    group::{Group, number_of},
    net::{self, resolve::Lookup},
};

/// How long to wait before a UDS listener with a full backlog is tried again.
const RETRY: Duration = Duration::from_millis(5);

impl Reactor {
    /// Begins to open a peer's channel.
    pub(super) fn open_peer(
        &mut self,
        group: &Arc<Group>,
        token: Token,
        peer: &mut Peer,
        identity: &mut Option<crate::Peer>,
        address: &Address,
    ) -> Result<(), Reason> {
        if let Some(path) = address.path() {
            return self.connect_uds(group, token, peer, identity, path, address);
        }
        let host = match address.host() {
            Some("") | None => DEFAULT_HOST,
            Some(host) => host,
        };
        match addresses(group, token, host, address.port()) {
            Addresses::Known(found) => self.connect_next(group, token, peer, found),
            Addresses::Asked(lookup) => {
                peer.socket = Socket::Resolving { _lookup: lookup };
                Ok(())
            }
        }
    }

    /// The addresses of a channel's host are known, or never will be.
    pub(super) fn resolved(
        &mut self,
        group: &Arc<Group>,
        token: Token,
        found: io::Result<Vec<SocketAddr>>,
    ) {
        let Some(mut channel) = group.channel_at(token) else {
            return;
        };
        let found = match found {
            Ok(found) if !found.is_empty() => Ok(VecDeque::from(found)),
            Ok(_) => Err(Reason::from(Status::NAME_NOT_RESOLVED)),
            Err(error) => Err(Reason::with_error(Status::NAME_NOT_RESOLVED, &error)),
        };
        let outcome = match &mut channel.end {
            End::Peer(peer) if matches!(peer.socket, Socket::Resolving { .. }) => {
                found.and_then(|found| self.connect_next(group, token, peer, found))
            }
            End::Listener(listener)
                if matches!(listener.socket, ListenerSocket::Resolving { .. }) =>
            {
                found.and_then(|found| {
                    let options = &group.engine.options.listener;
                    let bound = group.engine.network.bind_tcp(found[0], options);
                    self.listen(group, token, listener, bound)
                })
            }
            End::Peer(_) | End::Listener(_) => Ok(()),
        };
        if let Err(reason) = outcome {
            self.end(group, channel, reason);
        }
    }

    /// Tries the next addresses, until one is on its way or none is left.
    pub(super) fn connect_next(
        &mut self,
        group: &Group,
        token: Token,
        peer: &mut Peer,
        mut left: VecDeque<SocketAddr>,
    ) -> Result<(), Reason> {
        let mut reason = Reason::from(Status::CONNECT_FAILED);
        while let Some(address) = left.pop_front() {
            let started = group
                .engine
                .network
                .connect_tcp(address)
                .and_then(|mut stream| {
                    let both = Interest::READABLE | Interest::WRITABLE;
                    stream.register(&group.registry, token, both)?;
                    Ok(stream)
                });
            match started {
                Ok(stream) => {
                    let until = self.share_of_time(peer, left.len());
                    peer.socket = Socket::Connecting {
                        stream,
                        left,
                        until,
                    };
                    return Ok(());
                }
                Err(error) => {
                    let status = net::status_of(&error, Status::CONNECT_FAILED);
                    reason = Reason::with_error(status, &error);
                }
            }
        }
        Err(reason)
    }

    /// Each address that is left gets an equal share of the time that is left, so that one which
    /// never answers does not use up that of the others.
    fn share_of_time(&self, peer: &Peer, others: usize) -> Instant {
        let left = peer
            .connection
            .poll_timeout()
            .map_or(Duration::ZERO, |due| due.since(self.now));
        let shares = u32::try_from(others + 1).unwrap_or(u32::MAX);
        self.now + left / shares
    }

    /// Sees to a socket that may have connected, or failed to, or run out of time.
    pub(super) fn check_connecting(
        &mut self,
        group: &Group,
        token: Token,
        peer: &mut Peer,
        identity: &mut Option<crate::Peer>,
    ) -> Result<(), Reason> {
        let Socket::Connecting {
            stream,
            left,
            until,
        } = &mut peer.socket
        else {
            return Ok(());
        };
        let reason = match stream.finish_connect() {
            Ok(Some(found)) => {
                *identity = Some(found);
                self.connected(group, token, peer);
                return Ok(());
            }
            Ok(None) if self.now < *until => return Ok(()),
            Ok(None) => Status::CONNECT_TIMEOUT.into(),
            Err(error) => {
                let status = net::status_of(&error, Status::CONNECT_FAILED);
                Reason::with_error(status, &error)
            }
        };
        let left = std::mem::take(left);
        if left.is_empty() {
            return Err(reason);
        }
        // Closing the socket takes it out of the poller as well.
        self.connect_next(group, token, peer, left)
    }

    fn connected(&self, group: &Group, token: Token, peer: &mut Peer) {
        let socket = std::mem::replace(&mut peer.socket, Socket::Closed);
        if let Socket::Connecting { stream, .. } = socket {
            let mut open = OpenSocket::new(stream);
            open.register_again(&group.registry, token);
            peer.socket = Socket::Open(open);
            peer.connection.handle_connected(self.now);
        }
    }

    pub(super) fn connect_uds(
        &mut self,
        group: &Group,
        token: Token,
        peer: &mut Peer,
        identity: &mut Option<crate::Peer>,
        path: &str,
        address: &Address,
    ) -> Result<(), Reason> {
        let network = &group.engine.network;
        let connected = network.connect_uds(path).and_then(|mut stream| {
            stream.register(&group.registry, token, Interest::READABLE)?;
            let found = stream.finish_connect()?;
            Ok((stream, found))
        });
        match connected {
            Ok((stream, found)) => {
                *identity = found;
                peer.socket = Socket::Open(OpenSocket::new(stream));
                peer.connection.handle_connected(self.now);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                peer.socket = Socket::Retrying {
                    address: address.clone(),
                    at: self.now + RETRY,
                };
                Ok(())
            }
            Err(error) => {
                let status = net::status_of(&error, Status::CONNECT_FAILED);
                Err(Reason::with_error(status, &error))
            }
        }
    }

    /// Begins to listen.
    pub(super) fn open_listener(
        &mut self,
        group: &Arc<Group>,
        token: Token,
        listener: &mut Listener,
    ) -> Result<(), Reason> {
        let options = &group.engine.options.listener;
        let network = &group.engine.network;
        let address = listener.address.clone();
        let bound = match (address.path(), address.host()) {
            (Some(path), _) => network.bind_uds(path, options),
            (None, None | Some("")) => network.bind_everywhere(address.port(), options),
            (None, Some(host)) => match addresses(group, token, host, address.port()) {
                Addresses::Asked(lookup) => {
                    listener.socket = ListenerSocket::Resolving { _lookup: lookup };
                    return Ok(());
                }
                Addresses::Known(found) => network.bind_tcp(found[0], options),
            },
        };
        self.listen(group, token, listener, bound)
    }

    fn listen(
        &mut self,
        group: &Group,
        token: Token,
        listener: &mut Listener,
        bound: io::Result<net::Listener>,
    ) -> Result<(), Reason> {
        let failed = |error: &io::Error| {
            Reason::with_error(net::status_of(error, Status::LISTEN_FAILED), error)
        };
        let mut socket = bound.map_err(|error| failed(&error))?;
        socket
            .register(&group.registry, token, Interest::READABLE)
            .map_err(|error| failed(&error))?;
        let address = socket.address(&listener.address);
        let mut response = Message::new(
            OpCode::WelcomeResponse,
            number_of(token),
            listener.opened_by,
        )
        .with_header(tofu_proto::LISTEN_ON, address.to_string());
        response.set_origin(Origin::Engine);
        listener.welcome = None;
        listener.address = address.clone();
        listener.socket = ListenerSocket::Open {
            socket,
            paused_until: None,
        };
        self.inbox.push(Event::Listening { address, response });
        Ok(())
    }
}

/// The addresses of a host.
enum Addresses {
    /// Those of a literal.
    Known(VecDeque<SocketAddr>),
    /// Those of a name come later, by [`Attention::Resolved`], if they are still waited for.
    Asked(Lookup),
}

fn addresses(group: &Arc<Group>, token: Token, host: &str, port: u16) -> Addresses {
    if let Ok(ip) = host.parse() {
        return Addresses::Known(VecDeque::from([SocketAddr::new(ip, port)]));
    }
    let weak = Arc::downgrade(group);
    let answer = move |found| {
        if let Some(group) = weak.upgrade() {
            group.attend(Attention::Resolved(token, found));
        }
    };
    let engine = &group.engine;
    let lookup = engine
        .network
        .resolve(&engine.resolver, host, port, Box::new(answer));
    Addresses::Asked(lookup)
}
