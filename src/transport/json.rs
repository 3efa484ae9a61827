//! JSON bodies: read within bounds, and refused with the field that is wrong.

use agent_hub_protocol::{ErrorCode, client_message::deeper_than, limits};
use axum::{
    extract::{FromRequest, Request},
    http::{HeaderMap, header},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, error::Category};

use super::{body, problem::Problem};

/// Enough for a field's name, what was expected, and the start of what was found.
const COMPLAINT_CHARS: usize = 200;

/// The JSON object of a request. An empty body is an empty object, so every field of `T` has to be optional; handlers say which
/// they cannot do without.
#[derive(Clone, Debug)]
pub struct ApiJson<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ApiJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (head, body) = request.into_parts();
        let is_json = is_json(&head.headers);
        let bytes = body::whole(body).await?;
        if bytes.is_empty() {
            return decode("{}").map(Self);
        }
        if !is_json {
            return Err(Problem::new(ErrorCode::UnsupportedMediaType, "Content-Type must be application/json"));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| invalid_json("Invalid JSON: the body is not UTF-8"))?;
        decode(text).map(Self)
    }
}

/// Reads one JSON object.
///
/// # Errors
/// `invalid_json`, or `invalid_message` with the field.
pub fn decode<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    if deeper_than(text, limits::JSON_DEPTH) {
        return Err(invalid_json(&format!("Invalid JSON: nested deeper than {} levels", limits::JSON_DEPTH)));
    }
    let value = serde_json::from_str::<T>(text).map_err(|error| match error.classify() {
        Category::Data => wrong_field::<T>(text, &error),
        Category::Syntax | Category::Eof | Category::Io => invalid_json("Invalid JSON"),
    })?;
    // An array with the fields' values in order would pass as a struct.
    if text.trim_start().starts_with('[') {
        return Err(Problem::invalid("body", "The body must be a JSON object"));
    }
    Ok(value)
}

fn invalid_json(text: &str) -> Problem {
    Problem::new(ErrorCode::InvalidJson, text)
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Finds the field a complaint is about. serde does not say it, but a field alone is refused as it is among others.
fn wrong_field<T: DeserializeOwned>(text: &str, error: &serde_json::Error) -> Problem {
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else {
        return Problem::invalid("body", "The body must be a JSON object");
    };
    for (name, value) in fields {
        let alone = Value::Object(Map::from_iter([(name.clone(), value)]));
        if let Err(error) = serde_json::from_value::<T>(alone) {
            return Problem::invalid(&name, plain(&error));
        }
    }
    // Each field alone is well, so one is there twice; serde names it.
    let message = plain(error);
    let name = message.split('`').nth(1).unwrap_or("body").to_owned();
    Problem::invalid(&name, message)
}

/// The complaint without serde's line and column, and with no more of what was sent than says what is meant.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    let mut short: String = text[..end].chars().take(COMPLAINT_CHARS).collect();
    if short.len() < end {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Sample {
        #[serde(default)]
        a_name: Option<String>,
        #[serde(default)]
        number: Option<u8>,
    }

    #[test]
    fn the_wrong_field_is_named() {
        let sample: Sample = decode(r#"{"aName":"x","number":3,"other":[]}"#).expect("a sample");
        assert_eq!((sample.a_name.as_deref(), sample.number), (Some("x"), Some(3)));
        for (text, field) in [
            (r#"{"aName":"x","number":"3"}"#, "number"),
            (r#"{"aName":{},"number":3}"#, "aName"),
            (r#"{"number":3,"number":4}"#, "number"),
            ("[]", "body"),
            ("7", "body"),
            (&format!(r#"{{"number":"{}"}}"#, "é".repeat(100_000)), "number"),
        ] {
            let problem = decode::<Sample>(text).expect_err("refused");
            assert!(problem.message.chars().count() <= COMPLAINT_CHARS + 1, "what was sent is not sent back");
            assert_eq!((problem.code, &problem.details[0]["field"]), (ErrorCode::InvalidMessage, &field.into()), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_said_to_be_none() {
        let deep = "[".repeat(100_000);
        for text in ["{", "", "\u{feff}{}", r#"{"number":1e999}"#, r#"{"aName":"\ud800"}"#, "{} {}", deep.as_str()] {
            assert_eq!(decode::<Sample>(text).expect_err("refused").code, ErrorCode::InvalidJson, "{:?}", &text[..text.len().min(20)]);
        }
    }
}
