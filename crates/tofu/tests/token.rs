//! The recipe `examples/token.rs` does what it says.

mod support;
#[path = "../examples/token.rs"]
#[allow(unreachable_pub, reason = "a program, taken in as a module")]
mod token;

use std::{thread, time::Duration};

use support::*;
use tofu::{Address, Event, Message, OpCode, Options, Status};
use token::{Gate, TOKEN, ask, knows, serve};

const SECRET: &str = "correct horse battery staple";

/// Runs a test against the recipe's server, over both transports.
fn served(test: impl Fn(&Address)) {
    over_both(|address| {
        let engine = engine();
        let mut group = engine.group().expect("a group");
        let (address, _) = listen(&mut group, address);
        let server = thread::spawn(move || serve(&mut group, Gate::new(SECRET)));
        test(&address);
        engine.shutdown(Duration::ZERO);
        watched("the server ends", || server.join().expect("no panic"));
    });
}

#[test]
fn who_knows_the_token_is_answered() {
    served(|address| {
        let mut client = group_of(Options::default());
        let answer = ask(&mut client, address, SECRET, "who?").unwrap();
        assert_eq!(answer, b"who?");
    });
}

#[test]
fn who_does_not_know_the_token_is_disconnected_and_hears_it() {
    served(|address| {
        for wrong in ["correct horse battery stapl?", "correct", "x"] {
            let mut client = group_of(Options::default());
            let error = ask(&mut client, address, wrong, "who?").unwrap_err();
            let reason = error.downcast::<tofu::Reason>().expect("why it closed");
            assert_eq!(reason.status(), Status::PEER_DISCONNECTED);
        }
        // One that says none at all.
        let mut client = group_of(Options::default());
        let channel = client
            .post(Message::hello_request(address))
            .unwrap()
            .channel;
        closed_with(&mut client, channel, Status::PEER_DISCONNECTED);
    });
}

/// It posts behind its hello, and all of that is in the inbox when the hello is looked at.
#[test]
fn nothing_that_comes_behind_a_wrong_token_is_heeded() {
    over_both(|address| {
        let engine = engine();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let mut gate = Gate::new(SECRET);
        let mut raw = Raw::connect(&address);
        let hello = Message::hello_request(&address).with_id(1);
        let order = Message::request(1.into()).with_id(2).with_body("delete it");
        raw.write(&[frame(&hello), frame(&order)].concat());
        loop {
            match gate_next(&mut server, &mut gate) {
                Some(Event::Closed { reason, .. }) => {
                    assert_eq!(reason.status(), Status::CHANNEL_CLOSED);
                    break;
                }
                Some(other) => panic!("only the end was due, not {other:?}"),
                None => {}
            }
        }
        let mut raw = Raw::connect(&address);
        let hello = hello.with_header(TOKEN, SECRET);
        raw.write(&[frame(&hello), frame(&order)].concat());
        for op_code in [OpCode::HelloRequest, OpCode::Request] {
            match gate_next(&mut server, &mut gate) {
                Some(Event::Message(message)) => assert_eq!(message.op_code(), op_code),
                other => panic!("it was let in, not {other:?}"),
            }
        }
    });
}

fn gate_next(server: &mut tofu::ChannelGroup, gate: &mut Gate) -> Option<Event> {
    let event = next(server);
    gate.filter(server, event)
}

#[test]
fn a_token_is_known_by_all_of_its_bytes() {
    let address = loopback();
    let hello = |token: &str| Message::hello_request(&address).with_header(TOKEN, token);
    assert!(knows(&hello(SECRET), SECRET.as_bytes()));
    assert!(!knows(&hello("corr"), SECRET.as_bytes()));
    assert!(!knows(&hello(SECRET), b""));
    assert!(!knows(&Message::hello_request(&address), SECRET.as_bytes()));
    assert!(!knows(&Message::hello_request(&address), b""));
    // The first one counts.
    let two = hello("wrong").with_header(TOKEN, SECRET);
    assert!(!knows(&two, SECRET.as_bytes()));
}
