//! Tasks that execute a workflow. What is to be done next is found by `crate::workflow`; here it is made to happen: tools are called and
//! agents asked like those of any task, and every step is an event before anything follows from it.

use std::time::Duration;

use agent_hub_protocol::{
    ErrorCode, EventBody, TaskId, Timestamp,
    event::{Step, StepPhase, TaskQueued, TaskResumed, TaskSuspended, ToolCall, ToolResult},
    snapshot::TaskStatus,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Answer, Call, Outbox, Rules, SessionState, Task, Work,
    kin::{self, INPUT},
};
use crate::{
    runtime::{admission::task_fingerprint, refusal::Refusal, session::entry::TaskEntry},
    tool::{ToolError, ToolErrorCode},
    workflow::{Due, Execution, Plan, Progress, What, Workflow, Workflows},
};

/// What a step may come to, in bytes of JSON.
const OUTPUT_BYTES: usize = 256 * 1024;
/// A workflow that waits longer than this for a time gives its slot back.
const SHORT_SLEEP: Duration = Duration::from_secs(5);
/// How often an execution goes on after the hub stopped, with no step settled in between.
pub(super) const ATTEMPTS_PER_STEP: u32 = 10;
/// Why a task is suspended that waits for a time.
const SLEEP: &str = "sleep";

/// An execution, as far as it is folded from events.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Flow {
    pub(crate) workflow: String,
    pub(crate) progress: Progress,
    /// Attempts since a step last settled.
    pub(super) fruitless: u32,
}

impl SessionState {
    pub(super) fn is_flow(&self, id: TaskId) -> bool {
        self.task(id).is_some_and(|task| task.flow.is_some())
    }

    /// Decides what an execution does next.
    pub(super) fn next_of_flow(&mut self, id: TaskId, rules: Rules<'_>, out: &mut Outbox) -> Work {
        let now = out.now;
        if let Some(active) = self.active_mut(id) {
            let due = active.look_at.is_some_and(|at| at <= now);
            if !std::mem::take(&mut active.look) && !due {
                return Work::Wait;
            }
            active.look_at = None;
        }
        let Some(workflow) = self.workflow_of(id, rules.workflows) else {
            let name = self.task(id).and_then(|task| task.flow.as_ref()).map(|flow| flow.workflow.clone()).unwrap_or_default();
            self.fail(id, ErrorCode::NotSupported, format!("The workflow {name} is no longer configured"), false, out);
            return Work::Nothing;
        };
        let waits = loop {
            let ended = match self.plan(id, &workflow, rules.workflows, now) {
                Plan::Go(due) => {
                    let (moves, waits): (Vec<Due>, Vec<Due>) = due.into_iter().partition(|due| !due.what.waits());
                    if moves.is_empty() {
                        break waits;
                    }
                    if moves.iter().any(|due| due.what == What::TimedOut) {
                        None
                    } else {
                        moves.into_iter().for_each(|due| self.take_step(id, due, rules, out));
                        continue;
                    }
                }
                Plan::Done(result) => Some(Ok(result)),
                Plan::Failed { step, message } => Some(Err(format!("{step}: {message}"))),
            };
            return self.end_flow(id, ended, out);
        };
        let start = self.calls_to_start(id, rules, out);
        if self.active_of(id).is_some_and(|active| active.look) {
            // A call was refused: its step has settled, and something follows from that.
            return self.next_of_flow(id, rules, out);
        }
        let needed = |state: &Self, call: &String| state.open_calls(id).iter().any(|open| open.id == *call);
        let Some(active) = self.active_of(id) else { return Work::Nothing };
        let drop: Vec<String> = active.running.iter().filter(|call| !needed(self, call)).cloned().collect();
        if let Some(active) = self.active_mut(id) {
            active.running.retain(|call| !drop.contains(call));
            active.running.extend(start.iter().map(|call| call.id.clone()));
            active.look_at = waits.iter().filter_map(|due| due.what.until()).min();
        }
        if !start.is_empty() || !drop.is_empty() {
            // What else there is to wait for is looked at when that is under way.
            if let Some(active) = self.active_mut(id) {
                active.look = true;
            }
            return Work::Flow { start, drop };
        }
        self.wait(id, &waits, out)
    }

    /// Nothing can be done now: waits for what is at work, or puts the task aside.
    fn wait(&mut self, id: TaskId, waits: &[Due], out: &mut Outbox) -> Work {
        if self.active_of(id).is_some_and(|active| !active.running.is_empty()) || self.children_at_work(id) {
            return Work::Wait;
        }
        let until = waits.iter().filter_map(|due| due.what.until()).min();
        let asked = |due: &Due| match &due.what {
            What::WaitForData { reason, data, schema, .. } => Some((due.step.clone(), reason.clone(), data.clone(), schema.clone())),
            _ => None,
        };
        let plain = |reason: &str| TaskSuspended { reason: reason.to_owned(), step_id: None, schema: None, data: None, expires_at: until };
        let suspended = if self.waits_for_person(id) {
            plain(INPUT)
        } else if let Some((step, reason, data, schema)) = waits.iter().find_map(asked) {
            TaskSuspended { step_id: Some(step), schema, data, ..plain(&reason) }
        } else {
            match until {
                Some(at) if at.since(out.now) <= SHORT_SLEEP => return Work::Wait,
                Some(_) => plain(SLEEP),
                None => {
                    self.fail(id, ErrorCode::Internal, "The workflow does not go on".to_owned(), false, out);
                    return Work::Nothing;
                }
            }
        };
        self.put_aside_for(id, suspended, out);
        Work::Nothing
    }

    /// The execution is over, once nobody works for it any more. `None`: nobody came in time.
    fn end_flow(&mut self, id: TaskId, ended: Option<Result<Value, String>>, out: &mut Outbox) -> Work {
        self.abandon(id, None, out);
        if self.children(id).next().is_some() {
            return Work::Wait;
        }
        match ended {
            None => self.finish_timeout(id, true, out),
            Some(Ok(result)) => self.complete_with(id, result, out),
            Some(Err(message)) => self.fail(id, ErrorCode::UpstreamError, message, false, out),
        }
        Work::Nothing
    }

    /// A step begins or settles.
    fn take_step(&mut self, id: TaskId, due: Due, rules: Rules<'_>, out: &mut Outbox) {
        let Due { step, what } = due;
        let begin = |input: Value| (StepPhase::Started, Some(input), None);
        match what {
            What::Enter(input) => self.emit_flow_step(id, &step, begin(input), None, None, out),
            What::Compute(input, result) => {
                self.emit_flow_step(id, &step, begin(input), None, None, out);
                self.settle_step(id, &step, result, out);
            }
            What::Settle(result) => {
                self.abandon(id, Some(&step), out);
                self.settle_step(id, &step, result, out);
            }
            What::Call { input, tool, arguments, approve } => {
                let call = Call { id: self.fresh_id('c'), tool, arguments };
                self.emit_flow_step(id, &step, begin(input), None, Some(&call), out);
                let body = ToolCall { call_id: call.id.clone(), tool: call.tool.clone(), arguments: call.arguments.clone() };
                self.emit(out, Some(id), EventBody::ToolCall(body));
                if approve {
                    self.ask_approval(id, &call, rules.settings, out);
                }
            }
            What::Ask { input, agent, prompt, options } => {
                let agent = agent.unwrap_or_else(|| self.agent.clone());
                let call = Call { id: self.fresh_id('c'), tool: String::new(), arguments: Value::Null };
                self.emit_flow_step(id, &step, begin(input), None, Some(&call), out);
                if rules.agents.of_session(&agent).is_ok() {
                    self.ask_agent(id, call.id, agent, prompt, options, rules, out);
                } else {
                    self.settle_step(id, &step, Err(format!("no agent is named {agent}")), out);
                }
            }
            What::Rest { input, until } => self.emit_flow_step(id, &step, begin(input), Some(until), None, out),
            What::Suspend { input, until } => self.emit_flow_step(id, &step, begin(input), until, None, out),
            What::WaitForData { .. } | What::WaitUntil(_) | What::TimedOut | What::AtWork => {}
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one event")]
    fn ask_agent(
        &mut self,
        id: TaskId,
        call: String,
        agent: String,
        prompt: String,
        options: Map<String, Value>,
        rules: Rules<'_>,
        out: &mut Outbox,
    ) {
        let timeout = self.timeout_of_child(id, &agent, rules);
        let Some(task) = self.task(id) else { return };
        let mut all = task.options.as_ref().map(kin::inherited).unwrap_or_default();
        all.extend(options);
        let queued = TaskQueued {
            prompt: Some(prompt),
            position: 0,
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            on_busy: None,
            options: (!all.is_empty()).then_some(all),
            context: None,
            tools: None,
            workflow: None,
            input: None,
            replay: None,
            agent: Some(agent),
            parent_task_id: Some(id),
            call_id: Some(call),
        };
        self.queue_child(queued, out);
    }

    /// Queues the task of an agent that works for another task.
    pub(super) fn queue_child(&mut self, queued: TaskQueued, out: &mut Outbox) {
        let child = TaskId::random();
        let entry =
            TaskEntry { session: self.id, owner: self.owner.clone(), first_seq: self.head + 1, fingerprint: task_fingerprint(&queued) };
        out.writes.push(entry.write(child));
        self.emit(out, Some(child), EventBody::TaskQueued(queued));
    }

    /// Has what is inside of a step (`None`: of the execution) and still at work stopped: nobody needs it any more.
    fn abandon(&mut self, id: TaskId, step: Option<&str>, out: &mut Outbox) {
        const WHY: &str = "not needed any more";
        let Some(flow) = self.task(id).and_then(|task| task.flow.as_ref()) else { return };
        let begun: Vec<(String, Option<String>)> = match step {
            Some(step) => flow.progress.begun_inside(step).map(|(path, begun)| (path.clone(), begun.call.clone())).collect(),
            None => flow.progress.begun.iter().map(|(path, begun)| (path.clone(), begun.call.clone())).collect(),
        };
        // The innermost first.
        for (path, call) in begun.into_iter().rev() {
            if let Some(call) = call {
                if self.open_calls(id).iter().any(|open| open.id == call) {
                    self.withdraw_approval(id, &call, out);
                    let result =
                        ToolResult { call_id: call.clone(), output: None, error: Some(WHY.to_owned()), code: None, duration_ms: 0 };
                    self.emit(out, Some(id), EventBody::ToolResult(result));
                }
                let child = self.children(id).find(|child| child.parent.as_ref().is_some_and(|parent| parent.call == call));
                if let Some(child) = child.filter(|child| child.cancel.is_none()).map(|child| child.id) {
                    self.request_cancel("hub", child, Some(WHY.to_owned()), false, out);
                }
            }
            let failed = (StepPhase::Failed, None, Some(Value::String(WHY.to_owned())));
            self.emit_flow_step(id, &path, failed, None, None, out);
        }
    }

    /// The calls of an execution that can be made now and are not being made.
    fn calls_to_start(&mut self, id: TaskId, rules: Rules<'_>, out: &mut Outbox) -> Vec<Call> {
        let running = self.active_of(id).map(|active| active.running.clone()).unwrap_or_default();
        let mut ready = Vec::new();
        for call in self.open_calls(id) {
            if running.contains(&call.id) || self.waits(id, &call) {
                continue;
            }
            match self.check_call(&call, rules) {
                Ok(()) => ready.push(call),
                Err(error) => self.close_call(id, &call, Err(error), Duration::ZERO, out),
            }
        }
        ready
    }

    fn check_call(&self, call: &Call, rules: Rules<'_>) -> Result<(), ToolError> {
        let tools = rules.agents.tools();
        if !tools.has(&call.tool) {
            let message = format!("The tool {} is not configured in this hub", call.tool);
            return Err(ToolError::new(ToolErrorCode::Unavailable, message));
        }
        tools.check(&call.tool, &call.arguments).map(drop)
    }

    /// A call that a step made has its result.
    pub(super) fn flow_call_ended(&mut self, id: TaskId, call: &str, result: Result<Value, String>, out: &mut Outbox) {
        if let Some(active) = self.active_mut(id) {
            active.running.retain(|running| running != call);
        }
        let step = self.task(id).and_then(|task| task.flow.as_ref()).and_then(|flow| flow.progress.step_of_call(call)).map(str::to_owned);
        if let Some(step) = step {
            self.settle_step(id, &step, result, out);
        }
    }

    fn settle_step(&mut self, id: TaskId, step: &str, result: Result<Value, String>, out: &mut Outbox) {
        let result = result.and_then(|output| {
            let fits = output.to_string().len() <= OUTPUT_BYTES;
            if fits { Ok(output) } else { Err(format!("what it came to is longer than {OUTPUT_BYTES} bytes")) }
        });
        let event = match result {
            Ok(output) => (StepPhase::Completed, None, Some(output)),
            Err(why) => (StepPhase::Failed, None, Some(Value::String(why))),
        };
        self.emit_flow_step(id, step, event, None, None, out);
        if let Some(active) = self.active_mut(id) {
            active.look = true;
        }
    }

    fn emit_flow_step(
        &mut self,
        id: TaskId,
        name: &str,
        (phase, input, output): (StepPhase, Option<Value>, Option<Value>),
        until: Option<Timestamp>,
        call: Option<&Call>,
        out: &mut Outbox,
    ) {
        let Some(task) = self.task(id) else { return };
        let known = task.flow.as_ref().and_then(|flow| flow.progress.begun.get(name));
        let index = known.map_or(task.step + 1, |begun| begun.index);
        let (call_id, tool) = known.map_or_else(
            || (call.map(|call| call.id.clone()), call.map(|call| call.tool.clone()).filter(|tool| !tool.is_empty())),
            |begun| (begun.call.clone(), begun.tool.clone()),
        );
        self.emit(out, Some(id), EventBody::Step(Step { index, name: name.to_owned(), tool, call_id, phase, until, input, output }));
    }

    /// Lets an execution go on: with data for the step that waits for some, or again from a step on.
    pub(super) fn resume_flow(
        &mut self,
        id: TaskId,
        data: Option<Value>,
        step: Option<&str>,
        workflows: &Workflows,
        out: &mut Outbox,
    ) -> Result<Answer, Refusal> {
        let workflow = self.workflow_of(id, workflows);
        let workflow = workflow.ok_or_else(|| Refusal::new(ErrorCode::NotSupported, "The workflow is no longer configured"))?;
        let suspended = self.task(id).is_some_and(|task| task.status == TaskStatus::Suspended);
        let waiting = match self.plan(id, &workflow, workflows, out.now) {
            Plan::Go(due) => due.into_iter().filter_map(|due| match due.what {
                What::WaitForData { schema, .. } => Some((due.step, schema)),
                _ => None,
            }),
            Plan::Done(_) | Plan::Failed { .. } => return Err(Refusal::new(ErrorCode::Busy, "The execution is about to end")),
        };
        // Who has suspended it lets it go on without a word, though one of its branches may wait for one.
        let set_aside = suspended && self.task(id).and_then(|task| task.suspension.as_ref()).is_some_and(|s| s.what.step_id.is_none());
        let silent = set_aside && data.is_none() && step.is_none();
        let mut waiting = waiting.filter(|(path, _)| !silent && step.is_none_or(|step| step == path));
        if let Some((path, schema)) = waiting.next() {
            let given = data.clone().unwrap_or_default();
            Execution::check_data(schema.as_ref(), &given)
                .map_err(|why| Refusal::invalid("data", format!("The data does not fit: {why}")))?;
            self.settle_step(id, &path, Ok(given), out);
            let seq = if suspended { self.emit_resumed(id, data, Some(path), out) } else { self.head };
            return Ok(self.done(Some(id), Some(seq)));
        }
        if !suspended {
            return Err(Refusal::new(ErrorCode::Busy, "The execution is not suspended"));
        }
        if let Some(step) = step {
            let settled = self.task(id).and_then(|task| task.flow.as_ref()).is_some_and(|flow| flow.progress.outputs.contains_key(step));
            if workflow.step(step).is_none() {
                return Err(Refusal::invalid("stepId", format!("The workflow has no step {step:?}")));
            }
            if !settled {
                return Err(Refusal::invalid("stepId", format!("The execution has not come to the step {step:?}")));
            }
            // What was begun behind it is done anew when its turn comes.
            self.abandon(id, None, out);
        }
        let seq = self.emit_resumed(id, data, step.map(str::to_owned), out);
        self.resume_descendants(id, out);
        Ok(self.done(Some(id), Some(seq)))
    }

    fn emit_resumed(&mut self, id: TaskId, data: Option<Value>, step_id: Option<String>, out: &mut Outbox) -> u64 {
        self.emit(out, Some(id), EventBody::TaskResumed(TaskResumed { data, step_id }))
    }

    /// Executions that have waited long enough go on.
    pub(super) fn wake_flows(&mut self, out: &mut Outbox) {
        let over = |task: &&Task| {
            task.flow.is_some() && task.suspension.as_ref().is_some_and(|s| s.what.expires_at.is_some_and(|at| at <= out.now))
        };
        let due: Vec<TaskId> =
            self.tasks.iter().filter(|task| task.status == TaskStatus::Suspended).filter(over).map(|task| task.id).collect();
        for id in due {
            self.emit_resumed(id, None, None, out);
            self.resume_descendants(id, out);
        }
    }

    fn workflow_of(&self, id: TaskId, workflows: &Workflows) -> Option<std::sync::Arc<Workflow>> {
        workflows.get(&self.task(id)?.flow.as_ref()?.workflow).cloned()
    }

    fn plan(&self, id: TaskId, workflow: &Workflow, workflows: &Workflows, now: Timestamp) -> Plan {
        let Some(flow) = self.task(id).and_then(|task| task.flow.as_ref()) else { return Plan::Go(Vec::new()) };
        let user_context = Value::Object(self.user_context(id));
        Execution { workflows, workflow, progress: &flow.progress, user_context: &user_context, now }.plan()
    }
}

impl What {
    /// Whether it does nothing now.
    fn waits(&self) -> bool {
        matches!(self, What::WaitForData { .. } | What::WaitUntil(_) | What::AtWork)
    }

    /// Until when it waits.
    fn until(&self) -> Option<Timestamp> {
        match self {
            What::WaitUntil(at) => Some(*at),
            What::WaitForData { until, .. } => *until,
            _ => None,
        }
    }
}
