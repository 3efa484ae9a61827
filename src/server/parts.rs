//! The only place that names a concrete store or provider.

use std::{collections::BTreeMap, sync::Arc};

use metrics::{counter, histogram};

use crate::{
    config::{AgentConfig, Config, FetchConfig, ProviderConfig, ProviderKind, StorageConfig, StorageKind},
    expression::Expression,
    outbound::{Outbound, OutboundConfig},
    provider::{
        SharedProvider,
        anthropic::Anthropic,
        demo::DemoProvider,
        openai::OpenAi,
        resilient::{Resilient, ResilientConfig},
        vendor::{VendorConfig, VendorConfigError},
    },
    runtime::{
        agent::{Agent, Agents, Approval, Fallback},
        template::Template,
    },
    store::{
        OpenError, SharedStore, View,
        file::{FileConfig, FileStore, FileView},
        memory::MemoryStore,
        sqlite::{Commit, SqliteConfig, SqliteStore, SqliteView},
    },
    tool::{
        SharedTool, ToolSource, Toolbox, files,
        web::{FetchTool, SearchTool},
    },
    workflow::{Workflow, Workflows},
    workspace::{self, Workspaces},
};

use super::ServeError;
#[cfg(feature = "js")]
use crate::{
    config::CodeLimits,
    tool::code::{CodeConfig, CodeTool},
};
#[cfg(feature = "mcp")]
use crate::{
    config::McpServerConfig,
    tool::mcp::{McpConfig, McpPlace, McpServer},
};

/// The models of vendors where nobody names one.
const OPENAI_MODEL: &str = "gpt-5-mini";
const ANTHROPIC_MODEL: &str = "claude-sonnet-4-5";

/// The configured store.
///
/// # Errors
/// When another process has it, a newer version wrote it, or the medium fails.
pub fn open_store(config: &StorageConfig) -> Result<SharedStore, OpenError> {
    Ok(match config.kind {
        StorageKind::Memory => Arc::new(MemoryStore::new()),
        StorageKind::File => Arc::new(FileStore::open(FileConfig { fsync: config.fsync, ..FileConfig::new(&config.path) })?),
        StorageKind::Sqlite => {
            let on_commit = Some(count_commits());
            let synchronous = config.synchronous;
            Arc::new(SqliteStore::open(SqliteConfig { synchronous, on_commit, ..SqliteConfig::new(&config.path) })?)
        }
    })
}

/// The configured store, to be looked at from outside; `None` for one that only its own process can see.
///
/// # Errors
/// When there is none, a newer version wrote it, or it cannot be read.
pub fn open_view(config: &StorageConfig) -> Result<Option<Box<dyn View>>, OpenError> {
    Ok(match config.kind {
        StorageKind::Memory => None,
        StorageKind::File => Some(Box::new(FileView::open(&config.path)?)),
        StorageKind::Sqlite => Some(Box::new(SqliteView::open(&config.path)?)),
    })
}

/// How large the groups are that commit together, and how long the medium takes for one.
fn count_commits() -> Arc<dyn Fn(&Commit) + Send + Sync> {
    let (appends, events) = (histogram!("agent_hub_commit_appends"), histogram!("agent_hub_commit_events"));
    let (seconds, bytes) = (histogram!("agent_hub_commit_seconds"), counter!("agent_hub_commit_bytes_total"));
    Arc::new(move |commit| {
        appends.record(commit.appends as f64);
        events.record(commit.events as f64);
        seconds.record(commit.took.as_secs_f64());
        bytes.increment(commit.bytes as u64);
    })
}

/// The configured agents. One provider of each kind is shared by all who use it, so that they share its breaker too.
pub(super) fn agents(config: &Config, more: Vec<Agent>, tools: Toolbox) -> Result<Agents, ServeError> {
    let mut providers = Providers { config: &config.provider, made: BTreeMap::new() };
    let mut agents = config.agents.iter().map(|agent| configured(agent, &mut providers)).collect::<Result<Vec<_>, _>>()?;
    agents.retain(|agent| more.iter().all(|other| other.name != agent.name));
    agents.extend(more);
    // The configuration has checked that the default one is among them.
    let default = agents.iter().position(|agent| agent.name == config.default_agent).unwrap_or_default();
    Ok(Agents::new(agents.swap_remove(default), agents, tools))
}

/// The configured tools.
///
/// # Errors
/// One that was asked for cannot be had here.
pub(super) async fn tools(
    config: &Config,
    own_port: Option<u16>,
    more: Vec<SharedTool>,
    sources: Vec<Arc<dyn ToolSource>>,
) -> Result<Toolbox, ServeError> {
    let mut own: Vec<SharedTool> = more;
    if let Some(path) = &config.workspace {
        let workspaces = Workspaces::open(path, workspace::Limits::default());
        let workspaces = workspaces.map_err(|source| ServeError::Directory { path: path.clone(), source })?;
        own.extend(files::tools(&workspaces));
    }
    #[cfg(feature = "js")]
    if let Some(limits) = config.tools.code_execution {
        own.push(code_tool(limits).await.map_err(|reason| ServeError::Tool { name: "code_execution", reason })?);
    }
    let cannot = |name| move |error: reqwest::Error| ServeError::Tool { name, reason: error.to_string() };
    if let Some(search) = &config.tools.web_search {
        own.push(SearchTool::shared(search.clone()).map_err(cannot("web_search"))?);
    }
    if let Some(FetchConfig { allow_http, allowed_private }) = config.tools.http_fetch.clone() {
        let outbound = Outbound::new(OutboundConfig { allow_http, allowed_private, own_port });
        own.push(FetchTool::shared(outbound.map_err(cannot("http_fetch"))?));
    }
    Toolbox::new(own, sources).map_err(|error| ServeError::Tool { name: "tools", reason: error.to_string() })
}

/// The configured workflows, and these.
pub(super) fn workflows(config: &Config, more: Vec<Workflow>, agents: &Agents) -> Result<Workflows, ServeError> {
    if more.is_empty() {
        return Ok(config.workflows.clone());
    }
    let configured = config.workflows.iter().map(|workflow| Workflow::clone(workflow));
    let all: Vec<Workflow> = configured.chain(more).collect();
    for workflow in &all {
        if let Some(unknown) = workflow.agents().into_iter().find(|name| agents.of_session(name).is_err()) {
            return Err(ServeError::Workflows(format!("{}: no agent is named {unknown:?}", workflow.id)));
        }
    }
    Workflows::new(all).map_err(|wrong| ServeError::Workflows(wrong.join("; ")))
}

/// The configured MCP servers, none of them connected yet.
#[cfg(feature = "mcp")]
pub(super) fn mcp_servers(config: &Config) -> Vec<McpServer> {
    let server = |server: &McpServerConfig| {
        let place = match (&server.command, &server.url) {
            (Some((command, arguments)), _) => {
                let environment = server.environment.clone();
                McpPlace::Program { command: command.clone(), arguments: arguments.clone(), environment }
            }
            (None, url) => McpPlace::Http { url: url.clone().unwrap_or_default(), token: server.token.clone() },
        };
        let (call_timeout, tools) = (server.call_timeout, server.tools.clone());
        McpServer::new(McpConfig { name: server.name.clone(), place, call_timeout, tools })
    };
    config.tools.mcp.iter().map(server).collect()
}

#[cfg(feature = "js")]
async fn code_tool(limits: CodeLimits) -> Result<SharedTool, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let CodeLimits { wall, cpu, memory } = limits;
    let config = CodeConfig { wall, cpu, memory, ..CodeConfig::new(program) };
    let tool = CodeTool::locked(config).await.map_err(|error| error.to_string())?;
    Ok(Arc::new(tool))
}

/// One of each kind, shared by all who use it.
struct Providers<'a> {
    config: &'a ProviderConfig,
    made: BTreeMap<ProviderKind, SharedProvider>,
}

impl Providers<'_> {
    fn get(&mut self, kind: ProviderKind) -> Result<SharedProvider, ServeError> {
        if let Some(made) = self.made.get(&kind) {
            return Ok(Arc::clone(made));
        }
        let made = provider(kind, self.config)?;
        self.made.insert(kind, Arc::clone(&made));
        Ok(made)
    }
}

fn configured(config: &AgentConfig, providers: &mut Providers<'_>) -> Result<Agent, ServeError> {
    let template = |text: &String| {
        Template::parse(text.clone()).map_err(|error| ServeError::Agent { name: config.name.clone(), reason: error.to_string() })
    };
    let fallback = |(kind, model): &(ProviderKind, Option<String>)| Ok(Fallback { provider: providers.get(*kind)?, model: model.clone() });
    let approval = |(tool, rule): &(String, Option<String>)| {
        let wrong = |reason: String| ServeError::Agent { name: config.name.clone(), reason };
        let rule = rule.clone().map(Expression::parse).transpose().map_err(|error| wrong(error.to_string()))?;
        Ok::<_, ServeError>((tool.clone(), rule.map_or(Approval::Always, Approval::When)))
    };
    let fallbacks = config.fallbacks.iter().map(fallback).collect::<Result<Vec<_>, ServeError>>()?;
    Ok(Agent {
        instructions: config.instructions.as_ref().map(template).transpose()?,
        model: config.model.as_ref().map(template).transpose()?,
        fallbacks,
        tools: config.tools.iter().map(template).collect::<Result<_, _>>()?,
        sub_agents: config.sub_agents.clone(),
        max_steps: config.max_steps,
        timeout: config.timeout,
        attempts: config.attempts,
        approvals: config.approve.iter().map(approval).collect::<Result<_, _>>()?,
        ..Agent::new(&config.name, &config.description, providers.get(config.provider)?)
    })
}

fn provider(kind: ProviderKind, config: &ProviderConfig) -> Result<SharedProvider, ServeError> {
    let model = |default: &str| config.model.clone().filter(|_| config.kind == kind).unwrap_or_else(|| default.to_owned());
    let vendor: Result<SharedProvider, VendorConfigError> = match kind {
        ProviderKind::Demo => return Ok(Arc::new(DemoProvider::new(config.demo_pace))),
        ProviderKind::OpenAi => {
            let vendor = VendorConfig::openai(config.openai.api_key.clone(), model(OPENAI_MODEL));
            OpenAi::new(at(vendor, config.openai.base_url.as_ref())).map(|made| Arc::new(made) as SharedProvider)
        }
        ProviderKind::Anthropic => {
            let vendor = VendorConfig::anthropic(config.anthropic.api_key.clone(), model(ANTHROPIC_MODEL));
            Anthropic::new(at(vendor, config.anthropic.base_url.as_ref())).map(|made| Arc::new(made) as SharedProvider)
        }
    };
    let vendor = vendor.map_err(|reason| ServeError::Provider { name: kind.as_str(), reason: reason.to_string() })?;
    Ok(Arc::new(Resilient::new(vendor, ResilientConfig::default())))
}

fn at(mut vendor: VendorConfig, base_url: Option<&String>) -> VendorConfig {
    if let Some(url) = base_url {
        vendor.base_url.clone_from(url);
    }
    vendor
}
