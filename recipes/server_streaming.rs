//! One request, and an answer in many parts: all have the id of the request, and all but the last the `more` flag.

use std::{error::Error, thread, time::Duration};

use tofu::{Address, ChannelGroup, Engine, Event, Message, OpCode, Options};

const PATIENCE: Duration = Duration::from_secs(5);

/// Counts down from the number in the request, in as many parts.
fn count_down(group: &mut ChannelGroup, request: &Message) -> Result<(), Box<dyn Error>> {
    let from: u16 = match String::from_utf8_lossy(request.body()).parse() {
        Ok(from) => from,
        Err(error) => {
            let answer = request.reply()?.with_header("error", error.to_string());
            group.post(answer)?;
            return Ok(());
        }
    };
    for number in (0..=from).rev() {
        let part = request.reply()?.with_body(number.to_string());
        // A client that is slower than this is waited for, but not for ever.
        group.post_timeout(part.with_more(number > 0), PATIENCE)?;
    }
    Ok(())
}

/// Answers until the engine shuts down.
fn serve(mut group: ChannelGroup) {
    while let Ok(event) = group.recv() {
        let Event::Message(message) = event else {
            continue;
        };
        let outcome = match message.reply() {
            _ if message.op_code() == OpCode::Request => count_down(&mut group, &message),
            Ok(answer) => group.post(answer).map(drop).map_err(Into::into),
            Err(_) => continue,
        };
        if let Err(error) = outcome {
            eprintln!("{error}"); // the client has gone, or does not read
        }
    }
}

/// All parts of an answer, in their order.
fn call(group: &mut ChannelGroup, request: Message) -> Result<Vec<String>, Box<dyn Error>> {
    let id = group.post(request)?.id;
    let mut parts = Vec::new();
    loop {
        match group.recv_timeout(PATIENCE)?.ok_or("nothing came")? {
            Event::Message(part) if part.id() == id => {
                if let Some(error) = part.header("error") {
                    return Err(error.into());
                }
                parts.push(String::from_utf8(part.body().to_vec())?);
                if !part.has_more() {
                    return Ok(parts);
                }
            }
            Event::Returned { reason, .. } | Event::Closed { reason, .. } => {
                return Err(reason.into()); // half an answer is none
            }
            other => println!("meanwhile: {other:?}"),
        }
    }
}

fn run(address: &Address, from: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let engine = Engine::new(Options::default())?;
    let (mut server, mut client) = (engine.group()?, engine.group()?);
    let welcome = server.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    let serving = thread::spawn(move || serve(server));
    let hello = client.call(Message::hello_request(&address), PATIENCE)?;
    let parts = call(
        &mut client,
        Message::request(hello.channel()).with_body(from),
    );
    engine.shutdown(PATIENCE); // says bye
    serving.join().map_err(|_| "the server panicked")?;
    parts
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    println!("five: {}", run(&address, "5")?.join(", "));
    if let Err(error) = run(&address, "five") {
        println!("\"five\": {error}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::run;

    #[test]
    fn all_parts_come_in_their_order() {
        tofu::testing::over_both(|address| {
            let expected: Vec<_> = (0..=5_000).rev().map(|it| it.to_string()).collect();
            assert_eq!(run(address, "5000").expect("all parts"), expected);
            assert_eq!(run(address, "0").expect("one part"), ["0"]);
            let error = run(address, "five").expect_err("not a number");
            assert_eq!(error.to_string(), "invalid digit found in string");
        });
    }
}
