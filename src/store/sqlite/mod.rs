//! The default store: one SQLite database in write-ahead mode.
//!
//! One thread writes. It takes whatever waits, commits it at once and answers all of it, so that many sessions share a commit and a single
//! one waits for nobody. A few threads read, each with a connection of its own, and one moves the write-ahead log into the database.
//!
//! | file | what it is for |
//! |---|---|
//! | `schema.rs` | tables, connections, which incarnation of the store this is |
//! | `writer.rs`, `group.rs` | the writing thread; what one commit does |
//! | `bundle.rs` | what a row of the log is made of |
//! | `index.rs` | which rows hold a session's events |
//! | `reader.rs` | questions and their answers |
//! | `checkpoint.rs` | the checkpointing thread |
//! | `view.rs` | looking into a database that somebody else may have open |
//! | `sidecar.rs` | the lock and the mark beside the database |

mod bundle;
mod checkpoint;
mod error;
mod group;
mod index;
mod reader;
mod schema;
mod sidecar;
#[cfg(test)]
mod tests;
mod view;
mod writer;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicU64},
    thread::{self, JoinHandle},
    time::Duration,
};

use agent_hub_protocol::{Seq, SessionId, Timestamp};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};

use self::{
    checkpoint::Checkpointer,
    index::{Index, check_extents},
    reader::{ReadJob, Reader},
    sidecar::{Mark, MarkFile, beside, check_writable},
    writer::Writer,
};
pub use view::SqliteView;

use super::{
    Append, AppendError, OpenError, Page, SessionFilter, SessionRecord, Space, Store, StoreError, StoredEvent, StoredSession, Write,
    host::{self, lock_file},
    inbox::{Bound, Inbox, lock},
    jobs::{CALL_BYTES, Erasure, Herald, Job, append_bytes, written_bytes},
};

/// What the writer's inbox owns. Full: the futures of further calls keep their jobs and wait their turn.
const WRITES_BOUND: Bound = Bound { jobs: 4_096, bytes: 32 * 1024 * 1024 };

/// What the readers' inbox owns. Full: as above. Questions carry no bytes.
const READS_BOUND: Bound = Bound { jobs: 1_024, bytes: usize::MAX };

/// How to open a [`SqliteStore`].
#[derive(Clone)]
pub struct SqliteConfig {
    /// The database file. Its directory is made if missing; `-wal`, `-shm`, `-lock` and `-mark` files appear beside it.
    pub path: PathBuf,
    /// What a commit survives.
    pub synchronous: Synchronous,
    /// Threads that read, each with a connection of its own; at least 1.
    pub readers: usize,
    /// The database takes no more than about this many bytes: writes past it fail as not writable.
    pub max_bytes: Option<u64>,
    /// Names this boot of the machine; `None` asks the kernel. For tests.
    pub boot_id: Option<String>,
    /// Called after each commit, on the writing thread: must be quick and must not call the store.
    pub on_commit: Option<CommitHook>,
}

impl SqliteConfig {
    /// The defaults for a database at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        // Two readers: replay of one long session must not hold up the others, and more would only take turns on the same pages.
        Self { path: path.into(), synchronous: Synchronous::default(), readers: 2, max_bytes: None, boot_id: None, on_commit: None }
    }

    /// Names this boot of the machine; `None` where that cannot be told.
    fn boot_id(&self) -> Option<String> {
        self.boot_id.clone().or_else(host::boot_id)
    }
}

impl fmt::Debug for SqliteConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteConfig")
            .field("path", &self.path)
            .field("synchronous", &self.synchronous)
            .field("readers", &self.readers)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

/// What a commit survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// A `kill -9`. After a loss of power the last moments may be missing, and epochs change.
    #[default]
    Normal,
    /// Also a loss of power: each commit waits for the disk.
    Full,
}

impl Synchronous {
    fn pragma(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::Full => "FULL",
        }
    }
}

/// Hears of each commit.
pub type CommitHook = Arc<dyn Fn(&Commit) + Send + Sync>;

/// One commit, for metrics.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    /// Appends that were in it.
    pub appends: usize,
    /// Events they carried.
    pub events: usize,
    /// Bytes of their texts.
    pub bytes: usize,
    /// From the first statement to the end of the commit.
    pub took: Duration,
}

/// The store of the setting `sqlite`.
///
/// Dropping it without [`Store::close`] carries out what was handed over and then closes, blocking for as long as that takes.
#[derive(Debug)]
pub struct SqliteStore {
    shared: Arc<Shared>,
    /// Joined on drop. The writer itself joins the other threads when it ends.
    writer: Option<JoinHandle<()>>,
    /// The tasks that carry calls to the writer and its answers back; end with it, awaited by `close`.
    messengers: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

/// What the threads of one store have in common.
#[derive(Debug)]
struct Shared {
    config: SqliteConfig,
    generation: u32,
    writes: Inbox<Job>,
    reads: Inbox<ReadJob>,
    /// Written by the writer after each commit, read by the readers. Held for copying, never for I/O.
    index: Arc<Mutex<Index>>,
    /// How many commits there were; the checkpointer's sign that there is something to do.
    commits: AtomicU64,
}

impl SqliteStore {
    /// Opens or makes the database, and starts the threads. Blocks: a store with many rows since the last clean stop takes a moment.
    ///
    /// Called in a runtime it also starts two tasks there, between the callers and the writing thread; that runtime must then be running as
    /// long as the store is used.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when another process has it, [`OpenError::TooNew`] when a newer version wrote it.
    pub fn open(config: SqliteConfig) -> Result<Self, OpenError> {
        let path = resolve(&config.path).map_err(|error| host::open_error(&config.path, &error))?;
        let lock = lock_file(&beside(&path, "-lock"), &config.path)?;
        check_writable(&path)?;
        let mark = MarkFile::load(&path);
        let mut db = schema::open_writer(&config, &path)?;
        let sqlite = |error: rusqlite::Error| schema::open_error(&path, &error);
        let now = schema::incarnate(&mut db, mark, &config).map_err(sqlite)?;
        if now.bumped {
            tracing::warn!(path = %path.display(), generation = now.generation, "the log may have lost its end; clients are told to start over");
        }
        let mark = Mark { identity: now.identity, generation: now.generation, next_row: now.next_row };
        let mark = MarkFile::create(&path, mark).map_err(|error| host::open_error(&beside(&path, "-mark"), &error))?;
        let watermark = schema::get_meta(&db, "watermark").map_err(sqlite)?.unwrap_or(0);
        let index = check_extents(&db).and_then(|()| Index::load(&db, watermark));
        let index = index.map_err(|error| host::open_failure(&path, error))?;
        schema::set_synchronous(&db, config.synchronous).map_err(sqlite)?;
        let shared = Arc::new(Shared {
            generation: now.generation,
            writes: Inbox::new(WRITES_BOUND),
            reads: Inbox::new(READS_BOUND),
            index: Arc::new(Mutex::new(index)),
            commits: AtomicU64::new(0),
            config,
        });
        let (herald, heralding) = Herald::start();
        let writer = Writer::new(shared.clone(), &db, mark, herald, now.next_row).map_err(sqlite)?;
        let checkpointer = schema::open_checkpointer(&path).map_err(sqlite)?;
        // Ends by itself should the rest fail.
        let checkpointer = Checkpointer::start(shared.clone(), checkpointer).map_err(|error| host::open_error(&path, &error))?;
        let readers = start_readers(&shared, &path)?;
        let crew = writer::Crew { readers, checkpointer, lock };
        let writer = thread::Builder::new().name("store-writer".into()).spawn(move || writer.run(db, crew)).map_err(|error| {
            shared.reads.close();
            host::open_error(&path, &error)
        })?;
        let carrying = tokio::runtime::Handle::try_current().ok().map(|runtime| {
            let shared = shared.clone();
            runtime.spawn(async move { shared.writes.carry().await })
        });
        Ok(Self { shared, writer: Some(writer), messengers: Mutex::new(heralding.into_iter().chain(carrying).collect()) })
    }

    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        self.shared.reads.call(0, |reply| {
            ReadJob::new(move |reader| {
                // Nobody waits for the answer of a question that was given up.
                if !reply.is_closed() {
                    let _ = reply.send(question(reader));
                }
            })
        })
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.shared.writes.close();
        if let Some(writer) = self.writer.take() {
            // An error means that it panicked, which was reported where it happened.
            let _ = writer.join();
        }
    }
}

fn start_readers(shared: &Arc<Shared>, path: &Path) -> Result<Vec<JoinHandle<()>>, OpenError> {
    let mut readers = Vec::new();
    for number in 0..shared.config.readers.max(1) {
        let started = schema::open_reader(path).map_err(|error| schema::open_error(path, &error)).and_then(|db| {
            let reader = Reader { db, generation: shared.generation, index: shared.index.clone() };
            let shared = shared.clone();
            let thread = thread::Builder::new().name(format!("store-reader-{number}"));
            thread.spawn(move || reader.run(&shared.reads)).map_err(|error| host::open_error(path, &error))
        });
        match started {
            Ok(reader) => readers.push(reader),
            Err(error) => {
                shared.reads.close();
                return Err(error);
            }
        }
    }
    Ok(readers)
}

/// One spelling of the path for whatever way leads there, so that the lock beside it is the same one.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    if let Ok(resolved) = path.canonicalize() {
        return Ok(resolved);
    }
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent)?;
    Ok(parent.canonicalize()?.join(name))
}

impl Store for SqliteStore {
    fn append(&self, append: Append) -> BoxFuture<'static, Result<(), AppendError>> {
        self.shared.writes.call(append_bytes(&append), |reply| Job::Append(append, reply))
    }

    fn open_session(&self, id: SessionId) -> BoxFuture<'static, Result<Option<StoredSession>, StoreError>> {
        self.ask(move |reader| reader.open_session(id))
    }

    fn read(&self, id: SessionId, after: Seq, page: Page) -> BoxFuture<'static, Result<Vec<StoredEvent>, StoreError>> {
        self.ask(move |reader| reader.read(id, after, page))
    }

    fn list_sessions(&self, filter: SessionFilter) -> BoxFuture<'static, Result<Vec<SessionRecord>, StoreError>> {
        self.ask(move |reader| reader.list_sessions(&filter))
    }

    fn unfinished_sessions(&self) -> BoxFuture<'static, Result<Vec<SessionId>, StoreError>> {
        self.ask(Reader::unfinished_sessions)
    }

    fn get(&self, space: Space, key: String) -> BoxFuture<'static, Result<Option<Bytes>, StoreError>> {
        self.ask(move |reader| reader.get(space, &key))
    }

    fn write(&self, writes: Vec<Write>) -> BoxFuture<'static, Result<(), StoreError>> {
        self.shared.writes.call(written_bytes(&writes), |reply| Job::Write(writes, reply))
    }

    fn erase(
        &self,
        id: SessionId,
        owner: String,
        forget: Vec<(Space, String)>,
        taken_until: Timestamp,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let bytes = CALL_BYTES * (1 + forget.len());
        self.shared.writes.call(bytes, |reply| Job::Erase(Erasure { id, owner, forget, taken_until }, reply))
    }

    fn probe(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.shared.writes.call(CALL_BYTES, Job::Probe)
    }

    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        let closed = self.shared.writes.call(CALL_BYTES, Job::Close);
        // What was handed over before is still carried out; whatever comes after is told that the store is closed.
        self.shared.writes.close();
        let messengers = std::mem::take(&mut *lock(&self.messengers));
        async move {
            let closed = closed.await;
            for messenger in messengers {
                // An error means that the runtime is shutting down, which ended it as well.
                let _ = messenger.await;
            }
            closed
        }
        .boxed()
    }

    fn kind(&self) -> &'static str {
        "sqlite"
    }
}
