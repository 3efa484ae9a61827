//! Tasks: submitting, waiting, cancelling, putting aside.

use serde_json::{Value, json};

use crate::harness::{Hub, new_id, texts};

fn of<'a>(events: &'a [Value], task: &str) -> Vec<&'a str> {
    let mut types: Vec<&str> =
        events.iter().filter(|event| event["taskId"] == task).map(|event| event["type"].as_str().expect("type")).collect();
    types.dedup();
    types
}

fn place(events: &[Value], kind: &str, task: &str) -> usize {
    events.iter().position(|event| event["type"] == kind && event["taskId"] == task).unwrap_or_else(|| panic!("no {kind} in {events:#?}"))
}

#[tokio::test]
async fn a_repeated_submit_has_no_second_effect() {
    let hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let id = new_id();
    let submit = json!({"type": "submit_task", "taskId": id, "prompt": "/echo once", "options": {"temperature": 0.5, "topP": 1}});
    let first = ada.done(submit.clone()).await;
    let while_it_runs = ada.done(submit.clone()).await;
    ada.end_of(&id).await;
    let afterwards = ada.done(submit.clone()).await;
    assert_eq!([&while_it_runs["seq"], &afterwards["seq"]], [&first["seq"], &first["seq"]]);

    for (field, other) in [("prompt", json!("/echo twice")), ("timeoutMs", json!(1000)), ("context", json!("c")), ("options", json!({}))] {
        let mut changed = submit.clone();
        changed[field] = other;
        ada.refused(changed, "idempotency_conflict").await;
    }
    // In another session of the same user it is another task.
    let elsewhere = ada.create(json!({})).await;
    ada.refused(submit.clone(), "idempotency_conflict").await;
    let mut named = submit.clone();
    named["sessionId"] = json!(session);
    ada.done(named.clone()).await;
    assert_eq!(ada.events(&elsewhere).len(), 1);
    // For another user it is forbidden, and says nothing else.
    let (mut bob, _) = hub.session("bob").await;
    let refused = bob.refused(submit, "forbidden").await;
    assert!(refused.get("details").is_none() && !refused.to_string().contains(&session));
    let started = ada.events(&session).iter().filter(|event| event["type"] == "task_started").count();
    assert_eq!(started, 1);
}

#[tokio::test]
async fn when_busy_a_submit_waits_or_is_rejected() {
    let hub = Hub::with_limits(&[("AGENT_HUB_RUNTIME__QUEUED_PER_SESSION", "2")]).await;
    let (mut ada, session) = hub.session("ada").await;
    let running = ada.submit("/echo a /hang 1").await;
    ada.until("token").await;
    ada.refused(json!({"type": "submit_task", "prompt": "x", "onBusy": "reject"}), "busy").await;
    let (one, two) = (ada.submit("/echo one").await, ada.submit("/echo two").await);
    let full = ada.refused(json!({"type": "submit_task", "prompt": "x"}), "queue_full").await;
    assert_eq!(full["retryable"], true);
    let positions: Vec<Value> =
        ada.events(&session).iter().filter(|e| e["type"] == "task_queued").map(|e| e["data"]["position"].clone()).collect();
    assert_eq!(positions, [0, 1, 2]);
    ada.done(json!({"type": "cancel_task", "taskId": running})).await;
    assert_eq!(ada.end_of(&one).await["data"]["result"], "one");
    assert_eq!(ada.end_of(&two).await["data"]["result"], "two");
    let answer = ada.done(json!({"type": "submit_task", "prompt": "/echo idle", "onBusy": "reject"})).await;
    ada.end_of(answer["taskId"].as_str().expect("an id")).await;
}

#[tokio::test]
async fn a_newer_task_may_interrupt_or_take_back_the_running_one() {
    let (hub, vendor) = Hub::with_vendor(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let first = ada.submit("/echo kept words /hang 2").await;
    ada.until("token").await;
    let waits = ada.submit("/echo waits").await;
    let jumps = ada.done(json!({"type": "submit_task", "prompt": "/echo jumps", "onBusy": "interrupt"})).await["taskId"].clone();
    let jumps = jumps.as_str().expect("an id");
    ada.end_of(&waits).await;
    let events = ada.events(&session);
    assert_eq!(of(&events, &first)[..3], ["task_queued", "task_started", "step"]);
    assert_eq!(of(&events, &first).last(), Some(&"task_cancelled"));
    let order = [place(&events, "task_cancelled", &first), place(&events, "task_started", jumps), place(&events, "task_started", &waits)];
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(events[place(&events, "task_cancelled", &first)]["data"]["partial"], texts(&events, &first));

    let second = ada.submit("/echo taken back /hang 2").await;
    ada.until("token").await;
    let instead = ada.done(json!({"type": "submit_task", "prompt": "/echo instead", "onBusy": "rollback"})).await;
    ada.end_of(instead["taskId"].as_str().expect("an id")).await;
    let events = ada.events(&session);
    assert_eq!(events[place(&events, "cancel_requested", &second)]["data"]["rollback"], true);
    // What the vendor is shown: the interrupted words stay, what was taken back is gone.
    let calls = vendor.calls();
    let shown = |part: &str| calls[calls.len() - 1].body["messages"].to_string().contains(part);
    assert!(shown("kept") && !shown("taken back") && shown("instead"), "{}", calls[calls.len() - 1].body);
}

#[tokio::test]
async fn a_task_is_steered_between_and_within_calls() {
    let (hub, vendor) = Hub::with_vendor(&[]).await;
    let (mut ada, session) = hub.session("ada").await;

    let task = ada.submit("/pace 10 /tokens 30").await;
    ada.until("token").await;
    let steer = new_id();
    let command = json!({"type": "steer_task", "taskId": task, "input": "/echo later", "steerId": steer});
    let first = ada.done(command.clone()).await;
    assert_eq!(ada.done(command).await["seq"], first["seq"], "the same one again");
    ada.refused(json!({"type": "steer_task", "taskId": task, "input": "else", "steerId": steer}), "idempotency_conflict").await;
    let end = ada.end_of(&task).await;
    assert_eq!(end["data"]["result"], "later");
    let events = ada.events(&session);
    let applied = &events[place(&events, "steer_applied", &task)];
    assert_eq!((&applied["data"]["steerId"], &applied["data"]["step"]), (&json!(steer), &json!(2)));
    assert!(place(&events, "message", &task) < place(&events, "steer_applied", &task));

    let task = ada.submit("/echo cut short /hang 1").await;
    ada.until("token").await;
    ada.done(json!({"type": "steer_task", "taskId": task, "input": "/echo now then", "when": "now"})).await;
    let end = ada.end_of(&task).await;
    assert_eq!(end["data"]["result"], "now then");
    let events = ada.events(&session);
    let mut of_task = events.iter().filter(|event| event["taskId"] == *task);
    let broken_off = of_task.find(|event| event["type"] == "message").expect("a message");
    assert_eq!(broken_off["data"]["partial"], true);
    vendor.until(|calls| calls.iter().filter(|call| call.outcome == agent_hub_load::vendor::Outcome::Aborted).count() == 1).await;

    // A task that ends first gives its input back.
    let task = ada.submit("/echo x /hang 1").await;
    ada.until("token").await;
    let submit = json!({"type": "submit_task", "onBusy": "steer", "prompt": "too late", "taskId": new_id()});
    let answer = ada.done(submit.clone()).await;
    let again = ada.done(submit).await;
    assert_eq!((&again["taskId"], &again["seq"]), (&answer["taskId"], &answer["seq"]), "the same answer again");
    ada.done(json!({"type": "cancel_task", "taskId": task})).await;
    let rejected = ada.until("steer_rejected").await;
    assert_eq!(rejected["data"]["input"], "too late");
    assert_eq!(answer["taskId"], *task, "it steers the task that runs");
    ada.end_of(&task).await;
    ada.refused(json!({"type": "steer_task", "taskId": task, "input": "x"}), "already_terminal").await;
    ada.refused(json!({"type": "steer_task", "taskId": new_id(), "input": "x"}), "task_not_found").await;
    ada.refused(json!({"type": "steer_task", "taskId": task, "input": ""}), "invalid_message").await;
    // With nothing to steer it is a task.
    let alone = ada.done(json!({"type": "submit_task", "onBusy": "steer", "prompt": "/echo alone"})).await;
    assert_eq!(ada.end_of(alone["taskId"].as_str().expect("an id")).await["data"]["result"], "alone");
}

#[tokio::test]
async fn cancelling_is_truthful_in_every_state() {
    let (hub, vendor) = Hub::with_vendor(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let running = ada.submit("/echo a b c /hang 3").await;
    ada.until("token").await;
    let queued = ada.submit("/echo never").await;

    ada.done(json!({"type": "cancel_task", "taskId": queued})).await;
    let end = ada.end_of(&queued).await;
    assert_eq!((&end["type"], &end["data"]["upstreamStopped"]), (&json!("task_cancelled"), &json!(true)));
    let cancel = json!({"type": "cancel_task", "taskId": running, "reason": "enough"});
    ada.say(cancel.clone()).await;
    ada.say(cancel.clone()).await;
    let requested = ada.until("cancel_requested").await;
    assert_eq!((&requested["data"]["by"], &requested["data"]["reason"]), (&json!("ada"), &json!("enough")));
    let end = ada.end_of(&running).await;
    assert_eq!(end["type"], "task_cancelled");
    assert_eq!(end["data"]["upstreamStopped"], true);
    assert_eq!(end["data"]["partial"], texts(&ada.events(&session), &running));
    ada.refused(cancel, "already_terminal").await;
    ada.refused(json!({"type": "cancel_task", "taskId": new_id()}), "task_not_found").await;
    ada.refused(json!({"type": "cancel_task", "taskId": running, "reason": "x".repeat(501)}), "invalid_message").await;

    let finished = ada.run("/echo done").await;
    ada.refused(json!({"type": "cancel_task", "taskId": finished["taskId"]}), "already_terminal").await;
    let calls = vendor.until(|calls| calls.iter().all(|call| call.closed_at.is_some())).await;
    assert_eq!(calls.len(), 2, "the queued one never reached the model");
    assert!(!calls.iter().any(|call| call.body.to_string().contains("never")));
    let events = ada.events(&session);
    assert_eq!(events.iter().filter(|event| event["type"] == "cancel_requested").count(), 2);
    for task in [&running, &queued] {
        let last = events.iter().rev().find(|event| event["taskId"] == **task).expect("events");
        assert_eq!(last["type"], "task_cancelled", "nothing follows the end");
    }
}

#[tokio::test]
async fn a_deadline_ends_a_task_and_keeps_its_words() {
    let hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let ack = ada.done(json!({"type": "submit_task", "prompt": "/echo some words /hang 2", "timeoutMs": 300})).await;
    let task = ack["taskId"].as_str().expect("an id");
    let end = ada.end_of(task).await;
    assert_eq!((&end["type"], &end["data"]["timeoutMs"]), (&json!("task_timeout"), &json!(300)));
    assert_eq!(end["data"]["partial"], texts(&ada.events(&session), task));
    assert_eq!(ada.run("/echo next").await["data"]["result"], "next");
    // Also when the model falls silent in the middle of a flood of words.
    for silent_after in [126, 200, 1000] {
        let prompt = format!("/pace 0 /tokens 5000 /hang {silent_after}");
        let ack = ada.done(json!({"type": "submit_task", "prompt": prompt, "timeoutMs": 300})).await;
        let end = ada.end_of(ack["taskId"].as_str().expect("an id")).await;
        assert_eq!(end["type"], "task_timeout", "silent after {silent_after}");
    }
    for bad in [json!(0), json!(3_600_001), json!(-1), json!("soon"), json!(1.5)] {
        ada.refused(json!({"type": "submit_task", "prompt": "x", "timeoutMs": bad}), "invalid_message").await;
    }
}

#[tokio::test]
async fn a_task_is_put_aside_and_goes_on() {
    let hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let task = ada.submit("/pace 5 /tokens 2000").await;
    ada.refused(json!({"type": "resume_task", "taskId": task}), "busy").await;
    ada.until("token").await;
    let aside = ada.done(json!({"type": "suspend_task", "taskId": task, "reason": "lunch"})).await;
    let suspended = ada.until("task_suspended").await;
    assert_eq!((&suspended["data"]["reason"], &suspended["seq"]), (&json!("lunch"), &aside["seq"]));
    ada.done(json!({"type": "suspend_task", "taskId": task})).await;
    // It keeps its place: what comes later waits behind it.
    let behind = ada.submit("/echo behind").await;
    ada.refused(json!({"type": "suspend_task", "taskId": behind}), "busy").await;
    let mut tab = hub.connect("ada").await;
    let snapshot = tab.attach(&session, None).await["snapshot"].clone();
    assert_eq!(snapshot["tasks"][0]["status"], "suspended");
    assert_eq!(snapshot["queue"], json!([behind]));
    ada.done(json!({"type": "resume_task", "taskId": task, "data": "/pace 0 /echo back"})).await;
    let end = ada.end_of(&task).await;
    assert_eq!((&end["type"], &end["data"]["result"]), (&json!("task_completed"), &json!("back")));
    ada.end_of(&behind).await;
    for command in ["suspend_task", "resume_task"] {
        ada.refused(json!({"type": command, "taskId": task}), "already_terminal").await;
        ada.refused(json!({"type": command, "taskId": new_id()}), "task_not_found").await;
    }
    let events = ada.events(&session);
    assert!(events.iter().any(|e| e["type"] == "message" && e["data"]["partial"] == true && e["taskId"] == *task));
}

#[tokio::test]
async fn what_this_hub_does_not_have_is_said_so() {
    let hub = Hub::start(&[]).await;
    let (mut ada, _) = hub.session("ada").await;
    ada.refused(json!({"type": "submit_task", "workflow": "w", "input": {}}), "invalid_message").await;
    let task = ada.submit("/hang 1").await;
    ada.refused(json!({"type": "tool_result", "taskId": task, "callId": "c1", "output": 1}), "not_found").await;
    ada.refused(json!({"type": "tool_result", "taskId": new_id(), "callId": "c1", "output": 1}), "task_not_found").await;
    ada.done(json!({"type": "cancel_task", "taskId": task})).await;
    ada.end_of(&task).await;
    ada.refused(json!({"type": "tool_result", "taskId": task, "callId": "c1", "output": 1}), "already_terminal").await;
}
