//! Waiting for a task to change, for polls that would rather be answered late than often.

use std::{sync::Arc, time::Duration};

use agent_hub_protocol::{Event, EventType, TaskId};
use tokio::time::timeout;

use crate::{
    runtime::{
        Principal, Refusal,
        log::{LogEvent, Reader},
        session::{After, Attach, TaskView},
    },
    transport::Edge,
};

/// Bytes of wire text read at once.
const BATCH: usize = 16 * 1024;

/// Returns when something about the task has changed since `view` (its text excepted), when `most` has passed, or when the hub drains.
///
/// # Errors
/// What attaching is refused with.
pub(super) async fn for_change(edge: &Arc<Edge>, who: &Principal, view: &TaskView, most: Duration) -> Result<(), Refusal> {
    let attach = Attach { after: After::Seq(view.cursor.seq), socket: false };
    let mut attached = edge.hub.attach(who, view.session, attach).await?;
    tokio::select! {
        () = edge.stop.cancelled() => {}
        // Passed or not: the caller looks at the task again.
        _ = timeout(most, change(&mut attached.reader, view.info.task_id)) => {}
    }
    Ok(())
}

async fn change(reader: &mut Reader, task: TaskId) {
    let mut batch: Vec<LogEvent> = Vec::new();
    // A log that cannot be read any more is a change, too.
    while reader.next(BATCH, &mut batch).await.is_ok() {
        if batch.drain(..).any(|event| concerns(&event, task)) {
            return;
        }
    }
}

fn concerns(event: &LogEvent, task: TaskId) -> bool {
    let decoded = std::str::from_utf8(&event.text).ok().and_then(|text| Event::decode(text).ok());
    decoded.is_some_and(|event| event.task_id == Some(task) && !matches!(event.body.event_type(), EventType::Token | EventType::Reasoning))
}
