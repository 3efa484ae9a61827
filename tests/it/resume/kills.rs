//! `kill -9` at any moment, while commands are sent again and again.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::harness::{Client, Hub, Random, new_id};

const ROUNDS: usize = 12;

/// Sends every command that is not acknowledged yet, some of them twice, then kills the hub somewhere on the way.
async fn round(hub: &mut Hub, client: &mut Client, submits: &BTreeMap<String, Value>, random: &mut Random) -> Vec<(String, u64)> {
    for (task, submit) in submits {
        for _ in 0..=random.next(2) {
            let mut command = submit.clone();
            command["id"] = json!(task);
            if client.try_say(command).await.is_err() {
                break;
            }
        }
    }
    // Some replies are read, some are on their way, some were never made.
    tokio::time::sleep(Duration::from_micros(random.next(15_000))).await;
    hub.kill().await;
    let code = client.closed().await;
    assert_eq!(code, 0, "it had no time to say goodbye");
    let mut acknowledged = Vec::new();
    for frame in &client.log {
        let frame: Value = serde_json::from_str(frame).expect("JSON");
        if frame["type"] == "ack" && frame["received"] == "submit_task" {
            acknowledged.push((frame["id"].as_str().expect("an id").to_owned(), frame["seq"].as_u64().expect("a place")));
        }
    }
    acknowledged
}

#[tokio::test]
async fn nothing_acknowledged_or_seen_is_ever_lost_or_done_twice() {
    let mut random = Random::seeded();
    for (kind, path) in [("sqlite", "data/hub.db"), ("file", "data/log")] {
        let mut hub = Hub::start(&[("STORAGE_TYPE", kind), ("STORAGE_PATH", path)]).await;
        let session = new_id();
        let create = json!({"type": "create_session", "sessionId": session});
        let mut all = BTreeMap::new();
        let mut open = BTreeMap::new();
        let mut seen: Vec<String> = Vec::new();
        let mut places: BTreeMap<String, u64> = BTreeMap::new();
        for number in 0..ROUNDS {
            for _ in 0..5 {
                let task = new_id();
                let submit =
                    json!({"type": "submit_task", "sessionId": session, "taskId": task, "prompt": format!("/pace 0 /echo {number}")});
                all.insert(task.clone(), submit.clone());
                open.insert(task, submit);
            }
            let mut client = hub.connect("ada").await;
            client.say(create.clone()).await;
            client.until("session_attached").await;
            for (task, seq) in round(&mut hub, &mut client, &open, &mut random).await {
                assert_eq!(places.insert(task.clone(), seq).unwrap_or(seq), seq, "acknowledged with two places");
                // Now and then it is sent again although it was acknowledged.
                if random.next(3) > 0 {
                    open.remove(&task);
                }
            }
            let events = client.event_texts(&session);
            let (both, longer) = (seen.len().min(events.len()), if events.len() > seen.len() { &events } else { &seen });
            assert!(seen[..both] == events[..both], "{kind}: what was seen in another run was something else");
            seen = longer.clone();
            hub.run().await;
        }
        // In the end everything is sent once more, and everything ends.
        let mut client = hub.connect("ada").await;
        client.say(create).await;
        for (task, submit) in &all {
            let mut command = submit.clone();
            command["id"] = json!(task);
            client.say(command).await;
            let ack = client.answer(task).await;
            let seq = ack["seq"].as_u64().unwrap_or_else(|| panic!("{ack}"));
            assert_eq!(places.insert(task.clone(), seq).unwrap_or(seq), seq, "{kind}: acknowledged with two places");
        }
        let last = client.done(json!({"type": "submit_task", "prompt": "/echo last"})).await;
        client.end_of(last["taskId"].as_str().expect("an id")).await;
        let events = client.events(&session);
        assert!(client.event_texts(&session).starts_with(&seen), "{kind}: something that was seen is gone");
        for (task, seq) in &places {
            let of = |kind: &str| events.iter().filter(|event| event["type"] == kind && event["taskId"] == **task).count();
            assert_eq!(events[*seq as usize - 1]["taskId"], **task, "{kind}: an ack that pointed at nothing");
            let ends = ["task_completed", "task_failed", "task_cancelled", "task_timeout"].map(of);
            assert_eq!((of("task_queued"), ends.iter().sum::<usize>()), (1, 1), "{kind}: {task}");
        }
    }
}
