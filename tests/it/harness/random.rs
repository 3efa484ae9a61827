//! Numbers that are the same for the same seed.

use std::time::{SystemTime, UNIX_EPOCH};

/// A small generator.
pub(crate) struct Random(u64);

impl Random {
    /// From `SEED`, if it is set, otherwise from the clock. The seed is printed, so that a failure can be had again.
    pub(crate) fn seeded() -> Self {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
        // Only the lowest bits of the clock differ anyway.
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(clock as u64);
        eprintln!("SEED={seed}");
        Self(seed)
    }

    /// One for somebody else.
    pub(crate) fn another(&mut self) -> Self {
        Self(self.next(u64::MAX))
    }

    /// The next number below a bound.
    pub(crate) fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }
}
