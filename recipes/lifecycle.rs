//! How engines and groups begin and end, what each end loses, and what the peer hears of it.
//!
//! | the end | what was posted | what came and was not read | the peer hears |
//! | --- | --- | --- | --- |
//! | a group is aborted | is lost, unless it has left | is lost | a disconnect |
//! | a group is dropped | leaves in the background | is lost | a disconnect |
//! | a group is closed | leaves, or is in the report | is in the report | a bye |
//! | an engine is shut down | as if all its groups were closed | likewise | a bye |

use std::{error::Error, mem, sync::mpsc, thread, time::Duration};

use tofu::{Address, ChannelGroup, Engine, Event, Message, Options};

const PATIENCE: Duration = Duration::from_secs(5);

/// Answers until its engine shuts down, and tells of each client what it said and how it went.
fn serve(mut group: ChannelGroup, told: &mpsc::Sender<String>) {
    let mut words = String::new(); // clients come one after the other
    while let Ok(event) = group.recv() {
        match event {
            Event::Message(message) => {
                words.push_str(&String::from_utf8_lossy(message.body()));
                if let Ok(answer) = message.reply()
                    && let Err(error) = group.post(answer)
                    && !error.refusal().is_channel_over()
                {
                    eprintln!("{error}");
                }
            }
            Event::Closed { reason, .. } => {
                let story = format!("{:?}, then {:?}", mem::take(&mut words), reason.status());
                if told.send(story).is_err() {
                    return;
                }
            }
            _ => {}
        }
    }
}

/// A group that has posted a question, and reads no answer.
fn ask(engine: &Engine, address: &Address) -> Result<ChannelGroup, Box<dyn Error>> {
    let mut group = engine.group()?;
    let hello = group.call(Message::hello_request(address), PATIENCE)?;
    group.post(Message::request(hello.channel()).with_body("well?"))?;
    Ok(group)
}

/// The ends of groups and of an engine, as their peer tells of them.
fn live(address: &Address, heard: &mpsc::Receiver<String>) -> Result<[String; 4], Box<dyn Error>> {
    let engine = Engine::new(Options::default())?;

    ask(&engine, address)?.abort();
    let aborted = heard.recv_timeout(PATIENCE)?;

    drop(ask(&engine, address)?);
    let dropped = heard.recv_timeout(PATIENCE)?;

    let report = ask(&engine, address)?.close(PATIENCE);
    let unread = report.unread.len();
    let closed = format!("{}; unread: {unread}", heard.recv_timeout(PATIENCE)?);

    // Whoever waits in `recv` meanwhile is woken with an error, as is whoever comes later.
    let mut group = ask(&engine, address)?;
    let unread = engine.shutdown(PATIENCE).unread.len();
    let shut_down = format!("{}; unread: {unread}", heard.recv_timeout(PATIENCE)?);
    if group.recv().is_ok() || engine.group().is_ok() {
        return Err("an engine that was shut down is over".into());
    }
    Ok([aborted, dropped, closed, shut_down])
}

fn run(address: &Address) -> Result<[String; 4], Box<dyn Error>> {
    let engine = Engine::new(Options::default())?;
    let mut server = engine.group()?;
    let welcome = server.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    let (told, heard) = mpsc::channel();
    let serving = thread::spawn(move || serve(server, &told));
    let story = live(&address, &heard);
    engine.shutdown(PATIENCE);
    serving.join().map_err(|_| "the server panicked")?;
    story
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    let ends = ["aborted", "dropped", "closed", "shut down"];
    for (end, story) in ends.into_iter().zip(run(&address)?) {
        println!("{end}: the server heard {story}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_end_loses_what_it_may_and_no_more() {
        tofu::testing::over_both(|address| {
            let [aborted, dropped, closed, shut_down] = super::run(address).expect("a story");
            assert!(!aborted.contains("channel_closed"), "{aborted}");
            assert_eq!(dropped, r#""well?", then peer_disconnected"#);
            assert_eq!(closed, r#""well?", then channel_closed; unread: 1"#);
            assert_eq!(shut_down, closed);
        });
    }
}
