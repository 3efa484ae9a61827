//! A session's state from the store.

use agent_hub_protocol::{Event, EventBody, SessionId, TaskId};

use super::{entry::TaskEntry, request::TaskView, state::SessionState};
use crate::store::{Page, SharedStore, Space, StoreError, StoredSession};

/// One read while folding a log.
const PAGE: Page = Page { events: 4096, bytes: 1024 * 1024 };

/// What the store has under a session's id.
pub(super) enum Loaded {
    /// The session, and where its checkpoint stood.
    Session(Box<SessionState>, u64),
    /// It was erased; the id is still taken by this owner.
    Erased(String),
    /// Nothing.
    None,
}

/// Reads a session: from its checkpoint where there is one, otherwise from its first event.
pub(super) async fn session(store: &SharedStore, id: SessionId) -> Result<Loaded, StoreError> {
    let Some(stored) = store.open_session(id).await? else {
        let owner = store.get(Space::Erased, id.to_string()).await?;
        return Ok(owner.map_or(Loaded::None, |owner| Loaded::Erased(String::from_utf8_lossy(&owner).into_owned())));
    };
    let mut state = checkpoint(store, &stored).await?;
    let from = state.as_ref().map_or(0, |state| state.head);
    let mut after = from;
    while after < stored.head {
        let events = store.read(id, after, PAGE).await?;
        for event in &events {
            let event = decode(&event.text)?;
            match (&mut state, &event.body) {
                (Some(state), _) => state.apply(&event),
                (None, EventBody::SessionCreated(created)) => {
                    let record = &stored.record;
                    let mut born = SessionState::born(id, record.owner.clone(), record.birth, stored.epoch.clone(), created);
                    born.apply(&event);
                    state = Some(born);
                }
                (None, _) => return Err(StoreError::Damaged(format!("the log of {id} does not begin with session_created"))),
            }
        }
        match events.last() {
            Some(last) => after = last.seq,
            None => return Err(StoreError::Damaged(format!("the log of {id} ends at {after}, before its head {}", stored.head))),
        }
    }
    let mut state = state.ok_or_else(|| StoreError::Damaged(format!("the log of {id} is empty")))?;
    state.epoch = stored.epoch;
    state.had_socket |= stored.record.had_socket;
    Ok(Loaded::Session(Box::new(state), from))
}

/// A finished task that has left memory, read from the session's log.
pub(super) async fn old_task(
    store: SharedStore,
    entry: TaskEntry,
    session: SessionState,
    task: TaskId,
) -> Result<Option<TaskView>, StoreError> {
    let (id, cursor) = (session.id, session.cursor());
    let mut past = session;
    past.tasks.clear();
    past.line.clear();
    past.head = entry.first_seq - 1;
    loop {
        let events = store.read(id, past.head, PAGE).await?;
        if events.is_empty() {
            return Ok(None);
        }
        for event in &events {
            let event = decode(&event.text)?;
            past.apply(&event);
            if event.task_id == Some(task) && event.body.event_type().is_terminal() {
                return Ok(past.task_info(task).map(|info| TaskView { session: id, info, cursor, last_seq: event.seq }));
            }
        }
    }
}

/// A number no earlier session with this id had, but for one chance in four thousand million.
pub(super) fn random_birth() -> u32 {
    let bytes = uuid::Uuid::new_v4().into_bytes();
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

async fn checkpoint(store: &SharedStore, stored: &StoredSession) -> Result<Option<SessionState>, StoreError> {
    let Some(value) = store.get(Space::Checkpoint, stored.record.id.to_string()).await? else { return Ok(None) };
    // One of another version of this program is simply not used.
    let state: Option<SessionState> = serde_json::from_slice(&value).ok();
    Ok(state.filter(|state| state.birth == stored.record.birth && state.head <= stored.head && state.epoch == stored.epoch))
}

/// An event as the store has it.
pub(super) fn decode(text: &[u8]) -> Result<Event, StoreError> {
    let text = std::str::from_utf8(text).map_err(|_| StoreError::Damaged("an event is not UTF-8".to_owned()))?;
    Event::decode(text).map_err(|error| StoreError::Damaged(format!("an event cannot be read: {error}")))
}
