//! What is measured, and for how long.

use std::time::Duration;

use clap::ValueEnum;

/// What carries the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// TCP over loopback
    Tcp,
    /// A Unix domain socket
    Uds,
}

impl Transport {
    /// As it is written on the command line and in what is printed.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Uds => "uds",
        }
    }
}

/// A standard workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Requests of 64 bytes, each posted when the one before it is answered
    RoundTrip,
    /// Signals of 64 bytes, as fast as they go
    #[value(name = "one-way-64b")]
    OneWay64B,
    /// Signals of 1 KiB
    #[value(name = "one-way-1kib")]
    OneWay1Kib,
    /// Signals of 60 KiB
    #[value(name = "one-way-60kib")]
    OneWay60Kib,
    /// Requests of 64 bytes, of which 64 wait for their answers at a time
    InFlight,
}

/// What a workload is about, and so which figures it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// How long one request takes.
    RoundTrip,
    /// How many messages go one way.
    OneWay,
    /// How many requests are answered.
    InFlight,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::RoundTrip, Self::OneWay, Self::InFlight];

    /// Messages that go either way for one that is counted.
    pub(crate) const fn messages(self) -> u64 {
        match self {
            Self::OneWay => 1,
            Self::RoundTrip | Self::InFlight => 2,
        }
    }
}

impl Workload {
    /// As it is written on the command line and in what is printed.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::RoundTrip => "round-trip",
            Self::OneWay64B => "one-way-64b",
            Self::OneWay1Kib => "one-way-1kib",
            Self::OneWay60Kib => "one-way-60kib",
            Self::InFlight => "in-flight",
        }
    }

    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::RoundTrip => Kind::RoundTrip,
            Self::OneWay64B | Self::OneWay1Kib | Self::OneWay60Kib => Kind::OneWay,
            Self::InFlight => Kind::InFlight,
        }
    }

    /// Bytes of a message's body.
    pub(crate) const fn body_len(self) -> u16 {
        match self {
            Self::RoundTrip | Self::OneWay64B | Self::InFlight => 64,
            Self::OneWay1Kib => 1024,
            Self::OneWay60Kib => 60 * 1024,
        }
    }

    /// The length of a body in words.
    pub(crate) const fn body(self) -> &'static str {
        match self {
            Self::RoundTrip | Self::OneWay64B | Self::InFlight => "64 B",
            Self::OneWay1Kib => "1 KiB",
            Self::OneWay60Kib => "60 KiB",
        }
    }
}

/// One line of the result: a workload over a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) workload: Workload,
    pub(crate) transport: Transport,
}

/// How much is measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) transports: Vec<Transport>,
    /// In the order in which each round measures them: both transports of a workload are neighbours.
    pub(crate) cells: Vec<Cell>,
    pub(crate) rounds: usize,
    /// How long each cell is measured in each round.
    pub(crate) time: Duration,
    /// How long before that it runs without being measured.
    pub(crate) warm_up: Duration,
    /// Whether who waits polls before it sleeps.
    pub(crate) does_poll: bool,
}

impl Plan {
    /// A plan for these workloads, or all of them, over this transport, or both.
    pub(crate) fn new(
        transport: Option<Transport>,
        workloads: &[Workload],
        is_quick: bool,
        does_poll: bool,
    ) -> Self {
        let transports = match transport {
            Some(transport) => vec![transport],
            None => Transport::value_variants().to_vec(),
        };
        let is_wanted = |workload: &&Workload| workloads.is_empty() || workloads.contains(workload);
        let cells = Workload::value_variants()
            .iter()
            .filter(is_wanted)
            .flat_map(|&workload| {
                transports.iter().map(move |&transport| Cell {
                    workload,
                    transport,
                })
            })
            .collect();
        let (rounds, time) = if is_quick {
            (3, Duration::from_millis(250))
        } else {
            (5, Duration::from_secs(1))
        };
        Self {
            transports,
            cells,
            rounds,
            time,
            warm_up: time / 10,
            does_poll,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_command_line() {
        for workload in Workload::value_variants() {
            assert_eq!(
                Workload::from_str(workload.name(), false).as_ref(),
                Ok(workload)
            );
        }
        for transport in Transport::value_variants() {
            assert_eq!(
                Transport::from_str(transport.name(), false).as_ref(),
                Ok(transport)
            );
        }
    }

    #[test]
    fn everything_is_measured_unless_something_is_chosen() {
        assert_eq!(Plan::new(None, &[], true, true).cells.len(), 10);
        let chosen = [Workload::InFlight, Workload::RoundTrip, Workload::InFlight];
        let plan = Plan::new(Some(Transport::Uds), &chosen, true, true);
        let transport = Transport::Uds;
        let cells = [Workload::RoundTrip, Workload::InFlight].map(|workload| Cell {
            workload,
            transport,
        });
        assert_eq!(plan.cells, cells);
    }

    #[test]
    fn a_quick_plan_leaves_time_to_spare() {
        for (is_quick, seconds) in [(true, 10), (false, 60)] {
            let plan = Plan::new(None, &[], is_quick, true);
            let each = plan.time + plan.warm_up;
            let measurements = u32::try_from(plan.rounds * plan.cells.len()).unwrap();
            assert!(each * measurements < Duration::from_secs(seconds));
        }
    }
}
