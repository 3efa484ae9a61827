//! Tasks: submitted, polled, streamed, cancelled.

use std::{sync::Arc, time::Duration};

use agent_hub_protocol::{
    SessionId, TaskId,
    client_message::{OnBusy, SubmitTask},
    snapshot::TaskStatus,
};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::{
    docs::{BusyErrors, CommonErrors, ObjectErrors},
    support::{ApiQuery, SessionPath, TaskPath, idempotent_id, limited, optional_id, text, tool_names},
    views::TaskBody,
    wait,
};
use crate::{
    runtime::{
        Principal, Refusal,
        admission::{NewTask, check_reason},
        rate::RateCategory,
        replay::Repetition,
        session::Change,
    },
    transport::{
        Edge, Problem,
        auth::Who,
        client_address::ClientAddress,
        json::{ApiDraft, ApiJson},
        sse::{self, Listener},
    },
};

/// The longest a poll may be kept waiting.
const LONGEST_WAIT: u64 = 60;

/// What is asked of an agent.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NewTaskBody {
    /// What the agent is asked, 1 to 10,000 characters.
    #[schema(value_type = String, max_length = 10000, min_length = 1, required = true)]
    prompt: Option<Value>,
    /// Its id (UUID v4 or v7), so that a repeated request has no second effect.
    #[schema(format = Uuid)]
    task_id: Option<String>,
    /// Tools for this task instead of the session's.
    #[schema(value_type = Option<Vec<String>>)]
    tools: Option<Value>,
    /// What to do while another task is unfinished: `queue`, `reject`, `interrupt`, `rollback` or `steer`.
    #[schema(value_type = Option<String>, example = "queue")]
    on_busy: Option<OnBusy>,
    /// Options of the model call: `temperature`, `maxOutputTokens`, `model` …
    #[schema(value_type = Option<Object>)]
    options: Option<Map<String, Value>>,
    /// Its deadline in milliseconds of running time; 5 minutes otherwise.
    timeout_ms: Option<u64>,
    /// Put before the prompt as a message of its own; bounded by the body's size only.
    context: Option<String>,
    /// A workflow to execute instead of a prompt.
    workflow: Option<String>,
    /// The workflow's input.
    #[schema(value_type = Option<Object>)]
    input: Option<Value>,
}

/// A task that was accepted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AcceptedTask {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    task_id: TaskId,
    /// `queued`; of a repeated request, what has become of the task since.
    #[schema(value_type = String, example = "queued")]
    status: TaskStatus,
    /// Where to ask for its state.
    poll_url: String,
    /// Where to read what it says.
    stream_url: String,
    /// Its session.
    #[schema(value_type = String, format = Uuid)]
    session_id: SessionId,
    /// Where the prompt steers the task instead of being one: the `steerId` its receipts carry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid)]
    steer_id: Option<TaskId>,
}

/// Why a task is cancelled or suspended.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct ReasonBody {
    /// Kept in the log.
    pub(super) reason: Option<String>,
}

/// Where an execution is repeated from.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ReplayBody {
    /// The step to begin at.
    #[schema(value_type = String, required = true)]
    step_id: Option<String>,
    /// What that step is given instead of what it was given then.
    #[schema(value_type = Option<Value>)]
    input: Option<Value>,
    /// The new execution's id (UUID v4 or v7), so that a repeated request has no second effect.
    #[schema(format = Uuid)]
    task_id: Option<String>,
}

/// How long to wait.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct WaitQuery {
    /// Seconds to wait for a change of the task, 60 at most. Unfinished tasks only.
    #[param(value_type = Option<u64>, minimum = 0, maximum = 60)]
    wait: Option<String>,
}

/// Where a stream begins.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", default)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamQuery {
    /// The last `id:` that was read, where the header `Last-Event-ID` cannot be sent.
    pub(super) last_event_id: Option<String>,
}

/// Submit a task
///
/// Answers as soon as the task is queued; poll or stream for the rest.
#[utoipa::path(
    post, path = "/api/v1/agents/sessions/{id}/tasks", tag = "Tasks", request_body = NewTaskBody,
    params(
        ("id" = String, Path, format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "Names the request, so that a repetition has no second effect; without effect where the body has a `taskId`, which does the same"),
    ),
    responses(
        (status = 202, description = "Task accepted for processing", body = AcceptedTask), CommonErrors, ObjectErrors, BusyErrors
    ),
    security(("bearerAuth" = []))
)]
pub(super) async fn submit(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    SessionPath(session): SessionPath,
    headers: HeaderMap,
    draft: ApiDraft<NewTaskBody>,
) -> Response {
    limited(&edge, RateCategory::Task, &who, submitted(&edge, &who, session, &headers, draft)).await
}

async fn submitted(
    edge: &Edge,
    who: &Principal,
    session: SessionId,
    headers: &HeaderMap,
    draft: ApiDraft<NewTaskBody>,
) -> Result<(StatusCode, Json<AcceptedTask>), Problem> {
    let ApiDraft(body, mut issues) = draft;
    let chosen = issues.note(optional_id("taskId", body.task_id));
    let derived = issues.note(idempotent_id(headers, who, "task")).map(TaskId::from_uuid);
    let asked = SubmitTask {
        session_id: Some(session),
        prompt: text(body.prompt),
        task_id: chosen.or(derived),
        on_busy: body.on_busy,
        options: body.options,
        timeout_ms: body.timeout_ms,
        context: body.context,
        tools: issues.note(tool_names(body.tools)),
        workflow: body.workflow,
        input: body.input,
    };
    let task = issues.finish(NewTask::check(asked, edge.hub.settings(), edge.hub.workflows()))?;
    accept(edge, who, session, task).await
}

/// Queues a task, and says where to ask about it.
async fn accept(edge: &Edge, who: &Principal, session: SessionId, task: NewTask) -> Result<(StatusCode, Json<AcceptedTask>), Problem> {
    let own_id = task.id;
    edge.hub.welcome(who).await?;
    let done = edge.hub.change(who, session, Change::Submit(task)).await?;
    let task_id = done.task.unwrap_or(own_id);
    // A new task is queued, whatever it has become by now; of one that was there before, say what it is.
    let known_before = done.repeated || task_id != own_id;
    let status = if known_before { edge.hub.task(who, task_id).await?.info.status } else { TaskStatus::Queued };
    let poll_url = format!("/api/v1/agents/tasks/{task_id}");
    let stream_url = format!("{poll_url}/stream");
    let steer_id = (task_id != own_id).then_some(own_id);
    let body = AcceptedTask { task_id, status, poll_url, stream_url, session_id: done.session, steer_id };
    Ok((StatusCode::ACCEPTED, Json(body)))
}

/// Repeat an execution of a workflow from a step on
///
/// Makes a new execution in the same session. It takes over what the steps before came to.
#[utoipa::path(
    post, path = "/api/v1/agents/tasks/{taskId}/replay", tag = "Tasks", request_body = ReplayBody,
    params(
        ("taskId" = String, Path, format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "Names the request, so that a repetition has no second effect"),
    ),
    responses((status = 202, description = "The new execution", body = AcceptedTask), CommonErrors, ObjectErrors, BusyErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn replay(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    TaskPath(task): TaskPath,
    headers: HeaderMap,
    draft: ApiDraft<ReplayBody>,
) -> Response {
    limited(&edge, RateCategory::Task, &who, replayed(&edge, &who, task, &headers, draft)).await
}

async fn replayed(
    edge: &Edge,
    who: &Principal,
    task: TaskId,
    headers: &HeaderMap,
    draft: ApiDraft<ReplayBody>,
) -> Result<(StatusCode, Json<AcceptedTask>), Problem> {
    let ApiDraft(body, mut issues) = draft;
    let chosen: Option<TaskId> = issues.note(optional_id("taskId", body.task_id));
    let derived = issues.note(idempotent_id(headers, who, "task")).map(TaskId::from_uuid);
    if body.step_id.is_none() {
        issues.add(Refusal::invalid("stepId", "stepId is required"));
    }
    issues.finish(Ok(()))?;
    let Repetition { session, queued, execution } =
        Repetition::of(&edge.hub, who, task, &body.step_id.unwrap_or_default(), body.input).await?;
    let asked = SubmitTask {
        task_id: chosen.or(derived),
        options: queued.options,
        workflow: queued.workflow,
        input: queued.input,
        ..SubmitTask::default()
    };
    let new = NewTask::check(asked, edge.hub.settings(), edge.hub.workflows())?;
    // The deadline that was taken then is taken again.
    let timeout = Some(Duration::from_millis(queued.timeout_ms));
    accept(edge, who, session, NewTask { execution: Some(execution), timeout, ..new }).await
}

/// Get a task's status and result
///
/// `?wait=` keeps the answer back until something about the task changes.
#[utoipa::path(
    get, path = "/api/v1/agents/tasks/{taskId}", tag = "Tasks", params(("taskId" = String, Path, format = Uuid), WaitQuery),
    responses((status = 200, description = "Task status", body = TaskBody), CommonErrors, ObjectErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn read(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    TaskPath(task): TaskPath,
    ApiQuery(query): ApiQuery<WaitQuery>,
) -> Response {
    limited(&edge, RateCategory::Poll, &who, polled(&edge, &who, task, query)).await
}

async fn polled(edge: &Arc<Edge>, who: &Principal, task: TaskId, query: WaitQuery) -> Result<Json<TaskBody>, Problem> {
    let seconds = match query.wait.as_deref().map(str::parse::<u64>) {
        None => 0,
        Some(Ok(seconds)) if seconds <= LONGEST_WAIT => seconds,
        Some(_) => return Err(Problem::invalid("wait", format!("wait must be a whole number from 0 to {LONGEST_WAIT}"))),
    };
    let mut view = edge.hub.task(who, task).await?;
    if seconds > 0 && !view.info.status.is_terminal() {
        wait::for_change(edge, who, &view, Duration::from_secs(seconds)).await?;
        view = edge.hub.task(who, task).await?;
    }
    Ok(Json(TaskBody::of(*view)))
}

/// Stream a task's output
///
/// Server-Sent Events: `status`, `step`, `token`, then `result` and `done`, or `error`. `reset` means that the text so far is void.
/// Each `id:` can be given back as `Last-Event-ID` to go on behind it; 204 when there is nothing behind it.
#[utoipa::path(
    get, path = "/api/v1/agents/tasks/{taskId}/stream", tag = "Tasks",
    params(
        ("taskId" = String, Path, format = Uuid), StreamQuery,
        ("token" = Option<String>, Query, description = "A token, where the header Authorization cannot be sent"),
        ("Last-Event-ID" = Option<String>, Header, description = "The last id that was read"),
    ),
    responses(
        (status = 200, description = "SSE stream of task events", content_type = "text/event-stream", body = String),
        (status = 204, description = "The last event was read before"), CommonErrors, ObjectErrors
    ),
    security(("bearerAuth" = []))
)]
pub(super) async fn stream(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    from: ClientAddress,
    TaskPath(task): TaskPath,
    ApiQuery(query): ApiQuery<StreamQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let view = edge.hub.task(&who, task).await?;
    let last_event_id = sse::last_event_id(&headers, query.last_event_id);
    sse::task(Listener { edge: &edge, who: &who, from, last_event_id }, *view).await
}

/// Cancel a task
///
/// When this is answered it can only end as cancelled; it has ended when its status says so.
#[utoipa::path(
    post, path = "/api/v1/agents/tasks/{taskId}/cancel", tag = "Tasks", params(("taskId" = String, Path, format = Uuid)),
    request_body = ReasonBody,
    responses((status = 202, description = "It will end as cancelled", body = TaskBody), CommonErrors, ObjectErrors, BusyErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn cancel(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    TaskPath(task): TaskPath,
    ApiJson(body): ApiJson<ReasonBody>,
) -> Result<(StatusCode, Json<TaskBody>), Problem> {
    let reason = check_reason(body.reason)?;
    change(&edge, &who, task, Change::Cancel { task, reason }).await
}

/// Cancel a task
///
/// The same as `POST …/cancel`, without a reason.
#[utoipa::path(
    delete, path = "/api/v1/agents/tasks/{taskId}", tag = "Tasks", params(("taskId" = String, Path, format = Uuid)),
    responses((status = 202, description = "It will end as cancelled", body = TaskBody), CommonErrors, ObjectErrors, BusyErrors),
    security(("bearerAuth" = []))
)]
pub(super) async fn delete(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    TaskPath(task): TaskPath,
) -> Result<(StatusCode, Json<TaskBody>), Problem> {
    change(&edge, &who, task, Change::Cancel { task, reason: None }).await
}

/// Changes a task, and shows it.
pub(super) async fn change(edge: &Edge, who: &Principal, task: TaskId, change: Change) -> Result<(StatusCode, Json<TaskBody>), Problem> {
    let session = edge.hub.session_of(who, task).await?;
    edge.hub.change(who, session, change).await?;
    let view = edge.hub.task(who, task).await?;
    Ok((StatusCode::ACCEPTED, Json(TaskBody::of(*view))))
}
