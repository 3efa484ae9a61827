//! What holds for any input, not only for the goldens.

use std::time::Duration;

use agent_hub_protocol::{
    Command, Cursor, Epoch, Event, EventBody, EventType, ServerMessage, SessionId, TaskId, Timestamp,
    client_message::deeper_than,
    event::{
        InputResolved, Message, ResolvedOutcome, Role, TaskCancelled, TaskCompleted, Token, ToolCall, ToolResult, UnknownEvent, Usage,
    },
};
use proptest::{collection::vec, prelude::*};
use serde_json::{Map, Value};

use crate::goldens;

/// The last millisecond a timestamp can say.
const LAST_MILLI: i64 = 253_402_300_799_999;

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no other numbers", |f| f.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let tree = leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            vec((any::<String>(), inner), 0..5).prop_map(|entries| entries.into_iter().collect::<Map<_, _>>().into()),
        ]
    });
    // `null` as the whole value is what an optional field most easily loses.
    prop_oneof![1 => Just(Value::Null), 3 => tree]
}

fn any_body() -> impl Strategy<Value = EventBody> {
    let text = any::<String>;
    prop_oneof![
        (text(), text()).prop_map(|(token, message_id)| EventBody::Token(Token { token, message_id })),
        (text(), text(), any::<bool>()).prop_map(|(message_id, text, partial)| EventBody::Message(Message {
            message_id,
            role: Role::Assistant,
            text,
            partial
        })),
        (text(), text(), any_json()).prop_map(|(call_id, tool, arguments)| EventBody::ToolCall(ToolCall { call_id, tool, arguments })),
        (text(), proptest::option::of(any_json()), proptest::option::of(text()), any::<u64>()).prop_map(
            |(call_id, output, error, duration_ms)| EventBody::ToolResult(ToolResult {
                call_id,
                output,
                code: error.as_ref().map(|_| "failed".to_owned()),
                error,
                duration_ms
            })
        ),
        (text(), proptest::option::of(any_json()), proptest::option::of(any_json())).prop_map(|(by, payload, edited_arguments)| {
            let (request_id, outcome) = ("r1".to_owned(), ResolvedOutcome::Accept);
            EventBody::InputResolved(InputResolved { request_id, outcome, by, payload, edited_arguments })
        }),
        (any_json(), any::<u64>(), any::<u64>()).prop_map(|(result, input_tokens, output_tokens)| {
            EventBody::TaskCompleted(TaskCompleted { result, usage: Usage { input_tokens, output_tokens } })
        }),
        (proptest::option::of(text()), text(), text(), any::<bool>(), any::<bool>()).prop_map(
            |(reason, by, partial, upstream_stopped, rollback)| {
                EventBody::TaskCancelled(TaskCancelled { reason, by, partial, upstream_stopped, rollback })
            }
        ),
        ("[a-z_]{1,12}x", any_json()).prop_map(|(name, data)| EventBody::Unknown(UnknownEvent { name, data })),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    (any::<bool>(), any::<u64>(), 0..=LAST_MILLI, any_body()).prop_map(|(task, seq, millis, body)| Event {
        session_id: SessionId::random(),
        task_id: task.then(TaskId::random),
        seq,
        at: Timestamp::from_millis(millis),
        body,
    })
}

/// Goldens with a few bytes changed: close enough to a message to reach every field.
fn almost_a_message() -> impl Strategy<Value = String> {
    let texts: Vec<String> = goldens::all().into_iter().map(|golden| golden.text).collect();
    (proptest::sample::select(texts), vec((any::<proptest::sample::Index>(), any::<u8>(), any::<bool>()), 0..6)).prop_map(
        |(text, changes)| {
            let mut bytes = text.into_bytes();
            for (place, byte, insert) in changes {
                let place = place.index(bytes.len());
                if insert { bytes.insert(place, byte) } else { bytes[place] = byte }
            }
            String::from_utf8_lossy(&bytes).into_owned()
        },
    )
}

proptest! {
    #[test]
    fn an_event_is_read_as_it_was_written(event in any_event()) {
        prop_assume!(EventType::from_name("x") == EventType::Unknown);
        let text = event.encode();
        prop_assert!(!text.contains('\n'), "one line");
        let read = Event::decode(&text).expect("decodes");
        prop_assert_eq!(&read, &event);
        prop_assert_eq!(read.encode(), text.clone());
        let mut bytes = Vec::new();
        event.encode_into(&mut bytes);
        prop_assert_eq!(bytes, text.clone().into_bytes());
        prop_assert_eq!(ServerMessage::decode(&text).expect("decodes"), ServerMessage::Event(Box::new(event)));
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written(birth in any::<u32>(), generation in any::<u32>(), seq in any::<u64>()) {
        let cursor = Cursor { epoch: Epoch::derive(birth, generation), seq };
        prop_assert!(Epoch::new(cursor.epoch.as_str()).is_ok());
        prop_assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor.clone()));
        let json = serde_json::to_string(&cursor).expect("encodes");
        prop_assert_eq!(serde_json::from_str::<Cursor>(&json).expect("decodes"), cursor);
    }

    #[test]
    fn a_cursor_has_one_spelling(text in "[a-zA-Z0-9. +-]{0,40}") {
        if let Ok(cursor) = text.parse::<Cursor>() {
            prop_assert_eq!(cursor.to_string(), text);
        }
    }

    #[test]
    fn different_histories_have_different_epochs(a in any::<(u32, u32)>(), b in any::<(u32, u32)>()) {
        prop_assert_eq!(Epoch::derive(a.0, a.1) == Epoch::derive(b.0, b.1), a == b);
    }

    #[test]
    fn a_time_is_read_as_it_was_written(millis in 0..=LAST_MILLI) {
        let at = Timestamp::from_millis(millis);
        prop_assert_eq!(at.to_string().len(), 24);
        prop_assert_eq!(at.to_string().parse(), Ok(at));
        prop_assert_eq!(serde_json::to_string(&at).expect("encodes"), format!("\"{at}\""));
    }

    #[test]
    fn times_stay_in_their_range(millis in any::<i64>(), more in any::<u64>(), other in any::<i64>()) {
        let (at, other) = (Timestamp::from_millis(millis), Timestamp::from_millis(other));
        for time in [at, at.plus(Duration::from_millis(more)), at.next_midnight()] {
            prop_assert!((0..=LAST_MILLI).contains(&time.as_millis()));
        }
        prop_assert!(at.plus(Duration::from_millis(more)) >= at);
        prop_assert_eq!(at.since(other).is_zero(), at <= other);
    }

    #[test]
    fn reading_a_time_never_panics(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,12})?([Zz]|[+-][0-9]{2}:[0-9]{2})?") {
        if let Ok(at) = text.parse::<Timestamp>() {
            prop_assert_eq!(at.to_string().parse(), Ok(at));
        }
    }

    #[test]
    fn reading_any_text_never_panics(text in any::<String>()) {
        let _ = (Command::decode(&text), ServerMessage::decode(&text), Event::decode(&text));
    }

    #[test]
    fn reading_any_bytes_never_panics(bytes in vec(any::<u8>(), 0..512)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = (Command::decode(&text), ServerMessage::decode(&text));
    }

    #[test]
    fn a_damaged_message_is_refused_or_understood(text in almost_a_message()) {
        match Command::decode(&text) {
            Ok(command) => {
                let again = Command::decode(&command.encode());
                prop_assert_eq!(again.as_ref(), Ok(&command));
            }
            Err(error) => prop_assert!(!error.message.is_empty() && error.message.len() < 2 * text.len() + 400, "{}", error.message),
        }
        if let Ok(ServerMessage::Event(event)) = ServerMessage::decode(&text) {
            prop_assert_eq!(Event::decode(&event.encode()).expect("decodes"), *event);
        }
    }

    #[test]
    fn what_parses_is_as_deep_as_it_was_counted(value in any_json()) {
        fn depth(value: &Value) -> usize {
            match value {
                Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
                Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
                _ => 0,
            }
        }
        let (text, depth) = (value.to_string(), depth(&value));
        prop_assert!(!deeper_than(&text, depth));
        prop_assert!(depth == 0 || deeper_than(&text, depth - 1));
    }
}

/// A damaged text may keep an error's message long; a whole hostile one must not be sent back.
#[test]
fn an_error_does_not_send_the_message_back() {
    let long = "x".repeat(1024 * 1024);
    for text in [
        format!(r#"{{"type":"{long}"}}"#),
        format!(r#"{{"type":"ping","id":"{long}"}}"#),
        format!(r#"{{"type":"submit_task","onBusy":"{long}"}}"#),
        format!(r#"{{"type":"cancel_task","taskId":"{long}"}}"#),
        format!(r#"{{"type":"submit_task","timeoutMs":"{long}"}}"#),
    ] {
        let error = Command::decode(&text).expect_err("refused");
        assert!(error.message.len() < 1000, "{} bytes", error.message.len());
    }
}
