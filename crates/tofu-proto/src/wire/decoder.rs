//! Cuts a stream of bytes, split anywhere, into frames.
//!
//! Frames are borrowed, not copied: from the bytes at hand while they hold whole frames, and from
//! the decoder's own buffer when a frame came in pieces or nobody had room for it. The buffer holds
//! what has arrived, never what was announced, and is given up when it runs empty: a decoder at
//! rest owns no memory.
//!
//! The rest of a large frame may be [read](Decoder::land) straight into the buffer, which has room for it once a
//! quarter has arrived; and the buffer of a large frame that is alone there becomes its message's memory.
//!
//! The invariant is `start <= kept.len()`, and `start < kept.len()` or both are 0.

use alloc::vec::Vec;

use super::{Header, UnassignedOpCode};

/// Bytes that are worth being read straight to where they stay.
pub(crate) const LANDED_MIN: usize = 4 * 1024;
/// Memory for a frame that is coming is at most this many times what has arrived of it.
const GROWTH_MAX: usize = 4;

/// A whole frame, borrowed from the bytes that carried it: header, text headers, body, with nothing between
/// them (PROTOCOL.md section 1).
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::{Frame, OpCode};
///
/// let bytes = b"\xfa\xd4\x02\0\0\0\0\0\0\0\0\x03\0\0\0\x01S, and what follows";
/// let frame = Frame::first(bytes)?.expect("a whole one");
/// assert_eq!((frame.header.op_code, frame.body()), (OpCode::Signal, &b"S"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its header, as sent.
    pub header: Header,
    /// Its text headers, encoded, and behind them its body.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame at the start of `bytes`, or `None` while part of it is missing.
    ///
    /// # Errors
    /// An op code that is not assigned, as soon as its header is there.
    ///
    /// # Example
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::Frame;
    ///
    /// let bytes = b"\xfa\xd4\x02\0\0\0\0\0\0\0\0\x03\0\0\0\x01S";
    /// assert!(Frame::first(bytes)?.is_some());
    /// assert!(Frame::first(&bytes[..16])?.is_none()); // its body is missing
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn first(bytes: &'a [u8]) -> Result<Option<Self>, UnassignedOpCode> {
        let Some((head, rest)) = bytes.split_first_chunk::<{ Header::LEN }>() else {
            return Ok(None);
        };
        let header = Header::from_bytes(head)?;
        let Some(payload) = rest.get(..header.payload_len()) else {
            return Ok(None);
        };
        Ok(Some(Self { header, payload }))
    }

    /// Its text headers, encoded; [`TextHeaders`](crate::TextHeaders) reads them.
    ///
    /// # Panics
    /// If the payload is shorter than the header says: no frame of [`first`](Self::first) or of a decoder is.
    ///
    /// # Example
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{Frame, Header, OpCode};
    ///
    /// let header = Header { text_headers_len: 5, body_len: 2, ..Header::new(OpCode::Signal) };
    /// let frame = Frame { header, payload: b"k:v\r\nhi" };
    /// assert_eq!((frame.text_headers(), frame.body()), (&b"k:v\r\n"[..], &b"hi"[..]));
    /// ```
    pub fn text_headers(&self) -> &'a [u8] {
        &self.payload[..usize::from(self.header.text_headers_len)]
    }

    /// Its body. See [`text_headers`](Self::text_headers) for both.
    ///
    /// # Panics
    /// If the payload is shorter than the header says it of the text headers.
    ///
    /// # Example
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{Frame, Header, OpCode};
    ///
    /// let header = Header { body_len: 2, ..Header::new(OpCode::Signal) };
    /// assert_eq!(Frame { header, payload: b"hi" }.body(), b"hi");
    /// ```
    pub fn body(&self) -> &'a [u8] {
        &self.payload[usize::from(self.header.text_headers_len)..]
    }

    /// Bytes of the frame on the wire.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{Frame, Header, OpCode};
    ///
    /// let header = Header { body_len: 2, ..Header::new(OpCode::Signal) };
    /// assert_eq!(Frame { header, payload: b"hi" }.len(), 16 + 2);
    /// ```
    #[inline]
    pub fn len(&self) -> usize {
        self.header.frame_len()
    }

    /// Never: a frame has at least its header.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{Frame, Header, OpCode};
    ///
    /// let frame = Frame { header: Header::new(OpCode::Signal), payload: b"" };
    /// assert!(!frame.is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// Cuts a stream of bytes into frames.
///
/// The driver hands in bytes with each call; [`peek`](Self::peek) shows the next frame and
/// [`consume`](Self::consume) takes it. When the driver stops early, it lets the decoder
/// [`keep`](Self::keep) the rest.
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::{Decoder, Header, OpCode};
///
/// let bytes = Header::new(OpCode::Signal).to_bytes();
/// let mut decoder = Decoder::new();
/// let mut first_half = &bytes[..7];
/// assert_eq!(decoder.peek(&mut first_half), Ok(None));
/// let mut second_half = &bytes[7..];
/// let frame = decoder.peek(&mut second_half).unwrap().unwrap();
/// assert_eq!(frame.header.op_code, OpCode::Signal);
/// let len = frame.len();
/// decoder.consume(&mut second_half, len);
/// assert!(!decoder.is_mid_frame());
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    kept: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// A decoder at the start of a stream.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// assert!(!tofu::Decoder::new().is_mid_frame());
    /// ```
    #[inline]
    pub const fn new() -> Self {
        Self {
            kept: Vec::new(),
            start: 0,
        }
    }

    /// Shows the next frame without taking it. `None` asks for more bytes: then all of `input` has
    /// been kept.
    ///
    /// # Errors
    /// An op code that is not assigned. The stream is lost then: there is no way to find the next
    /// frame.
    ///
    /// # Example
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{Decoder, Header, OpCode};
    ///
    /// let bytes = Header::new(OpCode::Signal).to_bytes();
    /// let (mut decoder, mut input) = (Decoder::new(), &bytes[..]);
    /// let len = decoder.peek(&mut input)?.expect("a whole frame").len();
    /// decoder.consume(&mut input, len);
    /// assert_eq!(decoder.peek(&mut input)?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn peek<'a, 'input: 'a>(
        &'a mut self,
        input: &mut &'input [u8],
    ) -> Result<Option<Frame<'a>>, UnassignedOpCode> {
        if self.kept.is_empty() {
            if let Some(frame) = Frame::first(input)? {
                return Ok(Some(frame));
            }
            self.keep(input);
            return Ok(None);
        }
        // A frame that came in pieces: complete its header, then the frame, and no more than that.
        self.top_up(input, Header::LEN);
        if let Some((head, _)) = self.unread().split_first_chunk::<{ Header::LEN }>() {
            let frame_len = Header::from_bytes(head)?.frame_len();
            self.top_up(input, frame_len);
        }
        Frame::first(self.unread())
    }

    /// The header of the frame that is coming in pieces, once it is there.
    ///
    /// # Errors
    /// An op code that is not assigned.
    ///
    /// # Example
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{Decoder, Header, OpCode};
    ///
    /// let header = Header { body_len: 2, ..Header::new(OpCode::Signal) };
    /// let mut decoder = Decoder::new();
    /// decoder.keep(&mut &header.to_bytes()[..]);
    /// assert_eq!(decoder.begun()?, Some(header));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn begun(&self) -> Result<Option<Header>, UnassignedOpCode> {
        match self.unread().split_first_chunk::<{ Header::LEN }>() {
            Some((head, _)) => Header::from_bytes(head).map(Some),
            None => Ok(None),
        }
    }

    /// Takes the frame that [`peek`](Self::peek) showed, `len` bytes long, from the same `input`.
    ///
    /// # Panics
    /// If `len` is more than there is (where it was kept, only in a debug build).
    ///
    /// # Example
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{Decoder, Header, OpCode};
    ///
    /// let bytes = [Header::new(OpCode::Signal).to_bytes(); 2].concat();
    /// let (mut decoder, mut input) = (Decoder::new(), &bytes[..]);
    /// while let Some(frame) = decoder.peek(&mut input)? {
    ///     let len = frame.len();
    ///     decoder.consume(&mut input, len);
    /// }
    /// assert!(input.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn consume(&mut self, input: &mut &[u8], len: usize) {
        if self.kept.is_empty() {
            *input = &input[len..];
            return;
        }
        self.start += len;
        debug_assert!(self.start <= self.kept.len(), "consumed what was not shown");
        if self.start == self.kept.len() {
            self.kept = Vec::new();
            self.start = 0;
        }
    }

    /// Keeps all of `input` for later calls.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// let (mut decoder, mut input) = (tofu::Decoder::new(), &b"some bytes"[..]);
    /// decoder.keep(&mut input);
    /// assert_eq!((decoder.kept_len(), input.len()), (10, 0));
    /// ```
    pub fn keep(&mut self, input: &mut &[u8]) {
        self.top_up(input, usize::MAX);
    }

    /// Has the rest of a large frame, of which a good part is kept, read straight behind that: `read` is given
    /// the place and returns how many bytes it has put there. `None` if there is no such frame.
    ///
    /// Memory is never more than four times what has arrived.
    ///
    /// # Errors
    /// Those of `read`.
    ///
    /// # Panics
    /// If `read` says that it has put more there than the place takes.
    ///
    /// # Example
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{Decoder, Header, OpCode};
    ///
    /// let header = Header { body_len: 40_000, ..Header::new(OpCode::Signal) };
    /// let bytes = [&header.to_bytes()[..], &[7; 40_000]].concat();
    /// let (first, second) = bytes.split_at(16_000);
    /// let mut decoder = Decoder::new();
    /// assert_eq!(decoder.peek(&mut &first[..])?, None);
    /// let landed = decoder.land(|place| {
    ///     place.copy_from_slice(second);
    ///     Ok::<_, std::io::Error>(second.len())
    /// });
    /// assert_eq!(landed.expect("a place").ok(), Some(second.len()));
    /// assert_eq!(decoder.peek(&mut &[][..])?.expect("a whole frame").body(), [7; 40_000]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn land<E>(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Option<Result<usize, E>> {
        let arrived = self.kept.len();
        if self.start > 0 || arrived < LANDED_MIN {
            return None;
        }
        let frame_len = self.begun().ok()??.frame_len();
        if frame_len < arrived + LANDED_MIN || frame_len > arrived * GROWTH_MAX {
            return None;
        }
        self.kept.resize(frame_len, 0);
        let landed = read(&mut self.kept[arrived..]);
        let count = landed.as_ref().map_or(0, |count| *count);
        assert!(
            count <= frame_len - arrived,
            "more landed than there is place for"
        );
        self.kept.truncate(arrived + count);
        Some(landed)
    }

    /// The memory of the large frame that [`peek`](Self::peek) showed, `len` bytes long, if it is alone there: to
    /// be exchanged for other memory, which is empty. The frame is taken then.
    pub(crate) fn alone(&mut self, len: usize) -> Option<&mut Vec<u8>> {
        let is_alone = self.start == 0 && self.kept.len() == len;
        // Else a message would own what many frames needed.
        let is_its_own = self.kept.capacity() <= 2 * len;
        (is_alone && is_its_own).then_some(&mut self.kept)
    }

    /// Whether bytes of an unfinished (or not consumed) frame are kept.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// let mut decoder = tofu::Decoder::new();
    /// decoder.keep(&mut &b"part of a header"[..9]);
    /// assert!(decoder.is_mid_frame());
    /// ```
    #[inline]
    pub fn is_mid_frame(&self) -> bool {
        !self.kept.is_empty()
    }

    /// How many bytes are kept: never more than have arrived.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// let mut decoder = tofu::Decoder::new();
    /// decoder.keep(&mut &b"part of a header"[..9]);
    /// assert_eq!(decoder.kept_len(), 9);
    /// ```
    pub fn kept_len(&self) -> usize {
        self.kept.len() - self.start
    }

    fn unread(&self) -> &[u8] {
        &self.kept[self.start..]
    }

    /// Moves bytes from `input` until `wanted` are kept or none are left.
    fn top_up(&mut self, input: &mut &[u8], wanted: usize) {
        let missing = wanted.saturating_sub(self.kept_len()).min(input.len());
        if self.kept.is_empty() && self.kept.capacity() > missing * GROWTH_MAX {
            // It got that for a larger frame.
            self.kept = Vec::new();
        }
        if missing == 0 {
            return;
        }
        if self.start > 0 {
            self.kept.drain(..self.start);
            self.start = 0;
        }
        let (taken, rest) = input.split_at(missing);
        self.kept.extend_from_slice(taken);
        *input = rest;
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::OpCode;

    fn frame(op_code: OpCode, text_headers: &[u8], body: &[u8]) -> Vec<u8> {
        let header = Header {
            text_headers_len: u16::try_from(text_headers.len()).unwrap(),
            body_len: u16::try_from(body.len()).unwrap(),
            ..Header::new(op_code)
        };
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend_from_slice(text_headers);
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn a_frame_split_at_every_byte_is_whole() {
        let bytes = frame(OpCode::Request, b"a:b\r\n", b"body");
        for split in 0..=bytes.len() {
            let mut decoder = Decoder::new();
            let (mut first, mut second) = bytes.split_at(split);
            if split < bytes.len() {
                assert_eq!(decoder.peek(&mut first), Ok(None));
                assert!(first.is_empty());
            } else {
                second = first;
            }
            let shown = decoder
                .peek(&mut second)
                .unwrap()
                .expect("all bytes are there");
            assert_eq!(
                (shown.text_headers(), shown.body()),
                (&b"a:b\r\n"[..], &b"body"[..])
            );
            let len = shown.len();
            decoder.consume(&mut second, len);
            assert!(second.is_empty() && !decoder.is_mid_frame());
        }
    }

    #[test]
    fn what_was_not_consumed_is_shown_again() {
        let mut bytes = frame(OpCode::Signal, b"", b"1");
        bytes.extend(frame(OpCode::Signal, b"", b"2"));
        let mut decoder = Decoder::new();
        let mut input = &bytes[..];
        assert_eq!(decoder.peek(&mut input).unwrap().unwrap().body(), b"1");
        decoder.keep(&mut input);
        for expected in [b"1", b"2"] {
            let mut nothing = &[][..];
            let shown = decoder.peek(&mut nothing).unwrap().expect("kept");
            assert_eq!(shown.body(), expected);
            let len = shown.len();
            decoder.consume(&mut nothing, len);
        }
        assert_eq!(
            decoder.kept.capacity(),
            0,
            "a decoder at rest owns no memory"
        );
    }

    #[test]
    fn memory_grows_with_what_arrived_and_not_with_what_was_announced() {
        let announced = Header {
            text_headers_len: u16::MAX,
            body_len: u16::MAX,
            ..Header::new(OpCode::Request)
        };
        let mut decoder = Decoder::new();
        assert_eq!(decoder.peek(&mut &announced.to_bytes()[..]), Ok(None));
        assert!(decoder.kept.capacity() < 256);
    }

    fn large() -> Vec<u8> {
        frame(OpCode::Signal, b"a:b\r\n", &vec![7; usize::from(u16::MAX)])
    }

    /// However much has arrived.
    #[test]
    fn memory_for_what_lands_is_at_most_four_times_what_has_arrived() {
        let bytes = large();
        for arrived in (1..bytes.len()).step_by(501) {
            let mut decoder = Decoder::new();
            assert_eq!(decoder.peek(&mut &bytes[..arrived]), Ok(None));
            let landed = decoder.land(|_| Ok::<_, ()>(0));
            let is_large_part = arrived * 4 >= bytes.len();
            let is_large_rest = arrived + LANDED_MIN <= bytes.len();
            assert_eq!(
                landed.is_some(),
                is_large_part && is_large_rest,
                "{arrived}"
            );
            assert!(decoder.kept.capacity() <= arrived * 4 + 64, "{arrived}");
            assert_eq!(decoder.kept_len(), arrived, "nothing came");
        }
    }

    #[test]
    fn what_lands_stays_there_and_becomes_the_messages_memory() {
        let bytes = large();
        let mut decoder = Decoder::new();
        assert_eq!(decoder.peek(&mut &bytes[..30_000]), Ok(None));
        let mut place_at = core::ptr::null();
        for range in [30_000..50_000, 50_000..bytes.len()] {
            let landed = decoder.land(|place| {
                assert_eq!(
                    place.len(),
                    bytes.len() - range.start,
                    "all that is missing"
                );
                place[..range.len()].copy_from_slice(&bytes[range.clone()]);
                place_at = place[range.len() - 1..].as_ptr();
                Ok::<_, ()>(range.len())
            });
            assert_eq!(landed, Some(Ok(range.len())));
        }
        let mut nothing = &[][..];
        let shown = decoder.peek(&mut nothing).unwrap().expect("a whole frame");
        assert_eq!(shown, Frame::first(&bytes).unwrap().unwrap());
        let memory = decoder.alone(bytes.len()).expect("it is alone");
        assert_eq!(memory[bytes.len() - 1..].as_ptr(), place_at);
        *memory = Vec::with_capacity(100);
        assert_eq!(decoder.peek(&mut nothing), Ok(None));
        assert_eq!(decoder.kept.capacity(), 0, "at rest again");
    }

    #[test]
    fn memory_of_a_larger_frame_is_not_kept_for_a_few_bytes() {
        let bytes = large();
        for (arrives, is_kept) in [(1, false), (20_000, false), (40_000, true)] {
            let mut decoder = Decoder::new();
            decoder.keep(&mut &bytes[..]);
            let memory = decoder.alone(bytes.len()).expect("it is alone");
            *memory = Vec::with_capacity(150_000);
            assert_eq!(decoder.peek(&mut &bytes[..arrives]), Ok(None));
            assert_eq!(decoder.kept.capacity() >= 150_000, is_kept, "{arrives}");
            assert!(decoder.kept.capacity() <= 4 * arrives.max(8), "{arrives}");
        }
    }

    #[test]
    fn a_frame_in_memory_of_many_is_not_adopted() {
        let bytes = frame(OpCode::Signal, b"", &[7; 10_000]);
        let mut decoder = Decoder::new();
        decoder.kept.reserve(3 * bytes.len());
        decoder.kept.extend_from_slice(&bytes);
        assert!(decoder.alone(bytes.len()).is_none());
        assert_eq!(
            decoder.peek(&mut &[][..]).unwrap(),
            Frame::first(&bytes).unwrap()
        );
    }

    #[test]
    fn a_read_that_fails_lands_nothing() {
        let bytes = large();
        let mut decoder = Decoder::new();
        assert_eq!(decoder.peek(&mut &bytes[..30_000]), Ok(None));
        assert_eq!(decoder.land(|_| Err("not now")), Some(Err("not now")));
        let mut rest = &bytes[30_000..];
        let shown = decoder.peek(&mut rest).unwrap();
        assert_eq!(shown, Frame::first(&bytes).unwrap());
    }

    #[test]
    fn an_unassigned_op_code_is_told_with_its_header() {
        let mut bytes = Header::new(OpCode::Signal).to_bytes();
        bytes[2] = 12;
        let mut decoder = Decoder::new();
        assert_eq!(decoder.peek(&mut &bytes[..15]), Ok(None));
        assert_eq!(decoder.peek(&mut &bytes[15..]), Err(UnassignedOpCode(12)));
    }
}
