//! A contender's two processes, from the coordinator's side.
//!
//! Every wait has an end: a child that does not answer in time is an error that says so, and its pair
//! is dropped, which kills both.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command as Program, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use crate::{
    arguments::{Pins, Transport},
    child::{Line, Order},
    contender::{Endpoint, Fallible},
    workload::{Case, Command, Measurement, Outcome},
};

/// Longer than any measurement takes that works.
const WATCHDOG: Duration = Duration::from_secs(30);

/// A server and its client.
#[derive(Debug)]
pub(crate) struct Pair {
    server: Process,
    client: Process,
    kib_per_connection: Option<f64>,
}

impl Pair {
    /// Starts both for a case, and does what comes before the measurement.
    pub(crate) fn start(
        case: &Case,
        transport: Transport,
        pins: Pins,
        directory: &Path,
    ) -> Fallible<Self> {
        let endpoint = match transport {
            Transport::Tcp => Endpoint::Tcp(0),
            Transport::Uds => Endpoint::Uds(unused_path(directory, case.contender)),
        };
        let (server_cpu, client_cpu) = pins.cpus();
        let server = Process::start("serve", case.contender, &endpoint, server_cpu)?;
        let Line::Listening(endpoint) = server.hear()? else {
            return Err("the server does not say where it listens".into());
        };
        let client = Process::start("client", case.contender, &endpoint.parse()?, client_cpu)?;
        let Line::Ready = client.hear()? else {
            return Err("the client does not say that it has connected".into());
        };
        let mut pair = Self {
            server,
            client,
            kib_per_connection: None,
        };
        if let Some(setup) = case.setup {
            pair.prepare(setup)?;
        }
        Ok(pair)
    }

    fn prepare(&mut self, setup: Command) -> Fallible {
        let (_, before) = self.usage()?;
        self.client.tell(&Order::Prepare(setup.to_string()))?;
        let Line::Ready = self.client.hear()? else {
            return Err(format!("the client does not say that `{setup}` is done").into());
        };
        let (_, after) = self.usage()?;
        if let Command::Idle(count) = setup {
            self.kib_per_connection = Some((after - before) / f64::from(count));
        }
        Ok(())
    }

    /// Runs a command `count` times.
    pub(crate) fn measure(&mut self, command: Command, count: u64) -> Fallible<Measurement> {
        let (before, _) = self.usage()?;
        let outcome = self.run(command, count)?;
        let (after, _) = self.usage()?;
        Ok(Measurement {
            outcome,
            server_cpu_seconds: after - before,
            kib_per_connection: self.kib_per_connection,
        })
    }

    fn run(&mut self, command: Command, count: u64) -> Fallible<Outcome> {
        self.client.tell(&Order::Run(command.to_string(), count))?;
        match self.client.hear()? {
            Line::Outcome(outcome) => Ok(outcome),
            other => Err(format!("the client says {other:?}, expected an outcome").into()),
        }
    }

    fn usage(&mut self) -> Fallible<(f64, f64)> {
        self.server.tell(&Order::Usage)?;
        match self.server.hear()? {
            Line::Usage {
                cpu_seconds,
                resident_kib,
            } => Ok((cpu_seconds, crate::workload::float(resident_kib))),
            other => Err(format!("the server says {other:?}, expected its usage").into()),
        }
    }
}

/// One for each pair: no library has to cope with the file of another.
fn unused_path(directory: &Path, contender: &str) -> PathBuf {
    let mut number = 0;
    loop {
        let path = directory.join(format!("{contender}-{number}"));
        if !path.exists() {
            return path;
        }
        number += 1;
    }
}

/// A child, killed when dropped.
#[derive(Debug)]
struct Process {
    what: String,
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Process {
    fn start(role: &str, contender: &str, endpoint: &Endpoint, cpu: usize) -> Fallible<Self> {
        let mut child = Program::new("taskset")
            .args(["-c", &cpu.to_string()])
            .arg(std::env::current_exe()?)
            .args([role, contender, &endpoint.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("taskset (of util-linux) does not start: {error}"))?;
        let stdin = child.stdin.take().ok_or("a child has no stdin")?;
        let stdout = child.stdout.take().ok_or("a child has no stdout")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            what: format!("{role} of {contender}"),
            child,
            stdin,
            lines,
        })
    }

    fn tell(&mut self, order: &Order) -> Fallible {
        let line = serde_json::to_string(order)?;
        writeln!(self.stdin, "{line}")
            .map_err(|error| format!("{} is gone: {error}", self.what))?;
        Ok(())
    }

    fn hear(&self) -> Fallible<Line> {
        match self.lines.recv_timeout(WATCHDOG) {
            Ok(line) => match serde_json::from_str(&line)? {
                Line::Failed(reason) => Err(format!("{}: {reason}", self.what).into()),
                line => Ok(line),
            },
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("{} hangs: no answer within {WATCHDOG:?}", self.what).into())
            }
            Err(RecvTimeoutError::Disconnected) => Err(format!("{} ended", self.what).into()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_not_used_twice() {
        let directory = tempfile::tempdir().unwrap();
        let first = unused_path(directory.path(), "raw");
        std::fs::write(&first, "").unwrap();
        assert_ne!(unused_path(directory.path(), "raw"), first);
    }
}
