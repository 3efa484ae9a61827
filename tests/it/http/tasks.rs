//! Beyond the first API: lists, pages, repetition, steering, waiting.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Server, read};

#[tokio::test]
async fn a_repeated_request_has_one_effect() {
    let hub = Server::start(&[("AGENT_HUB_LIMITS", "off")]).await;
    let send = async |path: &str, key: &str, body: Value| {
        let request = hub.as_user("u", Method::POST, path).header("idempotency-key", key).json(&body);
        read(request.send().await.unwrap()).await
    };
    let sessions = "/api/v1/agents/sessions";
    let (status, first) = send(sessions, "k1", json!({"name":"a"})).await;
    assert_eq!(status, 201);
    let (status, again) = send(sessions, "k1", json!({"name":"a"})).await;
    assert_eq!((status, &again["id"], &again["createdAt"]), (201, &first["id"], &first["createdAt"]));
    let (status, other) = send(sessions, "k1", json!({"tools":[]})).await;
    assert_eq!((status, &other["code"]), (409, &json!("idempotency_conflict")));
    let (_, body) = hub.get("u", sessions).await;
    assert_eq!(body["sessions"].as_array().unwrap().len(), 1);

    let tasks = format!("{sessions}/{}/tasks", first["id"].as_str().unwrap());
    let (status, task) = send(&tasks, "k1", json!({"prompt":"hello"})).await;
    assert_eq!(status, 202, "the same key names another thing on another route");
    hub.ended("u", task["taskId"].as_str().unwrap()).await;
    let (status, again) = send(&tasks, "k1", json!({"prompt":"hello"})).await;
    assert_eq!((status, &again["taskId"], &again["status"]), (202, &task["taskId"], &json!("completed")));
    let (status, other) = send(&tasks, "k1", json!({"prompt":"bye"})).await;
    assert_eq!((status, &other["code"]), (409, &json!("idempotency_conflict")));
    let (status, body) = send(&tasks, &"k".repeat(256), json!({"prompt":"hello"})).await;
    assert_eq!((status, &body["details"][0]["field"]), (400, &json!("Idempotency-Key")));
}

#[tokio::test]
async fn sessions_are_listed_by_page_and_changed() {
    let hub = Server::start(&[("AGENT_HUB_LIMITS", "off")]).await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(hub.session("u").await);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    hub.session("other").await;
    let (mut seen, mut before) = (Vec::new(), String::new());
    loop {
        let (status, page) = hub.get("u", &format!("/api/v1/agents/sessions?limit=2{before}")).await;
        assert_eq!(status, 200);
        seen.extend(page["sessions"].as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        before = format!("&before={next}");
    }
    made.reverse();
    assert_eq!(seen, made);

    let path = format!("/api/v1/agents/sessions/{}", made[0]);
    let change = json!({"name":"renamed","tags":["a"],"metadata":{"k":1}});
    let (status, body) = hub.ask("u", Method::PATCH, &path, change).await;
    assert_eq!((status, &body["name"], &body["tags"], &body["metadata"]), (200, &json!("renamed"), &json!(["a"]), &json!({"k":1})));
    let (status, body) = hub.ask("u", Method::PATCH, &path, json!({"name":"x".repeat(500)})).await;
    assert_eq!((status, &body["details"][0]["field"]), (400, &json!("name")));
    assert_eq!(hub.get("u", &path).await.1["name"], "renamed");
}

#[tokio::test]
async fn messages_by_page() {
    let hub = Server::start(&[("AGENT_HUB_LIMITS", "off")]).await;
    let session = hub.session("u").await;
    for n in 0..3 {
        let task = hub.task("u", &session, &format!("/echo answer{n}")).await;
        hub.ended("u", &task).await;
    }
    let path = format!("/api/v1/agents/sessions/{session}/messages");
    let (status, page) = hub.get("u", &format!("{path}?limit=4")).await;
    assert_eq!(status, 200);
    let newest = page["messages"].as_array().unwrap().clone();
    assert_eq!(newest.len(), 4);
    let next = page["next"].as_str().unwrap();
    let (_, page) = hub.get("u", &format!("{path}?limit=4&before={next}")).await;
    let oldest = page["messages"].as_array().unwrap().clone();
    assert!(page["next"].is_null());
    let texts: Vec<&str> =
        oldest.iter().chain(&newest).filter(|m| m["role"] == "assistant").map(|m| m["content"].as_str().unwrap()).collect();
    assert_eq!(texts, ["answer0", "answer1", "answer2"]);
}

#[tokio::test]
async fn a_poll_can_wait() {
    let hub = Server::start(&[("AGENT_HUB_LIMITS", "off")]).await;
    let session = hub.session("u").await;
    let task = hub.task("u", &session, "/hang 2").await;
    let path = format!("/api/v1/agents/tasks/{task}");
    while hub.get("u", &path).await.1["status"] != "running" {}
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    assert_eq!(hub.get("u", &format!("{path}?wait=1")).await.1["status"], "running");
    assert!(began.elapsed() >= Duration::from_millis(900));
    let poll = hub.as_user("u", Method::GET, &format!("{path}?wait=30")).send();
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        hub.post("u", &format!("{path}/cancel"), Value::Null).await
    };
    let (polled, _) = tokio::join!(poll, cancel);
    let (_, body) = read(polled.unwrap()).await;
    assert!(body["cancelRequested"] == true || body["status"] == "cancelled", "{body}");
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(hub.ended("u", &task).await["status"], "cancelled");
}

#[tokio::test]
async fn steer_ask_respond_suspend_resume() {
    let hub = Server::start(&[("AGENT_HUB_LIMITS", "off")]).await;
    let session = hub.session("u").await;
    let task = hub.task("u", &session, "/tokens 5000 /pace 20").await;
    let path = format!("/api/v1/agents/tasks/{task}");
    while hub.get("u", &path).await.1["status"] != "running" {}
    let (status, body) = hub.post("u", &format!("{path}/steer"), json!({"input":"/echo short","when":"now"})).await;
    assert_eq!((status, &body["taskId"], &body["status"]), (202, &json!(task), &json!("accepted")));
    assert_eq!(hub.ended("u", &task).await["result"], "short");
    let (status, body) = hub.post("u", &format!("{path}/steer"), json!({"input":"late"})).await;
    assert_eq!((status, &body["code"]), (409, &json!("already_terminal")));

    let task = hub.task("u", &session, "/ask Which colour?").await;
    let path = format!("/api/v1/agents/tasks/{task}");
    while hub.get("u", &path).await.1["status"] != "suspended" {}
    let (_, view) = hub.get("u", &format!("/api/v1/agents/sessions/{session}")).await;
    let request = view["pendingInputs"][0]["requestId"].clone();
    assert!(request.is_string(), "{view}");
    let (status, body) = hub.post("u", &format!("{path}/respond"), json!({"requestId":request})).await;
    assert_eq!((status, &body["details"][0]["field"]), (400, &json!("outcome")));
    let answer = json!({"requestId":request,"outcome":"accept","payload":"blue"});
    assert_eq!(hub.post("u", &format!("{path}/respond"), answer.clone()).await.0, 202);
    assert!(hub.ended("u", &task).await["result"].as_str().unwrap().contains("blue"));
    let (status, body) = hub.post("u", &format!("{path}/respond"), answer).await;
    assert_eq!(status, 409, "{body}");

    let task = hub.task("u", &session, "/tokens 300 /pace 5").await;
    let path = format!("/api/v1/agents/tasks/{task}");
    while hub.get("u", &path).await.1["status"] != "running" {}
    let (status, body) = hub.post("u", &format!("{path}/suspend"), json!({"reason":"lunch"})).await;
    assert_eq!(status, 202, "{body}");
    while hub.get("u", &path).await.1["status"] != "suspended" {}
    assert_eq!(hub.post("u", &format!("{path}/resume"), json!({})).await.0, 202);
    assert_eq!(hub.ended("u", &task).await["status"], "completed");
}

#[tokio::test]
async fn busy_sessions() {
    let hub = Server::start(&[("AGENT_HUB_LIMITS", "off")]).await;
    let session = hub.session("u").await;
    let first = hub.task("u", &session, "/hang 1").await;
    let tasks = format!("/api/v1/agents/sessions/{session}/tasks");
    let (status, body) = hub.post("u", &tasks, json!({"prompt":"x","onBusy":"reject"})).await;
    assert_eq!((status, &body["code"]), (409, &json!("busy")));
    let (status, second) = hub.post("u", &tasks, json!({"prompt":"/echo two","onBusy":"interrupt","context":"some document"})).await;
    assert_eq!(status, 202);
    assert_eq!(hub.ended("u", &first).await["status"], "cancelled");
    assert_eq!(hub.ended("u", second["taskId"].as_str().unwrap()).await["result"], "two");
}
