//! A hub that breaks connections on purpose, by script: what the client sends then, and what it tells its user.

#![allow(clippy::panic, clippy::result_large_err, reason = "a test may panic; the callback's type is not ours")]

use std::time::Duration;

use agent_hub_client::{
    Backoff, Client, ClientEvent, CommandError, Ended, Options,
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
