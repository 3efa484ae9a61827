//! What everybody but the actor holds of a session.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc;

use super::request::Envelope;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct SessionHandle {
    inbox: mpsc::Sender<Box<Envelope>>,
    readers: Arc<AtomicUsize>,
}

/// The actor's end.
pub(crate) struct Inbox {
    pub(crate) requests: mpsc::Receiver<Box<Envelope>>,
    /// How many readers follow; the actor keeps it for others to see.
    pub(crate) readers: Arc<AtomicUsize>,
}

/// Why an envelope was not taken; it comes back.
pub(crate) enum PostError {
    /// The inbox is full.
    Full(Box<Envelope>),
    /// The actor has stopped taking requests.
    Asleep(Box<Envelope>),
}

impl SessionHandle {
    /// A handle and its inbox of `bound` envelopes.
    pub(crate) fn new(bound: usize) -> (Self, Inbox) {
        let (sender, requests) = mpsc::channel(bound);
        let readers = Arc::new(AtomicUsize::new(0));
        (Self { inbox: sender, readers: Arc::clone(&readers) }, Inbox { requests, readers })
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
        self.readers.load(Ordering::Relaxed) > 0
    }

    /// Whether this is the handle of that inbox.
    pub(crate) fn is_of(&self, inbox: &Inbox) -> bool {
        Arc::ptr_eq(&self.readers, &inbox.readers)
    }
}
