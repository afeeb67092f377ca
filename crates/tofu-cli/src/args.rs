//! The command line, and how its words become values. What is wrong with a word is said here, before
//! anything is opened.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, CommandFactory, Parser, Subcommand, error::ErrorKind};
use tofu::{Address, AddressError, ChannelNumber, HeaderError, Message};

use crate::{
    allow::AllowArguments,
    bench::plan::{Transport, Workload},
};

const ADDRESS_HELP: &str = "\
Addresses: tcp|127.0.0.1|7099 or tcp://127.0.0.1:7099 or tcp://[::1]:7099,
uds|/tmp/a.sock or uds:///tmp/a.sock, uds|@name or uds://@name (Linux: no file).
To listen, port 0 takes a free one, and no host means all interfaces.";

const SEND_USAGE: &str = "\
tofucat send [OPTIONS] <FILE>... <ADDR>
       tofucat send [OPTIONS] <ADDR> --file <F>...";

/// Talk to tofu peers from the command line.
#[derive(Debug, Parser)]
#[command(name = "tofucat", version, after_help = ADDRESS_HELP, max_term_width = 100)]
pub(crate) struct Arguments {
    /// Print one JSON object a line instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Listen, and answer everything with its echo
    ///
    /// Prints `listening ADDRESS` for each address once it listens, with the real port. HelloRequest,
    /// Request, ByeRequest and Signal are answered with the same text headers and body.
    #[command(after_help = ADDRESS_HELP)]
    Echo(EchoArguments),
    /// Listen, count signals, and tell the count to who asks
    ///
    /// Prints `listening ADDRESS` for each address once it listens, with the real port. Signals are
    /// counted for each channel; a Request is answered with the text header `signals:COUNT`.
    #[command(after_help = ADDRESS_HELP)]
    Sink(SinkArguments),
    /// Listen, and print what arrives, one line for each event
    ///
    /// A HelloRequest is printed with its peer: the address over tcp, uid, gid and pid over uds.
    /// HelloRequest and ByeRequest are answered, so that peers get through. Requests are printed but
    /// never answered: who waits for the answer waits in vain. Ends with Ctrl-C.
    #[command(after_help = ADDRESS_HELP)]
    Listen(ListenArguments),
    /// Connect, send requests (or signals), and print the answers
    ///
    /// The body of the answer goes to the standard output as it is; with --count over 1 each body is
    /// a line. With --count over 1 the rates and round trip times are told at the end.
    #[command(after_help = ADDRESS_HELP)]
    Call(Box<CallArguments>),
    /// Send files of any size to a `tofucat receive`
    ///
    /// Each file is a stream of requests, whose SHA-256 goes with the last one; the receiver answers when
    /// it has stored the file under its name, without the directories. A file that cannot be sent is
    /// named, and the others are still sent: the exit status is 1 then.
    #[command(after_help = ADDRESS_HELP, override_usage = SEND_USAGE)]
    Send(SendArguments),
    /// Listen, and store the files that `tofucat send` sends
    ///
    /// Any number of peers may send at once. A file is stored under its name once it is whole and its
    /// SHA-256 is right; before, it has a name that begins with .tofucat-. Ends with Ctrl-C, or after
    /// --max-byes, with exit status 1 if a file was not stored.
    #[command(after_help = ADDRESS_HELP)]
    Receive(ReceiveArguments),
    /// Show the frames in a run of bytes, field by field
    ///
    /// Frames follow each other as on the wire. Says at which byte they go wrong and why, with exit
    /// status 1. What is odd but readable is noted and is no error.
    Decode(DecodeArguments),
    /// Watch a server and a client talk over tcp and uds
    ///
    /// Starts a server process of its own for each transport and shows the conversation as a
    /// timeline: hello, requests, a stream, signals, an error, bye; then the speed of this machine.
    Demo,
    /// The server process of the demo
    #[command(hide = true)]
    DemoServer(DemoServerArguments),
    /// Measure tofu on this machine, between two processes over tcp and uds
    ///
    /// Starts a server process of its own for each transport and measures against it in interleaved
    /// rounds; what is told are their medians. Takes about a minute, with --quick about ten seconds.
    Bench(BenchArguments),
    /// The server process of the bench
    #[command(hide = true)]
    BenchServer(BenchServerArguments),
}

#[derive(Args, Debug)]
pub(crate) struct EchoArguments {
    /// Where to listen
    #[arg(value_name = "ADDR", required = true, value_parser = listen_address)]
    pub(crate) addresses: Vec<Address>,
    #[command(flatten)]
    pub(crate) allow: AllowArguments,
    /// End after this many seconds, saying bye
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) max_time: Option<Duration>,
    /// End after this many byes were answered and their channels closed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_byes: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct SinkArguments {
    /// Where to listen
    #[arg(value_name = "ADDR", required = true, value_parser = listen_address)]
    pub(crate) addresses: Vec<Address>,
    #[command(flatten)]
    pub(crate) allow: AllowArguments,
    /// End after this many byes were answered and their channels closed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_byes: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct ListenArguments {
    /// Where to listen
    #[arg(value_name = "ADDR", value_parser = listen_address)]
    pub(crate) address: Address,
    #[command(flatten)]
    pub(crate) allow: AllowArguments,
}

#[derive(Args, Debug)]
pub(crate) struct DemoServerArguments {
    /// Where to listen
    #[arg(value_name = "ADDR", value_parser = listen_address)]
    pub(crate) address: Address,
}

#[derive(Args, Debug)]
pub(crate) struct BenchArguments {
    /// Fewer and shorter rounds
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only over this transport
    #[arg(long, value_name = "NAME")]
    pub(crate) transport: Option<Transport>,
    /// Only this workload; may be given more than once
    #[arg(long = "workload", value_name = "NAME")]
    pub(crate) workloads: Vec<Workload>,
    /// Draw the figures as charts, as an SVG file
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Sleep at once when there is nothing to receive, on both sides (`busy_poll` is zero)
    #[arg(long)]
    pub(crate) no_poll: bool,
}

#[derive(Args, Debug)]
pub(crate) struct BenchServerArguments {
    /// Where to listen
    #[arg(value_name = "ADDR", value_parser = listen_address)]
    pub(crate) address: Address,
    /// The option `busy_poll` is zero
    #[arg(long)]
    pub(crate) no_poll: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CallArguments {
    /// Where to connect
    #[arg(value_name = "ADDR", value_parser = connect_address)]
    pub(crate) address: Address,
    #[command(flatten)]
    pub(crate) body: BodyArguments,
    /// A text header of every message, as NAME:VALUE; may be given more than once
    #[arg(long = "header", value_name = "N:V", value_parser = text_header, allow_hyphen_values = true)]
    pub(crate) headers: Vec<TextHeaderArgument>,
    /// How many requests (or signals) to send
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,
    /// How many requests may wait for their answers at a time
    #[arg(long, value_name = "W", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) window: u64,
    /// Send signals, and one request behind them to know that all arrived
    #[arg(long, conflicts_with = "window")]
    pub(crate) signal: bool,
    /// Give up when the whole takes longer than this many seconds
    #[arg(long, value_name = "S", default_value = "30", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) timeout: Duration,
    /// Do not print the answers; with --count over 1, show progress on a terminal
    #[arg(long)]
    pub(crate) quiet: bool,
}

#[derive(Args, Debug)]
pub(crate) struct SendArguments {
    /// The files, and then where to connect
    #[arg(value_name = "FILE|ADDR", required = true)]
    words: Vec<OsString>,
    /// One more file; may be given more than once
    #[arg(long = "file", value_name = "F")]
    more_files: Vec<PathBuf>,
    /// Give up when the receiver takes nothing, or does not answer, for this many seconds
    #[arg(long, value_name = "S", default_value = "30", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) timeout: Duration,
    /// Print nothing but errors, and show no progress
    #[arg(long)]
    pub(crate) quiet: bool,
}

impl SendArguments {
    /// Where to connect, and the files. Of any number of words the last one is another thing, which clap can
    /// tell only if there are always two.
    pub(crate) fn address_and_files(&self) -> Result<(Address, Vec<&Path>), clap::Error> {
        let wrong = |kind, why: &str| {
            let mut command = Arguments::command();
            command.build();
            let send = command.find_subcommand_mut("send");
            send.map_or_else(
                || clap::Error::raw(kind, why),
                |send| send.clone().error(kind, why),
            )
        };
        let (address, files) = self
            .words
            .split_last()
            .ok_or_else(|| wrong(ErrorKind::MissingRequiredArgument, "no address was given"))?;
        let text = address.to_string_lossy();
        let address = connect_address(&text).map_err(|error| {
            let why = format!("{error} (the address comes last)");
            wrong(ErrorKind::ValueValidation, &why)
        })?;
        let files: Vec<&Path> = files
            .iter()
            .map(Path::new)
            .chain(self.more_files.iter().map(PathBuf::as_path))
            .collect();
        if files.is_empty() {
            let why = "no file was given: name some before the address";
            return Err(wrong(ErrorKind::MissingRequiredArgument, why));
        }
        Ok((address, files))
    }
}

#[derive(Args, Debug)]
pub(crate) struct ReceiveArguments {
    /// Where to listen
    #[arg(value_name = "ADDR", required = true, value_parser = listen_address)]
    pub(crate) addresses: Vec<Address>,
    #[command(flatten)]
    pub(crate) allow: AllowArguments,
    /// The directory to store files in
    #[arg(long, visible_alias = "out", value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Replace files that exist already; without it they are refused
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// End after this many byes were answered and their channels closed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_byes: Option<u64>,
    /// Do not name the files that came, and show no progress
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// Where the body of a call comes from; none of them means no body.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(crate) struct BodyArguments {
    /// The body
    #[arg(long = "body", value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) text: Option<String>,
    /// The file that is the body
    #[arg(long, value_name = "F")]
    pub(crate) file: Option<PathBuf>,
    /// A body of this many bytes
    #[arg(long, value_name = "BYTES", value_parser = body_len)]
    pub(crate) size: Option<usize>,
    /// Take the body from the standard input
    #[arg(value_name = "-", value_parser = ["-"])]
    pub(crate) stdin: Option<String>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct DecodeArguments {
    /// The bytes as hexadecimal digits; white space between them is ignored, and \x before them
    #[arg(long, value_name = "TEXT", value_parser = hex_bytes)]
    pub(crate) hex: Option<HexBytes>,
    /// The file that holds the bytes
    #[arg(long, value_name = "F")]
    pub(crate) file: Option<PathBuf>,
    /// Take the bytes from the standard input
    #[arg(value_name = "-", value_parser = ["-"])]
    pub(crate) stdin: Option<String>,
}

/// A text header that can be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TextHeaderArgument {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Bytes, written as hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HexBytes(pub(crate) Vec<u8>);

fn listen_address(text: &str) -> Result<Address, AddressError> {
    text.parse()
}

fn connect_address(text: &str) -> Result<Address, AddressError> {
    let address: Address = text.parse()?;
    address.check_connect()?;
    Ok(address)
}

fn text_header(text: &str) -> Result<TextHeaderArgument, String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("a text header is written NAME:VALUE")?;
    let header = TextHeaderArgument {
        name: name.trim().to_owned(),
        value: value.trim_matches([' ', '\t']).to_owned(),
    };
    Message::signal(ChannelNumber::UNASSIGNED)
        .push_header(&header.name, &header.value)
        .map_err(|error: HeaderError| error.to_string())?;
    Ok(header)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "not a length of time".to_owned())
}

fn body_len(text: &str) -> Result<usize, String> {
    let len: usize = text.parse().map_err(|_| "not a number of bytes")?;
    if len > Message::BODY_MAX {
        return Err(format!(
            "the body of a message has at most {} bytes",
            Message::BODY_MAX
        ));
    }
    Ok(len)
}

fn hex_bytes(text: &str) -> Result<HexBytes, String> {
    let mut digits = Vec::with_capacity(text.len());
    let mut characters = text.char_indices().filter(|(_, c)| !c.is_whitespace());
    while let Some((position, character)) = characters.next() {
        // Before each byte, as strace writes it.
        if text[position..].starts_with(r"\x") {
            characters.next();
            continue;
        }
        let digit = character
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
            .ok_or_else(|| {
                format!("{character:?} at position {position} is no hexadecimal digit")
            })?;
        digits.push(digit);
    }
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(format!(
            "an odd number of digits ({}): the last byte has only one",
            digits.len()
        ));
    }
    Ok(HexBytes(
        pairs.iter().map(|[high, low]| high << 4 | low).collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn hex_is_read_with_any_spacing() {
        let bytes = HexBytes(vec![0xfa, 0xd4, 0x03]);
        assert_eq!(hex_bytes("fad403"), Ok(bytes.clone()));
        assert_eq!(hex_bytes(" FA d4\n03 "), Ok(bytes));
        assert_eq!(
            hex_bytes(r"\xfa\xD4\x03"),
            Ok(HexBytes(vec![0xfa, 0xd4, 0x03]))
        );
        assert_eq!(
            hex_bytes(r"fa\n").unwrap_err(),
            "'\\\\' at position 2 is no hexadecimal digit"
        );
        assert_eq!(hex_bytes(""), Ok(HexBytes(Vec::new())));
        let error = hex_bytes("fa dx").unwrap_err();
        assert_eq!(error, "'x' at position 4 is no hexadecimal digit");
        assert_eq!(
            hex_bytes("fad").unwrap_err(),
            "an odd number of digits (3): the last byte has only one"
        );
    }

    #[test]
    fn a_text_header_is_checked_when_it_is_read() {
        let header = text_header("content-type: text/plain").unwrap();
        assert_eq!(
            (&*header.name, &*header.value),
            ("content-type", "text/plain")
        );
        assert_eq!(text_header("a:b:c").unwrap().value, "b:c");
        for wrong in [
            "",
            "name",
            ":value",
            " :value",
            "name:",
            "name: ",
            "a:b\r\nc:d",
        ] {
            assert!(text_header(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_time_is_a_number_of_seconds() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for wrong in ["", "x", "-1", "NaN", "inf", "1e300"] {
            assert!(seconds(wrong).is_err(), "{wrong:?}");
        }
    }
}
