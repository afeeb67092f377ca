//! What the two processes of a contender do: they are told by lines on standard input, and answer with
//! lines on standard output. When standard input ends, so do they: none outlives the coordinator.

use std::{
    fs,
    io::{self, BufRead, Write},
    process, thread,
};

use cpu_time::ProcessTime;
use serde::{Deserialize, Serialize};

use crate::{
    contender::{self, Client, Endpoint, Fallible, Laps},
    own::Own,
    workload::{Command, Outcome, SMALL},
};

/// A line of a child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Line {
    /// The server listens here.
    Listening(String),
    /// The client has connected, or done what was to be done before.
    Ready,
    /// The client has measured.
    Outcome(Outcome),
    /// What the server has used so far.
    Usage {
        /// Time on its processors.
        cpu_seconds: f64,
        /// Its memory.
        resident_kib: u64,
    },
    /// It went wrong.
    Failed(String),
}

/// What a child is told.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Order {
    /// To a client: do this, and do not measure it.
    Prepare(String),
    /// To a client: do this so many times, and measure it.
    Run(String, u64),
    /// To a server: tell what you have used.
    Usage,
}

fn say(line: &Line) {
    let text = serde_json::to_string(line).unwrap_or_default();
    let mut stdout = io::stdout().lock();
    // Whoever listened is gone: so is the reason to be here.
    if writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .is_err()
    {
        process::exit(1);
    }
}

/// Runs the server of a contender.
pub(crate) fn serve(name: &str, endpoint: &Endpoint) -> Fallible {
    let contender = contender::find(name)?.contender();
    thread::spawn(|| {
        for line in io::stdin().lock().lines() {
            match line.map(|line| serde_json::from_str(&line)) {
                Ok(Ok(Order::Usage)) => say(&usage()),
                other => say(&Line::Failed(format!("not for a server: {other:?}"))),
            }
        }
        process::exit(0);
    });
    contender.serve(endpoint, &mut |endpoint| {
        say(&Line::Listening(endpoint.to_string()));
    })
}

fn usage() -> Line {
    Line::Usage {
        cpu_seconds: ProcessTime::now().as_duration().as_secs_f64(),
        resident_kib: resident_kib().unwrap_or_default(),
    }
}

fn resident_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Runs the client of a contender.
pub(crate) fn client(name: &str, endpoint: &Endpoint) -> Fallible {
    let mut own = Own::new(endpoint.clone(), name);
    let mut client = contender::find(name)?.contender().connect(endpoint)?;
    say(&Line::Ready);
    // Read in a thread of its own, so that the end is heard also while something hangs.
    let (sender, orders) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
        process::exit(0);
    });
    while let Ok(line) = orders.recv() {
        let done = match serde_json::from_str(&line)? {
            Order::Prepare(command) => own.prepare(command.parse()?).map(|()| Line::Ready),
            Order::Run(command, count) => {
                run(&mut *client, &mut own, command.parse()?, count).map(Line::Outcome)
            }
            Order::Usage => Err("a client tells its usage with each outcome".into()),
        };
        say(&done.unwrap_or_else(|error| Line::Failed(error.to_string())));
    }
    Ok(())
}

fn run(client: &mut dyn Client, own: &mut Own, command: Command, count: u64) -> Fallible<Outcome> {
    let cpu = ProcessTime::now();
    let start = std::time::Instant::now();
    let mut laps = None;
    let mut flood = None;
    match command {
        Command::RoundTrips(len) => {
            let laps = laps.insert(Laps::start(count));
            client.round_trips(count, len, laps)?;
        }
        Command::OneWay(len) => client.one_way(count, len)?,
        Command::Window(width) => client.window(count, SMALL, width)?,
        Command::Beside { flood: true } => {
            let laps = laps.insert(Laps::start(count));
            flood = Some(own.beside_flood(count, laps)?);
        }
        command => own.run(command, count, laps.insert(Laps::start(count)))?,
    }
    let seconds = start.elapsed().as_secs_f64();
    let client_cpu_seconds = cpu.elapsed().as_secs_f64();
    Ok(Outcome {
        count,
        seconds,
        client_cpu_seconds,
        p50_us: laps.as_mut().and_then(|laps| laps.percentile_us(50)),
        p99_us: laps.as_mut().and_then(|laps| laps.percentile_us(99)),
        flood,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_its_text_form() {
        for order in [
            Order::Prepare("idle 7".to_owned()),
            Order::Run("window 64".to_owned(), 1000),
            Order::Usage,
        ] {
            let text = serde_json::to_string(&order).unwrap();
            assert_eq!(serde_json::from_str::<Order>(&text).unwrap(), order);
        }
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_kib().is_some_and(|kib| kib > 0));
    }
}
