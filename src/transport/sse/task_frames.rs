//! What one task's events are in the stream of the first API: `status step token result done error`, and `reset` where text became void.

use agent_hub_protocol::{Epoch, Event, EventBody, Seq, TaskId, event::Step, snapshot::TaskStatus};
use serde::Serialize;
use serde_json::{Value, json};

use super::write_cursor;

/// Of the frames made from one event only the last carries its position: a reader that was cut off between them gets all of them again.
#[derive(Debug)]
pub(super) struct TaskFrames {
    task: TaskId,
}

impl TaskFrames {
    pub(super) fn new(task: TaskId) -> Self {
        Self { task }
    }

    /// Returns whether it was the task's last event.
    pub(super) fn event(&mut self, event: &Event, epoch: &Epoch, out: &mut Vec<u8>) -> bool {
        if event.task_id != Some(self.task) {
            return false;
        }
        let at = Some((epoch, event.seq));
        let status = |status: TaskStatus| json!({ "status": status });
        match &event.body {
            EventBody::TaskQueued(_) => frame(out, "status", at, &status(TaskStatus::Queued)),
            EventBody::TaskStarted(_) | EventBody::TaskResumed(_) => frame(out, "status", at, &status(TaskStatus::Running)),
            EventBody::TaskSuspended(_) => frame(out, "status", at, &status(TaskStatus::Suspended)),
            EventBody::TaskRecovering(again) => frame(out, "reset", at, again),
            EventBody::Step(step) => frame(out, "step", at, &step_data(step)),
            EventBody::Token(token) => frame(out, "token", at, &json!({ "token": token.token })),
            EventBody::TaskCompleted(done) => {
                frame(out, "result", None, &json!({ "result": done.result }));
                frame(out, "done", at, &json!({}));
            }
            EventBody::TaskFailed(failed) => frame(out, "error", at, &json!({ "error": failed.message, "code": failed.code })),
            EventBody::TaskTimeout(timeout) => {
                frame(out, "error", at, &json!({ "error": timeout_text(timeout.timeout_ms), "code": "timeout" }));
            }
            EventBody::TaskCancelled(_) => {
                frame(out, "status", None, &status(TaskStatus::Cancelled));
                frame(out, "done", at, &json!({}));
            }
            _ => {}
        }
        event.body.event_type().is_terminal()
    }
}

/// One frame. The data is one line: JSON writes no line breaks of its own.
pub(super) fn frame(out: &mut Vec<u8>, event: &str, at: Option<(&Epoch, Seq)>, data: &impl Serialize) {
    if let Some((epoch, seq)) = at {
        out.extend_from_slice(b"id: ");
        write_cursor(out, epoch, seq);
        out.push(b'\n');
    }
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    // Writing plain data to memory cannot fail.
    let _ = serde_json::to_writer(&mut *out, data);
    out.extend_from_slice(b"\n\n");
}

/// Every step names a tool here, because the clients of the first API show `step.tool`; a model call is the tool `model`.
fn step_data(step: &Step) -> Value {
    let mut data = serde_json::to_value(step).unwrap_or_default();
    if step.tool.is_none() {
        data["tool"] = Value::from(step.name.as_str());
    }
    data
}

/// "Task timed out after 5 minutes", for any deadline.
pub fn timeout_text(timeout_ms: u64) -> String {
    let (number, unit) = match timeout_ms {
        ms if ms % 60_000 == 0 => (ms / 60_000, "minute"),
        ms if ms % 1000 == 0 => (ms / 1000, "second"),
        ms => (ms, "millisecond"),
    };
    format!("Task timed out after {number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use agent_hub_protocol::{
        ErrorCode, SessionId, Timestamp,
        event::{StepPhase, TaskCancelled, TaskCompleted, TaskFailed, TaskRecovering, TaskTimeout, Token, Usage},
    };

    use super::*;

    fn frames(bodies: Vec<EventBody>) -> (String, bool) {
        let (task, session) = (TaskId::random(), SessionId::random());
        let epoch = Epoch::new("e1").expect("an epoch");
        let mut frames = TaskFrames::new(task);
        let (mut out, mut ended) = (Vec::new(), false);
        for (body, seq) in bodies.into_iter().zip(7..) {
            assert!(!ended);
            let mut event = Event { session_id: session, task_id: Some(TaskId::random()), seq, at: Timestamp::now(), body };
            assert!(!frames.event(&event, &epoch, &mut out), "another task's");
            event.task_id = Some(task);
            ended = frames.event(&event, &epoch, &mut out);
        }
        (String::from_utf8(out).expect("text"), ended)
    }

    #[test]
    fn success_ends_with_result_and_done_and_only_done_has_the_position() {
        let token = EventBody::Token(Token { token: "a\nb".into(), message_id: "m1".into() });
        let step = EventBody::Step(Step {
            until: None,
            index: 1,
            name: "model".into(),
            tool: None,
            call_id: None,
            phase: StepPhase::Started,
            input: None,
            output: None,
        });
        let done = EventBody::TaskCompleted(TaskCompleted { result: "a\nb".into(), usage: Usage::default() });
        let want = "id: e1.7\nevent: step\ndata: {\"index\":1,\"name\":\"model\",\"phase\":\"started\",\"tool\":\"model\"}\n\n\
                    id: e1.8\nevent: token\ndata: {\"token\":\"a\\nb\"}\n\n\
                    event: result\ndata: {\"result\":\"a\\nb\"}\n\nid: e1.9\nevent: done\ndata: {}\n\n";
        assert_eq!(frames(vec![step, token, done]), (want.to_owned(), true));
    }

    #[test]
    fn other_ends() {
        let failed =
            TaskFailed { code: ErrorCode::UpstreamError, message: "no".into(), retryable: true, partial: String::new(), message_id: None };
        assert_eq!(
            frames(vec![EventBody::TaskFailed(failed)]).0,
            "id: e1.7\nevent: error\ndata: {\"error\":\"no\",\"code\":\"upstream_error\"}\n\n"
        );
        let timeout = TaskTimeout { timeout_ms: 300_000, partial: String::new(), upstream_stopped: true };
        assert_eq!(
            frames(vec![EventBody::TaskTimeout(timeout)]).0,
            "id: e1.7\nevent: error\ndata: {\"error\":\"Task timed out after 5 minutes\",\"code\":\"timeout\"}\n\n"
        );
        let cancelled = TaskCancelled { reason: None, by: "u".into(), partial: String::new(), upstream_stopped: true, rollback: false };
        let recovering = TaskRecovering { attempt: 2, discard_after: 3 };
        assert_eq!(
            frames(vec![EventBody::TaskRecovering(recovering), EventBody::TaskCancelled(cancelled)]),
            (
                "id: e1.7\nevent: reset\ndata: {\"attempt\":2,\"discardAfter\":3}\n\n\
                 event: status\ndata: {\"status\":\"cancelled\"}\n\nid: e1.8\nevent: done\ndata: {}\n\n"
                    .to_owned(),
                true
            )
        );
    }
}
