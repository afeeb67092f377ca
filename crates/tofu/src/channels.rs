//! The engine's one registry of channel numbers.
//!
//! A number belongs to one group from opening to closing, and is not given out again before 1,024
//! other channels were closed: an application that holds on to an old number does not reach a new
//! channel with it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tofu_proto::ChannelNumber;

/// Closings for which a number rests.
const QUARANTINE: usize = 1024;

/// Names a group within its engine.
pub(crate) type GroupId = usize;

#[derive(Debug)]
pub(crate) struct Numbers {
    open_max: usize,
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    owners: HashMap<ChannelNumber, GroupId>,
    /// Numbers from here on were never given out.
    fresh: u16,
    /// Numbers that were given back, oldest first.
    resting: VecDeque<ChannelNumber>,
}

impl Numbers {
    pub(crate) fn new(open_max: usize) -> Self {
        Self {
            open_max,
            book: Mutex::new(Book {
                owners: HashMap::new(),
                fresh: ChannelNumber::MIN.get(),
                resting: VecDeque::new(),
            }),
        }
    }

    /// A number for a new channel of `group`; `None` if as many are open as may be.
    pub(crate) fn allocate(&self, group: GroupId) -> Option<ChannelNumber> {
        let mut book = self.book();
        if book.owners.len() >= self.open_max {
            return None;
        }
        // Rested numbers before fresh ones, so that the tables stay small.
        let number = if book.resting.len() > QUARANTINE {
            book.resting.pop_front()?
        } else if book.fresh <= ChannelNumber::MAX.get() {
            let number = ChannelNumber::new(book.fresh);
            book.fresh += 1;
            number
        } else {
            return None;
        };
        book.owners.insert(number, group);
        Some(number)
    }

    /// Gives the number of a closed channel back.
    pub(crate) fn release(&self, number: ChannelNumber) {
        let mut book = self.book();
        if book.owners.remove(&number).is_some() {
            book.resting.push_back(number);
        }
    }

    /// The group to which an open channel belongs.
    pub(crate) fn owner(&self, number: ChannelNumber) -> Option<GroupId> {
        self.book().owners.get(&number).copied()
    }

    /// How many channels are open.
    pub(crate) fn open(&self) -> usize {
        self.book().owners.len()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_rests_for_1024_closings() {
        let numbers = Numbers::new(10);
        let first = numbers.allocate(0).unwrap();
        numbers.release(first);
        for _ in 0..QUARANTINE {
            let other = numbers.allocate(0).unwrap();
            assert_ne!(other, first);
            numbers.release(other);
        }
        assert_eq!(numbers.allocate(0), Some(first));
    }

    #[test]
    fn all_numbers_can_be_open_at_once_and_all_come_back() {
        let numbers = Numbers::new(65_534);
        let all: Vec<_> = std::iter::from_fn(|| numbers.allocate(3)).collect();
        assert_eq!(all.len(), 65_534);
        assert!(all.iter().all(|number| number.is_assigned()));
        assert_eq!(numbers.owner(all[7]), Some(3));
        for number in all {
            numbers.release(number);
            numbers.release(number);
        }
        assert_eq!(numbers.open(), 0);
        let again = std::iter::from_fn(|| numbers.allocate(0)).count();
        assert_eq!(again, 65_534 - QUARANTINE, "the last ones closed rest");
    }

    #[test]
    fn open_channels_are_bounded() {
        let numbers = Numbers::new(2);
        let first = numbers.allocate(0).unwrap();
        numbers.allocate(0).unwrap();
        assert_eq!(numbers.allocate(0), None);
        numbers.release(first);
        assert!(numbers.allocate(0).is_some());
    }
}
