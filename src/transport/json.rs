//! JSON bodies: read within bounds, and refused with the fields that are wrong, all of them at once.

use agent_hub_protocol::{ErrorCode, client_message::deeper_than, complaint, limits};
use axum::{
    extract::{FromRequest, Request},
    http::{HeaderMap, header},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{body, problem::Problem};
use crate::runtime::refusal::{Issues, Refusal};

/// The JSON object of a request. An empty body is an empty object, so every field of `T` has to be optional; handlers say which
/// they cannot do without.
#[derive(Clone, Debug)]
pub struct ApiJson<T>(pub T);

/// The same where the handler checks more: fields of a wrong type are left out of `T` and stand in the issues, to be told together with
/// what else the handler finds. It has to finish them.
#[derive(Debug)]
pub struct ApiDraft<T>(pub T, pub Issues);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ApiJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let ApiDraft(value, issues) = ApiDraft::from_request(request, state).await?;
        Ok(Self(issues.finish(Ok(value))?))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ApiDraft<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (head, body) = request.into_parts();
        let is_json = is_json(&head.headers);
        let bytes = body::whole(body).await?;
        if bytes.is_empty() {
            return draft("{}");
        }
        if !is_json {
            return Err(Problem::new(ErrorCode::UnsupportedMediaType, "Content-Type must be application/json"));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| invalid_json("Invalid JSON: the body is not UTF-8"))?;
        draft(text)
    }
}

/// Reads one JSON object.
///
/// # Errors
/// `invalid_json`, or `invalid_message` with the fields.
pub fn decode<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let ApiDraft(value, issues) = draft(text)?;
    Ok(issues.finish(Ok(value))?)
}

fn draft<T: DeserializeOwned>(text: &str) -> Result<ApiDraft<T>, Problem> {
    if deeper_than(text, limits::JSON_DEPTH) {
        return Err(invalid_json(&format!("Invalid JSON: nested deeper than {} levels", limits::JSON_DEPTH)));
    }
    let error = match serde_json::from_str::<T>(text) {
        // An array with the fields' values in order would pass as a struct.
        Ok(value) if text.trim_start().starts_with('{') => return Ok(ApiDraft(value, Issues::default())),
        Ok(_) => return Err(no_object()),
        Err(error) => error,
    };
    let mut fields: Map<String, Value> = match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => return Err(no_object()),
        Err(_) => return Err(invalid_json("Invalid JSON")),
    };
    let mut issues = Issues::default();
    for complaint in complaint::take_wrong_fields::<T>(&mut fields) {
        issues.add(Refusal::invalid(&complaint.field, complaint.message));
    }
    if issues.is_empty() {
        // Each field alone is well, so one is there twice.
        let refused = complaint::of_whole(&error).map(|complaint| Problem::invalid(&complaint.field, complaint.message));
        return Err(refused.unwrap_or_else(|| Problem::invalid("body", "The body cannot be read")));
    }
    // Cannot fail: every field was taken alone, and none has to be there.
    let value = serde_json::from_value(Value::Object(fields)).map_err(|_| Problem::invalid("body", "The body cannot be read"))?;
    Ok(ApiDraft(value, issues))
}

fn no_object() -> Problem {
    Problem::invalid("body", "The body must be a JSON object")
}

fn invalid_json(text: &str) -> Problem {
    Problem::new(ErrorCode::InvalidJson, text)
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
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
            assert!(problem.message.len() < 100, "what was sent is not sent back");
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
