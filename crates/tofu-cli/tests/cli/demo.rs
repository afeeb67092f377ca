//! `demo` ends in time and leaves nothing behind.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;

use crate::tool::{Running, command, object, run, signal};

/// The demo, and the directory that it takes for temporary files.
fn demo(arguments: &[&str]) -> (std::process::Command, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(["demo"]);
    command.args(arguments).env("TMPDIR", directory.path());
    (command, directory)
}

#[track_caller]
fn expect_empty(directory: &Path) {
    let left: Vec<_> = fs::read_dir(directory).unwrap().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// The server process that a line of the demo names.
fn process(line: &str) -> u32 {
    let (_, rest) = line.split_once("process ").expect("a process");
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    digits.parse().unwrap()
}

#[test]
fn the_demo_shows_everything_within_its_time() {
    let (mut command, directory) = demo(&[]);
    let started = Instant::now();
    let done = run(&mut command, b"");
    assert!(started.elapsed() < Duration::from_secs(15));
    done.expect_success();
    expect_empty(directory.path());
    let text = done.text();
    assert!(!text.contains('\x1b'), "no colours in a pipe");
    for wanted in [
        "over tcp\n",
        "over uds\n",
        "HelloRequest",
        "HelloResponse",
        "\"SILKEN\"",
        "more follows",
        "3 parts",
        "signals: 3",
        "connection refused",
        "ByeRequest",
        "ByeResponse",
        "Request refused",
        "\n  tcp  round trip p50 ",
        "\n  uds  round trip p50 ",
        "all went as expected",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is missing in {text}");
    }
    for line in text
        .lines()
        .filter(|line| line.contains("the server, process "))
    {
        assert!(!signal(process(line), "0"), "outlived the demo: {line}");
    }
}

#[test]
fn the_demo_as_json_is_objects_only() {
    let (mut command, _directory) = demo(&["--json"]);
    let done = run(&mut command, b"");
    done.expect_success();
    let objects = done.objects();
    let numbers: Vec<_> = objects
        .iter()
        .filter(|object| object["event"] == "numbers")
        .collect();
    assert_eq!(numbers.len(), 2);
    for (numbers, transport) in numbers.iter().zip(["tcp", "uds"]) {
        assert_eq!(numbers["transport"], json!(transport));
        assert!(numbers["p50_us"].as_f64() > Some(0.0));
        assert!(numbers["p99_us"].as_f64() >= numbers["p50_us"].as_f64());
        assert!(numbers["messages_per_second"].as_f64() > Some(0.0));
    }
}

#[test]
fn ctrl_c_ends_the_demo_and_its_server() {
    let (mut command, directory) = demo(&[]);
    let running = Running::spawn(&mut command);
    let _title = running.line();
    let server = process(&running.line());
    running.interrupt();
    let done = running.end();
    done.expect_code(130);
    assert_eq!(done.stderr, "");
    assert!(!signal(server, "0"), "the server outlived the demo");
    expect_empty(directory.path());
}

#[test]
fn a_server_ends_when_the_demo_is_killed() {
    let (mut command, _directory) = demo(&["--json"]);
    let running = Running::spawn(&mut command);
    let listens = object(&running.line());
    assert!(listens["text"].as_str().unwrap().contains("listens on"));
    signal(running.id(), "KILL");
    // The server has inherited the standard error, which ends when both are gone.
    assert_eq!(running.end().status.code(), None);
}
