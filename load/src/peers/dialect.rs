//! How each server says the same things. The shapes are described in `load/peers/README.md`.

use crate::wire;

/// Whose words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// The hub, with SQLite.
    Hub,
    /// Express with `ws`.
    ExpressWs,
    /// FastAPI with server-sent events.
    FastapiSse,
    /// Socket.IO.
    Socketio,
}

impl Peer {
    /// All of them, the hub first.
    pub const ALL: [Peer; 4] = [Peer::Hub, Peer::ExpressWs, Peer::Socketio, Peer::FastapiSse];

    /// The directory below `load/peers`, and for tables.
    pub const fn name(self) -> &'static str {
        match self {
            Peer::Hub => "hub",
            Peer::ExpressWs => "express-ws",
            Peer::FastapiSse => "fastapi-sse",
            Peer::Socketio => "socketio",
        }
    }
}

/// What a server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// A piece of the answer, as it stands in JSON.
    Token(&'a [u8]),
    /// The task has this id.
    Started(&'a [u8]),
    /// The session is there.
    Ready,
    /// The answer is over.
    Ended,
    /// It is over because something failed; what was said.
    Failed(&'a [u8]),
    /// The cancel was acknowledged.
    Acknowledged,
    /// Wants an answer, or the connection is ended.
    Ping,
    /// Anything else.
    Other,
}

/// The id of every cancel of the hub.
pub(super) const CANCEL_ID: u64 = 9;

impl Peer {
    /// Takes a frame, or of server-sent events a line of data, for what it is.
    pub(super) fn read(self, frame: &[u8]) -> Said<'_> {
        match self {
            Peer::Hub => hub(frame),
            Peer::ExpressWs => express(frame),
            Peer::FastapiSse => fastapi(frame),
            Peer::Socketio => socketio(frame),
        }
    }
}

fn hub(frame: &[u8]) -> Said<'_> {
    if let Some(text) = wire::token_text(frame) {
        return Said::Token(text);
    }
    let Some(kind) = between(frame, br#"{"type":""#, b"\"") else { return Said::Other };
    match kind {
        b"caught_up" => Said::Ready,
        b"task_completed" | b"task_cancelled" => Said::Ended,
        b"task_failed" | b"task_timeout" | b"error" => Said::Failed(frame),
        b"ack" if wire::number_field(frame, "id") == Some(CANCEL_ID) => Said::Acknowledged,
        _ => Said::Other,
    }
}

fn express(frame: &[u8]) -> Said<'_> {
    let Some(kind) = between(frame, br#"{"type":""#, b"\"") else { return Said::Other };
    match kind {
        b"token" => token(frame, br#""data":{"token":""#, br#""}}"#),
        b"task_started" => {
            find(frame, br#""taskId":""#).and_then(|at| between(&frame[at..], br#""taskId":""#, b"\"")).map_or(Said::Other, Said::Started)
        }
        b"session_created" => Said::Ready,
        b"task_completed" => Said::Ended,
        b"task_failed" | b"error" => Said::Failed(frame),
        b"task_cancelled" => Said::Acknowledged,
        _ => Said::Other,
    }
}

/// A line behind `data: `.
fn fastapi(line: &[u8]) -> Said<'_> {
    if line.starts_with(br#"{"token":""#) {
        return token(line, br#"{"token":""#, br#""}"#);
    }
    match line {
        _ if line.starts_with(br#"{"task_id""#) => Said::Other,
        _ if line.starts_with(br#"{"result""#) => Said::Ended,
        _ if line.starts_with(br#"{"error""#) => Said::Failed(line),
        _ => Said::Other,
    }
}

fn socketio(frame: &[u8]) -> Said<'_> {
    if frame == b"2" {
        return Said::Ping;
    }
    let Some(event) = between(frame, br#"42[""#, b"\"") else { return Said::Other };
    match event {
        b"agent-status" => return Said::Ready,
        b"abort-result" => return Said::Acknowledged,
        b"error" => return Said::Failed(frame),
        b"agent-event" => {}
        _ => return Said::Other,
    }
    match between(frame, br#"42["agent-event",{"type":""#, b"\"") {
        Some(b"streaming_message") => token(frame, br#""data":{"content":""#, br#"","isComplete""#),
        Some(b"answer" | b"aborted") => Said::Ended,
        Some(b"error") => Said::Failed(frame),
        _ => Said::Other,
    }
}

fn token<'a>(frame: &'a [u8], before: &[u8], behind: &[u8]) -> Said<'a> {
    let text = find(frame, before).map(|at| &frame[at + before.len()..]);
    let text = text.and_then(|text| Some(&text[..find(text, behind)?]));
    text.map_or(Said::Other, Said::Token)
}

/// What stands behind `before`, which must be the beginning, up to `behind`.
fn between<'a>(bytes: &'a [u8], before: &[u8], behind: &[u8]) -> Option<&'a [u8]> {
    let rest = bytes.strip_prefix(before)?;
    Some(&rest[..find(rest, behind)?])
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_read() {
        use Peer::{ExpressWs, FastapiSse, Hub, Socketio};
        let frames: [(Peer, &str, Said<'_>); 19] = [
            (
                Hub,
                r#"{"type":"token","sessionId":"s","taskId":"t","seq":7,"at":"x","data":{"token":"a b ","messageId":"m2"}}"#,
                Said::Token(b"a b "),
            ),
            (Hub, r#"{"type":"caught_up","sessionId":"s","seq":1}"#, Said::Ready),
            (Hub, r#"{"type":"ack","id":9,"received":"cancel_task"}"#, Said::Acknowledged),
            (Hub, r#"{"type":"ack","id":8,"received":"submit_task"}"#, Said::Other),
            (Hub, r#"{"type":"task_cancelled","sessionId":"s","taskId":"t","seq":9,"at":"x","data":{}}"#, Said::Ended),
            (ExpressWs, r#"{"type":"session_created","sessionId":"s"}"#, Said::Ready),
            (ExpressWs, r#"{"type":"task_started","taskId":"t1"}"#, Said::Started(b"t1")),
            (ExpressWs, r#"{"type":"token","taskId":"t1","data":{"token":"a "}}"#, Said::Token(b"a ")),
            (ExpressWs, r#"{"type":"task_completed","taskId":"t1","data":{"result":"a "}}"#, Said::Ended),
            (ExpressWs, r#"{"type":"task_cancelled","taskId":"t1"}"#, Said::Acknowledged),
            (FastapiSse, r#"{"token":"a "}"#, Said::Token(b"a ")),
            (FastapiSse, r#"{"result":"a "}"#, Said::Ended),
            (FastapiSse, r#"{"error":"x"}"#, Said::Failed(br#"{"error":"x"}"#)),
            (Socketio, "2", Said::Ping),
            (Socketio, r#"42["agent-status",{"isProcessing":false,"state":"idle"}]"#, Said::Ready),
            (
                Socketio,
                r#"42["agent-event",{"type":"streaming_message","data":{"content":"a ","isComplete":false,"messageId":"m"}}]"#,
                Said::Token(b"a "),
            ),
            (Socketio, r#"42["agent-event",{"type":"answer","data":{"text":"a "}}]"#, Said::Ended),
            (Socketio, r#"42["abort-result",{"success":true}]"#, Said::Acknowledged),
            (Socketio, r#"42["error","Session is busy"]"#, Said::Failed(br#"42["error","Session is busy"]"#)),
        ];
        for (peer, frame, said) in frames {
            assert_eq!(peer.read(frame.as_bytes()), said, "{frame}");
        }
    }
}
