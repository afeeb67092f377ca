//! A busy server shuts down, and nothing that was accepted is lost: each request is answered, or is in the server's
//! report.

use std::{error::Error, sync::mpsc, thread, time::Duration};

use tofu::{
    Address, ChannelGroup, ChannelNumber, CloseReport, Engine, Event, Message, OpCode, Options,
};

const PATIENCE: Duration = Duration::from_secs(5);
/// Requests that a client has posted and that are not answered yet, at most.
const WINDOW: usize = 32;
/// Answers after which the server counts as busy.
const BUSY: usize = 1_000;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Answers until it is told to go, and then says bye to all. What came and was not read any more is in the report.
fn serve(mut group: ChannelGroup, busy: &mpsc::Sender<()>) -> CloseReport {
    let mut answered = 0;
    while let Ok(event) = group.recv() {
        match event {
            Event::Message(message) => {
                if let Ok(answer) = message.reply()
                    && let Err(error) = group.post(answer)
                {
                    eprintln!("{error}"); // the client has gone, or does not read
                }
                answered += 1;
                if answered == BUSY && busy.send(()).is_err() {
                    break; // nobody is there to say when to go
                }
            }
            Event::Notified(_) => break,
            _ => {}
        }
    }
    group.close(PATIENCE)
}

/// Asks and asks, until the server says bye. Returns how many requests have left, and how many were answered.
fn ask(group: &mut ChannelGroup, channel: ChannelNumber) -> Outcome<(usize, usize)> {
    let (mut asked, mut answered) = (0, 0);
    loop {
        // Behind a bye this is refused.
        while asked - answered < WINDOW && group.post(Message::request(channel)).is_ok() {
            asked += 1;
        }
        match group.recv_timeout(PATIENCE)?.ok_or("nothing came")? {
            Event::Message(message) => match message.op_code() {
                OpCode::Response => answered += 1,
                OpCode::ByeRequest => drop(group.post(message.reply()?)?),
                _ => {}
            },
            Event::Returned { .. } => asked -= 1, // it has not left
            Event::Closed { reason, .. } if reason.is_graceful() => return Ok((asked, answered)),
            Event::Closed { reason, .. } => return Err(reason.into()),
            _ => {}
        }
    }
}

/// What all clients have asked, and how much of it was answered, beside the server's report.
fn run(address: &Address, clients: usize) -> Outcome<(usize, usize, CloseReport)> {
    let mut server = Engine::new(Options::default())?.group()?;
    let welcome = server.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    let poster = server.poster();
    let (busy, is_busy) = mpsc::channel();
    let serving = thread::spawn(move || serve(server, &busy));
    let mut asking = Vec::new();
    for _ in 0..clients {
        let mut group = Engine::new(Options::default())?.group()?;
        let hello = group.call(Message::hello_request(&address), PATIENCE)?;
        asking.push(thread::spawn(move || ask(&mut group, hello.channel())));
    }
    is_busy.recv_timeout(PATIENCE)?;
    poster.notify(None); // in the middle of it
    let report = serving.join().map_err(|_| "the server panicked")?;
    let (mut all_asked, mut all_answered) = (0, 0);
    for client in asking {
        let (asked, answered) = client.join().map_err(|_| "a client panicked")??;
        println!("a client asked {asked} times, and was answered {answered} times");
        all_asked += asked;
        all_answered += answered;
    }
    Ok((all_asked, all_answered, report))
}

fn main() -> Outcome<()> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    let (asked, answered, report) = run(&address, 3)?;
    println!("asked: {asked}, answered: {answered}");
    println!("requests in the report: {}", report.unread.len());
    println!("answers in the report: {}", report.undelivered.len());
    for (channel, reason) in &report.closed {
        println!("channel {channel}: {reason}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_accepted_is_lost() {
        tofu::testing::over_both(|address| {
            let (asked, answered, report) = run(address, 4).expect("all end well");
            assert_eq!(asked, answered + report.unread.len());
            assert!(report.undelivered.is_empty());
            assert!(report.closed.iter().all(|(_, reason)| reason.is_graceful()));
            assert_eq!(report.closed.len(), 1 + 4, "a listener and its clients");
        });
    }
}
