//! `tofucat decode`: a run of bytes as the frames that it is, field by field.
//!
//! The bytes are shown as they come, so a live capture can be piped in. This file cuts them and says
//! where they go wrong; how a frame looks stands in `frame`.

mod frame;

use std::{
    fmt::Display,
    fs::File,
    io::{self, Read},
};

use tofu::{Frame, Header};

use self::frame::{PROTO_OFFSET, Shown};
use crate::{args::DecodeArguments, error::Failure, output::Output};

/// Bytes asked for in one read.
const READ_LEN: usize = 64 * 1024;

pub(crate) fn run(arguments: &DecodeArguments, output: &mut Output) -> Result<(), Failure> {
    if let Some(bytes) = &arguments.hex {
        return decode(&bytes.0[..], "--hex", output);
    }
    if let Some(path) = &arguments.file {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| Failure::new(&name, error))?;
        return decode(file, &name, output);
    }
    decode(io::stdin().lock(), "standard input", output)
}

/// Shows the frames of `reader` until it ends or goes wrong. `name` names it in errors.
fn decode(mut reader: impl Read, name: &str, output: &mut Output) -> Result<(), Failure> {
    let mut stream = Stream::default();
    loop {
        while let Some(shown) = stream.frame()? {
            shown.print(output)?;
            let len = shown.frame_len();
            stream.consume(len);
        }
        output.flush()?;
        if stream.fill(&mut reader, name)? == 0 {
            return stream.check_end(output);
        }
    }
}

/// Bytes that were read and not yet shown, and where they stand.
#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    /// Bytes of the buffer that were shown.
    start: usize,
    /// Where in the stream the unread bytes begin.
    offset: u64,
    /// Frames that were shown.
    frames: u64,
}

impl Stream {
    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The next frame, if all of it is there.
    fn frame(&self) -> Result<Option<Shown<'_>>, Failure> {
        let unread = self.unread();
        let number = self.frames + 1;
        let frame = Frame::first(unread)
            .map_err(|error| self.wrong(PROTO_OFFSET, format_args!("frame {number}: {error}")))?;
        let placed = frame.zip(unread.first_chunk());
        Ok(placed.map(|(frame, head)| Shown::whole(number, self.offset, head, &frame)))
    }

    fn consume(&mut self, len: usize) {
        self.start += len;
        self.offset += len as u64;
        self.frames += 1;
    }

    /// Reads more, and gives how much; 0 at the end.
    fn fill(&mut self, reader: &mut impl Read, name: &str) -> Result<usize, Failure> {
        self.bytes.drain(..self.start);
        self.start = 0;
        let old_len = self.bytes.len();
        self.bytes.resize(old_len + READ_LEN, 0);
        let read = loop {
            match reader.read(&mut self.bytes[old_len..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.bytes
            .truncate(old_len + read.as_ref().map_or(0, |len| *len));
        read.map_err(|error| Failure::new(name, error))
    }

    /// The bytes have ended: between two frames, if they are whole.
    fn check_end(&self, output: &mut Output) -> Result<(), Failure> {
        let unread = self.unread();
        let (number, have) = (self.frames + 1, unread.len());
        if have == 0 {
            return Ok(());
        }
        let Some(head) = unread.first_chunk::<{ Header::LEN }>() else {
            let missing = Header::LEN - have;
            let len = Header::LEN;
            return Err(self.wrong(
                have,
                format_args!("frame {number} ends within its header, after {have} of {len} bytes: {missing} are missing"),
            ));
        };
        let header = Header::from_bytes(head).map_err(|error| self.wrong(PROTO_OFFSET, error))?;
        // Its fields are known, and may tell why the rest is not there.
        Shown::header(number, self.offset, head, header).print(output)?;
        output.flush()?;
        let len = header.frame_len();
        let missing = len - have;
        Err(self.wrong(
            have,
            format_args!("frame {number} ends after {have} of {len} bytes: {missing} are missing"),
        ))
    }

    /// `why` the bytes go wrong, so many bytes behind the start of the frame.
    fn wrong(&self, behind_start: usize, why: impl Display) -> Failure {
        let offset = self.offset + behind_start as u64;
        Failure::new("decode", format_args!("at byte {offset}: {why}"))
    }
}
