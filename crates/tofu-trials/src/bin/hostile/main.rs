//! Thousands of hostile peers beside ten honest ones: what the honest ones feel, and what the server holds.
//!
//! ```text
//! cargo run --release -p tofu-trials --bin hostile -- [--peers 24000] [--seconds 6] [--layout own-group] [--together] [KIND...]
//! ```
//!
//! Each kind is measured alone, with its share of the peers, and then all of them at once. A server, the
//! honest clients and two processes of hostile peers run on this machine; `places` says on which of its cores.

#![forbid(unsafe_code)]
#![allow(
    clippy::cast_precision_loss,
    reason = "figures to look at, far below where it begins"
)]

mod counted;
mod enemy;
mod honest;
mod kind;
mod places;
mod server;
mod verdict;

use std::{process::ExitCode, thread};

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tofu_trials::{Fallible, child::Companion, procfs::usage, today};

use self::{
    counted::{Counted, What},
    honest::Latencies,
    kind::Kind,
    places::{Layout, Places, Wrapper},
    verdict::{Seen, Troop, Verdict},
};

/// Processes of hostile peers: each may have so many descriptors only.
const ENEMIES: usize = 2;
/// Those that a process may need.
const DESCRIPTORS: u64 = 65_536;
/// How long one measurement takes.
const WINDOW_SECONDS: u64 = 2;

/// Sets hostile peers on a server.
#[derive(Debug, Parser)]
#[command(name = "hostile")]
struct Arguments {
    /// Hostile peers, all kinds together. Never all of them are connected: some are thrown out again and again, and
    /// the server has at most 32,000 channels, or as many as it may have descriptors less 100.
    #[arg(long, default_value_t = 24_000)]
    peers: usize,
    /// How long each is measured, alone and beside the hostile peers, 2 s at a time.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Who shares a core, and a group, with whom.
    #[arg(long, value_enum, default_value_t)]
    layout: Layout,
    /// Hostile peers of which each has its moment within so many milliseconds act at the same time: the more, the more
    /// they act as one.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=500))]
    tick_ms: u64,
    /// Only all of the kinds at once.
    #[arg(long)]
    together: bool,
    /// The hostile peers stay away: to see that this is noticed.
    #[arg(long, hide = true)]
    absent: bool,
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
        ("server", []) => server::run(None),
        ("server", [core]) => server::run(Some(core.parse()?)),
        ("honest", [address]) => honest::run(address),
        ("spinner", []) => spin(),
        ("enemy", [address, nth, tick_ms, kinds @ ..]) => {
            enemy::run(address, nth.parse()?, tick_ms.parse()?, kinds)
        }
        _ => Err("no such part".into()),
    }
}

fn measure(arguments: &Arguments) -> Fallible<bool> {
    let places = Places::of(arguments.layout)?;
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
        holds &= battle(&army, arguments, &places)?;
    }
    Ok(holds)
}

/// Measures in peace, then beside these, and prints the row.
fn battle(kinds: &[Kind], arguments: &Arguments, places: &Places) -> Fallible<bool> {
    let spinners = places.spinners.iter();
    let spinners = spinners.map(|place| Companion::start(place, &["--part", "spinner"]));
    let _awake: Vec<Companion> = spinners.collect::<Fallible<_>>()?;
    let own_group = places.own_group.map(|core| core.to_string());
    let orders = ["--part", "server"].into_iter().chain(own_group.as_deref());
    let mut server = Companion::start(&places.server, &orders.collect::<Vec<_>>())?;
    let addresses = server.hear_word("listening")?;
    let (address, honest_address) = addresses.split_once(' ').ok_or("not two addresses")?;
    let mut honest = Companion::start(&places.honest, &["--part", "honest", honest_address])?;
    honest.hear_word("ready")?;
    let mut latencies = || -> Fallible<Latencies> {
        honest.tell(&WINDOW_SECONDS.to_string())?;
        Latencies::parse(&honest.hear()?)
    };
    let windows = arguments.seconds.div_ceil(WINDOW_SECONDS);
    // Once to warm up.
    latencies()?;
    let alone: Vec<_> = (0..windows).map(|_| latencies()).collect::<Fallible<_>>()?;
    let mut seen = Seen {
        alone: Latencies::together(&alone),
        before: counted(&mut server)?,
        rss_before_kib: usage(server.id())?.rss_kib,
        connected_min: u64::MAX,
        half_open_min: u64::MAX,
        ..Seen::default()
    };

    let mut enemies = enemies(kinds, arguments, &places.enemies, address)?;
    let mut beside = Vec::new();
    for _ in 0..windows {
        beside.push(latencies()?);
        seen.after = counted(&mut server)?;
        seen.connected_min = seen.connected_min.min(seen.after.connected());
        seen.half_open_min = seen.half_open_min.min(seen.after.of(What::HalfOpen));
    }
    for enemy in &mut enemies {
        enemy.lives()?;
    }
    seen.beside = Latencies::together(&beside);
    seen.rss_max_kib = usage(server.id())?.rss_max_kib;
    let army = kinds
        .iter()
        .map(|kind| (*kind, (share(*kind, arguments) * ENEMIES) as u64));
    Ok(row(&army.collect::<Vec<_>>(), &seen))
}

/// Until its input ends.
fn spin() -> ! {
    thread::spawn(|| {
        for _ in std::io::stdin().lines() {}
        std::process::exit(0)
    });
    loop {
        std::hint::spin_loop();
    }
}

/// How many of a kind each hostile process has.
fn share(kind: Kind, arguments: &Arguments) -> usize {
    kind.share(arguments.peers / ENEMIES)
}

/// Starts the hostile processes, and waits until they are at it.
fn enemies(
    kinds: &[Kind],
    arguments: &Arguments,
    place: &Wrapper,
    address: &str,
) -> Fallible<Vec<Companion>> {
    let orders = kinds.iter().map(|kind| {
        let share = share(*kind, arguments);
        let peers = if arguments.absent { 0 } else { share };
        format!("{kind}={peers}")
    });
    let orders: Vec<String> = orders.collect();
    let tick_ms = arguments.tick_ms.to_string();
    let mut enemies = Vec::new();
    for nth in 0..ENEMIES {
        let nth = nth.to_string();
        let mut args = vec!["--part", "enemy", address, &nth, &tick_ms];
        args.extend(orders.iter().map(String::as_str));
        enemies.push(Companion::start(place, &args)?);
    }
    for enemy in &enemies {
        enemy.hear_word("ready")?;
    }
    Ok(enemies)
}

fn counted(server: &mut Companion) -> Fallible<Counted> {
    server.tell("what?")?;
    Counted::parse(&server.hear()?)
}

fn row(army: &[Troop], seen: &Seen) -> bool {
    let name = match army {
        [(kind, _)] => format!("{kind}: {}", kind.about()),
        _ => "all of them at once".to_owned(),
    };
    let peers: u64 = army.iter().map(|(_, peers)| peers).sum();
    let verdict = verdict::judge(army, seen);
    println!(
        "| {name} | {} | {peers}, {} | {} | {} | {:.1} | {}, {} | {} | {verdict} |",
        today(),
        seen.connected_min,
        seen.alone,
        seen.beside,
        seen.factor(),
        seen.rss_max_kib.div_ceil(1024),
        verdict::bound_kib(army, seen) / 1024,
        seen.after,
    );
    verdict == Verdict::Holds
}
