//! What a run can find: the promises that can be broken.

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// A promise that tofu makes, or that a simulated application asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Promise {
    /// A message arrives once, whole, and in the order posted.
    Delivery,
    /// What could not be sent comes back once, oldest first, complete, with a status; and nothing else does.
    Return,
    /// The last thing heard of a channel is exactly one `Closed`, for a reason that there was.
    Closing,
    /// What was received before a channel ended is delivered before it is told.
    HangUp,
    /// What may be posted is taken, and what may not comes back unchanged.
    Posting,
    /// Who was refused for want of room hears when there is some.
    Room,
    /// What else is told has happened, and is told once: where a listener listens, that the pool is empty, and what
    /// an application was notified of.
    Events,
    /// Memory, queues and channels stay within their bounds, and come back.
    Bounds,
    /// A number is not given out again while it rests.
    Quarantine,
    /// What can go on goes on, without anybody's help.
    Progress,
    /// Once nothing goes wrong any more, everything ends.
    End,
    /// A conversation that nothing broke ends well, with nothing lost.
    Grace,
    /// Nothing panics, neither tofu nor the application.
    NoPanic,
    /// What [`Group::fail`](crate::Group::fail) was called for.
    Application,
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which one.
    pub promise: Promise,
    /// How.
    pub how: String,
}

impl Broken {
    pub(crate) fn new(promise: Promise, how: impl Into<String>) -> Self {
        let how = how.into();
        Self { promise, how }
    }
}

/// Does something, after which nobody goes on if it panics. An error is what the panic said.
pub(crate) fn caught<T>(does: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(does)).map_err(|panic| said(panic.as_ref()))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("something that is no text").to_owned()
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.how)
    }
}

impl std::error::Error for Broken {}
