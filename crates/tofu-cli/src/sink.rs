//! `tofucat sink`: signals are counted, and who asks is told how many came.

use std::collections::HashMap;

use tofu::{ChannelNumber, Message, OpCode};

use crate::{
    args::SinkArguments,
    error::Failure,
    interrupt::Interrupt,
    output::Output,
    server::{Limits, Service, serve},
};

/// The text header that tells the count.
const COUNT_HEADER: &str = "signals";

pub(crate) fn run(
    arguments: &SinkArguments,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<(), Failure> {
    let limits = Limits {
        time: None,
        byes: arguments.max_byes,
    };
    let mut sink = Sink::default();
    let options = arguments.allow.options("sink", &arguments.addresses)?;
    serve(
        "sink",
        options,
        &arguments.addresses,
        limits,
        &mut sink,
        interrupt,
        output,
    )
}

/// Signals that came, by channel.
#[derive(Default)]
struct Sink {
    signals: HashMap<ChannelNumber, u64>,
}

impl Service for Sink {
    fn answer(&mut self, message: Message) -> Option<Message> {
        let signals = self.signals.entry(message.channel()).or_default();
        match message.op_code() {
            OpCode::Signal => {
                *signals += 1;
                None
            }
            // A request in several parts is answered once.
            OpCode::Request if message.has_more() => None,
            OpCode::Request => {
                let answer = message.reply().ok()?;
                Some(answer.with_header(COUNT_HEADER, signals.to_string()))
            }
            _ => message.reply().ok(),
        }
    }

    fn forget(&mut self, channel: ChannelNumber) {
        self.signals.remove(&channel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_has_its_count() {
        let (one, two) = (ChannelNumber::new(1), ChannelNumber::new(2));
        let mut sink = Sink::default();
        let count = |sink: &mut Sink, channel| {
            let answer = sink
                .answer(Message::request(channel).with_id(1))
                .expect("a request");
            answer.header(COUNT_HEADER).expect("a count").to_owned()
        };
        for channel in [one, two, one] {
            assert_eq!(sink.answer(Message::signal(channel)), None);
        }
        assert_eq!(
            (count(&mut sink, one), count(&mut sink, two)),
            ("2".into(), "1".into())
        );
        sink.forget(one);
        assert_eq!(count(&mut sink, one), "0");
    }
}
