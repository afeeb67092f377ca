//! Peers that mean harm beside one that does not: it gets its answers, and nothing is left of the others.
//!
//! What is done about a single offence is in `bad_input`, `opening` and `backpressure`. Twenty thousand at
//! once are a trial (`hostile` in tofu-trials).

mod support;

use std::time::Duration;

use support::*;
use tofu::{Address, ChannelGroup, ChannelNumber, Engine, Event, Header, Message, OpCode, Options};

/// Text headers in the largest message that has nothing else.
const HEADERS: usize = 65_535 / 5;

/// A request with as many text headers as fit.
fn bomb() -> Vec<u8> {
    let mut bytes = frame(&Message::request(ChannelNumber::new(1)).with_id(2));
    let text: Vec<u8> = b"a:b\r\n"
        .iter()
        .copied()
        .cycle()
        .take(HEADERS * 5)
        .collect();
    let len = u16::try_from(text.len()).expect("it fits");
    bytes[12..14].copy_from_slice(&len.to_be_bytes());
    bytes.extend(text);
    bytes
}

#[test]
fn a_message_of_nothing_but_headers_is_a_message() {
    over_both(|address| {
        let engine = engine();
        let mut p = raw_pair(&engine, address);
        p.raw.write(&bomb());
        let heard = message_of(&mut p.server, OpCode::Request);
        assert_eq!(heard.text_headers().iter().count(), HEADERS);
        assert_eq!(heard.header("a"), Some("b"));
        assert_eq!(heard.header("none"), None);
    });
}

/// Answers requests with 10,000 bytes until it is notified.
fn serve(mut group: ChannelGroup) -> ChannelGroup {
    loop {
        match next(&mut group) {
            Event::Notified(_) => return group,
            Event::Message(message) => {
                if let Ok(answer) = message.into_reply() {
                    // A peer that does not read, or is gone, misses it.
                    let _ = group.post(answer.with_body([b'x'; 10_000]));
                }
            }
            _ => {}
        }
    }
}

/// Peers of each kind. Those that stay are given back; the flooder writes until it is thrown out.
fn hostile_peers(address: &Address) -> (Vec<Raw>, Watched<()>) {
    let hello = frame(&Message::hello_request(address).with_id(1));
    let mut announcement = frame(&Message::request(ChannelNumber::new(1)).with_id(3));
    announcement[12..].fill(0xFF);
    let request = frame(&Message::request(ChannelNumber::new(1)).with_id(4));
    let signal = frame(&Message::signal(ChannelNumber::new(1)).with_body([1; 1_000]));
    let scripts = [
        // Half a hello, and no more.
        hello[..Header::LEN + 3].to_vec(),
        // A frame that is announced, and one that is begun.
        [&hello[..], &announcement].concat(),
        [&hello[..], &announcement, &[b'x'; 1_000]].concat(),
        // Other protocols, and none.
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            &[0x5A; 500],
        ]
        .concat(),
        (1_u32..500)
            .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1])
            .collect(),
        // Text headers, and no end of them.
        [&hello[..], &bomb(), &bomb()].concat(),
        // Questions, and no ear for the answers.
        [&hello[..], &request.repeat(1_000)].concat(),
    ];
    let mut peers = Vec::new();
    for script in &scripts {
        let mut raw = Raw::connect(address);
        // Some are thrown out before they have said it all.
        let _ = raw.try_write(script);
        peers.push(raw);
    }
    // Connections and nothing else.
    for _ in 0..50 {
        drop(Raw::connect(address));
    }
    let mut raw = Raw::hello(address);
    let flooder = Watched::start(move || while raw.try_write(&signal.repeat(60)).is_ok() {});
    (peers, flooder)
}

#[test]
fn an_honest_client_gets_its_answers_beside_hostile_peers_of_every_kind() {
    over_both(|address| {
        let options = Options::default()
            .pool_messages(4, 64)
            .queue_bytes(256 * 1024, 1 << 20)
            // What stays in its way until the end, for which the flooder waits.
            .hello_timeout(WATCHDOG * 2)
            .frame_timeout(WATCHDOG * 2);
        let servers = Engine::new(options).expect("an engine");
        let mut p = pair_between(&servers, &engine(), address);
        let poster = p.server.poster();
        let serving = Watched::start(move || serve(p.server));
        let (peers, flooder) = hostile_peers(&p.address);
        for id in 1..=300_u64 {
            let request = Message::request(p.at_client)
                .with_id(id)
                .with_body([7; 100]);
            p.client.post(request).expect("posted");
            let answer = message_of(&mut p.client, OpCode::Response);
            assert_eq!((answer.id().get(), answer.body().len()), (id, 10_000));
        }
        let metrics = servers.metrics();
        assert!(metrics.queued_bytes <= 1 << 20, "{metrics:?}");
        assert!(metrics.pool_messages_out <= 64, "{metrics:?}");
        assert!(metrics.half_open <= 5, "{metrics:?}");
        poster.notify(None);
        serving.join("serving").abort();
        flooder.join("flooding");
        drop(peers);
        eventually("nothing is left", || {
            let metrics = servers.metrics();
            metrics.channels_open == 0 && metrics.half_open == 0 && metrics.queued_bytes == 0
        });
        assert!(matches!(
            p.client.recv_timeout(WATCHDOG),
            Ok(Some(Event::Closed { .. }))
        ));
        assert!(matches!(p.client.recv_timeout(Duration::ZERO), Ok(None)));
    });
}
