//! The client of the README: asks, prints the answer, and says bye.
use std::time::Duration;
use tofu::{Engine, Message, Options};

const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("which address?")?;
    let hello = Message::hello_request(&address.parse()?);
    let engine = Engine::new(Options::default())?;
    let mut group = engine.group()?;
    let channel = group.call(hello, PATIENCE)?.channel();
    let answer = group.call(Message::request(channel).with_body("world"), PATIENCE)?;
    println!("{}", answer.body_text());
    group.call(Message::bye_request(channel), PATIENCE)?;
    Ok(())
}
