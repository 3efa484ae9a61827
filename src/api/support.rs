//! What most handlers need.

use std::future::Future;

use agent_hub_protocol::{SessionId, TaskId};
use axum::{
    extract::{FromRequestParts, Path, Query},
    http::{HeaderMap, HeaderName, request::Parts},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::{
    runtime::{Principal, Refusal, admission::derived_uuid, rate::RateCategory},
    transport::{Edge, Problem, rate_headers},
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const MAX_IDEMPOTENCY_KEY: usize = 255;

/// The `{id}` of a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct SessionPath(pub(super) SessionId);

/// The `{taskId}` of a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskPath(pub(super) TaskId);

/// The query, refused as JSON.
#[derive(Clone, Debug)]
pub(crate) struct ApiQuery<T>(pub(crate) T);

impl<S: Send + Sync> FromRequestParts<S> for SessionPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let refuse = || Problem::invalid("id", "Invalid session ID format");
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| refuse())?;
        text.parse().map(Self).map_err(|_| refuse())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TaskPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let refuse = || Problem::invalid("taskId", "Invalid task ID format");
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| refuse())?;
        text.parse().map(Self).map_err(|_| refuse())
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(query) = Query::try_from_uri(&parts.uri).map_err(|error| {
            // Every field is text here, so all that can be wrong is "…: duplicate field `limit`".
            match error.body_text().split('`').nth(1) {
                Some(field) => Problem::invalid(field, format!("{field} is given twice")),
                None => Problem::invalid("query", "The query cannot be read"),
            }
        })?;
        Ok(Self(query))
    }
}

/// Counts a request of `who` and answers it with `work`, or with 429 when there were too many. Either answer, also a refusal of `work`,
/// says what is left.
pub(crate) async fn limited<R: IntoResponse>(
    edge: &Edge,
    category: RateCategory,
    who: &Principal,
    work: impl Future<Output = Result<R, Problem>>,
) -> Response {
    let state = match edge.hub.rates().check(category, who.user()) {
        Ok(state) => state,
        Err(refusal) => return Problem::from(refusal).into_response(),
    };
    let mut response = work.await.into_response();
    if let Some(state) = state {
        rate_headers::write(&state, response.headers_mut());
    }
    response
}

/// The id that an `Idempotency-Key` stands for: the same for the same user, purpose and key, on every transport and after a restart.
///
/// # Errors
/// 400 when the key is not 1 to 255 printable ASCII characters, or there are several.
pub(super) fn idempotent_id(headers: &HeaderMap, who: &Principal, purpose: &str) -> Result<Option<Uuid>, Refusal> {
    Ok(idempotency_key(headers)?.map(|key| derived_uuid(who.user(), purpose, &key)))
}

/// The `Idempotency-Key` of a request.
///
/// # Errors
/// 400 when it is not 1 to 255 printable ASCII characters, or there are several.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().unwrap_or_default();
    if values.next().is_some() || !(1..=MAX_IDEMPOTENCY_KEY).contains(&key.len()) {
        let text = format!("Idempotency-Key must be 1 to {MAX_IDEMPOTENCY_KEY} printable ASCII characters");
        return Err(Refusal::invalid("Idempotency-Key", text));
    }
    Ok(Some(key.to_owned()))
}

/// An optional id in a body.
///
/// # Errors
/// 400, naming the field.
pub(super) fn optional_id<T: std::str::FromStr>(field: &str, text: Option<String>) -> Result<Option<T>, Refusal> {
    text.map(|text| text.parse().map_err(|_| Refusal::invalid(field, format!("{field} must be a UUID of version 4 or 7")))).transpose()
}

/// The names of tools as a body gives them: any JSON, so that a wrong type is refused with the words clients know.
///
/// # Errors
/// 400.
pub(super) fn tool_names(tools: Option<serde_json::Value>) -> Result<Option<Vec<String>>, Refusal> {
    use serde_json::Value;
    match tools {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(names)) => names
            .into_iter()
            .map(|name| match name {
                Value::String(name) => Ok(name),
                _ => Err(Refusal::invalid("tools", "Invalid tool specified")),
            })
            .collect::<Result<_, _>>()
            .map(Some),
        Some(_) => Err(Refusal::invalid("tools", "Tools must be an array")),
    }
}

/// Text as a body gives it: anything else is the same as no text.
pub(super) fn text(value: Option<serde_json::Value>) -> Option<String> {
    match value {
        Some(serde_json::Value::String(text)) => Some(text),
        _ => None,
    }
}

/// How many of a list: `asked`, but not more than `most`.
///
/// # Errors
/// 400 for none, and for what is no number.
pub(super) fn page_size(asked: Option<&str>, usual: usize, most: usize) -> Result<usize, Problem> {
    match asked.map(str::parse::<usize>) {
        None => Ok(usual),
        Some(Ok(asked)) if asked > 0 => Ok(asked.min(most)),
        Some(_) => Err(Problem::invalid("limit", "limit must be a whole number, 1 or more")),
    }
}
