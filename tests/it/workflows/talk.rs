//! Executions over a socket.

use serde_json::{Value, json};

use super::{execute, hub_with, steps};
use crate::harness::{Hub, new_id};

const APPROVAL: &str = r#"
name: Expense approval
input: { type: object, properties: { amount: { type: number }, who: { type: string } }, required: [amount, who] }
result: "=#{ approved: steps.decide, note: steps.note.bytes }"
steps:
  - { id: check, type: transform, value: "=#{ big: input.amount > 1000, amount: input.amount }" }
  - id: decide
    type: condition
    if: input.big
    then:
      - id: manager
        type: suspend
        reason: "=`${workflow.input.who} asks for ${input.amount}`"
        data: { amount: "=input.amount" }
        resume: { type: object, properties: { approved: { type: boolean } }, required: [approved] }
      - { id: yes, type: transform, value: "=input.approved" }
    else:
      - { id: yes, type: transform, value: true }
  - { id: note, type: tool, tool: file_write, arguments: { path: "notes/decision.txt", content: "=`${workflow.input.who}: ${input}`" } }
  - { id: tell, type: agent, prompt: "=`/pace 0 /echo told ${workflow.input.who}`" }
"#;

fn suspended(event: &Value) -> bool {
    event["type"] == "task_suspended"
}

#[tokio::test]
async fn an_execution_waits_for_data_across_a_crash_and_stays_one_task_in_one_log() {
    let mut hub = hub_with(&[("expense", APPROVAL)], &[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let ack = ada.done(execute("expense", json!({ "amount": 5000, "who": "Ada" }))).await;
    let task = ack["taskId"].as_str().expect("an id").to_owned();
    let wait = ada.until("task_suspended").await;
    let data = &wait["data"];
    assert_eq!(
        (&data["reason"], &data["stepId"], &data["data"]),
        (&json!("Ada asks for 5000"), &json!("decide.manager"), &json!({ "amount": 5000 }))
    );
    assert_eq!(data["schema"]["required"], json!(["approved"]));

    // The hub is killed; everything is as it was.
    let seen = ada.event_texts(&session);
    hub.crash().await;
    let mut ada = hub.connect("ada").await;
    let attached = ada.attach(&session, None).await;
    let info = attached["snapshot"]["tasks"].as_array().expect("tasks").iter().find(|info| info["taskId"] == task).expect("it").clone();
    assert_eq!(
        (&info["status"], &info["workflow"], &info["suspension"]["stepId"]),
        (&json!("suspended"), &json!("expense"), &json!("decide.manager"))
    );

    // Bad data changes nothing, and says what is wrong.
    let resume = |data: Value, step: Value| json!({ "type": "resume_task", "taskId": task, "data": data, "stepId": step });
    let refused = ada.refused(resume(json!({ "approved": "maybe" }), Value::Null), "invalid_message").await;
    assert!(refused["message"].as_str().expect("text").contains("/approved"), "{refused}");
    ada.refused(resume(json!({ "approved": true }), json!("nowhere")), "invalid_message").await;
    let mut bob = hub.connect("bob").await;
    bob.refused(resume(json!({ "approved": true }), Value::Null), "forbidden").await;

    // Two at once: one wins.
    let mut other = hub.connect("ada").await;
    let (first, second) = tokio::join!(
        ada.ask(resume(json!({ "approved": true }), Value::Null)),
        other.ask(resume(json!({ "approved": false }), json!("decide.manager")))
    );
    let kinds = [&first["type"], &second["type"]];
    assert!(kinds.contains(&&json!("ack")) && kinds.contains(&&json!("error")), "{first} {second}");
    let approved = first["type"] == "ack";
    let end = ada.end_of(&task).await;
    assert_eq!(end["type"], "task_completed", "{end}");
    assert_eq!(end["data"]["result"]["approved"], json!(approved));

    // One log, from the first event to the last.
    let mut reader = hub.connect("ada").await;
    reader.attach(&session, Some(&format!("{}.0", ada.epoch(&session)))).await;
    reader.end_of(&task).await;
    assert!(reader.event_texts(&session).starts_with(&seen), "what was seen before the crash is the beginning");
    let events = reader.events(&session);
    let happened = [
        "started check",
        "completed check",
        "started decide",
        "started decide.manager",
        "completed decide.manager",
        "started decide.yes",
        "completed decide.yes",
        "completed decide",
        "started note",
        "completed note",
        "started tell",
        "completed tell",
    ];
    assert_eq!(steps(&events, &task), happened);
    let child =
        events.iter().find(|event| event["type"] == "task_queued" && event["data"]["parentTaskId"] == task).expect("the agent's task");
    let last = |id: &Value| events.iter().rposition(|event| event["taskId"] == *id).expect("there");
    assert!(last(&child["taskId"]) < last(&json!(task)), "the execution ends last");
    let (status, file) = hub.http("GET", &format!("/api/v1/agents/tasks/{task}"), "ada").await;
    assert_eq!((status, &file["status"]), (200, &json!("completed")), "{file}");
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_nothing_is_made() {
    let hub = hub_with(&[("expense", APPROVAL)], &[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let refused = ada.refused(execute("expense", json!({ "amount": "much" })), "invalid_message").await;
    assert!(refused["message"].as_str().expect("text").contains("/amount"), "{refused}");
    ada.refused(execute("nowhere", json!({})), "invalid_message").await;
    assert_eq!(ada.events(&session).len(), 1, "session_created and no more");
    // The same id with the same content is the same task; with other content it is not.
    let id = new_id();
    let mut submit = execute("expense", json!({ "amount": 1, "who": "x" }));
    submit["taskId"] = json!(id);
    ada.done(submit.clone()).await;
    ada.end_of(&id).await;
    ada.done(submit.clone()).await;
    submit["input"]["amount"] = json!(2);
    ada.refused(submit, "idempotency_conflict").await;
    ada.refused(json!({ "type": "steer_task", "taskId": id, "input": "x" }), "already_terminal").await;
}

#[tokio::test]
async fn definitions_that_are_wrong_keep_the_hub_from_starting_and_all_are_named() {
    let circle = |to: &str| format!("steps: [{{ id: a, type: workflow, workflow: {to} }}]");
    let hub = super::prepared(&[("one", &circle("two")), ("two", &circle("one"))], &[]);
    let said = hub.tool(&["--print-config"]).await;
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(!said.status.success() && text.contains("one: it executes itself (one → two → one)"), "{text}");
    let hub = super::prepared(&[("bad", "steps: [{ id: a, type: dance }, { id: b, type: agent, agent: nobody, prompt: x }]")], &[]);
    let said = hub.tool(&["--print-config"]).await;
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(!said.status.success() && text.contains("bad.steps[0].type"), "{text}");
}

const WIDE: &str = r#"
steps:
  - id: fan
    type: parallel
    branches:
      slow: [{ id: ask, type: agent, prompt: "/hang 3" }]
      script: [{ id: spin, type: tool, tool: code_execution, arguments: { code: "for (;;) {}" } }]
      quick: [{ id: one, type: tool, tool: file_write, arguments: { path: a.txt, content: a } }, { id: two, type: transform, value: 2 }]
"#;
const CODE: (&str, &str) = ("AGENT_HUB_TOOLS__CODE_EXECUTION__ENABLED", "true");

#[tokio::test]
async fn branches_do_not_wait_for_each_other_and_a_cancel_stops_them_all() {
    let hub = hub_with(&[("wide", WIDE)], &[CODE]).await;
    let (mut ada, session) = hub.session("ada").await;
    let ack = ada.done(execute("wide", Value::Null)).await;
    let task = ack["taskId"].as_str().expect("an id").to_owned();
    while !steps(&ada.events(&session), &task).contains(&"completed fan.quick.two".to_owned())
        || ada.events(&session).iter().all(|event| event["type"] != "token")
    {
        ada.next().await;
    }
    ada.done(json!({ "type": "cancel_task", "taskId": task })).await;
    let end = ada.end_of(&task).await;
    assert_eq!((&end["type"], &end["data"]["upstreamStopped"]), (&json!("task_cancelled"), &json!(true)), "{end}");
    let events = ada.events(&session);
    assert_eq!(events.last().expect("events")["taskId"], json!(task), "its end is the last");
    let ends = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
    assert_eq!((ends("task_cancelled"), ends("tool_call"), ends("tool_result")), (2, 2, 2));
}

const RACE: &str = r#"
result: "=steps.first"
steps:
  - id: first
    type: parallel
    mode: race
    branches:
      - [{ id: spin, type: tool, tool: code_execution, arguments: { code: "for (;;) {}" } }]
      - [{ id: hang, type: agent, prompt: "/hang 2" }]
      - [{ id: rest, type: sleep, for: 300 ms }, { id: say, type: transform, value: rested }]
  - { id: more, type: tool, tool: file_write, arguments: { path: b.txt, content: "=input" } }
"#;

#[tokio::test]
async fn the_first_of_a_race_wins_and_the_others_are_stopped() {
    let hub = hub_with(&[("race", RACE)], &[CODE]).await;
    let (mut ada, session) = hub.session("ada").await;
    let ack = ada.done(execute("race", Value::Null)).await;
    let task = ack["taskId"].as_str().expect("an id").to_owned();
    let end = ada.end_of(&task).await;
    assert_eq!(end["data"]["result"], json!("rested"), "{end}");
    let events = ada.events(&session);
    let happened = steps(&events, &task);
    for lost in ["failed first.0.spin", "failed first.1.hang"] {
        assert!(happened.contains(&lost.to_owned()), "{happened:?}");
    }
    let child = events.iter().find(|event| event["type"] == "task_cancelled").expect("the agent that was too slow");
    assert_ne!(child["taskId"], json!(task));
    assert_eq!(child["data"]["upstreamStopped"], json!(true));
}

const WAITS: &str = r#"
steps:
  - { id: rest, type: sleep, for: 7 s }
  - { id: ask, type: suspend, timeout: 1 s, default: nobody }
"#;

#[tokio::test]
async fn a_long_sleep_gives_the_slot_back_survives_a_restart_and_ends_by_itself() {
    let mut hub = hub_with(&[("waits", WAITS)], &[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let ack = ada.done(execute("waits", json!("in"))).await;
    let task = ack["taskId"].as_str().expect("an id").to_owned();
    let rests = ada.until("task_suspended").await;
    assert!(rests["data"]["reason"] == "sleep" && rests["data"]["expiresAt"].is_string(), "{rests}");
    assert!(hub.metric("agent_hub_tasks_running").await < 1.0);
    hub.crash().await;
    let mut ada = hub.connect("ada").await;
    ada.attach(&session, None).await;
    let end = ada.end_of(&task).await;
    assert_eq!(end["data"]["result"], json!("nobody"), "{end}");
    assert!(ada.events(&session).iter().filter(|event| suspended(event)).all(|event| event["data"]["expiresAt"].is_string()));
}

const OUT_OF_TIME: &str = "steps: [{ id: ask, type: suspend, timeout: 300 ms }]";

#[tokio::test]
async fn an_execution_that_nobody_resumes_in_time_ends_as_timed_out() {
    let hub = hub_with(&[("late", OUT_OF_TIME)], &[]).await;
    let (mut ada, _) = hub.session("ada").await;
    let ack = ada.done(execute("late", Value::Null)).await;
    let task = ack["taskId"].as_str().expect("an id").to_owned();
    let end = ada.end_of(&task).await;
    assert_eq!(end["type"], "task_timeout", "{end}");
    ada.refused(json!({ "type": "resume_task", "taskId": task }), "already_terminal").await;
}

const ASKS: &str = r#"
steps:
  - { id: send, type: tool, tool: file_write, approve: true, arguments: { path: c.txt, content: first }, on_error: continue }
  - { id: broken, type: tool, tool: file_read, arguments: { path: "../../etc/passwd" }, on_error: continue }
  - { id: missing, type: tool, tool: web_search, arguments: { query: x }, retries: 1, retry_delay: 10 ms, on_error: continue }
  - { id: wrong, type: tool, tool: file_write, arguments: { path: 7 } }
"#;

#[tokio::test]
async fn calls_of_steps_wait_for_people_and_fail_with_a_code() {
    let hub = hub_with(&[("asks", ASKS)], &[]).await;
    for yes in [true, false] {
        let (mut ada, session) = hub.session("ada").await;
        let ack = ada.done(execute("asks", Value::Null)).await;
        let task = ack["taskId"].as_str().expect("an id").to_owned();
        let asked = ada.until("input_requested").await;
        ada.refused(json!({ "type": "resume_task", "taskId": task }), "busy").await;
        let outcome = if yes { "accept" } else { "reject" };
        let answer = json!({ "type": "respond_input", "taskId": task, "requestId": asked["data"]["requestId"], "outcome": outcome });
        ada.done(answer).await;
        let end = ada.end_of(&task).await;
        assert_eq!(end["type"], "task_failed", "{end}");
        assert!(end["data"]["message"].as_str().expect("text").starts_with("wrong: "), "{end}");
        let events = ada.events(&session);
        let codes: Vec<&Value> = events.iter().filter(|event| event["type"] == "tool_result").map(|event| &event["data"]["code"]).collect();
        let first = if yes { Value::Null } else { json!("refused") };
        assert_eq!(codes, [&first, &json!("refused"), &json!("unavailable"), &json!("unavailable"), &json!("invalid_arguments")]);
    }
}

#[tokio::test]
async fn an_execution_is_suspended_by_request_and_goes_on_from_a_step() {
    let text = r#"
steps:
  - { id: one, type: tool, tool: file_write, arguments: { path: d.txt, content: one } }
  - { id: think, type: agent, prompt: "=`/pace 5 /tokens ${if resume == () { 2000 } else { 3 }}`" }
"#;
    let hub: Hub = hub_with(&[("long", text)], &[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let ack = ada.done(execute("long", Value::Null)).await;
    let task = ack["taskId"].as_str().expect("an id").to_owned();
    ada.until("token").await;
    ada.done(json!({ "type": "suspend_task", "taskId": task, "reason": "lunch" })).await;
    ada.refused(json!({ "type": "resume_task", "taskId": task, "stepId": "think" }), "invalid_message").await;
    ada.done(json!({ "type": "resume_task", "taskId": task, "stepId": "one", "data": "short" })).await;
    let end = ada.end_of(&task).await;
    assert_eq!(end["type"], "task_completed", "{end}");
    let happened = steps(&ada.events(&session), &task);
    let times = |what: &str| happened.iter().filter(|step| *step == what).count();
    assert_eq!((times("completed one"), times("started think"), times("completed think")), (2, 2, 1), "{happened:?}");
}

#[tokio::test]
async fn an_execution_is_repeated_from_a_step_in_the_same_session() {
    let mut hub: Hub = hub_with(&[("expense", APPROVAL)], &[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let ack = ada.done(execute("expense", json!({ "amount": 10, "who": "Eve" }))).await;
    let first = ack["taskId"].as_str().expect("an id").to_owned();
    assert_eq!(ada.end_of(&first).await["type"], "task_completed");
    let (_, capabilities) = hub.http("GET", "/api/v1/agents/capabilities", "ada").await;
    let workflow = &capabilities["workflows"][0];
    assert_eq!((&workflow["id"], &workflow["name"]), (&json!("expense"), &json!("Expense approval")));
    assert_eq!(workflow["input"]["required"], json!(["amount", "who"]));
    let path = |task: &str| format!("/api/v1/agents/tasks/{task}/replay");
    let chosen = new_id();
    let again = json!({ "stepId": "note", "input": "by hand", "taskId": chosen });
    let (status, accepted) = hub.send("POST", &path(&first), "ada", &again).await;
    assert_eq!((status, &accepted["taskId"], &accepted["sessionId"]), (202, &json!(chosen), &json!(session)), "{accepted}");
    let end = ada.end_of(&chosen).await;
    assert_eq!((&end["type"], &end["data"]["result"]["approved"]), (&json!("task_completed"), &json!(true)), "{end}");
    let events = ada.events(&session);
    assert!(
        steps(&events, &chosen).iter().all(|step| !step.ends_with(" check") && !step.ends_with(" decide")),
        "what it took over is not done again"
    );
    let written = events.iter().rfind(|event| event["type"] == "tool_call").expect("a call");
    assert_eq!(written["data"]["arguments"]["content"], "Eve: by hand");
    // Said again, also after a crash, nothing happens twice; with other content it is refused.
    hub.crash().await;
    let (status, repeated) = hub.send("POST", &path(&first), "ada", &again).await;
    assert_eq!((status, &repeated["taskId"], &repeated["status"]), (202, &json!(chosen), &json!("completed")), "{repeated}");
    let other = json!({ "stepId": "tell", "taskId": chosen });
    assert_eq!(hub.send("POST", &path(&first), "ada", &other).await.0, 409);
    for (task, body, status) in [
        (first.as_str(), json!({}), 400),
        (&first, json!({ "stepId": "nowhere" }), 400),
        (&first, json!({ "stepId": "tell", "taskId": "x" }), 400),
        (&new_id(), json!({ "stepId": "tell" }), 404),
    ] {
        let (got, answer) = hub.send("POST", &path(task), "ada", &body).await;
        assert_eq!(got, status, "{body}: {answer}");
    }
    assert_eq!(hub.send("POST", &path(&first), "eve", &json!({ "stepId": "tell" })).await.0, 403);
    let mut back = hub.connect("ada").await;
    back.attach(&session, None).await;
    let talk = back.submit("/echo no execution").await;
    back.end_of(&talk).await;
    assert_eq!(hub.send("POST", &path(&talk), "ada", &json!({ "stepId": "tell" })).await.1["code"], "not_supported");
}
