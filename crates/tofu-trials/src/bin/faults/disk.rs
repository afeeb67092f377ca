//! Socket files where there is no room for them, or no right.

use std::{fs, path::Path, process::Command};

use tofu::{Address, ChannelGroup, Engine, Event, Message, Options, Status};
use tofu_trials::{
    Fallible,
    app::{listen, next, tell},
    child::Companion,
};

/// Runs a part in mounts of its own, on a directory of its own.
fn in_own_mounts(role: &str) -> Fallible<String> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().to_str().ok_or("a path that is no text")?;
    let inside = Companion::start(&["unshare", "--mount"], &["--part", role, path])?;
    let figures = inside.hear()?;
    inside.end()?;
    Ok(figures)
}

fn mount(words: &[&str]) -> Fallible {
    let output = Command::new("mount").args(words).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("mount: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// A WelcomeRequest that must fail: why.
fn refused(group: &mut ChannelGroup, address: &Address, status: Status) -> Fallible<String> {
    group.post(Message::welcome_request(address))?;
    let why = match next(group)? {
        Event::Returned { reason, .. } if reason.status() == status => reason.to_string(),
        other => return Err(format!("{status} was due, not {other:?}").into()),
    };
    match next(group)? {
        Event::Closed { .. } => Ok(why),
        other => Err(format!("an end was due, not {other:?}").into()),
    }
}

fn is_empty(dir: &Path) -> Fallible<bool> {
    Ok(fs::read_dir(dir)?.next().is_none())
}

pub(crate) fn full() -> Fallible<String> {
    in_own_mounts("full-disk")
}

/// A tmpfs counts files: the root is one.
pub(crate) fn full_inside(dir: &str) -> Fallible {
    let engine = Engine::new(Options::default())?;
    let mut group = engine.group()?;
    let path = Path::new(dir);
    let address = Address::uds(path.join("a.sock").to_string_lossy())?;
    let mut told = Vec::new();
    // No room for the lock file; room for that, and none for the socket.
    for (files, what) in [
        ("1", "no room at all"),
        ("2", "room for the lock file only"),
    ] {
        mount(&[
            "-t",
            "tmpfs",
            "-o",
            &format!("nr_inodes={files}"),
            "none",
            dir,
        ])?;
        let why = refused(&mut group, &address, Status::LISTEN_FAILED)?;
        if !why.contains("No space left") || !is_empty(path)? {
            return Err(format!("{what}: {why}; left: {:?}", fs::read_dir(path)?.count()).into());
        }
        told.push(format!("{what}: `{why}`, nothing left behind"));
    }
    mount(&["-o", "remount,nr_inodes=100", dir])?;
    listen(&mut group, &address)?;
    tell(format_args!("{}; with room: listening", told.join("; ")))
}

pub(crate) fn read_only() -> Fallible<String> {
    in_own_mounts("read-only")
}

pub(crate) fn read_only_inside(dir: &str) -> Fallible {
    let engine = Engine::new(Options::default())?;
    let mut group = engine.group()?;
    let path = Path::new(dir);
    let address = Address::uds(path.join("a.sock").to_string_lossy())?;
    mount(&["--bind", dir, dir])?;
    mount(&["-o", "remount,bind,ro", dir])?;
    let fresh = refused(&mut group, &address, Status::LISTEN_FAILED)?;
    if !fresh.contains("Read-only file system") || !is_empty(path)? {
        return Err(format!("it said {fresh}").into());
    }
    mount(&["-o", "remount,bind,rw", dir])?;
    listen(&mut group, &address)?;
    tell(format_args!(
        "`{fresh}`, nothing left behind; made writable: listening"
    ))
}
