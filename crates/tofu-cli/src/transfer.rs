//! What `send` and `receive` agree on: how a file is a stream, and which names it may have.
//!
//! A file is a stream of Requests (`tofu::helpers::stream`). Its first message has the text headers
//! [`NAME`] and, if it is known, [`LEN`]; its last one has [`SHA256`]. The receiver answers each stream with
//! one Response: with [`RECEIVED_SHA256`] once the file is stored, or at any time with [`ERROR`], after which
//! the rest of the stream is of no use.

use std::{
    fmt::Write as _,
    io::{self, Read},
};

use sha2::{Digest, Sha256};

/// The text header with the name of the file: one component of a path.
pub(crate) const NAME: &str = "file-name";
/// The text header with the bytes that the file is expected to have: for progress only.
pub(crate) const LEN: &str = "file-len";
/// The text header with the hash of all bytes sent, in hexadecimal digits.
pub(crate) const SHA256: &str = "sha256";
/// The text header of the answer with the hash of all bytes stored. It is not [`SHA256`], so that nobody
/// takes an echo for it.
pub(crate) const RECEIVED_SHA256: &str = "received-sha256";
/// The text header of the answer that says why a file was not stored.
pub(crate) const ERROR: &str = "error";

/// Bytes of a name that any file system takes.
const NAME_LEN_MAX: usize = 255;

/// Checks that a name is one of a file in a directory, whatever it is that a peer has sent.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the name is empty".to_owned());
    }
    if name == "." || name == ".." || name.contains('/') {
        return Err("the name is not that of a file in a directory".to_owned());
    }
    if name.chars().any(char::is_control) {
        return Err("the name has control characters in it".to_owned());
    }
    if name.trim_matches([' ', '\t']) != name {
        return Err("the name begins or ends with a space".to_owned());
    }
    if name.len() > NAME_LEN_MAX {
        return Err(format!("the name has over {NAME_LEN_MAX} bytes"));
    }
    Ok(())
}

/// A hash as hexadecimal digits.
pub(crate) fn hex(hash: Sha256) -> String {
    let mut digits = String::new();
    for byte in hash.finalize() {
        let _ = write!(digits, "{byte:02x}"); // a string takes everything
    }
    digits
}

/// A reader that hashes what is read.
pub(crate) struct Hashing<R> {
    reader: R,
    hash: Sha256,
}

impl<R> Hashing<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader,
            hash: Sha256::new(),
        }
    }

    /// The hash of what was read so far.
    pub(crate) fn hex(&self) -> String {
        hex(self.hash.clone())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.reader.read(buffer)?;
        self.hash.update(&buffer[..len]);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_directory() {
        for wrong in [
            "",
            ".",
            "..",
            "/",
            "/etc/passwd",
            "../x",
            "a/b",
            "a/",
            "a\0",
            "a\nb",
            "\x1b[2J",
            "\u{85}",
            " a",
            "a ",
            "\ta",
        ] {
            assert!(check_name(wrong).is_err(), "{wrong:?}");
        }
        assert!(check_name(&"x".repeat(256)).is_err());
        let longest = "x".repeat(255);
        for right in [
            "a", "...", "..a", "a b.txt", "naïve", ".hidden", "a\\b", &longest,
        ] {
            assert_eq!(check_name(right), Ok(()), "{right:?}");
        }
    }

    #[test]
    fn the_hash_is_that_of_the_standard() {
        let mut reader = Hashing::new(&b"abc"[..]);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(reader.hex(), expected);
    }
}
