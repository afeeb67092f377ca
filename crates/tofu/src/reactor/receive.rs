//! Reading and delivering: from a socket that is ready to events in the inbox.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use mio::Token;
use tofu_proto::{Connection, Instant, Message, OpCode, Received, Status};

use super::{
    Reactor,
    channel::{End, Pace, Peer, Socket, Writing},
    close::Mode,
};
use crate::{
    channels::ChannelGuard,
    event::{Event, Reason},
    group::Group,
    metrics::Counter,
    net::{Ready, Stream},
    pool,
};

/// Reads from one socket in one turn.
const READS_MAX: usize = 4;

/// Bytes of those that stream after which none of them is read on in a turn: an application that has much to do for
/// each large message is not given many of them before those who ask now and then have their turn again.
const TURN_BYTES_MAX: u64 = 128 * 1024;

/// Bytes that are read along with the rest of a large frame: as much of the next one as has it read straight to
/// where it stays, too, if it has a full body and some 16,000 bytes of text headers.
const HEAD_LEN: usize = 20 * 1024;

/// Bytes read at once up to which the peer is likely to wait for an answer. One that streams does not: others
/// go first, and reading its socket again and again would only get into its way.
const HOT_BYTES_MAX: u64 = 8 * 1024;
/// Messages that are taken from the pool at once while many come, one for so many bytes.
const BURST_MAX: usize = 32;
const BURST_FRAME_LEN: usize = 256;

/// Bytes of messages that a leaving group takes in for its report.
const UNREAD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where reading a channel has come to.
#[derive(Clone, Copy)]
enum Read {
    /// The socket has nothing more for now.
    Dry,
    /// It may have more, but others want their turn.
    Unfinished,
    /// There is no message to put the next one into.
    Starved,
    /// The channel is over.
    Over(Reason),
}

/// What one read brought.
struct Brought {
    bytes: usize,
    /// Those that are to be delivered. The others have landed where they stay.
    in_scratch: usize,
    /// Whether there was room for more.
    is_short: bool,
}

/// Reads into `scratch`, but the rest of a large frame straight to where it stays.
fn read_once(
    stream: &mut Stream,
    connection: &mut Connection,
    scratch: &mut [u8],
    now: Instant,
) -> io::Result<Brought> {
    let mut room = scratch.len();
    let mut in_scratch = 0;
    let landed = connection.land(now, |place| {
        room = place.len() + HEAD_LEN;
        let bytes = stream.read_into(place, &mut scratch[..HEAD_LEN])?;
        in_scratch = bytes.saturating_sub(place.len());
        io::Result::Ok(bytes - in_scratch)
    });
    let landed = if let Some(landed) = landed {
        landed?
    } else {
        in_scratch = stream.read(scratch)?;
        0
    };
    let bytes = landed + in_scratch;
    Ok(Brought {
        bytes,
        in_scratch,
        is_short: bytes < room,
    })
}

impl Reactor {
    /// Sees to a peer whose socket is ready and connected. An error is the reason to end the channel, as below.
    pub(super) fn peer_ready(
        &mut self,
        group: &Arc<Group>,
        token: Token,
        peer: &mut Peer,
        ready: Ready,
    ) -> Result<(), Reason> {
        if ready.writable {
            peer.handle_writable(&group.registry, token, self.now);
        }
        if !(ready.readable || ready.ends || peer.is_broken()) {
            return Ok(());
        }
        let waits = peer.pace == Pace::Streaming && self.streams_wait_since.is_some();
        if waits && !peer.connection.is_held() {
            self.come_back(token, peer.pace);
            return Ok(());
        }
        self.read(group, token, peer, ready.ends)
    }

    /// Reads the channel from which the next message is likely to come, without asking the poller whether
    /// there is anything to read.
    pub(super) fn read_hot(&mut self, group: &Arc<Group>) {
        let Some(token) = self.last_read.filter(|_| self.is_hot) else {
            return;
        };
        let Some(mut channel) = group.channel_at(token) else {
            self.is_hot = false;
            return;
        };
        let End::Peer(peer) = &mut channel.end else {
            return;
        };
        let bytes_before = self.bytes_read;
        let over = self.read(group, token, peer, false);
        if over.is_err() || self.bytes_read > bytes_before {
            self.after(group, channel, over);
        }
    }

    /// Sees to a peer on which something changed but its socket: it is new, a bye was posted, a
    /// timer is due, the application closed it, or its socket broke while it wrote.
    pub(super) fn look_at_peer(
        &mut self,
        group: &Arc<Group>,
        token: Token,
        peer: &mut Peer,
        identity: &mut Option<crate::Peer>,
    ) -> Result<(), Reason> {
        match &peer.socket {
            Socket::Unopened(address) => {
                let address = address.clone();
                match peer.connection.handle_timeout(self.now) {
                    Some(status) => Err(status.into()),
                    None => self.open_peer(group, token, peer, identity, &address),
                }
            }
            Socket::Retrying { address, at } if *at <= self.now => {
                let address = address.clone();
                let path = address.path().unwrap_or_default();
                self.connect_uds(group, token, peer, identity, path, &address)
            }
            Socket::Connecting { .. } => self.check_connecting(group, token, peer, identity),
            Socket::Open(open) if matches!(open.writing, Writing::Broken(_)) => {
                self.read(group, token, peer, true)
            }
            // This driver may be late, and what is waited for may be here (the process was stopped, or
            // there is much to do): that is no fault of the peer's.
            Socket::Open(_) if peer.connection.handle_timeout(self.now).is_some() => {
                self.read(group, token, peer, true)
            }
            Socket::Resolving { .. } | Socket::Retrying { .. } | Socket::Open(_) => Ok(()),
            Socket::Closed => Err(Status::CHANNEL_CLOSED.into()),
        }
    }

    /// Feeds the channels that starved, in their order, as far as the pool goes.
    pub(super) fn feed_starved(&mut self, group: &Arc<Group>) {
        while let Some(&token) = self.starved.front() {
            if !self.may_receive(group) {
                return group.engine.pool.line_up(group);
            }
            // It stays in line until it has read all it can: only then was the hunger over. But the
            // next portion is for the next one.
            let starves = group
                .channel_at(token)
                .is_some_and(|channel| self.feed(group, channel));
            self.starved.pop_front();
            if starves {
                self.starved.push_back(token);
            }
        }
        // Nobody starves here. If the pool called, what is left is for the next group.
        group.engine.pool.call_next();
    }

    /// Goes on with a channel that was held, or not read to the end. `true` says that it starves.
    pub(super) fn feed(&mut self, group: &Arc<Group>, mut channel: ChannelGuard<'_>) -> bool {
        let token = channel.token;
        let End::Peer(peer) = &mut channel.end else {
            return false;
        };
        let kept = if peer.connection.is_held() {
            peer.connection.resume(self.now);
            let kept = self.deliver(group, peer, &[]);
            self.stock.put_back();
            kept
        } else {
            Read::Dry
        };
        let over = match kept {
            // What its socket said while it was not read is not said again.
            Read::Dry => self.read(group, token, peer, true),
            kept => self.conclude(group, token, peer, kept),
        };
        let starves =
            over.is_ok() && peer.connection.is_held() && !self.unfinished.contains_key(&token);
        self.after(group, channel, over);
        starves
    }

    /// Reads what the socket has, up to a bound, and delivers it.
    fn read(
        &mut self,
        group: &Arc<Group>,
        token: Token,
        peer: &mut Peer,
        ends: bool,
    ) -> Result<(), Reason> {
        if peer.connection.is_held() {
            return Ok(());
        }
        let bytes_before = self.bytes_read;
        let read = self.read_some(group, peer, ends);
        let bytes = self.bytes_read - bytes_before;
        if bytes > 0 {
            let again = self.last_read.replace(token) == Some(token);
            peer.pace = match bytes {
                0..=HOT_BYTES_MAX => Pace::Quiet,
                _ => Pace::Streaming,
            };
            self.is_hot = again && peer.pace == Pace::Quiet;
        }
        self.conclude(group, token, peer, read)
    }

    /// What follows from where reading has come to. An error is the reason to end the channel.
    fn conclude(
        &mut self,
        group: &Arc<Group>,
        token: Token,
        peer: &mut Peer,
        read: Read,
    ) -> Result<(), Reason> {
        match read {
            Read::Dry => match &peer.socket {
                // Nothing can come any more: the socket broke while it wrote, and is read dry.
                Socket::Open(open) => match open.writing {
                    Writing::Broken(reason) => Err(reason),
                    Writing::Ready | Writing::Full { .. } | Writing::Ended => Ok(()),
                },
                _ => Ok(()),
            },
            Read::Unfinished => {
                self.come_back(token, peer.pace);
                Ok(())
            }
            Read::Starved => {
                self.starve(group, token, peer);
                Ok(())
            }
            Read::Over(reason) => Err(reason),
        }
    }

    fn read_some(&mut self, group: &Group, peer: &mut Peer, ends: bool) -> Read {
        let mut scratch = std::mem::take(&mut self.scratch);
        let read = (|| {
            for reads in 0..READS_MAX {
                // What the turn has no room for would have to be copied. Half of the room is for the others.
                let room = group.engine.pool.messages_per_turn();
                let share = if reads == 0 { room } else { room / 2 };
                let may_read = peer.pace == Pace::Quiet || !self.has_read_enough();
                if self.received >= share || !may_read {
                    break;
                }
                // Else what was read would have to be kept.
                if self.mode.is_listening() && !self.stock.has_message() && !self.may_exceed_pool()
                {
                    return Read::Starved;
                }
                let Socket::Open(open) = &mut peer.socket else {
                    return Read::Dry;
                };
                let connection = &mut peer.connection;
                let brought = match read_once(&mut open.stream, connection, &mut scratch, self.now)
                {
                    Ok(Brought { bytes: 0, .. }) => {
                        return Read::Over(peer.connection.reason_at_end().into());
                    }
                    Ok(brought) => brought,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Read::Dry,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        let status = peer.connection.reason_at_end();
                        return Read::Over(match status {
                            Status::CHANNEL_CLOSED => status.into(),
                            _ => Reason::with_error(status, &error),
                        });
                    }
                };
                self.bytes_read += brought.bytes as u64;
                match self.deliver(group, peer, &scratch[..brought.in_scratch]) {
                    Read::Dry => {}
                    other => return other,
                }
                // A short read has emptied the socket, unless its end is behind it.
                if brought.is_short && !ends {
                    return Read::Dry;
                }
            }
            Read::Unfinished
        })();
        self.scratch = scratch;
        self.stock.put_back();
        read
    }

    /// Whether those that stream brought as much as they may in this turn.
    fn has_read_enough(&self) -> bool {
        self.bytes_read - self.bytes_read_before >= TURN_BYTES_MAX
    }

    /// Makes messages of bytes, and events of messages.
    fn deliver(&mut self, group: &Group, peer: &mut Peer, mut bytes: &[u8]) -> Read {
        if !self.mode.is_listening() {
            // Nobody will read it. The bytes are taken so that the peer's end of the stream is seen.
            return Read::Dry;
        }
        let burst = (bytes.len() / BURST_FRAME_LEN).clamp(1, BURST_MAX);
        loop {
            let is_enough = self.received >= group.engine.pool.messages_per_turn();
            let may_exceed = self.may_exceed_pool();
            let stock = &mut self.stock;
            let received = peer.connection.receive(&mut bytes, self.now, || {
                if is_enough {
                    return None;
                }
                if may_exceed {
                    return Some(pool::made());
                }
                stock.message(burst)
            });
            match received {
                Received::Message(message) => {
                    if let Some(reason) = self.hear(group, peer, message) {
                        return Read::Over(reason);
                    }
                }
                Received::Nothing => return Read::Dry,
                Received::Starved if is_enough => {
                    peer.connection.hold();
                    return Read::Unfinished;
                }
                Received::Starved => return Read::Starved,
                Received::Violation(violation) => return Read::Over(violation.into()),
            }
        }
    }

    /// Whether there is a message to receive into.
    pub(super) fn may_receive(&self, group: &Group) -> bool {
        !group.engine.pool.is_empty() || self.may_exceed_pool()
    }

    /// A group that leaves has nobody who would drop its messages, and waits for the answers to its
    /// byes behind them. Messages of the pool would be missing to the engine's other groups, on which its
    /// peers may depend: up to a bound of its own it takes in what it makes itself.
    fn may_exceed_pool(&self) -> bool {
        matches!(self.mode, Mode::Leaving(_)) && self.unread_bytes < UNREAD_BYTES_MAX
    }

    /// Hands a message to the application. `Some` if it was the channel's last.
    fn hear(&mut self, group: &Group, peer: &mut Peer, message: Message) -> Option<Reason> {
        if message.op_code() == OpCode::HelloRequest {
            group.engine.half_open.fetch_sub(1, Ordering::AcqRel);
        }
        self.received += 1;
        if self.mode != Mode::Serving {
            self.unread_bytes += message.frame_len() + size_of::<Event>();
        }
        self.inbox.push_message(message);
        if self.mode != Mode::Serving {
            self.say_bye(peer);
        }
        peer.connection.poll_close().map(Reason::from)
    }

    /// Puts a channel into the line of those that wait for a message.
    fn starve(&mut self, group: &Arc<Group>, token: Token, peer: &mut Peer) {
        peer.connection.hold();
        // Being fed, it is still in its place.
        if self.starved.front() == Some(&token) {
            return;
        }
        self.unfinished.remove(&token);
        if self.starved.is_empty() {
            group.engine.counters.count(Counter::PoolEmpty);
            self.inbox.push(Event::PoolEmpty);
            group.engine.pool.line_up(group);
        }
        self.starved.push_back(token);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use tofu_proto::{ChannelNumber, Decoder};

    use super::*;

    #[test]
    fn what_is_read_along_is_enough_for_a_full_body_to_land() {
        let message = Message::signal(ChannelNumber::new(1))
            .with_header("name", "v".repeat(16_000))
            .with_body(vec![0; Message::BODY_MAX]);
        let frame = [&message.binary_header().to_bytes(), message.payload()].concat();
        let mut decoder = Decoder::new();
        assert_eq!(decoder.peek(&mut &frame[..HEAD_LEN]), Ok(None));
        assert!(decoder.land(|_| io::Result::Ok(0)).is_some());
    }
}
