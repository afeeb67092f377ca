//! Waiting for the next event, with what a command line tool wants on the way.

use std::time::{Duration, Instant};

use tofu::{ChannelGroup, Event, RecvError};

use crate::{error::Failure, output::Output};

/// How long a bye may take when the program ends before its time.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The next event, or `None` when `deadline` has passed. What was printed is seen before waiting.
pub(crate) fn next_event(
    group: &mut ChannelGroup,
    deadline: Option<Instant>,
    output: &mut Output,
) -> Result<Option<Event>, Failure> {
    let ended = |error: RecvError| Failure::new("receive", error);
    if output.is_pending() {
        if let Some(event) = group.try_recv().map_err(ended)? {
            return Ok(Some(event));
        }
        output.flush()?;
    }
    match deadline {
        None => group.recv().map(Some).map_err(ended),
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now());
            group.recv_timeout(left).map_err(ended)
        }
    }
}
