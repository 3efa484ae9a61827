//! Where the hub differs from the first API on purpose: docs/deviations.md names a test for each.

use std::{fs, path::Path, time::Duration};

use agent_hub::config::{Config, Inputs};
use futures::{SinkExt, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::support::{SOON, Server, read};

struct Peer(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Peer {
    async fn connect(hub: &Server) -> Self {
        let url = hub.url(&format!("/ws/agents?token={}", hub.token("u"))).replace("http", "ws");
        Self(connect_async(url).await.unwrap().0)
    }

    /// In a session of its own, with everything said about that already read.
    async fn in_session(hub: &Server) -> Self {
        let mut peer = Self::connect(hub).await;
        peer.say(json!({"type":"create_session"})).await;
        peer.until("caught_up").await;
        peer
    }

    async fn say(&mut self, message: Value) {
        self.0.send(Message::Text(message.to_string().into())).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        loop {
            if let Message::Text(text) = timeout(SOON, self.0.next()).await.unwrap().unwrap().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// Everything up to a message of this type.
    async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut heard = Vec::new();
        loop {
            heard.push(self.hear().await);
            if heard[heard.len() - 1]["type"] == kind {
                return heard;
            }
        }
    }
}

fn kinds(heard: &[Value]) -> Vec<&str> {
    heard.iter().map(|message| message["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn welcome_comes_unasked() {
    let hub = Server::start(&[]).await;
    let welcome = Peer::connect(&hub).await.hear().await;
    assert_eq!((&welcome["type"], &welcome["user"]), (&json!("welcome"), &json!("u")));
}

#[tokio::test]
async fn only_commands_with_an_id_are_acknowledged() {
    let hub = Server::start(&[]).await;
    let mut peer = Peer::in_session(&hub).await;
    peer.say(json!({"type":"submit_task","prompt":"/echo once"})).await;
    peer.say(json!({"type":"submit_task","prompt":"/echo twice","id":7})).await;
    let mut heard = peer.until("task_completed").await;
    heard.extend(peer.until("task_completed").await);
    let acks: Vec<&Value> = heard.iter().filter(|message| message["type"] == "ack").collect();
    let [ack] = acks.as_slice() else { panic!("{acks:?}") };
    assert_eq!((&ack["id"], &ack["received"], ack["seq"].is_u64()), (&json!(7), &json!("submit_task"), true));
}

#[tokio::test]
async fn a_new_session_is_attached_before_it_is_created() {
    let hub = Server::start(&[]).await;
    let mut peer = Peer::connect(&hub).await;
    peer.say(json!({"type":"create_session"})).await;
    let heard = peer.until("caught_up").await;
    assert_eq!(kinds(&heard), ["welcome", "session_attached", "session_created", "caught_up"]);
    assert_eq!((&heard[2]["seq"], &heard[2]["data"]["tools"]), (&json!(1), &json!(["web_search"])));
}

#[tokio::test]
async fn a_task_is_queued_before_it_starts() {
    let hub = Server::start(&[]).await;
    let mut peer = Peer::in_session(&hub).await;
    peer.say(json!({"type":"submit_task","prompt":"/echo now"})).await;
    let heard = peer.until("task_completed").await;
    assert_eq!(kinds(&heard)[..2], ["task_queued", "task_started"]);
    for (message, seq) in heard.iter().zip(2..) {
        assert_eq!((&message["seq"], message["at"].is_string(), message["taskId"].is_string()), (&json!(seq), true, true), "{message}");
    }
}

#[tokio::test]
async fn cancel_has_two_phases() {
    let hub = Server::start(&[]).await;
    let mut peer = Peer::in_session(&hub).await;
    peer.say(json!({"type":"submit_task","prompt":"/hang 2"})).await;
    let heard = peer.until("token").await;
    let task = heard[0]["taskId"].clone();
    peer.say(json!({"type":"cancel_task","taskId":task,"id":"c"})).await;
    let heard = peer.until("task_cancelled").await;
    assert!(kinds(&heard).contains(&"cancel_requested"), "{heard:?}");
    assert_eq!(heard[heard.len() - 1]["data"]["upstreamStopped"], true);
    peer.say(json!({"type":"cancel_task","taskId":task,"id":"again"})).await;
    let refused = peer.until("error").await;
    assert_eq!(refused[refused.len() - 1]["code"], "already_terminal");
}

#[tokio::test]
async fn errors_have_codes() {
    let hub = Server::start(&[]).await;
    let mut peer = Peer::in_session(&hub).await;
    peer.0.send(Message::Text("{".into())).await.unwrap();
    let error = peer.hear().await;
    assert_eq!((&error["type"], &error["code"], &error["retryable"]), (&json!("error"), &json!("invalid_json"), &json!(false)));
    assert_eq!(error["message"], "Invalid JSON");
    peer.say(json!({"type":"dance","id":"d"})).await;
    let error = peer.hear().await;
    assert_eq!((&error["code"], &error["id"]), (&json!("unknown_type"), &json!("d")));
}

#[tokio::test]
async fn development_tokens_are_generous() {
    let hub = Server::start(&[("AGENT_HUB_RATES__SESSIONS_PER_MINUTE", "100")]).await;
    let token = read(hub.request(Method::POST, "/auth/token").send().await.unwrap()).await.1["token"].as_str().unwrap().to_owned();
    for _ in 0..6 {
        let made = hub.request(Method::POST, "/api/v1/agents/sessions").bearer_auth(&token).send().await.unwrap();
        assert_eq!(made.status(), 201, "the plan free allows five");
    }
}

#[tokio::test]
async fn sessions_last_where_they_are_durable() {
    let lasts = |store: &str| {
        let environment = vec![("STORAGE_TYPE".to_owned(), store.to_owned())];
        Config::load(&Inputs { environment, ..Inputs::default() }).unwrap().runtime.session_ttl
    };
    assert_eq!((lasts("sqlite"), lasts("file"), lasts("memory")), (None, None, Some(Duration::from_secs(1800))));
    let hub = Server::start(&[("STORAGE_TYPE", "memory")]).await;
    assert_eq!(hub.get("u", "/api/v1/agents/capabilities").await.1["maxSessionDuration"], 1800);
}

/// Every test named in the last column of docs/deviations.md exists.
#[test]
fn every_deviation_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/deviations.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| the sample"));
    let named: Vec<&str> = rows.map(|row| row.rsplit('`').nth(1).unwrap_or_else(|| panic!("no test: {row}"))).collect();
    let mut tests = String::new();
    collect(&root.join("tests/it"), &mut tests);
    assert!(named.len() > 15, "{named:?}");
    for name in named {
        assert!(tests.contains(&format!("fn {name}()")), "{name}");
    }
}

/// Every test named in docs/trouble.md exists, here or beside the stores.
#[test]
fn every_trouble_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/trouble.md")).unwrap();
    let mut tests = String::new();
    for directory in ["tests/it", "src/store"] {
        collect(&root.join(directory), &mut tests);
    }
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what"));
    let cells: Vec<&str> = rows.map(|row| row.trim_end_matches(" |").rsplit(" | ").next().unwrap()).collect();
    assert!(cells.len() > 25, "{cells:?}");
    let in_text = text.split('`').skip(1).step_by(2).filter(|word| word.matches('_').count() > 3);
    for name in cells.iter().flat_map(|cell| cell.split('`').skip(1).step_by(2)).chain(in_text) {
        assert!(tests.contains(&format!("fn {name}()")), "{name}");
    }
}

fn collect(directory: &Path, into: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else {
            into.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}
