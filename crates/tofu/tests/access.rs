//! Who may come in, and who is there: lists of networks and users, credentials, modes of socket files.

mod support;

use std::net::{SocketAddr, TcpListener, TcpStream};
#[cfg(target_os = "linux")]
use std::{
    fs,
    net::IpAddr,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Command, Stdio},
};

#[cfg(target_os = "linux")]
use socket2::{Domain, Socket, Type};
use support::*;
use tofu::{
    Address, ChannelGroup, Credentials, Engine, Event, Message, OpCode, Options, Peer, Status,
    testing::TemporaryUds,
};

/// A user whom every Linux has.
#[cfg(target_os = "linux")]
const NOBODY: u32 = 65_534;

fn own() -> Credentials {
    Credentials::own().expect("a system that tells")
}

/// A user who does not run this test.
fn other_user() -> u32 {
    own().uid ^ 1
}

/// Options that keep this process out, over both transports.
fn nobody_of_here() -> Options {
    Options::default()
        // A block for documentation: nobody connects from there.
        .allow_networks(["192.0.2.0/24", "2001:db8::/32"])
        .allow_users([other_user()])
}

fn everybody_of_here() -> Options {
    Options::default()
        .allow_networks(["192.0.2.0/24", "127.0.0.1"])
        .allow_users([other_user(), own().uid])
}

fn refused(engine: &Engine) -> u64 {
    let metrics = engine.metrics();
    metrics.refused_networks + metrics.refused_users
}

/// Whether who connects there is closed at once. Over TCP it may be so soon that not even connecting succeeds.
fn is_shut_out(address: &Address) -> bool {
    let raw = match address.host() {
        Some(host) => tcp(TcpStream::connect((host, address.port()))),
        None => Some(Raw::connect(address)),
    };
    raw.is_none_or(|mut raw| raw.read_to_end().is_empty())
}

/// The stream of who was not reset while it connected.
fn tcp(connected: std::io::Result<TcpStream>) -> Option<Raw> {
    match connected {
        Ok(stream) => {
            stream.set_read_timeout(Some(WATCHDOG)).expect("set");
            Some(Raw::Tcp(stream))
        }
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
        Err(error) => panic!("not even refused: {error}"),
    }
}

/// The next event, if it is not that what was sent came back.
fn next_but_returned(group: &mut ChannelGroup) -> Event {
    loop {
        match next(group) {
            Event::Returned { .. } => {}
            other => return other,
        }
    }
}

#[test]
fn a_stranger_is_closed_at_accept_and_counted_and_the_application_never_hears_of_it() {
    over_both(|address| {
        let engine = engine_with(nobody_of_here());
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        assert!(is_shut_out(&address));
        assert!(is_shut_out(&address));
        let metrics = engine.metrics();
        assert_eq!((metrics.accepted, refused(&engine)), (2, 2));
        let by_user = if address.path().is_some() { 2 } else { 0 };
        assert_eq!(metrics.refused_users, by_user);
        assert_eq!((metrics.half_open, metrics.channels_open), (0, 1));
        quiet(&mut server);
    });
}

/// Over TCP it may be reset before it has noticed that it was connected.
#[test]
fn a_stranger_hears_that_it_is_disconnected() {
    over_both(|address| {
        let mut server = group_of(nobody_of_here());
        let (address, _) = listen(&mut server, address);
        let mut client = group_of(Options::default());
        let hello = client.post(Message::hello_request(&address)).unwrap();
        match next_but_returned(&mut client) {
            Event::Closed {
                channel, reason, ..
            } => {
                assert_eq!(channel, hello.channel);
                let expected = [Status::PEER_DISCONNECTED, Status::CONNECT_FAILED];
                assert!(expected.contains(&reason.status()), "{reason}");
            }
            other => panic!("the end was due, not {other:?}"),
        }
        // Its hello is not.
        quiet(&mut server);
    });
}

#[test]
fn who_is_on_the_list_comes_in() {
    over_both(|address| {
        let engine = engine_with(everybody_of_here());
        pair(&engine, address);
        assert_eq!(refused(&engine), 0);
    });
}

/// With one place for those who have not said hello, and one for channels.
#[test]
fn strangers_take_no_place_of_those_who_may_come_in() {
    over_both(|address| {
        let options = nobody_of_here().half_open_max(1).channels_max(1);
        let engine = engine_with(options);
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        for _ in 0..200 {
            assert!(is_shut_out(&address));
        }
        let metrics = engine.metrics();
        assert_eq!(refused(&engine), 200);
        assert_eq!(
            (metrics.refused_half_open, metrics.refused_channels),
            (0, 0)
        );
    });
}

/// A connection from one of the addresses of this machine.
#[cfg(target_os = "linux")]
fn connect_from(source: [u8; 4], address: &Address) -> Option<Raw> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket
        .bind(&SocketAddr::from((source, 0)).into())
        .expect("all of 127/8 is here");
    let to = SocketAddr::from(([127, 0, 0, 1], address.port()));
    tcp(socket.connect(&to.into()).map(|()| socket.into()))
}

#[cfg(target_os = "linux")]
#[test]
fn of_one_machine_the_addresses_of_a_network_come_in_and_its_others_do_not() {
    let engine = engine_with(Options::default().allow_networks(["127.1.2.0/24"]));
    let mut server = engine.group().unwrap();
    let (address, _) = listen(&mut server, &loopback());
    let hello = Message::hello_request(&address).with_id(1);
    for (nth, stranger) in [[127, 0, 0, 1], [127, 1, 1, 255], [127, 1, 3, 0]]
        .into_iter()
        .enumerate()
    {
        let end = connect_from(stranger, &address).map(|mut raw| raw.read_to_end());
        assert!(end.is_none_or(|end| end.is_empty()));
        assert_eq!(engine.metrics().refused_networks, nth as u64 + 1);
    }
    for friend in [[127, 1, 2, 0], [127, 1, 2, 255]] {
        let mut raw = connect_from(friend, &address).expect("let in");
        raw.send(&hello);
        let channel = message_of(&mut server, OpCode::HelloRequest).channel();
        let peer = server.peer(channel).expect("it is here");
        assert_eq!(peer.address().expect("tcp").ip(), IpAddr::from(friend));
        drop(raw);
        closed_with(&mut server, channel, Status::PEER_DISCONNECTED);
    }
    assert_eq!(engine.metrics().refused_networks, 3);
}

/// A socket for both sees an IPv4 peer at `::ffff:127.0.0.1`.
#[test]
fn on_a_socket_for_both_an_ipv4_peer_is_known_by_its_ipv4_address() {
    let engine = engine_with(Options::default().allow_networks(["127.0.0.0/8"]));
    let mut server = engine.group().unwrap();
    let (address, _) = listen(&mut server, &"tcp||0".parse().unwrap());
    let v4 = Address::tcp("127.0.0.1", address.port()).unwrap();
    let _raw = Raw::hello(&v4);
    let hello = message_of(&mut server, OpCode::HelloRequest);
    let peer = server.peer(hello.channel()).expect("it is here");
    assert!(peer.address().expect("tcp").is_ipv4(), "{peer}");
    if TcpListener::bind(("::1", 0)).is_ok() {
        let v6 = Address::tcp("::1", address.port()).unwrap();
        assert!(is_shut_out(&v6));
        assert_eq!(engine.metrics().refused_networks, 1);
    }
}

#[test]
fn ipv6_networks_are_looked_up_too() {
    if TcpListener::bind(("::1", 0)).is_err() {
        return;
    }
    for (networks, comes_in) in [(["::1"], true), (["::/0"], true), (["::2"], false)] {
        let engine = engine_with(Options::default().allow_networks(networks));
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, &"tcp|::1|0".parse().unwrap());
        if comes_in {
            let _raw = Raw::hello(&address);
            message_of(&mut server, OpCode::HelloRequest);
        } else {
            assert!(is_shut_out(&address));
        }
        assert_eq!(engine.metrics().refused_networks == 0, comes_in);
    }
}

#[test]
fn each_list_is_about_one_transport() {
    let only_users = Options::default().allow_users([other_user()]);
    let engine = engine_with(only_users);
    pair(&engine, &loopback());
    let only_networks = Options::default().allow_networks(["192.0.2.0/24"]);
    let engine = engine_with(only_networks);
    let dir = TemporaryUds::new().unwrap();
    pair(&engine, &dir.address("a.sock"));
}

#[test]
fn both_ends_know_who_the_other_is() {
    over_both(|address| {
        let engine = engine();
        let p = pair(&engine, address);
        let client = p.server.peer(p.at_server).expect("known");
        let server = p.client.peer(p.at_client).expect("known");
        if p.address.path().is_some() {
            for peer in [client, server] {
                let credentials = peer.credentials().expect("uds");
                assert_eq!((credentials.uid, credentials.gid), (own().uid, own().gid));
                if cfg!(any(target_os = "linux", target_vendor = "apple")) {
                    assert_eq!(credentials.pid, Some(std::process::id()));
                }
                assert_eq!(peer.address(), None);
            }
        } else {
            let expected = SocketAddr::from(([127, 0, 0, 1], p.address.port()));
            assert_eq!(server.address(), Some(expected));
            let client = client.address().expect("tcp");
            assert_eq!(client.ip(), expected.ip());
            assert_ne!(client.port(), expected.port());
            assert_eq!(server.credentials(), None);
        }
        assert_eq!(p.server.poster().peer(p.at_server), Some(client));
    });
}

/// It says what it has to say, and goes; all that before anybody looks.
#[test]
fn who_has_left_before_its_hello_is_read_is_known_still() {
    over_both(|address| {
        let engine = engine();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let mut raw = Raw::hello(&address);
        raw.send(&Message::signal(1.into()).with_id(2));
        raw.shut_down();
        drop(raw);
        eventually("it is gone", || {
            engine.metrics().accepted == 1 && engine.metrics().channels_open == 1
        });
        let hello = message_of(&mut server, OpCode::HelloRequest);
        let peer = server.peer(hello.channel()).expect("known still");
        let is_known = match peer.address() {
            Some(address) => address.ip().is_loopback(),
            None => peer.credentials().is_some_and(|peer| peer.uid == own().uid),
        };
        // Other systems forget the credentials of a process that is gone.
        assert!(is_known || !cfg!(target_os = "linux"), "{peer}");
        message_of(&mut server, OpCode::Signal);
        closed_with(&mut server, hello.channel(), Status::PEER_DISCONNECTED);
        assert_eq!(server.peer(hello.channel()), Some(peer));
    });
}

#[test]
fn who_was_at_a_number_is_known_until_it_is_given_out_again() {
    let engine = engine();
    let mut server = engine.group().unwrap();
    let (address, _) = listen(&mut server, &loopback());
    let mut first = None;
    loop {
        let _raw = Raw::hello(&address);
        let number = message_of(&mut server, OpCode::HelloRequest).channel();
        let peer = server.peer(number).expect("known");
        let (number_then, peer_then) = *first.get_or_insert((number, peer));
        if number == number_then && peer != peer_then {
            return;
        }
        server.post(Message::bye_signal(number)).unwrap();
        closed_with(&mut server, number, Status::CHANNEL_CLOSED);
        assert_eq!(server.peer(number_then), Some(peer_then));
    }
}

#[test]
fn nobody_is_at_a_listener_or_at_the_channel_of_another_group_or_of_nobody() {
    over_both(|address| {
        let engine = engine();
        let p = pair(&engine, address);
        for channel in [
            p.listener,
            p.at_client,
            0.into(),
            999.into(),
            u16::MAX.into(),
        ] {
            assert_eq!(p.server.peer(channel), None, "{channel}");
        }
    });
}

/// Nobody has heard of it, so nobody can ask.
#[test]
fn who_has_not_said_hello_is_nobody_yet() {
    over_both(|address| {
        let engine = engine();
        let mut server = engine.group().unwrap();
        let (address, _) = listen(&mut server, address);
        let _silent = Raw::connect(&address);
        eventually("it is accepted", || engine.metrics().half_open == 1);
        let all: Vec<Peer> = (1..100).filter_map(|n| server.peer(n.into())).collect();
        assert_eq!(all, []);
    });
}

/// This program as another user runs it, from where everybody can read it, to run one of its tests.
#[cfg(target_os = "linux")]
fn as_nobody(dir: &TemporaryUds, test: &str) -> Command {
    let program = dir.path().join("program");
    fs::copy(std::env::current_exe().expect("a path"), &program).expect("copied");
    for path in [dir.path(), &program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("set");
    }
    let mut command = Command::new(program);
    command
        .args(["--exact", test])
        .stdout(Stdio::null())
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/");
    command
}

/// Only the almighty may start a process of another user.
#[cfg(target_os = "linux")]
#[test]
fn the_user_of_another_process_is_told_and_kept_out_or_let_in() {
    const TO: &str = "TOFU_TEST_SAYS_HELLO_TO";
    if let Ok(address) = std::env::var(TO) {
        let address = address.parse().unwrap();
        let mut raw = Raw::connect(&address);
        let _ = raw.try_write(&frame(&Message::hello_request(&address).with_id(1)));
        raw.read_to_end();
        return;
    }
    if own().uid != 0 {
        return eprintln!("left out: it wants root");
    }
    let dir = TemporaryUds::new().unwrap();
    let address = dir.address("a.sock");
    for (user, comes_in) in [(0, false), (NOBODY, true)] {
        let options = Options::default().uds_mode(0o666).allow_users([user]);
        let engine = engine_with(options);
        let mut server = engine.group().unwrap();
        let (address, listener) = listen(&mut server, &address);
        let test = "the_user_of_another_process_is_told_and_kept_out_or_let_in";
        let mut child = as_nobody(&dir, test)
            .env(TO, address.to_string())
            .spawn()
            .unwrap();
        if comes_in {
            let hello = message_of(&mut server, OpCode::HelloRequest);
            let peer = server.peer(hello.channel()).expect("it is here");
            let credentials = peer.credentials().expect("uds");
            assert_eq!((credentials.uid, credentials.gid), (NOBODY, NOBODY));
            assert_eq!(credentials.pid, Some(child.id()));
            server.post(Message::bye_signal(hello.channel())).unwrap();
            closed_with(&mut server, hello.channel(), Status::CHANNEL_CLOSED);
        }
        assert!(child.wait().unwrap().success());
        assert_eq!(engine.metrics().refused_users == 0, comes_in);
        server.post(Message::bye_signal(listener)).unwrap();
        closed_with(&mut server, listener, Status::CHANNEL_CLOSED);
    }
}

/// The almighty may connect everywhere; others only where the file lets them.
#[cfg(target_os = "linux")]
#[test]
fn the_mode_of_a_socket_file_keeps_others_out() {
    const TO: &str = "TOFU_TEST_IS_KEPT_OUT_OF";
    if let Ok(path) = std::env::var(TO) {
        let error = std::os::unix::net::UnixStream::connect(path).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        return;
    }
    if own().uid != 0 {
        return eprintln!("left out: it wants root");
    }
    let dir = TemporaryUds::new().unwrap();
    let engine = engine_with(Options::default().uds_mode(0o600));
    let mut server = engine.group().unwrap();
    let (address, _) = listen(&mut server, &dir.address("a.sock"));
    let status = as_nobody(&dir, "the_mode_of_a_socket_file_keeps_others_out")
        .env(TO, address.path().unwrap())
        .status();
    assert!(status.unwrap().success());
    assert_eq!(engine.metrics().accepted, 0);
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod abstract_names {
    #[cfg(target_os = "android")]
    use std::os::android::net::SocketAddrExt;
    #[cfg(target_os = "linux")]
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::UnixStream;

    use tofu::Refusal;

    use super::*;

    fn address(of: &str) -> Address {
        Address::uds(format!("@tofu-{of}-{}", std::process::id())).expect("a short name")
    }

    /// A peer without a library.
    fn connect(address: &Address) -> Raw {
        let name = address.path().expect("uds").trim_start_matches('@');
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name);
        let stream = UnixStream::connect_addr(&address.expect("a short name"));
        let stream = stream.expect("connected");
        stream.set_read_timeout(Some(WATCHDOG)).expect("set");
        Raw::Uds(stream)
    }

    #[test]
    fn nothing_but_the_list_of_users_protects_them() {
        let address = address("list");
        let engine = engine_with(nobody_of_here());
        let mut server = engine.group().unwrap();
        listen(&mut server, &address);
        assert!(connect(&address).read_to_end().is_empty());
        assert_eq!(engine.metrics().refused_users, 1);
        drop(server);
        // Without one, whoever knows the name comes in.
        let engine = engine_with(Options::default());
        let mut server = engine.group().unwrap();
        listen(&mut server, &address);
        let mut raw = connect(&address);
        raw.send(&Message::hello_request(&address).with_id(1));
        message_of(&mut server, OpCode::HelloRequest);
    }

    #[test]
    fn an_engine_that_relies_on_mode_or_owner_does_not_listen_there() {
        let address = address("mode");
        let owner = own();
        for options in [
            Options::default().uds_mode(0o600),
            Options::default().uds_owner(Some(owner.uid), None),
            Options::default().uds_owner(None, Some(owner.gid)),
        ] {
            let group = group_of(options.clone());
            let posted = group.post(Message::welcome_request(&address));
            let error = posted.expect_err("nobody would be kept out");
            assert!(matches!(error.refusal(), Refusal::NotAllowed { .. }));
            assert!(error.to_string().contains("abstract name"), "{error}");
            assert_eq!(error.message().op_code(), OpCode::WelcomeRequest);
            let mut guarded = group_of(options.allow_users([owner.uid]));
            listen(&mut guarded, &address);
            // And connecting is nobody's business but the listener's.
            group.post(Message::hello_request(&address)).unwrap();
            message_of(&mut guarded, OpCode::HelloRequest);
        }
    }
}
