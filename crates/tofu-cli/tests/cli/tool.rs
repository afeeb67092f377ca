//! Running `tofucat`, with a watchdog on every wait.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use serde_json::Value;

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program, with its output piped.
pub(crate) fn command<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tofucat"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A run that is over.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.stdout).expect("the output is text")
    }

    /// The lines of its output as JSON.
    pub(crate) fn objects(&self) -> Vec<Value> {
        self.text().lines().map(object).collect()
    }

    #[track_caller]
    pub(crate) fn expect_code(&self, code: i32) {
        assert_eq!(self.status.code(), Some(code), "{self:?}");
    }

    /// It ended well, and had nothing to complain about.
    #[track_caller]
    pub(crate) fn expect_success(&self) {
        self.expect_code(0);
        assert_eq!(self.stderr, "");
    }

    /// It ended with exit status 1, and said so in the agreed form.
    #[track_caller]
    pub(crate) fn expect_error(&self, what: &str, why: &str) {
        self.expect_code(1);
        let line = self.stderr.strip_prefix("tofucat: ").unwrap_or_default();
        let rest = line
            .strip_prefix(what)
            .and_then(|rest| rest.strip_prefix(": "));
        assert!(rest.is_some_and(|rest| rest.contains(why)), "{self:?}");
    }
}

/// Runs the program to its end.
pub(crate) fn tofucat<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Done {
    run(&mut command(arguments), b"")
}

/// Runs a command to its end, with this on its standard input.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Done {
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().expect("the program starts");
    let stdin = child.stdin.take();
    let input = input.to_vec();
    thread::spawn(move || {
        // Fails when the program has had enough.
        let _ = stdin.map(|mut stdin| stdin.write_all(&input));
    });
    finish(child)
}

/// Waits for the end of a program.
#[track_caller]
pub(crate) fn finish(child: Child) -> Done {
    let id = child.id();
    let output = within(
        move || child.wait_with_output(),
        || {
            signal(id, "KILL");
        },
    );
    let output = output.expect("the program can be waited for");
    Done {
        status: output.status,
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Starts a program, reads its first line, and gives it with the rest of its output, to be closed.
pub(crate) fn first_line(command: &mut Command) -> (Child, String, impl Read + use<>) {
    let mut child = command.spawn().expect("the program starts");
    let id = child.id();
    let mut stdout = BufReader::new(child.stdout.take().expect("standard output is piped"));
    let (line, stdout) = within(
        move || {
            let mut line = String::new();
            let read = stdout.read_line(&mut line);
            read.expect("the output is text");
            (line, stdout)
        },
        || {
            signal(id, "KILL");
        },
    );
    (child, line, stdout)
}

/// What `wait` gives, unless it takes too long.
#[track_caller]
pub(crate) fn within<T: Send + 'static>(
    wait: impl FnOnce() -> T + Send + 'static,
    give_up: impl FnOnce(),
) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(wait()));
    receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        give_up();
        panic!("nothing happens any more");
    })
}

/// A program that runs, until it ends or is dropped.
pub(crate) struct Running {
    child: Child,
    lines: Option<Receiver<String>>,
    errors: Receiver<String>,
}

impl Running {
    pub(crate) fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        Self::spawn(&mut command(arguments))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the program starts");
        Self {
            lines: child.stdout.take().map(lines),
            errors: lines(child.stderr.take().expect("standard error is piped")),
            child,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its next line.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        let lines = self.lines.as_ref().expect("the output is still read");
        lines.recv_timeout(PATIENCE).expect("another line")
    }

    /// Its next line on the standard error.
    #[track_caller]
    pub(crate) fn error_line(&self) -> String {
        let line = self.errors.recv_timeout(PATIENCE);
        line.expect("another line on the standard error")
    }

    /// Its next line, which is JSON.
    #[track_caller]
    pub(crate) fn object(&self) -> Value {
        object(&self.line())
    }

    /// The address on which it says that it listens.
    #[track_caller]
    pub(crate) fn address(&self) -> String {
        let line = self.line();
        line.strip_prefix("listening ")
            .expect("it listens")
            .to_owned()
    }

    /// Presses Ctrl-C.
    pub(crate) fn interrupt(&self) {
        signal(self.id(), "INT");
    }

    /// Waits for its end. What it printed and nobody has read is given with it.
    #[track_caller]
    pub(crate) fn end(mut self) -> Done {
        // Whoever still holds the pipes holds us up: the program itself, or what it has started.
        let stderr = rest(&self.errors);
        let stdout = self
            .lines
            .take()
            .map(|lines| rest(&lines))
            .unwrap_or_default();
        Done {
            status: self.child.wait().expect("the program can be waited for"),
            stdout: stdout.into_bytes(),
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that is ready, and its address.
#[track_caller]
pub(crate) fn server<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> (Running, String) {
    let running = Running::start(arguments);
    let address = running.address();
    (running, address)
}

/// An address in `directory`.
pub(crate) fn uds_address(directory: &Path) -> String {
    format!("uds|{}", directory.join("socket").display())
}

/// An address on which nobody listens.
pub(crate) fn unused_tcp_address() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    format!("tcp|127.0.0.1|{}", listener.local_addr().unwrap().port())
}

/// Sends a signal to a process, and tells whether there was one.
pub(crate) fn signal(process: u32, name: &str) -> bool {
    let mut kill = Command::new("kill");
    kill.arg(format!("-{name}")).arg(process.to_string());
    let status = kill.stderr(Stdio::null()).status();
    status.expect("kill can be run").success()
}

#[track_caller]
pub(crate) fn object(line: &str) -> Value {
    let value: Value = serde_json::from_str(line).expect("the line is JSON");
    assert!(value.is_object(), "{line}");
    value
}

/// The keys of an object, as they are printed.
#[track_caller]
pub(crate) fn keys(value: &Value) -> Vec<&str> {
    let map = value.as_object().expect("an object");
    map.keys().map(String::as_str).collect()
}

fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// All lines until the stream ends.
#[track_caller]
fn rest(lines: &Receiver<String>) -> String {
    let mut text = String::new();
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                text.push_str(&line);
                text.push('\n');
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return text,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("the program does not end: {text}"),
        }
    }
}
