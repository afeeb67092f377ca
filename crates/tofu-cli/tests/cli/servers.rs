//! `echo`, `sink` and `listen`.

use serde_json::json;
use tofu::Credentials;

use crate::{
    call::{open_channel, until_closed},
    tool::{Running, keys, server, tofucat, uds_address},
};

#[test]
fn echo_says_where_it_listens_first() {
    let directory = tempfile::tempdir().unwrap();
    let uds = uds_address(directory.path());
    let echo = Running::start(["echo", "tcp|127.0.0.1|0", &uds, "tcp|127.0.0.1|0"]);
    let mut addresses = [echo.address(), echo.address(), echo.address()];
    addresses.sort();
    assert_eq!(addresses[2], uds);
    for address in &addresses[..2] {
        let port = address.strip_prefix("tcp|127.0.0.1|").expect("tcp");
        assert_ne!(port.parse(), Ok(0_u16), "the real port");
    }
    assert_ne!(addresses[0], addresses[1]);
    for address in &addresses {
        tofucat(["call", address, "--body", "x"]).expect_success();
    }
}

#[test]
fn echo_as_json_says_where_it_listens() {
    let echo = Running::start(["--json", "echo", "tcp|127.0.0.1|0"]);
    let listening = echo.object();
    assert_eq!(listening["event"], "listening");
    let address = listening["address"].as_str().expect("an address");
    assert!(address.starts_with("tcp|127.0.0.1|"));
    tofucat(["call", address, "--body", "x"]).expect_success();
}

#[test]
fn echo_ends_after_its_byes() {
    let (echo, address) = server(["echo", "tcp|127.0.0.1|0", "--max-byes", "2"]);
    for _ in 0..2 {
        tofucat(["call", &address]).expect_success();
    }
    echo.end().expect_success();
}

#[test]
fn echo_ends_after_its_time() {
    let directory = tempfile::tempdir().unwrap();
    let uds = uds_address(directory.path());
    let (echo, address) = server(["echo", &uds, "--max-time", "0.2"]);
    assert_eq!(address, uds);
    echo.end().expect_success();
    assert!(
        !directory.path().join("socket").exists(),
        "the socket is removed"
    );
}

#[test]
fn echo_says_bye_when_its_time_is_over() {
    let (_echo, address) = server(["echo", "tcp|127.0.0.1|0", "--max-time", "1"]);
    let heard = until_closed(open_channel(&address));
    assert_eq!(heard, ["HelloResponse", "ByeRequest"]);
}

#[test]
fn an_address_in_use_is_an_error() {
    let (_echo, address) = server(["echo", "tcp|127.0.0.1|0"]);
    for subcommand in ["echo", "sink", "listen"] {
        let what = format!("{subcommand} {address}");
        tofucat([subcommand, &address]).expect_error(&what, "in use");
    }
    let done = tofucat(["echo", "tcp|127.0.0.1|0", &address]);
    done.expect_error(&format!("echo {address}"), "in use");
}

#[test]
fn sink_counts_signals_by_channel() {
    let directory = tempfile::tempdir().unwrap();
    let uds = uds_address(directory.path());
    let sink = Running::start(["sink", "tcp|127.0.0.1|0", &uds, "--max-byes", "3"]);
    for _ in 0..2 {
        let address = sink.address();
        let call = ["call", &address, "--signal", "--count", "1000", "--json"];
        let done = tofucat(call);
        done.expect_success();
        let answer = &done.objects()[0];
        assert_eq!(answer["op_code"], "Response");
        assert_eq!(answer["headers"], json!([["signals", "1000"]]));
        assert_eq!(answer["body"], "");
    }
    let done = tofucat(["call", &uds, "--json"]);
    assert_eq!(done.objects()[0]["headers"], json!([["signals", "0"]]));
    sink.end().expect_success();
}

#[test]
fn listen_prints_every_event_with_every_key() {
    let message_keys = [
        "body",
        "body_len",
        "channel",
        "event",
        "headers",
        "message_id",
        "more",
        "op_code",
        "status",
    ];
    let listen = Running::start(["listen", "tcp|127.0.0.1|0", "--json"]);
    let listening = listen.object();
    let mut listening_keys = message_keys.to_vec();
    listening_keys.insert(0, "address");
    assert_eq!(keys(&listening), listening_keys);
    assert_eq!(listening["op_code"], "WelcomeResponse");
    assert_eq!(listening["status"], "success");
    let address = listening["address"].as_str().unwrap();

    let headers = ["--header", "a:1", "--header", "a: 2", "--body", "tofu"];
    let call = ["call", address, "--signal"];
    let call = Running::start(call.iter().chain(&headers));

    let hello = listen.object();
    let mut hello_keys = message_keys.to_vec();
    hello_keys.push("peer");
    hello_keys.sort_unstable();
    assert_eq!(keys(&hello), hello_keys);
    let peer = hello["peer"]["address"].as_str().expect("an address");
    assert!(peer.starts_with("127.0.0.1:"), "{peer}");
    assert_eq!(
        (&hello["event"], &hello["op_code"]),
        (&json!("message"), &json!("HelloRequest"))
    );
    assert_eq!(hello["headers"], json!([["~connect_to", address]]));
    let signal = listen.object();
    assert_eq!(keys(&signal), message_keys);
    assert_eq!(signal["op_code"], "Signal");
    assert_eq!(signal["headers"], json!([["a", "1"], ["a", "2"]]));
    assert_eq!(
        (&signal["body"], &signal["body_len"]),
        (&json!("tofu"), &json!(4))
    );
    assert_eq!(
        (&signal["more"], &signal["status"]),
        (&json!(false), &json!("success"))
    );
    assert_eq!(signal["channel"], hello["channel"]);
    assert!(signal["message_id"].is_u64() && signal["channel"].is_u64());
    assert_eq!(listen.object()["op_code"], "Request");
    drop(call);
    let closed = listen.object();
    assert_eq!(
        keys(&closed),
        ["channel", "event", "message_id", "reason", "status"]
    );
    assert_eq!(
        (&closed["event"], &closed["channel"]),
        (&json!("closed"), &hello["channel"])
    );
    assert_eq!(closed["status"], "peer_disconnected");
}

#[test]
fn listen_prints_lines() {
    let (listen, address) = server(["listen", "tcp|127.0.0.1|0"]);
    let call = Running::start(["call", &address, "--body", "a\x1b[31m\"\n"]);
    let hello = listen.line();
    assert!(hello.starts_with("message channel="), "{hello}");
    assert!(
        hello.contains(" op_code=HelloRequest message_id=1 "),
        "{hello}"
    );
    let request = listen.line();
    assert!(
        request.ends_with(r#" op_code=Request message_id=2 body_len=8 body="a\u{1b}[31m\"\n""#),
        "{request}"
    );
    call.interrupt();
    call.end().expect_code(130);
    assert!(listen.line().contains(" op_code=ByeRequest "));
    assert!(listen.line().contains(" status=channel_closed "));
}

#[test]
fn what_is_not_utf_8_is_base64() {
    let listen = Running::start(["listen", "tcp|127.0.0.1|0", "--json"]);
    let listening = listen.object();
    let address = listening["address"].as_str().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("body");
    std::fs::write(&file, b"\xff\x00").unwrap();
    let file = file.to_str().unwrap();
    let _call = Running::start(["call", address, "--signal", "--file", file]);
    let (_hello, signal) = (listen.object(), listen.object());
    assert_eq!(
        (&signal["body_base64"], &signal["body_len"]),
        (&json!("/wA="), &json!(2))
    );
    assert!(signal.get("body").is_none());
}

#[test]
fn listen_tells_whose_process_a_uds_peer_is() {
    let directory = tempfile::tempdir().unwrap();
    let uds = uds_address(directory.path());
    let (listen, address) = server(["listen", &uds]);
    let call = Running::start(["call", &address]);
    let own = Credentials::own().expect("a system that tells");
    let hello = listen.line();
    let peer = format!(" peer=\"uid={} gid={}", own.uid, own.gid);
    assert!(hello.contains(&peer), "{hello}");
    if cfg!(target_os = "linux") {
        assert!(hello.ends_with(&format!(" pid={}\"", call.id())), "{hello}");
    }
    drop((listen, call));
    let listen = Running::start(["listen", &uds, "--json"]);
    let listening = listen.object();
    let call = Running::start(["call", listening["address"].as_str().unwrap()]);
    let peer = &listen.object()["peer"];
    assert_eq!(peer["uid"], own.uid);
    if cfg!(target_os = "linux") {
        assert_eq!(peer["pid"], call.id());
    }
    assert!(peer.get("address").is_none());
}

#[test]
fn who_is_not_allowed_is_disconnected_and_who_is_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let uds = uds_address(directory.path());
    let uid = Credentials::own().expect("a system that tells").uid;
    let (own, other) = (format!("uid:{uid}"), format!("uid:{}", uid ^ 1));
    for subcommand in ["echo", "sink"] {
        for (address, who) in [("tcp|127.0.0.1|0", "192.0.2.0/24"), (&*uds, &*other)] {
            let (_server, address) = server([subcommand, address, "--allow", who]);
            let what = format!("call {address}");
            tofucat(["call", &address]).expect_error(&what, "");
        }
        let allow = ["--allow", "::1", "--allow", "127.0.0.0/8", "--allow", &own];
        let command = [subcommand, "tcp|127.0.0.1|0", &uds];
        let running = Running::start(command.iter().chain(&allow));
        for address in [running.address(), running.address()] {
            tofucat(["call", &address]).expect_success();
        }
    }
}

#[test]
fn whoever_allows_some_says_who_for_every_transport() {
    let directory = tempfile::tempdir().unwrap();
    let uds = uds_address(directory.path());
    for subcommand in ["echo", "sink", "listen"] {
        let what = format!("{subcommand} {uds}");
        tofucat([subcommand, &uds, "--allow", "::1"]).expect_error(&what, "--allow uid:N");
        let what = format!("{subcommand} tcp|127.0.0.1|0");
        let done = tofucat([subcommand, "tcp|127.0.0.1|0", "--allow", "uid:0"]);
        done.expect_error(&what, "networks");
    }
    let done = tofucat(["echo", "tcp|127.0.0.1|0", "--allow", "10.1.1.1/8"]);
    done.expect_code(2);
    assert!(done.stderr.contains("write 10.0.0.0/8"), "{}", done.stderr);
}
