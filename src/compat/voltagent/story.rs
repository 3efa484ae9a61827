//! Executions as they are told afterwards: found by the client's id, read from the log.

use agent_hub_protocol::{Event, EventBody, SessionId, TaskId, Timestamp, event::TaskQueued};
use serde_json::{Map, Value, json};

use super::{
    id_of,
    narrator::{Narrator, Status},
    text_of,
};
use crate::{
    compat::run::problem,
    runtime::{Hub, Principal, Refusal},
    store::SessionRecord,
    transport::Problem,
};

/// Sessions on one page while looking through them.
const PAGE: usize = 100;
/// Sessions that are looked through for a list; older ones are not on it.
const LOOKED_THROUGH: usize = 1000;

/// An execution, with everything that happened to it.
pub(super) struct Story {
    pub(super) session: SessionId,
    pub(super) task: TaskId,
    pub(super) queued: TaskQueued,
    pub(super) queued_at: Timestamp,
    pub(super) last_at: Timestamp,
    pub(super) first_seq: u64,
    /// As the API tells them.
    pub(super) told: Vec<Value>,
    pub(super) narrator: Narrator,
}

/// The task that an execution's id in a path means: an id of the hub's own, or one that a client has chosen.
pub(super) fn task_id(who: &Principal, workflow: &str, execution: &str) -> TaskId {
    execution.parse().unwrap_or_else(|_| TaskId::from_uuid(id_of(who.user(), "execution", &[workflow, execution])))
}

/// Reads an execution of this workflow.
///
/// # Errors
/// 404 where there is none: also one of another workflow, or of somebody else.
pub(super) async fn find(hub: &Hub, who: &Principal, workflow: &str, execution: &str) -> Result<Story, Problem> {
    let task = task_id(who, workflow, execution);
    let view = hub.task(who, task).await.map_err(not_found)?;
    if view.info.workflow.as_deref() != Some(workflow) {
        return Err(execution_not_found());
    }
    let events = hub.events(who, view.session, view.info.first_seq - 1).await.map_err(problem)?;
    let mut stories = told(hub, view.session, &events);
    let at = stories.iter().position(|story| story.task == task).ok_or_else(execution_not_found)?;
    Ok(stories.swap_remove(at))
}

/// The user's executions, newest first: those that `wanted` lets pass.
///
/// # Errors
/// When the store cannot be read.
pub(super) async fn all(hub: &Hub, who: &Principal, wanted: impl Fn(&Story) -> bool) -> Result<Vec<Story>, Problem> {
    let mut found = Vec::new();
    let may_have = |record: &SessionRecord| record.task_count > 0;
    for record in sessions(hub, who, may_have).await? {
        let events = hub.events(who, record.id, 0).await.map_err(problem)?;
        found.extend(told(hub, record.id, &events).into_iter().filter(&wanted));
    }
    found.sort_by_key(|story| std::cmp::Reverse(story.queued_at));
    Ok(found)
}

/// The user's sessions, newest first: those that `wanted` lets pass.
///
/// # Errors
/// When the store cannot be read.
pub(super) async fn sessions(hub: &Hub, who: &Principal, wanted: impl Fn(&SessionRecord) -> bool) -> Result<Vec<SessionRecord>, Problem> {
    let mut found = Vec::new();
    let (mut before, mut looked) = (None, 0);
    loop {
        let page = hub.list_sessions(who, before, PAGE).await.map_err(problem)?;
        looked += page.sessions.len();
        found.extend(page.sessions.into_iter().filter(&wanted));
        before = page.next;
        if before.is_none() || looked >= LOOKED_THROUGH {
            return Ok(found);
        }
    }
}

/// Every execution among events.
fn told(hub: &Hub, session: SessionId, events: &[Event]) -> Vec<Story> {
    let mut stories: Vec<Story> = Vec::new();
    for event in events {
        let Some(task) = event.task_id else { continue };
        if let EventBody::TaskQueued(queued) = &event.body
            && let Some(workflow) = &queued.workflow
        {
            stories.push(Story {
                session,
                task,
                queued: queued.clone(),
                queued_at: event.at,
                last_at: event.at,
                first_seq: event.seq,
                told: Vec::new(),
                narrator: Narrator::new(task, task.to_string(), workflow, hub.workflows()),
            });
        }
        if let Some(story) = stories.iter_mut().find(|story| story.task == task) {
            story.last_at = event.at;
            story.told.extend(story.narrator.tell(event));
        }
    }
    stories
}

impl Story {
    /// What the client said with it.
    pub(super) fn option(&self, name: &str) -> Option<String> {
        text_of(self.queued.options.as_ref()?, name)
    }

    pub(super) fn workflow(&self) -> &str {
        self.queued.workflow.as_deref().unwrap_or_default()
    }

    /// The answer to whoever executed or resumed it.
    pub(super) fn outcome(&self) -> Value {
        let status = &self.narrator.status;
        let mut data = json!({
            "executionId": self.narrator.execution(),
            "startAt": self.queued_at,
            "endAt": status.is_over().then_some(self.last_at),
            "status": status.as_str(),
            "result": if let Status::Completed(result) = status { result.clone() } else { Value::Null },
            "taskId": self.task,
            "sessionId": self.session,
        });
        if matches!(status, Status::Suspended { .. }) {
            data["suspension"] = self.narrator.suspension();
        }
        if let Some(error) = self.narrator.error() {
            data["error"] = error;
        }
        if let Status::Cancelled { reason } = status {
            data["cancellation"] = json!({ "cancelledAt": self.last_at, "reason": reason });
        }
        data
    }

    /// Everything there is to say about it.
    pub(super) fn state(&self, hub: &Hub) -> Value {
        let name = hub.workflows().get(self.workflow()).map(|workflow| workflow.name.clone());
        let mut state = self.outcome();
        let more = json!({
            "id": self.narrator.execution(),
            "workflowId": self.workflow(),
            "workflowName": name,
            "input": self.queued.input,
            "output": state["result"],
            "context": self.narrator.user_context(),
            "userContext": self.narrator.user_context(),
            "workflowState": {},
            "suspension": self.narrator.suspension(),
            "events": self.told,
            "steps": self.told.iter().filter(|event| event["type"] == "step-complete").collect::<Vec<_>>(),
            "userId": self.option("userId"),
            "conversationId": self.option("conversationId"),
            "replayedFromExecutionId": self.queued.replay.as_ref().map(|replay| replay.task_id),
            "replayFromStepId": self.queued.replay.as_ref().map(|replay| replay.step_id.clone()),
            "metadata": self.queued.options.as_ref().and_then(|options| options.get("metadata")).cloned().unwrap_or_else(|| json!({})),
            "createdAt": self.queued_at,
            "updatedAt": self.last_at,
            "startTime": self.queued_at,
            "endTime": state["endAt"],
        });
        if let (Value::Object(state), Value::Object(more)) = (&mut state, more) {
            state.extend(more);
        }
        state
    }
}

/// What is not there, or is not the client's.
pub(super) fn execution_not_found() -> Problem {
    Problem::new(agent_hub_protocol::ErrorCode::NotFound, "Workflow execution not found")
}

fn not_found(refusal: Refusal) -> Problem {
    use agent_hub_protocol::ErrorCode::{Forbidden, TaskNotFound};
    if matches!(refusal.code, TaskNotFound | Forbidden) { execution_not_found() } else { problem(refusal) }
}

/// A map with what a client gave of these.
pub(super) fn chosen(options: &Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    names.iter().filter_map(|name| Some(((*name).to_owned(), options.get(*name)?.clone()))).filter(|(_, value)| !value.is_null()).collect()
}
