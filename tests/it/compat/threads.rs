//! Threads: a history, messages with and without waiting, a cancel, a status.

use serde_json::{Value, json};

use super::{ANONYMOUS, Caller, until};
use crate::harness::Hub;

fn kinds(events: &[Value]) -> Vec<&str> {
    let mut kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().expect("a kind")).collect();
    kinds.dedup();
    kinds
}

#[tokio::test]
async fn a_thread_remembers_and_is_streamed() {
    let (hub, vendor) = Hub::with_vendor(&[
        ANONYMOUS,
        ("AGENT_HUB_AGENTS__ASSISTANT__INSTRUCTIONS", "Speak {{ userContext.language | default('English') }}."),
    ])
    .await;
    let caller = Caller::of(&hub);
    assert_eq!(caller.get("/history/trip").await, (200, json!([])));
    let ask = json!({"message": "/echo first answer", "thread_id": "trip", "user_context": {"language": "Latin"}});
    let events = caller.blocks("/chat", ask).await;
    assert_eq!(kinds(&events), ["on_chain_start", "on_chat_model_stream", "on_chain_end"]);
    let said: String = events.iter().filter_map(|event| event["data"]["chunk"]["content"].as_str()).collect();
    assert_eq!(said, "first answer");
    assert_eq!(events.last().expect("an end")["data"]["output"], "first answer");
    assert!(events.iter().all(|event| event["metadata"]["thread_id"] == "trip" && event["run_id"].is_string()));
    assert_eq!(vendor.calls().last().expect("a call").body["messages"][0]["content"], "Speak Latin.");

    // The same thread goes on, in the background; another one knows nothing of it.
    let (status, accepted) = caller.post("/run-task", json!({"message": "/echo second answer", "thread_id": "trip"})).await;
    assert_eq!((status, &accepted["status"], &accepted["thread_id"]), (200, &json!("accepted"), &json!("trip")), "{accepted}");
    let task = accepted["task_id"].as_str().expect("an id");
    let (_, ended) = hub.http("GET", &format!("/api/v1/agents/tasks/{task}?wait=20"), "guest").await;
    assert_eq!(ended["status"], "completed", "{ended}");
    let (_, history) = caller.get("/history/trip").await;
    let said: Vec<(&str, &str)> = history
        .as_array()
        .expect("a list")
        .iter()
        .map(|m| (m["type"].as_str().unwrap_or(""), m["content"].as_str().unwrap_or("")))
        .collect();
    let expected = [("human", "/echo first answer"), ("ai", "first answer"), ("human", "/echo second answer"), ("ai", "second answer")];
    assert_eq!(said, expected);
    assert_eq!(caller.get("/history/default_user").await.1, json!([]));
    let events = caller.blocks("/chat", json!({"message": "/tool nonsense {\"a\": 1} /echo by itself"})).await;
    assert_eq!(kinds(&events), ["on_chain_start", "on_tool_start", "on_tool_end", "on_chat_model_stream", "on_chain_end"], "{events:?}");
    let call = events.iter().find(|event| event["event"] == "on_tool_start").expect("a call");
    assert_eq!((&call["name"], &call["data"]["input"]), (&json!("nonsense"), &json!({"a": 1})));
    assert_eq!(caller.get("/history/default_user").await.1.as_array().map(Vec::len), Some(2));
    // Threads are their user's.
    let (_, foreign) = hub.http("GET", "/history/trip", "somebody-else").await;
    assert_eq!(foreign, json!([]));
}

#[tokio::test]
async fn a_thread_is_cancelled_and_heals_after_a_kill() {
    let mut hub = Hub::start(&[ANONYMOUS]).await;
    let caller = Caller::of(&hub);
    assert_eq!(caller.post("/threads/long/cancel", json!({})).await.0, 404);
    let mut response =
        caller.request("/chat", &json!({"message": "/tokens 5000 /pace 5", "thread_id": "long"})).send().await.expect("an answer");
    let begun = until(&mut response, "on_chat_model_stream").await;
    assert!(begun.starts_with("data: "), "{begun}");
    let (_, queued) = caller.post("/run-task", json!({"message": "/echo never", "thread_id": "long"})).await;
    let (status, cancelled) = caller.post("/threads/long/cancel", json!({})).await;
    assert_eq!((status, cancelled["task_ids"].as_array().map(Vec::len)), (202, Some(2)), "{cancelled}");
    let rest = response.text().await.expect("the rest");
    assert!(rest.contains("\"code\":\"cancelled\""), "the reader is told: {rest}");
    let path = format!("/api/v1/agents/tasks/{}?wait=20", queued["task_id"].as_str().expect("an id"));
    assert_eq!(hub.http("GET", &path, "guest").await.1["status"], "cancelled");
    assert_eq!(caller.post("/threads/long/cancel", json!({})).await.0, 409);

    // Killed in mid-step, the task goes on by itself.
    let (_, accepted) = caller.post("/run-task", json!({"message": "/tokens 60 /pace 20", "thread_id": "healed"})).await;
    let path = format!("/api/v1/agents/tasks/{}?wait=1", accepted["task_id"].as_str().expect("an id"));
    while hub.http("GET", &path, "guest").await.1["status"] != "running" {}
    hub.kill().await;
    hub.run().await;
    let ended = loop {
        let (_, task) = hub.http("GET", &path, "guest").await;
        if !task["completedAt"].is_null() {
            break task;
        }
    };
    assert_eq!((&ended["status"], &ended["attempt"]), (&json!("completed"), &json!(2)), "{ended}");
    let (_, history) = Caller::of(&hub).get("/history/healed").await;
    assert_eq!(history.as_array().map(Vec::len), Some(2), "{history}");
}

#[tokio::test]
async fn the_status_says_what_answers_and_a_refusal_comes_before_any_stream() {
    let (hub, _vendor) = Hub::with_vendor(&[ANONYMOUS]).await;
    let caller = Caller::of(&hub);
    let (code, status) = caller.get("/status").await;
    assert_eq!(
        (code, &status["status"], &status["store"]["ok"], &status["models"]["openai"]["ok"]),
        (200, &json!("ok"), &json!(true), &json!(true))
    );
    assert_eq!(status["running_tasks"], 0);
    for (body, code) in [
        (json!({}), "invalid_message"),
        (json!({"message": "x".repeat(10_001)}), "prompt_too_long"),
        (json!({"message": "a", "thread_id": ""}), "invalid_message"),
        (json!({"message": "a", "thread_id": "t".repeat(256)}), "invalid_message"),
        (json!({"message": "a", "user_context": "text"}), "invalid_message"),
    ] {
        for path in ["/chat", "/run-task"] {
            let (status, answer) = caller.post(path, body.clone()).await;
            assert_eq!((status, answer["code"].as_str()), (400, Some(code)), "{path}: {answer}");
        }
    }
    let too_long = caller.post("/chat", json!({"message": "x".repeat(10_001)})).await.1;
    assert!(too_long["error"].as_str().expect("text").contains("10000"), "{too_long}");

    // The vendor stops answering: those who look are told, before the next user is.
    for _ in 0..3 {
        caller.blocks("/chat", json!({"message": "/fail 500"})).await;
    }
    let (code, status) = caller.get("/status").await;
    assert_eq!((code, &status["status"], &status["models"]["openai"]["ok"]), (503, &json!("degraded"), &json!(false)), "{status}");
}

#[tokio::test]
async fn what_agents_need_besides_the_hub_is_looked_at() {
    let database = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let place = database.local_addr().expect("an address");
    let sick = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let sick_place = sick.local_addr().expect("an address");
    // Takes connections and never says a word: fine for `tcp`, too slow for `http`.
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = sick.accept().await {
            held.push(connection);
        }
    });
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let hub = Hub::start(&[
        ANONYMOUS,
        ("AGENT_HUB_DEPENDENCIES__VECTORS__URL", &format!("tcp://{place}")),
        ("AGENT_HUB_DEPENDENCIES__EMBEDDER__URL", &format!("http://{sick_place}/health")),
        ("AGENT_HUB_DEPENDENCIES__CRM__URL", &format!("http://{free}/")),
    ])
    .await;
    let (code, status) = Caller::of(&hub).get("/status").await;
    let expected = json!({
        "vectors": { "ok": true },
        "embedder": { "ok": false, "reason": "it does not answer in time" },
        "crm": { "ok": false, "reason": "it cannot be reached" }
    });
    assert_eq!((code, &status["status"], &status["dependencies"]), (200, &json!("degraded"), &expected));
    assert_eq!(hub.http("GET", "/ready", "ada").await.0, 200, "none of them is required");
    drop(hub);
    silent.abort();

    let mut hub = Hub::prepared(&[
        ANONYMOUS,
        ("AGENT_HUB_DEPENDENCIES__CRM__URL", &format!("http://{free}/")),
        ("AGENT_HUB_DEPENDENCIES__CRM__REQUIRED", "true"),
    ]);
    hub.run().await;
    let (code, ready) = hub.http("GET", "/ready", "ada").await;
    assert_eq!((code, &ready["reasons"]), (503, &json!(["crm: it cannot be reached"])), "{ready}");
    assert_eq!(Caller::of(&hub).get("/status").await.0, 503);
}
