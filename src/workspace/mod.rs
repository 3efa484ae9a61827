//! Files of sessions: each session has a directory of its own, and nothing else of the machine.
//!
//! The root is opened once. From there every step is one name, opened from the handle of the directory it is in, and no link is followed, not
//! even one that stays inside. So no path is ever compared with another, and whatever is swapped meanwhile, what is opened is inside. The promises:
//!
//! - Only regular files with a single name (no other hard link) are read or replaced. Pipes, sockets and devices are not even opened.
//! - A write replaces the file as a whole. The directory of a session is made by its first write.
//! - What may hold secrets is hidden (`hidden.rs` has the list): not read, not written, not listed.
//! - Answers and errors name paths relative to the workspace only.
//! - All files of a user together are bounded, every file and directory counting at least 4 KiB.

mod content;
mod error;
mod handles;
mod hidden;
mod listing;
mod path;
mod quota;
mod removal;
#[cfg(test)]
mod tests;
mod user;

use std::{fmt, io, path::Path, sync::Arc};

use agent_hub_protocol::SessionId;
use cap_std::fs::Dir;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::{
    content::Content,
    handles::{Kind, descend, look, open_root},
    listing::Wanted,
    path::RelPath,
    quota::Ledger,
};
pub use self::{
    content::{Piece, Written},
    error::{WorkspaceError, WorkspaceErrorCode},
    listing::{Entry, EntryKind, Listing},
};

/// Operations that use a thread at once. Full: callers wait in order. A disk is not faster with more, and other work needs threads too.
const AT_ONCE: usize = 8;

/// How much is too much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One read gives at most this.
    pub read_bytes: usize,
    /// One write takes at most this.
    pub write_bytes: usize,
    /// A file that is written has at most this. An append writes the whole file anew, so it is also what that may cost.
    pub file_bytes: u64,
    /// One listing or search tells at most this many.
    pub entries: usize,
    /// The files of one user, over all sessions.
    pub user_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { read_bytes: 1 << 20, write_bytes: 1 << 20, file_bytes: 16 << 20, entries: 1000, user_bytes: 256 << 20 }
    }
}

/// The workspaces of all sessions. Cheap to clone.
#[derive(Clone)]
pub struct Workspaces(Arc<Shared>);

struct Shared {
    root: Dir,
    limits: Limits,
    ledger: Ledger,
    slots: Arc<Semaphore>,
}

impl fmt::Debug for Workspaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workspaces").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

impl Workspaces {
    /// Opens the directory of all workspaces; made for the owner alone if it is missing. Blocks; for the start.
    ///
    /// # Errors
    /// It cannot be made or opened, or is no directory.
    pub fn open(root: &Path, limits: Limits) -> io::Result<Self> {
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        Ok(Self(Arc::new(Shared { root: open_root(root)?, limits, ledger: Ledger::default(), slots })))
    }

    /// The workspace of a session, which need not have files yet.
    pub fn of(&self, user: &str, session: SessionId) -> Workspace {
        Workspace { all: self.clone(), user: user::directory_of(user).into(), session: session.to_string().into() }
    }

    /// Removes the files of a session. It may be called again when it failed, and when there are none.
    ///
    /// # Errors
    /// The operating system refused. What is left is out of reach, and goes with the next removal or count.
    pub async fn remove(&self, user: &str, session: SessionId) -> Result<(), WorkspaceError> {
        let workspace = self.of(user, session);
        let mut count = self.0.ledger.account(&workspace.user).lock_owned().await;
        self.run(move |all, _| {
            let Some(user) = all.directory(&[&workspace.user])? else { return Ok(()) };
            count.forget();
            let removed = removal::remove_session(&user, &workspace.session);
            removed.map_err(|error| WorkspaceError::unusable(&format!("its files could not be removed: {}", error.kind())))?;
            // Fails while the user has other sessions.
            let _ = all.root.remove_dir(&*workspace.user);
            Ok(())
        })
        .await
    }

    /// Does blocking work where it may block. The work is told when nobody waits for it any more.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared, &CancellationToken) -> Result<T, WorkspaceError> + Send + 'static,
    ) -> Result<T, WorkspaceError> {
        let slot = self.0.slots.clone().acquire_owned().await;
        let slot = slot.map_err(|_| WorkspaceError::unusable("the hub is stopping"))?;
        let all = self.0.clone();
        let stop = CancellationToken::new();
        let _stopped_when_dropped = stop.clone().drop_guard();
        let done = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            work(&all, &stop)
        });
        done.await.map_err(|_| WorkspaceError::unusable("the hub is stopping"))?
    }
}

impl Shared {
    /// A directory below the root, if it is there.
    fn directory(&self, names: &[&str]) -> Result<Option<Dir>, WorkspaceError> {
        let failed = |error: io::Error| WorkspaceError::unusable(&error.kind().to_string());
        let (directory, missing) = descend(self.root.try_clone().map_err(failed)?, names).map_err(failed)?;
        Ok(missing.is_empty().then_some(directory))
    }
}

/// The files of one session. Cheap to clone. Every method may be dropped at any time: work that has begun ends soon, and a write is done as a
/// whole or not at all.
#[derive(Clone, Debug)]
pub struct Workspace {
    all: Workspaces,
    user: Arc<str>,
    session: Arc<str>,
}

impl Workspace {
    /// Reads a file from `offset`, at most `max_bytes` and never more than [`Limits::read_bytes`]. Past the end there is nothing.
    ///
    /// # Errors
    /// The path is none, is hidden, or names no file.
    pub async fn read(&self, path: &str, offset: u64, max_bytes: usize) -> Result<Piece, WorkspaceError> {
        let path = RelPath::file(path)?;
        let most = max_bytes.min(self.all.0.limits.read_bytes);
        let this = self.clone();
        self.all.run(move |all, _| content::read(this.directory(all)?, &path, offset, most)).await
    }

    /// Writes a file, or adds to its end. Missing directories are made. Writes of one user go one after another.
    ///
    /// # Errors
    /// The path is none, is hidden, or names something that is no file; the content or the file would be too large, the user's files too
    /// many. Then nothing has changed.
    pub async fn write(&self, path: &str, bytes: Vec<u8>, append: bool) -> Result<Written, WorkspaceError> {
        let path = RelPath::file(path)?;
        let most = self.all.0.limits.write_bytes;
        if bytes.len() > most {
            let message = format!("{} bytes are too many; one write takes at most {most}", bytes.len());
            return Err(WorkspaceError::new(WorkspaceErrorCode::TooLarge, message));
        }
        let this = self.clone();
        let mut count = self.all.0.ledger.account(&self.user).lock_owned().await;
        self.all
            .run(move |all, stop| {
                let root = all.root.try_clone().map_err(|error| WorkspaceError::io(path.shown(), &error))?;
                content::write(root, &this.home(), &path, &Content { bytes, append }, &all.limits, &mut count, stop)
            })
            .await
    }

    /// Lists a directory, or all below it. Nothing and `.` mean the whole workspace.
    ///
    /// # Errors
    /// The path is none, is hidden, or names no directory.
    pub async fn list(&self, path: &str, recursive: bool) -> Result<Listing, WorkspaceError> {
        let limit = self.all.0.limits.entries;
        self.look_through(path, Wanted { part: None, recursive, limit }).await
    }

    /// Everything whose name contains this text, in either case of letters; at most `limit` of it.
    ///
    /// # Errors
    /// The operating system refused.
    pub async fn search(&self, part: &str, limit: usize) -> Result<Listing, WorkspaceError> {
        let limit = limit.min(self.all.0.limits.entries);
        self.look_through("", Wanted { part: Some(part.to_lowercase()), recursive: true, limit }).await
    }

    /// What there is at a path, if it is one; `None` when it could be written.
    ///
    /// # Errors
    /// The path is none or is hidden, or goes through something that is no directory.
    pub async fn validate(&self, path: &str) -> Result<Option<EntryKind>, WorkspaceError> {
        let path = RelPath::directory(path)?;
        let this = self.clone();
        self.all.run(move |all, _| kind_of(this.directory(all)?, &path)).await
    }

    async fn look_through(&self, path: &str, wanted: Wanted) -> Result<Listing, WorkspaceError> {
        let path = RelPath::directory(path)?;
        let this = self.clone();
        self.all.run(move |all, stop| listing::list(this.directory(all)?, &path, &wanted, stop)).await
    }

    /// Where it is below the root.
    fn home(&self) -> [&str; 2] {
        [&self.user, &self.session]
    }

    fn directory(&self, all: &Shared) -> Result<Option<Dir>, WorkspaceError> {
        all.directory(&self.home())
    }
}

fn kind_of(workspace: Option<Dir>, path: &RelPath) -> Result<Option<EntryKind>, WorkspaceError> {
    let failed = |error: io::Error| WorkspaceError::io(path.shown(), &error);
    let names = path.names();
    let Some((name, folders)) = names.split_last() else { return Ok(Some(EntryKind::Directory)) };
    let Some(workspace) = workspace else { return Ok(None) };
    let (folder, missing) = descend(workspace, folders).map_err(failed)?;
    if !missing.is_empty() {
        return Ok(None);
    }
    Ok(match look(&folder, name).map_err(failed)? {
        Kind::Absent => None,
        Kind::File(_) => Some(EntryKind::File),
        Kind::Directory(_) => Some(EntryKind::Directory),
        Kind::Other(_) => Some(EntryKind::Other),
    })
}
