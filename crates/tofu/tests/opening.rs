//! Listening and connecting: what works, what fails with which status, and within which bounds.

mod support;

use std::{
    fs,
    io::ErrorKind,
    net::{TcpListener, TcpStream},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixListener,
    },
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use support::*;
use tofu::{
    Address, ChannelGroup, ChannelNumber, Engine, Message, OpCode, Options, Status,
    testing::TemporaryUds,
};

/// Short, for timeouts under test.
const SHORT: Duration = Duration::from_millis(80);

/// The original lets two servers share a port unknowingly.
#[test]
fn a_port_on_which_somebody_listens_is_in_use() {
    let mut first = group_of(Options::default());
    let mut second = group_of(Options::default());
    for asked in ["tcp|127.0.0.1|0", "tcp||0"] {
        let (address, _) = listen(&mut first, &asked.parse().unwrap());
        listen_fails(&mut second, &address, Status::ADDRESS_IN_USE);
        listen_fails(&mut first, &address, Status::ADDRESS_IN_USE);
    }
}

#[test]
fn a_port_is_shared_by_those_who_both_ask_for_it() {
    let shared = Options::default().reuse_port(true);
    let mut first = group_of(shared.clone());
    let (address, _) = listen(&mut first, &loopback());
    let mut stranger = group_of(Options::default());
    listen_fails(&mut stranger, &address, Status::ADDRESS_IN_USE);
    let mut second = group_of(shared);
    assert_eq!(listen(&mut second, &address).0, address);
}

#[test]
fn a_port_whose_connections_just_closed_can_be_listened_on_at_once() {
    let mut server = group_of(Options::default());
    let (address, listener) = listen(&mut server, &loopback());
    let client = group_of(Options::default());
    for _ in 0..5 {
        reached(&mut server, &client, &address);
    }
    server.post(Message::bye_signal(listener)).unwrap();
    closed_with(&mut server, listener, Status::CHANNEL_CLOSED);
    // Its accepted channels live on.
    let (again, _) = listen(&mut server, &address);
    assert_eq!(again, address);
    drop(server);
    drop(client);
}

/// A server that closed with FIN leaves connections in `TIME_WAIT` on its port.
#[test]
fn a_port_in_time_wait_can_be_listened_on_at_once() {
    let before = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let place = before.local_addr().unwrap();
    let client = TcpStream::connect(place).unwrap();
    let (server, _) = before.accept().unwrap();
    drop(server);
    assert!(Raw::Tcp(client).read_to_end().is_empty());
    drop(before);
    // Not everybody may bind there now.
    let plain = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let refused = plain.bind(&place.into()).expect_err("it is in TIME_WAIT");
    assert_eq!(refused.kind(), ErrorKind::AddrInUse);

    let mut group = group_of(Options::default());
    let address = Address::tcp("127.0.0.1", place.port()).unwrap();
    assert_eq!(listen(&mut group, &address).0, address);
}

#[test]
fn an_address_of_no_interface_cannot_be_listened_on() {
    let mut group = group_of(Options::default());
    // A block for documentation: no machine has it.
    let foreign = Address::tcp("192.0.2.1", 0).unwrap();
    listen_fails(&mut group, &foreign, Status::ADDRESS_NOT_AVAILABLE);
}

#[test]
fn a_stale_socket_file_is_replaced() {
    let dir = TemporaryUds::new().unwrap();
    let address = dir.address("a.sock");
    // A process that crashed leaves its file behind.
    drop(UnixListener::bind(address.path().unwrap()).unwrap());
    let mut server = group_of(Options::default());
    listen(&mut server, &address);
    let client = group_of(Options::default());
    reached(&mut server, &client, &address);
}

/// The original steals it.
#[test]
fn a_live_socket_file_is_not_stolen() {
    let dir = TemporaryUds::new().unwrap();
    let address = dir.address("a.sock");
    let mut first = group_of(Options::default());
    let (_, listener) = listen(&mut first, &address);
    let mut second = group_of(Options::default());
    listen_fails(&mut second, &address, Status::ADDRESS_IN_USE);
    let client = group_of(Options::default());
    reached(&mut first, &client, &address);

    first.post(Message::bye_signal(listener)).unwrap();
    closed_with(&mut first, listener, Status::CHANNEL_CLOSED);
    listen(&mut second, &address);
}

#[test]
fn what_is_no_socket_is_not_touched() {
    let dir = TemporaryUds::new().unwrap();
    let file = dir.address("file");
    fs::write(file.path().unwrap(), "precious").unwrap();
    let folder = dir.address("folder");
    fs::create_dir(folder.path().unwrap()).unwrap();
    let link = dir.address("link");
    std::os::unix::fs::symlink(file.path().unwrap(), link.path().unwrap()).unwrap();
    let mut group = group_of(Options::default());
    for taken in [&file, &folder, &link] {
        listen_fails(&mut group, taken, Status::ADDRESS_IN_USE);
    }
    assert_eq!(
        fs::read_to_string(link.path().unwrap()).unwrap(),
        "precious"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn a_socket_file_goes_with_its_listener() {
    let dir = TemporaryUds::new().unwrap();
    let address = dir.address("a.sock");
    let is_there = || fs::symlink_metadata(address.path().unwrap()).is_ok();
    let ends: [fn(ChannelGroup, ChannelNumber); 4] = [
        |mut group, listener| {
            group.post(Message::bye_signal(listener)).expect("posted");
            closed_with(&mut group, listener, Status::CHANNEL_CLOSED);
        },
        |mut group, listener| {
            group.post(Message::bye_request(listener)).expect("posted");
            closed_with(&mut group, listener, Status::CHANNEL_CLOSED);
        },
        |group, _| assert_eq!(group.close(WATCHDOG).closed.len(), 1),
        // The engine ends with its last group, and everything of it.
        |group, _| drop(group),
    ];
    for end in ends {
        let mut group = group_of(Options::default());
        let (_, listener) = listen(&mut group, &address);
        assert!(is_there());
        end(group, listener);
        assert!(!is_there());
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_address_of_a_group_that_is_gone_is_free_at_once() {
    over_both(|address| {
        let engine = engine();
        let mut group = engine.group().unwrap();
        let (address, _) = listen(&mut group, address);
        let ends: [fn(ChannelGroup); 3] = [drop, ChannelGroup::abort, |group| {
            group.close(WATCHDOG);
        }];
        for end in ends.into_iter().cycle().take(30) {
            end(group);
            group = engine.group().unwrap();
            listen(&mut group, &address);
        }
    });
}

#[test]
fn a_socket_file_has_the_mode_that_was_asked_for() {
    let dir = TemporaryUds::new().unwrap();
    for mode in [0o600, 0o660, 0o777] {
        let address = dir.address(&format!("{mode:o}"));
        let mut group = group_of(Options::default().uds_mode(mode));
        listen(&mut group, &address);
        let metadata = fs::metadata(address.path().unwrap()).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, mode);
    }
}

#[test]
fn a_socket_file_has_the_owner_that_was_asked_for() {
    let dir = TemporaryUds::new().unwrap();
    let ours = fs::metadata(dir.path()).unwrap();
    // Only the almighty may give a file away.
    let mut owners = vec![(ours.uid(), ours.gid())];
    if ours.uid() == 0 {
        owners.push((65_534, 65_533));
    }
    for (uid, gid) in owners {
        let address = dir.address("a.sock");
        let mut group = group_of(Options::default().uds_owner(Some(uid), Some(gid)));
        let (_, listener) = listen(&mut group, &address);
        let metadata = fs::metadata(address.path().unwrap()).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (uid, gid));
        group.post(Message::bye_signal(listener)).unwrap();
        closed_with(&mut group, listener, Status::CHANNEL_CLOSED);
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn an_abstract_name_has_no_file_and_one_owner() {
    let name = format!("@tofu-test-{}", std::process::id());
    let address = Address::uds(&*name).unwrap();
    let mut server = group_of(Options::default());
    let (bound, listener) = listen(&mut server, &address);
    assert_eq!(bound, address);
    assert!(fs::symlink_metadata(&name).is_err() && fs::symlink_metadata(&name[1..]).is_err());
    let mut second = group_of(Options::default());
    listen_fails(&mut second, &address, Status::ADDRESS_IN_USE);
    let mut client = group_of(Options::default());
    reached(&mut server, &client, &address);
    server.post(Message::bye_signal(listener)).unwrap();
    closed_with(&mut server, listener, Status::CHANNEL_CLOSED);
    connect_fails(&mut client, &address, Status::CONNECT_REFUSED);
    listen(&mut second, &address);
}

#[test]
fn a_port_on_which_nobody_listens_refuses() {
    let mut group = group_of(Options::default());
    let (_reserved, address) = refusing_address();
    connect_fails(&mut group, &address, Status::CONNECT_REFUSED);
    // A host that is left out is this one.
    let short = Address::tcp("", address.port()).unwrap();
    connect_fails(&mut group, &short, Status::CONNECT_REFUSED);
}

#[test]
fn a_path_with_nobody_behind_it_is_told_from_one_that_is_not_there() {
    let dir = TemporaryUds::new().unwrap();
    let mut group = group_of(Options::default());
    let stale = dir.address("stale");
    drop(UnixListener::bind(stale.path().unwrap()).unwrap());
    connect_fails(&mut group, &stale, Status::CONNECT_REFUSED);
    for missing in ["missing", "no/such/directory"] {
        let address = dir.address(missing);
        connect_fails(&mut group, &address, Status::UDS_PATH_NOT_FOUND);
    }
    let address = dir.address("no/such/directory");
    listen_fails(&mut group, &address, Status::UDS_PATH_NOT_FOUND);
}

/// `invalid` is reserved for names that do not exist.
#[test]
fn a_name_without_an_address_is_told_to_who_connects_and_who_listens() {
    // A name server that does not answer is given up on; then it is the timeout that tells.
    let mut group = group_of(Options::default().connect_timeout(WATCHDOG / 2));
    let address = Address::tcp("no-such-host.invalid", 7099).unwrap();
    let channel = group
        .post(Message::hello_request(&address))
        .unwrap()
        .channel;
    let (_, reason) = returned(&mut group);
    let expected = [Status::NAME_NOT_RESOLVED, Status::CONNECT_TIMEOUT];
    assert!(expected.contains(&reason.status()), "{reason}");
    closed_with(&mut group, channel, reason.status());
    if reason.status() == Status::NAME_NOT_RESOLVED {
        listen_fails(&mut group, &address, Status::NAME_NOT_RESOLVED);
    }
}

#[test]
fn a_name_is_as_good_as_an_address() {
    let mut server = group_of(Options::default());
    let (address, _) = listen(&mut server, &"tcp|localhost|0".parse().unwrap());
    let by_name = Address::tcp("localhost", address.port()).unwrap();
    let client = group_of(Options::default());
    reached(&mut server, &client, &by_name);
}

#[test]
fn ipv6_is_spoken_where_there_is_any() {
    if TcpListener::bind(("::1", 0)).is_err() {
        return;
    }
    let mut server = group_of(Options::default());
    let client = group_of(Options::default());
    for asked in ["tcp|::1|0", "tcp||0"] {
        let (address, _) = listen(&mut server, &asked.parse().unwrap());
        let v6 = Address::tcp("::1", address.port()).unwrap();
        reached(&mut server, &client, &v6);
    }
}

/// Such as `fe80::1%eth0`, of an interface that has one.
#[cfg(target_os = "linux")]
fn address_of_a_link() -> Option<String> {
    let interfaces = fs::read_to_string("/proc/net/if_inet6").ok()?;
    interfaces.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let ip = u128::from_str_radix(fields.first()?, 16).ok()?;
        let ip = std::net::Ipv6Addr::from_bits(ip);
        ip.is_unicast_link_local()
            .then(|| format!("{ip}%{}", fields[fields.len() - 1]))
    })
}

#[cfg(target_os = "linux")]
#[test]
fn an_address_of_a_link_is_listened_on_and_reported_with_its_zone() {
    let Some(host) = address_of_a_link() else {
        return eprintln!("left out: no interface has one");
    };
    let mut server = group_of(Options::default());
    let client = group_of(Options::default());
    let asked = Address::tcp(&host, 0).unwrap();
    let (reported, _) = listen(&mut server, &asked);
    reached(&mut server, &client, &reported);
    let as_asked = Address::tcp(&host, reported.port()).unwrap();
    reached(&mut server, &client, &as_asked);
}

#[cfg(target_os = "linux")]
#[test]
fn who_is_not_answered_in_time_gives_up() {
    let (socket, address) = refusing_address();
    let _waiting = deafen(&socket);
    let mut group = group_of(Options::default().connect_timeout(SHORT));
    let started = std::time::Instant::now();
    connect_fails(&mut group, &address, Status::CONNECT_TIMEOUT);
    assert!(started.elapsed() >= SHORT);
}

#[cfg(target_os = "linux")]
#[test]
fn while_connecting_one_can_post_and_give_up() {
    let (socket, address) = refusing_address();
    let _waiting = deafen(&socket);
    let mut group = group_of(Options::default());
    let hello = group.post(Message::hello_request(&address)).unwrap();
    group
        .post(Message::signal(hello.channel).with_body("behind it"))
        .unwrap();
    group.post(Message::bye_signal(hello.channel)).unwrap();
    let (message, _) = returned(&mut group);
    assert_eq!(message.op_code(), OpCode::HelloRequest);
    let (message, reason) = returned(&mut group);
    assert_eq!(message.body(), b"behind it");
    assert_eq!(reason.status(), Status::CHANNEL_CLOSED);
    closed_with(&mut group, hello.channel, Status::CHANNEL_CLOSED);
}

/// A UDS listener whose queue of connections is full.
#[cfg(target_os = "linux")]
fn busy_uds_listener(address: &Address) -> (Socket, Vec<std::os::unix::net::UnixStream>) {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    let path = address.path().expect("uds");
    socket
        .bind(&socket2::SockAddr::unix(path).expect("a path"))
        .expect("bound");
    socket.listen(0).expect("listening");
    let waiting = vec![std::os::unix::net::UnixStream::connect(path).expect("the first one fits")];
    (socket, waiting)
}

#[cfg(target_os = "linux")]
#[test]
fn a_busy_uds_listener_is_waited_for() {
    let dir = TemporaryUds::new().unwrap();
    let address = dir.address("a.sock");
    let (socket, waiting) = busy_uds_listener(&address);
    let mut impatient = group_of(Options::default().connect_timeout(SHORT));
    connect_fails(&mut impatient, &address, Status::CONNECT_TIMEOUT);

    let group = group_of(Options::default());
    group
        .post(Message::hello_request(&address).with_body("at last"))
        .unwrap();
    drop(waiting);
    socket.accept().unwrap();
    let (stream, _) = socket.accept().unwrap();
    let stream = std::os::unix::net::UnixStream::from(std::os::fd::OwnedFd::from(stream));
    stream.set_read_timeout(Some(WATCHDOG)).unwrap();
    assert_eq!(Raw::Uds(stream).recv().body(), b"at last");
}

#[test]
fn a_client_may_post_behind_its_hello_without_waiting() {
    over_both(|address| {
        let engine = engine();
        let mut server = engine.group().unwrap();
        let client = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let channel = client
            .post(Message::hello_request(&address))
            .unwrap()
            .channel;
        for id in 1..=50 {
            client.post(Message::request(channel).with_id(id)).unwrap();
        }
        client.post(Message::bye_request(channel)).unwrap();
        message_of(&mut server, OpCode::HelloRequest);
        for id in 1..=50 {
            assert_eq!(message_of(&mut server, OpCode::Request).id().get(), id);
        }
        message_of(&mut server, OpCode::ByeRequest);
    });
}

#[test]
fn a_server_may_start_to_send_without_an_answer_to_the_hello() {
    over_both(|address| {
        let engine = engine();
        let mut server = engine.group().unwrap();
        let mut client = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let at_client = client
            .post(Message::hello_request(&address))
            .unwrap()
            .channel;
        let hello = message_of(&mut server, OpCode::HelloRequest);
        server.post(Message::signal(hello.channel())).unwrap();
        let heard = message_of(&mut client, OpCode::Signal);
        assert_eq!(heard.channel(), at_client);
        client.post(Message::request(at_client)).unwrap();
        let request = message_of(&mut server, OpCode::Request);
        server.post(request.reply().unwrap()).unwrap();
        message_of(&mut client, OpCode::Response);
        // And it may answer later.
        server.post(hello.reply().unwrap()).unwrap();
        message_of(&mut client, OpCode::HelloResponse);
    });
}

#[test]
fn a_server_may_refuse_with_bye_signal() {
    over_both(|address| {
        let engine = engine();
        let mut server = engine.group().unwrap();
        let mut client = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let at_client = client
            .post(Message::hello_request(&address))
            .unwrap()
            .channel;
        let hello = message_of(&mut server, OpCode::HelloRequest);
        server.post(Message::bye_signal(hello.channel())).unwrap();
        closed_with(&mut server, hello.channel(), Status::CHANNEL_CLOSED);
        closed_with(&mut client, at_client, Status::PEER_DISCONNECTED);
    });
}

#[test]
fn who_does_not_say_hello_in_time_is_closed_without_an_event() {
    over_both(|address| {
        let engine = Engine::new(Options::default().hello_timeout(SHORT)).unwrap();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let mut silent = Raw::connect(&address);
        let mut slow = Raw::connect(&address);
        slow.write(&frame(&Message::hello_request(&address).with_id(1))[..30]);
        assert!(silent.read_to_end().is_empty());
        assert!(slow.read_to_end().is_empty());
        eventually("both are counted", || engine.metrics().hello_timeouts == 2);
        assert_eq!(engine.metrics().half_open, 0);
        // Who has said it has all the time in the world.
        let _polite = Raw::hello(&address);
        message_of(&mut server, OpCode::HelloRequest);
        assert!(matches!(server.recv_timeout(SHORT * 2), Ok(None)));
    });
}

#[test]
fn half_open_connections_are_bounded() {
    over_both(|address| {
        let engine = Engine::new(Options::default().half_open_max(2)).unwrap();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let mut first = Raw::connect(&address);
        let _second = Raw::connect(&address);
        let mut third = Raw::connect(&address);
        assert!(third.read_to_end().is_empty());
        assert_eq!(engine.metrics().refused_half_open, 1);
        assert_eq!(engine.metrics().half_open, 2);
        first.send(&Message::hello_request(&address).with_id(1));
        message_of(&mut server, OpCode::HelloRequest);
        let _fourth = Raw::hello(&address);
        message_of(&mut server, OpCode::HelloRequest);
        assert_eq!(engine.metrics().refused_half_open, 1);
    });
}

#[test]
fn channels_are_bounded_and_who_is_too_many_is_closed_at_accept() {
    over_both(|address| {
        let engine = Engine::new(Options::default().channels_max(3)).unwrap();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let first = Raw::hello(&address);
        let first_channel = message_of(&mut server, OpCode::HelloRequest).channel();
        let _second = Raw::hello(&address);
        message_of(&mut server, OpCode::HelloRequest);
        let mut third = Raw::connect(&address);
        assert!(third.read_to_end().is_empty());
        assert_eq!(engine.metrics().refused_channels, 1);
        assert_eq!(engine.metrics().half_open, 0);
        drop(first);
        closed_with(&mut server, first_channel, Status::PEER_DISCONNECTED);
        let _fourth = Raw::hello(&address);
        message_of(&mut server, OpCode::HelloRequest);
        assert_eq!(engine.metrics().accepted, 4);
    });
}
