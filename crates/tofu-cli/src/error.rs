//! How a run ends when it does not end well: what is said, and the exit status.

use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

/// Why a run ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something went wrong: exit status 1.
    Failed {
        /// What was to be done.
        what: String,
        /// Why it could not.
        why: String,
    },
    /// Something went wrong, and was said when it happened: exit status 1.
    Told,
    /// Ctrl-C: exit status 130, as a shell says it.
    Interrupted,
    /// Nobody reads the standard output any more. That is how `| head` ends a program: no failure.
    OutputClosed,
}

/// The exit status of a program that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 130;

impl Failure {
    /// `what` failed because of `why`.
    pub(crate) fn new(what: impl Display, why: impl Display) -> Self {
        Self::Failed {
            what: what.to_string(),
            why: why.to_string(),
        }
    }

    /// A write to the standard output failed.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        Self::new("standard output", error)
    }

    /// Says it on the standard error and gives the exit status.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Failed { what, why } => {
                // There is nowhere left to complain to when this fails.
                let _ = writeln!(io::stderr(), "tofucat: {what}: {why}");
                ExitCode::FAILURE
            }
            Self::Told => ExitCode::FAILURE,
            Self::Interrupted => ExitCode::from(INTERRUPTED),
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }
}
