//! Retries and a circuit breaker around any provider.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::Stream;
use tokio::time::{Instant, Sleep, sleep};

use super::{
    ModelEvent, ModelProvider, ModelRequest, ModelStream, ProviderError, ProviderErrorKind, SharedProvider,
    breaker::{Breaker, BreakerConfig, BreakerState, Permit},
};

/// How stubborn a [`Resilient`] provider is.
#[derive(Clone, Copy, Debug)]
pub struct ResilientConfig {
    /// Attempts per call, the first included. Three: a blip passes, an outage is reported while somebody still waits for it.
    pub max_attempts: u32,
    /// The first pause between attempts; later ones double. Jitter adds up to as much again, so that callers do not come back together.
    pub min_backoff: Duration,
    /// The longest pause before jitter.
    pub max_backoff: Duration,
    /// The longest `retry-after` waited for inside a call. A vendor that asks for more gets no retry; the caller sees its wish.
    pub max_retry_after: Duration,
    /// When to stop asking the vendor.
    pub breaker: BreakerConfig,
}

impl Default for ResilientConfig {
    fn default() -> Self {
        ResilientConfig {
            max_attempts: 3,
            min_backoff: Duration::from_millis(250),
            max_backoff: Duration::from_secs(4),
            max_retry_after: Duration::from_secs(20),
            breaker: BreakerConfig::default(),
        }
    }
}

/// A provider that tries again and knows when to leave its vendor alone.
///
/// A call is repeated only while its stream has yielded nothing: what the caller has seen cannot be taken back. A dropped stream
/// counts as neither success nor failure. Every attempt counts for the breaker, so five calls are not needed to notice an outage.
pub struct Resilient {
    inner: SharedProvider,
    config: ResilientConfig,
    shared: Arc<Shared>,
}

struct Shared {
    breaker: Mutex<Breaker>,
    retries: AtomicU64,
}

impl Shared {
    /// A panic while it was held cannot leave a breaker half changed, so a poisoned lock is as good as any.
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resilient {
    /// Wraps a provider. Calls made through the same wrapper share its breaker.
    pub fn new(inner: SharedProvider, config: ResilientConfig) -> Self {
        let shared = Shared { breaker: Mutex::new(Breaker::new(config.breaker)), retries: AtomicU64::new(0) };
        Resilient { inner, config, shared: Arc::new(shared) }
    }

    /// What the breaker lets through now.
    pub fn breaker_state(&self) -> BreakerState {
        self.shared.breaker().state(now())
    }

    /// Attempts made after a failed one, since the start.
    pub fn retries(&self) -> u64 {
        self.shared.retries.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Resilient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resilient").field("inner", &self.inner).field("breaker", &self.breaker_state()).finish_non_exhaustive()
    }
}

impl ModelProvider for Resilient {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn default_model(&self) -> &str {
        self.inner.default_model()
    }

    fn call(&self, request: ModelRequest) -> ModelStream {
        Box::pin(Attempts {
            inner: self.inner.clone(),
            shared: self.shared.clone(),
            attempts_left: request.attempts.unwrap_or(self.config.max_attempts).max(1),
            request: Some(request),
            max_retry_after: self.config.max_retry_after,
            backoff: ExponentialBuilder::default()
                .with_min_delay(self.config.min_backoff)
                .with_max_delay(self.config.max_backoff)
                .without_max_times()
                .with_jitter()
                .build(),
            phase: Phase::Ready,
        })
    }

    fn knows_option(&self, name: &str) -> bool {
        self.inner.knows_option(name)
    }

    fn available(&self) -> bool {
        self.breaker_state() != BreakerState::Open && self.inner.available()
    }
}

/// The clock of the breaker follows tokio's, which tests pause.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// One call: attempts until one yields something or none is left.
struct Attempts {
    inner: SharedProvider,
    shared: Arc<Shared>,
    /// Kept only as long as another attempt may be made.
    request: Option<ModelRequest>,
    attempts_left: u32,
    max_retry_after: Duration,
    backoff: ExponentialBackoff,
    phase: Phase,
}

enum Phase {
    /// The next poll makes an attempt.
    Ready,
    /// After a failure; what it was, should the breaker forbid the next attempt.
    Pausing {
        until: Pin<Box<Sleep>>,
        after: ProviderError,
    },
    Running {
        stream: ModelStream,
        attempt: Attempt,
        spoke: bool,
    },
    Done,
}

/// An attempt under way. Dropped without a verdict, it tells the breaker that there is none.
struct Attempt {
    shared: Arc<Shared>,
    permit: Option<Permit>,
}

impl Attempt {
    fn first_event(&self) {
        if let Some(permit) = self.permit {
            self.shared.breaker().first_event(permit);
        }
    }

    fn succeeded(mut self) {
        if let Some(permit) = self.permit.take() {
            self.shared.breaker().success(permit);
        }
    }

    fn failed(mut self, kind: ProviderErrorKind) {
        if kind.counts_against_vendor()
            && let Some(permit) = self.permit.take()
        {
            self.shared.breaker().failure(permit, now());
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.shared.breaker().abandoned(permit);
        }
    }
}

impl Stream for Attempts {
    type Item = Result<ModelEvent, ProviderError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match &mut this.phase {
                Phase::Ready => {
                    if let Err(refused) = this.begin() {
                        return Poll::Ready(Some(Err(this.end_with(refused))));
                    }
                }
                Phase::Pausing { until, .. } => {
                    ready!(until.as_mut().poll(cx));
                    let Phase::Pausing { after, .. } = std::mem::replace(&mut this.phase, Phase::Ready) else { continue };
                    // The first cause says more than "the breaker opened meanwhile".
                    if this.begin().is_err() {
                        return Poll::Ready(Some(Err(this.end_with(after))));
                    }
                    this.shared.retries.fetch_add(1, Ordering::Relaxed);
                }
                Phase::Running { stream, .. } => {
                    let item = ready!(stream.as_mut().poll_next(cx));
                    if let Some(item) = this.on_item(item) {
                        return Poll::Ready(Some(item));
                    }
                }
                Phase::Done => return Poll::Ready(None),
            }
        }
    }
}

impl Attempts {
    /// Starts an attempt, if the breaker lets it.
    fn begin(&mut self) -> Result<(), ProviderError> {
        let permit = self.shared.breaker().try_acquire(now()).map_err(|wait| refused(self.inner.name(), wait))?;
        let attempt = Attempt { shared: self.shared.clone(), permit: Some(permit) };
        self.attempts_left -= 1;
        let request = if self.attempts_left == 0 { self.request.take() } else { self.request.clone() };
        let stream = self.inner.call(request.unwrap_or_default());
        self.phase = Phase::Running { stream, attempt, spoke: false };
        Ok(())
    }

    /// What the caller sees of an item of the running attempt; `None` if another attempt follows.
    fn on_item(&mut self, item: Option<Result<ModelEvent, ProviderError>>) -> Option<Result<ModelEvent, ProviderError>> {
        let Phase::Running { attempt, spoke, .. } = &mut self.phase else { return None };
        match item {
            Some(Ok(ModelEvent::End(end))) => {
                if let Phase::Running { attempt, .. } = std::mem::replace(&mut self.phase, Phase::Done) {
                    attempt.succeeded();
                }
                Some(Ok(ModelEvent::End(end)))
            }
            Some(Ok(event)) => {
                if !*spoke {
                    *spoke = true;
                    attempt.first_event();
                    self.request = None;
                }
                Some(Ok(event))
            }
            Some(Err(error)) => self.on_error(error),
            // Against the promise of `ModelStream`; whoever waits for the end must not wait for ever.
            None => self.on_error(ProviderError {
                kind: ProviderErrorKind::Connection,
                message: format!("{} ended its answer without saying so", self.inner.name()),
                retry_after: None,
            }),
        }
    }

    fn on_error(&mut self, error: ProviderError) -> Option<Result<ModelEvent, ProviderError>> {
        let Phase::Running { attempt, spoke, stream } = std::mem::replace(&mut self.phase, Phase::Done) else { return None };
        drop(stream);
        attempt.failed(error.kind);
        match self.pause_before_retry(&error) {
            Some(pause) if !spoke => {
                self.phase = Phase::Pausing { until: Box::pin(sleep(pause)), after: error };
                None
            }
            _ => Some(Err(self.end_with(error))),
        }
    }

    /// How long to wait before the next attempt; `None` if there is to be none.
    fn pause_before_retry(&mut self, error: &ProviderError) -> Option<Duration> {
        if self.attempts_left == 0 || self.request.is_none() || !error.kind.retryable() {
            return None;
        }
        let backoff = self.backoff.next()?;
        match error.retry_after {
            Some(wish) if wish > self.max_retry_after => None,
            Some(wish) => Some(wish.max(backoff)),
            None => Some(backoff),
        }
    }

    fn end_with(&mut self, error: ProviderError) -> ProviderError {
        self.phase = Phase::Done;
        self.request = None;
        error
    }
}

fn refused(provider: &str, wait: Duration) -> ProviderError {
    ProviderError {
        kind: ProviderErrorKind::Unavailable,
        message: format!("{provider} has failed repeatedly and is being left alone for a while"),
        // While a probe is under way nobody knows; a second is as good as any.
        retry_after: Some(wait.max(Duration::from_secs(1))),
    }
}

#[cfg(test)]
mod tests;
