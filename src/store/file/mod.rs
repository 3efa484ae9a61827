//! One file per session: simple to look at, to copy and to delete.
//!
//! Records and entries are held in memory, and opening reads every file once, so this store is for thousands of sessions rather than
//! millions. Each append is one frame with its events, record and entries; what a crash cut off is cut off for good at the next opening,
//! and the session's epoch changes.

mod frame;
mod journal;
mod open;
mod session_file;
#[cfg(test)]
mod tests;
mod view;
mod writer;

use std::{
    collections::{HashMap, HashSet},
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use agent_hub_protocol::{Epoch, Seq, SessionId, Timestamp};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};

use self::{
    frame::Next,
    open::Paths,
    session_file::{Session, frames_from, path_of},
    writer::{Crew, Writer},
};
pub use view::FileView;

use super::{
    Append, AppendError, OpenError, Page, SessionFilter, SessionRecord, Space, Store, StoreError, StoredEvent, StoredSession, Write,
    entries::Entries,
    host::{io_error, lock_file, open_error},
    inbox::{Bound, Inbox, Taken, lock},
    jobs::{CALL_BYTES, Erasure, Job, append_bytes, written_bytes},
    memory::{Filling, Listing},
};

/// What the writer's inbox owns. Full: the futures of further calls keep their jobs and wait their turn.
const WRITES_BOUND: Bound = Bound { jobs: 4_096, bytes: 32 * 1024 * 1024 };

/// What the readers' inbox owns. Full: as above. Questions carry no bytes.
const READS_BOUND: Bound = Bound { jobs: 1_024, bytes: usize::MAX };

/// Threads that read: one long replay must not hold up the others. Each has one file open at a time.
const READERS: usize = 2;

/// How to open a [`FileStore`].
#[derive(Clone, Debug)]
pub struct FileConfig {
    /// Its directory, made if missing. Nothing else may be kept there.
    pub dir: PathBuf,
    /// What a commit survives.
    pub fsync: FsyncPolicy,
    /// Names this boot of the machine; `None` asks the kernel. For tests.
    pub boot_id: Option<String>,
}

impl FileConfig {
    /// The defaults for a store in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), fsync: FsyncPolicy::default(), boot_id: None }
    }
}

/// What a commit survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FsyncPolicy {
    /// A `kill -9`. The system writes to the disk when it likes; after a loss of power the last moments may be missing, and epochs change.
    #[default]
    Never,
    /// Also a loss of power: each append waits for the disk, by itself. Some hundreds of appends a second.
    Always,
}

/// The store of the setting `file`.
///
/// Dropping it without [`Store::close`] carries out what was handed over and then closes, blocking for as long as that takes.
#[derive(Debug)]
pub struct FileStore {
    shared: Arc<Shared>,
    /// Joined on drop. The writer itself joins the readers when it ends.
    writer: Option<JoinHandle<()>>,
}

/// What the threads of one store have in common.
#[derive(Debug)]
struct Shared {
    config: FileConfig,
    paths: Paths,
    writes: Inbox<Job>,
    reads: Inbox<ReadJob>,
    /// Changed by the writer after each write to a file. Never held during I/O, except for a rare compaction.
    state: Mutex<State>,
}

/// What is known without looking into files.
#[derive(Debug, Default)]
struct State {
    sessions: HashMap<SessionId, Session>,
    /// Sessions whose files are too damaged to say more of them.
    lost: HashSet<SessionId>,
    entries: Entries,
    listing: Listing,
    /// How often the store as a whole may have lost its end.
    generation: u32,
}

struct ReadJob(Box<dyn FnOnce() + Send>);

impl fmt::Debug for ReadJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadJob")
    }
}

impl FileStore {
    /// Opens or makes the directory, reads all of it, and starts the threads. Blocks.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when another process has it; [`OpenError::NotWritable`] when it cannot be written; [`OpenError::Failed`] when a
    /// file cannot be read or the journal is damaged.
    /// A damaged session does not keep the others closed: its own calls fail with [`StoreError::Damaged`].
    pub fn open(config: FileConfig) -> Result<Self, OpenError> {
        let paths = Paths::new(&config.dir);
        std::fs::create_dir_all(&paths.sessions).map_err(|error| open_error(&config.dir, &error))?;
        let lock = lock_file(&paths.lock, &config.dir)?;
        let opened = open::open(&config, &paths)?;
        let shared = Arc::new(Shared {
            paths,
            writes: Inbox::new(WRITES_BOUND),
            reads: Inbox::new(READS_BOUND),
            state: Mutex::new(opened.state),
            config,
        });
        let started = start(&shared, Writer::new(shared.clone(), opened.journal, opened.next_stamp), lock);
        let writer = started.map_err(|error| {
            // Readers that did start end by this.
            shared.reads.close();
            open_error(&shared.config.dir, &error)
        })?;
        Ok(Self { shared, writer: Some(writer) })
    }

    /// Answers from memory.
    fn now<T: Send + 'static>(&self, work: impl FnOnce(&State) -> Result<T, StoreError>) -> BoxFuture<'static, Result<T, StoreError>> {
        let result = if self.shared.writes.is_closed() { Err(StoreError::Closed) } else { work(&lock(&self.shared.state)) };
        std::future::ready(result).boxed()
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        self.shared.writes.close();
        if let Some(writer) = self.writer.take() {
            // An error means that it panicked, which was reported where it happened.
            let _ = writer.join();
        }
    }
}

fn start(shared: &Arc<Shared>, writer: Writer, lock: std::fs::File) -> io::Result<JoinHandle<()>> {
    let readers = (0..READERS).map(|number| {
        let shared = shared.clone();
        thread::Builder::new().name(format!("store-reader-{number}")).spawn(move || answer_reads(&shared))
    });
    let crew = Crew { readers: readers.collect::<io::Result<_>>()?, lock };
    thread::Builder::new().name("store-writer".into()).spawn(move || writer.run(crew))
}

fn answer_reads(shared: &Shared) {
    let mut jobs = Vec::new();
    // One at a time, so that the other reader takes the next.
    while shared.reads.take(Bound { jobs: 1, bytes: 0 }, None, &mut jobs) == Taken::Jobs {
        for job in jobs.drain(..) {
            (job.0)();
        }
    }
}

impl Shared {
    fn read(&self, id: SessionId, after: Seq, page: Page) -> Result<Vec<StoredEvent>, StoreError> {
        let wanted = after.saturating_add(1);
        let (position, length) = match lock(&self.state).session(id)? {
            Some(session) if session.head > after => (session.position_of(wanted), session.length),
            _ => return Ok(Vec::new()),
        };
        let read = read_file(&self.paths.sessions, id, wanted, position, length, page);
        // The file of a session that was erased in the meantime is not missing.
        if read.is_err() && lock(&self.state).session(id)?.is_none() { Ok(Vec::new()) } else { read }
    }
}

/// Events from `wanted` on, of the frames between `position` and `length`.
fn read_file(
    sessions: &Path,
    id: SessionId,
    mut wanted: Seq,
    position: u64,
    length: u64,
    page: Page,
) -> Result<Vec<StoredEvent>, StoreError> {
    let path = path_of(sessions, id);
    let mut frames = frames_from(&path, id, position, length).map_err(|error| io_error(&error))?;
    let mut filling = Filling::new(page);
    loop {
        let frame = match frames.next() {
            Ok(Next::Frame(frame, _)) => frame,
            Ok(Next::End) => return Ok(filling.events),
            Ok(Next::Torn | Next::Spoiled | Next::Damaged(_)) => return Err(damaged(id)),
            // Shorter than it was when it was written.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged(id)),
            Err(error) => return Err(io_error(&error)),
        };
        if frame.events.is_empty() || frame.last() < wanted {
            continue;
        }
        if frame.first > wanted {
            return Err(damaged(id));
        }
        let skip = usize::try_from(wanted - frame.first).unwrap_or(usize::MAX);
        for (seq, text) in (wanted..=frame.last()).zip(frame.events.into_iter().skip(skip)) {
            if !filling.push(seq, text) {
                return Ok(filling.events);
            }
            wanted = seq + 1;
        }
    }
}

impl State {
    /// # Errors
    /// [`StoreError::Damaged`] if its file is.
    fn session(&self, id: SessionId) -> Result<Option<&Session>, StoreError> {
        match self.sessions.get(&id) {
            Some(session) if session.damaged => Err(damaged(id)),
            None if self.lost.contains(&id) => Err(damaged(id)),
            session => Ok(session),
        }
    }
}

fn damaged(id: SessionId) -> StoreError {
    StoreError::Damaged(format!("the file of session {id} is not what was written"))
}

impl Store for FileStore {
    fn append(&self, append: Append) -> BoxFuture<'static, Result<(), AppendError>> {
        self.shared.writes.call(append_bytes(&append), |reply| Job::Append(append, reply))
    }

    fn open_session(&self, id: SessionId) -> BoxFuture<'static, Result<Option<StoredSession>, StoreError>> {
        self.now(|state| {
            let stored = state.session(id)?.map(|session| StoredSession {
                record: session.record.clone(),
                epoch: Epoch::derive(session.record.birth, session.generation.saturating_add(state.generation)),
                head: session.head,
            });
            Ok(stored)
        })
    }

    fn read(&self, id: SessionId, after: Seq, page: Page) -> BoxFuture<'static, Result<Vec<StoredEvent>, StoreError>> {
        let shared = self.shared.clone();
        self.shared.reads.call(0, |reply| {
            ReadJob(Box::new(move || {
                // Nobody waits for the answer of a question that was given up.
                if !reply.is_closed() {
                    let _ = reply.send(shared.read(id, after, page));
                }
            }))
        })
    }

    fn list_sessions(&self, filter: SessionFilter) -> BoxFuture<'static, Result<Vec<SessionRecord>, StoreError>> {
        self.now(|state| Ok(state.listing.ids(&filter).filter_map(|id| Some(state.sessions.get(&id)?.record.clone())).collect()))
    }

    fn unfinished_sessions(&self) -> BoxFuture<'static, Result<Vec<SessionId>, StoreError>> {
        self.now(|state| Ok(state.sessions.iter().filter(|(_, session)| session.record.unfinished > 0).map(|(id, _)| *id).collect()))
    }

    fn get(&self, space: Space, key: String) -> BoxFuture<'static, Result<Option<Bytes>, StoreError>> {
        self.now(|state| Ok(state.entries.get(space, &key, Timestamp::now()).cloned()))
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
        closed
    }

    fn kind(&self) -> &'static str {
        "file"
    }
}
