//! Worlds as somebody builds them who tests a protocol of their own.

use std::{cell::RefCell, rc::Rc, time::Duration};

use tofu::{Address, Event, Message, OpCode, Status};
use tofu_sim::{Application, Faults, Group, Host, Limits, Promise, World};

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
        group
            .post(Message::hello_request(&self.whom))
            .expect("a good address");
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
