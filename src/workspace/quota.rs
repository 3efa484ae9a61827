//! How much the files of a user are together.
//!
//! A user's files are counted by a walk when the user first writes, and from then on by adding what each write changes. What others change
//! below the root is seen at the next walk: after a restart, after a session was erased, and before a write is refused.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cap_std::fs::{Dir, Metadata, MetadataExt as _};
use tokio_util::sync::CancellationToken;

use super::{WorkspaceError, WorkspaceErrorCode, handles::open_directory, hidden::OWN_PREFIX, removal};

/// Users whose count is remembered. Full: one that is not writing now is forgotten, and counted again when it writes.
const USERS: usize = 1024;
/// Every file and directory counts at least this, as on most file systems. So the bytes bound the number of files too.
pub(super) const BLOCK: u64 = 4096;
/// Walks go this deep. Writes go less deep, so deeper trees are not the hub's.
const WALK_DEPTH: usize = 64;
/// Walks see this many files: three times what empty files the default quota allows.
const WALK_ENTRIES: usize = 200_000;

/// The counts of all users.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    users: Mutex<HashMap<Arc<str>, Account>>,
}

/// The count of one user. Whoever holds its lock is the only one of this process that changes the user's files.
pub(super) type Account = Arc<tokio::sync::Mutex<Count>>;

/// Bytes used, as far as known.
#[derive(Debug, Default)]
pub(super) struct Count(Option<u64>);

impl Ledger {
    pub(super) fn account(&self, user: &Arc<str>) -> Account {
        let mut users = self.lock();
        if let Some(known) = users.get(user) {
            return known.clone();
        }
        if users.len() >= USERS {
            // An account that somebody holds must stay, or two would believe to be alone. Those are at most the writes in flight.
            let idle = users.iter().find(|(_, account)| Arc::strong_count(account) == 1).map(|(user, _)| user.clone());
            idle.and_then(|idle| users.remove(&idle));
        }
        users.entry(user.clone()).or_default().clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Account>> {
        // Nothing in it is half done when a thread panics.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }
}

impl Count {
    /// Whether the user may use `more` bytes; `directory` holds all the user's files.
    pub(super) fn admit(&mut self, directory: Option<&Dir>, more: u64, limit: u64, stop: &CancellationToken) -> Result<(), WorkspaceError> {
        let Some(directory) = directory else {
            self.0 = Some(0);
            return self.fits(more, limit);
        };
        if self.0.is_some() && self.fits(more, limit).is_ok() {
            return Ok(());
        }
        self.0 = None;
        self.0 = Some(walk(directory, stop)?);
        self.fits(more, limit)
    }

    /// A write made `more` of what was `less`.
    pub(super) fn change(&mut self, less: u64, more: u64) {
        self.0 = self.0.map(|used| used.saturating_sub(less).saturating_add(more));
    }

    /// The next write counts again.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }

    fn fits(&self, more: u64, limit: u64) -> Result<(), WorkspaceError> {
        let used = self.0.unwrap_or(u64::MAX);
        if used.saturating_add(more) <= limit {
            return Ok(());
        }
        let message = format!("the files of all your sessions may use {limit} bytes; {used} are used, and this needs {more} more");
        Err(WorkspaceError::new(WorkspaceErrorCode::QuotaExceeded, message))
    }
}

/// What a file or directory counts: its length even if it is sparse, its blocks even if it was cut.
pub(super) fn charge(length: u64, blocks: u64) -> u64 {
    length.max(blocks.saturating_mul(512)).clamp(BLOCK, u64::MAX - BLOCK).next_multiple_of(BLOCK)
}

/// The same, of something that was looked at.
pub(super) fn charge_of(metadata: &Metadata) -> u64 {
    if metadata.is_dir() { BLOCK } else { charge(metadata.len(), metadata.blocks()) }
}

/// Counts all below `top`, and removes what a crash left there.
fn walk(top: &Dir, stop: &CancellationToken) -> Result<u64, WorkspaceError> {
    let failed = |error: io::Error| WorkspaceError::unusable(&format!("its files could not be counted: {}", error.kind()));
    // The directory itself.
    let mut used = BLOCK;
    let mut seen = 0;
    let mut open = vec![(top.try_clone().map_err(failed)?, top.entries().map_err(failed)?)];
    loop {
        let depth = open.len();
        let Some((at, entries)) = open.last_mut() else { return Ok(used) };
        let Some(entry) = entries.next() else {
            open.pop();
            continue;
        };
        seen += 1;
        if stop.is_cancelled() || seen > WALK_ENTRIES {
            return Err(WorkspaceError::unusable("it has too many files to count them"));
        }
        let name = entry.map_err(failed)?.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(OWN_PREFIX)) {
            // Left by a crash: whoever counts is the only one who writes here.
            removal::remove(at, &name).map_err(failed)?;
            continue;
        }
        let found = match at.symlink_metadata(&name) {
            // Gone meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found.map_err(failed)?,
        };
        used = used.saturating_add(charge_of(&found));
        if !found.is_dir() {
            continue;
        }
        if depth == WALK_DEPTH {
            return Err(WorkspaceError::unusable("its directories are nested too deeply to count them"));
        }
        match open_directory(at, &name) {
            Ok(below) => {
                let entries = below.entries().map_err(failed)?;
                open.push((below, entries));
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(failed(error)),
        }
    }
}
