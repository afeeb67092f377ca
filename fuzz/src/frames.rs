//! What a peer may say, good and bad: whole frames, frames with a byte changed or bytes missing, and
//! bytes that are none. A fuzzer that had only bytes to work with would hardly ever come behind a hello.

use arbitrary::Arbitrary;
use tofu_proto::{Header, OpCode};

/// Something that a peer says.
#[derive(Arbitrary, Clone, Debug)]
pub enum Saying {
    /// A frame that is well formed, whether it is due or not.
    Frame(Spoken),
    /// One that has bits of its header changed.
    Changed { frame: Spoken, place: u8, bits: u8 },
    /// One whose end is missing.
    Cut { frame: Spoken, missing: u16 },
    /// Whatever this is.
    Bytes(Vec<u8>),
}

/// A frame that can be told in few bytes.
#[derive(Arbitrary, Clone, Debug)]
pub struct Spoken {
    pub op_code: u8,
    pub more: bool,
    pub id: u8,
    pub headers: Len,
    pub body: Len,
}

/// A length: mostly nothing or little.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Len {
    Zero,
    Few(u8),
    Many(u16),
    /// Around the length up to which frames are copied together when they are sent.
    Copied(u8),
}

impl Saying {
    /// Its bytes on the wire.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        let start = out.len();
        match self {
            Self::Frame(frame) => frame.append_to(out),
            Self::Changed { frame, place, bits } => {
                frame.append_to(out);
                out[start + usize::from(*place) % Header::LEN] ^= bits;
            }
            Self::Cut { frame, missing } => {
                frame.append_to(out);
                let len = out.len() - start;
                out.truncate(out.len() - usize::from(*missing) % (len + 1));
            }
            Self::Bytes(bytes) => out.extend_from_slice(bytes),
        }
    }
}

impl Spoken {
    /// Its bytes on the wire.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        let header = Header {
            more: self.more,
            id: u64::from(self.id).into(),
            text_headers_len: self.headers.get(),
            body_len: self.body.get(),
            ..Header::new(op_code(self.op_code))
        };
        out.extend_from_slice(&header.to_bytes());
        // Each byte tells its place, so that one which is missing or doubled is seen.
        let places: Vec<_> = (0..=u8::MAX).collect();
        let mut missing = header.payload_len();
        while missing > 0 {
            let count = missing.min(places.len());
            out.extend_from_slice(&places[..count]);
            missing -= count;
        }
    }
}

impl Len {
    pub fn get(self) -> u16 {
        match self {
            Self::Zero => 0,
            Self::Few(len) => len.into(),
            Self::Many(len) => len,
            Self::Copied(more) => 4_000 + u16::from(more),
        }
    }
}

/// One of the ten.
pub fn op_code(code: u8) -> OpCode {
    OpCode::from_code(code % 10).expect("all ten are assigned")
}
