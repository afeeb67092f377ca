//! `call`: what it sends and prints, and what it says when it fails.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener},
    thread,
};

use serde_json::json;
use tofu::{ChannelGroup, Engine, Event, Header, Message, OpCode, Options};

use crate::tool::{PATIENCE, command, keys, run, server, tofucat, uds_address, unused_tcp_address};

/// A channel of the test's own, with the library.
pub(crate) fn open_channel(address: &str) -> ChannelGroup {
    let engine = Engine::new(Options::default()).unwrap();
    let group = engine.group().unwrap();
    group
        .post(Message::hello_request(&address.parse().unwrap()))
        .unwrap();
    group
}

/// The op codes that arrive until the channel is closed. A bye is answered.
pub(crate) fn until_closed(mut group: ChannelGroup) -> Vec<String> {
    let mut op_codes = Vec::new();
    loop {
        match group
            .recv_timeout(PATIENCE)
            .unwrap()
            .expect("the channel to close")
        {
            Event::Message(message) => {
                op_codes.push(message.op_code().to_string());
                if message.op_code() == OpCode::ByeRequest {
                    group.post(message.reply().unwrap()).unwrap();
                }
            }
            Event::Closed { .. } => return op_codes,
            _ => {}
        }
    }
}

#[test]
fn the_answer_is_printed_byte_for_byte() {
    let directory = tempfile::tempdir().unwrap();
    let uds = uds_address(directory.path());
    let file = directory.path().join("body");
    let bytes: Vec<u8> = (0..=255).cycle().take(65_535).collect();
    fs::write(&file, &bytes).unwrap();
    for listen_on in ["tcp|127.0.0.1|0", &uds] {
        let (_echo, address) = server(["echo", listen_on]);
        let done = tofucat(["call", &address, "--body", "hello"]);
        done.expect_success();
        assert_eq!(done.text(), "hello");
        let done = tofucat(["call", &address, "--file", file.to_str().unwrap()]);
        done.expect_success();
        assert!(done.stdout == bytes, "the file came back changed");
        let done = run(&mut command(["call", &address, "-"]), &bytes);
        done.expect_success();
        assert!(done.stdout == bytes, "the standard input came back changed");
        let done = tofucat(["call", &address, "--size", "7"]);
        assert_eq!(done.text(), "xxxxxxx");
        let done = tofucat(["call", &address, "--quiet", "--body", "hello"]);
        done.expect_success();
        assert_eq!(done.text(), "");
        tofucat(["call", &address]).expect_success();
    }
}

#[test]
fn several_answers_are_lines_and_are_summed_up() {
    let (_echo, address) = server(["echo", "tcp|127.0.0.1|0"]);
    let done = tofucat(["call", &address, "--body", "hi", "--count", "3"]);
    done.expect_code(0);
    assert_eq!(done.text(), "hi\nhi\nhi\n");
    assert!(done.stderr.starts_with("3 requests in "), "{}", done.stderr);
    assert_eq!(
        done.stderr.lines().count(),
        1,
        "no progress bar: {:?}",
        done.stderr
    );
    for word in [
        " messages/s",
        "1 in flight",
        "p50 ",
        "p90 ",
        "p99 ",
        "p99.9 ",
    ] {
        assert!(done.stderr.contains(word), "{}", done.stderr);
    }
}

#[test]
fn the_summary_as_json_is_the_last_line() {
    let (_echo, address) = server(["echo", "tcp|127.0.0.1|0"]);
    let done = tofucat([
        "--json", "call", &address, "--count", "500", "--window", "16", "--header", "k:v",
    ]);
    done.expect_success();
    let objects = done.objects();
    let (summary, answers) = objects.split_last().unwrap();
    assert_eq!(answers.len(), 500);
    for answer in answers {
        assert_eq!(
            (&answer["event"], &answer["op_code"]),
            (&json!("message"), &json!("Response"))
        );
        assert_eq!(answer["headers"], json!([["k", "v"]]));
    }
    let ids: Vec<_> = answers
        .iter()
        .map(|answer| answer["message_id"].as_u64())
        .collect();
    assert!(ids.is_sorted(), "answers come in the order of the requests");
    assert_eq!(
        keys(summary),
        [
            "event",
            "in_flight",
            "messages_per_second",
            "p50_us",
            "p90_us",
            "p99_9_us",
            "p99_us",
            "requests",
            "seconds",
        ]
    );
    assert_eq!(
        (&summary["event"], &summary["requests"]),
        (&json!("summary"), &json!(500))
    );
    assert_eq!(summary["in_flight"], 16);
    assert!(summary["p50_us"].as_f64() <= summary["p99_9_us"].as_f64());
}

#[test]
fn more_signals_than_any_queue_holds_come_back_from_an_echo() {
    let (_echo, address) = server(["echo", "tcp|127.0.0.1|0"]);
    // 60 MB there and as much back, with 8 MiB of queue at each end.
    let call = [
        "call", &address, "--signal", "--count", "1000", "--size", "60000", "--json",
    ];
    let done = tofucat(call);
    done.expect_success();
    let objects = done.objects();
    assert_eq!(
        objects.len(),
        2,
        "the answer to the one request, and the summary"
    );
    assert_eq!(
        (&objects[1]["event"], &objects[1]["signals"]),
        (&json!("summary"), &json!(1000))
    );
}

#[test]
fn nobody_listens() {
    let address = unused_tcp_address();
    let done = tofucat(["call", &address]);
    done.expect_error(&format!("call {address}"), "connection refused");
    let directory = tempfile::tempdir().unwrap();
    let address = uds_address(directory.path());
    let done = tofucat(["call", &address]);
    done.expect_error(&format!("call {address}"), "does not exist");
}

#[test]
fn a_header_that_cannot_be_sent_is_wrong_usage() {
    for header in ["name", ":value", "name:", " :x", "a:b\r\nc:d"] {
        let done = tofucat(["call", "tcp|127.0.0.1|1", "--header", header]);
        done.expect_code(2);
        assert!(done.stderr.contains("header"), "{done:?}");
    }
    let header = format!("k:{}", "v".repeat(40_000));
    let (_echo, address) = server(["echo", "tcp|127.0.0.1|0"]);
    let done = tofucat(["call", &address, "--header", &header, "--header", &header]);
    done.expect_error(&format!("call {address}"), "text headers");
}

#[test]
fn a_body_that_is_too_long_is_an_error() {
    let address = "tcp|127.0.0.1|1";
    let text = "x".repeat(65_536);
    tofucat(["call", address, "--body", &text]).expect_error("--body", "at most 65535 bytes");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("body");
    let path = file.to_str().unwrap();
    tofucat(["call", address, "--file", path]).expect_error(path, "No such file");
    fs::write(&file, &text).unwrap();
    tofucat(["call", address, "--file", path]).expect_error(path, "at most 65535 bytes");
    let done = run(&mut command(["call", address, "-"]), text.as_bytes());
    done.expect_error("standard input", "at most 65535 bytes");
    tofucat(["call", address, "--size", "65536"]).expect_code(2);
}

#[test]
fn arguments_that_contradict_each_other_are_wrong_usage() {
    let call = ["call", "tcp|127.0.0.1|1"];
    for arguments in [
        ["--body", "a", "--size", "3"].as_slice(),
        &["-", "--body", "a"],
        &["--count", "0"],
        &["--window", "0"],
        &["--window", "2", "--signal"],
        &["--timeout", "soon"],
        &["--timeout", "-1"],
        &["stdin"],
    ] {
        tofucat(call.iter().chain(arguments)).expect_code(2);
    }
}

#[test]
fn no_answer_within_the_time_says_what_is_outstanding() {
    let (_listen, address) = server(["listen", "tcp|127.0.0.1|0"]);
    let what = format!("call {address}");
    let done = tofucat(["call", &address, "--timeout", "1"]);
    done.expect_error(
        &what,
        "timed out after 1 s: 1 request was not answered (id 2)",
    );
    let done = tofucat([
        "call",
        &address,
        "--timeout",
        "1",
        "--count",
        "9",
        "--window",
        "6",
    ]);
    done.expect_error(
        &what,
        "3 of 9 messages were not posted and 6 requests were not answered (id 2, 3, 4, 5, 6, ...)",
    );
}

#[test]
fn the_time_counts_while_messages_are_posted_too() {
    let directory = tempfile::tempdir().unwrap();
    for listen_on in ["tcp|127.0.0.1|0", &uds_address(directory.path())] {
        let (_sink, address) = server(["sink", listen_on]);
        let count = u64::MAX.to_string();
        let call = ["call", &address, "--count", &count];
        let signals = tofucat(call.iter().chain(&["--signal", "--timeout", "1"]));
        let why = format!("of {count} messages were not posted");
        signals.expect_error(&format!("call {address}"), &why);
        let many = ["--window", "1000", "--quiet", "--timeout", "1"];
        let requests = tofucat(call.iter().chain(&many));
        requests.expect_error(&format!("call {address}"), &why);
    }
}

/// A server that plays a script on one connection: it reads a frame for each line, answers it or
/// not, and goes away behind the last.
fn scripted_server<const N: usize>(lines: [Option<Header>; N]) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for line in lines {
            let mut head = [0; Header::LEN];
            stream.read_exact(&mut head).unwrap();
            let asked = Header::from_bytes(&head).unwrap();
            let mut payload = vec![0; asked.payload_len()];
            stream.read_exact(&mut payload).unwrap();
            let Some(answer) = line else { continue };
            let id = if answer.id.is_assigned() {
                answer.id
            } else {
                asked.id
            };
            let frame = Header { id, ..answer }.to_bytes();
            stream.write_all(&frame).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
        // Until the client is gone: a reset now would take the last frame away from it.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    format!("tcp|127.0.0.1|{port}")
}

#[track_caller]
fn expect_call_fails<const N: usize>(lines: [Option<Header>; N], why: &str) {
    let address = scripted_server(lines);
    let done = tofucat(["call", &address, "--count", "2"]);
    done.expect_error(&format!("call {address}"), why);
}

#[test]
fn a_server_that_goes_away_is_an_error() {
    let hello = Some(Header::new(OpCode::HelloResponse));
    let answer = Some(Header::new(OpCode::Response));
    expect_call_fails([], "the hello was not answered");
    expect_call_fails([None], "the hello was not answered");
    let why = "1 of 2 messages were not posted and 1 request was not answered (id 2)";
    expect_call_fails([hello, None], why);
    expect_call_fails([hello, answer, None], "1 request was not answered (id 3)");
    let address = scripted_server([hello, answer, None]);
    let done = tofucat(["call", &address]);
    done.expect_error(&format!("call {address}"), "the bye was not answered");
}

#[test]
fn a_server_that_says_bye_before_it_answers_is_an_error() {
    let lines = [OpCode::HelloResponse, OpCode::ByeRequest].map(|op| Some(Header::new(op)));
    let why = "the server said bye: 1 of 2 messages were not posted and 1 request was not answered";
    expect_call_fails(lines, why);
}

#[test]
fn an_answer_that_nobody_asked_for_is_an_error() {
    let hello = Header::new(OpCode::HelloResponse);
    let stray = Header {
        id: 77.into(),
        ..Header::new(OpCode::Response)
    };
    expect_call_fails([Some(hello), Some(stray)], "id 77");
}

#[test]
fn what_breaks_the_protocol_is_an_error() {
    let hello = Header::new(OpCode::HelloResponse);
    let order = Header::new(OpCode::ByeSignal);
    expect_call_fails([Some(hello), Some(order)], "ByeSignal");
}

#[test]
fn an_answer_in_parts_is_one_answer() {
    let mut group = Engine::new(Options::default()).unwrap().group().unwrap();
    group
        .post(Message::welcome_request(
            &"tcp|127.0.0.1|0".parse().unwrap(),
        ))
        .unwrap();
    let Ok(Event::Listening { address, .. }) = group.recv_timeout(PATIENCE).map(Option::unwrap)
    else {
        panic!("does not listen")
    };
    let server = thread::spawn(move || {
        while let Some(event) = group.recv_timeout(PATIENCE).unwrap() {
            match event {
                Event::Message(message) if message.op_code() == OpCode::Request => {
                    for (part, has_more) in [("one ", true), ("two ", true), ("three", false)] {
                        let reply = message.reply().unwrap().with_more(has_more);
                        group.post(reply.with_body(part)).unwrap();
                    }
                }
                Event::Message(message) => drop(group.post(message.reply().unwrap()).unwrap()),
                Event::Closed { .. } => return,
                _ => {}
            }
        }
    });
    let done = tofucat(["call", &address.to_string(), "--count", "2"]);
    done.expect_code(0);
    assert_eq!(done.text(), "one two three\none two three\n");
    server.join().unwrap();
}
