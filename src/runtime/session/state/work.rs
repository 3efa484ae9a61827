//! What the work of a task does to its session: the answer as it streams, steps, tools, the end. And what time does.

use agent_hub_protocol::{
    ErrorCode, EventBody, TaskId,
    event::{
        InputRequested, InputResolved, Message, Reasoning, ResolvedOutcome, Role, SteerApplied, SteerRejected, Step, StepPhase,
        TaskCancelled, TaskCompleted, TaskFailed, TaskRecovering, TaskStarted, TaskTimeout, Token, ToolCall, ToolResult, Warning,
    },
    limits::MERGED_TOKEN_BYTES,
    snapshot::TaskStatus,
};
use serde_json::{Map, Value};

use super::{Active, Call, Entry, Outbox, Rules, SessionState, Stop, Task, flow::ATTEMPTS_PER_STEP, kin::INPUT};
use crate::{
    provider::{CallEnd, ModelMessage, ModelToolCall, ProviderError, ProviderErrorKind, ToolSpec},
    runtime::{agent::Agent, options, settings::RuntimeSettings, structured, task::Delta, template::Template},
};

/// Nesting of a tool's arguments; JSON readers give up at 128.
const MAX_NESTING: usize = 64;
/// Model calls of a task when neither it nor its agent says: so many, and for an agent with sub-agents so many for each of them.
const USUAL_STEPS: u32 = 10;
/// The warning that is for the model too.
pub(super) const ANSWER_INVALID: &str = "answer_invalid";

/// How the last model call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallReport {
    /// It ended by itself.
    Ended(CallEnd),
    /// It was aborted so that the task can be steered.
    Aborted,
}

/// What a task does next.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// Call the model.
    Model(Box<ModelAsk>),
    /// Run these calls.
    Tools(Vec<Call>),
    /// Run these calls beside those that run, give these of them up, and ask again at once.
    Flow { start: Vec<Call>, drop: Vec<String> },
    /// Wait until something that belongs to the task has ended.
    Wait,
    /// Nothing: the task has ended, or is being stopped.
    Nothing,
}

/// What the model is asked.
#[derive(Clone, Debug)]
pub(crate) struct ModelAsk {
    pub(crate) instructions: Option<String>,
    pub(crate) messages: Vec<ModelMessage>,
    pub(crate) model: Option<String>,
    pub(crate) tools: Vec<ToolSpec>,
    pub(crate) options: Map<String, Value>,
    /// What the answer must fit.
    pub(crate) answer_schema: Option<Value>,
    /// Text it may answer with, in bytes.
    pub(crate) answer_bytes: usize,
}

impl SessionState {
    /// The front task has its slot: from here on this process works on it.
    pub(crate) fn start(&mut self, id: TaskId, out: &mut Outbox) {
        let Some(task) = self.task(id) else { return };
        let (fresh, attempt, message_id) = (task.status == TaskStatus::Queued, task.attempt.max(1), task.message_id.clone());
        if fresh || task.recovering {
            let message_id = message_id.unwrap_or_else(|| self.fresh_id('m'));
            self.emit(out, Some(id), EventBody::TaskStarted(TaskStarted { attempt, message_id }));
        }
        if let Some(task) = self.task_mut(id) {
            task.running_since = Some(out.now);
        }
        let (steps, running) = (Vec::new(), Vec::new());
        self.active.push(Active { task: id, stop: None, abort_call: false, since: out.now, steps, running, look: true, look_at: None });
    }

    /// Takes pieces of the answer in. Adjacent ones of a kind become one event.
    pub(crate) fn stream(&mut self, id: TaskId, deltas: Vec<Delta>, out: &mut Outbox) {
        if !self.works_on(id) {
            return;
        }
        for delta in deltas {
            match delta {
                Delta::Text(text) => self.stream_text(id, text, out),
                Delta::Reasoning(text) => self.stream_reasoning(id, text, out),
            }
        }
    }

    fn stream_text(&mut self, id: TaskId, text: String, out: &mut Outbox) {
        let current = self.task(id).and_then(|task| task.streaming.as_ref()).map(|s| s.message_id.clone());
        if let Some(last) = out.events.last_mut()
            && last.task_id == Some(id)
            && let EventBody::Token(token) = &mut last.body
            && Some(&token.message_id) == current.as_ref()
            && token.token.len() + text.len() <= MERGED_TOKEN_BYTES
        {
            token.token.push_str(&text);
            if let Some(streaming) = self.task_mut(id).and_then(|task| task.streaming.as_mut()) {
                streaming.text.push_str(&text);
            }
            return;
        }
        let message_id = current.unwrap_or_else(|| self.fresh_id('m'));
        self.emit(out, Some(id), EventBody::Token(Token { token: text, message_id }));
    }

    fn stream_reasoning(&mut self, id: TaskId, text: String, out: &mut Outbox) {
        if let Some(last) = out.events.last_mut()
            && last.task_id == Some(id)
            && let EventBody::Reasoning(reasoning) = &mut last.body
            && reasoning.token.len() + text.len() <= MERGED_TOKEN_BYTES
        {
            reasoning.token.push_str(&text);
            return;
        }
        self.emit(out, Some(id), EventBody::Reasoning(Reasoning { token: text }));
    }

    /// The model calls a tool. The text before it is a finished block. The vendor's id is replaced by one that is short and ours.
    pub(crate) fn tool_called(&mut self, id: TaskId, call: ModelToolCall, out: &mut Outbox) {
        if !self.works_on(id) {
            return;
        }
        self.close_message(id, false, out);
        let call_id = self.fresh_id('c');
        let arguments = readable(call.arguments);
        self.emit(out, Some(id), EventBody::ToolCall(ToolCall { call_id, tool: call.tool, arguments }));
    }

    /// Decides what the task does next, after the last call went as reported.
    pub(crate) fn next(&mut self, id: TaskId, report: Option<CallReport>, rules: Rules<'_>, out: &mut Outbox) -> Work {
        if !self.works_on(id) {
            return Work::Nothing;
        }
        if let Some(active) = self.active_mut(id) {
            active.abort_call = false;
        }
        if self.is_flow(id) {
            return self.next_of_flow(id, rules, out);
        }
        match report {
            Some(CallReport::Ended(end)) => {
                self.close_message(id, false, out);
                let usage = agent_hub_protocol::event::Usage { input_tokens: end.input_tokens, output_tokens: end.output_tokens };
                self.emit(out, Some(id), EventBody::Usage(usage));
                let output = end.truncated.then(|| Value::String("truncated at the length limit".to_owned()));
                self.emit_step(id, None, StepPhase::Completed, None, output, out);
            }
            Some(CallReport::Aborted) => {
                self.close_message(id, true, out);
                self.emit_step(id, None, StepPhase::Failed, None, Some(Value::String("interrupted by a steering input".to_owned())), out);
            }
            None => {}
        }
        let agent = match rules.agents.of_session(self.agent_of(id)) {
            Ok(agent) => agent,
            Err(refusal) => {
                self.fail(id, refusal.code, refusal.message, false, out);
                return Work::Nothing;
            }
        };
        let ready = self.decide_calls(id, &agent, rules, out);
        if !ready.is_empty() {
            return Work::Tools(ready);
        }
        if self.children_at_work(id) {
            return Work::Wait;
        }
        if self.waits_for_person(id) {
            self.put_aside(id, INPUT.to_owned(), out);
            return Work::Nothing;
        }
        let steered = self.apply_steers(id, out);
        let answered = matches!(report, Some(CallReport::Ended(_))) && !self.talk_of(id).ends_with_result(id);
        if answered && !steered && self.complete(id, out) {
            return Work::Nothing;
        }
        self.call_model(id, &agent, rules, out)
    }

    fn call_model(&mut self, id: TaskId, agent: &Agent, rules: Rules<'_>, out: &mut Outbox) -> Work {
        let (used, limit) = self.budget(id, rules);
        if used >= limit {
            self.fail(id, ErrorCode::QuotaExceeded, format!("Stopped after {limit} steps (maxSteps)"), false, out);
            return Work::Nothing;
        }
        let known = self.user_context(id);
        let made = |text: &Option<Template>| text.as_ref().map(|text| text.render(&known)).transpose();
        let (instructions, usual_model) = match (made(&agent.instructions), made(&agent.model)) {
            (Ok(instructions), Ok(model)) => (instructions, model.filter(|model| !model.is_empty())),
            (Err(error), _) | (_, Err(error)) => {
                let message = format!("The agent {} cannot be asked with this userContext: {error}", agent.name);
                self.fail(id, ErrorCode::InvalidMessage, message, false, out);
                return Work::Nothing;
            }
        };
        self.warn_of_options(id, agent, out);
        let tools = self.offered(id, agent, rules);
        let Some(task) = self.task(id) else { return Work::Nothing };
        let answer_schema = task.options.as_ref().and_then(options::answer_schema).cloned();
        let instructions = match (instructions, answer_schema.as_ref().map(structured::instruction)) {
            (Some(own), Some(of_answer)) => Some(format!("{own}\n\n{of_answer}")),
            (own, of_answer) => own.or(of_answer),
        };
        let option = |name: &str| task.options.as_ref().and_then(|options| options.get(name));
        let own_model = || self.model.clone().filter(|_| task.parent.is_none());
        let ask = ModelAsk {
            instructions,
            messages: self.model_messages(id, option("contextLimit").and_then(Value::as_u64)),
            model: option("model").and_then(Value::as_str).map(str::to_owned).or_else(own_model).or(usual_model),
            tools,
            options: task.options.clone().unwrap_or_default(),
            answer_schema,
            answer_bytes: rules.settings.answer_bytes,
        };
        self.emit_step(id, None, StepPhase::Started, None, None, out);
        Work::Model(Box::new(ask))
    }

    /// Model calls made, and how many may be: of the task that all this belongs to, because sub-agents share what it may use.
    fn budget(&self, id: TaskId, rules: Rules<'_>) -> (u32, u32) {
        // A workflow has no budget: each of its agents has its own.
        let root = self.ancestors(id).into_iter().take_while(|of| !self.is_flow(*of)).last().unwrap_or(id);
        let Some(task) = self.task(root) else { return (0, 0) };
        let asked = task.options.as_ref().and_then(|options| options.get("maxSteps")).and_then(Value::as_u64);
        let agent = rules.agents.of_session(self.agent_of(root)).ok();
        let usual = agent.as_ref().map_or(USUAL_STEPS, |agent| {
            let sub_agents = u32::try_from(agent.sub_agents.len()).unwrap_or(u32::MAX);
            agent.max_steps.unwrap_or_else(|| USUAL_STEPS.max(USUAL_STEPS.saturating_mul(sub_agents)))
        });
        let limit = asked.map_or(usual, |steps| u32::try_from(steps).unwrap_or(u32::MAX));
        (task.model_calls, limit.clamp(1, rules.settings.max_steps))
    }

    /// The model call broke off.
    pub(crate) fn provider_failed(&mut self, id: TaskId, error: &ProviderError, out: &mut Outbox) {
        if !self.works_on(id) {
            return;
        }
        let code = match error.kind {
            ProviderErrorKind::Unavailable => ErrorCode::UpstreamUnavailable,
            ProviderErrorKind::Config => ErrorCode::NotSupported,
            ProviderErrorKind::Connection | ProviderErrorKind::Timeout | ProviderErrorKind::Status(_) | ProviderErrorKind::Garbage => {
                ErrorCode::UpstreamError
            }
        };
        self.emit_step(id, None, StepPhase::Failed, None, Some(Value::String(error.message.clone())), out);
        self.fail(id, code, error.message.clone(), error.kind.retryable(), out);
    }

    /// The work of the task has stopped, whether it was told to or not. `clean`: it said so itself.
    pub(crate) fn stopped(&mut self, id: TaskId, clean: bool, out: &mut Outbox) {
        let Some(at) = self.active.iter().position(|active| active.task == id) else { return };
        match self.active.remove(at).stop {
            Some((Stop::Timeout, _)) if !self.stops_with_its_parent(id) => self.finish_timeout(id, clean, out),
            Some((Stop::Cancel | Stop::Timeout, _)) => self.finish_cancelled(id, clean, out),
            Some((Stop::Suspend { reason }, _)) => {
                self.close_message(id, true, out);
                self.put_aside(id, reason, out);
            }
            None => {
                let message = "The task's worker stopped unexpectedly".to_owned();
                self.fail(id, ErrorCode::Internal, message, true, out);
            }
        }
        self.end_if_idle(out);
    }

    /// Whether it is the task of a sub-agent that is stopped because the one it belongs to is.
    fn stops_with_its_parent(&self, id: TaskId) -> bool {
        let parent = self.task(id).and_then(|task| task.parent.as_ref());
        parent.is_some_and(|parent| self.active_of(parent.task).is_none_or(|active| active.stop.is_some()))
    }

    /// What has become due.
    pub(crate) fn on_time(&mut self, settings: &RuntimeSettings, out: &mut Outbox) {
        for id in self.active.iter().map(|active| active.task).collect::<Vec<_>>() {
            let Some(active) = self.active_of(id) else { continue };
            match &active.stop {
                None => {
                    if self.task(id).is_some_and(|task| task.running_time(active.since, out.now) >= task.timeout) {
                        self.stop(id, &Stop::Timeout, out.now);
                    }
                }
                Some((_, since)) if out.now >= since.plus(settings.stop_grace) => {
                    let late = self.active.iter().map(|active| active.task).filter(|task| self.is_of(*task, id));
                    for late in late.collect::<Vec<_>>().into_iter().rev() {
                        self.stopped(late, false, out);
                    }
                }
                Some(_) => {}
            }
        }
        self.expire_inputs(out);
        self.wake_flows(out);
    }

    fn expire_inputs(&mut self, out: &mut Outbox) {
        let due = |input: &InputRequested| input.expires_at.is_some_and(|at| at <= out.now);
        let expired: Vec<(TaskId, InputRequested)> = self
            .tasks
            .iter()
            .filter(|task| !task.status.is_terminal())
            .flat_map(|task| task.inputs.iter().filter(|input| due(input)).map(|input| (task.id, input.clone())))
            .collect();
        for (task, request) in expired {
            let resolved = hub_resolution(&request, ResolvedOutcome::Expired);
            self.resolve_input(task, &request, resolved, out);
        }
    }

    /// The process has started anew: a task the log says is running is run again, or ended. `reason` tells why, where it is not a restart.
    pub(crate) fn recover(&mut self, settings: &RuntimeSettings, failed_store: bool, out: &mut Outbox) {
        self.active.clear();
        for id in self.line.clone() {
            let Some(task) = self.task(id) else { continue };
            if task.cancel.is_some() {
                // The process that spoke to the vendor is gone, and its connections with it.
                self.finish_cancelled(id, true, out);
            } else if task.status == TaskStatus::Running && failed_store {
                self.fail(id, ErrorCode::Overloaded, "The store could not be written while the task ran".to_owned(), true, out);
            } else if task.status == TaskStatus::Running && task.has_tried_enough(settings) {
                self.fail(id, ErrorCode::Interrupted, "The hub stopped while the task ran".to_owned(), true, out);
            } else if task.status == TaskStatus::Running {
                self.run_again(id, out);
                for child in self.descendants(id) {
                    match self.task(child) {
                        Some(task) if task.cancel.is_some() => self.finish_cancelled(child, true, out),
                        Some(task) if task.status == TaskStatus::Running => self.run_again(child, out),
                        _ => {}
                    }
                }
                out.record = true;
            }
        }
    }

    /// The task goes on from its last durable step.
    fn run_again(&mut self, id: TaskId, out: &mut Outbox) {
        let Some(task) = self.task(id) else { return };
        // All of the message that was being written, also where something else was said in the middle of it.
        let written = task.streaming.as_ref().map_or(task.solid_seq, |streaming| streaming.seq - 1);
        let body = TaskRecovering { attempt: task.attempt + 1, discard_after: task.solid_seq.min(written) };
        self.emit(out, Some(id), EventBody::TaskRecovering(body));
    }

    pub(super) fn finish_cancelled(&mut self, id: TaskId, upstream_stopped: bool, out: &mut Outbox) {
        self.withdraw(id, "The task was cancelled", out);
        let Some(task) = self.task(id) else { return };
        let with_its_parent = || ("hub".to_owned(), Some("the task it belongs to was stopped".to_owned()));
        let (by, reason) = task.cancel.as_ref().map_or_else(with_its_parent, |c| (c.by.clone(), c.reason.clone()));
        let rollback = task.cancel.as_ref().is_some_and(|cancel| cancel.rollback);
        let partial = task.streaming.as_ref().map(|s| s.text.clone()).unwrap_or_default();
        self.finish(id, EventBody::TaskCancelled(TaskCancelled { reason, by, partial, upstream_stopped, rollback }), out);
    }

    pub(super) fn finish_timeout(&mut self, id: TaskId, upstream_stopped: bool, out: &mut Outbox) {
        self.withdraw(id, "The task ran out of time", out);
        let Some(task) = self.task(id) else { return };
        let timeout_ms = u64::try_from(task.timeout.as_millis()).unwrap_or(u64::MAX);
        let partial = task.streaming.as_ref().map(|s| s.text.clone()).unwrap_or_default();
        self.finish(id, EventBody::TaskTimeout(TaskTimeout { timeout_ms, partial, upstream_stopped }), out);
    }

    pub(crate) fn fail(&mut self, id: TaskId, code: ErrorCode, message: String, retryable: bool, out: &mut Outbox) {
        self.withdraw(id, "The task failed", out);
        let Some(task) = self.task(id) else { return };
        let (message_id, partial) = task.streaming.as_ref().or(task.void.as_ref()).map(|s| (s.message_id.clone(), s.text.clone())).unzip();
        let partial = partial.unwrap_or_default();
        self.finish(id, EventBody::TaskFailed(TaskFailed { code, message, retryable, partial, message_id }), out);
    }

    /// Ends the task with its answer. False where the model has to be told first that its answer is not what was asked for.
    fn complete(&mut self, id: TaskId, out: &mut Outbox) -> bool {
        let answer = self.talk_of(id).last_text(id).unwrap_or_default();
        let Some(task) = self.task(id) else { return true };
        let result = match task.options.as_ref().and_then(options::answer_schema) {
            None => Ok(Value::String(answer.to_owned())),
            Some(schema) => structured::read(answer, schema),
        };
        match result {
            Ok(result) => self.complete_with(id, result, out),
            Err(complaint) if task.repairs >= structured::REPAIRS => {
                self.fail(id, ErrorCode::UpstreamError, format!("Schema validation failed: {complaint}"), false, out);
            }
            Err(complaint) => {
                let message = format!("The answer does not fit the schema: {complaint}. Answer again, with the whole JSON value.");
                let body = Warning { code: ANSWER_INVALID.to_owned(), message, options: Vec::new() };
                self.emit(out, Some(id), EventBody::Warning(body));
                return false;
            }
        }
        true
    }

    pub(super) fn complete_with(&mut self, id: TaskId, result: Value, out: &mut Outbox) {
        let usage = self.task(id).map(|task| task.usage).unwrap_or_default();
        self.finish(id, EventBody::TaskCompleted(TaskCompleted { result, usage }), out);
    }

    /// Says once which of the task's options nobody heeds.
    fn warn_of_options(&mut self, id: TaskId, agent: &Agent, out: &mut Outbox) {
        let Some(task) = self.task(id).filter(|task| task.step == 0 && task.parent.is_none()) else { return };
        let options = task.options.as_ref().map(|options| options::without_effect(options, &*agent.provider)).unwrap_or_default();
        if !options.is_empty() {
            let message = format!("Not known to {}, and without effect: {}", agent.provider.name(), options.join(", "));
            self.emit(out, Some(id), EventBody::Warning(Warning { code: "option_ignored".to_owned(), message, options }));
        }
    }

    fn finish(&mut self, id: TaskId, terminal: EventBody, out: &mut Outbox) {
        self.emit(out, Some(id), terminal);
        out.record = true;
        self.active.retain(|active| active.task != id);
        self.answer_parent(id, out);
        self.end_if_idle(out);
    }

    /// Closes what a task leaves open, so that the conversation stays valid for strict vendors and no receipt stays out.
    fn withdraw(&mut self, id: TaskId, why: &str, out: &mut Outbox) {
        self.end_children(id, out);
        let inputs = self.task(id).map(|task| task.inputs.clone()).unwrap_or_default();
        for request in inputs {
            let resolved = hub_resolution(&request, ResolvedOutcome::Withdrawn);
            self.resolve_input(id, &request, resolved, out);
        }
        for call in self.open_calls(id) {
            let body = ToolResult { call_id: call.id, output: None, error: Some(why.to_owned()), code: None, duration_ms: 0 };
            self.emit(out, Some(id), EventBody::ToolResult(body));
        }
        let steers: Vec<(TaskId, String)> = self
            .task(id)
            .map(|task| task.steers.iter().filter(|s| s.waiting).map(|s| (s.id, s.input.clone())).collect())
            .unwrap_or_default();
        for (steer_id, input) in steers {
            let body = SteerRejected { steer_id, reason: why.to_owned(), input };
            self.emit(out, Some(id), EventBody::SteerRejected(body));
        }
    }

    fn apply_steers(&mut self, id: TaskId, out: &mut Outbox) -> bool {
        let Some(task) = self.task(id) else { return false };
        let step = task.step + 1;
        let waiting: Vec<(TaskId, String)> =
            task.steers.iter().filter(|steer| steer.waiting).map(|steer| (steer.id, steer.input.clone())).collect();
        for (steer_id, input) in waiting.clone() {
            let message_id = self.fresh_id('m');
            let body = SteerApplied { steer_id, step, message_id, input };
            self.emit(out, Some(id), EventBody::SteerApplied(body));
        }
        !waiting.is_empty()
    }

    fn close_message(&mut self, id: TaskId, partial: bool, out: &mut Outbox) {
        let streaming = self.task(id).and_then(|task| task.streaming.clone());
        if let Some(streaming) = streaming {
            let body = Message { message_id: streaming.message_id, role: Role::Assistant, text: streaming.text, partial };
            self.emit(out, Some(id), EventBody::Message(body));
        }
    }

    /// A step of the task begins or ends: a model call, or of a tool this call.
    pub(super) fn emit_step(
        &mut self,
        id: TaskId,
        call: Option<&Call>,
        phase: StepPhase,
        input: Option<Value>,
        output: Option<Value>,
        out: &mut Outbox,
    ) {
        let Some(task) = self.task(id) else { return };
        let begins = phase == StepPhase::Started;
        let mut index = if begins { task.step + 1 } else { task.step };
        // Calls run side by side, so that the last step begun need not be the one that ends.
        if let (Some(call), Some(active)) = (call, self.active_mut(id)) {
            match active.steps.iter().position(|(of, _)| *of == call.id) {
                None if begins => active.steps.push((call.id.clone(), index)),
                None => {}
                Some(at) if begins => active.steps[at].1 = index,
                Some(at) => index = active.steps.swap_remove(at).1,
            }
        }
        let tool = call.map(|call| call.tool.clone());
        let name = tool.clone().unwrap_or_else(|| "model".to_owned());
        let body = Step { index, name, tool, call_id: call.map(|call| call.id.clone()), phase, until: None, input, output };
        self.emit(out, Some(id), EventBody::Step(body));
    }

    pub(super) fn works_on(&self, id: TaskId) -> bool {
        self.active_of(id).is_some_and(|active| active.stop.is_none())
    }

    /// The conversation as a strict vendor takes it: every call followed by its result, the last word not the agent's.
    ///
    /// `limit`: of what was said before the task, only the newest so many messages, from one of a person on.
    fn model_messages(&self, id: TaskId, limit: Option<u64>) -> Vec<ModelMessage> {
        let talk = self.talk_of(id);
        let from = limit.map_or(0, |limit| talk.newest_before(id, usize::try_from(limit).unwrap_or(usize::MAX)));
        let mut messages: Vec<ModelMessage> = Vec::with_capacity(talk.entries.len() + 1 - from);
        for entry in talk.entries.iter().skip(from) {
            match entry {
                Entry::User { text, .. } | Entry::Note { text, .. } => messages.push(ModelMessage::User(text.clone())),
                Entry::Assistant { text, calls, .. } if text.is_empty() && calls.is_empty() => {}
                Entry::Assistant { text, calls, .. } => {
                    let call = |call: &Call| ModelToolCall {
                        call_id: call.id.clone(),
                        tool: call.tool.clone(),
                        arguments: call.arguments.clone(),
                    };
                    let calls = calls.iter().map(call);
                    // One turn of the agent is one message, also when it called something between two words.
                    if let Some(ModelMessage::Assistant { text: said, tool_calls }) = messages.last_mut() {
                        said.push_str(text);
                        tool_calls.extend(calls);
                    } else {
                        messages.push(ModelMessage::Assistant { text: text.clone(), tool_calls: calls.collect() });
                    }
                }
                Entry::Result { call_id, tool, content, is_error, .. } => messages.push(ModelMessage::ToolResult {
                    call_id: call_id.clone(),
                    tool: tool.clone(),
                    content: content.clone(),
                    is_error: *is_error,
                }),
            }
        }
        // Old entries leave memory one by one: a result whose call has gone is dropped with it.
        let orphans = messages.iter().take_while(|m| !matches!(m, ModelMessage::User(_))).count();
        messages.drain(..orphans);
        if matches!(messages.last(), Some(ModelMessage::Assistant { .. })) {
            messages.push(ModelMessage::User("Continue.".to_owned()));
        }
        messages
    }
}

impl Task {
    /// Whether it is not started again after the hub stopped. An execution of a workflow goes on as long as it gets somewhere.
    fn has_tried_enough(&self, settings: &RuntimeSettings) -> bool {
        match &self.flow {
            Some(flow) => flow.fruitless >= ATTEMPTS_PER_STEP,
            None => self.attempt >= settings.max_attempts,
        }
    }
}

/// A value as the log can give it back: what is nested so deeply that a reader would refuse it is kept as its text.
pub(super) fn readable(value: Value) -> Value {
    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }
    if depth(&value) > MAX_NESTING { Value::String(value.to_string()) } else { value }
}

fn hub_resolution(request: &InputRequested, outcome: ResolvedOutcome) -> InputResolved {
    InputResolved { request_id: request.request_id.clone(), outcome, by: "hub".to_owned(), payload: None, edited_arguments: None }
}
