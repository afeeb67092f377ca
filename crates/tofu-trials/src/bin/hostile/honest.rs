//! Ten honest clients: each asks once in 10 ms, and knows how long the answer took.
//!
//! That counts from when the question was posted. Who is to ask wakes up late by itself, for a poller's timeout is in
//! whole milliseconds: that time is the client's own, no server can spare it, and beside it a round trip of 0.1 ms would
//! not be seen. But who could not ask when it was due, because the answer to the question before was still missing,
//! counts from when it was due: otherwise a server that is stuck for a second would be asked once in that second instead
//! of a hundred times, and have one late answer instead of a hundred.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tofu::{ChannelGroup, ChannelNumber, Engine, Event, Message, OpCode, Options};
use tofu_trials::{
    Fallible,
    app::{greet, tell},
};

pub(crate) const CLIENTS: u32 = 10;
const PERIOD: Duration = Duration::from_millis(10);
/// An answer that takes longer than this never comes.
const PATIENCE: Duration = Duration::from_secs(10);
const BODY_LEN: usize = 100;

/// What was measured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latencies {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Questions, and those that were never answered.
    pub(crate) asked: u64,
    pub(crate) lost: u64,
}

impl Latencies {
    fn told(&self) -> String {
        let Self { asked, lost, .. } = self;
        format!("{:.1} {:.1} {asked} {lost}", self.p50_us, self.p99_us)
    }

    pub(crate) fn parse(line: &str) -> Fallible<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [p50_us, p99_us, asked, lost] = words[..] else {
            return Err(format!("not four numbers: {line}").into());
        };
        Ok(Self {
            p50_us: p50_us.parse()?,
            p99_us: p99_us.parse()?,
            asked: asked.parse()?,
            lost: lost.parse()?,
        })
    }

    /// The medians of several, and what was asked and lost in all.
    pub(crate) fn together(all: &[Self]) -> Self {
        let median = |of: fn(&Self) -> f64| {
            let mut values: Vec<f64> = all.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        Self {
            p50_us: median(|one| one.p50_us),
            p99_us: median(|one| one.p99_us),
            asked: all.iter().map(|one| one.asked).sum(),
            lost: all.iter().map(|one| one.lost).sum(),
        }
    }
}

/// p50 and p99, small ones with a tenth.
impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = |us: f64| usize::from(us < 1_000.0);
        let Self { p50_us, p99_us, .. } = *self;
        let (less, more) = (digits(p50_us), digits(p99_us));
        write!(f, "{p50_us:.less$}, {p99_us:.more$}")
    }
}

/// What a client is at.
#[derive(Clone, Copy, Debug)]
enum State {
    /// It asks when this comes.
    Rests,
    /// It was to ask when an answer was missing, and asks at once.
    IsLate,
    /// It has asked; this is when the answer's time began.
    Waits { since: Instant },
}

#[derive(Clone, Copy, Debug)]
struct Client {
    due: Instant,
    state: State,
    /// Which question is the next, or waits for its answer.
    number: u8,
}

impl Client {
    fn new(due: Instant) -> Self {
        Self {
            due,
            state: State::Rests,
            number: 0,
        }
    }

    /// The question, if it is time for one.
    fn ask(&mut self, now: Instant) -> Option<[u8; BODY_LEN]> {
        let since = match self.state {
            State::Rests if self.due <= now => now,
            State::IsLate => self.due,
            State::Rests | State::Waits { .. } => return None,
        };
        self.state = State::Waits { since };
        self.number = self.number.wrapping_add(1);
        Some([self.number; BODY_LEN])
    }

    /// How long this answer took, if it is the one that is due.
    fn hear(&mut self, answer: &[u8], now: Instant) -> Option<Duration> {
        let State::Waits { since } = self.state else {
            return None;
        };
        if answer != [self.number; BODY_LEN] {
            return None;
        }
        self.due += PERIOD;
        self.state = if self.due <= now {
            State::IsLate
        } else {
            State::Rests
        };
        Some(now.saturating_duration_since(since))
    }

    fn waits(&self) -> bool {
        matches!(self.state, State::Waits { .. })
    }
}

/// Measures for as many seconds as each line says.
pub(crate) fn run(address: &str) -> Fallible {
    // They may share a core with the server, which could not answer while they poll.
    let engine = Engine::new(Options::default().busy_poll(Duration::ZERO))?;
    let mut group = engine.group()?;
    let address = address.parse()?;
    let channels = (0..CLIENTS).map(|_| greet(&mut group, &address));
    let channels: Vec<ChannelNumber> = channels.collect::<Fallible<_>>()?;
    tell("ready")?;
    for line in std::io::stdin().lines() {
        let time = Duration::from_secs(line?.parse()?);
        tell(measure(&mut group, &channels, time)?.told())?;
    }
    Ok(())
}

fn measure(
    group: &mut ChannelGroup,
    channels: &[ChannelNumber],
    time: Duration,
) -> Fallible<Latencies> {
    let mut latencies = Histogram::<u64>::new(3)?;
    let mut asked = 0;
    let start = Instant::now();
    let end = start + time;
    // Not all at once.
    let clients = channels
        .iter()
        .zip(0..)
        .map(|(channel, nth)| (*channel, Client::new(start + PERIOD * nth / CLIENTS)));
    let mut clients: HashMap<_, _> = clients.collect();
    loop {
        // All that were to be asked before the end are asked, however late.
        for (channel, client) in clients.iter_mut().filter(|(_, client)| client.due < end) {
            if let Some(question) = client.ask(Instant::now()) {
                group.post(Message::request(*channel).with_body(question))?;
                asked += 1;
            }
        }
        let now = Instant::now();
        let waiting = clients.values().filter(|client| client.waits()).count();
        let resting = clients.values().filter(|client| !client.waits());
        let next = resting.map(|client| client.due).filter(|due| *due < end);
        let next = next.min();
        if (waiting == 0 && next.is_none()) || now > end + PATIENCE {
            let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
            return Ok(Latencies {
                p50_us: at(0.5),
                p99_us: at(0.99),
                asked,
                lost: waiting as u64,
            });
        }
        let next = next.unwrap_or(end + PATIENCE);
        match group.recv_timeout(next.saturating_duration_since(now))? {
            None => {}
            Some(Event::Message(answer)) if answer.op_code() == OpCode::Response => {
                let client = clients.get_mut(&answer.channel()).ok_or("whose answer?")?;
                let latency = client.hear(answer.body(), Instant::now());
                let latency = latency.ok_or_else(|| format!("not due: {answer:?}"))?;
                latencies.record(u64::try_from(latency.as_nanos())?)?;
            }
            Some(other) => return Err(format!("not due: {other:?}").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Who wakes up late counts from when it asks.
    #[test]
    fn the_time_that_the_client_is_late_by_itself_does_not_count() {
        let now = Instant::now();
        let due = now + MS;
        let mut client = Client::new(due);
        assert_eq!(client.ask(now), None);
        let question = client.ask(due + MS).expect("it is due");
        let latency = client.hear(&question, due + 3 * MS);
        assert_eq!(latency, Some(2 * MS));
    }

    /// Who could not ask counts from when it was to.
    #[test]
    fn a_stall_is_seen_by_all_who_were_to_ask() {
        let due = Instant::now();
        let mut client = Client::new(due);
        let mut now = due;
        let mut latencies = Vec::new();
        for trip in [35, 1, 1, 1, 1] {
            let question = client.ask(now.max(client.due)).expect("it is due");
            now = now.max(client.due) + trip * MS;
            latencies.extend(client.hear(&question, now));
        }
        let seen: Vec<_> = latencies.iter().map(Duration::as_millis).collect();
        assert_eq!(seen, [35, 26, 17, 8, 1]);
    }

    #[test]
    fn only_the_answer_that_is_due_will_do() {
        let due = Instant::now();
        let mut client = Client::new(due);
        let question = client.ask(due).expect("it is due");
        assert_eq!(client.hear(&question[1..], due), None);
        assert_eq!(client.hear(&[0; BODY_LEN], due), None);
        assert!(client.hear(&question, due).is_some());
        assert_eq!(client.hear(&question, due), None);
    }

    #[test]
    fn small_figures_have_a_tenth() {
        let latencies = Latencies {
            p50_us: 60.25,
            p99_us: 3_519.6,
            ..Latencies::default()
        };
        assert_eq!(latencies.to_string(), "60.2, 3520");
        let told = Latencies::parse(&latencies.told()).expect("told by the same type");
        assert_eq!(told.to_string(), "60.2, 3520");
    }
}
