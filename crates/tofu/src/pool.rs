//! The engine's pool of messages: the bound on what has been received and not yet dropped.
//!
//! What is pooled is memory and the right to hold a message. A message that is being received or is
//! in the application's hands is *out*; one that waits in a send queue is not, and an idle
//! connection has none. Receiving never goes beyond the maximum: a group that finds the pool empty
//! stops reading and gets in line here; the first in line hears of the next message that comes back.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tofu_proto::{ChannelNumber, Home, Message, OpCode};

use crate::group::Group;

/// Bytes of memory that each of the initial messages starts with.
const INITIAL_CAPACITY: usize = 1024;

#[derive(Debug)]
pub(crate) struct Pool {
    messages_max: usize,
    out: AtomicUsize,
    memory: Mutex<Vec<Vec<u8>>>,
    line: Mutex<VecDeque<Weak<Group>>>,
    /// Whether the line is not empty, so that a message that comes back need not lock it.
    someone_waits: AtomicBool,
}

impl Pool {
    pub(crate) fn new(messages_initial: usize, messages_max: usize) -> Arc<Self> {
        let memory = (0..messages_initial)
            .map(|_| Vec::with_capacity(INITIAL_CAPACITY))
            .collect();
        Arc::new(Self {
            messages_max,
            out: AtomicUsize::new(0),
            memory: Mutex::new(memory),
            line: Mutex::default(),
            someone_waits: AtomicBool::new(false),
        })
    }

    /// A message from the pool, or one of its own making once all are out.
    pub(crate) fn message(self: &Arc<Self>) -> Message {
        self.try_message()
            .unwrap_or_else(|| Message::new(OpCode::Request, ChannelNumber::UNASSIGNED))
    }

    /// A message from the pool, unless all are out.
    pub(crate) fn try_message(self: &Arc<Self>) -> Option<Message> {
        self.out
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |out| {
                (out < self.messages_max).then_some(out + 1)
            })
            .ok()?;
        let memory = lock(&self.memory).pop().unwrap_or_default();
        Some(Message::from_home(
            memory,
            Arc::clone(self) as Arc<dyn Home>,
        ))
    }

    /// Whether all messages are out.
    pub(crate) fn is_empty(&self) -> bool {
        self.out.load(Ordering::SeqCst) >= self.messages_max
    }

    /// Messages that one group receives in one turn: some less than there are, so that the group of an
    /// application that keeps up never finds the pool empty.
    pub(crate) fn messages_per_turn(&self) -> usize {
        self.messages_max - self.messages_max / 8
    }

    /// Messages that are out.
    pub(crate) fn out(&self) -> usize {
        self.out.load(Ordering::Relaxed)
    }

    /// Puts `group` into the line of those that found the pool empty. It must look once more whether
    /// it still is, before it relies on being called.
    pub(crate) fn line_up(&self, group: Weak<Group>) {
        let mut line = lock(&self.line);
        if !line.iter().any(|waiting| waiting.ptr_eq(&group)) {
            line.push_back(group);
        }
        self.someone_waits.store(true, Ordering::SeqCst);
    }

    /// Takes `group` out of the line, for it will not answer a call any more, and calls the next.
    pub(crate) fn leave_line(&self, group: &Arc<Group>) {
        let mut line = lock(&self.line);
        line.retain(|waiting| !std::ptr::eq(waiting.as_ptr(), Arc::as_ptr(group)));
        self.someone_waits.store(!line.is_empty(), Ordering::SeqCst);
        drop(line);
        self.call_next();
    }

    /// Calls the first in line, if there is one and a message for it.
    pub(crate) fn call_next(&self) {
        if !self.someone_waits.load(Ordering::SeqCst) || self.is_empty() {
            return;
        }
        loop {
            let mut line = lock(&self.line);
            let next = line.pop_front();
            self.someone_waits.store(!line.is_empty(), Ordering::SeqCst);
            drop(line);
            match next.map(|group| group.upgrade()) {
                // A group that is gone: the next one.
                Some(None) => {}
                Some(Some(group)) => return group.nudge(),
                None => return,
            }
        }
    }
}

impl Home for Pool {
    fn take_back(&self, memory: Vec<u8>) {
        if memory.capacity() > 0 {
            let mut kept = lock(&self.memory);
            if kept.len() < self.messages_max {
                kept.push(memory);
            }
        }
        self.out.fetch_sub(1, Ordering::SeqCst);
        self.call_next();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receiving_stops_at_the_maximum_and_an_application_does_not() {
        let pool = Pool::new(1, 2);
        let first = pool.message();
        let second = pool.try_message().expect("the second of two");
        assert!(pool.is_empty());
        assert!(pool.try_message().is_none());
        let made = pool.message();
        drop(made);
        assert!(pool.is_empty(), "a made message is not the pool's");
        drop(first);
        assert!(pool.try_message().is_some());
        drop(second);
        assert_eq!(pool.out(), 0);
    }

    #[test]
    fn memory_comes_back_with_the_message() {
        let pool = Pool::new(0, 4);
        let message = pool.message().with_body([0; 5000]);
        drop(message);
        assert!(lock(&pool.memory)[0].capacity() >= 5000);
        let again = pool.message();
        assert!(lock(&pool.memory).is_empty());
        assert!(again.body().is_empty());
    }
}
