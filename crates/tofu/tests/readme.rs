//! The README's server and client are the examples, and they work.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

const WATCHDOG: Duration = Duration::from_secs(20);

fn manifest_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The program of an example, which `cargo test` builds beside this one, but not `cargo test --test readme`.
fn example(name: &str) -> Command {
    let tests = std::env::current_exe().expect("a path");
    let target = tests
        .parent()
        .and_then(|deps| deps.parent())
        .expect("target/PROFILE");
    let program = target.join("examples").join(name);
    assert!(
        program.exists(),
        "not built (cargo build --examples): {}",
        program.display()
    );
    Command::new(program)
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_readme_shows_the_examples_and_they_are_short() {
    let readme = manifest_dir().join("../../README.md");
    let readme = std::fs::read_to_string(readme).expect("the README");
    for name in ["server", "client"] {
        let path = manifest_dir().join("examples").join(name);
        let source = std::fs::read_to_string(path.with_extension("rs")).expect("the example");
        assert!(readme.contains(&source), "the README shows another {name}");
        assert!(source.lines().count() <= 25, "the {name} has grown");
    }
}

/// What the project aims at: the loop of an echo server in eight lines.
#[test]
fn the_loop_of_an_echo_server_is_short() {
    let path = manifest_dir().join("examples/echo.rs");
    let source = std::fs::read_to_string(path).expect("the example");
    let from = source.find("    while let").expect("a loop");
    let to = from + source[from..].find("\n    }\n").expect("its end");
    let to_last_line = &source[from..to];
    assert!(to_last_line.lines().count() < 8, "the loop has grown");
}

#[test]
fn the_readme_server_greets_the_readme_client() {
    let dir = tofu::testing::TemporaryUds::new().expect("a directory");
    let uds = dir.address("readme.sock").to_string();
    for address in ["tcp://127.0.0.1:0", &uds] {
        let mut command = example("server");
        let server = command.arg(address).stdout(Stdio::piped()).spawn();
        let mut server = Killed(server.expect("the server starts"));
        let stdout = server.0.stdout.take().expect("piped");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let _ = sender.send(line.expect("text"));
            }
        });
        let line = lines.recv_timeout(WATCHDOG).expect("the first line");
        let real = line.strip_prefix("listening on ").expect("the address");

        let client = example("client").arg(real).output().expect("it runs");
        let printed = String::from_utf8_lossy(&client.stdout);
        assert!(client.status.success(), "{client:?}");
        assert!(printed.contains("hello, world\n"), "{printed}");
    }
}

#[test]
fn the_readme_client_says_why_it_cannot_connect() {
    let nobody = tofu::testing::free_tcp_address().expect("a port");
    let client = example("client").arg(nobody.to_string()).output();
    let client = client.expect("it runs");
    assert!(!client.status.success());
    let told = String::from_utf8_lossy(&client.stderr);
    assert!(told.contains("connection refused"), "{told}");
}
