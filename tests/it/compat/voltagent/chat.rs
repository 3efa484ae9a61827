//! Chats as the AI SDK's transport reads them.

use agent_hub_load::vendor::Outcome;
use serde_json::{Value, json};

use crate::compat::{ANONYMOUS, Caller, blocks, types, until};
use crate::harness::Hub;

fn text(seen: &[Value]) -> String {
    seen.iter().filter(|block| block["type"] == "text-delta").filter_map(|block| block["delta"].as_str()).collect()
}

#[tokio::test]
async fn a_chat_is_a_ui_message_stream() {
    let hub = Hub::start(&[ANONYMOUS]).await;
    let volt = Caller::of(&hub);
    let message = json!({ "id": "u1", "role": "user", "parts": [{ "type": "text", "text": "/reason 2 /echo hello there" }] });
    let body = json!({ "id": "chat-1", "messages": [message], "trigger": "submit-message" });
    let response = volt.request("/agents/assistant/chat", &body).send().await.expect("a stream");
    assert_eq!(response.headers()["x-vercel-ai-ui-message-stream"], "v1");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let whole = response.text().await.expect("the stream");
    assert!(whole.ends_with("data: [DONE]\n\n"), "{whole}");
    let seen = blocks(&whole);
    assert_eq!(text(&seen), "hello there");
    let kinds = types(&seen);
    assert_eq!((kinds[0], kinds[1], kinds[2]), ("start", "start-step", "reasoning-start"));
    assert_eq!(kinds[kinds.len() - 3..], ["text-end", "finish-step", "finish"]);
    assert!(seen[0]["messageId"].is_string());
    // Errors end it too.
    let seen = volt.blocks("/agents/assistant/chat", json!({ "input": "/fail 500", "options": {} })).await;
    assert!(seen.last().expect("an end")["errorText"].is_string(), "{seen:?}");
}

#[tokio::test]
async fn a_resumable_chat_goes_on_is_attached_to_again_and_can_be_stopped() {
    let (hub, vendor) = Hub::with_vendor(&[ANONYMOUS, ("MODEL_ID", "m")]).await;
    let volt = Caller::of(&hub);
    let place = "/agents/assistant/chat/conv-1/stream?userId=u";
    let nothing = volt.http.get(volt.url(place)).send().await.expect("an answer");
    assert_eq!(nothing.status(), 204);
    let options = json!({ "userId": "u", "conversationId": "conv-1", "resumableStream": true });
    let body = json!({ "input": "/pace 10 /tokens 150", "options": options });
    let mut response = volt.request("/agents/assistant/chat", &body).send().await.expect("a stream");
    let first = until(&mut response, "text-delta").await;
    drop(response);
    // From the beginning, and to the end.
    let again = volt.http.get(volt.url(place)).send().await.expect("a stream");
    assert_eq!(again.status(), 200);
    let whole = again.text().await.expect("all of it");
    assert!(whole.starts_with(first.lines().next().expect("a line")));
    let seen = blocks(&whole);
    assert_eq!(text(&seen).split_whitespace().count(), 150);
    assert_eq!(types(&seen).iter().filter(|kind| **kind == "start").count(), 1);
    assert_eq!(seen.last().expect("an end")["type"], "finish");
    let over = volt.http.get(volt.url(place)).send().await.expect("an answer");
    assert_eq!(over.status(), 204, "nothing is being made any more");

    // It can be stopped, though whoever began it has hung up.
    let body = json!({ "input": "/pace 10 /tokens 5000", "options": options });
    let mut response = volt.request("/agents/assistant/chat", &body).send().await.expect("a stream");
    until(&mut response, "text-delta").await;
    drop(response);
    let stopped = crate::compat::read(volt.http.delete(volt.url(place))).await;
    assert_eq!(stopped.1["data"], json!({ "cancelled": true }));
    let calls = vendor.until(|calls| calls.iter().all(|call| call.outcome != Outcome::Running)).await;
    assert_eq!(calls.last().expect("a call").outcome, Outcome::Aborted);
    // Its end is written a moment after the vendor has seen the connection closed.
    while crate::compat::read(volt.http.delete(volt.url(place))).await.1["data"] != json!({ "cancelled": false }) {}

    volt.refused("/agents/assistant/chat", json!({ "input": "x", "options": { "resumableStream": true } }), 400).await;
}

#[tokio::test]
async fn a_chat_that_is_not_resumable_stops_with_its_reader() {
    let (hub, vendor) = Hub::with_vendor(&[ANONYMOUS, ("MODEL_ID", "m")]).await;
    let volt = Caller::of(&hub);
    let mut response = volt.request("/agents/assistant/chat", &json!({ "input": "/pace 10 /tokens 5000" })).send().await.expect("a stream");
    until(&mut response, "text-delta").await;
    drop(response);
    let calls = vendor.until(|calls| calls.iter().all(|call| call.outcome != Outcome::Running)).await;
    assert_eq!(calls.last().expect("a call").outcome, Outcome::Aborted);
}
