//! The processes of clients, as seen by who starts and kills them.

use std::mem;

use tofu_trials::{Fallible, child::Companion, random::Random};

const PROCESSES: u64 = 4;

pub(crate) struct Crowd<'a> {
    addresses: &'a [String],
    processes: Vec<Companion>,
    random: Random,
    crashes: u64,
    /// Answers that those who are gone had checked by the last time that they told.
    answered: u64,
}

impl<'a> Crowd<'a> {
    pub(crate) fn new(addresses: &'a [String]) -> Fallible<Self> {
        let processes = (0..PROCESSES).map(|seed| start(seed, addresses));
        Ok(Self {
            addresses,
            processes: processes.collect::<Fallible<_>>()?,
            random: Random::new(1),
            crashes: 0,
            answered: 0,
        })
    }

    pub(crate) fn crashes(&self) -> u64 {
        self.crashes
    }

    /// Whether all are at it: one that failed is not to be killed and replaced as if it had not.
    ///
    /// # Errors
    /// One has ended.
    pub(crate) fn live(&mut self) -> Fallible {
        self.processes.iter_mut().try_for_each(Companion::lives)
    }

    /// Kills one of them and puts another one in its place.
    ///
    /// # Errors
    /// It had ended before.
    pub(crate) fn crash(&mut self) -> Fallible {
        self.crashes += 1;
        let next = start(PROCESSES + self.crashes, self.addresses)?;
        let place = self.random.index(self.processes.len());
        let victim = mem::replace(&mut self.processes[place], next);
        self.answered += answers(&victim.kill()?)?;
        Ok(())
    }

    /// Waits for their end: how often one was killed, and how many answers were checked.
    ///
    /// # Errors
    /// One had a wrong answer, or missed one; or none had any.
    pub(crate) fn end(self) -> Fallible<(u64, u64)> {
        let mut answered = self.answered;
        for process in self.processes {
            answered += answers(&process.end()?)?;
        }
        if self.crashes == 0 || answered == 0 {
            let crashes = self.crashes;
            return Err(format!("proves nothing: {crashes} crashes, {answered} answers").into());
        }
        Ok((self.crashes, answered))
    }
}

fn start(seed: u64, addresses: &[String]) -> Fallible<Companion> {
    let seed = seed.to_string();
    let mut args = vec!["--part", "client", &seed];
    args.extend(addresses.iter().map(String::as_str));
    Companion::start::<&str, _>(&[], &args)
}

fn answers(told: &[String]) -> Fallible<u64> {
    let last = told.last().and_then(|line| line.strip_prefix("answered "));
    Ok(last.map_or(Ok(0), str::parse)?)
}
