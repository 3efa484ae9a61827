//! Named definitions of agents: what a session answers with.

use std::{collections::BTreeMap, sync::Arc};

use agent_hub_protocol::ErrorCode;

use super::refusal::Refusal;
use crate::provider::{SharedProvider, ToolSpec};

/// Tools the hub knows by name. Naming one is valid even where it is not configured; calling it then answers "not configured".
pub const KNOWN_TOOLS: [(&str, &str); 3] = [
    ("web_search", "Search the web for current information"),
    ("code_execution", "Execute JavaScript code in a sandboxed environment"),
    ("file_read", "Read file contents from the workspace"),
];

/// The tool with which any agent asks the person it works for; answered through `respond_input`.
pub const ASK_USER: &str = "ask_user";

/// A named definition.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its name.
    pub name: String,
    /// What it is for, for people.
    pub description: String,
    /// What the model is told before the conversation.
    pub instructions: Option<String>,
    /// Who answers.
    pub provider: SharedProvider,
    /// The model, unless the session or task names one.
    pub model: Option<String>,
}

/// All agents of a hub, and which one answers when none is named.
#[derive(Clone, Debug)]
pub struct Agents {
    by_name: Arc<BTreeMap<String, Arc<Agent>>>,
    default: Arc<Agent>,
}

impl Agents {
    /// `default` answers when no agent is named; it is reachable by its name too.
    pub fn new(default: Agent, others: impl IntoIterator<Item = Agent>) -> Self {
        let default = Arc::new(default);
        let mut by_name: BTreeMap<String, Arc<Agent>> = others.into_iter().map(|a| (a.name.clone(), Arc::new(a))).collect();
        by_name.insert(default.name.clone(), Arc::clone(&default));
        Self { by_name: Arc::new(by_name), default }
    }

    /// The agent a session is made with.
    ///
    /// # Errors
    /// `invalid_message` when no agent has this name.
    pub fn choose(&self, name: Option<&str>) -> Result<&Arc<Agent>, Refusal> {
        match name {
            None => Ok(&self.default),
            Some(name) => self.by_name.get(name).ok_or_else(|| Refusal::invalid("agent", format!("No agent is named {name:?}"))),
        }
    }

    /// The agent of a session that exists.
    ///
    /// # Errors
    /// `not_supported` when the configuration no longer has it.
    pub fn of_session(&self, name: &str) -> Result<Arc<Agent>, Refusal> {
        self.by_name
            .get(name)
            .cloned()
            .ok_or_else(|| Refusal::new(ErrorCode::NotSupported, format!("The agent {name:?} is no longer configured")))
    }

    /// Every agent, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Agent>> {
        self.by_name.values()
    }
}

/// What the model is told about the tools of a task.
pub fn tool_specs(tools: &[String]) -> Vec<ToolSpec> {
    let parameter = |name: &str| match name {
        "web_search" => {
            serde_json::json!({"type":"object","properties":{"query":{"type":"string"},"maxResults":{"type":"integer","default":5}},"required":["query"]})
        }
        "code_execution" => {
            serde_json::json!({"type":"object","properties":{"code":{"type":"string"},"timeout":{"type":"integer","default":30000}},"required":["code"]})
        }
        _ => serde_json::json!({"type":"object","properties":{"path":{"type":"string"}},"required":["path"]}),
    };
    let mut specs: Vec<ToolSpec> = KNOWN_TOOLS
        .iter()
        .filter(|(name, _)| tools.iter().any(|tool| tool == name))
        .map(|(name, description)| ToolSpec {
            name: (*name).to_owned(),
            description: (*description).to_owned(),
            parameters: parameter(name),
        })
        .collect();
    specs.push(ToolSpec {
        name: ASK_USER.to_owned(),
        description: "Ask the person you work for, and wait for the answer".to_owned(),
        parameters: serde_json::json!({
            "type": "object",
            "properties": {
                "question": { "type": "string" },
                "schema": { "type": "object", "description": "JSON Schema the answer must fit" }
            },
            "required": ["question"]
        }),
    });
    specs
}
