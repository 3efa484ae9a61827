//! What is let in: the same checks for every transport, before a session hears of it.

use std::time::Duration;

use agent_hub_protocol::{
    ErrorCode, SessionId, TaskId,
    client_message::{ClientTool, ClientToolResult, CreateSession, OnBusy, RespondInput, SteerTask, SteerWhen, SubmitTask},
    event::{Replay, TaskQueued},
};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{
    agent::{ASK_USER, Agents, DELEGATE, KNOWN_TOOLS, OTHER_TOOLS},
    options,
    refusal::{Issues, Refusal},
    settings::RuntimeSettings,
};
use crate::{
    schema,
    workflow::{Execution, Workflows},
};

/// Tags of one session, and names and tags in characters.
const MAX_TAGS: usize = 32;
const MAX_NAME_CHARS: usize = 200;
/// Metadata of one session, in bytes of JSON.
const MAX_METADATA_BYTES: usize = 16 * 1024;
/// A reason, in characters.
const MAX_REASON_CHARS: usize = 500;
/// Tools that clients execute for one session: how many, and described in how many bytes of JSON. Every model call carries them.
const MAX_CLIENT_TOOLS: usize = 32;
const MAX_CLIENT_TOOL_BYTES: usize = 64 * 1024;
/// What the vendors take.
const MAX_TOOL_NAME: usize = 64;

/// A session as it may be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// The agent that answers.
    pub agent: String,
    /// The tools it may call.
    pub tools: Vec<String>,
    /// The model asked for.
    pub model: Option<String>,
    /// A name for people.
    pub name: Option<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// What the client keeps with it.
    pub metadata: Option<Map<String, Value>>,
    /// Whether a socket makes it.
    pub by_socket: bool,
    /// Whether it counts among the sessions that a user may make in a day. Those of adapters do not: their users know of none.
    pub counted: bool,
}

/// A task as it may be queued.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTask {
    /// Its id.
    pub id: TaskId,
    /// Whether the client chose the id, so that it may be known already.
    pub id_chosen: bool,
    /// What the agent is asked: stripped of control characters and outer white space.
    pub prompt: String,
    /// What to do while the session is busy.
    pub on_busy: OnBusy,
    /// Options of the model call.
    pub options: Option<Map<String, Value>>,
    /// Its deadline; its agent's, or the usual one, if `None`.
    pub timeout: Option<Duration>,
    /// Put before the prompt.
    pub context: Option<String>,
    /// Its own tools.
    pub tools: Option<Vec<String>>,
    /// What it executes, where it is no prompt.
    pub execution: Option<NewExecution>,
    /// Whether it counts among the tasks that one session may have. Those of adapters do not: their APIs have no end of a conversation.
    pub counted: bool,
}

/// An execution of a workflow as it may be queued.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewExecution {
    /// Which.
    pub workflow: String,
    /// With what; fits the workflow's schema.
    pub input: Value,
    /// Where it repeats another execution from a step on.
    pub replay: Option<Box<Replay>>,
    /// The workflow's own deadline.
    timeout: Option<Duration>,
}

impl NewExecution {
    /// Checks what a client asks for.
    ///
    /// # Errors
    /// `invalid_message`: there is no such workflow, or it does not take this.
    pub fn check(workflow: &str, input: Option<Value>, workflows: &Workflows) -> Result<Self, Refusal> {
        let found = workflows.get(workflow);
        let found = found.ok_or_else(|| Refusal::invalid("workflow", format!("There is no workflow named {workflow:?}")))?;
        let input = input.unwrap_or_default();
        Execution::check_data(found.input.as_ref(), &input)
            .map_err(|why| Refusal::invalid("input", format!("The input does not fit: {why}")))?;
        Ok(Self { workflow: workflow.to_owned(), input, replay: None, timeout: found.timeout })
    }
}

/// A steering input as it may be taken in.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSteer {
    /// Which task.
    pub task: TaskId,
    /// Its id.
    pub id: TaskId,
    /// What the agent is told.
    pub input: String,
    /// When it takes effect.
    pub when: SteerWhen,
}

impl NewSession {
    /// Checks what a client asks for. `default_tools` are those of the transport.
    ///
    /// # Errors
    /// `invalid_message`, naming the field.
    pub fn check(asked: CreateSession, agents: &Agents, default_tools: &[&str], by_socket: bool) -> Result<Self, Refusal> {
        let mut issues = Issues::default();
        let agent = issues.note(agents.choose(asked.agent.as_deref()).map(|agent| agent.name.clone()));
        let tools = match asked.tools {
            Some(tools) => issues.note(check_tools(tools)),
            None => default_tools.iter().map(|t| (*t).to_owned()).collect(),
        };
        let tags = asked.tags.unwrap_or_default();
        if tags.len() > MAX_TAGS {
            issues.add(Refusal::invalid("tags", format!("At most {MAX_TAGS} tags")));
        }
        issues.note(tags.iter().try_for_each(|tag| short("tags", tag)));
        for (field, text) in [("name", &asked.name), ("model", &asked.model)] {
            if let Some(text) = text {
                issues.note(short(field, text));
            }
        }
        if let Some(metadata) = &asked.metadata {
            issues.note(check_metadata(metadata));
        }
        let id = asked.session_id.unwrap_or_else(SessionId::random);
        issues.finish(Ok(Self {
            id,
            agent,
            tools,
            model: asked.model,
            name: asked.name,
            tags,
            metadata: asked.metadata,
            by_socket,
            counted: true,
        }))
    }
}

impl NewTask {
    /// Checks what a client asks for.
    ///
    /// # Errors
    /// `invalid_message`, naming the field; `prompt_too_long`.
    pub fn check(asked: SubmitTask, settings: &RuntimeSettings, workflows: &Workflows) -> Result<Self, Refusal> {
        let mut issues = Issues::default();
        let execution = asked.workflow.as_ref().map(|name| issues.note(NewExecution::check(name, asked.input, workflows)));
        let usual = execution.as_ref().and_then(|execution| execution.timeout);
        let prompt = match &asked.workflow {
            None => issues.note(clean_text("prompt", asked.prompt.unwrap_or_default().trim(), settings.prompt_chars)),
            Some(_) => String::new(),
        };
        let timeout = match asked.timeout_ms {
            None => usual,
            Some(ms) if (1..=settings.max_task_timeout.as_millis()).contains(&u128::from(ms)) => Some(Duration::from_millis(ms)),
            Some(_) => {
                let most = settings.max_task_timeout.as_millis();
                issues.add(Refusal::invalid("timeoutMs", format!("timeoutMs must be between 1 and {most}")));
                None
            }
        };
        let tools = asked.tools.map(|tools| issues.note(check_tools(tools)));
        if let Some(options) = &asked.options {
            options::check(options, options::NATIVE, &mut issues);
        }
        issues.finish(Ok(Self {
            id: asked.task_id.unwrap_or_else(TaskId::random),
            id_chosen: asked.task_id.is_some(),
            prompt,
            on_busy: asked.on_busy.unwrap_or_default(),
            options: asked.options,
            timeout,
            context: asked.context.map(|text| strip_control(&text)).filter(|text| !text.trim().is_empty()),
            tools,
            execution,
            counted: true,
        }))
    }

    /// The event that records it, at this place in the session's line, with the deadline where it names none.
    pub(crate) fn queued(&self, position: u32, usual: Duration) -> TaskQueued {
        TaskQueued {
            prompt: self.execution.is_none().then(|| self.prompt.clone()),
            position,
            timeout_ms: u64::try_from(self.timeout.unwrap_or(usual).as_millis()).unwrap_or(u64::MAX),
            on_busy: (self.on_busy != OnBusy::Queue).then_some(self.on_busy),
            options: self.options.clone(),
            context: self.context.clone(),
            tools: self.tools.clone(),
            workflow: self.execution.as_ref().map(|execution| execution.workflow.clone()),
            input: self.execution.as_ref().map(|execution| execution.input.clone()),
            replay: self.execution.as_ref().and_then(|execution| execution.replay.clone()),
            agent: None,
            parent_task_id: None,
            call_id: None,
        }
    }
}

/// Names what a task was asked, whatever its place in the line, so that a repeated submit is told from another one with the same id.
/// Maps are hashed with their keys in order, because two writers may order them differently.
pub(crate) fn task_fingerprint(queued: &TaskQueued) -> String {
    let mut content = vec![
        serde_json::json!(queued.prompt),
        serde_json::json!(queued.on_busy),
        queued.options.as_ref().map(|options| sorted(&Value::Object(options.clone()))).unwrap_or_default(),
        queued.timeout_ms.into(),
        serde_json::json!(queued.context),
        serde_json::json!(queued.tools),
    ];
    if let Some(workflow) = &queued.workflow {
        let replay = queued.replay.as_ref().map(|replay| serde_json::json!([replay.task_id, replay.step_id, replay.input]));
        content.extend([workflow.as_str().into(), queued.input.as_ref().map(sorted).unwrap_or_default(), replay.unwrap_or_default()]);
    }
    fingerprint(&Value::Array(content).to_string())
}

impl NewSteer {
    /// Checks what a client asks for. The input is kept verbatim but for control characters.
    ///
    /// # Errors
    /// `invalid_message` or `prompt_too_long`.
    pub fn check(asked: &SteerTask, settings: &RuntimeSettings) -> Result<Self, Refusal> {
        Ok(Self {
            task: asked.task_id,
            id: asked.steer_id.unwrap_or_else(TaskId::random),
            input: clean_text("input", &asked.input, settings.prompt_chars)?,
            when: asked.when.unwrap_or_default(),
        })
    }
}

/// Checks the shape of an answer to a request for input; its data is checked against the request's schema later.
///
/// # Errors
/// `invalid_message`.
pub fn check_response(asked: &RespondInput) -> Result<(), Refusal> {
    if asked.request_id.is_empty() || asked.request_id.len() > 64 {
        return Err(Refusal::invalid("requestId", "requestId must be 1 to 64 characters"));
    }
    Ok(())
}

/// A reason as it is kept: bounded, without control characters.
///
/// # Errors
/// `invalid_message` when it is too long.
pub fn check_reason(reason: Option<String>) -> Result<Option<String>, Refusal> {
    let Some(reason) = reason else { return Ok(None) };
    if reason.chars().count() > MAX_REASON_CHARS {
        return Err(Refusal::invalid("reason", format!("reason must be at most {MAX_REASON_CHARS} characters")));
    }
    Ok(Some(strip_control(&reason)))
}

/// Metadata as it may be kept.
///
/// # Errors
/// `invalid_message` when it is too large.
pub fn check_metadata(metadata: &Map<String, Value>) -> Result<(), Refusal> {
    let bytes = serde_json::to_vec(metadata).map_or(usize::MAX, |json| json.len());
    if bytes > MAX_METADATA_BYTES {
        return Err(Refusal::invalid("metadata", format!("metadata must be at most {MAX_METADATA_BYTES} bytes of JSON")));
    }
    Ok(())
}

/// Tool names, each known and named once.
///
/// # Errors
/// `invalid_message`, with the seed's text.
pub fn check_tools(tools: Vec<String>) -> Result<Vec<String>, Refusal> {
    let mut known: Vec<String> = Vec::with_capacity(tools.len().min(KNOWN_TOOLS.len()));
    for tool in tools {
        if !KNOWN_TOOLS.iter().chain(&OTHER_TOOLS).any(|(name, _)| *name == tool) {
            return Err(Refusal::invalid("tools", "Invalid tool specified"));
        }
        if !known.contains(&tool) {
            known.push(tool);
        }
    }
    Ok(known)
}

/// Tools that a client offers to execute.
///
/// # Errors
/// `invalid_message`: a name that vendors do not take, that the hub has itself, or that is there twice; a schema that is none, or not of an
/// object. `quota_exceeded`: too many.
pub fn check_client_tools(tools: Vec<ClientTool>, agents: &Agents) -> Result<Vec<ClientTool>, Refusal> {
    // First: what follows is not cheap.
    check_client_tools_together(&tools)?;
    for (at, tool) in tools.iter().enumerate() {
        let name = &tool.name;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if name.is_empty() || name.len() > MAX_TOOL_NAME || !name.chars().all(plain) {
            return Err(Refusal::invalid("tools", format!("A tool's name is 1 to {MAX_TOOL_NAME} of a-z A-Z 0-9 _ -, and not {name:?}")));
        }
        let known = KNOWN_TOOLS.iter().chain(&OTHER_TOOLS).any(|(known, _)| known == name);
        if known || [ASK_USER, DELEGATE].contains(&name.as_str()) || agents.tools().has(name) {
            return Err(Refusal::invalid("tools", format!("The hub has a tool named {name:?} itself")));
        }
        if tools[..at].iter().any(|earlier| earlier.name == *name) {
            return Err(Refusal::invalid("tools", format!("Two tools are named {name:?}")));
        }
        if let Some(parameters) = &tool.parameters {
            let schema = Value::Object(parameters.clone());
            schema::compile(&schema)
                .map_err(|why| Refusal::invalid("tools", format!("The parameters of {name:?} are no JSON Schema: {why}")))?;
            if schema.get("type") != Some(&Value::from("object")) {
                return Err(Refusal::invalid("tools", format!("The parameters of {name:?} must be of type \"object\"")));
            }
        }
    }
    Ok(tools)
}

/// Whether one session may have all of these.
///
/// # Errors
/// `quota_exceeded`.
pub(crate) fn check_client_tools_together(tools: &[ClientTool]) -> Result<(), Refusal> {
    if tools.len() > MAX_CLIENT_TOOLS {
        let message = format!("Clients may execute at most {MAX_CLIENT_TOOLS} tools for one session");
        return Err(Refusal::new(ErrorCode::QuotaExceeded, message).detail("limit", MAX_CLIENT_TOOLS as u64));
    }
    if serde_json::to_vec(tools).map_or(usize::MAX, |json| json.len()) > MAX_CLIENT_TOOL_BYTES {
        let message = format!("The tools that clients execute for one session may be described in {MAX_CLIENT_TOOL_BYTES} bytes");
        return Err(Refusal::new(ErrorCode::QuotaExceeded, message).detail("limit", MAX_CLIENT_TOOL_BYTES as u64));
    }
    Ok(())
}

/// The result of a tool that a client has executed: one of the two.
///
/// # Errors
/// `invalid_message`.
pub fn check_tool_result(given: &ClientToolResult) -> Result<(), Refusal> {
    if given.output.is_some() && given.error.is_some() {
        return Err(Refusal::invalid("error", "Either output or error, not both"));
    }
    Ok(())
}

/// An id that always comes out the same for one user and key, in the shape of a v4 UUID: how `Idempotency-Key` becomes an identity.
pub fn derived_uuid(user: &str, purpose: &str, key: &str) -> uuid::Uuid {
    let mut hash = Sha256::new();
    for part in [user, purpose, key] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

pub(crate) fn fingerprint(content: &str) -> String {
    Sha256::digest(content.as_bytes())[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn clean_text(field: &str, text: &str, max_chars: usize) -> Result<String, Refusal> {
    let text = strip_control(text);
    let chars = text.chars().count();
    if chars > max_chars {
        return Err(Refusal { code: ErrorCode::PromptTooLong, ..Refusal::invalid(field, text_range(field, max_chars)) });
    }
    if text.trim().is_empty() {
        return Err(Refusal::invalid(field, text_range(field, max_chars)));
    }
    Ok(text)
}

/// The seed's text, which begins with a capital letter.
fn text_range(field: &str, max_chars: usize) -> String {
    let name = if field == "input" { "Input" } else { "Prompt" };
    format!("{name} must be between 1 and {max_chars} characters")
}

/// Without control characters other than tab, line feed and carriage return.
fn strip_control(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r')).collect()
}

fn short(field: &str, text: &str) -> Result<(), Refusal> {
    let fits = !text.is_empty() && text.chars().count() <= MAX_NAME_CHARS && !text.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(Refusal::invalid(field, format!("{field} must be 1 to {MAX_NAME_CHARS} characters"))) }
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            Value::Array(keys.into_iter().map(|key| serde_json::json!([key, sorted(&map[key])])).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        plain => plain.clone(),
    }
}
