//! One server on any number of addresses, over TCP and Unix domain sockets alike: one group, one loop. It tells
//! each client over which it came.

use std::{error::Error, thread, time::Duration};

use tofu::{Address, ChannelGroup, Engine, Event, Message, Options, Peer, testing::TemporaryUds};

const PATIENCE: Duration = Duration::from_secs(5);

/// The system says who a peer is: its address over TCP, its user and process over a Unix domain socket.
fn who(peer: Option<Peer>) -> String {
    let address = peer.and_then(|peer| peer.address());
    let credentials = peer.and_then(|peer| peer.credentials());
    match (address, credentials) {
        (Some(address), _) => format!("over tcp from {}", address.ip()),
        (None, Some(credentials)) => format!("over uds as user {}", credentials.uid),
        (None, None) => "from nowhere".to_owned(),
    }
}

/// Answers until the engine shuts down. Where a message came from makes no difference to the loop.
fn serve(mut group: ChannelGroup) {
    while let Ok(event) = group.recv() {
        if let Event::Message(message) = event
            && let Ok(answer) = message.reply()
        {
            let who = who(group.peer(message.channel()));
            if let Err(error) = group.post(answer.with_body(who)) {
                eprintln!("{error}"); // the client has gone
            }
        }
    }
}

/// Says hello, and returns the answer.
fn greet(address: &Address) -> Result<String, Box<dyn Error>> {
    let mut group = Engine::new(Options::default())?.group()?;
    let hello = group.call(Message::hello_request(address), PATIENCE)?;
    group.call(Message::bye_request(hello.channel()), PATIENCE)?;
    Ok(String::from_utf8(hello.body().to_vec())?)
}

fn run(addresses: &[Address]) -> Result<Vec<String>, Box<dyn Error>> {
    let engine = Engine::new(Options::default())?;
    let mut server = engine.group()?;
    let mut bound = Vec::new();
    for address in addresses {
        let welcome = server.call(Message::welcome_request(address), PATIENCE)?;
        bound.push(welcome.address().ok_or("no address")?);
    }
    let serving = thread::spawn(move || serve(server));
    let greet_all = || -> Result<Vec<String>, Box<dyn Error>> {
        let mut told = Vec::new();
        for address in &bound {
            let answer = greet(address)?;
            println!("{address}: you came {answer}");
            told.push(answer);
        }
        Ok(told)
    };
    let told = greet_all();
    engine.shutdown(PATIENCE);
    serving.join().map_err(|_| "the server panicked")?;
    told
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = TemporaryUds::new()?;
    let mut addresses = vec![Address::tcp("127.0.0.1", 0)?, dir.address("server.sock")];
    for address in std::env::args().skip(1) {
        addresses.push(address.parse()?);
    }
    run(&addresses)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_is_told_over_which_it_came() {
        tofu::testing::over_both(|address| {
            let dir = TemporaryUds::new().expect("a directory");
            let tcp = Address::tcp("127.0.0.1", 0).expect("an address");
            let addresses = [address.clone(), tcp, dir.address("a"), dir.address("b")];
            let told = run(&addresses).expect("all are answered");
            for (address, answer) in addresses.iter().zip(&told) {
                let way = address.path().map_or("over tcp", |_| "over uds");
                assert!(answer.starts_with(way), "{address}: {answer}");
            }
            assert_eq!(told.len(), addresses.len());
        });
    }
}
