//! What is said is what is heard, and nothing else is sent.

use agent_hub::provider::{ProviderErrorKind, ToolSpec};
use agent_hub_load::vendor::{Outcome, ScriptedCall};
use serde_json::{Value, json};

use super::*;

fn tool(name: &str) -> ToolSpec {
    ToolSpec { name: name.into(), description: "finds things".into(), parameters: json!({ "type": "object", "properties": {} }) }
}

fn result(call: &ModelToolCall, content: &str) -> ModelMessage {
    ModelMessage::ToolResult { call_id: call.call_id.clone(), tool: call.tool.clone(), content: content.into(), is_error: false }
}

#[tokio::test]
async fn text_arrives_exactly() {
    for kind in KINDS {
        let fake = fake(Script::default()).await;
        let heard = hear(&kind.at(&fake), ask("/echo Grüße,  \"two\" spaces → \\n 漢字")).await;
        assert_eq!(heard.text, "Grüße,  \"two\" spaces → \\n 漢字", "{kind:?}");
        let end = heard.end.unwrap();
        assert_eq!((end.input_tokens, end.output_tokens, end.truncated), (7, 7, false), "{kind:?}");
        assert_eq!(fake.counters().finished, 1);
    }
}

#[tokio::test]
async fn a_fast_answer_arrives_whole() {
    for kind in KINDS {
        let fake = fake(Script { tokens: 20_000, ..Script::default() }).await;
        let mut request = ask("go");
        request.options.insert("maxTokens".into(), 30_000.into());
        let heard = hear(&kind.at(&fake), request).await;
        assert_eq!(heard.text.split_whitespace().count(), 20_000, "{kind:?} {:?}", heard.error);
    }
}

#[tokio::test]
async fn reasoning_is_not_text() {
    for kind in KINDS {
        let fake = fake(Script::default()).await;
        let heard = hear(&kind.at(&fake), ask("/reason 3 /echo said")).await;
        assert_eq!((heard.reasoning.as_str(), heard.text.as_str()), ("Once upon a ", "said"), "{kind:?}");
    }
}

#[tokio::test]
async fn tool_calls_make_the_round() {
    for kind in KINDS {
        let fake = fake(Script::default()).await;
        let provider = kind.at(&fake);
        let prompt = r#"/tool web_search {"query": "größe → \"x\"", "deep": {"n": [1, 2]}} /tool now /echo found"#;
        let mut request = ModelRequest { tools: vec![tool("web_search"), tool("now")], ..ask(prompt) };
        let mut called = Vec::new();
        let last = loop {
            let heard = hear(&provider, request.clone()).await;
            assert!(heard.error.is_none(), "{kind:?} {heard:?}");
            let Some(call) = heard.calls.first() else { break heard };
            request.messages.push(ModelMessage::Assistant { text: heard.text.clone(), tool_calls: heard.calls.clone() });
            request.messages.push(result(call, "42"));
            called.push((call.tool.clone(), call.arguments.clone()));
        };
        let arguments = json!({ "query": "größe → \"x\"", "deep": { "n": [1, 2] } });
        assert_eq!(called, [("web_search".to_owned(), arguments), ("now".to_owned(), json!({}))], "{kind:?}");
        assert_eq!(last.text, "found");
    }
}

#[tokio::test]
async fn parallel_calls_and_their_results_are_accepted() {
    for kind in KINDS {
        let fake = fake(Script::default()).await;
        let provider = kind.at(&fake);
        let mut request = ask(r#"/parallel /tool a {"n": 1} /tool b {"n": 2} /echo both"#);
        let heard = hear(&provider, request.clone()).await;
        let names: Vec<_> = heard.calls.iter().map(|call| (call.tool.as_str(), call.arguments["n"].clone())).collect();
        assert_eq!(names, [("a", json!(1)), ("b", json!(2))], "{kind:?}");
        assert_ne!(heard.calls[0].call_id, heard.calls[1].call_id);
        request.messages.push(ModelMessage::Assistant { text: String::new(), tool_calls: heard.calls.clone() });
        request.messages.extend(heard.calls.iter().map(|call| result(call, "")));
        assert_eq!(hear(&provider, request).await.text, "both", "{kind:?}");
    }
}

#[tokio::test]
async fn a_conversation_with_all_its_shapes_is_accepted() {
    let call = |id: &str, arguments| ModelToolCall { call_id: id.into(), tool: "t".into(), arguments };
    let failed = ModelMessage::ToolResult { call_id: "2".into(), tool: "t".into(), content: "cancelled".into(), is_error: true };
    let (first, second) = (call("1", json!({ "a": 1 })), call("2", json!("{\"a\": bro")));
    let messages = vec![
        user("hello"),
        ModelMessage::Assistant { text: "I will ".into(), tool_calls: vec![] },
        user("steer: be brief"),
        ModelMessage::Assistant { text: String::new(), tool_calls: vec![first.clone(), second] },
        result(&first, "one"),
        failed,
        user("context"),
        user("/echo fine"),
    ];
    for kind in KINDS {
        let fake = fake(Script::default()).await;
        let request = ModelRequest { messages: messages.clone(), instructions: Some("Be kind.".into()), ..ModelRequest::default() };
        let heard = hear(&kind.at(&fake), request).await;
        assert_eq!(heard.text, "fine", "{kind:?} {:?} {:#}", heard.error, fake.calls()[0].body);
    }
}

#[tokio::test]
async fn model_names_are_sent_as_they_are() {
    for kind in KINDS {
        let fake = fake(Script::default()).await;
        let provider = kind.at(&fake);
        let names = ["gpt-x-high", "ns::model", "o-max", "claude-y-low", "a/b:c@d", "model-zero", "anthropic::claude-max"];
        for name in names {
            let request = ModelRequest { model: Some(name.into()), ..ask("hi") };
            assert!(hear(&provider, request).await.end.is_some());
        }
        assert!(hear(&provider, ask("hi")).await.end.is_some());
        let calls = fake.calls();
        let sent: Vec<_> = calls.iter().map(|call| call.body["model"].as_str().unwrap()).collect();
        assert_eq!(sent, [&names[..], &["default-model"]].concat(), "{kind:?}");
        for extra in ["reasoning_effort", "thinking", "output_config"] {
            assert!(calls.iter().all(|call| call.body[extra] == Value::Null), "{kind:?} {extra}");
        }
    }
}

#[tokio::test]
async fn options_reach_the_vendor_under_its_names() {
    let options = json!({ "temperature": 0.5, "topP": 0.9, "maxOutputTokens": 7, "stop": "END", "seed": 3, "frobnicate": true });
    for kind in KINDS {
        let fake = fake(Script::default()).await;
        let request = ModelRequest { options: options.as_object().unwrap().clone(), ..ask("/tokens 9") };
        let heard = hear(&kind.at(&fake), request).await;
        assert!(heard.end.unwrap().truncated, "{kind:?}");
        let body = fake.calls()[0].body.clone();
        assert_eq!((&body["temperature"], &body["top_p"], &body["max_tokens"]), (&json!(0.5), &json!(0.9), &json!(7)));
        let (stop, seed) = if kind == Kind::OpenAi { ("stop", json!(3)) } else { ("stop_sequences", Value::Null) };
        assert_eq!((&body[stop], &body["seed"], &body["frobnicate"]), (&json!(["END"]), &seed, &Value::Null));
    }
}

#[tokio::test]
async fn renamed_limits_are_used_where_they_are_known() {
    let fake = fake(Script::default()).await;
    let mut request = ModelRequest { model: Some("openai/gpt-5-mini".into()), ..ask("hi") };
    request.options.insert("maxTokens".into(), 7.into());
    assert!(hear(&Kind::OpenAi.at(&fake), request).await.end.is_some());
    assert_eq!(fake.calls()[0].body["max_completion_tokens"], json!(7));
}

#[tokio::test]
async fn the_base_url_may_end_with_a_slash() {
    for kind in KINDS {
        let fake = fake(Script::default()).await;
        for base_url in [fake.base_url(), format!("{}/", fake.base_url())] {
            assert!(hear(&kind.provider(kind.config(base_url)), ask("hi")).await.end.is_some());
        }
    }
}

#[tokio::test]
async fn servers_at_home_need_no_key() {
    let fake = FakeVendor::start(FakeVendorConfig::default()).await.unwrap();
    let config = VendorConfig { api_key: None, ..Kind::OpenAi.config(fake.base_url()) };
    assert!(hear(&Kind::OpenAi.provider(config), ask("hi")).await.end.is_some());
}

#[tokio::test]
async fn dropping_the_stream_closes_the_connection() {
    // Talking, silent in the middle, and not even answering yet.
    for prompt in ["/pace 5 /tokens 100000", "/hang 2", "/fault hang-headers"] {
        for kind in KINDS {
            let fake = fake(Script::default()).await;
            let mut stream = kind.at(&fake).call(ask(prompt));
            if prompt.contains("headers") {
                assert!(tokio::time::timeout(Duration::from_millis(100), stream.next()).await.is_err());
            } else {
                within(stream.next()).await.unwrap().unwrap();
                within(stream.next()).await.unwrap().unwrap();
            }
            within(fake.until(|calls| calls.len() == 1)).await;
            assert_eq!(fake.counters().running, 1, "{kind:?} {prompt}");
            drop(stream);
            let calls = within(fake.until(|calls| calls[0].outcome != Outcome::Running)).await;
            assert_eq!(calls[0].outcome, Outcome::Aborted, "{kind:?} {prompt}");
            assert!(calls[0].tokens_sent < 1000, "{kind:?} {prompt}");
        }
    }
}

#[tokio::test]
async fn nothing_is_sent_before_the_stream_is_polled() {
    let fake = fake(Script::default()).await;
    let stream = Kind::OpenAi.at(&fake).call(ask("hi"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(stream);
    assert_eq!(fake.counters().calls, 0);
}

#[tokio::test]
async fn what_the_vendor_refuses_is_reported_with_its_status() {
    for kind in KINDS {
        let config = FakeVendorConfig { api_key: Some("another".into()), ..FakeVendorConfig::default() };
        let fake = FakeVendor::start(config).await.unwrap();
        let error = hear(&kind.at(&fake), ask("hi")).await.error.unwrap();
        assert_eq!(error.kind, ProviderErrorKind::Status(401), "{kind:?}");
        assert!(!error.message.contains(KEY));

        let config = FakeVendorConfig { models: vec!["only".into()], ..FakeVendorConfig::default() };
        let fake = FakeVendor::start(config).await.unwrap();
        let error = hear(&kind.at(&fake), ask("hi")).await.error.unwrap();
        assert_eq!(error.kind, ProviderErrorKind::Status(404), "{kind:?}");

        // An unanswered call: the runtime's mistake, and both vendors refuse it.
        let fake = self::fake(Script::default()).await;
        let call = ModelToolCall { call_id: "1".into(), tool: "t".into(), arguments: json!({}) };
        let mut request = ask("hi");
        request.messages.push(ModelMessage::Assistant { text: String::new(), tool_calls: vec![call] });
        request.messages.push(user("go on"));
        let error = hear(&kind.at(&fake), request).await.error.unwrap();
        assert_eq!(error.kind, ProviderErrorKind::Status(400), "{kind:?}");
    }
}

#[tokio::test]
async fn scripts_may_be_given_instead_of_directives() {
    let call = ScriptedCall { tool: "t".into(), arguments: json!({ "x": 1 }) };
    let fake = fake(Script { calls: vec![call], ..Script::default() }).await;
    let heard = hear(&Kind::Anthropic.at(&fake), ask("hi")).await;
    assert_eq!((heard.calls.len(), heard.text.as_str()), (1, ""));
}
