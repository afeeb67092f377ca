//! A process that was stopped, or starved, for longer than its timeouts does not blame its peers for that:
//! what has come meanwhile counts as having come in time.

#![cfg(target_os = "linux")]

mod support;

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use support::*;
use tofu::{Address, ChannelNumber, Event, Message, OpCode, Options};

/// The timeouts of the server that is stopped.
const SHORT: Duration = Duration::from_millis(300);

/// Set in the process that is to be stopped: the address it listens on.
const SERVE: &str = "TOFU_TEST_SERVE_AT";
const TEST: &str = "a_stopped_process_does_not_blame_its_peers";

/// Tells on standard output what it hears.
fn serve(address: &Address) -> ! {
    let options = Options::default()
        .hello_timeout(SHORT)
        .frame_timeout(SHORT)
        .bye_timeout(SHORT);
    let mut group = group_of(options);
    let (address, _) = listen(&mut group, address);
    let tell = |what: String| {
        println!("> {what}");
        std::io::stdout().flush().expect("told");
    };
    tell(format!("{address}"));
    loop {
        match next(&mut group) {
            Event::Message(message) => {
                tell(format!("{:?} {}", message.op_code(), message.body().len()));
                if message.body() == b"bye" {
                    group
                        .post(Message::bye_request(message.channel()))
                        .expect("posted");
                }
            }
            Event::Closed { reason, .. } => tell(format!("{:?}", reason.status())),
            other => panic!("not due: {other:?}"),
        }
    }
}

/// The process, and what it tells.
struct Server {
    child: Child,
    told: mpsc::Receiver<String>,
}

impl Server {
    fn start(address: &Address) -> (Self, Address) {
        let mut child = Command::new(env::current_exe().expect("a program"))
            .args(["--exact", TEST, "--nocapture"])
            .env(SERVE, address.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let out = child.stdout.take().expect("piped");
        let (sender, told) = mpsc::channel();
        thread::spawn(move || listen_to(out, &sender));
        let server = Self { child, told };
        let address = server.hears().parse().expect("an address");
        (server, address)
    }

    fn hears(&self) -> String {
        self.told
            .recv_timeout(WATCHDOG)
            .expect("before the watchdog")
    }

    fn signal(&self, name: &str, state: char) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status();
        assert!(sent.expect("kill is there").success());
        eventually("it is in this state", || {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).expect("it lives");
            let at = stat.rfind(')').expect("a name") + 2;
            (stat.as_bytes()[at] == b'T') == (state == 'T')
        });
    }

    /// Stops it for longer than its timeouts, while this is done.
    fn stopped(&self, meanwhile: impl FnOnce()) {
        self.signal("-STOP", 'T');
        meanwhile();
        // Nothing tells that time has passed but the time.
        assert!(matches!(
            group_of(Options::default()).recv_timeout(SHORT * 2),
            Ok(None)
        ));
        self.signal("-CONT", 'S');
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have failed by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen_to(out: ChildStdout, sender: &mpsc::Sender<String>) {
    for line in BufReader::new(out).lines() {
        let Ok(line) = line else { return };
        // The test harness speaks as well, and perhaps on the same line.
        if let Some((_, told)) = line.split_once("> ")
            && sender.send(told.to_owned()).is_err()
        {
            return;
        }
    }
}

#[test]
fn a_stopped_process_does_not_blame_its_peers() {
    if let Ok(address) = env::var(SERVE) {
        serve(&address.parse().expect("an address"));
    }
    let dir = tofu::testing::TemporaryUds::new().unwrap();
    for address in [loopback(), dir.address("stopped.sock")] {
        let (server, address) = Server::start(&address);
        let hello = frame(&Message::hello_request(&address).with_id(1));

        // A hello: the first connection says that the second one has been accepted as well.
        let mut late = Raw::connect(&address);
        late.write(&hello[..20]);
        let mut raw = Raw::hello(&address);
        assert_eq!(server.hears(), "HelloRequest 0");
        server.stopped(|| late.write(&hello[20..]));
        assert_eq!(server.hears(), "HelloRequest 0");

        // A frame: what is whole says that the half behind it has been read, too.
        let one = frame(&Message::signal(ChannelNumber::new(1)).with_body([1; 10]));
        let two = frame(&Message::signal(ChannelNumber::new(1)).with_body([2; 2_000]));
        let (half, rest) = two.split_at(1_000);
        raw.write(&[&one, half].concat());
        assert_eq!(server.hears(), "Signal 10");
        server.stopped(|| raw.write(rest));
        assert_eq!(server.hears(), "Signal 2000");

        // A bye, which is on its way when the peer hears it.
        raw.send(&Message::signal(ChannelNumber::new(1)).with_body("bye"));
        assert_eq!(server.hears(), "Signal 3");
        let bye = raw.recv();
        assert_eq!(bye.op_code(), OpCode::ByeRequest);
        server.stopped(|| raw.send(&bye.reply().expect("an answer")));
        assert_eq!(server.hears(), "ByeResponse 0");
        assert!(server.hears().to_lowercase().contains("channel_closed"));
    }
}
