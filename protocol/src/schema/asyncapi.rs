//! The AsyncAPI 3.0 document: where to connect, what may be sent in which direction, and why a socket is closed.

use serde_json::{Map, Value, json};

use super::{Example, Kind, json_schema, tidy};
use crate::{
    error_code::{CloseCode, ErrorCode},
    limits,
    version::Version,
};

const KINDS: [Kind; 3] = [Kind::Command, Kind::Connection, Kind::Event];

/// The document, with `examples` at their messages. Written from the hub's side: it *receives* commands and *sends* the rest.
pub fn document(examples: &[Example]) -> Value {
    let schema = json_schema();
    tidy(json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "agent-hub",
            "version": Version::LATEST.subprotocol(),
            "description": "A realtime hub for AI agents: one WebSocket, any number of sessions, each an append-only log of events. \
                `PROTOCOL.md` says when each message is allowed and shows whole conversations. Generated from the Rust types; do not edit.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": servers(),
        "channels": { "agents": channel() },
        "operations": {
            "receiveCommands": operation("receive", Kind::Command, "What a client may ask."),
            "sendConnectionMessages": operation("send", Kind::Connection, "What the hub says about the connection; these have no `seq`."),
            "sendEvents": operation("send", Kind::Event, "What happened in an attached session, in order, each with its `seq`."),
        },
        "components": {
            "messages": messages(examples),
            "schemas": schemas(schema["$defs"].clone()),
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "`Authorization: Bearer <jwt>`, for clients that can set headers." },
                "token": { "type": "httpApiKey", "in": "query", "name": "token", "description": "A JWT in the address, for browsers." },
                "ticket": { "type": "httpApiKey", "in": "query", "name": "ticket", "description": "A single-use ticket, valid 30 seconds, from `POST /auth/ticket`." },
            },
        },
    }))
}

fn servers() -> Value {
    let security: Vec<Value> =
        ["bearer", "token", "ticket"].map(|name| json!({ "$ref": format!("#/components/securitySchemes/{name}") })).into();
    json!({
        "hub": {
            "host": "{host}",
            "protocol": "ws",
            "description": "A hub; `wss` behind a proxy that terminates TLS. An offered subprotocol `bearer.<jwt>` is a fourth way to authenticate.",
            "variables": { "host": { "default": "127.0.0.1:3000", "description": "Host and port." } },
            "security": security,
        },
    })
}

fn channel() -> Value {
    let mut messages = Map::new();
    for kind in KINDS {
        for (message_type, _) in kind.messages() {
            let name = kind.schema_name(message_type);
            messages.insert(name.clone(), json!({ "$ref": format!("#/components/messages/{name}") }));
        }
    }
    let parameter = |description: &str| json!({ "type": "string", "description": description });
    json!({
        "address": "/ws/agents",
        "title": "Agents",
        "description": format!(
            "JSON text frames, one message each, at most {} bytes. The subprotocol `{}` is optional. Why the hub closes the socket:\n\n{}",
            limits::MESSAGE_BYTES,
            Version::LATEST.subprotocol(),
            close_code_lines(),
        ),
        "messages": messages,
        "bindings": { "ws": { "method": "GET", "query": { "type": "object", "properties": {
            "token": parameter("A JWT. Or use `ticket`, an `Authorization` header, or the subprotocol `bearer.<jwt>`."),
            "ticket": parameter("A single-use ticket from `POST /auth/ticket`."),
            "sessionId": parameter("A session to attach to at once, as `attach_session` does."),
            "after": parameter("With `sessionId`: the cursor `<epoch>.<seq>` to resume from."),
        } } } },
        "x-close-codes": close_codes(),
        "x-error-codes": error_codes(),
    })
}

fn operation(action: &str, kind: Kind, summary: &str) -> Value {
    let reference = |name: &str| json!({ "$ref": format!("#/channels/agents/messages/{}", kind.schema_name(name)) });
    let messages: Vec<Value> = kind.messages().iter().map(|(name, _)| reference(name)).collect();
    json!({ "action": action, "channel": { "$ref": "#/channels/agents" }, "summary": summary, "messages": messages })
}

fn messages(examples: &[Example]) -> Value {
    let mut messages = Map::new();
    for kind in KINDS {
        for (message_type, doc) in kind.messages() {
            let examples: Vec<Value> = examples
                .iter()
                .filter(|example| example.kind == kind && example.message_type == message_type)
                .map(|example| json!({ "name": example.name, "payload": example.payload }))
                .collect();
            let name = kind.schema_name(message_type);
            let message = json!({
                "name": message_type,
                "title": message_type,
                "summary": doc.split_inclusive(". ").next().unwrap_or_default().trim(),
                "description": doc,
                "contentType": "application/json",
                "payload": { "$ref": format!("#/components/schemas/{name}") },
                "examples": examples,
            });
            messages.insert(name, message);
        }
    }
    messages.into()
}

/// The definitions of the JSON Schema without the unions, which the operations spell out, at the place AsyncAPI has for them.
fn schemas(definitions: Value) -> Value {
    let mut definitions = definitions;
    if let Some(map) = definitions.as_object_mut() {
        for union in ["ClientMessage", "ServerMessage", "ConnectionMessage", "Event"] {
            map.remove(union);
        }
    }
    moved(definitions)
}

fn moved(value: Value) -> Value {
    match value {
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, moved(value))).collect::<Map<_, _>>().into(),
        Value::Array(values) => values.into_iter().map(moved).collect(),
        Value::String(text) => {
            text.strip_prefix("#/$defs/").map_or(Value::String(text.clone()), |name| format!("#/components/schemas/{name}").into())
        }
        other => other,
    }
}

fn close_code_lines() -> String {
    let line = |close: &CloseCode| {
        let then = if close.resume() { "come back and resume" } else { "do not come back unchanged" };
        format!("- `{}` {}: {} Then {then}.", close.code(), close.reason(), close.doc().trim())
    };
    CloseCode::ALL.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn close_codes() -> Value {
    let row = |close: &CloseCode| {
        (close.code().to_string(), json!({ "reason": close.reason(), "resume": close.resume(), "description": close.doc() }))
    };
    CloseCode::ALL.iter().map(row).collect::<Map<_, _>>().into()
}

fn error_codes() -> Value {
    let row = |code: &ErrorCode| {
        let close = code.close_code().map(CloseCode::code);
        (code.as_str().to_owned(), json!({ "httpStatus": code.http_status(), "closeCode": close, "retryable": code.retryable() }))
    };
    ErrorCode::ALL.iter().map(row).collect::<Map<_, _>>().into()
}
