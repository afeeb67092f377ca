//! One open channel: a listener, or a peer with its connection and socket.
//!
//! A channel is shared between its group's driver and the threads that post to it, each locking it (in
//! the engine's registry) for as long as it takes to queue a message or to read or write a socket that
//! never blocks.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    net::SocketAddr,
};

use mio::{Interest, Token};
use tofu_proto::{Address, Connection, Instant, Message, MessageId, SendQueue, Status};

use super::{
    gathering::{GATHERED_MAX, Gathering},
    timers::Noted,
};
use crate::{
    blanks,
    budget::Charge,
    channels::GroupId,
    event::Reason,
    net::{self, Registry, Stream, resolve::Lookup},
    options::Options,
};

/// Slices handed to one vectored write.
const SLICES_MAX: usize = 64;
/// Bytes that are put next to each other and written as one piece: for so few, several cost the system more.
const JOINED_MAX: usize = 512;

#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) group: GroupId,
    /// Names it to the poller and the driver: no other channel of the group ever had this one.
    pub(crate) token: Token,
    pub(crate) end: End,
    /// Who is at the other end, once it is connected. Here and not with the rest of a peer, for here is room
    /// for it: an idle connection is no larger.
    pub(crate) identity: Option<crate::Peer>,
}

/// What is at this end of the channel.
#[derive(Debug)]
pub(crate) enum End {
    Listener(Box<Listener>),
    Peer(Box<Peer>),
}

#[derive(Debug)]
pub(crate) struct Listener {
    /// The WelcomeRequest, until it is answered.
    pub(crate) welcome: Option<Message>,
    pub(crate) opened_by: MessageId,
    pub(crate) address: Address,
    pub(crate) socket: ListenerSocket,
    pub(crate) noted: Noted,
}

#[derive(Debug)]
pub(crate) enum ListenerSocket {
    /// The driver has not begun.
    Unopened,
    /// The host name is being looked up, for as long as this is here.
    Resolving { _lookup: Lookup },
    Open {
        socket: net::Listener,
        /// Out of descriptors: accepting goes on then.
        paused_until: Option<Instant>,
    },
    /// Closed by the application; the driver has yet to say so.
    Closed,
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) connection: Connection,
    pub(crate) socket: Socket,
    pub(crate) room: Room,
    pub(crate) charge: Charge,
    pub(crate) noted: Noted,
    pub(crate) gathering: Gathering,
    /// Whether the driver has been told that frames wait here for its look.
    pub(crate) is_noted: bool,
    pub(crate) pace: Pace,
}

/// How much came when a channel was last read. Those of whom little is expected go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Quiet,
    Streaming,
}

/// Whether a post was refused for want of room, so that the application is to hear when there is some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// None was refused.
    Unasked,
    /// As many bytes as were refused last, as soon as this channel's queue is short and the engine's budget has
    /// what is missing.
    Wanted(usize),
}

/// A peer's socket, from the address to the end.
#[derive(Debug)]
pub(crate) enum Socket {
    /// The driver has not begun.
    Unopened(Address),
    /// The host name is being looked up, for as long as this is here.
    Resolving {
        _lookup: Lookup,
    },
    /// A UDS listener's backlog was full: try again.
    Retrying {
        address: Address,
        at: Instant,
    },
    Connecting {
        stream: Stream,
        /// The addresses to try after this one.
        left: VecDeque<SocketAddr>,
        /// Until when this one may take.
        until: Instant,
    },
    Open(OpenSocket),
    /// Closed by the application; the driver has yet to say so.
    Closed,
}

#[derive(Debug)]
pub(crate) struct OpenSocket {
    pub(crate) stream: Stream,
    pub(crate) writing: Writing,
    /// Whether the poller was asked to say when the socket takes bytes.
    is_awaited: bool,
}

/// What the socket lets us write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// Anything.
    Ready,
    /// Nothing when it was last tried, with so many bytes queued.
    Full { queued: usize },
    /// Nothing more: we ended our direction.
    Ended,
    /// Nothing ever again. What the peer sent before may still be read.
    Broken(Reason),
}

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Driver,
    Poster,
}

impl Channel {
    /// Who is at the other end, if the application has heard of it.
    pub(crate) fn known_identity(&self) -> Option<crate::Peer> {
        match &self.end {
            End::Peer(peer) if peer.connection.is_known() => self.identity,
            End::Peer(_) | End::Listener(_) => None,
        }
    }
}

impl Listener {
    pub(crate) fn new(welcome: Message, address: Address) -> Self {
        Self {
            opened_by: welcome.id(),
            welcome: Some(welcome),
            address,
            socket: ListenerSocket::Unopened,
            noted: Noted::default(),
        }
    }
}

impl Socket {
    /// When to go on with opening it, if nothing else happens.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self {
            Self::Connecting { until, .. } => Some(*until),
            Self::Retrying { at, .. } => Some(*at),
            Self::Unopened(_) | Self::Resolving { .. } | Self::Open(_) | Self::Closed => None,
        }
    }
}

impl Peer {
    pub(crate) fn new(connection: Connection, socket: Socket, charge: Charge) -> Self {
        Self {
            connection,
            socket,
            room: Room::Unasked,
            charge,
            noted: Noted::default(),
            gathering: Gathering::default(),
            is_noted: false,
            pace: Pace::Quiet,
        }
    }

    /// Whether the socket was closed, or our direction of the stream ended: what is posted could not leave.
    #[inline]
    pub(crate) fn takes_no_more(&self) -> bool {
        match &self.socket {
            Socket::Closed => true,
            Socket::Open(open) => open.writing == Writing::Ended,
            _ => false,
        }
    }

    /// Whether the socket takes bytes, as far as anyone knows.
    pub(crate) fn takes_bytes(&self) -> bool {
        matches!(&self.socket, Socket::Open(open) if open.writing == Writing::Ready)
    }

    /// Whether what is queued leaves only when a poster or a driver tries: the poller will not tell.
    pub(crate) fn waits_for_a_look(&self) -> bool {
        !self.connection.queue().is_empty()
            && match &self.socket {
                Socket::Open(open) => match open.writing {
                    Writing::Ready => true,
                    Writing::Full { .. } => !open.is_awaited,
                    Writing::Ended | Writing::Broken(_) => false,
                },
                _ => false,
            }
    }

    /// Whether the socket takes nothing for now, and the poller will tell when it does.
    pub(crate) fn awaits_room(&self) -> bool {
        matches!(&self.socket, Socket::Open(open)
            if open.is_awaited && matches!(open.writing, Writing::Full { .. }))
    }

    /// Whether so little is queued that who was refused may hear of room.
    pub(crate) fn has_short_queue(&self, options: &Options) -> bool {
        self.connection.queue().bytes() <= options.channel_queue_bytes_max / 2
    }

    /// Whether so much is queued that it should not wait for more.
    pub(crate) fn has_gathered_enough(&self) -> bool {
        let queued = self.connection.queue().bytes();
        match &self.socket {
            Socket::Open(open) => match open.writing {
                Writing::Ready => queued >= GATHERED_MAX,
                // Perhaps there is room again; but each try costs.
                Writing::Full { queued: then } => queued >= then + GATHERED_MAX,
                Writing::Ended | Writing::Broken(_) => false,
            },
            _ => false,
        }
    }

    /// Whether the socket broke while it was written to, so that the channel ends once it is read dry.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(&self.socket, Socket::Open(open) if matches!(open.writing, Writing::Broken(_)))
    }

    /// What is queued counts against the engine's bound.
    pub(crate) fn note_queued(&mut self) {
        self.charge.set(self.connection.queue().bytes());
    }

    /// Writes what is queued, as far as the socket takes it. Only a driver asks the poller to say when it
    /// takes more: a poster is likely to be back before that, and leaves it to the driver's next look.
    pub(crate) fn flush(
        &mut self,
        registry: &Registry,
        token: Token,
        now: impl Fn() -> Instant,
        by: By,
    ) {
        let Socket::Open(open) = &mut self.socket else {
            return self.note_queued();
        };
        while matches!(open.writing, Writing::Ready | Writing::Full { .. })
            && !self.connection.queue().is_empty()
        {
            match write_queued(&mut open.stream, self.connection.queue()) {
                Ok(written) => {
                    self.connection.handle_sent(written, &now, blanks::keep);
                    open.writing = Writing::Ready;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.connection.handle_blocked();
                    open.writing = Writing::Full {
                        queued: self.connection.queue().bytes(),
                    };
                    if by == By::Driver {
                        open.await_room(registry, token, true);
                    }
                    break;
                }
                Err(error) => {
                    let reason = Reason::with_error(Status::PEER_DISCONNECTED, &error);
                    self.connection.handle_blocked();
                    open.writing = Writing::Broken(reason);
                }
            }
        }
        self.gathering.left();
        self.note_queued();
    }

    /// The poller says that the socket takes bytes again.
    pub(crate) fn handle_writable(&mut self, registry: &Registry, token: Token, now: Instant) {
        self.flush(registry, token, || now, By::Driver);
        if let Socket::Open(open) = &mut self.socket
            && open.writing == Writing::Ready
        {
            // Else a UDS peer's every read would wake us.
            open.await_room(registry, token, false);
        }
    }
}

/// Writes as much of the queue as goes into one write, and the socket takes.
fn write_queued(stream: &mut Stream, queue: &SendQueue) -> io::Result<usize> {
    if queue.bytes() <= JOINED_MAX {
        let mut joined = [0; JOINED_MAX];
        let mut len = 0;
        for slice in queue.slices() {
            joined[len..len + slice.len()].copy_from_slice(slice);
            len += slice.len();
        }
        return stream.write(&[IoSlice::new(&joined[..len])]);
    }
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let mut count = 0;
    for (slot, slice) in slices.iter_mut().zip(queue.slices()) {
        *slot = IoSlice::new(slice);
        count += 1;
    }
    stream.write(&slices[..count])
}

impl OpenSocket {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            writing: Writing::Ready,
            is_awaited: false,
        }
    }

    /// Has the poller say, or say no more, when the socket takes bytes.
    fn await_room(&mut self, registry: &Registry, token: Token, is_awaited: bool) {
        if self.is_awaited == is_awaited {
            return;
        }
        self.is_awaited = is_awaited;
        self.register_again(registry, token);
    }

    /// Tells the poller what is awaited.
    pub(crate) fn register_again(&mut self, registry: &Registry, token: Token) {
        let interest = if self.is_awaited {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        if let Err(error) = self.stream.reregister(registry, token, interest) {
            let reason = Reason::with_error(Status::PROCESSING_FAILED, &error);
            self.writing = Writing::Broken(reason);
        }
    }

    /// Ends our direction of the stream, once.
    pub(crate) fn end_writing(&mut self) {
        if matches!(self.writing, Writing::Ready | Writing::Full { .. }) {
            // A stream that is broken already is told by the next read.
            let _ = self.stream.shutdown_write();
            self.writing = Writing::Ended;
        }
    }
}
