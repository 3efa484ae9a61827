//! What a person may tell a task while it is at work.

use std::sync::Arc;

use agent_hub_protocol::{
    TaskId,
    client_message::{InputOutcome, RespondInput, SteerTask, SteerWhen},
};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    docs::{BusyErrors, CommonErrors, ObjectErrors},
    support::{TaskPath, idempotent_id, limited, optional_id},
    tasks::{ReasonBody, change},
    views::TaskBody,
};
use crate::{
    runtime::{
        Principal, Refusal,
        admission::{NewSteer, check_reason, check_response},
        rate::RateCategory,
        session::Change,
    },
    transport::{
        Edge, Problem,
        auth::Who,
        json::{ApiDraft, ApiJson},
    },
};

/// A steering input.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SteerBody {
    /// What the agent is told, 1 to 10,000 characters.
    #[schema(value_type = String, max_length = 10000, min_length = 1, required = true)]
    input: Option<String>,
    /// `next_step` (before the next model call) or `now` (abort the current one).
    #[schema(value_type = Option<String>, example = "next_step")]
    when: Option<SteerWhen>,
    /// Its id (UUID v4 or v7), so that a repeated request has no second effect.
    #[schema(format = Uuid)]
    steer_id: Option<String>,
}

/// A steering input that was taken in; the log says what becomes of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AcceptedSteer {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    steer_id: TaskId,
    /// The task it is for.
    #[schema(value_type = String, format = Uuid)]
    task_id: TaskId,
    /// `accepted`
    status: &'static str,
}

/// The answer to a request for input.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RespondBody {
    /// Which request of the task.
    #[schema(value_type = String, required = true)]
    request_id: Option<String>,
    /// `accept` or `reject`.
    #[schema(value_type = String, example = "accept", required = true)]
    outcome: Option<InputOutcome>,
    /// The data asked for; checked against the request's schema.
    payload: Option<Value>,
    /// For an approval: the arguments to call the tool with instead.
    edited_arguments: Option<Value>,
}

/// Data for a task that goes on.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ResumeBody {
    /// What the step that waits is given.
    data: Option<Value>,
    /// Of an execution of a workflow: the step that waits for the data, or one to do again.
    step_id: Option<String>,
}

/// Steer a task
///
/// Tells a running task something without ending it.
#[utoipa::path(
    post, path = "/api/v1/agents/tasks/{taskId}/steer", tag = "Tasks", request_body = SteerBody,
    params(
        ("taskId" = String, Path, format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "Names the request, so that a repetition has no second effect"),
    ),
    responses((status = 202, description = "Taken in", body = AcceptedSteer), CommonErrors, ObjectErrors, BusyErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn steer(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    TaskPath(task): TaskPath,
    headers: HeaderMap,
    draft: ApiDraft<SteerBody>,
) -> Response {
    limited(&edge, RateCategory::Task, &who, steered(&edge, &who, task, &headers, draft)).await
}

async fn steered(
    edge: &Edge,
    who: &Principal,
    task: TaskId,
    headers: &HeaderMap,
    draft: ApiDraft<SteerBody>,
) -> Result<(StatusCode, Json<AcceptedSteer>), Problem> {
    let ApiDraft(body, mut issues) = draft;
    let chosen = issues.note(optional_id("steerId", body.steer_id));
    let derived = issues.note(idempotent_id(headers, who, "steer")).map(TaskId::from_uuid);
    let asked =
        SteerTask { session_id: None, task_id: task, input: body.input.unwrap_or_default(), when: body.when, steer_id: chosen.or(derived) };
    let steer = issues.finish(NewSteer::check(&asked, edge.hub.settings()))?;
    let steer_id = steer.id;
    edge.hub.welcome(who).await?;
    let session = edge.hub.session_of(who, task).await?;
    edge.hub.change(who, session, Change::Steer(steer)).await?;
    Ok((StatusCode::ACCEPTED, Json(AcceptedSteer { steer_id, task_id: task, status: "accepted" })))
}

/// Answer a task's request for input
///
/// The first valid answer wins; later ones are refused with `already_resolved`.
#[utoipa::path(
    post, path = "/api/v1/agents/tasks/{taskId}/respond", tag = "Tasks", request_body = RespondBody,
    params(("taskId" = String, Path, format = Uuid)),
    responses((status = 202, description = "The task goes on", body = TaskBody), CommonErrors, ObjectErrors, BusyErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn respond(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    TaskPath(task): TaskPath,
    ApiDraft(body, mut issues): ApiDraft<RespondBody>,
) -> Result<(StatusCode, Json<TaskBody>), Problem> {
    if body.outcome.is_none() {
        issues.add(Refusal::invalid("outcome", "outcome must be accept or reject"));
    }
    let answer = RespondInput {
        session_id: None,
        task_id: task,
        request_id: body.request_id.unwrap_or_default(),
        // One that is missing is refused below.
        outcome: body.outcome.unwrap_or(InputOutcome::Reject),
        payload: body.payload,
        edited_arguments: body.edited_arguments,
    };
    issues.finish(check_response(&answer))?;
    change(&edge, &who, task, Change::Respond(answer)).await
}

/// Suspend a task
///
/// It stops at once, gives its slots back and keeps its place.
#[utoipa::path(
    post, path = "/api/v1/agents/tasks/{taskId}/suspend", tag = "Tasks", request_body = ReasonBody,
    params(("taskId" = String, Path, format = Uuid)),
    responses((status = 202, description = "The task", body = TaskBody), CommonErrors, ObjectErrors, BusyErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn suspend(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    TaskPath(task): TaskPath,
    ApiJson(body): ApiJson<ReasonBody>,
) -> Result<(StatusCode, Json<TaskBody>), Problem> {
    let reason = check_reason(body.reason)?;
    change(&edge, &who, task, Change::Suspend { task, reason }).await
}

/// Resume a suspended task
#[utoipa::path(
    post, path = "/api/v1/agents/tasks/{taskId}/resume", tag = "Tasks", request_body = ResumeBody,
    params(("taskId" = String, Path, format = Uuid)),
    responses((status = 202, description = "The task", body = TaskBody), CommonErrors, ObjectErrors, BusyErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn resume(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    TaskPath(task): TaskPath,
    ApiJson(body): ApiJson<ResumeBody>,
) -> Result<(StatusCode, Json<TaskBody>), Problem> {
    change(&edge, &who, task, Change::Resume { task, data: body.data, step: body.step_id }).await
}
