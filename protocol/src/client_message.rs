//! Client → server. `sessionId` defaults to the connection's current session.

use schemars::JsonSchema;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{Map, Value};

use crate::{
    complaint,
    error_code::ErrorCode,
    ids::{SessionId, TaskId},
    limits,
};

/// One frame from a client: a message, and the `id` that asks for an `ack`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Command {
    /// Echoed in the `ack` or `error`. Without it a success is not acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<CommandId>,
    /// What is asked.
    #[serde(flatten)]
    pub message: ClientMessage,
}

/// A client's own name for a command: a string of at most 128 bytes or a whole number, echoed as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum CommandId {
    /// `7`
    Number(u64),
    /// `"c7"`
    Text(String),
}

macro_rules! client_messages {
    ($($(#[$doc:meta])* $name:ident($body:ty) = $text:literal;)*) => {
        /// What a client may send.
        #[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
        #[serde(tag = "type", rename_all = "snake_case")]
        pub enum ClientMessage { $($(#[$doc])* $name($body),)* }

        impl ClientMessage {
            /// Every `type` a client may send.
            pub const TYPES: &'static [&'static str] = &[$($text,)*];

            /// The `type` on the wire; echoed as `received` in the `ack`.
            pub const fn type_name(&self) -> &'static str {
                match self { $(ClientMessage::$name(_) => $text,)* }
            }

            fn decode(kind: &str, text: &str) -> Option<Result<Self, String>> {
                match kind {
                    $($text => Some(serde_json::from_str::<$body>(text).map(ClientMessage::$name).map_err(|error| wrong::<$body>(text, &error))),)*
                    _ => None,
                }
            }
        }
    };
}

client_messages! {
    /// Any time. Makes a session, or finds it again if its id is known, and attaches from its first event;
    /// so `session_created` is the answer. It becomes the connection's current session; others stay attached.
    CreateSession(CreateSession) = "create_session";
    /// Any time. Answer: `session_attached`, the events, `caught_up`. Attaching again moves the cursor.
    AttachSession(AttachSession) = "attach_session";
    /// While attached. Ends the flow of events to this connection; the session is not touched.
    DetachSession(SessionRef) = "detach_session";
    /// Any time. Cancels what runs and ends the session; its log stays readable.
    EndSession(SessionRef) = "end_session";
    /// While the session is not ended. Answer: `task_queued` in the log, or `error`.
    SubmitTask(SubmitTask) = "submit_task";
    /// While the task is not terminal. Answer: `cancel_requested`, then `task_cancelled` once the work has stopped.
    CancelTask(CancelTask) = "cancel_task";
    /// While the task is not terminal. Answer: `steer_accepted`, later `steer_applied` or `steer_rejected`.
    SteerTask(SteerTask) = "steer_task";
    /// While the request is open. The first valid answer wins; later ones get `already_resolved`.
    RespondInput(RespondInput) = "respond_input";
    /// While the task runs. It stops at once, keeps its place and can be resumed.
    SuspendTask(SuspendTask) = "suspend_task";
    /// While the task is suspended.
    ResumeTask(ResumeTask) = "resume_task";
    /// Any time. From now on this connection executes these tools for the session, and no others; its agent may call them.
    ProvideTools(ProvideTools) = "provide_tools";
    /// While a call of a client-executed tool waits. The first result wins; later ones get `already_resolved`.
    ToolResult(ClientToolResult) = "tool_result";
    /// Any time. The new token must have the same subject.
    RefreshToken(RefreshToken) = "refresh_token";
    /// Any time. Answer: `pong`.
    Ping(Ping) = "ping";
}

/// See [`ClientMessage::CreateSession`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreateSession {
    /// Chosen by the client so that a repeated command finds the session it made; otherwise the hub chooses.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<SessionId>,
    /// The agent that answers; the hub's default otherwise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<String>,
    /// Names of the tools it may call.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tools: Option<Vec<String>>,
    /// The model; the agent's or the hub's otherwise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<String>,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Words to find it by.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tags: Option<Vec<String>>,
    /// Anything the client wants to keep with the session.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub metadata: Option<Map<String, Value>>,
}

/// See [`ClientMessage::AttachSession`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttachSession {
    /// Which session.
    pub session_id: SessionId,
    /// A cursor `<epoch>.<seq>`: the events behind it follow. Without it, or when it cannot be honoured, a snapshot comes first.
    /// Plain text here, because an unreadable cursor is answered with a snapshot and not with an error.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<String>,
}

/// Names a session, or means the current one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionRef {
    /// Which session.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<SessionId>,
}

/// What to do with a submit while the session has an unfinished task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBusy {
    /// Wait behind it.
    #[default]
    Queue,
    /// Answer `busy`.
    Reject,
    /// Cancel what runs, keep its partial work, then run.
    Interrupt,
    /// Cancel what runs and take it out of the conversation, then run.
    Rollback,
    /// Not a task of its own: steer the running one. `taskId` becomes the `steerId`.
    Steer,
}

/// See [`ClientMessage::SubmitTask`]. Either `prompt`, or `workflow` with `input`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubmitTask {
    /// Which session.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<SessionId>,
    /// What the agent is asked, 1 to 10,000 characters.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prompt: Option<String>,
    /// Chosen by the client so that a repeated submit has no second effect; otherwise the hub chooses.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub task_id: Option<TaskId>,
    /// What to do while another task is unfinished; `queue` otherwise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub on_busy: Option<OnBusy>,
    /// Options of the model call, passed on to vendors that know them: `temperature`, `maxOutputTokens`, `topP`, `model` …
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub options: Option<Map<String, Value>>,
    /// The task's deadline in milliseconds of running time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timeout_ms: Option<u64>,
    /// Put before the prompt as a message of its own; bounded by the message's size only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub context: Option<String>,
    /// Names of the tools for this task instead of the session's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tools: Option<Vec<String>>,
    /// A workflow to execute instead of a prompt.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub workflow: Option<String>,
    /// The workflow's input.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub input: Option<Value>,
}

/// See [`ClientMessage::CancelTask`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CancelTask {
    /// Which session, if not the task's own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<SessionId>,
    /// Which task.
    pub task_id: TaskId,
    /// Why; kept in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// When a steering input takes effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SteerWhen {
    /// Before the next model call.
    #[default]
    NextStep,
    /// Abort the current model call, not the task, and call again with the input.
    Now,
}

/// See [`ClientMessage::SteerTask`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SteerTask {
    /// Which session, if not the task's own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<SessionId>,
    /// Which task.
    pub task_id: TaskId,
    /// What the agent is told, 1 to 10,000 characters.
    pub input: String,
    /// When; `next_step` otherwise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub when: Option<SteerWhen>,
    /// Chosen by the client (UUID) so that a repeated steer has no second effect.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub steer_id: Option<TaskId>,
}

/// The answer to a request for input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputOutcome {
    /// Yes, with `payload` or `editedArguments` where they are wanted.
    Accept,
    /// No.
    Reject,
}

/// See [`ClientMessage::RespondInput`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RespondInput {
    /// Which session, if not the task's own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<SessionId>,
    /// Which task.
    pub task_id: TaskId,
    /// Which request of the task.
    pub request_id: String,
    /// Yes or no.
    pub outcome: InputOutcome,
    /// The data asked for; checked against the request's schema.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub payload: Option<Value>,
    /// For an approval: the arguments to call the tool with instead.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub edited_arguments: Option<Value>,
}

/// See [`ClientMessage::SuspendTask`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuspendTask {
    /// Which session, if not the task's own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<SessionId>,
    /// Which task.
    pub task_id: TaskId,
    /// Why; kept in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// See [`ClientMessage::ResumeTask`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResumeTask {
    /// Which session, if not the task's own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<SessionId>,
    /// Which task.
    pub task_id: TaskId,
    /// Data for the step that waits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data: Option<Value>,
    /// The step to resume at, for workflows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub step_id: Option<String>,
}

/// See [`ClientMessage::ProvideTools`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProvideTools {
    /// Which session.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<SessionId>,
    /// All that this connection executes; none to stop.
    pub tools: Vec<ClientTool>,
}

/// A tool that a client executes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientTool {
    /// Its name: 1 to 64 of `a-z A-Z 0-9 _ -`, and no name of a tool of the hub.
    pub name: String,
    /// What it is for, as the model is told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub description: Option<String>,
    /// JSON Schema of its arguments, an object; any object otherwise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parameters: Option<Map<String, Value>>,
}

/// See [`ClientMessage::ToolResult`]. Either `output` or `error`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientToolResult {
    /// Which session, if not the task's own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<SessionId>,
    /// Which task.
    pub task_id: TaskId,
    /// Which call of the task.
    pub call_id: String,
    /// What the tool returned.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub output: Option<Value>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// See [`ClientMessage::RefreshToken`].
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefreshToken {
    /// The new token.
    pub token: String,
}

// By hand, so that no log of a message ever shows the token.
impl std::fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RefreshToken { .. }")
    }
}

/// See [`ClientMessage::Ping`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ping {}

/// Why a frame is not a command, with what could be read of it.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodeError {
    /// `invalid_json`, `invalid_message` or `unknown_type`.
    pub code: ErrorCode,
    /// The command's id, where it could be read.
    pub id: Option<CommandId>,
    /// What is wrong, for people.
    pub message: String,
}

impl Command {
    /// Reads one text frame. Unknown fields are ignored.
    ///
    /// # Errors
    /// [`DecodeError`]: `invalid_json` when it is no JSON or nested deeper than [`limits::JSON_DEPTH`], `unknown_type` when its `type`
    /// is not a command's, `invalid_message` when it is no object or a field is missing or of the wrong type.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        let refuse = |code, id, message: String| DecodeError { code, id, message };
        if deeper_than(text, limits::JSON_DEPTH) {
            let message = format!("Invalid JSON: nested deeper than {} levels", limits::JSON_DEPTH);
            return Err(refuse(ErrorCode::InvalidJson, None, message));
        }
        let head = serde_json::from_str::<Head>(text);
        // serde reads an array as a struct with its fields in order, and refuses one of another length as if it were no JSON.
        if !text.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok() {
            return Err(refuse(ErrorCode::InvalidMessage, None, "Invalid message: must be a JSON object".to_owned()));
        }
        let head = head.map_err(|error| match error.classify() {
            serde_json::error::Category::Data => {
                let what = complaint::of_whole(&error).map_or_else(|| UNREADABLE.to_owned(), |complaint| complaint.message);
                refuse(ErrorCode::InvalidMessage, None, format!("Invalid message: {what}"))
            }
            _ => refuse(ErrorCode::InvalidJson, None, "Invalid JSON".to_owned()),
        })?;
        let id = match head.id {
            None | Some(Value::Null) => None,
            Some(value) => match serde_json::from_value(value) {
                Ok(CommandId::Text(text)) if text.len() > limits::COMMAND_ID_BYTES => {
                    let message = format!("Invalid message: id is longer than {} bytes", limits::COMMAND_ID_BYTES);
                    return Err(refuse(ErrorCode::InvalidMessage, None, message));
                }
                Ok(id) => Some(id),
                Err(_) => {
                    let message = "Invalid message: id must be a string or a whole number".to_owned();
                    return Err(refuse(ErrorCode::InvalidMessage, None, message));
                }
            },
        };
        let Some(Value::String(kind)) = head.kind else {
            return Err(refuse(ErrorCode::InvalidMessage, id, "Invalid message: type must be a string".to_owned()));
        };
        match ClientMessage::decode(&kind, text) {
            Some(Ok(message)) => Ok(Self { id, message }),
            Some(Err(error)) => Err(refuse(ErrorCode::InvalidMessage, id, format!("Invalid {kind}: {error}"))),
            None => {
                let kind: String = kind.chars().take(64).collect();
                Err(refuse(ErrorCode::UnknownType, id, format!("Unknown message type: {kind}")))
            }
        }
    }

    /// The text frame.
    pub fn encode(&self) -> String {
        // Every field is plain data with text keys, so this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: Option<Value>,
    id: Option<Value>,
}

/// Said of what no field can be blamed for: half of a surrogate pair, a number past every range.
const UNREADABLE: &str = "it has a text or a number that cannot be read";

/// All that is wrong with the fields of a command.
fn wrong<T: DeserializeOwned>(text: &str, error: &serde_json::Error) -> String {
    let Ok(mut fields) = serde_json::from_str::<Map<String, Value>>(text) else { return UNREADABLE.to_owned() };
    let mut complaints = complaint::take_wrong_fields::<T>(&mut fields);
    complaints.extend(complaint::of_whole(error));
    if complaints.is_empty() {
        return UNREADABLE.to_owned();
    }
    complaints.into_iter().map(|complaint| complaint.message).collect::<Vec<_>>().join("; ")
}

/// Whether brackets outside strings nest deeper than `limit`. Cheaper than parsing, and before it.
pub fn deeper_than(text: &str, limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> ErrorCode {
        Command::decode(text).expect_err("refused").code
    }

    #[test]
    fn refusals_have_a_code_and_echo_the_id() {
        assert_eq!(code("{"), ErrorCode::InvalidJson);
        assert_eq!(code(&"[".repeat(100_000)), ErrorCode::InvalidJson);
        assert_eq!(code("\u{feff}{\"type\":\"ping\"}"), ErrorCode::InvalidJson);
        assert_eq!(code(r#"{"type":"ping","id":1e999}"#), ErrorCode::InvalidJson);
        assert_eq!(code(r#"{"type":"ping","id":"\ud800"}"#), ErrorCode::InvalidJson);
        assert_eq!(code("[]"), ErrorCode::InvalidMessage);
        assert_eq!(code(r#"["ping","c1"]"#), ErrorCode::InvalidMessage);
        assert_eq!(code(r#"["dance","c1"]"#), ErrorCode::InvalidMessage);
        assert_eq!(code("7"), ErrorCode::InvalidMessage);
        assert_eq!(code(r#"{"type":7}"#), ErrorCode::InvalidMessage);
        assert_eq!(code(r#"{"type":"ping","type":"ping"}"#), ErrorCode::InvalidMessage);
        assert_eq!(code(r#"{"type":"ping","id":{}}"#), ErrorCode::InvalidMessage);
        assert_eq!(code(r#"{"type":"cancel_task","taskId":"x"}"#), ErrorCode::InvalidMessage);
        let unknown = Command::decode(r#"{"type":"dance","id":"c1"}"#).expect_err("refused");
        assert_eq!((unknown.code, unknown.id), (ErrorCode::UnknownType, Some(CommandId::Text("c1".into()))));
    }

    #[test]
    fn unknown_fields_pass_and_brackets_in_strings_do_not_count() {
        let text = format!(r#"{{"type":"submit_task","prompt":"{}\"","colour":"blue","id":3}}"#, "[".repeat(200));
        let command = Command::decode(&text).expect("a command");
        assert_eq!(command.id, Some(CommandId::Number(3)));
    }
}
