//! What a client applied, and what the log says.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    time::Duration,
};

use agent_hub_client::AppliedEvent;
use agent_hub_protocol::{Event, EventBody, SessionId, TaskId};
use anyhow::Context;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Report;

/// Events of one session as one client applied them, without their texts.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// Hashes of the texts; the n-th event is at n-1.
    hashes: Vec<u64>,
    /// What was wrong already when it came.
    pub(super) wrong: Vec<String>,
}

impl Ledger {
    pub(super) fn apply(&mut self, event: &AppliedEvent) {
        let expected = self.hashes.len() as u64 + 1;
        if event.seq != expected {
            self.wrong.push(format!("{}: event {} was applied where {expected} was due", event.session_id, event.seq));
            return;
        }
        self.hashes.push(hash(event.text()));
    }

    pub(super) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Everything applied must stand in the log, in its place and word for word. Returns how many events the log has beyond that.
    pub(super) fn compare(&self, session: SessionId, log: &Log, report: &mut Report) -> usize {
        report.violations.extend(self.wrong.iter().cloned());
        report.expect(self.hashes.len() <= log.texts.len(), || {
            format!("{session}: {} events were seen, and the log has {}", self.hashes.len(), log.texts.len())
        });
        let other = self.hashes.iter().zip(&log.texts).position(|(seen, text)| *seen != hash(text));
        if let Some(at) = other {
            report.violation(format!("{session}: event {} is not what was seen; the log has {}", at + 1, log.texts[at]));
        }
        log.texts.len().saturating_sub(self.hashes.len())
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// The log of a session, read from its start.
pub(super) struct Log {
    /// The texts, in order.
    pub(super) texts: Vec<Box<str>>,
}

/// A page as the hub answers it.
#[derive(Deserialize)]
struct EventPage {
    events: Vec<Box<RawValue>>,
    next: String,
    recovered: bool,
}

impl Log {
    /// Reads it over HTTP, page by page. What is not there, or not dense, is a violation.
    pub(super) async fn read(hub: SocketAddr, token: &str, session: SessionId, report: &mut Report) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
        let mut texts: Vec<Box<str>> = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut url = format!("http://{hub}/api/v1/agents/sessions/{session}/events?limit=1000");
            if let Some(after) = &after {
                url = format!("{url}&after={after}");
            }
            let answer = client.get(url).bearer_auth(token).send().await?;
            let status = answer.status();
            let body = answer.text().await?;
            anyhow::ensure!(status.is_success(), "the log of {session} was answered with {status}: {body}");
            let page: EventPage = serde_json::from_str(&body).context("a page of the log")?;
            report.expect(page.recovered, || format!("{session}: a page behind {after:?} was not recovered"));
            if page.events.is_empty() || !page.recovered {
                return Ok(Self { texts });
            }
            texts.extend(page.events.into_iter().map(|event| event.get().into()));
            after = Some(page.next);
        }
    }

    /// Reads every event; checks that they are dense and that every task ends once, with its last event. Returns the ends.
    pub(super) fn check(&self, session: SessionId, report: &mut Report) -> HashMap<TaskId, Ending> {
        let mut tasks: HashMap<TaskId, Ending> = HashMap::new();
        for (text, due) in self.texts.iter().zip(1_u64..) {
            let Ok(event) = Event::decode(text) else {
                report.violation(format!("{session}: event {due} cannot be read: {text}"));
                continue;
            };
            report.expect(event.seq == due, || format!("{session}: event {} stands where {due} is due", event.seq));
            let Some(task) = event.task_id else { continue };
            let ending = tasks.entry(task).or_default();
            if ending.terminal.is_some() {
                report.violation(format!("{session}: event {due} of task {task} comes behind its end: {text}"));
            }
            match &event.body {
                EventBody::TaskRecovering(_) => ending.recovered += 1,
                body if body.event_type().is_terminal() => ending.terminal = Some(body.event_type().as_str()),
                _ => {}
            }
        }
        for (task, ending) in &tasks {
            report.expect(ending.terminal.is_some(), || format!("{session}: task {task} has no end"));
        }
        tasks
    }
}

/// How a task ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ending {
    /// The type of its terminal event.
    pub(super) terminal: Option<&'static str>,
    /// How often it was taken up again after a stop of the hub.
    pub(super) recovered: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = "c1d2e3f4-0a1b-4c2d-8e3f-405162738495";

    fn log(events: &[(&str, u64)]) -> (SessionId, Log) {
        let session = SessionId::random();
        let text = |(body, seq): &(&str, u64)| {
            let (kind, data) = body.split_once(' ').expect("a type and data");
            let text = format!(
                r#"{{"type":"{kind}","sessionId":"{session}","taskId":"{TASK}","seq":{seq},"at":"2026-11-20T14:02:01.037Z","data":{data}}}"#
            );
            text.into_boxed_str()
        };
        (session, Log { texts: events.iter().map(text).collect() })
    }

    fn violations(ledger: &Ledger, session: SessionId, log: &Log) -> usize {
        let mut report = Report::default();
        ledger.compare(session, log, &mut report);
        report.violations.len()
    }

    const TOKEN: &str = r#"token {"token":"a","messageId":"m2"}"#;
    const DONE: &str = r#"task_completed {"result":"a","usage":{"inputTokens":1,"outputTokens":1}}"#;

    #[test]
    fn what_was_seen_must_stand_in_the_log_word_for_word() {
        let (session, whole) = log(&[(TOKEN, 1), (TOKEN, 2), (DONE, 3)]);
        let ledger = Ledger { hashes: whole.texts.iter().map(|text| hash(text)).collect(), wrong: Vec::new() };
        assert_eq!(violations(&ledger, session, &whole), 0);
        let lost = Log { texts: whole.texts[..2].to_vec() };
        assert_eq!(violations(&ledger, session, &lost), 1);
        let mut other = Log { texts: whole.texts.clone() };
        other.texts[1] = other.texts[1].replace("\"a\"", "\"b\"").into();
        assert_eq!(violations(&ledger, session, &other), 1);
        let behind = Ledger { hashes: ledger.hashes[..1].to_vec(), wrong: Vec::new() };
        assert_eq!(behind.compare(session, &whole, &mut Report::default()), 2);
    }

    #[test]
    fn a_task_ends_once_and_last() {
        let count = |events: &[(&str, u64)]| {
            let (session, log) = log(events);
            let mut report = Report::default();
            log.check(session, &mut report);
            report.violations.len()
        };
        assert_eq!(count(&[(TOKEN, 1), (DONE, 2)]), 0);
        assert_eq!(count(&[(TOKEN, 1)]), 1);
        assert_eq!(count(&[(DONE, 1), (TOKEN, 2)]), 1);
        assert_eq!(count(&[(DONE, 1), (DONE, 2)]), 1);
        assert_eq!(count(&[(TOKEN, 1), (DONE, 3)]), 1);
    }
}
