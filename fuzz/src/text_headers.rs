//! Reading and writing text headers.
//!
//! The input is read as text headers as it is; and split at every 0 byte, its parts are written by
//! turns as names and values.
//!
//! Held to be true, for all bytes:
//! - reading ends, gives no empty name, no line end, and values without spaces and tabs around them;
//! - what could be written reads back in order, name and value trimmed, and nothing else does;
//! - what could not be written leaves the message as it was.

use tofu_proto::{ChannelNumber, Message, TextHeaders};

/// Panics if anything in the header of this page is not true of `data`.
pub fn check(data: &[u8]) {
    read(data);
    write(data);
}

fn read(data: &[u8]) {
    let headers = TextHeaders::new(data);
    let mut read_len = 0;
    for header in headers {
        assert!(!header.name.is_empty());
        assert!(!header.name.contains(&b':'));
        assert_eq!(header.value, trimmed(header.value, b" \t"));
        for bytes in [header.name, header.value] {
            assert!(!bytes.windows(2).any(|pair| pair == b"\r\n"));
        }
        assert!(headers.value(header.name).is_some());
        read_len += header.name.len() + header.value.len();
        let _ = (header.name_str(), header.value_str());
    }
    assert!(read_len <= data.len());
    assert_eq!(headers.as_bytes(), data);
    let _ = format!("{headers:?}");
}

fn write(data: &[u8]) {
    const BODY: &[u8] = b"x:y\r\n";
    let mut parts = data.split(|&byte| byte == 0);
    let mut message = Message::signal(ChannelNumber::MIN).with_body(BODY);
    let mut expected = Vec::new();
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        let before = message.payload().to_vec();
        match message.push_header(name, value) {
            Ok(()) => expected.push((trimmed(name, b" \t\r\n"), trimmed(value, b" \t"))),
            Err(error) => {
                assert_eq!(message.payload(), before, "{error}");
            }
        }
    }
    let read: Vec<_> = message
        .text_headers()
        .iter()
        .map(|header| (header.name, header.value))
        .collect();
    assert_eq!(read, expected);
    assert_eq!(message.body(), BODY);
}

fn trimmed<'a>(mut bytes: &'a [u8], spaces: &[u8]) -> &'a [u8] {
    while let [first, rest @ ..] = bytes
        && spaces.contains(first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && spaces.contains(last)
    {
        bytes = rest;
    }
    bytes
}
