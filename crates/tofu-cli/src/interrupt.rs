//! Ctrl-C.
//!
//! While a channel may be open, the first Ctrl-C sets a flag and wakes who waits for events, so that
//! the subcommand can say bye. Before that, and the second time, the process ends on the spot.

use std::{
    process,
    sync::{Arc, Mutex, PoisonError},
};

use tofu::Poster;

use crate::error::{Failure, INTERRUPTED};

/// Watches for Ctrl-C.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<Mutex<State>>);

#[derive(Debug)]
enum State {
    /// Nothing to say bye to.
    Idle,
    /// Whoever waits for this group's events is to be woken.
    Watched(Poster),
    /// Ctrl-C was pressed.
    Pressed,
}

impl Interrupt {
    /// Watches from now on. Once in a process.
    pub(crate) fn watch() -> Result<Self, Failure> {
        let state = Arc::new(Mutex::new(State::Idle));
        let interrupt = Self(Arc::clone(&state));
        ctrlc::set_handler(move || {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            match std::mem::replace(&mut *state, State::Pressed) {
                State::Watched(poster) => poster.notify(None),
                State::Idle | State::Pressed => process::exit(i32::from(INTERRUPTED)),
            }
        })
        .map_err(|error| Failure::new("cannot watch for Ctrl-C", error))?;
        Ok(interrupt)
    }

    /// Wakes the group of `poster` from now on.
    pub(crate) fn wake(&self, poster: Poster) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Idle | State::Watched(_) = *state {
            *state = State::Watched(poster);
        }
    }

    /// Ends with [`Failure::Interrupted`] if Ctrl-C was pressed.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Pressed => Err(Failure::Interrupted),
            State::Idle | State::Watched(_) => Ok(()),
        }
    }
}
