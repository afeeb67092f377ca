//! What a peer may send that it should not: each with its event, its status, its violation and its
//! counter. Raw peers write the bytes.

mod support;

use std::{
    fs,
    time::{Duration, Instant},
};

use support::*;
use tofu::{
    ChannelGroup, ChannelNumber, Engine, Event, Header, Message, Metrics, OpCode, Options, Origin,
    Status, Violation,
};

/// Short, for timeouts under test.
const SHORT: Duration = Duration::from_millis(80);

type Counter = fn(&Metrics) -> u64;

/// Something against the protocol: the bytes, and what is said of them.
struct Offence {
    bytes: Vec<u8>,
    violation: Violation,
    counter: Counter,
}

impl Offence {
    fn new(bytes: Vec<u8>, violation: Violation, counter: Counter) -> Self {
        Self {
            bytes,
            violation,
            counter,
        }
    }
}

/// A frame with this proto byte and message id, and nothing else in it.
fn bare(proto: u8, id: u8) -> Vec<u8> {
    let mut bytes = vec![0; Header::LEN];
    bytes[2] = proto;
    bytes[11] = id;
    bytes
}

const ORIGIN_BIT: u8 = 0b0001_0000;
const MORE_BIT: u8 = 0b0010_0000;

/// What is against the protocol from either side, at any time behind the hello.
fn offences_of_both_sides() -> Vec<Offence> {
    let mut all = Vec::new();
    for code in 10..=15 {
        let violation = Violation::UnassignedOpCode(code);
        all.push(Offence::new(bare(code, 1), violation, |m| {
            m.unassigned_op_codes
        }));
    }
    for op_code in OpCode::ALL {
        let code = op_code.code();
        if op_code.travels() {
            let violation = Violation::EngineOrigin(op_code);
            all.push(Offence::new(bare(code | ORIGIN_BIT, 1), violation, |m| {
                m.engine_origins
            }));
        } else {
            // Whoever it says made it.
            for origin in [0, ORIGIN_BIT] {
                let violation = Violation::LocalOpCode(op_code);
                all.push(Offence::new(bare(code | origin, 1), violation, |m| {
                    m.local_op_codes
                }));
            }
        }
    }
    for op_code in [OpCode::Response, OpCode::HelloResponse, OpCode::ByeResponse] {
        let violation = Violation::ResponseWithoutId(op_code);
        all.push(Offence::new(bare(op_code.code(), 0), violation, |m| {
            m.responses_without_id
        }));
    }
    for op_code in [
        OpCode::HelloRequest,
        OpCode::HelloResponse,
        OpCode::ByeRequest,
        OpCode::ByeResponse,
    ] {
        let violation = Violation::MoreNotAllowed(op_code);
        all.push(Offence::new(
            bare(op_code.code() | MORE_BIT, 1),
            violation,
            |m| m.misplaced_more,
        ));
    }
    let op_code = OpCode::HelloRequest;
    let violation = Violation::UnexpectedHello(op_code);
    all.push(Offence::new(bare(op_code.code(), 2), violation, |m| {
        m.misplaced_hellos
    }));
    all.push(Offence::new(
        bare(OpCode::ByeResponse.code(), 1),
        Violation::UnexpectedByeResponse,
        |m| m.misplaced_byes,
    ));
    all
}

/// Checks that the channel ended for this, and that it was counted once.
#[track_caller]
fn convicted(
    engine: &Engine,
    group: &mut ChannelGroup,
    channel: ChannelNumber,
    offence: &Offence,
    before: &Metrics,
) {
    let reason = closed_with(group, channel, Status::PROTOCOL_VIOLATION);
    assert_eq!(reason.violation(), Some(offence.violation));
    assert_eq!(reason.os_error().map(|error| error.kind()), None);
    let told = reason.to_string();
    assert!(told.contains(&offence.violation.to_string()), "{told}");
    counted_once(engine, offence, before);
}

#[track_caller]
fn counted_once(engine: &Engine, offence: &Offence, before: &Metrics) {
    let metrics = engine.metrics();
    assert_eq!((offence.counter)(&metrics), (offence.counter)(before) + 1);
    assert_eq!(metrics.violations(), before.violations() + 1);
}

/// In the original, op codes 7 to 15 and forged engine messages reach the application.
#[test]
fn a_client_that_breaks_the_protocol_is_closed() {
    over_both(|address| {
        let engine = engine();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let mut offences = offences_of_both_sides();
        let op_code = OpCode::HelloResponse;
        let violation = Violation::UnexpectedHello(op_code);
        offences.push(Offence::new(bare(op_code.code(), 1), violation, |m| {
            m.misplaced_hellos
        }));
        for offence in &offences {
            let before = engine.metrics();
            let mut raw = Raw::hello(&address);
            let channel = message_of(&mut server, OpCode::HelloRequest).channel();
            raw.write(&offence.bytes);
            convicted(&engine, &mut server, channel, offence, &before);
            assert!(raw.read_to_end().is_empty());
        }
        assert_eq!(engine.metrics().channels_open, 1);
    });
}

#[test]
fn a_server_that_breaks_the_protocol_is_closed() {
    over_both(|address| {
        let engine = engine();
        let mut client = engine.group().unwrap();
        let (listener, address) = RawListener::bind(address);
        for offence in &offences_of_both_sides() {
            let before = engine.metrics();
            let channel = client
                .post(Message::hello_request(&address))
                .unwrap()
                .channel;
            let mut raw = listener.accept();
            assert_eq!(raw.recv().op_code(), OpCode::HelloRequest);
            raw.write(&offence.bytes);
            convicted(&engine, &mut client, channel, offence, &before);
            assert!(raw.read_to_end().is_empty());
        }
        assert_eq!(engine.metrics().channels_open, 0);
        if let Some(path) = address.path() {
            fs::remove_file(path).unwrap();
        }
    });
}

#[test]
fn a_server_answers_a_hello_once() {
    let engine = engine();
    let mut client = engine.group().unwrap();
    let (listener, address) = RawListener::bind(&loopback());
    let before = engine.metrics();
    let channel = client
        .post(Message::hello_request(&address))
        .unwrap()
        .channel;
    let mut raw = listener.accept();
    let op_code = OpCode::HelloResponse;
    raw.write(&bare(op_code.code(), 1));
    message_of(&mut client, op_code);
    let violation = Violation::UnexpectedHello(op_code);
    let again = Offence::new(bare(op_code.code(), 1), violation, |m| m.misplaced_hellos);
    raw.write(&again.bytes);
    convicted(&engine, &mut client, channel, &again, &before);
}

/// In the original the application hears of the end of what it never knew.
#[test]
fn who_does_not_begin_with_hello_is_closed_without_an_event() {
    over_both(|address| {
        let engine = engine();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let mut offences: Vec<_> = offences_of_both_sides()
            .into_iter()
            .filter(|offence| {
                !matches!(
                    offence.violation,
                    Violation::UnexpectedHello(_) | Violation::UnexpectedByeResponse
                )
            })
            .collect();
        for op_code in OpCode::ALL {
            if op_code.travels() && op_code != OpCode::HelloRequest {
                let violation = Violation::HelloExpected(op_code);
                offences.push(Offence::new(bare(op_code.code(), 1), violation, |m| {
                    m.misplaced_hellos
                }));
            }
        }
        for offence in &offences {
            let before = engine.metrics();
            let mut raw = Raw::connect(&address);
            raw.write(&offence.bytes);
            assert!(raw.read_to_end().is_empty());
            eventually("its channel is gone", || {
                engine.metrics().channels_open == 1
            });
            eventually("it is counted", || {
                engine.metrics().violations() > before.violations()
            });
            counted_once(&engine, offence, &before);
        }
        eventually("none is half-open", || engine.metrics().half_open == 0);
        quiet(&mut server);
    });
}

#[test]
fn behind_a_bye_a_peer_has_nothing_more_to_say() {
    over_both(|address| {
        let engine = engine();
        for op_code in [
            OpCode::Request,
            OpCode::Response,
            OpCode::Signal,
            OpCode::ByeRequest,
        ] {
            let mut p = raw_pair(&engine, address);
            let before = engine.metrics();
            p.raw.write(&bare(OpCode::ByeRequest.code(), 1));
            message_of(&mut p.server, OpCode::ByeRequest);
            let violation = Violation::AfterBye(op_code);
            let offence = Offence::new(bare(op_code.code(), 1), violation, |m| m.misplaced_byes);
            p.raw.write(&offence.bytes);
            convicted(&engine, &mut p.server, p.at_server, &offence, &before);
        }
    });
}

/// The answer to a bye that is still queued here: nobody can have read the question.
#[test]
fn an_answer_that_overtakes_its_question_is_none() {
    over_both(|address| {
        let engine = Engine::new(Options::default().queue_bytes(1 << 20, 1 << 20)).unwrap();
        let mut p = raw_pair(&engine, address);
        let message = Message::signal(p.at_server).with_body(vec![0; 60_000]);
        while p.server.post(message.clone()).is_ok() {}
        p.server.post(Message::bye_request(p.at_server)).unwrap();
        p.raw.write(&bare(OpCode::ByeResponse.code(), 1));
        loop {
            match next_but_drained(&mut p.server) {
                Event::Returned { .. } => {}
                Event::Closed { reason, .. } => {
                    let violation = reason.violation();
                    assert_eq!(violation, Some(Violation::UnexpectedByeResponse));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn what_came_before_an_offence_is_delivered_first() {
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        let mut bytes = Vec::new();
        for id in 1..=200 {
            let good = Message::request(ChannelNumber::UNASSIGNED)
                .with_id(id)
                .with_body([b'g'; 900]);
            bytes.extend(frame(&good));
        }
        bytes.extend(bare(15, 0));
        bytes.extend(bare(OpCode::Signal.code(), 0));
        p.raw.write(&bytes);
        for id in 1..=200 {
            assert_eq!(message_of(&mut p.server, OpCode::Request).id().get(), id);
        }
        closed_with(&mut p.server, p.at_server, Status::PROTOCOL_VIOLATION);
        quiet(&mut p.server);
    });
}

#[test]
fn status_internal_bits_and_channel_number_of_a_peer_mean_nothing() {
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        for (status, internal) in [(1, 0), (17, 0b01), (73, 0b10), (200, 0b11), (255, 0b11)] {
            let mut bytes = bare(OpCode::Signal.code() | internal << 6, 9);
            bytes[3] = status;
            bytes[..2].fill(0xAB);
            p.raw.write(&bytes);
            let heard = message_of(&mut p.server, OpCode::Signal);
            assert_eq!(heard.status(), Status::SUCCESS);
            assert_eq!(heard.origin(), Origin::Application);
            assert_eq!(heard.channel(), p.at_server);
            assert_eq!(heard.id().get(), 9);
            let echo = heard.into_reply().unwrap();
            p.server.post(echo).unwrap();
            let mut clean = bare(OpCode::Signal.code(), 9);
            clean[..2].copy_from_slice(&p.at_server.get().to_be_bytes());
            assert_eq!(p.raw.take(Header::LEN), clean);
        }
    });
}

/// Frames of every kind of length.
fn samples() -> Vec<Message> {
    let channel = ChannelNumber::new(7);
    vec![
        Message::signal(channel).with_id(1),
        Message::request(channel).with_id(2).with_body("b"),
        Message::request(channel).with_id(3).with_header("n", "v"),
        Message::request(channel)
            .with_id(u64::MAX)
            .with_more(true)
            .with_header("name", "value")
            .with_header("name", "another")
            .with_body("a body of some length"),
    ]
}

#[track_caller]
fn same(heard: &Message, sent: &Message, channel: ChannelNumber) {
    assert_eq!(heard, &sent.clone().with_channel(channel));
}

#[test]
fn frames_in_single_bytes_arrive_whole() {
    over_both(|address| {
        let engine = engine();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let mut raw = Raw::connect(&address);
        let hello = Message::hello_request(&address).with_id(1);
        for byte in frame(&hello) {
            raw.write(&[byte]);
        }
        let heard = message_of(&mut server, OpCode::HelloRequest);
        let channel = heard.channel();
        same(&heard, &hello, channel);
        let samples = samples();
        for byte in samples.iter().flat_map(frame) {
            raw.write(&[byte]);
        }
        for sent in &samples {
            same(&message(&mut server), sent, channel);
        }
    });
}

#[test]
fn frames_split_at_every_byte_arrive_whole() {
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        let samples = samples();
        let bytes: Vec<u8> = samples.iter().flat_map(frame).collect();
        for at in 1..bytes.len() {
            p.raw.write(&bytes[..at]);
            // The server turns once in between, and most of the time has read the first part.
            assert!(p.server.try_recv().is_ok_and(|event| {
                event.is_none_or(|event| {
                    p.server.notify(match event {
                        Event::Message(message) => Some(message),
                        other => panic!("{other:?}"),
                    });
                    true
                })
            }));
            p.raw.write(&bytes[at..]);
            let mut heard: Vec<_> = (0..samples.len())
                .map(|_| match next(&mut p.server) {
                    Event::Message(message) | Event::Notified(Some(message)) => message,
                    other => panic!("{other:?}"),
                })
                .collect();
            heard.sort_by_key(Message::id);
            for (heard, sent) in heard.iter().zip(&samples) {
                same(heard, sent, p.at_server);
            }
        }
    });
}

#[test]
fn the_largest_frame_is_legal() {
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        // Bytes that are no text at all.
        let noise: Vec<u8> = (0..=u8::MAX).cycle().take(2 * 65_535).collect();
        let mut bytes = bare(OpCode::Request.code(), 3);
        bytes[12..].fill(0xFF);
        bytes.extend(&noise);
        for _ in 0..3 {
            p.raw.write(&bytes);
            let heard = message_of(&mut p.server, OpCode::Request);
            assert_eq!(heard.text_headers().as_bytes(), &noise[..65_535]);
            assert_eq!(heard.body(), &noise[65_535..]);
            p.server.post(heard.into_reply().unwrap()).unwrap();
            assert_eq!(p.raw.take(bytes.len())[Header::LEN..], noise);
        }
    });
}

#[test]
fn what_is_announced_and_not_sent_holds_no_message() {
    over_both(|address| {
        let engine = Engine::new(Options::default().pool_messages(0, 2)).unwrap();
        let mut p = raw_pair(&engine, address);
        let mut announcement = bare(OpCode::Request.code(), 3);
        announcement[12..].fill(0xFF);
        let mut raws = Vec::new();
        for _ in 0..20 {
            let mut raw = Raw::hello(&p.address);
            message_of(&mut p.server, OpCode::HelloRequest);
            raw.write(&announcement);
            raws.push(raw);
        }
        p.raw.write(&bare(OpCode::Signal.code(), 3));
        message_of(&mut p.server, OpCode::Signal);
        assert_eq!(engine.metrics().pool_messages_out, 0);
    });
}

/// Alone in its process, so that only this test moves its memory.
#[cfg(target_os = "linux")]
#[test]
fn memory_grows_with_what_has_arrived_and_not_with_what_was_announced() {
    const PEERS: usize = 400;
    let test = "memory_grows_with_what_has_arrived_and_not_with_what_was_announced";
    if !in_own_process(test, |program| std::process::Command::new(program)) {
        return;
    }
    let data_kib = || -> usize {
        let status = fs::read_to_string("/proc/self/status").expect("readable");
        let line = status.lines().find(|line| line.starts_with("VmData"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.and_then(|n| n.parse().ok()).expect("a number")
    };
    let engine = engine();
    let mut p = raw_pair(&engine, &loopback());
    let mut announcement = bare(OpCode::Request.code(), 3);
    announcement[12..].fill(0xFF);
    announcement.push(0);
    let before = data_kib();
    let mut raws = Vec::new();
    for _ in 0..PEERS {
        let mut raw = Raw::hello(&p.address);
        message_of(&mut p.server, OpCode::HelloRequest);
        raw.write(&announcement);
        raws.push(raw);
    }
    quiet(&mut p.server);
    let grown = data_kib() - before;
    assert!(grown < PEERS * 8, "{grown} KiB for {PEERS} peers");

    // Nor is it kept of a large frame for the first bytes of the next one.
    let large = frame(&Message::signal(p.at_server).with_body(vec![0; Message::BODY_MAX]));
    let large_and_announcement = [large, announcement].concat();
    let before = data_kib();
    for _ in 0..PEERS {
        let mut raw = Raw::hello(&p.address);
        message_of(&mut p.server, OpCode::HelloRequest);
        raw.write(&large_and_announcement);
        message_of(&mut p.server, OpCode::Signal);
        raws.push(raw);
    }
    quiet(&mut p.server);
    let grown = data_kib().saturating_sub(before);
    assert!(grown < PEERS * 8, "{grown} KiB for {PEERS} peers");
}

/// The original waits for ever.
#[test]
fn a_frame_that_does_not_go_on_ends_the_channel() {
    over_both(|address| {
        let engine = Engine::new(Options::default().frame_timeout(SHORT)).unwrap();
        let whole = frame(&samples()[3]);
        for (count, begun) in (1..).zip([1, Header::LEN - 1, Header::LEN, whole.len() - 1]) {
            let mut p = raw_pair(&engine, address);
            p.raw.write(&whole);
            message_of(&mut p.server, OpCode::Request);
            let started = Instant::now();
            p.raw.write(&whole[..begun]);
            closed_with(&mut p.server, p.at_server, Status::FRAME_TIMEOUT);
            assert!(started.elapsed() >= SHORT);
            assert_eq!(engine.metrics().frame_timeouts, count);
            assert!(p.raw.read_to_end().is_empty());
        }
    });
}

#[test]
fn between_two_frames_there_is_all_the_time_in_the_world() {
    over_both(|address| {
        let engine = Engine::new(Options::default().frame_timeout(SHORT)).unwrap();
        let mut p = raw_pair(&engine, address);
        for sent in &samples() {
            p.raw.send(sent);
            same(&message(&mut p.server), sent, p.at_server);
            assert!(matches!(p.server.recv_timeout(SHORT * 2), Ok(None)));
        }
    });
}

#[test]
fn a_frame_that_goes_on_slowly_arrives() {
    let timeout = SHORT * 6;
    let engine = Engine::new(Options::default().frame_timeout(timeout)).unwrap();
    let mut p = raw_pair(&engine, &loopback());
    let sent = &samples()[3];
    let bytes = frame(sent);
    let (most, last) = bytes.split_at(8);
    for byte in most {
        p.raw.write(&[*byte]);
        // Eight of these are longer than the timeout, each is much shorter.
        assert!(matches!(p.server.recv_timeout(SHORT), Ok(None)));
    }
    p.raw.write(last);
    same(&message(&mut p.server), sent, p.at_server);
}

#[test]
fn speakers_of_other_protocols_are_shown_out() {
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n".to_vec();
    let mut tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    tls.extend([0x5A; 500]);
    let ssh = b"SSH-2.0-OpenSSH_9.6\r\n".to_vec();
    let garbage: Vec<u8> = (1_u32..2_000)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    over_both(|address| {
        let options = Options::default().hello_timeout(SHORT).frame_timeout(SHORT);
        let engine = Engine::new(options).unwrap();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        for bytes in [&http, &tls, &ssh, &garbage, &vec![0; 40], &vec![0xFF; 40]] {
            let mut raw = Raw::connect(&address);
            raw.write(bytes);
            assert!(raw.read_to_end().is_empty(), "nothing is said to them");
        }
        let _raw = Raw::hello(&address);
        message_of(&mut server, OpCode::HelloRequest);
        quiet(&mut server);
        assert_eq!(engine.metrics().half_open, 0);
    });
}

/// Peers that come and go leave nothing behind: after 65,534 of them the original spins for ever.
#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    over_both(|address| {
        // What has come and gone between two turns is still open.
        let options = Options::default().channels_max(500).half_open_max(500);
        let engine = Engine::new(options).unwrap();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let rounds = if address.path().is_some() {
            70_000
        } else {
            2_000
        };
        let mut highest = 0;
        for round in 1..=rounds {
            drop(Raw::connect(&address));
            if round % 1_000 == 0 {
                let connections = round + round / 1_000 - 1;
                eventually("all are accepted and closed", || {
                    let metrics = engine.metrics();
                    metrics.accepted == connections && metrics.channels_open == 1
                });
                let raw = Raw::hello(&address);
                let channel = message_of(&mut server, OpCode::HelloRequest).channel();
                highest = highest.max(channel.get());
                drop(raw);
                closed_with(&mut server, channel, Status::PEER_DISCONNECTED);
            }
        }
        eventually("all is given back", || {
            let metrics = engine.metrics();
            metrics.channels_open == 1 && metrics.half_open == 0
        });
        let metrics = engine.metrics();
        assert_eq!(metrics.refused_half_open + metrics.refused_channels, 0);
        assert_eq!(metrics.pool_messages_out, 0);
        assert!(highest < 2_000, "numbers come back: {highest}");
    });
}
