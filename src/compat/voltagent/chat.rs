//! Chats: an answer as the UI message stream of Vercel's AI SDK. A resumable one goes on when the client hangs up, and is attached to again.

use std::sync::Arc;

use agent_hub_protocol::{Epoch, ErrorCode, Event, EventBody, SessionId, TaskId, snapshot::TaskStatus};
use axum::{
    Json,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    Reply, agents,
    answer::{Calls, End},
    generation::asked,
    id_of,
    input::{Request, Want},
};
use crate::{
    api::support::limited,
    compat::run::{self, CancelOnDrop, block, decoded, problem},
    runtime::{Principal, log::LogEvent, rate::RateCategory, session::Change},
    transport::{
        Edge, Problem,
        auth::Who,
        client_address::ClientAddress,
        json::ApiDraft,
        sse::{self, Frames, Listener},
    },
};

/// Says which stream this is; readers refuse one without it.
const STREAM_HEADER: HeaderName = HeaderName::from_static("x-vercel-ai-ui-message-stream");

/// Chat with an agent
///
/// The AI SDK's UI message stream. With `options.resumableStream: true` and a `conversationId` the answer goes on when the client hangs up.
#[utoipa::path(
    post, path = "/agents/{id}/chat", tag = "Agent Generation", params(("id" = String, Path)), request_body = Request,
    responses(
        (status = 200, description = "The answer as it is made", content_type = "text/event-stream", body = String),
        (status = 400, description = "Validation failed"), (status = 404, description = "Agent not found")
    )
)]
pub(super) async fn send(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    from: ClientAddress,
    Path(id): Path<String>,
    headers: HeaderMap,
    draft: ApiDraft<Request>,
) -> Response {
    let work = async {
        let asked = asked(&edge, &who, &id, &headers, draft, Want::Chat)?;
        if asked.resumable && asked.conversation.is_none() {
            let refusal = crate::runtime::Refusal::invalid("options.conversationId", "A resumable stream needs a conversationId");
            return Err(problem(refusal));
        }
        let stays = asked.resumable || asked.named;
        let run = run::start(&edge, &who, asked.session, asked.task).await?;
        let guard = (!stays).then(|| CancelOnDrop::unless(false, &edge.hub, &who, &run));
        let frames = ChatFrames::new(run.task, guard);
        respond(Listener { edge: &edge, who: &who, from, last_event_id: None }, run.reader, frames).await
    };
    limited(&edge, RateCategory::Task, &who, work).await
}

/// Attach to the answer of a chat again
///
/// From its beginning, then live; 204 when no answer is being made.
#[utoipa::path(
    get, path = "/agents/{id}/chat/{conversationId}/stream", tag = "Agent Generation",
    params(("id" = String, Path), ("conversationId" = String, Path), ("userId" = Option<String>, Query)),
    responses(
        (status = 200, description = "The answer", content_type = "text/event-stream", body = String),
        (status = 204, description = "No answer is being made"), (status = 404, description = "Agent not found")
    )
)]
pub(super) async fn attach(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    from: ClientAddress,
    Path((id, conversation)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    agents::find(&edge, &id)?;
    let Some((session, task, first_seq)) = active(&edge, &who, &id, &conversation, query.as_deref()).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let reader = run::reader(&edge.hub, &who, session, first_seq - 1).await?;
    respond(Listener { edge: &edge, who: &who, from, last_event_id: None }, reader, ChatFrames::new(task, None)).await
}

/// Stop the answer of a chat
///
/// Really: the model call is closed. What a client that has hung up cannot do.
#[utoipa::path(
    delete, path = "/agents/{id}/chat/{conversationId}/stream", tag = "Agent Generation",
    params(("id" = String, Path), ("conversationId" = String, Path), ("userId" = Option<String>, Query)),
    responses((status = 200, description = "Whether one was being made", body = Reply), (status = 404, description = "Agent not found"))
)]
pub(super) async fn stop(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    Path((id, conversation)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Json<Reply>, Problem> {
    agents::find(&edge, &id)?;
    let found = active(&edge, &who, &id, &conversation, query.as_deref()).await?;
    if let Some((session, task, _)) = found {
        let change = Change::Cancel { task, reason: Some("stopped by the client".to_owned()) };
        match edge.hub.change(&who, session, change).await {
            Err(refusal) if refusal.code != ErrorCode::AlreadyTerminal => return Err(problem(refusal)),
            _ => {}
        }
    }
    Ok(Reply::of(json!({ "cancelled": found.is_some() })))
}

/// The answer that is being made in a conversation.
async fn active(
    edge: &Edge,
    who: &Principal,
    agent: &str,
    conversation: &str,
    query: Option<&str>,
) -> Result<Option<(SessionId, TaskId, u64)>, Problem> {
    let url = reqwest::Url::parse(&format!("http://query/?{}", query.unwrap_or_default()));
    let user = url.ok().and_then(|url| url.query_pairs().find(|(name, _)| name == "userId").map(|(_, value)| value.into_owned()));
    let session = SessionId::from_uuid(id_of(who.user(), "conversation", &[agent, &user.unwrap_or_default(), conversation]));
    let view = match edge.hub.session(who, session).await {
        Ok(view) => view,
        Err(refusal) if matches!(refusal.code, ErrorCode::SessionNotFound | ErrorCode::Forbidden) => return Ok(None),
        Err(refusal) => return Err(problem(refusal)),
    };
    let runs = |status: TaskStatus| !status.is_terminal();
    let task = view.snapshot.tasks.iter().rev().find(|task| runs(task.status) && task.parent_task_id.is_none());
    Ok(task.map(|task| (session, task.task_id, task.first_seq)))
}

async fn respond(listener: Listener<'_>, reader: crate::runtime::log::Reader, frames: ChatFrames) -> Result<Response, Problem> {
    let mut response = sse::adapted(listener, reader, frames).await?;
    response.headers_mut().insert(STREAM_HEADER, HeaderValue::from_static("v1"));
    Ok(response)
}

/// The frames of the UI message stream.
struct ChatFrames {
    task: TaskId,
    calls: Calls,
    /// The part that is being written, and whether it is text.
    open: Option<(String, bool)>,
    parts: usize,
    truncated: bool,
    guard: Option<CancelOnDrop>,
}

impl ChatFrames {
    fn new(task: TaskId, guard: Option<CancelOnDrop>) -> Self {
        Self { task, calls: Calls::default(), open: None, parts: 0, truncated: false, guard }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if let Some((id, text)) = self.open.take() {
            block(out, &json!({ "type": if text { "text-end" } else { "reasoning-end" }, "id": id }));
        }
    }

    fn delta(&mut self, text: bool, message: Option<&str>, delta: &str, out: &mut Vec<u8>) {
        let same = self.open.as_ref().is_some_and(|(id, of_text)| *of_text == text && message.is_none_or(|message| message == id));
        let kind = if text { "text" } else { "reasoning" };
        if !same {
            self.close(out);
            self.parts += 1;
            let id = message.map_or_else(|| format!("{kind}-{}", self.parts), str::to_owned);
            block(out, &json!({ "type": format!("{kind}-start"), "id": id }));
            self.open = Some((id, text));
        }
        if let Some((id, _)) = &self.open {
            block(out, &json!({ "type": format!("{kind}-delta"), "id": id, "delta": delta }));
        }
    }

    fn take(&mut self, event: &Event, out: &mut Vec<u8>) -> bool {
        // What sub-agents do is for the agent that asked them.
        let Some(None) = self.calls.belongs(event, self.task) else { return false };
        match &event.body {
            EventBody::TaskQueued(_) => block(out, &json!({ "type": "start", "messageId": self.task })),
            EventBody::Step(step) if step.name == "model" => match step.phase {
                agent_hub_protocol::event::StepPhase::Started => block(out, &json!({ "type": "start-step" })),
                _ => {
                    self.close(out);
                    self.truncated = step.output.is_some();
                    block(out, &json!({ "type": "finish-step" }));
                }
            },
            EventBody::Token(token) => self.delta(true, Some(&token.message_id), &token.token, out),
            EventBody::Reasoning(reasoning) => self.delta(false, None, &reasoning.token, out),
            EventBody::ToolCall(call) => {
                self.close(out);
                let (id, tool) = (&call.call_id, &call.tool);
                block(out, &json!({ "type": "tool-input-start", "toolCallId": id, "toolName": tool }));
                block(out, &json!({ "type": "tool-input-available", "toolCallId": id, "toolName": tool, "input": call.arguments }));
            }
            EventBody::ToolResult(result) => match &result.error {
                Some(error) => block(out, &json!({ "type": "tool-output-error", "toolCallId": result.call_id, "errorText": error })),
                None => block(out, &json!({ "type": "tool-output-available", "toolCallId": result.call_id, "output": result.output })),
            },
            EventBody::InputRequested(request) => {
                block(out, &json!({ "type": "data-input-requested", "data": request, "id": request.request_id }));
            }
            body => {
                if let Some(end) = End::of(body) {
                    self.end(&end, out);
                    return true;
                }
            }
        }
        false
    }

    fn end(&mut self, end: &End, out: &mut Vec<u8>) {
        if let Some(guard) = &mut self.guard {
            guard.disarm();
        }
        self.close(out);
        match end {
            End::Completed { .. } => {
                block(out, &json!({ "type": "finish", "finishReason": if self.truncated { "length" } else { "stop" } }));
            }
            End::Cancelled { .. } => block(out, &json!({ "type": "abort" })),
            other => {
                let text = other.error(true).map(|(message, _)| message);
                block(out, &json!({ "type": "error", "errorText": text }));
            }
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

impl Frames for ChatFrames {
    fn write(&mut self, event: &LogEvent, _: &Epoch, out: &mut Vec<u8>) -> bool {
        decoded(event).is_some_and(|event| self.take(&event, out))
    }
}
