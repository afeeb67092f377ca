//! Helpers for tests of applications (feature `testing`): addresses that are free, on both transports.
//!
//! ```toml
//! [dev-dependencies]
//! tofu = { package = "tofu-messaging", version = "0.1", features = ["testing"] }
//! ```
//!
//! ```
//! use tofu::{Engine, Options, testing};
//!
//! testing::over_both(|address| {
//!     let engine = Engine::new(Options::default()).expect("an engine");
//!     let group = engine.group().expect("a group");
//!     assert!(group.post(tofu::Message::welcome_request(address)).is_ok());
//!     // ... what the application does with it ...
//!     group.close(std::time::Duration::from_secs(5));
//! });
//! ```

use std::{io, net::TcpListener};

use tofu_proto::Address;

/// An address on loopback with a port that was free a moment ago, for a test that needs to know it
/// before anyone listens there. Otherwise ask for port 0 and read the
/// [`Listening`](crate::Event::Listening) event.
///
/// # Errors
/// The system has no port left.
///
/// # Example
/// ```
/// let address = tofu::testing::free_tcp_address()?;
/// assert_eq!(address.host(), Some("127.0.0.1"));
/// assert_ne!(address.port(), 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn free_tcp_address() -> io::Result<Address> {
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    Address::tcp("127.0.0.1", port).map_err(io::Error::other)
}

/// Runs a test over TCP and over a Unix domain socket: with an address on loopback whose port the system
/// chooses, and with a socket file in a temporary directory, which must be gone in the end.
///
/// # Panics
/// The test panics, or leaves a file behind.
///
/// # Example
/// ```
/// use tofu::{Engine, Message, Options, testing};
/// use std::time::Duration;
///
/// testing::over_both(|address| {
///     let engine = Engine::new(Options::default()).expect("an engine");
///     let mut group = engine.group().expect("a group");
///     let welcome = Message::welcome_request(address);
///     let listening = group.call(welcome, Duration::from_secs(5));
///     assert!(listening.is_ok_and(|it| it.address().is_some()));
///     let report = group.close(Duration::from_secs(5));
///     assert!(report.is_clean());
/// });
/// ```
pub fn over_both(test: impl Fn(&Address)) {
    test(&Address::tcp("127.0.0.1", 0).expect("an address"));
    let dir = TemporaryUds::new().expect("a directory for temporary files");
    test(&dir.address("test.sock"));
    let left = std::fs::read_dir(dir.path()).map(Iterator::count);
    assert_eq!(left.ok(), Some(0), "a socket file was left behind");
}

/// A directory for socket files, removed with everything in it when dropped.
///
/// ```
/// let dir = tofu::testing::TemporaryUds::new()?;
/// let address = dir.address("server.sock");
/// assert!(address.path().is_some_and(|path| path.ends_with("server.sock")));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct TemporaryUds {
    dir: tempfile::TempDir,
}

impl TemporaryUds {
    /// Makes the directory.
    ///
    /// # Errors
    /// The system's directory for temporary files cannot be written to.
    ///
    /// # Example
    /// ```
    /// let dir = tofu::testing::TemporaryUds::new()?;
    /// let path = dir.path().to_owned();
    /// assert!(path.is_dir());
    /// drop(dir);
    /// assert!(!path.exists());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new() -> io::Result<Self> {
        tempfile::Builder::new()
            .prefix("tofu")
            .tempdir()
            .map(|dir| Self { dir })
    }

    /// The address of the socket file `name` in the directory.
    ///
    /// # Panics
    /// If the system's directory for temporary files has so long a name, or so strange a one, that
    /// no socket can be made in it.
    ///
    /// # Example
    /// ```
    /// let dir = tofu::testing::TemporaryUds::new()?;
    /// assert_ne!(dir.address("a.sock"), dir.address("b.sock"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn address(&self, name: &str) -> Address {
        let path = self.dir.path().join(name);
        Address::uds(path.to_string_lossy()).expect("a short path in the temporary directory")
    }

    /// The directory.
    ///
    /// ```
    /// let dir = tofu::testing::TemporaryUds::new()?;
    /// assert_eq!(std::fs::read_dir(dir.path())?.count(), 0); // nobody listens there
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn path(&self) -> &std::path::Path {
        self.dir.path()
    }
}
