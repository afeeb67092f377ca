//! One channel to one server, from hello to bye, within one deadline.
//!
//! Whatever ends the conversation before its bye is an error that says who was waiting for what.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use tofu::{
    Address, ChannelGroup, ChannelNumber, Engine, Event, Header, Message, OpCode, Options,
    PostError, Reason, Refusal,
};

use crate::{
    error::Failure,
    interrupt::Interrupt,
    next_event::{CLOSE_TIMEOUT, next_event},
    output::Output,
};

/// A client and its one channel.
pub(crate) struct Client<'a> {
    group: ChannelGroup,
    interrupt: &'a Interrupt,
    /// The command and the address, for errors.
    what: String,
    timeout: Duration,
    /// No deadline stands for one that the clock cannot reach.
    deadline: Option<Instant>,
    channel: ChannelNumber,
}

/// What a client may hear.
pub(crate) enum Heard {
    /// The server says something.
    Message(Message),
    /// There is room to post again.
    Drained,
}

impl<'a> Client<'a> {
    /// Begins to connect. `command` names the subcommand in errors.
    pub(crate) fn connect(
        command: &str,
        address: &Address,
        timeout: Duration,
        interrupt: &'a Interrupt,
    ) -> Result<Self, Failure> {
        let what = format!("{command} {address}");
        let failed = |error| Failure::new(&what, error);
        let engine = Engine::new(Options::default()).map_err(failed)?;
        let group = engine.group().map_err(failed)?;
        interrupt.wake(group.poster());
        let header = group
            .post(Message::hello_request(address))
            .map_err(|error| Failure::new(&what, error.refusal()))?;
        Ok(Self {
            group,
            interrupt,
            what,
            timeout,
            deadline: Instant::now().checked_add(timeout),
            channel: header.channel,
        })
    }

    /// The channel to the server.
    pub(crate) fn channel(&self) -> ChannelNumber {
        self.channel
    }

    /// Waits until the server has said its hello. One that starts to talk without a hello is heard
    /// too: its first message is given.
    pub(crate) fn greeted(&mut self, output: &mut Output) -> Result<Option<Message>, Failure> {
        match self.hear(&|| "the hello was not answered".to_owned(), output)? {
            Heard::Message(message) if message.op_code() != OpCode::HelloResponse => {
                Ok(Some(message))
            }
            Heard::Message(_) | Heard::Drained => Ok(None),
        }
    }

    /// Posts a message and gives its header, or `None` when it cannot be posted now: the queue is
    /// full, or the channel has ended. Which one, and why, is heard next.
    pub(crate) fn post(&self, message: Message) -> Result<Option<Header>, Failure> {
        let error = match self.group.post(message) {
            Ok(header) => return Ok(Some(header)),
            Err(error) => error,
        };
        match error.refusal() {
            Refusal::QueueFull { .. } => Ok(None),
            refusal if refusal.is_channel_over() => Ok(None),
            refusal => Err(self.failure(refusal)),
        }
    }

    /// As [`ChannelGroup::post`], for whoever keeps what is refused.
    pub(crate) fn try_post(&self, message: Message) -> Result<Header, PostError> {
        self.group.post(message)
    }

    /// Gives the server as much time again as it had in the beginning: it has done something.
    pub(crate) fn restart_clock(&mut self) {
        self.deadline = Instant::now().checked_add(self.timeout);
    }

    /// Waits for the next thing that the server says. `missing` says what is outstanding, should it
    /// be the last.
    pub(crate) fn hear(
        &mut self,
        missing: &dyn Fn() -> String,
        output: &mut Output,
    ) -> Result<Heard, Failure> {
        loop {
            let event = self.event(self.deadline, missing, output)?;
            if let Some(heard) = self.understand(event, missing)? {
                return Ok(heard);
            }
        }
    }

    /// As [`hear`](Self::hear), but does not wait.
    pub(crate) fn try_hear(
        &mut self,
        missing: &dyn Fn() -> String,
        output: &mut Output,
    ) -> Result<Option<Heard>, Failure> {
        let event = self.event(Some(Instant::now()), missing, output)?;
        self.understand(event, missing)
    }

    /// What an event means before the bye.
    fn understand(
        &self,
        event: Option<Event>,
        missing: &dyn Fn() -> String,
    ) -> Result<Option<Heard>, Failure> {
        match event {
            Some(Event::Message(message)) if message.op_code() == OpCode::ByeRequest => {
                self.answer_bye(&message)?;
                Err(self.failure(format_args!("the server said bye: {}", missing())))
            }
            Some(Event::Message(message)) => Ok(Some(Heard::Message(message))),
            Some(Event::Drained(_)) => Ok(Some(Heard::Drained)),
            Some(Event::Closed { reason, .. }) => {
                Err(self.failure(format_args!("{reason}: {}", missing())))
            }
            _ => Ok(None),
        }
    }

    /// Says bye and waits until the channel is closed.
    pub(crate) fn bye(&mut self, output: &mut Output) -> Result<(), Failure> {
        self.post(Message::bye_request(self.channel))?;
        let missing = || "the bye was not answered".to_owned();
        let mut answered = false;
        loop {
            match self.event(self.deadline, &missing, output)? {
                Some(Event::Message(message)) => match message.op_code() {
                    OpCode::ByeResponse => answered = true,
                    // Both said bye at once.
                    OpCode::ByeRequest => {
                        self.answer_bye(&message)?;
                        answered = true;
                    }
                    // Said before the server heard our bye, and nobody asked for it.
                    _ => {}
                },
                Some(Event::Closed { .. }) if answered => return Ok(()),
                Some(Event::Closed { reason, .. }) => {
                    return Err(self.failure(format_args!("{reason}: {}", missing())));
                }
                _ => {}
            }
        }
    }

    /// Ends a conversation that failed, as gracefully as it can still be done.
    pub(crate) fn end(self) {
        if self.is_late() {
            // The server has had its time.
            return self.group.abort();
        }
        let _ = self.group.close(CLOSE_TIMEOUT);
    }

    /// `why` it failed, with the command and the address.
    pub(crate) fn failure(&self, why: impl Display) -> Failure {
        Failure::new(&self.what, why)
    }

    /// The next event, if one comes until then. A message that comes back is a failure at once.
    fn event(
        &mut self,
        until: Option<Instant>,
        missing: &dyn Fn() -> String,
        output: &mut Output,
    ) -> Result<Option<Event>, Failure> {
        if self.is_late() {
            let seconds = self.timeout.as_secs_f64();
            let missing = missing();
            return Err(self.failure(format_args!("timed out after {seconds} s: {missing}")));
        }
        let event = next_event(&mut self.group, until, output)?;
        self.interrupt.check()?;
        match event {
            Some(Event::Returned { message, reason }) => {
                Err(self.returned(&message, reason, missing))
            }
            event => Ok(event),
        }
    }

    fn returned(&self, message: &Message, reason: Reason, missing: &dyn Fn() -> String) -> Failure {
        match message.op_code() {
            // The server cannot be reached: the address, which the failure names, says it all.
            OpCode::HelloRequest => self.failure(reason),
            op_code => self.failure(format_args!(
                "{op_code} {} came back: {reason}: {}",
                message.id(),
                missing()
            )),
        }
    }

    fn answer_bye(&self, bye: &Message) -> Result<(), Failure> {
        let answer = bye.reply().map_err(|error| self.failure(error))?;
        self.post(answer).map(drop)
    }

    fn is_late(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }
}
