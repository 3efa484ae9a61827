//! The steps of a script.

use std::time::Duration;

use toml_edit::Value;

use super::{
    EndKind, Expected, How, OnBusy, StartAt, Step, Via,
    fields::{Bytes, Fields, FromToml, choice},
};

choice!(StartAt { "cursor" => StartAt::Cursor, "snapshot" => StartAt::Snapshot, "start" => StartAt::Start });
choice!(How { "clean" => How::Clean, "reset" => How::Reset, "mid-frame" => How::MidFrame });
choice!(Via { "rest" => Via::Rest, "attach" => Via::Attach });
choice!(OnBusy {
    "queue" => OnBusy::Queue,
    "reject" => OnBusy::Reject,
    "interrupt" => OnBusy::Interrupt,
    "rollback" => OnBusy::Rollback,
    "steer" => OnBusy::Steer,
});

/// An end, or any end.
struct AnyEnd(Option<EndKind>);

choice!(AnyEnd {
    "completed" => AnyEnd(Some(EndKind::Completed)),
    "failed" => AnyEnd(Some(EndKind::Failed)),
    "cancelled" => AnyEnd(Some(EndKind::Cancelled)),
    "timeout" => AnyEnd(Some(EndKind::Timeout)),
    "any" => AnyEnd(None),
});

/// When steering is applied: at once?
struct When(bool);

choice!(When { "now" => When(true), "next-step" => When(false) });

/// What a step can be.
#[derive(Clone, Copy)]
enum Kind {
    Create,
    Attach,
    Detach,
    Submit,
    Expect,
    Cancel,
    Steer,
    Drop,
    HalfOpen,
    ReadSlowly,
    ComeBack,
    Wait,
    Meet,
    Repeat,
    Verify,
}

choice!(Kind {
    "create" => Kind::Create,
    "attach" => Kind::Attach,
    "detach" => Kind::Detach,
    "submit" => Kind::Submit,
    "expect" => Kind::Expect,
    "cancel" => Kind::Cancel,
    "steer" => Kind::Steer,
    "drop" => Kind::Drop,
    "half-open" => Kind::HalfOpen,
    "read-slowly" => Kind::ReadSlowly,
    "come-back" => Kind::ComeBack,
    "wait" => Kind::Wait,
    "meet" => Kind::Meet,
    "repeat" => Kind::Repeat,
    "verify" => Kind::Verify,
});

/// Steps within steps within steps: deeper is a mistake.
const DEEPEST: usize = 4;

/// Reads the `steps` of a table. Those that cannot be read are noted and left out.
pub(super) fn steps(fields: &mut Fields<'_>, depth: usize) -> Vec<Step> {
    if !fields.has("steps") {
        fields.required("steps", String::new());
        return Vec::new();
    }
    let place = fields.place.clone();
    let notes = fields.notes;
    let tables = fields.tables("steps");
    if tables.is_empty() {
        fields.wrong("steps", "expected at least one step".to_owned());
    }
    let read = tables.into_iter().enumerate().map(|(index, (table, span))| {
        let mut fields = Fields::new(table, span, format!("{place}, step {}", index + 1), notes);
        let Some(kind) = fields.optional::<Kind>("do") else {
            if !fields.has("do") {
                fields.wrong_here(format!("`do` is missing: {}", Kind::allowed()));
            }
            return None;
        };
        let step = step(kind, &mut fields, depth);
        fields.finish();
        Some(step)
    });
    read.flatten().collect()
}

fn step(kind: Kind, fields: &mut Fields<'_>, depth: usize) -> Step {
    match kind {
        Kind::Create => Step::Create { agent: fields.optional("agent") },
        Kind::Attach => Step::Attach { of: fields.optional("of"), from: fields.or("from", StartAt::Start) },
        Kind::Detach => Step::Detach,
        Kind::Submit => Step::Submit {
            prompt: prompt(fields, "prompt"),
            on_busy: fields.optional("on_busy"),
            spread: fields.or("spread", Duration::ZERO),
        },
        Kind::Expect => expect(fields),
        Kind::Cancel => Step::Cancel { after_tokens: fields.or("after_tokens", 0) },
        Kind::Steer => Step::Steer { input: prompt(fields, "input"), now: fields.or("when", When(false)).0 },
        Kind::Drop => Step::Drop(fields.or("how", How::Reset)),
        Kind::HalfOpen => Step::HalfOpen { keep: fields.or("keep", Duration::from_secs(60)) },
        Kind::ReadSlowly => {
            let Bytes(rate) = fields.required("bytes_per_second", Bytes(1));
            if rate == 0 {
                fields.wrong("bytes_per_second", "expected at least 1".to_owned());
            }
            Step::ReadSlowly { rate: rate.max(1), time: fields.required("time", Duration::ZERO) }
        }
        Kind::ComeBack => Step::ComeBack { jitter: fields.or("jitter", Duration::ZERO), from: fields.or("from", StartAt::Cursor) },
        Kind::Wait => Step::Wait { time: fields.required("time", Duration::ZERO), jitter: fields.or("jitter", Duration::ZERO) },
        Kind::Meet => Step::Meet { name: fields.required("name", String::new()) },
        Kind::Repeat => repeat(fields, depth),
        Kind::Verify => Step::Verify { via: fields.or("via", Via::Rest) },
    }
}

fn expect(fields: &mut Fields<'_>) -> Step {
    let tokens: Option<u64> = fields.optional("tokens");
    let end: Option<AnyEnd> = fields.optional("end");
    let caught_up: Option<bool> = fields.optional("caught_up");
    let what = match (tokens, end, caught_up) {
        (Some(tokens), None, None) => Expected::Tokens(tokens),
        (None, Some(AnyEnd(end)), None) => Expected::End(end),
        (None, None, Some(true)) => Expected::CaughtUp,
        _ => {
            let named = ["tokens", "end", "caught_up"].iter().filter(|key| fields.has(key)).count();
            if named != 1 || caught_up == Some(false) {
                fields.wrong_here("expected exactly one of `tokens = 20`, `end = \"completed\"` and `caught_up = true`");
            }
            Expected::CaughtUp
        }
    };
    Step::Expect { what, within: fields.optional("within") }
}

fn repeat(fields: &mut Fields<'_>, depth: usize) -> Step {
    let (times, time) = (fields.optional("times"), fields.optional("time"));
    if times.is_none() && time.is_none() && !fields.has("times") && !fields.has("time") {
        fields.wrong_here("expected `times = 10`, `time = \"30 s\"`, or both");
    }
    let every: Option<Duration> = fields.optional("every");
    if every.is_some_and(|every| every.is_zero()) {
        fields.wrong("every", "expected more than no time".to_owned());
    }
    if depth >= DEEPEST {
        fields.wrong("steps", format!("repeats are nested more than {DEEPEST} deep"));
        return Step::Repeat { times, time, every, steps: Vec::new() };
    }
    let steps = steps(fields, depth + 1);
    Step::Repeat { times, time, every, steps }
}

/// A text that goes into a JSON frame or into a body.
fn prompt(fields: &mut Fields<'_>, key: &'static str) -> String {
    let text: String = fields.required(key, String::new());
    if text.chars().count() > MOST_CHARACTERS {
        fields.wrong(key, format!("expected at most {MOST_CHARACTERS} characters"));
    }
    text
}

/// The hub's own bound.
const MOST_CHARACTERS: usize = 10_000;
