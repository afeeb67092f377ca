//! Who is at the other end of a channel, as the system says.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
};

use crate::net;

/// Who is at the other end of a channel, as the system saw it when the two connected. See
/// [`ChannelGroup::peer`](crate::ChannelGroup::peer).
///
/// ```
/// use tofu::{Engine, Event, Message, Options};
///
/// let engine = Engine::new(Options::default())?;
/// let (mut server, client) = (engine.group()?, engine.group()?);
/// server.post(Message::welcome_request(&"tcp://127.0.0.1:0".parse()?))?;
/// let Event::Listening { address, .. } = server.recv()? else { panic!() };
/// client.post(Message::hello_request(&address))?;
///
/// let Event::Message(hello) = server.recv()? else { panic!() };
/// let peer = server.peer(hello.channel()).expect("it has said hello");
/// assert!(peer.address().is_some_and(|address| address.ip().is_loopback()));
/// assert_eq!(peer.credentials(), None); // those come with Unix domain sockets
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Peer(Remote);

/// In few bytes: each channel has one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Remote {
    V4 {
        ip: Ipv4Addr,
        port: u16,
    },
    V6 {
        ip: Ipv6Addr,
        port: u16,
        scope: u32,
    },
    Uds(Credentials),
    /// The system did not say.
    Unsaid,
}

impl Peer {
    pub(crate) const UNSAID: Self = Self(Remote::Unsaid);

    pub(crate) fn tcp(address: SocketAddr) -> Self {
        let port = address.port();
        Self(match (address.ip().to_canonical(), address) {
            (IpAddr::V4(ip), _) => Remote::V4 { ip, port },
            (IpAddr::V6(ip), SocketAddr::V6(address)) => Remote::V6 {
                ip,
                port,
                scope: address.scope_id(),
            },
            (IpAddr::V6(ip), SocketAddr::V4(_)) => Remote::V6 { ip, port, scope: 0 },
        })
    }

    pub(crate) fn uds(credentials: Option<Credentials>) -> Self {
        credentials.map_or(Self::UNSAID, |credentials| Self(Remote::Uds(credentials)))
    }

    /// The address and port that the peer has, over TCP. One that speaks IPv4 to a listener for both has
    /// its IPv4 address here.
    ///
    /// ```
    #[doc = include_str!("doc/pair.txt")]
    /// let peer = server.peer(hello.channel()).ok_or("it has said hello")?;
    /// let address = peer.address().ok_or("it is over TCP")?;
    /// assert!(address.ip().is_loopback() && address.port() != 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn address(&self) -> Option<SocketAddr> {
        match self.0 {
            Remote::V4 { ip, port } => Some(SocketAddr::new(ip.into(), port)),
            Remote::V6 { ip, port, scope } => Some(SocketAddrV6::new(ip, port, 0, scope).into()),
            Remote::Uds(_) | Remote::Unsaid => None,
        }
    }

    /// Whose process the peer is, over a Unix domain socket. `None` over TCP, and where the system does
    /// not tell: Linux, macOS and the BSDs do.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tofu::{Credentials, Engine, Message, Options, testing::TemporaryUds};
    /// # let second = Duration::from_secs(1);
    /// # let dir = TemporaryUds::new()?;
    /// # let engine = Engine::new(Options::default())?;
    /// # let (mut server, client) = (engine.group()?, engine.group()?);
    /// # server.call(Message::welcome_request(&dir.address("a.sock")), 5 * second)?;
    /// # client.post(Message::hello_request(&dir.address("a.sock")))?;
    /// # let hello = server.recv()?;
    /// # let channel = hello.channel().ok_or("a hello has one")?;
    /// let peer = server.peer(channel).ok_or("it has said hello")?;
    /// assert_eq!(peer.credentials(), Credentials::own()); // the peer is this process
    /// assert_eq!(peer.address(), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn credentials(&self) -> Option<Credentials> {
        match self.0 {
            Remote::Uds(credentials) => Some(credentials),
            Remote::V4 { .. } | Remote::V6 { .. } | Remote::Unsaid => None,
        }
    }
}

/// The address, or the credentials, or `unknown`.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address(), self.credentials()) {
            (Some(address), _) => address.fmt(f),
            (None, Some(credentials)) => credentials.fmt(f),
            (None, None) => f.write_str("unknown"),
        }
    }
}

/// As it is displayed.
impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({self})")
    }
}

/// Whose process is at the other end of a Unix domain socket.
///
/// The system took them when that process connected (or began to listen), and they are its effective ids
/// then: what it became later, and who else holds the socket now, they do not say.
///
/// ```
/// use tofu::Credentials;
///
/// let own = Credentials::own().expect("a system that tells");
/// assert!(own.to_string().starts_with(&format!("uid={} gid={}", own.uid, own.gid)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// The user.
    pub uid: u32,
    /// The user's main group at that time. Others that the user is in are not told.
    pub gid: u32,
    /// The process, where the system tells it: Linux (unless it is in a namespace out of sight) and macOS.
    /// It may have ended since, and another one have its number: good for a log, not for a decision.
    pub pid: Option<u32>,
}

impl Credentials {
    /// Those of this process, as its peers see them. `None` where the system tells no credentials.
    ///
    /// ```
    /// use tofu::{Credentials, Engine, Options};
    ///
    /// let own = Credentials::own().expect("a system that tells");
    /// let options = Options::default().allow_users([own.uid]); // nobody else
    /// assert!(Engine::new(options).is_ok());
    /// ```
    pub fn own() -> Option<Self> {
        net::credentials::own()
    }
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid={} gid={}", self.uid, self.gid)?;
        match self.pid {
            Some(pid) => write!(f, " pid={pid}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_out_as_it_went_in_but_mapped_ones() {
        for text in ["10.0.0.1:80", "[2001:db8::1]:65535", "[fe80::1%3]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Peer::tcp(address).address(), Some(address));
            assert_eq!(Peer::tcp(address).to_string(), text);
        }
        let mapped = Peer::tcp("[::ffff:10.0.0.1]:80".parse().unwrap());
        assert_eq!(mapped.to_string(), "10.0.0.1:80");
    }

    /// Each connection pays for it.
    #[test]
    fn it_is_small() {
        assert!(size_of::<Option<Peer>>() <= 24);
    }

    #[test]
    fn it_prints_what_is_known() {
        let mut credentials = Credentials {
            uid: 1000,
            gid: 100,
            pid: Some(7),
        };
        let told = Peer::uds(Some(credentials)).to_string();
        assert_eq!(told, "uid=1000 gid=100 pid=7");
        credentials.pid = None;
        assert_eq!(credentials.to_string(), "uid=1000 gid=100");
        assert_eq!(Peer::uds(None).to_string(), "unknown");
    }
}
