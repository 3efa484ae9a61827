//! Messages as frames.

use agent_hub_protocol::{
    CommandId, SessionId, TaskId,
    server_message::{ConnectionMessage, ErrorMessage},
};
use bytes::Bytes;
use serde_json::Value;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::runtime::Refusal;

/// A message about the connection.
pub(super) fn text(message: &ConnectionMessage) -> Message {
    Message::Text(message.encode().into())
}

/// An event's wire text, shared with every other reader.
pub(super) fn event(wire: Bytes) -> Message {
    // Events are JSON text; one that is not UTF-8 would be a fault of ours and is shown as what it is.
    Utf8Bytes::try_from(wire).map_or_else(|error| Message::Text(error.to_string().into()), Message::Text)
}

/// A refusal.
pub(super) fn error_frame(id: Option<CommandId>, refusal: &Refusal, session_id: Option<SessionId>, task_id: Option<TaskId>) -> Message {
    text(&ConnectionMessage::Error(ErrorMessage {
        id,
        code: refusal.code,
        message: refusal.message.clone(),
        session_id,
        task_id,
        retryable: refusal.code.retryable(),
        retry_after_ms: refusal.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        details: refusal.details.as_ref().map(|details| Value::Object((**details).clone())),
    }))
}
