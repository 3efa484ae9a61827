//! Reading the past of a session from the store, for those who do not follow it.

use agent_hub_protocol::{
    Event, EventBody, MessageInfo, Seq, SessionId, TaskId,
    event::{Role, TaskCancelled, TaskFailed, TaskTimeout},
};

use super::{entry::TaskEntry, request::MessagePage};
use crate::{
    runtime::refusal::Refusal,
    store::{Page, SharedStore, Space, StoreError},
};

/// How far one step back through the log goes.
const STEP: Seq = 1000;

/// Finished messages strictly before `before` (the newest if `None`), oldest first. Walks the log backwards until it has enough.
pub(crate) async fn message_page(
    store: &SharedStore,
    session: SessionId,
    before: Option<Seq>,
    limit: usize,
) -> Result<MessagePage, Refusal> {
    let stored = store.open_session(session).await.map_err(unreadable)?.ok_or_else(Refusal::session_not_found)?;
    let mut end = before.map_or(stored.head, |before| before.saturating_sub(1).min(stored.head));
    let mut newest_first: Vec<MessageInfo> = Vec::new();
    while end > 0 && newest_first.len() <= limit {
        let start = end.saturating_sub(STEP);
        let mut found = Vec::new();
        for event in range(store, session, start, end).await.map_err(unreadable)? {
            found.extend(messages_of(store, event).await.map_err(unreadable)?);
        }
        newest_first.extend(found.into_iter().rev());
        end = start;
    }
    let more = newest_first.len() > limit;
    newest_first.truncate(limit);
    newest_first.reverse();
    Ok(MessagePage { messages: newest_first, more })
}

/// What an event adds to the conversation, under the ids a snapshot shows it by.
async fn messages_of(store: &SharedStore, event: Event) -> Result<Vec<MessageInfo>, StoreError> {
    let Some(task_id) = event.task_id else { return Ok(Vec::new()) };
    let seq = event.seq;
    let info = |message_id, role, text, partial| MessageInfo { message_id, role, text, task_id, partial, seq };
    Ok(match event.body {
        EventBody::Message(m) => vec![info(m.message_id, m.role, m.text, m.partial)],
        EventBody::TaskStarted(started) if started.attempt == 1 => {
            let EventBody::TaskQueued(queued) = first_event(store, event.session_id, task_id).await? else { return Ok(Vec::new()) };
            let context = queued.context.map(|text| info(format!("{}c", started.message_id), Role::User, text, false));
            let prompt = queued.prompt.map(|text| info(started.message_id, Role::User, text, false));
            context.into_iter().chain(prompt).collect()
        }
        EventBody::SteerApplied(applied) => vec![info(applied.message_id, Role::User, applied.input, false)],
        // Text that never became a message: the end of its task says what was kept of it.
        EventBody::TaskCancelled(TaskCancelled { partial, .. })
        | EventBody::TaskFailed(TaskFailed { partial, .. })
        | EventBody::TaskTimeout(TaskTimeout { partial, .. })
            if !partial.is_empty() =>
        {
            vec![info(format!("e{seq}"), Role::Assistant, partial, true)]
        }
        _ => Vec::new(),
    })
}

/// The `task_queued` of a task.
async fn first_event(store: &SharedStore, session: SessionId, task: TaskId) -> Result<EventBody, StoreError> {
    let missing = || StoreError::Damaged(format!("the task {task} has no first event"));
    let value = store.get(Space::Task, task.to_string()).await?.ok_or_else(missing)?;
    let entry: TaskEntry = serde_json::from_slice(&value).map_err(|_| missing())?;
    let events = store.read(session, entry.first_seq.saturating_sub(1), Page { events: 1, bytes: 1 }).await?;
    events.first().and_then(|event| decode(&event.text)).map(|event| event.body).ok_or_else(missing)
}

/// The events behind `start`, up to and including `end`.
async fn range(store: &SharedStore, session: SessionId, start: Seq, end: Seq) -> Result<Vec<Event>, StoreError> {
    let mut events = Vec::new();
    let mut after = start;
    while after < end {
        let page = store.read(session, after, Page { events: STEP as usize, bytes: 1024 * 1024 }).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        events.extend(page.iter().take_while(|event| event.seq <= end).filter_map(|event| decode(&event.text)));
    }
    Ok(events)
}

fn decode(text: &[u8]) -> Option<Event> {
    Event::decode(std::str::from_utf8(text).ok()?).ok()
}

/// The store does not answer; whoever asked may try again.
pub(crate) fn unreadable(error: StoreError) -> Refusal {
    tracing::warn!(%error, "the store could not be read");
    Refusal::overloaded("The store does not answer")
}
