//! The pool as loom sees it: whoever waits for a message hears of it, wherever that was meanwhile.
//!
//! A call that is lost leaves its group asleep for ever, and loom finds all threads asleep.

use loom::thread::{self, JoinHandle};

use super::*;
use crate::sync::models::{Bell, Kept, model_bounded};

/// A group, as far as the pool knows it.
#[derive(Debug)]
struct Group {
    pool: Arc<Pool>,
    /// What its driver sleeps in.
    poller: Bell,
}

impl Waits for Group {
    fn call(&self) {
        self.poller.ring();
    }
}

/// What a driver does not do, for the model to catch it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Omits {
    Nothing,
    /// It relies on being called as soon as it is in line.
    TheSecondLook,
    /// It keeps to itself that it needs no more.
    CallingTheNext,
}

impl Group {
    fn new(pool: &Arc<Pool>) -> Arc<Self> {
        Arc::new(Self {
            pool: Arc::clone(pool),
            poller: Bell::default(),
        })
    }

    /// As a driver whose channels starve: sleeps until there is a message, takes it, and sees to those
    /// behind it in the line.
    fn starve(self: &Arc<Self>, own: &Arc<Shelf>, omits: Omits) -> Kept<Message> {
        let mut stock = Stock::new(Arc::clone(own));
        let message = loop {
            if let Some(message) = stock.message(1) {
                break Kept::new(message);
            }
            self.pool.line_up(self);
            if omits == Omits::TheSecondLook || !stock.has_message() {
                self.poller.wait();
            }
        };
        stock.put_back();
        if omits != Omits::CallingTheNext {
            self.pool.call_next();
        }
        message
    }
}

fn shelf(pool: &Arc<Pool>) -> Kept<Arc<Shelf>> {
    Kept::new(Shelf::new(pool))
}

/// Has another thread do this with this shelf.
fn elsewhere<R: 'static>(
    shelf: &Arc<Shelf>,
    does: impl FnOnce(&Arc<Shelf>) -> R + 'static,
) -> JoinHandle<R> {
    let shelf = Kept::new(Arc::clone(shelf));
    thread::spawn(move || does(&shelf))
}

fn one_waits_for_one(omits: Omits) {
    let pool = Pool::new(0, 1);
    let (theirs, ours) = (shelf(&pool), shelf(&pool));
    let message = Kept::new(theirs.message());
    let returning = thread::spawn(move || drop(message));
    Group::new(&pool).starve(&ours, omits);
    returning.join().unwrap();
}

#[test]
fn a_message_that_comes_back_is_found_or_called() {
    loom::model(|| one_waits_for_one(Omits::Nothing));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_second_look_a_call_is_lost() {
    loom::model(|| one_waits_for_one(Omits::TheSecondLook));
}

/// Two groups wait, and both messages come back at once, with one call.
fn two_wait_for_two(omits: Omits) {
    let pool = Pool::new(0, 2);
    let (one, other) = (shelf(&pool), shelf(&pool));
    let messages = Kept::new([one.message(), one.message()]);
    let returning = elsewhere(&one, move |shelf| {
        shelf.drop_all(messages.into_inner().into_iter());
    });
    let group = Group::new(&pool);
    let waiting = elsewhere(&one, move |shelf| drop(group.starve(shelf, omits)));
    let ours = Group::new(&pool).starve(&other, omits);
    waiting.join().unwrap();
    returning.join().unwrap();
    drop(ours);
    assert_eq!(pool.out(), 0);
}

#[test]
fn who_is_called_and_leaves_something_calls_the_next() {
    model_bounded(3, || two_wait_for_two(Omits::Nothing));
}

#[test]
#[should_panic(expected = "deadlock")]
fn what_is_left_and_not_told_is_lost() {
    model_bounded(3, || two_wait_for_two(Omits::CallingTheNext));
}

/// The one that was called ends without having looked: its call is for the next.
#[test]
fn who_ends_in_line_takes_no_call_with_it() {
    model_bounded(3, || {
        let pool = Pool::new(0, 1);
        let (theirs, ours) = (shelf(&pool), shelf(&pool));
        let message = Kept::new(theirs.message());
        let ending = Group::new(&pool);
        pool.line_up(&ending);
        let returning = thread::spawn(move || drop(message));
        let ending = thread::spawn(move || ending.pool.leave_line(&ending));
        Group::new(&pool).starve(&ours, Omits::Nothing);
        returning.join().unwrap();
        ending.join().unwrap();
    });
}

/// One group waits for a message while another thread takes it from one place of the pool to another. What
/// that returns is out until the first one has been served.
fn one_waits_while<R: 'static>(
    messages: usize,
    on_a_shelf: bool,
    moves: impl FnOnce(&Arc<Shelf>) -> R + 'static,
) {
    let pool = Pool::new(0, messages);
    let (first, theirs, ours) = (shelf(&pool), shelf(&pool), shelf(&pool));
    if on_a_shelf {
        drop(first.message());
    }
    let moving = elsewhere(&theirs, moves);
    let ours = Group::new(&pool).starve(&ours, Omits::Nothing);
    drop((ours, moving.join().unwrap()));
    assert_eq!(pool.out(), 0);
}

/// Takes a message, and takes the other one along to its shelf.
fn refill(shelf: &Arc<Shelf>) -> Kept<Message> {
    Kept::new(shelf.message())
}

/// As [`refill`], but the other one is not told of.
fn refill_in_silence(shelf: &Arc<Shelf>) -> Kept<Message> {
    let mut reserve = lock(&shelf.pool.reserve);
    let (taken, spare) = (reserve.pop(), reserve.pop());
    drop(reserve);
    lock(&shelf.memory).extend(spare);
    Kept::new(taken.map_or_else(made, |memory| shelf.message_in(memory)))
}

/// Takes a message from wherever it is, and keeps it for the next one that comes, which does not.
fn receive_nothing(shelf: &Arc<Shelf>) {
    let mut stock = Stock::new(Arc::clone(shelf));
    if let Some(message) = stock.message(1) {
        stock.reuse([message]);
    }
    stock.put_back();
}

#[test]
fn a_message_on_its_way_from_the_reserve_to_a_shelf_is_told() {
    loom::model(|| one_waits_while(2, false, refill));
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_message_that_moves_in_silence_is_hidden() {
    loom::model(|| one_waits_while(2, false, refill_in_silence));
}

#[test]
fn a_message_on_its_way_from_shelf_to_shelf_is_told() {
    model_bounded(6, || one_waits_while(1, true, receive_nothing));
}

#[test]
fn a_message_on_the_shelf_of_a_group_that_ends_is_told() {
    loom::model(|| {
        let pool = Pool::new(0, 1);
        let (theirs, ours) = (shelf(&pool), shelf(&pool));
        drop(theirs.message());
        let ending = thread::spawn(move || drop(theirs));
        Group::new(&pool).starve(&ours, Omits::Nothing);
        ending.join().unwrap();
    });
}
