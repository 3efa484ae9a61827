//! One socket to the server under test.

use std::time::Duration;

use agent_hub_client::Target;
use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{
        Message,
        handshake::client::generate_key,
        protocol::{Role, WebSocketConfig},
    },
};

use super::{
    check::{Logs, Shown, is_event},
    script::{Open, Way},
};
use crate::{pattern::cut, verdict::Transcript};

/// Larger than any answer to a handshake.
const HEAD: usize = 16 * 1024;
/// Larger than any snapshot.
const MESSAGE: usize = 16 * 1024 * 1024;
/// How long a goodbye may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// What came.
#[derive(Debug)]
pub(super) enum Came {
    Frame(Value),
    /// The end, with the code; 1006 if there was none.
    Closed(u16),
}

pub(super) struct Socket {
    name: String,
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// What the server chose.
    pub(super) subprotocol: Option<String>,
    pub(super) shown: Shown,
    closed: Option<u16>,
}

impl Socket {
    /// The handshake is made by hand: what a server does with strange offers is for the script to judge.
    pub(super) async fn open(name: &str, target: &Target, token: &str, how: &Open, query: &str, within: Duration) -> Result<Self, String> {
        let handshake = async {
            let mut stream = target.open().await.map_err(|error| format!("the server cannot be reached: {error}"))?;
            let request = request(target, token, how, query);
            stream.write_all(request.as_bytes()).await.map_err(|error| format!("the server takes no request: {error}"))?;
            let answer = read_head(&mut stream).await?;
            Ok::<_, String>((stream, answer))
        };
        let (stream, answer) = timeout(within, handshake).await.map_err(|_| "the server does not answer the handshake".to_owned())??;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        if status != "101" {
            return Err(format!("the handshake is answered with status {status}; a refusal is a close code behind a good handshake"));
        }
        let named = |line: &str| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-protocol").then(|| value.trim().to_owned())
        };
        let config = WebSocketConfig::default().max_message_size(Some(MESSAGE)).max_frame_size(Some(MESSAGE));
        let stream = WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await;
        Ok(Self { name: name.to_owned(), stream, subprotocol: answer.lines().find_map(named), shown: Shown::default(), closed: None })
    }

    /// An error is a server that does not read.
    pub(super) async fn send(&mut self, message: Message, within: Duration, transcript: &Transcript) -> Result<(), String> {
        let shown = match &message {
            Message::Text(text) => text.to_string(),
            other => format!("{} bytes, binary", other.len()),
        };
        transcript.note(&format!("{} →", self.name), &shown);
        // A server that has closed says why in what it sent; the script will read it.
        timeout(within, self.stream.send(message)).await.map(drop).map_err(|_| "the server does not read what it is sent".to_owned())
    }

    /// The next frame, held against the rules that hold for all.
    pub(super) async fn next(&mut self, until: Instant, logs: &mut Logs, transcript: &Transcript) -> Result<Came, String> {
        if let Some(code) = self.closed {
            return Ok(Came::Closed(code));
        }
        loop {
            let message = timeout_at(until, self.stream.next()).await.map_err(|_| "nothing came in time".to_owned())?;
            match message {
                Some(Ok(Message::Text(text))) => {
                    transcript.note(&format!("{} ←", self.name), &text);
                    return self.frame(&text, logs).map(Came::Frame);
                }
                Some(Ok(Message::Binary(_))) => return Err("the server sent a binary frame".to_owned()),
                Some(Ok(Message::Close(frame))) => {
                    let code = frame.map_or(1005, |frame| frame.code.into());
                    transcript.note(&format!("{} ←", self.name), &format!("closed with {code}"));
                    // The answer to it goes out while the rest is read.
                    let _ = timeout(CLOSE_WITHIN, self.stream.next()).await;
                    self.closed = Some(code);
                    return Ok(Came::Closed(code));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => {
                    transcript.note(&format!("{} ←", self.name), "the end, without a close frame");
                    self.closed = Some(1006);
                    return Ok(Came::Closed(1006));
                }
            }
        }
    }

    fn frame(&mut self, text: &str, logs: &mut Logs) -> Result<Value, String> {
        let frame: Value = serde_json::from_str(text).map_err(|error| format!("a frame that is no JSON ({error}): {}", cut(text)))?;
        self.shown.take(&frame)?;
        if is_event(&frame) {
            let cursor = self.shown.cursor(frame["sessionId"].as_str().unwrap_or_default()).unwrap_or_default();
            let epoch = cursor.rsplit_once('.').map(|(epoch, _)| epoch).unwrap_or_default();
            logs.take(epoch, &frame, text)?;
        }
        Ok(frame)
    }

    /// Whether its end was read.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Says goodbye. What comes before the answer is held against the rules too.
    pub(super) async fn close(mut self, logs: &mut Logs, transcript: &Transcript) -> Result<(), String> {
        let goodbye = async {
            // A connection that is gone needs none.
            let _ = self.stream.close(None).await;
            let later = Instant::now() + CLOSE_WITHIN * 2;
            while let Came::Frame(_) = self.next(later, logs, transcript).await? {}
            Ok(())
        };
        // Nothing says how long a server may take for its answer.
        timeout(CLOSE_WITHIN, goodbye).await.unwrap_or(Ok(()))
    }
}

fn request(target: &Target, token: &str, how: &Open, query: &str) -> String {
    let mut offered = how.offer.clone().unwrap_or_else(|| vec!["agent-hub.v1".to_owned()]);
    let (mut query, mut headers) = (query.to_owned(), String::new());
    match how.by {
        _ if token.is_empty() => {}
        Way::Header => headers = format!("Authorization: Bearer {token}\r\n"),
        Way::Query => query = if query.is_empty() { format!("token={token}") } else { format!("token={token}&{query}") },
        Way::Subprotocol => offered.push(format!("bearer.{token}")),
    }
    if !offered.is_empty() {
        headers.push_str(&format!("Sec-WebSocket-Protocol: {}\r\n", offered.join(", ")));
    }
    let mark = if query.is_empty() { "" } else { "?" };
    format!(
        "GET /ws/agents{mark}{query} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {}\r\n{headers}\r\n",
        target.authority,
        generate_key(),
    )
}

async fn read_head(stream: &mut MaybeTlsStream<TcpStream>) -> Result<String, String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD {
            return Err("the answer to the handshake has no end".to_owned());
        }
        head.push(stream.read_u8().await.map_err(|error| format!("the handshake was broken off: {error}"))?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
