//! Tools that clients execute, over real sockets.

use std::collections::BTreeSet;

use agent_hub_load::vendor::{Script, ScriptedCall};
use serde_json::{Value, json};

use crate::harness::{Client, Hub};

fn location() -> Value {
    let parameters = json!({"type": "object", "properties": {"precise": {"type": "boolean"}}, "required": ["precise"]});
    json!({"name": "get_location", "description": "Where the person is", "parameters": parameters})
}

fn provide(session: &str, tools: &[Value]) -> Value {
    json!({"type": "provide_tools", "sessionId": session, "tools": tools})
}

fn result(offer: &Value, output: Value) -> Value {
    json!({"type": "tool_result", "taskId": offer["taskId"], "callId": offer["callId"], "output": output})
}

/// Types of the task's events, in order, without those of the model's own.
fn kinds(client: &Client, session: &str, task: &str) -> Vec<String> {
    let events = client.events(session);
    let of_task = events.iter().filter(|event| event["taskId"] == task);
    let kinds = of_task.map(|event| event["type"].as_str().expect("a type").to_owned());
    kinds.filter(|kind| !["token", "message", "usage", "reasoning"].contains(&kind.as_str())).collect()
}

fn events_of(client: &Client, session: &str, kind: &str) -> Vec<Value> {
    client.events(session).into_iter().filter(|event| event["type"] == kind).collect()
}

#[tokio::test]
async fn a_client_executes_a_call_and_the_model_gets_its_result() {
    let (hub, vendor) = Hub::with_vendor(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    ada.done(provide(&session, &[location()])).await;
    let updated = ada.until("session_updated").await;
    assert_eq!(updated["data"], json!({"clientTools": [location()]}));
    let again = ada.done(provide(&session, &[location()])).await;
    assert!(again.get("seq").is_none(), "said again, nothing changes: {again}");

    let task = ada.submit(r#"/tool get_location {"precise": true}"#).await;
    let offer = ada.until("tool_offered").await;
    assert_eq!((&offer["tool"], &offer["arguments"]), (&json!("get_location"), &json!({"precise": true})));
    assert!(offer["expiresAt"].is_string());
    let told = vendor.calls().last().expect("a call").body.clone();
    let tools: Vec<&Value> = told["tools"].as_array().expect("tools").iter().map(|tool| &tool["function"]).collect();
    let ours = tools.iter().find(|tool| tool["name"] == "get_location").expect("the model is told");
    assert_eq!((&ours["description"], &ours["parameters"]), (&location()["description"], &location()["parameters"]));

    ada.done(result(&offer, json!({"city": "Lyon"}))).await;
    assert_eq!(ada.end_of(&task).await["type"], "task_completed");
    let given = events_of(&ada, &session, "tool_result");
    assert_eq!(given[0]["data"]["output"], json!({"city": "Lyon"}));
    let last = vendor.calls().last().expect("a call").body["messages"].clone();
    let of_tool = last.as_array().expect("a list").iter().find(|message| message["role"] == "tool").expect("a result");
    assert_eq!(of_tool["content"], json!(r#"{"city":"Lyon"}"#));
    let expected = [
        "task_queued",
        "task_started",
        "step",
        "tool_call",
        "step",
        "step",
        "input_requested",
        "task_suspended",
        "input_resolved",
        "tool_result",
        "step",
        "task_resumed",
        "step",
        "step",
        "task_completed",
    ];
    assert_eq!(kinds(&ada, &session, &task), expected);

    // What the client could not do, the model is told.
    let task = ada.submit(r#"/tool get_location {"precise": false}"#).await;
    let offer = ada.until("tool_offered").await;
    ada.done(json!({"type": "tool_result", "taskId": task, "callId": offer["callId"], "error": "No permission"})).await;
    assert_eq!(ada.end_of(&task).await["type"], "task_completed");
    let failed = events_of(&ada, &session, "tool_result").pop().expect("one");
    assert_eq!((&failed["data"]["error"], &failed["data"]["code"]), (&json!("No permission"), &json!("failed")));

    // Arguments that do not fit never reach the client.
    let task = ada.submit(r#"/tool get_location {"precise": "very"}"#).await;
    assert_eq!(ada.end_of(&task).await["type"], "task_completed");
    let refused = events_of(&ada, &session, "tool_result").pop().expect("one");
    assert_eq!(refused["data"]["code"], "invalid_arguments");
    assert_eq!(events_of(&ada, &session, "input_requested").len(), 2);
}

#[tokio::test]
async fn one_is_asked_the_next_when_it_goes_and_the_first_result_counts() {
    let hub = Hub::start(&[]).await;
    let (mut first, session) = hub.session("ada").await;
    first.done(provide(&session, &[location()])).await;
    let mut second = hub.connect("ada").await;
    second.attach(&session, None).await;
    second.done(provide(&session, &[location()])).await;
    let mut onlooker = hub.connect("ada").await;
    onlooker.attach(&session, None).await;

    let task = first.submit(r#"/tool get_location {"precise": true}"#).await;
    let offer = second.until("tool_offered").await;
    let request = onlooker.until("input_requested").await;
    assert_eq!((&request["data"]["kind"], &request["data"]["callId"]), (&json!("tool"), &offer["callId"]));
    let by_hand = json!({"type": "respond_input", "taskId": task, "requestId": request["data"]["requestId"], "outcome": "accept"});
    onlooker.refused(by_hand, "invalid_message").await;
    let unknown = json!({"type": "tool_result", "taskId": task, "callId": "c999", "output": 1});
    onlooker.refused(unknown, "not_found").await;

    // The network of the one that was asked breaks.
    drop(second);
    let again = first.until("tool_offered").await;
    assert_eq!(again["callId"], offer["callId"], "the same call");
    // One that leaves before it is answered provides nothing.
    let mut brief = hub.connect("ada").await;
    brief.say(provide(&session, &[location()])).await;
    brief.say(json!({"type": "detach_session", "sessionId": session})).await;
    brief.done(json!({"type": "attach_session", "sessionId": session})).await;
    // It stops following, and nobody else is there until it comes back.
    first.done(json!({"type": "detach_session", "sessionId": session})).await;
    first.attach(&session, None).await;
    first.done(provide(&session, &[location()])).await;
    let third = first.until("tool_offered").await;
    assert_eq!(third["callId"], offer["callId"]);

    first.done(result(&offer, json!("Lyon"))).await;
    onlooker.refused(result(&offer, json!("Paris")), "already_resolved").await;
    assert_eq!(first.end_of(&task).await["type"], "task_completed");
    onlooker.end_of(&task).await;
    let given = events_of(&onlooker, &session, "tool_result");
    assert_eq!(given.iter().map(|event| &event["data"]["output"]).collect::<Vec<_>>(), ["Lyon"]);
    onlooker.refused(result(&offer, json!("Rome")), "already_terminal").await;
    assert!(!brief.log.iter().any(|frame| frame.contains("\"tool_offered\"")), "who has left is offered nothing");
    assert!(!onlooker.log.iter().any(|frame| frame.contains("\"tool_offered\"")), "who provides nothing is offered nothing");
}

#[tokio::test]
async fn a_call_that_waits_survives_a_kill_and_is_offered_to_whoever_comes_back() {
    let mut hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    ada.done(provide(&session, &[location()])).await;
    let task = ada.submit(r#"/tool get_location {"precise": true}"#).await;
    let offer = ada.until("tool_offered").await;
    hub.kill().await;
    hub.run().await;

    let mut back = hub.connect("ada").await;
    let attached = back.attach(&session, None).await;
    let pending = &attached["snapshot"]["pendingInputs"][0];
    assert_eq!((&pending["kind"], &pending["callId"]), (&json!("tool"), &offer["callId"]), "{attached}");
    back.done(provide(&session, &[location()])).await;
    let again = back.until("tool_offered").await;
    assert_eq!((&again["callId"], &again["arguments"]), (&offer["callId"], &offer["arguments"]));
    back.done(result(&again, json!("Lyon"))).await;
    assert_eq!(back.end_of(&task).await["type"], "task_completed");
    // The list of tools is the session's, not the process's.
    let next = back.submit(r#"/tool get_location {"precise": true}"#).await;
    let offer = back.until("tool_offered").await;
    back.done(result(&offer, json!("Lyon"))).await;
    assert_eq!(back.end_of(&next).await["type"], "task_completed");
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let (hub, vendor) = Hub::with_vendor(&[("AGENT_HUB_RUNTIME__CLIENT_TOOL_TIMEOUT", "1s")]).await;
    let (mut ada, session) = hub.session("ada").await;
    ada.done(provide(&session, &[location()])).await;
    let task = ada.submit(r#"/tool get_location {"precise": true}"#).await;
    let offer = ada.until("tool_offered").await;
    assert_eq!(ada.end_of(&task).await["type"], "task_completed");
    let expired = events_of(&ada, &session, "tool_result").pop().expect("one");
    assert_eq!(expired["data"]["code"], "timed_out");
    ada.refused(result(&offer, json!("late")), "already_terminal").await;

    // A cancel withdraws the call.
    let task = ada.submit(r#"/tool get_location {"precise": true}"#).await;
    ada.until("tool_offered").await;
    ada.done(json!({"type": "cancel_task", "taskId": task})).await;
    assert_eq!(ada.end_of(&task).await["type"], "task_cancelled");
    let resolved = events_of(&ada, &session, "input_resolved").pop().expect("one");
    assert_eq!(resolved["data"]["outcome"], "withdrawn");

    // Once nobody provides it, models are not told of it, and a model that calls it all the same hears so at once.
    ada.done(provide(&session, &[])).await;
    let updated = ada.until("session_updated").await;
    assert_eq!(updated["data"]["clientTools"], json!([]));
    let end = ada.run(r#"/tool get_location {"precise": true}"#).await;
    assert_eq!(end["type"], "task_completed");
    let unknown = events_of(&ada, &session, "tool_result").pop().expect("one");
    assert_eq!(unknown["data"]["code"], "unknown_tool");
    let calls = vendor.calls();
    let told = calls.last().expect("a call").body["tools"].as_array().expect("tools").clone();
    assert!(!told.iter().any(|tool| tool["function"]["name"] == "get_location"));
}

#[tokio::test]
async fn rules_of_approval_hold_and_calls_run_side_by_side() {
    let (hub, vendor) = Hub::with_vendor(&[("AGENT_HUB_AGENTS__ASSISTANT__APPROVE", "get_location")]).await;
    let call = |tool: &str, arguments: Value| ScriptedCall { tool: tool.into(), arguments };
    let calls = vec![call("get_location", json!({"precise": true})), call("scroll_up", json!({})), call("scroll_up", json!({"far": true}))];
    vendor.set_script(Script { calls, parallel: true, ..Script::default() });
    let (mut ada, session) = hub.session("ada").await;
    ada.done(provide(&session, &[location(), json!({"name": "scroll_up"})])).await;
    let task = ada.submit("Where am I?").await;
    let mut offers = vec![ada.until("tool_offered").await, ada.until("tool_offered").await];
    assert!(offers.iter().all(|offer| offer["tool"] == "scroll_up"), "what a person has to allow is not offered before: {offers:?}");
    let request =
        events_of(&ada, &session, "input_requested").into_iter().find(|event| event["data"]["kind"] == "approval").expect("asked");
    let mut answer = json!({"type": "respond_input", "taskId": task, "requestId": request["data"]["requestId"], "outcome": "accept"});
    answer["editedArguments"] = json!({"precise": "very"});
    ada.refused(answer.clone(), "invalid_message").await;
    answer["editedArguments"] = json!({"precise": false});
    ada.done(answer).await;
    // In another order than they were made in; the approved one is decided on when the task goes on.
    for offer in offers.drain(..).rev() {
        ada.done(result(&offer, json!("done"))).await;
    }
    let approved = ada.until("tool_offered").await;
    assert_eq!((&approved["tool"], &approved["arguments"]), (&json!("get_location"), &json!({"precise": false})));
    ada.done(result(&approved, Value::Null)).await;
    assert_eq!(ada.end_of(&task).await["type"], "task_completed");
    let calls: BTreeSet<String> =
        events_of(&ada, &session, "tool_result").iter().map(|event| event["data"]["callId"].to_string()).collect();
    assert_eq!(calls.len(), 3);
}

#[tokio::test]
async fn what_cannot_be_provided_is_refused_and_changes_nothing() {
    let hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let named = |name: &str| json!({"name": name});
    let with = |parameters: Value| json!({"name": "fine", "parameters": parameters});
    let many: Vec<Value> = (0..33).map(|n| named(&format!("tool_{n}"))).collect();
    let long = json!({"name": "fine", "description": "x".repeat(70_000)});
    for (tools, code) in [
        (vec![named("")], "invalid_message"),
        (vec![named("with space")], "invalid_message"),
        (vec![named("ünïcode")], "invalid_message"),
        (vec![named(&"n".repeat(65))], "invalid_message"),
        (vec![named("ask_user")], "invalid_message"),
        (vec![named("delegate_task")], "invalid_message"),
        (vec![named("web_search")], "invalid_message"),
        (vec![named("same"), named("same")], "invalid_message"),
        (vec![with(json!({"type": "no such type"}))], "invalid_message"),
        (vec![with(json!({"type": "string"}))], "invalid_message"),
        (vec![with(json!("text"))], "invalid_message"),
        (many, "quota_exceeded"),
        (vec![long], "quota_exceeded"),
    ] {
        ada.refused(provide(&session, &tools), code).await;
    }
    ada.refused(json!({"type": "provide_tools", "sessionId": session}), "invalid_message").await;
    let mut eve = hub.connect("eve").await;
    eve.refused(provide(&session, &[named("mine")]), "forbidden").await;
    eve.refused(provide(&crate::harness::new_id(), &[named("mine")]), "session_not_found").await;
    let both = json!({"type": "tool_result", "taskId": crate::harness::new_id(), "callId": "c1", "output": 1, "error": "no"});
    ada.refused(both, "invalid_message").await;
    assert_eq!(events_of(&ada, &session, "session_updated").len(), 0);

    // A result that is too long is cut, one that is nested too deeply never gets in.
    ada.done(provide(&session, &[named("fine")])).await;
    let task = ada.submit("/tool fine {}").await;
    let offer = ada.until("tool_offered").await;
    ada.done(result(&offer, json!("y".repeat(200_000)))).await;
    assert_eq!(ada.end_of(&task).await["type"], "task_completed");
    let given = events_of(&ada, &session, "tool_result").pop().expect("one");
    let output = given["data"]["output"].as_str().expect("text");
    assert!(output.len() < 70_000 && output.contains("[cut:"), "{} bytes", output.len());
    ada.done(json!({"type": "end_session", "sessionId": session})).await;
    ada.refused(provide(&session, &[named("late")]), "already_terminal").await;
}
