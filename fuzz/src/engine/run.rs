//! One run: the steps, the application, and the end.

use std::{mem, thread, time::Instant};

use tofu::{ChannelNumber, Event, Message, OpCode};

use super::{
    Manners, Step,
    house::{
        ALWAYS_FITS, CHANNELS_BEFORE, CHANNELS_MAX, ENGINE_QUEUE_MAX, HALF_OPEN_MAX, House,
        POOL_MAX, deadline,
    },
    peer::Peer,
};
use crate::frames::op_code;

/// One more than there is room for.
const PEERS_MAX: usize = CHANNELS_MAX - CHANNELS_BEFORE + 1;
/// Things said in one step.
const SAYINGS_MAX: usize = 24;
/// Bytes after which nothing more is said in one step.
const SAID_AT_ONCE_MAX: usize = 100_000;
/// Things said again and again in one step.
const FLOOD_MAX: u8 = 100;
/// Messages posted in one step, and bytes of them in one run.
const POSTS_MAX: u8 = 40;
const POSTED_MAX: usize = 1 << 20;

pub(super) struct Run<'a> {
    house: &'a mut House,
    peers: Vec<Peer>,
    manners: Manners,
    hoard: Vec<Message>,
    posted: usize,
    next_id: u64,
    refused_before: u64,
}

impl<'a> Run<'a> {
    pub(super) fn new(house: &'a mut House) -> Self {
        let mut run = Self {
            refused_before: 0,
            house,
            peers: Vec::new(),
            manners: Manners {
                answers_hellos: true,
                answers_byes: true,
                echoes: false,
                hoards: false,
            },
            hoard: Vec::new(),
            posted: 0,
            next_id: 1,
        };
        run.refused_before = run.refused();
        run
    }

    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Connect {
                is_server,
                says_hello,
            } => self.connect(is_server, says_hello),
            Step::Say {
                peer,
                what,
                pieces,
                is_heard,
            } => {
                let mut bytes = Vec::new();
                for saying in what.iter().take(SAYINGS_MAX) {
                    if bytes.len() < SAID_AT_ONCE_MAX {
                        saying.append_to(&mut bytes);
                    }
                }
                self.say(peer, &bytes, pieces, is_heard);
            }
            Step::Flood { peer, what, count } => {
                let mut bytes = Vec::new();
                for _ in 0..count % FLOOD_MAX {
                    if bytes.len() < SAID_AT_ONCE_MAX {
                        what.append_to(&mut bytes);
                    }
                }
                self.say(peer, &bytes, [0; 3], false);
            }
            Step::Hear { events } => {
                for _ in 0..events {
                    if !self.hear() {
                        break;
                    }
                }
            }
            Step::Behave(manners) => self.manners = manners,
            Step::Post {
                peer,
                op_code: code,
                more,
                body,
                count,
            } => {
                for _ in 0..=count % POSTS_MAX {
                    self.post(peer, op_code(code), more, body.get().into());
                }
            }
            Step::Listen { peer, max } => {
                if let Some(peer) = self.peer(peer) {
                    peer.listen(max.into());
                }
            }
            Step::HalfClose { peer } => {
                if let Some(peer) = self.peer(peer) {
                    peer.half_close();
                }
            }
            Step::Leave { peer } => {
                if let Some(peer) = self.peer(peer) {
                    peer.leave();
                }
            }
            Step::Release => self.hoard.clear(),
            Step::Honest => self.ask(),
        }
    }

    fn peer(&mut self, number: u8) -> Option<&mut Peer> {
        let count = self.peers.len();
        (count > 0).then(|| &mut self.peers[usize::from(number) % count])
    }

    fn connect(&mut self, is_server: bool, says_hello: bool) {
        if self.peers.len() == PEERS_MAX {
            return;
        }
        if !is_server {
            let mut peer = Peer::client(self.house);
            if says_hello {
                peer.say(&hello(&self.house.address));
            }
            return self.peers.push(peer);
        }
        let mut hello = Message::hello_request(&self.house.trap_address).with_id(self.next_id);
        self.next_id += 1;
        let Ok(header) = self.house.exposed.post(hello.clone()) else {
            // There is no channel left.
            assert!(self.peers.len() >= CHANNELS_MAX - CHANNELS_BEFORE);
            return;
        };
        hello = hello.with_channel(header.channel);
        let end = deadline();
        // The keeper connects, if the application does not look.
        let socket = loop {
            if let Some(socket) = self.house.trapped() {
                break socket;
            }
            in_time(end, "a connection");
            thread::yield_now();
        };
        let peer = Peer::server(self.house, socket, hello);
        self.peers.push(peer);
    }

    fn say(&mut self, peer: u8, bytes: &[u8], pieces: [u8; 3], is_heard: bool) {
        let mut rest = bytes;
        let lens = pieces.map(|len| if len == 0 { usize::MAX } else { len.into() });
        // Few pieces of them are short: it takes long.
        let lens = lens.into_iter().cycle().take(30).chain([usize::MAX]);
        for len in lens {
            let piece = &rest[..len.min(rest.len())];
            let Some(peer) = self.peer(peer).filter(|_| !piece.is_empty()) else {
                return;
            };
            let count = peer.say(piece);
            rest = &rest[count..];
            if is_heard {
                self.hear();
            }
            if count < piece.len() {
                return;
            }
        }
    }

    fn post(&mut self, peer: u8, op_code: OpCode, more: bool, body_len: usize) {
        if self.posted + body_len > POSTED_MAX || self.peers.is_empty() {
            return;
        }
        self.posted += body_len;
        let id = self.next_id;
        self.next_id += 1;
        let at = usize::from(peer) % self.peers.len();
        let peer = &mut self.peers[at];
        if let Some(channel) = peer.channel {
            let message = Message::new(op_code, channel, id)
                .with_more(more)
                .with_body(vec![b'p'; body_len]);
            peer.post(self.house, message);
        }
    }

    /// The application reads an event, if there is one.
    fn hear(&mut self) -> bool {
        let Some(event) = self.house.exposed.try_recv().expect("it lives") else {
            return false;
        };
        match event {
            Event::Message(message) => self.hear_message(message),
            Event::Returned { message, reason } => {
                assert_eq!(message.status(), reason.status());
                self.known(message.channel()).come_back(&message);
            }
            Event::Closed {
                channel, reason, ..
            } => self.known(channel).close(reason),
            Event::Drained(channel) => self.known(channel).drained(),
            Event::PoolEmpty => {}
            Event::Listening { .. } | Event::Notified(_) => panic!("{event:?} was not due"),
        }
        true
    }

    fn hear_message(&mut self, message: Message) {
        let channel = message.channel();
        let op_code = message.op_code();
        if op_code == OpCode::HelloRequest {
            let number = message.id().get();
            let is_it = |peer: &&mut Peer| peer.number == number && peer.channel.is_none();
            let peer = self.peers.iter_mut().find(is_it);
            peer.expect("it has not said hello before").channel = Some(channel);
        }
        self.known(channel).hear(&message);
        let answers = match op_code {
            OpCode::HelloRequest => self.manners.answers_hellos,
            OpCode::ByeRequest => self.manners.answers_byes,
            OpCode::Request => self.manners.echoes,
            _ => false,
        };
        if answers {
            let at = self
                .peers
                .iter()
                .position(|peer| peer.channel == Some(channel));
            let at = u8::try_from(at.expect("it was just found")).expect("there are few");
            let echo = op_code.echo().expect("it asks");
            self.post(at, echo, false, message.body().len().min(10_000));
        }
        if self.manners.hoards {
            self.hoard.push(message);
        }
    }

    /// Who has this channel: nothing is heard of a channel that is closed, or was never there.
    fn known(&mut self, channel: ChannelNumber) -> &mut Peer {
        assert_ne!(
            channel, self.house.listener,
            "nothing happens to the listener"
        );
        let is_it = |peer: &&mut Peer| peer.channel == Some(channel) && !peer.is_closed;
        let peer = self.peers.iter_mut().find(is_it);
        peer.expect("it is known, and not closed")
    }

    /// Connections that found no room.
    fn refused(&self) -> u64 {
        let metrics = self.house.metrics();
        metrics.refused_channels + metrics.refused_half_open
    }

    /// The bounds.
    pub(super) fn look(&self) {
        let metrics = self.house.metrics();
        assert!(metrics.pool_messages_out <= POOL_MAX, "{metrics:?}");
        let queued_max = ENGINE_QUEUE_MAX + ALWAYS_FITS;
        assert!(metrics.queued_bytes <= queued_max, "{metrics:?}");
        assert!(metrics.channels_open <= CHANNELS_MAX, "{metrics:?}");
        // One more while it is being refused.
        assert!(metrics.half_open <= HALF_OPEN_MAX + 1, "{metrics:?}");
        self.house.look_at_memory_within();
    }

    /// Somebody else uses the engine, unless what waits for peers that do not read fills it: the application
    /// has posted that.
    fn ask(&mut self) {
        if self.house.metrics().queued_bytes + ALWAYS_FITS > ENGINE_QUEUE_MAX {
            return;
        }
        self.hoard.clear();
        let manners = mem::replace(&mut self.manners, Manners::NONE);
        self.house.ask();
        let end = deadline();
        while !self.house.is_answered() {
            // As long as the application reads, nobody starves.
            self.hear();
            in_time(end, "an answer over the honest channel");
        }
        self.manners = manners;
    }

    /// Reads until it is so, and nothing is left to be read of what led to it.
    fn hear_until(&mut self, what: &str, is_so: impl Fn(&mut Self) -> bool) {
        let end = deadline();
        let mut times = 0;
        while times < 2 {
            let is_quiet = !self.hear();
            times = if is_quiet && is_so(self) {
                times + 1
            } else {
                0
            };
            if is_quiet {
                thread::yield_now();
            }
            if Instant::now() > end {
                let states = self.peers.iter().filter(|peer| !peer.is_closed);
                let states: Vec<_> = states
                    .map(|peer| (peer.number, peer.channel, peer.due(), peer.said))
                    .collect();
                panic!("never: {what}. {states:?}, {:?}", self.house.metrics());
            }
        }
    }

    /// The application reads all, the peers go away, and everything is as before.
    pub(super) fn finish(mut self) {
        self.hoard.clear();
        self.manners = Manners::NONE;
        self.hear_until("everything said is heard, and has its consequence", |run| {
            let some_were_refused = run.refused() > run.refused_before;
            run.peers.iter_mut().all(|peer| {
                if peer.channel.is_none() {
                    peer.listen(4096);
                }
                peer.is_settled(some_were_refused)
            })
        });
        let refused = self.peers.iter().filter(|peer| peer.was_refused()).count();
        let counted = self.refused() - self.refused_before;
        assert!(
            refused as u64 <= counted,
            "{refused} were closed, {counted} refused"
        );
        self.ask();
        self.hear_until("the peers that were closed see it", |run| {
            let mut closed = run.peers.iter_mut();
            closed.all(|peer| {
                let waits = peer.is_closed && peer.has_socket() && !peer.saw_end;
                if waits {
                    peer.listen(usize::MAX);
                }
                !waits
            })
        });
        for peer in &mut self.peers {
            peer.look_at_what_it_read();
            peer.leave();
        }
        self.hear_until(
            "all channels are closed, and nothing is left of them",
            |run| {
                let metrics = run.house.metrics();
                let is_closed = |peer: &Peer| peer.is_closed || peer.channel.is_none();
                run.peers.iter().all(is_closed)
                    && metrics.channels_open == CHANNELS_BEFORE
                    && (metrics.half_open, metrics.queued_bytes) == (0, 0)
                    && metrics.pool_messages_out == 0
            },
        );
        self.ask();
        assert!(!self.hear(), "nothing comes behind the end");
    }
}

fn hello(address: &tofu::Address) -> Vec<u8> {
    let hello = Message::hello_request(address);
    [&hello.binary_header().to_bytes(), hello.payload()].concat()
}

fn in_time(end: Instant, what: &str) {
    assert!(Instant::now() < end, "never: {what}");
}
