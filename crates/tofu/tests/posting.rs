//! What `post` refuses and why, what it assigns, and that what it refuses comes back unchanged.

mod support;

use std::time::Duration;

use support::*;
use tofu::{
    CONNECT_TO, ChannelGroup, ChannelNumber, Engine, Header, LISTEN_ON, Message, MessageId, OpCode,
    Options, Origin, Refusal, Status, UDS_PATH_MAX,
};

/// Posts a message that must be refused: it comes back as it was, with a reason and its status.
#[track_caller]
fn refused(group: &ChannelGroup, message: Message, status: Status) -> Refusal {
    let copy = message.clone();
    let error = group.post(message).expect_err("it must be refused");
    assert_eq!(error.message(), &copy, "it comes back unchanged");
    assert_eq!(error.refusal().status(), status, "{error}");
    assert!(!error.refusal().to_string().is_empty());
    let refusal = error.refusal().clone();
    assert_eq!(error.into_message(), copy);
    refusal
}

/// A message with something in every field that may have something in it.
fn full(op_code: OpCode, channel: ChannelNumber) -> Message {
    Message::new(op_code, channel, 4711)
        .with_header("colour", "green")
        .with_body("a body")
}

fn opening(op_code: OpCode, header: &str, value: impl AsRef<[u8]>) -> Message {
    Message::new(op_code, ChannelNumber::UNASSIGNED, 0).with_header(header, value)
}

/// The client asks, the server answers: the channel is alive.
#[track_caller]
fn talk(p: &mut Pair) {
    let asked = p
        .client
        .post(Message::request(p.at_client))
        .expect("posted");
    let request = message_of(&mut p.server, OpCode::Request);
    let answer = request.into_reply().expect("an answer");
    p.server.post(answer).expect("posted");
    let answer = message_of(&mut p.client, OpCode::Response);
    assert_eq!(answer.id(), asked.id);
}

/// Op codes that may be posted on a channel in which both sides are equal.
const REGULAR: [OpCode; 3] = [OpCode::Request, OpCode::Response, OpCode::Signal];

#[test]
fn a_posted_message_travels_without_the_marks_that_only_engines_make() {
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        let mut message = full(OpCode::Signal, p.at_server).with_more(true);
        message.set_status(Status::PEER_DISCONNECTED);
        message.set_origin(Origin::Engine);
        let sent = p.server.post(message).unwrap();
        assert_eq!(
            (sent.origin, sent.status),
            (Origin::Application, Status::SUCCESS)
        );
        assert_eq!((sent.channel, sent.id.get()), (p.at_server, 4711));
        let head = p.raw.take(Header::LEN);
        assert_eq!(head, sent.to_bytes(), "the header told is the one sent");
        assert_eq!(head[2], OpCode::Signal.code() | 0b0010_0000);
        assert_eq!(head[3], 0);
        assert_eq!(p.raw.take(20), b"colour:green\r\na body");

        // An order that stays here is told in the same way.
        let mut message = Message::bye_signal(p.at_server);
        message.set_status(Status::PEER_DISCONNECTED);
        message.set_origin(Origin::Engine);
        let sent = p.server.post(message).unwrap();
        assert_eq!(
            (sent.origin, sent.status),
            (Origin::Application, Status::SUCCESS)
        );
        assert!(sent.id.is_assigned());
    });
}

#[test]
fn ids_are_assigned_from_one_rising_sequence_of_the_process() {
    let (first, second) = (engine(), engine());
    let p = pair_between(&first, &second, &loopback());
    let mut last = MessageId::UNASSIGNED;
    for _ in 0..5 {
        for (group, channel) in [(&p.server, p.at_server), (&p.client, p.at_client)] {
            let sent = group.post(Message::signal(channel)).unwrap();
            assert!(sent.id > last, "{} after {last}", sent.id);
            last = sent.id;
        }
    }
    let orders = [
        Message::welcome_request(&loopback()),
        Message::hello_request(&p.address),
        Message::bye_signal(p.at_client),
    ];
    for message in orders {
        let sent = p.client.post(message).unwrap();
        assert!(sent.id > last, "{} after {last}", sent.id);
        last = sent.id;
    }
}

#[test]
fn an_id_that_was_chosen_is_kept() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        for id in [1, 0x0102_0304_0506_0708, u64::MAX] {
            let sent = p
                .client
                .post(Message::request(p.at_client).with_id(id))
                .unwrap();
            assert_eq!(sent.id.get(), id);
            assert_eq!(message_of(&mut p.server, OpCode::Request).id().get(), id);
        }
    });
}

#[test]
fn opening_assigns_the_channel_and_tells_it() {
    let engine = engine();
    let mut group = engine.group().unwrap();
    let welcome = group
        .post(Message::welcome_request(&loopback()).with_id(5))
        .unwrap();
    assert!(welcome.channel.is_assigned());
    assert_eq!(
        (welcome.op_code, welcome.id.get()),
        (OpCode::WelcomeRequest, 5)
    );
    let address = match next(&mut group) {
        tofu::Event::Listening { address, .. } => address,
        other => panic!("{other:?}"),
    };
    let hello = group.post(Message::hello_request(&address)).unwrap();
    assert!(hello.channel.is_assigned() && hello.channel != welcome.channel);
    assert_ne!(
        message_of(&mut group, OpCode::HelloRequest).channel(),
        hello.channel
    );
}

#[test]
fn op_codes_10_to_15_cannot_even_be_said() {
    for code in 10..=u8::MAX {
        assert_eq!(OpCode::from_code(code), None);
    }
}

#[test]
fn the_engines_own_op_code_is_refused() {
    let engine = engine();
    let mut p = pair(&engine, &loopback());
    for channel in [ChannelNumber::UNASSIGNED, p.at_client, p.listener] {
        let message = full(OpCode::WelcomeResponse, channel);
        let refusal = refused(&p.client, message, Status::INVALID_OP_CODE);
        assert_eq!(refusal, Refusal::InvalidOpCode(OpCode::WelcomeResponse));
    }
    talk(&mut p);
}

#[test]
fn a_response_without_the_id_of_its_request_is_refused() {
    let engine = engine();
    let mut p = pair(&engine, &loopback());
    for op_code in [OpCode::Response, OpCode::HelloResponse, OpCode::ByeResponse] {
        let message = full(op_code, p.at_server).with_id(0);
        let refusal = refused(&p.server, message, Status::INVALID_MESSAGE_ID);
        assert_eq!(refusal, Refusal::InvalidMessageId(op_code));
    }
    talk(&mut p);
}

#[test]
fn more_is_refused_on_hello_bye_and_welcome_and_travels_on_all_else() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        let zero = ChannelNumber::UNASSIGNED;
        for (op_code, channel) in [
            (OpCode::HelloRequest, zero),
            (OpCode::WelcomeRequest, zero),
            (OpCode::HelloResponse, p.at_server),
            (OpCode::ByeRequest, p.at_server),
            (OpCode::ByeResponse, p.at_server),
            (OpCode::ByeSignal, p.at_server),
        ] {
            let message = full(op_code, channel).with_more(true);
            let refusal = refused(&p.server, message, Status::INVALID_MORE_USAGE);
            assert_eq!(refusal, Refusal::InvalidMoreUsage(op_code));
        }
        for op_code in REGULAR {
            for more in [true, false] {
                let message = full(op_code, p.at_server).with_more(more);
                assert_eq!(p.server.post(message).unwrap().more, more);
                assert_eq!(message_of(&mut p.client, op_code).has_more(), more);
            }
        }
    });
}

#[test]
fn a_number_that_is_no_channels_is_refused() {
    let engine = engine();
    let mut p = pair(&engine, &loopback());
    let never_opened = ChannelNumber::new(30_000);
    for channel in [
        ChannelNumber::UNASSIGNED,
        ChannelNumber::ENGINE,
        never_opened,
    ] {
        for op_code in OpCode::ALL {
            if matches!(
                op_code,
                OpCode::HelloRequest | OpCode::WelcomeRequest | OpCode::WelcomeResponse
            ) {
                continue;
            }
            let message = full(op_code, channel);
            let refusal = refused(&p.client, message, Status::INVALID_CHANNEL_NUMBER);
            assert_eq!(refusal, Refusal::InvalidChannelNumber(channel));
        }
    }
    talk(&mut p);
}

/// The original accepts it, and drops it in silence.
#[test]
fn the_number_of_a_channel_that_is_closed_is_refused() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        p.client.post(Message::bye_signal(p.at_client)).unwrap();
        closed_with(&mut p.client, p.at_client, Status::CHANNEL_CLOSED);
        closed_with(&mut p.server, p.at_server, Status::PEER_DISCONNECTED);
        p.server.post(Message::bye_signal(p.listener)).unwrap();
        closed_with(&mut p.server, p.listener, Status::CHANNEL_CLOSED);
        for (group, channel) in [
            (&p.client, p.at_client),
            (&p.server, p.at_server),
            (&p.server, p.listener),
            // Once it is closed it is nobody's.
            (&p.client, p.at_server),
        ] {
            for op_code in [
                OpCode::Request,
                OpCode::Response,
                OpCode::Signal,
                OpCode::HelloResponse,
                OpCode::ByeRequest,
                OpCode::ByeResponse,
                OpCode::ByeSignal,
            ] {
                let message = full(op_code, channel);
                let refusal = refused(group, message, Status::INVALID_CHANNEL_NUMBER);
                assert_eq!(refusal, Refusal::InvalidChannelNumber(channel));
            }
        }
        quiet(&mut p.client);
    });
}

#[test]
fn the_number_of_a_connection_that_has_not_said_hello_is_refused() {
    over_both(|address| {
        let engine = engine();
        let mut server = engine.group().unwrap();
        let (address, listener) = listen(&mut server, address);
        let mut raw = Raw::connect(&address);
        eventually("the connection is accepted", || {
            engine.metrics().half_open == 1
        });
        for number in 1..100 {
            let channel = ChannelNumber::new(number);
            if channel == listener {
                continue;
            }
            for op_code in [
                OpCode::Request,
                OpCode::HelloResponse,
                OpCode::ByeRequest,
                OpCode::ByeSignal,
            ] {
                let message = full(op_code, channel);
                refused(&server, message, Status::INVALID_CHANNEL_NUMBER);
            }
        }
        // It has come to no harm.
        raw.send(&Message::hello_request(&address).with_id(1));
        let hello = message_of(&mut server, OpCode::HelloRequest);
        server.post(hello.reply().unwrap()).unwrap();
        assert_eq!(raw.recv().op_code(), OpCode::HelloResponse);
    });
}

#[test]
fn a_channel_of_another_group_is_refused() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        for (group, channel) in [
            (&p.client, p.at_server),
            (&p.client, p.listener),
            (&p.server, p.at_client),
        ] {
            for op_code in [
                OpCode::Request,
                OpCode::Response,
                OpCode::Signal,
                OpCode::HelloResponse,
                OpCode::ByeRequest,
                OpCode::ByeResponse,
                OpCode::ByeSignal,
            ] {
                let message = full(op_code, channel);
                let refusal = refused(group, message, Status::INVALID_CHANNEL_GROUP);
                assert_eq!(refusal, Refusal::InvalidChannelGroup(channel));
            }
        }
        talk(&mut p);
    });
}

#[test]
fn channels_of_different_engines_are_strangers() {
    let (first, second) = (engine(), engine());
    let p = pair_between(&first, &second, &loopback());
    assert_eq!(second.metrics().channels_open, 1);
    let last = ChannelNumber::new(3);
    refused(
        &p.client,
        full(OpCode::Signal, last),
        Status::INVALID_CHANNEL_NUMBER,
    );
}

/// The original kills the channel.
#[test]
fn a_hello_or_welcome_with_a_channel_number_does_not_harm_the_live_channel() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        for channel in [p.at_client, p.at_server, p.listener, ChannelNumber::ENGINE] {
            let hello = Message::hello_request(&p.address).with_channel(channel);
            let welcome = Message::welcome_request(&loopback()).with_channel(channel);
            for message in [hello, welcome] {
                let refusal = refused(&p.client, message, Status::NOT_ALLOWED);
                assert!(
                    matches!(refusal, Refusal::NotAllowed { channel: of, .. } if of == channel)
                );
            }
        }
        talk(&mut p);
        assert_eq!(engine.metrics().channels_open, 3);
    });
}

/// The original crashes.
#[test]
fn a_listener_takes_nothing_but_its_end() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        for op_code in [
            OpCode::Request,
            OpCode::Response,
            OpCode::Signal,
            OpCode::HelloResponse,
            OpCode::ByeResponse,
        ] {
            let message = full(op_code, p.listener);
            let refusal = refused(&p.server, message, Status::NOT_ALLOWED);
            assert!(
                matches!(refusal, Refusal::NotAllowed { channel, .. } if channel == p.listener)
            );
        }
        talk(&mut p);
        let _raw = Raw::hello(&p.address);
        message_of(&mut p.server, OpCode::HelloRequest);
    });
}

#[test]
fn bye_request_and_bye_signal_both_close_a_listener() {
    over_both(|address| {
        let engine = engine();
        let mut group = engine.group().unwrap();
        for bye in [Message::bye_request, Message::bye_signal] {
            let (_, listener) = listen(&mut group, address);
            let sent = group.post(bye(listener)).unwrap();
            assert_eq!(sent.channel, listener);
            closed_with(&mut group, listener, Status::CHANNEL_CLOSED);
        }
        assert_eq!(engine.metrics().channels_open, 0);
    });
}

/// The original gives no answer ever, or success and then a close.
#[test]
fn an_address_that_is_missing_or_in_the_others_header_is_refused() {
    let engine = engine();
    let mut group = engine.group().unwrap();
    let somewhere = "tcp|127.0.0.1|7099";
    for op_code in [OpCode::HelloRequest, OpCode::WelcomeRequest] {
        let (right, wrong) = if op_code == OpCode::HelloRequest {
            (CONNECT_TO, LISTEN_ON)
        } else {
            (LISTEN_ON, CONNECT_TO)
        };
        let bare = Message::new(op_code, ChannelNumber::UNASSIGNED, 0);
        for message in [
            bare.clone(),
            bare.clone().with_body(somewhere),
            opening(op_code, wrong, somewhere),
            // Names are case-sensitive.
            opening(op_code, &right.to_uppercase(), somewhere),
        ] {
            let refusal = refused(&group, message, Status::WRONG_ADDRESS);
            assert_eq!(refusal, Refusal::WrongAddress(op_code));
            assert!(refusal.to_string().contains(right), "{refusal}");
        }
    }
    assert_eq!(engine.metrics().channels_open, 0);
    quiet(&mut group);
}

/// The original reads beyond the end with four fields, and takes `udp|..` as tcp.
#[test]
fn an_address_that_does_not_parse_is_refused_and_named() {
    let engine = engine();
    let mut group = engine.group().unwrap();
    let long_path = format!("uds|/{}", "x".repeat(UDS_PATH_MAX));
    for address in [
        "nonsense",
        "|",
        "tcp",
        "uds",
        "udp|127.0.0.1|7099",
        "TCP|127.0.0.1|7099",
        "http://127.0.0.1:80",
        "tcp|127.0.0.1",
        "tcp|127.0.0.1|7099|",
        "tcp|127.0.0.1|7099|more",
        "tcp|127.0.0.1|65536",
        "tcp|127.0.0.1|-1",
        "tcp|127.0.0.1|+1",
        "tcp|127.0.0.1|80 80",
        "tcp|127.0.0.1|port",
        "tcp|127.0 0.1|7099",
        "uds|",
        "uds|@",
        "uds|/a|b",
        &long_path,
    ] {
        for (op_code, header) in [
            (OpCode::HelloRequest, CONNECT_TO),
            (OpCode::WelcomeRequest, LISTEN_ON),
        ] {
            let message = opening(op_code, header, address);
            let refusal = refused(&group, message, Status::INVALID_ADDRESS);
            assert!(refusal.to_string().contains(address), "{refusal}");
        }
    }
    let message = opening(OpCode::HelloRequest, CONNECT_TO, b"uds|/\xff\xfe");
    refused(&group, message, Status::INVALID_ADDRESS);
    assert_eq!(engine.metrics().channels_open, 0);
    quiet(&mut group);
}

/// The original tries to.
#[test]
fn nobody_connects_to_port_0() {
    let engine = engine();
    let mut group = engine.group().unwrap();
    for address in ["tcp|127.0.0.1|0", "tcp||0", "tcp|localhost|0"] {
        let message = opening(OpCode::HelloRequest, CONNECT_TO, address);
        refused(&group, message, Status::INVALID_ADDRESS);
    }
    quiet(&mut group);
}

#[test]
fn a_text_header_that_cannot_be_written_is_refused() {
    let engine = engine();
    let mut p = pair(&engine, &loopback());
    for (name, value) in [
        ("", "v"),
        (" \t", "v"),
        ("na:me", "v"),
        ("na\r\nme", "v"),
        ("name", ""),
        ("name", "v\r\n~connect_to:tcp|10.0.0.1|1"),
        ("name", "v\nw"),
    ] {
        let message = Message::signal(p.at_client).with_header(name, value);
        let refusal = refused(&p.client, message, Status::INVALID_MESSAGE);
        assert!(matches!(refusal, Refusal::InvalidHeader(_)));
    }
    talk(&mut p);
}

#[test]
fn text_headers_and_body_have_65535_bytes_at_most() {
    const MAX: usize = 65_535;
    const LINE: usize = "k:\r\n".len();
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        let at_client = p.at_client;
        let message = |headers: usize, body: usize| {
            Message::signal(at_client)
                .with_header("k", vec![b'v'; headers - LINE])
                .with_body(vec![b'b'; body])
        };
        let refusal = refused(&p.client, message(MAX + 1, 1), Status::INVALID_HEADERS_LEN);
        assert_eq!(refusal, Refusal::InvalidHeadersLen(MAX + 1));
        let refusal = refused(&p.client, message(10, MAX + 1), Status::INVALID_BODY_LEN);
        assert_eq!(refusal, Refusal::InvalidBodyLen(MAX + 1));
        // A 16-bit length would take it for an empty one.
        refused(&p.client, message(10, MAX + 2), Status::INVALID_BODY_LEN);

        p.client.post(message(MAX, MAX)).unwrap();
        let heard = message_of(&mut p.server, OpCode::Signal);
        assert_eq!(heard.header("k").map(str::len), Some(MAX - LINE));
        assert_eq!(heard.body(), vec![b'b'; MAX]);
    });
}

#[test]
fn a_full_queue_refuses_all_but_a_short_bye() {
    over_both(|address| {
        let bound = 200_000;
        let options = Options::default().queue_bytes(bound, 1 << 20);
        let engine = Engine::new(options).unwrap();
        let p = raw_pair(&engine, address);
        let message = full(OpCode::Signal, p.at_server).with_body(vec![b'x'; 50_000]);
        let refusal = loop {
            if let Err(error) = p.server.post(message.clone()) {
                assert_eq!(error.message(), &message);
                break error.refusal().clone();
            }
        };
        let Refusal::QueueFull {
            channel,
            queued_bytes,
        } = refusal
        else {
            panic!("{refusal}");
        };
        assert_eq!(channel, p.at_server);
        assert!(queued_bytes <= bound && queued_bytes + 50_000 > bound - 100);
        assert_eq!(engine.metrics().queue_full, 1);
        // Such a one a peer gets that says a long bye, does not read, and is given back what it said.
        let long_bye = Message::bye_request(p.at_server).with_body(vec![b'x'; 50_000]);
        let error = p.server.post(long_bye.clone()).unwrap_err();
        assert!(matches!(error.refusal(), Refusal::QueueFull { .. }));
        assert_eq!(error.message(), &long_bye);
        assert!(engine.metrics().queued_bytes <= bound);
        p.server.post(Message::bye_request(p.at_server)).unwrap();
    });
}

#[test]
fn behind_a_bye_nothing_is_taken() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        p.client.post(Message::bye_request(p.at_client)).unwrap();
        for op_code in REGULAR
            .into_iter()
            .chain([OpCode::ByeRequest, OpCode::HelloResponse])
        {
            let message = full(op_code, p.at_client);
            let refusal = refused(&p.client, message, Status::CHANNEL_CLOSING);
            assert_eq!(refusal, Refusal::ChannelClosing(p.at_client));
        }
        let bye = message_of(&mut p.server, OpCode::ByeRequest);
        // Who was asked may still say what it has to say.
        p.server.post(Message::signal(p.at_server)).unwrap();
        let after = [
            bye.reply().unwrap(),
            full(OpCode::Response, p.at_server),
            Message::bye_request(p.at_server),
        ];
        p.server.post(bye.reply().unwrap()).unwrap();
        for message in after {
            // It may be closed already, if the other end was quick.
            let error = p.server.post(message).expect_err("it must be refused");
            assert!(
                matches!(
                    error.refusal(),
                    Refusal::ChannelClosing(_) | Refusal::InvalidChannelNumber(_)
                ),
                "{error}"
            );
        }
        message_of(&mut p.client, OpCode::Signal);
        message_of(&mut p.client, OpCode::ByeResponse);
        closed_with(&mut p.client, p.at_client, Status::CHANNEL_CLOSED);
        closed_with(&mut p.server, p.at_server, Status::CHANNEL_CLOSED);
    });
}

#[test]
fn behind_the_order_to_close_nothing_is_taken() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        p.server.post(Message::bye_signal(p.listener)).unwrap();
        p.client.post(Message::bye_signal(p.at_client)).unwrap();
        for (group, channel) in [(&p.server, p.listener), (&p.client, p.at_client)] {
            for op_code in [OpCode::Signal, OpCode::ByeRequest, OpCode::ByeSignal] {
                group
                    .post(full(op_code, channel))
                    .expect_err("it must be refused");
            }
        }
        closed_with(&mut p.client, p.at_client, Status::CHANNEL_CLOSED);
    });
}

#[test]
fn an_answer_that_nobody_asked_for_is_refused() {
    let engine = engine();
    let mut p = pair(&engine, &loopback());
    for (group, op_code, channel) in [
        (&p.server, OpCode::ByeResponse, p.at_server),
        (&p.client, OpCode::ByeResponse, p.at_client),
        // The client said hello itself, and the server has answered already.
        (&p.client, OpCode::HelloResponse, p.at_client),
        (&p.server, OpCode::HelloResponse, p.at_server),
    ] {
        let refusal = refused(group, full(op_code, channel), Status::NOT_ALLOWED);
        assert!(matches!(refusal, Refusal::NotAllowed { op_code: of, .. } if of == op_code));
    }
    talk(&mut p);
}

#[test]
fn no_more_channels_are_opened_than_the_options_allow() {
    let engine = Engine::new(Options::default().channels_max(3)).unwrap();
    let mut p = pair(&engine, &loopback());
    for message in [
        Message::hello_request(&p.address).with_body("?"),
        Message::welcome_request(&loopback()).with_id(3),
    ] {
        let refusal = refused(&p.client, message, Status::TOO_MANY_CHANNELS);
        assert_eq!(refusal, Refusal::TooManyChannels(3));
        assert!(refusal.to_string().contains("`channels_max`"), "{refusal}");
    }
    talk(&mut p);
    p.server.post(Message::bye_signal(p.listener)).unwrap();
    closed_with(&mut p.server, p.listener, Status::CHANNEL_CLOSED);
    listen(&mut p.client, &loopback());
}

#[test]
fn while_the_engine_shuts_down_nothing_is_taken() {
    let engine = engine();
    let p = pair(&engine, &loopback());
    let poster = p.client.poster();
    // Nobody answers the byes of this one.
    let _server = p.server;
    engine.shutdown(Duration::from_millis(50));
    for message in [
        full(OpCode::Request, p.at_client),
        Message::bye_request(p.at_client),
        Message::bye_signal(p.at_client),
        Message::hello_request(&p.address),
        Message::welcome_request(&loopback()),
    ] {
        let refusal = refused(&p.client, message.clone(), Status::SHUTDOWN_STARTED);
        assert_eq!(refusal, Refusal::ShutdownStarted);
        let error = poster.post(message.clone()).expect_err("as its group");
        assert_eq!(error.refusal(), &Refusal::ShutdownStarted);
        assert_eq!(error.into_message(), message);
    }
}

#[test]
fn a_group_that_is_gone_takes_nothing() {
    let engine = engine();
    let ends: [fn(ChannelGroup); 3] = [drop, ChannelGroup::abort, |group| {
        group.close(Duration::from_millis(50));
    }];
    for end in ends {
        let group = engine.group().unwrap();
        let poster = group.poster();
        end(group);
        let error = poster
            .post(Message::welcome_request(&loopback()))
            .expect_err("its group is gone");
        assert_eq!(error.refusal(), &Refusal::ShutdownStarted);
    }
    assert_eq!(engine.metrics().channels_open, 0);
}

#[test]
fn a_refused_message_of_the_pool_stays_one() {
    let engine = engine();
    let group = engine.group().unwrap();
    let message = engine.try_message().unwrap();
    let error = group.post(message.with_body("x")).expect_err("channel 0");
    assert_eq!(engine.metrics().pool_messages_out, 1);
    drop(error.into_message());
    assert_eq!(engine.metrics().pool_messages_out, 0);
}
