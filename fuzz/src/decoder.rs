//! Cutting a stream of bytes into frames.
//!
//! The input is a byte that says how, a number of pieces (its lowest 4 bits), a length for each, and the
//! stream, which comes in pieces of these lengths over and over. If the first byte's highest bit is set,
//! the stream is not in the input as it is, but told: frames, most of them good, and longer pieces. After
//! an odd piece the driver has no message at hand: it lets the decoder keep all, and comes again with the
//! next piece. If the length is no multiple of three, the rest of a large frame is read to where it stays.
//!
//! Held to be true, for every stream and every split:
//! - the frames, and the way the stream ends, are those of the whole stream;
//! - no more is kept than has arrived and was not consumed, and nothing at rest;
//! - the header of a frame that has begun is told as soon as it is there;
//! - a frame that is written again has the same bytes, but for the bits that mean nothing.

use std::convert::Infallible;

use arbitrary::{Arbitrary, Unstructured};
use tofu_proto::{Decoder, Frame, Header, UnassignedOpCode};

use crate::frames::Saying;

const TOLD: u8 = 0b1000_0000;
/// Bytes of a stream that is told.
const TOLD_MAX: usize = 140_000;

/// How a stream is cut: the frames' bytes, then what is behind them.
#[derive(Debug, PartialEq)]
struct Cut {
    frames: Vec<Vec<u8>>,
    end: Result<usize, UnassignedOpCode>,
}

/// Panics if anything in the header of this page is not true of `data`.
pub fn check(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else {
        return;
    };
    let pieces = usize::from(first & 15).min(data.len());
    let (lens, rest) = data.split_at(pieces);
    let mut lens: Vec<_> = lens.iter().map(|&len| usize::from(len)).collect();
    if lens.is_empty() {
        lens.push(255);
    }
    if first & TOLD == 0 {
        return compare(rest, &lens);
    }
    for len in &mut lens {
        if *len > 64 {
            *len = *len * *len - *len % 2;
        }
    }
    compare(&told(rest), &lens);
}

fn told(data: &[u8]) -> Vec<u8> {
    let mut input = Unstructured::new(data);
    let mut stream = Vec::new();
    while !input.is_empty()
        && stream.len() < TOLD_MAX
        && let Ok(saying) = Saying::arbitrary(&mut input)
    {
        saying.append_to(&mut stream);
    }
    stream
}

fn compare(stream: &[u8], lens: &[usize]) {
    let whole = cut_whole(stream);
    let cut = cut_in_pieces(stream, lens);
    assert!(
        cut == whole,
        "{cut:?}\nin pieces of {lens:?}, but\n{whole:?}"
    );
}

fn cut_whole(mut stream: &[u8]) -> Cut {
    let mut frames = Vec::new();
    let end = loop {
        match Frame::first(stream) {
            Ok(Some(frame)) => {
                let (bytes, rest) = stream.split_at(frame.len());
                assert_eq!(written(&frame), without_idle_bits(bytes));
                frames.push(without_idle_bits(bytes));
                stream = rest;
            }
            Ok(None) => break Ok(stream.len()),
            Err(unassigned) => break Err(unassigned),
        }
    };
    Cut { frames, end }
}

fn cut_in_pieces(stream: &[u8], lens: &[usize]) -> Cut {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    let (mut consumed, mut arrived) = (0, 0);
    for &len in lens.iter().cycle() {
        let rest = &stream[arrived..];
        let mut input = &rest[..len.max(1).min(rest.len())];
        arrived += input.len();
        if len % 3 > 0 {
            let landed = decoder.land(|place| {
                let count = place.len().min(input.len());
                place[..count].copy_from_slice(&input[..count]);
                Ok::<_, Infallible>(count)
            });
            let landed = landed.map_or(0, |Ok(landed)| landed);
            input = &input[landed..];
        }
        let is_last = arrived == stream.len();
        // The last piece, and what was kept, must be cut in the end.
        if len % 2 == 1 && !is_last {
            decoder.keep(&mut input);
        } else {
            loop {
                match decoder.peek(&mut input) {
                    Ok(Some(frame)) => {
                        let len = frame.len();
                        frames.push(written(&frame));
                        decoder.consume(&mut input, len);
                        consumed += len;
                    }
                    Ok(None) => break,
                    Err(unassigned) => {
                        let end = Err(unassigned);
                        return Cut { frames, end };
                    }
                }
            }
        }
        assert!(input.is_empty(), "a piece is used up");
        let unconsumed = &stream[consumed..arrived];
        let kept = decoder.kept_len();
        assert_eq!(kept, unconsumed.len(), "what arrived is kept, and no more");
        assert_eq!(decoder.is_mid_frame(), kept > 0);
        let begun = unconsumed.first_chunk().map(Header::from_bytes).transpose();
        assert_eq!(decoder.begun(), begun);
        if is_last {
            break;
        }
    }
    Cut {
        frames,
        end: Ok(arrived - consumed),
    }
}

fn written(frame: &Frame<'_>) -> Vec<u8> {
    without_idle_bits(&[&frame.header.to_bytes(), frame.text_headers(), frame.body()].concat())
}

/// The internal bits of the proto byte are read as 0.
fn without_idle_bits(frame: &[u8]) -> Vec<u8> {
    assert!(frame.len() >= Header::LEN);
    let mut bytes = frame.to_vec();
    bytes[2] &= 0b0011_1111;
    bytes
}
