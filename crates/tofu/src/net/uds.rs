//! Unix domain sockets, and the claim on their paths.
//!
//! A socket file outlives a crashed process, so a path that exists may be dead. Whoever starts on a
//! path first takes a lock file next to it; only under that lock is a dead file told from a live one
//! and removed. So of two starters one wins, and nobody's live socket is stolen. The lock file is
//! removed when the path is bound; it is only there while somebody starts.
//!
//! But on Linux alone a dead socket is told from a live one by asking it. Elsewhere one whose backlog is
//! full refuses as well, and so the lock is held, and its file is there, for as long as somebody listens.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
            net::{UnixListener as StdListener, UnixStream as StdStream},
        },
    },
    path::{Path, PathBuf},
};

use mio::net::{UnixListener, UnixStream};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use socket2::{Domain, SockAddr, Socket, Type};

use super::is_out_of_descriptors;
use crate::options::ListenerOptions;

/// Whether a live socket refuses when its backlog is full, as a dead one does.
const REFUSES_WHEN_FULL: bool = !cfg!(any(target_os = "linux", target_os = "android"));

/// A listening socket with its file. The file goes first, so that no other starter ever finds it
/// dead and takes it for a stale one while it is being removed.
#[derive(Debug)]
pub(crate) struct Listener {
    _file: Option<SocketFile>,
    socket: UnixListener,
    _lock: Option<StartLock>,
}

impl Listener {
    pub(super) fn socket(&mut self) -> &mut UnixListener {
        &mut self.socket
    }

    pub(super) fn accept(&self) -> io::Result<UnixStream> {
        self.socket.accept().map(|(stream, _)| stream)
    }
}

pub(super) fn connect(path: &str) -> io::Result<UnixStream> {
    let socket = socket()?;
    socket.connect(&address(path)?)?;
    Ok(UnixStream::from_std(StdStream::from(OwnedFd::from(socket))))
}

pub(super) fn listen(path: &str, options: &ListenerOptions) -> io::Result<Listener> {
    let socket = socket()?;
    if path.starts_with('@') {
        socket.bind(&address(path)?)?;
        return start(socket, None, options);
    }
    claim(socket, path, options, REFUSES_WHEN_FULL)
}

fn claim(
    socket: Socket,
    path: &str,
    options: &ListenerOptions,
    keeps_lock: bool,
) -> io::Result<Listener> {
    // Held until the socket listens: before that, it looks as dead as a stale one.
    let lock = StartLock::take(Path::new(path))?;
    remove_stale(path)?;
    let file = bind_file(&socket, path, options)?;
    let listener = start(socket, Some(file), options)?;
    Ok(Listener {
        _lock: keeps_lock.then_some(lock),
        ..listener
    })
}

/// Binds a socket to a file that has its mode and owner. Nobody can connect before the socket listens: this
/// is the time to say who may.
fn bind_file(socket: &Socket, path: &str, options: &ListenerOptions) -> io::Result<SocketFile> {
    socket.bind(&address(path)?)?;
    let file = SocketFile::of(Path::new(path))?;
    set_access(path, options)?;
    Ok(file)
}

fn start(
    socket: Socket,
    file: Option<SocketFile>,
    options: &ListenerOptions,
) -> io::Result<Listener> {
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(Listener {
        _file: file,
        socket: UnixListener::from_std(StdListener::from(OwnedFd::from(socket))),
        _lock: None,
    })
}

fn socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// `@name` is a name in Linux's abstract namespace, which has no file.
fn address(path: &str) -> io::Result<SockAddr> {
    match path.strip_prefix('@') {
        Some(_) if !cfg!(any(target_os = "linux", target_os = "android")) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "abstract socket names exist only on Linux",
        )),
        Some(name) => SockAddr::unix(format!("\0{name}")),
        None => SockAddr::unix(path),
    }
}

/// Removes a socket file behind which nobody listens. Whatever else is there stays untouched. Where a socket
/// [`REFUSES_WHEN_FULL`] it is the lock that keeps those of tofu, and nothing those of other programs.
fn remove_stale(path: &str) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    match connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        Err(error) if is_out_of_descriptors(&error) => Err(error),
        // It answers, or its backlog is full, or it is a socket of another kind.
        Ok(_) | Err(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

fn set_access(path: &str, options: &ListenerOptions) -> io::Result<()> {
    if options.uds_uid.is_some() || options.uds_gid.is_some() {
        std::os::unix::fs::lchown(path, options.uds_uid, options.uds_gid)?;
    }
    if let Some(mode) = options.uds_mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Where a file is to be found later, wherever the process goes meanwhile.
fn lasting(path: &Path) -> PathBuf {
    // Who cannot be told where it is finds it as long as it stays there.
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The file of a socket that this process bound.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: lasting(path),
            identity: identity(&fs::symlink_metadata(path)?),
        })
    }
}

/// Removes the file, if it is still the one that was bound and not somebody else's in its place.
impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| identity(&metadata) == self.identity);
        if ours {
            // Nobody is left to tell if that fails.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Lock files that other starters removed in front of us, before we give up.
const ATTEMPTS_MAX: usize = 64;

/// The right to start on a path, or to listen there; dropping it gives the right back.
#[derive(Debug)]
struct StartLock {
    path: PathBuf,
    file: Flock<File>,
}

impl StartLock {
    /// Takes the lock, or says `AddrInUse` because another one has it.
    fn take(socket_path: &Path) -> io::Result<Self> {
        let mut path = socket_path.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        for _ in 0..ATTEMPTS_MAX {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(&path)?;
            if !file.metadata()?.is_file() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, Errno::EWOULDBLOCK)) => return Err(io::ErrorKind::AddrInUse.into()),
                Err((_, error)) => return Err(error.into()),
            };
            // Another starter may have finished, and removed the file, before we locked it: then
            // this lock is on a file that nobody else will ever see.
            if is_at(&file, &path) {
                let path = lasting(&path);
                return Ok(Self { path, file });
            }
        }
        // So many starters that none of them can be waited for.
        Err(io::ErrorKind::AddrInUse.into())
    }
}

impl Drop for StartLock {
    fn drop(&mut self) {
        // A file with something in it was not made here: it was locked, and stays.
        let is_empty = self.file.metadata().is_ok_and(|file| file.len() == 0);
        if is_empty && is_at(&self.file, &self.path) {
            // Removed before it is unlocked, see `take`.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether it is this file that is found there, and not another one in its place.
fn is_at(file: &File, path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|there| {
        file.metadata()
            .is_ok_and(|ours| identity(&there) == identity(&ours))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> ListenerOptions {
        crate::Options::default().listener
    }

    fn temporary_path() -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock").to_str().unwrap().to_owned();
        (dir, path)
    }

    #[test]
    fn a_live_socket_is_not_stolen() {
        let (dir, path) = temporary_path();
        let first = listen(&path, &options()).unwrap();
        let second = listen(&path, &options()).expect_err("taken");
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        assert!(connect(&path).is_ok());
        drop(first);
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            0,
            "no file is left behind"
        );
    }

    #[test]
    fn a_full_backlog_is_not_taken_for_a_dead_socket() {
        let (_dir, path) = temporary_path();
        let mut small = options();
        small.backlog = 1;
        let _first = listen(&path, &small).unwrap();
        let waiting: Vec<_> = std::iter::repeat_with(|| connect(&path)).take(4).collect();
        assert!(waiting.iter().any(Result::is_err), "the backlog is full");
        let second = listen(&path, &options()).expect_err("taken");
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
    }

    /// On Linux it does when it is shut down, elsewhere when its backlog is full.
    #[test]
    fn a_live_socket_that_refuses_is_not_taken_for_a_dead_one_where_the_lock_is_kept() {
        let (dir, path) = temporary_path();
        let first = claim(socket().unwrap(), &path, &options(), true).unwrap();
        let both = std::net::Shutdown::Both;
        let _ = socket2::SockRef::from(&first.socket).shutdown(both);
        if cfg!(target_os = "linux") {
            let refused = connect(&path).expect_err("it is shut down");
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        }
        let second = listen(&path, &options()).expect_err("taken");
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_stale_file_is_replaced_and_a_foreign_one_is_not_removed() {
        let (_dir, path) = temporary_path();
        drop(StdListener::bind(&path).unwrap());
        let listener = listen(&path, &options()).unwrap();
        fs::remove_file(&path).unwrap();
        let other = StdListener::bind(&path).unwrap();
        drop(listener);
        assert!(
            fs::symlink_metadata(&path).is_ok(),
            "the file is another socket's"
        );
        drop(other);
    }

    #[test]
    fn what_is_no_socket_is_not_touched() {
        let (dir, path) = temporary_path();
        fs::write(&path, "precious").unwrap();
        let link = dir.path().join("link").to_str().unwrap().to_owned();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for taken in [&path, &link] {
            let error = listen(taken, &options()).expect_err("a file is there");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn mode_is_set_before_anyone_can_connect() {
        let (_dir, path) = temporary_path();
        let mut private = options();
        private.uds_mode = Some(0o600);
        let socket = socket().unwrap();
        let file = bind_file(&socket, &path, &private).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let early = connect(&path).expect_err("it does not listen yet");
        assert_eq!(early.kind(), io::ErrorKind::ConnectionRefused);
        let _listener = start(socket, Some(file), &private).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(connect(&path).is_ok());
    }

    /// Nobody may give a file away but the almighty, who may give it to anyone.
    #[test]
    fn owner_is_set_before_anyone_can_connect_or_nobody_ever_can() {
        let (dir, path) = temporary_path();
        let mut given = options();
        given.uds_uid = Some(65_534);
        let socket = socket().unwrap();
        match bind_file(&socket, &path, &given) {
            Ok(_file) => {
                assert_eq!(fs::metadata(&path).unwrap().uid(), 65_534);
                let early = connect(&path).expect_err("it does not listen yet");
                assert_eq!(early.kind(), io::ErrorKind::ConnectionRefused);
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            }
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_lock_that_a_crash_left_behind_is_no_obstacle() {
        let (dir, path) = temporary_path();
        fs::write(format!("{path}.lock"), "").unwrap();
        let listener = listen(&path, &options()).unwrap();
        let files = if REFUSES_WHEN_FULL { 2 } else { 1 };
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), files);
        drop(listener);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_lock_file_that_is_none_is_an_error_and_stays() {
        let (dir, path) = temporary_path();
        let lock = format!("{path}.lock");
        let precious = dir.path().join("precious");
        std::os::unix::fs::symlink(&precious, &lock).unwrap();
        assert!(listen(&path, &options()).is_err());
        assert!(!precious.exists(), "a link is not followed");
        fs::remove_file(&lock).unwrap();
        fs::create_dir(&lock).unwrap();
        assert!(listen(&path, &options()).is_err());
        fs::remove_dir(&lock).unwrap();
        fs::write(&lock, "somebody's").unwrap();
        drop(listen(&path, &options()).unwrap());
        assert_eq!(fs::read_to_string(&lock).unwrap(), "somebody's");
    }

    #[test]
    fn of_many_starters_on_a_stale_path_one_wins() {
        let (_dir, path) = temporary_path();
        for _ in 0..50 {
            drop(StdListener::bind(&path).unwrap());
            let start = std::sync::Barrier::new(4);
            let winners: Vec<_> = std::thread::scope(|scope| {
                let starters: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            listen(&path, &options())
                        })
                    })
                    .collect();
                starters.into_iter().map(|s| s.join().unwrap()).collect()
            });
            assert_eq!(winners.iter().filter(|w| w.is_ok()).count(), 1);
            for loser in winners.iter().filter_map(|w| w.as_ref().err()) {
                assert_eq!(loser.kind(), io::ErrorKind::AddrInUse);
            }
        }
    }
}
