//! Accepting connections, within bounds.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use mio::{Interest, Token};
use tofu_proto::{Connection, Status};

use super::{
    Reactor,
    channel::{End, Listener, ListenerSocket, OpenSocket, Pace, Peer, Socket},
};
use crate::{
    budget::Charge,
    event::Reason,
    group::{Group, number_of},
    metrics::Counter,
    net::{self, Stream},
    options::Stranger,
    warnings,
};

/// Connections accepted from one listener in one turn: few, for each costs as much as many messages, and who is
/// connected already waits for its answer.
const ACCEPTS_MAX: usize = 4;
/// How long a listener pauses when the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

impl Reactor {
    /// Accepts what waits, up to a bound.
    pub(super) fn accept(&mut self, group: &Arc<Group>, token: Token, listener: &mut Listener) {
        let ListenerSocket::Open {
            socket,
            paused_until,
        } = &mut listener.socket
        else {
            return;
        };
        for _ in 0..ACCEPTS_MAX {
            match socket.accept() {
                Ok((stream, identity)) => self.welcome(group, stream, identity),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if net::is_out_of_descriptors(&error) => {
                    let until = self.now + PAUSE;
                    *paused_until = Some(until);
                    self.timers.note(token, &mut listener.noted, until);
                    group.engine.counters.count(Counter::OutOfDescriptors);
                    warnings::out_of_descriptors(number_of(token), &error);
                    return;
                }
                // That connection is gone; the next one may be fine.
                Err(_) => {}
            }
        }
        self.come_back(token, Pace::Streaming);
    }

    /// A new listener is opened; one that paused goes on; one that was closed is gone. An error is the
    /// reason to end it.
    pub(super) fn look_at_listener(
        &mut self,
        group: &Arc<Group>,
        token: Token,
        listener: &mut Listener,
    ) -> Result<(), Reason> {
        match &mut listener.socket {
            ListenerSocket::Unopened => self.open_listener(group, token, listener),
            ListenerSocket::Resolving { .. } => Ok(()),
            ListenerSocket::Open { paused_until, .. } => {
                match *paused_until {
                    Some(until) if until > self.now => {
                        self.timers.note(token, &mut listener.noted, until);
                    }
                    Some(_) => {
                        *paused_until = None;
                        self.accept(group, token, listener);
                    }
                    None => {}
                }
                Ok(())
            }
            ListenerSocket::Closed => Err(Status::CHANNEL_CLOSED.into()),
        }
    }

    /// Gives an accepted connection its channel, if it may come in and there is room for one.
    fn welcome(&mut self, group: &Group, mut stream: Stream, identity: crate::Peer) {
        let engine = &group.engine;
        engine.counters.count(Counter::Accepted);
        if let Err(stranger) = engine.options.listener.check_access(identity) {
            // Before anything is kept for it: strangers take no place of those who may come in.
            return engine.counters.count(match stranger {
                Stranger::Network => Counter::RefusedNetworks,
                Stranger::User => Counter::RefusedUsers,
            });
        }
        if engine.half_open.fetch_add(1, Ordering::AcqRel) >= engine.options.half_open_max {
            engine.half_open.fetch_sub(1, Ordering::AcqRel);
            return engine.counters.count(Counter::RefusedHalfOpen);
        }
        let Some(number) = engine.channels.allocate() else {
            engine.half_open.fetch_sub(1, Ordering::AcqRel);
            return engine.counters.count(Counter::RefusedChannels);
        };
        let token = group.new_token(number);
        if stream
            .register(&group.registry, token, Interest::READABLE)
            .is_err()
        {
            // Out of memory for it; the application never hears of it.
            engine.half_open.fetch_sub(1, Ordering::AcqRel);
            return engine.channels.release(number);
        }
        let timeouts = Arc::clone(&engine.timeouts);
        let connection = Connection::server(number, timeouts, self.now);
        let charge = Charge::new(Arc::clone(&engine.budget));
        let mut peer = Peer::new(connection, Socket::Open(OpenSocket::new(stream)), charge);
        if let Some(due) = peer.connection.poll_timeout() {
            self.timers.note(token, &mut peer.noted, due);
        }
        group.add(token, End::Peer(Box::new(peer)), identity);
    }
}
