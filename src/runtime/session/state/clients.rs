//! Tools that clients execute: which there are, and what becomes of their calls.
//!
//! A call waits as a request for input does: it is in the log, it expires, it is withdrawn with its task, and one answer counts.

use agent_hub_protocol::{
    ErrorCode, EventBody, TaskId,
    client_message::{ClientTool, ClientToolResult},
    event::{InputKind, InputRequested, InputResolved, ResolvedOutcome, SessionUpdated, StepPhase},
    server_message::ToolOffered,
};
use serde_json::{Value, json};

use super::{Answer, Call, Lookup, Outbox, SessionState, work::readable};
use crate::{
    provider::ToolSpec,
    runtime::{admission::check_client_tools_together, agent::Agent, executors::Executors, refusal::Refusal, settings::RuntimeSettings},
    tool::{ToolError, ToolErrorCode, Toolbox, bounded},
};

impl SessionState {
    /// Those that a model is told of: somebody is there to execute them, or may soon be.
    pub(super) fn expected_of_clients<'a>(
        &'a self,
        id: TaskId,
        agent: &'a Agent,
        executors: &'a Executors,
    ) -> impl Iterator<Item = ToolSpec> + 'a {
        self.tools_of_clients(id, agent).filter(|tool| executors.expects(self.id, &tool.name)).map(spec)
    }

    /// The client's tool with this name, if the task may call it.
    pub(super) fn client_tool(&self, id: TaskId, agent: &Agent, name: &str) -> Option<ToolSpec> {
        self.tools_of_clients(id, agent).find(|tool| tool.name == name).map(spec)
    }

    /// Tools of clients that a task may call: all of them, and a sub-agent those it names.
    fn tools_of_clients<'a>(&'a self, id: TaskId, agent: &'a Agent) -> impl Iterator<Item = &'a ClientTool> {
        let all = self.task(id).is_some_and(|task| task.parent.is_none());
        let callable = if all { Vec::new() } else { self.callable(id, agent) };
        self.client_tools.iter().filter(move |tool| all || Toolbox::permits(&callable, &tool.name))
    }

    /// Puts a call to the client that executes it.
    pub(super) fn ask_client(&mut self, id: TaskId, call: &Call, settings: &RuntimeSettings, out: &mut Outbox) {
        self.emit_step(id, Some(call), StepPhase::Started, Some(call.arguments.clone()), None, out);
        self.request_input(id, InputKind::Tool, None, None, call, settings.client_tool_timeout, out);
    }

    /// The calls that wait for a client, with all that it has to know.
    pub(crate) fn calls_for_clients(&self) -> Vec<ToolOffered> {
        let unfinished = self.tasks.iter().filter(|task| !task.status.is_terminal());
        let waiting = unfinished.flat_map(|task| task.inputs.iter().map(move |input| (task.id, input)));
        let of_clients = waiting.filter(|(_, input)| input.kind == InputKind::Tool);
        let offer = |(id, input): (TaskId, &InputRequested)| {
            let call = self.open_calls(id).into_iter().find(|call| Some(&call.id) == input.call_id.as_ref())?;
            let Call { id: call_id, tool, arguments } = call;
            Some(ToolOffered { session_id: self.id, task_id: id, call_id, tool, arguments, expires_at: input.expires_at })
        };
        of_clients.filter_map(offer).collect()
    }

    /// A client has executed a call. The first result counts.
    pub(super) fn client_result(
        &mut self,
        by: &str,
        given: &ClientToolResult,
        lookup: &Lookup<'_>,
        out: &mut Outbox,
    ) -> Result<Answer, Refusal> {
        let ClientToolResult { task_id: id, call_id, output, error, .. } = given;
        let task = self.unfinished(*id, lookup)?;
        let of_call = |input: &&InputRequested| input.kind == InputKind::Tool && input.call_id.as_ref() == Some(call_id);
        let Some(request) = task.inputs.iter().find(of_call).cloned() else {
            if self.talk_of(*id).has_result(call_id) {
                return Err(Refusal::new(ErrorCode::AlreadyResolved, "The call has its result already"));
            }
            return Err(Refusal::new(ErrorCode::NotFound, "The task has no such call that waits for a client"));
        };
        let result = match error {
            Some(error) => Err(ToolError::new(ToolErrorCode::Failed, short(error))),
            None => Ok(bounded(readable(output.clone().unwrap_or_default()))),
        };
        let (request_id, outcome) = (request.request_id.clone(), ResolvedOutcome::Accept);
        let resolved = InputResolved { request_id, outcome, by: by.to_owned(), payload: None, edited_arguments: None };
        let seq = self.resolve_with(*id, &request, resolved, Some(result), out);
        Ok(self.done(Some(*id), Some(seq)))
    }

    /// What clients execute for this session changes.
    pub(super) fn provide_tools(&mut self, tools: &[ClientTool], gone: &[String], out: &mut Outbox) -> Result<Answer, Refusal> {
        self.open()?;
        let kept = |tool: &&ClientTool| !gone.contains(&tool.name) && !tools.iter().any(|new| new.name == tool.name);
        let mut all: Vec<ClientTool> = self.client_tools.iter().filter(kept).chain(tools).cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        check_client_tools_together(&all)?;
        if all == self.client_tools {
            return Ok(self.repeated(None, None));
        }
        let body = SessionUpdated { name: None, tags: None, metadata: None, model: None, client_tools: Some(all) };
        let seq = self.emit(out, None, EventBody::SessionUpdated(body));
        Ok(self.done(None, Some(seq)))
    }
}

/// What went wrong, no longer than a model is told.
fn short(error: &str) -> String {
    match bounded(Value::from(error)) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// A client's tool, as a model is told of it.
fn spec(tool: &ClientTool) -> ToolSpec {
    let parameters = tool.parameters.clone().map_or_else(|| json!({ "type": "object" }), Value::Object);
    ToolSpec { name: tool.name.clone(), description: tool.description.clone().unwrap_or_default(), parameters }
}
