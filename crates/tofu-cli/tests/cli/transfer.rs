//! `send` and `receive`: what is stored, under which name, and what is said when it is not.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;
use tofu::{ChannelGroup, ChannelNumber, Engine, Event, Message, OpCode, Options, helpers::stream};

use crate::tool::{
    PATIENCE, Running, command, finish, object, run, server, signal, tofucat, uds_address, within,
};

const TCP: &str = "tcp|127.0.0.1|0";
/// More than what a queue and the buffers of the system hold.
const LONG: usize = 14 << 20;
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn bytes(len: usize) -> Vec<u8> {
    let words = (0_u32..).flat_map(|it| it.wrapping_mul(0x9E37_79B9).to_be_bytes());
    words.take(len).collect()
}

/// A directory to send from and one to receive into.
struct Dirs {
    from: TempDir,
    into: TempDir,
}

impl Dirs {
    fn new() -> Self {
        Self {
            from: tempfile::tempdir().unwrap(),
            into: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.from.path().join(name);
        fs::write(&path, content).unwrap();
        path.into_os_string().into_string().unwrap()
    }

    fn fifo(&self) -> PathBuf {
        let path = self.from.path().join("fifo");
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        path
    }

    fn receive(&self, options: &[&str]) -> (Running, String) {
        self.receive_on(TCP, options)
    }

    fn receive_on(&self, address: &str, options: &[&str]) -> (Running, String) {
        let dir = self.into.path().to_str().unwrap();
        let always = ["receive", address, "--dir", dir];
        server(always.iter().chain(options))
    }

    /// What is stored, in the order of the names.
    fn stored(&self) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = names(self.into.path())
            .into_iter()
            .map(|name| {
                let content = fs::read(self.into.path().join(&name)).unwrap();
                (name, content)
            })
            .collect();
        files.sort();
        files
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// Waits until a file of at least one byte is on its way into this directory.
fn until_begun(dir: &Path) {
    let end = Instant::now() + PATIENCE;
    let has_begun = || {
        names(dir).iter().any(|name| {
            let len = fs::metadata(dir.join(name)).map(|it| it.len());
            len.is_ok_and(|len| len > 0)
        })
    };
    while !has_begun() {
        assert!(Instant::now() < end, "nothing comes");
        thread::yield_now();
    }
}

/// A peer of the test's own, which speaks as it likes.
struct Peer {
    group: ChannelGroup,
    channel: ChannelNumber,
}

impl Peer {
    fn new(address: &str) -> Self {
        let engine = Engine::new(Options::default()).unwrap();
        let mut group = engine.group().unwrap();
        let hello = Message::hello_request(&address.parse().unwrap());
        let channel = group.call(hello, PATIENCE).unwrap().channel();
        Self { group, channel }
    }

    fn part(&self, id: u64) -> Message {
        Message::request(self.channel).with_id(id)
    }

    /// Posts a message and gives the answer.
    fn answer(&mut self, message: Message) -> Message {
        let id = self.group.post(message).unwrap().id;
        match self.group.recv_timeout(PATIENCE).unwrap() {
            Some(Event::Message(answer)) => {
                assert_eq!((answer.op_code(), answer.id()), (OpCode::Response, id));
                answer
            }
            other => panic!("an answer was due, not {other:?}"),
        }
    }

    #[track_caller]
    fn is_refused(&mut self, message: Message, why: &str) {
        let answer = self.answer(message);
        let told = answer.header("error").expect("it is refused");
        assert!(told.contains(why), "{told}");
        assert_eq!(answer.header("received-sha256"), None);
    }
}

#[test]
fn files_of_any_length_arrive_whole() {
    let sockets = tempfile::tempdir().unwrap();
    for listen_on in [TCP, &uds_address(sockets.path())] {
        let dirs = Dirs::new();
        let (receive, address) = dirs.receive_on(listen_on, &["--max-byes", "1"]);
        let expected = [
            ("0 empty", bytes(0)),
            ("1", bytes(1)),
            ("2 part", bytes(65_535)),
            ("3 naïve.txt", bytes(65_536)),
            ("4 long", bytes(LONG)),
        ];
        let mut arguments = vec!["send".to_owned()];
        arguments.extend(expected.iter().map(|(name, it)| dirs.file(name, it)));
        arguments.push(address);
        let sent = tofucat(arguments);
        sent.expect_success();
        let received = receive.end();
        received.expect_success();
        assert_eq!(sent.text().replace("sent", "received"), received.text());
        let first = format!("sent \"0 empty\" bytes=0 sha256={EMPTY_SHA256}");
        assert_eq!(sent.text().lines().next(), Some(&*first));

        let expected = expected.map(|(name, it)| (name.to_owned(), it));
        assert!(dirs.stored() == expected, "{:?}", names(dirs.into.path()));
        let usual = dirs.from.path().join("1").metadata().unwrap().permissions();
        let stored = dirs.into.path().join("1").metadata().unwrap().permissions();
        assert_eq!(stored.mode(), usual.mode(), "as any new file");
    }
}

#[test]
fn as_json_each_file_is_a_line() {
    let dirs = Dirs::new();
    let (dir, file) = (dirs.into.path().to_str().unwrap(), dirs.file("a", b"abc"));
    let receive = Running::start(["--json", "receive", TCP, "--out", dir, "--max-byes", "1"]);
    let address = receive.object()["address"].as_str().unwrap().to_owned();
    let sent = tofucat(["--json", "send", &address, "--file", &file]);
    sent.expect_success();
    let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let told = format!("\"name\":\"a\",\"bytes\":3,\"sha256\":\"{sha256}\"}}");
    assert_eq!(sent.text(), format!("{{\"event\":\"sent\",{told}\n"));
    let received = receive.line();
    let channel = object(&received)["channel"].clone();
    let expected = format!("{{\"event\":\"received\",\"channel\":{channel},{told}");
    assert_eq!(received, expected);
    receive.end().expect_success();

    let receive = Running::start(["--json", "receive", TCP, "--dir", dir, "--max-byes", "1"]);
    let address = receive.object()["address"].as_str().unwrap().to_owned();
    tofucat(["--json", "send", &file, &address]).expect_error(&file, "already");
    let failed = receive.object();
    assert_eq!(
        (&failed["event"], &failed["name"]),
        (&json!("failed"), &json!("a"))
    );
    assert_eq!(failed["bytes"], 3);
    assert_eq!(failed["reason"], "there is such a file already");
    receive.end().expect_code(1);
}

#[test]
fn quiet_says_nothing() {
    let dirs = Dirs::new();
    let (receive, address) = dirs.receive(&["--quiet", "--max-byes", "1"]);
    let sent = tofucat(["send", "--quiet", &dirs.file("a", b"abc"), &address]);
    sent.expect_success();
    let received = receive.end();
    received.expect_success();
    assert_eq!((sent.text(), received.text()), ("", ""));
    assert_eq!(dirs.stored(), [("a".to_owned(), b"abc".to_vec())]);
}

#[test]
fn a_file_that_exists_is_kept_unless_told_otherwise() {
    let dirs = Dirs::new();
    fs::write(dirs.into.path().join("a"), "old").unwrap();
    let (a, b) = (dirs.file("a", &bytes(LONG)), dirs.file("b", b"new"));
    let (receive, address) = dirs.receive(&["--max-byes", "1"]);
    let sent = tofucat(["send", &a, &b, &address]);
    sent.expect_error(&a, "the receiver says \"there is such a file already\"");
    assert!(sent.text().starts_with("sent \"b\" bytes=3 "), "{sent:?}");
    let received = receive.end();
    received.expect_error("receive \"a\"", "there is such a file already");
    let stored = |content: &[u8]| {
        assert_eq!(
            dirs.stored(),
            [
                ("a".to_owned(), content.to_vec()),
                ("b".to_owned(), b"new".to_vec())
            ]
        );
    };
    stored(b"old");

    let (receive, address) = dirs.receive(&["--max-byes", "1", "--overwrite"]);
    let a = dirs.file("a", b"newer");
    tofucat(["send", &a, &address]).expect_success();
    receive.end().expect_success();
    stored(b"newer");
}

#[test]
fn a_link_is_not_followed() {
    let dirs = Dirs::new();
    let outside = dirs.from.path().join("outside");
    std::os::unix::fs::symlink(&outside, dirs.into.path().join("a")).unwrap();
    let (_receive, address) = dirs.receive(&[]);
    let a = dirs.file("a", b"abc");
    tofucat(["send", &a, &address]).expect_error(&a, "already");
    let (_receive, address) = dirs.receive(&["--overwrite"]);
    tofucat(["send", &a, &address]).expect_success();
    assert!(!outside.exists());
    assert_eq!(dirs.stored(), [("a".to_owned(), b"abc".to_vec())]);
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_sent() {
    let dirs = Dirs::new();
    let (_receive, address) = dirs.receive(&[]);
    let missing = dirs.from.path().join("missing");
    let missing = missing.to_str().unwrap();
    let dir = dirs.into.path().to_str().unwrap();
    let sent = tofucat(["send", missing, dir, &dirs.file("a", b"abc"), &address]);
    sent.expect_error(missing, "No such file");
    let second = sent.stderr.lines().nth(1);
    assert_eq!(second, Some(&*format!("tofucat: {dir}: it is a directory")));
    assert!(sent.text().starts_with("sent \"a\""));
    assert_eq!(names(dirs.into.path()), ["a"]);
    for wrong in ["..", "/", "a\nb"] {
        tofucat(["send", wrong, &address]).expect_code(1);
    }
}

#[test]
fn wrong_usage_is_status_2() {
    tofucat(["send"]).expect_code(2);
    tofucat(["send", "tcp|127.0.0.1|1"]).expect_code(2);
    tofucat(["send", "file", "no address"]).expect_code(2);
    tofucat(["receive"]).expect_code(2);
    let dirs = Dirs::new();
    let file = dirs.file("a", b"");
    let missing = dirs.into.path().join("missing");
    let missing = missing.to_str().unwrap();
    tofucat(["receive", TCP, "--dir", missing]).expect_error(missing, "No such file");
    tofucat(["receive", TCP, "--dir", &file]).expect_error(&file, "not a directory");
}

#[test]
fn no_name_leads_out_of_the_directory() {
    let dirs = Dirs::new();
    let (receive, address) = dirs.receive(&[]);
    let mut peer = Peer::new(&address);
    let outside = format!("{}/x", dirs.from.path().display());
    for (id, name) in [
        "..",
        "../x",
        "/x",
        &outside,
        "a/b",
        ".",
        "a\u{1b}[2J",
        "a\0",
    ]
    .into_iter()
    .enumerate()
    {
        let part = peer.part(id as u64 + 1);
        let part = part.with_header("file-name", name).with_body("x");
        peer.is_refused(part.clone().with_more(true), "the name");
        // The rest of it is skipped, without another word.
        peer.group.post(part).unwrap();
        let line = receive.error_line();
        assert!(line.starts_with("tofucat: receive \""), "{line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
    peer.is_refused(peer.part(100), "no text header file-name");
    assert!(names(dirs.into.path()).is_empty());
    assert!(names(dirs.from.path()).is_empty());
}

#[test]
fn a_wrong_hash_is_found() {
    let dirs = Dirs::new();
    let (receive, address) = dirs.receive(&[]);
    let mut peer = Peer::new(&address);
    let file = peer.part(1).with_header("file-name", "a").with_body("x");
    let wrong = file.clone().with_header("sha256", EMPTY_SHA256);
    peer.is_refused(wrong, "SHA-256");
    peer.is_refused(file.with_id(2_u64), "no text header sha256");
    assert!(receive.error_line().contains(EMPTY_SHA256));
    assert!(receive.error_line().contains("sha256"));
    assert!(names(dirs.into.path()).is_empty());
    // The receiver goes on.
    tofucat(["send", &dirs.file("a", b"abc"), &address]).expect_success();
}

/// Gives some bytes, and then an error.
struct Failing(usize);

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.0.min(buffer.len());
        self.0 -= len;
        if len == 0 {
            return Err(io::Error::other("bad sector"));
        }
        Ok(len)
    }
}

#[test]
fn a_sender_that_gives_up_leaves_nothing() {
    let dirs = Dirs::new();
    let (receive, address) = dirs.receive(&[]);
    let mut peer = Peer::new(&address);
    let first = peer.part(1).with_header("file-name", "a");
    let sent = stream::send_all(&mut peer.group, first, Failing(LONG), PATIENCE);
    assert!(matches!(sent, Err(stream::SendError::Read(_))));
    let line = receive.error_line();
    assert_eq!(
        line,
        "tofucat: receive \"a\": the sender gave up: \"bad sector\""
    );
    assert!(names(dirs.into.path()).is_empty());
    receive.interrupt();
    receive.end().expect_code(130);
}

#[test]
fn several_senders_at_once_do_not_mix() {
    let dirs = Dirs::new();
    let (_receive, address) = dirs.receive(&[]);
    let senders: Vec<_> = (1..=3)
        .map(|number| {
            let file = dirs.file(&number.to_string(), &bytes(number * (3 << 20)));
            command(["send", &file, &address]).spawn().unwrap()
        })
        .collect();
    for sender in senders {
        finish(sender).expect_success();
    }
    let expected: Vec<_> = (1..=3)
        .map(|number| (number.to_string(), bytes(number * (3 << 20))))
        .collect();
    assert!(dirs.stored() == expected);
}

/// A `send` in the middle of a file that never ends by itself, and the other end of that file.
fn in_the_middle(dirs: &Dirs, address: &str) -> (Running, File) {
    let fifo = dirs.fifo();
    let send = Running::start(["send", fifo.to_str().unwrap(), address]);
    // Opening waits until the program has opened it as well.
    let open = move || {
        let mut file = File::options().write(true).open(&fifo)?;
        file.write_all(&bytes(200_000)).map(|()| file)
    };
    let file = within(open, || {}).unwrap();
    until_begun(dirs.into.path());
    (send, file)
}

/// Goes on with the file until nobody reads it any more.
fn go_on(mut file: File) {
    within(
        move || while file.write_all(&bytes(100_000)).is_ok() {},
        || {},
    );
}

#[test]
fn a_receiver_that_is_killed_is_an_error_of_the_sender() {
    let dirs = Dirs::new();
    let (receive, address) = dirs.receive(&[]);
    let (send, file) = in_the_middle(&dirs, &address);
    signal(receive.id(), "KILL");
    // It notices when it has something to send.
    go_on(file);
    let done = send.end();
    done.expect_error(&format!("send {address}"), "the peer went away");
    assert!(done.stderr.contains("fifo"), "{done:?}");
}

#[test]
fn ctrl_c_in_the_receiver_leaves_no_partial_file() {
    let dirs = Dirs::new();
    let (receive, address) = dirs.receive(&[]);
    let (send, file) = in_the_middle(&dirs, &address);
    receive.interrupt();
    go_on(file);
    receive.end().expect_code(130);
    assert!(names(dirs.into.path()).is_empty());
    let done = send.end();
    done.expect_error(&format!("send {address}"), "");
    assert!(done.stderr.contains("fifo"), "{done:?}");
}

#[test]
fn ctrl_c_in_the_sender_leaves_no_partial_file() {
    let dirs = Dirs::new();
    let (receive, address) = dirs.receive(&["--max-byes", "1"]);
    let (send, file) = in_the_middle(&dirs, &address);
    send.interrupt();
    go_on(file);
    let done = send.end();
    done.expect_code(130);
    assert_eq!((done.text(), &*done.stderr), ("", ""));
    receive.end().expect_error("receive \"fifo\"", "incomplete");
    assert!(names(dirs.into.path()).is_empty());
}

#[test]
fn a_full_disk_is_named_on_both_sides() {
    let dirs = Dirs::new();
    // Files may not grow beyond 512 KiB, as on a disk that has no more.
    let script = "trap '' XFSZ; ulimit -f 1024; exec \"$0\" \"$@\"";
    let mut limited = Command::new("sh");
    let receive = command(["receive", TCP, "--max-byes", "1", "--dir"]);
    limited
        .args(["-c", script])
        .arg(receive.get_program())
        .args(receive.get_args())
        .arg(dirs.into.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let receive = Running::spawn(&mut limited);
    let address = receive.address();
    let (a, b) = (dirs.file("a", &bytes(LONG)), dirs.file("b", b"fits"));
    let sent = tofucat(["send", &a, &b, &address]);
    sent.expect_error(&a, "File too large");
    assert!(sent.text().starts_with("sent \"b\""), "{sent:?}");
    receive
        .end()
        .expect_error("receive \"a\"", "File too large");
    assert_eq!(names(dirs.into.path()), ["b"]);
}

#[test]
fn an_echo_is_no_receiver() {
    let dirs = Dirs::new();
    let (_echo, address) = server(["echo", TCP]);
    for len in [3, LONG] {
        let sent = tofucat(["send", &dirs.file("a", &bytes(len)), &address]);
        sent.expect_error(&format!("send {address}"), "does not receive files");
    }
}

#[test]
fn who_does_not_answer_is_given_up() {
    let dirs = Dirs::new();
    let (_listen, address) = server(["listen", TCP]);
    let file = dirs.file("a", b"abc");
    let sent = run(
        &mut command(["send", "--timeout", "0.5", &file, &address]),
        b"",
    );
    sent.expect_error(&format!("send {address}"), "timed out after 0.5 s");
}

/// The watchdog of the tests is longer than the time in which a bye is waited for.
#[test]
fn a_receiver_says_bye() {
    let dirs = Dirs::new();
    let (receive, address) = dirs.receive(&[]);
    let mut peer = Peer::new(&address);
    let bye = peer
        .group
        .call(Message::bye_request(peer.channel), Duration::from_secs(10));
    assert_eq!(bye.unwrap().op_code(), OpCode::ByeResponse);
    receive.interrupt();
    receive.end().expect_code(130);
}
