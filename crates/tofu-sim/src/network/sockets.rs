//! What an engine does with sockets.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    net::SocketAddr,
    time::Duration,
};

use tofu::{
    Status,
    simulation::{Descriptor, Endpoint},
};

use super::{Listener, Node, Phase, State, Stream, would_block};

/// An error that says that there are no descriptors left.
const EMFILE: i32 = 24;

impl State {
    pub(super) fn connect(&mut self, host: usize, to: &Endpoint) -> io::Result<Descriptor> {
        if self.dead[host] {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let descriptors = self.faults.descriptors;
        if self.random.percent(descriptors) {
            self.deny(host, Status::TOO_MANY_OPEN_FILES);
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        if matches!(to, Endpoint::Uds(_)) {
            let Some(listener) = self.listener_at(to) else {
                self.deny(host, Status::CONNECT_REFUSED);
                return Err(io::ErrorKind::ConnectionRefused.into());
            };
            if let Node::Listener(listening) = &self.nodes[listener.0]
                && listening.backlog.len() >= listening.backlog_max
            {
                return would_block();
            }
            let stream = Stream::new(host, to.clone(), Phase::Open);
            let client = self.add(Node::Stream(Box::new(stream)));
            self.join(client, listener);
            return Ok(client);
        }
        let to = match to {
            Endpoint::Tcp(address) if address.ip().is_loopback() => {
                Endpoint::Tcp(SocketAddr::new(self.ip(host), address.port()))
            }
            other => other.clone(),
        };
        let lost = self.faults.lost_connects;
        let at = if self.random.percent(lost) {
            Duration::MAX
        } else {
            self.now + self.delay()
        };
        let phase = Phase::Connecting { at };
        Ok(self.add(Node::Stream(Box::new(Stream::new(host, to, phase)))))
    }

    pub(super) fn listen(
        &mut self,
        host: usize,
        at: &Endpoint,
        backlog_max: usize,
    ) -> io::Result<(Descriptor, Endpoint)> {
        if self.dead[host] {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let endpoint = match at {
            Endpoint::Tcp(address) => {
                let port = match address.port() {
                    0 => {
                        self.next_port += 1;
                        self.next_port
                    }
                    port => port,
                };
                Endpoint::Tcp(SocketAddr::new(self.ip(host), port))
            }
            path @ Endpoint::Uds(_) => path.clone(),
        };
        if self.listeners.contains_key(&endpoint) {
            self.deny(host, Status::ADDRESS_IN_USE);
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let listener = self.add(Node::Listener(Listener {
            host,
            endpoint: endpoint.clone(),
            backlog: VecDeque::new(),
            backlog_max,
            poller: None,
            answers: 0,
        }));
        self.listeners.insert(endpoint.clone(), listener);
        Ok((listener, endpoint))
    }

    pub(super) fn accept(&mut self, listener: Descriptor) -> io::Result<Descriptor> {
        let descriptors = self.faults.descriptors;
        let is_out = self.random.percent(descriptors);
        let Node::Listener(listening) = &mut self.nodes[listener.0] else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if listening.backlog.is_empty() {
            return would_block();
        }
        listening.answers += 1;
        if is_out {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        match listening.backlog.pop_front() {
            Some(stream) => Ok(stream),
            None => would_block(),
        }
    }

    pub(super) fn read(&mut self, descriptor: Descriptor, buffer: &mut [u8]) -> io::Result<usize> {
        let (now, next) = (self.now, self.now + self.delay());
        let Some(stream) = self.stream(descriptor) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let count = stream.arrived.len().min(buffer.len());
        if count == 0 {
            return match stream.phase {
                Phase::Reset => Err(io::ErrorKind::ConnectionReset.into()),
                Phase::Failed(kind) => Err(kind.into()),
                _ if stream.peer_ended => Ok(0),
                _ => would_block(),
            };
        }
        for (slot, byte) in buffer.iter_mut().zip(stream.arrived.drain(..count)) {
            *slot = byte;
        }
        stream.tally.read += count;
        stream.tally.moved = now;
        stream.tally.read_at = now;
        let peer = stream.peer;
        self.carried.read += count;
        if let Some(peer) = peer
            && let Some(writer) = self.stream(peer)
        {
            // There is room again.
            if writer.is_uds() {
                if writer.wants_room {
                    writer.wants_room = false;
                    self.is_ready(peer);
                }
            } else if writer.has_to_carry() && writer.carries_at.is_none() {
                writer.carries_at = Some(next);
            }
        }
        Ok(count)
    }

    pub(super) fn write(
        &mut self,
        descriptor: Descriptor,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        let (now, next) = (self.now, self.now + self.delay());
        let buffer_max = self.faults.buffer_max;
        let Some(stream) = self.stream(descriptor) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        match stream.phase {
            Phase::Open if stream.is_shut => return Err(io::ErrorKind::BrokenPipe.into()),
            Phase::Open => {}
            Phase::Connecting { .. } => return would_block(),
            Phase::Reset | Phase::Failed(_) => {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
        if stream.is_uds() {
            return self.write_uds(descriptor, slices);
        }
        let mut room = buffer_max.saturating_sub(stream.leaving.len());
        if room == 0 {
            stream.wants_room = true;
            stream.tally.was_full = true;
            return would_block();
        }
        let mut count = 0;
        for slice in slices {
            let some = slice.len().min(room);
            stream.leaving.extend(&slice[..some]);
            room -= some;
            count += some;
        }
        stream.tally.written += count;
        stream.tally.moved = now;
        stream.tally.was_full = room == 0;
        let at = next.max(stream.stalled_until);
        stream.carries_at.get_or_insert(at);
        self.carried.written += count;
        Ok(count)
    }

    /// What is written to a Unix domain socket is where the peer reads it, at once. Now and then less of it fits than
    /// the buffer would hold, and each time that costs a wait until the peer has read: were it always so, small grains
    /// would bring all to a standstill.
    pub(super) fn write_uds(
        &mut self,
        from: Descriptor,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        let (now, buffer_max) = (self.now, self.faults.buffer_max);
        let grain_max = self.faults.grain_max;
        let portion = if self.random.percent(20) {
            self.random.between(1, grain_max)
        } else {
            usize::MAX
        };
        let waits = self.stream(from).is_some_and(|it| it.wants_room);
        let peer = self.stream(from).and_then(|stream| stream.peer);
        let Some((peer, target)) = peer.and_then(|peer| Some((peer, self.stream(peer)?))) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        if target.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = buffer_max.saturating_sub(target.arrived.len());
        // Once it was full, there is room when the peer has read some.
        let mut room = if waits { 0 } else { room.min(portion) };
        let mut count = 0;
        for slice in slices {
            let some = slice.len().min(room);
            target.arrived.extend(&slice[..some]);
            room -= some;
            count += some;
        }
        if count > 0 {
            self.is_ready(peer);
        }
        let Some(stream) = self.stream(from) else {
            return would_block();
        };
        stream.tally.was_full = room == 0;
        stream.wants_room |= room == 0;
        if count == 0 {
            return would_block();
        }
        stream.tally.written += count;
        stream.tally.moved = now;
        self.carried.written += count;
        Ok(count)
    }

    pub(super) fn shutdown_write(&mut self, descriptor: Descriptor) {
        let next = self.now + self.delay();
        let Some(stream) = self.stream(descriptor) else {
            return;
        };
        if stream.is_shut || stream.phase != Phase::Open {
            return;
        }
        stream.is_shut = true;
        if stream.is_uds() {
            stream.end_arrived = true;
            let peer = stream.peer;
            self.end_at(peer);
        } else {
            let at = next.max(stream.stalled_until);
            stream.carries_at.get_or_insert(at);
        }
    }

    pub(super) fn end_at(&mut self, peer: Option<Descriptor>) {
        if let Some(peer) = peer
            && let Some(stream) = self.stream(peer)
        {
            stream.peer_ended = true;
            self.is_ready(peer);
        }
    }

    pub(super) fn close(&mut self, what: Descriptor) {
        match &mut self.nodes[what.0] {
            Node::Stream(stream) if !stream.is_closed => {
                if let Some(poller) = stream.poller.take() {
                    self.deregister(poller, what);
                }
                self.close_stream(what);
            }
            Node::Listener(listener) => {
                let backlog = std::mem::take(&mut listener.backlog);
                let (endpoint, poller) = (listener.endpoint.clone(), listener.poller);
                self.listeners.remove(&endpoint);
                if let Some(poller) = poller {
                    self.deregister(poller, what);
                }
                self.nodes[what.0] = Node::Closed;
                for waiting in backlog {
                    self.disturb(waiting);
                    self.close_stream(waiting);
                }
            }
            Node::Poller(poller) => {
                if let Some(outer) = poller.outer {
                    self.deregister(outer, what);
                }
                self.nodes[what.0] = Node::Closed;
            }
            Node::Stream(_) | Node::Closed => {}
        }
    }

    pub(super) fn close_stream(&mut self, what: Descriptor) {
        let some = self.random.pick(&[0, 1, 100, usize::MAX]);
        let next = self.now + self.delay();
        let Some(stream) = self.stream(what) else {
            return;
        };
        stream.is_closed = true;
        stream.tally.unread = stream.arrived.len();
        stream.arrived.clear();
        stream.reset_at = None;
        let goes_on = stream.lingers && stream.tally.unread == 0 && stream.phase == Phase::Open;
        let (is_uds, has_unread, peer) = (stream.is_uds(), stream.tally.unread > 0, stream.peer);
        if goes_on && !is_uds {
            stream.is_shut = true;
            let at = next.max(stream.stalled_until);
            stream.carries_at.get_or_insert(at);
            return;
        }
        let mut last = std::mem::take(&mut stream.leaving);
        stream.carries_at = None;
        let was_open = stream.phase == Phase::Open;
        let Some(peer) = peer.filter(|_| was_open) else {
            return;
        };
        if is_uds {
            if has_unread {
                self.send_reset(peer);
            } else {
                self.end_at(Some(peer));
            }
            return;
        }
        // Some of what was under way arrives before the reset.
        let room = self.faults.buffer_max;
        if let Some(target) = self.stream(peer)
            && !target.is_closed
            && target.phase == Phase::Open
        {
            let room = room.saturating_sub(target.arrived.len());
            let count = last.len().min(some).min(room);
            target.arrived.extend(last.drain(..count));
            self.is_ready(peer);
        }
        self.send_reset(peer);
    }
}
