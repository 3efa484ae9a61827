//! Whatever a vendor does, the call ends soon, with an error that says what kind it was and nothing it should not.

use agent_hub::provider::ProviderErrorKind;
use agent_hub_load::vendor::{Fault, Outcome};
use futures::future::join_all;
use tokio::net::TcpListener;

use super::*;

const QUIET: Duration = Duration::from_millis(250);

fn impatient(kind: Kind, fake: &FakeVendor) -> SharedProvider {
    let config = kind.config(fake.base_url());
    kind.provider(VendorConfig { connect_timeout: QUIET, first_byte_timeout: QUIET, idle_timeout: QUIET, ..config })
}

fn faults() -> Vec<(Fault, usize, ProviderErrorKind)> {
    use ProviderErrorKind::{Connection, Garbage, Status, Timeout};
    let status = |status: u16| (Fault::Status(status, None), 0, Status(status));
    vec![
        status(400),
        status(401),
        status(403),
        status(404),
        status(408),
        status(500),
        status(502),
        status(503),
        status(529),
        (Fault::Status(429, Some("3".into())), 0, Status(429)),
        (Fault::EndlessError(500), 0, Status(500)),
        (Fault::HangBeforeHeaders, 0, Timeout),
        (Fault::CutBeforeHeaders, 0, Connection),
        (Fault::WebPage, 0, Garbage),
        (Fault::Hang, 0, Timeout),
        (Fault::Hang, 3, Timeout),
        (Fault::Cut, 0, Connection),
        (Fault::Cut, 3, Connection),
        (Fault::CutInsideToken, 3, Connection),
        (Fault::CutInsideCharacter, 3, Connection),
        (Fault::EndEarly, 3, Connection),
        (Fault::BrokenJson, 3, Garbage),
        (Fault::GarbageLine, 3, Garbage),
        (Fault::NotUtf8, 3, Garbage),
        (Fault::LongLine(100 * 1024 * 1024), 3, Garbage),
        (Fault::Comments(100 * 1024 * 1024), 3, Garbage),
        (Fault::Drip(Duration::from_millis(20)), 3, Timeout),
    ]
}

#[tokio::test]
async fn every_fault_is_a_typed_error() {
    for (fault, after, expected) in faults() {
        for kind in KINDS {
            let fake = fake(Script::default().with_fault(fault.clone(), after)).await;
            let heard = hear(&impatient(kind, &fake), ask("hi")).await;
            let error = heard.error.unwrap_or_else(|| panic!("{kind:?} {fault:?} passed for an answer"));
            assert_eq!(error.kind, expected, "{kind:?} {fault:?}: {error}");
            assert_eq!(heard.text.split_whitespace().count(), after, "{kind:?} {fault:?}: what came before is kept");
            let said = format!("{error} {error:?}");
            assert!(!said.contains("sk-") && !said.contains("127.0.0.1") && !said.contains("scripted"), "{said}");
            // The connection is given up at once, not when the vendor is through.
            within(fake.until(|calls| calls[0].outcome != Outcome::Running)).await;
        }
    }
}

#[tokio::test]
async fn failures_inside_the_stream_have_their_status() {
    for (kind, status) in [(Kind::OpenAi, 500), (Kind::Anthropic, 529)] {
        let fake = fake(Script::default().with_fault(Fault::ErrorEvent, 2)).await;
        let heard = hear(&impatient(kind, &fake), ask("hi")).await;
        let error = heard.error.unwrap();
        assert_eq!((error.kind, heard.text.as_str()), (ProviderErrorKind::Status(status), "Once upon "), "{kind:?}");
        assert!(!error.message.contains("sk-"));
    }
}

#[tokio::test]
async fn the_wish_to_wait_is_passed_on() {
    for kind in KINDS {
        let fake = fake(Script::default().with_fault(Fault::Status(429, Some("7".into())), 0)).await;
        let error = hear(&impatient(kind, &fake), ask("hi")).await.error.unwrap();
        assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
    }
}

#[tokio::test]
async fn many_faults_at_once_leave_nothing_behind() {
    for (fault, after, expected) in faults() {
        // These move 100 MB each; alone they prove the same.
        if matches!(fault, Fault::LongLine(_) | Fault::Comments(_) | Fault::EndlessError(_)) {
            continue;
        }
        let fake = fake(Script::default().with_fault(fault.clone(), after)).await;
        let providers = KINDS.map(|kind| impatient(kind, &fake));
        let calls = (0..50).map(|index| hear(&providers[index % 2], ask("hi")));
        for heard in join_all(calls).await {
            assert_eq!(heard.error.map(|error| error.kind), Some(expected), "{fault:?}");
        }
        within(fake.until(|calls| calls.iter().all(|call| call.outcome != Outcome::Running))).await;
    }
}

#[tokio::test]
async fn slow_is_not_silent() {
    // Longer in total than any timeout, but never quiet for as long as one.
    let fake = fake(Script { pace: Duration::from_millis(50), tokens: 12, ..Script::default() }).await;
    for kind in KINDS {
        assert!(hear(&impatient(kind, &fake), ask("hi")).await.end.is_some(), "{kind:?}");
    }
}

#[tokio::test]
async fn a_slow_reader_is_not_the_vendors_fault() {
    let fake = fake(Script { pace: Duration::from_millis(100), tokens: 8, ..Script::default() }).await;
    for kind in KINDS {
        let mut stream = impatient(kind, &fake).call(ask("hi"));
        within(stream.next()).await.unwrap().unwrap();
        tokio::time::sleep(QUIET * 2).await;
        let mut rest: Vec<_> = within(stream.collect()).await;
        assert!(matches!(rest.pop(), Some(Ok(ModelEvent::End(_)))), "{kind:?}");
    }
}

#[tokio::test]
async fn nobody_there() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = unused.local_addr().unwrap();
    drop(unused);
    for kind in KINDS {
        let provider = kind.provider(kind.config(format!("http://{address}/v1")));
        assert_eq!(hear(&provider, ask("hi")).await.error.unwrap().kind, ProviderErrorKind::Connection);
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_end_times_out() {
    // Connections are accepted by the system; nobody ever speaks TLS on them.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Kind::OpenAi.config(format!("https://{}/v1", silent.local_addr().unwrap()));
    let provider = Kind::OpenAi.provider(VendorConfig { connect_timeout: QUIET, ..config });
    assert_eq!(hear(&provider, ask("hi")).await.error.unwrap().kind, ProviderErrorKind::Timeout);
}
