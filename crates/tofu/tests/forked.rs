//! A process that forks keeps its engines. The child, which has copies of them without their threads, is
//! told so, does not hang, and takes nothing away from the parent.
//!
//! One test, alone in its program: a child has copies of whatever other tests have open.

mod support;

use std::{fs, process};

use fork::Fork;
use support::*;
use tofu::{ChannelGroup, Engine, Message, OpCode, RecvError};

/// What the child found wrong, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
enum Wrong {
    Nothing = 0,
    MadeGroup,
    UnclearError,
    Received,
    ReceivedLater,
    Waited,
    Reported,
}

/// The child's part: everything but posting.
fn try_all(engine: Engine, mut server: ChannelGroup, mut client: ChannelGroup) -> Wrong {
    match engine.group() {
        Ok(_) => return Wrong::MadeGroup,
        Err(error) if !error.to_string().contains("which forked this one") => {
            return Wrong::UnclearError;
        }
        Err(_) => {}
    }
    for group in [&mut server, &mut client] {
        if group.recv().is_ok() {
            return Wrong::Received;
        }
        if group.try_recv().is_ok() || group.recv_timeout(WATCHDOG).is_ok() {
            return Wrong::ReceivedLater;
        }
        if group.recv_many(&mut Vec::new(), 10) != Err(RecvError) {
            return Wrong::Waited;
        }
    }
    if !engine.shutdown(WATCHDOG).closed.is_empty() || !client.close(WATCHDOG).closed.is_empty() {
        return Wrong::Reported;
    }
    drop(server);
    drop(engine);
    let own = self::engine();
    let _pair = pair(&own, &loopback());
    Wrong::Nothing
}

/// Something for the child to receive is there, and must stay there.
#[test]
fn a_forked_child_is_told_and_takes_nothing_away() {
    over_both(|address| {
        for _ in 0..20 {
            let engine = engine();
            let mut p = pair(&engine, address);
            let request = |p: &Pair| {
                let body = vec![7; 1_000];
                let request = Message::request(p.at_client).with_body(body);
                p.client.post(request).expect("posted");
            };
            request(&p);
            let child = match fork::fork().expect("forked") {
                Fork::Child => {
                    let wrong = try_all(engine, p.server, p.client);
                    process::exit(wrong as i32)
                }
                Fork::Parent(child) => child,
            };
            let status = Watched::start(move || fork::waitpid(child)).join("the child");
            assert_eq!(status.expect("waited for"), 0, "see Wrong, times 256");
            for _ in 0..3 {
                let heard = message_of(&mut p.server, OpCode::Request);
                assert_eq!(heard.body(), [7; 1_000]);
                p.server.post(heard.into_reply().unwrap()).unwrap();
                message_of(&mut p.client, OpCode::Response);
                request(&p);
            }
            assert!(address.path().is_none_or(|path| fs::exists(path).unwrap()));
        }
    });
}
