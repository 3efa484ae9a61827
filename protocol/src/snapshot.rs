//! What a session looks like at one position of its log, for a reader that does not replay it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    cursor::Seq,
    error_code::ErrorCode,
    event::{InputRequested, Role, TaskSuspended, Usage},
    ids::{SessionId, TaskId},
    timestamp::Timestamp,
};

/// Messages a snapshot carries at most; older ones are read by page.
pub const SNAPSHOT_MESSAGES: usize = 100;
/// Text of all messages a snapshot carries, in bytes; older ones are read by page. The newest is always there.
pub const SNAPSHOT_MESSAGE_BYTES: usize = 256 * 1024;
/// Finished tasks a snapshot carries at most, the newest; unfinished ones are always there.
pub const SNAPSHOT_FINISHED_TASKS: usize = 20;

/// Everything up to and including `head` of the `session_attached` it comes in, and nothing after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The session.
    pub session: SessionInfo,
    /// The conversation, oldest first: its newest messages, at most 100 and at most 256 KiB of text, but always the very newest.
    pub messages: Vec<MessageInfo>,
    /// How many older messages there are; `GET …/sessions/:id/messages?before=` reads them.
    pub earlier_messages: u64,
    /// Every unfinished task and the newest finished ones, at most 20 of these; oldest first.
    pub tasks: Vec<TaskInfo>,
    /// Tasks that wait for their turn, in order.
    pub queue: Vec<TaskId>,
    /// Requests for input nobody has answered.
    pub pending_inputs: Vec<PendingInput>,
}

/// What a session is, without its content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionInfo {
    /// Its id.
    pub id: SessionId,
    /// Whether it is in use.
    pub status: SessionStatus,
    /// The agent that answers.
    pub agent: String,
    /// The tools it may call.
    pub tools: Vec<String>,
    /// The model asked for, if one was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<String>,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Words to find it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// What the client keeps with it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub metadata: Option<Map<String, Value>>,
    /// Tasks it ever had.
    pub task_count: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its log last grew.
    pub updated_at: Timestamp,
}

/// Whether a session is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionStatus {
    /// It takes commands.
    Active,
    /// It takes commands, but the last socket that followed it is gone.
    Disconnected,
    /// It is over; its log can be read.
    Ended,
}

/// One message of the conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageInfo {
    /// Unique in the session.
    pub message_id: String,
    /// Who speaks.
    pub role: Role,
    /// What. Of the message a task is streaming just now: what has been streamed.
    pub text: String,
    /// The task it belongs to.
    pub task_id: TaskId,
    /// True when it was broken off, or is still being streamed.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub partial: bool,
    /// The event that made it, or began it.
    pub seq: Seq,
}

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// Waits for its turn.
    Queued,
    /// At work.
    Running,
    /// Waits for approval, input or resume.
    Suspended,
    /// Ended with a result.
    Completed,
    /// Broke off.
    Failed,
    /// Was cancelled.
    Cancelled,
    /// Ran out of time.
    Timeout,
}

impl TaskStatus {
    /// Every state.
    pub const ALL: &'static [TaskStatus] = &[
        TaskStatus::Queued,
        TaskStatus::Running,
        TaskStatus::Suspended,
        TaskStatus::Completed,
        TaskStatus::Failed,
        TaskStatus::Cancelled,
        TaskStatus::Timeout,
    ];

    /// The state as it is written on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            TaskStatus::Queued => "queued",
            TaskStatus::Running => "running",
            TaskStatus::Suspended => "suspended",
            TaskStatus::Completed => "completed",
            TaskStatus::Failed => "failed",
            TaskStatus::Cancelled => "cancelled",
            TaskStatus::Timeout => "timeout",
        }
    }

    /// Whether nothing more can happen to the task.
    pub const fn is_terminal(self) -> bool {
        matches!(self, TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Cancelled | TaskStatus::Timeout)
    }
}

/// One task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskInfo {
    /// Its id.
    pub task_id: TaskId,
    /// Where it stands.
    pub status: TaskStatus,
    /// What the agent is asked; absent for a workflow.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prompt: Option<String>,
    /// The workflow it executes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub workflow: Option<String>,
    /// What it waits for, while it is suspended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub suspension: Option<Suspension>,
    /// The agent that works on it, where it is not the session's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<String>,
    /// The task that handed it to a sub-agent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent_task_id: Option<TaskId>,
    /// How often it was started.
    pub attempt: u32,
    /// Steps that ended.
    pub steps_completed: u32,
    /// True once it can only end as cancelled.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub cancel_requested: bool,
    /// The message it is streaming, or was when it broke off.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub partial: Option<PartialText>,
    /// What came out.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "crate::event::null_is_a_value")]
    pub result: Option<Value>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<TaskError>,
    /// Model tokens of all its calls so far.
    pub usage: Usage,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it first ran.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub completed_at: Option<Timestamp>,
    /// Its `task_queued`: read the log from just before it to see all of it.
    pub first_seq: Seq,
}

/// Why a task does not go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Suspension {
    /// Since when.
    pub at: Timestamp,
    /// Why, where, and for what data.
    #[serde(flatten)]
    pub what: TaskSuspended,
}

/// Text that is not, or never became, a whole message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartialText {
    /// The message.
    pub message_id: String,
    /// Its text so far.
    pub text: String,
}

/// Why a task failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskError {
    /// What went wrong.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
}

/// A request for input nobody has answered, with the task that waits for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingInput {
    /// The task that waits.
    pub task_id: TaskId,
    /// The request, as it was announced.
    #[serde(flatten)]
    pub request: InputRequested,
}
