//! The state machine of a connection, driven by anyone, talked to by anyone.
//!
//! The input is a list of things that happen to a client's and a server's connection with a stream
//! between them: posts of any op code, writes and reads of any length, full streams, starved and
//! busy drivers, time, and things that neither of the two said.
//!
//! Held to be true, whatever happens in whatever order, and looked at after each of it:
//! - nothing panics;
//! - what is taken, heard and complained of is what [the rules](crate::rules) say, no more and no less;
//! - what is queued are the bytes of the messages that were taken, less those that have left;
//! - a message that is refused comes back unchanged;
//! - at most one message of the pool waits in a queue, and none behind a stream that is full;
//! - a timeout runs exactly while there is something to wait for, and says what that was;
//! - in the end every message that was taken has left completely or comes back unchanged, in order;
//! - as long as nobody interferes with its stream, a side gets the messages that the other one
//!   posted, in order, and has no reason to complain.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arbitrary::{Arbitrary, Unstructured};
use tofu_proto::{
    Address, Blank, ChannelNumber, Connection, Frame, Header, Home, Instant, Message, MessageId,
    OpCode, Received, Side, Status, Timeouts, UnassignedOpCode, Violation,
};

use crate::{
    frames::{Len, Saying, op_code},
    rules::Said,
};

/// Things that happen in one run.
const HAPPENINGS_MAX: usize = 300;
/// Bytes that may be queued.
const QUEUE_MAX: usize = 200_000;
/// A bye that is no longer always fits.
const SHORT_BYE_MAX: usize = 1_024;

const TIMEOUTS: Timeouts = Timeouts {
    hello: Duration::from_secs(10),
    connect: Duration::from_secs(30),
    frame: Duration::from_secs(20),
    bye: Duration::from_secs(5),
};

#[derive(Arbitrary, Debug)]
struct Happening {
    at_client: bool,
    what: What,
}

#[derive(Arbitrary, Debug)]
enum What {
    Post {
        op_code: u8,
        id: u8,
        more: bool,
        header_len: u8,
        body: Len,
        is_pooled: bool,
    },
    Write {
        max: u16,
    },
    /// At most so many bytes, while there are so many messages to receive into.
    Read {
        max: u16,
        messages: u8,
    },
    /// All there is.
    ReadAll,
    Connected,
    Blocked,
    Hold,
    Resume,
    Wait {
        millis: u16,
    },
    /// The driver looks after the memory of what was sent.
    TakeMemory {
        spare_max: u8,
    },
    /// Something that the peer did not say.
    Inject(Saying),
    /// The stream ends.
    End,
}

/// Panics if anything in the header of this page is not true of `data`.
pub fn check(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let mut talk = Talk::new();
    for _ in 0..HAPPENINGS_MAX {
        if input.is_empty() {
            break;
        }
        let Ok(happening) = Happening::arbitrary(&mut input) else {
            break;
        };
        talk.happen(happening);
        talk.client.look(talk.now);
        talk.server.look(talk.now);
    }
    talk.client.end();
    talk.server.end();
}

struct Talk {
    now: Instant,
    client: Peer,
    server: Peer,
}

#[allow(
    clippy::struct_excessive_bools,
    reason = "they are noted, and decide nothing"
)]
struct Peer {
    connection: Connection,
    channel: ChannelNumber,
    said: Said,
    pool: Arc<Pool>,
    /// All that was taken, as it travels.
    taken: Vec<Message>,
    sent: usize,
    /// What the other side wrote, and this one has not read.
    incoming: Vec<u8>,
    /// What it has read, and not heard as messages.
    unheard: Vec<u8>,
    /// Messages that arrived.
    heard: usize,
    /// Whether others than the peer have said anything to it.
    misled: bool,
    /// Whether its peer may say wrong things, because one of the two was misled.
    suspicious: bool,
    next_id: u64,
    is_connected: bool,
    /// When anything last moved, when the wait for the hello began, and that for the rest of a frame.
    moved_at: Instant,
    greeted_at: Instant,
    waits_since: Instant,
    ended: bool,
}

/// Counts the messages that are out.
#[derive(Debug, Default)]
struct Pool {
    out: AtomicUsize,
}

impl Home for Pool {
    fn take_back(&self, _: Blank) {
        let before = self.out.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a message goes home once");
    }
}

impl Talk {
    fn new() -> Self {
        let timeouts = Arc::new(TIMEOUTS);
        let now = Instant::ORIGIN;
        let (ours, theirs) = (ChannelNumber::new(7), ChannelNumber::new(8));
        let address = Address::tcp("127.0.0.1", 7099).expect("it is one");
        let mut hello = Message::hello_request(&address);
        hello.address_to(ours, MessageId::new(1));
        let connection = Connection::client(hello.clone(), Arc::clone(&timeouts), now);
        let mut client = Peer::new(connection, ours, Side::Client);
        client.taken.push(hello);
        let connection = Connection::server(theirs, timeouts, now);
        let server = Peer::new(connection, theirs, Side::Server);
        Self {
            now,
            client,
            server,
        }
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        let (peer, other) = if happening.at_client {
            (&mut self.client, &mut self.server)
        } else {
            (&mut self.server, &mut self.client)
        };
        match happening.what {
            What::Wait { millis } => {
                self.now = now + Duration::from_millis(millis.into());
                self.client.look_at_clock(self.now);
                self.server.look_at_clock(self.now);
            }
            What::Inject(saying) => {
                // From now on its stream is not only its peer's, and its peer may be told wrong things.
                saying.append_to(&mut peer.incoming);
                peer.misled = true;
                peer.suspicious = true;
                other.suspicious = true;
            }
            _ if peer.ended => {}
            What::Connected => peer.handle_connected(now),
            What::Post {
                op_code: code,
                id,
                more,
                header_len,
                body,
                is_pooled,
            } => {
                let mut message = peer.blank(is_pooled);
                message = message
                    .with_op_code(op_code(code))
                    .with_channel(peer.channel)
                    .with_id(u64::from(id))
                    .with_more(more)
                    .with_body(vec![b'b'; body.get().into()]);
                if header_len > 0 {
                    message = message.with_header("k", vec![b'v'; header_len.into()]);
                }
                peer.post(message, now);
            }
            What::TakeMemory { spare_max } => {
                peer.connection.spare_memory().truncate(spare_max.into());
            }
            What::End => peer.handle_end(),
            // Without a stream there is nothing else to happen.
            _ if !peer.is_connected => {}
            What::Write { max } => peer.write(&mut other.incoming, max.into(), now),
            What::Read { max, messages } => {
                peer.read(max.into(), messages.into(), &other.taken, now);
            }
            What::ReadAll => peer.read(usize::MAX, usize::MAX, &other.taken, now),
            What::Blocked => {
                peer.connection.handle_blocked();
                assert_eq!(peer.pool.out.load(Ordering::Relaxed), 0);
            }
            What::Hold => peer.connection.hold(),
            What::Resume => peer.resume(now),
        }
    }
}

impl Peer {
    fn new(connection: Connection, channel: ChannelNumber, side: Side) -> Self {
        Self {
            connection,
            channel,
            said: Said::nothing(side),
            pool: Arc::default(),
            taken: Vec::new(),
            sent: 0,
            incoming: Vec::new(),
            unheard: Vec::new(),
            heard: 0,
            misled: false,
            suspicious: false,
            next_id: 1 << 32,
            is_connected: side == Side::Server,
            moved_at: Instant::ORIGIN,
            greeted_at: Instant::ORIGIN,
            waits_since: Instant::ORIGIN,
            ended: false,
        }
    }

    fn handle_connected(&mut self, now: Instant) {
        if !self.is_connected {
            self.is_connected = true;
            self.connection.handle_connected(now);
            self.moved_at = now;
        }
    }

    fn resume(&mut self, now: Instant) {
        self.connection.resume(now);
        (self.moved_at, self.greeted_at, self.waits_since) = (now, now, now);
    }

    fn blank(&self, is_pooled: bool) -> Message {
        if !is_pooled {
            return Message::from_memory(Blank::default());
        }
        self.pool.out.fetch_add(1, Ordering::Relaxed);
        Message::from_home(Blank::default(), Arc::clone(&self.pool) as Arc<dyn Home>)
    }

    fn post(&mut self, message: Message, now: Instant) {
        let op_code = message.op_code();
        // What only an engine may take it refuses itself, whatever its check says.
        let is_order = !op_code.travels() || op_code == OpCode::HelloRequest;
        if message.check().is_err() && !is_order {
            return;
        }
        let mut copy = message.clone();
        let frame_len = copy.frame_len();
        let queued = self.connection.queue().bytes() + frame_len;
        let is_bye = matches!(op_code, OpCode::ByeRequest | OpCode::ByeResponse);
        let fits = (is_bye && frame_len <= SHORT_BYE_MAX) || queued <= QUEUE_MAX;
        let next_id = MessageId::new(self.next_id);
        match self
            .connection
            .post(message, QUEUE_MAX, || now, || next_id, drop)
        {
            Ok(header) => {
                assert!(fits, "{queued} bytes are too many");
                assert!(self.said.may_post(op_code), "{copy:?}, {:?}", self.said);
                let id = match copy.id() {
                    MessageId::UNASSIGNED => next_id,
                    chosen => chosen,
                };
                copy.address_to(self.channel, id);
                assert_eq!(copy.binary_header(), header);
                self.next_id += 1;
                self.taken.push(copy);
                self.said.post(op_code);
                if is_bye {
                    self.moved_at = now;
                }
            }
            Err(error) => {
                let may = fits && self.said.may_post(op_code);
                assert!(!may, "{error}, {:?}", self.said);
                assert_eq!(error.into_message(), copy, "it comes back unchanged");
            }
        }
    }

    fn write(&mut self, out: &mut Vec<u8>, max: usize, now: Instant) {
        let mut left = max;
        for slice in self.connection.queue().slices() {
            assert!(!slice.is_empty());
            let count = slice.len().min(left);
            out.extend_from_slice(&slice[..count]);
            left -= count;
        }
        self.connection.handle_sent(max - left, || now, drop);
        self.sent += max - left;
        self.moved_at = now;
    }

    /// Reads up to `max` bytes, while there are up to so many messages.
    fn read(&mut self, max: usize, messages: usize, posted: &[Message], now: Instant) {
        if self.connection.is_held() {
            self.resume(now);
        }
        let max = max.min(self.incoming.len());
        let bytes: Vec<_> = self.incoming.drain(..max).collect();
        self.unheard.extend_from_slice(&bytes);
        if !bytes.is_empty() {
            self.moved_at = now;
        }
        // The rest of a large frame is read to where it stays.
        let landed = self.connection.land(now, |place| {
            let count = place.len().min(bytes.len());
            place[..count].copy_from_slice(&bytes[..count]);
            Ok::<_, Infallible>(count)
        });
        let landed = landed.map_or(0, |Ok(landed)| landed);
        let mut input = &bytes[landed..];
        let mut messages = 0..messages;
        loop {
            let due = self.due(!messages.is_empty());
            let take = || {
                messages
                    .next()
                    .map(|_| Message::signal(ChannelNumber::UNASSIGNED))
            };
            match (self.connection.receive(&mut input, now, take), due) {
                (Received::Message(message), Due::Message(frame_len)) => {
                    self.hear(&message, frame_len, posted);
                    self.moved_at = now;
                }
                (Received::Nothing, Due::Nothing) => break,
                (Received::Starved, Due::Starved) => {
                    self.connection.hold();
                    break;
                }
                (Received::Violation(violation), Due::Violation(due)) => {
                    assert_eq!(violation, due);
                    assert!(self.suspicious, "{violation}, and nobody else spoke");
                    return self.end();
                }
                (got, due) => panic!("{got:?}, and {due:?} was due: {:?}", self.said),
            }
            assert_eq!(self.connection.poll_close().is_some(), self.said.is_done());
            if self.said.is_done() {
                return self.end();
            }
        }
        assert!(input.is_empty(), "what was read is used up");
        self.waits_since = now;
    }

    /// What the bytes that were read must come to.
    fn due(&self, has_message: bool) -> Due {
        let Some(head) = self.unheard.first_chunk() else {
            return Due::Nothing;
        };
        let header = match Header::from_bytes(head) {
            Ok(header) => header,
            Err(UnassignedOpCode(code)) => {
                return Due::Violation(Violation::UnassignedOpCode(code));
            }
        };
        match self.said.judge(&header, self.has_asked()) {
            Err(violation) => Due::Violation(violation),
            Ok(()) if self.unheard.len() < header.frame_len() => Due::Nothing,
            Ok(()) if has_message => Due::Message(header.frame_len()),
            Ok(()) => Due::Starved,
        }
    }

    /// Whether our bye has left, if we said one.
    fn has_asked(&self) -> bool {
        let mut end = 0;
        self.taken.iter().all(|message| {
            end += message.frame_len();
            message.op_code() != OpCode::ByeRequest || end <= self.sent
        })
    }

    fn hear(&mut self, message: &Message, frame_len: usize, posted: &[Message]) {
        let frame = Frame::first(&self.unheard[..frame_len]).expect("assigned");
        let frame = frame.expect("it is whole");
        let mut expected = Message::signal(ChannelNumber::UNASSIGNED);
        expected.fill(self.channel, &frame);
        assert_eq!(*message, expected);
        assert!(message.status().is_success());
        assert!(self.connection.is_known());
        if !self.misled {
            let posted = posted[self.heard].clone().with_channel(self.channel);
            assert_eq!(*message, posted);
        }
        if message.op_code() == OpCode::HelloRequest {
            assert_eq!(self.connection.opened_by(), message.id());
        }
        self.said.hear(message.op_code());
        self.unheard.drain(..frame_len);
        self.heard += 1;
    }

    fn handle_end(&mut self) {
        let all_left = self.connection.queue().is_empty();
        let expected = if self.said.is_done() || (self.said.is_all_said() && all_left) {
            Status::CHANNEL_CLOSED
        } else {
            Status::PEER_DISCONNECTED
        };
        assert_eq!(self.connection.reason_at_end(), expected);
        self.end();
    }

    /// Until when something else must have happened than the rest of a frame.
    fn deadline(&self) -> Option<(Instant, Status)> {
        let all_left = self.connection.queue().is_empty();
        if !self.is_connected {
            Some((Instant::ORIGIN + TIMEOUTS.connect, Status::CONNECT_TIMEOUT))
        } else if !self.said.is_known() {
            Some((self.greeted_at + TIMEOUTS.hello, Status::HELLO_TIMEOUT))
        } else if self.said.is_all_said() && all_left {
            Some((self.moved_at + TIMEOUTS.bye, Status::CHANNEL_CLOSED))
        } else if self.said.is_leaving() {
            Some((self.moved_at + TIMEOUTS.bye, Status::BYE_TIMEOUT))
        } else {
            None
        }
    }

    /// Until when, and for what, if the driver reads.
    fn timeouts(&self) -> Vec<(Instant, Status)> {
        let mut timeouts: Vec<_> = self.deadline().into_iter().collect();
        if !self.unheard.is_empty() {
            timeouts.push((self.waits_since + TIMEOUTS.frame, Status::FRAME_TIMEOUT));
        }
        if self.connection.is_held() {
            timeouts.clear();
        }
        timeouts
    }

    fn look_at_clock(&mut self, now: Instant) {
        if self.ended {
            return;
        }
        let expected = self.timeouts().into_iter().find(|(due, _)| *due <= now);
        let expected = expected.map(|(_, status)| status);
        for _ in 0..2 {
            assert_eq!(self.connection.handle_timeout(now), expected);
        }
        if expected.is_some() {
            self.end();
        }
    }

    fn look(&self, now: Instant) {
        if self.ended {
            return;
        }
        let total: usize = self.taken.iter().map(Message::frame_len).sum();
        let queue = self.connection.queue();
        assert_eq!(queue.bytes(), total - self.sent);
        let sliced: usize = queue.slices().map(<[u8]>::len).sum();
        assert_eq!(queue.bytes(), sliced);
        assert_eq!(queue.is_empty(), queue.bytes() == 0);
        let pooled = self.pool.out.load(Ordering::Relaxed);
        assert!(pooled <= usize::from(!queue.is_empty()), "{pooled} wait");

        let due = self.timeouts().into_iter().map(|(due, _)| due).min();
        assert_eq!(self.connection.poll_timeout(), due, "{:?}", self.said);
        assert!(due.is_none_or(|due| due > now), "it is past {due:?}");
        assert_eq!(self.connection.is_known(), self.said.is_known());
        let owes_answer = self.connection.bye_to_answer().is_some();
        assert_eq!(owes_answer, self.said.owes_answer());
        let ends = self.said.has_parted() && queue.is_empty();
        assert_eq!(self.connection.wants_half_close(), ends);
    }

    /// Whatever was taken has left completely, or comes back.
    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let mut end = 0;
        let has_left = |message: &&Message| {
            end += message.frame_len();
            end <= self.sent
        };
        let expected: Vec<_> = self.taken.iter().skip_while(has_left).cloned().collect();
        let bytes = self.connection.queue().bytes();
        let unsent = self.connection.take_unsent();
        assert_eq!(unsent.bytes(), bytes);
        assert_eq!(unsent.is_empty(), expected.is_empty());
        assert_eq!(unsent.collect::<Vec<_>>(), expected);
        assert!(
            self.connection.queue().is_empty(),
            "the connection keeps nothing"
        );
        assert_eq!(self.pool.out.load(Ordering::Relaxed), 0, "all are home");
    }
}

/// What [`Connection::receive`] has to say.
#[derive(Debug)]
enum Due {
    /// A message, from so many bytes.
    Message(usize),
    Nothing,
    Starved,
    Violation(Violation),
}
