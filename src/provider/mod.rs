//! Speaks to model vendors. The runtime sees [`ModelProvider`] and nothing behind it.

pub mod anthropic;
pub mod breaker;
pub mod demo;
pub mod openai;
pub mod resilient;
pub mod vendor;

use std::{fmt, sync::Arc, time::Duration};

use futures::stream::BoxStream;
use serde_json::{Map, Value};

/// A provider, shared by everything in the process.
pub type SharedProvider = Arc<dyn ModelProvider>;

/// What a call yields: text as it comes, ended by exactly one [`ModelEvent::End`] or one error.
/// **Dropping it aborts the call**: the connection to the vendor is closed before the drop returns or right after it.
pub type ModelStream = BoxStream<'static, Result<ModelEvent, ProviderError>>;

/// A model vendor, or something that acts as one.
pub trait ModelProvider: Send + Sync + fmt::Debug + 'static {
    /// The name in the configuration and in metrics: `demo`, `openai`, `anthropic`.
    fn name(&self) -> &str;

    /// The model that answers when a request names none.
    fn default_model(&self) -> &str;

    /// Starts one model call. Returns at once; the vendor is contacted when the stream is polled. It always streams.
    fn call(&self, request: ModelRequest) -> ModelStream;

    /// Whether an option of this name reaches the vendor. What it does not know is named to the client, not sent.
    fn knows_option(&self, name: &str) -> bool;

    /// Whether a call made now would be tried at all (the breaker is not open). Asked by `/ready`.
    fn available(&self) -> bool {
        true
    }
}

/// One model call.
#[derive(Clone, Debug, Default)]
pub struct ModelRequest {
    /// The model's exact name; the provider's default if `None`.
    pub model: Option<String>,
    /// What the agent is told before the conversation.
    pub instructions: Option<String>,
    /// The conversation, oldest first. Valid for strict vendors: every tool call is followed by its result.
    pub messages: Vec<ModelMessage>,
    /// What it may call.
    pub tools: Vec<ToolSpec>,
    /// Options of the call, as the client gave them (`temperature`, `maxOutputTokens`, `topP`, `stop` …). Those that
    /// [`ModelProvider::knows_option`] denies are not passed on.
    pub options: Map<String, Value>,
    /// JSON Schema of the answer, where it is to be JSON. Vendors with a mode for it are told; the instructions say it in any case.
    pub answer_schema: Option<Value>,
    /// Attempts as long as nothing has come, the first included; what the provider is configured to if `None`.
    pub attempts: Option<u32>,
    /// Names the call in logs; sent to no vendor.
    pub call_label: String,
}

/// One entry of the conversation.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelMessage {
    /// A person.
    User(String),
    /// The agent: what it said and what it called.
    Assistant {
        /// What it said; may be empty if it called something.
        text: String,
        /// What it called.
        tool_calls: Vec<ModelToolCall>,
    },
    /// What a call returned.
    ToolResult {
        /// Which call.
        call_id: String,
        /// The tool.
        tool: String,
        /// The result, as text for the model.
        content: String,
        /// Whether it is a failure.
        is_error: bool,
    },
}

/// A call the model asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelToolCall {
    /// Unique in the conversation.
    pub call_id: String,
    /// The tool.
    pub tool: String,
    /// A JSON object. Text that was no JSON arrives as a string.
    pub arguments: Value,
}

/// A tool the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolSpec {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelEvent {
    /// Text of the answer; never empty.
    Text(String),
    /// Text the model thinks but does not say; never empty.
    Reasoning(String),
    /// A whole call, once its arguments are complete. Its `call_id` is the vendor's.
    ToolCall(ModelToolCall),
    /// The last item: the answer is whole.
    End(CallEnd),
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallEnd {
    /// Model tokens read; 0 if the vendor did not say.
    pub input_tokens: u64,
    /// Model tokens written; 0 if the vendor did not say.
    pub output_tokens: u64,
    /// Whether the vendor cut the answer at its length limit.
    pub truncated: bool,
}

/// Why a call failed. The text is for the caller's eyes: no key, no prompt, no body of the vendor.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ProviderError {
    /// What kind of failure.
    pub kind: ProviderErrorKind,
    /// For people.
    pub message: String,
    /// How long the vendor asks to wait.
    pub retry_after: Option<Duration>,
}

/// Kinds of failure, as far as somebody decides by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderErrorKind {
    /// The breaker is open: nothing was sent.
    Unavailable,
    /// No connection, or it broke before the answer ended.
    Connection,
    /// No first byte, or no next one, in time.
    Timeout,
    /// The vendor answered with this status.
    Status(u16),
    /// The vendor sent something that is not its own wire format.
    Garbage,
    /// This build or configuration cannot make the call.
    Config,
}

impl ProviderErrorKind {
    /// Whether the vendor is to blame, so that the breaker counts it: not for 4xx other than 408 and 429.
    pub const fn counts_against_vendor(self) -> bool {
        match self {
            ProviderErrorKind::Unavailable | ProviderErrorKind::Config => false,
            ProviderErrorKind::Connection | ProviderErrorKind::Timeout | ProviderErrorKind::Garbage => true,
            ProviderErrorKind::Status(status) => matches!(status, 408 | 429) || status >= 500,
        }
    }

    /// Whether the same call may succeed when made again.
    pub const fn retryable(self) -> bool {
        match self {
            ProviderErrorKind::Unavailable => true,
            ProviderErrorKind::Config => false,
            other => other.counts_against_vendor(),
        }
    }
}
