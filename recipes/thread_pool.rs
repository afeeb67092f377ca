//! A thread pool: one thread receives, and workers answer from theirs, each with a poster.

use std::{
    collections::HashMap,
    error::Error,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use tofu::{Address, ChannelGroup, Engine, Event, Message, OpCode, Options, Poster};

const PATIENCE: Duration = Duration::from_secs(20);
const WORKERS: usize = 3;
/// Requests that wait for a worker. Beyond them the receiving thread waits, and the peers are pushed back.
const WAITING: usize = 16;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Receives until the engine shuts down.
fn serve(mut group: ChannelGroup, work: impl Fn(&str) -> String + Sync) {
    let (sender, requests) = mpsc::sync_channel(WAITING);
    let requests = Arc::new(Mutex::new(requests));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            let (requests, poster, work) = (Arc::clone(&requests), group.poster(), &work);
            scope.spawn(move || work_off(&requests, &poster, work));
        }
        drop(requests); // it is the workers': without them, sending fails
        while let Ok(event) = group.recv() {
            let Event::Message(message) = event else {
                continue;
            };
            if message.op_code() != OpCode::Request {
                // A hello or a bye takes no time.
                answer(&group.poster(), &message, String::new());
            } else if sender.send(message).is_err() {
                break;
            }
        }
        drop(sender); // ends the workers, when nothing waits any more
    });
}

/// Takes requests one by one, until there will be no more.
fn work_off(
    requests: &Mutex<mpsc::Receiver<Message>>,
    poster: &Poster,
    work: &impl Fn(&str) -> String,
) {
    loop {
        // Who has the lock waits for the next request, and the others wait for the lock.
        let requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
        let next = requests.recv();
        drop(requests);
        let Ok(request) = next else {
            return;
        };
        let question = request.body_text();
        answer(poster, &request, work(&question));
    }
}

fn answer(poster: &Poster, message: &Message, body: String) {
    if let Ok(answer) = message.reply()
        && let Err(error) = poster.post(answer.with_body(body))
    {
        eprintln!("{error}"); // the client has gone, or does not read
    }
}

/// Asks all at once. The answers come in the order in which they are ready, and their ids tell to what.
fn ask(address: &Address, questions: &[&str]) -> Outcome<Vec<String>> {
    let mut group = Engine::new(Options::default())?.group()?;
    let channel = group
        .call(Message::hello_request(address), PATIENCE)?
        .channel();
    let mut open = HashMap::new();
    for question in questions {
        let request = Message::request(channel).with_body(question);
        open.insert(group.post(request)?.id, *question);
    }
    let mut answers = Vec::new();
    while !open.is_empty() {
        match group.recv_timeout(PATIENCE)?.ok_or("no answer")? {
            Event::Message(message) => {
                let question = open.remove(&message.id()).ok_or("an answer to nothing")?;
                let answer = message.body_text();
                answers.push(format!("{question}: {answer}"));
            }
            Event::Closed { reason, .. } => return Err(reason.into()),
            _ => {}
        }
    }
    group.call(Message::bye_request(channel), PATIENCE)?;
    Ok(answers)
}

fn run<W>(address: &Address, work: W, questions: &[&str]) -> Outcome<Vec<String>>
where
    W: Fn(&str) -> String + Sync + Send + 'static,
{
    let engine = Engine::new(Options::default())?;
    let mut server = engine.group()?;
    let welcome = server.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    let serving = thread::spawn(move || serve(server, work));
    let answers = ask(&address, questions)?;
    engine.shutdown(PATIENCE);
    serving.join().map_err(|_| "the server panicked")?;
    Ok(answers)
}

/// What takes long: the more so, the larger the number.
fn count_primes(below: &str) -> String {
    let Ok(below) = below.parse::<u32>() else {
        return "not a number".to_owned();
    };
    let is_prime = |n: &u32| {
        (2..*n)
            .take_while(|d| d * d <= *n)
            .all(|d| !n.is_multiple_of(d))
    };
    let count = (2..below.min(1_000_000)).filter(is_prime).count();
    format!("{count} primes, counted by {:?}", thread::current().id())
}

fn main() -> Outcome<()> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    let questions = ["200000", "1000", "100000", "soy", "10"];
    for answer in run(&address, count_primes, &questions)? {
        println!("{answer}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn the_workers_work_at_the_same_time() {
        tofu::testing::over_both(|address| {
            // Nobody is done before all are at it.
            let all = Barrier::new(WORKERS);
            let work = move |question: &str| {
                all.wait();
                question.to_uppercase()
            };
            let mut answers = run(address, work, &["a", "b", "c"]).expect("answers");
            answers.sort();
            assert_eq!(answers, ["a: A", "b: B", "c: C"]);
        });
    }

    #[test]
    fn what_is_no_number_is_said_so() {
        assert_eq!(count_primes("soy"), "not a number");
        assert!(count_primes("10").starts_with("4 primes"));
    }
}
