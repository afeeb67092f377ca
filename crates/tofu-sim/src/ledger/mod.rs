//! What tofu promises, held against what applications post and hear.
//!
//! The ledger knows each message that was posted, and from the network how many bytes each end has written
//! and read. From the lengths of the frames alone it follows where each message must be:
//!
//! ```text
//! posted      | 0 | 1  | 2     | 3 | 4     | 5 |
//! read       --------------->|                      0, 1 were delivered; 2 is half read
//! written    ------------------------->|            3 is in the stream; 4 and 5 come back
//! ```

mod account;
mod always;
mod endings;
mod report;

use std::{collections::BTreeMap, time::Duration};

use tofu::{
    ChannelNumber, Event, Header, Message, MessageId, Metrics, OpCode, OpType, PostError, Reason,
    Refusal, Status,
};

use self::account::Account;
use crate::{Broken, Limits, Promise, network::State};

pub(crate) type Checked<T = ()> = Result<T, Broken>;
/// A host, and the number of its channel.
pub(crate) type Name = (usize, ChannelNumber);

/// Closings for which a number rests.
const QUARANTINE: u64 = 1_024;
/// A bye timeout that is only there for peers that are dead.
const PATIENT: Duration = Duration::from_secs(60);

/// Holds what happens against what was promised.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    ends: BTreeMap<Name, End>,
    /// Closed in the report of an engine, before an application came to hear of them.
    unheard: BTreeMap<Name, Status>,
    /// By group.
    groups: Vec<Account>,
    /// Channels and listeners that ended because the system denied something, by host and status.
    denied: BTreeMap<(usize, Status), usize>,
    pub(crate) delivered: usize,
    pub(crate) returned: usize,
    pub(crate) queue_full: usize,
    pub(crate) pool_empty: usize,
    pub(crate) closed: BTreeMap<String, usize>,
}

/// What surrounds an event: the host, and what is known there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) host: usize,
    /// Channels that were ever opened there.
    pub(crate) opened: u64,
    pub(crate) limits: &'a Limits,
    pub(crate) network: &'a State,
}

/// How a group stands with its application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Serves,
    /// It closes by itself, and what it says is reported.
    Closes,
    /// Its engine shuts down, and reports what it says.
    ShutsDown,
    /// Nobody hears of it any more, but what is queued still leaves.
    Drains,
    /// It is gone.
    Gone,
}

impl Standing {
    /// Whether somebody hears how its channels end.
    fn is_told(self) -> bool {
        matches!(self, Self::Serves | Self::Closes | Self::ShutsDown)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Listener,
    Client,
    Server,
}

/// One end of a channel, as its application knows it.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what was said on a channel, each of which may be true on its own"
)]
struct End {
    kind: Kind,
    group: usize,
    opened_by: MessageId,
    opened_at: Duration,
    posted: Vec<Posted>,
    /// Messages of the peer that were delivered here.
    delivered: usize,
    /// The next message to come back, once one has.
    returns: Option<usize>,
    closed: Option<Status>,
    said_bye: bool,
    answered_bye: bool,
    said_signal: bool,
    wants_room: bool,
    /// `Listening` was heard.
    listens: bool,
    /// Since when it could write, or read, and has not; a listener: say that it listens, or accept.
    unwritten: Option<(Duration, usize)>,
    unread: Option<(Duration, usize)>,
}

#[derive(Debug)]
struct Posted {
    message: Message,
    /// Where its frame ends in the stream.
    end: usize,
}

impl End {
    fn new(kind: Kind, group: usize, opened_by: MessageId, opened_at: Duration) -> Self {
        Self {
            kind,
            group,
            opened_by,
            opened_at,
            posted: Vec::new(),
            delivered: 0,
            returns: None,
            closed: None,
            said_bye: false,
            answered_bye: false,
            said_signal: false,
            wants_room: false,
            listens: false,
            unwritten: None,
            unread: None,
        }
    }

    /// Messages that end within the first `bytes` of the stream.
    fn within(&self, bytes: usize) -> usize {
        self.posted.partition_point(|posted| posted.end <= bytes)
    }

    fn bytes(&self) -> usize {
        self.posted.last().map_or(0, |last| last.end)
    }

    /// Bytes that were posted and are not in the stream.
    fn queued(&self, name: Name, network: &State) -> usize {
        let written = network.tally(name.0, name.1).unwrap_or_default().written;
        self.bytes().saturating_sub(written)
    }
}

fn told(name: Name) -> String {
    format!("host {} channel {}", name.0, name.1.get())
}

fn check(holds: bool, promise: Promise, how: impl FnOnce() -> String) -> Checked {
    if holds {
        Ok(())
    } else {
        Err(Broken::new(promise, how()))
    }
}

/// What applications do.
impl Ledger {
    /// A message was taken. `message` is a copy of it as it was posted.
    pub(crate) fn posted(
        &mut self,
        group: usize,
        name: Name,
        mut message: Message,
        header: &Header,
        scene: Scene<'_>,
    ) -> Checked {
        message.address_to(header.channel, header.id);
        let kind = match message.op_code() {
            OpCode::HelloRequest => Some(Kind::Client),
            OpCode::WelcomeRequest => Some(Kind::Listener),
            _ => None,
        };
        if let Some(kind) = kind {
            return self.open(kind, group, name, message, scene);
        }
        let Some(end) = self.ends.get_mut(&name) else {
            return Err(Broken::new(
                Promise::Posting,
                format!("{} takes {message:?}, and does not exist", told(name)),
            ));
        };
        check(
            end.closed.is_none() && end.group == group,
            Promise::Posting,
            || {
                format!(
                    "{} takes {message:?}, and is closed or another group's",
                    told(name)
                )
            },
        )?;
        match message.op_code() {
            OpCode::ByeSignal => end.said_signal = true,
            OpCode::ByeRequest if end.kind == Kind::Listener => end.said_signal = true,
            OpCode::ByeRequest => end.said_bye = true,
            OpCode::ByeResponse => end.answered_bye = true,
            _ => {}
        }
        if end.said_signal {
            return Ok(());
        }
        let always_fits = message.op_code().op_type() == OpType::Bye;
        let bytes = end.bytes() + message.frame_len();
        end.posted.push(Posted {
            message,
            end: bytes,
        });
        let queued = end.queued(name, scene.network);
        let max = scene.limits.channel_queue_bytes;
        check(always_fits || queued <= max, Promise::Bounds, || {
            format!(
                "{} has taken a message, and has {queued} bytes queued, at most {max} are allowed",
                told(name)
            )
        })
    }

    fn open(
        &mut self,
        kind: Kind,
        group: usize,
        name: Name,
        message: Message,
        scene: Scene<'_>,
    ) -> Checked {
        let opened = scene.opened;
        if let Some(before) = self.ends.get(&name) {
            check(before.closed.is_some(), Promise::Quarantine, || {
                format!("{} is given out while it is open", told(name))
            })?;
            check(opened > QUARANTINE, Promise::Quarantine, || {
                format!("{} is given out again after {opened} channels", told(name))
            })?;
        }
        let mut end = End::new(kind, group, message.id(), scene.network.now);
        end.closed = self.unheard.remove(&name);
        if kind != Kind::Server {
            let bytes = message.frame_len();
            end.posted.push(Posted {
                message,
                end: bytes,
            });
        }
        self.ends.insert(name, end);
        Ok(())
    }

    /// A message was refused. `message` is a copy of it.
    pub(crate) fn refused(
        &mut self,
        group: usize,
        name: Name,
        message: &Message,
        error: &PostError,
        metrics: &Metrics,
        scene: Scene<'_>,
    ) -> Checked {
        let Scene {
            limits, network, ..
        } = scene;
        check(error.message() == message, Promise::Posting, || {
            format!("{:?} comes back as {:?}", message, error.message())
        })?;
        let serves = self.groups[group].standing == Standing::Serves;
        let wrong = |why: &str| {
            let refusal = error.refusal();
            Err(Broken::new(
                Promise::Posting,
                format!("{} refuses {message:?} ({refusal}) {why}", told(name)),
            ))
        };
        let end = self.ends.get_mut(&name);
        match (error.refusal(), end) {
            (Refusal::ShutdownStarted, _) if serves => wrong("while it serves"),
            (Refusal::QueueFull { .. }, Some(end)) => {
                self.queue_full += 1;
                end.wants_room = true;
                let queued = end.queued(name, network);
                let len = message.frame_len();
                let is_full = queued + len > limits.channel_queue_bytes
                    || metrics.queued_bytes + len > limits.engine_queue_bytes;
                if is_full {
                    Ok(())
                } else {
                    wrong(&format!("with {queued} bytes queued"))
                }
            }
            (Refusal::QueueFull { .. }, None) => wrong("which does not exist"),
            (Refusal::ChannelClosing(_), Some(end))
                if !end.said_bye && !end.answered_bye && !end.said_signal =>
            {
                wrong("and nobody has said bye")
            }
            (Refusal::InvalidChannelNumber(_), Some(end))
                if end.closed.is_none()
                    && network
                        .tally(name.0, name.1)
                        .is_some_and(|tally| !tally.is_closed) =>
            {
                wrong("and it is open")
            }
            (Refusal::InvalidChannelGroup(_), Some(end)) if end.group == group => {
                wrong("and it is of this group")
            }
            (Refusal::TooManyChannels(max), _) if metrics.channels_open < *max => {
                wrong("and has few")
            }
            _ => Ok(()),
        }
    }
}

/// What applications hear.
impl Ledger {
    pub(crate) fn heard(&mut self, group: usize, event: &Event, scene: Scene<'_>) -> Checked {
        let Scene { host, network, .. } = scene;
        self.groups[group].finds(true);
        let Some(channel) = event.channel() else {
            return match event {
                Event::PoolEmpty => self.pool_is_empty(group),
                Event::Notified(message) => self.is_notified(group, message.as_ref()),
                _ => Ok(()),
            };
        };
        let name = (host, channel);
        if let Event::Message(message) = event
            && message.op_code() == OpCode::HelloRequest
            && self.ends.get(&name).is_none_or(|end| end.closed.is_some())
        {
            let hello = Message::new(OpCode::HelloRequest, channel, message.id());
            self.open(Kind::Server, group, name, hello, scene)?;
        }
        let Some(end) = self.ends.get(&name) else {
            return Err(Broken::new(
                Promise::Closing,
                format!("{} was never heard of, and there is {event:?}", told(name)),
            ));
        };
        if self.groups[group].standing == Standing::ShutsDown && end.closed.is_some() {
            // It was at hand before the end, which only the report tells.
            return match event {
                Event::Message(message) => self.delivered(name, message, network),
                _ => Ok(()),
            };
        }
        check(end.closed.is_none(), Promise::Closing, || {
            format!("{} is closed, and there is {event:?}", told(name))
        })?;
        check(end.group == group, Promise::Closing, || {
            format!("{} is another group's, and there is {event:?}", told(name))
        })?;
        match event {
            Event::Message(message) => self.delivered(name, message, network),
            Event::Returned { message, reason } => {
                let written = network.tally(host, channel).unwrap_or_default().written;
                self.came_back(name, message, *reason, written)
            }
            Event::Drained(_) => {
                let end = self.ends.get_mut(&name);
                let wanted = end.is_some_and(|end| std::mem::take(&mut end.wants_room));
                check(wanted, Promise::Room, || {
                    format!("{} has room, and nobody has asked", told(name))
                })
            }
            Event::Closed { id, reason, .. } => self.last_word(name, *id, *reason, scene),
            Event::Listening { address, response } => {
                self.is_listening(name, address, response, network)
            }
            // They are of no channel.
            Event::PoolEmpty | Event::Notified(_) => Ok(()),
        }
    }

    /// `Closed`, behind all that had to come back.
    fn last_word(
        &mut self,
        name: Name,
        id: MessageId,
        reason: Reason,
        scene: Scene<'_>,
    ) -> Checked {
        let Some(end) = self.ends.get(&name) else {
            return Ok(());
        };
        let opened_by = end.opened_by;
        check(id == opened_by, Promise::Closing, || {
            format!("{} was opened by {opened_by}, not by {id}", told(name))
        })?;
        let tally = scene.network.tally(name.0, name.1).unwrap_or_default();
        let (within, left) = (end.within(tally.written), end.posted.len());
        let next = end.returns.unwrap_or(within);
        check(
            end.kind == Kind::Listener || next == left,
            Promise::Return,
            || {
                format!(
                    "{} is closed ({reason}), and of {left} messages {within} were written, {} came back",
                    told(name),
                    next - within
                )
            },
        )?;
        self.is_closed(name, reason, tally, scene)
    }

    fn delivered(&mut self, name: Name, message: &Message, network: &State) -> Checked {
        let index = match self.ends.get_mut(&name) {
            Some(end) => {
                end.delivered += 1;
                end.delivered - 1
            }
            None => return Ok(()),
        };
        self.delivered += 1;
        let Some(other) = network.other_end(name.0, name.1) else {
            return Err(Broken::new(
                Promise::Delivery,
                format!("{} gets {message:?} of nobody", told(name)),
            ));
        };
        let is_bye = message.op_code().op_type() == OpType::Bye;
        let Some(from) = self.ends.get(&other) else {
            // A group that closes says bye by itself, also where its application has not heard of the channel.
            return check(is_bye, Promise::Delivery, || {
                format!("{} gets {message:?} of a stranger", told(name))
            });
        };
        let Some(posted) = from.posted.get(index) else {
            // A group that closes says bye by itself.
            let is_own = self.groups[from.group].standing != Standing::Serves && is_bye;
            return check(is_own, Promise::Delivery, || {
                format!(
                    "{} gets {message:?}, which {} has not posted",
                    told(name),
                    told(other)
                )
            });
        };
        let expected = posted.message.clone().with_channel(name.1);
        check(expected == *message, Promise::Delivery, || {
            format!(
                "{} gets {message:?} where {} has posted {expected:?}, its message {index}",
                told(name),
                told(other)
            )
        })
    }

    fn came_back(
        &mut self,
        name: Name,
        message: &Message,
        reason: Reason,
        written: usize,
    ) -> Checked {
        self.returned += 1;
        let Some(end) = self.ends.get_mut(&name) else {
            return Ok(());
        };
        let index = end.returns.unwrap_or_else(|| end.within(written));
        end.returns = Some(index + 1);
        let expected = end.posted.get(index).map(|posted| {
            let mut message = posted.message.clone();
            message.set_status(reason.status());
            message
        });
        check(expected.as_ref() == Some(message), Promise::Return, || {
            format!(
                "{} gets back {message:?} ({reason}), where it had to be {expected:?}",
                told(name)
            )
        })
    }
}
