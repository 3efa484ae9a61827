//! Which pages and which names reach the hub.

use reqwest::{Method, header::HeaderMap};
use serde_json::json;

use crate::support::{Server, read};

const SESSIONS: &str = "/api/v1/agents/sessions";

async fn preflight(hub: &Server, origin: &str) -> (u16, HeaderMap) {
    let request = hub.request(Method::OPTIONS, SESSIONS).header("origin", origin).header("access-control-request-method", "POST");
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.headers().clone())
}

#[tokio::test]
async fn pages_on_the_list_and_our_own() {
    let hub = Server::start(&[
        ("ALLOWED_ORIGINS", "https://app.example,https://dash.example"),
        ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
    ])
    .await;
    let own = hub.url("");
    for origin in ["https://app.example", "https://dash.example", &own] {
        let (status, headers) = preflight(&hub, origin).await;
        assert_eq!(status, 204, "{origin}");
        assert_eq!(headers["access-control-allow-origin"], origin);
        assert_eq!(headers["access-control-allow-credentials"], "true");
        assert_eq!(headers["access-control-max-age"], "86400");
        let methods = headers["access-control-allow-methods"].to_str().unwrap();
        assert!(["GET", "POST", "DELETE", "OPTIONS", "PATCH"].iter().all(|method| methods.contains(method)));
        let allowed = headers["access-control-allow-headers"].to_str().unwrap();
        assert!(["Content-Type", "Authorization", "Idempotency-Key", "Last-Event-ID"].iter().all(|name| allowed.contains(name)));

        // An answer a page cannot read is no help to it: the refused ones too.
        for request in [hub.as_user("u", Method::POST, SESSIONS), hub.request(Method::POST, SESSIONS)] {
            let response = request.header("origin", origin).send().await.unwrap();
            assert_eq!(response.headers()["access-control-allow-origin"], origin);
            assert_eq!(response.headers()["vary"], "Origin");
            let exposed = response.headers()["access-control-expose-headers"].to_str().unwrap();
            assert!(exposed.contains("X-RateLimit-Remaining") && exposed.contains("X-RateLimit-Reset") && exposed.contains("X-Request-Id"));
        }
    }
    for origin in [
        "http://localhost:3000",
        "null",
        "https://app.example.evil.example",
        "http://app.example",
        "https://app.example:8443",
        "https://APP.example",
    ] {
        let (status, headers) = preflight(&hub, origin).await;
        assert_eq!((status, headers.contains_key("access-control-allow-origin")), (403, false), "{origin}");
        let response = hub.as_user("u", Method::POST, SESSIONS).header("origin", origin).send().await.unwrap();
        assert!(!response.headers().contains_key("access-control-allow-origin"), "{origin}");
        let (status, body) = read(response).await;
        assert_eq!((status, &body["error"], &body["code"]), (403, &json!("Not allowed by CORS"), &json!("forbidden")), "{origin}");
    }
    let health = hub.request(Method::GET, "/health").header("origin", "https://evil.example").send().await.unwrap();
    assert_eq!((health.status().as_u16(), health.headers().contains_key("access-control-allow-origin")), (200, false));
}

#[tokio::test]
async fn in_development_the_usual_page_is_on_the_list() {
    let hub = Server::start(&[]).await;
    assert_eq!(preflight(&hub, "http://localhost:3000").await.0, 204);
    assert_eq!(preflight(&hub, "http://localhost:3001").await.0, 403);
    let foreign = hub.request(Method::POST, "/auth/token").header("origin", "https://evil.example").send().await.unwrap();
    assert_eq!(foreign.status(), 403, "tokens are not for any page a developer happens to visit");
}

#[tokio::test]
async fn only_our_names() {
    let hub = Server::start(&[("ALLOWED_HOSTS", "hub.example")]).await;
    let get = async |target: &str, hosts: &str| hub.raw(&format!("GET {target} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n")).await;
    for hosts in ["Host: localhost\r\n", "Host: 127.0.0.1:9\r\n", "Host: [::1]\r\n", "Host: HUB.example\r\n"] {
        let answer = get("/openapi.json", hosts).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{hosts} {answer}");
    }
    for (target, hosts, status) in [
        ("/openapi.json", "Host: evil.example\r\n", 421),
        ("/openapi.json", "Host: localhost.evil.example\r\n", 421),
        ("/openapi.json", "", 400),
        ("/openapi.json", "Host: localhost\r\nHost: localhost\r\n", 400),
        ("/openapi.json", "Host: localhost\r\nHost: evil.example\r\n", 400),
        ("/openapi.json", "Host: user@localhost\r\n", 400),
        ("/openapi.json", "Host: \r\n", 400),
        ("http://evil.example/openapi.json", "Host: localhost\r\n", 400),
        ("http://evil.example/openapi.json", "Host: evil.example\r\n", 421),
        ("http://localhost/openapi.json", "Host: localhost\r\n", 200),
        ("/health", "Host: 10.0.0.7\r\n", 200),
        ("/ready", "", 200),
        ("/health", "Host: a\r\nHost: b\r\n", 400),
    ] {
        let answer = get(target, hosts).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{target} {hosts:?} wants {status}: {answer}");
        assert!(answer.contains("connection: close"));
    }
    let answer = hub.raw("GET /openapi.json HTTP/1.1\r\nHost: evil.example\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "a doubtful connection is closed: {answer}");
}
