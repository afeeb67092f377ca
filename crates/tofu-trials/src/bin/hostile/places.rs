//! Where each part runs, and how soon: who shares a core with whom decides what is measured.

use std::process::Command;

use clap::ValueEnum;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::{Pid, gettid},
};
use tofu_trials::Fallible;

/// A program and its arguments, which end by running another one.
pub(crate) type Wrapper = Vec<String>;

/// The command that starts each part.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) server: Wrapper,
    /// The core of the honest clients' group, if they have one of their own.
    pub(crate) own_group: Option<usize>,
    pub(crate) honest: Wrapper,
    pub(crate) enemies: Wrapper,
    /// A virtual core that has nothing to do is given to others, and comes back late: the server would be slower in
    /// peace than beside those who keep the machine busy. So each core has something to do, for which nobody has to wait.
    pub(crate) spinners: Vec<Wrapper>,
}

/// Who shares a core, and a group, with whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    /// All share all cores, and the hostile peers run when nobody else wants one.
    #[default]
    Shared,
    /// The hostile peers have no part of the server's core, as if they were on another machine. The honest clients do: they
    /// have little to do, come first there, and what they wait for is the server.
    Apart,
    /// The honest clients have a group of their own, whose thread has that core and comes first there. Everybody's thread
    /// shares the others with the hostile peers.
    OwnGroup,
}

impl Places {
    /// # Errors
    /// Some are to be apart, and this process may use one core only.
    pub(crate) fn of(layout: Layout) -> Fallible<Self> {
        match layout {
            // Spinners would be at the cost of the hostile peers.
            Layout::Shared => Ok(Self {
                enemies: words("chrt --idle 0"),
                ..Self::default()
            }),
            Layout::Apart => Self::apart(&cores()?),
            Layout::OwnGroup => Self::own_group(&cores()?),
        }
    }

    fn own_group(cores: &[usize]) -> Fallible<Self> {
        let places = Self::apart(cores)?;
        Ok(Self {
            server: places.enemies.clone(),
            own_group: Some(cores[0]),
            ..places
        })
    }

    fn apart(cores: &[usize]) -> Fallible<Self> {
        if cores.len() < 2 {
            return Err("to be apart takes two cores, and this process may use one only".into());
        }
        let (ours, theirs) = (cores[0], &cores[1..]);
        let theirs: Vec<_> = theirs.iter().map(usize::to_string).collect();
        let spinner = |core: &usize| words(&format!("taskset -c {core} chrt --idle 0"));
        Ok(Self {
            server: words(&format!("taskset -c {ours}")),
            own_group: None,
            honest: words(&format!("taskset -c {ours} chrt --fifo 1")),
            enemies: words(&format!("taskset -c {}", theirs.join(","))),
            spinners: cores.iter().map(spinner).collect(),
        })
    }
}

/// Gives the calling thread this core, where it comes first.
///
/// # Errors
/// It may not, or `chrt` is missing.
pub(crate) fn come_first_on(core: usize) -> Fallible {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    let thread = gettid().to_string();
    let mut chrt = Command::new("chrt");
    let outcome = chrt.args(["--fifo", "--pid", "1", &thread]).status()?;
    if outcome.success() {
        Ok(())
    } else {
        Err(format!("chrt: {outcome}").into())
    }
}

/// Those that this process may use.
fn cores() -> Fallible<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    let cores = (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false));
    Ok(cores.collect())
}

fn words(line: &str) -> Wrapper {
    line.split(' ').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hostile_peers_have_all_cores_but_the_first() {
        let places = Places::apart(&[1, 4, 6]).expect("three cores");
        assert_eq!(places.server, ["taskset", "-c", "1"]);
        assert_eq!(places.honest, ["taskset", "-c", "1", "chrt", "--fifo", "1"]);
        assert_eq!(places.enemies, ["taskset", "-c", "4,6"]);
        assert_eq!(places.spinners.len(), 3);
    }

    #[test]
    fn their_own_group_has_the_first_core_and_everybodys_the_others() {
        let places = Places::own_group(&[1, 4, 6]).expect("three cores");
        assert_eq!(places.own_group, Some(1));
        assert_eq!(places.server, ["taskset", "-c", "4,6"]);
        assert_eq!(places.honest, ["taskset", "-c", "1", "chrt", "--fifo", "1"]);
    }

    #[test]
    fn one_core_is_not_enough() {
        let error = Places::apart(&[3]).expect_err("one core");
        assert!(error.to_string().contains("takes two cores"), "{error}");
    }
}
