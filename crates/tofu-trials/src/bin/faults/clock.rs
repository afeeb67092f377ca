//! A wall clock that jumps. The engine reads the monotonic clock only, which is also checked in its source
//! (`crates/tofu/tests/clock.rs`).

use std::{
    fs, thread,
    time::{Duration, Instant, SystemTime},
};

use tofu::{Address, Engine, Event, Message, OpCode, Options, Status};
use tofu_trials::{
    Fallible,
    app::{greet, listen, next_within, tell, welcome},
    child::Companion,
};

/// The library that lies about the time is told by a file what to say.
pub(crate) fn steps() -> Fallible<String> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("clock");
    fs::write(&file, "+0")?;
    let path = file.to_str().ok_or("a path that is no text")?.to_owned();
    let told_by = format!("FAKETIME_TIMESTAMP_FILE={path}");
    let wrapper = [
        "env",
        "-u",
        "FAKETIME",
        "FAKETIME_NO_CACHE=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
        &told_by,
        "sh",
        "-c",
        "LD_PRELOAD=$(find /usr/lib /usr/local/lib -name libfaketimeMT.so.1 | head -n 1) exec \"$0\" \"$@\"",
    ];
    let inside = Companion::start(&wrapper, &["--part", "clock", &path])?;
    let figures = inside.hear()?;
    inside.end()?;
    Ok(figures)
}

/// Jumps to and fro while channels talk, and while a bye waits for an answer that does not come.
pub(crate) fn inside(file: &str) -> Fallible {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let years = |at: SystemTime| {
        let since = at.duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs() / (365 * 86_400))
    };
    let options = Options::default()
        .hello_timeout(TIMEOUT)
        .frame_timeout(TIMEOUT)
        .bye_timeout(TIMEOUT)
        .busy_poll(Duration::ZERO);
    let engine = Engine::new(options)?;
    let (mut server, mut client) = (engine.group()?, engine.group()?);
    let address = listen(&mut server, &Address::tcp("127.0.0.1", 0)?)?;
    let serving = thread::spawn(move || -> Fallible<_> {
        let channel = welcome(&mut server)?;
        while let Event::Message(message) = next_within(&mut server, TIMEOUT * 2)? {
            if message.op_code() == OpCode::ByeRequest {
                break; // and does not answer
            }
            server.post(message.into_reply()?)?;
        }
        Ok((server, channel))
    });
    let channel = greet(&mut client, &address)?;
    let mut seen = Vec::new();
    let mut trips = 0;
    for step in ["+0", "+10y", "-10y", "+0", "+10y", "-10y"] {
        fs::write(file, step)?;
        thread::sleep(Duration::from_millis(20));
        seen.push(years(SystemTime::now()));
        for _ in 0..100 {
            client.post(Message::request(channel))?;
            match next_within(&mut client, TIMEOUT)? {
                Event::Message(message) if message.op_code() == OpCode::Response => trips += 1,
                other => return Err(format!("not due: {other:?}").into()),
            }
        }
    }
    let (earliest, latest) = (seen.iter().min(), seen.iter().max());
    let jumped = latest
        .zip(earliest)
        .map_or(0, |(latest, earliest)| latest - earliest);
    if jumped < 19 {
        return Err(format!("the clock did not jump: {seen:?}").into());
    }
    let started = Instant::now();
    client.post(Message::bye_request(channel))?;
    for step in ["+10y", "-10y", "+0"] {
        thread::sleep(Duration::from_millis(100));
        fs::write(file, step)?;
        let _ = SystemTime::now();
    }
    match next_within(&mut client, TIMEOUT * 3)? {
        Event::Closed { reason, .. } if reason.status() == Status::BYE_TIMEOUT => {}
        other => return Err(format!("not due: {other:?}").into()),
    }
    let waited = started.elapsed();
    if waited < TIMEOUT || waited > TIMEOUT * 2 {
        return Err(format!("a bye timeout of {TIMEOUT:?} took {waited:?}").into());
    }
    drop(serving.join().map_err(|_| "the server panicked")??);
    tell(format_args!(
        "jumps over {jumped} years, to and fro: {trips} round trips answered, no timer fired early; a bye \
         timeout of {} s came after {:.2} s",
        TIMEOUT.as_secs(),
        waited.as_secs_f64()
    ))
}
