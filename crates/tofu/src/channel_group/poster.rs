//! The end of a channel group that any number of threads may hold.

use std::{collections::VecDeque, sync::Arc};

use tofu_proto::{ChannelNumber, Header, Message, MessageId, NoReply, OpCode, PostError};

#[cfg(doc)]
use crate::ChannelGroup;
use crate::{Peer, blanks, group::Group};

/// Posts and notifies, from any thread.
///
/// It can be cloned and sent freely. It does not keep its group open: after that is dropped, posting is
/// refused, and the poster holds no more than the descriptors of the group's poller.
///
/// ```
#[doc = include_str!("../doc/pair.txt")]
/// let poster = client.poster();
/// std::thread::spawn(move || {
///     let _ = poster.post(Message::signal(channel).with_body("from elsewhere"));
/// });
/// let Event::Message(signal) = server.recv()? else { panic!() };
/// assert_eq!(signal.body(), b"from elsewhere");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Poster {
    group: Arc<Group>,
}

impl Poster {
    pub(super) fn new(group: Arc<Group>) -> Self {
        Self { group }
    }

    /// As [`ChannelGroup::post`].
    ///
    /// # Errors
    /// As [`ChannelGroup::post`].
    ///
    /// # Example
    /// ```
    #[doc = include_str!("../doc/pair.txt")]
    /// let poster = client.poster();
    /// poster.post(Message::signal(channel).with_body("hi"))?;
    /// let Event::Message(signal) = server.recv()? else { panic!() };
    /// assert_eq!(signal.body(), b"hi");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn post(&self, message: Message) -> Result<Header, PostError> {
        self.group.post(message)
    }

    /// As [`ChannelGroup::peer`]. After the group is dropped it still tells what is known.
    ///
    /// ```
    #[doc = include_str!("../doc/pair.txt")]
    /// let poster = server.poster();
    /// let peer = poster.peer(hello.channel()).ok_or("it has said hello")?;
    /// assert!(peer.address().is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn peer(&self, channel: ChannelNumber) -> Option<Peer> {
        self.group.peer(channel)
    }

    /// As [`ChannelGroup::request`].
    ///
    /// ```
    #[doc = include_str!("../doc/group.txt")]
    /// let (poster, channel) = (group.poster(), tofu::ChannelNumber::new(3));
    /// assert_eq!(poster.request(channel), Message::request(channel));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn request(&self, channel: ChannelNumber) -> Message {
        blanks::message(OpCode::Request, channel, MessageId::UNASSIGNED)
    }

    /// As [`ChannelGroup::signal`].
    ///
    /// ```
    #[doc = include_str!("../doc/group.txt")]
    /// let (poster, channel) = (group.poster(), tofu::ChannelNumber::new(3));
    /// assert_eq!(poster.signal(channel), Message::signal(channel));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn signal(&self, channel: ChannelNumber) -> Message {
        blanks::message(OpCode::Signal, channel, MessageId::UNASSIGNED)
    }

    /// As [`ChannelGroup::reply`].
    ///
    /// # Errors
    /// As [`ChannelGroup::reply`].
    ///
    /// # Example
    /// ```
    #[doc = include_str!("../doc/group.txt")]
    /// let request = Message::request(tofu::ChannelNumber::new(3)).with_id(7);
    /// assert_eq!(group.poster().reply(&request)?, request.reply()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn reply(&self, message: &Message) -> Result<Message, NoReply> {
        blanks::reply(message)
    }

    /// As [`ChannelGroup::post_many`].
    ///
    /// # Errors
    /// As [`ChannelGroup::post_many`].
    ///
    /// # Example
    /// ```
    #[doc = include_str!("../doc/pair.txt")]
    /// use std::collections::VecDeque;
    ///
    /// let poster = client.poster();
    /// let mut signals: VecDeque<_> = (0..3).map(|_| poster.signal(channel)).collect();
    /// poster.post_many(&mut signals)?;
    /// assert!(signals.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn post_many(&self, messages: &mut VecDeque<Message>) -> Result<(), PostError> {
        self.group.post_many(messages)
    }

    /// As [`ChannelGroup::notify`].
    ///
    /// ```
    #[doc = include_str!("../doc/group.txt")]
    /// group.poster().notify(None);
    /// assert!(matches!(group.recv()?, Event::Notified(None)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn notify(&self, message: Option<Message>) {
        self.group.notify(message);
    }
}
