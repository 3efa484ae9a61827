//! Workflows: the document's requests, its `WorkflowClient`, and what the newest real one has besides.

use std::{fs, time::Duration};

use serde_json::{Value, json};

use crate::compat::{ANONYMOUS, Caller, lines, types, until};
use crate::harness::Hub;

const ORDER: &str = r#"
name: Order Approval Workflow
purpose: Process and approve customer orders
input: { type: object, properties: { orderId: { type: string }, amount: { type: number } }, required: [orderId, amount] }
result: "=#{ approved: steps.decide, orderId: workflow.input.orderId, by: userContext.department }"
steps:
  - { id: check, name: Check the amount, type: transform, value: "=input.amount" }
  - id: decide
    type: condition
    if: input > 1000
    then:
      - id: manager
        type: suspend
        reason: Waiting for manager approval
        resume: { type: object, properties: { approved: { type: boolean } }, required: [approved] }
      - { id: yes, type: transform, value: "=input.approved" }
    else: [{ id: yes, type: transform, value: true }]
"#;
const SLOW: &str = r#"
steps:
  - { id: first, type: transform, value: 1 }
  - { id: think, type: agent, prompt: "/pace 5 /tokens 400" }
"#;

async fn hub_with(workflows: &[(&str, &str)]) -> Hub {
    let mut hub = Hub::prepared(&[ANONYMOUS, ("AGENT_HUB_WORKFLOWS__PATH", "./flows"), ("WORKSPACE_PATH", "./workspace")]);
    let folder = hub.directory().join("flows");
    fs::create_dir(&folder).expect("a folder");
    for (id, text) in workflows {
        fs::write(folder.join(format!("{id}.yaml")), text).expect("a file");
    }
    hub.run().await;
    hub
}

fn large() -> Value {
    json!({ "input": { "orderId": "order-789", "amount": 15000 }, "options": { "userId": "user-123", "userContext": { "department": "sales" } } })
}

impl Caller {
    async fn resume(&self, workflow: &str, execution: &Value, body: Value) -> (u16, Value) {
        self.post(&format!("/workflows/{workflow}/executions/{}/resume", execution.as_str().expect("an id")), body).await
    }

    async fn state(&self, workflow: &str, execution: &Value) -> Value {
        let (status, body) = self.get(&format!("/workflows/{workflow}/executions/{}/state", execution.as_str().expect("an id"))).await;
        assert_eq!(status, 200, "{body}");
        body["data"].clone()
    }
}

#[tokio::test]
async fn workflows_are_listed_and_described() {
    let volt_hub = hub_with(&[("order-approval", ORDER), ("slow", SLOW)]).await;
    let volt = Caller::of(&volt_hub);
    let (status, all) = volt.get("/workflows").await;
    let want = json!({ "id": "order-approval", "name": "Order Approval Workflow", "purpose": "Process and approve customer orders", "stepsCount": 2, "status": "idle" });
    assert_eq!((status, &all["success"], &all["data"][0]), (200, &json!(true), &want));
    assert_eq!(all["data"][1]["purpose"], "No purpose provided");
    let (status, one) = volt.get("/workflows/order-approval").await;
    assert_eq!(status, 200);
    let steps = &one["data"]["steps"];
    assert_eq!(
        (&steps[0]["name"], &steps[0]["type"], &steps[1]["type"], &steps[1]["stepIndex"]),
        (&json!("Check the amount"), &json!("func"), &json!("conditional-when"), &json!(1))
    );
    assert_eq!(one["data"]["inputSchema"]["required"], json!(["orderId", "amount"]));
    let (status, none) = volt.get("/workflows/nowhere").await;
    assert_eq!((status, &none["success"]), (404, &json!(false)));
}

#[tokio::test]
async fn the_documents_client_approves_an_order() {
    let hub = hub_with(&[("order-approval", ORDER)]).await;
    let volt = Caller::of(&hub);
    // Nothing to approve.
    let done = volt.ok("/workflows/order-approval/execute", json!({ "input": { "orderId": "order-123", "amount": 5 } })).await;
    assert_eq!((&done["status"], &done["result"]), (&json!("completed"), &json!({ "approved": true, "orderId": "order-123", "by": null })));
    assert!(done["startAt"].is_string() && done["endAt"].is_string() && done.get("suspension").is_none(), "{done}");
    // Suspended, told so, resumed.
    let execution = volt.ok("/workflows/order-approval/execute", large()).await;
    assert_eq!((&execution["status"], &execution["endAt"], &execution["result"]), (&json!("suspended"), &Value::Null, &Value::Null));
    let suspension = &execution["suspension"];
    assert_eq!((&suspension["reason"], &suspension["suspendedStepIndex"]), (&json!("Waiting for manager approval"), &json!(1)));
    assert!(suspension["suspendedAt"].is_string());
    let id = &execution["executionId"];
    let (status, refused) = volt.resume("order-approval", id, json!({ "resumeData": { "approved": "maybe" } })).await;
    assert_eq!(status, 400, "{refused}");
    assert!(refused["error"].as_str().expect("a text").contains("/approved"), "{refused}");
    let (status, done) = volt.resume("order-approval", id, json!({ "resumeData": { "approved": true, "managerId": "mgr-456" } })).await;
    assert_eq!((status, &done["data"]["status"]), (200, &json!("completed")), "{done}");
    assert_eq!(done["data"]["result"], json!({ "approved": true, "orderId": "order-789", "by": "sales" }));
    assert_eq!(done["data"]["executionId"], *id);
    let (status, again) = volt.resume("order-approval", id, json!({ "resumeData": { "approved": true } })).await;
    assert_eq!((status, &again["error"]), (404, &json!("Workflow execution not found or not in suspended state")));

    for (path, body, status) in [
        ("/workflows/nowhere/execute", json!({ "input": {} }), 404),
        ("/workflows/order-approval/execute", json!({ "input": { "orderId": 7 } }), 400),
        ("/workflows/order-approval/execute", json!({}), 400),
        ("/workflows/order-approval/executions/exec_1/suspend", json!({}), 404),
        ("/workflows/order-approval/executions/exec_1/resume", json!({}), 404),
        ("/workflows/order-approval/executions/exec_1/cancel", json!({}), 404),
    ] {
        volt.refused(path, body, status).await;
    }
}

#[tokio::test]
async fn two_resumes_at_once_have_one_winner_and_a_foreign_workflow_has_none() {
    let hub = hub_with(&[("order-approval", ORDER), ("slow", SLOW)]).await;
    let volt = Caller::of(&hub);
    let execution = volt.ok("/workflows/order-approval/execute", large()).await;
    let id = &execution["executionId"];
    let (status, _) = volt.resume("slow", id, json!({ "resumeData": { "approved": true } })).await;
    assert_eq!(status, 404, "it is no execution of that workflow");
    let path = format!("/workflows/order-approval/executions/{}/resume", id.as_str().unwrap());
    let (status, foreign) = {
        let request = volt
            .http
            .post(volt.url(&path))
            .bearer_auth(crate::harness::token("mallory"))
            .json(&json!({ "resumeData": { "approved": true } }));
        crate::compat::read(request).await
    };
    assert_eq!(status, 404, "{foreign}");
    let data = |approved: bool| json!({ "resumeData": { "approved": approved } });
    let (yes, no) = tokio::join!(volt.post(&path, data(true)), volt.post(&path, data(false)));
    let mut both = [yes.0, no.0];
    both.sort_unstable();
    assert_eq!(both, [200, 404], "{yes:?} {no:?}");
    let state = volt.state("order-approval", id).await;
    assert_eq!(state["result"]["approved"], json!(yes.0 == 200));
}

#[tokio::test]
async fn a_stream_tells_every_step_closes_when_suspended_and_goes_on_by_its_number() {
    let mut hub = hub_with(&[("order-approval", ORDER)]).await;
    let volt = Caller::of(&hub);
    let mut body = large();
    body["options"]["executionId"] = json!("my-execution");
    let response = volt.request("/workflows/order-approval/stream", &body).send().await.expect("a stream");
    let first = response.text().await.expect("it closes");
    let seen = lines(&first);
    let want = ["workflow-start", "step-start", "step-complete", "step-start", "step-start", "workflow-suspended", "workflow-result"];
    assert_eq!(types(&seen), want);
    assert!(seen.iter().all(|event| event["executionId"] == "my-execution" && event["timestamp"].is_string()), "{seen:?}");
    assert_eq!(
        (&seen[0]["from"], &seen[0]["input"], &seen[0]["userContext"]),
        (&json!("Order Approval Workflow"), &body["input"], &json!({ "department": "sales" }))
    );
    assert_eq!(
        (&seen[2]["from"], &seen[2]["stepIndex"], &seen[2]["stepType"], &seen[2]["input"], &seen[2]["output"]),
        (&json!("check"), &json!(0), &json!("func"), &body["input"], &json!(15000))
    );
    let suspended = &seen[5];
    assert_eq!(
        (&suspended["from"], &suspended["status"], &suspended["metadata"]["reason"]),
        (&json!("decide.manager"), &json!("suspended"), &json!("Waiting for manager approval"))
    );
    assert_eq!(suspended["metadata"]["suspension"]["suspendedStepIndex"], json!(1));
    assert_eq!((&seen[6]["status"], &seen[6]["endAt"]), (&json!("suspended"), &Value::Null));

    // Attached to while it is suspended, over a crash of the hub, over the resume, to the end: one continuous stream.
    let place = "/workflows/order-approval/executions/my-execution/stream";
    let mut attached = volt.http.get(volt.url(place)).header("Last-Event-ID", "3").send().await.expect("a stream");
    let read = until(&mut attached, "workflow-suspended").await;
    assert!(read.starts_with("id: 4\n"), "{read}");
    drop(attached);
    hub.crash().await;
    let volt = Caller::of(&hub);
    let attached = volt.http.get(volt.url(&format!("{place}?fromSequence=6"))).send().await.expect("a stream");
    let (status, done) = volt.resume("order-approval", &json!("my-execution"), json!({ "resumeData": { "approved": true } })).await;
    assert_eq!(status, 200, "{done}");
    let rest = attached.text().await.expect("it ends");
    let seen = lines(&rest);
    let want =
        ["step-complete", "workflow-resumed", "step-start", "step-complete", "step-complete", "workflow-complete", "workflow-result"];
    assert_eq!(types(&seen), want, "{rest}");
    assert!(rest.starts_with("id: 7\n"), "{rest}");
    assert_eq!(seen.last().expect("an end")["result"]["approved"], json!(true));
    // Who comes after the end still gets the last of it.
    let late = volt.http.get(volt.url(&format!("{place}?fromSequence=12"))).send().await.expect("a stream").text().await.expect("it ends");
    assert_eq!(types(&lines(&late)), ["workflow-result"], "{late}");
    let ahead = volt.http.get(volt.url(&format!("{place}?fromSequence=99"))).send().await.expect("an answer");
    assert_eq!(ahead.status(), 410);
    // The id is taken.
    volt.refused("/workflows/order-approval/execute", body, 409).await;
}

#[tokio::test]
async fn a_running_execution_is_suspended_resumed_and_cancelled_whoever_watches() {
    let hub = hub_with(&[("slow", SLOW)]).await;
    let volt = Caller::of(&hub);
    let body = json!({ "input": null, "options": { "executionId": "e1" } });
    let mut response = volt.request("/workflows/slow/stream", &body).send().await.expect("a stream");
    until(&mut response, "\"from\":\"think\"").await;
    // Hanging up changes nothing.
    drop(response);
    let suspended = volt.ok("/workflows/slow/executions/e1/suspend", json!({ "reason": "System maintenance required" })).await;
    assert_eq!((&suspended["status"], &suspended["suspension"]["reason"]), (&json!("suspended"), &json!("System maintenance required")));
    let error = volt.refused("/workflows/slow/executions/e1/suspend", json!({}), 400).await;
    assert_eq!(error, "Cannot suspend workflow in suspended state");
    let (status, done) = volt.resume("slow", &json!("e1"), json!({})).await;
    assert_eq!((status, &done["data"]["status"]), (200, &json!("completed")), "{done}");
    volt.refused("/workflows/slow/executions/e1/suspend", json!({}), 400).await;
    volt.refused("/workflows/slow/executions/e1/cancel", json!({}), 409).await;

    let body = json!({ "input": null, "options": { "executionId": "e2" } });
    let mut response = volt.request("/workflows/slow/stream", &body).send().await.expect("a stream");
    until(&mut response, "\"from\":\"think\"").await;
    let cancelled = volt.ok("/workflows/slow/executions/e2/cancel", json!({ "reason": "no longer needed" })).await;
    assert_eq!((&cancelled["status"], &cancelled["reason"]), (&json!("cancelled"), &json!("no longer needed")));
    let again = volt.ok("/workflows/slow/executions/e2/cancel", json!({})).await;
    assert_eq!(again, cancelled, "the same answer");
    let rest = response.text().await.expect("it ends");
    assert_eq!(types(&lines(&rest)).last(), Some(&"workflow-result"), "{rest}");
    volt.refused("/workflows/slow/executions/e2/suspend", json!({}), 400).await;
}

#[tokio::test]
async fn executions_are_listed_by_what_they_are_and_repeated_from_a_step() {
    let hub = hub_with(&[("order-approval", ORDER), ("slow", SLOW)]).await;
    let volt = Caller::of(&hub);
    let mut small = json!({ "input": { "orderId": "a", "amount": 1 }, "options": { "userId": "u1", "metadata": { "team": "red" } } });
    let first = volt.ok("/workflows/order-approval/execute", small.clone()).await;
    small["options"] = json!({ "userId": "u2" });
    volt.ok("/workflows/order-approval/execute", small).await;
    let waiting = volt.ok("/workflows/order-approval/execute", large()).await;
    let list = |query: &str| {
        let path = format!("/workflows/executions?{query}");
        let volt = &volt;
        async move {
            let (status, body) = volt.get(&path).await;
            assert_eq!(status, 200, "{body}");
            body["data"].clone()
        }
    };
    assert_eq!(list("workflowId=order-approval").await["total"], json!(3));
    assert_eq!(list("workflowId=slow").await["total"], json!(0));
    assert_eq!(list("status=suspended").await["executions"][0]["executionId"], waiting["executionId"]);
    assert_eq!(list("status=success").await["total"], json!(2));
    assert_eq!(list("userId=u1&metadata.team=red").await["executions"][0]["executionId"], first["executionId"]);
    let page = list("limit=1&offset=1").await;
    assert_eq!((page["executions"].as_array().map(Vec::len), &page["total"]), (Some(1), &json!(3)));
    let (status, _) = volt.get("/workflows/executions?status=nonsense").await;
    assert_eq!(status, 400);
    let (status, history) = volt.get("/workflows/order-approval/history?limit=2").await;
    assert_eq!((status, &history["data"]["pagination"]["total"]), (200, &json!(3)));
    let state = volt.state("order-approval", &first["executionId"]).await;
    assert_eq!(
        (&state["workflowName"], &state["input"]["orderId"], &state["status"], &state["userId"]),
        (&json!("Order Approval Workflow"), &json!("a"), &json!("completed"), &json!("u1"))
    );
    assert_eq!(state["events"].as_array().expect("events").last().expect("one")["type"], "workflow-result");

    let path = format!("/workflows/order-approval/executions/{}/replay", first["executionId"].as_str().unwrap());
    let replayed = volt.ok(&path, json!({ "stepId": "decide", "inputData": 5000 })).await;
    assert_eq!(replayed["status"], json!("suspended"), "with another amount it is another answer: {replayed}");
    assert_ne!(replayed["executionId"], first["executionId"]);
    let state = volt.state("order-approval", &replayed["executionId"]).await;
    assert_eq!((&state["replayFromStepId"], &state["steps"]), (&json!("decide"), &json!([])));
    volt.refused(&path, json!({ "stepId": "nowhere" }), 400).await;
    volt.refused(&path, json!({}), 400).await;
}

#[tokio::test]
async fn a_failed_execution_says_what_went_wrong() {
    let text = "steps: [{ id: broken, type: tool, tool: file_read, arguments: { path: nothing.txt } }]";
    let hub = hub_with(&[("broken", text)]).await;
    let volt = Caller::of(&hub);
    let done = volt.ok("/workflows/broken/execute", json!({ "input": null })).await;
    assert_eq!((&done["status"], &done["result"]), (&json!("error"), &Value::Null));
    assert!(done["error"]["message"].as_str().expect("a text").starts_with("broken: ") && done["error"]["name"].is_string(), "{done}");
    let seen = lines(&volt.request("/workflows/broken/stream", &json!({ "input": null })).send().await.unwrap().text().await.unwrap());
    assert_eq!(types(&seen), ["workflow-start", "step-start", "step-error", "workflow-error", "workflow-result"]);
    assert!(seen[3]["error"]["message"].is_string(), "{seen:?}");
}

#[tokio::test]
async fn a_stream_that_stays_open_sees_the_resume() {
    let hub = hub_with(&[("order-approval", ORDER)]).await;
    let volt = Caller::of(&hub);
    let mut body = large();
    body["options"]["executionId"] = json!("stays");
    body["options"]["stayOpen"] = json!(true);
    let mut response = volt.request("/workflows/order-approval/stream", &body).send().await.expect("a stream");
    until(&mut response, "workflow-suspended").await;
    let quiet = tokio::time::timeout(Duration::from_millis(200), response.chunk()).await;
    assert!(quiet.is_err(), "nothing more until somebody resumes it");
    let (status, _) = volt.resume("order-approval", &json!("stays"), json!({ "resumeData": { "approved": false } })).await;
    assert_eq!(status, 200);
    let rest = response.text().await.expect("it ends");
    let seen = lines(&rest);
    assert_eq!(
        (seen.last().expect("an end")["type"].as_str(), &seen.last().unwrap()["result"]["approved"]),
        (Some("workflow-result"), &json!(false))
    );
}
