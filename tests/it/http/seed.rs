//! What the first API promises, in the order its readers try it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Frames, Server, read};

#[tokio::test]
async fn token_session_task_poll_stream_delete() {
    let hub = Server::start(&[]).await;
    let (status, body) =
        read(hub.request(Method::POST, "/auth/token").json(&json!({"userId":"user-1","plan":"pro"})).send().await.unwrap()).await;
    assert_eq!(status, 200);
    let token = body["token"].as_str().unwrap().to_owned();
    let send = async |method: Method, path: String, body: Value| {
        let request = hub.request(method, &path).bearer_auth(&token);
        let request = if body.is_null() { request } else { request.json(&body) };
        read(request.send().await.unwrap()).await
    };

    let (status, session) = send(Method::POST, "/api/v1/agents/sessions".into(), json!({"tools":["web_search"]})).await;
    assert_eq!(status, 201);
    assert_eq!((&session["status"], &session["tools"]), (&json!("active"), &json!(["web_search"])));
    assert!(session["createdAt"].as_str().unwrap().ends_with('Z'));
    let id = session["id"].as_str().unwrap();

    let prompt = json!({"prompt":"Analyze the current state of WebAssembly adoption"});
    let (status, task) = send(Method::POST, format!("/api/v1/agents/sessions/{id}/tasks"), prompt).await;
    assert_eq!(status, 202);
    let task_id = task["taskId"].as_str().unwrap();
    assert_eq!(task["status"], "queued");
    assert_eq!(task["pollUrl"], format!("/api/v1/agents/tasks/{task_id}"));
    assert_eq!(task["streamUrl"], format!("/api/v1/agents/tasks/{task_id}/stream"));

    let mut polled = Value::Null;
    for _ in 0..100 {
        let (status, body) = send(Method::GET, format!("/api/v1/agents/tasks/{task_id}?wait=2"), Value::Null).await;
        assert_eq!(status, 200);
        polled = body;
        if polled["status"] == "completed" {
            break;
        }
        assert!(polled["completedAt"].is_null());
    }
    assert_eq!(polled["status"], "completed");
    assert_eq!((&polled["id"], &polled["sessionId"], &polled["retryAfter"]), (&json!(task_id), &json!(id), &json!(1)));
    assert!(polled["stepsCompleted"].is_number() && polled["completedAt"].is_string() && polled.get("error").is_none());
    let result = polled["result"].as_str().unwrap();

    let stream = hub.request(Method::GET, task["streamUrl"].as_str().unwrap()).bearer_auth(&token).send().await.unwrap();
    assert_eq!(stream.headers()["x-accel-buffering"], "no");
    assert_eq!(stream.headers()["cache-control"], "no-cache");
    let frames = Frames::of(stream).rest().await;
    assert_eq!((frames[0].event.as_str(), &frames[0].data, &frames[0].id), ("status", &json!({"status":"completed"}), &None));
    let text: String = frames.iter().filter(|f| f.event == "token").map(|f| f.data["token"].as_str().unwrap()).collect();
    assert_eq!(text, result);
    let [.., last, done] = frames.as_slice() else { panic!("{frames:?}") };
    assert_eq!((last.event.as_str(), &last.data, &last.id), ("result", &json!({ "result": result }), &None));
    assert_eq!((done.event.as_str(), &done.data, done.id.is_some()), ("done", &json!({}), true));

    let (status, body) = send(Method::GET, format!("/api/v1/agents/sessions/{id}"), Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!((&body["userId"], &body["taskCount"], &body["tasks"]), (&json!("user-1"), &json!(1), &json!([task_id])));
    assert_eq!(body["messages"][0]["role"], "user");
    assert_eq!(body["messages"][1], body["messages"].as_array().unwrap().last().unwrap().clone());
    assert_eq!(body["messages"][1]["content"], result);

    let (status, body) = send(Method::DELETE, format!("/api/v1/agents/sessions/{id}"), Value::Null).await;
    assert_eq!((status, body), (204, Value::Null));
    let (status, body) = send(Method::GET, format!("/api/v1/agents/sessions/{id}"), Value::Null).await;
    assert_eq!((status, &body["error"]), (404, &json!("Session not found")));
    let (status, body) = send(Method::GET, format!("/api/v1/agents/tasks/{task_id}"), Value::Null).await;
    assert_eq!((status, &body["error"]), (404, &json!("Task not found")));
}

#[tokio::test]
async fn sessions_get_all_tools_unless_they_say() {
    let hub = Server::start(&[]).await;
    let all = json!(["web_search", "code_execution", "file_read"]);
    let (_, body) = hub.post("u", "/api/v1/agents/sessions", json!({})).await;
    assert_eq!(body["tools"], all);
    let bare = hub.as_user("u", Method::POST, "/api/v1/agents/sessions").send().await.unwrap();
    assert_eq!(read(bare).await.0, 201, "no body at all is fine");
    let (_, body) = hub.post("u", "/api/v1/agents/sessions", json!({"tools":[]})).await;
    assert_eq!(body["tools"], json!([]));
}

#[tokio::test]
async fn capabilities_health_and_landing() {
    let hub = Server::start(&[]).await;
    let (status, body) = hub.get("u", "/api/v1/agents/capabilities").await;
    assert_eq!(status, 200);
    let names: Vec<&str> = body["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["web_search", "code_execution", "file_read"]);
    assert_eq!(body["tools"][0]["parameters"]["query"], json!({"type":"string","required":true}));
    assert_eq!((&body["maxTasksPerSession"], &body["maxConcurrentTasks"]), (&json!(50), &json!(3)));
    assert!(!body["models"].as_array().unwrap().is_empty());
    assert_eq!(body["agents"][0]["name"], "default");

    let (status, body) = read(hub.request(Method::GET, "/health").send().await.unwrap()).await;
    assert_eq!((status, &body["status"]), (200, &json!("ok")));
    assert!(body["activeSessions"].is_number() && body["queuedTasks"].is_number());
    let (status, body) = read(hub.request(Method::GET, "/ready").send().await.unwrap()).await;
    assert_eq!((status, body), (200, json!({"status":"ready","reasons":[],"unavailable":[]})));

    let landing = hub.request(Method::GET, "/").header("accept", "application/json").send().await.unwrap();
    assert_eq!(read(landing).await.1["urls"]["docs"], "/docs");
    let console = hub.request(Method::GET, "/").header("accept", "text/html,*/*").send().await.unwrap();
    assert!(console.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    for file in ["/docs/", "/openapi.json", "/doc"] {
        assert_eq!(hub.request(Method::GET, file).send().await.unwrap().status(), 200, "{file}");
    }
}

#[tokio::test]
async fn the_console_is_served_with_what_it_needs_and_nothing_inline() {
    let hub = Server::start(&[]).await;
    let page = hub.request(Method::GET, "/").header("accept", "text/html").send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.headers()["cache-control"], "no-cache");
    let tag = page.headers()["etag"].clone();
    let html = page.text().await.unwrap();
    assert!(!html.contains("<style") && !html.contains("<script>") && !html.contains(" style="), "{html}");

    // Everything the page names is there, under a name that changes with its content.
    let files: Vec<&str> = html.split('"').filter(|part| part.starts_with("/console/")).collect();
    assert!(files.iter().any(|file| file.ends_with(".js")) && files.iter().any(|file| file.ends_with(".css")), "{files:?}");
    for file in files {
        let answer = hub.request(Method::GET, file).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{file}");
        assert_eq!(answer.headers()["cache-control"], "public, max-age=31536000, immutable", "{file}");
        let kind = answer.headers()["content-type"].to_str().unwrap();
        assert!(["text/javascript", "text/css", "image/svg+xml"].iter().any(|one| kind.starts_with(one)), "{file}: {kind}");
    }

    for given in [tag.to_str().unwrap().to_owned(), format!("W/{}, \"other\"", tag.to_str().unwrap()), "*".to_owned()] {
        let again = hub.request(Method::GET, "/").header("accept", "text/html").header("if-none-match", given).send().await.unwrap();
        assert_eq!((again.status().as_u16(), again.text().await.unwrap().len()), (304, 0));
    }
    let changed = hub.request(Method::GET, "/").header("accept", "text/html").header("if-none-match", "\"other\"").send().await.unwrap();
    assert_eq!(changed.status(), 200);
    for file in ["/console/nothing.js", "/console/../Cargo.toml", "/console/%2e%2e/Cargo.toml", "/console/src/main.tsx"] {
        assert_eq!(hub.request(Method::GET, file).send().await.unwrap().status(), 404, "{file}");
    }
}

#[tokio::test]
async fn the_client_for_browsers_is_one_file_for_allowed_pages() {
    let hub = Server::start(&[]).await;
    let path = "/client/agent-hub-client.js";
    let file = hub.request(Method::GET, path).header("origin", "http://localhost:3000").send().await.unwrap();
    assert_eq!(file.status(), 200);
    assert_eq!(file.headers()["content-type"], "text/javascript; charset=utf-8");
    assert_eq!(file.headers()["access-control-allow-origin"], "http://localhost:3000");
    let tag = file.headers()["etag"].clone();
    let text = file.text().await.unwrap();
    assert!(text.contains("export{") && text.contains("agent-hub.v1"), "{}", &text[..200]);
    let again = hub.request(Method::GET, path).header("if-none-match", tag).send().await.unwrap();
    assert_eq!((again.status().as_u16(), again.text().await.unwrap().len()), (304, 0));
}

#[tokio::test]
async fn unversioned_paths_keep_method_path_and_query() {
    let hub = Server::start(&[]).await;
    for (path, to) in [
        ("/api/agents/sessions?limit=3&a=b", "/api/v1/agents/sessions?limit=3&a=b"),
        ("/api/agents/tasks/x%20y/stream", "/api/v1/agents/tasks/x%20y/stream"),
        ("/api/agents", "/api/v1/agents"),
        ("/api/agents/", "/api/v1/agents"),
        ("/api/agents/tasks/x/stream?token=a.b-c_d&x=1", "/api/v1/agents/tasks/x/stream?x=1&token=a.b-c_d"),
    ] {
        let response = hub.request(Method::POST, path).send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers()["location"].to_str().unwrap()), (307, to));
    }
}

#[tokio::test]
async fn the_hint_of_limits_is_in_every_form() {
    let hub = Server::start(&[]).await;
    let response = hub.as_user("u", Method::POST, "/api/v1/agents/sessions").send().await.unwrap();
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("ratelimit-policy"), "\"session\";q=10;w=60");
    assert!(header("ratelimit").starts_with("\"session\";r=9;t="));
    assert_eq!((header("x-ratelimit-limit"), header("x-ratelimit-remaining")), ("10".to_owned(), "9".to_owned()));
    assert_eq!((header("ratelimit-limit"), header("ratelimit-remaining")), ("10".to_owned(), "9".to_owned()));
    assert!(header("x-ratelimit-reset").parse::<i64>().unwrap() > 1_700_000_000);
    for _ in 0..9 {
        assert_eq!(hub.as_user("u", Method::POST, "/api/v1/agents/sessions").send().await.unwrap().status(), 201);
    }
    let response = hub.as_user("u", Method::POST, "/api/v1/agents/sessions").send().await.unwrap();
    assert_eq!(response.headers()["x-ratelimit-remaining"], "0");
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    let (status, body) = read(response).await;
    assert_eq!((status, &body["code"]), (429, &json!("rate_limited")));
    assert_eq!(body["error"], "Too many session creation requests. Try again in a minute.");
    assert_eq!((&body["retryAfter"], &body["limit"]), (&json!(wait), &json!(10)));
    assert_eq!(hub.as_user("other", Method::POST, "/api/v1/agents/sessions").send().await.unwrap().status(), 201);
}

#[tokio::test]
async fn quotas_name_their_limit_and_when_the_day_ends() {
    let hub = Server::start(&[]).await;
    let token = hub.token_of("poor", agent_hub::runtime::Plan::Free, &[]);
    let create = || hub.request(Method::POST, "/api/v1/agents/sessions").bearer_auth(&token).send();
    for _ in 0..5 {
        assert_eq!(create().await.unwrap().status(), 201);
    }
    let refused = create().await.unwrap();
    assert_eq!(refused.headers()["x-ratelimit-remaining"], "4", "the rate is not what was exceeded");
    let (status, body) = read(refused).await;
    assert_eq!((status, &body["error"], &body["limit"]), (429, &json!("Daily session limit reached"), &json!(5)));
    assert!(body["resetsAt"].as_str().unwrap().ends_with("T00:00:00.000Z"));
    assert_eq!(body["code"], "quota_exceeded");
}

#[tokio::test]
async fn an_allowance_for_an_hour_may_be_used_at_once() {
    let hub = Server::start(&[("AGENT_HUB_RATES__TASKS_PER_HOUR", "3"), ("AGENT_HUB_AUTH__ANONYMOUS", "dev")]).await;
    for n in 0..3 {
        let (status, body) = hub.post("u", "/run-task", json!({ "message": "/echo hi", "thread_id": n.to_string() })).await;
        assert_eq!(status, 200, "{body}");
    }
    let refused = hub.as_user("u", Method::POST, "/run-task").json(&json!({ "message": "/echo hi" })).send().await.unwrap();
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["ratelimit-policy"], "\"task\";q=3;w=3600");
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((60..=1200).contains(&wait), "one comes back in twenty minutes: {wait}");
    let (status, _) = hub.post("somebody-else", "/run-task", json!({ "message": "/echo hi" })).await;
    assert_eq!(status, 200);
}
