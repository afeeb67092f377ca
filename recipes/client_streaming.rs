//! A request in many parts, and one answer: all parts have one message id, and all but the last the `more` flag.

use std::{collections::HashMap, error::Error, thread, time::Duration};

use tofu::{
    Address, ChannelGroup, ChannelNumber, Engine, Event, Message, MessageId, OpCode, Options,
};

const PATIENCE: Duration = Duration::from_secs(5);

/// Counts the words of each request, however many parts it has, until the engine shuts down.
fn serve(mut group: ChannelGroup) {
    // A client may send several requests at once, and two clients may have the same id.
    let mut words: HashMap<(ChannelNumber, MessageId), usize> = HashMap::new();
    while let Ok(event) = group.recv() {
        let answer = match event {
            Event::Message(part) if part.op_code() == OpCode::Request => {
                let key = (part.channel(), part.id());
                let text = String::from_utf8_lossy(part.body());
                *words.entry(key).or_default() += text.split_whitespace().count();
                if part.has_more() {
                    continue;
                }
                let count = words.remove(&key).unwrap_or_default();
                part.reply()
                    .map(|answer| answer.with_body(count.to_string()))
            }
            Event::Message(message) => message.reply(),
            // What was begun on this channel is never finished.
            Event::Closed { channel, .. } => {
                words.retain(|(of, _), _| *of != channel);
                continue;
            }
            _ => continue,
        };
        if let Ok(answer) = answer
            && let Err(error) = group.post(answer)
        {
            eprintln!("{error}"); // the client has gone
        }
    }
}

/// Sends parts as one request, and returns how many words they have.
fn upload(
    group: &mut ChannelGroup,
    channel: ChannelNumber,
    parts: &[&str],
) -> Result<usize, Box<dyn Error>> {
    let (last, others) = parts.split_last().ok_or("there is nothing to send")?;
    let mut id = MessageId::UNASSIGNED; // the engine gives one to the first part, and all have it
    for part in others {
        let request = Message::request(channel).with_id(id).with_body(part);
        // If the server is slower than this, wait until there is room.
        id = group.post_timeout(request.with_more(true), PATIENCE)?.id;
    }
    let request = Message::request(channel).with_id(id).with_body(last);
    let answer = group.call(request, PATIENCE)?;
    Ok(String::from_utf8_lossy(answer.body()).parse()?)
}

fn run(address: &Address, parts: &[&str]) -> Result<usize, Box<dyn Error>> {
    let engine = Engine::new(Options::default())?;
    let (mut server, mut client) = (engine.group()?, engine.group()?);
    let welcome = server.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    let serving = thread::spawn(move || serve(server));
    let hello = client.call(Message::hello_request(&address), PATIENCE)?;
    let count = upload(&mut client, hello.channel(), parts);
    engine.shutdown(PATIENCE); // says bye
    serving.join().map_err(|_| "the server panicked")?;
    count
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    let parts = [
        "soak the beans",
        "grind them with water",
        "boil, strain, and curdle",
        "press",
    ];
    let count = run(&address, &parts)?;
    println!(
        "{} parts were sent, and one answer came: {count} words",
        parts.len()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_parts_count_for_one_answer() {
        tofu::testing::over_both(|address| {
            assert_eq!(super::run(address, &["one"]).expect("an answer"), 1);
            let parts = vec!["two words"; 5_000];
            assert_eq!(super::run(address, &parts).expect("an answer"), 10_000);
            super::run(address, &[]).expect_err("nothing to send");
        });
    }
}
