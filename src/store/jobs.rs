//! What the stores with a writing thread ask it to do.

use std::sync::Arc;

use agent_hub_protocol::{Seq, SessionId, Timestamp};
use bytes::Bytes;
use tokio::{
    runtime::Handle,
    sync::mpsc::{self, error::TrySendError},
    task::JoinHandle,
};

use super::{Append, AppendError, Audience, Space, StoreError, Write, inbox::Reply};

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
#[derive(Debug)]
pub(super) enum Answer {
    Append(Reply<(), AppendError>, Option<News>),
    Plain(Reply<()>),
    Nobody,
}

/// What an append's audience is told when it is durable.
#[derive(Debug)]
pub(super) struct News {
    audience: Arc<dyn Audience>,
    first: Seq,
    events: Vec<Bytes>,
}

impl News {
    /// Of an append; `None` if there is nothing to tell or nobody to be told.
    pub(super) fn of(audience: Option<Arc<dyn Audience>>, expected: Seq, events: Vec<Bytes>) -> Option<Self> {
        audience.filter(|_| !events.is_empty()).map(|audience| Self { audience, first: expected + 1, events })
    }

    pub(super) fn tell(self) {
        self.audience.durable(self.first, self.events);
    }
}

impl Answer {
    pub(super) fn give(self, result: Result<(), AppendError>) {
        // Whoever gave up waiting does not want it.
        match self {
            Self::Append(reply, news) => {
                if result.is_ok() {
                    news.into_iter().for_each(News::tell);
                }
                drop(reply.send(result));
            }
            Self::Plain(reply) => drop(reply.send(result.map_err(|error| match error {
                AppendError::Store(error) => error,
                other => StoreError::Failed(other.to_string()),
            }))),
            Self::Nobody => {}
        }
    }
}

/// The answers of one commit.
pub(super) type Answers = Vec<(Answer, Result<(), AppendError>)>;

/// Gives the answers of a commit from inside the runtime: waking a task from a thread outside costs a lock and often a system call, from
/// inside next to nothing.
#[derive(Debug)]
pub(super) struct Herald(Option<mpsc::Sender<Answers>>);

/// Fewer answers than this are given at once: waking the herald costs as much as waking one task.
const HERALD_FROM: usize = 2;

/// Commits whose answers wait to be given. Full: the writing thread gives them itself.
const HERALD_BOUND: usize = 16;

impl Herald {
    /// A herald in the runtime this is called in, and its task, which ends when the herald is dropped. Outside of a runtime the answers are
    /// given where they are.
    pub(super) fn start() -> (Self, Option<JoinHandle<()>>) {
        let Ok(runtime) = Handle::try_current() else { return (Self(None), None) };
        let (herald, mut batches) = mpsc::channel::<Answers>(HERALD_BOUND);
        let task = runtime.spawn(async move {
            while let Some(answers) = batches.recv().await {
                give(answers);
            }
        });
        (Self(Some(herald)), Some(task))
    }

    pub(super) fn give(&self, answers: Answers) {
        match &self.0 {
            Some(herald) if answers.len() >= HERALD_FROM => {
                if let Err(TrySendError::Full(answers) | TrySendError::Closed(answers)) = herald.try_send(answers) {
                    give(answers);
                }
            }
            _ => give(answers),
        }
    }
}

fn give(answers: Answers) {
    for (answer, result) in answers {
        answer.give(result);
    }
}

impl Job {
    /// Where the answer goes, for a job that is not even tried.
    pub(super) fn answer(self) -> Answer {
        match self {
            Self::Append(_, reply) => Answer::Append(reply, None),
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
