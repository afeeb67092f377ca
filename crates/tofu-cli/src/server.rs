//! What `echo`, `sink`, `listen` and the demo's server have in common: they listen, hear what arrives,
//! post what their [`Service`] answers, and end when their [`Limits`] say so.
//!
//! A channel that ends, however, is never an error of a server; a listener that fails is.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use tofu::{
    Address, ChannelGroup, ChannelNumber, Engine, Event, Message, OpCode, Options, Peer, Reason,
    Refusal,
};

use crate::{
    backlog::{Backlog, STALLED},
    error::Failure,
    interrupt::Interrupt,
    next_event::{CLOSE_TIMEOUT, next_event},
    output::{self, Output},
};

/// What a server does with what arrives.
pub(crate) trait Service {
    /// Sees every event before anything is done about it, and prints what it wants to. The peer is told
    /// with its HelloRequest.
    fn observe(
        &mut self,
        event: &Event,
        _peer: Option<Peer>,
        output: &mut Output,
    ) -> Result<(), Failure> {
        match event {
            Event::Listening { .. } => output.event(event),
            _ => Ok(()),
        }
    }

    /// The answer to a peer's message, if there is one.
    fn answer(&mut self, message: Message) -> Option<Message>;

    /// Forgets a channel that is closed.
    fn forget(&mut self, _channel: ChannelNumber) {}

    /// Gives up what is unfinished: nothing more is heard.
    fn end(&mut self) {}
}

/// When a server ends by itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// After this time.
    pub(crate) time: Option<Duration>,
    /// After this many byes were answered and their channels closed.
    pub(crate) byes: Option<u64>,
}

/// Serves until the limits are reached or the program is interrupted, then says bye to all.
/// `command` names the subcommand in errors.
pub(crate) fn serve(
    command: &'static str,
    options: Options,
    addresses: &[Address],
    limits: Limits,
    service: &mut impl Service,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<(), Failure> {
    let failed = |error| Failure::new(command, error);
    let engine = Engine::new(options).map_err(failed)?;
    let group = engine.group().map_err(failed)?;
    interrupt.wake(group.poster());
    let mut server = Server {
        command,
        interrupt,
        group,
        limits,
        listeners: HashMap::new(),
        backlog: Backlog::default(),
        byes: HashSet::new(),
        byes_closed: 0,
        service,
        output,
    };
    let result = server.listen(addresses).and_then(|()| server.run());
    server.service.end();
    match &result {
        Ok(()) | Err(Failure::Interrupted | Failure::OutputClosed) => {
            // What a peer does not take within the time is the peer's loss.
            let _ = server.group.close(CLOSE_TIMEOUT);
        }
        Err(Failure::Failed { .. } | Failure::Told) => server.group.abort(),
    }
    result
}

struct Server<'a, S> {
    command: &'static str,
    interrupt: &'a Interrupt,
    group: ChannelGroup,
    limits: Limits,
    listeners: HashMap<ChannelNumber, Address>,
    backlog: Backlog,
    /// Channels on which we have said bye, mostly as an answer.
    byes: HashSet<ChannelNumber>,
    /// How many of those are closed.
    byes_closed: u64,
    service: &'a mut S,
    output: &'a mut Output,
}

impl<S: Service> Server<'_, S> {
    fn listen(&mut self, addresses: &[Address]) -> Result<(), Failure> {
        for address in addresses {
            let header = self
                .group
                .post(Message::welcome_request(address))
                .map_err(|error| self.listen_failure(address, error.refusal()))?;
            self.listeners.insert(header.channel, address.clone());
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), Failure> {
        // No deadline stands for one that the clock cannot reach.
        let end = self
            .limits
            .time
            .and_then(|time| Instant::now().checked_add(time));
        while self.limits.byes.is_none_or(|byes| self.byes_closed < byes) {
            let deadline = end.into_iter().chain(self.backlog.next_stall()).min();
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                if deadline == end {
                    return Ok(());
                }
                self.close_stalled()?;
                continue;
            }
            let event = next_event(&mut self.group, deadline, self.output)?;
            self.interrupt.check()?;
            if let Some(event) = event {
                self.handle(event)?;
            }
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Result<(), Failure> {
        let peer = match &event {
            Event::Message(hello) if hello.op_code() == OpCode::HelloRequest => {
                self.group.peer(hello.channel())
            }
            _ => None,
        };
        self.service.observe(&event, peer, self.output)?;
        match event {
            Event::Message(message) => match self.service.answer(message) {
                Some(answer) => self.answer(answer),
                None => Ok(()),
            },
            Event::Drained(channel) => {
                let answers = self.backlog.take(channel);
                self.post_all(channel, answers)
            }
            Event::Returned { message, reason } => match self.listeners.get(&message.channel()) {
                Some(address) => Err(self.listen_failure(address, reason)),
                // An answer that its peer did not stay for.
                None => Ok(()),
            },
            Event::Closed {
                channel, reason, ..
            } => self.closed(channel, reason),
            Event::Listening { .. } => self.output.flush(),
            Event::PoolEmpty | Event::Notified(_) => Ok(()),
        }
    }

    fn answer(&mut self, answer: Message) -> Result<(), Failure> {
        match self.backlog.queue(answer) {
            Some(answer) => self.post_all(answer.channel(), VecDeque::from([answer])),
            None => Ok(()),
        }
    }

    /// Posts what there is room for, and keeps the rest.
    fn post_all(
        &mut self,
        channel: ChannelNumber,
        mut answers: VecDeque<Message>,
    ) -> Result<(), Failure> {
        while let Some(answer) = answers.pop_front() {
            let is_bye = matches!(answer.op_code(), OpCode::ByeRequest | OpCode::ByeResponse);
            let Err(error) = self.group.post(answer) else {
                if is_bye {
                    self.byes.insert(channel);
                }
                continue;
            };
            match error.refusal() {
                Refusal::QueueFull { .. } => {
                    answers.push_front(error.into_message());
                    self.backlog.keep(channel, answers, Instant::now());
                    return Ok(());
                }
                // The channel has ended meanwhile: nobody waits for these answers any more.
                refusal if refusal.is_channel_over() => return Ok(()),
                refusal => return Err(Failure::new(self.command, refusal)),
            }
        }
        Ok(())
    }

    fn closed(&mut self, channel: ChannelNumber, reason: Reason) -> Result<(), Failure> {
        if let Some(address) = self.listeners.get(&channel) {
            return Err(self.listen_failure(address, reason));
        }
        self.backlog.take(channel);
        self.service.forget(channel);
        self.byes_closed += u64::from(self.byes.remove(&channel));
        Ok(())
    }

    fn close_stalled(&mut self) -> Result<(), Failure> {
        while let Some(channel) = self.backlog.take_stalled(Instant::now()) {
            output::note(format_args!(
                "tofucat: {}: channel {channel}: closed, because the peer took none of its answers \
                 for {} s",
                self.command,
                STALLED.as_secs()
            ));
            self.post_all(channel, VecDeque::from([Message::bye_signal(channel)]))?;
        }
        Ok(())
    }

    fn listen_failure(&self, address: &Address, why: impl std::fmt::Display) -> Failure {
        Failure::new(format_args!("{} {address}", self.command), why)
    }
}
