//! One checked configuration, from defaults < file < environment < flags. Nothing below reads a file or the environment for it.
//!
//! Every setting is read in one place (`sections`), with its key, its meaning, its default and its bounds. From the same lines
//! come `--print-config` and `agent-hub.example.toml`, so neither can say something else than the program does. All mistakes
//! are reported together.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use secrecy::SecretString;

use crate::{dependencies::Dependency, runtime::RuntimeSettings, workflow::Workflows};

pub use crate::{
    store::{file::FsyncPolicy, sqlite::Synchronous},
    tool::web::{SearchConfig, SearchKind},
};

mod acting;
mod layers;
mod mistake;
mod reader;
mod report;
mod secrets;
mod sections;
mod value;

pub use layers::Inputs;
pub use mistake::{Mistake, Mistakes, Source};
pub use report::Report;

/// Everything the hub was told, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether limits are lifted for load tests. Said loudly at start.
    pub limits_off: bool,
    /// Where the hub keeps what it makes itself: the database, the development secret.
    pub data_dir: PathBuf,
    /// The front.
    pub server: ServerConfig,
    /// Who may come in.
    pub auth: AuthConfig,
    /// Where logs and records live.
    pub storage: StorageConfig,
    /// Model vendors.
    pub provider: ProviderConfig,
    /// The agent that answers when a session names none.
    pub default_agent: String,
    /// Named agents; the default one is always among them.
    pub agents: Vec<AgentConfig>,
    /// Where sessions have their files. Made if missing; `None`: no agent has files.
    pub workspace: Option<PathBuf>,
    /// Tools that reach out of the conversation.
    pub tools: ToolsConfig,
    /// Steps that can be executed.
    pub workflows: Workflows,
    /// What they need besides the hub.
    pub dependencies: Vec<Dependency>,
    /// The numbers of the runtime.
    pub runtime: RuntimeSettings,
    /// Logs.
    pub log: LogConfig,
    /// Traces go to this OTLP/HTTP collector.
    pub otlp_endpoint: Option<String>,
    /// The same, for people.
    pub report: Report,
}

/// The front: addresses, sockets, and how long anybody may take for anything.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The address to bind.
    pub host: IpAddr,
    /// The port, if one was given: then that one or none. Otherwise the next free one from 3000 on. 0: the system chooses.
    pub port: Option<u16>,
    /// Origins besides the hub's own, in the form browsers send them. `*` (development only): all.
    pub allowed_origins: Vec<String>,
    /// Host names besides the loopback ones, lower case, without port.
    pub allowed_hosts: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections of the process, all together. Never lifted: it is what keeps files free for the store.
    pub max_connections: usize,
    /// Sockets that stay (WebSocket, SSE, Socket.IO) of one user.
    pub connections_per_user: Option<u32>,
    /// Sockets that stay of one address (a /64 of IPv6).
    pub connections_per_address: Option<u32>,
    /// Sessions one socket may be attached to.
    pub attached_sessions: usize,
    /// Messages one socket may send.
    pub message_rate: Option<MessageRate>,
    /// One WebSocket message or HTTP body, in bytes.
    pub message_bytes: usize,
    /// From accepting a connection to its whole request head.
    pub header_timeout: Duration,
    /// Between two requests of one connection.
    pub idle_timeout: Duration,
    /// From the head to the whole body.
    pub body_timeout: Duration,
    /// Between pings; a socket silent for two of them is closed.
    pub heartbeat: Duration,
    /// How often an SSE stream without events says that it lives.
    pub sse_keep_alive: Duration,
    /// A peer that accepts no byte for this long is closed.
    pub stall_timeout: Duration,
    /// Bytes written but not yet taken by one socket.
    pub socket_window: usize,
    /// `SO_SNDBUF` of one socket: the kernel hides a slow reader in it.
    pub send_buffer: usize,
    /// A socket is asked to come back after this long.
    pub max_socket_age: Duration,
    /// How long a drain may take.
    pub drain: Duration,
}

/// A token bucket for the messages of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageRate {
    /// Messages that come back per second.
    pub per_second: u32,
    /// Messages at once.
    pub burst: u32,
}

/// Who may come in.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// What tokens are checked against.
    pub mode: AuthMode,
    /// The `iss` a token has to have.
    pub issuer: Option<String>,
    /// The `aud` a token has to have.
    pub audience: Option<String>,
    /// Whether `?token=` is accepted where a browser cannot send a header.
    pub query_token: bool,
    /// The user that adapters of systems without authentication act as when nobody says who they are.
    pub anonymous: Option<String>,
}

/// What tokens are checked against.
#[derive(Clone, Debug)]
pub enum AuthMode {
    /// No secret was given: one is made once and kept in this file. Loopback only; `/auth/token` exists.
    Development {
        /// Where it is kept.
        secret_file: PathBuf,
    },
    /// HS256 with a shared secret.
    Secret {
        /// Signs and verifies.
        current: SecretString,
        /// Still verifies, while a rotation lasts.
        previous: Option<SecretString>,
    },
    /// The public keys of an identity provider.
    Jwks {
        /// Where they are.
        url: String,
        /// The one algorithm they are used with.
        algorithm: JwksAlgorithm,
    },
}

/// The algorithms a key set may be used with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwksAlgorithm {
    /// RSA with SHA-256.
    Rs256,
    /// ECDSA on P-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

/// Where logs and records live.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// Which store.
    pub kind: StorageKind,
    /// The database file of `sqlite`, the directory of `file`; unused by `memory`.
    pub path: PathBuf,
    /// What an append of `sqlite` survives.
    pub synchronous: Synchronous,
    /// What an append of `file` survives.
    pub fsync: FsyncPolicy,
}

/// The stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageKind {
    /// Nothing survives a restart.
    Memory,
    /// Plain files.
    File,
    /// One SQLite database.
    Sqlite,
}

/// Model vendors.
#[derive(Clone, Debug)]
pub struct ProviderConfig {
    /// Who answers for agents that name none.
    pub kind: ProviderKind,
    /// The model of agents that name none; the provider's own default if `None`.
    pub model: Option<String>,
    /// Time per token of `demo`.
    pub demo_pace: Duration,
    /// OpenAI and everything that speaks like it.
    pub openai: VendorConfig,
    /// Anthropic.
    pub anthropic: VendorConfig,
}

/// The providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProviderKind {
    /// Built in, offline.
    Demo,
    /// OpenAI and everything that speaks like it.
    OpenAi,
    /// Anthropic.
    Anthropic,
}

impl ProviderKind {
    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            ProviderKind::Demo => "demo",
            ProviderKind::OpenAi => "openai",
            ProviderKind::Anthropic => "anthropic",
        }
    }
}

/// How to reach one vendor.
#[derive(Clone, Debug, Default)]
pub struct VendorConfig {
    /// Another place that speaks the vendor's API; the vendor's own if `None`.
    pub base_url: Option<String>,
    /// The key. Absent only where a base URL is given that needs none.
    pub api_key: Option<SecretString>,
}

/// Which tools are set up.
#[derive(Clone, Debug)]
pub struct ToolsConfig {
    /// Whether scripts are run, and within which bounds.
    pub code_execution: Option<CodeLimits>,
    /// The service that searches the web.
    pub web_search: Option<SearchConfig>,
    /// Whether pages of the web are read, and which others.
    pub http_fetch: Option<FetchConfig>,
    /// Servers whose tools are taken in.
    pub mcp: Vec<McpServerConfig>,
}

/// A server of the Model Context Protocol.
#[derive(Clone, Debug)]
pub struct McpServerConfig {
    /// Its name.
    pub name: String,
    /// The program it is, with what it is started with; or else it has a URL.
    pub command: Option<(String, Vec<String>)>,
    /// Variables of the environment that the program may see.
    pub environment: Vec<String>,
    /// Where it answers, if it is no program.
    pub url: Option<String>,
    /// Sent there as a bearer token.
    pub token: Option<SecretString>,
    /// The longest one call may take.
    pub call_timeout: Duration,
    /// Which of its tools are taken.
    pub tools: Vec<String>,
}

/// Which pages are read besides those of the public internet over TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchConfig {
    /// Those over plain HTTP too.
    pub allow_http: bool,
    /// Those at these addresses, though they are not public.
    pub allowed_private: Vec<IpNet>,
}

/// Bounds of one script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeLimits {
    /// The longest it may take.
    pub wall: Duration,
    /// Of the processor.
    pub cpu: Duration,
    /// Of the engine, in bytes.
    pub memory: usize,
}

/// A named agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What the model is told before the conversation.
    pub instructions: Option<String>,
    /// Who answers.
    pub provider: ProviderKind,
    /// With which model; the provider's default if `None`.
    pub model: Option<String>,
    /// Who is asked when that one does not begin to answer, and with which model.
    pub fallbacks: Vec<(ProviderKind, Option<String>)>,
    /// Tools it may always call.
    pub tools: Vec<String>,
    /// Tools whose calls wait for a person's yes: always, or where a rule says so.
    pub approve: Vec<(String, Option<String>)>,
    /// Agents it may hand work to.
    pub sub_agents: Vec<String>,
    /// Model calls of one task.
    pub max_steps: Option<u32>,
    /// The deadline of a task that names none.
    pub timeout: Option<Duration>,
    /// Attempts of one model call.
    pub attempts: Option<u32>,
}

/// Logs.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// For people or for programs.
    pub format: LogFormat,
    /// A filter of `tracing`: `info`, `agent_hub=debug,info` …
    pub filter: String,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}

impl StorageKind {
    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            StorageKind::Memory => "memory",
            StorageKind::File => "file",
            StorageKind::Sqlite => "sqlite",
        }
    }
}

/// Reads a time as the configuration does: `15min`, `24 h`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    <Duration as value::Setting>::parse(text.trim())
}

impl Config {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// Every mistake there is.
    pub fn load(inputs: &Inputs) -> Result<Self, Mistakes> {
        sections::read(inputs).map_err(Mistakes)
    }

    /// The file that ships as `agent-hub.example.toml`.
    pub fn example() -> String {
        // Nothing given is a valid configuration; a test holds it to that.
        Self::load(&Inputs::default()).map(|config| config.report.example()).unwrap_or_default()
    }

    /// Whether the hub runs without anybody having said who may come in.
    pub fn is_development(&self) -> bool {
        matches!(self.auth.mode, AuthMode::Development { .. })
    }
}
