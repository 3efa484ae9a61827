//! What everybody but the actor holds of a session.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::request::Envelope;
use crate::runtime::log::Tail;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct SessionHandle {
    inbox: mpsc::Sender<Box<Envelope>>,
    tail: Arc<Tail>,
}

/// The actor's end.
pub(crate) struct Inbox {
    pub(crate) requests: mpsc::Receiver<Box<Envelope>>,
    pub(crate) tail: Arc<Tail>,
}

/// Why an envelope was not taken; it comes back.
pub(crate) enum PostError {
    /// The inbox is full.
    Full(Box<Envelope>),
    /// The actor has stopped taking requests.
    Asleep(Box<Envelope>),
}

impl SessionHandle {
    /// A handle and its inbox of `bound` envelopes. The tail is empty until the actor has read the log.
    pub(crate) fn new(bound: usize, tail: Tail) -> (Self, Inbox) {
        let (sender, requests) = mpsc::channel(bound);
        let tail = Arc::new(tail);
        (Self { inbox: sender, tail: Arc::clone(&tail) }, Inbox { requests, tail })
    }

    /// Never waits.
    pub(crate) fn try_post(&self, envelope: Box<Envelope>) -> Result<(), PostError> {
        self.inbox.try_send(envelope).map_err(|error| match error {
            mpsc::error::TrySendError::Full(envelope) => PostError::Full(envelope),
            mpsc::error::TrySendError::Closed(envelope) => PostError::Asleep(envelope),
        })
    }

    /// Whether anybody reads the session now.
    pub(crate) fn is_followed(&self) -> bool {
        self.tail.following() > 0
    }

    /// Whether both are handles of one actor.
    pub(crate) fn is_of(&self, tail: &Arc<Tail>) -> bool {
        Arc::ptr_eq(&self.tail, tail)
    }

    /// The same question of another handle.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.is_of(&other.tail)
    }
}
