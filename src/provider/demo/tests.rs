// Failing loudly is what a test is for.
#![allow(clippy::unwrap_used, clippy::panic)]

use futures::{FutureExt, StreamExt};
use serde_json::json;

use super::*;
use crate::provider::{ModelMessage, ModelToolCall};

fn user(text: &str) -> ModelMessage {
    ModelMessage::User(text.into())
}

fn request(messages: Vec<ModelMessage>) -> ModelRequest {
    ModelRequest { messages, ..ModelRequest::default() }
}

async fn play(request: ModelRequest) -> Vec<Result<ModelEvent, ProviderError>> {
    DemoProvider::default().call(request).collect().await
}

/// The whole text of a call that ends well.
async fn text(prompt: &str) -> String {
    let events = play(request(vec![user(prompt)])).await;
    assert!(matches!(events.last(), Some(Ok(ModelEvent::End(_)))));
    events.into_iter().filter_map(|event| if let Ok(ModelEvent::Text(text)) = event { Some(text) } else { None }).collect()
}

/// Runs a prompt to its end, answering every tool call with `result`; what was called and what was said last.
async fn converse(prompt: &str, result: &str) -> (Vec<ModelToolCall>, String) {
    let mut messages = vec![user(prompt)];
    let mut calls = Vec::new();
    loop {
        let events = play(request(messages.clone())).await;
        let call = events.iter().find_map(|event| if let Ok(ModelEvent::ToolCall(call)) = event { Some(call.clone()) } else { None });
        let Some(call) = call else {
            let said = events.into_iter().filter_map(|event| if let Ok(ModelEvent::Text(text)) = event { Some(text) } else { None });
            return (calls, said.collect());
        };
        messages.push(ModelMessage::Assistant { text: String::new(), tool_calls: vec![call.clone()] });
        let (call_id, tool) = (call.call_id.clone(), call.tool.clone());
        messages.push(ModelMessage::ToolResult { call_id, tool, content: result.into(), is_error: false });
        calls.push(call);
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_take_their_pace_without_drift() {
    let started = Instant::now();
    let events = play(request(vec![user("/pace 7 /tokens 1000")])).await;
    assert_eq!(events.len(), 1001);
    assert_eq!(started.elapsed(), Duration::from_millis(7000));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_finds_what_was_due_meanwhile() {
    let mut stream = DemoProvider::default().call(request(vec![user("/pace 10 /tokens 100")]));
    stream.next().await.unwrap().unwrap();
    tokio::time::advance(Duration::from_millis(500)).await;
    let mut ready = 0;
    while stream.next().now_or_never().is_some() {
        ready += 1;
    }
    assert_eq!(ready, 50);
}

#[tokio::test(start_paused = true)]
async fn pace_zero_takes_no_time_but_lets_others_run() {
    let other = tokio::spawn(async { tokio::task::yield_now().await });
    let started = Instant::now();
    let mut stream = DemoProvider::default().call(request(vec![user("/pace 0 /tokens 100000")]));
    let mut before_other = 0;
    while let Some(event) = stream.next().await {
        event.unwrap();
        if !other.is_finished() {
            before_other += 1;
        }
    }
    assert!(before_other < 10_000, "{before_other} tokens before anything else ran");
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn echo_is_exact() {
    assert_eq!(text("/echo  two  spaces,\n a line — and Ünïcödé  /pace 1").await, "two  spaces,\n a line — and Ünïcödé");
    let events = play(request(vec![user("/echo a b c")])).await;
    assert_eq!(events.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_friendly_answer_remembers() {
    let said = |text: &str| ModelMessage::Assistant { text: text.into(), tool_calls: vec![] };
    let events = play(request(vec![user("my name is Ada"), said("Hello Ada"), user("and now?")])).await;
    let text: String =
        events.iter().filter_map(|event| if let Ok(ModelEvent::Text(text)) = event { Some(text.as_str()) } else { None }).collect();
    assert!(text.contains("and now?") && text.contains("number 2") && text.contains("my name is Ada"), "{text}");
    assert!(events.iter().all(|event| !matches!(event, Ok(ModelEvent::Text(text)) if text.is_empty())));
}

#[tokio::test(start_paused = true)]
async fn the_same_request_gets_the_same_answer() {
    assert_eq!(text("what is a hub? /reason").await, text("what is a hub? /reason").await);
}

#[tokio::test(start_paused = true)]
async fn a_tool_is_called_and_its_result_used() {
    let (calls, said) = converse(r#"/tool web_search {"query": "rust"} please"#, "42 crabs").await;
    assert_eq!(calls, [ModelToolCall { call_id: "demo_1".into(), tool: "web_search".into(), arguments: json!({"query": "rust"}) }]);
    assert!(said.contains("42 crabs"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_question_is_asked_and_the_answer_used() {
    let (calls, said) = converse("/ask Which colour?", r#"{"answer": "blue"}"#).await;
    assert_eq!((calls[0].tool.as_str(), &calls[0].arguments), ("ask_user", &json!({"question": "Which colour?"})));
    assert!(said.starts_with("You said: blue."), "{said}");
}

#[tokio::test(start_paused = true)]
async fn steps_have_ids_of_their_own() {
    let (calls, said) = converse("/steps 3 /echo done", "ok").await;
    let ids: Vec<_> = calls.iter().map(|call| call.call_id.as_str()).collect();
    assert_eq!(ids, ["demo_1", "demo_2", "demo_3"]);
    assert_eq!(said, "done");
}

#[tokio::test(start_paused = true)]
async fn failures_come_where_they_were_asked_for() {
    let events = play(request(vec![user("/fail 429")])).await;
    assert!(matches!(&events[..], [Err(error)] if error.kind == ProviderErrorKind::Status(429) && error.retry_after.is_some()));
    let events = play(request(vec![user("/fail 500 after 10 /tokens 50")])).await;
    assert_eq!(events.len(), 11);
    assert!(events[10].is_err());
}

#[tokio::test(start_paused = true)]
async fn a_hang_is_for_ever() {
    let mut stream = DemoProvider::default().call(request(vec![user("/hang 2")]));
    stream.next().await.unwrap().unwrap();
    stream.next().await.unwrap().unwrap();
    let hour = tokio::time::timeout(Duration::from_secs(3600), stream.next()).await;
    assert!(hour.is_err());
}

#[tokio::test(start_paused = true)]
async fn reasoning_comes_first_and_counts() {
    let events = play(request(vec![user("/reason 3 /tokens 2 x y")])).await;
    let shape: String = events
        .iter()
        .map(|event| match event.as_ref().unwrap() {
            ModelEvent::Reasoning(_) => 'r',
            ModelEvent::Text(_) => 't',
            ModelEvent::ToolCall(_) => 'c',
            ModelEvent::End(end) => {
                assert_eq!((end.input_tokens, end.output_tokens, end.truncated), (6, 5, false));
                '.'
            }
        })
        .collect();
    assert_eq!(shape, "rrrtt.");
}

#[tokio::test(start_paused = true)]
async fn the_limit_cuts_and_says_so() {
    let mut cut = request(vec![user("/tokens 100")]);
    cut.options.insert("maxOutputTokens".into(), json!(4));
    let events = play(cut).await;
    assert_eq!(events.len(), 5);
    assert!(matches!(&events[4], Ok(ModelEvent::End(end)) if end.truncated));
}

#[tokio::test]
async fn stamps_tell_the_time() {
    let text = text("/stamp /tokens 3 /pace 0").await;
    let stamps: Vec<u128> = text.split_whitespace().map(|stamp| stamp.parse().unwrap()).collect();
    assert_eq!(stamps.len(), 3);
    assert!(stamps.is_sorted() && nanos_since_epoch() - stamps[0] < 60_000_000_000);
}
