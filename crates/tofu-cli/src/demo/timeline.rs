//! How the conversation looks: a line for each message, with the time, the way it went and what it
//! said.

use std::{
    env,
    fmt::{self, Display},
    time::Instant,
};

use tofu::{Event, Message};

use super::measure::Numbers;
use crate::{
    error::Failure,
    output::{Excerpt, Object, Output},
    summary::{microseconds, seconds},
};

/// Who says something to whom.
#[derive(Clone, Copy)]
enum Way {
    ToServer,
    ToClient,
    /// The client's own engine tells it something.
    FromEngine,
    /// A remark of the play.
    Aside,
}

/// Prints the play.
pub(super) struct Timeline<'a> {
    output: &'a mut Output,
    started: Instant,
    is_coloured: bool,
}

impl<'a> Timeline<'a> {
    pub(super) fn new(output: &'a mut Output) -> Self {
        let is_unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_coloured = output.is_terminal() && !is_unwanted;
        Self {
            output,
            started: Instant::now(),
            is_coloured,
        }
    }

    /// The output, for who waits for an event.
    pub(super) fn output(&mut self) -> &mut Output {
        self.output
    }

    /// An act begins.
    pub(super) fn title(&mut self, title: &str) -> Result<(), Failure> {
        if self.output.is_json() {
            return Ok(());
        }
        let title = Painted {
            text: format_args!("{title}"),
            colour: self.is_coloured.then_some(Colour::Bold),
        };
        self.output.line(title)
    }

    /// A remark.
    pub(super) fn aside(&mut self, text: impl Display) -> Result<(), Failure> {
        if self.output.is_json() {
            return self.object(Object::event("note").with("text", text.to_string()));
        }
        self.entry(Way::Aside, text)
    }

    /// The client has posted `message`.
    pub(super) fn posted(&mut self, message: &Message) -> Result<(), Failure> {
        if self.output.is_json() {
            let object = Object::event("posted").with("channel", message.channel().get());
            return self.object(object.with_message(message));
        }
        self.entry(Way::ToServer, Said(message))
    }

    /// The client has heard `event`.
    pub(super) fn heard(&mut self, event: &Event) -> Result<(), Failure> {
        if self.output.is_json() {
            return self.object(Object::of(event));
        }
        match event {
            Event::Message(message) => self.entry(Way::ToClient, Said(message)),
            Event::Returned { message, reason } => {
                let (op_code, id) = (message.op_code(), message.id());
                let text = format_args!("{op_code:<13} {id:>6}  came back: {reason}");
                self.entry(Way::FromEngine, text)
            }
            Event::Closed {
                channel, reason, ..
            } => {
                let text = format_args!("channel {channel} closed: {reason}");
                self.entry(Way::FromEngine, text)
            }
            _ => self.entry(Way::FromEngine, format_args!("{event:?}")),
        }
    }

    /// The end of the play.
    pub(super) fn numbers(&mut self, numbers: &[(&str, Numbers)]) -> Result<(), Failure> {
        if self.output.is_json() {
            return numbers.iter().try_for_each(|(transport, numbers)| {
                self.output.object(numbers.object(transport))
            });
        }
        self.title("between two processes on this machine, 64-byte bodies")?;
        for (transport, numbers) in numbers {
            let (p50, p99) = (microseconds(numbers.p50), microseconds(numbers.p99));
            let rate = numbers.signals_per_second;
            self.output.line(format_args!(
                "  {transport}  round trip p50 {p50:>8.1} us, p99 {p99:>8.1} us   one way {rate:>10.0} messages/s"
            ))?;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        self.output
            .line(format_args!("all went as expected, in {seconds:.1} s"))
    }

    fn object(&mut self, object: Object) -> Result<(), Failure> {
        let seconds = seconds(self.started.elapsed());
        self.output.object(object.with("seconds", seconds))
    }

    fn entry(&mut self, way: Way, text: impl Display) -> Result<(), Failure> {
        let (who, colour) = match way {
            Way::ToServer => ("client --> server", Some(Colour::Cyan)),
            Way::ToClient => ("client <-- server", Some(Colour::Green)),
            Way::FromEngine => ("client <-- engine", Some(Colour::Yellow)),
            Way::Aside => ("", None),
        };
        let seconds = self.started.elapsed().as_secs_f64();
        let colour = colour.filter(|_| self.is_coloured);
        let who = Painted {
            text: format_args!("{who:<17}"),
            colour,
        };
        self.output
            .line(format_args!("{seconds:>7.3} s  {who}  {text}"))
    }
}

/// What a message says, in a line.
struct Said<'a>(&'a Message);

impl Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.0;
        write!(f, "{:<13} {:>6}", message.op_code(), message.id())?;
        for header in message.text_headers() {
            let (name, value) = (header.name.escape_ascii(), header.value.escape_ascii());
            write!(f, "  {name}: {value}")?;
        }
        if !message.body().is_empty() {
            write!(f, "  {}", Excerpt(message.body()))?;
        }
        if message.has_more() {
            f.write_str("  more follows")?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Colour {
    Bold,
    Cyan,
    Green,
    Yellow,
}

/// Text in a colour, if any.
struct Painted<T> {
    text: T,
    colour: Option<Colour>,
}

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(colour) = self.colour else {
            return self.text.fmt(f);
        };
        let code = match colour {
            Colour::Bold => 1,
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Cyan => 36,
        };
        write!(f, "\x1b[{code}m{}\x1b[0m", self.text)
    }
}
