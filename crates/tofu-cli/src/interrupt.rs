//! What ends a run from outside: Ctrl-C, and a reader of the standard output that goes away.
//!
//! While a channel may be open, the first Ctrl-C sets a flag and wakes who waits for events, so that
//! the subcommand can say bye. Before that, and the second time, the process ends on the spot. A closed
//! pipe does the same for a run that waits and has nothing to print, which would not notice otherwise.

use std::{
    io,
    os::fd::AsRawFd,
    process,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use mio::{Events, Interest, Poll, Token, unix::SourceFd};

use tofu::Poster;

use crate::error::{Failure, INTERRUPTED};

/// Watches for Ctrl-C and for a closed standard output.
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
    /// Nobody reads the standard output any more.
    OutputClosed,
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
                State::Idle | State::Pressed | State::OutputClosed => {
                    process::exit(i32::from(INTERRUPTED))
                }
            }
        })
        .map_err(|error| Failure::new("cannot watch for Ctrl-C", error))?;
        // Only pipes and sockets can be watched. What else there may be, a file or a terminal, does not
        // close; and a pipe that cannot be watched is found closed by the next write.
        let _ = interrupt.clone().watch_output();
        Ok(interrupt)
    }

    fn watch_output(self) -> io::Result<()> {
        let mut poll = Poll::new()?;
        let descriptor = io::stdout().as_raw_fd();
        // The end is told whatever the interest is.
        poll.registry()
            .register(&mut SourceFd(&descriptor), Token(0), Interest::READABLE)?;
        let watch = move || {
            let mut events = Events::with_capacity(4);
            loop {
                match poll.poll(&mut events, None) {
                    Err(error) if error.kind() != io::ErrorKind::Interrupted => return,
                    Err(_) => events.clear(),
                    Ok(()) => {}
                }
                if events
                    .iter()
                    .any(|event| event.is_error() || event.is_write_closed())
                {
                    return self.output_closed();
                }
            }
        };
        thread::Builder::new().spawn(watch).map(drop)
    }

    fn output_closed(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Watched(poster) = &*state {
            poster.notify(None);
        }
        if !matches!(*state, State::Pressed) {
            *state = State::OutputClosed;
        }
    }

    /// Wakes the group of `poster` from now on.
    pub(crate) fn wake(&self, poster: Poster) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Idle | State::Watched(_) = *state {
            *state = State::Watched(poster);
        }
    }

    /// Ends with [`Failure::Interrupted`] if Ctrl-C was pressed, with [`Failure::OutputClosed`] if nobody
    /// reads the output.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Pressed => Err(Failure::Interrupted),
            State::OutputClosed => Err(Failure::OutputClosed),
            State::Idle | State::Watched(_) => Ok(()),
        }
    }
}
