//! State from events. What is here runs the same for a live event and for one read back from the store.

use std::{collections::VecDeque, time::Duration};

use agent_hub_protocol::{
    Epoch, Event, EventBody, Seq, SessionId, TaskId, Timestamp,
    event::{Message, SessionCreated, StepPhase, TaskQueued, ToolCall, ToolResult},
    snapshot::{TaskError, TaskStatus},
};
use serde_json::Value;

use super::{Call, Cancel, Conversation, Entry, FINISHED_TASKS, SessionState, Steer, Streaming, Task};
use crate::runtime::admission::task_fingerprint;

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
            active: None,
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
            }
            (EventBody::SessionEnded(ended), _) => self.ended = Some(ended.reason.clone()),
            (EventBody::TaskQueued(queued), Some(id)) => self.add_task(id, event, queued),
            (body, Some(id)) => self.apply_to_task(id, event, body),
            (_, None) => {}
        }
    }

    fn add_task(&mut self, id: TaskId, event: &Event, queued: &TaskQueued) {
        self.task_count += 1;
        let place = (queued.position as usize).min(self.line.len());
        self.line.insert(place, id);
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
            steers: Vec::new(),
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
            EventBody::Reasoning(_) => return,
            _ => task.solid_seq = event.seq,
        }
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
                    if let Some(context) = &task.context {
                        let message_id = format!("{}c", started.message_id);
                        self.conversation.push(Entry::User { message_id, task: id, text: context.clone(), seq: event.seq });
                    }
                    let (message_id, text) = (started.message_id.clone(), task.prompt.clone());
                    self.conversation.push(Entry::User { message_id, task: id, text, seq: event.seq });
                }
            }
            EventBody::Step(step) => match step.phase {
                StepPhase::Started => task.step = step.index,
                StepPhase::Completed => task.steps_completed += 1,
                StepPhase::Failed => {}
            },
            EventBody::Message(message) => {
                let seq = task.streaming.take().map_or(event.seq, |s| s.seq);
                note_id(&mut self.next_id, &message.message_id);
                self.conversation.push(assistant(id, message, seq));
            }
            EventBody::ToolCall(call) => {
                note_id(&mut self.next_id, &call.call_id);
                self.add_call(id, event.seq, call);
            }
            EventBody::ToolResult(result) => self.add_result(id, result),
            EventBody::Usage(usage) => {
                task.usage.input_tokens += usage.input_tokens;
                task.usage.output_tokens += usage.output_tokens;
            }
            EventBody::InputRequested(request) => {
                note_id(&mut self.next_id, &request.request_id);
                task.inputs.push(request.clone());
            }
            EventBody::InputResolved(resolved) => {
                task.inputs.retain(|input| input.request_id != resolved.request_id);
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
                self.conversation.push(Entry::User { message_id, task: id, text, seq: event.seq });
            }
            EventBody::SteerRejected(rejected) => {
                if let Some(steer) = task.steers.iter_mut().find(|s| s.id == rejected.steer_id) {
                    steer.waiting = false;
                }
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
            EventBody::TaskSuspended(_) => {
                task.status = TaskStatus::Suspended;
                task.clock_stops(event.at);
            }
            EventBody::TaskResumed(resumed) => {
                task.status = TaskStatus::Running;
                task.running_since = Some(event.at);
                if let Some(data) = &resumed.data {
                    let text = data.as_str().map_or_else(|| data.to_string(), str::to_owned);
                    let message_id = format!("d{}", event.seq);
                    self.conversation.push(Entry::User { message_id, task: id, text, seq: event.seq });
                }
            }
            EventBody::TaskRecovering(recovering) => {
                task.attempt = recovering.attempt;
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
    }

    fn end_task(&mut self, id: TaskId, status: TaskStatus, at: Timestamp) {
        self.line.retain(|waiting| *waiting != id);
        let Some(task) = self.tasks.iter_mut().rev().find(|task| task.id == id) else { return };
        task.status = status;
        task.completed_at = Some(at);
        task.clock_stops(at);
        task.inputs.clear();
        task.void = None;
        if task.taken_back() {
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

    fn add_call(&mut self, id: TaskId, seq: Seq, call: &ToolCall) {
        let call = Call { id: call.call_id.clone(), tool: call.tool.clone(), arguments: call.arguments.clone() };
        let turn = self.conversation.entries.iter_mut().rev().find(|entry| entry.task() == id);
        if let Some(Entry::Assistant { calls, partial: false, .. }) = turn {
            calls.push(call);
            return;
        }
        // A call without a word before it.
        let message_id = format!("t{seq}");
        let entry = Entry::Assistant { message_id, task: id, text: String::new(), partial: false, seq, calls: vec![call] };
        self.conversation.push(entry);
    }

    fn add_result(&mut self, id: TaskId, result: &ToolResult) {
        let tool = self.conversation.open_calls(id).into_iter().find(|call| call.id == result.call_id).map(|call| call.tool);
        let (content, is_error) = match (&result.error, &result.output) {
            (Some(error), _) => (error.clone(), true),
            (None, Some(Value::String(text))) => (text.clone(), false),
            (None, Some(output)) => (output.to_string(), false),
            (None, None) => (String::new(), false),
        };
        let call_id = result.call_id.clone();
        let entry = Entry::Result { call_id, task: id, tool: tool.unwrap_or_default(), content, is_error };
        self.conversation.answer(&result.call_id, entry);
    }

    fn forget_old_tasks(&mut self) {
        let finished = self.tasks.len() - self.line.len().min(self.tasks.len());
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
