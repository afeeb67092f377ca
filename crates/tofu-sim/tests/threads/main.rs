//! Whole engines whose threads take turns as shuttle decides, at each lock and each atomic of the library: what
//! loom, which tries every way, cannot do for more than a few steps. `.ci/models` runs it.
//!
//! A call that is lost leaves a thread asleep for ever, and shuttle says that there is a deadlock.

#![cfg(shuttle)]
#![forbid(unsafe_code)]

mod loopback;

use std::{env, sync::Arc, time::Duration};

use shuttle::{
    Config, MaxSteps, Runner,
    future::block_on,
    scheduler::{PctScheduler, RandomScheduler},
    thread,
};
use tofu::{
    Address, ChannelGroup, ChannelNumber, Engine, Event, Message, OpCode, Options, Poster, Refusal,
    simulation::{self, System},
};

use self::loopback::{Lacks, Loopback};

/// Nobody is slow enough for this, whatever the clock of the loopback says.
const LONG: Duration = Duration::from_secs(1_000_000);
/// Ways that are tried of each, unless `SHUTTLE_ITERATIONS` says otherwise.
const ITERATIONS: usize = 10_000;
/// Bytes that a stream holds: few, so that it is full again and again.
const STREAM_LEN: usize = 100;
/// Bytes of a body that does not fit into a stream.
const LARGE: usize = 150;
const STEPS_MAX: usize = 1_000_000;

/// Runs it in many ways: in half of them each step may be any thread's, in the other half threads have priorities,
/// so that one that could go on may wait for long. One that fails prints the schedule with which `shuttle::replay`
/// runs it again.
fn check(run: impl Fn() + Send + Sync + Clone + 'static) {
    let iterations = env::var("SHUTTLE_ITERATIONS").ok();
    let iterations = iterations.and_then(|count| count.parse().ok());
    let half = iterations.unwrap_or(ITERATIONS) / 2;
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    Runner::new(RandomScheduler::new(half), config.clone()).run(run.clone());
    Runner::new(PctScheduler::new(3, half), config).run(run);
}

fn address() -> Address {
    "tcp://127.0.0.1:7".parse().expect("an address")
}

/// An engine, whose end is awaited when it is dropped.
fn engine(lacks: Lacks, options: Options) -> Engine {
    engine_on(&Loopback::start(lacks, STREAM_LEN), options)
}

fn engine_on(system: &Arc<Loopback>, options: Options) -> Engine {
    let system: Arc<dyn System> = Arc::clone(system) as _;
    let options = options
        .hello_timeout(LONG)
        .connect_timeout(LONG)
        .frame_timeout(LONG)
        .bye_timeout(LONG)
        .drain_timeout(LONG);
    simulation::threaded_engine(options, &system).expect("good options")
}

/// A group that answers what can be answered, until so many connections have ended. Returns how many signals came.
fn serve(group: &mut ChannelGroup, mut connections: usize) -> usize {
    let mut signals = 0;
    while connections > 0 {
        match group.recv().expect("nobody shuts down") {
            Event::Message(message) if message.op_code() == OpCode::Signal => signals += 1,
            Event::Message(message) => {
                if let Ok(answer) = message.reply() {
                    group.post(answer.with_body(message.body())).expect("open");
                }
            }
            Event::Closed { .. } => connections -= 1,
            _ => {}
        }
    }
    signals
}

fn answered(group: &mut ChannelGroup) {
    match group.recv() {
        Ok(Event::Listening { .. } | Event::Message(_)) => {}
        other => panic!("an answer was due, not {other:?}"),
    }
}

/// A group that listens.
fn listening(engine: &Engine) -> ChannelGroup {
    let mut group = engine.group().expect("a group");
    group
        .post(Message::welcome_request(&address()))
        .expect("taken");
    answered(&mut group);
    group
}

/// The same, and one that is to connect to it.
fn server_and_client(engine: &Engine) -> (ChannelGroup, ChannelGroup) {
    (listening(engine), engine.group().expect("a group"))
}

fn greet(group: &mut ChannelGroup) -> ChannelNumber {
    let hello = Message::hello_request(&address());
    let channel = group.post(hello).expect("taken").channel;
    answered(group);
    channel
}

/// Posts signals; waits where there is no room, without a word of `Drained`.
fn signal(poster: &Poster, channel: ChannelNumber, count: usize, len: usize) {
    for _ in 0..count {
        let signal = poster.signal(channel).with_body(vec![7; len]);
        poster.post(signal).expect("taken");
    }
}

/// Says bye, and waits until the channel is closed.
fn part(group: &mut ChannelGroup, channel: ChannelNumber) {
    group.post(Message::bye_request(channel)).expect("open");
    loop {
        if let Event::Closed { reason, .. } = group.recv().expect("nobody shuts down") {
            assert!(reason.is_graceful(), "{reason}");
            return;
        }
    }
}

/// Questions, answers and signals of another thread, over streams that are full again and again.
fn a_conversation(lacks: Lacks) {
    const QUESTIONS: u8 = 3;
    const SIGNALS: usize = 3;
    let engine = engine(lacks, Options::default());
    let (mut server, mut client) = server_and_client(&engine);
    let serving = thread::spawn(move || serve(&mut server, 1));
    let channel = greet(&mut client);
    let poster = client.poster();
    let signalling = thread::spawn(move || signal(&poster, channel, SIGNALS, LARGE));
    for number in 0..QUESTIONS {
        let body = [number; 120];
        client
            .post(Message::request(channel).with_body(body))
            .expect("open");
        match client.recv().expect("nobody shuts down") {
            Event::Message(answer) => assert_eq!(answer.body(), body),
            other => panic!("an answer was due, not {other:?}"),
        }
    }
    signalling.join().expect("all is posted");
    part(&mut client, channel);
    assert_eq!(serving.join().expect("it is served"), SIGNALS);
    drop(client);
}

#[test]
fn a_conversation_of_several_threads_loses_nothing_and_ends() {
    check(|| a_conversation(Lacks::Nothing));
}

/// The original writes a header and then what belongs to it. Here there are four messages, of which the last two are
/// so large that they are not copied.
#[test]
fn each_message_leaves_in_one_write() {
    check(|| {
        let system = Loopback::start(Lacks::Nothing, 10_000);
        let engine = engine_on(&system, Options::default());
        let (mut server, mut client) = server_and_client(&engine);
        let serving = thread::spawn(move || {
            let answers = |event| match event {
                Event::Message(message) => message.into_reply().ok(),
                _ => None,
            };
            for _ in 0..2 {
                let event = server.recv().expect("nobody shuts down");
                let answer = answers(event).expect("a request");
                server.post(answer.with_body([0; 2_000])).expect("open");
            }
            server
        });
        let channel = greet(&mut client);
        let request = client.request(channel).with_header("name", "value");
        client.post(request.with_body([0; 2_000])).expect("open");
        answered(&mut client);
        let _server = serving.join().expect("it is served");
        assert_eq!(system.writes(), 4);
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_system_that_wakes_nobody_is_found_out() {
    check(|| a_conversation(Lacks::Wakes));
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_system_that_does_not_tell_of_room_is_found_out() {
    check(|| a_conversation(Lacks::Room));
}

/// Serves until so many signals have come.
fn serve_signals(group: &mut ChannelGroup, count: usize) {
    let mut signals = 0;
    while signals < count {
        match group.recv().expect("nobody shuts down") {
            Event::Message(message) if message.op_code() == OpCode::Signal => signals += 1,
            Event::Message(message) => {
                group
                    .post(message.reply().expect("a request"))
                    .expect("open");
            }
            other => panic!("not due: {other:?}"),
        }
    }
}

/// The client receives nothing more: what is posted there is the keeper's to write. Posting begins while it still
/// receives.
fn posts_and_does_not_receive(len: usize) {
    const SIGNALS: usize = 3;
    let engine = engine(Lacks::Nothing, Options::default());
    let (mut server, mut client) = server_and_client(&engine);
    let serving = thread::spawn(move || serve_signals(&mut server, 2 * SIGNALS));
    let channel = greet(&mut client);
    client.post(Message::request(channel)).expect("open");
    let poster = client.poster();
    let signalling = thread::spawn(move || signal(&poster, channel, SIGNALS, len));
    answered(&mut client);
    signal(&client.poster(), channel, SIGNALS, len);
    signalling.join().expect("all is posted");
    serving.join().expect("all has arrived");
}

#[test]
fn what_is_posted_leaves_though_nobody_receives() {
    check(|| posts_and_does_not_receive(0));
}

#[test]
fn what_does_not_fit_into_the_stream_leaves_though_nobody_receives() {
    check(|| posts_and_does_not_receive(LARGE));
}

/// Nothing but a nudge tells whoever sleeps.
#[test]
fn who_sleeps_is_woken_for_what_others_leave() {
    check(|| {
        let engine = engine(Lacks::Nothing, Options::default());
        let mut group = engine.group().expect("a group");
        let notifying = [(); 2].map(|()| {
            let poster = group.poster();
            thread::spawn(move || poster.notify(None))
        });
        for _ in 0..2 {
            assert!(matches!(group.recv(), Ok(Event::Notified(None))));
        }
        for notified in notifying {
            notified.join().expect("it tells");
        }
    });
}

/// A pool of one message, which three groups want, and which other threads hold now and then.
#[test]
fn who_waits_for_a_message_of_the_pool_gets_it() {
    check(|| {
        let options = Options::default().pool_messages(1, 1);
        let engine = engine(Lacks::Nothing, options);
        let mut server = listening(&engine);
        let serving = thread::spawn(move || {
            serve(&mut server, 2);
        });
        let asking = [(); 2].map(|()| {
            let mut client = engine.group().expect("a group");
            thread::spawn(move || {
                let hello = Message::hello_request(&address());
                let channel = client.post(hello).expect("taken").channel;
                let dropping = [true, false].map(|goes_on| {
                    let answer = loop {
                        if let Event::Message(answer) = client.recv().expect("nobody shuts down") {
                            break answer;
                        }
                    };
                    if goes_on {
                        client.post(Message::request(channel)).expect("open");
                    }
                    thread::spawn(move || drop(answer))
                });
                part(&mut client, channel);
                for dropped in dropping {
                    dropped.join().expect("it comes back");
                }
            })
        });
        for ended in asking.into_iter().chain([serving]) {
            ended.join().expect("it ends");
        }
        engine.shutdown(LONG);
        assert_eq!(engine.metrics().pool_messages_out, 0);
    });
}

/// Two groups share what may wait to be sent, and each wants all of it.
#[test]
fn who_is_refused_for_want_of_room_hears_when_there_is_some() {
    const BOUND: usize = 131_086;
    check(|| {
        let options = Options::default().queue_bytes(BOUND, BOUND);
        let engine = engine_on(&Loopback::start(Lacks::Nothing, BOUND / 2), options);
        let mut server = listening(&engine);
        let sending = [(); 2].map(|()| {
            let mut client = engine.group().expect("a group");
            thread::spawn(move || {
                let channel = greet(&mut client);
                for _ in 0..2 {
                    let mut signal = client.signal(channel).with_body(vec![7; Message::BODY_MAX]);
                    while let Err(refused) = client.post(signal) {
                        assert!(refused.is_queue_full(), "{refused}");
                        signal = refused.into_message();
                        assert!(matches!(client.recv(), Ok(Event::Drained(_))));
                    }
                }
                client
            })
        });
        let serving = thread::spawn(move || {
            serve_signals(&mut server, 4);
            server
        });
        let clients = sending.map(|sent| sent.join().expect("all is posted"));
        drop((serving.join().expect("all has arrived"), clients));
    });
}

/// The keeper drives, and wakes the task.
#[test]
fn a_task_is_woken_for_what_comes() {
    check(|| {
        let engine = engine(Lacks::Nothing, Options::default());
        let (mut server, mut client) = server_and_client(&engine);
        let serving = thread::spawn(move || serve(&mut server, 1));
        let channel = greet(&mut client);
        let poster = client.poster();
        let notifying = thread::spawn(move || poster.notify(None));
        client.post(Message::request(channel)).expect("open");
        let (mut answers, mut notices) = (0, 0);
        while answers + notices < 2 {
            match block_on(client.recv_async()).expect("nobody shuts down") {
                Event::Message(_) => answers += 1,
                Event::Notified(_) => notices += 1,
                other => panic!("not due: {other:?}"),
            }
        }
        assert_eq!((answers, notices), (1, 1));
        notifying.join().expect("it tells");
        part(&mut client, channel);
        serving.join().expect("it is served");
    });
}

/// The engine shuts down while one thread waits and another posts.
fn shuts_down(lacks: Lacks) {
    let engine = engine(lacks, Options::default());
    let (mut server, mut client) = server_and_client(&engine);
    let serving = thread::spawn(move || {
        while let Ok(event) = server.recv() {
            if let Event::Message(message) = event
                && let Ok(answer) = message.reply()
            {
                // It may shut down meanwhile.
                let _ = server.post(answer);
            }
        }
    });
    let channel = greet(&mut client);
    let poster = client.poster();
    let posting = thread::spawn(move || {
        for _ in 0..3 {
            if let Err(refused) = poster.post(poster.signal(channel)) {
                return assert_eq!(*refused.refusal(), Refusal::ShutdownStarted);
            }
        }
    });
    let waiting = thread::spawn(move || while client.recv().is_ok() {});
    let report = engine.shutdown(LONG);
    assert!(report.closed.len() <= 3, "{report:?}");
    for ended in [serving, posting, waiting] {
        ended.join().expect("it ends");
    }
}

#[test]
fn a_shutdown_wakes_who_waits_refuses_who_posts_and_ends() {
    check(|| shuts_down(Lacks::Nothing));
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_shutdown_on_a_system_that_wakes_nobody_is_found_out() {
    check(|| shuts_down(Lacks::Wakes));
}

/// A group is dropped while another thread posts to it: what was taken arrives.
#[test]
fn what_was_taken_before_a_drop_arrives() {
    check(|| {
        let engine = engine(Lacks::Nothing, Options::default());
        let (mut server, mut client) = server_and_client(&engine);
        let serving = thread::spawn(move || serve(&mut server, 1));
        let channel = greet(&mut client);
        let poster = client.poster();
        let posting = thread::spawn(move || {
            let signals = (0..3).map(|_| poster.signal(channel).with_body([7; LARGE]));
            signals
                .take_while(|signal| poster.post(signal.clone()).is_ok())
                .count()
        });
        drop(client);
        let taken = posting.join().expect("it posts");
        assert_eq!(serving.join().expect("it is served"), taken);
    });
}
