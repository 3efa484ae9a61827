//! What one commit does: the appends and writes of whoever waited, each checked against the true head.

use std::{collections::HashMap, time::Duration};

use agent_hub_protocol::{Seq, SessionId, Timestamp};
use bytes::Bytes;
use rusqlite::{Connection, Statement, params};

use super::{
    bundle::Bundle,
    error::{is_of_one_statement, store_error},
    index::{Index, RowRef, head_in_extents, write_extents},
    reader::{get_entry, id_bytes, session_number},
};
use crate::store::{
    Append, AppendError, SessionRecord, Space, StoreError, Write,
    codec::{add_to_counter, decode_value, encode_record, encode_value},
    inbox::lock,
    jobs::Erasure,
    memory::check_head,
};

/// A large append is cut into parts of about this size, because reading one of its events reads the part.
const PART_BYTES: usize = 256 * 1024;

/// As [`PART_BYTES`], for many small events.
const PART_EVENTS: usize = 1_024;

/// Why a job was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// Only this one; the commit goes on without it.
    One(AppendError),
    /// The transaction cannot go on.
    All(StoreError),
}

impl Failure {
    fn one(error: StoreError) -> Self {
        Self::One(AppendError::Store(error))
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        if is_of_one_statement(&error) { Self::one(store_error(error)) } else { Self::All(store_error(error)) }
    }
}

/// A session the writer knows the head of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) num: i64,
    pub(super) head: Seq,
}

/// The heads of sessions written to lately: two generations, the older one dropped when the younger is full. A head that is not in here
/// is read from the index.
#[derive(Debug, Default)]
pub(super) struct Heads {
    young: HashMap<SessionId, Known>,
    old: HashMap<SessionId, Known>,
}

/// Sessions per generation: about 5 MB for both. More than a commit can touch, so a head changed in it is never read again before it is
/// done.
const HEADS_PER_GENERATION: usize = 32_768;

impl Heads {
    fn get(&mut self, id: SessionId) -> Option<Known> {
        if let Some(known) = self.young.get(&id) {
            return Some(*known);
        }
        let known = self.old.remove(&id)?;
        self.put(id, known);
        Some(known)
    }

    fn put(&mut self, id: SessionId, known: Known) {
        if self.young.len() >= HEADS_PER_GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, known);
    }

    fn forget(&mut self, id: SessionId) {
        self.young.remove(&id);
        self.old.remove(&id);
    }

    /// After a transaction that did not happen.
    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

/// What a commit changes in memory once it is done.
#[derive(Debug, Default)]
pub(super) struct Staged {
    pub(super) rows: Vec<(i64, RowRef)>,
    pub(super) erased: Vec<i64>,
    pub(super) appends: usize,
    pub(super) events: usize,
    pub(super) bytes: usize,
}

/// The tables inside a transaction, and the numbers given out.
pub(super) struct Tables<'db> {
    pub(super) db: &'db Connection,
    pub(super) insert_row: Statement<'db>,
    pub(super) index: &'db std::sync::Mutex<Index>,
    pub(super) heads: Heads,
    pub(super) next_row: i64,
    pub(super) next_session: i64,
    pub(super) staged: Staged,
    /// The row that is being filled; it will be `next_row`.
    pub(super) bundle: Bundle,
    /// The same for all of one commit.
    pub(super) now: Timestamp,
}

impl Tables<'_> {
    /// Does it inside the open transaction: all or nothing of it.
    pub(super) fn append(&mut self, append: &Append) -> Result<(), Failure> {
        let known = if append.record.is_none() && append.writes.is_empty() {
            self.admit(append)?
        } else {
            self.guarded(|tables| {
                let known = tables.admit(append)?;
                tables.write(&append.writes)?;
                Ok(known)
            })?
        };
        // Last, because from here on only all of the commit can fail.
        let head = self.add_events(known, &append.events)?;
        self.heads.put(append.session, Known { head, ..known });
        self.staged.appends += 1;
        self.staged.events += append.events.len();
        Ok(())
    }

    /// Undoes what `work` did if it fails alone.
    pub(super) fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        let erased = self.staged.erased.len();
        let run = |tables: &Self, sql| {
            let done = tables.db.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
            done.map(drop).map_err(|error| Failure::All(store_error(error)))
        };
        run(self, "SAVEPOINT one")?;
        let result = work(self);
        if let Err(Failure::One(_)) = result {
            self.staged.erased.truncate(erased);
            run(self, "ROLLBACK TO one")?;
        }
        if !matches!(result, Err(Failure::All(_))) {
            run(self, "RELEASE one")?;
        }
        result
    }

    /// Checks the append against the true head, and writes the session's record.
    fn admit(&mut self, append: &Append) -> Result<Known, Failure> {
        let id = append.session;
        match (self.known(id)?, &append.record) {
            (Some(known), record) => {
                check_head(append.expected, known.head).map_err(Failure::One)?;
                if let Some(record) = record {
                    self.update_record(known.num, id, record)?;
                }
                Ok(known)
            }
            (None, Some(record)) if !self.is_taken(id)? => {
                check_head(append.expected, 0).map_err(Failure::One)?;
                self.create(id, record)
            }
            (None, _) => Err(Failure::One(AppendError::Erased)),
        }
    }

    fn known(&mut self, id: SessionId) -> Result<Option<Known>, Failure> {
        if let Some(known) = self.heads.get(id) {
            return Ok(Some(known));
        }
        let Some(num) = session_number(self.db, id)? else { return Ok(None) };
        let recent = lock(self.index).head(num);
        let head = match recent {
            Some(head) => head,
            None => head_in_extents(self.db, num).map_err(Failure::one)?,
        };
        let known = Known { num, head };
        self.heads.put(id, known);
        Ok(Some(known))
    }

    fn is_taken(&self, id: SessionId) -> Result<bool, Failure> {
        Ok(get_entry(self.db, Space::Erased, &id.to_string(), self.now)?.is_some())
    }

    fn create(&mut self, id: SessionId, record: &SessionRecord) -> Result<Known, Failure> {
        let num = self.next_session;
        self.db
            .prepare_cached("INSERT INTO sessions (num, id, owner, created, unfinished, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![
                num,
                id_bytes(id),
                record.owner,
                record.created_at.as_millis(),
                record.unfinished,
                encode_record(id, record)
            ])?;
        self.next_session += 1;
        Ok(Known { num, head: 0 })
    }

    fn update_record(&mut self, num: i64, id: SessionId, record: &SessionRecord) -> Result<(), Failure> {
        let (data, created) = (encode_record(id, record), record.created_at.as_millis());
        // The usual change leaves owner and time of creation alone, and so their indexes.
        let changed = self
            .db
            .prepare_cached("UPDATE sessions SET unfinished = ?1, record = ?2 WHERE num = ?3 AND owner = ?4 AND created = ?5")?
            .execute(params![record.unfinished, data, num, record.owner, created])?;
        if changed == 0 {
            self.db
                .prepare_cached("UPDATE sessions SET unfinished = ?1, record = ?2, owner = ?4, created = ?5 WHERE num = ?3")?
                .execute(params![record.unfinished, data, num, record.owner, created])?;
        }
        Ok(())
    }

    /// The head after them.
    fn add_events(&mut self, known: Known, events: &[Bytes]) -> Result<Seq, Failure> {
        let mut head = known.head;
        let mut rest = events;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(part_len(rest));
            if !self.bundle.has_room_for(part) {
                self.end_row()?;
            }
            let row = RowRef { id: self.next_row, first: head + 1, count: part.len() as u32 };
            self.staged.bytes += self.bundle.push(known.num, row.first, part);
            self.staged.rows.push((known.num, row));
            if self.bundle.is_full() {
                self.end_row()?;
            }
            head = row.last();
            rest = after;
        }
        Ok(head)
    }

    /// Writes the row that is being filled, if any. Last of all before a commit.
    pub(super) fn end_row(&mut self) -> Result<(), Failure> {
        if self.bundle.is_empty() {
            return Ok(());
        }
        let (parts, data) = self.bundle.seal(self.next_row);
        let written = self.insert_row.execute(params![self.next_row, parts, data]);
        // It holds appends of several callers, so none of them can fail alone.
        written.map_err(|error| Failure::All(store_error(error)))?;
        self.next_row += 1;
        self.bundle.clear();
        Ok(())
    }

    /// Entries, in order.
    pub(super) fn write(&mut self, writes: &[Write]) -> Result<(), Failure> {
        for write in writes {
            match write {
                Write::Put { space, key, value, expires_at } => self.put(*space, key, value, *expires_at)?,
                Write::Add { space, key, by, expires_at } => {
                    let before = get_entry(self.db, *space, key, self.now)?;
                    let before = before.map(|value| decode_value(*space, key, &value)).transpose().map_err(Failure::one)?;
                    let value = add_to_counter(before.as_deref(), *by).map_err(Failure::one)?;
                    self.put(*space, key, &value, *expires_at)?;
                }
                Write::Delete { space, key } => self.delete(*space, key)?,
            }
        }
        Ok(())
    }

    fn put(&self, space: Space, key: &str, value: &[u8], expires_at: Option<Timestamp>) -> Result<(), Failure> {
        self.db
            .prepare_cached(
                "INSERT INTO entries (space, key, value, expires) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT DO UPDATE SET value = excluded.value, expires = excluded.expires",
            )?
            .execute(params![space as u8, key, encode_value(space, key, value), expires_at.map(Timestamp::as_millis)])?;
        Ok(())
    }

    fn delete(&self, space: Space, key: &str) -> Result<(), Failure> {
        self.db.prepare_cached("DELETE FROM entries WHERE space = ?1 AND key = ?2")?.execute(params![space as u8, key])?;
        Ok(())
    }

    /// Takes the session out of sight in one step; its rows go later, a few at a time.
    pub(super) fn erase(&mut self, erasure: &Erasure) -> Result<(), Failure> {
        let id = erasure.id;
        if let Some(num) = session_number(self.db, id)? {
            // The rows to take away are found by `extents` alone, so those still in memory go there first; also those of this very commit.
            let mut rows = lock(self.index).up_to(num, i64::MAX);
            rows.extend(self.staged.rows.iter().filter(|(session, _)| *session == num).map(|(_, row)| *row));
            write_extents(self.db, num, &rows)?;
            self.db.prepare_cached("DELETE FROM sessions WHERE num = ?1")?.execute([num])?;
            self.db.prepare_cached("INSERT OR IGNORE INTO garbage (session) VALUES (?1)")?.execute([num])?;
            self.staged.erased.push(num);
        }
        self.delete(Space::Checkpoint, &id.to_string())?;
        for (space, key) in &erasure.forget {
            self.delete(*space, key)?;
            self.mark_taken(key, erasure)?;
        }
        self.mark_taken(&id.to_string(), erasure)?;
        // Last: a head forgotten too early would be read again without the rows of this commit.
        self.heads.forget(id);
        Ok(())
    }

    /// An id that is taken already stays as it is, so that a repetition changes nothing.
    fn mark_taken(&self, key: &str, erasure: &Erasure) -> Result<(), Failure> {
        let value = encode_value(Space::Erased, key, erasure.owner.as_bytes());
        self.db
            .prepare_cached(
                "INSERT INTO entries (space, key, value, expires) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT DO UPDATE SET value = excluded.value, expires = excluded.expires WHERE expires <= ?5",
            )?
            .execute(params![Space::Erased as u8, key, value, erasure.taken_until.as_millis(), self.now.as_millis()])?;
        Ok(())
    }

    /// Takes away entries that have expired, not so many at once that a commit would feel it.
    pub(super) fn sweep(&mut self) -> Result<(), Failure> {
        self.db
            .prepare_cached(
                "DELETE FROM entries WHERE (space, key) IN (SELECT space, key FROM entries WHERE expires <= ?1 ORDER BY expires LIMIT 1000)",
            )?
            .execute([self.now.as_millis()])?;
        Ok(())
    }

    /// Writes, for the sake of writing.
    pub(super) fn probe(&mut self) -> Result<(), Failure> {
        Ok(super::schema::set_meta(self.db, "probed", self.now.as_millis())?)
    }

    pub(super) fn take_staged(&mut self) -> Staged {
        std::mem::take(&mut self.staged)
    }
}

impl Staged {
    /// As metrics see it.
    pub(super) fn commit(&self, took: Duration) -> super::Commit {
        super::Commit { appends: self.appends, events: self.events, bytes: self.bytes, took }
    }
}

/// How many of the events go into the next part; at least one if there is one.
fn part_len(events: &[Bytes]) -> usize {
    let mut bytes = 0;
    let fitting = events.iter().take(PART_EVENTS).take_while(|event| {
        bytes += event.len();
        bytes <= PART_BYTES
    });
    fitting.count().max(1).min(events.len())
}
