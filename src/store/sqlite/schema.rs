//! The database's tables, how a connection is set up, and which incarnation of the store this is.

use std::{fmt::Write as _, os::unix::ffi::OsStrExt as _, path::Path, time::Duration};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, config::DbConfig, params, types::FromSql};

use super::{SqliteConfig, Synchronous, sidecar::Mark};
use crate::store::OpenError;

/// The newest format this version reads and the one it writes.
const FORMAT: u32 = 1;

/// `AHUB`, so that a database of somebody else is not taken for ours.
const APPLICATION_ID: i32 = 0x4148_5542;

/// How long a connection waits for a lock another one of this process holds, which is never longer than a checkpoint.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// What the write-ahead log is cut back to after a burst.
const WAL_KEPT_BYTES: i64 = 64 * 1024 * 1024;

/// From format `n` to `n + 1`, each in a transaction of its own.
const MIGRATIONS: [&str; FORMAT as usize] = [FIRST];

/// Why the log has this shape: rows in the order of commits fill page after page, so a commit of many sessions writes each page once.
/// Any key by session would write one page per session instead, ten times the price. Where a session's rows are is kept in memory
/// until enough came together to write it down in `extents` at the price of one small row for many.
const FIRST: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;

    -- One row per session: what lists and recovery need. `record` is sealed by a checksum over `id`.
    CREATE TABLE sessions (
        num INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, owner TEXT NOT NULL, created INTEGER NOT NULL,
        unfinished INTEGER NOT NULL, record BLOB NOT NULL
    );
    CREATE INDEX sessions_by_owner ON sessions (owner, created, id);
    CREATE INDEX sessions_by_age ON sessions (created, id);
    CREATE INDEX sessions_unfinished ON sessions (num) WHERE unfinished > 0;

    -- Rows in the order of commits, each with events of one or several sessions (see `bundle.rs`). `parts` comes first, so that it is read
    -- without touching the overflow pages of a large `data`.
    CREATE TABLE log (id INTEGER PRIMARY KEY, parts BLOB NOT NULL, data BLOB NOT NULL);

    -- Which rows of `log` a session's events are in, for rows up to the watermark.
    CREATE TABLE extents (session INTEGER NOT NULL, first INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (session, first)) WITHOUT ROWID;

    -- Erased sessions whose rows are still to be taken away.
    CREATE TABLE garbage (session INTEGER PRIMARY KEY);

    CREATE TABLE entries (space INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, expires INTEGER, PRIMARY KEY (space, key)) WITHOUT ROWID;
    CREATE INDEX entries_expiring ON entries (expires) WHERE expires IS NOT NULL;
";

/// Opens the one connection that writes, with the tables in their newest form.
///
/// # Errors
/// [`OpenError::TooNew`], [`OpenError::Locked`], or [`OpenError::Failed`] for anything that is not our database.
pub(super) fn open_writer(config: &SqliteConfig, path: &Path) -> Result<Connection, OpenError> {
    let failed = |error: rusqlite::Error| open_error(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags).map_err(failed)?;
    // Whoever holds a lock while we open is another process, as our lock file keeps out the rest of us: say so soon.
    db.busy_timeout(Duration::from_millis(500)).map_err(failed)?;
    check_ours(&db, path)?;
    set_up_writer(&db, config).map_err(failed)?;
    migrate(&mut db).map_err(failed)?;
    db.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    Ok(db)
}

/// # Errors
/// [`OpenError::TooNew`], or [`OpenError::Failed`] for a database of somebody else.
pub(super) fn check_ours(db: &Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |error: rusqlite::Error| open_error(path, &error);
    let format: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    let application: i32 = db.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    let objects: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if objects > 0 && application != APPLICATION_ID {
        return Err(OpenError::Failed { path: path.display().to_string(), reason: "it is a database of another program".into() });
    }
    if format > FORMAT {
        return Err(OpenError::TooNew { path: path.display().to_string(), found: format, known: FORMAT });
    }
    Ok(())
}

fn set_up_writer(db: &Connection, config: &SqliteConfig) -> rusqlite::Result<()> {
    // The connection starts out syncing each commit, so that what opening writes down survives whatever comes.
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    // Checkpoints come from a thread of their own; in the middle of a commit they would be most of its time.
    db.pragma_update(None, "wal_autocheckpoint", 0)?;
    db.pragma_update(None, "journal_size_limit", WAL_KEPT_BYTES)?;
    // What was erased is overwritten where that costs no further write.
    db.pragma_update(None, "secure_delete", "FAST")?;
    db.pragma_update(None, "cell_size_check", true)?;
    db.pragma_update(None, "trusted_schema", false)?;
    if let Some(bytes) = config.max_bytes {
        let page: u64 = db.pragma_query_value(None, "page_size", |row| row.get::<_, i64>(0))?.unsigned_abs().max(512);
        let pages = i64::try_from(bytes / page).unwrap_or(i64::MAX).clamp(1, i64::from(u32::MAX) - 1);
        db.pragma_update(None, "max_page_count", pages)?;
    }
    db.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn migrate(db: &mut Connection) -> rusqlite::Result<()> {
    let format: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for (from, step) in MIGRATIONS.iter().enumerate().skip(format as usize) {
        let change = db.transaction()?;
        change.execute_batch(step)?;
        change.pragma_update(None, "application_id", APPLICATION_ID)?;
        change.pragma_update(None, "user_version", from as u32 + 1)?;
        change.commit()?;
    }
    Ok(())
}

/// Sets how commits are synced from now on.
pub(super) fn set_synchronous(db: &Connection, synchronous: Synchronous) -> rusqlite::Result<()> {
    db.pragma_update(None, "synchronous", synchronous.pragma())
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    set_up_reader(Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?)
}

/// Opens a connection that reads from outside. `still`: nobody has the database open, so it is read as the file that it is.
pub(super) fn open_view(path: &Path, still: bool) -> rusqlite::Result<Connection> {
    if !still {
        let db = open_reader(path)?;
        // Whoever looks leaves the write-ahead log as it was, should the one that writes have gone meanwhile.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        return Ok(db);
    }
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => uri.push(char::from(*byte)),
            // Writing to a String cannot fail.
            _ => drop(write!(uri, "%{byte:02x}")),
        }
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    set_up_reader(Connection::open_with_flags(format!("{uri}?immutable=1"), flags)?)
}

fn set_up_reader(db: Connection) -> rusqlite::Result<Connection> {
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.pragma_update(None, "query_only", true)?;
    db.pragma_update(None, "cell_size_check", true)?;
    db.pragma_update(None, "trusted_schema", false)?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(db)
}

/// Opens the connection that checkpoints.
pub(super) fn open_checkpointer(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.pragma_update(None, "wal_autocheckpoint", 0)?;
    db.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(db)
}

pub(super) fn get_meta<T: FromSql>(db: &Connection, key: &str) -> rusqlite::Result<Option<T>> {
    db.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |row| row.get(0)).optional()
}

pub(super) fn set_meta(db: &Connection, key: &str, value: impl rusqlite::ToSql) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value")?
        .execute(params![key, value])?;
    Ok(())
}

/// Which store this is, how often it may have lost its head, and where its log goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incarnation {
    pub(super) identity: [u8; 16],
    pub(super) generation: u32,
    pub(super) next_row: i64,
    /// Whether the generation went up just now.
    pub(super) bumped: bool,
}

/// Decides which incarnation this is and writes it down, before anybody can read from it.
///
/// The head may have gone back when the mark beside the database has seen more rows (or a later generation, or another database) than
/// there are, when the mark is missing or unreadable, and when the machine went down while commits were not synced.
pub(super) fn incarnate(db: &mut Connection, mark: Option<Mark>, config: &SqliteConfig) -> rusqlite::Result<Incarnation> {
    let change = db.transaction()?;
    let next_row = next_row(&change)?;
    let known: Option<[u8; 16]> = get_meta(&change, "identity")?;
    let identity = known.unwrap_or_else(|| *uuid::Uuid::new_v4().as_bytes());
    let before: u32 = get_meta(&change, "generation")?.unwrap_or(0);
    let went_back = known.is_some() && (lost_power(&change, config)? || is_behind(mark, identity, before, next_row));
    // A backup put back twice must not come to the same generation twice; the mark remembers the higher one.
    let highest = mark.filter(|mark| mark.identity == identity).map_or(before, |mark| mark.generation.max(before));
    let generation = if went_back { highest.saturating_add(1) } else { before };
    set_meta(&change, "identity", identity)?;
    set_meta(&change, "generation", generation)?;
    set_meta(&change, "boot", config.boot_id().unwrap_or_default())?;
    set_meta(&change, "synchronous", config.synchronous.pragma())?;
    set_meta(&change, "clean", false)?;
    change.commit()?;
    Ok(Incarnation { identity, generation, next_row, bumped: went_back })
}

/// Rows get numbers that were never used, also after the last ones were erased.
fn next_row(db: &Connection) -> rusqlite::Result<i64> {
    let last: i64 = db.query_row("SELECT coalesce(max(id), 0) FROM log", [], |row| row.get(0))?;
    let reserved: i64 = get_meta(db, "next_row")?.unwrap_or(1);
    let watermark: i64 = get_meta(db, "watermark")?.unwrap_or(0);
    Ok((last + 1).max(reserved).max(watermark + 1))
}

fn lost_power(db: &Connection, config: &SqliteConfig) -> rusqlite::Result<bool> {
    let clean: bool = get_meta(db, "clean")?.unwrap_or(false);
    let synchronous: String = get_meta(db, "synchronous")?.unwrap_or_default();
    let boot: String = get_meta(db, "boot")?.unwrap_or_default();
    // Where the boot cannot be told, it may have been another one.
    let same_boot = config.boot_id().is_some_and(|now| now == boot);
    Ok(!clean && synchronous != Synchronous::Full.pragma() && !same_boot)
}

fn is_behind(mark: Option<Mark>, identity: [u8; 16], generation: u32, next_row: i64) -> bool {
    match mark {
        None => true,
        Some(mark) => mark.identity != identity || mark.generation > generation || mark.next_row > next_row,
    }
}

/// Says why opening failed.
pub(super) fn open_error(path: &Path, error: &rusqlite::Error) -> OpenError {
    let path = path.display().to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked { path },
        // Either may be about a file beside it; what to do is the same.
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::DiskFull) => {
            OpenError::NotWritable { path, reason: error.to_string() }
        }
        _ => OpenError::Failed { path, reason: error.to_string() },
    }
}
