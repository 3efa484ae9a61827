//! Reading the past of a session from the store, for those who do not follow it.

use agent_hub_protocol::{Event, EventBody, MessageInfo, Seq, SessionId, event::Role};

use super::request::MessagePage;
use crate::{
    runtime::refusal::Refusal,
    store::{Page, SharedStore, StoreError},
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
        let mut after = start;
        while after < end {
            let page = Page { events: STEP as usize, bytes: 1024 * 1024 };
            let events = store.read(session, after, page).await.map_err(unreadable)?;
            let Some(last) = events.last() else { break };
            after = last.seq;
            for event in events.iter().take_while(|e| e.seq <= end) {
                found.extend(message_of(&event.text));
            }
        }
        newest_first.extend(found.into_iter().rev());
        end = start;
    }
    let more = newest_first.len() > limit;
    newest_first.truncate(limit);
    newest_first.reverse();
    Ok(MessagePage { messages: newest_first, more })
}

/// What an event adds to the listing: the agent's finished blocks, and what people said.
fn message_of(text: &[u8]) -> Option<MessageInfo> {
    let event = Event::decode(std::str::from_utf8(text).ok()?).ok()?;
    let task_id = event.task_id?;
    let (message_id, role, text, partial) = match event.body {
        EventBody::Message(m) => (m.message_id, m.role, m.text, m.partial),
        // The prompt stands in `task_queued`, before it is a message of the conversation; it is listed where it was asked.
        EventBody::TaskQueued(queued) => (format!("{}", event.seq), Role::User, queued.prompt?, false),
        EventBody::SteerAccepted(steer) => (format!("{}", event.seq), Role::User, steer.input, false),
        _ => return None,
    };
    Some(MessageInfo { message_id, role, text, task_id, partial, seq: event.seq })
}

/// The store does not answer; whoever asked may try again.
pub(crate) fn unreadable(error: StoreError) -> Refusal {
    tracing::warn!(%error, "the store could not be read");
    Refusal::overloaded("The store does not answer")
}
