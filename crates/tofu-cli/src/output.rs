//! What is printed: text, or one JSON object a line. Scripts read it, so every form is made here.
//!
//! Lines are gathered; who is about to wait [flushes](Output::flush) first. Bytes that came from a
//! peer are never printed raw in a line: control characters in them could take over a terminal.

use std::{
    fmt::{self, Display},
    io::{self, BufWriter, IsTerminal, Write},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;
use tofu::{ChannelNumber, Event, Message, Peer, Reason, TextHeaders};

use crate::error::Failure;

/// Bytes of a body that a line of text shows. JSON has all of it.
const BODY_SHOWN: usize = 256;

/// The standard output.
pub(crate) struct Output {
    json: bool,
    terminal: bool,
    writer: BufWriter<Box<dyn Write>>,
}

impl Output {
    /// The process's standard output, for JSON or text.
    pub(crate) fn stdout(json: bool) -> Self {
        let stdout = io::stdout();
        Self {
            json,
            terminal: stdout.is_terminal(),
            writer: BufWriter::new(Box::new(stdout)),
        }
    }

    /// Whether JSON is wanted.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person reads it.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether something waits to be flushed.
    pub(crate) fn is_pending(&self) -> bool {
        !self.writer.buffer().is_empty()
    }

    /// One event, one line.
    pub(crate) fn event(&mut self, event: &Event) -> Result<(), Failure> {
        self.event_of(event, None)
    }

    /// One event, and the peer it is of, one line.
    pub(crate) fn event_of(&mut self, event: &Event, peer: Option<Peer>) -> Result<(), Failure> {
        if self.json {
            let object = Object::of(event);
            return self.object(match peer {
                Some(peer) => object.with_peer(peer),
                None => object,
            });
        }
        match peer {
            Some(peer) => self.line(format_args!("{} peer=\"{peer}\"", EventLine(event))),
            None => self.line(EventLine(event)),
        }
    }

    /// A line of text.
    pub(crate) fn line(&mut self, line: impl Display) -> Result<(), Failure> {
        writeln!(self.writer, "{line}").map_err(|error| Failure::output(&error))
    }

    /// A line of JSON.
    pub(crate) fn object(&mut self, object: Object) -> Result<(), Failure> {
        self.line(object.finish())
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.writer
            .write_all(bytes)
            .map_err(|error| Failure::output(&error))
    }

    /// Lets everything printed so far be seen.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(|error| Failure::output(&error))
    }
}

/// A note for the person at the terminal, on the standard error.
pub(crate) fn note(line: impl Display) {
    // The run does not depend on it, and there is nowhere to complain to.
    let _ = writeln!(io::stderr(), "{line}");
}

/// A JSON object in one line, its keys in the order in which they were given.
#[derive(Debug)]
pub(crate) struct Object(String);

impl Object {
    /// An object whose first key is `event`.
    pub(crate) fn event(name: &str) -> Self {
        Self("{".to_owned()).with("event", name)
    }

    /// An event, with all that it has.
    pub(crate) fn of(event: &Event) -> Self {
        let channel = event.channel().map(ChannelNumber::get);
        let object = Self::event(event_name(event)).with("channel", channel);
        match event {
            Event::Message(message) => object.with_message(message),
            Event::Listening { address, response } => object
                .with("address", address.to_string())
                .with_message(response),
            Event::Returned { message, reason } => {
                object.with_message(message).with_reason(*reason)
            }
            Event::Drained(_) | Event::PoolEmpty => object,
            Event::Notified(message) => message.iter().fold(object, Self::with_message),
            Event::Closed { id, reason, .. } => object
                .with("message_id", id.get())
                .with("status", reason.status().to_string())
                .with_reason(*reason),
        }
    }

    /// With one more key.
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&Value::from(key).to_string());
        self.0.push(':');
        self.0.push_str(&value.into().to_string());
        self
    }

    /// With all that a message has.
    pub(crate) fn with_message(self, message: &Message) -> Self {
        self.with("op_code", message.op_code().name())
            .with("message_id", message.id().get())
            .with("more", message.has_more())
            .with("status", message.status().to_string())
            .with_headers(message.text_headers())
            .with_body(message.body())
    }

    /// With text headers as pairs: `headers`, or `headers_base64` if some of them are not UTF-8.
    pub(crate) fn with_headers(self, headers: TextHeaders<'_>) -> Self {
        let text: Option<Vec<Value>> = headers
            .iter()
            .map(|header| Some(Value::from(vec![header.name_str()?, header.value_str()?])))
            .collect();
        match text {
            Some(pairs) => self.with("headers", pairs),
            None => self.with(
                "headers_base64",
                headers
                    .iter()
                    .map(|header| Value::from(vec![base64(header.name), base64(header.value)]))
                    .collect::<Vec<_>>(),
            ),
        }
    }

    /// With `body_len`, and the body: `body`, or `body_base64` if it is not UTF-8.
    pub(crate) fn with_body(self, body: &[u8]) -> Self {
        let object = self.with("body_len", body.len());
        match str::from_utf8(body) {
            Ok(text) => object.with("body", text),
            Err(_) => object.with("body_base64", base64(body)),
        }
    }

    /// With `peer`: its `address`, or its `uid`, `gid` and `pid`; what is not known is left out.
    fn with_peer(self, peer: Peer) -> Self {
        let mut known = serde_json::Map::new();
        if let Some(address) = peer.address() {
            known.insert("address".to_owned(), address.to_string().into());
        }
        if let Some(credentials) = peer.credentials() {
            known.insert("uid".to_owned(), credentials.uid.into());
            known.insert("gid".to_owned(), credentials.gid.into());
            if let Some(pid) = credentials.pid {
                known.insert("pid".to_owned(), pid.into());
            }
        }
        self.with("peer", known)
    }

    fn with_reason(self, reason: Reason) -> Self {
        self.with("reason", reason.to_string())
    }

    fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// The name of an event, as scripts know it.
fn event_name(event: &Event) -> &'static str {
    match event {
        Event::Message(_) => "message",
        Event::Listening { .. } => "listening",
        Event::Returned { .. } => "returned",
        Event::Drained(_) => "drained",
        Event::PoolEmpty => "pool_empty",
        Event::Notified(_) => "notified",
        Event::Closed { .. } => "closed",
    }
}

/// An event as a line of text: what is usual (no `more`, success, nothing) is left out.
struct EventLine<'a>(&'a Event);

impl Display for EventLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(event_name(self.0))?;
        if let Event::Listening { address, .. } = self.0 {
            return write!(f, " {address}");
        }
        if let Some(channel) = self.0.channel() {
            write!(f, " channel={channel}")?;
        }
        match self.0 {
            Event::Message(message) | Event::Notified(Some(message)) => write_message(f, message),
            Event::Returned { message, reason } => {
                write_message(f, message)?;
                write!(f, " reason={:?}", reason.to_string())
            }
            Event::Closed { id, reason, .. } => write!(
                f,
                " message_id={id} status={} reason={:?}",
                reason.status(),
                reason.to_string()
            ),
            Event::Listening { .. }
            | Event::Drained(_)
            | Event::PoolEmpty
            | Event::Notified(None) => Ok(()),
        }
    }
}

fn write_message(f: &mut fmt::Formatter<'_>, message: &Message) -> fmt::Result {
    write!(
        f,
        " op_code={} message_id={}",
        message.op_code(),
        message.id()
    )?;
    if message.has_more() {
        f.write_str(" more=true")?;
    }
    if !message.status().is_success() {
        write!(f, " status={}", message.status())?;
    }
    for header in message.text_headers() {
        write!(
            f,
            " header={}:{}",
            Readable(header.name),
            Readable(header.value)
        )?;
    }
    write!(f, " body_len={}", message.body().len())?;
    if message.body().is_empty() {
        return Ok(());
    }
    write!(f, " body={}", Excerpt(message.body()))
}

/// Bytes in quotes, in which what cannot be read is escaped.
pub(crate) struct Readable<'a>(pub(crate) &'a [u8]);

impl Display for Readable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\'' => f.write_str("'")?,
                    _ => write!(f, "{}", character.escape_debug())?,
                }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        f.write_str("\"")
    }
}

/// The start of a body, readable, and how much is left out.
pub(crate) struct Excerpt<'a>(pub(crate) &'a [u8]);

impl Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_at_checked(BODY_SHOWN) {
            Some((shown, rest)) if !rest.is_empty() => {
                write!(f, "{}... and {} bytes more", Readable(shown), rest.len())
            }
            _ => Readable(self.0).fmt(f),
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use tofu::Status;

    use super::*;

    fn parsed(event: &Event) -> Value {
        serde_json::from_str(&Object::of(event).finish()).expect("an event is an object")
    }

    fn request() -> Message {
        Message::request(ChannelNumber::new(3)).with_id(u64::MAX)
    }

    #[test]
    fn a_message_has_every_key_in_its_place() {
        let message = request()
            .with_more(true)
            .with_header("a", "1")
            .with_header("a", "2")
            .with_body("say \"hi\"\n");
        let line = Object::of(&Event::Message(message)).finish();
        assert_eq!(
            line,
            r#"{"event":"message","channel":3,"op_code":"Request","message_id":18446744073709551615,"more":true,"status":"success","headers":[["a","1"],["a","2"]],"body_len":9,"body":"say \"hi\"\n"}"#
        );
    }

    #[test]
    fn what_is_not_utf_8_is_base64() {
        let message = request().with_header("k", b"\xff").with_body(b"\xff\x00");
        let value = parsed(&Event::Message(message));
        assert_eq!(value["body_base64"], "/wA=");
        assert_eq!(value["body_len"], 2);
        assert_eq!(value["headers_base64"][0][1], "/w==");
        assert!(value.get("body").is_none() && value.get("headers").is_none());
    }

    #[test]
    fn an_event_without_a_channel_says_so() {
        assert_eq!(parsed(&Event::PoolEmpty)["channel"], Value::Null);
        let notified = parsed(&Event::Notified(Some(request())));
        assert_eq!(notified["op_code"], "Request");
        assert_eq!(parsed(&Event::Drained(ChannelNumber::new(9)))["channel"], 9);
    }

    #[test]
    fn closed_says_why() {
        let event = Event::Closed {
            channel: ChannelNumber::new(2),
            id: 5.into(),
            reason: Status::PEER_DISCONNECTED.into(),
        };
        let value = parsed(&event);
        assert_eq!(value["status"], "peer_disconnected");
        assert_eq!(value["message_id"], 5);
        assert!(value["reason"].is_string());
        let line = EventLine(&event).to_string();
        assert!(
            line.starts_with("closed channel=2 message_id=5 status=peer_disconnected reason=\""),
            "{line}"
        );
    }

    #[test]
    fn a_peers_bytes_cannot_take_over_the_terminal() {
        let message = request()
            .with_id(1)
            .with_header("k", "\x1b[2J")
            .with_body(b"na\xc3\xafve\x1b]0;x\x07\n\xff");
        let line = EventLine(&Event::Message(message)).to_string();
        assert_eq!(
            line,
            r#"message channel=3 op_code=Request message_id=1 header="k":"\u{1b}[2J" body_len=14 body="naïve\u{1b}]0;x\u{7}\n\xff""#
        );
    }

    #[test]
    fn a_long_body_is_cut_in_text() {
        let body = [b'x'; BODY_SHOWN + 1];
        assert!(
            Excerpt(&body)
                .to_string()
                .ends_with("x\"... and 1 bytes more")
        );
        assert!(Excerpt(&body[..BODY_SHOWN]).to_string().ends_with("x\""));
    }
}
