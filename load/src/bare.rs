//! What the hub is compared with: a tokio-tungstenite server that does nothing but send. Same handshake, same frames, one token per
//! frame, one flush per frame; no log, no sessions, no checks. It cannot be beaten at sending single frames, only at sending fewer.

use std::{net::Ipv4Addr, pin::Pin, time::Duration};

use anyhow::Context;
use clap::Args;
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::broadcast,
    time::{Instant, Sleep, sleep_until},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, Utf8Bytes, protocol::WebSocketConfig},
};

use crate::{vendor::Script, wire::now_nanos};

/// Handshakes that wait to be accepted, as of the hub.
const BACKLOG: u32 = 4096;
/// What stands in the frames for a time; the hub's are as long.
const AT: &str = "2026-11-20T14:02:07.259Z";
/// What a token is when it is no stamp; about as long as the demo provider's.
const WORD: &str = "word ";

type Socket = WebSocketStream<TcpStream>;

/// The bare server.
#[derive(Args, Clone, Debug)]
pub struct BareArgs {
    /// Where to listen, on loopback.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Frames between two flushes.
    #[arg(long, default_value_t = 1)]
    per_flush: usize,
}

/// Serves until it is killed.
///
/// # Errors
/// The port cannot be had.
pub async fn run(args: BareArgs) -> anyhow::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, args.port).into()).context("binding")?;
    let listener = socket.listen(BACKLOG)?;
    // What is broadcast waits here for each listener; who falls behind by as much misses some, which only makes this server look better.
    let (speak, _) = broadcast::channel(1024);
    loop {
        // Out of files: closing connections will free some.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let speak = speak.clone();
        drop(tokio::spawn(async move {
            // How a connection ends is its client's affair.
            let _ = serve(stream, args.per_flush.max(1), speak).await;
        }));
    }
}

/// As much of a command as matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Command {
    #[serde(rename = "type")]
    kind: String,
    id: Option<u64>,
    #[serde(default)]
    session_id: String,
    #[serde(default)]
    task_id: String,
    #[serde(default)]
    prompt: String,
}

async fn serve(stream: TcpStream, per_flush: usize, speak: broadcast::Sender<Utf8Bytes>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(4 * 1024).write_buffer_size(16 * 1024);
    let mut socket = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await?;
    socket.send(Message::text(r#"{"type":"welcome","connectionId":"bare","protocol":"agent-hub.v1"}"#)).await?;
    while let Some(command) = next_command(&mut socket).await? {
        match command.kind.as_str() {
            "create_session" | "attach_session" => {
                let text = format!(r#"{{"type":"caught_up","sessionId":"{}","seq":1}}"#, command.session_id);
                socket.send(Message::text(text)).await?;
                if command.kind == "attach_session" {
                    return listen(&mut socket, speak.subscribe()).await;
                }
            }
            "submit_task" if command.prompt.contains("/broadcast") => return broadcast_tokens(&mut socket, &command, &speak).await,
            "submit_task" => stream_tokens(&mut socket, &command, per_flush).await?,
            _ => acknowledge(&mut socket, &command).await?,
        }
    }
    Ok(())
}

/// Sends everything that is broadcast, one flush each.
async fn listen(socket: &mut Socket, mut heard: broadcast::Receiver<Utf8Bytes>) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            text = heard.recv() => match text {
                Ok(text) => socket.send(Message::Text(text)).await?,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            },
            gone = next_command(socket) => if gone?.is_none() { return Ok(()) },
        }
    }
}

/// Encodes each token once and gives it to all listeners, the speaker among them.
async fn broadcast_tokens(socket: &mut Socket, command: &Command, speak: &broadcast::Sender<Utf8Bytes>) -> anyhow::Result<()> {
    let script = Script { pace: Duration::from_millis(20), ..Script::default() }.directed_by(&command.prompt);
    let frame = Frame::new(command);
    let mut heard = speak.subscribe();
    let started = Instant::now();
    for number in 1..=script.tokens {
        sleep_until(started + script.pace.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX))).await;
        speak.send(frame.text(script.stamp, number))?;
        while let Ok(text) = heard.try_recv() {
            socket.send(Message::Text(text)).await?;
        }
    }
    Ok(())
}

async fn next_command(socket: &mut Socket) -> anyhow::Result<Option<Command>> {
    loop {
        match socket.next().await.transpose()? {
            Some(Message::Text(text)) => return Ok(Some(serde_json::from_str(&text)?)),
            Some(Message::Close(_)) | None => return Ok(None),
            Some(_) => {}
        }
    }
}

async fn acknowledge(socket: &mut Socket, command: &Command) -> anyhow::Result<()> {
    let Some(id) = command.id else { return Ok(()) };
    let text = format!(r#"{{"type":"ack","id":{id},"received":"{}"}}"#, command.kind);
    Ok(socket.send(Message::text(text)).await?)
}

/// Sends the tokens; ends early when a command comes, which can only be a cancel.
async fn stream_tokens(socket: &mut Socket, command: &Command, per_flush: usize) -> anyhow::Result<()> {
    let script = Script { pace: Duration::from_millis(20), ..Script::default() }.directed_by(&command.prompt);
    let frame = Frame::new(command);
    let started = Instant::now();
    let mut timer: Pin<Box<Sleep>> = Box::pin(sleep_until(started));
    for number in 1..=script.tokens {
        if !script.pace.is_zero() {
            // Without drift, like the hub's own provider.
            let nth = u32::try_from(number).unwrap_or(u32::MAX);
            timer.as_mut().reset(started + script.pace.saturating_mul(nth));
        }
        let heard = tokio::select! {
            biased;
            heard = next_command(socket) => Some(heard?),
            () = timer.as_mut() => None,
        };
        match heard {
            Some(Some(command)) => return acknowledge(socket, &command).await,
            Some(None) => return Ok(()),
            None => {}
        }
        socket.feed(Message::Text(frame.text(script.stamp, number))).await?;
        if number.is_multiple_of(per_flush) {
            socket.flush().await?;
        }
    }
    let done =
        format!(r#"{{"type":"task_completed","sessionId":"{}","taskId":"{}","seq":0,"data":{{}}}}"#, command.session_id, command.task_id);
    Ok(socket.send(Message::text(done)).await?)
}

/// The frames of one answer. Without stamps they are all one text, made once: nothing is cheaper.
struct Frame {
    head: String,
    word: Utf8Bytes,
}

const TAIL: &str = r#"","messageId":"m2"}}"#;

impl Frame {
    fn new(command: &Command) -> Self {
        let Command { session_id, task_id, .. } = command;
        let head = format!(r#"{{"type":"token","sessionId":"{session_id}","taskId":"{task_id}","seq":"#);
        let word = format!(r#"{head}10000,"at":"{AT}","data":{{"token":"{WORD}{TAIL}"#);
        Self { head, word: word.into() }
    }

    fn text(&self, stamp: bool, seq: usize) -> Utf8Bytes {
        if stamp { format!(r#"{}{seq},"at":"{AT}","data":{{"token":"{} {TAIL}"#, self.head, now_nanos()).into() } else { self.word.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{stamps_in, token_text, tokens_in};

    #[test]
    fn frames_look_like_the_hubs() {
        let id = "7b0c8a3e-4f5d-4d7a-9a51-2f6f0c1d9e10".to_owned();
        let command = Command { kind: String::new(), id: None, session_id: id.clone(), task_id: id, prompt: String::new() };
        let frame = Frame::new(&command);
        let text = frame.text(true, 7);
        let event = agent_hub_protocol::Event::decode(&text).expect("an event");
        assert_eq!(event.encode(), text.as_str());
        assert_eq!(tokens_in(token_text(frame.text(false, 1).as_bytes()).expect("a token")), 1);
        assert_eq!(stamps_in(token_text(frame.text(true, 1).as_bytes()).expect("a token")).count(), 1);
    }
}
