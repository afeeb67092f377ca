//! The client of the README: asks, prints the answer, and says bye.
use tofu::{Engine, Event, Message, OpCode, Options, Status};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("which address?")?;
    let engine = Engine::new(Options::default())?;
    let mut group = engine.group()?;
    group.post(Message::hello_request(&address.parse()?))?;
    loop {
        match group.recv()? {
            Event::Message(message) if message.op_code() == OpCode::HelloResponse => {
                group.post(Message::request(message.channel()).with_body("world"))?;
            }
            Event::Message(message) if message.op_code() == OpCode::Response => {
                println!("{}", String::from_utf8_lossy(message.body()));
                group.post(Message::bye_request(message.channel()))?;
            }
            Event::Closed { reason, .. } => match reason.status() {
                Status::CHANNEL_CLOSED => return Ok(()),
                _ => return Err(reason.into()),
            },
            other => println!("{other:?}"),
        }
    }
}
