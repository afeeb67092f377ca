//! A server goes away in the middle of the work and comes back: what came back is posted again, and what is unknown
//! is asked again, by a key that lets the server do it only once.

use std::{
    collections::{BTreeSet, VecDeque},
    error::Error,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use tofu::{
    Address, Engine, Event, Message, OpCode, Options,
    helpers::{Calls, Link, Outcome, Reconnect, until},
};

const PATIENCE: Duration = Duration::from_secs(10);
const UNDER_WAY_MAX: usize = 3;
/// After so many jobs the first server goes away.
const JOBS_OF_THE_FIRST: usize = 4;

type Failure = Box<dyn Error + Send + Sync>;

/// Does jobs: each key once, however often it is asked. Goes away, without a word, when it has done `most` of them.
fn serve(
    engine: &Engine,
    address: &Address,
    done: &mut BTreeSet<String>,
    most: usize,
    listening: impl FnOnce(Address),
) -> Result<(), Failure> {
    let mut group = engine.group()?;
    let welcome = group.call(Message::welcome_request(address), PATIENCE)?;
    listening(welcome.address().ok_or("no address")?);
    while let Ok(event) = group.recv() {
        let Event::Message(message) = event else {
            continue;
        };
        let Ok(answer) = message.reply() else {
            continue;
        };
        let answer = match message.header("key") {
            Some(key) => {
                let is_new = done.insert(key.to_owned());
                if done.len() == most {
                    // The job is done, and nobody will be told.
                    break;
                }
                answer.with_body(if is_new { "done" } else { "was done before" })
            }
            None if message.op_code() == OpCode::Request => answer.with_header("error", "no key"),
            None => answer,
        };
        if let Err(error) = group.post(answer) {
            eprintln!("{error}"); // the client has gone, or does not read
        }
    }
    Ok(())
}

/// One server after the other on the same address, until the second engine shuts down; and what they have done
/// together.
fn two_servers(
    engines: &[Engine; 2],
    address: &Address,
    listening: &mpsc::Sender<Address>,
) -> Result<BTreeSet<String>, Failure> {
    let mut done = BTreeSet::new();
    let mut real = address.clone();
    serve(
        &engines[0],
        address,
        &mut done,
        JOBS_OF_THE_FIRST,
        |bound| {
            real = bound.clone();
            let _ = listening.send(bound); // the client may have given up
        },
    )?;
    // With no time for byes: to the client it is as if the process had died.
    engines[0].shutdown(Duration::ZERO);
    serve(&engines[1], &real, &mut done, usize::MAX, |_| ())?;
    Ok(done)
}

/// Has all jobs done. Returns how often the connection was lost.
fn work(address: &Address, jobs: &[&str]) -> Result<usize, Failure> {
    let engine = Engine::new(Options::default())?;
    let mut group = engine.group()?;
    let mut link = Reconnect::new(Message::hello_request(address))?
        .backoff(Duration::from_millis(10), Duration::from_secs(1));
    let mut calls = Calls::new();
    let mut to_do: VecDeque<&str> = jobs.iter().copied().collect();
    let (mut left, mut losses) = (jobs.len(), 0);
    loop {
        while let Some(outcome) = calls.poll(Instant::now()) {
            match outcome {
                Outcome::Answered { context, message } => {
                    println!("{context}: {}", message.body_text());
                    left -= 1;
                }
                // If it came back, the server never had it. If not, it may be done: the key lets us ask again.
                Outcome::Returned { context, .. }
                | Outcome::Closed { context, .. }
                | Outcome::TimedOut { context, .. } => to_do.push_back(context),
                Outcome::Part { .. } | Outcome::Late { .. } => {}
            }
        }
        if left == 0 {
            link.stop(&group);
        }
        while let Some(change) = link.poll(Instant::now(), &group) {
            match change {
                Link::Up { channel, .. } => println!("up, channel {channel}"),
                Link::Down {
                    channel,
                    reason,
                    retry_in,
                    ..
                } => {
                    losses += usize::from(channel.is_some());
                    println!("{reason}; again in {} ms", retry_in.as_millis());
                }
                Link::Ended { .. } if left == 0 => return Ok(losses),
                Link::Ended { reason, .. } => return Err(reason.into()),
            }
        }
        while calls.len() < UNDER_WAY_MAX
            && let Some(channel) = link.channel()
            && let Some(job) = to_do.pop_front()
        {
            let request = Message::request(channel).with_header("key", job);
            if let Err(error) = calls.post(&group, request, Instant::now() + PATIENCE, job) {
                to_do.push_front(job);
                if !error.is_channel_over() {
                    return Err(error.into());
                }
                break; // the channel's end is among the next events
            }
        }
        let dues = [link.next_deadline(), calls.next_deadline()];
        let patience = until(dues.into_iter().flatten().min(), Instant::now());
        if let Some(event) = group.recv_timeout(patience)?
            && let Some(event) = calls.handle(event)
            && let Some(event) = link.handle(event, Instant::now())
        {
            eprintln!("besides: {event:?}");
        }
    }
}

fn run(address: &Address) -> Result<(usize, BTreeSet<String>), Failure> {
    let engines = [
        Engine::new(Options::default())?,
        Engine::new(Options::default())?,
    ];
    let (listening, real) = mpsc::channel();
    let (theirs, asked) = (engines.clone(), address.clone());
    let serving = thread::spawn(move || two_servers(&theirs, &asked, &listening));
    let jobs = ["wash", "peel", "cut", "salt", "fry", "serve", "eat"];
    let losses = match real.recv() {
        Ok(address) => work(&address, &jobs),
        Err(_) => Err("nobody listens".into()),
    };
    for engine in engines {
        engine.shutdown(PATIENCE);
    }
    let done = serving.join().map_err(|_| "the server panicked")?;
    Ok((losses?, done?))
}

fn main() -> Result<(), Failure> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    let (losses, done) = run(&address)?;
    println!("{} jobs done, {losses} connection lost", done.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_job_is_done_although_the_server_goes_away() {
        tofu::testing::over_both(|address| {
            let (losses, done) = super::run(address).expect("all is done");
            assert_eq!(done.len(), 7);
            assert!(losses >= 1);
        });
    }
}
