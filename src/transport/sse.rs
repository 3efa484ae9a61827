//! Server-Sent Events: a session's log, or one task's part of it, as a stream of frames. Nothing is queued here: the next events are
//! read when the socket takes more.

use std::{convert::Infallible, sync::Arc, time::Duration};

use agent_hub_protocol::{
    Cursor, Epoch, ErrorCode, Event, Seq, SessionId, Timestamp, server_message::SessionAttached, snapshot::SessionStatus,
};
use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::stream;
use tokio::time::{Instant, sleep_until};

use super::{client_address::ClientAddress, edge::Edge, problem::Problem, slots::Slot};
use crate::runtime::{
    Principal,
    log::{LogEvent, Reader},
    revocation::TokenWatch,
    session::{After, Attach, TaskView},
};

mod task_frames;

pub use task_frames::timeout_text;
use task_frames::{TaskFrames, frame};

/// Where an `EventSource` says what it has read.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Bytes of wire text read at once.
const BATCH: usize = 64 * 1024;
/// A token without an end of life, in effect.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Who reads, and where it stands.
pub struct Listener<'a> {
    /// The edge.
    pub edge: &'a Arc<Edge>,
    /// The user.
    pub who: &'a Principal,
    /// Whom the stream counts for.
    pub from: ClientAddress,
    /// The last `id:` it has seen, as it says.
    pub last_event_id: Option<String>,
}

/// Turns events into frames.
pub trait Frames: Send + 'static {
    /// Appends what `event` is to `out`. Returns whether it was the last one.
    fn write(&mut self, event: &LogEvent, epoch: &Epoch, out: &mut Vec<u8>) -> bool;
}

struct Flow<F> {
    reader: Reader,
    frames: F,
    /// Written before anything that is read.
    opening: Vec<u8>,
    batch: Vec<LogEvent>,
    edge: Arc<Edge>,
    expires: Instant,
    next_beat: Instant,
    ended: bool,
    token: Option<TokenWatch>,
    _slot: Slot,
}

/// The last event a reader has seen: the header, or `?lastEventId=` where a header cannot be sent.
pub fn last_event_id(headers: &HeaderMap, query: Option<String>) -> Option<String> {
    let header = headers.get(LAST_EVENT_ID).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    header.or(query).filter(|id| !id.is_empty())
}

/// The stream of one task.
///
/// # Errors
/// Before the stream begins: too many streams, or what attaching is refused with.
pub async fn task(listener: Listener<'_>, view: TaskView) -> Result<Response, Problem> {
    let Listener { edge, who, from, last_event_id } = listener;
    let before_task = view.info.first_seq.saturating_sub(1);
    let seen = last_event_id.map(|text| text.parse::<Cursor>().ok().filter(|c| c.epoch == view.cursor.epoch && c.seq <= view.cursor.seq));
    let (after, reset) = match seen {
        None => (before_task, false),
        Some(None) => (before_task, true),
        Some(Some(cursor)) if view.info.status.is_terminal() && cursor.seq >= view.last_seq => return Ok(at_the_end()),
        Some(Some(cursor)) => (cursor.seq.max(before_task), false),
    };
    let slot = edge.slots.enter(who, &from)?;
    let token = edge.hub.watch_token(who).await?;
    let attach = Attach { after: After::Seq(after), socket: false };
    let attached = edge.hub.attach(who, view.session, attach).await?;
    let mut opening = Vec::new();
    frame(&mut opening, "status", None, &serde_json::json!({ "status": view.info.status }));
    if reset {
        frame(&mut opening, "reset", None, &serde_json::json!({ "reason": "unknown_position" }));
    }
    Ok(respond(Flow::new(edge, who, attached.reader, TaskFrames::new(view.info.task_id), opening, (token, slot))))
}

/// The stream of a session: every event as it stands in the log, after a snapshot where the position is not given or not known.
///
/// # Errors
/// Before the stream begins: too many streams, or what attaching is refused with.
pub async fn session(listener: Listener<'_>, session: SessionId) -> Result<Response, Problem> {
    let Listener { edge, who, from, last_event_id } = listener;
    if let Some(text) = &last_event_id {
        let view = edge.hub.session(who, session).await?;
        let ended = view.info.status == SessionStatus::Ended;
        if ended && text.parse().is_ok_and(|cursor: Cursor| cursor == view.cursor) {
            return Ok(at_the_end());
        }
    }
    let slot = edge.slots.enter(who, &from)?;
    let token = edge.hub.watch_token(who).await?;
    let after = last_event_id.map_or(After::Snapshot, After::Cursor);
    let attached = edge.hub.attach(who, session, Attach { after, socket: false }).await?;
    let mut opening = Vec::new();
    let mut ended = false;
    let reader = attached.reader;
    match attached.snapshot {
        None => opening.extend_from_slice(b": attached\n\n"),
        Some(snapshot) => {
            let id = Cursor { epoch: reader.epoch().clone(), seq: reader.position() };
            // Nothing follows the end of a session.
            ended = snapshot.session.status == SessionStatus::Ended;
            let message = SessionAttached {
                session_id: session,
                epoch: id.epoch.clone(),
                recovered: attached.recovered,
                from: id.seq + 1,
                head: attached.head,
                snapshot: Some(*snapshot),
            };
            frame(&mut opening, "snapshot", Some((&id.epoch, id.seq)), &message);
        }
    }
    Ok(respond(Flow { ended, ..Flow::new(edge, who, reader, SessionFrames, opening, (token, slot)) }))
}

/// Another server's stream over a log: what `frames` makes of the events that `reader` finds.
///
/// # Errors
/// Before the stream begins: too many streams.
pub async fn adapted(listener: Listener<'_>, reader: Reader, frames: impl Frames) -> Result<Response, Problem> {
    let Listener { edge, who, from, .. } = listener;
    let slot = edge.slots.enter(who, &from)?;
    let token = edge.hub.watch_token(who).await?;
    Ok(respond(Flow::new(edge, who, reader, frames, Vec::new(), (token, slot))))
}

/// `EventSource` stops coming back when it is told that there is no content.
fn at_the_end() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn respond<F: Frames>(flow: Flow<F>) -> Response {
    let body = Body::from_stream(stream::unfold(flow, |mut flow| async move {
        let bytes = flow.next().await?;
        Some((Ok::<_, Infallible>(bytes), flow))
    }));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONNECTION, HeaderValue::from_static("keep-alive")),
        // nginx would keep the stream until it ends.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, body).into_response()
}

impl<F: Frames> Flow<F> {
    fn new(edge: &Arc<Edge>, who: &Principal, reader: Reader, frames: F, opening: Vec<u8>, held: (Option<TokenWatch>, Slot)) -> Self {
        let now = Instant::now();
        let life = who.expires_at().map_or(FAR, |at| at.since(Timestamp::now()).min(FAR));
        Self {
            reader,
            frames,
            opening,
            batch: Vec::new(),
            edge: Arc::clone(edge),
            expires: now + life,
            next_beat: now + edge.settings.sse_keep_alive,
            ended: false,
            token: held.0,
            _slot: held.1,
        }
    }

    /// The next bytes; `None` when the stream is over: its subject is, the token has expired or was revoked, or the hub drains. In the latter cases,
    /// and when the log cannot be read, the client comes back with its position.
    async fn next(&mut self) -> Option<Bytes> {
        if !self.opening.is_empty() {
            return Some(std::mem::take(&mut self.opening).into());
        }
        let mut out = Vec::new();
        while !self.ended {
            tokio::select! {
                biased;
                () = self.edge.stop.cancelled() => return None,
                () = sleep_until(self.expires) => return None,
                () = revoked(&mut self.token) => return None,
                read = self.reader.next(BATCH, &mut self.batch) => match read {
                    Ok(()) => self.ended = self.write_batch(&mut out),
                    Err(error) => {
                        tracing::debug!(session = %self.reader.session(), %error, "an event stream ends early");
                        return None;
                    }
                },
                () = sleep_until(self.next_beat) => out.extend_from_slice(b": keep-alive\n\n"),
            }
            if !out.is_empty() {
                self.next_beat = Instant::now() + self.edge.settings.sse_keep_alive;
                return Some(out.into());
            }
        }
        None
    }

    fn write_batch(&mut self, out: &mut Vec<u8>) -> bool {
        let epoch = self.reader.epoch().clone();
        let mut batch = std::mem::take(&mut self.batch);
        let ended = batch.drain(..).any(|event| self.frames.write(&event, &epoch, out));
        self.batch = batch;
        ended
    }
}

/// Waits until the token is revoked; for ever if it cannot be.
async fn revoked(token: &mut Option<TokenWatch>) {
    match token {
        Some(token) => token.await,
        None => std::future::pending().await,
    }
}

/// Every event as it is.
struct SessionFrames;

impl Frames for SessionFrames {
    fn write(&mut self, event: &LogEvent, epoch: &Epoch, out: &mut Vec<u8>) -> bool {
        let kind = event_type(&event.text).unwrap_or("message");
        out.extend_from_slice(b"id: ");
        write_cursor(out, epoch, event.seq);
        out.extend_from_slice(b"\nevent: ");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        // The wire text is one line.
        out.extend_from_slice(&event.text);
        out.extend_from_slice(b"\n\n");
        kind == "session_ended"
    }
}

impl Frames for TaskFrames {
    fn write(&mut self, event: &LogEvent, epoch: &Epoch, out: &mut Vec<u8>) -> bool {
        let text = std::str::from_utf8(&event.text).unwrap_or_default();
        match Event::decode(text) {
            Ok(decoded) => self.event(&decoded, epoch, out),
            Err(error) => {
                tracing::error!(seq = event.seq, %error, code = %ErrorCode::Internal, "an event of the log cannot be read");
                false
            }
        }
    }
}

/// The `type` of an event's wire text, which begins with it.
fn event_type(text: &[u8]) -> Option<&str> {
    let rest = text.strip_prefix(b"{\"type\":\"")?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    std::str::from_utf8(&rest[..end]).ok()
}

fn write_cursor(out: &mut Vec<u8>, epoch: &Epoch, seq: Seq) {
    out.extend_from_slice(epoch.as_str().as_bytes());
    out.extend_from_slice(format!(".{seq}").as_bytes());
}
