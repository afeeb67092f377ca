//! A server hangs: its connection stands, and it says nothing. The client asks, waits, and calls it dead.

use std::{
    error::Error,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use tofu::{
    Address, ChannelGroup, Engine, Event, Message, OpCode, Options,
    helpers::{Heartbeat, until},
};

const PATIENCE: Duration = Duration::from_secs(10);
/// Short, to see it at once. Seconds are more usual.
const INTERVAL: Duration = Duration::from_millis(50);
const MISSES: u32 = 10;

/// Answers requests and heartbeats, until it is told to hang: then it reads nothing any more until the end.
fn serve(mut group: ChannelGroup, end: &mpsc::Receiver<()>) {
    // It watches nobody: it only answers.
    let mut heartbeat = Heartbeat::new(INTERVAL, MISSES);
    while let Ok(event) = group.recv() {
        let Some(Event::Message(message)) = heartbeat.handle(event, Instant::now(), &group) else {
            continue;
        };
        if message.op_code() == OpCode::Signal && message.body() == b"hang" {
            let _ = end.recv(); // an error says the same
            return;
        }
        if let Ok(answer) = message.into_reply()
            && let Err(error) = group.post(answer)
        {
            eprintln!("{error}"); // the client has gone, or does not read
        }
    }
}

/// Watches a server, makes it hang, and returns how long it was silent before it was called dead.
fn watch(address: &Address) -> Result<Duration, Box<dyn Error>> {
    let engine = Engine::new(Options::default())?;
    let mut group = engine.group()?;
    let channel = group
        .call(Message::hello_request(address), PATIENCE)?
        .channel();
    let mut heartbeat = Heartbeat::new(INTERVAL, MISSES);
    heartbeat.watch(channel, Instant::now());
    // As long as it answers, silence is not death.
    let mut hang_at = Some(Instant::now() + 4 * INTERVAL);
    let mut silence = None;
    loop {
        let due = [heartbeat.next_deadline(), hang_at].into_iter().flatten();
        let patience = until(due.min(), Instant::now());
        let Some(event) = group.recv_timeout(patience)? else {
            // Nothing is left to read: whoever is silent now has not spoken.
            while let Some(dead) = heartbeat.idle(Instant::now(), &group) {
                let time = dead.silence.as_millis();
                println!("channel {} has said nothing for {time} ms", dead.channel);
                silence = Some(dead.silence);
                group.post(Message::bye_signal(dead.channel))?;
            }
            if hang_at.take_if(|it| *it <= Instant::now()).is_some() {
                group.post(Message::signal(channel).with_body("hang"))?;
            }
            continue;
        };
        match heartbeat.handle(event, Instant::now(), &group) {
            Some(Event::Closed { reason, .. }) => return silence.ok_or_else(|| reason.into()),
            Some(event) => eprintln!("besides: {event:?}"),
            None => println!("it is there"),
        }
    }
}

fn run(address: &Address) -> Result<Duration, Box<dyn Error>> {
    let engine = Engine::new(Options::default())?;
    let mut server = engine.group()?;
    let welcome = server.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    let (end, ended) = mpsc::channel();
    let serving = thread::spawn(move || serve(server, &ended));
    let silence = watch(&address);
    drop(end);
    engine.shutdown(PATIENCE);
    serving.join().map_err(|_| "the server panicked")?;
    silence
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    println!("found dead after {} ms", run(&address)?.as_millis());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_hangs_is_found_dead() {
        tofu::testing::over_both(|address| {
            let silence = run(address).expect("dead");
            assert!(silence >= INTERVAL * MISSES, "{silence:?}");
        });
    }
}
