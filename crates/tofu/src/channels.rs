//! The engine's one registry of channels: which numbers are given out, and what is open there.
//!
//! A number belongs to one group from opening to closing, and is not given out again before 1,024
//! other channels were closed: an application that holds on to an old number does not reach a new
//! channel with it.
//!
//! A channel is found by its number alone, in a table of two levels that only ever grows, and each
//! place of it has a lock of its own. So a thread that posts takes one lock, that of the channel, and
//! shares no line of memory with those who post elsewhere. Nobody holds two of these locks at once, but
//! the driver: its listener's and that of the connection it accepts.

use std::{
    collections::VecDeque,
    fmt, mem,
    ops::{Deref, DerefMut},
    sync::OnceLock,
};

use tofu_proto::ChannelNumber;

use crate::{
    Peer,
    reactor::channel::Channel,
    sync::{Mutex, MutexGuard, lock},
};

/// Closings for which a number rests.
const QUARANTINE: usize = 1024;
/// Places of a page: as many as fill a page of memory.
const PAGE_LEN: usize = 64;
const PAGES: usize = (u16::MAX as usize + 1) / PAGE_LEN;

/// Names a group within its engine.
pub(crate) type GroupId = usize;

pub(crate) struct Channels {
    open_max: usize,
    book: Mutex<Book>,
    pages: Box<[OnceLock<Box<[Place]>>]>,
}

#[derive(Debug)]
struct Book {
    open: usize,
    /// Numbers from here on were never given out.
    fresh: u16,
    /// Numbers that were given back, oldest first.
    resting: VecDeque<ChannelNumber>,
}

/// Where the channel with one number is. Neighbours may be busy on other cores: each has a cache line to
/// itself.
#[derive(Default)]
#[repr(align(64))]
struct Place(Mutex<Slot>);

#[derive(Debug, Default)]
enum Slot {
    #[default]
    Empty,
    Open(Channel),
    /// Its channel is closed, and this was the peer. Its group may have events of it to read still, and ask
    /// whose they are: that is known until the number is given out again.
    Left(GroupId, Peer),
}

/// An open channel, locked.
#[derive(Debug)]
pub(crate) struct ChannelGuard<'a> {
    place: MutexGuard<'a, Slot>,
}

const OCCUPIED: &str = "a guard is made of a place that is occupied";

impl Channels {
    pub(crate) fn new(open_max: usize) -> Self {
        Self {
            open_max,
            book: Mutex::new(Book {
                open: 0,
                fresh: ChannelNumber::MIN.get(),
                resting: VecDeque::new(),
            }),
            pages: (0..PAGES).map(|_| OnceLock::new()).collect(),
        }
    }

    /// A number for a new channel; `None` if as many are open as may be.
    pub(crate) fn allocate(&self) -> Option<ChannelNumber> {
        let mut book = self.book();
        if book.open >= self.open_max {
            return None;
        }
        // Rested numbers before fresh ones, so that the table stays small.
        let number = if book.resting.len() > QUARANTINE {
            book.resting.pop_front()?
        } else if book.fresh <= ChannelNumber::MAX.get() {
            let number = ChannelNumber::new(book.fresh);
            book.fresh += 1;
            number
        } else {
            return None;
        };
        book.open += 1;
        Some(number)
    }

    /// Opens a channel at a number that was allocated for it.
    pub(crate) fn open(&self, number: ChannelNumber, channel: Channel) {
        let (page, place) = position(number);
        let page =
            self.pages[page].get_or_init(|| (0..PAGE_LEN).map(|_| Place::default()).collect());
        *page[place].lock() = Slot::Open(channel);
    }

    /// The channel with this number, if it is open.
    #[inline]
    pub(crate) fn lock(&self, number: ChannelNumber) -> Option<ChannelGuard<'_>> {
        let (page, place) = position(number);
        let place = self.pages[page].get()?[place].lock();
        matches!(*place, Slot::Open(_)).then_some(ChannelGuard { place })
    }

    /// Who is, or was, at the other end of a group's channel.
    pub(crate) fn peer(&self, number: ChannelNumber, group: GroupId) -> Option<Peer> {
        let (page, place) = position(number);
        let place = self.pages[page].get()?[place].lock();
        match &*place {
            Slot::Open(channel) if channel.group == group => channel.known_identity(),
            Slot::Left(of, peer) if *of == group => Some(*peer),
            Slot::Empty | Slot::Open(_) | Slot::Left(..) => None,
        }
    }

    /// Gives a number back, whose channel is closed (or was never opened): once for each time that it
    /// was allocated.
    pub(crate) fn release(&self, number: ChannelNumber) {
        let mut book = self.book();
        book.open -= 1;
        book.resting.push_back(number);
    }

    /// How many channels are open.
    pub(crate) fn count(&self) -> usize {
        self.book().open
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channels")
            .field("open", &self.count())
            .finish_non_exhaustive()
    }
}

impl Place {
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Slot> {
        lock(&self.0)
    }
}

impl ChannelGuard<'_> {
    /// Takes the channel out of the registry: nobody finds it any more.
    pub(crate) fn close(mut self) -> Channel {
        let Slot::Open(channel) = mem::take(&mut *self.place) else {
            unreachable!("{OCCUPIED}");
        };
        if let Some(peer) = channel.known_identity() {
            *self.place = Slot::Left(channel.group, peer);
        }
        channel
    }
}

impl Deref for ChannelGuard<'_> {
    type Target = Channel;

    #[inline]
    fn deref(&self) -> &Channel {
        match &*self.place {
            Slot::Open(channel) => channel,
            Slot::Empty | Slot::Left(..) => unreachable!("{OCCUPIED}"),
        }
    }
}

impl DerefMut for ChannelGuard<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Channel {
        match &mut *self.place {
            Slot::Open(channel) => channel,
            Slot::Empty | Slot::Left(..) => unreachable!("{OCCUPIED}"),
        }
    }
}

fn position(number: ChannelNumber) -> (usize, usize) {
    let number = usize::from(number.get());
    (number / PAGE_LEN, number % PAGE_LEN)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_number_rests_for_1024_closings() {
        let channels = Channels::new(10);
        let first = channels.allocate().unwrap();
        channels.release(first);
        for _ in 0..QUARANTINE {
            let other = channels.allocate().unwrap();
            assert_ne!(other, first);
            channels.release(other);
        }
        assert_eq!(channels.allocate(), Some(first));
    }

    #[test]
    fn all_numbers_can_be_open_at_once_and_all_come_back() {
        let channels = Channels::new(65_534);
        let all: Vec<_> = std::iter::from_fn(|| channels.allocate()).collect();
        assert_eq!(all.len(), 65_534);
        assert!(all.iter().all(|number| number.is_assigned()));
        for number in all {
            assert!(channels.lock(number).is_none(), "nothing was opened there");
            channels.release(number);
        }
        assert_eq!(channels.count(), 0);
        let again = std::iter::from_fn(|| channels.allocate()).count();
        assert_eq!(again, 65_534 - QUARANTINE, "the last ones closed rest");
    }

    /// Those who post to neighbours do not wait for each other.
    #[test]
    fn a_place_is_one_cache_line() {
        assert_eq!(size_of::<Place>(), 64);
    }

    #[test]
    fn open_channels_are_bounded() {
        let channels = Channels::new(2);
        let first = channels.allocate().unwrap();
        channels.allocate().unwrap();
        assert_eq!(channels.allocate(), None);
        channels.release(first);
        assert!(channels.allocate().is_some());
    }
}
