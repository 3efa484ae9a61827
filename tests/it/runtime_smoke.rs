use agent_hub::{
    auth::Authenticator,
    config::{AuthConfig, AuthMode},
    provider::demo::DemoProvider,
    runtime::{
        Hub, Plan, RuntimeSettings,
        agent::{Agent, Agents},
        hub::HubParts,
        metrics::Metrics,
    },
    store::{
        SharedStore,
        memory::MemoryStore,
        sqlite::{SqliteConfig, SqliteStore},
    },
    transport::connection::{self, Drain, Metered, Parts, SocketSettings},
};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio_tungstenite::tungstenite::{Message, protocol::Role};

fn settings() -> SocketSettings {
    SocketSettings {
        heartbeat: Duration::from_secs(20),
        stall_timeout: Duration::from_secs(30),
        window: 256 * 1024,
        message_bytes: 1 << 20,
        attached_sessions: 10,
        message_rate: None,
        max_age: Duration::from_secs(86400),
    }
}

async fn rig(store: SharedStore) -> (Hub, Arc<Authenticator>) {
    let provider = Arc::new(DemoProvider::default());
    let agent = Agent { name: "default".into(), description: String::new(), instructions: None, provider, model: None };
    let hub = Hub::start(HubParts {
        settings: RuntimeSettings { rates: None, quotas: None, ..RuntimeSettings::default() },
        store,
        agents: Agents::new(agent, []),
        metrics: Metrics::register(),
    });
    hub.recover().await.unwrap();
    let auth = Authenticator::open(&AuthConfig {
        mode: AuthMode::Secret { current: "0123456789abcdef0123456789abcdef".to_owned().into(), previous: None },
        issuer: None,
        audience: None,
        query_token: true,
        anonymous: None,
    })
    .unwrap();
    (hub, Arc::new(auth))
}
type Ws = tokio_tungstenite::WebSocketStream<tokio::io::DuplexStream>;
async fn socket(hub: &Hub, auth: &Arc<Authenticator>) -> Ws {
    let token = auth.mint("u1", Plan::Pro, &[], Duration::from_secs(600)).unwrap();
    let who = auth.authenticate(&token).await.unwrap();
    hub.welcome(&who).await.unwrap();
    let (a, b) = tokio::io::duplex(1 << 16);
    let s = settings();
    let server =
        tokio_tungstenite::WebSocketStream::from_raw_socket(Metered::new(a), Role::Server, Some(connection::websocket_config(&s))).await;
    let parts = Parts {
        hub: hub.clone(),
        auth: auth.clone(),
        who,
        connection_id: 7,
        settings: Arc::new(s),
        drain: Drain::new(4, Duration::from_secs(1)),
        attach: None,
    };
    tokio::spawn(connection::serve(server, parts));
    tokio_tungstenite::WebSocketStream::from_raw_socket(b, Role::Client, None).await
}
async fn say(ws: &mut Ws, v: Value) {
    ws.send(Message::Text(v.to_string().into())).await.unwrap();
}
async fn until(ws: &mut Ws, kind: &str) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let m = tokio::time::timeout(Duration::from_secs(10), ws.next())
            .await
            .unwrap_or_else(|_| panic!("no {kind} in {all:#?}"))
            .unwrap()
            .unwrap();
        if let Message::Text(t) = m {
            let v: Value = serde_json::from_str(&t).unwrap();
            println!("{v}");
            let k = v["type"] == kind;
            all.push(v);
            if k {
                return all;
            }
        }
    }
}
async fn run(store: SharedStore) {
    let (hub, auth) = rig(store.clone()).await;
    let mut ws = socket(&hub, &auth).await;
    say(&mut ws, json!({"type":"create_session","id":"c1"})).await;
    say(&mut ws, json!({"type":"submit_task","prompt":"hello there /pace 2","id":"c2"})).await;
    let all = until(&mut ws, "task_completed").await;
    let sid = all.iter().find(|v| v["type"] == "session_created").unwrap()["sessionId"].clone();
    say(&mut ws, json!({"type":"submit_task","prompt":"again /pace 20 /tokens 500","id":"c3"})).await;
    let all = until(&mut ws, "token").await;
    let tid = all.last().unwrap()["taskId"].clone();
    say(&mut ws, json!({"type":"cancel_task","taskId":tid,"id":"c4"})).await;
    until(&mut ws, "task_cancelled").await;
    say(&mut ws, json!({"type":"submit_task","prompt":"/ask What colour?","id":"c5"})).await;
    let all = until(&mut ws, "input_requested").await;
    let e = all.last().unwrap().clone();
    say(&mut ws, json!({"type":"respond_input","taskId":e["taskId"],"requestId":e["data"]["requestId"],"outcome":"accept","payload":"blue","id":"c6"})).await;
    until(&mut ws, "task_completed").await;
    say(&mut ws, json!({"type":"submit_task","prompt":"/tokens 200 /pace 20","id":"c7"})).await;
    let all = until(&mut ws, "token").await;
    let tid = all.last().unwrap()["taskId"].clone();
    say(&mut ws, json!({"type":"steer_task","taskId":tid,"input":"shorter! /tokens 3","when":"now","id":"c8"})).await;
    until(&mut ws, "steer_applied").await;
    until(&mut ws, "task_completed").await;
    let mut ws2 = socket(&hub, &auth).await;
    say(&mut ws2, json!({"type":"attach_session","sessionId":sid,"id":"a"})).await;
    until(&mut ws2, "caught_up").await;
    assert!(hub.stop(Duration::from_secs(5)).await);
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    run(Arc::new(MemoryStore::new())).await;
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite() {
    let d = tempfile::tempdir().unwrap();
    let s = Arc::new(SqliteStore::open(SqliteConfig::new(d.path().join("x.db"))).unwrap());
    run(s).await;
}
