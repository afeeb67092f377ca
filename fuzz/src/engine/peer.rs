//! A hostile peer, and what its channel owes to it and to the application.

use std::{
    borrow::Cow,
    io::{self, Read, Write},
};

use socket2::Socket;
use tofu::{
    ChannelNumber, Frame, Header, Message, OpCode, Reason, Refusal, Status, UnassignedOpCode,
    Violation,
};
use tofu_proto::Side;

use super::house::House;
use crate::rules::Said;

/// Bytes that a peer says at most.
const SAID_MAX: usize = 1 << 19;

#[allow(
    clippy::struct_excessive_bools,
    reason = "they are noted, and decide nothing"
)]
pub(super) struct Peer {
    /// None when it is gone.
    socket: Option<Socket>,
    pub(super) number: u64,
    /// Which side of it the exposed group is.
    ours: Side,
    /// At the engine, once the application knows it.
    pub(super) channel: Option<ChannelNumber>,
    /// As the application knows it.
    pub(super) said: Said,
    /// What the peer has said, and how much of it was heard as messages.
    written: Vec<u8>,
    heard_len: usize,
    /// What the application has said, what of it came back (from which place to which), and what the peer
    /// has read.
    pub(super) posted: Vec<Message>,
    returned: Option<(usize, usize)>,
    read: Vec<u8>,
    /// Whether a post was refused for want of room.
    was_full: bool,
    /// Whether the peer has ended its direction.
    has_left: bool,
    /// Whether it has seen the end of the engine's direction.
    pub(super) saw_end: bool,
    /// Whether the application closed it at once.
    was_dismissed: bool,
    /// Whether a post said that the channel is no more.
    is_gone: bool,
    pub(super) is_closed: bool,
}

/// What the bytes come to that the peer has written.
#[derive(Debug, PartialEq)]
pub(super) enum Due {
    Message(usize),
    Violation(Violation),
    Nothing,
}

impl Peer {
    /// A client of the exposed group.
    pub(super) fn client(house: &mut House) -> Self {
        let socket = house.connect();
        Self::new(house, Side::Server, socket)
    }

    /// A server, to which the exposed group has connected with this message.
    pub(super) fn server(house: &mut House, socket: Socket, hello: Message) -> Self {
        let channel = hello.channel();
        let mut peer = Self::new(house, Side::Client, socket);
        peer.channel = Some(channel);
        peer.posted.push(hello);
        peer
    }

    fn new(house: &mut House, ours: Side, socket: Socket) -> Self {
        house.peers += 1;
        Self {
            socket: Some(socket),
            number: house.peers,
            ours,
            channel: None,
            said: Said::nothing(ours),
            written: Vec::new(),
            heard_len: 0,
            posted: Vec::new(),
            returned: None,
            read: Vec::new(),
            was_full: false,
            has_left: false,
            saw_end: false,
            was_dismissed: false,
            is_gone: false,
            is_closed: false,
        }
    }

    /// Says this, as far as the stream takes it, and how much that was. A client's first message has the
    /// peer's number as its id, so that one knows who said it.
    pub(super) fn say(&mut self, bytes: &[u8]) -> usize {
        if self.has_left || self.written.len() + bytes.len() > SAID_MAX {
            return 0;
        }
        let Some(mut socket) = self.socket.as_ref() else {
            return 0;
        };
        let mut bytes = Cow::Borrowed(bytes);
        if self.ours == Side::Server && self.written.len() < Header::LEN {
            let bytes = bytes.to_mut();
            for (place, byte) in (4_usize..).zip(self.number.to_be_bytes()) {
                let place = place.checked_sub(self.written.len());
                if let Some(said) = place.and_then(|place| bytes.get_mut(place)) {
                    *said = byte;
                }
            }
        }
        match socket.write(&bytes) {
            Ok(count) => {
                self.written.extend_from_slice(&bytes[..count]);
                count
            }
            // It is full, or the engine has closed.
            Err(_) => 0,
        }
    }

    /// Reads at most so many bytes, if there are.
    pub(super) fn listen(&mut self, max: usize) {
        let Some(mut socket) = self.socket.as_ref() else {
            return;
        };
        let mut bytes = vec![0; max.min(1 << 16)];
        match socket.read(&mut bytes) {
            Ok(0) if !bytes.is_empty() => self.saw_end = true,
            Ok(count) => self.read.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => self.saw_end = true,
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) fn half_close(&mut self) {
        if let Some(socket) = &self.socket {
            // The engine may have closed before.
            let _ = socket.shutdown(std::net::Shutdown::Write);
            self.has_left = true;
        }
    }

    pub(super) fn leave(&mut self) {
        self.socket = None;
        self.has_left = true;
    }

    pub(super) fn has_socket(&self) -> bool {
        self.socket.is_some()
    }

    /// What the application has yet to hear.
    pub(super) fn due(&self) -> Due {
        let unheard = &self.written[self.heard_len..];
        let Some(head) = unheard.first_chunk() else {
            return Due::Nothing;
        };
        let header = match Header::from_bytes(head) {
            Ok(header) => header,
            Err(UnassignedOpCode(code)) => {
                return Due::Violation(Violation::UnassignedOpCode(code));
            }
        };
        match self.said.judge(&header, true) {
            Err(violation) => Due::Violation(violation),
            Ok(()) if header.frame_len() <= unheard.len() => Due::Message(header.frame_len()),
            Ok(()) => Due::Nothing,
        }
    }

    /// The application hears a message.
    pub(super) fn hear(&mut self, message: &Message) {
        let Due::Message(len) = self.due() else {
            panic!("{message:?} was not due, but {:?}", self.due());
        };
        let bytes = &self.written[self.heard_len..][..len];
        let frame = Frame::first(bytes).expect("assigned").expect("whole");
        let mut expected = Message::signal(ChannelNumber::UNASSIGNED);
        expected.fill(message.channel(), &frame);
        assert_eq!(*message, expected);
        self.heard_len += len;
        self.said.hear(message.op_code());
    }

    /// The application posts a message to this peer. It posts no answer to a bye that it has not heard.
    pub(super) fn post(&mut self, house: &House, message: Message) {
        let op_code = message.op_code();
        if self.is_closed || (op_code == OpCode::ByeResponse && !self.said.owes_answer()) {
            return;
        }
        let copy = message.clone();
        match house.exposed.post(message) {
            Ok(_) if op_code == OpCode::ByeSignal => self.was_dismissed = true,
            Ok(header) => {
                assert_eq!(header, copy.binary_header());
                assert!(self.said.may_post(op_code), "{copy:?}, {:?}", self.said);
                self.said.post(op_code);
                self.posted.push(copy);
            }
            Err(error) => {
                match error.refusal() {
                    Refusal::QueueFull { .. } => self.was_full = true,
                    // It has ended, and the application has not heard of it.
                    Refusal::InvalidChannelNumber(_) => self.is_gone = true,
                    Refusal::ChannelClosing(_) if self.was_dismissed => {}
                    refusal => {
                        let may = copy.check().is_ok() && self.said.may_post(op_code);
                        assert!(!may, "{copy:?}: {refusal}");
                    }
                }
                assert_eq!(error.into_message(), copy, "it comes back unchanged");
            }
        }
    }

    /// What comes back comes in order, and to the last one.
    pub(super) fn come_back(&mut self, message: &Message) {
        let place = match self.returned {
            Some((_, end)) => end,
            None => self
                .posted
                .iter()
                .position(|posted| posted.id() == message.id())
                .expect("it was posted"),
        };
        let mut posted = self.posted[place].clone();
        posted.set_status(message.status());
        assert_eq!(*message, posted);
        let start = self.returned.map_or(place, |(start, _)| start);
        self.returned = Some((start, place + 1));
    }

    pub(super) fn drained(&mut self) {
        assert!(self.was_full, "nothing was refused");
    }

    /// The last word on its channel: there must be a reason.
    pub(super) fn close(&mut self, reason: Reason) {
        assert!(!self.is_closed, "it is closed once");
        self.is_closed = true;
        let due = self.due();
        let status = reason.status();
        if let Some(violation) = reason.violation() {
            assert_eq!(status, Status::PROTOCOL_VIOLATION);
            // An answer that was there before our bye had left was none.
            let overtook = violation == Violation::UnexpectedByeResponse
                && self.said.has_said_bye()
                && matches!(self.written.get(self.heard_len + 2), Some(proto) if proto & 15 == 6);
            let is_due = due == Due::Violation(violation);
            assert!(is_due || overtook, "{reason}, but {due:?} was due");
        } else if self.was_dismissed || self.said.is_done() {
            assert_eq!(status, Status::CHANNEL_CLOSED);
        } else {
            assert!(self.has_left, "{reason}, and it has not gone away");
            assert_eq!(due, Due::Nothing, "the end beats data");
            let is_good_end = self.said.is_all_said() && status == Status::CHANNEL_CLOSED;
            assert!(
                is_good_end || status == Status::PEER_DISCONNECTED,
                "{reason}"
            );
        }
        if let Some((_, end)) = self.returned {
            assert_eq!(end, self.posted.len(), "the last ones did not come back");
        }
    }

    /// Whether the engine has done all that it must do without anybody doing more.
    pub(super) fn is_settled(&self, some_were_refused: bool) -> bool {
        if self.is_closed {
            return true;
        }
        if self.channel.is_none() {
            // Its connection was refused, or broke the rules, or it has not said hello.
            return match self.due() {
                Due::Nothing => true,
                Due::Message(_) => self.saw_end || (some_were_refused && !self.has_socket()),
                Due::Violation(_) => self.saw_end || !self.has_socket(),
            };
        }
        let must_close = self.has_left || self.was_dismissed || self.is_gone || self.said.is_done();
        !must_close && self.due() == Due::Nothing
    }

    /// Whether it was closed, before it said hello, for no fault of its own.
    pub(super) fn was_refused(&self) -> bool {
        let is_unknown = self.channel.is_none();
        is_unknown && self.saw_end && !self.has_left && !matches!(self.due(), Due::Violation(_))
    }

    /// What the peer has read is what was posted; if it has read to the end, to the last byte that did not
    /// come back.
    pub(super) fn look_at_what_it_read(&self) {
        let mut rest = &self.read[..];
        let mut count = 0;
        while let Some(frame) = Frame::first(rest).expect("the engine speaks well") {
            let posted = self.posted.get(count).expect("it was posted");
            assert_eq!(frame.header, posted.binary_header());
            assert_eq!(frame.payload, posted.payload());
            rest = &rest[frame.len()..];
            count += 1;
        }
        let left = self.returned.map_or(self.posted.len(), |(start, _)| start);
        assert!(count <= left, "a message arrived and came back");
        if self.is_closed && self.saw_end {
            assert_eq!(count, left, "a message did not arrive nor come back");
        }
    }
}
