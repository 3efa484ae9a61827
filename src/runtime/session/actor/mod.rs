//! The only writer of a session's log. Chooses what to take next (waits, changes nothing), applies it (changes, waits for
//! nothing), makes it durable, and only then lets anybody see it.
//!
//! One batch of decisions is in flight at a time, so between two batches the state is exactly what the store has. Whatever arrives
//! meanwhile waits and is merged into the next batch: that is where pieces of text become one event.
//!
//! | file | what it is for |
//! |---|---|
//! | `decide.rs` | taking in requests and reports; what must stop, what may start |
//! | `durable.rs` | the append in flight, and what is owed once it has landed |
//! | `look.rs` | questions and readers |
//! | `recovery.rs` | waking, crash recovery, a store that fails |
//! | `gauges.rs` | the hub's counters |

mod decide;
mod durable;
mod gauges;
mod look;
mod recovery;

use std::{collections::VecDeque, future::poll_fn, sync::Arc, task::Poll, time::Duration};

use agent_hub_protocol::{SessionId, TaskId, Timestamp};
use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use self::{
    durable::{Flight, Owed},
    gauges::Counted,
};
use super::{
    handle::Inbox,
    request::{Done, Envelope, Reply},
    state::{Outbox, SessionState, Work},
};
use crate::{
    runtime::{
        hub::{Hub, Shared},
        log::{Tail, TailEnd},
        quiet::{Alarm, Signal},
        refusal::Refusal,
        scheduler::{Slot, Ticket},
        task::{Report, Run},
    },
    store::{AppendError, Space, Write},
};

/// Requests taken into one batch. More wait in the inbox for the next one.
const BATCH: usize = 64;
/// Events after which a sleeping session leaves a checkpoint, so that waking does not read the whole log.
const CHECKPOINT_AFTER: u64 = 500;
/// A session without readers and work lets the events of its tail go after this part of `idle_unload`: by default 30 s of 5 min.
const REST_PART: u32 = 10;

/// Starts the actor of a session.
pub(crate) fn spawn(hub: Hub, id: SessionId, inbox: Inbox) {
    let shared = Arc::clone(hub.shared());
    shared.metrics.sessions_awake.increment(1.0);
    let actor = Actor {
        stopped: Signal::of(shared.stop.clone()),
        flight: None,
        tail: inbox.tail,
        requests: inbox.requests,
        state: None,
        erased: None,
        loaded_at: 0,
        runs: Vec::new(),
        parked: Vec::new(),
        ticket: None,
        slot: None,
        waiting: VecDeque::new(),
        deferred: Vec::new(),
        timer: None,
        idle_since: Instant::now(),
        rests: false,
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
    /// The hub stops.
    stopped: Signal,
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
    /// The work on the front task, and behind it that on the tasks of its sub-agents, each behind the one it belongs to.
    runs: Vec<Run>,
    /// Work that waits until something that belongs to its task has ended.
    parked: Vec<(TaskId, oneshot::Sender<Work>)>,
    ticket: Option<(TaskId, Ticket)>,
    slot: Option<(TaskId, Slot)>,
    /// Requests that arrived while a batch was in flight. At most `runtime.inbox`.
    waiting: VecDeque<Box<Envelope>>,
    deferred: Vec<(Until, Reply<Done>)>,
    timer: Option<Alarm>,
    idle_since: Instant,
    /// Idle for so long that the tail has let its events go.
    rests: bool,
    counted: Counted,
}

/// What a deferred answer waits for.
enum Until {
    Stopped(TaskId),
    Ended,
}

/// What has been chosen.
enum Chosen {
    Request(Box<Envelope>),
    Report(TaskId, Report),
    RunnerGone(TaskId),
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
            self.rest_if_idle();
            let chosen = self.choose().await;
            if matches!(chosen, Chosen::Stop) {
                self.drop_runs();
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
        let Self { stopped, requests, state, runs, ticket, timer, tail, .. } = self;
        poll_fn(|cx| {
            if stopped.poll(cx).is_ready() {
                return Poll::Ready(Chosen::Stop);
            }
            if let Poll::Ready(Some(envelope)) = requests.poll_recv(cx) {
                // However many requests there are, the work goes on, unless this one ends it.
                if state.as_ref().is_some_and(|state| envelope.would_stop(state).is_none()) {
                    runs.iter_mut().for_each(|run| run.poll_work(cx));
                }
                return Poll::Ready(Chosen::Request(envelope));
            }
            // The innermost first, so that what belongs to a task is over before it is. All are polled: each has to be woken.
            let mut chosen = None;
            for run in runs.iter_mut().rev() {
                match &chosen {
                    None => {
                        if let Poll::Ready(report) = run.poll_report(cx) {
                            let gone = Chosen::RunnerGone(run.task);
                            chosen = Some(report.map_or(gone, |report| Chosen::Report(run.task, report)));
                        }
                    }
                    Some(_) => run.poll_work(cx),
                }
            }
            if let Some(chosen) = chosen {
                return Poll::Ready(chosen);
            }
            if let Some((_, ticket)) = ticket
                && let Poll::Ready(slot) = ticket.poll_granted(cx)
            {
                return Poll::Ready(Chosen::Slot(slot));
            }
            if let Some(timer) = timer
                && timer.poll(cx).is_ready()
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
        let gone = match &chosen {
            Chosen::RunnerGone(task) => Some(*task),
            _ => None,
        };
        match chosen {
            Chosen::Request(envelope) => self.take(envelope, &mut out, &mut owed).await,
            Chosen::Report(task, report) => self.report(task, report, &mut out, &mut owed),
            Chosen::Slot(slot) => {
                let task = self.ticket.take().map(|(task, _)| task);
                self.slot = task.zip(slot);
            }
            Chosen::Timer => self.timer = None,
            Chosen::ReadersLeft => self.stir(),
            Chosen::RunnerGone(_) | Chosen::Stop => {}
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
        for at in (0..self.runs.len()).rev() {
            while let Some((task, report)) = self.runs.get_mut(at).and_then(|run| Some((run.task, run.try_report()?))) {
                self.report(task, report, out, owed);
            }
        }
    }

    /// Ends all work now.
    fn drop_runs(&mut self) {
        self.runs.clear();
        self.parked.clear();
    }

    /// Whether there is no reason to stay in memory.
    fn may_end(&self) -> Option<Ending> {
        if !self.waiting.is_empty() || !self.requests.is_empty() {
            return None;
        }
        if self.state.is_none() {
            return Some(Ending::Gone);
        }
        self.is_idle_for(self.shared.settings.idle_unload).then_some(Ending::Sleep)
    }

    fn is_idle_for(&self, time: Duration) -> bool {
        !self.is_busy() && self.idle_since.elapsed() >= time
    }

    /// Something happened for which the session is in memory.
    fn stir(&mut self) {
        self.idle_since = Instant::now();
        self.rests = false;
    }

    /// Who lost the network is back within moments and finds what it missed in memory. Later that is not worth its place.
    fn rest_if_idle(&mut self) {
        if !self.rests && self.is_idle_for(self.shared.settings.idle_unload / REST_PART) {
            self.tail.let_go();
            self.rests = true;
        }
    }

    fn is_busy(&self) -> bool {
        let waits = self.state.as_ref().is_some_and(|state| state.wants_slot().is_some());
        !self.runs.is_empty() || waits || self.tail.following() > 0 || !self.deferred.is_empty()
    }

    fn set_timer(&mut self) {
        let Some(state) = &self.state else { return };
        let due = state.next_due(&self.shared.settings).map(|at| Instant::now() + at.since(Timestamp::now()));
        let part = if self.rests { 1 } else { REST_PART };
        let idle = (!self.is_busy()).then(|| self.idle_since + self.shared.settings.idle_unload / part);
        let Some(at) = [due, idle].into_iter().flatten().min() else {
            self.timer = None;
            return;
        };
        match &mut self.timer {
            // Deadlines are computed from milliseconds: one that differs by less is the same.
            Some(timer) if at.max(timer.due()).duration_since(at.min(timer.due())) < Duration::from_millis(2) => {}
            Some(timer) => timer.set(at),
            None => self.timer = Some(Alarm::at(at)),
        }
    }

    async fn leave_checkpoint(&mut self) {
        let Some(state) = &self.state else { return };
        if let Some(due) = state.next_due(&self.shared.settings) {
            self.shared.ring_at(due, self.id);
        }
        if !state.active.is_empty() || state.head < self.loaded_at + CHECKPOINT_AFTER {
            return;
        }
        let Ok(value) = serde_json::to_vec(state) else { return };
        let write = Write::Put { space: Space::Checkpoint, key: self.id.to_string(), value: Bytes::from(value), expires_at: None };
        if let Err(error) = self.shared.store.write(vec![write]).await {
            tracing::debug!(session = %self.id, %error, "no checkpoint was left; waking reads the log");
        }
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
