//! The connection as its driver sees it. Transitions have their table in `state.rs`.

use alloc::{string::ToString, vec, vec::Vec};

use super::*;
use crate::Address;

const CHANNEL: ChannelNumber = ChannelNumber::new(21);
const ROOM: usize = 1 << 20;

fn timeouts() -> Arc<Timeouts> {
    Arc::new(Timeouts {
        hello: Duration::from_secs(10),
        connect: Duration::from_secs(30),
        frame: Duration::from_secs(20),
        bye: Duration::from_secs(5),
    })
}

fn at(seconds: u64) -> Instant {
    Instant::ORIGIN + Duration::from_secs(seconds)
}

fn hello() -> Message {
    Message::hello_request(&Address::tcp("127.0.0.1", 7099).unwrap()).with_id(1)
}

fn client() -> Connection {
    let mut message = hello();
    message.address_to(CHANNEL, MessageId::new(1));
    Connection::client(message, timeouts(), at(0))
}

/// A server that has heard hello.
fn server() -> Connection {
    let mut connection = Connection::server(CHANNEL, timeouts(), at(0));
    assert_eq!(
        hear(&mut connection, &hello(), at(0)).op_code(),
        OpCode::HelloRequest
    );
    connection
}

fn frame(message: &Message) -> Vec<u8> {
    let mut bytes = message.binary_header().to_bytes().to_vec();
    bytes.extend_from_slice(message.payload());
    bytes
}

fn blank() -> Message {
    Message::signal(ChannelNumber::UNASSIGNED)
}

fn feed(connection: &mut Connection, bytes: &[u8], now: Instant) -> Received {
    let mut input = bytes;
    connection.receive(&mut input, now, || Some(blank()))
}

fn hear(connection: &mut Connection, message: &Message, now: Instant) -> Message {
    match feed(connection, &frame(message), now) {
        Received::Message(message) => message,
        other => panic!("{message:?} is heard as {other:?}"),
    }
}

fn violation(connection: &mut Connection, bytes: &[u8]) -> Violation {
    match feed(connection, bytes, at(0)) {
        Received::Violation(violation) => violation,
        other => panic!("not a violation but {other:?}"),
    }
}

fn post(connection: &mut Connection, message: Message, now: Instant) -> Header {
    connection
        .post(message, ROOM, || now, || MessageId::new(1_000), drop)
        .expect("posted")
}

fn send_all(connection: &mut Connection, now: Instant) {
    let bytes = connection.queue().bytes();
    connection.handle_sent(bytes, || now, drop);
    assert!(connection.queue().is_empty());
}

fn bye() -> Message {
    Message::bye_request(CHANNEL).with_id(5)
}

fn answer() -> Message {
    bye().reply().unwrap()
}

#[test]
fn a_message_gets_the_local_channel_number() {
    let mut connection = server();
    let sent = Message::request(ChannelNumber::new(7_000))
        .with_id(3)
        .with_body("x");
    let heard = hear(&mut connection, &sent, at(1));
    assert_eq!(heard.channel(), CHANNEL);
    assert_eq!((heard.id().get(), heard.body()), (3, &b"x"[..]));
}

#[test]
fn posting_assigns_an_id_only_where_there_is_none() {
    let mut connection = server();
    assert_eq!(
        post(&mut connection, Message::signal(CHANNEL), at(1))
            .id
            .get(),
        1_000
    );
    let chosen = Message::signal(CHANNEL).with_id(8);
    assert_eq!(post(&mut connection, chosen, at(1)).id.get(), 8);
}

#[test]
fn status_and_internal_bits_on_the_wire_are_ignored() {
    let mut connection = server();
    let mut bytes = frame(&Message::signal(CHANNEL).with_id(3));
    bytes[2] |= 0b1100_0000;
    bytes[3] = 22;
    match feed(&mut connection, &bytes, at(0)) {
        Received::Message(message) => assert!(message.status().is_success()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_rules_forbid_in_every_state_is_a_violation() {
    for code in 10..=15 {
        let mut bytes = frame(&Message::signal(CHANNEL));
        bytes[2] = code;
        assert_eq!(
            violation(&mut server(), &bytes),
            Violation::UnassignedOpCode(code)
        );
        assert_eq!(
            violation(&mut client(), &bytes),
            Violation::UnassignedOpCode(code)
        );
    }
    for op in OpCode::ALL {
        let message = Message::new(op, CHANNEL, 4);
        let mut forged = frame(&message);
        forged[2] |= 0b0001_0000;
        let expected = if op.travels() {
            Violation::EngineOrigin(op)
        } else {
            Violation::LocalOpCode(op)
        };
        assert_eq!(violation(&mut server(), &forged), expected);
        if op.travels() && op.role() == Role::Response {
            let without_id = frame(&Message::new(op, CHANNEL, 0));
            assert_eq!(
                violation(&mut client(), &without_id),
                Violation::ResponseWithoutId(op)
            );
        }
        if op.travels() && op.op_type() != OpType::Regular {
            let more = frame(&message.with_more(true));
            assert_eq!(
                violation(&mut server(), &more),
                Violation::MoreNotAllowed(op)
            );
        }
    }
}

#[test]
fn the_first_frame_of_a_client_is_hello_and_the_second_is_not() {
    for op in OpCode::ALL {
        let mut fresh = Connection::server(CHANNEL, timeouts(), at(0));
        let bytes = frame(&Message::new(op, CHANNEL, 4));
        assert!(!fresh.is_known());
        match op {
            OpCode::HelloRequest => {
                assert!(matches!(
                    feed(&mut fresh, &bytes, at(0)),
                    Received::Message(_)
                ));
                assert!(fresh.is_known());
                assert_eq!(
                    violation(&mut fresh, &bytes),
                    Violation::UnexpectedHello(op)
                );
            }
            op if op.travels() => {
                assert_eq!(violation(&mut fresh, &bytes), Violation::HelloExpected(op));
            }
            op => assert_eq!(violation(&mut fresh, &bytes), Violation::LocalOpCode(op)),
        }
    }
}

#[test]
fn what_must_not_come_is_told_by_its_header() {
    let announced = Message::signal(CHANNEL).with_body([0; 100]);
    let header = &frame(&announced)[..Header::LEN];
    assert!(matches!(
        feed(&mut server(), header, at(0)),
        Received::Nothing
    ));
    let mut stranger = Connection::server(CHANNEL, timeouts(), at(0));
    assert_eq!(
        violation(&mut stranger, header),
        Violation::HelloExpected(OpCode::Signal)
    );
    let mut stranger = Connection::server(CHANNEL, timeouts(), at(0));
    assert_eq!(
        violation(&mut stranger, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        Violation::EngineOrigin(OpCode::HelloResponse)
    );
}

#[test]
fn a_hello_is_answered_once_and_by_the_server() {
    let response = hello().reply().unwrap();
    let bytes = frame(&response);
    assert_eq!(
        violation(&mut server(), &bytes),
        Violation::UnexpectedHello(OpCode::HelloResponse)
    );
    let mut asked = client();
    hear(&mut asked, &response, at(0));
    assert_eq!(
        violation(&mut asked, &bytes),
        Violation::UnexpectedHello(OpCode::HelloResponse)
    );
    let mut answers = server();
    let response = response.with_channel(CHANNEL);
    post(&mut answers, response.clone(), at(0));
    let again = answers
        .post(response.clone(), ROOM, || at(0), || unreachable!(), drop)
        .unwrap_err();
    assert_eq!(again.refusal().status(), Status::NOT_ALLOWED);
    assert_eq!(again.into_message(), response, "it comes back unchanged");
}

#[test]
fn a_client_may_post_behind_its_hello() {
    let mut connection = client();
    assert_eq!(
        connection.poll_timeout(),
        Some(at(30)),
        "the time to connect"
    );
    post(&mut connection, Message::request(CHANNEL), at(1));
    post(&mut connection, bye(), at(1));
    assert_eq!(
        connection.poll_timeout(),
        Some(at(30)),
        "a bye waits for the connection"
    );
    assert_eq!(
        connection.handle_timeout(at(30)),
        Some(Status::CONNECT_TIMEOUT)
    );
    connection.handle_connected(at(2));
    assert_eq!(connection.poll_timeout(), Some(at(7)), "now it runs");
    let ops: Vec<_> = connection
        .take_unsent()
        .map(|message| message.op_code())
        .collect();
    assert_eq!(
        ops,
        [OpCode::HelloRequest, OpCode::Request, OpCode::ByeRequest]
    );
}

#[test]
fn a_bye_is_answered_and_the_one_who_asked_closes() {
    let (mut asks, mut answers) = (client(), server());
    asks.handle_connected(at(0));
    send_all(&mut asks, at(0));
    post(&mut asks, bye(), at(1));
    send_all(&mut asks, at(1));
    assert_eq!(asks.poll_close(), None);

    let heard = hear(&mut answers, &bye(), at(2));
    assert_eq!(answers.bye_to_answer(), Some(heard.id()));
    post(&mut answers, heard.into_reply().unwrap(), at(3));
    assert_eq!(
        answers.poll_close(),
        None,
        "a reset would throw the answer away"
    );
    assert_eq!(
        answers.reason_at_end(),
        Status::PEER_DISCONNECTED,
        "it has not left"
    );
    send_all(&mut answers, at(3));
    assert_eq!(answers.reason_at_end(), Status::CHANNEL_CLOSED);

    hear(&mut asks, &answer(), at(4));
    assert_eq!(asks.poll_close(), Some(Status::CHANNEL_CLOSED));
}

#[test]
fn byes_that_cross_end_without_anyone_waiting_for_ever() {
    let (mut one, mut other) = (client(), server());
    one.handle_connected(at(0));
    for side in [&mut one, &mut other] {
        post(side, bye(), at(1));
        send_all(side, at(1));
    }
    for side in [&mut one, &mut other] {
        hear(side, &bye(), at(2));
        assert!(!side.wants_half_close());
        post(side, answer(), at(3));
        assert!(!side.wants_half_close(), "the answer has not left");
        send_all(side, at(3));
    }
    for side in [&mut one, &mut other] {
        hear(side, &answer(), at(4));
        assert!(side.wants_half_close());
        assert_eq!(
            side.poll_close(),
            None,
            "the peer may not have our answer yet"
        );
        assert_eq!(side.reason_at_end(), Status::CHANNEL_CLOSED);
    }
}

#[test]
fn an_answer_to_a_bye_that_has_not_left_answers_nothing() {
    let mut connection = client();
    connection.handle_connected(at(0));
    post(&mut connection, bye(), at(0));
    assert_eq!(
        violation(&mut connection, &frame(&answer())),
        Violation::UnexpectedByeResponse
    );
    let mut server = server();
    assert_eq!(
        violation(&mut server, &frame(&answer())),
        Violation::UnexpectedByeResponse
    );
}

#[test]
fn after_its_bye_a_peer_says_nothing_more() {
    for op in [OpCode::Request, OpCode::Signal, OpCode::ByeRequest] {
        let mut connection = server();
        hear(&mut connection, &bye(), at(0));
        let late = Message::new(op, CHANNEL, 9);
        assert_eq!(
            violation(&mut connection, &frame(&late)),
            Violation::AfterBye(op)
        );
    }
}

#[test]
fn between_bye_and_answer_the_rest_still_arrives() {
    let mut connection = server();
    post(&mut connection, bye(), at(0));
    send_all(&mut connection, at(0));
    hear(&mut connection, &Message::signal(CHANNEL), at(1));
    hear(&mut connection, &answer(), at(2));
    assert_eq!(connection.poll_close(), Some(Status::CHANNEL_CLOSED));
}

#[test]
fn an_unanswered_bye_times_out_since_anything_last_moved() {
    let mut connection = server();
    post(&mut connection, bye(), at(10));
    assert_eq!(connection.poll_timeout(), Some(at(15)));
    send_all(&mut connection, at(12));
    assert_eq!(connection.poll_timeout(), Some(at(17)));
    hear(&mut connection, &Message::signal(CHANNEL), at(14));
    assert_eq!(connection.handle_timeout(at(18)), None);
    assert_eq!(connection.handle_timeout(at(19)), Some(Status::BYE_TIMEOUT));
}

#[test]
fn a_bye_does_not_time_out_while_a_frame_trickles_in() {
    let mut connection = server();
    post(&mut connection, bye(), at(0));
    send_all(&mut connection, at(0));
    let bytes = frame(&Message::signal(CHANNEL).with_body("0123456789"));
    for (second, byte) in (1..).zip(&bytes[..20]) {
        assert!(matches!(
            feed(&mut connection, &[*byte], at(second)),
            Received::Nothing
        ));
        assert_eq!(connection.poll_timeout(), Some(at(second + 5)));
    }
    assert!(matches!(
        feed(&mut connection, &[], at(24)),
        Received::Nothing
    ));
    assert_eq!(
        connection.handle_timeout(at(25)),
        Some(Status::BYE_TIMEOUT),
        "nothing has moved"
    );
}

#[test]
fn a_peer_that_does_not_close_after_our_answer_is_no_failure() {
    let mut connection = server();
    hear(&mut connection, &bye(), at(0));
    post(&mut connection, answer(), at(1));
    assert_eq!(
        connection.handle_timeout(at(6)),
        Some(Status::BYE_TIMEOUT),
        "it never left"
    );
    send_all(&mut connection, at(2));
    assert_eq!(
        connection.handle_timeout(at(7)),
        Some(Status::CHANNEL_CLOSED)
    );
}

#[test]
fn a_client_that_says_no_hello_times_out() {
    let mut connection = Connection::server(CHANNEL, timeouts(), at(0));
    let bytes = frame(&hello());
    assert!(matches!(
        feed(&mut connection, &bytes[..20], at(9)),
        Received::Nothing
    ));
    assert_eq!(
        connection.handle_timeout(at(10)),
        Some(Status::HELLO_TIMEOUT),
        "slow is late"
    );
    assert!(matches!(
        feed(&mut connection, &bytes[20..], at(9)),
        Received::Message(_)
    ));
    assert_eq!(connection.poll_timeout(), None);
}

#[test]
fn a_frame_that_does_not_go_on_times_out() {
    let mut connection = server();
    let bytes = frame(&Message::signal(CHANNEL).with_body("0123456789"));
    for (second, byte) in (1..).zip(&bytes[..20]) {
        assert!(matches!(
            feed(&mut connection, &[*byte], at(second)),
            Received::Nothing
        ));
        assert_eq!(connection.poll_timeout(), Some(at(second + 20)));
    }
    assert_eq!(
        connection.handle_timeout(at(40)),
        Some(Status::FRAME_TIMEOUT)
    );
    assert!(matches!(
        feed(&mut connection, &bytes[20..], at(30)),
        Received::Message(_)
    ));
    assert!(matches!(
        feed(&mut connection, &[], at(30)),
        Received::Nothing
    ));
    assert_eq!(connection.poll_timeout(), None);
}

#[test]
fn while_we_do_not_read_nothing_is_the_peers_fault() {
    let mut connection = Connection::server(CHANNEL, timeouts(), at(0));
    let mut bytes = frame(&hello());
    bytes.extend(frame(&Message::signal(CHANNEL)));
    let mut input = &bytes[..];
    assert!(matches!(
        connection.receive(&mut input, at(1), || None),
        Received::Starved
    ));
    assert!(input.is_empty(), "everything is kept");
    connection.hold();
    assert_eq!(connection.handle_timeout(at(100)), None);
    connection.resume(at(100));
    assert_eq!(connection.poll_timeout(), Some(at(110)));
    let mut heard = Vec::new();
    while let Received::Message(message) = feed(&mut connection, &[], at(101)) {
        heard.push(message.op_code());
    }
    assert_eq!(heard, [OpCode::HelloRequest, OpCode::Signal]);
    assert_eq!(connection.poll_timeout(), None);
}

#[test]
fn a_full_queue_refuses_all_but_a_short_bye() {
    let mut connection = server();
    let message = Message::signal(CHANNEL).with_body(vec![0; 100]);
    let room = 2 * message.frame_len();
    let mut try_post =
        |message: Message| connection.post(message, room, || at(0), || MessageId::new(1), drop);
    assert!(try_post(message.clone()).is_ok());
    assert!(try_post(message.clone()).is_ok());
    let refused = try_post(message.clone()).unwrap_err();
    assert!(refused.to_string().contains("full (232 bytes"), "{refused}");
    assert_eq!(refused.into_message(), message, "it comes back unchanged");
    let with_frame_len = |len| bye().with_body(vec![0; len - bye().frame_len()]);
    let refused = try_post(with_frame_len(1_025)).unwrap_err();
    assert!(matches!(refused.refusal(), Refusal::QueueFull { .. }));
    assert!(try_post(with_frame_len(1_024)).is_ok());
    assert_eq!(connection.state(), State::ByeSent);
}

/// A few messages of every kind that may follow a hello, with payloads around the limits.
fn conversation() -> Vec<Message> {
    let big = vec![0xAB; 65_535];
    vec![
        hello().with_body("HI"),
        Message::signal(CHANNEL).with_id(2),
        Message::request(CHANNEL)
            .with_id(u64::MAX)
            .with_more(true)
            .with_body(&big),
        Message::request(CHANNEL)
            .with_id(u64::MAX)
            .with_header("k", "v"),
        Message::signal(CHANNEL)
            .with_id(4)
            .with_header("h", &big[..65_531])
            .with_body(&big),
        bye().with_body("gone"),
    ]
}

mod splits {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// However the stream is split, and however often there is no message at hand, the same
        /// messages come out.
        #[test]
        fn any_split_gives_the_same_messages(
            lens in prop::collection::vec(1_usize..40_000, 0..64),
            starved in prop::collection::vec(any::<bool>(), 1..16),
        ) {
            let messages = conversation();
            let bytes: Vec<u8> = messages.iter().flat_map(frame).collect();
            let mut connection = Connection::server(CHANNEL, timeouts(), at(0));
            let mut heard = Vec::new();
            let mut starved = starved.into_iter().chain([false]).cycle();
            let mut rest = &bytes[..];
            for len in lens.into_iter().chain([usize::MAX]) {
                let (piece, later) = rest.split_at(len.min(rest.len()));
                rest = later;
                let mut input = piece;
                loop {
                    let is_starved = starved.next() == Some(true);
                    match connection.receive(&mut input, at(0), || (!is_starved).then(blank)) {
                        Received::Message(message) => heard.push(message.with_channel(CHANNEL)),
                        Received::Starved => { connection.hold(); connection.resume(at(0)); }
                        Received::Nothing => break,
                        Received::Violation(violation) => panic!("{violation}"),
                    }
                }
            }
            let expected: Vec<_> =
                messages.into_iter().map(|message| message.with_channel(CHANNEL)).collect();
            prop_assert_eq!(heard, expected);
        }
    }
}
