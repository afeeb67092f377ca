//! What happened, step by step.

use std::{collections::VecDeque, fmt};

use tofu_proto::{Header, Instant, OpCode, Side, Status};

use super::Fault;

/// One thing that happened in a run.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The client's socket is connected, and the server's accepted.
    Connected,
    /// The application's message was taken.
    Posted(Side, Header),
    /// The application's message was not taken: there was no room, or the application had asked for
    /// something that it may not have.
    Refused(Side, OpCode),
    /// The driver wrote bytes.
    Wrote(Side, usize),
    /// The driver found no room to write.
    Blocked(Side),
    /// The network carried bytes of this side; 0 is the end of its stream.
    Carried(Side, usize),
    /// A reset reached this side.
    Reset(Side),
    /// The driver read bytes.
    Read(Side, usize),
    /// A message was delivered to this side's application.
    Delivered(Side, Header),
    /// There was no message to receive into.
    Starved(Side),
    /// The driver reads again.
    Resumed(Side),
    /// The application let go of a message.
    Handled(Side, OpCode),
    /// The driver ended its direction of the stream.
    HalfClosed(Side),
    /// The seed's fault.
    Fault(Fault),
    /// A message came back unsent.
    Returned(Side, Header),
    /// The channel is closed.
    Closed(Side, Status),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => f.write_str("connected"),
            Self::Posted(side, header) => write!(f, "{side:?} posts {}", Line(header)),
            Self::Refused(side, op_code) => write!(f, "{side:?} may not post {op_code}"),
            Self::Wrote(side, count) => write!(f, "{side:?} writes {count} bytes"),
            Self::Blocked(side) => write!(f, "{side:?} finds no room to write"),
            Self::Carried(side, 0) => write!(f, "the end of {side:?}'s stream arrives"),
            Self::Carried(side, count) => write!(f, "{count} bytes of {side:?} arrive"),
            Self::Reset(side) => write!(f, "a reset reaches {side:?}"),
            Self::Read(side, count) => write!(f, "{side:?} reads {count} bytes"),
            Self::Delivered(side, header) => write!(f, "{side:?} gets {}", Line(header)),
            Self::Starved(side) => write!(f, "{side:?} has no message to receive into"),
            Self::Resumed(side) => write!(f, "{side:?} reads again"),
            Self::Handled(side, op_code) => write!(f, "{side:?} has handled {op_code}"),
            Self::HalfClosed(side) => write!(f, "{side:?} ends its direction"),
            Self::Fault(fault) => write!(f, "fault: {fault:?}"),
            Self::Returned(side, header) => write!(f, "{side:?} gets back {}", Line(header)),
            Self::Closed(side, status) => write!(f, "{side:?} is closed: {status}"),
        }
    }
}

struct Line<'a>(&'a Header);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = self.0;
        write!(
            f,
            "{} id={} ({} + {} bytes)",
            header.op_code, header.id, header.text_headers_len, header.body_len
        )
    }
}

/// The last steps of a run.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    steps: VecDeque<(Instant, Event)>,
    steps_max: usize,
    dropped: usize,
}

impl Trace {
    pub(crate) fn new(steps_max: usize) -> Self {
        Self {
            steps: VecDeque::new(),
            steps_max,
            dropped: 0,
        }
    }

    pub(crate) fn note(&mut self, now: Instant, event: Event) {
        if self.steps.len() >= self.steps_max {
            self.steps.pop_front();
            self.dropped += 1;
        }
        self.steps.push_back((now, event));
    }

    /// What is kept, oldest first.
    pub(crate) fn into_events(self) -> Vec<Event> {
        self.steps.into_iter().map(|(_, event)| event).collect()
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dropped > 0 {
            writeln!(f, "  ... {} steps before", self.dropped)?;
        }
        for (at, event) in &self.steps {
            let micros = at.as_nanos() / 1_000;
            writeln!(
                f,
                "{:>6}.{:06} s  {event}",
                micros / 1_000_000,
                micros % 1_000_000
            )?;
        }
        Ok(())
    }
}
