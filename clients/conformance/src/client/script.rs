//! The script language of a faulty server, `SCRIPTS.md`.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{pattern::Names, suite::About};

/// A script.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The rule it holds a client to.
    pub about: String,
    /// Names that stand for a new UUID each.
    #[serde(default)]
    pub ids: Vec<String>,
    /// Types of commands that are passed over wherever they come; `ping` is answered and passed over anyway.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// Further fields of the order `connect`.
    #[serde(default)]
    pub connect: Map<String, Value>,
    /// What happens.
    pub steps: Vec<Step>,
}

impl About for Script {
    fn about(&self) -> &str {
        &self.about
    }
}

/// One thing that the server or the kit does, or waits for.
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Several usual steps: the client connects and creates `$session`, which has event 1 then.
    Begin(Welcome),
    /// Several usual steps: the client comes back and attaches `$session` behind an event.
    Resume(Resume),
    /// An order for the driver. `as` names it, for `answer`.
    Order(Map<String, Value>),
    /// Waits for the next connection and welcomes it.
    Accept(Welcome),
    /// Waits for the next connection and answers the handshake with this HTTP status.
    Refuse(u16),
    /// No connection may come for so many milliseconds.
    NoConnection(u64),
    /// The next command must fit.
    Hear(Value),
    /// The next commands must fit, in whatever order.
    HearAll(Vec<Value>),
    /// No command may come for so many milliseconds.
    Quiet(u64),
    /// Sends a message.
    Say(Value),
    /// Sends a text frame as it stands.
    SayRaw(String),
    /// Sends a binary frame of so many bytes.
    SayBinary(usize),
    /// Sends the first half of a message's frame, in bytes.
    SayHalf(Value),
    /// Sends `session_attached` of `$session`: epoch `e1`, `recovered` and what is given.
    Attached(Map<String, Value>),
    /// Sends `caught_up` of `$session` at this event.
    CaughtUp(u64),
    /// Sends events of `$session`. A number is a token.
    Events(Vec<Value>),
    /// Closes the WebSocket with this code.
    Close(u16),
    /// Resets the connection.
    Reset(bool),
    /// Ends the connection without a word.
    Cut(bool),
    /// Says nothing and reads nothing any more; the connection stays.
    Silent(bool),
    /// The answer to an order must be there, or come, and fit.
    Answer(Answer),
    /// The client must be, or come, into this state.
    State(Value),
    /// The next events applied must fit. A number is an event of `$session`.
    Applies(Vec<Value>),
    /// Events of `$session` up to this one must be applied, in order, each once; reports of attaches may come between.
    AppliesThrough(u64),
    /// The next report of an attach must fit; of `$session` unless it names another.
    Attaches(Map<String, Value>),
    /// A session must be reported as detached.
    Detaches(Map<String, Value>),
    /// Begins to measure time.
    Mark(bool),
    /// At least so many milliseconds must have passed since.
    SinceMark(u64),
    /// The driver must end by itself, and well.
    Ends(bool),
}

/// How a connection is welcomed.
#[derive(Clone, Debug, Default, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Welcome {
    /// What the token must be.
    pub token: Option<Value>,
    /// Says nothing instead.
    #[serde(default)]
    pub silent: bool,
    /// 20,000 otherwise.
    pub heartbeat_ms: Option<u64>,
    /// 1 MiB otherwise.
    pub message_bytes: Option<u64>,
}

/// Where a client comes back.
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resume {
    /// The last event it has.
    pub after: u64,
    /// The head of the log; the same otherwise.
    pub head: Option<u64>,
}

/// What an answer must be.
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The order's name.
    pub to: String,
    /// Other fields of the answer.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl Script {
    /// The steps with the usual ones written out.
    pub(super) fn expanded(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for step in &self.steps {
            match step {
                Step::Begin(welcome) => steps.extend(begin(welcome)),
                Step::Resume(resume) => steps.extend(come_back(resume)),
                other => steps.push(other.clone()),
            }
        }
        steps
    }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn begin(welcome: &Welcome) -> Vec<Step> {
    vec![
        Step::Order(object(json!({"do": "connect", "as": "connect"}))),
        Step::Accept(welcome.clone()),
        Step::Order(object(json!({"do": "create", "session": "$session", "as": "create"}))),
        Step::Hear(json!({"type": "create_session", "sessionId": "$session", "id": "$create"})),
        Step::Attached(object(json!({"from": 1, "head": 1}))),
        Step::Events(vec![json!({"seq": 1, "type": "session_created"})]),
        Step::CaughtUp(1),
        Step::Say(json!({"type": "ack", "id": "$create", "received": "create_session", "sessionId": "$session", "seq": 1})),
        Step::Answer(Answer { to: "connect".into(), fields: object(json!({"ok": true})) }),
        Step::Answer(Answer { to: "create".into(), fields: object(json!({"ok": true})) }),
        Step::Attaches(object(json!({"kept": true, "head": 1}))),
        Step::Applies(vec![json!(1)]),
        Step::State("live".into()),
    ]
}

fn come_back(resume: &Resume) -> Vec<Step> {
    let Resume { after, head } = resume;
    let head = head.unwrap_or(*after);
    vec![
        Step::Accept(Welcome::default()),
        Step::Hear(
            json!({"type": "attach_session", "sessionId": "$session", "after": format!("e1.{after}"), "id": format!("$attach{after}_{head}")}),
        ),
        Step::Attached(object(json!({"from": after + 1, "head": head}))),
        Step::Events((after + 1..=head).map(Value::from).collect()),
        Step::CaughtUp(head),
        Step::Say(json!({"type": "ack", "id": format!("$attach{after}_{head}"), "received": "attach_session", "sessionId": "$session"})),
        Step::Attaches(object(json!({"kept": true, "head": head}))),
        Step::Applies((after + 1..=head).map(Value::from).collect()),
        Step::State("live".into()),
    ]
}

/// An event as it goes out: numbers are tokens, and what a script leaves out is usual.
pub(super) fn event(given: &Value, names: &Names) -> Value {
    let mut fields = match given {
        Value::Object(fields) => fields.clone(),
        seq => object(json!({"seq": seq})),
    };
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or("token").to_owned();
    let mut whole = object(json!({"type": kind, "sessionId": "$session"}));
    if !kind.starts_with("session_") && names.get("task").is_some() {
        whole.insert("taskId".into(), "$task".into());
    }
    whole.insert("seq".into(), Value::Null);
    whole.insert("at".into(), "2026-11-20T14:02:01.037Z".into());
    let seq = fields.get("seq").cloned().unwrap_or_default();
    whole.insert("data".into(), usual_data(&kind, &seq));
    whole.append(&mut fields);
    Value::Object(whole)
}

fn usual_data(kind: &str, seq: &Value) -> Value {
    match kind {
        "session_created" => json!({"epoch": "e1", "agent": "assistant", "tools": [], "createdAt": "2026-11-20T14:02:01.037Z"}),
        "task_queued" => json!({"prompt": "hello", "position": 0, "timeoutMs": 300_000}),
        "task_started" => json!({"attempt": 1, "messageId": "m1"}),
        "token" => json!({"token": format!("word{seq} "), "messageId": "m2"}),
        "task_completed" => json!({"result": "done", "usage": {"inputTokens": 1, "outputTokens": 1}}),
        "cancel_requested" => json!({"by": "user-1"}),
        "task_cancelled" => json!({"by": "user-1", "partial": "", "upstreamStopped": true}),
        "session_ended" => json!({"reason": "ended"}),
        _ => json!({}),
    }
}
