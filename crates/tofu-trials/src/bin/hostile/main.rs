//! Thousands of hostile peers beside ten honest ones: what the honest ones feel, and what the server holds.
//!
//! ```text
//! cargo run --release -p tofu-trials --bin hostile -- [--peers 24000] [--seconds 6] [--first] [--together] [KIND...]
//! ```
//!
//! Each kind is measured alone, with its share of the peers, and then all of them at once. A server, the
//! honest clients and two processes of hostile peers run on this machine; the hostile ones run when
//! nobody else wants a processor, for elsewhere they would have their own.

#![forbid(unsafe_code)]
#![allow(
    clippy::cast_precision_loss,
    reason = "figures to look at, far below where it begins"
)]

mod enemy;
mod honest;
mod kind;
mod server;

use std::{fs, process::ExitCode};

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tofu_trials::{
    Fallible,
    child::Companion,
    procfs::{Usage, usage},
    today,
};

use self::{honest::Latencies, kind::Kind};

/// Processes of hostile peers: each may have so many descriptors only.
const ENEMIES: usize = 2;
/// Those that a process may need.
const DESCRIPTORS: u64 = 65_536;
/// How many times its p99 in peace an honest client may see.
const FACTOR_MAX: f64 = 3.0;
/// Memory of the server that no option bounds: the program, stacks, scratch buffers, the allocator's slack.
const OVERHEAD_KIB: u64 = 64 * 1024;

/// Sets hostile peers on a server.
#[derive(Debug, Parser)]
#[command(name = "hostile")]
struct Arguments {
    /// Hostile peers, all kinds together. Some are thrown out again and again: of 24,000, more than 20,000 are
    /// connected at any time.
    #[arg(long, default_value_t = 24_000)]
    peers: usize,
    /// How long each is measured.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// The server and the honest clients come before all else on this machine, which others keep busy: they
    /// have real-time priority, and the hostile peers an ordinary one.
    #[arg(long)]
    first: bool,
    /// Only all of the kinds at once.
    #[arg(long)]
    together: bool,
    /// Which kinds; none means each, and then all at once.
    kinds: Vec<Kind>,
    /// This process is part of it, and these are its orders.
    #[arg(long, num_args = 1.., hide = true)]
    part: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.part.as_slice() {
        [] => measure(&arguments),
        [role, rest @ ..] => part(role, rest).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hostile: {}: {error}", arguments.part.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn part(role: &str, rest: &[String]) -> Fallible {
    // As many descriptors as may be needed; who may not have them takes those that it may have.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = hard.max(DESCRIPTORS);
    setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted)
        .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard, hard))?;
    match (role, rest) {
        ("server", []) => server::run(),
        ("honest", [address]) => honest::run(address),
        ("enemy", [address, nth, kinds @ ..]) => enemy::run(address, nth.parse()?, kinds),
        _ => Err("no such part".into()),
    }
}

/// The system stops whoever has real-time priority and never sleeps, for some 50 ms of each second, unless told not to.
fn warn_of_throttling() {
    const LIMIT: &str = "/proc/sys/kernel/sched_rt_runtime_us";
    if fs::read_to_string(LIMIT).is_ok_and(|limit| limit.trim() != "-1") {
        eprintln!("a busy server will be stopped again and again: echo -1 > {LIMIT}");
    }
}

fn measure(arguments: &Arguments) -> Fallible<bool> {
    if arguments.first {
        warn_of_throttling();
    }
    println!(
        "| hostile peers | date | peers, connected at least | honest p50, p99 in us, alone | beside them | p99 times | server RSS, bound in MiB | what the engine counted | verdict |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let kinds = if arguments.kinds.is_empty() {
        Kind::ALL.to_vec()
    } else {
        arguments.kinds.clone()
    };
    let mut holds = true;
    let together = arguments.together || arguments.kinds.is_empty();
    let alone = kinds.iter().filter(|_| !arguments.together);
    let armies = alone.map(|kind| vec![*kind]);
    let together = together.then(|| kinds.clone());
    for army in armies.chain(together) {
        holds &= battle(&army, arguments)?;
    }
    Ok(holds)
}

/// Measures in peace, then beside this army, and prints the row.
fn battle(army: &[Kind], arguments: &Arguments) -> Fallible<bool> {
    let (ours, theirs): (&[&str], &[&str]) = if arguments.first {
        (&["chrt", "--fifo", "1"], &[])
    } else {
        (&[], &["chrt", "--idle", "0"])
    };
    let mut server = Companion::start(ours, &["--part", "server"])?;
    let address = server.hear_word("listening")?;
    let mut honest = Companion::start(ours, &["--part", "honest", &address])?;
    honest.hear_word("ready")?;
    let mut latencies = |seconds: u64| -> Fallible<Latencies> {
        honest.tell(&seconds.to_string())?;
        Latencies::parse(&honest.hear()?)
    };
    // Once to warm up.
    latencies(1)?;
    let alone = latencies(arguments.seconds)?;

    let orders: Vec<String> = army
        .iter()
        .map(|kind| {
            let peers = kind.share(arguments.peers / ENEMIES);
            format!("{kind}={peers}")
        })
        .collect();
    let mut enemies = Vec::new();
    for nth in 0..ENEMIES {
        let nth = nth.to_string();
        let mut args = vec!["--part", "enemy", &address, &nth];
        args.extend(orders.iter().map(String::as_str));
        enemies.push(Companion::start(theirs, &args)?);
    }
    for enemy in &enemies {
        enemy.hear_word("ready")?;
    }
    let mut peak = usage(server.id())?;
    let mut beside = Vec::new();
    let mut connected = usize::MAX;
    let mut counted = String::new();
    for _ in 0..arguments.seconds.div_ceil(2) {
        beside.push(latencies(2)?);
        let now = usage(server.id())?;
        if now.rss_kib > peak.rss_kib {
            peak = now;
        }
        server.tell("what?")?;
        let (hostile, rest) = server::parse(&server.hear()?)?;
        connected = connected.min(hostile);
        counted = rest;
    }
    let beside = Latencies::together(&beside);
    let peers = army
        .iter()
        .map(|kind| kind.share(arguments.peers / ENEMIES));
    let peers = peers.sum::<usize>() * ENEMIES;
    Ok(row(
        army,
        (peers, connected),
        &alone,
        &beside,
        peak,
        &counted,
    ))
}

fn row(
    army: &[Kind],
    (peers, connected): (usize, usize),
    alone: &Latencies,
    beside: &Latencies,
    peak: Usage,
    counted: &str,
) -> bool {
    let factor = beside.p99_us / alone.p99_us;
    // Every connection may hold some of what it has sent, for a frame that is not whole.
    let partial_kib = u64::try_from(connected).unwrap_or(u64::MAX) * 2;
    let bound_kib = server::BOUND_KIB + partial_kib + OVERHEAD_KIB;
    let holds = factor <= FACTOR_MAX && peak.rss_kib <= bound_kib && beside.lost == 0;
    let name = match army {
        [kind] => format!("{kind}: {}", kind.about()),
        _ => "all of them at once".to_owned(),
    };
    println!(
        "| {name} | {} | {peers}, {connected} | {:.0}, {:.0} | {:.0}, {:.0} | {factor:.1} | {}, {} | {counted} | {} |",
        today(),
        alone.p50_us,
        alone.p99_us,
        beside.p50_us,
        beside.p99_us,
        peak.rss_kib / 1024,
        bound_kib / 1024,
        if holds { "holds" } else { "**fails**" }
    );
    holds
}
