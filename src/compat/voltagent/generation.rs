//! Agents that answer: with text or an object, whole or as a stream. When the client hangs up, the answer is cancelled.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use super::{
    Reply, agents,
    answer::{AnswerFrames, End, Whole},
    input::{Asked, Request, Rules, Want},
    views,
};
use crate::{
    api::support::{idempotency_key, limited},
    compat::run::{self, CancelOnDrop, Run, problem},
    runtime::{Issues, Principal, rate::RateCategory},
    transport::{
        Edge, Problem,
        auth::Who,
        client_address::ClientAddress,
        json::ApiDraft,
        sse::{self, Listener},
    },
};

/// A whole answer.
struct Answer {
    whole: Whole,
    run: Run,
    user_context: Map<String, Value>,
    conversation: Option<String>,
}

/// Generate text
#[utoipa::path(
    post, path = "/agents/{id}/text", tag = "Agent Generation", params(("id" = String, Path)), request_body = Request,
    responses(
        (status = 200, description = "The answer", body = Reply), (status = 400, description = "Validation failed"),
        (status = 404, description = "Agent not found"), (status = 500, description = "The agent failed")
    )
)]
pub(super) async fn text(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    Path(id): Path<String>,
    headers: HeaderMap,
    draft: ApiDraft<Request>,
) -> Response {
    let work = async {
        let answer = whole(&edge, &who, &id, &headers, draft, Want::Text).await?;
        let (text, usage) = match &answer.whole.end {
            Some(End::Completed { result, usage }) => (result.clone(), *usage),
            _ => return Err(failed(&answer.whole)),
        };
        let Answer { whole, run, user_context, conversation } = answer;
        Ok(Reply::of(json!({
            "text": text.as_str().map_or_else(|| text.to_string(), str::to_owned),
            "usage": views::usage(&usage),
            "finishReason": whole.finish_reason(),
            "toolCalls": whole.tool_calls,
            "toolResults": whole.tool_results,
            "provider": {},
            "output": if text.is_string() { Value::Null } else { text },
            "userContext": user_context,
            "conversationId": conversation,
            "taskId": run.task,
            "sessionId": run.session,
        })))
    };
    limited(&edge, RateCategory::Task, &who, work).await
}

/// Generate an object
#[utoipa::path(
    post, path = "/agents/{id}/object", tag = "Agent Generation", params(("id" = String, Path)), request_body = Request,
    responses(
        (status = 200, description = "The object", body = Reply), (status = 400, description = "Validation failed, or the schema is none"),
        (status = 404, description = "Agent not found"), (status = 500, description = "The agent failed, or its answer does not fit the schema")
    )
)]
pub(super) async fn object(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    Path(id): Path<String>,
    headers: HeaderMap,
    draft: ApiDraft<Request>,
) -> Response {
    let work = async {
        let answer = whole(&edge, &who, &id, &headers, draft, Want::Object).await?;
        let Some(End::Completed { result, usage }) = &answer.whole.end else { return Err(failed(&answer.whole)) };
        Ok(Reply::of(json!({
            "object": result,
            "usage": views::usage(usage),
            "finishReason": answer.whole.finish_reason(),
            "provider": {},
            "userContext": answer.user_context,
            "taskId": answer.run.task,
            "sessionId": answer.run.session,
        })))
    };
    limited(&edge, RateCategory::Task, &who, work).await
}

/// Stream text
///
/// Server-Sent Events, each `data: {"type": …}`: `text`, `reasoning`, `tool-call`, `tool-result`, then `finish` and `completion`, or `error`.
#[utoipa::path(
    post, path = "/agents/{id}/stream", tag = "Agent Generation", params(("id" = String, Path)), request_body = Request,
    responses(
        (status = 200, description = "The answer as it is made", content_type = "text/event-stream", body = String),
        (status = 400, description = "Validation failed"), (status = 404, description = "Agent not found")
    )
)]
pub(super) async fn stream(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    from: ClientAddress,
    Path(id): Path<String>,
    headers: HeaderMap,
    draft: ApiDraft<Request>,
) -> Response {
    limited(&edge, RateCategory::Task, &who, streamed(&edge, &who, from, &id, &headers, draft, Want::Text)).await
}

/// Stream an object
///
/// Server-Sent Events, each `data: {"type": …}`: `object` with what there is of it so far, then `completion`, or `error`.
#[utoipa::path(
    post, path = "/agents/{id}/stream-object", tag = "Agent Generation", params(("id" = String, Path)), request_body = Request,
    responses(
        (status = 200, description = "The object as it is made", content_type = "text/event-stream", body = String),
        (status = 400, description = "Validation failed, or the schema is none"), (status = 404, description = "Agent not found")
    )
)]
pub(super) async fn stream_object(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    from: ClientAddress,
    Path(id): Path<String>,
    headers: HeaderMap,
    draft: ApiDraft<Request>,
) -> Response {
    limited(&edge, RateCategory::Task, &who, streamed(&edge, &who, from, &id, &headers, draft, Want::Object)).await
}

async fn streamed(
    edge: &Arc<Edge>,
    who: &Principal,
    from: ClientAddress,
    id: &str,
    headers: &HeaderMap,
    draft: ApiDraft<Request>,
    want: Want,
) -> Result<Response, Problem> {
    let Asked { session, task, named, .. } = asked(edge, who, id, headers, draft, want)?;
    let run = run::start(edge, who, session, task).await?;
    let guard = CancelOnDrop::unless(named, &edge.hub, who, &run);
    let frames = match want {
        Want::Object => AnswerFrames::of_object(run.task, guard),
        Want::Text | Want::Chat => AnswerFrames::of_text(run.task, guard),
    };
    let listener = Listener { edge, who, from, last_event_id: None };
    Ok(sse::adapted(listener, run.reader, frames).await?.into_response())
}

async fn whole(
    edge: &Arc<Edge>,
    who: &Principal,
    id: &str,
    headers: &HeaderMap,
    draft: ApiDraft<Request>,
    want: Want,
) -> Result<Answer, Problem> {
    let Asked { session, task, user_context, conversation, named, .. } = asked(edge, who, id, headers, draft, want)?;
    let mut run = run::start(edge, who, session, task).await?;
    let mut guard = CancelOnDrop::unless(named, &edge.hub, who, &run);
    let mut whole = Whole::default();
    let task = run.task;
    // Dropped with the connection.
    run::follow(edge, &mut run.reader, |event| whole.take(event, task)).await?;
    guard.disarm();
    Ok(Answer { whole, run, user_context, conversation })
}

/// The request, read for an agent that is there.
pub(super) fn asked(
    edge: &Edge,
    who: &Principal,
    id: &str,
    headers: &HeaderMap,
    draft: ApiDraft<Request>,
    want: Want,
) -> Result<Asked, Problem> {
    agents::find(edge, id)?;
    let ApiDraft(request, issues): ApiDraft<Request> = draft;
    let mut issues: Issues = issues;
    let key = issues.note(idempotency_key(headers));
    request.read(who, id, want, key.as_deref(), rules(edge), issues).map_err(problem)
}

pub(super) fn rules(edge: &Edge) -> Rules<'_> {
    Rules { settings: edge.hub.settings(), agents: edge.hub.agents(), workflows: edge.hub.workflows() }
}

fn failed(whole: &Whole) -> Problem {
    whole.end.as_ref().and_then(End::problem).unwrap_or_else(Problem::not_found)
}
