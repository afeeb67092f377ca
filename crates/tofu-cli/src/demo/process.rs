//! A server process of the demo, and the two ways in which it is made to end.
//!
//! The server ends by itself when its client has said bye. If this process fails it is killed when
//! its handle is dropped; if this process is killed, the server's standard input ends and so does it.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use tofu::Address;

use super::failed;
use crate::error::Failure;

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(5);
const LISTENING: &str = "listening ";

/// A running server.
pub(super) struct Server {
    child: Child,
    /// What it prints, line by line, until it ends.
    lines: Receiver<String>,
    /// Where it listens.
    pub(super) address: Address,
}

impl Server {
    /// Starts this program once more, as a server, and waits until it listens.
    pub(super) fn start(listen_on: &Address) -> Result<Self, Failure> {
        let mut child = Command::new(env::current_exe().map_err(failed)?)
            .arg("demo-server")
            .arg(listen_on.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let lines = child.stdout.take().map(lines);
        let mut server = Self {
            child,
            lines: lines.ok_or_else(|| failed("the server has no standard output"))?,
            // Until it says which one it has.
            address: listen_on.clone(),
        };
        let Ok(line) = server.lines.recv_timeout(PATIENCE) else {
            return Err(failed("the server did not start"));
        };
        let address = line.strip_prefix(LISTENING).unwrap_or(&line);
        server.address = address.parse().map_err(failed)?;
        Ok(server)
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, which must come by itself and be a good one.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(failed("the server does not end after its bye"));
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = self.child.wait().map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        Err(failed(format_args!("the server ended with {status}")))
    }
}

impl Drop for Server {
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
pub(super) fn on_parent_gone(end: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        let mut ignored = Vec::new();
        // Nothing is ever written there: reading returns when the other end is closed.
        let _ = std::io::stdin().lock().read_to_end(&mut ignored);
        end();
    });
}
