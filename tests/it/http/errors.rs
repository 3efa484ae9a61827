//! Everything that can be wrong with a request has a status, a code and one JSON shape.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Server, read};

const ID: &str = "5b0f7e0a-9d9c-4d3e-8a43-0f5d3a1b2c4d";

fn assert_shape(body: &Value) {
    let keys: Vec<&str> =
        body.as_object().unwrap().keys().map(String::as_str).filter(|k| !["limit", "resetsAt", "retryAfter"].contains(k)).collect();
    let mut want = ["success", "error", "code", "message", "details", "requestId"];
    let mut keys = keys;
    keys.sort_unstable();
    want.sort_unstable();
    assert_eq!(keys, want, "{body}");
    assert_eq!(body["success"], false);
}

#[tokio::test]
async fn validation() {
    let hub = Server::start(&[("AGENT_HUB_LIMITS", "off")]).await;
    let session = hub.session("u").await;
    let tasks = format!("/api/v1/agents/sessions/{session}/tasks");
    let range = "Prompt must be between 1 and 10000 characters";
    let long = "x".repeat(10_001);
    for (path, body, field, message, code) in [
        ("/api/v1/agents/sessions", json!({"tools":"web_search"}), "tools", "Tools must be an array", "invalid_message"),
        ("/api/v1/agents/sessions", json!({"tools":["rm"]}), "tools", "Invalid tool specified", "invalid_message"),
        ("/api/v1/agents/sessions", json!({"tools":[7]}), "tools", "Invalid tool specified", "invalid_message"),
        ("/api/v1/agents/sessions", json!([1]), "body", "", "invalid_message"),
        ("/api/v1/agents/sessions", json!({"agent":"nobody"}), "agent", "", "invalid_message"),
        ("/api/v1/agents/sessions", json!({"sessionId":"1"}), "sessionId", "", "invalid_message"),
        (&tasks, json!({}), "prompt", range, "invalid_message"),
        (&tasks, json!({"prompt":""}), "prompt", range, "invalid_message"),
        (&tasks, json!({"prompt":" \n "}), "prompt", range, "invalid_message"),
        (&tasks, json!({"prompt":7}), "prompt", range, "invalid_message"),
        (&tasks, json!({"prompt":long}), "prompt", range, "prompt_too_long"),
        (&tasks, json!({"prompt":"x","tools":["rm"]}), "tools", "Invalid tool specified", "invalid_message"),
        (&tasks, json!({"prompt":"x","onBusy":"dance"}), "onBusy", "", "invalid_message"),
        (&tasks, json!({"prompt":"x","timeoutMs":0}), "timeoutMs", "", "invalid_message"),
        (&tasks, json!({"prompt":"x","timeoutMs":-1}), "timeoutMs", "", "invalid_message"),
    ] {
        let (status, answer) = hub.post("u", path, body.clone()).await;
        assert_shape(&answer);
        assert_eq!((status, &answer["error"], &answer["code"]), (400, &json!("Validation failed"), &json!(code)), "{body} {answer}");
        assert_eq!(answer["details"][0]["field"], field, "{answer}");
        assert!(message.is_empty() || answer["details"][0]["message"] == message, "{answer}");
        assert_eq!(answer["details"][0]["message"], answer["message"]);
    }
    let (status, _) = hub.post("u", &tasks, json!({"prompt":"x".repeat(10_000)})).await;
    assert_eq!(status, 202);
}

/// No words of Rust's in what people read.
fn assert_plain(text: &str) {
    for word in ["u64", "usize", "struct", "variant", "invalid type", "invalid value", "invalid length", "invalid digit", "expected", "`"] {
        assert!(!text.contains(word), "{text}");
    }
}

#[tokio::test]
async fn all_wrong_fields_are_told_at_once() {
    let hub = Server::start(&[("AGENT_HUB_LIMITS", "off")]).await;
    let session = hub.session("u").await;
    let task = hub.task("u", &session, "/hang 2").await;
    let one = format!("/api/v1/agents/sessions/{session}");
    let tasks = format!("{one}/tasks");
    let (steer, respond) = (format!("/api/v1/agents/tasks/{task}/steer"), format!("/api/v1/agents/tasks/{task}/respond"));
    let post = Method::POST;
    let prompt = ("prompt", "Prompt must be between 1 and 10000 characters");
    let tools = ("tools", "Tools must be an array");
    let on_busy = ("onBusy", "onBusy must be one of queue, reject, interrupt, rollback, steer");
    let timeout = ("timeoutMs", "timeoutMs must be a whole number, 0 or more");
    let task_id = ("taskId", "taskId must be a UUID of version 4 or 7");
    let tags = ("tags", "tags must be an array of strings");
    let name = ("name", "name must be 1 to 200 characters");
    let input = ("input", "Input must be between 1 and 10000 characters");
    for (method, path, body, mut want) in [
        (&post, &tasks, json!({"prompt":"","tools":"x"}), vec![prompt, tools]),
        (&post, &tasks, json!({"onBusy":"zz","timeoutMs":-1,"taskId":"q"}), vec![prompt, on_busy, timeout, task_id]),
        (&post, &tasks, json!({"prompt":"x","onBusy":5,"timeoutMs":1.5}), vec![on_busy, timeout]),
        (
            &post,
            &tasks,
            json!({"prompt":"x","context":{},"options":[]}),
            vec![("context", "context must be a string"), ("options", "options must be an object")],
        ),
        (
            &post,
            &"/api/v1/agents/sessions".to_owned(),
            json!({"tools":["rm"],"tags":[7],"name":"","sessionId":"1"}),
            vec![("tools", "Invalid tool specified"), tags, name, ("sessionId", "sessionId must be a UUID of version 4 or 7")],
        ),
        (&Method::PATCH, &one, json!({"tags":"x","name":""}), vec![tags, name]),
        (
            &post,
            &steer,
            json!({"input":"","when":"later","steerId":"1"}),
            vec![input, ("when", "when must be next_step or now"), ("steerId", "steerId must be a UUID of version 4 or 7")],
        ),
        (&post, &steer, json!({"input":7}), vec![input]),
        (
            &post,
            &respond,
            json!({"outcome":"maybe"}),
            vec![("requestId", "requestId must be 1 to 64 characters"), ("outcome", "outcome must be accept or reject")],
        ),
        (
            &post,
            &"/auth/token".to_owned(),
            json!({"userId":7,"plan":[]}),
            vec![("userId", "userId must be a string"), ("plan", "plan must be a string")],
        ),
    ] {
        let (status, answer) = hub.ask("u", method.clone(), path, body.clone()).await;
        assert_shape(&answer);
        assert_eq!((status, &answer["error"], &answer["code"]), (400, &json!("Validation failed"), &json!("invalid_message")), "{answer}");
        let details = answer["details"].as_array().unwrap();
        let mut said: Vec<(&str, &str)> =
            details.iter().map(|issue| (issue["field"].as_str().unwrap(), issue["message"].as_str().unwrap())).collect();
        assert_eq!(answer["message"], said[0].1, "{answer}");
        said.sort_unstable();
        want.sort_unstable();
        assert_eq!(said, want, "{body}");
    }
    let (_, answer) = hub.post("u", &tasks, json!({"prompt":"","tools":"x"})).await;
    assert_eq!(answer["details"][0]["field"], "prompt", "the seed's order");
    let twice = hub.as_user("u", Method::POST, &tasks).header("content-type", "application/json");
    let (status, answer) = read(twice.body(r#"{"prompt":"x","timeoutMs":1,"timeoutMs":2}"#).send().await.unwrap()).await;
    assert_eq!((status, &answer["details"]), (400, &json!([{"field":"timeoutMs","message":"timeoutMs is given twice"}])));
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let hub = Server::start(&[("AGENT_HUB_RUNTIME__QUEUED_PER_SESSION", "1")]).await;
    let session = hub.session("u").await;
    let tasks = format!("/api/v1/agents/sessions/{session}/tasks");
    let submit = async |on_busy: &str| {
        hub.as_user("u", Method::POST, &tasks).json(&json!({"prompt":"/hang 2","onBusy":on_busy})).send().await.unwrap()
    };
    for _ in 0..2 {
        assert_eq!(submit("queue").await.status(), 202);
    }
    for (on_busy, want, code) in [("reject", 409, "busy"), ("queue", 503, "queue_full"), ("zz", 400, "invalid_message")] {
        let response = submit(on_busy).await;
        assert!(response.headers()["ratelimit-policy"].to_str().unwrap().starts_with("\"task\""), "what is left is said on a refusal, too");
        assert!(response.headers().contains_key("x-ratelimit-remaining"));
        let wait = response.headers().get("retry-after").map(|wait| wait.to_str().unwrap().to_owned());
        let (status, body) = read(response).await;
        assert_eq!((status, &body["code"]), (want, &json!(code)), "{body}");
        assert_eq!(wait, (want == 503).then(|| body["retryAfter"].to_string()));
    }
}

#[tokio::test]
async fn ids_and_queries() {
    let hub = Server::start(&[]).await;
    for id in
        ["x", "5b0f7e0a9d9c4d3e8a430f5d3a1b2c4d", "00000000-0000-0000-0000-000000000000", "5b0f7e0a-9d9c-1d3e-8a43-0f5d3a1b2c4d", "%ff"]
    {
        let (status, body) = hub.get("u", &format!("/api/v1/agents/sessions/{id}")).await;
        assert_eq!((status, &body["details"][0]), (400, &json!({"field":"id","message":"Invalid session ID format"})));
        let (status, body) = hub.get("u", &format!("/api/v1/agents/tasks/{id}/stream")).await;
        assert_eq!((status, &body["details"][0]["field"], &body["error"]), (400, &json!("taskId"), &json!("Validation failed")));
    }
    for (path, field) in [
        ("/api/v1/agents/sessions?limit=x".to_owned(), "limit"),
        ("/api/v1/agents/sessions?limit=0".to_owned(), "limit"),
        ("/api/v1/agents/sessions?before=x".to_owned(), "before"),
        (format!("/api/v1/agents/tasks/{ID}?wait=61"), "wait"),
        (format!("/api/v1/agents/tasks/{ID}?wait=x"), "wait"),
        (format!("/api/v1/agents/tasks/{ID}?wait=1.5"), "wait"),
        (format!("/api/v1/agents/tasks/{ID}?wait=-1"), "wait"),
        (format!("/api/v1/agents/tasks/{ID}?wait=1&wait=2"), "wait"),
        (format!("/api/v1/agents/sessions/{ID}/messages?limit=x"), "limit"),
        (format!("/api/v1/agents/sessions/{ID}/events?limit=-1"), "limit"),
        (format!("/api/v1/agents/sessions/{ID}/messages?before=x"), "before"),
    ] {
        let (status, body) = hub.get("u", &path).await;
        assert_eq!((status, &body["details"][0]["field"]), (400, &json!(field)), "{path} {body}");
        assert_plain(body["message"].as_str().unwrap());
        assert_shape(&body);
    }
    let (_, body) = hub.get("u", "/api/v1/agents/sessions?limit=x").await;
    assert_eq!(body["details"], json!([{"field":"limit","message":"limit must be a whole number, 1 or more"}]));
}

#[tokio::test]
async fn what_is_not_there_and_what_is_someone_elses() {
    let hub = Server::start(&[("AGENT_HUB_LIMITS", "off")]).await;
    let session = hub.session("ada").await;
    let task = hub.task("ada", &session, "hello").await;
    hub.ended("ada", &task).await;
    let of_session = |id: &str| {
        [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/end"), ("POST", "/tasks"), ("GET", "/messages"), ("GET", "/events")]
            .map(|(method, rest)| (method, format!("/api/v1/agents/sessions/{id}{rest}")))
    };
    let of_task = |id: &str| {
        [
            ("GET", ""),
            ("DELETE", ""),
            ("GET", "/stream"),
            ("POST", "/cancel"),
            ("POST", "/steer"),
            ("POST", "/respond"),
            ("POST", "/suspend"),
            ("POST", "/resume"),
        ]
        .map(|(method, rest)| (method, format!("/api/v1/agents/tasks/{id}{rest}")))
    };
    let body = json!({"prompt":"x","input":"x","requestId":"r1","outcome":"accept","name":"n"});
    for (id, status, code, session_text, task_text) in
        [(None, 403, "forbidden", "Access denied", "Access denied"), (Some(ID), 404, "", "Session not found", "Task not found")]
    {
        let sessions = of_session(id.unwrap_or(&session)).map(|r| (r, session_text));
        let tasks = of_task(id.unwrap_or(&task)).map(|r| (r, task_text));
        for ((method, path), text) in sessions.into_iter().chain(tasks) {
            let method: Method = method.parse().unwrap();
            let sent = if method == Method::GET || method == Method::DELETE { Value::Null } else { body.clone() };
            let (got, answer) = hub.ask("eve", method.clone(), &path, sent).await;
            assert_eq!((got, &answer["error"]), (status, &json!(text)), "{method} {path} {answer}");
            assert!(code.is_empty() || answer["code"] == code);
            assert_shape(&answer);
            assert!(!answer.to_string().contains("hello"));
        }
    }
    assert_eq!(hub.get("ada", &format!("/api/v1/agents/sessions/{session}")).await.0, 200, "nothing was done to it");
}

#[tokio::test]
async fn routes_methods_and_bodies() {
    let hub = Server::start(&[]).await;
    let (status, body) = read(hub.request(Method::GET, "/nowhere").send().await.unwrap()).await;
    assert_eq!((status, &body["code"]), (404, &json!("not_found")));
    assert_shape(&body);
    let response = hub.as_user("u", Method::PUT, "/api/v1/agents/sessions").send().await.unwrap();
    let allowed = response.headers()["allow"].to_str().unwrap().to_owned();
    assert!(allowed.contains("POST") && allowed.contains("GET"), "{allowed}");
    let (status, body) = read(response).await;
    assert_eq!((status, &body["code"]), (405, &json!("method_not_allowed")));
    assert_shape(&body);

    let send = async |kind: Option<&str>, body: Vec<u8>| {
        let request = hub.as_user("u", Method::POST, "/api/v1/agents/sessions").body(body);
        let request = if let Some(kind) = kind { request.header("content-type", kind) } else { request };
        read(request.send().await.unwrap()).await
    };
    let deep = format!("{{\"metadata\":{}{}}}", "[".repeat(40), "]".repeat(40));
    for (kind, body, want, code) in [
        (Some("text/plain"), "{}", 415, "unsupported_media_type"),
        (None, "{}", 415, "unsupported_media_type"),
        (Some("application/json"), "{", 400, "invalid_json"),
        (Some("application/json; charset=utf-8"), "{\"tools\":", 400, "invalid_json"),
        (Some("application/json"), deep.as_str(), 400, "invalid_json"),
    ] {
        let (status, answer) = send(kind, body.as_bytes().to_vec()).await;
        assert_eq!((status, &answer["code"]), (want, &json!(code)), "{kind:?} {body}");
        assert_shape(&answer);
    }
    assert_eq!(send(Some("application/json"), vec![b'"', 0xff, b'"']).await.1["code"], "invalid_json");
    assert_eq!(send(Some("application/problem+json"), b"{}".to_vec()).await.0, 201);
    assert_eq!(send(None, Vec::new()).await.0, 201);
}

#[tokio::test]
async fn too_large_a_body_is_told_so_even_while_it_is_being_sent() {
    let hub = Server::start(&[]).await;
    let body = format!("{{\"name\":\"{}\"}}", "x".repeat(1024 * 1024));
    let request = hub.as_user("u", Method::POST, "/api/v1/agents/sessions").header("content-type", "application/json").body(body);
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["connection"], "close");
    let (status, body) = read(response).await;
    assert_eq!((status, &body["code"]), (413, &json!("payload_too_large")));
    assert_shape(&body);
    // A client that asks first is told without sending.
    let token = hub.token("u");
    let asked = format!(
        "POST /api/v1/agents/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: 2000000\r\nExpect: 100-continue\r\n\r\n"
    );
    let answer = hub.raw(&asked).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn request_ids_are_echoed_or_made() {
    let hub = Server::start(&[]).await;
    let response = hub.request(Method::GET, "/nowhere").header("x-request-id", "abc-1").send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "abc-1");
    assert_eq!(read(response).await.1["requestId"], "abc-1");
    for bad in ["a b", "<script>", &"x".repeat(200)] {
        let response = hub.request(Method::GET, "/nowhere").header("x-request-id", bad).send().await.unwrap();
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert_eq!(id.len(), 36, "{id}");
        assert_eq!(response.headers()["referrer-policy"], "no-referrer");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        assert_eq!(response.headers()["cache-control"], "no-store");
    }
}
