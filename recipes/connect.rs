//! A connection that is refused, and one that is made. Connecting is posting a HelloRequest: if that cannot be
//! delivered it comes back with the reason, and can be posted once more.

use std::{error::Error, thread, time::Duration};

use tofu::{
    Address, CallError, ChannelGroup, ChannelNumber, Engine, Event, Message, Options, Status,
};

const PATIENCE: Duration = Duration::from_secs(5);

/// Answers until the engine shuts down.
fn serve(mut group: ChannelGroup) {
    while let Ok(event) = group.recv() {
        if let Event::Message(message) = event
            && let Ok(answer) = message.reply()
            && let Err(error) = group.post(answer.with_body("be welcome"))
        {
            eprintln!("{error}"); // the client has gone
        }
    }
}

/// An address on which nobody listens any more.
fn leave(group: &mut ChannelGroup, address: &Address) -> Result<Address, Box<dyn Error>> {
    let welcome = group.call(Message::welcome_request(address), PATIENCE)?;
    group.post(Message::bye_signal(welcome.channel()))?;
    while let Some(event) = group.recv_timeout(PATIENCE)? {
        if matches!(event, Event::Closed { .. }) {
            return Ok(welcome.address().ok_or("no address")?);
        }
    }
    Err("the listener was not closed in time".into())
}

/// Why the first attempt failed, and what the server said to the second one.
fn run(address: &Address) -> Result<(Status, String), Box<dyn Error>> {
    let engine = Engine::new(Options::default())?;
    let (mut server, mut client) = (engine.group()?, engine.group()?);
    let address = leave(&mut server, address)?;

    let hello = Message::hello_request(&address);
    let (hello, reason) = match client.call(hello, PATIENCE) {
        Err(CallError::Returned { message, reason }) => (message, reason),
        Err(other) => return Err(other.into()), // refused by `post`, or no answer in time
        Ok(_) => return Err("somebody else listens there".into()),
    };
    println!("refused: {reason}");

    // It is as it was posted, but for the number of the channel that it was to open.
    let hello = hello.with_channel(ChannelNumber::UNASSIGNED);
    server.call(Message::welcome_request(&address), PATIENCE)?;
    let serving = thread::spawn(move || serve(server));
    let answer = client.call(hello, PATIENCE);
    engine.shutdown(PATIENCE);
    serving.join().map_err(|_| "the server panicked")?;
    let welcome = String::from_utf8(answer?.body().to_vec())?;
    println!("connected: {welcome}");
    Ok((reason.status(), welcome))
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    run(&address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_hears_why_and_can_try_again() {
        tofu::testing::over_both(|address| {
            let nobody = match address.path() {
                None => Status::CONNECT_REFUSED,
                Some(_) => Status::UDS_PATH_NOT_FOUND,
            };
            let (status, welcome) = run(address).expect("connected in the end");
            assert_eq!((status, &*welcome), (nobody, "be welcome"));
        });
    }
}
