//! The whole conversation: hello, requests, responses, signals in both directions, bye.

mod support;

use support::*;
use tofu::{Event, Message, OpCode, Status};

#[test]
fn hello_request_response_signal_bye() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);

        let asked = p
            .client
            .post(
                Message::request(p.at_client)
                    .with_header("k", "v")
                    .with_body("?"),
            )
            .unwrap();
        let request = message_of(&mut p.server, OpCode::Request);
        assert_eq!((request.id(), request.channel()), (asked.id, p.at_server));
        assert_eq!(
            (request.header("k"), request.body()),
            (Some("v"), &b"?"[..])
        );
        p.server
            .post(request.reply().unwrap().with_body("!"))
            .unwrap();
        let response = message_of(&mut p.client, OpCode::Response);
        assert_eq!((response.id(), response.channel()), (asked.id, p.at_client));
        assert_eq!(response.body(), b"!");

        // After the hello both are equal.
        p.server.post(Message::request(p.at_server)).unwrap();
        let request = message_of(&mut p.client, OpCode::Request);
        p.client.post(request.into_reply().unwrap()).unwrap();
        message_of(&mut p.server, OpCode::Response);
        p.client.post(Message::signal(p.at_client)).unwrap();
        message_of(&mut p.server, OpCode::Signal);

        p.client.post(Message::bye_request(p.at_client)).unwrap();
        let bye = message_of(&mut p.server, OpCode::ByeRequest);
        p.server.post(bye.reply().unwrap()).unwrap();
        message_of(&mut p.client, OpCode::ByeResponse);
        closed_with(&mut p.client, p.at_client, Status::CHANNEL_CLOSED);
        closed_with(&mut p.server, p.at_server, Status::CHANNEL_CLOSED);

        p.server.post(Message::bye_signal(p.listener)).unwrap();
        closed_with(&mut p.server, p.listener, Status::CHANNEL_CLOSED);
        assert!(matches!(p.server.try_recv(), Ok(None)));
        assert!(matches!(p.client.try_recv(), Ok(None)));
        assert_eq!(engine.metrics().channels_open, 0);
    });
}

#[test]
fn closed_carries_the_id_that_opened_the_channel() {
    let engine = engine();
    let mut group = engine.group().unwrap();
    let (address, listener) = listen(&mut group, &loopback());
    let mut raw = Raw::connect(&address);
    raw.send(&Message::hello_request(&address).with_id(77));
    let hello = message_of(&mut group, OpCode::HelloRequest);
    drop(raw);
    match next(&mut group) {
        Event::Closed { channel, id, .. } => {
            assert_eq!((channel, id.get()), (hello.channel(), 77));
        }
        other => panic!("{other:?}"),
    }
    let posted = group.post(Message::bye_request(listener)).unwrap();
    match next(&mut group) {
        Event::Closed { channel, id, .. } => {
            assert_eq!(channel, posted.channel);
            assert_ne!(id, posted.id, "it is the id of the welcome");
        }
        other => panic!("{other:?}"),
    }
}
