//! One of something for each side.

use std::ops::{Index, IndexMut};

use tofu_proto::Side;

/// One of something for each side of a connection.
///
/// ```
/// use tofu_proto::Side;
/// use tofu_sim::pair::Both;
///
/// let mut wishes = Both::of(|side| format!("{side:?} wants"));
/// wishes[Side::Server].push_str(" peace");
/// assert_eq!(wishes.client, "Client wants");
/// assert_eq!(wishes.server, "Server wants peace");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Both<T> {
    /// The client's.
    pub client: T,
    /// The server's.
    pub server: T,
}

impl<T> Both<T> {
    /// What `make` makes for each side, the client first.
    pub fn of(mut make: impl FnMut(Side) -> T) -> Self {
        Self {
            client: make(Side::Client),
            server: make(Side::Server),
        }
    }
}

impl<T> Index<Side> for Both<T> {
    type Output = T;

    fn index(&self, side: Side) -> &T {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }
}

impl<T> IndexMut<Side> for Both<T> {
    fn index_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }
}

/// Both sides.
pub(crate) const SIDES: [Side; 2] = [Side::Client, Side::Server];

/// The side at the other end.
pub(crate) const fn other(side: Side) -> Side {
    match side {
        Side::Client => Side::Server,
        Side::Server => Side::Client,
    }
}
