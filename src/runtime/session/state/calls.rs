//! What becomes of the calls a task makes: refused, put to a person, handed to a sub-agent, or run.

use std::time::Duration;

use agent_hub_protocol::{
    EventBody, TaskId,
    event::{InputKind, InputRequested, StepPhase, ToolOutput, ToolResult},
};
use serde_json::{Map, Value};

use super::{Call, Outbox, Rules, SessionState};
use crate::{
    provider::ToolSpec,
    runtime::{
        agent::{ASK_USER, Agent, DELEGATE, KNOWN_TOOLS, OTHER_TOOLS, ask_user_spec, delegate_spec},
        settings::RuntimeSettings,
    },
    schema,
    tool::{ToolError, ToolErrorCode, Toolbox, misfit},
};

impl SessionState {
    /// What the model of this task is told it may call.
    pub(super) fn offered(&self, id: TaskId, agent: &Agent, rules: Rules<'_>) -> Vec<ToolSpec> {
        let mut specs = rules.agents.tools().specs(&self.callable(id, agent));
        let sub_agents = rules.agents.sub_agents(agent);
        if !sub_agents.is_empty() {
            specs.push(delegate_spec(&sub_agents));
        }
        specs.push(ask_user_spec());
        let of_clients = self.expected_of_clients(id, agent, rules.executors);
        // The hub's own come first where a client's has one's name.
        let others: Vec<ToolSpec> = of_clients.filter(|tool| !specs.iter().any(|spec| spec.name == tool.name)).collect();
        specs.extend(others);
        specs
    }

    /// The tools a task may call: its agent's, and those of the session or of its own. A sub-agent has only its own.
    pub(super) fn callable(&self, id: TaskId, agent: &Agent) -> Vec<String> {
        let known = self.user_context(id);
        // What cannot be made for this user is not there for this user.
        let mut names: Vec<String> = agent.tools.iter().filter_map(|name| name.render(&known).ok()).collect();
        if let Some(task) = self.task(id).filter(|task| task.parent.is_none()) {
            names.extend(task.tools.as_ref().unwrap_or(&self.tools).iter().cloned());
        }
        names
    }

    /// What is known of the user, for this task.
    pub(super) fn user_context(&self, id: TaskId) -> Map<String, Value> {
        let options = self.task(id).and_then(|task| task.options.as_ref());
        let known = options.and_then(|options| ["userContext", "context"].iter().find_map(|name| options.get(*name)?.as_object()));
        known.cloned().unwrap_or_default()
    }

    /// Decides on every call of the task that has no result and is not waiting for one. Returns those to be run now.
    pub(super) fn decide_calls(&mut self, id: TaskId, agent: &Agent, rules: Rules<'_>, out: &mut Outbox) -> Vec<Call> {
        let mut ready = Vec::new();
        for call in self.open_calls(id) {
            if self.waits(id, &call) {
                continue;
            }
            match self.decide(id, &call, agent, rules, out) {
                Ok(true) => ready.push(call),
                Ok(false) => {}
                Err(error) => self.tool_ended(id, &call, Err(error), Duration::ZERO, out),
            }
        }
        ready
    }

    /// Whether somebody is already at it: a person, or a sub-agent.
    pub(super) fn waits(&self, id: TaskId, call: &Call) -> bool {
        let asked = |task: &super::Task| task.inputs.iter().any(|input| input.call_id.as_ref() == Some(&call.id));
        self.task(id).is_some_and(asked) || self.children(id).any(|child| child.parent.as_ref().is_some_and(|p| p.call == call.id))
    }

    /// Whether the call is to be run now; if not, somebody was asked to do it.
    fn decide(&mut self, id: TaskId, call: &Call, agent: &Agent, rules: Rules<'_>, out: &mut Outbox) -> Result<bool, ToolError> {
        if call.tool == ASK_USER {
            self.ask_person(id, call, rules.settings, out)?;
            return Ok(false);
        }
        if call.tool == DELEGATE && !agent.sub_agents.is_empty() {
            self.delegate(id, call, agent, rules, out)?;
            return Ok(false);
        }
        let tools = rules.agents.tools();
        let callable = self.callable(id, agent);
        if let Some(spec) = self.client_tool(id, agent, &call.tool).filter(|_| !tools.has(&call.tool)) {
            schema::check(&spec.parameters, &call.arguments).map_err(misfit)?;
            if self.asks_first(id, call, agent) {
                self.ask_approval(id, call, rules.settings, out);
            } else {
                self.ask_client(id, call, rules.settings, out);
            }
            return Ok(false);
        }
        if !tools.has(&call.tool) && is_known(&call.tool) {
            let message = format!("The tool {} is not configured in this hub", call.tool);
            return Err(ToolError::new(ToolErrorCode::Unavailable, message));
        }
        if !tools.has(&call.tool) || !Toolbox::permits(&callable, &call.tool) {
            let names: Vec<String> = self.offered(id, agent, rules).into_iter().map(|spec| spec.name).collect();
            let message = format!("There is no tool named {}; there are: {}", call.tool, names.join(", "));
            return Err(ToolError::new(ToolErrorCode::UnknownTool, message));
        }
        tools.check(&call.tool, &call.arguments)?;
        if self.asks_first(id, call, agent) {
            self.ask_approval(id, call, rules.settings, out);
            return Ok(false);
        }
        Ok(true)
    }

    /// Whether a person has to allow the call, and has not yet.
    fn asks_first(&self, id: TaskId, call: &Call, agent: &Agent) -> bool {
        let approved = self.task(id).is_some_and(|task| task.approved.contains(&call.id));
        let known = Value::Object(self.user_context(id));
        !approved && agent.approval(&call.tool).is_wanted(&call.tool, &call.arguments, &known)
    }

    /// A call starts.
    pub(crate) fn tool_started(&mut self, id: TaskId, call: &Call, out: &mut Outbox) {
        // The step of a workflow began when it decided on the call.
        if self.works_on(id) && !self.is_flow(id) {
            self.emit_step(id, Some(call), StepPhase::Started, Some(call.arguments.clone()), None, out);
        }
    }

    /// A call says something while it runs. Adjacent pieces become one event.
    pub(crate) fn tool_said(&mut self, id: TaskId, call_id: String, text: String, out: &mut Outbox) {
        if !self.works_on(id) {
            return;
        }
        if let Some(last) = out.events.last_mut()
            && last.task_id == Some(id)
            && let EventBody::ToolOutput(said) = &mut last.body
            && said.call_id == call_id
            && said.output.len() + text.len() <= agent_hub_protocol::limits::MERGED_TOKEN_BYTES
        {
            said.output.push_str(&text);
            return;
        }
        self.emit(out, Some(id), EventBody::ToolOutput(ToolOutput { call_id, output: text }));
    }

    /// A call ended.
    pub(crate) fn tool_ended(&mut self, id: TaskId, call: &Call, result: Result<Value, ToolError>, took: Duration, out: &mut Outbox) {
        if self.works_on(id) {
            self.close_call(id, call, result, took, out);
        }
    }

    /// Gives a call its result.
    pub(super) fn close_call(&mut self, id: TaskId, call: &Call, result: Result<Value, ToolError>, took: Duration, out: &mut Outbox) {
        let phase = if result.is_ok() { StepPhase::Completed } else { StepPhase::Failed };
        let shown = match &result {
            Ok(output) => output.clone(),
            Err(error) => Value::String(error.message.clone()),
        };
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let (output, error, code) = match result {
            Ok(output) => (Some(output), None, None),
            Err(error) => (None, Some(error.message), Some(error.code.as_str().to_owned())),
        };
        let of_step = output.clone().ok_or_else(|| error.clone().unwrap_or_default());
        self.emit(out, Some(id), EventBody::ToolResult(ToolResult { call_id: call.id.clone(), output, error, code, duration_ms }));
        if self.is_flow(id) {
            return self.flow_call_ended(id, &call.id, of_step, out);
        }
        self.emit_step(id, Some(call), phase, None, Some(shown), out);
    }

    /// Puts a question of the model to a person.
    fn ask_person(&mut self, id: TaskId, call: &Call, settings: &RuntimeSettings, out: &mut Outbox) -> Result<(), ToolError> {
        let question = call.arguments.get("question").and_then(Value::as_str).map(str::to_owned);
        let schema = call.arguments.get("schema").cloned();
        if let Some(schema) = &schema
            && let Err(error) = jsonschema::validator_for(schema)
        {
            return Err(ToolError::new(ToolErrorCode::InvalidArguments, format!("The schema is not valid: {error}")));
        }
        self.request_input(id, InputKind::Input, question, schema, call, settings.input_expiry, out);
        Ok(())
    }

    /// Puts a call to a person.
    pub(super) fn ask_approval(&mut self, id: TaskId, call: &Call, settings: &RuntimeSettings, out: &mut Outbox) {
        let question = format!("May {} be called?", call.tool);
        self.request_input(id, InputKind::Approval, Some(question), None, call, settings.input_expiry, out);
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one event")]
    pub(super) fn request_input(
        &mut self,
        id: TaskId,
        kind: InputKind,
        prompt: Option<String>,
        schema: Option<Value>,
        call: &Call,
        expiry: Duration,
        out: &mut Outbox,
    ) {
        let request_id = self.fresh_id('r');
        let (call_id, expires_at) = (Some(call.id.clone()), Some(out.now.plus(expiry)));
        let request = InputRequested { request_id, kind, prompt, schema, call_id, expires_at };
        self.emit(out, Some(id), EventBody::InputRequested(request));
    }
}

/// Whether the hub knows a tool of this name, set up or not.
fn is_known(name: &str) -> bool {
    KNOWN_TOOLS.iter().chain(&OTHER_TOOLS).any(|(known, _)| *known == name)
}
