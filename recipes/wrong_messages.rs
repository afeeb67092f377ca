//! A message that cannot be sent comes back, and nothing of it is lost: from `post` at once, unchanged, if it is
//! wrong in itself; as a Returned event, with its reason, if it could not be carried out.

use std::{error::Error, time::Duration};

use tofu::{
    Address, ChannelNumber, Engine, Event, Header, Message, OpCode, Options, PostError, Status,
};

const PATIENCE: Duration = Duration::from_secs(5);
/// The least that an engine can let wait to be sent.
const QUEUE: usize = 131_086;

/// Why a message was refused; it must have come back as it was.
fn why(posted: Result<Header, PostError>, wrong: &Message) -> Result<Status, Box<dyn Error>> {
    let Err(error) = posted else {
        return Err(format!("this was taken: {wrong:?}").into());
    };
    println!("{}: {}", error.refusal().status(), error.refusal());
    let status = error.refusal().status();
    if error.into_message() != *wrong {
        return Err("the message has changed".into());
    }
    Ok(status)
}

fn run(address: &Address) -> Result<Vec<Status>, Box<dyn Error>> {
    // With bounds that are soon reached: room for a listener and the two ends of a connection.
    let options = Options::default()
        .channels_max(3)
        .queue_bytes(QUEUE, QUEUE)
        .pool_messages(4, 4);
    let engine = Engine::new(options)?;
    let mut server = engine.group()?;
    let welcome = server.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    let mut client = engine.group()?;
    let channel = client.post(Message::hello_request(&address))?.channel;
    let hello = server.recv_timeout(PATIENCE)?; // and then this server reads no more
    println!("the server has read {hello:?}");

    let request = || Message::request(channel);
    let wrong = [
        // What it means.
        Message::new(OpCode::WelcomeResponse, channel, 7),
        Message::new(OpCode::Response, channel, 0),
        Message::bye_request(channel).with_more(true),
        // Where it goes.
        request().with_channel(ChannelNumber::new(99)),
        request().with_channel(welcome.channel()),
        Message::hello_request(&address).with_channel(channel),
        Message::new(OpCode::HelloRequest, ChannelNumber::UNASSIGNED, 0),
        Message::hello_request(&Address::tcp("127.0.0.1", 0)?),
        // What is in it.
        request().with_header("no:colon", "in a name"),
        request().with_header("long", vec![b'x'; 70_000]),
        request().with_body(vec![b'x'; 70_000]),
        // One channel too many.
        Message::hello_request(&address),
    ];
    let mut seen = Vec::new();
    for message in wrong {
        seen.push(why(client.post(message.clone()), &message)?);
    }

    // Nothing is wrong with these, but the server does not read: the queue fills.
    let large = Message::signal(channel).with_body(vec![b'x'; 60_000]);
    let full = loop {
        let posted = client.post(large.clone());
        if posted.is_err() {
            break posted;
        }
    };
    seen.push(why(full, &large)?);

    // After the bye a channel takes nothing more.
    client.post(Message::bye_request(channel))?;
    seen.push(why(client.post(request()), &request())?);

    // A hello is not wrong because nobody listens: it is taken, and comes back as an event.
    server.post(Message::bye_signal(welcome.channel()))?;
    while !matches!(
        server.recv_timeout(PATIENCE)?,
        None | Some(Event::Closed { .. })
    ) {}
    client.post(Message::hello_request(&address))?;
    loop {
        match client.recv_timeout(PATIENCE)?.ok_or("nothing came")? {
            Event::Returned { message, reason } => {
                println!("{}: {reason}: {message:?}", reason.status());
                break seen.push(message.status());
            }
            other => println!("meanwhile: {other:?}"),
        }
    }

    // A group that is closed takes nothing more.
    let poster = client.poster();
    client.abort();
    seen.push(why(poster.post(request()), &request())?);
    Ok(seen)
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    println!("{} came back", run(&address)?.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_message_comes_back_with_its_own_reason() {
        tofu::testing::over_both(|address| {
            let seen = run(address).expect("all come back");
            let nobody = match address.path() {
                None => Status::CONNECT_REFUSED,
                Some(_) => Status::UDS_PATH_NOT_FOUND,
            };
            let expected = [
                Status::INVALID_OP_CODE,
                Status::INVALID_MESSAGE_ID,
                Status::INVALID_MORE_USAGE,
                Status::INVALID_CHANNEL_NUMBER,
                Status::INVALID_CHANNEL_GROUP,
                Status::NOT_ALLOWED,
                Status::WRONG_ADDRESS,
                Status::INVALID_ADDRESS,
                Status::INVALID_MESSAGE,
                Status::INVALID_HEADERS_LEN,
                Status::INVALID_BODY_LEN,
                Status::TOO_MANY_CHANNELS,
                Status::QUEUE_FULL,
                Status::CHANNEL_CLOSING,
                nobody,
                Status::SHUTDOWN_STARTED,
            ];
            assert_eq!(seen, expected);
        });
    }
}
