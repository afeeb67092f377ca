//! Time, as the driver brings it.

use core::{ops::Add, time::Duration};

/// A point in time: nanoseconds since an origin that the driver chose.
///
/// The protocol reads no clock. Whoever drives it hands in the time, real or simulated.
///
/// ```
/// use core::time::Duration;
/// use tofu_proto::Instant;
///
/// let start = Instant::ORIGIN;
/// let later = start + Duration::from_secs(5);
/// assert_eq!(later.since(start), Duration::from_secs(5));
/// assert_eq!(start.since(later), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The driver's origin.
    pub const ORIGIN: Self = Self(0);

    /// That many nanoseconds after the origin.
    ///
    /// ```
    /// use tofu_proto::Instant;
    ///
    /// assert_eq!(Instant::from_nanos(0), Instant::ORIGIN);
    /// ```
    #[inline]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    ///
    /// ```
    /// use core::time::Duration;
    /// use tofu_proto::Instant;
    ///
    /// assert_eq!((Instant::ORIGIN + Duration::from_micros(1)).as_nanos(), 1_000);
    /// ```
    #[inline]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this instant; zero if it is not earlier.
    ///
    /// ```
    /// use core::time::Duration;
    /// use tofu_proto::Instant;
    ///
    /// let (earlier, later) = (Instant::from_nanos(1), Instant::from_nanos(3));
    /// assert_eq!(later.since(earlier), Duration::from_nanos(2));
    /// ```
    #[inline]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Later by that much; the sum stops at the end of time, some 584 years after the origin.
impl Add<Duration> for Instant {
    type Output = Self;

    #[inline]
    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}
