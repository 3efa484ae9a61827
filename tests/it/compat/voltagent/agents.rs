//! Agents: listed, described, asked for text and for objects, whole and in streams, and hung up on.

use std::time::Duration;

use agent_hub_load::vendor::{Outcome, Script};
use serde_json::{Value, json};

use crate::compat::{ANONYMOUS, Caller, types, until};
use crate::harness::Hub;

const PERSON: &str = r#"{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"number"}},"required":["name","age"]}"#;

fn person() -> Value {
    serde_json::from_str(PERSON).expect("JSON")
}

#[tokio::test]
async fn agents_are_listed_and_described() {
    let hub = Hub::start(&[
        ANONYMOUS,
        ("AGENT_HUB_AGENTS__SUPPORT__DESCRIPTION", "Helps"),
        ("AGENT_HUB_AGENTS__SUPPORT__INSTRUCTIONS", "Be kind."),
        ("AGENT_HUB_AGENTS__SUPPORT__SUB_AGENTS", "assistant"),
    ])
    .await;
    let volt = Caller::of(&hub);
    let (status, all) = volt.get("/agents").await;
    assert_eq!((status, &all["success"]), (200, &json!(true)));
    let support = all["data"].as_array().expect("a list").iter().find(|agent| agent["id"] == "support").expect("it").clone();
    for (field, value) in [
        ("name", json!("support")),
        ("description", json!("Helps")),
        ("status", json!("idle")),
        ("tools", json!([])),
        ("isTelemetryEnabled", json!(false)),
    ] {
        assert_eq!(support[field], value, "{field}");
    }
    assert_eq!(support["subAgents"][0]["id"], "assistant");
    assert!(support["memory"]["available"].is_boolean() && support["model"].is_string(), "{support}");
    let (status, one) = volt.get("/agents/support").await;
    assert_eq!((status, &one["data"]["instructions"]), (200, &json!("Be kind.")));
    let (status, none) = volt.get("/agents/nobody").await;
    assert_eq!((status, &none["success"], &none["error"]), (404, &json!(false), &json!("Agent not found")));
}

#[tokio::test]
async fn text_is_generated_with_everything_the_table_of_options_says() {
    let (hub, vendor) = Hub::with_vendor(&[ANONYMOUS, ("MODEL_ID", "m")]).await;
    let volt = Caller::of(&hub);
    vendor.set_script(Script { echo: Some("A joke.".into()), ..Script::default() });
    let data = volt.ok("/agents/assistant/text", json!({ "input": "Tell me a joke!" })).await;
    assert_eq!(
        (&data["text"], &data["finishReason"], &data["toolCalls"], &data["userContext"]),
        (&json!("A joke."), &json!("stop"), &json!([]), &json!({}))
    );
    let usage = &data["usage"];
    assert_eq!(usage["totalTokens"].as_u64(), Some(usage["promptTokens"].as_u64().unwrap() + usage["completionTokens"].as_u64().unwrap()));
    // The defaults of the table.
    let sent = vendor.calls().last().expect("a call").body.clone();
    assert_eq!((&sent["temperature"], &sent["max_tokens"], &sent["top_p"]), (&json!(0.7), &json!(4000), &Value::Null));

    let options = json!({
        "userId": "user-123", "conversationId": "c", "contextLimit": 3, "maxSteps": 5, "temperature": 0.8, "maxTokens": 500, "topP": 0.9,
        "frequencyPenalty": 1.5, "presencePenalty": 0.5, "seed": 7, "stopSequences": ["END"], "extraOptions": { "logit_bias": { "1": 2 } },
        "userContext": { "role": "admin", "tier": "enterprise" }
    });
    let data = volt.ok("/agents/assistant/text", json!({ "input": "I need help", "options": options })).await;
    assert_eq!(data["userContext"], json!({ "role": "admin", "tier": "enterprise" }));
    let sent = vendor.calls().last().expect("a call").body.clone();
    for (field, value) in [
        ("temperature", json!(0.8)),
        ("max_tokens", json!(500)),
        ("top_p", json!(0.9)),
        ("frequency_penalty", json!(1.5)),
        ("presence_penalty", json!(0.5)),
        ("seed", json!(7)),
        ("stop", json!(["END"])),
        ("logit_bias", json!({ "1": 2 })),
        ("stream", json!(true)),
    ] {
        assert_eq!(sent[field], value, "{field}");
    }
    // A conversation is remembered, for whoever it belongs to.
    volt.ok("/agents/assistant/text", json!({ "input": "And again", "options": { "userId": "user-123", "conversationId": "c" } })).await;
    let messages = vendor.calls().last().expect("a call").body["messages"].as_array().expect("messages").clone();
    let said: Vec<&str> =
        messages.iter().filter(|message| message["role"] == "user").filter_map(|message| message["content"].as_str()).collect();
    assert_eq!(said, ["I need help", "And again"]);
    volt.ok("/agents/assistant/text", json!({ "input": "Who am I?", "options": { "userId": "another", "conversationId": "c" } })).await;
    let messages = vendor.calls().last().expect("a call").body["messages"].as_array().expect("messages").len();
    assert_eq!(messages, 1, "another user's conversation of the same name is another one");

    // Messages instead of a text: what was said before goes with it.
    let input = json!([{ "role": "system", "content": "Be brief." }, { "role": "user", "content": [{ "type": "text", "text": "One" }] }, { "role": "assistant", "content": "Two" }, { "role": "user", "content": "Three?" }]);
    volt.ok("/agents/assistant/text", json!({ "input": input })).await;
    let messages = vendor.calls().last().expect("a call").body["messages"].clone();
    assert_eq!(messages[1]["content"], "Three?");
    assert!(
        ["system: Be brief.", "user: One", "assistant: Two"].iter().all(|text| messages[0]["content"].as_str().unwrap().contains(text)),
        "{messages}"
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_a_text_and_a_list() {
    let hub = Hub::start(&[ANONYMOUS]).await;
    let volt = Caller::of(&hub);
    for path in ["text", "stream", "object", "stream-object", "chat"] {
        let (status, none) = volt.post(&format!("/agents/nobody/{path}"), json!({ "input": "x", "schema": person() })).await;
        assert_eq!((status, &none["error"]), (404, &json!("Agent not found")), "{path}");
        let path = format!("/agents/assistant/{path}");
        volt.refused(&path, json!({ "schema": person() }), 400).await;
        volt.refused(&path, json!({ "input": 7, "schema": person() }), 400).await;
        volt.refused(
            &path,
            json!({ "input": [{ "role": "user", "content": [{ "type": "image", "image": "x" }] }], "schema": person() }),
            400,
        )
        .await;
        for (name, value) in [
            ("temperature", json!(1.1)),
            ("temperature", json!("hot")),
            ("topP", json!(-0.1)),
            ("maxTokens", json!(0)),
            ("maxSteps", json!(0)),
            ("frequencyPenalty", json!(2.1)),
            ("presencePenalty", json!(-1)),
            ("contextLimit", json!(-1)),
            ("stopSequences", json!(7)),
            ("userContext", json!("x")),
            ("seed", json!(1.5)),
        ] {
            let (status, body) = volt.post(&path, json!({ "input": "x", "schema": person(), "options": { name: value } })).await;
            assert_eq!(status, 400, "{name}: {body}");
            assert!(body["error"].as_str().expect("a text").starts_with(name), "{body}");
            assert_eq!(body["details"]["issues"][0]["field"], format!("options.{name}"));
        }
    }
    let said = volt.refused("/agents/assistant/object", json!({ "input": "x" }), 400).await;
    assert!(said.contains("schema"), "{said}");
    let said = volt.refused("/agents/assistant/object", json!({ "input": "x", "schema": { "type": "nonsense" } }), 400).await;
    assert!(said.contains("not a valid JSON Schema"), "{said}");
    let malformed =
        volt.http.post(volt.url("/agents/assistant/text")).header("content-type", "application/json").body("{").send().await.unwrap();
    assert_eq!(malformed.status(), 400);
    let body: Value = serde_json::from_str(&malformed.text().await.unwrap()).expect("JSON on every path");
    assert_eq!(body["success"], json!(false));
}

#[tokio::test]
async fn a_stream_has_the_text_in_pieces_and_ends_with_finish_and_completion() {
    let hub = Hub::start(&[
        ANONYMOUS,
        ("AGENT_HUB_TOOLS__CODE_EXECUTION__ENABLED", "true"),
        ("AGENT_HUB_AGENTS__ASSISTANT__TOOLS", "code_execution"),
    ])
    .await;
    let volt = Caller::of(&hub);
    let seen = volt
        .blocks("/agents/assistant/stream", json!({ "input": "/reason 3 /tool code_execution {\"code\": \"6*7\"} /echo forty two" }))
        .await;
    assert!(seen.iter().all(|block| block["timestamp"].as_str().is_some_and(|at| at.ends_with('Z'))), "{seen:?}");
    let text: String = seen.iter().filter(|block| block["type"] == "text").filter_map(|block| block["text"].as_str()).collect();
    assert_eq!(text, "forty two");
    let call = seen.iter().find(|block| block["type"] == "tool-call").expect("a call");
    assert_eq!((&call["toolCall"]["toolName"], &call["toolCall"]["args"]), (&json!("code_execution"), &json!({ "code": "6*7" })));
    let result = seen.iter().find(|block| block["type"] == "tool-result").expect("a result");
    assert_eq!(
        (&result["toolResult"]["toolCallId"], &result["toolResult"]["result"]["result"]),
        (&call["toolCall"]["toolCallId"], &json!(42))
    );
    assert!(types(&seen).contains(&"reasoning"));
    let [.., finish, completion] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((&finish["type"], &finish["finishReason"]), (&json!("finish"), &json!("stop")));
    assert!(finish["usage"]["totalTokens"].as_u64().is_some());
    assert_eq!((&completion["type"], &completion["done"]), (&json!("completion"), &json!(true)));

    // A tool that fails is no end.
    let seen =
        volt.blocks("/agents/assistant/stream", json!({ "input": "/tool code_execution {\"code\": \"throw 1\"} /echo on we go" })).await;
    let result = seen.iter().find(|block| block["type"] == "tool-result").expect("a result");
    assert_eq!((&result["isError"], &result["code"]), (&json!(true), &json!("TOOL_ERROR")));
    assert_eq!(seen.last().expect("an end")["type"], "completion");

    // An error is the last word.
    let seen = volt.blocks("/agents/assistant/stream", json!({ "input": "/fail 401 after 2" })).await;
    let mut kinds = types(&seen);
    // How the text is cut is up to the network.
    kinds.dedup();
    assert_eq!(kinds, ["text", "error"]);
    let error = seen.last().expect("an end");
    assert!(error["error"].is_string() && error["code"] == "STREAM_ERROR", "{error}");
    let text = volt.refused("/agents/assistant/text", json!({ "input": "/fail 401" }), 500).await;
    assert!(!text.is_empty());
}

#[tokio::test]
async fn an_object_fits_its_schema_grows_in_the_stream_and_is_mended_where_it_does_not() {
    let (hub, vendor) = Hub::with_vendor(&[ANONYMOUS, ("MODEL_ID", "m")]).await;
    let volt = Caller::of(&hub);
    let ask = json!({ "input": "Extract the name and age from: John Doe is 30 years old.", "schema": person() });
    let says = |text: &str| Script { echo: Some(text.into()), ..Script::default() };
    let john = json!({ "name": "John Doe", "age": 30 });
    vendor.set_script(says("{\"name\": \"John Doe\", \"age\": 30}"));
    let data = volt.ok("/agents/assistant/object", ask.clone()).await;
    assert_eq!((&data["object"], &data["finishReason"]), (&john, &json!("stop")));
    let sent = vendor.calls().last().expect("a call").body.clone();
    assert_eq!(sent["response_format"]["json_schema"]["schema"], person());

    // Slowly, so that it is not all of it at once.
    vendor.set_script(Script { pace: Duration::from_millis(40), ..says("{\"name\": \"John Doe\", \"age\": 30}") });
    let seen = volt.blocks("/agents/assistant/stream-object", ask.clone()).await;
    let objects: Vec<&Value> = seen.iter().filter(|block| block["type"] == "object").map(|block| &block["object"]).collect();
    assert_eq!(*objects.last().expect("an object"), &john);
    assert!(objects.len() > 1 && objects[0]["age"].is_null(), "{objects:?}");
    assert_eq!(seen.last().expect("an end")["done"], json!(true));

    // One that does not fit is sent back, with the complaint; the next one counts.
    vendor.set_script(says("{\"name\": \"John Doe\", \"age\": 30}"));
    vendor.set_next_scripts([says("Sure! Here you are: {}"), says("```json\n{\"name\": \"John Doe\"}\n```")]);
    let before = vendor.calls().len();
    let seen = volt.blocks("/agents/assistant/stream-object", ask.clone()).await;
    assert_eq!(seen.iter().rfind(|block| block["type"] == "object").expect("an object")["object"], john);
    assert_eq!(types(&seen).iter().filter(|kind| **kind == "warning").count(), 2);
    let calls = vendor.calls();
    assert_eq!(calls.len() - before, 3);
    let told = calls.last().expect("a call").body["messages"].to_string();
    assert!(told.contains("\\\"age\\\" is a required property") || told.contains("age"), "{told}");

    // One that never fits is an error that says where.
    vendor.set_script(says("{\"name\": \"John Doe\", \"age\": \"thirty\"}"));
    let error = volt.refused("/agents/assistant/object", ask.clone(), 500).await;
    assert!(error.starts_with("Schema validation failed: /age"), "{error}");
    let seen = volt.blocks("/agents/assistant/stream-object", ask).await;
    let last = seen.last().expect("an end");
    assert!(
        last["error"].as_str().expect("a text").starts_with("Schema validation failed: /age") && last["code"] == "STREAM_ERROR",
        "{last}"
    );
}

#[tokio::test]
async fn the_offline_model_answers_with_objects_too() {
    let hub = Hub::start(&[ANONYMOUS]).await;
    let volt = Caller::of(&hub);
    let data = volt.ok("/agents/assistant/object", json!({ "input": "Ada", "schema": person() })).await;
    assert!(data["object"]["name"].is_string() && data["object"]["age"].is_number(), "{data}");
}

#[tokio::test]
async fn who_hangs_up_stops_the_model_on_all_four_routes() {
    let (hub, vendor) = Hub::with_vendor(&[ANONYMOUS, ("MODEL_ID", "m")]).await;
    let volt = Caller::of(&hub);
    for path in ["text", "object", "stream", "stream-object"] {
        let before = vendor.calls().len();
        let body = json!({ "input": "/pace 20 /tokens 5000", "schema": person() });
        let request = volt.request(&format!("/agents/assistant/{path}"), &body).send();
        let hang_up = async {
            vendor.until(|calls| calls.len() > before && calls.last().is_some_and(|call| call.tokens_sent > 3)).await;
        };
        if path.starts_with("stream") {
            let response = request.await.expect("a stream");
            hang_up.await;
            drop(response);
        } else {
            tokio::select! {
                answer = request => panic!("{path} was answered: {answer:?}"),
                () = hang_up => {}
            }
        }
        let calls = vendor.until(|calls| calls.iter().all(|call| call.outcome != Outcome::Running)).await;
        assert_eq!(calls.last().expect("a call").outcome, Outcome::Aborted, "{path}");
    }
    // The tasks have ended as cancelled, and say why.
    let (_, history) = volt.get("/agents/assistant/history?limit=10").await;
    let entries = history["data"]["entries"].as_array().expect("entries").clone();
    assert_eq!(entries.len(), 4);
    assert!(
        entries.iter().all(|entry| entry["status"] == "cancelled" && entry["error"]["message"] == "the client has disconnected"),
        "{entries:?}"
    );
}

#[tokio::test]
async fn history_is_paged_and_only_ones_own() {
    let hub = Hub::start(&[ANONYMOUS]).await;
    let volt = Caller::of(&hub);
    for n in 0..3 {
        volt.ok(
            "/agents/assistant/text",
            json!({ "input": format!("/pace 0 /echo answer {n}"), "options": { "userId": "u", "conversationId": "c" } }),
        )
        .await;
    }
    let (status, page) = volt.get("/agents/assistant/history?page=0&limit=2").await;
    assert_eq!((status, &page["data"]["pagination"]), (200, &json!({ "page": 0, "limit": 2, "total": 3, "totalPages": 2 })));
    let first = &page["data"]["entries"][0];
    assert_eq!(
        (&first["output"], &first["status"], &first["userId"], &first["conversationId"]),
        (&json!("answer 2"), &json!("completed"), &json!("u"), &json!("c"))
    );
    assert!(first["startTime"].is_string() && first["endTime"].is_string());
    let (_, page) = volt.get("/agents/assistant/history?page=1&limit=2").await;
    assert_eq!(page["data"]["entries"].as_array().expect("entries").len(), 1);
    let (status, _) = volt.get("/agents/nobody/history").await;
    assert_eq!(status, 404);
    // Somebody with a token sees nothing of the guest's.
    let (status, body) = hub.http("GET", "/agents/assistant/history", "ada").await;
    assert_eq!((status, &body["data"]["pagination"]["total"]), (200, &json!(0)));
}

#[tokio::test]
async fn sub_agents_show_their_calls_and_share_the_steps() {
    let hub = Hub::start(&[
        ANONYMOUS,
        ("AGENT_HUB_TOOLS__CODE_EXECUTION__ENABLED", "true"),
        ("AGENT_HUB_AGENTS__COUNTER__TOOLS", "code_execution"),
        ("AGENT_HUB_AGENTS__BOSS__SUB_AGENTS", "counter"),
    ])
    .await;
    let volt = Caller::of(&hub);
    let inner = "/tool code_execution {\\\"code\\\": \\\"1+1\\\"} /echo two";
    let input = format!("/tool delegate_task {{\"agent\": \"counter\", \"task\": \"{inner}\"}} /echo done");
    let seen = volt.blocks("/agents/boss/stream", json!({ "input": input })).await;
    let of_counter: Vec<&Value> = seen.iter().filter(|block| block["subAgentName"] == "counter").collect();
    assert_eq!(of_counter.iter().map(|block| block["type"].as_str().unwrap()).collect::<Vec<_>>(), ["tool-call", "tool-result"]);
    assert!(of_counter[0]["subAgentId"].is_string());
    let text: String = seen.iter().filter_map(|block| block["text"].as_str()).collect();
    assert_eq!(text, "done", "what a sub-agent says is for the agent that asked it");
    let seen = volt.blocks("/agents/boss/stream", json!({ "input": input, "options": { "maxSteps": 2 } })).await;
    let error = seen.last().expect("an end");
    assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("ITERATION_ERROR")), "{seen:?}");
}

#[tokio::test]
async fn options_that_a_vendor_does_not_know_are_named() {
    let (hub, _vendor) = Hub::with_vendor(&[ANONYMOUS, ("MODEL_ID", "m")]).await;
    let volt = Caller::of(&hub);
    let seen = volt.blocks("/agents/assistant/stream", json!({ "input": "x", "options": { "topK": 7, "nonsense": true } })).await;
    let warning = seen.iter().find(|block| block["type"] == "warning").expect("a warning");
    assert!(warning["message"].as_str().expect("a text").contains("topK, nonsense"), "{warning}");
}

#[tokio::test]
async fn a_slow_stream_is_read_as_it_is_made() {
    let hub = Hub::start(&[ANONYMOUS]).await;
    let volt = Caller::of(&hub);
    let mut response =
        volt.request("/agents/assistant/stream", &json!({ "input": "/pace 50 /tokens 200" })).send().await.expect("a stream");
    let read = until(&mut response, "\"type\":\"text\"").await;
    assert!(!read.contains("finish"), "{read}");
}

#[tokio::test]
async fn a_request_with_a_key_is_answered_once_however_often_it_is_made() {
    let (hub, vendor) = Hub::with_vendor(&[ANONYMOUS]).await;
    let caller = Caller::of(&hub);
    let ask = |path: &str, key: &str, body: &Value| caller.request(path, body).header("Idempotency-Key", key).send();
    let body = json!({ "input": "/tokens 30 /pace 10" });
    let calls = || vendor.counters().calls;
    // The first answer is lost on its way; the second asks for the same.
    let lost = tokio::time::timeout(std::time::Duration::from_millis(150), ask("/agents/assistant/text", "k1", &body)).await;
    assert!(lost.is_err(), "it takes 300 ms to make");
    let (one, two) = tokio::join!(ask("/agents/assistant/text", "k1", &body), ask("/agents/assistant/text", "k1", &body));
    let one: Value = one.expect("an answer").json().await.expect("JSON");
    let two: Value = two.expect("an answer").json().await.expect("JSON");
    assert_eq!((&one["success"], &one), (&json!(true), &two));
    assert_eq!(calls(), 1);
    let streamed = ask("/agents/assistant/stream", "k2", &body).await.expect("an answer").text().await.expect("the stream");
    let again = ask("/agents/assistant/stream", "k2", &body).await.expect("an answer").text().await.expect("the stream");
    assert_eq!((streamed == again, calls()), (true, 2), "told again from the log");
    let other = ask("/agents/assistant/text", "k1", &json!({ "input": "something else" })).await.expect("an answer");
    assert_eq!(other.status(), 409);
    let long = ask("/agents/assistant/text", &"k".repeat(256), &body).await.expect("an answer");
    assert_eq!((long.status().as_u16(), calls()), (400, 2));
}
