//! An application that does all that may be done.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tofu::{Address, ChannelNumber, Event, Message, MessageId, OpCode, Refusal, Status};

use crate::{Application, Group, Random};

/// Channels that an application opens: fewer than numbers rest, so that each names one channel for the ledger.
const OPENS_MAX: usize = 80;

/// What a seed decides for one application.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Messages that it posts by itself.
    pub(super) posts: usize,
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
    pub(super) fn new(gentle: bool, random: &mut Random) -> Self {
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
#[expect(
    clippy::struct_excessive_bools,
    reason = "what was said on a channel, each of which may be true on its own"
)]
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
pub(super) struct Chatter {
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
    /// Notifications that it has given.
    notified: u32,
    is_finishing: bool,
}

impl Chatter {
    pub(super) fn new(plan: Plan, listens: Vec<Address>, connects: Vec<Address>) -> Self {
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
            notified: 0,
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
            None if op_code == OpCode::Signal => group.signal(channel),
            None => group.request(channel),
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
            Self::post_bye(bye, group);
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
            let answer = Message::new(OpCode::ByeResponse, channel, id);
            Self::post_bye(answer, group);
        }
    }

    fn post_bye(bye: Message, group: &mut Group<'_>) {
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
            Self::post_bye(Message::bye_signal(channel), group);
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
                .map(|channel| Message::new(OpCode::Response, *channel, 0)),
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
                        // Who waits for room says its last words first.
                        if !self.talks[&channel].waits_for_room {
                            self.say_bye(channel, group);
                        }
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

    fn has_room(&mut self, channel: ChannelNumber, group: &mut Group<'_>) {
        let Some(talk) = self.talks.get_mut(&channel) else {
            return;
        };
        talk.waits_for_room = false;
        let waiting = std::mem::take(&mut talk.waiting);
        if talk.may_speak() {
            for message in waiting {
                self.say(message, group);
            }
        }
        let waits_again = self.talks.get(&channel).is_some_and(|it| it.waits_for_room);
        if self.is_finishing && !waits_again {
            self.say_bye(channel, group);
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
            Event::Drained(channel) => self.has_room(channel, group),
            Event::Closed { channel, .. } => {
                self.talks.remove(&channel);
                self.closed.push(channel);
            }
            Event::PoolEmpty => self.let_go(group.now()),
            // What they have to say is the ledger's to check.
            Event::Notified(_) | Event::Listening { .. } => {}
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
            self.notified += 1;
            let message = Message::signal(ChannelNumber::UNASSIGNED);
            let message = message.with_body(self.notified.to_be_bytes());
            group.notify((self.notified % 2 == 1).then_some(message));
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
            // Who has been at it for that long waits for a process that is stopped: that is no reason to be busy.
            let least = match self.wakes {
                ..2_000 => Duration::from_micros(20),
                _ => Duration::from_millis(5),
            };
            group.wake_in(pause.max(least));
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
