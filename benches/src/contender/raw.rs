//! Plain sockets of std, in three ways: the yardstick.
//!
//! - `raw` is what is written first: blocking sockets with `TCP_NODELAY`, one write for each message,
//!   and a `BufReader` with its default size.
//! - `raw-batch` gathers frames into writes of 64 KiB, and reads up to 256 KiB at once. It sends what
//!   it has before it waits. Hardly anything on these sockets is faster in one direction.
//! - `raw-poll` never sleeps for what comes within 50 us: a socket that does not block, polled, with a
//!   yield between two polls so that a peer on the same core gets to answer; then it blocks in `poll`.
//!   That is what tofu's busy poll can at best reach.

use std::{
    io::{self, ErrorKind, Read, Write},
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, poll};

use super::{
    Client, Contender, Endpoint, Fallible,
    stream::{Framed, Stream},
};

const READ_BUFFER: usize = 8 * 1024;
const BATCH_READ_BUFFER: usize = 256 * 1024;
const GATHER_MAX: usize = 64 * 1024;
const POLL_MAX: Duration = Duration::from_micros(50);

/// One write for each message.
#[derive(Debug)]
pub(super) struct Raw;

impl Contender for Raw {
    fn serve(&self, endpoint: &Endpoint, ready: &mut dyn FnMut(&Endpoint)) -> Fallible {
        Framed::new(Stream::accept(endpoint, ready)?, READ_BUFFER, 0).serve()
    }

    fn connect(&self, endpoint: &Endpoint) -> Fallible<Box<dyn Client>> {
        let stream = Stream::connect(endpoint)?;
        Ok(Box::new(Framed::new(stream, READ_BUFFER, 0)))
    }
}

/// Large writes and large reads.
#[derive(Debug)]
pub(super) struct RawBatch;

impl Contender for RawBatch {
    fn serve(&self, endpoint: &Endpoint, ready: &mut dyn FnMut(&Endpoint)) -> Fallible {
        let stream = Stream::accept(endpoint, ready)?;
        Framed::new(stream, BATCH_READ_BUFFER, GATHER_MAX).serve()
    }

    fn connect(&self, endpoint: &Endpoint) -> Fallible<Box<dyn Client>> {
        let stream = Stream::connect(endpoint)?;
        Ok(Box::new(Framed::new(stream, BATCH_READ_BUFFER, GATHER_MAX)))
    }
}

/// Polls before it sleeps.
#[derive(Debug)]
pub(super) struct RawPoll;

impl Contender for RawPoll {
    fn serve(&self, endpoint: &Endpoint, ready: &mut dyn FnMut(&Endpoint)) -> Fallible {
        let stream = Polled::new(Stream::accept(endpoint, ready)?)?;
        Framed::new(stream, READ_BUFFER, 0).serve()
    }

    fn connect(&self, endpoint: &Endpoint) -> Fallible<Box<dyn Client>> {
        let stream = Polled::new(Stream::connect(endpoint)?)?;
        Ok(Box::new(Framed::new(stream, READ_BUFFER, 0)))
    }
}

#[derive(Debug)]
struct Polled(Stream);

impl Polled {
    fn new(stream: Stream) -> io::Result<Self> {
        stream.set_nonblocking()?;
        Ok(Self(stream))
    }

    fn wait(&self, flags: PollFlags) -> io::Result<()> {
        poll(&mut [PollFd::new(&self.0, flags)], None)?;
        Ok(())
    }
}

impl Read for Polled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let start = Instant::now();
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
            if start.elapsed() < POLL_MAX {
                thread::yield_now();
            } else {
                self.wait(PollFlags::IN)?;
            }
        }
    }
}

impl Write for Polled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(PollFlags::OUT)?,
                outcome => return outcome,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
