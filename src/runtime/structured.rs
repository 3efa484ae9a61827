//! Answers that are data: JSON that fits a schema.

use serde_json::Value;

use crate::schema;

/// Bytes of a schema; it is told to the model with every call.
const SCHEMA_BYTES: usize = 64 * 1024;
/// How often a model is told what is wrong with its answer.
pub(crate) const REPAIRS: u32 = 2;

/// Whether a schema can be used.
///
/// # Errors
/// What is wrong with it, to be read behind the name of the field.
pub fn check_schema(schema: &Value) -> Result<(), String> {
    if !schema.is_object() {
        return Err("is not a JSON Schema: it must be an object".to_owned());
    }
    if schema.to_string().len() > SCHEMA_BYTES {
        return Err(format!("is longer than {SCHEMA_BYTES} bytes"));
    }
    schema::compile(schema).map(drop).map_err(|error| format!("is not a valid JSON Schema: {error}"))
}

/// What a model is told so that its answer fits.
pub fn instruction(schema: &Value) -> String {
    format!("Answer with one JSON value and nothing else: no explanation, no code fence. It must fit this JSON Schema:\n{schema}")
}

/// The value of an answer, as it fits the schema.
///
/// # Errors
/// Where it does not, and why.
pub fn read(answer: &str, schema: &Value) -> Result<Value, String> {
    let value: Value = serde_json::from_str(unfenced(answer)).map_err(|error| format!("it is no JSON: {error}"))?;
    // It compiled when it was taken in.
    schema::check(schema, &value).map(|()| value)
}

/// The value of an answer that is still being written, as far as it has come; `None` while there is none.
pub fn read_partial(answer: &str) -> Option<Value> {
    let begun = answer.trim_start();
    let begun = begun.strip_prefix("```").map_or(begun, |fenced| fenced.split_once('\n').map_or("", |(_, rest)| rest));
    if begun.trim().is_empty() {
        return None;
    }
    serde_json::from_str(&partial_json_fixer::fix_json(begun.trim_end().trim_end_matches('`'))).ok()
}

/// Without the code fence that models put around JSON whatever they are told.
fn unfenced(answer: &str) -> &str {
    let text = answer.trim();
    let Some(inside) = text.strip_prefix("```").and_then(|text| text.strip_suffix("```")) else { return text };
    // The first line names the language.
    inside.split_once('\n').map_or(inside, |(_, rest)| rest).trim()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn person() -> Value {
        json!({ "type": "object", "properties": { "name": { "type": "string" }, "age": { "type": "integer" } }, "required": ["name"] })
    }

    #[test]
    fn what_fits_is_read_and_what_does_not_says_where() {
        let ada = json!({ "name": "Ada", "age": 36 });
        for text in [r#"{"name":"Ada","age":36}"#, "  {\"name\": \"Ada\", \"age\": 36}\n", "```json\n{\"name\":\"Ada\",\"age\":36}\n```"] {
            assert_eq!(read(text, &person()), Ok(ada.clone()), "{text}");
        }
        for (text, why) in [
            ("Sure! Here it is", "it is no JSON"),
            (r#"{"age": 1}"#, "\"name\" is a required property"),
            (r#"{"name": "x", "age": "old"}"#, "/age: \"old\" is not of type \"integer\""),
        ] {
            let error = read(text, &person()).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_value_grows() {
        let text = "```json\n{\"name\": \"Ada L\", \"tags\": [1, {\"deep\": tr";
        let seen: Vec<Option<Value>> = (0..=text.len()).map(|end| read_partial(&text[..end])).collect();
        assert_eq!(seen[3], None);
        let grown: Vec<&Value> = seen.iter().flatten().collect();
        assert!(grown.iter().any(|value| **value == json!({ "name": "Ada" })), "{grown:?}");
        assert!(grown.iter().any(|value| value["tags"][0] == 1), "{grown:?}");
    }

    #[test]
    fn schemas_that_are_none_are_refused() {
        assert_eq!(check_schema(&person()), Ok(()));
        for schema in [json!("x"), json!({ "type": "nonsense" }), json!({ "pattern": "(" }), json!({ "a": "x".repeat(SCHEMA_BYTES) })] {
            assert!(check_schema(&schema).is_err(), "{}", schema.to_string().len());
        }
    }
}
