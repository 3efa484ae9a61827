//! The documents generated from the message types: JSON Schema here, AsyncAPI 3 in [`asyncapi`].
//!
//! `examples/generate.rs` writes them; a test compares the written ones with what the types say now.

pub mod asyncapi;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, transform::RemoveRefSiblings};
use serde_json::{Map, Value, json};

use crate::{
    client_message::{ClientMessage, CommandId},
    cursor::Cursor,
    event::{EventBody, EventType},
    ids::{SessionId, TaskId},
    server_message::ConnectionMessage,
    timestamp::Timestamp,
    version::Version,
};

/// Which of the three families a message belongs to. `tool_result` and `error` are not unique without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Client → server.
    Command,
    /// Server → client, about the connection.
    Connection,
    /// Server → client, from a session's log.
    Event,
}

impl Kind {
    /// The name of a message's schema: `submit_task` → `SubmitTaskCommand`.
    pub fn schema_name(self, message_type: &str) -> String {
        let mut name = String::new();
        for word in message_type.split('_') {
            let mut letters = word.chars();
            name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
            name.push_str(letters.as_str());
        }
        name + match self {
            Kind::Command => "Command",
            Kind::Connection => "Message",
            Kind::Event => "Event",
        }
    }

    /// Every message of the family, with what it says.
    pub fn messages(self) -> Vec<(&'static str, String)> {
        let documented = |types: &[&'static str], union: Schema| {
            let docs = variants(&union.to_value());
            types
                .iter()
                .map(|name| (*name, docs.iter().find(|(kind, _, _)| kind == name).map_or_else(String::new, |v| v.2.clone())))
                .collect()
        };
        let mut generator = settings().into_generator();
        match self {
            Kind::Command => documented(ClientMessage::TYPES, ClientMessage::json_schema(&mut generator)),
            Kind::Connection => documented(ConnectionMessage::TYPES, ConnectionMessage::json_schema(&mut generator)),
            Kind::Event => EventType::ALL.iter().map(|kind| (kind.as_str(), plain(kind.doc()))).collect(),
        }
    }
}

/// A message as it may be seen on the wire, shown in the documents.
#[derive(Clone, Debug)]
pub struct Example {
    /// Its family.
    pub kind: Kind,
    /// Its `type`.
    pub message_type: String,
    /// What tells it from other examples of the type.
    pub name: String,
    /// The message.
    pub payload: Value,
}

/// The JSON Schema (2020-12) of all messages: `$defs` has `ClientMessage`, `ServerMessage`, `ConnectionMessage`, `Event`, one
/// definition per message, and what they are made of. Keys are sorted, so equal types give equal text.
pub fn json_schema() -> Value {
    let mut generator = settings().into_generator();
    let commands = ClientMessage::json_schema(&mut generator).to_value();
    let connection = ConnectionMessage::json_schema(&mut generator).to_value();
    let events = EventBody::schemas(&mut generator);
    let references = References::new(&mut generator);
    let mut definitions = generator.take_definitions(true);

    let command_names = flatten(Kind::Command, &commands, Some(references.command_id.clone()), &mut definitions);
    let connection_names = flatten(Kind::Connection, &connection, None, &mut definitions);
    let mut event_names = Vec::new();
    for (event_type, (name, data)) in EventType::ALL.iter().zip(events) {
        if let Some(definition) = name_of(&data.clone().to_value()).and_then(|name| definitions.get_mut(&name)) {
            definition["description"] = format!("The `data` of `{name}`.").into();
        }
        let key = Kind::Event.schema_name(name);
        definitions.insert(key.clone(), references.event(*event_type, data.to_value()));
        event_names.push(key);
    }

    for (name, definition) in &mut definitions {
        spell_out_any_json(definition);
        if !name.ends_with("Command") {
            without_null(definition);
        }
    }

    let unions = [
        ("ClientMessage", "What a client may send: a command, and the `id` that asks for an `ack`.", command_names),
        (
            "ConnectionMessage",
            "What the hub says about the connection. Pass over any other `type` without `sessionId`, `seq` and `at`.",
            connection_names,
        ),
        ("Event", "What happened in a session. Pass over any other `type` with `seq`, but count it.", event_names),
        ("ServerMessage", "What the hub may send.", vec!["ConnectionMessage".to_owned(), "Event".to_owned()]),
    ];
    for (name, description, members) in unions {
        let members: Vec<Value> = members.iter().map(|member| reference(member)).collect();
        definitions.insert(name.to_owned(), json!({ "description": description, "oneOf": members }));
    }
    tidy(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": format!("urn:agent-hub:{}", Version::LATEST.subprotocol()),
        "title": Version::LATEST.subprotocol(),
        "description": "The WebSocket messages of agent-hub. Generated from the Rust types; do not edit.",
        "oneOf": [reference("ClientMessage"), reference("ServerMessage")],
        "$defs": definitions,
    }))
}

/// The text of a generated file.
pub fn text(document: &Value) -> String {
    // A `Value` has text keys only, so this cannot fail.
    serde_json::to_string_pretty(document).unwrap_or_default() + "\n"
}

fn settings() -> SchemaSettings {
    // Without `RemoveRefSiblings` the TypeScript generator drops all other keywords beside a `$ref`.
    SchemaSettings::draft2020_12().for_serialize().with_transform(RemoveRefSiblings::default())
}

/// References to what every envelope is made of.
struct References {
    command_id: Value,
    session_id: Value,
    task_id: Value,
    at: Value,
}

impl References {
    fn new(generator: &mut SchemaGenerator) -> Self {
        // Not part of any message as a type (`after` is plain text), but the cursor's form is worth a definition.
        generator.subschema_for::<Cursor>();
        Self {
            command_id: generator.subschema_for::<CommandId>().to_value(),
            session_id: generator.subschema_for::<SessionId>().to_value(),
            task_id: generator.subschema_for::<TaskId>().to_value(),
            at: generator.subschema_for::<Timestamp>().to_value(),
        }
    }

    fn event(&self, event_type: EventType, data: Value) -> Value {
        let mut properties = Map::new();
        let mut required = vec!["type", "sessionId", "seq", "at", "data"];
        properties.insert("type".to_owned(), json!({ "type": "string", "const": event_type.as_str() }));
        properties.insert("sessionId".to_owned(), self.session_id.clone());
        if event_type.is_about_task() {
            properties.insert("taskId".to_owned(), self.task_id.clone());
            required.push("taskId");
        }
        properties
            .insert("seq".to_owned(), json!({ "type": "integer", "minimum": 1, "description": "Its place in the log, dense from 1." }));
        properties.insert("at".to_owned(), self.at.clone());
        properties.insert("data".to_owned(), data);
        json!({ "type": "object", "description": event_type.doc(), "properties": properties, "required": required })
    }
}

/// `(type, name of the body's definition, doc comment)` of each variant of an internally tagged enum's schema.
fn variants(union: &Value) -> Vec<(String, Option<String>, String)> {
    let variant = |variant: &Value| {
        let message_type = variant["properties"]["type"]["const"].as_str().unwrap_or_default().to_owned();
        (message_type, name_of(variant), plain(variant["description"].as_str().unwrap_or_default()))
    };
    union["oneOf"].as_array().into_iter().flatten().map(variant).collect()
}

/// Makes one definition of each variant: `type`, the `id` if there may be one, and the fields of its body, whose own definition goes.
fn flatten(kind: Kind, union: &Value, id: Option<Value>, definitions: &mut Map<String, Value>) -> Vec<String> {
    let bodies: Vec<_> = variants(union)
        .into_iter()
        .map(|(name, body, doc)| (name, body.and_then(|b| definitions.get(&b).cloned().map(|v| (b, v))), doc))
        .collect();
    for (_, body, _) in &bodies {
        if let Some((name, _)) = body {
            definitions.remove(name);
        }
    }
    let mut names = Vec::new();
    for (message_type, body, doc) in bodies {
        let body = body.map_or(Value::Null, |(_, body)| body);
        let mut properties = body["properties"].as_object().cloned().unwrap_or_default();
        let mut required = body["required"].as_array().cloned().unwrap_or_default();
        properties.insert("type".to_owned(), json!({ "type": "string", "const": message_type }));
        required.push("type".into());
        if let Some(id) = &id {
            properties
                .insert("id".to_owned(), json!({ "description": "Asks for an `ack`; echoed in it or in the `error`.", "allOf": [id] }));
        }
        let name = kind.schema_name(&message_type);
        definitions.insert(name.clone(), json!({ "type": "object", "description": doc, "properties": properties, "required": required }));
        names.push(name);
    }
    names
}

/// Says of a field of any JSON that it is that. The TypeScript generator takes a schema with only a description for an object.
fn spell_out_any_json(definition: &mut Value) {
    const SAYING_WHAT: [&str; 6] = ["type", "$ref", "allOf", "anyOf", "oneOf", "const"];
    for property in
        definition.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(|properties| properties.values_mut())
    {
        if let Some(schema) = property.as_object_mut()
            && !SAYING_WHAT.iter().any(|keyword| schema.contains_key(*keyword))
        {
            schema.insert("type".to_owned(), json!(["string", "number", "boolean", "object", "array", "null"]));
        }
    }
}

/// The hub leaves a field out and never writes `null` for that, so its readers need not expect it; a client may do either.
fn without_null(definition: &mut Value) {
    let null = |schema: &Value| *schema == json!("null") || schema["type"] == "null";
    for property in
        definition.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(|properties| properties.values_mut())
    {
        if let Some([one, other]) = property["type"].as_array().map(Vec::as_slice)
            && null(other)
        {
            property["type"] = one.clone();
        } else if let Some([one, other]) = property["anyOf"].as_array().map(Vec::as_slice)
            && null(other)
        {
            let one = one.clone();
            property["allOf"] = json!([one]);
            property.as_object_mut().and_then(|property| property.remove("anyOf"));
        }
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

/// The definition a schema refers to, directly or through the `allOf` of `RemoveRefSiblings`.
fn name_of(schema: &Value) -> Option<String> {
    let target = schema["$ref"].as_str().or_else(|| schema["allOf"][0]["$ref"].as_str())?;
    target.strip_prefix("#/$defs/").map(str::to_owned)
}

/// A doc comment as text for people who do not read Rust: no links to items, one line.
fn plain(doc: &str) -> String {
    doc.replace("[`", "`").replace("`]", "`").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Sorts keys and `required`, whatever order the JSON library keeps; cleans descriptions; drops formats only Rust knows.
fn tidy(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            entries.retain(|(key, value)| !(key == "format" && value.as_str().is_some_and(|f| f.starts_with("uint"))));
            let tidy_entry = |(key, value): (String, Value)| match (key.as_str(), value) {
                ("description", Value::String(text)) => (key, plain(&text).into()),
                ("required", Value::Array(mut names)) => {
                    names.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
                    (key, names.into())
                }
                (_, value) => (key, tidy(value)),
            };
            entries.into_iter().map(tidy_entry).collect::<Map<_, _>>().into()
        }
        Value::Array(values) => values.into_iter().map(tidy).collect(),
        other => other,
    }
}
