//! Locks and atomics of what is model-checked: those of `std`, and those of loom or shuttle where they run.
//!
//! Loom tries every way in which threads can take turns, and every value that a load may return, in small models
//! of what is built on this file. Shuttle runs whole engines, and tries some ways of very many. `.ci/models` has
//! them run.

use std::sync::PoisonError;

/// What loom has no models of, and shuttle runs.
pub(crate) mod unmodelled {
    #[cfg(all(shuttle, feature = "models"))]
    pub(crate) use shuttle::{
        sync::{Condvar, Mutex, MutexGuard},
        thread,
    };
    #[cfg(not(all(shuttle, feature = "models")))]
    pub(crate) use std::{
        sync::{Condvar, Mutex, MutexGuard},
        thread,
    };
}

#[cfg(all(loom, feature = "models"))]
pub(crate) use loom::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
    },
    thread::yield_now,
};
#[cfg(all(shuttle, feature = "models"))]
pub(crate) use shuttle::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
    },
    thread::yield_now,
};
#[cfg(not(all(any(loom, shuttle), feature = "models")))]
pub(crate) use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
    },
    thread::yield_now,
};

/// Locks, also what a thread held that panicked.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the models have in common.
#[cfg(all(test, loom))]
pub(crate) mod models {
    use std::{
        mem::ManuallyDrop,
        ops::{Deref, DerefMut},
    };

    use loom::sync::Condvar;

    use super::*;

    /// What a poller is, and whatever else a thread sleeps in: a flag that wakes, set or still to be set.
    #[derive(Debug, Default)]
    pub(crate) struct Bell {
        rung: Mutex<bool>,
        heard: Condvar,
    }

    impl Bell {
        pub(crate) fn ring(&self) {
            *lock(&self.rung) = true;
            self.heard.notify_one();
        }

        /// Sleeps until it rings. If it never does, loom says that all threads are asleep.
        pub(crate) fn wait(&self) {
            let mut rung = lock(&self.rung);
            while !*rung {
                rung = self
                    .heard
                    .wait(rung)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            *rung = false;
        }

        pub(crate) fn has_rung(&self) -> bool {
            std::mem::take(&mut *lock(&self.rung))
        }
    }

    /// Is dropped unless a model has failed: without loom no lock can be taken.
    pub(crate) struct Kept<T>(Option<T>);

    impl<T> Kept<T> {
        pub(crate) fn new(kept: T) -> Self {
            Self(Some(kept))
        }

        pub(crate) fn into_inner(mut self) -> T {
            self.0.take().expect("it is taken out only here")
        }
    }

    impl<T> Deref for Kept<T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().expect("it is taken out only at its end")
        }
    }

    impl<T> DerefMut for Kept<T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("it is taken out only at its end")
        }
    }

    impl<T> Drop for Kept<T> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let _ = ManuallyDrop::new(self.0.take());
            }
        }
    }

    /// Runs a model in every way in which its threads can take turns, as long as no more than so many times
    /// one is interrupted that could go on. `LOOM_MAX_PREEMPTIONS` sets another bound.
    pub(crate) fn model_bounded(interruptions: usize, model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound.get_or_insert(interruptions);
        builder.check(model);
    }
}
