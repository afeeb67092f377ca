//! How one frame looks, and what is odd in it.
//!
//! Odd is what can be read and yet would not be sent by a right peer, or ends the connection when it
//! is: it is noted and no error here.

use std::{
    fmt::{self, Display},
    iter,
};

use serde_json::Value;
use tofu::{CONNECT_TO, ChannelNumber, Frame, Header, OpCode, OpType, Origin, Role, TextHeaders};

use crate::{
    error::Failure,
    output::{Excerpt, Object, Output, Readable},
};

/// Where the fields begin within a header (PROTOCOL.md section 1).
pub(super) const PROTO_OFFSET: usize = 2;
const STATUS_OFFSET: usize = 3;
const ID_OFFSET: usize = 4;
const HEADERS_LEN_OFFSET: usize = 12;
const BODY_LEN_OFFSET: usize = 14;
/// The bits of the proto byte that only engines use.
const INTERNAL_SHIFT: u8 = 6;

/// A frame to be shown, and where it stands.
pub(super) struct Shown<'a> {
    number: u64,
    offset: u64,
    head: &'a [u8; Header::LEN],
    header: Header,
    /// Text headers and body, if they are there.
    payload: Option<(&'a [u8], &'a [u8])>,
}

impl<'a> Shown<'a> {
    /// The frame with this number, whose header `head` begins at byte `offset`.
    pub(super) fn whole(
        number: u64,
        offset: u64,
        head: &'a [u8; Header::LEN],
        frame: &Frame<'a>,
    ) -> Self {
        Self {
            payload: Some((frame.text_headers(), frame.body())),
            ..Self::header(number, offset, head, frame.header)
        }
    }

    /// A frame of which only the header is known.
    pub(super) fn header(
        number: u64,
        offset: u64,
        head: &'a [u8; Header::LEN],
        header: Header,
    ) -> Self {
        Self {
            number,
            offset,
            head,
            header,
            payload: None,
        }
    }

    pub(super) fn frame_len(&self) -> usize {
        self.header.frame_len()
    }

    pub(super) fn print(&self, output: &mut Output) -> Result<(), Failure> {
        if !output.is_json() {
            return output.line(self);
        }
        match self.payload {
            Some((text_headers, body)) => output.object(self.object(text_headers, body)),
            // Half an object would be taken for a whole one.
            None => Ok(()),
        }
    }

    fn object(&self, text_headers: &[u8], body: &[u8]) -> Object {
        let header = &self.header;
        Object::event("frame")
            .with("offset", self.offset)
            .with("frame_len", header.frame_len())
            .with("channel", header.channel.get())
            .with("op_code", header.op_code.name())
            .with("message_id", header.id.get())
            .with("more", header.more)
            .with("status", header.status.to_string())
            .with("origin", origin_name(header.origin))
            .with("internal", self.internal())
            .with("headers_len", header.text_headers_len)
            .with_headers(TextHeaders::new(text_headers))
            .with_body(body)
            .with(
                "notes",
                self.notes()
                    .into_iter()
                    .map(Value::from)
                    .collect::<Vec<_>>(),
            )
    }

    /// The internal bits of its proto byte.
    fn internal(&self) -> u8 {
        self.head[PROTO_OFFSET] >> INTERNAL_SHIFT
    }

    /// What is odd.
    fn notes(&self) -> Vec<String> {
        let header = &self.header;
        let op_code = header.op_code;
        let mut notes = Vec::new();
        let mut note = |is_so: bool, text: &dyn Display| {
            if is_so {
                notes.push(text.to_string());
            }
        };
        note(
            !op_code.travels(),
            &format_args!("{op_code} never travels: it is an order to one's own engine"),
        );
        note(
            header.origin == Origin::Engine,
            &"origin engine is not legal on the wire: a receiver ends the connection",
        );
        note(
            header.more && op_code.op_type() != OpType::Regular,
            &format_args!("more is not allowed on {op_code}"),
        );
        note(
            op_code.role() == Role::Response && !header.id.is_assigned(),
            &format_args!("{op_code} has message id 0: it answers nothing"),
        );
        note(
            !header.status.is_success(),
            &"status is not 0: a receiver reads it as 0",
        );
        note(
            self.internal() != 0,
            &"internal bits are set: a receiver ignores them",
        );
        note(
            header.channel == ChannelNumber::UNASSIGNED || header.channel == ChannelNumber::ENGINE,
            &format_args!("no channel has the number {}", header.channel),
        );
        if let Some((text_headers, _)) = self.payload {
            notes.extend(text_header_notes(op_code, text_headers));
        }
        notes
    }

    /// One line of a field: where it stands, its bytes, its name and what it says.
    fn field(
        &self,
        f: &mut fmt::Formatter<'_>,
        offset: usize,
        len: usize,
        name: &str,
        value: impl Display,
    ) -> fmt::Result {
        let at = self.offset + offset as u64;
        let bytes = Hex(self.head.get(offset..offset + len).unwrap_or_default());
        write!(
            f,
            "\n{at:>8}  {:<16}  {name:<14}  {value}",
            bytes.to_string()
        )
    }
}

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = &self.header;
        let (op_code, len) = (header.op_code, header.frame_len());
        write!(
            f,
            "frame {} at byte {}: {op_code}, {len} bytes",
            self.number, self.offset
        )?;
        self.field(f, 0, 2, "channel number", header.channel)?;
        let code = op_code.code();
        self.field(
            f,
            PROTO_OFFSET,
            1,
            "op code",
            format_args!("{code} {op_code}"),
        )?;
        let blank = format_args!("{:>8}  {:16}", "", "");
        write!(
            f,
            "\n{blank}  {:<14}  {}",
            "origin",
            origin_name(header.origin)
        )?;
        write!(
            f,
            "\n{blank}  {:<14}  {}",
            "more",
            if header.more { "yes" } else { "no" }
        )?;
        if self.internal() != 0 {
            write!(f, "\n{blank}  {:<14}  {}", "internal bits", self.internal())?;
        }
        let status = format_args!("{} {}", header.status.code(), header.status);
        self.field(f, STATUS_OFFSET, 1, "status", status)?;
        self.field(f, ID_OFFSET, 8, "message id", header.id)?;
        let headers_len = format_args!("{} bytes", header.text_headers_len);
        self.field(f, HEADERS_LEN_OFFSET, 2, "text headers", headers_len)?;
        let body_len = format_args!("{} bytes", header.body_len);
        self.field(f, BODY_LEN_OFFSET, 2, "body", body_len)?;
        let (text_headers, body) = self.payload.unwrap_or_default();
        let mut at = self.offset + Header::LEN as u64;
        for (position, text_header) in TextHeaders::new(text_headers).iter().enumerate() {
            match position {
                0 => write!(f, "\n{at:>8}  {:16}", "")?,
                _ => write!(f, "\n{blank}")?,
            }
            let (name, value) = (Readable(text_header.name), Readable(text_header.value));
            write!(f, "  {:<14}  {name}: {value}", "text header")?;
        }
        if !body.is_empty() {
            at += text_headers.len() as u64;
            write!(f, "\n{at:>8}  {:16}  {:<14}  {}", "", "body", Excerpt(body))?;
        }
        for note in self.notes() {
            write!(f, "\n    note: {note}")?;
        }
        Ok(())
    }
}

/// What is odd in the text headers of a message.
fn text_header_notes(op_code: OpCode, bytes: &[u8]) -> Vec<String> {
    let mut notes = Vec::new();
    let has_address = TextHeaders::new(bytes).value(CONNECT_TO).is_some();
    if op_code == OpCode::HelloRequest && !has_address {
        notes.push(format!("HelloRequest has no text header {CONNECT_TO}"));
    }
    if !bytes.is_empty() && !bytes.ends_with(b"\r\n") {
        notes.push("the last text header does not end with CR LF".to_owned());
    }
    if str::from_utf8(bytes).is_err() {
        notes.push("text headers are not UTF-8".to_owned());
    }
    for line in lines(bytes).filter(|line| !line.is_empty()) {
        match line.iter().position(|byte| *byte == b':') {
            Some(0) => {
                notes.push("a text header has no name: a receiver reads none from there on".into());
                break;
            }
            Some(_) => {}
            None => notes.push(format!("text header {} has no colon", Readable(line))),
        }
    }
    notes
}

/// The lines of text headers, without their ends.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    iter::from_fn(move || {
        let bytes = rest?;
        let end = bytes.windows(2).position(|window| window == b"\r\n");
        rest = end.map(|end| &bytes[end + 2..]);
        Some(end.map_or(bytes, |end| &bytes[..end]))
    })
}

fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Application => "application",
        Origin::Engine => "engine",
    }
}

/// Bytes as hexadecimal digits.
struct Hex<'a>(&'a [u8]);

impl Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
