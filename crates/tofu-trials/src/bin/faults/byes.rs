//! Byes on lines that lose, delay and limit: whoever asks gets the answer, and everything before it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tofu::{ChannelNumber, Engine, Event, Message, OpCode, Options, Status};
use tofu_trials::{
    Fallible,
    app::{listen, next_within, number_of, numbered, tell},
    child::Companion,
};

use crate::network::{ADDRESSES, Line, Network};

/// Bytes of a message's body.
const LEN: usize = 500;
/// How long a trial may take in all.
const PATIENCE: Duration = Duration::from_secs(150);
const BYES: u64 = 500;
/// TCP itself may be silent for longer than the default of 5 s on such a line: lost three times in a row, a
/// packet is sent again after 4 s, and then after 9 s.
const BYE_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn under_loss(times: u64) -> Fallible<String> {
    let line = Line {
        loss_percent: 5,
        delay: Duration::from_millis(100),
        rate: None,
    };
    over(line, BYES * times, 10)
}

pub(crate) fn under_rate(times: u64) -> Fallible<String> {
    let line = Line {
        loss_percent: 0,
        delay: Duration::from_millis(20),
        rate: Some("8mbit"),
    };
    over(line, BYES * times, 4)
}

/// This many channels at once, each with this many messages in either direction before its bye.
fn over(line: Line, channels: u64, messages: u64) -> Fallible<String> {
    let mut network = Network::new(line)?;
    let (count, each) = (channels.to_string(), messages.to_string());
    let server = network.start(0, &["--part", "bye-server", ADDRESSES[0], &each])?;
    let address = server.hear_word("listening")?;
    let client = network.start(1, &["--part", "bye-client", &address, &count, &each])?;
    let told = |companion: &Companion| companion.hear_within(PATIENCE);
    let (at_client, at_server) = (told(&client)?, told(&server)?);
    client.end()?;
    server.end()?;
    let figures = format!(
        "client: {at_client}; server: {at_server}; {}",
        network.traffic()?
    );
    if !at_server.starts_with(&format!("{channels} channels ")) {
        return Err(format!("not all channels ended at the server: {figures}").into());
    }
    Ok(figures)
}

/// What one channel has heard.
#[derive(Default)]
struct Heard {
    signals: u64,
    byes: u64,
}

/// All channels of one side.
#[derive(Default)]
struct Side {
    channels: HashMap<ChannelNumber, Heard>,
    clean: u64,
}

impl Side {
    fn signal(&mut self, message: &Message) -> Fallible {
        let heard = self.channels.entry(message.channel()).or_default();
        if number_of(message)? != heard.signals {
            return Err(format!("a gap before {message:?}").into());
        }
        heard.signals += 1;
        Ok(())
    }

    /// A channel ended: with all that was said on it, or it is an error.
    fn closed(&mut self, channel: ChannelNumber, status: Status, messages: u64) -> Fallible {
        let heard = self.channels.remove(&channel).unwrap_or_default();
        if (heard.signals, heard.byes, status) != (messages, 1, Status::CHANNEL_CLOSED) {
            return Err(format!(
                "a channel ended ({status}) with {} of {messages} messages and {} byes",
                heard.signals, heard.byes
            )
            .into());
        }
        self.clean += 1;
        Ok(())
    }
}

/// Hears what the clients send; answers a bye behind messages of its own.
pub(crate) fn server(ip: &str, messages: u64) -> Fallible {
    let engine = Engine::new(Options::default().bye_timeout(BYE_TIMEOUT))?;
    let mut group = engine.group()?;
    let address = listen(&mut group, &format!("tcp|{ip}|0").parse()?)?;
    tell(format_args!("listening {address}"))?;
    let mut side = Side::default();
    let mut is_over = false;
    while !is_over || !side.channels.is_empty() {
        match next_within(&mut group, PATIENCE)? {
            Event::Message(message) => match message.op_code() {
                OpCode::Signal => side.signal(&message)?,
                OpCode::HelloRequest => {
                    side.channels.insert(message.channel(), Heard::default());
                    group.post(message.into_reply()?)?;
                }
                OpCode::ByeRequest => {
                    side.channels.entry(message.channel()).or_default().byes += 1;
                    for number in 0..messages {
                        group.post(numbered(message.channel(), number, LEN))?;
                    }
                    group.post(message.into_reply()?)?;
                    is_over = true;
                }
                other => return Err(format!("not due: {other:?}").into()),
            },
            Event::Closed {
                channel, reason, ..
            } => side.closed(channel, reason.status(), messages)?,
            Event::PoolEmpty => {}
            other => return Err(format!("not due: {other:?}").into()),
        }
    }
    tell(format_args!("{} channels closed in peace", side.clean))
}

/// Opens all channels, says everything, says bye on all at once, and hears it answered.
pub(crate) fn client(address: &str, channels: u64, messages: u64) -> Fallible {
    let engine = Engine::new(Options::default().bye_timeout(BYE_TIMEOUT))?;
    let mut group = engine.group()?;
    let address = address.parse()?;
    for _ in 0..channels {
        group.post(Message::hello_request(&address))?;
    }
    let mut side = Side::default();
    let mut greeted = Vec::new();
    while greeted.len() as u64 != channels {
        match next_within(&mut group, PATIENCE)? {
            Event::Message(hello) if hello.op_code() == OpCode::HelloResponse => {
                greeted.push(hello.channel());
            }
            other => return Err(format!("not due: {other:?}").into()),
        }
    }
    let started = Instant::now();
    for &channel in &greeted {
        for number in 0..messages {
            group.post(numbered(channel, number, LEN))?;
        }
        group.post(Message::bye_request(channel))?;
    }
    while side.clean != channels {
        match next_within(&mut group, PATIENCE)? {
            Event::Message(message) if message.op_code() == OpCode::Signal => {
                side.signal(&message)?;
            }
            Event::Message(message) if message.op_code() == OpCode::ByeResponse => {
                side.channels.entry(message.channel()).or_default().byes += 1;
            }
            Event::Closed {
                channel, reason, ..
            } => side.closed(channel, reason.status(), messages)?,
            Event::PoolEmpty => {}
            other => return Err(format!("not due: {other:?}").into()),
        }
    }
    tell(format_args!(
        "{channels} byes, {} answered, {} messages before them, none lost, all within {:.1} s",
        side.clean,
        side.clean * messages,
        started.elapsed().as_secs_f64(),
    ))
}
