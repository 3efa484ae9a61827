//! Tasks of sub-agents. Each belongs to the task whose call it answers, runs beside it on its slot, is stopped with it, and ends before it.

use std::time::Duration;

use agent_hub_protocol::{
    EventBody, TaskId, Timestamp,
    event::{StepPhase, TaskQueued, TaskResumed},
    snapshot::TaskStatus,
};
use serde_json::Value;

use super::{Active, Call, Conversation, Outbox, Rules, SessionState, Stop, Task};
use crate::{
    runtime::agent::Agent,
    tool::{ToolError, ToolErrorCode},
};

/// How often work may be handed on: a task, its sub-agent, that one's sub-agent …
const MAX_DEPTH: usize = 5;
/// Tasks of sub-agents at work in one session at the same time; the others wait for one of them to end.
const PARALLEL_CHILDREN: usize = 8;
/// Why a task is suspended that waits for a person.
pub(super) const INPUT: &str = "input";

impl SessionState {
    /// The work on a task in this process.
    pub(crate) fn active_of(&self, id: TaskId) -> Option<&Active> {
        self.active.iter().find(|active| active.task == id)
    }

    pub(super) fn active_mut(&mut self, id: TaskId) -> Option<&mut Active> {
        self.active.iter_mut().find(|active| active.task == id)
    }

    /// Whether a task is this one, or belongs to it.
    pub(crate) fn is_of(&self, id: TaskId, of: TaskId) -> bool {
        id == of || self.ancestors(id).contains(&of)
    }

    /// The unfinished tasks of its sub-agents.
    pub(super) fn children(&self, id: TaskId) -> impl Iterator<Item = &Task> {
        let of = move |task: &&Task| task.parent.as_ref().is_some_and(|parent| parent.task == id);
        self.tasks.iter().filter(|task| !task.status.is_terminal()).filter(of)
    }

    /// The tasks it belongs to, the nearest first.
    pub(super) fn ancestors(&self, id: TaskId) -> Vec<TaskId> {
        let parent = |id: TaskId| Some(self.task(id)?.parent.as_ref()?.task);
        std::iter::successors(parent(id), |id| parent(*id)).collect()
    }

    /// Everything that belongs to it and is unfinished, what belongs to others behind those.
    pub(super) fn descendants(&self, id: TaskId) -> Vec<TaskId> {
        let mut found = vec![id];
        let mut at = 0;
        while at < found.len() {
            found.extend(self.children(found[at]).map(|child| child.id));
            at += 1;
        }
        found.remove(0);
        found
    }

    /// What was said in a task: of a sub-agent's only that, otherwise the session's.
    pub(super) fn talk_of(&self, id: TaskId) -> &Conversation {
        self.task(id).and_then(|task| task.own.as_deref()).unwrap_or(&self.conversation)
    }

    /// Calls of the task that have no result, in the order they were made.
    pub(super) fn open_calls(&self, id: TaskId) -> Vec<Call> {
        self.talk_of(id).open_calls(id)
    }

    /// Who works on a task.
    pub(crate) fn agent_of(&self, id: TaskId) -> &str {
        self.task(id).and_then(|task| task.parent.as_ref()).map_or(&self.agent, |parent| &parent.agent)
    }

    /// Hands a call to a sub-agent.
    pub(super) fn delegate(&mut self, id: TaskId, call: &Call, agent: &Agent, rules: Rules<'_>, out: &mut Outbox) -> Result<(), ToolError> {
        let text = |name: &str| call.arguments.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
        let wrong = |message: String| ToolError::new(ToolErrorCode::InvalidArguments, message);
        let prompt = text("task").ok_or_else(|| wrong("\"task\" must be a text that says what is to be done".to_owned()))?;
        let whom = text("agent").filter(|name| agent.sub_agents.iter().any(|known| known == name));
        let whom = whom.ok_or_else(|| wrong(format!("\"agent\" must be one of: {}", agent.sub_agents.join(", "))))?;
        let line: Vec<TaskId> = std::iter::once(id).chain(self.ancestors(id)).collect();
        if line.iter().any(|of| self.agent_of(*of) == whom) {
            let message = format!("{whom} is already at work on this: it would hand the work around in a circle");
            return Err(ToolError::new(ToolErrorCode::Refused, message));
        }
        if line.len() >= MAX_DEPTH {
            return Err(ToolError::new(ToolErrorCode::Refused, format!("Work is handed on at most {MAX_DEPTH} times; do it yourself")));
        }
        let timeout = self.timeout_of_child(id, whom, rules);
        let queued = TaskQueued {
            prompt: Some(prompt.to_owned()),
            position: 0,
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            on_busy: None,
            options: self.task(id).and_then(|task| task.options.clone()).map(|options| inherited(&options)),
            context: None,
            tools: None,
            workflow: None,
            input: None,
            replay: None,
            agent: Some(whom.to_owned()),
            parent_task_id: Some(id),
            call_id: Some(call.id.clone()),
        };
        self.emit_step(id, Some(call), StepPhase::Started, Some(call.arguments.clone()), None, out);
        self.queue_child(queued, out);
        Ok(())
    }

    /// The deadline of what an agent is handed: its own, within that of the task it belongs to.
    pub(super) fn timeout_of_child(&self, parent: TaskId, agent: &str, rules: Rules<'_>) -> Duration {
        let most = self.task(parent).map_or(rules.settings.task_timeout, |task| task.timeout);
        let own = rules.agents.of_session(agent).ok().and_then(|agent| agent.timeout);
        own.map_or(most, |own| own.min(most))
    }

    /// Tasks of sub-agents that nobody works on and that can be worked on now.
    pub(crate) fn children_to_start(&self) -> Vec<TaskId> {
        let Some(root) = self.active.first().filter(|root| root.stop.is_none()) else { return Vec::new() };
        let room = PARALLEL_CHILDREN.saturating_sub(self.active.len() - 1);
        let ready = |id: &TaskId| {
            let runs = self.task(*id).is_some_and(|task| matches!(task.status, TaskStatus::Queued | TaskStatus::Running));
            // Nothing begins under what is being stopped.
            let stopping = |of: TaskId| self.active_of(of).is_some_and(|active| active.stop.is_some());
            runs && self.active_of(*id).is_none() && !self.ancestors(*id).into_iter().any(stopping)
        };
        self.descendants(root.task).into_iter().filter(ready).take(room).collect()
    }

    /// Whether a sub-agent works, or is about to work, on something that belongs to this task.
    pub(super) fn children_at_work(&self, id: TaskId) -> bool {
        self.children(id).any(|child| child.status != TaskStatus::Suspended)
    }

    /// Whether a person is asked about something that belongs to this task, or about it itself.
    pub(super) fn waits_for_person(&self, id: TaskId) -> bool {
        let asked = |id: TaskId| self.task(id).is_some_and(|task| !task.inputs.is_empty());
        asked(id) || self.descendants(id).into_iter().any(asked)
    }

    /// Has the work on a task, and on all that belongs to it, stopped.
    pub(super) fn stop(&mut self, id: TaskId, stop: &Stop, now: Timestamp) {
        let concerned: Vec<TaskId> = self.active.iter().map(|active| active.task).filter(|task| self.is_of(*task, id)).collect();
        for active in self.active.iter_mut().filter(|active| concerned.contains(&active.task)) {
            // A cancel is stronger than what else is going on.
            if *stop == Stop::Cancel || active.stop.is_none() {
                active.stop = Some((stop.clone(), now));
            }
        }
    }

    /// Ends what belongs to a task that ends, the innermost first.
    pub(super) fn end_children(&mut self, id: TaskId, out: &mut Outbox) {
        for child in self.descendants(id).into_iter().rev() {
            let stopped = self.active_of(child).is_none();
            self.finish_cancelled(child, stopped, out);
        }
    }

    /// The task of a sub-agent has ended: the call it answers has its result.
    pub(super) fn answer_parent(&mut self, id: TaskId, out: &mut Outbox) {
        let Some(task) = self.task(id) else { return };
        let Some(parent) = task.parent.clone() else { return };
        let took = out.now.since(task.created_at);
        let result = match (task.status, &task.error) {
            (TaskStatus::Completed, _) => Ok(task.result.clone().unwrap_or_default()),
            (_, Some(error)) => Err(format!("{} failed: {}", parent.agent, error.message)),
            (status, None) => Err(format!("{} did not finish: {}", parent.agent, status.as_str())),
        };
        if self.is_flow(parent.task) {
            return self.flow_call_ended(parent.task, &parent.call, result, out);
        }
        let result = result.map_err(|message| ToolError::new(ToolErrorCode::Failed, message));
        if let Some(call) = self.open_calls(parent.task).into_iter().find(|call| call.id == parent.call) {
            self.close_call(parent.task, &call, result, took, out);
        }
    }

    /// A task goes on: so do those that waited for it.
    pub(super) fn resume_ancestors(&mut self, id: TaskId, out: &mut Outbox) {
        for ancestor in self.ancestors(id) {
            if self.task(ancestor).is_some_and(Task::waits_for_input) {
                self.emit(out, Some(ancestor), EventBody::TaskResumed(TaskResumed::default()));
            }
        }
    }

    /// A task goes on: so does what was suspended with it.
    pub(super) fn resume_descendants(&mut self, id: TaskId, out: &mut Outbox) {
        for descendant in self.descendants(id) {
            let set_aside = |task: &Task| task.status == TaskStatus::Suspended && !task.waits_for_input();
            if self.task(descendant).is_some_and(set_aside) {
                self.emit(out, Some(descendant), EventBody::TaskResumed(TaskResumed::default()));
            }
        }
    }
}

/// Options that a sub-agent's calls have too: what is asked of this one answer stays with it.
pub(super) fn inherited(options: &serde_json::Map<String, Value>) -> serde_json::Map<String, Value> {
    const PASSED_ON: [&str; 3] = ["userContext", "context", "temperature"];
    options.iter().filter(|(name, _)| PASSED_ON.contains(&name.as_str())).map(|(name, value)| (name.clone(), value.clone())).collect()
}
