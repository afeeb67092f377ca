//! Listening and connecting, where it takes a process of its own to see it. They have a file of their
//! own as well: between fork and exec a child has a copy of every descriptor, and a listener that another
//! test has just closed would live on in it.

mod support;

use std::{
    fs,
    io::ErrorKind,
    net::TcpListener,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Command,
    time::Duration,
};

use support::*;
use tofu::{Address, OpCode, Options, Status, testing::TemporaryUds};

/// Short, for timeouts under test.
#[cfg(target_os = "linux")]
const SHORT: Duration = Duration::from_millis(80);

/// What this process has open, and a child of it would inherit.
#[cfg(target_os = "linux")]
#[test]
fn sockets_and_pollers_are_not_inherited_by_child_processes() {
    over_both(|address| {
        let engine = engine();
        let p = pair(&engine, address);
        let output = Command::new("ls").args(["-l", "/proc/self/fd"]).output();
        let listing = String::from_utf8(output.unwrap().stdout).unwrap();
        let inherited: Vec<_> = listing
            .lines()
            .filter(|line| line.contains("socket:") || line.contains("anon_inode"))
            .collect();
        assert!(inherited.is_empty(), "{inherited:?}");
        drop(p);
    });
}

/// In a process of its own, for which `several.test` has three addresses.
#[cfg(target_os = "linux")]
#[test]
fn all_addresses_of_a_name_are_tried_in_turn() {
    let dir = TemporaryUds::new().unwrap();
    let hosts = dir.path().join("hosts");
    let names = "::1 several.test\n127.0.0.2 several.test\n127.0.0.1 several.test\n";
    fs::write(&hosts, names).unwrap();
    let mount = |program: &str| {
        let mut command = Command::new("unshare");
        let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        command.args(["--mount", "sh", "-c", script]);
        command.arg(&hosts).arg(program);
        command
    };
    let may_mount = mount("true")
        .output()
        .is_ok_and(|output| output.status.success());
    if !may_mount {
        return eprintln!("left out: it wants to mount");
    }
    let test = "all_addresses_of_a_name_are_tried_in_turn";
    if !in_own_process(test, |program| {
        mount(program.to_str().expect("a path that is text"))
    }) {
        return;
    }
    let several = |port| Address::tcp("several.test", port).expect("an address");
    // The others refuse.
    let (reserved, refusing) = refusing_address();
    let mut server = group_of(Options::default());
    let other = Address::tcp("127.0.0.2", refusing.port()).unwrap();
    listen(&mut server, &other);
    let client = group_of(Options::default());
    reached(&mut server, &client, &several(refusing.port()));

    // One of them, which is tried earlier, does not answer: it does not use up all of the time.
    let _waiting = deafen(&reserved);
    let client = group_of(Options::default().connect_timeout(SHORT * 6));
    reached(&mut server, &client, &several(refusing.port()));

    // All refuse.
    let (_reserved, refusing) = refusing_address();
    let mut client = group_of(Options::default());
    let nobody = several(refusing.port());
    connect_fails(&mut client, &nobody, Status::CONNECT_REFUSED);
}

#[test]
fn who_may_not_is_told_so() {
    let test = "who_may_not_is_told_so";
    let dir = TemporaryUds::new().unwrap();
    let is_almighty = {
        let sealed = dir.path().join("sealed");
        fs::create_dir(&sealed).unwrap();
        fs::set_permissions(&sealed, fs::Permissions::from_mode(0o555)).unwrap();
        fs::write(sealed.join("x"), "").is_ok()
    };
    if is_almighty {
        // Once more as nobody, if nobody can run this program.
        let program = std::env::current_exe().unwrap();
        let nobody = 65_534;
        let may_run = Command::new(&program)
            .arg("--list")
            .uid(nobody)
            .gid(nobody)
            .output()
            .is_ok_and(|output| output.status.success());
        if !may_run {
            return eprintln!("left out: nobody may run this program");
        }
        in_own_process(test, |program| {
            let mut command = Command::new(program);
            command.uid(nobody).gid(nobody);
            command
        });
        return;
    }
    let mut group = group_of(Options::default());
    listen_fails(
        &mut group,
        &dir.address("sealed/a.sock"),
        Status::PERMISSION_DENIED,
    );
    let private = dir.address("private.sock");
    let mut server = group_of(Options::default().uds_mode(0));
    listen(&mut server, &private);
    connect_fails(&mut group, &private, Status::PERMISSION_DENIED);
    // Who cannot even ask whether it is alive does not take it away. Elsewhere it need not ask: the lock says so.
    let status = if cfg!(any(target_os = "linux", target_os = "android")) {
        Status::PERMISSION_DENIED
    } else {
        Status::ADDRESS_IN_USE
    };
    listen_fails(&mut group, &private, status);
    if TcpListener::bind(("127.0.0.1", 1)).is_err_and(|e| e.kind() == ErrorKind::PermissionDenied) {
        let privileged = Address::tcp("127.0.0.1", 1).unwrap();
        listen_fails(&mut group, &privileged, Status::PERMISSION_DENIED);
    }
}

/// In a process of its own, for a directory is the process's.
#[test]
fn the_file_of_a_relative_path_is_removed_wherever_the_process_has_gone() {
    let test = "the_file_of_a_relative_path_is_removed_wherever_the_process_has_gone";
    if !in_own_process(test, |program| Command::new(program)) {
        return;
    }
    let dir = TemporaryUds::new().unwrap();
    std::env::set_current_dir(dir.path()).unwrap();
    let asked = Address::uds("relative.sock").unwrap();
    let mut group = group_of(Options::default());
    let (address, _) = listen(&mut group, &asked);
    assert_eq!(address, asked, "it is reported as it was asked for");
    assert!(dir.path().join("relative.sock").exists());
    std::env::set_current_dir("/").unwrap();
    drop(group);
    eventually("nothing is left behind", || {
        fs::read_dir(dir.path()).unwrap().count() == 0
    });
}

/// The original runs in a busy loop.
#[test]
fn out_of_descriptors_a_listener_pauses_and_goes_on() {
    let limited = |program: &std::path::Path| {
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""])
            .arg(program);
        command
    };
    if !in_own_process("out_of_descriptors_a_listener_pauses_and_goes_on", limited) {
        return;
    }
    let engine = engine();
    let mut group = engine.group().unwrap();
    let (address, _) = listen(&mut group, &loopback());
    let mut hoard: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();

    // Who connects and who listens is told.
    let status = Status::TOO_MANY_OPEN_FILES;
    connect_fails(&mut group, &address, status);
    listen_fails(&mut group, &loopback(), status);

    // One descriptor for the client's end, none for the server's.
    hoard.pop();
    let mut raw = Raw::hello(&address);
    eventually("the listener pauses", || {
        engine.metrics().out_of_descriptors > 0
    });
    assert!(matches!(group.try_recv(), Ok(None)));
    assert!(engine.metrics().out_of_descriptors < 100);
    drop(hoard);
    let hello = message_of(&mut group, OpCode::HelloRequest);
    group.post(hello.reply().unwrap()).unwrap();
    assert_eq!(raw.recv().op_code(), OpCode::HelloResponse);
}
