//! Reading addresses.
//!
//! Held to be true, for all bytes:
//! - reading never panics, and an error names what it was about in one line;
//! - an address that was read prints as text that is read as the same address, and prints so again;
//! - an address that can be made of its parts is read from what it prints;
//! - a text header carries it.

use tofu_proto::{Address, AddressError, CONNECT_TO, Message, UDS_PATH_MAX};

/// Panics if anything in the header of this page is not true of `data`.
pub fn check(data: &[u8]) {
    check_read(Address::from_bytes(data));
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
