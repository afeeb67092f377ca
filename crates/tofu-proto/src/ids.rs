//! The numbers that name things: channels and messages.
//!
//! Newtypes, so that a channel number is never taken for a message id, with the reserved values of
//! PROTOCOL.md section 1 in one place.

use core::fmt;

/// The number of a channel, unique within one engine while the channel is open.
///
/// The two ends of a connection have different numbers for it, and an application only ever sees
/// its own (PROTOCOL.md section 1).
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::ChannelNumber;
///
/// assert_eq!(ChannelNumber::new(7).to_string(), "7");
/// assert!(!ChannelNumber::UNASSIGNED.is_assigned());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelNumber(u16);

impl ChannelNumber {
    /// Not assigned yet: what a message that opens a channel carries before it is posted.
    pub const UNASSIGNED: Self = Self(0);
    /// Reserved to the engine; no channel ever has it.
    pub const ENGINE: Self = Self(u16::MAX);
    /// The smallest number of a channel.
    pub const MIN: Self = Self(1);
    /// The largest number of a channel.
    pub const MAX: Self = Self(u16::MAX - 1);

    /// The channel with this number.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::ChannelNumber;
    ///
    /// assert_eq!(ChannelNumber::new(7), ChannelNumber::from(7));
    /// ```
    #[inline]
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// The plain number.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::ChannelNumber;
    ///
    /// assert_eq!(ChannelNumber::MAX.get(), 65_534);
    /// ```
    #[inline]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Whether this is the number of a channel (1 to 65,534).
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::ChannelNumber;
    ///
    /// assert!(ChannelNumber::new(7).is_assigned());
    /// assert!(!ChannelNumber::UNASSIGNED.is_assigned());
    /// assert!(!ChannelNumber::ENGINE.is_assigned());
    /// ```
    #[inline]
    pub const fn is_assigned(self) -> bool {
        self.0 >= Self::MIN.0 && self.0 <= Self::MAX.0
    }
}

impl From<u16> for ChannelNumber {
    fn from(number: u16) -> Self {
        Self(number)
    }
}

impl fmt::Display for ChannelNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a message: chosen by the application or assigned by the engine, carried unchanged.
///
/// A response carries the id of its request. The engine never interprets ids.
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::{ChannelNumber, Message, MessageId};
///
/// let request = Message::request(ChannelNumber::new(3)).with_id(7);
/// let answer = request.reply()?;
/// assert_eq!(answer.id(), MessageId::new(7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u64);

impl MessageId {
    /// Asks the engine for the next id of its sequence when the message is posted (PROTOCOL.md section 1).
    pub const UNASSIGNED: Self = Self(0);

    /// The message id with this value.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::MessageId;
    ///
    /// assert_eq!(MessageId::new(7), MessageId::from(7));
    /// ```
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The plain number.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::MessageId;
    ///
    /// assert_eq!(MessageId::new(7).get(), 7);
    /// ```
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether an id was chosen (anything but 0).
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::MessageId;
    ///
    /// assert!(MessageId::new(7).is_assigned());
    /// assert!(!MessageId::UNASSIGNED.is_assigned());
    /// ```
    pub const fn is_assigned(self) -> bool {
        self.0 != 0
    }
}

impl From<u64> for MessageId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
