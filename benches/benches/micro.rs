//! The small steps of a message, one by one.
//!
//! ```text
//! cargo bench --manifest-path benches/Cargo.toml --bench micro
//! ```

use divan::{Bencher, black_box, counter::ItemsCount};
use tofu::{
    Address, ChannelGroup, ChannelNumber, Decoder, Engine, Event, Header, Message, OpCode, Options,
    TextHeaders,
};

const BODY: [u8; 64] = [b'x'; 64];
const BUFFER_LEN: usize = 64 * 1024;
/// Posted before they are received.
const BATCH: u32 = 64;

fn main() {
    divan::main();
}

#[divan::bench]
fn encode_a_header(bencher: Bencher<'_, '_>) {
    let header = Header::new(OpCode::Signal);
    bencher.bench(|| black_box(&header).to_bytes());
}

/// A socket's worth of small frames; the time is that of all of them.
#[divan::bench]
fn decode_64_kib_of_frames(bencher: Bencher<'_, '_>) {
    let mut header = Header::new(OpCode::Signal);
    header.body_len = 64;
    let frame = [&header.to_bytes()[..], &BODY].concat();
    let frames = BUFFER_LEN / frame.len();
    let bytes = frame.repeat(frames);
    bencher.counter(ItemsCount::new(frames)).bench(|| {
        let mut decoder = Decoder::new();
        let mut input = black_box(&bytes[..]);
        let mut count = 0;
        while let Ok(Some(frame)) = decoder.peek(&mut input) {
            let len = frame.len();
            black_box(frame.body());
            decoder.consume(&mut input, len);
            count += 1;
        }
        assert_eq!(count, frames);
    });
}

#[divan::bench]
fn take_from_the_pool_and_drop(bencher: Bencher<'_, '_>) {
    let engine = Engine::new(Options::default()).expect("the system gives a thread");
    bencher.bench_local(|| drop(black_box(engine.message())));
}

/// Signals of 64 bytes through a socket inside this process; the time is that of a batch.
#[divan::bench]
fn post_and_receive_64_messages(bencher: Bencher<'_, '_>) {
    let directory = tempfile::tempdir().expect("there is room for a socket file");
    let path = directory.path().join("socket");
    let address = Address::uds(path.to_string_lossy()).expect("the path is short enough");
    let engine = Engine::new(Options::default()).expect("the system gives a thread");
    let (mut client, mut server, channel) = open(&engine, &address);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for _ in 0..BATCH {
            let signal = Message::signal(channel).with_body(BODY);
            client.post(signal).expect("the queue has room for a batch");
        }
        // What has been gathered leaves.
        assert!(client.try_recv().expect("the engine runs").is_none());
        for _ in 0..BATCH {
            message(&mut server);
        }
    });
}

fn open(engine: &Engine, address: &Address) -> (ChannelGroup, ChannelGroup, ChannelNumber) {
    let mut server = engine.group().expect("the engine runs");
    let welcome = Message::welcome_request(address);
    server.post(welcome).expect("nobody listens there yet");
    let listening = server.recv().expect("the engine runs");
    assert!(
        matches!(listening, Event::Listening { .. }),
        "{listening:?}"
    );
    let mut client = engine.group().expect("the engine runs");
    let hello = client.post(Message::hello_request(address));
    let channel = hello.expect("the address is right").channel;
    let answer = message(&mut server)
        .into_reply()
        .expect("a hello has an answer");
    server.post(answer).expect("the client waits for it");
    message(&mut client);
    (client, server, channel)
}

fn message(group: &mut ChannelGroup) -> Message {
    match group.recv().expect("the engine runs") {
        Event::Message(message) => message,
        other => panic!("no message: {other:?}"),
    }
}

#[divan::bench]
fn read_five_text_headers(bencher: Bencher<'_, '_>) {
    let message = Message::request(ChannelNumber::new(1))
        .with_header("content-type", "application/json")
        .with_header("accept", "application/json")
        .with_header("trace-id", "4bf92f3577b34da6a3ce929d0e0e4736")
        .with_header("tenant", "north")
        .with_header("deadline-ms", "250");
    let bytes = message.text_headers().as_bytes().to_vec();
    bencher.bench(|| {
        let headers = TextHeaders::new(black_box(&bytes));
        assert_eq!(headers.iter().count(), 5);
        headers.value("deadline-ms").map(<[u8]>::len)
    });
}
