//! The only writer of a session's log. Chooses what to take next (waits, changes nothing), applies it (changes, waits for
//! nothing), makes it durable, and only then lets anybody see it.
//!
//! One batch of decisions is in flight at a time, so between two batches the state is exactly what the store has. Whatever arrives
//! meanwhile waits and is merged into the next batch: that is where pieces of text become one event.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use agent_hub_protocol::{ErrorCode, Event, EventBody, SessionId, TaskId, Timestamp, snapshot::TaskStatus};
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    entry::TaskEntry,
    handle::Inbox,
    load::{self, Loaded},
    request::{After, Ask, Attach, Attached, Change, Done, Envelope, Reply, SessionView, TaskView},
    state::{Answer, Lookup, Outbox, SessionState, Work},
};
use crate::{
    runtime::{
        hub::{Hub, Shared},
        log::{Reader, Tail, TailEnd},
        refusal::Refusal,
        scheduler::{Slot, Ticket},
        task::{Report, Run, Todo},
    },
    store::{Append, AppendError, Audience, Space, StoreError, Write},
};

/// Requests taken into one batch. More wait in the inbox for the next one.
const BATCH: usize = 64;
/// Events after which a sleeping session leaves a checkpoint, so that waking does not read the whole log.
const CHECKPOINT_AFTER: u64 = 500;
/// Waits between tries to get a failed store back.
const RETRY: std::ops::RangeInclusive<Duration> = Duration::from_millis(250)..=Duration::from_secs(5);

/// Starts the actor of a session.
pub(crate) fn spawn(hub: Hub, id: SessionId, inbox: Inbox) {
    let shared = Arc::clone(hub.shared());
    shared.metrics.sessions_awake.increment(1.0);
    let actor = Actor {
        stopped: Box::pin(shared.stop.clone().cancelled_owned()),
        stop: shared.stop.child_token(),
        flight: None,
        tail: inbox.tail,
        requests: inbox.requests,
        state: None,
        erased: None,
        loaded_at: 0,
        run: None,
        ticket: None,
        slot: None,
        waiting: VecDeque::new(),
        deferred: Vec::new(),
        timer: None,
        idle_since: Instant::now(),
        counted: Counted::default(),
        hub,
        shared: Arc::clone(&shared),
        id,
    };
    shared.actors.spawn(actor.live());
}

struct Actor {
    hub: Hub,
    shared: Arc<Shared>,
    id: SessionId,
    /// The parent of its tasks'.
    stop: CancellationToken,
    /// Kept, because a new one would be entered in the token's list at every turn.
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The append that is on its way to the store. Until it has landed nothing else is decided.
    flight: Option<Flight>,
    requests: mpsc::Receiver<Box<Envelope>>,
    tail: Arc<Tail>,
    /// `None`: there is no such session (yet, or any more).
    state: Option<SessionState>,
    /// The owner of a session that was erased and whose id is still taken.
    erased: Option<String>,
    /// Where the last checkpoint stands.
    loaded_at: u64,
    run: Option<Run>,
    ticket: Option<(TaskId, Ticket)>,
    slot: Option<(TaskId, Slot)>,
    /// Requests that arrived while a batch was in flight. At most [`BATCH`].
    waiting: VecDeque<Box<Envelope>>,
    deferred: Vec<(Until, Reply<Done>)>,
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
    idle_since: Instant,
    counted: Counted,
}

/// An append on its way.
struct Flight {
    appended: BoxFuture<'static, Result<(), AppendError>>,
    events: usize,
}

/// What a deferred answer waits for.
enum Until {
    Stopped(TaskId),
    Ended,
}

/// What has been chosen.
enum Chosen {
    Request(Box<Envelope>),
    Report(Report),
    RunnerGone,
    Slot(Option<Slot>),
    Timer,
    ReadersLeft,
    Stop,
}

/// Why the actor stops living.
enum Ending {
    Sleep,
    Gone,
    Stop,
}

/// What a batch owes to others once it is durable.
#[derive(Default)]
struct Owed {
    answers: Vec<(Reply<Done>, Result<Done, Refusal>)>,
    todos: Vec<(tokio::sync::oneshot::Sender<Todo>, Work)>,
    looks: Vec<Envelope>,
    start: Option<TaskId>,
}

impl Owed {
    fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.todos.is_empty() && self.looks.is_empty() && self.start.is_none()
    }

    /// The batch was not written: nothing of it happened. Refusals stay what they are.
    fn refuse(self, refusal: &Refusal) {
        for (reply, answer) in self.answers {
            drop(reply.send(answer.and_then(|_| Err(refusal.clone()))));
        }
        for look in self.looks {
            look.ask.refuse(refusal.clone());
        }
    }
}

/// What this session has in the hub's gauges.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Counted {
    queued: usize,
    running: usize,
    suspended: usize,
}

impl Actor {
    async fn live(mut self) {
        let ending = match Box::pin(self.wake()).await {
            Ok(()) => self.work().await,
            Err(error) => {
                self.refuse_all(&error).await;
                Ending::Gone
            }
        };
        if matches!(ending, Ending::Sleep | Ending::Stop) {
            Box::pin(self.leave_checkpoint()).await;
        }
        self.shared.awake.remove_if(&self.id, |_, handle| handle.is_of(&self.tail));
        self.requests.close();
        let mut late: Vec<Box<Envelope>> = self.waiting.drain(..).collect();
        while let Ok(envelope) = self.requests.try_recv() {
            late.push(envelope);
        }
        let hub = self.hub.clone();
        drop(self);
        // They came while the session fell asleep: they wake it again.
        for envelope in late {
            hub.post(envelope);
        }
    }

    async fn work(&mut self) -> Ending {
        loop {
            if let Some(ending) = self.may_end() {
                return ending;
            }
            let chosen = self.choose().await;
            if matches!(chosen, Chosen::Stop) {
                self.run = None;
                if let Err(error) = self.land().await {
                    tracing::warn!(session = %self.id, %error, "the last append failed; the next start reads what the store has");
                }
                return Ending::Stop;
            }
            if let Err(error) = self.step(chosen).await {
                Box::pin(self.repair(error)).await;
            }
        }
    }

    /// Waits for the next thing to do.
    ///
    /// Cancel safety: safe; nothing is changed, and what was received is returned.
    async fn choose(&mut self) -> Chosen {
        if let Some(envelope) = self.waiting.pop_front() {
            return Chosen::Request(envelope);
        }
        self.set_timer();
        let Self { stopped, requests, run, ticket, timer, tail, .. } = self;
        poll_fn(|cx| {
            if stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Chosen::Stop);
            }
            if let Poll::Ready(Some(envelope)) = requests.poll_recv(cx) {
                return Poll::Ready(Chosen::Request(envelope));
            }
            if let Some(run) = run
                && let Poll::Ready(report) = run.poll_report(cx)
            {
                return Poll::Ready(report.map_or(Chosen::RunnerGone, Chosen::Report));
            }
            if let Some((_, ticket)) = ticket
                && let Poll::Ready(slot) = ticket.poll_granted(cx)
            {
                return Poll::Ready(Chosen::Slot(slot));
            }
            if let Some((_, timer)) = timer
                && timer.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Chosen::Timer);
            }
            tail.poll_deserted(cx).map(|()| Chosen::ReadersLeft)
        })
        .await
    }

    /// Takes in what was chosen and whatever else is there, makes it durable, and pays what is owed.
    async fn step(&mut self, chosen: Chosen) -> Result<(), AppendError> {
        if let Chosen::Request(envelope) = &chosen {
            self.stop_at_once(envelope);
        }
        if let Err(error) = self.land().await {
            if let Chosen::Request(envelope) = chosen {
                envelope.ask.refuse(Refusal::overloaded("The store cannot be written"));
            }
            return Err(error);
        }
        let mut out = Outbox::at(Timestamp::now());
        let mut owed = Owed::default();
        let gone = matches!(chosen, Chosen::RunnerGone);
        match chosen {
            Chosen::Request(envelope) => self.take(envelope, &mut out, &mut owed).await,
            Chosen::Report(report) => self.report(report, &mut out, &mut owed),
            Chosen::Slot(slot) => {
                let task = self.ticket.take().map(|(task, _)| task);
                self.slot = task.zip(slot);
            }
            Chosen::Timer => self.timer = None,
            Chosen::ReadersLeft => self.idle_since = Instant::now(),
            Chosen::RunnerGone | Chosen::Stop => {}
        }
        self.take_more(&mut out, &mut owed).await;
        self.settle(gone, &mut out, &mut owed);
        self.append(&mut out);
        // Readers see pieces of an answer as soon as the store has them; nobody else waits for those, so neither does this task.
        if owed.is_empty() && self.deferred.is_empty() && out.is_stream() {
            return Ok(());
        }
        self.pay(&out, owed).await
    }

    /// Requests before reports: a cancel that is here must be seen before the end that it caused.
    async fn take_more(&mut self, out: &mut Outbox, owed: &mut Owed) {
        let mut taken = 0;
        while taken < BATCH {
            let next = self.waiting.pop_front().or_else(|| self.requests.try_recv().ok());
            let Some(envelope) = next else { break };
            self.take(envelope, out, owed).await;
            taken += 1;
        }
        while let Some(report) = self.run.as_mut().and_then(Run::try_report) {
            self.report(report, out, owed);
        }
    }

    async fn take(&mut self, envelope: Box<Envelope>, out: &mut Outbox, owed: &mut Owed) {
        self.idle_since = Instant::now();
        match *envelope {
            Envelope { who, ask: Ask::Change(change, reply), .. } => match self.change(&who, &change, out).await {
                Ok(Answer::Done(done)) => owed.answers.push((reply, Ok(done))),
                Ok(Answer::WhenStopped(task)) => self.deferred.push((Until::Stopped(task), reply)),
                Ok(Answer::WhenEnded) => self.deferred.push((Until::Ended, reply)),
                Err(refusal) => owed.answers.push((reply, Err(refusal))),
            },
            look => owed.looks.push(look),
        }
    }

    async fn change(&mut self, who: &crate::runtime::Principal, change: &Change, out: &mut Outbox) -> Result<Answer, Refusal> {
        // Boxed like everything here that is rare, so that an idle session does not carry room for it.
        let entry = Box::pin(self.find_entry(change)).await?;
        let shared = Arc::clone(&self.shared);
        let now = out.now;
        let quota = |resource| shared.quotas.take(who, resource, now);
        let lookup = Lookup { settings: &shared.settings, entry: entry.as_ref(), quota: &quota };
        if let Some(state) = &mut self.state {
            if state.owner != who.user() {
                return Err(Refusal::forbidden());
            }
            let answer = state.change(who, change, &lookup, out)?;
            if let (Change::Submit(new), Answer::Done(Done { repeated: false, .. })) = (change, &answer) {
                shared.tasks.insert(new.id, self.id);
            }
            return Ok(answer);
        }
        match (&self.erased, change) {
            (Some(owner), _) if owner != who.user() => Err(Refusal::forbidden()),
            (Some(_), Change::Create(_)) => {
                Err(Refusal::new(ErrorCode::IdempotencyConflict, "This id was used before for another session"))
            }
            (None, Change::Create(new)) => {
                let birth = load::random_birth();
                let epoch = agent_hub_protocol::Epoch::derive(birth, 0);
                let (state, done) = SessionState::create(who, new, birth, epoch, &lookup, out)?;
                self.state = Some(state);
                Ok(Answer::Done(done))
            }
            _ => Err(Refusal::session_not_found()),
        }
    }

    /// What the store knows of the change's task, where the state does not know it.
    async fn find_entry(&mut self, change: &Change) -> Result<Option<TaskEntry>, Refusal> {
        let Some(id) = change.known_task() else { return Ok(None) };
        if self.state.as_ref().is_none_or(|state| state.task(id).is_some()) {
            return Ok(None);
        }
        if let Some(other) = self.shared.tasks.get(&id).map(|session| *session).filter(|session| *session != self.id) {
            // Being made, or at work, in another session: it may not have an entry yet.
            let owner = TaskEntry::find(&self.shared.store, id).await?.map(|entry| entry.owner).unwrap_or_default();
            return Ok(Some(TaskEntry { session: other, owner, first_seq: 0, fingerprint: String::new() }));
        }
        if let Some(entry) = TaskEntry::find(&self.shared.store, id).await? {
            return Ok(Some(entry));
        }
        let owner = TaskEntry::erased_owner(&self.shared.store, &id.to_string()).await?;
        Ok(owner.map(|owner| TaskEntry {
            session: SessionId::from_uuid(uuid::Uuid::nil()),
            owner,
            first_seq: 0,
            fingerprint: String::new(),
        }))
    }

    fn report(&mut self, report: Report, out: &mut Outbox, owed: &mut Owed) {
        let (Some(state), Some(run)) = (&mut self.state, &self.run) else { return };
        let task = run.task;
        match report {
            Report::Deltas(deltas) => {
                self.shared.metrics.deltas.increment(deltas.len() as u64);
                state.stream(task, deltas, out);
            }
            Report::ToolCalled(call) => state.tool_called(task, call, out),
            Report::ToolStarted(call) => state.tool_started(task, &call, out),
            Report::ToolEnded { call, result, took } => state.tool_ended(task, &call, result, took, out),
            Report::AskPerson(call) => state.ask_person(task, &call, &self.shared.settings, out),
            Report::Next { report, reply } => owed.todos.push((reply, state.next(task, report, &self.shared.settings, out))),
            Report::Failed(error) => state.provider_failed(task, &error, out),
        }
    }

    /// Makes the work follow the state: what must stop is stopped, what may start gets its slot.
    fn settle(&mut self, gone: bool, out: &mut Outbox, owed: &mut Owed) {
        let Some(state) = &mut self.state else { return };
        if let Some(task) = self.run.as_ref().map(|run| run.task)
            && gone
        {
            state.stopped(task, true, out);
            self.run = None;
        }
        state.on_time(&self.shared.settings, out);
        if let Some(run) = &self.run {
            match &state.active {
                Some(active) if active.task == run.task => {
                    if active.stop.is_some() {
                        run.stop.cancel();
                    }
                    if active.abort_call {
                        run.abort.cancel();
                    }
                }
                // The task ended without its worker: dropping the run closes whatever is still open.
                _ => self.run = None,
            }
        }
        let wanted = state.wants_slot().filter(|_| self.run.is_none());
        let Some((task, urgent)) = wanted else {
            self.ticket = None;
            self.slot = None;
            return;
        };
        if self.slot.as_ref().is_some_and(|(of, _)| *of != task) {
            self.slot = None;
        }
        if self.slot.is_none() {
            if self.ticket.as_ref().is_none_or(|(of, _)| *of != task) {
                self.ticket = Some((task, self.shared.scheduler.request(&state.owner, urgent)));
            }
            let granted = self.ticket.as_mut().and_then(|(_, ticket)| ticket.try_take());
            self.slot = granted.map(|slot| (task, slot));
        }
        if self.slot.is_some() {
            self.ticket = None;
            state.start(task, out);
            owed.start = Some(task);
        }
    }

    /// Hands the batch to the store, which shows it to the readers once it is durable.
    fn append(&mut self, out: &mut Outbox) {
        if out.is_empty() {
            return;
        }
        let Some(state) = &self.state else { return };
        let events = encode(&out.events);
        let count = events.len();
        let append = Append {
            session: self.id,
            expected: state.head - count as u64,
            events,
            record: out.record.then(|| state.record()),
            writes: std::mem::take(&mut out.writes),
            audience: Some(Arc::clone(&self.tail) as Arc<dyn Audience>),
        };
        self.flight = Some(Flight { events: count, appended: self.shared.store.append(append) });
    }

    /// Waits until what is on its way is durable. Requests that arrive meanwhile wait, but a cancel stops the work at once: a store that
    /// stalls must not keep a model running.
    async fn land(&mut self) -> Result<(), AppendError> {
        let Some(mut flight) = self.flight.take() else { return Ok(()) };
        poll_fn(|cx| {
            if let Poll::Ready(result) = flight.appended.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            while self.waiting.len() < BATCH
                && let Poll::Ready(Some(envelope)) = self.requests.poll_recv(cx)
            {
                self.stop_at_once(&envelope);
                self.waiting.push_back(envelope);
            }
            // The model is read on meanwhile: what it says is gathered for the next batch.
            self.run.iter_mut().for_each(|run| run.poll_work(cx));
            Poll::Pending
        })
        .await?;
        self.shared.metrics.events.increment(flight.events as u64);
        Ok(())
    }

    /// Stops the work if this request would, before it is decided.
    fn stop_at_once(&self, envelope: &Envelope) {
        if let (Ask::Change(change, _), Some(state), Some(run)) = (&envelope.ask, &self.state, &self.run)
            && state.would_stop(&envelope.who, change)
        {
            run.stop.cancel();
        }
    }

    /// Once the batch is durable, does what it owes.
    async fn pay(&mut self, out: &Outbox, owed: Owed) -> Result<(), AppendError> {
        let started = self.flight.is_some().then(Instant::now);
        if let Err(error) = self.land().await {
            owed.refuse(&Refusal::overloaded("The store cannot be written"));
            return Err(error);
        }
        if let Some(started) = started {
            self.shared.metrics.append_seconds.record(started.elapsed().as_secs_f64());
        }
        self.count(&out.events);
        for (reply, answer) in owed.answers {
            // A caller that no longer waits needs no answer.
            drop(reply.send(answer));
        }
        for (reply, work) in owed.todos {
            let abort = CancellationToken::new();
            if let Some(run) = &mut self.run {
                run.abort = abort.clone();
            }
            drop(reply.send(Todo { work, abort }));
        }
        if let Some(task) = owed.start {
            self.start(task);
        }
        self.finish_deferred().await?;
        let mut first_socket = false;
        for look in owed.looks {
            first_socket |= self.look(look).await;
        }
        if first_socket {
            let mut out = Outbox { record: true, ..Outbox::at(Timestamp::now()) };
            self.append(&mut out);
            Box::pin(self.land()).await?;
        }
        Ok(())
    }

    fn start(&mut self, task: TaskId) {
        let Some((_, slot)) = self.slot.take().filter(|(of, _)| *of == task) else { return };
        let Some(state) = &self.state else { return };
        match self.shared.agents.of_session(&state.agent) {
            Ok(agent) => {
                let stop = self.stop.child_token();
                self.run = Some(Run::new(agent, task, stop, slot));
            }
            Err(refusal) => {
                // Told through the log like any failure of the task, in the next batch.
                self.run = Some(Run::failed(task, self.stop.child_token(), slot, refusal));
            }
        }
    }

    async fn finish_deferred(&mut self) -> Result<(), AppendError> {
        let Some(state) = &self.state else { return Ok(()) };
        let ended = state.ended.is_some();
        let erase = ended && state.ending == Some("deleted");
        let mut kept = Vec::new();
        for (until, reply) in std::mem::take(&mut self.deferred) {
            match until {
                Until::Stopped(task) if state.active.as_ref().is_none_or(|active| active.task != task) => {
                    let answer = match state.task(task) {
                        Some(task) if task.status == TaskStatus::Suspended => {
                            Ok(Done { session: self.id, task: Some(task.id), seq: Some(task.last_seq), repeated: false })
                        }
                        _ => Err(Refusal::new(ErrorCode::AlreadyTerminal, "The task ended before it could be suspended")),
                    };
                    drop(reply.send(answer));
                }
                Until::Ended if ended && !erase => {
                    drop(reply.send(Ok(Done { session: self.id, task: None, seq: Some(state.head), repeated: false })));
                }
                until => kept.push((until, reply)),
            }
        }
        self.deferred = kept;
        if erase { Box::pin(self.erase()).await } else { Ok(()) }
    }

    async fn erase(&mut self) -> Result<(), AppendError> {
        let Some(state) = &self.state else { return Ok(()) };
        let (owner, head) = (state.owner.clone(), state.head);
        let tasks: Vec<TaskId> = state.tasks.iter().map(|task| task.id).collect();
        let forget = tasks.iter().map(|task| (Space::Task, task.to_string())).collect();
        let until = Timestamp::now().plus(self.shared.settings.ids_stay_taken);
        self.shared.store.erase(self.id, owner.clone(), forget, until).await?;
        for task in tasks {
            self.shared.tasks.remove(&task);
        }
        self.state = None;
        self.erased = Some(owner);
        self.tail.end(TailEnd::Erased);
        for (_, reply) in self.deferred.drain(..) {
            drop(reply.send(Ok(Done { session: self.id, task: None, seq: Some(head), repeated: false })));
        }
        Ok(())
    }

    /// Answers a question. Returns whether a socket has attached for the first time.
    async fn look(&mut self, envelope: Envelope) -> bool {
        let refusal = match (&self.state, &self.erased) {
            (Some(state), _) if state.owner == envelope.who.user() => None,
            (Some(_), _) => Some(Refusal::forbidden()),
            (None, Some(owner)) if owner != envelope.who.user() => Some(Refusal::forbidden()),
            (None, _) => Some(Refusal::session_not_found()),
        };
        if let Some(refusal) = refusal {
            envelope.ask.refuse(refusal);
            return false;
        }
        let Some(state) = &mut self.state else { return false };
        match envelope.ask {
            Ask::Change(..) => false,
            Ask::View(reply) => {
                let followed = self.tail.following() > 0;
                let view = SessionView { info: state.info(followed), cursor: state.cursor(), snapshot: state.snapshot(followed) };
                drop(reply.send(Ok(Box::new(view))));
                false
            }
            Ask::Task(task, reply) => {
                let view = match state.task(task) {
                    Some(known) => {
                        let last_seq = known.last_seq;
                        state.task_info(task).map(|info| TaskView { session: self.id, info, cursor: state.cursor(), last_seq })
                    }
                    None => Box::pin(load::old_task(&self.shared.store, state, task)).await,
                };
                drop(reply.send(view.map(Box::new).ok_or_else(Refusal::task_not_found)));
                false
            }
            Ask::Attach(attach, reply) => {
                let first_socket = attach.socket && !state.had_socket;
                state.had_socket |= attach.socket;
                let attached = self.attach(&attach);
                drop(reply.send(attached));
                first_socket
            }
        }
    }

    fn attach(&self, attach: &Attach) -> Result<Attached, Refusal> {
        let Some(state) = &self.state else { return Err(Refusal::session_not_found()) };
        let head = state.head;
        let honoured = match &attach.after {
            After::Snapshot => None,
            After::Seq(seq) => Some((*seq).min(head)),
            After::Cursor(text) => {
                let cursor = text.parse::<agent_hub_protocol::Cursor>().ok();
                cursor.filter(|cursor| cursor.epoch == state.epoch && cursor.seq <= head).map(|cursor| cursor.seq)
            }
        };
        let metrics = &self.shared.metrics;
        match (honoured, &attach.after) {
            (Some(seq), _) => {
                metrics.attach_resumed.increment(1);
                metrics.replay_events.record((head - seq) as f64);
            }
            (None, After::Cursor(_)) => metrics.attach_reset.increment(1),
            (None, _) => metrics.attach_fresh.increment(1),
        }
        let last = honoured.unwrap_or(head);
        let store = self.shared.store.clone();
        let reader = Reader::join(self.id, state.epoch.clone(), last, Arc::clone(&self.tail), store);
        let snapshot = honoured.is_none().then(|| Box::new(state.snapshot(true)));
        Ok(Attached { reader, recovered: honoured.is_some(), head, snapshot })
    }

    /// Reads the session from the store and recovers what the last process left unfinished.
    async fn wake(&mut self) -> Result<(), AppendError> {
        self.read_state().await?;
        self.recover(false).await
    }

    async fn read_state(&mut self) -> Result<(), StoreError> {
        match load::session(&self.shared.store, self.id).await? {
            Loaded::Session(state, checkpoint) => {
                self.tail.jump_to(state.head);
                for task in &state.tasks {
                    self.shared.tasks.insert(task.id, self.id);
                }
                self.loaded_at = checkpoint;
                self.state = Some(*state);
            }
            Loaded::Erased(owner) => self.erased = Some(owner),
            Loaded::None => {}
        }
        Ok(())
    }

    async fn recover(&mut self, failed_store: bool) -> Result<(), AppendError> {
        let mut out = Outbox::at(Timestamp::now());
        if let Some(state) = &mut self.state {
            state.recover(&self.shared.settings, failed_store, &mut out);
        }
        let mut owed = Owed::default();
        self.settle(false, &mut out, &mut owed);
        self.append(&mut out);
        self.pay(&out, owed).await
    }

    /// An append failed, so the state may not be what the store has: everything in flight is given up, and the state is read again
    /// once the store answers. Meanwhile every request is refused with `overloaded`.
    async fn repair(&mut self, error: AppendError) {
        self.shared.metrics.append_failures.increment(1);
        tracing::warn!(session = %self.id, %error, "an append failed; the session is read again from the store");
        self.flight = None;
        self.run = None;
        self.ticket = None;
        self.slot = None;
        let mut wait = *RETRY.start();
        loop {
            self.state = None;
            for (_, reply) in self.deferred.drain(..) {
                drop(reply.send(Err(Refusal::overloaded("The store cannot be written"))));
            }
            let again = match self.read_state().await {
                Ok(()) => self.recover(true).await,
                Err(error) => Err(error.into()),
            };
            match again {
                Ok(()) => return,
                Err(error) => tracing::debug!(session = %self.id, %error, "the store is not back yet"),
            }
            if !self.refuse_for(wait).await {
                return;
            }
            wait = (wait * 2).min(*RETRY.end());
        }
    }

    /// Refuses requests for a while. Returns whether the actor goes on.
    async fn refuse_for(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            while let Some(envelope) = self.waiting.pop_front() {
                envelope.ask.refuse(Refusal::overloaded("The store cannot be written"));
            }
            tokio::select! {
                () = self.stop.cancelled() => return false,
                () = tokio::time::sleep_until(until) => return true,
                Some(envelope) = self.requests.recv() => self.waiting.push_back(envelope),
            }
        }
    }

    async fn refuse_all(&mut self, error: &AppendError) {
        tracing::warn!(session = %self.id, %error, "the session could not be read");
        // Tried again later, because a task of it may be waiting to be recovered.
        self.shared.ring_at(Timestamp::now().plus(*RETRY.end()), self.id);
        let refusal = Refusal::overloaded("The store does not answer");
        for envelope in self.waiting.drain(..) {
            envelope.ask.refuse(refusal.clone());
        }
        while let Ok(envelope) = self.requests.try_recv() {
            envelope.ask.refuse(refusal.clone());
        }
    }

    /// Whether there is no reason to stay in memory.
    fn may_end(&self) -> Option<Ending> {
        if !self.waiting.is_empty() || !self.requests.is_empty() {
            return None;
        }
        let Some(state) = &self.state else { return Some(Ending::Gone) };
        let busy = self.run.is_some() || state.wants_slot().is_some() || self.tail.following() > 0 || !self.deferred.is_empty();
        let idle = !busy && self.idle_since.elapsed() >= self.shared.settings.idle_unload;
        idle.then_some(Ending::Sleep)
    }

    fn set_timer(&mut self) {
        let Some(state) = &self.state else { return };
        let due = state.next_due(&self.shared.settings).map(|at| Instant::now() + at.since(Timestamp::now()));
        let quiet = self.run.is_none() && self.tail.following() == 0;
        let idle = quiet.then(|| self.idle_since + self.shared.settings.idle_unload);
        let Some(at) = [due, idle].into_iter().flatten().min() else {
            self.timer = None;
            return;
        };
        match &mut self.timer {
            // Deadlines are computed from milliseconds: one that differs by less is the same.
            Some((set, _)) if at.max(*set).duration_since(at.min(*set)) < Duration::from_millis(2) => {}
            Some((set, timer)) => {
                *set = at;
                timer.as_mut().reset(at);
            }
            None => self.timer = Some((at, Box::pin(tokio::time::sleep_until(at)))),
        }
    }

    async fn leave_checkpoint(&mut self) {
        let Some(state) = &self.state else { return };
        if let Some(due) = state.next_due(&self.shared.settings) {
            self.shared.ring_at(due, self.id);
        }
        if state.active.is_some() || state.head < self.loaded_at + CHECKPOINT_AFTER {
            return;
        }
        let Ok(value) = serde_json::to_vec(state) else { return };
        let write = Write::Put { space: Space::Checkpoint, key: self.id.to_string(), value: Bytes::from(value), expires_at: None };
        if let Err(error) = self.shared.store.write(vec![write]).await {
            tracing::debug!(session = %self.id, %error, "no checkpoint was left; waking reads the log");
        }
    }

    /// Keeps the hub's counters.
    fn count(&mut self, events: &[Event]) {
        let metrics = &self.shared.metrics;
        for event in events {
            match &event.body {
                EventBody::TaskCompleted(_) => metrics.completed.increment(1),
                EventBody::TaskFailed(_) => metrics.failed.increment(1),
                EventBody::TaskTimeout(_) => metrics.timeout.increment(1),
                EventBody::TaskCancelled(_) => {
                    metrics.cancelled.increment(1);
                    let task = event.task_id.and_then(|id| self.state.as_ref()?.task(id));
                    if let Some(cancel) = task.and_then(|task| task.cancel.as_ref()) {
                        metrics.cancel_to_stop.record(event.at.since(cancel.at).as_secs_f64());
                    }
                }
                EventBody::TaskQueued(_) | EventBody::TaskStarted(_) | EventBody::TaskSuspended(_) | EventBody::TaskResumed(_) => {}
                _ => continue,
            }
            self.counted = self.recount();
        }
    }

    fn recount(&self) -> Counted {
        let mut now = Counted::default();
        if let Some(state) = &self.state {
            for task in state.line.iter().filter_map(|id| state.task(*id)) {
                match task.status {
                    TaskStatus::Queued => now.queued += 1,
                    TaskStatus::Running => now.running += 1,
                    TaskStatus::Suspended => now.suspended += 1,
                    TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Cancelled | TaskStatus::Timeout => {}
                }
            }
        }
        self.recorded(now);
        now
    }

    fn recorded(&self, now: Counted) {
        let (metrics, before) = (&self.shared.metrics, self.counted);
        metrics.queued.increment(now.queued as f64 - before.queued as f64);
        metrics.running.increment(now.running as f64 - before.running as f64);
        metrics.suspended.increment(now.suspended as f64 - before.suspended as f64);
        self.shared.queued.fetch_add(now.queued, Ordering::Relaxed);
        self.shared.queued.fetch_sub(before.queued, Ordering::Relaxed);
    }
}

impl Drop for Actor {
    /// Also when the actor panics: nobody must find a handle that leads nowhere, or wait for a log that nobody writes.
    fn drop(&mut self) {
        self.shared.awake.remove_if(&self.id, |_, handle| handle.is_of(&self.tail));
        self.recorded(Counted::default());
        self.shared.metrics.sessions_awake.decrement(1.0);
        if let Some(state) = &self.state {
            for task in &state.tasks {
                self.shared.tasks.remove(&task.id);
            }
        }
        if self.erased.is_none() {
            self.tail.end(TailEnd::Lost);
        }
    }
}

/// The wire texts, cut from one allocation.
fn encode(events: &[Event]) -> Vec<Bytes> {
    let mut text = Vec::with_capacity(events.len() * 256);
    let mut ends = Vec::with_capacity(events.len());
    for event in events {
        event.encode_into(&mut text);
        ends.push(text.len());
    }
    let text = Bytes::from(text);
    let mut start = 0;
    let cut = |end| text.slice(std::mem::replace(&mut start, end)..end);
    ends.into_iter().map(cut).collect()
}
