//! Opens and drops connections, by default 100,000 over TCP and as many over UDS, and prints what
//! they leave behind: nothing.
//!
//! ```text
//! cargo run --release -p tofu-messaging --features testing --example churn -- [connections]
//! ```

use std::{
    collections::VecDeque,
    error::Error,
    fs,
    io::{self, Write},
    time::{Duration, Instant},
};

use tofu::{
    Address, ChannelGroup, ChannelNumber, Engine, Event, Message, OpCode, Options,
    testing::TemporaryUds,
};

/// Connections between two lines of output.
const STEP: usize = 10_000;
/// Connections that are open at the same time.
const OPEN: usize = 64;
/// What any of it may take.
const WATCHDOG: Duration = Duration::from_secs(20);

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let connections = match std::env::args().nth(1) {
        Some(count) => count.parse()?,
        None => 100_000,
    };
    let dir = TemporaryUds::new()?;
    for address in [Address::tcp("127.0.0.1", 0)?, dir.address("churn.sock")] {
        churn(&address, connections)?;
    }
    Ok(())
}

fn churn(address: &Address, connections: usize) -> Outcome<()> {
    let mut out = io::stdout().lock();
    let (servers, clients) = (
        Engine::new(Options::default())?,
        Engine::new(Options::default())?,
    );
    let (mut server, mut client) = (servers.group()?, clients.group()?);
    server.post(Message::welcome_request(address))?;
    let Event::Listening { address, .. } = next(&mut server)? else {
        return Err("no listener".into());
    };
    writeln!(out, "{address}")?;
    writeln!(
        out,
        "connections  seconds  rss KiB  descriptors  open  half-open  pool out  queued bytes"
    )?;
    let started = Instant::now();
    let mut open = VecDeque::new();
    let mut closed = 0;
    for opened in 1..=connections {
        let hello = client.post(Message::hello_request(&address))?;
        wait_for_hello(&mut server, &mut closed)?;
        open.push_back(hello.channel);
        if open.len() == OPEN {
            drop_oldest(&mut client, &mut open)?;
        }
        if opened % STEP == 0 || opened == connections {
            while !open.is_empty() {
                drop_oldest(&mut client, &mut open)?;
            }
            while closed < opened {
                wait_for_end(&mut server, &mut closed)?;
            }
            let metrics = servers.metrics();
            writeln!(
                out,
                "{opened:11}  {:7.2}  {:>7}  {:>11}  {:4}  {:9}  {:8}  {:12}",
                started.elapsed().as_secs_f64(),
                resident_kib().map_or("?".to_owned(), |kib| kib.to_string()),
                descriptors().map_or("?".to_owned(), |count| count.to_string()),
                metrics.channels_open,
                metrics.half_open,
                metrics.pool_messages_out,
                metrics.queued_bytes,
            )?;
        }
    }
    Ok(())
}

fn next(group: &mut ChannelGroup) -> Outcome<Event> {
    group
        .recv_timeout(WATCHDOG)?
        .ok_or_else(|| "nothing happens any more".into())
}

fn wait_for_hello(server: &mut ChannelGroup, closed: &mut usize) -> Outcome<()> {
    loop {
        match next(server)? {
            Event::Message(message) if message.op_code() == OpCode::HelloRequest => return Ok(()),
            Event::Closed { .. } => *closed += 1,
            other => return Err(format!("unexpected: {other:?}").into()),
        }
    }
}

fn wait_for_end(server: &mut ChannelGroup, closed: &mut usize) -> Outcome<()> {
    match next(server)? {
        Event::Closed { .. } => {
            *closed += 1;
            Ok(())
        }
        other => Err(format!("unexpected: {other:?}").into()),
    }
}

fn drop_oldest(client: &mut ChannelGroup, open: &mut VecDeque<ChannelNumber>) -> Outcome<()> {
    let Some(channel) = open.pop_front() else {
        return Ok(());
    };
    client.post(Message::bye_signal(channel))?;
    match next(client)? {
        Event::Closed { channel: ended, .. } if ended == channel => Ok(()),
        other => Err(format!("unexpected: {other:?}").into()),
    }
}

/// Resident memory, where the system tells it.
fn resident_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Open descriptors, where the system tells them.
fn descriptors() -> Option<usize> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count())
}
