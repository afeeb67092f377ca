//! An echo server: gives everybody back what they said.
use std::time::Duration;
use tofu::{Engine, Event, Message, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("which address?")?;
    let engine = Engine::new(Options::default())?;
    let mut group = engine.group()?;
    let welcome = Message::welcome_request(&address.parse()?);
    println!("{:?}", group.call(welcome, Duration::from_secs(5))?);
    while let Ok(event) = group.recv() {
        if let Event::Message(message) = event
            && let Ok(answer) = message.into_reply()
            && let Err(error) = group.post(answer)
        {
            println!("{error}"); // the peer has gone, or does not read
        }
    }
    Ok(())
}
