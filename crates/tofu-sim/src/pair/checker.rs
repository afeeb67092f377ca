//! What the protocol promises, held against what happens.
//!
//! The checker hears of every message that was taken, of every byte that was written and read, and
//! of every message that was delivered or came back. From the lengths of the frames alone it knows
//! which message must be where:
//!
//! ```text
//! posted      | 0 | 1  | 2     | 3 | 4     | 5 |
//! read       --------------->|                      0, 1 were delivered; 2 is half read
//! written    ------------------------->|            3 is in the stream; 4 and 5 come back
//! ```

use std::cmp::Ordering;

use tofu_proto::{ChannelNumber, Instant, Message, OpCode, Side, Status, Timeouts};

use super::{
    Both, Broken,
    application::Said,
    both::{SIDES, other},
};

pub(crate) type Checked<T = ()> = Result<T, Broken>;

/// Holds what happens against what was promised.
#[derive(Debug)]
pub(crate) struct Checker {
    timeouts: Timeouts,
    /// By who posts.
    ways: Both<Way>,
    ends: Both<End>,
}

/// One direction of the conversation.
#[derive(Debug, Default)]
struct Way {
    posted: Vec<Posted>,
    written: usize,
    read: usize,
    delivered: usize,
    returned: usize,
}

#[derive(Debug)]
struct Posted {
    message: Message,
    /// Where its frame ends in the stream.
    end: usize,
}

/// One end of the conversation.
#[derive(Debug)]
struct End {
    /// The last time that anything moved here.
    moved: Instant,
    connected: bool,
    closed: Option<Status>,
}

impl Way {
    /// Messages that end within the first `bytes` of the stream.
    fn within(&self, bytes: usize) -> usize {
        self.posted.partition_point(|posted| posted.end <= bytes)
    }

    fn end_of(&self, messages: usize) -> usize {
        messages
            .checked_sub(1)
            .map_or(0, |last| self.posted[last].end)
    }
}

/// What happens.
impl Checker {
    pub(crate) fn new(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            ways: Both::default(),
            ends: Both::of(|_| End {
                moved: Instant::ORIGIN,
                connected: false,
                closed: None,
            }),
        }
    }

    pub(crate) fn connected(&mut self, now: Instant) {
        for side in SIDES {
            self.ends[side].connected = true;
            self.ends[side].moved = now;
        }
    }

    /// A message was taken. It is as it travels, with the numbers that it was given.
    pub(crate) fn posted(&mut self, side: Side, message: Message, now: Instant) -> Checked {
        self.moved(side, now)?;
        let way = &mut self.ways[side];
        let end = way.end_of(way.posted.len()) + message.frame_len();
        way.posted.push(Posted { message, end });
        Ok(())
    }

    pub(crate) fn written(&mut self, side: Side, count: usize, now: Instant) -> Checked {
        self.moved(side, now)?;
        self.ways[side].written += count;
        Ok(())
    }

    /// `side` read what the other one wrote.
    pub(crate) fn read(&mut self, side: Side, count: usize, now: Instant) -> Checked {
        self.moved(side, now)?;
        self.ways[other(side)].read += count;
        Ok(())
    }

    /// `side` got a message of the other one.
    pub(crate) fn delivered(
        &mut self,
        side: Side,
        channel: ChannelNumber,
        message: &Message,
        now: Instant,
    ) -> Checked {
        self.moved(side, now)?;
        let from = other(side);
        let way = &mut self.ways[from];
        let index = way.delivered;
        let Some(posted) = way.posted.get(index) else {
            return Err(Broken::Invented(from, Box::new(message.clone())));
        };
        let expected = posted.message.clone().with_channel(channel);
        if expected != *message {
            return Err(Broken::Altered {
                from,
                index,
                posted: Box::new(expected),
                delivered: Box::new(message.clone()),
            });
        }
        way.delivered += 1;
        Ok(())
    }

    /// `side` has made messages of all that it read.
    pub(crate) fn caught_up(&self, side: Side) -> Checked {
        let from = other(side);
        let way = &self.ways[from];
        let read = way.within(way.read);
        if read == way.delivered {
            return Ok(());
        }
        Err(Broken::NotDelivered {
            from,
            delivered: way.delivered,
            read,
        })
    }

    /// `side` reads again after it did not for a time.
    pub(crate) fn resumed(&mut self, side: Side, now: Instant) -> Checked {
        self.moved(side, now)
    }

    fn moved(&mut self, side: Side, now: Instant) -> Checked {
        if self.ends[side].closed.is_some() {
            return Err(Broken::AfterClose(side));
        }
        self.ends[side].moved = now;
        Ok(())
    }
}

/// The end.
impl Checker {
    /// `side` is about to close.
    pub(crate) fn closing(
        &mut self,
        side: Side,
        status: Status,
        said: Said,
        stream_is_over: bool,
        now: Instant,
    ) -> Checked {
        let why_not = match status {
            Status::CHANNEL_CLOSED => self.why_not_closed(side, said),
            Status::PEER_DISCONNECTED => (!stream_is_over).then_some("the stream goes on"),
            _ => self.why_not_timed_out(side, status, said, now),
        };
        if let Some(why_not) = why_not {
            return Err(Broken::WrongReason(side, status, why_not));
        }
        if self.ends[side].closed.replace(status).is_some() {
            return Err(Broken::AfterClose(side));
        }
        Ok(())
    }

    /// A close without a complaint means that what was said before the bye has arrived.
    fn why_not_closed(&self, side: Side, said: Said) -> Option<&'static str> {
        let (ours, theirs) = (&self.ways[side], &self.ways[other(side)]);
        if said.bye_signal {
            None
        } else if said.bye && said.heard_bye_answer {
            let is_bye = |posted: &Posted| posted.message.op_code() == OpCode::ByeRequest;
            let byes = ours.posted.iter().position(is_bye);
            if byes.is_none_or(|bye| ours.delivered <= bye) {
                Some("what was said before the bye has not arrived")
            } else if theirs.delivered < theirs.posted.len() {
                Some("what the peer said has not arrived")
            } else if said.heard_bye && !said.bye_answer {
                Some("the peer's bye is not answered")
            } else {
                None
            }
        } else if !said.bye_answer || said.bye {
            Some("no bye was answered")
        } else if ours.written < ours.end_of(ours.posted.len()) {
            Some("the answer has not left")
        } else {
            None
        }
    }

    fn why_not_timed_out(
        &self,
        side: Side,
        status: Status,
        said: Said,
        now: Instant,
    ) -> Option<&'static str> {
        let theirs = &self.ways[other(side)];
        let (timeout, may_time_out) = match status {
            Status::CONNECT_TIMEOUT => (self.timeouts.connect, !self.ends[side].connected),
            Status::HELLO_TIMEOUT => (self.timeouts.hello, !said.hello),
            Status::FRAME_TIMEOUT => {
                let mid_frame = theirs.read > theirs.end_of(theirs.delivered);
                (self.timeouts.frame, mid_frame)
            }
            Status::BYE_TIMEOUT => (self.timeouts.bye, said.bye || said.bye_answer),
            _ => return Some("nobody should say that here"),
        };
        if !may_time_out {
            Some("there is nothing to wait for")
        } else if status == Status::BYE_TIMEOUT && self.ends[side].moved + timeout > now {
            Some("something moved not long ago")
        } else if Instant::ORIGIN + timeout > now {
            Some("it is too early")
        } else {
            None
        }
    }

    /// A message came back to `side`.
    pub(crate) fn returned(&mut self, side: Side, message: &Message) -> Checked {
        let way = &mut self.ways[side];
        let expected = way.posted.get(way.within(way.written) + way.returned);
        match expected {
            Some(posted) if posted.message == *message => {
                way.returned += 1;
                Ok(())
            }
            expected => Err(Broken::WrongReturn {
                from: side,
                expected: expected.map(|posted| Box::new(posted.message.clone())),
                returned: Some(Box::new(message.clone())),
            }),
        }
    }

    /// `side` is closed, and has everything back. `is_held` says that it had bytes for which it had
    /// no message.
    pub(crate) fn closed(&self, side: Side, is_held: bool) -> Checked {
        let way = &self.ways[side];
        if let Some(missing) = way.posted.get(way.within(way.written) + way.returned) {
            return Err(Broken::WrongReturn {
                from: side,
                expected: Some(Box::new(missing.message.clone())),
                returned: None,
            });
        }
        if is_held {
            Ok(())
        } else {
            self.caught_up(side)
        }
    }

    /// The run is over. `unread` of each side's bytes were written and not read.
    pub(crate) fn finish(
        &self,
        unread: Both<usize>,
        discarded: Both<usize>,
        held: Both<bool>,
        gentle: bool,
    ) -> Checked<Tally> {
        let mut tally = Tally::default();
        for side in SIDES {
            let way = &self.ways[side];
            let accounted = way.read + unread[side];
            if accounted.cmp(&way.written) != Ordering::Equal {
                return Err(Broken::Bytes {
                    from: side,
                    written: way.written,
                    accounted,
                });
            }
            let lost = way.within(way.written) - way.delivered;
            if lost > 0 && discarded[side] == 0 && !held[other(side)] {
                return Err(Broken::Vanished(side, lost));
            }
            let closed = self.ends[side].closed;
            let is_whole = lost == 0 && way.returned == 0;
            if gentle && !(is_whole && closed == Some(Status::CHANNEL_CLOSED)) {
                return Err(Broken::NotGraceful(side, closed));
            }
            tally.delivered += way.delivered;
            tally.returned += way.returned;
            tally.lost += lost;
        }
        Ok(tally)
    }
}

/// What became of all messages.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) delivered: usize,
    pub(crate) returned: usize,
    pub(crate) lost: usize,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const CHANNEL: ChannelNumber = ChannelNumber::new(5);
    const NOW: Instant = Instant::from_nanos(1);

    fn message(id: u64) -> Message {
        Message::signal(CHANNEL).with_id(id).with_body("body")
    }

    /// The client has posted messages 1 to 3, and all but the last byte of the third have left.
    fn checker() -> (Checker, usize) {
        let timeouts = Timeouts {
            hello: Duration::from_secs(1),
            connect: Duration::from_secs(1),
            frame: Duration::from_secs(1),
            bye: Duration::from_secs(1),
        };
        let mut checker = Checker::new(timeouts);
        checker.connected(NOW);
        for id in 1..=3 {
            checker.posted(Side::Client, message(id), NOW).unwrap();
        }
        let written = 3 * message(1).frame_len() - 1;
        checker.written(Side::Client, written, NOW).unwrap();
        (checker, written)
    }

    fn deliver(checker: &mut Checker, id: u64) -> Checked {
        checker.delivered(Side::Server, CHANNEL, &message(id), NOW)
    }

    #[test]
    fn what_arrives_is_what_was_posted_next() {
        let (mut checker, written) = checker();
        checker.read(Side::Server, written, NOW).unwrap();
        assert!(matches!(
            checker.caught_up(Side::Server),
            Err(Broken::NotDelivered { .. })
        ));
        assert!(matches!(
            deliver(&mut checker, 2),
            Err(Broken::Altered { index: 0, .. })
        ));
        deliver(&mut checker, 1).unwrap();
        assert!(matches!(
            deliver(&mut checker, 1),
            Err(Broken::Altered { index: 1, .. })
        ));
        deliver(&mut checker, 2).unwrap();
        checker.caught_up(Side::Server).unwrap();
        deliver(&mut checker, 3).unwrap();
        assert!(
            checker.caught_up(Side::Server).is_err(),
            "its last byte is not read"
        );
        assert!(matches!(
            deliver(&mut checker, 4),
            Err(Broken::Invented(Side::Client, _))
        ));
    }

    #[test]
    fn what_comes_back_is_what_has_not_left() {
        let (mut checker, _) = checker();
        for wrong in [1, 2] {
            let returned = checker.returned(Side::Client, &message(wrong));
            assert!(matches!(returned, Err(Broken::WrongReturn { .. })));
        }
        assert!(
            checker.closed(Side::Client, false).is_err(),
            "it must come back"
        );
        checker.returned(Side::Client, &message(3)).unwrap();
        assert!(checker.returned(Side::Client, &message(3)).is_err(), "once");
        checker.closed(Side::Client, false).unwrap();
    }

    #[test]
    fn messages_and_bytes_do_not_vanish() {
        let (mut checker, written) = checker();
        let finish = |checker: &Checker, unread, discarded| {
            let client = |count| Both {
                client: count,
                server: 0,
            };
            checker.finish(client(unread), client(discarded), Both::default(), false)
        };
        assert!(matches!(
            finish(&checker, written, 0),
            Err(Broken::Vanished(_, 2))
        ));
        let tally = finish(&checker, written, written).unwrap();
        assert_eq!((tally.lost, tally.delivered), (2, 0));
        assert!(matches!(
            finish(&checker, written + 1, written),
            Err(Broken::Bytes { .. })
        ));
        checker.read(Side::Server, 1, NOW).unwrap();
        assert!(matches!(
            finish(&checker, written, written),
            Err(Broken::Bytes { .. })
        ));
    }

    #[test]
    fn a_channel_closes_once_and_for_a_reason() {
        let (mut checker, _) = checker();
        let mut close =
            |status, said, is_over, now| checker.closing(Side::Client, status, said, is_over, now);
        let said = Said {
            hello: true,
            ..Said::default()
        };
        let late = NOW + Duration::from_secs(100);
        for (status, now) in [
            (Status::CHANNEL_CLOSED, NOW),
            (Status::PEER_DISCONNECTED, NOW),
            (Status::CONNECT_TIMEOUT, late),
            (Status::HELLO_TIMEOUT, late),
            (Status::FRAME_TIMEOUT, late),
            (Status::BYE_TIMEOUT, late),
            (Status::UNKNOWN_ERROR, late),
        ] {
            let closed = close(status, said, false, now);
            assert!(matches!(closed, Err(Broken::WrongReason(..))), "{status}");
        }
        let asked = Said { bye: true, ..said };
        assert!(
            close(Status::BYE_TIMEOUT, asked, false, NOW).is_err(),
            "too early"
        );
        close(Status::PEER_DISCONNECTED, said, true, NOW).unwrap();
        let again = close(Status::PEER_DISCONNECTED, said, true, NOW);
        assert_eq!(again, Err(Broken::AfterClose(Side::Client)));
        let posted = checker.posted(Side::Client, message(4), NOW);
        assert_eq!(posted, Err(Broken::AfterClose(Side::Client)));
    }
}
