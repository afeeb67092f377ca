//! Numbers that only look random.

use std::time::Duration;

/// A sequence of numbers that its seed decides (splitmix64).
///
/// It is written here, and not taken from a library, because the meaning of a seed must outlive the
/// next version of a library: a seed that once failed stays a test.
///
/// ```
/// use tofu_sim::Random;
///
/// let (mut one, mut other) = (Random::new(3), Random::new(3));
/// assert_eq!(one.between(1, 6), other.between(1, 6));
/// assert_eq!(one.below(0), 0);
/// ```
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound` - 1; 0 if there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        let number = self.next_u64().checked_rem(bound as u64);
        number
            .and_then(|number| usize::try_from(number).ok())
            .unwrap_or(0)
    }

    /// A number from `min` to `max`, both included.
    pub fn between(&mut self, min: usize, max: usize) -> usize {
        min + self.below(max.saturating_sub(min) + 1)
    }

    /// True in that many cases of 100.
    pub fn percent(&mut self, cases: usize) -> bool {
        self.below(100) < cases
    }

    /// One of the choices.
    ///
    /// # Panics
    /// There is none.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A time up to `max`.
    pub fn duration(&mut self, max: Duration) -> Duration {
        let max = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX - 1);
        Duration::from_nanos(self.next_u64() % (max + 1))
    }
}
