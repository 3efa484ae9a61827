//! Connections: smuggling, slowness, crowds, panics, drain.

use std::time::{Duration, Instant};

use agent_hub::{
    api::{self, Surface},
    server,
    transport::{
        auth::{Access, AccessTable},
        front::{self, FrontSettings},
    },
};
use axum::{Router, routing::get};
use reqwest::Method;
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::support::{Frames, SOON, Server, Setup, read};

fn quick(settings: &mut FrontSettings) {
    settings.header_timeout = Duration::from_millis(300);
    settings.idle_timeout = Duration::from_millis(600);
    settings.stall_timeout = Duration::from_millis(500);
    settings.send_buffer = 4096;
}

/// How long until the hub closes a connection on which these bytes were sent.
async fn closed_after(hub: &Server, bytes: &str) -> Duration {
    let mut socket = TcpStream::connect(hub.address).await.unwrap();
    let began = Instant::now();
    socket.write_all(bytes.as_bytes()).await.unwrap();
    let mut sink = Vec::new();
    let _ = timeout(SOON, socket.read_to_end(&mut sink)).await.expect("closed");
    began.elapsed()
}

#[tokio::test]
async fn slow_and_silent_clients_are_cut() {
    let hub = Server::start_with(Setup { front: Some(quick), ..Setup::default() }).await;
    for (bytes, least, most) in [
        ("", 250, 1500),
        ("GET /health HT", 250, 1500),
        ("GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: ", 250, 1500),
        // Between requests there is more time; within one there is not.
        ("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 500, 2500),
    ] {
        let took = closed_after(&hub, bytes).await;
        assert!((least..most).contains(&took.as_millis()), "{bytes:?} {took:?}");
    }
    let mut socket = TcpStream::connect(hub.address).await.unwrap();
    let began = Instant::now();
    while began.elapsed() < SOON {
        // One byte now and then does not buy more time.
        if socket.write_all(b"G").await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_slow_body_is_answered_in_time() {
    let hub = Server::start(&[("AGENT_HUB_SERVER__BODY_TIMEOUT", "1s")]).await;
    let token = hub.token("u");
    let head = format!(
        "POST /api/v1/agents/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    );
    let answer = hub.raw(&head).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("\"success\":false"), "{answer}");
}

#[tokio::test]
async fn who_does_not_read_is_cut() {
    let big = Router::new().route("/big", get(|| async { vec![b'x'; 64 * 1024 * 1024] }));
    let others = vec![surface(big, "/big")];
    let hub = Server::start_with(Setup { front: Some(quick), others, ..Setup::default() }).await;
    let mut socket = TcpStream::connect(hub.address).await.unwrap();
    socket.write_all(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut total = 0;
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(Ok(read @ 1..)) = timeout(SOON, socket.read(&mut buffer)).await {
        total += read;
    }
    assert!(total < 32 * 1024 * 1024, "{total} bytes were sent to somebody who did not take them");
}

#[tokio::test]
async fn a_failed_upgrade_ends_the_connection() {
    let hub = Server::start(&[]).await;
    for path in ["/health", "/nowhere", "/api/v1/agents/sessions"] {
        let answer = hub
            .raw(&format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
            ))
            .await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn requests_that_mean_two_things_are_refused() {
    let hub = Server::start(&[]).await;
    let inner = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for head in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding : chunked",
        "Content-Length: +5",
        "Content-Length: 5\r\n Content-Length: 6",
    ] {
        let answer =
            hub.raw(&format!("POST /auth/token HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}\r\n\r\n0\r\n\r\n{inner}")).await;
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{head}: {answer}");
        assert!(!answer.contains("\"openapi\""), "{head}: {answer}");
    }
}

/// hyper answers these itself, before anything of the hub hears of them.
#[tokio::test]
async fn what_is_no_request_is_refused_in_json_too() {
    let hub = Server::start(&[]).await;
    let many: String = (0..100).map(|n| format!("X-{n}: 1\r\n")).collect();
    let long = "x".repeat(20_000);
    let very_long = "x".repeat(70_000);
    for (request, status, code) in [
        ("NO REQUEST AT ALL\r\n\r\n".to_owned(), 400, "invalid_message"),
        ("GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n".to_owned(), 400, "invalid_message"),
        ("GET /health HTTP/1.1\r\nHost: localhost\r\nA B: c\r\n\r\n".to_owned(), 400, "invalid_message"),
        (format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"), 431, "payload_too_large"),
        (format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"), 431, "payload_too_large"),
        (format!("GET /health?{very_long} HTTP/1.1\r\nHost: localhost\r\n\r\n"), 431, "payload_too_large"),
        // Behind a request that was fine.
        ("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nNO REQUEST AT ALL\r\n\r\n".to_owned(), 400, "invalid_message"),
    ] {
        let shown: String = request.chars().take(80).collect();
        let answers = hub.raw(&request).await;
        let at = answers.rfind("HTTP/1.1 ").unwrap_or_else(|| panic!("{shown}: {answers}"));
        let (head, body) = answers[at..].split_once("\r\n\r\n").unwrap_or_else(|| panic!("{shown}: {answers}"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")) && head.contains("\r\ncontent-type: application/json"), "{shown}: {head}");
        assert!(
            head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())) && head.contains("\r\nconnection: close"),
            "{shown}: {head}"
        );
        let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{shown}: {body}"));
        assert_eq!(
            (&body["success"], &body["code"], body["requestId"].is_string()),
            (&json!(false), &json!(code), true),
            "{shown}: {body}"
        );
    }
}

#[tokio::test]
async fn beyond_the_bound_only_probes_are_served() {
    let hub = Server::start(&[("AGENT_HUB_SERVER__MAX_CONNECTIONS", "2")]).await;
    let idle = [TcpStream::connect(hub.address).await.unwrap(), TcpStream::connect(hub.address).await.unwrap()];
    tokio::time::sleep(Duration::from_millis(100)).await;
    let get = async |path: &str| hub.raw(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    assert!(get("/health").await.starts_with("HTTP/1.1 200"));
    let answer = get("/openapi.json").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"overloaded\"") && answer.contains("connection: close"), "{answer}");
    drop(idle);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(hub.request(Method::GET, "/openapi.json").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn beyond_the_reserve_connections_are_dropped() {
    fn tiny(settings: &mut FrontSettings) {
        settings.max_connections = 1;
        settings.reserve = 1;
    }
    let hub = Server::start_with(Setup { front: Some(tiny), ..Setup::default() }).await;
    let _idle = [TcpStream::connect(hub.address).await.unwrap(), TcpStream::connect(hub.address).await.unwrap()];
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(hub.raw("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await, "");
}

#[tokio::test]
async fn a_panic_is_a_500_and_no_more() {
    async fn explode() -> &'static str {
        panic!("secret-in-a-panic")
    }
    let others = vec![surface(Router::new().route("/explode", get(explode)), "/explode")];
    let hub = Server::start_with(Setup { others, ..Setup::default() }).await;
    for _ in 0..3 {
        let (status, body) = read(hub.request(Method::GET, "/explode").send().await.unwrap()).await;
        assert_eq!((status, &body["code"], &body["error"]), (500, &json!("internal"), &json!("Internal server error")));
        assert!(!body.to_string().contains("secret"));
    }
    assert_eq!(hub.request(Method::GET, "/health").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_drain_lets_requests_end_and_streams_go() {
    let mut hub = Server::start(&[]).await;
    let session = hub.session("u").await;
    let task = hub.task("u", &session, "/tokens 2000 /pace 20").await;
    let stream = hub.as_user("u", Method::GET, &format!("/api/v1/agents/tasks/{task}/stream")).send().await.unwrap();
    let mut frames = Frames::of(stream);
    assert_eq!(frames.next().await.unwrap().event, "status");
    let waiting = hub.as_user("u", Method::GET, &format!("/api/v1/agents/tasks/{task}?wait=30")).send();
    let waiting = tokio::spawn(waiting);
    tokio::time::sleep(Duration::from_millis(200)).await;
    hub.stop.cancel();
    let rest = frames.rest().await;
    assert!(rest.iter().all(|frame| frame.event != "done" && frame.event != "error"), "it is not over, only the stream is");
    let polled = waiting.await.unwrap().unwrap();
    assert_eq!(polled.status(), 200);
    timeout(SOON, &mut hub.front).await.expect("all connections are gone").unwrap().unwrap();
    assert!(TcpStream::connect(hub.address).await.is_err());
}

fn surface(router: Router, path: &'static str) -> Surface {
    Surface { router, access: AccessTable::default().with(path, Access::Public), document: Default::default() }
}

#[tokio::test]
async fn a_listener_that_fails_is_an_end_and_an_error() {
    let hub = Server::start(&[]).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, other) = (listener.local_addr().unwrap(), listener.try_clone().unwrap());
    let stop = CancellationToken::new();
    let front = front::serve(
        listener,
        api::service(&hub.edge, agent_hub::compat::surfaces(&hub.edge)),
        server::front_settings(&hub.app),
        stop.clone(),
    );
    let front = tokio::spawn(front);
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut begin = [0; 12];
    idle.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    // What an accept meets from now on is no matter of one connection.
    SockRef::from(&other).shutdown(std::net::Shutdown::Both).unwrap();
    let ended = timeout(SOON, front).await.expect("it does not go on as if nothing were").unwrap();
    assert!(ended.is_err() && stop.is_cancelled(), "{ended:?}");
}
