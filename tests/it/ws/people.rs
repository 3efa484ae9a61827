//! People in between: a task asks, somebody answers.

use serde_json::json;

use crate::harness::{Hub, new_id};

const ASK: &str = r#"/tool ask_user {"question": "How many?", "schema": {"type": "integer", "minimum": 1}}"#;

#[tokio::test]
async fn the_first_valid_answer_wins() {
    let hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let task = ada.submit(ASK).await;
    let request = ada.until("input_requested").await;
    assert_eq!((&request["data"]["kind"], &request["data"]["prompt"]), (&json!("input"), &json!("How many?")));
    let id = request["data"]["requestId"].clone();
    ada.until("task_suspended").await;

    // Whoever comes now finds the question.
    let mut tab = hub.connect("ada").await;
    let snapshot = tab.attach(&session, None).await["snapshot"].clone();
    assert_eq!(snapshot["pendingInputs"][0]["requestId"], id);
    assert_eq!((&snapshot["pendingInputs"][0]["taskId"], &snapshot["pendingInputs"][0]["schema"]["minimum"]), (&json!(task), &json!(1)));
    assert_eq!(snapshot["tasks"][0]["status"], "suspended");

    let answer = |payload| json!({"type": "respond_input", "taskId": task, "requestId": id, "outcome": "accept", "payload": payload});
    for bad in [json!("many"), json!(0), json!(null), json!({"a": 1})] {
        let complaint = ada.refused(answer(bad), "invalid_message").await;
        assert_eq!(complaint["details"]["issues"][0]["field"], "payload", "{complaint}");
        assert!(!complaint["message"].as_str().expect("text").is_empty());
    }
    ada.refused(json!({"type": "respond_input", "taskId": task, "requestId": "r999", "outcome": "accept"}), "not_found").await;
    ada.refused(json!({"type": "respond_input", "taskId": new_id(), "requestId": id, "outcome": "accept"}), "task_not_found").await;
    ada.refused(json!({"type": "respond_input", "taskId": task, "requestId": id, "outcome": "perhaps"}), "invalid_message").await;
    ada.refused(json!({"type": "resume_task", "taskId": task}), "busy").await;
    let before = ada.events(&session).len();

    let ack = tab.done(answer(json!(3))).await;
    let resolved = ada.until("input_resolved").await;
    assert_eq!((&resolved["seq"], &resolved["data"]["by"], &resolved["data"]["payload"]), (&ack["seq"], &json!("ada"), &json!(3)));
    assert_eq!(resolved["seq"], before as u64 + 1, "what was refused left no trace");
    ada.until("task_resumed").await;
    let end = ada.end_of(&task).await;
    assert!(end["type"] == "task_completed" && end["data"]["result"].as_str().expect("text").contains('3'), "{end}");
    ada.refused(answer(json!(4)), "already_resolved").await;
}

#[tokio::test]
async fn declining_is_an_answer_and_the_question_survives_a_crash() {
    let mut hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let task = ada.submit(ASK).await;
    ada.until("task_suspended").await;
    let cursor = ada.cursor(&session);
    hub.crash().await;
    let mut ada = hub.connect("ada").await;
    let attached = ada.attach(&session, Some(&cursor)).await;
    assert_eq!((&attached["recovered"], &attached["snapshot"]), (&json!(true), &json!(null)));
    let snapshot = ada.attach(&session, None).await["snapshot"].clone();
    let id = snapshot["pendingInputs"][0]["requestId"].clone();
    let no = json!({"type": "respond_input", "taskId": task, "requestId": id, "outcome": "reject"});
    ada.done(no.clone()).await;
    let resolved = ada.until("input_resolved").await;
    assert_eq!(resolved["data"]["outcome"], "reject");
    assert_eq!(ada.end_of(&task).await["type"], "task_completed");
    ada.refused(no, "already_resolved").await;
}

#[tokio::test]
async fn a_question_ends_with_its_task_or_its_time() {
    let hub = Hub::start(&[("AGENT_HUB_RUNTIME__INPUT_EXPIRY", "1 s")]).await;
    let (mut ada, session) = hub.session("ada").await;
    let task = ada.submit(ASK).await;
    let id = ada.until("input_requested").await["data"]["requestId"].clone();
    ada.done(json!({"type": "cancel_task", "taskId": task})).await;
    assert_eq!(ada.until("input_resolved").await["data"]["outcome"], "withdrawn");
    assert_eq!(ada.end_of(&task).await["type"], "task_cancelled");
    ada.refused(json!({"type": "respond_input", "taskId": task, "requestId": id, "outcome": "accept", "payload": 1}), "already_resolved")
        .await;
    let task = ada.submit(ASK).await;
    assert_eq!(ada.until("input_resolved").await["data"]["outcome"], "expired");
    assert_eq!(ada.end_of(&task).await["type"], "task_completed");
    let snapshot = ada.attach(&session, None).await["snapshot"].clone();
    assert_eq!(snapshot["pendingInputs"], json!([]));
}
