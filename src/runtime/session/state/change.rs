//! What a request does to a session.

use std::time::Duration;

use agent_hub_protocol::{
    ErrorCode, EventBody, Seq, TaskId,
    client_message::{InputOutcome, OnBusy, RespondInput, SteerWhen},
    event::{
        CancelRequested, InputKind, InputRequested, InputResolved, ResolvedOutcome, SessionCreated, SessionEnded, SteerAccepted,
        TaskResumed, TaskSuspended, ToolResult,
    },
    snapshot::TaskStatus,
};
use serde_json::Value;

use super::{Outbox, SessionState, Stop, WAITING_STEERS};
use crate::{
    runtime::{
        admission::{NewSession, NewSteer, NewTask, task_fingerprint},
        agent::Agents,
        identity::Principal,
        quota::{Resource, Taken},
        refusal::Refusal,
        session::{
            entry::TaskEntry,
            request::{Change, Done},
        },
        settings::RuntimeSettings,
    },
    schema,
    tool::{ToolError, ToolErrorCode, misfit},
    workflow::Workflows,
};

/// What a change came to.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It is done once the events are durable.
    Done(Done),
    /// It is done once the task's work has stopped; until then the caller waits.
    WhenStopped(TaskId),
    /// It is done once the session has ended; until then the caller waits.
    WhenEnded,
}

/// What a change needs besides the state: found before, because it lies outside of the session.
pub(crate) struct Lookup<'a> {
    pub(crate) settings: &'a RuntimeSettings,
    /// Its agents and their tools.
    pub(crate) agents: &'a Agents,
    /// Its workflows.
    pub(crate) workflows: &'a Workflows,
    /// The entry of the task id the change carries, where the session does not have the task in memory.
    pub(crate) entry: Option<&'a TaskEntry>,
    /// Takes one unit of the user's day.
    pub(crate) quota: &'a dyn Fn(Resource) -> Result<Option<Taken>, Refusal>,
}

impl SessionState {
    /// Makes the session. Returns its state and the answer.
    pub(crate) fn create(
        who: &Principal,
        new: &NewSession,
        birth: u32,
        epoch: agent_hub_protocol::Epoch,
        lookup: &Lookup<'_>,
        out: &mut Outbox,
    ) -> Result<(Self, Done), Refusal> {
        let quota = if new.counted { (lookup.quota)(Resource::Session)? } else { None };
        let created = SessionCreated {
            epoch: epoch.clone(),
            agent: new.agent.clone(),
            tools: new.tools.clone(),
            model: new.model.clone(),
            name: new.name.clone(),
            tags: new.tags.clone(),
            metadata: new.metadata.clone(),
            created_at: out.now,
        };
        let mut state = Self::born(new.id, who.user().to_owned(), birth, epoch, &created);
        state.had_socket = new.by_socket;
        let seq = state.emit(out, None, EventBody::SessionCreated(created));
        out.writes.extend(quota.map(Taken::keep));
        out.record = true;
        Ok((state, Done { session: new.id, task: None, seq: Some(seq), repeated: false }))
    }

    /// Carries out a request of the session's owner.
    ///
    /// # Errors
    /// The refusal; nothing was changed.
    pub(crate) fn change(&mut self, who: &Principal, change: &Change, lookup: &Lookup<'_>, out: &mut Outbox) -> Result<Answer, Refusal> {
        match change {
            Change::Create(new) => self.create_again(new),
            Change::Update(new) => {
                self.open()?;
                let seq = self.emit(out, None, EventBody::SessionUpdated(new.clone()));
                out.record = true;
                Ok(self.done(None, Some(seq)))
            }
            Change::Submit(new) => self.submit(who, new, lookup, out),
            Change::Cancel { task, reason } => self.cancel(who.name(), *task, reason.clone(), lookup, out),
            Change::Steer(new) => self.steer(new, lookup, out),
            Change::Respond(answer) => self.respond(who.name(), answer, lookup, out),
            Change::Suspend { task, reason } => self.suspend(*task, reason.clone(), lookup, out),
            Change::Resume { task, data, step } => self.resume(*task, data.clone(), step.as_deref(), lookup, out),
            Change::ProvideTools { tools, gone } => self.provide_tools(tools, gone, out),
            Change::ToolResult(result) => self.client_result(who.name(), result, lookup, out),
            Change::End(reason) => self.end(reason, out),
            Change::Delete => self.end("deleted", out),
        }
    }

    pub(super) fn done(&self, task: Option<TaskId>, seq: Option<Seq>) -> Answer {
        Answer::Done(Done { session: self.id, task, seq, repeated: false })
    }

    pub(super) fn repeated(&self, task: Option<TaskId>, seq: Option<Seq>) -> Answer {
        Answer::Done(Done { session: self.id, task, seq, repeated: true })
    }

    fn create_again(&self, new: &NewSession) -> Result<Answer, Refusal> {
        let same = self.agent == new.agent && self.model == new.model && {
            let (mut ours, mut theirs) = (self.tools.clone(), new.tools.clone());
            ours.sort();
            theirs.sort();
            ours == theirs
        };
        if same { Ok(self.repeated(None, Some(1))) } else { Err(conflict("session")) }
    }

    pub(super) fn open(&self) -> Result<(), Refusal> {
        if self.ended.is_some() || self.ending.is_some() {
            return Err(Refusal::new(ErrorCode::AlreadyTerminal, "The session has ended"));
        }
        Ok(())
    }

    /// The task, which must not be terminal.
    pub(super) fn unfinished(&self, id: TaskId, lookup: &Lookup<'_>) -> Result<&super::Task, Refusal> {
        let ended = |status: Option<TaskStatus>| {
            let refusal = Refusal::new(ErrorCode::AlreadyTerminal, "The task has ended");
            status.map_or(refusal.clone(), |status| refusal.detail("status", status.as_str()))
        };
        match self.task(id) {
            Some(task) if task.status.is_terminal() => Err(ended(Some(task.status))),
            Some(task) => Ok(task),
            // Finished so long ago that only its entry and the log know it.
            None if lookup.entry.is_some_and(|entry| entry.session == self.id) => Err(ended(None)),
            None if lookup.entry.is_some_and(|entry| entry.owner != self.owner) => Err(Refusal::forbidden()),
            None => Err(Refusal::task_not_found()),
        }
    }

    fn submit(&mut self, who: &Principal, new: &NewTask, lookup: &Lookup<'_>, out: &mut Outbox) -> Result<Answer, Refusal> {
        if let Some(answer) = self.submitted_before(new, lookup)? {
            return Ok(answer);
        }
        self.open()?;
        if new.on_busy == OnBusy::Steer
            && let Some(front) = self.line.front().copied()
        {
            let steer = NewSteer { task: front, id: new.id, input: new.prompt.clone(), when: SteerWhen::NextStep };
            return self.steer(&steer, lookup, out);
        }
        let settings = lookup.settings;
        if let Some(limit) = settings.tasks_per_session.filter(|limit| new.counted && self.task_count >= *limit) {
            return Err(Refusal::new(ErrorCode::QuotaExceeded, "Session task limit reached").detail("limit", limit));
        }
        if new.on_busy == OnBusy::Reject && !self.line.is_empty() {
            return Err(Refusal::new(ErrorCode::Busy, "The session is busy with another task"));
        }
        if settings.queued_per_session.is_some_and(|limit| self.queued() >= limit) {
            return Err(Refusal::new(ErrorCode::QueueFull, "Too many tasks wait in this session"));
        }
        let quota = (lookup.quota)(Resource::Task)?;
        out.writes.extend(quota.map(Taken::keep));
        out.record = true;

        let jumps = matches!(new.on_busy, OnBusy::Interrupt | OnBusy::Rollback);
        let place = if jumps { self.line.len().min(1) } else { self.line.len() };
        let queued = new.queued(u32::try_from(place).unwrap_or(u32::MAX), self.usual_timeout(new.execution.is_some(), lookup));
        let entry =
            TaskEntry { session: self.id, owner: self.owner.clone(), first_seq: self.head + 1, fingerprint: task_fingerprint(&queued) };
        out.writes.push(entry.write(new.id));
        let seq = self.emit(out, Some(new.id), EventBody::TaskQueued(queued));
        if jumps && place == 1 {
            self.interrupt_front(who.name(), new.on_busy == OnBusy::Rollback, out);
        }
        Ok(self.done(Some(new.id), Some(seq)))
    }

    /// The deadline of a task that names none: of an execution of a workflow it is not its agent's.
    fn usual_timeout(&self, executes: bool, lookup: &Lookup<'_>) -> Duration {
        let of_agent = lookup.agents.of_session(&self.agent).ok().filter(|_| !executes).and_then(|agent| agent.timeout);
        of_agent.unwrap_or(lookup.settings.task_timeout)
    }

    fn submitted_before(&self, new: &NewTask, lookup: &Lookup<'_>) -> Result<Option<Answer>, Refusal> {
        let fingerprint = task_fingerprint(&new.queued(0, self.usual_timeout(new.execution.is_some(), lookup)));
        if let Some(task) = self.task(new.id) {
            let same = task.fingerprint == fingerprint;
            return if same { Ok(Some(self.repeated(Some(new.id), Some(task.first_seq)))) } else { Err(conflict("task")) };
        }
        let steers = self.tasks.iter().flat_map(|task| task.steers.iter().map(move |steer| (task.id, steer)));
        if let Some((task, steer)) = steers.into_iter().find(|(_, steer)| steer.id == new.id) {
            let same = new.on_busy == OnBusy::Steer && steer.input == new.prompt;
            return if same { Ok(Some(self.repeated(Some(task), Some(steer.seq)))) } else { Err(conflict("task")) };
        }
        match lookup.entry {
            None => Ok(None),
            Some(entry) if entry.owner != self.owner => Err(Refusal::forbidden()),
            Some(entry) if entry.session == self.id && entry.fingerprint == fingerprint => {
                Ok(Some(self.repeated(Some(new.id), Some(entry.first_seq))))
            }
            Some(_) => Err(conflict("task")),
        }
    }

    fn interrupt_front(&mut self, by: &str, rollback: bool, out: &mut Outbox) {
        let Some(front) = self.line.front().copied() else { return };
        if self.task(front).is_some_and(|task| task.cancel.is_none()) {
            self.request_cancel(by, front, Some("interrupted by a newer task".to_owned()), rollback, out);
        }
    }

    fn cancel(&mut self, by: &str, id: TaskId, reason: Option<String>, lookup: &Lookup<'_>, out: &mut Outbox) -> Result<Answer, Refusal> {
        let task = self.unfinished(id, lookup)?;
        if let Some(cancel) = &task.cancel {
            return Ok(self.repeated(Some(id), Some(cancel.seq)));
        }
        let seq = self.request_cancel(by, id, reason, false, out);
        Ok(self.done(Some(id), Some(seq)))
    }

    /// Records the intent. A task nobody works on ends at once; the work of another is stopped, and its end comes when it has.
    pub(super) fn request_cancel(&mut self, by: &str, id: TaskId, reason: Option<String>, rollback: bool, out: &mut Outbox) -> Seq {
        let body = CancelRequested { by: by.to_owned(), reason, rollback };
        let seq = self.emit(out, Some(id), EventBody::CancelRequested(body));
        if self.active_of(id).is_some() {
            self.stop(id, &Stop::Cancel, out.now);
        } else {
            self.finish_cancelled(id, true, out);
        }
        seq
    }

    /// The task whose work this request would stop: then it is stopped at once, before the request is recorded, because a store that
    /// stalls must not keep a model running.
    pub(crate) fn would_stop(&self, who: &Principal, change: &Change) -> Option<TaskId> {
        let active = self.active.first().filter(|_| who.user() == self.owner)?;
        match change {
            Change::Cancel { task, .. } => self.active_of(*task).map(|active| active.task),
            Change::End(_) | Change::Delete => Some(active.task),
            _ => None,
        }
    }

    /// A call that is given up is not put to a person any more.
    pub(super) fn withdraw_approval(&mut self, id: TaskId, call: &str, out: &mut Outbox) {
        let of_call = |request: &InputRequested| request.call_id.as_deref() == Some(call);
        let request = self.task(id).and_then(|task| task.inputs.iter().find(|request| of_call(request)).cloned());
        if let Some(request) = request {
            let outcome = ResolvedOutcome::Withdrawn;
            let (by, request_id) = ("hub".to_owned(), request.request_id);
            let body = InputResolved { request_id, outcome, by, payload: None, edited_arguments: None };
            self.emit(out, Some(id), EventBody::InputResolved(body));
        }
    }

    fn steer(&mut self, new: &NewSteer, lookup: &Lookup<'_>, out: &mut Outbox) -> Result<Answer, Refusal> {
        if let Some(steer) = self.tasks.iter().flat_map(|task| &task.steers).find(|steer| steer.id == new.id) {
            let same = steer.input == new.input && steer.when == new.when;
            return if same { Ok(self.repeated(Some(new.task), Some(steer.seq))) } else { Err(conflict("steering input")) };
        }
        let task = self.unfinished(new.task, lookup)?;
        if task.cancel.is_some() {
            return Err(Refusal::new(ErrorCode::AlreadyTerminal, "The task is being cancelled"));
        }
        if task.flow.is_some() {
            return Err(Refusal::new(ErrorCode::NotSupported, "An execution of a workflow cannot be steered"));
        }
        if task.steers.iter().filter(|steer| steer.waiting).count() >= WAITING_STEERS {
            return Err(Refusal::new(ErrorCode::QueueFull, "Too many steering inputs wait for this task"));
        }
        let body = SteerAccepted { steer_id: new.id, input: new.input.clone(), when: new.when };
        let seq = self.emit(out, Some(new.task), EventBody::SteerAccepted(body));
        if new.when == SteerWhen::Now
            && let Some(active) = self.active_mut(new.task)
        {
            active.abort_call = true;
        }
        Ok(self.done(Some(new.task), Some(seq)))
    }

    fn respond(&mut self, by: &str, answer: &RespondInput, lookup: &Lookup<'_>, out: &mut Outbox) -> Result<Answer, Refusal> {
        let already = || Refusal::new(ErrorCode::AlreadyResolved, "The request was answered before");
        if self.task(answer.task_id).is_some_and(|task| task.resolved.contains(&answer.request_id)) {
            return Err(already());
        }
        let task = self.unfinished(answer.task_id, lookup)?;
        let Some(request) = task.inputs.iter().find(|input| input.request_id == answer.request_id).cloned() else {
            return Err(Refusal::new(ErrorCode::NotFound, "The task has no such request for input"));
        };
        if request.kind == InputKind::Tool {
            return Err(Refusal::invalid("requestId", "The request waits for a client to execute a tool: answer it with tool_result"));
        }
        if answer.outcome == InputOutcome::Accept {
            check_payload(&request, answer)?;
            self.check_edit(&request, answer, lookup.agents)?;
        }
        let resolved = InputResolved {
            request_id: request.request_id.clone(),
            outcome: answer.outcome.into(),
            by: by.to_owned(),
            payload: answer.payload.clone(),
            edited_arguments: answer.edited_arguments.clone(),
        };
        let seq = self.resolve_input(answer.task_id, &request, resolved, out);
        Ok(self.done(Some(answer.task_id), Some(seq)))
    }

    /// The complaint about edited arguments, where there are any and the tool does not take them.
    fn check_edit(&self, request: &InputRequested, answer: &RespondInput, agents: &Agents) -> Result<(), Refusal> {
        let Some(edited) = &answer.edited_arguments else { return Ok(()) };
        if request.kind != InputKind::Approval {
            return Err(Refusal::invalid("editedArguments", "The request is not about a call"));
        }
        let call = self.open_calls(answer.task_id).into_iter().find(|call| Some(&call.id) == request.call_id.as_ref());
        let tool = call.map(|call| call.tool).unwrap_or_default();
        let (id, hubs) = (answer.task_id, agents.tools());
        let of_client = agents.of_session(self.agent_of(id)).ok().and_then(|agent| self.client_tool(id, &agent, &tool));
        let fit = match of_client.filter(|_| !hubs.has(&tool)) {
            Some(spec) => schema::check(&spec.parameters, edited).map_err(misfit),
            None => hubs.check(&tool, edited).map(drop),
        };
        fit.map_err(|error| Refusal::invalid("editedArguments", error.message))
    }

    /// Records how a request ended and lets the task go on when it was the last one.
    pub(super) fn resolve_input(&mut self, id: TaskId, request: &InputRequested, resolved: InputResolved, out: &mut Outbox) -> Seq {
        let (approval, outcome) = (request.kind == InputKind::Approval, resolved.outcome);
        let refused = |text: &str| Err(ToolError::new(ToolErrorCode::Refused, text));
        let result = match outcome {
            // The call is made now.
            ResolvedOutcome::Accept if approval => None,
            ResolvedOutcome::Accept => Some(Ok(resolved.payload.clone().unwrap_or(Value::Bool(true)))),
            ResolvedOutcome::Reject if approval => Some(refused(&declined(resolved.payload.as_ref()))),
            ResolvedOutcome::Reject => Some(refused("The person declined to answer")),
            ResolvedOutcome::Expired if request.kind == InputKind::Tool => {
                Some(Err(ToolError::new(ToolErrorCode::TimedOut, "No client gave a result in time")))
            }
            ResolvedOutcome::Expired => Some(refused("Nobody answered in time")),
            ResolvedOutcome::Withdrawn => Some(refused("The task ended first")),
        };
        self.resolve_with(id, request, resolved, result, out)
    }

    /// The same where it is known what becomes of the call; `None`: it is made now.
    pub(super) fn resolve_with(
        &mut self,
        id: TaskId,
        request: &InputRequested,
        resolved: InputResolved,
        result: Option<Result<Value, ToolError>>,
        out: &mut Outbox,
    ) -> Seq {
        let waited = out.now.since(self.task(id).map_or(out.now, |task| task.last_at));
        let outcome = resolved.outcome;
        let seq = self.emit(out, Some(id), EventBody::InputResolved(resolved));
        let call = self.open_calls(id).into_iter().find(|call| Some(&call.id) == request.call_id.as_ref());
        match (call, result) {
            (Some(call), Some(result)) if request.kind == InputKind::Tool => self.close_call(id, &call, result, waited, out),
            (Some(call), Some(result)) => {
                let duration_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
                let (output, error) = result.map_or_else(|error| (None, Some(error)), |output| (Some(output), None));
                let (error, code) = error.map(|error| (error.message, error.code.as_str().to_owned())).unzip();
                let of_step = output.clone().ok_or_else(|| error.clone().unwrap_or_default());
                self.emit(out, Some(id), EventBody::ToolResult(ToolResult { call_id: call.id.clone(), output, error, code, duration_ms }));
                self.flow_call_ended(id, &call.id, of_step, out);
            }
            _ => {}
        }
        let waited_for_this = |task: &super::Task| task.inputs.is_empty() && task.waits_for_input();
        if let Some(active) = self.active_mut(id) {
            active.look = true;
        }
        if outcome != ResolvedOutcome::Withdrawn && self.task(id).is_some_and(waited_for_this) {
            self.emit(out, Some(id), EventBody::TaskResumed(TaskResumed::default()));
            self.resume_ancestors(id, out);
        }
        seq
    }

    fn suspend(&mut self, id: TaskId, reason: Option<String>, lookup: &Lookup<'_>, out: &Outbox) -> Result<Answer, Refusal> {
        let task = self.unfinished(id, lookup)?;
        if task.status == TaskStatus::Suspended {
            return Ok(self.repeated(Some(id), Some(task.last_seq)));
        }
        if task.parent.is_some() {
            return Err(not_alone());
        }
        if self.active_of(id).is_none() {
            return Err(Refusal::new(ErrorCode::Busy, "The task does not run"));
        }
        let reason = reason.unwrap_or_else(|| "requested".to_owned());
        self.stop(id, &Stop::Suspend { reason }, out.now);
        Ok(Answer::WhenStopped(id))
    }

    fn resume(
        &mut self,
        id: TaskId,
        data: Option<Value>,
        step: Option<&str>,
        lookup: &Lookup<'_>,
        out: &mut Outbox,
    ) -> Result<Answer, Refusal> {
        let task = self.unfinished(id, lookup)?;
        if task.parent.is_some() {
            return Err(not_alone());
        }
        if task.cancel.is_some() {
            return Err(Refusal::new(ErrorCode::AlreadyTerminal, "The task is being cancelled"));
        }
        if task.flow.is_some() && !task.waits_for_input() {
            return self.resume_flow(id, data, step, lookup.workflows, out);
        }
        if step.is_some() {
            return Err(Refusal::invalid("stepId", "The task is no execution of a workflow"));
        }
        if task.waits_for_input() || !task.inputs.is_empty() {
            return Err(Refusal::new(ErrorCode::Busy, "The task waits for input; answer it with respond_input"));
        }
        if task.status != TaskStatus::Suspended {
            return Err(Refusal::new(ErrorCode::Busy, "The task is not suspended").detail("status", task.status.as_str()));
        }
        let seq = self.emit(out, Some(id), EventBody::TaskResumed(TaskResumed { data, step_id: None }));
        self.resume_descendants(id, out);
        Ok(self.done(Some(id), Some(seq)))
    }

    fn end(&mut self, reason: &'static str, out: &mut Outbox) -> Result<Answer, Refusal> {
        if self.ended.is_some() {
            // Its tasks are gone already; a deletion still has the log to take away.
            if reason != "deleted" {
                return Err(Refusal::new(ErrorCode::AlreadyTerminal, "The session has ended"));
            }
            self.ending = Some(reason);
            return Ok(Answer::WhenEnded);
        }
        if self.ending != Some("deleted") {
            self.ending = Some(reason);
        }
        for task in self.line.clone() {
            if self.task(task).is_some_and(|task| task.cancel.is_none()) {
                self.request_cancel("hub", task, Some(format!("session {reason}")), false, out);
            }
        }
        self.end_if_idle(out);
        Ok(Answer::WhenEnded)
    }

    /// Writes the session's last event once nothing of it runs any more.
    pub(super) fn end_if_idle(&mut self, out: &mut Outbox) {
        let Some(reason) = self.ending else { return };
        if self.ended.is_none() && self.line.is_empty() {
            self.emit(out, None, EventBody::SessionEnded(SessionEnded { reason: reason.to_owned() }));
            out.record = true;
        }
    }

    /// Puts a task aside: its slot is given back.
    pub(super) fn put_aside(&mut self, id: TaskId, reason: String, out: &mut Outbox) {
        self.put_aside_for(id, TaskSuspended { reason, step_id: None, schema: None, data: None, expires_at: None }, out);
    }

    /// The same, with all there is to say about it.
    pub(super) fn put_aside_for(&mut self, id: TaskId, why: TaskSuspended, out: &mut Outbox) {
        self.emit(out, Some(id), EventBody::TaskSuspended(why));
        self.active.retain(|active| active.task != id);
    }
}

/// The schema's complaint, where the request has a schema and the payload does not fit it.
fn check_payload(request: &InputRequested, answer: &RespondInput) -> Result<(), Refusal> {
    let Some(schema) = &request.schema else { return Ok(()) };
    if request.kind == InputKind::Approval && answer.payload.is_none() {
        return Ok(());
    }
    // The schema compiled when the request was made.
    let validator = jsonschema::validator_for(schema).map_err(|error| Refusal::new(ErrorCode::Internal, error.to_string()))?;
    let payload = answer.payload.as_ref().unwrap_or(&Value::Null);
    match validator.validate(payload) {
        Ok(()) => Ok(()),
        Err(error) => {
            let path = error.instance_path().to_string();
            Err(Refusal::invalid("payload", error.to_string()).detail("path", path))
        }
    }
}

/// What the model is told of a call that a person did not allow, with what the person said about it.
fn declined(payload: Option<&Value>) -> String {
    let said = payload.and_then(|payload| payload.as_str().or_else(|| payload.get("reason")?.as_str()));
    let why = said.map(|said| format!(": {said}")).unwrap_or_default();
    format!("A person did not allow this call{why}")
}

fn not_alone() -> Refusal {
    Refusal::new(ErrorCode::NotSupported, "It is the task of a sub-agent: suspend and resume the task that it belongs to")
}

fn conflict(what: &str) -> Refusal {
    Refusal::new(ErrorCode::IdempotencyConflict, format!("This id was used before for another {what}"))
}
