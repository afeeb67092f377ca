//! The kinds of hostile peers.

use std::{fmt, str::FromStr};

/// What a hostile peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    SlowHello,
    SlowFrame,
    Announcer,
    Garbage,
    Knocker,
    Deaf,
    Flooder,
    Bomber,
    Churner,
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::SlowHello,
        Self::SlowFrame,
        Self::Announcer,
        Self::Garbage,
        Self::Knocker,
        Self::Deaf,
        Self::Flooder,
        Self::Bomber,
        Self::Churner,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::SlowHello => "slow-hello",
            Self::SlowFrame => "slow-frame",
            Self::Announcer => "announcer",
            Self::Garbage => "garbage",
            Self::Knocker => "knocker",
            Self::Deaf => "deaf",
            Self::Flooder => "flooder",
            Self::Bomber => "bomber",
            Self::Churner => "churner",
        }
    }

    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::SlowHello => "a hello, a byte every 5 s",
            Self::SlowFrame => "a hello, 1,000 bytes of a frame, then a byte every 5 s",
            Self::Announcer => "a hello, then a header that announces 131,070 bytes, and nothing",
            Self::Garbage => "200 bytes of noise, again and again",
            Self::Knocker => "a TLS ClientHello or an HTTP request",
            Self::Deaf => "asks for 60 KB answers and never reads",
            Self::Flooder => "1 KB signals as fast as the socket takes them",
            Self::Bomber => "requests with 13,107 text headers each",
            Self::Churner => "connects, says half a hello, resets, twice a second",
        }
    }

    /// Its part of this many peers.
    pub(crate) fn share(self, peers: usize) -> usize {
        let per_10_000 = match self {
            Self::SlowHello => 1_900,
            Self::SlowFrame | Self::Announcer => 3_200,
            Self::Garbage => 190,
            Self::Knocker => 100,
            Self::Deaf | Self::Bomber => 500,
            Self::Flooder => 10,
            Self::Churner => 400,
        };
        (peers * per_10_000).div_ceil(10_000)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kind = Self::ALL.into_iter().find(|kind| kind.name() == text);
        kind.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("`{text}` is none of: {names}")
        })
    }
}
