//! Named definitions of agents: what a session answers with.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use agent_hub_protocol::ErrorCode;
use serde_json::{Value, json};

use super::{refusal::Refusal, template::Template};
use crate::{
    expression::Expression,
    provider::{SharedProvider, ToolSpec},
    tool::Toolbox,
};

/// Tools the hub knows by name. Naming one is valid even where it is not configured; calling it then answers "not configured".
pub const KNOWN_TOOLS: [(&str, &str); 3] = [
    ("web_search", "Search the web for current information"),
    ("code_execution", "Execute JavaScript code in a sandboxed environment"),
    ("file_read", "Read file contents from the workspace"),
];

/// More tools the hub knows by name; nobody has them who does not name them.
pub const OTHER_TOOLS: [(&str, &str); 3] =
    [("file_write", "Write a file in the workspace"), ("file_list", "List the files in the workspace"), ("http_fetch", "Read a web page")];

/// The tool with which any agent asks the person it works for; answered through `respond_input`.
pub const ASK_USER: &str = "ask_user";

/// The tool with which an agent hands work to its sub-agents.
pub const DELEGATE: &str = "delegate_task";

/// A named definition.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its name.
    pub name: String,
    /// What it is for, for people.
    pub description: String,
    /// What the model is told before the conversation.
    pub instructions: Option<Template>,
    /// Who answers.
    pub provider: SharedProvider,
    /// The model, unless the session or task names one; the provider's default where it comes out empty.
    pub model: Option<Template>,
    /// Who answers, and with which model, when the one before does not begin to.
    pub fallbacks: Vec<Fallback>,
    /// Tools it may always call, besides those of the session or task. A name that ends with `*` means all that begin so; one that comes
    /// out empty means none.
    pub tools: Vec<Template>,
    /// Agents it may hand work to, by name.
    pub sub_agents: Vec<String>,
    /// Model calls of one task, those of its sub-agents included, unless the task says.
    pub max_steps: Option<u32>,
    /// The deadline of a task that names none, in running time; the hub's if `None`. A task of its own that it was handed has no more.
    pub timeout: Option<Duration>,
    /// Attempts of one model call that has yielded nothing, the first included; the provider's if `None`.
    pub attempts: Option<u32>,
    /// Which calls wait for a person, by tool; a name that ends with `*` means all that begin so. Others run at once.
    pub approvals: BTreeMap<String, Approval>,
}

/// Another model to ask.
#[derive(Clone, Debug)]
pub struct Fallback {
    /// Who answers.
    pub provider: SharedProvider,
    /// The provider's default if `None`.
    pub model: Option<String>,
}

/// Whether a call waits for a person's yes.
#[derive(Clone, Debug)]
pub enum Approval {
    /// It does not.
    Never,
    /// It does.
    Always,
    /// It does where this is true of its `arguments`, its `tool` and the `userContext`; and where that cannot be said.
    When(Expression),
}

impl Approval {
    /// Whether this call waits.
    pub fn is_wanted(&self, tool: &str, arguments: &Value, user_context: &Value) -> bool {
        match self {
            Approval::Never => false,
            Approval::Always => true,
            Approval::When(rule) => {
                let tool = Value::from(tool);
                let said = rule.evaluate(&[("tool", &tool), ("arguments", arguments), ("userContext", user_context)]);
                !matches!(said, Ok(Value::Bool(false)))
            }
        }
    }
}

impl Agent {
    /// One that only talks.
    pub fn new(name: impl Into<String>, description: impl Into<String>, provider: SharedProvider) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            instructions: None,
            provider,
            model: None,
            fallbacks: Vec::new(),
            tools: Vec::new(),
            sub_agents: Vec::new(),
            max_steps: None,
            timeout: None,
            attempts: None,
            approvals: BTreeMap::new(),
        }
    }

    /// Whether a call of this tool waits for a person. The exact name counts more than a beginning, a longer beginning more than a shorter.
    pub fn approval(&self, tool: &str) -> &Approval {
        let fits = |name: &str| name.strip_suffix('*').map_or(name == tool, |beginning| tool.starts_with(beginning));
        let rank = |name: &str| (!name.ends_with('*'), name.len());
        let best = self.approvals.iter().filter(|(name, _)| fits(name)).max_by_key(|(name, _)| rank(name));
        best.map_or(&Approval::Never, |(_, approval)| approval)
    }
}

/// All agents of a hub, which one answers when none is named, and the tools they may have.
#[derive(Clone, Debug)]
pub struct Agents {
    by_name: Arc<BTreeMap<String, Arc<Agent>>>,
    default: Arc<Agent>,
    tools: Toolbox,
}

impl Agents {
    /// `default` answers when no agent is named; it is reachable by its name too.
    pub fn new(default: Agent, others: impl IntoIterator<Item = Agent>, tools: Toolbox) -> Self {
        let default = Arc::new(default);
        let mut by_name: BTreeMap<String, Arc<Agent>> = others.into_iter().map(|a| (a.name.clone(), Arc::new(a))).collect();
        by_name.insert(default.name.clone(), Arc::clone(&default));
        Self { by_name: Arc::new(by_name), default, tools }
    }

    /// The tools of the hub.
    pub fn tools(&self) -> &Toolbox {
        &self.tools
    }

    /// Those an agent may hand work to.
    pub fn sub_agents(&self, of: &Agent) -> Vec<Arc<Agent>> {
        of.sub_agents.iter().filter_map(|name| self.by_name.get(name).cloned()).collect()
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

/// One of [`KNOWN_TOOLS`] as it is described where it is not set up.
pub fn known_spec(name: &str) -> ToolSpec {
    let parameters = match name {
        "web_search" => {
            json!({"type":"object","properties":{"query":{"type":"string"},"maxResults":{"type":"integer","default":5}},"required":["query"]})
        }
        "code_execution" => {
            json!({"type":"object","properties":{"code":{"type":"string"},"timeout":{"type":"integer","default":30000}},"required":["code"]})
        }
        _ => json!({"type":"object","properties":{"path":{"type":"string"}},"required":["path"]}),
    };
    let description = KNOWN_TOOLS.iter().find(|(known, _)| *known == name).map_or("", |(_, description)| *description);
    ToolSpec { name: name.to_owned(), description: description.to_owned(), parameters }
}

/// The tool that asks a person.
pub(crate) fn ask_user_spec() -> ToolSpec {
    let parameters = json!({
        "type": "object",
        "properties": {
            "question": { "type": "string" },
            "schema": { "type": "object", "description": "JSON Schema the answer must fit" }
        },
        "required": ["question"]
    });
    let description = "Ask the person you work for, and wait for the answer".to_owned();
    ToolSpec { name: ASK_USER.to_owned(), description, parameters }
}

/// The tool that hands work to these agents.
pub(crate) fn delegate_spec(agents: &[Arc<Agent>]) -> ToolSpec {
    let names: Vec<&str> = agents.iter().map(|agent| agent.name.as_str()).collect();
    let whom: Vec<String> = agents.iter().map(|agent| format!("{}: {}", agent.name, agent.description)).collect();
    let parameters = json!({
        "type": "object",
        "properties": {
            "agent": { "type": "string", "enum": names, "description": "Who is to do it" },
            "task": { "type": "string", "minLength": 1, "description": "What is to be done, with everything needed to do it: the agent sees nothing else" }
        },
        "required": ["agent", "task"]
    });
    let description = format!("Hand a piece of the work to another agent and get its answer. The agents: {}", whom.join("; "));
    ToolSpec { name: DELEGATE.to_owned(), description, parameters }
}
