//! A process of clients that come and go in every way.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tofu::{Address, ChannelGroup, ChannelNumber, Engine, Event, Message, OpCode, Options};
use tofu_trials::{Fallible, random::Random};

use crate::server::{ABORT, BYE};

/// Channels that a process has open.
const OPEN: usize = 24;
/// Requests that a channel makes at most.
const REQUESTS: u64 = 60;
/// Events after which a group is replaced.
const GROUP_LIFE: u64 = 4_000;
const PATIENCE: Duration = Duration::from_millis(50);

pub(crate) fn run(seed: &str, addresses: &[String]) -> Fallible {
    let addresses: Vec<Address> = addresses
        .iter()
        .map(|address| address.parse())
        .collect::<Result<_, _>>()?;
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    thread::spawn(move || {
        for _ in std::io::stdin().lines() {}
        told.store(true, Ordering::Relaxed);
    });
    let engine = Engine::new(Options::default().pool_messages(16, 128))?;
    let mut random = Random::new(seed.parse::<u64>()? + 1);
    loop {
        let mut clients = Clients {
            group: engine.group()?,
            addresses: &addresses,
            random: random.clone(),
            left: HashMap::new(),
        };
        for _ in 0..GROUP_LIFE {
            if over.load(Ordering::Relaxed) {
                clients.group.close(Duration::from_secs(2));
                return Ok(());
            }
            clients.step()?;
        }
        random = clients.random;
        match random.below(3) {
            0 => drop(clients.group),
            1 => clients.group.abort(),
            _ => drop(clients.group.close(Duration::from_secs(1))),
        }
    }
}

struct Clients<'a> {
    group: ChannelGroup,
    addresses: &'a [Address],
    random: Random,
    /// Requests that each channel has still to make.
    left: HashMap<ChannelNumber, u64>,
}

impl Clients<'_> {
    fn step(&mut self) -> Fallible {
        while self.left.len() < OPEN {
            let address = &self.addresses[self.random.index(self.addresses.len())];
            let hello = self.group.post(Message::hello_request(address))?;
            let requests = self.random.below(REQUESTS);
            self.left.insert(hello.channel, requests);
        }
        match self.group.recv_timeout(PATIENCE)? {
            Some(Event::Message(message)) => match message.op_code() {
                OpCode::HelloResponse | OpCode::Response => self.go_on(message.channel()),
                OpCode::ByeRequest => {
                    if let Ok(answer) = message.into_reply() {
                        let _ = self.group.post(answer);
                    }
                }
                _ => {}
            },
            Some(Event::Closed { channel, .. }) => drop(self.left.remove(&channel)),
            Some(_) | None => {}
        }
        if self.random.below(2_000) == 0 {
            // It reads nothing for a while.
            thread::sleep(Duration::from_millis(50 + self.random.below(250)));
        }
        Ok(())
    }

    /// What cannot be posted is for a channel that is gone, or whose queue is full: its end comes, or has.
    fn go_on(&mut self, channel: ChannelNumber) {
        let Some(left) = self.left.get_mut(&channel) else {
            return;
        };
        let request = Message::request(channel);
        if *left == 0 {
            let last = match self.random.below(8) {
                0..=3 => Message::bye_request(channel),
                4 | 5 => Message::bye_signal(channel),
                6 => request.with_header(ABORT, "now"),
                _ => request.with_header(BYE, "then"),
            };
            let _ = self.group.post(last);
            return;
        }
        *left -= 1;
        for _ in 0..self.random.below(4) {
            let body = self.body();
            let _ = self.group.post(Message::signal(channel).with_body(body));
        }
        let body = self.body();
        let _ = self.group.post(
            request
                .with_header("len", body.len().to_string())
                .with_body(body),
        );
    }

    fn body(&mut self) -> Vec<u8> {
        let bound = match self.random.below(20) {
            0 => 60_000,
            1..=4 => 4_000,
            _ => 200,
        };
        vec![b'.'; self.random.index(bound)]
    }
}
