//! Builds a hub from a checked configuration, serves it, and stops it.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[cfg(feature = "mcp")]
use crate::tool::{ToolSource, mcp::McpServer};
use crate::{
    app::App,
    auth::{Authenticator, SecretFileError, Tickets},
    config::{Config, StorageKind},
    runtime::{Hub, hub::HubParts, metrics::Metrics},
    store::{OpenError, StoreError},
    telemetry::MetricsHandle,
};

mod banner;
mod builder;
mod front;
mod listen;
mod parts;
mod signals;

pub use builder::{HubBuilder, Route};
pub use front::{edge_parts, front_settings};
pub use listen::Listener;
pub use parts::{open_store, open_view};

/// How long the start waits for tools of MCP servers.
#[cfg(feature = "mcp")]
const TOOLS_WITHIN: Duration = Duration::from_secs(5);
/// How often expired tickets are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Why the hub does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Somebody else has the port.
    #[error("{0} is in use by another process; stop it, or choose another port with PORT or --port")]
    PortTaken(SocketAddr),
    /// No port was given, and all that were tried are taken.
    #[error("the ports {first} to {last} are all in use; choose one with PORT or --port")]
    NoFreePort {
        /// The first tried.
        first: u16,
        /// The last tried.
        last: u16,
    },
    /// The address cannot be used.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It listened, and does not any more.
    #[error("the listener failed")]
    Listener(#[source] io::Error),
    /// The development secret.
    #[error(transparent)]
    Secret(#[from] SecretFileError),
    /// A directory the hub needs.
    #[error("cannot make the directory {path}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store.
    #[error("the store cannot be opened")]
    Store(#[from] OpenError),
    /// What is in the store.
    #[error("the store cannot be read")]
    Recover(#[source] StoreError),
    /// A route that a program has added cannot be served.
    #[error("the path of the route {0} must begin with /")]
    Route(String),
    /// Workflows that a program has added do not fit together, or do not fit the agents there are.
    #[error("the workflows do not fit: {0}")]
    Workflows(String),
    /// A tool that was asked for.
    #[error("the tool {name} cannot be had: {reason}")]
    Tool {
        /// Which.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// An agent's texts.
    #[error("the agent {name} cannot be made: {reason}")]
    Agent {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
    /// A model vendor's client.
    #[error("the provider {name} cannot be made: {reason}")]
    Provider {
        /// Which.
        name: &'static str,
        /// Why.
        reason: String,
    },
}

/// Serves until SIGTERM or SIGINT, then drains. A second signal ends the process at once.
///
/// # Errors
/// When the hub cannot start, or its listener fails; see [`ServeError`].
pub async fn serve(config: Config) -> Result<(), ServeError> {
    serve_with(config, HubBuilder::new()).await
}

async fn serve_with(config: Config, more: HubBuilder) -> Result<(), ServeError> {
    let custom = builder::surface(&more.routes)?;
    let routes: Vec<String> = more.routes.iter().map(ToString::to_string).collect();
    let stop = CancellationToken::new();
    let metrics = MetricsHandle::install().unwrap_or_else(|_| MetricsHandle::detached());
    // The port first: a second hub on the same port must not get as far as the store.
    let listener = listen::bind(&config.server)?;
    let (app, helpers) = start(config, metrics, &stop, Some(listener.address.port()), more).await?;
    // Dropping the set ends the task: the second signal is awaited as long as there is something to cut short.
    let mut signals = JoinSet::new();
    signals.spawn(signals::stop_on_signal(stop.clone()));
    banner::say(&app.config, listener.address, &routes);

    let served = front::serve(Arc::clone(&app), listener, custom, stop.clone()).await;
    stop.cancel();
    finish(&app).await;
    helpers.close();
    helpers.wait().await;
    served.map_err(ServeError::Listener)
}

/// Builds everything behind the front, which listens at `own_port`, with what a program adds to it. What runs beside it ends with `stop`.
///
/// # Errors
/// When the hub cannot start; see [`ServeError`].
pub async fn start(
    config: Config,
    metrics: MetricsHandle,
    stop: &CancellationToken,
    own_port: Option<u16>,
    more: HubBuilder,
) -> Result<(Arc<App>, TaskTracker), ServeError> {
    make_directories(&config)?;
    let auth = Arc::new(Authenticator::open(&config.auth)?);
    let store = parts::open_store(&config.storage)?;
    let HubBuilder { agents, tools, mut sources, workflows, routes: _ } = more;
    #[cfg(feature = "mcp")]
    let servers = parts::mcp_servers(&config);
    let helpers = TaskTracker::new();
    #[cfg(feature = "mcp")]
    connect(&servers, &helpers, stop).await;
    #[cfg(feature = "mcp")]
    sources.extend(servers.iter().map(|server| Arc::new(server.clone()) as Arc<dyn ToolSource>));
    let toolbox = parts::tools(&config, own_port, tools, sources).await?;
    let agents = parts::agents(&config, agents, toolbox)?;
    let workflows = parts::workflows(&config, workflows, &agents)?;
    let hub = Hub::start(HubParts { settings: config.runtime.clone(), store, agents, workflows, metrics: Metrics::register() });
    let recovered = hub.recover().await.map_err(ServeError::Recover)?;
    if recovered > 0 {
        tracing::info!(sessions = recovered, "sessions with unfinished tasks are recovered");
    }
    let app = Arc::new(App { hub, auth, tickets: Tickets::default(), config, metrics, started_at: Instant::now() });

    helpers.spawn(app.metrics.clone().keep(stop.clone()));
    let (keeper, stopped) = (Arc::clone(&app), stop.clone());
    helpers.spawn(async move { keeper.auth.keep_fresh(stopped).await });
    helpers.spawn(sweep_tickets(Arc::clone(&app), stop.clone()));
    Ok((app, helpers))
}

async fn finish(app: &App) {
    tracing::info!("stopping");
    if !app.hub.stop(app.config.server.drain).await {
        tracing::warn!("some sessions did not stop in time; what they had not written is recovered by the next start");
    }
    if let Err(error) = app.hub.store().close().await {
        tracing::warn!(%error, "the store was not closed cleanly");
    }
    tracing::info!("stopped");
}

/// Has MCP servers connected, and waits a little: tasks that are recovered should find the tools they were using.
#[cfg(feature = "mcp")]
async fn connect(servers: &[McpServer], helpers: &TaskTracker, stop: &CancellationToken) {
    for server in servers {
        helpers.spawn(server.clone().run(stop.clone()));
    }
    let all = futures::future::join_all(servers.iter().map(McpServer::tried));
    if tokio::time::timeout(TOOLS_WITHIN, all).await.is_err() {
        tracing::warn!("some MCP servers do not answer; the hub starts without their tools");
    }
}

async fn sweep_tickets(app: Arc<App>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SWEEP_EVERY) => app.tickets.sweep(),
        }
    }
}

fn make_directories(config: &Config) -> Result<(), ServeError> {
    // The data is what people said to agents: nobody else on the machine may read it.
    if config.is_development() {
        make_directory(&config.data_dir, 0o700)?;
    }
    let store = match config.storage.kind {
        StorageKind::Memory => None,
        StorageKind::File => Some(config.storage.path.as_path()),
        StorageKind::Sqlite => config.storage.path.parent(),
    };
    if let Some(directory) = store.filter(|path| !path.as_os_str().is_empty()) {
        make_directory(directory, 0o700)?;
    }
    config.workspace.as_deref().map_or(Ok(()), |path| make_directory(path, 0o755))
}

fn make_directory(path: &Path, mode: u32) -> Result<(), ServeError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|source| ServeError::Directory { path: path.to_owned(), source })
}
