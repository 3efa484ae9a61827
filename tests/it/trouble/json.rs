//! JSON that is made to hurt whoever parses it.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Hub, new_id, token};

/// What every parser of the hub has to refuse, in fields that both ways in know.
fn hostile() -> Vec<(&'static str, String)> {
    let nested =
        |open: &str, close: &str, levels: usize| format!(r#"{{"metadata":{{"k":{}1{}}}}}"#, open.repeat(levels), close.repeat(levels));
    vec![
        ("arrays 100,000 deep", nested("[", "]", 100_000)),
        ("objects 100,000 deep", nested(r#"{"k":"#, "}", 100_000)),
        ("arrays 100,000 deep and never closed", format!(r#"{{"metadata":{}"#, "[".repeat(100_000))),
        ("33 levels", nested("[", "]", 31)),
        ("a number past every range", r#"{"metadata":{"k":1e400}}"#.to_owned()),
        ("a negative one", r#"{"metadata":{"k":-1e400}}"#.to_owned()),
        ("a lone surrogate", r#"{"name":"\ud800"}"#.to_owned()),
        ("a lone low surrogate", r#"{"name":"\udc00"}"#.to_owned()),
        ("surrogates the wrong way round", r#"{"name":"\udc00\ud800"}"#.to_owned()),
        ("half a surrogate pair", r#"{"name":"\ud83d\u0041"}"#.to_owned()),
        ("a lone surrogate in a key", r#"{"metadata":{"\ud800":1}}"#.to_owned()),
        ("a lone surrogate far down", r#"{"metadata":{"k":["\ud800"]}}"#.to_owned()),
        ("a byte order mark", "\u{feff}{\"name\":\"n\"}".to_owned()),
        ("a field twice", r#"{"name":"a","name":"b"}"#.to_owned()),
        ("a field twice, once in disguise", r#"{"name":"a","\u006eame":"b"}"#.to_owned()),
        ("NaN", r#"{"metadata":{"k":NaN}}"#.to_owned()),
        ("Infinity", r#"{"metadata":{"k":-Infinity}}"#.to_owned()),
        ("a leading zero", r#"{"metadata":{"k":01}}"#.to_owned()),
        ("a comment", r#"{"name":"a"/* b */}"#.to_owned()),
        ("a comma too many", r#"{"name":"a",}"#.to_owned()),
        ("single quotes", "{'name':'a'}".to_owned()),
        ("a control character", "{\"name\":\"a\u{1}\"}".to_owned()),
        ("a NUL behind it", "{\"name\":\"a\"}\u{0}".to_owned()),
        ("two objects", r#"{"name":"a"}{"name":"b"}"#.to_owned()),
        ("a long text where none belongs", format!(r#"{{"tags":"{}"}}"#, "x".repeat(100_000))),
        ("UTF-16 as escapes of bytes", r#"{"name":"\x41"}"#.to_owned()),
    ]
}

fn is_typed(code: &Value) -> bool {
    code == "invalid_json" || code == "invalid_message"
}

#[tokio::test]
async fn over_a_socket_it_is_refused_and_the_socket_lives() {
    let hub = Hub::start(&[]).await;
    let (mut ada, session) = hub.session("ada").await;
    for (what, text) in hostile() {
        // The same fields, in a command; what stands before the object stays before it.
        let command = text.replacen('{', r#"{"type":"create_session","#, 1);
        ada.send(Message::text(command)).await;
        let error = ada.until("error").await;
        assert!(is_typed(&error["code"]), "{what}: {error}");
        assert_eq!(error["retryable"], false, "{what}");
        assert!(error.to_string().len() < 1000, "{what}: {error}");
        assert_eq!(ada.ask(json!({"type": "ping"})).await["type"], "pong", "{what}");
    }
    let twice = r#"{"type":"ping","type":"end_session"}"#;
    ada.send(Message::text(twice)).await;
    assert_eq!(ada.until("error").await["code"], "invalid_message", "which of two types is meant, nobody guesses");
    assert_eq!(ada.events(&session).len(), 1, "nothing of it happened");
    assert_eq!(ada.run("/echo fine").await["data"]["result"], "fine");
    let (status, sessions) = hub.http("GET", "/api/v1/agents/sessions", "ada").await;
    assert_eq!((status, sessions["sessions"].as_array().map(Vec::len)), (200, Some(1)), "{sessions}");
}

#[tokio::test]
async fn over_http_it_is_refused_and_the_connection_lives() {
    let hub = Hub::start(&[]).await;
    let url = format!("http://{}/api/v1/agents/sessions", hub.address);
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(1).build().expect("a client");
    let post = async |body: Vec<u8>| {
        let request = client.post(&url).bearer_auth(token("ada")).header("content-type", "application/json").body(body);
        let response = request.send().await.expect("answered");
        let (status, connection) = (response.status().as_u16(), response.headers().get("connection").cloned());
        assert!(connection.is_none(), "the connection is kept: {connection:?}");
        let body: Value = response.json().await.expect("JSON");
        (status, body)
    };
    for (what, text) in hostile() {
        let (status, answer) = post(text.into_bytes()).await;
        assert!(status == 400 && is_typed(&answer["code"]), "{what}: {status} {answer}");
        assert!(answer.to_string().len() < 1000, "{what}: {answer}");
    }
    for (what, bytes) in [("UTF-16", b"\xff\xfe{\0}\0".to_vec()), ("a surrogate as bytes", b"{\"name\":\"\xed\xa0\x80\"}".to_vec())] {
        let (status, answer) = post(bytes).await;
        assert_eq!((status, &answer["code"]), (400, &json!("invalid_json")), "{what}: {answer}");
    }
    assert_eq!(hub.http("GET", "/api/v1/agents/sessions", "ada").await.1["sessions"], json!([]), "nothing of it happened");
    assert_eq!(post(br#"{"name":"fine"}"#.to_vec()).await.0, 201);
}

/// In what a client keeps for itself the last of two equal keys counts, as everywhere; what matters is that all readers see the same one.
#[tokio::test]
async fn a_key_twice_in_metadata_is_one_key_for_everybody() {
    let hub = Hub::start(&[]).await;
    let mut ada = hub.connect("ada").await;
    let id = new_id();
    let command = format!(r#"{{"type":"create_session","sessionId":"{id}","metadata":{{"k":"first","k":"last"}}}}"#);
    ada.send(Message::text(command)).await;
    let created = ada.until("session_created").await;
    assert_eq!(created["data"]["metadata"], json!({"k": "last"}));
    assert!(!ada.event_texts(&id)[0].contains("first"), "{}", ada.event_texts(&id)[0]);
    let (_, seen) = hub.http("GET", &format!("/api/v1/agents/sessions/{id}"), "ada").await;
    assert_eq!(seen["metadata"], json!({"k": "last"}), "{seen}");
}
