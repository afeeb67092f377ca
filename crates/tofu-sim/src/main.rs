//! Runs seeds: `cargo run -p tofu-sim -- --seeds 1000 [--start N]`, or one of them, step by step:
//! `cargo run -p tofu-sim -- --seed N [--trace]`.

use std::{
    collections::BTreeMap,
    env,
    io::{self, Write},
    process::ExitCode,
    time::Instant,
};

use tofu_sim::{Report, Simulation};

const USAGE: &str = "\
Runs two simulated tofu peers under the faults that a seed decides.

  --seeds N [--start M]   runs the seeds M (or 0) to M + N - 1; the first one that fails is shown
  --seed N [--trace]      runs one seed, and shows each step
";

/// What the command line asks for.
enum Command {
    Many { start: u64, count: u64 },
    One { seed: u64, trace: bool },
}

fn main() -> ExitCode {
    let command = match parse(env::args().skip(1)) {
        Ok(command) => command,
        Err(wrong) => {
            // Who closed the pipe does not want to hear of it.
            let _ = write!(io::stderr(), "{wrong}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let all_well = match command {
        Command::Many { start, count } => run_many(start, count),
        Command::One { seed, trace } => run_one(seed, trace),
    };
    match all_well {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Command, String> {
    let (mut seeds, mut start, mut seed, mut trace) = (None, 0, None, false);
    while let Some(arg) = args.next() {
        let mut number = || {
            let text = args.next().unwrap_or_default();
            text.parse::<u64>()
                .map_err(|_| format!("{arg} needs a number, not {text:?}"))
        };
        match arg.as_str() {
            "--seeds" => seeds = Some(number()?),
            "--start" => start = number()?,
            "--seed" => seed = Some(number()?),
            "--trace" => trace = true,
            other => return Err(format!("{other:?} means nothing here")),
        }
    }
    match (seeds, seed) {
        (Some(count), None) => Ok(Command::Many { start, count }),
        (None, Some(seed)) => Ok(Command::One { seed, trace }),
        _ => Err("say either --seeds or --seed".into()),
    }
}

fn run_one(seed: u64, trace: bool) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let simulation = Simulation::new(seed);
    if trace {
        let simulation = Simulation::new(seed);
        writeln!(out, "{:#?}", simulation.plan())?;
        for event in simulation.run_traced().1 {
            writeln!(out, "{event}")?;
        }
    }
    match simulation.run() {
        Ok(report) => writeln!(out, "{report:#?}").map(|()| true),
        Err(failure) => writeln!(out, "{failure}").map(|()| false),
    }
}

fn run_many(start: u64, count: u64) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let began = Instant::now();
    let mut summary = Summary::default();
    for seed in start..start.saturating_add(count) {
        match Simulation::new(seed).run() {
            Ok(report) => summary.add(&report),
            Err(failure) => {
                writeln!(out, "{failure}")?;
                return Ok(false);
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    writeln!(
        out,
        "{count} seeds, {} gentle, in {seconds:.2} s",
        summary.gentle
    )?;
    for (what, count) in summary.sums {
        writeln!(out, "{count:>10} {what}")?;
    }
    for (closed, count) in summary.closed {
        writeln!(out, "{count:>10} {closed}")?;
    }
    Ok(true)
}

#[derive(Default)]
struct Summary {
    gentle: usize,
    sums: BTreeMap<&'static str, usize>,
    closed: BTreeMap<String, usize>,
}

impl Summary {
    fn add(&mut self, report: &Report) {
        self.gentle += usize::from(report.gentle);
        for (what, count) in [
            ("steps", report.steps),
            ("messages delivered", report.delivered),
            ("messages returned", report.returned),
            ("messages lost in a reset stream", report.lost),
            ("times without a message to receive into", report.starved),
            ("times without room to post", report.queue_full),
        ] {
            *self.sums.entry(what).or_default() += count;
        }
        for (side, status) in [
            ("client", report.closed.client),
            ("server", report.closed.server),
        ] {
            let reason = status.map_or("never connected".into(), |status| status.to_string());
            *self.closed.entry(format!("{side}: {reason}")).or_default() += 1;
        }
    }
}
