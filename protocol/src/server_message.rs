//! Server → client, about the connection. These have no `seq`; what happens in a session comes as [`Event`]s.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    client_message::CommandId,
    cursor::{Epoch, Seq},
    error_code::ErrorCode,
    event::{Event, EventBody},
    ids::{SessionId, TaskId},
    limits::Limits,
    snapshot::Snapshot,
    timestamp::Timestamp,
};

/// What the hub says about the connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ConnectionMessage {
    /// The first frame after a successful connect, unasked.
    Welcome(Welcome),
    /// The command with this id was carried out, and its effect is durable.
    Ack(Ack),
    /// A command was refused, or the connection has a problem; nothing was changed.
    Error(ErrorMessage),
    /// The answer to `ping`.
    Pong(Pong),
    /// The first frame of an attach.
    SessionAttached(Box<SessionAttached>),
    /// Once per attach: everything up to the `head` of the attach has been sent; what follows is live.
    CaughtUp(CaughtUp),
    /// A call of a tool that this connection executes: answer with `tool_result`. Nobody else is asked while this connection stands.
    ToolOffered(Box<ToolOffered>),
    /// The token expires soon; send `refresh_token`, or the socket is closed with 4050.
    AuthExpiring(AuthExpiring),
    /// The hub will close this socket soon; connect again after the given time.
    GoingAway(GoingAway),
}

/// See [`ConnectionMessage::Welcome`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// Names this connection in the hub's log.
    pub connection_id: String,
    /// The protocol that is spoken: `agent-hub.v1`.
    pub protocol: String,
    /// The user the credentials stand for.
    pub user: String,
    /// The hub pings this often, in milliseconds, and closes after two silent pings.
    pub heartbeat_ms: u64,
    /// What this connection may do.
    pub limits: Limits,
}

/// See [`ConnectionMessage::Ack`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ack {
    /// The command's id.
    pub id: CommandId,
    /// The command's `type`.
    pub received: String,
    /// The session it went to, if it went to one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<SessionId>,
    /// The task it was about or made.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub task_id: Option<TaskId>,
    /// The event that records it, if it made one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seq: Option<Seq>,
}

/// See [`ConnectionMessage::Error`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorMessage {
    /// The command's id, if it had one that could be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<CommandId>,
    /// What went wrong.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// The session it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<SessionId>,
    /// The task it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub task_id: Option<TaskId>,
    /// Whether the same command may succeed later.
    pub retryable: bool,
    /// How long to wait first, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_after_ms: Option<u64>,
    /// More, for programs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub details: Option<Value>,
}

/// See [`ConnectionMessage::Pong`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pong {
    /// The `id` of the `ping`, if it had one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<CommandId>,
}

/// See [`ConnectionMessage::SessionAttached`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionAttached {
    /// Which session.
    pub session_id: SessionId,
    /// The present incarnation of its log. A cursor is `<epoch>.<seq>`.
    pub epoch: Epoch,
    /// True when the events follow the given cursor without a gap. False: forget what was read and take the snapshot.
    pub recovered: bool,
    /// The first `seq` that will follow.
    pub from: Seq,
    /// The head of the log at this moment; `caught_up` comes when it has been sent.
    pub head: Seq,
    /// The state at `head`, when no cursor was given or it could not be honoured.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub snapshot: Option<Snapshot>,
}

/// See [`ConnectionMessage::CaughtUp`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaughtUp {
    /// Which session.
    pub session_id: SessionId,
    /// The `head` of the attach.
    pub seq: Seq,
}

/// See [`ConnectionMessage::ToolOffered`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolOffered {
    /// Whose session.
    pub session_id: SessionId,
    /// Which task.
    pub task_id: TaskId,
    /// The call. The same when it is offered again, to this connection or another one.
    pub call_id: String,
    /// Which tool.
    pub tool: String,
    /// Its arguments; they fit the tool's schema.
    pub arguments: Value,
    /// When the hub stops waiting for the result.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<Timestamp>,
}

/// See [`ConnectionMessage::AuthExpiring`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthExpiring {
    /// Milliseconds until the socket is closed.
    pub in_ms: u64,
}

/// See [`ConnectionMessage::GoingAway`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GoingAway {
    /// Wait this many milliseconds before connecting again; spread over the clients.
    pub reconnect_after_ms: u64,
}

/// Anything the hub sends.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerMessage {
    /// About the connection.
    Connection(ConnectionMessage),
    /// From a session's log.
    Event(Box<Event>),
    /// About the connection, of a type this program does not know. Passed over.
    Unknown(String),
}

impl ConnectionMessage {
    /// Every `type` of these.
    pub const TYPES: &'static [&'static str] =
        &["welcome", "ack", "error", "pong", "session_attached", "caught_up", "tool_offered", "auth_expiring", "going_away"];

    /// The text frame.
    pub fn encode(&self) -> String {
        // Every field is plain data with text keys, so this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl ServerMessage {
    /// Reads one text frame of the hub. Unknown types and fields pass.
    ///
    /// # Errors
    /// [`UnreadableMessage`] when it is no JSON object with a `type`, or a known type lacks a field.
    pub fn decode(text: &str) -> Result<Self, UnreadableMessage> {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(rename = "type", borrow)]
            kind: std::borrow::Cow<'a, str>,
            seq: Option<serde::de::IgnoredAny>,
            at: Option<serde::de::IgnoredAny>,
            #[serde(rename = "sessionId")]
            session: Option<serde::de::IgnoredAny>,
        }
        let head: Head<'_> = serde_json::from_str(text)?;
        if Self::is_connection(&head.kind) {
            return Ok(Self::Connection(serde_json::from_str(text)?));
        }
        // Only events have all three; so a new message about the connection may have any of them, of any type.
        if head.session.is_some() && head.seq.is_some() && head.at.is_some() {
            return Ok(Self::Event(Box::new(Event::decode(text)?)));
        }
        Ok(Self::Unknown(head.kind.into_owned()))
    }

    fn is_connection(kind: &str) -> bool {
        ConnectionMessage::TYPES.contains(&kind)
    }

    /// The event's body, if it is an event.
    pub fn event(&self) -> Option<&EventBody> {
        match self {
            ServerMessage::Event(event) => Some(&event.body),
            ServerMessage::Connection(_) | ServerMessage::Unknown(_) => None,
        }
    }
}

/// A frame that is not a message of this protocol.
#[derive(Debug, thiserror::Error)]
#[error("not a message of this protocol")]
pub struct UnreadableMessage(#[from] serde_json::Error);
