//! Memory of messages that a thread has posted, for those that it will post.
//!
//! A posted message has done its work when it has left, or when its bytes were copied behind others. The
//! thread that saw to that keeps its memory, a few pieces at most, and makes the next message of it: so a
//! thread that posts again and again allocates nothing, and shares nothing with others. These are messages of the application's own making, and
//! no pool counts them.

use std::cell::RefCell;

use tofu_proto::{ChannelNumber, Message, MessageId, NoReply, OpCode};

/// Pieces that a thread keeps.
const KEPT_MAX: usize = 16;
/// Bytes of one of them at most: those of a message with a full body and some text headers.
const CAPACITY_MAX: usize = 68 * 1024;

thread_local! {
    static KEPT: RefCell<Vec<Message>> = const { RefCell::new(Vec::new()) };
}

/// Keeps a message for its memory, unless that belongs to a pool.
#[inline]
pub(crate) fn keep(message: Message) {
    if message.home().is_some() || message.capacity() > CAPACITY_MAX {
        return;
    }
    // A thread that is ending keeps nothing any more.
    let _ = KEPT.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.len() < KEPT_MAX {
            kept.push(message);
        }
    });
}

/// An empty message, of memory that was kept if there is some.
#[inline]
pub(crate) fn message(op_code: OpCode, channel: ChannelNumber, id: MessageId) -> Message {
    let kept = KEPT.try_with(|kept| kept.borrow_mut().pop()).ok().flatten();
    match kept {
        Some(mut message) => {
            message.renew(op_code, channel, id);
            message
        }
        None => Message::new(op_code, channel, id),
    }
}

/// The answer to a message, empty, as [`Message::reply`] makes it.
#[inline]
pub(crate) fn reply(to: &Message) -> Result<Message, NoReply> {
    let echo = to.op_code().echo().ok_or(NoReply(to.op_code()))?;
    Ok(message(echo, to.channel(), to.id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: ChannelNumber = ChannelNumber::new(7);

    #[test]
    fn what_was_posted_is_used_again_and_says_nothing_of_before() {
        let first = message(OpCode::Signal, CHANNEL, MessageId::new(9))
            .with_header("a", "b")
            .with_more(true)
            .with_body([1; 1000]);
        let memory = first.payload().as_ptr();
        keep(first);
        let again = message(OpCode::Request, CHANNEL, MessageId::UNASSIGNED);
        assert_eq!(again, Message::request(CHANNEL));
        assert_eq!(again.with_body([2; 10]).payload().as_ptr(), memory);
    }

    #[test]
    fn little_is_kept() {
        let large = || {
            message(OpCode::Signal, CHANNEL, MessageId::UNASSIGNED)
                .with_body(vec![0; CAPACITY_MAX + 1])
        };
        keep(large());
        assert_eq!(KEPT.with_borrow(Vec::len), 0);
        for _ in 0..2 * KEPT_MAX {
            keep(Message::signal(CHANNEL));
        }
        assert_eq!(KEPT.with_borrow(Vec::len), KEPT_MAX);
    }
}
