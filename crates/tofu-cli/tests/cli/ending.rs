//! Ctrl-C and closed pipes.

use std::{
    fs,
    io::{self, Write},
};

use tofu::{Header, OpCode};

use crate::{
    call::{open_channel, until_closed},
    tool::{PATIENCE, Running, command, finish, first_line, server, signal, tofucat, uds_address},
};

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
    let mut group = open_channel(&address);
    let hello = group.recv_timeout(PATIENCE).unwrap();
    assert!(hello.is_some(), "the hello is not answered");
    echo.interrupt();
    assert_eq!(until_closed(group), ["ByeRequest"]);
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
fn ctrl_c_ends_a_call_that_posts_without_end() {
    let (_echo, address) = server(["echo", "tcp|127.0.0.1|0"]);
    let count = u64::MAX.to_string();
    let call = Running::start(["call", &address, "--count", &count, "--body", "x"]);
    assert_eq!(call.line(), "x");
    call.interrupt();
    let done = call.end();
    done.expect_code(130);
    assert_eq!(done.stderr, "");
}

#[test]
fn ctrl_c_while_waiting_for_input_ends_at_once() {
    let mut decode = command(["decode", "-"]);
    let (reader, mut writer) = io::pipe().unwrap();
    writer
        .write_all(&Header::new(OpCode::Signal).to_bytes())
        .unwrap();
    let (child, line, _stdout) = first_line(decode.stdin(reader));
    assert_eq!(line, "frame 1 at byte 0: Signal, 16 bytes\n");
    signal(child.id(), "INT");
    finish(child).expect_code(130);
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("frames");
    let frame = Header::new(OpCode::Signal).to_bytes();
    fs::write(&file, frame.repeat(100_000)).unwrap();
    for options in [&[][..], &["--json"]] {
        let mut decode = command(options);
        let (child, line, stdout) = first_line(decode.arg("decode").arg("--file").arg(&file));
        assert!(line.contains("Signal"), "{line}");
        drop(stdout);
        finish(child).expect_success();
    }
}

#[test]
fn a_closed_pipe_ends_a_server_quietly() {
    let (child, line, stdout) = first_line(&mut command(["listen", "tcp|127.0.0.1|0"]));
    let address = line.trim_end().strip_prefix("listening ").unwrap();
    drop(stdout);
    // Whether this call still gets its hello is a matter of luck; that the server ends is not.
    tofucat(["call", address, "--signal", "--timeout", "5"]);
    finish(child).expect_success();
}

#[test]
fn a_closed_pipe_ends_a_server_that_has_nothing_to_print() {
    for subcommand in ["listen", "echo", "sink"] {
        let (child, line, stdout) = first_line(&mut command([subcommand, "tcp|127.0.0.1|0"]));
        assert!(line.starts_with("listening "), "{line}");
        drop(stdout);
        finish(child).expect_success();
    }
}

#[test]
fn a_closed_pipe_ends_a_call_with_a_bye() {
    let (echo, address) = server(["echo", "tcp|127.0.0.1|0", "--max-byes", "1"]);
    let count = u64::MAX.to_string();
    let call = ["call", &address, "--count", &count, "--body", "x"];
    let (child, line, stdout) = first_line(&mut command(call));
    assert_eq!(line, "x\n");
    drop(stdout);
    finish(child).expect_success();
    echo.end().expect_success();
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
    for subcommand in [
        "echo", "sink", "listen", "call", "send", "receive", "decode", "demo", "bench",
    ] {
        assert!(
            help.text().contains(&format!("\n  {subcommand} ")),
            "{subcommand}"
        );
    }
    assert!(!help.text().contains("-server"));
    tofucat([] as [&str; 0]).expect_code(2);
    tofucat(["tofu"]).expect_code(2);
}
