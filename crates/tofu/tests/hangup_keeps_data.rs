//! A peer that goes away, in whatever manner, takes nothing back that it has sent: all of it is
//! delivered first, then what could not be sent to it comes back, then the channel is closed, once.

mod support;

use std::{env, io::Write, net::Shutdown, process::Command};

use support::*;
use tofu::{Address, ChannelGroup, ChannelNumber, Event, Message, OpCode, Options, Status};

const MESSAGES: usize = 2_000;

/// What the application hears of a channel whose peer is gone.
#[derive(Debug, Default)]
struct Heard {
    messages: Vec<usize>,
    returned: Vec<usize>,
}

/// Hears everything to the end of the channel, in the order that is promised, and nothing after it.
/// The application keeps `spare` messages in its hands.
#[track_caller]
fn hear_to_the_end(group: &mut ChannelGroup, ended: ChannelNumber, spare: usize) -> Heard {
    let mut heard = Heard::default();
    let mut held = Vec::new();
    loop {
        match next_of_channel(group) {
            Event::Message(message) => {
                assert_eq!(heard.returned, [0; 0], "a message behind what came back");
                assert_eq!(message.channel(), ended);
                heard.messages.push(number_of(&message));
                held.push(message);
                if held.len() >= spare {
                    held.remove(0);
                }
            }
            Event::Returned { message, reason } => {
                assert_eq!(reason.status(), Status::PEER_DISCONNECTED);
                assert_eq!(message.status(), Status::PEER_DISCONNECTED);
                assert_eq!(message.channel(), ended);
                heard.returned.push(number_of(&message));
            }
            Event::Closed {
                channel, reason, ..
            } => {
                assert_eq!(channel, ended);
                assert_eq!(reason.status(), Status::PEER_DISCONNECTED, "{reason}");
                break;
            }
            other => panic!("not due: {other:?}"),
        }
    }
    drop(held);
    silent(group);
    heard
}

#[track_caller]
fn hear_all_to_the_end(group: &mut ChannelGroup, ended: ChannelNumber) {
    let heard = hear_to_the_end(group, ended, 1);
    assert!(heard.messages.into_iter().eq(0..MESSAGES));
    assert_eq!(heard.returned, [0; 0]);
}

fn send_all(raw: &mut Raw, count: usize) {
    let mut bytes = Vec::new();
    for number in 0..count {
        bytes.extend(frame(&numbered(
            ChannelNumber::new(1),
            number,
            number % 100,
        )));
    }
    raw.write(&bytes);
}

#[test]
fn everything_sent_before_an_orderly_end_is_delivered_first() {
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        // The peer's writes may have to wait for our reads.
        let sender = Watched::start(move || send_all(&mut p.raw, MESSAGES));
        hear_all_to_the_end(&mut p.server, p.at_server);
        sender.join("sending");
    });
}

/// On UDS the original loses up to all of it.
#[test]
fn a_small_pool_and_a_slow_application_lose_nothing() {
    for hold in [1, 4] {
        over_both(|address| {
            let engine = engine_with(Options::default().pool_messages(1, 4));
            let mut p = raw_pair(&engine, address);
            let sender = Watched::start(move || send_all(&mut p.raw, MESSAGES));
            let heard = hear_to_the_end(&mut p.server, p.at_server, hold);
            assert!(heard.messages.into_iter().eq(0..MESSAGES));
            sender.join("sending");
            // One that holds nothing back keeps up with even this pool.
            assert!(hold == 1 || engine.metrics().pool_empty > 0);
            assert_eq!(engine.metrics().pool_messages_out, 0);
        });
    }
}

/// Everything is in our kernel, and the peer gone, before the application reads the first message.
#[test]
fn an_application_that_comes_late_misses_nothing() {
    over_both(|address| {
        let engine = engine_with(Options::default().pool_messages(1, 4));
        let mut p = raw_pair(&engine, address);
        send_all(&mut p.raw, 100);
        drop(p.raw);
        eventually("the pool is empty", || {
            engine.metrics().pool_messages_out == 4
        });
        assert_eq!(engine.metrics().channels_open, 2, "it is not over yet");
        let heard = hear_to_the_end(&mut p.server, p.at_server, 2);
        assert!(heard.messages.into_iter().eq(0..100));
    });
}

/// The peer has not read what we sent: its kernel answers our data with a reset.
#[test]
fn a_peer_that_did_not_read_its_own_mail_is_heard_to_the_end() {
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        p.server.post(Message::request(p.at_server)).unwrap();
        eventually("the request has left", || {
            engine.metrics().queued_bytes == 0
        });
        send_all(&mut p.raw, 100);
        drop(p.raw);
        let heard = hear_to_the_end(&mut p.server, p.at_server, 1);
        assert!(heard.messages.into_iter().eq(0..100));
    });
}

#[test]
fn a_reset_takes_nothing_back_that_our_kernel_had() {
    let engine = engine();
    let mut p = raw_pair(&engine, &loopback());
    send_all(&mut p.raw, 100);
    p.raw.reset();
    let heard = hear_to_the_end(&mut p.server, p.at_server, 1);
    assert!(heard.messages.into_iter().eq(0..100));
}

#[test]
fn a_reset_takes_nothing_back_while_the_pool_is_empty() {
    let engine = engine_with(Options::default().pool_messages(1, 1));
    let mut p = raw_pair(&engine, &loopback());
    send_all(&mut p.raw, 100);
    p.raw.reset();
    let heard = hear_to_the_end(&mut p.server, p.at_server, 1);
    assert!(heard.messages.into_iter().eq(0..100));
}

/// The first write after the peer's end may pass; those behind it fail, on either transport.
#[test]
fn a_write_that_fails_meanwhile_does_not_cut_off_what_came_before() {
    for pool in [1, 1_024] {
        over_both(|address| {
            let engine = engine_with(Options::default().pool_messages(1, pool));
            let mut p = raw_pair(&engine, address);
            send_all(&mut p.raw, 100);
            drop(p.raw);
            let mut posted = 0;
            while posted < 50 {
                let message = numbered(p.at_server, posted, 5_000);
                match p.server.post(message) {
                    Ok(_) => posted += 1,
                    // The engine has read to the end already.
                    Err(refused) => {
                        assert_eq!(refused.refusal().status(), Status::INVALID_CHANNEL_NUMBER);
                        break;
                    }
                }
            }
            let heard = hear_to_the_end(&mut p.server, p.at_server, 1);
            assert!(heard.messages.into_iter().eq(0..100));
            let first = posted - heard.returned.len();
            assert!(heard.returned.into_iter().eq(first..posted));
        });
    }
}

/// In the original the later ones vanish, and a partly sent one has its id byte-swapped.
#[test]
fn what_was_queued_comes_back_behind_what_was_received_and_before_the_end() {
    over_both(|address| {
        let engine = engine();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let mut raw = Raw::hello_narrow(&address);
        let channel = message_of(&mut server, OpCode::HelloRequest).channel();
        // The system takes some more when the peer reads.
        let posted = post_until_queued(&server, channel, &engine, 2 << 20);
        send_all(&mut raw, 100);
        // It reads the beginning of a message, so that this one is partly sent.
        raw.take(30_000);
        drop(raw);
        let heard = hear_to_the_end(&mut server, channel, 1);
        assert!(heard.messages.into_iter().eq(0..100));
        let first = posted - heard.returned.len();
        assert!(heard.returned.len() >= (1 << 20) / 60_024);
        assert!(heard.returned.into_iter().eq(first..posted));
        assert_eq!(engine.metrics().queued_bytes, 0);
    });
}

#[test]
fn an_end_within_a_frame_keeps_the_whole_ones() {
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        send_all(&mut p.raw, 10);
        let cut = frame(&numbered(ChannelNumber::new(1), 10, 1_000));
        p.raw.write(&cut[..500]);
        drop(p.raw);
        let heard = hear_to_the_end(&mut p.server, p.at_server, 1);
        assert!(heard.messages.into_iter().eq(0..10));
    });
}

/// A peer that only ends its own direction is gone as well: here nobody speaks in one direction.
#[test]
fn half_an_end_is_an_end() {
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        send_all(&mut p.raw, 100);
        p.raw.socket().shutdown(Shutdown::Write).unwrap();
        let heard = hear_to_the_end(&mut p.server, p.at_server, 1);
        assert!(heard.messages.into_iter().eq(0..100));
        assert_eq!(p.raw.read_to_end(), b"");
    });
}

#[test]
fn every_one_of_many_peers_is_heard_to_the_end() {
    over_both(|address| {
        let engine = engine_with(Options::default().pool_messages(1, 8));
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        for _ in 0..20 {
            let mut raw = Raw::hello(&address);
            send_all(&mut raw, 50);
        }
        let mut counts = std::collections::HashMap::new();
        for _ in 0..20 * 52 {
            match next_of_channel(&mut server) {
                Event::Message(message) if message.op_code() == OpCode::HelloRequest => {
                    assert_eq!(counts.insert(message.channel(), 0), None);
                }
                Event::Message(message) => {
                    let count = counts.get_mut(&message.channel()).unwrap();
                    assert_eq!(number_of(&message), *count);
                    *count += 1;
                }
                Event::Closed { channel, .. } => assert_eq!(counts[&channel], 50),
                other => panic!("not due: {other:?}"),
            }
        }
        silent(&mut server);
        assert_eq!(counts.len(), 20);
    });
}

/// Set in the process that is to crash: the address of the server.
const CRASH: &str = "TOFU_TEST_CRASH_AT";

/// The other process sends without looking back, and crashes. Its kernel closes what it had open.
#[test]
fn a_crash_takes_nothing_back() {
    if let Ok(address) = env::var(CRASH) {
        crash(&address.parse().unwrap());
    }
    over_both(|address| {
        let engine = engine();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let status = Command::new(env::current_exe().unwrap())
            .args(["--exact", "a_crash_takes_nothing_back", "--nocapture"])
            .env(CRASH, address.to_string())
            .env("RUST_BACKTRACE", "0")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), None, "it was ended by a signal");
        let channel = message_of(&mut server, OpCode::HelloRequest).channel();
        let heard = hear_to_the_end(&mut server, channel, 1);
        assert!(heard.messages.into_iter().eq(0..100));
    });
}

fn crash(address: &Address) -> ! {
    let mut raw = Raw::hello(address);
    send_all(&mut raw, 100);
    let _ = std::io::stdout().flush();
    std::process::abort()
}

/// The peer is an engine whose group closes at once: what its kernel had not passed on is lost, but
/// what came is in order and without a gap.
#[test]
fn what_came_before_an_engines_hard_close_is_delivered() {
    over_both(|address| {
        let (servers, clients) = (engine(), engine());
        let mut p = pair_between(&servers, &clients, address);
        for number in 0..1_000 {
            p.client.post(numbered(p.at_client, number, 10)).unwrap();
        }
        eventually("some have come", || {
            servers.metrics().pool_messages_out >= 10
        });
        p.client.abort();
        let heard = hear_to_the_end(&mut p.server, p.at_server, 1);
        assert!(heard.messages.len() >= 10);
        assert!(heard.messages.iter().copied().eq(0..heard.messages.len()));
    });
}
