//! The pool is the bound on what an application has received and not dropped: who keeps messages stops
//! reading, and who keeps copies does not. Messages to be posted come from the pool, or never wait for it.

use std::{error::Error, time::Duration};

use tofu::{Address, ChannelGroup, Engine, Event, Message, Options};

const PATIENCE: Duration = Duration::from_secs(5);
/// Messages that the server's pool has.
const POOL: usize = 4;

fn next(group: &mut ChannelGroup) -> Result<Event, Box<dyn Error>> {
    Ok(group.recv_timeout(PATIENCE)?.ok_or("nothing came")?)
}

/// A group of an engine with a pool of its own, which has posted a hello and `count` signals.
fn send(address: &Address, count: u64) -> Result<ChannelGroup, Box<dyn Error>> {
    let group = Engine::new(Options::default())?.group()?;
    let channel = group.post(Message::hello_request(address))?.channel;
    for id in 1..=count {
        group.post(Message::signal(channel).with_id(id))?;
    }
    Ok(group)
}

/// How many messages a server holds when its pool is empty, whether there is another one then, and how many come
/// in the end.
fn run(address: &Address) -> Result<(usize, bool, usize), Box<dyn Error>> {
    let engine = Engine::new(Options::default().pool_messages(POOL, POOL))?;
    let mut group = engine.group()?;
    let welcome = group.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    let _sender = send(&address, 9)?; // ten messages with the hello

    // Whoever holds what it receives has the whole pool in its hands at last, and the peer is pushed back.
    let mut held = Vec::new();
    loop {
        match next(&mut group)? {
            Event::Message(message) => held.push(message),
            Event::PoolEmpty => break,
            other => println!("{other:?}"),
        }
    }
    println!("the pool is empty: {} messages are held", held.len());

    // For what you post there are two ways. `try_message` says when the pool is empty, so that you can put
    // off what is not urgent; `message` takes memory of its own then.
    let spare = engine.try_message();
    println!("another one of the pool: {spare:?}");
    println!("and one of its own: {:?}", engine.message());

    // To keep something, keep a copy: it belongs to no pool. The messages go back, and reading goes on.
    let mut kept = held.clone();
    let held_at_most = held.len();
    drop(held);
    while kept.len() < 10 {
        if let Event::Message(message) = next(&mut group)? {
            kept.push(message.clone());
        }
    }
    println!("{} messages are kept, as copies", kept.len());
    println!("out of the pool: {}", engine.metrics().pool_messages_out);
    Ok((held_at_most, spare.is_some(), kept.len()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    run(&address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn who_holds_the_pool_receives_no_more_until_it_lets_go() {
        tofu::testing::over_both(|address| {
            let outcome = super::run(address).expect("ten messages");
            assert_eq!(outcome, (super::POOL, false, 10));
        });
    }
}
