//! Tools of MCP servers, as operators have configured them. Each server is kept connected by one task; its tools are there as soon as it has
//! listed them, under its name: `files__read`.
//!
//! A tool is what it was when this process first saw it. One whose description or arguments change later is not called any more, because
//! what an operator has looked at is no longer what a model would be told.

mod keeper;
mod names;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures::{FutureExt as _, future::BoxFuture};
use rmcp::{
    RoleClient,
    model::{CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, RequestMetaObject, Tool as ListedTool},
    service::{Peer, ServiceError},
};
use secrecy::SecretString;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{Invocation, SharedTool, Tool, ToolError, ToolErrorCode, ToolSource};
use crate::provider::ToolSpec;

/// Of a description, in characters: it is told to the model with every call.
const DESCRIPTION_CHARS: usize = 4096;
/// Of a schema, in bytes, for the same reason.
const SCHEMA_BYTES: usize = 32 * 1024;
/// Tools of one server.
const MOST_TOOLS: usize = 200;
/// How long a call waits for a server that is being connected again.
const RECONNECTED_WITHIN: Duration = Duration::from_secs(5);
/// How a call tells a server that it may have been made before.
const IDEMPOTENCY_KEY: &str = "agent-hub/idempotencyKey";

/// A server as it is configured.
#[derive(Clone, Debug)]
pub struct McpConfig {
    /// Its name, the beginning of its tools' names.
    pub name: String,
    /// How to reach it.
    pub place: McpPlace,
    /// The longest one call may take.
    pub call_timeout: Duration,
    /// Which of its tools are taken; a name that ends with `*` means all that begin so.
    pub tools: Vec<String>,
}

/// Where a server is.
#[derive(Clone, Debug)]
pub enum McpPlace {
    /// A program of this machine, spoken to through its standard input and output.
    Program {
        /// The program.
        command: String,
        /// What it is started with.
        arguments: Vec<String>,
        /// Variables of this hub's environment that it may see, besides `PATH`.
        environment: Vec<String>,
    },
    /// A URL, spoken to over streamable HTTP.
    Http {
        /// Where.
        url: String,
        /// Sent as a bearer token.
        token: Option<SecretString>,
    },
}

/// A server: its tools, and the connection to it if there is one. Cheap to clone.
#[derive(Clone)]
pub struct McpServer(Arc<Server>);

struct Server {
    config: McpConfig,
    tools: ArcSwap<Arc<[SharedTool]>>,
    /// Whom calls are made to.
    connection: ArcSwapOption<Connection>,
    /// What each tool was when it was first seen, by its own name.
    pins: Mutex<BTreeMap<String, Pin>>,
    /// How often it was tried to connect it, whatever came of that.
    tried: watch::Sender<u64>,
}

#[derive(Clone)]
struct Pin {
    hash: [u8; 32],
    spec: ToolSpec,
}

impl fmt::Debug for McpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("McpServer").field(&self.0.config.name).finish()
    }
}

impl McpServer {
    /// One that is not connected yet.
    pub fn new(config: McpConfig) -> Self {
        Self(Arc::new(Server {
            config,
            tools: ArcSwap::from_pointee(Arc::new([]) as Arc<[SharedTool]>),
            connection: ArcSwapOption::empty(),
            pins: Mutex::default(),
            tried: watch::Sender::new(0),
        }))
    }

    /// Waits until it was tried to connect it, so that its tools are there if they can be.
    pub async fn tried(&self) {
        // Its sender lives as long as this.
        let _ = self.0.tried.subscribe().wait_for(|times| *times > 0).await;
    }

    /// Keeps it connected until `stop`. The program it is, if it is one, ends with this.
    pub async fn run(self, stop: CancellationToken) {
        keeper::keep(&self.0, &stop).await;
    }
}

impl ToolSource for McpServer {
    fn tools(&self) -> Arc<[SharedTool]> {
        Arc::clone(&self.0.tools.load())
    }
}

impl Server {
    /// Takes a list of tools over.
    fn take(self: &Arc<Self>, listed: Vec<ListedTool>) {
        let name = &self.config.name;
        if listed.len() > MOST_TOOLS {
            tracing::warn!(server = %name, tools = listed.len(), "the server has more than {MOST_TOOLS} tools; the rest is left out");
        }
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tools: Vec<SharedTool> = Vec::new();
        for tool in listed.into_iter().take(MOST_TOOLS).filter(|tool| names::wanted(&self.config.tools, &tool.name)) {
            let own = tool.name.to_string();
            let Some(full) = names::full(name, &own).filter(|full| tools.iter().all(|other| other.spec().name != *full)) else {
                tracing::warn!(server = %name, tool = %own, "a tool is left out: vendors of models do not take its name");
                continue;
            };
            let schema = Value::Object((*tool.input_schema).clone());
            if schema.to_string().len() > SCHEMA_BYTES || jsonschema::validator_for(&schema).is_err() {
                tracing::warn!(server = %name, tool = %own, "a tool is left out: the schema of its arguments is none, or too long");
                continue;
            }
            let description = tool.description.as_deref().unwrap_or_default();
            let hash = hash(description, &schema);
            let short = description.chars().take(DESCRIPTION_CHARS).collect();
            let spec = ToolSpec { name: full, description: short, parameters: schema };
            let pin = pins.entry(own.clone()).or_insert_with(|| Pin { hash, spec });
            let changed = pin.hash != hash;
            if changed {
                tracing::warn!(server = %name, tool = %own, "a tool is not what it was when it was first seen, and is not called any more; restart to take it as it is");
            }
            tools.push(Arc::new(McpTool { server: Arc::clone(self), own, spec: pin.spec.clone(), changed }));
        }
        tracing::info!(server = %name, tools = tools.len(), "an MCP server is connected");
        self.tools.store(Arc::new(tools.into()));
    }
}

struct McpTool {
    server: Arc<Server>,
    /// What the server calls it.
    own: String,
    spec: ToolSpec,
    changed: bool,
}

impl fmt::Debug for McpTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("McpTool").field(&self.spec.name).finish()
    }
}

impl Tool for McpTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call(&self, call: Invocation) -> BoxFuture<'static, Result<Value, ToolError>> {
        if self.changed {
            let text = "The tool is not what it was when it was first seen; somebody has to look at it before it is called again";
            return futures::future::ready(Err(ToolError::new(ToolErrorCode::Refused, text))).boxed();
        }
        let (server, own) = (Arc::clone(&self.server), self.own.clone());
        async move { server.call(own, call).await }.boxed()
    }

    fn time_limit(&self) -> Duration {
        self.server.config.call_timeout
    }
}

/// A connection that stands, or has just broken.
struct Connection {
    peer: Peer<RoleClient>,
    /// A call has found that something is wrong with it. Its own: what is said of an old one must not end the next.
    broken: Notify,
    /// It is given up: nothing that was asked over it will be answered.
    gone: CancellationToken,
}

impl Server {
    /// Whom to call; waits a little for a server that is being connected again.
    async fn connection_soon(&self) -> Option<Arc<Connection>> {
        let mut tried = self.tried.subscribe();
        let connected = async {
            loop {
                if let Some(connection) = self.connection.load_full() {
                    return Some(connection);
                }
                tried.changed().await.ok()?;
            }
        };
        tokio::time::timeout(RECONNECTED_WITHIN, connected).await.ok().flatten()
    }

    /// Makes a call. When it is dropped the server is told that nobody waits for the answer.
    async fn call(&self, tool: String, call: Invocation) -> Result<Value, ToolError> {
        let gone = || ToolError::new(ToolErrorCode::Unavailable, format!("The MCP server {} cannot be reached", self.config.name));
        let connection = self.connection_soon().await.ok_or_else(gone)?;
        let mut meta = RequestMetaObject::new();
        meta.0.0.insert(IDEMPOTENCY_KEY.to_owned(), call.idempotency_key().into());
        let mut request = CallToolRequestParams::new(tool);
        (request.meta, request.arguments) = (Some(meta), Some(call.arguments));
        let answer = tokio::select! {
            answer = connection.peer.call_tool_once(request) => answer,
            () = connection.gone.cancelled() => return Err(gone()),
        };
        match answer {
            Ok(CallToolResponse::Complete(result)) => answered(result),
            Ok(_) => Err(ToolError::new(ToolErrorCode::Failed, "The MCP server asks for something this hub does not have")),
            Err(ServiceError::McpError(error)) => Err(ToolError::new(ToolErrorCode::Failed, error.message.to_string())),
            Err(error) => {
                tracing::debug!(server = %self.config.name, %error, "a call of an MCP server broke off");
                connection.broken.notify_one();
                Err(gone())
            }
        }
    }
}

fn answered(result: CallToolResult) -> Result<Value, ToolError> {
    let text = || -> String {
        let shown = result.content.iter().map(|block| match block {
            ContentBlock::Text(text) => text.text.clone(),
            ContentBlock::Image(image) => format!("[an image, {}, {} bytes of base64]", image.mime_type, image.data.len()),
            ContentBlock::Audio(audio) => format!("[a sound, {}, {} bytes of base64]", audio.mime_type, audio.data.len()),
            ContentBlock::Resource(_) => "[a resource]".to_owned(),
            ContentBlock::ResourceLink(link) => format!("[a resource: {}]", link.uri),
            _ => "[something that is no text]".to_owned(),
        });
        shown.collect::<Vec<_>>().join("\n")
    };
    if result.is_error == Some(true) {
        return Err(ToolError::new(ToolErrorCode::Failed, text()));
    }
    Ok(result.structured_content.clone().unwrap_or_else(|| text().into()))
}

/// Names what a model is told of a tool. Maps are hashed with their keys in order.
fn hash(description: &str, schema: &Value) -> [u8; 32] {
    fn feed(value: &Value, into: &mut Sha256) {
        match value {
            Value::Object(fields) => {
                let mut keys: Vec<&String> = fields.keys().collect();
                keys.sort();
                into.update(b"{");
                for key in keys {
                    feed(&Value::String(key.clone()), into);
                    feed(&fields[key], into);
                }
                into.update(b"}");
            }
            Value::Array(items) => {
                into.update(b"[");
                items.iter().for_each(|item| feed(item, into));
                into.update(b"]");
            }
            plain => into.update(plain.to_string()),
        }
    }
    let mut into = Sha256::new();
    feed(&Value::String(description.to_owned()), &mut into);
    feed(schema, &mut into);
    into.finalize().into()
}
