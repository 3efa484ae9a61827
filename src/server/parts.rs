//! The only place that names a concrete store or provider.

use std::{collections::BTreeMap, sync::Arc};

use metrics::{counter, histogram};

use crate::{
    config::{AgentConfig, Config, ProviderConfig, ProviderKind, StorageConfig, StorageKind},
    provider::{
        SharedProvider,
        anthropic::Anthropic,
        demo::DemoProvider,
        openai::OpenAi,
        resilient::{Resilient, ResilientConfig},
        vendor::{VendorConfig, VendorConfigError},
    },
    runtime::agent::{Agent, Agents, Approval},
    store::{
        OpenError, SharedStore, View,
        file::{FileConfig, FileStore, FileView},
        memory::MemoryStore,
        sqlite::{Commit, SqliteConfig, SqliteStore, SqliteView},
    },
    tool::Toolbox,
};

use super::ServeError;

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
pub(super) fn agents(config: &Config) -> Result<Agents, ServeError> {
    let mut providers: BTreeMap<ProviderKind, SharedProvider> = BTreeMap::new();
    let mut agents = Vec::with_capacity(config.agents.len());
    for agent in config.agents.clone() {
        let kind = agent.provider;
        let provider = match providers.get(&kind) {
            Some(provider) => Arc::clone(provider),
            None => Arc::clone(providers.entry(kind).or_insert(provider(kind, &config.provider)?)),
        };
        agents.push(configured(agent, provider));
    }
    // The configuration has checked that the default one is among them.
    let default = agents.iter().position(|agent| agent.name == config.default_agent).unwrap_or_default();
    Ok(Agents::new(agents.swap_remove(default), agents, Toolbox::default()))
}

fn configured(config: AgentConfig, provider: SharedProvider) -> Agent {
    let AgentConfig { name, description, instructions, provider: _, model, tools, approve, sub_agents, max_steps } = config;
    let approvals = approve.into_iter().map(|tool| (tool, Approval::Always)).collect();
    Agent { name, description, instructions, provider, model, tools, sub_agents, max_steps, approvals }
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
