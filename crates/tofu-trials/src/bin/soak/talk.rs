//! One channel of a client: what it has asked and not yet heard, and what would be wrong.

use std::collections::VecDeque;

use tofu::{Message, MessageId, OpCode, Reason};
use tofu_trials::Fallible;

use crate::server::SIGNALS;

/// Who may end the channel now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nobody.
    Asks,
    /// Either side was told to.
    Ends,
}

/// What one answer must be.
#[derive(Debug)]
struct Question {
    id: MessageId,
    len: usize,
    fill: u8,
    /// Signals that went before it on this channel.
    signals: u64,
}

#[derive(Debug)]
pub(crate) struct Talk {
    stage: Stage,
    /// Requests that it has still to make.
    left: u64,
    asked: VecDeque<Question>,
    signals: u64,
}

impl Talk {
    pub(crate) fn new(requests: u64) -> Self {
        Self {
            stage: Stage::Asks,
            left: requests,
            asked: VecDeque::new(),
            signals: 0,
        }
    }

    /// Whether nothing is under way, and it is time to say more.
    pub(crate) fn is_idle(&self) -> bool {
        self.stage == Stage::Asks && self.asked.is_empty()
    }

    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    pub(crate) fn ends(&mut self) {
        self.stage = Stage::Ends;
    }

    pub(crate) fn signaled(&mut self) {
        self.signals += 1;
    }

    /// A request was posted, with this body.
    pub(crate) fn asked(&mut self, id: MessageId, body: (usize, u8)) {
        self.left = self.left.saturating_sub(1);
        self.asked.push_back(Question {
            id,
            len: body.0,
            fill: body.1,
            signals: self.signals,
        });
    }

    /// An answer came, which must be the one that is due.
    pub(crate) fn hear(&mut self, answer: &Message) -> Fallible {
        let Some(question) = self.asked.pop_front() else {
            return Err(format!("nothing was asked, but {answer:?} came").into());
        };
        if (answer.op_code(), answer.id()) != (OpCode::Response, question.id) {
            return Err(format!("{question:?} is to be answered next, not {answer:?}").into());
        }
        let body = answer.body();
        if body.len() != question.len || body.iter().any(|byte| *byte != question.fill) {
            return Err(format!("{question:?} has the wrong answer {answer:?}").into());
        }
        let signals = answer.header(SIGNALS).map(str::parse);
        if signals != Some(Ok(question.signals)) {
            return Err(format!("{signals:?} signals arrived before {question:?}").into());
        }
        Ok(())
    }

    /// The channel ended, while the group was in use.
    pub(crate) fn ended(&self, reason: Reason) -> Fallible {
        if self.stage == Stage::Asks || !self.asked.is_empty() {
            return Err(format!("ended by {reason}: {self:?}").into());
        }
        Ok(())
    }

    /// The channel ended because its group was closed: if both sides said bye, with all answers.
    pub(crate) fn was_closed(&self, reason: Reason) -> Fallible {
        if reason.is_graceful() && !self.asked.is_empty() {
            return Err(format!("closed in peace, with answers missing: {self:?}").into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tofu::{ChannelNumber, Status};

    use super::*;

    fn answer(id: u64, body: &[u8], signals: u64) -> Message {
        let mut request = Message::request(ChannelNumber::new(1)).with_id(id);
        request = request.with_body(body);
        let reply = request.into_reply().expect("a request");
        reply.with_header(SIGNALS, signals.to_string())
    }

    /// Asked twice, with a signal between.
    fn talk() -> Talk {
        let id = |id| answer(id, b"", 0).id();
        let mut talk = Talk::new(2);
        talk.asked(id(5), (3, b'a'));
        talk.signaled();
        talk.asked(id(6), (0, b'b'));
        talk
    }

    #[test]
    fn all_answers_in_their_order_are_right() -> Fallible {
        let mut talk = talk();
        assert!(!talk.is_idle());
        talk.hear(&answer(5, b"aaa", 0))?;
        talk.hear(&answer(6, b"", 1))?;
        assert!(talk.is_idle());
        assert_eq!(talk.left(), 0);
        assert!(talk.ended(Status::CHANNEL_CLOSED.into()).is_err());
        talk.ends();
        talk.ended(Status::CHANNEL_CLOSED.into())?;
        talk.was_closed(Status::CHANNEL_CLOSED.into())
    }

    #[test]
    fn wrong_answers_are_seen() {
        for (wrong, what) in [
            (answer(6, b"", 1), "the second before the first"),
            (answer(5, b"aa", 0), "too short"),
            (answer(5, b"aab", 0), "damaged"),
            (answer(5, b"aaa", 1), "too many signals"),
        ] {
            assert!(talk().hear(&wrong).is_err(), "{what}");
        }
        let mut talk = talk();
        assert!(talk.hear(&answer(5, b"aaa", 0)).is_ok());
        assert!(talk.hear(&answer(6, b"", 0)).is_err(), "a signal is lost");
        assert!(talk.hear(&answer(7, b"", 1)).is_err(), "nothing was asked");
    }

    #[test]
    fn lost_answers_are_seen() {
        let mut talk = talk();
        talk.ends();
        assert!(talk.ended(Status::CHANNEL_CLOSED.into()).is_err());
        assert!(talk.was_closed(Status::CHANNEL_CLOSED.into()).is_err());
        assert!(talk.was_closed(Status::BYE_TIMEOUT.into()).is_ok());
    }
}
