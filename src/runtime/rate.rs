//! Request rates: how often a user may ask, by category. Apart from quotas, which count what was done.

use std::{num::NonZeroU32, time::Duration};

use agent_hub_protocol::ErrorCode;
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DashMapStateStore,
};

use super::{refusal::Refusal, settings::RateSettings};

type Limiter = RateLimiter<String, DashMapStateStore<String>, DefaultClock, StateInformationMiddleware>;

/// What is being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateCategory {
    /// Creating a session.
    Session,
    /// Submitting or steering a task.
    Task,
    /// Reading a task's state.
    Poll,
}

/// What is left of a rate after a request; what the `RateLimit` headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateState {
    /// Which rate.
    pub category: RateCategory,
    /// Requests per window.
    pub limit: u32,
    /// Requests left now.
    pub remaining: u32,
    /// The window.
    pub window: Duration,
    /// Until the whole allowance is back.
    pub reset: Duration,
}

/// All rate limiters of a hub.
#[derive(Debug)]
pub struct Rates {
    limiters: Option<[(Limiter, u32, Duration); 3]>,
    clock: DefaultClock,
}

impl RateCategory {
    /// The name in `RateLimit-Policy`.
    pub const fn name(self) -> &'static str {
        match self {
            RateCategory::Session => "session",
            RateCategory::Task => "task",
            RateCategory::Poll => "poll",
        }
    }

    const fn refusal_text(self) -> &'static str {
        match self {
            RateCategory::Session => "Too many session creation requests. Try again in a minute.",
            RateCategory::Task => "Too many task submissions. Slow down.",
            RateCategory::Poll => "Polling too frequently. Use the retryAfter hint.",
        }
    }
}

impl Rates {
    /// `None` lifts every limit.
    pub fn new(settings: Option<RateSettings>) -> Self {
        let limiters = settings.map(|s| {
            let minute = Duration::from_secs(60);
            [
                limiter(s.sessions_per_minute, minute),
                s.tasks_per_hour.map_or_else(|| limiter(s.tasks_per_minute, minute), |tasks| limiter(tasks, 60 * minute)),
                limiter(s.polls_per_second, Duration::from_secs(1)),
            ]
        });
        Self { limiters, clock: DefaultClock::default() }
    }

    /// Counts one request of the user. `None` when the limits are lifted.
    ///
    /// # Errors
    /// `rate_limited` with the time to wait; the request is not counted.
    pub fn check(&self, category: RateCategory, user: &str) -> Result<Option<RateState>, Refusal> {
        let Some(limiters) = &self.limiters else { return Ok(None) };
        let (limiter, limit, window) = &limiters[category as usize];
        match limiter.check_key(&user.to_owned()) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                let reset = window.mul_f64(f64::from(limit - remaining.min(*limit)) / f64::from(*limit));
                Ok(Some(RateState { category, limit: *limit, remaining, window: *window, reset }))
            }
            Err(not_until) => {
                let wait = not_until.wait_time_from(self.clock.now());
                let refusal = Refusal::new(ErrorCode::RateLimited, category.refusal_text())
                    .retry_after(wait)
                    .detail("limit", *limit)
                    .detail("category", category.name())
                    .detail("windowMs", window.as_millis() as u64);
                Err(refusal)
            }
        }
    }

    /// Forgets users who have their whole allowance back. Called now and then.
    pub fn sweep(&self) {
        for (limiter, _, _) in self.limiters.iter().flatten() {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

fn limiter(per_window: u32, window: Duration) -> (Limiter, u32, Duration) {
    let burst = NonZeroU32::new(per_window).unwrap_or(NonZeroU32::MIN);
    // A window divided by a number that is not zero is a period; only a window of zero would make none.
    let quota = Quota::with_period(window / burst.get()).map_or_else(|| Quota::per_minute(burst), |q| q.allow_burst(burst));
    (RateLimiter::dashmap(quota).with_middleware(), burst.get(), window)
}
