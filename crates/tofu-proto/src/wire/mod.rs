//! Bytes to values and back: the header, text headers and frames of PROTOCOL.md.
//!
//! This room knows no channels and no connections. It says what a run of bytes means, or where it
//! goes wrong; whether a frame may come *now* is for [`connection`](crate::connection) to say.

mod decoder;
mod header;
mod op_code;
mod text_headers;

pub(crate) use decoder::LANDED_MIN;
pub use decoder::{Decoder, Frame};
pub use header::{Header, Origin, UnassignedOpCode};
pub use op_code::{OpCode, OpType, Role};
pub(crate) use text_headers::encode;
pub use text_headers::{
    CONNECT_TO, HeaderError, LISTEN_ON, TextHeader, TextHeaders, TextHeadersIter,
};
