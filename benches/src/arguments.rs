//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::{
    contender::{self, Endpoint, Entry},
    workload::{self, Workload},
};

/// Measures tofu side by side with its rivals, in one run.
#[derive(Debug, Parser)]
#[command(name = "tofu-benches", args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
    #[command(flatten)]
    pub(crate) run: Run,
}

/// What a child of the coordinator is.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Role {
    /// A contender's server.
    #[command(hide = true)]
    Serve {
        contender: String,
        #[arg(value_parser = endpoint)]
        endpoint: Endpoint,
    },
    /// A contender's client.
    #[command(hide = true)]
    Client {
        contender: String,
        #[arg(value_parser = endpoint)]
        endpoint: Endpoint,
    },
}

/// What the coordinator measures, and where it writes that.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Run {
    /// 3 rounds of 0.2 seconds instead of 7 of 0.5.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only these workloads. [default: all]
    #[arg(long, value_delimiter = ',', value_parser = workload_named)]
    pub(crate) workloads: Vec<&'static Workload>,
    /// Only these contenders. [default: all but tofu-nopoll]
    #[arg(long, value_delimiter = ',', value_parser = contender_named)]
    pub(crate) contenders: Vec<&'static Entry>,
    /// Only these transports.
    #[arg(long, value_delimiter = ',', default_value = "tcp,uds")]
    pub(crate) transports: Vec<Transport>,
    /// Only these ways to pin the two processes.
    #[arg(long, value_delimiter = ',', default_value = "split,same")]
    pub(crate) pins: Vec<Pins>,
    /// How often each figure is measured. [default: 7, quick: 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Writes a line of JSON for each measurement and each summary.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Writes the tables, which are also printed.
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
    /// Writes a chart for each workload.
    #[arg(long, value_name = "DIR")]
    pub(crate) svg: Option<PathBuf>,
}

impl Run {
    /// How often each figure is measured.
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 7 })
    }

    /// How long one measurement is to take.
    pub(crate) fn seconds(&self) -> f64 {
        if self.quick { 0.2 } else { 0.5 }
    }

    /// The workloads, in the order of the list.
    pub(crate) fn workloads(&self) -> Vec<&'static Workload> {
        let wanted = |workload: &&Workload| {
            self.workloads.is_empty() || self.workloads.iter().any(|w| w.name == workload.name)
        };
        workload::ALL.iter().filter(wanted).collect()
    }

    /// The contenders, in the order of the list, and whether they were asked for by name.
    pub(crate) fn contenders(&self) -> (Vec<&'static Entry>, bool) {
        let named = !self.contenders.is_empty();
        let wanted =
            |entry: &&Entry| !named || self.contenders.iter().any(|e| e.name == entry.name);
        (contender::ALL.iter().filter(wanted).collect(), named)
    }
}

/// What carries the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// TCP over loopback.
    Tcp,
    /// A Unix domain socket.
    Uds,
}

impl Transport {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Uds => "uds",
        }
    }
}

/// Which cores the two processes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pins {
    /// One each: the server 0, the client 1.
    Split,
    /// Both core 0.
    Same,
}

impl Pins {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::Same => "same",
        }
    }

    /// The server's core and the client's.
    pub(crate) fn cpus(self) -> (usize, usize) {
        match self {
            Self::Split => (0, 1),
            Self::Same => (0, 0),
        }
    }
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    text.parse::<Endpoint>().map_err(|error| error.to_string())
}

fn workload_named(name: &str) -> Result<&'static Workload, String> {
    let names = || {
        let names: Vec<_> = workload::ALL.iter().map(|workload| workload.name).collect();
        names.join(", ")
    };
    workload::find(name).map_err(|error| format!("{error}, there are: {}", names()))
}

fn contender_named(name: &str) -> Result<&'static Entry, String> {
    let names = || {
        let names: Vec<_> = contender::ALL.iter().map(|entry| entry.name).collect();
        names.join(", ")
    };
    contender::find(name).map_err(|error| format!("{error}, there are: {}", names()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn run(line: &str) -> Run {
        Arguments::try_parse_from(line.split(' ')).unwrap().run
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn without_options_everything_is_measured() {
        let run = run("tofu-benches");
        assert_eq!(run.workloads().len(), workload::ALL.len());
        let (contenders, named) = run.contenders();
        assert_eq!((contenders.len(), named), (contender::ALL.len(), false));
        assert_eq!(run.transports, [Transport::Tcp, Transport::Uds]);
        assert_eq!(run.pins, [Pins::Split, Pins::Same]);
        assert_eq!(run.rounds(), 7);
    }

    #[test]
    fn what_is_named_is_all_that_is_measured() {
        let run = run(
            "tofu-benches --quick --workloads window-64,round-trip --contenders tofu,raw \
             --transports uds --pins same",
        );
        let workloads: Vec<_> = run.workloads().iter().map(|w| w.name).collect();
        assert_eq!(workloads, ["round-trip", "window-64"]);
        let (contenders, named) = run.contenders();
        let contenders: Vec<_> = contenders.iter().map(|c| c.name).collect();
        assert_eq!((contenders, named), (vec!["raw", "tofu"], true));
        assert_eq!(run.transports, [Transport::Uds]);
        assert_eq!(run.pins, [Pins::Same]);
        assert_eq!(run.rounds(), 3);
    }

    #[test]
    fn rounds_win_over_quick() {
        assert_eq!(run("tofu-benches --quick --rounds 5").rounds(), 5);
    }

    #[test]
    fn a_wrong_name_is_told_with_the_right_ones() {
        for (line, expected) in [
            ("tofu-benches --workloads flying", "round-trip"),
            ("tofu-benches --contenders pigeon", "raw-batch"),
            ("tofu-benches --rounds 0", "0"),
        ] {
            let error = Arguments::try_parse_from(line.split(' ')).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
