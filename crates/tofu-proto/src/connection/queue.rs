//! What waits to be sent on one channel.
//!
//! Small frames are copied next to each other, so that a burst leaves in one write; large ones, and
//! the only one of a quiet channel, stay in their message and are written from there. Nothing needs
//! to be noted per frame: a frame tells its own length, so what has not left is found by walking.
//!
//! The invariant: what waits is `first`, then `rest`, then `tail`; `rest` is empty while there is no `first`.
//! `sent` is less than the length of the first of them, or 0 if there is none; `bytes` is what all hold less
//! `sent`.

use alloc::{collections::VecDeque, vec::Vec};
use core::mem;

use crate::{ChannelNumber, Frame, Header, Message, OpCode};

/// A frame up to this many bytes is copied behind its neighbour.
const COPIED_MAX: usize = 4 * 1024;
/// Bytes of copied frames in one chunk at most.
const CHUNK_MAX: usize = 64 * 1024;
/// Chunks whose memory is kept for the next ones, as long as the channel is busy.
const SPARE_MAX: usize = 32;

/// What waits to be sent on one channel, in order.
///
/// A connection has one, and lends it: [`Connection::queue`](crate::Connection::queue).
///
/// ```
#[doc = include_str!("example.txt")]
/// let written = client.queue().slices().collect::<Vec<_>>().concat();
/// assert_eq!(written, greeting);
/// client.handle_sent(written.len(), || now, drop);
/// assert!(client.queue().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct SendQueue {
    /// Stored apart, so that the queue of a quiet channel needs no memory of its own.
    first: Option<Chunk>,
    rest: VecDeque<Chunk>,
    /// The frames that were copied last, as long as others may be copied behind them.
    tail: Vec<u8>,
    sent: usize,
    bytes: usize,
    /// The memory of chunks that have left, for the next ones.
    spare: Vec<Vec<u8>>,
}

#[derive(Debug)]
enum Chunk {
    /// Whole frames, one behind the other.
    Frames(Vec<u8>),
    /// One frame, in its message.
    Whole {
        head: [u8; Header::LEN],
        message: Message,
    },
}

impl Chunk {
    fn len(&self) -> usize {
        match self {
            Self::Frames(bytes) => bytes.len(),
            Self::Whole { message, .. } => message.frame_len(),
        }
    }
}

impl SendQueue {
    /// Bytes that have not left.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert_eq!(client.queue().bytes(), greeting.len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether everything has left.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert!(!client.queue().is_empty()); // it has a hello to send
    /// assert!(server.queue().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Queues a message that passed its check, with its binary header, behind all others. One whose bytes were
    /// copied is `done` with.
    #[expect(
        clippy::inline_always,
        reason = "called for every message: some 40 of 1,100 instructions"
    )]
    #[inline(always)]
    pub(super) fn push(&mut self, message: Message, header: &Header, done: impl FnOnce(Message)) {
        let is_first = self.is_empty();
        let frame_len = message.frame_len();
        self.bytes += frame_len;
        if is_first || frame_len > COPIED_MAX {
            return self.push_whole(message, header, is_first);
        }
        if !self.tail_takes(frame_len) {
            self.begin_tail();
        }
        self.tail.extend_from_slice(&header.to_bytes());
        self.tail.extend_from_slice(message.payload());
        done(message);
    }

    fn push_whole(&mut self, mut message: Message, header: &Header, is_first: bool) {
        if !is_first {
            // It may wait for long: meanwhile it is neither being received nor in the
            // application's hands, and the pool must not starve for it.
            message.leave_home();
        }
        self.end_tail();
        let head = header.to_bytes();
        self.push_chunk(Chunk::Whole { head, message });
    }

    /// Whether a frame of this many bytes is to be copied behind those in the tail.
    #[inline]
    fn tail_takes(&self, frame_len: usize) -> bool {
        self.tail.capacity() > 0 && self.tail.len() + frame_len <= CHUNK_MAX
    }

    #[cold]
    fn begin_tail(&mut self) {
        self.end_tail();
        self.tail = self
            .spare
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(COPIED_MAX));
    }

    /// Nothing is copied behind these frames any more.
    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            let frames = mem::take(&mut self.tail);
            self.push_chunk(Chunk::Frames(frames));
        }
    }

    /// Whether this message will be copied into a chunk that is not begun, and there is no memory at hand for
    /// that.
    ///
    /// ```
    /// use tofu_proto::{ChannelNumber, Message, SendQueue};
    ///
    /// // A message that is alone leaves from its own memory.
    /// let signal = Message::signal(ChannelNumber::new(3)).with_body("hi");
    /// assert!(!SendQueue::default().wants_memory(&signal));
    /// ```
    #[inline]
    pub fn wants_memory(&self, message: &Message) -> bool {
        let frame_len = message.frame_len();
        !self.is_empty()
            && frame_len <= COPIED_MAX
            && !self.tail_takes(frame_len)
            && self.spare.is_empty()
    }

    fn push_chunk(&mut self, chunk: Chunk) {
        if self.first.is_none() {
            self.first = Some(chunk);
        } else {
            self.rest.push_back(chunk);
        }
    }

    /// What is to be sent next, for one vectored write.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let slices: Vec<_> = client.queue().slices().map(std::io::IoSlice::new).collect();
    /// assert_eq!(slices.len(), 2); // the hello's header, and the rest of it
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut skipped = self.sent;
        self.first
            .iter()
            .chain(&self.rest)
            .flat_map(|chunk| match chunk {
                Chunk::Frames(bytes) => [bytes.as_slice(), &[]],
                Chunk::Whole { head, message } => [head.as_slice(), message.payload()],
            })
            .chain([self.tail.as_slice()])
            .filter_map(move |slice| {
                let skip = skipped.min(slice.len());
                skipped -= skip;
                Some(&slice[skip..]).filter(|rest| !rest.is_empty())
            })
    }

    /// Takes away what has left: the next `count` bytes of [`slices`](Self::slices), and the messages that are
    /// `done` with.
    pub(super) fn advance(&mut self, count: usize, mut done: impl FnMut(Message)) {
        debug_assert!(count <= self.bytes, "more left than was queued");
        self.bytes -= count;
        self.sent += count;
        while let Some(first) = &self.first
            && first.len() <= self.sent
        {
            self.sent -= first.len();
            let next = self.rest.pop_front();
            match mem::replace(&mut self.first, next) {
                Some(Chunk::Frames(bytes)) => self.keep(bytes),
                Some(Chunk::Whole { message, .. }) => done(message),
                None => {}
            }
        }
        if self.is_empty() {
            self.sent = 0;
            let bytes = mem::take(&mut self.tail);
            self.keep(bytes);
        }
    }

    /// The memory of frames that have left serves the next ones.
    fn keep(&mut self, mut bytes: Vec<u8>) {
        if bytes.capacity() > 0 && self.spare.len() < SPARE_MAX {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// The memory that waits for the next chunks.
    pub(super) fn spare(&mut self) -> &mut Vec<Vec<u8>> {
        &mut self.spare
    }

    /// Tells the pool that what is queued may wait for long.
    pub(super) fn settle(&mut self) {
        if let Some(Chunk::Whole { message, .. }) = &mut self.first {
            message.leave_home();
        }
    }

    /// Whether a frame with this op code has not left completely.
    pub(super) fn holds(&self, op_code: OpCode) -> bool {
        let mut sent = self.sent;
        for chunk in self.first.iter().chain(&self.rest) {
            let holds = match chunk {
                Chunk::Whole { message, .. } => message.op_code() == op_code,
                Chunk::Frames(bytes) => holds(bytes, sent, op_code),
            };
            if holds {
                return true;
            }
            sent = 0;
        }
        holds(&self.tail, sent, op_code)
    }

    /// Everything that has not left completely, to be given back.
    pub(super) fn into_unsent(mut self) -> Unsent {
        self.end_tail();
        Unsent {
            queue: self,
            walked: 0,
        }
    }
}

/// Whether a frame with this op code is among them and not within the first `sent` bytes.
fn holds(frames: &[u8], sent: usize, op_code: OpCode) -> bool {
    let mut end = 0;
    while let Ok(Some(frame)) = Frame::first(&frames[end..]) {
        end += frame.len();
        if end > sent && frame.header.op_code == op_code {
            return true;
        }
    }
    false
}

/// The messages that a closed channel could not send, oldest first, complete and unchanged.
///
/// They are made one by one, as the iterator is asked for them.
///
/// [`Connection::take_unsent`](crate::Connection::take_unsent) gives them.
///
/// ```
#[doc = include_str!("example.txt")]
/// let mut unsent = client.take_unsent();
/// assert_eq!(unsent.next(), Some(hello));
/// assert_eq!(unsent.next(), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Unsent {
    queue: SendQueue,
    /// Bytes of the first chunk's frames that were looked at.
    walked: usize,
}

impl Unsent {
    /// Whether none is left.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert!(!client.take_unsent().is_empty());
    /// assert!(client.take_unsent().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.queue.first.is_none()
    }

    /// Bytes that had not left when the channel closed.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// client.handle_connected(now);
    /// client.handle_sent(10, || now, drop);
    /// assert_eq!(client.take_unsent().bytes(), greeting.len() - 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bytes(&self) -> usize {
        self.queue.bytes
    }
}

impl Iterator for Unsent {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        loop {
            if let Chunk::Frames(bytes) = self.queue.first.as_ref()?
                && let Ok(Some(frame)) = Frame::first(&bytes[self.walked..])
            {
                self.walked += frame.len();
                if self.walked <= self.queue.sent {
                    continue;
                }
                let mut message = Message::new(OpCode::Signal, ChannelNumber::UNASSIGNED, 0);
                message.fill(frame.header.channel, &frame);
                if self.walked == bytes.len() {
                    self.next_chunk();
                }
                return Some(message);
            }
            if let Some(Chunk::Whole { message, .. }) = self.next_chunk() {
                return Some(message);
            }
        }
    }
}

impl Unsent {
    fn next_chunk(&mut self) -> Option<Chunk> {
        let next = self.queue.rest.pop_front();
        self.walked = 0;
        self.queue.sent = 0;
        mem::replace(&mut self.queue.first, next)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn message(id: u64, body_len: usize) -> Message {
        Message::request(ChannelNumber::new(9))
            .with_id(id)
            .with_header("k", "v")
            .with_body(vec![b'x'; body_len])
    }

    fn push(queue: &mut SendQueue, message: Message) {
        let header = message.binary_header();
        queue.push(message, &header, drop);
    }

    fn queue_of(lens: &[usize]) -> (SendQueue, Vec<Message>) {
        let messages: Vec<_> = (1..).zip(lens).map(|(id, &len)| message(id, len)).collect();
        let mut queue = SendQueue::default();
        for message in &messages {
            push(&mut queue, message.clone());
        }
        (queue, messages)
    }

    fn wire(queue: &SendQueue) -> Vec<u8> {
        queue.slices().flatten().copied().collect()
    }

    #[test]
    fn frames_leave_in_order_however_they_are_stored() {
        let (mut queue, messages) = queue_of(&[10, 20, 60_000, 0, 5_000, 4_000, 1]);
        let mut expected = Vec::new();
        for message in &messages {
            expected.extend(message.binary_header().to_bytes());
            expected.extend(message.payload());
        }
        assert_eq!(queue.bytes(), expected.len());
        for step in [1, 15, 16, 17, 30_000].into_iter().cycle() {
            assert_eq!(wire(&queue), expected);
            let step = step.min(expected.len());
            queue.advance(step, drop);
            expected.drain(..step);
            assert_eq!(queue.bytes(), expected.len());
            if expected.is_empty() {
                break;
            }
        }
        assert!(queue.is_empty());
    }

    #[test]
    fn what_has_not_left_completely_comes_back_whole() {
        let lens = [3, 0, 10, 5_000, 7, 0];
        let total = queue_of(&lens).0.bytes();
        for sent in 0..=total {
            let (mut queue, messages) = queue_of(&lens);
            queue.advance(sent, drop);
            let mut left = sent;
            let expected: Vec<_> = messages
                .into_iter()
                .skip_while(|message| {
                    let gone = message.frame_len() <= left;
                    left -= if gone { message.frame_len() } else { 0 };
                    gone
                })
                .collect();
            let mut unsent = queue.into_unsent();
            assert_eq!(unsent.is_empty(), expected.is_empty());
            let back: Vec<_> = unsent.by_ref().collect();
            assert_eq!(back, expected, "{sent} bytes left");
            assert!(unsent.is_empty());
        }
    }

    #[test]
    fn a_long_queue_comes_back_chunk_by_chunk() {
        let lens = vec![1_000; 300];
        let (mut queue, messages) = queue_of(&lens);
        queue.advance(100_000, drop);
        let gone = 100_000 / messages[0].frame_len();
        assert_eq!(queue.into_unsent().collect::<Vec<_>>(), messages[gone..]);
    }

    /// The first frame leaves from its message, and a large one as well.
    #[test]
    fn memory_is_wanted_when_a_chunk_of_copies_begins() {
        let mut queue = SendQueue::default();
        let small = message(1, 1_000);
        assert!(!queue.wants_memory(&small));
        push(&mut queue, small.clone());
        assert!(queue.wants_memory(&small));
        assert!(!queue.wants_memory(&message(2, COPIED_MAX)));
        queue.spare().push(Vec::new());
        assert!(!queue.wants_memory(&small), "it has some");
        let in_one_chunk = CHUNK_MAX / small.frame_len();
        for count in 1..=in_one_chunk {
            push(&mut queue, small.clone());
            assert!(queue.rest.is_empty(), "one chunk, in the tail");
            let is_full = count == in_one_chunk;
            assert_eq!(queue.wants_memory(&small), is_full, "{count}");
        }
    }

    #[test]
    fn it_knows_which_op_codes_have_not_left() {
        let (mut queue, _) = queue_of(&[1, 1]);
        push(
            &mut queue,
            Message::bye_request(ChannelNumber::new(9)).with_id(3),
        );
        let total = queue.bytes();
        queue.advance(total - 1, drop);
        assert!(queue.holds(OpCode::ByeRequest) && !queue.holds(OpCode::Request));
        queue.advance(1, drop);
        assert!(!queue.holds(OpCode::ByeRequest));
    }
}
