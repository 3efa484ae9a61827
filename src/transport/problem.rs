//! What is answered when a request is not carried out: one JSON shape on every path.

use std::time::Duration;

use agent_hub_protocol::ErrorCode;
use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::rate_headers;
use crate::runtime::Refusal;

/// The text of every refusal that names fields.
const VALIDATION_FAILED: &str = "Validation failed";

/// When to come back to a hub that cannot say itself when it has room again.
const WAIT_UNTOLD: Duration = Duration::from_secs(1);

/// An error answer. The body is written by [`guard`](super::guard), which knows the request's id: as a response this carries the
/// problem in its extensions, so that no handler can forget the id and a compat adapter can put it in another shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The code; decides the status.
    pub code: ErrorCode,
    /// The text clients of the first days know, in `error`.
    pub error: String,
    /// What exactly is wrong, in `message`.
    pub message: String,
    /// More, for programs: a list of `{field, message}` where fields are wrong.
    pub details: Box<Value>,
    /// How long to wait.
    pub retry_after: Option<Duration>,
    /// The status, where it is not the code's (408, 421).
    status: Option<StatusCode>,
}

/// The JSON of an error.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProblemBody<'a> {
    success: bool,
    error: &'a str,
    code: ErrorCode,
    message: &'a str,
    details: &'a Value,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_at: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

impl Problem {
    /// A problem with one text.
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        let message = text.into();
        Self { code, error: message.clone(), message, details: Box::default(), retry_after: None, status: None }
    }

    /// With a status that is not the code's own.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// One field that is missing, of the wrong type or out of range.
    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        Refusal::invalid(field, message).into()
    }

    /// No such route.
    pub fn not_found() -> Self {
        Self::new(ErrorCode::NotFound, "Not found")
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        // Every code's status is between 400 and 599, which a test of the table proves.
        self.status.or_else(|| StatusCode::from_u16(self.code.http_status()).ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// How long to wait before trying again; told with every 503, because all of them pass.
    fn wait(&self) -> Option<Duration> {
        self.retry_after.or_else(|| (self.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(WAIT_UNTOLD))
    }

    /// The JSON body.
    pub fn body(&self, request_id: &str) -> Vec<u8> {
        let detail = |key: &str| self.details.as_object().and_then(|details| details.get(key));
        let body = ProblemBody {
            success: false,
            error: &self.error,
            code: self.code,
            message: &self.message,
            details: &self.details,
            request_id,
            limit: detail("limit"),
            resets_at: detail("resetsAt"),
            retry_after: self.wait().map(seconds),
        };
        // Plain data with text keys; writing it to memory cannot fail.
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let Refusal { code, message, retry_after, details } = refusal;
        let details: Map<String, Value> = details.map(|d| *d).unwrap_or_default();
        let (error, details) = match details.get("issues") {
            Some(issues @ Value::Array(_)) => (VALIDATION_FAILED.to_owned(), issues.clone()),
            _ if details.is_empty() => (message.clone(), Value::Null),
            _ => (message.clone(), Value::Object(details)),
        };
        Self { code, error, message, details: Box::new(details), retry_after, status: None }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        if let Some(wait) = self.wait() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds(wait)));
        }
        if self.code == ErrorCode::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        rate_headers::of_refusal(&self, headers);
        response.extensions_mut().insert(self);
        response
    }
}

/// Whole seconds, never too few.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(problem: &Problem) -> Value {
        serde_json::from_slice(&problem.body("r1")).expect("JSON")
    }

    #[test]
    fn a_refused_field_is_a_failed_validation() {
        let body = body(&Problem::invalid("prompt", "Prompt must be between 1 and 10000 characters"));
        let want = serde_json::json!({
            "success": false, "error": "Validation failed", "code": "invalid_message",
            "message": "Prompt must be between 1 and 10000 characters",
            "details": [{ "field": "prompt", "message": "Prompt must be between 1 and 10000 characters" }],
            "requestId": "r1",
        });
        assert_eq!(body, want);
    }

    #[test]
    fn limits_stand_at_the_top_and_waits_are_rounded_up() {
        let refusal = Refusal::new(ErrorCode::QuotaExceeded, "Daily session limit reached")
            .detail("limit", 5)
            .detail("resetsAt", "2026-11-21T00:00:00.000Z")
            .retry_after(Duration::from_millis(1001));
        let body = body(&refusal.into());
        assert_eq!((&body["limit"], &body["resetsAt"], &body["retryAfter"]), (&5.into(), &"2026-11-21T00:00:00.000Z".into(), &2.into()));
        assert_eq!(body["error"], "Daily session limit reached");
    }
}
