use alloc::{format, string::ToString, vec};
use core::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{Address, Frame, OpType, Refusal};

const CHANNEL: ChannelNumber = ChannelNumber::new(5);

fn refusal(message: &Message) -> Refusal {
    message.check().expect_err("must be refused")
}

/// Its memory begins with a header that is none of its own.
#[test]
fn an_adopted_message_is_as_any_other() {
    let sent = Message::request(CHANNEL)
        .with_id(7)
        .with_header("a", "1")
        .with_body("body");
    let bytes = [&sent.binary_header().to_bytes(), sent.payload()].concat();
    let frame = Frame::first(&bytes).unwrap().unwrap();
    let blank = || Message::signal(ChannelNumber::UNASSIGNED).with_body("used before");
    let both = || {
        let (mut filled, mut adopted) = (blank(), blank());
        filled.fill(CHANNEL, &frame);
        adopted.adopt(CHANNEL, &frame.header, &mut bytes.clone());
        [filled, adopted]
    };
    let changes: [fn(Message) -> Message; 6] = [
        |message| message,
        |message| message.with_header("b", "2"),
        |message| message.with_body("another one"),
        |message| {
            let mut message = message.with_header("b", "2");
            message.extend_body("and more");
            message
        },
        |message| message.clone().into_reply().unwrap(),
        |message| {
            let mut message = Message::from_memory(message.into_memory());
            message.extend_body("new");
            message
        },
    ];
    for change in changes {
        let [filled, adopted] = both().map(change);
        assert_eq!(adopted, filled);
        assert_eq!(adopted.payload(), filled.payload());
        assert_eq!(adopted.frame_len(), filled.frame_len());
        assert_eq!(adopted.text_headers(), filled.text_headers());
        assert_eq!(adopted.body(), filled.body());
    }
}

#[test]
fn a_welcome_response_is_not_posted() {
    let message = Message::new(OpCode::WelcomeResponse, CHANNEL, 1);
    assert_eq!(
        refusal(&message),
        Refusal::InvalidOpCode(OpCode::WelcomeResponse)
    );
}

#[test]
fn a_response_needs_the_id_of_its_request() {
    for op in [OpCode::Response, OpCode::HelloResponse, OpCode::ByeResponse] {
        let message = Message::new(op, CHANNEL, 0);
        assert_eq!(refusal(&message), Refusal::InvalidMessageId(op));
        assert_eq!(message.with_id(9).check(), Ok(Order::Send));
    }
}

#[test]
fn only_regular_messages_are_continued() {
    for op in OpCode::ALL {
        let checked = Message::new(op, CHANNEL, 1).with_more(true).check();
        match op.op_type() {
            OpType::Regular => assert_eq!(checked, Ok(Order::Send)),
            _ if op == OpCode::WelcomeResponse => assert!(checked.is_err()),
            _ => assert_eq!(checked, Err(Refusal::InvalidMoreUsage(op))),
        }
    }
}

#[test]
fn channel_0_and_the_engines_are_no_channels() {
    for number in [ChannelNumber::UNASSIGNED, ChannelNumber::ENGINE] {
        let refused = refusal(&Message::signal(number));
        assert_eq!(refused, Refusal::InvalidChannelNumber(number));
    }
}

#[test]
fn what_opens_a_channel_has_none_yet() {
    let address = Address::tcp("127.0.0.1", 7099).unwrap();
    let mut hello = Message::hello_request(&address);
    assert_eq!(hello.check(), Ok(Order::Connect(address.clone())));
    hello.content.channel = CHANNEL;
    assert_eq!(refusal(&hello).status(), Status::NOT_ALLOWED);
    let mut welcome = Message::welcome_request(&address);
    assert_eq!(welcome.check(), Ok(Order::Listen(address)));
    welcome.content.channel = CHANNEL;
    assert_eq!(refusal(&welcome).status(), Status::NOT_ALLOWED);
}

#[test]
fn an_address_in_the_other_ones_header_is_wrong() {
    for (op, header) in [
        (OpCode::HelloRequest, LISTEN_ON),
        (OpCode::WelcomeRequest, CONNECT_TO),
    ] {
        let message =
            Message::new(op, ChannelNumber::UNASSIGNED, 0).with_header(header, "tcp|127.0.0.1|7");
        assert_eq!(refusal(&message), Refusal::WrongAddress(op));
    }
}

#[test]
fn an_address_that_does_not_parse_is_named() {
    for text in [
        "udp|127.0.0.1|7",
        "tcp|a|b|7",
        "tcp|127.0.0.1|65536",
        "uds|",
    ] {
        for (op, header) in [
            (OpCode::HelloRequest, CONNECT_TO),
            (OpCode::WelcomeRequest, LISTEN_ON),
        ] {
            let message = Message::new(op, ChannelNumber::UNASSIGNED, 0).with_header(header, text);
            let refused = refusal(&message);
            assert_eq!(refused.status(), Status::INVALID_ADDRESS);
            assert!(refused.to_string().contains(text), "{refused} names {text}");
        }
    }
    let port_0 = Message::hello_request(&Address::tcp("127.0.0.1", 0).unwrap());
    assert_eq!(refusal(&port_0).status(), Status::INVALID_ADDRESS);
}

#[test]
fn headers_and_body_have_at_most_65535_bytes() {
    let max = vec![b'x'; 65_535];
    let message = Message::signal(CHANNEL).with_body(&max);
    assert_eq!(message.check(), Ok(Order::Send));
    let mut too_long = message;
    too_long.extend_body("x");
    assert_eq!(refusal(&too_long), Refusal::InvalidBodyLen(65_536));
    // "n", ":", CR and LF
    let full = Message::signal(CHANNEL).with_header("n", &max[..65_535 - 4]);
    assert_eq!(full.check(), Ok(Order::Send));
    let full = full.with_header("a", "b");
    assert_eq!(refusal(&full), Refusal::InvalidHeadersLen(65_535 + 5));
}

#[test]
fn a_forged_header_is_refused() {
    let message = Message::signal(CHANNEL)
        .with_header("a", "b\r\nc:d")
        .with_header("e", "f");
    assert_eq!(refusal(&message).status(), Status::INVALID_MESSAGE);
    assert_eq!(message.header("c"), None);
    assert_eq!(message.header("e"), Some("f"));
}

#[test]
fn headers_and_body_may_be_set_in_any_order() {
    let one = Message::signal(CHANNEL)
        .with_header("a", "1")
        .with_header("b", "2")
        .with_body("x");
    let other = Message::signal(CHANNEL)
        .with_body("x")
        .with_header("a", "1")
        .with_header("b", "2");
    assert_eq!(one, other);
    assert_eq!(one.payload(), b"a:1\r\nb:2\r\nx");
}

#[test]
fn only_what_asks_has_a_reply() {
    for op in OpCode::ALL {
        let message = Message::new(op, CHANNEL, 3).with_body("x");
        match op.echo() {
            Some(echo) => {
                let reply = message.reply().unwrap();
                assert_eq!((reply.op_code(), reply.channel()), (echo, CHANNEL));
                assert_eq!((reply.id().get(), reply.body()), (3, &b""[..]));
                assert_eq!(message.into_reply().unwrap().body(), b"x");
            }
            None => assert_eq!(message.reply(), Err(NoReply(op))),
        }
    }
}

#[derive(Debug, Default)]
struct Counter(AtomicUsize);
impl Home for Counter {
    fn take_back(&self, memory: Blank) {
        self.0.fetch_add(1 + memory.capacity(), Ordering::Relaxed);
    }
}

#[test]
fn memory_goes_home_once() {
    let counter = Arc::new(Counter::default());
    let memory = Blank::with_capacity(99);
    drop(Message::from_home(
        memory,
        Arc::clone(&counter) as Arc<dyn Home>,
    ));
    assert_eq!(counter.0.swap(0, Ordering::Relaxed), 100);
    let mut leaver = Message::from_home(Blank::default(), Arc::clone(&counter) as Arc<dyn Home>)
        .with_body("kept");
    leaver.leave_home();
    assert_eq!(counter.0.load(Ordering::Relaxed), 1);
    assert_eq!(leaver.body(), b"kept");
    drop(leaver.clone());
    drop(leaver);
    assert_eq!(counter.0.load(Ordering::Relaxed), 1);
}

#[test]
fn debug_is_one_line() {
    let message = Message::request(CHANNEL)
        .with_more(true)
        .with_header("k", "v")
        .with_body([b'x'; 40]);
    let line = format!("{message:?}");
    assert!(!line.contains('\n'));
    assert!(
        line.starts_with("Request channel=5 id=0 more headers="),
        "{line}"
    );
    assert!(
        line.ends_with("body=40 bytes \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"..."),
        "{line}"
    );
}

#[test]
fn a_message_that_is_filled_again_says_nothing_of_before() {
    let mut message = Message::request(CHANNEL)
        .with_more(true)
        .with_header("a", "b\r\nc:d")
        .with_body("before");
    assert_eq!(refusal(&message).status(), Status::INVALID_MESSAGE);
    let received = Message::signal(CHANNEL)
        .with_id(7)
        .with_header("k", "v")
        .with_body("x");
    let frame = Frame {
        header: received.binary_header(),
        payload: received.payload(),
    };
    message.fill(CHANNEL, &frame);
    assert_eq!(message, received);
    assert_eq!(message.check(), Ok(Order::Send));
}
