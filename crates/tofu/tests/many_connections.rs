//! Connections come and go by the thousand: their numbers come back, but not soon, and nothing
//! leaks. After 65,534 the original spins for ever; `examples/churn.rs` goes far beyond.

#![cfg(target_os = "linux")]

mod support;

use std::{
    collections::{HashSet, VecDeque},
    fs,
    sync::{Mutex, PoisonError},
    thread,
};

use support::*;
use tofu::{ChannelGroup, ChannelNumber, Event, Message, OpCode, Options, Status};

const CONNECTIONS: usize = 5_000;
/// Raw peers that are there at the same time.
const BATCH: usize = 50;
/// Closings for which a number rests.
const QUARANTINE: usize = 1_024;

/// Descriptors belong to the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// How many there are to stay: for a moment there may be more, as of a thread that ends.
fn descriptors() -> usize {
    let looks = (0..100).map(|_| {
        thread::yield_now();
        fs::read_dir("/proc/self/fd").expect("Linux").count()
    });
    looks.min().expect("a hundred")
}

/// What a raw peer says before it goes.
#[derive(Clone, Copy)]
enum Manner {
    Silent,
    HalfOfHello,
    Hello,
    HelloAndHalfOfMore,
    HelloAndBye,
}

const MANNERS: [Manner; 5] = [
    Manner::Silent,
    Manner::HalfOfHello,
    Manner::Hello,
    Manner::HelloAndHalfOfMore,
    Manner::HelloAndBye,
];

/// Speaks, and gives whether the server's application will hear of it.
fn speak(raw: &mut Raw, manner: Manner, hello: &[u8]) -> bool {
    let mut bytes = hello.to_vec();
    match manner {
        Manner::Silent => bytes.clear(),
        Manner::HalfOfHello => bytes.truncate(hello.len() / 2),
        Manner::Hello => {}
        Manner::HelloAndHalfOfMore => bytes.extend([0, 1, 2]),
        Manner::HelloAndBye => {
            let bye = Message::bye_request(ChannelNumber::new(1)).with_id(2);
            bytes.extend(frame(&bye));
        }
    }
    raw.write(&bytes);
    bytes.len() >= hello.len()
}

/// The server's application, until this many channels were closed. Those in `open` are open.
fn serve(group: &mut ChannelGroup, open: &mut HashSet<ChannelNumber>, mut closings: usize) {
    while closings > 0 {
        match next(group) {
            Event::Message(message) if message.op_code() == OpCode::HelloRequest => {
                assert!(open.insert(message.channel()), "it is taken");
            }
            Event::Message(bye) => {
                // The peer may be gone already.
                let _ = group.post(bye.into_reply().expect("a bye"));
            }
            Event::Returned { .. } => {}
            Event::Closed { channel, .. } => {
                assert!(open.remove(&channel), "it was closed already");
                closings -= 1;
            }
            other => panic!("not due: {other:?}"),
        }
    }
}

#[test]
fn thousands_of_connections_leave_nothing_behind() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    over_both(|address| {
        let before = descriptors();
        let engine = engine_with(Options::default().pool_messages(16, 256));
        let mut server = engine.group().unwrap();
        let (address, listener) = listen(&mut server, address);
        let at_rest = descriptors();
        let hello = frame(&Message::hello_request(&address).with_id(1));
        let mut open = HashSet::new();
        for round in 0..CONNECTIONS / BATCH {
            let mut peers = Vec::new();
            let mut closings = 0;
            for nth in 0..BATCH {
                let mut raw = Raw::connect(&address);
                let manner = MANNERS[(round + nth) % MANNERS.len()];
                closings += usize::from(speak(&mut raw, manner, &hello));
                peers.push(raw);
            }
            // Some go before they are accepted, some after; with a reset, so that the system keeps
            // no port for any of them.
            if round.is_multiple_of(2) {
                eventually("all are accepted", || {
                    engine.metrics().accepted == ((round + 1) * BATCH) as u64
                });
            }
            peers.into_iter().for_each(Raw::reset);
            serve(&mut server, &mut open, closings);
        }
        eventually("all are closed", || engine.metrics().channels_open == 1);
        silent(&mut server);
        let metrics = engine.metrics();
        assert_eq!(metrics.accepted, CONNECTIONS as u64);
        assert_eq!((metrics.half_open, metrics.pool_messages_out), (0, 0));
        assert_eq!(metrics.queued_bytes, 0);
        assert_eq!(descriptors(), at_rest);

        // The server is as good as new.
        let mut raw = Raw::hello(&address);
        let hello = message_of(&mut server, OpCode::HelloRequest);
        server.post(hello.into_reply().unwrap()).unwrap();
        assert_eq!(raw.recv().op_code(), OpCode::HelloResponse);
        server.post(Message::bye_request(listener)).unwrap();
        closed_with(&mut server, listener, Status::CHANNEL_CLOSED);
        drop(raw);
        drop(server);
        watched("dropping the engine", || drop(engine));
        assert_eq!(descriptors(), before);
    });
}

/// The numbers of one engine, as they are opened and closed.
#[derive(Default)]
struct Book {
    rest: VecDeque<ChannelNumber>,
    highest: u16,
}

impl Book {
    fn open(&mut self, number: ChannelNumber) {
        assert!(!self.rest.contains(&number), "{number} rests");
        self.highest = self.highest.max(number.get());
    }

    fn close(&mut self, number: ChannelNumber) {
        self.rest.push_back(number);
        if self.rest.len() > QUARANTINE {
            self.rest.pop_front();
        }
    }
}

#[test]
fn a_number_comes_back_but_not_within_1024_closings() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    over_both(|address| {
        let (servers, clients) = (engine(), engine());
        let mut server = servers.group().unwrap();
        let mut client = clients.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let (mut at_server, mut at_client) = (Book::default(), Book::default());
        for nth in 0..3 * QUARANTINE {
            let channel = client
                .post(Message::hello_request(&address))
                .unwrap()
                .channel;
            at_client.open(channel);
            let hello = message_of(&mut server, OpCode::HelloRequest);
            at_server.open(hello.channel());
            // Either side closes.
            if nth.is_multiple_of(2) {
                client.post(Message::bye_signal(channel)).unwrap();
                closed_with(&mut client, channel, Status::CHANNEL_CLOSED);
                closed_with(&mut server, hello.channel(), Status::PEER_DISCONNECTED);
            } else {
                server.post(Message::bye_signal(hello.channel())).unwrap();
                closed_with(&mut server, hello.channel(), Status::CHANNEL_CLOSED);
                closed_with(&mut client, channel, Status::PEER_DISCONNECTED);
            }
            at_client.close(channel);
            at_server.close(hello.channel());
        }
        // Rested numbers go before fresh ones: the listener has one more.
        assert_eq!(usize::from(at_client.highest), QUARANTINE + 1);
        assert_eq!(usize::from(at_server.highest), QUARANTINE + 2);
        assert_eq!(clients.metrics().channels_open, 0);
    });
}

#[test]
fn channels_that_never_connect_give_their_numbers_back() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    over_both(|address| {
        let engine = engine();
        let nowhere = match address.path() {
            Some(_) => address.clone(),
            None => tofu::testing::free_tcp_address().unwrap(),
        };
        let mut client = engine.group().unwrap();
        let at_rest = descriptors();
        let mut book = Book::default();
        for _ in 0..2 * QUARANTINE {
            let posted = client.post(Message::hello_request(&nowhere)).unwrap();
            book.open(posted.channel);
            let (message, _) = returned(&mut client);
            assert_eq!(message.channel(), posted.channel);
            let (channel, _) = closed(&mut client);
            book.close(channel);
        }
        assert_eq!(usize::from(book.highest), QUARANTINE + 1);
        assert_eq!(descriptors(), at_rest);
    });
}
