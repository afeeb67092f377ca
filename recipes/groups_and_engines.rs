//! Groups share their engine's pool and limits; engines share nothing. So a group that hoards messages starves the
//! other groups of its engine, and no group of another one.

use std::{error::Error, thread, time::Duration};

use tofu::{Address, CallError, ChannelGroup, ChannelNumber, Engine, Event, Message, Options};

const PATIENCE: Duration = Duration::from_secs(5);

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Gives everybody back what they said.
fn echo(mut group: ChannelGroup) {
    while let Ok(event) = group.recv() {
        if let Event::Message(message) = event
            && let Ok(answer) = message.into_reply()
            && let Err(error) = group.post(answer)
        {
            eprintln!("{error}"); // the client has gone, or does not read
        }
    }
}

struct Client {
    group: ChannelGroup,
    channel: ChannelNumber,
}

impl Client {
    /// A group for one thread or one duty: it has its own channels and its own events.
    fn new(engine: &Engine, address: &Address) -> Outcome<Self> {
        let mut group = engine.group()?;
        let channel = group
            .call(Message::hello_request(address), PATIENCE)?
            .channel();
        Ok(Self { group, channel })
    }

    fn call(&mut self) -> Result<Message, CallError> {
        self.group.call(Message::request(self.channel), PATIENCE)
    }

    /// What a call has not waited for comes as an event.
    fn late_answer(&mut self) -> Outcome<Message> {
        loop {
            match self.group.recv_timeout(PATIENCE)?.ok_or("no answer")? {
                Event::Message(message) => return Ok(message),
                Event::Closed { reason, .. } => return Err(reason.into()),
                _ => {}
            }
        }
    }

    /// Asks, and keeps every answer, until the pool of its engine is empty.
    fn hoard(&mut self) -> Outcome<Vec<Message>> {
        let mut kept = Vec::new();
        loop {
            self.group.post(Message::request(self.channel))?;
            match self.group.recv_timeout(PATIENCE)?.ok_or("no answer")? {
                Event::Message(message) => kept.push(message),
                Event::PoolEmpty => return Ok(kept),
                other => return Err(format!("unexpected: {other:?}").into()),
            }
        }
    }
}

/// What became of the others while one group hoarded, and afterwards.
struct Story {
    kept: usize,
    of_same_engine: Result<Message, CallError>,
    of_other_engine: Result<Message, CallError>,
    afterwards: Message,
}

/// Two groups of one engine, and one of another, all with the same server.
fn run(address: &Address) -> Outcome<Story> {
    let servers = Engine::new(Options::default())?;
    let mut server = servers.group()?;
    let welcome = server.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    let serving = thread::spawn(move || echo(server));

    let small = Engine::new(Options::default().pool_messages(1, 4))?;
    let mut greedy = Client::new(&small, &address)?;
    let mut neighbour = Client::new(&small, &address)?;
    let other = Engine::new(Options::default())?;
    let mut stranger = Client::new(&other, &address)?;

    let kept = greedy.hoard()?;
    let kept_count = kept.len();
    let of_same_engine = neighbour.call();
    let of_other_engine = stranger.call();
    drop(kept); // back to the pool
    let afterwards = neighbour.late_answer()?;

    for client in [greedy, neighbour, stranger] {
        client.group.close(PATIENCE); // says bye
    }
    servers.shutdown(PATIENCE);
    serving.join().map_err(|_| "the server panicked")?;
    Ok(Story {
        kept: kept_count,
        of_same_engine,
        of_other_engine,
        afterwards,
    })
}

fn main() -> Outcome<()> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    let story = run(&address)?;
    let tell = |answer: Result<Message, CallError>| match answer {
        Ok(_) => "answered".to_owned(),
        Err(error) => error.to_string(),
    };
    println!(
        "one group keeps {} messages, all of its engine's pool",
        story.kept
    );
    println!(
        "another group of that engine asks: {}",
        tell(story.of_same_engine)
    );
    println!(
        "a group of another engine asks: {}",
        tell(story.of_other_engine)
    );
    println!(
        "the messages are dropped, and the answer comes: {:?}",
        story.afterwards
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_share_a_pool_and_engines_share_nothing() {
        tofu::testing::over_both(|address| {
            let story = run(address).expect("all is told");
            assert_eq!(story.kept, 4);
            let starved = matches!(story.of_same_engine, Err(CallError::PoolEmpty));
            assert!(starved, "{:?}", story.of_same_engine);
            story
                .of_other_engine
                .expect("it does not know of the first");
            assert_eq!(story.afterwards.op_code(), tofu::OpCode::Response);
        });
    }
}
