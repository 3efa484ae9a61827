//! Owns the model stream and the tools of one task; talks to the session's actor by messages only.
//!
//! The actor decides what to do next ([`Todo`]); the runner does it and reports. Dropping the runner closes the connection to the
//! vendor.

use std::{collections::VecDeque, future::poll_fn, sync::Arc, task::Poll, time::Instant};

use agent_hub_protocol::{TaskId, limits::MERGED_TOKEN_BYTES};
use futures::StreamExt;
use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    provider::{CallEnd, ModelEvent, ModelRequest, ModelStream, ModelToolCall, ProviderError, ProviderErrorKind},
    runtime::{
        agent::{ASK_USER, Agent, tool_specs},
        refusal::Refusal,
        scheduler::Slot,
        session::{Call, CallReport, ModelAsk, Work},
    },
};

/// Reports that wait for the actor. Full: the runner gathers pieces of text itself, up to [`GATHERED_BYTES`].
const REPORTS: usize = 2;
/// Text the runner holds while the actor is busy. Full: it stops polling the model until the store has caught up.
const GATHERED_BYTES: usize = 4 * MERGED_TOKEN_BYTES;
/// The same bound for reports that are not text: a model that only calls tools is not read without end either.
const GATHERED_REPORTS: usize = 64;

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Delta {
    /// Said.
    Text(String),
    /// Thought.
    Reasoning(String),
}

/// What a runner tells the actor.
pub(crate) enum Report {
    /// More of the answer.
    Deltas(Vec<Delta>),
    /// The model asks for a call.
    ToolCalled(ModelToolCall),
    /// A call begins.
    ToolStarted(Call),
    /// A call ended.
    ToolEnded { call: Call, result: Result<Value, String>, took: std::time::Duration },
    /// A call asks a person.
    AskPerson(Call),
    /// What was to be done is done; the answer says what is next, once everything before it is durable.
    Next { report: Option<CallReport>, reply: oneshot::Sender<Todo> },
    /// The model call broke off.
    Failed(ProviderError),
}

/// What the runner is to do.
pub(crate) struct Todo {
    pub(crate) work: Work,
    /// Cancelled to abort the model call, not the task.
    pub(crate) abort: CancellationToken,
}

/// A running runner, owned by the actor. Dropping it aborts the work.
pub(crate) struct Run {
    pub(crate) task: TaskId,
    /// Cancelled to stop the work.
    pub(crate) stop: CancellationToken,
    /// Cancelled to abort the present model call.
    pub(crate) abort: CancellationToken,
    /// Closed when the runner has ended.
    pub(crate) reports: mpsc::Receiver<Report>,
    worker: JoinHandle<()>,
    /// Kept for as long as the work goes on.
    _slot: Slot,
}

struct Runner {
    agent: Arc<Agent>,
    task: TaskId,
    stop: CancellationToken,
    out: mpsc::Sender<Report>,
}

/// Why the runner ends early: the actor is gone, or told it to stop.
struct Stopped;

impl Run {
    /// Starts the work of a task on the given tracker.
    pub(crate) fn start(tracker: &TaskTracker, agent: Arc<Agent>, task: TaskId, stop: CancellationToken, slot: Slot) -> Self {
        let (out, reports) = mpsc::channel(REPORTS);
        let runner = Runner { agent, task, stop: stop.clone(), out };
        let worker = tracker.spawn(async move {
            // Stopped or done: either way the channel closes, and that is what the actor waits for.
            let stop = runner.stop.clone();
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                _ = runner.run() => {}
            }
        });
        Self { task, stop, abort: CancellationToken::new(), reports, worker, _slot: slot }
    }

    /// A run that fails at once, with this reason.
    pub(crate) fn failed(tracker: &TaskTracker, task: TaskId, stop: CancellationToken, slot: Slot, refusal: Refusal) -> Self {
        let (out, reports) = mpsc::channel(REPORTS);
        let error = ProviderError { kind: ProviderErrorKind::Config, message: refusal.message, retry_after: None };
        let worker = tracker.spawn(async move { drop(out.send(Report::Failed(error)).await) });
        Self { task, stop, abort: CancellationToken::new(), reports, worker, _slot: slot }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

impl Runner {
    async fn run(self) -> Result<(), Stopped> {
        let mut report = None;
        loop {
            let todo = self.next(report.take()).await?;
            match todo.work {
                Work::Nothing => return Ok(()),
                Work::Tools(calls) => self.run_tools(calls).await?,
                Work::Model(ask) => match self.call_model(*ask, &todo.abort).await? {
                    Ok(done) => report = Some(done),
                    Err(error) => {
                        self.send(Report::Failed(error)).await?;
                        return Ok(());
                    }
                },
            }
        }
    }

    async fn next(&self, report: Option<CallReport>) -> Result<Todo, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.send(Report::Next { report, reply }).await?;
        answer.await.map_err(|_| Stopped)
    }

    async fn send(&self, report: Report) -> Result<(), Stopped> {
        self.out.send(report).await.map_err(|_| Stopped)
    }

    /// One model call: takes pieces as they come, hands them on as the actor has room, gathers them while it has not.
    async fn call_model(&self, ask: ModelAsk, abort: &CancellationToken) -> Result<Result<CallReport, ProviderError>, Stopped> {
        let request = ModelRequest {
            model: ask.model.or_else(|| self.agent.model.clone()),
            instructions: self.agent.instructions.clone(),
            messages: ask.messages,
            tools: tool_specs(&ask.tools),
            options: ask.options,
            call_label: self.task.to_string(),
        };
        let mut stream = self.agent.provider.call(request);
        let mut gathered = Gathered::default();
        let ended = loop {
            tokio::select! {
                biased;
                () = abort.cancelled() => break Ok(CallReport::Aborted),
                room = self.out.reserve(), if !gathered.is_empty() => {
                    room.map_err(|_| Stopped)?.send(gathered.take());
                }
                ended = pull(&mut stream, &mut gathered), if gathered.has_room() => {
                    if let Some(ended) = ended {
                        break ended;
                    }
                    if gathered.total >= ask.answer_bytes {
                        break Ok(CallReport::Ended(CallEnd { truncated: true, ..CallEnd::default() }));
                    }
                }
            }
        };
        // The connection closes here, before anything is waited for.
        drop(stream);
        while !gathered.is_empty() {
            self.send(gathered.take()).await?;
        }
        Ok(ended)
    }

    async fn run_tools(&self, calls: Vec<Call>) -> Result<(), Stopped> {
        // People are asked last, when nothing else is left to do.
        let (ask, run): (Vec<Call>, Vec<Call>) = calls.into_iter().partition(|call| call.tool == ASK_USER);
        for call in run {
            self.send(Report::ToolStarted(call.clone())).await?;
            let started = Instant::now();
            let result = Err(format!("The tool {} is not configured in this hub", call.tool));
            self.send(Report::ToolEnded { call, result, took: started.elapsed() }).await?;
        }
        for call in ask {
            self.send(Report::AskPerson(call)).await?;
        }
        Ok(())
    }
}

/// Takes what the model has ready, at least one piece. Returns how the call ended, once it has.
///
/// Cancel safety: safe; a piece that was taken is in `gathered`.
async fn pull(stream: &mut ModelStream, gathered: &mut Gathered) -> Option<Result<CallReport, ProviderError>> {
    poll_fn(|cx| {
        let mut any = false;
        while gathered.has_room() {
            match stream.poll_next_unpin(cx) {
                Poll::Pending if any => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(ModelEvent::End(end)))) => return Poll::Ready(Some(Ok(CallReport::Ended(end)))),
                Poll::Ready(Some(Ok(event))) => gathered.add(event),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(Some(Err(cut_off()))),
            }
            any = true;
        }
        Poll::Ready(None)
    })
    .await
}

/// What the runner holds until the actor has room: adjacent pieces of one kind as one.
#[derive(Default)]
struct Gathered {
    reports: VecDeque<Report>,
    bytes: usize,
    /// Text that ever came in.
    total: usize,
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.reports.is_empty()
    }

    fn has_room(&self) -> bool {
        self.bytes < GATHERED_BYTES && self.reports.len() < GATHERED_REPORTS
    }

    fn add(&mut self, event: ModelEvent) {
        let delta = match event {
            ModelEvent::Text(text) => Delta::Text(text),
            ModelEvent::Reasoning(text) => Delta::Reasoning(text),
            ModelEvent::ToolCall(call) => return self.reports.push_back(Report::ToolCalled(call)),
            // The caller takes the end itself.
            ModelEvent::End(CallEnd { .. }) => return,
        };
        self.bytes += delta.text().len();
        self.total += delta.text().len();
        if let Some(Report::Deltas(deltas)) = self.reports.back_mut() {
            match deltas.last_mut() {
                Some(last) if last.takes(&delta) => last.push(delta.text()),
                _ => deltas.push(delta),
            }
            return;
        }
        self.reports.push_back(Report::Deltas(vec![delta]));
    }

    fn take(&mut self) -> Report {
        let report = self.reports.pop_front().unwrap_or(Report::Deltas(Vec::new()));
        if let Report::Deltas(deltas) = &report {
            self.bytes -= deltas.iter().map(|delta| delta.text().len()).sum::<usize>();
        }
        report
    }
}

impl Delta {
    pub(crate) fn text(&self) -> &str {
        match self {
            Delta::Text(text) | Delta::Reasoning(text) => text,
        }
    }

    fn takes(&self, other: &Delta) -> bool {
        let same = matches!((self, other), (Delta::Text(_), Delta::Text(_)) | (Delta::Reasoning(_), Delta::Reasoning(_)));
        same && self.text().len() + other.text().len() <= MERGED_TOKEN_BYTES
    }

    fn push(&mut self, more: &str) {
        match self {
            Delta::Text(text) | Delta::Reasoning(text) => text.push_str(more),
        }
    }
}

fn cut_off() -> ProviderError {
    ProviderError { kind: ProviderErrorKind::Connection, message: "The model's answer broke off".to_owned(), retry_after: None }
}
