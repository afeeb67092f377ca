//! A byte stream arrives whole and in bounded memory, or both sides know that it did not.

mod support;

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    thread,
    time::Duration,
};

use support::*;
use tofu::{
    ChannelNumber, Engine, Event, Message, OpCode, Options, Status,
    helpers::stream::{
        self, Cut, Part, ReceiveError, Receiver, SendError, Sender, Sent, Step, StreamId,
    },
};

const AT_ONCE: Duration = Duration::ZERO;
/// What a channel may queue in these tests: hardly more than the largest message.
const QUEUE_LEN: usize = 160 * 1024;
/// More than queues, pools and the buffers of the system hold together.
const LONG: u64 = 24 << 20;

fn narrow() -> Engine {
    let options = Options::default()
        .queue_bytes(QUEUE_LEN, 2 * QUEUE_LEN)
        .pool_messages(2, 6);
    engine_with(options)
}

/// Bytes that are nowhere the same, so many of them, for a reader and for a writer that checks them.
#[derive(Debug, PartialEq)]
struct Bytes {
    seed: u64,
    at: u64,
    len: u64,
}

fn bytes(seed: u64, len: u64) -> Bytes {
    Bytes { seed, at: 0, len }
}

impl Bytes {
    fn fill(&mut self, buffer: &mut [u8]) -> usize {
        let left = usize::try_from(self.len - self.at).unwrap_or(usize::MAX);
        let count = buffer.len().min(left);
        for byte in &mut buffer[..count] {
            let mixed = (self.at ^ self.seed << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            *byte = mixed.to_be_bytes()[1];
            self.at += 1;
        }
        count
    }

    fn is_whole(&self) -> bool {
        self.at == self.len
    }
}

impl Read for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.fill(buffer))
    }
}

impl Write for Bytes {
    fn write(&mut self, written: &[u8]) -> io::Result<usize> {
        let mut expected = vec![0; written.len()];
        let count = self.fill(&mut expected);
        assert_eq!(count, written.len(), "no more than was sent");
        assert!(expected == written, "other bytes than were sent");
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Fails in the end.
struct Failing(Bytes);

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("bad sector")),
            count => Ok(count),
        }
    }
}

/// One byte at a time, without end: never enough for a full queue.
struct Slow(u32);

impl Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0 += 1;
        assert!(self.0 < 10_000_000, "nobody tells of the end");
        thread::yield_now();
        buffer[0] = 1;
        Ok(1)
    }
}

/// Looks at what the engine queues whenever more is read.
struct Watching<'a>(Bytes, &'a Engine);

impl Read for Watching<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(self.1.metrics().queued_bytes <= QUEUE_LEN);
        self.0.read(buffer)
    }
}

fn first(channel: ChannelNumber) -> Message {
    Message::request(channel).with_header("name", "it")
}

/// Fills the queue with a stream, and gives its sender, who has more.
fn stuck(p: &Pair) -> Sender<Bytes> {
    let mut sender = Sender::new(first(p.at_client), bytes(1, LONG));
    let step = loop {
        match sender.post_next(|message| p.client.post(message)) {
            Ok(Step::Posted) => {}
            step => break step.expect("taken"),
        }
    };
    assert_eq!(step, Step::Full);
    sender
}

#[test]
fn more_than_all_bounds_hold_arrives_whole() {
    over_both(|address| {
        let (servers, clients) = (narrow(), narrow());
        let mut p = pair_between(&servers, &clients, address);
        let receiving = Watched::start(move || {
            let first = message_of(&mut p.server, OpCode::Request);
            assert_eq!(first.header("name"), Some("it"));
            let mut copy = bytes(1, LONG);
            let received =
                stream::receive_all(&mut p.server, first, &mut copy, WATCHDOG).expect("whole");
            assert!(copy.is_whole());
            let answer = received.last.reply().unwrap();
            p.server.post(answer.with_body("thanks")).unwrap();
            (p.server, received)
        });
        let reader = Watching(bytes(1, LONG), &clients);
        let mut sender = Sender::new(first(p.at_client), reader)
            .with_last(|reader, last| last.with_header("read", reader.0.at.to_string()));
        let sent = sender.post_all(&mut p.client, WATCHDOG).unwrap();
        let Sent { id, bytes, .. } = sent;
        assert_eq!(bytes, LONG);

        let (_server, received) = receiving.join("receiving");
        assert_eq!((received.bytes, received.last.id()), (LONG, id));
        assert_eq!(received.last.header("read"), Some(&*LONG.to_string()));
        let answer = loop {
            match next(&mut p.client) {
                Event::Message(answer) => break answer,
                // Told once, however often there was room again.
                Event::Drained(channel) => assert_eq!(channel, p.at_client),
                other => panic!("an answer was due, not {other:?}"),
            }
        };
        assert_eq!((answer.id(), answer.body()), (id, &b"thanks"[..]));
        silent(&mut p.client);
    });
}

#[test]
fn who_does_not_read_is_waited_for_and_the_stream_can_go_on() {
    over_both(|address| {
        let (servers, clients) = (narrow(), narrow());
        let mut p = pair_between(&servers, &clients, address);
        let mut sender = Sender::new(first(p.at_client), bytes(1, LONG));
        let error = sender.post_all(&mut p.client, AT_ONCE).unwrap_err();
        assert!(matches!(error, SendError::Timeout), "{error}");
        let before = sender.bytes();
        assert!(before > 0 && before < LONG, "{before}");

        let receiving = Watched::start(move || {
            let first = message_of(&mut p.server, OpCode::Request);
            let mut copy = bytes(1, LONG);
            stream::receive_all(&mut p.server, first, &mut copy, WATCHDOG).expect("whole");
            p.server
        });
        let sent = sender.post_all(&mut p.client, WATCHDOG).unwrap();
        assert_eq!(sent.bytes, LONG);
        receiving.join("receiving");
    });
}

#[test]
fn a_reader_that_fails_ends_the_stream_for_both() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        let failing = Failing(bytes(1, 1 << 20));
        let error = stream::send_all(&mut p.client, first(p.at_client), failing, WATCHDOG);
        let error = error.unwrap_err();
        assert!(
            matches!(&error, SendError::Read(it) if it.to_string() == "bad sector"),
            "{error}"
        );
        let begun = message_of(&mut p.server, OpCode::Request);
        let error = stream::receive_all(&mut p.server, begun, io::sink(), WATCHDOG).unwrap_err();
        assert!(
            matches!(&error, ReceiveError::Aborted(why) if why == "bad sector"),
            "{error}"
        );

        // The channel goes on.
        let sent = stream::send_all(&mut p.client, first(p.at_client), &b"x"[..], WATCHDOG);
        assert_eq!(sent.unwrap().bytes, 1);
        assert_eq!(message_of(&mut p.server, OpCode::Request).body(), b"x");
    });
}

#[test]
fn a_receiver_that_dies_is_an_error_that_says_why() {
    over_both(|address| {
        let (servers, clients) = (narrow(), narrow());
        let mut p = pair_between(&servers, &clients, address);
        let mut sender = stuck(&p);
        p.server.abort();
        let error = sender.post_all(&mut p.client, WATCHDOG).unwrap_err();
        let SendError::Closed(reason) = &error else {
            panic!("{error}")
        };
        assert_eq!(reason.status(), Status::PEER_DISCONNECTED);
        assert!(
            error.to_string().contains(&reason.to_string()),
            "{error} says why"
        );
        // What came back is in the error; the end of the channel is everybody's.
        closed_with(&mut p.client, p.at_client, Status::PEER_DISCONNECTED);
        silent(&mut p.client);
        let again = sender.post_all(&mut p.client, WATCHDOG).map(|_| ());
        again.expect("nothing is left to post");
    });
}

/// Where the queue never fills, the engine's refusal tells of the end first.
#[test]
fn a_receiver_that_dies_while_there_is_room_is_the_same_error() {
    over_both(|address| {
        let engine = engine();
        let p = pair(&engine, address);
        let (mut client, at_client, at_server) = (p.client, p.at_client, p.at_server);
        p.server.post(Message::bye_signal(at_server)).unwrap();
        let mut sender = Sender::new(first(at_client), Slow(0)).with_part_len(1);
        let error = sender.post_all(&mut client, WATCHDOG).unwrap_err();
        match error {
            SendError::Closed(reason) => {
                assert_eq!(reason.status(), Status::PEER_DISCONNECTED);
                closed_with(&mut client, at_client, Status::PEER_DISCONNECTED);
            }
            // It was closed before anything was posted.
            SendError::Refused(error) => assert!(error.is_channel_over()),
            other => panic!("{other}"),
        }
    });
}

#[test]
fn a_sender_that_dies_leaves_a_stream_that_is_known_to_be_incomplete() {
    over_both(|address| {
        let (servers, clients) = (narrow(), narrow());
        let mut p = pair_between(&servers, &clients, address);
        drop(stuck(&p));
        // Else a reset may overtake all of it.
        let begun = message_of(&mut p.server, OpCode::Request);
        p.client.abort();
        let mut copy = bytes(1, LONG);
        let error = stream::receive_all(&mut p.server, begun, &mut copy, WATCHDOG).unwrap_err();
        let ReceiveError::Incomplete(Cut::Closed(reason)) = error else {
            panic!("{error}")
        };
        assert_eq!(reason.status(), Status::PEER_DISCONNECTED);
        assert!(!copy.is_whole());
        // The end of the channel is everybody's.
        closed_with(&mut p.server, p.at_server, Status::PEER_DISCONNECTED);
    });
}

#[test]
fn a_bye_in_the_middle_is_the_end_of_the_stream_and_can_be_answered() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        let mut sender = Sender::new(first(p.at_client), bytes(1, LONG));
        let step = sender.post_next(|message| p.client.post(message)).unwrap();
        assert_eq!(step, Step::Posted);
        p.client.post(Message::bye_request(p.at_client)).unwrap();
        let error = sender.post_all(&mut p.client, WATCHDOG).unwrap_err();
        assert!(
            matches!(&error, SendError::Refused(it) if it.is_channel_over()),
            "{error}"
        );

        let begun = message_of(&mut p.server, OpCode::Request);
        let error = stream::receive_all(&mut p.server, begun, io::sink(), WATCHDOG).unwrap_err();
        assert!(
            matches!(error, ReceiveError::Incomplete(Cut::Bye)),
            "{error}"
        );
        let bye = message_of(&mut p.server, OpCode::ByeRequest);
        p.server.post(bye.reply().unwrap()).unwrap();
        message_of(&mut p.client, OpCode::ByeResponse);
    });
}

#[test]
fn streams_take_turns_on_one_channel_in_both_directions() {
    const LEN: u64 = 3 << 20;
    over_both(|address| {
        let (servers, clients) = (narrow(), narrow());
        let p = pair_between(&servers, &clients, address);
        let mut threads = Vec::new();
        for (mut group, channel) in [(p.server, p.at_server), (p.client, p.at_client)] {
            threads.push(Watched::start(move || {
                let seeds = [1, 2, 3_u64];
                let mut senders: Vec<_> = seeds
                    .iter()
                    .map(|&seed| {
                        let op_code = if seed == 1 {
                            OpCode::Request
                        } else {
                            OpCode::Signal
                        };
                        // The same ids on both sides, and for two of the three.
                        let first = Message::new(op_code, channel, seed.max(2));
                        let first = first.with_header("seed", seed.to_string());
                        let part_len = usize::try_from(seed).unwrap() * 10_000;
                        Sender::new(first, bytes(seed, LEN)).with_part_len(part_len)
                    })
                    .collect();
                let mut receivers: HashMap<StreamId, (Receiver, Bytes)> = HashMap::new();
                let mut whole = 0;
                while !senders.is_empty() || whole < seeds.len() {
                    let mut is_full = false;
                    senders.retain_mut(|sender| {
                        let step = sender.post_next(|message| group.post(message));
                        let step = step.expect("taken");
                        is_full |= step == Step::Full;
                        step != Step::Done
                    });
                    let is_waiting = senders.is_empty() && whole < seeds.len();
                    let event = if is_full || is_waiting {
                        Some(next(&mut group))
                    } else {
                        group.try_recv().unwrap()
                    };
                    let Some(Event::Message(message)) = event else {
                        continue;
                    };
                    let (receiver, copy) =
                        receivers.entry(StreamId::of(&message)).or_insert_with(|| {
                            let seed = message.header("seed").expect("a first part");
                            let copy = bytes(seed.parse().unwrap(), LEN);
                            (Receiver::new(&message), copy)
                        });
                    match receiver.take(&message) {
                        Some(Part::More(bytes)) => copy.write_all(bytes).unwrap(),
                        Some(Part::Last(bytes)) => {
                            copy.write_all(bytes).unwrap();
                            assert!(copy.is_whole());
                            whole += 1;
                        }
                        other => panic!("a part was due, not {other:?}"),
                    }
                }
                assert_eq!(receivers.len(), seeds.len());
                group
            }));
        }
        for thread in threads {
            drop(thread.join("a side"));
        }
    });
}

#[test]
fn what_else_happens_meanwhile_comes_next_in_its_order() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        let other = p.client.post(Message::signal(p.at_client).with_id(900_u64));
        let other = other.unwrap().id;
        let mut sender = Sender::new(first(p.at_client), bytes(1, 200_000));
        let mut later = 0;
        while sender.post_next(|message| p.client.post(message)).unwrap() == Step::Posted {
            later += 1;
            let signal = Message::signal(p.at_client).with_id(900 + later);
            p.client.post(signal).unwrap();
        }
        assert!(later >= 3, "{later}");
        p.server.notify(None);
        let mut notified = 0;
        let begun = loop {
            match next(&mut p.server) {
                Event::Message(begun) if begun.op_code() == OpCode::Request => break begun,
                Event::Message(signal) => assert_eq!(signal.id(), other),
                Event::Notified(_) => notified += 1,
                event => panic!("{event:?}"),
            }
        };
        let received = stream::receive_all(&mut p.server, begun, bytes(1, 200_000), WATCHDOG);
        assert_eq!(received.unwrap().bytes, 200_000);
        for id in 901..=900 + later {
            loop {
                match next(&mut p.server) {
                    Event::Notified(_) => notified += 1,
                    Event::Message(signal) => {
                        assert_eq!(signal.id().get(), id);
                        break;
                    }
                    event => panic!("{event:?}"),
                }
            }
        }
        while notified == 0 {
            assert!(matches!(next(&mut p.server), Event::Notified(None)));
            notified += 1;
        }
        silent(&mut p.server);
    });
}

#[test]
fn a_pool_that_others_have_emptied_is_named() {
    over_both(|address| {
        let (servers, clients) = (narrow(), engine());
        let mut p = pair_between(&servers, &clients, address);
        let mut sender = Sender::new(first(p.at_client), bytes(1, LONG));
        sender.post_next(|message| p.client.post(message)).unwrap();
        for _ in 0..20 {
            p.client.post(Message::signal(p.at_client)).unwrap();
        }
        let begun = message_of(&mut p.server, OpCode::Request);
        let patience = Duration::from_millis(200);
        let error = stream::receive_all(&mut p.server, begun, io::sink(), patience).unwrap_err();
        assert!(matches!(error, ReceiveError::PoolEmpty), "{error}");
        message_of(&mut p.server, OpCode::Signal);
    });
}

#[test]
fn a_writer_that_fails_is_told() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        let sent = stream::send_all(&mut p.client, first(p.at_client), bytes(1, 100), WATCHDOG);
        sent.unwrap();
        let begun = message_of(&mut p.server, OpCode::Request);
        let full: &mut [u8] = &mut [0; 10];
        let error = stream::receive_all(&mut p.server, begun, full, WATCHDOG).unwrap_err();
        assert!(matches!(error, ReceiveError::Write(_)), "{error}");
    });
}
