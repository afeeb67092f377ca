//! `tofucat demo`: two processes talk, over TCP and then over a Unix domain socket, and whoever
//! watches sees every message.
//!
//! This process is the client. The servers are processes of its own making, one for each transport;
//! they never outlive it. What was not said as the script wants it makes the demo fail.

mod measure;
mod script;
pub(crate) mod server;
mod stage;
mod timeline;

use std::net::TcpListener;

use tempfile::TempDir;
use tofu::{Address, AddressError, Engine, Options, Status};

use self::{measure::Numbers, script::Act, stage::Stage, timeline::Timeline};
use crate::{error::Failure, interrupt::Interrupt, output::Output};

/// What goes wrong here is named by this.
const WHAT: &str = "demo";

pub(crate) fn run(interrupt: &Interrupt, output: &mut Output) -> Result<(), Failure> {
    let directory = tempfile::Builder::new().prefix("tofucat-demo-").tempdir();
    // Lives until the end of this function, however it ends, and takes the sockets with it.
    let directory = directory.map_err(failed)?;
    let engine = Engine::new(Options::default()).map_err(failed)?;
    let group = engine.group().map_err(failed)?;
    interrupt.wake(group.poster());
    let mut stage = Stage::new(group, interrupt, Timeline::new(output));
    let mut numbers: Vec<(&'static str, Numbers)> = Vec::new();
    for act in acts(&directory)? {
        numbers.push((act.transport, script::play(&act, &mut stage)?));
    }
    stage.timeline().numbers(&numbers)
}

/// The same play twice: over tcp, where the client says bye, and over uds, where the server does.
fn acts(directory: &TempDir) -> Result<[Act; 2], Failure> {
    let socket = |name: &str| -> Result<Address, AddressError> {
        format!("uds|{}", directory.path().join(name).display()).parse()
    };
    Ok([
        Act {
            transport: "tcp",
            listen_on: "tcp|127.0.0.1|0".parse().map_err(failed)?,
            nobody_there: unused_tcp_address()?,
            refused_with: Status::CONNECT_REFUSED,
            does_server_say_bye: false,
        },
        Act {
            transport: "uds",
            listen_on: socket("server").map_err(failed)?,
            nobody_there: socket("nobody").map_err(failed)?,
            refused_with: Status::UDS_PATH_NOT_FOUND,
            does_server_say_bye: true,
        },
    ])
}

/// A port that was free a moment ago.
fn unused_tcp_address() -> Result<Address, Failure> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    format!("tcp|127.0.0.1|{port}").parse().map_err(failed)
}

fn failed(why: impl std::fmt::Display) -> Failure {
    Failure::new(WHAT, why)
}
