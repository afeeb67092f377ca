//! A question and its answer: a server that knows the length of words, and a client that asks it.

use std::{error::Error, thread, time::Duration};

use tofu::{Address, ChannelGroup, Engine, Event, Message, Options};

const PATIENCE: Duration = Duration::from_secs(5);

/// Answers requests until the engine shuts down.
fn serve(mut group: ChannelGroup) {
    while let Ok(event) = group.recv() {
        let Event::Message(message) = event else {
            continue;
        };
        // A HelloRequest and a ByeRequest are answered as any other request.
        let Ok(answer) = message.reply() else {
            continue;
        };
        let length = message.body_text().chars().count();
        if let Err(error) = group.post(answer.with_body(length.to_string())) {
            eprintln!("{error}"); // the client has gone, or does not read
        }
    }
}

/// Asks for the length of a word.
fn ask(address: &Address, word: &str) -> Result<String, Box<dyn Error>> {
    let engine = Engine::new(Options::default())?;
    let mut group = engine.group()?;
    let hello = group.call(Message::hello_request(address), PATIENCE)?;
    let channel = hello.channel();
    let answer = group.call(Message::request(channel).with_body(word), PATIENCE)?;
    let length = String::from_utf8(answer.body().to_vec())?;
    group.call(Message::bye_request(channel), PATIENCE)?;
    Ok(length)
}

fn run(address: &Address) -> Result<String, Box<dyn Error>> {
    let engine = Engine::new(Options::default())?;
    let mut server = engine.group()?;
    let welcome = server.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    let serving = thread::spawn(move || serve(server));
    let length = ask(&address, "soybean");
    engine.shutdown(PATIENCE);
    serving.join().map_err(|_| "the server panicked")?;
    length
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    println!("soybean has {} letters", run(&address)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_answer_is_right() {
        tofu::testing::over_both(|address| {
            assert_eq!(super::run(address).expect("an answer"), "7");
        });
    }
}
