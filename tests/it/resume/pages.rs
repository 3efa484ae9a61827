//! The conversation by page is the conversation of the snapshots, whatever has happened to its tasks.

use serde_json::{Value, json};

use crate::harness::{Client, Hub};

const STORES: [&[(&str, &str)]; 2] =
    [&[("STORAGE_TYPE", "sqlite"), ("STORAGE_PATH", "data/hub.db")], &[("STORAGE_TYPE", "file"), ("STORAGE_PATH", "data/log")]];

#[tokio::test]
async fn pages_show_what_snapshots_show() {
    for settings in STORES {
        let mut hub = Hub::start(settings).await;
        let (mut ada, session) = hub.session("ada").await;
        ada.run("/pace 1 /tokens 1500").await;
        ada.run("/tool web_search {\"q\": 1} /echo found").await;
        let ack = ada.done(json!({"type": "submit_task", "prompt": "/echo known", "context": "what is known"})).await;
        ada.end_of(ack["taskId"].as_str().expect("an id")).await;

        let cut = ada.submit("/echo cut short /hang 2").await;
        ada.until("token").await;
        ada.done(json!({"type": "cancel_task", "taskId": cut})).await;
        assert_ne!(ada.end_of(&cut).await["data"]["partial"], "");
        assert_ne!(ada.run("/pace 1 /fail 500 after 60").await["data"]["partial"], "");
        let ack = ada.done(json!({"type": "submit_task", "prompt": "/echo too slow /hang 2", "timeoutMs": 300})).await;
        assert_eq!(ada.end_of(ack["taskId"].as_str().expect("an id")).await["type"], "task_timeout");

        let back = ada.submit("/echo taken back /hang 2").await;
        ada.until("token").await;
        let instead = ada.done(json!({"type": "submit_task", "prompt": "/echo instead", "onBusy": "rollback"})).await;
        ada.end_of(instead["taskId"].as_str().expect("an id")).await;

        let steered = ada.submit("/echo cut short /hang 1").await;
        ada.until("token").await;
        ada.done(json!({"type": "steer_task", "taskId": steered, "input": "/echo now then", "when": "now"})).await;
        ada.end_of(&steered).await;

        // Told what to do before it has begun.
        let front = ada.submit("/echo in front /hang 1").await;
        ada.until("token").await;
        let behind = ada.submit("/echo behind").await;
        ada.done(json!({"type": "steer_task", "taskId": behind, "input": "/echo and early"})).await;
        ada.done(json!({"type": "cancel_task", "taskId": front})).await;
        ada.end_of(&behind).await;

        for data in [json!("/pace 0 /echo back"), json!({"from": "lunch"})] {
            let aside = ada.submit("/pace 5 /tokens 400").await;
            ada.until("token").await;
            ada.done(json!({"type": "suspend_task", "taskId": aside})).await;
            ada.done(json!({"type": "resume_task", "taskId": aside, "data": data})).await;
            ada.end_of(&aside).await;
        }
        // One that is being answered, and one that waits: neither is left out, or shown too early.
        ada.submit("/echo in the middle /hang 2").await;
        ada.until("token").await;
        ada.submit("/echo waiting").await;

        let shown = same(&hub, &mut ada, &session, &[1, 4, 100]).await;
        assert!(shown.iter().all(|message| message["taskId"] != *back), "it was taken back");
        assert_eq!(shown.iter().filter(|message| id(message).starts_with('d')).count(), 2, "what a resume brings is a message");
        assert_eq!(shown.iter().filter(|message| message["partial"] == true).count(), 8, "{shown:#?}");

        // The task in the middle is tried again, and then given up.
        hub.crash().await;
        let mut ada = hub.connect("ada").await;
        ada.attach(&session, None).await;
        same(&hub, &mut ada, &session, &[3]).await;
        hub.crash().await;
        let mut ada = hub.connect("ada").await;
        ada.attach(&session, None).await;
        let after = same(&hub, &mut ada, &session, &[3]).await;
        assert!(after.iter().all(|message| message["taskId"] != *back), "it was taken back");
        assert_eq!(after[..shown.len() - 1], shown[..shown.len() - 1]);
    }
}

/// Compares pages of several sizes with the snapshot and with the session. What they show. The session changes as little as a hanging task
/// does, but its start may come in between, so the snapshot is the same before and after.
async fn same(hub: &Hub, ada: &mut Client, session: &str, limits: &[usize]) -> Vec<Value> {
    let path = format!("/api/v1/agents/sessions/{session}");
    loop {
        let snapshot = of_snapshot(ada, session).await;
        let whole = as_in_snapshot(&hub.http("GET", &path, "ada").await.1["messages"]);
        let mut pages = Vec::new();
        for limit in limits {
            pages.push((limit, by_page(hub, &path, *limit).await));
        }
        if of_snapshot(ada, session).await != snapshot {
            continue;
        }
        assert_eq!(whole, snapshot, "the session itself");
        for (limit, page) in pages {
            assert_eq!(page, snapshot, "by {limit}");
        }
        return snapshot;
    }
}

async fn of_snapshot(ada: &mut Client, session: &str) -> Vec<Value> {
    let snapshot = ada.attach(session, None).await["snapshot"].clone();
    assert_eq!(snapshot["earlierMessages"], 0, "the test is to stay within a snapshot's bounds");
    let mut messages = snapshot["messages"].as_array().expect("a list").clone();
    for message in &mut messages {
        message["partial"] = message.get("partial").cloned().unwrap_or(json!(false));
    }
    messages
}

/// All messages, oldest first, from pages of this size.
async fn by_page(hub: &Hub, path: &str, limit: usize) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    let mut before = String::new();
    loop {
        let (status, page) = hub.http("GET", &format!("{path}/messages?limit={limit}{before}"), "ada").await;
        assert_eq!(status, 200, "{page}");
        let messages = as_in_snapshot(&page["messages"]);
        // A prompt is not parted from its context.
        assert!(messages.len() <= limit || (messages.len() == limit + 1 && messages[0]["seq"] == messages[1]["seq"]), "{messages:#?}");
        all.splice(0..0, messages);
        match page["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => return all,
        }
    }
}

/// The HTTP routes call the text `content`.
fn as_in_snapshot(messages: &Value) -> Vec<Value> {
    let mut messages = messages.as_array().expect("a list").clone();
    for message in &mut messages {
        let fields = message.as_object_mut().expect("an object");
        let text = fields.remove("content").expect("a text");
        fields.insert("text".to_owned(), text);
    }
    messages
}

fn id(message: &Value) -> &str {
    message["messageId"].as_str().expect("an id")
}
