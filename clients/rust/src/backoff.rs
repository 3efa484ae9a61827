//! How long to wait before connecting again.

use std::time::Duration;

/// Full jitter below a bound that doubles: clients that were cut together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    attempts: u32,
}

impl Default for Backoff {
    /// From 0.5 s to 30 s, as the protocol asks.
    fn default() -> Self {
        Self::new(Duration::from_millis(500), Duration::from_secs(30))
    }
}

impl Backoff {
    /// The bound before the first attempt, and the largest it grows to.
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, attempts: 0 }
    }

    /// The hub said welcome: the next failure is a first one.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// How long to wait now.
    pub fn wait(&mut self) -> Duration {
        self.bound().mul_f64(random_fraction())
    }

    /// The bound of this attempt; counts it.
    fn bound(&mut self) -> Duration {
        let bound = self.first.saturating_mul(1 << self.attempts.min(20)).min(self.most);
        self.attempts = self.attempts.saturating_add(1);
        bound
    }
}

/// At least 0, less than 1. The ids need a source of random numbers anyway.
fn random_fraction() -> f64 {
    let bits = (uuid::Uuid::new_v4().as_u128() >> 96) as u32;
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_largest_and_starts_over() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(3));
        let bounds: Vec<u128> = (0..5).map(|_| backoff.bound().as_millis()).collect();
        assert_eq!(bounds, [500, 1000, 2000, 3000, 3000]);
        backoff.reset();
        assert_eq!(backoff.bound(), Duration::from_millis(500));
        for _ in 0..100 {
            assert!(backoff.wait() < Duration::from_secs(3));
        }
    }
}
