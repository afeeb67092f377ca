//! How often a message of tofu allocates, in steady state, on each side.
//!
//! ```text
//! cargo run --release --manifest-path benches/Cargo.toml --bin allocations
//! ```
//!
//! Client and server are processes of their own, and every allocation of each is counted: those of the
//! application, of all threads, and of growing what was allocated before. `Message::signal` allocates
//! the memory of the message; a message of `Engine::message` has it from the pool.
#![allow(clippy::print_stdout, reason = "a program that prints figures")]

use std::{
    alloc::System,
    error::Error,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tofu::{Address, ChannelGroup, ChannelNumber, Engine, Event, Message, OpCode, Options};

type Fallible<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const WARM_UP: u32 = 50_000;
const MESSAGES: u32 = 200_000;
const SERVE: &str = "serve";

fn main() -> Fallible {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(SERVE) {
        let address = arguments.next().ok_or("which address?")?;
        return serve(&address.parse()?);
    }
    let directory = tempfile::tempdir()?;
    println!("Allocations per message (uds, {MESSAGES} messages after {WARM_UP}):\n");
    println!("| | client | server |");
    println!("| --- | --- | --- |");
    for (row, work, len, reused) in [
        ("one way, 64 bytes", one_way as Work, 64, false),
        ("one way, 64 bytes, memory used again", one_way, 64, true),
        ("one way, 1 KiB", one_way, 1024, false),
        ("one way, 1 KiB, memory used again", one_way, 1024, true),
        ("round trip, 64 bytes", round_trips, 64, false),
        (
            "round trip, 64 bytes, memory used again",
            round_trips,
            64,
            true,
        ),
        ("round trip, 1 KiB", round_trips, 1024, false),
        (
            "round trip, 1 KiB, memory used again",
            round_trips,
            1024,
            true,
        ),
    ] {
        let path = directory.path().join(row.replace(' ', "-"));
        let mut server = Server::start(&Address::uds(path.to_string_lossy())?)?;
        let mut client = Client::connect(&server.address, len, reused)?;
        work(&mut client, WARM_UP)?;
        let (ours, theirs) = (allocations(), server.allocations()?);
        work(&mut client, MESSAGES)?;
        let per_message = |count: usize| -> Fallible<f64> {
            Ok(f64::from(u32::try_from(count)?) / f64::from(MESSAGES))
        };
        println!(
            "| {row} | {:.3} | {:.3} |",
            per_message(allocations() - ours)?,
            per_message(server.allocations()? - theirs)?
        );
    }
    Ok(())
}

fn allocations() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

type Work = fn(&mut Client, u32) -> Fallible;

/// Signals, and one request whose answer says that all have arrived.
fn one_way(client: &mut Client, count: u32) -> Fallible {
    for _ in 0..count {
        client.post(OpCode::Signal)?;
    }
    round_trips(client, 1)
}

fn round_trips(client: &mut Client, count: u32) -> Fallible {
    for _ in 0..count {
        client.post(OpCode::Request)?;
        while !matches!(client.group.recv()?, Event::Message(_)) {}
    }
    Ok(())
}

struct Client {
    /// Its group lives only as long as this.
    _engine: Engine,
    group: ChannelGroup,
    channel: ChannelNumber,
    body: Vec<u8>,
    reused: bool,
}

impl Client {
    fn connect(address: &Address, len: usize, reused: bool) -> Fallible<Self> {
        let engine = Engine::new(Options::default())?;
        let mut group = engine.group()?;
        let channel = group.post(Message::hello_request(address))?.channel;
        while !matches!(group.recv()?, Event::Message(_)) {}
        Ok(Self {
            _engine: engine,
            group,
            channel,
            body: vec![b'x'; len],
            reused,
        })
    }

    fn post(&mut self, op_code: OpCode) -> Fallible {
        let message = match (self.reused, op_code) {
            (false, _) => Message::new(op_code, self.channel, 0),
            (true, OpCode::Signal) => self.group.signal(self.channel),
            (true, _) => self.group.request(self.channel),
        };
        let mut outcome = self.group.post(message.with_body(&self.body));
        while let Err(refused) = outcome {
            while !matches!(self.group.recv()?, Event::Drained(_)) {}
            outcome = self.group.post(refused.into_message());
        }
        Ok(())
    }
}

/// The other process, killed when dropped.
struct Server {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    address: Address,
}

impl Server {
    fn start(address: &Address) -> Fallible<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([SERVE, &address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().ok_or("a child has no stdin")?;
        let stdout = child.stdout.take().ok_or("a child has no stdout")?;
        let mut server = Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
            address: address.clone(),
        };
        server.address = server.line()?.parse()?;
        Ok(server)
    }

    fn line(&mut self) -> Fallible<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    fn allocations(&mut self) -> Fallible<usize> {
        writeln!(self.stdin, "count")?;
        Ok(self.line()?.parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(address: &Address) -> Fallible {
    let engine = Engine::new(Options::default())?;
    let mut group = engine.group()?;
    group.post(Message::welcome_request(address))?;
    thread::spawn(|| {
        for _ in std::io::stdin().lock().lines() {
            println!("{}", allocations());
        }
        // The client is gone.
        std::process::exit(0);
    });
    let mut events = Vec::new();
    loop {
        group.recv_many(&mut events, 1024)?;
        for event in &events {
            match event {
                Event::Listening { address, .. } => println!("{address}"),
                Event::Message(message) if message.op_code() != OpCode::Signal => {
                    let answer = group.reply(message)?.with_body(message.body());
                    group.post(answer)?;
                }
                _ => {}
            }
        }
    }
}
