//! As much of a hub as a script needs, which can be told to lie.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_tungstenite::{accept_async, tungstenite::Message};

/// Tokens that are said behind a cancel by a hub that goes on.
pub const AFTER_THE_CANCEL: u64 = 3;

/// How long a hub that hangs up makes its client wait for that.
pub const BEFORE_IT_HANGS_UP: Duration = Duration::from_millis(300);

/// What is wrong with it. Each session is lied about once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Nothing.
    None,
    /// An event is left out; an attach from before it brings it.
    Loses,
    /// An event is sent twice.
    Repeats,
    /// Two events change places.
    Reorders,
    /// An event is sent with another text than it has in the log.
    Alters,
    /// Tokens follow the cancel, before the end.
    GoesOn,
    /// Tokens follow the cancel, and only then is it acknowledged.
    GoesOnUnacknowledged,
    /// It takes no task.
    Refuses,
    /// It ends the connection at the first attach of each session.
    HangsUp,
    /// The first task's end stands in the log and is sent to nobody.
    NeverEnds,
}

/// A running one.
pub struct Liar {
    port: u16,
    _serving: JoinHandle<()>,
}

impl Drop for Liar {
    fn drop(&mut self) {
        self._serving.abort();
    }
}

/// The logs, by session.
type Logs = Arc<Mutex<HashMap<String, Vec<String>>>>;
/// Sessions whose attach was hung up on.
type HungUp = Arc<Mutex<HashSet<String>>>;

impl Liar {
    pub async fn start(lie: Lie) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (logs, hung_up) = (Logs::default(), HungUp::default());
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                drop(tokio::spawn(serve(stream, logs.clone(), hung_up.clone(), lie)));
            }
        });
        Self { port, _serving: serving }
    }

    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }
}

async fn serve(stream: TcpStream, logs: Logs, hung_up: HungUp, lie: Lie) {
    let Ok(socket) = accept_async(stream).await else { return };
    let (mut sink, mut commands) = socket.split();
    let (out, mut queue) = mpsc::channel::<String>(1024);
    drop(tokio::spawn(async move {
        while let Some(text) = queue.recv().await {
            if sink.send(Message::text(text)).await.is_err() {
                return;
            }
        }
    }));
    let welcome = json!({
        "type": "welcome", "connectionId": "x", "protocol": "agent-hub.v1", "user": "u", "heartbeatMs": 20000,
        "limits": { "messageBytes": 1048576, "promptChars": 10000, "attachedSessions": 10 },
    });
    let connection = Connection { out, logs, hung_up, over: AtomicBool::new(false), lie };
    connection.say(welcome).await;
    while let Some(Ok(message)) = commands.next().await {
        let Ok(text) = message.into_text() else { return };
        let Ok(command) = serde_json::from_str::<Value>(&text) else { continue };
        connection.command(&command).await;
        if connection.over.load(Ordering::Relaxed) {
            return;
        }
    }
}

struct Connection {
    out: mpsc::Sender<String>,
    logs: Logs,
    hung_up: HungUp,
    over: AtomicBool,
    lie: Lie,
}

impl Connection {
    async fn say(&self, message: Value) {
        // Nobody listens: the socket is gone, and the log goes on.
        let _ = self.out.send(message.to_string()).await;
    }

    async fn ack(&self, command: &Value, seq: Option<u64>) {
        if let Some(id) = command.get("id") {
            self.say(json!({ "type": "ack", "id": id, "received": command["type"], "seq": seq })).await;
        }
    }

    async fn command(&self, command: &Value) {
        let session = command["sessionId"].as_str().unwrap_or_default().to_owned();
        match command["type"].as_str().unwrap_or_default() {
            "create_session" => {
                self.attached(&session, 1).await;
                let data = json!({ "epoch": "e", "agent": "a", "tools": [], "createdAt": "2026-11-20T14:02:01.037Z" });
                self.event(&session, None, "session_created", data, false).await;
                self.say(json!({ "type": "caught_up", "sessionId": session, "seq": 1 })).await;
                self.ack(command, Some(1)).await;
            }
            "attach_session" => self.attach(command, &session).await,
            "submit_task" if self.lie == Lie::Refuses => {
                let text = "no more";
                self.say(json!({ "type": "error", "id": command["id"], "code": "overloaded", "message": text, "retryable": true })).await;
            }
            "submit_task" if command["prompt"] == "endless" => self.begin_endless(command, &session).await,
            "submit_task" => self.twelve_tokens(command, &session).await,
            "cancel_task" => self.cancel(command, &session).await,
            _ => self.ack(command, None).await,
        }
    }

    async fn attached(&self, session: &str, from: usize) {
        let head = self.logs.lock().unwrap().entry(session.to_owned()).or_default().len();
        self.say(json!({ "type": "session_attached", "sessionId": session, "epoch": "e", "recovered": true, "from": from, "head": head }))
            .await;
    }

    async fn attach(&self, command: &Value, session: &str) {
        let after = command["after"].as_str().and_then(|after| after.split_once('.')?.1.parse::<usize>().ok()).unwrap_or(0);
        if self.lie == Lie::HangsUp && self.hung_up.lock().unwrap().insert(session.to_owned()) {
            tokio::time::sleep(BEFORE_IT_HANGS_UP).await;
            self.over.store(true, Ordering::Relaxed);
            return;
        }
        self.attached(session, after + 1).await;
        let log = self.logs.lock().unwrap().get(session).cloned().unwrap_or_default();
        for event in log.iter().skip(after) {
            let _ = self.out.send(event.clone()).await;
        }
        self.say(json!({ "type": "caught_up", "sessionId": session, "seq": log.len() })).await;
        self.ack(command, None).await;
    }

    /// Writes an event down, and sends it unless it is `held` back.
    async fn event(&self, session: &str, task: Option<&str>, kind: &str, data: Value, held: bool) -> String {
        let text = {
            let mut logs = self.logs.lock().unwrap();
            let log = logs.entry(session.to_owned()).or_default();
            let task = task.map(|task| format!(r#","taskId":"{task}""#)).unwrap_or_default();
            let seq = log.len() + 1;
            let text =
                format!(r#"{{"type":"{kind}","sessionId":"{session}"{task},"seq":{seq},"at":"2026-11-20T14:02:01.037Z","data":{data}}}"#);
            log.push(text.clone());
            text
        };
        if !held {
            let _ = self.out.send(text.clone()).await;
        }
        text
    }

    /// Pieces in the order the hub writes them.
    fn token(word: &str) -> Value {
        serde_json::from_str(&format!(r#"{{"token":"{word} ","messageId":"m2"}}"#)).unwrap()
    }

    async fn twelve_tokens(&self, command: &Value, session: &str) {
        let task = command["taskId"].as_str().unwrap();
        self.event(session, Some(task), "task_queued", json!({ "prompt": "x", "position": 0, "timeoutMs": 1 }), false).await;
        self.ack(command, Some(2)).await;
        let mut held = None;
        for number in 0..12 {
            // The sixth is the one it lies about.
            let lied = number == 5 && matches!(self.lie, Lie::Loses | Lie::Reorders | Lie::Alters);
            let text = self.event(session, Some(task), "token", Self::token(&format!("word{number}")), lied).await;
            match self.lie {
                Lie::Repeats if number == 5 => drop(self.out.send(text).await),
                Lie::Alters if number == 5 => drop(self.out.send(text.replace("word5", "lies5")).await),
                Lie::Reorders if number == 5 => held = Some(text),
                Lie::Reorders if number == 6 => drop(self.out.send(held.take().unwrap()).await),
                _ => {}
            }
        }
        let done = json!({ "result": "x", "usage": { "inputTokens": 1, "outputTokens": 12 } });
        self.event(session, Some(task), "task_completed", done, self.lie == Lie::NeverEnds).await;
    }

    async fn begin_endless(&self, command: &Value, session: &str) {
        let task = command["taskId"].as_str().unwrap();
        self.event(session, Some(task), "task_queued", json!({ "prompt": "x", "position": 0, "timeoutMs": 1 }), false).await;
        self.ack(command, None).await;
        for number in 0..8 {
            self.event(session, Some(task), "token", Self::token(&format!("word{number}")), false).await;
        }
    }

    async fn cancel(&self, command: &Value, session: &str) {
        let task = command["taskId"].as_str().unwrap();
        let requested = self.event(session, Some(task), "cancel_requested", json!({ "by": "u" }), false).await;
        let seq = serde_json::from_str::<Value>(&requested).unwrap()["seq"].as_u64();
        if self.lie != Lie::GoesOnUnacknowledged {
            self.ack(command, seq).await;
        }
        if matches!(self.lie, Lie::GoesOn | Lie::GoesOnUnacknowledged) {
            tokio::time::sleep(Duration::from_millis(5)).await;
            for number in 0..AFTER_THE_CANCEL {
                self.event(session, Some(task), "token", Self::token(&format!("late{number}")), false).await;
            }
        }
        if self.lie == Lie::GoesOnUnacknowledged {
            self.ack(command, seq).await;
        }
        self.event(session, Some(task), "task_cancelled", json!({ "by": "u", "upstreamStopped": true }), false).await;
    }
}
