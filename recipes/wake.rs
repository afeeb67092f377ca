//! Other threads wake the one that receives: with a message, as when a job is done, or with none, as when it is time
//! to go. So a receiver needs no second queue, and no timeout to look whether there is something to do.

use std::{error::Error, thread, time::Duration};

use tofu::{Address, ChannelGroup, CloseReport, Engine, Event, Message, NoReply, OpCode, Options};

const PATIENCE: Duration = Duration::from_secs(5);

/// Has each request worked on by another thread, and posts the answers that come back from there. Returns how many
/// that were, and what was left at the end.
fn serve(mut group: ChannelGroup) -> (usize, CloseReport) {
    let mut answered = 0;
    while let Ok(event) = group.recv() {
        let answer = match event {
            Event::Message(message) if message.op_code() == OpCode::Request => {
                let poster = group.poster();
                thread::spawn(move || match work(&message) {
                    Ok(answer) => poster.notify(Some(answer)),
                    Err(error) => eprintln!("{error}"),
                });
                continue;
            }
            Event::Message(message) => match message.reply() {
                Ok(answer) => answer,
                Err(_) => continue,
            },
            Event::Notified(Some(answer)) => {
                answered += 1;
                answer
            }
            Event::Notified(None) => break,
            _ => continue,
        };
        if let Err(error) = group.post(answer) {
            eprintln!("{error}"); // the client has gone
        }
    }
    (answered, group.close(PATIENCE))
}

/// Turns the words around.
fn work(request: &Message) -> Result<Message, NoReply> {
    let text: String = String::from_utf8_lossy(request.body())
        .chars()
        .rev()
        .collect();
    Ok(request.reply()?.with_body(text))
}

/// Asks all words at once, and returns the answers in the order in which they come.
fn ask(address: &Address, words: &[&str]) -> Result<Vec<String>, Box<dyn Error>> {
    let mut group = Engine::new(Options::default())?.group()?;
    let channel = group
        .call(Message::hello_request(address), PATIENCE)?
        .channel();
    for word in words {
        group.post(Message::request(channel).with_body(word))?;
    }
    let mut answers = Vec::new();
    while answers.len() < words.len() {
        match group.recv_timeout(PATIENCE)?.ok_or("nothing came")? {
            Event::Message(answer) => answers.push(String::from_utf8(answer.body().to_vec())?),
            Event::Closed { reason, .. } => return Err(reason.into()),
            _ => {}
        }
    }
    group.call(Message::bye_request(channel), PATIENCE)?;
    Ok(answers)
}

fn run(address: &Address, words: &[&str]) -> Result<(Vec<String>, usize), Box<dyn Error>> {
    let mut server = Engine::new(Options::default())?.group()?;
    let welcome = server.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    let poster = server.poster();
    let serving = thread::spawn(move || serve(server));
    let answers = ask(&address, words);
    poster.notify(None); // it sleeps by now, with nobody to talk to
    let (answered, report) = serving.join().map_err(|_| "the server panicked")?;
    println!("nothing was lost: {}", report.is_clean());
    Ok((answers?, answered))
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    let (answers, answered) = run(&address, &["stressed", "drawer", "live"])?;
    println!("{answered} answers came from other threads: {answers:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_answer_wakes_the_server_and_so_does_the_end() {
        tofu::testing::over_both(|address| {
            let words = ["stressed", "drawer", "live"];
            let (mut answers, answered) = super::run(address, &words).expect("all answers");
            answers.sort(); // other threads, any order
            assert_eq!(answers, ["desserts", "evil", "reward"]);
            assert_eq!(answered, words.len());
        });
    }
}
