//! A request and an answer that are both in many parts, at the same time: each part is answered by a part as it
//! comes, and a window bounds how far the client is ahead.

use std::{error::Error, thread, time::Duration};

use tofu::{Address, ChannelGroup, ChannelNumber, Engine, Event, Message, MessageId, Options};

const PATIENCE: Duration = Duration::from_secs(5);
/// Parts that the client has sent and that are not answered yet, at most.
const WINDOW: usize = 16;

/// Shouts back until the engine shuts down. A part is all it looks at: it keeps nothing, of anyone.
fn serve(mut group: ChannelGroup) {
    while let Ok(event) = group.recv() {
        let Event::Message(part) = event else {
            continue;
        };
        let Ok(answer) = part.reply() else {
            continue;
        };
        let shouted = String::from_utf8_lossy(part.body()).to_uppercase();
        let answer = answer.with_body(shouted).with_more(part.has_more());
        if let Err(error) = group.post(answer) {
            eprintln!("{error}"); // the client has gone
        }
    }
}

/// The next part of the answer on a channel.
fn next(group: &mut ChannelGroup, id: MessageId) -> Result<Message, Box<dyn Error>> {
    loop {
        match group.recv_timeout(PATIENCE)?.ok_or("nothing came")? {
            Event::Message(part) if part.id() == id => return Ok(part),
            Event::Returned { reason, .. } | Event::Closed { reason, .. } => {
                return Err(reason.into());
            }
            other => println!("meanwhile: {other:?}"),
        }
    }
}

/// Sends lines as one request, and gets the answer meanwhile.
fn shout(
    group: &mut ChannelGroup,
    channel: ChannelNumber,
    lines: &[&str],
) -> Result<Vec<String>, Box<dyn Error>> {
    let mut id = MessageId::UNASSIGNED; // the engine gives one to the first part, and all have it
    let mut answer = Vec::new();
    for (sent, line) in lines.iter().enumerate() {
        if sent - answer.len() == WINDOW {
            answer.push(String::from_utf8(next(group, id)?.body().to_vec())?);
        }
        let part = Message::request(channel).with_id(id).with_body(line);
        id = group.post(part.with_more(sent + 1 < lines.len()))?.id;
    }
    while answer.len() < lines.len() {
        let part = next(group, id)?;
        answer.push(String::from_utf8(part.body().to_vec())?);
        if part.has_more() != (answer.len() < lines.len()) {
            return Err("the answer has another number of parts".into());
        }
    }
    Ok(answer)
}

fn run(address: &Address, lines: &[&str]) -> Result<Vec<String>, Box<dyn Error>> {
    let engine = Engine::new(Options::default())?;
    let (mut server, mut client) = (engine.group()?, engine.group()?);
    let welcome = server.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    let serving = thread::spawn(move || serve(server));
    let hello = client.call(Message::hello_request(&address), PATIENCE)?;
    let answer = shout(&mut client, hello.channel(), lines);
    engine.shutdown(PATIENCE); // says bye
    serving.join().map_err(|_| "the server panicked")?;
    answer
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    for line in run(&address, &["is anybody", "out there", "who hears me?"])? {
        println!("{line}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_part_is_answered_in_its_order() {
        tofu::testing::over_both(|address| {
            let lines: Vec<_> = (0..2_000).map(|number| format!("no. {number}")).collect();
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            let expected: Vec<_> = lines.iter().map(|line| line.to_uppercase()).collect();
            assert_eq!(super::run(address, &lines).expect("all"), expected);
        });
    }
}
