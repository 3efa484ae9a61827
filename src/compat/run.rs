//! Tasks that adapters start: made with their session, read from their first event, and cancelled where nobody listens any more.

use std::sync::Arc;

use agent_hub_protocol::{ErrorCode, Event, SessionId, TaskId};

use crate::{
    runtime::{
        Hub, Principal, Refusal,
        admission::{NewSession, NewTask},
        log::{LogEvent, ReadError, Reader},
        session::{After, Attach, Change, Done},
    },
    transport::{Edge, Problem},
};

/// Bytes of wire text read at once.
const BATCH: usize = 64 * 1024;

/// A task, with a reader that stands before its first event.
pub(super) struct Run {
    pub(super) session: SessionId,
    pub(super) task: TaskId,
    pub(super) reader: Reader,
    /// The same task was there before, and nothing was made.
    pub(super) repeated: bool,
}

/// Makes the session if it is not there, and the task in it.
///
/// # Errors
/// What either is refused with.
pub(super) async fn start(edge: &Arc<Edge>, who: &Principal, session: NewSession, task: NewTask) -> Result<Run, Problem> {
    let hub = &edge.hub;
    hub.welcome(who).await.map_err(problem)?;
    let (id, task_id) = (session.id, task.id);
    hub.change(who, id, Change::Create(session)).await.map_err(problem)?;
    let done = hub.change(who, id, Change::Submit(task)).await.map_err(problem)?;
    let Done { seq, repeated, .. } = done;
    let reader = reader(hub, who, id, seq.unwrap_or(1) - 1).await?;
    Ok(Run { session: id, task: task_id, reader, repeated })
}

/// A reader behind this event.
///
/// # Errors
/// What attaching is refused with.
pub(super) async fn reader(hub: &Hub, who: &Principal, session: SessionId, after: u64) -> Result<Reader, Problem> {
    let attached = hub.attach(who, session, Attach { after: After::Seq(after), socket: false }).await;
    Ok(attached.map_err(problem)?.reader)
}

/// Hands on every event until `see` says that this was the last one.
///
/// # Errors
/// The hub stops, or the log cannot be read.
pub(super) async fn follow(edge: &Edge, reader: &mut Reader, mut see: impl FnMut(&Event) -> bool) -> Result<(), Problem> {
    let mut batch: Vec<LogEvent> = Vec::new();
    loop {
        tokio::select! {
            biased;
            read = reader.next(BATCH, &mut batch) => match read {
                Ok(()) => {}
                Err(ReadError::End(_)) => return Err(Problem::new(ErrorCode::SessionNotFound, "The session was deleted")),
                Err(ReadError::Store(error)) => {
                    tracing::warn!(session = %reader.session(), %error, "a log cannot be read");
                    return Err(Problem::new(ErrorCode::Overloaded, "The log cannot be read"));
                }
            },
            () = edge.stop.cancelled() => return Err(Problem::new(ErrorCode::Overloaded, "The hub is restarting")),
        }
        for event in batch.drain(..) {
            if decoded(&event).is_some_and(|event| see(&event)) {
                return Ok(());
            }
        }
    }
}

/// An event as it was written; `None` for one that cannot be read, which is logged.
pub(super) fn decoded(event: &LogEvent) -> Option<Event> {
    match Event::decode(std::str::from_utf8(&event.text).unwrap_or_default()) {
        Ok(event) => Some(event),
        Err(error) => {
            tracing::error!(seq = event.seq, %error, code = %ErrorCode::Internal, "an event of the log cannot be read");
            None
        }
    }
}

/// Cancels a task when it is dropped before the task has ended: whoever asked for it has hung up.
pub(super) struct CancelOnDrop {
    hub: Hub,
    who: Principal,
    session: SessionId,
    task: Option<TaskId>,
}

impl CancelOnDrop {
    pub(super) fn new(hub: &Hub, who: &Principal, run: &Run) -> Self {
        Self { hub: hub.clone(), who: who.clone(), session: run.session, task: Some(run.task) }
    }

    /// The task has ended.
    pub(super) fn disarm(&mut self) {
        self.task = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(task) = self.task {
            let cancel = Change::Cancel { task, reason: Some("the client has disconnected".to_owned()) };
            // It is in the session's inbox when this returns; nobody waits for the answer.
            drop(self.hub.change(&self.who, self.session, cancel));
        }
    }
}

/// A refusal as adapters say it: `error` is the text that says what is wrong, and what is somebody else's is not there.
pub(super) fn problem(refusal: Refusal) -> Problem {
    if refusal.code == ErrorCode::Forbidden {
        return Problem::new(ErrorCode::NotFound, "Not found");
    }
    let mut problem = Problem::from(refusal);
    problem.error.clone_from(&problem.message);
    if problem.details.is_array() {
        problem.details = Box::new(serde_json::json!({ "issues": *problem.details }));
    }
    problem
}
