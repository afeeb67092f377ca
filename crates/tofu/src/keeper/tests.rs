//! A keeper with a clock of its own, and a group that is nothing but its seat: what is left for the keeper
//! is seen to in time, whoever comes and goes meanwhile.

use std::{
    io, mem,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use mio::Token;
use tofu_proto::Instant;

#[cfg(not(loom))]
use super::{Rounds, ward::LOOKS_MAX};
use super::{
    rest::{GATHERED_WAIT_MAX, Gathered, NEVER, Rest},
    ward::{BACK_MAX, BACK_MIN, Care, Cared, Driven, Ward},
};
#[cfg(loom)]
use crate::sync::models::Bell;
#[cfg(not(loom))]
use crate::{
    Options,
    engine::{Clock, Shared},
    reactor::close::Mode,
};
use crate::{
    net::{Network, Poller, Registry},
    reactor::seat::{Driver, Nudge, Seat},
    sync::{Mutex, Ordering, lock},
};

const MS: Duration = Duration::from_millis(1);
const NOW: Instant = Instant::from_nanos(1_000_000_000);

/// A group, as far as the keeper knows it, and the calls for the keeper.
struct Group {
    seat: Seat<Reactor>,
    rest: Rest,
    clock: AtomicU64,
    calls: Mutex<Vec<Call>>,
    /// Whether its poller can be nested.
    can_nest: bool,
    /// Whether it keeps memory for what may be gathered.
    has_memory: AtomicBool,
    /// What a caller sleeps in.
    #[cfg(loom)]
    poller: Bell,
}

#[derive(Default)]
struct Reactor {
    /// Frames that a driver has looked at.
    seen: usize,
    timer: Option<Instant>,
    /// Whether the keeper drove it as one whose caller is gone.
    is_driven: bool,
    has_task: bool,
    /// Somebody gathers right after so many of the next looks.
    nudges: usize,
}

enum Call {
    Look,
    LookSoon,
}

impl Cared for Group {
    type Reactor = Reactor;

    fn seat(&self) -> &Seat<Reactor> {
        &self.seat
    }

    fn rest(&self) -> &Rest {
        &self.rest
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.clock.load(Ordering::Relaxed))
    }

    fn is_left_to_keeper(&self, reactor: &Reactor) -> bool {
        reactor.has_task
    }

    fn drive(self: &Arc<Self>, driver: &mut Driver<'_, Reactor>, caller_is_near: bool) -> Driven {
        self.look(driver);
        driver.is_driven |= !caller_is_near;
        if driver.nudges > 0 {
            driver.nudges -= 1;
            self.gather();
        }
        Driven {
            due: driver.timer,
            task: None,
            is_finished: false,
        }
    }

    fn next_deadline(reactor: &Reactor) -> Option<Instant> {
        reactor.timer
    }

    fn give_up_memory(&self) {
        self.has_memory.store(false, Ordering::Relaxed);
    }

    fn nest(&self, _: &Registry) -> io::Result<()> {
        self.can_nest
            .then_some(())
            .ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    fn mute(&self, _: &Registry) {}
    fn take_out(&self, _: &Registry) {}
}

impl Group {
    /// A group with a timer, at a moment at which the keeper cares for it like this and wants to look.
    fn new(care: Care, timer: Option<Instant>) -> (Arc<Self>, Ward<Self>) {
        Self::with(care, timer, true)
    }

    fn with(care: Care, timer: Option<Instant>, can_nest: bool) -> (Arc<Self>, Ward<Self>) {
        let group = Arc::new(Self {
            seat: Seat::new(Reactor {
                timer,
                ..Reactor::default()
            }),
            rest: Rest::new(),
            clock: AtomicU64::new(NOW.as_nanos()),
            calls: Mutex::default(),
            can_nest,
            has_memory: AtomicBool::new(true),
            #[cfg(loom)]
            poller: Bell::default(),
        });
        let mut ward = Ward::new(Arc::clone(&group), registry());
        ward.care = care;
        group.rest.watched(matches!(care, Care::Watching { .. }));
        group.rest.until(ward.looks_at());
        (group, ward)
    }

    fn look(&self, driver: &mut Driver<'_, Reactor>) {
        driver.look();
        driver.seen += self.rest.take_gathered().len();
        driver.timer = driver.timer.filter(|due| *due > self.now());
    }

    fn gather(&self) {
        match self.rest.gather(&self.seat, Token(0), self.now()) {
            Gathered::Awaited => {}
            Gathered::NudgeSeat => match self.seat.nudge() {
                Nudge::Nothing => {}
                #[cfg(loom)]
                Nudge::WakeDriver => self.poller.ring(),
                #[cfg(not(loom))]
                Nudge::WakeDriver => unreachable!("nobody sleeps"),
                Nudge::CallKeeper => self.call(Call::Look),
            },
            Gathered::CallKeeper => self.call(Call::LookSoon),
        }
    }

    fn call(&self, call: Call) {
        lock(&self.calls).push(call);
    }

    /// A caller comes, looks, and goes to do something else.
    fn come_and_go(&self) {
        self.come_and_go_by(|driver, due| self.rest.leave(driver, due, false));
    }

    /// A task comes, looks, and waits.
    fn come_and_wait(&self) {
        self.come_and_wait_by(|driver| self.rest.leave(driver, NEVER, true));
    }

    fn come_and_wait_by(&self, leave: impl FnOnce(Driver<'_, Reactor>) -> bool) {
        let mut driver = self.seat.take();
        self.look(&mut driver);
        driver.has_task = true;
        if leave(driver) {
            self.call(Call::Look);
        }
    }

    fn come_and_go_by(&self, leave: impl FnOnce(Driver<'_, Reactor>, Instant) -> bool) {
        self.rest.note_caller();
        let mut driver = self.seat.take();
        self.look(&mut driver);
        let due = driver.timer.unwrap_or(NEVER);
        if leave(driver, due) {
            self.call(Call::Look);
        }
    }

    /// One of the keeper's rounds: it sees to the calls, and to the group if it is time.
    fn make_round(&self, ward: &mut Ward<Self>) {
        for call in mem::take(&mut *lock(&self.calls)) {
            match call {
                Call::Look => visit(ward, true),
                Call::LookSoon => ward.look_soon(),
            }
        }
        if ward.looks_at().is_some_and(|time| time <= self.now()) {
            visit(ward, false);
        }
    }

    /// The keeper's rounds, up to this time.
    fn keep_until(&self, ward: &mut Ward<Self>, end: Instant) {
        loop {
            self.make_round(ward);
            let next = ward.looks_at().filter(|next| *next <= end);
            if next.is_none() && lock(&self.calls).is_empty() {
                return;
            }
            let now = next.map_or(self.now(), |next| next.max(self.now()));
            self.clock.store(now.as_nanos(), Ordering::Relaxed);
        }
    }
}

fn visit(ward: &mut Ward<Group>, called: bool) {
    let is_finished = ward.visit(called, registry());
    assert!(!is_finished);
}

/// The keeper's poller, which is not asked.
fn registry() -> &'static Registry {
    static OURS: OnceLock<(Poller, Registry)> = OnceLock::new();
    let made = || {
        let poller = Network::System.poller().unwrap();
        let registry = poller.registry().unwrap();
        (poller, registry)
    };
    &OURS.get_or_init(made).1
}

/// What the keeper may be doing when something is left for it.
fn all_cares() -> [Care; 5] {
    [
        Care::Watching { due: None },
        Care::Watching { due: Some(NOW) },
        Care::Watching {
            due: Some(NOW + 2 * MS),
        },
        standing_back(BACK_MIN),
        standing_back(BACK_MAX),
    ]
}

fn standing_back(back: Duration) -> Care {
    Care::StandingBack { back, look_at: NOW }
}

#[cfg(not(loom))]
#[test]
fn what_is_gathered_is_looked_at_in_time() {
    for care in all_cares() {
        let (group, mut ward) = Group::new(care, None);
        group.come_and_go();
        group.gather();
        group.keep_until(&mut ward, NOW + GATHERED_WAIT_MAX);
        assert_eq!(group.seat.take().seen, 1, "{care:?}");
    }
}

/// The caller counts on the keeper's next look, which only sees that a caller was here.
#[cfg(not(loom))]
#[test]
fn a_timer_that_falls_due_after_a_look_that_saw_a_caller_is_kept() {
    for care in all_cares() {
        let due = NOW + MS;
        let (group, mut ward) = Group::new(care, Some(due));
        group.come_and_go();
        group.keep_until(&mut ward, due);
        assert_eq!(group.seat.take().timer, None, "{care:?}");
    }
}

#[cfg(not(loom))]
#[test]
fn timers_of_a_group_that_cannot_be_watched_are_kept() {
    let due = NOW + MS;
    let (group, mut ward) = Group::with(standing_back(BACK_MAX), Some(due), false);
    group.keep_until(&mut ward, due);
    assert_eq!(group.seat.take().timer, None);
}

#[cfg(not(loom))]
#[test]
fn a_group_whose_task_waits_is_driven_when_it_is_called_for() {
    for care in all_cares() {
        let (group, mut ward) = Group::new(care, None);
        group.come_and_go();
        group.seat.take().has_task = true;
        visit(&mut ward, true);
        assert!(group.seat.take().is_driven, "{care:?}");
        assert!(matches!(ward.care, Care::Watching { .. }), "{care:?}");
    }
}

#[cfg(not(loom))]
#[test]
fn a_nudge_while_the_keeper_looks_for_a_caller_who_is_near_makes_it_look_once_more() {
    for care in all_cares() {
        let (group, mut ward) = Group::new(care, None);
        group.come_and_go();
        group.seat.take().nudges = 1;
        group.gather();
        visit(&mut ward, true);
        assert_eq!(group.seat.take().seen, 2, "{care:?}");
        assert!(!group.seat.take().is_driven, "{care:?}");
        assert!(matches!(ward.care, Care::StandingBack { .. }), "{care:?}");
    }
}

#[cfg(not(loom))]
#[test]
fn however_often_one_group_is_nudged_the_keeper_sees_to_others_as_well() {
    for care in all_cares() {
        let (group, mut ward) = Group::new(care, None);
        group.come_and_go();
        group.seat.take().nudges = 3 * LOOKS_MAX;
        group.gather();
        visit(&mut ward, true);
        assert_eq!(group.seat.take().seen, LOOKS_MAX, "{care:?}");
        group.keep_until(&mut ward, NOW);
        assert_eq!(group.seat.take().seen, 3 * LOOKS_MAX + 1, "{care:?}");
    }
}

/// The poller tells what came only to a keeper that watches.
#[cfg(not(loom))]
#[test]
fn what_comes_for_a_task_is_seen_to_at_once_though_its_application_was_a_caller_before() {
    for care in all_cares() {
        let (group, mut ward) = Group::new(care, None);
        group.come_and_go();
        group.come_and_wait();
        group.keep_until(&mut ward, NOW);
        assert!(matches!(ward.care, Care::Watching { .. }), "{care:?}");
        visit(&mut ward, false);
        group.keep_until(&mut ward, NOW);
        assert!(group.seat.take().is_driven, "{care:?}");
        assert!(matches!(ward.care, Care::Watching { .. }), "{care:?}");
    }
}

#[cfg(not(loom))]
#[test]
fn a_task_calls_a_keeper_that_has_stood_back_and_none_that_watches() {
    for care in all_cares() {
        let (group, mut ward) = Group::new(care, None);
        group.come_and_go();
        visit(&mut ward, false);
        assert!(matches!(ward.care, Care::StandingBack { .. }), "{care:?}");
        group.come_and_wait();
        group.make_round(&mut ward);
        assert!(matches!(ward.care, Care::Watching { .. }), "{care:?}");
        group.come_and_wait();
        assert!(lock(&group.calls).is_empty(), "{care:?}");
    }
}

#[cfg(not(loom))]
#[test]
fn a_task_that_waits_calls_the_keeper_unless_it_watches() {
    for (has_task, is_watched, calls) in [(true, false, 1), (true, true, 0), (false, false, 0)] {
        let made = Shared::new(Options::default(), Network::System, Clock::default());
        let (engine, _poller) = made.expect("an engine");
        let group = engine.add_group().expect("a group");
        assert_eq!(engine.keeper.take_calls().len(), 1, "it is to be adopted");
        group.rest().watched(is_watched);
        let mut driver = group.take_seat().expect("not forked");
        if has_task {
            driver.wake_later(std::task::Waker::noop());
        }
        group.leave(driver, 0);
        assert_eq!(
            engine.keeper.take_calls().len(),
            calls,
            "{has_task}, {is_watched}"
        );
        // They hold each other.
        engine.finished(group.id);
    }
}

#[cfg(not(loom))]
fn rounds_and_a_group() -> (Arc<Shared>, Rounds, Arc<crate::group::Group>) {
    let made = Shared::new(Options::default(), Network::System, Clock::default());
    let (engine, poller) = made.expect("an engine");
    let rounds = Rounds::new(Arc::clone(&engine), poller).expect("a registry");
    let group = engine.add_group().expect("a group");
    (engine, rounds, group)
}

/// The last handle may go while a group still drains, and who waited for it may have waited for long enough.
#[cfg(not(loom))]
#[test]
fn a_keeper_that_is_told_to_stop_sees_its_groups_to_their_end() {
    let (engine, mut rounds, group) = rounds_and_a_group();
    engine.keeper.stop();
    assert!(rounds.walk(Some(Duration::ZERO)), "a group is left");
    group.retire(Mode::Draining(engine.clock.now()));
    while rounds.walk(Some(Duration::ZERO)) {}
    assert!(engine.group(group.id).is_none(), "it is finished");
}

/// As a driver's that has panicked.
#[cfg(not(loom))]
#[test]
fn a_keeper_that_is_told_to_stop_waits_for_no_call_that_did_not_come() {
    let (engine, mut rounds, group) = rounds_and_a_group();
    assert!(rounds.walk(Some(Duration::ZERO)));
    let mut driver = group.take_seat().expect("not forked");
    group.retire(Mode::Draining(engine.clock.now()));
    crate::reactor::Reactor::look_around(&mut driver, &group, engine.clock.now());
    assert!(driver.is_finished(&group));
    drop(driver);
    engine.keeper.take_calls();
    assert!(rounds.walk(Some(Duration::ZERO)), "it does not know");
    engine.keeper.stop();
    assert!(!rounds.walk(Some(Duration::ZERO)));
}

/// A keeper that drove for every call would read on for an application that has enough to do.
#[cfg(not(loom))]
#[test]
fn calls_neither_have_a_group_driven_whose_caller_is_near_nor_put_that_off() {
    for care in all_cares() {
        let (group, mut ward) = Group::new(care, None);
        group.come_and_go();
        let gone = NOW + BACK_MIN;
        for micros in (0..2_000).step_by(100) {
            let now = NOW + Duration::from_micros(micros);
            group.keep_until(&mut ward, now);
            group.clock.store(now.as_nanos(), Ordering::Relaxed);
            visit(&mut ward, true);
            assert!(!group.seat.take().is_driven, "{care:?}, {micros} us");
        }
        group.keep_until(&mut ward, gone);
        assert!(group.seat.take().is_driven, "{care:?}");
    }
}

#[cfg(not(loom))]
#[test]
fn memory_is_kept_while_something_gathers_and_given_up_when_nothing_does() {
    for care in all_cares() {
        let (group, mut ward) = Group::new(care, None);
        group.gather();
        visit(&mut ward, false);
        assert!(group.has_memory.load(Ordering::Relaxed), "{care:?}");
        visit(&mut ward, false);
        assert!(!group.has_memory.load(Ordering::Relaxed), "{care:?}");
    }
}

/// All that can happen at the same time happens at one time, `NOW`. Then the clock goes on, nobody but the
/// keeper is there, and what was left must be seen to by the time that was promised.
#[cfg(loom)]
mod models {
    use loom::thread::{self, JoinHandle};

    use super::*;
    use crate::sync::models::model_bounded;

    fn elsewhere(group: &Arc<Group>, does: impl FnOnce(&Group) + 'static) -> JoinHandle<()> {
        let group = Arc::clone(group);
        thread::spawn(move || does(&group))
    }

    fn keeping(
        mut ward: Ward<Group>,
        does: impl FnOnce(&mut Ward<Group>) + 'static,
    ) -> JoinHandle<Ward<Group>> {
        thread::spawn(move || {
            does(&mut ward);
            ward
        })
    }

    fn look(ward: &mut Ward<Group>) {
        visit(ward, false);
    }

    /// As a keeper that says when it looks next, and does not look at what was left for it meanwhile.
    fn rest_in_vain(ward: &mut Ward<Group>) {
        let look_at = NOW + BACK_MAX;
        ward.care = Care::StandingBack {
            back: BACK_MAX,
            look_at,
        };
        ward.group.rest.watched(false);
        ward.group.rest.until(Some(look_at));
    }

    /// A poster gathers, while the keeper does something.
    fn gathers_while(care: Care, keeper: impl FnOnce(&mut Ward<Group>) + 'static) {
        let (group, ward) = Group::new(care, None);
        let keeping = keeping(ward, keeper);
        group.gather();
        let mut ward = keeping.join().unwrap();
        group.keep_until(&mut ward, NOW + GATHERED_WAIT_MAX);
        assert_eq!(group.seat.take().seen, 1, "looked at in time");
    }

    #[test]
    fn what_is_gathered_while_the_keeper_looks_is_looked_at_in_time() {
        for care in all_cares() {
            loom::model(move || gathers_while(care, look));
        }
    }

    #[test]
    #[should_panic(expected = "looked at in time")]
    fn what_is_gathered_unseen_by_the_keeper_is_late() {
        loom::model(|| gathers_while(standing_back(BACK_MAX), rest_in_vain));
    }

    #[test]
    fn what_is_gathered_while_a_caller_comes_and_goes_is_looked_at_in_time() {
        for care in all_cares() {
            model_bounded(3, move || {
                let (group, ward) = Group::new(care, None);
                let keeping = keeping(ward, look);
                let calling = elsewhere(&group, Group::come_and_go);
                group.gather();
                calling.join().unwrap();
                let mut ward = keeping.join().unwrap();
                group.keep_until(&mut ward, NOW + GATHERED_WAIT_MAX);
                assert_eq!(group.seat.take().seen, 1, "looked at in time");
            });
        }
    }

    #[test]
    fn what_two_posters_gather_while_the_keeper_is_called_is_looked_at_in_time() {
        for care in all_cares() {
            model_bounded(3, move || {
                let (group, ward) = Group::new(care, None);
                let keeper = Arc::clone(&group);
                let keeping = keeping(ward, move |ward| {
                    keeper.make_round(ward);
                    keeper.make_round(ward);
                });
                let posting = elsewhere(&group, Group::gather);
                group.gather();
                posting.join().unwrap();
                let mut ward = keeping.join().unwrap();
                group.keep_until(&mut ward, NOW + GATHERED_WAIT_MAX);
                assert_eq!(group.seat.take().seen, 2, "looked at in time");
            });
        }
    }

    /// The caller sleeps until something was gathered and seen: if nobody wakes it, all threads sleep.
    #[test]
    fn what_is_gathered_while_a_caller_sleeps_wakes_it() {
        for care in all_cares() {
            model_bounded(3, move || {
                let (group, ward) = Group::new(care, None);
                let keeping = keeping(ward, look);
                let posting = elsewhere(&group, Group::gather);
                group.rest.note_caller();
                let mut driver = group.seat.take();
                group.look(&mut driver);
                while driver.seen == 0 {
                    driver.sleep(|_| group.poller.wait());
                    group.look(&mut driver);
                }
                driver.leave();
                posting.join().unwrap();
                keeping.join().unwrap();
            });
        }
    }

    /// A caller with a timer leaves, while the keeper does something.
    fn leaves_while(
        care: Care,
        caller: impl FnOnce(&Group),
        keeper: impl FnOnce(&mut Ward<Group>) + 'static,
    ) {
        let due = NOW + 3 * MS;
        let (group, ward) = Group::new(care, Some(due));
        let keeping = keeping(ward, keeper);
        caller(&group);
        let mut ward = keeping.join().unwrap();
        group.keep_until(&mut ward, due);
        assert_eq!(group.seat.take().timer, None, "the timer is kept");
    }

    #[test]
    fn a_timer_left_while_the_keeper_looks_is_kept() {
        for care in all_cares() {
            loom::model(move || leaves_while(care, Group::come_and_go, look));
        }
    }

    #[test]
    #[should_panic(expected = "the timer is kept")]
    fn a_timer_left_unseen_by_the_keeper_is_late() {
        let care = standing_back(BACK_MAX);
        loom::model(move || leaves_while(care, Group::come_and_go, rest_in_vain));
    }

    /// A task leaves, while the keeper does something.
    fn waits_while(
        care: Care,
        task: impl FnOnce(&Group),
        keeper: impl FnOnce(&mut Ward<Group>) + 'static,
    ) {
        let (group, ward) = Group::new(care, None);
        let keeping = keeping(ward, keeper);
        task(&group);
        let mut ward = keeping.join().unwrap();
        group.keep_until(&mut ward, NOW);
        assert!(
            matches!(ward.care, Care::Watching { .. }),
            "the task is watched for"
        );
    }

    #[test]
    fn a_task_that_leaves_while_the_keeper_looks_is_watched_for() {
        for care in all_cares() {
            loom::model(move || waits_while(care, Group::come_and_wait, look));
        }
    }

    #[test]
    fn a_caller_who_becomes_a_task_while_the_keeper_looks_is_watched_for() {
        for care in all_cares() {
            model_bounded(3, move || {
                let calls_and_waits = |group: &Group| {
                    group.come_and_go();
                    group.come_and_wait();
                };
                waits_while(care, calls_and_waits, look);
            });
        }
    }

    #[test]
    #[should_panic(expected = "the task is watched for")]
    fn a_task_unseen_by_the_keeper_that_stands_back_is_not_watched_for() {
        let care = Care::Watching { due: None };
        loom::model(move || waits_while(care, Group::come_and_wait, rest_in_vain));
    }

    /// As [`Rest::leave`], for one who does not ask whether the keeper watches.
    #[test]
    #[should_panic(expected = "the task is watched for")]
    fn a_task_that_takes_the_keeper_to_watch_is_not_watched_for() {
        let trusting = |group: &Group| {
            group.come_and_wait_by(|driver| group.rest.leave(driver, NEVER, false));
        };
        let care = Care::Watching { due: None };
        loom::model(move || waits_while(care, trusting, look));
    }

    /// As [`Rest::leave`], without the fence.
    #[test]
    #[should_panic(expected = "the timer is kept")]
    fn without_a_fence_between_leaving_and_looking_a_timer_is_late() {
        let unfenced = |group: &Group| {
            group.come_and_go_by(|driver, due| driver.leave() || group.rest.is_too_long_for(due));
        };
        let care = standing_back(BACK_MAX);
        loom::model(move || leaves_while(care, unfenced, look));
    }
}
