//! The only room that names sockets: streams and listeners of both transports behind one door.
//!
//! This room knows no messages and no channels. What differs between systems stays in here.

pub(crate) mod credentials;
pub(crate) mod resolve;
mod tcp;
mod uds;

use std::{
    io::{self, IoSlice, Read},
    net::{IpAddr, Shutdown, SocketAddr},
    time::Duration,
};

use mio::{Interest, Registry, Token, event::Source};
use socket2::SockRef;
use tofu_proto::{Address, Status};

use crate::{Peer, options::ListenerOptions};

#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: libc::c_int = libc::MSG_NOSIGNAL;
/// Apple's systems have an option of the socket instead, which mio sets.
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: libc::c_int = 0;

/// A connected (or connecting) stream, non-blocking, closed hard when dropped.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(mio::net::TcpStream),
    Uds(mio::net::UnixStream),
}

/// Runs the same expression on whichever stream it is.
macro_rules! either {
    ($self:expr, $stream:ident => $do:expr) => {
        match $self {
            Stream::Tcp($stream) => $do,
            Stream::Uds($stream) => $do,
        }
    };
}

impl Stream {
    /// Starts to connect to a TCP address.
    pub(crate) fn connect_tcp(address: SocketAddr) -> io::Result<Self> {
        tcp::connect(address).map(Self::Tcp)
    }

    /// Connects to a UDS path. `WouldBlock`: the listener's backlog is full, try again.
    pub(crate) fn connect_uds(path: &str) -> io::Result<Self> {
        uds::connect(path).map(Self::Uds)
    }

    /// Who listens at the other end, once connecting has succeeded; `None` while it is still under way.
    pub(crate) fn finish_connect(&self) -> io::Result<Option<Peer>> {
        let stream = match self {
            Self::Tcp(stream) => stream,
            Self::Uds(stream) => return Ok(Some(Peer::uds(credentials::of(stream)))),
        };
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            // A port of our own, where nobody listens: TCP connected the socket to itself.
            Ok(peer) if stream.local_addr().is_ok_and(|local| local == peer) => {
                Err(io::ErrorKind::ConnectionRefused.into())
            }
            Ok(peer) => Ok(Some(Peer::tcp(peer))),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(self, stream => stream.read(buffer))
    }

    /// A peer that is gone is an error here, and never a signal, which would end a process that has not been
    /// told to ignore it.
    pub(crate) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let socket = either!(&*self, stream => SockRef::from(stream));
        match slices {
            [one] => socket.send_with_flags(one, NO_SIGNAL),
            many => socket.send_vectored_with_flags(many, NO_SIGNAL),
        }
    }

    /// Lets the system go on sending what was written, after the stream is dropped.
    pub(crate) fn close_gently(&self) {
        // Where it fails, the close is as hard as it would have been.
        let _ = either!(self, stream => SockRef::from(stream).set_linger(None));
    }

    /// Ends our direction of the stream: the peer reads to the end of what was written.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        either!(self, stream => stream.shutdown(Shutdown::Write))
    }
}

impl Source for Stream {
    fn register(&mut self, to: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        either!(self, stream => stream.register(to, token, interest))
    }

    fn reregister(&mut self, to: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        either!(self, stream => stream.reregister(to, token, interest))
    }

    fn deregister(&mut self, from: &Registry) -> io::Result<()> {
        either!(self, stream => stream.deregister(from))
    }
}

/// A socket that listens. Dropping it closes it, and removes its file if it has one.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(mio::net::TcpListener),
    Uds(uds::Listener),
}

impl Listener {
    /// Listens on a TCP address; `None` is every interface, v6 and v4.
    pub(crate) fn bind_tcp(
        ip: Option<IpAddr>,
        port: u16,
        options: &ListenerOptions,
    ) -> io::Result<Self> {
        tcp::listen(ip, port, options).map(Self::Tcp)
    }

    /// Listens on a UDS path.
    pub(crate) fn bind_uds(path: &str, options: &ListenerOptions) -> io::Result<Self> {
        uds::listen(path, options).map(Self::Uds)
    }

    /// The next connection, and who it is.
    pub(crate) fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                tcp::prepare(&SockRef::from(&stream))?;
                Ok((Stream::Tcp(stream), Peer::tcp(address)))
            }
            Self::Uds(listener) => {
                let stream = listener.accept()?;
                let peer = Peer::uds(credentials::of(&stream));
                Ok((Stream::Uds(stream), peer))
            }
        }
    }

    /// The address really bound: `asked`, with the real port.
    pub(crate) fn address(&self, asked: &Address) -> Address {
        match self {
            Self::Tcp(listener) => listener
                .local_addr()
                .ok()
                .and_then(|real| Address::tcp(real.ip().to_string(), real.port()).ok())
                .unwrap_or_else(|| asked.clone()),
            Self::Uds(_) => asked.clone(),
        }
    }
}

impl Source for Listener {
    fn register(&mut self, to: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.register(to, token, interest),
            Self::Uds(listener) => listener.socket().register(to, token, interest),
        }
    }

    fn reregister(&mut self, to: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.reregister(to, token, interest),
            Self::Uds(listener) => listener.socket().reregister(to, token, interest),
        }
    }

    fn deregister(&mut self, from: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.deregister(from),
            Self::Uds(listener) => listener.socket().deregister(from),
        }
    }
}

/// The socket is closed with a reset, which frees its port and memory at once: the bye exchange is
/// what makes a close graceful (PROTOCOL.md section 3).
fn close_hard(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_linger(Some(Duration::ZERO))
}

/// Whether the process or the system has no descriptor (or no memory for one) left.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

/// The status that says best what went wrong; `otherwise` when none does.
pub(crate) fn status_of(error: &io::Error, otherwise: Status) -> Status {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Status::CONNECT_REFUSED,
        io::ErrorKind::TimedOut => Status::CONNECT_TIMEOUT,
        io::ErrorKind::AddrInUse => Status::ADDRESS_IN_USE,
        io::ErrorKind::AddrNotAvailable => Status::ADDRESS_NOT_AVAILABLE,
        io::ErrorKind::PermissionDenied => Status::PERMISSION_DENIED,
        io::ErrorKind::NotFound => Status::UDS_PATH_NOT_FOUND,
        _ if is_out_of_descriptors(error) => Status::TOO_MANY_OPEN_FILES,
        _ => otherwise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the original leaves out costs it 88 ms per round trip.
    #[test]
    fn both_ends_of_a_tcp_connection_send_at_once_and_close_hard() {
        let options = crate::Options::default().listener;
        let localhost = IpAddr::from([127, 0, 0, 1]);
        let listener = Listener::bind_tcp(Some(localhost), 0, &options).unwrap();
        let asked = Address::tcp("127.0.0.1", 0).unwrap();
        let port = listener.address(&asked).port();
        let client = Stream::connect_tcp(SocketAddr::new(localhost, port)).unwrap();
        let server = loop {
            match listener.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                accepted => break accepted.unwrap().0,
            }
        };
        for stream in [client, server] {
            let Stream::Tcp(stream) = stream else {
                panic!("not {stream:?}");
            };
            let socket = SockRef::from(&stream);
            assert!(socket.tcp_nodelay().unwrap());
            assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
            assert!(socket.nonblocking().unwrap());
        }
    }
}
