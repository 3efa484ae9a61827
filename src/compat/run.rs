//! Tasks that adapters start: made with their session, read from their first event, and cancelled where nobody listens any more.

use std::sync::Arc;

use agent_hub_protocol::{
    ErrorCode, Event, SessionId, TaskId,
    client_message::{CreateSession, SubmitTask},
};
use serde_json::{Map, Value};

use crate::{
    runtime::{
        Hub, Principal, Refusal,
        admission::{NewSession, NewTask, derived_uuid},
        log::{LogEvent, ReadError, Reader},
        session::{After, Attach, Change, Done},
    },
    transport::{Edge, Problem},
};

/// Bytes of wire text read at once.
const BATCH: usize = 64 * 1024;
/// Characters of what was asked that name a session.
const NAME_CHARS: usize = 60;

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
    let id = session.id;
    hub.change(who, id, Change::Create(session)).await.map_err(problem)?;
    submit(edge, who, id, task).await
}

/// Makes the task in a session that is there.
///
/// # Errors
/// What it is refused with.
pub(super) async fn submit(edge: &Arc<Edge>, who: &Principal, session: SessionId, task: NewTask) -> Result<Run, Problem> {
    let hub = &edge.hub;
    hub.welcome(who).await.map_err(problem)?;
    let task_id = task.id;
    let Done { seq, repeated, .. } = hub.change(who, session, Change::Submit(task)).await.map_err(problem)?;
    let reader = reader(hub, who, session, seq.unwrap_or(1) - 1).await?;
    Ok(Run { session, task: task_id, reader, repeated })
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
    /// Of this run, unless whoever asked for it will be back.
    pub(super) fn unless(stays: bool, hub: &Hub, who: &Principal, run: &Run) -> Self {
        Self { hub: hub.clone(), who: who.clone(), session: run.session, task: (!stays).then_some(run.task) }
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

/// Writes one block of a stream whose readers split it at blank lines and expect every block to begin with `data: `.
pub(super) fn block(out: &mut Vec<u8>, value: &Value) {
    out.extend_from_slice(b"data: ");
    // Writing JSON to memory cannot fail, and JSON has no line breaks.
    let _ = serde_json::to_writer(&mut *out, value);
    out.extend_from_slice(b"\n\n");
}

/// A session and a task in it, for what somebody has asked an adapter.
pub(super) struct Prompt {
    /// Whose words it is put in.
    pub(super) dialect: &'static str,
    pub(super) session: SessionId,
    /// The hub's usual one if `None`.
    pub(super) agent: Option<String>,
    pub(super) task: TaskId,
    /// Whether the task may be known already.
    pub(super) task_chosen: bool,
    pub(super) prompt: String,
    pub(super) options: Map<String, Value>,
    pub(super) timeout_ms: Option<u64>,
    /// What is kept with the session.
    pub(super) metadata: Map<String, Value>,
}

impl Prompt {
    /// Checked like everything that is asked of the hub. Neither counts among what a user may make in a day.
    ///
    /// # Errors
    /// What is wrong with it, by the hub's names.
    pub(super) fn check(self, edge: &Edge) -> Result<(NewSession, NewTask), Refusal> {
        let name: String = self.prompt.chars().filter(|c| !c.is_control()).take(NAME_CHARS).collect();
        let mut metadata = self.metadata;
        metadata.insert("dialect".to_owned(), self.dialect.into());
        let create = CreateSession {
            session_id: Some(self.session),
            agent: self.agent,
            // The agent has its own.
            tools: Some(Vec::new()),
            name: (!name.trim().is_empty()).then_some(name),
            metadata: Some(metadata),
            ..CreateSession::default()
        };
        let submit = SubmitTask {
            prompt: Some(self.prompt),
            task_id: Some(self.task),
            options: (!self.options.is_empty()).then_some(self.options),
            timeout_ms: self.timeout_ms,
            ..SubmitTask::default()
        };
        let session = NewSession::check(create, edge.hub.agents(), &[], false)?;
        let task = NewTask::check(submit, edge.hub.settings(), edge.hub.workflows())?;
        Ok((NewSession { counted: false, ..session }, NewTask { counted: false, id_chosen: self.task_chosen, ..task }))
    }
}

/// The id that stands for one of an adapter's own, of this kind and under these names; the same for the same user.
pub(super) fn id_of(user: &str, dialect: &str, kind: &str, names: &[&str]) -> uuid::Uuid {
    // Lengths keep names apart that run into each other.
    let key: String = names.iter().map(|name| format!("{}:{name};", name.len())).collect();
    derived_uuid(user, &format!("{dialect}.{kind}"), &key)
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
