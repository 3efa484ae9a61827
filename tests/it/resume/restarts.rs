//! The same cursor on the next start, and on a session that has slept.

use std::time::Duration;

use serde_json::{Value, json};

use super::fold::State;
use crate::harness::{Hub, new_id, texts};

const STORES: [&[(&str, &str)]; 2] =
    [&[("STORAGE_TYPE", "sqlite"), ("STORAGE_PATH", "data/hub.db")], &[("STORAGE_TYPE", "file"), ("STORAGE_PATH", "data/log")]];

#[tokio::test]
async fn a_crash_loses_nothing_that_was_seen_and_the_task_goes_on() {
    for settings in STORES {
        let mut hub = Hub::start(settings).await;
        let (mut ada, session) = hub.session("ada").await;
        ada.run("/echo before").await;
        let task = ada.submit("/pace 2 /tokens 400").await;
        let waiting = ada.submit("/echo waiting").await;
        for _ in 0..30 {
            ada.until("token").await;
        }
        hub.kill().await;
        ada.closed().await;
        let (seen, cursor) = (ada.event_texts(&session), ada.cursor(&session));
        hub.run().await;

        let mut back = hub.connect("ada").await;
        let attached = back.attach(&session, Some(&cursor)).await;
        assert_eq!((&attached["recovered"], &attached["from"]), (&json!(true), &json!(seen.len() + 1)), "{settings:?}");
        let recovering = back.until("task_recovering").await;
        assert_eq!((&recovering["taskId"], &recovering["data"]["attempt"]), (&json!(task), &json!(2)));
        let end = back.end_of(&task).await;
        assert_eq!(end["type"], "task_completed");
        assert_eq!(back.end_of(&waiting).await["data"]["result"], "waiting");

        let mut whole = hub.connect("ada").await;
        whole.attach(&session, Some(&format!("{}.0", back.epoch(&session)))).await;
        whole.end_of(&waiting).await;
        let log = whole.event_texts(&session);
        assert!(log == [seen, back.event_texts(&session)].concat(), "what was seen is what is there");
        let events = whole.events(&session);
        let discard_after = recovering["data"]["discardAfter"].as_u64().expect("a place");
        let kept: Vec<Value> = events
            .iter()
            .filter(|e| e["seq"].as_u64() <= Some(discard_after) || e["seq"].as_u64() > recovering["seq"].as_u64())
            .cloned()
            .collect();
        assert_eq!(end["data"]["result"], texts(&kept, &task), "the answer is what is left after the void is taken out");
        let snapshot = whole.attach(&session, None).await["snapshot"].clone();
        assert_eq!(State::of_snapshot(&snapshot).shown(), State::of_log(&events).shown());
    }
}

#[tokio::test]
async fn a_task_is_not_tried_for_ever() {
    let mut hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let task = ada.submit("/pace 1 /tokens 60 /hang 60").await;
    let mut cursor = None;
    for attempt in [1, 2] {
        let mut reader = hub.connect("ada").await;
        reader.attach(&session, None).await;
        let of_attempt = |event: &Value| event["data"]["attempt"] == attempt;
        let snapshot = hub.http("GET", &format!("/api/v1/agents/tasks/{task}"), "ada").await.1;
        assert!(snapshot.get("error").is_none_or(Value::is_null), "{snapshot}");
        reader.attach(&session, Some(&format!("{}.0", ada.epoch(&session)))).await;
        while !of_attempt(&reader.until("task_started").await) {}
        reader.until("token").await;
        cursor = Some(reader.cursor(&session));
        hub.crash().await;
    }
    let mut ada = hub.connect("ada").await;
    ada.attach(&session, cursor.as_deref()).await;
    let end = ada.end_of(&task).await;
    assert_eq!(
        (&end["type"], &end["data"]["code"], &end["data"]["retryable"]),
        (&json!("task_failed"), &json!("interrupted"), &json!(true))
    );
    assert!(!end["data"]["partial"].as_str().expect("text").is_empty());
    let snapshot = ada.attach(&session, None).await["snapshot"].clone();
    ada.attach(&session, Some(&format!("{}.0", ada.epoch(&session)))).await;
    ada.until("caught_up").await;
    let log = ada.events(&session);
    let whole = log.iter().rposition(|event| event["seq"] == 1).expect("replayed");
    assert_eq!(State::of_snapshot(&snapshot).shown(), State::of_log(&log[whole..]).shown());
    assert_eq!(ada.run("/echo next").await["data"]["result"], "next");
}

#[tokio::test]
async fn repeated_commands_have_one_effect_across_a_crash() {
    let mut hub = Hub::start(&[]).await;
    let (session, tasks) = (new_id(), [new_id(), new_id(), new_id()]);
    let create = json!({"type": "create_session", "sessionId": session});
    let submit = |task: &str| json!({"type": "submit_task", "taskId": task, "prompt": format!("/echo {task}")});
    let mut ada = hub.connect("ada").await;
    ada.done(create.clone()).await;
    let first = ada.done(submit(&tasks[0])).await;
    for task in &tasks[1..] {
        ada.say(submit(task)).await;
    }
    hub.crash().await;
    let mut ada = hub.connect("ada").await;
    ada.done(create).await;
    assert_eq!(ada.done(submit(&tasks[0])).await["seq"], first["seq"]);
    for task in &tasks[1..] {
        ada.done(submit(task)).await;
    }
    let mut conflict = submit(&tasks[0]);
    conflict["prompt"] = json!("other");
    ada.refused(conflict, "idempotency_conflict").await;
    // One after another: when the last has ended, all have.
    ada.end_of(&tasks[2]).await;
    let events = ada.events(&session);
    for task in &tasks {
        let count = |kind: &str| events.iter().filter(|event| event["type"] == kind && event["taskId"] == **task).count();
        assert_eq!((count("task_queued"), count("task_completed")), (1, 1));
    }
}

#[tokio::test]
async fn memory_forgets_and_says_so() {
    let mut hub = Hub::start(&[("STORAGE_TYPE", "memory")]).await;
    let (mut ada, session) = hub.session("ada").await;
    ada.run("/echo a").await;
    let (cursor, epoch) = (ada.cursor(&session), ada.epoch(&session).to_owned());
    hub.crash().await;
    let mut ada = hub.connect("ada").await;
    ada.refused(json!({"type": "attach_session", "sessionId": session, "after": cursor}), "session_not_found").await;
    // Made again, it is another log, and the old cursor is not believed, although it has a place there.
    ada.create(json!({"sessionId": session})).await;
    assert_ne!(ada.epoch(&session), epoch);
    ada.run("/tokens 30").await;
    let attached = ada.attach(&session, Some(&cursor)).await;
    assert_eq!(attached["recovered"], false);
    assert_eq!(attached["snapshot"]["tasks"][0]["prompt"], "/tokens 30");
}

#[tokio::test]
async fn a_session_that_slept_answers_as_before() {
    let hub = Hub::start(&[("AGENT_HUB_RUNTIME__IDLE_UNLOAD", "1 s")]).await;
    let (mut ada, session) = hub.session("ada").await;
    // Long enough for a checkpoint.
    ada.run("/pace 0 /steps 3 /tokens 3000").await;
    let end = ada.run("/pace 1 /tokens 700").await;
    let waiting = ada.submit("/ask what? /echo thanks").await;
    ada.until("task_suspended").await;
    let before = ada.attach(&session, None).await["snapshot"].clone();
    let (events, cursor) = (ada.event_texts(&session), ada.cursor(&session));
    drop(ada);
    let awake = async || hub.http("GET", "/health", "ada").await.1["activeSessions"].as_u64().expect("a number");
    let mut slept = false;
    for _ in 0..400 {
        slept = awake().await == 0;
        if slept {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!(slept, "it stays in memory");

    let mut back = hub.connect("ada").await;
    let attached = back.attach(&session, Some(&cursor)).await;
    assert_eq!((&attached["recovered"], &attached["head"]), (&json!(true), &json!(events.len())));
    let mut after = back.attach(&session, None).await["snapshot"].clone();
    after["session"]["status"] = before["session"]["status"].clone();
    assert_eq!(after, before);
    back.attach(&session, Some(&format!("{}.0", back.epoch(&session)))).await;
    back.until("caught_up").await;
    assert!(back.event_texts(&session) == events);
    back.refused(json!({"type": "cancel_task", "taskId": end["taskId"]}), "already_terminal").await;
    let request = after["pendingInputs"][0]["requestId"].clone();
    back.done(json!({"type": "respond_input", "taskId": waiting, "requestId": request, "outcome": "accept", "payload": "this"})).await;
    assert_eq!(back.end_of(&waiting).await["type"], "task_completed");
}

#[tokio::test]
async fn a_session_that_rests_still_has_everything() {
    let hub = Hub::start(&[("AGENT_HUB_RUNTIME__IDLE_UNLOAD", "20 s")]).await;
    let (mut ada, session) = hub.session("ada").await;
    ada.run("/pace 1 /tokens 40").await;
    let (events, epoch) = (ada.event_texts(&session), ada.epoch(&session).to_owned());
    drop(ada);
    // It is in memory all the time, and after a tenth of that its events are not: who comes then reads them from the store.
    let mut read_from_store = false;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert_eq!(hub.http("GET", "/health", "ada").await.1["activeSessions"], 1);
        let mut back = hub.connect("ada").await;
        back.attach(&session, Some(&format!("{epoch}.0"))).await;
        back.until("caught_up").await;
        assert!(back.event_texts(&session) == events);
        read_from_store = hub.metric("agent_hub_reader_lag_events_count").await >= 1.0;
        if read_from_store {
            break;
        }
    }
    assert!(read_from_store, "its events stay in memory");
    // And it goes on as if nothing had been.
    let mut back = hub.connect("ada").await;
    back.attach(&session, Some(&format!("{epoch}.{}", events.len()))).await;
    back.run("/echo more").await;
    assert_eq!(back.events(&session)[0]["seq"], events.len() + 1);
}

#[tokio::test]
async fn a_session_that_waits_for_its_turn_stays_and_costs_nothing() {
    let hub = Hub::with_limits(&[("AGENT_HUB_RUNTIME__TASKS_PER_USER", "1"), ("AGENT_HUB_RUNTIME__IDLE_UNLOAD", "100 ms")]).await;
    let (mut ada, session) = hub.session("ada").await;
    let first = ada.submit("/pace 1 /tokens 3 /hang 2").await;
    ada.until("token").await;
    let waiting = ada.create(json!({})).await;
    let second = ada.submit("/echo my turn").await;
    let before = ada.cursor(&waiting);
    ada.done(json!({"type": "detach_session", "sessionId": waiting})).await;
    // Nobody follows it any more, and it has long been idle.
    tokio::time::sleep(Duration::from_millis(400)).await;
    let mut spent = Vec::new();
    while spent.len() < 5 && spent.iter().all(|ticks| *ticks >= 50) {
        let before = cpu_ticks(hub.pid());
        tokio::time::sleep(Duration::from_secs(1)).await;
        spent.push(cpu_ticks(hub.pid()) - before);
    }
    assert!(spent.iter().any(|ticks| *ticks < 50), "{spent:?} of about 100 ticks a second in which there was nothing to do");

    ada.done(json!({"type": "cancel_task", "sessionId": session, "taskId": first})).await;
    // It may have run already.
    ada.attach(&waiting, Some(&before)).await;
    assert_eq!(ada.end_of(&second).await["data"]["result"], "my turn");
}

/// CPU time of a process so far, in hundredths of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    // Behind the name, which may hold anything: user and system time are the 12th and 13th fields from there.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields[11].parse::<u64>().expect("ticks") + fields[12].parse::<u64>().expect("ticks")
}
