// Failing loudly is what a test is for.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::VecDeque;

use futures::{StreamExt, stream};

use super::*;
use crate::provider::CallEnd;

/// What one attempt at the scripted vendor does.
#[derive(Clone, Debug)]
enum Does {
    Answers,
    Fails(ProviderErrorKind),
    FailsWithWish(u16, Duration),
    FailsAfterText,
    Hangs,
    JustEnds,
}

#[derive(Debug, Default)]
struct Scripted {
    script: Mutex<VecDeque<Does>>,
    calls: AtomicU64,
}

impl ModelProvider for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn default_model(&self) -> &str {
        "m"
    }

    fn knows_option(&self, _: &str) -> bool {
        true
    }

    fn call(&self, _: ModelRequest) -> ModelStream {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let text = || Ok(ModelEvent::Text("hi".into()));
        match self.script.lock().unwrap().pop_front().unwrap_or(Does::Answers) {
            Does::Answers => stream::iter([text(), Ok(ModelEvent::End(CallEnd::default()))]).boxed(),
            Does::Fails(kind) => stream::iter([Err(error(kind, None))]).boxed(),
            Does::FailsWithWish(status, wish) => stream::iter([Err(error(ProviderErrorKind::Status(status), Some(wish)))]).boxed(),
            Does::FailsAfterText => stream::iter([text(), Err(error(ProviderErrorKind::Connection, None))]).boxed(),
            Does::Hangs => stream::pending().boxed(),
            Does::JustEnds => stream::empty().boxed(),
        }
    }
}

fn error(kind: ProviderErrorKind, retry_after: Option<Duration>) -> ProviderError {
    ProviderError { kind, message: "scripted".into(), retry_after }
}

const FAILS: Does = Does::Fails(ProviderErrorKind::Status(500));

fn scripted(script: impl IntoIterator<Item = Does>) -> (Arc<Scripted>, Resilient) {
    let vendor = Arc::new(Scripted { script: Mutex::new(script.into_iter().collect()), calls: AtomicU64::new(0) });
    (vendor.clone(), Resilient::new(vendor, ResilientConfig::default()))
}

async fn last(provider: &Resilient) -> Result<ModelEvent, ProviderErrorKind> {
    let events: Vec<_> = provider.call(ModelRequest::default()).collect().await;
    events.into_iter().next_back().unwrap().map_err(|error| error.kind)
}

fn calls(vendor: &Scripted) -> u64 {
    vendor.calls.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_the_first_event_is_not_seen() {
    let (vendor, provider) = scripted([FAILS, Does::Fails(ProviderErrorKind::Connection), Does::Answers]);
    assert!(last(&provider).await.is_ok());
    assert_eq!((calls(&vendor), provider.retries()), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn attempts_are_counted() {
    let (vendor, provider) = scripted(vec![FAILS; 3]);
    assert_eq!(last(&provider).await, Err(ProviderErrorKind::Status(500)));
    assert_eq!(calls(&vendor), 3);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_repeated_once_something_was_seen() {
    let (vendor, provider) = scripted([Does::FailsAfterText]);
    assert_eq!(last(&provider).await, Err(ProviderErrorKind::Connection));
    assert_eq!(calls(&vendor), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_caller_did_wrong_is_not_repeated_and_not_counted() {
    let (vendor, provider) = scripted([400, 401, 403, 404, 422, 400].map(|status| Does::Fails(ProviderErrorKind::Status(status))));
    for _ in 0..6 {
        assert!(last(&provider).await.is_err());
    }
    assert_eq!((calls(&vendor), provider.breaker_state()), (6, BreakerState::Closed));
}

#[tokio::test(start_paused = true)]
async fn the_wish_of_the_vendor_is_honoured() {
    let (vendor, provider) = scripted([Does::FailsWithWish(429, Duration::from_secs(7)), Does::Answers]);
    let started = Instant::now();
    assert!(last(&provider).await.is_ok());
    assert_eq!(calls(&vendor), 2);
    assert!(started.elapsed() >= Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn a_wish_too_long_goes_to_the_caller() {
    let (vendor, provider) = scripted([Does::FailsWithWish(429, Duration::from_secs(3600))]);
    let events: Vec<_> = provider.call(ModelRequest::default()).collect().await;
    assert_eq!(events[0].as_ref().unwrap_err().retry_after, Some(Duration::from_secs(3600)));
    assert_eq!(calls(&vendor), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_just_ends_is_an_error() {
    let (_, provider) = scripted(vec![Does::JustEnds; 3]);
    assert_eq!(last(&provider).await, Err(ProviderErrorKind::Connection));
}

#[tokio::test(start_paused = true)]
async fn opens_refuses_at_once_and_comes_back() {
    let (vendor, provider) = scripted(vec![FAILS; 5]);
    assert!(last(&provider).await.is_err());
    // The fifth failure is the second attempt of the second call; its third is not made and the cause is what is reported.
    assert_eq!(last(&provider).await, Err(ProviderErrorKind::Status(500)));
    assert_eq!((calls(&vendor), provider.breaker_state(), provider.available()), (5, BreakerState::Open, false));

    let started = Instant::now();
    assert_eq!(last(&provider).await, Err(ProviderErrorKind::Unavailable));
    assert_eq!((calls(&vendor), started.elapsed()), (5, Duration::ZERO));

    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!((provider.breaker_state(), provider.available()), (BreakerState::HalfOpen, true));
    assert!(last(&provider).await.is_ok());
    assert_eq!(provider.breaker_state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_frees_its_place() {
    let script = std::iter::repeat_n(FAILS, 5).chain([Does::Hangs, Does::Answers]);
    let (vendor, provider) = scripted(script);
    while provider.breaker_state() == BreakerState::Closed {
        assert!(last(&provider).await.is_err());
    }
    tokio::time::advance(Duration::from_secs(30)).await;
    let mut probe = provider.call(ModelRequest::default());
    assert!(futures::poll!(probe.next()).is_pending());
    assert_eq!(calls(&vendor), 6);
    assert_eq!(last(&provider).await, Err(ProviderErrorKind::Unavailable), "one probe at a time");
    drop(probe);
    assert_eq!(provider.breaker_state(), BreakerState::HalfOpen);
    assert!(last(&provider).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn aborts_count_for_nothing() {
    let (_, provider) = scripted(vec![Does::Hangs; 10]);
    for _ in 0..10 {
        let mut stream = provider.call(ModelRequest::default());
        assert!(futures::poll!(stream.next()).is_pending());
    }
    assert_eq!(provider.breaker_state(), BreakerState::Closed);
}
