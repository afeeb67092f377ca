//! The run: chance picks what happens next, of all that can.

use tofu_proto::{Instant, Side};

use super::{
    Both, Broken, Failure, Fault, Plan, Random, Report, Sabotage,
    both::SIDES,
    checker::Checked,
    peer::{Move, Peer},
    sabotage::Saboteur,
    trace::{Event, Trace},
    world::World,
};
use crate::broken::caught;

/// Steps after which a run is taken to be endless.
const STEPS_MAX: usize = 200_000;
/// Steps that a failure shows.
const STEPS_SHOWN: usize = 40;

/// One run, which its seed decides. See the [module](super) for what it checks.
#[derive(Debug)]
pub struct Simulation {
    seed: u64,
    plan: Plan,
    trace: Trace,
    sabotage: Both<Option<Sabotage>>,
}

/// A run that goes on.
#[derive(Debug)]
struct Run {
    plan: Plan,
    world: World,
    client: Peer,
    /// There once it has accepted.
    server: Option<Peer>,
    steps: usize,
    /// The faults to come, the last one first.
    faults: Vec<(usize, Fault)>,
    sabotage: Option<Sabotage>,
    moves: Vec<(Actor, Move)>,
}

/// What can happen next, beside the peers' moves.
#[derive(Clone, Copy, Debug)]
enum Actor {
    Peer(Side),
    Carry(Side),
    Reset(Side),
    Connect,
}

impl Simulation {
    /// The run of this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            plan: Plan::new(seed),
            trace: Trace::new(STEPS_SHOWN),
            sabotage: Both::default(),
        }
    }

    /// Another plan than the seed's, which then decides the order of things only.
    #[must_use]
    pub fn with_plan(mut self, plan: Plan) -> Self {
        self.plan = plan;
        self
    }

    /// Commits this on the side's stream, or on what comes back to it.
    #[must_use]
    pub fn with_sabotage(mut self, side: Side, sabotage: Sabotage) -> Self {
        self.sabotage[side] = Some(sabotage);
        self
    }

    /// What the seed has decided.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// A promise was broken.
    pub fn run(self) -> Result<Report, Box<Failure>> {
        self.finish().0
    }

    /// Runs to the end, and tells every step of it.
    ///
    /// ```
    /// use tofu_sim::pair::{Event, Simulation};
    ///
    /// let (report, events) = Simulation::new(7).run_traced();
    /// assert!(report.is_ok());
    /// assert!(events.contains(&Event::Connected));
    /// ```
    pub fn run_traced(mut self) -> (Result<Report, Box<Failure>>, Vec<Event>) {
        self.trace = Trace::new(usize::MAX);
        let (report, trace) = self.finish();
        (report, trace.into_events())
    }

    fn finish(self) -> (Result<Report, Box<Failure>>, Trace) {
        let plan = self.plan.clone();
        let seed = self.seed;
        let mut run = match Run::new(self) {
            Ok(run) => run,
            Err(broken) => unreachable!("nothing has happened yet, and yet {broken}"),
        };
        let ended = caught(|| run.run().and_then(|()| run.report(seed)))
            .unwrap_or_else(|said| Err(Broken::Panicked(said)));
        let trace = run.world.trace;
        let report = ended.map_err(|broken| {
            Box::new(Failure {
                seed,
                broken,
                plan,
                trace: trace.clone(),
            })
        });
        (report, trace)
    }
}

impl Run {
    fn new(simulation: Simulation) -> Checked<Self> {
        let plan = simulation.plan;
        let random = Random::new(!simulation.seed);
        let mut world = World::new(&plan, random, simulation.trace);
        let mut client = Peer::client(&plan, &mut world)?;
        for side in SIDES {
            if let Some(sabotage) = simulation.sabotage[side] {
                world.link.sabotage(side, Saboteur::new(sabotage));
            }
        }
        client.sabotage = simulation.sabotage.client;
        let mut faults = plan.faults.clone();
        faults.reverse();
        Ok(Self {
            plan,
            world,
            client,
            server: None,
            steps: 0,
            faults,
            sabotage: simulation.sabotage.server,
            moves: Vec::new(),
        })
    }

    fn run(&mut self) -> Checked {
        while !self.is_over() {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return Err(Broken::Endless);
            }
            if let Some(&(step, fault)) = self.faults.last()
                && step <= self.steps
            {
                self.faults.pop();
                self.commit(fault)?;
                continue;
            }
            self.list_moves();
            if self.moves.is_empty() {
                self.sleep()?;
            } else {
                let (actor, next) = self.world.random.pick(&self.moves);
                self.make(actor, next)?;
                self.world.now = self.world.now + self.world.random.duration(self.plan.tick);
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let server_is_over = match &self.server {
            Some(server) => server.closed.is_some(),
            None => true,
        };
        self.client.closed.is_some() && server_is_over
    }

    fn peer(&mut self, side: Side) -> Option<&mut Peer> {
        match side {
            Side::Client => Some(&mut self.client),
            Side::Server => self.server.as_mut(),
        }
    }

    fn peers(&self) -> impl Iterator<Item = (Side, &Peer)> {
        [
            (Side::Client, Some(&self.client)),
            (Side::Server, self.server.as_ref()),
        ]
        .into_iter()
        .filter_map(|(side, peer)| Some((side, peer?)))
    }

    fn list_moves(&mut self) {
        let mut listed = std::mem::take(&mut self.moves);
        listed.clear();
        let now = self.world.now;
        let mut moves = Vec::new();
        for (side, peer) in self.peers() {
            peer.moves(&self.world, &mut moves);
            listed.extend(moves.drain(..).map(|next| (Actor::Peer(side), next)));
        }
        for side in SIDES {
            if self.world.link.can_carry(side, now) {
                listed.push((Actor::Carry(side), Move::Time));
            }
            if self.world.link.can_reset(side, now) {
                listed.push((Actor::Reset(side), Move::Time));
            }
        }
        if self.client.is_connecting() && self.connects_at() <= now {
            listed.push((Actor::Connect, Move::Time));
        }
        self.moves = listed;
    }

    fn connects_at(&self) -> Instant {
        (Instant::ORIGIN + self.plan.connecting).max(self.client.frozen_until)
    }

    fn make(&mut self, actor: Actor, next: Move) -> Checked {
        let world = &mut self.world;
        match actor {
            Actor::Peer(Side::Client) => self.client.make(next, world),
            Actor::Peer(Side::Server) => match &mut self.server {
                Some(server) => server.make(next, world),
                None => Ok(()),
            },
            Actor::Carry(from) => {
                let portion = world.portion();
                let count = world.link.carry(from, portion);
                world.note(Event::Carried(from, count));
                Ok(())
            }
            Actor::Reset(side) => {
                world.link.reset(side);
                world.note(Event::Reset(side));
                Ok(())
            }
            Actor::Connect => {
                world.note(Event::Connected);
                world.checker.connected(world.now);
                self.client.connect(world.now);
                let mut server = Peer::server(&self.plan, world);
                server.sabotage = self.sabotage;
                self.server = Some(server);
                Ok(())
            }
        }
    }

    /// Nothing can happen now: until when?
    fn sleep(&mut self) -> Checked {
        let now = self.world.now;
        let connects_at = self.client.is_connecting().then(|| self.connects_at());
        let wakes_at = self
            .peers()
            .filter_map(|(_, peer)| peer.wakes_at(now))
            .chain(connects_at)
            .chain([self.world.link.stalled_until])
            .filter(|time| *time > now)
            .min();
        match wakes_at {
            Some(time) => {
                self.world.now = time;
                Ok(())
            }
            None => Err(Broken::Stalled(self.closed())),
        }
    }

    fn commit(&mut self, fault: Fault) -> Checked {
        self.world.note(Event::Fault(fault));
        let now = self.world.now;
        match fault {
            Fault::Freeze(side, time) => {
                if let Some(peer) = self.peer(side) {
                    peer.frozen_until = now + time;
                }
            }
            Fault::Hog(side, time) => {
                if let Some(peer) = self.peer(side) {
                    peer.hogged_until = now + time;
                }
            }
            Fault::Partition(time) => self.world.link.stalled_until = now + time,
            Fault::Cut if self.server.is_some() => self.world.link.cut(),
            Fault::Cut => {}
            Fault::HalfClose(side) => match (side, &mut self.server) {
                (Side::Client, _) => self.client.end_writing(&mut self.world),
                (Side::Server, Some(server)) => server.end_writing(&mut self.world),
                (Side::Server, None) => {}
            },
            Fault::Abandon(side) => match (side, &mut self.server) {
                (Side::Client, _) => self.client.abandon(&mut self.world)?,
                (Side::Server, Some(server)) => server.abandon(&mut self.world)?,
                (Side::Server, None) => {}
            },
        }
        Ok(())
    }

    fn closed(&self) -> Both<Option<tofu_proto::Status>> {
        Both {
            client: self.client.closed,
            server: self.server.as_ref().and_then(|server| server.closed),
        }
    }

    fn report(&self, seed: u64) -> Checked<Report> {
        for (side, peer) in self.peers() {
            if peer.pool_out() > 0 {
                return Err(Broken::PoolLeaks(side, peer.pool_out()));
            }
        }
        let held = Both {
            client: self.client.closed_held,
            server: self
                .server
                .as_ref()
                .is_some_and(|server| server.closed_held),
        };
        let link = &self.world.link;
        let gentle = self.plan.is_gentle();
        let elapsed = self.world.now.since(Instant::ORIGIN);
        if gentle && elapsed > self.plan.timeouts.bye / 2 {
            return Err(Broken::Slow(elapsed));
        }
        let tally = self.world.checker.finish(
            Both::of(|side| link.unread(side)),
            Both::of(|side| link.discarded(side)),
            held,
            gentle,
        )?;
        Ok(Report {
            seed,
            steps: self.steps,
            elapsed,
            delivered: tally.delivered,
            returned: tally.returned,
            lost: tally.lost,
            starved: self.peers().map(|(_, peer)| peer.starved).sum(),
            queue_full: self.peers().map(|(_, peer)| peer.queue_full).sum(),
            closed: self.closed(),
            gentle,
        })
    }
}
