//! The WebSocket's way through the front: what is refused is upgraded first, because script in a browser sees nothing else.

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

use crate::support::{SOON, Server};

/// The first frame of a new socket, or the code it is closed with.
async fn first(hub: &Server, query: &str, headers: &[(&'static str, &str)]) -> Result<Value, u16> {
    let mut request = hub.url(&format!("/ws/agents{query}")).replace("http", "ws").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
    }
    let (mut socket, response) = connect_async(request).await.unwrap();
    assert!(!response.headers().get("sec-websocket-protocol").is_some_and(|value| value.to_str().unwrap().contains("bearer")));
    match timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap() {
        Message::Text(text) => Ok(serde_json::from_str(&text).unwrap()),
        Message::Close(frame) => Err(frame.unwrap().code.into()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_credential_opens_it_and_nothing_else_does() {
    let hub = Server::start(&[]).await;
    let token = hub.token("u");
    let ticket = hub.post("u", "/auth/ticket", Value::Null).await.1["ticket"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {token}");
    let protocols = format!("agent-hub.v1, bearer.{token}");
    let own = hub.url("");
    for (query, headers) in [
        (format!("?token={token}"), vec![]),
        (format!("?ticket={ticket}"), vec![]),
        (String::new(), vec![("authorization", bearer.as_str())]),
        (String::new(), vec![("sec-websocket-protocol", protocols.as_str())]),
        (format!("?token={token}"), vec![("origin", own.as_str())]),
    ] {
        let welcome = first(&hub, &query, &headers).await.unwrap();
        assert_eq!((&welcome["type"], &welcome["user"]), (&json!("welcome"), &json!("u")), "{query}");
    }
    for (query, headers, code) in [
        (String::new(), vec![], 4001),
        ("?token=forged".to_owned(), vec![], 4001),
        (format!("?ticket={ticket}"), vec![], 4001),
        (format!("?token={token}"), vec![("origin", "https://evil.example")], 4003),
        (String::new(), vec![("authorization", bearer.as_str()), ("origin", "null")], 4003),
    ] {
        assert_eq!(first(&hub, &query, &headers).await.unwrap_err(), code, "{query} {headers:?}");
    }
}

#[tokio::test]
async fn what_no_socket_asks_for_is_refused_as_json() {
    let hub = Server::start(&[]).await;
    for head in ["Connection: close\r\n", "Connection: Upgrade\r\nUpgrade: websocket\r\n", "Connection: Upgrade\r\nUpgrade: h2c\r\n"] {
        let answer = hub.raw(&format!("GET /ws/agents HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("\"invalid_message\""), "{answer}");
    }
}

#[tokio::test]
async fn a_session_through_the_whole_house() {
    let hub = Server::start(&[]).await;
    let url = hub.url(&format!("/ws/agents?token={}", hub.token("u"))).replace("http", "ws");
    let (mut socket, _) = connect_async(url).await.unwrap();
    for message in [json!({"type":"create_session"}), json!({"type":"submit_task","prompt":"/echo over the wire"})] {
        socket.send(Message::Text(message.to_string().into())).await.unwrap();
    }
    let completed = loop {
        let frame = timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap();
        let Message::Text(text) = frame else { continue };
        let message: Value = serde_json::from_str(&text).unwrap();
        if message["type"] == "task_completed" {
            break message;
        }
    };
    assert_eq!(completed["data"]["result"], "over the wire");
    let path = format!("/api/v1/agents/tasks/{}", completed["taskId"].as_str().unwrap());
    assert_eq!(hub.get("u", &path).await.1["result"], "over the wire", "one runtime behind both");
    drop(socket);
    let session = format!("/api/v1/agents/sessions/{}", completed["sessionId"].as_str().unwrap());
    for _ in 0..100 {
        if hub.get("u", &session).await.1["status"] == "disconnected" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("a session whose last socket is gone is disconnected");
}
