//! Faults that no stream has, to prove that the checker sees them.

use tofu_proto::{Decoder, Frame};

/// A fault that no stream, and no correct driver, has. Every one of them must fail the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The byte at this place of the stream is missing.
    DropByte(usize),
    /// The byte at this place comes twice.
    DuplicateByte(usize),
    /// The byte at this place and the next one change places.
    SwapBytes(usize),
    /// Something panics as this byte passes.
    PanicAtByte(usize),
    /// This frame, counted from 0, is missing.
    DropFrame(usize),
    /// This frame comes twice.
    DuplicateFrame(usize),
    /// This frame and the next one change places.
    SwapFrames(usize),
    /// The first message that comes back at the end is forgotten.
    DropReturned,
    /// The first message that comes back at the end comes back twice.
    DuplicateReturned,
    /// The driver closes as soon as its answer to a bye has left, and does not wait for the peer to
    /// close: the reset may overtake the answer.
    HastyClose,
}

/// Commits a [`Sabotage`] on a stream that passes by.
#[derive(Debug)]
pub(crate) struct Saboteur {
    sabotage: Sabotage,
    /// Bytes that have passed.
    bytes: usize,
    /// Frames that have passed.
    frames: usize,
    decoder: Decoder,
    /// What waits for what it changes places with.
    withheld: Vec<u8>,
}

impl Saboteur {
    pub(crate) fn new(sabotage: Sabotage) -> Self {
        Self {
            sabotage,
            bytes: 0,
            frames: 0,
            decoder: Decoder::new(),
            withheld: Vec::new(),
        }
    }

    /// What becomes of these bytes.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        match self.sabotage {
            Sabotage::DropByte(place)
            | Sabotage::DuplicateByte(place)
            | Sabotage::SwapBytes(place)
            | Sabotage::PanicAtByte(place) => self.pass_bytes(bytes, place),
            Sabotage::DropFrame(place)
            | Sabotage::DuplicateFrame(place)
            | Sabotage::SwapFrames(place) => self.pass_frames(bytes, place),
            Sabotage::DropReturned | Sabotage::DuplicateReturned | Sabotage::HastyClose => {
                bytes.to_vec()
            }
        }
    }

    fn pass_bytes(&mut self, bytes: &[u8], place: usize) -> Vec<u8> {
        let mut passed = Vec::new();
        for byte in bytes {
            let is_it = self.bytes == place;
            self.bytes += 1;
            self.pass_unit(&[*byte], is_it, &mut passed);
        }
        passed
    }

    fn pass_frames(&mut self, mut bytes: &[u8], place: usize) -> Vec<u8> {
        let mut passed = Vec::new();
        while let Ok(Some(frame)) = self.decoder.peek(&mut bytes) {
            let unit = bytes_of(&frame);
            let len = frame.len();
            self.decoder.consume(&mut bytes, len);
            let is_it = self.frames == place;
            self.frames += 1;
            self.pass_unit(&unit, is_it, &mut passed);
        }
        passed
    }

    fn pass_unit(&mut self, unit: &[u8], is_it: bool, passed: &mut Vec<u8>) {
        match self.sabotage {
            Sabotage::DropByte(_) | Sabotage::DropFrame(_) if is_it => {}
            Sabotage::DuplicateByte(_) | Sabotage::DuplicateFrame(_) if is_it => {
                passed.extend(unit.iter().chain(unit));
            }
            Sabotage::SwapBytes(_) | Sabotage::SwapFrames(_) if is_it => {
                self.withheld = unit.to_vec();
            }
            Sabotage::PanicAtByte(place) if is_it => panic!("byte {place} passes"),
            _ => {
                passed.extend(unit);
                passed.append(&mut self.withheld);
            }
        }
    }
}

fn bytes_of(frame: &Frame<'_>) -> Vec<u8> {
    [&frame.header.to_bytes(), frame.text_headers(), frame.body()].concat()
}

#[cfg(test)]
mod tests {
    use tofu_proto::{Header, OpCode};

    use super::*;

    #[test]
    fn bytes() {
        for (sabotage, expected) in [
            (Sabotage::DropByte(1), "acd"),
            (Sabotage::DuplicateByte(1), "abbcd"),
            (Sabotage::SwapBytes(1), "acbd"),
            (Sabotage::SwapBytes(3), "abc"),
        ] {
            let mut saboteur = Saboteur::new(sabotage);
            let mut passed = saboteur.pass(b"ab");
            passed.extend(saboteur.pass(b"cd"));
            assert_eq!(passed, expected.as_bytes(), "{sabotage:?}");
        }
    }

    #[test]
    fn frames() {
        let frames = [OpCode::Request, OpCode::Signal, OpCode::Response]
            .map(|op| Header::new(op).to_bytes().to_vec());
        let [a, b, c] = &frames;
        for (sabotage, expected) in [
            (Sabotage::DropFrame(1), [a, c].map(Clone::clone).concat()),
            (
                Sabotage::DuplicateFrame(1),
                [a, b, b, c].map(Clone::clone).concat(),
            ),
            (
                Sabotage::SwapFrames(1),
                [a, c, b].map(Clone::clone).concat(),
            ),
        ] {
            let mut saboteur = Saboteur::new(sabotage);
            let passed: Vec<_> = frames
                .concat()
                .chunks(7)
                .flat_map(|piece| saboteur.pass(piece))
                .collect();
            assert_eq!(passed, expected, "{sabotage:?}");
        }
    }
}
