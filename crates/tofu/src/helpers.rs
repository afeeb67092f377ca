//! Small state machines that many applications would write for themselves: take them or leave them.
//!
//! | helper | keeps track of |
//! | --- | --- |
//! | [`Calls`] | many requests under way at once, each with its deadline and what you want to remember of it |
//! | [`Reconnect`] | one connection that is to be there: connects, waits, connects again, and says what came back |
//! | [`Heartbeat`] | peers that have fallen silent |
//! | [`stream`] | a run of bytes of any length, sent and received in parts |
//!
//! The first three do no I/O, own no thread and read no clock. Yours is the loop: it gives a helper what
//! [`recv_timeout`](crate::ChannelGroup::recv_timeout) returns and the time, and is told what became of it. What a
//! helper has to post, it posts with what you lend it, which is anything that can [`Post`]: a group, a poster, a
//! simulator's group.
//!
//! Their methods are the same ones:
//!
//! * `handle` is told of an event, and gives it back unless it is the helper's own business;
//! * `poll` tells what has happened, one thing after the other, until it says `None`
//!   ([`Heartbeat`] has `idle` in its place, because it may only be asked when nothing is left to read);
//! * `next_deadline` is when to poll again if nothing happens before: [`until`] makes a timeout of it.
//!
//! Several of them share a loop. Each is told of each event that the one before gave back: first [`Heartbeat`], then
//! [`Calls`], then [`Reconnect`], which keeps all that is about its channel's end.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use tofu::{Engine, Event, Message, Options, helpers::{self, Calls, Link, Outcome, Reconnect}};
//!
//! # fn serve(engine: &Engine) -> Result<tofu::Address, Box<dyn std::error::Error>> {
//! #     let mut group = engine.group()?;
//! #     let welcome = Message::welcome_request(&"tcp://127.0.0.1:0".parse()?);
//! #     let address = group.call(welcome, Duration::from_secs(5))?.address().ok_or("no address")?;
//! #     std::thread::spawn(move || {
//! #         while let Ok(event) = group.recv() {
//! #             if let Event::Message(message) = event && let Ok(answer) = message.into_reply() {
//! #                 let _ = group.post(answer);
//! #             }
//! #         }
//! #     });
//! #     Ok(address)
//! # }
//! # let engine = Engine::new(Options::default())?;
//! # let address = serve(&engine)?;
//! let mut group = engine.group()?;
//! let mut calls = Calls::new();
//! let mut link = Reconnect::new(Message::hello_request(&address))?;
//! let mut answers = 0;
//! loop {
//!     while let Some(change) = link.poll(Instant::now(), &group) {
//!         match change {
//!             Link::Up { channel, .. } => {
//!                 let deadline = Instant::now() + Duration::from_secs(5);
//!                 for question in ["one", "two", "three"] {
//!                     let request = Message::request(channel).with_body(question);
//!                     calls.post(&group, request, deadline, question)?;
//!                 }
//!             }
//!             Link::Down { reason, retry_in, .. } => println!("{reason}; again in {retry_in:?}"),
//!             Link::Ended { reason, .. } => return Err(reason.into()),
//!         }
//!     }
//!     while let Some(outcome) = calls.poll(Instant::now()) {
//!         match outcome {
//!             Outcome::Answered { context, message, .. } => {
//!                 assert_eq!(message.body(), context.as_bytes());
//!                 answers += 1;
//!             }
//!             other => println!("{other:?}"),
//!         }
//!     }
//!     if answers == 3 {
//!         break;
//!     }
//!     let deadlines = [link.next_deadline(), calls.next_deadline()];
//!     let patience = helpers::until(deadlines.into_iter().flatten().min(), Instant::now());
//!     if let Some(event) = group.recv_timeout(patience)?
//!         && let Some(event) = calls.handle(event)
//!         && let Some(event) = link.handle(event, Instant::now())
//!     {
//!         println!("{event:?}");
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod calls;
mod heartbeat;
mod reconnect;
pub mod stream;

use std::time::{Duration, Instant};

use tofu_proto::{Header, Message, PostError};

pub use self::{
    calls::{CallId, Calls, Outcome},
    heartbeat::{Dead, Heartbeat},
    reconnect::{Link, Reconnect},
};
use crate::{ChannelGroup, Poster};

/// What can post a message: [`ChannelGroup`], [`Poster`], and whatever stands in for them in a test.
///
/// Helpers take it by value, so that `&group` is as good as `&mut group`.
///
/// ```
/// use tofu::{ChannelNumber, Header, Message, PostError, helpers::Post};
///
/// /// Posts nothing, and remembers it.
/// struct Recorder(Vec<Message>);
///
/// impl Post for Recorder {
///     fn post(&mut self, message: Message) -> Result<Header, PostError> {
///         let header = message.binary_header();
///         self.0.push(message);
///         Ok(header)
///     }
/// }
///
/// fn greet(mut post: impl Post, channel: ChannelNumber) -> Result<Header, PostError> {
///     post.post(Message::signal(channel).with_body("hello"))
/// }
///
/// let mut recorder = Recorder(Vec::new());
/// greet(&mut recorder, ChannelNumber::new(1))?;
/// assert_eq!(recorder.0[0].body(), b"hello");
/// # Ok::<(), PostError>(())
/// ```
pub trait Post {
    /// As [`ChannelGroup::post`].
    ///
    /// # Errors
    /// As [`ChannelGroup::post`].
    fn post(&mut self, message: Message) -> Result<Header, PostError>;
}

impl Post for ChannelGroup {
    fn post(&mut self, message: Message) -> Result<Header, PostError> {
        Self::post(self, message)
    }
}

impl Post for &ChannelGroup {
    fn post(&mut self, message: Message) -> Result<Header, PostError> {
        ChannelGroup::post(self, message)
    }
}

impl Post for Poster {
    fn post(&mut self, message: Message) -> Result<Header, PostError> {
        Self::post(self, message)
    }
}

impl Post for &Poster {
    fn post(&mut self, message: Message) -> Result<Header, PostError> {
        Poster::post(self, message)
    }
}

impl<P: Post + ?Sized> Post for &mut P {
    fn post(&mut self, message: Message) -> Result<Header, PostError> {
        (**self).post(message)
    }
}

/// The time from `now` to a deadline, for [`recv_timeout`](ChannelGroup::recv_timeout): zero if it has passed, and
/// for none as long as there is.
///
/// ```
/// use std::time::{Duration, Instant};
/// use tofu::helpers::until;
///
/// let now = Instant::now();
/// let second = Duration::from_secs(1);
/// assert_eq!(until(Some(now + second), now), second);
/// assert_eq!(until(Some(now), now + second), Duration::ZERO);
/// assert_eq!(until(None, now), Duration::MAX);
/// ```
pub fn until(deadline: Option<Instant>, now: Instant) -> Duration {
    deadline.map_or(Duration::MAX, |it| it.saturating_duration_since(now))
}

/// What unit tests post with: it takes everything, and gives out numbers as an engine does.
#[cfg(test)]
pub(crate) mod recorder {
    use std::collections::VecDeque;

    use tofu_proto::{ChannelNumber, Header, Message, MessageId, OpType, PostError, Refusal};

    use super::Post;

    #[derive(Default)]
    pub(crate) struct Recorder {
        pub(crate) posted: Vec<Message>,
        /// What the next messages are refused for.
        pub(crate) refusals: VecDeque<Refusal>,
        ids: u64,
        channels: u16,
    }

    impl Recorder {
        /// The last message that was posted.
        pub(crate) fn last(&self) -> &Message {
            self.posted.last().expect("something was posted")
        }
    }

    impl Post for Recorder {
        fn post(&mut self, mut message: Message) -> Result<Header, PostError> {
            if let Err(refusal) = message.check() {
                return Err(PostError::new(message, refusal));
            }
            if let Some(refusal) = self.refusals.pop_front() {
                return Err(PostError::new(message, refusal));
            }
            let mut channel = message.channel();
            if matches!(message.op_code().op_type(), OpType::Hello | OpType::Welcome)
                && !channel.is_assigned()
            {
                self.channels += 1;
                channel = ChannelNumber::new(100 + self.channels);
            }
            let mut id = message.id();
            if !id.is_assigned() {
                self.ids += 1;
                id = MessageId::new(1_000 + self.ids);
            }
            message.address_to(channel, id);
            let header = message.binary_header();
            self.posted.push(message);
            Ok(header)
        }
    }
}
