//! What a group hears that is of no channel: that the pool is empty, and what it was notified of.
//!
//! An empty pool is told once, and again only after a message has come back. That happens while an application is
//! at work, or while bytes leave from a message's own memory; and only a driver reads on and finds the pool empty once
//! more. So each time that somebody drives and the pool is not empty, or becomes so while it is driven, it may be told
//! once; and whoever has heard all that there was cannot have more than one of these left.

use std::{collections::VecDeque, time::Duration};

use tofu::Message;

use super::{Checked, Ledger, Standing, check};
use crate::Promise;

/// How a group stands, and what it is to hear.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) host: usize,
    pub(super) standing: Standing,
    /// What it was notified of and has not heard, and since when.
    notified: VecDeque<(Duration, Option<Message>)>,
    /// It has heard all that there was when it last asked.
    pub(super) has_heard_all: bool,
    /// How often it may hear that the pool is empty.
    may_be_empty: usize,
}

impl Account {
    /// It has asked for the next event, and there was one or not.
    pub(super) fn finds(&mut self, event: bool) {
        self.has_heard_all = !event;
        if !event {
            self.may_be_empty = self.may_be_empty.min(1);
        }
    }

    /// Whether it has heard all that there was, and since when there is a notification nevertheless.
    pub(super) fn misses_since(&self) -> Option<Duration> {
        let (since, _) = self.notified.front()?;
        (self.has_heard_all && self.standing == Standing::Serves).then_some(*since)
    }
}

/// What applications and drivers do.
impl Ledger {
    pub(crate) fn add_group(&mut self, host: usize) {
        self.groups.push(Account {
            host,
            standing: Standing::Serves,
            notified: VecDeque::new(),
            has_heard_all: false,
            may_be_empty: 0,
        });
    }

    pub(crate) fn stands(&mut self, group: usize, standing: Standing) {
        self.groups[group].standing = standing;
    }

    /// All groups of this host are gone, crashed.
    pub(crate) fn is_gone(&mut self, groups: impl Iterator<Item = usize>) {
        for group in groups {
            self.groups[group].standing = Standing::Gone;
        }
    }

    /// A group of this host may be driven now, while its pool has messages or not.
    pub(crate) fn drives(&mut self, host: usize, has_messages: bool) {
        // What waits for a group that leaves comes back while it is driven.
        if has_messages || self.leaves(host) {
            self.messages_come_back(host, 1);
        }
    }

    /// Whether a group of this host leaves, or has left.
    pub(super) fn leaves(&self, host: usize) -> bool {
        let leaves = |group: &Account| group.host == host && group.standing != Standing::Serves;
        self.groups.iter().any(leaves)
    }

    /// On this host messages came back to the pool, so many times at most.
    fn messages_come_back(&mut self, host: usize, times: usize) {
        let its = self.groups.iter_mut().filter(|group| group.host == host);
        for group in its {
            group.may_be_empty += times;
        }
    }

    /// A group of this host was driven, and wrote so many times. What leaves from a message of the pool gives it back.
    pub(crate) fn has_driven(&mut self, host: usize, writes: usize) {
        self.messages_come_back(host, writes);
    }

    pub(crate) fn notifies(&mut self, group: usize, message: Option<Message>, now: Duration) {
        self.groups[group].notified.push_back((now, message));
    }

    /// An application has asked for the next event, and there is none.
    pub(crate) fn found_nothing(&mut self, group: usize) {
        self.groups[group].finds(false);
    }
}

/// What applications hear.
impl Ledger {
    pub(super) fn pool_is_empty(&mut self, group: usize) -> Checked {
        self.pool_empty += 1;
        let account = &mut self.groups[group];
        let may = account.may_be_empty;
        account.may_be_empty = may.saturating_sub(1);
        check(may > 0, Promise::Events, || {
            format!(
                "group {group} of host {} hears again that the pool is empty, and no message had come back",
                account.host
            )
        })
    }

    pub(super) fn is_notified(&mut self, group: usize, message: Option<&Message>) -> Checked {
        let expected = self.groups[group].notified.pop_front();
        let expected = expected.as_ref().map(|(_, message)| message.as_ref());
        check(expected == Some(message), Promise::Events, || {
            format!("group {group} is notified of {message:?}, where it had to be {expected:?}")
        })
    }
}
