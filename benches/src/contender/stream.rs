//! Sockets of std, and frames on them: what the raw contenders have in common.
//!
//! A frame is what it is in tofu, a header of 16 bytes and a body, so that the same bytes move.

use std::{
    io::{self, BufReader, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::{UnixListener, UnixStream},
    },
};

use super::{
    Endpoint, Fallible,
    messenger::{Kind, Messenger, body},
};

const HEADER_LEN: usize = 16;

/// A connected socket, with no delay where there is one to turn off.
#[derive(Debug)]
pub(super) enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix domain socket.
    Uds(UnixStream),
}

impl Stream {
    /// Listens, tells where, and takes the first one who comes.
    pub(super) fn accept(endpoint: &Endpoint, ready: &mut dyn FnMut(&Endpoint)) -> Fallible<Self> {
        match endpoint {
            Endpoint::Tcp(port) => {
                let listener = TcpListener::bind(("127.0.0.1", *port))?;
                ready(&Endpoint::Tcp(listener.local_addr()?.port()));
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Endpoint::Uds(path) => {
                let listener = UnixListener::bind(path)?;
                ready(endpoint);
                Ok(Self::Uds(listener.accept()?.0))
            }
        }
    }

    /// Connects.
    pub(super) fn connect(endpoint: &Endpoint) -> Fallible<Self> {
        match endpoint {
            Endpoint::Tcp(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port))?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Endpoint::Uds(path) => Ok(Self::Uds(UnixStream::connect(path)?)),
        }
    }

    /// From here on, reads and writes that would wait fail.
    pub(super) fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(true),
            Self::Uds(stream) => stream.set_nonblocking(true),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Uds(stream) => stream.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Uds(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Uds(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Frames on a stream: writes are gathered up to `gather_max` bytes, reads are buffered.
#[derive(Debug)]
pub(super) struct Framed<S> {
    reader: BufReader<S>,
    gathered: Vec<u8>,
    gather_max: usize,
    received: Vec<u8>,
}

impl<S: Read + Write> Framed<S> {
    /// With a read buffer of this size. A `gather_max` of 0 writes every frame at once.
    pub(super) fn new(stream: S, read_buffer: usize, gather_max: usize) -> Self {
        Self {
            reader: BufReader::with_capacity(read_buffer, stream),
            gathered: Vec::new(),
            gather_max,
            received: Vec::new(),
        }
    }

    /// Answers requests until the client leaves.
    pub(super) fn serve(mut self) -> Fallible {
        loop {
            match self.receive() {
                Ok(Kind::Signal) => {}
                Ok(Kind::Request) => {
                    let body = std::mem::take(&mut self.received);
                    self.append(Kind::Signal, &body)?;
                    self.received = body;
                }
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn append(&mut self, kind: Kind, body: &[u8]) -> io::Result<()> {
        let mut header = [0; HEADER_LEN];
        header[0] = u8::from(kind == Kind::Request);
        let body_len = u32::try_from(body.len()).map_err(io::Error::other)?;
        header[4..8].copy_from_slice(&body_len.to_le_bytes());
        self.gathered.extend_from_slice(&header);
        self.gathered.extend_from_slice(body);
        if self.gathered.len() >= self.gather_max {
            self.write_gathered()?;
        }
        Ok(())
    }

    fn write_gathered(&mut self) -> io::Result<()> {
        self.reader.get_mut().write_all(&self.gathered)?;
        self.gathered.clear();
        Ok(())
    }

    fn receive(&mut self) -> io::Result<Kind> {
        if !self.gathered.is_empty() && !self.holds_frame() {
            self.write_gathered()?;
        }
        // Most frames lie in the buffer whole; std's `read_exact` is as fast then.
        let mut header = [0; HEADER_LEN];
        self.reader.read_exact(&mut header)?;
        self.received.resize(body_len(&header), 0);
        self.reader.read_exact(&mut self.received)?;
        Ok(if header[0] == 1 {
            Kind::Request
        } else {
            Kind::Signal
        })
    }

    fn holds_frame(&self) -> bool {
        let buffer = self.reader.buffer();
        buffer
            .split_first_chunk::<HEADER_LEN>()
            .is_some_and(|(header, rest)| rest.len() >= body_len(header))
    }
}

impl<S: Read + Write> Messenger for Framed<S> {
    fn post(&mut self, kind: Kind, len: usize) -> Fallible {
        Ok(self.append(kind, body(kind, len))?)
    }

    fn flush(&mut self) -> Fallible {
        Ok(self.write_gathered()?)
    }

    fn answer(&mut self) -> Fallible {
        self.receive()?;
        Ok(())
    }
}

fn body_len(header: &[u8; HEADER_LEN]) -> usize {
    let len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    usize::try_from(len).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixStream, thread, time::Duration};

    use super::*;
    use crate::contender::Client;

    #[test]
    fn a_server_answers_requests_and_nothing_else() {
        for gather_max in [0, 65_536] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            // The watchdog.
            ours.set_read_timeout(Some(Duration::from_secs(30)))
                .unwrap();
            let server = thread::spawn(move || Framed::new(theirs, 8192, gather_max).serve());
            let mut client = Framed::new(ours, 8192, gather_max);
            client.one_way(10_000, 64).unwrap();
            client.window(10_000, 64, 64).unwrap();
            drop(client);
            server.join().unwrap().unwrap();
        }
    }
}
