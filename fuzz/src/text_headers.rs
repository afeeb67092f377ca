//! Reading and writing text headers.
//!
//! The input is read as text headers as it is; and split at every 0 byte, its parts are written by
//! turns as names and values.
//!
//! Held to be true, for all bytes:
//! - reading gives what a second reader gives, which goes byte by byte as PROTOCOL.md section 2 says;
//! - exactly what may be written is written, and reads back in order, name and value trimmed;
//! - what could not be written leaves the message as it was.

use tofu_proto::{ChannelNumber, Message, TextHeaders};

/// Panics if anything in the header of this page is not true of `data`.
pub fn check(data: &[u8]) {
    read(data);
    write(data);
}

fn read(data: &[u8]) {
    let headers = TextHeaders::new(data);
    let expected = read_again(data);
    let read: Vec<_> = headers
        .into_iter()
        .map(|header| (header.name.to_vec(), header.value.to_vec()))
        .collect();
    assert_eq!(read, expected);
    for (name, _) in &expected {
        let first = expected.iter().find(|(other, _)| name == other);
        let first = first.map(|(_, value)| &value[..]);
        assert_eq!(headers.value(name), first);
    }
    for header in headers {
        let is_text = str::from_utf8(header.name).is_ok();
        assert_eq!(header.name_str().is_some(), is_text);
        let is_text = str::from_utf8(header.value).is_ok();
        assert_eq!(header.value_str().is_some(), is_text);
    }
    assert_eq!(headers.as_bytes(), data);
    let told = format!("{headers:?}");
    assert!(!told.contains(['\r', '\n']), "{told}");
}

/// The second reader.
fn read_again(data: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut lines = vec![Vec::new()];
    let mut bytes = data.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == b'\r' && bytes.next_if_eq(&b'\n').is_some() {
            lines.push(Vec::new());
        } else {
            lines.last_mut().expect("there is one").push(byte);
        }
    }
    let mut headers = Vec::new();
    for line in lines.iter().filter(|line| !line.is_empty()) {
        let mut parts = line.splitn(2, |&byte| byte == b':');
        let name = parts.next().expect("there is always a first part");
        if name.is_empty() {
            break;
        }
        let value = trimmed(parts.next().unwrap_or_default(), b" \t");
        headers.push((name.to_vec(), value.to_vec()));
    }
    headers
}

fn write(data: &[u8]) {
    const BODY: &[u8] = b"x:y\r\n";
    let mut parts = data.split(|&byte| byte == 0);
    let mut message = Message::signal(ChannelNumber::MIN).with_body(BODY);
    let mut expected = Vec::new();
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        let before = message.payload().to_vec();
        let written_name = trimmed(name, b" \t\r\n");
        let may = !written_name.is_empty()
            && !written_name.iter().any(|byte| b":\r\n".contains(byte))
            && !value.is_empty()
            && !value.iter().any(|byte| b"\r\n".contains(byte));
        match message.push_header(name, value) {
            Ok(()) => {
                assert!(may, "{name:?} {value:?}");
                expected.push((written_name, trimmed(value, b" \t")));
            }
            Err(error) => {
                assert!(!may, "{error}");
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
