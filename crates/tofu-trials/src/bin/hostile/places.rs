//! Where each part runs, and how soon: who shares a core with whom decides what is measured.

use nix::{
    sched::{CpuSet, sched_getaffinity},
    unistd::Pid,
};
use tofu_trials::Fallible;

/// A program and its arguments, which end by running another one.
pub(crate) type Wrapper = Vec<String>;

/// The command that starts each part.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) server: Wrapper,
    pub(crate) honest: Wrapper,
    pub(crate) enemies: Wrapper,
    /// A virtual core that has nothing to do is given to others, and comes back late: the server would be slower in
    /// peace than beside those who keep the machine busy. So each core has something to do, for which nobody has to wait.
    pub(crate) spinners: Vec<Wrapper>,
}

impl Places {
    /// All share all cores, and the hostile peers run when nobody else wants one. Spinners would be at their cost.
    pub(crate) fn shared() -> Self {
        Self {
            enemies: words("chrt --idle 0"),
            ..Self::default()
        }
    }

    /// The hostile peers have no part of the server's core, as if they were on another machine. The honest clients do: they
    /// have little to do, come first there, and what they wait for is the server.
    ///
    /// # Errors
    /// This process may use one core only.
    pub(crate) fn apart() -> Fallible<Self> {
        Self::on(&cores()?)
    }

    fn on(cores: &[usize]) -> Fallible<Self> {
        if cores.len() < 2 {
            return Err("--apart needs two cores, and this process may use one only".into());
        }
        let (ours, theirs) = (cores[0], &cores[1..]);
        let theirs: Vec<_> = theirs.iter().map(usize::to_string).collect();
        let spinner = |core: &usize| words(&format!("taskset -c {core} chrt --idle 0"));
        Ok(Self {
            server: words(&format!("taskset -c {ours}")),
            honest: words(&format!("taskset -c {ours} chrt --fifo 1")),
            enemies: words(&format!("taskset -c {}", theirs.join(","))),
            spinners: cores.iter().map(spinner).collect(),
        })
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
        let places = Places::on(&[1, 4, 6]).expect("three cores");
        assert_eq!(places.server, ["taskset", "-c", "1"]);
        assert_eq!(places.honest, ["taskset", "-c", "1", "chrt", "--fifo", "1"]);
        assert_eq!(places.enemies, ["taskset", "-c", "4,6"]);
        assert_eq!(places.spinners.len(), 3);
    }

    #[test]
    fn one_core_is_not_enough() {
        let error = Places::on(&[3]).expect_err("one core");
        assert!(error.to_string().contains("needs two cores"), "{error}");
    }
}
