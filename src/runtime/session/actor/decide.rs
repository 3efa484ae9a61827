//! Taking in what arrived, and making the work follow what was decided.

use std::sync::Arc;

use agent_hub_protocol::{ErrorCode, SessionId, TaskId};
use futures::FutureExt;

use super::{Actor, Until, durable::Owed};
use crate::runtime::{
    Principal,
    hub::Shared,
    refusal::Refusal,
    session::{
        entry::TaskEntry,
        load,
        request::{Ask, Change, Done, Envelope},
        state::{Answer, Lookup, Outbox, SessionState, Work},
    },
    task::{Report, Run},
};

impl Actor {
    pub(super) async fn take(&mut self, envelope: Box<Envelope>, out: &mut Outbox, owed: &mut Owed) {
        self.stir();
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

    async fn change(&mut self, who: &Principal, change: &Change, out: &mut Outbox) -> Result<Answer, Refusal> {
        let entry = match change.known_task() {
            Some(task) if self.state.as_ref().is_some_and(|state| state.task(task).is_none()) => {
                // Boxed like everything here that is rare, so that an idle session does not carry room for it.
                self.meanwhile(find_entry(Arc::clone(&self.shared), self.id, task).boxed()).await?
            }
            _ => None,
        };
        let shared = Arc::clone(&self.shared);
        let now = out.now;
        let quota = |resource| shared.quotas.take(who, resource, now);
        let lookup = Lookup {
            settings: &shared.settings,
            agents: &shared.agents,
            workflows: &shared.workflows,
            entry: entry.as_ref(),
            quota: &quota,
        };
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

    pub(super) fn report(&mut self, task: TaskId, report: Report, out: &mut Outbox, owed: &mut Owed) {
        let Some(state) = &mut self.state else { return };
        match report {
            Report::Deltas(deltas) => {
                self.shared.metrics.deltas.increment(deltas.len() as u64);
                state.stream(task, deltas, out);
            }
            Report::ToolCalled(call) => state.tool_called(task, call, out),
            Report::ToolStarted(call) => state.tool_started(task, &call, out),
            Report::ToolSaid { call_id, text } => state.tool_said(task, call_id, text, out),
            Report::ToolEnded { call, result, took } => state.tool_ended(task, &call, result, took, out),
            Report::Next { report, reply } => match state.next(task, report, self.shared.rules(), out) {
                Work::Wait => self.parked.push((task, reply)),
                work => owed.todos.push((task, reply, work)),
            },
            Report::Failed(error) => state.provider_failed(task, &error, out),
        }
    }

    /// Makes the work follow the state: what must stop is stopped, what may start gets its slot. `gone`: the task whose work is over.
    pub(super) fn settle(&mut self, gone: Option<TaskId>, out: &mut Outbox, owed: &mut Owed) {
        let Some(state) = &mut self.state else { return };
        if let Some(task) = gone {
            state.stopped(task, true, out);
            self.runs.retain(|run| run.task != task);
        }
        state.on_time(&self.shared.settings, out);
        self.go_on(out, owed);
        self.stop_what_must();
        self.start_front(out, owed);
        self.start_children(out, owed);
    }

    /// Lets work go on that has waited for something that has ended since. What waits for a person now may let the next one go on.
    fn go_on(&mut self, out: &mut Outbox, owed: &mut Owed) {
        let Some(state) = &mut self.state else { return };
        let mut again = !self.parked.is_empty();
        while std::mem::take(&mut again) {
            for (task, reply) in std::mem::take(&mut self.parked).into_iter().rev() {
                match state.next(task, None, self.shared.rules(), out) {
                    Work::Wait => self.parked.insert(0, (task, reply)),
                    work => {
                        again = true;
                        owed.todos.push((task, reply, work));
                    }
                }
            }
        }
    }

    fn stop_what_must(&mut self) {
        let Some(state) = &self.state else { return };
        self.runs.retain_mut(|run| {
            // A task that has ended without its worker: dropping the run closes whatever is still open.
            let Some(active) = state.active_of(run.task) else { return false };
            if active.stop.is_some() {
                run.stop();
            }
            if active.abort_call {
                run.abort_call();
            }
            true
        });
        self.parked.retain(|(task, _)| state.active_of(*task).is_some_and(|active| active.stop.is_none()));
    }

    /// Gives the front task its slot, if it is ready to run.
    fn start_front(&mut self, out: &mut Outbox, owed: &mut Owed) {
        let Some(state) = &mut self.state else { return };
        let wanted = state.wants_slot().filter(|_| self.runs.is_empty());
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
            // With what it begins with, so that a model is called one commit after the submit.
            let work = state.next(task, None, self.shared.rules(), out);
            owed.starts.push((task, work));
        }
    }

    /// Tasks of sub-agents need no slot of their own.
    fn start_children(&mut self, out: &mut Outbox, owed: &mut Owed) {
        let Some(state) = &mut self.state else { return };
        // What one begins with may be to hand work on.
        loop {
            let ready = state.children_to_start();
            if ready.is_empty() {
                return;
            }
            for task in ready {
                state.start(task, out);
                let work = state.next(task, None, self.shared.rules(), out);
                owed.starts.push((task, work));
            }
        }
    }

    /// Stops the work if this request would, before it is decided.
    pub(super) fn stop_at_once(&mut self, envelope: &Envelope) {
        let Some(state) = &self.state else { return };
        if let Some(stopping) = envelope.would_stop(state) {
            self.runs.iter_mut().filter(|run| state.is_of(run.task, stopping)).for_each(Run::stop);
        }
    }
}

/// What the store knows of a task that the session does not know.
async fn find_entry(shared: Arc<Shared>, session: SessionId, task: TaskId) -> Result<Option<TaskEntry>, Refusal> {
    let elsewhere = shared.tasks.get(&task).map(|session| *session).filter(|other| *other != session);
    let id = task.to_string();
    let (entry, erased) = tokio::try_join!(TaskEntry::find(&shared.store, task), TaskEntry::erased_owner(&shared.store, &id))?;
    let of = |session, owner| TaskEntry { session, owner, first_seq: 0, fingerprint: String::new() };
    Ok(match (elsewhere, entry, erased) {
        // Being made, or at work, in another session: it may not have an entry yet.
        (Some(other), entry, _) => Some(of(other, entry.map(|entry| entry.owner).unwrap_or_default())),
        (None, Some(entry), _) => Some(entry),
        (None, None, erased) => erased.map(|owner| of(SessionId::from_uuid(uuid::Uuid::nil()), owner)),
    })
}
