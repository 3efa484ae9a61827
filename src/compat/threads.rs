//! Agents behind threads, as servers around LangGraph offer them: a thread is a session, and every message to it a task.

use std::{collections::BTreeMap, sync::Arc};

use agent_hub_protocol::{Epoch, ErrorCode, Event, EventBody, SessionId, TaskId, event::Role, snapshot::MessageInfo};
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

use super::run::{self, Prompt, Run, block, decoded, id_of, problem};
use crate::{
    api::{
        Surface,
        support::{idempotency_key, limited},
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

const DIALECT: &str = "threads";
/// The thread of a message that names none.
const USUAL_THREAD: &str = "default_user";
/// Names of threads, in bytes.
const MAX_THREAD: usize = 255;
/// Messages of a history at most: the newest.
const HISTORY: usize = 200;

/// A message to a thread.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct ChatRequest {
    /// What the agent is told, 1 to 10,000 characters.
    #[schema(required = true)]
    message: Option<String>,
    /// Which thread; it is there once something is said to it. `default_user` otherwise.
    thread_id: Option<String>,
    /// What is known of the user, for the agent's instructions.
    #[schema(value_type = Option<Object>)]
    user_context: Option<Map<String, Value>>,
    /// Which agent answers in this thread; the usual one otherwise.
    agent: Option<String>,
    /// Options of the model call.
    #[schema(value_type = Option<Object>)]
    options: Option<Map<String, Value>>,
}

/// A message that was taken in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AcceptedMessage {
    /// `accepted`
    status: &'static str,
    /// In which thread.
    thread_id: String,
    /// The task it became.
    #[schema(value_type = String, format = Uuid)]
    task_id: TaskId,
    /// The thread's session, where the hub's own API finds it.
    #[schema(value_type = String, format = Uuid)]
    session_id: SessionId,
}

/// Whether the agents can work.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Status {
    /// `ok`, or `degraded` when anything of it does not answer.
    status: &'static str,
    /// Whether the store takes writes.
    store: Probe,
    /// The vendors of models, by name: whether their last calls were answered.
    models: BTreeMap<String, Probe>,
    /// What agents need besides the hub, by name: a vector database, say, as declared in `[dependencies.<name>]`.
    dependencies: BTreeMap<String, Probe>,
    /// Sessions at work or followed.
    active_threads: usize,
    /// Tasks at work.
    running_tasks: usize,
    /// Tasks that wait for their turn.
    queued_tasks: usize,
}

/// One thing that may or may not answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Probe {
    /// Whether it does.
    ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl Probe {
    fn of(ok: bool, reason: &'static str) -> Self {
        Self { ok, reason: (!ok).then_some(reason) }
    }
}

/// The routes.
pub(super) fn surface(edge: &Arc<Edge>) -> Surface {
    let (router, document) = OpenApiRouter::new()
        .routes(routes!(history))
        .routes(routes!(run_task))
        .routes(routes!(chat))
        .routes(routes!(cancel))
        .routes(routes!(status))
        .with_state(Arc::clone(edge))
        .split_for_parts();
    let access = document.paths.paths.keys().cloned().fold(AccessTable::default(), |table, path| table.with(path, Access::Adapter));
    Surface { router, access, document }
}

/// Read a thread
///
/// Its newest messages, oldest first; none of a thread that nothing was said to.
#[utoipa::path(
    get, path = "/history/{thread_id}", tag = "Threads", params(("thread_id" = String, Path)),
    responses(
        (status = 200, description = "Messages: `type` (human, ai), `role`, `content`, `id`", body = Vec<Value>),
        (status = 400, description = "No name of a thread"), (status = 429, description = "Too often"), (status = 503, description = "Too busy")
    ),
    security((), ("bearerAuth" = []))
)]
pub(super) async fn history(State(edge): State<Arc<Edge>>, Who(who): Who, Path(thread): Path<String>) -> Response {
    let work = async {
        let session = session_of(&who, &check_thread(thread).map_err(problem)?);
        match edge.hub.messages(&who, session, None, HISTORY).await {
            Ok(page) => Ok(Json(page.messages.into_iter().map(message).collect::<Vec<Value>>())),
            Err(refusal) if refusal.code == ErrorCode::SessionNotFound => Ok(Json(Vec::new())),
            Err(refusal) => Err(problem(refusal)),
        }
    };
    limited(&edge, RateCategory::Poll, &who, work).await
}

/// Say something to a thread, and do not wait
#[utoipa::path(
    post, path = "/run-task", tag = "Threads", request_body = ChatRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "Names the request, so that a repetition has no second effect")),
    responses(
        (status = 200, description = "Taken in", body = AcceptedMessage), (status = 400, description = "Something is missing or wrong"),
        (status = 409, description = "The thread has another agent, or the key was used for something else"), (status = 413, description = "Too large"),
        (status = 415, description = "No JSON"), (status = 429, description = "Too many"), (status = 503, description = "Too busy")
    ),
    security((), ("bearerAuth" = []))
)]
pub(super) async fn run_task(State(edge): State<Arc<Edge>>, Who(who): Who, headers: HeaderMap, draft: ApiDraft<ChatRequest>) -> Response {
    let work = async {
        let (thread_id, Run { session, task, .. }) = begin(&edge, &who, &headers, draft).await?;
        Ok(Json(AcceptedMessage { status: "accepted", thread_id, task_id: task, session_id: session }))
    };
    limited(&edge, RateCategory::Task, &who, work).await
}

/// Say something to a thread, and read the answer
///
/// Server-Sent Events, each `data: {"event": …, "data": …}`: `on_chain_start`, `on_chat_model_stream`, `on_tool_start`, `on_tool_end`,
/// `on_chain_end`, or `error`. The task goes on when the client hangs up.
#[utoipa::path(
    post, path = "/chat", tag = "Threads", request_body = ChatRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "Names the request, so that a repetition reads the same answer")),
    responses(
        (status = 200, description = "The answer as it is made", content_type = "text/event-stream", body = String),
        (status = 400, description = "Something is missing or wrong"),
        (status = 409, description = "The thread has another agent, or the key was used for something else"), (status = 413, description = "Too large"),
        (status = 415, description = "No JSON"), (status = 429, description = "Too many"), (status = 503, description = "Too busy")
    ),
    security((), ("bearerAuth" = []))
)]
pub(super) async fn chat(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    from: ClientAddress,
    headers: HeaderMap,
    draft: ApiDraft<ChatRequest>,
) -> Response {
    let work = async {
        let (thread, run) = begin(&edge, &who, &headers, draft).await?;
        let frames = GraphEvents { task: run.task, thread, tools: BTreeMap::new() };
        let listener = Listener { edge: &edge, who: &who, from, last_event_id: None };
        sse::adapted(listener, run.reader, frames).await
    };
    limited(&edge, RateCategory::Task, &who, work).await
}

/// Stop what runs in a thread
#[utoipa::path(
    post, path = "/threads/{thread_id}/cancel", tag = "Threads", params(("thread_id" = String, Path)),
    responses(
        (status = 202, description = "It is being stopped"), (status = 400, description = "No name of a thread"),
        (status = 404, description = "There is no such thread"), (status = 409, description = "Nothing runs in it"), (status = 503, description = "Too busy")
    ),
    security((), ("bearerAuth" = []))
)]
pub(super) async fn cancel(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    Path(thread): Path<String>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let thread = check_thread(thread).map_err(problem)?;
    let session = session_of(&who, &thread);
    let view = edge.hub.session(&who, session).await.map_err(problem)?;
    // In the order they were asked: what runs first, then what waits.
    let unfinished: Vec<TaskId> = view
        .snapshot
        .tasks
        .iter()
        .filter(|task| !task.status.is_terminal() && task.parent_task_id.is_none())
        .map(|task| task.task_id)
        .collect();
    if unfinished.is_empty() {
        return Err(Problem::new(ErrorCode::AlreadyTerminal, "Nothing runs in this thread"));
    }
    for task in unfinished.iter().rev() {
        match edge.hub.change(&who, session, Change::Cancel { task: *task, reason: None }).await {
            Err(refusal) if refusal.code != ErrorCode::AlreadyTerminal => return Err(problem(refusal)),
            _ => {}
        }
    }
    Ok((StatusCode::ACCEPTED, Json(json!({ "status": "cancelling", "thread_id": thread, "task_ids": unfinished }))))
}

/// Say whether the agents can work
///
/// Deeper than `/health`: the store, the models' vendors by what their last calls came to, and what is at work.
#[utoipa::path(
    get, path = "/status", tag = "Threads",
    responses((status = 200, description = "They can, or some of them", body = Status), (status = 503, description = "They cannot", body = Status)),
    security((), ("bearerAuth" = []))
)]
pub(super) async fn status(State(edge): State<Arc<Edge>>, _: Who) -> (StatusCode, Json<Status>) {
    let stored = edge.hub.store().probe().await;
    if let Err(error) = &stored {
        tracing::warn!(%error, "the store cannot be written");
    }
    let of = |ok: bool| Probe::of(ok, "its last calls failed; it is left alone for a moment");
    let agents = edge.hub.agents();
    let models: BTreeMap<String, Probe> =
        agents.iter().map(|agent| (agent.provider.name().to_owned(), of(agent.provider.available()))).collect();
    let dependencies = edge.dependencies.look().await;
    let needed = dependencies.iter().all(|found| !found.required || found.trouble.is_none());
    let works = needed && stored.is_ok() && models.values().any(|model| model.ok) && !edge.hub.is_stopping();
    let all = works && dependencies.iter().all(|found| found.trouble.is_none()) && models.values().all(|model| model.ok);
    let code = if works { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let status = Status {
        status: if all { "ok" } else { "degraded" },
        store: Probe::of(stored.is_ok(), "it cannot be written"),
        models,
        dependencies: dependencies
            .iter()
            .map(|found| (found.name.clone(), Probe { ok: found.trouble.is_none(), reason: found.trouble }))
            .collect(),
        active_threads: edge.hub.active_sessions(),
        running_tasks: edge.hub.running_tasks(),
        queued_tasks: edge.hub.queued_tasks(),
    };
    (code, Json(status))
}

async fn begin(
    edge: &Arc<Edge>,
    who: &Principal,
    headers: &HeaderMap,
    ApiDraft(body, mut issues): ApiDraft<ChatRequest>,
) -> Result<(String, Run), Problem> {
    let key = issues.note(idempotency_key(headers));
    let thread = issues.note(check_thread(body.thread_id.unwrap_or_else(|| USUAL_THREAD.to_owned())));
    let mut options = body.options.unwrap_or_default();
    if let Some(context) = body.user_context {
        options.insert("userContext".to_owned(), Value::Object(context));
    }
    let named = key.map(|key| TaskId::from_uuid(derived_uuid(who.user(), "task", &key)));
    let mut metadata = Map::new();
    metadata.insert("threadId".to_owned(), thread.as_str().into());
    let prompt = Prompt {
        dialect: DIALECT,
        session: session_of(who, &thread),
        agent: body.agent,
        task: named.unwrap_or_else(TaskId::random),
        task_chosen: named.is_some(),
        prompt: body.message.unwrap_or_default(),
        options,
        timeout_ms: None,
        metadata,
    };
    let (session, task) = issues.finish(prompt.check(edge)).map_err(problem)?;
    Ok((thread, run::start(edge, who, session, task).await?))
}

fn session_of(who: &Principal, thread: &str) -> SessionId {
    SessionId::from_uuid(id_of(who.user(), DIALECT, "thread", &[thread]))
}

fn check_thread(thread: String) -> Result<String, Refusal> {
    let fine = (1..=MAX_THREAD).contains(&thread.len()) && !thread.chars().any(char::is_control);
    if fine { Ok(thread) } else { Err(Refusal::invalid("thread_id", format!("thread_id must be 1 to {MAX_THREAD} bytes of text"))) }
}

/// A message under the names of both: LangChain's `type`, everybody's `role`.
fn message(message: MessageInfo) -> Value {
    let (kind, role) = match message.role {
        Role::User => ("human", "user"),
        Role::Assistant => ("ai", "assistant"),
    };
    json!({ "type": kind, "role": role, "content": message.text, "id": message.message_id, "task_id": message.task_id, "partial": message.partial })
}

/// The events of a task by LangGraph's names.
struct GraphEvents {
    task: TaskId,
    thread: String,
    /// The tool of each call.
    tools: BTreeMap<String, String>,
}

impl GraphEvents {
    fn say(&self, kind: &str, name: &str, data: Value, out: &mut Vec<u8>) {
        let metadata = json!({ "thread_id": self.thread });
        block(out, &json!({ "event": kind, "name": name, "run_id": self.task, "data": data, "metadata": metadata }));
    }

    fn fails(&self, message: &str, code: &str, partial: &str, out: &mut Vec<u8>) -> bool {
        self.say("error", "agent", json!({ "message": message, "code": code, "partial": partial }), out);
        true
    }

    fn take(&mut self, event: &Event, out: &mut Vec<u8>) -> bool {
        if event.task_id != Some(self.task) {
            return false;
        }
        match &event.body {
            EventBody::TaskStarted(started) if started.attempt == 1 => self.say("on_chain_start", "agent", json!({}), out),
            EventBody::Token(token) => {
                let chunk = json!({ "content": token.token, "id": token.message_id, "type": "AIMessageChunk" });
                self.say("on_chat_model_stream", "model", json!({ "chunk": chunk }), out);
            }
            // What was streamed since is void.
            EventBody::TaskRecovering(recovering) => {
                self.say("on_retry", "agent", json!({ "attempt": recovering.attempt }), out);
            }
            EventBody::ToolCall(call) => {
                self.tools.insert(call.call_id.clone(), call.tool.clone());
                self.say("on_tool_start", &call.tool, json!({ "input": call.arguments, "call_id": call.call_id }), out);
            }
            EventBody::ToolResult(result) => {
                let tool = self.tools.remove(&result.call_id).unwrap_or_default();
                let data = json!({ "output": result.output, "error": result.error, "call_id": result.call_id });
                self.say("on_tool_end", &tool, data, out);
            }
            EventBody::InputRequested(request) => self.say("on_interrupt", "agent", serde_json::to_value(request).unwrap_or_default(), out),
            EventBody::TaskCompleted(done) => {
                self.say("on_chain_end", "agent", json!({ "output": done.result, "usage": done.usage }), out);
                return true;
            }
            EventBody::TaskFailed(failed) => return self.fails(&failed.message, failed.code.as_str(), &failed.partial, out),
            EventBody::TaskCancelled(cancelled) => {
                let why = cancelled.reason.as_deref().unwrap_or("The task was cancelled");
                return self.fails(why, "cancelled", &cancelled.partial, out);
            }
            EventBody::TaskTimeout(timeout) => {
                return self.fails(&sse::timeout_text(timeout.timeout_ms), "timeout", &timeout.partial, out);
            }
            _ => {}
        }
        false
    }
}

impl Frames for GraphEvents {
    fn write(&mut self, event: &LogEvent, _: &Epoch, out: &mut Vec<u8>) -> bool {
        decoded(event).is_some_and(|event| self.take(&event, out))
    }
}
