//! Measures tofu side by side with its rivals, in one run.
//!
//! A coordinator starts a server process and a client process for each contender, pins them to cores,
//! and has them do the same workloads in turn. See README.md for what is measured and how.
#![allow(clippy::print_stdout, reason = "a program that prints figures")]

mod arguments;
mod child;
mod contender;
mod coordinator;
mod own;
mod pair;
mod report;
mod summary;
mod workload;

use std::{fs, io::Write, process::ExitCode};

use clap::Parser;

use crate::{
    arguments::{Arguments, Role, Run},
    contender::Fallible,
    report::{json, markdown, svg},
};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.role {
        Some(Role::Serve {
            contender,
            endpoint,
        }) => child::serve(contender, endpoint),
        Some(Role::Client {
            contender,
            endpoint,
        }) => child::client(contender, endpoint),
        None => measure(&arguments.run),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "tofu-benches: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(run: &Run) -> Fallible {
    let mut log = json::Log::create(run.json.as_deref())?;
    let mut text = String::new();
    coordinator::run(run, &mut log, |results| {
        let tables = markdown::tables(results);
        println!("{tables}");
        text.push_str(&tables);
        text.push('\n');
        if let Some(path) = &run.markdown {
            fs::write(path, &text)
                .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
        }
        if let Some(directory) = &run.svg {
            svg::draw(results, directory)?;
        }
        Ok(())
    })
}
