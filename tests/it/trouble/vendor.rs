//! Model vendors that fail.

use agent_hub_load::vendor::{Fault, Outcome, Script};
use serde_json::json;

use crate::harness::{Hub, texts};

#[tokio::test]
async fn an_answer_that_breaks_off_fails_with_its_words_kept() {
    let (hub, vendor) = Hub::with_vendor(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    for fault in ["cut", "cut-token", "cut-char", "end-early", "broken-json", "not-utf8", "error-event", "long-line"] {
        let end = ada.run(&format!("/pace 1 /tokens 9 /fault {fault} 5")).await;
        let task = end["taskId"].as_str().expect("an id").to_owned();
        assert_eq!((&end["type"], &end["data"]["code"]), (&json!("task_failed"), &json!("upstream_error")), "{fault}: {end}");
        assert_eq!(end["data"]["retryable"], true, "{fault}");
        let partial = texts(&ada.events(&session), &task);
        assert!(end["data"]["partial"] == *partial && !partial.is_empty(), "{fault}: {partial:?}");
        assert!(!end["data"]["message"].as_str().expect("text").is_empty());
        // The next one works, and the vendor, which is strict, takes what was kept.
        assert_eq!(ada.run(&format!("/echo after {fault}")).await["data"]["result"], format!("after {fault}"));
        let kept = vendor.calls().last().expect("a call").body["messages"].to_string();
        assert!(kept.contains(partial.trim().split(' ').next().unwrap_or_default()), "{fault}: {kept}");
    }
}

#[tokio::test]
async fn a_refusal_of_the_vendor_has_a_code_and_a_blip_is_not_seen() {
    let (hub, vendor) = Hub::with_vendor(&[]).await;
    let (mut ada, _) = hub.session("ada").await;
    for (prompt, retryable) in [("/fail 401", false), ("/fail 400", false), ("/fault web-page", true), ("/fault garbage-line", true)] {
        let end = ada.run(prompt).await;
        if end["type"] == "task_completed" {
            // A line that belongs to nothing may be passed over.
            assert_eq!(prompt, "/fault garbage-line");
            continue;
        }
        assert_eq!((&end["type"], &end["data"]["code"]), (&json!("task_failed"), &json!("upstream_error")), "{prompt}: {end}");
        assert_eq!(end["data"]["retryable"], retryable, "{prompt}");
        assert_eq!(ada.run("/echo on").await["data"]["result"], "on");
    }
    for status in [429, 500, 503] {
        vendor.set_next_scripts([Script::default().with_fault(Fault::Status(status, None), 0)]);
        let before = vendor.counters().calls;
        assert_eq!(ada.run("/echo patience").await["data"]["result"], "patience", "{status}");
        assert_eq!(vendor.counters().calls, before + 2, "{status}");
    }
    vendor.set_next_scripts([Script::default().with_fault(Fault::CutBeforeHeaders, 0)]);
    assert_eq!(ada.run("/echo again").await["data"]["result"], "again");
}

#[tokio::test]
async fn a_vendor_that_keeps_failing_is_left_alone() {
    let (hub, vendor) = Hub::with_vendor(&[]).await;
    let (mut ada, _) = hub.session("ada").await;
    vendor.set_script(Script::default().with_fault(Fault::Status(500, None), 0));
    let mut codes = Vec::new();
    for _ in 0..4 {
        let task = ada.ask(json!({"type": "submit_task", "prompt": "x"})).await;
        if task["type"] == "error" {
            codes.push(task["code"].clone());
            continue;
        }
        let end = ada.end_of(task["taskId"].as_str().expect("an id")).await;
        assert_eq!(end["type"], "task_failed");
        codes.push(end["data"]["code"].clone());
    }
    let asked = vendor.counters().calls;
    assert_eq!(codes[0], "upstream_error");
    assert_eq!(codes[3], "upstream_unavailable", "{codes:?}");
    assert!(asked <= 6, "{asked} calls");
    let end = ada.run("x").await;
    assert_eq!((&end["data"]["code"], &end["data"]["retryable"]), (&json!("upstream_unavailable"), &json!(true)));
    assert_eq!(vendor.counters().calls, asked, "it was not asked any more");
    assert_eq!(end["data"]["retryable"], true);
    let (status, ready) = hub.http("GET", "/ready", "ada").await;
    assert_eq!((status, &ready["unavailable"], &ready["reasons"]), (503, &json!(["openai"]), &json!(["no model can be reached (openai)"])));
    assert_eq!(hub.http("GET", "/health", "ada").await.0, 200);
}

#[tokio::test]
async fn one_vendor_of_two_that_keeps_failing_is_named_and_the_other_answers() {
    let (hub, vendor) = Hub::with_vendor(&[("AGENT_HUB_AGENTS__PARROT__PROVIDER", "demo")]).await;
    let mut ada = hub.connect("ada").await;
    ada.create(json!({})).await;
    vendor.set_script(Script::default().with_fault(Fault::Status(500, None), 0));
    while ada.run("x").await["data"]["code"] != "upstream_unavailable" {}
    let (status, ready) = hub.http("GET", "/ready", "ada").await;
    assert_eq!((status, &ready["unavailable"], &ready["reasons"]), (200, &json!(["openai"]), &json!([])), "{ready}");
    ada.create(json!({"agent": "parrot"})).await;
    assert_eq!(ada.run("/echo still here").await["data"]["result"], "still here");
}

#[tokio::test]
async fn a_vendor_that_is_not_there() {
    let settings = [("MODEL_PROVIDER", "openai"), ("OPENAI_BASE_URL", "http://127.0.0.1:9/v1"), ("OPENAI_API_KEY", "k")];
    let hub = Hub::start(&settings).await;
    let (mut ada, _) = hub.session("ada").await;
    let end = ada.run("x").await;
    assert_eq!((&end["type"], &end["data"]["code"]), (&json!("task_failed"), &json!("upstream_error")));
    assert!(end["data"].get("partial").is_none_or(|partial| partial == ""), "{end}");
    assert!(!end.to_string().contains("127.0.0.1"), "{end}");
}

#[tokio::test]
async fn stopping_a_silent_call_closes_it() {
    let (hub, vendor) = Hub::with_vendor(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let aborted = async |number: usize| {
        let calls = vendor.until(|calls| calls.iter().filter(|call| call.outcome == Outcome::Aborted).count() == number).await;
        assert!(calls.iter().all(|call| call.outcome != Outcome::Running));
    };
    // Before the headers, in the middle, by a person.
    for (number, prompt) in ["/fault hang-headers", "/hang 3"].into_iter().enumerate() {
        let task = ada.submit(prompt).await;
        vendor.until(|calls| calls.iter().any(|call| call.outcome == Outcome::Running)).await;
        if number == 1 {
            ada.until("token").await;
        }
        ada.done(json!({"type": "cancel_task", "taskId": task})).await;
        let end = ada.end_of(&task).await;
        assert_eq!((&end["type"], &end["data"]["upstreamStopped"]), (&json!("task_cancelled"), &json!(true)));
        aborted(number + 1).await;
    }
    // By the deadline, by the end of the session.
    let ack = ada.done(json!({"type": "submit_task", "prompt": "/fault hang-headers", "timeoutMs": 300})).await;
    assert_eq!(ada.end_of(ack["taskId"].as_str().expect("an id")).await["type"], "task_timeout");
    aborted(3).await;
    let task = ada.submit("/fault drip 2").await;
    ada.until("token").await;
    ada.done(json!({"type": "suspend_task", "taskId": task})).await;
    aborted(4).await;
    ada.done(json!({"type": "cancel_task", "taskId": task})).await;
    assert_eq!(ada.run("/echo fine").await["data"]["result"], "fine");
    let task = ada.submit("/hang 2").await;
    ada.until("token").await;
    ada.done(json!({"type": "end_session"})).await;
    assert_eq!(ada.end_of(&task).await["type"], "task_cancelled");
    aborted(5).await;
    assert_eq!(ada.position(&session), ada.events(&session).len() as u64);
}

#[tokio::test]
async fn nobody_watching_is_no_reason_to_stop() {
    let (hub, vendor) = Hub::with_vendor(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let task = ada.submit("/pace 3 /tokens 200").await;
    ada.until("token").await;
    let cursor = ada.cursor(&session);
    drop(ada);
    vendor.until(|calls| calls.iter().all(|call| call.outcome == Outcome::Finished)).await;
    let mut back = hub.connect("ada").await;
    assert_eq!(back.attach(&session, Some(&cursor)).await["recovered"], true);
    assert_eq!(back.end_of(&task).await["type"], "task_completed");
}
