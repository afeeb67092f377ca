//! Who is measured: tofu, its rivals, and plain sockets as the yardstick.
//!
//! A contender serves one client, and makes a client. What the client then does is told by the
//! workload, which knows no contender; how it is done best with a given library is told here, in one
//! file for each, with the settings that the library's own documentation recommends for speed.
//!
//! All move the same bodies. A message is a *signal*, which nobody answers, or a *request*, which the
//! server answers with the same body.

use std::{
    error::Error,
    fmt,
    path::PathBuf,
    str::FromStr,
    time::{Duration, Instant},
};

#[cfg(feature = "libzmq")]
mod libzmq;
mod messenger;
#[cfg(feature = "nng")]
mod nng;
#[cfg(feature = "omq")]
mod omq;
#[cfg(feature = "omq")]
mod omq_async;
mod raw;
mod stream;
pub(crate) mod tofu;
mod tokio;
#[cfg(feature = "zeromq")]
mod zeromq;

/// What may go wrong in a measurement; the reason is printed in the place of the figure.
pub(crate) type Fallible<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// One library with one set of settings.
pub(crate) trait Contender {
    /// Listens, tells `ready` the address, and serves one client until it leaves (or for ever).
    fn serve(&self, endpoint: &Endpoint, ready: &mut dyn FnMut(&Endpoint)) -> Fallible;

    /// Connects a client.
    fn connect(&self, endpoint: &Endpoint) -> Fallible<Box<dyn Client>>;
}

/// The client's side of the workloads that every contender can do.
pub(crate) trait Client {
    /// One request after the other, each answered before the next.
    fn round_trips(&mut self, count: u64, len: usize, laps: &mut Laps) -> Fallible;

    /// `count` signals, then one request: its answer says that all have arrived.
    fn one_way(&mut self, count: u64, len: usize) -> Fallible;

    /// `count` requests, of which `width` are always under way.
    fn window(&mut self, count: u64, len: usize, width: u64) -> Fallible;
}

/// When it takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// In every workload.
    Everywhere,
    /// In round trips only: elsewhere it would be the same as another one.
    RoundTrips,
    /// Where messages can be gathered: in all but round trips.
    Streams,
    /// In round trips, and only when it is asked for by name.
    OnRequest,
}

/// An entry of the list of contenders.
pub(crate) struct Entry {
    /// Its name in tables and on the command line.
    pub(crate) name: &'static str,
    /// When it takes part.
    pub(crate) scope: Scope,
    make: fn() -> Box<dyn Contender>,
}

impl Entry {
    /// The contender itself.
    pub(crate) fn contender(&self) -> Box<dyn Contender> {
        (self.make)()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// All that this build knows, in the order of the tables.
pub(crate) const ALL: &[Entry] = &[
    Entry {
        name: "raw",
        scope: Scope::Everywhere,
        make: || Box::new(raw::Raw),
    },
    Entry {
        name: "raw-batch",
        scope: Scope::Streams,
        make: || Box::new(raw::RawBatch),
    },
    Entry {
        name: "raw-poll",
        scope: Scope::RoundTrips,
        make: || Box::new(raw::RawPoll),
    },
    Entry {
        name: "tofu",
        scope: Scope::Everywhere,
        make: || Box::new(tofu::Tofu::default()),
    },
    Entry {
        name: "tofu-single",
        scope: Scope::Streams,
        make: || Box::new(tofu::Tofu::single()),
    },
    Entry {
        name: "tofu-nopoll",
        scope: Scope::OnRequest,
        make: || Box::new(tofu::Tofu::without_poll()),
    },
    Entry {
        name: "tokio",
        scope: Scope::Everywhere,
        make: || Box::new(tokio::Tokio),
    },
    #[cfg(feature = "libzmq")]
    Entry {
        name: "libzmq",
        scope: Scope::Everywhere,
        make: || Box::new(libzmq::Libzmq),
    },
    #[cfg(feature = "nng")]
    Entry {
        name: "nng",
        scope: Scope::Everywhere,
        make: || Box::new(nng::Nng),
    },
    #[cfg(feature = "zeromq")]
    Entry {
        name: "zeromq",
        scope: Scope::Everywhere,
        make: || Box::new(zeromq::Zeromq),
    },
    #[cfg(feature = "omq")]
    Entry {
        name: "omq",
        scope: Scope::Everywhere,
        make: || Box::new(omq::Omq),
    },
    #[cfg(feature = "omq")]
    Entry {
        name: "omq-async",
        scope: Scope::Everywhere,
        make: || Box::new(omq_async::OmqAsync::default()),
    },
    #[cfg(feature = "omq")]
    Entry {
        name: "omq-latency",
        scope: Scope::RoundTrips,
        make: || Box::new(omq_async::OmqAsync::latency()),
    },
];

/// The contender with this name.
pub(crate) fn find(name: &str) -> Fallible<&'static Entry> {
    ALL.iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| format!("no contender `{name}` in this build").into())
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A port of 127.0.0.1; 0 asks the system for one.
    Tcp(u16),
    /// The path of a socket file.
    Uds(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "tcp:{port}"),
            Self::Uds(path) => write!(f, "uds:{}", path.display()),
        }
    }
}

impl FromStr for Endpoint {
    type Err = Box<dyn Error + Send + Sync>;

    fn from_str(text: &str) -> Fallible<Self> {
        match text.split_once(':') {
            Some(("tcp", port)) => Ok(Self::Tcp(port.parse()?)),
            Some(("uds", path)) => Ok(Self::Uds(path.into())),
            _ => Err(format!("`{text}` is no endpoint, expected tcp:PORT or uds:PATH").into()),
        }
    }
}

/// The times of single round trips.
#[derive(Debug)]
pub(crate) struct Laps {
    last: Instant,
    times: Vec<Duration>,
}

impl Laps {
    /// Starts the clock.
    pub(crate) fn start(count: u64) -> Self {
        Self {
            times: Vec::with_capacity(usize::try_from(count).unwrap_or_default()),
            last: Instant::now(),
        }
    }

    /// One is done, and the next one begins.
    pub(crate) fn lap(&mut self) {
        let now = Instant::now();
        self.times.push(now - self.last);
        self.last = now;
    }

    /// The next one begins only now.
    pub(crate) fn resume(&mut self) {
        self.last = Instant::now();
    }

    /// The time within which this part of them was done, in microseconds.
    pub(crate) fn percentile_us(&mut self, percent: usize) -> Option<f64> {
        self.times.sort_unstable();
        let at = self.times.len() * percent / 100;
        let time = self.times.get(at.min(self.times.len().checked_sub(1)?))?;
        Some(time.as_secs_f64() * 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_survives_its_text_form() {
        for endpoint in [Endpoint::Tcp(7099), Endpoint::Uds("/tmp/a:b.sock".into())] {
            assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
        }
        assert!("tcp:x".parse::<Endpoint>().is_err());
        assert!("elsewhere".parse::<Endpoint>().is_err());
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let mut laps = Laps::start(0);
        assert_eq!(laps.percentile_us(50), None);
        laps.times = (1..=100).rev().map(Duration::from_micros).collect();
        assert_eq!(laps.percentile_us(0), Some(1.0));
        assert_eq!(laps.percentile_us(50), Some(51.0));
        assert_eq!(laps.percentile_us(99), Some(100.0));
    }

    #[test]
    fn names_of_contenders_are_unique() {
        for (at, entry) in ALL.iter().enumerate() {
            assert!(ALL[..at].iter().all(|other| other.name != entry.name));
            assert_eq!(find(entry.name).unwrap().name, entry.name);
        }
        assert!(find("pigeon").is_err());
    }
}
