//! How fast it goes on this machine, in about two seconds for each transport.

use std::time::{Duration, Instant};

use tofu::{ChannelNumber, Event, Header, Message, Refusal};

use super::{
    failed,
    server::{COUNT, SIGNALS},
    stage::{Stage, answers, unexpected},
};
use crate::{
    error::Failure,
    output::Object,
    summary::{RoundTrips, microseconds},
};

/// How long each of the two measurements goes on, unless it has enough before.
const TIME_MAX: Duration = Duration::from_millis(800);
const ROUND_TRIPS_MAX: u64 = 20_000;
/// Round trips that are not counted: connections and processors warm up.
const ROUND_TRIPS_IGNORED: u64 = 200;
const SIGNALS_MAX: u64 = 1_000_000;
/// Signals between two looks at the clock.
const SIGNALS_PER_LOOK: u64 = 256;
const BODY: [u8; 64] = [b'x'; 64];

/// What was measured.
pub(super) struct Numbers {
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) signals_per_second: f64,
}

impl Numbers {
    pub(super) fn object(&self, transport: &str) -> Object {
        Object::event("numbers")
            .with("transport", transport)
            .with("p50_us", microseconds(self.p50))
            .with("p99_us", microseconds(self.p99))
            .with("messages_per_second", self.signals_per_second.round())
    }
}

/// Measures round trips, then the way there. The server has counted `signals` on this channel.
pub(super) fn measure(
    channel: ChannelNumber,
    signals: u64,
    stage: &mut Stage<'_>,
) -> Result<Numbers, Failure> {
    let round_trips = round_trips(channel, stage)?;
    let signals_per_second = one_way(channel, signals, stage)?;
    Ok(Numbers {
        p50: round_trips.quantile(0.5),
        p99: round_trips.quantile(0.99),
        signals_per_second,
    })
}

fn round_trips(channel: ChannelNumber, stage: &mut Stage<'_>) -> Result<RoundTrips, Failure> {
    let mut round_trips = RoundTrips::new()?;
    let started = Instant::now();
    for number in 0..ROUND_TRIPS_MAX {
        let posted = Instant::now();
        let request = Message::request(channel).with_body(BODY);
        let asked = stage
            .post(request)
            .map_err(|error| failed(error.refusal()))?;
        wait_for(asked, stage)?;
        let now = Instant::now();
        if number >= ROUND_TRIPS_IGNORED || round_trips.count() == 0 {
            round_trips.record(now - posted);
        }
        if now - started > TIME_MAX {
            break;
        }
    }
    Ok(round_trips)
}

/// Signals as fast as they go. The clock stops when the server has said that it has them all.
#[expect(clippy::cast_precision_loss, reason = "a rate is no count")]
fn one_way(
    channel: ChannelNumber,
    signals_before: u64,
    stage: &mut Stage<'_>,
) -> Result<f64, Failure> {
    let started = Instant::now();
    let mut posted = 0;
    while posted < SIGNALS_MAX {
        if posted % SIGNALS_PER_LOOK == 0 && started.elapsed() > TIME_MAX {
            break;
        }
        post_when_room(Message::signal(channel).with_body(BODY), stage)?;
        posted += 1;
    }
    let question = Message::request(channel).with_header(COUNT, SIGNALS);
    let asked = post_when_room(question, stage)?;
    let answer = wait_for(asked, stage)?;
    let time = started.elapsed();
    let count = (signals_before + posted).to_string();
    if answer.header(SIGNALS) != Some(&count) {
        return Err(failed(format_args!(
            "expected {count} signals, but: {answer:?}"
        )));
    }
    Ok(posted as f64 / time.as_secs_f64())
}

/// Posts, after the queue has had room if it is full.
fn post_when_room(mut message: Message, stage: &mut Stage<'_>) -> Result<Header, Failure> {
    loop {
        let error = match stage.post(message) {
            Ok(header) => return Ok(header),
            Err(error) => error,
        };
        if !matches!(error.refusal(), Refusal::QueueFull { .. }) {
            return Err(failed(error.refusal()));
        }
        message = error.into_message();
        match stage.hear()? {
            Event::Drained(_) => {}
            other => return Err(unexpected("room in the queue", &other)),
        }
    }
}

fn wait_for(asked: Header, stage: &mut Stage<'_>) -> Result<Message, Failure> {
    loop {
        match stage.hear()? {
            Event::Message(message) if answers(&message, asked) => return Ok(message),
            // Of a queue that was full a while ago.
            Event::Drained(_) => {}
            other => return Err(unexpected("the answer", &other)),
        }
    }
}
