//! Byte streams of any length over `more`, in bounded memory.
//!
//! A stream is a run of messages with the same channel, op code and message id: all but the last have the
//! `more` flag, and their bodies one after the other are its bytes. So a stream is one logical unit of the
//! protocol, and any peer can send or read one without this module. Other messages may come between those
//! of a stream, and other streams too, on the same channel.
//!
//! - The first message has the text headers that say what the stream is; they are the application's own.
//! - The last one may have some as well, for what is known only in the end, such as a hash. It may be empty.
//! - A sender that cannot go on, because its source failed, says so: the last message then has the text
//!   header [`ABORTED`] with the reason, and no body. What was received is worth nothing.
//! - A stream has no length in it: it ends with its last message, or it is incomplete.
//!
//! A [`Sender`] makes messages of what it reads, and a [`Receiver`] tells what a message or another event
//! means for its stream. Neither does any I/O of its own, waits, or holds the stream: a sender has at most one
//! part in memory besides what the engine [queues](crate::Options::queue_bytes), a receiver nothing at all.
//! For a group that has nothing else to do meanwhile, [`send_all`] and [`receive_all`] do the rest:
//!
//! ```
//! use std::{thread, time::Duration};
//! use tofu::{Engine, Event, Message, OpCode, Options, helpers::stream};
//!
//! const PATIENCE: Duration = Duration::from_secs(5);
//! let engine = Engine::new(Options::default())?;
//! let mut server = engine.group()?;
//! let welcome = Message::welcome_request(&"tcp://127.0.0.1:0".parse()?);
//! let address = server.call(welcome, PATIENCE)?.address().expect("bound");
//! let receiving = thread::spawn(move || {
//!     loop {
//!         match server.recv().expect("not shutting down") {
//!             Event::Message(first) if first.op_code() == OpCode::Signal => {
//!                 let mut copy = Vec::new();
//!                 let received = stream::receive_all(&mut server, first, &mut copy, PATIENCE);
//!                 return received.map(|it| (it.bytes, copy));
//!             }
//!             _ => {}
//!         }
//!     }
//! });
//!
//! let mut client = engine.group()?;
//! let channel = client.post(Message::hello_request(&address))?.channel;
//! let long = vec![7; 10_000_000]; // mostly a file
//! let first = Message::signal(channel).with_header("name", "sevens");
//! let sent = stream::send_all(&mut client, first, &long[..], PATIENCE)?;
//!
//! let (bytes, copy) = receiving.join().expect("no panic")?;
//! assert_eq!((sent.bytes, bytes), (10_000_000, 10_000_000));
//! assert!(copy == long);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod receive;
mod send;

use tofu_proto::{ChannelNumber, Message, MessageId, OpCode};

pub use self::{
    receive::{Cut, Part, ReceiveError, Received, Receiver, receive_all},
    send::{SendError, Sender, Sent, Step, send_all},
};

/// The text header of the last message of a stream that its sender could not complete; its value says why.
pub const ABORTED: &str = "stream-aborted";

/// Which stream a message is of: both peers choose ids, so the op code belongs to it.
///
/// ```
/// use tofu::{ChannelNumber, Message, helpers::stream::StreamId};
///
/// let part = Message::signal(ChannelNumber::new(3)).with_id(7_u64).with_more(true);
/// let next = part.clone().with_body("more").with_more(false);
/// assert_eq!(StreamId::of(&part), StreamId::of(&next));
/// assert_ne!(StreamId::of(&part), StreamId::of(&next.with_id(8_u64)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId {
    /// The channel, as this side numbers it.
    pub channel: ChannelNumber,
    /// What all of its messages are.
    pub op_code: OpCode,
    /// The id of all of its messages.
    pub id: MessageId,
}

impl StreamId {
    /// The stream that this message is of, if it is of one.
    pub fn of(message: &Message) -> Self {
        Self {
            channel: message.channel(),
            op_code: message.op_code(),
            id: message.id(),
        }
    }
}
