//! The wire text of every message is pinned.

use std::collections::BTreeSet;

use agent_hub_protocol::{
    ClientMessage, CloseCode, Command, ErrorCode, Event, EventBody, EventType, ServerMessage, schema::Kind,
    server_message::ConnectionMessage,
};
use serde_json::{Value, json};

use crate::goldens::{self, Golden};

const CHANGED: &str = "The message changed, so clients of agent-hub.v1 would no longer be understood or no longer understand. \
    The golden is not old: keep the wire text as it was, or make the change in a new version of the protocol.";

fn reencoded(golden: &Golden) -> Result<(String, String), String> {
    let fail = |error: &dyn std::fmt::Display| format!("{}: {error}\n{CHANGED}", golden.path);
    match golden.kind {
        Kind::Command => {
            let command = Command::decode(&golden.text).map_err(|error| fail(&error.message))?;
            Ok((command.message.type_name().to_owned(), command.encode()))
        }
        Kind::Connection => match ServerMessage::decode(&golden.text).map_err(|error| fail(&error))? {
            ServerMessage::Connection(message) => Ok((golden.message_type.clone(), message.encode())),
            other => Err(fail(&format!("is not about the connection: {other:?}"))),
        },
        Kind::Event => match ServerMessage::decode(&golden.text).map_err(|error| fail(&error))? {
            ServerMessage::Event(event) => Ok((event.body.event_type().as_str().to_owned(), event.encode())),
            other => Err(fail(&format!("is no event: {other:?}"))),
        },
    }
}

#[test]
fn golden_messages_reencode_unchanged() {
    for golden in goldens::all() {
        let (message_type, text) = reencoded(&golden).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(message_type, golden.message_type, "{}: named after another type", golden.path);
        assert_eq!(text, golden.text, "{}: written differently than it was read. {CHANGED}", golden.path);
    }
}

#[test]
fn every_message_type_has_a_golden() {
    let goldens = goldens::all();
    let have = |kind: Kind| -> BTreeSet<&str> { goldens.iter().filter(|g| g.kind == kind).map(|g| g.message_type.as_str()).collect() };
    assert_eq!(have(Kind::Command), ClientMessage::TYPES.iter().copied().collect());
    assert_eq!(have(Kind::Connection), ConnectionMessage::TYPES.iter().copied().collect());
    assert_eq!(have(Kind::Event), EventType::ALL.iter().map(|t| t.as_str()).collect());
}

#[test]
fn the_type_of_an_event_has_one_name() {
    for event_type in EventType::ALL {
        assert_eq!(EventType::from_name(event_type.as_str()), *event_type);
    }
    let terminal: Vec<&str> = EventType::ALL.iter().filter(|t| t.is_terminal()).map(|t| t.as_str()).collect();
    assert_eq!(terminal, ["task_completed", "task_failed", "task_cancelled", "task_timeout"]);
}

#[test]
fn events_about_tasks_name_the_task() {
    for golden in goldens::all().iter().filter(|golden| golden.kind == Kind::Event) {
        let event = Event::decode(&golden.text).expect("an event");
        assert_eq!(event.task_id.is_some(), event.body.event_type().is_about_task(), "{}", golden.path);
    }
}

#[test]
fn unknown_fields_pass_everywhere() {
    for golden in goldens::all() {
        let more =
            Golden { text: format!(r#"{{"aNewField":{{"a":[1,null]}},{}"#, golden.text.strip_prefix('{').expect("an object")), ..golden };
        // An event keeps nothing it does not know, and neither does any other message.
        let (_, text) = reencoded(&more).unwrap_or_else(|error| panic!("{error}"));
        assert!(!text.contains("aNewField"), "{}", more.path);
        if more.kind == Kind::Event {
            let inside = more.text.replacen(r#""data":{"#, r#""data":{"aNewField":0,"#, 1).replace(",}", "}");
            Event::decode(&inside).unwrap_or_else(|error| panic!("{}: {error}", more.path));
        }
    }
}

#[test]
fn unknown_events_and_connection_messages_pass_and_unknown_commands_do_not() {
    for golden in goldens::all() {
        let known = format!(r#""type":"{}""#, golden.message_type);
        let text = golden.text.replacen(&known, r#""type":"from_the_future""#, 1);
        match golden.kind {
            Kind::Command => {
                assert_eq!(Command::decode(&text).expect_err("refused").code, ErrorCode::UnknownType, "{}", golden.path);
            }
            Kind::Connection => {
                assert_eq!(ServerMessage::decode(&text).expect("passes"), ServerMessage::Unknown("from_the_future".to_owned()));
            }
            Kind::Event => {
                let ServerMessage::Event(event) = ServerMessage::decode(&text).expect("passes") else {
                    panic!("{}: no event", golden.path)
                };
                assert!(matches!(&event.body, EventBody::Unknown(unknown) if unknown.name == "from_the_future"));
                let parsed = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
                assert_eq!(parsed(&event.encode()), parsed(&text), "kept as it came, but for the order of keys in its data");
            }
        }
    }
    // Neither the place of a field nor its type makes something an event that is none.
    let text = r#"{"type":"from_the_future","seq":"many","at":[],"sessionless":true}"#;
    assert_eq!(ServerMessage::decode(text).expect("passes"), ServerMessage::Unknown("from_the_future".to_owned()));
}

#[test]
fn the_tables_of_codes_are_pinned() {
    let errors: serde_json::Map<String, Value> = ErrorCode::ALL
        .iter()
        .map(|code| {
            let row = json!({
                "httpStatus": code.http_status(),
                "closeCode": code.close_code().map(CloseCode::code),
                "retryable": code.retryable(),
            });
            (code.as_str().to_owned(), row)
        })
        .collect();
    let closes: serde_json::Map<String, Value> = CloseCode::ALL
        .iter()
        .map(|close| (close.code().to_string(), json!({ "reason": close.reason(), "resume": close.resume() })))
        .collect();
    let golden: Value = serde_json::from_str(include_str!("../../golden/v1/codes.json")).expect("JSON");
    assert_eq!(json!({ "closeCodes": closes, "errorCodes": errors }), golden, "golden/v1/codes.json. {CHANGED}");
}
