//! A service is a trait with one function, from a request to an answer. What all services have in common (hellos,
//! byes, errors, clients that go) is written once. Here an echo is served, to many clients on threads of their own.

use std::{
    error::Error,
    thread::{self, ScopedJoinHandle},
    time::Duration,
};

use tofu::{Address, ChannelGroup, Engine, Event, Message, OpCode, Options};

const PATIENCE: Duration = Duration::from_secs(5);

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What a server does for its clients.
trait Service {
    /// The body of the answer, or why there is none.
    fn answer(&mut self, request: &Message) -> Result<Vec<u8>, String>;
}

/// Says what was said, and counts.
#[derive(Default)]
struct Echo {
    served: usize,
}

impl Service for Echo {
    fn answer(&mut self, request: &Message) -> Result<Vec<u8>, String> {
        if request.body().is_empty() {
            return Err("nothing was said".to_owned());
        }
        self.served += 1;
        Ok(request.body().to_vec())
    }
}

/// Serves until the engine shuts down, and gives the service back.
fn serve<S: Service>(mut group: ChannelGroup, mut service: S) -> S {
    while let Ok(event) = group.recv() {
        let Event::Message(message) = event else {
            continue;
        };
        let Ok(mut answer) = message.reply() else {
            continue;
        };
        if message.op_code() == OpCode::Request {
            answer = match service.answer(&message) {
                Ok(body) => answer.with_body(body),
                Err(error) => answer.with_header("error", error),
            };
        }
        if let Err(error) = group.post(answer) {
            eprintln!("{error}"); // the client has gone, or does not read
        }
    }
    service
}

/// A client that says each of these words, and returns how many came back.
fn talk(address: &Address, words: &[&str]) -> Outcome<usize> {
    let mut group = Engine::new(Options::default())?.group()?;
    let channel = group
        .call(Message::hello_request(address), PATIENCE)?
        .channel();
    let mut heard = 0;
    for word in words {
        let answer = group.call(Message::request(channel).with_body(word), PATIENCE)?;
        match answer.header("error") {
            Some(error) => println!("{word:?}: {error}"),
            None if answer.body() == word.as_bytes() => heard += 1,
            None => return Err(format!("said {word:?}, heard {answer:?}").into()),
        }
    }
    group.call(Message::bye_request(channel), PATIENCE)?;
    Ok(heard)
}

/// Words that all clients have heard, and words that the service has said.
fn run(address: &Address, clients: usize, words: &[&str]) -> Outcome<(usize, usize)> {
    let engine = Engine::new(Options::default())?;
    let mut server = engine.group()?;
    let welcome = server.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    let serving = thread::spawn(move || serve(server, Echo::default()));
    let heard: Vec<_> = thread::scope(|scope| {
        let client = || scope.spawn(|| talk(&address, words));
        let talking: Vec<_> = (0..clients).map(|_| client()).collect();
        talking.into_iter().map(ScopedJoinHandle::join).collect()
    });
    engine.shutdown(PATIENCE);
    let echo = serving.join().map_err(|_| "the server panicked")?;
    let mut sum = 0;
    for heard in heard {
        sum += heard.map_err(|_| "a client panicked")??;
    }
    Ok((sum, echo.served))
}

fn main() -> Outcome<()> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    let (heard, said) = run(&address, 5, &["hello", "", "echo"])?;
    println!("5 clients heard {heard} words, of {said}");
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_client_hears_what_it_said() {
        tofu::testing::over_both(|address| {
            let outcome = super::run(address, 8, &["one", "", "two", "three"]);
            assert_eq!(outcome.expect("all are answered"), (24, 24));
        });
    }
}
