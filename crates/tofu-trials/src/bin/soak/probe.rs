//! A channel that stays: how long an answer takes.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tofu::{ChannelGroup, ChannelNumber, Engine, Event, Message, OpCode, Options};
use tofu_trials::{
    Fallible,
    app::{greet, next},
};

use crate::samples::Latency;

pub(crate) struct Probe {
    group: ChannelGroup,
    channel: ChannelNumber,
}

impl Probe {
    pub(crate) fn new(address: &str) -> Fallible<Self> {
        let engine = Engine::new(Options::default())?;
        let mut group = engine.group()?;
        let channel = greet(&mut group, &address.parse()?)?;
        Ok(Self { group, channel })
    }

    pub(crate) fn measure(&mut self, time: Duration) -> Fallible<Latency> {
        let mut latencies = Histogram::<u64>::new(3)?;
        let end = Instant::now() + time;
        while Instant::now() < end {
            let start = Instant::now();
            self.group
                .post(Message::request(self.channel).with_body("?"))?;
            match next(&mut self.group)? {
                Event::Message(answer)
                    if answer.op_code() == OpCode::Response && answer.body() == b"?" => {}
                other => return Err(format!("not due: {other:?}").into()),
            }
            latencies.record(u64::try_from(start.elapsed().as_nanos())?)?;
        }
        let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
        Ok(Latency {
            p50_us: at(0.5),
            p99_us: at(0.99),
        })
    }
}
