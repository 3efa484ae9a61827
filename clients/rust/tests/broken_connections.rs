//! A hub that breaks connections on purpose, by script: what the client sends then, and what it tells its user.

#![allow(clippy::panic, clippy::result_large_err, reason = "a test may panic; the callback's type is not ours")]

use std::time::Duration;

use agent_hub_client::{
    Backoff, Client, ClientEvent, CommandError, Ended, Hub as Sessions, Options, Outcome, Receipt, State, TaskEvent, TokenSource,
    protocol::{ClientMessage, Command, ErrorCode, SessionId, client_message::CreateSession},
};
use futures::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        protocol::CloseFrame,
    },
};

const WELCOME: &str = r#"{"type":"welcome","connectionId":"1","protocol":"agent-hub.v1","user":"u","heartbeatMs":20000,"limits":{"messageBytes":4096,"promptChars":100,"attachedSessions":8}}"#;

struct Hub(TcpListener);

struct Peer(WebSocketStream<TcpStream>);

impl Hub {
    async fn start() -> (Self, Options) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut options = Options::new(&format!("ws://{}", listener.local_addr().expect("bound")), "secret").expect("a URL");
        options.backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(20));
        (Self(listener), options)
    }

    async fn accept(&self) -> Peer {
        let (stream, _) = self.0.accept().await.expect("a connection");
        let check = |request: &Request, mut response: Response| {
            assert_eq!(request.headers()["authorization"], "Bearer secret");
            response.headers_mut().insert("sec-websocket-protocol", "agent-hub.v1".parse().expect("a header"));
            Ok(response)
        };
        let mut peer = Peer(tokio_tungstenite::accept_hdr_async(stream, check).await.expect("a handshake"));
        peer.say(WELCOME).await;
        peer
    }
}

impl Peer {
    async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.expect("sent");
    }

    async fn hear(&mut self) -> Command {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Command::decode(&text).expect("a command"),
                Some(Ok(_)) => {}
                other => panic!("expected a command, got {other:?}"),
            }
        }
    }

    async fn ack(&mut self, command: &Command) {
        let id = serde_json::to_string(&command.id).expect("an id");
        self.say(&format!(r#"{{"type":"ack","id":{id},"received":"{}"}}"#, command.message.type_name())).await;
    }

    async fn attached(&mut self, session: SessionId, from: u64, head: u64) {
        let text = r#"{"type":"session_attached","sessionId":"S","epoch":"e","recovered":true,"from":F,"head":H}"#;
        self.say(&text.replace('S', &session.to_string()).replace('F', &from.to_string()).replace('H', &head.to_string())).await;
    }

    async fn event(&mut self, session: SessionId, seq: u64) {
        let text =
            format!(r#"{{"type":"made_up","sessionId":"{session}","seq":{seq},"at":"2026-11-20T14:02:01.037Z","data":{{"seq":{seq}}}}}"#);
        self.say(&text).await;
    }

    async fn close(mut self, code: u16) {
        self.0.close(Some(CloseFrame { code: code.into(), reason: "".into() })).await.expect("closed");
    }
}

/// The numbers of the events until the connection is said to be lost or the client ended.
async fn applied(events: &mut agent_hub_client::Events, until: usize) -> Vec<u64> {
    let mut seen = Vec::new();
    while seen.len() < until {
        match events.next().await.expect("not ended") {
            ClientEvent::Event(event) => seen.push(event.seq),
            ClientEvent::Ended(ended) => panic!("ended: {ended:?}"),
            _ => {}
        }
    }
    seen
}

#[tokio::test]
async fn events_are_given_once_over_breaks_repetitions_and_gaps() {
    let (hub, options) = Hub::start().await;
    let (connected, mut peer) = tokio::join!(Client::connect(options), hub.accept());
    let (client, mut events) = connected.expect("connected");
    let session = SessionId::random();
    let creating = tokio::spawn({
        let client = client.clone();
        async move { client.create(CreateSession { session_id: Some(session), ..CreateSession::default() }).await }
    });
    // The command is carried out, its first events arrive, the answer does not.
    peer.hear().await;
    peer.attached(session, 1, 2).await;
    peer.event(session, 1).await;
    peer.event(session, 2).await;
    assert_eq!(applied(&mut events, 2).await, [1, 2]);
    drop(peer);
    // So it comes again, and with it the log from its start.
    let mut peer = hub.accept().await;
    let command = peer.hear().await;
    assert!(matches!(&command.message, ClientMessage::CreateSession(create) if create.session_id == Some(session)));
    peer.attached(session, 1, 3).await;
    for seq in 1..=3 {
        peer.event(session, seq).await;
    }
    peer.ack(&command).await;
    assert_eq!(creating.await.expect("no panic").expect("created"), session);
    assert_eq!(applied(&mut events, 1).await, [3]);
    peer.close(1012).await;
    // Now only the cursor does.
    let mut peer = hub.accept().await;
    let command = peer.hear().await;
    assert!(matches!(&command.message, ClientMessage::AttachSession(attach) if attach.after.as_deref() == Some("e.3")));
    peer.attached(session, 4, 9).await;
    peer.ack(&command).await;
    peer.event(session, 4).await;
    peer.event(session, 6).await;
    let command = peer.hear().await;
    assert!(matches!(&command.message, ClientMessage::AttachSession(attach) if attach.after.as_deref() == Some("e.4")));
    peer.event(session, 7).await;
    peer.attached(session, 5, 7).await;
    for seq in 5..=7 {
        peer.event(session, seq).await;
    }
    assert_eq!(applied(&mut events, 4).await, [4, 5, 6, 7]);
}

#[tokio::test]
async fn commands_are_repeated_in_order_until_they_are_answered() {
    let (hub, options) = Hub::start().await;
    let (connected, mut peer) = tokio::join!(Client::connect(options), hub.accept());
    let (client, _events) = connected.expect("connected");
    let session = SessionId::random();
    let submit = |prompt: &'static str| {
        let client = client.clone();
        tokio::spawn(async move { client.submit(session, prompt).await })
    };
    let first = submit("one");
    let one = peer.hear().await;
    let second = submit("two");
    let two = peer.hear().await;
    drop(peer);
    let mut peer = hub.accept().await;
    assert_eq!((peer.hear().await, peer.hear().await), (one.clone(), two.clone()));
    peer.ack(&one).await;
    first.await.expect("no panic").expect("submitted");
    let id = serde_json::to_string(&two.id).expect("an id");
    peer.say(&format!(r#"{{"type":"error","id":{id},"code":"queue_full","message":"full","retryable":true}}"#)).await;
    let error = second.await.expect("no panic").expect_err("refused");
    assert_eq!(error.refusal().map(|refusal| refusal.code), Some(ErrorCode::QueueFull));
    let error = client.submit(session, "x".repeat(5000)).await.expect_err("too big");
    assert!(matches!(error, CommandError::TooBig { limit: Some(4096), .. }), "{error}");
}

#[tokio::test]
async fn a_final_code_ends_the_client_and_what_waits() {
    let (hub, options) = Hub::start().await;
    let (connected, mut peer) = tokio::join!(Client::connect(options), hub.accept());
    let (client, mut events) = connected.expect("connected");
    let waiting = tokio::spawn(async move { client.end(SessionId::random()).await });
    peer.hear().await;
    peer.close(4001).await;
    assert!(matches!(waiting.await.expect("no panic"), Err(CommandError::Ended(Ended::Final(4001)))));
    loop {
        match events.next().await {
            Some(ClientEvent::Ended(ended)) => {
                assert_eq!(ended, Ended::Final(4001));
                break;
            }
            Some(_) => {}
            None => panic!("no last event"),
        }
    }
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_silent_hub_is_left() {
    let (hub, mut options) = Hub::start().await;
    options.silence = Some(Duration::from_millis(100));
    let (connected, mut peer) = tokio::join!(Client::connect(options), hub.accept());
    let (_client, _events) = connected.expect("connected");
    let asked = peer.hear().await;
    assert!(matches!(asked.message, ClientMessage::Ping(_)));
    // No answer: the client comes back over another connection.
    drop(hub.accept().await);
}

/// An event of a task, with its data.
fn task_event(session: SessionId, task: &str, seq: u64, kind: &str, data: &str) -> String {
    format!(r#"{{"type":"{kind}","sessionId":"{session}","taskId":"{task}","seq":{seq},"at":"2026-11-20T14:02:01.037Z","data":{data}}}"#)
}

/// The session's first connection and its creation.
async fn created(hub: &Hub, options: Options) -> (Sessions, agent_hub_client::Session, Peer) {
    let sessions = Sessions::start(options);
    let making = tokio::spawn({
        let sessions = sessions.clone();
        async move { sessions.new_session(CreateSession::default()).await }
    });
    let mut peer = hub.accept().await;
    let command = peer.hear().await;
    let ClientMessage::CreateSession(create) = &command.message else { panic!("{command:?}") };
    let session = create.session_id.expect("chosen");
    peer.attached(session, 1, 1).await;
    peer.event(session, 1).await;
    peer.ack(&command).await;
    (sessions, making.await.expect("no panic").expect("created"), peer)
}

async fn submitted(peer: &mut Peer) -> (Command, String) {
    let command = peer.hear().await;
    let ClientMessage::SubmitTask(submit) = &command.message else { panic!("{command:?}") };
    let task = submit.task_id.expect("chosen").to_string();
    (command, task)
}

#[tokio::test]
async fn a_task_tells_its_text_its_events_and_its_end_over_a_break() {
    let (hub, options) = Hub::start().await;
    let (_sessions, session, mut peer) = created(&hub, options).await;
    let id = session.id();
    let submitting = tokio::spawn(async move { session.submit("hello").await });
    let (command, task) = submitted(&mut peer).await;
    peer.say(&task_event(id, &task, 2, "token", r#"{"token":"one ","messageId":"m2"}"#)).await;
    peer.ack(&command).await;
    let mut submitted = submitting.await.expect("no panic").expect("submitted");
    assert_eq!(submitted.id().to_string(), task);
    drop(peer);
    let mut peer = hub.accept().await;
    let command = peer.hear().await;
    peer.attached(id, 3, 4).await;
    peer.ack(&command).await;
    peer.say(&task_event(id, &task, 3, "token", r#"{"token":"two","messageId":"m2"}"#)).await;
    peer.say(&task_event(id, &task, 4, "task_completed", r#"{"result":"one two","usage":{"inputTokens":1,"outputTokens":1}}"#)).await;
    assert_eq!(submitted.finished().await, Ok(Outcome::Completed { result: Some("one two".into()) }));
    assert_eq!(submitted.text(), "one two");
    submitted.changed().await.expect("at once");
    let mut seen = Vec::new();
    while let Some(event) = submitted.next().await {
        match event.expect("nothing was missed") {
            TaskEvent::Event(event) => seen.push(event.seq),
            TaskEvent::Replaced => panic!("nothing was replaced"),
        }
    }
    assert_eq!(seen, [2, 3, 4]);
}

#[tokio::test]
async fn a_snapshot_replaces_what_a_task_knew() {
    let (hub, options) = Hub::start().await;
    let (_sessions, session, mut peer) = created(&hub, options).await;
    let id = session.id();
    let submitting = tokio::spawn(async move { session.submit("hello").await });
    let (command, task) = submitted(&mut peer).await;
    peer.say(&task_event(id, &task, 2, "token", r#"{"token":"void","messageId":"m2"}"#)).await;
    peer.ack(&command).await;
    let submitted = submitting.await.expect("no panic").expect("submitted");
    drop(peer);
    let mut peer = hub.accept().await;
    peer.hear().await;
    let at = "2026-11-20T14:02:01.037Z";
    peer.say(&format!(
        r#"{{"type":"session_attached","sessionId":"{id}","epoch":"f","recovered":false,"from":8,"head":7,"snapshot":{{"session":{{"id":"{id}","status":"active","agent":"a","tools":[],"tags":[],"taskCount":1,"createdAt":"{at}","updatedAt":"{at}"}},"messages":[],"earlierMessages":0,"tasks":[{{"taskId":"{task}","status":"cancelled","attempt":1,"stepsCompleted":0,"partial":{{"messageId":"m2","text":"so far"}},"usage":{{"inputTokens":0,"outputTokens":0}},"createdAt":"{at}","firstSeq":2}}],"queue":[],"pendingInputs":[]}}}}"#
    ))
    .await;
    assert_eq!(submitted.finished().await, Ok(Outcome::Cancelled { partial: "so far".into() }));
    // A cancel that was on its way meanwhile did what it was for.
    let cancelling = tokio::spawn(async move { (submitted.cancel(None).await, submitted) });
    let command = peer.hear().await;
    let number = serde_json::to_string(&command.id).expect("an id");
    peer.say(&format!(r#"{{"type":"error","id":{number},"code":"already_terminal","message":"It has ended","retryable":false}}"#)).await;
    cancelling.await.expect("no panic").0.expect("it is cancelled");
}

#[tokio::test]
async fn steering_waits_for_its_receipt() {
    let (hub, options) = Hub::start().await;
    let (_sessions, session, mut peer) = created(&hub, options).await;
    let id = session.id();
    let task = session.task(agent_hub_client::protocol::TaskId::random());
    let name = task.id().to_string();
    let steering = tokio::spawn(async move { (task.steer("shorter", None).await, task) });
    let command = peer.hear().await;
    let ClientMessage::SteerTask(steer) = &command.message else { panic!("{command:?}") };
    let steer = steer.steer_id.expect("chosen");
    peer.ack(&command).await;
    let data = format!(r#"{{"steerId":"{steer}","reason":"ended","input":"shorter"}}"#);
    peer.say(&task_event(id, &name, 2, "steer_rejected", &data)).await;
    let (receipt, task) = steering.await.expect("no panic");
    assert_eq!(receipt.expect("accepted"), Receipt::Rejected { reason: "ended".into() });
    peer.close(4001).await;
    assert_eq!(task.finished().await, Err(Ended::Final(4001)));
    // What is followed after the end ends too.
    assert_eq!(task.session().task(task.id()).finished().await, Err(Ended::Final(4001)));
}

#[tokio::test]
async fn a_stream_that_nobody_reads_ends_and_says_so() {
    let (hub, options) = Hub::start().await;
    let (_sessions, session, mut peer) = created(&hub, options).await;
    let id = session.id();
    let mut task = session.task(agent_hub_client::protocol::TaskId::random());
    let name = task.id().to_string();
    for seq in 2..1200 {
        peer.say(&task_event(id, &name, seq, "token", r#"{"token":"x","messageId":"m2"}"#)).await;
    }
    peer.say(&task_event(id, &name, 1200, "task_cancelled", r#"{"by":"u","partial":"","upstreamStopped":true}"#)).await;
    assert_eq!(task.finished().await, Ok(Outcome::Cancelled { partial: String::new() }));
    assert_eq!(task.text().len(), 1198);
    let mut read = 0;
    let last = loop {
        match task.next().await {
            Some(Ok(_)) => read += 1,
            other => break other,
        }
    };
    assert!(matches!(last, Some(Err(agent_hub_client::Missed))) && read == 1024, "{read}");
    assert!(task.next().await.is_none());
}

#[tokio::test]
async fn tokens_may_be_asked_for_asynchronously_and_may_fail_for_a_while() {
    let (hub, mut options) = Hub::start().await;
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = asked.clone();
    options.token = TokenSource::new(move || {
        let first = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        async move {
            tokio::task::yield_now().await;
            if first { Err("no token yet".into()) } else { Ok("secret".to_owned()) }
        }
    });
    let (client, mut events) = Client::start(options);
    assert_eq!(client.state(), State::Connecting);
    let mut peer = hub.accept().await;
    peer.say(r#"{"type":"auth_expiring","inMs":1000}"#).await;
    let command = peer.hear().await;
    assert!(matches!(&command.message, ClientMessage::RefreshToken(refresh) if refresh.token == "secret"));
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 3);
    assert!(matches!(events.next().await, Some(ClientEvent::Disconnected { code: None, .. })));
    assert_eq!(events.state(), State::Connecting);
    assert!(matches!(events.next().await, Some(ClientEvent::Connected(_))));
    assert_eq!(events.state(), State::Live);
}

#[tokio::test]
async fn a_client_is_closed_while_it_has_no_connection() {
    let (hub, mut options) = Hub::start().await;
    options.backoff = Backoff::new(Duration::from_secs(3600), Duration::from_secs(3600));
    let (client, mut events) = Client::start(options);
    drop(hub.accept().await);
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.end(SessionId::random()).await }
    });
    loop {
        match events.next().await.expect("not ended yet") {
            ClientEvent::Disconnected { .. } => break,
            other => assert!(matches!(other, ClientEvent::Connected(_)), "{other:?}"),
        }
    }
    client.close().await;
    assert!(matches!(events.next().await, Some(ClientEvent::Ended(Ended::Closed))));
    assert_eq!(client.state(), State::Closed);
    assert!(matches!(waiting.await.expect("no panic"), Err(CommandError::Ended(_))));
}
