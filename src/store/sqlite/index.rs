//! Which rows hold a session's events: in memory for the rows since the watermark, in `extents` for those before it.

use std::collections::HashMap;

use agent_hub_protocol::Seq;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    bundle::{self, Part},
    error::store_error,
};
use crate::store::{
    StoreError,
    codec::{open_seal, put_varint, seal, take_varint},
};

/// Rows named by one row of `extents`: about 3 KB of it, so paging through a long session does not decode all of it each time.
const ROWS_PER_EXTENT: usize = 1_000;

/// Events of one session in one row of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowRef {
    pub(super) id: i64,
    pub(super) first: Seq,
    pub(super) count: u32,
}

impl RowRef {
    /// The last event in it.
    pub(super) fn last(self) -> Seq {
        self.first + Seq::from(self.count) - 1
    }
}

/// The rows that are not in `extents` yet, by session number. Rows enter it after their commit and before its answer.
#[derive(Debug, Default)]
pub(super) struct Index {
    recent: HashMap<i64, Vec<RowRef>>,
    /// Rows up to this one are in here or in `extents`.
    pub(super) published: i64,
    /// Rows and bytes since the watermark was last decided on.
    pub(super) rows_since: usize,
    pub(super) bytes_since: usize,
}

impl Index {
    pub(super) fn publish(&mut self, session: i64, row: RowRef) {
        self.recent.entry(session).or_default().push(row);
        self.published = self.published.max(row.id);
        self.rows_since += 1;
    }

    /// The session's last event, if it is in recent rows.
    pub(super) fn head(&self, session: i64) -> Option<Seq> {
        Some(self.recent.get(&session)?.last()?.last())
    }

    /// Recent rows with events from `wanted` on, at most `limit`; and the first event of any recent row.
    pub(super) fn from(&self, session: i64, wanted: Seq, limit: usize) -> (Option<Seq>, Vec<RowRef>) {
        let Some(rows) = self.recent.get(&session) else { return (None, Vec::new()) };
        let start = rows.partition_point(|row| row.last() < wanted);
        (rows.first().map(|row| row.first), rows[start..].iter().take(limit).copied().collect())
    }

    /// The session's recent rows up to row `until`.
    pub(super) fn up_to(&self, session: i64, until: i64) -> Vec<RowRef> {
        let rows = self.recent.get(&session).map_or(&[][..], Vec::as_slice);
        rows[..rows.partition_point(|row| row.id <= until)].to_vec()
    }

    /// Forgets rows that are in `extents` now.
    pub(super) fn drop_up_to(&mut self, session: i64, until: i64) {
        if let Some(rows) = self.recent.get_mut(&session) {
            rows.drain(..rows.partition_point(|row| row.id <= until));
            if rows.is_empty() {
                self.recent.remove(&session);
            } else {
                rows.shrink_to(rows.len() * 2);
            }
        }
    }

    pub(super) fn forget(&mut self, session: i64) {
        self.recent.remove(&session);
    }

    /// The sessions with recent rows, so that neighbours in `extents` come one after the other when taken from the end.
    pub(super) fn sessions(&self) -> Vec<i64> {
        let mut sessions: Vec<i64> = self.recent.keys().copied().collect();
        sessions.sort_unstable_by(|a, b| b.cmp(a));
        sessions
    }

    /// Reads the rows behind `watermark`: those whose place was only in memory when the store last stopped.
    ///
    /// # Errors
    /// When the database fails; [`StoreError::Damaged`] for a row that does not match its checksum, as the heads of its sessions are unknown.
    pub(super) fn load(db: &Connection, watermark: i64) -> Result<Self, StoreError> {
        let mut index = Self { published: watermark, ..Self::default() };
        index.catch_up(db)?;
        // What is left of sessions that were erased is found by `extents`.
        let mut exists = db.prepare("SELECT 1 FROM sessions WHERE num = ?1").map_err(store_error)?;
        for session in index.sessions() {
            if !exists.exists([session]).map_err(store_error)? {
                index.forget(session);
            }
        }
        Ok(index)
    }

    /// Takes in the rows behind those it knows.
    ///
    /// # Errors
    /// As [`Index::load`].
    pub(super) fn catch_up(&mut self, db: &Connection) -> Result<(), StoreError> {
        each_part_behind(db, self.published, |row, part| {
            self.publish(part.session, RowRef { id: row, first: part.first, count: part.count });
        })
    }
}

/// Calls `each` with the parts of the rows behind `row`, in order.
///
/// # Errors
/// When the database fails; [`StoreError::Damaged`] for a row that does not match its checksum.
pub(super) fn each_part_behind(db: &Connection, row: i64, mut each: impl FnMut(i64, Part)) -> Result<(), StoreError> {
    let mut rows = db.prepare_cached("SELECT id, parts FROM log WHERE id > ?1 ORDER BY id").map_err(store_error)?;
    let mut rows = rows.query([row]).map_err(store_error)?;
    while let Some(row) = rows.next().map_err(store_error)? {
        let id = row.get(0).map_err(store_error)?;
        for part in bundle::parts(id, blob(row, 1)?)? {
            each(id, part);
        }
    }
    Ok(())
}

/// # Errors
/// [`StoreError::Damaged`] when the column holds something else.
pub(super) fn blob<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a [u8], StoreError> {
    row.get_ref(column).and_then(|value| value.as_blob().map_err(Into::into)).map_err(store_error)
}

/// A row of `extents`: where a run of events is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Ascending, without a gap between their events.
    pub(super) rows: Vec<RowRef>,
}

impl Extent {
    /// Sealed to its session; the row's key says the first event.
    fn encode(session: i64, rows: &[RowRef]) -> Vec<u8> {
        let mut out = vec![0; 4];
        let mut id = 0;
        for row in rows {
            put_varint(&mut out, (row.id - id).cast_unsigned());
            put_varint(&mut out, row.count.into());
            id = row.id;
        }
        let first = rows.first().map_or(0, |row| row.first);
        seal(&mut out, &key(session, first));
        out
    }

    /// # Errors
    /// [`StoreError::Damaged`] unless this was written for this session and first event.
    pub(super) fn decode(session: i64, first: Seq, data: &[u8]) -> Result<Self, StoreError> {
        let damaged = || StoreError::Damaged(format!("the index of events from {first} does not match its checksum"));
        let mut rest = open_seal(data, &key(session, first)).ok_or_else(damaged)?;
        let mut rows = Vec::new();
        let (mut id, mut next) = (0i64, first);
        while !rest.is_empty() {
            let step = take_varint(&mut rest).ok_or_else(damaged)?;
            let count = take_varint(&mut rest).and_then(|count| u32::try_from(count).ok()).ok_or_else(damaged)?;
            id = id.checked_add_unsigned(step).ok_or_else(damaged)?;
            rows.push(RowRef { id, first: next, count });
            next = next.checked_add(count.into()).ok_or_else(damaged)?;
        }
        Ok(Self { rows })
    }
}

fn key(session: i64, first: Seq) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&session.to_le_bytes());
    key[8..].copy_from_slice(&first.to_le_bytes());
    key
}

/// Whether `extents` can be walked from end to end: a key that is not what was written would hide events as if they had never been. A
/// walk of it is cheap, as it is a thousandth of the log.
///
/// # Errors
/// [`StoreError::Damaged`] when it cannot.
pub(super) fn check_extents(db: &Connection) -> Result<(), StoreError> {
    let found: String = db.query_row("PRAGMA quick_check('extents')", [], |row| row.get(0)).map_err(store_error)?;
    if found == "ok" { Ok(()) } else { Err(StoreError::Damaged(found)) }
}

/// Writes down where `rows` are. Writing a run again that grew in between replaces it, so a flush that was cut off can be repeated.
///
/// # Errors
/// When the database fails.
pub(super) fn write_extents(db: &Connection, session: i64, rows: &[RowRef]) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached("INSERT OR REPLACE INTO extents (session, first, data) VALUES (?1, ?2, ?3)")?;
    let mut rest = rows;
    while let Some(row) = rest.first() {
        // A gap can only be there when something was lost; each side of it keeps its own first event, and reading across it fails.
        let run = rest.windows(2).take_while(|pair| pair[0].last() + 1 == pair[1].first).count() + 1;
        let (extent, after) = rest.split_at(run.min(ROWS_PER_EXTENT));
        insert.execute(params![session, row.first.cast_signed(), Extent::encode(session, extent)])?;
        rest = after;
    }
    Ok(())
}

/// The last event of a session that `extents` knows of; 0 for none.
///
/// # Errors
/// [`StoreError::Damaged`] for an extent that does not match its checksum.
pub(super) fn head_in_extents(db: &Connection, session: i64) -> Result<Seq, StoreError> {
    let mut last =
        db.prepare_cached("SELECT first, data FROM extents WHERE session = ?1 ORDER BY first DESC LIMIT 1").map_err(store_error)?;
    let found = last.query_row([session], |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, Vec<u8>>(1)?))).optional();
    match found.map_err(store_error)? {
        None => Ok(0),
        Some((first, data)) => Ok(Extent::decode(session, first, &data)?.rows.last().map_or(0, |row| row.last())),
    }
}
