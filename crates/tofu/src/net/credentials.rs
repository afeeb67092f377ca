//! Whose process is at the other end of a Unix domain socket, and whose this is.

use crate::Credentials;

/// Whether this system tells. Where it does not, nobody can be told from anybody.
pub(crate) const ARE_TOLD: bool = system::ARE_TOLD;

/// Stands for no user, and so is none.
pub(crate) const NO_USER: u32 = u32::MAX;

/// Those of the process that connected to this socket, or listened on it. The system keeps them for as
/// long as the socket is there, whether the process is or not; macOS forgets them when the peer closes.
pub(super) fn of(socket: &mio::net::UnixStream) -> Option<Credentials> {
    system::told(socket).filter(|credentials| credentials.uid != NO_USER)
}

/// Those of this process.
pub(crate) fn own() -> Option<Credentials> {
    ARE_TOLD.then(|| Credentials {
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        pid: Some(std::process::id()),
    })
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use nix::sys::socket::{getsockopt, sockopt};

    use crate::Credentials;

    pub(super) const ARE_TOLD: bool = true;

    pub(super) fn told(socket: &mio::net::UnixStream) -> Option<Credentials> {
        let told = getsockopt(socket, sockopt::PeerCredentials).ok()?;
        Some(Credentials {
            uid: told.uid(),
            gid: told.gid(),
            // Zero: it is in a namespace that we do not see into.
            pid: u32::try_from(told.pid()).ok().filter(|pid| *pid != 0),
        })
    }
}

#[cfg(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd",
))]
mod system {
    use crate::Credentials;

    pub(super) const ARE_TOLD: bool = true;

    pub(super) fn told(socket: &mio::net::UnixStream) -> Option<Credentials> {
        let (uid, gid) = nix::unistd::getpeereid(socket).ok()?;
        Some(Credentials {
            uid: uid.as_raw(),
            gid: gid.as_raw(),
            pid: pid(socket),
        })
    }

    #[cfg(target_vendor = "apple")]
    fn pid(socket: &mio::net::UnixStream) -> Option<u32> {
        use nix::sys::socket::{getsockopt, sockopt};

        let pid = getsockopt(socket, sockopt::LocalPeerPid).ok()?;
        u32::try_from(pid).ok().filter(|pid| *pid != 0)
    }

    #[cfg(not(target_vendor = "apple"))]
    fn pid(_: &mio::net::UnixStream) -> Option<u32> {
        None
    }
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd",
)))]
mod system {
    use crate::Credentials;

    pub(super) const ARE_TOLD: bool = false;

    pub(super) fn told(_: &mio::net::UnixStream) -> Option<Credentials> {
        None
    }
}
