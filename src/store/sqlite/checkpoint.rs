//! Moves the write-ahead log into the database from a thread of its own, so that no commit pays for it.

use std::{
    io,
    sync::{Arc, atomic::Ordering, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::Connection;

use super::Shared;
use crate::store::jobs::Job;

/// Between two looks. Short enough that a burst's log stays in the tens of megabytes, long enough that pages written often move once.
const TICK: Duration = Duration::from_millis(250);

/// Ticks without a commit until the log's file is cut back.
const IDLE_TICKS: u32 = 8;

/// Ticks between two sweeps of expired entries: ten seconds.
const SWEEP_TICKS: u32 = 40;

/// Pages in the log from which on the writer is held up until it starts over: 256 MiB. Reached only when commits never pause.
const RESTART_PAGES: i64 = 65_536;

/// The thread; ends when this is dropped, joined by [`Checkpointer::stop`].
#[derive(Debug)]
pub(super) struct Checkpointer {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Checkpointer {
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(shared: Arc<Shared>, db: Connection) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new().name("store-checkpoint".into()).spawn(move || run(&shared, &db, &stopped))?;
        Ok(Self { stop, thread })
    }

    /// Waits until its connection is closed.
    pub(super) fn stop(self) {
        drop(self.stop);
        // An error means that it panicked, which was reported where it happened.
        let _ = self.thread.join();
    }
}

fn run(shared: &Shared, db: &Connection, stopped: &mpsc::Receiver<()>) {
    let (mut seen, mut idle, mut since_sweep) = (0, 0u32, 0);
    while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(TICK) {
        let commits = shared.commits.load(Ordering::Relaxed);
        if commits != seen {
            (seen, idle) = (commits, 0);
            report(passive(db));
        } else {
            idle = idle.saturating_add(1);
            if idle == IDLE_TICKS && seen != 0 {
                report(checkpoint(db, "TRUNCATE").map(drop));
            }
        }
        since_sweep += 1;
        if since_sweep == SWEEP_TICKS {
            since_sweep = 0;
            shared.writes.try_push(Job::Sweep);
        }
    }
}

fn passive(db: &Connection) -> rusqlite::Result<()> {
    let pages = checkpoint(db, "PASSIVE")?;
    if pages > RESTART_PAGES {
        checkpoint(db, "RESTART")?;
    }
    Ok(())
}

/// How many pages the log had.
pub(super) fn checkpoint(db: &Connection, mode: &str) -> rusqlite::Result<i64> {
    db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(1))
}

/// A checkpoint that fails loses nothing: the log keeps what it could not move, and the next tick tries again.
fn report(result: rusqlite::Result<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, "the write-ahead log could not be moved into the database; it is tried again");
    }
}
