//! A server process of our own, for `demo` and `bench`, and the ways in which it is made to end.
//!
//! The server is this program, with a hidden subcommand. It ends by itself when its client has said bye.
//! If this process fails it is killed when its handle is dropped; if this process is killed, the server's
//! standard input ends and so does it. Ctrl-C is for this process alone, which then says bye.

use std::{
    env,
    fmt::Display,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use tofu::Address;

use crate::error::Failure;

/// How long a server may take to start or to end, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(5);
const LISTENING: &str = "listening ";

/// A running server.
pub(crate) struct ServerProcess {
    /// The subcommand that started it, for errors.
    what: &'static str,
    child: Child,
    /// What it prints, line by line, until it ends.
    lines: Receiver<String>,
    /// Where it listens.
    pub(crate) address: Address,
}

impl ServerProcess {
    /// Starts this program once more, as a server, and waits until it listens. `what` names the
    /// subcommand that wants it, `subcommand` the one that serves.
    pub(crate) fn start(
        what: &'static str,
        subcommand: &str,
        listen_on: &Address,
        options: &[&str],
    ) -> Result<Self, Failure> {
        let failed = |why: &dyn Display| Failure::new(what, why);
        let mut child = Command::new(env::current_exe().map_err(|error| failed(&error))?)
            .arg(subcommand)
            .arg(listen_on.to_string())
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| failed(&error))?;
        let lines = child.stdout.take().map(lines);
        let mut server = Self {
            what,
            child,
            lines: lines.ok_or_else(|| failed(&"the server has no standard output"))?,
            // Until it says which one it has.
            address: listen_on.clone(),
        };
        let Ok(line) = server.lines.recv_timeout(PATIENCE) else {
            return Err(failed(&"the server did not start"));
        };
        let address = line.strip_prefix(LISTENING).unwrap_or(&line);
        server.address = address.parse().map_err(|error| failed(&error))?;
        Ok(server)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, which must come by itself and be a good one.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        if !self.has_ended_within(PATIENCE) {
            return Err(self.failed("the server does not end after its bye"));
        }
        let status = self.child.wait().map_err(|error| self.failed(error))?;
        if status.success() {
            return Ok(());
        }
        Err(self.failed(format_args!("the server ended with {status}")))
    }

    /// How it ended, after its channel has. `None`: it still lives, so that was not the reason.
    pub(crate) fn death(&mut self) -> Option<ExitStatus> {
        self.has_ended_within(PATIENCE)
            .then(|| self.child.wait().ok())
            .flatten()
    }

    /// Waits for the end of its output, which comes with its own.
    fn has_ended_within(&self, patience: Duration) -> bool {
        loop {
            match self.lines.recv_timeout(patience) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
    }

    fn failed(&self, why: impl Display) -> Failure {
        Failure::new(self.what, why)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Fails when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    // Ends with the server's standard output, or when nobody wants its lines.
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// In the server: calls `end` when the process that started it is gone.
pub(crate) fn on_parent_gone(end: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        let mut ignored = Vec::new();
        // Nothing is ever written there: reading returns when the other end is closed.
        let _ = std::io::stdin().lock().read_to_end(&mut ignored);
        end();
    });
}
