//! Mixed traffic with churn for as long as you like, and whether anything grows.
//!
//! ```text
//! cargo run --release -p tofu-trials --bin soak -- [--seconds 300] [--out DIR]
//! ```
//!
//! A server with two groups, each on tcp and uds. Processes of clients that open channels and end them in
//! every way: byes of either side, aborts of either side, dropped, aborted and closed groups; small and
//! large bodies, bursts, clients that read nothing for a while; and every two seconds one of these processes
//! is killed. Each second a sample: memory, descriptors and threads of the server, its levels, and the
//! latency of a channel that stays. They go to `soak.jsonl`, and as a chart to `soak.svg`.
//!
//! The clients check each answer, and that none is missing where both sides ended in peace. A client that fails ends
//! the soak.
//!
//! It fails unless everything is flat ([`samples::judge`] says what that is) and, when all clients are gone,
//! the server is as it was before they came.

#![forbid(unsafe_code)]
#![allow(
    clippy::cast_precision_loss,
    reason = "figures to look at, far below where it begins"
)]

mod chart;
mod client;
mod crowd;
mod probe;
mod samples;
mod server;
mod talk;

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use tofu::testing::TemporaryUds;
use tofu_trials::{
    Fallible,
    app::eventually,
    child::Companion,
    procfs::{Usage, usage},
    today,
};

use self::{
    crowd::Crowd,
    probe::Probe,
    samples::{Levels, Sample},
};

const CRASH_EVERY: u64 = 2;

/// Keeps a server busy, and sees whether it grows.
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(30..))]
    seconds: u64,
    /// Where the samples and the chart go.
    #[arg(long, default_value = "target/soak")]
    out: PathBuf,
    /// This process is part of it, and these are its orders.
    #[arg(long, num_args = 1.., hide = true)]
    part: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.part.as_slice() {
        [] => soak(&arguments),
        [role, rest @ ..] => match (role.as_str(), rest) {
            ("server", [dir]) => server::run(dir),
            ("client", [seed, addresses @ ..]) => client::run(seed, addresses),
            _ => Err("no such part".into()),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {}: {error}", arguments.part.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn soak(arguments: &Arguments) -> Fallible {
    fs::create_dir_all(&arguments.out)?;
    let mut file = File::create(arguments.out.join("soak.jsonl"))?;
    let dir = TemporaryUds::new()?;
    let place = dir.path().to_str().ok_or("a path that is no text")?;
    let mut server = Companion::start::<&str, _>(&[], &["--part", "server", place])?;
    let addresses: Vec<String> = (0..server::GROUPS * 2)
        .map(|_| server.hear_word("listening"))
        .collect::<Fallible<_>>()?;
    let mut probe = Probe::new(&addresses[0])?;
    probe.measure(Duration::from_millis(200))?;
    let at_rest = usage(server.id())?;
    let levels_at_rest = levels(&mut server)?;

    let mut crowd = Crowd::new(&addresses)?;
    let mut samples = Vec::new();
    let started = Instant::now();
    for second in 1..=arguments.seconds {
        let latency = probe.measure(Duration::from_millis(300))?;
        let sample = Sample {
            second,
            usage: usage(server.id())?,
            levels: levels(&mut server)?,
            latency,
            crashes: crowd.crashes(),
        };
        writeln!(file, "{}", sample.json())?;
        samples.push(sample);
        crowd.live()?;
        if second % CRASH_EVERY == 0 {
            crowd.crash()?;
        }
        let next = started + Duration::from_secs(second);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let (crashes, answered) = crowd.end()?;
    let in_the_end = rest(&mut server, levels_at_rest)?;
    chart::draw(&arguments.out.join("soak.svg"), &samples)?;
    if (in_the_end.descriptors, in_the_end.threads) != (at_rest.descriptors, at_rest.threads) {
        return Err(format!("at rest: before {at_rest:?}, after {in_the_end:?}").into());
    }
    let verdict = samples::judge(&samples)?;
    let last = samples
        .last()
        .map(|sample| sample.levels)
        .unwrap_or_default();
    println!(
        "| {} | {} s | {} connections, {crashes} crashes, {} messages, {answered} answers \
         checked and none wrong or lost | {verdict}; at rest {} descriptors, {} \
         threads before and after | holds |",
        today(),
        arguments.seconds,
        last.accepted,
        last.messages,
        at_rest.descriptors,
        at_rest.threads
    );
    Ok(())
}

/// Waits until the server has nothing but what it had before any client came.
fn rest(server: &mut Companion, before: Levels) -> Fallible<Usage> {
    eventually("the server is at rest again", || {
        let now = levels(server)?;
        Ok(
            (now.channels_open, now.half_open) == (before.channels_open, 0)
                && (now.pool_out, now.queued_bytes) == (0, 0),
        )
    })?;
    usage(server.id())
}

fn levels(server: &mut Companion) -> Fallible<Levels> {
    server.tell("what?")?;
    Levels::parse(&server.hear()?)
}
