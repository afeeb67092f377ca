//! Frames as the original tofu sends them (PROTOCOL.md, last section), both ways.

use serde_json::Value;
use tofu_proto::{ChannelNumber, Decoder, Frame, Header, Message, MessageId, OpCode, Origin};

fn vectors() -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("vectors.json")).expect("valid JSON");
    file["vectors"].as_array().expect("a list").clone()
}

fn text<'a>(vector: &'a Value, key: &str) -> &'a str {
    vector[key]
        .as_str()
        .unwrap_or_else(|| panic!("no {key} in {vector}"))
}

fn bytes(vector: &Value, key: &str) -> Vec<u8> {
    let hex = text(vector, key);
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits"))
        .collect()
}

fn number(vector: &Value) -> ChannelNumber {
    let number = vector["channel_number"].as_u64().expect("a number");
    ChannelNumber::new(u16::try_from(number).expect("16 bits"))
}

fn op_code(vector: &Value) -> OpCode {
    let name = text(vector, "op_code");
    OpCode::ALL
        .into_iter()
        .find(|op| op.name() == name)
        .expect("an op code")
}

fn id(vector: &Value) -> MessageId {
    MessageId::new(text(vector, "message_id").parse().expect("64 bits"))
}

#[test]
fn all_ten_are_here() {
    assert_eq!(vectors().len(), 10);
}

#[test]
fn frames_of_the_original_are_read() {
    for vector in vectors() {
        let bytes_on_wire = bytes(&vector, "frame_hex");
        let frame = Frame::first(&bytes_on_wire)
            .expect("assigned")
            .expect("whole");
        let expected = Header {
            channel: number(&vector),
            op_code: op_code(&vector),
            origin: Origin::Application,
            more: vector["more"].as_bool().expect("a flag"),
            status: 0.into(),
            id: id(&vector),
            text_headers_len: u16::try_from(bytes(&vector, "text_headers_hex").len()).unwrap(),
            body_len: u16::try_from(bytes(&vector, "body_hex").len()).unwrap(),
        };
        assert_eq!(frame.header, expected, "{}", vector["name"]);
        assert_eq!(frame.text_headers(), bytes(&vector, "text_headers_hex"));
        assert_eq!(frame.body(), bytes(&vector, "body_hex"));
        assert_eq!(frame.len(), bytes_on_wire.len());
    }
}

#[test]
fn frames_of_the_original_are_written() {
    for vector in vectors() {
        let frame_bytes = bytes(&vector, "frame_hex");
        let mut input = &frame_bytes[..];
        let mut decoder = Decoder::new();
        let mut message = Message::new(OpCode::Signal, ChannelNumber::UNASSIGNED, 0);
        let frame = decoder.peek(&mut input).expect("assigned").expect("whole");
        message.fill(frame.header.channel, &frame);
        let mut written = message.binary_header().to_bytes().to_vec();
        written.extend_from_slice(message.payload());
        assert_eq!(written, frame_bytes, "{}", vector["name"]);

        // And from its parts, as an application makes it.
        let mut made = Message::new(op_code(&vector), number(&vector), id(&vector))
            .with_more(vector["more"].as_bool().expect("a flag"));
        for header in message.text_headers() {
            made = made.with_header(header.name, header.value);
        }
        made = made.with_body(bytes(&vector, "body_hex"));
        // The original lets a value begin with a space, and reads it without.
        if vector["name"] != "hello_response_echoed_headers" {
            assert_eq!(made, message, "{}", vector["name"]);
        }
    }
}
