//! Two network namespaces, and between them a relay that takes its time and loses packets.
//!
//! The relay is a process with a network device in each namespace: what the one kernel side sends, the relay
//! reads, keeps for as long as the line is long, and writes to the other side, or does not. (The usual tool
//! for that, netem, is not in every kernel.)

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use tofu_trials::{Fallible, app::tell, child::Companion, random::Random};
use tun_rs::{DeviceBuilder, SyncDevice};

/// The longest packet.
const MTU: u16 = 1500;

/// What the line is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    /// Packets lost of a hundred.
    pub(crate) loss_percent: u64,
    /// Time from end to end.
    pub(crate) delay: Duration,
    /// What each end may send, as tc says it.
    pub(crate) rate: Option<&'static str>,
}

/// Two namespaces with a line between them, gone when dropped.
pub(crate) struct Network {
    names: [String; 2],
    relay: Companion,
}

/// The addresses of the two ends.
pub(crate) const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];

impl Network {
    pub(crate) fn new(line: Line) -> Fallible<Self> {
        let id = std::process::id();
        let names = ["a", "b"].map(|end| format!("tofu-{id}-{end}"));
        let devices = ["a", "b"].map(|end| format!("tf{end}{id}"));
        let loss = line.loss_percent.to_string();
        let delay_ms = line.delay.as_millis().to_string();
        let args = [
            "--part",
            "relay",
            &devices[0],
            &devices[1],
            &loss,
            &delay_ms,
        ];
        let relay = Companion::start::<&str, _>(&[], &args)?;
        relay.hear_word("ready")?;
        let network = Self { names, relay };
        for end in 0..2 {
            let (name, device) = (&network.names[end], &devices[end]);
            ip(&format!("netns add {name}"))?;
            ip(&format!("link set {device} netns {name}"))?;
            ip(&format!(
                "-n {name} addr add {}/24 dev {device}",
                ADDRESSES[end]
            ))?;
            // Only the relay is to lose anything.
            ip(&format!("-n {name} link set {device} txqueuelen 20000 up"))?;
            ip(&format!("-n {name} link set lo up"))?;
            if let Some(rate) = line.rate {
                let words = format!(
                    "-n {name} qdisc add dev {device} root tbf rate {rate} burst 32kb latency 200ms"
                );
                run("tc", &words)?;
            }
        }
        Ok(network)
    }

    /// Starts a part of a trial at this end.
    pub(crate) fn start(&self, end: usize, args: &[&str]) -> Fallible<Companion> {
        Companion::start(&["ip", "netns", "exec", &self.names[end]], args)
    }

    /// Packets that passed, and that were lost.
    pub(crate) fn traffic(&mut self) -> Fallible<String> {
        self.relay.tell("how many?")?;
        self.relay.hear()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            // It is not there if making it failed.
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

fn ip(words: &str) -> Fallible {
    run("ip", words)
}

fn run(program: &str, words: &str) -> Fallible {
    let output = Command::new(program).args(words.split(' ')).output()?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {words}: {}", why.trim()).into())
}

/// What the relay has done.
#[derive(Default)]
struct Count {
    passed: AtomicU64,
    lost: AtomicU64,
}

/// The relay's process. Orders: the names of the two devices, the loss in percent, the delay in ms.
pub(crate) fn relay(orders: &[String]) -> Fallible {
    let [a, b, loss_percent, delay_ms] = orders else {
        return Err("the relay has four orders".into());
    };
    let loss_percent: u64 = loss_percent.parse()?;
    let delay = Duration::from_millis(delay_ms.parse()?);
    let device = |name: &String| {
        DeviceBuilder::new()
            .name(name)
            .mtu(MTU)
            .enable(false)
            .build_sync()
    };
    let (a, b) = (Arc::new(device(a)?), Arc::new(device(b)?));
    let count = Arc::new(Count::default());
    for (seed, from, to) in [(1, &a, &b), (2, &b, &a)] {
        let (sender, line) = mpsc::channel();
        let (from, to) = (Arc::clone(from), Arc::clone(to));
        let count = Arc::clone(&count);
        thread::spawn(move || take(&from, delay, loss_percent, seed, &count, &sender));
        thread::spawn(move || give(&to, &line));
    }
    tell("ready")?;
    for _ in std::io::stdin().lines() {
        let (passed, lost) = (&count.passed, &count.lost);
        let (passed, lost) = (passed.load(Ordering::Relaxed), lost.load(Ordering::Relaxed));
        tell(format_args!("{passed} packets passed, {lost} lost"))?;
    }
    Ok(())
}

type Packet = (Instant, Vec<u8>);

fn take(
    from: &SyncDevice,
    delay: Duration,
    loss_percent: u64,
    seed: u64,
    count: &Count,
    line: &mpsc::Sender<Packet>,
) {
    let mut random = Random::new(seed);
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let Ok(len) = from.recv(&mut buffer) else {
            // Not up yet.
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        if random.below(100) < loss_percent {
            count.lost.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        count.passed.fetch_add(1, Ordering::Relaxed);
        if line
            .send((Instant::now() + delay, buffer[..len].to_vec()))
            .is_err()
        {
            return;
        }
    }
}

fn give(to: &SyncDevice, line: &mpsc::Receiver<Packet>) {
    for (due, packet) in line {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // What the other side does not take is lost, as on any line.
        let _ = to.send(&packet);
    }
}
