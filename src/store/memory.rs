//! Keeps everything in memory. Nothing survives the process; each start is a new incarnation, because sessions get new births.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

use agent_hub_protocol::{Epoch, Seq, SessionId, Timestamp};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};

use super::{
    Append, AppendError, Page, SessionFilter, SessionRecord, Space, Store, StoreError, StoredEvent, StoredSession, Write, entries::Entries,
    inbox::lock, jobs::News,
};

/// The store of the setting `memory`.
#[derive(Debug, Default)]
pub struct MemoryStore {
    /// `None` once closed. Held for the length of one call and never across a wait.
    state: Arc<Mutex<Option<State>>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self { state: Arc::new(Mutex::new(Some(State::default()))) }
    }

    /// Does it now, in the order of calls; the future only carries the result.
    fn now<T, E>(&self, work: impl FnOnce(&mut State) -> Result<T, E>) -> BoxFuture<'static, Result<T, E>>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let mut state: MutexGuard<'_, _> = lock(&self.state);
        let result = state.as_mut().ok_or_else(|| StoreError::Closed.into()).and_then(work);
        std::future::ready(result).boxed()
    }
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<SessionId, Session>,
    entries: Entries,
    listing: Listing,
}

#[derive(Debug)]
struct Session {
    record: SessionRecord,
    /// Event `n` is at `n - 1`.
    events: Vec<Bytes>,
}

impl State {
    fn append(&mut self, append: Append) -> Result<(), AppendError> {
        let id = append.session;
        match (self.sessions.get(&id), &append.record) {
            (Some(session), _) => check_head(append.expected, session.events.len() as Seq)?,
            (None, Some(_)) if !self.entries.is_taken(id) => check_head(append.expected, 0)?,
            (None, _) => return Err(AppendError::Erased),
        }
        self.entries.apply(append.writes, Timestamp::now())?;
        if let Some(record) = append.record {
            self.listing.put(self.sessions.get(&id).map(|session| &session.record), &record);
            match self.sessions.get_mut(&id) {
                Some(session) => session.record = record,
                None => drop(self.sessions.insert(id, Session { record, events: Vec::new() })),
            }
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            session.events.extend(append.events);
        }
        Ok(())
    }

    fn stored(&self, id: SessionId) -> Option<StoredSession> {
        let session = self.sessions.get(&id)?;
        let epoch = Epoch::derive(session.record.birth, 0);
        Some(StoredSession { record: session.record.clone(), epoch, head: session.events.len() as Seq })
    }

    fn read(&self, id: SessionId, after: Seq, page: Page) -> Vec<StoredEvent> {
        let Some(session) = self.sessions.get(&id) else { return Vec::new() };
        let mut filling = Filling::new(page);
        let before = usize::try_from(after).unwrap_or(usize::MAX);
        for (place, text) in session.events.iter().enumerate().skip(before) {
            if !filling.push(place as Seq + 1, text.clone()) {
                break;
            }
        }
        filling.events
    }

    fn erase(&mut self, id: SessionId, owner: &str, forget: Vec<(Space, String)>, taken_until: Timestamp) {
        if let Some(session) = self.sessions.remove(&id) {
            self.listing.remove(&session.record);
        }
        self.entries.forget(id, owner, forget, taken_until, Timestamp::now());
    }

    fn list(&self, filter: &SessionFilter) -> Vec<SessionRecord> {
        self.listing.ids(filter).filter_map(|id| Some(self.sessions.get(&id)?.record.clone())).collect()
    }
}

impl Store for MemoryStore {
    fn append(&self, append: Append) -> BoxFuture<'static, Result<(), AppendError>> {
        let news = News::of(append.audience.clone(), append.expected, append.events.clone());
        self.now(|state| {
            state.append(append)?;
            // Under the lock, so that two appends are told of in their order.
            news.into_iter().for_each(News::tell);
            Ok(())
        })
    }

    fn open_session(&self, id: SessionId) -> BoxFuture<'static, Result<Option<StoredSession>, StoreError>> {
        self.now(|state| Ok(state.stored(id)))
    }

    fn read(&self, id: SessionId, after: Seq, page: Page) -> BoxFuture<'static, Result<Vec<StoredEvent>, StoreError>> {
        self.now(|state| Ok(state.read(id, after, page)))
    }

    fn list_sessions(&self, filter: SessionFilter) -> BoxFuture<'static, Result<Vec<SessionRecord>, StoreError>> {
        self.now(|state| Ok(state.list(&filter)))
    }

    fn unfinished_sessions(&self) -> BoxFuture<'static, Result<Vec<SessionId>, StoreError>> {
        self.now(|state| Ok(state.sessions.iter().filter(|(_, session)| session.record.unfinished > 0).map(|(id, _)| *id).collect()))
    }

    fn get(&self, space: Space, key: String) -> BoxFuture<'static, Result<Option<Bytes>, StoreError>> {
        self.now(|state| Ok(state.entries.get(space, &key, Timestamp::now()).cloned()))
    }

    fn write(&self, writes: Vec<Write>) -> BoxFuture<'static, Result<(), StoreError>> {
        self.now(|state| state.entries.apply(writes, Timestamp::now()))
    }

    fn erase(
        &self,
        id: SessionId,
        owner: String,
        forget: Vec<(Space, String)>,
        taken_until: Timestamp,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        self.now(|state| {
            state.erase(id, &owner, forget, taken_until);
            Ok(())
        })
    }

    fn probe(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.now(|_| Ok(()))
    }

    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        let closed = lock(&self.state).take().map(drop).ok_or(StoreError::Closed);
        std::future::ready(closed).boxed()
    }

    fn kind(&self) -> &'static str {
        "memory"
    }
}

/// # Errors
/// [`AppendError::Conflict`] unless they are the same.
pub(super) fn check_head(expected: Seq, head: Seq) -> Result<(), AppendError> {
    if expected == head { Ok(()) } else { Err(AppendError::Conflict { expected, head }) }
}

/// A page while it fills.
#[derive(Debug)]
pub(super) struct Filling {
    pub(super) events: Vec<StoredEvent>,
    page: Page,
    bytes: usize,
}

impl Filling {
    pub(super) fn new(page: Page) -> Self {
        Self { events: Vec::new(), page, bytes: 0 }
    }

    /// Takes the event and says whether the next may fit; an event that does not fit is not taken, and `false`.
    pub(super) fn push(&mut self, seq: Seq, text: Bytes) -> bool {
        self.bytes = self.bytes.saturating_add(text.len());
        if !self.events.is_empty() && (self.events.len() >= self.page.events || self.bytes > self.page.bytes) {
            return false;
        }
        self.events.push(StoredEvent { seq, text });
        self.events.len() < self.page.events && self.bytes < self.page.bytes
    }
}

/// Sessions by age: of all, and of each owner.
#[derive(Debug, Default)]
pub(super) struct Listing {
    all: BTreeSet<(Timestamp, SessionId)>,
    by_owner: HashMap<String, BTreeSet<(Timestamp, SessionId)>>,
}

impl Listing {
    /// Lists `record` in place of what was there for its session.
    pub(super) fn put(&mut self, before: Option<&SessionRecord>, record: &SessionRecord) {
        if let Some(before) = before {
            if before.owner == record.owner && before.created_at == record.created_at {
                return;
            }
            self.remove(before);
        }
        let key = (record.created_at, record.id);
        self.all.insert(key);
        self.by_owner.entry(record.owner.clone()).or_default().insert(key);
    }

    pub(super) fn remove(&mut self, record: &SessionRecord) {
        let key = (record.created_at, record.id);
        self.all.remove(&key);
        if let Some(of_owner) = self.by_owner.get_mut(&record.owner) {
            of_owner.remove(&key);
            if of_owner.is_empty() {
                self.by_owner.remove(&record.owner);
            }
        }
    }

    /// What the filter asks for, newest first.
    pub(super) fn ids(&self, filter: &SessionFilter) -> impl Iterator<Item = SessionId> + '_ {
        let set = match &filter.owner {
            None => Some(&self.all),
            Some(owner) => self.by_owner.get(owner),
        };
        let before = filter.before;
        set.into_iter()
            .flat_map(move |set| match before {
                Some(before) => set.range(..before).rev(),
                None => set.range(..).rev(),
            })
            .map(|(_, id)| *id)
            .take(filter.limit)
    }
}
