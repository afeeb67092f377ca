//! What only shows from within: who looks, who keeps memory, what one turn does.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    iter,
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Wake, Waker},
};

use tempfile::TempDir;
use tofu_proto::{Address, Status};

use super::*;
use crate::{
    Engine, Options,
    keeper::ward::Cared as _,
    net::{
        MUTED_MIN,
        resolve::{Lookup, Resolver, THREADS_MAX},
    },
    reactor::{Attention, channel::End, seat::Driver},
};

/// A place where peers without a library are found, which read nothing but the hello.
struct Place {
    listener: UnixListener,
    address: Address,
    _dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("peer");
        Self {
            listener: UnixListener::bind(&path).expect("bound"),
            address: Address::uds(path.to_string_lossy()).expect("a short path"),
            _dir: dir,
        }
    }

    fn connect(&self, group: &ChannelGroup) -> (ChannelNumber, UnixStream) {
        let hello = group.post(Message::hello_request(&self.address));
        let hello = hello.expect("taken");
        let (mut peer, _) = self.listener.accept().expect("accepted");
        let mut frame = vec![0; hello.frame_len()];
        peer.read_exact(&mut frame).expect("the hello leaves");
        (hello.channel, peer)
    }
}

/// No driver looks at the channel any more.
#[test]
fn a_channel_that_has_nothing_left_to_send_keeps_no_memory() {
    let place = Place::new();
    let engine = Engine::new(Options::default()).expect("an engine");
    let group = engine.group().expect("a group");
    let (number, _peer) = place.connect(&group);
    let signals = (0..3).map(|_| group.signal(number));
    let posted = group.post_many(&mut signals.collect());
    posted.expect("the socket takes them");
    let mut channel = group.group.channel(number).expect("open");
    let End::Peer(peer) = &mut channel.end else {
        panic!("not a listener");
    };
    assert!(peer.connection.queue().is_empty());
    assert!(peer.connection.spare_memory().is_empty());
}

/// The memory in which one channel has gathered is lent to the next: there is never more than one piece.
#[test]
fn channels_that_gather_one_after_the_other_share_one_piece_of_memory() {
    let place = Place::new();
    let engine = Engine::new(Options::default()).expect("an engine");
    let group = engine.group().expect("a group");
    let peers = [place.connect(&group), place.connect(&group)];
    for (number, _) in peers.iter().cycle().take(8) {
        let signals = (0..3).map(|_| group.signal(*number));
        let posted = group.post_many(&mut signals.collect());
        posted.expect("the socket takes them");
        // The keeper gives it up when it finds nothing gathered.
        assert!(group.group.spare_pieces() <= 1, "one was made anew");
    }
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::yield_now();
    }
}

/// To nest it anew, Linux would go through all that it waits for, while whoever drives waits.
#[test]
fn the_poller_of_a_group_with_many_channels_stays_nested_and_is_heeded_again() {
    let place = Place::new();
    let engine = Engine::new(Options::default()).expect("an engine");
    let mut group = engine.group().expect("a group");
    let mut peers: Vec<_> = (0..MUTED_MIN).map(|_| place.connect(&group)).collect();
    let signal = Message::signal(ChannelNumber::new(1)).with_body(vec![0; 60_000]);
    let mut bytes = signal.binary_header().to_bytes().to_vec();
    bytes.extend(signal.payload());
    let mut bytes = bytes.iter();
    eventually("a caller drives, and the keeper ignores the poller", || {
        if let Some(byte) = bytes.next() {
            peers[0].1.write_all(&[*byte]).expect("connected");
        }
        assert!(matches!(group.try_recv(), Ok(None)));
        group.group.is_muted()
    });
    drop(peers.pop());
    eventually("the keeper sees that a peer has gone", || {
        engine.metrics().channels_open == peers.len()
    });
    eventually("it heeds the poller again", || !group.group.is_muted());
}

/// Whether the poller is to tell when the channel's socket takes bytes, and how many wait for that.
fn queued(group: &ChannelGroup, number: ChannelNumber) -> (bool, usize) {
    let mut channel = group.group.channel(number).expect("open");
    let End::Peer(peer) = &mut channel.end else {
        panic!("not a listener");
    };
    (peer.awaits_room(), peer.connection.queue().bytes())
}

/// A group with one channel, whose socket is full, and its peer.
fn full(place: &Place, engine: &Engine) -> (ChannelGroup, ChannelNumber, UnixStream) {
    let mut group = engine.group().expect("a group");
    let (number, peer) = place.connect(&group);
    while group.post(large(number)).is_ok() {}
    eventually("a driver waits for room", || {
        assert!(matches!(group.try_recv(), Ok(None)));
        queued(&group, number).0
    });
    (group, number, peer)
}

fn large(number: ChannelNumber) -> Message {
    Message::signal(number).with_body(vec![0; 60_000])
}

/// Some room, of which nobody has heard.
fn read_some(peer: &mut UnixStream) {
    let mut read = vec![0; 64 * 1024];
    peer.read_exact(&mut read).expect("connected");
}

/// Each try would be a system call in vain, and each refusal a wake-up.
#[test]
fn a_full_socket_is_left_to_the_poller() {
    let place = Place::new();
    let engine = Engine::new(Options::default()).expect("an engine");
    let (mut group, number, mut peer) = full(&place, &engine);
    // Nobody else drives now.
    let mut driver = group.group.take_seat().expect("not forked");
    let (_, bytes) = queued(&group, number);
    group.post(large(number)).expect_err("the queue is full");
    assert!(group.group.take_attention().is_empty(), "who is to look?");
    read_some(&mut peer);
    let token = group.group.all_channels()[0];
    group.group.attend(Attention::Look(token));
    let now = group.group.engine.clock.now();
    Reactor::look_around(&mut driver, &group.group, now);
    assert_eq!(
        queued(&group, number).1,
        bytes,
        "it was tried before the poller told"
    );
    drop(driver);
    eventually("what is queued goes on", || {
        let _ = peer.read(&mut [0; 4_096]).expect("connected");
        assert!(group.try_recv().is_ok());
        queued(&group, number).1 < bytes
    });
}

/// The process was stopped, and the poller has yet to say that there is room.
#[test]
fn a_late_driver_writes_before_it_blames_a_peer_for_its_bye() {
    let place = Place::new();
    let engine = Engine::new(Options::default()).expect("an engine");
    let (group, number, mut peer) = full(&place, &engine);
    group.post(Message::bye_request(number)).expect("it fits");
    let mut driver = group.group.take_seat().expect("not forked");
    let (_, bytes) = queued(&group, number);
    read_some(&mut peer);
    let late = group.group.engine.clock.now() + Duration::from_secs(60);
    Reactor::look_around(&mut driver, &group.group, late);
    assert!(driver.inbox().is_empty(), "the channel ended");
    assert!(queued(&group, number).1 < bytes, "nothing left");
}

#[test]
fn a_group_that_closes_at_once_writes_what_there_is_room_for() {
    let place = Place::new();
    let engine = Engine::new(Options::default()).expect("an engine");
    let (group, number, mut peer) = full(&place, &engine);
    let bytes = queued(&group, number).1;
    read_some(&mut peer);
    let report = group.close(Duration::ZERO);
    let undelivered = report.undelivered.iter().map(Message::frame_len);
    // The message that was partly sent comes back whole.
    assert!(undelivered.sum::<usize>() < bytes, "nothing left");
}

/// A caller that came before it does not count: the task is the keeper's to wake.
#[test]
fn a_group_whose_task_waits_is_left_to_the_keeper() {
    let engine = Engine::new(Options::default()).expect("an engine");
    let mut group = engine.group().expect("a group");
    assert!(matches!(group.try_recv(), Ok(None)));
    let is_left = |group: &ChannelGroup| {
        let driver = group.group.take_seat().expect("not forked");
        group.group.is_left_to_keeper(&driver)
    };
    assert!(!is_left(&group));
    let mut context = Context::from_waker(Waker::noop());
    assert!(group.poll_recv(&mut context).is_pending());
    assert!(is_left(&group));
}

#[test]
fn a_task_whose_application_receives_as_a_thread_is_woken_and_waits_no_more() {
    #[derive(Default)]
    struct Woken(AtomicBool);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let engine = Engine::new(Options::default()).expect("an engine");
    let mut group = engine.group().expect("a group");
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert!(
        group
            .poll_recv(&mut Context::from_waker(&waker))
            .is_pending()
    );
    assert!(!woken.0.load(Ordering::Relaxed));
    assert!(matches!(group.try_recv(), Ok(None)));
    assert!(woken.0.load(Ordering::Relaxed));
    let driver = group.group.take_seat().expect("not forked");
    assert!(!driver.has_task());
}

/// A group with so many channels, which are open.
fn opened(place: &Place, engine: &Engine, count: usize) -> (ChannelGroup, Vec<UnixStream>) {
    let mut group = engine.group().expect("a group");
    let peers = (0..count).map(|_| {
        let (number, mut peer) = place.connect(&group);
        let answer = Message::new(OpCode::HelloResponse, number, MessageId::new(1));
        peer.write_all(&frame(&answer)).expect("connected");
        peer
    });
    let peers = peers.collect();
    for _ in 0..count {
        assert!(matches!(group.recv(), Ok(Event::Message(_))));
    }
    (group, peers)
}

fn frame(message: &Message) -> Vec<u8> {
    [&message.binary_header().to_bytes(), message.payload()].concat()
}

/// As peers send it.
fn signal_frame(len: usize) -> Vec<u8> {
    frame(&Message::signal(ChannelNumber::new(1)).with_body(vec![0; len]))
}

/// One turn of a driver, and what it brought.
fn turn(driver: &mut Driver<'_, Reactor>, group: &ChannelGroup) -> Inbox {
    let turned = Reactor::turn(driver, &group.group, Some(Duration::ZERO), |_| true);
    turned.expect("the poller is asked");
    mem::take(driver.inbox())
}

/// Has a peer stream: it is read after those who do not.
fn streams(driver: &mut Driver<'_, Reactor>, group: &ChannelGroup, peer: &mut UnixStream) {
    peer.write_all(&signal_frame(60_000)).expect("connected");
    assert_eq!(turn(driver, group).len(), 1);
}

/// The first of these sends as one that streams, and each of the others a message of `len` bytes.
fn stream_and_ask(peers: &mut [UnixStream], len: usize) {
    for (nth, peer) in peers.iter_mut().enumerate() {
        let len = if nth == 0 { 60_000 } else { len };
        peer.write_all(&signal_frame(len)).expect("connected");
    }
}

fn events(inbox: &mut Inbox) -> impl Iterator<Item = Event> {
    iter::from_fn(|| inbox.pop())
}

/// Who asks now and then has its turn again before all that streams was read.
#[test]
fn once_much_was_read_no_stream_is_read_on_in_that_turn() {
    const PEERS: usize = 6;
    let place = Place::new();
    let engine = Engine::new(Options::default()).expect("an engine");
    let (group, mut peers) = opened(&place, &engine, PEERS);
    // Nobody else drives now.
    let mut driver = group.group.take_seat().expect("not forked");
    for peer in &mut peers {
        peer.write_all(&signal_frame(60_000)).expect("connected");
    }
    assert_eq!(turn(&mut driver, &group).len(), PEERS, "nobody streams yet");
    for peer in &mut peers {
        let signals = signal_frame(60_000).repeat(2);
        peer.write_all(&signals).expect("connected");
    }
    // A turn brings 128 KiB, and what the last read had beyond that.
    let mut heard = Vec::new();
    for _ in 0..PEERS {
        let mut inbox = turn(&mut driver, &group);
        assert!(inbox.len() <= 3, "{} signals", inbox.len());
        heard.extend(events(&mut inbox).filter_map(|event| event.channel()));
    }
    assert_eq!(heard.len(), 2 * PEERS, "so all have had their turn");
}

#[test]
fn one_stream_is_not_read_for_a_whole_turn() {
    let place = Place::new();
    let engine = Engine::new(Options::default()).expect("an engine");
    let (group, mut peers) = opened(&place, &engine, 1);
    let mut driver = group.group.take_seat().expect("not forked");
    streams(&mut driver, &group, &mut peers[0]);
    let signals = signal_frame(60_000).repeat(3);
    peers[0].write_all(&signals).expect("connected");
    assert_eq!(turn(&mut driver, &group).len(), 2, "128 KiB, and no more");
    assert_eq!(turn(&mut driver, &group).len(), 1);
}

/// Has these ask until the turn brings something else as well, or `is_enough`.
fn ask_until(
    driver: &mut Driver<'_, Reactor>,
    group: &ChannelGroup,
    asking: &mut [UnixStream],
    is_enough: impl Fn() -> bool,
) {
    eventually("others have their turn", || {
        for peer in &mut *asking {
            peer.write_all(&signal_frame(10)).expect("connected");
        }
        turn(driver, group).len() > asking.len() || is_enough()
    });
}

/// It may be a question, and what a stream brings may be much to do.
#[test]
fn what_others_ask_is_answered_before_a_stream_is_read_on() {
    const ASKING: usize = 20;
    let place = Place::new();
    let engine = Engine::new(Options::default()).expect("an engine");
    let (group, mut peers) = opened(&place, &engine, ASKING + 1);
    let mut driver = group.group.take_seat().expect("not forked");
    streams(&mut driver, &group, &mut peers[0]);
    for _ in 0..3 {
        stream_and_ask(&mut peers, 10);
        assert_eq!(turn(&mut driver, &group).len(), ASKING);
        // However much they ask, it does not wait for ever.
        ask_until(&mut driver, &group, &mut peers[1..], || false);
    }
}

/// A listener of the group.
struct Listening {
    path: PathBuf,
    _dir: TempDir,
}

impl Listening {
    fn new(group: &mut ChannelGroup) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("listener");
        let address = Address::uds(path.to_string_lossy()).expect("a short path");
        group
            .post(Message::welcome_request(&address))
            .expect("taken");
        assert!(matches!(group.recv(), Ok(Event::Listening { .. })));
        Self { path, _dir: dir }
    }

    fn knock(&self) -> UnixStream {
        UnixStream::connect(&self.path).expect("it listens")
    }
}

/// Also if some waited from the turn before, and others come.
#[test]
fn in_one_turn_few_are_accepted() {
    let engine = Engine::new(Options::default()).expect("an engine");
    let mut group = engine.group().expect("a group");
    let listener = Listening::new(&mut group);
    let mut driver = group.group.take_seat().expect("not forked");
    let mut strangers = Vec::new();
    let mut open = group.group.channels_open();
    for _ in 0..2 {
        strangers.extend((0..6).map(|_| listener.knock()));
        assert!(turn(&mut driver, &group).is_empty());
        open += 4;
        assert_eq!(group.group.channels_open(), open);
    }
}

#[test]
fn what_is_asked_is_answered_before_others_are_accepted() {
    let place = Place::new();
    let engine = Engine::new(Options::default()).expect("an engine");
    let (mut group, mut peers) = opened(&place, &engine, 1);
    let listener = Listening::new(&mut group);
    let mut driver = group.group.take_seat().expect("not forked");
    let open = group.group.channels_open();
    let _stranger = listener.knock();
    peers[0].write_all(&signal_frame(10)).expect("connected");
    assert_eq!(turn(&mut driver, &group).len(), 1);
    assert_eq!(group.group.channels_open(), open);
    ask_until(&mut driver, &group, &mut peers, || {
        group.group.channels_open() > open
    });
}

#[test]
fn a_task_is_woken_for_what_others_ask_before_a_stream_is_read_on() {
    let place = Place::new();
    let engine = Engine::new(Options::default()).expect("an engine");
    let (mut group, mut peers) = opened(&place, &engine, 2);
    let mut driver = group.group.take_seat().expect("not forked");
    streams(&mut driver, &group, &mut peers[0]);
    drop(driver);
    let mut context = Context::from_waker(Waker::noop());
    assert!(group.poll_recv(&mut context).is_pending());
    let mut driver = group.group.take_seat().expect("not forked");
    stream_and_ask(&mut peers, 10);
    let is_busy = Reactor::keep(&mut driver, &group.group).expect("the poller is asked");
    assert_eq!(mem::take(driver.inbox()).len(), 1);
    assert!(is_busy, "the stream is still to be read");
}

#[test]
fn a_stream_that_starves_keeps_its_place_in_line_while_streams_wait() {
    let place = Place::new();
    let engine = Engine::new(Options::default().pool_messages(8, 8)).expect("an engine");
    let (group, mut peers) = opened(&place, &engine, 2);
    let mut driver = group.group.take_seat().expect("not forked");
    streams(&mut driver, &group, &mut peers[0]);
    let (small, large) = (signal_frame(10), signal_frame(60_000));
    peers[1].write_all(&small.repeat(6)).expect("connected");
    peers[0].write_all(&large.repeat(3)).expect("connected");
    let mut unread = Vec::new();
    while !matches!(unread.last(), Some(Event::PoolEmpty)) {
        unread.extend(events(&mut turn(&mut driver, &group)));
    }
    assert_eq!(unread.len(), 6 + 2 + 1);
    // Both are ready, and when the driver has fed who starves there is a message for the one that asks.
    peers[0].write_all(&small.repeat(4)).expect("connected");
    peers[1].write_all(&small).expect("connected");
    let turned = Reactor::turn(&mut driver, &group.group, Some(Duration::ZERO), |_| {
        unread.remove(0);
        true
    });
    turned.expect("the poller is asked");
    unread.extend(events(driver.inbox()));
    for _ in 0..5 {
        unread.remove(0);
        let brought: Vec<_> = events(&mut turn(&mut driver, &group)).collect();
        assert!(
            matches!(brought[..], [Event::Message(_)]),
            "it was told already that the pool is empty: {brought:?}"
        );
        unread.extend(brought);
    }
}

#[test]
fn however_much_others_ask_a_stream_is_begun_in_each_turn() {
    const ASKING: usize = 150;
    let place = Place::new();
    let engine = Engine::new(Options::default()).expect("an engine");
    let (group, mut peers) = opened(&place, &engine, ASKING + 1);
    let mut driver = group.group.take_seat().expect("not forked");
    streams(&mut driver, &group, &mut peers[0]);
    for _ in 0..3 {
        stream_and_ask(&mut peers, 4_000);
        assert_eq!(turn(&mut driver, &group).len(), ASKING + 1);
    }
}

#[test]
fn however_many_messages_others_send_a_stream_is_begun_in_each_turn() {
    const ASKING: usize = 4;
    let place = Place::new();
    let engine = Engine::new(Options::default().pool_messages(16, 16)).expect("an engine");
    let (group, mut peers) = opened(&place, &engine, ASKING + 1);
    let mut driver = group.group.take_seat().expect("not forked");
    streams(&mut driver, &group, &mut peers[0]);
    let small = signal_frame(10).repeat(100);
    for peer in &mut peers[1..] {
        peer.write_all(&small).expect("connected");
    }
    for _ in 0..3 {
        peers[0]
            .write_all(&signal_frame(60_000))
            .expect("connected");
        let mut brought = turn(&mut driver, &group);
        let bodies: Vec<_> = events(&mut brought)
            .filter_map(|event| match event {
                Event::Message(message) => Some(message.body().len()),
                _ => None,
            })
            .collect();
        assert!(bodies.contains(&60_000), "{bodies:?}");
        assert!(bodies.len() <= 16, "no more than the pool has");
        assert!(bodies.len() > 8, "and the others as well");
    }
}

/// Its socket is read without asking the poller, who knows of the others.
#[test]
fn a_peer_that_always_has_something_hides_no_other() {
    let place = Place::new();
    let engine = Engine::new(Options::default()).expect("an engine");
    let (group, mut peers) = opened(&place, &engine, 2);
    let mut driver = group.group.take_seat().expect("not forked");
    let mut turns = 0;
    let mut heard = BTreeSet::new();
    while heard.len() < 2 && turns < 100 {
        if turns == 4 {
            peers[1].write_all(&signal_frame(10)).expect("connected");
        }
        peers[0].write_all(&signal_frame(10)).expect("connected");
        let patience = Some(Duration::from_secs(10));
        Reactor::turn(&mut driver, &group.group, patience, |_| false).expect("the poller is asked");
        let mut inbox = mem::take(driver.inbox());
        heard.extend(events(&mut inbox).filter_map(|event| event.channel()));
        turns += 1;
    }
    assert_eq!(heard.len(), 2, "in {turns} turns");
}

#[test]
fn however_many_messages_one_sends_each_of_the_others_has_its_turn() {
    const PEERS: usize = 5;
    let place = Place::new();
    let engine = Engine::new(Options::default().pool_messages(16, 16)).expect("an engine");
    let (group, mut peers) = opened(&place, &engine, PEERS);
    let mut driver = group.group.take_seat().expect("not forked");
    let mut heard = BTreeSet::new();
    for _ in 0..=PEERS {
        for peer in &mut peers {
            let more = signal_frame(10).repeat(20);
            peer.write_all(&more).expect("connected");
        }
        heard.extend(events(&mut turn(&mut driver, &group)).filter_map(|event| event.channel()));
    }
    assert_eq!(heard.len(), PEERS, "{heard:?}");
}

/// All who look names up are busy until this is dropped.
fn keep_busy(resolver: &Resolver) -> Vec<(Lookup, mpsc::Sender<()>)> {
    let (begins, begun) = mpsc::channel();
    let busy = (1..=THREADS_MAX).map(|number| {
        let (let_go, gate) = mpsc::channel::<()>();
        let begins = begins.clone();
        let waits = move |_| {
            let _ = begins.send(());
            let _ = gate.recv();
        };
        let lookup = resolver.resolve(&format!("127.0.0.{number}"), 1, Box::new(waits));
        let begun = begun.recv_timeout(Duration::from_secs(30));
        begun.expect("a thread that looks up");
        (lookup, let_go)
    });
    busy.collect()
}

/// What waits in the resolver are its questions, and no more than that.
#[test]
fn channels_that_are_gone_wait_for_no_name() {
    let options = Options::default().connect_timeout(Duration::from_millis(1));
    let engine = Engine::new(options).expect("an engine");
    let mut group = engine.group().expect("a group");
    let shared = Arc::clone(&group.group.engine);
    let busy = keep_busy(&shared.resolver);
    let address = Address::tcp("localhost", 1).expect("a name");
    for _ in 0..20 {
        group.post(Message::hello_request(&address)).expect("taken");
        loop {
            if let Event::Closed { reason, .. } = group.recv().expect("it does not shut down") {
                assert_eq!(reason.status(), Status::CONNECT_TIMEOUT);
                break;
            }
        }
        assert_eq!(shared.resolver.questions(), 0);
    }
    let listener = group.post(Message::welcome_request(&address));
    listener.expect("taken");
    turn(&mut group.group.take_seat().expect("not forked"), &group);
    assert_eq!(shared.resolver.questions(), 1);
    drop(group);
    assert_eq!(shared.resolver.questions(), 0);
    drop(busy);
}

/// The original looks names up inside its loop. Here all who look up are busy until they are let go.
#[test]
fn while_a_name_is_looked_up_others_are_served() {
    let place = Place::new();
    let engine = Engine::new(Options::default()).expect("an engine");
    let (mut group, mut peers) = opened(&place, &engine, 1);
    let busy = keep_busy(&group.group.engine.resolver);
    let address = Address::tcp("localhost", 1).expect("a name");
    let asked = group.post(Message::hello_request(&address)).expect("taken");
    for _ in 0..20 {
        peers[0].write_all(&signal_frame(10)).expect("connected");
        match group.recv().expect("it does not shut down") {
            Event::Message(signal) => assert_ne!(signal.channel(), asked.channel),
            other => panic!("nobody has looked the name up, but {other:?}"),
        }
    }
    drop(busy);
    let refused = group.recv().expect("it does not shut down");
    assert_eq!(refused.channel(), Some(asked.channel), "{refused:?}");
}

/// The rest of a frame has come in time.
#[test]
fn a_late_driver_reads_before_a_group_that_closes_blames_a_peer() {
    let place = Place::new();
    let engine = Engine::new(Options::default()).expect("an engine");
    let (group, mut peers) = opened(&place, &engine, 1);
    let mut driver = group.group.take_seat().expect("not forked");
    let signal = signal_frame(1_000);
    let (begun, rest) = signal.split_at(500);
    peers[0].write_all(begun).expect("connected");
    assert!(turn(&mut driver, &group).is_empty());
    peers[0].write_all(rest).expect("connected");
    let late = group.group.engine.clock.now() + Duration::from_secs(3_600);
    group
        .group
        .retire(Mode::Leaving(late + Duration::from_secs(1)));
    Reactor::look_around(&mut driver, &group.group, late);
    let heard: Vec<_> = events(driver.inbox()).collect();
    assert!(matches!(heard[..], [Event::Message(_)]), "{heard:?}");
}

/// The answer to its bye has come in time.
#[test]
fn a_late_driver_reads_before_it_ends_a_group_that_leaves() {
    let place = Place::new();
    let hour = Duration::from_secs(3_600);
    let options = Options::default().bye_timeout(2 * hour);
    let engine = Engine::new(options).expect("an engine");
    let (group, mut peers) = opened(&place, &engine, 1);
    let mut driver = group.group.take_seat().expect("not forked");
    streams(&mut driver, &group, &mut peers[0]);
    let until = group.group.engine.clock.now() + hour;
    group.group.retire(Mode::Leaving(until));
    assert!(turn(&mut driver, &group).is_empty());
    let mut bye = [0; Header::LEN];
    peers[0].read_exact(&mut bye).expect("a bye");
    let bye = Header::from_bytes(&bye).expect("a header");
    assert_eq!(bye.op_code, OpCode::ByeRequest);
    let answer = Message::new(OpCode::ByeResponse, bye.channel, bye.id);
    // More than is read of a stream at once.
    let signals = signal_frame(60_000).repeat(3);
    peers[0]
        .write_all(&[signals, frame(&answer)].concat())
        .expect("connected");
    Reactor::look_around(&mut driver, &group.group, until);
    let events: Vec<_> = events(driver.inbox()).collect();
    assert_eq!(events.len(), 3 + 1 + 1, "signals, answer, end: {events:?}");
    let Some(Event::Closed { reason, .. }) = events.last() else {
        panic!("no end: {events:?}");
    };
    assert_eq!(reason.status(), Status::CHANNEL_CLOSED);
}

#[test]
fn a_channel_that_is_closed_waits_for_no_room() {
    const BOUND: usize = 131_086;
    let place = Place::new();
    let options = Options::default()
        .queue_bytes(BOUND, BOUND)
        .drain_timeout(Duration::ZERO);
    let engine = Engine::new(options).expect("an engine");
    let mut group = engine.group().expect("a group");
    let (full, _peer) = place.connect(&group);
    let (refused, _other) = place.connect(&group);
    let large = |channel| Message::signal(channel).with_body(vec![0; 60_000]);
    while group.post(large(full)).is_ok() {}
    let posted = group.post(large(refused));
    posted.expect_err("the engine's bytes are used up");
    assert!(matches!(group.try_recv(), Ok(None)), "a driver has looked");
    let budget = Arc::clone(&group.group.engine.budget);
    assert!(budget.is_awaited());
    group.post(Message::bye_signal(refused)).expect("taken");
    match group.recv() {
        Ok(Event::Closed { channel, .. }) => assert_eq!(channel, refused),
        other => panic!("the end was due, not {other:?}"),
    }
    assert!(!budget.is_awaited());
}
