//! A value that fits a JSON Schema, as far as that can be read from it without search.

use serde_json::{Map, Value, json};

/// Nesting of a sample; a schema may refer to itself.
const DEPTH: usize = 12;
/// Entries of an array, whatever is asked for.
const ENTRIES: u64 = 20;

/// A value for the schema. `text` is what texts say, so that the answer has something to do with the question.
pub(super) fn sample(schema: &Value, text: &str) -> Value {
    Sampler { root: schema, text }.value(schema, DEPTH)
}

struct Sampler<'a> {
    root: &'a Value,
    text: &'a str,
}

impl Sampler<'_> {
    fn value(&self, schema: &Value, depth: usize) -> Value {
        if depth == 0 {
            return Value::Null;
        }
        if let Some(fixed) = ["const", "default"].iter().find_map(|key| schema.get(*key)) {
            return fixed.clone();
        }
        if let Some(first) = ["enum", "examples"].iter().find_map(|key| schema.get(*key)?.as_array()?.first()) {
            return first.clone();
        }
        if let Some(place) = schema.get("$ref").and_then(Value::as_str).and_then(|place| place.strip_prefix('#'))
            && let Some(target) = self.root.pointer(place)
        {
            return self.value(target, depth - 1);
        }
        if let Some(first) = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(*key)?.as_array()?.first()) {
            return self.value(first, depth - 1);
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null"),
            Value::String(kind) => kind.as_str(),
            _ if schema.get("items").is_some() => "array",
            _ if ["properties", "required", "allOf"].iter().any(|key| schema.get(*key).is_some()) => "object",
            _ => "string",
        };
        match kind {
            "object" => Value::Object(self.object(schema, depth)),
            "array" => self.array(schema, depth),
            "integer" => json!(self.number(schema, 1.0).ceil() as i64),
            "number" => json!(self.number(schema, 0.5)),
            "boolean" => Value::Bool(true),
            "null" => Value::Null,
            _ => Value::String(self.string(schema)),
        }
    }

    fn object(&self, schema: &Value, depth: usize) -> Map<String, Value> {
        let mut made = Map::new();
        for part in schema["allOf"].as_array().into_iter().flatten() {
            if let Value::Object(more) = self.value(part, depth - 1) {
                made.extend(more);
            }
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            made.insert(name.clone(), self.value(property, depth - 1));
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            made.entry(name).or_insert_with(|| self.text.into());
        }
        made
    }

    fn array(&self, schema: &Value, depth: usize) -> Value {
        let least = schema["minItems"].as_u64().unwrap_or(1).min(ENTRIES);
        let most = schema["maxItems"].as_u64().unwrap_or(ENTRIES);
        (0..least.max(1).min(most)).map(|_| schema.get("items").map_or(Value::Null, |items| self.value(items, depth - 1))).collect()
    }

    fn number(&self, schema: &Value, usual: f64) -> f64 {
        let bound = |key: &str, step: f64| schema[key].as_f64().map(|bound| bound + step);
        let least = bound("minimum", 0.0).or(bound("exclusiveMinimum", usual));
        let most = bound("maximum", 0.0).or(bound("exclusiveMaximum", -usual));
        let number = usual.max(least.unwrap_or(f64::MIN)).min(most.unwrap_or(f64::MAX));
        match schema["multipleOf"].as_f64() {
            Some(step) if step > 0.0 => (number / step).ceil() * step,
            _ => number,
        }
    }

    fn string(&self, schema: &Value) -> String {
        let text = match schema["format"].as_str() {
            Some("date-time") => "2026-01-01T00:00:00Z",
            Some("date") => "2026-01-01",
            Some("time") => "00:00:00Z",
            Some("email") => "ada@example.com",
            Some("uri" | "url") => "https://example.com/",
            Some("uuid") => "00000000-0000-4000-8000-000000000000",
            _ => self.text,
        };
        let length = |key: &str| schema[key].as_u64().and_then(|length| usize::try_from(length).ok());
        let mut text: String = text.chars().take(length("maxLength").unwrap_or(usize::MAX)).collect();
        let missing = length("minLength").unwrap_or(0).min(10_000).saturating_sub(text.chars().count());
        text.extend(std::iter::repeat_n('x', missing));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_fit_their_schemas() {
        let person = json!({
            "type": "object",
            "properties": {
                "name": { "type": "string", "minLength": 3 },
                "age": { "type": "integer", "minimum": 18, "maximum": 99 },
                "share": { "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1 },
                "tags": { "type": "array", "items": { "type": "string", "maxLength": 4 }, "minItems": 2 },
                "role": { "enum": ["admin", "guest"] },
                "at": { "type": "string", "format": "date-time" },
                "boss": { "anyOf": [{ "$ref": "#/$defs/short" }, { "type": "null" }] },
                "maybe": { "type": ["null", "boolean"] }
            },
            "required": ["name", "age", "other"],
            "$defs": { "short": { "type": "object", "properties": { "id": { "const": 7 } } } }
        });
        for schema in [
            person,
            json!({ "type": "string" }),
            json!({ "type": "array", "items": { "type": "integer", "multipleOf": 5, "minimum": 7 } }),
            json!({ "allOf": [{ "properties": { "a": { "type": "boolean" } } }, { "required": ["b"] }] }),
            json!({}),
        ] {
            let made = sample(&schema, "hello there");
            let validator = jsonschema::validator_for(&schema).expect("a schema");
            assert!(validator.is_valid(&made), "{schema}: {made}");
        }
        // One that refers to itself ends.
        let endless = json!({ "properties": { "next": { "$ref": "#" } } });
        assert!(sample(&endless, "x").is_object());
    }
}
