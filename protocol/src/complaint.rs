//! What is wrong with a JSON object, in the words of whoever sent it: which fields, and what each must be. serde says the first
//! mistake only, does not name the field, and speaks of Rust's types.

use serde::de::{DeserializeOwned, value::MapDeserializer};
use serde_json::{Map, Value};

/// A field, and what is wrong with it as a sentence that begins with the field's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The field.
    pub field: String,
    /// For people.
    pub message: String,
}

/// Every field of `object` that `T` does not take, taken out of it. What is missing is not complained about, because that is no field's
/// fault; nor is what stands twice, because here it does not any more.
pub fn take_wrong_fields<T: DeserializeOwned>(object: &mut Map<String, Value>) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let names: Vec<String> = object.keys().cloned().collect();
    for name in names {
        let Some(value) = object.remove(&name) else { continue };
        // A field alone is refused as it is among others.
        let Some(text) = refusal::<T>(&name, &value) else {
            object.insert(name, value);
            continue;
        };
        let must = if refusal::<T>(&name, &Value::Array(Vec::new())).is_none() {
            // The complaint may be about an element; no list of the protocol has other ones.
            "must be an array of strings".to_owned()
        } else {
            expectation(&text).or_else(|| choices::<T>(&name)).unwrap_or_else(|| "cannot be read".to_owned())
        };
        complaints.push(Complaint { message: format!("{name} {must}"), field: name });
    }
    complaints
}

/// The complaint about an object whose fields are well one by one: one stands there twice, or is missing.
pub fn of_whole(error: &serde_json::Error) -> Option<Complaint> {
    let text = error.to_string();
    let what = if text.starts_with("duplicate field `") {
        "is given twice"
    } else if text.starts_with("missing field `") {
        "is required"
    } else {
        return None;
    };
    let field = text.split('`').nth(1)?.to_owned();
    Some(Complaint { message: format!("{field} {what}"), field })
}

fn refusal<T: DeserializeOwned>(name: &str, value: &Value) -> Option<String> {
    let alone = MapDeserializer::<_, serde_json::Error>::new(std::iter::once((name, value)));
    let text = T::deserialize(alone).err()?.to_string();
    (!text.starts_with("missing field")).then_some(text)
}

/// What a field of a few words takes: serde lists them only to somebody who gives a wrong one.
fn choices<T: DeserializeOwned>(name: &str) -> Option<String> {
    let text = refusal::<T>(name, &Value::String(String::new()))?;
    expectation(&text)
}

/// serde's "…, expected u64" as "must be …". `None` for what is not known here, so that no words of Rust get out.
fn expectation(text: &str) -> Option<String> {
    if text.starts_with("not a UUID") {
        return Some("must be a UUID of version 4 or 7".to_owned());
    }
    // What was sent may say ", expected" itself; it comes first.
    let (_, expected) = text.rsplit_once(", expected ")?;
    let expected = expected.split(" at line ").next().unwrap_or_default();
    if text.starts_with("unknown variant") {
        // "one of `queue`, `reject`" is a list whose commas are not ", expected"; "`accept` or `reject`" are two.
        return Some(format!("must be {}", expected.replace('`', "")));
    }
    let must = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "must be a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "must be a whole number",
        "f32" | "f64" => "must be a number",
        "a string" | "a borrowed string" | "str" => "must be a string",
        "a boolean" => "must be true or false",
        "a sequence" => "must be an array",
        "a map" => "must be an object",
        _ => return None,
    };
    Some(must.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client_message::{RespondInput, SubmitTask};

    fn complaints<T: DeserializeOwned>(object: Value) -> Vec<String> {
        let mut object: Map<String, Value> = serde_json::from_value(object).expect("an object");
        take_wrong_fields::<T>(&mut object).into_iter().map(|complaint| complaint.message).collect()
    }

    #[test]
    fn all_wrong_fields_are_named_with_what_they_must_be() {
        let mut said = complaints::<SubmitTask>(json!({
            "prompt": 5, "taskId": "q", "sessionId": 7, "onBusy": "zz, expected `x`", "timeoutMs": -1, "tools": "x", "options": [],
            "context": "fine", "colour": "blue",
        }));
        assert_eq!(complaints::<SubmitTask>(json!({"tools": [["x"]]})), ["tools must be an array of strings"]);
        said.sort();
        let want = [
            "onBusy must be one of queue, reject, interrupt, rollback, steer",
            "options must be an object",
            "prompt must be a string",
            "sessionId must be a string",
            "taskId must be a UUID of version 4 or 7",
            "timeoutMs must be a whole number, 0 or more",
            "tools must be an array of strings",
        ];
        assert_eq!(said, want);
        assert_eq!(complaints::<SubmitTask>(json!({"timeoutMs": "x"})), ["timeoutMs must be a whole number, 0 or more"]);
        assert_eq!(complaints::<SubmitTask>(json!({"timeoutMs": 1.5})), ["timeoutMs must be a whole number, 0 or more"]);
        assert_eq!(complaints::<SubmitTask>(json!({"onBusy": 5})), ["onBusy must be one of queue, reject, interrupt, rollback, steer"]);
        assert_eq!(complaints::<RespondInput>(json!({"outcome": "maybe"})), ["outcome must be accept or reject"]);
    }
}
