//! What a client hears.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use agent_hub_protocol::{
    Epoch, Event, Seq, SessionId, Snapshot,
    server_message::{ErrorMessage, Welcome},
};
use futures::Stream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::State;

/// What happened.
#[derive(Clone, Debug)]
pub enum ClientEvent {
    /// A connection is there.
    Connected(Box<Welcome>),
    /// It broke; another attempt follows.
    Disconnected {
        /// The close code, if the hub said one.
        code: Option<u16>,
        /// When the next attempt is made.
        retry_in: Duration,
    },
    /// The hub answers an attach. Comes once per session and connection.
    Attached(Box<Attached>),
    /// The next event of a session.
    Event(AppliedEvent),
    /// Everything that was there at the attach has been given; what follows is live.
    CaughtUp {
        /// Which session.
        session_id: SessionId,
    },
    /// A session cannot be followed any more, for example because it was deleted.
    Detached {
        /// Which session.
        session_id: SessionId,
        /// What the hub said.
        error: Box<ErrorMessage>,
    },
    /// The hub complains about something that was no command of this client.
    Problem(Box<ErrorMessage>),
    /// The client has ended; the last of all.
    Ended(Ended),
}

/// An answered attach.
#[derive(Clone, Debug)]
pub struct Attached {
    /// Which session.
    pub session_id: SessionId,
    /// The incarnation of its log.
    pub epoch: Epoch,
    /// Whether what was given before still holds. If not, forget it and take the snapshot, or the events from the first one on.
    pub kept: bool,
    /// The first event to come, unless it was given before.
    pub from: Seq,
    /// The head of the log at the attach.
    pub head: Seq,
    /// The state at `head`, where the cursor could not be honoured or none was given.
    pub snapshot: Option<Snapshot>,
}

/// An event of a session, in its place.
#[derive(Clone, Debug)]
pub struct AppliedEvent {
    /// Which session.
    pub session_id: SessionId,
    /// Its place.
    pub seq: Seq,
    pub(crate) text: Utf8Bytes,
}

impl AppliedEvent {
    /// The event as it was sent, and as it is in the log.
    pub fn text(&self) -> &str {
        self.text.as_str()
    }

    /// Reads it.
    ///
    /// # Errors
    /// When the data does not fit a type this program knows.
    pub fn decode(&self) -> Result<Event, serde_json::Error> {
        Event::decode(self.text.as_str())
    }
}

/// Why a client has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to, or nobody listens any more.
    Closed,
    /// The hub closed with a code after which there is no coming back.
    Final(u16),
    /// The hub refused the handshake with this status.
    Refused(u16),
    /// The token cannot be sent.
    Token,
}

/// What a client hears, in order. A [`Stream`], too.
#[derive(Debug)]
pub struct Events {
    pub(crate) inner: mpsc::Receiver<(ClientEvent, State)>,
    pub(crate) state: State,
}

impl Events {
    /// The next one; `None` after the end.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn next(&mut self) -> Option<ClientEvent> {
        let item = self.inner.recv().await;
        self.note(item)
    }

    /// The next one, if it is there already.
    pub fn try_next(&mut self) -> Option<ClientEvent> {
        let item = self.inner.try_recv().ok();
        self.note(item)
    }

    /// How the client stood when the last event that was taken from here happened. [`Client::state`](crate::Client::state) tells how it
    /// stands now.
    pub const fn state(&self) -> State {
        self.state
    }

    fn note(&mut self, item: Option<(ClientEvent, State)>) -> Option<ClientEvent> {
        let (event, state) = item?;
        self.state = state;
        Some(event)
    }
}

impl Stream for Events {
    type Item = ClientEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ClientEvent>> {
        self.inner.poll_recv(cx).map(|item| self.note(item))
    }
}
