//! What happened in a session: its messages by page, its events by page or as a stream.

use std::sync::Arc;

use agent_hub_protocol::{Cursor, SessionId, Snapshot};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::{
    docs::{CommonErrors, ObjectErrors},
    support::{ApiQuery, SessionPath, page_size},
    views::MessageBody,
};
use crate::{
    runtime::{Refusal, session::SessionView},
    store::{Page, StoredEvent},
    transport::{
        Edge, Problem,
        auth::Who,
        client_address::ClientAddress,
        sse::{self, Listener},
    },
};

/// Messages on one page.
const USUAL_MESSAGES: usize = 50;
const MOST_MESSAGES: usize = 200;
/// Events on one page, and bytes of them.
const USUAL_EVENTS: usize = 200;
const MOST_EVENTS: usize = 1000;
const PAGE_BYTES: usize = 512 * 1024;

/// Which messages.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct MessagesQuery {
    /// Only those before this cursor: the `next` of the page before.
    before: Option<String>,
    /// How many, 200 at most; otherwise 50.
    #[param(value_type = Option<usize>, minimum = 1, maximum = 200)]
    limit: Option<String>,
}

/// A page of a conversation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MessageList {
    /// Oldest first.
    messages: Vec<MessageBody>,
    /// `before` of the page with older ones; `null` when there are none.
    #[schema(value_type = Option<String>)]
    next: Option<Cursor>,
}

/// Which events.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", default)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Only those behind this cursor. From the first one otherwise.
    after: Option<String>,
    /// The same, for an `EventSource` that was made with `after` and comes back.
    last_event_id: Option<String>,
    /// How many on a page, 1000 at most; otherwise 200.
    #[param(value_type = Option<usize>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
}

/// A page of a log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventList {
    /// In order, without a gap; each as every reader gets it.
    #[schema(value_type = Vec<Object>)]
    events: Vec<Box<RawValue>>,
    /// `after` of the next page.
    #[schema(value_type = String, example = "5f3a09c1.17")]
    next: Cursor,
    /// Where the log stands.
    #[schema(value_type = String, example = "5f3a09c1.40")]
    head: Cursor,
    /// False when the given cursor is not one of this log: then there are no events but a snapshot, and `next` is its position.
    recovered: bool,
    /// The state at `next`, where the cursor could not be honoured.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    snapshot: Option<Snapshot>,
}

/// Read a session's messages
#[utoipa::path(
    get, path = "/api/v1/agents/sessions/{id}/messages", tag = "Sessions",
    params(("id" = String, Path, format = Uuid), MessagesQuery),
    responses((status = 200, description = "A page of messages", body = MessageList), CommonErrors, ObjectErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn messages(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    SessionPath(id): SessionPath,
    ApiQuery(query): ApiQuery<MessagesQuery>,
) -> Result<Json<MessageList>, Problem> {
    let limit = page_size(query.limit.as_deref(), USUAL_MESSAGES, MOST_MESSAGES)?;
    let before =
        query.before.map(|text| text.parse::<Cursor>().map_err(|_| Problem::invalid("before", "before must be a cursor"))).transpose()?;
    let view = edge.hub.session(&who, id).await?;
    let page = edge.hub.messages(&who, id, before, limit).await?;
    let oldest = page.messages.first().map(|message| message.seq).filter(|_| page.more);
    let next = oldest.map(|seq| Cursor { epoch: view.cursor.epoch, seq });
    Ok(Json(MessageList { messages: page.messages.into_iter().map(MessageBody::of).collect(), next }))
}

/// Read a session's events
///
/// As a page of JSON, or as Server-Sent Events with `Accept: text/event-stream`: then each frame's `id:` is its cursor, its `event:` the
/// type and its data the event; a frame `snapshot` comes first where no cursor is given or it cannot be honoured.
#[utoipa::path(
    get, path = "/api/v1/agents/sessions/{id}/events", tag = "Sessions",
    params(
        ("id" = String, Path, format = Uuid), EventsQuery,
        ("token" = Option<String>, Query, description = "A token, where the header Authorization cannot be sent"),
        ("Last-Event-ID" = Option<String>, Header, description = "The last id that was read"),
    ),
    responses(
        (status = 200, description = "Events", content((EventList = "application/json"), (String = "text/event-stream"))),
        (status = 204, description = "The session has ended, and all of it was read before"), CommonErrors, ObjectErrors
    ),
    security(("bearerAuth" = []))
)]
pub(super) async fn events(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    from: ClientAddress,
    SessionPath(id): SessionPath,
    ApiQuery(query): ApiQuery<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if wants_stream(&headers) {
        let last_event_id = sse::last_event_id(&headers, query.last_event_id.or(query.after));
        return sse::session(Listener { edge: &edge, who: &who, from, last_event_id }, id).await;
    }
    let limit = page_size(query.limit.as_deref(), USUAL_EVENTS, MOST_EVENTS)?;
    let view = edge.hub.session(&who, id).await?;
    Ok(Json(page(&edge, id, *view, query.after.or(query.last_event_id), limit).await?).into_response())
}

async fn page(edge: &Edge, id: SessionId, view: SessionView, after: Option<String>, limit: usize) -> Result<EventList, Problem> {
    let head = view.cursor;
    let start = match after {
        None => Some(Cursor { epoch: head.epoch.clone(), seq: 0 }),
        Some(text) => text.parse::<Cursor>().ok().filter(|cursor| cursor.epoch == head.epoch && cursor.seq <= head.seq),
    };
    let Some(start) = start else {
        return Ok(EventList { events: Vec::new(), next: head.clone(), head, recovered: false, snapshot: Some(view.snapshot) });
    };
    let stored = match edge.hub.store().read(id, start.seq, Page { events: limit, bytes: PAGE_BYTES }).await {
        Ok(stored) => stored,
        Err(error) => {
            tracing::warn!(%error, "the store could not be read");
            return Err(Refusal::overloaded("The store does not answer").into());
        }
    };
    let last = stored.last().map_or(start.seq, |event| event.seq);
    let next = Cursor { epoch: head.epoch.clone(), seq: last };
    // Events that were added since the head was asked for are the head now.
    let head = Cursor { seq: head.seq.max(last), ..head };
    let events = stored.into_iter().map(raw).collect::<Result<_, _>>()?;
    Ok(EventList { events, next, head, recovered: true, snapshot: None })
}

fn raw(event: StoredEvent) -> Result<Box<RawValue>, Problem> {
    let text = String::from_utf8(event.text.into()).ok().and_then(|text| RawValue::from_string(text).ok());
    text.ok_or_else(|| {
        tracing::error!(seq = event.seq, "an event of the log cannot be read");
        Refusal::overloaded("The log cannot be read").into()
    })
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.split(';').next().unwrap_or_default().trim() == "text/event-stream")
}
