//! Where the client stands: it posts, hears what must come next, and shows both.

use std::time::{Duration, Instant};

use tofu::{ChannelGroup, ChannelNumber, Event, Header, Message, OpCode, PostError, Reason};

use super::{failed, timeline::Timeline};
use crate::{error::Failure, interrupt::Interrupt, next_event::next_event};

/// How long the client waits for anything.
const PATIENCE: Duration = Duration::from_secs(5);

/// The client's side of the play.
pub(super) struct Stage<'a> {
    group: ChannelGroup,
    interrupt: &'a Interrupt,
    timeline: Timeline<'a>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(
        group: ChannelGroup,
        interrupt: &'a Interrupt,
        timeline: Timeline<'a>,
    ) -> Self {
        Self {
            group,
            interrupt,
            timeline,
        }
    }

    pub(super) fn timeline(&mut self) -> &mut Timeline<'a> {
        &mut self.timeline
    }

    /// Posts and shows a message.
    pub(super) fn say(&mut self, message: Message) -> Result<Header, Failure> {
        // Its id and channel are known only when it is gone.
        let shown = message.clone();
        let header = self
            .post(message)
            .map_err(|error| failed(error.refusal()))?;
        let shown = shown.with_id(header.id).with_channel(header.channel);
        self.timeline.posted(&shown)?;
        Ok(header)
    }

    /// Posts a message and shows nothing.
    pub(super) fn post(&self, message: Message) -> Result<Header, PostError> {
        self.group.post(message)
    }

    /// Shows the answer to what was posted as `asked`.
    pub(super) fn answer(&mut self, asked: Header) -> Result<Message, Failure> {
        let event = self.show()?;
        match event {
            Event::Message(message) if answers(&message, asked) => Ok(message),
            other => Err(unexpected("the answer", &other)),
        }
    }

    /// Shows a message with this op code, which answers nothing.
    pub(super) fn message(&mut self, op_code: OpCode) -> Result<Message, Failure> {
        match self.show()? {
            Event::Message(message) if message.op_code() == op_code => Ok(message),
            other => Err(unexpected(op_code.name(), &other)),
        }
    }

    /// Shows that what was posted as `asked` comes back.
    pub(super) fn returned(&mut self, asked: Header) -> Result<Reason, Failure> {
        match self.show()? {
            Event::Returned { message, reason } if message.id() == asked.id => Ok(reason),
            other => Err(unexpected("the message to come back", &other)),
        }
    }

    /// Shows that the channel is closed.
    pub(super) fn closed(&mut self, channel: ChannelNumber) -> Result<Reason, Failure> {
        match self.show()? {
            Event::Closed {
                channel: closed,
                reason,
                ..
            } if closed == channel => Ok(reason),
            other => Err(unexpected("the channel to close", &other)),
        }
    }

    /// The next event, not shown.
    pub(super) fn hear(&mut self) -> Result<Event, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let event = next_event(&mut self.group, Some(deadline), self.timeline.output())?;
            self.interrupt.check()?;
            match event {
                Some(Event::PoolEmpty | Event::Notified(_)) => {}
                Some(event) => return Ok(event),
                None => return Err(failed("nothing happens any more")),
            }
        }
    }

    fn show(&mut self) -> Result<Event, Failure> {
        let event = self.hear()?;
        self.timeline.heard(&event)?;
        Ok(event)
    }
}

/// Whether `message` answers what was posted as `asked`.
pub(super) fn answers(message: &Message, asked: Header) -> bool {
    Some(message.op_code()) == asked.op_code.echo() && message.id() == asked.id
}

/// Something else came.
pub(super) fn unexpected(wanted: &str, event: &Event) -> Failure {
    failed(format_args!("expected {wanted}, but: {event:?}"))
}
