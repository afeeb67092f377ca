//! tofu beside other futures: a server on tokio answers its readers, and tells them the news of another future.

use std::{collections::HashSet, error::Error, time::Duration};

use tofu::{Address, ChannelGroup, ChannelNumber, Engine, Event, Message, OpCode, Options};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);

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

/// Asks a hundred times. What is told meanwhile is put aside.
async fn ask(reader: &mut ChannelGroup, channel: ChannelNumber) -> Outcome<usize> {
    for number in 0..100 {
        let question = format!("question {number}");
        let request = Message::request(channel).with_body(&question);
        let answer = timeout(PATIENCE, reader.call_async(request)).await??;
        if answer.body() != question.as_bytes() {
            return Err(format!("{question} got {answer:?}").into());
        }
    }
    Ok(100)
}

/// Reads what was told, until the server says bye.
async fn read(reader: &mut ChannelGroup) -> Outcome<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        match timeout(PATIENCE, reader.recv_async()).await?? {
            Event::Message(message) if message.op_code() == OpCode::ByeRequest => {
                reader.post(message.reply()?)?;
            }
            Event::Message(message) => lines.push(String::from_utf8_lossy(message.body()).into()),
            Event::Closed { reason, .. } if reason.is_graceful() => return Ok(lines),
            Event::Closed { reason, .. } => return Err(reason.into()),
            _ => {}
        }
    }
}

async fn tell(news: &Sender<String>) -> Outcome<()> {
    for number in 0..100 {
        news.send(format!("line {number}")).await?;
    }
    Ok(())
}

/// How many questions were answered, and the lines that came beside.
async fn run(address: &Address) -> Outcome<(usize, Vec<String>)> {
    let engine = Engine::new(Options::default())?;
    let (mut server, mut reader) = (engine.group()?, engine.group()?);
    let welcome = server.call_async(Message::welcome_request(address));
    let address = timeout(PATIENCE, welcome).await??.address();
    let hello = Message::hello_request(&address.ok_or("no address")?);

    let (sender, news) = mpsc::channel(1);
    let reading = async {
        let channel = timeout(PATIENCE, reader.call_async(hello))
            .await??
            .channel();
        let (answers, ()) = tokio::try_join!(ask(&mut reader, channel), tell(&sender))?;
        drop(sender); // no more news: the server says bye
        Ok((answers, read(&mut reader).await?))
    };
    let ((), told) = tokio::try_join!(serve(server, news), reading)?;
    Ok(told)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    let (answers, lines) = run(&address).await?;
    println!(
        "{answers} answers, and {} lines of news beside",
        lines.len()
    );
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
            let told = tokio.expect("a runtime").block_on(run(address));
            let (answers, lines) = told.expect("served to the end");
            assert_eq!(answers, 100);
            let expected: Vec<_> = (0..100).map(|number| format!("line {number}")).collect();
            assert_eq!(lines, expected);
        });
    }
}
