//! Ctrl-C and closed pipes.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::Stdio,
};

use tofu::{Header, OpCode};

use crate::tool::{Running, command, server, tofucat, uds_address};

#[test]
fn ctrl_c_ends_every_server_with_130() {
    let directory = tempfile::tempdir().unwrap();
    let uds = uds_address(directory.path());
    for subcommand in ["echo", "sink", "listen"] {
        let (running, _) = server([subcommand, &uds]);
        running.interrupt();
        let done = running.end();
        done.expect_code(130);
        assert_eq!(done.stderr, "");
        assert!(
            !directory.path().join("socket").exists(),
            "{subcommand} leaves its socket"
        );
    }
}

#[test]
fn ctrl_c_in_a_server_says_bye() {
    let (echo, address) = server(["echo", "tcp|127.0.0.1|0"]);
    let mut group = crate::call::open_channel(&address);
    group.recv().expect("the hello is answered");
    echo.interrupt();
    assert_eq!(crate::call::until_closed(group), ["ByeRequest"]);
    echo.end().expect_code(130);
}

#[test]
fn ctrl_c_in_a_call_says_bye() {
    let (listen, address) = server(["listen", "tcp|127.0.0.1|0"]);
    let call = Running::start(["call", &address]);
    assert!(listen.line().contains("HelloRequest"));
    assert!(listen.line().contains(" op_code=Request "));
    call.interrupt();
    let done = call.end();
    done.expect_code(130);
    assert_eq!((done.text(), &*done.stderr), ("", ""));
    assert!(listen.line().contains("ByeRequest"));
    assert!(listen.line().contains("status=channel_closed"));
}

#[test]
fn ctrl_c_while_waiting_for_input_ends_at_once() {
    let input = [0; Header::LEN - 1];
    let mut decode = command(["decode", "-"]);
    let mut child = decode.stdin(Stdio::piped()).spawn().unwrap();
    // Kept open: the program waits for the rest.
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, &Header::new(OpCode::Signal).to_bytes()).unwrap();
    std::io::Write::write_all(&mut stdin, &input).unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "frame 1 at byte 0: Signal, 16 bytes\n");
    crate::tool::signal(child.id(), "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("frames");
    fs::write(
        &file,
        Header::new(OpCode::Signal).to_bytes().repeat(100_000),
    )
    .unwrap();
    for json in [&[][..], &["--json"]] {
        let mut decode = command(json);
        let mut child = decode
            .arg("decode")
            .arg("--file")
            .arg(&file)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        assert!(line.contains("Signal"), "{line}");
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
}

#[test]
fn a_closed_pipe_ends_a_server_quietly() {
    let mut child = command(["listen", "tcp|127.0.0.1|0"]).spawn().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let address = line.trim_end().strip_prefix("listening ").unwrap();
    drop(stdout);
    // Whether this call still gets its hello is a matter of luck; that the server ends is not.
    tofucat(["call", address, "--signal", "--timeout", "5"]);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_closed_pipe_ends_a_call_with_a_bye() {
    let (listen, address) = server(["echo", "tcp|127.0.0.1|0", "--max-byes", "1"]);
    let mut call = command(["call", &address, "--count", "1000000", "--body", "x"]);
    let mut child = call.spawn().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "x\n");
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    listen.end().expect_success();
}

#[test]
fn help_and_version_are_no_errors() {
    for arguments in [
        ["--help"].as_slice(),
        &["--version"],
        &["call", "--help"],
        &["help", "echo"],
    ] {
        let done = tofucat(arguments);
        done.expect_success();
        assert!(!done.stdout.is_empty());
    }
    let help = tofucat(["--help"]);
    for subcommand in ["echo", "sink", "listen", "call", "decode", "demo"] {
        assert!(
            help.text().contains(&format!("\n  {subcommand} ")),
            "{subcommand}"
        );
    }
    assert!(!help.text().contains("demo-server"));
    tofucat([] as [&str; 0]).expect_code(2);
    tofucat(["tofu"]).expect_code(2);
}
