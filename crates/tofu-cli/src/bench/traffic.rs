//! The loops that are measured: the client's, a function for each kind of workload, and the server's.
//!
//! They do what an application would, and nothing else: whoever changes one changes the figures. A
//! signal is not answered; a request with the text header [`TELL`] behind the signals tells that all of
//! them have arrived. The clock and Ctrl-C are looked at now and then only, and how long a server is
//! silent is told by a thread that ticks.

use std::{
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        resource::{UsageWho, getrusage},
        time::TimeValLike,
    },
};
use tofu::{ChannelGroup, ChannelNumber, Event, Header, Message, OpCode, Poster, Reason, Refusal};

use super::{
    figures::Measured,
    plan::{Kind, Workload},
};
use crate::{error::Failure, interrupt::Interrupt, summary::RoundTrips};

/// How many requests wait for their answers at a time.
pub(super) const IN_FLIGHT: u64 = 64;
/// How often the thread ticks. A server that is silent from one tick to the next is given up.
const TICK: Duration = Duration::from_secs(5);
/// Messages between two looks at the clock, where messages are many.
const MESSAGES_PER_LOOK: u64 = 64;

/// The text header of a request that asks for what the server has counted.
const TELL: &str = "tell";
/// Signals that have come: a text header of the answer.
const SIGNALS: &str = "signals";
/// Processor time of the server in microseconds: a text header of the answer.
const CPU_US: &str = "cpu_us";

/// Why measuring ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// This channel has ended, and this is all that its engine knows.
    Lost(ChannelNumber, String),
    /// The server of this channel owes something, and has said nothing for this long.
    Silent(ChannelNumber, Duration),
    /// All else.
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Signals that have come, and processor time that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tally {
    signals: u64,
    cpu: Duration,
}

/// The client, whose channels lead to the servers.
pub(super) struct Client<'a> {
    pub(super) group: ChannelGroup,
    interrupt: &'a Interrupt,
    /// Ends the thread that ticks, when it is dropped.
    _ticking: Sender<()>,
}

/// What a client may hear while nothing goes wrong.
enum Heard {
    Message(Message),
    /// There is room in the queue.
    Drained,
}

impl<'a> Client<'a> {
    pub(super) fn new(group: ChannelGroup, interrupt: &'a Interrupt) -> Self {
        let ticking = start_ticking(group.poster());
        Self {
            group,
            interrupt,
            _ticking: ticking,
        }
    }

    /// Runs a workload for this long and counts.
    pub(super) fn measure(
        &mut self,
        workload: Workload,
        channel: ChannelNumber,
        time: Duration,
    ) -> Result<Measured, Stop> {
        let body = vec![b'x'; usize::from(workload.body_len())];
        let before = self.tally(channel)?;
        let started = Instant::now();
        let mut round_trips = None;
        let count = match workload.kind() {
            Kind::RoundTrip => {
                let times = round_trips.insert(RoundTrips::new()?);
                self.one_at_a_time(channel, &body, started + time, times)?;
                times.count()
            }
            Kind::OneWay => self.one_way(channel, &body, started + time)?,
            Kind::InFlight => self.in_flight(channel, &body, started + time)?,
        };
        // Behind signals, only the answer says that they have arrived; requests are answered already.
        let answered = Instant::now();
        let after = self.tally(channel)?;
        let ended = match workload.kind() {
            Kind::OneWay => Instant::now(),
            Kind::RoundTrip | Kind::InFlight => answered,
        };
        let arrived = after.signals - before.signals;
        if workload.kind() == Kind::OneWay && arrived != count {
            let why = format!("{count} signals were sent, and {arrived} have arrived");
            return Err(super::failed(why).into());
        }
        Ok(Measured {
            count,
            time: ended - started,
            cpu: after.cpu.saturating_sub(before.cpu),
            round_trips,
        })
    }

    /// Requests, each after the answer to the one before it.
    fn one_at_a_time(
        &mut self,
        channel: ChannelNumber,
        body: &[u8],
        end: Instant,
        times: &mut RoundTrips,
    ) -> Result<(), Stop> {
        loop {
            let posted = Instant::now();
            self.post(Message::request(channel).with_body(body))?;
            self.answer(channel)?;
            let now = Instant::now();
            times.record(now - posted);
            if now >= end {
                return Ok(());
            }
        }
    }

    /// Signals as fast as they go.
    fn one_way(&mut self, channel: ChannelNumber, body: &[u8], end: Instant) -> Result<u64, Stop> {
        let mut posted = 0;
        while !self.is_over(posted, end)? {
            self.post(Message::signal(channel).with_body(body))?;
            posted += 1;
        }
        Ok(posted)
    }

    /// Requests, one for each answer, so that always as many are under way.
    fn in_flight(
        &mut self,
        channel: ChannelNumber,
        body: &[u8],
        end: Instant,
    ) -> Result<u64, Stop> {
        for _ in 0..IN_FLIGHT {
            self.post(Message::request(channel).with_body(body))?;
        }
        let (mut posted, mut answered) = (IN_FLIGHT, 0);
        while !self.is_over(answered, end)? {
            self.answer(channel)?;
            answered += 1;
            self.post(Message::request(channel).with_body(body))?;
            posted += 1;
        }
        while answered < posted {
            self.answer(channel)?;
            answered += 1;
        }
        Ok(answered)
    }

    /// Whether the time is over. Looks at the clock, and for Ctrl-C, now and then.
    fn is_over(&self, done: u64, end: Instant) -> Result<bool, Stop> {
        if !done.is_multiple_of(MESSAGES_PER_LOOK) {
            return Ok(false);
        }
        self.interrupt.check()?;
        Ok(Instant::now() >= end)
    }

    /// Posts, after the queue has had room if it is full.
    pub(super) fn post(&mut self, mut message: Message) -> Result<Header, Stop> {
        loop {
            let error = match self.group.post(message) {
                Ok(header) => return Ok(header),
                Err(error) => error,
            };
            match error.refusal() {
                Refusal::QueueFull { .. } => {}
                refusal => return Err(Stop::Lost(error.message().channel(), refusal.to_string())),
            }
            message = error.into_message();
            match self.hear(message.channel())? {
                Heard::Drained => {}
                Heard::Message(message) => return Err(unexpected(&message)),
            }
        }
    }

    /// Waits for an answer on this channel, the only one on which one is due.
    pub(super) fn answer(&mut self, channel: ChannelNumber) -> Result<Message, Stop> {
        loop {
            match self.hear(channel)? {
                Heard::Message(message) => match message.op_code() {
                    OpCode::Response | OpCode::HelloResponse => return Ok(message),
                    _ => return Err(unexpected(&message)),
                },
                // Of a queue that was full a while ago.
                Heard::Drained => {}
            }
        }
    }

    /// The next event that counts, for which the server of this channel is responsible.
    fn hear(&mut self, channel: ChannelNumber) -> Result<Heard, Stop> {
        let ended = |error| super::failed(format_args!("receive: {error}"));
        let mut was_ticked = false;
        loop {
            match self.group.recv().map_err(ended)? {
                Event::Message(message) => return Ok(Heard::Message(message)),
                Event::Drained(_) => return Ok(Heard::Drained),
                Event::Notified(_) => {
                    self.interrupt.check()?;
                    if std::mem::replace(&mut was_ticked, true) {
                        return Err(Stop::Silent(channel, TICK));
                    }
                }
                Event::PoolEmpty | Event::Listening { .. } => {}
                Event::Returned { message, reason } => {
                    return Err(lost(message.channel(), reason));
                }
                Event::Closed {
                    channel, reason, ..
                } => return Err(lost(channel, reason)),
            }
        }
    }

    /// What the server has counted. Its processor time is that of both sides.
    fn tally(&mut self, channel: ChannelNumber) -> Result<Tally, Stop> {
        self.post(Message::request(channel).with_header(TELL, SIGNALS))?;
        let answer = self.answer(channel)?;
        let told = Tally::read(&answer).ok_or_else(|| unexpected(&answer))?;
        let own =
            own_cpu().map_err(|error| super::failed(format_args!("processor time: {error}")))?;
        Ok(Tally {
            cpu: told.cpu + own,
            ..told
        })
    }
}

impl Tally {
    fn write(self, answer: Message) -> Message {
        answer
            .with_header(SIGNALS, self.signals.to_string())
            .with_header(CPU_US, self.cpu.as_micros().to_string())
    }

    fn read(answer: &Message) -> Option<Self> {
        let number = |name: &str| answer.header(name)?.parse().ok();
        Some(Self {
            signals: number(SIGNALS)?,
            cpu: Duration::from_micros(number(CPU_US)?),
        })
    }
}

/// In the server: answers requests and counts signals until the client has gone.
pub(super) fn answer_all(group: &mut ChannelGroup) -> Result<(), String> {
    let mut signals = 0;
    loop {
        let message = match group.recv().map_err(|error| error.to_string())? {
            Event::Message(message) => message,
            Event::Closed { .. } => return Ok(()),
            _ => continue,
        };
        if message.op_code() == OpCode::Signal {
            signals += 1;
            continue;
        }
        let is_asked = message.header(TELL).is_some();
        let mut answer = message.into_reply().map_err(|error| error.to_string())?;
        if is_asked {
            let cpu = own_cpu().map_err(|error| format!("processor time: {error}"))?;
            answer = Tally { signals, cpu }.write(answer);
        }
        // Its queue has room for far more than ever wait for their answers.
        if let Err(error) = group.post(answer) {
            // Else the client has gone meanwhile, which is yet to be heard.
            if !error.refusal().is_channel_over() {
                return Err(error.refusal().to_string());
            }
        }
    }
}

/// Notifies the group at every tick, until what is returned is dropped.
fn start_ticking(poster: Poster) -> Sender<()> {
    let (ticking, end) = mpsc::channel();
    thread::spawn(move || {
        while end.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            poster.notify(None);
        }
    });
    ticking
}

/// Processor time that this process has used, in all of its threads.
fn own_cpu() -> Result<Duration, Errno> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let time = usage.user_time() + usage.system_time();
    let microseconds = u64::try_from(time.num_microseconds()).unwrap_or_default();
    Ok(Duration::from_micros(microseconds))
}

fn lost(channel: ChannelNumber, reason: Reason) -> Stop {
    Stop::Lost(channel, reason.to_string())
}

fn unexpected(message: &Message) -> Stop {
    super::failed(format_args!("expected an answer, but: {message:?}")).into()
}

#[cfg(test)]
mod tests {
    use tofu::{Address, Engine, Options};

    use super::*;

    #[test]
    fn a_tally_is_read_as_it_was_written() {
        let tally = Tally {
            signals: u64::MAX,
            cpu: Duration::from_micros(1_234_567),
        };
        let answer = Message::new(OpCode::Response, ChannelNumber::new(1), 0);
        assert_eq!(Tally::read(&tally.write(answer.clone())), Some(tally));
        assert_eq!(Tally::read(&answer), None);
    }

    #[test]
    fn a_client_that_goes_before_it_is_answered_is_no_error() {
        let engine = Engine::new(Options::default()).unwrap();
        let (mut server, client) = (engine.group().unwrap(), engine.group().unwrap());
        let anywhere = Address::tcp("127.0.0.1", 0).unwrap();
        server.post(Message::welcome_request(&anywhere)).unwrap();
        let Event::Listening { address, .. } = server.recv().unwrap() else {
            panic!("it listens");
        };
        let hello = client.post(Message::hello_request(&address)).unwrap();
        client.post(Message::request(hello.channel)).unwrap();
        drop(client);
        let end = Instant::now() + TICK;
        while engine.metrics().channels_open > 1 {
            assert!(Instant::now() < end, "the client has gone");
            thread::yield_now();
        }
        assert_eq!(answer_all(&mut server), Ok(()));
    }

    #[test]
    fn processor_time_grows_with_work() {
        let before = own_cpu().unwrap();
        let mut sum = 0_u64;
        while own_cpu().unwrap() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(own_cpu().unwrap() > before);
    }
}
