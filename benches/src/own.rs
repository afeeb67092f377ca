//! tofu's own workloads: situations that have no like among the rivals.
//!
//! They speak to the same server as all others, with engines of their own.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::{process::setpriority_process, thread::gettid};
use tofu::{ChannelGroup, ChannelNumber, Engine, Event, Message, Options};

use crate::{
    contender::{
        Endpoint, Fallible, Laps,
        tofu::{Peer, address, answer, full_or_error, open, post_patiently},
    },
    workload::{Command, SMALL},
};

const BODY: [u8; SMALL] = [b's'; SMALL];
/// How long a posting thread waits for room before it looks whether the end has come.
const PATIENCE: Duration = Duration::from_micros(100);

/// The client's side of them.
#[derive(Debug)]
pub(crate) struct Own {
    endpoint: Endpoint,
    options: Options,
    /// Connections that do nothing.
    idle: Option<(Engine, ChannelGroup)>,
    /// What a command has opened stays open for its next run.
    open: Option<Opened>,
}

#[derive(Debug)]
struct Opened {
    command: Command,
    peer: Peer,
    channels: Vec<ChannelNumber>,
}

impl Own {
    /// With the options of this contender.
    pub(crate) fn new(endpoint: Endpoint, contender: &str) -> Self {
        let options = match contender {
            "tofu-nopoll" => no_poll(),
            _ => Options::default(),
        };
        Self {
            endpoint,
            options,
            idle: None,
            open: None,
        }
    }

    /// Does what comes before the measurement.
    pub(crate) fn prepare(&mut self, command: Command) -> Fallible {
        let Command::Idle(count) = command else {
            return Err(format!("`{command}` is nothing to be prepared").into());
        };
        let engine = Engine::new(self.options.clone())?;
        let mut group = engine.group()?;
        let address = address(&self.endpoint)?;
        for _ in 0..count {
            open(&mut group, &address)?;
        }
        self.idle = Some((engine, group));
        Ok(())
    }

    /// Runs what is to be measured.
    pub(crate) fn run(&mut self, command: Command, count: u64, laps: &mut Laps) -> Fallible {
        match command {
            Command::Posters(threads) => {
                post_from(&mut self.opened(command, 1)?.peer, threads, count)
            }
            Command::Channels(channels) => post_in_turn(self.opened(command, channels)?, count),
            Command::Beside { flood: false } => {
                round_trips(&mut self.opened(command, 1)?.peer, count, laps)
            }
            Command::RequestRate(rate) => {
                let pace = Pace::start(rate);
                let peer = &mut self.opened(command, 1)?.peer;
                request_at(&pace, peer, count, laps)
            }
            Command::SignalRate(rate) => {
                let pace = Pace::start(rate);
                signal_at(&pace, &mut self.opened(command, 1)?.peer, count)
            }
            other => Err(format!("`{other}` is not one of tofu's own").into()),
        }
    }

    fn opened(&mut self, command: Command, channels: u32) -> Fallible<&mut Opened> {
        if self
            .open
            .as_ref()
            .is_none_or(|open| open.command != command)
        {
            // Only a sleeper is woken in time beside a flood from its own core.
            let options = match command {
                Command::Beside { .. } => no_poll(),
                _ => self.options.clone(),
            };
            let mut peer = Peer::connect(&self.endpoint, options)?;
            let mut numbers = vec![peer.channel];
            for _ in 1..channels {
                numbers.push(open(&mut peer.group, &address(&self.endpoint)?)?);
            }
            self.open = Some(Opened {
                command,
                peer,
                channels: numbers,
            });
        }
        Ok(self.open.as_mut().ok_or("nothing is open")?)
    }

    /// The flood comes from an engine and a thread of its own, over a channel of its own. It is held
    /// back by the server alone: when its queue is full it waits. Tells how many messages it had.
    pub(crate) fn beside_flood(&mut self, count: u64, laps: &mut Laps) -> Fallible<u64> {
        let command = Command::Beside { flood: true };
        let mut flood = Peer::connect(&self.endpoint, Options::default())?;
        let peer = &mut self.opened(command, 1)?.peer;
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let flooder = scope.spawn(|| {
                stand_back()?;
                let mut posted = 0;
                while !over.load(Ordering::Relaxed) {
                    let signal = Message::signal(flood.channel).with_body(BODY);
                    post_patiently(&mut flood.group, signal)?;
                    posted += 1;
                }
                ask(&mut flood).map(|()| posted)
            });
            let asked = round_trips(peer, count, laps);
            over.store(true, Ordering::Relaxed);
            let posted = flooder.join().map_err(|_| "the flooder panicked")??;
            asked.map(|()| posted)
        })
    }
}

/// From here on this thread runs only when no other one wants to, so that the figures tell how the
/// engine shares and not how the system's scheduler does.
fn stand_back() -> Fallible {
    const LEAST: i32 = 19;
    setpriority_process(Some(gettid()), LEAST)?;
    Ok(())
}

fn no_poll() -> Options {
    Options::default().busy_poll(Duration::ZERO)
}

fn ask(peer: &mut Peer) -> Fallible {
    let request = Message::request(peer.channel).with_body(BODY);
    post_patiently(&mut peer.group, request)?;
    answer(&mut peer.group)?;
    Ok(())
}

fn round_trips(peer: &mut Peer, count: u64, laps: &mut Laps) -> Fallible {
    laps.resume();
    for _ in 0..count {
        ask(peer)?;
        laps.lap();
    }
    Ok(())
}

/// All threads post; the group's owner hears when there is room again, and waits for the end.
fn post_from(peer: &mut Peer, threads: u32, count: u64) -> Fallible {
    let channel = peer.channel;
    let share = count / u64::from(threads);
    thread::scope(|scope| {
        let posters: Vec<_> = (0..threads)
            .map(|_| {
                let poster = peer.group.poster();
                scope.spawn(move || -> Fallible {
                    for _ in 0..share {
                        let mut outcome = poster.post(Message::signal(channel).with_body(BODY));
                        while let Err(refused) = outcome {
                            let message = full_or_error(refused)?;
                            thread::sleep(PATIENCE);
                            outcome = poster.post(message);
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        for poster in posters {
            poster.join().map_err(|_| "a poster panicked")??;
        }
        Fallible::Ok(())
    })?;
    ask(peer)
}

fn post_in_turn(open: &mut Opened, count: u64) -> Fallible {
    let group = &mut open.peer.group;
    let mut posted = 0;
    while posted < count {
        for &channel in &open.channels {
            post_patiently(group, Message::signal(channel).with_body(BODY))?;
            posted += 1;
        }
    }
    for &channel in &open.channels {
        post_patiently(group, Message::request(channel).with_body(BODY))?;
    }
    for _ in &open.channels {
        answer(group)?;
    }
    Ok(())
}

/// When the next message is due.
#[derive(Debug)]
struct Pace {
    start: Instant,
    rate: u32,
}

impl Pace {
    fn start(rate: u32) -> Self {
        Self {
            start: Instant::now(),
            rate,
        }
    }

    /// Waits in `recv`, as an application does, until this message is due.
    fn wait(&self, number: u64, group: &mut ChannelGroup) -> Fallible {
        let due = self.start + Duration::from_nanos(number * 1_000_000_000 / u64::from(self.rate));
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            match group.recv_timeout(left)? {
                None | Some(Event::Drained(_)) => {}
                Some(other) => return Err(format!("nothing was asked: {other:?}").into()),
            }
        }
    }
}

fn request_at(pace: &Pace, peer: &mut Peer, count: u64, laps: &mut Laps) -> Fallible {
    for number in 0..count {
        pace.wait(number, &mut peer.group)?;
        laps.resume();
        ask(peer)?;
        laps.lap();
    }
    Ok(())
}

fn signal_at(pace: &Pace, peer: &mut Peer, count: u64) -> Fallible {
    for number in 0..count {
        pace.wait(number, &mut peer.group)?;
        let signal = Message::signal(peer.channel).with_body(BODY);
        post_patiently(&mut peer.group, signal)?;
    }
    ask(peer)
}
