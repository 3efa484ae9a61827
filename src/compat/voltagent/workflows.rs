//! Workflows: which there are, and how one is executed. An execution goes on when the client hangs up.

use std::sync::Arc;

use agent_hub_protocol::{
    Epoch, ErrorCode, SessionId, TaskId,
    client_message::{CreateSession, SubmitTask},
};
use axum::{
    Json,
    extract::{Path, State},
    response::Response,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{
    DIALECT, Reply,
    narrator::{Narrator, step_type},
    story::{self, Story, chosen},
    text_of,
};
use crate::{
    api::support::limited,
    compat::run::{self, Run, block, decoded, problem},
    runtime::{
        Principal,
        admission::{NewExecution, NewSession, NewTask},
        log::LogEvent,
        rate::RateCategory,
    },
    transport::{
        Edge, Problem,
        auth::Who,
        client_address::ClientAddress,
        json::ApiJson,
        sse::{self, Frames, Listener},
    },
    workflow::{Action, Workflow},
};

/// What a workflow is executed with.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct ExecuteBody {
    /// Checked against the workflow's schema.
    #[schema(value_type = Value)]
    pub(super) input: Option<Value>,
    /// `userId conversationId executionId userContext`, all of them optional; `stayOpen: true` keeps a stream open over suspensions.
    #[schema(value_type = Option<Object>)]
    pub(super) options: Option<Map<String, Value>>,
}

/// List workflows
#[utoipa::path(get, path = "/workflows", tag = "Workflow Management", responses((status = 200, description = "Workflows", body = Reply)))]
pub(super) async fn list(State(edge): State<Arc<Edge>>, _: Who) -> Json<Reply> {
    Reply::of(edge.hub.workflows().iter().map(|workflow| summary(workflow)).collect())
}

/// Describe a workflow
#[utoipa::path(
    get, path = "/workflows/{id}", tag = "Workflow Management", params(("id" = String, Path)),
    responses((status = 200, description = "The workflow", body = Reply), (status = 404, description = "Workflow not found"))
)]
pub(super) async fn read(State(edge): State<Arc<Edge>>, _: Who, Path(id): Path<String>) -> Result<Json<Reply>, Problem> {
    let workflow = find(&edge, &id)?;
    let steps: Vec<Value> = workflow
        .steps
        .iter()
        .enumerate()
        .map(|(index, step)| {
            let resume = if let Action::Suspend { resume, .. } = &step.action { resume.clone() } else { None };
            json!({
                "id": step.id, "name": step.name.as_deref().unwrap_or(&step.id), "purpose": step.purpose, "type": step_type(&step.action),
                "kind": step.action.kind(), "stepIndex": index, "resumeSchema": resume, "node_id": format!("workflow-step_{id}_{index}"),
            })
        })
        .collect();
    let mut view = summary(&workflow);
    (view["steps"], view["inputSchema"]) = (steps.into(), workflow.input.clone().unwrap_or_default());
    (view["suspendSchema"], view["resumeSchema"]) = (json!({ "type": "unknown" }), json!({ "type": "unknown" }));
    Ok(Reply::of(view))
}

/// Execute a workflow
///
/// Answers when the execution is over, or waits for somebody.
#[utoipa::path(
    post, path = "/workflows/{id}/execute", tag = "Workflow Management", params(("id" = String, Path)), request_body = ExecuteBody,
    responses(
        (status = 200, description = "How it stands: `completed`, `suspended`, `error` or `cancelled`", body = Reply),
        (status = 400, description = "The input does not fit"), (status = 404, description = "Workflow not found"),
        (status = 409, description = "The executionId was used before")
    )
)]
pub(super) async fn execute(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    Path(id): Path<String>,
    ApiJson(body): ApiJson<ExecuteBody>,
) -> Response {
    let work = async {
        let workflow = find(&edge, &id)?;
        let mut run = begin(&edge, &who, &workflow, body).await?;
        let story = outcome(&edge, &who, &id, &mut run).await?;
        Ok(Reply::of(story.outcome()))
    };
    limited(&edge, RateCategory::Task, &who, work).await
}

/// Stream a workflow's execution
///
/// Server-Sent Events from `workflow-start` on. Closed after `workflow-suspended` and `workflow-result`; the same execution is attached to again with
/// `GET …/executions/{executionId}/stream`.
#[utoipa::path(
    post, path = "/workflows/{id}/stream", tag = "Workflow Management", params(("id" = String, Path)), request_body = ExecuteBody,
    responses(
        (status = 200, description = "The execution as it goes on", content_type = "text/event-stream", body = String),
        (status = 400, description = "The input does not fit"), (status = 404, description = "Workflow not found"),
        (status = 409, description = "The executionId was used before")
    )
)]
pub(super) async fn stream(
    State(edge): State<Arc<Edge>>,
    Who(who): Who,
    from: ClientAddress,
    Path(id): Path<String>,
    ApiJson(body): ApiJson<ExecuteBody>,
) -> Response {
    let work = async {
        let workflow = find(&edge, &id)?;
        let stays = body.options.as_ref().is_some_and(|options| options.get("stayOpen") == Some(&Value::Bool(true)));
        let run = begin(&edge, &who, &workflow, body).await?;
        let narrator = Narrator::new(run.task, run.task.to_string(), &id, edge.hub.workflows());
        let frames = ExecutionFrames { narrator, told: 0, skip: 0, stays };
        let listener = Listener { edge: &edge, who: &who, from, last_event_id: None };
        sse::adapted(listener, run.reader, frames).await
    };
    limited(&edge, RateCategory::Task, &who, work).await
}

/// The workflow with this id.
///
/// # Errors
/// 404.
pub(super) fn find(edge: &Edge, id: &str) -> Result<Arc<Workflow>, Problem> {
    edge.hub.workflows().get(id).cloned().ok_or_else(|| Problem::new(ErrorCode::NotFound, "Workflow not found"))
}

fn summary(workflow: &Workflow) -> Value {
    json!({ "id": workflow.id, "name": workflow.name, "purpose": workflow.purpose, "stepsCount": workflow.steps.len(), "status": "idle" })
}

async fn begin(edge: &Arc<Edge>, who: &Principal, workflow: &Workflow, body: ExecuteBody) -> Result<Run, Problem> {
    let ExecuteBody { input, options } = body;
    let options = options.unwrap_or_default();
    let execution = NewExecution::check(&workflow.id, input, edge.hub.workflows()).map_err(problem)?;
    begin_execution(edge, who, execution, &options).await
}

/// Makes an execution, in a session of its own: executions of one conversation do not wait for each other.
///
/// # Errors
/// What it is refused with; 409 for an id that was used before.
pub(super) async fn begin_execution(
    edge: &Arc<Edge>,
    who: &Principal,
    execution: NewExecution,
    options: &Map<String, Value>,
) -> Result<Run, Problem> {
    let workflow = execution.workflow.clone();
    let chosen_id = text_of(options, "executionId");
    let task_id = chosen_id.as_deref().map(|id| story::task_id(who, &workflow, id));
    let mut kept = chosen(options, &["userId", "conversationId", "executionId", "userContext", "metadata"]);
    if let Some(context) = options.get("context").filter(|context| context.is_object()) {
        kept.entry("userContext").or_insert(context.clone());
    }
    let metadata = json!({ "dialect": DIALECT, "workflow": workflow });
    let session = CreateSession {
        session_id: task_id.map(|task| SessionId::from_uuid(super::id_of(who.user(), "execution.session", &[&task.to_string()]))),
        agent: None,
        tools: Some(Vec::new()),
        model: None,
        name: Some(workflow.chars().take(60).collect()),
        tags: Some(vec![format!("workflow:{workflow}")]),
        metadata: metadata.as_object().cloned(),
    };
    let session = NewSession::check(session, edge.hub.agents(), &[], false).map_err(problem)?;
    let submit = SubmitTask {
        session_id: None,
        prompt: None,
        task_id: Some(task_id.unwrap_or_else(TaskId::random)),
        on_busy: None,
        options: (!kept.is_empty()).then_some(kept),
        timeout_ms: None,
        context: None,
        tools: None,
        workflow: Some(workflow),
        input: Some(execution.input.clone()),
    };
    let task = NewTask::check(submit, edge.hub.settings(), edge.hub.workflows()).map_err(problem)?;
    let task = NewTask { execution: Some(execution), counted: false, id_chosen: chosen_id.is_some(), ..task };
    let used = || Problem::new(ErrorCode::IdempotencyConflict, "The executionId was used before");
    match run::start(edge, who, NewSession { counted: false, ..session }, task).await {
        Ok(run) if run.repeated => Err(used()),
        Err(problem) if chosen_id.is_some() && problem.code == ErrorCode::NotFound => Err(used()),
        other => other,
    }
}

/// Waits until an execution is over or waits for somebody, and tells it.
///
/// # Errors
/// When it cannot be read.
pub(super) async fn outcome(edge: &Arc<Edge>, who: &Principal, workflow: &str, run: &mut Run) -> Result<Story, Problem> {
    let mut narrator = Narrator::new(run.task, String::new(), workflow, edge.hub.workflows());
    run::follow(edge, &mut run.reader, |event| {
        narrator.tell(event);
        narrator.status.rests()
    })
    .await?;
    story::find(&edge.hub, who, workflow, &run.task.to_string()).await
}

/// The frames of an execution, numbered from 1 whoever reads them and whenever.
pub(super) struct ExecutionFrames {
    pub(super) narrator: Narrator,
    /// Frames of the execution so far.
    pub(super) told: u64,
    /// Frames that the client has seen.
    pub(super) skip: u64,
    /// Whether the stream goes on over suspensions.
    pub(super) stays: bool,
}

impl Frames for ExecutionFrames {
    fn write(&mut self, event: &LogEvent, _: &Epoch, out: &mut Vec<u8>) -> bool {
        let Some(event) = decoded(event) else { return false };
        let told = self.narrator.tell(&event);
        let moved = !told.is_empty();
        for value in told {
            self.say(&value, out);
        }
        let closes = moved && !self.stays && self.narrator.status.rests() && !self.narrator.status.is_over();
        if closes {
            // Not counted: it is no event of the execution, and who stays does not see it.
            write_frame(None, &self.narrator.result(event.at), out);
        }
        closes || self.narrator.status.is_over()
    }
}

impl ExecutionFrames {
    fn say(&mut self, value: &Value, out: &mut Vec<u8>) {
        self.told += 1;
        if self.told > self.skip {
            write_frame(Some(self.told), value, out);
        }
    }
}

fn write_frame(id: Option<u64>, value: &Value, out: &mut Vec<u8>) {
    if let Some(id) = id {
        out.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    block(out, value);
}
