//! The 16 bytes in front of every message (PROTOCOL.md section 1).

use core::fmt;

use crate::{ChannelNumber, MessageId, OpCode, Status};

const OP_CODE_BITS: u8 = 0b0000_1111;
const ORIGIN_BIT: u8 = 0b0001_0000;
const MORE_BIT: u8 = 0b0010_0000;

/// Who made a message (PROTOCOL.md section 1).
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::{Header, OpCode, Origin};
///
/// assert_eq!(Header::new(OpCode::Signal).origin, Origin::Application);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An application. The only origin that is legal on the wire.
    #[default]
    Application,
    /// The application's own engine.
    Engine,
}

/// The binary header of a message.
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::{ChannelNumber, Header, MessageId, OpCode};
///
/// let header = Header {
///     channel: ChannelNumber::new(64_212),
///     id: MessageId::new(3),
///     body_len: 1,
///     ..Header::new(OpCode::Signal)
/// };
/// let bytes = header.to_bytes();
/// assert_eq!(bytes, *b"\xfa\xd4\x02\0\0\0\0\0\0\0\0\x03\0\0\0\x01");
/// assert_eq!(Header::from_bytes(&bytes), Ok(header));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The channel: local to the engine whose application sees this header.
    pub channel: ChannelNumber,
    /// What the message means.
    pub op_code: OpCode,
    /// Who made it.
    pub origin: Origin,
    /// Whether more messages of the same logical unit follow.
    pub more: bool,
    /// Why a message came back; [`Status::SUCCESS`] on all others.
    pub status: Status,
    /// The correlation id.
    pub id: MessageId,
    /// Bytes of text headers behind the header.
    pub text_headers_len: u16,
    /// Bytes of body behind the text headers.
    pub body_len: u16,
}

/// A proto byte whose op code (10 to 15) means nothing.
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::{Header, UnassignedOpCode};
///
/// let mut bytes = [0; Header::LEN];
/// bytes[2] = 12;
/// assert_eq!(Header::from_bytes(&bytes), Err(UnassignedOpCode(12)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnassignedOpCode(pub u8);

impl Header {
    /// Bytes of a header on the wire.
    pub const LEN: usize = 16;

    /// A header with this op code and everything else 0.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{Header, OpCode};
    ///
    /// let header = Header::new(OpCode::Signal);
    /// assert_eq!((header.op_code, header.frame_len()), (OpCode::Signal, 16));
    /// ```
    pub const fn new(op_code: OpCode) -> Self {
        Self {
            channel: ChannelNumber::UNASSIGNED,
            op_code,
            origin: Origin::Application,
            more: false,
            status: Status::SUCCESS,
            id: MessageId::UNASSIGNED,
            text_headers_len: 0,
            body_len: 0,
        }
    }

    /// Reads a header. The internal bits are ignored.
    ///
    /// # Errors
    /// An op code of 10 to 15, which is not assigned.
    ///
    /// # Example
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{Header, OpCode};
    ///
    /// let header = Header::from_bytes(b"\0\x03\x02\0\0\0\0\0\0\0\0\x07\0\0\0\x02")?;
    /// assert_eq!((header.op_code, header.id.get(), header.body_len), (OpCode::Signal, 7, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Result<Self, UnassignedOpCode> {
        let [
            c0,
            c1,
            proto,
            status,
            i0,
            i1,
            i2,
            i3,
            i4,
            i5,
            i6,
            i7,
            t0,
            t1,
            b0,
            b1,
        ] = *bytes;
        let code = proto & OP_CODE_BITS;
        Ok(Self {
            channel: ChannelNumber::new(u16::from_be_bytes([c0, c1])),
            op_code: OpCode::from_code(code).ok_or(UnassignedOpCode(code))?,
            origin: if proto & ORIGIN_BIT == 0 {
                Origin::Application
            } else {
                Origin::Engine
            },
            more: proto & MORE_BIT != 0,
            status: Status::from_code(status),
            id: MessageId::new(u64::from_be_bytes([i0, i1, i2, i3, i4, i5, i6, i7])),
            text_headers_len: u16::from_be_bytes([t0, t1]),
            body_len: u16::from_be_bytes([b0, b1]),
        })
    }

    /// Writes the header. The internal bits are 0.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{Header, OpCode};
    ///
    /// let header = Header { more: true, ..Header::new(OpCode::Signal) };
    /// assert_eq!(header.to_bytes()[2], 0b0010_0010);
    /// ```
    #[inline]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let [c0, c1] = self.channel.get().to_be_bytes();
        let [i0, i1, i2, i3, i4, i5, i6, i7] = self.id.get().to_be_bytes();
        let [t0, t1] = self.text_headers_len.to_be_bytes();
        let [b0, b1] = self.body_len.to_be_bytes();
        let origin = match self.origin {
            Origin::Application => 0,
            Origin::Engine => ORIGIN_BIT,
        };
        let more = if self.more { MORE_BIT } else { 0 };
        let proto = self.op_code.code() | origin | more;
        let status = self.status.code();
        [
            c0, c1, proto, status, i0, i1, i2, i3, i4, i5, i6, i7, t0, t1, b0, b1,
        ]
    }

    /// Bytes of text headers and body together.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{Header, OpCode};
    ///
    /// let header = Header { text_headers_len: 5, body_len: 2, ..Header::new(OpCode::Signal) };
    /// assert_eq!(header.payload_len(), 7);
    /// ```
    #[inline]
    pub fn payload_len(&self) -> usize {
        usize::from(self.text_headers_len) + usize::from(self.body_len)
    }

    /// Bytes of the whole frame.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{Header, OpCode};
    ///
    /// let header = Header { body_len: 2, ..Header::new(OpCode::Signal) };
    /// assert_eq!(header.frame_len(), Header::LEN + 2);
    /// ```
    #[inline]
    pub fn frame_len(&self) -> usize {
        Self::LEN + self.payload_len()
    }
}

impl fmt::Display for UnassignedOpCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op code {} is not assigned", self.0)
    }
}

impl core::error::Error for UnassignedOpCode {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_proto_byte_is_read_and_written_alike() {
        for proto in 0..=u8::MAX {
            let mut bytes = [0xA5; Header::LEN];
            bytes[2] = proto;
            match Header::from_bytes(&bytes) {
                Ok(header) => {
                    bytes[2] &= !0b1100_0000;
                    assert_eq!(header.to_bytes(), bytes, "proto byte {proto:#010b}");
                }
                Err(UnassignedOpCode(code)) => assert!((10..=15).contains(&code)),
            }
        }
    }
}
