//! A connection to a server under comparison: opened, asked, read, cancelled, each server in its own way.

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    rc::Rc,
};

use agent_hub_protocol::{SessionId, TaskId};
use anyhow::{Context, bail};
use socket2::SockRef;
use tokio::net::TcpStream;

use super::dialect::{CANCEL_ID, Peer, Said};
use crate::wire::{Dial, Read, Wire};

/// See the module.
pub(super) struct Line {
    peer: Peer,
    address: SocketAddr,
    token: String,
    session: String,
    /// Of the hub chosen here, of Express told by the server.
    task: RefCell<String>,
    way: Way,
    /// Answers an Engine.IO ping with the next read.
    pinged: Cell<bool>,
}

enum Way {
    Socket(Wire),
    Requests(RefCell<Requests>),
}

/// Server-sent events: one connection, one request after another.
struct Requests {
    stream: Option<Rc<TcpStream>>,
    /// The beginning of a line whose end has not come.
    carry: Vec<u8>,
}

impl Line {
    /// Connects, and opens a session.
    pub(super) async fn open(peer: Peer, address: SocketAddr, token: &str) -> anyhow::Result<Self> {
        let mut session = SessionId::random().to_string();
        let way = match peer {
            Peer::Hub => Way::Socket(Wire::connect(address, token).await?),
            Peer::ExpressWs => {
                let stream = Dial::to(address).connect().await?;
                Way::Socket(Wire::upgrade_at(stream, "localhost", &format!("/ws/agents?token={token}"), "").await?)
            }
            Peer::Socketio => {
                session = make_session(address, token).await?;
                let stream = Dial::to(address).connect().await?;
                Way::Socket(Wire::upgrade_at(stream, "localhost", "/socket.io/?EIO=4&transport=websocket", "").await?)
            }
            Peer::FastapiSse => {
                let stream = Some(Rc::new(Dial::to(address).connect().await?));
                Way::Requests(RefCell::new(Requests { stream, carry: Vec::new() }))
            }
        };
        let line = Self { peer, address, token: token.to_owned(), session, task: RefCell::default(), way, pinged: Cell::new(false) };
        line.join().await?;
        Ok(line)
    }

    async fn join(&self) -> anyhow::Result<()> {
        let Way::Socket(wire) = &self.way else { return Ok(()) };
        let (session, token) = (&self.session, &self.token);
        match self.peer {
            Peer::Hub => wire.send(&format!(r#"{{"type":"create_session","sessionId":"{session}"}}"#)).await?,
            Peer::ExpressWs => wire.send(r#"{"type":"create_session"}"#).await?,
            Peer::Socketio => {
                wire.until(|frame| frame.starts_with(b"0{")).await?;
                wire.send(&format!(r#"40{{"token":"{token}"}}"#)).await?;
                wire.until(|frame| frame.starts_with(b"40{")).await?;
                wire.send(&format!(r#"42["join-session","{session}"]"#)).await?;
            }
            Peer::FastapiSse => {}
        }
        wire.until(|frame| self.peer.read(frame) == Said::Ready).await
    }

    /// Asks. The prompt has no characters that JSON would escape.
    pub(super) async fn submit(&self, prompt: &str) -> anyhow::Result<()> {
        let session = &self.session;
        match &self.way {
            Way::Socket(wire) => {
                let text = match self.peer {
                    Peer::Hub => {
                        let task = TaskId::random().to_string();
                        let text = format!(r#"{{"type":"submit_task","sessionId":"{session}","taskId":"{task}","prompt":"{prompt}"}}"#);
                        *self.task.borrow_mut() = task;
                        text
                    }
                    Peer::ExpressWs => format!(r#"{{"type":"submit_task","prompt":"{prompt}"}}"#),
                    Peer::Socketio | Peer::FastapiSse => format!(r#"42["send-query",{{"sessionId":"{session}","query":"{prompt}"}}]"#),
                };
                Ok(wire.send(&text).await?)
            }
            Way::Requests(requests) => {
                let body = format!(r#"{{"message":"{prompt}","session_id":"{session}"}}"#);
                let request = format!(
                    "POST /chat HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    self.token,
                    body.len()
                );
                if requests.borrow().stream.is_none() {
                    let stream = Dial::to(self.address).connect().await?;
                    *requests.borrow_mut() = Requests { stream: Some(Rc::new(stream)), carry: Vec::new() };
                }
                // A request is smaller than an empty send buffer.
                let requests = requests.borrow();
                let stream = requests.stream.as_ref().context("no connection")?;
                let written = stream.try_write(request.as_bytes())?;
                anyhow::ensure!(written == request.len(), "a request did not fit into the socket");
                Ok(())
            }
        }
    }

    /// Cancels. Server-sent events have no acknowledgement: the client hangs up.
    pub(super) async fn cancel(&self) -> anyhow::Result<()> {
        let wire = match &self.way {
            Way::Socket(wire) => wire,
            Way::Requests(requests) => {
                if let Some(stream) = requests.borrow_mut().stream.take() {
                    // Whoever waits for it holds it too: dropping it here would end nothing.
                    SockRef::from(&*stream).shutdown(std::net::Shutdown::Both)?;
                }
                return Ok(());
            }
        };
        let (session, task) = (&self.session, self.task.borrow().clone());
        let text = match self.peer {
            Peer::Hub => format!(r#"{{"type":"cancel_task","id":{CANCEL_ID},"sessionId":"{session}","taskId":"{task}"}}"#),
            Peer::ExpressWs => format!(r#"{{"type":"cancel_task","taskId":"{task}"}}"#),
            Peer::Socketio | Peer::FastapiSse => format!(r#"42["abort-query",{{"sessionId":"{session}"}}]"#),
        };
        Ok(wire.send(&text).await?)
    }

    /// Whether a cancel is answered.
    pub(super) const fn acknowledges(&self) -> bool {
        matches!(self.way, Way::Socket(_))
    }

    /// Waits until there is something to read.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match &self.way {
            Way::Socket(wire) => wire.readable().await,
            Way::Requests(requests) => {
                // Not borrowed while waiting: a cancel takes the stream away, and its end is what is then waited for.
                let stream = requests.borrow().stream.clone();
                stream.ok_or(io::ErrorKind::NotConnected)?.readable().await
            }
        }
    }

    /// Reads once and hands out what was said.
    pub(super) fn try_read(&self, scratch: &mut [u8], mut on: impl FnMut(Said<'_>)) -> io::Result<Read> {
        let peer = self.peer;
        match &self.way {
            Way::Socket(wire) => {
                let read = wire.try_read(scratch, |frame| match peer.read(frame) {
                    Said::Started(task) => *self.task.borrow_mut() = String::from_utf8_lossy(task).into_owned(),
                    Said::Ping => self.pinged.set(true),
                    said => on(said),
                });
                if self.pinged.take() {
                    wire.try_send("3");
                }
                read
            }
            Way::Requests(requests) => requests.borrow_mut().try_read(scratch, |line| on(peer.read(line))),
        }
    }
}

impl Requests {
    fn try_read(&mut self, scratch: &mut [u8], mut on: impl FnMut(&[u8])) -> io::Result<Read> {
        let Some(stream) = &self.stream else { return Ok(Read::Nothing) };
        let read = match stream.try_read(scratch) {
            Ok(0) => return Ok(Read::Closed(None)),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Read::Nothing),
            Err(error) => return Err(error),
        };
        self.carry.extend_from_slice(&scratch[..read]);
        let mut at = 0;
        // Sizes of chunks are lines too, and mean nothing here: no event is cut by one.
        while let Some(end) = self.carry[at..].iter().position(|byte| *byte == b'\n') {
            let line = self.carry[at..at + end].strip_suffix(b"\r").unwrap_or(&self.carry[at..at + end]);
            if let Some(data) = line.strip_prefix(b"data: ") {
                on(data);
            }
            at += end + 1;
        }
        self.carry.drain(..at);
        Ok(Read::Bytes(read))
    }
}

/// Socket.IO's sessions are made over HTTP.
async fn make_session(address: SocketAddr, token: &str) -> anyhow::Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = Dial::to(address).connect().await?;
    let request = format!(
        "POST /api/v1/sessions/create HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    match answer.split_once(r#""sessionId":""#).and_then(|(_, rest)| rest.split_once('"')) {
        Some((session, _)) => Ok(session.to_owned()),
        None => bail!("no session: {answer}"),
    }
}
