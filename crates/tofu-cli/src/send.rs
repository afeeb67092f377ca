//! `tofucat send`: files, one after the other, each a stream whose end the receiver confirms.

use std::{fs::File, path::Path};

use tofu::{
    Message, OpCode,
    helpers::stream::{SendError, Sender, Step},
};

use crate::{
    args::SendArguments,
    client::{Client, Heard},
    error::Failure,
    interrupt::Interrupt,
    output::{Object, Output, Readable},
    progress::{FileBars, Progress},
    transfer::{self, Hashing},
};

pub(crate) fn run(
    arguments: &SendArguments,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<(), Failure> {
    let (address, files) = arguments
        .address_and_files()
        .unwrap_or_else(|wrong| wrong.exit());
    let files: Vec<_> = files.into_iter().map(named).collect::<Result<_, _>>()?;
    let mut client = Client::connect("send", &address, arguments.timeout, interrupt)?;
    let sent = send(arguments, &files, &mut client, output);
    if sent.is_err() {
        client.end();
    }
    match sent? {
        0 => Ok(()),
        _ => Err(Failure::Told),
    }
}

/// A file, and the name under which it is stored.
struct Named<'a> {
    path: &'a Path,
    name: &'a str,
}

fn named(path: &Path) -> Result<Named<'_>, Failure> {
    let failed = |why: &str| Failure::new(path.display(), why);
    let name = path.file_name().ok_or_else(|| failed("not a file"))?;
    let name = name
        .to_str()
        .ok_or_else(|| failed("the name is not UTF-8"))?;
    transfer::check_name(name).map_err(|why| failed(&why))?;
    Ok(Named { path, name })
}

/// Sends all files, and gives how many could not be sent.
fn send(
    arguments: &SendArguments,
    files: &[Named<'_>],
    client: &mut Client<'_>,
    output: &mut Output,
) -> Result<usize, Failure> {
    client.greeted(output)?;
    let bars = FileBars::new(!arguments.quiet);
    let mut failures = 0;
    for file in files {
        match send_one(file, &bars, client, output)? {
            Ok(sent) if arguments.quiet => drop(sent),
            Ok(sent) => sent.print(file.name, output)?,
            Err(why) => {
                failures += 1;
                // The others are still to be sent, which may take long.
                Failure::new(file.path.display(), why).report();
            }
        }
    }
    client.restart_clock();
    client.bye(output)?;
    Ok(failures)
}

/// A file that the receiver has stored.
struct Sent {
    bytes: u64,
    sha256: String,
}

impl Sent {
    fn print(&self, name: &str, output: &mut Output) -> Result<(), Failure> {
        if output.is_json() {
            output.object(
                Object::event("sent")
                    .with("name", name)
                    .with("bytes", self.bytes)
                    .with("sha256", &*self.sha256),
            )?;
        } else {
            let name = Readable(name.as_bytes());
            let Self { bytes, sha256 } = self;
            output.line(format_args!("sent {name} bytes={bytes} sha256={sha256}"))?;
        }
        output.flush()
    }
}

/// Sends one file. The inner error is about this file alone: the others can still be sent.
fn send_one(
    file: &Named<'_>,
    bars: &FileBars,
    client: &mut Client<'_>,
    output: &mut Output,
) -> Result<Result<Sent, String>, Failure> {
    let opened = File::open(file.path).and_then(|opened| Ok((opened.metadata()?, opened)));
    let (metadata, opened) = match opened {
        Ok((metadata, _)) if metadata.is_dir() => return Ok(Err("it is a directory".to_owned())),
        Ok(opened) => opened,
        Err(error) => return Ok(Err(error.to_string())),
    };
    // What a pipe or a device will give is not known before.
    let len = metadata.is_file().then_some(metadata.len());
    let mut first = Message::request(client.channel()).with_header(transfer::NAME, file.name);
    if let Some(len) = len {
        first = first.with_header(transfer::LEN, len.to_string());
    }
    let sender = Sender::new(first, Hashing::new(opened))
        .with_last(|reader, last| last.with_header(transfer::SHA256, reader.hex()));
    let transmission = Transmission {
        sender,
        name: file.name,
        len,
        bar: bars.add(file.name, len),
    };
    transmission.run(client, output)
}

/// A file on its way.
struct Transmission<'a> {
    sender: Sender<Hashing<File>>,
    name: &'a str,
    len: Option<u64>,
    bar: Progress,
}

impl Transmission<'_> {
    fn run(
        mut self,
        client: &mut Client<'_>,
        output: &mut Output,
    ) -> Result<Result<Sent, String>, Failure> {
        if let Err(why) = self.transmit(client, output)? {
            return Ok(Err(why));
        }
        client.restart_clock();
        loop {
            let heard = client.hear(&|| self.missing(), output)?;
            match self.verdict(&heard, client)? {
                Some(Ok(sha256)) => return Ok(self.compare(&sha256)),
                Some(Err(why)) => return Ok(Err(why)),
                None => {}
            }
        }
    }

    /// Posts the whole stream, unless the receiver does not want the rest.
    fn transmit(
        &mut self,
        client: &mut Client<'_>,
        output: &mut Output,
    ) -> Result<Result<(), String>, Failure> {
        let mut refused = Ok(());
        loop {
            client.restart_clock();
            let heard = match self.sender.post_next(|message| client.try_post(message)) {
                Ok(Step::Posted) => client.try_hear(&|| self.missing(), output)?,
                Ok(Step::Full) => Some(client.hear(&|| self.missing(), output)?),
                Ok(Step::Done) => return Ok(refused),
                Err(SendError::Read(error)) => return Ok(Err(error.to_string())),
                // The next events say why.
                Err(SendError::Refused(error)) if error.is_channel_over() => {
                    Some(client.hear(&|| self.missing(), output)?)
                }
                Err(error) => return Err(client.failure(error)),
            };
            self.bar.set(self.sender.bytes());
            let Some(heard) = heard else {
                continue;
            };
            match self.verdict(&heard, client)? {
                Some(Ok(_)) => {
                    return Err(client.failure("the receiver has answered before the end"));
                }
                Some(Err(why)) => {
                    // So the receiver knows where this stream ends, and the next one can go.
                    self.sender.abort("it was refused");
                    refused = refused.and(Err(why));
                }
                None => {}
            }
        }
    }

    /// What the receiver says of this file: the hash of what it has stored, or why it has not.
    fn verdict(
        &self,
        heard: &Heard,
        client: &Client<'_>,
    ) -> Result<Option<Result<String, String>>, Failure> {
        let answer = match heard {
            Heard::Message(answer)
                if answer.op_code() == OpCode::Response && answer.id() == self.sender.id() =>
            {
                answer
            }
            _ => return Ok(None),
        };
        if let Some(why) = answer.header(transfer::ERROR) {
            let why = Readable(why.as_bytes());
            return Ok(Some(Err(format!("the receiver says {why}"))));
        }
        let Some(sha256) = answer.header(transfer::RECEIVED_SHA256) else {
            return Err(client.failure("whoever listens there does not receive files"));
        };
        Ok(Some(Ok(sha256.to_owned())))
    }

    fn compare(&self, received: &str) -> Result<Sent, String> {
        let sha256 = self.sender.reader().hex();
        if received != sha256 {
            let received = Readable(received.as_bytes());
            return Err(format!(
                "the receiver has other bytes: their SHA-256 is {received}, and not {sha256}"
            ));
        }
        Ok(Sent {
            bytes: self.sender.bytes(),
            sha256,
        })
    }

    /// What is outstanding, in words.
    fn missing(&self) -> String {
        let (name, bytes) = (self.name, self.sender.bytes());
        match self.len {
            Some(len) if bytes < len => format!("{bytes} of {len} bytes of {name} were posted"),
            _ => format!("nobody has confirmed that {name} was stored"),
        }
    }
}
