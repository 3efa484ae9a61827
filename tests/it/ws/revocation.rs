//! Tokens that end before their time.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::{Client, Hub, Opening, SECRET, now, sign, token};

/// Whoever holds a revoked token is out within this time.
const SOON: Duration = Duration::from_secs(5);

fn numbered(user: &str, jti: &str) -> String {
    sign(&json!({"sub": user, "plan": "enterprise", "exp": now() + 3600, "jti": jti}), SECRET)
}

async fn ask(hub: &Hub, method: &str, path: &str, token: &str) -> (u16, Value) {
    let request = reqwest::Client::new().request(method.parse().expect("a method"), format!("http://{}{path}", hub.address));
    let response = request.bearer_auth(token).send().await.expect("answered");
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

async fn open(hub: &Hub, token: &str) -> Client {
    hub.open(&Opening::new().query(&format!("token={token}"))).await
}

async fn ended(response: reqwest::Response) {
    let mut response = response;
    while let Some(_bytes) = response.chunk().await.expect("it ends, and does not break off") {}
}

#[tokio::test]
async fn a_revoked_token_is_out_at_once_and_for_good() {
    for store in ["sqlite", "file"] {
        let mut hub = Hub::start(&[("STORAGE_TYPE", store)]).await;
        let (revoked, other, same_number) = (numbered("ada", "1"), numbered("ada", "2"), numbered("eve", "1"));
        let mut socket = open(&hub, &revoked).await;
        let session = socket.create(json!({})).await;
        let mut by_ticket = {
            let (_, body) = ask(&hub, "POST", "/auth/ticket", &revoked).await;
            hub.open(&Opening::new().query(&format!("ticket={}", body["ticket"].as_str().expect("a ticket")))).await
        };
        let mut neighbour = open(&hub, &other).await;
        let mut refreshed = open(&hub, &revoked).await;
        refreshed.done(json!({"type": "refresh_token", "token": other})).await;
        let unused = ask(&hub, "POST", "/auth/ticket", &revoked).await.1["ticket"].as_str().expect("a ticket").to_owned();
        let events = format!("http://{}/api/v1/agents/sessions/{session}/events", hub.address);
        let stream = reqwest::Client::new().get(&events).bearer_auth(&revoked).header("accept", "text/event-stream").send();
        let stream = stream.await.expect("answered");
        assert_eq!(stream.status(), 200);

        assert_eq!(ask(&hub, "POST", "/auth/revoke", &revoked).await, (204, Value::Null));
        assert_eq!(timeout(SOON, socket.closed()).await.expect("in time"), 4001, "{store}");
        assert_eq!(timeout(SOON, by_ticket.closed()).await.expect("in time"), 4001);
        timeout(SOON, ended(stream)).await.expect("in time");

        for run in ["this run", "the next one"] {
            let (status, answer) = ask(&hub, "GET", "/api/v1/agents/sessions", &revoked).await;
            let (_, forged) = ask(&hub, "GET", "/api/v1/agents/sessions", "forged").await;
            assert_eq!((status, &answer["error"], &answer["code"]), (401, &forged["error"], &forged["code"]), "{run} of {store}");
            assert_eq!(ask(&hub, "POST", "/auth/revoke", &revoked).await.0, 401);
            assert_eq!(open(&hub, &revoked).await.closed().await, 4001, "{run} of {store}");
            for good in [&other, &same_number, &token("ada")] {
                assert_eq!(ask(&hub, "GET", "/api/v1/agents/sessions", good).await.0, 200, "{run} of {store}");
            }
            if run == "this run" {
                assert_eq!(hub.open(&Opening::new().query(&format!("ticket={unused}"))).await.closed().await, 4001);
                neighbour.refused(json!({"type": "refresh_token", "token": revoked}), "unauthorized").await;
                for socket in [&mut neighbour, &mut refreshed] {
                    socket.done(json!({"type": "attach_session", "sessionId": session})).await;
                }
                hub.crash().await;
            }
        }
    }
}

#[tokio::test]
async fn a_refreshed_socket_stands_on_its_new_token() {
    let hub = Hub::start(&[]).await;
    let (first, second) = (numbered("ada", "1"), numbered("ada", "2"));
    let mut socket = open(&hub, &first).await;
    socket.done(json!({"type": "refresh_token", "token": second})).await;
    assert_eq!(ask(&hub, "POST", "/auth/revoke", &first).await.0, 204);
    assert_eq!(socket.ask(json!({"type": "ping"})).await["type"], "pong");
    assert_eq!(ask(&hub, "POST", "/auth/revoke", &second).await.0, 204);
    assert_eq!(timeout(SOON, socket.closed()).await.expect("in time"), 4001);
}

#[tokio::test]
async fn a_token_without_a_number_cannot_be_revoked_and_is_told_so() {
    let hub = Hub::start(&[]).await;
    let odd = sign(&json!({"sub": "ada", "exp": now() + 3600, "jti": 7}), SECRET);
    for token in [token("ada"), odd] {
        let (status, body) = ask(&hub, "POST", "/auth/revoke", &token).await;
        assert_eq!((status, &body["code"], &body["details"][0]["field"]), (400, &json!("invalid_message"), &json!("jti")), "{body}");
        assert_eq!(ask(&hub, "GET", "/api/v1/agents/sessions", &token).await.0, 200);
    }
    let (status, _) = ask(&hub, "GET", "/auth/revoke", &token("ada")).await;
    assert_eq!(status, 405);
}
