//! Two processes over loopback, next to blocking std sockets in the same run.
//!
//! ```text
//! cargo run --release -p tofu-messaging --example measure -- \
//!     [--cpus 0,1] [--idle 10000] [--no-poll]
//! ```
//!
//! Prints round trips (64-byte bodies) of tofu and of blocking std sockets, interleaved, with the
//! ratio of their medians; one-way messages per second; and, with `--idle N`, the memory of a server
//! with N idle connections and the round trip beside them. `--cpus A,B` pins the server to A and the
//! client to B with `taskset`; `--no-poll` turns the busy poll off.
#![allow(clippy::print_stdout, reason = "a program that prints figures")]

use std::{
    error::Error,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use tofu::{Address, ChannelGroup, ChannelNumber, Engine, Event, Message, OpCode, Options};

type Fallible<T = ()> = Result<T, Box<dyn Error>>;

const BODY: [u8; 64] = [b'x'; 64];
const FRAME: usize = 80;
const NO_POLL: &str = "--no-poll";
const ROUNDS: usize = 5;
const ROUND_TRIPS: usize = 10_000;
const ONE_WAY: u32 = 500_000;

fn main() -> Fallible {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |name| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    match args.first().map(String::as_str) {
        Some("serve-tofu") => serve_tofu(&args[1].parse()?),
        Some("serve-raw") => serve_raw(&args[1].parse()?),
        _ => {
            let cpus = option("--cpus");
            if let Some((_, client)) = cpus.as_deref().and_then(|cpus| cpus.split_once(',')) {
                let pid = std::process::id().to_string();
                Command::new("taskset")
                    .args(["-pc", client, &pid])
                    .output()?;
            }
            let server_cpu = cpus
                .as_deref()
                .and_then(|cpus| cpus.split_once(','))
                .map(|c| c.0);
            let idle = option("--idle").map(|count| count.parse()).transpose()?;
            measure(server_cpu, idle.unwrap_or(0))
        }
    }
}

fn options() -> Options {
    let options = Options::default();
    if std::env::args().any(|arg| arg == NO_POLL) {
        return options.busy_poll(Duration::ZERO);
    }
    options
}

fn measure(server_cpu: Option<&str>, idle: u32) -> Fallible {
    let dir = tempfile::tempdir()?;
    let path = |name| Address::uds(dir.path().join(name).to_string_lossy());
    let transports = [
        (
            "tcp",
            Address::tcp("127.0.0.1", 0)?,
            Address::tcp("127.0.0.1", 0)?,
        ),
        ("uds", path("tofu")?, path("raw")?),
    ];
    for (name, tofu, raw) in transports {
        let (tofu_server, tofu) = start("serve-tofu", &tofu, server_cpu)?;
        let (_raw_server, raw) = start("serve-raw", &raw, server_cpu)?;
        let mut ours = Peer::connect(&tofu)?;
        let mut theirs = raw_stream(&raw)?;
        let (mut our_medians, mut their_medians) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            our_medians.push(median(|| ours.round_trip())?);
            their_medians.push(median(|| raw_round_trip(&mut *theirs))?);
        }
        let (ours_us, theirs_us) = (middle(&mut our_medians), middle(&mut their_medians));
        println!(
            "{name} round trip, median: tofu {ours_us:.1} us, blocking std sockets {theirs_us:.1} us, ratio {:.2}",
            ours_us / theirs_us
        );
        let rate = ours.one_way()?;
        println!("{name} one way: {:.0} thousand messages/s", rate / 1000.0);
        if idle > 0 {
            measure_idle(&tofu, &tofu_server, &mut ours, idle)?;
        }
    }
    Ok(())
}

fn measure_idle(address: &Address, server: &Server, active: &mut Peer, count: u32) -> Fallible {
    let alone = median(|| active.round_trip())?;
    let before = server.resident_kib()?;
    let engine = Engine::new(options())?;
    let mut group = engine.group()?;
    for _ in 0..count {
        let hello = Message::hello_request(address);
        group.post(hello)?;
        match group.recv()? {
            Event::Message(message) if message.op_code() == OpCode::HelloResponse => {}
            other => return Err(format!("no hello: {other:?}").into()),
        }
    }
    let grown = server.resident_kib()? - before;
    let beside = median(|| active.round_trip())?;
    println!(
        "{count} idle connections: {:.2} KiB of the server's memory each; round trip {beside:.1} us, {alone:.1} us without, ratio {:.2}",
        grown / f64::from(count),
        beside / alone
    );
    group.abort();
    Ok(())
}

/// A server process, killed when dropped.
struct Server {
    child: Child,
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    fn resident_kib(&self) -> Fallible<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS"))
            .ok_or("no VmRSS")?;
        Ok(line.split_whitespace().nth(1).ok_or("no figure")?.parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(what: &str, address: &Address, cpu: Option<&str>) -> Fallible<(Server, Address)> {
    let program = std::env::current_exe()?;
    let mut command = match cpu {
        Some(cpu) => {
            let mut command = Command::new("taskset");
            command.args(["-c", cpu]).arg(program);
            command
        }
        None => Command::new(program),
    };
    let mut child = command
        .args([what, &address.to_string()])
        .args(std::env::args().filter(|arg| arg == NO_POLL))
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    let server = Server {
        child,
        _stdout: stdout,
    };
    Ok((server, line.trim().parse()?))
}

fn serve_tofu(address: &Address) -> Fallible {
    let engine = Engine::new(options())?;
    let mut group = engine.group()?;
    group.post(Message::welcome_request(address))?;
    loop {
        match group.recv()? {
            Event::Listening { address, .. } => println!("{address}"),
            Event::Message(message) if message.op_code() != OpCode::Signal => {
                group.post(message.into_reply()?)?;
            }
            _ => {}
        }
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

fn serve_raw(address: &Address) -> Fallible {
    let mut stream: Box<dyn ReadWrite> = if let Some(path) = address.path() {
        let listener = UnixListener::bind(path)?;
        println!("{address}");
        Box::new(listener.accept()?.0)
    } else {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        println!("tcp|127.0.0.1|{}", listener.local_addr()?.port());
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        Box::new(stream)
    };
    let mut frame = [0; FRAME];
    loop {
        // The client leaves when it has measured.
        if stream.read_exact(&mut frame).is_err() {
            return Ok(());
        }
        stream.write_all(&frame)?;
    }
}

fn raw_stream(address: &Address) -> Fallible<Box<dyn ReadWrite>> {
    if let Some(path) = address.path() {
        return Ok(Box::new(UnixStream::connect(path)?));
    }
    let stream = TcpStream::connect(("127.0.0.1", address.port()))?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

fn raw_round_trip(stream: &mut dyn ReadWrite) -> Fallible {
    let mut frame = [0; FRAME];
    stream.write_all(&frame)?;
    stream.read_exact(&mut frame)?;
    Ok(())
}

/// A tofu client that has said hello.
struct Peer {
    _engine: Engine,
    group: ChannelGroup,
    channel: ChannelNumber,
}

impl Peer {
    fn connect(address: &Address) -> Fallible<Self> {
        let engine = Engine::new(options())?;
        let mut group = engine.group()?;
        let channel = group.post(Message::hello_request(address))?.channel;
        match group.recv()? {
            Event::Message(_) => Ok(Self {
                _engine: engine,
                group,
                channel,
            }),
            other => Err(format!("no hello: {other:?}").into()),
        }
    }

    fn round_trip(&mut self) -> Fallible {
        self.group
            .post(Message::request(self.channel).with_body(BODY))?;
        match self.group.recv()? {
            Event::Message(_) => Ok(()),
            other => Err(format!("no answer: {other:?}").into()),
        }
    }

    /// Signals, then one request: its answer says that all have arrived.
    fn one_way(&mut self) -> Fallible<f64> {
        let start = Instant::now();
        for _ in 0..ONE_WAY {
            let mut message = Message::signal(self.channel).with_body(BODY);
            while let Err(refused) = self.group.post(message) {
                // The queue is full: until there is room again.
                while !matches!(self.group.recv()?, Event::Drained(_)) {}
                message = refused.into_message();
            }
        }
        self.round_trip()?;
        Ok(f64::from(ONE_WAY) / start.elapsed().as_secs_f64())
    }
}

fn median(mut once: impl FnMut() -> Fallible) -> Fallible<f64> {
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let start = Instant::now();
        once()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times
        .get(ROUND_TRIPS / 2)
        .map_or(0.0, |time: &Duration| time.as_secs_f64() * 1e6))
}

fn middle(figures: &mut [f64]) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}
