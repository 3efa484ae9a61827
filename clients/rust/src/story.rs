//! What is known of a task, folded from its events.

use std::collections::HashMap;

use agent_hub_protocol::{
    ErrorCode, Event, EventBody, Seq, TaskId,
    snapshot::{TaskInfo, TaskStatus},
};
use serde_json::Value;

use crate::Ended;

/// How a task ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With a result.
    Completed {
        /// The exact text of the last message; something else for a workflow. Absent where only a snapshot tells of the end, and it
        /// leaves it out.
        result: Option<Value>,
    },
    /// It broke off.
    Failed {
        /// What went wrong.
        code: ErrorCode,
        /// For people.
        message: String,
    },
    /// It was cancelled.
    Cancelled {
        /// What it had said until then.
        partial: String,
    },
    /// It ran out of time.
    TimedOut {
        /// What it had said until then.
        partial: String,
    },
}

/// What became of a steering input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It entered the conversation before this step's model call.
    Applied {
        /// The step.
        step: u32,
    },
    /// It came too late, and is given back.
    Rejected {
        /// Why.
        reason: String,
    },
    /// The receipt was among events that this client had to skip.
    Unknown,
}

/// What is known of a task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Story {
    messages: Vec<Spoken>,
    receipts: HashMap<TaskId, Receipt>,
    outcome: Option<Outcome>,
    missed: bool,
    closed: Option<Ended>,
    /// Events were skipped: receipts may have been among them.
    skipped: bool,
}

/// A message, and where its tokens end, so that void ones can be taken back.
#[derive(Clone, Debug, Default)]
struct Spoken {
    id: String,
    text: String,
    ends: Vec<(Seq, usize)>,
}

impl Story {
    pub(crate) fn text(&self) -> &str {
        self.messages.last().map_or("", |message| message.text.as_str())
    }

    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// The receipt; after the end there will be none any more.
    pub(crate) fn receipt(&self, steer: TaskId) -> Option<Receipt> {
        let known = self.receipts.get(&steer).cloned();
        known.or_else(|| (self.skipped && self.outcome.is_some()).then_some(Receipt::Unknown))
    }

    pub(crate) fn missed(&self) -> bool {
        self.missed
    }

    pub(crate) fn miss(&mut self) {
        self.missed = true;
    }

    /// Nothing will come any more, and there is no outcome.
    pub(crate) fn closed(&self) -> Option<Ended> {
        self.closed
    }

    pub(crate) fn close(&mut self, ended: Ended) {
        self.closed = Some(ended);
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        match &event.body {
            EventBody::Token(token) => {
                let message = self.message(&token.message_id);
                message.text.push_str(&token.token);
                message.ends.push((event.seq, message.text.len()));
            }
            EventBody::Message(whole) => {
                let message = self.message(&whole.message_id);
                message.text.clone_from(&whole.text);
                // What is whole is not taken back.
                message.ends.clear();
            }
            EventBody::TaskRecovering(recovering) => self.take_back(recovering.discard_after),
            EventBody::SteerApplied(applied) => drop(self.receipts.insert(applied.steer_id, Receipt::Applied { step: applied.step })),
            EventBody::SteerRejected(rejected) => {
                drop(self.receipts.insert(rejected.steer_id, Receipt::Rejected { reason: rejected.reason.clone() }));
            }
            EventBody::TaskCompleted(completed) => self.outcome = Some(Outcome::Completed { result: Some(completed.result.clone()) }),
            EventBody::TaskFailed(failed) => {
                self.outcome = Some(Outcome::Failed { code: failed.code, message: failed.message.clone() });
            }
            EventBody::TaskCancelled(cancelled) => {
                self.outcome = Some(Outcome::Cancelled { partial: cancelled.partial.clone() });
            }
            EventBody::TaskTimeout(timeout) => {
                self.outcome = Some(Outcome::TimedOut { partial: timeout.partial.clone() });
            }
            _ => {}
        }
    }

    /// What a snapshot tells, instead of the events up to its head.
    pub(crate) fn replace(&mut self, info: &TaskInfo, head: Seq) {
        self.skipped = true;
        let partial = info.partial.as_ref();
        let said = partial.map_or_else(|| self.text().to_owned(), |partial| partial.text.clone());
        self.messages = partial
            .map(|partial| Spoken {
                id: partial.message_id.clone(),
                text: partial.text.clone(),
                // Which tokens it was is not told. The message is not whole, so they are void together, if they are.
                ends: vec![(head, partial.text.len())],
            })
            .into_iter()
            .collect();
        self.outcome = match info.status {
            TaskStatus::Queued | TaskStatus::Running | TaskStatus::Suspended => None,
            TaskStatus::Completed => Some(Outcome::Completed { result: info.result.clone() }),
            TaskStatus::Failed => {
                let error = info.error.as_ref();
                let code = error.map_or(ErrorCode::Internal, |error| error.code);
                Some(Outcome::Failed { code, message: error.map(|error| error.message.clone()).unwrap_or_default() })
            }
            TaskStatus::Cancelled => Some(Outcome::Cancelled { partial: said }),
            TaskStatus::Timeout => Some(Outcome::TimedOut { partial: said }),
        };
        if let Some(Outcome::Completed { result: Some(Value::String(result)) }) = &self.outcome {
            self.messages = vec![Spoken { text: result.clone(), ..Spoken::default() }];
        }
    }

    /// Tokens behind this event are void.
    fn take_back(&mut self, after: Seq) {
        for message in &mut self.messages {
            let Some((last, _)) = message.ends.last() else { continue };
            if *last > after {
                message.ends.retain(|(seq, _)| *seq <= after);
                let keep = message.ends.last().map_or(0, |(_, end)| *end);
                message.text.truncate(keep);
            }
        }
        self.messages.retain(|message| !message.text.is_empty());
    }

    fn message(&mut self, id: &str) -> &mut Spoken {
        let at = self.messages.iter().position(|message| message.id == id).unwrap_or_else(|| {
            self.messages.push(Spoken { id: id.to_owned(), ..Spoken::default() });
            self.messages.len() - 1
        });
        &mut self.messages[at]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(events: &[(&str, Value)]) -> Story {
        let mut story = Story::default();
        for ((kind, data), seq) in events.iter().zip(2..) {
            story.apply(&event(seq, kind, data));
        }
        story
    }

    fn event(seq: Seq, kind: &str, data: &Value) -> Event {
        let event = json!({
            "type": kind, "sessionId": "7b0c8a3e-4f5d-4d7a-9a51-2f6f0c1d9e10", "taskId": "c1d2e3f4-0a1b-4c2d-8e3f-405162738495",
            "seq": seq, "at": "2026-11-20T14:02:01.037Z", "data": data,
        });
        Event::decode(&event.to_string()).expect("an event")
    }

    fn token(text: &str, message: &str) -> (&'static str, Value) {
        ("token", json!({"token": text, "messageId": message}))
    }

    #[test]
    fn text_grows_and_the_message_is_authoritative() {
        assert_eq!(told(&[token("a ", "m2"), token("b", "m2")]).text(), "a b");
        let whole = ("message", json!({"messageId": "m2", "role": "assistant", "text": "a b c"}));
        assert_eq!(told(&[token("a ", "m2"), whole.clone()]).text(), "a b c");
        assert_eq!(told(&[token("a ", "m2"), whole, token("next", "m4")]).text(), "next");
    }

    #[test]
    fn void_text_is_taken_back() {
        let recovering = |after: u64| ("task_recovering", json!({"attempt": 2, "discardAfter": after}));
        assert_eq!(told(&[token("ä ", "m2"), token("b", "m2"), recovering(2)]).text(), "ä ");
        assert_eq!(told(&[token("a ", "m2"), recovering(1)]).text(), "");
        assert_eq!(told(&[token("a ", "m2"), recovering(1), token("anew", "m5")]).text(), "anew");
    }

    #[test]
    fn all_of_a_void_message_is_taken_back_whatever_came_in_the_middle_of_it() {
        let steer = json!({"steerId": "0198f3a2-6b1c-7d4e-8f90-a1b2c3d4e5f6", "input": "x", "when": "next_step"});
        let recovering = ("task_recovering", json!({"attempt": 2, "discardAfter": 1}));
        let story = told(&[token("a ", "m2"), ("steer_accepted", steer), token("b", "m2"), recovering]);
        assert!(story.messages.is_empty(), "{story:?}");
    }

    #[test]
    fn void_text_of_a_snapshot_is_taken_back() {
        let info = json!({
            "taskId": "c1d2e3f4-0a1b-4c2d-8e3f-405162738495", "status": "running", "attempt": 1, "stepsCompleted": 0,
            "partial": {"messageId": "m2", "text": "a b"}, "usage": {"inputTokens": 0, "outputTokens": 0},
            "createdAt": "2026-11-20T14:02:02.074Z", "firstSeq": 2,
        });
        let mut story = Story::default();
        story.replace(&serde_json::from_value(info).expect("a task"), 6);
        story.apply(&event(7, "token", &json!({"token": " c", "messageId": "m2"})));
        assert_eq!(story.text(), "a b c");
        story.apply(&event(8, "task_recovering", &json!({"attempt": 2, "discardAfter": 4})));
        assert_eq!(story.text(), "");
    }

    #[test]
    fn ends_and_receipts_are_found() {
        let steer = "0198f3a2-6b1c-7d4e-8f90-a1b2c3d4e5f6";
        let applied = ("steer_applied", json!({"steerId": steer, "step": 2, "messageId": "m3", "input": "x"}));
        let cancelled = ("task_cancelled", json!({"by": "u", "partial": "so far", "upstreamStopped": true}));
        let story = told(&[applied, cancelled]);
        assert_eq!(story.receipt(steer.parse().expect("an id")), Some(Receipt::Applied { step: 2 }));
        assert_eq!(story.receipt(TaskId::random()), None);
        assert_eq!(story.outcome(), Some(&Outcome::Cancelled { partial: "so far".into() }));
    }
}
