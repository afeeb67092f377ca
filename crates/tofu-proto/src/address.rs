//! Where a peer is: the addresses of both transports and their text forms.
//!
//! A value of [`Address`] is valid by construction; the text forms are parsed here and nowhere else.

use alloc::{
    borrow::ToOwned,
    boxed::Box,
    string::{String, ToString},
};
use core::{fmt, str::FromStr};

/// The port that is meant where none is given.
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::{Address, DEFAULT_PORT};
///
/// assert_eq!("tcp://localhost".parse::<Address>()?.port(), DEFAULT_PORT);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub const DEFAULT_PORT: u16 = 7099;
/// The host that a client means where none is given.
///
/// A listener without a host listens on every interface instead (PROTOCOL.md section 2).
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::{Address, DEFAULT_HOST};
///
/// let address: Address = "tcp://:7099".parse()?;
/// assert_eq!(address.host(), Some("")); // here a client connects to DEFAULT_HOST
/// assert_eq!(DEFAULT_HOST, "127.0.0.1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub const DEFAULT_HOST: &str = "127.0.0.1";
/// Bytes that the path of a Unix domain socket may have here: 107 on Linux, 103 on macOS and the BSDs
/// (PROTOCOL.md section 2).
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::{Address, UDS_PATH_MAX};
///
/// assert!(Address::uds("x".repeat(UDS_PATH_MAX)).is_ok());
/// assert!(Address::uds("x".repeat(UDS_PATH_MAX + 1)).is_err());
/// ```
pub const UDS_PATH_MAX: usize = if cfg!(any(target_os = "linux", target_os = "android")) {
    107
} else {
    103
};

/// Where to listen or to connect.
///
/// It is written as in a message's header (PROTOCOL.md section 2) or in a friendlier form, and
/// always printed as in the header:
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::Address;
///
/// for (text, printed) in [
///     ("tcp|127.0.0.1|7099", "tcp|127.0.0.1|7099"),
///     ("tcp://localhost:80", "tcp|localhost|80"),
///     ("tcp://[::1]", "tcp|::1|7099"),
///     ("uds:///tmp/a.sock", "uds|/tmp/a.sock"),
///     ("uds|@name", "uds|@name"),
/// ] {
///     assert_eq!(text.parse::<Address>().unwrap().to_string(), printed);
/// }
/// let error = "udp|127.0.0.1|7099".parse::<Address>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#"invalid address "udp|127.0.0.1|7099": unknown scheme "udp", use tcp or uds"#
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address(
    /// Apart, so that an event that may hold an address is no larger for it.
    Box<Place>,
);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    Tcp { host: String, port: u16 },
    Uds { path: String },
}

impl Address {
    /// A TCP address: a name, an IPv4 or an IPv6 literal without brackets, or nothing, which means
    /// every interface to a listener and [`DEFAULT_HOST`] to a client. Port 0 lets the system choose
    /// one to listen on.
    ///
    /// # Errors
    /// A host with white space, control characters, `|`, `/` or brackets in it.
    ///
    /// # Example
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::Address;
    ///
    /// assert_eq!(Address::tcp("::1", 7099)?, "tcp://[::1]:7099".parse()?);
    /// assert_eq!(Address::tcp("", 0)?.to_string(), "tcp||0"); // any interface, any free port
    /// assert!(Address::tcp("two words", 80).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tcp(host: impl Into<String>, port: u16) -> Result<Self, AddressError> {
        let host = host.into();
        let is_bad = |c: char| "|/[]".contains(c) || c.is_whitespace() || c.is_control();
        if host.contains(is_bad) {
            return Err(AddressError::new(&host, Fault::Host));
        }
        Ok(Self(Box::new(Place::Tcp { host, port })))
    }

    /// A Unix domain socket: a path, or `@` and a name in Linux's abstract namespace.
    ///
    /// # Errors
    /// A path that is empty, longer than [`UDS_PATH_MAX`] bytes, has control characters or `|` in it,
    /// or ends with a space, which a text header would lose.
    ///
    /// # Example
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::Address;
    ///
    /// assert_eq!(Address::uds("/run/a.sock")?, "uds:///run/a.sock".parse()?);
    /// assert!(Address::uds("").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn uds(path: impl Into<String>) -> Result<Self, AddressError> {
        let path = path.into();
        let name = path.strip_prefix('@').unwrap_or(&path);
        if name.is_empty() {
            return Err(AddressError::new(&path, Fault::EmptyPath));
        }
        if name.len() > UDS_PATH_MAX {
            return Err(AddressError::new(&path, Fault::LongPath(name.len())));
        }
        if path.contains(|c: char| c == '|' || c.is_control()) || path.ends_with(' ') {
            return Err(AddressError::new(&path, Fault::Path));
        }
        Ok(Self(Box::new(Place::Uds { path })))
    }

    /// Reads an address out of a text header, where only the protocol's form may stand: the header
    /// travels to the peer as it is (PROTOCOL.md section 2).
    ///
    /// # Errors
    /// Text that is no address, or one in the friendly form, and bytes that are not UTF-8.
    ///
    /// # Example
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::Address;
    ///
    /// assert_eq!(Address::from_bytes(b"tcp|localhost|80")?.port(), 80);
    /// assert!(Address::from_bytes(b"tcp://localhost:80").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AddressError> {
        match core::str::from_utf8(bytes) {
            Ok(text) if is_friendly(text) => Err(AddressError::new(text, Fault::Fields)),
            Ok(text) => text.parse(),
            Err(_) => Err(AddressError::new(
                &String::from_utf8_lossy(bytes),
                Fault::NotUtf8,
            )),
        }
    }

    /// The host of a TCP address, `""` if it has none; `None` for a Unix domain socket.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::Address;
    ///
    /// assert_eq!("tcp://[::1]:80".parse::<Address>()?.host(), Some("::1"));
    /// assert_eq!("uds:///tmp/a.sock".parse::<Address>()?.host(), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn host(&self) -> Option<&str> {
        match &*self.0 {
            Place::Tcp { host, .. } => Some(host),
            Place::Uds { .. } => None,
        }
    }

    /// The port of a TCP address; 0 for others.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::Address;
    ///
    /// assert_eq!("tcp://localhost:80".parse::<Address>()?.port(), 80);
    /// assert_eq!("uds:///tmp/a.sock".parse::<Address>()?.port(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn port(&self) -> u16 {
        match &*self.0 {
            Place::Tcp { port, .. } => *port,
            Place::Uds { .. } => 0,
        }
    }

    /// The path of a Unix domain socket, or its abstract name with the `@`; `None` for TCP.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::Address;
    ///
    /// assert_eq!("uds:///tmp/a.sock".parse::<Address>()?.path(), Some("/tmp/a.sock"));
    /// assert_eq!("uds://@name".parse::<Address>()?.path(), Some("@name"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn path(&self) -> Option<&str> {
        match &*self.0 {
            Place::Uds { path } => Some(path),
            Place::Tcp { .. } => None,
        }
    }

    /// Whether it is a name in Linux's abstract namespace, which has no file.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::Address;
    ///
    /// assert!(Address::uds("@name")?.is_abstract());
    /// assert!(!Address::uds("/tmp/a.sock")?.is_abstract());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_abstract(&self) -> bool {
        self.path().is_some_and(|path| path.starts_with('@'))
    }

    /// Whether one can connect to it.
    ///
    /// # Errors
    /// Port 0, which means something only to a listener.
    ///
    /// # Example
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::Address;
    ///
    /// assert!(Address::tcp("localhost", 80)?.check_connect().is_ok());
    /// assert!(Address::tcp("localhost", 0)?.check_connect().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn check_connect(&self) -> Result<(), AddressError> {
        match &*self.0 {
            Place::Tcp { port: 0, .. } => {
                Err(AddressError::new(&self.to_string(), Fault::ConnectToPort0))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Place::Tcp { host, port } => write!(f, "tcp|{host}|{port}"),
            Place::Uds { path } => write!(f, "uds|{path}"),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let parsed = if is_friendly(text)
            && let Some((scheme, rest)) = text.split_once("://")
        {
            match scheme {
                "tcp" => friendly_tcp(rest),
                "uds" => Self::uds(rest).map_err(|error| error.fault),
                _ => Err(Fault::Scheme(scheme.to_owned())),
            }
        } else {
            let (scheme, rest) = text.split_once('|').unwrap_or((text, ""));
            let has_fields = text.contains('|');
            match scheme {
                "tcp" if has_fields => protocol_tcp(rest),
                "uds" if has_fields && !rest.contains('|') => {
                    Self::uds(rest).map_err(|error| error.fault)
                }
                "tcp" | "uds" => Err(Fault::Fields),
                _ => Err(Fault::Scheme(scheme.to_owned())),
            }
        };
        parsed.map_err(|fault| AddressError::new(text, fault))
    }
}

/// Whether it is written with `://`. Behind a `|` that is part of a path.
fn is_friendly(text: &str) -> bool {
    text.split('|')
        .next()
        .is_some_and(|scheme| scheme.contains("://"))
}

/// `host|port`
fn protocol_tcp(rest: &str) -> Result<Address, Fault> {
    let (host, port) = rest.split_once('|').ok_or(Fault::Fields)?;
    if port.contains('|') {
        return Err(Fault::Fields);
    }
    Address::tcp(host, parse_port(port)?).map_err(|error| error.fault)
}

/// `host:port`, `host`, `[v6]:port` or `[v6]`
fn friendly_tcp(rest: &str) -> Result<Address, Fault> {
    let (host, port) = if let Some(literal) = rest.strip_prefix('[') {
        let (host, port) = literal.split_once(']').ok_or(Fault::Brackets)?;
        let port = match port.strip_prefix(':') {
            Some(port) => port,
            None if port.is_empty() => port,
            None => return Err(Fault::Brackets),
        };
        if !host.contains(':') {
            return Err(Fault::Brackets);
        }
        (host, port)
    } else {
        rest.split_once(':').unwrap_or((rest, ""))
    };
    if port.contains(':') {
        return Err(Fault::Brackets);
    }
    Address::tcp(host, parse_port(port)?).map_err(|error| error.fault)
}

fn parse_port(text: &str) -> Result<u16, Fault> {
    if text.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if is_number => Ok(port),
        _ => Err(Fault::Port(text.to_owned())),
    }
}

/// Text that is no address. It says what was written, what is wrong with it, and how to write it.
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::Address;
///
/// let error = "tcp://::1:7099".parse::<Address>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#"invalid address "tcp://::1:7099": write an IPv6 host in brackets, such as tcp://[::1]:7099"#
/// );
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct AddressError {
    text: String,
    fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    Scheme(String),
    Fields,
    Port(String),
    Host,
    Brackets,
    EmptyPath,
    LongPath(usize),
    Path,
    NotUtf8,
    ConnectToPort0,
}

/// As it is displayed.
impl fmt::Debug for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl AddressError {
    fn new(text: &str, fault: Fault) -> Self {
        Self {
            text: text.to_owned(),
            fault,
        }
    }

    /// The text.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::Address;
    ///
    /// let error = "udp://host".parse::<Address>().unwrap_err();
    /// assert_eq!(error.text(), "udp://host");
    /// ```
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid address \"{}\": ", self.text.escape_debug())?;
        match &self.fault {
            Fault::Scheme(scheme) => {
                write!(
                    f,
                    "unknown scheme \"{}\", use tcp or uds",
                    scheme.escape_debug()
                )
            }
            Fault::Fields => f.write_str("write tcp|host|port or uds|path"),
            Fault::Port(port) => {
                write!(
                    f,
                    "port \"{}\" is not a number from 0 to 65535",
                    port.escape_debug()
                )
            }
            Fault::Host => {
                f.write_str("a host has no white space, control characters, brackets, / or |")
            }
            Fault::Brackets => {
                f.write_str("write an IPv6 host in brackets, such as tcp://[::1]:7099")
            }
            Fault::EmptyPath => f.write_str("the path is empty"),
            Fault::LongPath(len) => {
                write!(
                    f,
                    "the path has {len} bytes, a socket's has at most {UDS_PATH_MAX}"
                )
            }
            Fault::Path => {
                f.write_str("a path has no control characters, no | and no space at its end")
            }
            Fault::NotUtf8 => f.write_str("it is not UTF-8"),
            Fault::ConnectToPort0 => f.write_str("nobody can be connected to on port 0"),
        }
    }
}

impl core::error::Error for AddressError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_parsed_again() {
        for text in [
            "tcp|127.0.0.1|7099",
            "tcp||0",
            "tcp|::1|65535",
            "tcp|example.org|1",
            "uds|/tmp/a b.sock",
            "uds|relative",
            "uds|@name",
            "uds|/tmp/a://b",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        for (friendly, text) in [
            ("tcp://127.0.0.1:7", "tcp|127.0.0.1|7"),
            ("tcp://", "tcp||7099"),
            ("tcp://:0", "tcp||0"),
            ("tcp://host", "tcp|host|7099"),
            ("tcp|host|", "tcp|host|7099"),
            ("tcp://[fe80::1]:9", "tcp|fe80::1|9"),
            ("uds://@name", "uds|@name"),
            ("uds:///a", "uds|/a"),
        ] {
            assert_eq!(friendly.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = "uds|".to_owned() + &"x".repeat(UDS_PATH_MAX + 1);
        for (text, fault) in [
            ("", "unknown scheme"),
            ("nonsense", "unknown scheme"),
            ("udp|127.0.0.1|7099", "unknown scheme \"udp\""),
            ("TCP|127.0.0.1|7099", "unknown scheme \"TCP\""),
            ("http://a:1", "unknown scheme \"http\""),
            ("tcp", "tcp|host|port"),
            ("tcp|127.0.0.1", "tcp|host|port"),
            ("tcp|127.0.0.1|1|2", "tcp|host|port"),
            ("uds", "uds|path"),
            ("uds|a|b", "uds|path"),
            ("tcp|a|65536", "port \"65536\""),
            ("tcp|a|-1", "port \"-1\""),
            ("tcp|a|+80", "port \"+80\""),
            ("tcp|a| 80", "port \" 80\""),
            ("tcp|a|http", "port \"http\""),
            ("tcp://a:99999", "port \"99999\""),
            ("tcp|a b|80", "white space"),
            ("tcp|a\r\n|80", "white space"),
            ("tcp://::1:7099", "brackets"),
            ("tcp://[::1", "brackets"),
            ("tcp://[::1]7099", "brackets"),
            ("uds|", "path is empty"),
            ("uds|@", "path is empty"),
            ("uds://", "path is empty"),
            ("uds|a\nb", "control characters"),
            ("uds|a\0b", "control characters"),
            ("uds|a ", "space at its end"),
            ("tcp|[::1]|80", "brackets"),
            ("tcp://host/", "no white space"),
            ("tcp://[]:80", "brackets"),
            ("tcp://[host]:80", "brackets"),
            ("uds:///a|b", "no |"),
            (&long, &alloc::format!("{} bytes", UDS_PATH_MAX + 1)),
        ] {
            let error = text.parse::<Address>().expect_err(text);
            let told = error.to_string();
            assert!(told.contains(fault), "{told} says {fault}");
            assert!(
                told.contains(&*text.escape_debug().to_string()),
                "{told} names {text}"
            );
        }
    }

    #[test]
    fn a_header_has_the_protocols_form() {
        for text in ["tcp://127.0.0.1:7099", "uds:///a", "udp://a:1"] {
            let told = Address::from_bytes(text.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(told.contains("write tcp|host|port"), "{told}");
        }
        let address = Address::uds("/tmp/a://b").unwrap();
        let written = address.to_string();
        assert_eq!(Address::from_bytes(written.as_bytes()), Ok(address));
    }

    #[test]
    fn only_names_with_an_at_are_abstract() {
        assert!(Address::uds("@name").unwrap().is_abstract());
        assert!(!Address::uds("/a@name").unwrap().is_abstract());
        assert!(!Address::tcp("@name", 1).unwrap().is_abstract());
    }

    #[test]
    fn nobody_connects_to_port_0() {
        let address = Address::tcp("a", 0).unwrap();
        let told = address.check_connect().unwrap_err().to_string();
        assert!(
            told.contains("tcp|a|0") && told.contains("port 0"),
            "{told}"
        );
        assert!(Address::tcp("a", 1).unwrap().check_connect().is_ok());
    }

    #[test]
    fn a_header_need_not_be_utf8_but_an_address_does() {
        let told = Address::from_bytes(b"uds|/\xff").unwrap_err().to_string();
        assert!(told.contains("not UTF-8"), "{told}");
    }
}
