//! Byte streams under faults: each arrives whole and equal, or is known to be incomplete.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    io,
    io::Read,
    rc::Rc,
    time::Duration,
};

use tofu::{
    Address, ChannelNumber, Event, Message, OpCode,
    helpers::stream::{Part, Receiver, SendError, Sender, Step, StreamId},
};
use tofu_sim::{Application, Faults, Group, Limits, World};

const SEEDS: u64 = 60;
/// Streams that a client sends on its one channel, in turns.
const STREAMS: u64 = 3;
/// The frame of a largest message: no queue may be shorter.
const FRAME_MAX: usize = 16 + 2 * 65_535;

/// How streams ended, over all seeds.
#[derive(Debug, Default, PartialEq)]
struct Ends {
    begun: usize,
    posted: usize,
    failed_at_reader: usize,
    given_up: usize,
    whole: usize,
    aborted: usize,
    incomplete: usize,
    full: usize,
}

type Shared = Rc<RefCell<Ends>>;

/// So many bytes of this stream, and then the end or an error.
struct Source {
    stream: u64,
    at: u64,
    len: u64,
    fails: bool,
}

fn byte(stream: u64, at: u64) -> u8 {
    (at ^ stream << 40)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .to_be_bytes()[1]
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.len && self.fails {
            return Err(io::Error::other("bad sector"));
        }
        let mut count = 0;
        for place in buffer {
            if self.at == self.len {
                break;
            }
            *place = byte(self.stream, self.at);
            self.at += 1;
            count += 1;
        }
        Ok(count)
    }
}

/// Connects once, and sends its streams in turns.
struct Sends {
    whom: Address,
    channel: ChannelNumber,
    senders: Vec<Sender<Source>>,
    len_max: usize,
    is_finishing: bool,
    ends: Shared,
}

impl Sends {
    /// Lets each stream post one part, until all wait for room or are done.
    fn turn(&mut self, group: &mut Group<'_>) {
        let mut is_full = false;
        self.senders.retain_mut(|sender| {
            let mut ends = self.ends.borrow_mut();
            match sender.post_next(|message| group.post(message)) {
                Ok(Step::Posted) => true,
                Ok(Step::Full) => {
                    ends.full += 1;
                    is_full = true;
                    true
                }
                Ok(Step::Done) => {
                    *(if self.is_finishing {
                        &mut ends.given_up
                    } else {
                        &mut ends.posted
                    }) += 1;
                    false
                }
                Err(SendError::Read(_)) => {
                    ends.failed_at_reader += 1;
                    false
                }
                Err(SendError::Refused(error)) => {
                    if !error.is_channel_over() {
                        group.fail(format!("refused: {error}"));
                    }
                    false
                }
                Err(error) => {
                    group.fail(error.to_string());
                    false
                }
            }
        });
        if self.senders.is_empty() {
            if self.is_finishing {
                group.close(Duration::from_secs(60));
            }
        } else if !is_full {
            let pause = group.random().duration(Duration::from_millis(2));
            group.wake_in(pause);
        }
    }
}

impl Application for Sends {
    fn start(&mut self, group: &mut Group<'_>) {
        let hello = Message::hello_request(&self.whom);
        let Ok(header) = group.post(hello) else {
            return;
        };
        self.channel = header.channel;
        for stream in 0..STREAMS {
            let len = group.random().between(0, self.len_max) as u64;
            let fails = group.random().percent(20);
            let part_len = group.random().pick(&[1_000, 20_000, 65_535]);
            let first = Message::signal(self.channel)
                .with_id(stream + 1)
                .with_header(
                    "length",
                    if fails {
                        "none".into()
                    } else {
                        len.to_string()
                    },
                );
            let source = Source {
                stream: stream + 1,
                at: 0,
                len,
                fails,
            };
            let sender = Sender::new(first, source)
                .with_part_len(part_len)
                .with_last(|source, last| last.with_header("read", source.at.to_string()));
            self.senders.push(sender);
        }
        self.turn(group);
    }

    fn hear(&mut self, event: Event, group: &mut Group<'_>) {
        match event {
            // After the end, who waited for room is not told that there is some.
            Event::Drained(_) | Event::Closed { .. } => self.turn(group),
            _ => {}
        }
    }

    fn wake(&mut self, group: &mut Group<'_>) {
        self.turn(group);
    }

    /// What is not posted by now is given up, in a way that the other side hears of.
    fn finish(&mut self, group: &mut Group<'_>) {
        self.is_finishing = true;
        for sender in &mut self.senders {
            sender.abort("time is up");
        }
        self.turn(group);
    }
}

/// Takes every stream, and knows how it ended.
struct Takes {
    listens: Address,
    streams: HashMap<StreamId, (Receiver, Option<u64>)>,
    /// Channels that are open.
    open: HashSet<ChannelNumber>,
    is_finishing: bool,
    ends: Shared,
}

impl Takes {
    fn hear_stream(&mut self, id: StreamId, event: &Event, group: &mut Group<'_>) {
        let Some((receiver, len)) = self.streams.get_mut(&id) else {
            return;
        };
        let before = receiver.bytes();
        let mut ends = self.ends.borrow_mut();
        match receiver.hear(event) {
            None => return,
            Some(Part::More(bytes) | Part::Last(bytes)) => {
                let stream = id.id.get();
                if (before..)
                    .zip(bytes)
                    .any(|(at, &it)| it != byte(stream, at))
                {
                    group.fail("other bytes than were sent");
                }
                if !receiver.is_over() {
                    return;
                }
                ends.whole += 1;
                if *len != Some(receiver.bytes()) {
                    group.fail(format!("{} bytes of {len:?}", receiver.bytes()));
                }
                let read = match event {
                    Event::Message(last) => last.header("read").map(str::to_owned),
                    _ => None,
                };
                if read != Some(receiver.bytes().to_string()) {
                    group.fail(format!("{read:?} were read"));
                }
            }
            Some(Part::Aborted(why)) => {
                ends.aborted += 1;
                let is_expected = match why {
                    "bad sector" => len.is_none(),
                    other => other == "time is up",
                };
                if !is_expected {
                    group.fail(format!("aborted for {why:?}"));
                }
            }
            Some(Part::Incomplete(_)) => ends.incomplete += 1,
        }
        self.streams.remove(&id);
    }
}

impl Application for Takes {
    fn start(&mut self, group: &mut Group<'_>) {
        let _ = group.post(Message::welcome_request(&self.listens));
    }

    fn hear(&mut self, event: Event, group: &mut Group<'_>) {
        match &event {
            Event::Message(message) if message.op_code() == OpCode::Signal => {
                let id = StreamId::of(message);
                if let Some(len) = message.header("length") {
                    self.ends.borrow_mut().begun += 1;
                    let taken = (Receiver::new(message), len.parse().ok());
                    if self.streams.insert(id, taken).is_some() {
                        group.fail("a stream began twice");
                    }
                }
                if !self.streams.contains_key(&id) {
                    group.fail("a part without a beginning");
                }
                self.hear_stream(id, &event, group);
            }
            Event::Message(message) => {
                match message.op_code() {
                    OpCode::HelloRequest => drop(self.open.insert(message.channel())),
                    OpCode::ByeRequest => self.hear_all(&event, group),
                    _ => {}
                }
                if let Ok(answer) = message.reply() {
                    let _ = group.post(answer);
                }
            }
            _ => self.hear_all(&event, group),
        }
    }

    /// It waits for the senders: who closes early does not hear how their streams end.
    fn finish(&mut self, group: &mut Group<'_>) {
        self.is_finishing = true;
        self.close_if_alone(group);
    }
}

impl Takes {
    fn hear_all(&mut self, event: &Event, group: &mut Group<'_>) {
        let ids: Vec<_> = self.streams.keys().copied().collect();
        for id in ids {
            self.hear_stream(id, event, group);
        }
        let left = |channel| self.streams.keys().any(|id| id.channel == channel);
        if let Event::Closed { channel, .. } = event
            && left(*channel)
        {
            group.fail("a stream outlives its channel");
        }
        if let Event::Closed { channel, .. } = event {
            self.open.remove(channel);
            self.close_if_alone(group);
        }
    }

    fn close_if_alone(&mut self, group: &mut Group<'_>) {
        if self.is_finishing && self.open.is_empty() {
            group.close(Duration::from_secs(60));
        }
    }
}

fn run(seed: u64, ends: &Shared) -> bool {
    let faults = Faults::of_seed(seed);
    let gentle = faults.is_gentle();
    let mut world = World::with_faults(seed, faults);
    let random = world.random();
    let limits = Limits {
        pool_messages: random.pick(&[1, 2, 20, 1_024]),
        pool_messages_initial: 1,
        channel_queue_bytes: random.pick(&[FRAME_MAX, 2 * FRAME_MAX, 8 << 20]),
        engine_queue_bytes: random.pick(&[2 * FRAME_MAX, 256 << 20]),
        ..Limits::default()
    };
    let len_max = random.pick(&[10, 70_000, 300_000]);
    let crash = random.percent(60);
    let one = world.engine(limits.clone());
    let other = world.engine(limits);
    let listens = world.tcp(one, 7_000);
    let takes = Takes {
        listens: listens.clone(),
        streams: HashMap::new(),
        open: HashSet::new(),
        is_finishing: false,
        ends: Rc::clone(ends),
    };
    world.start(one, takes);
    for _ in 0..2 {
        let sends = Sends {
            whom: listens.clone(),
            channel: ChannelNumber::UNASSIGNED,
            senders: Vec::new(),
            len_max,
            is_finishing: false,
            ends: Rc::clone(ends),
        };
        world.start(other, sends);
    }
    let time = if gentle { 60_000 } else { 500 };
    world
        .run(Duration::from_millis(time))
        .unwrap_or_else(|failure| panic!("{failure}"));
    if crash && !gentle {
        world.crash(other);
    }
    let ended = world
        .run(Duration::from_secs(30))
        .and_then(|()| world.finish());
    ended.unwrap_or_else(|failure| panic!("{failure}"));
    gentle
}

#[test]
fn a_stream_is_whole_or_known_to_be_incomplete() {
    let all: Shared = Rc::default();
    for seed in 0..SEEDS {
        let ends = Shared::default();
        let gentle = run(seed, &ends);
        let ends = ends.take();
        assert_eq!(
            ends.begun,
            ends.whole + ends.aborted + ends.incomplete,
            "seed {seed}: each ends once, {ends:?}"
        );
        if gentle {
            // All that was posted has arrived.
            let told = (ends.whole, ends.aborted, ends.incomplete);
            let aborted = ends.failed_at_reader + ends.given_up;
            let expected = (ends.posted, aborted, 0);
            assert_eq!(told, expected, "seed {seed}: {ends:?}");
        }
        let mut all = all.borrow_mut();
        all.begun += ends.begun;
        all.whole += ends.whole;
        all.aborted += ends.aborted;
        all.incomplete += ends.incomplete;
        all.full += ends.full;
    }
    let all = all.take();
    assert!(all.whole > 100, "{all:?}");
    assert!(all.aborted > 20, "{all:?}");
    assert!(all.incomplete > 5, "{all:?}");
    assert!(all.full > 100, "{all:?}");
}
