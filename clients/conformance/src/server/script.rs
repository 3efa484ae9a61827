//! The script language of a client, `SCRIPTS.md`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::suite::About;

/// A script.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The rule it holds a server to.
    pub about: String,
    /// Names that stand for a new UUID each.
    #[serde(default)]
    pub ids: Vec<String>,
    /// What must be given to the program for it.
    #[serde(default)]
    pub needs: Vec<String>,
    /// What happens.
    pub steps: Vec<Placed>,
}

impl About for Script {
    fn about(&self) -> &str {
        &self.about
    }
}

/// A step, and the socket it is about.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub struct Placed {
    /// The socket's name; `main` otherwise.
    pub on: String,
    /// What happens there.
    pub step: Step,
}

impl TryFrom<Map<String, Value>> for Placed {
    type Error = serde_json::Error;

    fn try_from(mut fields: Map<String, Value>) -> Result<Self, Self::Error> {
        let on = fields.remove("on").map_or(Ok("main".to_owned()), serde_json::from_value)?;
        Ok(Self { on, step: serde_json::from_value(Value::Object(fields))? })
    }
}

/// One thing that the client does, or waits for.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Several usual steps: opens the socket, creates `$session` and reads all that comes of it.
    Begin(Open),
    /// Opens a socket, and reads the `welcome`.
    Open(Open),
    /// Sends a command.
    Send(Value),
    /// Sends a text frame as it stands.
    SendRaw(String),
    /// Sends a binary frame of so many bytes.
    SendBinary(usize),
    /// The very next frame must fit.
    Expect(Value),
    /// Frames are passed over up to one that fits.
    Until(Value),
    /// Each of these patterns must meet a frame that fits, in whatever order; other frames meanwhile are left for the next steps.
    All(Vec<Value>),
    /// Up to the frame that fits `until`, none may fit `never`.
    Never(Never),
    /// Frames are passed over up to the terminal event of a task, which must be of this type.
    Ends(Ends),
    /// The task's tokens must spell its messages, and its result the last of them.
    Text(Of),
    /// The name stands for this socket's cursor in `$session` from now on.
    Cursor(String),
    /// The server must close the socket with one of these codes.
    Closes(Vec<u16>),
    /// Ends the connection without a word.
    Leave(bool),
    /// Closes the WebSocket politely.
    Close(bool),
}

/// How a socket is opened.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// `$token` otherwise; an empty one is not sent.
    pub token: Option<Value>,
    /// How it is sent.
    #[serde(default)]
    pub by: Way,
    /// Added to the address.
    pub query: Option<String>,
    /// Subprotocols offered; `agent-hub.v1` otherwise.
    pub offer: Option<Vec<String>>,
    /// What the server must choose; `$none` for nothing. Not looked at otherwise.
    pub chosen: Option<Value>,
    /// `false`: what comes first is for the script to read.
    pub welcome: Option<bool>,
}

/// How a token is sent.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// `Authorization: Bearer`.
    #[default]
    Header,
    /// `?token=`.
    Query,
    /// `bearer.<token>` among the subprotocols.
    Subprotocol,
}

/// See [`Step::Never`].
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Never {
    /// What must not come.
    pub frame: Value,
    /// Until this does.
    pub until: Value,
}

/// See [`Step::Ends`].
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ends {
    /// The task; `$task` otherwise.
    pub task: Option<Value>,
    /// The type of its terminal event.
    #[serde(rename = "as")]
    pub kind: Value,
}

/// See [`Step::Text`].
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Of {
    /// The task.
    pub task: Value,
}

impl Script {
    /// The steps with the usual ones written out.
    pub(super) fn expanded(&self) -> Vec<Placed> {
        let mut steps = Vec::new();
        for placed in &self.steps {
            match &placed.step {
                Step::Begin(open) => steps.extend(begin(open).into_iter().map(|step| Placed { on: placed.on.clone(), step })),
                _ => steps.push(placed.clone()),
            }
        }
        steps
    }
}

fn begin(open: &Open) -> Vec<Step> {
    vec![
        Step::Open(open.clone()),
        Step::Send(json!({"type": "create_session", "sessionId": "$session", "id": "begin"})),
        Step::All(vec![
            json!({"type": "session_attached", "sessionId": "$session"}),
            json!({"type": "session_created", "sessionId": "$session", "seq": 1}),
            json!({"type": "caught_up", "sessionId": "$session"}),
            json!({"type": "ack", "id": "begin", "received": "create_session"}),
        ]),
    ]
}
