//! Callbacks: whoever likes to be called, and not to write a loop, builds them on top of it.

use std::{collections::HashMap, error::Error, sync::mpsc, thread, time::Duration};

use tofu::{Address, ChannelGroup, ChannelNumber, Engine, Event, Message, OpCode, Options, Reason};

const PATIENCE: Duration = Duration::from_secs(5);

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type OnMessage<S> = fn(&mut S, &ChannelGroup, &Message) -> Outcome;
type OnClosed<S> = fn(&mut S, ChannelNumber, Reason);

/// What to call for what happens. All get the same state, so that they need not share it among themselves.
struct Callbacks<S> {
    on_message: HashMap<OpCode, OnMessage<S>>,
    on_closed: OnClosed<S>,
}

impl<S> Callbacks<S> {
    fn new(on_closed: OnClosed<S>) -> Self {
        let on_message = HashMap::new();
        Self {
            on_message,
            on_closed,
        }
    }

    fn on(mut self, op_code: OpCode, call: OnMessage<S>) -> Self {
        self.on_message.insert(op_code, call);
        self
    }

    /// Calls until the engine shuts down. What goes wrong in one call does not end the others.
    fn run(&self, group: &mut ChannelGroup, state: &mut S) {
        while let Ok(event) = group.recv() {
            match event {
                Event::Message(message) => {
                    if let Some(call) = self.on_message.get(&message.op_code())
                        && let Err(error) = call(state, group, &message)
                    {
                        eprintln!("{message:?}: {error}");
                    }
                }
                Event::Closed {
                    channel, reason, ..
                } => (self.on_closed)(state, channel, reason),
                _ => {}
            }
        }
    }
}

/// The sum of each client, and where to tell it in the end.
struct Tills {
    open: HashMap<ChannelNumber, u64>,
    closed: mpsc::Sender<String>,
}

fn answer(_: &mut Tills, group: &ChannelGroup, message: &Message) -> Outcome {
    group.post(message.reply()?)?;
    Ok(())
}

fn pay(tills: &mut Tills, _: &ChannelGroup, message: &Message) -> Outcome {
    let amount: u64 = message.body_text().parse()?;
    let till = tills.open.entry(message.channel()).or_default();
    *till = till.checked_add(amount).ok_or("more than a till holds")?;
    Ok(())
}

fn sum(tills: &mut Tills, group: &ChannelGroup, message: &Message) -> Outcome {
    let sum = tills.open.get(&message.channel()).unwrap_or(&0);
    group.post(message.reply()?.with_body(sum.to_string()))?;
    Ok(())
}

fn close(tills: &mut Tills, channel: ChannelNumber, reason: Reason) {
    if let Some(sum) = tills.open.remove(&channel) {
        let _ = tills.closed.send(format!("{sum}, {reason}")); // nobody may want to know
    }
}

/// A client that pays, not always in numbers: the sum that it is told, and how the server closed its till.
fn run(address: &Address) -> Outcome<(String, String)> {
    let engine = Engine::new(Options::default())?;
    let mut server = engine.group()?;
    let welcome = server.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    let (closed, closings) = mpsc::channel();
    let open = HashMap::new();
    let mut tills = Tills { open, closed };
    let callbacks = Callbacks::new(close)
        .on(OpCode::HelloRequest, answer)
        .on(OpCode::Signal, pay)
        .on(OpCode::Request, sum)
        .on(OpCode::ByeRequest, answer);
    let serving = thread::spawn(move || callbacks.run(&mut server, &mut tills));

    let mut client = engine.group()?;
    let channel = client
        .call(Message::hello_request(&address), PATIENCE)?
        .channel();
    for amount in ["30", "a lot", "12"] {
        client.post(Message::signal(channel).with_body(amount))?;
    }
    let sum = client.call(Message::request(channel), PATIENCE)?;
    client.call(Message::bye_request(channel), PATIENCE)?;
    let closing = closings.recv_timeout(PATIENCE)?;
    engine.shutdown(PATIENCE);
    serving.join().map_err(|_| "the server panicked")?;
    Ok((sum.body_text().into(), closing))
}

fn main() -> Outcome {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    let (sum, closing) = run(&address)?;
    println!("the sum is {sum}");
    println!("the till was closed: {closing}");
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_event_has_its_call_and_an_error_in_one_ends_no_other() {
        tofu::testing::over_both(|address| {
            let (sum, closing) = super::run(address).expect("a sum and an end");
            assert_eq!((&*sum, &*closing), ("42", "42, the channel is closed"));
        });
    }
}
