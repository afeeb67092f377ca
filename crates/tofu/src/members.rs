//! The channels of one group, and whether it still takes any.
//!
//! A group retires once. Whoever adds a channel, or leaves something for the driver to tell the application,
//! *joins* for that: it holds the members, and finds the group retired or keeps it from being so. Whoever
//! retires the group later finds what was added, and its order to close lies behind what was left.
//!
//! Who posts to a channel does not join: it has the channel's own lock, and the driver closes that channel
//! before or after. If it finds none, it asks once more whether the group was retired meanwhile, for then the
//! group may have closed it by itself.

use std::collections::BTreeSet;

use mio::Token;
use tofu_proto::{ChannelNumber, Refusal};

use crate::{
    channels::{ChannelGuard, Channels, GroupId},
    sync::{AtomicBool, Mutex, MutexGuard, Ordering, lock},
};

#[derive(Debug)]
pub(crate) struct Members {
    group: GroupId,
    tokens: Mutex<BTreeSet<Token>>,
    /// The group takes no more messages. Set with the tokens locked.
    retired: AtomicBool,
}

impl Members {
    pub(crate) fn new(group: GroupId) -> Self {
        Self {
            group,
            tokens: Mutex::default(),
            retired: AtomicBool::new(false),
        }
    }

    /// The group's channels, for one to be added: `None` if the group is retired. As long as they are
    /// held it is not, and whoever retires it later finds the new one.
    pub(crate) fn join(&self) -> Option<MutexGuard<'_, BTreeSet<Token>>> {
        let tokens = self.hold();
        (!self.is_retired()).then_some(tokens)
    }

    /// The group's channels, retired or not: for its driver.
    pub(crate) fn hold(&self) -> MutexGuard<'_, BTreeSet<Token>> {
        lock(&self.tokens)
    }

    pub(crate) fn all(&self) -> Vec<Token> {
        self.hold().iter().copied().collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.hold().len()
    }

    /// Nobody joins from now on.
    pub(crate) fn retire(&self) {
        let tokens = self.hold();
        self.retired.store(true, Ordering::Release);
        drop(tokens);
    }

    #[inline]
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// The group's channel that a message is posted to.
    #[inline]
    pub(crate) fn channel<'a>(
        &self,
        channels: &'a Channels,
        number: ChannelNumber,
    ) -> Result<ChannelGuard<'a>, Refusal> {
        if self.is_retired() {
            return Err(Refusal::ShutdownStarted);
        }
        match channels.lock(number) {
            Some(channel) if channel.group == self.group => Ok(channel),
            // The group may have been retired, and said bye by itself, since this began.
            _ if self.is_retired() => Err(Refusal::ShutdownStarted),
            Some(_) => Err(Refusal::InvalidChannelGroup(number)),
            None => Err(Refusal::InvalidChannelNumber(number)),
        }
    }
}

#[cfg(test)]
#[cfg(loom)]
mod models {
    use loom::{sync::Arc, thread};
    use tofu_proto::{Address, Message};

    use super::*;
    use crate::reactor::channel::{Channel, End, Listener};

    const NEW: Token = Token(2);

    /// Whoever adds a channel is found by whoever retires the group, or is told.
    fn joins_while_retiring(join: fn(&Members) -> bool) {
        let members = Arc::new(Members::new(0));
        let joining = {
            let members = Arc::clone(&members);
            thread::spawn(move || join(&members))
        };
        members.retire();
        let found = members.all();
        let joined = joining.join().unwrap();
        assert_eq!(joined, found == [NEW], "who joined is found");
        assert!(members.join().is_none());
    }

    #[test]
    fn who_joins_before_the_end_is_found_by_it() {
        loom::model(|| {
            joins_while_retiring(|members| {
                let joined = members.join();
                joined.is_some_and(|mut tokens| tokens.insert(NEW))
            });
        });
    }

    #[test]
    #[should_panic(expected = "who joined is found")]
    fn who_joins_without_holding_the_others_may_not_be_found() {
        loom::model(|| {
            joins_while_retiring(|members| !members.is_retired() && members.hold().insert(NEW));
        });
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Left {
        Notice,
        End,
    }

    /// What is left for the driver by someone who joined comes before the order to close.
    fn leaves_while_retiring(leave: fn(&Members, &Mutex<Vec<Left>>)) {
        let both = Arc::new((Members::new(0), Mutex::default()));
        let leaving = {
            let both = Arc::clone(&both);
            thread::spawn(move || leave(&both.0, &both.1))
        };
        let (members, left) = &*both;
        members.retire();
        lock(left).push(Left::End);
        leaving.join().unwrap();
        assert_eq!(lock(left).last(), Some(&Left::End), "nothing behind it");
    }

    #[test]
    fn what_is_left_by_who_joined_comes_before_the_end() {
        loom::model(|| {
            leaves_while_retiring(|members, left| {
                if let Some(joined) = members.join() {
                    lock(left).push(Left::Notice);
                    drop(joined);
                }
            });
        });
    }

    #[test]
    #[should_panic(expected = "nothing behind it")]
    fn what_is_left_by_who_has_left_may_come_behind_the_end() {
        loom::model(|| {
            leaves_while_retiring(|members, left| {
                if members.join().is_some() {
                    lock(left).push(Left::Notice);
                }
            });
        });
    }

    fn listener(group: GroupId, token: Token) -> Channel {
        let address: Address = "tcp://127.0.0.1:1".parse().unwrap();
        let welcome = Message::welcome_request(&address);
        Channel {
            group,
            token,
            identity: None,
            end: End::Listener(Box::new(Listener::new(welcome, address))),
        }
    }

    type Find =
        for<'a> fn(&Members, &'a Channels, ChannelNumber) -> Result<ChannelGuard<'a>, Refusal>;

    /// Who posts while the group ends by itself reaches the channel before it is closed, or hears of the end;
    /// never that there is no such channel.
    fn posts_while_retiring(find: Find) {
        let both = Arc::new((Members::new(0), Channels::new(1)));
        let (members, channels) = &*both;
        let number = channels.allocate().unwrap();
        channels.open(number, listener(0, NEW));
        let posting = {
            let both = Arc::clone(&both);
            thread::spawn(move || {
                find(&both.0, &both.1, number).map(|mut channel| {
                    // As if this were the message.
                    channel.token = Token(3);
                })
            })
        };
        members.retire();
        let closed = channels.lock(number).expect("it is open").close();
        channels.release(number);
        match posting.join().unwrap() {
            Ok(()) => assert_eq!(closed.token, Token(3)),
            Err(refusal) => assert_eq!(refusal, Refusal::ShutdownStarted, "refused"),
        }
        assert_eq!(channels.count(), 0);
    }

    #[test]
    fn who_posts_while_the_group_ends_reaches_the_channel_or_hears_of_the_end() {
        loom::model(|| posts_while_retiring(Members::channel));
    }

    #[test]
    #[should_panic(expected = "refused")]
    fn who_asks_only_once_whether_the_group_has_ended_hears_of_no_channel() {
        loom::model(|| {
            posts_while_retiring(|members, channels, number| {
                if members.is_retired() {
                    return Err(Refusal::ShutdownStarted);
                }
                let channel = channels.lock(number);
                channel.ok_or(Refusal::InvalidChannelNumber(number))
            });
        });
    }

    /// A number that was given back goes to another group while someone still posts to it: that one reaches
    /// nothing of the other's.
    fn posts_to_an_old_number(find: Find) {
        let both = Arc::new((Members::new(0), Channels::new(1)));
        let channels = &both.1;
        let number = channels.allocate().unwrap();
        channels.open(number, listener(0, NEW));
        let posting = {
            let both = Arc::clone(&both);
            thread::spawn(move || find(&both.0, &both.1, number).map_or(0, |channel| channel.group))
        };
        drop(channels.lock(number).expect("it is open").close());
        channels.open(number, listener(1, NEW));
        assert_eq!(posting.join().unwrap(), 0, "nothing of the other's");
    }

    #[test]
    fn an_old_number_reaches_no_channel_of_another_group() {
        loom::model(|| posts_to_an_old_number(Members::channel));
    }

    #[test]
    #[should_panic(expected = "nothing of the other's")]
    fn who_does_not_ask_whose_a_number_is_may_reach_another_group() {
        loom::model(|| {
            posts_to_an_old_number(|_, channels, number| {
                let channel = channels.lock(number);
                channel.ok_or(Refusal::InvalidChannelNumber(number))
            });
        });
    }
}
