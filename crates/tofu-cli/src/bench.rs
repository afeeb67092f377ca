//! `tofucat bench`: the standard workloads, between two processes of this machine.
//!
//! This process is the client. The servers are processes of its own making, one for each transport. All
//! workloads are measured once in each round, so that whatever else the machine does meanwhile is spread
//! over all of them, and what is told are the medians of the rounds.

mod chart;
mod figures;
pub(crate) mod plan;
mod report;
pub(crate) mod server;
mod traffic;

use std::{fmt::Display, time::Duration};

use tempfile::TempDir;
use tofu::{Address, ChannelNumber, Engine, Message, OpCode, Options};

use self::{
    chart::SvgFile,
    figures::{Figures, Row},
    plan::{Plan, Transport},
    report::Report,
    traffic::{Client, Stop},
};
use crate::{
    args::BenchArguments, error::Failure, interrupt::Interrupt, next_event::CLOSE_TIMEOUT,
    output::Output, progress::Progress, server_process::ServerProcess,
};

/// What goes wrong here is named by this.
const WHAT: &str = "bench";
const NO_POLL: &str = "--no-poll";

pub(crate) fn run(
    arguments: &BenchArguments,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<(), Failure> {
    let plan = Plan::new(
        arguments.transport,
        &arguments.workloads,
        arguments.quick,
        !arguments.no_poll,
    );
    let engine = Engine::new(engine_options(plan.does_poll)).map_err(failed)?;
    let group = engine.group().map_err(failed)?;
    // From here on the run ends by its own return, and leaves nothing behind.
    interrupt.wake(group.poster());
    // What cannot be written is better known now than after a minute.
    let svg = arguments.svg.as_deref().map(SvgFile::create).transpose()?;
    let directory = tempfile::Builder::new().prefix("tofucat-bench-").tempdir();
    let directory = directory.map_err(failed)?;
    let mut client = Client::new(group, interrupt);
    let mut servers = Vec::new();
    let measured = start(&plan, &directory, &mut client, &mut servers)
        .and_then(|()| {
            let mut report = Report::new(&plan, output);
            report.begin(&servers)?;
            measure(&plan, &servers, &mut client)
        })
        .map_err(|stop| explain(stop, &mut servers, interrupt));
    match measured {
        Err(failure @ Failure::Failed { .. }) => {
            client.group.abort();
            return Err(failure);
        }
        // Says bye, with which the servers end.
        _ => drop(client.group.close(CLOSE_TIMEOUT)),
    }
    let rows = measured?;
    for server in servers {
        server.process.end()?;
    }
    Report::new(&plan, output).rows(&rows)?;
    svg.map_or(Ok(()), |svg| svg.draw(&plan, &rows))
}

/// A server and the channel to it.
struct Server {
    transport: Transport,
    process: ServerProcess,
    channel: ChannelNumber,
}

fn start(
    plan: &Plan,
    directory: &TempDir,
    client: &mut Client<'_>,
    servers: &mut Vec<Server>,
) -> Result<(), Stop> {
    let options: &[&str] = if plan.does_poll { &[] } else { &[NO_POLL] };
    for &transport in &plan.transports {
        let listen_on = match transport {
            Transport::Tcp => Address::tcp("127.0.0.1", 0),
            Transport::Uds => Address::uds(directory.path().join("server").to_string_lossy()),
        };
        let listen_on = listen_on.map_err(failed)?;
        let process = ServerProcess::start(WHAT, "bench-server", &listen_on, options)?;
        let hello = client.post(Message::hello_request(&process.address))?;
        servers.push(Server {
            transport,
            process,
            channel: hello.channel,
        });
        let answer = client.answer(hello.channel)?;
        if answer.op_code() != OpCode::HelloResponse {
            return Err(failed(format_args!("expected a hello, but: {answer:?}")).into());
        }
    }
    Ok(())
}

/// All rounds, and the medians of each cell.
fn measure(plan: &Plan, servers: &[Server], client: &mut Client<'_>) -> Result<Vec<Row>, Stop> {
    let mut rounds = vec![Vec::with_capacity(plan.rounds); plan.cells.len()];
    let progress = Progress::new((plan.rounds * plan.cells.len()) as u64, true);
    let mut done = 0;
    for _ in 0..plan.rounds {
        for (cell, figures) in plan.cells.iter().zip(&mut rounds) {
            let channel = channel(servers, cell.transport)?;
            client.measure(cell.workload, channel, plan.warm_up)?;
            let measured = client.measure(cell.workload, channel, plan.time)?;
            figures.push(Figures::new(cell.workload.kind(), &measured));
            done += 1;
            progress.set(done);
        }
    }
    let rows = plan.cells.iter().zip(&rounds).map(|(&cell, rounds)| Row {
        cell,
        figures: Figures::medians(rounds),
    });
    Ok(rows.collect())
}

fn channel(servers: &[Server], transport: Transport) -> Result<ChannelNumber, Failure> {
    servers
        .iter()
        .find(|server| server.transport == transport)
        .map(|server| server.channel)
        .ok_or_else(|| failed(format_args!("no server over {}", transport.name())))
}

/// Says which server has gone, and why, if that is what ended the run.
fn explain(stop: Stop, servers: &mut [Server], interrupt: &Interrupt) -> Failure {
    let (channel, is_over, why) = match stop {
        Stop::Failed(failure) => return failure,
        Stop::Lost(channel, why) => (channel, true, why),
        Stop::Silent(channel, time) => (channel, false, format!("silent for {} s", time.as_secs())),
    };
    if let Err(interrupted) = interrupt.check() {
        return interrupted;
    }
    let Some(server) = servers.iter_mut().find(|server| server.channel == channel) else {
        return failed(why);
    };
    let name = format!(
        "the {} server, process {}",
        server.transport.name(),
        server.process.id()
    );
    match is_over.then(|| server.process.death()).flatten() {
        Some(status) => failed(format_args!("{name}, has died: {status}")),
        None => failed(format_args!("{name}: {why}")),
    }
}

/// What both sides run with.
fn engine_options(does_poll: bool) -> Options {
    let options = Options::default();
    if does_poll {
        return options;
    }
    options.busy_poll(Duration::ZERO)
}

fn failed(why: impl Display) -> Failure {
    Failure::new(WHAT, why)
}
