//! A file of any size, over `more`: read as there is room to send, and written as it comes.

use std::{
    env,
    error::Error,
    fs::{self, File},
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

use tofu::{Address, ChannelGroup, Engine, Event, Message, OpCode, Options, helpers::stream};

const PATIENCE: Duration = Duration::from_secs(10);

/// Stores what comes at `path`, until the engine shuts down.
fn serve(mut group: ChannelGroup, path: &Path) {
    while let Ok(event) = group.recv() {
        let Event::Message(message) = event else {
            continue;
        };
        let channel = message.channel();
        let answer = match message.op_code() {
            OpCode::Request => store(&mut group, message, path),
            _ => message.reply().map_err(Into::into),
        };
        let posted = answer.and_then(|answer| Ok(group.post(answer)?));
        if let Err(error) = posted {
            eprintln!("{error}"); // such as a client that is gone in the middle
            // Whatever else comes of the file is not to be taken for another one.
            let _ = group.post(Message::bye_signal(channel));
        }
    }
}

/// Stores a file, and says how long it is. Until it is whole, it has another name.
fn store(group: &mut ChannelGroup, first: Message, path: &Path) -> Result<Message, Box<dyn Error>> {
    let partial = path.with_extension("part");
    let received = stream::receive_all(group, first, File::create(&partial)?, PATIENCE)?;
    fs::rename(&partial, path)?;
    let answer = received.last.reply()?;
    Ok(answer.with_body(received.bytes.to_string()))
}

/// Sends a file, and returns once it is stored.
fn send(address: &Address, path: &Path) -> Result<u64, Box<dyn Error>> {
    let engine = Engine::new(Options::default())?;
    let mut group = engine.group()?;
    let hello = group.call(Message::hello_request(address), PATIENCE)?;
    let channel = hello.channel();
    let first = Message::request(channel);
    let sent = stream::send_all(&mut group, first, File::open(path)?, PATIENCE)?;
    loop {
        // All was posted. That it has arrived, only the answer says.
        match group.recv_timeout(PATIENCE)?.ok_or("no answer")? {
            Event::Message(answer) if answer.id() == sent.id => {
                group.call(Message::bye_request(channel), PATIENCE)?;
                return Ok(answer.body_text().parse()?);
            }
            Event::Closed { reason, .. } => return Err(reason.into()),
            _ => {}
        }
    }
}

fn run(address: &Address, from: &Path, to: PathBuf) -> Result<u64, Box<dyn Error>> {
    let engine = Engine::new(Options::default())?;
    let mut server = engine.group()?;
    let welcome = server.call(Message::welcome_request(address), PATIENCE)?;
    let address = welcome.address().ok_or("no address")?;
    let serving = thread::spawn(move || serve(server, &to));
    let bytes = send(&address, from);
    engine.shutdown(PATIENCE);
    serving.join().map_err(|_| "the server panicked")?;
    bytes
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1);
    let address = address.as_deref().unwrap_or("tcp://127.0.0.1:0").parse()?;
    // A file that is there and not small: this program.
    let from = env::current_exe()?;
    let to = env::temp_dir().join(format!("tofu-file-transfer-{}", process::id()));
    let bytes = run(&address, &from, to.clone())?;
    println!("{bytes} bytes are in {}", to.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{env, fs, io::Read};

    use tofu::testing::TemporaryUds;

    #[test]
    fn the_copy_is_equal() {
        let dir = TemporaryUds::new().expect("a directory");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        // Three times what a queue holds, and no two parts of it are the same.
        let mut content = Vec::new();
        let program = fs::File::open(env::current_exe().expect("a program"));
        let program = program.expect("readable").take(24 << 20);
        let len = program
            .chain(&vec![7; 1 << 20][..])
            .read_to_end(&mut content);
        let len = len.expect("read") as u64;
        fs::write(&from, &content).expect("written");
        tofu::testing::over_both(|address| {
            let copied = super::run(address, &from, to.clone());
            assert_eq!(copied.expect("stored"), len);
            assert!(fs::read(&to).expect("the copy") == content);
            assert!(!to.with_extension("part").exists());
        });
    }
}
