//! The only room that names sockets: streams and listeners of both transports behind one door.
//!
//! This room knows no messages and no channels. What differs between systems stays in here.

pub(crate) mod credentials;
mod poller;
pub(crate) mod resolve;
#[cfg(feature = "simulation")]
mod simulated;
mod tcp;
mod uds;

use std::{
    io::{self, IoSlice, IoSliceMut, Read},
    net::{Shutdown, SocketAddr},
};

use mio::{Interest, Token, event::Source};
use socket2::SockRef;
use tofu_proto::{Address, Status};

pub(crate) use self::poller::{Events, Inner, MUTED_MIN, Poller, Ready, Registry, Waker};
use self::resolve::{Answer, Lookup, Resolver};
#[cfg(feature = "simulation")]
use crate::simulation::{Endpoint, System};
use crate::{Peer, options::ListenerOptions};

#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: libc::c_int = libc::MSG_NOSIGNAL;
/// Apple's systems have an option of the socket instead, which mio sets.
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: libc::c_int = 0;

/// Where an engine's sockets and pollers come from.
#[derive(Clone, Debug)]
pub(crate) enum Network {
    System,
    #[cfg(feature = "simulation")]
    Simulated(std::sync::Arc<dyn System>),
}

impl Network {
    pub(crate) fn poller(&self) -> io::Result<Poller> {
        match self {
            Self::System => Poller::new(),
            #[cfg(feature = "simulation")]
            Self::Simulated(system) => Ok(Poller::Simulated(simulated::Poller::new(system))),
        }
    }

    /// Whether a poller that is not to be heard for now stays nested, and is muted, if it waits for so many
    /// sockets. A simulated system has few, and both ways come to pass.
    pub(crate) fn keeps_nested(&self, sockets: usize) -> bool {
        match self {
            Self::System => sockets >= MUTED_MIN,
            #[cfg(feature = "simulation")]
            Self::Simulated(_) => sockets.is_multiple_of(2),
        }
    }

    /// Looks up `host` and calls `answer` with what was found, unless the question is withdrawn before.
    pub(crate) fn resolve(
        &self,
        resolver: &Resolver,
        host: &str,
        port: u16,
        answer: Answer,
    ) -> Lookup {
        match self {
            Self::System => resolver.resolve(host, port, answer),
            #[cfg(feature = "simulation")]
            Self::Simulated(system) => {
                answer(system.resolve(host).map(|found| {
                    let with_port = |ip| SocketAddr::new(ip, port);
                    found.into_iter().map(with_port).collect()
                }));
                Lookup::default()
            }
        }
    }

    /// Starts to connect to a TCP address.
    pub(crate) fn connect_tcp(&self, address: SocketAddr) -> io::Result<Stream> {
        match self {
            Self::System => tcp::connect(address).map(Stream::Tcp),
            #[cfg(feature = "simulation")]
            Self::Simulated(system) => {
                simulated::Stream::connect(system, &Endpoint::Tcp(address)).map(Stream::Simulated)
            }
        }
    }

    /// Connects to a UDS path. `WouldBlock`: the listener's backlog is full, try again.
    pub(crate) fn connect_uds(&self, path: &str) -> io::Result<Stream> {
        match self {
            Self::System => uds::connect(path).map(Stream::Uds),
            #[cfg(feature = "simulation")]
            Self::Simulated(system) => {
                simulated::Stream::connect(system, &Endpoint::Uds(path.to_owned()))
                    .map(Stream::Simulated)
            }
        }
    }

    /// Listens on a TCP address.
    pub(crate) fn bind_tcp(
        &self,
        address: SocketAddr,
        options: &ListenerOptions,
    ) -> io::Result<Listener> {
        match self {
            Self::System => tcp::listen(address, options).map(Listener::Tcp),
            #[cfg(feature = "simulation")]
            Self::Simulated(system) => {
                let backlog = options.backlog as usize;
                simulated::Listener::bind(system, &Endpoint::Tcp(address), backlog)
                    .map(Listener::Simulated)
            }
        }
    }

    /// Listens on a TCP port of every interface, v6 and v4.
    pub(crate) fn bind_everywhere(
        &self,
        port: u16,
        options: &ListenerOptions,
    ) -> io::Result<Listener> {
        match self {
            Self::System => tcp::listen_everywhere(port, options).map(Listener::Tcp),
            #[cfg(feature = "simulation")]
            Self::Simulated(_) => {
                self.bind_tcp((std::net::Ipv6Addr::UNSPECIFIED, port).into(), options)
            }
        }
    }

    /// Listens on a UDS path.
    pub(crate) fn bind_uds(&self, path: &str, options: &ListenerOptions) -> io::Result<Listener> {
        match self {
            Self::System => uds::listen(path, options).map(Listener::Uds),
            #[cfg(feature = "simulation")]
            Self::Simulated(system) => {
                let at = Endpoint::Uds(path.to_owned());
                let backlog = options.backlog as usize;
                simulated::Listener::bind(system, &at, backlog).map(Listener::Simulated)
            }
        }
    }
}

/// A connected (or connecting) stream, non-blocking. Over TCP it is closed hard when dropped.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(mio::net::TcpStream),
    Uds(mio::net::UnixStream),
    #[cfg(feature = "simulation")]
    Simulated(simulated::Stream),
}

impl Stream {
    /// Who listens at the other end, once connecting has succeeded; `None` while it is still under way.
    pub(crate) fn finish_connect(&self) -> io::Result<Option<Peer>> {
        let stream = match self {
            Self::Tcp(stream) => stream,
            Self::Uds(stream) => return Ok(Some(Peer::uds(credentials::of(stream)))),
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => {
                let connected = stream.finish_connect()?;
                return Ok(connected.map(|()| Peer::UNSAID));
            }
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
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Uds(stream) => stream.read(buffer),
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => stream.read(buffer),
        }
    }

    /// Reads into the first, and what is more into the second.
    pub(crate) fn read_into(&mut self, first: &mut [u8], second: &mut [u8]) -> io::Result<usize> {
        let both = |first, second| [IoSliceMut::new(first), IoSliceMut::new(second)];
        match self {
            Self::Tcp(stream) => stream.read_vectored(&mut both(first, second)),
            Self::Uds(stream) => stream.read_vectored(&mut both(first, second)),
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => match stream.read(first)? {
                // Why there is no more the next read tells.
                full if full == first.len() => Ok(full + stream.read(second).unwrap_or(0)),
                count => Ok(count),
            },
        }
    }

    /// A peer that is gone is an error here, and never a signal, which would end a process that has not been
    /// told to ignore it.
    pub(crate) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let socket = match self {
            Self::Tcp(stream) => SockRef::from(&*stream),
            Self::Uds(stream) => SockRef::from(&*stream),
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => return stream.write(slices),
        };
        match slices {
            [one] => socket.send_with_flags(one, NO_SIGNAL),
            many => socket.send_vectored_with_flags(many, NO_SIGNAL),
        }
    }

    /// Lets the system go on sending what was written, after the stream is dropped.
    pub(crate) fn close_gently(&self) {
        match self {
            // Where it fails, the close is as hard as it would have been.
            Self::Tcp(stream) => drop(SockRef::from(stream).set_linger(None)),
            // What was written is with the peer already.
            Self::Uds(_) => {}
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => stream.close_gently(),
        }
    }

    /// Ends our direction of the stream: the peer reads to the end of what was written.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Uds(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => {
                stream.shutdown_write();
                Ok(())
            }
        }
    }

    /// Has the poller wait for this. Closing the stream ends that.
    pub(crate) fn register(&mut self, to: &Registry, token: Token, on: Interest) -> io::Result<()> {
        match (self, to) {
            (Self::Tcp(stream), Registry::System(to)) => stream.register(to, token, on),
            (Self::Uds(stream), Registry::System(to)) => stream.register(to, token, on),
            #[cfg(feature = "simulation")]
            (Self::Simulated(stream), Registry::Simulated(to)) => {
                stream.register(to, token, on);
                Ok(())
            }
            #[cfg(feature = "simulation")]
            _ => Err(simulated::two_worlds()),
        }
    }

    /// Has the poller wait for this instead; what is ready already is told again.
    pub(crate) fn reregister(
        &mut self,
        to: &Registry,
        token: Token,
        on: Interest,
    ) -> io::Result<()> {
        match (self, to) {
            (Self::Tcp(stream), Registry::System(to)) => stream.reregister(to, token, on),
            (Self::Uds(stream), Registry::System(to)) => stream.reregister(to, token, on),
            #[cfg(feature = "simulation")]
            (stream, to) => stream.register(to, token, on),
        }
    }
}

/// A socket that listens. Dropping it closes it, and removes its file if it has one.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(mio::net::TcpListener),
    Uds(uds::Listener),
    #[cfg(feature = "simulation")]
    Simulated(simulated::Listener),
}

impl Listener {
    /// The next connection, and who it is.
    pub(crate) fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                tcp::prepare(&SockRef::from(&stream));
                Ok((Stream::Tcp(stream), Peer::tcp(address)))
            }
            Self::Uds(listener) => {
                let stream = listener.accept()?;
                let peer = Peer::uds(credentials::of(&stream));
                Ok((Stream::Uds(stream), peer))
            }
            #[cfg(feature = "simulation")]
            Self::Simulated(listener) => {
                let stream = Stream::Simulated(listener.accept()?);
                Ok((stream, Peer::UNSAID))
            }
        }
    }

    /// The address really bound: `asked`, with the real port, and one of a link with its zone, so that one can
    /// connect to it from here.
    pub(crate) fn address(&self, asked: &Address) -> Address {
        let real = match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Uds(_) => None,
            #[cfg(feature = "simulation")]
            Self::Simulated(listener) => listener.tcp(),
        };
        real.and_then(|real| Address::tcp(host_of(real), real.port()).ok())
            .unwrap_or_else(|| asked.clone())
    }

    /// Has the poller wait for connections. Closing the listener ends that.
    pub(crate) fn register(&mut self, to: &Registry, token: Token, on: Interest) -> io::Result<()> {
        match (self, to) {
            (Self::Tcp(listener), Registry::System(to)) => listener.register(to, token, on),
            (Self::Uds(listener), Registry::System(to)) => {
                listener.socket().register(to, token, on)
            }
            #[cfg(feature = "simulation")]
            (Self::Simulated(listener), Registry::Simulated(to)) => {
                listener.register(to, token, on);
                Ok(())
            }
            #[cfg(feature = "simulation")]
            _ => Err(simulated::two_worlds()),
        }
    }
}

fn host_of(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        _ => address.ip().to_string(),
    }
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
    use std::time::Duration;

    use super::*;

    fn accepted(listener: &Listener) -> Stream {
        loop {
            match listener.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                accepted => break accepted.unwrap().0,
            }
        }
    }

    /// What the original leaves out costs it 88 ms per round trip.
    #[test]
    fn both_ends_of_a_tcp_connection_send_at_once_and_close_hard() {
        let options = crate::Options::default().listener;
        let localhost = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Network::System.bind_tcp(localhost, &options).unwrap();
        let asked = Address::tcp("127.0.0.1", 0).unwrap();
        let port = listener.address(&asked).port();
        let client = Network::System
            .connect_tcp(SocketAddr::new(localhost.ip(), port))
            .unwrap();
        let server = accepted(&listener);
        for stream in [client, server] {
            let Stream::Tcp(stream) = stream else {
                panic!("not {stream:?}");
            };
            let socket = SockRef::from(&stream);
            assert!(socket.tcp_nodelay().unwrap());
            #[cfg(target_os = "linux")]
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), tcp::UNSENT_MAX);
            assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
            assert!(socket.nonblocking().unwrap());
        }
    }

    /// macOS refuses every option of a socket whose peer has gone, so none may stand between it and what it holds.
    #[test]
    fn who_has_gone_before_it_is_accepted_is_heard_and_no_option_of_a_unix_socket_is_set() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock").to_str().unwrap().to_owned();
        let options = crate::Options::default().listener;
        let listener = Network::System.bind_uds(&path, &options).unwrap();
        let mut client = Network::System.connect_uds(&path).unwrap();
        client.write(&[IoSlice::new(b"heard")]).unwrap();
        let Stream::Uds(client) = client else {
            panic!("not {client:?}");
        };
        assert_eq!(SockRef::from(&client).linger().unwrap(), None);
        client.shutdown(Shutdown::Both).unwrap();
        drop(client);
        let mut server = accepted(&listener);
        let mut buffer = [0; 8];
        assert_eq!(server.read(&mut buffer).unwrap(), 5);
        assert_eq!(server.read(&mut buffer).unwrap(), 0);
        let Stream::Uds(server) = server else {
            panic!("not {server:?}");
        };
        assert_eq!(SockRef::from(&server).linger().unwrap(), None);
    }

    #[test]
    fn an_address_of_a_link_is_told_with_its_zone_and_no_other() {
        for (address, host) in [
            ("[fe80::1%7]:80", "fe80::1%7"),
            ("[::1]:80", "::1"),
            ("127.0.0.1:80", "127.0.0.1"),
        ] {
            assert_eq!(host_of(address.parse().unwrap()), host);
        }
    }
}
