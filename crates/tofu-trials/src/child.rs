//! Another process of the same program, spoken with in lines.

use std::{
    env,
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
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

    /// Whether it is still at it.
    ///
    /// # Errors
    /// It has ended, well or not.
    pub fn lives(&mut self) -> Fallible {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("`{}` ended early with {status}", self.name).into()),
        }
    }

    /// Kills it, and gives what it has told that nobody heard. A process that has ended by itself can still be sent
    /// a signal until it is waited for: only how it ended says whether this was what killed it.
    ///
    /// # Errors
    /// It had ended before, well or not.
    pub fn kill(mut self) -> Fallible<Vec<String>> {
        self.child.kill()?;
        let status = self.child.wait()?;
        if status.signal() != Some(Signal::SIGKILL as i32) {
            return Err(format!("`{}` ended early with {status}", self.name).into());
        }
        Ok(self.last_words())
    }

    /// The last line is behind us when its output is closed.
    fn last_words(&self) -> Vec<String> {
        std::iter::from_fn(|| self.lines.recv_timeout(WATCHDOG).ok()).collect()
    }

    /// Waits for its end, and gives what it has told that nobody heard.
    ///
    /// # Errors
    /// It did not end well, or not in time.
    pub fn end(mut self) -> Fallible<Vec<String>> {
        drop(self.input.take());
        let told = self.last_words();
        let status = self.child.wait()?;
        if status.success() {
            return Ok(told);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is no argument of a test program ends it with an error; `--list` ends it well.
    fn ends_by_itself(argument: &str) -> Fallible<Companion> {
        let mut companion = Companion::start::<&str, _>(&[], &[argument])?;
        while companion.hear().is_ok() {}
        while companion.lives().is_ok() {
            thread::yield_now();
        }
        Ok(companion)
    }

    #[test]
    fn who_ended_before_was_not_killed() -> Fallible {
        for argument in ["--list", "--no-such-argument"] {
            let error = ends_by_itself(argument)?.kill().expect_err("a kill");
            assert!(error.to_string().contains("ended early"), "{error}");
        }
        Ok(())
    }

    #[test]
    fn who_lives_is_killed() -> Fallible {
        let mut companion = Companion::start(&["sh", "-c", "echo here && exec sleep 60"], &[""])?;
        companion.hear_word("here")?;
        companion.lives()?;
        companion.kill().map(|told| assert!(told.is_empty()))
    }
}
