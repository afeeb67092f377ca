//! An address that is wrong in any way is wrong usage, and is named together with what is wrong.

use crate::tool::{Done, Running, server, tofucat};

#[track_caller]
fn expect_wrong(done: &Done, address: &str, why: &str) {
    done.expect_code(2);
    assert!(done.stdout.is_empty(), "{done:?}");
    assert!(
        done.stderr.contains(address),
        "does not name {address:?}: {}",
        done.stderr
    );
    assert!(
        done.stderr.contains(why),
        "does not say {why:?}: {}",
        done.stderr
    );
}

#[test]
fn each_wrong_address_is_named() {
    let long_path = format!("uds|/tmp/{}", "x".repeat(120));
    for (address, why) in [
        ("udp|127.0.0.1|7099", "unknown scheme"),
        ("http://127.0.0.1:80", "unknown scheme"),
        ("127.0.0.1:7099", "unknown scheme"),
        ("", "unknown scheme"),
        ("tcp", "write tcp|host|port or uds|path"),
        ("tcp|127.0.0.1", "write tcp|host|port or uds|path"),
        ("tcp|127.0.0.1|7099|x", "write tcp|host|port or uds|path"),
        ("uds|/tmp/a|b", "write tcp|host|port or uds|path"),
        ("tcp|127.0.0.1|65536", "65536"),
        ("tcp://127.0.0.1:65536", "65536"),
        ("tcp|127.0.0.1|-1", "-1"),
        ("tcp|127.0.0.1|http", "http"),
        ("tcp|a b|7099", "host"),
        ("tcp://::1:7099", "["),
        ("tcp://[::1", "["),
        ("uds|", "empty"),
        ("uds://", "empty"),
        ("uds|@", "empty"),
        (&long_path, "125 bytes"),
    ] {
        for subcommand in ["echo", "sink", "listen", "call"] {
            expect_wrong(&tofucat([subcommand, address]), address, why);
        }
    }
}

#[test]
fn one_wrong_address_among_right_ones_is_found() {
    let done = tofucat(["echo", "tcp|127.0.0.1|0", "udp|127.0.0.1|1"]);
    expect_wrong(&done, "udp|127.0.0.1|1", "unknown scheme");
}

#[test]
fn nobody_can_be_called_on_port_0() {
    for address in ["tcp|127.0.0.1|0", "tcp://127.0.0.1:0"] {
        expect_wrong(&tofucat(["call", address]), address, "port 0");
    }
}

#[test]
fn an_address_is_needed() {
    for subcommand in ["echo", "sink", "listen", "call"] {
        tofucat([subcommand]).expect_code(2);
    }
}

#[test]
fn friendly_forms_are_taken_and_the_protocols_is_printed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket").display().to_string();
    for (friendly, printed) in [
        ("tcp://127.0.0.1:0".to_owned(), "tcp|127.0.0.1|".to_owned()),
        (format!("uds://{path}"), format!("uds|{path}")),
    ] {
        let (_echo, address) = server(["echo", &friendly]);
        assert!(address.starts_with(&printed), "{address}");
        let called = match address.strip_prefix("tcp|127.0.0.1|") {
            Some(port) => format!("tcp://127.0.0.1:{port}"),
            None => friendly,
        };
        let done = tofucat(["call", &called, "--body", "friend"]);
        done.expect_success();
        assert_eq!(done.text(), "friend");
    }
}

#[test]
fn the_hello_carries_the_protocols_form() {
    let (listen, address) = server(["listen", "tcp://127.0.0.1:0"]);
    let friendly = address.replacen("tcp|127.0.0.1|", "tcp://127.0.0.1:", 1);
    let _call = Running::start(["call", &friendly]);
    let hello = listen.line();
    let header = format!("header=\"~connect_to\":\"{address}\"");
    assert!(hello.contains(&header), "{hello}");
}
