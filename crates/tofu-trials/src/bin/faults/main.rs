//! Real faults, made by the real kernel: each a trial of its own, with its needs, its figures and its verdict
//! as a row of a table.
//!
//! ```text
//! cargo run --release -p tofu-trials --bin faults -- [--list] [--times N] [NAME...]
//! ```
//!
//! Without names: all. What needs root or a program that is not there is left out, and said so; it counts as a failure
//! if it was asked for by its name. A trial whose fault did not happen fails as well.

#![forbid(unsafe_code)]

mod byes;
mod clock;
mod crash;
mod disk;
mod limits;
mod network;
mod starters;
mod stop;

use std::{
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use clap::Parser;
use tofu_trials::{Fallible, today};

/// Makes faults, and sees what tofu makes of them.
#[derive(Debug, Parser)]
#[command(name = "faults")]
struct Arguments {
    /// Only say what there is.
    #[arg(long)]
    list: bool,
    /// How many times as often as by default: more of the same in one trial, or one that does one thing again.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    times: u64,
    /// Which trials; none means all.
    names: Vec<String>,
    /// This process is part of a trial, and these are its orders.
    #[arg(long, num_args = 1.., hide = true, allow_hyphen_values = true)]
    part: Vec<String>,
}

/// One trial.
struct Trial {
    name: &'static str,
    about: &'static str,
    /// Programs without which it cannot be.
    tools: &'static [&'static str],
    needs_root: bool,
    run: Run,
}

/// How to run a trial, which gives its figures.
#[derive(Clone, Copy)]
enum Run {
    /// It is told how many times as often as by default it is to do what it does.
    Times(fn(u64) -> Fallible<String>),
    /// It does one thing once, and is run again and again.
    Once(fn() -> Fallible<String>),
}

impl Run {
    fn run(self, times: u64) -> Fallible<String> {
        match self {
            Self::Times(run) => run(times),
            Self::Once(run) => {
                let mut figures = run()?;
                for nth in 2..=times {
                    figures = run().map_err(|error| format!("{error}, the time number {nth}"))?;
                }
                Ok(match times {
                    1 => figures,
                    _ => format!("{times} times, and the last time: {figures}"),
                })
            }
        }
    }
}

const TRIALS: [Trial; 11] = [
    Trial {
        name: "bye-loss",
        about: "500 byes at once over 5 % loss and 100 ms each way: every ByeResponse arrives",
        tools: &["ip"],
        needs_root: true,
        run: Run::Times(byes::under_loss),
    },
    Trial {
        name: "bye-rate",
        about: "500 byes at once behind 1 MB of messages over 8 Mbit/s (tbf) and 20 ms each way",
        tools: &["ip", "tc"],
        needs_root: true,
        run: Run::Times(byes::under_rate),
    },
    Trial {
        name: "ss-kill",
        about: "`ss -K` on a live connection, in either direction",
        tools: &["unshare", "ip", "ss"],
        needs_root: true,
        run: Run::Times(crash::ss_kill),
    },
    Trial {
        name: "sigkill",
        about: "SIGKILL of either peer in mid-stream, over tcp and uds: a gapless beginning, then the end",
        tools: &[],
        needs_root: false,
        run: Run::Times(crash::in_mid_stream),
    },
    Trial {
        name: "sigkill-late",
        about: "SIGKILL of a peer all of whose messages our kernel has: all are delivered, then the end",
        tools: &["ss"],
        needs_root: false,
        run: Run::Times(crash::with_all_received),
    },
    Trial {
        name: "sigstop",
        about: "SIGSTOP of a peer for longer than the hello, frame and bye timeouts",
        tools: &[],
        needs_root: false,
        run: Run::Times(stop::peers),
    },
    Trial {
        name: "emfile",
        about: "more connections than descriptors: the listener pauses, retries, counts, accepts again",
        tools: &["sh"],
        needs_root: false,
        run: Run::Once(limits::out_of_descriptors),
    },
    Trial {
        name: "enospc",
        about: "a UDS path on a full tmpfs: an error that says so, nothing left behind, works with room",
        tools: &["unshare", "mount"],
        needs_root: true,
        run: Run::Once(disk::full),
    },
    Trial {
        name: "read-only",
        about: "a UDS path in a read-only directory: an error that says so",
        tools: &["unshare", "mount"],
        needs_root: true,
        run: Run::Once(disk::read_only),
    },
    Trial {
        name: "two-starters",
        about: "two processes start on one UDS path at once, fresh or stale: exactly one wins",
        tools: &[],
        needs_root: false,
        run: Run::Times(starters::two),
    },
    Trial {
        name: "clock-steps",
        about: "the wall clock jumps years ahead and back: no timer minds",
        tools: &["faketime"],
        needs_root: false,
        run: Run::Once(clock::steps),
    },
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some((role, rest)) = arguments.part.split_first() {
        return match part(role, rest) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("faults: {}: {error}", arguments.part.join(" "));
                ExitCode::FAILURE
            }
        };
    }
    if let Some(unknown) =
        (arguments.names.iter()).find(|name| TRIALS.iter().all(|trial| trial.name != name.as_str()))
    {
        eprintln!("faults: there is no trial {unknown}: see --list");
        return ExitCode::from(2);
    }
    let mut failed = false;
    if !arguments.list {
        println!("| trial | date | figures | verdict |\n| --- | --- | --- | --- |");
    }
    for trial in &TRIALS {
        if !arguments.names.is_empty() && !arguments.names.iter().any(|name| name == trial.name) {
            continue;
        }
        if arguments.list {
            println!("{:14}{}", trial.name, trial.about);
            continue;
        }
        failed |= match judge(trial, arguments.times) {
            Outcome::Holds => false,
            Outcome::Fails => true,
            // Who asks for it by its name wants to know.
            Outcome::LeftOut => !arguments.names.is_empty(),
        };
    }
    ExitCode::from(u8::from(failed))
}

/// What became of a trial.
enum Outcome {
    Holds,
    Fails,
    LeftOut,
}

/// Runs a trial if it can be, and prints its row.
fn judge(trial: &Trial, times: u64) -> Outcome {
    let missing = missing(trial);
    if !missing.is_empty() {
        println!(
            "| `{}` | {} | needs {} | left out |",
            trial.name,
            today(),
            missing.join(", ")
        );
        return Outcome::LeftOut;
    }
    let started = Instant::now();
    let (figures, verdict, outcome) = match trial.run.run(times) {
        Ok(figures) => (figures, "holds", Outcome::Holds),
        Err(error) => (error.to_string(), "**fails**", Outcome::Fails),
    };
    println!(
        "| `{}` | {} | {figures}; {:.1} s | {verdict} |",
        trial.name,
        today(),
        started.elapsed().as_secs_f64(),
    );
    outcome
}

/// What the trial needs and is not here.
fn missing(trial: &Trial) -> Vec<String> {
    let mut missing = Vec::new();
    if trial.needs_root && !nix::unistd::geteuid().is_root() {
        missing.push("root".to_owned());
    }
    for tool in trial.tools {
        let is_there = Command::new("sh")
            .args(["-c", "command -v \"$0\"", tool])
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !is_there {
            missing.push(format!("`{tool}`"));
        }
    }
    missing
}

/// What this process does as a part of a trial.
fn part(role: &str, rest: &[String]) -> Fallible {
    let word = |at: usize| {
        rest.get(at)
            .map(String::as_str)
            .ok_or("an order is missing")
    };
    match role {
        "relay" => network::relay(rest),
        "bye-server" => byes::server(word(0)?, word(1)?.parse()?),
        "bye-client" => byes::client(word(0)?, word(1)?.parse()?, word(2)?.parse()?),
        "ss-kill" => crash::ss_kill_inside(word(0)?.parse()?),
        "streams" => crash::streams(word(0)?),
        "sends" => crash::sends(word(0)?, word(1)?.parse()?),
        "greets" => stop::greets(word(0)?),
        "descriptors" => limits::server(),
        "full-disk" => disk::full_inside(word(0)?),
        "read-only" => disk::read_only_inside(word(0)?),
        "starter" => starters::starter(),
        "clock" => clock::inside(word(0)?),
        _ => Err("no such part".into()),
    }
}
