//! `Drained` says that there is room for what was refused, and not only that less is queued than before.

use std::{cell::Cell, rc::Rc, time::Duration};

use tofu::{Address, ChannelNumber, Event, Message, OpCode, Refusal};
use tofu_sim::{Application, Faults, Group, Limits, World};

struct Sink(Address);

impl Application for Sink {
    fn start(&mut self, group: &mut Group<'_>) {
        group
            .post(Message::welcome_request(&self.0))
            .expect("a good address");
    }

    fn hear(&mut self, event: Event, group: &mut Group<'_>) {
        if let Event::Message(message) = event
            && let Ok(answer) = message.reply()
        {
            let _ = group.post(answer);
        }
    }
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
        let hello = Message::hello_request(&self.whom);
        self.channel = group.post(hello).expect("a good address").channel;
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
    world.start(server, Sink(whom.clone()));
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
