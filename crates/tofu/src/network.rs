//! Networks of IP addresses: their text form, and which addresses are in them.
//!
//! An IPv4 address that is written as an IPv6 one (`::ffff:10.0.0.1`, as a socket for both sees it) is the
//! IPv4 address here, in a network and in what is looked for in it.

use std::{
    convert::Infallible,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Bits in front of an IPv4 address that is written as an IPv6 one.
const MAPPED_LEN: u8 = 96;

/// A network, such as `10.0.0.0/8` or `fd00::/8`, or a single address, such as `::1`.
///
/// `0.0.0.0/0` is all of IPv4 and `::/0` all of IPv6; neither has the other in it.
///
/// ```
/// use tofu::Network;
///
/// let network: Network = "10.0.0.0/8".parse()?;
/// assert!(network.contains("10.1.2.3".parse()?));
/// assert!(network.contains("::ffff:10.1.2.3".parse()?));
/// assert!(!network.contains("11.0.0.1".parse()?));
///
/// let error = "10.1.2.3/8".parse::<Network>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "invalid network \"10.1.2.3/8\": bits are set behind its prefix of 8: write 10.0.0.0/8 for the \
///      network, or 10.1.2.3 for the one address"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    /// Its first address; never a mapped one.
    address: IpAddr,
    prefix_len: u8,
}

impl Network {
    /// The network with this first address and so many bits that all of its addresses share.
    ///
    /// # Errors
    /// More bits than an address has, and an address with bits set behind the prefix.
    ///
    /// # Example
    /// ```
    /// use tofu::Network;
    ///
    /// let network = Network::new([10, 0, 0, 0].into(), 8)?;
    /// assert_eq!(network, "10.0.0.0/8".parse()?);
    /// assert!(Network::new([10, 1, 1, 1].into(), 8).is_err());
    /// # Ok::<(), tofu::NetworkError>(())
    /// ```
    pub fn new(address: IpAddr, prefix_len: u8) -> Result<Self, NetworkError> {
        let fault = |fault| NetworkError {
            text: format!("{address}/{prefix_len}"),
            fault,
        };
        if prefix_len > bits(address) {
            return Err(fault(Fault::Prefix(bits(address))));
        }
        let (short, short_len) = match address.to_canonical() {
            IpAddr::V4(v4) if address.is_ipv6() => match prefix_len.checked_sub(MAPPED_LEN) {
                Some(short_len) => (IpAddr::V4(v4), short_len),
                None => return Err(fault(Fault::Mapped(v4, prefix_len.min(32)))),
            },
            _ => (address, prefix_len),
        };
        let first = masked(short, short_len);
        if first != short {
            return Err(fault(Fault::HostBits {
                address: short,
                network: Self {
                    address: first,
                    prefix_len: short_len,
                },
            }));
        }
        Ok(Self {
            address: first,
            prefix_len: short_len,
        })
    }

    /// Its first address.
    ///
    /// ```
    /// use tofu::Network;
    ///
    /// let network: Network = "fd00::/8".parse()?;
    /// assert_eq!((network.address().to_string(), network.prefix_len()), ("fd00::".to_owned(), 8));
    /// # Ok::<(), tofu::NetworkError>(())
    /// ```
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits all of its addresses share.
    ///
    /// ```
    /// use tofu::Network;
    ///
    /// assert_eq!("127.0.0.1".parse::<Network>()?.prefix_len(), 32);
    /// # Ok::<(), tofu::NetworkError>(())
    /// ```
    pub fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// Whether an address is in it.
    ///
    /// ```
    /// use tofu::Network;
    ///
    /// let network: Network = "192.168.1.0/24".parse()?;
    /// assert!(network.contains([192, 168, 1, 7].into()));
    /// assert!(!network.contains([192, 168, 2, 7].into()));
    /// # Ok::<(), tofu::NetworkError>(())
    /// ```
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && masked(address, self.prefix_len) == self.address
    }
}

fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address with nothing behind its first bits.
fn masked(address: IpAddr, prefix_len: u8) -> IpAddr {
    let behind = u32::from(bits(address) - prefix_len);
    // A shift by all bits leaves none.
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(behind).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(behind).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

impl From<IpAddr> for Network {
    /// The single address.
    fn from(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self {
            address,
            prefix_len: bits(address),
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let fault = |fault| NetworkError {
            text: text.to_owned(),
            fault,
        };
        let (address, prefix_len) = match text.split_once('/') {
            Some((address, prefix_len)) => (address, Some(prefix_len)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| fault(Fault::Address))?;
        let Some(prefix_len) = prefix_len else {
            return Ok(address.into());
        };
        let is_number = prefix_len.bytes().all(|byte| byte.is_ascii_digit());
        let Some(prefix_len) = prefix_len.parse().ok().filter(|_| is_number) else {
            return Err(fault(Fault::Prefix(bits(address))));
        };
        Self::new(address, prefix_len).map_err(|error| fault(error.fault))
    }
}

impl TryFrom<&str> for Network {
    type Error = NetworkError;

    fn try_from(text: &str) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

/// As it is parsed: a single address without a prefix.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix_len == bits(self.address) {
            self.address.fmt(f)
        } else {
            write!(f, "{}/{}", self.address, self.prefix_len)
        }
    }
}

/// As it is displayed.
impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is no network. It says what was written, what is wrong with it, and how to write it.
///
/// ```
/// use tofu::Network;
///
/// let error = "10.0.0.0/33".parse::<Network>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "invalid network \"10.0.0.0/33\": its prefix is not a number from 0 to 32"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkError {
    text: String,
    fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    Address,
    /// The prefix is no number, or one above this.
    Prefix(u8),
    HostBits {
        address: IpAddr,
        network: Network,
    },
    /// An IPv4 network in IPv6 form with a prefix that ends before the IPv4 address begins.
    Mapped(Ipv4Addr, u8),
}

impl NetworkError {
    /// The text.
    ///
    /// ```
    /// use tofu::Network;
    ///
    /// assert_eq!("everywhere".parse::<Network>().unwrap_err().text(), "everywhere");
    /// ```
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid network \"{}\": ", self.text.escape_debug())?;
        match &self.fault {
            Fault::Address => f.write_str(
                "write an IPv4 or IPv6 address without a port, alone or with a prefix such as /24",
            ),
            Fault::Prefix(max) => write!(f, "its prefix is not a number from 0 to {max}"),
            Fault::HostBits { address, network } => write!(
                f,
                "bits are set behind its prefix of {}: write {network} for the network, or {address} \
                 for the one address",
                network.prefix_len
            ),
            Fault::Mapped(v4, prefix_len) => write!(
                f,
                "in an IPv4 address in IPv6 form the prefix counts from {MAPPED_LEN}: write {}/{prefix_len}",
                masked((*v4).into(), *prefix_len)
            ),
        }
    }
}

impl std::error::Error for NetworkError {}

/// So that what always is a network can stand where text may be none.
impl From<Infallible> for NetworkError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_printed_is_parsed_again() {
        for text in [
            "10.0.0.0/8",
            "0.0.0.0/0",
            "192.168.1.0/31",
            "127.0.0.1",
            "fd00::/8",
            "::/0",
            "2001:db8::/127",
            "::1",
        ] {
            assert_eq!(network(text).to_string(), text);
        }
        for (text, printed) in [
            ("127.0.0.1/32", "127.0.0.1"),
            ("::1/128", "::1"),
            ("FD00:0::/8", "fd00::/8"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
        ] {
            assert_eq!(network(text).to_string(), printed);
        }
    }

    #[test]
    fn every_address_whose_first_bits_are_the_same_is_inside() {
        for (text, inside, outside) in [
            (
                "10.0.0.0/8",
                ["10.0.0.0", "10.255.255.255"],
                ["9.255.255.255", "11.0.0.0"],
            ),
            (
                "10.1.2.128/25",
                ["10.1.2.128", "10.1.2.255"],
                ["10.1.2.127", "10.1.3.0"],
            ),
            (
                "127.0.0.1",
                ["127.0.0.1", "::ffff:127.0.0.1"],
                ["127.0.0.2", "::1"],
            ),
            (
                "::ffff:10.0.0.0/104",
                ["10.9.9.9", "::ffff:10.9.9.9"],
                ["11.0.0.1", "a00::"],
            ),
            (
                "fd00::/8",
                ["fd00::", "fdff:ffff::1"],
                ["fc00::1", "fe00::"],
            ),
            ("::1", ["::1", "0:0::1"], ["::2", "127.0.0.1"]),
            (
                "0.0.0.0/0",
                ["0.0.0.0", "255.255.255.255"],
                ["::", "::102:304"],
            ),
            ("::/0", ["::1", "ffff::"], ["1.2.3.4", "::ffff:1.2.3.4"]),
            ("fe80::/10", ["fe80::1", "febf::"], ["fec0::", "fe7f::"]),
        ] {
            let network = network(text);
            for address in inside {
                assert!(network.contains(ip(address)), "{address} in {network}");
            }
            for address in outside {
                assert!(!network.contains(ip(address)), "{address} not in {network}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, told) in [
            ("", "write an IPv4"),
            ("localhost", "write an IPv4"),
            ("10.0.0.0:80", "without a port"),
            ("[::1]", "write an IPv4"),
            ("10.0.0/8", "write an IPv4"),
            ("/8", "write an IPv4"),
            ("fe80::1%eth0", "write an IPv4"),
            ("10.0.0.0/", "0 to 32"),
            ("10.0.0.0/33", "0 to 32"),
            ("10.0.0.0/256", "0 to 32"),
            ("10.0.0.0/+8", "0 to 32"),
            ("10.0.0.0/-8", "0 to 32"),
            ("10.0.0.0/8/8", "0 to 32"),
            ("10.0.0.0/255.0.0.0", "0 to 32"),
            ("::/129", "0 to 128"),
            (
                "10.0.0.1/8",
                "write 10.0.0.0/8 for the network, or 10.0.0.1 for",
            ),
            ("0.0.0.1/0", "write 0.0.0.0/0 for"),
            ("::1/64", "write ::/64 for the network, or ::1 for"),
            (
                "::ffff:10.0.0.1/104",
                "write 10.0.0.0/8 for the network, or 10.0.0.1 for",
            ),
            ("::ffff:10.0.0.0/8", "write 10.0.0.0/8"),
        ] {
            let error = text.parse::<Network>().expect_err(text);
            assert_eq!(error.text(), text);
            let said = error.to_string();
            assert!(
                said.starts_with(&format!("invalid network \"{text}\": ")),
                "{said}"
            );
            assert!(said.contains(told), "{said} says {told}");
        }
    }

    #[test]
    fn a_network_is_made_of_an_address_too() {
        assert_eq!(Network::from(ip("::1")), network("::1"));
        assert_eq!(Network::new(ip("10.0.0.0"), 8), Ok(network("10.0.0.0/8")));
        let error = Network::new(ip("10.0.0.0"), 33).unwrap_err().to_string();
        assert!(error.contains("10.0.0.0/33"), "{error}");
    }
}
