//! What operators do with everybody's sessions and tasks.

use agent_hub::runtime::Plan;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Server, read};

async fn ask(hub: &Server, scopes: &[&str], method: Method, path: &str, body: Value) -> (u16, Value) {
    let request = hub.request(method, path).bearer_auth(hub.token_of("root", Plan::Free, scopes));
    let request = if body.is_null() { request } else { request.json(&body) };
    let response = request.send().await.unwrap();
    if response.status() == 204 { (204, Value::Null) } else { read(response).await }
}

#[tokio::test]
async fn an_operator_sees_and_ends_what_anybody_has_and_the_log_says_who_did_it() {
    let hub = Server::start(&[]).await;
    let admin = ["admin"];
    let (ada, eve) = (hub.session("ada").await, hub.session("eve").await);
    let task = hub.task("ada", &ada, "/tokens 5000 /pace 5").await;

    let (_, all) = ask(&hub, &admin, Method::GET, "/admin/sessions", Value::Null).await;
    let whose = |page: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        page["sessions"].as_array().unwrap().iter().map(|s| (text(&s["user"]), text(&s["id"]))).collect()
    };
    assert_eq!(whose(&all), [("eve".to_owned(), eve.clone()), ("ada".to_owned(), ada.clone())]);
    let (_, first) = ask(&hub, &admin, Method::GET, "/admin/sessions?limit=1", Value::Null).await;
    let next = format!("/admin/sessions?limit=1&before={}", first["next"].as_str().unwrap());
    assert_eq!(whose(&ask(&hub, &admin, Method::GET, &next, Value::Null).await.1), [("ada".to_owned(), ada.clone())]);
    assert_eq!(whose(&ask(&hub, &admin, Method::GET, "/admin/sessions?user=eve", Value::Null).await.1), [("eve".to_owned(), eve.clone())]);

    let (status, shown) = ask(&hub, &admin, Method::GET, &format!("/admin/tasks/{task}"), Value::Null).await;
    assert_eq!((status, &shown["id"], &shown["sessionId"]), (200, &json!(task), &json!(ada)));
    let (status, _) = ask(&hub, &admin, Method::POST, &format!("/admin/tasks/{task}/cancel"), json!({"reason": "too dear"})).await;
    assert_eq!(status, 202);
    assert_eq!(hub.ended("ada", &task).await["status"], "cancelled");
    let (_, events) = hub.get("ada", &format!("/api/v1/agents/sessions/{ada}/events?limit=1000")).await;
    let asked = events["events"].as_array().unwrap().iter().find(|event| event["type"] == "cancel_requested").unwrap();
    assert_eq!((&asked["data"]["by"], &asked["data"]["reason"]), (&json!("admin:root"), &json!("too dear")));
    let (status, again) = ask(&hub, &admin, Method::POST, &format!("/admin/tasks/{task}/cancel"), json!({})).await;
    assert_eq!((status, &again["code"]), (409, &json!("already_terminal")));

    let (status, ended) = ask(&hub, &admin, Method::POST, &format!("/admin/sessions/{ada}/end"), Value::Null).await;
    assert_eq!((status, &ended["status"]), (200, &json!("ended")));
    assert_eq!(ask(&hub, &admin, Method::DELETE, &format!("/admin/sessions/{eve}"), Value::Null).await.0, 204);
    assert_eq!(hub.get("eve", &format!("/api/v1/agents/sessions/{eve}")).await.0, 404);
    assert_eq!(hub.get("ada", &format!("/api/v1/agents/sessions/{ada}")).await.0, 200, "what was ended can be read");

    let (_, overview) = ask(&hub, &admin, Method::GET, "/admin/overview", Value::Null).await;
    assert_eq!((&overview["runningTasks"], &overview["models"], &overview["draining"]), (&json!(0), &json!({"demo": true}), &json!(false)));
}

#[tokio::test]
async fn nobody_is_an_operator_without_the_scope() {
    let hub = Server::start(&[]).await;
    let session = hub.session("ada").await;
    let task = hub.task("ada", &session, "/echo hi").await;
    let unknown = uuid::Uuid::new_v4();
    for (method, path) in [
        (Method::GET, "/admin/sessions".to_owned()),
        (Method::GET, "/admin/overview".to_owned()),
        (Method::POST, "/admin/drain".to_owned()),
        (Method::GET, format!("/admin/tasks/{task}")),
        (Method::POST, format!("/admin/tasks/{task}/cancel")),
        (Method::POST, format!("/admin/sessions/{session}/end")),
        (Method::DELETE, format!("/admin/sessions/{session}")),
    ] {
        for scopes in [&[][..], &["metrics"]] {
            let (status, body) = ask(&hub, scopes, method.clone(), &path, Value::Null).await;
            assert_eq!((status, &body["code"]), (403, &json!("forbidden")), "{method} {path}");
        }
        assert_eq!(hub.request(method.clone(), &path).send().await.unwrap().status(), 401, "{method} {path}");
    }
    for (method, path, code) in [
        (Method::GET, format!("/admin/tasks/{unknown}"), "task_not_found"),
        (Method::DELETE, format!("/admin/sessions/{unknown}"), "session_not_found"),
    ] {
        let (status, body) = ask(&hub, &["admin"], method, &path, Value::Null).await;
        assert_eq!((status, &body["code"]), (404, &json!(code)));
    }
    for path in ["/admin/sessions?before=x", "/admin/sessions?limit=0", "/admin/sessions?limit=a", "/admin/tasks/x"] {
        assert_eq!(ask(&hub, &["admin"], Method::GET, path, Value::Null).await.0, 400, "{path}");
    }
    assert!(!hub.edge.stop.is_cancelled());
    let (status, _) = {
        let request = hub.request(Method::POST, "/admin/drain").bearer_auth(hub.token_of("root", Plan::Free, &["admin"]));
        let response = request.send().await.unwrap();
        (response.status().as_u16(), ())
    };
    assert_eq!(status, 202);
    assert!(hub.edge.stop.is_cancelled());
}
