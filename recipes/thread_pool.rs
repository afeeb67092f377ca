//! A thread pool: one thread receives, workers answer from theirs, each with a `Poster`.

use std::{
    error::Error,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use tofu::{Address, ChannelGroup, Engine, Event, Message, OpCode, Options, Poster};

const PATIENCE: Duration = Duration::from_secs(20);
const WORKERS: usize = 3;
/// Requests that wait for a worker. Beyond that the receiving thread waits, the pool runs empty, and the peers are
/// pushed back.
const WAITING: usize = 16;

/// What takes long.
type Work = fn(&[u8]) -> Vec<u8>;

/// Takes requests one by one, until there will be no more.
fn work_off(requests: &Mutex<mpsc::Receiver<Message>>, poster: &Poster, work: Work) {
    loop {
        // Whoever has the lock waits for the next request, and the others wait for the lock.
        let next = requests.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(request) = next else {
            return;
        };
        let Ok(answer) = request.reply() else {
            continue;
        };
        if let Err(error) = poster.post(answer.with_body(work(request.body()))) {
            eprintln!("{error}"); // the client has gone, or does not read
        }
    }
}

/// Receives until the engine shuts down, and waits for the workers.
fn serve(mut group: ChannelGroup, work: Work) {
    let (sender, requests) = mpsc::sync_channel(WAITING);
    let requests = Arc::new(Mutex::new(requests));
    let workers: Vec<JoinHandle<()>> = (0..WORKERS)
        .map(|_| {
            let (requests, poster) = (Arc::clone(&requests), group.poster());
            thread::spawn(move || work_off(&requests, &poster, work))
        })
        .collect();
    while let Ok(event) = group.recv() {
        match event {
            Event::Message(message) if message.op_code() == OpCode::Request => {
                if sender.send(message).is_err() {
                    break;
                }
            }
            Event::Message(message) => {
                // Hello and bye take no time.
                if let Ok(answer) = message.reply()
                    && let Err(error) = group.post(answer) { eprintln!("{error}"); }
            }
            _ => {}
        }
    }
    drop(sender);
    for worker in workers {
        if worker.join().is_err() {
            eprintln!("a worker panicked");
        }
    }
}
