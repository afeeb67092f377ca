//! A server that answers only who knows a token, and a client that tells it.
//!
//! ```text
//! TOFU_TOKEN=... cargo run -p tofu-messaging --example token serve tcp://127.0.0.1:7099
//! TOFU_TOKEN=... cargo run -p tofu-messaging --example token ask tcp://127.0.0.1:7099
//! ```
//!
//! What it takes:
//!
//! - The token is long and random (`openssl rand -hex 32`), and comes from the environment or a file: the
//!   arguments of a process are everybody's to read.
//! - It travels in a text header of the HelloRequest, as it is: whoever is on the path can read it and use
//!   it. Over TCP that wants a tunnel or a network that you trust.
//! - It is compared in constant time, so that how long a refusal takes tells nothing about it.
//! - A peer may post behind its hello without waiting for the answer. So a server keeps a list of the
//!   channels that were let in, and heeds nothing that comes on others.
//! - A HelloRequest is not printed: its `Debug` form shows its headers.

use std::{collections::HashSet, error::Error};

use subtle::ConstantTimeEq;
use tofu::{Address, ChannelGroup, ChannelNumber, Engine, Event, Message, OpCode, Options};

/// The text header that carries it.
pub const TOKEN: &str = "token";

/// Whether this hello knows the token. How long the token is, is no secret.
pub fn knows(hello: &Message, token: &[u8]) -> bool {
    let mut headers = hello.text_headers().iter();
    headers
        .find(|header| header.name == TOKEN.as_bytes())
        .is_some_and(|header| header.value.ct_eq(token).into())
}

/// Who has been let in.
#[derive(Debug)]
pub struct Gate {
    token: Vec<u8>,
    admitted: HashSet<ChannelNumber>,
}

impl Gate {
    /// One that opens to this token.
    pub fn new(token: impl Into<Vec<u8>>) -> Self {
        Self {
            token: token.into(),
            admitted: HashSet::new(),
        }
    }

    /// Lets in who knows the token, and gives only what comes from those. Others are closed at once.
    pub fn filter(&mut self, group: &ChannelGroup, event: Event) -> Option<Event> {
        match event {
            Event::Message(hello) if hello.op_code() == OpCode::HelloRequest => {
                let channel = hello.channel();
                if knows(&hello, &self.token) {
                    self.admitted.insert(channel);
                    return Some(Event::Message(hello));
                }
                // It fails only if the peer has gone by itself.
                let _ = group.post(Message::bye_signal(channel));
                None
            }
            Event::Message(message) => self
                .admitted
                .contains(&message.channel())
                .then_some(Event::Message(message)),
            Event::Closed { channel, .. } => {
                self.admitted.remove(&channel);
                Some(event)
            }
            other => Some(other),
        }
    }
}

/// Serves until the engine shuts down: answers who was let in with what it said.
pub fn serve(group: &mut ChannelGroup, mut gate: Gate) {
    while let Ok(event) = group.recv() {
        if let Some(Event::Message(message)) = gate.filter(group, event)
            && let Ok(reply) = message.into_reply()
        {
            // Who is gone, or does not read, has no use for it.
            let _ = group.post(reply);
        }
    }
}

/// Says hello with the token, asks, and says bye.
///
/// # Errors
/// Why the channel closed before the answer: [`Status::PEER_DISCONNECTED`](tofu::Status::PEER_DISCONNECTED)
/// if the server does not know the token.
pub fn ask(
    group: &mut ChannelGroup,
    address: &Address,
    token: &str,
    question: &str,
) -> Result<Vec<u8>, Box<dyn Error>> {
    let hello = Message::hello_request(address).with_header(TOKEN, token);
    let channel = group.post(hello)?.channel;
    let mut answer = None;
    loop {
        match group.recv()? {
            Event::Message(message) => match message.op_code() {
                OpCode::HelloResponse => {
                    group.post(Message::request(channel).with_body(question))?;
                }
                OpCode::Response => {
                    answer = Some(message.body().to_vec());
                    group.post(Message::bye_request(channel))?;
                }
                _ => {}
            },
            Event::Closed { reason, .. } => return answer.ok_or_else(|| reason.into()),
            _ => {}
        }
    }
}

#[allow(
    dead_code,
    reason = "the test that runs this recipe does not run its program"
)]
fn main() -> Result<(), Box<dyn Error>> {
    let token = std::env::var("TOFU_TOKEN").map_err(|_| "TOFU_TOKEN is not set")?;
    if token.is_empty() {
        return Err("TOFU_TOKEN is empty".into());
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [command, address] = arguments.as_slice() else {
        return Err("serve or ask, and which address?".into());
    };
    let address = address.parse()?;
    let engine = Engine::new(Options::default())?;
    let mut group = engine.group()?;
    match command.as_str() {
        "serve" => {
            group.post(Message::welcome_request(&address))?;
            serve(&mut group, Gate::new(token));
        }
        "ask" => {
            let answer = ask(&mut group, &address, &token, "who is there?")?;
            println!("{}", String::from_utf8_lossy(&answer));
        }
        other => return Err(format!("serve or ask, not {other}").into()),
    }
    Ok(())
}
