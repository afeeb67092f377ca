//! Two processes that start on one path at the same moment.

use std::{
    fs,
    os::unix::net::{UnixListener, UnixStream},
};

use tofu::{Engine, Event, Message, Options, Status, testing::TemporaryUds};
use tofu_trials::{
    Fallible,
    app::{next, tell},
    child::Companion,
};

const STARTS: u64 = 1_000;

/// Starts on each path that it is told, tells the outcome, and closes when told so.
pub(crate) fn starter() -> Fallible {
    let engine = Engine::new(Options::default())?;
    let mut group = engine.group()?;
    let mut listener = None;
    for line in std::io::stdin().lines() {
        let line = line?;
        let Some(path) = line.strip_prefix("start ") else {
            if let Some(channel) = listener.take() {
                group.post(Message::bye_signal(channel))?;
                next(&mut group)?;
            }
            tell("closed")?;
            continue;
        };
        let channel = group
            .post(Message::welcome_request(&format!("uds|{path}").parse()?))?
            .channel;
        match next(&mut group)? {
            Event::Listening { .. } => {
                listener = Some(channel);
                tell("wins")?;
            }
            Event::Returned { reason, .. } if reason.status() == Status::ADDRESS_IN_USE => {
                next(&mut group)?;
                tell("loses")?;
            }
            other => return Err(format!("not due: {other:?}").into()),
        }
    }
    Ok(())
}

pub(crate) fn two(times: u64) -> Fallible<String> {
    let starts = STARTS * times;
    let dir = TemporaryUds::new()?;
    let path = dir.path().join("one.sock");
    let order = format!("start {}", path.display());
    let starter = || Companion::start::<&str, _>(&[], &["--part", "starter"]);
    let mut two = [starter()?, starter()?];
    // How often who was told later won: then both were at it at the same time.
    let mut overtaken = 0;
    for nth in 0..starts {
        // What a crash leaves behind.
        if nth % 2 == 1 {
            drop(UnixListener::bind(&path)?);
        }
        let first = usize::from(nth / 2 % 2 == 1);
        two[first].tell(&order)?;
        two[1 - first].tell(&order)?;
        let told = [two[0].hear()?, two[1].hear()?];
        let winner = match (told[0].as_str(), told[1].as_str()) {
            ("wins", "loses") => 0,
            ("loses", "wins") => 1,
            _ => return Err(format!("start {nth}: {told:?}").into()),
        };
        overtaken += u64::from(winner != first);
        UnixStream::connect(&path).map_err(|error| format!("nobody is there: {error}"))?;
        for one in &mut two {
            one.tell("close")?;
            one.hear_word("closed")?;
        }
        if fs::read_dir(dir.path())?.next().is_some() {
            return Err("a file was left behind".into());
        }
    }
    let [one, other] = two;
    one.end()?;
    other.end()?;
    if overtaken < starts / 100 {
        return Err(format!(
            "who was told first won {} of {starts} times: no race",
            starts - overtaken
        )
        .into());
    }
    Ok(format!(
        "{starts} starts, half of them on a stale file: exactly one won each time (who was told last {overtaken} \
         times), the other heard address_in_use"
    ))
}
