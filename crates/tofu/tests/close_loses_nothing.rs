//! A graceful close leaves nothing behind, whichever side asks; a hard one gives everything back.

mod support;

use std::time::Duration;

use support::*;
use tofu::{
    Address, ChannelGroup, ChannelNumber, Event, Message, OpCode, Options, Refusal, Status,
    Violation,
};

/// Enough to fill the buffers of both kernels, so that the rest waits in the queue.
const MESSAGES: usize = 4_000;

fn roomy() -> Options {
    Options::default().queue_bytes(64 << 20, 256 << 20)
}

/// Mostly small, and every tenth large: some 24 MB.
fn len_of(number: usize) -> usize {
    if number.is_multiple_of(10) {
        60_000
    } else {
        number % 50
    }
}

fn post_all(group: &ChannelGroup, channel: ChannelNumber) {
    for number in 0..MESSAGES {
        let message = numbered(channel, number, len_of(number));
        group.post(message).expect("posted");
    }
}

fn hear_all(group: &mut ChannelGroup) {
    for number in 0..MESSAGES {
        let Event::Message(message) = next_of_channel(group) else {
            panic!("message {number} was due");
        };
        assert_eq!(number_of(&message), number);
        assert_eq!(message.body().len(), 8 + len_of(number));
    }
}

/// The next event is this message.
#[track_caller]
fn heard(group: &mut ChannelGroup, op_code: OpCode) -> Message {
    match next_of_channel(group) {
        Event::Message(message) if message.op_code() == op_code => message,
        other => panic!("{op_code} was due, not {other:?}"),
    }
}

/// The next event is the end of the channel, after a bye.
#[track_caller]
fn over(group: &mut ChannelGroup, ended: ChannelNumber) {
    match next_of_channel(group) {
        Event::Closed {
            channel, reason, ..
        } => assert_eq!((channel, reason.status()), (ended, Status::CHANNEL_CLOSED)),
        other => panic!("the end of the channel was due, not {other:?}"),
    }
}

#[test]
fn everything_queued_before_a_bye_arrives_in_order_and_then_the_bye() {
    over_both(|address| {
        let (servers, clients) = (engine(), engine_with(roomy()));
        let mut p = pair_between(&servers, &clients, address);
        post_all(&p.client, p.at_client);
        let asked = p.client.post(Message::bye_request(p.at_client)).unwrap();
        hear_all(&mut p.server);
        let bye = heard(&mut p.server, OpCode::ByeRequest);
        assert_eq!(bye.id(), asked.id);
        p.server.post(bye.into_reply().unwrap()).unwrap();
        message_of(&mut p.client, OpCode::ByeResponse);
        over(&mut p.client, p.at_client);
        over(&mut p.server, p.at_server);
        silent(&mut p.client);
        silent(&mut p.server);
    });
}

#[test]
fn everything_that_the_answerer_had_queued_arrives_before_its_answer() {
    over_both(|address| {
        let (servers, clients) = (engine_with(roomy()), engine());
        let mut p = pair_between(&servers, &clients, address);
        p.client.post(Message::bye_request(p.at_client)).unwrap();
        let bye = message_of(&mut p.server, OpCode::ByeRequest);
        post_all(&p.server, p.at_server);
        p.server.post(bye.into_reply().unwrap()).unwrap();
        hear_all(&mut p.client);
        heard(&mut p.client, OpCode::ByeResponse);
        over(&mut p.client, p.at_client);
        over(&mut p.server, p.at_server);
        silent(&mut p.client);
        silent(&mut p.server);
    });
}

#[test]
fn after_its_bye_a_side_posts_nothing_more_and_still_receives() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        p.client.post(Message::bye_request(p.at_client)).unwrap();
        for late in [
            Message::signal(p.at_client),
            Message::request(p.at_client),
            Message::bye_request(p.at_client),
        ] {
            let refused = p.client.post(late.clone()).unwrap_err();
            assert_eq!(refused.refusal(), &Refusal::ChannelClosing(p.at_client));
            assert_eq!(refused.into_message(), late);
        }
        let bye = message_of(&mut p.server, OpCode::ByeRequest);
        for number in 0..10 {
            p.server.post(numbered(p.at_server, number, 10)).unwrap();
            let late = message_of(&mut p.client, OpCode::Signal);
            assert_eq!(number_of(&late), number);
        }
        p.server.post(bye.into_reply().unwrap()).unwrap();
        let refused = p.server.post(Message::signal(p.at_server)).unwrap_err();
        assert!(matches!(
            refused.refusal(),
            Refusal::ChannelClosing(_) | Refusal::InvalidChannelNumber(_)
        ));
        message_of(&mut p.client, OpCode::ByeResponse);
        closed_with(&mut p.client, p.at_client, Status::CHANNEL_CLOSED);
        closed_with(&mut p.server, p.at_server, Status::CHANNEL_CLOSED);
    });
}

/// Both hang for ever in the original.
#[test]
fn two_byes_at_once_end_with_channel_closed_on_both_sides() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        for number in 0..100 {
            p.client.post(numbered(p.at_client, number, 100)).unwrap();
            p.server.post(numbered(p.at_server, number, 100)).unwrap();
        }
        p.client.post(Message::bye_request(p.at_client)).unwrap();
        p.server.post(Message::bye_request(p.at_server)).unwrap();
        let mut byes = [&mut p.client, &mut p.server].map(|side| {
            for number in 0..100 {
                let message = message_of(side, OpCode::Signal);
                assert_eq!(number_of(&message), number);
            }
            Some(message_of(side, OpCode::ByeRequest))
        });
        // The client's answer is there before the server gives its own.
        let reply = |bye: &mut Option<Message>| bye.take().unwrap().into_reply().unwrap();
        p.client.post(reply(&mut byes[0])).unwrap();
        message_of(&mut p.server, OpCode::ByeResponse);
        p.server.post(reply(&mut byes[1])).unwrap();
        message_of(&mut p.client, OpCode::ByeResponse);
        closed_with(&mut p.client, p.at_client, Status::CHANNEL_CLOSED);
        closed_with(&mut p.server, p.at_server, Status::CHANNEL_CLOSED);
        silent(&mut p.client);
        silent(&mut p.server);
    });
}

#[test]
fn two_byes_and_two_answers_may_cross_on_their_way() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        p.client.post(Message::bye_request(p.at_client)).unwrap();
        p.server.post(Message::bye_request(p.at_server)).unwrap();
        let at_client = message_of(&mut p.client, OpCode::ByeRequest);
        let at_server = message_of(&mut p.server, OpCode::ByeRequest);
        p.client.post(at_client.into_reply().unwrap()).unwrap();
        p.server.post(at_server.into_reply().unwrap()).unwrap();
        for (side, channel) in [(&mut p.client, p.at_client), (&mut p.server, p.at_server)] {
            message_of(side, OpCode::ByeResponse);
            closed_with(side, channel, Status::CHANNEL_CLOSED);
            silent(side);
        }
    });
}

/// A reset throws away what is still on its way. With `messages` few, all of them are on their way,
/// in our kernel, before the asker reads any.
fn a_slow_asker_has_everything(address: &Address, messages: usize, len: usize) {
    // However slow: with its small buffer it takes many seconds on a busy machine.
    let engine = engine_with(Options::default().bye_timeout(WATCHDOG * 9));
    let mut server = engine.group().expect("a group");
    let (address, _) = listen(&mut server, address);
    let mut raw = Raw::hello_narrow(&address);
    let channel = message_of(&mut server, OpCode::HelloRequest).channel();
    raw.send(&Message::bye_request(channel).with_id(2));
    let bye = message_of(&mut server, OpCode::ByeRequest);
    for number in 0..messages {
        server.post(numbered(channel, number, len)).expect("posted");
    }
    let answer = bye.into_reply().expect("a reply");
    server.post(answer).expect("posted");
    if messages < 20 {
        eventually("all of it has left", || engine.metrics().queued_bytes == 0);
        silent(&mut server);
    }
    for number in 0..messages {
        assert_eq!(number_of(&raw.recv()), number);
    }
    let answer = raw.recv();
    assert_eq!(
        (answer.op_code(), answer.id().get()),
        (OpCode::ByeResponse, 2)
    );
    silent(&mut server);
    drop(raw);
    closed_with(&mut server, channel, Status::CHANNEL_CLOSED);
    silent(&mut server);
}

#[test]
fn the_answerer_does_not_reset_before_a_slow_asker_has_everything() {
    over_both(|address| a_slow_asker_has_everything(address, 16, 500));
    over_both(|address| a_slow_asker_has_everything(address, 2_000, 100));
}

/// The answer and all before it are in our kernel, the peer reads none of it in time, and our channel
/// ends: what was written still arrives.
#[test]
fn an_asker_slower_than_the_bye_timeout_has_everything_too() {
    over_both(|address| {
        let engine = engine_with(Options::default().bye_timeout(Duration::from_millis(50)));
        let mut server = engine.group().unwrap();
        let (address, listener) = listen(&mut server, address);
        let mut raw = Raw::hello_narrow(&address);
        let channel = message_of(&mut server, OpCode::HelloRequest).channel();
        raw.send(&Message::bye_request(channel).with_id(2));
        let bye = message_of(&mut server, OpCode::ByeRequest);
        for number in 0..16 {
            server.post(numbered(channel, number, 500)).unwrap();
        }
        server.post(bye.into_reply().unwrap()).unwrap();
        closed_with(&mut server, channel, Status::CHANNEL_CLOSED);
        for number in 0..16 {
            assert_eq!(number_of(&raw.recv()), number);
        }
        assert_eq!(raw.recv().op_code(), OpCode::ByeResponse);
        server.post(Message::bye_signal(listener)).unwrap();
        closed_with(&mut server, listener, Status::CHANNEL_CLOSED);
    });
}

#[test]
fn a_bye_that_nobody_answers_ends_with_bye_timeout() {
    over_both(|address| {
        let engine = engine_with(Options::default().bye_timeout(Duration::from_millis(50)));
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let mut raw = Raw::hello(&address);
        let channel = message_of(&mut server, OpCode::HelloRequest).channel();
        server.post(Message::bye_request(channel)).unwrap();
        assert_eq!(raw.recv().op_code(), OpCode::ByeRequest);
        closed_with(&mut server, channel, Status::BYE_TIMEOUT);
        assert_eq!(raw.read_to_end(), b"");
        assert_eq!(engine.metrics().bye_timeouts, 1);
        silent(&mut server);
    });
}

#[test]
fn a_crossed_bye_that_is_never_answered_ends_with_bye_timeout() {
    over_both(|address| {
        let engine = engine_with(Options::default().bye_timeout(Duration::from_millis(50)));
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let mut raw = Raw::hello(&address);
        let channel = message_of(&mut server, OpCode::HelloRequest).channel();
        raw.send(&Message::bye_request(channel).with_id(9));
        let bye = message_of(&mut server, OpCode::ByeRequest);
        server.post(Message::bye_request(channel)).unwrap();
        server.post(bye.into_reply().unwrap()).unwrap();
        assert_eq!(raw.recv().op_code(), OpCode::ByeRequest);
        assert_eq!(raw.recv().op_code(), OpCode::ByeResponse);
        closed_with(&mut server, channel, Status::BYE_TIMEOUT);
        assert_eq!(raw.read_to_end(), b"");
    });
}

#[test]
fn an_asker_that_never_closes_is_closed_after_the_bye_timeout() {
    over_both(|address| {
        let engine = engine_with(Options::default().bye_timeout(Duration::from_millis(50)));
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let mut raw = Raw::hello(&address);
        let channel = message_of(&mut server, OpCode::HelloRequest).channel();
        raw.send(&Message::bye_request(channel).with_id(9));
        let bye = message_of(&mut server, OpCode::ByeRequest);
        server.post(bye.into_reply().unwrap()).unwrap();
        assert_eq!(raw.recv().op_code(), OpCode::ByeResponse);
        closed_with(&mut server, channel, Status::CHANNEL_CLOSED);
        assert_eq!(raw.read_to_end(), b"");
    });
}

#[test]
fn a_bye_response_that_answers_nothing_is_a_violation() {
    over_both(|address| {
        let engine = engine();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let mut raw = Raw::hello(&address);
        let channel = message_of(&mut server, OpCode::HelloRequest).channel();
        raw.send(&Message::new(OpCode::ByeResponse, channel, 5));
        let reason = closed_with(&mut server, channel, Status::PROTOCOL_VIOLATION);
        assert_eq!(reason.violation(), Some(Violation::UnexpectedByeResponse));
        assert_eq!(raw.read_to_end(), b"");
        assert_eq!(engine.metrics().misplaced_byes, 1);
        silent(&mut server);
    });
}

#[test]
fn a_message_behind_the_peers_own_bye_is_a_violation() {
    over_both(|address| {
        let engine = engine();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let mut raw = Raw::hello(&address);
        let channel = message_of(&mut server, OpCode::HelloRequest).channel();
        raw.send(&Message::bye_request(channel).with_id(5));
        raw.send(&Message::signal(channel));
        message_of(&mut server, OpCode::ByeRequest);
        let reason = closed_with(&mut server, channel, Status::PROTOCOL_VIOLATION);
        assert_eq!(
            reason.violation(),
            Some(Violation::AfterBye(OpCode::Signal))
        );
    });
}

#[test]
fn a_hard_close_returns_what_was_queued_in_order_and_whole() {
    over_both(|address| {
        let engine = engine();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let mut raw = Raw::hello_narrow(&address);
        let channel = message_of(&mut server, OpCode::HelloRequest).channel();
        let posted = post_until_queued(&server, channel, &engine, 1 << 20);
        server.post(Message::bye_signal(channel)).unwrap();
        let refused = server.post(Message::signal(channel)).unwrap_err();
        assert!(matches!(
            refused.refusal(),
            Refusal::ChannelClosing(_) | Refusal::InvalidChannelNumber(_)
        ));

        let mut back = Vec::new();
        let reason = loop {
            match next(&mut server) {
                Event::Returned { message, reason } => {
                    assert_eq!(message.status(), Status::CHANNEL_CLOSED);
                    assert_eq!(reason.status(), Status::CHANNEL_CLOSED);
                    assert_eq!((message.channel(), message.body().len()), (channel, 60_008));
                    back.push(number_of(&message));
                }
                Event::Closed { reason, .. } => break reason,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(reason.status(), Status::CHANNEL_CLOSED);
        silent(&mut server);
        assert!(back.len() >= (1 << 20) / 60_024);
        let first = back[0];
        assert!(
            back.iter().copied().eq(first..posted),
            "{back:?} of {posted}"
        );
        assert_eq!(engine.metrics().queued_bytes, 0);

        // What came through came in order, and none of it came back.
        let arrived = frames_in(&raw.read_to_end());
        assert!(arrived.len() <= first);
        for (number, message) in arrived.iter().enumerate() {
            assert_eq!(number_of(message), number);
        }
    });
}

#[test]
fn closing_a_listener_leaves_its_accepted_channels_alone() {
    for close in [Message::bye_signal, Message::bye_request] {
        over_both(|address| {
            let engine = engine();
            let mut p = pair(&engine, address);
            p.server.post(close(p.listener)).unwrap();
            closed_with(&mut p.server, p.listener, Status::CHANNEL_CLOSED);
            let refused = p.server.post(close(p.listener)).unwrap_err();
            assert_eq!(
                refused.refusal(),
                &Refusal::InvalidChannelNumber(p.listener)
            );

            p.client.post(Message::request(p.at_client)).unwrap();
            let request = message_of(&mut p.server, OpCode::Request);
            p.server.post(request.into_reply().unwrap()).unwrap();
            message_of(&mut p.client, OpCode::Response);
            p.client.post(Message::hello_request(&p.address)).unwrap();
            let (_, reason) = returned(&mut p.client);
            assert!(
                [Status::CONNECT_REFUSED, Status::UDS_PATH_NOT_FOUND].contains(&reason.status()),
                "{reason}"
            );
            let (_, reason) = closed(&mut p.client);
            assert!(!reason.status().is_success());
        });
    }
}

/// The peer says bye, and nobody there receives any more: that is no reason to wait for it.
#[test]
fn a_close_after_the_peer_has_said_bye_does_not_wait_for_its_application() {
    over_both(|address| {
        let engine = engine();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let client = engine.group().unwrap();
        let channel = client
            .post(Message::hello_request(&address))
            .unwrap()
            .channel;
        client.post(Message::bye_request(channel)).unwrap();
        message_of(&mut server, OpCode::HelloRequest);
        let report = watched("closing", move || server.close(Duration::from_secs(10)));
        for (channel, reason) in &report.closed {
            assert!(reason.is_graceful(), "{channel}: {reason}");
        }
        assert_eq!(report.closed.len(), 2);
        drop(client);
    });
}
