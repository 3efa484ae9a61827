//! The hub as a library: what a program adds is there like what is configured.

use std::{path::Path, process::Stdio};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};

use crate::harness::PATIENCE;

#[tokio::test]
async fn agents_tools_workflows_and_routes_of_a_program_are_served() {
    let own = std::env::current_exe().expect("a program");
    let program = own.parent().and_then(Path::parent).expect("target").join("examples/library_hub");
    let directory = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(program)
        .env_clear()
        .envs([("PORT", "0"), ("AGENT_HUB_LIMITS", "off")])
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut banner = String::new();
    while !banner.contains("provider") {
        let line = timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("readable").expect("it serves");
        banner.push_str(&line);
        banner.push('\n');
    }
    for said in ["GET /api/health  Health check endpoint", "POST /api/users", "DELETE /api/users/{id}", "/ui"] {
        assert!(banner.contains(said), "{banner}");
    }
    let base = banner.lines().find_map(|line| line.split_once("console")?.1.trim().strip_suffix('/')).expect("an address").to_owned();
    let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client");
    let get = |path: &str| {
        let request = http.get(format!("{base}{path}"));
        async move {
            let response = request.send().await.expect("an answer");
            let status = response.status().as_u16();
            let text = response.text().await.expect("a body");
            (status, serde_json::from_str::<Value>(&text).unwrap_or(Value::String(text)))
        }
    };
    assert_eq!(get("/api/health").await, (200, json!({ "status": "healthy" })));
    assert_eq!(get("/api/users/7").await.0, 401, "a route asks for a token unless it says otherwise");
    let token: Value = http
        .post(format!("{base}/auth/token"))
        .json(&json!({ "userId": "ada" }))
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let with_token =
        http.get(format!("{base}/api/users/7")).bearer_auth(token["token"].as_str().expect("a token")).send().await.expect("an answer");
    assert_eq!((with_token.status().as_u16(), with_token.json::<Value>().await.expect("JSON")), (200, json!({ "id": "7" })));
    let (_, document) = get("/openapi.json").await;
    let user = &document["paths"]["/api/users/{id}"];
    assert_eq!((&user["get"]["summary"], &user["get"]["parameters"][0]["name"]), (&json!("Read a user"), &json!("id")));
    assert!(user["delete"].is_object() && document["paths"]["/api/health"]["get"]["security"].is_null(), "{user}");
    let (status, page) = get("/ui/").await;
    assert!(status == 200 && page.as_str().expect("a page").contains("swagger"), "{page}");

    let post = |path: &str, body: Value| {
        let request = http.post(format!("{base}{path}")).json(&body);
        async move { request.send().await.expect("an answer").json::<Value>().await.expect("JSON") }
    };
    let (_, agents) = get("/agents").await;
    assert!(
        agents["data"].as_array().expect("agents").iter().any(|agent| agent["id"] == "mirror" && agent["tools"][0]["name"] == "backwards"),
        "{agents}"
    );
    let answer = post("/agents/mirror/text", json!({ "input": "/tool backwards {\"text\": \"abc\"}" })).await;
    assert!(answer["data"]["text"].as_str().expect("a text").contains("cba"), "{answer}");
    let done = post("/workflows/turn/execute", json!({ "input": "stressed" })).await;
    assert_eq!((&done["data"]["status"], &done["data"]["result"]), (&json!("completed"), &json!("desserts")), "{done}");
}
