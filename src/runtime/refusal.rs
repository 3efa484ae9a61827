//! Why something was not done. Nothing was changed when one of these is returned.

use std::time::Duration;

use agent_hub_protocol::ErrorCode;
use serde_json::{Map, Value};

/// A refused request, in the protocol's terms. The edge turns the code into a status or a close code.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What went wrong.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// How long to wait before trying again.
    pub retry_after: Option<Duration>,
    /// More, for programs. On HTTP `limit` and `resetsAt` stand at the top level of the body.
    pub details: Option<Box<Map<String, Value>>>,
}

impl Refusal {
    /// A refusal with nothing but a code and a text.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None, details: None }
    }

    /// With the time to wait.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// With one more detail.
    #[must_use]
    pub fn detail(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.get_or_insert_default().insert(key.to_owned(), value.into());
        self
    }

    /// A field that is missing, of the wrong type or out of range.
    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        let issue = serde_json::json!([{ "field": field, "message": message }]);
        Self::new(ErrorCode::InvalidMessage, message).detail("issues", issue)
    }

    pub(crate) fn session_not_found() -> Self {
        Self::new(ErrorCode::SessionNotFound, "Session not found")
    }

    pub(crate) fn task_not_found() -> Self {
        Self::new(ErrorCode::TaskNotFound, "Task not found")
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(ErrorCode::Unauthorized, "Invalid or expired token")
    }

    pub(crate) fn forbidden() -> Self {
        Self::new(ErrorCode::Forbidden, "Access denied")
    }

    pub(crate) fn overloaded(message: &str) -> Self {
        Self::new(ErrorCode::Overloaded, message).retry_after(Duration::from_secs(1))
    }
}
