//! Sessions: made, listed, read, changed, ended, erased.

use std::sync::Arc;

use agent_hub_protocol::{SessionId, Timestamp, client_message::CreateSession, event::SessionUpdated};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::{
    docs::{CommonErrors, ObjectErrors},
    support::{ApiQuery, SessionPath, idempotent_id, limited, optional_id, page_size, tool_names},
    views::{CreatedSession, SessionBody, SessionSummary},
};
use crate::{
    runtime::{Principal, admission::NewSession, agent::KNOWN_TOOLS, rate::RateCategory, session::Change},
    transport::{Edge, Problem, auth::Who, json::ApiDraft},
};

/// Sessions on one page of a list.
pub(super) const USUAL_PAGE: usize = 50;
pub(super) const LARGEST_PAGE: usize = 200;

/// What a session is made with; every field may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NewSessionBody {
    /// Its id (UUID v4 or v7), so that a repeated request finds the session it made.
    #[schema(format = Uuid)]
    session_id: Option<String>,
    /// The agent that answers.
    agent: Option<String>,
    /// Tools it may call: `web_search`, `code_execution`, `file_read`. All of them otherwise.
    #[schema(value_type = Option<Vec<String>>, example = json!(["web_search", "code_execution"]))]
    tools: Option<Value>,
    /// The model.
    model: Option<String>,
    /// A name for people.
    name: Option<String>,
    /// Words to find it by.
    tags: Option<Vec<String>>,
    /// Anything to keep with it.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// What may change; what is left out stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SessionChangeBody {
    /// A name for people.
    name: Option<String>,
    /// All tags from now on.
    tags: Option<Vec<String>>,
    /// All metadata from now on.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// The model from now on.
    model: Option<String>,
}

/// A page of sessions.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionList {
    /// Newest first.
    sessions: Vec<SessionSummary>,
    /// `before` of the next page; `null` at the end.
    next: Option<String>,
}

/// Which page.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", default)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// The `next` of the page before.
    before: Option<String>,
    /// How many, 200 at most; otherwise 50.
    #[param(value_type = Option<usize>, minimum = 1, maximum = 200)]
    limit: Option<String>,
}

/// Create a session
///
/// Allocates a conversation. Repeating it with the same `sessionId` or `Idempotency-Key` answers again and makes nothing.
#[utoipa::path(
    post, path = "/api/v1/agents/sessions", tag = "Sessions", request_body = NewSessionBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Names the request, so that a repetition has no second effect")),
    responses((status = 201, description = "Session created", body = CreatedSession), CommonErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn create(State(edge): State<Arc<Edge>>, Who(who): Who, headers: HeaderMap, draft: ApiDraft<NewSessionBody>) -> Response {
    limited(&edge, RateCategory::Session, &who, created(&edge, &who, &headers, draft)).await
}

async fn created(edge: &Edge, who: &Principal, headers: &HeaderMap, draft: ApiDraft<NewSessionBody>) -> Result<Response, Problem> {
    let ApiDraft(body, mut issues) = draft;
    let chosen = issues.note(optional_id("sessionId", body.session_id));
    let derived = issues.note(idempotent_id(headers, who, "session")).map(SessionId::from_uuid);
    let asked = CreateSession {
        session_id: chosen.or(derived),
        agent: body.agent,
        tools: issues.note(tool_names(body.tools)),
        model: body.model,
        name: body.name,
        tags: body.tags,
        metadata: body.metadata,
    };
    let session = issues.finish(NewSession::check(asked, edge.hub.agents(), &KNOWN_TOOLS.map(|(name, _)| name), false))?;
    edge.hub.welcome(who).await?;
    let done = edge.hub.change(who, session.id, Change::Create(session)).await?;
    let view = edge.hub.session(who, done.session).await?;
    let place = HeaderValue::try_from(format!("/api/v1/agents/sessions/{}", done.session)).ok();
    let mut response = (StatusCode::CREATED, Json(CreatedSession::of(*view))).into_response();
    if let Some(place) = place {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// List sessions
///
/// The user's own, newest first.
#[utoipa::path(
    get, path = "/api/v1/agents/sessions", tag = "Sessions", params(ListQuery),
    responses((status = 200, description = "A page of sessions", body = SessionList), CommonErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn list(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Json<SessionList>, Problem> {
    let limit = page_size(query.limit.as_deref(), USUAL_PAGE, LARGEST_PAGE)?;
    let before = query.before.as_deref().map(page_token).transpose()?;
    let page = edge.hub.list_sessions(&who, before, limit).await?;
    let next = page.next.map(|(at, id)| format!("{}.{id}", at.as_millis()));
    Ok(Json(SessionList { sessions: page.sessions.into_iter().map(SessionSummary::of).collect(), next }))
}

/// Get a session
#[utoipa::path(
    get, path = "/api/v1/agents/sessions/{id}", tag = "Sessions", params(("id" = String, Path, format = Uuid)),
    responses((status = 200, description = "The session", body = SessionBody), CommonErrors, ObjectErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn read(State(edge): State<Arc<Edge>>, Who(who): Who, SessionPath(id): SessionPath) -> Result<Json<SessionBody>, Problem> {
    let view = edge.hub.session(&who, id).await?;
    Ok(Json(SessionBody::of(*view, &who)))
}

/// Change a session
///
/// Its name, tags, metadata or model.
#[utoipa::path(
    patch, path = "/api/v1/agents/sessions/{id}", tag = "Sessions", params(("id" = String, Path, format = Uuid)),
    request_body = SessionChangeBody,
    responses((status = 200, description = "The session", body = SessionBody), CommonErrors, ObjectErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn update(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    SessionPath(id): SessionPath,
    ApiDraft(body, issues): ApiDraft<SessionChangeBody>,
) -> Result<Json<SessionBody>, Problem> {
    let SessionChangeBody { name, tags, metadata, model } = body;
    let nothing = name.is_none() && tags.is_none() && metadata.is_none() && model.is_none();
    // The same bounds as at the beginning.
    let asked = CreateSession {
        name: name.clone(),
        tags: tags.clone(),
        metadata: metadata.clone(),
        model: model.clone(),
        ..CreateSession::default()
    };
    issues.finish(NewSession::check(asked, edge.hub.agents(), &[], false))?;
    if !nothing {
        edge.hub.change(&who, id, Change::Update(SessionUpdated { name, tags, metadata, model, client_tools: None })).await?;
    }
    let view = edge.hub.session(&who, id).await?;
    Ok(Json(SessionBody::of(*view, &who)))
}

/// Delete a session
///
/// Cancels its tasks, ends it and erases it.
#[utoipa::path(
    delete, path = "/api/v1/agents/sessions/{id}", tag = "Sessions", params(("id" = String, Path, format = Uuid)),
    responses((status = 204, description = "Erased"), CommonErrors, ObjectErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn delete(State(edge): State<Arc<Edge>>, Who(who): Who, SessionPath(id): SessionPath) -> Result<StatusCode, Problem> {
    edge.hub.change(&who, id, Change::Delete).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// End a session
///
/// Cancels its tasks; it takes no more, but its log stays readable.
#[utoipa::path(
    post, path = "/api/v1/agents/sessions/{id}/end", tag = "Sessions", params(("id" = String, Path, format = Uuid)),
    responses((status = 200, description = "The session", body = SessionBody), CommonErrors, ObjectErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn end(State(edge): State<Arc<Edge>>, Who(who): Who, SessionPath(id): SessionPath) -> Result<Json<SessionBody>, Problem> {
    edge.hub.change(&who, id, Change::End("ended")).await?;
    let view = edge.hub.session(&who, id).await?;
    Ok(Json(SessionBody::of(*view, &who)))
}

/// `<milliseconds>.<id>` of the last session seen.
///
/// # Errors
/// 400 for anything else.
pub(super) fn page_token(text: &str) -> Result<(Timestamp, SessionId), Problem> {
    let read = || {
        let (millis, id) = text.split_once('.')?;
        Some((Timestamp::from_millis(millis.parse().ok()?), id.parse().ok()?))
    };
    read().ok_or_else(|| Problem::invalid("before", "before must be the next of another page"))
}
