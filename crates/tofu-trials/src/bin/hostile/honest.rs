//! Ten honest clients: each asks once in 10 ms, and knows how long the answer took since it was to ask.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tofu::{ChannelNumber, Engine, Event, Message, OpCode, Options};
use tofu_trials::{
    Fallible,
    app::{greet, tell},
};

pub(crate) const CLIENTS: u32 = 10;
const PERIOD: Duration = Duration::from_millis(10);
/// An answer that takes longer than this never comes.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was measured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latencies {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) lost: u64,
}

impl Latencies {
    pub(crate) fn parse(line: &str) -> Fallible<Self> {
        let numbers: Vec<f64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [p50_us, p99_us, lost] = numbers[..] else {
            return Err(format!("not three numbers: {line}").into());
        };
        Ok(Self {
            p50_us,
            p99_us,
            lost: u64::from(lost > 0.0),
        })
    }

    /// The medians of several.
    pub(crate) fn together(all: &[Self]) -> Self {
        let median = |of: fn(&Self) -> f64| {
            let mut values: Vec<f64> = all.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        Self {
            p50_us: median(|one| one.p50_us),
            p99_us: median(|one| one.p99_us),
            lost: all.iter().map(|one| one.lost).sum(),
        }
    }
}

/// A client: when it is to ask next, and whether it waits for an answer.
struct Client {
    due: Instant,
    waits: bool,
}

/// Measures for as many seconds as each line says.
pub(crate) fn run(address: &str) -> Fallible {
    let engine = Engine::new(Options::default())?;
    let mut group = engine.group()?;
    let address = address.parse()?;
    let channels = (0..CLIENTS).map(|_| greet(&mut group, &address));
    let channels: Vec<ChannelNumber> = channels.collect::<Fallible<_>>()?;
    tell("ready")?;
    for line in std::io::stdin().lines() {
        let time = Duration::from_secs(line?.parse()?);
        let mut latencies = Histogram::<u64>::new(3)?;
        let start = Instant::now();
        let end = start + time;
        // Not all at once.
        let mut clients: HashMap<_, _> = channels
            .iter()
            .zip(0..)
            .map(|(channel, nth)| {
                let due = start + PERIOD * nth / CLIENTS;
                (*channel, Client { due, waits: false })
            })
            .collect();
        loop {
            let now = Instant::now();
            let is_over = now >= end;
            for (channel, client) in &mut clients {
                if !client.waits && client.due <= now && !is_over {
                    group.post(Message::request(*channel).with_body([7; 100]))?;
                    client.waits = true;
                }
            }
            let waiting = clients.values().filter(|client| client.waits);
            if is_over && (waiting.clone().count() == 0 || now > end + PATIENCE) {
                let lost = waiting.count();
                let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
                tell(format_args!("{:.1} {:.1} {lost}", at(0.5), at(0.99)))?;
                break;
            }
            let due = clients.values().filter(|client| !client.waits);
            let due = due.map(|client| client.due).min().unwrap_or(end);
            let due = if is_over {
                end + PATIENCE
            } else {
                due.min(end)
            };
            let event = group.recv_timeout(due.saturating_duration_since(now))?;
            match event {
                None => {}
                Some(Event::Message(answer)) if answer.op_code() == OpCode::Response => {
                    let client = clients.get_mut(&answer.channel()).ok_or("whose answer?")?;
                    let latency = client.due.elapsed();
                    latencies.record(u64::try_from(latency.as_nanos())?)?;
                    client.waits = false;
                    client.due += PERIOD;
                }
                Some(other) => return Err(format!("not due: {other:?}").into()),
            }
        }
    }
    Ok(())
}
