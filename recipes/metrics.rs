//! An admin channel: whoever may, asks over a Unix domain socket what the engine has counted.

use std::{error::Error, thread, time::Duration};

use tofu::{
    Address, ChannelGroup, Credentials, Engine, Event, Message, OpCode, Options,
    testing::TemporaryUds,
};

const PATIENCE: Duration = Duration::from_secs(5);

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The engine of the admin channel. It is not the one that it tells about, so that it can tell even when that one
/// has no message left, and it lets in nobody but the user of this process.
fn admin_engine() -> Outcome<Engine> {
    let own = Credentials::own().ok_or("this system does not tell who connects")?;
    Ok(Engine::new(
        Options::default().uds_mode(0o600).allow_users([own.uid]),
    )?)
}

/// What a question of the admin is answered with.
fn tell(question: &[u8], engine: &Engine) -> String {
    let metrics = engine.metrics();
    match question {
        b"metrics" => format!("{metrics:#?}"),
        b"health" if metrics.pool_empty > 0 => {
            format!("the pool was empty {} times", metrics.pool_empty)
        }
        b"health" => "fine".to_owned(),
        _ => "ask for metrics or health".to_owned(),
    }
}

/// Answers until the group's engine shuts down.
fn serve(mut group: ChannelGroup, answer: impl Fn(&[u8]) -> String) {
    while let Ok(event) = group.recv() {
        if let Event::Message(message) = event
            && let Ok(mut reply) = message.reply()
        {
            if message.op_code() == OpCode::Request {
                reply = reply.with_body(answer(message.body()));
            }
            if let Err(error) = group.post(reply) {
                eprintln!("{error}"); // the client has gone, or does not read
            }
        }
    }
}

fn listen(engine: &Engine, address: &Address) -> Outcome<(ChannelGroup, Address)> {
    let mut group = engine.group()?;
    let welcome = group.call(Message::welcome_request(address), PATIENCE)?;
    Ok((group, welcome.address().ok_or("no address")?))
}

/// Asks once, and says bye.
fn ask(address: &Address, question: &str) -> Outcome<String> {
    let mut group = Engine::new(Options::default())?.group()?;
    let channel = group
        .call(Message::hello_request(address), PATIENCE)?
        .channel();
    let answer = group.call(Message::request(channel).with_body(question), PATIENCE)?;
    group.call(Message::bye_request(channel), PATIENCE)?;
    Ok(String::from_utf8(answer.body().to_vec())?)
}

/// Three customers, and the admin.
fn run(address: &Address) -> Outcome<[String; 2]> {
    let (engine, admin) = (Engine::new(Options::default())?, admin_engine()?);
    let (shop, address) = listen(&engine, address)?;
    let dir = TemporaryUds::new()?;
    let (office, door) = listen(&admin, &dir.address("admin.sock"))?;

    let told = engine.clone();
    let serving = [
        thread::spawn(move || serve(shop, |_| "soy milk, please wait".to_owned())),
        thread::spawn(move || serve(office, |question| tell(question, &told))),
    ];
    for _ in 0..3 {
        ask(&address, "milk?")?;
    }
    let answers = [ask(&door, "metrics")?, ask(&door, "health")?];
    for engine in [engine, admin] {
        engine.shutdown(PATIENCE);
    }
    for thread in serving {
        thread.join().map_err(|_| "a server panicked")?;
    }
    Ok(answers)
}

fn main() -> Outcome<()> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    let [metrics, health] = run(&address)?;
    println!("{metrics}\n{health}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_is_told_of_the_customers_and_not_of_itself() {
        tofu::testing::over_both(|address| {
            let [metrics, health] = run(address).expect("told");
            assert!(metrics.contains("accepted: 3,"), "{metrics}");
            assert_eq!(health, "fine");
        });
    }
}
