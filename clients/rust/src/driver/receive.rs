//! What the hub says.

use std::time::Duration;

use agent_hub_protocol::{
    ErrorCode, Seq, SessionId,
    server_message::{Ack, ConnectionMessage, ErrorMessage, SessionAttached},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{ATTACH_AGAIN, Driver, Gone};
use crate::{AppliedEvent, Attached, ClientEvent, CommandError, RawConnection, Verdict, unanswered::attached_by};

/// The parts of a frame that decide what it is; the rest is read where it is wanted.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(rename = "sessionId")]
    session: Option<SessionId>,
    seq: Option<Seq>,
    at: Option<serde::de::IgnoredAny>,
}

impl Driver {
    pub(super) async fn receive(&mut self, text: Utf8Bytes, connection: &mut RawConnection) -> Result<(), Gone> {
        let Ok(head) = serde_json::from_str::<Head<'_>>(&text) else {
            tracing::warn!("the hub sent a frame that is no message");
            return Ok(());
        };
        if let (Some(session), Some(seq), Some(_)) = (head.session, head.seq, head.at.as_ref()) {
            return self.event(session, seq, text, connection).await;
        }
        if !ConnectionMessage::TYPES.contains(&head.kind.as_ref()) {
            return Ok(());
        }
        match serde_json::from_str(&text).or_else(|error| newer_error(&text).ok_or(error)) {
            Ok(message) => self.about_connection(message).await,
            Err(error) => {
                tracing::warn!(%error, "the hub sent a message that cannot be read");
                Ok(())
            }
        }
    }

    async fn event(&mut self, session_id: SessionId, seq: Seq, text: Utf8Bytes, connection: &mut RawConnection) -> Result<(), Gone> {
        // Events of a session that was detached may still be on their way.
        let Some(followed) = self.sessions.get_mut(&session_id) else { return Ok(()) };
        match followed.position.take(seq) {
            Verdict::Apply => self.emit(ClientEvent::Event(AppliedEvent { session_id, seq, text })).await,
            Verdict::Ignore => Ok(()),
            Verdict::Gap => {
                tracing::warn!(%session_id, seq, "events are missing; attaching again");
                self.attach_again(session_id, connection);
                Ok(())
            }
        }
    }

    async fn about_connection(&mut self, message: ConnectionMessage) -> Result<(), Gone> {
        match message {
            ConnectionMessage::Welcome(_) => Ok(()),
            ConnectionMessage::Pong(pong) => {
                // Our own pings have an id that no command has.
                if let Some(id) = pong.id {
                    let ack = Ack { id: id.clone(), received: "ping".to_owned(), session_id: None, task_id: None, seq: None };
                    self.answer(&id, Ok(ack));
                }
                Ok(())
            }
            ConnectionMessage::Ack(ack) => {
                let id = ack.id.clone();
                self.answer(&id, Ok(ack));
                Ok(())
            }
            ConnectionMessage::Error(error) => self.refused(error).await,
            ConnectionMessage::SessionAttached(answer) => self.attached(*answer).await,
            ConnectionMessage::CaughtUp(caught_up) => {
                if let Some(followed) = self.sessions.get_mut(&caught_up.session_id) {
                    followed.behind = false;
                }
                self.note_progress(false);
                self.emit(ClientEvent::CaughtUp { session_id: caught_up.session_id }).await
            }
            ConnectionMessage::AuthExpiring(_) => {
                self.refreshing = Some(self.options.token.ask());
                Ok(())
            }
            // This client provides no tools, so it is offered none.
            ConnectionMessage::ToolOffered(_) => Ok(()),
            ConnectionMessage::GoingAway(going) => {
                self.reconnect_after = Some(Duration::from_millis(going.reconnect_after_ms));
                Ok(())
            }
        }
    }

    async fn attached(&mut self, answer: SessionAttached) -> Result<(), Gone> {
        let Some(followed) = self.sessions.get_mut(&answer.session_id) else { return Ok(()) };
        let kept = followed.position.attached(&answer);
        followed.behind = true;
        self.note_progress(false);
        let SessionAttached { session_id, epoch, from, head, snapshot, .. } = answer;
        self.emit(ClientEvent::Attached(Box::new(Attached { session_id, epoch, kept, from, head, snapshot }))).await
    }

    async fn refused(&mut self, error: ErrorMessage) -> Result<(), Gone> {
        let Some(waiting) = self.unanswered.remove(error.id.as_ref()) else {
            return self.emit(ClientEvent::Problem(Box::new(error))).await;
        };
        let attach = attached_by(&waiting.message);
        match waiting.reply {
            Some(reply) => {
                if let Some(session) = attach
                    && self.sessions.get(&session).is_some_and(|followed| followed.position.cursor().is_none())
                {
                    self.sessions.remove(&session);
                }
                let _ = reply.send(Err(CommandError::Refused(Box::new(error))));
                Ok(())
            }
            None if error.retryable && attach.is_some() => {
                let wait = error.retry_after_ms.map_or(ATTACH_AGAIN, Duration::from_millis);
                self.later.extend(attach.map(|session| (Instant::now() + wait, session)));
                Ok(())
            }
            None => match attach.filter(|session| self.sessions.remove(session).is_some()) {
                Some(session_id) => {
                    self.note_progress(false);
                    self.emit(ClientEvent::Detached { session_id, error: Box::new(error) }).await
                }
                None => self.emit(ClientEvent::Problem(Box::new(error))).await,
            },
        }
    }
}

/// An `error` with a code this program does not know: it counts by its `retryable`, and the code stands in the text.
fn newer_error(text: &str) -> Option<ConnectionMessage> {
    let mut message: Value = serde_json::from_str(text).ok()?;
    let code = message.get("code")?.as_str()?.to_owned();
    let said = message.get("message")?.as_str()?.to_owned();
    message["message"] = format!("{code}: {said}").into();
    message["code"] = ErrorCode::Internal.as_str().into();
    serde_json::from_value(message).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_newer_hub_is_an_error() {
        let text = r#"{"type":"error","id":3,"code":"not_yet_invented","message":"New","retryable":false}"#;
        let Some(ConnectionMessage::Error(error)) = newer_error(text) else { unreachable!("it is an error") };
        assert_eq!((error.code, error.message.as_str(), error.retryable), (ErrorCode::Internal, "not_yet_invented: New", false));
        assert!(newer_error(r#"{"type":"ack","id":3}"#).is_none());
    }
}
