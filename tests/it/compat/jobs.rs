//! The job API: accept, ask, watch.

use std::collections::HashSet;

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::{ANONYMOUS, Caller, blocks, types, until};
use crate::harness::{Hub, new_id};

/// Asks until the job has ended.
async fn ended(caller: &Caller, job: &Value) -> Value {
    loop {
        let (status, body) = caller.get(&format!("/agent/tasks/{}", job.as_str().expect("an id"))).await;
        assert_eq!(status, 200, "{body}");
        if body["retry_after"] == 0 {
            return body;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_job_is_accepted_at_once_and_asked_about_later() {
    let hub = Hub::start(&[ANONYMOUS]).await;
    let caller = Caller::of(&hub);
    let (status, accepted) = caller.post("/agent/tasks", json!({"task": "/tokens 2000 /pace 5", "idempotency_key": "order 7"})).await;
    assert_eq!((status, &accepted["status"]), (202, &json!("pending")), "{accepted}");
    let job = accepted["job_id"].clone();
    assert_eq!(accepted["poll_url"], format!("/agent/tasks/{}", job.as_str().expect("an id")));
    let (_, running) = caller.get(accepted["poll_url"].as_str().expect("a path")).await;
    assert!(["pending", "running"].contains(&running["status"].as_str().expect("a status")), "{running}");
    assert_eq!(running["retry_after"], 1);
    let (status, _) = caller.post(&format!("/agent/tasks/{}/cancel", job.as_str().expect("an id")), json!({})).await;
    assert_eq!(status, 202);
    let cancelled = ended(&caller, &job).await;
    assert_eq!((&cancelled["status"], &cancelled["result"]), (&json!("cancelled"), &Value::Null));
    let (status, again) = caller.post(&format!("/agent/tasks/{}/cancel", job.as_str().expect("an id")), json!({})).await;
    assert_eq!((status, &again["code"]), (409, &json!("already_terminal")));

    let (_, accepted) = caller.post("/agent/tasks", json!({"prompt": "/echo done and dusted"})).await;
    let done = ended(&caller, &accepted["job_id"]).await;
    assert_eq!((&done["status"], &done["result"], &done["error"]), (&json!("completed"), &json!("done and dusted"), &Value::Null));
    let (_, accepted) = caller.post("/agent/tasks", json!({"input": "/fail 401"})).await;
    let failed = ended(&caller, &accepted["job_id"]).await;
    assert_eq!((&failed["status"], &failed["error_code"]), (&json!("failed"), &json!("upstream_error")), "{failed}");

    for (path, status) in [("/agent/tasks/nonsense", 404), (&*format!("/agent/tasks/{}", new_id()), 404)] {
        assert_eq!(caller.get(path).await.0, status, "{path}");
    }
    let foreign = hub.http("GET", accepted["poll_url"].as_str().expect("a path"), "somebody-else").await;
    assert_eq!(foreign.0, 404, "{foreign:?}");
}

#[tokio::test]
async fn a_key_is_one_job_whoever_repeats_it_and_also_after_a_kill() {
    let mut hub = Hub::start(&[ANONYMOUS]).await;
    let caller = Caller::of(&hub);
    let body = json!({"task": "/tokens 5 /pace 1", "idempotency_key": "k-1"});
    let answers = join_all((0..30).map(|_| caller.post("/agent/tasks", body.clone()))).await;
    let jobs: HashSet<String> = answers.iter().map(|(_, answer)| answer["job_id"].to_string()).collect();
    assert_eq!(jobs.len(), 1, "{answers:?}");
    let fresh = answers.iter().filter(|(status, answer)| *status == 202 && answer["status"] == "pending").count();
    let repeated = answers.iter().filter(|(status, answer)| *status == 202 && answer["status"] == "already_accepted").count();
    assert_eq!((fresh, repeated), (1, 29));
    let other = caller.post("/agent/tasks", json!({"task": "something else", "idempotency_key": "k-1"})).await;
    assert_eq!((other.0, &other.1["code"]), (409, &json!("idempotency_conflict")));
    let by_header = caller.request("/agent/tasks", &json!({"task": "/tokens 5 /pace 1"})).header("Idempotency-Key", "k-1");
    let by_header: Value = by_header.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(by_header["status"], "already_accepted");

    hub.kill().await;
    hub.run().await;
    let caller = Caller::of(&hub);
    let again = caller.post("/agent/tasks", body).await;
    assert_eq!((&again.1["status"], &again.1["job_id"]), (&json!("already_accepted"), &answers[0].1["job_id"]));

    // A UUID is the job's own id, on every transport.
    let id = new_id();
    let accepted = caller.post("/agent/tasks", json!({"task": "/echo one", "idempotency_key": id})).await.1;
    assert_eq!(accepted["job_id"], id);
    let token = crate::harness::token("guest");
    let native = reqwest::Client::builder().no_proxy().build().expect("a client");
    let path = format!("/api/v1/agents/sessions/{}/tasks", accepted["session_id"].as_str().expect("an id"));
    let asked = native.request(Method::POST, caller.url(&path)).bearer_auth(token).json(&json!({"prompt": "/echo one", "taskId": id}));
    let asked: Value = asked.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(asked["taskId"], id, "{asked}");
    let (_, page) = hub.http("GET", &path.replace("/tasks", "/messages"), "guest").await;
    assert_eq!(page["messages"].as_array().expect("a list").len(), 2, "one prompt, one answer: {page}");
}

#[tokio::test]
async fn a_hundred_equal_requests_over_four_transports_are_one_run() {
    let (mut hub, vendor) = Hub::with_vendor(&[("AGENT_HUB_AUTH__ANONYMOUS", "ada")]).await;
    let (mut ada, session) = hub.session("ada").await;
    let id = new_id();
    let submit = json!({"type": "submit_task", "sessionId": session, "prompt": "/tokens 20 /pace 5", "taskId": id});
    let job = json!({"task": "/tokens 20 /pace 5", "session_id": session, "idempotency_key": id});
    let native = json!({"prompt": "/tokens 20 /pace 5", "taskId": id});
    let path = format!("/api/v1/agents/sessions/{session}/tasks");
    let caller = Caller::of(&hub);
    let sockets = async {
        for n in 0..25 {
            let mut command = submit.clone();
            command["id"] = json!(n);
            ada.say(command).await;
        }
        for n in 0..25 {
            loop {
                let frame = ada.next().await;
                if frame["id"] == n {
                    assert_eq!((&frame["type"], &frame["taskId"]), (&json!("ack"), &json!(id)), "{frame}");
                    break;
                }
            }
        }
    };
    let (_, rest, jobs, streams) = tokio::join!(
        sockets,
        join_all((0..25).map(|_| hub.send("POST", &path, "ada", &native))),
        join_all((0..25).map(|_| caller.post("/agent/tasks", job.clone()))),
        join_all((0..25).map(|_| caller.blocks("/agent/stream", job.clone()))),
    );
    assert!(rest.iter().all(|(status, answer)| *status == 202 && answer["taskId"] == id), "{rest:?}");
    assert!(jobs.iter().all(|(status, answer)| *status == 202 && answer["job_id"] == id), "{jobs:?}");
    assert!(streams.iter().all(|steps| steps == &streams[0]), "everybody watches the same");
    assert_eq!(vendor.counters().calls, 1);

    hub.kill().await;
    hub.run().await;
    let caller = Caller::of(&hub);
    let (status, answer) = caller.post("/agent/tasks", job.clone()).await;
    assert_eq!((status, &answer["status"]), (202, &json!("already_accepted")), "{answer}");
    assert_eq!(hub.send("POST", &path, "ada", &native).await.1["status"], "completed");
    let mut back = hub.connect("ada").await;
    let again = back.done(submit).await;
    assert_eq!(again["taskId"], id);
    assert_eq!(caller.blocks("/agent/stream", job).await, streams[0], "told again from the log");
    assert_eq!(vendor.counters().calls, 1);
}

#[tokio::test]
async fn a_stream_has_the_steps_and_ends_with_done() {
    let (hub, vendor) = Hub::with_vendor(&[ANONYMOUS]).await;
    let caller = Caller::of(&hub);
    let response = caller.request("/agent/stream", &json!({"task": "/reason 3 /tool nonsense {\"a\": 1} /echo it is done"})).send().await;
    let response = response.expect("an answer");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    assert_eq!(response.headers()["cache-control"], "no-cache");
    let steps = blocks(&response.text().await.expect("the whole stream"));
    assert_eq!(types(&steps), ["thought", "action", "result", "thought", "result", "done"], "{steps:?}");
    assert_eq!((&steps[1]["tool"], &steps[1]["arguments"]), (&json!("nonsense"), &json!({"a": 1})));
    assert_eq!(steps[2]["is_error"], true);
    assert_eq!((&steps[4]["content"], &steps[4]["final"]), (&json!("it is done"), &json!(true)));
    assert!(steps.iter().filter(|step| step["type"] != "done").all(|step| step["content"].is_string()));

    // The same key watches the same job, from its beginning.
    let ask = json!({"task": "/tokens 40 /pace 5", "idempotency_key": "watched", "tokens": true});
    let before = vendor.counters().calls;
    let (one, two) = tokio::join!(caller.blocks("/agent/stream", ask.clone()), caller.blocks("/agent/stream", ask));
    assert_eq!(vendor.counters().calls - before, 1);
    let text = |steps: &[Value]| -> String {
        steps.iter().filter(|step| step["type"] == "token").filter_map(|step| step["content"].as_str()).collect()
    };
    let answer = one.iter().find(|step| step["final"] == true).expect("an answer");
    assert_eq!(text(&one), answer["content"].as_str().expect("text"));
    assert_eq!(text(&one), text(&two));

    let failed = caller.blocks("/agent/stream", json!({"task": "/fail 401"})).await;
    assert_eq!(types(&failed), ["error", "done"]);
    assert_eq!(failed[1]["status"], "failed");

    // Who hangs up leaves the job alone, unless that was asked for.
    for (stops, status) in [(false, "completed"), (true, "cancelled")] {
        let ask = json!({"task": "/tokens 300 /pace 3", "tokens": true, "cancel_on_disconnect": stops});
        let mut response = caller.request("/agent/stream", &ask).send().await.expect("an answer");
        let begun = until(&mut response, "\"token\"").await;
        let job = blocks(&begun)[0]["job_id"].clone();
        drop(response);
        assert_eq!(ended(&caller, &job).await["status"], status);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_job_is_said_and_nothing_is_made() {
    let hub = Hub::start(&[ANONYMOUS]).await;
    let caller = Caller::of(&hub);
    for (body, status, code) in [
        (json!({}), 400, "invalid_message"),
        (json!({"task": "   "}), 400, "invalid_message"),
        (json!({"task": 7}), 400, "invalid_message"),
        (json!({"task": "x".repeat(10_001)}), 400, "prompt_too_long"),
        (json!({"task": "a", "idempotency_key": ""}), 400, "invalid_message"),
        (json!({"task": "a", "idempotency_key": "k".repeat(256)}), 400, "invalid_message"),
        (json!({"task": "a", "session_id": "nonsense"}), 400, "invalid_message"),
        (json!({"task": "a", "session_id": new_id()}), 404, "session_not_found"),
        (json!({"task": "a", "agent": "nobody"}), 400, "invalid_message"),
        (json!({"task": "a", "timeout_ms": 0}), 400, "invalid_message"),
        (json!({"task": "a", "options": {"temperature": 9}}), 400, "invalid_message"),
        (json!({"task": "a", "callback_url": "https://example.com"}), 501, "not_supported"),
        (json!([1]), 400, "invalid_message"),
    ] {
        for path in ["/agent/tasks", "/agent/stream"] {
            let (got, answer) = caller.post(path, body.clone()).await;
            assert_eq!((got, answer["code"].as_str()), (status, Some(code)), "{path} {body}: {answer}");
            assert!(answer["error"].is_string() && answer["success"] == false);
        }
    }
    let (_, sessions) = hub.http("GET", "/api/v1/agents/sessions", "guest").await;
    assert_eq!(sessions["sessions"].as_array().map(Vec::len), Some(0), "{sessions}");
}
