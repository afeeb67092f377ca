//! A process of clients that come and go in every way, and check what they are answered. It ends with an error if
//! an answer is wrong or missing, or a channel ends that nobody was to end.

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
use tofu_trials::{
    Fallible,
    app::{has_room, tell},
    random::Random,
};

use crate::{
    server::{ABORT, BYE},
    talk::Talk,
};

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
    let mut answered = 0;
    let mut random = Random::new(seed.parse::<u64>()? + 1);
    loop {
        let mut clients = Clients {
            group: engine.group()?,
            addresses: &addresses,
            random: random.clone(),
            talks: HashMap::new(),
            fill: 0,
            answered,
        };
        for _ in 0..GROUP_LIFE {
            if over.load(Ordering::Relaxed) {
                answered = clients.close(Duration::from_secs(2))?;
                return tell(format_args!("answered {answered}"));
            }
            clients.step()?;
        }
        random = clients.random.clone();
        answered = clients.answered;
        match random.below(3) {
            0 => drop(clients.group),
            1 => clients.group.abort(),
            _ => answered = clients.close(Duration::from_secs(1))?,
        }
        tell(format_args!("answered {answered}"))?;
    }
}

struct Clients<'a> {
    group: ChannelGroup,
    addresses: &'a [Address],
    random: Random,
    talks: HashMap<ChannelNumber, Talk>,
    /// What the last body was full of.
    fill: u8,
    /// Answers that came, and were right.
    answered: u64,
}

impl Clients<'_> {
    fn step(&mut self) -> Fallible {
        while self.talks.len() < OPEN {
            let address = &self.addresses[self.random.index(self.addresses.len())];
            let hello = self.group.post(Message::hello_request(address))?;
            let requests = self.random.below(REQUESTS);
            self.talks.insert(hello.channel, Talk::new(requests));
        }
        match self.group.recv_timeout(PATIENCE)? {
            Some(Event::Message(message)) => match message.op_code() {
                OpCode::HelloResponse => self.go_on(message.channel())?,
                OpCode::Response => {
                    self.hear(&message)?;
                    self.go_on(message.channel())?;
                }
                OpCode::ByeRequest => {
                    if let Ok(answer) = message.into_reply() {
                        let _ = self.group.post(answer);
                    }
                }
                _ => {}
            },
            Some(Event::Closed {
                channel, reason, ..
            }) => {
                let talk = self.talks.remove(&channel).ok_or("whose end?")?;
                talk.ended(reason)?;
            }
            Some(_) | None => {}
        }
        if self.random.below(2_000) == 0 {
            // It reads nothing for a while.
            thread::sleep(Duration::from_millis(50 + self.random.below(250)));
        }
        Ok(())
    }

    fn hear(&mut self, answer: &Message) -> Fallible {
        let talk = self.talks.get_mut(&answer.channel());
        talk.ok_or("whose answer?")?.hear(answer)?;
        self.answered += 1;
        Ok(())
    }

    /// When all that a channel asked is answered it asks more, or comes to its end.
    fn go_on(&mut self, channel: ChannelNumber) -> Fallible {
        let Some(talk) = self.talks.get(&channel).filter(|talk| talk.is_idle()) else {
            return Ok(());
        };
        if talk.left() == 0 {
            return self.say_the_last(channel);
        }
        for _ in 0..self.random.below(4) {
            let body = self.body();
            let signal = Message::signal(channel).with_body(body);
            if has_room(self.group.post(signal))? {
                self.talk(channel)?.signaled();
            }
        }
        // Mostly one at a time.
        for _ in 0..=self.random.below(8).saturating_sub(5) {
            self.ask(channel, Message::request(channel))?;
        }
        Ok(())
    }

    fn ask(&mut self, channel: ChannelNumber, request: Message) -> Fallible {
        let body = self.body();
        let (len, fill) = (body.len(), body.first().copied().unwrap_or_default());
        let request = request.with_header("len", len.to_string()).with_body(body);
        // One process never has so much under way that a queue is full.
        let id = self.group.post(request)?.id;
        self.talk(channel)?.asked(id, (len, fill));
        Ok(())
    }

    fn say_the_last(&mut self, channel: ChannelNumber) -> Fallible {
        self.talk(channel)?.ends();
        let last = match self.random.below(8) {
            0..=3 => Message::bye_request(channel),
            4 | 5 => Message::bye_signal(channel),
            6 => Message::request(channel).with_header(ABORT, "now"),
            // The other side answers, and then it says bye.
            _ => return self.ask(channel, Message::request(channel).with_header(BYE, "then")),
        };
        self.group.post(last)?;
        Ok(())
    }

    fn talk(&mut self, channel: ChannelNumber) -> Fallible<&mut Talk> {
        let talk = self.talks.get_mut(&channel);
        Ok(talk.ok_or("no such channel")?)
    }

    /// Says bye on every channel, with questions under way: what was asked is answered before the bye is.
    fn close(mut self, timeout: Duration) -> Fallible<u64> {
        let report = self.group.close(timeout);
        for message in &report.unread {
            if message.op_code() == OpCode::Response {
                let talk = self.talks.get_mut(&message.channel());
                talk.ok_or("whose answer?")?.hear(message)?;
                self.answered += 1;
            }
        }
        for (channel, reason) in report.closed {
            let talk = self.talks.get(&channel).ok_or("whose end?")?;
            talk.was_closed(reason)?;
        }
        Ok(self.answered)
    }

    /// All of one byte, which is the next one each time.
    fn body(&mut self) -> Vec<u8> {
        let bound = match self.random.below(20) {
            0 => 60_000,
            1..=4 => 4_000,
            _ => 200,
        };
        self.fill = self.fill.wrapping_add(1);
        vec![self.fill; self.random.index(bound)]
    }
}
