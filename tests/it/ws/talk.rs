//! The conversation: sessions, prompts, tokens, tabs.

use serde_json::{Value, json};

use crate::harness::{Hub, new_id, texts};

fn types(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|frame| frame["type"].as_str().expect("a type")).collect()
}

#[tokio::test]
async fn the_main_conversation() {
    let hub = Hub::start(&[]).await;
    let mut ada = hub.connect("ada").await;
    ada.say(json!({"type": "create_session", "name": "birds", "tags": ["a"], "metadata": {"k": 1}})).await;
    let (attached, created, caught_up) = (ada.next().await, ada.next().await, ada.next().await);
    assert_eq!(attached["type"], "session_attached");
    assert_eq!((&attached["recovered"], &attached["from"], &attached["head"]), (&json!(true), &json!(1), &json!(1)));
    assert_eq!((&created["type"], &created["seq"]), (&json!("session_created"), &json!(1)));
    assert_eq!(created["data"]["epoch"], attached["epoch"]);
    assert_eq!(created["data"]["tools"], json!(["web_search"]));
    assert_eq!((&created["data"]["name"], &created["data"]["metadata"]), (&json!("birds"), &json!({"k": 1})));
    assert_eq!(caught_up, json!({"type": "caught_up", "sessionId": created["sessionId"], "seq": 1}));

    let session = created["sessionId"].as_str().expect("an id").to_owned();
    let end = ada.run("/pace 1 /echo Gannet, puffin  and tern.").await;
    let task = end["taskId"].as_str().expect("an id").to_owned();
    let events = ada.events(&session);
    let mut seen = types(&events[1..]);
    seen.dedup();
    assert_eq!(seen, ["task_queued", "task_started", "step", "token", "message", "usage", "step", "task_completed"]);
    let message = events.iter().find(|event| event["type"] == "message").expect("a message");
    assert_eq!(texts(&events, &task), "Gannet, puffin  and tern.");
    assert_eq!(message["data"]["text"], "Gannet, puffin  and tern.");
    assert_eq!(end["data"]["result"], "Gannet, puffin  and tern.");
    assert!(end["data"]["usage"]["outputTokens"].as_u64().expect("counted") > 0);
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], number as u64 + 1);
        let at = event["at"].as_str().expect("a time");
        assert!(at.len() == 24 && at.ends_with('Z'), "{at}");
    }

    // The next one knows the conversation; its tokens have another message.
    let second = ada.run("/echo Yes.").await;
    let events = ada.events(&session);
    let ids: Vec<&Value> = events.iter().filter(|event| event["type"] == "message").map(|event| &event["data"]["messageId"]).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1]);
    assert_eq!(second["data"]["result"], "Yes.");
}

#[tokio::test]
async fn an_answer_is_durable_and_points_at_its_event() {
    let hub = Hub::start(&[]).await;
    let mut ada = hub.connect("ada").await;
    let created = ada.done(json!({"type": "create_session"})).await;
    assert_eq!(created["seq"], 1);
    let session = created["sessionId"].as_str().expect("an id").to_owned();
    let submit = ada.done(json!({"type": "submit_task", "prompt": "/hang 1"})).await;
    let task = submit["taskId"].as_str().expect("an id").to_owned();
    let steer = ada.done(json!({"type": "steer_task", "taskId": task, "input": "x"})).await;
    let cancel = ada.done(json!({"type": "cancel_task", "taskId": task, "reason": "enough"})).await;
    let ended = ada.done(json!({"type": "end_session"})).await;
    ada.until("session_ended").await;
    let events = ada.events(&session);
    let at = |ack: &Value| events[ack["seq"].as_u64().expect("seq") as usize - 1]["type"].clone();
    assert_eq!([at(&submit), at(&steer), at(&cancel), at(&ended)], ["task_queued", "steer_accepted", "cancel_requested", "session_ended"]);
    for ack in [&submit, &steer, &cancel] {
        assert_eq!((&ack["taskId"], &ack["sessionId"]), (&json!(task), &json!(session)));
    }
    // A whole number is an id too; without one success is silent.
    ada.say(json!({"type": "create_session", "id": 7})).await;
    let ack = ada.until("ack").await;
    assert_eq!((&ack["id"], &ack["received"]), (&json!(7), &json!("create_session")));
    ada.say(json!({"type": "ping", "id": "p"})).await;
    assert_eq!(ada.until_any(&["pong", "ack"]).await, json!({"type": "pong", "id": "p"}));
}

#[tokio::test]
async fn commands_are_taken_up_in_the_order_they_were_sent() {
    let hub = Hub::start(&[]).await;
    let mut ada = hub.connect("ada").await;
    // Nothing is waited for: each needs what the one before it made.
    let tasks: Vec<String> = (0..5).map(|_| new_id()).collect();
    ada.say(json!({"type": "create_session", "id": "create"})).await;
    for (number, task) in tasks.iter().enumerate() {
        ada.say(json!({"type": "submit_task", "prompt": format!("/pace 0 /echo {number}"), "taskId": task})).await;
    }
    ada.say(json!({"type": "cancel_task", "taskId": tasks[4], "id": "cancel"})).await;
    ada.say(json!({"type": "end_session", "id": "end"})).await;
    let session = ada.answer("create").await["sessionId"].as_str().expect("an id").to_owned();
    assert_eq!(ada.answer("cancel").await["type"], "ack");
    assert_eq!(ada.answer("end").await["type"], "ack");
    ada.until("session_ended").await;
    let events = ada.events(&session);
    let queued: Vec<&str> =
        events.iter().filter(|event| event["type"] == "task_queued").map(|event| event["taskId"].as_str().expect("id")).collect();
    assert_eq!(queued, tasks);
    assert!(!events.iter().any(|event| event["type"] == "task_started" && event["taskId"] == *tasks[4]), "cancelled before its turn");
}

#[tokio::test]
async fn two_tabs_see_the_same_bytes_and_either_may_speak() {
    let hub = Hub::start(&[]).await;
    let (mut one, session) = hub.session("ada").await;
    let mut two = hub.connect("ada").await;
    let attached = two.attach(&session, Some(&format!("{}.0", one.epoch(&session)))).await;
    assert_eq!((&attached["recovered"], &attached["from"]), (&json!(true), &json!(1)));
    let first = one.submit("/pace 1 /tokens 100").await;
    let second = two.submit("/pace 0 /tokens 300").await;
    for tab in [&mut one, &mut two] {
        tab.end_of(&first).await;
        tab.end_of(&second).await;
    }
    let (left, right) = (one.event_texts(&session), two.event_texts(&session));
    assert!(left.len() > 20 && left == right);

    // A detached tab hears nothing more; the other one does.
    two.done(json!({"type": "detach_session", "sessionId": session})).await;
    two.done(json!({"type": "detach_session", "sessionId": session})).await;
    one.run("/echo only you").await;
    two.say(json!({"type": "ping"})).await;
    two.until("pong").await;
    assert_eq!(two.event_texts(&session), right);
    // And is back where it was.
    let cursor = two.cursor(&session);
    two.attach(&session, Some(&cursor)).await;
    two.until("task_completed").await;
    assert_eq!(two.event_texts(&session), one.event_texts(&session));
}

#[tokio::test]
async fn a_socket_follows_several_sessions_up_to_its_limit() {
    let hub = Hub::start(&[("AGENT_HUB_SERVER__ATTACHED_SESSIONS", "3")]).await;
    let mut ada = hub.connect("ada").await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(ada.create(json!({})).await);
    }
    let refused = ada.refused(json!({"type": "create_session"}), "quota_exceeded").await;
    assert_eq!(refused["details"]["limit"], 3);
    // One it follows already may be attached again, and the newest attach is the current session.
    ada.done(json!({"type": "attach_session", "sessionId": sessions[0]})).await;
    let task = ada.done(json!({"type": "submit_task", "prompt": "/echo a"})).await;
    assert_eq!(task["sessionId"], *sessions[0]);
    // All of them are heard.
    for session in &sessions {
        ada.done(json!({"type": "submit_task", "sessionId": session, "prompt": "/echo b"})).await;
    }
    for _ in 0..4 {
        ada.until("task_completed").await;
    }
    ada.done(json!({"type": "detach_session", "sessionId": sessions[1]})).await;
    ada.create(json!({})).await;
}

#[tokio::test]
async fn the_same_session_is_made_once() {
    let hub = Hub::start(&[]).await;
    let mut ada = hub.connect("ada").await;
    let id = new_id();
    let session = ada.create(json!({"sessionId": id, "model": "m"})).await;
    assert_eq!(session, id);
    ada.run("/echo kept").await;
    let events = ada.event_texts(&session);

    let mut again = hub.connect("ada").await;
    again.say(json!({"type": "create_session", "sessionId": id, "model": "m"})).await;
    let attached = again.until("session_attached").await;
    assert_eq!((&attached["recovered"], &attached["from"], &attached["head"]), (&json!(true), &json!(1), &json!(events.len())));
    again.until("caught_up").await;
    assert_eq!(again.event_texts(&session), events, "replayed from the first event, made once");

    again.refused(json!({"type": "create_session", "sessionId": id, "model": "other"}), "idempotency_conflict").await;
    again.refused(json!({"type": "create_session", "sessionId": id, "tools": []}), "idempotency_conflict").await;
    again.refused(json!({"type": "create_session", "sessionId": "session_123"}), "invalid_message").await;
    again.refused(json!({"type": "create_session", "agent": "nobody"}), "invalid_message").await;
    again.refused(json!({"type": "create_session", "tools": ["rm"]}), "invalid_message").await;
    // The session is followed as before.
    again.run("/echo on").await;

    // A second one becomes the current one, the first stays attached.
    let second = again.create(json!({})).await;
    assert_ne!(second, session);
    let task = again.submit("/echo here").await;
    assert_eq!(again.end_of(&task).await["sessionId"], *second);
    let other = ada.submit("/echo there").await;
    assert_eq!(again.end_of(&other).await["sessionId"], *session);
}

#[tokio::test]
async fn an_ended_session_can_be_read_and_nothing_else() {
    let hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let running = ada.submit("/echo half /hang 1").await;
    ada.until("token").await;
    let queued = ada.submit("/echo never").await;
    ada.done(json!({"type": "end_session"})).await;
    let last = ada.until("session_ended").await;
    assert_eq!(last["data"]["reason"], "ended");
    let events = ada.events(&session);
    for task in [&running, &queued] {
        assert!(events.iter().any(|event| event["type"] == "task_cancelled" && event["taskId"] == **task));
    }
    ada.refused(json!({"type": "submit_task", "prompt": "x"}), "already_terminal").await;
    ada.refused(json!({"type": "cancel_task", "taskId": running}), "already_terminal").await;
    ada.refused(json!({"type": "end_session"}), "already_terminal").await;
    let mut reader = hub.connect("ada").await;
    let attached = reader.attach(&session, None).await;
    assert_eq!(attached["snapshot"]["session"]["status"], "ended");
    reader.attach(&session, Some(&format!("{}.0", ada.epoch(&session)))).await;
    reader.until("session_ended").await;
    assert_eq!(reader.event_texts(&session), ada.event_texts(&session));
    reader.refused(json!({"type": "end_session", "sessionId": new_id()}), "session_not_found").await;
    reader.refused(json!({"type": "attach_session", "sessionId": new_id()}), "session_not_found").await;
    let mut bare = hub.connect("ada").await;
    bare.refused(json!({"type": "submit_task", "prompt": "x"}), "invalid_message").await;
    bare.refused(json!({"type": "submit_task", "prompt": "x", "sessionId": new_id()}), "session_not_found").await;
}
