//! Server → client, from the log: what happened in a session, in order. The same record is live, stored and replayed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, ser::SerializeMap};
use serde_json::{Map, Value, value::RawValue};

use crate::{
    client_message::{ClientTool, InputOutcome, OnBusy, SteerWhen},
    cursor::{Epoch, Seq},
    error_code::ErrorCode,
    ids::{SessionId, TaskId},
    timestamp::Timestamp,
};

/// One record of a session's log: `{type, sessionId, taskId?, seq, at, data}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Whose log.
    pub session_id: SessionId,
    /// The task it is about, if it is about one.
    pub task_id: Option<TaskId>,
    /// Its place, dense from 1.
    pub seq: Seq,
    /// When it was put in its place.
    pub at: Timestamp,
    /// What happened.
    pub body: EventBody,
}

macro_rules! events {
    ($($(#[doc = $doc:literal])* $name:ident($body:ty) = $text:literal;)*) => {
        /// What happened: the `type` and `data` of an event.
        #[derive(Clone, Debug, PartialEq)]
        pub enum EventBody {
            $($(#[doc = $doc])* $name($body),)*
            /// A type this program does not know, kept as it came. Readers pass over it.
            Unknown(UnknownEvent),
        }

        /// The `type` of an event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum EventType { $($(#[doc = $doc])* $name,)* /** A type this program does not know. */ Unknown }

        impl EventType {
            /// Every type this program knows.
            pub const ALL: &'static [EventType] = &[$(EventType::$name,)*];

            /// The `type` on the wire; `"unknown"` for [`EventType::Unknown`].
            pub const fn as_str(self) -> &'static str {
                match self { $(EventType::$name => $text,)* EventType::Unknown => "unknown" }
            }

            /// What such an event says; the text of the generated documents.
            pub const fn doc(self) -> &'static str {
                match self {
                    $(EventType::$name => concat!($($doc, "\n"),*),)*
                    EventType::Unknown => "A type this program does not know.",
                }
            }

            /// The type with this name; [`EventType::Unknown`] for any other.
            pub fn from_name(name: &str) -> EventType {
                match name { $($text => EventType::$name,)* _ => EventType::Unknown }
            }
        }

        impl EventBody {
            /// Its type.
            pub const fn event_type(&self) -> EventType {
                match self { $(EventBody::$name(_) => EventType::$name,)* EventBody::Unknown(_) => EventType::Unknown }
            }

            fn from_parts(kind: &str, data: &RawValue) -> Result<Self, serde_json::Error> {
                Ok(match kind {
                    $($text => EventBody::$name(serde_json::from_str(data.get())?),)*
                    _ => EventBody::Unknown(UnknownEvent {
                        name: kind.to_owned(),
                        data: serde_json::from_str(data.get())?,
                    }),
                })
            }

            /// The name and schema of every event's `data`, for the generated documents.
            pub fn schemas(generator: &mut schemars::SchemaGenerator) -> Vec<(&'static str, schemars::Schema)> {
                vec![$(($text, generator.subschema_for::<$body>()),)*]
            }
        }

        impl Serialize for Event {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                match &self.body {
                    EventBody::Unknown(unknown) => map.serialize_entry("type", &unknown.name)?,
                    known => map.serialize_entry("type", known.event_type().as_str())?,
                }
                map.serialize_entry("sessionId", &self.session_id)?;
                if let Some(task) = &self.task_id {
                    map.serialize_entry("taskId", task)?;
                }
                map.serialize_entry("seq", &self.seq)?;
                map.serialize_entry("at", &self.at)?;
                match &self.body {
                    $(EventBody::$name(data) => map.serialize_entry("data", data)?,)*
                    EventBody::Unknown(unknown) => map.serialize_entry("data", &unknown.data)?,
                }
                map.end()
            }
        }
    };
}

events! {
    /// The first event of every log.
    SessionCreated(SessionCreated) = "session_created";
    /// Name, tags, metadata or model changed; only what changed is given.
    SessionUpdated(SessionUpdated) = "session_updated";
    /// The last event of a session. Its log stays readable unless the reason is `deleted`.
    SessionEnded(SessionEnded) = "session_ended";
    /// A task was accepted.
    TaskQueued(TaskQueued) = "task_queued";
    /// A task got its slot: its prompt enters the conversation now.
    TaskStarted(TaskStarted) = "task_started";
    /// A model call or tool call of the task began or ended.
    Step(Step) = "step";
    /// Text of the answer. The concatenation of a message's tokens is its text.
    Token(Token) = "token";
    /// Text the model thinks but does not say.
    Reasoning(Reasoning) = "reasoning";
    /// The model calls a tool.
    ToolCall(ToolCall) = "tool_call";
    /// A tool says something while it runs; shown to people, not to the model.
    ToolOutput(ToolOutput) = "tool_output";
    /// A tool answered.
    ToolResult(ToolResult) = "tool_result";
    /// A finished block of text, authoritative. Prompts and steering inputs are not repeated here: `task_started` and `steer_applied` name them.
    Message(Message) = "message";
    /// Model tokens used by one call.
    Usage(Usage) = "usage";
    /// The task waits for a person.
    InputRequested(InputRequested) = "input_requested";
    /// A person answered, or the request expired or went with its task.
    InputResolved(InputResolved) = "input_resolved";
    /// A steering input was taken in; exactly one `steer_applied` or `steer_rejected` follows.
    SteerAccepted(SteerAccepted) = "steer_accepted";
    /// A steering input has entered the conversation.
    SteerApplied(SteerApplied) = "steer_applied";
    /// A steering input came too late to be used; nothing was changed.
    SteerRejected(SteerRejected) = "steer_rejected";
    /// Something was not as asked, and the task goes on: an option without effect, an answer that has to be mended.
    Warning(Warning) = "warning";
    /// Somebody asked to cancel the task: from here on it ends as cancelled, whatever it still does.
    CancelRequested(CancelRequested) = "cancel_requested";
    /// The task waits, for a person or for `resume_task`, and holds no slot.
    TaskSuspended(TaskSuspended) = "task_suspended";
    /// The suspended task goes on.
    TaskResumed(TaskResumed) = "task_resumed";
    /// The hub stopped while the task ran; it runs again from its last durable step. Its tokens with `seq > discardAfter` before this event are void.
    TaskRecovering(TaskRecovering) = "task_recovering";
    /// Terminal: the task is done and its answer is whole.
    TaskCompleted(TaskCompleted) = "task_completed";
    /// Terminal: the task broke off.
    TaskFailed(TaskFailed) = "task_failed";
    /// Terminal: the task was cancelled, and its work has stopped.
    TaskCancelled(TaskCancelled) = "task_cancelled";
    /// Terminal: the task's deadline passed.
    TaskTimeout(TaskTimeout) = "task_timeout";
}

impl EventType {
    /// Whether it is about a task, and so always has a `taskId`; otherwise it is about the session.
    pub const fn is_about_task(self) -> bool {
        !matches!(self, EventType::SessionCreated | EventType::SessionUpdated | EventType::SessionEnded | EventType::Unknown)
    }

    /// Whether it is the last event of its task.
    pub const fn is_terminal(self) -> bool {
        matches!(self, EventType::TaskCompleted | EventType::TaskFailed | EventType::TaskCancelled | EventType::TaskTimeout)
    }
}

impl Event {
    /// Reads the wire text of an event. Unknown types and fields pass.
    ///
    /// # Errors
    /// When the text is no JSON object with `type`, `sessionId`, `seq`, `at` and `data`, or the data does not fit a known type.
    pub fn decode(text: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Envelope<'a> {
            #[serde(rename = "type", borrow)]
            kind: std::borrow::Cow<'a, str>,
            session_id: SessionId,
            task_id: Option<TaskId>,
            seq: Seq,
            at: Timestamp,
            #[serde(borrow)]
            data: &'a RawValue,
        }
        let envelope: Envelope<'_> = serde_json::from_str(text)?;
        Ok(Self {
            session_id: envelope.session_id,
            task_id: envelope.task_id,
            seq: envelope.seq,
            at: envelope.at,
            body: EventBody::from_parts(&envelope.kind, envelope.data)?,
        })
    }

    /// Appends the wire text to `out`.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        // Writing to a Vec cannot fail, and every key is text.
        let _ = serde_json::to_writer(out, self);
    }

    /// The wire text.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// An event of a type this program does not know.
#[derive(Clone, Debug, PartialEq)]
pub struct UnknownEvent {
    /// Its `type`.
    pub name: String,
    /// Its `data`.
    pub data: Value,
}

/// For fields where JSON `null` is something that was said, for example by a tool that returned nothing: serde would read it as absent,
/// and the event would not be written again as it was read.
pub(crate) fn null_is_a_value<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

macro_rules! data {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $kind:ty,)* })*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
            #[serde(rename_all = "camelCase")]
            pub struct $name { $($(#[$field_meta])* pub $field: $kind,)* }
        )*
    };
}

data! {
    /// See [`EventBody::SessionCreated`].
    SessionCreated {
        /// The incarnation of the log at its birth. `session_attached.epoch` says the present one.
        epoch: Epoch,
        /// The agent that answers.
        agent: String,
        /// The tools it may call.
        tools: Vec<String>,
        /// The model asked for, if one was.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        model: Option<String>,
        /// A name for people.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        name: Option<String>,
        /// Words to find it by.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        tags: Vec<String>,
        /// What the client keeps with it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        metadata: Option<Map<String, Value>>,
        /// When.
        created_at: Timestamp,
    }

    /// See [`EventBody::SessionUpdated`].
    SessionUpdated {
        /// The new name.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        name: Option<String>,
        /// All tags from now on.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        tags: Option<Vec<String>>,
        /// All metadata from now on.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        metadata: Option<Map<String, Value>>,
        /// The model from now on.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        model: Option<String>,
        /// All tools that clients execute from now on.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        client_tools: Option<Vec<ClientTool>>,
    }

    /// See [`EventBody::SessionEnded`].
    SessionEnded {
        /// `ended` by its owner, `deleted`, or `expired` after idle time.
        reason: String,
    }

    /// See [`EventBody::TaskQueued`].
    TaskQueued {
        /// What the agent is asked; absent for a workflow.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        prompt: Option<String>,
        /// How many unfinished tasks of the session are ahead of it.
        position: u32,
        /// Its deadline in milliseconds of running time.
        timeout_ms: u64,
        /// What was asked for while busy, where it was not `queue`.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        on_busy: Option<OnBusy>,
        /// Options of the model call.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        options: Option<Map<String, Value>>,
        /// Put before the prompt as a message of its own.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        context: Option<String>,
        /// The task's own tools.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        tools: Option<Vec<String>>,
        /// The workflow it executes.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        workflow: Option<String>,
        /// The workflow's input.
        #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "null_is_a_value")]
        input: Option<Value>,
        /// For a workflow that repeats another execution from a step on: what the steps before it came to.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        replay: Option<Box<Replay>>,
        /// The agent that works on it, where it is not the session's: for the task of a sub-agent.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        agent: Option<String>,
        /// The task that handed it to a sub-agent. What such a task says is not part of the conversation.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        parent_task_id: Option<TaskId>,
        /// The call of the parent that its result answers.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        call_id: Option<String>,
    }

    /// Where an execution of a workflow begins that is not its first.
    Replay {
        /// The execution it repeats.
        task_id: TaskId,
        /// The step it begins at.
        step_id: String,
        /// What the steps before that came to, by step.
        outputs: Map<String, Value>,
        /// What the step is given instead of what it was given then.
        #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "null_is_a_value")]
        input: Option<Value>,
    }

    /// See [`EventBody::TaskStarted`].
    TaskStarted {
        /// 1 for the first start; more after a recovery.
        attempt: u32,
        /// The id of the prompt as a message of the conversation.
        message_id: String,
    }

    /// See [`EventBody::Step`].
    Step {
        /// Counts the steps of the task from 1; `started` and `completed` of one step have the same.
        index: u32,
        /// `model` for a model call, the tool's name for a tool call; of a workflow, the step's place in it (`review`, `each[2].send`).
        name: String,
        /// The tool, for a tool call.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        tool: Option<String>,
        /// The call, for a tool call.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        call_id: Option<String>,
        /// Where it stands.
        phase: StepPhase,
        /// Until when it waits, where it waits for a time or not for ever.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        until: Option<Timestamp>,
        /// What went in, on `started`.
        #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "null_is_a_value")]
        input: Option<Value>,
        /// What came out, on `completed`; the reason, on `failed`.
        #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "null_is_a_value")]
        output: Option<Value>,
    }

    /// See [`EventBody::Token`].
    Token {
        /// One or more model tokens.
        token: String,
        /// The message they belong to.
        message_id: String,
    }

    /// See [`EventBody::Reasoning`].
    Reasoning {
        /// One or more model tokens.
        token: String,
    }

    /// See [`EventBody::ToolCall`].
    ToolCall {
        /// Unique in the session.
        call_id: String,
        /// The tool.
        tool: String,
        /// What it is called with.
        arguments: Value,
    }

    /// See [`EventBody::ToolOutput`].
    ToolOutput {
        /// Which call.
        call_id: String,
        /// What it says, as far as it has come.
        output: String,
    }

    /// See [`EventBody::ToolResult`].
    ToolResult {
        /// Which call.
        call_id: String,
        /// What it returned.
        #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "null_is_a_value")]
        output: Option<Value>,
        /// Why it failed; exactly one of the two is given.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        error: Option<String>,
        /// What kind of failure, in a word: `unknown_tool`, `unavailable`, `invalid_arguments`, `refused`, `not_found`, `timed_out`,
        /// `too_large`, `failed`. More may be added.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        code: Option<String>,
        /// How long it took, in milliseconds.
        duration_ms: u64,
    }

    /// See [`EventBody::Message`].
    Message {
        /// Unique in the session.
        message_id: String,
        /// Who speaks.
        role: Role,
        /// The whole text, exactly the concatenation of its tokens.
        text: String,
        /// True when it was broken off.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        partial: bool,
    }

    /// See [`EventBody::Usage`].
    #[derive(Copy, Default)]
    Usage {
        /// Tokens read by the model.
        input_tokens: u64,
        /// Tokens written by it.
        output_tokens: u64,
    }

    /// See [`EventBody::InputRequested`].
    InputRequested {
        /// Unique in the session.
        request_id: String,
        /// What is wanted.
        kind: InputKind,
        /// The question, for people.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        prompt: Option<String>,
        /// What the payload must look like (JSON Schema).
        #[serde(skip_serializing_if = "Option::is_none", default)]
        schema: Option<Value>,
        /// The call that waits.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        call_id: Option<String>,
        /// When it is resolved as expired, if nobody answers.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        expires_at: Option<Timestamp>,
    }

    /// See [`EventBody::InputResolved`].
    InputResolved {
        /// Which request.
        request_id: String,
        /// How.
        outcome: ResolvedOutcome,
        /// Who: a user, or `hub`.
        by: String,
        /// What was answered.
        #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "null_is_a_value")]
        payload: Option<Value>,
        /// The arguments to call the tool with instead.
        #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "null_is_a_value")]
        edited_arguments: Option<Value>,
    }

    /// See [`EventBody::SteerAccepted`].
    SteerAccepted {
        /// Which.
        steer_id: TaskId,
        /// What the agent is told.
        input: String,
        /// When it takes effect.
        when: SteerWhen,
    }

    /// See [`EventBody::SteerApplied`].
    SteerApplied {
        /// Which.
        steer_id: TaskId,
        /// The step before whose model call it entered the conversation.
        step: u32,
        /// Its id as a message of the conversation.
        message_id: String,
        /// What the agent is told, for readers that came after `steer_accepted`.
        input: String,
    }

    /// See [`EventBody::SteerRejected`].
    SteerRejected {
        /// Which.
        steer_id: TaskId,
        /// Why.
        reason: String,
        /// What the agent would have been told, so that it can be sent again.
        input: String,
    }

    /// See [`EventBody::Warning`].
    Warning {
        /// What kind, in a word: `option_ignored`, `answer_invalid`. More may be added.
        code: String,
        /// For people.
        message: String,
        /// The options that have no effect.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        options: Vec<String>,
    }

    /// See [`EventBody::CancelRequested`].
    CancelRequested {
        /// Who: a user, or `hub`.
        by: String,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
        /// True when the task is taken out of the conversation.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        rollback: bool,
    }

    /// See [`EventBody::TaskSuspended`].
    TaskSuspended {
        /// `input` while it waits for a person, `sleep` while a workflow waits for a time, otherwise what was given.
        reason: String,
        /// The step of a workflow that waits for data.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        step_id: Option<String>,
        /// What that data must look like (JSON Schema).
        #[serde(skip_serializing_if = "Option::is_none", default)]
        schema: Option<Value>,
        /// What the step says to whoever resumes it.
        #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "null_is_a_value")]
        data: Option<Value>,
        /// When it goes on, or ends, by itself.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        expires_at: Option<Timestamp>,
    }

    /// See [`EventBody::TaskResumed`].
    #[derive(Default)]
    TaskResumed {
        /// Data given with the resume.
        #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "null_is_a_value")]
        data: Option<Value>,
        /// The step to go on at.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        step_id: Option<String>,
    }

    /// See [`EventBody::TaskRecovering`].
    TaskRecovering {
        /// Which attempt starts now.
        attempt: u32,
        /// The task's tokens behind this one are void.
        discard_after: Seq,
    }

    /// See [`EventBody::TaskCompleted`].
    TaskCompleted {
        /// The exact text of the last message; of a workflow, its output.
        result: Value,
        /// Model tokens of all its calls.
        usage: Usage,
    }

    /// See [`EventBody::TaskFailed`].
    TaskFailed {
        /// What went wrong.
        code: ErrorCode,
        /// For people; never a secret, a prompt or a stack trace.
        message: String,
        /// Whether the same task may succeed later.
        retryable: bool,
        /// The text streamed until then; it stays in the conversation.
        #[serde(skip_serializing_if = "String::is_empty", default)]
        partial: String,
        /// The message that text belongs to.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        message_id: Option<String>,
    }

    /// See [`EventBody::TaskCancelled`].
    TaskCancelled {
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
        /// Who: a user, or `hub`.
        by: String,
        /// The text streamed until then; it stays in the conversation unless the task was rolled back.
        partial: String,
        /// Whether the model call and the tools are known to have stopped.
        upstream_stopped: bool,
        /// True when the task is taken out of the conversation.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        rollback: bool,
    }

    /// See [`EventBody::TaskTimeout`].
    TaskTimeout {
        /// The deadline that passed, in milliseconds of running time.
        timeout_ms: u64,
        /// The text streamed until then; it stays in the conversation.
        #[serde(skip_serializing_if = "String::is_empty", default)]
        partial: String,
        /// Whether the model call and the tools are known to have stopped.
        upstream_stopped: bool,
    }
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepPhase {
    /// It began.
    Started,
    /// It ended well.
    Completed,
    /// It ended badly.
    Failed,
}

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A person.
    User,
    /// The agent.
    Assistant,
}

/// What a request for input wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// A yes or no to a tool call, with the chance to edit its arguments.
    Approval,
    /// Data.
    Input,
    /// The result of a tool that a client executes: given by `tool_result`.
    Tool,
}

/// How a request for input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResolvedOutcome {
    /// Somebody said yes.
    Accept,
    /// Somebody said no.
    Reject,
    /// Nobody answered in time.
    Expired,
    /// Its task ended first.
    Withdrawn,
}

impl From<InputOutcome> for ResolvedOutcome {
    fn from(outcome: InputOutcome) -> Self {
        match outcome {
            InputOutcome::Accept => ResolvedOutcome::Accept,
            InputOutcome::Reject => ResolvedOutcome::Reject,
        }
    }
}
