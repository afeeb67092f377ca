//! What happens by itself: connections come about, bytes travel, streams break.

use std::{io, time::Duration};

use tofu::simulation::{Descriptor, Endpoint};

use super::{Node, Phase, State, Stream};
use crate::Faults;

/// When a connection is tried again that found the backlog full.
const SYN_AGAIN: Duration = Duration::from_secs(1);

impl State {
    pub(super) fn stream(&mut self, descriptor: Descriptor) -> Option<&mut Stream> {
        match self.nodes.get_mut(descriptor.0) {
            Some(Node::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    pub(super) fn add(&mut self, node: Node) -> Descriptor {
        let descriptor = Descriptor(self.nodes.len());
        if matches!(node, Node::Stream(_)) {
            self.live.push(descriptor);
        }
        self.nodes.push(node);
        descriptor
    }

    pub(super) fn delay(&mut self) -> Duration {
        let max = self.faults.delay_max;
        self.random.duration(max)
    }

    /// Lets the next thing happen that is due.
    pub(crate) fn go_on(&mut self) {
        let now = self.now;
        let due: Vec<_> = self
            .live
            .iter()
            .copied()
            .filter(|&at| self.due_of(at).is_some_and(|due| due <= now))
            .collect();
        if due.is_empty() {
            return;
        }
        let descriptor = self.random.pick(&due);
        let Some(stream) = self.stream(descriptor) else {
            return;
        };
        if stream.reset_at.is_some_and(|at| at <= now) {
            stream.reset_at = None;
            self.reset(descriptor);
        } else if matches!(stream.phase, Phase::Connecting { .. }) {
            self.connect_now(descriptor);
        } else {
            stream.carries_at = None;
            self.carry(descriptor);
        }
        if self.nodes.len().is_multiple_of(16) {
            self.forget_the_dead();
        }
    }

    pub(super) fn forget_the_dead(&mut self) {
        let mut live = std::mem::take(&mut self.live);
        live.retain(|&at| match &self.nodes[at.0] {
            Node::Stream(stream) => !stream.is_closed || self.due_of(at).is_some(),
            _ => false,
        });
        self.live = live;
    }

    pub(super) fn connect_now(&mut self, descriptor: Descriptor) {
        let (now, refusals) = (self.now, self.faults.refusals);
        let refused = self.random.percent(refusals);
        let Some(stream) = self.stream(descriptor) else {
            return;
        };
        let (to, host) = (stream.to.clone(), stream.host);
        let listener = self.listener_at(&to).filter(|_| !refused);
        let Some(listener) = listener else {
            if let Some(stream) = self.stream(descriptor) {
                stream.phase = Phase::Failed(io::ErrorKind::ConnectionRefused);
                stream.tally.is_disturbed = true;
            }
            self.note(|| format!("host {host} is refused at {to:?}"));
            return self.is_ready(descriptor);
        };
        let Node::Listener(listening) = &self.nodes[listener.0] else {
            return;
        };
        if listening.backlog.len() >= listening.backlog_max {
            if let Some(stream) = self.stream(descriptor) {
                stream.phase = Phase::Connecting {
                    at: now + SYN_AGAIN,
                };
            }
            return;
        }
        self.join(descriptor, listener);
        self.is_ready(descriptor);
    }

    /// Connects a client's stream to one that waits to be accepted.
    pub(super) fn join(&mut self, client: Descriptor, listener: Descriptor) {
        let Node::Listener(listening) = &self.nodes[listener.0] else {
            return;
        };
        let (server_host, to) = (listening.host, listening.endpoint.clone());
        let mut accepted = Stream::new(server_host, to, Phase::Open);
        accepted.peer = Some(client);
        let accepted = self.add(Node::Stream(Box::new(accepted)));
        if let Some(stream) = self.stream(client) {
            stream.phase = Phase::Open;
            stream.peer = Some(accepted);
            let host = stream.host;
            self.note(|| format!("host {host} connects to host {server_host}"));
        }
        if let Node::Listener(listening) = &mut self.nodes[listener.0] {
            listening.backlog.push_back(accepted);
        }
        self.is_ready(listener);
    }

    pub(super) fn listener_at(&self, to: &Endpoint) -> Option<Descriptor> {
        self.listeners.get(to).copied()
    }

    /// Some bytes of `from`, or the end of its stream, travel to the peer.
    pub(super) fn carry(&mut self, from: Descriptor) {
        let now = self.now;
        if self.is_disturbed_now(from) {
            return;
        }
        let (grain, buffer) = (self.faults.grain_max, self.faults.buffer_max);
        let portion = self.random.between(1, grain);
        let next = now + self.delay();
        let Some(stream) = self.stream(from) else {
            return;
        };
        let Some(peer) = stream.peer else {
            return;
        };
        let mut leaving = std::mem::take(&mut stream.leaving);
        let ends = leaving.is_empty() && stream.is_shut;
        let Some(target) = self.stream(peer) else {
            return;
        };
        let mut carried = 0;
        if target.is_closed {
            // Nobody is there any more to take it.
            let is_lost = !leaving.is_empty();
            leaving.clear();
            if is_lost {
                self.send_reset(from);
            }
        } else if matches!(target.phase, Phase::Open) {
            let room = buffer.saturating_sub(target.arrived.len());
            carried = leaving.len().min(portion).min(room);
            target.arrived.extend(leaving.drain(..carried));
            target.peer_ended |= ends;
            if carried > 0 || ends {
                self.is_ready(peer);
            }
        }
        let Some(stream) = self.stream(from) else {
            return;
        };
        stream.leaving = leaving;
        stream.end_arrived |= ends;
        let goes_on = stream.has_to_carry() && (carried > 0 || stream.leaving.is_empty());
        stream.carries_at = goes_on.then_some(next);
        let has_room = stream.leaving.len() <= buffer * 2 / 3;
        if stream.wants_room && has_room {
            stream.wants_room = false;
            self.is_ready(from);
        }
    }

    /// Whether a fault keeps bytes from travelling.
    pub(super) fn is_disturbed_now(&mut self, from: Descriptor) -> bool {
        let now = self.now;
        let faults = self.faults.clone();
        let stalls = self.random.below(1_000) < faults.stalls;
        let resets = self.random.below(10_000) < faults.resets;
        let ends = self.random.below(10_000) < faults.half_closes;
        let stall = self.random.duration(faults.stall_max);
        let Some(stream) = self.stream(from) else {
            return true;
        };
        if stream.is_uds() {
            return false;
        }
        if stalls {
            stream.stalled_until = now + stall;
            let host = stream.host;
            self.note(|| format!("a stream of host {host} stands still for {stall:?}"));
        } else if resets {
            self.cut(from);
        } else if ends && !stream.is_shut {
            stream.is_shut = true;
            let host = stream.host;
            self.disturb(from);
            self.note(|| format!("host {host}'s direction of a stream ends too early"));
        }
        let Some(stream) = self.stream(from) else {
            return true;
        };
        if stream.stalled_until > now {
            stream.carries_at = Some(stream.stalled_until);
            return true;
        }
        false
    }

    pub(super) fn disturb(&mut self, descriptor: Descriptor) {
        let peer = self.stream(descriptor).and_then(|stream| {
            stream.tally.is_disturbed = true;
            stream.peer
        });
        if let Some(stream) = peer.and_then(|peer| self.stream(peer)) {
            stream.tally.is_disturbed = true;
        }
    }

    /// Something in the middle resets a stream.
    pub(super) fn cut(&mut self, descriptor: Descriptor) {
        self.disturb(descriptor);
        let peer = self.stream(descriptor).and_then(|stream| stream.peer);
        self.note(|| "a stream is reset in the middle".to_owned());
        self.send_reset(descriptor);
        if let Some(peer) = peer {
            self.send_reset(peer);
        }
    }

    pub(super) fn send_reset(&mut self, to: Descriptor) {
        let at = self.now + self.delay();
        if let Some(stream) = self.stream(to)
            && !stream.is_closed
            && stream.phase == Phase::Open
        {
            stream.reset_at = Some(at.max(stream.stalled_until));
        }
    }

    pub(super) fn reset(&mut self, descriptor: Descriptor) {
        let keeps = self.faults.reset_keeps_unread;
        let Some(stream) = self.stream(descriptor) else {
            return;
        };
        if stream.is_closed || stream.phase != Phase::Open {
            return;
        }
        stream.phase = Phase::Reset;
        stream.leaving.clear();
        stream.carries_at = None;
        if !keeps && !stream.is_uds() {
            stream.arrived.clear();
        }
        let host = stream.host;
        self.note(|| format!("a reset reaches host {host}"));
        self.is_ready(descriptor);
    }

    /// Kills a process: the system closes what it had.
    pub(crate) fn kill(&mut self, host: usize) {
        for index in 0..self.nodes.len() {
            let descriptor = Descriptor(index);
            let is_theirs = match &mut self.nodes[index] {
                Node::Stream(stream) => stream.host == host && !stream.is_closed,
                Node::Listener(listener) => listener.host == host,
                Node::Poller(_) | Node::Closed => false,
            };
            if is_theirs {
                self.disturb(descriptor);
                self.close(descriptor);
            }
        }
        self.dead[host] = true;
    }

    /// From now on nothing goes wrong any more.
    pub(crate) fn calm_down(&mut self) {
        let now = self.now;
        let calm = Faults::none();
        self.faults = Faults {
            grain_max: self.faults.grain_max.max(1_460),
            buffer_max: self.faults.buffer_max,
            reset_keeps_unread: self.faults.reset_keeps_unread,
            ..calm
        };
        for node in &mut self.nodes {
            if let Node::Stream(stream) = node {
                stream.stalled_until = stream.stalled_until.min(now);
                stream.carries_at = stream.carries_at.map(|at| at.min(now));
                stream.reset_at = stream.reset_at.map(|at| at.min(now));
            }
        }
    }
}
