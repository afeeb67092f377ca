//! Groups share their engine's pool of messages; engines share nothing. So a group that keeps what it received
//! starves the other groups of its engine, and no group of another one.

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

/// A group for one thread or one duty: it has its own channels, and hears of no others.
fn connect(engine: &Engine, address: &Address) -> Outcome<(ChannelGroup, ChannelNumber)> {
    let mut group = engine.group()?;
    let channel = group
        .call(Message::hello_request(address), PATIENCE)?
        .channel();
    Ok((group, channel))
}

fn next(group: &mut ChannelGroup) -> Outcome<Event> {
    Ok(group.recv_timeout(PATIENCE)?.ok_or("nothing happens")?)
}

/// Two groups of one engine and one of another, all with the same server: what they hear.
fn run(address: &Address) -> Outcome<[String; 4]> {
    let servers = Engine::new(Options::default())?;
    let mut server = servers.group()?;
    let welcome = server.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    let serving = thread::spawn(move || echo(server));

    let small = Engine::new(Options::default().pool_messages(1, 4))?;
    let (mut greedy, of_greedy) = connect(&small, &address)?;
    let (mut neighbour, of_neighbour) = connect(&small, &address)?;
    let other = Engine::new(Options::default())?;
    let (mut stranger, of_stranger) = connect(&other, &address)?;

    let mut kept = Vec::new();
    let greed = loop {
        greedy.post(Message::request(of_greedy))?;
        match next(&mut greedy)? {
            Event::Message(message) => kept.push(message),
            other => break format!("{} messages, and then {other:?}", kept.len()),
        }
    };
    let told = |answer: Result<Message, CallError>| match answer {
        Ok(message) => message.op_code().to_string(),
        Err(error) => error.to_string(),
    };
    let starved = told(neighbour.call(Message::request(of_neighbour), PATIENCE));
    let unharmed = told(stranger.call(Message::request(of_stranger), PATIENCE));
    drop(kept); // back to the pool
    let fed = loop {
        if let Event::Message(late) = next(&mut neighbour)? {
            break late.op_code().to_string();
        }
    };
    for group in [greedy, neighbour, stranger] {
        group.close(PATIENCE); // says bye
    }
    servers.shutdown(PATIENCE);
    serving.join().map_err(|_| "the server panicked")?;
    Ok([greed, starved, unharmed, fed])
}

fn main() -> Outcome<()> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    let [greed, starved, unharmed, fed] = run(&address)?;
    println!("a group that keeps all: {greed}");
    println!("another one of its engine: {starved}");
    println!("one of another engine: {unharmed}");
    println!("the one of its engine, when the messages were dropped: {fed}");
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn groups_share_a_pool_and_engines_share_nothing() {
        tofu::testing::over_both(|address| {
            let [greed, starved, unharmed, fed] = super::run(address).expect("all is told");
            assert_eq!(greed, "4 messages, and then PoolEmpty");
            assert!(starved.starts_with("the pool is empty"), "{starved}");
            assert_eq!([unharmed, fed], ["Response", "Response"]);
        });
    }
}
