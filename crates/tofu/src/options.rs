//! Every knob of an engine: its default, unit, limit and cost.

use std::{fmt, time::Duration};

use tofu_proto::{ChannelNumber, Header, Timeouts};

/// Bytes of the largest frame: header, text headers and body.
pub(crate) const FRAME_MAX: usize = Header::LEN + 2 * u16::MAX as usize;

/// A busy poll longer than this can only be a mistake in the unit.
const BUSY_POLL_MAX: Duration = Duration::from_millis(10);

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
            },
        }
    }
}

impl Options {
    /// Messages that the pool starts with, and how many may be out of it at once: received and not
    /// yet dropped by the application. Default 64 and 1,024.
    ///
    /// At the maximum, reading stops until a message is dropped: that is the backpressure. A message
    /// keeps the memory of the largest it ever was, so the pool holds at most `max` times 128 KiB.
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
    /// [`Drained`](crate::Event::Drained) event says when there is room. A bye always fits, and
    /// so does a hello; messages that are posted to several channels at the same moment may exceed the
    /// engine's bound by one frame each.
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
    #[must_use]
    pub fn channels_max(mut self, max: usize) -> Self {
        self.channels_max = max;
        self
    }

    /// Accepted connections that may be without their HelloRequest at once. Default 1,024.
    ///
    /// Beyond it, connections are closed as they are accepted.
    #[must_use]
    pub fn half_open_max(mut self, max: usize) -> Self {
        self.half_open_max = max;
        self
    }

    /// How long an accepted connection may take to complete its HelloRequest. Default 10 s.
    #[must_use]
    pub fn hello_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.hello = timeout;
        self
    }

    /// How long connecting may take: resolving the name and trying all its addresses. Default 30 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.connect = timeout;
        self
    }

    /// How long a peer may pause within a frame. Default 30 s.
    #[must_use]
    pub fn frame_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.frame = timeout;
        self
    }

    /// How long a bye may stand still: no answer, and nothing sent or received on the channel.
    /// Default 5 s.
    ///
    /// Where packets are lost, TCP is silent while it waits to send them again: on a line of 200 ms to and
    /// fro about 5 s when one is lost three times in a row, and twice as long with each time more. Set it
    /// to 30 s for such a network.
    #[must_use]
    pub fn bye_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.bye = timeout;
        self
    }

    /// How long a dropped group's queued messages have to leave in the background. Default 1 s;
    /// zero closes at once.
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
    #[must_use]
    pub fn busy_poll(mut self, limit: Duration) -> Self {
        self.busy_poll = limit;
        self
    }

    /// Connections that the system keeps for a listener until it accepts them. Default 1,024; the
    /// system has a limit of its own (`net.core.somaxconn` on Linux).
    #[must_use]
    pub fn backlog(mut self, connections: u32) -> Self {
        self.listener.backlog = connections;
        self
    }

    /// Lets several sockets listen on one TCP port, between which the system distributes
    /// connections (`SO_REUSEPORT`). Default off: a port in use is an error.
    #[must_use]
    pub fn reuse_port(mut self, allowed: bool) -> Self {
        self.listener.reuse_port = allowed;
        self
    }

    /// Permissions of a listener's socket file, such as `0o600`, set before anyone can connect.
    /// Default: from the umask.
    #[must_use]
    pub fn uds_mode(mut self, mode: u32) -> Self {
        self.listener.uds_mode = Some(mode);
        self
    }

    /// User and group ids that own a listener's socket file, set before anyone can connect.
    /// Default: the process's. Giving a file away needs privileges.
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

/// An option that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionError {
    option: &'static str,
    problem: String,
}

impl OptionError {
    /// The name of the method of [`Options`] that set it.
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
        let wrong: [(&str, Options); 15] = [
            ("busy_poll", Options::default().busy_poll(second)),
            ("pool_messages", Options::default().pool_messages(0, 0)),
            ("pool_messages", Options::default().pool_messages(5, 4)),
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
        ];
        for (option, options) in wrong {
            let error = options.check().expect_err(option);
            assert_eq!(error.option(), option);
            assert!(error.to_string().contains(option));
        }
    }
}
