//! The fakes are as strict as the vendors, and see what callers do.

// Failing loudly is what a test is for.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use agent_hub_load::vendor::{FakeVendor, FakeVendorConfig, Fault, FaultChance, Outcome};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

async fn fake() -> FakeVendor {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    FakeVendor::start(FakeVendorConfig { api_key: Some("key".into()), ..FakeVendorConfig::default() }).await.unwrap()
}

fn openai(fake: &FakeVendor) -> RequestBuilder {
    Client::new().post(format!("{}/chat/completions", fake.base_url()))
}

fn anthropic(fake: &FakeVendor) -> RequestBuilder {
    Client::new().post(format!("{}/messages", fake.base_url())).header("anthropic-version", "2023-06-01")
}

/// The status, and the kind of error in the body.
async fn refused(request: RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap_or_default();
    assert!(body["error"]["message"].is_string(), "no error in {body}");
    (status, body["error"]["type"].as_str().unwrap_or_default().to_owned())
}

fn with_messages(messages: Value) -> Value {
    json!({ "model": "m", "max_tokens": 10, "stream": true, "messages": messages })
}

#[tokio::test]
async fn openai_refuses_what_the_vendor_refuses() {
    let fake = fake().await;
    let call = json!({ "id": "1", "type": "function", "function": { "name": "t", "arguments": "{}" } });
    let calls = json!({ "role": "assistant", "content": null, "tool_calls": [call] });
    let hi = json!({ "role": "user", "content": "hi" });
    let result = |id: &str| json!({ "role": "tool", "tool_call_id": id, "content": "x" });
    let bad = [
        json!({ "messages": [hi], "stream": true }),
        json!({ "model": "m", "stream": true }),
        with_messages(json!([])),
        with_messages(json!([{ "role": "wizard", "content": "hi" }])),
        with_messages(json!([{ "content": "hi" }])),
        with_messages(json!([{ "role": "user", "content": "" }])),
        with_messages(json!([hi, { "role": "assistant", "content": "" }])),
        with_messages(json!([hi, { "role": "assistant", "content": null }])),
        with_messages(json!([hi, result("1")])),
        with_messages(json!([hi, calls, result("2")])),
        with_messages(json!([hi, calls])),
        with_messages(json!([hi, calls, hi, result("1")])),
        with_messages(json!([hi, calls, result("1"), result("1")])),
    ];
    for body in bad {
        assert_eq!(refused(openai(&fake).bearer_auth("key").json(&body)).await, (400, "invalid_request_error".into()), "{body}");
    }
    assert_eq!(refused(openai(&fake).bearer_auth("key").body("{")).await.0, 400);
    assert_eq!(refused(openai(&fake).bearer_auth("wrong").json(&with_messages(json!([hi])))).await.0, 401);
    assert_eq!(refused(openai(&fake).json(&with_messages(json!([hi])))).await.0, 401);
    assert_eq!(refused(Client::new().post(format!("{}/completions", fake.base_url()))).await.0, 404);
    let good = with_messages(json!([hi, calls, result("1"), hi]));
    assert_eq!(openai(&fake).bearer_auth("key").json(&good).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn anthropic_refuses_what_the_vendor_refuses() {
    let fake = fake().await;
    let hi = json!({ "role": "user", "content": "hi" });
    let calls = json!({ "role": "assistant", "content": [{ "type": "tool_use", "id": "1", "name": "t", "input": {} }] });
    let result = |id: &str| json!({ "role": "user", "content": [{ "type": "tool_result", "tool_use_id": id, "content": "x" }] });
    let late_result =
        json!({ "role": "user", "content": [{ "type": "text", "text": "so" }, { "type": "tool_result", "tool_use_id": "1" }] });
    let bad = [
        json!({ "max_tokens": 1, "messages": [hi], "stream": true }),
        json!({ "model": "m", "messages": [hi], "stream": true }),
        json!({ "model": "m", "max_tokens": 1, "stream": true }),
        with_messages(json!([])),
        with_messages(json!([{ "role": "assistant", "content": "hi" }, hi])),
        with_messages(json!([{ "role": "system", "content": "hi" }])),
        with_messages(json!([{ "role": "user", "content": "" }])),
        with_messages(json!([{ "role": "user", "content": [] }])),
        with_messages(json!([{ "role": "user", "content": [{ "type": "text", "text": " " }] }])),
        with_messages(json!([hi, result("1")])),
        with_messages(json!([hi, calls])),
        with_messages(json!([hi, calls, hi])),
        with_messages(json!([hi, calls, hi, result("1")])),
        with_messages(json!([hi, calls, result("2")])),
        with_messages(json!([hi, calls, late_result])),
        with_messages(json!([hi, { "role": "assistant", "content": "ends with space " }])),
    ];
    for body in bad {
        assert_eq!(refused(anthropic(&fake).header("x-api-key", "key").json(&body)).await, (400, "invalid_request_error".into()), "{body}");
    }
    let hi_only = with_messages(json!([hi]));
    assert_eq!(refused(anthropic(&fake).header("x-api-key", "key").body("{")).await.0, 400);
    assert_eq!(refused(anthropic(&fake).header("x-api-key", "wrong").json(&hi_only)).await, (401, "authentication_error".into()));
    assert_eq!(refused(anthropic(&fake).bearer_auth("wrong").json(&hi_only)).await.0, 401);
    assert_eq!(refused(anthropic(&fake).json(&hi_only)).await.0, 401);
    let no_version = Client::new().post(format!("{}/messages", fake.base_url())).header("x-api-key", "key").json(&hi_only);
    assert_eq!(refused(no_version).await.0, 400);
    assert_eq!(refused(Client::new().post(format!("{}/messages/more", fake.base_url()))).await, (404, "not_found_error".into()));
    let good = with_messages(json!([hi, calls, result("1"), hi]));
    assert_eq!(anthropic(&fake).header("x-api-key", "key").json(&good).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_caller_that_leaves_is_noticed_at_once() {
    let fake = fake().await;
    // Silent after two tokens: nothing is written that could fail.
    let body = with_messages(json!([{ "role": "user", "content": "/hang 2" }]));
    let mut response = openai(&fake).bearer_auth("key").json(&body).send().await.unwrap();
    response.chunk().await.unwrap().unwrap();
    fake.until(|calls| calls[0].tokens_sent == 2).await;
    assert_eq!(fake.counters().running, 1);
    let left = std::time::Instant::now();
    drop(response);
    let calls = tokio::time::timeout(Duration::from_secs(5), fake.until(|calls| calls[0].closed_at.is_some())).await.unwrap();
    assert_eq!(calls[0].outcome, Outcome::Aborted);
    assert!(calls[0].closed_at.unwrap() >= left);
    assert_eq!(fake.counters().aborted, 1);
}

#[tokio::test]
async fn answers_look_like_the_vendors() {
    let fake = fake().await;
    let mut body = with_messages(json!([{ "role": "user", "content": "/echo a b" }]));
    let text = anthropic(&fake).header("x-api-key", "key").json(&body).send().await.unwrap().text().await.unwrap();
    let events: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let block = ["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"];
    assert_eq!(events, [&["message_start", "ping"], &block[..], &["message_delta", "message_stop"]].concat());

    body["stream_options"] = json!({ "include_usage": true });
    let text = openai(&fake).bearer_auth("key").json(&body).send().await.unwrap().text().await.unwrap();
    let data: Vec<&str> = text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    assert_eq!(data.len(), 6, "role, two words, finish, usage, done");
    assert_eq!(data[5], "[DONE]");
    let usage: Value = serde_json::from_str(data[4]).unwrap();
    assert_eq!((&usage["choices"], &usage["usage"]["completion_tokens"]), (&json!([]), &json!(2)));
}

#[tokio::test]
async fn some_answers_have_a_fault_and_in_every_run_the_same_ones() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let run = async || {
        let faults = vec![FaultChance { fault: Fault::named("unavailable").unwrap(), after: 0, share: 0.3 }];
        let fake = FakeVendor::start(FakeVendorConfig { faults, ..FakeVendorConfig::default() }).await.unwrap();
        let mut statuses = Vec::new();
        for _ in 0..60 {
            let body = with_messages(json!([{ "role": "user", "content": "/tokens 1" }]));
            statuses.push(openai(&fake).json(&body).send().await.unwrap().status().as_u16());
        }
        statuses
    };
    let statuses = run().await;
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert!((6..36).contains(&refused), "{refused} of 60 at a share of 0.3");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)));
    assert_eq!(statuses, run().await);
}

#[tokio::test]
async fn jitter_makes_tokens_late_and_loses_none() {
    let fake = fake().await;
    let body = with_messages(json!([{ "role": "user", "content": "/pace 3 /jitter 1 /echo a b c d e f" }]));
    let started = std::time::Instant::now();
    let text = openai(&fake).bearer_auth("key").json(&body).send().await.unwrap().text().await.unwrap();
    // Never early: the last is due at six paces at the soonest.
    assert!(started.elapsed() >= Duration::from_millis(18));
    let words: Vec<String> = text
        .split("\n\n")
        .filter_map(|event| serde_json::from_str::<Value>(event.strip_prefix("data: ")?).ok())
        .filter_map(|chunk| Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect();
    assert_eq!(words.concat(), "a b c d e f");
}

#[tokio::test]
async fn what_is_written_at_once_stays_one_event_a_token_and_stops_at_a_fault() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let fake = FakeVendor::start(FakeVendorConfig { burst: 32, ..FakeVendorConfig::default() }).await.unwrap();
    let ask = |prompt: &str| openai(&fake).json(&with_messages(json!([{ "role": "user", "content": prompt }]))).send();
    // The request says at most ten tokens.
    let text = ask("/tokens 100").await.unwrap().text().await.unwrap();
    assert_eq!(text.matches("\"content\":\"").count(), 11, "the role, and ten tokens: {text}");
    let mut hung = ask("/hang 7").await.unwrap();
    hung.chunk().await.unwrap().unwrap();
    tokio::time::timeout(Duration::from_secs(5), fake.until(|calls| calls[1].tokens_sent == 7)).await.unwrap();
    assert_eq!(fake.counters().tokens, 17, "none behind the fault");
}
