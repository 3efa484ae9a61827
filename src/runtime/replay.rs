//! Executions of workflows that repeat others from a step on.

use agent_hub_protocol::{
    ErrorCode, Event, EventBody, SessionId, TaskId,
    event::{Replay, StepPhase, TaskQueued},
};
use serde_json::{Map, Value};

use super::{Hub, Principal, Refusal, admission::NewExecution};

/// An execution as it was asked for, and one that repeats it.
#[derive(Clone, Debug)]
pub struct Repetition {
    /// Where the first one is.
    pub session: SessionId,
    /// As it was queued.
    pub queued: TaskQueued,
    /// The one that repeats it.
    pub execution: NewExecution,
}

impl Repetition {
    /// Of an execution, from this step of the workflow itself on, which is given `input` instead of what it was given then.
    ///
    /// # Errors
    /// `task_not_found`, `forbidden`; `invalid_message`: no execution, no such step, one that was not come to, a workflow that has changed.
    pub async fn of(hub: &Hub, who: &Principal, task: TaskId, step_id: &str, input: Option<Value>) -> Result<Self, Refusal> {
        let view = hub.task(who, task).await?;
        let events = hub.events(who, view.session, view.info.first_seq - 1).await?;
        let first = events.iter().find(|event| event.task_id == Some(task));
        let Some(EventBody::TaskQueued(queued)) = first.map(|event| &event.body) else { return Err(Refusal::task_not_found()) };
        let Some(name) = &queued.workflow else {
            return Err(Refusal::new(ErrorCode::NotSupported, "The task is no execution of a workflow"));
        };
        let wrong = |text: String| Refusal::invalid("stepId", text);
        let mut execution = NewExecution::check(name, queued.input.clone(), hub.workflows())?;
        // It was found just now.
        let workflow = hub.workflows().get(name).ok_or_else(|| wrong(format!("There is no workflow named {name:?}")))?;
        let (index, _) = workflow.step(step_id).ok_or_else(|| wrong(format!("The workflow has no step {step_id:?}")))?;
        let mut known = outputs(&events, task);
        for (step, output) in queued.replay.iter().flat_map(|replay| &replay.outputs) {
            if workflow.step(step).is_some() && !known.contains_key(step) {
                known.insert(step.clone(), output.clone());
            }
        }
        let mut taken = Map::new();
        for before in &workflow.steps[..index] {
            let output = known.get(&before.id).ok_or_else(|| wrong(format!("The execution did not come to the step {step_id:?}")))?;
            taken.insert(before.id.clone(), output.clone());
        }
        execution.replay = Some(Box::new(Replay { task_id: task, step_id: step_id.to_owned(), outputs: taken, input }));
        Ok(Self { session: view.session, queued: queued.clone(), execution })
    }
}

/// What a step came to, where it is one of the workflow itself, by step.
fn outputs(events: &[Event], task: TaskId) -> Map<String, Value> {
    let mut outputs = Map::new();
    for event in events.iter().filter(|event| event.task_id == Some(task)) {
        if let EventBody::Step(step) = &event.body
            && step.phase == StepPhase::Completed
            && !step.name.contains(['.', '['])
        {
            outputs.insert(step.name.clone(), step.output.clone().unwrap_or_default());
        }
    }
    outputs
}
