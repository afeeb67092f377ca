//! Peers that are stopped for longer than the timeouts. (That a process which was stopped itself does not
//! blame its peers is an ordinary test: `late_driver`.)

use std::{net::TcpStream, thread, time::Duration};

use nix::sys::signal::Signal;
use tofu::{Address, Engine, Event, Message, OpCode, Options, Status};
use tofu_trials::{
    Fallible,
    app::{eventually, greet, listen, next, tell},
    child::Companion,
};

const TIMEOUT: Duration = Duration::from_millis(500);
const ROUNDS: u64 = 5;

/// The peer: `hello` connects, and `frame` sends half a frame, and what is missing in time unless it is stopped;
/// `bye` hears a bye.
pub(crate) fn greets(orders: &str) -> Fallible {
    use std::io::Write;
    let (how, address) = orders.split_once(' ').ok_or("how, and where")?;
    let address: Address = address.parse()?;
    if how != "bye" {
        let mut stream = TcpStream::connect((address.host().unwrap_or_default(), address.port()))?;
        let hello = Message::hello_request(&address).with_id(1);
        let hello = [&hello.binary_header().to_bytes(), hello.payload()].concat();
        // A signal without anything.
        let half = [0, 1, 2, 0, 0, 0, 0, 0];
        let (now, then) = if how == "frame" {
            ([&hello[..], &half].concat(), vec![0; 8])
        } else {
            (Vec::new(), hello)
        };
        stream.write_all(&now)?;
        tell("ready")?;
        // Time enough to be stopped in, and the rest still comes in time if it is not.
        thread::sleep(TIMEOUT / 2);
        stream.write_all(&then)?;
        for _ in std::io::stdin().lines() {}
        return Ok(());
    }
    let engine = Engine::new(Options::default())?;
    let mut group = engine.group()?;
    greet(&mut group, &address)?;
    tell("ready")?;
    loop {
        match next(&mut group)? {
            // The answer comes too late, and may come back.
            Event::Message(message) if message.op_code() == OpCode::ByeRequest => {
                let _ = group.post(message.into_reply()?);
            }
            Event::Returned { .. } => {}
            Event::Closed { reason, .. } => return tell(reason.status()),
            other => return Err(format!("not due: {other:?}").into()),
        }
    }
}

pub(crate) fn peers(times: u64) -> Fallible<String> {
    let rounds = ROUNDS * times;
    for _ in 0..rounds {
        hello()?;
        frame()?;
        bye()?;
    }
    Ok(format!(
        "{rounds} times each, timeouts of {} ms: half-open connection gone and counted; \
         Closed(frame_timeout); Closed(bye_timeout), and the peer heard the end when it went on",
        TIMEOUT.as_millis()
    ))
}

fn start(how: &str, address: &Address) -> Fallible<Companion> {
    let orders = format!("{how} {address}");
    let peer = Companion::start::<&str, _>(&[], &["--part", "greets", &orders])?;
    Ok(peer)
}

fn loopback() -> Fallible<Address> {
    Ok(Address::tcp("127.0.0.1", 0)?)
}

fn hello() -> Fallible {
    let engine = Engine::new(Options::default().hello_timeout(TIMEOUT))?;
    let mut group = engine.group()?;
    let address = listen(&mut group, &loopback()?)?;
    let peer = start("hello", &address)?;
    peer.hear_word("ready")?;
    peer.signal(Signal::SIGSTOP)?;
    eventually("the half-open connection is closed", || {
        let metrics = engine.metrics();
        Ok(metrics.hello_timeouts == 1 && metrics.half_open == 0)
    })?;
    match group.try_recv()? {
        None => Ok(()),
        Some(event) => Err(format!("not due: {event:?}").into()),
    }
}

fn frame() -> Fallible {
    let engine = Engine::new(Options::default().frame_timeout(TIMEOUT))?;
    let mut group = engine.group()?;
    let address = listen(&mut group, &loopback()?)?;
    let peer = start("frame", &address)?;
    peer.hear_word("ready")?;
    peer.signal(Signal::SIGSTOP)?;
    next(&mut group)?;
    closed_with(next(&mut group)?, Status::FRAME_TIMEOUT)
}

fn bye() -> Fallible {
    let engine = Engine::new(Options::default().bye_timeout(TIMEOUT))?;
    let mut group = engine.group()?;
    let address = listen(&mut group, &loopback()?)?;
    let peer = start("bye", &address)?;
    let channel = tofu_trials::app::welcome(&mut group)?;
    peer.hear_word("ready")?;
    peer.signal(Signal::SIGSTOP)?;
    group.post(Message::bye_request(channel))?;
    closed_with(next(&mut group)?, Status::BYE_TIMEOUT)?;
    peer.signal(Signal::SIGCONT)?;
    peer.hear_word("peer_disconnected").map(drop)
}

fn closed_with(event: Event, status: Status) -> Fallible {
    match event {
        Event::Closed { reason, .. } if reason.status() == status => Ok(()),
        other => Err(format!("{status} was due, not {other:?}").into()),
    }
}
