//! The generated documents are up to date, and the goldens are what they describe.

use std::fs;

use agent_hub_protocol::schema::{self, Kind};
use serde_json::{Value, json};

use crate::goldens;

fn committed(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap_or_default()
}

fn check(path: &str, fresh: &Value) {
    // Not `assert_eq`: nobody wants to see two whole documents.
    let same = committed(path) == schema::text(fresh);
    assert!(same, "{path} is not what the types say; run `cargo run -p agent-hub-protocol --example generate` and look at the difference");
}

#[test]
fn the_json_schema_is_up_to_date() {
    check("schema/agent-hub.v1.schema.json", &schema::json_schema());
}

#[test]
fn the_asyncapi_document_is_up_to_date() {
    check("asyncapi.json", &schema::asyncapi::document(&goldens::examples()));
}

/// Validates against one definition of the generated schema.
fn validator(definition: &str) -> jsonschema::Validator {
    let mut schema = schema::json_schema();
    let root = schema.as_object_mut().expect("an object");
    root.remove("oneOf");
    root.insert("$ref".to_owned(), json!(format!("#/$defs/{definition}")));
    jsonschema::validator_for(&schema).expect("a valid schema")
}

#[test]
fn goldens_are_valid_for_their_own_definition_and_their_union() {
    let [client, server] = ["ClientMessage", "ServerMessage"].map(validator);
    for golden in goldens::all() {
        let message: Value = serde_json::from_str(&golden.text).expect("JSON");
        let (union, other) = if golden.kind == Kind::Command { (&client, &server) } else { (&server, &client) };
        let own = validator(&golden.kind.schema_name(&golden.message_type));
        for validator in [union, &own] {
            if let Err(error) = validator.validate(&message) {
                panic!("{}: {error} at {}", golden.path, error.instance_path());
            }
        }
        assert!(!other.is_valid(&message), "{}: also valid in the other direction", golden.path);
    }
}

#[test]
fn the_schema_refuses_what_the_types_refuse() {
    let client = validator("ClientMessage");
    for text in [
        r#"{"type":"dance"}"#,
        r#"{"type":"cancel_task"}"#,
        r#"{"type":"submit_task","prompt":7}"#,
        r#"{"type":"submit_task","prompt":"x","onBusy":"wait"}"#,
        r#"{"type":"ping","id":{}}"#,
        r#"[]"#,
    ] {
        assert!(agent_hub_protocol::Command::decode(text).is_err(), "{text}");
        assert!(!client.is_valid(&serde_json::from_str(text).expect("JSON")), "{text}");
    }
}

#[test]
fn every_type_has_a_definition_with_a_description() {
    let schema = schema::json_schema();
    for kind in [Kind::Command, Kind::Connection, Kind::Event] {
        for (message_type, doc) in kind.messages() {
            let name = kind.schema_name(message_type);
            let definition = &schema["$defs"][&name];
            assert!(!doc.is_empty() && definition["description"] == doc.as_str(), "{name}: {definition}");
            assert_eq!(definition["properties"]["type"]["const"], message_type, "{name}");
        }
    }
    each_object(&schema, &mut |object| {
        for (name, property) in object["properties"].as_object().into_iter().flatten() {
            let described = property["description"].is_string() || property["$ref"].is_string() || property["const"].is_string();
            assert!(described, "property {name} is not described: {property}");
            let shaped = ["type", "$ref", "allOf", "anyOf", "oneOf"].iter().any(|keyword| !property[*keyword].is_null());
            assert!(shaped, "property {name} does not say what it is: {property}");
        }
    });
    assert!(!schema.to_string().contains("[`"), "links of Rust documentation mean nothing here");
}

#[test]
fn what_a_snapshot_is_made_of_is_closed_and_complete() {
    let schema = schema::json_schema();
    let required = |name: &str| schema["$defs"][name]["required"].clone();
    assert_eq!(required("Snapshot"), json!(["earlierMessages", "messages", "pendingInputs", "queue", "session", "tasks"]));
    assert_eq!(required("TaskInfo"), json!(["attempt", "createdAt", "firstSeq", "status", "stepsCompleted", "taskId", "usage"]));
    assert_eq!(required("PendingInput"), json!(["kind", "requestId", "taskId"]));
    // Every `$ref` leads somewhere.
    each_object(&schema, &mut |object| {
        if let Some(target) = object["$ref"].as_str() {
            assert!(schema.pointer(target.trim_start_matches('#')).is_some(), "{target}");
        }
    });
}

fn each_object(value: &Value, visit: &mut dyn FnMut(&Value)) {
    match value {
        Value::Object(map) => {
            visit(value);
            map.values().for_each(|inner| each_object(inner, visit));
        }
        Value::Array(values) => values.iter().for_each(|inner| each_object(inner, visit)),
        _ => {}
    }
}
