//! Reading the past of a session from the store, for those who do not follow it.
//!
//! A page shows what the snapshots show, and by the same fold ([`SessionState::apply`]), so that clients can merge the two by message id.
//! It is made task by task, from the newest backwards: a session runs one task at a time, so all the messages of one, which come from
//! between its first start and its end, are newer than all those of the one before. What is read for a page is therefore the tasks that
//! are on it, and what is kept in memory is the page.

use std::collections::VecDeque;

use agent_hub_protocol::{
    Event, EventBody, MessageInfo, Seq, SessionId, TaskId,
    event::{SessionCreated, TaskStarted},
};

use super::{entry::TaskEntry, load::decode, request::MessagePage, state::SessionState};
use crate::{
    runtime::refusal::Refusal,
    store::{Page, SharedStore, Space, StoreError, StoredSession},
};

/// How far one step through the log goes.
const STEP: Seq = 1000;
/// What one read of the store brings.
const PAGE: Page = Page { events: 1024, bytes: 256 * 1024 };

/// Messages strictly before `before` (the newest if `None`), oldest first. A page has one more than `limit` where it would otherwise begin
/// between a prompt and its context: both come from one event, and whoever asks for what is before that event would miss the context.
pub(crate) async fn message_page(
    store: &SharedStore,
    session: SessionId,
    before: Option<Seq>,
    limit: usize,
) -> Result<MessagePage, Refusal> {
    let stored = store.open_session(session).await.map_err(unreadable)?.ok_or_else(Refusal::session_not_found)?;
    let before = before.map_or(stored.head + 1, |before| before.min(stored.head + 1));
    // With the one more there may be, and the next older one, if there is one.
    let enough = limit + 2;
    let past = Past { store, stored: &stored, before, enough };
    let mut messages = VecDeque::new();
    let mut end = before.saturating_sub(1);
    // A task is over before the next one is started for the first time.
    let mut until = stored.head;
    while end > 0 && messages.len() < enough {
        let start = end.saturating_sub(STEP);
        let starts = past.starts(start, end).await.map_err(unreadable)?;
        for (task, seq) in starts.into_iter().rev() {
            let first = past.first_event(task).await.map_err(unreadable)?;
            // What a sub-agent says is no part of the conversation, and it runs beside the task it belongs to.
            if matches!(&first.body, EventBody::TaskQueued(queued) if queued.parent_task_id.is_some()) {
                continue;
            }
            let of_task = past.messages_of(&first, seq, until).await.map_err(unreadable)?;
            until = seq - 1;
            of_task.into_iter().rev().for_each(|message| messages.push_front(message));
            if messages.len() >= enough {
                break;
            }
        }
        end = start;
    }
    let mut cut = messages.len().saturating_sub(limit);
    while cut > 0 && messages.get(cut).is_some_and(|first| first.seq == messages[cut - 1].seq) {
        cut -= 1;
    }
    Ok(MessagePage { messages: messages.into_iter().skip(cut).collect(), more: cut > 0 })
}

/// Events of a session behind `after` and up to `until`, of whatever task.
pub(crate) async fn events(store: &SharedStore, session: SessionId, after: Seq, until: Seq) -> Result<Vec<Event>, StoreError> {
    let mut events = Vec::new();
    let mut after = after;
    while after < until {
        let page = store.read(session, after, PAGE).await?;
        let Some(last) = page.last().map(|event| event.seq) else { break };
        for stored in page.iter().take_while(|stored| stored.seq <= until) {
            events.push(decode(&stored.text)?);
        }
        after = last;
    }
    Ok(events)
}

/// A session's log, as far as a page is concerned.
struct Past<'a> {
    store: &'a SharedStore,
    stored: &'a StoredSession,
    /// Only messages before this one are wanted.
    before: Seq,
    /// So many of a task at most.
    enough: usize,
}

impl Past<'_> {
    /// The tasks that were started for the first time behind `start`, up to and including `end`, and where.
    async fn starts(&self, start: Seq, end: Seq) -> Result<Vec<(TaskId, Seq)>, StoreError> {
        let mut starts = Vec::new();
        let mut after = start;
        while after < end {
            let events = self.read(after, end).await?;
            let Some(last) = events.last() else { break };
            after = last.seq;
            starts.extend(events.iter().filter_map(|event| match (&event.body, event.task_id) {
                (EventBody::TaskStarted(TaskStarted { attempt: 1, .. }), Some(task)) => Some((task, event.seq)),
                _ => None,
            }));
        }
        Ok(starts)
    }

    /// The newest messages of the task with this first event, which was first started at `started` and has no event behind `until`, oldest first. What happens to a task
    /// later decides what is shown of it (it may be taken back, or a void text may be all that is left of it), so it is followed to its end.
    async fn messages_of(&self, first: &Event, started: Seq, until: Seq) -> Result<VecDeque<MessageInfo>, StoreError> {
        let mut state = self.before_everything();
        let Some(task) = first.task_id else { return Ok(VecDeque::new()) };
        fold(&mut state, first);
        let mut messages = VecDeque::new();
        let mut after = started - 1;
        while after < until && state.task(task).is_some_and(|task| !task.status.is_terminal()) {
            let events = self.read(after, until).await?;
            let Some(last) = events.last() else { break };
            after = last.seq;
            for event in events.iter().filter(|event| event.task_id == Some(task)) {
                fold(&mut state, event);
                state.take_messages().into_iter().for_each(|message| self.take(&mut messages, message));
            }
        }
        if state.task(task).is_some_and(|task| task.taken_back()) {
            return Ok(VecDeque::new());
        }
        state.streamed().for_each(|message| self.take(&mut messages, message));
        Ok(messages)
    }

    /// Puts a message in its place, if it is wanted. Only a void text that a failed task leaves is not the newest.
    fn take(&self, messages: &mut VecDeque<MessageInfo>, message: MessageInfo) {
        if message.seq >= self.before {
            return;
        }
        messages.insert(messages.partition_point(|earlier| earlier.seq <= message.seq), message);
        if messages.len() > self.enough {
            messages.pop_front();
        }
    }

    /// The session without a task. What it is besides does not show in its messages.
    fn before_everything(&self) -> SessionState {
        let StoredSession { record, epoch, .. } = self.stored;
        let created = SessionCreated {
            epoch: epoch.clone(),
            agent: record.agent.clone(),
            tools: Vec::new(),
            model: None,
            name: None,
            tags: Vec::new(),
            metadata: None,
            created_at: record.created_at,
        };
        SessionState::born(record.id, record.owner.clone(), record.birth, epoch.clone(), &created)
    }

    /// The `task_queued` of a task.
    async fn first_event(&self, task: TaskId) -> Result<Event, StoreError> {
        let missing = || StoreError::Damaged(format!("the task {task} has no first event"));
        let value = self.store.get(Space::Task, task.to_string()).await?.ok_or_else(missing)?;
        let entry: TaskEntry = serde_json::from_slice(&value).map_err(|_| missing())?;
        let page = Page { events: 1, bytes: 1 };
        let events = self.store.read(self.stored.record.id, entry.first_seq.saturating_sub(1), page).await?;
        let event = decode(&events.first().ok_or_else(missing)?.text)?;
        if event.task_id == Some(task) { Ok(event) } else { Err(missing()) }
    }

    /// Some events behind `after`, up to and including `end`; none at the end.
    async fn read(&self, after: Seq, end: Seq) -> Result<Vec<Event>, StoreError> {
        let page = Page { events: usize::try_from(STEP.min(end - after)).unwrap_or(usize::MAX), bytes: 1024 * 1024 };
        let events = self.store.read(self.stored.record.id, after, page).await?;
        events.iter().take_while(|event| event.seq <= end).map(|event| decode(&event.text)).collect()
    }
}

/// Folds in an event of a task whose session's other events are left out.
fn fold(state: &mut SessionState, event: &Event) {
    state.head = event.seq - 1;
    state.apply(event);
}

/// The store does not answer; whoever asked may try again.
pub(crate) fn unreadable(error: StoreError) -> Refusal {
    tracing::warn!(%error, "the store could not be read");
    Refusal::overloaded("The store does not answer")
}
