//! What was applied against the log; what was asked against its effects, in the log and at the model.

use std::collections::HashMap;

use agent_hub_load::{
    ledger::{Log, LogReader},
    process::Hub,
    vendor::Call,
};
use anyhow::Context;
use serde_json::Value;
use std::time::Duration;

use super::{
    Report,
    desk::{Desk, History},
    player::Work,
};
use crate::pattern::cut;

/// How long a client may take to apply the last events.
const CATCH_UP: Duration = Duration::from_secs(15);

pub(super) struct Audit {
    reader: LogReader,
    /// By session.
    logs: HashMap<String, Vec<Value>>,
    /// How often the model was called, by the marker of the prompt it was called for.
    calls: HashMap<String, usize>,
    /// What should be found there: by marker, the calls the log tells of, and whether the task completed.
    told: HashMap<String, (usize, bool)>,
    all_calls: usize,
}

impl Audit {
    pub(super) fn new(hub: &Hub, token: &str, calls: Vec<Call>) -> anyhow::Result<Self> {
        let mut by_marker = HashMap::new();
        for call in &calls {
            *by_marker.entry(prompt_marker(&call.body).unwrap_or_default()).or_default() += 1;
        }
        let reader = LogReader::new(&format!("http://{}", hub.address()), token)?;
        Ok(Self { reader, logs: HashMap::new(), calls: by_marker, told: HashMap::new(), all_calls: calls.len() })
    }

    /// What one client applied, session by session.
    pub(super) async fn client(&mut self, desk: &Desk, report: &mut Report) -> anyhow::Result<()> {
        let sessions: Vec<String> = desk.known().sessions.keys().cloned().collect();
        for session in sessions {
            let id = session.parse().with_context(|| format!("a session named {session}"))?;
            let log = self.reader.read(id).await?;
            let head = log.texts.len() as u64;
            let caught_up =
                |known: &super::desk::Known| known.sessions.get(&session)?.cursor.as_ref().filter(|(_, last)| *last >= head).map(drop);
            // What is still missing then is counted below.
            let _ = desk.until(CATCH_UP, caught_up).await;
            for complaint in log.check(id).complaints {
                report.violation(complaint);
            }
            let events = read(&log)?;
            if let Some(history) = desk.known().sessions.get(&session) {
                compare(&session, history, &events, report);
            }
            self.logs.insert(session, events);
        }
        let known = desk.known();
        report.misplaced += known.wrong.iter().filter(|wrong| wrong.contains("was due")).count();
        for wrong in &known.wrong {
            report.violation(wrong.clone());
        }
        Ok(())
    }

    /// What was asked of one session.
    pub(super) fn work(&mut self, work: &Work, report: &mut Report) {
        let Some(events) = self.logs.get(&work.session) else {
            report.violation(format!("{}: nothing was applied of this session", work.session));
            return;
        };
        report.command("creates");
        let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).collect::<Vec<_>>();
        let queued = of("task_queued");
        if queued.len() != work.submits.len() {
            report.repeated_effects += queued.len().abs_diff(work.submits.len());
            report.violation(format!("{}: {} submits made {} tasks", work.session, work.submits.len(), queued.len()));
        }
        for submit in &work.submits {
            report.command("submits");
            let made = queued.iter().filter(|event| event["data"]["prompt"].as_str().is_some_and(|prompt| prompt.contains(&submit.marker)));
            let made: Vec<&str> = made.filter_map(|event| event["taskId"].as_str()).collect();
            if made != [submit.task.as_str()] {
                report.repeated_effects += usize::from(made.len() > 1);
                report.violation(format!("{}: the submit of task {} made {made:?}", work.session, submit.task));
            }
            let of_task: Vec<&Value> = events.iter().filter(|event| event["taskId"] == submit.task.as_str()).collect();
            let starts =
                |event: &&&Value| event["type"] == "step" && event["data"]["name"] == "model" && event["data"]["phase"] == "started";
            let completed = of_task.iter().any(|event| event["type"] == "task_completed");
            self.told.insert(submit.marker.clone(), (of_task.iter().filter(starts).count(), completed));
            let Some(acknowledged) = submit.cancelled else { continue };
            report.command("cancels");
            let requests = of_task.iter().filter(|event| event["type"] == "cancel_requested").count();
            if requests > 1 {
                report.repeated_effects += 1;
                report.violation(format!("{}: task {} was cancelled {requests} times", work.session, submit.task));
            }
            let cancelled = of_task.iter().any(|event| event["type"] == "task_cancelled");
            report.expect(!acknowledged || cancelled, || {
                format!("{}: the cancel of task {} was acknowledged and it ended otherwise", work.session, submit.task)
            });
        }
        for steer in &work.steers {
            report.command("steers");
            let with = |kind: &str| {
                of(kind).iter().filter(|event| event["data"]["input"].as_str().is_some_and(|input| input.contains(&steer.marker))).count()
            };
            let (accepted, receipts) = (with("steer_accepted"), with("steer_applied") + with("steer_rejected"));
            if accepted > 1 || receipts != accepted {
                report.repeated_effects += usize::from(accepted > 1);
                report.violation(format!("{}: a steer was accepted {accepted} times and has {receipts} receipts", work.session));
            }
            report.expect(!steer.acknowledged || accepted == 1, || {
                format!("{}: a steer was acknowledged and is not in the log", work.session)
            });
        }
    }

    /// Whether the model was called as often as the logs tell, and for nothing else.
    pub(super) fn model(&mut self, report: &mut Report) {
        report.model_calls = self.all_calls;
        for (marker, calls) in &self.calls {
            // A call that is aborted at once may not reach the model, so it may have fewer of a task that did not complete.
            match self.told.get(marker) {
                Some((steps, false)) if calls <= steps => {}
                Some((steps, true)) if calls == steps => {}
                Some((steps, _)) => {
                    report.repeated_effects += 1;
                    report.violation(format!("the model was called {calls} times for {marker}, and the log tells of {steps}"));
                }
                None => report.violation(format!("the model was called {calls} times for {marker:?}, which nobody submitted")),
            }
        }
        for (marker, (steps, completed)) in &self.told {
            let called = self.calls.get(marker).copied().unwrap_or_default();
            report
                .expect(!completed || called == *steps, || format!("{marker} completed in {steps} steps and {called} calls of the model"));
        }
    }
}

fn read(log: &Log) -> anyhow::Result<Vec<Value>> {
    log.texts.iter().map(|text| serde_json::from_str(text).with_context(|| format!("an event of the log: {}", cut(text)))).collect()
}

/// Every segment must stand in the log, in its place, and the last one must reach the log's end. A new one begins only where that was
/// ordered: a client that forgets its cursor when a connection is cut skips events.
fn compare(session: &str, history: &History, log: &[Value], report: &mut Report) {
    report.sessions += 1;
    let resets = history.segments.len().saturating_sub(1);
    report.resets += resets;
    report.expect(resets <= history.fresh_starts, || {
        format!("{session}: the client forgot what it had {resets} times, and was told to {} times", history.fresh_starts)
    });
    for segment in &history.segments {
        let base = usize::try_from(segment.base).unwrap_or(usize::MAX);
        report.events += segment.events.len();
        for (at, event) in segment.events.iter().enumerate() {
            if log.get(base.saturating_add(at)) != Some(event) {
                report.misplaced += 1;
                report.violation(format!("{session}: event {} is not what the log has: {}", base + at + 1, cut(&event.to_string())));
                break;
            }
        }
    }
    let last = history.segments.last().map_or(0, |segment| segment.base + segment.events.len() as u64);
    let missing = log.len().saturating_sub(usize::try_from(last).unwrap_or(usize::MAX));
    if missing > 0 {
        report.lost += missing;
        report.violation(format!("{session}: {missing} events of the log were never applied"));
    }
}

/// The last marker of a submit in what the model is asked. The conversation holds those before it, and steering has its own.
fn prompt_marker(body: &Value) -> Option<String> {
    let text = body["messages"].to_string();
    let at = text.rfind("[m-")?;
    let end = text[at..].find(']')?;
    Some(text[at..=at + end].to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::network::desk::Segment;

    fn found(segments: Vec<Segment>) -> (usize, usize, usize) {
        found_after(0, segments)
    }

    fn found_after(fresh_starts: usize, segments: Vec<Segment>) -> (usize, usize, usize) {
        let log: Vec<Value> = (1..=4).map(|seq| json!({"seq": seq, "data": {}})).collect();
        let mut report = Report::default();
        compare("s", &History { segments, fresh_starts, ..History::default() }, &log, &mut report);
        (report.lost, report.misplaced, report.violation_count)
    }

    fn segment(base: u64, seqs: &[u64]) -> Segment {
        Segment { base, events: seqs.iter().map(|seq| json!({"seq": seq, "data": {}})).collect() }
    }

    #[test]
    fn what_was_applied_is_held_against_the_log() {
        assert_eq!(found(vec![segment(0, &[1, 2, 3, 4])]), (0, 0, 0));
        assert_eq!(found_after(1, vec![segment(0, &[1, 2]), segment(3, &[4])]), (0, 0, 0));
        assert_eq!(found(vec![segment(0, &[1, 2]), segment(3, &[4])]), (0, 0, 1));
        assert_eq!(found(vec![segment(0, &[1, 2, 3])]), (1, 0, 1));
        assert_eq!(found(vec![segment(0, &[1, 2, 2, 3])]), (0, 1, 1));
        assert_eq!(found(vec![segment(0, &[1, 3, 2, 4])]), (0, 1, 1));
        assert_eq!(found(vec![segment(0, &[1, 2, 3, 4, 5])]), (0, 1, 1));
    }

    #[test]
    fn a_call_is_for_the_last_prompt() {
        let body = json!({"messages": [{"role": "user", "content": "[m-1] a"}, {"role": "user", "content": "[m-2] b"}, {"role": "user", "content": "[s-9] c"}]});
        assert_eq!(prompt_marker(&body).as_deref(), Some("[m-2]"));
        assert_eq!(prompt_marker(&json!({})), None);
    }
}
