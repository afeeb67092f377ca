//! Reading addresses.
//!
//! Held to be true, for all bytes:
//! - reading never panics, and an error names what it was about in one line;
//! - a text header is read exactly if it has the form of PROTOCOL.md section 2, and says the same;
//! - an address that was read prints as text that is read as the same address, and prints so again;
//! - an address that can be made of its parts is read from what it prints;
//! - a text header carries it.

use tofu_proto::{Address, AddressError, CONNECT_TO, Message, UDS_PATH_MAX};

/// Panics if anything in the header of this page is not true of `data`.
pub fn check(data: &[u8]) {
    let read = Address::from_bytes(data);
    assert_eq!(read.as_ref().ok().map(parts), read_again(data));
    check_read(read);
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    check_read(text.parse());
    for made in [Address::tcp(text, 7), Address::uds(text)] {
        check_read(made);
    }
}

fn check_read(read: Result<Address, AddressError>) {
    match read {
        Ok(address) => check_address(&address),
        Err(error) => {
            let told = error.to_string();
            assert!(!told.contains(['\n', '\r', '\0']), "{told:?}");
        }
    }
}

fn check_address(address: &Address) {
    let printed = address.to_string();
    match printed.parse::<Address>() {
        Ok(again) => {
            assert_eq!(again, *address, "{printed:?} is read as another address");
            assert_eq!(again.to_string(), printed);
        }
        Err(error) => panic!("{address:?} prints as {printed:?}, which is not read: {error}"),
    }
    let hello = Message::hello_request(address);
    let carried = hello.text_headers().value(CONNECT_TO).expect("it is there");
    assert_eq!(Address::from_bytes(carried).as_ref(), Ok(address));
    assert!(address.host().is_some() != address.path().is_some());
    assert!(
        address
            .path()
            .is_none_or(|path| path.len() <= UDS_PATH_MAX + 1)
    );
    assert!(address.check_connect().is_ok() || address.port() == 0);
}

/// What an address consists of: a path, or a host and a port.
#[derive(Debug, PartialEq)]
enum Parts<'a> {
    Tcp(&'a str, u32),
    Uds(&'a str),
}

fn parts(address: &Address) -> Parts<'_> {
    match address.path() {
        Some(path) => Parts::Uds(path),
        None => Parts::Tcp(address.host().expect("tcp"), address.port().into()),
    }
}

/// A second reader, of nothing but the protocol's form.
fn read_again(data: &[u8]) -> Option<Parts<'_>> {
    let text = str::from_utf8(data).ok()?;
    match text.split('|').collect::<Vec<_>>()[..] {
        ["tcp", host, port] => {
            let is_bad = |c: char| "/[]".contains(c) || c.is_whitespace() || c.is_control();
            let mut number = if port.is_empty() { 7099 } else { 0 };
            for digit in port.chars() {
                number = (number * 10 + digit.to_digit(10)?).min(1 << 16);
            }
            (!host.contains(is_bad) && number < 1 << 16).then_some(Parts::Tcp(host, number))
        }
        ["uds", path] => {
            let len = path.len() - usize::from(path.starts_with('@'));
            let is_good = !path.contains(char::is_control) && !path.ends_with(' ');
            (is_good && (1..=UDS_PATH_MAX).contains(&len)).then_some(Parts::Uds(path))
        }
        _ => None,
    }
}
