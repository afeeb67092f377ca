//! tofu beside other futures: a server on tokio answers its readers, and tells them the news of other futures.

use std::{collections::HashSet, error::Error, time::Duration};

use tofu::{Address, ChannelGroup, ChannelNumber, Engine, Event, Message, OpCode, Options};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);
const LINES: usize = 100;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Serves until there is no more news.
async fn serve(mut group: ChannelGroup, mut news: Receiver<String>) -> Outcome<()> {
    let mut readers = HashSet::new();
    loop {
        // One of the two futures is dropped each time. Of `recv_async` that loses nothing.
        tokio::select! {
            event = group.recv_async() => hear(&group, &mut readers, event?),
            line = news.recv() => {
                let Some(line) = line else {
                    break;
                };
                for reader in &readers {
                    post(&group, Message::signal(*reader).with_body(&line));
                }
            }
        }
    }
    // To close waits for the readers' byes, which no task should: tokio has threads for that.
    let report = tokio::task::spawn_blocking(|| group.close(PATIENCE)).await?;
    if report.is_clean() {
        return Ok(());
    }
    Err(format!("not all was delivered: {report:?}").into())
}

fn hear(group: &ChannelGroup, readers: &mut HashSet<ChannelNumber>, event: Event) {
    match event {
        Event::Message(message) => {
            if message.op_code() == OpCode::HelloRequest {
                readers.insert(message.channel());
            }
            if let Ok(answer) = message.into_reply() {
                post(group, answer);
            }
        }
        Event::Closed { channel, .. } => {
            readers.remove(&channel);
        }
        _ => {}
    }
}

fn post(group: &ChannelGroup, message: Message) {
    if let Err(error) = group.post(message) {
        eprintln!("{error}"); // the reader has gone, or does not read
    }
}

/// Asks, and reads the news that are told meanwhile, until the server says bye.
async fn read(
    mut group: ChannelGroup,
    address: &Address,
    news: Sender<String>,
) -> Outcome<Vec<String>> {
    let hello = group.call_async(Message::hello_request(address));
    let channel = timeout(PATIENCE, hello).await??.channel();
    for number in 0..LINES {
        news.send(format!("line {number}")).await?;
        // What comes while the call waits is put aside.
        let answer = group.call_async(Message::request(channel).with_body("true?"));
        if timeout(PATIENCE, answer).await??.body() != b"true?" {
            return Err("an answer to something else".into());
        }
    }
    drop(news); // the server will say bye
    let mut lines = Vec::new();
    loop {
        match timeout(PATIENCE, group.recv_async()).await?? {
            Event::Message(message) if message.op_code() == OpCode::ByeRequest => {
                group.post(message.reply()?)?;
            }
            Event::Message(message) => lines.push(message.body_text().into()),
            Event::Closed { reason, .. } if reason.is_graceful() => return Ok(lines),
            Event::Closed { reason, .. } => return Err(reason.into()),
            _ => {}
        }
    }
}

/// The lines that came while as many questions were answered.
async fn run(address: &Address) -> Outcome<Vec<String>> {
    let engine = Engine::new(Options::default())?;
    let (mut server, reader) = (engine.group()?, engine.group()?);
    let welcome = server.call_async(Message::welcome_request(address));
    let address = timeout(PATIENCE, welcome).await??.address();
    let address = address.ok_or("no address")?;
    let (sender, news) = mpsc::channel(1);
    let ((), lines) = tokio::try_join!(serve(server, news), read(reader, &address, sender))?;
    Ok(lines)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    let lines = run(&address).await?.len();
    println!("{LINES} answers, and {lines} lines of news beside");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_by_the_futures_that_were_dropped() {
        tofu::testing::over_both(|address| {
            let tokio = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build();
            let lines = tokio.expect("a runtime").block_on(run(address));
            let expected = (0..LINES).map(|number| format!("line {number}"));
            assert!(expected.eq(lines.expect("served to the end")));
        });
    }
}
