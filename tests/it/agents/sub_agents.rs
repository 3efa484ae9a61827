//! Work that is handed on.

use agent_hub_load::vendor::Outcome;
use serde_json::{Value, json};

use crate::harness::{Client, Hub};

/// `assistant` may ask `middle`, that one `inner` and, were it let, `assistant` again.
const AGENTS: [(&str, &str); 4] = [
    ("AGENT_HUB_AGENTS__ASSISTANT__SUB_AGENTS", "middle,inner"),
    ("AGENT_HUB_AGENTS__MIDDLE__SUB_AGENTS", "inner,assistant"),
    ("AGENT_HUB_AGENTS__MIDDLE__DESCRIPTION", "Stands between"),
    ("AGENT_HUB_AGENTS__INNER__DESCRIPTION", "Does the work"),
];

/// A prompt for a model that hands this on.
fn hand_on(agent: &str, task: &str) -> String {
    format!("/tool delegate_task {}", json!({ "agent": agent, "task": task }))
}

/// The task that the next call makes.
async fn child(client: &mut Client) -> Value {
    loop {
        let queued = client.until("task_queued").await;
        if queued["data"]["parentTaskId"].is_string() {
            return queued;
        }
    }
}

fn of<'a>(events: &'a [Value], task: &Value) -> Vec<&'a str> {
    events.iter().filter(|event| event["taskId"] == *task).filter_map(|event| event["type"].as_str()).collect()
}

#[tokio::test]
async fn the_answer_of_a_sub_agent_is_the_result_of_the_call() {
    let hub = Hub::start(&AGENTS).await;
    let (mut ada, session) = hub.session("ada").await;
    let task = ada.submit(&hand_on("middle", "/echo seven")).await;
    let queued = child(&mut ada).await;
    let end = ada.end_of(&task).await;
    assert_eq!(end["type"], "task_completed", "{end}");
    assert!(end["data"]["result"].as_str().expect("text").contains("seven"), "{end}");

    let data = &queued["data"];
    assert_eq!((&data["agent"], &data["parentTaskId"], &data["prompt"]), (&json!("middle"), &json!(task), &json!("/echo seven")));
    let events = ada.events(&session);
    let inner = of(&events, &queued["taskId"]);
    assert_eq!((inner.first(), inner.last()), (Some(&"task_queued"), Some(&"task_completed")), "{inner:?}");
    let result = events.iter().find(|event| event["type"] == "tool_result").expect("a result");
    assert_eq!((&result["taskId"], &result["data"]["callId"], &result["data"]["output"]), (&json!(task), &data["callId"], &json!("seven")));
    let steps: Vec<(&Value, &Value)> = events
        .iter()
        .filter(|event| event["type"] == "step" && event["data"]["callId"] == data["callId"])
        .map(|event| (&event["data"]["phase"], &event["data"]["index"]))
        .collect();
    assert_eq!(steps, [(&json!("started"), &json!(2)), (&json!("completed"), &json!(2))]);

    // It is no part of the conversation, wherever that is shown.
    let (_, page) = hub.http("GET", &format!("/api/v1/agents/sessions/{session}/messages"), "ada").await;
    let snapshot = hub.connect("ada").await.attach(&session, None).await["snapshot"].clone();
    for messages in [&page["messages"], &snapshot["messages"]] {
        let tasks: Vec<&Value> = messages.as_array().expect("a list").iter().map(|message| &message["taskId"]).collect();
        assert!(!tasks.is_empty() && tasks.iter().all(|of| **of == json!(task)), "{messages}");
    }
    let shown =
        snapshot["tasks"].as_array().expect("a list").iter().find(|shown| shown["taskId"] == queued["taskId"]).expect("it is shown");
    assert_eq!((&shown["parentTaskId"], &shown["agent"], &shown["status"]), (&json!(task), &json!("middle"), &json!("completed")));
    assert_eq!(snapshot["session"]["taskCount"], 1);
    let (status, polled) = hub.http("GET", &format!("/api/v1/agents/tasks/{}", queued["taskId"].as_str().expect("an id")), "ada").await;
    assert_eq!((status, &polled["result"]), (200, &json!("seven")));
}

#[tokio::test]
async fn several_work_at_the_same_time_and_a_circle_is_refused() {
    let (hub, vendor) = Hub::with_vendor(&AGENTS).await;
    let (mut ada, session) = hub.session("ada").await;
    // Both wait for the other's answer to begin: with one after the other neither would.
    let both = format!("{} {}", hand_on("middle", "/pace 20 /tokens 200"), hand_on("inner", "/pace 20 /tokens 200"));
    vendor.set_next_scripts([agent_hub_load::vendor::Script { parallel: true, ..Default::default() }]);
    let task = ada.submit(&both).await;
    let (first, second) = (child(&mut ada).await["taskId"].clone(), child(&mut ada).await["taskId"].clone());
    let mut heard = [false, false];
    while heard != [true, true] {
        let token = ada.until("token").await;
        heard[0] |= token["taskId"] == first;
        heard[1] |= token["taskId"] == second;
        let ended = ada.events(&session).iter().any(|event| event["type"] == "task_completed");
        assert!(!ended || heard == [true, true], "one ended before the other began");
    }
    ada.done(json!({"type": "cancel_task", "taskId": task})).await;
    assert_eq!(ada.end_of(&task).await["type"], "task_cancelled");

    let end = ada.run(&hand_on("middle", &hand_on("assistant", "x"))).await;
    assert_eq!(end["type"], "task_completed", "{end}");
    let events = ada.events(&session);
    let refused = events.iter().rev().find(|event| event["type"] == "tool_result" && event["data"]["code"] == "refused");
    assert!(refused.expect("it is refused")["data"]["error"].as_str().expect("text").contains("in a circle"));
}

#[tokio::test]
async fn a_cancel_reaches_the_innermost_model_call_and_the_task_ends_last() {
    let (hub, vendor) = Hub::with_vendor(&AGENTS).await;
    let (mut ada, session) = hub.session("ada").await;
    let task = ada.submit(&hand_on("middle", &hand_on("inner", "/pace 1 /tokens 100000"))).await;
    let middle = child(&mut ada).await["taskId"].clone();
    let inner = child(&mut ada).await["taskId"].clone();
    while ada.until("token").await["taskId"] != inner {}
    ada.done(json!({"type": "cancel_task", "taskId": task, "reason": "enough"})).await;
    let end = ada.end_of(&task).await;
    assert_eq!((&end["type"], &end["data"]["upstreamStopped"]), (&json!("task_cancelled"), &json!(true)), "{end}");
    let events = ada.events(&session);
    let ends: Vec<&Value> = events.iter().filter(|event| event["type"] == "task_cancelled").map(|event| &event["taskId"]).collect();
    assert_eq!(ends, [&inner, &middle, &json!(task)]);
    assert_eq!(events.last().expect("events")["seq"], end["seq"], "the task's end is the last that is heard");
    let last = || vendor.calls().last().expect("a call").outcome;
    for _ in 0..200 {
        if last() != Outcome::Running {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(last(), Outcome::Aborted, "the model call was closed");
    // The conversation is still one that the vendor, which is strict, takes.
    assert_eq!(ada.run("/echo on").await["data"]["result"], "on");
}

#[tokio::test]
async fn a_crash_in_the_middle_goes_on_where_it_was() {
    let mut hub = Hub::start(&AGENTS).await;
    let (mut ada, session) = hub.session("ada").await;
    let task = ada.submit(&hand_on("middle", r#"/tool ask_user {"question": "Well?"}"#)).await;
    let middle = child(&mut ada).await["taskId"].clone();
    let request = ada.until("input_requested").await;
    assert_eq!(request["taskId"], middle);
    while ada.until("task_suspended").await["taskId"] != json!(task) {}
    hub.crash().await;
    let mut ada = hub.connect("ada").await;
    let snapshot = ada.attach(&session, None).await["snapshot"].clone();
    assert_eq!(snapshot["pendingInputs"][0]["taskId"], middle);
    ada.refused(json!({"type": "resume_task", "taskId": task}), "busy").await;
    let id = &snapshot["pendingInputs"][0]["requestId"];
    let answer = json!({"type": "respond_input", "taskId": middle, "requestId": id, "outcome": "accept", "payload": "well enough"});
    ada.done(answer).await;
    let end = ada.end_of(&task).await;
    assert!(end["type"] == "task_completed" && end["data"]["result"].as_str().expect("text").contains("well enough"), "{end}");
}

#[tokio::test]
async fn steps_are_counted_for_all_together() {
    let mut settings = AGENTS.to_vec();
    settings.push(("AGENT_HUB_AGENTS__ASSISTANT__MAX_STEPS", "3"));
    let hub = Hub::start(&settings).await;
    let (mut ada, session) = hub.session("ada").await;
    // One call of its own, two of the sub-agent: nothing is left to answer with.
    let end = ada.run(&hand_on("middle", r#"/tool web_search {"query": "x"}"#)).await;
    assert_eq!((&end["type"], &end["data"]["code"]), (&json!("task_failed"), &json!("quota_exceeded")), "{end}");
    let calls = ada
        .events(&session)
        .iter()
        .filter(|e| e["type"] == "step" && e["data"]["name"] == "model" && e["data"]["phase"] == "started")
        .count();
    assert_eq!(calls, 3);
    // What the task itself asks for counts more.
    let prompt = hand_on("middle", r#"/tool web_search {"query": "x"}"#);
    let task = ada.done(json!({"type": "submit_task", "prompt": prompt, "options": {"maxSteps": 4}})).await["taskId"].clone();
    assert_eq!(ada.end_of(task.as_str().expect("an id")).await["type"], "task_completed");
}

#[tokio::test]
async fn a_sub_agent_has_a_time_of_its_own_and_its_caller_goes_on() {
    let mut settings = AGENTS.to_vec();
    settings.push(("AGENT_HUB_AGENTS__INNER__TIMEOUT", "1s"));
    let (hub, vendor) = Hub::with_vendor(&settings).await;
    let (mut ada, session) = hub.session("ada").await;
    let task = ada.submit(&hand_on("inner", "/tokens 100000 /pace 20")).await;
    let queued = child(&mut ada).await;
    assert_eq!(queued["data"]["timeoutMs"], 1000);
    let inner = queued["taskId"].as_str().expect("an id").to_owned();
    let ended = ada.end_of(&inner).await;
    assert_eq!((&ended["type"], &ended["data"]["upstreamStopped"]), (&json!("task_timeout"), &json!(true)), "{ended}");
    assert_eq!(ada.end_of(&task).await["type"], "task_completed");
    let result = ada.events(&session).into_iter().find(|event| event["type"] == "tool_result").expect("a result");
    assert!(result["data"]["error"].as_str().expect("an error").contains("inner"), "{result}");
    assert!(vendor.calls().iter().any(|call| call.outcome == Outcome::Aborted), "its model was stopped");

    // A task of the agent itself that names no deadline has the agent's; one that does has its own, at most the hub's.
    let mut eve = hub.connect("eve").await;
    eve.create(json!({"agent": "inner"})).await;
    let end = eve.run("/tokens 100000 /pace 20").await;
    assert_eq!((&end["type"], &end["data"]["timeoutMs"]), (&json!("task_timeout"), &json!(1000)));
    let ack = eve.done(json!({"type": "submit_task", "prompt": "/echo soon", "timeoutMs": 60_000})).await;
    assert_eq!(eve.end_of(ack["taskId"].as_str().expect("an id")).await["type"], "task_completed");
}
