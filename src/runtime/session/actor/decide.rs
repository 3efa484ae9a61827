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
        state::{Answer, Lookup, Outbox, SessionState},
    },
    task::Report,
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

    pub(super) fn report(&mut self, report: Report, out: &mut Outbox, owed: &mut Owed) {
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
    pub(super) fn settle(&mut self, gone: bool, out: &mut Outbox, owed: &mut Owed) {
        let Some(state) = &mut self.state else { return };
        if let Some(task) = self.run.as_ref().map(|run| run.task)
            && gone
        {
            state.stopped(task, true, out);
            self.run = None;
        }
        state.on_time(&self.shared.settings, out);
        if let Some(run) = &mut self.run {
            match &state.active {
                Some(active) if active.task == run.task => {
                    if active.stop.is_some() {
                        run.stop();
                    }
                    if active.abort_call {
                        run.abort_call();
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
            // With what it begins with, so that a model is called one commit after the submit.
            let work = state.next(task, None, &self.shared.settings, out);
            owed.start = Some((task, work));
        }
    }

    /// Stops the work if this request would, before it is decided.
    pub(super) fn stop_at_once(&mut self, envelope: &Envelope) {
        if let (Some(state), Some(run)) = (&self.state, &mut self.run)
            && envelope.would_stop(state)
        {
            run.stop();
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
