//! JSON Schemas that users, models and operators write, and values held against them.

use jsonschema::{ValidationError, Validator};
use serde_json::Value;

/// Complaints about one value; whoever made it mends more than it is told.
const COMPLAINTS: usize = 5;

/// A schema as values are held against it.
///
/// # Errors
/// What is wrong with it.
pub fn compile(schema: &Value) -> Result<Validator, String> {
    jsonschema::validator_for(schema).map_err(|error| error.to_string())
}

/// Holds a value against a schema that compiled before.
///
/// # Errors
/// What does not fit, each with its place.
pub fn check(schema: &Value, value: &Value) -> Result<(), String> {
    complain(&compile(schema)?, value)
}

/// The same with a schema that is compiled.
///
/// # Errors
/// What does not fit, each with its place.
pub fn complain(validator: &Validator, value: &Value) -> Result<(), String> {
    let complaints: Vec<String> = validator.iter_errors(value).take(COMPLAINTS).map(|error| located(&error)).collect();
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("; ")) }
}

fn located(error: &ValidationError<'_>) -> String {
    match error.instance_path().to_string() {
        path if path.is_empty() => error.to_string(),
        path => format!("{path}: {error}"),
    }
}
