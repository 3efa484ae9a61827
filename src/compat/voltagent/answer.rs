//! What an agent's task comes to, and the frames in which it is streamed.

use std::{collections::HashMap, sync::Arc};

use agent_hub_protocol::{
    Epoch, ErrorCode, Event, EventBody, TaskId, Timestamp,
    event::{TaskFailed, Usage},
};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::views;
use crate::{
    compat::run::{CancelOnDrop, block, decoded},
    runtime::{log::LogEvent, structured},
    transport::{Problem, sse::Frames},
};

/// Parts of an object that is still being written are shown when so much has come; the whole is read anew for each.
const PARTIAL_STEPS: usize = 256;

/// The calls of a task and of its sub-agents, whose results do not repeat the tool.
#[derive(Default)]
pub(super) struct Calls {
    tools: HashMap<String, String>,
    /// The tasks of sub-agents, with their agents.
    children: HashMap<TaskId, Arc<str>>,
}

impl Calls {
    /// Takes note of what an event says. Whether it belongs to `task`, or to a sub-agent of it.
    pub(super) fn belongs(&mut self, event: &Event, task: TaskId) -> Option<Option<(TaskId, Arc<str>)>> {
        if let (EventBody::TaskQueued(queued), Some(child), Some(parent)) = (&event.body, event.task_id, parent_of(event))
            && (parent == task || self.children.contains_key(&parent))
        {
            self.children.insert(child, queued.agent.as_deref().unwrap_or_default().into());
        }
        if let EventBody::ToolCall(call) = &event.body {
            self.tools.insert(call.call_id.clone(), call.tool.clone());
        }
        let of = event.task_id?;
        if of == task {
            return Some(None);
        }
        self.children.get(&of).map(|agent| Some((of, Arc::clone(agent))))
    }

    pub(super) fn tool(&self, call: &str) -> &str {
        self.tools.get(call).map_or("", String::as_str)
    }
}

fn parent_of(event: &Event) -> Option<TaskId> {
    match &event.body {
        EventBody::TaskQueued(queued) => queued.parent_task_id,
        _ => None,
    }
}

/// How a task ended.
pub(super) enum End {
    Completed { result: Value, usage: Usage },
    Failed(TaskFailed),
    Cancelled { reason: Option<String> },
    TimedOut,
}

impl End {
    pub(super) fn of(body: &EventBody) -> Option<Self> {
        match body {
            EventBody::TaskCompleted(done) => Some(End::Completed { result: done.result.clone(), usage: done.usage }),
            EventBody::TaskFailed(failed) => Some(End::Failed(failed.clone())),
            EventBody::TaskCancelled(cancelled) => Some(End::Cancelled { reason: cancelled.reason.clone() }),
            EventBody::TaskTimeout(_) => Some(End::TimedOut),
            _ => None,
        }
    }

    /// The text and the API's code of an end that is none.
    pub(super) fn error(&self, spoke: bool) -> Option<(String, &'static str)> {
        match self {
            End::Completed { .. } => None,
            End::Failed(failed) => {
                let code = match failed.code {
                    ErrorCode::NotSupported | ErrorCode::InvalidMessage if !spoke => "SETUP_ERROR",
                    ErrorCode::Internal | ErrorCode::QuotaExceeded => "ITERATION_ERROR",
                    _ => "STREAM_ERROR",
                };
                Some((failed.message.clone(), code))
            }
            End::Cancelled { reason } => {
                Some((reason.clone().unwrap_or_else(|| "The operation was cancelled".to_owned()), "USER_CANCELLED"))
            }
            End::TimedOut => Some(("The operation ran out of time".to_owned(), "STREAM_ERROR")),
        }
    }

    /// The same as the answer to a request.
    pub(super) fn problem(&self) -> Option<Problem> {
        let (message, code) = self.error(false)?;
        let (of, status) = match self {
            End::Failed(failed) if failed.code == ErrorCode::InvalidMessage => (failed.code, StatusCode::BAD_REQUEST),
            End::Failed(failed) if matches!(failed.code, ErrorCode::UpstreamUnavailable | ErrorCode::Overloaded) => {
                (failed.code, StatusCode::SERVICE_UNAVAILABLE)
            }
            End::Failed(failed) => (failed.code, StatusCode::INTERNAL_SERVER_ERROR),
            End::Cancelled { .. } => (ErrorCode::AlreadyTerminal, StatusCode::CONFLICT),
            End::Completed { .. } | End::TimedOut => (ErrorCode::Interrupted, StatusCode::INTERNAL_SERVER_ERROR),
        };
        let mut problem = Problem::new(of, message).with_status(status);
        problem.details = Box::new(json!({ "code": code }));
        Some(problem)
    }
}

/// Everything that a whole answer tells.
#[derive(Default)]
pub(super) struct Whole {
    pub(super) calls: Calls,
    pub(super) tool_calls: Vec<Value>,
    pub(super) tool_results: Vec<Value>,
    pub(super) truncated: bool,
    pub(super) end: Option<End>,
}

impl Whole {
    /// Takes an event in; true once the task has ended.
    pub(super) fn take(&mut self, event: &Event, task: TaskId) -> bool {
        let Some(None) = self.calls.belongs(event, task) else { return false };
        match &event.body {
            EventBody::ToolCall(call) => self.tool_calls.push(tool_call(&call.call_id, &call.tool, &call.arguments)),
            EventBody::ToolResult(result) => {
                let shown = result.output.clone().unwrap_or_else(|| result.error.clone().unwrap_or_default().into());
                self.tool_results.push(tool_result(&result.call_id, self.calls.tool(&result.call_id), &shown));
            }
            EventBody::Step(step) if step.name == "model" => self.truncated = step.output.is_some(),
            _ => {}
        }
        self.end = End::of(&event.body);
        self.end.is_some()
    }

    pub(super) const fn finish_reason(&self) -> &'static str {
        if self.truncated { "length" } else { "stop" }
    }
}

fn tool_call(id: &str, tool: &str, arguments: &Value) -> Value {
    json!({ "toolCallId": id, "toolName": tool, "args": arguments })
}

fn tool_result(id: &str, tool: &str, result: &Value) -> Value {
    json!({ "toolCallId": id, "toolName": tool, "result": result })
}

/// The frames of `/stream` and `/stream-object`.
pub(super) struct AnswerFrames {
    task: TaskId,
    calls: Calls,
    truncated: bool,
    spoke: bool,
    /// `None` for text.
    object: Option<Object>,
    guard: CancelOnDrop,
}

/// An object that is being written.
#[derive(Default)]
struct Object {
    message: String,
    text: String,
    /// How long the text was when it was last shown.
    shown: usize,
    last: Option<Value>,
}

impl AnswerFrames {
    pub(super) fn of_text(task: TaskId, guard: CancelOnDrop) -> Self {
        Self { task, calls: Calls::default(), truncated: false, spoke: false, object: None, guard }
    }

    pub(super) fn of_object(task: TaskId, guard: CancelOnDrop) -> Self {
        Self { object: Some(Object::default()), ..Self::of_text(task, guard) }
    }

    fn say(&self, at: Timestamp, mut value: Value, sub_agent: Option<&(TaskId, Arc<str>)>, out: &mut Vec<u8>) {
        value["timestamp"] = at.to_string().into();
        if let Some((id, name)) = sub_agent {
            value["subAgentId"] = id.to_string().into();
            value["subAgentName"] = (**name).into();
        }
        block(out, &value);
    }

    fn take(&mut self, event: &Event, out: &mut Vec<u8>) -> bool {
        let Some(sub_agent) = self.calls.belongs(event, self.task) else { return false };
        let (at, of) = (event.at, sub_agent.as_ref());
        match &event.body {
            EventBody::ToolCall(call) if self.object.is_none() => {
                let value = json!({ "toolCall": tool_call(&call.call_id, &call.tool, &call.arguments), "type": "tool-call" });
                self.say(at, value, of, out);
            }
            EventBody::ToolResult(result) if self.object.is_none() => {
                let shown = result.output.clone().unwrap_or_else(|| result.error.clone().unwrap_or_default().into());
                let result_of = tool_result(&result.call_id, self.calls.tool(&result.call_id), &shown);
                let mut value = json!({ "toolResult": result_of, "type": "tool-result" });
                if let Some(error) = &result.error {
                    // Not an `error`: clients stop reading at one.
                    value["isError"] = true.into();
                    value["error"] = error.as_str().into();
                    value["code"] = "TOOL_ERROR".into();
                }
                self.say(at, value, of, out);
            }
            // What a sub-agent says is for the agent that asked it.
            _ if of.is_some() => {}
            EventBody::Token(token) => {
                self.spoke = true;
                match &mut self.object {
                    None => self.say(at, json!({ "text": token.token, "type": "text" }), None, out),
                    Some(object) => {
                        if let Some(partial) = object.grown(&token.message_id, &token.token) {
                            self.say(at, json!({ "object": partial, "type": "object" }), None, out);
                        }
                    }
                }
            }
            EventBody::Reasoning(reasoning) if self.object.is_none() => {
                self.say(at, json!({ "reasoning": reasoning.token, "type": "reasoning" }), None, out);
            }
            EventBody::InputRequested(request) => {
                let mut value = serde_json::to_value(request).unwrap_or_default();
                (value["type"], value["taskId"]) = ("input-requested".into(), self.task.to_string().into());
                self.say(at, value, None, out);
            }
            EventBody::Warning(warning) => {
                self.say(at, json!({ "type": "warning", "code": warning.code, "message": warning.message }), None, out);
            }
            EventBody::Step(step) if step.name == "model" => self.truncated = step.output.is_some(),
            body => {
                if let Some(end) = End::of(body) {
                    self.end(&end, at, out);
                    return true;
                }
            }
        }
        false
    }

    fn end(&mut self, end: &End, at: Timestamp, out: &mut Vec<u8>) {
        self.guard.disarm();
        if let Some((error, code)) = end.error(self.spoke) {
            return self.say(at, json!({ "type": "error", "error": error, "code": code }), None, out);
        }
        let End::Completed { result, usage } = end else { return };
        match &self.object {
            Some(object) => {
                if object.last.as_ref() != Some(result) {
                    self.say(at, json!({ "object": result, "type": "object" }), None, out);
                }
            }
            None => {
                let reason = if self.truncated { "length" } else { "stop" };
                self.say(at, json!({ "finishReason": reason, "usage": views::usage(usage), "type": "finish" }), None, out);
            }
        }
        self.say(at, json!({ "done": true, "type": "completion" }), None, out);
    }
}

impl Object {
    /// Takes more of the text in; what there is of the object, if that is to be shown.
    fn grown(&mut self, message: &str, text: &str) -> Option<Value> {
        if self.message != message {
            // Another answer, because the one before did not fit.
            *self = Object { message: message.to_owned(), ..Object::default() };
        }
        self.text.push_str(text);
        if self.text.len() < self.shown + 1 + self.text.len() / PARTIAL_STEPS {
            return None;
        }
        self.shown = self.text.len();
        let partial = structured::read_partial(&self.text)?;
        if self.last.as_ref() == Some(&partial) {
            return None;
        }
        self.last = Some(partial.clone());
        Some(partial)
    }
}

impl Frames for AnswerFrames {
    fn write(&mut self, event: &LogEvent, _: &Epoch, out: &mut Vec<u8>) -> bool {
        decoded(event).is_some_and(|event| self.take(&event, out))
    }
}
