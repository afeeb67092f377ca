//! Moves a fixed number of messages inside one process, to be counted by an instruction counter.
//!
//! ```text
//! instructions one-way-64 100000
//! ```
//!
//! One thread posts and receives in turn, over a Unix domain socket between two groups of one engine,
//! without the busy poll, whose instructions would depend on time. `instructions.sh` runs it twice with
//! different counts, and the difference is what the messages cost.
#![allow(clippy::print_stdout, reason = "a program that says what it knows")]

use std::{collections::VecDeque, error::Error, time::Duration};

use tofu::{Address, ChannelGroup, ChannelNumber, Engine, Event, Message, OpCode, Options};

type Fallible<T = ()> = Result<T, Box<dyn Error>>;

/// Posted before they are received.
const BATCH: u32 = 64;
/// What `instructions.sh` asks for.
const WORKS: [(&str, Work, usize); 6] = [
    ("one-way-64", one_way, 64),
    ("one-way-1k", one_way, 1024),
    ("bulk-64", bulk, 64),
    ("bulk-1k", bulk, 1024),
    ("round-trip-64", round_trips, 64),
    ("round-trip-1k", round_trips, 1024),
];

type Work = fn(&mut Ends, u32) -> Fallible;

fn main() -> Fallible {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        for (name, ..) in WORKS {
            println!("{name}");
        }
        return Ok(());
    };
    let count = arguments.next().ok_or("how many messages?")?.parse()?;
    let (_, work, len) = WORKS
        .iter()
        .find(|(known, ..)| *known == name)
        .ok_or_else(|| format!("`{name}` is not known"))?;
    let directory = tempfile::tempdir()?;
    let address = Address::uds(directory.path().join("socket").to_string_lossy())?;
    work(&mut Ends::open(&address, *len)?, count)
}

fn one_way(ends: &mut Ends, count: u32) -> Fallible {
    let mut left = count;
    while left > 0 {
        let batch = left.min(BATCH);
        for _ in 0..batch {
            let signal = Message::signal(ends.channel).with_body(&ends.body);
            ends.client.post(signal)?;
        }
        ends.send_gathered()?;
        for _ in 0..batch {
            message(&mut ends.server)?;
        }
        left -= batch;
    }
    Ok(())
}

/// One way with everything that a program can do for speed: memory used again, 16 posted at once, all received
/// at once.
fn bulk(ends: &mut Ends, count: u32) -> Fallible {
    const POSTED: u32 = 16;
    let mut signals = VecDeque::new();
    let mut events = Vec::new();
    let mut left = count;
    while left > 0 {
        let batch = left.min(BATCH);
        for number in 1..=batch {
            let signal = ends.client.signal(ends.channel);
            signals.push_back(signal.with_body(&ends.body));
            if number % POSTED == 0 || number == batch {
                ends.client.post_many(&mut signals)?;
            }
        }
        ends.send_gathered()?;
        let mut missing = batch as usize;
        while missing > 0 {
            missing -= ends.server.recv_many(&mut events, missing)?;
        }
        left -= batch;
    }
    Ok(())
}

fn round_trips(ends: &mut Ends, count: u32) -> Fallible {
    for _ in 0..count {
        let request = Message::request(ends.channel).with_body(&ends.body);
        ends.client.post(request)?;
        ends.send_gathered()?;
        let request = message(&mut ends.server)?;
        ends.server.post(request.into_reply()?)?;
        ends.server.try_recv()?;
        message(&mut ends.client)?;
    }
    Ok(())
}

/// Both ends of one channel.
struct Ends {
    client: ChannelGroup,
    server: ChannelGroup,
    channel: ChannelNumber,
    body: Vec<u8>,
    _engine: Engine,
}

impl Ends {
    fn open(address: &Address, len: usize) -> Fallible<Self> {
        let engine = Engine::new(Options::default().busy_poll(Duration::ZERO))?;
        let mut server = engine.group()?;
        server.post(Message::welcome_request(address))?;
        let Event::Listening { .. } = server.recv()? else {
            return Err("nobody listens".into());
        };
        let mut client = engine.group()?;
        let channel = client.post(Message::hello_request(address))?.channel;
        let hello = message(&mut server)?;
        server.post(hello.into_reply()?)?;
        let answer = message(&mut client)?;
        if answer.op_code() != OpCode::HelloResponse {
            return Err(format!("no answer to the hello: {answer:?}").into());
        }
        Ok(Self {
            client,
            server,
            channel,
            body: vec![b'x'; len],
            _engine: engine,
        })
    }

    /// What has been gathered leaves when the client looks for events.
    fn send_gathered(&mut self) -> Fallible {
        match self.client.try_recv()? {
            None => Ok(()),
            Some(other) => Err(format!("nothing was expected: {other:?}").into()),
        }
    }
}

fn message(group: &mut ChannelGroup) -> Fallible<Message> {
    match group.recv()? {
        Event::Message(message) => Ok(message),
        other => Err(format!("no message: {other:?}").into()),
    }
}
