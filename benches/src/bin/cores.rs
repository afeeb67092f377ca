//! What groups cost each other: the same work on one core, and on two at once.
//!
//! ```text
//! cargo run --release --manifest-path benches/Cargo.toml --bin cores
//! ```
//!
//! A worker is a thread with a client group and a server group of its own. It posts a burst of signals on one,
//! receives them on the other, and so on: nobody else is needed for it, and no core waits for another. Workers
//! share an engine, or have one each. If they shared nothing, two would do twice the work of one; the column
//! with engines of their own shows what is left of that on this machine.
#![allow(clippy::print_stdout, reason = "a program that prints figures")]

use std::{
    error::Error,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use rustix::thread::{CpuSet, sched_setaffinity};
use tofu::{Address, ChannelGroup, ChannelNumber, Engine, Event, Message, Options};

type Fallible<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const ROUNDS: usize = 7;
const TIME: Duration = Duration::from_millis(300);
/// Messages that a worker posts before it receives them.
const BURST: usize = 64;
const BODY: [u8; 64] = [b'x'; 64];

/// Which engines two workers have.
#[derive(Clone, Copy, Debug)]
enum Engines {
    Shared,
    Own,
}

fn main() -> Fallible {
    let directory = tempfile::tempdir()?;
    println!("Million messages a second, posted and received (medians of {ROUNDS} rounds):\n");
    println!("| | one worker | two, one engine | two, an engine each |");
    println!("| --- | --- | --- | --- |");
    for transport in ["tcp", "uds"] {
        let address = |number: usize| match transport {
            "tcp" => Address::tcp("127.0.0.1", 0),
            _ => Address::uds(directory.path().join(number.to_string()).to_string_lossy()),
        };
        let (mut one, mut shared, mut own) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let address = |worker: usize| address(round * 10 + worker);
            one.push(rate(Engines::Own, &[address(0)?])?);
            shared.push(rate(Engines::Shared, &[address(1)?, address(2)?])?);
            own.push(rate(Engines::Own, &[address(3)?, address(4)?])?);
        }
        let one = median(one);
        let beside = |rates| {
            let rate = median(rates);
            format!("{rate:.2} ({:.2} of one)", rate / one)
        };
        println!(
            "| {transport} | {one:.2} | {} | {} |",
            beside(shared),
            beside(own)
        );
    }
    Ok(())
}

/// Million messages a second of all workers, each on a core of its own.
fn rate(engines: Engines, addresses: &[Address]) -> Fallible<f64> {
    let shared = Engine::new(Options::default())?;
    let start = Barrier::new(addresses.len());
    let workers = thread::scope(|scope| {
        let workers: Vec<_> = addresses
            .iter()
            .enumerate()
            .map(|(core, address)| {
                let (shared, start) = (&shared, &start);
                scope.spawn(move || -> Fallible<f64> {
                    let mut cores = CpuSet::new();
                    cores.set(core);
                    sched_setaffinity(None, &cores)?;
                    let own = Engine::new(Options::default())?;
                    let mut worker = Worker::new(
                        match engines {
                            Engines::Shared => shared,
                            Engines::Own => &own,
                        },
                        address,
                    );
                    start.wait();
                    worker.as_mut().map_err(|error| error.to_string())?.work()
                })
            })
            .collect();
        let joined = workers.into_iter().map(thread::ScopedJoinHandle::join);
        joined.collect::<Result<Vec<_>, _>>()
    });
    let workers = workers.map_err(|_| "a worker panicked")?;
    workers.into_iter().sum()
}

struct Worker {
    client: ChannelGroup,
    server: ChannelGroup,
    channel: ChannelNumber,
    events: Vec<Event>,
}

impl Worker {
    fn new(engine: &Engine, address: &Address) -> Fallible<Self> {
        let (mut server, mut client) = (engine.group()?, engine.group()?);
        server.post(Message::welcome_request(address))?;
        let Event::Listening { address, .. } = server.recv()? else {
            return Err(format!("cannot listen at {address}").into());
        };
        let channel = client.post(Message::hello_request(&address))?.channel;
        let Event::Message(hello) = server.recv()? else {
            return Err("no client came".into());
        };
        server.post(hello.into_reply()?)?;
        client.recv()?;
        Ok(Self {
            client,
            server,
            channel,
            events: Vec::new(),
        })
    }

    /// Million messages a second, for a while.
    fn work(&mut self) -> Fallible<f64> {
        let start = Instant::now();
        let (mut count, mut time) = (0_u32, Duration::ZERO);
        while time < TIME {
            for _ in 0..BURST {
                let signal = self.client.signal(self.channel);
                self.client.post(signal.with_body(BODY))?;
            }
            // Entering it, the client's driver writes what is left.
            self.client.try_recv()?;
            let mut received = 0;
            while received < BURST {
                received += self.server.recv_many(&mut self.events, BURST)?;
            }
            count += u32::try_from(received)?;
            time = start.elapsed();
        }
        Ok(f64::from(count) / time.as_secs_f64() / 1e6)
    }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
