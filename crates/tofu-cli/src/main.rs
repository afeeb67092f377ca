//! `tofucat`: talk to tofu peers from the command line.
//!
//! A run is: parse the arguments, do what the subcommand says, turn the result into an exit status.
//! Each subcommand has a file; `output` is the only one that knows what is printed.

mod allow;
mod args;
mod backlog;
mod bench;
mod call;
mod client;
mod decode;
mod demo;
mod echo;
mod error;
mod interrupt;
mod listen;
mod next_event;
mod output;
mod progress;
mod receive;
mod send;
mod server;
mod server_process;
mod sink;
mod summary;
mod transfer;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    args::{Arguments, Command},
    error::Failure,
    interrupt::Interrupt,
    output::Output,
};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut output = Output::stdout(arguments.json);
    let result = run(arguments.command, &mut output);
    match result.and(output.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command, output: &mut Output) -> Result<(), Failure> {
    let interrupt = Interrupt::watch()?;
    match command {
        Command::Echo(arguments) => echo::run(&arguments, &interrupt, output),
        Command::Sink(arguments) => sink::run(&arguments, &interrupt, output),
        Command::Listen(arguments) => listen::run(&arguments, &interrupt, output),
        Command::Call(arguments) => call::run(&arguments, &interrupt, output),
        Command::Send(arguments) => send::run(&arguments, &interrupt, output),
        Command::Receive(arguments) => receive::run(&arguments, &interrupt, output),
        Command::Decode(arguments) => decode::run(&arguments, output),
        Command::Demo => demo::run(&interrupt, output),
        Command::DemoServer(arguments) => demo::server::run(&arguments, &interrupt, output),
        Command::Bench(arguments) => bench::run(&arguments, &interrupt, output),
        Command::BenchServer(arguments) => bench::server::run(&arguments, output),
    }
}
