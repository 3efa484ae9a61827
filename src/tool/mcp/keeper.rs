//! Keeps a server connected: starts it, lists its tools, lists them anew when they change, and begins again when it is gone.

use std::{process::Stdio, sync::Arc, time::Duration};

use rmcp::{
    ClientHandler, RoleClient,
    model::{ClientCapabilities, ClientConfig, Implementation},
    service::{NotificationContext, RunningService, serve_client},
    transport::{StreamableHttpClientTransport, TokioChildProcess, streamable_http_client::StreamableHttpClientTransportConfig},
};
use secrecy::ExposeSecret as _;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{ChildStderr, Command},
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Connection, McpPlace, Server};

/// To start it, and to list its tools.
const CONNECT: Duration = Duration::from_secs(20);
/// Between two attempts: twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// For a server to go when it is told to.
const GOODBYE: Duration = Duration::from_secs(2);
/// One answer of a server, in bytes. Far above what is shown to a model; below what would hurt.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// Of a line that a program writes on its standard error, in bytes.
const LINE_BYTES: usize = 1000;

type Running = RunningService<RoleClient, Handler>;

/// A server that has just been connected.
struct Connected {
    running: Running,
    connection: Arc<Connection>,
    /// Of a program: its standard error.
    said: Option<ChildStderr>,
}

/// Hears what the server says by itself.
#[derive(Clone)]
struct Handler {
    changed: Arc<Notify>,
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("agent-hub", env!("CARGO_PKG_VERSION")))
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }
}

pub(super) async fn keep(server: &Arc<Server>, stop: &CancellationToken) {
    let name = &server.config.name;
    let mut pause = FIRST_PAUSE;
    loop {
        let changed = Arc::new(Notify::new());
        let connected = tokio::select! {
            () = stop.cancelled() => return,
            connected = timeout(CONNECT, connect(server, Arc::clone(&changed))) => connected.unwrap_or_else(|_| Err("it does not answer".to_owned())),
        };
        server.tried.send_modify(|times| *times += 1);
        match connected {
            Ok(connected) => {
                pause = FIRST_PAUSE;
                if attend(server, connected, &changed, stop).await {
                    return;
                }
                tracing::warn!(server = %name, "an MCP server is gone; it is connected again");
            }
            Err(why) => tracing::warn!(server = %name, %why, "an MCP server cannot be connected; it is tried again"),
        }
        // Spread, so that several of them do not come back at once.
        let spread = pause.mul_f64(0.5 + f64::from(uuid::Uuid::new_v4().as_bytes()[0]) / 255.0);
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(spread) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn connect(server: &Arc<Server>, changed: Arc<Notify>) -> Result<Connected, String> {
    let handler = Handler { changed };
    let (running, said) = match &server.config.place {
        McpPlace::Program { command, arguments, environment } => {
            let mut program = Command::new(command);
            program.args(arguments).env_clear().kill_on_drop(true);
            for name in std::iter::once("PATH").chain(environment.iter().map(String::as_str)) {
                if let Some(value) = std::env::var_os(name) {
                    program.env(name, value);
                }
            }
            let started = TokioChildProcess::builder(program).stderr(Stdio::piped()).spawn();
            let (process, said) = started.map_err(|error| format!("it cannot be started: {error}"))?;
            (serve_client(handler, process).await.map_err(|error| error.to_string())?, said)
        }
        McpPlace::Http { url, token } => {
            let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_str())
                .max_json_response_size(ANSWER_BYTES)
                .max_sse_event_size(ANSWER_BYTES)
                .reinit_on_expired_session(true);
            if let Some(token) = token {
                config = config.auth_header(token.expose_secret());
            }
            // Its own text may name the token's header.
            let running = serve_client(handler, StreamableHttpClientTransport::from_config(config)).await;
            (running.map_err(|_| "it does not answer as an MCP server".to_owned())?, None)
        }
    };
    let listed = running.peer().list_all_tools().await.map_err(|error| format!("its tools cannot be listed: {error}"))?;
    server.take(listed);
    let connection = Connection { peer: running.peer().clone(), broken: Notify::new(), gone: CancellationToken::new() };
    let connection = Arc::new(connection);
    // Before it is said that it was tried: whoever waits for that looks for this then.
    server.connection.store(Some(Arc::clone(&connection)));
    Ok(Connected { running, connection, said })
}

/// Stays with a connected server until it is gone or `stop`; true for the latter.
async fn attend(server: &Arc<Server>, connected: Connected, changed: &Notify, stop: &CancellationToken) -> bool {
    let Connected { running, connection, said } = connected;
    let end = running.cancellation_token();
    let mut gone = std::pin::pin!(running.waiting());
    let mut logged = std::pin::pin!(log(&server.config.name, said));
    let mut over = false;
    let stopped = loop {
        tokio::select! {
            () = stop.cancelled() => break true,
            _ = &mut gone => {
                over = true;
                break false;
            }
            () = connection.broken.notified() => break false,
            () = &mut logged => {}
            () = changed.notified() => match timeout(CONNECT, connection.peer.list_all_tools()).await {
                Ok(Ok(listed)) => server.take(listed),
                _ => break false,
            },
        }
    };
    // Nobody is sent to it any more, and who waits for it does not.
    server.connection.store(None);
    connection.gone.cancel();
    if !over {
        end.cancel();
        // One that does not go is killed when it is dropped.
        let _ = timeout(GOODBYE, gone).await;
    }
    stopped
}

/// Passes on what a program says on its standard error. Never ready: it has nothing to say in the end.
async fn log(server: &str, said: Option<ChildStderr>) {
    if let Some(said) = said {
        let mut lines = BufReader::new(said).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            let line = String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES)]).into_owned();
            tracing::debug!(%server, "{line}");
        }
    }
    std::future::pending().await
}
