//! What is asked of an agent, as VoltAgent's clients write it.

use agent_hub_protocol::{
    SessionId, TaskId,
    client_message::{CreateSession, OnBusy, SubmitTask},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{DIALECT, id_of, text_of};
use crate::runtime::{
    Issues, Principal, Refusal, RuntimeSettings,
    admission::{NewSession, NewTask, derived_uuid},
    agent::Agents,
    options::{self, Kind, Rule},
};
use crate::workflow::Workflows;

/// The ranges of the API's table.
const RULES: &[Rule] = &[
    Rule { names: &["temperature", "topP"], kind: Kind::Number(0.0, 1.0) },
    Rule { names: &["frequencyPenalty", "presencePenalty"], kind: Kind::Number(0.0, 2.0) },
    Rule { names: &["maxTokens", "maxOutputTokens", "maxSteps"], kind: Kind::Whole(1, i64::MAX) },
    Rule { names: &["contextLimit"], kind: Kind::Whole(0, i64::MAX) },
    Rule { names: &["seed"], kind: Kind::Whole(i64::MIN, i64::MAX) },
    Rule { names: &["stopSequences"], kind: Kind::Texts },
    Rule { names: &["userId", "conversationId", "model"], kind: Kind::Text },
    Rule { names: &["userContext", "context", "extraOptions", "providerOptions", "memory"], kind: Kind::Object },
    Rule { names: &["output"], kind: Kind::Output },
];
/// Characters of a session's name that is made from its first prompt.
const NAME_CHARS: usize = 60;

/// A request of an agent.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct Request {
    /// A text, or messages `{role, content}`, oldest first; the last one is the user's.
    #[schema(value_type = Value, required = true, example = "Tell me a joke!")]
    pub(super) input: Option<Value>,
    /// The same, where the client calls it so.
    #[schema(ignore)]
    pub(super) messages: Option<Value>,
    /// JSON Schema of the object that is asked for.
    #[schema(value_type = Option<Object>)]
    pub(super) schema: Option<Value>,
    /// `userId conversationId contextLimit maxSteps temperature maxTokens topP frequencyPenalty presencePenalty seed stopSequences extraOptions
    /// userContext`, all of them optional.
    #[schema(value_type = Option<Object>)]
    pub(super) options: Option<Map<String, Value>>,
    /// A chat's id, where the client names its conversation so.
    #[schema(ignore)]
    pub(super) id: Option<String>,
}

/// A request that was read.
pub(super) struct Asked {
    pub(super) session: NewSession,
    pub(super) task: NewTask,
    pub(super) user_context: Map<String, Value>,
    pub(super) conversation: Option<String>,
    pub(super) resumable: bool,
    /// Whoever asks has named the request, and comes back to it: hanging up is no reason to stop.
    pub(super) named: bool,
}

/// How the request is to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Text,
    Object,
    Chat,
}

/// What requests are held against.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) settings: &'a RuntimeSettings,
    pub(super) agents: &'a Agents,
    pub(super) workflows: &'a Workflows,
}

impl Request {
    /// Reads the request for this agent.
    ///
    /// # Errors
    /// `invalid_message` with all fields that are wrong.
    pub(super) fn read(
        self,
        who: &Principal,
        agent: &str,
        want: Want,
        key: Option<&str>,
        rules: Rules<'_>,
        mut issues: Issues,
    ) -> Result<Asked, Refusal> {
        let mut options = self.options.unwrap_or_default();
        flatten_memory(&mut options);
        options::check(&options, RULES, &mut issues);
        match (want, self.schema) {
            (Want::Object, Some(schema)) => drop(options.insert("output".to_owned(), json!({ "schema": schema }))),
            (Want::Object, None) if options.get("output").is_none() => issues.add(Refusal::invalid("schema", "schema is required")),
            _ => {}
        }
        let conversation = text_of(&options, "conversationId").or(self.id.filter(|id| want == Want::Chat && !id.is_empty()));
        let user = text_of(&options, "userId").unwrap_or_default();
        let resumable = options.remove("resumableStream") == Some(Value::Bool(true));
        let user_context = ["context", "userContext"].iter().find_map(|name| options.get(*name)?.as_object().cloned()).unwrap_or_default();
        let (prompt, before) = issues.note(read_input(self.input.or(self.messages)));
        // What the hub keeps of a conversation is what the agent is shown of it.
        let context = before.filter(|_| conversation.is_none());
        let session = match &conversation {
            Some(conversation) => SessionId::from_uuid(id_of(who.user(), "conversation", &[agent, &user, conversation])),
            None => key.map_or_else(SessionId::random, |key| SessionId::from_uuid(id_of(who.user(), "key", &[agent, key]))),
        };
        let named = key.map(|key| TaskId::from_uuid(derived_uuid(who.user(), "task", key)));
        let metadata = json!({ "dialect": DIALECT, "userId": user, "conversationId": conversation });
        let name: String = prompt.chars().filter(|c| !c.is_control()).take(NAME_CHARS).collect();
        let create = CreateSession {
            session_id: Some(session),
            agent: Some(agent.to_owned()),
            tools: Some(Vec::new()),
            model: None,
            name: (!name.trim().is_empty()).then_some(name),
            tags: None,
            metadata: metadata.as_object().cloned(),
        };
        let session = NewSession { counted: false, ..NewSession::check(create, rules.agents, &[], false)? };
        let submit = SubmitTask {
            session_id: None,
            prompt: Some(prompt),
            task_id: Some(named.unwrap_or_else(TaskId::random)),
            on_busy: Some(if want == Want::Chat { OnBusy::Interrupt } else { OnBusy::Queue }),
            options: Some(with_defaults(options)),
            timeout_ms: None,
            context,
            tools: None,
            workflow: None,
            input: None,
        };
        // The API knows no bound but the body's.
        let settings = RuntimeSettings { prompt_chars: usize::MAX, ..rules.settings.clone() };
        let task = issues.finish(NewTask::check(submit, &settings, rules.workflows))?;
        let task = NewTask { counted: false, id_chosen: named.is_some(), ..task };
        Ok(Asked { session, task, user_context, conversation, resumable, named: named.is_some() })
    }
}

/// Newer clients put what is about the conversation into an object of its own.
fn flatten_memory(options: &mut Map<String, Value>) {
    let Some(Value::Object(mut memory)) = options.remove("memory") else { return };
    let inner = match memory.remove("options") {
        Some(Value::Object(inner)) => inner,
        _ => Map::new(),
    };
    for (name, value) in memory.into_iter().chain(inner) {
        if ["userId", "conversationId", "contextLimit"].contains(&name.as_str()) {
            options.entry(name).or_insert(value);
        }
    }
}

/// The defaults of the API's table. Those that say what no vendor does otherwise (`topP` 1, penalties 0) are left out: some vendors refuse
/// them beside a temperature.
fn with_defaults(mut options: Map<String, Value>) -> Map<String, Value> {
    options.entry("contextLimit").or_insert(json!(10));
    options.entry("temperature").or_insert(json!(0.7));
    if !options.contains_key("maxOutputTokens") {
        options.entry("maxTokens").or_insert(json!(4000));
    }
    options
}

/// The last message, which is the user's, and what was said before it.
fn read_input(input: Option<Value>) -> Result<(String, Option<String>), Refusal> {
    let wrong = |what: &str| Refusal::invalid("input", format!("input {what}"));
    match input {
        Some(Value::String(text)) if !text.trim().is_empty() => Ok((text, None)),
        Some(Value::Array(messages)) if !messages.is_empty() => {
            let mut said = Vec::with_capacity(messages.len());
            for message in &messages {
                let role = message["role"].as_str().filter(|role| ["system", "user", "assistant", "tool"].contains(role));
                let role = role.ok_or_else(|| wrong("has a message without a role: system, user, assistant or tool"))?;
                let content = message.get("content").filter(|content| !content.is_null()).unwrap_or(&message["parts"]);
                said.push((role, content_text(content)?));
            }
            let Some(("user", prompt)) = said.pop().filter(|(_, text)| !text.trim().is_empty()) else {
                return Err(wrong("must end with a message of the user that says something"));
            };
            let before: Vec<String> =
                said.into_iter().filter(|(_, text)| !text.is_empty()).map(|(role, text)| format!("{role}: {text}")).collect();
            let before = (!before.is_empty()).then(|| format!("What was said before:\n\n{}", before.join("\n\n")));
            Ok((prompt, before))
        }
        _ => Err(wrong("must be a text, or a list of messages")),
    }
}

/// The text of a message: of a text, or of its parts.
fn content_text(content: &Value) -> Result<String, Refusal> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let mut text = String::new();
            for part in parts {
                match part["type"].as_str() {
                    Some("text") => text.push_str(part["text"].as_str().unwrap_or_default()),
                    Some("image" | "file") => {
                        return Err(Refusal::invalid("input", "This hub's agents read text; images and files are not supported"));
                    }
                    // What an agent did and thought stands in its text.
                    _ => {}
                }
            }
            Ok(text)
        }
        Value::Null => Ok(String::new()),
        _ => Err(Refusal::invalid("input", "The content of a message must be a text or a list of parts")),
    }
}
