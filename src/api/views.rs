//! What the API shows of sessions and tasks: everything that clients of the first days look for, and more beside it.

use agent_hub_protocol::{
    Cursor, MessageInfo, SessionId, TaskId, Timestamp,
    event::{Role, Usage},
    snapshot::{PartialText, PendingInput, SessionStatus, TaskInfo, TaskStatus},
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::{
    runtime::{
        Principal,
        session::{SessionView, TaskView},
    },
    store::SessionRecord,
};

/// A session that was made.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreatedSession {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub(super) id: SessionId,
    /// `active`, `disconnected` or `ended`.
    #[schema(value_type = String, example = "active")]
    pub(super) status: SessionStatus,
    /// Tools it may call.
    pub(super) tools: Vec<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub(super) created_at: Timestamp,
    /// The agent that answers.
    pub(super) agent: String,
    /// Where its log stands.
    #[schema(value_type = String, example = "5f3a09c1.1")]
    pub(super) cursor: Cursor,
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionBody {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    id: SessionId,
    /// Its owner.
    user_id: String,
    /// `active`, `disconnected` or `ended`.
    #[schema(value_type = String, example = "active")]
    status: SessionStatus,
    /// Tools it may call.
    tools: Vec<String>,
    /// The agent that answers.
    agent: String,
    /// The model asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Words to find it by.
    tags: Vec<String>,
    /// What the client keeps with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// Tasks it ever had.
    task_count: u32,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When its log last grew.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// The newest messages, oldest first.
    messages: Vec<MessageBody>,
    /// How many older ones there are.
    earlier_messages: u64,
    /// Every unfinished task and the newest finished ones, oldest first.
    #[schema(value_type = Vec<String>)]
    tasks: Vec<TaskId>,
    /// Tasks that wait for their turn, in order.
    #[schema(value_type = Vec<String>)]
    queue: Vec<TaskId>,
    /// Requests for input nobody has answered.
    #[schema(value_type = Vec<Object>)]
    pending_inputs: Vec<PendingInput>,
    /// Where its log stands: read on from here with `…/events?after=`.
    #[schema(value_type = String, example = "5f3a09c1.17")]
    cursor: Cursor,
}

/// A message of a conversation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct MessageBody {
    /// `user` or `assistant`.
    #[schema(value_type = String, example = "user")]
    role: Role,
    /// Its text.
    content: String,
    /// Its id in the session.
    message_id: String,
    /// The task it belongs to.
    #[schema(value_type = String, format = Uuid)]
    task_id: TaskId,
    /// Whether it was broken off, or is still being written.
    partial: bool,
    /// The event that made it.
    seq: u64,
}

/// A session in a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionSummary {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    id: SessionId,
    /// `active` or `ended`.
    #[schema(value_type = String, example = "active")]
    status: SessionStatus,
    /// The agent that answers.
    agent: String,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Words to find it by.
    tags: Vec<String>,
    /// Tasks it ever had.
    task_count: u32,
    /// Tasks that are not finished.
    unfinished_tasks: u32,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// A task.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskBody {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    id: TaskId,
    /// Its session.
    #[schema(value_type = String, format = Uuid)]
    session_id: SessionId,
    /// `queued`, `running`, `suspended`, `completed`, `failed`, `cancelled` or `timeout`.
    #[schema(value_type = String, example = "running")]
    status: TaskStatus,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it first ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    /// When it ended; `null` until then.
    #[schema(value_type = Option<String>, format = DateTime)]
    completed_at: Option<Timestamp>,
    /// Steps that ended.
    steps_completed: u32,
    /// Seconds to wait before asking again.
    retry_after: u64,
    /// The result, once it is completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    result: Option<Value>,
    /// Why there is none: failed, cancelled, timeout.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    error: Option<Value>,
    /// What was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    /// How often it was started.
    attempt: u32,
    /// Whether it can only end as cancelled.
    cancel_requested: bool,
    /// The text it is writing, or was when it broke off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    partial: Option<PartialText>,
    /// Model tokens of all its calls so far.
    #[schema(value_type = Object)]
    usage: Usage,
    /// Where its session's log stands.
    #[schema(value_type = String, example = "5f3a09c1.17")]
    cursor: Cursor,
}

impl CreatedSession {
    pub(super) fn of(view: SessionView) -> Self {
        let SessionView { info, cursor, .. } = view;
        Self { id: info.id, status: info.status, tools: info.tools, created_at: info.created_at, agent: info.agent, cursor }
    }
}

impl SessionBody {
    /// `who` is its owner, or would not have got the view.
    pub(super) fn of(view: SessionView, who: &Principal) -> Self {
        let SessionView { info, cursor, snapshot } = view;
        Self {
            id: info.id,
            user_id: who.user().to_owned(),
            status: info.status,
            tools: info.tools,
            agent: info.agent,
            model: info.model,
            name: info.name,
            tags: info.tags,
            metadata: info.metadata,
            task_count: info.task_count,
            created_at: info.created_at,
            updated_at: info.updated_at,
            messages: snapshot.messages.into_iter().map(MessageBody::of).collect(),
            earlier_messages: snapshot.earlier_messages,
            tasks: snapshot.tasks.iter().map(|task| task.task_id).collect(),
            queue: snapshot.queue,
            pending_inputs: snapshot.pending_inputs,
            cursor,
        }
    }
}

impl MessageBody {
    pub(super) fn of(message: MessageInfo) -> Self {
        let MessageInfo { message_id, role, text, task_id, partial, seq } = message;
        Self { role, content: text, message_id, task_id, partial, seq }
    }
}

impl SessionSummary {
    pub(super) fn of(record: SessionRecord) -> Self {
        Self {
            id: record.id,
            status: if record.ended { SessionStatus::Ended } else { SessionStatus::Active },
            agent: record.agent,
            name: record.name,
            tags: record.tags,
            task_count: record.task_count,
            unfinished_tasks: record.unfinished,
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }
}

impl TaskBody {
    pub(super) fn of(view: TaskView) -> Self {
        let TaskView { session, info, cursor, .. } = view;
        let error = error_of(&info);
        let retry_after = retry_after(Timestamp::now().since(info.created_at).as_millis());
        Self {
            id: info.task_id,
            session_id: session,
            status: info.status,
            created_at: info.created_at,
            started_at: info.started_at,
            completed_at: info.completed_at,
            steps_completed: info.steps_completed,
            retry_after,
            result: info.result.filter(|_| info.status == TaskStatus::Completed),
            error,
            prompt: info.prompt,
            attempt: info.attempt,
            cancel_requested: info.cancel_requested,
            partial: info.partial,
            usage: info.usage,
            cursor,
        }
    }
}

/// `error.error` is where clients of the first days find the text.
fn error_of(task: &TaskInfo) -> Option<Value> {
    let (code, message) = match (&task.error, task.status) {
        (Some(error), TaskStatus::Failed) => (error.code.as_str(), error.message.as_str()),
        (None, TaskStatus::Failed) => ("internal", "The task failed"),
        (_, TaskStatus::Cancelled) => ("cancelled", "The task was cancelled"),
        (Some(error), TaskStatus::Timeout) => ("timeout", error.message.as_str()),
        (None, TaskStatus::Timeout) => ("timeout", "Task timed out"),
        (_, TaskStatus::Queued | TaskStatus::Running | TaskStatus::Suspended | TaskStatus::Completed) => return None,
    };
    Some(json!({ "error": message, "code": code, "message": message }))
}

/// Often in the first 5 seconds, less often up to 30, seldom after that.
pub(crate) fn retry_after(age_ms: u128) -> u64 {
    match age_ms {
        0..5000 => 1,
        5000..30_000 => 3,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_grows_with_the_age() {
        let ages = [0, 4999, 5000, 29_999, 30_000, 10_000_000];
        assert_eq!(ages.map(retry_after), [1, 1, 3, 3, 5, 5]);
    }
}
