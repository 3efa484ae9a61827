//! A thread that answers questions, with a connection of its own.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use agent_hub_protocol::{Epoch, Seq, SessionId, Timestamp};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};
use uuid::Uuid;

use super::{
    bundle,
    error::store_error,
    index::{Extent, Index, RowRef, blob, each_part_behind, head_in_extents},
};
use crate::store::{
    Page, SessionFilter, SessionRecord, Space, StoreError, StoredEvent, StoredSession,
    codec::{decode_record, decode_value},
    inbox::{Bound, Inbox, Taken, lock},
    memory::Filling,
};

/// A question together with where its answer goes.
pub(super) struct ReadJob(Box<dyn FnOnce(&Reader) + Send>);

impl ReadJob {
    pub(super) fn new(work: impl FnOnce(&Reader) + Send + 'static) -> Self {
        Self(Box::new(work))
    }
}

impl fmt::Debug for ReadJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadJob")
    }
}

/// Answers from one connection.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) db: Connection,
    /// Of the store; epochs are derived from it.
    pub(super) generation: u32,
    /// Not ahead of the database, and behind it by few rows.
    pub(super) index: Arc<Mutex<Index>>,
}

impl Reader {
    /// Answers until the inbox closes.
    pub(super) fn run(self, questions: &Inbox<ReadJob>) {
        let mut jobs = Vec::new();
        // One at a time, so that the other readers take the next.
        while questions.take(Bound { jobs: 1, bytes: 0 }, None, &mut jobs) == Taken::Jobs {
            for job in jobs.drain(..) {
                (job.0)(&self);
            }
        }
    }

    /// Record and head as of one commit.
    pub(super) fn open_session(&self, id: SessionId) -> Result<Option<StoredSession>, StoreError> {
        let Some(num) = self.number(id)? else { return Ok(None) };
        // The index before the snapshot: what it knows is in the snapshot, and what the snapshot has beyond it is few rows.
        let (published, recent) = {
            let index = lock(&self.index);
            (index.published, index.head(num))
        };
        let snapshot = self.db.unchecked_transaction().map_err(store_error)?;
        let mut record = snapshot.prepare_cached("SELECT record FROM sessions WHERE num = ?1 AND id = ?2").map_err(store_error)?;
        let record: Option<Vec<u8>> = record.query_row(params![num, id_bytes(id)], |row| row.get(0)).optional().map_err(store_error)?;
        let Some(record) = record else { return Ok(None) };
        let record = decode_record(id, &record)?;
        let known = match recent {
            Some(head) => head,
            None => head_in_extents(&snapshot, num)?,
        };
        let head = known.max(self.head_beyond(num, published)?);
        Ok(Some(StoredSession { epoch: Epoch::derive(record.birth, self.generation), record, head }))
    }

    /// The last event in rows that are committed but not in the index yet; 0 for none.
    fn head_beyond(&self, num: i64, published: i64) -> Result<Seq, StoreError> {
        let mut head = 0;
        each_part_behind(&self.db, published, |_, part| {
            if part.session == num {
                head = part.first + Seq::from(part.count) - 1;
            }
        })?;
        Ok(head)
    }

    pub(super) fn read(&self, id: SessionId, after: Seq, page: Page) -> Result<Vec<StoredEvent>, StoreError> {
        let Some(num) = self.number(id)? else { return Ok(Vec::new()) };
        let wanted = after.saturating_add(1);
        // The index before the snapshot, so that a row is in at least one of them: it leaves the index after it is in `extents`.
        let (recent_from, recent) = lock(&self.index).from(num, wanted, page.events.max(1));
        let snapshot = self.db.unchecked_transaction().map_err(store_error)?;
        if !snapshot.prepare_cached("SELECT 1 FROM sessions WHERE num = ?1").and_then(|mut is| is.exists([num])).map_err(store_error)? {
            return Ok(Vec::new());
        }
        let mut walk = Walk { db: &self.db, num, wanted, filling: Filling::new(page), full: false };
        if recent_from.is_none_or(|first| first > wanted) {
            walk.extents()?;
        }
        walk.rows(&recent)?;
        if walk.filling.events.is_empty() {
            // There is nothing behind the head. Anywhere else something is.
            let head = head_in_extents(&snapshot, num)?;
            if head >= wanted {
                // Rows may have gone from the index into `extents` before the snapshot was taken.
                walk.extents()?;
                if walk.filling.events.is_empty() {
                    return Err(StoreError::Damaged(format!("events {wanted} to {head} are missing")));
                }
            }
        }
        Ok(walk.filling.events)
    }

    pub(super) fn list_sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionRecord>, StoreError> {
        let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
        // Nothing is newer than the end of time, so one form serves the first page and the others.
        let (time, id) = match filter.before {
            Some((time, id)) => (time.as_millis(), id_bytes(id).to_vec()),
            None => (i64::MAX, Vec::new()),
        };
        let found = match &filter.owner {
            Some(owner) => self
                .db
                .prepare_cached(
                    "SELECT id, record FROM sessions WHERE owner = ?1 AND (created, id) < (?2, ?3) ORDER BY created DESC, id DESC LIMIT ?4",
                )
                .and_then(|mut list| list.query_map(params![owner, time, id, limit], id_and_record)?.collect()),
            None => self
                .db
                .prepare_cached("SELECT id, record FROM sessions WHERE (created, id) < (?1, ?2) ORDER BY created DESC, id DESC LIMIT ?3")
                .and_then(|mut list| list.query_map(params![time, id, limit], id_and_record)?.collect()),
        };
        let found: Vec<(SessionId, Vec<u8>)> = found.map_err(store_error)?;
        found.into_iter().map(|(id, record)| decode_record(id, &record)).collect()
    }

    pub(super) fn unfinished_sessions(&self) -> Result<Vec<SessionId>, StoreError> {
        let found = self
            .db
            .prepare_cached("SELECT id FROM sessions WHERE unfinished > 0 ORDER BY num")
            .and_then(|mut list| list.query_map([], |row| session_id(row, 0))?.collect());
        found.map_err(store_error)
    }

    pub(super) fn get(&self, space: Space, key: &str) -> Result<Option<Bytes>, StoreError> {
        let value = get_entry(&self.db, space, key, Timestamp::now()).map_err(store_error)?;
        value.map(|value| decode_value(space, key, &value)).transpose()
    }

    fn number(&self, id: SessionId) -> Result<Option<i64>, StoreError> {
        session_number(&self.db, id).map_err(store_error)
    }
}

/// Collects a page of one session's events in one snapshot.
struct Walk<'a> {
    db: &'a Connection,
    num: i64,
    /// The next event to take.
    wanted: Seq,
    filling: Filling,
    full: bool,
}

impl Walk<'_> {
    /// Through the rows that `extents` knows of.
    fn extents(&mut self) -> Result<(), StoreError> {
        let db = self.db;
        let mut extents = db
            .prepare_cached(
                "SELECT first, data FROM extents WHERE session = ?1 AND first >= \
                 (SELECT coalesce(max(first), 0) FROM extents WHERE session = ?1 AND first <= ?2) ORDER BY first",
            )
            .map_err(store_error)?;
        // A position past what the column holds is past every event.
        let wanted = i64::try_from(self.wanted).unwrap_or(i64::MAX);
        let mut extents = extents.query([self.num, wanted]).map_err(store_error)?;
        while let Some(row) = extents.next().map_err(store_error)? {
            let first = row.get::<_, i64>(0).map_err(store_error)?.cast_unsigned();
            self.rows(&Extent::decode(self.num, first, blob(row, 1)?)?.rows)?;
            if self.full {
                break;
            }
        }
        Ok(())
    }

    /// Through these rows, skipping what is before `wanted`.
    fn rows(&mut self, rows: &[RowRef]) -> Result<(), StoreError> {
        for row in rows {
            if self.full {
                break;
            }
            if row.last() >= self.wanted {
                self.row(*row)?;
            }
        }
        Ok(())
    }

    fn row(&mut self, row: RowRef) -> Result<(), StoreError> {
        if row.first > self.wanted {
            return Err(StoreError::Damaged(format!("events {} to {} are missing", self.wanted, row.first - 1)));
        }
        for (seq, text) in (row.first..).zip(self.texts(row)?) {
            if seq < self.wanted {
                continue;
            }
            let room = self.filling.push(seq, text);
            self.full = !room;
            if self.full {
                break;
            }
            self.wanted = seq + 1;
        }
        Ok(())
    }

    fn texts(&self, row: RowRef) -> Result<Vec<Bytes>, StoreError> {
        let mut find = self.db.prepare_cached("SELECT parts, data FROM log WHERE id = ?1").map_err(store_error)?;
        let mut found = find.query([row.id]).map_err(store_error)?;
        match found.next().map_err(store_error)? {
            Some(found) => bundle::events(row.id, blob(found, 0)?, blob(found, 1)?, self.num, row.first),
            None => Err(StoreError::Damaged(format!("events {} to {} are missing", row.first, row.last()))),
        }
    }
}

pub(super) fn session_number(db: &Connection, id: SessionId) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT num FROM sessions WHERE id = ?1")?.query_row([id_bytes(id)], |row| row.get(0)).optional()
}

/// The sealed value of an entry that has not expired.
pub(super) fn get_entry(db: &Connection, space: Space, key: &str, now: Timestamp) -> rusqlite::Result<Option<Vec<u8>>> {
    db.prepare_cached("SELECT value FROM entries WHERE space = ?1 AND key = ?2 AND (expires IS NULL OR expires > ?3)")?
        .query_row(params![space as u8, key, now.as_millis()], |row| row.get(0))
        .optional()
}

pub(super) fn id_bytes(id: SessionId) -> [u8; 16] {
    *id.as_uuid().as_bytes()
}

fn id_and_record(row: &Row<'_>) -> rusqlite::Result<(SessionId, Vec<u8>)> {
    Ok((session_id(row, 0)?, row.get(1)?))
}

pub(super) fn session_id(row: &Row<'_>, column: usize) -> rusqlite::Result<SessionId> {
    let bytes: [u8; 16] = row.get(column).map_err(|_| rusqlite::Error::InvalidColumnType(column, "id".into(), Type::Blob))?;
    Ok(SessionId::from_uuid(Uuid::from_bytes(bytes)))
}
