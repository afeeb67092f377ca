//! TCP sockets and their options.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::options::ListenerOptions;

/// Bytes that wait in the system for their turn to be sent, from which on it takes no more. What is on its way does
/// not count, so that a long line is still full; and what waits with us, and not there, can come back.
#[cfg(target_os = "linux")]
pub(super) const UNSENT_MAX: u32 = 128 * 1024;

/// What every connected TCP socket gets: no Nagle, so that a small message leaves at once, little that waits in
/// the system, and a hard close. The connection is there whether they are or not, so where one fails it goes
/// without: macOS refuses all of them once the peer has gone, whose last words are still to be read.
pub(super) fn prepare(socket: &SockRef<'_>) {
    let _ = socket.set_tcp_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(UNSENT_MAX);
    // Closed with a reset, which frees its port and memory at once: the bye exchange is what makes a close
    // graceful (PROTOCOL.md section 3).
    let _ = socket.set_linger(Some(Duration::ZERO));
}

pub(super) fn connect(address: SocketAddr) -> io::Result<mio::net::TcpStream> {
    let socket = socket(address)?;
    prepare(&SockRef::from(&socket));
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if is_under_way(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(mio::net::TcpStream::from_std(socket.into()))
}

/// Every interface: one socket for v6 and v4, or v4 alone where there is no v6, or no socket for both (OpenBSD).
pub(super) fn listen_everywhere(
    port: u16,
    options: &ListenerOptions,
) -> io::Result<mio::net::TcpListener> {
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let both = socket(v6).and_then(|socket| {
        open_to_both(&socket)?;
        start(socket, v6, options)
    });
    match both {
        Err(error) if is_without_v6(&error) => {
            listen((Ipv4Addr::UNSPECIFIED, port).into(), options)
        }
        listening => listening,
    }
}

pub(super) fn listen(
    address: SocketAddr,
    options: &ListenerOptions,
) -> io::Result<mio::net::TcpListener> {
    let socket = socket(address)?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        // What was asked for by name is v6, and that it is.
        let _ = open_to_both(&socket);
    }
    start(socket, address, options)
}

fn start(
    socket: Socket,
    address: SocketAddr,
    options: &ListenerOptions,
) -> io::Result<mio::net::TcpListener> {
    // Connections of an earlier process in TIME_WAIT do not keep the port; a listener does.
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(mio::net::TcpListener::from_std(socket.into()))
}

/// A socket of the address's family, non-blocking and close-on-exec.
fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn is_under_way(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::EINPROGRESS)
}

/// Makes a v6 socket one for v4 as well. A system that has none such is like one without v6.
fn open_to_both(socket: &Socket) -> io::Result<()> {
    socket
        .set_only_v6(false)
        .map_err(|_| io::ErrorKind::AddrNotAvailable.into())
}

fn is_without_v6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a Unix socket those of TCP fail, as on macOS all do once the peer has gone.
    #[test]
    fn an_option_that_fails_does_not_keep_the_others_from_being_set() {
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let socket = SockRef::from(&socket);
        socket.set_tcp_nodelay(true).expect_err("not over TCP");
        prepare(&socket);
        assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
    }

    /// OpenBSD refuses it to every socket, and Linux to one that is bound already.
    #[test]
    fn where_no_socket_is_for_both_it_is_as_if_there_were_no_v6() {
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        let Ok(bound) = socket(v6).and_then(|socket| socket.bind(&v6.into()).map(|()| socket))
        else {
            return eprintln!("left out: there is no v6");
        };
        let error = open_to_both(&bound).expect_err("it is bound");
        assert!(is_without_v6(&error), "{error}");
    }
}
