//! Where logs and records live. The runtime sees [`Store`] and nothing behind it.
//!
//! A store keeps three things: the **log** of each session (events, dense from 1), one **record** per session (what lists and
//! recovery need without reading the log), and **entries**: small keyed values with an expiry (whose task is this id, how much
//! of today's quota is used, which ids stay taken). Events and the records and entries that belong to them are written in one
//! commit: after a crash either all of an [`Append`] is there or nothing of it.

use std::{fmt, sync::Arc};

use agent_hub_protocol::{Epoch, Seq, SessionId, Timestamp};
use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

mod codec;
mod entries;
mod host;
mod inbox;
mod jobs;
#[cfg(test)]
mod suite;

pub mod file;
pub mod memory;
pub mod sqlite;

/// A store, shared by everything in the process.
pub type SharedStore = Arc<dyn Store>;

/// The promise every store keeps; `suite` in the tests holds each of them to it.
///
/// All calls may be made from any task at any time. Dropping a returned future does not undo the call: a write that was handed
/// over may still happen. No call blocks the thread it is made on.
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// Adds events to a session's log together with its record and entries: all or nothing, in order.
    ///
    /// Returns once the commit survives what the store promises to survive: for `memory` nothing, for the others a `kill -9`,
    /// with `synchronous = full` (or fsync `always`) also a loss of power. Calls for one session are carried out in the order they were
    /// made. Many sessions share one commit; nothing waits on a timer. When more is waiting than the store's inbox holds, the future keeps
    /// its append until there is room: dropping it then withdraws the append.
    ///
    /// The first append of a session (`expected == 0`, with a record) creates it.
    ///
    /// # Errors
    /// [`AppendError::Conflict`] when the log's head is not `expected`: another writer was faster. Nothing was written.
    /// [`AppendError::Erased`] when the session was erased, or never created and the append has no record.
    /// [`AppendError::Store`] when the medium failed: the append may or may not be there after a restart, but its audience has not heard
    /// of it; read the head again before going on.
    fn append(&self, append: Append) -> BoxFuture<'static, Result<(), AppendError>>;

    /// The session as it is durable now; `None` if there is none (see [`Space::Erased`] for ids that stay taken).
    fn open_session(&self, id: SessionId) -> BoxFuture<'static, Result<Option<StoredSession>, StoreError>>;

    /// Events of a session behind `after`, in order, without a gap: at least one if there is one, then as many as fit `page`.
    /// Empty at the head or for an unknown session. A damaged record is an error, never skipped.
    fn read(&self, id: SessionId, after: Seq, page: Page) -> BoxFuture<'static, Result<Vec<StoredEvent>, StoreError>>;

    /// Records of sessions, newest first (by creation time, then id): of one owner or of all, strictly older than `before`.
    fn list_sessions(&self, filter: SessionFilter) -> BoxFuture<'static, Result<Vec<SessionRecord>, StoreError>>;

    /// Every session whose record says it has unfinished tasks. Asked once at start.
    fn unfinished_sessions(&self) -> BoxFuture<'static, Result<Vec<SessionId>, StoreError>>;

    /// An entry's value; `None` if there is none or it has expired. Counters are decimal text.
    fn get(&self, space: Space, key: String) -> BoxFuture<'static, Result<Option<Bytes>, StoreError>>;

    /// Writes records and entries that belong to no event: all or nothing, as durable as an append.
    fn write(&self, writes: Vec<Write>) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Takes a session out of the store: its log, its record, its checkpoint, and the entries in `forget` (its task ids).
    /// Its id and those of `forget` stay taken (as [`Space::Erased`] entries holding the owner) until `taken_until`. Repeating it changes
    /// nothing: an id that is taken already keeps its owner and its time.
    fn erase(
        &self,
        id: SessionId,
        owner: String,
        forget: Vec<(Space, String)>,
        taken_until: Timestamp,
    ) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Whether the medium takes writes now, tried by writing.
    fn probe(&self) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Writes down what is still in flight and closes the medium cleanly. Later calls fail with [`StoreError::Closed`].
    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>>;

    /// The setting's name: `memory`, `file`, `sqlite`.
    fn kind(&self) -> &'static str;
}

/// A store looked at from outside: beside the process that has it, or when nobody has.
///
/// Looking takes no lock that a writer would wait for, changes nothing and repairs nothing. Each call sees what was committed when it was
/// made, so a session may grow between two of them. Calls block.
pub trait View {
    /// As [`Store::list_sessions`].
    ///
    /// # Errors
    /// As there.
    fn list_sessions(&mut self, filter: &SessionFilter) -> Result<Vec<SessionRecord>, StoreError>;

    /// As [`Store::open_session`].
    ///
    /// # Errors
    /// As there.
    fn open_session(&mut self, id: SessionId) -> Result<Option<StoredSession>, StoreError>;

    /// As [`Store::read`].
    ///
    /// # Errors
    /// As there.
    fn read(&mut self, id: SessionId, after: Seq, page: Page) -> Result<Vec<StoredEvent>, StoreError>;

    /// Reads all there is, and tells `found` of everything that is not what was written. Says how much there was.
    ///
    /// # Errors
    /// When the medium fails.
    fn check(&mut self, found: &mut dyn FnMut(String)) -> Result<Checked, StoreError>;
}

/// What a [`View::check`] has looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Sessions that could be read to their ends.
    pub sessions: u64,
    /// Their events.
    pub events: u64,
}

/// One commit's worth of one session.
#[derive(Clone, Debug)]
pub struct Append {
    /// Whose log.
    pub session: SessionId,
    /// The head the writer believes in: the events are numbered from `expected + 1`.
    pub expected: Seq,
    /// The wire texts, in order, exactly as every reader gets them. May be empty.
    pub events: Vec<Bytes>,
    /// The session's record, when it changed.
    pub record: Option<SessionRecord>,
    /// Entries that change with it.
    pub writes: Vec<Write>,
    /// Who is shown the events once they are durable.
    pub audience: Option<Arc<dyn Audience>>,
}

/// Whoever may see the events of an append as soon as they are durable, without waiting for the writer to hear of it.
pub trait Audience: Send + Sync + fmt::Debug {
    /// These events, the first of which has the number `first`, are durable. Called once per append that succeeded and has events, before its
    /// future is ready, in the order of the session's appends. Comes from a thread of the store or a task of its own: must be quick and must
    /// not call the store.
    fn durable(&self, first: Seq, events: Vec<Bytes>);
}

/// A change of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets an entry.
    Put {
        /// Which kind.
        space: Space,
        /// Which one.
        key: String,
        /// Its value.
        value: Bytes,
        /// When it stops existing; `None` for never.
        expires_at: Option<Timestamp>,
    },
    /// Adds to a counter, which starts at 0 when it does not exist. Fails on an entry that is not a decimal number.
    Add {
        /// Which kind.
        space: Space,
        /// Which one.
        key: String,
        /// How much; may be negative. The counter never goes below 0.
        by: i64,
        /// When it stops existing from now on; `None` for never.
        expires_at: Option<Timestamp>,
    },
    /// Takes an entry away.
    Delete {
        /// Which kind.
        space: Space,
        /// Which one.
        key: String,
    },
}

/// The kinds of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Space {
    /// Task id → session id.
    Task = 1,
    /// `<user>:<day>:<what>` → how often.
    Usage = 2,
    /// A session or task id that was erased → the owner it belonged to.
    Erased = 3,
    /// Session id → the folded state at some position, to wake without reading the whole log.
    Checkpoint = 4,
    /// Owner, dialect and foreign id → our id.
    Foreign = 5,
    /// User → its revoked tokens that have not expired.
    Revoked = 6,
}

/// What lists and recovery need to know of a session without reading its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// The user it belongs to.
    pub owner: String,
    /// The number its epochs are derived from (see [`Epoch::derive`]).
    pub birth: u32,
    /// The agent that answers.
    pub agent: String,
    /// A name for people.
    pub name: Option<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Tasks it ever had.
    pub task_count: u32,
    /// Tasks that are not terminal. Not 0: the session is woken at start.
    pub unfinished: u32,
    /// Whether it takes no more tasks.
    pub ended: bool,
    /// Whether a socket ever followed it.
    pub had_socket: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When this record last changed.
    pub updated_at: Timestamp,
}

/// A session as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// Its record.
    pub record: SessionRecord,
    /// The present incarnation of its log.
    pub epoch: Epoch,
    /// The last durable event.
    pub head: Seq,
}

/// One event as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its number.
    pub seq: Seq,
    /// Its wire text.
    pub text: Bytes,
}

/// How much one read returns at most. The first event is returned whatever its size.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Events.
    pub events: usize,
    /// Bytes of wire text.
    pub bytes: usize,
}

/// Which sessions to list.
#[derive(Clone, Debug, Default)]
pub struct SessionFilter {
    /// Only this user's.
    pub owner: Option<String>,
    /// Only those strictly older than this: the creation time and id of the last one seen.
    pub before: Option<(Timestamp, SessionId)>,
    /// At most this many.
    pub limit: usize,
}

/// Why an append did not happen.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Somebody else wrote to this log.
    #[error("the log's head is {head}, not {expected}")]
    Conflict {
        /// The head the writer believed in.
        expected: Seq,
        /// The head there is.
        head: Seq,
    },
    /// There is no such session any more.
    #[error("the session was erased")]
    Erased,
    /// The medium failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the store could not do its work.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The medium takes no more: full, read-only, or past a quota.
    #[error("the store cannot be written: {0}")]
    NotWritable(String),
    /// The medium failed.
    #[error("the store failed: {0}")]
    Failed(String),
    /// What is stored is not what was written.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The store was closed, or its writer is gone.
    #[error("the store is closed")]
    Closed,
}

/// Why a store could not be opened, told so that a person can act on it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{path} is in use by another process")]
    Locked {
        /// What.
        path: String,
    },
    /// It was written by a newer version.
    #[error("{path} has format {found}, newer than the {known} this version knows; use the version that wrote it")]
    TooNew {
        /// What.
        path: String,
        /// Its format.
        found: u32,
        /// The newest this version reads.
        known: u32,
    },
    /// It is there, or could be, and cannot be written.
    #[error(
        "cannot write {path}: {reason}. The hub's user must be able to write to it, to what is beside it and to its directory, and \
         there must be room. Or choose another place with STORAGE_PATH or --storage-path"
    )]
    NotWritable {
        /// What.
        path: String,
        /// Why.
        reason: String,
    },
    /// Anything else.
    #[error("cannot open {path}: {reason}")]
    Failed {
        /// What.
        path: String,
        /// Why.
        reason: String,
    },
}
