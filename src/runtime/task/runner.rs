//! Owns the model stream and the tools of one task; talks to the session's actor by messages only.
//!
//! The actor decides what to do next ([`Work`]) and lets the runner work; the runner reports. Dropping the runner closes the connection to
//! the vendor.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use agent_hub_protocol::{SessionId, TaskId, limits::MERGED_TOKEN_BYTES};
use futures::{
    FutureExt, StreamExt,
    future::{AbortHandle, BoxFuture, abortable},
    stream::{self, FuturesUnordered},
};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::{
    provider::{CallEnd, ModelEvent, ModelRequest, ModelStream, ModelToolCall, ProviderError, ProviderErrorKind},
    runtime::{
        agent::Agent,
        refusal::Refusal,
        scheduler::Slot,
        session::{Call, CallReport, ModelAsk, Work},
    },
    tool::{Invocation, Output, ToolError, Toolbox},
};

/// Reports that wait for the actor to decide. Full: the runner gathers pieces of text itself, up to [`GATHERED_BYTES`].
const REPORTS: usize = 2;
/// Text the runner holds while the actor is busy. Full: it stops polling the model until the store has caught up.
const GATHERED_BYTES: usize = 4 * MERGED_TOKEN_BYTES;
/// The same bound for reports that are not text: a model that only calls tools is not read without end either.
const GATHERED_REPORTS: usize = 64;

/// Calls of one task that run at the same time; the others wait for one of them to end.
const PARALLEL_CALLS: usize = 8;
/// What one call may say while it runs, in bytes. More is not kept.
const OUTPUT_BYTES: usize = 64 * 1024;

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
    /// A call says something.
    ToolSaid { call_id: String, text: String },
    /// A call ended.
    ToolEnded { call: Call, result: Result<Value, ToolError>, took: Duration },
    /// What was to be done is done; the answer says what is next, once everything before it is durable.
    Next { report: Option<CallReport>, reply: oneshot::Sender<Work> },
    /// The model call broke off.
    Failed(ProviderError),
}

/// A runner at work, owned and polled by the actor: a task of its own would be woken once more for every piece of an answer. Dropping it
/// ends the work.
pub(crate) struct Run {
    pub(crate) task: TaskId,
    desk: Desk,
    /// `None` once it has ended.
    work: Option<BoxFuture<'static, ()>>,
    /// Kept for as long as the work goes on; `None` for the task of a sub-agent, which works on the slot of the task it belongs to.
    _slot: Option<Slot>,
}

/// For whom a runner works, and with what.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) session: SessionId,
    pub(crate) user: String,
    pub(crate) tools: Toolbox,
}

struct Runner {
    agent: Arc<Agent>,
    task: TaskId,
    bench: Bench,
    desk: Desk,
}

/// Where the runner and its actor leave things for each other. Both are polled by one task, and the runner always before the actor looks
/// here, so nobody has to be woken.
#[derive(Clone, Default)]
struct Desk(Arc<Mutex<Left>>);

#[derive(Default)]
struct Left {
    /// What the runner has said and the actor has not taken.
    reports: VecDeque<Report>,
    /// Parts of the runner that wait for room: those of calls that run side by side are polled only when woken.
    waiting: Vec<Waker>,
    /// The actor wants the present model call to end.
    abort: bool,
}

impl Desk {
    /// Waits until the actor has taken enough.
    async fn room(&self) {
        poll_fn(|cx| {
            let mut left = self.left();
            if left.reports.len() < REPORTS {
                return Poll::Ready(());
            }
            if !left.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                left.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Waits until the present model call is to be aborted.
    async fn aborted(&self) {
        poll_fn(|_| if self.left().abort { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    async fn send(&self, report: Report) {
        self.room().await;
        self.left().reports.push_back(report);
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        // Each use is one step, so what is left by a user that panicked is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the runner ends early: the actor gives it nothing more to do.
struct Stopped;

impl Run {
    /// The work of a task, beginning with this.
    pub(crate) fn new(agent: Arc<Agent>, task: TaskId, bench: Bench, first: Work, slot: Option<Slot>) -> Self {
        let desk = Desk::default();
        let runner = Runner { agent, task, bench, desk: desk.clone() };
        Self::of(task, slot, desk, async move { drop(runner.run(first).await) })
    }

    /// A run that fails at once, with this reason.
    pub(crate) fn failed(task: TaskId, slot: Option<Slot>, refusal: Refusal) -> Self {
        let desk = Desk::default();
        let out = desk.clone();
        let error = ProviderError { kind: ProviderErrorKind::Config, message: refusal.message, retry_after: None };
        Self::of(task, slot, desk, async move { out.send(Report::Failed(error)).await })
    }

    fn of(task: TaskId, slot: Option<Slot>, desk: Desk, work: impl Future<Output = ()> + Send + 'static) -> Self {
        // A provider or tool that panics fails its task, not the session.
        let work = AssertUnwindSafe(work).catch_unwind().map(drop).boxed();
        Self { task, desk, work: Some(work), _slot: slot }
    }

    /// Ends the work now. What it had said can still be taken; after that it is over.
    pub(crate) fn stop(&mut self) {
        self.work = None;
    }

    /// Ends the present model call, not the work.
    pub(crate) fn abort_call(&self) {
        self.desk.left().abort = true;
    }

    /// A new call may begin: what was asked of the one before does not mean it.
    pub(crate) fn allow_call(&self) {
        self.desk.left().abort = false;
    }

    /// Lets the work go on. What it has to say is kept, up to a bound.
    pub(crate) fn poll_work(&mut self, cx: &mut Context<'_>) {
        if let Some(work) = &mut self.work
            && work.as_mut().poll(cx).is_ready()
        {
            self.work = None;
        }
    }

    /// Lets the work go on, and takes a report; `None` when it is over and everything was taken.
    pub(crate) fn poll_report(&mut self, cx: &mut Context<'_>) -> Poll<Option<Report>> {
        self.poll_work(cx);
        match self.try_report() {
            None if self.work.is_some() => Poll::Pending,
            taken => Poll::Ready(taken),
        }
    }

    /// Takes a report that is there.
    pub(crate) fn try_report(&mut self) -> Option<Report> {
        let mut left = self.desk.left();
        let report = left.reports.pop_front();
        if report.is_some() {
            left.waiting.drain(..).for_each(Waker::wake);
        }
        report
    }
}

impl Runner {
    async fn run(self, first: Work) -> Result<(), Stopped> {
        let mut work = first;
        loop {
            let report = match work {
                Work::Nothing => return Ok(()),
                Work::Tools(calls) => {
                    self.run_tools(calls).await;
                    None
                }
                Work::Wait => None,
                Work::Flow { start, .. } => return self.run_flow(start).await,
                Work::Model(ask) => match self.call_model(*ask).await {
                    Ok(done) => Some(done),
                    Err(error) => {
                        self.desk.send(Report::Failed(error)).await;
                        return Ok(());
                    }
                },
            };
            work = self.next(report).await?;
        }
    }

    async fn next(&self, report: Option<CallReport>) -> Result<Work, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.desk.send(Report::Next { report, reply }).await;
        answer.await.map_err(|_| Stopped)
    }

    /// One model call, of the agent's model or, as long as nothing has come of it, of the next one the agent may fall back to.
    async fn call_model(&self, ask: ModelAsk) -> Result<CallReport, ProviderError> {
        let request = ModelRequest {
            model: ask.model,
            instructions: ask.instructions,
            messages: ask.messages,
            tools: ask.tools,
            options: ask.options,
            answer_schema: ask.answer_schema,
            attempts: self.agent.attempts,
            call_label: self.task.to_string(),
        };
        let mut left = self.agent.fallbacks.iter();
        let mut next = (Arc::clone(&self.agent.provider), request);
        loop {
            let (provider, request) = next;
            let again = (!left.as_slice().is_empty()).then(|| request.clone());
            let mut gathered = Gathered::default();
            let ended = self.read_answer(provider.call(request), &mut gathered, ask.answer_bytes).await;
            if let (Err(error), Some(request)) = (&ended, again)
                && !gathered.spoke
                && let Some(fallback) = left.next()
            {
                tracing::info!(task = %self.task, %error, provider = fallback.provider.name(), "the model does not answer; another one is asked");
                next = (Arc::clone(&fallback.provider), ModelRequest { model: fallback.model.clone(), ..request });
                continue;
            }
            while !gathered.is_empty() {
                self.desk.send(gathered.take()).await;
            }
            return ended;
        }
    }

    /// Takes pieces of an answer as they come, hands them on as the actor has room, gathers them while it has not. The connection is closed when
    /// it returns.
    async fn read_answer(&self, mut stream: ModelStream, gathered: &mut Gathered, most: usize) -> Result<CallReport, ProviderError> {
        loop {
            tokio::select! {
                biased;
                () = self.desk.aborted() => return Ok(CallReport::Aborted),
                () = self.desk.room(), if !gathered.is_empty() => self.desk.left().reports.push_back(gathered.take()),
                ended = pull(&mut stream, gathered), if gathered.has_room() => {
                    if let Some(ended) = ended {
                        return ended;
                    }
                    if gathered.total >= most {
                        return Ok(CallReport::Ended(CallEnd { truncated: true, ..CallEnd::default() }));
                    }
                }
            }
        }
    }

    async fn run_tools(&self, calls: Vec<Call>) {
        let running = stream::iter(calls).map(|call| self.run_tool(call)).buffer_unordered(PARALLEL_CALLS);
        running.collect::<()>().await;
    }

    /// Runs the calls of a workflow: each ends when it ends, and what follows is asked for while others go on.
    async fn run_flow(&self, start: Vec<Call>) -> Result<(), Stopped> {
        let mut running = FuturesUnordered::new();
        let mut given_up: HashMap<String, AbortHandle> = HashMap::new();
        let mut start = start;
        loop {
            for call in start {
                let id = call.id.clone();
                let (work, handle) = abortable(self.run_tool(call));
                given_up.insert(id.clone(), handle);
                running.push(work.map(|_| id));
            }
            let mut next = std::pin::pin!(self.next(None));
            let work = loop {
                tokio::select! {
                    biased;
                    work = &mut next => break work?,
                    Some(ended) = running.next(), if !running.is_empty() => drop(given_up.remove(&ended)),
                }
            };
            match work {
                Work::Flow { start: more, drop } => {
                    drop.iter().filter_map(|call| given_up.remove(call)).for_each(|handle| handle.abort());
                    start = more;
                }
                // The actor answers a workflow with nothing else.
                Work::Nothing | Work::Wait | Work::Tools(_) | Work::Model(_) => return Ok(()),
            }
        }
    }

    async fn run_tool(&self, call: Call) {
        self.desk.send(Report::ToolStarted(call.clone())).await;
        let started = Instant::now();
        let result = self.result_of(&call).await;
        self.desk.send(Report::ToolEnded { call, result, took: started.elapsed() }).await;
    }

    async fn result_of(&self, call: &Call) -> Result<Value, ToolError> {
        // They were checked when they were made; a tool of a server may have changed since.
        let arguments = self.bench.tools.check(&call.tool, &call.arguments)?;
        let (output, mut said) = Output::channel();
        let Bench { session, user, tools } = &self.bench;
        let invocation = Invocation { session: *session, task: self.task, call_id: call.id.clone(), user: user.clone(), arguments, output };
        let mut work = tools.run(&call.tool, invocation);
        let mut left = OUTPUT_BYTES;
        let result = loop {
            tokio::select! {
                biased;
                Some(text) = said.recv() => self.pass_on(&call.id, text, &mut left).await,
                result = &mut work => break result,
            }
        };
        while let Ok(text) = said.try_recv() {
            self.pass_on(&call.id, text, &mut left).await;
        }
        result
    }

    /// Shows what a running call says, as long as it has not said too much.
    async fn pass_on(&self, call_id: &str, mut text: String, left: &mut usize) {
        if *left == 0 || text.is_empty() {
            return;
        }
        if text.len() > *left {
            let end = (0..=*left).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
            text.truncate(end);
            text.push_str("\n[more is not shown]");
            *left = 0;
        } else {
            *left -= text.len();
        }
        self.desk.send(Report::ToolSaid { call_id: call_id.to_owned(), text }).await;
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
    /// Whether anything ever came in: what was seen cannot be taken back.
    spoke: bool,
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.reports.is_empty()
    }

    fn has_room(&self) -> bool {
        self.bytes < GATHERED_BYTES && self.reports.len() < GATHERED_REPORTS
    }

    fn add(&mut self, event: ModelEvent) {
        self.spoke = true;
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
