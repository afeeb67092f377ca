//! The state machine of a connection, driven by anyone, talked to by anyone.
//!
//! The input is a list of things that happen to a client's and a server's connection with a stream
//! between them: posts of any op code, writes and reads of any length, full streams, starved and
//! busy drivers, time, and bytes that neither of the two said.
//!
//! Held to be true, whatever happens in whatever order:
//! - nothing panics;
//! - what is queued are the bytes of the messages that were taken, less those that have left;
//! - a message that is refused comes back unchanged;
//! - in the end every message that was taken has left completely or comes back unchanged, in order;
//! - as long as nobody interferes with its stream, a side gets the messages that the other one
//!   posted, in order, and has no reason to complain;
//! - after a timeout was due and answered, it is answered the same way.

use std::{sync::Arc, time::Duration};

use arbitrary::{Arbitrary, Unstructured};
use tofu_proto::{
    Address, ChannelNumber, Connection, Instant, Message, MessageId, OpCode, Received, Timeouts,
};

/// Things that happen in one run.
const HAPPENINGS_MAX: usize = 300;

#[derive(Arbitrary, Debug)]
enum Happening {
    Post {
        at_client: bool,
        op_code: u8,
        id: u8,
        more: bool,
        header_len: u8,
        body: Body,
    },
    Write {
        at_client: bool,
        max: u16,
    },
    Read {
        at_client: bool,
        max: u16,
        messages: u8,
    },
    Blocked {
        at_client: bool,
    },
    Hold {
        at_client: bool,
    },
    Resume {
        at_client: bool,
    },
    Wait {
        millis: u16,
    },
    /// Bytes that the peer did not say.
    Inject {
        at_client: bool,
        frame: ForeignFrame,
    },
    InjectBytes {
        at_client: bool,
        bytes: Vec<u8>,
    },
    /// The stream ends.
    End {
        at_client: bool,
    },
}

#[derive(Arbitrary, Debug)]
enum Body {
    Empty,
    Small(u8),
    Large(u16),
    Shared,
}

#[derive(Arbitrary, Debug)]
struct ForeignFrame {
    proto: u8,
    status: u8,
    id: u8,
    header_len: u8,
    body_len: u8,
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
        talk.client.check_queue();
        talk.server.check_queue();
    }
    talk.client.end();
    talk.server.end();
}

struct Talk {
    now: Instant,
    client: Peer,
    server: Peer,
}

struct Peer {
    connection: Connection,
    channel: ChannelNumber,
    /// All that was taken, as it travels.
    taken: Vec<Message>,
    sent: usize,
    /// What the other side wrote, and this one has not read.
    incoming: Vec<u8>,
    /// Messages that arrived.
    heard: usize,
    /// Whether others than the peer have said anything to it.
    misled: bool,
    /// Whether its peer may say wrong things, because one of the two was misled.
    suspicious: bool,
    next_id: u64,
    ended: bool,
}

impl Talk {
    fn new() -> Self {
        let timeouts = Arc::new(Timeouts {
            hello: Duration::from_secs(10),
            connect: Duration::from_secs(30),
            frame: Duration::from_secs(20),
            bye: Duration::from_secs(5),
        });
        let now = Instant::ORIGIN;
        let (ours, theirs) = (ChannelNumber::new(7), ChannelNumber::new(8));
        let address = Address::tcp("127.0.0.1", 7099).expect("it is one");
        let mut hello = Message::hello_request(&address);
        hello.address_to(ours, MessageId::new(1));
        let connection = Connection::client(hello.clone(), Arc::clone(&timeouts), now);
        let mut client = Peer::new(connection, ours);
        client.taken.push(hello);
        client.connection.handle_connected(now);
        let server = Peer::new(Connection::server(theirs, timeouts, now), theirs);
        Self {
            now,
            client,
            server,
        }
    }

    /// The side, and the other one.
    fn sides(&mut self, at_client: bool) -> (&mut Peer, &mut Peer) {
        if at_client {
            (&mut self.client, &mut self.server)
        } else {
            (&mut self.server, &mut self.client)
        }
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Post {
                at_client,
                op_code,
                id,
                more,
                header_len,
                body,
            } => {
                let message = message(op_code, id, more, header_len, &body);
                self.sides(at_client).0.post(message, now);
            }
            Happening::Write { at_client, max } => {
                let (peer, other) = self.sides(at_client);
                peer.write(&mut other.incoming, max.into(), now);
            }
            Happening::Read {
                at_client,
                max,
                messages,
            } => {
                let (peer, other) = self.sides(at_client);
                peer.read(max.into(), messages, &other.taken, now);
            }
            Happening::Blocked { at_client } => {
                let peer = self.sides(at_client).0;
                if !peer.ended {
                    peer.connection.handle_blocked();
                }
            }
            Happening::Hold { at_client } => {
                let peer = self.sides(at_client).0;
                if !peer.ended {
                    peer.connection.hold();
                    assert!(peer.connection.is_held());
                    assert_eq!(peer.connection.poll_timeout(), None);
                }
            }
            Happening::Resume { at_client } => {
                let peer = self.sides(at_client).0;
                if !peer.ended {
                    peer.connection.resume(now);
                    assert!(!peer.connection.is_held());
                }
            }
            Happening::Wait { millis } => {
                self.now = now + Duration::from_millis(millis.into());
                self.client.look_at_clock(self.now);
                self.server.look_at_clock(self.now);
            }
            Happening::Inject { at_client, frame } => {
                self.inject(at_client, &frame.to_bytes());
            }
            Happening::InjectBytes { at_client, bytes } => self.inject(at_client, &bytes),
            Happening::End { at_client } => {
                let peer = self.sides(at_client).0;
                let _ = peer.connection.reason_at_end();
                peer.end();
            }
        }
    }
}

impl Talk {
    /// From now on the side's stream is not only its peer's, and its peer may be told wrong things.
    fn inject(&mut self, at_client: bool, bytes: &[u8]) {
        let (peer, other) = self.sides(at_client);
        peer.incoming.extend_from_slice(bytes);
        peer.misled = true;
        peer.suspicious = true;
        other.suspicious = true;
    }
}

impl Peer {
    fn new(connection: Connection, channel: ChannelNumber) -> Self {
        Self {
            connection,
            channel,
            taken: Vec::new(),
            sent: 0,
            incoming: Vec::new(),
            heard: 0,
            misled: false,
            suspicious: false,
            next_id: 1 << 32,
            ended: false,
        }
    }

    fn post(&mut self, message: Message, now: Instant) {
        // What only an engine may take it refuses itself, whatever its check says.
        let is_order = !message.op_code().travels() || message.op_code() == OpCode::HelloRequest;
        let message = message.with_channel(self.channel);
        if self.ended || (message.check().is_err() && !is_order) {
            return;
        }
        let mut copy = message.clone();
        let next_id = MessageId::new(self.next_id);
        match self.connection.post(message, 200_000, || now, || next_id) {
            Ok(header) => {
                assert!(!is_order, "{copy:?} is no message to a peer");
                let chosen = copy.id();
                copy.address_to(
                    self.channel,
                    if chosen.is_assigned() {
                        chosen
                    } else {
                        next_id
                    },
                );
                assert_eq!(copy.binary_header(), header);
                self.next_id += 1;
                self.taken.push(copy);
            }
            Err(error) => assert_eq!(error.into_message(), copy, "it comes back unchanged"),
        }
    }

    fn write(&mut self, out: &mut Vec<u8>, max: usize, now: Instant) {
        if self.ended {
            return;
        }
        let mut left = max;
        for slice in self.connection.queue().slices() {
            assert!(!slice.is_empty());
            let count = slice.len().min(left);
            out.extend_from_slice(&slice[..count]);
            left -= count;
        }
        self.connection.handle_sent(max - left, now);
        self.sent += max - left;
    }

    /// Reads up to `max` bytes, while there are up to so many messages.
    fn read(&mut self, max: usize, messages: u8, posted: &[Message], now: Instant) {
        if self.ended {
            return;
        }
        if self.connection.is_held() {
            self.connection.resume(now);
        }
        let bytes: Vec<_> = self
            .incoming
            .drain(..max.min(self.incoming.len()))
            .collect();
        let mut input = &bytes[..];
        let mut messages = 0..messages;
        loop {
            let take = || {
                messages
                    .next()
                    .map(|_| Message::signal(ChannelNumber::UNASSIGNED))
            };
            match self.connection.receive(&mut input, now, take) {
                Received::Message(message) => self.hear(&message, posted),
                Received::Nothing => break,
                Received::Starved => {
                    self.connection.hold();
                    break;
                }
                Received::Violation(violation) => {
                    assert!(self.suspicious, "{violation}, and nobody else spoke");
                    return self.end();
                }
            }
            if self.connection.poll_close().is_some() {
                return self.end();
            }
        }
        assert!(input.is_empty(), "what was read is used up");
    }

    fn hear(&mut self, message: &Message, posted: &[Message]) {
        assert_eq!(message.channel(), self.channel);
        assert!(message.status().is_success());
        assert!(message.op_code().travels());
        assert!(self.connection.is_known());
        if !self.misled {
            let expected = posted[self.heard].clone().with_channel(self.channel);
            assert_eq!(*message, expected);
        }
        self.heard += 1;
    }

    fn look_at_clock(&mut self, now: Instant) {
        if self.ended {
            return;
        }
        let due = self.connection.poll_timeout().is_some_and(|due| due <= now);
        let status = self.connection.handle_timeout(now);
        assert_eq!(due, status.is_some(), "what is due is said");
        assert_eq!(self.connection.handle_timeout(now), status);
        if status.is_some() {
            self.end();
        }
    }

    fn check_queue(&self) {
        if self.ended {
            return;
        }
        let total: usize = self.taken.iter().map(Message::frame_len).sum();
        let queue = self.connection.queue();
        assert_eq!(queue.bytes(), total - self.sent);
        assert_eq!(
            queue.bytes(),
            queue.slices().map(<[u8]>::len).sum::<usize>()
        );
        assert_eq!(queue.is_empty(), queue.bytes() == 0);
        if let Some(id) = self.connection.bye_to_answer() {
            assert!(
                self.connection.is_known(),
                "the bye {id} came before the hello"
            );
        }
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
    }
}

fn message(op_code: u8, id: u8, more: bool, header_len: u8, body: &Body) -> Message {
    let op_code = OpCode::from_code(op_code % 10).expect("all ten are assigned");
    let mut message = Message::new(op_code, ChannelNumber::UNASSIGNED)
        .with_id(u64::from(id))
        .with_more(more);
    if header_len > 0 {
        message = message.with_header("k", vec![b'v'; header_len.into()]);
    }
    let len = match *body {
        Body::Empty => 0,
        Body::Small(len) => len.into(),
        Body::Large(len) => len.into(),
        // Around the length up to which frames are copied together.
        Body::Shared => 4_080,
    };
    message.with_body(vec![b'b'; len])
}

impl ForeignFrame {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0, 9, self.proto, self.status, 0, 0, 0, 0, 0, 0, 0, self.id];
        bytes.extend([0, self.header_len, 0, self.body_len]);
        bytes.extend(vec![
            b'f';
            usize::from(self.header_len)
                + usize::from(self.body_len)
        ]);
        bytes
    }
}
