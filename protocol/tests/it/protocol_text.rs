//! `PROTOCOL.md` names everything there is, and its conversations are real and follow the client rule.

use std::collections::HashMap;

use agent_hub_protocol::{
    CloseCode, Command, ErrorCode, EventType, ServerMessage, SessionId,
    schema::{self, Kind},
    server_message::ConnectionMessage,
};
use serde_json::Value;

const TEXT: &str = include_str!("../../PROTOCOL.md");

/// A line of a fenced block with `json` as its language. The words after it say who sends, and over which connection.
struct Line {
    number: usize,
    heading: String,
    sender: String,
    connection: String,
    text: String,
}

fn json_lines() -> Vec<Line> {
    let (mut lines, mut heading, mut fence) = (Vec::new(), String::new(), None::<Vec<String>>);
    for (number, text) in (1..).zip(TEXT.lines()) {
        match (text.strip_prefix("```"), &fence) {
            (Some(info), None) => fence = Some(info.split(' ').map(str::to_owned).collect()),
            (Some(_), Some(_)) => fence = None,
            (None, None) if text.starts_with('#') => heading = text.to_owned(),
            (None, Some(words)) if words[0] == "json" => lines.push(Line {
                number,
                heading: heading.clone(),
                sender: words.get(1).cloned().unwrap_or_default(),
                connection: words.get(2).cloned().unwrap_or_default(),
                text: text.to_owned(),
            }),
            _ => {}
        }
    }
    lines
}

#[test]
fn every_json_line_is_a_message_and_has_no_field_that_is_not_one() {
    let lines = json_lines();
    assert!(lines.len() > 50, "the conversations are found");
    for line in lines {
        let encoded = match line.sender.as_str() {
            "client" => Command::decode(&line.text).map(|command| command.encode()).map_err(|error| error.message),
            "hub" => match ServerMessage::decode(&line.text) {
                Ok(ServerMessage::Connection(message)) => Ok(message.encode()),
                Ok(ServerMessage::Event(event)) if event.body.event_type() != EventType::Unknown => Ok(event.encode()),
                Ok(other) => Err(format!("of a type that is not in the tables: {other:?}")),
                Err(error) => Err(format!("{error:?}")),
            },
            _ => Err("the block does not say `json client` or `json hub`".to_owned()),
        };
        // The decoders pass over unknown fields, so a misspelled one would be lost here.
        assert_eq!(encoded.as_ref(), Ok(&line.text), "PROTOCOL.md:{}", line.number);
    }
}

#[test]
fn conversations_follow_the_client_rule() {
    struct Attached {
        last: u64,
        head: u64,
    }
    let mut attached: HashMap<(String, String, SessionId), Attached> = HashMap::new();
    for line in json_lines().into_iter().filter(|line| line.sender == "hub") {
        let place = format!("PROTOCOL.md:{}", line.number);
        let key = |session| (line.heading.clone(), line.connection.clone(), session);
        match ServerMessage::decode(&line.text).expect("checked by another test") {
            ServerMessage::Event(event) => {
                let reader = attached.get_mut(&key(event.session_id)).unwrap_or_else(|| panic!("{place}: not attached"));
                assert_eq!(event.seq, reader.last + 1, "{place}");
                reader.last = event.seq;
            }
            ServerMessage::Connection(ConnectionMessage::SessionAttached(message)) => {
                assert_eq!(message.snapshot.is_some(), !message.recovered, "{place}");
                assert!(message.recovered || message.from == message.head + 1, "{place}");
                attached.insert(key(message.session_id), Attached { last: message.from - 1, head: message.head });
            }
            ServerMessage::Connection(ConnectionMessage::CaughtUp(message)) => {
                let reader = &attached[&key(message.session_id)];
                assert_eq!((reader.last, reader.head), (message.seq, message.seq), "{place}");
            }
            _ => {}
        }
    }
}

/// The part under a heading, down to the next one of any level.
fn section(heading: &str) -> &'static str {
    let start = TEXT.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("PROTOCOL.md has no heading {heading:?}")) + 1;
    let body = &TEXT[start + heading.len()..];
    &body[..body.find("\n#").unwrap_or(body.len())]
}

/// The row of a table that begins with this cell.
fn row(cell: &str) -> &'static str {
    let start = format!("| {cell} |");
    TEXT.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("PROTOCOL.md has no row for {cell}"))
}

#[test]
fn every_message_and_its_fields_are_described() {
    let schema = schema::json_schema();
    let fields = |name: &str| -> Vec<String> {
        schema["$defs"][name]["properties"].as_object().into_iter().flatten().map(|(field, _)| field.clone()).collect()
    };
    let check = |message_type: &str, text: &str, fields: Vec<String>| {
        for field in fields.iter().filter(|field| !["type", "id"].contains(&field.as_str())) {
            let named = text.contains(&format!("`{field}`")) || text.contains(&format!("`{field}: true`"));
            assert!(named, "PROTOCOL.md does not describe `{field}` of `{message_type}`");
        }
    };
    for kind in [Kind::Command, Kind::Connection] {
        for (message_type, _) in kind.messages() {
            check(message_type, section(&format!("### `{message_type}`")), fields(&kind.schema_name(message_type)));
        }
    }
    for event_type in EventType::ALL {
        let name = Kind::Event.schema_name(event_type.as_str());
        check(event_type.as_str(), row(&format!("`{}`", event_type.as_str())), fields(name.strip_suffix("Event").unwrap_or(&name)));
    }
    for part in ["Snapshot", "SessionInfo", "MessageInfo", "TaskInfo", "PartialText"] {
        check(part, section("## Snapshots"), fields(part));
    }
    check("limits", section("### `welcome`"), fields("Limits"));
}

#[test]
fn every_code_is_described_as_the_tables_say() {
    for code in ErrorCode::ALL {
        let close = code.close_code().map(|close| format!("{} ", close.code())).unwrap_or_default();
        let retryable = if code.retryable() { "yes" } else { "no" };
        let expected = format!("| `{code}` | {} | {close}| {retryable} | ", code.http_status());
        assert!(row(&format!("`{code}`")).starts_with(&expected), "PROTOCOL.md should say {expected:?}");
    }
    for close in CloseCode::ALL {
        let resume = if close.resume() { "yes" } else { "no" };
        let expected = format!("| {} | {} | {resume} | ", close.code(), close.reason());
        assert!(row(&close.code().to_string()).starts_with(&expected), "PROTOCOL.md should say {expected:?}");
    }
}

#[test]
fn every_way_a_value_may_be_spelled_is_named() {
    let schema = schema::json_schema();
    for name in ["OnBusy", "SteerWhen", "InputOutcome", "ResolvedOutcome", "InputKind", "StepPhase", "SessionStatus", "TaskStatus"] {
        for value in schema["$defs"][name]["oneOf"].as_array().expect("an enum") {
            let value = value["const"].as_str().expect("a text");
            assert!(TEXT.contains(&format!("`{value}`")), "PROTOCOL.md does not name {value:?} of {name}");
        }
    }
    assert!(matches!(&schema["$defs"]["OnBusy"]["oneOf"], Value::Array(values) if values.len() == 5));
}
