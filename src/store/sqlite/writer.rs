//! The thread that writes: takes what waits, commits it, answers. Between commits it does its chores in small steps.

use std::{
    fs::File,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use agent_hub_protocol::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Shared,
    bundle::{self, Bundle},
    checkpoint::{Checkpointer, checkpoint},
    error::store_error,
    group::{Failure, Heads, Staged, Tables},
    index::{Extent, blob, write_extents},
    schema,
    sidecar::MarkFile,
};
use crate::store::{
    AppendError, StoreError,
    inbox::{Bound, Reply, Taken, lock},
    jobs::{Answer, Herald, Job, News},
};

/// One commit: large enough that its fixed cost vanishes, small enough that the first in it does not wait long.
const GROUP: Bound = Bound { jobs: 1_024, bytes: 4 * 1024 * 1024 };

/// The places of rows are written down after this many: rare enough to cost little (one page per session and time), often enough
/// that memory (16 bytes a row and more) and the scan at opening stay small.
const FLUSH_ROWS: usize = if cfg!(test) { 300 } else { 128 * 1024 };

/// As [`FLUSH_ROWS`], for large rows.
const FLUSH_BYTES: usize = 512 * 1024 * 1024;

/// Sessions whose rows are written down in one step: about a millisecond, which is what an append may find itself waiting for.
const FLUSH_STEP: usize = if cfg!(test) { 16 } else { 256 };

/// After a chore failed, before it is tried again.
const CHORE_PAUSE: Duration = Duration::from_secs(1);

/// The writing thread's own.
pub(super) struct Writer {
    shared: Arc<Shared>,
    mark: MarkFile,
    herald: Herald,
    next_row: i64,
    next_session: i64,
    chores: Chores,
}

/// What has to be done some time.
#[derive(Debug, Default)]
struct Chores {
    flush: Option<Flush>,
    /// There may be rows of erased sessions.
    garbage: bool,
    /// Rows of the last commit: the flush must not be slower than what comes in.
    pace: usize,
    not_before: Option<Instant>,
}

/// Writing down the places of rows up to one of them, session by session.
#[derive(Debug)]
struct Flush {
    until: i64,
    /// Still to do; taken from the end.
    sessions: Vec<i64>,
}

/// Who and what ends with the writer.
pub(super) struct Crew {
    pub(super) readers: Vec<JoinHandle<()>>,
    pub(super) checkpointer: Checkpointer,
    /// Released when everything else has ended.
    pub(super) lock: File,
}

impl Writer {
    /// # Errors
    /// When the database fails.
    pub(super) fn new(shared: Arc<Shared>, db: &Connection, mark: MarkFile, herald: Herald, next_row: i64) -> rusqlite::Result<Self> {
        // The number of an erased session is free only once its rows are gone.
        let last = "SELECT max((SELECT coalesce(max(num), 0) FROM sessions), (SELECT coalesce(max(session), 0) FROM garbage))";
        let next_session = db.query_row(last, [], |row| row.get::<_, i64>(0))? + 1;
        Ok(Self { shared, mark, herald, next_row, next_session, chores: Chores { garbage: true, ..Chores::default() } })
    }

    /// Works until the inbox closes or a job says so, then closes everything.
    pub(super) fn run(mut self, db: Connection, crew: Crew) {
        let shared = self.shared.clone();
        let on_exit = (shared.writes.close_on_exit(), shared.reads.close_on_exit());
        let closing = self.work(&db);
        let result = self.shut_down(db, crew);
        drop(on_exit);
        if let Some(reply) = closing {
            let _ = reply.send(result);
        }
    }

    fn work(&mut self, db: &Connection) -> Option<Reply<()>> {
        let shared = self.shared.clone();
        let insert = "INSERT INTO log (id, parts, data) VALUES (?1, ?2, ?3)";
        let insert_row = match db.prepare(insert) {
            Ok(statement) => statement,
            Err(error) => {
                tracing::error!(%error, "the store cannot write and closes");
                return None;
            }
        };
        let mut tables = Tables {
            db,
            insert_row,
            index: &shared.index,
            heads: Heads::default(),
            next_row: self.next_row,
            next_session: self.next_session,
            staged: Staged::default(),
            bundle: Bundle::default(),
            now: Timestamp::now(),
        };
        let mut jobs = Vec::new();
        loop {
            match shared.writes.take(GROUP, self.patience(), &mut jobs) {
                Taken::Jobs => {
                    if let Some(closing) = self.group(&mut tables, &mut jobs) {
                        return Some(closing);
                    }
                }
                Taken::Nothing => {}
                Taken::Closed => return None,
            }
            self.chore(&tables);
        }
    }

    /// Commits the jobs and answers them. Returns the reply of a closing job.
    fn group(&mut self, tables: &mut Tables<'_>, jobs: &mut Vec<Job>) -> Option<Reply<()>> {
        let started = Instant::now();
        tables.now = Timestamp::now();
        let mut closing = None;
        let mut answers = Vec::with_capacity(jobs.len());
        let mut failed = begin(tables.db).err();
        for job in jobs.drain(..) {
            let (answer, result) = match (job, &failed) {
                (Job::Close(reply), _) => {
                    closing = Some(reply);
                    continue;
                }
                (job, Some(_)) => (job.answer(), Ok(())),
                (job, None) => apply(job, tables),
            };
            let result = match result {
                Ok(()) => Ok(()),
                Err(Failure::One(error)) => Err(error),
                Err(Failure::All(error)) => {
                    failed = Some(error);
                    Ok(())
                }
            };
            answers.push((answer, result));
        }
        let failed = failed.or_else(|| finish(tables).err());
        let staged = tables.take_staged();
        match failed {
            None => self.publish(tables.next_row, &staged, started),
            Some(error) => {
                undo(tables);
                for (_, result) in &mut answers {
                    // Also in place of a conflict, which was with a head that does not exist.
                    *result = Err(AppendError::Store(error.clone()));
                }
            }
        }
        self.herald.give(answers);
        closing
    }

    /// Makes a commit known to readers.
    fn publish(&mut self, next_row: i64, staged: &Staged, started: Instant) {
        if !staged.rows.is_empty() {
            self.mark.advance(next_row);
        }
        self.next_row = next_row;
        self.chores.pace = staged.rows.len();
        self.chores.garbage |= !staged.erased.is_empty();
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        let mut index = lock(&self.shared.index);
        for (session, row) in &staged.rows {
            index.publish(*session, *row);
        }
        for session in &staged.erased {
            index.forget(*session);
        }
        index.bytes_since += staged.bytes;
        drop(index);
        if let Some(on_commit) = self.shared.config.on_commit.as_ref().filter(|_| staged.appends > 0) {
            on_commit(&staged.commit(started.elapsed()));
        }
    }

    /// How long to wait for jobs: not at all while there are chores.
    fn patience(&self) -> Option<Duration> {
        let chores = self.chores.flush.is_some() || self.chores.garbage;
        let pause = self.chores.not_before.map(|at| at.saturating_duration_since(Instant::now()));
        chores.then(|| pause.unwrap_or_default())
    }

    /// One step of what has to be done, in a transaction of its own, so that its failure is nobody else's.
    fn chore(&mut self, tables: &Tables<'_>) {
        if self.chores.not_before.is_some_and(|at| at > Instant::now()) {
            return;
        }
        self.chores.not_before = None;
        self.start_flush_if_due();
        let result = if self.chores.flush.is_some() {
            self.flush_step(tables.db)
        } else if self.chores.garbage {
            self.garbage_step(tables.db, tables.next_row)
        } else {
            Ok(())
        };
        if let Err(error) = result {
            // It is all still there to be done again: the log, the index in memory and the list of sessions are as before.
            roll_back(tables.db);
            self.chores.not_before = Some(Instant::now() + CHORE_PAUSE);
            tracing::warn!(%error, "the store could not tidy up; it is tried again");
        }
    }

    fn start_flush_if_due(&mut self) {
        if self.chores.flush.is_none() {
            let due = {
                let index = lock(&self.shared.index);
                index.rows_since >= FLUSH_ROWS || index.bytes_since >= FLUSH_BYTES
            };
            if due {
                self.start_flush();
            }
        }
    }

    fn start_flush(&mut self) {
        let mut index = lock(&self.shared.index);
        (index.rows_since, index.bytes_since) = (0, 0);
        self.chores.flush = Some(Flush { until: self.next_row - 1, sessions: index.sessions() });
    }

    /// Writes down the places of the rows of a few sessions; with the last of them the watermark.
    fn flush_step(&mut self, db: &Connection) -> Result<(), StoreError> {
        let Some(flush) = &mut self.chores.flush else { return Ok(()) };
        let left = flush.sessions.len().saturating_sub(self.chores.pace.max(FLUSH_STEP));
        begin(db)?;
        for session in &flush.sessions[left..] {
            let rows = lock(&self.shared.index).up_to(*session, flush.until);
            write_extents(db, *session, &rows).map_err(store_error)?;
        }
        if left == 0 {
            schema::set_meta(db, "watermark", flush.until).map_err(store_error)?;
        }
        commit(db)?;
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        let mut index = lock(&self.shared.index);
        for session in flush.sessions.drain(left..) {
            index.drop_up_to(session, flush.until);
        }
        drop(index);
        if left == 0 {
            self.chores.flush = None;
        }
        Ok(())
    }

    /// Takes away the rows that one extent of an erased session names.
    fn garbage_step(&mut self, db: &Connection, next_row: i64) -> Result<(), StoreError> {
        begin(db)?;
        let more = collect_garbage(db, next_row)?;
        commit(db)?;
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        self.chores.garbage = more;
        Ok(())
    }

    /// Writes down what was only in memory, ends the other threads, and closes the database with an empty write-ahead log.
    fn shut_down(&mut self, db: Connection, crew: Crew) -> Result<(), StoreError> {
        self.shared.reads.close();
        for reader in crew.readers {
            // An error means that it panicked, which was reported where it happened.
            let _ = reader.join();
        }
        crew.checkpointer.stop();
        let result = self.leave_clean(&db);
        if let Err(error) = &result {
            roll_back(&db);
            tracing::warn!(%error, "the store could not be closed cleanly; the next start reads a little more");
        }
        let closed = db.close().map_err(|(_, error)| store_error(error));
        drop(crew.lock);
        result.and(closed)
    }

    fn leave_clean(&mut self, db: &Connection) -> Result<(), StoreError> {
        while self.chores.flush.is_some() {
            self.flush_step(db)?;
        }
        self.start_flush();
        while self.chores.flush.is_some() {
            self.flush_step(db)?;
        }
        schema::set_synchronous(db, super::Synchronous::Full).map_err(store_error)?;
        schema::set_meta(db, "clean", true).map_err(store_error)?;
        checkpoint(db, "TRUNCATE").map_err(store_error)?;
        Ok(())
    }
}

fn apply(job: Job, tables: &mut Tables<'_>) -> (Answer, Result<(), Failure>) {
    match job {
        Job::Append(append, reply) => {
            let result = tables.append(&append);
            (Answer::Append(reply, News::of(append.audience, append.expected, append.events)), result)
        }
        Job::Write(writes, reply) => (Answer::Plain(reply), tables.guarded(|tables| tables.write(&writes))),
        Job::Erase(erasure, reply) => (Answer::Plain(reply), tables.guarded(|tables| tables.erase(&erasure))),
        Job::Probe(reply) => (Answer::Plain(reply), tables.probe()),
        Job::Sweep => (Answer::Nobody, tables.sweep()),
        Job::Close(reply) => (Answer::Plain(reply), Ok(())),
    }
}

fn begin(db: &Connection) -> Result<(), StoreError> {
    db.prepare_cached("BEGIN IMMEDIATE").and_then(|mut begin| begin.execute([])).map(drop).map_err(store_error)
}

fn commit(db: &Connection) -> Result<(), StoreError> {
    db.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])).map(drop).map_err(store_error)
}

/// Writes the last row and commits.
fn finish(tables: &mut Tables<'_>) -> Result<(), StoreError> {
    match tables.end_row() {
        Ok(()) => commit(tables.db),
        Err(Failure::All(error) | Failure::One(AppendError::Store(error))) => Err(error),
        Err(Failure::One(other)) => Err(StoreError::Failed(other.to_string())),
    }
}

/// Forgets a transaction that did not happen; heads are read again from what did.
fn undo(tables: &mut Tables<'_>) {
    roll_back(tables.db);
    tables.heads.clear();
    tables.bundle.clear();
}

fn roll_back(db: &Connection) {
    // Some errors end the transaction by themselves.
    if !db.is_autocommit()
        && let Err(error) = db.execute_batch("ROLLBACK")
    {
        tracing::error!(%error, "a transaction could not be rolled back");
    }
}

/// Whether there may be more.
fn collect_garbage(db: &Connection, next_row: i64) -> Result<bool, StoreError> {
    let one = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).optional().map_err(store_error);
    let Some(session) = one("SELECT session FROM garbage LIMIT 1")? else { return Ok(false) };
    let extent = db
        .prepare_cached("SELECT first, data FROM extents WHERE session = ?1 ORDER BY first LIMIT 1")
        .and_then(|mut first| first.query_row([session], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))).optional())
        .map_err(store_error)?;
    let Some((first, data)) = extent else {
        db.prepare_cached("DELETE FROM garbage WHERE session = ?1").and_then(|mut end| end.execute([session])).map_err(store_error)?;
        return Ok(true);
    };
    // An extent that cannot be read is given up together with the space its rows take: nobody can reach them any more.
    let rows = Extent::decode(session, first.cast_unsigned(), &data).map(|extent| extent.rows).unwrap_or_default();
    for row in rows {
        take_out(db, row.id, session)?;
    }
    db.prepare_cached("DELETE FROM extents WHERE session = ?1 AND first = ?2")
        .and_then(|mut delete| delete.execute([session, first]))
        .map_err(store_error)?;
    // The log may have lost its last rows; their numbers must not be used again, or the mark would seem to be ahead.
    schema::set_meta(db, "next_row", next_row).map_err(store_error)?;
    Ok(true)
}

/// Takes a session's events out of a row, and the row away if nothing is left of it.
fn take_out(db: &Connection, row: i64, session: i64) -> Result<(), StoreError> {
    let left = {
        let mut find = db.prepare_cached("SELECT parts, data FROM log WHERE id = ?1").map_err(store_error)?;
        let mut found = find.query([row]).map_err(store_error)?;
        let Some(found) = found.next().map_err(store_error)? else { return Ok(()) };
        bundle::without(row, blob(found, 0)?, blob(found, 1)?, session)
    };
    match left {
        // A damaged row stays as it is: it may hold events of others, who are to be told so.
        Err(_) => Ok(()),
        Ok(left) if left.is_empty() => {
            db.prepare_cached("DELETE FROM log WHERE id = ?1").and_then(|mut delete| delete.execute([row])).map(drop).map_err(store_error)
        }
        Ok(mut left) => {
            let (parts, data) = left.seal(row);
            let mut update = db.prepare_cached("UPDATE log SET parts = ?2, data = ?3 WHERE id = ?1").map_err(store_error)?;
            update.execute(params![row, parts, data]).map(drop).map_err(store_error)
        }
    }
}
