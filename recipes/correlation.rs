//! Many questions at once: each has its own deadline, and gets its own answer, in whatever order they come.

use std::{
    error::Error,
    thread,
    time::{Duration, Instant},
};

use tofu::{
    Address, ChannelGroup, Engine, Event, Message, OpCode, Options,
    helpers::{Calls, Outcome, until},
};

const PATIENCE: Duration = Duration::from_secs(5);
/// Questions under way at once: more would only wait in the server's queue.
const UNDER_WAY_MAX: usize = 100;

/// Squares numbers, until the engine shuts down: of two questions the second first, and some never.
fn serve(mut group: ChannelGroup) {
    let mut held: Option<Message> = None;
    while let Ok(event) = group.recv() {
        let Event::Message(message) = event else {
            continue;
        };
        let is_question = message.op_code() == OpCode::Request;
        if is_question && message.body() == b"never" {
            continue;
        }
        if is_question && held.is_none() {
            held = Some(message);
            continue;
        }
        let other = held.take_if(|_| is_question);
        for message in [Some(message), other].into_iter().flatten() {
            let Ok(answer) = message.reply() else {
                continue;
            };
            let answer = match message.body_text().parse::<u32>() {
                _ if message.op_code() != OpCode::Request => answer,
                Ok(number) => answer.with_body((u64::from(number).pow(2)).to_string()),
                Err(error) => answer.with_header("error", error.to_string()),
            };
            if let Err(error) = group.post(answer) {
                eprintln!("{error}"); // the client has gone, or does not read
            }
        }
    }
}

/// Asks all questions, each with the time that its answer may take.
fn ask_all(
    address: &Address,
    questions: &[(&str, Duration)],
) -> Result<Vec<String>, Box<dyn Error>> {
    let engine = Engine::new(Options::default())?;
    let mut group = engine.group()?;
    let channel = group
        .call(Message::hello_request(address), PATIENCE)?
        .channel();
    let mut calls = Calls::new();
    let mut left = questions.iter();
    let mut told = Vec::new();
    while told.len() < questions.len() {
        while calls.len() < UNDER_WAY_MAX
            && let Some(&(question, patience)) = left.next()
        {
            let request = Message::request(channel).with_body(question);
            calls.post(&group, request, Instant::now() + patience, question)?;
        }
        let patience = until(calls.next_deadline(), Instant::now());
        if let Some(event) = group.recv_timeout(patience)?
            && let Some(event) = calls.handle(event)
        {
            eprintln!("besides: {event:?}");
        }
        while let Some(outcome) = calls.poll(Instant::now()) {
            told.push(match outcome {
                Outcome::Answered { context, message } => match message.header("error") {
                    Some(error) => format!("{context}: {error}"),
                    None => format!("{context}: {}", message.body_text()),
                },
                Outcome::TimedOut { context, .. } => format!("{context}: no answer in time"),
                Outcome::Closed {
                    context, reason, ..
                } => format!("{context}: perhaps it was read, but {reason}"),
                Outcome::Returned {
                    context, reason, ..
                } => format!("{context}: it was not sent, for {reason}"),
                // This server answers in one message; a late answer has had its outcome.
                Outcome::Part { .. } | Outcome::Late { .. } => continue,
            });
        }
    }
    group.call(Message::bye_request(channel), PATIENCE)?;
    Ok(told)
}

fn run(address: &Address) -> Result<Vec<String>, Box<dyn Error>> {
    let engine = Engine::new(Options::default())?;
    let mut server = engine.group()?;
    let welcome = server.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    let serving = thread::spawn(move || serve(server));
    let soon = Duration::from_millis(50);
    let questions = [
        ("3", PATIENCE),
        ("never", soon),
        ("4", PATIENCE),
        ("five", PATIENCE),
        ("6", PATIENCE),
    ];
    let told = ask_all(&address, &questions);
    engine.shutdown(PATIENCE);
    serving.join().map_err(|_| "the server panicked")?;
    told
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    for line in run(&address)? {
        println!("{line}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_question_has_its_own_answer() {
        tofu::testing::over_both(|address| {
            let mut told = super::run(address).expect("what became of each");
            told.sort();
            let expected = [
                "3: 9",
                "4: 16",
                "6: 36",
                "five: invalid digit found in string",
                "never: no answer in time",
            ];
            assert_eq!(told, expected);
        });
    }
}
