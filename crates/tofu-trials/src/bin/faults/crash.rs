//! Peers and connections that die: what was received is delivered, in order and without a gap, then what
//! could not be sent comes back, then the channel is closed, once.

use std::{process::Command, time::Duration};

use tofu::{
    Address, ChannelGroup, ChannelNumber, Engine, Event, Message, OpCode, Options, Status,
    testing::TemporaryUds,
};
use tofu_trials::{
    Fallible,
    app::{eventually, greet, has_room, listen, next, number_of, numbered, tell, welcome},
    child::Companion,
    random::Random,
};

const LEN: usize = 300;
/// Crashes of each kind.
const CRASHES: u64 = 40;

fn loopback() -> Fallible<Address> {
    Ok(Address::tcp("127.0.0.1", 0)?)
}

/// Posts numbered messages until there is no room for more.
fn post_all(group: &ChannelGroup, channel: ChannelNumber, number: &mut u64) -> Fallible {
    while has_room(group.post(numbered(channel, *number, LEN)))? {
        *number += 1;
    }
    Ok(())
}

/// What a survivor heard.
struct Heard {
    delivered: u64,
    returned: u64,
}

/// Hears a channel to its end, sending on meanwhile if `sent` says how much was sent.
fn hear_to_the_end(
    group: &mut ChannelGroup,
    ended: ChannelNumber,
    heard: u64,
    mut sent: Option<u64>,
) -> Fallible<Heard> {
    let (mut delivered, mut returned) = (heard, 0);
    let mut back = None;
    loop {
        match next(group)? {
            Event::Message(message) => {
                if number_of(&message)? != delivered || returned > 0 {
                    return Err(format!("a gap: {message:?} behind {delivered}").into());
                }
                delivered += 1;
            }
            Event::Drained(channel) => {
                if let Some(number) = &mut sent {
                    // It may have ended since.
                    while group.post(numbered(channel, *number, LEN)).is_ok() {
                        *number += 1;
                    }
                }
            }
            Event::Returned { message, reason } => {
                let number = number_of(&message)?;
                if back.is_some_and(|before| number != before + 1)
                    || reason.status() != Status::PEER_DISCONNECTED
                {
                    return Err(format!("{message:?} is back after {back:?}: {reason}").into());
                }
                back = Some(number);
                returned += 1;
            }
            Event::Closed {
                channel, reason, ..
            } => {
                if (channel, reason.status()) != (ended, Status::PEER_DISCONNECTED) {
                    return Err(format!("{channel} ended: {reason}").into());
                }
                break;
            }
            Event::PoolEmpty => {}
            other => return Err(format!("not due: {other:?}").into()),
        }
    }
    if let (Some(number), Some(last)) = (sent, back)
        && last + 1 != number
    {
        return Err(format!("the last of {number} messages to come back was {last}").into());
    }
    if let Some(event) = group.try_recv()? {
        return Err(format!("behind the end: {event:?}").into());
    }
    Ok(Heard {
        delivered,
        returned,
    })
}

/// Whether the ends came while messages were under way, to be received and to be sent.
fn in_both_ways(delivered: u64, returned: u64) -> Fallible {
    if delivered == 0 || returned == 0 {
        return Err(format!("proves nothing: {delivered} delivered, {returned} came back").into());
    }
    Ok(())
}

pub(crate) fn ss_kill(times: u64) -> Fallible<String> {
    let script = "ip link set lo up && exec \"$0\" \"$@\"";
    let times = (20 * times).to_string();
    let inside = Companion::start(
        &["unshare", "--net", "sh", "-c", script],
        &["--part", "ss-kill", &times],
    )?;
    let figures = inside.hear()?;
    inside.end()?;
    Ok(figures)
}

/// In a network of its own: both peers stream, and one end of their connection is destroyed.
pub(crate) fn ss_kill_inside(times: u64) -> Fallible {
    let (mut delivered, mut returned) = (0, 0);
    for nth in 0..times {
        // One thread hears the one after the other, which must not keep the pool of both meanwhile.
        let options = || Options::default().queue_bytes(1 << 20, 1 << 24);
        let (mut server, mut client) = (
            Engine::new(options())?.group()?,
            Engine::new(options())?.group()?,
        );
        let address = listen(&mut server, &loopback()?)?;
        let at_client = client.post(Message::hello_request(&address))?.channel;
        let at_server = welcome(&mut server)?;
        match next(&mut client)? {
            Event::Message(answer) if answer.op_code() == OpCode::HelloResponse => {}
            other => return Err(format!("no hello: {other:?}").into()),
        }
        let (mut from_server, mut from_client) = (0, 0);
        post_all(&server, at_server, &mut from_server)?;
        post_all(&client, at_client, &mut from_client)?;
        let side = if nth % 2 == 0 { "dport" } else { "sport" };
        let filter = format!("{side} = {}", address.port());
        let output = Command::new("ss")
            .args(["-K", "-H", "-t", "state", "established", &filter])
            .output()?;
        if !output.status.success() || output.stdout.is_empty() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(format!("ss -K killed nothing: {}", why.trim()).into());
        }
        for (group, channel, sent) in [
            (&mut server, at_server, from_server),
            (&mut client, at_client, from_client),
        ] {
            let heard = hear_to_the_end(group, channel, 0, Some(sent))?;
            delivered += heard.delivered;
            returned += heard.returned;
        }
    }
    in_both_ways(delivered, returned)?;
    tell(format_args!(
        "{times} connections killed while both sides streamed: {delivered} messages delivered without a \
         gap, {returned} came back, {} times Closed(peer_disconnected)",
        2 * times
    ))
}

/// The peer that is killed: it streams to whoever it meets, and hears what that one streams. A client
/// says hello to the address it is given; a server tells where it listens.
pub(crate) fn streams(orders: &str) -> Fallible {
    let engine = Engine::new(Options::default())?;
    let mut group = engine.group()?;
    let channel = match orders.strip_prefix("server ") {
        Some(place) => {
            let address = listen(&mut group, &place.parse()?)?;
            tell(format_args!("listening {address}"))?;
            welcome(&mut group)?
        }
        None => greet(&mut group, &orders.parse()?)?,
    };
    let (mut sent, mut heard) = (0, 0);
    loop {
        post_all(&group, channel, &mut sent)?;
        if let Event::Message(message) = next(&mut group)? {
            if number_of(&message)? != heard {
                tell("a gap")?;
            }
            heard += 1;
        }
    }
}

pub(crate) fn in_mid_stream(times: u64) -> Fallible<String> {
    let crashes = CRASHES * times;
    let mut random = Random::new(5);
    let (mut delivered, mut returned) = (0, 0);
    for nth in 0..crashes {
        let dir = TemporaryUds::new()?;
        let place = match nth % 2 {
            0 => loopback()?,
            _ => dir.address("crash.sock"),
        };
        let engine = Engine::new(Options::default().queue_bytes(1 << 20, 1 << 24))?;
        let mut group = engine.group()?;
        let (peer, channel) = if nth / 2 % 2 == 0 {
            let address = listen(&mut group, &place)?.to_string();
            let peer = Companion::start::<&str, _>(&[], &["--part", "streams", &address])?;
            (peer, welcome(&mut group)?)
        } else {
            let orders = format!("server {place}");
            let peer = Companion::start::<&str, _>(&[], &["--part", "streams", &orders])?;
            let address = peer.hear_word("listening")?.parse()?;
            let channel = greet(&mut group, &address)?;
            (peer, channel)
        };
        let mut sent = 0;
        post_all(&group, channel, &mut sent)?;
        let before = random.below(5_000);
        let mut heard = 0;
        while heard < before {
            match next(&mut group)? {
                Event::Message(message) if number_of(&message)? == heard => heard += 1,
                Event::Drained(_) => post_all(&group, channel, &mut sent)?,
                Event::PoolEmpty => {}
                other => return Err(format!("not due: {other:?}").into()),
            }
        }
        // It may have been the first to fail.
        if let Some(told) = peer.kill()?.first() {
            return Err(format!("the peer told {told:?}").into());
        }
        let all = hear_to_the_end(&mut group, channel, heard, Some(sent))?;
        delivered += all.delivered;
        returned += all.returned;
    }
    in_both_ways(delivered, returned)?;
    Ok(format!(
        "{crashes} crashes (client, server; tcp, uds) while both sides streamed: {delivered} messages \
         delivered without a gap, {returned} came back, Closed(peer_disconnected) each time"
    ))
}

/// Sends this many messages, says when its kernel has them all, and waits for its end.
pub(crate) fn sends(address: &str, count: u64) -> Fallible {
    let engine = Engine::new(Options::default())?;
    let mut group = engine.group()?;
    let channel = greet(&mut group, &address.parse()?)?;
    for number in 0..count {
        group.post(numbered(channel, number, LEN))?;
    }
    eventually("all has left", || Ok(engine.metrics().queued_bytes == 0))?;
    tell("sent")?;
    loop {
        next(&mut group)?;
    }
}

pub(crate) fn with_all_received(times: u64) -> Fallible<String> {
    const MESSAGES: u64 = 100;
    let crashes = CRASHES * times;
    for nth in 0..crashes {
        let dir = TemporaryUds::new()?;
        let place = match nth % 2 {
            0 => loopback()?,
            _ => dir.address("late.sock"),
        };
        // Most of it stays in the kernel until the peer is gone.
        let engine = Engine::new(Options::default().pool_messages(1, 4))?;
        let mut group = engine.group()?;
        let address = listen(&mut group, &place)?;
        let (text, count) = (address.to_string(), MESSAGES.to_string());
        let peer = Companion::start::<&str, _>(&[], &["--part", "sends", &text, &count])?;
        let channel = welcome(&mut group)?;
        peer.hear_word("sent")?;
        if address.path().is_none() {
            let filter = format!("dport = {}", address.port());
            eventually("our kernel has acknowledged all", || is_sent(&filter))?;
        }
        peer.kill()?;
        std::thread::sleep(Duration::from_millis(20));
        let heard = hear_to_the_end(&mut group, channel, 0, None)?;
        if heard.delivered != MESSAGES {
            return Err(format!("{} of {MESSAGES} delivered", heard.delivered).into());
        }
    }
    Ok(format!(
        "{crashes} crashes (tcp, uds) before the first message was read, pool of 4: all {MESSAGES} \
         delivered each time, then Closed(peer_disconnected)"
    ))
}

/// Whether nothing waits to be acknowledged on the sockets that the filter finds, of which there must be one.
fn is_sent(filter: &str) -> Fallible<bool> {
    let output = Command::new("ss")
        .args(["-H", "-t", "-n", "state", "established", filter])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // Received and not read, sent and not acknowledged, and the two ends.
    let waiting = text
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1));
    let waiting: Vec<_> = waiting.collect();
    Ok(output.status.success() && !waiting.is_empty() && waiting.iter().all(|bytes| *bytes == "0"))
}
