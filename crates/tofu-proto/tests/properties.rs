//! What is true of all values, held against many.

use std::{sync::Arc, time::Duration};

use proptest::{collection::vec, prelude::*};
use tofu_proto::{
    Address, CONNECT_TO, ChannelNumber, Connection, Header, Instant, Message, MessageId, OpCode,
    Origin, Received, Status, Timeouts,
};

const CHANNEL: ChannelNumber = ChannelNumber::new(21);

fn header() -> impl Strategy<Value = Header> {
    let flags = (0_u8..10, any::<bool>(), any::<bool>());
    let numbers = any::<(u16, u8, u64, u16, u16)>();
    (flags, numbers).prop_map(
        |((op, engine, more), (channel, status, id, headers, body))| Header {
            channel: channel.into(),
            op_code: OpCode::from_code(op).expect("all ten are assigned"),
            origin: if engine {
                Origin::Engine
            } else {
                Origin::Application
            },
            more,
            status: Status::from_code(status),
            id: id.into(),
            text_headers_len: headers,
            body_len: body,
        },
    )
}

/// What can be written as a text header, with spaces where they may be.
fn text_header() -> impl Strategy<Value = (String, String)> {
    (
        "[ \t\r\n]{0,2}[a-z~ö][a-z ]{0,6}[a-z][ \t]{0,2}",
        "[ \t]{0,2}[!-~é ]{1,12}[ \t]{0,2}",
    )
}

/// What passes for an address, of almost any text.
fn address() -> impl Strategy<Value = Address> {
    let text = "@?[^|\\pC]{0,25}";
    let tcp = |(host, port): (String, u16)| Address::tcp(host, port).ok();
    prop_oneof![
        (text, any::<u16>()).prop_filter_map("no host", tcp),
        text.prop_filter_map("no path", |path| Address::uds(path).ok()),
    ]
}

/// A message of some length, in most cases one that is copied next to its neighbours.
fn message() -> impl Strategy<Value = Message> {
    let len = prop_oneof![8 => 0_usize..300, 2 => 3_900_usize..4_200, 1 => 0_usize..=65_535];
    (len, 1_u64.., any::<bool>(), any::<u8>()).prop_map(|(len, id, more, byte)| {
        Message::request(CHANNEL)
            .with_id(id)
            .with_more(more)
            .with_header("k", byte.to_string())
            .with_body(vec![byte; len])
    })
}

/// A message of some length, in many cases one that lands where it stays.
fn large_message() -> impl Strategy<Value = Message> {
    let len = prop_oneof![2 => 0_usize..300, 1 => 3_000_usize..10_000, 2 => 0_usize..=65_535];
    (message(), len, any::<u8>(), any::<bool>()).prop_map(|(message, len, byte, has_header)| {
        let message = message.with_body(vec![byte; len]);
        if has_header {
            message.with_header("long", "v".repeat(len.max(1) / 2 + 1))
        } else {
            message
        }
    })
}

fn client(hello: &mut Message) -> Connection {
    let seconds = Duration::from_secs;
    let timeouts = Timeouts {
        hello: seconds(1),
        connect: seconds(1),
        frame: seconds(1),
        bye: seconds(1),
    };
    hello.address_to(CHANNEL, MessageId::new(1));
    let mut connection = Connection::client(hello.clone(), Arc::new(timeouts), Instant::ORIGIN);
    connection.handle_connected(Instant::ORIGIN);
    connection
}

fn frame(message: &Message) -> Vec<u8> {
    [&message.binary_header().to_bytes(), message.payload()].concat()
}

proptest! {
    #[test]
    fn a_header_is_its_16_bytes(header in header()) {
        prop_assert_eq!(Header::from_bytes(&header.to_bytes()), Ok(header));
    }

    /// Headers may be written before the body or after it, and the body in pieces.
    #[test]
    fn what_is_put_into_a_message_is_read_from_it(
        before in vec(text_header(), 0..4),
        body in vec(any::<u8>(), 0..100),
        after in vec(text_header(), 0..4),
        more_body in vec(any::<u8>(), 0..100),
    ) {
        let mut message = Message::signal(CHANNEL);
        for (name, value) in &before {
            message = message.with_header(name, value);
        }
        message = message.with_body(&body);
        for (name, value) in &after {
            message = message.with_header(name, value);
        }
        message.extend_body(&more_body);

        let trimmed = |(name, value): &(String, String)| {
            (name.trim().to_owned(), value.trim_matches([' ', '\t']).to_owned())
        };
        let expected: Vec<_> = before.iter().chain(&after).map(trimmed).collect();
        let read: Vec<_> = message
            .text_headers()
            .iter()
            .map(|header| (header.name_str().unwrap().into(), header.value_str().unwrap().into()))
            .collect();
        prop_assert_eq!(read, expected);
        prop_assert_eq!(message.body(), [body, more_body].concat());
        prop_assert!(message.check().is_ok());
    }

    /// By anyone, and by a peer in the text header that carries it.
    #[test]
    fn an_address_is_read_from_what_it_prints(address in address()) {
        let hello = Message::hello_request(&address);
        let carried = hello.text_headers().value(CONNECT_TO).expect("it is there");
        prop_assert_eq!(Address::from_bytes(carried), Ok(address.clone()));
        prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
    }

    /// However much leaves at a time: what has left are the frames in order, and what comes back is
    /// every message of which a byte is missing.
    #[test]
    fn what_has_left_and_what_comes_back_is_what_was_posted(
        turns in vec((vec(message(), 0..5), 0_usize..20_000), 0..8),
    ) {
        let mut hello = Message::hello_request(&Address::tcp("127.0.0.1", 7099).unwrap());
        let mut connection = client(&mut hello);
        let mut posted = vec![hello];
        let mut left = Vec::new();
        for (messages, count) in turns {
            for message in messages {
                posted.push(message.clone());
                let unlimited = usize::MAX;
                connection.post(message, unlimited, || Instant::ORIGIN, || unreachable!(), drop).unwrap();
            }
            let queue = connection.queue();
            let leaving: Vec<u8> = queue.slices().flatten().copied().take(count).collect();
            connection.handle_sent(leaving.len(), || Instant::ORIGIN, drop);
            left.extend(leaving);
        }
        let stream: Vec<u8> = posted.iter().flat_map(frame).collect();
        prop_assert_eq!(connection.queue().bytes(), stream.len() - left.len());
        prop_assert!(stream.starts_with(&left));

        let mut end = 0;
        let missing: Vec<_> = posted
            .into_iter()
            .filter(|message| {
                end += message.frame_len();
                end > left.len()
            })
            .collect();
        prop_assert_eq!(connection.take_unsent().collect::<Vec<_>>(), missing);
    }

    /// The rest of a large frame is read to where it stays, all else as it comes.
    #[test]
    fn a_stream_says_the_same_however_it_lands(
        messages in vec(large_message(), 1..8),
        portions in vec(1_usize..70_000, 1..30),
        starves in any::<u8>(),
    ) {
        let mut hello = Message::hello_request(&Address::tcp("127.0.0.1", 7099).unwrap());
        let mut connection = client(&mut hello);
        let stream: Vec<u8> = messages.iter().flat_map(frame).collect();
        let mut left = &stream[..];
        let mut heard = Vec::new();
        for (turn, portion) in portions.into_iter().cycle().enumerate() {
            let mut input = &left[..portion.min(left.len())];
            let landed = connection.land(Instant::ORIGIN, |place| {
                let count = place.len().min(input.len());
                place[..count].copy_from_slice(&input[..count]);
                Ok::<_, ()>(count)
            });
            left = &left[input.len()..];
            let landed = landed.map_or(0, |landed| landed.expect("it does not fail"));
            input = &input[landed..];
            // Now and then there is no message for a while.
            let mut has_message = turn % 4 != usize::from(starves % 8);
            loop {
                let take = || has_message.then(|| Message::signal(CHANNEL).with_body("used before"));
                match connection.receive(&mut input, Instant::ORIGIN, take) {
                    Received::Message(message) => heard.push(message),
                    Received::Starved => has_message = true,
                    Received::Nothing => break,
                    Received::Violation(violation) => panic!("{violation}"),
                }
            }
            if left.is_empty() {
                break;
            }
        }
        prop_assert_eq!(heard, messages);
    }
}
