//! Making a batch durable, and paying what it owes: nobody is answered and nothing starts before.

use std::{future::poll_fn, sync::Arc, task::Poll};

use agent_hub_protocol::{ErrorCode, Event, EventBody, TaskId, Timestamp, snapshot::TaskStatus};
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::{sync::oneshot, time::Instant};

use super::{Actor, Until};
use crate::{
    runtime::{
        log::TailEnd,
        refusal::Refusal,
        session::{
            request::{Done, Envelope, Reply},
            state::{Outbox, SessionState, Work},
        },
        task::{Bench, Run},
    },
    store::{Append, AppendError, Audience, Space},
};

/// An append on its way.
pub(super) struct Flight {
    pub(super) appended: BoxFuture<'static, Result<(), AppendError>>,
    pub(super) events: usize,
}

/// What a batch owes to others once it is durable.
#[derive(Default)]
pub(super) struct Owed {
    pub(super) answers: Vec<(Reply<Done>, Result<Done, Refusal>)>,
    pub(super) todos: Vec<(TaskId, oneshot::Sender<Work>, Work)>,
    pub(super) looks: Vec<Envelope>,
    /// Work that begins, with what it begins with: each task behind the one it belongs to.
    pub(super) starts: Vec<(TaskId, Work)>,
}

impl Owed {
    pub(super) fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.todos.is_empty() && self.looks.is_empty() && self.starts.is_empty()
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

impl Actor {
    /// Hands the batch to the store, which shows it to the readers once it is durable.
    pub(super) fn append(&mut self, out: &mut Outbox) {
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

    /// Waits until what is on its way is durable.
    pub(super) async fn land(&mut self) -> Result<(), AppendError> {
        let Some(flight) = self.flight.take() else { return Ok(()) };
        self.meanwhile(flight.appended).await?;
        self.shared.metrics.events.increment(flight.events as u64);
        Ok(())
    }

    /// Waits for the store. Requests that arrive meanwhile wait, but a cancel stops the work at once: a store that stalls must not keep a
    /// model running. The model is read on; what it says is gathered for the next batch.
    pub(super) async fn meanwhile<T>(&mut self, mut answer: BoxFuture<'static, T>) -> T {
        poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(answer);
            }
            while self.waiting.len() < self.shared.settings.inbox
                && let Poll::Ready(Some(envelope)) = self.requests.poll_recv(cx)
            {
                self.stop_at_once(&envelope);
                self.waiting.push_back(envelope);
            }
            self.runs.iter_mut().for_each(|run| run.poll_work(cx));
            Poll::Pending
        })
        .await
    }

    /// Once the batch is durable, does what it owes.
    pub(super) async fn pay(&mut self, out: &Outbox, owed: Owed) -> Result<(), AppendError> {
        let started = self.flight.is_some().then(Instant::now);
        if let Err(error) = self.land().await {
            owed.refuse(&Refusal::overloaded("The store cannot be written"));
            return Err(error);
        }
        if let Some(started) = started {
            self.shared.metrics.append_seconds.record(started.elapsed().as_secs_f64());
        }
        self.count(&out.events);
        if out.events.iter().any(|event| matches!(event.body, EventBody::InputRequested(_) | EventBody::InputResolved(_))) {
            self.tell_executors();
        }
        for (reply, answer) in owed.answers {
            // A caller that no longer waits needs no answer.
            drop(reply.send(answer));
        }
        for (task, reply, work) in owed.todos {
            let aborted = self.state.as_ref().and_then(|state| state.active_of(task)).is_some_and(|active| active.abort_call);
            if let Some(run) = self.runs.iter().find(|run| run.task == task && !aborted) {
                run.allow_call();
            }
            drop(reply.send(work));
        }
        for (task, work) in owed.starts {
            self.start(task, work);
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

    /// Which calls wait for a client, for those that execute tools.
    pub(super) fn tell_executors(&self) {
        let calls = self.state.as_ref().map(SessionState::calls_for_clients).unwrap_or_default();
        self.shared.executors.wait_for(self.id, calls);
    }

    fn start(&mut self, task: TaskId, work: Work) {
        let Some(state) = self.state.as_ref().filter(|state| state.active_of(task).is_some()) else { return };
        let slot = self.slot.take_if(|(of, _)| *of == task).map(|(_, slot)| slot);
        if slot.is_none() && state.task(task).is_none_or(|task| task.parent.is_none()) {
            return;
        }
        self.shared.tasks.insert(task, self.id);
        let bench = Bench { session: self.id, user: state.owner.clone(), tools: self.shared.agents.tools().clone() };
        self.runs.push(match self.shared.agents.of_session(state.agent_of(task)) {
            Ok(agent) => Run::new(agent, task, bench, work, slot),
            // Told through the log like any failure of the task, in the next batch.
            Err(refusal) => Run::failed(task, slot, refusal),
        });
    }

    async fn finish_deferred(&mut self) -> Result<(), AppendError> {
        let Some(state) = &self.state else { return Ok(()) };
        let ended = state.ended.is_some();
        let erase = ended && state.ending == Some("deleted");
        let mut kept = Vec::new();
        for (until, reply) in std::mem::take(&mut self.deferred) {
            match until {
                Until::Stopped(task) if state.active_of(task).is_none() => {
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
        self.shared.agents.tools().forget(&owner, self.id).await;
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
