//! The server of the README: greets whoever asks.
use tofu::{Engine, Event, Message, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("which address?")?;
    let engine = Engine::new(Options::default())?;
    let mut group = engine.group()?;
    group.post(Message::welcome_request(&address.parse()?))?;
    loop {
        match group.recv()? {
            Event::Listening { address, .. } => println!("listening on {address}"),
            Event::Message(message) => match message.reply() {
                Ok(reply) => {
                    let body = [b"hello, ", message.body()].concat();
                    if let Err(error) = group.post(reply.with_body(body)) {
                        println!("{error}"); // the peer is gone, or does not read
                    }
                }
                Err(no_reply) => println!("{no_reply}"),
            },
            other => println!("{other:?}"),
        }
    }
}
