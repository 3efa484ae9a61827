//! Opening: reads every file once, repairs what a crash cut off, and puts the entries together.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use agent_hub_protocol::{SessionId, Timestamp};

use super::{
    FileConfig, FsyncPolicy, State,
    journal::{self, Head, Journal, Loaded},
    session_file::{self, Scanned},
};
use crate::store::{
    OpenError, Space,
    entries::{Changes, Entries, Entry},
    host,
};

/// What a directory held.
pub(super) struct Opened {
    pub(super) state: State,
    pub(super) journal: Journal,
    pub(super) next_stamp: u64,
}

/// Where things are in the store's directory.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) sessions: PathBuf,
    pub(super) journal: PathBuf,
    pub(super) lock: PathBuf,
}

impl Paths {
    pub(super) fn new(dir: &Path) -> Self {
        Self { sessions: dir.join("sessions"), journal: dir.join("journal"), lock: dir.join("lock") }
    }
}

/// # Errors
/// [`OpenError::Failed`] when a file cannot be read or the journal is damaged. A damaged session does not keep the others closed.
pub(super) fn open(config: &FileConfig, paths: &Paths) -> Result<Opened, OpenError> {
    let loaded = journal::load(&paths.journal).map_err(|error| host::open_failure(&paths.journal, error))?;
    let is_new = loaded.is_none();
    let loaded = loaded.unwrap_or_default();
    let mut gathered = Gathered::new(loaded);
    gathered.sessions(&paths.sessions, is_new).map_err(|error| host::open_error(&paths.sessions, &error))?;
    let head = gathered.next_head(config, is_new);
    let state = gathered.into_state(head.generation);
    let floor = head.floor;
    let journal = Journal::create(&paths.journal, head, &state.entries).map_err(|error| host::open_error(&paths.journal, &error))?;
    Ok(Opened { state, journal, next_stamp: floor + 1 })
}

/// Puts together what the files say.
struct Gathered {
    head: Head,
    /// Each key's last change and its stamp.
    latest: HashMap<(Space, String), (u64, Option<Entry>)>,
    erased: HashMap<SessionId, u64>,
    last_stamp: u64,
    state: State,
}

impl Gathered {
    fn new(loaded: Loaded) -> Self {
        let mut gathered = Self {
            erased: HashMap::new(),
            latest: HashMap::new(),
            last_stamp: loaded.last_stamp,
            state: State::default(),
            head: loaded.head,
        };
        for (id, stamp) in loaded.erased {
            gathered.erased.insert(id, stamp);
        }
        for (stamp, changes) in loaded.changes {
            gathered.take_changes(stamp, changes);
        }
        gathered
    }

    fn take_changes(&mut self, stamp: u64, changes: Changes) {
        for (key, change) in changes {
            let newer = self.latest.get(&key).is_none_or(|(known, _)| *known <= stamp);
            if newer {
                self.latest.insert(key, (stamp, change));
            }
        }
    }

    fn sessions(&mut self, dir: &Path, without_journal: bool) -> io::Result<()> {
        for file in fs::read_dir(dir)? {
            let file = file?;
            let Some(id) = file.file_name().to_str().and_then(session_file::id_of) else { continue };
            let path = file.path();
            let mut scanned = session_file::scan(&path, id)?;
            let gone = self.erased.get(&id).is_some_and(|erased| *erased > scanned.created);
            if gone || (scanned.session.is_none() && !scanned.has_content) {
                fs::remove_file(&path)?;
                continue;
            }
            // Without its journal the directory is not what was left; which end is missing cannot be told.
            let damaged = scanned.session.as_ref().is_none_or(|session| session.damaged);
            if (scanned.torn || without_journal) && !damaged {
                tracing::warn!(session = %id, "the end of the log was cut off and is repaired; its clients are told to start over");
                session_file::repair(&path, id, &mut scanned)?;
            }
            self.take_session(id, scanned);
        }
        Ok(())
    }

    fn take_session(&mut self, id: SessionId, scanned: Scanned) {
        self.last_stamp = self.last_stamp.max(scanned.last_stamp);
        for (stamp, changes) in scanned.changes {
            // Older ones are in the journal, or were taken back since.
            if stamp > self.head.floor {
                self.take_changes(stamp, changes);
            }
        }
        if scanned.session.as_ref().is_none_or(|session| session.damaged) {
            tracing::error!(session = %id, "the log is damaged and cannot be used");
        }
        match scanned.session {
            Some(session) => {
                self.state.listing.put(None, &session.record);
                self.state.sessions.insert(id, session);
            }
            None => drop(self.state.lost.insert(id)),
        }
    }

    /// How the store will have been left if it stops without a word.
    fn next_head(&self, config: &FileConfig, is_new: bool) -> Head {
        let boot = config.boot_id.clone().or_else(host::boot_id).unwrap_or_default();
        let same_boot = !boot.is_empty() && boot == self.head.boot;
        let lost_power = !is_new && !self.head.clean && !self.head.synced && !same_boot;
        Head {
            floor: self.last_stamp,
            generation: self.head.generation + u32::from(lost_power),
            clean: false,
            synced: config.fsync == FsyncPolicy::Always,
            boot,
        }
    }

    fn into_state(self, generation: u32) -> State {
        let now = Timestamp::now();
        let live =
            self.latest.into_iter().filter_map(|(key, (_, change))| Some((key, Some(change.filter(|entry| !entry.has_expired(now))?))));
        let mut entries = Entries::default();
        entries.set(live.collect());
        State { entries, generation, ..self.state }
    }
}
