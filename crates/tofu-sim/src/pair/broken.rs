//! What a run can find: the promises that can be broken.

use std::{fmt, time::Duration};

use tofu_proto::{Message, OpCode, Refusal, Side, Status, Violation};

use super::Both;

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Broken {
    /// What was delivered is not what was posted next.
    Altered {
        /// Who posted.
        from: Side,
        /// The message's place among all that were posted.
        index: usize,
        /// What was posted, as it should arrive.
        posted: Box<Message>,
        /// What arrived.
        delivered: Box<Message>,
    },
    /// More was delivered than was posted.
    Invented(Side, Box<Message>),
    /// All bytes of a message were read, and it was not delivered (or it was before they were).
    NotDelivered {
        /// Who posted.
        from: Side,
        /// Messages delivered.
        delivered: usize,
        /// Messages whose bytes were all read.
        read: usize,
    },
    /// What came back is not what had not been sent.
    WrongReturn {
        /// Who posted.
        from: Side,
        /// What had to come back, if anything had to.
        expected: Option<Box<Message>>,
        /// What came back, if anything did.
        returned: Option<Box<Message>>,
    },
    /// Bytes appeared in the stream, or disappeared without a reset.
    Bytes {
        /// Who wrote.
        from: Side,
        /// Bytes that were written.
        written: usize,
        /// Bytes that were read, thrown away or are under way.
        accounted: usize,
    },
    /// Messages are gone although nothing was thrown away.
    Vanished(Side, usize),
    /// What may be posted was refused.
    Refused(Side, OpCode, Refusal),
    /// What may not be posted was taken.
    Taken(Side, OpCode),
    /// A refused message came back changed.
    Mangled(Side, OpCode),
    /// A well-behaved peer was blamed.
    Violation(Side, Violation),
    /// A channel closed for a reason that there was not.
    WrongReason(Side, Status, &'static str),
    /// Something happened on a channel after its end.
    AfterClose(Side),
    /// A conversation in which nothing went wrong did not end well.
    NotGraceful(Side, Option<Status>),
    /// A conversation in which nothing went wrong took as long as if it had waited for a timeout.
    Slow(Duration),
    /// Messages of a pool never came back.
    PoolLeaks(Side, usize),
    /// Nothing will ever happen again, and the channels are not closed.
    Stalled(Both<Option<Status>>),
    /// The run takes for ever.
    Endless,
    /// Something panicked, and said this.
    Panicked(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(side, op_code, why) => {
                write!(f, "{side:?} may post {op_code}, and was refused: {why}")
            }
            Self::Taken(side, op_code) => write!(f, "{side:?} may not post {op_code}, and could"),
            Self::Mangled(side, op_code) => {
                write!(f, "{side:?}'s {op_code} was refused, and came back changed")
            }
            Self::Violation(side, violation) => {
                write!(
                    f,
                    "{side:?} blames a peer that did nothing wrong: {violation}"
                )
            }
            Self::WrongReason(side, status, why) => {
                write!(f, "{side:?} closed with {status}, but {why}")
            }
            Self::AfterClose(side) => write!(f, "something happened to {side:?} after its close"),
            Self::NotGraceful(side, status) => {
                write!(f, "nothing went wrong, and {side:?} ended with {status:?}")
            }
            Self::Slow(elapsed) => write!(f, "nothing went wrong, and it took {elapsed:?}"),
            Self::PoolLeaks(side, count) => {
                write!(f, "{count} messages of {side:?}'s pool never came back")
            }
            Self::Stalled(closed) => write!(f, "nothing will ever happen again: {closed:?}"),
            Self::Endless => f.write_str("the run does not end"),
            Self::Panicked(said) => write!(f, "it panicked: {said}"),
            lost => lost.fmt_lost(f),
        }
    }
}

impl Broken {
    /// What became of messages and bytes that should not have.
    fn fmt_lost(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Altered {
                from,
                index,
                posted,
                delivered,
            } => write!(
                f,
                "{from:?}'s message {index} arrived altered, or another in its place: \
                 posted {posted:?}, delivered {delivered:?}"
            ),
            Self::Invented(from, message) => write!(f, "{from:?} never posted {message:?}"),
            Self::NotDelivered {
                from,
                delivered,
                read,
            } => write!(
                f,
                "of {from:?}'s messages {read} were read, and {delivered} delivered"
            ),
            Self::WrongReturn {
                from,
                expected,
                returned,
            } => {
                write!(
                    f,
                    "{from:?} should get back {expected:?}, and gets {returned:?}"
                )
            }
            Self::Bytes {
                from,
                written,
                accounted,
            } => write!(
                f,
                "{from:?} wrote {written} bytes, and {accounted} were read, thrown away or under way"
            ),
            Self::Vanished(from, count) => {
                write!(
                    f,
                    "{count} of {from:?}'s messages are gone, and nothing was thrown away"
                )
            }
            other => write!(f, "{other:?}"),
        }
    }
}
