//! What is left of a rate, in the headers clients look for: the structured fields of the IETF draft, the `RateLimit-*` of its
//! earlier ones, and the older `X-RateLimit-*`.

use std::time::Duration;

use agent_hub_protocol::{ErrorCode, Timestamp};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::problem::Problem;
use crate::runtime::rate::RateState;

/// Writes the headers of an allowed request.
pub fn write(state: &RateState, headers: &mut HeaderMap) {
    put(headers, state.category.name(), state.limit, state.remaining, state.window, state.reset);
}

/// Writes the headers of a request that was refused because of its rate; nothing for any other problem.
pub(super) fn of_refusal(problem: &Problem, headers: &mut HeaderMap) {
    if problem.code != ErrorCode::RateLimited {
        return;
    }
    let number = |key: &str| problem.details.get(key).and_then(Value::as_u64);
    let (Some(limit), Some(window)) = (number("limit"), number("windowMs")) else { return };
    let name = problem.details.get("category").and_then(Value::as_str).unwrap_or("default");
    let reset = problem.retry_after.unwrap_or_default();
    put(headers, name, u32::try_from(limit).unwrap_or(u32::MAX), 0, Duration::from_millis(window), reset);
}

fn put(headers: &mut HeaderMap, name: &str, limit: u32, remaining: u32, window: Duration, reset: Duration) {
    let (window, wait) = (whole(window), whole(reset));
    let at = Timestamp::now().plus(reset).as_millis() / 1000 + 1;
    let mut set = |header: &'static str, value: String| {
        // Digits, quotes and the names of `RateCategory`: always a valid value.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(header), value);
        }
    };
    set("ratelimit-policy", format!("\"{name}\";q={limit};w={window}"));
    set("ratelimit", format!("\"{name}\";r={remaining};t={wait}"));
    set("ratelimit-limit", limit.to_string());
    set("ratelimit-remaining", remaining.to_string());
    set("ratelimit-reset", wait.to_string());
    set("x-ratelimit-limit", limit.to_string());
    set("x-ratelimit-remaining", remaining.to_string());
    // The older headers give a point in time, in seconds since 1970.
    set("x-ratelimit-reset", at.to_string());
}

fn whole(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
