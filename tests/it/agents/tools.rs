//! Tools in the hands of an agent.

use std::{fs, time::Duration};

use agent_hub_load::vendor::Script;
use serde_json::{Value, json};

use crate::harness::Hub;

/// Scripts may run, and may be long.
const CODE: (&str, &str) = ("AGENT_HUB_TOOLS__CODE_EXECUTION__ENABLED", "true");
const ALLOWED: (&str, &str) = ("AGENT_HUB_AGENTS__ASSISTANT__TOOLS", "code_execution");

fn script(code: &str) -> String {
    format!("/tool code_execution {}", json!({ "code": code }))
}

fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}

/// Processes that this one has started and that are still there.
fn children_of(pid: u32) -> usize {
    let parent = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1).and_then(|parent| parent.parse::<u32>().ok()))
    };
    let names = fs::read_dir("/proc").expect("/proc").filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| parent(name) == Some(pid)).count()
}

async fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not so");
}

#[tokio::test]
async fn a_script_runs_says_things_and_has_a_result() {
    let hub = Hub::start(&[CODE, ALLOWED]).await;
    let (mut ada, session) = hub.session("ada").await;
    let end = ada.run(&script("console.log('one'); console.log('two'); 6 * 7")).await;
    assert!(end["type"] == "task_completed" && end["data"]["result"].as_str().expect("text").contains("42"), "{end}");
    let events = ada.events(&session);
    let call = &of(&events, "tool_call")[0]["data"]["callId"];
    let said: String = of(&events, "tool_output").iter().filter_map(|event| event["data"]["output"].as_str()).collect();
    assert_eq!(said, "one\ntwo\n");
    let result = of(&events, "tool_result")[0];
    assert_eq!((&result["data"]["callId"], &result["data"]["output"]["result"]), (call, &json!(42)));
    assert!(result["data"]["durationMs"].as_u64().is_some());

    // What goes wrong is told to the model, which goes on.
    for (prompt, code) in [
        (script("throw new Error('no')"), "failed"),
        (script("const all = []; for (;;) all.push(new Uint8Array(1024 * 1024))"), "too_large"),
        ("/tool code_execution {\"timeout\": 5}".to_owned(), "invalid_arguments"),
        ("/tool code_execution {\"code\": 5}".to_owned(), "invalid_arguments"),
        ("/tool rm_rf {}".to_owned(), "unknown_tool"),
        ("/tool web_search {\"query\": \"x\"}".to_owned(), "unavailable"),
        ("/tool code_execution {\"code\": \"for (;;) {}\", \"timeout\": 200}".to_owned(), "timed_out"),
    ] {
        let end = ada.run(&prompt).await;
        assert_eq!(end["type"], "task_completed", "{prompt}: {end}");
        let events = ada.events(&session);
        let result = of(&events, "tool_result").pop().expect("a result");
        assert_eq!(result["data"]["code"], code, "{prompt}: {result}");
        assert!(!result["data"]["error"].as_str().expect("text").is_empty());
    }
    let (_, capabilities) = hub.http("GET", "/api/v1/agents/capabilities", "ada").await;
    let tools = capabilities["tools"].as_array().expect("a list");
    let agents = capabilities["agents"].as_array().expect("a list");
    let assistant = agents.iter().find(|agent| agent["name"] == "assistant").expect("configured");
    assert_eq!((&assistant["tools"], &assistant["subAgents"]), (&json!(["code_execution"]), &json!([])));
    assert_eq!(capabilities["workflows"], json!([]));
    let available = |name: &str| tools.iter().find(|tool| tool["name"] == name).map(|tool| &tool["available"]);
    assert_eq!((available("code_execution"), available("web_search")), (Some(&json!(true)), Some(&json!(false))));
}

#[tokio::test]
async fn a_person_allows_edits_or_refuses_a_call() {
    let rule = ("AGENT_HUB_AGENTS__ASSISTANT__APPROVE", "code_execution: arguments.code.contains(\"danger\")");
    let mut hub = Hub::start(&[CODE, ALLOWED, rule]).await;
    let (mut ada, session) = hub.session("ada").await;
    // What the rule does not mean runs at once.
    assert!(ada.run(&script("'harmless'")).await["data"]["result"].as_str().expect("text").contains("harmless"));
    assert!(of(&ada.events(&session), "input_requested").is_empty());

    let task = ada.submit(&script("'danger ' + 1")).await;
    let request = ada.until("input_requested").await;
    assert_eq!(request["data"]["kind"], "approval");
    ada.until("task_suspended").await;
    let answer = |request: &Value, task: &str, outcome: &str, more: Value| {
        let mut answer = json!({"type": "respond_input", "taskId": task, "requestId": request["data"]["requestId"], "outcome": outcome});
        answer.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        answer
    };
    let wrong = ada.refused(answer(&request, &task, "accept", json!({"editedArguments": {"code": 5}})), "invalid_message").await;
    assert!(
        wrong["message"].as_str().expect("text").contains("editedArguments") || wrong["details"].to_string().contains("editedArguments")
    );
    // It waits through a crash.
    hub.crash().await;
    let mut ada = hub.connect("ada").await;
    let snapshot = ada.attach(&session, None).await["snapshot"].clone();
    assert_eq!(snapshot["pendingInputs"][0]["requestId"], request["data"]["requestId"]);
    ada.done(answer(&request, &task, "accept", json!({"editedArguments": {"code": "'edited ' + 2"}}))).await;
    let end = ada.end_of(&task).await;
    assert!(end["data"]["result"].as_str().expect("text").contains("edited 2"), "{end}");

    let task = ada.submit(&script("'danger ' + 3")).await;
    let request = ada.until("input_requested").await;
    ada.done(answer(&request, &task, "reject", json!({"payload": {"reason": "not today"}}))).await;
    let end = ada.end_of(&task).await;
    assert_eq!(end["type"], "task_completed", "{end}");
    let events = ada.events(&session);
    let result = of(&events, "tool_result").pop().expect("a result");
    assert_eq!(
        (&result["data"]["code"], &result["data"]["error"]),
        (&json!("refused"), &json!("A person did not allow this call: not today"))
    );
}

#[tokio::test]
async fn a_cancel_stops_three_scripts_at_once() {
    let (hub, vendor) = Hub::with_vendor(&[CODE, ALLOWED]).await;
    let (mut ada, session) = hub.session("ada").await;
    for _ in 0..2 {
        vendor.set_next_scripts([Script { parallel: true, ..Script::default() }]);
        let task = ada.submit(&[script("for (;;) {}"), script("for (;;) {}"), script("for (;;) {}")].join(" ")).await;
        // Two of one user run, the third waits for its turn.
        eventually("two scripts run", || children_of(hub.pid()) == 2).await;
        ada.done(json!({"type": "cancel_task", "taskId": task})).await;
        let end = ada.end_of(&task).await;
        assert_eq!((&end["type"], &end["data"]["upstreamStopped"]), (&json!("task_cancelled"), &json!(true)), "{end}");
        assert_eq!(ada.events(&session).last().expect("events")["seq"], end["seq"]);
        eventually("no script runs", || children_of(hub.pid()) == 0).await;
    }
    assert_eq!(ada.run("/echo on").await["data"]["result"], "on");
}

#[tokio::test]
async fn a_model_that_calls_for_ever_is_stopped_with_a_reason() {
    let hub = Hub::start(&[CODE, ALLOWED, ("AGENT_HUB_AGENTS__ASSISTANT__MAX_STEPS", "4")]).await;
    let (mut ada, session) = hub.session("ada").await;
    let end = ada.run("/steps 100 /tool code_execution {\"code\": \"1\"}").await;
    assert_eq!((&end["type"], &end["data"]["code"]), (&json!("task_failed"), &json!("quota_exceeded")), "{end}");
    assert!(end["data"]["message"].as_str().expect("text").contains("maxSteps"), "{end}");
    assert_eq!(of(&ada.events(&session), "tool_result").len(), 4);
}

#[tokio::test]
async fn results_that_are_in_the_log_are_not_made_again() {
    let mut hub =
        Hub::start(&[CODE, ALLOWED, ("AGENT_HUB_AGENTS__ASSISTANT__MAX_STEPS", "50"), ("AGENT_HUB_RUNTIME__MAX_ATTEMPTS", "100")]).await;
    let (mut ada, session) = hub.session("ada").await;
    let task = ada.submit("/steps 12 /tool code_execution {\"code\": \"Math.random()\"}").await;
    for _ in 0..8 {
        ada.until("tool_result").await;
        let cursor = ada.cursor(&session);
        hub.crash().await;
        ada = hub.connect("ada").await;
        ada.attach(&session, Some(&cursor)).await;
    }
    assert_eq!(ada.end_of(&task).await["type"], "task_completed");
    let mut reader = hub.connect("ada").await;
    let first = reader.attach(&session, None).await;
    let start = format!("{}.0", first["epoch"].as_str().expect("an epoch"));
    reader.done(json!({"type": "detach_session", "sessionId": session})).await;
    reader.attach(&session, Some(&start)).await;
    reader.until("caught_up").await;
    let events = reader.events(&session);
    let mut results: Vec<&str> = of(&events, "tool_result").iter().filter_map(|event| event["data"]["callId"].as_str()).collect();
    let mut calls: Vec<&str> = of(&events, "tool_call").iter().filter_map(|event| event["data"]["callId"].as_str()).collect();
    assert_eq!(results.len(), 12);
    results.sort_unstable();
    calls.sort_unstable();
    assert_eq!(results, calls, "each call has one result");
}

#[tokio::test]
async fn files_stay_with_their_session_and_go_with_it() {
    let settings = [("WORKSPACE_PATH", "./files"), ("AGENT_HUB_AGENTS__ASSISTANT__TOOLS", "file_*")];
    let hub = Hub::start(&settings).await;
    let (mut ada, session) = hub.session("ada").await;
    let write = json!({ "path": "notes/a.txt", "content": "what was written" });
    assert_eq!(ada.run(&format!("/tool file_write {write}")).await["type"], "task_completed");
    let read = format!("/tool file_read {}", json!({ "path": "notes/a.txt" }));
    assert!(ada.run(&read).await["data"]["result"].as_str().expect("text").contains("what was written"));
    let files = |hub: &Hub| {
        let mut waiting = vec![hub.directory().join("files")];
        let mut found = 0;
        while let Some(at) = waiting.pop() {
            for entry in fs::read_dir(at).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) { waiting.push(entry.path()) } else { found += 1 }
            }
        }
        found
    };
    assert_eq!(files(&hub), 1);
    // Neither another session of hers nor anybody else's finds it.
    let (mut other, _) = hub.session("ada").await;
    let (mut eve, eves) = hub.session("eve").await;
    for reader in [&mut other, &mut eve] {
        assert!(!reader.run(&read).await["data"]["result"].as_str().expect("text").contains("what was written"));
    }
    assert_eq!(of(&eve.events(&eves), "tool_result")[0]["data"]["code"], "not_found");
    for path in ["../x", "/etc/passwd", "a/../../x", ".env", "\u{0}"] {
        let (mut mallory, session) = hub.session("mallory").await;
        mallory.run(&format!("/tool file_read {}", json!({ "path": path }))).await;
        let events = mallory.events(&session);
        let code = of(&events, "tool_result")[0]["data"]["code"].as_str().expect("a code");
        assert!(["invalid_arguments", "refused", "not_found"].contains(&code), "{path}: {code}");
    }
    let (status, _) = hub.http("DELETE", &format!("/api/v1/agents/sessions/{session}"), "ada").await;
    assert!((200..300).contains(&status), "{status}");
    assert_eq!(files(&hub), 0, "they went with the session");
}
