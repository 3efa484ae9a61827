//! Why something was not done. Nothing was changed when one of these is returned.

use std::time::Duration;

use agent_hub_protocol::ErrorCode;
use serde_json::{Map, Value};

/// What is wrong with the fields of one request, to be told together.
#[derive(Debug, Default)]
#[must_use = "a request with issues has to be refused"]
pub struct Issues(Vec<Refusal>);

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

impl Issues {
    /// One more.
    pub fn add(&mut self, refusal: Refusal) {
        self.0.push(refusal);
    }

    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was checked; where it is refused, something empty that stands in for it while the rest is looked at.
    pub fn note<T: Default>(&mut self, checked: Result<T, impl Into<Refusal>>) -> T {
        checked.unwrap_or_else(|refusal| {
            self.add(refusal.into());
            T::default()
        })
    }

    /// The last check's outcome, if nothing was wrong before; otherwise one refusal with the fields of all, the last check's first.
    ///
    /// # Errors
    /// With the code of the first. One that is not about fields stands alone.
    pub fn finish<T>(self, last: Result<T, Refusal>) -> Result<T, Refusal> {
        let (value, refusals) = match last {
            Ok(value) => (Some(value), self.0),
            Err(refusal) => (None, std::iter::once(refusal).chain(self.0).collect()),
        };
        let mut told: Option<Refusal> = None;
        let mut fields: Vec<Value> = Vec::new();
        for mut refusal in refusals {
            let Some(Value::Array(issues)) = refusal.details.as_mut().and_then(|details| details.remove("issues")) else {
                return Err(refusal);
            };
            for issue in issues {
                // What was of a wrong type is missing later on; once is enough.
                if !fields.iter().any(|known| known["field"] == issue["field"]) {
                    fields.push(issue);
                }
            }
            told.get_or_insert(refusal);
        }
        match (told, value) {
            (Some(refusal), _) => Err(refusal.detail("issues", fields)),
            (None, Some(value)) => Ok(value),
            // Not reached: without a value there is a refusal.
            (None, None) => Err(Refusal::new(ErrorCode::Internal, "Internal server error")),
        }
    }
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
