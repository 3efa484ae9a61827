//! What operators may do with everybody's sessions and tasks: with a token of scope `admin`, and in the log it says so.

use std::{collections::BTreeMap, sync::Arc};

use agent_hub_protocol::{SessionId, TaskId};
use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    docs::{BusyErrors, CommonErrors, ObjectErrors},
    sessions::{LARGEST_PAGE, USUAL_PAGE, page_token},
    support::{ApiQuery, SessionPath, TaskPath, page_size},
    tasks::ReasonBody,
    views::{SessionBody, SessionSummary, TaskBody},
};
use crate::{
    runtime::{Principal, admission::check_reason, session::Change},
    transport::{Edge, Problem, auth::Who, json::ApiJson},
};

/// A page of everybody's sessions.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AllSessions {
    /// Newest first.
    sessions: Vec<OwnedSession>,
    /// `before` of the next page; `null` at the end.
    next: Option<String>,
}

/// A session, and whose it is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OwnedSession {
    /// Whose.
    user: String,
    #[serde(flatten)]
    session: SessionSummary,
}

/// Which sessions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", default)]
#[into_params(parameter_in = Query)]
pub(super) struct AllSessionsQuery {
    /// Of this user only.
    user: Option<String>,
    /// The `next` of the page before.
    before: Option<String>,
    /// How many, 200 at most; otherwise 50.
    #[param(value_type = Option<usize>, minimum = 1, maximum = 200)]
    limit: Option<String>,
}

/// What goes on in this process.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Overview {
    /// The hub's version.
    version: &'static str,
    /// Where logs live: `memory`, `file`, `sqlite`.
    store: &'static str,
    /// Sessions in memory.
    active_sessions: usize,
    /// Tasks at work.
    running_tasks: usize,
    /// Tasks that wait for their turn.
    queued_tasks: usize,
    /// Vendors of models by name: whether they are asked, or left alone for a moment because they kept failing.
    models: BTreeMap<String, bool>,
    /// Whether it is about to stop.
    draining: bool,
}

/// List everybody's sessions
#[utoipa::path(
    get, path = "/admin/sessions", tag = "Administration", params(AllSessionsQuery),
    responses((status = 200, description = "Sessions", body = AllSessions), CommonErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn sessions(
    State(edge): State<Arc<Edge>>,
    _: Who,
    ApiQuery(query): ApiQuery<AllSessionsQuery>,
) -> Result<Json<AllSessions>, Problem> {
    let limit = page_size(query.limit.as_deref(), USUAL_PAGE, LARGEST_PAGE)?;
    let before = query.before.as_deref().map(page_token).transpose()?;
    let page = edge.hub.list_all_sessions(query.user, before, limit).await?;
    let owned = |record: crate::store::SessionRecord| OwnedSession { user: record.owner.clone(), session: SessionSummary::of(record) };
    let next = page.next.map(|(at, id)| format!("{}.{id}", at.as_millis()));
    Ok(Json(AllSessions { sessions: page.sessions.into_iter().map(owned).collect(), next }))
}

/// End somebody's session
#[utoipa::path(
    post, path = "/admin/sessions/{id}/end", tag = "Administration", params(("id" = String, Path, format = Uuid)),
    responses((status = 200, description = "The session", body = SessionBody), CommonErrors, ObjectErrors, BusyErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn end(State(edge): State<Arc<Edge>>, Who(who): Who, SessionPath(id): SessionPath) -> Result<Json<SessionBody>, Problem> {
    let owner = owner(&edge, &who, id).await?;
    edge.hub.change(&owner, id, Change::End("ended")).await?;
    let view = edge.hub.session(&owner, id).await?;
    Ok(Json(SessionBody::of(*view, &owner)))
}

/// Erase somebody's session
#[utoipa::path(
    delete, path = "/admin/sessions/{id}", tag = "Administration", params(("id" = String, Path, format = Uuid)),
    responses((status = 204, description = "It is gone"), CommonErrors, ObjectErrors, BusyErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn erase(State(edge): State<Arc<Edge>>, Who(who): Who, SessionPath(id): SessionPath) -> Result<StatusCode, Problem> {
    let owner = owner(&edge, &who, id).await?;
    edge.hub.change(&owner, id, Change::Delete).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Read somebody's task
#[utoipa::path(
    get, path = "/admin/tasks/{taskId}", tag = "Administration", params(("taskId" = String, Path, format = Uuid)),
    responses((status = 200, description = "The task", body = TaskBody), CommonErrors, ObjectErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn task(State(edge): State<Arc<Edge>>, Who(who): Who, TaskPath(task): TaskPath) -> Result<Json<TaskBody>, Problem> {
    let (_, owner) = owner_of_task(&edge, &who, task).await?;
    Ok(Json(TaskBody::of(*edge.hub.task(&owner, task).await?)))
}

/// Cancel somebody's task
#[utoipa::path(
    post, path = "/admin/tasks/{taskId}/cancel", tag = "Administration", request_body = ReasonBody,
    params(("taskId" = String, Path, format = Uuid)),
    responses((status = 202, description = "It is being stopped", body = TaskBody), CommonErrors, ObjectErrors, BusyErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn cancel(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    TaskPath(task): TaskPath,
    ApiJson(body): ApiJson<ReasonBody>,
) -> Result<(StatusCode, Json<TaskBody>), Problem> {
    let reason = check_reason(body.reason)?;
    let (session, owner) = owner_of_task(&edge, &who, task).await?;
    edge.hub.change(&owner, session, Change::Cancel { task, reason }).await?;
    Ok((StatusCode::ACCEPTED, Json(TaskBody::of(*edge.hub.task(&owner, task).await?))))
}

/// Say what goes on
#[utoipa::path(
    get, path = "/admin/overview", tag = "Administration",
    responses((status = 200, description = "Of this process", body = Overview), CommonErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn overview(State(edge): State<Arc<Edge>>, _: Who) -> Json<Overview> {
    let hub = &edge.hub;
    Json(Overview {
        version: env!("CARGO_PKG_VERSION"),
        store: hub.store().kind(),
        active_sessions: hub.active_sessions(),
        running_tasks: hub.running_tasks(),
        queued_tasks: hub.queued_tasks(),
        models: hub.agents().iter().map(|agent| (agent.provider.name().to_owned(), agent.provider.available())).collect(),
        draining: edge.stop.is_cancelled() || hub.is_stopping(),
    })
}

/// Drain the hub
///
/// As SIGTERM does: sockets are told to come back, tasks that are about to end may, then the process ends. What is not done is gone on with
/// after the next start.
#[utoipa::path(
    post, path = "/admin/drain", tag = "Administration",
    responses((status = 202, description = "It drains"), CommonErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn drain(State(edge): State<Arc<Edge>>, Who(who): Who) -> StatusCode {
    tracing::info!(by = who.user(), "draining, as asked for");
    edge.stop.cancel();
    StatusCode::ACCEPTED
}

/// The owner of a session, with `who` acting for them.
async fn owner(edge: &Edge, who: &Principal, session: SessionId) -> Result<Principal, Problem> {
    Ok(who.acting_for(edge.hub.owner_of(session).await?))
}

async fn owner_of_task(edge: &Edge, who: &Principal, task: TaskId) -> Result<(SessionId, Principal), Problem> {
    let session = edge.hub.session_of_anybody(task).await?;
    Ok((session, owner(edge, who, session).await?))
}
