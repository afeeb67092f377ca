//! While the application is busy elsewhere, everything but the application goes on: connections are
//! accepted, data read, queues written, channels closed, timers kept. Whoever comes back finds all
//! that happened, in order.
//!
//! What goes on is seen from the peer's side and in the metrics, with nobody in `recv`.

mod support;

use std::{fs, time::Duration};

use support::*;
use tofu::{ChannelNumber, Event, Message, OpCode, Options, Status};

const SHORT: Duration = Duration::from_millis(40);
const LONG: Duration = Duration::from_secs(3_600);

#[test]
fn connections_are_accepted_and_read_while_nobody_receives() {
    over_both(|address| {
        let engine = engine();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let mut peers: Vec<_> = (0..20).map(|_| Raw::connect(&address)).collect();
        eventually("they are accepted", || engine.metrics().half_open == 20);
        let hello = frame(&Message::hello_request(&address).with_id(1));
        for raw in &mut peers {
            raw.write(&hello);
        }
        eventually("they have said hello", || engine.metrics().half_open == 0);
        for raw in &mut peers {
            for number in 0..10 {
                raw.send(&numbered(ChannelNumber::new(1), number, 100));
            }
        }
        eventually("all is read", || {
            engine.metrics().pool_messages_out == 20 * 11
        });
        drop(peers);
        eventually("all are closed", || engine.metrics().channels_open == 1);

        let mut heard = std::collections::HashMap::<_, Vec<_>>::new();
        for _ in 0..20 * 12 {
            let event = next(&mut server);
            heard.entry(event.channel()).or_default().push(event);
        }
        silent(&mut server);
        assert_eq!(heard.len(), 20);
        for events in heard.values() {
            let [
                Event::Message(hello),
                rest @ ..,
                Event::Closed { reason, .. },
            ] = &events[..]
            else {
                panic!("{events:?}");
            };
            assert_eq!(hello.op_code(), OpCode::HelloRequest);
            let numbers = rest.iter().map(|event| match event {
                Event::Message(message) => number_of(message),
                other => panic!("not due: {other:?}"),
            });
            assert!(numbers.eq(0..10));
            assert_eq!(reason.status(), Status::PEER_DISCONNECTED);
        }
    });
}

#[test]
fn a_blocked_queue_goes_on_when_the_peer_reads_again() {
    over_both(|address| {
        let engine = engine();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let mut raw = Raw::hello_narrow(&address);
        let channel = message_of(&mut server, OpCode::HelloRequest).channel();
        for _ in 0..3 {
            let posted = post_until_queued(&server, channel, &engine, 1 << 20);
            for number in 0..posted {
                assert_eq!(number_of(&raw.recv()), number);
            }
            // The peer may have read what the driver has yet to note as written.
            eventually("nothing is queued", || engine.metrics().queued_bytes == 0);
        }
        silent(&mut server);
    });
}

#[test]
fn a_hello_and_what_is_behind_it_leave_while_nobody_receives() {
    over_both(|address| {
        let engine = engine();
        let (listener, address) = RawListener::bind(address);
        let client = engine.group().unwrap();
        let posted = client.post(Message::hello_request(&address)).unwrap();
        for number in 0..10 {
            client.post(numbered(posted.channel, number, 10)).unwrap();
        }
        let mut raw = listener.accept();
        let hello = raw.recv();
        assert_eq!(
            (hello.op_code(), hello.id()),
            (OpCode::HelloRequest, posted.id)
        );
        for number in 0..10 {
            assert_eq!(number_of(&raw.recv()), number);
        }
        if let Some(path) = address.path() {
            fs::remove_file(path).unwrap();
        }
    });
}

#[test]
fn a_channel_is_closed_while_nobody_receives() {
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        p.server.post(Message::bye_signal(p.at_server)).unwrap();
        assert_eq!(p.raw.read_to_end(), b"");
        p.server.post(Message::bye_signal(p.listener)).unwrap();
        eventually("both are closed", || engine.metrics().channels_open == 0);
        closed_with(&mut p.server, p.at_server, Status::CHANNEL_CLOSED);
        closed_with(&mut p.server, p.listener, Status::CHANNEL_CLOSED);
        silent(&mut p.server);
    });
}

#[test]
fn a_violation_is_punished_while_nobody_receives() {
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        p.raw.write(&[0xFF; 16]);
        assert_eq!(p.raw.read_to_end(), b"");
        closed_with(&mut p.server, p.at_server, Status::PROTOCOL_VIOLATION);
    });
}

/// The application never hears of it; the original tells of its end.
#[test]
fn a_client_that_never_says_hello_is_closed_in_time_while_nobody_receives() {
    over_both(|address| {
        let engine = engine_with(Options::default().hello_timeout(SHORT));
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let mut raw = Raw::connect(&address);
        assert_eq!(raw.read_to_end(), b"");
        eventually("it is counted", || {
            engine.metrics().hello_timeouts == 1 && engine.metrics().channels_open == 1
        });
        silent(&mut server);
    });
}

#[test]
fn a_frame_that_does_not_go_on_is_closed_in_time_while_nobody_receives() {
    over_both(|address| {
        let engine = engine_with(Options::default().frame_timeout(SHORT));
        let mut p = raw_pair(&engine, address);
        p.raw.send(&numbered(p.at_server, 0, 10));
        p.raw.write(&frame(&Message::signal(p.at_server))[..5]);
        assert_eq!(p.raw.read_to_end(), b"");
        eventually("it is counted", || engine.metrics().frame_timeouts == 1);
        assert_eq!(number_of(&message(&mut p.server)), 0);
        closed_with(&mut p.server, p.at_server, Status::FRAME_TIMEOUT);
    });
}

#[test]
fn a_bye_without_an_answer_is_closed_in_time_while_nobody_receives() {
    over_both(|address| {
        let engine = engine_with(Options::default().bye_timeout(SHORT));
        let mut p = raw_pair(&engine, address);
        p.server.post(Message::bye_request(p.at_server)).unwrap();
        assert_eq!(p.raw.recv().op_code(), OpCode::ByeRequest);
        assert_eq!(p.raw.read_to_end(), b"");
        eventually("it is counted", || engine.metrics().bye_timeouts == 1);
        closed_with(&mut p.server, p.at_server, Status::BYE_TIMEOUT);
    });
}

/// A timer that only begins when the application has just left: nothing else wakes anybody.
#[test]
fn a_timer_that_begins_with_the_last_word_of_a_busy_application_is_kept() {
    for _ in 0..10 {
        let engine = engine_with(Options::default().bye_timeout(SHORT));
        let mut p = raw_pair(&engine, &loopback());
        // It drives again and again, so that the keeper stands back.
        for number in 0..50 {
            p.raw.send(&numbered(p.at_server, number, 10));
            assert_eq!(number_of(&message(&mut p.server)), number);
        }
        p.server.post(Message::bye_request(p.at_server)).unwrap();
        silent(&mut p.server);
        assert_eq!(p.raw.recv().op_code(), OpCode::ByeRequest);
        assert_eq!(p.raw.read_to_end(), b"");
    }
}

#[test]
fn timers_of_a_caller_that_waits_are_kept_too() {
    over_both(|address| {
        let options = Options::default().bye_timeout(SHORT).hello_timeout(LONG);
        let engine = engine_with(options);
        let mut p = raw_pair(&engine, address);
        let poster = p.server.poster();
        let channel = p.at_server;
        let waiting = Watched::start(move || {
            closed_with(&mut p.server, channel, Status::BYE_TIMEOUT);
        });
        poster.post(Message::bye_request(channel)).unwrap();
        assert_eq!(p.raw.read_to_end().len(), tofu::Header::LEN);
        waiting.join("recv");
    });
}

/// Half a frame that comes while a caller polls, and is read without asking the poller: the caller must not
/// sleep as long as it had meant to before that.
#[test]
fn a_timer_that_begins_while_a_caller_polls_is_kept() {
    const TIME: Duration = Duration::from_millis(10);
    // No other timer wakes it.
    let options = Options::default()
        .busy_poll(TIME)
        .frame_timeout(TIME)
        .hello_timeout(LONG);
    for _ in 0..10 {
        let engine = engine_with(options.clone());
        let mut p = raw_pair(&engine, &loopback());
        let mut server = p.server;
        let waiting = Watched::start(move || {
            loop {
                match server.recv().unwrap() {
                    Event::Message(request) => {
                        server.post(request.into_reply().unwrap()).unwrap();
                    }
                    Event::Closed { reason, .. } => return reason.status(),
                    other => panic!("not due: {other:?}"),
                }
            }
        });
        // From then on it expects the next one from this socket.
        for number in 1..=4 {
            p.raw.send(&Message::request(p.at_server).with_id(number));
            p.raw.recv();
        }
        let next = frame(&Message::request(p.at_server).with_id(5).with_body("more"));
        p.raw.write(&next[..next.len() - 1]);
        assert_eq!(waiting.join("recv"), Status::FRAME_TIMEOUT);
    }
}

/// Every time that it goes, the keeper takes over; every time that it comes, it takes the seat back.
#[test]
fn an_application_that_comes_and_goes_hears_everything_in_order() {
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        let mut number = 0;
        for round in 0..100 {
            for _ in 0..=round % 4 {
                p.raw.send(&numbered(p.at_server, number, round));
                number += 1;
            }
            if round % 3 != 0 {
                // Nobody is in `recv`: the keeper reads it.
                eventually("it is read", || {
                    engine.metrics().pool_messages_out == 1 + round % 4
                });
            }
            for due in number - (1 + round % 4)..number {
                let request = message(&mut p.server);
                assert_eq!(number_of(&request), due);
                p.server.post(request).unwrap();
                assert_eq!(number_of(&p.raw.recv()), due);
            }
        }
        silent(&mut p.server);
    });
}

#[test]
fn one_thread_receives_while_others_post() {
    const POSTERS: usize = 4;
    const EACH: usize = 500;
    over_both(|address| {
        let engine = engine();
        let p = pair(&engine, address);
        let (mut server, mut client) = (p.server, p.client);
        let (at_server, at_client) = (p.at_server, p.at_client);
        let echo = Watched::start(move || {
            for _ in 0..POSTERS * EACH {
                let Event::Message(request) = next_of_channel(&mut server) else {
                    panic!("a request was due");
                };
                assert_eq!(request.channel(), at_server);
                server.post(request.into_reply().unwrap()).unwrap();
            }
            server
        });
        let posters: Vec<_> = (0..POSTERS)
            .map(|nth| {
                let poster = client.poster();
                Watched::start(move || {
                    for number in 0..EACH {
                        let body = [nth.to_be_bytes(), number.to_be_bytes()].concat();
                        let request = Message::request(at_client).with_body(body);
                        poster.post(request).unwrap();
                    }
                })
            })
            .collect();
        let receiving = Watched::start(move || {
            let mut heard = [0_usize; POSTERS];
            for _ in 0..POSTERS * EACH {
                let Event::Message(response) = next_of_channel(&mut client) else {
                    panic!("a response was due");
                };
                let (nth, number) = response.body().split_at(size_of::<usize>());
                let nth = usize::from_be_bytes(nth.try_into().unwrap());
                assert_eq!(
                    number,
                    heard[nth].to_be_bytes(),
                    "in the order of its poster"
                );
                heard[nth] += 1;
            }
            (heard, client)
        });
        for poster in posters {
            poster.join("posting");
        }
        let (heard, client) = receiving.join("receiving");
        assert_eq!(heard, [EACH; POSTERS]);
        drop((client, echo.join("echoing")));
    });
}

#[test]
fn a_notification_finds_the_receiver_wherever_it_is() {
    let engine = engine();
    let mut group = engine.group().unwrap();
    let poster = group.poster();
    // While it is away ...
    for number in 0..10 {
        poster.notify(Some(numbered(ChannelNumber::UNASSIGNED, number, 1)));
    }
    poster.notify(None);
    for number in 0..10 {
        match next(&mut group) {
            Event::Notified(Some(message)) => assert_eq!(number_of(&message), number),
            other => panic!("not due: {other:?}"),
        }
    }
    assert!(matches!(next(&mut group), Event::Notified(None)));
    // ... and while it waits.
    let (sender, heard) = std::sync::mpsc::channel();
    let waiting = Watched::start(move || {
        for _ in 0..1_000 {
            assert!(matches!(next(&mut group), Event::Notified(None)));
            sender.send(()).unwrap();
        }
    });
    for _ in 0..1_000 {
        poster.notify(None);
        heard.recv_timeout(WATCHDOG).expect("it was woken");
    }
    waiting.join("recv");
}

/// Groups share the keeper, and one that is busy does not keep it from the others.
#[test]
fn many_groups_without_an_application_all_go_on() {
    over_both(|address| {
        let engine = engine_with(Options::default().pool_messages(1, 4_096));
        let mut groups = Vec::new();
        for nth in 0..20 {
            let address = match address.path() {
                Some(path) => tofu::Address::uds(format!("{path}{nth}")).unwrap(),
                None => address.clone(),
            };
            groups.push(raw_pair(&engine, &address));
        }
        for number in 0..100 {
            for p in &mut groups {
                p.raw.send(&numbered(p.at_server, number, 100));
            }
        }
        eventually("all is read", || {
            engine.metrics().pool_messages_out == 20 * 100
        });
        for p in &mut groups {
            for number in 0..100 {
                assert_eq!(number_of(&message(&mut p.server)), number);
            }
            silent(&mut p.server);
        }
    });
}
