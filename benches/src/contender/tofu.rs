//! tofu with its default options; `tofu-nopoll` with no busy poll.
//!
//! The client makes a message with a copy of the body, in memory of one that it posted before
//! (`ChannelGroup::message`), posts 16 or 8 KiB at a time (`post_many`; `tofu-single`: each alone) or what it has before it
//! waits, and receives answers one by one; when the queue of the channel is full, it waits for `Drained`. The server receives as many as are at hand (`recv_many`) and answers each.

use std::{collections::VecDeque, time::Duration};

use tofu::{
    Address, ChannelGroup, ChannelNumber, Engine, Event, Message, OpCode, Options, PostError,
    Refusal,
};

use super::{
    Client, Contender, Endpoint, Fallible,
    messenger::{Kind, Messenger, body},
};

/// Events that the server receives at once.
const EVENTS_MAX: usize = 1024;
/// Messages that the client posts at once, or bytes of their bodies.
const BATCH_MAX: usize = 16;
const BATCH_BYTES_MAX: usize = 8 * 1024;

/// With these options.
#[derive(Debug)]
pub(crate) struct Tofu {
    options: Options,
    batch_max: usize,
}

impl Default for Tofu {
    fn default() -> Self {
        Self {
            options: Options::default(),
            batch_max: BATCH_MAX,
        }
    }
}

impl Tofu {
    /// Without the busy poll.
    pub(crate) fn without_poll() -> Self {
        Self {
            options: Options::default().busy_poll(Duration::ZERO),
            ..Self::default()
        }
    }

    /// Each message is posted alone.
    pub(crate) fn single() -> Self {
        Self {
            batch_max: 1,
            ..Self::default()
        }
    }
}

impl Contender for Tofu {
    fn serve(&self, endpoint: &Endpoint, ready: &mut dyn FnMut(&Endpoint)) -> Fallible {
        let engine = Engine::new(self.options.clone())?;
        let mut group = engine.group()?;
        group.post(Message::welcome_request(&address(endpoint)?))?;
        let mut events = Vec::new();
        loop {
            group.recv_many(&mut events, EVENTS_MAX)?;
            for event in &events {
                match event {
                    Event::Listening { address, .. } => match endpoint {
                        Endpoint::Tcp(_) => ready(&Endpoint::Tcp(address.port())),
                        Endpoint::Uds(_) => ready(endpoint),
                    },
                    Event::Message(message) if message.op_code() != OpCode::Signal => {
                        let answer = group.reply(message)?.with_body(message.body());
                        group.post(answer)?;
                    }
                    _ => {}
                }
            }
        }
    }

    fn connect(&self, endpoint: &Endpoint) -> Fallible<Box<dyn Client>> {
        let mut peer = Peer::connect(endpoint, self.options.clone())?;
        peer.batch_max = self.batch_max;
        Ok(Box::new(peer))
    }
}

/// The address of an endpoint in tofu's words.
pub(crate) fn address(endpoint: &Endpoint) -> Fallible<Address> {
    match endpoint {
        Endpoint::Tcp(port) => Ok(Address::tcp("127.0.0.1", *port)?),
        Endpoint::Uds(path) => Ok(Address::uds(path.to_string_lossy())?),
    }
}

/// A client that has said hello.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Its group lives only as long as this.
    _engine: Engine,
    pub(crate) group: ChannelGroup,
    pub(crate) channel: ChannelNumber,
    /// Messages to post at once, when there are so many or they are so large.
    batch: VecDeque<Message>,
    batch_max: usize,
    batch_bytes: usize,
}

impl Peer {
    /// Says hello and hears the answer.
    pub(crate) fn connect(endpoint: &Endpoint, options: Options) -> Fallible<Self> {
        let engine = Engine::new(options)?;
        let mut group = engine.group()?;
        let channel = open(&mut group, &address(endpoint)?)?;
        Ok(Self {
            _engine: engine,
            group,
            channel,
            batch: VecDeque::new(),
            batch_max: BATCH_MAX,
            batch_bytes: 0,
        })
    }
}

/// Opens one more channel.
pub(crate) fn open(group: &mut ChannelGroup, address: &Address) -> Fallible<ChannelNumber> {
    let channel = group.post(Message::hello_request(address))?.channel;
    match group.recv()? {
        Event::Message(message) if message.op_code() == OpCode::HelloResponse => Ok(channel),
        other => Err(format!("no answer to a hello: {other:?}").into()),
    }
}

/// Posts, and waits for room when there is none.
pub(crate) fn post_patiently(group: &mut ChannelGroup, message: Message) -> Fallible {
    let mut outcome = group.post(message);
    while let Err(refused) = outcome {
        let message = full_or_error(refused)?;
        while !matches!(group.recv()?, Event::Drained(_)) {}
        outcome = group.post(message);
    }
    Ok(())
}

/// The message, if it was refused because a queue is full.
pub(crate) fn full_or_error(refused: PostError) -> Fallible<Message> {
    match refused.refusal() {
        Refusal::QueueFull { .. } => Ok(refused.into_message()),
        _ => Err(refused.into()),
    }
}

/// Waits for one answer.
pub(crate) fn answer(group: &mut ChannelGroup) -> Fallible<Message> {
    loop {
        match group.recv()? {
            Event::Message(message) => return Ok(message),
            Event::Drained(_) => {}
            other => return Err(format!("no answer: {other:?}").into()),
        }
    }
}

impl Messenger for Peer {
    fn post(&mut self, kind: Kind, len: usize) -> Fallible {
        let message = match kind {
            Kind::Signal => self.group.signal(self.channel),
            Kind::Request => self.group.request(self.channel),
        };
        self.batch.push_back(message.with_body(body(kind, len)));
        self.batch_bytes += len;
        if self.batch.len() >= self.batch_max || self.batch_bytes >= BATCH_BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Fallible {
        self.batch_bytes = 0;
        while let Err(refused) = self.group.post_many(&mut self.batch) {
            let message = full_or_error(refused)?;
            self.batch.push_front(message);
            while !matches!(self.group.recv()?, Event::Drained(_)) {}
        }
        Ok(())
    }

    fn answer(&mut self) -> Fallible {
        self.flush()?;
        answer(&mut self.group)?;
        Ok(())
    }
}
