//! State from events. What is here runs the same for a live event and for one read back from the store.

use std::{collections::VecDeque, time::Duration};

use agent_hub_protocol::{
    Epoch, Event, EventBody, Seq, SessionId, TaskId, Timestamp,
    event::{InputKind, InputRequested, Message, ResolvedOutcome, SessionCreated, StepPhase, TaskQueued},
    snapshot::{Suspension, TaskError, TaskStatus},
};

use super::{Cancel, Conversation, Entry, FINISHED_TASKS, Parent, SessionState, Steer, Streaming, Task, flow::Flow, work::ANSWER_INVALID};
use crate::{runtime::admission::task_fingerprint, workflow::Progress};

impl SessionState {
    /// A session as its first event makes it.
    pub(crate) fn born(id: SessionId, owner: String, birth: u32, epoch: Epoch, created: &SessionCreated) -> Self {
        Self {
            id,
            owner,
            birth,
            epoch,
            agent: created.agent.clone(),
            tools: created.tools.clone(),
            model: created.model.clone(),
            name: created.name.clone(),
            tags: created.tags.clone(),
            metadata: created.metadata.clone(),
            client_tools: Vec::new(),
            created_at: created.created_at,
            updated_at: created.created_at,
            ended: None,
            had_socket: false,
            head: 0,
            task_count: 0,
            next_id: 1,
            conversation: Conversation::default(),
            tasks: Vec::new(),
            line: VecDeque::new(),
            active: Vec::new(),
            ending: None,
        }
    }

    /// Folds in the next event of the log.
    pub(crate) fn apply(&mut self, event: &Event) {
        debug_assert_eq!(event.seq, self.head + 1, "the log is dense");
        self.head = event.seq;
        self.updated_at = event.at;
        match (&event.body, event.task_id) {
            (EventBody::SessionUpdated(new), _) => {
                self.name = new.name.clone().or(self.name.take());
                self.tags = new.tags.clone().unwrap_or(std::mem::take(&mut self.tags));
                self.metadata = new.metadata.clone().or(self.metadata.take());
                self.model = new.model.clone().or(self.model.take());
                if let Some(tools) = &new.client_tools {
                    self.client_tools = tools.clone();
                }
            }
            (EventBody::SessionEnded(ended), _) => self.ended = Some(ended.reason.clone()),
            (EventBody::TaskQueued(queued), Some(id)) => self.add_task(id, event, queued),
            (body, Some(id)) => self.apply_to_task(id, event, body),
            (_, None) => {}
        }
    }

    fn add_task(&mut self, id: TaskId, event: &Event, queued: &TaskQueued) {
        let parent = queued.parent_task_id.map(|task| Parent {
            task,
            call: queued.call_id.clone().unwrap_or_default(),
            agent: queued.agent.clone().unwrap_or_default(),
        });
        if parent.is_none() {
            self.task_count += 1;
            let place = (queued.position as usize).min(self.line.len());
            self.line.insert(place, id);
        }
        // Most sessions that lie in memory have had one task: the usual growth would keep room for three more, of 700 bytes each.
        if self.tasks.len() == self.tasks.capacity() {
            self.tasks.reserve_exact(1 + self.tasks.len() / 2);
        }
        self.tasks.push(Task {
            id,
            status: TaskStatus::Queued,
            prompt: queued.prompt.clone().unwrap_or_default(),
            context: queued.context.clone(),
            options: queued.options.clone(),
            tools: queued.tools.clone(),
            timeout: Duration::from_millis(queued.timeout_ms),
            fingerprint: task_fingerprint(queued),
            own: (parent.is_some() || queued.workflow.is_some()).then(Box::default),
            parent,
            attempt: 0,
            first_seq: event.seq,
            last_seq: event.seq,
            created_at: event.at,
            started_at: None,
            completed_at: None,
            ran: Duration::ZERO,
            running_since: None,
            last_at: event.at,
            message_id: None,
            step: 0,
            steps_completed: 0,
            model_calls: 0,
            repairs: 0,
            cancel: None,
            usage: agent_hub_protocol::event::Usage::default(),
            result: None,
            error: None,
            streaming: None,
            void: None,
            solid_seq: event.seq,
            recovering: false,
            inputs: Vec::new(),
            resolved: Vec::new(),
            approved: Vec::new(),
            steers: Vec::new(),
            suspension: None,
            flow: queued.workflow.clone().map(|workflow| {
                let input = queued.input.clone().unwrap_or_default();
                Box::new(Flow { workflow, progress: Progress::new(input, queued.replay.as_deref()), fruitless: 0 })
            }),
        });
        self.forget_old_tasks();
    }

    fn apply_to_task(&mut self, id: TaskId, event: &Event, body: &EventBody) {
        // The hot path first: a piece of text touches nothing but its task.
        let Some(at) = self.tasks.iter().rposition(|task| task.id == id) else { return };
        let task = &mut self.tasks[at];
        task.last_seq = event.seq;
        let last_at = std::mem::replace(&mut task.last_at, event.at);
        match body {
            EventBody::Token(token) => {
                match &mut task.streaming {
                    Some(streaming) if streaming.message_id == token.message_id => streaming.text.push_str(&token.token),
                    other => {
                        *other = Some(Streaming { message_id: token.message_id.clone(), text: token.token.clone(), seq: event.seq });
                        note_id(&mut self.next_id, &token.message_id);
                    }
                }
                return;
            }
            EventBody::Reasoning(_) | EventBody::ToolOutput(_) => return,
            _ => task.solid_seq = event.seq,
        }
        let mut own = task.own.take();
        let talk = own.as_deref_mut().unwrap_or(&mut self.conversation);
        match body {
            EventBody::TaskStarted(started) => {
                note_id(&mut self.next_id, &started.message_id);
                task.status = TaskStatus::Running;
                task.attempt = started.attempt;
                task.recovering = false;
                task.running_since = Some(event.at);
                task.started_at.get_or_insert(event.at);
                if task.message_id.is_none() {
                    task.message_id = Some(started.message_id.clone());
                    // An execution of a workflow has no prompt.
                    if let Some(context) = task.context.as_ref().filter(|_| task.flow.is_none()) {
                        let message_id = format!("{}c", started.message_id);
                        talk.push(Entry::User { message_id, task: id, text: context.clone(), seq: event.seq });
                    }
                    if task.flow.is_none() {
                        let (message_id, text) = (started.message_id.clone(), task.prompt.clone());
                        talk.push(Entry::User { message_id, task: id, text, seq: event.seq });
                    }
                }
            }
            EventBody::Step(step) if task.flow.is_some() => {
                if let Some(id) = &step.call_id {
                    note_id(&mut self.next_id, id);
                }
                task.step = task.step.max(step.index);
                task.steps_completed += u32::from(step.phase == StepPhase::Completed);
                if let Some(flow) = &mut task.flow {
                    flow.progress.note(step, event.at);
                    flow.fruitless = 0;
                }
            }
            EventBody::Step(step) => match step.phase {
                StepPhase::Started if step.tool.is_none() => {
                    task.step = step.index;
                    self.count_model_call(id);
                }
                StepPhase::Started => task.step = task.step.max(step.index),
                StepPhase::Completed => task.steps_completed += 1,
                StepPhase::Failed => {}
            },
            EventBody::Message(message) => {
                let seq = task.streaming.take().map_or(event.seq, |s| s.seq);
                note_id(&mut self.next_id, &message.message_id);
                talk.push(assistant(id, message, seq));
            }
            EventBody::ToolCall(call) => {
                note_id(&mut self.next_id, &call.call_id);
                talk.add_call(id, event.seq, call);
            }
            EventBody::ToolResult(result) => {
                task.approved.retain(|call| *call != result.call_id);
                talk.add_result(id, result);
            }
            EventBody::Usage(usage) => {
                task.usage.input_tokens += usage.input_tokens;
                task.usage.output_tokens += usage.output_tokens;
            }
            EventBody::InputRequested(request) => {
                note_id(&mut self.next_id, &request.request_id);
                task.inputs.push(request.clone());
            }
            EventBody::InputResolved(resolved) => {
                let at = task.inputs.iter().position(|input| input.request_id == resolved.request_id);
                if let Some(InputRequested { kind: InputKind::Approval, call_id: Some(call), .. }) = at.map(|at| task.inputs.remove(at))
                    && resolved.outcome == ResolvedOutcome::Accept
                {
                    if let Some(arguments) = &resolved.edited_arguments {
                        talk.edit_call(&call, arguments);
                    }
                    task.approved.push(call);
                }
                task.resolved.push(resolved.request_id.clone());
            }
            EventBody::SteerAccepted(steer) => {
                task.steers.push(Steer { id: steer.steer_id, input: steer.input.clone(), when: steer.when, waiting: true, seq: event.seq })
            }
            EventBody::SteerApplied(applied) => {
                note_id(&mut self.next_id, &applied.message_id);
                if let Some(steer) = task.steers.iter_mut().find(|s| s.id == applied.steer_id) {
                    steer.waiting = false;
                }
                // Its own text: a fold for a page begins behind what was accepted before the task's start.
                let (message_id, text) = (applied.message_id.clone(), applied.input.clone());
                talk.push(Entry::User { message_id, task: id, text, seq: event.seq });
            }
            EventBody::SteerRejected(rejected) => {
                if let Some(steer) = task.steers.iter_mut().find(|s| s.id == rejected.steer_id) {
                    steer.waiting = false;
                }
            }
            EventBody::Warning(warning) if warning.code == ANSWER_INVALID => {
                task.repairs += 1;
                talk.push(Entry::Note { task: id, text: warning.message.clone(), seq: event.seq });
            }
            EventBody::CancelRequested(cancel) => {
                task.cancel = Some(Cancel {
                    by: cancel.by.clone(),
                    reason: cancel.reason.clone(),
                    rollback: cancel.rollback,
                    seq: event.seq,
                    at: event.at,
                });
            }
            EventBody::TaskSuspended(suspended) => {
                task.status = TaskStatus::Suspended;
                task.suspension = Some(Suspension { at: event.at, what: suspended.clone() });
                if let Some(flow) = &mut task.flow {
                    flow.progress.suspended();
                }
                task.clock_stops(event.at);
            }
            EventBody::TaskResumed(resumed) => {
                task.status = TaskStatus::Running;
                task.suspension = None;
                task.running_since = Some(event.at);
                if let Some(flow) = &mut task.flow {
                    flow.progress.resumed(resumed.step_id.as_deref(), resumed.data.as_ref());
                } else if let Some(data) = &resumed.data {
                    let text = data.as_str().map_or_else(|| data.to_string(), str::to_owned);
                    let message_id = format!("d{}", event.seq);
                    talk.push(Entry::User { message_id, task: id, text, seq: event.seq });
                }
            }
            EventBody::TaskRecovering(recovering) => {
                task.attempt = recovering.attempt;
                if let Some(flow) = &mut task.flow {
                    flow.fruitless += 1;
                }
                task.recovering = true;
                if let Some(void) = task.streaming.take() {
                    task.void = Some(void);
                }
                // The time between its last sign of life and now was nobody's work.
                task.clock_stops(last_at);
            }
            EventBody::TaskCompleted(completed) => {
                task.result = Some(completed.result.clone());
                self.end_task(id, TaskStatus::Completed, event.at);
            }
            EventBody::TaskFailed(failed) => {
                task.error = Some(TaskError { code: failed.code, message: failed.message.clone() });
                task.streaming = task.streaming.take().or(task.void.take());
                self.end_task(id, TaskStatus::Failed, event.at);
            }
            EventBody::TaskCancelled(_) => self.end_task(id, TaskStatus::Cancelled, event.at),
            EventBody::TaskTimeout(_) => self.end_task(id, TaskStatus::Timeout, event.at),
            _ => {}
        }
        if own.is_some()
            && let Some(task) = self.task_mut(id)
            && !task.status.is_terminal()
        {
            task.own = own;
        }
    }

    /// Counts for the task and for all it belongs to: they share what they may use.
    fn count_model_call(&mut self, id: TaskId) {
        let mut of = Some(id);
        while let Some(task) = of.and_then(|id| self.task_mut(id)) {
            task.model_calls += 1;
            of = task.parent.as_ref().map(|parent| parent.task);
        }
    }

    fn end_task(&mut self, id: TaskId, status: TaskStatus, at: Timestamp) {
        self.line.retain(|waiting| *waiting != id);
        let Some(task) = self.tasks.iter_mut().rev().find(|task| task.id == id) else { return };
        task.status = status;
        task.completed_at = Some(at);
        task.clock_stops(at);
        task.inputs.clear();
        task.void = None;
        task.suspension = None;
        if let Some(flow) = &mut task.flow {
            // Who wants to know how it went reads the log.
            flow.progress = Progress::default();
        }
        if task.parent.is_some() || task.flow.is_some() {
            // What it came to stands in the conversation of the task it belongs to.
        } else if task.taken_back() {
            self.conversation.remove_task(id);
        } else if let Some(partial) = task.streaming.clone() {
            self.conversation.place(Entry::Assistant {
                message_id: partial.message_id,
                task: id,
                text: partial.text,
                partial: true,
                seq: partial.seq,
                calls: Vec::new(),
            });
        }
        self.forget_old_tasks();
    }

    fn forget_old_tasks(&mut self) {
        let finished = self.tasks.iter().filter(|task| task.status.is_terminal()).count();
        if finished > FINISHED_TASKS * 2 {
            let mut surplus = finished - FINISHED_TASKS;
            self.tasks.retain(|task| {
                let forget = surplus > 0 && task.status.is_terminal();
                surplus -= usize::from(forget);
                !forget
            });
        }
    }
}

impl Task {
    fn clock_stops(&mut self, at: Timestamp) {
        if let Some(since) = self.running_since.take() {
            self.ran += at.since(since);
        }
    }
}

fn assistant(task: TaskId, message: &Message, seq: Seq) -> Entry {
    Entry::Assistant {
        message_id: message.message_id.clone(),
        task,
        text: message.text.clone(),
        partial: message.partial,
        seq,
        calls: Vec::new(),
    }
}

/// Keeps short ids unique: the next one is above every one seen.
fn note_id(next: &mut u64, id: &str) {
    if let Some(number) = id.get(1..).and_then(|digits| digits.parse::<u64>().ok()) {
        *next = (*next).max(number.saturating_add(1));
    }
}
