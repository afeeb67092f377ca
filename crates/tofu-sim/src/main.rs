//! Runs seeds: `cargo run --release -p tofu-sim -- --seeds 1000 [--start N]`, or one of them:
//! `cargo run --release -p tofu-sim -- --seed N [--trace]`.

use std::{
    collections::BTreeMap,
    env, fmt,
    io::{self, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

use tofu_sim::{KINDS, Report, Scenario, pair};

const USAGE: &str = "\
Runs simulated tofu engines under the faults that a seed decides.

  --seeds N [--start M]   runs the seeds M (or 0) to M + N - 1; the first one that fails is reduced, and shown
  --seed N [--trace]      runs one seed, and shows each step
  --without KIND          leaves out one kind of faults (may be repeated)
  --posts PERCENT         leaves out messages
  --pair                  runs two bare connections instead of engines: they have neither of these
";

/// What the command line asks for.
struct Command {
    /// One seed, or many from a first one on.
    seed: u64,
    count: Option<u64>,
    trace: bool,
    without: Vec<String>,
    posts: Option<usize>,
    pair: bool,
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
    let all_well = match (command.count, command.pair) {
        (Some(count), false) => run_many(&command, count),
        (Some(count), true) => run_many_pairs(command.seed, count),
        (None, false) => run_one(&command),
        (None, true) => run_one_pair(command.seed, command.trace),
    };
    match all_well {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Command, String> {
    let (mut seeds, mut start, mut seed) = (None, None, None);
    let mut command = Command {
        seed: 0,
        count: None,
        trace: false,
        without: Vec::new(),
        posts: None,
        pair: false,
    };
    while let Some(arg) = args.next() {
        let mut number = || {
            let text = args.next().unwrap_or_default();
            text.parse::<u64>()
                .map_err(|_| format!("{arg} needs a number, not {text:?}"))
        };
        match arg.as_str() {
            "--seeds" => seeds = Some(number()?),
            "--start" => start = Some(number()?),
            "--seed" => seed = Some(number()?),
            "--posts" => command.posts = usize::try_from(number()?).ok(),
            "--trace" => command.trace = true,
            "--pair" => command.pair = true,
            "--without" => {
                let kind = args.next().unwrap_or_default();
                if !KINDS.contains(&kind.as_str()) {
                    return Err(format!("{kind:?} is none of {KINDS:?}"));
                }
                command.without.push(kind);
            }
            other => return Err(format!("{other:?} means nothing here")),
        }
    }
    match (seeds, seed) {
        (Some(count), None) => {
            command.seed = start.unwrap_or(0);
            command.count = Some(count);
        }
        (None, Some(_)) if start.is_some() => {
            return Err("--start is the first of --seeds, and means nothing with --seed".into());
        }
        (None, Some(seed)) => command.seed = seed,
        _ => return Err("say either --seeds or --seed".into()),
    }
    command.contradiction().map_or(Ok(()), Err)?;
    Ok(command)
}

impl Command {
    /// What would be left out in silence.
    fn contradiction(&self) -> Option<String> {
        if self.count.is_some() && self.trace {
            return Some("--trace shows one run: say --seed, not --seeds".into());
        }
        let left_out = [
            ("--without", !self.without.is_empty()),
            ("--posts", self.posts.is_some()),
        ];
        let (option, _) = left_out.iter().find(|(_, is_said)| self.pair && *is_said)?;
        Some(format!(
            "{option} is for engines, and means nothing with --pair"
        ))
    }

    fn scenario(&self, seed: u64) -> Scenario {
        let mut scenario = Scenario::new(seed);
        if let Some(percent) = self.posts {
            scenario = scenario.with_posts(percent);
        }
        for kind in &self.without {
            scenario = scenario.without(kind);
        }
        scenario
    }
}

fn run_one(command: &Command) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let scenario = command.scenario(command.seed);
    let outcome = if command.trace {
        let (outcome, trace) = scenario.run_traced();
        writeln!(out, "{trace}")?;
        // Its trace was shown.
        outcome.map_err(|failure| format!("seed {} breaks {}", failure.seed, failure.broken))
    } else {
        let outcome = scenario.run_reduced();
        outcome.map_err(|failure| failure.to_string())
    };
    tell(&mut out, outcome)
}

fn run_one_pair(seed: u64, trace: bool) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let simulation = pair::Simulation::new(seed);
    if trace {
        let simulation = pair::Simulation::new(seed);
        writeln!(out, "{:#?}", simulation.plan())?;
        for event in simulation.run_traced().1 {
            writeln!(out, "{event}")?;
        }
    }
    tell(
        &mut out,
        simulation.run().map_err(|failure| failure.to_string()),
    )
}

fn tell<R: fmt::Debug>(out: &mut impl Write, outcome: Result<R, String>) -> io::Result<bool> {
    match outcome {
        Ok(report) => writeln!(out, "{report:#?}").map(|()| true),
        Err(failure) => writeln!(out, "{failure}").map(|()| false),
    }
}

fn run_many(command: &Command, count: u64) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let began = Instant::now();
    let mut summary = Summary::default();
    for seed in command.seed..command.seed.saturating_add(count) {
        let scenario = command.scenario(seed);
        match scenario.run() {
            Ok(report) => summary.add(&report),
            Err(failure) => {
                let failure = scenario.run_reduced().err().unwrap_or(failure);
                writeln!(out, "{failure}")?;
                return Ok(false);
            }
        }
    }
    summary.tell(&mut out, count, began.elapsed())
}

fn run_many_pairs(start: u64, count: u64) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let began = Instant::now();
    let mut summary = Summary::default();
    for seed in start..start.saturating_add(count) {
        match pair::Simulation::new(seed).run() {
            Ok(report) => summary.add_pair(&report),
            Err(failure) => {
                writeln!(out, "{failure}")?;
                return Ok(false);
            }
        }
    }
    summary.tell(&mut out, count, began.elapsed())
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
            ("times that the pool was empty", report.pool_empty),
            ("times without room to post", report.queue_full),
        ] {
            *self.sums.entry(what).or_default() += count;
        }
        for (closed, count) in &report.closed {
            *self.closed.entry(closed.clone()).or_default() += count;
        }
    }

    fn add_pair(&mut self, report: &pair::Report) {
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

    fn tell(self, out: &mut impl Write, count: u64, elapsed: Duration) -> io::Result<bool> {
        let seconds = elapsed.as_secs_f64();
        writeln!(
            out,
            "{count} seeds, {} gentle, in {seconds:.2} s",
            self.gentle
        )?;
        for (what, count) in self.sums {
            writeln!(out, "{count:>10} {what}")?;
        }
        for (closed, count) in self.closed {
            writeln!(out, "{count:>10} {closed}")?;
        }
        Ok(true)
    }
}
