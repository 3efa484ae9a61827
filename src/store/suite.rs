//! The promises of [`Store`], asked of every store.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{path::Path, sync::Arc, time::Duration};

use agent_hub_protocol::{Seq, SessionId, Timestamp};
use bytes::Bytes;
use futures::future::{join_all, try_join_all};

use super::{
    Append, AppendError, Page, SessionFilter, SessionRecord, SharedStore, Space, StoreError, Write,
    memory::MemoryStore,
    sqlite::{SqliteConfig, SqliteStore},
};

/// Where the stores of one test live, and how to open one.
pub(super) struct Medium {
    pub(super) dir: tempfile::TempDir,
    open: fn(&Path) -> SharedStore,
    /// Whether what was answered is there after opening again.
    durable: bool,
}

impl Medium {
    fn new(durable: bool, open: fn(&Path) -> SharedStore) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), open, durable }
    }

    pub(super) fn open(&self) -> SharedStore {
        (self.open)(self.dir.path())
    }
}

macro_rules! for_every_store {
    ($($(#[$attr:meta])* $case:ident)*) => {
        mod memory { $(#[tokio::test] $(#[$attr])* async fn $case() { super::$case(super::memory()).await; })* }
        mod sqlite { $(#[tokio::test] $(#[$attr])* async fn $case() { super::$case(super::sqlite()).await; })* }
    };
}

fn memory() -> Medium {
    Medium::new(false, |_| Arc::new(MemoryStore::new()))
}

fn sqlite() -> Medium {
    Medium::new(true, |dir| Arc::new(SqliteStore::open(SqliteConfig::new(dir.join("hub.db"))).unwrap()))
}

for_every_store! {
    events_come_back_in_order_and_dense
    only_the_writer_who_knows_the_head_wins
}

/// More than any test writes.
pub(super) const ALL: Page = Page { events: usize::MAX, bytes: usize::MAX };

pub(super) fn record(id: SessionId, owner: &str, created_at: i64) -> SessionRecord {
    SessionRecord {
        id,
        owner: owner.into(),
        birth: 0xab,
        agent: "demo".into(),
        name: Some("a \"name\"".into()),
        tags: vec!["x".into()],
        task_count: 1,
        unfinished: 0,
        ended: false,
        had_socket: true,
        created_at: Timestamp::from_millis(created_at),
        updated_at: Timestamp::from_millis(created_at + 1),
    }
}

pub(super) fn text(seq: Seq) -> Bytes {
    Bytes::from(format!(r#"{{"type":"token","seq":{seq}}}"#))
}

/// Events from `expected + 1`, as many as `count`.
pub(super) fn events(session: SessionId, expected: Seq, count: u64) -> Append {
    Append { session, expected, events: (expected + 1..=expected + count).map(text).collect(), record: None, writes: vec![] }
}

/// The first append of a session, with `count` events.
pub(super) fn creation(session: SessionId, count: u64) -> Append {
    Append { record: Some(record(session, "ann", 1)), ..events(session, 0, count) }
}

pub(super) async fn seqs(store: &SharedStore, id: SessionId, after: Seq, page: Page) -> Vec<Seq> {
    let events = store.read(id, after, page).await.unwrap();
    for event in &events {
        assert_eq!(event.text, text(event.seq));
    }
    events.into_iter().map(|event| event.seq).collect()
}

async fn events_come_back_in_order_and_dense(medium: Medium) {
    let store = medium.open();
    let id = SessionId::random();
    store.append(creation(id, 3)).await.unwrap();
    store.append(events(id, 3, 1)).await.unwrap();
    store.append(events(id, 4, 0)).await.unwrap();
    store.append(events(id, 4, 5)).await.unwrap();
    assert_eq!(seqs(&store, id, 0, ALL).await, (1..=9).collect::<Vec<_>>());
    for after in 0..12 {
        assert_eq!(seqs(&store, id, after, ALL).await, (after + 1..=9).collect::<Vec<_>>(), "after {after}");
    }
    assert!(store.read(id, Seq::MAX, ALL).await.unwrap().is_empty());
    assert!(store.read(SessionId::random(), 0, ALL).await.unwrap().is_empty());
    let stored = store.open_session(id).await.unwrap().unwrap();
    assert_eq!((stored.head, stored.record), (9, record(id, "ann", 1)));
    assert_eq!(store.open_session(SessionId::random()).await.unwrap(), None);
}

async fn only_the_writer_who_knows_the_head_wins(medium: Medium) {
    let store = medium.open();
    let id = SessionId::random();
    store.append(creation(id, 1)).await.unwrap();
    for head in 1..50 {
        let results = join_all((0..8).map(|_| store.append(events(id, head, 1)))).await;
        let lost = results
            .iter()
            .filter(|result| matches!(result, Err(AppendError::Conflict { expected, head: now }) if *expected == head && *now == head + 1));
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        assert_eq!(lost.count(), 7);
    }
    for expected in [0, 49, 51] {
        assert!(matches!(store.append(events(id, expected, 1)).await, Err(AppendError::Conflict { head: 50, .. })));
    }
    assert_eq!(seqs(&store, id, 0, ALL).await, (1..=50).collect::<Vec<_>>());
}
