//! Executions that exist: suspended, resumed, cancelled, repeated, looked at, followed.

use std::sync::Arc;

use agent_hub_protocol::ErrorCode;
use axum::{
    Json,
    extract::{Path, RawQuery, State},
    http::HeaderMap,
    response::Response,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{
    Reply,
    narrator::{Narrator, Status},
    story::{self, Story, execution_not_found},
    workflows::{self, ExecutionFrames},
};
use crate::{
    api::support::limited,
    compat::run::{self, Run, problem},
    runtime::{Refusal, admission::check_reason, rate::RateCategory, replay::Repetition, session::Change},
    transport::{
        Edge, Problem,
        auth::Who,
        client_address::ClientAddress,
        json::ApiJson,
        sse::{self, Listener},
    },
};

/// Executions on one page of a list.
const USUAL_PAGE: usize = 50;
const LARGEST_PAGE: usize = 200;
/// Said where nobody says why.
const REASON: &str = "API request";

/// Why.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct ReasonBody {
    /// Kept with the execution.
    reason: Option<String>,
}

/// What an execution goes on with.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ResumeBody {
    /// Checked against the schema of the step that waits.
    #[schema(value_type = Value)]
    resume_data: Option<Value>,
    /// `stepId`: the step that is given the data, or a step to do again.
    #[schema(value_type = Option<Object>)]
    options: Option<Map<String, Value>>,
}

/// What an execution is repeated with.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ReplayBody {
    /// The step to begin at.
    step_id: Option<String>,
    /// What it is given, instead of what it was given then.
    #[schema(value_type = Value)]
    input_data: Option<Value>,
    /// `executionId` of the repetition, and the like.
    #[schema(value_type = Option<Object>)]
    options: Option<Map<String, Value>>,
}

/// Suspend a running execution
#[utoipa::path(
    post, path = "/workflows/{id}/executions/{executionId}/suspend", tag = "Workflow Management",
    params(("id" = String, Path), ("executionId" = String, Path)), request_body = ReasonBody,
    responses(
        (status = 200, description = "It is suspended", body = Reply), (status = 400, description = "It does not run"),
        (status = 404, description = "Workflow execution not found")
    )
)]
pub(super) async fn suspend(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    Path((id, execution)): Path<(String, String)>,
    ApiJson(body): ApiJson<ReasonBody>,
) -> Result<Json<Reply>, Problem> {
    let reason = check_reason(body.reason).map_err(problem)?.unwrap_or_else(|| REASON.to_owned());
    let story = story::find(&edge.hub, &who, &id, &execution).await?;
    let cannot = |status: &Status| Problem::new(ErrorCode::InvalidMessage, format!("Cannot suspend workflow in {} state", status.as_str()));
    if story.narrator.status != Status::Running {
        return Err(cannot(&story.narrator.status));
    }
    let change = Change::Suspend { task: story.task, reason: Some(reason) };
    edge.hub.change(&who, story.session, change).await.map_err(in_this_state)?;
    let story = story::find(&edge.hub, &who, &id, &execution).await?;
    if story.narrator.status.is_over() {
        return Err(cannot(&story.narrator.status));
    }
    let suspension = story.narrator.suspension();
    Ok(Reply::of(json!({ "executionId": story.narrator.execution(), "status": story.narrator.status.as_str(), "suspension": suspension })))
}

/// Resume a suspended execution
///
/// Answers when it is over, or waits for somebody again.
#[utoipa::path(
    post, path = "/workflows/{id}/executions/{executionId}/resume", tag = "Workflow Management",
    params(("id" = String, Path), ("executionId" = String, Path)), request_body = ResumeBody,
    responses(
        (status = 200, description = "How it stands", body = Reply), (status = 400, description = "The data does not fit"),
        (status = 404, description = "Workflow execution not found or not in suspended state")
    )
)]
pub(super) async fn resume(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    Path((id, execution)): Path<(String, String)>,
    ApiJson(body): ApiJson<ResumeBody>,
) -> Response {
    let work = async {
        let step = match body.options.as_ref().and_then(|options| options.get("stepId")) {
            None | Some(Value::Null) => None,
            Some(Value::String(step)) => Some(step.clone()),
            Some(_) => return Err(problem(Refusal::invalid("options.stepId", "stepId must be a text"))),
        };
        let story = story::find(&edge.hub, &who, &id, &execution).await?;
        let not_suspended = || Problem::new(ErrorCode::NotFound, "Workflow execution not found or not in suspended state");
        if !matches!(story.narrator.status, Status::Suspended { .. }) {
            return Err(not_suspended());
        }
        let change = Change::Resume { task: story.task, data: body.resume_data, step };
        let done = edge.hub.change(&who, story.session, change).await.map_err(|refusal| match refusal.code {
            // Somebody was first.
            ErrorCode::Busy | ErrorCode::AlreadyTerminal => not_suspended(),
            _ => problem(refusal),
        })?;
        let reader = run::reader(&edge.hub, &who, story.session, done.seq.unwrap_or(1) - 1).await?;
        let mut run = Run { session: story.session, task: story.task, reader, repeated: false };
        let story = workflows::outcome(&edge, &who, &id, &mut run).await?;
        Ok(Reply::of(story.outcome()))
    };
    limited(&edge, RateCategory::Task, &who, work).await
}

/// Cancel an execution
#[utoipa::path(
    post, path = "/workflows/{id}/executions/{executionId}/cancel", tag = "Workflow Management",
    params(("id" = String, Path), ("executionId" = String, Path)), request_body = ReasonBody,
    responses(
        (status = 200, description = "It is cancelled", body = Reply), (status = 404, description = "Workflow execution not found"),
        (status = 409, description = "It had ended")
    )
)]
pub(super) async fn cancel(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    Path((id, execution)): Path<(String, String)>,
    ApiJson(body): ApiJson<ReasonBody>,
) -> Result<Json<Reply>, Problem> {
    let reason = check_reason(body.reason).map_err(problem)?;
    let story = story::find(&edge.hub, &who, &id, &execution).await?;
    if !story.narrator.status.is_over() {
        let change = Change::Cancel { task: story.task, reason: reason.or_else(|| Some(REASON.to_owned())) };
        let reader = run::reader(&edge.hub, &who, story.session, story.first_seq - 1).await?;
        if let Err(refusal) = edge.hub.change(&who, story.session, change).await
            && refusal.code != ErrorCode::AlreadyTerminal
        {
            return Err(problem(refusal));
        }
        // Where it ended first, what it came to is said below.
        let mut narrator = Narrator::new(story.task, String::new(), &id, edge.hub.workflows());
        let mut reader = reader;
        run::follow(&edge, &mut reader, |event| {
            narrator.tell(event);
            narrator.status.is_over()
        })
        .await?;
    }
    let story = story::find(&edge.hub, &who, &id, &execution).await?;
    let Status::Cancelled { reason } = &story.narrator.status else {
        let text = format!("The execution has ended: {}", story.narrator.status.as_str());
        return Err(Problem::new(ErrorCode::AlreadyTerminal, text));
    };
    Ok(Reply::of(json!({
        "executionId": story.narrator.execution(), "status": "cancelled", "cancelledAt": story.last_at, "reason": reason,
    })))
}

/// Repeat an execution from a step on
///
/// Makes a new execution that takes over what the steps before came to.
#[utoipa::path(
    post, path = "/workflows/{id}/executions/{executionId}/replay", tag = "Workflow Management",
    params(("id" = String, Path), ("executionId" = String, Path)), request_body = ReplayBody,
    responses(
        (status = 200, description = "How the repetition stands", body = Reply), (status = 400, description = "There is no such step, or it was not come to"),
        (status = 404, description = "Workflow execution not found")
    )
)]
pub(super) async fn replay(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    Path((id, execution)): Path<(String, String)>,
    ApiJson(body): ApiJson<ReplayBody>,
) -> Response {
    let work = async {
        let story = story::find(&edge.hub, &who, &id, &execution).await?;
        let step_id = body.step_id.unwrap_or_default();
        let Repetition { execution: new, .. } =
            Repetition::of(&edge.hub, &who, story.task, &step_id, body.input_data).await.map_err(problem)?;
        let mut options = story.queued.options.clone().unwrap_or_default();
        options.remove("executionId");
        options.extend(body.options.unwrap_or_default());
        let mut run = workflows::begin_execution(&edge, &who, new, &options).await?;
        let story = workflows::outcome(&edge, &who, &id, &mut run).await?;
        Ok(Reply::of(story.outcome()))
    };
    limited(&edge, RateCategory::Task, &who, work).await
}

/// Read an execution
#[utoipa::path(
    get, path = "/workflows/{id}/executions/{executionId}/state", tag = "Workflow Management",
    params(("id" = String, Path), ("executionId" = String, Path)),
    responses((status = 200, description = "Everything about it", body = Reply), (status = 404, description = "Workflow execution not found"))
)]
pub(super) async fn state(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    Path((id, execution)): Path<(String, String)>,
) -> Result<Json<Reply>, Problem> {
    let story = story::find(&edge.hub, &who, &id, &execution).await?;
    Ok(Reply::of(story.state(&edge.hub)))
}

/// List executions
///
/// Newest first. `workflowId status userId conversationId limit offset from to` and `metadata.<key>` choose among them.
#[utoipa::path(
    get, path = "/workflows/executions", tag = "Workflow Management",
    params(
        ("workflowId" = Option<String>, Query), ("status" = Option<String>, Query), ("userId" = Option<String>, Query),
        ("limit" = Option<usize>, Query), ("offset" = Option<usize>, Query)
    ),
    responses((status = 200, description = "Executions", body = Reply), (status = 400, description = "There is no such status"))
)]
pub(super) async fn list(State(edge): State<Arc<Edge>>, Who(who): Who, RawQuery(query): RawQuery) -> Response {
    let work = async {
        let wanted = Wanted::read(query.as_deref().unwrap_or_default())?;
        let stories = story::all(&edge.hub, &who, |story| wanted.takes(story)).await?;
        let total = stories.len();
        let page: Vec<Value> = stories.iter().skip(wanted.offset).take(wanted.limit).map(|story| story.state(&edge.hub)).collect();
        Ok(Reply::of(json!({ "executions": page, "total": total, "limit": wanted.limit, "offset": wanted.offset })))
    };
    // Whole logs are read for it.
    limited(&edge, RateCategory::Poll, &who, work).await
}

/// Follow an execution
///
/// From its first event on, or behind `Last-Event-ID` or `?fromSequence=`; over suspensions, until it is over.
#[utoipa::path(
    get, path = "/workflows/{id}/executions/{executionId}/stream", tag = "Workflow Management",
    params(
        ("id" = String, Path), ("executionId" = String, Path), ("fromSequence" = Option<u64>, Query),
        ("Last-Event-ID" = Option<String>, Header)
    ),
    responses(
        (status = 200, description = "The execution", content_type = "text/event-stream", body = String),
        (status = 400, description = "The position is none"), (status = 404, description = "Workflow execution not found"),
        (status = 410, description = "The execution has not come that far: the position is of another one")
    )
)]
pub(super) async fn attach(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    from: ClientAddress,
    Path((id, execution)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let story = story::find(&edge.hub, &who, &id, &execution).await?;
    let asked = parameter(query.as_deref().unwrap_or_default(), "fromSequence");
    let seen = sse::last_event_id(&headers, None);
    let skip = match asked.or(seen).map(|text| text.trim().parse::<u64>()) {
        None => 0,
        Some(Ok(seen)) if seen <= story.told.len() as u64 => seen,
        Some(Ok(_)) => {
            let text = "The position lies behind everything that has happened; begin again without one";
            return Err(Problem::new(ErrorCode::NotFound, text).with_status(axum::http::StatusCode::GONE));
        }
        Some(Err(_)) => return Err(problem(Refusal::invalid("fromSequence", "fromSequence must be a whole number"))),
    };
    let reader = run::reader(&edge.hub, &who, story.session, story.first_seq - 1).await?;
    let narrator = Narrator::new(story.task, story.narrator.execution().to_owned(), &id, edge.hub.workflows());
    let listener = Listener { edge: &edge, who: &who, from, last_event_id: None };
    sse::adapted(listener, reader, ExecutionFrames { narrator, told: 0, skip, stays: true }).await
}

/// Which executions a list is to show.
struct Wanted {
    workflow: Option<String>,
    status: Option<&'static str>,
    user: Option<String>,
    conversation: Option<String>,
    from: Option<String>,
    to: Option<String>,
    metadata: Vec<(String, String)>,
    limit: usize,
    offset: usize,
}

impl Wanted {
    fn read(query: &str) -> Result<Self, Problem> {
        let get = |name: &str| parameter(query, name).filter(|value| !value.is_empty());
        let number = |name: &str, usual: usize| match get(name).map(|text| text.parse::<usize>()) {
            None => Ok(usual),
            Some(Ok(number)) => Ok(number),
            Some(Err(_)) => Err(problem(Refusal::invalid(name, format!("{name} must be a whole number")))),
        };
        let status = match get("status").as_deref() {
            None => None,
            Some("running" | "pending") => Some("running"),
            Some("suspended") => Some("suspended"),
            Some("completed" | "success") => Some("completed"),
            Some("error" | "failed") => Some("error"),
            Some("cancelled" | "canceled") => Some("cancelled"),
            Some(_) => {
                let known = "status must be running, suspended, completed, error or cancelled";
                return Err(problem(Refusal::invalid("status", known)));
            }
        };
        let metadata = pairs(query).filter_map(|(name, value)| Some((name.strip_prefix("metadata.")?.to_owned(), value))).collect();
        Ok(Self {
            workflow: get("workflowId"),
            status,
            user: get("userId"),
            conversation: get("conversationId"),
            from: get("from"),
            to: get("to"),
            metadata,
            limit: number("limit", USUAL_PAGE)?.clamp(1, LARGEST_PAGE),
            offset: number("offset", 0)?,
        })
    }

    fn takes(&self, story: &Story) -> bool {
        let same = |wanted: &Option<String>, name: &str| wanted.is_none() || *wanted == story.option(name);
        let at = story.queued_at.to_string();
        let metadata = story.queued.options.as_ref().and_then(|options| options.get("metadata"));
        let has = |(name, value): &(String, String)| {
            metadata
                .and_then(|metadata| metadata.get(name))
                .is_some_and(|found| found.as_str().map_or_else(|| found.to_string(), str::to_owned) == *value)
        };
        self.workflow.as_deref().is_none_or(|workflow| workflow == story.workflow())
            && self.status.is_none_or(|status| status == story.narrator.status.as_str())
            && same(&self.user, "userId")
            && same(&self.conversation, "conversationId")
            // Times of one form compare like their texts.
            && self.from.as_ref().is_none_or(|from| *from <= at)
            && self.to.as_ref().is_none_or(|to| at <= *to)
            && self.metadata.iter().all(has)
    }
}

fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    reqwest::Url::parse(&format!("http://query/?{query}"))
        .map(|url| url.query_pairs().into_owned().collect::<Vec<_>>())
        .unwrap_or_default()
        .into_iter()
}

fn parameter(query: &str, name: &str) -> Option<String> {
    pairs(query).find(|(key, _)| key == name).map(|(_, value)| value)
}

/// A change that came too late, or too early, for the state the execution is in.
fn in_this_state(refusal: Refusal) -> Problem {
    match refusal.code {
        ErrorCode::Busy | ErrorCode::AlreadyTerminal => {
            Problem::new(ErrorCode::InvalidMessage, format!("Cannot suspend workflow in its current state: {}", refusal.message))
        }
        ErrorCode::TaskNotFound => execution_not_found(),
        _ => problem(refusal),
    }
}
