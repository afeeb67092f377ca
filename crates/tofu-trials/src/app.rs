//! What the trials' applications have in common.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use tofu::{Address, ChannelGroup, ChannelNumber, Event, Message, OpCode, Refusal};

use crate::{Fallible, child::WATCHDOG};

/// The next event.
///
/// # Errors
/// There is none before the watchdog.
pub fn next(group: &mut ChannelGroup) -> Fallible<Event> {
    next_within(group, WATCHDOG)
}

/// The next event within this time.
///
/// # Errors
/// There is none.
pub fn next_within(group: &mut ChannelGroup, time: Duration) -> Fallible<Event> {
    let event = group.recv_timeout(time)?;
    event.ok_or_else(|| format!("nothing happened for {} s", time.as_secs()).into())
}

/// Listens, and gives the real address.
///
/// # Errors
/// It cannot.
pub fn listen(group: &mut ChannelGroup, address: &Address) -> Fallible<Address> {
    group.post(Message::welcome_request(address))?;
    match next(group)? {
        Event::Listening { address, .. } => Ok(address),
        other => Err(format!("not listening: {other:?}").into()),
    }
}

/// Says hello, and waits for the answer.
///
/// # Errors
/// It is refused, or does not come.
pub fn greet(group: &mut ChannelGroup, address: &Address) -> Fallible<ChannelNumber> {
    let channel = group.post(Message::hello_request(address))?.channel;
    match next(group)? {
        Event::Message(answer) if answer.op_code() == OpCode::HelloResponse => Ok(channel),
        other => Err(format!("no hello: {other:?}").into()),
    }
}

/// Waits for a HelloRequest and answers it.
///
/// # Errors
/// It does not come.
pub fn welcome(group: &mut ChannelGroup) -> Fallible<ChannelNumber> {
    match next(group)? {
        Event::Message(hello) if hello.op_code() == OpCode::HelloRequest => {
            let channel = hello.channel();
            group.post(hello.into_reply()?)?;
            Ok(channel)
        }
        other => Err(format!("no hello: {other:?}").into()),
    }
}

/// A signal that tells its place in a sequence, with a body of `len` bytes.
pub fn numbered(channel: ChannelNumber, number: u64, len: usize) -> Message {
    Message::signal(channel)
        .with_id(number + 1)
        .with_body(vec![number.to_be_bytes()[7]; len])
}

/// The place of a [`numbered`] message.
///
/// # Errors
/// It is another one, or changed.
pub fn number_of(message: &Message) -> Fallible<u64> {
    let number = message.id().get().wrapping_sub(1);
    let is_whole = message
        .body()
        .iter()
        .all(|byte| *byte == number.to_be_bytes()[7]);
    if is_whole && message.op_code() == OpCode::Signal {
        return Ok(number);
    }
    Err(format!("damaged: {message:?}").into())
}

/// Whether a message was refused because a queue was full; any other refusal is an error.
///
/// # Errors
/// It was refused for another reason.
pub fn has_room(posted: Result<tofu::Header, tofu::PostError>) -> Fallible<bool> {
    match posted {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.refusal(), Refusal::QueueFull { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Tells a line to whoever started this process.
///
/// # Errors
/// Nobody is there.
pub fn tell(line: impl std::fmt::Display) -> Fallible {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Waits for what no event tells.
///
/// # Errors
/// It does not come before the watchdog.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> Fallible<bool>) -> Fallible {
    let end = Instant::now() + WATCHDOG;
    while !is_so()? {
        if Instant::now() > end {
            return Err(format!("never: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
