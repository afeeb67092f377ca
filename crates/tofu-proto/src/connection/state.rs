//! What both sides of a connection have said, as far as it decides what may be said next.
//!
//! The diagram stands at [`State`]. Every legal move of it is one arm below; all else is the poster's error or the
//! peer's violation (PROTOCOL.md section 3).

use crate::{ChannelNumber, OpCode, Refusal, Violation};

/// Which side of the hello this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Connected, and said HelloRequest.
    Client,
    /// Was connected to.
    Server,
}

/// What has been said (PROTOCOL.md section 3).
///
/// ```text
///                  Greeting            (server: the client has not said hello)
///                      |
///                 HelloRequest in
///                      v
///      +--- bye out - Open - bye in ---+
///      v                               v
///   ByeSent ---- bye in --+      ByeReceived ---- answer out ----> Answered
///      |                  |            |
///  answer in              |         bye out                 (they close, or time does)
///      v                  v            v
///    Done                 +-> Crossed <+
///                             |     |
///  (we close)        answer out     answer in
///                             v     v
///                 CrossedAnswered  CrossedHeard
///                             |     |
///                     answer in     answer out
///                             v     v
///                             Parted            (both close, once the other has everything)
/// ```
///
/// "bye" is ByeRequest, "answer" is ByeResponse, "out" is posted here, "in" is received. See
/// [`Connection::state`](crate::Connection::state) for an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Server: the client has not said hello yet.
    Greeting,
    /// Both sides may say anything.
    Open,
    /// We said bye; they owe an answer.
    ByeSent,
    /// They said bye; our application owes an answer.
    ByeReceived,
    /// They said bye and we answered: closing is theirs.
    Answered,
    /// We said bye and they answered: closing is ours.
    Done,
    /// Both said bye; both owe an answer.
    Crossed,
    /// Both said bye; we answered, they owe an answer.
    CrossedAnswered,
    /// Both said bye; they answered, our application owes an answer.
    CrossedHeard,
    /// Both said bye and both answered.
    Parted,
}

impl State {
    #[cfg(test)]
    pub(super) const ALL: [Self; 10] = [
        Self::Greeting,
        Self::Open,
        Self::ByeSent,
        Self::ByeReceived,
        Self::Answered,
        Self::Done,
        Self::Crossed,
        Self::CrossedAnswered,
        Self::CrossedHeard,
        Self::Parted,
    ];

    /// The state after a frame with this op code came in. `asked` says whether our ByeRequest has
    /// left completely, `hello_answered` whether a HelloResponse was there before.
    #[inline]
    pub(super) fn receive(
        self,
        side: Side,
        op_code: OpCode,
        asked: bool,
        hello_answered: bool,
    ) -> Result<Self, Violation> {
        use OpCode::{
            ByeRequest, ByeResponse, HelloRequest, HelloResponse, Request, Response, Signal,
        };
        match (self, op_code) {
            (Self::Greeting, HelloRequest) => Ok(Self::Open),
            (Self::Greeting, op) => Err(Violation::HelloExpected(op)),
            (_, HelloRequest) => Err(Violation::UnexpectedHello(op_code)),
            (_, HelloResponse) if side == Side::Server || hello_answered => {
                Err(Violation::UnexpectedHello(op_code))
            }

            (Self::Open | Self::ByeSent, Request | Response | Signal | HelloResponse) => Ok(self),

            (Self::Open, ByeRequest) => Ok(Self::ByeReceived),
            (Self::ByeSent, ByeRequest) => Ok(Self::Crossed),

            (Self::ByeSent, ByeResponse) if asked => Ok(Self::Done),
            (Self::Crossed, ByeResponse) if asked => Ok(Self::CrossedHeard),
            (Self::CrossedAnswered, ByeResponse) if asked => Ok(Self::Parted),
            (_, ByeResponse) => Err(Violation::UnexpectedByeResponse),

            (_, op) => Err(Violation::AfterBye(op)),
        }
    }

    /// The state after the application posted a message with this op code.
    #[inline]
    pub(super) fn post(
        self,
        side: Side,
        op_code: OpCode,
        channel: ChannelNumber,
    ) -> Result<Self, Refusal> {
        use OpCode::{ByeRequest, ByeResponse, HelloResponse, Request, Response, Signal};
        let not_allowed = |why| Refusal::NotAllowed {
            op_code,
            channel,
            why,
        };
        match (self, op_code) {
            // The application has not heard of this channel.
            (Self::Greeting, _) => Err(Refusal::InvalidChannelNumber(channel)),

            (Self::Open | Self::ByeReceived, HelloResponse) if side == Side::Client => {
                Err(not_allowed("it is the server that answers a hello"))
            }
            (Self::Open | Self::ByeReceived, Request | Response | Signal | HelloResponse) => {
                Ok(self)
            }

            (Self::Open, ByeRequest) => Ok(Self::ByeSent),
            (Self::ByeReceived, ByeRequest) => Ok(Self::Crossed),

            (Self::ByeReceived, ByeResponse) => Ok(Self::Answered),
            (Self::Crossed, ByeResponse) => Ok(Self::CrossedAnswered),
            (Self::CrossedHeard, ByeResponse) => Ok(Self::Parted),
            (Self::Open, ByeResponse) => Err(not_allowed("the peer has not said ByeRequest")),

            _ => Err(Refusal::ChannelClosing(channel)),
        }
    }

    /// Whether a side has said bye and waits, so that the bye timeout runs.
    #[inline]
    pub(super) const fn is_leaving(self) -> bool {
        !matches!(self, Self::Greeting | Self::Open | Self::ByeReceived)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use OpCode::{
        ByeRequest as Bye, ByeResponse as Answer, HelloRequest, HelloResponse as Hello, Request,
        Response, Signal,
    };
    use State::{
        Answered, ByeReceived, ByeSent, Crossed, CrossedAnswered, CrossedHeard, Done, Greeting,
        Open, Parted,
    };

    type Moves = &'static [(OpCode, State)];

    /// The machine, written a second time. A row: the state; what may be posted and where it leads;
    /// what may come in and where it leads. What is not in the row must be refused.
    const TABLE: [(State, Moves, Moves); 10] = [
        (Greeting, &[], &[(HelloRequest, Open)]),
        (
            Open,
            &[
                (Request, Open),
                (Response, Open),
                (Signal, Open),
                (Hello, Open),
                (Bye, ByeSent),
            ],
            &[
                (Request, Open),
                (Response, Open),
                (Signal, Open),
                (Hello, Open),
                (Bye, ByeReceived),
            ],
        ),
        (
            ByeSent,
            &[],
            &[
                (Request, ByeSent),
                (Response, ByeSent),
                (Signal, ByeSent),
                (Hello, ByeSent),
                (Bye, Crossed),
                (Answer, Done),
            ],
        ),
        (
            ByeReceived,
            &[
                (Request, ByeReceived),
                (Response, ByeReceived),
                (Signal, ByeReceived),
                (Hello, ByeReceived),
                (Bye, Crossed),
                (Answer, Answered),
            ],
            &[],
        ),
        (Answered, &[], &[]),
        (Done, &[], &[]),
        (
            Crossed,
            &[(Answer, CrossedAnswered)],
            &[(Answer, CrossedHeard)],
        ),
        (CrossedAnswered, &[], &[(Answer, Parted)]),
        (CrossedHeard, &[(Answer, Parted)], &[]),
        (Parted, &[], &[]),
    ];

    #[test]
    fn every_op_code_in_every_state() {
        let find = |moves: Moves, op| moves.iter().find(|(o, _)| *o == op).map(|(_, to)| *to);
        for (state, posts, receives) in TABLE {
            for side in [Side::Client, Side::Server] {
                for op in OpCode::ALL {
                    let mut posted = find(posts, op);
                    let mut received = find(receives, op);
                    if op == Hello && side == Side::Client {
                        posted = None;
                    }
                    if op == Hello && side == Side::Server {
                        received = None;
                    }
                    let channel = ChannelNumber::new(1);
                    assert_eq!(
                        state.post(side, op, channel).ok(),
                        posted,
                        "{side:?} {state:?} posts {op}"
                    );
                    if op.travels() {
                        let came = state.receive(side, op, true, false).ok();
                        assert_eq!(came, received, "{side:?} {state:?} receives {op}");
                    }
                }
            }
        }
        assert_eq!(TABLE.map(|(state, _, _)| state), State::ALL);
    }

    #[test]
    fn an_answer_cannot_overtake_its_question() {
        for state in State::ALL {
            let came = state.receive(Side::Client, OpCode::ByeResponse, false, false);
            assert!(came.is_err(), "{state:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_stands_against_it() {
        let channel = ChannelNumber::new(4);
        let post = |state: State, side, op| state.post(side, op, channel).expect_err("refused");
        assert_eq!(
            post(ByeSent, Side::Client, Request),
            Refusal::ChannelClosing(channel)
        );
        assert_eq!(
            post(Greeting, Side::Server, Request),
            Refusal::InvalidChannelNumber(channel)
        );
        for (side, op) in [(Side::Client, Hello), (Side::Server, Answer)] {
            assert!(matches!(post(Open, side, op), Refusal::NotAllowed { .. }));
        }
    }
}
