//! What only this store promises: how it survives crashes and damage.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{fs, path::Path, sync::Arc};

use agent_hub_protocol::{SessionId, Timestamp};
use bytes::Bytes;

use super::{FileConfig, FileStore, FsyncPolicy};
use crate::store::{
    Append, AppendError, OpenError, SessionFilter, SharedStore, Space, StoreError, Write,
    suite::{ALL, Dice, creation, events, seqs, text},
};

fn open(dir: &Path) -> SharedStore {
    Arc::new(FileStore::open(config(dir)).unwrap())
}

fn config(dir: &Path) -> FileConfig {
    FileConfig { boot_id: Some("boot 1".into()), ..FileConfig::new(dir) }
}

fn add(by: i64) -> Write {
    Write::Add { space: Space::Usage, key: "u".into(), by, expires_at: None }
}

async fn counter(store: &SharedStore) -> Option<Bytes> {
    store.get(Space::Usage, "u".into()).await.unwrap()
}

fn copy(from: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["journal", "sessions"] {
        let from = from.join(name);
        if from.is_dir() {
            fs::create_dir(copy.path().join(name)).unwrap();
            for file in fs::read_dir(from).unwrap() {
                let file = file.unwrap();
                fs::copy(file.path(), copy.path().join(name).join(file.file_name())).unwrap();
            }
        } else {
            fs::copy(from, copy.path().join(name)).unwrap();
        }
    }
    copy
}

#[tokio::test]
async fn a_frame_cut_off_at_any_byte_is_gone_as_a_whole_and_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let id = SessionId::random();
    let path = |dir: &Path| dir.join("sessions").join(format!("{id}.log"));
    store.append(Append { writes: vec![add(1)], ..creation(id, 2) }).await.unwrap();
    let whole_before = fs::metadata(path(dir.path())).unwrap().len();
    store.append(Append { writes: vec![add(5)], ..events(id, 2, 3) }).await.unwrap();
    let before = store.open_session(id).await.unwrap().unwrap().epoch;
    let whole = fs::read(path(dir.path())).unwrap();
    let killed = copy(dir.path());
    for length in whole_before..=whole.len() as u64 {
        let copy = copy(killed.path());
        fs::write(path(copy.path()), &whole[..length as usize]).unwrap();
        let store = open(copy.path());
        let stored = store.open_session(id).await.unwrap().unwrap();
        let (head, count) = if length == whole.len() as u64 { (5, "6") } else { (2, "1") };
        assert_eq!(stored.head, head, "cut at {length}");
        assert_eq!(counter(&store).await.unwrap(), count);
        assert_eq!(seqs(&store, id, 0, ALL).await, (1..=head).collect::<Vec<_>>());
        let torn = length != whole_before && length != whole.len() as u64;
        assert_eq!(stored.epoch != before, torn, "cut at {length}");
        // It goes on from there, and the epoch stays.
        store.append(events(id, head, 1)).await.unwrap();
        drop(store);
        let store = open(copy.path());
        assert_eq!(seqs(&store, id, 0, ALL).await, (1..=head + 1).collect::<Vec<_>>());
        assert_eq!(store.open_session(id).await.unwrap().unwrap().epoch, stored.epoch);
    }
}

#[tokio::test]
async fn a_session_whose_making_was_cut_off_never_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let id = SessionId::random();
    let path = |dir: &Path| dir.join("sessions").join(format!("{id}.log"));
    store.append(creation(id, 2)).await.unwrap();
    let whole = fs::read(path(dir.path())).unwrap();
    let killed = copy(dir.path());
    for length in 0..whole.len() {
        let copy = copy(killed.path());
        fs::write(path(copy.path()), &whole[..length]).unwrap();
        let store = open(copy.path());
        assert_eq!(store.open_session(id).await.unwrap(), None, "cut at {length}");
        store.append(creation(id, 3)).await.unwrap();
        assert_eq!(seqs(&store, id, 0, ALL).await, [1, 2, 3]);
    }
}

#[tokio::test]
async fn a_flipped_bit_is_damage_of_that_session_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (id, other) = (SessionId::random(), SessionId::random());
    let path = |dir: &Path| dir.join("sessions").join(format!("{id}.log"));
    store.append(creation(id, 2)).await.unwrap();
    store.append(events(id, 2, 1)).await.unwrap();
    let last_frame = fs::metadata(path(dir.path())).unwrap().len() as usize;
    store.append(Append { writes: vec![add(1)], ..events(id, 3, 1) }).await.unwrap();
    store.append(creation(other, 1)).await.unwrap();
    let before = store.open_session(id).await.unwrap().unwrap().epoch;
    let whole = fs::read(path(dir.path())).unwrap();
    let killed = copy(dir.path());
    for at in 0..whole.len() {
        let copy = copy(killed.path());
        let mut bad = whole.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(path(copy.path()), &bad).unwrap();
        let store = open(copy.path());
        assert_eq!(seqs(&store, other, 0, ALL).await, [1]);
        match store.open_session(id).await {
            Err(StoreError::Damaged(_)) => {
                assert!(matches!(store.read(id, 0, ALL).await, Err(StoreError::Damaged(_))));
                let append = store.append(events(id, 4, 1)).await;
                assert!(matches!(append, Err(AppendError::Store(StoreError::Damaged(_)))), "{append:?}");
            }
            // In the last frame it cannot be told from a write that a loss of power spoiled: cut off, and said so.
            Ok(Some(stored)) => {
                assert!(at >= last_frame, "flipped at {at}");
                assert_eq!(stored.head, 3);
                assert_ne!(stored.epoch, before);
                assert_eq!(seqs(&store, id, 0, ALL).await, [1, 2, 3]);
            }
            result => panic!("flipped at {at}: {result:?}"),
        }
    }
    // While it is open.
    let mut bad = whole.clone();
    bad[last_frame - 3] ^= 4;
    fs::write(path(dir.path()), &bad).unwrap();
    assert!(matches!(store.read(id, 0, ALL).await, Err(StoreError::Damaged(_))));
    // It can still be erased.
    store.erase(id, "ann".into(), vec![], Timestamp::from_millis(1)).await.unwrap();
    assert_eq!(store.open_session(id).await.unwrap(), None);
}

#[tokio::test]
async fn a_damaged_journal_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.write(vec![add(1)]).await.unwrap();
    let end_of_first = fs::metadata(dir.path().join("journal")).unwrap().len();
    store.write(vec![add(1)]).await.unwrap();
    let killed = copy(dir.path());
    let whole = fs::read(killed.path().join("journal")).unwrap();
    for at in 0..whole.len() {
        let copy = copy(killed.path());
        let mut bad = whole.clone();
        bad[at] ^= 16;
        fs::write(copy.path().join("journal"), &bad).unwrap();
        assert!(matches!(FileStore::open(config(copy.path())), Err(OpenError::Failed { .. })), "flipped at {at}");
    }
    for length in end_of_first..whole.len() as u64 {
        let copy = copy(killed.path());
        fs::write(copy.path().join("journal"), &whole[..length as usize]).unwrap();
        assert_eq!(counter(&open(copy.path())).await.unwrap(), "1", "what was cut off was not answered");
    }
}

#[tokio::test]
async fn a_loss_of_power_changes_epochs_unless_everything_was_synced() {
    for (fsync, clean, boot, changes) in [
        (FsyncPolicy::Never, false, "boot 2", true),
        (FsyncPolicy::Never, false, "boot 1", false),
        (FsyncPolicy::Never, true, "boot 2", false),
        (FsyncPolicy::Always, false, "boot 2", false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let store: SharedStore = Arc::new(FileStore::open(FileConfig { fsync, ..config(dir.path()) }).unwrap());
        let id = SessionId::random();
        store.append(creation(id, 1)).await.unwrap();
        let before = store.open_session(id).await.unwrap().unwrap().epoch;
        let killed = copy(dir.path());
        store.close().await.unwrap();
        let dir = if clean { dir } else { killed };
        let again =
            || -> SharedStore { Arc::new(FileStore::open(FileConfig { boot_id: Some(boot.into()), ..config(dir.path()) }).unwrap()) };
        let after = again().open_session(id).await.unwrap().unwrap().epoch;
        assert_eq!(after != before, changes, "{fsync:?} {clean} {boot}");
        assert_eq!(again().open_session(id).await.unwrap().unwrap().epoch, after, "only once");
    }
}

#[tokio::test]
async fn after_a_loss_of_power_every_session_is_a_beginning_of_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let ids: Vec<_> = (0..5).map(|_| SessionId::random()).collect();
    for (head, id) in (0..40).flat_map(|head| ids.iter().map(move |id| (head, id))) {
        store.append(if head == 0 { creation(*id, 1) } else { events(*id, head, 1) }).await.unwrap();
    }
    let before = store.open_session(ids[0]).await.unwrap().unwrap().epoch;
    let killed = copy(dir.path());
    let mut dice = Dice::new(29);
    let (mut shorter, mut refused) = (0, 0);
    for _ in 0..60 {
        let copy = copy(killed.path());
        for id in &ids {
            let path = copy.path().join("sessions").join(format!("{id}.log"));
            let mut left = fs::read(&path).unwrap();
            let from = dice.roll(left.len() as u64) as usize;
            match dice.roll(3) {
                0 => left.truncate(from),
                1 => left[from..].fill(0),
                _ => {
                    let to = (from + 512).min(left.len());
                    left[from..to].fill(0);
                }
            }
            fs::write(path, left).unwrap();
        }
        let store = FileStore::open(FileConfig { boot_id: Some("boot 2".into()), ..config(copy.path()) }).unwrap();
        let store: SharedStore = Arc::new(store);
        for id in &ids {
            match store.open_session(*id).await {
                Ok(Some(stored)) => {
                    assert!(stored.head <= 40 && stored.epoch != before);
                    assert_eq!(seqs(&store, *id, 0, ALL).await, (1..=stored.head).collect::<Vec<_>>());
                    store.append(events(*id, stored.head, 1)).await.unwrap();
                    shorter += usize::from(stored.head < 40);
                }
                Ok(None) => {}
                // Something in the middle of it: it is not read any more, and it is not passed off as whole.
                Err(error) => {
                    assert!(matches!(error, StoreError::Damaged(_)), "{error:?}");
                    refused += 1;
                }
            }
        }
    }
    assert!(shorter > 50 && refused > 20, "{shorter} {refused}");
}

#[tokio::test]
async fn an_erased_file_takes_no_entries_of_others_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (id, other) = (SessionId::random(), SessionId::random());
    let put = |value: &'static str| Write::Put { space: Space::Foreign, key: "f".into(), value: value.into(), expires_at: None };
    let delete = Write::Delete { space: Space::Foreign, key: "f".into() };
    store.append(Append { writes: vec![add(1), put("other")], ..creation(other, 1) }).await.unwrap();
    store.append(Append { writes: vec![add(2), delete], ..creation(id, 1) }).await.unwrap();
    let before = fs::read(dir.path().join("sessions").join(format!("{id}.log"))).unwrap();
    store.erase(id, "ann".into(), vec![], Timestamp::from_millis(1)).await.unwrap();
    // Killed after the erasure was written down and before the file was gone.
    let killed = copy(dir.path());
    fs::write(killed.path().join("sessions").join(format!("{id}.log")), before).unwrap();
    drop(store);
    for dir in [dir.path(), killed.path()] {
        for _ in 0..2 {
            let store = open(dir);
            assert_eq!(counter(&store).await.unwrap(), "3");
            assert_eq!(store.get(Space::Foreign, "f".into()).await.unwrap(), None, "what was taken away stays away");
            assert_eq!(store.list_sessions(SessionFilter { limit: 9, ..Default::default() }).await.unwrap().len(), 1);
        }
    }
}

#[tokio::test]
async fn a_second_opening_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert!(matches!(FileStore::open(config(dir.path())), Err(OpenError::Locked { .. })));
    drop(store);
    open(dir.path());
}

#[tokio::test]
async fn more_sessions_than_open_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let ids: Vec<_> = (0..400).map(|_| SessionId::random()).collect();
    for head in 0..3 {
        for id in &ids {
            let append = if head == 0 { creation(*id, 1) } else { events(*id, head, 1) };
            store.append(append).await.unwrap();
        }
        let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        assert!(open.filter(|path| path.starts_with(dir.path())).count() <= 140);
    }
    for id in &ids {
        assert_eq!(store.read(*id, 0, ALL).await.unwrap().last().unwrap().text, text(3));
    }
}
