//! What happened in a run, for whoever has to find out why it failed.

use std::{collections::VecDeque, fmt, time::Duration};

use tofu::{Event, Header};

/// The last lines of a run, with their times.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    lines: VecDeque<(Duration, String)>,
    lines_max: usize,
    dropped: usize,
}

impl Trace {
    pub(crate) fn new(lines_max: usize) -> Self {
        Self {
            lines: VecDeque::new(),
            lines_max,
            dropped: 0,
        }
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.lines_max > 0
    }

    pub(crate) fn note(&mut self, now: Duration, line: String) {
        if self.lines.len() >= self.lines_max {
            self.lines.pop_front();
            self.dropped += 1;
        }
        self.lines.push_back((now, line));
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dropped > 0 {
            writeln!(
                f,
                "  ... {} lines before: World::keep_trace({}) shows all",
                self.dropped,
                self.dropped + self.lines.len()
            )?;
        }
        for (at, line) in &self.lines {
            writeln!(f, "{:>4}.{:06} s  {line}", at.as_secs(), at.subsec_micros())?;
        }
        Ok(())
    }
}

/// A message in a few words. Ids that the engine assigns differ from run to run, and are not told.
pub(crate) fn line(header: &Header) -> String {
    format!(
        "{} on channel {} ({} + {} bytes)",
        header.op_code, header.channel, header.text_headers_len, header.body_len
    )
}

/// An event in a few words.
pub(crate) fn told(event: &Event) -> String {
    match event {
        Event::Message(message) => line(&message.binary_header()),
        Event::Listening { address, .. } => format!("Listening on {address}"),
        Event::Returned { message, reason } => {
            format!("Returned {}: {reason}", line(&message.binary_header()))
        }
        Event::Drained(channel) => format!("Drained on channel {channel}"),
        Event::PoolEmpty => "PoolEmpty".to_owned(),
        Event::Notified(_) => "Notified".to_owned(),
        Event::Closed {
            channel, reason, ..
        } => format!("Closed on channel {channel}: {reason}"),
    }
}
