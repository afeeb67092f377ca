//! What is run again and again: some engines whose applications do all that may be done, in any order.

mod chatter;

use std::time::Duration;

use tofu::Address;

use self::chatter::{Chatter, Plan};
use crate::{
    Failure, Faults, Host, Limits, Random, Report, World,
    faults::{KINDS, reduced},
};

/// Lines of a trace that is shown whole.
const LINES_MAX: usize = 1_000_000;
/// The frame of a largest message: no queue may be shorter.
const FRAME_MAX: usize = 16 + 2 * 65_535;

/// One run, which its seed decides: engines, applications, what they do, and what goes wrong.
///
/// ```
/// use tofu_sim::Scenario;
///
/// let report = Scenario::new(17).run().unwrap_or_else(|failure| panic!("{failure}"));
/// assert!(report.delivered > 0);
/// assert_eq!(Scenario::new(17).run().unwrap(), report, "a seed is a run");
/// ```
#[derive(Clone, Debug)]
pub struct Scenario {
    seed: u64,
    faults: Faults,
    /// Kinds of faults that were left out.
    without: Vec<&'static str>,
    /// Posts of each application, of what the seed has decided.
    posts_percent: usize,
}

impl Scenario {
    /// The run of this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            faults: Faults::of_seed(seed),
            without: Vec::new(),
            posts_percent: 100,
        }
    }

    /// The same without one of the [`KINDS`] of faults.
    #[must_use]
    pub fn without(mut self, kind: &str) -> Self {
        if let Some(less) = self.faults.without(kind) {
            self.faults = less;
            self.without
                .extend(KINDS.iter().find(|known| **known == kind));
        }
        self
    }

    /// The same with fewer messages: so many of 100.
    #[must_use]
    pub fn with_posts(mut self, percent: usize) -> Self {
        self.posts_percent = percent;
        self
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// A promise was broken.
    pub fn run(&self) -> Result<Report, Box<Failure>> {
        self.run_with(0).0
    }

    /// Runs to the end, and tells all that happened.
    pub fn run_traced(&self) -> (Result<Report, Box<Failure>>, String) {
        self.run_with(LINES_MAX)
    }

    /// After a failure: leaves out whatever faults it does not need, and messages, and runs what is left,
    /// with the last lines of what happened.
    ///
    /// # Errors
    /// The same promise is broken; or, if it is not any more, the failure is as it was.
    pub fn run_reduced(&self) -> Result<Report, Box<Failure>> {
        let broken = match self.run() {
            Ok(report) => return Ok(report),
            Err(failure) => failure.broken.promise,
        };
        let fails = |scenario: &Self| {
            let failure = scenario.run().err();
            failure.is_some_and(|failure| failure.broken.promise == broken)
        };
        let mut least = self.clone();
        for percent in [5, 20, 50] {
            let fewer = least.clone().with_posts(percent);
            if fails(&fewer) {
                least = fewer;
                break;
            }
        }
        let without = |scenario: &Self, kind: &str| {
            let less = scenario.clone().without(kind);
            (less.without.len() > scenario.without.len()).then_some(less)
        };
        reduced(least, without, fails).run_with(100).0
    }

    /// The command that shows this run.
    pub fn command(&self) -> String {
        let mut command = format!("cargo run --release -p tofu-sim -- --seed {}", self.seed);
        for kind in &self.without {
            command.push_str(" --without ");
            command.push_str(kind);
        }
        if self.posts_percent != 100 {
            command.push_str(" --posts ");
            command.push_str(&self.posts_percent.to_string());
        }
        command + " --trace"
    }

    fn run_with(&self, lines: usize) -> (Result<Report, Box<Failure>>, String) {
        let mut world = World::with_faults(self.seed, self.faults.clone());
        world.keep_trace(lines);
        let outcome = self.play(&mut world).map_err(|mut failure| {
            failure.replay = Some(self.command());
            failure
        });
        (outcome, world.trace())
    }

    fn play(&self, world: &mut World) -> Result<Report, Box<Failure>> {
        let mut random = Random::new(self.seed ^ 0x5CE7A);
        let random = &mut random;
        let hosts = random.between(2, 4);
        let gentle = self.faults.is_gentle();
        let hosts: Vec<_> = (0..hosts)
            .map(|_| world.engine(limits(gentle, random)))
            .collect();
        let mut addresses = Vec::new();
        for (index, &host) in hosts.iter().enumerate() {
            addresses.push(world.tcp(host, 7_000));
            if random.percent(50) {
                let name = Address::tcp(format!("host-{index}"), 7_000);
                addresses.extend(name);
            }
            if random.percent(50) {
                let path = format!("/simulated/{}", letter(index));
                addresses.extend(Address::uds(path));
            }
        }
        for &host in &hosts {
            let mut own: Vec<_> = addresses
                .iter()
                .filter(|it| is_of(it, world, host, &hosts))
                .cloned()
                .collect();
            if random.percent(20) {
                // Nobody knows which port that will be, but `Listening` has to tell.
                own.push(world.tcp(host, 0));
            }
            for group in 0..random.between(1, 2) {
                let mut plan = Plan::new(gentle, random);
                plan.posts = plan.posts * self.posts_percent / 100;
                let listens = if group == 0 { own.clone() } else { Vec::new() };
                world.start(host, Chatter::new(plan, listens, addresses.clone()));
            }
            world.may_stop(host);
            world.may_crash(host, |_| {});
        }
        let time =
            random.duration(Duration::from_secs(2)) + random.duration(Duration::from_secs(3));
        world.run(time)?;
        if self.faults.stops > 0 {
            // Who is stopped for longer than the timeouts goes on before the end, which ends every stop.
            world.run(self.faults.stop_max)?;
        }
        world.finish()
    }
}

/// What the path of a host's socket ends with.
fn letter(host: usize) -> char {
    char::from(b'a' + u8::try_from(host).unwrap_or_default())
}

fn is_of(address: &Address, world: &World, host: Host, hosts: &[Host]) -> bool {
    let index = hosts.iter().position(|it| *it == host).unwrap_or_default();
    if let Some(path) = address.path() {
        return path.ends_with(letter(index));
    }
    // Who listens does so on its own address, and is found by its name as well.
    *address == world.tcp(host, 7_000)
}

fn limits(gentle: bool, random: &mut Random) -> Limits {
    let mut limits = Limits {
        pool_messages: random.pick(&[1, 2, 5, 50, 1_024]),
        channel_queue_bytes: random.pick(&[FRAME_MAX, 2 * FRAME_MAX, 8 << 20]),
        engine_queue_bytes: random.pick(&[FRAME_MAX, 3 * FRAME_MAX, 256 << 20]),
        ..Limits::default()
    };
    limits.pool_messages_initial = random.between(0, limits.pool_messages.min(64));
    if gentle {
        return limits;
    }
    let mut time = || Duration::from_millis(1_500) + random.duration(Duration::from_secs(8));
    limits.hello_timeout = time();
    limits.connect_timeout = time();
    limits.frame_timeout = time();
    limits.bye_timeout = time();
    limits.drain_timeout = time();
    limits.channels = random.pick(&[4, 65_534, 65_534]);
    limits.half_open = random.pick(&[1, 3, 1_024]);
    limits
}
