//! Two network namespaces, and between them a relay that takes its time and loses packets.
//!
//! The relay is a process with a network device in each namespace: what the one kernel side sends, the relay
//! reads, keeps for as long as the line is long, and writes to the other side, or does not. (The usual tool
//! for that, netem, is not in every kernel.)

use std::{
    fmt::Write,
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
    line: Line,
    names: [String; 2],
    devices: [String; 2],
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
        let network = Self {
            line,
            names,
            devices,
            relay,
        };
        for (end, address) in ADDRESSES.iter().enumerate() {
            let (name, device) = (&network.names[end], &network.devices[end]);
            ip(&format!("netns add {name}"))?;
            ip(&format!("link set {device} netns {name}"))?;
            ip(&format!("-n {name} addr add {address}/24 dev {device}"))?;
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

    /// Packets that passed, that were lost, and that were held back at both ends.
    ///
    /// # Errors
    /// The line was not what it is to be: then whatever went over it proves nothing.
    pub(crate) fn traffic(&mut self) -> Fallible<String> {
        self.relay.tell("how many?")?;
        let traffic = Traffic::parse(&self.relay.hear()?)?;
        let mut figures = format!("{} packets passed, {} lost", traffic.passed, traffic.lost);
        let mut held_back = None;
        if self.line.rate.is_some() {
            let counts = (0..2).map(|end| self.held_back(end));
            let counts: Vec<_> = counts.collect::<Fallible<_>>()?;
            let (least, all) = (counts.iter().min().copied(), counts.iter().sum::<u64>());
            held_back = least;
            write!(figures, ", held back {all} times")?;
        }
        match traffic.blame(self.line, held_back) {
            None => Ok(figures),
            Some(why) => Err(format!("proves nothing, for {why}: {figures}").into()),
        }
    }

    /// How often the kernel had a packet of this end wait, so that the rate was kept.
    fn held_back(&self, end: usize) -> Fallible<u64> {
        let words = format!(
            "-n {} -s qdisc show dev {}",
            self.names[end], self.devices[end]
        );
        let told = run("tc", &words)?;
        overlimits(&told).ok_or_else(|| format!("tc told {told:?}").into())
    }
}

fn overlimits(told: &str) -> Option<u64> {
    let mut words = told.split_whitespace();
    words.find(|word| *word == "overlimits")?;
    words.next()?.parse().ok()
}

/// What the relay has counted.
#[derive(Clone, Copy, Debug)]
struct Traffic {
    passed: u64,
    lost: u64,
}

impl Traffic {
    fn parse(line: &str) -> Fallible<Self> {
        let (passed, lost) = line.split_once(' ').ok_or("two counts")?;
        Ok(Self {
            passed: passed.parse()?,
            lost: lost.parse()?,
        })
    }

    /// What was not as the line is to be: chance may take half of what it is to lose, or twice that.
    fn blame(self, line: Line, held_back: Option<u64>) -> Option<String> {
        let Some(per_10_000) = (self.lost * 10_000).checked_div(self.passed + self.lost) else {
            return Some("no packet came this way".to_owned());
        };
        let due = line.loss_percent * 100;
        if !(due / 2..=due * 2).contains(&per_10_000) {
            let percent = line.loss_percent;
            return Some(format!("{percent} of 100 packets were to be lost"));
        }
        let is_free = line.rate.is_some() && held_back.is_none_or(|count| count == 0);
        is_free.then(|| "no packet had to wait for another one".to_owned())
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
    run("ip", words).map(drop)
}

/// Gives what it told.
fn run(program: &str, words: &str) -> Fallible<String> {
    let output = Command::new(program).args(words.split(' ')).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
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
        tell(format_args!("{passed} {lost}"))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn blamed(line: Line, passed: u64, lost: u64, held_back: Option<u64>) -> bool {
        Traffic { passed, lost }.blame(line, held_back).is_some()
    }

    #[test]
    fn a_line_that_is_better_than_it_is_to_be_proves_nothing() {
        let mut line = Line {
            loss_percent: 5,
            delay: Duration::ZERO,
            rate: None,
        };
        assert!(!blamed(line, 9_500, 500, None));
        assert!(blamed(line, 10_000, 0, None), "none was lost");
        assert!(blamed(line, 9_900, 100, None), "too few were lost");
        assert!(blamed(line, 0, 0, None), "nothing went over it");
        line.loss_percent = 0;
        assert!(!blamed(line, 10_000, 0, None));
        assert!(blamed(line, 10_000, 1_000, None), "some were lost");
        line.rate = Some("8mbit");
        assert!(!blamed(line, 10_000, 0, Some(7)));
        assert!(blamed(line, 10_000, 0, Some(0)), "there was no limit");
        assert!(blamed(line, 10_000, 0, None), "nobody looked");
    }

    #[test]
    fn what_tc_tells_is_understood() {
        let told = "qdisc tbf 8001: root refcnt 2 rate 8Mbit burst 32Kb lat 200ms\n \
                    Sent 2516 bytes 21 pkt (dropped 0, overlimits 17 requeues 0)\n";
        assert_eq!(overlimits(told), Some(17));
        assert_eq!(overlimits("qdisc noqueue 0: root refcnt 2"), None);
    }
}
