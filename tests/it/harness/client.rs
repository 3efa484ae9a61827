//! A WebSocket client that keeps the client rule of the protocol: whatever a test is about, a hole or a repetition fails it.

use std::collections::{HashMap, VecDeque};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error as WsError, Message, client::IntoClientRequest, http::HeaderValue, protocol::WebSocketConfig},
};

use super::PATIENCE;

/// How a socket is opened.
#[derive(Clone, Default)]
pub(crate) struct Opening {
    query: String,
    headers: Vec<(&'static str, String)>,
}

impl Opening {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn query(mut self, query: &str) -> Self {
        self.query = query.to_owned();
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// One socket.
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
    /// The subprotocol that the hub chose.
    pub(crate) subprotocol: Option<String>,
    /// Every text frame in the order it came.
    pub(crate) log: Vec<String>,
    unread: VecDeque<Value>,
    /// The last event per attached session.
    positions: HashMap<String, u64>,
    epochs: HashMap<String, String>,
    close: Option<u16>,
    asked: u64,
}

impl Client {
    pub(super) async fn open(address: &str, opening: &Opening) -> Self {
        let mut url = format!("ws://{address}/ws/agents");
        if !opening.query.is_empty() {
            url = format!("{url}?{}", opening.query);
        }
        let mut request = url.into_client_request().expect("a request");
        for (name, value) in &opening.headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).expect("a header"));
        }
        let tcp = TcpStream::connect(address).await.expect("connected");
        tcp.set_nodelay(true).expect("nodelay");
        // A client that offers only what the hub does not speak is told so by a close code, so its own check must not come first.
        let offered = request.headers_mut().remove("sec-websocket-protocol");
        let (socket, subprotocol) = match offered {
            None => {
                let (socket, response) = timeout(PATIENCE, client_async(request, tcp)).await.expect("in time").expect("upgraded");
                assert!(response.headers().get("sec-websocket-protocol").is_none(), "nothing was offered");
                (socket, None)
            }
            Some(offered) => by_hand(tcp, address, &request, &offered).await,
        };
        Self {
            socket,
            subprotocol,
            log: Vec::new(),
            unread: VecDeque::new(),
            positions: HashMap::new(),
            epochs: HashMap::new(),
            close: None,
            asked: 0,
        }
    }

    /// Sends a command.
    pub(crate) async fn say(&mut self, command: Value) {
        self.send(Message::text(command.to_string())).await;
    }

    /// Sends any frame.
    pub(crate) async fn send(&mut self, message: Message) {
        self.socket.send(message).await.expect("sent");
    }

    /// Sends a command to a hub that may have closed.
    pub(crate) async fn try_say(&mut self, command: Value) -> Result<(), WsError> {
        self.try_send(Message::text(command.to_string())).await
    }

    pub(crate) async fn try_send(&mut self, message: Message) -> Result<(), WsError> {
        self.socket.send(message).await
    }

    /// The bare connection, to break the rules on.
    pub(crate) fn wire(&mut self) -> &mut TcpStream {
        self.socket.get_mut()
    }

    /// Sends a command and waits for its `ack` or `error`; what else arrives stays unread.
    pub(crate) async fn ask(&mut self, mut command: Value) -> Value {
        self.asked += 1;
        let id = format!("a{}", self.asked);
        command["id"] = json!(id);
        self.say(command).await;
        self.answer(&id).await
    }

    /// The `ack` or `error` with this id; what else arrives stays unread.
    pub(crate) async fn answer(&mut self, id: &str) -> Value {
        let answers = |frame: &Value| frame["id"] == id;
        if let Some(at) = self.unread.iter().position(answers) {
            return self.unread.remove(at).expect("there");
        }
        loop {
            let frame = self.receive().await.unwrap_or_else(|code| panic!("closed with {code} instead of an answer to {id}"));
            if answers(&frame) {
                return frame;
            }
            self.unread.push_back(frame);
        }
    }

    /// [`Client::ask`] for a command that must succeed.
    pub(crate) async fn done(&mut self, command: Value) -> Value {
        let answer = self.ask(command.clone()).await;
        assert_eq!(answer["type"], "ack", "{command} was answered with {answer}");
        assert_eq!(answer["received"], command["type"]);
        answer
    }

    /// [`Client::ask`] for a command that must be refused. Returns the error.
    pub(crate) async fn refused(&mut self, command: Value, code: &str) -> Value {
        let answer = self.ask(command.clone()).await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!(code)), "{command} was answered with {answer}");
        answer
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> Value {
        match self.unread.pop_front() {
            Some(frame) => frame,
            None => self.receive().await.unwrap_or_else(|code| panic!("closed with {code}; so far {:?}", self.log)),
        }
    }

    /// The next frame of this type; those before it count as read.
    pub(crate) async fn until(&mut self, kind: &str) -> Value {
        self.until_any(&[kind]).await
    }

    pub(crate) async fn until_any(&mut self, kinds: &[&str]) -> Value {
        loop {
            let frame = self.next().await;
            if kinds.iter().any(|kind| frame["type"] == *kind) {
                return frame;
            }
        }
    }

    /// The next terminal event of this task; those before it count as read.
    pub(crate) async fn end_of(&mut self, task: &str) -> Value {
        loop {
            let end = self.until_any(&["task_completed", "task_failed", "task_cancelled", "task_timeout"]).await;
            if end["taskId"] == task {
                return end;
            }
        }
    }

    /// Reads on until the socket is closed. Returns the code; 0 if it just broke off.
    pub(crate) async fn closed(&mut self) -> u16 {
        loop {
            match self.receive().await {
                Ok(frame) => self.unread.push_back(frame),
                Err(code) => return code,
            }
        }
    }

    /// The first frame's type, or `closed`.
    pub(crate) async fn closed_or_welcome(&mut self) -> String {
        match self.receive().await {
            Ok(frame) => frame["type"].as_str().unwrap_or_default().to_owned(),
            Err(_) => "closed".to_owned(),
        }
    }

    /// Makes a session and returns its id; everything of the attach is read.
    pub(crate) async fn create(&mut self, mut fields: Value) -> String {
        fields["type"] = json!("create_session");
        self.say(fields).await;
        let created = self.until("session_created").await;
        self.until("caught_up").await;
        created["sessionId"].as_str().expect("an id").to_owned()
    }

    /// Attaches and returns `session_attached`.
    pub(crate) async fn attach(&mut self, session: &str, after: Option<&str>) -> Value {
        self.say(json!({"type": "attach_session", "sessionId": session, "after": after})).await;
        self.until("session_attached").await
    }

    /// Submits a prompt and returns the task's id.
    pub(crate) async fn submit(&mut self, prompt: &str) -> String {
        let ack = self.done(json!({"type": "submit_task", "prompt": prompt})).await;
        ack["taskId"].as_str().expect("an id").to_owned()
    }

    /// Submits a prompt and waits for the task's end. Returns the terminal event.
    pub(crate) async fn run(&mut self, prompt: &str) -> Value {
        let task = self.submit(prompt).await;
        self.end_of(&task).await
    }

    /// Where this reader of the session stands.
    pub(crate) fn cursor(&self, session: &str) -> String {
        format!("{}.{}", self.epochs[session], self.positions[session])
    }

    pub(crate) fn position(&self, session: &str) -> u64 {
        self.positions[session]
    }

    pub(crate) fn epoch(&self, session: &str) -> &str {
        &self.epochs[session]
    }

    /// Every event of the session that has come, in order.
    pub(crate) fn events(&self, session: &str) -> Vec<Value> {
        self.event_texts(session).iter().map(|text| serde_json::from_str(text).expect("JSON")).collect()
    }

    /// The same, as they were on the wire.
    pub(crate) fn event_texts(&self, session: &str) -> Vec<String> {
        let of = |text: &&String| serde_json::from_str(text).is_ok_and(|frame: Value| is_event(&frame) && frame["sessionId"] == session);
        self.log.iter().filter(of).cloned().collect()
    }

    /// Takes the next frame from the socket and holds it against the client rule.
    async fn receive(&mut self) -> Result<Value, u16> {
        // Pings do not count: a hub that only pings is silent.
        let guard = Instant::now() + PATIENCE;
        loop {
            if let Some(code) = self.close {
                return Err(code);
            }
            let message = timeout_at(guard, self.socket.next()).await;
            let message = message.unwrap_or_else(|_| panic!("nothing came any more; the last were {:#?}", last(&self.log)));
            match message {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).expect("every frame is JSON");
                    self.log.push(text.as_str().to_owned());
                    self.keep_the_rule(&frame);
                    return Ok(frame);
                }
                Some(Ok(Message::Close(frame))) => self.close = Some(frame.map_or(1005, |frame| frame.code.into())),
                Some(Ok(_)) => {}
                None | Some(Err(WsError::ConnectionClosed)) => self.close = Some(self.close.unwrap_or(0)),
                Some(Err(_)) => self.close = Some(0),
            }
        }
    }

    fn keep_the_rule(&mut self, frame: &Value) {
        let session = frame["sessionId"].as_str().unwrap_or_default().to_owned();
        if frame["type"] == "session_attached" {
            self.positions.insert(session.clone(), frame["from"].as_u64().expect("from") - 1);
            self.epochs.insert(session, frame["epoch"].as_str().expect("epoch").to_owned());
            return;
        }
        if !is_event(frame) {
            return;
        }
        let seq = frame["seq"].as_u64().expect("seq");
        let last = self.positions.get_mut(&session).unwrap_or_else(|| panic!("an event of a session that is not attached: {frame}"));
        assert_eq!(seq, *last + 1, "a hole or a repetition: {frame}");
        *last = seq;
    }
}

/// Events come from a log: they have a place in it and a time.
fn is_event(frame: &Value) -> bool {
    frame.get("seq").is_some() && frame.get("at").is_some()
}

fn last(log: &[String]) -> &[String] {
    &log[log.len().saturating_sub(8)..]
}

/// The text that the task's `token` events spell.
pub(crate) fn texts(events: &[Value], task: &str) -> String {
    let of = |event: &&Value| event["type"] == "token" && event["taskId"] == task;
    events.iter().filter(of).map(|event| event["data"]["token"].as_str().expect("a token")).collect()
}

/// The handshake without the client library's own opinion of the subprotocol.
async fn by_hand(
    mut tcp: TcpStream,
    address: &str,
    request: &tokio_tungstenite::tungstenite::http::Request<()>,
    offered: &HeaderValue,
) -> (WebSocketStream<TcpStream>, Option<String>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let target = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let mut head = format!(
        "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {}\r\n",
        offered.to_str().expect("text")
    );
    for name in ["authorization", "origin"] {
        if let Some(value) = request.headers().get(name) {
            head.push_str(&format!("{name}: {}\r\n", value.to_str().expect("text")));
        }
    }
    head.push_str("\r\n");
    tcp.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(PATIENCE, tcp.read_u8()).await.expect("in time").expect("an answer"));
    }
    let answer = String::from_utf8(answer).expect("text");
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    let chosen = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-protocol").then(|| value.trim().to_owned())
    });
    let role = tokio_tungstenite::tungstenite::protocol::Role::Client;
    (WebSocketStream::from_raw_socket(tcp, role, Some(WebSocketConfig::default())).await, chosen)
}
