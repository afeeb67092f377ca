//! Worlds as somebody builds them who tests a protocol of their own.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use tofu::{Address, ChannelNumber, Event, Message, OpCode, Refusal, Status};
use tofu_sim::{Application, Faults, Group, Host, Limits, Promise, Scenario, World, run_seeds};

/// Answers whatever can be answered.
struct Echo(Address);

impl Application for Echo {
    fn start(&mut self, group: &mut Group<'_>) {
        group
            .post(Message::welcome_request(&self.0))
            .expect("a good address");
    }

    fn hear(&mut self, event: Event, group: &mut Group<'_>) {
        if let Event::Message(message) = event
            && let Ok(answer) = message.into_reply()
        {
            let _ = group.post(answer);
        }
    }
}

fn greet(whom: &Address, group: &mut Group<'_>) -> ChannelNumber {
    let hello = group.post(Message::hello_request(whom));
    hello.expect("a good address").channel
}

/// Asks so many times, one after the other, and tells what it heard.
struct Asks {
    whom: Address,
    left: usize,
    heard: Rc<RefCell<Vec<String>>>,
    fails: Fails,
}

/// How it fails, and with how many questions left.
#[derive(Clone, Copy)]
enum Fails {
    Never,
    Complains(usize),
    Panics(usize),
}

impl Application for Asks {
    fn start(&mut self, group: &mut Group<'_>) {
        greet(&self.whom, group);
    }

    fn hear(&mut self, event: Event, group: &mut Group<'_>) {
        match event {
            Event::Message(message)
                if matches!(message.op_code(), OpCode::HelloResponse | OpCode::Response) =>
            {
                match self.fails {
                    Fails::Complains(left) if left == self.left => {
                        group.fail("it is tired of asking");
                    }
                    Fails::Panics(left) => assert_ne!(left, self.left, "too many questions"),
                    _ => {}
                }
                let channel = message.channel();
                let next = if self.left == 0 {
                    Message::bye_request(channel)
                } else {
                    self.left -= 1;
                    Message::request(channel).with_body("?")
                };
                // The peer may be gone, and the event still to come.
                let _ = group.post(next);
            }
            Event::Closed { reason, .. } => {
                let told = reason.status().to_string();
                self.heard.borrow_mut().push(told);
            }
            _ => {}
        }
    }
}

type Heard = Rc<RefCell<Vec<String>>>;

fn world(seed: u64, faults: Faults, fails: Fails) -> (World, Host, Heard) {
    let mut world = World::with_faults(seed, faults);
    let server = world.engine(Limits::default());
    let client = world.engine(Limits::default());
    let heard = Rc::default();
    let address = world.tcp(server, 7_099);
    world.start(server, Echo(address));
    let asks = Asks {
        whom: Address::tcp("host-0", 7_099).expect("a good address"),
        left: 100,
        heard: Rc::clone(&heard),
        fails,
    };
    world.start(client, asks);
    (world, server, heard)
}

#[test]
fn without_faults_everything_goes_well() {
    let (mut world, _, heard) = world(1, Faults::none(), Fails::Never);
    world.run(Duration::from_secs(5)).unwrap();
    let report = world.finish().unwrap();
    assert_eq!(*heard.borrow(), [Status::CHANNEL_CLOSED.to_string()]);
    // Hello, 100 questions and the bye, each with its answer.
    assert_eq!(report.delivered, 2 * 102);
    assert_eq!((report.returned, report.gentle), (0, true));
}

#[test]
fn a_process_that_is_killed_is_a_peer_that_went_away() {
    for seed in 0..20 {
        let (mut world, server, heard) = world(seed, Faults::none(), Fails::Never);
        world.run(Duration::from_millis(2)).unwrap();
        assert_ne!(world.metrics(server), None);
        world.crash(server);
        assert_eq!(world.metrics(server), None);
        world.run(Duration::from_secs(5)).unwrap();
        world.finish().unwrap_or_else(|failure| panic!("{failure}"));
        let gone = Status::PEER_DISCONNECTED.to_string();
        assert_eq!(*heard.borrow(), [gone]);
    }
}

#[test]
fn what_an_application_finds_wrong_is_told_with_the_seed_and_what_happened() {
    let (mut world, _, _) = world(23, Faults::none(), Fails::Complains(90));
    let failure = world.run(Duration::from_secs(5)).unwrap_err();
    assert_eq!(failure.broken.promise, Promise::Application);
    let told = failure.to_string();
    assert!(
        told.starts_with("seed 23 breaks Application: it is tired"),
        "{told}"
    );
    assert!(told.contains("host 1 group 1 posts Request"), "{told}");
}

#[test]
fn a_panic_is_told_with_the_seed_and_what_happened() {
    let (mut world, _, _) = world(23, Faults::none(), Fails::Panics(90));
    let failure = world.run(Duration::from_secs(5)).unwrap_err();
    assert_eq!(failure.broken.promise, Promise::NoPanic);
    let told = failure.to_string();
    assert!(told.starts_with("seed 23 breaks NoPanic: "), "{told}");
    assert!(told.contains("too many questions"), "{told}");
    assert!(told.contains("host 1 group 1 posts Request"), "{told}");
}

/// Asks a question now and then, on one connection after the other, and notes when it has an answer.
struct Persists {
    whom: Address,
    channel: Option<ChannelNumber>,
    answered_at: Rc<RefCell<Vec<Duration>>>,
}

impl Application for Persists {
    fn start(&mut self, group: &mut Group<'_>) {
        greet(&self.whom, group);
    }

    fn hear(&mut self, event: Event, group: &mut Group<'_>) {
        match event {
            Event::Message(message)
                if matches!(message.op_code(), OpCode::HelloResponse | OpCode::Response) =>
            {
                self.answered_at.borrow_mut().push(group.now());
                self.channel = Some(message.channel());
                group.wake_in(Duration::from_millis(10));
            }
            Event::Closed { .. } => {
                self.channel = None;
                group.wake_in(Duration::from_millis(20));
            }
            _ => {}
        }
    }

    fn wake(&mut self, group: &mut Group<'_>) {
        match self.channel {
            Some(channel) => drop(group.post(Message::request(channel))), // the peer may be gone
            None => self.start(group),
        }
    }
}

/// Starts a server; whenever it is killed, it is started again in the same place.
fn serve(world: &mut World, host: Host, address: &Address, starts: &Rc<RefCell<usize>>) {
    *starts.borrow_mut() += 1;
    world.start(host, Echo(address.clone()));
    let (address, starts) = (address.clone(), Rc::clone(starts));
    world.may_crash(host, move |world| {
        let again = world.restart(host);
        assert_eq!(world.tcp(again, 7_099), address, "it has the address still");
        serve(world, again, &address, &starts);
    });
}

#[test]
fn a_process_that_may_be_killed_is_killed_by_the_seed_and_started_again_in_its_place() {
    for seed in 0..20 {
        let faults = Faults {
            crashes: 3,
            ..Faults::none()
        };
        let mut world = World::with_faults(seed, faults);
        let server = world.engine(Limits::default());
        let client = world.engine(Limits::default());
        let address = world.tcp(server, 7_099);
        let starts = Rc::default();
        serve(&mut world, server, &address, &starts);
        let answered_at = Rc::<RefCell<Vec<Duration>>>::default();
        let persists = Persists {
            whom: address,
            channel: None,
            answered_at: Rc::clone(&answered_at),
        };
        world.start(client, persists);
        world.run(Duration::from_secs(10)).unwrap();
        let report = world.finish().unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!((report.crashes, report.gentle), (3, false));
        assert_eq!(*starts.borrow(), 4, "once, and after each crash");
        assert_eq!(world.metrics(server), None);
        let last = answered_at.borrow().last().copied();
        let seconds = last.map(|it| it.as_secs());
        assert!(seconds >= Some(9), "seed {seed}: {seconds:?} is the last");
    }
}

#[test]
fn what_follows_a_crash_follows_before_the_end() {
    let faults = Faults {
        crashes: 1,
        ..Faults::none()
    };
    let mut world = World::with_faults(3, faults);
    let server = world.engine(Limits::default());
    let address = world.tcp(server, 7_099);
    let starts = Rc::default();
    serve(&mut world, server, &address, &starts);
    while world.metrics(server).is_some() {
        world.run(Duration::from_micros(10)).unwrap();
    }
    assert_eq!(*starts.borrow(), 1);
    assert_eq!(world.finish().unwrap().crashes, 1);
    assert_eq!(*starts.borrow(), 2);
}

#[test]
fn a_process_that_may_be_stopped_is_stopped_by_the_seed() {
    for (seed, longest) in (0..9).zip([1, 5, 20].into_iter().cycle()) {
        let faults = Faults {
            stops: 3,
            stop_max: Duration::from_secs(longest),
            ..Faults::none()
        };
        let mut world = World::with_faults(seed, faults);
        let server = world.engine(Limits::default());
        let client = world.engine(Limits::default());
        let address = world.tcp(server, 7_099);
        world.start(server, Echo(address.clone()));
        world.may_stop(server);
        let answered_at = Rc::<RefCell<Vec<Duration>>>::default();
        let persists = Persists {
            whom: address,
            channel: None,
            answered_at: Rc::clone(&answered_at),
        };
        world.start(client, persists);
        world.run(Duration::from_secs(70)).unwrap();
        let report = world.finish().unwrap_or_else(|failure| panic!("{failure}"));
        // What is shorter than the timeouts ends no conversation.
        assert_eq!((report.stops, report.gentle), (3, longest <= 5));
        let answered_at = answered_at.borrow();
        let gaps = answered_at
            .windows(2)
            .map(|two| two[1].saturating_sub(two[0]));
        let gap = gaps.max().expect("many answers");
        let (least, most) = (longest * 100, longest * 3_000 + 100);
        let gap = u64::try_from(gap.as_millis()).unwrap();
        assert!(
            (least..most).contains(&gap),
            "seed {seed}: {gap} ms without an answer"
        );
    }
}

#[test]
fn where_nobody_may_be_killed_or_stopped_nobody_is_and_the_run_is_gentle() {
    let faults = Faults {
        crashes: 3,
        stops: 3,
        stop_max: Duration::from_secs(20),
        ..Faults::none()
    };
    let (mut world, _, _) = world(1, faults.clone(), Fails::Never);
    world.run(Duration::from_secs(30)).unwrap();
    let report = world.finish().unwrap();
    assert_eq!((report.crashes, report.stops, report.gentle), (0, 0, true));
    let (mut world, _, _) = self::world(1, faults, Fails::Complains(90));
    let failure = world.run(Duration::from_secs(5)).unwrap_err();
    assert_eq!(failure.faults, Faults::none());
}

/// Does nothing, and complains about it at its end.
struct Complains;

impl Application for Complains {
    fn hear(&mut self, _: Event, _: &mut Group<'_>) {}

    fn finish(&mut self, group: &mut Group<'_>) {
        group.fail("it has heard nothing");
        group.leave();
    }
}

#[test]
fn the_seeds_of_the_scenario_kill_and_stop_processes_too() {
    let (mut crashes, mut stops, mut gentle_stops) = (0, 0, 0);
    for seed in 0..60 {
        let report = Scenario::new(seed).run();
        let report = report.unwrap_or_else(|failure| panic!("{failure}"));
        crashes += report.crashes;
        stops += report.stops;
        gentle_stops += if report.gentle { report.stops } else { 0 };
    }
    assert!(crashes >= 5, "{crashes} killed");
    assert!(stops >= 30, "{stops} stopped");
    assert!(
        (10..stops).contains(&gentle_stops),
        "{gentle_stops} of them for a short time"
    );
}

/// Keeps what it hears where its test can see it.
struct Keeps {
    whom: Address,
    kept: Rc<RefCell<Vec<Message>>>,
}

impl Application for Keeps {
    fn start(&mut self, group: &mut Group<'_>) {
        greet(&self.whom, group);
    }

    fn hear(&mut self, event: Event, _: &mut Group<'_>) {
        if let Event::Message(message) = event {
            self.kept.borrow_mut().push(message);
        }
    }

    fn finish(&mut self, group: &mut Group<'_>) {
        group.abort();
    }
}

fn keeps() -> (World, Rc<RefCell<Vec<Message>>>) {
    let mut world = World::with_faults(1, Faults::none());
    let (server, client) = (
        world.engine(Limits::default()),
        world.engine(Limits::default()),
    );
    let address = world.tcp(server, 7_099);
    world.start(server, Echo(address.clone()));
    let kept = Rc::default();
    let keeps = Keeps {
        whom: address,
        kept: Rc::clone(&kept),
    };
    world.start(client, keeps);
    let ran = world.run(Duration::from_secs(1));
    ran.unwrap_or_else(|failure| panic!("{failure}"));
    (world, kept)
}

#[test]
fn who_keeps_messages_beyond_the_end_is_told_so() {
    let (mut world, kept) = keeps();
    let failure = world.finish().unwrap_err();
    assert_eq!(kept.borrow().len(), 1, "the answer to its hello");
    assert_eq!(failure.broken.promise, Promise::Bounds);
    let how = &failure.broken.how;
    assert!(
        how.contains("host 1 has 0 channels, 0 half-open, 1 messages out of the pool"),
        "{how}"
    );
    assert!(how.contains("does somebody keep messages"), "{how}");
    // It lets go of them in time.
    let (mut world, kept) = keeps();
    kept.borrow_mut().clear();
    world.finish().unwrap();
}

#[test]
fn what_an_application_finds_wrong_at_its_very_end_is_told() {
    let mut world = World::with_faults(1, Faults::none());
    let host = world.engine(Limits::default());
    world.start(host, Complains);
    world.run(Duration::from_secs(1)).unwrap();
    let failure = world.finish().unwrap_err();
    assert_eq!(failure.broken.promise, Promise::Application);
}

/// A conversation that may not be reset.
fn resets_are_fatal(world: &mut World) -> Result<tofu_sim::Report, Box<tofu_sim::Failure>> {
    let (server, client) = (
        world.engine(Limits::default()),
        world.engine(Limits::default()),
    );
    let address = world.tcp(server, 7_099);
    world.start(server, Echo(address.clone()));
    let heard = Heard::default();
    let asks = Asks {
        whom: address,
        left: 100,
        heard: Rc::clone(&heard),
        fails: Fails::Never,
    };
    world.start(client, asks);
    world.run(Duration::from_secs(30))?;
    let report = world.finish()?;
    let gone = Status::PEER_DISCONNECTED.to_string();
    assert!(!heard.borrow().contains(&gone), "the peer went away");
    Ok(report)
}

#[test]
fn the_first_seed_that_fails_is_reduced_to_what_it_needs_and_can_be_seen_again() {
    let failure = run_seeds(0.., resets_are_fatal).unwrap_err();
    assert_eq!(failure.broken.promise, Promise::NoPanic);
    let (seed, faults) = (failure.seed, &failure.faults);
    // One thing that takes the peer away is needed, and all else is left out.
    let needed = usize::from(faults.resets > 0) + usize::from(faults.half_closes > 0);
    assert_eq!(needed, 1, "{faults:?}");
    let left = [faults.stalls, faults.spurious, faults.crashes, faults.stops];
    assert_eq!(left, [0; 4], "{faults:?}");
    let told = failure.to_string();
    let again =
        format!("see it again: World::with_faults({seed}, Faults::of_seed({seed}).without(");
    assert!(told.contains(&again), "{told}");
    assert!(told.contains("the peer went away"), "{told}");
    assert!(told.contains("World::keep_trace"), "{told}");
    let mut world = World::with_faults(seed, faults.clone());
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        resets_are_fatal(&mut world)
    }));
    assert!(panicked.is_err(), "the same again");
    // Those before it are well.
    let reports = run_seeds(0..seed, resets_are_fatal).unwrap();
    assert_eq!(reports.len() as u64, seed);
}

#[test]
fn what_is_written_to_a_unix_domain_socket_may_fit_in_part_only() {
    let steps = |seed, grain_max| {
        let faults = Faults {
            grain_max,
            buffer_max: 1 << 21,
            ..Faults::none()
        };
        let mut world = World::with_faults(seed, faults);
        let (server, client) = (
            world.engine(Limits::default()),
            world.engine(Limits::default()),
        );
        let address = Address::uds("/run/echo.sock").expect("a good address");
        world.start(server, Echo(address.clone()));
        // A path at which nobody listens yet is refused.
        world.run(Duration::from_millis(10)).unwrap();
        world.start(client, Large(address));
        world.run(Duration::from_secs(1)).unwrap();
        let report = world.finish().unwrap();
        // Hello and questions, with their answers, and the bye of one or both.
        assert!(report.delivered >= 42, "{report:?}");
        report.steps
    };
    let all = |grain_max| (0..20).map(|seed| steps(seed, grain_max)).sum::<usize>();
    let (few, many) = (all(1 << 30), all(200));
    assert!(many > few + 100, "{few} steps, {many} steps");
}

/// Has large bodies echoed.
struct Large(Address);

impl Application for Large {
    fn start(&mut self, group: &mut Group<'_>) {
        let hello = Message::hello_request(&self.0);
        let hello = group.post(hello).expect("a good address");
        for _ in 0..20 {
            let request = Message::request(hello.channel).with_body(vec![7; 65_535]);
            group.post(request).expect("there is room");
        }
    }

    fn hear(&mut self, _: Event, _: &mut Group<'_>) {}
}

#[test]
fn a_trace_has_no_looks_of_keepers_that_saw_nothing() {
    let (mut world, _, _) = world(23, Faults::none(), Fails::Never);
    world.keep_trace(100_000);
    world.run(Duration::from_secs(5)).unwrap();
    let trace = world.trace();
    let lines: Vec<_> = trace.lines().collect();
    let is_look = |line: &&str| line.contains("'s keeper looks: ");
    assert!(lines.iter().any(is_look));
    for two in lines.windows(2).filter(|two| is_look(&two[1])) {
        let (time, _) = two[1].split_once('h').expect("a host looks");
        let has_moved = !two[1].ends_with(": 0 bytes read, 0 written");
        // Such as a connection, which is told before the look in which it came about.
        let has_happened = two[0].starts_with(time) && !is_look(&two[0]);
        assert!(has_moved || has_happened, "{two:?}");
    }
}

#[test]
fn a_run_that_seems_endless_is_ended_unless_more_steps_are_allowed() {
    let run = |steps_max| {
        let (mut world, _, _) = world(1, Faults::none(), Fails::Never);
        world.allow_steps(steps_max);
        world
            .run(Duration::from_secs(5))
            .and_then(|()| world.finish())
    };
    let steps = run(400_000).unwrap().steps;
    assert!(run(steps).is_ok());
    let failure = run(steps - 1).unwrap_err();
    assert_eq!(failure.broken.promise, Promise::End);
    assert!(
        failure.broken.how.contains("World::allow_steps"),
        "{failure}"
    );
}

/// Posts a message of 65,551 bytes, and then larger ones, whenever it hears of room.
struct Fills {
    whom: Address,
    channel: ChannelNumber,
    drained: Rc<Cell<usize>>,
}

impl Fills {
    fn large(&self) -> Message {
        Message::signal(self.channel).with_body(vec![7; 65_535])
    }
}

impl Application for Fills {
    fn start(&mut self, group: &mut Group<'_>) {
        self.channel = greet(&self.whom, group);
    }

    fn hear(&mut self, event: Event, group: &mut Group<'_>) {
        match event {
            // By then the peer is stopped.
            Event::Message(hello) if hello.op_code() == OpCode::HelloResponse => {
                group.wake_in(Duration::from_millis(20));
            }
            Event::Drained(_) => {
                self.drained.set(self.drained.get() + 1);
                self.post_larger(group);
            }
            _ => {}
        }
    }

    fn wake(&mut self, group: &mut Group<'_>) {
        group.post(self.large()).expect("nothing is queued");
        self.post_larger(group);
    }
}

impl Fills {
    fn post_larger(&self, group: &mut Group<'_>) {
        let larger = self.large().with_header("x", "y".repeat(30_000));
        if let Err(error) = group.post(larger) {
            assert!(matches!(error.refusal(), Refusal::QueueFull { .. }));
        }
    }
}

/// And not only that less is queued than before.
#[test]
fn who_is_told_of_room_has_room_for_what_was_refused() {
    let faults = Faults {
        buffer_max: 700,
        ..Faults::none()
    };
    let mut world = World::with_faults(1, faults);
    let small = Limits {
        channel_queue_bytes: 16 + 2 * 65_535,
        ..Limits::default()
    };
    let (server, client) = (world.engine(small.clone()), world.engine(small));
    let whom = world.tcp(server, 7_000);
    world.start(server, Echo(whom.clone()));
    let drained = Rc::default();
    let fills = Fills {
        whom,
        channel: ChannelNumber::UNASSIGNED,
        drained: Rc::clone(&drained),
    };
    world.start(client, fills);
    world.run(Duration::from_millis(10)).unwrap();
    // Nothing is read: there is no room, and will be none.
    world.stop(server, Duration::from_secs(1));
    world.run(Duration::from_millis(30)).unwrap();
    assert_eq!(drained.get(), 0, "times that it heard of room");
}
