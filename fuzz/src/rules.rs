//! What may be said on a connection, written a second time: PROTOCOL.md sections 1 and 3 as plain rules
//! about what was said before, where the library has a table of states. The two must always agree.

use tofu_proto::{Header, OpCode, OpType, Origin, Role, Side, Violation};

/// What was said on a connection, as one side of it knows.
#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "the point is not to have states"
)]
pub struct Said {
    side: Side,
    hello: bool,
    hello_answered: bool,
    our_bye: bool,
    our_answer: bool,
    their_bye: bool,
    their_answer: bool,
}

impl Said {
    /// A client has said hello, a server has heard nothing.
    pub fn nothing(side: Side) -> Self {
        Self {
            side,
            hello: side == Side::Client,
            hello_answered: false,
            our_bye: false,
            our_answer: false,
            their_bye: false,
            their_answer: false,
        }
    }

    /// Whether the application may say this now.
    pub fn may_post(self, op_code: OpCode) -> bool {
        let may_speak = self.hello && !self.our_bye && !self.our_answer;
        match op_code {
            OpCode::Request | OpCode::Response | OpCode::Signal | OpCode::ByeRequest => may_speak,
            OpCode::HelloResponse => may_speak && self.side == Side::Server && !self.hello_answered,
            OpCode::ByeResponse => self.their_bye && !self.our_answer,
            _ => false,
        }
    }

    /// The application said it.
    pub fn post(&mut self, op_code: OpCode) {
        match op_code {
            OpCode::HelloResponse => self.hello_answered = true,
            OpCode::ByeRequest => self.our_bye = true,
            OpCode::ByeResponse => self.our_answer = true,
            _ => {}
        }
    }

    /// What is wrong with a frame that begins so, if anything is. `asked`: our bye has left.
    pub fn judge(self, header: &Header, asked: bool) -> Result<(), Violation> {
        let op = header.op_code;
        let is_for_engines = matches!(
            op,
            OpCode::ByeSignal | OpCode::WelcomeRequest | OpCode::WelcomeResponse
        );
        let is_hello_out_of_place = match op {
            OpCode::HelloRequest => self.hello,
            OpCode::HelloResponse => {
                self.hello && (self.side == Side::Server || self.hello_answered)
            }
            _ => false,
        };
        let answers = self.our_bye && asked && !self.their_answer;
        let faults = [
            (is_for_engines, Violation::LocalOpCode(op)),
            (header.origin == Origin::Engine, Violation::EngineOrigin(op)),
            (
                op.role() == Role::Response && header.id.get() == 0,
                Violation::ResponseWithoutId(op),
            ),
            (
                header.more && op.op_type() != OpType::Regular,
                Violation::MoreNotAllowed(op),
            ),
            (
                !self.hello && op != OpCode::HelloRequest,
                Violation::HelloExpected(op),
            ),
            (is_hello_out_of_place, Violation::UnexpectedHello(op)),
            (
                op == OpCode::ByeResponse && !answers,
                Violation::UnexpectedByeResponse,
            ),
            (
                op != OpCode::ByeResponse && (self.their_bye || self.their_answer),
                Violation::AfterBye(op),
            ),
        ];
        match faults.into_iter().find(|(is_so, _)| *is_so) {
            Some((_, violation)) => Err(violation),
            None => Ok(()),
        }
    }

    /// The peer said it, and it was due.
    pub fn hear(&mut self, op_code: OpCode) {
        match op_code {
            OpCode::HelloRequest => self.hello = true,
            OpCode::HelloResponse => self.hello_answered = true,
            OpCode::ByeRequest => self.their_bye = true,
            OpCode::ByeResponse => self.their_answer = true,
            _ => {}
        }
    }

    /// Whether the application knows of the connection.
    pub fn is_known(self) -> bool {
        self.hello
    }

    /// Whether our bye is under way or done.
    pub fn has_said_bye(self) -> bool {
        self.our_bye
    }

    /// Whether the application owes the answer to a bye.
    pub fn owes_answer(self) -> bool {
        self.their_bye && !self.our_answer
    }

    /// Whether the bye has a timeout: we wait for the peer.
    pub fn is_leaving(self) -> bool {
        self.our_bye || self.our_answer
    }

    /// Whether our bye was answered, and closing is ours.
    pub fn is_done(self) -> bool {
        self.our_bye && self.their_answer && !self.their_bye
    }

    /// Whether byes crossed, and both were answered.
    pub fn has_parted(self) -> bool {
        self.our_bye && self.our_answer && self.their_bye && self.their_answer
    }

    /// Whether nothing is left to be said, and closing is the peer's.
    pub fn is_all_said(self) -> bool {
        self.our_answer && (!self.our_bye || self.their_answer)
    }
}
