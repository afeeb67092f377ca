//! What is run again and again: some engines whose applications do all that may be done, in any order.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tofu::{Address, ChannelNumber, Event, Message, MessageId, OpCode, Refusal, Status};

use crate::{Application, Failure, Faults, Group, Limits, Random, Report, World, faults::KINDS};

/// Lines of a trace that is shown whole.
const LINES_MAX: usize = 1_000_000;
/// Channels that an application opens: fewer than numbers rest, so that each names one channel for the ledger.
const OPENS_MAX: usize = 80;
/// The frame of a largest message: no queue may be shorter.
const FRAME_MAX: usize = 16 + 2 * 65_535;

/// One run, which its seed decides: engines, applications, what they do, and what goes wrong.
///
/// ```
/// use tofu_sim::Scenario;
///
/// let report = Scenario::new(7).run().unwrap_or_else(|failure| panic!("{failure}"));
/// assert!(report.delivered > 0);
/// assert_eq!(Scenario::new(7).run().unwrap(), report, "a seed is a run");
/// ```
#[derive(Clone, Debug)]
pub struct Scenario {
    seed: u64,
    faults: Faults,
    /// Kinds of faults that were left out.
    without: Vec<&'static str>,
    /// Posts of each application, of what the seed has decided.
    posts_percent: usize,
}

impl Scenario {
    /// The run of this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            faults: Faults::of_seed(seed),
            without: Vec::new(),
            posts_percent: 100,
        }
    }

    /// The same without one of the [`KINDS`] of faults.
    #[must_use]
    pub fn without(mut self, kind: &str) -> Self {
        if let Some(less) = self.faults.without(kind) {
            self.faults = less;
            self.without
                .extend(KINDS.iter().find(|known| **known == kind));
        }
        self
    }

    /// The same with fewer messages: so many of 100.
    #[must_use]
    pub fn with_posts(mut self, percent: usize) -> Self {
        self.posts_percent = percent;
        self
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// A promise was broken.
    pub fn run(&self) -> Result<Report, Box<Failure>> {
        self.run_with(0).0
    }

    /// Runs to the end, and tells all that happened.
    pub fn run_traced(&self) -> (Result<Report, Box<Failure>>, String) {
        self.run_with(LINES_MAX)
    }

    /// After a failure: leaves out whatever faults it does not need, and messages, and runs what is left,
    /// with the last lines of what happened.
    ///
    /// # Errors
    /// The same promise is broken; or, if it is not any more, the failure is as it was.
    pub fn run_reduced(&self) -> Result<Report, Box<Failure>> {
        let broken = match self.run() {
            Ok(report) => return Ok(report),
            Err(failure) => failure.broken.promise,
        };
        let fails = |scenario: &Self| {
            let failure = scenario.run().err();
            failure.is_some_and(|failure| failure.broken.promise == broken)
        };
        let mut least = self.clone();
        for percent in [5, 20, 50] {
            let fewer = least.clone().with_posts(percent);
            if fails(&fewer) {
                least = fewer;
                break;
            }
        }
        for kind in KINDS {
            let fewer = least.clone().without(kind);
            if fewer.without.len() > least.without.len() && fails(&fewer) {
                least = fewer;
            }
        }
        least.run_with(60).0
    }

    /// The command that shows this run.
    pub fn command(&self) -> String {
        let mut command = format!("cargo run --release -p tofu-sim -- --seed {}", self.seed);
        for kind in &self.without {
            command.push_str(" --without ");
            command.push_str(kind);
        }
        if self.posts_percent != 100 {
            command.push_str(&format!(" --posts {}", self.posts_percent));
        }
        command + " --trace"
    }

    fn run_with(&self, lines: usize) -> (Result<Report, Box<Failure>>, String) {
        let mut world = World::with_faults(self.seed, self.faults.clone());
        world.keep_trace(lines);
        let outcome = self.play(&mut world).map_err(|mut failure| {
            failure.replay = Some(self.command());
            failure
        });
        (outcome, world.trace())
    }

    fn play(&self, world: &mut World) -> Result<Report, Box<Failure>> {
        let mut random = Random::new(self.seed ^ 0x5CE7A);
        let random = &mut random;
        let hosts = random.between(2, 4);
        let gentle = self.faults.is_gentle();
        let hosts: Vec<_> = (0..hosts)
            .map(|_| world.engine(limits(gentle, random)))
            .collect();
        let mut addresses = Vec::new();
        for (index, &host) in hosts.iter().enumerate() {
            addresses.push(world.tcp(host, 7_000));
            if random.percent(50) {
                let name = Address::tcp(format!("host-{index}"), 7_000);
                addresses.extend(name);
            }
            if random.percent(50) {
                let path = format!("/simulated/{}", letter(index));
                addresses.extend(Address::uds(path));
            }
        }
        for &host in &hosts {
            let own: Vec<_> = addresses
                .iter()
                .filter(|it| is_of(it, world, host, &hosts))
                .cloned()
                .collect();
            for group in 0..random.between(1, 2) {
                let mut plan = Plan::new(gentle, random);
                plan.posts = plan.posts * self.posts_percent / 100;
                let listens = if group == 0 { own.clone() } else { Vec::new() };
                world.start(host, Chatter::new(plan, listens, addresses.clone()));
            }
        }
        world.run(random.duration(Duration::from_secs(2)))?;
        for _ in 0..self.faults.crashes {
            let host = random.pick(&hosts);
            world.crash(host);
            world.run(random.duration(Duration::from_secs(1)))?;
        }
        world.run(random.duration(Duration::from_secs(3)))?;
        world.finish()
    }
}

/// What the path of a host's socket ends with.
fn letter(host: usize) -> char {
    char::from(b'a' + u8::try_from(host).unwrap_or_default())
}

fn is_of(address: &Address, world: &World, host: crate::Host, hosts: &[crate::Host]) -> bool {
    let index = hosts.iter().position(|it| *it == host).unwrap_or_default();
    if let Some(path) = address.path() {
        return path.ends_with(letter(index));
    }
    // Who listens does so on its own address, and is found by its name as well.
    *address == world.tcp(host, 7_000)
}

fn limits(gentle: bool, random: &mut Random) -> Limits {
    let mut limits = Limits {
        pool_messages: random.pick(&[1, 2, 5, 50, 1_024]),
        channel_queue_bytes: random.pick(&[FRAME_MAX, 2 * FRAME_MAX, 8 << 20]),
        engine_queue_bytes: random.pick(&[FRAME_MAX, 3 * FRAME_MAX, 256 << 20]),
        ..Limits::default()
    };
    limits.pool_messages_initial = random.between(0, limits.pool_messages.min(64));
    if gentle {
        return limits;
    }
    let mut time = || Duration::from_millis(1_500) + random.duration(Duration::from_secs(8));
    limits.hello_timeout = time();
    limits.connect_timeout = time();
    limits.frame_timeout = time();
    limits.bye_timeout = time();
    limits.drain_timeout = time();
    limits.channels = random.pick(&[4, 65_534, 65_534]);
    limits.half_open = random.pick(&[1, 3, 1_024]);
    limits
}

/// What a seed decides for one application.
#[derive(Clone, Debug)]
struct Plan {
    /// Messages that it posts by itself.
    posts: usize,
    /// Channels that it opens.
    channels: usize,
    body_max: usize,
    /// Messages that it posts at once.
    burst: usize,
    /// The longest between two bursts.
    pause: Duration,
    /// In how many of 100 cases it answers what asks for an answer.
    answers: usize,
    /// How often it says bye after a burst, or `ByeSignal`, or closes a listener: of 100.
    byes: usize,
    signals: usize,
    unlistens: usize,
    /// How often it posts what it may not: of 100.
    mischief: usize,
    /// The longest that it holds on to a message that it has read.
    holds: Duration,
    /// How it ends its group before the end, and after how many wakes.
    ends: Option<(usize, Ending)>,
    /// How it ends its group at the end.
    last: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It says bye on each channel, and leaves once all are closed.
    Byes,
    Close,
    Leave,
    Abort,
    ShutDown,
}

impl Plan {
    fn new(gentle: bool, random: &mut Random) -> Self {
        let all = [
            Ending::Byes,
            Ending::Byes,
            Ending::Close,
            Ending::Close,
            Ending::Leave,
            Ending::ShutDown,
            Ending::Abort,
        ];
        let last = random.pick(&all);
        let early = (random.between(1, 30), random.pick(&all[2..]));
        Self {
            posts: random.pick(&[0, 10, 40, 150]),
            channels: random.between(0, 4),
            body_max: random.pick(&[0, 100, 3_000, 65_535]),
            burst: random.pick(&[1, 1, 4, 30]),
            pause: random.pick(&[20, 1_000, 100_000]) * Duration::from_micros(1),
            answers: random.pick(&[0, 50, 100]),
            byes: random.pick(&[0, 5, 30]),
            signals: random.pick(&[0, 0, 5]),
            unlistens: random.pick(&[0, 0, 5]),
            mischief: random.pick(&[0, 0, 10]),
            holds: random.pick(&[0, 0, 100, 20_000]) * Duration::from_micros(1),
            ends: random
                .percent(if gentle { 15 } else { 30 })
                .then_some(early),
            last,
        }
    }
}

/// A channel as its application knows it.
#[derive(Debug, Default)]
struct Talk {
    is_listener: bool,
    said_bye: bool,
    heard_bye: Option<MessageId>,
    answered: bool,
    said_signal: bool,
    /// Found no room; waits for `Drained`.
    waiting: VecDeque<Message>,
    waits_for_room: bool,
}

impl Talk {
    fn may_speak(&self) -> bool {
        !self.is_listener && !self.said_bye && !self.answered && !self.said_signal
    }
}

/// An application that does all that may be done, and knows from the documentation alone what that is.
#[derive(Debug)]
struct Chatter {
    plan: Plan,
    listens: Vec<Address>,
    connects: Vec<Address>,
    talks: BTreeMap<ChannelNumber, Talk>,
    closed: Vec<ChannelNumber>,
    held: Vec<(Duration, Message)>,
    posts_left: usize,
    opens_left: usize,
    opened: usize,
    wakes: usize,
    next_id: u64,
    notified: (usize, usize),
    is_finishing: bool,
}

impl Chatter {
    fn new(plan: Plan, listens: Vec<Address>, connects: Vec<Address>) -> Self {
        Self {
            posts_left: plan.posts,
            opens_left: plan.channels,
            opened: 0,
            plan,
            listens,
            connects,
            talks: BTreeMap::new(),
            closed: Vec::new(),
            held: Vec::new(),
            wakes: 0,
            next_id: 0,
            notified: (0, 0),
            is_finishing: false,
        }
    }

    fn listen(&mut self, group: &mut Group<'_>) {
        for address in std::mem::take(&mut self.listens) {
            if let Ok(header) = group.post(Message::welcome_request(&address)) {
                let talk = Talk {
                    is_listener: true,
                    ..Talk::default()
                };
                self.talks.insert(header.channel, talk);
            }
        }
    }

    fn connect(&mut self, group: &mut Group<'_>) {
        let index = group.random().below(self.connects.len());
        let len = group.random().pick(&[0, 0, 1_000]);
        let hello = Message::hello_request(&self.connects[index]).with_body(vec![7; len]);
        if let Ok(header) = group.post(hello) {
            self.talks.insert(header.channel, Talk::default());
        }
        self.opens_left = self.opens_left.saturating_sub(1);
        self.opened += 1;
        if self.opened >= OPENS_MAX {
            self.opens_left = 0;
        }
    }

    fn pick(&self, group: &mut Group<'_>) -> Option<ChannelNumber> {
        let may: Vec<_> = self
            .talks
            .iter()
            .filter(|(_, talk)| talk.may_speak() && !talk.waits_for_room)
            .map(|(channel, _)| *channel)
            .collect();
        (!may.is_empty()).then(|| group.random().pick(&may))
    }

    fn compose(&mut self, channel: ChannelNumber, group: &mut Group<'_>) -> Message {
        let op_code = group
            .random()
            .pick(&[OpCode::Request, OpCode::Signal, OpCode::Signal]);
        let body_max = self.plan.body_max;
        let random = group.random();
        let len = match random.below(3) {
            0 => 0,
            1 => body_max,
            _ => random.between(0, body_max),
        };
        let salt = random.next_u64().to_be_bytes();
        let body: Vec<u8> = salt.into_iter().cycle().take(len).collect();
        let more = random.percent(20);
        let header = random.percent(20);
        let from_pool = random.percent(20);
        let mut message = match from_pool.then(|| group.engine().try_message()).flatten() {
            Some(message) => message.with_op_code(op_code).with_channel(channel),
            None => group.message(op_code, channel),
        };
        if header {
            message = message.with_header("n", "1");
        }
        self.next_id += 1;
        message
            .with_id(self.next_id)
            .with_more(more)
            .with_body(body)
    }

    /// Posts a message of a channel that may speak; what finds no room waits.
    fn say(&mut self, message: Message, group: &mut Group<'_>) {
        let channel = message.channel();
        if self
            .talks
            .get(&channel)
            .is_some_and(|talk| talk.waits_for_room)
        {
            return self.wait(channel, message);
        }
        let posted = group.post(message);
        self.handle(channel, posted.err(), group);
    }

    fn handle(
        &mut self,
        channel: ChannelNumber,
        error: Option<tofu::PostError>,
        group: &mut Group<'_>,
    ) {
        let Some(error) = error else {
            return;
        };
        match error.refusal() {
            Refusal::QueueFull { .. } => self.wait(channel, error.into_message()),
            // It is closed, or is about to be, and `Closed` is on its way.
            Refusal::InvalidChannelNumber(_)
            | Refusal::ShutdownStarted
            | Refusal::ChannelClosing(_) => {}
            other => group.fail(format!("a good message is refused: {other}")),
        }
    }

    /// A message that waits must not keep the pool from others.
    fn wait(&mut self, channel: ChannelNumber, message: Message) {
        if let Some(talk) = self.talks.get_mut(&channel) {
            talk.waits_for_room = true;
            let copy = message.clone();
            drop(message);
            talk.waiting.push_back(copy);
        }
    }

    fn burst(&mut self, group: &mut Group<'_>) {
        let count = group.random().between(1, self.plan.burst);
        let count = count.min(self.posts_left);
        self.posts_left -= count;
        let at_once = group.random().percent(30);
        let mut run = VecDeque::new();
        for _ in 0..count {
            let Some(channel) = self.pick(group) else {
                break;
            };
            let message = self.compose(channel, group);
            if at_once {
                run.push_back(message);
            } else {
                self.say(message, group);
            }
        }
        while !run.is_empty() {
            if let Err(error) = group.post_many(&mut run) {
                let channel = error.message().channel();
                self.handle(channel, Some(error), group);
                // What is behind it on the same channel waits as well.
                for message in std::mem::take(&mut run) {
                    if message.channel() == channel {
                        self.wait(channel, message);
                    } else {
                        run.push_back(message);
                    }
                }
            }
        }
    }

    fn say_bye(&mut self, channel: ChannelNumber, group: &mut Group<'_>) {
        let Some(talk) = self.talks.get_mut(&channel) else {
            return;
        };
        if talk.is_listener || talk.said_signal {
            return;
        }
        talk.waiting.clear();
        if !talk.said_bye && !talk.answered {
            talk.said_bye = true;
            let bye = Message::bye_request(channel);
            self.post_bye(bye, group);
        }
    }

    fn answer_bye(&mut self, channel: ChannelNumber, group: &mut Group<'_>) {
        let Some(talk) = self.talks.get_mut(&channel) else {
            return;
        };
        if let Some(id) = talk.heard_bye
            && !talk.answered
            && !talk.said_signal
        {
            talk.answered = true;
            talk.waiting.clear();
            let answer = Message::new(OpCode::ByeResponse, channel).with_id(id);
            self.post_bye(answer, group);
        }
    }

    fn post_bye(&mut self, bye: Message, group: &mut Group<'_>) {
        if let Err(error) = group.post(bye) {
            match error.refusal() {
                Refusal::InvalidChannelNumber(_) | Refusal::ShutdownStarted => {}
                other => group.fail(format!("a bye is refused: {other}")),
            }
        }
    }

    fn signal(&mut self, channel: ChannelNumber, group: &mut Group<'_>) {
        if let Some(talk) = self.talks.get_mut(&channel)
            && !std::mem::replace(&mut talk.said_signal, true)
        {
            talk.waiting.clear();
            self.post_bye(Message::bye_signal(channel), group);
        }
    }

    /// What may not be posted.
    fn be_mischievous(&mut self, group: &mut Group<'_>) {
        let wrong = match group.random().below(4) {
            0 => self
                .closed
                .last()
                .map(|channel| Message::signal(*channel).with_body("late")),
            1 => Some(Message::signal(ChannelNumber::new(60_000))),
            2 => self
                .talks
                .iter()
                .find(|(_, talk)| talk.is_listener)
                .map(|(channel, _)| Message::signal(*channel)),
            _ => self
                .talks
                .keys()
                .next()
                .map(|channel| Message::new(OpCode::Response, *channel)),
        };
        if let Some(wrong) = wrong
            && let Ok(header) = group.post(wrong)
        {
            group.fail(format!("{header:?} is taken, and should not be"));
        }
    }

    fn is_done(&self) -> bool {
        self.is_finishing && self.talks.is_empty()
    }

    fn end(&mut self, ending: Ending, group: &mut Group<'_>) {
        let timeout = Duration::from_secs(60);
        match ending {
            Ending::Byes => {
                let channels: Vec<_> = self.talks.keys().copied().collect();
                for channel in channels {
                    if self.talks[&channel].is_listener {
                        self.signal(channel, group);
                    } else {
                        self.say_bye(channel, group);
                        self.answer_bye(channel, group);
                    }
                }
            }
            Ending::Close => group.close(timeout),
            Ending::Leave => group.leave(),
            Ending::Abort => group.abort(),
            Ending::ShutDown => group.shut_down(timeout),
        }
        if self.is_done() {
            group.leave();
        }
    }

    fn let_go(&mut self, now: Duration) {
        self.held.retain(|(until, _)| *until > now);
    }

    fn read(&mut self, message: Message, group: &mut Group<'_>) {
        let channel = message.channel();
        match message.op_code() {
            OpCode::HelloRequest => {
                self.talks.insert(channel, Talk::default());
                let may_answer = group.random().percent(80);
                if may_answer && let Ok(answer) = message.reply() {
                    self.say(answer, group);
                }
            }
            OpCode::ByeRequest => {
                if let Some(talk) = self.talks.get_mut(&channel) {
                    talk.heard_bye = Some(message.id());
                }
                if group.random().percent(20) {
                    self.say_bye(channel, group);
                }
                self.answer_bye(channel, group);
            }
            OpCode::Request if group.random().percent(self.plan.answers) => {
                let whole = group.random().percent(50);
                let may_speak = self.talks.get(&channel).is_some_and(Talk::may_speak);
                if may_speak && !self.is_finishing {
                    let answer = if whole {
                        message.into_reply()
                    } else {
                        message.reply()
                    };
                    if let Ok(answer) = answer {
                        self.say(answer, group);
                    }
                }
            }
            _ => {
                let until = group.now() + self.plan.holds;
                let max = group.engine().metrics().pool_messages_out;
                if !self.plan.holds.is_zero() && !self.is_finishing && max > 0 {
                    self.held.push((until, message));
                }
            }
        }
    }
}

impl Application for Chatter {
    fn start(&mut self, group: &mut Group<'_>) {
        self.listen(group);
        let pause = group.random().duration(Duration::from_millis(5));
        group.wake_in(pause);
    }

    fn hear(&mut self, event: Event, group: &mut Group<'_>) {
        match event {
            Event::Message(message) => self.read(message, group),
            Event::Returned { message, reason } => {
                if reason.status() == Status::SUCCESS || message.status() != reason.status() {
                    group.fail(format!("{message:?} comes back without a reason"));
                }
            }
            Event::Drained(channel) => {
                if let Some(talk) = self.talks.get_mut(&channel) {
                    talk.waits_for_room = false;
                    let waiting = std::mem::take(&mut talk.waiting);
                    if talk.may_speak() {
                        for message in waiting {
                            self.say(message, group);
                        }
                    }
                }
            }
            Event::Closed { channel, .. } => {
                self.talks.remove(&channel);
                self.closed.push(channel);
            }
            Event::PoolEmpty => self.let_go(group.now()),
            Event::Notified(_) => self.notified.1 += 1,
            Event::Listening { .. } => {}
        }
        if self.is_done() {
            group.leave();
        }
    }

    fn wake(&mut self, group: &mut Group<'_>) {
        self.wakes += 1;
        self.let_go(group.now());
        if self.is_finishing {
            if self.held.is_empty() {
                return;
            }
            return group.wake_in(Duration::from_millis(1));
        }
        if let Some((wakes, ending)) = self.plan.ends
            && wakes == self.wakes
        {
            self.held.clear();
            return self.end(ending, group);
        }
        if self.opens_left > 0 && self.opened < OPENS_MAX {
            self.connect(group);
        }
        if self.posts_left > 0 {
            self.burst(group);
        }
        if group.random().percent(self.plan.mischief) {
            self.be_mischievous(group);
        }
        if group.random().percent(10) {
            self.notified.0 += 1;
            group.notify(None);
        }
        if group.random().percent(self.plan.byes)
            && let Some(channel) = self.pick(group)
        {
            self.say_bye(channel, group);
            self.opens_left += usize::from(group.random().percent(50));
        }
        if group.random().percent(self.plan.signals)
            && let Some(channel) = self.pick(group)
        {
            self.signal(channel, group);
            self.opens_left += 1;
        }
        if group.random().percent(self.plan.unlistens)
            && let Some(channel) = self.a_listener()
        {
            self.signal(channel, group);
        }
        let pause = group.random().duration(self.plan.pause);
        if self.posts_left > 0 || self.opens_left > 0 || !self.held.is_empty() || self.wakes < 30 {
            group.wake_in(pause.max(Duration::from_micros(20)));
        }
    }

    fn finish(&mut self, group: &mut Group<'_>) {
        self.is_finishing = true;
        self.held.clear();
        self.end(self.plan.last, group);
    }
}

impl Chatter {
    fn a_listener(&self) -> Option<ChannelNumber> {
        let mut all = self.talks.iter();
        all.find(|(_, talk)| talk.is_listener)
            .map(|(channel, _)| *channel)
    }
}
