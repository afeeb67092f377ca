//! `tofucat receive`: stores what `send` sends. A file has a temporary name until it is whole and right.

use std::{
    collections::HashMap,
    fs::{self, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tofu::{
    ChannelNumber, Event, Message, OpCode, Peer,
    helpers::stream::{Cut, Part, Receiver, StreamId},
};

use crate::{
    args::ReceiveArguments,
    error::Failure,
    interrupt::Interrupt,
    output::{self, Object, Output, Readable},
    progress::{FileBars, Progress},
    server::{Limits, Service, serve},
    transfer,
};

/// Files that may be on their way at once: each of them is open.
const FILES_MAX: usize = 256;
/// What the name of a file begins with that is not whole.
const TEMPORARY: &str = ".tofucat-";
/// The permissions of new files, before the umask.
const MODE: u32 = 0o666;

pub(crate) fn run(
    arguments: &ReceiveArguments,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<(), Failure> {
    let dir = &*arguments.dir;
    let failed = |why: &dyn ToString| Failure::new(dir.display(), why.to_string());
    if !fs::metadata(dir).map_err(|error| failed(&error))?.is_dir() {
        return Err(failed(&"not a directory"));
    }
    let limits = Limits {
        time: None,
        byes: arguments.max_byes,
    };
    let options = arguments.allow.options("receive", &arguments.addresses)?;
    let mut receive = Receive {
        dir,
        overwrite: arguments.overwrite,
        quiet: arguments.quiet,
        files: HashMap::new(),
        answer: None,
        bars: FileBars::new(!arguments.quiet),
        failures: 0,
    };
    serve(
        "receive",
        options,
        &arguments.addresses,
        limits,
        &mut receive,
        interrupt,
        output,
    )?;
    match receive.failures {
        0 => Ok(()),
        _ => Err(Failure::Told),
    }
}

struct Receive<'a> {
    dir: &'a Path,
    overwrite: bool,
    quiet: bool,
    files: HashMap<StreamId, Incoming>,
    /// What the message that was just observed is answered with.
    answer: Option<Message>,
    bars: FileBars,
    failures: u64,
}

/// A stream that has begun.
struct Incoming {
    receiver: Receiver,
    name: String,
    /// `None`: it was refused, and what still comes of it is of no use.
    store: Option<Store>,
    bar: Option<Progress>,
}

/// A file that is not whole yet. Dropping it removes it.
struct Store {
    file: NamedTempFile,
    hash: Sha256,
}

impl Service for Receive<'_> {
    fn observe(
        &mut self,
        event: &Event,
        _peer: Option<Peer>,
        output: &mut Output,
    ) -> Result<(), Failure> {
        self.answer = None;
        match event {
            Event::Listening { .. } => output.event(event),
            Event::Message(message) if message.op_code() == OpCode::Request => {
                self.hear(message, output)
            }
            Event::Message(message) if message.op_code() == OpCode::ByeRequest => {
                self.answer = message.reply().ok();
                self.cut(event, message.channel(), output)
            }
            Event::Message(message) if message.op_code() == OpCode::HelloRequest => {
                self.answer = message.reply().ok();
                Ok(())
            }
            Event::Closed { channel, .. } => self.cut(event, *channel, output),
            _ => Ok(()),
        }
    }

    fn answer(&mut self, _message: Message) -> Option<Message> {
        self.answer.take()
    }

    fn end(&mut self) {
        // Their temporary files with them.
        self.files.clear();
    }
}

impl Receive<'_> {
    /// A part of a file.
    fn hear(&mut self, message: &Message, output: &mut Output) -> Result<(), Failure> {
        let id = StreamId::of(message);
        let Some(mut incoming) = self.files.remove(&id) else {
            return match self.begin(message) {
                Ok(incoming) => self.take(incoming, message, output),
                Err(why) => {
                    // What else comes of it is to be told from the beginning of another.
                    let mut receiver = Receiver::new(message);
                    receiver.take(message);
                    let incoming = Incoming {
                        receiver,
                        name: message
                            .header(transfer::NAME)
                            .unwrap_or_default()
                            .to_owned(),
                        store: None,
                        bar: None,
                    };
                    self.refuse(incoming, message, &why, output)
                }
            };
        };
        if incoming.store.is_none() {
            incoming.receiver.take(message);
            self.keep(incoming);
            return Ok(());
        }
        self.take(incoming, message, output)
    }

    /// Makes the file of the stream that begins with this message.
    fn begin(&self, first: &Message) -> Result<Incoming, String> {
        let name = first
            .header(transfer::NAME)
            .ok_or_else(|| format!("this is no file: it has no text header {}", transfer::NAME))?;
        transfer::check_name(name)?;
        if self.files.len() >= FILES_MAX {
            return Err(format!("{FILES_MAX} other files are on their way"));
        }
        // Found again when it is stored; but now the rest need not be sent.
        if !self.overwrite && self.dir.join(name).symlink_metadata().is_ok() {
            return Err(exists());
        }
        let file = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .permissions(Permissions::from_mode(MODE))
            .tempfile_in(self.dir)
            // The whole error names the directory, which is not for the peer to know.
            .map_err(|error| error.kind().to_string())?;
        let len = first.header(transfer::LEN).and_then(|len| len.parse().ok());
        Ok(Incoming {
            receiver: Receiver::new(first),
            name: name.to_owned(),
            store: Some(Store {
                file,
                hash: Sha256::new(),
            }),
            bar: Some(self.bars.add(name, len)),
        })
    }

    /// Stores a part, and the file if it is the last one.
    fn take(
        &mut self,
        mut incoming: Incoming,
        message: &Message,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let Some(store) = incoming.store.take() else {
            return Ok(());
        };
        // A file that is not stored is removed before anybody is told.
        let outcome = match incoming.receiver.take(message) {
            Some(Part::More(bytes)) => match store.with(bytes) {
                Ok(store) => {
                    if let Some(bar) = &incoming.bar {
                        bar.set(incoming.receiver.bytes());
                    }
                    incoming.store = Some(store);
                    self.keep(incoming);
                    return Ok(());
                }
                Err(why) => Err(why),
            },
            Some(Part::Last(bytes)) => store
                .with(bytes)
                .and_then(|store| self.finish(store, &incoming.name, message)),
            Some(Part::Aborted(why)) => {
                drop(store);
                let why = Readable(why.as_bytes());
                Err(format!("the sender gave up: {why}"))
            }
            Some(Part::Incomplete(_)) | None => return Ok(()),
        };
        match outcome {
            Ok(sha256) => {
                let answer = message.reply().ok();
                self.answer = answer.map(|it| it.with_header(transfer::RECEIVED_SHA256, &sha256));
                self.tell(&incoming, &sha256, output)
            }
            Err(why) => self.refuse(incoming, message, &why, output),
        }
    }

    /// Gives the file its name if it is right, and gives its hash.
    fn finish(&self, store: Store, name: &str, last: &Message) -> Result<String, String> {
        let sha256 = transfer::hex(store.hash);
        match last.header(transfer::SHA256) {
            None => {
                return Err(format!(
                    "the last part has no text header {}",
                    transfer::SHA256
                ));
            }
            Some(announced) if !announced.eq_ignore_ascii_case(&sha256) => {
                let announced = Readable(announced.as_bytes());
                return Err(format!(
                    "the SHA-256 of what came is {sha256}, and not {announced}"
                ));
            }
            Some(_) => {}
        }
        let path = self.dir.join(name);
        let stored = if self.overwrite {
            store.file.persist(path)
        } else {
            store.file.persist_noclobber(path)
        };
        match stored {
            Ok(_) => Ok(sha256),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(exists()),
            Err(error) => Err(error.error.to_string()),
        }
    }

    /// The channel ends: so do its streams.
    fn cut(
        &mut self,
        event: &Event,
        channel: ChannelNumber,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let of_channel = |id: &StreamId, _: &mut Incoming| id.channel == channel;
        let cut: Vec<_> = self.files.extract_if(of_channel).collect();
        for (_, mut incoming) in cut {
            let Some(Part::Incomplete(cut)) = incoming.receiver.hear(event) else {
                continue;
            };
            // Who was refused was told of before.
            if incoming.store.take().is_some() {
                let why = match cut {
                    Cut::Closed(reason) => format!("it is incomplete: {reason}"),
                    _ => "it is incomplete: the sender said bye".to_owned(),
                };
                self.complain(&incoming, &why, output)?;
            }
        }
        Ok(())
    }

    /// Answers that the file is not stored, and keeps what is needed to skip the rest of it.
    fn refuse(
        &mut self,
        incoming: Incoming,
        message: &Message,
        why: &str,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let answer = message.reply().ok();
        self.answer = answer.map(|it| it.with_header(transfer::ERROR, why));
        self.complain(&incoming, why, output)?;
        self.keep(Incoming {
            bar: None,
            ..incoming
        });
        Ok(())
    }

    /// Keeps a stream of which there is more to come, unless there are too many.
    fn keep(&mut self, incoming: Incoming) {
        if !incoming.receiver.is_over() && self.files.len() < 2 * FILES_MAX {
            self.files.insert(incoming.receiver.stream(), incoming);
        }
    }

    fn tell(
        &mut self,
        incoming: &Incoming,
        sha256: &str,
        output: &mut Output,
    ) -> Result<(), Failure> {
        if self.quiet {
            return Ok(());
        }
        let (name, bytes) = (&*incoming.name, incoming.receiver.bytes());
        if output.is_json() {
            return output.object(
                Object::event("received")
                    .with("channel", incoming.receiver.stream().channel.get())
                    .with("name", name)
                    .with("bytes", bytes)
                    .with("sha256", sha256),
            );
        }
        if let Some(bar) = &incoming.bar {
            bar.clear();
        }
        let name = Readable(name.as_bytes());
        self.bars.suspend(|| {
            output.line(format_args!(
                "received {name} bytes={bytes} sha256={sha256}"
            ))?;
            output.flush()
        })
    }

    fn complain(
        &mut self,
        incoming: &Incoming,
        why: &str,
        output: &mut Output,
    ) -> Result<(), Failure> {
        self.failures += 1;
        if output.is_json() {
            return output.object(
                Object::event("failed")
                    .with("channel", incoming.receiver.stream().channel.get())
                    .with("name", &*incoming.name)
                    .with("bytes", incoming.receiver.bytes())
                    .with("reason", why),
            );
        }
        if let Some(bar) = &incoming.bar {
            bar.clear();
        }
        let name = Readable(incoming.name.as_bytes());
        self.bars
            .suspend(|| output::note(format_args!("tofucat: receive {name}: {why}")));
        Ok(())
    }
}

impl Store {
    /// With these bytes behind the others, or why they cannot be written.
    fn with(mut self, bytes: &[u8]) -> Result<Self, String> {
        self.hash.update(bytes);
        let written = self.file.as_file_mut().write_all(bytes);
        written.map(|()| self).map_err(|error| error.to_string())
    }
}

fn exists() -> String {
    "there is such a file already".to_owned()
}
