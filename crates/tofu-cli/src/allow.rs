//! `--allow`: who may connect to a server, as networks and as users.

use std::str::FromStr;

use clap::Args;
use tofu::{Address, Network, NetworkError, Options};

use crate::error::Failure;

/// What a user's id begins with.
const USER: &str = "uid:";

#[derive(Args, Debug)]
pub(crate) struct AllowArguments {
    /// Let only these in; may be given more than once
    ///
    /// A network such as 10.0.0.0/8 or an address, of IPv4 or IPv6, is for tcp; uid:N is for uds. Who is
    /// none of them is closed as it connects. Who names some has to name some for every transport
    /// that is listened on.
    #[arg(long = "allow", value_name = "WHO")]
    allowed: Vec<Allowed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Allowed {
    Network(Network),
    User(u32),
}

impl AllowArguments {
    /// The engine's options, for a server on these addresses. `command` names the subcommand in errors.
    pub(crate) fn options(&self, command: &str, addresses: &[Address]) -> Result<Options, Failure> {
        let (mut networks, mut users) = (Vec::new(), Vec::new());
        for allowed in &self.allowed {
            match allowed {
                Allowed::Network(network) => networks.push(*network),
                Allowed::User(user) => users.push(*user),
            }
        }
        if self.allowed.is_empty() {
            return Ok(Options::default());
        }
        // Whoever names some does not mean to let everybody in elsewhere.
        for address in addresses {
            let why = match address.path() {
                Some(_) if users.is_empty() => "name those who may connect with --allow uid:N",
                None if networks.is_empty() => "name the networks that may connect with --allow",
                _ => continue,
            };
            return Err(Failure::new(format_args!("{command} {address}"), why));
        }
        let mut options = Options::default();
        if !networks.is_empty() {
            options = options.allow_networks(networks);
        }
        if !users.is_empty() {
            options = options.allow_users(users);
        }
        Ok(options)
    }
}

impl FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix(USER) {
            Some(id) => id
                .parse()
                .map(Self::User)
                .map_err(|_| "a user is written uid:N, N being a number".to_owned()),
            None => text
                .parse()
                .map(Self::Network)
                .map_err(|error: NetworkError| error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_told_from_a_network() {
        assert_eq!("uid:1000".parse(), Ok(Allowed::User(1000)));
        let network = "10.0.0.0/8".parse().map(Allowed::Network);
        assert_eq!("10.0.0.0/8".parse(), network.map_err(|_| String::new()));
        for (wrong, why) in [
            ("uid:root", "uid:N"),
            ("uid:", "uid:N"),
            ("uid:-1", "uid:N"),
            ("10.0.0.1/8", "write 10.0.0.0/8"),
            ("root", "write an IPv4"),
        ] {
            let error = wrong.parse::<Allowed>().unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
