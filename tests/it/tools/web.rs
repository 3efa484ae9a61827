//! The web, in the hands of an agent: search services that are strict, and pages that are inside.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::harness::Hub;

/// What a service was asked.
type Asked = Arc<Mutex<Vec<String>>>;

/// A service that answers what it is asked with `answer`, and remembers it.
async fn service(answer: impl Fn(&str, &Request, &str) -> Response + Clone + Send + Sync + 'static) -> (SocketAddr, Asked) {
    let asked = Asked::default();
    let seen = Arc::clone(&asked);
    let router = Router::new().fallback(move |request: Request| {
        let (answer, seen) = (answer.clone(), Arc::clone(&seen));
        async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
            let body = String::from_utf8_lossy(&body).into_owned();
            let line = format!("{} {}", parts.method, parts.uri);
            seen.lock().expect("whole").push(line.clone());
            answer(&line, &Request::from_parts(parts, axum::body::Body::empty()), &body)
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, asked)
}

fn header<'a>(request: &'a Request, name: &str) -> &'a str {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn json_of(value: &Value) -> Response {
    (StatusCode::OK, [("content-type", "application/json")], value.to_string()).into_response()
}

/// The result of a search, as the agent got it.
async fn search(hub: &Hub, prompt: &str) -> Value {
    let (mut ada, session) = hub.session("ada").await;
    ada.run(prompt).await;
    ada.events(&session).iter().find(|event| event["type"] == "tool_result").expect("a result")["data"].clone()
}

const SEARCH: &str = "/tool web_search {\"query\": \"rust & websockets\", \"maxResults\": 2}";

#[tokio::test]
async fn three_services_are_asked_in_their_own_words() {
    let results = |field: &'static str| {
        (0..5).map(|n| json!({ "title": format!("<strong>T{n}</strong>"), "url": format!("https://example.com/{n}"), field: "x".repeat(2000), "score": 1 })).collect::<Vec<_>>()
    };
    let searxng = service(move |line, _, _| match line {
        "GET /sub/search?q=rust+%26+websockets&format=json" => json_of(&json!({ "query": "q", "results": results("content") })),
        _ => StatusCode::FORBIDDEN.into_response(),
    });
    let brave = service(move |line, request, _| match (line, header(request, "x-subscription-token")) {
        ("GET /res/v1/web/search?q=rust+%26+websockets&count=2", "brave-key") => {
            json_of(&json!({ "web": { "results": results("description") } }))
        }
        _ => StatusCode::UNPROCESSABLE_ENTITY.into_response(),
    });
    let tavily = service(move |line, request, body| {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let fine = line == "POST /search"
            && header(request, "authorization") == "Bearer tavily-key"
            && body == json!({ "query": "rust & websockets", "max_results": 2 });
        if fine { json_of(&json!({ "results": results("content") })) } else { StatusCode::BAD_REQUEST.into_response() }
    });
    let ((searxng, _), (brave, _), (tavily, _)) = tokio::join!(searxng, brave, tavily);
    for (provider, url, key) in [
        ("searxng", format!("http://{searxng}/sub"), None),
        ("brave", format!("http://{brave}/res/v1/web/search"), Some("brave-key")),
        ("tavily", format!("http://{tavily}/search"), Some("tavily-key")),
    ] {
        let mut settings = vec![("AGENT_HUB_TOOLS__WEB_SEARCH__PROVIDER", provider), ("AGENT_HUB_TOOLS__WEB_SEARCH__URL", &url)];
        settings.extend(key.map(|key| ("AGENT_HUB_TOOLS__WEB_SEARCH__API_KEY", key)));
        settings.push(("AGENT_HUB_AGENTS__ASSISTANT__TOOLS", "web_search"));
        let hub = Hub::start(&settings).await;
        let result = search(&hub, SEARCH).await;
        let found = result["output"]["results"].as_array().unwrap_or_else(|| panic!("{provider}: {result}")).clone();
        assert_eq!((found.len(), &found[1]["title"], &found[1]["url"]), (2, &json!("T1"), &json!("https://example.com/1")), "{provider}");
        assert_eq!(found[0]["snippet"].as_str().expect("text").len(), 500);
        assert!(!hub.log().contains("-key"));
        let (_, capabilities) = hub.http("GET", "/api/v1/agents/capabilities", "ada").await;
        let tool = capabilities["tools"].as_array().expect("tools").iter().find(|tool| tool["name"] == "web_search").expect("it").clone();
        assert_eq!(tool["available"], json!(true));
    }
}

#[tokio::test]
async fn what_a_service_does_wrong_is_told_in_a_word() {
    let (address, _) = service(|line, _, _| match line {
        line if line.contains("q=refused") => StatusCode::UNAUTHORIZED.into_response(),
        line if line.contains("q=often") => StatusCode::TOO_MANY_REQUESTS.into_response(),
        line if line.contains("q=broken") => (StatusCode::INTERNAL_SERVER_ERROR, "secret detail").into_response(),
        line if line.contains("q=page") => (StatusCode::OK, "<html>").into_response(),
        line if line.contains("q=flood") => (StatusCode::OK, "x".repeat(3 << 20)).into_response(),
        line if line.contains("q=nothing") => json_of(&json!({})),
        _ => StatusCode::NOT_FOUND.into_response(),
    })
    .await;
    let url = format!("http://{address}");
    let settings = [
        ("AGENT_HUB_TOOLS__WEB_SEARCH__PROVIDER", "searxng"),
        ("AGENT_HUB_TOOLS__WEB_SEARCH__URL", url.as_str()),
        ("AGENT_HUB_AGENTS__ASSISTANT__TOOLS", "web_search"),
    ];
    let hub = Hub::start(&settings).await;
    for (query, code) in [("refused", "unavailable"), ("often", "failed"), ("broken", "failed"), ("page", "failed"), ("flood", "failed")] {
        let result = search(&hub, &format!("/tool web_search {{\"query\": \"{query}\"}}")).await;
        assert_eq!(result["code"], code, "{query}: {result}");
        assert!(!result["error"].as_str().expect("text").contains("secret"), "{result}");
    }
    let result = search(&hub, "/tool web_search {\"query\": \"nothing\"}").await;
    assert_eq!(result["output"], json!({ "results": [] }));
}

#[tokio::test]
async fn pages_are_read_as_text_and_what_is_inside_is_not_read() {
    let (pages, _) = service(|line, _, _| match line {
        "GET /page" => (
            StatusCode::OK,
            [("content-type", "text/html; charset=utf-8")],
            "<h1>Title</h1><p>Some <b>text</b>.</p><script>evil()</script>",
        )
            .into_response(),
        "GET /image" => (StatusCode::OK, [("content-type", "image/png")], "x").into_response(),
        "GET /gone" => (StatusCode::NOT_FOUND, [("content-type", "text/plain")], "not here").into_response(),
        _ => (StatusCode::FOUND, [("location", "http://169.254.169.254/latest/meta-data")], "").into_response(),
    })
    .await;
    let (inside, secrets) = service(|_, _, _| "secret".into_response()).await;
    let allowed = [
        ("AGENT_HUB_TOOLS__HTTP_FETCH__ENABLED", "true"),
        ("AGENT_HUB_TOOLS__HTTP_FETCH__ALLOW_HTTP", "true"),
        ("AGENT_HUB_TOOLS__HTTP_FETCH__ALLOWED_PRIVATE", "127.0.0.1/32"),
        ("AGENT_HUB_AGENTS__ASSISTANT__TOOLS", "http_fetch"),
    ];
    let hub = Hub::start(&allowed).await;
    let fetch = |url: String| format!("/tool http_fetch {{\"url\": \"{url}\"}}");
    let result = search(&hub, &fetch(format!("http://{pages}/page"))).await;
    let text = result["output"]["text"].as_str().unwrap_or_else(|| panic!("{result}"));
    assert!(text.contains("Title") && text.contains("Some") && !text.contains("<p>") && !text.contains("evil"), "{text}");
    assert_eq!((&result["output"]["status"], &result["output"]["truncated"]), (&json!(200), &json!(false)));
    let result = search(&hub, &fetch(format!("http://{pages}/image"))).await;
    assert!(result["output"]["text"].is_null() && result["output"]["bytes"] == 1, "{result}");
    let result = search(&hub, &fetch(format!("http://{pages}/gone"))).await;
    assert_eq!((&result["output"]["status"], &result["output"]["text"]), (&json!(404), &json!("not here")));
    let result = search(&hub, &fetch(format!("http://{pages}/elsewhere"))).await;
    assert_eq!(result["code"], "refused", "{result}");
    // Not the hub itself, though its address is allowed.
    let result = search(&hub, &fetch(format!("http://{}/health", hub.address))).await;
    assert!(result["error"].as_str().expect("refused").contains("this hub itself"), "{result}");

    // As it comes, nothing inside is reached.
    let hub = Hub::start(&[allowed[0], allowed[1], allowed[3]]).await;
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"] {
        let result = search(&hub, &fetch(format!("http://{host}:{}/", inside.port()))).await;
        assert_eq!(result["code"], "refused", "{host}: {result}");
    }
    assert!(secrets.lock().expect("whole").is_empty());
}
