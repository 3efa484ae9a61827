//! What belongs to somebody else: every command, every id.

use serde_json::{Value, json};

use crate::harness::{Hub, new_id};

/// Every command that can name an object, about somebody else's.
fn attempts(session: &str, task: &str, own: Option<&str>) -> Vec<Value> {
    let about_task = |kind: &str, more: Value| {
        let mut command = json!({"type": kind, "taskId": task});
        command.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        command
    };
    let mut all = vec![
        json!({"type": "create_session", "sessionId": session}),
        json!({"type": "create_session", "sessionId": session, "model": "other"}),
        json!({"type": "attach_session", "sessionId": session}),
        json!({"type": "attach_session", "sessionId": session, "after": "5f3a9c01.1"}),
        json!({"type": "end_session", "sessionId": session}),
        json!({"type": "submit_task", "sessionId": session, "prompt": "x"}),
        json!({"type": "submit_task", "sessionId": session, "prompt": "x", "taskId": task}),
    ];
    let of_tasks = [
        about_task("cancel_task", json!({})),
        about_task("steer_task", json!({"input": "x"})),
        about_task("respond_input", json!({"requestId": "r1", "outcome": "accept"})),
        about_task("suspend_task", json!({})),
        about_task("resume_task", json!({})),
        about_task("tool_result", json!({"callId": "c1", "output": 1})),
    ];
    for command in of_tasks {
        // Alone, in its own session, and pretended to be in one of the attacker's.
        for named in [None, Some(session), own] {
            let mut command = command.clone();
            if let Some(named) = named {
                command["sessionId"] = json!(named);
            }
            all.push(command);
        }
    }
    all
}

#[tokio::test]
async fn everything_of_somebody_else_is_forbidden() {
    let mut hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    let task = ada.submit("/echo secret-words /hang 1").await;
    ada.until("token").await;
    let before = ada.events(&session).len();

    let mut bob = hub.connect("bob").await;
    for named in 0..2 {
        // With no session of his own, then with one.
        let own = if named == 0 { None } else { Some(bob.create(json!({})).await) };
        for attempt in attempts(&session, &task, own.as_deref()) {
            let named = attempt["sessionId"].clone();
            let refused = bob.refused(attempt, "forbidden").await;
            assert!(refused["sessionId"] != *session || named == *session, "it tells whose task it is: {refused}");
        }
        // Detaching from what one is not attached to does nothing, whoever it belongs to.
        for target in [session.as_str(), &new_id()] {
            bob.done(json!({"type": "detach_session", "sessionId": target})).await;
        }
        if let Some(own) = own {
            // His current session is still his own, and works.
            assert_eq!(bob.run("/echo mine").await["sessionId"], *own);
        }
    }
    ada.say(json!({"type": "ping"})).await;
    ada.until("pong").await;
    assert_eq!(ada.events(&session).len(), before, "nothing happened to her session");

    // The same when the session is asleep and its tasks are over.
    ada.done(json!({"type": "cancel_task", "taskId": task})).await;
    ada.end_of(&task).await;
    hub.crash().await;
    let mut bob = hub.connect("bob").await;
    let own = bob.create(json!({})).await;
    for attempt in attempts(&session, &task, Some(&own)) {
        bob.refused(attempt, "forbidden").await;
    }
    // And when it is erased.
    assert_eq!(hub.http("DELETE", &format!("/api/v1/agents/sessions/{session}"), "ada").await.0, 204);
    for attempt in attempts(&session, &task, Some(&own)) {
        let answer = bob.ask(attempt.clone()).await;
        assert!(["forbidden", "task_not_found"].contains(&answer["code"].as_str().unwrap_or_default()), "{attempt}: {answer}");
    }
    let heard = bob.log.join("\n");
    assert!(!heard.contains("secret-words") && !heard.contains("ada"), "{heard}");
}
