//! What a message says, and whether it may be posted.

use alloc::{borrow::Cow, string::String};

use super::{Message, Order};
use crate::{
    Address, ChannelNumber, Header, MessageId, OpCode, OpType, Origin, Refusal, Role, Status,
    wire::{CONNECT_TO, LISTEN_ON, TextHeaders},
};

/// Reading messages.
impl Message {
    /// What it means.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, OpCode};
    ///
    /// assert_eq!(Message::signal(ChannelNumber::new(3)).op_code(), OpCode::Signal);
    /// ```
    #[inline]
    pub fn op_code(&self) -> OpCode {
        self.content.op_code
    }

    /// Its channel, local to the engine of the application that reads this (PROTOCOL.md section 1).
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let channel = ChannelNumber::new(3);
    /// assert_eq!(Message::signal(channel).channel(), channel);
    /// let hello = Message::hello_request(&"tcp://localhost".parse()?);
    /// assert_eq!(hello.channel(), ChannelNumber::UNASSIGNED); // until it is posted
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn channel(&self) -> ChannelNumber {
        self.content.channel
    }

    /// Whether its sender waits for an answer: a HelloRequest, a Request, a ByeRequest (and a WelcomeRequest, which
    /// its engine answers).
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let channel = ChannelNumber::new(1);
    /// assert!(Message::request(channel).is_request());
    /// assert!(Message::bye_request(channel).is_request());
    /// assert!(!Message::signal(channel).is_request());
    /// ```
    #[inline]
    pub fn is_request(&self) -> bool {
        self.content.op_code.role() == Role::Request
    }

    /// Its correlation id.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, MessageId};
    ///
    /// let request = Message::request(ChannelNumber::new(3));
    /// assert_eq!(request.id(), MessageId::UNASSIGNED); // until it is posted
    /// assert_eq!(request.with_id(7).id(), MessageId::new(7));
    /// ```
    #[inline]
    pub fn id(&self) -> MessageId {
        self.content.id
    }

    /// Whether more messages of the same logical unit follow.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let part = Message::signal(ChannelNumber::new(3)).with_more(true);
    /// assert!(part.has_more());
    /// ```
    pub fn has_more(&self) -> bool {
        self.content.more
    }

    /// Why it came back; [`Status::SUCCESS`] on a message that did not.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, Status};
    ///
    /// let fresh = Message::request(ChannelNumber::new(3));
    /// assert_eq!(fresh.status(), Status::SUCCESS);
    /// ```
    pub fn status(&self) -> Status {
        self.content.status
    }

    /// Who made it: the engine only if it is a WelcomeResponse.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, Origin};
    ///
    /// assert_eq!(Message::signal(ChannelNumber::new(3)).origin(), Origin::Application);
    /// ```
    pub fn origin(&self) -> Origin {
        self.content.origin
    }

    /// The value of the first text header with this name, if there is one and it is UTF-8. Names are
    /// case-sensitive. For values that are bytes see [`TextHeaders::value`].
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let request = Message::request(ChannelNumber::new(3)).with_header("lang", "en");
    /// assert_eq!(request.header("lang"), Some("en"));
    /// assert_eq!(request.header("Lang"), None);
    /// ```
    pub fn header(&self, name: impl AsRef<[u8]>) -> Option<&str> {
        core::str::from_utf8(self.text_headers().value(name)?).ok()
    }

    /// The address in a welcome or a hello: where to listen or connect, and in the engine's WelcomeResponse what
    /// was really bound. `None` if there is none, or it is not one.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{Address, ChannelNumber, Message};
    ///
    /// let address: Address = "tcp://127.0.0.1:7099".parse().unwrap();
    /// assert_eq!(Message::hello_request(&address).address(), Some(address));
    /// assert_eq!(Message::request(ChannelNumber::new(1)).address(), None);
    /// ```
    pub fn address(&self) -> Option<Address> {
        let name = match self.content.op_code.op_type() {
            OpType::Welcome => LISTEN_ON,
            OpType::Hello => CONNECT_TO,
            OpType::Regular | OpType::Bye => return None,
        };
        Address::from_bytes(self.text_headers().value(name)?).ok()
    }

    /// All its text headers.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let request = Message::request(ChannelNumber::new(3))
    ///     .with_header("lang", "en")
    ///     .with_header("lang", "de");
    /// let values = request.text_headers().iter().filter_map(|header| header.value_str());
    /// assert_eq!(values.collect::<Vec<_>>(), ["en", "de"]);
    /// ```
    #[inline]
    pub fn text_headers(&self) -> TextHeaders<'_> {
        TextHeaders::new(&self.payload()[..self.content.text_headers_len])
    }

    /// Its body: 0 to 65,535 bytes, of which only the application knows the meaning.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let signal = Message::signal(ChannelNumber::new(3)).with_header("a", "b").with_body("hi");
    /// assert_eq!(signal.body(), b"hi");
    /// ```
    #[inline]
    pub fn body(&self) -> &[u8] {
        &self.payload()[self.content.text_headers_len..]
    }

    /// Its body as text; what is not UTF-8 in it is replaced by U+FFFD.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let signal = Message::signal(ChannelNumber::new(3)).with_body("tofu");
    /// assert_eq!(signal.body_text(), "tofu");
    /// ```
    pub fn body_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.body())
    }

    /// Its binary header.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message};
    ///
    /// let header = Message::signal(ChannelNumber::new(3)).with_body("hi").binary_header();
    /// assert_eq!((header.channel.get(), header.body_len), (3, 2));
    /// ```
    #[inline]
    pub fn binary_header(&self) -> Header {
        let content = &*self.content;
        Header {
            channel: content.channel,
            op_code: content.op_code,
            origin: content.origin,
            more: content.more,
            status: content.status,
            id: content.id,
            text_headers_len: saturated(content.text_headers_len),
            body_len: saturated(content.payload_len() - content.text_headers_len),
        }
    }

    /// The checks before posting that need nothing but the message, and what it orders
    /// (PROTOCOL.md sections 1 and 2).
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    ///
    /// # Example
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{ChannelNumber, Message, Refusal};
    ///
    /// let signal = Message::signal(ChannelNumber::new(3));
    /// assert!(signal.check().is_ok());
    /// let too_long = signal.with_body(vec![0; 65_536]);
    /// assert_eq!(too_long.check(), Err(Refusal::InvalidBodyLen(65_536)));
    /// ```
    #[expect(
        clippy::inline_always,
        reason = "called for every message: some 40 of 1,100 instructions"
    )]
    #[inline(always)]
    pub fn check(&self) -> Result<Order, Refusal> {
        let op_code = self.content.op_code;
        if op_code == OpCode::WelcomeResponse {
            return Err(Refusal::InvalidOpCode(op_code));
        }
        if op_code.role() == Role::Response && !self.content.id.is_assigned() {
            return Err(Refusal::InvalidMessageId(op_code));
        }
        if self.content.more && op_code.op_type() != OpType::Regular {
            return Err(Refusal::InvalidMoreUsage(op_code));
        }
        if let Some(defect) = &self.content.defect {
            return Err(Refusal::InvalidHeader((**defect).clone()));
        }
        if self.content.text_headers_len > usize::from(u16::MAX) {
            return Err(Refusal::InvalidHeadersLen(self.content.text_headers_len));
        }
        if self.body().len() > Self::BODY_MAX {
            return Err(Refusal::InvalidBodyLen(self.body().len()));
        }
        match op_code {
            OpCode::HelloRequest | OpCode::WelcomeRequest => {
                if self.content.channel != ChannelNumber::UNASSIGNED {
                    return Err(Refusal::NotAllowed {
                        op_code,
                        channel: self.content.channel,
                        why: "it opens a channel of its own: leave the channel number 0",
                    });
                }
                self.opening_order()
            }
            _ if !self.content.channel.is_assigned() => {
                Err(Refusal::InvalidChannelNumber(self.content.channel))
            }
            OpCode::ByeSignal => Ok(Order::Close),
            _ => Ok(Order::Send),
        }
    }

    fn opening_order(&self) -> Result<Order, Refusal> {
        let name = if self.content.op_code == OpCode::HelloRequest {
            CONNECT_TO
        } else {
            LISTEN_ON
        };
        let value = self
            .text_headers()
            .value(name)
            .ok_or(Refusal::WrongAddress(self.content.op_code))?;
        let address = Address::from_bytes(value).map_err(Refusal::InvalidAddress)?;
        if self.content.op_code == OpCode::WelcomeRequest {
            return Ok(Order::Listen(address));
        }
        address.check_connect().map_err(Refusal::InvalidAddress)?;
        Ok(Order::Connect(address))
    }
}

/// A message that is posted was checked before: its lengths fit.
fn saturated(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}
