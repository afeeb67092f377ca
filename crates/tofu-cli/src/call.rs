//! `tofucat call`: hello, requests or signals, the answers, bye.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    time::Instant,
};

use tofu::{ChannelNumber, Event, Message, MessageId, OpCode};

use crate::{
    args::{BodyArguments, CallArguments},
    client::{Client, Heard},
    error::Failure,
    interrupt::Interrupt,
    output::{self, Output},
    progress::Progress,
    summary::{RoundTrips, Summary},
};

/// How many unanswered ids an error names.
const IDS_NAMED: usize = 5;
/// How many messages are posted before the server, the clock and Ctrl-C are heard again.
const BURST: u64 = 256;

pub(crate) fn run(
    arguments: &CallArguments,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<(), Failure> {
    let body = read_body(&arguments.body)?;
    let mut client = Client::connect("call", &arguments.address, arguments.timeout, interrupt)?;
    let talked = talk(arguments, &body, &mut client, output);
    if talked.is_err() {
        client.end();
    }
    talked
}

fn talk(
    arguments: &CallArguments,
    body: &[u8],
    client: &mut Client<'_>,
    output: &mut Output,
) -> Result<(), Failure> {
    let early = client.greeted(output)?;
    let mut exchange = Exchange::new(arguments, body, client.channel(), output)?;
    if let Some(message) = early {
        exchange.hear(message, client, output)?;
    }
    exchange.run(client, output)?;
    exchange.sum_up(output)?;
    client.bye(output)
}

/// The messages of one call, and which of them are still to be posted or answered.
struct Exchange<'a> {
    arguments: &'a CallArguments,
    /// What is posted again and again.
    template: Message,
    posted: u64,
    /// Requests that wait for their answers, and since when.
    outstanding: HashMap<MessageId, Instant>,
    /// The request behind the signals was posted.
    is_checked: bool,
    /// Nothing can be posted until there is room.
    is_blocked: bool,
    started: Instant,
    round_trips: RoundTrips,
    progress: Progress,
}

impl<'a> Exchange<'a> {
    fn new(
        arguments: &'a CallArguments,
        body: &[u8],
        channel: ChannelNumber,
        output: &Output,
    ) -> Result<Self, Failure> {
        let op_code = if arguments.signal {
            OpCode::Signal
        } else {
            OpCode::Request
        };
        let template = arguments
            .headers
            .iter()
            .fold(Message::new(op_code, channel, 0), |message, header| {
                message.with_header(&header.name, &header.value)
            })
            .with_body(body);
        // Answers on the same terminal would tear the bar apart.
        let is_bar_shown = arguments.count > 1 && (arguments.quiet || !output.is_terminal());
        Ok(Self {
            arguments,
            template,
            posted: 0,
            outstanding: HashMap::new(),
            is_checked: false,
            is_blocked: false,
            started: Instant::now(),
            round_trips: RoundTrips::new()?,
            progress: Progress::new(arguments.count, is_bar_shown),
        })
    }

    fn run(&mut self, client: &mut Client<'_>, output: &mut Output) -> Result<(), Failure> {
        while !self.is_done() {
            self.post_burst(client)?;
            while self.may_post() {
                let Some(heard) = client.try_hear(&|| self.missing(), output)? else {
                    break;
                };
                self.handle(heard, client, output)?;
            }
            if !self.may_post() && !self.is_done() {
                let heard = client.hear(&|| self.missing(), output)?;
                self.handle(heard, client, output)?;
            }
        }
        Ok(())
    }

    fn handle(
        &mut self,
        heard: Heard,
        client: &Client<'_>,
        output: &mut Output,
    ) -> Result<(), Failure> {
        match heard {
            Heard::Message(message) => self.hear(message, client, output),
            Heard::Drained => {
                self.is_blocked = false;
                Ok(())
            }
        }
    }

    fn is_done(&self) -> bool {
        self.posted == self.arguments.count
            && self.outstanding.is_empty()
            && (self.is_checked || !self.arguments.signal)
    }

    /// Whether neither the count nor the window nor the queue is full.
    fn may_post(&self) -> bool {
        let in_flight = self.outstanding.len() as u64;
        let is_window_open = self.arguments.signal || in_flight < self.arguments.window;
        self.posted < self.arguments.count && is_window_open && !self.is_blocked
    }

    /// Posts some of what may be posted.
    fn post_burst(&mut self, client: &Client<'_>) -> Result<(), Failure> {
        let burst_end = self.posted + BURST;
        while self.may_post() && self.posted < burst_end {
            let message = self.template.clone();
            let now = Instant::now();
            let Some(id) = self.post(message, client)? else {
                break;
            };
            self.posted += 1;
            if self.arguments.signal {
                self.progress.set(self.posted);
            } else {
                self.outstanding.insert(id, now);
            }
        }
        let is_check_due = self.arguments.signal && self.posted == self.arguments.count;
        if is_check_due && !self.is_checked && !self.is_blocked {
            let request = Message::request(client.channel());
            if let Some(id) = self.post(request, client)? {
                self.is_checked = true;
                self.outstanding.insert(id, Instant::now());
            }
        }
        Ok(())
    }

    /// Posts a message and gives its id, or `None` when nothing can be posted now.
    fn post(
        &mut self,
        message: Message,
        client: &Client<'_>,
    ) -> Result<Option<MessageId>, Failure> {
        let header = client.post(message)?;
        self.is_blocked = header.is_none();
        Ok(header.map(|header| header.id))
    }

    /// What the server says: an answer counts and is printed, all else is not for us.
    fn hear(
        &mut self,
        message: Message,
        client: &Client<'_>,
        output: &mut Output,
    ) -> Result<(), Failure> {
        if message.op_code() != OpCode::Response {
            return Ok(());
        }
        let Some(posted) = self.outstanding.get(&message.id()) else {
            let id = message.id();
            return Err(client.failure(format_args!(
                "the server answered id {id}, which nobody asked"
            )));
        };
        if !message.has_more() {
            self.round_trips.record(posted.elapsed());
            self.outstanding.remove(&message.id());
            if !self.arguments.signal {
                self.progress.set(self.round_trips.count());
            }
        }
        self.print(message, output)
    }

    fn print(&self, answer: Message, output: &mut Output) -> Result<(), Failure> {
        if self.arguments.quiet {
            return Ok(());
        }
        if output.is_json() {
            return output.event(&Event::Message(answer));
        }
        output.bytes(answer.body())?;
        // One answer is given byte for byte, to be stored or compared. Several are lines.
        let is_line = self.arguments.count > 1 || output.is_terminal();
        if is_line && !answer.has_more() && !answer.body().ends_with(b"\n") {
            output.bytes(b"\n")?;
        }
        Ok(())
    }

    fn sum_up(&mut self, output: &mut Output) -> Result<(), Failure> {
        if self.arguments.count == 1 {
            return Ok(());
        }
        let summary = Summary {
            unit: if self.arguments.signal {
                "signals"
            } else {
                "requests"
            },
            count: self.arguments.count,
            time: self.started.elapsed(),
            round_trips: (!self.arguments.signal)
                .then_some((self.arguments.window, &self.round_trips)),
        };
        self.progress.clear();
        if output.is_json() {
            return output.object(summary.object());
        }
        output.flush()?;
        output::note(summary);
        Ok(())
    }

    /// What is outstanding, in words.
    fn missing(&self) -> String {
        let unposted = self.arguments.count - self.posted;
        let mut words = Vec::new();
        if unposted > 0 {
            let count = self.arguments.count;
            words.push(format!("{unposted} of {count} messages were not posted"));
        }
        let unanswered = self.outstanding.len();
        if unanswered > 0 {
            let mut ids: Vec<u64> = self.outstanding.keys().map(|id| id.get()).collect();
            ids.sort_unstable();
            let named: Vec<String> = ids.iter().take(IDS_NAMED).map(u64::to_string).collect();
            let more = if unanswered > IDS_NAMED { ", ..." } else { "" };
            let plural = if unanswered > 1 { "s were" } else { " was" };
            words.push(format!(
                "{unanswered} request{plural} not answered (id {}{more})",
                named.join(", ")
            ));
        }
        words.join(" and ")
    }
}

fn read_body(arguments: &BodyArguments) -> Result<Vec<u8>, Failure> {
    if let Some(text) = &arguments.text {
        check_len("--body", text.len())?;
        return Ok(text.clone().into_bytes());
    }
    if let Some(len) = arguments.size {
        return Ok(vec![b'x'; len]);
    }
    if let Some(path) = &arguments.file {
        let name = path.display();
        let file = File::open(path).map_err(|error| Failure::new(&name, error))?;
        return read_at_most(file, &name.to_string());
    }
    if arguments.stdin.is_some() {
        return read_at_most(io::stdin().lock(), "standard input");
    }
    Ok(Vec::new())
}

/// Reads all of `reader`, unless it is more than a body can be.
fn read_at_most(reader: impl Read, name: &str) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let limit = Message::BODY_MAX as u64 + 1;
    reader
        .take(limit)
        .read_to_end(&mut body)
        .map_err(|error| Failure::new(name, error))?;
    check_len(name, body.len())?;
    Ok(body)
}

fn check_len(name: &str, len: usize) -> Result<(), Failure> {
    if len > Message::BODY_MAX {
        let why = format!(
            "too long: the body of a message has at most {} bytes",
            Message::BODY_MAX
        );
        return Err(Failure::new(name, why));
    }
    Ok(())
}
