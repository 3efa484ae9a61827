//! Who is let in, and where.

use std::time::Duration;

use agent_hub::{api, runtime::Plan};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Server, read};

const PUBLIC: [&str; 3] = ["/health", "/ready", "/auth/token"];
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn documented() -> Vec<(Method, String)> {
    let document = serde_json::to_value(api::document()).unwrap();
    let paths = document["paths"].as_object().unwrap().clone();
    let mut all = Vec::new();
    for (path, item) in paths {
        for method in item.as_object().unwrap().keys() {
            if let Ok(method) = method.to_uppercase().parse::<Method>() {
                let id = "5b0f7e0a-9d9c-4d3e-8a43-0f5d3a1b2c4d";
                all.push((method, path.replace("{id}", id).replace("{taskId}", id)));
            }
        }
    }
    assert!(all.len() > 20, "{all:?}");
    all
}

#[tokio::test]
async fn every_route_is_closed_unless_listed() {
    let hub = Server::start(&[]).await;
    for (method, path) in documented() {
        let bare = hub.request(method.clone(), &path).send().await.unwrap();
        if PUBLIC.contains(&path.as_str()) || path == "/metrics" {
            assert_eq!(bare.status(), 200, "{method} {path}");
            continue;
        }
        let (status, body) = read(bare).await;
        assert_eq!((status, &body["error"]), (401, &json!("Missing or invalid authorization header")), "{method} {path}");
    }
    assert_eq!(hub.request(Method::GET, "/api/v1/agents/sessions?token=x").send().await.unwrap().status(), 401);
    // It says where to go, and is asked who it is there.
    assert_eq!(hub.request(Method::GET, "/api/agents/sessions").send().await.unwrap().status(), 307);
}

#[tokio::test]
async fn tokens_are_refused_alike_and_only_so_often() {
    let hub = Server::start(&[]).await;
    let path = "/api/v1/agents/capabilities";
    for header in ["Basic dTpw", "Bearer", "bearer ", "x"] {
        let (status, body) = read(hub.request(Method::GET, path).header("authorization", header).send().await.unwrap()).await;
        assert_eq!((status, &body["error"]), (401, &json!("Missing or invalid authorization header")), "{header}");
    }
    // None of these was a guess. Of 25 guesses, 20 are told that they are wrong.
    let mut statuses = Vec::new();
    for _ in 0..25 {
        let response = hub.request(Method::GET, path).bearer_auth("forged").send().await.unwrap();
        let wait = response.headers().get("retry-after").map(|value| value.to_str().unwrap().parse::<u64>().unwrap());
        let (status, body) = read(response).await;
        let (code, text) = if status == 401 {
            ("unauthorized", "Invalid or expired token")
        } else {
            ("rate_limited", "Too many failed attempts to authenticate. Try again later.")
        };
        assert_eq!((&body["code"], &body["error"]), (&json!(code), &json!(text)));
        assert_eq!(wait.is_some_and(|wait| (1..=60).contains(&wait)), status == 429, "{wait:?}");
        statuses.push(status);
    }
    assert_eq!(statuses, [[401; 20].as_slice(), &[429; 5]].concat());
    assert_eq!(hub.get("u", path).await.0, 200, "a good token is good");
}

#[tokio::test]
async fn a_token_in_the_query_opens_streams_only() {
    let hub = Server::start(&[]).await;
    let (session, token) = (hub.session("u").await, hub.token("u"));
    let task = hub.task("u", &session, "hello").await;
    let open = async |path: String| hub.request(Method::GET, &path).send().await.unwrap().status().as_u16();
    assert_eq!(open(format!("/api/v1/agents/tasks/{task}/stream?token={token}")).await, 200);
    assert_eq!(open(format!("/api/v1/agents/sessions/{session}/events?token={token}")).await, 200);
    assert_eq!(open(format!("/api/v1/agents/tasks/{task}?token={token}")).await, 401);
    assert_eq!(open(format!("/api/v1/agents/tasks/{task}/stream?token=forged")).await, 401);
}

#[tokio::test]
async fn production_gives_no_tokens_away() {
    let hub = Server::start(&[("JWT_SECRET", SECRET)]).await;
    let (status, body) = read(hub.request(Method::POST, "/auth/token").json(&json!({})).send().await.unwrap()).await;
    assert_eq!((status, &body["code"]), (404, &json!("not_found")));
    assert_eq!(hub.session("u").await.len(), 36);
    let development = Server::start(&[]).await;
    for path in ["/openapi.json", "/doc"] {
        let (_, document) = read(hub.request(Method::GET, path).send().await.unwrap()).await;
        assert!(
            document["paths"]["/auth/ticket"].is_object() && document["paths"]["/auth/token"].is_null(),
            "what is not there is not listed"
        );
        let (_, document) = read(development.request(Method::GET, path).send().await.unwrap()).await;
        assert!(document["paths"]["/auth/token"].is_object());
    }
}

#[tokio::test]
async fn measurements_are_for_the_machine_and_for_the_scope() {
    let hub = Server::start(&[("JWT_SECRET", SECRET)]).await;
    let get = |forwarded: bool, token: Option<String>| {
        let request = hub.request(Method::GET, "/metrics");
        let request = if forwarded { request.header("x-forwarded-for", "203.0.113.9") } else { request };
        if let Some(token) = token { request.bearer_auth(token) } else { request }.send()
    };
    assert_eq!(get(false, None).await.unwrap().status(), 200);
    assert_eq!(get(true, None).await.unwrap().status(), 401, "loopback is the proxy's address, not the client's");
    assert_eq!(get(true, Some(hub.token("u"))).await.unwrap().status(), 403);
    assert_eq!(get(true, Some(hub.token_of("u", Plan::Free, &["metrics"]))).await.unwrap().status(), 200);
}

#[tokio::test]
async fn what_a_client_claims_of_itself_has_no_effect() {
    let hub = Server::start(&[]).await;
    let request = hub.as_user("ada", Method::POST, "/api/v1/agents/sessions?userId=eve&id=eve&plan=enterprise");
    let request = request.header("x-user-id", "eve").json(&json!({"userId":"eve","owner":"eve","status":"ended","id":"x"}));
    let (status, body) = read(request.send().await.unwrap()).await;
    assert_eq!((status, &body["status"]), (201, &json!("active")));
    let (_, seen) = hub.get("ada", &format!("/api/v1/agents/sessions/{}", body["id"].as_str().unwrap())).await;
    assert_eq!(seen["userId"], "ada");
}

#[tokio::test]
async fn tickets_are_given_to_those_with_a_token() {
    let hub = Server::start(&[]).await;
    let (status, body) = hub.post("u", "/auth/ticket", Value::Null).await;
    assert_eq!((status, &body["expiresIn"]), (200, &json!(30)));
    assert!(hub.app.tickets.redeem(body["ticket"].as_str().unwrap(), None).is_some());
}

#[tokio::test]
async fn the_tokens_the_hub_makes_can_be_revoked() {
    let hub = Server::start(&[]).await;
    let (_, made) = read(hub.request(Method::POST, "/auth/token").send().await.unwrap()).await;
    let token = made["token"].as_str().unwrap();
    let ask = async |method: Method, path: &str| hub.request(method, path).bearer_auth(token).send().await.unwrap().status().as_u16();
    assert_eq!(ask(Method::GET, "/api/v1/agents/sessions").await, 200);
    assert_eq!(ask(Method::POST, "/auth/revoke").await, 204);
    assert_eq!(ask(Method::GET, "/api/v1/agents/sessions").await, 401);
}

/// The program itself, saying everything it can: in this process other tests decide what is logged.
#[tokio::test]
async fn credentials_are_in_no_log_and_no_answer() {
    let data = tempfile::tempdir().unwrap();
    let log = data.path().join("log");
    let file = std::fs::File::create(&log).unwrap();
    let mut hub = Program(
        std::process::Command::new(env!("CARGO_BIN_EXE_agent-hub"))
            .current_dir(data.path())
            .env_clear()
            .envs([("PORT", "0"), ("STORAGE_TYPE", "memory"), ("AGENT_HUB_LOG", "trace")])
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap(),
    );
    let said = || std::fs::read_to_string(&log).unwrap();
    let url = loop {
        assert!(hub.0.try_wait().unwrap().is_none(), "{}", said());
        if let Some(url) =
            said().lines().find_map(|line| Some(line.trim().strip_prefix("console ")?.trim().trim_end_matches('/').to_owned()))
        {
            break url;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut answers = String::new();
    for path in ["/nowhere", "/api/v1/agents/sessions", "/api/agents/sessions", "/ws/agents", "/api/v1/agents/tasks/x/stream", "/health"] {
        let request = client.get(format!("{url}{path}?a=1&token=canary-1&ticket=canary-2&%74oken=canary-3"));
        let request = request.header("sec-websocket-protocol", "agent-hub.v1, bearer.canary-4").bearer_auth("canary-5");
        let response = request.send().await.unwrap();
        answers += &format!("{:?}", response.headers());
        answers += &response.text().await.unwrap();
    }
    assert!(!answers.contains("canary"), "{answers}");
    assert!(said().contains("/api/agents/sessions") && said().contains("answered"), "requests were logged: {}", said());
    assert!(!said().contains("canary"), "{}", said());
}

/// Ends with the test.
struct Program(std::process::Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn every_documented_answer_of_an_error_has_a_body() {
    let document = serde_json::to_value(api::document()).unwrap();
    assert_eq!(document["openapi"].as_str().unwrap().split('.').take(2).collect::<Vec<_>>(), ["3", "1"]);
    assert_eq!(document["components"]["securitySchemes"]["bearerAuth"], json!({"type":"http","scheme":"bearer","bearerFormat":"JWT"}));
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(operation["summary"].is_string(), "{method} {path}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                let error = status.starts_with('4') || status.starts_with('5');
                assert!(!error || response["content"]["application/json"]["schema"].is_object(), "{method} {path} {status}");
            }
        }
    }
}
