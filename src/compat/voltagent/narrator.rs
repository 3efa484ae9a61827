//! The events of a workflow's execution, told in VoltAgent's words.

use std::collections::HashMap;

use agent_hub_protocol::{
    Event, EventBody, TaskId, Timestamp,
    event::{Step as StepEvent, StepPhase, TaskSuspended},
};
use serde_json::{Value, json};

use crate::workflow::{
    Workflow, Workflows,
    definition::{Action, Sleep, Step},
};

/// Why nobody waits for a person: the hub waits for a time.
const SLEEP: &str = "sleep";

/// Tells an execution, event by event; knows what stood before, as the events themselves do not.
pub(super) struct Narrator {
    task: TaskId,
    /// As the client calls it.
    execution: String,
    workflow: Option<std::sync::Arc<Workflow>>,
    workflows: Workflows,
    user_context: Value,
    /// What steps that have begun were given.
    inputs: HashMap<String, Value>,
    /// Events told so far.
    told: u64,
    /// Where the execution stands.
    pub(super) status: Status,
}

/// Where an execution stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Status {
    Running,
    Suspended { at: Timestamp, what: TaskSuspended },
    Completed(Value),
    Failed { message: String, code: String },
    Cancelled { reason: Option<String> },
}

impl Status {
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Suspended { .. } => "suspended",
            Status::Completed(_) => "completed",
            Status::Failed { .. } => "error",
            Status::Cancelled { .. } => "cancelled",
        }
    }

    pub(super) const fn is_over(&self) -> bool {
        matches!(self, Status::Completed(_) | Status::Failed { .. } | Status::Cancelled { .. })
    }

    /// Whether whoever waits for the execution has something to read: it is over, or it waits for somebody.
    pub(super) fn rests(&self) -> bool {
        self.is_over() || matches!(self, Status::Suspended { what, .. } if what.reason != SLEEP)
    }
}

impl Narrator {
    pub(super) fn new(task: TaskId, execution: String, workflow: &str, workflows: &Workflows) -> Self {
        Self {
            task,
            execution,
            workflow: workflows.get(workflow).cloned(),
            workflows: workflows.clone(),
            user_context: json!({}),
            inputs: HashMap::new(),
            told: 0,
            status: Status::Running,
        }
    }

    /// What an event is in the API's words: none, one or two of its own.
    pub(super) fn tell(&mut self, event: &Event) -> Vec<Value> {
        let events = self.in_its_words(event);
        self.told += events.len() as u64;
        events
    }

    fn in_its_words(&mut self, event: &Event) -> Vec<Value> {
        if event.task_id != Some(self.task) {
            return Vec::new();
        }
        let at = event.at;
        match &event.body {
            EventBody::TaskQueued(queued) => {
                let options = queued.options.as_ref();
                self.user_context = options.and_then(|options| options.get("userContext").cloned()).unwrap_or_else(|| json!({}));
                if let Some(id) = options.and_then(|options| options.get("executionId")).and_then(Value::as_str) {
                    self.execution = id.to_owned();
                }
                let more = json!({ "input": queued.input });
                vec![self.event("workflow-start", &self.name(), "running", at, more)]
            }
            EventBody::Step(step) => self.step(step, at).into_iter().collect(),
            EventBody::TaskSuspended(what) => {
                self.status = Status::Suspended { at, what: what.clone() };
                if what.reason == SLEEP {
                    return Vec::new();
                }
                let from = what.step_id.clone().unwrap_or_else(|| self.name());
                let metadata = json!({ "reason": what.reason, "suspendData": what.data, "resumeSchema": what.schema, "suspension": self.suspension() });
                let mut more = json!({ "metadata": metadata });
                if let Some(input) = self.inputs.get(&from) {
                    more["input"] = input.clone();
                }
                if let Some((index, _)) = self.place(&from) {
                    more["stepIndex"] = index.into();
                }
                vec![self.event("workflow-suspended", &from, "suspended", at, more)]
            }
            EventBody::TaskResumed(resumed) => {
                let slept = matches!(&self.status, Status::Suspended { what, .. } if what.reason == SLEEP);
                self.status = Status::Running;
                let from = resumed.step_id.clone().unwrap_or_else(|| self.name());
                let event = self.event("workflow-resumed", &from, "running", at, json!({ "input": resumed.data }));
                if slept { Vec::new() } else { vec![event] }
            }
            EventBody::TaskCompleted(done) => self.ends(Status::Completed(done.result.clone()), at),
            EventBody::TaskFailed(failed) => {
                let (message, code) = (failed.message.clone(), failed.code.as_str().to_owned());
                self.ends(Status::Failed { message, code }, at)
            }
            EventBody::TaskTimeout(_) => {
                self.ends(Status::Failed { message: "The execution ran out of time".to_owned(), code: "timeout".to_owned() }, at)
            }
            EventBody::TaskCancelled(cancelled) => self.ends(Status::Cancelled { reason: cancelled.reason.clone() }, at),
            _ => Vec::new(),
        }
    }

    /// The last event of a stream, which says how the execution stands.
    pub(super) fn result(&self, at: Timestamp) -> Value {
        let mut more = json!({ "result": Value::Null, "endAt": Value::Null });
        if self.status.is_over() {
            more["endAt"] = at.to_string().into();
        }
        if let Status::Completed(result) = &self.status {
            more["result"] = result.clone();
        }
        if let Some(error) = self.error() {
            more["error"] = error;
        }
        self.event("workflow-result", &self.name(), self.status.as_str(), at, more)
    }

    /// Why it waits.
    pub(super) fn suspension(&self) -> Value {
        let Status::Suspended { at, what } = &self.status else { return Value::Null };
        let index = what.step_id.as_deref().and_then(|step| self.place(step)).map(|(index, _)| index);
        json!({
            "suspendedAt": at, "reason": what.reason, "suspendedStepIndex": index, "stepId": what.step_id,
            "suspendData": what.data, "resumeSchema": what.schema, "expiresAt": what.expires_at, "lastEventSequence": self.told,
        })
    }

    /// Why it failed.
    pub(super) fn error(&self) -> Option<Value> {
        match &self.status {
            Status::Failed { message, code } => Some(json!({ "name": "WorkflowError", "message": message, "code": code })),
            _ => None,
        }
    }

    pub(super) fn execution(&self) -> &str {
        &self.execution
    }

    pub(super) fn user_context(&self) -> &Value {
        &self.user_context
    }

    fn ends(&mut self, status: Status, at: Timestamp) -> Vec<Value> {
        self.status = status;
        let (kind, shown, more) = match &self.status {
            Status::Completed(result) => ("workflow-complete", "success", json!({ "output": result })),
            Status::Cancelled { reason } => ("workflow-cancelled", "cancelled", json!({ "metadata": { "reason": reason } })),
            _ => ("workflow-error", "error", json!({ "error": self.error() })),
        };
        vec![self.event(kind, &self.name(), shown, at, more), self.result(at)]
    }

    fn step(&mut self, step: &StepEvent, at: Timestamp) -> Option<Value> {
        let (kind, status, mut more) = match step.phase {
            StepPhase::Started => {
                let input = step.input.clone().unwrap_or_default();
                self.inputs.insert(step.name.clone(), input.clone());
                ("step-start", "running", json!({ "input": input }))
            }
            StepPhase::Completed => ("step-complete", "success", json!({ "input": self.inputs.remove(&step.name), "output": step.output })),
            StepPhase::Failed => {
                let message = step.output.clone().unwrap_or_default();
                let error = json!({ "name": "StepError", "message": message, "code": "step_failed" });
                ("step-error", "error", json!({ "input": self.inputs.remove(&step.name), "error": error }))
            }
        };
        let place = self.place(&step.name);
        if let Some((index, definition)) = &place {
            more["stepIndex"] = (*index).into();
            more["stepType"] = step_type(&definition.action).into();
            more["stepName"] = definition.name.clone().unwrap_or_else(|| definition.id.clone()).into();
        }
        Some(self.event(kind, &step.name, status, at, more))
    }

    fn event(&self, kind: &str, from: &str, status: &str, at: Timestamp, more: Value) -> Value {
        let mut event = json!({
            "type": kind, "executionId": self.execution, "from": from, "status": status,
            "userContext": self.user_context, "context": self.user_context, "timestamp": at,
        });
        if let (Value::Object(event), Value::Object(more)) = (&mut event, more) {
            event.extend(more);
        }
        event
    }

    fn name(&self) -> String {
        self.workflow.as_ref().map(|workflow| workflow.name.clone()).unwrap_or_default()
    }

    /// The step at this place, and the number of the step of the workflow itself that it is, or stands in.
    fn place(&self, path: &str) -> Option<(usize, &Step)> {
        let workflow = self.workflow.as_deref()?;
        let first = path.split(['.', '[']).next().unwrap_or_default();
        let index = workflow.steps.iter().position(|step| step.id == first)?;
        Some((index, locate(&self.workflows, &workflow.steps, path)?))
    }
}

/// The step at this place among steps.
fn locate<'a>(workflows: &'a Workflows, steps: &'a [Step], path: &str) -> Option<&'a Step> {
    let end = path.find(['.', '[']).unwrap_or(path.len());
    let step = steps.iter().find(|step| step.id == path[..end])?;
    let rest = &path[end..];
    if rest.is_empty() {
        return Some(step);
    }
    // Behind the number of an item, if there is one.
    let inside = rest.split_once('.')?.1;
    match &step.action {
        Action::Parallel { branches, .. } => {
            let (name, inside) = inside.split_once('.')?;
            let (_, steps) = branches.iter().find(|(branch, _)| branch == name)?;
            locate(workflows, steps, inside)
        }
        Action::Workflow { workflow, .. } => locate(workflows, &workflows.get(workflow)?.steps, inside),
        action => action.inside().into_iter().find_map(|steps| locate(workflows, steps, inside)),
    }
}

/// What the API calls such a step.
pub(super) const fn step_type(action: &Action) -> &'static str {
    match action {
        Action::Agent { .. } => "agent",
        Action::Transform(_) | Action::Tool { .. } | Action::Suspend { .. } => "func",
        Action::Condition { .. } => "conditional-when",
        Action::Parallel { race: false, .. } => "parallel-all",
        Action::Parallel { race: true, .. } => "parallel-race",
        Action::ForEach { .. } => "foreach",
        Action::Sleep(Sleep::For(_)) => "sleep",
        Action::Sleep(Sleep::Until(_)) => "sleep-until",
        Action::Workflow { .. } => "workflow",
    }
}
