//! The client is there before the server: it tries again, less and less often, until the server is up or its own time
//! is over.

use std::{
    error::Error,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use tofu::{
    Address, ChannelGroup, ChannelNumber, Engine, Event, Message, Options,
    helpers::{Link, Reconnect, until},
    testing,
};

const PATIENCE: Duration = Duration::from_secs(10);
/// The bounds of the random time before the second attempt, and before any later one.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Answers whatever can be answered, with what it was asked, until the engine shuts down.
fn serve(mut group: ChannelGroup) {
    while let Ok(event) = group.recv() {
        let Event::Message(message) = event else {
            continue;
        };
        if let Ok(answer) = message.into_reply()
            && let Err(error) = group.post(answer)
        {
            eprintln!("{error}"); // the client has gone, or does not read
        }
    }
}

/// Connects, however often it takes, until `patience` is over. Tells of each attempt that fails.
fn connect(
    group: &mut ChannelGroup,
    address: &Address,
    patience: Duration,
    mut failed: impl FnMut(),
) -> Result<ChannelNumber, Box<dyn Error>> {
    let give_up = Instant::now() + patience;
    let mut link = Reconnect::new(Message::hello_request(address))?.backoff(RETRY_FIRST, RETRY_MAX);
    loop {
        while let Some(change) = link.poll(Instant::now(), &*group) {
            match change {
                Link::Up { channel, .. } => return Ok(channel),
                Link::Down {
                    reason, retry_in, ..
                } => {
                    eprintln!("{reason}; again in {} ms", retry_in.as_millis());
                    failed();
                }
                // It was told to stop, or waiting does not help.
                Link::Ended { reason, .. } => {
                    return Err(format!("the server has not come up: {reason}").into());
                }
            }
        }
        let now = Instant::now();
        if now >= give_up {
            link.stop(&*group);
        }
        let due = link.next_deadline().map_or(give_up, |it| it.min(give_up));
        if let Some(event) = group.recv_timeout(until(Some(due), now))?
            && let Some(event) = link.handle(event, Instant::now())
        {
            eprintln!("besides: {event:?}");
        }
    }
}

fn run(address: &Address) -> Result<usize, Box<dyn Error>> {
    // A port must be known before anybody listens there.
    let address = match address.path() {
        None if address.port() == 0 => testing::free_tcp_address()?,
        _ => address.clone(),
    };
    let engine = Engine::new(Options::default())?;
    let mut server = engine.group()?;
    let (start, started) = mpsc::channel();
    let welcome = Message::welcome_request(&address);
    let serving = thread::spawn(move || {
        // It takes its time.
        if started.recv().is_ok() && server.call(welcome, PATIENCE).is_ok() {
            serve(server);
        }
    });

    let client = Engine::new(Options::default())?;
    let mut group = client.group()?;
    let mut failures = 0;
    let channel = connect(&mut group, &address, PATIENCE, || {
        failures += 1;
        let _ = start.send(()); // it may be up by now
    });
    drop(start);
    let asked = channel.and_then(|channel| {
        let request = Message::request(channel).with_body("there?");
        let answer = group.call(request, PATIENCE)?;
        if answer.body() != b"there?" {
            return Err(format!("a strange answer: {answer:?}").into());
        }
        group.call(Message::bye_request(channel), PATIENCE)?;
        Ok(failures)
    });
    engine.shutdown(PATIENCE);
    serving.join().map_err(|_| "the server panicked")?;
    asked
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    println!("up, after {} attempts that failed", run(&address)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_a_server_that_is_late() {
        testing::over_both(|address| {
            assert!(run(address).expect("up in the end") >= 1);
        });
    }

    #[test]
    fn it_gives_up_when_its_time_is_over() {
        let address = testing::free_tcp_address().expect("a port");
        let engine = Engine::new(Options::default()).expect("an engine");
        let mut group = engine.group().expect("a group");
        let mut failures = 0;
        let outcome = connect(&mut group, &address, RETRY_FIRST, || failures += 1);
        assert!(outcome.is_err_and(|it| it.to_string().contains("not come up")));
        assert!(failures >= 1);
    }
}
