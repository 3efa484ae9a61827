//! The circuit breaker: decides whether a vendor that keeps failing is asked at all. Pure: the time is an argument.

use std::time::{Duration, Instant};

/// When a breaker opens and for how long.
#[derive(Clone, Copy, Debug)]
pub struct BreakerConfig {
    /// Failures in a row that open it. Five: one bad minute of a vendor shows up within a handful of calls, one unlucky call does not.
    pub failures: u32,
    /// How long it stays open before one call is let through as a probe.
    pub open_for: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        BreakerConfig { failures: 5, open_for: Duration::from_secs(30) }
    }
}

/// What a breaker lets through, for metrics and `/ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Every call.
    Closed,
    /// One call at a time, to see whether the vendor is back.
    HalfOpen,
    /// None.
    Open,
}

impl BreakerState {
    /// The value of the gauge: 0 closed, 1 half open, 2 open.
    pub const fn as_metric(self) -> u8 {
        match self {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        }
    }
}

/// The right to make one attempt. Hand it back with exactly one of [`Breaker::first_event`] (any number of times), then
/// [`Breaker::success`], [`Breaker::failure`] or [`Breaker::abandoned`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// How often the breaker had opened when the permit was given: what an attempt from before an opening reports afterwards says nothing new.
    epoch: u64,
    probe: bool,
}

/// Counts failures in a row; see [`BreakerConfig`].
///
/// A probe's *first event* closes the breaker again, because a whole answer may take minutes and everybody else would be refused
/// meanwhile. It closes on probation: until one answer ends well, a single failure opens it again.
#[derive(Debug)]
pub struct Breaker {
    config: BreakerConfig,
    epoch: u64,
    gate: Gate,
}

#[derive(Debug)]
enum Gate {
    Closed { failures: u32 },
    Open { until: Instant, probing: bool },
}

impl Breaker {
    /// A closed breaker.
    pub fn new(config: BreakerConfig) -> Self {
        Breaker { config, epoch: 0, gate: Gate::Closed { failures: 0 } }
    }

    /// Asks for an attempt.
    ///
    /// # Errors
    ///
    /// How long to wait, if none may be made now. Zero while a probe is under way: nobody knows when it ends.
    pub fn try_acquire(&mut self, now: Instant) -> Result<Permit, Duration> {
        match &mut self.gate {
            Gate::Closed { .. } => Ok(Permit { epoch: self.epoch, probe: false }),
            Gate::Open { until, probing } if now >= *until && !*probing => {
                *probing = true;
                Ok(Permit { epoch: self.epoch, probe: true })
            }
            Gate::Open { until, .. } => Err(until.saturating_duration_since(now)),
        }
    }

    /// The attempt yielded something. Only a probe's first event changes anything.
    pub fn first_event(&mut self, permit: Permit) {
        if permit.probe && self.is_current(permit) && matches!(self.gate, Gate::Open { .. }) {
            self.gate = Gate::Closed { failures: self.config.failures.saturating_sub(1) };
        }
    }

    /// The attempt ended as it should.
    pub fn success(&mut self, permit: Permit) {
        if self.is_current(permit) {
            self.gate = Gate::Closed { failures: 0 };
        }
    }

    /// The attempt failed and the vendor is to blame.
    pub fn failure(&mut self, permit: Permit, now: Instant) {
        if !self.is_current(permit) {
            return;
        }
        match &mut self.gate {
            Gate::Closed { failures } => {
                *failures += 1;
                if *failures >= self.config.failures {
                    self.open(now);
                }
            }
            Gate::Open { .. } => self.open(now),
        }
    }

    /// The attempt says nothing about the vendor: aborted by us, or refused for what it asked. A probe gives its place to the next call.
    pub fn abandoned(&mut self, permit: Permit) {
        if !permit.probe || !self.is_current(permit) {
            return;
        }
        if let Gate::Open { probing, .. } = &mut self.gate {
            *probing = false;
        }
    }

    /// What it lets through now.
    pub fn state(&self, now: Instant) -> BreakerState {
        match self.gate {
            Gate::Closed { .. } => BreakerState::Closed,
            Gate::Open { until, .. } if now >= until => BreakerState::HalfOpen,
            Gate::Open { .. } => BreakerState::Open,
        }
    }

    fn open(&mut self, now: Instant) {
        self.epoch += 1;
        self.gate = Gate::Open { until: now + self.config.open_for, probing: false };
    }

    const fn is_current(&self, permit: Permit) -> bool {
        permit.epoch == self.epoch
    }
}

#[cfg(test)]
mod tests {
    // Failing loudly is what a test is for.
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(30);

    fn opened_at(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(BreakerConfig { failures: 5, open_for: OPEN_FOR });
        for _ in 0..5 {
            let permit = breaker.try_acquire(now).unwrap();
            breaker.failure(permit, now);
        }
        breaker
    }

    #[test]
    fn opens_on_the_fifth_failure_in_a_row() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerConfig::default());
        for _ in 0..4 {
            let permit = breaker.try_acquire(now).unwrap();
            breaker.failure(permit, now);
        }
        let permit = breaker.try_acquire(now).unwrap();
        breaker.success(permit);
        for _ in 0..4 {
            let permit = breaker.try_acquire(now).unwrap();
            breaker.failure(permit, now);
            assert_eq!(breaker.state(now), BreakerState::Closed);
        }
        let permit = breaker.try_acquire(now).unwrap();
        breaker.failure(permit, now);
        assert_eq!(breaker.state(now), BreakerState::Open);
        assert_eq!(breaker.try_acquire(now + Duration::from_secs(10)), Err(Duration::from_secs(20)));
    }

    #[test]
    fn half_open_lets_exactly_one_through() {
        let now = Instant::now();
        let mut breaker = opened_at(now);
        let later = now + OPEN_FOR;
        assert_eq!(breaker.state(later), BreakerState::HalfOpen);
        let probe = breaker.try_acquire(later).unwrap();
        assert!(breaker.try_acquire(later).is_err());
        assert_eq!(breaker.state(later), BreakerState::HalfOpen);
        breaker.success(probe);
        assert_eq!(breaker.state(later), BreakerState::Closed);
    }

    #[test]
    fn a_failed_probe_opens_for_another_while() {
        let now = Instant::now();
        let mut breaker = opened_at(now);
        let later = now + OPEN_FOR;
        let probe = breaker.try_acquire(later).unwrap();
        breaker.failure(probe, later);
        assert_eq!(breaker.state(later), BreakerState::Open);
        assert_eq!(breaker.try_acquire(later), Err(OPEN_FOR));
    }

    #[test]
    fn an_abandoned_probe_frees_its_place() {
        let now = Instant::now();
        let mut breaker = opened_at(now);
        let later = now + OPEN_FOR;
        let probe = breaker.try_acquire(later).unwrap();
        breaker.abandoned(probe);
        assert_eq!(breaker.state(later), BreakerState::HalfOpen);
        assert!(breaker.try_acquire(later).is_ok());
    }

    #[test]
    fn a_probe_that_speaks_closes_on_probation() {
        let now = Instant::now();
        let mut breaker = opened_at(now);
        let later = now + OPEN_FOR;
        let probe = breaker.try_acquire(later).unwrap();
        breaker.first_event(probe);
        assert_eq!(breaker.state(later), BreakerState::Closed);
        let other = breaker.try_acquire(later).unwrap();
        breaker.failure(probe, later);
        assert_eq!(breaker.state(later), BreakerState::Open, "one failure on probation is enough");
        breaker.success(other);
        assert_eq!(breaker.state(later), BreakerState::Open, "what began before the opening cannot close it");
    }

    #[test]
    fn reports_from_before_an_opening_change_nothing() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerConfig::default());
        let old = breaker.try_acquire(now).unwrap();
        for _ in 0..5 {
            let permit = breaker.try_acquire(now).unwrap();
            breaker.failure(permit, now);
        }
        let later = now + Duration::from_secs(20);
        breaker.failure(old, later);
        assert_eq!(breaker.try_acquire(later), Err(Duration::from_secs(10)), "the opening is not prolonged");
        breaker.abandoned(old);
        breaker.success(old);
        assert_eq!(breaker.state(later), BreakerState::Open);
    }
}
