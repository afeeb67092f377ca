//! Accepting connections, within bounds.

use std::{
    io,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use mio::{Interest, event::Source};
use tofu_proto::{Connection, Status};

use super::{
    Reactor,
    channel::{Channel, End, ListenerSocket, OpenSocket, Peer, Socket},
};
use crate::{
    budget::Charge,
    event::Reason,
    group::Group,
    metrics::Counter,
    net::{self, Stream},
};

/// Connections accepted from one listener in one turn.
const ACCEPTS_MAX: usize = 64;
/// How long a listener pauses when the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

impl Reactor {
    /// Accepts what waits, up to a bound.
    pub(super) fn accept(&mut self, group: &Arc<Group>, channel: &Channel) {
        for _ in 0..ACCEPTS_MAX {
            let Some(mut listener) = channel.listener() else {
                return;
            };
            let ListenerSocket::Open {
                socket,
                paused_until,
            } = &mut listener.socket
            else {
                return;
            };
            match socket.accept() {
                Ok(stream) => {
                    drop(listener);
                    self.welcome(group, stream);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if net::is_out_of_descriptors(&error) => {
                    let until = self.now + PAUSE;
                    *paused_until = Some(until);
                    self.timers.note(channel.token, &mut listener.noted, until);
                    group.engine.counters.count(Counter::OutOfDescriptors);
                    warn_out_of_descriptors(channel, &error);
                    return;
                }
                // That connection is gone; the next one may be fine.
                Err(_) => {}
            }
        }
        self.come_back(channel.token);
    }

    /// A new listener is opened; one that paused goes on; one that was closed is gone.
    pub(super) fn look_at_listener(&mut self, group: &Arc<Group>, channel: &Channel) {
        let Some(mut listener) = channel.listener() else {
            return;
        };
        match &mut listener.socket {
            ListenerSocket::Unopened => {
                let opened = self.open_listener(group, channel, &mut listener);
                drop(listener);
                if let Err(reason) = opened {
                    self.end(group, channel, reason);
                }
            }
            ListenerSocket::Resolving => {}
            ListenerSocket::Open { paused_until, .. } => match *paused_until {
                Some(until) if until > self.now => {
                    self.timers.note(channel.token, &mut listener.noted, until);
                }
                Some(_) => {
                    *paused_until = None;
                    drop(listener);
                    self.accept(group, channel);
                }
                None => {}
            },
            ListenerSocket::Closed => {
                drop(listener);
                self.end(group, channel, Status::CHANNEL_CLOSED.into());
            }
        }
    }

    /// Gives an accepted connection its channel, if there is room for one.
    fn welcome(&mut self, group: &Group, mut stream: Stream) {
        let engine = &group.engine;
        engine.counters.count(Counter::Accepted);
        if engine.half_open.fetch_add(1, Ordering::AcqRel) >= engine.options.half_open_max {
            engine.half_open.fetch_sub(1, Ordering::AcqRel);
            return engine.counters.count(Counter::RefusedHalfOpen);
        }
        let Some(number) = engine.numbers.allocate(group.id) else {
            engine.half_open.fetch_sub(1, Ordering::AcqRel);
            return engine.counters.count(Counter::RefusedChannels);
        };
        let token = group.new_token(number);
        let registered = stream.register(&group.registry, token, Interest::READABLE);
        let timeouts = Arc::clone(&engine.timeouts);
        let connection = Connection::server(number, timeouts, self.now);
        let charge = Charge::new(Arc::clone(&engine.budget));
        let mut peer = Peer::new(connection, Socket::Open(OpenSocket::new(stream)), charge);
        if let Some(due) = peer.connection.poll_timeout() {
            self.timers.note(token, &mut peer.noted, due);
        }
        let channel = Arc::new(Channel {
            number,
            token,
            end: End::Peer(Mutex::new(peer)),
        });
        group.add(&channel);
        if let Err(error) = registered {
            self.end(
                group,
                &channel,
                Reason::with_error(Status::ACCEPT_FAILED, &error),
            );
        }
    }
}

#[cfg(feature = "tracing")]
fn warn_out_of_descriptors(channel: &Channel, error: &io::Error) {
    tracing::warn!(channel = channel.number.get(), %error, "listener pauses: too many open files");
}

#[cfg(not(feature = "tracing"))]
fn warn_out_of_descriptors(_: &Channel, _: &io::Error) {}
