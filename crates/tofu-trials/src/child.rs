//! Another process of the same program, spoken with in lines.

use std::{
    env,
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use nix::{sys::signal::Signal, unistd::Pid};

use crate::Fallible;

/// How long anything that is no measurement may take.
pub const WATCHDOG: Duration = Duration::from_secs(60);

/// A process that ends when this is dropped.
#[derive(Debug)]
pub struct Companion {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Companion {
    /// Starts this program again with these arguments, behind `wrapper` (a program and its arguments that
    /// end by running what follows), or alone if that is empty.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start<W: AsRef<OsStr>, A: AsRef<OsStr>>(wrapper: &[W], args: &[A]) -> Fallible<Self> {
        let program = env::current_exe()?;
        let mut command = match wrapper.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&program);
                command
            }
            None => Command::new(&program),
        };
        command.args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let output = child.stdout.take().ok_or("no standard output")?;
        let input = child.stdin.take();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let name = args.iter().map(|arg| arg.as_ref().to_string_lossy());
        Ok(Self {
            name: name.collect::<Vec<_>>().join(" "),
            child,
            input,
            lines,
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it tells.
    ///
    /// # Errors
    /// It tells none before the watchdog, or has ended.
    pub fn hear(&self) -> Fallible<String> {
        self.hear_within(WATCHDOG)
    }

    /// The same, with a time of its own.
    ///
    /// # Errors
    /// As [`hear`](Self::hear).
    pub fn hear_within(&self, time: Duration) -> Fallible<String> {
        let line = self.lines.recv_timeout(time);
        line.map_err(|error| format!("`{}` told nothing: {error}", self.name).into())
    }

    /// What it has told by now, without waiting.
    pub fn overhear(&self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    /// The next line, which begins with `word`: what follows it.
    ///
    /// # Errors
    /// As [`hear`](Self::hear), or it is another line.
    pub fn hear_word(&self, word: &str) -> Fallible<String> {
        let line = self.hear()?;
        let rest = line.strip_prefix(word).map(|rest| rest.trim().to_owned());
        rest.ok_or_else(|| format!("`{}` told {line:?}, not {word}", self.name).into())
    }

    /// Tells it a line.
    ///
    /// # Errors
    /// It has ended.
    pub fn tell(&mut self, line: &str) -> Fallible {
        let input = self.input.as_mut().ok_or("its input is closed")?;
        writeln!(input, "{line}")?;
        Ok(input.flush()?)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Fallible {
        let id = Pid::from_raw(i32::try_from(self.id())?);
        Ok(nix::sys::signal::kill(id, signal)?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It did not end well, or not in time.
    pub fn end(mut self) -> Fallible {
        drop(self.input.take());
        // The last line is behind us when its output is closed.
        while self.lines.recv_timeout(WATCHDOG).is_ok() {}
        let status = self.child.wait()?;
        if status.success() {
            return Ok(());
        }
        Err(format!("`{}` ended with {status}", self.name).into())
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
