//! The helpers beside real engines: whatever can post lends itself to them, over both transports.

mod support;

use std::time::Instant;

use support::*;
use tofu::{
    ChannelGroup, Event, Message, OpCode, Status,
    helpers::{Calls, Heartbeat, Link, Outcome, Post, Reconnect, until},
};

fn say(mut post: impl Post, p: &Pair, id: u64) {
    let signal = Message::signal(p.at_client).with_id(id);
    assert_eq!(post.post(signal).expect("taken").id.get(), id);
}

#[test]
fn whatever_can_post_lends_itself() {
    over_both(|address| {
        let engine = engine();
        let mut p = pair(&engine, address);
        let poster = p.client.poster();
        say(&p.client, &p, 1);
        say(&poster, &p, 2);
        say(&mut &p.client, &p, 3);
        say(poster, &p, 4);
        let mut group = std::mem::replace(&mut p.client, engine.group().unwrap());
        say(&mut group, &p, 5);
        for id in 1..=5 {
            let signal = message_of(&mut p.server, OpCode::Signal);
            assert_eq!(signal.id().get(), id);
        }
    });
}

/// What one of the two hears, through all helpers.
fn hear(
    group: &mut ChannelGroup,
    heartbeat: &mut Heartbeat,
    calls: &mut Calls<u32>,
    link: &mut Reconnect,
) -> Option<Event> {
    let deadlines = [
        heartbeat.next_deadline(),
        calls.next_deadline(),
        link.next_deadline(),
    ];
    let patience = until(deadlines.into_iter().flatten().min(), Instant::now());
    let event = group.recv_timeout(patience.min(WATCHDOG));
    let Some(event) = event.expect("not shutting down") else {
        assert_eq!(heartbeat.idle(Instant::now(), &*group), None);
        return None;
    };
    let event = heartbeat.handle(event, Instant::now(), &*group)?;
    let event = calls.handle(event)?;
    link.handle(event, Instant::now())
}

#[test]
fn all_of_them_share_a_loop_and_nothing_is_left_for_the_application() {
    over_both(|address| {
        let engine = engine();
        let (mut server, mut client) = (engine.group().unwrap(), engine.group().unwrap());
        let (address, _) = listen(&mut server, address);
        let stop = server.poster();
        let serving = Watched::start(move || {
            let mut heartbeat = Heartbeat::new(WATCHDOG, 1);
            loop {
                let event = next(&mut server);
                match heartbeat.handle(event, Instant::now(), &server) {
                    Some(Event::Notified(_)) => return,
                    Some(Event::Message(message)) => {
                        server.post(message.into_reply().unwrap()).unwrap();
                    }
                    _ => {}
                }
            }
        });
        let mut link = Reconnect::new(Message::hello_request(&address)).unwrap();
        let mut calls = Calls::new();
        // It asks at every silence of 1 ms, and waits for long.
        let mut heartbeat = Heartbeat::new(std::time::Duration::from_millis(1), 100_000);
        let mut answered = Vec::new();
        loop {
            while let Some(outcome) = calls.poll(Instant::now()) {
                match outcome {
                    Outcome::Answered { context, .. } => answered.push(context),
                    other => panic!("{other:?}"),
                }
                if answered.len() == 100 {
                    link.stop(&client);
                }
            }
            match link.poll(Instant::now(), &client) {
                Some(Link::Up { channel, .. }) => {
                    heartbeat.watch(channel, Instant::now());
                    for number in 0..100 {
                        let request = Message::request(channel);
                        let deadline = Instant::now() + WATCHDOG;
                        calls.post(&client, request, deadline, number).unwrap();
                    }
                }
                Some(Link::Ended { reason, returned }) => {
                    assert_eq!(reason.status(), Status::CHANNEL_CLOSED);
                    assert_eq!(returned, []);
                    break;
                }
                Some(other) => panic!("{other:?}"),
                None => {
                    let left = hear(&mut client, &mut heartbeat, &mut calls, &mut link);
                    assert!(left.is_none(), "{left:?}");
                }
            }
        }
        assert_eq!(answered, (0..100).collect::<Vec<_>>());
        stop.notify(None);
        serving.join("serving");
    });
}
