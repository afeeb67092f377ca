//! The engine's pool of messages: the bound on what has been received and not yet dropped.
//!
//! What is pooled is memory and the right to hold a message, both as one thing: a piece of memory,
//! perhaps an empty one, that lies here until it is taken. A message that is being received or is in the
//! application's hands is *out*; one that waits in a send queue is not, and an idle connection has none.
//! Receiving never goes beyond the maximum: a group that finds the pool empty stops reading and gets in
//! [`line`] here; the first in line hears of the next message that comes back.
//!
//! Each group has a shelf of its own in the pool, and messages come back to the shelf from which they were
//! taken. So in steady state groups touch nothing in common, nor do the threads that post with those
//! that receive. Whoever finds its shelf empty takes from the reserve, and then from the other shelves.

mod line;
#[cfg(test)]
#[cfg(loom)]
mod models;

use std::sync::{Arc, PoisonError, Weak};

use tofu_proto::{Blank, ChannelNumber, Home, Message, OpCode};

use self::line::Line;
pub(crate) use self::line::Waits;
use crate::sync::{Mutex, lock};

/// Bytes of memory that each of the initial messages starts with.
const INITIAL_CAPACITY: usize = 1024;
/// Messages that a shelf takes from the reserve at once.
const REFILL: usize = 32;

#[derive(Debug)]
pub(crate) struct Pool {
    messages_max: usize,
    reserve: Mutex<Reserve>,
    shelves: Mutex<Vec<Weak<Shelf>>>,
    line: Line,
}

/// What is on no shelf yet, or no more.
#[derive(Debug)]
struct Reserve {
    memory: Vec<Blank>,
    /// Messages that have no memory yet.
    unmade: usize,
}

/// A group's own part of the pool. The memory of its messages comes back here.
#[derive(Debug)]
pub(crate) struct Shelf {
    pool: Arc<Pool>,
    memory: Mutex<Vec<Blank>>,
}

/// Messages that a driver has taken and not received into yet. They are out until they are put back.
#[derive(Debug)]
pub(crate) struct Stock {
    shelf: Arc<Shelf>,
    memory: Vec<Blank>,
    /// Messages that the application has read and given back whole.
    read: Vec<Message>,
}

impl Pool {
    pub(crate) fn new(messages_initial: usize, messages_max: usize) -> Arc<Self> {
        let memory: Vec<_> = (0..messages_initial)
            .map(|_| Blank::with_capacity(INITIAL_CAPACITY))
            .collect();
        Arc::new(Self {
            messages_max,
            reserve: Mutex::new(Reserve {
                unmade: messages_max - memory.len(),
                memory,
            }),
            shelves: Mutex::default(),
            line: Line::new(),
        })
    }

    /// Messages that one group receives in one turn: some less than there are, so that the group of an
    /// application that keeps up never finds the pool empty.
    pub(crate) fn messages_per_turn(&self) -> usize {
        self.messages_max - self.messages_max / 8
    }

    /// Messages that are out.
    pub(crate) fn out(&self) -> usize {
        let mut free = lock(&self.reserve).len();
        for shelf in self.shelves() {
            free += lock(&shelf.memory).len();
        }
        // Some may have moved from one place to another meanwhile.
        self.messages_max.saturating_sub(free)
    }

    /// Whether all messages are out.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.reserve).len() == 0
            && self
                .shelves()
                .iter()
                .all(|shelf| lock(&shelf.memory).is_empty())
    }

    fn shelves(&self) -> Vec<Arc<Shelf>> {
        lock(&self.shelves)
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// Puts `group` into the line of those that found the pool empty. It must look once more whether
    /// it still is, before it relies on being called.
    pub(crate) fn line_up<G: Waits + 'static>(&self, group: &Arc<G>) {
        self.line.line_up(group);
    }

    /// Takes `group` out of the line, for it will not answer a call any more, and calls the next.
    pub(crate) fn leave_line<G: Waits + 'static>(&self, group: &Arc<G>) {
        self.line.leave(group);
        self.call_next();
    }

    /// Calls the first in line, if there is one and a message for it.
    pub(crate) fn call_next(&self) {
        // Who waits for nothing is not called: another one was faster, or moves it, and will call.
        if self.line.someone_waits()
            && !self.is_empty()
            && let Some(first) = self.line.first()
        {
            first.call();
        }
    }
}

impl Reserve {
    fn len(&self) -> usize {
        self.memory.len() + self.unmade
    }

    fn pop(&mut self) -> Option<Blank> {
        self.memory.pop().or_else(|| {
            self.unmade = self.unmade.checked_sub(1)?;
            Some(Blank::default())
        })
    }
}

impl Shelf {
    pub(crate) fn new(pool: &Arc<Pool>) -> Arc<Self> {
        let shelf = Arc::new(Self {
            pool: Arc::clone(pool),
            memory: Mutex::default(),
        });
        let mut shelves = lock(&pool.shelves);
        shelves.retain(|shelf| shelf.strong_count() > 0);
        shelves.push(Arc::downgrade(&shelf));
        drop(shelves);
        shelf
    }

    /// A message from the pool, or one of its own making once all are out.
    pub(crate) fn message(self: &Arc<Self>) -> Message {
        self.try_message().unwrap_or_else(made)
    }

    /// A message from the pool, unless all are out.
    pub(crate) fn try_message(self: &Arc<Self>) -> Option<Message> {
        let memory = lock(&self.memory).pop();
        let memory = memory.or_else(|| {
            let mut found = Vec::new();
            self.fetch(1, &mut found);
            found.pop()
        });
        Some(self.message_in(memory?))
    }

    /// Drops messages, those of this shelf all at once.
    pub(crate) fn drop_all(&self, messages: impl Iterator<Item = Message>) {
        // Apart from the lock: what is not ours goes home meanwhile, and may look at all shelves.
        let ours: Vec<_> = messages
            .filter(|message| self.is_home_of(message))
            .map(Message::into_memory)
            .collect();
        self.take_back_all(ours.into_iter());
    }

    fn take_back_all(&self, memory: impl Iterator<Item = Blank>) {
        lock(&self.memory).extend(memory);
        self.pool.call_next();
    }

    fn is_home_of(&self, message: &Message) -> bool {
        message
            .home()
            .is_some_and(|home| std::ptr::addr_eq(home, self))
    }

    fn message_in(self: &Arc<Self>, memory: Blank) -> Message {
        Message::from_home(memory, Arc::clone(self) as Arc<dyn Home>)
    }

    /// Takes up to `count` messages from wherever there are any, and at least one if there is one.
    fn take(&self, count: usize, into: &mut Vec<Blank>) {
        let mut own = lock(&self.memory);
        let left = own.len().saturating_sub(count);
        into.extend(own.drain(left..));
        drop(own);
        if into.is_empty() {
            self.fetch(count, into);
        }
    }

    /// Takes from elsewhere than from this shelf.
    #[cold]
    fn fetch(&self, count: usize, into: &mut Vec<Blank>) {
        let mut reserve = lock(&self.pool.reserve);
        into.extend(std::iter::from_fn(|| reserve.pop()).take(count));
        let spare: Vec<_> = std::iter::from_fn(|| reserve.pop()).take(REFILL).collect();
        drop(reserve);
        if !spare.is_empty() {
            lock(&self.memory).extend(spare);
            // Who looked meanwhile has found them neither here nor there.
            self.pool.call_next();
        }
        if !into.is_empty() {
            return;
        }
        for shelf in self.pool.shelves() {
            let mut theirs = lock(&shelf.memory);
            // Not all: its group is likely to be back for more.
            let half = theirs.len().div_ceil(2).min(count);
            let left = theirs.len() - half;
            into.extend(theirs.drain(left..));
            if !into.is_empty() {
                return;
            }
        }
    }
}

/// Nobody receives from it any more, and its last message has come back.
impl Drop for Shelf {
    fn drop(&mut self) {
        let memory = self
            .memory
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        lock(&self.pool.reserve).memory.append(memory);
        self.pool.call_next();
    }
}

impl Home for Shelf {
    fn take_back(&self, memory: Blank) {
        lock(&self.memory).push(memory);
        self.pool.call_next();
    }
}

impl Stock {
    pub(crate) fn new(shelf: Arc<Shelf>) -> Self {
        Self {
            shelf,
            memory: Vec::new(),
            read: Vec::new(),
        }
    }

    /// The next message to receive into, if the pool has one. `burst` are as many as are likely to be
    /// wanted.
    #[inline]
    pub(crate) fn message(&mut self, burst: usize) -> Option<Message> {
        if let Some(message) = self.read.pop() {
            return Some(message);
        }
        if self.memory.is_empty() {
            self.shelf.take(burst, &mut self.memory);
        }
        let memory = self.memory.pop()?;
        Some(self.shelf.message_in(memory))
    }

    /// Whether there is a message to receive into, as long as no other group takes it.
    pub(crate) fn has_message(&self) -> bool {
        !self.read.is_empty()
            || !self.memory.is_empty()
            || !lock(&self.shelf.memory).is_empty()
            || !self.shelf.pool.is_empty()
    }

    /// Keeps messages that the application is done with for the next ones that come.
    pub(crate) fn reuse(&mut self, messages: impl IntoIterator<Item = Message>) {
        // Else another group is to have them.
        let is_free = !self.shelf.pool.line.someone_waits();
        for message in messages {
            if is_free && self.shelf.is_home_of(&message) {
                self.read.push(message);
            }
        }
    }

    /// Puts back what was not used.
    pub(crate) fn put_back(&mut self) {
        if self.memory.is_empty() && self.read.is_empty() {
            return;
        }
        let read = self.read.drain(..).map(Message::into_memory);
        let unused = self.memory.drain(..).chain(read);
        self.shelf.take_back_all(unused);
    }
}

/// A message that is none of the pool's.
pub(crate) fn made() -> Message {
    Message::new(OpCode::Request, ChannelNumber::UNASSIGNED, 0)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Waiting;

    impl Waits for Waiting {
        fn call(&self) {}
    }

    #[test]
    fn receiving_stops_at_the_maximum_and_an_application_does_not() {
        let pool = Pool::new(1, 2);
        let shelf = Shelf::new(&pool);
        let first = shelf.message();
        let second = shelf.try_message().expect("the second of two");
        assert!(pool.is_empty());
        assert!(shelf.try_message().is_none());
        let made = shelf.message();
        drop(made);
        assert!(pool.is_empty(), "a made message is not the pool's");
        drop(first);
        assert!(shelf.try_message().is_some());
        drop(second);
        assert_eq!(pool.out(), 0);
    }

    #[test]
    fn memory_comes_back_with_the_message() {
        let pool = Pool::new(0, 1);
        let shelf = Shelf::new(&pool);
        let message = shelf.message().with_body([0; 5000]);
        drop(message);
        assert!(lock(&shelf.memory)[0].capacity() >= 5000);
        let again = shelf.message();
        assert!(lock(&shelf.memory).is_empty());
        assert!(again.body().is_empty());
    }

    #[test]
    fn no_message_is_hidden_on_the_shelf_of_another_group() {
        let pool = Pool::new(0, 100);
        let (one, other) = (Shelf::new(&pool), Shelf::new(&pool));
        let theirs: Vec<_> = (0..100)
            .map(|_| one.try_message().expect("one of 100"))
            .collect();
        assert!(other.try_message().is_none());
        drop(theirs);
        let ours: Vec<_> = std::iter::from_fn(|| other.try_message()).collect();
        assert_eq!(ours.len(), 100);
        assert!(pool.is_empty() && one.try_message().is_none());
        drop(ours);
        assert_eq!(pool.out(), 0);
        drop((one, other));
        assert_eq!(pool.out(), 0, "what was on a shelf is in the reserve again");
    }

    #[test]
    fn what_a_driver_did_not_use_is_not_out() {
        let pool = Pool::new(0, 10);
        let mut stock = Stock::new(Shelf::new(&pool));
        let message = stock.message(8).expect("one of ten");
        assert!(pool.out() > 1);
        stock.put_back();
        assert_eq!(pool.out(), 1);
        stock.reuse([message]);
        assert_eq!(pool.out(), 1, "it waits to be used again");
        assert!(stock.has_message());
        stock.put_back();
        assert_eq!(pool.out(), 0);
    }

    #[test]
    fn a_message_of_another_pool_is_not_reused() {
        let pool = Pool::new(0, 10);
        let other = Pool::new(0, 10);
        let mut stock = Stock::new(Shelf::new(&pool));
        stock.reuse([Shelf::new(&other).message()]);
        stock.reuse([made()]);
        assert!(stock.read.is_empty());
        assert_eq!(other.out(), 0);
    }

    #[test]
    fn what_was_read_is_not_kept_while_another_group_waits() {
        let pool = Pool::new(0, 1);
        let mut stock = Stock::new(Shelf::new(&pool));
        let message = stock.message(1).expect("the only one");
        pool.line_up(&Arc::new(Waiting));
        stock.reuse([message]);
        assert_eq!(pool.out(), 0);
    }

    /// Between the reserve and a shelf they are neither here nor there for one who looks.
    #[test]
    fn who_gets_in_line_while_messages_move_to_a_shelf_is_called() {
        let pool = Pool::new(0, 2);
        let shelf = Shelf::new(&pool);
        pool.line_up(&Arc::new(Waiting));
        let _taken = shelf.try_message().expect("the first of two");
        assert!(!pool.is_empty(), "the second one lies on the shelf");
        assert!(!pool.line.someone_waits());
    }
}
