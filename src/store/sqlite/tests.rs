//! What only this store promises: how it survives crashes, damage and full disks, and when epochs change.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use agent_hub_protocol::{Epoch, SessionId, Timestamp};
use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use rusqlite::Connection;

use super::{Commit, SqliteConfig, SqliteStore, SqliteView, Synchronous, sidecar::beside};
use crate::store::{
    Append, AppendError, OpenError, SessionRecord, SharedStore, Space, StoreError, View, Write,
    suite::{ALL, Dice, creation, events, record, seqs, text},
};

fn config(dir: &Path) -> SqliteConfig {
    SqliteConfig { boot_id: Some("boot 1".into()), ..SqliteConfig::new(dir.join("hub.db")) }
}

fn open(dir: &Path) -> SharedStore {
    Arc::new(SqliteStore::open(config(dir)).unwrap())
}

/// Everything in the directory as it is now, the way a kill would leave it.
fn copy(dir: &Path) -> tempfile::TempDir {
    // In memory where possible: hundreds of copies are opened, and each opening syncs.
    let copy = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    for file in fs::read_dir(dir).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

async fn epoch(store: &SharedStore, id: SessionId) -> Epoch {
    store.open_session(id).await.unwrap().unwrap().epoch
}

/// A store with some sessions of several lengths, on both sides of the watermark.
async fn filled(store: &SharedStore) -> Vec<(SessionId, u64)> {
    let ids: Vec<_> = (0..30).map(|_| SessionId::random()).collect();
    try_join_all(ids.iter().map(|id| store.append(creation(*id, 1)))).await.unwrap();
    for head in 1..30 {
        let appends = ids.iter().enumerate().filter(|(n, _)| *n as u64 + 1 > head).map(|(_, id)| store.append(events(*id, head, 1)));
        try_join_all(appends).await.unwrap();
    }
    ids.into_iter().enumerate().map(|(n, id)| (id, n as u64 + 1)).collect()
}

#[tokio::test]
async fn a_kill_at_any_commit_loses_nothing_that_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let ids: Vec<_> = (0..25).map(|_| SessionId::random()).collect();
    try_join_all(ids.iter().map(|id| store.append(creation(*id, 1)))).await.unwrap();
    let mut epochs = vec![epoch(&store, ids[0]).await];
    for head in 1..40 {
        try_join_all(ids.iter().map(|id| store.append(events(*id, head, 1)))).await.unwrap();
        let copy = copy(dir.path());
        let killed = open(copy.path());
        for id in &ids {
            assert_eq!(seqs(&killed, *id, 0, ALL).await, (1..=head + 1).collect::<Vec<_>>());
        }
        epochs.push(epoch(&killed, ids[0]).await);
        killed.append(events(ids[3], head + 1, 2)).await.unwrap();
    }
    epochs.dedup();
    assert_eq!(epochs.len(), 1, "nothing was lost, so nobody has to start over");
}

#[tokio::test]
async fn a_second_opening_is_refused_also_by_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = dir.path().join("link.db");
    std::os::unix::fs::symlink(dir.path().join("hub.db"), &link).unwrap();
    for path in [dir.path().join("hub.db"), link] {
        let second = SqliteStore::open(SqliteConfig::new(path));
        assert!(matches!(second, Err(OpenError::Locked { .. })), "{second:?}");
    }
    drop(store);
    open(dir.path());
    // Another program that is writing.
    let other = Connection::open(dir.path().join("hub.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE; DELETE FROM meta WHERE key = 'none'").unwrap();
    let second = SqliteStore::open(config(dir.path()));
    assert!(matches!(second, Err(OpenError::Locked { .. })), "{second:?}");
}

#[tokio::test]
async fn newer_and_foreign_databases_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let db = Connection::open(dir.path().join("hub.db")).unwrap();
    db.pragma_update(None, "user_version", 77).unwrap();
    db.close().unwrap();
    let opened = SqliteStore::open(config(dir.path()));
    assert!(matches!(opened, Err(OpenError::TooNew { found: 77, .. })), "{opened:?}");

    let foreign = dir.path().join("foreign.db");
    let db = Connection::open(&foreign).unwrap();
    db.execute_batch("CREATE TABLE theirs (x)").unwrap();
    db.close().unwrap();
    let before = fs::read(&foreign).unwrap();
    assert!(matches!(SqliteStore::open(SqliteConfig::new(&foreign)), Err(OpenError::Failed { .. })));
    assert_eq!(fs::read(&foreign).unwrap(), before);

    let text = dir.path().join("notes.txt");
    fs::write(&text, "this is not a database at all, but a longer text of somebody").unwrap();
    assert!(matches!(SqliteStore::open(SqliteConfig::new(&text)), Err(OpenError::Failed { .. })));
}

#[tokio::test]
async fn epochs_change_when_the_end_may_be_lost_and_only_then() {
    struct Case {
        synchronous: Synchronous,
        clean: bool,
        other_boot: bool,
        changes: bool,
    }
    for case in [
        Case { synchronous: Synchronous::Normal, clean: false, other_boot: true, changes: true },
        Case { synchronous: Synchronous::Normal, clean: false, other_boot: false, changes: false },
        Case { synchronous: Synchronous::Normal, clean: true, other_boot: true, changes: false },
        Case { synchronous: Synchronous::Full, clean: false, other_boot: true, changes: false },
    ] {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(SqliteConfig { synchronous: case.synchronous, ..config(dir.path()) }).unwrap();
        let store: SharedStore = Arc::new(store);
        let id = SessionId::random();
        store.append(creation(id, 3)).await.unwrap();
        let before = epoch(&store, id).await;
        let killed = copy(dir.path());
        store.close().await.unwrap();
        let dir = if case.clean { dir } else { killed };
        let boot = if case.other_boot { "boot 2" } else { "boot 1" };
        let again =
            || -> SharedStore { Arc::new(SqliteStore::open(SqliteConfig { boot_id: Some(boot.into()), ..config(dir.path()) }).unwrap()) };
        let store = again();
        assert_eq!(seqs(&store, id, 0, ALL).await, [1, 2, 3]);
        let after = epoch(&store, id).await;
        assert_eq!(after != before, case.changes);
        drop(store);
        assert_eq!(epoch(&again(), id).await, after, "only once");
    }
}

#[tokio::test]
async fn a_restored_backup_is_another_incarnation_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let id = SessionId::random();
    store.append(creation(id, 3)).await.unwrap();
    let mut epochs = vec![epoch(&store, id).await];
    store.close().await.unwrap();
    let backup = fs::read(dir.path().join("hub.db")).unwrap();
    for restored in 0..3 {
        // The database alone, as backups are made of it.
        fs::write(dir.path().join("hub.db"), &backup).unwrap();
        let store = open(dir.path());
        assert_eq!(seqs(&store, id, 0, ALL).await, [1, 2, 3]);
        epochs.push(epoch(&store, id).await);
        store.append(events(id, 3, 2 + restored)).await.unwrap();
        store.close().await.unwrap();
    }
    // The first one brought back exactly what was there; after that something was always lost.
    assert_eq!(epochs[0], epochs[1]);
    epochs.dedup();
    assert_eq!(epochs.len(), 3);
    // A mark that cannot be read, or none, might hide a loss.
    for damage in [&b"nonsense"[..], b""] {
        let mark = beside(&dir.path().join("hub.db"), "-mark");
        if damage.is_empty() {
            fs::remove_file(&mark).unwrap()
        } else {
            fs::write(&mark, damage).unwrap()
        }
        let store = open(dir.path());
        let now = epoch(&store, id).await;
        assert!(!epochs.contains(&now));
        epochs.push(now);
    }
}

/// What was answered is there, or the epoch says that it may not be, or calls fail. Never anything else.
async fn check_survivor(dir: &Path, sessions: &[(SessionId, u64)], before: &Epoch) -> &'static str {
    let Ok(store) = SqliteStore::open(config(dir)) else { return "refused" };
    let store: SharedStore = Arc::new(store);
    let mut fared = "whole";
    for (id, head) in sessions {
        let (Ok(stored), Ok(read)) = (store.open_session(*id).await, store.read(*id, 0, ALL).await) else {
            fared = "failed";
            continue;
        };
        for (n, event) in read.iter().enumerate() {
            assert_eq!((event.seq, &event.text), (n as u64 + 1, &text(n as u64 + 1)), "not what was written");
        }
        let whole = stored.as_ref().is_some_and(|stored| stored.head == *head) && read.len() as u64 == *head;
        if !whole {
            assert!(stored.is_none_or(|stored| stored.epoch != *before), "lost without a word");
            fared = "said so";
        }
    }
    fared
}

#[tokio::test]
async fn a_damaged_write_ahead_log_is_never_believed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let sessions = filled(&store).await;
    let before = epoch(&store, sessions[0].0).await;
    let killed = copy(dir.path());
    drop(store);
    let log = PathBuf::from("hub.db-wal");
    let whole = fs::read(killed.path().join(&log)).unwrap();
    let mut dice = Dice::new(3);
    let mut fared = Vec::new();
    for round in 0..250 {
        let copy = copy(killed.path());
        let at = dice.roll(whole.len() as u64) as usize;
        let mut bad = whole.clone();
        if round % 2 == 0 {
            bad.truncate(at);
        } else {
            bad[at] ^= 1 << dice.roll(8);
        }
        fs::write(copy.path().join(&log), bad).unwrap();
        let shm = copy.path().join("hub.db-shm");
        // Gone after a restart of the machine, there after a kill.
        if round % 3 == 0 {
            fs::remove_file(shm).unwrap();
        }
        fared.push(check_survivor(copy.path(), &sessions, &before).await);
    }
    assert!(fared.contains(&"said so"), "{fared:?}");
}

/// Commits one by one, and what a store holds after each. Each commit is one append: events, record and a counter.
struct History {
    ids: Vec<SessionId>,
    /// Of each session, after so many commits.
    heads: Vec<Vec<u64>>,
}

impl History {
    fn new(sessions: usize) -> Self {
        Self { ids: (0..sessions).map(|_| SessionId::random()).collect(), heads: vec![vec![0; sessions]] }
    }

    async fn commit(&mut self, store: &SharedStore, session: usize, count: u64) {
        let mut heads = self.heads[self.heads.len() - 1].clone();
        let (id, head) = (self.ids[session], heads[session]);
        heads[session] += count;
        let record = SessionRecord { task_count: heads[session] as u32, ..record(id, "ann", 1) };
        let writes = vec![Write::Add { space: Space::Usage, key: "u".into(), by: 1, expires_at: None }];
        store.append(Append { record: Some(record), writes, ..events(id, head, count) }).await.unwrap();
        self.heads.push(heads);
    }

    /// How many commits are there: all of each, and none behind one that is not.
    async fn whole_commits(&self, store: &SharedStore) -> usize {
        let counter = store.get(Space::Usage, "u".into()).await.unwrap();
        let commits: usize = counter.map_or(0, |text| std::str::from_utf8(&text).unwrap().parse().unwrap());
        for (id, head) in self.ids.iter().zip(&self.heads[commits]) {
            let stored = store.open_session(*id).await.unwrap();
            assert_eq!(stored.map(|stored| (stored.head, u64::from(stored.record.task_count))), (*head > 0).then_some((*head, *head)));
            assert_eq!(seqs(store, *id, 0, ALL).await, (1..=*head).collect::<Vec<_>>(), "after {commits} commits");
        }
        commits
    }
}

/// Keeps the checkpointer from moving anything behind this moment: what is in the write-ahead log stays there, and nowhere else.
fn hold_back_checkpoints(dir: &Path) -> Connection {
    let reader = Connection::open(dir.join("hub.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM meta").unwrap();
    reader
}

/// What a loss of power does to the end of a file of which the last part was not synced.
fn lose_power(file: &[u8], synced: usize, dice: &mut Dice) -> Vec<u8> {
    let from = synced + dice.roll((file.len() - synced) as u64) as usize;
    let mut left = file.to_vec();
    match dice.roll(3) {
        0 => left.truncate(from),
        // The length was written down and the bytes were not.
        1 => left[from..].fill(0),
        // A page in the middle was not, those behind it were.
        _ => {
            let to = (from + 4096).min(left.len());
            left[from..to].fill(0);
        }
    }
    left
}

#[tokio::test]
async fn a_loss_of_power_leaves_whole_commits_without_a_gap_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let reader = hold_back_checkpoints(dir.path());
    let mut history = History::new(6);
    history.commit(&store, 0, 1).await;
    let before = epoch(&store, history.ids[0]).await;
    let mark = fs::read(beside(&dir.path().join("hub.db"), "-mark")).unwrap();
    // The first commit is synced, say.
    let log = beside(&dir.path().join("hub.db"), "-wal");
    let synced = fs::metadata(&log).unwrap().len() as usize;
    let mut dice = Dice::new(17);
    // Enough that the places of rows are written down in the middle of it.
    while history.heads.len() <= 400 {
        history.commit(&store, dice.roll(6) as usize, 1 + dice.roll(4)).await;
    }
    let killed = copy(dir.path());
    drop(reader);
    let whole = fs::read(killed.path().join("hub.db-wal")).unwrap();
    let mut found = Vec::new();
    for round in 0..100 {
        let copy = copy(killed.path());
        fs::remove_file(copy.path().join("hub.db-shm")).unwrap();
        fs::write(copy.path().join("hub.db-wal"), lose_power(&whole, synced, &mut dice)).unwrap();
        // Neither was the mark.
        match round % 3 {
            0 => {}
            1 => fs::write(copy.path().join("hub.db-mark"), &mark).unwrap(),
            _ => fs::write(copy.path().join("hub.db-mark"), vec![0; mark.len()]).unwrap(),
        }
        let after_boot = || SqliteConfig { boot_id: Some("boot 2".into()), ..config(copy.path()) };
        let store: SharedStore = Arc::new(SqliteStore::open(after_boot()).unwrap());
        let commits = history.whole_commits(&store).await;
        assert!(commits >= 1, "what was synced is there");
        let after = epoch(&store, history.ids[0]).await;
        assert_ne!(after, before, "nobody may go on from what may be lost");
        store.append(events(history.ids[0], history.heads[commits][0], 2)).await.unwrap();
        drop(store);
        let store: SharedStore = Arc::new(SqliteStore::open(after_boot()).unwrap());
        assert_eq!(store.open_session(history.ids[0]).await.unwrap().unwrap().head, history.heads[commits][0] + 2);
        assert_eq!(epoch(&store, history.ids[0]).await, after);
        found.push(commits);
    }
    found.sort_unstable();
    found.dedup();
    assert!(found.len() > 30, "{found:?}");
}

#[tokio::test]
async fn with_every_commit_synced_a_loss_of_power_takes_only_what_was_not_answered() {
    let dir = tempfile::tempdir().unwrap();
    let full = |dir: &Path, boot: &str| -> SharedStore {
        let config = SqliteConfig { synchronous: Synchronous::Full, boot_id: Some(boot.into()), ..config(dir) };
        Arc::new(SqliteStore::open(config).unwrap())
    };
    let store = full(dir.path(), "boot 1");
    let _reader = hold_back_checkpoints(dir.path());
    let mut history = History::new(3);
    let mut dice = Dice::new(5);
    for commit in 0..20 {
        history.commit(&store, commit % 3, 3).await;
    }
    let before = epoch(&store, history.ids[0]).await;
    let answered = copy(dir.path());
    let synced = fs::metadata(answered.path().join("hub.db-wal")).unwrap().len() as usize;
    // Several pages, so that there is much to be cut off in.
    history.commit(&store, 1, 2_000).await;
    let whole = fs::read(dir.path().join("hub.db-wal")).unwrap();
    for _ in 0..60 {
        let copy = copy(answered.path());
        fs::remove_file(copy.path().join("hub.db-shm")).unwrap();
        fs::write(copy.path().join("hub.db-wal"), lose_power(&whole, synced, &mut dice)).unwrap();
        let store = full(copy.path(), "boot 2");
        let commits = history.whole_commits(&store).await;
        assert!([20, 21].contains(&commits), "{commits}");
        assert_eq!(epoch(&store, history.ids[0]).await, before, "nothing that was answered is lost, so nobody starts over");
    }
}

#[tokio::test]
async fn flipped_bits_in_the_database_are_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let sessions = filled(&store).await;
    let before = epoch(&store, sessions[0].0).await;
    store.close().await.unwrap();
    let whole = fs::read(dir.path().join("hub.db")).unwrap();
    let mut dice = Dice::new(11);
    let mut fared = Vec::new();
    for _ in 0..250 {
        let copy = copy(dir.path());
        let mut bad = whole.clone();
        for _ in 0..8 {
            bad[dice.roll(whole.len() as u64) as usize] ^= 1 << dice.roll(8);
        }
        fs::write(copy.path().join("hub.db"), bad).unwrap();
        let found = complaints(copy.path());
        let fares = check_events(copy.path(), &sessions, &before).await;
        assert!(found > 0 || fares == "whole", "{fares}, and a check finds nothing");
        fared.push(fares);
    }
    assert!(fared.contains(&"failed"), "{fared:?}");
}

/// As [`check_survivor`], but a session may be missing: no checksum covers what finds it by its id. `agent-hub check` says so, as it says
/// of every other damage that somebody could notice.
async fn check_events(dir: &Path, sessions: &[(SessionId, u64)], before: &Epoch) -> &'static str {
    let Ok(store) = SqliteStore::open(config(dir)) else { return "refused" };
    let store: SharedStore = Arc::new(store);
    let mut fared = "whole";
    for (id, head) in sessions {
        match (store.open_session(*id).await, store.read(*id, 0, ALL).await) {
            (Ok(Some(stored)), Ok(read)) => {
                for (n, event) in read.iter().enumerate() {
                    assert_eq!((event.seq, &event.text), (n as u64 + 1, &text(n as u64 + 1)), "not what was written");
                }
                assert!(read.len() as u64 == *head || stored.epoch != *before, "lost without a word");
            }
            (Ok(None), _) => fared = "hidden",
            _ => fared = "failed",
        }
    }
    fared
}

/// How much a check finds wrong, looking from outside.
fn complaints(dir: &Path) -> usize {
    let mut found = 0;
    match SqliteView::open(&dir.join("hub.db")) {
        Ok(mut view) => found += usize::from(view.check(&mut |_| found += 1).is_err()),
        Err(_) => found += 1,
    }
    found
}

#[tokio::test]
async fn a_full_store_says_so_and_works_again_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let store: SharedStore = Arc::new(SqliteStore::open(SqliteConfig { max_bytes: Some(1 << 20), ..config(dir.path()) }).unwrap());
    full_then_room(&store).await;
}

#[tokio::test]
async fn a_full_disk_says_so_and_works_again_once_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = open(disk.0.path());
    full_then_room_on(&store, Some(disk.0.path())).await;
    store.close().await.unwrap();
}

async fn full_then_room(store: &SharedStore) {
    full_then_room_on(store, None).await;
}

/// Fills the store until it refuses, makes room (by erasing, or by taking away a file beside it), and goes on.
async fn full_then_room_on(store: &SharedStore, disk: Option<&Path>) {
    let (big, kept) = (SessionId::random(), SessionId::random());
    let ballast = disk.map(|disk| disk.join("ballast"));
    if let Some(ballast) = &ballast {
        fs::write(ballast, vec![1; 4 << 20]).unwrap();
    }
    store.append(creation(big, 0)).await.unwrap();
    store.append(creation(kept, 2)).await.unwrap();
    let large = Bytes::from(vec![b'x'; 50_000]);
    let mut head = 0;
    let error = loop {
        let append = Append { session: big, expected: head, events: vec![large.clone()], record: None, writes: vec![], audience: None };
        match store.append(append).await {
            Ok(()) => head += 1,
            Err(error) => break error,
        }
        assert!(head < 1_000, "it never got full");
    };
    assert!(matches!(&error, AppendError::Store(StoreError::NotWritable(_))), "{error:?}");
    // Reading goes on, and the head is what was answered.
    assert_eq!(seqs(store, kept, 0, ALL).await, [1, 2]);
    assert_eq!(store.open_session(big).await.unwrap().unwrap().head, head);
    match ballast {
        Some(ballast) => fs::remove_file(ballast).unwrap(),
        None => store.erase(big, "ann".into(), vec![], Timestamp::from_millis(1)).await.unwrap(),
    }
    // Erased rows go a few at a time, after the answer.
    let mut tries = 0;
    while let Err(error) = store.append(events(kept, 2, 500)).await {
        assert!(matches!(error, AppendError::Store(StoreError::NotWritable(_))), "{error:?}");
        tries += 1;
        assert!(tries < 1_000, "it never worked again");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(seqs(store, kept, 0, ALL).await.len(), 502);
    if disk.is_some() {
        assert_eq!(store.read(big, 0, ALL).await.unwrap().len() as u64, head);
    }
}

/// 8 MiB of memory as a file system; gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(dir.path()).output();
        match mount {
            Ok(done) if done.status.success() => Some(Self(dir)),
            refused => {
                eprintln!("SKIPPED: a small disk needs the right to mount: {refused:?}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[tokio::test]
async fn commits_are_shared_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let counts: Arc<[AtomicUsize; 4]> = Arc::default();
    let counted = counts.clone();
    let on_commit = move |commit: &Commit| {
        for (count, by) in counted.iter().zip([1, commit.appends, commit.events, usize::from(commit.bytes > 0)]) {
            count.fetch_add(by, Ordering::Relaxed);
        }
    };
    let config = SqliteConfig { on_commit: Some(Arc::new(on_commit)), ..config(dir.path()) };
    let store: SharedStore = Arc::new(SqliteStore::open(config).unwrap());
    let ids: Vec<_> = (0..300).map(|_| SessionId::random()).collect();
    let results = join_all(ids.iter().map(|id| store.append(creation(*id, 2))).chain([store.append(events(ids[0], 9, 1))])).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 300);
    store.probe().await.unwrap();
    let [commits, appends, events, with_bytes] = [0, 1, 2, 3].map(|n| counts[n].load(Ordering::Relaxed));
    assert_eq!((appends, events), (300, 600), "the refused one does not count");
    assert!(commits < 300 && with_bytes == commits, "{commits}");
}

#[tokio::test]
async fn rows_of_erased_sessions_go_away_and_their_numbers_do_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let sessions = filled(&store).await;
    let before = epoch(&store, sessions[0].0).await;
    let (kept, erased) = (sessions[0], &sessions[1..]);
    for (id, _) in erased {
        store.erase(*id, "ann".into(), vec![], Timestamp::from_millis(1)).await.unwrap();
    }
    store.close().await.unwrap();
    // Whatever was left over is taken away after the next opening.
    let rows = || -> i64 {
        let db = Connection::open(dir.path().join("hub.db")).unwrap();
        db.query_row("SELECT (SELECT count(*) FROM log) + (SELECT count(*) FROM extents) + (SELECT count(*) FROM garbage)", [], |row| {
            row.get(0)
        })
        .unwrap()
    };
    let mut tries = 0;
    while rows() > 2 {
        let store = open(dir.path());
        assert_eq!(epoch(&store, kept.0).await, before, "erasing the last rows does not look like losing them");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        store.close().await.unwrap();
        tries += 1;
        assert!(tries < 200, "{} rows are still there", rows());
    }
    let store = open(dir.path());
    store.append(events(kept.0, 1, 1)).await.unwrap();
    assert_eq!(seqs(&store, kept.0, 0, ALL).await, [1, 2]);
}
