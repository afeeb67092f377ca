//! Whole engines that use the helpers of the library, under faults.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
    time::Duration,
};

use tofu::{
    Address, ChannelNumber, Event, Message, OpCode, Role,
    helpers::{CallId, Calls, Heartbeat, Link, Outcome, Reconnect, until},
};
use tofu_sim::{Application, Faults, Group, Host, Limits, World};

const MILLI: Duration = Duration::from_millis(1);

fn number_in(message: &Message) -> u64 {
    let text = std::str::from_utf8(message.body()).expect("a number");
    text.parse().expect("a number")
}

/// Two engines, and an address at the first.
fn two_hosts(seed: u64, faults: Faults) -> (World, Host, Host, Address) {
    let mut world = World::with_faults(seed, faults);
    let server = world.engine(Limits::default());
    let client = world.engine(Limits::default());
    let address = world.tcp(server, 7_099);
    (world, server, client, address)
}

/// Answers at once, later, never, in parts, twice, and in any order.
struct Moody {
    address: Address,
    later: Vec<Message>,
}

impl Moody {
    fn answer(request: &Message, group: &mut Group<'_>, more: bool) {
        if let Ok(answer) = request.reply() {
            let answer = answer.with_body(request.body()).with_more(more);
            let _ = group.post(answer); // the peer may be gone
        }
    }
}

impl Application for Moody {
    fn start(&mut self, group: &mut Group<'_>) {
        let welcome = Message::welcome_request(&self.address);
        group.post(welcome).expect("a good address");
    }

    fn hear(&mut self, event: Event, group: &mut Group<'_>) {
        let Event::Message(request) = event else {
            return;
        };
        if request.op_code() != OpCode::Request {
            return Self::answer(&request, group, false);
        }
        match group.random().below(8) {
            0 => {}
            1 => {
                Self::answer(&request, group, true);
                Self::answer(&request, group, false);
            }
            2 => {
                Self::answer(&request, group, false);
                Self::answer(&request, group, false);
            }
            3 => {
                Self::answer(&request, group, true);
                self.later.push(request);
            }
            4 | 5 => self.later.push(request),
            _ => Self::answer(&request, group, false),
        }
        if !self.later.is_empty() {
            let time = group.random().duration(100 * MILLI);
            group.wake_in(time);
        }
    }

    fn wake(&mut self, group: &mut Group<'_>) {
        while !self.later.is_empty() {
            let one = group.random().below(self.later.len());
            let request = self.later.swap_remove(one);
            Self::answer(&request, group, false);
        }
    }
}

/// What became of each question, by its number.
type Fates = Rc<RefCell<BTreeMap<u64, Vec<&'static str>>>>;

/// Asks numbered questions on one connection after the other.
struct Asks {
    whom: Address,
    calls: Calls<u64>,
    under_way: Vec<CallId>,
    channel: Option<ChannelNumber>,
    asked: u64,
    fates: Fates,
    /// Questions whose whole answer was told to be late.
    late: BTreeSet<u64>,
}

impl Asks {
    const QUESTIONS: u64 = 60;

    fn is_told(&mut self, number: u64, fate: &'static str) {
        self.fates
            .borrow_mut()
            .entry(number)
            .or_default()
            .push(fate);
    }

    fn go_on(&mut self, group: &mut Group<'_>) {
        while let Some(outcome) = self.calls.poll(group.instant()) {
            let (number, fate, message) = match outcome {
                Outcome::Answered { context, message } => (context, "answered", Some(message)),
                Outcome::Returned {
                    context, message, ..
                } => (context, "returned", Some(message)),
                Outcome::Closed { context, .. } => (context, "closed", None),
                Outcome::TimedOut { context, .. } => (context, "timed out", None),
                Outcome::Part { call, message } => {
                    let asked = self.calls.context_mut(call).copied();
                    if asked != Some(number_in(&message)) {
                        group.fail(format!("a part of {message:?} for {asked:?}"));
                    }
                    continue;
                }
                Outcome::Late { message } => {
                    let number = number_in(&message);
                    if !message.has_more() {
                        self.late.insert(number);
                    }
                    let fates = self.fates.borrow();
                    let told = fates.get(&number);
                    if !told.is_some_and(|it| matches!(it[..], ["timed out" | "cancelled"])) {
                        group.fail(format!("{message:?} is late for {told:?}"));
                    }
                    continue;
                }
            };
            if message.is_some_and(|it| number_in(&it) != number) {
                group.fail(format!("question {number} has another one's answer"));
            }
            self.is_told(number, fate);
        }
        while let Some(channel) = self.channel
            && self.asked < Self::QUESTIONS
            && self.calls.len() < 8
        {
            let deadline = group.instant() + group.random().duration(120 * MILLI);
            let request = Message::request(channel).with_body(self.asked.to_string());
            match self.calls.post(&mut *group, request, deadline, self.asked) {
                Ok(call) => self.under_way.push(call),
                Err(error) if error.is_channel_over() => break,
                Err(error) => return group.fail(error.to_string()),
            }
            self.asked += 1;
        }
        if group.random().percent(10) && !self.under_way.is_empty() {
            let one = group.random().below(self.under_way.len());
            let call = self.under_way.swap_remove(one);
            if let Some(number) = self.calls.cancel(call) {
                self.is_told(number, "cancelled");
            }
        }
        let patience = until(self.calls.next_deadline(), group.instant());
        group.wake_in(patience.min(10 * MILLI));
    }
}

impl Application for Asks {
    fn start(&mut self, group: &mut Group<'_>) {
        let hello = Message::hello_request(&self.whom);
        self.channel = group.post(hello).ok().map(|it| it.channel);
        self.go_on(group);
    }

    fn hear(&mut self, event: Event, group: &mut Group<'_>) {
        match self.calls.handle(event) {
            Some(Event::Closed { .. }) => self.channel = None,
            Some(Event::Message(message)) if message.op_code() == OpCode::Response => {
                // The server has answered twice.
                let number = number_in(&message);
                let fates = self.fates.borrow();
                let told = fates.get(&number);
                let is_answered = told.is_some_and(|it| it[..] == ["answered"]);
                if !is_answered && !self.late.contains(&number) {
                    group.fail(format!("{message:?} is given back for {told:?}"));
                }
            }
            _ => {}
        }
        self.go_on(group);
    }

    fn wake(&mut self, group: &mut Group<'_>) {
        if self.channel.is_none() {
            self.start(group);
        } else {
            self.go_on(group);
        }
    }

    fn finish(&mut self, group: &mut Group<'_>) {
        self.go_on(group);
        let left: Vec<_> = self.calls.drain().collect();
        for (_, number) in left {
            self.is_told(number, "left");
        }
        let told = self.fates.borrow();
        for number in 0..self.asked {
            let fates = told.get(&number).map_or(0, Vec::len);
            if fates != 1 {
                group.fail(format!("question {number} had {fates} outcomes"));
            }
        }
        group.close(Duration::from_secs(60));
    }
}

#[test]
fn each_call_has_exactly_one_outcome() {
    let mut all = BTreeMap::<&str, usize>::new();
    for seed in 0..120 {
        let (mut world, server, client, address) = two_hosts(seed, Faults::of_seed(seed));
        let moody = Moody {
            address: address.clone(),
            later: Vec::new(),
        };
        world.start(server, moody);
        let fates = Fates::default();
        let asks = Asks {
            whom: address,
            calls: Calls::new(),
            under_way: Vec::new(),
            channel: None,
            asked: 0,
            fates: Rc::clone(&fates),
            late: BTreeSet::new(),
        };
        world.start(client, asks);
        let ended = world
            .run(Duration::from_secs(1))
            .and_then(|()| world.finish());
        ended.unwrap_or_else(|failure| panic!("{failure}"));
        for fate in fates.borrow().values().flatten() {
            *all.entry(fate).or_default() += 1;
        }
    }
    for fate in ["answered", "returned", "closed", "timed out", "cancelled"] {
        let seen = all.get(fate).copied().unwrap_or_default();
        assert!(seen > 10, "{fate}: {all:?}");
    }
}

/// What a server that may be killed has done: the numbers of the messages that it had.
type Had = Rc<RefCell<BTreeSet<u64>>>;

struct Serves(Address, Had);

impl Application for Serves {
    fn start(&mut self, group: &mut Group<'_>) {
        let welcome = Message::welcome_request(&self.0);
        group.post(welcome).expect("a good address");
    }

    fn hear(&mut self, event: Event, group: &mut Group<'_>) {
        if let Event::Message(message) = event {
            if matches!(message.op_code(), OpCode::Request | OpCode::Signal) {
                self.1.borrow_mut().insert(number_in(&message));
            }
            if message.op_code().role() == Role::Request
                && let Ok(answer) = message.into_reply()
            {
                let _ = group.post(answer); // the peer may be gone
            }
        }
    }
}

/// What the client knows.
#[derive(Default)]
struct Known {
    acknowledged: BTreeSet<u64>,
    returned: BTreeSet<u64>,
    signals: usize,
    returned_signals: usize,
    ups: usize,
    downs: usize,
}

/// Has so much to do, each once at least, whatever becomes of the server; and tells what it does.
struct Works {
    link: Reconnect,
    /// Requests, each with its job. Their bodies are numbers that are never used again.
    calls: Calls<u64>,
    jobs: VecDeque<u64>,
    posted: u64,
    was_up: Option<ChannelNumber>,
    done: Rc<RefCell<BTreeSet<u64>>>,
    known: Rc<RefCell<Known>>,
}

impl Works {
    const JOBS: u64 = 60;

    fn go_on(&mut self, group: &mut Group<'_>) {
        while let Some(outcome) = self.calls.poll(group.instant()) {
            let mut known = self.known.borrow_mut();
            match outcome {
                Outcome::Answered { context, message } => {
                    self.done.borrow_mut().insert(context);
                    known.acknowledged.insert(number_in(&message));
                }
                Outcome::Returned {
                    context, message, ..
                } => {
                    known.returned.insert(number_in(&message));
                    self.jobs.push_front(context);
                }
                // Nobody knows: it is done again.
                Outcome::Closed { context, .. } | Outcome::TimedOut { context, .. } => {
                    self.jobs.push_back(context);
                }
                Outcome::Part { .. } => group.fail("an answer in parts"),
                Outcome::Late { .. } => {}
            }
        }
        while let Some(change) = self.link.poll(group.instant(), &mut *group) {
            let mut known = self.known.borrow_mut();
            match change {
                Link::Up { channel, .. } => {
                    known.ups += 1;
                    if self.was_up.replace(channel).is_some() {
                        group.fail("up, and was up");
                    }
                }
                Link::Down {
                    channel, returned, ..
                } => {
                    known.downs += 1;
                    known.returned_signals += returned.len();
                    known.returned.extend(returned.iter().map(number_in));
                    if channel != self.was_up.take() {
                        group.fail(format!("down is {channel:?}"));
                    }
                }
                Link::Ended { .. } => return group.close(Duration::from_secs(60)),
            }
        }
        self.work(group);
        let dues = [self.link.next_deadline(), self.calls.next_deadline()];
        let patience = until(dues.into_iter().flatten().min(), group.instant());
        group.wake_in(patience.min(Duration::from_secs(1)));
    }

    fn work(&mut self, group: &mut Group<'_>) {
        let Some(channel) = self.link.channel() else {
            return;
        };
        while self.calls.len() < 5
            && let Some(job) = self.jobs.pop_front()
        {
            // Each request has a signal before it, large enough to be queued for a while.
            let number = self.posted;
            self.posted += 2;
            let signal = Message::signal(channel).with_body(format!("{number:09000}"));
            let request = Message::request(channel).with_body((number + 1).to_string());
            let deadline = group.instant() + Duration::from_secs(3);
            let posted = group.post(signal).map(drop);
            self.known.borrow_mut().signals += usize::from(posted.is_ok());
            let posted = posted.and_then(|()| {
                let posted = self.calls.post(&mut *group, request, deadline, job);
                posted.map(drop)
            });
            if let Err(error) = posted {
                self.jobs.push_front(job);
                if !error.is_channel_over() {
                    group.fail(error.to_string());
                }
                return;
            }
        }
    }
}

impl Application for Works {
    fn start(&mut self, group: &mut Group<'_>) {
        self.go_on(group);
    }

    fn hear(&mut self, event: Event, group: &mut Group<'_>) {
        if let Some(event) = self.calls.handle(event)
            && let Some(event) = self.link.handle(event, group.instant())
            && let Event::Message(message) = event
            && let Ok(answer) = message.reply()
        {
            let _ = group.post(answer); // a bye, on a channel that may be closed
        }
        self.go_on(group);
    }

    fn wake(&mut self, group: &mut Group<'_>) {
        self.go_on(group);
    }

    fn finish(&mut self, group: &mut Group<'_>) {
        self.link.stop(&mut *group);
        self.go_on(group);
    }
}

/// Runs one world: the server is killed and started again and again.
fn kill_the_server(seed: u64, all: &mut Known) {
    let (mut world, mut server, client, _) = two_hosts(seed, Faults::of_seed(seed));
    // Another process may listen on a path, but not on another host's address.
    let address = Address::uds("/run/server.sock").expect("an address");
    let had = Had::default();
    world.start(server, Serves(address.clone(), Rc::clone(&had)));
    let (done, known) = (Rc::default(), Rc::default());
    let link = Reconnect::new(Message::hello_request(&address)).expect("a hello");
    let works = Works {
        link: link
            .backoff(5 * MILLI, 200 * MILLI)
            .answer_timeout(Duration::from_secs(1))
            .seed(seed),
        calls: Calls::new(),
        jobs: (0..Works::JOBS).collect(),
        posted: 0,
        was_up: None,
        done: Rc::clone(&done),
        known: Rc::clone(&known),
    };
    world.start(client, works);
    let mut rounds = 0;
    while done.borrow().len() < usize::try_from(Works::JOBS).expect("few") {
        rounds += 1;
        assert!(rounds < 3_000, "seed {seed}: {} done", done.borrow().len());
        let time = world.random().duration(40 * MILLI);
        let ran = world.run(time);
        ran.unwrap_or_else(|failure| panic!("{failure}"));
        if rounds < 60 && world.random().percent(20) {
            world.crash(server);
            let time = world.random().duration(300 * MILLI);
            let ran = world.run(time);
            ran.unwrap_or_else(|failure| panic!("{failure}"));
            server = world.engine(Limits::default());
            world.start(server, Serves(address.clone(), Rc::clone(&had)));
        }
    }
    let ended = world.finish();
    ended.unwrap_or_else(|failure| panic!("{failure}"));
    let (had, known) = (had.borrow(), known.borrow());
    for number in &known.acknowledged {
        assert!(had.contains(number), "seed {seed}: {number} is lost");
    }
    for number in &known.returned {
        assert!(
            !had.contains(number),
            "seed {seed}: {number} came back, and arrived"
        );
    }
    all.returned.extend(&known.returned);
    all.signals += known.signals;
    all.returned_signals += known.returned_signals;
    all.ups += known.ups;
    all.downs += known.downs;
}

#[test]
fn what_was_acknowledged_arrived_and_what_came_back_did_not() {
    let mut all = Known::default();
    for seed in 0..50 {
        kill_the_server(seed, &mut all);
    }
    assert!(all.ups > 150, "{} times up", all.ups);
    assert!(all.downs > all.ups, "{} times down", all.downs);
    assert!(all.returned_signals > 20, "{} back", all.returned_signals);
}

/// Listens and answers, heartbeats too; or says hello, and watches who answers it.
struct Beats {
    address: Address,
    watches: bool,
    heartbeat: Heartbeat,
    deaths: Rc<RefCell<Vec<Duration>>>,
}

const INTERVAL: Duration = Duration::from_millis(500);
const MISSES: u32 = 3;

impl Beats {
    fn wait(&mut self, group: &mut Group<'_>) {
        if let Some(due) = self.heartbeat.next_deadline() {
            group.wake_in(until(Some(due), group.instant()));
        }
    }
}

impl Application for Beats {
    fn start(&mut self, group: &mut Group<'_>) {
        let first = if self.watches {
            Message::hello_request(&self.address)
        } else {
            Message::welcome_request(&self.address)
        };
        group.post(first).expect("a good address");
    }

    fn hear(&mut self, event: Event, group: &mut Group<'_>) {
        let now = group.instant();
        let Some(event) = self.heartbeat.handle(event, now, &mut *group) else {
            return self.wait(group);
        };
        if let Event::Message(message) = event {
            if message.op_code() == OpCode::HelloResponse {
                self.heartbeat.watch(message.channel(), now);
            } else if let Ok(answer) = message.reply() {
                let _ = group.post(answer); // the peer may be gone
            }
        }
        self.wait(group);
    }

    fn idle(&mut self, group: &mut Group<'_>) {
        let now = group.instant();
        while let Some(dead) = self.heartbeat.idle(now, &mut *group) {
            self.deaths.borrow_mut().push(group.now());
            let _ = group.post(Message::bye_signal(dead.channel));
        }
        self.wait(group);
    }
}

/// When the server was found dead, if one of the two processes is stopped for a time, three times.
fn stop_one(seed: u64, the_server: bool, time: Duration) -> Vec<Duration> {
    let mut faults = Faults::of_seed(seed);
    // What breaks connections has nothing to do with it, and a network that stands still is no other than a peer.
    for kind in ["resets", "half_closes", "refusals", "lost_connects"] {
        faults = faults.without(kind).unwrap_or(faults);
    }
    for kind in ["descriptors", "stalls"] {
        faults = faults.without(kind).unwrap_or(faults);
    }
    let (mut world, server, client, address) = two_hosts(seed, faults);
    let deaths = Rc::<RefCell<Vec<Duration>>>::default();
    for (host, watches) in [(server, false), (client, true)] {
        let beats = Beats {
            address: address.clone(),
            watches,
            heartbeat: Heartbeat::new(INTERVAL, MISSES),
            deaths: Rc::clone(&deaths),
        };
        world.start(host, beats);
    }
    let mut stopped_at = Vec::new();
    for _ in 0..3 {
        let wait = Duration::from_secs(1) + world.random().duration(Duration::from_secs(2));
        world
            .run(wait)
            .unwrap_or_else(|failure| panic!("{failure}"));
        stopped_at.push(world.now());
        world.stop(if the_server { server } else { client }, time);
        let wait = time + Duration::from_secs(1);
        world
            .run(wait)
            .unwrap_or_else(|failure| panic!("{failure}"));
    }
    world.finish().unwrap_or_else(|failure| panic!("{failure}"));
    let first = stopped_at[0];
    let deaths = deaths.borrow();
    deaths.iter().map(|it| it.saturating_sub(first)).collect()
}

#[test]
fn a_peer_that_stands_still_is_found_dead_in_time() {
    for seed in 0..40 {
        let deaths = stop_one(seed, true, Duration::from_secs(10));
        assert_eq!(deaths.len(), 1, "seed {seed}: {deaths:?}");
        // It may have been asked before, and have had no time to answer.
        let min = INTERVAL * (MISSES - 1);
        let max = INTERVAL * (MISSES + 2);
        assert!((min..max).contains(&deaths[0]), "seed {seed}: {deaths:?}");
    }
}

#[test]
fn a_peer_that_is_only_slow_is_not_dead() {
    for seed in 0..40 {
        let deaths = stop_one(seed, true, Duration::from_secs(1));
        assert!(deaths.is_empty(), "seed {seed}: {deaths:?}");
    }
}

#[test]
fn an_application_that_was_away_itself_finds_nobody_dead() {
    for seed in 0..40 {
        let deaths = stop_one(seed, false, Duration::from_secs(10));
        assert!(deaths.is_empty(), "seed {seed}: {deaths:?}");
    }
}
