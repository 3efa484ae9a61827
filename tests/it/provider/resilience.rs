//! What is tried again and what is not, counted at the vendor.

use agent_hub::provider::{
    ModelProvider, ProviderErrorKind,
    breaker::{BreakerConfig, BreakerState},
    resilient::{Resilient, ResilientConfig},
};
use agent_hub_load::vendor::Fault;

use super::*;

fn resilient(kind: Kind, fake: &FakeVendor) -> Arc<Resilient> {
    let breaker = BreakerConfig { failures: 5, open_for: Duration::from_millis(300) };
    let (min_backoff, max_backoff) = (Duration::from_millis(5), Duration::from_millis(20));
    Arc::new(Resilient::new(kind.at(fake), ResilientConfig { min_backoff, max_backoff, breaker, ..ResilientConfig::default() }))
}

fn failing(fault: Fault, after: usize) -> Script {
    Script::default().with_fault(fault, after)
}

async fn outcome(provider: &Arc<Resilient>) -> Result<String, ProviderErrorKind> {
    let heard = hear(&(provider.clone() as SharedProvider), ask("hi")).await;
    heard.error.map_or(Ok(heard.text), |error| Err(error.kind))
}

#[tokio::test]
async fn what_nobody_saw_is_tried_again() {
    for kind in KINDS {
        let fake = fake(Script::default()).await;
        fake.set_next_scripts([failing(Fault::Status(500, None), 0), failing(Fault::CutBeforeHeaders, 0)]);
        assert!(outcome(&resilient(kind, &fake)).await.is_ok());
        assert_eq!(fake.counters().calls, 3);

        // Headers and pings are nothing a caller sees.
        fake.set_next_scripts([failing(Fault::Cut, 0)]);
        assert!(outcome(&resilient(kind, &fake)).await.is_ok());
        assert_eq!(fake.counters().calls, 5);
    }
}

#[tokio::test]
async fn what_somebody_saw_is_not() {
    for kind in KINDS {
        let fake = fake(failing(Fault::Cut, 1)).await;
        assert_eq!(outcome(&resilient(kind, &fake)).await, Err(ProviderErrorKind::Connection));
        assert_eq!(fake.counters().calls, 1);
    }
}

#[tokio::test]
async fn the_callers_mistakes_are_not() {
    for kind in KINDS {
        for status in [400, 401, 403, 404, 422] {
            let fake = fake(failing(Fault::Status(status, None), 0)).await;
            let provider = resilient(kind, &fake);
            assert_eq!(outcome(&provider).await, Err(ProviderErrorKind::Status(status)));
            assert_eq!((fake.counters().calls, provider.breaker_state()), (1, BreakerState::Closed));
        }
    }
}

#[tokio::test]
async fn retry_after_is_honoured() {
    for kind in KINDS {
        let fake = fake(Script::default()).await;
        fake.set_next_scripts([failing(Fault::Status(429, Some("0.3".into())), 0)]);
        assert!(outcome(&resilient(kind, &fake)).await.is_ok());
        let calls = fake.calls();
        assert_eq!(calls.len(), 2);
        assert!(calls[1].started_at - calls[0].started_at >= Duration::from_millis(300));
    }
}

#[tokio::test]
async fn an_outage_is_left_alone_and_its_end_is_noticed() {
    for kind in KINDS {
        let fake = fake(failing(Fault::Status(503, None), 0)).await;
        let provider = resilient(kind, &fake);
        while provider.breaker_state() == BreakerState::Closed {
            assert_eq!(outcome(&provider).await, Err(ProviderErrorKind::Status(503)));
        }
        assert_eq!(fake.counters().calls, 5);
        assert_eq!(outcome(&provider).await, Err(ProviderErrorKind::Unavailable));
        assert!(!provider.available());
        assert_eq!(fake.counters().calls, 5, "nothing was sent");

        // Half open: one probe, which fails, closes the way again.
        within(async {
            while provider.breaker_state() != BreakerState::HalfOpen {
                tokio::time::sleep(Duration::from_millis(5)).await
            }
        })
        .await;
        assert_eq!(outcome(&provider).await, Err(ProviderErrorKind::Status(503)));
        assert_eq!((fake.counters().calls, provider.breaker_state()), (6, BreakerState::Open));

        fake.set_script(Script::default());
        within(async {
            while provider.breaker_state() != BreakerState::HalfOpen {
                tokio::time::sleep(Duration::from_millis(5)).await
            }
        })
        .await;
        assert!(outcome(&provider).await.is_ok());
        assert_eq!((fake.counters().calls, provider.breaker_state()), (7, BreakerState::Closed));
    }
}
