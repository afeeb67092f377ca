//! A long job tells how far it is: signals with the id of the request, N of M, and then the answer.

use std::{error::Error, thread, time::Duration};

use tofu::{Address, ChannelGroup, Engine, Event, Message, OpCode, Options};

const PATIENCE: Duration = Duration::from_secs(5);
const STEPS: u32 = 5;

/// A job in steps: the sum of the squares up to 5,000.
fn work(group: &mut ChannelGroup, request: &Message) -> Result<(), Box<dyn Error>> {
    let mut sum = 0;
    for step in 1..=STEPS {
        sum += (1_000 * u64::from(step - 1) + 1..=1_000 * u64::from(step))
            .map(|number| number * number)
            .sum::<u64>();
        let progress = Message::signal(request.channel())
            .with_id(request.id())
            .with_header("progress", format!("{step} of {STEPS}"));
        if let Err(error) = group.post(progress) {
            // Nobody wants the answer of a channel that is over. If there is only no room, go on.
            if error.refusal().is_channel_over() {
                return Err(error.into());
            }
        }
    }
    group.post_timeout(request.reply()?.with_body(sum.to_string()), PATIENCE)?;
    Ok(())
}

/// Works until the engine shuts down.
fn serve(mut group: ChannelGroup) {
    while let Ok(event) = group.recv() {
        let Event::Message(message) = event else {
            continue;
        };
        let outcome = match message.reply() {
            _ if message.op_code() == OpCode::Request => work(&mut group, &message),
            Ok(answer) => group.post(answer).map(drop).map_err(Into::into),
            Err(_) => continue,
        };
        if let Err(error) = outcome {
            eprintln!("{error}"); // the client has gone, or does not read
        }
    }
}

/// Waits for the answer, and tells how far it is. Each sign of life gives the server new time.
fn call(
    group: &mut ChannelGroup,
    request: Message,
    mut told: impl FnMut(&str),
) -> Result<String, Box<dyn Error>> {
    let id = group.post(request)?.id;
    loop {
        match group.recv_timeout(PATIENCE)?.ok_or("nothing came")? {
            Event::Message(message) if message.id() == id => match message.header("progress") {
                Some(progress) => told(progress),
                None => return Ok(String::from_utf8(message.body().to_vec())?),
            },
            Event::Returned { reason, .. } | Event::Closed { reason, .. } => {
                return Err(reason.into());
            }
            other => println!("meanwhile: {other:?}"),
        }
    }
}

fn run(address: &Address, told: impl FnMut(&str)) -> Result<String, Box<dyn Error>> {
    let engine = Engine::new(Options::default())?;
    let (mut server, mut client) = (engine.group()?, engine.group()?);
    let welcome = server.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    let serving = thread::spawn(move || serve(server));
    let hello = client.call(Message::hello_request(&address), PATIENCE)?;
    let sum = call(&mut client, Message::request(hello.channel()), told);
    engine.shutdown(PATIENCE); // says bye
    serving.join().map_err(|_| "the server panicked")?;
    sum
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    let sum = run(&address, |progress| println!("{progress} steps are done"))?;
    println!("the sum is {sum}");
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_step_is_told_before_the_answer() {
        tofu::testing::over_both(|address| {
            let mut steps = Vec::new();
            let sum = super::run(address, |progress| steps.push(progress.to_owned()));
            assert_eq!(sum.expect("an answer"), "41679167500");
            assert_eq!(steps, ["1 of 5", "2 of 5", "3 of 5", "4 of 5", "5 of 5"]);
        });
    }
}
