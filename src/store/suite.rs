//! The promises of [`Store`], asked of every store.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{path::Path, sync::Arc, time::Duration};

use agent_hub_protocol::{Seq, SessionId, Timestamp};
use bytes::Bytes;
use futures::future::{join_all, try_join_all};

use super::{
    Append, AppendError, Page, SessionFilter, SessionRecord, SharedStore, Space, StoreError, Write,
    file::{FileConfig, FileStore},
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
    ($($case:ident)*) => {
        mod memory { $(#[tokio::test] async fn $case() { super::$case(super::memory()).await; })* }
        mod file { $(#[tokio::test] async fn $case() { super::$case(super::file()).await; })* }
        mod sqlite { $(#[tokio::test] async fn $case() { super::$case(super::sqlite()).await; })* }
    };
}

fn memory() -> Medium {
    Medium::new(false, |_| Arc::new(MemoryStore::new()))
}

fn file() -> Medium {
    Medium::new(true, |dir| Arc::new(FileStore::open(FileConfig::new(dir)).unwrap()))
}

fn sqlite() -> Medium {
    Medium::new(true, |dir| Arc::new(SqliteStore::open(SqliteConfig::new(dir.join("hub.db"))).unwrap()))
}

for_every_store! {
    events_come_back_in_order_and_dense
    only_the_writer_who_knows_the_head_wins
    an_append_is_all_or_nothing
    what_was_answered_is_there_after_opening_again
    a_page_is_bounded_and_never_empty_before_the_head
    a_million_events_in_one_session
    ten_thousand_sessions_are_listed_in_pages
    an_erased_session_is_gone_and_its_ids_stay_taken
    counters_count_every_call
    what_expired_does_not_exist
    unfinished_sessions_are_found
    closed_means_closed
    random_calls_agree_with_the_simplest_store
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
    Append {
        session,
        expected,
        events: (expected + 1..=expected + count).map(text).collect(),
        record: None,
        writes: vec![],
        audience: None,
    }
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

async fn value(store: &SharedStore, space: Space, key: &str) -> Option<Bytes> {
    store.get(space, key.into()).await.unwrap()
}

fn put(space: Space, key: &str, value: &str) -> Write {
    Write::Put { space, key: key.into(), value: Bytes::copy_from_slice(value.as_bytes()), expires_at: None }
}

fn add(key: &str, by: i64) -> Write {
    Write::Add { space: Space::Usage, key: key.into(), by, expires_at: None }
}

async fn an_append_is_all_or_nothing(medium: Medium) {
    let store = medium.open();
    let id = SessionId::random();
    assert!(matches!(store.append(events(id, 0, 1)).await, Err(AppendError::Erased)), "never created");
    let writes = vec![put(Space::Task, "t1", "s"), add("u", 1), put(Space::Usage, "word", "many")];
    store.append(Append { writes, ..creation(id, 2) }).await.unwrap();
    let renamed = || Some(SessionRecord { agent: "other".into(), owner: "bob".into(), ..record(id, "bob", 1) });
    let tries = [
        // The wrong head, and an entry that is no counter, which is found out last.
        Append { writes: vec![add("u", 1)], record: renamed(), ..events(id, 1, 1) },
        Append { writes: vec![add("u", 1), put(Space::Task, "t2", "s"), add("word", 1)], record: renamed(), ..events(id, 2, 1) },
    ];
    for wrong in tries {
        // Beside a good one of the same commit.
        let other = SessionId::random();
        let (bad, good) = tokio::join!(store.append(wrong), store.append(creation(other, 1)));
        assert!(bad.is_err());
        good.unwrap();
        let stored = store.open_session(id).await.unwrap().unwrap();
        assert_eq!((stored.head, stored.record), (2, record(id, "ann", 1)));
        assert_eq!(value(&store, Space::Usage, "u").await.as_deref(), Some(&b"1"[..]));
        assert_eq!(value(&store, Space::Task, "t2").await, None);
    }
    store.append(Append { writes: vec![add("u", 1)], record: renamed(), ..events(id, 2, 1) }).await.unwrap();
    let stored = store.open_session(id).await.unwrap().unwrap();
    assert_eq!((stored.head, stored.record), (3, renamed().unwrap()));
    assert_eq!(value(&store, Space::Usage, "u").await.as_deref(), Some(&b"2"[..]));
    let of = |owner: &str| store.list_sessions(SessionFilter { owner: Some(owner.into()), before: None, limit: 9 });
    assert!(of("ann").await.unwrap().iter().all(|record| record.id != id));
    assert_eq!(of("bob").await.unwrap(), [renamed().unwrap()]);
    assert!(store.write(vec![put(Space::Task, "t3", "s"), add("word", 1)]).await.is_err());
    assert_eq!(value(&store, Space::Task, "t3").await, None);
}

async fn what_was_answered_is_there_after_opening_again(medium: Medium) {
    let ids: Vec<_> = (0..40).map(|_| SessionId::random()).collect();
    let mut heads = vec![0; ids.len()];
    let mut epochs = Vec::new();
    for round in 0..4 {
        let store = medium.open();
        for (id, head) in ids.iter().zip(&mut heads) {
            if !medium.durable {
                *head = 0;
            }
            let stored = store.open_session(*id).await.unwrap();
            assert_eq!(stored.as_ref().map_or(0, |stored| stored.head), *head, "round {round}");
            assert_eq!(seqs(&store, *id, 0, ALL).await, (1..=*head).collect::<Vec<_>>());
            epochs.extend(stored.map(|stored| stored.epoch));
        }
        let before = value(&store, Space::Usage, "u").await;
        assert_eq!(before.as_deref(), (round > 0 && medium.durable).then(|| format!("{}", round * 400)).as_deref().map(str::as_bytes));
        for _ in 0..10 {
            let appends = ids.iter().zip(&heads).map(|(id, head)| {
                let first = if *head == 0 { creation(*id, 1) } else { events(*id, *head, 3) };
                store.append(Append { writes: vec![add("u", 1)], ..first })
            });
            try_join_all(appends).await.unwrap();
            heads.iter_mut().for_each(|head| *head += if *head == 0 { 1 } else { 3 });
        }
        // Every other time without a word.
        if round % 2 == 0 {
            store.close().await.unwrap();
        }
    }
    epochs.dedup();
    assert_eq!(epochs.len(), usize::from(medium.durable), "nothing was lost, so the epochs are the same");
}

async fn a_page_is_bounded_and_never_empty_before_the_head(medium: Medium) {
    let store = medium.open();
    let id = SessionId::random();
    store.append(creation(id, 0)).await.unwrap();
    for (expected, count) in [(0, 1), (1, 7), (8, 3_000), (3_008, 1)] {
        store.append(events(id, expected, count)).await.unwrap();
    }
    let one = text(100).len();
    for (after, page, last) in [
        (0, Page { events: 5, bytes: usize::MAX }, 5),
        (6, Page { events: 4, bytes: usize::MAX }, 10),
        (100, Page { events: 1_000, bytes: one * 3 }, 103),
        (100, Page { events: 1_000, bytes: one * 3 - 1 }, 102),
        (100, Page { events: 1_000, bytes: 0 }, 101),
        (100, Page { events: 0, bytes: 0 }, 101),
        (3_007, ALL, 3_009),
    ] {
        assert_eq!(seqs(&store, id, after, page).await, (after + 1..=last).collect::<Vec<_>>(), "{page:?} after {after}");
    }
    let mut after = 0;
    while after < 3_009 {
        let page = seqs(&store, id, after, Page { events: 211, bytes: one * 100 }).await;
        assert_eq!(page, (after + 1..=after + page.len() as u64).collect::<Vec<_>>());
        after = *page.last().unwrap();
    }
}

async fn a_million_events_in_one_session(medium: Medium) {
    const PER_APPEND: u64 = 5_000;
    let store = medium.open();
    let id = SessionId::random();
    let text = Bytes::from_static(b"{}");
    store.append(creation(id, 0)).await.unwrap();
    for expected in (0..1_000_000).step_by(PER_APPEND as usize) {
        let events = vec![text.clone(); PER_APPEND as usize];
        store.append(Append { session: id, expected, events, record: None, writes: vec![], audience: None }).await.unwrap();
    }
    let store = if medium.durable {
        drop(store);
        medium.open()
    } else {
        store
    };
    assert_eq!(store.open_session(id).await.unwrap().unwrap().head, 1_000_000);
    for after in [0, 499_999, 777_777, 999_000, 999_999, 1_000_000] {
        let read = store.read(id, after, Page { events: 1_000, bytes: 1 << 20 }).await.unwrap();
        let expected: Vec<_> = (after + 1..=(after + 1_000).min(1_000_000)).collect();
        assert_eq!(read.iter().map(|event| event.seq).collect::<Vec<_>>(), expected);
    }
}

async fn ten_thousand_sessions_are_listed_in_pages(medium: Medium) {
    let store = medium.open();
    // Three share a time, so that the id decides.
    let records: Vec<_> = (0..10_000).map(|n| record(SessionId::random(), if n % 10 == 0 { "ann" } else { "bob" }, n / 3)).collect();
    for batch in records.chunks(1_000) {
        try_join_all(batch.iter().map(|record| store.append(Append { record: Some(record.clone()), ..events(record.id, 0, 0) })))
            .await
            .unwrap();
    }
    for owner in [Some("ann"), Some("bob"), None, Some("nobody")] {
        let mut expected: Vec<_> = records.iter().filter(|record| owner.is_none_or(|owner| record.owner == owner)).cloned().collect();
        expected.sort_by_key(|record| std::cmp::Reverse((record.created_at, record.id)));
        let (mut listed, mut before) = (Vec::new(), None);
        loop {
            let page = store.list_sessions(SessionFilter { owner: owner.map(Into::into), before, limit: 777 }).await.unwrap();
            let Some(last) = page.last() else { break };
            before = Some((last.created_at, last.id));
            listed.extend(page);
        }
        assert_eq!(listed.len(), expected.len());
        assert!(listed == expected, "of {owner:?}");
    }
}

async fn an_erased_session_is_gone_and_its_ids_stay_taken(medium: Medium) {
    let mut store = medium.open();
    let (id, other) = (SessionId::random(), SessionId::random());
    let later = Timestamp::now().plus(Duration::from_secs(3_600));
    let writes = vec![put(Space::Task, "t1", "s"), put(Space::Checkpoint, &id.to_string(), "c"), add("u", 5)];
    store.append(Append { writes, ..creation(id, 700) }).await.unwrap();
    store.append(Append { writes: vec![add("u", 2)], ..creation(other, 1) }).await.unwrap();
    for n in 1..50 {
        store.append(events(other, n, 1)).await.unwrap();
    }
    let forget = || vec![(Space::Task, "t1".to_owned())];
    // An erasure and appends of the same commit.
    let (erased, lost) = tokio::join!(store.erase(id, "ann".into(), forget(), later), store.append(events(id, 700, 1)));
    erased.unwrap();
    assert!(matches!(lost, Err(AppendError::Erased)));
    for round in 0..3 {
        assert_eq!(store.open_session(id).await.unwrap(), None);
        assert!(store.read(id, 0, ALL).await.unwrap().is_empty());
        assert_eq!(store.list_sessions(SessionFilter { limit: 9, ..Default::default() }).await.unwrap(), [record(other, "ann", 1)]);
        for (space, key, expected) in [
            (Space::Task, "t1", None),
            (Space::Checkpoint, id.to_string().as_str(), None),
            (Space::Erased, "t1", Some("ann")),
            (Space::Erased, id.to_string().as_str(), Some("ann")),
            (Space::Usage, "u", Some("7")),
        ] {
            assert_eq!(value(&store, space, key).await.as_deref(), expected.map(str::as_bytes), "{key} in round {round}");
        }
        assert!(matches!(store.append(creation(id, 1)).await, Err(AppendError::Erased)), "the id is taken");
        assert!(matches!(store.append(events(id, 700, 1)).await, Err(AppendError::Erased)));
        assert_eq!(seqs(&store, other, 0, ALL).await, (1..=50).collect::<Vec<_>>());
        // Again changes nothing, not even by somebody else.
        store.erase(id, "eve".into(), forget(), Timestamp::from_millis(1)).await.unwrap();
        if medium.durable {
            drop(store);
            store = medium.open();
        }
    }
    // The time is over at once, so the id is free again, with a log of its own.
    let reused = SessionId::random();
    store.append(creation(reused, 9)).await.unwrap();
    store.erase(reused, "ann".into(), vec![], Timestamp::from_millis(1)).await.unwrap();
    store.append(creation(reused, 2)).await.unwrap();
    assert_eq!(seqs(&store, reused, 0, ALL).await, [1, 2]);
    if medium.durable {
        drop(store);
        store = medium.open();
        assert_eq!(seqs(&store, reused, 0, ALL).await, [1, 2]);
    }
    store.append(events(reused, 2, 1)).await.unwrap();
}

async fn counters_count_every_call(medium: Medium) {
    let store = medium.open();
    let id = SessionId::random();
    store.append(creation(id, 0)).await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    store.write(vec![add("u", 3), add("u", -1), add("v", 1)]).await.unwrap();
                    store.append(Append { writes: vec![add("v", 1)], ..creation(SessionId::random(), 1) }).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(value(&store, Space::Usage, "u").await.as_deref(), Some(&b"800"[..]));
    assert_eq!(value(&store, Space::Usage, "v").await.as_deref(), Some(&b"800"[..]));
    store.write(vec![add("u", -10_000)]).await.unwrap();
    assert_eq!(value(&store, Space::Usage, "u").await.as_deref(), Some(&b"0"[..]));
    store.write(vec![Write::Delete { space: Space::Usage, key: "u".into() }, add("u", 4)]).await.unwrap();
    assert_eq!(value(&store, Space::Usage, "u").await.as_deref(), Some(&b"4"[..]));
}

async fn what_expired_does_not_exist(medium: Medium) {
    let store = medium.open();
    let past = Some(Timestamp::from_millis(1));
    let future = Some(Timestamp::now().plus(Duration::from_secs(3_600)));
    let entry = |key: &str, expires_at| Write::Put { space: Space::Foreign, key: key.into(), value: Bytes::from_static(b"1"), expires_at };
    store.write(vec![entry("past", past), entry("future", future), entry("never", None)]).await.unwrap();
    assert_eq!(value(&store, Space::Foreign, "past").await, None);
    assert_eq!(value(&store, Space::Foreign, "future").await.as_deref(), Some(&b"1"[..]));
    assert_eq!(value(&store, Space::Foreign, "never").await.as_deref(), Some(&b"1"[..]));
    assert_eq!(value(&store, Space::Task, "never").await, None, "another space");
    let count = |by, expires_at| Write::Add { space: Space::Usage, key: "day".into(), by, expires_at };
    store.write(vec![count(7, past)]).await.unwrap();
    store.write(vec![count(2, future)]).await.unwrap();
    assert_eq!(value(&store, Space::Usage, "day").await.as_deref(), Some(&b"2"[..]), "an expired counter starts over");
}

async fn unfinished_sessions_are_found(medium: Medium) {
    let mut store = medium.open();
    let ids: Vec<_> = (0..20).map(|_| SessionId::random()).collect();
    let with = |n: usize, unfinished| Some(SessionRecord { unfinished, ..record(ids[n], "ann", n as i64) });
    for (n, id) in ids.iter().enumerate() {
        store.append(Append { record: with(n, 2), ..events(*id, 0, 1) }).await.unwrap();
        store.append(Append { record: with(n, (n % 3) as u32), ..events(*id, 1, 0) }).await.unwrap();
    }
    if medium.durable {
        drop(store);
        store = medium.open();
    }
    let mut found = store.unfinished_sessions().await.unwrap();
    let mut expected: Vec<_> = ids.iter().enumerate().filter(|(n, _)| n % 3 != 0).map(|(_, id)| *id).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

async fn closed_means_closed(medium: Medium) {
    let store = medium.open();
    let id = SessionId::random();
    store.append(creation(id, 1)).await.unwrap();
    // Handed over before, so carried out.
    let last = store.append(events(id, 1, 1));
    store.probe().await.unwrap();
    store.close().await.unwrap();
    last.await.unwrap();
    assert!(matches!(store.append(events(id, 2, 1)).await, Err(AppendError::Store(StoreError::Closed))));
    assert!(matches!(store.open_session(id).await, Err(StoreError::Closed)));
    assert!(matches!(store.read(id, 0, ALL).await, Err(StoreError::Closed)));
    assert!(matches!(store.list_sessions(SessionFilter::default()).await, Err(StoreError::Closed)));
    assert!(matches!(store.unfinished_sessions().await, Err(StoreError::Closed)));
    assert!(matches!(store.get(Space::Task, "t".into()).await, Err(StoreError::Closed)));
    assert!(matches!(store.write(vec![add("u", 1)]).await, Err(StoreError::Closed)));
    assert!(matches!(store.erase(id, "ann".into(), vec![], Timestamp::now()).await, Err(StoreError::Closed)));
    assert!(matches!(store.probe().await, Err(StoreError::Closed)));
    assert!(matches!(store.close().await, Err(StoreError::Closed)));
    // Free for the next, while this one is still around.
    let again = medium.open();
    let head = again.open_session(id).await.unwrap().map(|stored| stored.head);
    assert_eq!(head, medium.durable.then_some(2));
}

/// The same numbers on every machine.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }
}

/// Everything one call can show of a session.
async fn view(store: &SharedStore, id: SessionId, after: Seq, page: Page) -> String {
    let stored = store.open_session(id).await;
    format!("{stored:?} {:?}", store.read(id, after, page).await)
}

async fn random_calls_agree_with_the_simplest_store(medium: Medium) {
    let (mut store, model) = (medium.open(), memory().open());
    let mut dice = Dice::new(7);
    let ids: Vec<_> = (0..12).map(|_| SessionId::random()).collect();
    for step in 0..1_500 {
        let id = ids[dice.roll(ids.len() as u64) as usize];
        let head = model.open_session(id).await.unwrap().map_or(0, |stored| stored.head);
        match dice.roll(20) {
            0 => {
                let until = Timestamp::from_millis(1);
                let forget = vec![(Space::Task, format!("t{}", dice.roll(5)))];
                store.erase(id, "ann".into(), forget.clone(), until).await.unwrap();
                model.erase(id, "ann".into(), forget, until).await.unwrap();
            }
            1 if medium.durable => {
                drop(store);
                store = medium.open();
            }
            2 => {
                let writes = vec![add(&format!("u{}", dice.roll(4)), dice.roll(9) as i64 - 4)];
                store.write(writes.clone()).await.unwrap();
                model.write(writes).await.unwrap();
            }
            kind => {
                let expected = if kind == 3 { head + 1 } else { head };
                let mut append = events(id, expected, dice.roll(6));
                if kind < 8 {
                    append.record = Some(record(id, ["ann", "bob"][dice.roll(2) as usize], dice.roll(100) as i64));
                }
                if kind > 15 {
                    append.writes = vec![add(&format!("u{}", dice.roll(4)), 1), put(Space::Task, &format!("t{}", dice.roll(5)), "s")];
                }
                let (got, wanted) = (store.append(append.clone()).await, model.append(append).await);
                assert_eq!(format!("{got:?}"), format!("{wanted:?}"), "step {step}");
            }
        }
        let page = Page { events: dice.roll(40) as usize, bytes: dice.roll(900) as usize };
        let after = dice.roll(head + 3);
        assert_eq!(view(&store, id, after, page).await, view(&model, id, after, page).await, "step {step}");
    }
    for id in &ids {
        assert_eq!(view(&store, *id, 0, ALL).await, view(&model, *id, 0, ALL).await);
    }
    for key in ["u0", "u1", "u2", "u3", "t0", "t1", "t2", "t3", "t4"] {
        for space in [Space::Usage, Space::Task, Space::Erased] {
            assert_eq!(value(&store, space, key).await, value(&model, space, key).await, "{space:?} {key}");
        }
    }
    let all = SessionFilter { limit: 99, ..Default::default() };
    assert_eq!(store.list_sessions(all.clone()).await.unwrap(), model.list_sessions(all).await.unwrap());
}
