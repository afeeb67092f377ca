//! The server process of the demo: `tofucat demo-server ADDR`.
//!
//! It answers in capitals, counts the parts of a stream and the signals, and says bye when it is
//! asked to.

use std::{process, slice};

use tofu::{ChannelNumber, Message, OpCode, Options};

use crate::{
    args::DemoServerArguments,
    error::Failure,
    interrupt::Interrupt,
    output::Output,
    server::{Limits, Service, serve},
    server_process::on_parent_gone,
};

/// The text header of a signal that asks for something: its value says what.
pub(super) const PLEASE: &str = "please";
/// The server says bye.
pub(super) const SAY_BYE: &str = "say bye";
/// The text header of a request that asks for a count.
pub(super) const COUNT: &str = "count";
/// How many signals have come: in the answer, the count's name and value are a text header.
pub(super) const SIGNALS: &str = "signals";

pub(crate) fn run(
    arguments: &DemoServerArguments,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<(), Failure> {
    on_parent_gone(|| process::exit(1));
    let limits = Limits {
        time: None,
        byes: Some(1),
    };
    let addresses = slice::from_ref(&arguments.address);
    let mut host = Host::default();
    serve(
        "demo-server",
        Options::default(),
        addresses,
        limits,
        &mut host,
        interrupt,
        output,
    )
}

/// What has come on the one channel.
#[derive(Default)]
struct Host {
    signals: u64,
    stream_parts: u64,
    stream_bytes: usize,
}

impl Service for Host {
    fn answer(&mut self, message: Message) -> Option<Message> {
        match message.op_code() {
            OpCode::Signal => self.signal(&message),
            OpCode::Request => self.request(&message),
            OpCode::HelloRequest => Some(message.reply().ok()?.with_body("welcome")),
            OpCode::ByeRequest => Some(message.reply().ok()?.with_body("come again")),
            _ => None,
        }
    }

    fn forget(&mut self, _channel: ChannelNumber) {
        *self = Self::default();
    }
}

impl Host {
    fn signal(&mut self, signal: &Message) -> Option<Message> {
        self.signals += 1;
        let is_asked = signal.header(PLEASE) == Some(SAY_BYE);
        is_asked.then(|| Message::bye_request(signal.channel()).with_body("closing time"))
    }

    fn request(&mut self, request: &Message) -> Option<Message> {
        if request.has_more() || self.stream_parts > 0 {
            self.stream_parts += 1;
            self.stream_bytes += request.body().len();
        }
        if request.has_more() {
            return None;
        }
        let answer = request.reply().ok()?;
        if self.stream_parts > 0 {
            let text = format!("{} parts, {} bytes", self.stream_parts, self.stream_bytes);
            (self.stream_parts, self.stream_bytes) = (0, 0);
            return Some(answer.with_body(text));
        }
        if request.header(COUNT) == Some(SIGNALS) {
            return Some(answer.with_header(SIGNALS, self.signals.to_string()));
        }
        Some(answer.with_body(request.body().to_ascii_uppercase()))
    }
}
