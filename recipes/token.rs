//! A token in the hello: a server that hears only those who know it.

use std::{
    collections::HashSet, env, error::Error, fmt::Write, fs, io::Read, thread, time::Duration,
};

use subtle::ConstantTimeEq;
use tofu::{Address, ChannelGroup, ChannelNumber, Engine, Event, Message, OpCode, Options};

const PATIENCE: Duration = Duration::from_secs(5);

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The text header that carries it.
const TOKEN: &str = "token";

/// Whether this hello knows the token. How long the token is, is no secret; all else takes the same time.
fn knows(hello: &Message, token: &[u8]) -> bool {
    let told = hello.text_headers().value(TOKEN);
    told.is_some_and(|told| told.ct_eq(token).into())
}

/// Who has been let in.
struct Gate {
    token: Vec<u8>,
    admitted: HashSet<ChannelNumber>,
}

impl Gate {
    fn new(token: impl Into<Vec<u8>>) -> Self {
        Self {
            token: token.into(),
            admitted: HashSet::new(),
        }
    }

    /// Lets in who knows the token, and gives only what comes from those. Others are closed at once.
    fn filter(&mut self, group: &ChannelGroup, event: Event) -> Option<Event> {
        match &event {
            Event::Message(hello) if hello.op_code() == OpCode::HelloRequest => {
                if !knows(hello, &self.token) {
                    // It is refused only if the peer has gone by itself.
                    let _ = group.post(Message::bye_signal(hello.channel()));
                    return None;
                }
                self.admitted.insert(hello.channel());
            }
            // A peer need not wait for the answer to its hello: what it has posted behind a wrong one is here.
            Event::Message(message) if !self.admitted.contains(&message.channel()) => return None,
            Event::Closed { channel, .. } => {
                self.admitted.remove(channel);
            }
            _ => {}
        }
        Some(event)
    }
}

/// Answers who was let in with what it said.
fn serve(mut group: ChannelGroup, mut gate: Gate) {
    while let Ok(event) = group.recv() {
        if let Some(Event::Message(message)) = gate.filter(&group, event)
            && let Ok(reply) = message.into_reply()
            && let Err(error) = group.post(reply)
        {
            eprintln!("{error}"); // the client has gone, or does not read
        }
    }
}

/// Says hello with the token, asks, and says bye.
fn ask(address: &Address, token: &str, question: &str) -> Outcome<Vec<u8>> {
    let mut group = Engine::new(Options::default())?.group()?;
    let hello = Message::hello_request(address).with_header(TOKEN, token);
    let channel = group.call(hello, PATIENCE)?.channel();
    let answer = group.call(Message::request(channel).with_body(question), PATIENCE)?;
    group.call(Message::bye_request(channel), PATIENCE)?;
    Ok(answer.body().to_vec())
}

/// The token from the environment, or a new one that nobody can guess.
fn token() -> Outcome<String> {
    if let Ok(token) = env::var("TOFU_TOKEN") {
        return match token.len() {
            0..16 => Err("TOFU_TOKEN is too short to be a secret".into()),
            _ => Ok(token),
        };
    }
    let mut bytes = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let mut token = String::new();
    for byte in bytes {
        write!(token, "{byte:02x}")?;
    }
    Ok(token)
}

/// Who asks with the token, and who asks with another one.
fn run(address: &Address) -> Outcome<[Outcome<Vec<u8>>; 2]> {
    let token = token()?;
    let engine = Engine::new(Options::default())?;
    let mut server = engine.group()?;
    let welcome = server.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    let gate = Gate::new(token.as_str());
    let serving = thread::spawn(move || serve(server, gate));
    let answers = [&token, "friend"].map(|token| ask(&address, token, "who is there?"));
    engine.shutdown(PATIENCE);
    serving.join().map_err(|_| "the server panicked")?;
    Ok(answers)
}

fn main() -> Outcome<()> {
    let address = env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    let [friend, stranger] = run(&address)?;
    println!("with the token: {}", String::from_utf8_lossy(&friend?));
    match stranger {
        Ok(_) => return Err("a stranger was let in".into()),
        Err(error) => println!("with another: {error}"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tofu::{CallError, Status, testing::over_both};

    use super::*;

    #[test]
    fn who_does_not_know_the_token_is_disconnected_and_hears_it() {
        over_both(|address| {
            let [friend, stranger] = run(address).expect("both have asked");
            assert_eq!(friend.expect("let in"), b"who is there?");
            let error = stranger.expect_err("not let in");
            let Some(CallError::Closed(reason)) = error.downcast_ref() else {
                panic!("it heard {error}");
            };
            assert_eq!(reason.status(), Status::PEER_DISCONNECTED);
        });
    }

    /// It posts behind its hello, and all of that is there when the hello is looked at.
    #[test]
    fn nothing_that_comes_behind_a_wrong_token_is_heeded() {
        over_both(|address| {
            let engine = Engine::new(Options::default()).expect("an engine");
            let (mut server, client) = (engine.group().expect("one"), engine.group().expect("two"));
            let welcome = server.call(Message::welcome_request(address), PATIENCE);
            let address = welcome.expect("listening").address().expect("an address");
            let mut gate = Gate::new("the secret");
            for (token, heeded) in [("the secret", 2), ("the secre", 0), ("", 0)] {
                let mut hello = Message::hello_request(&address);
                // One that says none at all.
                if !token.is_empty() {
                    hello = hello.with_header(TOKEN, token);
                }
                let channel = client.post(hello).expect("posted").channel;
                let order = Message::request(channel).with_body("delete it");
                client.post(order).expect("posted");
                let events = [(); 2].map(|()| server.recv_timeout(PATIENCE));
                let events = events.map(|event| event.expect("receiving").expect("in time"));
                let passed = events
                    .into_iter()
                    .filter_map(|event| gate.filter(&server, event));
                assert_eq!(passed.count(), heeded, "{token}");
                if heeded == 0 {
                    let closed = server.recv_timeout(PATIENCE);
                    assert!(
                        matches!(closed, Ok(Some(Event::Closed { .. }))),
                        "{closed:?}"
                    );
                }
            }
        });
    }

    #[test]
    fn a_token_is_known_by_all_of_its_bytes() {
        let address = "tcp://127.0.0.1:1".parse().expect("an address");
        let hello = |token: &str| Message::hello_request(&address).with_header(TOKEN, token);
        assert!(knows(&hello("secret"), b"secret"));
        for wrong in ["secre", "secrets", "secreT", "x"] {
            assert!(!knows(&hello(wrong), b"secret"), "{wrong}");
        }
        assert!(!knows(&Message::hello_request(&address), b""));
        // The first one counts.
        assert!(!knows(
            &hello("wrong").with_header(TOKEN, "secret"),
            b"secret"
        ));
    }
}
