//! Agents behind a job API: a task is accepted at once and asked about later, or watched step by step.

use std::sync::Arc;

use agent_hub_protocol::{
    Epoch, ErrorCode, Event, EventBody, SessionId, TaskId, Timestamp,
    snapshot::{TaskInfo, TaskStatus},
};
use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::run::{self, CancelOnDrop, Prompt, Run, block, decoded, id_of, problem};
use crate::{
    api::{
        Surface,
        support::{idempotency_key, limited},
        views,
    },
    runtime::{Principal, Refusal, admission::derived_uuid, log::LogEvent, rate::RateCategory, session::Change},
    transport::{
        Edge, Problem,
        auth::{Access, AccessTable, Who},
        client_address::ClientAddress,
        json::ApiDraft,
        sse::{self, Frames, Listener},
    },
};

const DIALECT: &str = "jobs";
/// A key may be as long as the header's.
const MAX_KEY: usize = 255;

/// What is to be done.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct JobBody {
    /// What the agent is asked. `task`, `input` and `message` mean the same.
    #[schema(required = true)]
    #[serde(alias = "task", alias = "input", alias = "message")]
    prompt: Option<String>,
    /// Names the request: the same key with the same content is the same job, for as long as its session is kept. A UUID is the job's own id.
    idempotency_key: Option<String>,
    /// Which agent; the usual one otherwise.
    agent: Option<String>,
    /// A session to do it in, which must be there; one of its own otherwise.
    #[schema(value_type = Option<String>, format = Uuid)]
    session_id: Option<String>,
    /// What is known of the user, for the agent's instructions.
    #[schema(value_type = Option<Object>)]
    user_context: Option<Map<String, Value>>,
    /// Options of the model call.
    #[schema(value_type = Option<Object>)]
    options: Option<Map<String, Value>>,
    /// The deadline in milliseconds of running time.
    timeout_ms: Option<u64>,
    /// Where the end of the job is told. Not there yet: refused.
    callback_url: Option<String>,
    /// Of a stream: also the answer's tokens, as steps of type `token`.
    tokens: bool,
    /// Of a stream: stop the job when the client hangs up. Otherwise it goes on.
    cancel_on_disconnect: bool,
}

/// A job that was accepted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AcceptedJob {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    job_id: TaskId,
    /// `pending`, or `already_accepted`.
    status: &'static str,
    /// Where to ask about it.
    poll_url: String,
    /// Its session, where the hub's own API finds it.
    #[schema(value_type = String, format = Uuid)]
    session_id: SessionId,
}

/// A job as it stands.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Job {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    job_id: TaskId,
    /// `pending`, `running`, `suspended`, `completed`, `failed`, `cancelled` or `timeout`.
    status: &'static str,
    /// What came of it, once it is completed.
    #[schema(value_type = Value)]
    result: Option<Value>,
    /// Why nothing did.
    error: Option<String>,
    /// A code for that.
    error_code: Option<String>,
    /// Seconds to wait before asking again; 0 when it has ended.
    retry_after: u64,
    /// Its session.
    #[schema(value_type = String, format = Uuid)]
    session_id: SessionId,
    /// Everything else the hub knows of it.
    #[schema(value_type = Object)]
    task: TaskInfo,
}

/// The routes.
pub(super) fn surface(edge: &Arc<Edge>) -> Surface {
    let (router, document) = OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(read))
        .routes(routes!(cancel))
        .routes(routes!(stream))
        .with_state(Arc::clone(edge))
        .split_for_parts();
    let access = document.paths.paths.keys().cloned().fold(AccessTable::default(), |table, path| table.with(path, Access::Adapter));
    Surface { router, access, document }
}

/// Accept a job
///
/// The answer comes at once; `poll_url` tells what became of it.
#[utoipa::path(
    post, path = "/agent/tasks", tag = "Jobs", request_body = JobBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "As `idempotency_key`, for clients that say it so")),
    responses(
        (status = 202, description = "Accepted, now or before", body = AcceptedJob), (status = 400, description = "Something is missing or wrong"),
        (status = 404, description = "There is no such session"), (status = 409, description = "The key was used for something else"),
        (status = 413, description = "Too large"), (status = 415, description = "No JSON"), (status = 429, description = "Too many"),
        (status = 503, description = "Too busy")
    ),
    security((), ("bearerAuth" = []))
)]
pub(super) async fn create(State(edge): State<Arc<Edge>>, Who(who): Who, headers: HeaderMap, draft: ApiDraft<JobBody>) -> Response {
    let work = async {
        let asked = Asked::read(&who, &headers, draft).map_err(problem)?;
        let Run { session, task, repeated, .. } = asked.begin(&edge, &who).await?;
        let status = if repeated { "already_accepted" } else { "pending" };
        Ok((
            StatusCode::ACCEPTED,
            Json(AcceptedJob { job_id: task, status, poll_url: format!("/agent/tasks/{task}"), session_id: session }),
        ))
    };
    limited(&edge, RateCategory::Task, &who, work).await
}

/// Ask about a job
#[utoipa::path(
    get, path = "/agent/tasks/{id}", tag = "Jobs", params(("id" = String, Path, format = Uuid)),
    responses(
        (status = 200, description = "The job", body = Job), (status = 404, description = "There is no such job"), (status = 429, description = "Too often")
    ),
    security((), ("bearerAuth" = []))
)]
pub(super) async fn read(State(edge): State<Arc<Edge>>, Who(who): Who, Path(id): Path<String>) -> Response {
    let work = async {
        let view = edge.hub.task(&who, job(&id)?).await.map_err(problem)?;
        let error = view.info.error.as_ref();
        let age = Timestamp::now().since(view.info.created_at);
        Ok(Json(Job {
            job_id: view.info.task_id,
            status: status_of(view.info.status),
            result: view.info.result.clone(),
            error: error.map(|error| error.message.clone()),
            error_code: error.map(|error| error.code.as_str().to_owned()),
            retry_after: if view.info.status.is_terminal() { 0 } else { views::retry_after(age.as_millis()) },
            session_id: view.session,
            task: view.info,
        }))
    };
    limited(&edge, RateCategory::Poll, &who, work).await
}

/// Cancel a job
#[utoipa::path(
    post, path = "/agent/tasks/{id}/cancel", tag = "Jobs", params(("id" = String, Path, format = Uuid)),
    responses(
        (status = 202, description = "It is being stopped"), (status = 404, description = "There is no such job"),
        (status = 409, description = "It has ended"), (status = 503, description = "Too busy")
    ),
    security((), ("bearerAuth" = []))
)]
pub(super) async fn cancel(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let task = job(&id)?;
    let session = edge.hub.session_of(&who, task).await.map_err(problem)?;
    edge.hub.change(&who, session, Change::Cancel { task, reason: None }).await.map_err(problem)?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "job_id": task, "status": "cancelling" }))))
}

/// Watch a job
///
/// Server-Sent Events, each `data: {"type": …, "content": …}`: `thought`, `action`, `result` (of a call, and with `final` the answer), `error`;
/// the last one is `{"type": "done"}`.
#[utoipa::path(
    post, path = "/agent/stream", tag = "Jobs", request_body = JobBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "As `idempotency_key`, for clients that say it so")),
    responses(
        (status = 200, description = "The steps as they are made", content_type = "text/event-stream", body = String),
        (status = 400, description = "Something is missing or wrong"), (status = 404, description = "There is no such session"),
        (status = 409, description = "The key was used for something else"), (status = 413, description = "Too large"),
        (status = 415, description = "No JSON"), (status = 429, description = "Too many"), (status = 503, description = "Too busy")
    ),
    security((), ("bearerAuth" = []))
)]
pub(super) async fn stream(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    from: ClientAddress,
    headers: HeaderMap,
    draft: ApiDraft<JobBody>,
) -> Response {
    let work = async {
        let asked = Asked::read(&who, &headers, draft).map_err(problem)?;
        let (tokens, stops) = (asked.tokens, asked.cancel_on_disconnect);
        let run = asked.begin(&edge, &who).await?;
        let guard = CancelOnDrop::unless(!stops, &edge.hub, &who, &run);
        let frames = Steps { task: run.task, tokens, thinking: String::new(), said: String::new(), guard };
        let listener = Listener { edge: &edge, who: &who, from, last_event_id: None };
        sse::adapted(listener, run.reader, frames).await
    };
    limited(&edge, RateCategory::Task, &who, work).await
}

/// A request, read.
struct Asked {
    prompt: Prompt,
    /// One that is there already.
    session: Option<SessionId>,
    tokens: bool,
    cancel_on_disconnect: bool,
}

impl Asked {
    fn read(who: &Principal, headers: &HeaderMap, ApiDraft(body, mut issues): ApiDraft<JobBody>) -> Result<Self, Refusal> {
        let of_header = issues.note(idempotency_key(headers));
        let key = issues.note(check_key(body.idempotency_key)).or(of_header);
        let session = issues.note(given_session(body.session_id));
        // A UUID names the job itself, as it does on a socket; another key stands for one.
        let named = key.as_ref().map(|key| key.parse().unwrap_or_else(|_| TaskId::from_uuid(derived_uuid(who.user(), "task", key))));
        let task = named.unwrap_or_else(TaskId::random);
        let own = SessionId::from_uuid(id_of(who.user(), DIALECT, "session", &[&task.to_string()]));
        let mut options = body.options.unwrap_or_default();
        if let Some(context) = body.user_context {
            options.insert("userContext".to_owned(), Value::Object(context));
        }
        let prompt = Prompt {
            dialect: DIALECT,
            session: session.unwrap_or(own),
            agent: body.agent,
            task,
            task_chosen: named.is_some(),
            prompt: body.prompt.unwrap_or_default(),
            options,
            timeout_ms: body.timeout_ms,
            metadata: Map::new(),
        };
        if body.callback_url.is_some() {
            issues.add(Refusal::new(ErrorCode::NotSupported, "callback_url: this hub sends no webhooks"));
        }
        issues.finish(Ok(Self { prompt, session, tokens: body.tokens, cancel_on_disconnect: body.cancel_on_disconnect }))
    }

    async fn begin(self, edge: &Arc<Edge>, who: &Principal) -> Result<Run, Problem> {
        let (session, task) = self.prompt.check(edge).map_err(problem)?;
        match self.session {
            Some(there) => run::submit(edge, who, there, task).await,
            None => run::start(edge, who, session, task).await,
        }
    }
}

/// The steps of a job.
struct Steps {
    task: TaskId,
    tokens: bool,
    /// Thought, and not shown yet.
    thinking: String,
    /// Said, and not known yet to be the answer.
    said: String,
    guard: CancelOnDrop,
}

impl Steps {
    fn say(&self, kind: &str, content: &str, more: Value, out: &mut Vec<u8>) {
        let mut step = json!({ "type": kind, "content": content, "job_id": self.task });
        if let (Value::Object(step), Value::Object(more)) = (&mut step, more) {
            step.extend(more);
        }
        block(out, &step);
    }

    /// What was thought and said before something is done.
    fn flush(&mut self, out: &mut Vec<u8>) {
        for text in [std::mem::take(&mut self.thinking), std::mem::take(&mut self.said)] {
            if !text.trim().is_empty() {
                self.say("thought", &text, Value::Null, out);
            }
        }
    }

    fn take(&mut self, event: &Event, out: &mut Vec<u8>) -> bool {
        if event.task_id != Some(self.task) {
            return false;
        }
        match &event.body {
            EventBody::Reasoning(reasoning) => self.thinking.push_str(&reasoning.token),
            EventBody::Token(token) if self.tokens => self.say("token", &token.token, Value::Null, out),
            EventBody::Message(message) => self.said = message.text.clone(),
            EventBody::ToolCall(call) => {
                self.flush(out);
                let content = format!("{}({})", call.tool, call.arguments);
                self.say("action", &content, json!({ "tool": call.tool, "call_id": call.call_id, "arguments": call.arguments }), out);
            }
            EventBody::ToolResult(result) => {
                let text = result.output.as_ref().map(|output| output.as_str().map_or_else(|| output.to_string(), str::to_owned));
                let content = text.or_else(|| result.error.clone()).unwrap_or_default();
                self.say("result", &content, json!({ "call_id": result.call_id, "is_error": result.error.is_some() }), out);
            }
            EventBody::InputRequested(request) => {
                self.flush(out);
                let content = request.prompt.clone().unwrap_or_default();
                self.say("input_required", &content, serde_json::to_value(request).unwrap_or_default(), out);
            }
            EventBody::TaskCompleted(done) => {
                self.said.clear();
                self.flush(out);
                let text = done.result.as_str().map_or_else(|| done.result.to_string(), str::to_owned);
                self.say("result", &text, json!({ "final": true, "result": done.result, "usage": done.usage }), out);
                return self.done("completed", out);
            }
            EventBody::TaskFailed(failed) => {
                self.flush(out);
                self.say("error", &failed.message, json!({ "code": failed.code, "retryable": failed.retryable }), out);
                return self.done("failed", out);
            }
            EventBody::TaskCancelled(cancelled) => {
                self.flush(out);
                let why = cancelled.reason.as_deref().unwrap_or("The job was cancelled");
                self.say("error", why, json!({ "code": "cancelled" }), out);
                return self.done("cancelled", out);
            }
            EventBody::TaskTimeout(timeout) => {
                self.flush(out);
                self.say("error", &sse::timeout_text(timeout.timeout_ms), json!({ "code": "timeout" }), out);
                return self.done("timeout", out);
            }
            _ => {}
        }
        false
    }

    fn done(&mut self, status: &str, out: &mut Vec<u8>) -> bool {
        self.guard.disarm();
        block(out, &json!({ "type": "done", "job_id": self.task, "status": status }));
        true
    }
}

impl Frames for Steps {
    fn write(&mut self, event: &LogEvent, _: &Epoch, out: &mut Vec<u8>) -> bool {
        decoded(event).is_some_and(|event| self.take(&event, out))
    }
}

fn job(id: &str) -> Result<TaskId, Problem> {
    id.parse().map_err(|_| Problem::new(ErrorCode::TaskNotFound, "There is no such job"))
}

fn status_of(status: TaskStatus) -> &'static str {
    if status == TaskStatus::Queued { "pending" } else { status.as_str() }
}

fn check_key(key: Option<String>) -> Result<Option<String>, Refusal> {
    let fine = key.as_ref().is_none_or(|key| (1..=MAX_KEY).contains(&key.len()) && !key.chars().any(char::is_control));
    if fine { Ok(key) } else { Err(Refusal::invalid("idempotency_key", format!("idempotency_key must be 1 to {MAX_KEY} bytes"))) }
}

fn given_session(id: Option<String>) -> Result<Option<SessionId>, Refusal> {
    id.map(|id| id.parse().map_err(|_| Refusal::invalid("session_id", "session_id must be a UUID of version 4 or 7"))).transpose()
}
