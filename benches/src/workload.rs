//! What is measured: which rows, by which command, and which figures of it are shown.
//!
//! A workload knows no contender but by name. A *case* is one row of its table.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::contender::{Entry, Fallible, Scope};

/// A workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    /// Its name in tables and on the command line.
    pub(crate) name: &'static str,
    /// What it is, in one sentence for the reader of the table.
    pub(crate) about: &'static str,
    /// The figures that are shown, the important one first.
    pub(crate) metrics: &'static [Metric],
    /// The rows that the others are compared with.
    pub(crate) baselines: &'static [&'static str],
    rows: Rows,
}

#[derive(Clone, Copy, Debug)]
enum Rows {
    /// One for each contender.
    Contenders(Command),
    /// tofu alone, in several situations.
    Own(&'static [OwnCase]),
}

#[derive(Clone, Copy, Debug)]
struct OwnCase {
    row: &'static str,
    contender: &'static str,
    setup: Option<Command>,
    command: Command,
    count: Option<u64>,
}

/// One row of a workload's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    /// What the row is called.
    pub(crate) row: &'static str,
    /// Who is measured.
    pub(crate) contender: &'static str,
    /// What the client does once before.
    pub(crate) setup: Option<Command>,
    /// What is measured.
    pub(crate) command: Command,
    /// How often, if that is not to be found out.
    pub(crate) count: Option<u64>,
}

/// What a client is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Round trips with bodies of this many bytes.
    RoundTrips(usize),
    /// Signals with bodies of this many bytes.
    OneWay(usize),
    /// This many requests always under way.
    Window(u64),
    /// Open this many channels and leave them idle.
    Idle(u32),
    /// This many threads post into one group.
    Posters(u32),
    /// One group posts to this many channels in turn.
    Channels(u32),
    /// Round trips of a client that sleeps, while another one floods the same server, or alone.
    Beside { flood: bool },
    /// This many requests a second, one at a time.
    RequestRate(u32),
    /// This many signals a second.
    SignalRate(u32),
}

/// Bytes of the small bodies.
pub(crate) const SMALL: usize = 64;

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundTrips(len) => write!(f, "round-trips {len}"),
            Self::OneWay(len) => write!(f, "one-way {len}"),
            Self::Window(width) => write!(f, "window {width}"),
            Self::Idle(channels) => write!(f, "idle {channels}"),
            Self::Posters(threads) => write!(f, "posters {threads}"),
            Self::Channels(channels) => write!(f, "channels {channels}"),
            Self::Beside { flood } => write!(f, "beside {}", u8::from(*flood)),
            Self::RequestRate(rate) => write!(f, "request-rate {rate}"),
            Self::SignalRate(rate) => write!(f, "signal-rate {rate}"),
        }
    }
}

impl FromStr for Command {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("`{text}` is no command");
        let (word, number) = text.split_once(' ').ok_or_else(unknown)?;
        let number: u32 = number.parse().map_err(|_| unknown())?;
        let len = usize::try_from(number).map_err(|_| unknown())?;
        match word {
            "round-trips" => Ok(Self::RoundTrips(len)),
            "one-way" => Ok(Self::OneWay(len)),
            "window" => Ok(Self::Window(number.into())),
            "idle" => Ok(Self::Idle(number)),
            "posters" => Ok(Self::Posters(number)),
            "channels" => Ok(Self::Channels(number)),
            "beside" => Ok(Self::Beside { flood: number != 0 }),
            "request-rate" => Ok(Self::RequestRate(number)),
            "signal-rate" => Ok(Self::SignalRate(number)),
            _ => Err(unknown()),
        }
    }
}

/// What a client tells of one measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Messages, or requests with their answers.
    pub(crate) count: u64,
    /// Time on the clock.
    pub(crate) seconds: f64,
    /// Time on the client's processors.
    pub(crate) client_cpu_seconds: f64,
    /// Half of the round trips took no longer than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p50_us: Option<f64>,
    /// 99 of 100 round trips took no longer than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99_us: Option<f64>,
    /// Messages of a flood that came beside those counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) flood: Option<u64>,
}

/// One measurement, from both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Measurement {
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    /// Time on the server's processors.
    pub(crate) server_cpu_seconds: f64,
    /// What each connection of the set-up has added to the server's resident memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kib_per_connection: Option<f64>,
}

/// A figure that is made of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// The median of the round trips.
    P50,
    /// The 99th percentile of the round trips.
    P99,
    /// Messages or requests a second.
    Rate,
    /// Processor time of both processes.
    Cpu,
    /// Share of a core that the server takes.
    ServerCpu,
    /// Share of a core that the client takes.
    ClientCpu,
    /// Resident memory of the server.
    Memory,
    /// What a flood brings beside.
    Flood,
}

impl Metric {
    /// Its name, with the unit.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50 (us)",
            Self::P99 => "p99 (us)",
            Self::Rate => "thousand a second",
            Self::Cpu => "CPU (s per million)",
            Self::ServerCpu => "server CPU (%)",
            Self::ClientCpu => "client CPU (%)",
            Self::Memory => "KiB per connection",
            Self::Flood => "flood (thousand a second)",
        }
    }

    /// The figure, if the measurement has it.
    pub(crate) fn of(self, measurement: &Measurement) -> Option<f64> {
        let outcome = &measurement.outcome;
        let share = |cpu_seconds: f64| Some(100.0 * cpu_seconds / outcome.seconds);
        match self {
            Self::P50 => outcome.p50_us,
            Self::P99 => outcome.p99_us,
            Self::Rate => Some(float(outcome.count) / outcome.seconds / 1e3),
            Self::Cpu => {
                let both = outcome.client_cpu_seconds + measurement.server_cpu_seconds;
                Some(both * 1e6 / float(outcome.count))
            }
            Self::ServerCpu => share(measurement.server_cpu_seconds),
            Self::ClientCpu => share(outcome.client_cpu_seconds),
            Self::Memory => measurement.kib_per_connection,
            Self::Flood => Some(float(outcome.flood?) / outcome.seconds / 1e3),
        }
    }
}

/// A count as a figure to calculate with.
#[allow(
    clippy::cast_precision_loss,
    reason = "no count here reaches 2 to the power of 53"
)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

impl Workload {
    /// Its rows, with these contenders. `named`: those that were asked for by name.
    pub(crate) fn cases(&self, contenders: &[&Entry], named: bool) -> Vec<Case> {
        match self.rows {
            Rows::Contenders(command) => contenders
                .iter()
                .filter(|entry| takes_part(entry.scope, command, named))
                .map(|entry| Case {
                    row: entry.name,
                    contender: entry.name,
                    setup: None,
                    command,
                    count: None,
                })
                .collect(),
            Rows::Own(_) if contenders.iter().all(|entry| entry.name != TOFU) => Vec::new(),
            Rows::Own(cases) => cases
                .iter()
                .map(|case| Case {
                    row: case.row,
                    contender: case.contender,
                    setup: case.setup,
                    command: case.command,
                    count: case.count,
                })
                .collect(),
        }
    }
}

fn takes_part(scope: Scope, command: Command, named: bool) -> bool {
    let round_trips = matches!(command, Command::RoundTrips(_));
    match scope {
        Scope::Everywhere => true,
        Scope::RoundTrips => round_trips,
        Scope::Streams => !round_trips,
        Scope::OnRequest => round_trips && named,
    }
}

/// The workload with this name.
pub(crate) fn find(name: &str) -> Fallible<&'static Workload> {
    ALL.iter()
        .find(|workload| workload.name == name)
        .ok_or_else(|| format!("no workload `{name}`").into())
}

const TOFU: &str = "tofu";
const NO_POLL: &str = "tofu-nopoll";
const RAW_AND_TOFU: &[&str] = &["raw", TOFU];

const fn own(row: &'static str, command: Command) -> OwnCase {
    OwnCase {
        row,
        contender: TOFU,
        setup: None,
        command,
        count: None,
    }
}

/// At this rate for two seconds.
const fn paced(row: &'static str, contender: &'static str, command: Command) -> OwnCase {
    let (Command::RequestRate(rate) | Command::SignalRate(rate)) = command else {
        panic!("a rate is expected");
    };
    OwnCase {
        row,
        contender,
        setup: None,
        command,
        count: Some(2 * rate as u64),
    }
}

const fn one_way(name: &'static str, about: &'static str, len: usize) -> Workload {
    Workload {
        name,
        about,
        metrics: &[Metric::Rate, Metric::Cpu],
        baselines: RAW_AND_TOFU,
        rows: Rows::Contenders(Command::OneWay(len)),
    }
}

/// All workloads, in the order of the tables.
pub(crate) const ALL: &[Workload] = &[
    Workload {
        name: "round-trip",
        about: "one request of 64 bytes after the other; less is better",
        metrics: &[Metric::P50, Metric::P99, Metric::Cpu],
        baselines: RAW_AND_TOFU,
        rows: Rows::Contenders(Command::RoundTrips(SMALL)),
    },
    one_way(
        "one-way-64",
        "messages of 64 bytes, until all have arrived; more is better",
        SMALL,
    ),
    one_way(
        "one-way-1k",
        "messages of 1 KiB, until all have arrived; more is better",
        1024,
    ),
    one_way(
        "one-way-60k",
        "messages of 60 KiB, until all have arrived; more is better",
        60 * 1024,
    ),
    Workload {
        name: "window-64",
        about: "requests of 64 bytes, 64 of them always under way; more is better",
        metrics: &[Metric::Rate, Metric::Cpu],
        baselines: RAW_AND_TOFU,
        rows: Rows::Contenders(Command::Window(64)),
    },
    Workload {
        name: "idle-10000",
        about: "tofu's round trip with 10,000 idle connections beside it, and their memory",
        metrics: &[Metric::P50, Metric::P99, Metric::Memory],
        baselines: &["alone"],
        rows: Rows::Own(&[
            own("alone", Command::RoundTrips(SMALL)),
            OwnCase {
                setup: Some(Command::Idle(10_000)),
                ..own("beside idle ones", Command::RoundTrips(SMALL))
            },
        ]),
    },
    Workload {
        name: "posters-8",
        about: "tofu, messages of 64 bytes from 8 threads into one group, against one thread",
        metrics: &[Metric::Rate, Metric::Cpu],
        baselines: &["1 thread"],
        rows: Rows::Own(&[
            own("1 thread", Command::Posters(1)),
            own("8 threads", Command::Posters(8)),
        ]),
    },
    Workload {
        name: "channels-64",
        about: "tofu, messages of 64 bytes to 64 channels in turn, against one channel",
        metrics: &[Metric::Rate, Metric::Cpu],
        baselines: &["1 channel"],
        rows: Rows::Own(&[
            own("1 channel", Command::Channels(1)),
            own("64 channels", Command::Channels(64)),
        ]),
    },
    Workload {
        name: "fairness",
        about: "tofu's round trip (no busy poll) beside a flood on another channel of the server",
        metrics: &[Metric::P50, Metric::P99, Metric::Flood],
        baselines: &["alone"],
        rows: Rows::Own(&[
            own("alone", Command::Beside { flood: false }),
            own("beside a flood", Command::Beside { flood: true }),
        ]),
    },
    Workload {
        name: "poll-cost",
        about: "share of a core that each side of tofu takes at a given rate",
        metrics: &[Metric::ServerCpu, Metric::ClientCpu],
        baselines: &[],
        rows: Rows::Own(&[
            paced("10 requests/s", TOFU, Command::RequestRate(10)),
            paced("10 requests/s, no poll", NO_POLL, Command::RequestRate(10)),
            paced("1,000 requests/s", TOFU, Command::RequestRate(1000)),
            paced(
                "1,000 requests/s, no poll",
                NO_POLL,
                Command::RequestRate(1000),
            ),
            paced("100,000 signals/s", TOFU, Command::SignalRate(100_000)),
            paced(
                "100,000 signals/s, no poll",
                NO_POLL,
                Command::SignalRate(100_000),
            ),
        ]),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender;

    #[test]
    fn a_command_survives_its_text_form() {
        for command in [
            Command::RoundTrips(64),
            Command::OneWay(61_440),
            Command::Window(64),
            Command::Idle(9900),
            Command::Posters(8),
            Command::Channels(64),
            Command::Beside { flood: true },
            Command::Beside { flood: false },
            Command::RequestRate(10),
            Command::SignalRate(100_000),
        ] {
            assert_eq!(command.to_string().parse(), Ok(command));
        }
        for wrong in ["", "window", "window x", "fly 7"] {
            assert!(wrong.parse::<Command>().is_err());
        }
    }

    #[test]
    fn a_contender_takes_part_where_it_makes_sense() {
        let all: Vec<_> = contender::ALL.iter().collect();
        let rows = |workload: &str, named| {
            let cases = find(workload).unwrap().cases(&all, named);
            cases.iter().map(|case| case.row).collect::<Vec<_>>()
        };
        let round_trip = rows("round-trip", false);
        assert!(round_trip.contains(&"raw-poll") && !round_trip.contains(&"raw-batch"));
        assert!(!round_trip.contains(&NO_POLL));
        assert!(rows("round-trip", true).contains(&NO_POLL));
        let one_way = rows("one-way-64", true);
        assert!(!one_way.contains(&"raw-poll") && one_way.contains(&"raw-batch"));
    }

    #[test]
    fn tofus_own_workloads_need_tofu() {
        let raw = [contender::find("raw").unwrap()];
        let tofu = [contender::find("tofu").unwrap()];
        for workload in ALL {
            let own = matches!(workload.rows, Rows::Own(_));
            assert_eq!(workload.cases(&raw, false).is_empty(), own);
            assert!(!workload.cases(&tofu, false).is_empty());
        }
    }

    #[test]
    fn figures_are_those_of_the_measurement() {
        let measurement = Measurement {
            outcome: Outcome {
                count: 1000,
                seconds: 0.5,
                client_cpu_seconds: 0.25,
                p50_us: Some(7.0),
                p99_us: None,
                flood: Some(5000),
            },
            server_cpu_seconds: 0.125,
            kib_per_connection: None,
        };
        for (metric, figure) in [
            (Metric::P50, Some(7.0)),
            (Metric::P99, None),
            (Metric::Rate, Some(2.0)),
            (Metric::Cpu, Some(375.0)),
            (Metric::ServerCpu, Some(25.0)),
            (Metric::ClientCpu, Some(50.0)),
            (Metric::Memory, None),
            (Metric::Flood, Some(10.0)),
        ] {
            assert_eq!(metric.of(&measurement), figure, "{metric:?}");
        }
    }

    #[test]
    fn baselines_are_rows() {
        let all: Vec<_> = contender::ALL.iter().collect();
        for workload in ALL {
            let cases = workload.cases(&all, false);
            for baseline in workload.baselines {
                assert!(cases.iter().any(|case| case.row == *baseline));
            }
        }
    }
}
