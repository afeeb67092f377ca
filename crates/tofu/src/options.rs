//! Every knob of an engine: its default, unit, limit and cost.

use std::{fmt, time::Duration};

use tofu_proto::{Address, ChannelNumber, Header, Timeouts};

use crate::{Network, NetworkError, Peer, net::credentials};

/// Bytes of the largest frame: header, text headers and body.
pub(crate) const FRAME_MAX: usize = Header::LEN + 2 * u16::MAX as usize;

const EMPTY_LIST: &str =
    "the list is empty: nobody could connect. Leave the option out to let everybody in";

/// A busy poll longer than this can only be a mistake in the unit.
const BUSY_POLL_MAX: Duration = Duration::from_millis(10);
/// A gigabyte of memory to begin with can only be a mistake as well.
const POOL_INITIAL_MAX: usize = 1 << 20;

/// The settings of an [`Engine`](crate::Engine), checked when it starts.
///
/// ```
/// use std::time::Duration;
/// use tofu::{Engine, Options};
///
/// let options = Options::default()
///     .pool_messages(16, 256)
///     .bye_timeout(Duration::from_secs(2));
/// assert!(Engine::new(options).is_ok());
///
/// let error = Engine::new(Options::default().pool_messages(10, 0)).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "option `pool_messages`: the maximum is 0 messages, it must be at least 1"
/// );
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) pool_messages_initial: usize,
    pub(crate) pool_messages_max: usize,
    pub(crate) channel_queue_bytes_max: usize,
    pub(crate) engine_queue_bytes_max: usize,
    pub(crate) channels_max: usize,
    pub(crate) half_open_max: usize,
    pub(crate) timeouts: Timeouts,
    pub(crate) drain_timeout: Duration,
    pub(crate) busy_poll: Duration,
    pub(crate) listener: ListenerOptions,
}

/// What a listener is made with.
#[derive(Clone, Debug)]
pub(crate) struct ListenerOptions {
    pub(crate) backlog: u32,
    pub(crate) reuse_port: bool,
    pub(crate) uds_mode: Option<u32>,
    pub(crate) uds_uid: Option<u32>,
    pub(crate) uds_gid: Option<u32>,
    /// Who may connect over TCP; `None` is everyone.
    pub(crate) networks: Option<Vec<Network>>,
    /// Who may connect over a Unix domain socket; `None` is everyone.
    pub(crate) users: Option<Vec<u32>>,
    /// The first of the networks that is none.
    pub(crate) no_network: Option<NetworkError>,
}

/// Why somebody may not connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stranger {
    Network,
    User,
}

impl ListenerOptions {
    /// Whether this peer may come in. Who is unknown may not, where there is a list.
    pub(crate) fn check_access(&self, peer: Peer) -> Result<(), Stranger> {
        match (peer.address(), &self.networks, &self.users) {
            (Some(address), Some(networks), _) => networks
                .iter()
                .any(|network| network.contains(address.ip()))
                .then_some(())
                .ok_or(Stranger::Network),
            // Over TCP the address is known: this is a Unix domain socket.
            (None, _, Some(users)) => peer
                .credentials()
                .filter(|credentials| users.contains(&credentials.uid))
                .map(drop)
                .ok_or(Stranger::User),
            (Some(_), None, _) | (None, _, None) => Ok(()),
        }
    }

    /// Says which list cannot be. One that lets nobody in is not likely to be meant, and one that nobody can
    /// be looked up in would be none.
    fn check_lists(&self, users_are_told: bool) -> Result<(), OptionError> {
        let wrong = |option, problem| Err(OptionError { option, problem });
        if let Some(error) = &self.no_network {
            return wrong("allow_networks", error.to_string());
        }
        if self.networks.as_ref().is_some_and(Vec::is_empty) {
            return wrong("allow_networks", EMPTY_LIST.to_owned());
        }
        let Some(users) = &self.users else {
            return Ok(());
        };
        if users.is_empty() {
            return wrong("allow_users", EMPTY_LIST.to_owned());
        }
        if users.contains(&credentials::NO_USER) {
            let problem = format!("{} is no user: it stands for none", credentials::NO_USER);
            return wrong("allow_users", problem);
        }
        if !users_are_told {
            let problem = "this system does not tell who a peer is: nobody could be let in";
            return wrong("allow_users", problem.to_owned());
        }
        Ok(())
    }

    /// Whether somebody is to be kept out by a file's mode or owner where there is no file.
    pub(crate) fn cannot_guard(&self, address: &Address) -> bool {
        let relies_on_file =
            self.uds_mode.is_some() || self.uds_uid.is_some() || self.uds_gid.is_some();
        address.is_abstract() && relies_on_file && self.users.is_none()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pool_messages_initial: 64,
            pool_messages_max: 1024,
            channel_queue_bytes_max: 8 * 1024 * 1024,
            engine_queue_bytes_max: 256 * 1024 * 1024,
            channels_max: usize::from(ChannelNumber::MAX.get()),
            half_open_max: 1024,
            timeouts: Timeouts {
                hello: Duration::from_secs(10),
                connect: Duration::from_secs(30),
                frame: Duration::from_secs(30),
                bye: Duration::from_secs(5),
            },
            drain_timeout: Duration::from_secs(1),
            busy_poll: Duration::from_micros(50),
            listener: ListenerOptions {
                backlog: 1024,
                reuse_port: false,
                uds_mode: None,
                uds_uid: None,
                uds_gid: None,
                networks: None,
                users: None,
                no_network: None,
            },
        }
    }
}

impl Options {
    /// Messages that the pool starts with, and how many may be out of it at once: received and not
    /// yet dropped by the application. Default 64 and 1,024; the maximum is at least 1, and not below the start,
    /// which is at most 1,048,576 (with 1 KiB of memory each).
    ///
    /// At the maximum, reading stops until a message is dropped: that is the backpressure
    /// ([`Event::PoolEmpty`](crate::Event::PoolEmpty) tells). A message keeps the memory of the largest it ever
    /// was, so the pool holds at most `max` times 128 KiB.
    ///
    /// ```
    /// use tofu::{Engine, Options};
    ///
    /// let engine = Engine::new(Options::default().pool_messages(1, 2))?;
    /// let out: Vec<_> = std::iter::from_fn(|| engine.try_message()).collect();
    /// assert_eq!(out.len(), 2);
    /// # Ok::<(), tofu::StartError>(())
    /// ```
    #[must_use]
    pub fn pool_messages(mut self, initial: usize, max: usize) -> Self {
        self.pool_messages_initial = initial;
        self.pool_messages_max = max;
        self
    }

    /// Bytes that may wait to be sent on one channel, and on all channels of the engine together.
    /// Default 8 MiB and 256 MiB; at least one largest frame, 131,086 bytes.
    ///
    /// What does not fit is refused ([`Refusal::QueueFull`](crate::Refusal::QueueFull)), and a
    /// [`Drained`](crate::Event::Drained) event says when there is room. A bye whose frame has no more than 1,024
    /// bytes always fits, and so does a HelloRequest; messages that are posted to several channels at the same
    /// moment may exceed the engine's bound by one frame each.
    ///
    /// ```
    /// use tofu::{Engine, Message, Options, Refusal, testing::TemporaryUds};
    ///
    /// # let dir = TemporaryUds::new()?;
    /// # let address = dir.address("deaf.sock");
    /// # let _deaf = std::os::unix::net::UnixListener::bind(address.path().ok_or("a path")?)?;
    /// let group = Engine::new(Options::default().queue_bytes(131_086, 1 << 20))?.group()?;
    /// let channel = group.post(Message::hello_request(&address))?.channel;
    /// let refused = loop {
    ///     // The peer does not read.
    ///     if let Err(error) = group.post(Message::signal(channel).with_body([0; 60_000])) {
    ///         break error;
    ///     }
    /// };
    /// assert!(matches!(refused.refusal(), Refusal::QueueFull { .. }));
    /// # group.abort();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn queue_bytes(mut self, per_channel: usize, per_engine: usize) -> Self {
        self.channel_queue_bytes_max = per_channel;
        self.engine_queue_bytes_max = per_engine;
        self
    }

    /// Channels that may be open at once, listeners included. Default and limit 65,534.
    ///
    /// Beyond it, connections are closed as they are accepted, and hellos and welcomes refused. An
    /// idle channel costs under 1 KiB and one file descriptor.
    ///
    /// ```
    /// use tofu::{Engine, Message, Options, Refusal};
    ///
    /// let group = Engine::new(Options::default().channels_max(1))?.group()?;
    /// let welcome = Message::welcome_request(&"tcp://127.0.0.1:0".parse()?);
    /// group.post(welcome.clone())?;
    /// let error = group.post(welcome).unwrap_err();
    /// assert_eq!(error.refusal(), &Refusal::TooManyChannels(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn channels_max(mut self, max: usize) -> Self {
        self.channels_max = max;
        self
    }

    /// Accepted connections that may be without their HelloRequest at once. Default 1,024; at least 1.
    ///
    /// Beyond it, connections are closed as they are accepted, and count in
    /// [`Metrics::refused_half_open`](crate::Metrics::refused_half_open).
    ///
    /// ```
    /// use tofu::{Engine, Options};
    ///
    /// assert!(Engine::new(Options::default().half_open_max(64)).is_ok());
    /// assert!(Engine::new(Options::default().half_open_max(0)).is_err());
    /// ```
    #[must_use]
    pub fn half_open_max(mut self, max: usize) -> Self {
        self.half_open_max = max;
        self
    }

    /// How long an accepted connection may take to complete its HelloRequest. Default 10 s; not zero.
    ///
    /// One that takes longer is closed, and counts in
    /// [`Metrics::hello_timeouts`](crate::Metrics::hello_timeouts); the application never hears of it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tofu::{Engine, Options};
    ///
    /// assert!(Engine::new(Options::default().hello_timeout(Duration::from_secs(1))).is_ok());
    /// assert!(Engine::new(Options::default().hello_timeout(Duration::ZERO)).is_err());
    /// ```
    #[must_use]
    pub fn hello_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.hello = timeout;
        self
    }

    /// How long connecting may take: resolving the name and trying all its addresses. Default 30 s; not zero.
    ///
    /// After it the HelloRequest comes back with
    /// [`Status::CONNECT_TIMEOUT`](crate::Status::CONNECT_TIMEOUT).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tofu::{Engine, Options};
    ///
    /// assert!(Engine::new(Options::default().connect_timeout(Duration::from_secs(2))).is_ok());
    /// assert!(Engine::new(Options::default().connect_timeout(Duration::ZERO)).is_err());
    /// ```
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.connect = timeout;
        self
    }

    /// How long a peer may pause within a frame. Default 30 s; not zero.
    ///
    /// After it the channel is closed with [`Status::FRAME_TIMEOUT`](crate::Status::FRAME_TIMEOUT). Between two
    /// frames a peer may be silent for ever.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tofu::{Engine, Options};
    ///
    /// assert!(Engine::new(Options::default().frame_timeout(Duration::from_secs(5))).is_ok());
    /// let error = Engine::new(Options::default().frame_timeout(Duration::ZERO)).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "option `frame_timeout`: it is zero: nothing could ever happen in time"
    /// );
    /// ```
    #[must_use]
    pub fn frame_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.frame = timeout;
        self
    }

    /// How long a bye may stand still: no answer, and nothing sent or received on the channel.
    /// Default 5 s; not zero. After it the channel is closed with
    /// [`Status::BYE_TIMEOUT`](crate::Status::BYE_TIMEOUT).
    ///
    /// Where packets are lost, TCP is silent while it waits to send them again: on a line of 200 ms to and
    /// fro about 5 s when one is lost three times in a row, and twice as long with each time more. Set it
    /// to 30 s for such a network.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tofu::{CallError, Engine, Message, Options, Status};
    ///
    /// let second = Duration::from_secs(1);
    /// let engine = Engine::new(Options::default().bye_timeout(second / 100))?;
    /// # let (mut server, mut client) = (engine.group()?, engine.group()?);
    /// # let welcome = Message::welcome_request(&"tcp://127.0.0.1:0".parse()?);
    /// # let address = server.call(welcome, 5 * second)?.address().ok_or("bound")?;
    /// # let channel = client.post(Message::hello_request(&address))?.channel;
    /// let outcome = client.call(Message::bye_request(channel), 5 * second); // nobody answers
    /// let Err(CallError::Closed(reason)) = outcome else { panic!() };
    /// assert_eq!(reason.status(), Status::BYE_TIMEOUT);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn bye_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.bye = timeout;
        self
    }

    /// How long a dropped group's queued messages have to leave in the background. Default 1 s;
    /// zero closes at once. The last handle of an engine to be dropped waits that long at most.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use tofu::{Engine, Options};
    ///
    /// let engine = Engine::new(Options::default().drain_timeout(Duration::from_secs(60)))?;
    /// let start = Instant::now();
    /// drop((engine.group()?, engine)); // nothing is queued: nobody waits
    /// assert!(start.elapsed() < Duration::from_secs(60));
    /// # Ok::<(), tofu::StartError>(())
    /// ```
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// How long a thread in `recv` polls before it sleeps, while messages have lately come within that
    /// time. Default 50 us, at most 10 ms; zero never polls.
    ///
    /// Polling saves the wake-up, most of a round trip's time, and costs the core meanwhile. It backs
    /// off as soon as messages are further apart: to less than one poll in a hundred waits.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tofu::{Engine, Options};
    ///
    /// assert!(Engine::new(Options::default().busy_poll(Duration::ZERO)).is_ok()); // never polls
    /// let error = Engine::new(Options::default().busy_poll(Duration::from_secs(50))).unwrap_err();
    /// assert!(error.to_string().contains("50s is more than 10ms"));
    /// ```
    #[must_use]
    pub fn busy_poll(mut self, limit: Duration) -> Self {
        self.busy_poll = limit;
        self
    }

    /// Connections that the system keeps for a listener until it accepts them. Default 1,024; 1 to
    /// 2,147,483,647, but the system has a limit of its own (`net.core.somaxconn` on Linux).
    ///
    /// ```
    /// use tofu::{Engine, Options};
    ///
    /// assert!(Engine::new(Options::default().backlog(16)).is_ok());
    /// assert!(Engine::new(Options::default().backlog(0)).is_err());
    /// ```
    #[must_use]
    pub fn backlog(mut self, connections: u32) -> Self {
        self.listener.backlog = connections;
        self
    }

    /// Lets several sockets listen on one TCP port, between which the system distributes
    /// connections (`SO_REUSEPORT`). Default off: a port in use is an error.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tofu::{Engine, Message, Options};
    ///
    /// let engine = Engine::new(Options::default().reuse_port(true))?;
    /// let (mut one, mut other) = (engine.group()?, engine.group()?);
    /// let second = Duration::from_secs(1);
    /// let listening = one.call(Message::welcome_request(&"tcp://127.0.0.1:0".parse()?), second)?;
    /// let address = listening.address().ok_or("bound")?;
    /// assert!(other.call(Message::welcome_request(&address), second).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn reuse_port(mut self, allowed: bool) -> Self {
        self.listener.reuse_port = allowed;
        self
    }

    /// The only networks from which peers may connect to this engine's TCP listeners. Default: all.
    ///
    /// Networks are given as text (`"10.0.0.0/8"`, `"fd00::/8"`, `"::1"`), as [`Network`]s or as
    /// addresses. Who comes from elsewhere is closed as it is accepted, before it can say anything: it
    /// counts in [`Metrics::refused_networks`](crate::Metrics::refused_networks), takes none of the places
    /// of half-open connections, and the application never hears of it. Who speaks IPv4 to a listener for
    /// both is known by its IPv4 address. Each connection costs a look along the list.
    ///
    /// It says nothing about Unix domain sockets; for those see [`allow_users`](Self::allow_users). An
    /// address is no proof of who somebody is: see SECURITY.md.
    ///
    /// All listeners of an engine share this list, as they do its other options: who may come in is then
    /// said once, at the start, and no message can widen it. Who needs two policies takes two engines.
    ///
    /// ```
    /// use tofu::{Engine, Options};
    ///
    /// let options = Options::default().allow_networks(["127.0.0.0/8", "::1"]);
    /// assert!(Engine::new(options).is_ok());
    ///
    /// let error = Engine::new(Options::default().allow_networks(["10.1.1.1/8"])).unwrap_err();
    /// assert!(error.to_string().contains("invalid network \"10.1.1.1/8\""));
    /// ```
    #[must_use]
    pub fn allow_networks<N>(mut self, networks: impl IntoIterator<Item = N>) -> Self
    where
        N: TryInto<Network, Error: Into<NetworkError>>,
    {
        let networks = networks
            .into_iter()
            .map(|network| network.try_into().map_err(Into::into))
            .collect();
        (self.listener.networks, self.listener.no_network) = match networks {
            Ok(networks) => (Some(networks), None),
            Err(error) => (None, Some(error)),
        };
        self
    }

    /// The only users, by id, whose processes may connect to this engine's Unix domain sockets. Default:
    /// all whom the socket file's mode and owner let through.
    ///
    /// Who is none of them is closed as it is accepted, before it can say anything, and counts in
    /// [`Metrics::refused_users`](crate::Metrics::refused_users); the application never hears of it. What
    /// counts is the effective user at the time of connecting. Root is a user like others here: name it if
    /// it is to be let in. For a group of users, use the file's mode and owner: the system tells only one
    /// group of a peer. A name in Linux's abstract namespace has no file: there only this list protects.
    ///
    /// Where the system does not tell who a peer is, the engine does not start: Linux, macOS and the BSDs
    /// tell. It says nothing about TCP; for that see [`allow_networks`](Self::allow_networks).
    ///
    /// ```
    /// use tofu::{Credentials, Engine, Options};
    ///
    /// // Only processes of the user who runs this one.
    /// let own = Credentials::own().expect("a system that tells");
    /// assert!(Engine::new(Options::default().allow_users([own.uid])).is_ok());
    /// ```
    #[must_use]
    pub fn allow_users(mut self, users: impl IntoIterator<Item = u32>) -> Self {
        self.listener.users = Some(users.into_iter().collect());
        self
    }

    /// Permissions of a listener's socket file, such as `0o600`, set before anyone can connect.
    /// Default: from the umask. At most `0o777`.
    ///
    /// A name in Linux's abstract namespace has no file: with this option and without
    /// [`allow_users`](Self::allow_users) an engine does not listen there.
    ///
    /// ```
    /// use std::{os::unix::fs::PermissionsExt, time::Duration};
    /// use tofu::{Engine, Message, Options, testing::TemporaryUds};
    ///
    /// let dir = TemporaryUds::new()?;
    /// let mut group = Engine::new(Options::default().uds_mode(0o600))?.group()?;
    /// group.call(Message::welcome_request(&dir.address("a.sock")), Duration::from_secs(5))?;
    /// let file = std::fs::metadata(dir.path().join("a.sock"))?;
    /// assert_eq!(file.permissions().mode() & 0o777, 0o600);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn uds_mode(mut self, mode: u32) -> Self {
        self.listener.uds_mode = Some(mode);
        self
    }

    /// User and group ids that own a listener's socket file, set before anyone can connect.
    /// Default: the process's. Giving a file away needs privileges. Abstract names are as with
    /// [`uds_mode`](Self::uds_mode).
    ///
    /// ```
    /// use std::{os::unix::fs::MetadataExt, time::Duration};
    /// use tofu::{Credentials, Engine, Message, Options, testing::TemporaryUds};
    ///
    /// let own = Credentials::own().ok_or("a system that tells")?;
    /// let dir = TemporaryUds::new()?;
    /// let mut group = Engine::new(Options::default().uds_owner(Some(own.uid), None))?.group()?;
    /// group.call(Message::welcome_request(&dir.address("a.sock")), Duration::from_secs(5))?;
    /// assert_eq!(std::fs::metadata(dir.path().join("a.sock"))?.uid(), own.uid);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn uds_owner(mut self, uid: Option<u32>, gid: Option<u32>) -> Self {
        self.listener.uds_uid = uid;
        self.listener.uds_gid = gid;
        self
    }

    /// Says which option cannot be.
    pub(crate) fn check(&self) -> Result<(), OptionError> {
        let at_least = |option, what, value: usize, min: usize| {
            (value >= min).then_some(()).ok_or_else(|| OptionError {
                option,
                problem: format!("{what} is {value}, it must be at least {min}"),
            })
        };
        if self.pool_messages_max == 0 {
            return Err(OptionError {
                option: "pool_messages",
                problem: "the maximum is 0 messages, it must be at least 1".to_owned(),
            });
        }
        let initial = self.pool_messages_initial;
        if initial > self.pool_messages_max {
            return Err(OptionError {
                option: "pool_messages",
                problem: format!(
                    "it starts with {initial} messages, more than the maximum of {}",
                    self.pool_messages_max
                ),
            });
        }
        if initial > POOL_INITIAL_MAX {
            return Err(OptionError {
                option: "pool_messages",
                problem: format!("it starts with {initial} messages, more than {POOL_INITIAL_MAX}"),
            });
        }
        let (channel, engine) = (self.channel_queue_bytes_max, self.engine_queue_bytes_max);
        at_least("queue_bytes", "the bound of a channel", channel, FRAME_MAX)?;
        at_least("queue_bytes", "the bound of the engine", engine, FRAME_MAX)?;
        at_least("channels_max", "it", self.channels_max, 1)?;
        let channels_limit = usize::from(ChannelNumber::MAX.get());
        if self.channels_max > channels_limit {
            return Err(OptionError {
                option: "channels_max",
                problem: format!(
                    "it is {}, there are only {channels_limit} channel numbers",
                    self.channels_max
                ),
            });
        }
        at_least("half_open_max", "it", self.half_open_max, 1)?;
        if self.listener.backlog == 0 || i32::try_from(self.listener.backlog).is_err() {
            return Err(OptionError {
                option: "backlog",
                problem: format!("{} is not in 1 to {}", self.listener.backlog, i32::MAX),
            });
        }
        if let Some(mode @ 0o1000..) = self.listener.uds_mode {
            return Err(OptionError {
                option: "uds_mode",
                problem: format!("{mode:#o} has more than the permission bits 0o777"),
            });
        }
        self.listener.check_lists(credentials::ARE_TOLD)?;
        if self.busy_poll > BUSY_POLL_MAX {
            return Err(OptionError {
                option: "busy_poll",
                problem: format!(
                    "{:?} is more than {BUSY_POLL_MAX:?}: the thread would hardly ever sleep",
                    self.busy_poll
                ),
            });
        }
        self.check_timeouts()
    }

    fn check_timeouts(&self) -> Result<(), OptionError> {
        for (option, timeout) in [
            ("hello_timeout", self.timeouts.hello),
            ("connect_timeout", self.timeouts.connect),
            ("frame_timeout", self.timeouts.frame),
            ("bye_timeout", self.timeouts.bye),
        ] {
            if timeout.is_zero() {
                return Err(OptionError {
                    option,
                    problem: "it is zero: nothing could ever happen in time".to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// An option that cannot be: [`Engine::new`](crate::Engine::new) refuses it. It names the option, the value
/// and the limit.
///
/// ```
/// use tofu::{Engine, OptionError, Options};
///
/// let error = Engine::new(Options::default().channels_max(100_000)).unwrap_err();
/// let wrong: &OptionError = error.option().expect("it is an option");
/// assert_eq!(
///     wrong.to_string(),
///     "option `channels_max`: it is 100000, there are only 65534 channel numbers"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionError {
    option: &'static str,
    problem: String,
}

impl OptionError {
    /// The name of the method of [`Options`] that set it.
    ///
    /// ```
    /// use tofu::{Engine, Options};
    ///
    /// let error = Engine::new(Options::default().uds_mode(0o1777)).unwrap_err();
    /// assert_eq!(error.option().map(|wrong| wrong.option()), Some("uds_mode"));
    /// ```
    pub fn option(&self) -> &'static str {
        self.option
    }
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "option `{}`: {}", self.option, self.problem)
    }
}

impl std::error::Error for OptionError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_possible() {
        assert_eq!(Options::default().check(), Ok(()));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let zero = Duration::ZERO;
        let second = Duration::from_secs(1);
        let networks = |text| Options::default().allow_networks([text]);
        let wrong = [
            ("busy_poll", Options::default().busy_poll(second)),
            ("pool_messages", Options::default().pool_messages(0, 0)),
            ("pool_messages", Options::default().pool_messages(5, 4)),
            (
                "pool_messages",
                Options::default().pool_messages(usize::MAX, usize::MAX),
            ),
            ("queue_bytes", Options::default().queue_bytes(100, 1 << 20)),
            ("queue_bytes", Options::default().queue_bytes(1 << 20, 100)),
            ("channels_max", Options::default().channels_max(0)),
            ("channels_max", Options::default().channels_max(65_535)),
            ("half_open_max", Options::default().half_open_max(0)),
            ("backlog", Options::default().backlog(0)),
            ("backlog", Options::default().backlog(u32::MAX)),
            ("uds_mode", Options::default().uds_mode(0o1777)),
            ("hello_timeout", Options::default().hello_timeout(zero)),
            ("connect_timeout", Options::default().connect_timeout(zero)),
            ("frame_timeout", Options::default().frame_timeout(zero)),
            ("bye_timeout", Options::default().bye_timeout(zero)),
            ("allow_networks", networks("10.1.1.1/8")),
            ("allow_networks", networks("everywhere")),
            ("allow_networks", Options::default().allow_networks([""; 0])),
            ("allow_users", Options::default().allow_users([])),
            ("allow_users", Options::default().allow_users([0, u32::MAX])),
        ];
        for (option, options) in wrong {
            let error = options.check().expect_err(option);
            assert_eq!(error.option(), option);
            assert!(error.to_string().contains(option));
        }
    }

    #[test]
    fn a_network_that_is_none_is_named() {
        let options = Options::default().allow_networks(["::1", "10.1.1.1/8", "nonsense"]);
        let told = options.check().unwrap_err().to_string();
        assert!(
            told.starts_with("option `allow_networks`: invalid network \"10.1.1.1/8\": "),
            "{told}"
        );
        assert!(told.contains("write 10.0.0.0/8 for the network"), "{told}");
        // What is said last holds.
        assert_eq!(options.allow_networks(["::1"]).check(), Ok(()));
    }

    #[test]
    fn networks_come_as_text_or_as_they_are() {
        let address: std::net::IpAddr = [10, 0, 0, 1].into();
        let network = Network::from(address);
        let options = Options::default();
        for options in [
            options.clone().allow_networks(["10.0.0.1"]),
            options.clone().allow_networks(vec!["10.0.0.1".to_owned()]),
            options.clone().allow_networks([network]),
            options.clone().allow_networks([address]),
        ] {
            assert_eq!(options.check(), Ok(()));
            assert_eq!(options.listener.networks, Some(vec![network]));
        }
    }

    /// Where nobody can be told from anybody, everybody would have to be let in, or nobody.
    #[test]
    fn a_list_of_users_is_refused_where_the_system_does_not_tell_them() {
        let listener = Options::default().allow_users([0]).listener;
        assert_eq!(listener.check_lists(true), Ok(()));
        let told = listener.check_lists(false).unwrap_err().to_string();
        assert!(told.contains("option `allow_users`: this system"), "{told}");
        assert_eq!(Options::default().listener.check_lists(false), Ok(()));
    }

    #[test]
    fn who_is_unknown_is_a_stranger() {
        let open = Options::default().listener;
        assert_eq!(open.check_access(Peer::UNSAID), Ok(()));
        let closed = Options::default().allow_users([0]).listener;
        assert_eq!(closed.check_access(Peer::UNSAID), Err(Stranger::User));
    }
}
