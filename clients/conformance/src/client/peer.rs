//! The faulty server's sockets.

use std::{io, time::Duration};

use futures::{SinkExt, StreamExt};
use serde_json::Value;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role},
    },
};

use crate::{pattern::cut, verdict::Transcript};

/// The head of a request; larger ones are refused.
const HEAD: usize = 16 * 1024;
/// How long a closed socket is still read, so that what the client has on its way does not make the system reset the connection
/// before the client has read why it was closed.
const LINGER: Duration = Duration::from_secs(2);
/// Connections that wait to be accepted by a script. Full: the system lets further ones wait.
const WAITING: usize = 64;

/// Where the client connects to.
pub(super) struct Listener {
    pub(super) url: String,
    arrived: mpsc::Receiver<TcpStream>,
    accepting: JoinHandle<()>,
}

impl Listener {
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("ws://{}", listener.local_addr()?);
        let (send, arrived) = mpsc::channel(WAITING);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if send.send(stream).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { url, arrived, accepting })
    }

    /// The next connection that asks for a WebSocket. Other requests are answered with 404.
    pub(super) async fn next(&mut self) -> Result<Asked, String> {
        loop {
            let Some(mut stream) = self.arrived.recv().await else { return Err("the server's port is closed".to_owned()) };
            let _ = stream.set_nodelay(true);
            match read_head(&mut stream).await {
                Ok(head) if header(&head, "sec-websocket-key").is_some() => return Ok(Asked { stream, head }),
                Ok(_) => {
                    let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
                }
                // It came and went: a probe, or a client that was ended.
                Err(_) => {}
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// A handshake that waits for its answer.
pub(super) struct Asked {
    stream: TcpStream,
    head: String,
}

impl Asked {
    /// What the client came with: `Authorization`, `?token=`, or the subprotocol `bearer.…`.
    pub(super) fn token(&self) -> Option<String> {
        if let Some(value) = header(&self.head, "authorization") {
            return value.strip_prefix("Bearer ").map(str::to_owned);
        }
        let target = self.head.split(' ').nth(1).unwrap_or_default();
        let query = target.split_once('?').map(|(_, query)| query).unwrap_or_default();
        let in_query = query.split('&').find_map(|pair| pair.strip_prefix("token="));
        in_query.map(str::to_owned).or_else(|| self.offered().find_map(|name| name.strip_prefix("bearer.").map(str::to_owned)))
    }

    /// The path, without the query.
    pub(super) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default()
    }

    fn offered(&self) -> impl Iterator<Item = &str> {
        header(&self.head, "sec-websocket-protocol").unwrap_or_default().split(',').map(str::trim)
    }

    pub(super) async fn upgrade(mut self) -> Result<Peer, String> {
        let key = header(&self.head, "sec-websocket-key").unwrap_or_default();
        let protocol = if self.offered().any(|name| name == "agent-hub.v1") { "Sec-WebSocket-Protocol: agent-hub.v1\r\n" } else { "" };
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n{protocol}\r\n",
            derive_accept_key(key.as_bytes())
        );
        self.stream.write_all(answer.as_bytes()).await.map_err(|error| format!("the client left during the handshake: {error}"))?;
        Ok(Peer(WebSocketStream::from_raw_socket(self.stream, Role::Server, None).await))
    }

    pub(super) async fn refuse(mut self, status: u16) {
        let answer = format!("HTTP/1.1 {status} Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        // A client that left does not need it.
        let _ = self.stream.write_all(answer.as_bytes()).await;
    }
}

/// A connection with the client.
pub(super) struct Peer(WebSocketStream<TcpStream>);

impl Peer {
    pub(super) async fn send(&mut self, message: Message) -> Result<(), String> {
        self.0.send(message).await.map_err(|error| format!("the client does not take a message: {error}"))
    }

    /// The next message of the client; an error is why there is none.
    pub(super) async fn hear(&mut self, transcript: &Transcript) -> Result<Value, String> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => {
                    transcript.note("client →", &text);
                    return serde_json::from_str(&text)
                        .map_err(|error| format!("the client sent what is no JSON ({error}): {}", cut(&text)));
                }
                Some(Ok(Message::Close(frame))) => return Err(format!("the client closed the connection: {frame:?}")),
                Some(Ok(Message::Binary(_))) => return Err("the client sent a binary frame".to_owned()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(format!("the connection broke: {error}")),
                None => return Err("the client ended the connection".to_owned()),
            }
        }
    }

    /// What the client has sent until its end, without what is no JSON.
    pub(super) async fn rest(mut self, transcript: &Transcript) -> Vec<Value> {
        let mut rest = Vec::new();
        let reading = async {
            while let Some(Ok(message)) = self.0.next().await {
                if let Message::Text(text) = message {
                    transcript.note("client →", &text);
                    rest.extend(serde_json::from_str::<Value>(&text).ok());
                }
            }
        };
        // Its program has ended, and so has its connection.
        let _ = timeout(LINGER, reading).await;
        rest
    }

    /// The bytes of the first half of a frame.
    pub(super) async fn send_half(&mut self, text: &str) -> Result<(), String> {
        let length = u16::try_from(text.len()).map_err(|_| "half a frame may have 65,535 bytes at most")?;
        let mut frame = vec![0x81];
        match u8::try_from(length) {
            Ok(short) if short < 126 => frame.push(short),
            _ => {
                frame.push(126);
                frame.extend(length.to_be_bytes());
            }
        }
        frame.extend(text.as_bytes());
        let stream = self.0.get_mut();
        let written = stream.write_all(&frame[..frame.len() / 2]).await;
        written.map_err(|error| format!("the client does not take half a message: {error}"))
    }

    pub(super) async fn close(mut self, code: u16) -> Result<(), String> {
        let sent = self.0.close(Some(CloseFrame { code: code.into(), reason: "".into() })).await;
        drop(tokio::spawn(timeout(LINGER, async move { while let Some(Ok(_)) = self.0.next().await {} })));
        sent.map_err(|error| format!("the connection cannot be closed: {error}"))
    }

    pub(super) fn reset(self) {
        // Without it the end is a polite one, which is a fault too.
        let _ = SockRef::from(self.0.get_ref()).set_linger(Some(Duration::ZERO));
    }

    /// The end of the stream, with nothing said before.
    pub(super) async fn cut(mut self) {
        let stream = self.0.get_mut();
        // A connection that is gone is cut already.
        let _ = stream.shutdown().await;
        drop(tokio::spawn(timeout(LINGER, async move {
            let mut rest = [0; 1024];
            while let Ok(1..) = self.0.get_mut().read(&mut rest).await {}
        })));
    }
}
