//! Answers that found their channel's queue full, kept until there is room.
//!
//! A kept answer is the very message that asked for it, so the engine's pool bounds how many there
//! can be: when all of its messages wait here, nothing more is read and the peers are slowed down.
//! That hurts every peer, so one that takes none of its answers for [`STALLED`] is given up.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use tofu::{ChannelNumber, Message};

/// How long a channel may take nothing of what waits for it.
pub(crate) const STALLED: Duration = Duration::from_secs(10);

/// Answers that wait, by channel and in their order.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    channels: HashMap<ChannelNumber, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    answers: VecDeque<Message>,
    /// When the channel last took one.
    moved: Instant,
}

impl Backlog {
    /// Keeps `answer` behind the others of its channel: it must not overtake them. Gives it back if
    /// there are none.
    pub(crate) fn queue(&mut self, answer: Message) -> Option<Message> {
        match self.channels.get_mut(&answer.channel()) {
            Some(waiting) => {
                waiting.answers.push_back(answer);
                None
            }
            None => Some(answer),
        }
    }

    /// Keeps answers that their channel has just had no room for.
    pub(crate) fn keep(
        &mut self,
        channel: ChannelNumber,
        answers: VecDeque<Message>,
        now: Instant,
    ) {
        let waiting = Waiting {
            answers,
            moved: now,
        };
        self.channels.insert(channel, waiting);
    }

    /// Gives all that waits for the channel, which has room or is gone.
    pub(crate) fn take(&mut self, channel: ChannelNumber) -> VecDeque<Message> {
        self.channels
            .remove(&channel)
            .map(|waiting| waiting.answers)
            .unwrap_or_default()
    }

    /// When the next channel will have stalled.
    pub(crate) fn next_stall(&self) -> Option<Instant> {
        let stalls = self
            .channels
            .values()
            .map(|waiting| waiting.moved + STALLED);
        stalls.min()
    }

    /// Gives up a channel that has stalled, if there is one.
    pub(crate) fn take_stalled(&mut self, now: Instant) -> Option<ChannelNumber> {
        let (channel, _) = self
            .channels
            .iter()
            .find(|(_, waiting)| waiting.moved + STALLED <= now)?;
        let channel = *channel;
        self.channels.remove(&channel);
        Some(channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: ChannelNumber = ChannelNumber::new(1);

    fn answer(id: u64) -> Message {
        Message::new(tofu::OpCode::Response, CHANNEL, id)
    }

    #[test]
    fn answers_keep_their_order() {
        let mut backlog = Backlog::default();
        let refused = backlog.queue(answer(1)).expect("nothing waits yet");
        backlog.keep(CHANNEL, VecDeque::from([refused]), Instant::now());
        assert_eq!(backlog.queue(answer(2)), None);
        let ids: Vec<u64> = backlog.take(CHANNEL).iter().map(|a| a.id().get()).collect();
        assert_eq!(ids, [1, 2]);
        assert_eq!(backlog.queue(answer(3)), Some(answer(3)));
    }

    #[test]
    fn a_channel_that_takes_nothing_is_given_up() {
        let start = Instant::now();
        let mut backlog = Backlog::default();
        assert_eq!(backlog.next_stall(), None);
        backlog.keep(CHANNEL, VecDeque::from([answer(1)]), start);
        let stall = backlog.next_stall().expect("an answer waits");
        assert_eq!(backlog.take_stalled(start), None);
        assert_eq!(backlog.take_stalled(stall), Some(CHANNEL));
        assert_eq!(backlog.take_stalled(stall), None);
        assert!(backlog.take(CHANNEL).is_empty());
    }
}
