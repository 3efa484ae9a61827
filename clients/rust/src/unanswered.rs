//! Commands the hub has not answered.

use std::collections::BTreeMap;

use agent_hub_protocol::{ClientMessage, Command, CommandId, SessionId, server_message::Ack};
use tokio::sync::oneshot;

use crate::CommandError;

pub(crate) type Answer = Result<Ack, CommandError>;

/// In the order they were given, which is the order they are sent again in.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    commands: BTreeMap<u64, Waiting>,
    last: u64,
}

/// A command and who waits for its answer.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) message: ClientMessage,
    /// `None`: the client's own doing.
    pub(crate) reply: Option<oneshot::Sender<Answer>>,
}

impl Unanswered {
    /// Takes a command in; returns its text.
    pub(crate) fn add(&mut self, message: ClientMessage, reply: Option<oneshot::Sender<Answer>>) -> (u64, String) {
        self.last += 1;
        let text = encode(self.last, &message);
        self.commands.insert(self.last, Waiting { message, reply });
        (self.last, text)
    }

    /// The command an answer is for.
    pub(crate) fn remove(&mut self, id: Option<&CommandId>) -> Option<Waiting> {
        match id {
            Some(CommandId::Number(id)) => self.commands.remove(id),
            Some(CommandId::Text(_)) | None => None,
        }
    }

    /// Before a new connection: the client's own commands are made anew, and those whose sender has gone are not sent again.
    pub(crate) fn forget_own(&mut self) {
        self.commands.retain(|_, waiting| waiting.reply.as_ref().is_some_and(|reply| !reply.is_closed()));
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.commands.len()
    }

    /// The one the hub can only have meant when it closed the socket because a message was too big for it.
    pub(crate) fn take_largest(&mut self) -> Option<(Waiting, usize)> {
        let size = |(id, waiting): (&u64, &Waiting)| (encode(*id, &waiting.message).len(), *id);
        let (bytes, id) = self.commands.iter().map(size).max()?;
        self.commands.remove(&id).map(|waiting| (waiting, bytes))
    }

    /// All, in order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut ClientMessage)> {
        self.commands.iter_mut().map(|(id, waiting)| (*id, &mut waiting.message))
    }

    /// Whether one of them attaches this session.
    pub(crate) fn attaches(&self, session: SessionId) -> bool {
        self.commands.values().any(|waiting| attached_by(&waiting.message) == Some(session))
    }

    /// Nothing will be answered any more.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Waiting> {
        std::mem::take(&mut self.commands).into_values()
    }
}

/// The text of a command.
pub(crate) fn encode(id: u64, message: &ClientMessage) -> String {
    Command { id: Some(CommandId::Number(id)), message: message.clone() }.encode()
}

/// The session a command attaches.
pub(crate) fn attached_by(message: &ClientMessage) -> Option<SessionId> {
    match message {
        ClientMessage::CreateSession(create) => create.session_id,
        ClientMessage::AttachSession(attach) => Some(attach.session_id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use agent_hub_protocol::client_message::Ping;

    use super::*;

    #[test]
    fn what_nobody_waits_for_is_not_sent_again() {
        let mut unanswered = Unanswered::default();
        let (reply, _kept) = oneshot::channel();
        let (first, text) = unanswered.add(ClientMessage::Ping(Ping {}), Some(reply));
        assert_eq!(text, r#"{"id":1,"type":"ping"}"#);
        unanswered.add(ClientMessage::Ping(Ping {}), None);
        unanswered.add(ClientMessage::Ping(Ping {}), Some(oneshot::channel().0));
        unanswered.forget_own();
        assert_eq!(unanswered.iter_mut().map(|(id, _)| id).collect::<Vec<_>>(), [first]);
        assert!(unanswered.remove(Some(&CommandId::Text("1".into()))).is_none());
        assert!(unanswered.remove(Some(&CommandId::Number(1))).is_some());
    }
    #[test]
    fn the_largest_is_found_wherever_it_stands() {
        let mut unanswered = Unanswered::default();
        let detach = |id| ClientMessage::DetachSession(agent_hub_protocol::client_message::SessionRef { session_id: id });
        unanswered.add(detach(None), None);
        let (large, text) = unanswered.add(detach(Some(SessionId::random())), None);
        unanswered.add(detach(None), None);
        let (_, bytes) = unanswered.take_largest().expect("there are three");
        assert_eq!((bytes, unanswered.len()), (text.len(), 2));
        assert!(unanswered.remove(Some(&CommandId::Number(large))).is_none());
    }
}
