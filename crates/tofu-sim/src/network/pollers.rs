//! Pollers: edge-triggered, as epoll's, and one may wait for another.

use tofu::simulation::{Descriptor, Ready, channel_of};

use super::{Node, State};

impl State {
    /// Something changed: whoever waits for it is told.
    pub(super) fn is_ready(&mut self, descriptor: Descriptor) {
        let poller = match &self.nodes[descriptor.0] {
            Node::Stream(stream) => stream.poller,
            Node::Listener(listener) => listener.poller,
            Node::Poller(poller) => poller.outer,
            Node::Closed => None,
        };
        if let Some(poller) = poller {
            self.tell(poller, Some(descriptor));
        }
    }

    pub(super) fn tell(&mut self, at: Descriptor, what: Option<Descriptor>) {
        let now = self.now;
        let Node::Poller(poller) = &mut self.nodes[at.0] else {
            return;
        };
        if let Some(what) = what
            && !poller.ready.contains(&what)
        {
            poller.ready.push(what);
        }
        poller.ready_since.get_or_insert(now);
        if let Some(outer) = poller.outer {
            self.tell(outer, Some(at));
        }
    }

    pub(super) fn readiness(&self, what: Descriptor, on_writable: bool) -> Option<Ready> {
        let (readable, writable, ends) = match &self.nodes[what.0] {
            Node::Stream(stream) => (
                stream.is_readable(),
                stream.is_writable(self.faults.buffer_max)
                    && (stream.peer_ended || !self.is_blocked_uds(stream)),
                stream.is_over(),
            ),
            Node::Listener(listener) => (!listener.backlog.is_empty(), false, false),
            Node::Poller(poller) => {
                let is_ready = !poller.woken.is_empty()
                    || poller.ready.iter().any(|what| {
                        poller
                            .registered
                            .get(what)
                            .is_some_and(|&(_, on)| self.readiness(*what, on).is_some())
                    });
                (is_ready, false, false)
            }
            Node::Closed => return None,
        };
        let writable = writable && (on_writable || ends);
        (readable || writable).then_some(Ready {
            token: 0,
            readable,
            writable,
            ends,
        })
    }

    pub(super) fn poll(&mut self, at: Descriptor) -> Vec<Ready> {
        let Node::Poller(poller) = &mut self.nodes[at.0] else {
            return Vec::new();
        };
        let mut ready = std::mem::take(&mut poller.ready);
        let woken = std::mem::take(&mut poller.woken);
        poller.ready_since = None;
        let spurious = self.faults.spurious;
        if spurious > 0 && self.random.percent(spurious) {
            self.make_up(at, &mut ready);
        }
        let mut told = Vec::new();
        for what in ready {
            let Node::Poller(poller) = &self.nodes[at.0] else {
                break;
            };
            if let Some(&(token, on_writable)) = poller.registered.get(&what)
                && let Some(ready) = self.readiness(what, on_writable)
            {
                told.push(Ready { token, ..ready });
            }
        }
        told.extend(woken.into_iter().map(|token| Ready {
            token,
            readable: true,
            writable: false,
            ends: false,
        }));
        // In any order.
        for last in (1..told.len()).rev() {
            let other = self.random.below(last + 1);
            told.swap(last, other);
        }
        told
    }

    /// Something that is not ready, or was told already.
    pub(super) fn make_up(&mut self, at: Descriptor, ready: &mut Vec<Descriptor>) {
        if let Node::Poller(poller) = &self.nodes[at.0] {
            let heard = poller.registered.keys();
            let heard = heard.filter(|what| !poller.muted.contains(what));
            let all: Vec<_> = heard.copied().collect();
            if !all.is_empty() {
                let one = self.random.pick(&all);
                if !ready.contains(&one) {
                    ready.push(one);
                }
            }
        }
    }

    pub(super) fn register(
        &mut self,
        at: Descriptor,
        what: Descriptor,
        token: usize,
        on_writable: bool,
    ) {
        if let Node::Poller(poller) = &mut self.nodes[at.0] {
            let before = poller.registered.insert(what, (token, on_writable));
            let was_muted = poller.muted.remove(&what);
            if before.is_some() && !was_muted {
                // As a socket may be, but to nest a poller twice is an error.
                let is_poller = matches!(self.nodes[what.0], Node::Poller(_));
                assert!(!is_poller, "a poller is nested that was heard already");
            }
        }
        match &mut self.nodes[what.0] {
            Node::Stream(stream) => {
                stream.poller = Some(at);
                let end = (stream.host, channel_of(token));
                stream.end = Some(end);
                self.channels.insert(end, what);
            }
            Node::Listener(listener) => {
                listener.poller = Some(at);
                let end = (listener.host, channel_of(token));
                self.channels.insert(end, what);
            }
            Node::Poller(poller) => poller.outer = Some(at),
            Node::Closed => {}
        }
        if self.readiness(what, on_writable).is_some() {
            self.tell(at, Some(what));
        }
    }

    pub(super) fn mute(&mut self, at: Descriptor, what: Descriptor) {
        if let Node::Poller(poller) = &mut self.nodes[at.0] {
            let is_new = poller.registered.contains_key(&what) && poller.muted.insert(what);
            assert!(is_new, "a poller is muted that was not heard");
            poller.ready.retain(|ready| *ready != what);
        }
        if let Node::Poller(poller) = &mut self.nodes[what.0] {
            poller.outer = None;
        }
    }

    pub(super) fn deregister(&mut self, at: Descriptor, what: Descriptor) {
        if let Node::Poller(poller) = &mut self.nodes[at.0] {
            poller.registered.remove(&what);
            poller.muted.remove(&what);
            poller.ready.retain(|ready| *ready != what);
        }
        match &mut self.nodes[what.0] {
            Node::Stream(stream) => stream.poller = None,
            Node::Listener(listener) => listener.poller = None,
            Node::Poller(poller) => poller.outer = None,
            Node::Closed => {}
        }
    }
}
