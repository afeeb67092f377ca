//! Who drives a group's reactor, and how the others get the driver's attention.
//!
//! At most one thread sits in the seat: it may touch the reactor, and it may sleep in the poller.
//! Anyone may leave work for the driver (in a queue of their own) and then *nudge* the seat. The
//! promise: after a nudge, somebody looks at that work. Either the driver does before it sleeps or
//! leaves, or it is woken, or the nudger (or the driver that leaves) is told to call the keeper.
//!
//! ```text
//!             take                    sleep
//!   Empty <---------> Working <----------------> Asleep
//!             leave            woken (any reason)
//!
//!   each may also be nudged:  Empty    the keeper was called, once
//!                             Working  the driver looks again before it sleeps; leaving, it is told
//!                             Asleep   the driver was woken, once
//! ```
//!
//! Only a look takes the nudge away: not taking the seat, and not waking up, for a driver that is woken
//! by its sockets may well leave without having looked.
//!
//! The occupant and the nudge are one atomic byte, so neither can be seen without the other: that is
//! what makes a wake-up impossible to lose. The lock around the reactor only ever waits for a driver
//! that is on its way out, or for one that is awake.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use crate::sync::{AtomicU8, Mutex, MutexGuard, Ordering, lock, yield_now};

const EMPTY: u8 = 0;
const WORKING: u8 = 1;
const ASLEEP: u8 = 2;
const NUDGED: u8 = 4;

/// The seat, around what its driver may touch.
pub(crate) struct Seat<T> {
    state: AtomicU8,
    inside: Mutex<T>,
}

/// What the one who nudged has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nudge {
    /// Nothing: the work will be looked at.
    Nothing,
    /// Wake the driver from its sleep in the poller.
    WakeDriver,
    /// Call the keeper: nobody drives.
    CallKeeper,
}

/// The thread in the seat. Dropping it leaves the seat.
pub(crate) struct Driver<'a, T> {
    seat: &'a Seat<T>,
    inside: MutexGuard<'a, T>,
    seated: bool,
}

impl<T> Seat<T> {
    pub(crate) fn new(inside: T) -> Self {
        Self {
            state: AtomicU8::new(EMPTY),
            inside: Mutex::new(inside),
        }
    }

    /// Takes the seat; waits while another thread works in it. Must not be called while a thread
    /// may sleep in it for long.
    pub(crate) fn take(&self) -> Driver<'_, T> {
        loop {
            let inside = lock(&self.inside);
            if self.claim() {
                return Driver {
                    seat: self,
                    inside,
                    seated: true,
                };
            }
            // The other one has claimed the seat and is about to lock.
            drop(inside);
            yield_now();
        }
    }

    /// Takes the seat if it is empty.
    pub(crate) fn try_take(&self) -> Option<Driver<'_, T>> {
        self.claim().then(|| Driver {
            seat: self,
            inside: lock(&self.inside),
            seated: true,
        })
    }

    /// Says that there is work, which must be visible already.
    pub(crate) fn nudge(&self) -> Nudge {
        match self.state.fetch_or(NUDGED, Ordering::AcqRel) {
            EMPTY => Nudge::CallKeeper,
            ASLEEP => Nudge::WakeDriver,
            _ => Nudge::Nothing,
        }
    }

    /// Whether nobody sits in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.load(Ordering::SeqCst) & !NUDGED == EMPTY
    }

    fn claim(&self) -> bool {
        let mut state = self.state.load(Ordering::Relaxed);
        while state & !NUDGED == EMPTY {
            let claimed = self.state.compare_exchange_weak(
                state,
                state | WORKING,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            match claimed {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }
}

impl<T> Driver<'_, T> {
    /// Sleeps in `poller`, unless work was left since the driver last looked: then it has to look
    /// first, and `None` is returned at once.
    pub(crate) fn sleep<R>(&mut self, poller: impl FnOnce(&mut T) -> R) -> Option<R> {
        let asleep =
            self.seat
                .state
                .compare_exchange(WORKING, ASLEEP, Ordering::AcqRel, Ordering::Acquire);
        asleep.is_ok().then(|| {
            let slept = poller(&mut self.inside);
            self.seat
                .state
                .fetch_xor(ASLEEP | WORKING, Ordering::AcqRel);
            slept
        })
    }

    /// The driver is about to look at all work that was left: what is left from now on is told anew.
    pub(crate) fn look(&mut self) {
        self.seat.state.fetch_and(!NUDGED, Ordering::AcqRel);
    }

    /// Whether work was left since the driver last looked.
    pub(crate) fn is_nudged(&self) -> bool {
        self.seat.state.load(Ordering::Relaxed) & NUDGED != 0
    }

    /// Leaves the seat. `true` says that work was left which this driver has not looked at: then it
    /// has to call the keeper.
    pub(crate) fn leave(mut self) -> bool {
        self.stand_up()
    }

    fn stand_up(&mut self) -> bool {
        self.seated = false;
        self.seat.state.fetch_and(NUDGED, Ordering::AcqRel) & NUDGED != 0
    }
}

impl<T> Drop for Driver<'_, T> {
    fn drop(&mut self) {
        if self.seated {
            self.stand_up();
        }
    }
}

impl<T> Deref for Driver<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inside
    }
}

impl<T> DerefMut for Driver<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inside
    }
}

impl<T> fmt::Debug for Seat<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.load(Ordering::Relaxed);
        let occupant = match state & !NUDGED {
            EMPTY => "empty",
            WORKING => "working",
            _ => "asleep",
        };
        f.debug_struct("Seat")
            .field("occupant", &occupant)
            .field("nudged", &(state & NUDGED != 0))
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_nudge_is_for_whoever_sits_there() {
        let seat = Seat::new(0);
        assert_eq!(seat.nudge(), Nudge::CallKeeper);
        assert_eq!(seat.nudge(), Nudge::Nothing, "the keeper is called once");
        let mut driver = seat.take();
        assert!(seat.try_take().is_none());
        assert_eq!(driver.sleep(|_| ()), None, "it must look before it sleeps");
        driver.look();
        assert_eq!(driver.sleep(|_| seat.nudge()), Some(Nudge::WakeDriver));
        assert_eq!(driver.sleep(|_| ()), None, "waking up is not looking");
        assert_eq!(seat.nudge(), Nudge::Nothing, "the driver is awake");
        driver.look();
        assert_eq!(driver.sleep(|_| ()), Some(()));
        assert!(!driver.leave());
        let driver = seat.take();
        seat.nudge();
        assert!(driver.leave(), "what it did not look at is told");
        assert!(seat.take().leave(), "and told again");
    }
}

#[cfg(all(test, loom))]
mod models {
    use std::sync::Arc;

    use loom::{sync::atomic::AtomicUsize, thread};

    use super::*;
    use crate::sync::models::{Bell, Kept};

    struct House {
        seat: Seat<usize>,
        /// Work left, and work that a driver looked at.
        left: AtomicUsize,
        /// The group's poller, and the keeper's.
        poller: Bell,
        keeper: Bell,
    }

    impl House {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                seat: Seat::new(0),
                left: AtomicUsize::new(0),
                poller: Bell::default(),
                keeper: Bell::default(),
            })
        }

        fn post(&self) {
            self.left.fetch_add(1, Ordering::AcqRel);
            match self.seat.nudge() {
                Nudge::Nothing => {}
                Nudge::WakeDriver => self.poller.ring(),
                Nudge::CallKeeper => self.keeper.ring(),
            }
        }

        /// Nudges before it leaves the work.
        fn post_too_late(&self) {
            match self.seat.nudge() {
                Nudge::Nothing => {}
                Nudge::WakeDriver => self.poller.ring(),
                Nudge::CallKeeper => self.keeper.ring(),
            }
            self.left.fetch_add(1, Ordering::AcqRel);
        }

        fn look(&self, driver: &mut Driver<'_, usize>) {
            driver.look();
            **driver += self.left.swap(0, Ordering::AcqRel);
        }

        fn sleep(&self, driver: &mut Driver<'_, usize>) {
            driver.sleep(|_| self.poller.wait());
        }

        /// Looks whether it was nudged, and then falls asleep.
        fn sleep_in_two_steps(&self, driver: &mut Driver<'_, usize>) {
            if !driver.is_nudged() {
                let state = &driver.seat.state;
                state.fetch_xor(WORKING | ASLEEP, Ordering::AcqRel);
                self.poller.wait();
                state.fetch_xor(ASLEEP | WORKING, Ordering::AcqRel);
            }
        }
    }

    /// A caller waits for two messages.
    fn waits(post: fn(&House), sleep: fn(&House, &mut Driver<'_, usize>)) {
        let house = House::new();
        let posters: Vec<_> = (0..2)
            .map(|_| {
                let house = Arc::clone(&house);
                thread::spawn(move || post(&house))
            })
            .collect();
        let mut driver = Kept::new(house.seat.take());
        loop {
            house.look(&mut driver);
            if **driver == 2 {
                break;
            }
            sleep(&house, &mut driver);
        }
        driver.into_inner().leave();
        for poster in posters {
            poster.join().expect("it posts");
        }
    }

    /// It is never left asleep: loom finds the deadlock otherwise.
    #[test]
    fn a_sleeping_driver_hears_of_all_work() {
        loom::model(|| waits(House::post, House::sleep));
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_driver_that_falls_asleep_in_two_steps_sleeps_over_work() {
        loom::model(|| waits(House::post, House::sleep_in_two_steps));
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn who_nudges_before_it_leaves_the_work_wakes_nobody_for_it() {
        loom::model(|| waits(House::post_too_late, House::sleep));
    }

    /// A caller drives once and leaves while others post: what it did not see, the keeper is called
    /// for, and what the keeper then does not see was seen by the caller.
    fn leaves(leave: fn(&House, Driver<'_, usize>)) {
        let house = House::new();
        let poster = {
            let house = Arc::clone(&house);
            thread::spawn(move || house.post())
        };
        let mut driver = house.seat.take();
        house.look(&mut driver);
        leave(&house, driver);
        poster.join().expect("it posts");
        if house.keeper.has_rung() {
            let mut keeper = house.seat.try_take().expect("nobody else drives");
            house.look(&mut keeper);
            keeper.leave();
        }
        assert_eq!(*house.seat.take(), 1, "somebody looked at the work");
    }

    #[test]
    fn work_left_at_an_empty_seat_calls_the_keeper() {
        loom::model(|| {
            leaves(|house, driver| {
                if driver.leave() {
                    house.keeper.ring();
                }
            });
        });
    }

    #[test]
    #[should_panic(expected = "somebody looked at the work")]
    fn a_driver_that_leaves_without_a_word_leaves_work_behind() {
        loom::model(|| leaves(|_, driver| drop(driver)));
    }

    /// A caller sleeps, is woken by its socket, and leaves with what that said: the work that was left
    /// at the same time is not forgotten.
    #[test]
    fn a_driver_woken_by_something_else_forgets_no_work() {
        loom::model(|| {
            let house = House::new();
            let poster = {
                let house = Arc::clone(&house);
                thread::spawn(move || house.post())
            };
            let socket = {
                let house = Arc::clone(&house);
                thread::spawn(move || house.poller.ring())
            };
            let mut driver = house.seat.take();
            house.look(&mut driver);
            driver.sleep(|_| house.poller.wait());
            if driver.leave() {
                house.keeper.ring();
            }
            poster.join().expect("it posts");
            socket.join().unwrap();
            if house.keeper.has_rung() {
                let mut keeper = house.seat.try_take().expect("nobody else drives");
                house.look(&mut keeper);
                keeper.leave();
            }
            assert_eq!(*house.seat.take(), 1, "somebody looked at the work");
        });
    }

    /// The caller and the keeper want the seat at the same time: never both have it, and neither
    /// waits for ever.
    #[test]
    fn two_drivers_take_turns() {
        loom::model(|| {
            let house = House::new();
            let keeper = {
                let house = Arc::clone(&house);
                thread::spawn(move || {
                    if let Some(mut driver) = house.seat.try_take() {
                        *driver += 1;
                        driver.leave();
                        1
                    } else {
                        0
                    }
                })
            };
            let mut driver = house.seat.take();
            *driver += 1;
            driver.leave();
            let turns = 1 + keeper.join().unwrap();
            assert_eq!(*house.seat.take(), turns);
        });
    }
}
