//! What an engine does with messages: their memory, and what only it may say in them.

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::mem;

use super::{Blank, Content, Home, Message, Owned};
use crate::{ChannelNumber, Frame, Header, MessageId, OpCode, Origin, Status};

/// For engines.
impl Message {
    /// An empty message whose memory goes to `home` when it is dropped. See [`Home`] for an example.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use tofu_proto::{Blank, Home, Message};
    /// # #[derive(Debug)]
    /// # struct Pool;
    /// # impl Home for Pool {
    /// #     fn take_back(&self, _: Blank) {}
    /// # }
    /// let message = Message::from_home(Blank::with_capacity(512), Arc::new(Pool));
    /// assert!(message.home().is_some() && message.body().is_empty());
    /// ```
    #[inline]
    pub fn from_home(memory: Blank, home: Arc<dyn Home>) -> Self {
        let mut message = Self::from_memory(memory);
        message.content.home = Some(home);
        message
    }

    /// An empty message of its own.
    ///
    /// ```
    /// use tofu_proto::{Blank, Message};
    ///
    /// let message = Message::from_memory(Blank::with_capacity(512));
    /// assert!(message.home().is_none() && message.body().is_empty());
    /// ```
    #[inline]
    pub fn from_memory(memory: Blank) -> Self {
        let content = memory.0.unwrap_or_else(|| Box::new(Content::empty()));
        Self {
            content: Owned(Some(content)),
        }
    }

    /// Says nothing any more of what it said, and becomes an empty message as [`new`](Self::new) makes it, with
    /// the memory that it has.
    ///
    /// ```
    /// use tofu_proto::{ChannelNumber, Message, MessageId, OpCode};
    ///
    /// let channel = ChannelNumber::new(3);
    /// let mut message = Message::signal(channel).with_header("k", "v").with_body("hi");
    /// message.renew(OpCode::Request, channel, MessageId::UNASSIGNED);
    /// assert_eq!(message, Message::request(channel));
    /// ```
    #[inline]
    pub fn renew(&mut self, op_code: OpCode, channel: ChannelNumber, id: MessageId) {
        let content = &mut *self.content;
        content.blank();
        content.op_code = op_code;
        content.channel = channel;
        content.id = id;
    }

    /// Bytes of text headers and body that fit into its memory.
    ///
    /// ```
    /// use tofu_proto::{Blank, Message};
    ///
    /// assert!(Message::from_memory(Blank::with_capacity(512)).capacity() >= 512);
    /// ```
    #[inline]
    pub fn capacity(&self) -> usize {
        self.content.memory.capacity()
    }

    /// Where its memory goes when it is dropped; `None` if that is its own.
    ///
    /// ```
    /// use tofu_proto::{ChannelNumber, Message};
    ///
    /// assert!(Message::signal(ChannelNumber::new(3)).home().is_none());
    /// ```
    #[inline]
    pub fn home(&self) -> Option<&dyn Home> {
        self.content.home.as_deref()
    }

    /// Its memory, for one who answers for its home: that is not told.
    ///
    /// ```
    /// use tofu_proto::{ChannelNumber, Message};
    ///
    /// let memory = Message::signal(ChannelNumber::new(3)).with_body([0; 100]).into_memory();
    /// assert!(memory.capacity() >= 100);
    /// assert!(Message::from_memory(memory).body().is_empty());
    /// ```
    #[inline]
    pub fn into_memory(mut self) -> Blank {
        self.content.home = None;
        self.content.blank();
        Blank(self.content.0.take())
    }

    /// Takes the message out of its pool's care: it no longer counts there, and keeps its memory.
    ///
    /// ```
    /// use tofu_proto::{ChannelNumber, Message};
    ///
    /// let mut message = Message::signal(ChannelNumber::new(3)).with_body("kept");
    /// message.leave_home();
    /// assert!(message.home().is_none());
    /// assert_eq!(message.body(), b"kept");
    /// ```
    pub fn leave_home(&mut self) {
        if let Some(home) = self.content.home.take() {
            home.take_back(Blank::default());
        }
    }

    /// Becomes what `frame` says, on the local channel `channel`. The status on the wire means
    /// nothing and is read as 0 (PROTOCOL.md section 1).
    ///
    /// ```
    /// use tofu_proto::{ChannelNumber, Frame, Header, Message, OpCode};
    ///
    /// let header = Header { body_len: 2, ..Header::new(OpCode::Signal) };
    /// let mut message = Message::request(ChannelNumber::UNASSIGNED);
    /// message.fill(ChannelNumber::new(3), &Frame { header, payload: b"hi" });
    /// assert_eq!(message, Message::signal(ChannelNumber::new(3)).with_body("hi"));
    /// ```
    #[inline]
    pub fn fill(&mut self, channel: ChannelNumber, frame: &Frame<'_>) {
        self.say(channel, &frame.header);
        let content = &mut *self.content;
        content.memory.clear();
        content.memory.extend_from_slice(frame.payload);
        content.skipped = 0;
    }

    /// The same for a frame that is alone in its memory: that becomes the message's, without a copy, and `memory`
    /// what the message had, empty.
    ///
    /// ```
    /// use tofu_proto::{ChannelNumber, Header, Message, OpCode};
    ///
    /// let header = Header { body_len: 2, ..Header::new(OpCode::Signal) };
    /// let mut memory = [&header.to_bytes()[..], b"hi"].concat();
    /// let mut message = Message::request(ChannelNumber::UNASSIGNED);
    /// message.adopt(ChannelNumber::new(3), &header, &mut memory);
    /// assert_eq!(message, Message::signal(ChannelNumber::new(3)).with_body("hi"));
    /// assert!(memory.is_empty());
    /// ```
    pub fn adopt(&mut self, channel: ChannelNumber, header: &Header, memory: &mut Vec<u8>) {
        debug_assert_eq!(memory.len(), header.frame_len(), "one frame");
        self.say(channel, header);
        let content = &mut *self.content;
        content.memory.clear();
        mem::swap(&mut content.memory, memory);
        content.skipped = Header::LEN;
    }

    /// Says what the header says.
    #[inline]
    fn say(&mut self, channel: ChannelNumber, header: &Header) {
        let content = &mut *self.content;
        content.op_code = header.op_code;
        content.origin = header.origin;
        content.more = header.more;
        content.status = Status::SUCCESS;
        content.channel = channel;
        content.id = header.id;
        content.text_headers_len = usize::from(header.text_headers_len);
        content.defect = None;
    }

    /// Clears what an application may not say, and assigns its numbers, before it is sent.
    ///
    /// ```
    /// use tofu_proto::{ChannelNumber, Message, MessageId};
    ///
    /// let mut hello = Message::hello_request(&"tcp://localhost".parse()?);
    /// hello.address_to(ChannelNumber::new(3), MessageId::new(7));
    /// assert_eq!((hello.channel().get(), hello.id().get()), (3, 7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn address_to(&mut self, channel: ChannelNumber, id: MessageId) {
        let content = &mut *self.content;
        content.origin = Origin::Application;
        content.status = Status::SUCCESS;
        content.channel = channel;
        content.id = id;
    }

    /// Marks why the message comes back.
    ///
    /// ```
    /// use tofu_proto::{ChannelNumber, Message, Status};
    ///
    /// let mut message = Message::signal(ChannelNumber::new(3));
    /// message.set_status(Status::PEER_DISCONNECTED);
    /// assert_eq!(message.status(), Status::PEER_DISCONNECTED);
    /// ```
    pub fn set_status(&mut self, status: Status) {
        self.content.status = status;
    }

    /// Marks who made the message: the engine, if it is its own word.
    ///
    /// ```
    /// use tofu_proto::{ChannelNumber, Message, OpCode, Origin};
    ///
    /// let mut answer = Message::new(OpCode::WelcomeResponse, ChannelNumber::new(3), 7);
    /// answer.set_origin(Origin::Engine);
    /// assert_eq!(answer.origin(), Origin::Engine);
    /// ```
    pub fn set_origin(&mut self, origin: Origin) {
        self.content.origin = origin;
    }

    /// Text headers and body, as they travel behind the binary header.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let signal = Message::signal(ChannelNumber::new(3)).with_header("k", "v").with_body("hi");
    /// assert_eq!(signal.payload(), b"k:v\r\nhi");
    /// ```
    #[inline]
    pub fn payload(&self) -> &[u8] {
        self.content.payload()
    }

    /// Bytes of its frame on the wire: 16 of the header, the text headers, and the body.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let signal = Message::signal(ChannelNumber::new(3)).with_header("k", "v").with_body("hi");
    /// assert_eq!(signal.frame_len(), 16 + 5 + 2);
    /// ```
    #[inline]
    pub fn frame_len(&self) -> usize {
        Header::LEN + self.content.payload_len()
    }
}
