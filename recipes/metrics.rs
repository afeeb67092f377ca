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
    let options = Options::default().uds_mode(0o600);
    Ok(Engine::new(options.allow_users([own.uid]))?)
}

/// Answers until the group's engine shuts down.
fn serve(mut group: ChannelGroup, answer: impl Fn() -> String) {
    while let Ok(event) = group.recv() {
        if let Event::Message(message) = event
            && let Ok(mut reply) = message.reply()
        {
            if message.op_code() == OpCode::Request {
                reply = reply.with_body(answer());
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
fn ask(address: &Address) -> Outcome<String> {
    let mut group = Engine::new(Options::default())?.group()?;
    let channel = group
        .call(Message::hello_request(address), PATIENCE)?
        .channel();
    let answer = group.call(Message::request(channel), PATIENCE)?;
    group.call(Message::bye_request(channel), PATIENCE)?;
    Ok(answer.body_text().into())
}

/// What the admin is told after three customers.
fn run(address: &Address) -> Outcome<String> {
    let (engine, admin) = (Engine::new(Options::default())?, admin_engine()?);
    let (shop, address) = listen(&engine, address)?;
    let dir = TemporaryUds::new()?;
    let (office, door) = listen(&admin, &dir.address("admin.sock"))?;

    let told = engine.clone();
    let serving = [
        thread::spawn(move || serve(shop, || "soy milk".to_owned())),
        thread::spawn(move || serve(office, || format!("{:#?}", told.metrics()))),
    ];
    for _ in 0..3 {
        ask(&address)?;
    }
    let metrics = ask(&door)?;
    for engine in [engine, admin] {
        engine.shutdown(PATIENCE);
    }
    for thread in serving {
        thread.join().map_err(|_| "a server panicked")?;
    }
    Ok(metrics)
}

fn main() -> Outcome<()> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    println!("{}", run(&address)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_is_told_of_the_customers_and_not_of_itself() {
        tofu::testing::over_both(|address| {
            let metrics = run(address).expect("told");
            assert!(metrics.contains("accepted: 3,"), "{metrics}");
        });
    }
}
