//! What an agent may call. The runtime sees [`Tool`] and nothing behind it.

#[cfg(feature = "js")]
pub mod code;
pub mod files;
#[cfg(feature = "mcp")]
pub mod mcp;
pub mod toolbox;
pub mod web;

use std::{fmt, sync::Arc, time::Duration};

use agent_hub_protocol::{SessionId, TaskId};
use futures::future::BoxFuture;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

pub use self::toolbox::{Toolbox, ToolboxError};
pub(crate) use self::toolbox::{bounded, misfit};
use crate::provider::ToolSpec;

/// A tool, shared by everything in the process.
pub type SharedTool = Arc<dyn Tool>;

/// Pieces of output a running call may be ahead of its reader. Full: the call waits in [`Output::write`].
const OUTPUT_PIECES: usize = 16;

/// Something an agent may call.
pub trait Tool: Send + Sync + fmt::Debug + 'static {
    /// Its name, what it is for, and the JSON Schema of its arguments (`type: object`).
    fn spec(&self) -> &ToolSpec;

    /// Starts one call. The arguments fit the schema of [`Tool::spec`]. **Dropping the future stops the work**: processes it started are
    /// killed, connections it opened are closed, before the drop returns or right after it.
    ///
    /// # Errors
    /// What the model is told instead of a result.
    fn call(&self, call: Invocation) -> BoxFuture<'static, Result<Value, ToolError>>;

    /// A session is erased: what the tool keeps of it goes too. Best effort: a failure is logged by the tool.
    fn forget(&self, _user: &str, _session: SessionId) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    /// The longest a call may take; then it is dropped, and the model is told so.
    fn time_limit(&self) -> Duration {
        Duration::from_secs(30)
    }
}

/// Tools that come and go while the hub runs, such as those of an MCP server.
pub trait ToolSource: Send + Sync + fmt::Debug + 'static {
    /// Those that are there now. Cheap: asked at every step of every task.
    fn tools(&self) -> Arc<[SharedTool]>;
}

/// One call of a tool.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// In which session.
    pub session: SessionId,
    /// For which task.
    pub task: TaskId,
    /// Which call; unique in the session, and the same when a call is made again because the hub stopped before its result was kept.
    pub call_id: String,
    /// For whom: the owner of the session.
    pub user: String,
    /// A JSON object's members.
    pub arguments: Map<String, Value>,
    /// What the call says while it runs.
    pub output: Output,
}

impl Invocation {
    /// For services that can tell a repeated request from a new one: the same for every attempt at this call, and for no other call.
    pub fn idempotency_key(&self) -> String {
        format!("{}/{}", self.session, self.call_id)
    }

    /// A text argument. The schema has promised it, so its absence is the tool's own mistake.
    ///
    /// # Errors
    /// There is none.
    pub fn text(&self, name: &str) -> Result<&str, ToolError> {
        let text = self.arguments.get(name).and_then(Value::as_str);
        text.ok_or_else(|| ToolError::new(ToolErrorCode::InvalidArguments, format!("{name:?} must be a text")))
    }
}

/// Where a running call says what it does, such as the console of a program. It is shown to people at once and is not its result.
#[derive(Clone, Debug)]
pub struct Output(Option<mpsc::Sender<String>>);

impl Output {
    /// One that leads somewhere.
    pub fn channel() -> (Self, mpsc::Receiver<String>) {
        let (sender, receiver) = mpsc::channel(OUTPUT_PIECES);
        (Self(Some(sender)), receiver)
    }

    /// One that nobody reads.
    pub const fn unread() -> Self {
        Self(None)
    }

    /// Says something. Waits while its reader is behind; returns at once when nobody reads any more.
    ///
    /// Cancel safety: a piece is said as a whole or not at all.
    pub async fn write(&self, text: impl Into<String>) {
        if let Some(sender) = &self.0 {
            // A reader that has gone needs nothing.
            let _ = sender.send(text.into()).await;
        }
    }
}

/// Why a call has no result. The text is for the model and for people: no key, no path of this machine, no body of another service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ToolError {
    /// What kind of failure.
    pub code: ToolErrorCode,
    /// What went wrong, so that the model can do better.
    pub message: String,
}

impl ToolError {
    /// A failure of this kind.
    pub fn new(code: ToolErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Kinds of failure, as far as somebody decides by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolErrorCode {
    /// No tool has this name, or the task may not use it.
    UnknownTool,
    /// The tool is known but not set up in this hub, or cannot be reached now.
    Unavailable,
    /// The arguments do not fit the schema.
    InvalidArguments,
    /// A rule forbids it: an address inside, a path outside, a person who said no.
    Refused,
    /// What was asked for is not there.
    NotFound,
    /// It took too long.
    TimedOut,
    /// It took, or gave, too much: bytes, memory.
    TooLarge,
    /// It was tried and went wrong.
    Failed,
}

impl ToolErrorCode {
    /// As written in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            ToolErrorCode::UnknownTool => "unknown_tool",
            ToolErrorCode::Unavailable => "unavailable",
            ToolErrorCode::InvalidArguments => "invalid_arguments",
            ToolErrorCode::Refused => "refused",
            ToolErrorCode::NotFound => "not_found",
            ToolErrorCode::TimedOut => "timed_out",
            ToolErrorCode::TooLarge => "too_large",
            ToolErrorCode::Failed => "failed",
        }
    }
}
