//! The line of those who found the pool empty, and how they are called.
//!
//! ```text
//!            finds none             finds none again
//!   Looking ------------> In line -------------------> Waiting
//!    ^    ^                  |                            |
//!    |    +------------------+ finds one                  | is called: out of the line
//!    +----------------------------------------------------+
//! ```
//!
//! Two rules make it impossible to lose a call:
//!
//! - Whoever finds nothing gets in line *first*, and then looks once more.
//! - Whoever puts a message anywhere puts it there *first*, and then calls. That holds for one that comes
//!   back, and for one that only moves from one place of the pool to another: meanwhile it could be found in
//!   neither.
//!
//! Each place has a lock. If the last look at a place did not find what was put there, it came before, and
//! so did getting in line: who put it there sees that someone waits. So that can be a flag, without an order
//! or a lock of its own: a message comes back far more often than somebody waits for it.
//!
//! A call is for one message at least, and takes the first out of the line. Somebody else may have been
//! faster, then it gets in line again. One that leaves something, or is gone, sees to it that the next one
//! is called.

use std::{
    collections::VecDeque,
    fmt, ptr,
    sync::{Arc, Weak},
};

use crate::sync::{AtomicBool, Mutex, Ordering, lock};

/// Who can wait for a message.
pub(crate) trait Waits: fmt::Debug + Send + Sync {
    /// There is a message: it has to look.
    fn call(&self);
}

#[derive(Debug)]
pub(super) struct Line {
    waiting: Mutex<VecDeque<Weak<dyn Waits>>>,
    /// Whether there are any. Changes with them locked.
    someone_waits: AtomicBool,
}

impl Line {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::new(VecDeque::new()),
            someone_waits: AtomicBool::new(false),
        }
    }

    /// Whether anybody is in line.
    pub(super) fn someone_waits(&self) -> bool {
        self.someone_waits.load(Ordering::Relaxed)
    }

    /// The last in line, unless it is in line already.
    pub(super) fn line_up<W: Waits + 'static>(&self, last: &Arc<W>) {
        let last: Weak<dyn Waits> = Arc::<W>::downgrade(last);
        let mut waiting = lock(&self.waiting);
        if !waiting.iter().any(|other| other.ptr_eq(&last)) {
            waiting.push_back(last);
        }
        self.someone_waits.store(true, Ordering::Relaxed);
    }

    /// Takes it out of the line.
    pub(super) fn leave<W: Waits + 'static>(&self, leaving: &Arc<W>) {
        let mut waiting = lock(&self.waiting);
        waiting.retain(|other| !ptr::addr_eq(other.as_ptr(), Arc::as_ptr(leaving)));
        self.someone_waits
            .store(!waiting.is_empty(), Ordering::Relaxed);
    }

    /// Takes the first out of the line, passing over those that are gone.
    pub(super) fn first(&self) -> Option<Arc<dyn Waits>> {
        let mut waiting = lock(&self.waiting);
        let first = loop {
            match waiting.pop_front().map(|first| first.upgrade()) {
                Some(None) => {}
                Some(first) => break first,
                None => break None,
            }
        };
        self.someone_waits
            .store(!waiting.is_empty(), Ordering::Relaxed);
        first
    }
}
