//! What the stores with a writing thread ask it to do.

use agent_hub_protocol::{SessionId, Timestamp};
use bytes::Bytes;

use super::{Append, AppendError, Space, StoreError, Write, inbox::Reply};

/// What a call costs beside its payload, so that many empty ones are bounded too.
pub(super) const CALL_BYTES: usize = 256;

/// What the writing thread is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    Append(Append, Reply<(), AppendError>),
    Write(Vec<Write>, Reply<()>),
    Erase(Erasure, Reply<()>),
    Probe(Reply<()>),
    /// Takes expired entries away. Nobody waits for it.
    Sweep,
    /// The last job: closes the store.
    Close(Reply<()>),
}

/// A session to take out.
#[derive(Debug)]
pub(super) struct Erasure {
    pub(super) id: SessionId,
    pub(super) owner: String,
    pub(super) forget: Vec<(Space, String)>,
    pub(super) taken_until: Timestamp,
}

/// Where the answer of a job of a group goes.
pub(super) enum Answer {
    Append(Reply<(), AppendError>),
    Plain(Reply<()>),
    Nobody,
}

impl Answer {
    pub(super) fn give(self, result: Result<(), AppendError>) {
        // Whoever gave up waiting does not want it.
        match self {
            Self::Append(reply) => drop(reply.send(result)),
            Self::Plain(reply) => drop(reply.send(result.map_err(|error| match error {
                AppendError::Store(error) => error,
                other => StoreError::Failed(other.to_string()),
            }))),
            Self::Nobody => {}
        }
    }
}

impl Job {
    /// Where the answer goes, for a job that is not even tried.
    pub(super) fn answer(self) -> Answer {
        match self {
            Self::Append(_, reply) => Answer::Append(reply),
            Self::Write(_, reply) | Self::Erase(_, reply) | Self::Probe(reply) | Self::Close(reply) => Answer::Plain(reply),
            Self::Sweep => Answer::Nobody,
        }
    }
}

/// What an append weighs in an inbox.
pub(super) fn append_bytes(append: &Append) -> usize {
    append.events.iter().map(Bytes::len).sum::<usize>() + written_bytes(&append.writes)
}

/// What writes weigh in an inbox.
pub(super) fn written_bytes(writes: &[Write]) -> usize {
    let one = |write: &Write| match write {
        Write::Put { key, value, .. } => key.len() + value.len(),
        Write::Add { key, .. } | Write::Delete { key, .. } => key.len(),
    };
    CALL_BYTES + writes.iter().map(|write| CALL_BYTES + one(write)).sum::<usize>()
}
