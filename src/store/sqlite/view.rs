//! The database as it is, read without taking it over.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use agent_hub_protocol::{Seq, SessionId};
use rusqlite::Connection;

use super::{
    bundle,
    error::store_error,
    index::{Index, blob},
    reader::{Reader, session_id},
    schema,
    sidecar::beside,
};
use crate::store::{
    Checked, OpenError, Page, SessionFilter, SessionRecord, Space, StoreError, StoredEvent, StoredSession, View,
    codec::{decode_record, decode_value},
    host::open_error,
    inbox::lock,
};

/// What SQLite's own check says at most; after that it is clear enough.
const COMPLAINTS: usize = 100;

/// Events read at once for a check.
const PAGE: Page = Page { events: 1_000, bytes: 1024 * 1024 };

/// A [`super::SqliteStore`]'s database, looked at from outside.
///
/// Where a session's latest rows are is known only to the process that wrote them; as at opening, a scan finds it out.
#[derive(Debug)]
pub struct SqliteView {
    path: PathBuf,
    reader: Reader,
    watermark: i64,
    /// Whether that scan was made.
    scanned: bool,
    /// How the database was when it was opened as one that nobody has.
    still: Option<Still>,
}

impl SqliteView {
    /// # Errors
    /// [`OpenError::Failed`] when there is no database of ours at `path`; [`OpenError::TooNew`] when a newer version wrote it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let path = path.canonicalize().map_err(|error| open_error(path, &error))?;
        let (still, db) = connect(&path)?;
        let sqlite = |error: rusqlite::Error| schema::open_error(&path, &error);
        let generation = schema::get_meta(&db, "generation").map_err(sqlite)?.unwrap_or(0);
        let watermark = schema::get_meta(&db, "watermark").map_err(sqlite)?.unwrap_or(0);
        let reader = Reader { db, generation, index: Arc::default() };
        Ok(Self { path, reader, watermark, scanned: false, still })
    }

    /// Asks until the answer is of one piece.
    fn ask<T>(&mut self, question: impl Fn(&mut Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        loop {
            let answer = question(self);
            if self.still.is_none() || Still::of(&self.path) == self.still {
                return answer;
            }
            // Somebody has begun to write to it, so what was read may be half of this and half of that.
            *self = Self::open(&self.path).map_err(|error| StoreError::Failed(error.to_string()))?;
        }
    }

    /// The reader, knowing every row there is now.
    fn indexed(&mut self) -> Result<&Reader, StoreError> {
        {
            let mut index = lock(&self.reader.index);
            if self.scanned {
                index.catch_up(&self.reader.db)?;
            } else {
                *index = Index::load(&self.reader.db, self.watermark)?;
            }
        }
        self.scanned = true;
        Ok(&self.reader)
    }

    /// Reads a session to its end. Says how many events it has; `None` if it is not there any more.
    fn read_through(&mut self, id: SessionId) -> Result<Option<Seq>, StoreError> {
        let Some(StoredSession { head, .. }) = self.open_session(id)? else { return Ok(None) };
        let mut after = 0;
        while after < head {
            match self.read(id, after, PAGE)?.last() {
                Some(last) => after = last.seq,
                None if self.open_session(id)?.is_none() => return Ok(None),
                None => return Err(StoreError::Damaged(format!("events {} to {head} are missing", after + 1))),
            }
        }
        Ok(Some(after))
    }

    /// The rows of the log, by their first columns. Says which event each session should reach.
    fn check_log(&self, found: &mut dyn FnMut(String)) -> Result<HashMap<i64, Seq>, StoreError> {
        let mut ends = HashMap::new();
        let mut rows = self.reader.db.prepare("SELECT id, parts FROM log ORDER BY id").map_err(store_error)?;
        let mut rows = rows.query([]).map_err(store_error)?;
        while let Some(row) = rows.next().map_err(store_error)? {
            match bundle::parts(row.get(0).map_err(store_error)?, blob(row, 1)?) {
                Ok(parts) => ends.extend(parts.into_iter().map(|part| (part.session, part.first + Seq::from(part.count) - 1))),
                Err(error) => found(error.to_string()),
            }
        }
        Ok(ends)
    }

    fn sessions(&self) -> Result<Vec<(i64, SessionId, Vec<u8>)>, StoreError> {
        let mut list = self.reader.db.prepare("SELECT num, id, record FROM sessions ORDER BY num").map_err(store_error)?;
        let list = list.query_map([], |row| Ok((row.get(0)?, session_id(row, 1)?, row.get(2)?))).map_err(store_error)?;
        list.collect::<Result<_, _>>().map_err(store_error)
    }

    fn check_sessions(&mut self, ends: &HashMap<i64, Seq>, found: &mut dyn FnMut(String)) -> Result<Checked, StoreError> {
        let mut checked = Checked::default();
        for (number, id, record) in self.sessions()? {
            if let Err(error) = decode_record(id, &record) {
                found(error.to_string());
                continue;
            }
            match self.read_through(id) {
                Ok(Some(last)) if last < ends.get(&number).copied().unwrap_or(0) => {
                    found(format!("the end of session {id} behind event {last} cannot be found"));
                }
                Ok(Some(last)) => {
                    checked.sessions += 1;
                    checked.events += last;
                }
                // Erased since it was listed, unless what finds a session by its id is damaged.
                Ok(None) if self.sessions()?.iter().any(|(there, ..)| *there == number) => {
                    found(format!("session {id} is listed and not found"))
                }
                Ok(None) => {}
                Err(error) => found(format!("session {id}: {error}")),
            }
        }
        Ok(checked)
    }

    fn check_entries(&self, found: &mut dyn FnMut(String)) -> Result<(), StoreError> {
        for space in [Space::Task, Space::Usage, Space::Erased, Space::Checkpoint, Space::Foreign] {
            let mut rows = self.reader.db.prepare("SELECT key, value FROM entries WHERE space = ?1").map_err(store_error)?;
            let mut rows = rows.query([space as u8]).map_err(store_error)?;
            while let Some(row) = rows.next().map_err(store_error)? {
                let key: String = row.get(0).map_err(store_error)?;
                if let Err(error) = decode_value(space, &key, blob(row, 1)?) {
                    found(error.to_string());
                }
            }
        }
        Ok(())
    }

    /// What SQLite itself finds: pages that are not what they should be, and sessions that only some indexes know.
    fn check_pages(&self, found: &mut dyn FnMut(String)) -> Result<(), StoreError> {
        let mut check = self.reader.db.prepare(&format!("PRAGMA integrity_check({COMPLAINTS})")).map_err(store_error)?;
        let mut rows = check.query([]).map_err(store_error)?;
        while let Some(row) = rows.next().map_err(store_error)? {
            let complaint: String = row.get(0).map_err(store_error)?;
            if complaint != "ok" {
                found(complaint);
            }
        }
        Ok(())
    }
}

impl View for SqliteView {
    fn list_sessions(&mut self, filter: &SessionFilter) -> Result<Vec<SessionRecord>, StoreError> {
        self.ask(|view| view.reader.list_sessions(filter))
    }

    fn open_session(&mut self, id: SessionId) -> Result<Option<StoredSession>, StoreError> {
        self.ask(|view| view.indexed()?.open_session(id))
    }

    fn read(&mut self, id: SessionId, after: Seq, page: Page) -> Result<Vec<StoredEvent>, StoreError> {
        self.ask(|view| view.indexed()?.read(id, after, page))
    }

    fn check(&mut self, found: &mut dyn FnMut(String)) -> Result<Checked, StoreError> {
        // Each by itself: what one cannot read, another may.
        let pages = self.check_pages(found);
        let ends = self.check_log(found);
        let entries = self.check_entries(found);
        let sessions = match &ends {
            Ok(ends) => self.check_sessions(ends, found),
            Err(_) => Ok(Checked::default()),
        };
        let mut checked = Checked::default();
        for result in [pages, ends.map(drop), entries, sessions.map(|sessions| checked = sessions)] {
            match result {
                Err(StoreError::Damaged(what)) => found(what),
                result => result?,
            }
        }
        Ok(checked)
    }
}

/// A database that nobody has open, told by there being no write-ahead log.
#[derive(Debug, PartialEq, Eq)]
struct Still {
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Still {
    fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        let still = Self { bytes: file.len(), modified: file.modified().ok() };
        (!beside(path, "-wal").exists()).then_some(still)
    }
}

/// A connection that only reads. Without a write-ahead log there is nobody to agree with, and SQLite is told so: otherwise it would make
/// one, which leaves files behind and fails where nothing can be written.
fn connect(path: &Path) -> Result<(Option<Still>, Connection), OpenError> {
    let still = Still::of(path);
    let db = schema::open_view(path, still.is_some()).map_err(|error| schema::open_error(path, &error))?;
    schema::check_ours(&db, path)?;
    if schema::get_meta::<Vec<u8>>(&db, "identity").ok().flatten().is_none() {
        return Err(OpenError::Failed { path: path.display().to_string(), reason: "there is no store in it".into() });
    }
    Ok((still, db))
}
