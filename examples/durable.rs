//! What a durable event costs: the SQLite store against the barest thing SQLite can do, in the same run.
//!
//! ```sh
//! cargo run --release --example durable -- [rounds] [events]
//! ```
//!
//! 200-byte events of 1,000 sessions, `synchronous = normal`. The baseline inserts one plain row per event, 512 per transaction, from one
//! thread and with nothing around it. The store is asked the way the hub asks it: 1,000 tasks, each waiting for its append before the
//! next. Rounds alternate; the ratio is of the medians. Bytes are what the process handed to `write` (`wchar` in `/proc/self/io`)
//! up to and including a clean close, so the write-ahead log and its move into the database both count.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measuring program: it prints, and it stops at the first surprise")]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use agent_hub::store::{
    Append, Page, SessionRecord, Store,
    sqlite::{CommitHook, SqliteConfig, SqliteStore},
};
use agent_hub_protocol::{SessionId, Timestamp};
use bytes::Bytes;
use rusqlite::Connection;

const SESSIONS: usize = 1_000;
const EVENT_BYTES: usize = 200;
const BASELINE_BATCH: usize = 512;

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>().unwrap());
    let (rounds, events) = (args.next().unwrap_or(5), args.next().unwrap_or(1_000_000));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (mut raw, mut single, mut several) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        raw.push(measure(events, |dir| baseline(dir, events)));
        single.push(measure(events, |dir| on_worker(&runtime, dir, events, 1)));
        several.push(measure(events, |dir| on_worker(&runtime, dir, events, 16)));
    }
    let base = median(&raw, |round| round.rate);
    for (name, rounds) in
        [("plain rows, 512 a commit", &raw), ("store, 1 event an append", &single), ("store, 16 events an append", &several)]
    {
        let rate = median(rounds, |round| round.rate);
        println!(
            "{name:28} {:>9.0} events/s  {:.2} x  {:.2} us CPU  {:.2} bytes written per byte  {:.0} appends per commit",
            rate,
            rate / base,
            median(rounds, |round| round.cpu_us),
            median(rounds, |round| round.amplification),
            median(rounds, |round| round.per_commit),
        );
    }
    runtime.block_on(replay(events));
}

/// On the one worker of the runtime, as the hub's sessions are, and not on the thread that waits for it.
fn on_worker(runtime: &tokio::runtime::Runtime, dir: &Path, events: usize, per_append: usize) -> (Duration, f64) {
    let dir = dir.to_owned();
    runtime.block_on(runtime.spawn(async move { store(&dir, events, per_append).await })).unwrap()
}

/// One round.
struct Round {
    /// Appends that shared a commit.
    per_commit: f64,
    /// Events per second, while appending.
    rate: f64,
    /// Of all threads, per event, close included.
    cpu_us: f64,
    /// Bytes written per byte of event, close included.
    amplification: f64,
}

fn measure(events: usize, work: impl FnOnce(&Path) -> (Duration, f64)) -> Round {
    let dir = tempfile::tempdir_in(".").unwrap();
    let (written, cpu) = (written_bytes(), cpu_seconds());
    let (took, per_commit) = work(dir.path());
    Round {
        per_commit,
        rate: events as f64 / took.as_secs_f64(),
        cpu_us: (cpu_seconds() - cpu) * 1e6 / events as f64,
        amplification: (written_bytes() - written) as f64 / (events * EVENT_BYTES) as f64,
    }
}

fn baseline(dir: &Path, events: usize) -> (Duration, f64) {
    let db = Connection::open(dir.join("raw.db")).unwrap();
    db.pragma_update(None, "journal_mode", "WAL").unwrap();
    db.pragma_update(None, "synchronous", "NORMAL").unwrap();
    db.execute_batch("CREATE TABLE log (id INTEGER PRIMARY KEY, session INTEGER, seq INTEGER, data BLOB)").unwrap();
    let mut insert = db.prepare("INSERT INTO log (session, seq, data) VALUES (?1, ?2, ?3)").unwrap();
    let text = vec![b'x'; EVENT_BYTES];
    let started = Instant::now();
    for batch in 0..events.div_ceil(BASELINE_BATCH) {
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        for event in batch * BASELINE_BATCH..((batch + 1) * BASELINE_BATCH).min(events) {
            insert.execute(((event % SESSIONS) as i64, (event / SESSIONS) as i64, &text)).unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
    }
    let took = started.elapsed();
    drop(insert);
    db.close().unwrap();
    (took, BASELINE_BATCH as f64)
}

async fn store(dir: &Path, events: usize, per_append: usize) -> (Duration, f64) {
    let commits = Arc::new(AtomicUsize::new(0));
    let counted = commits.clone();
    let on_commit: CommitHook = Arc::new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let config = SqliteConfig { on_commit: Some(on_commit), ..SqliteConfig::new(dir.join("hub.db")) };
    let store = Arc::new(SqliteStore::open(config).unwrap());
    let sessions = create_sessions(&store).await;
    let text = Bytes::from(vec![b'x'; EVENT_BYTES]);
    let appends = events / SESSIONS / per_append;
    let started = Instant::now();
    let tasks: Vec<_> = sessions
        .into_iter()
        .map(|session| {
            let (store, text) = (store.clone(), text.clone());
            tokio::spawn(async move {
                for append in 0..appends {
                    let events = vec![text.clone(); per_append];
                    let expected = (append * per_append) as u64;
                    store.append(Append { session, expected, events, record: None, writes: vec![], audience: None }).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    // What does not divide evenly was not appended, so it must not count.
    let per_commit = (appends * SESSIONS) as f64 / commits.load(Ordering::Relaxed) as f64;
    let took = started.elapsed().mul_f64(events as f64 / (appends * per_append * SESSIONS) as f64);
    store.close().await.unwrap();
    (took, per_commit)
}

async fn create_sessions(store: &SqliteStore) -> Vec<SessionId> {
    let sessions: Vec<_> = (0..SESSIONS).map(|_| SessionId::random()).collect();
    let created = sessions.iter().map(|id| {
        let record = SessionRecord {
            id: *id,
            owner: "bench".into(),
            birth: 1,
            agent: "demo".into(),
            name: None,
            tags: vec![],
            task_count: 0,
            unfinished: 0,
            ended: false,
            had_socket: false,
            created_at: Timestamp::now(),
            updated_at: Timestamp::now(),
        };
        store.append(Append { session: *id, expected: 0, events: vec![], record: Some(record), writes: vec![], audience: None })
    });
    futures::future::try_join_all(created).await.unwrap();
    sessions
}

/// How long a store with a long log takes to open, after a clean stop and after a kill, and 1,000 events to come back.
async fn replay(events: usize) {
    let dir = tempfile::tempdir_in(".").unwrap();
    let copy = tempfile::tempdir_in(".").unwrap();
    let text = Bytes::from(vec![b'x'; EVENT_BYTES]);
    let store = SqliteStore::open(SqliteConfig::new(dir.path().join("hub.db"))).unwrap();
    let sessions = create_sessions(&store).await;
    for expected in 0..(events / SESSIONS) as u64 {
        let appends = sessions.iter().map(|session| {
            store.append(Append { session: *session, expected, events: vec![text.clone()], record: None, writes: vec![], audience: None })
        });
        futures::future::try_join_all(appends).await.unwrap();
    }
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    store.close().await.unwrap();
    for (what, dir) in [("clean", dir.path()), ("killed", copy.path())] {
        let started = Instant::now();
        let store = SqliteStore::open(SqliteConfig::new(dir.join("hub.db"))).unwrap();
        let opened = started.elapsed();
        let mut reads = Vec::new();
        for session in sessions.iter().take(100) {
            let started = Instant::now();
            let page = Page { events: 1_000, bytes: usize::MAX };
            let read = store.read(*session, 0, page).await.unwrap();
            assert_eq!(read.len(), 1_000.min(events / SESSIONS));
            reads.push(started.elapsed());
        }
        reads.sort();
        println!("{what:7} open {opened:?}; replay of {} events p50 {:?} max {:?}", 1_000.min(events / SESSIONS), reads[50], reads[99]);
        store.close().await.unwrap();
    }
}

fn median(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
}

/// User and system time of the process, in the kernel's ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}
