//! Sizes that both ends know. The hub may be configured to other values; `welcome.limits` says the real ones.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One WebSocket message or HTTP body, in bytes.
pub const MESSAGE_BYTES: usize = 1024 * 1024;
/// A prompt or a steering input, in characters (Unicode scalar values) after control characters are stripped.
pub const PROMPT_CHARS: usize = 10_000;
/// Tasks in one session, over its whole life.
pub const TASKS_PER_SESSION: u32 = 50;
/// Text of one merged `token` or `reasoning` event, in bytes. Longer runs of deltas become several events.
pub const MERGED_TOKEN_BYTES: usize = 16 * 1024;
/// Nesting of a JSON message. Deeper input is refused before it is parsed.
pub const JSON_DEPTH: usize = 32;
/// The longest `id` of a command, in bytes.
pub const COMMAND_ID_BYTES: usize = 128;

/// What one connection may do, as told in `welcome`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Largest message the hub accepts, in bytes; a larger one closes the socket with 1009.
    pub message_bytes: usize,
    /// Longest prompt, in characters.
    pub prompt_chars: usize,
    /// Tasks one session may ever have; absent when the hub does not bound them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tasks_per_session: Option<u32>,
    /// Tasks of one user that run at the same time; absent when the hub does not bound them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_concurrent_tasks: Option<u32>,
    /// Sessions one socket may be attached to at the same time.
    pub attached_sessions: usize,
}
