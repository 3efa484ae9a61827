//! What a client applied, and what the log says.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use agent_hub_protocol::{Event, EventBody, SessionId, TaskId};
use anyhow::Context;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Events of one session as one client applied them, without their texts.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// What a snapshot stood for: events up to here were never seen one by one.
    base: u64,
    /// Hashes of the texts; the first one belongs to the event behind `base`.
    hashes: Vec<u64>,
}

/// How a ledger differs from the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Events of the log that were not applied: all behind the last one that was.
    pub behind: u64,
    /// Events that were applied and are not in the log.
    pub invented: u64,
    /// Numbers of the events whose text is another one in the log.
    pub altered: Vec<u64>,
}

impl Ledger {
    /// Takes in an event. It must be the one behind the last.
    ///
    /// # Errors
    /// The number that was due instead.
    pub fn apply(&mut self, seq: u64, text: &[u8]) -> Result<(), u64> {
        let due = self.last() + 1;
        if seq != due {
            return Err(due);
        }
        self.hashes.push(hash(text));
        Ok(())
    }

    /// Forgets everything: a snapshot stands for the events up to `base`.
    pub fn restart(&mut self, base: u64) {
        *self = Self { base, hashes: Vec::new() };
    }

    /// The last event that is accounted for.
    pub fn last(&self) -> u64 {
        self.base + self.hashes.len() as u64
    }

    /// Events that were applied one by one.
    pub fn applied(&self) -> u64 {
        self.hashes.len() as u64
    }

    /// Everything applied must stand in the log, in its place and word for word.
    pub fn compare(&self, log: &Log) -> Differences {
        let head = log.texts.len() as u64;
        let base = usize::try_from(self.base).unwrap_or(usize::MAX);
        let there = log.texts.get(base..).unwrap_or_default();
        let altered = (self.base + 1..).zip(self.hashes.iter().zip(there)).filter(|(_, (seen, text))| **seen != hash(text.as_bytes()));
        Differences {
            behind: head.saturating_sub(self.last()),
            invented: self.last().saturating_sub(head),
            altered: altered.map(|(seq, _)| seq).collect(),
        }
    }
}

fn hash(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// The log of a session, read from its start.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The texts, in order.
    pub texts: Vec<Box<str>>,
}

/// Reads logs over HTTP. One for many logs: it keeps its connections.
#[derive(Clone, Debug)]
pub struct LogReader {
    client: reqwest::Client,
    base: String,
    token: String,
}

/// A page as the hub answers it.
#[derive(Deserialize)]
struct EventPage {
    events: Vec<Box<RawValue>>,
    next: String,
    recovered: bool,
}

impl LogReader {
    /// Of a hub at `http://host:port`, as the user of a token.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(base: &str, token: &str) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
        Ok(Self { client, base: base.to_owned(), token: token.to_owned() })
    }

    /// The same, as another user.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// Reads a log page by page.
    ///
    /// # Errors
    /// The hub does not answer, refuses, or does not know the cursor it gave with the page before.
    pub async fn read(&self, session: SessionId) -> anyhow::Result<Log> {
        let mut texts: Vec<Box<str>> = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut url = format!("{}/api/v1/agents/sessions/{session}/events?limit=1000", self.base);
            if let Some(after) = &after {
                url = format!("{url}&after={after}");
            }
            let answer = self.client.get(url).bearer_auth(&self.token).send().await?;
            let status = answer.status();
            let body = answer.text().await?;
            anyhow::ensure!(status.is_success(), "the log of {session} was answered with {status}: {body}");
            let page: EventPage = serde_json::from_str(&body).context("a page of the log")?;
            anyhow::ensure!(page.recovered, "the log of {session}: a page behind {after:?} was not recovered");
            if page.events.is_empty() {
                return Ok(Log { texts });
            }
            texts.extend(page.events.into_iter().map(|event| event.get().into()));
            after = Some(page.next);
        }
    }
}

/// What a log says about its tasks, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// How each task ended.
    pub ends: HashMap<TaskId, Ending>,
    /// For people.
    pub complaints: Vec<String>,
}

impl Log {
    /// Reads every event; checks that they are dense and that every task ends once, with its last event.
    pub fn check(&self, session: SessionId) -> Checked {
        let mut checked = Checked::default();
        for (text, due) in self.texts.iter().zip(1_u64..) {
            let Ok(event) = Event::decode(text) else {
                checked.complaints.push(format!("{session}: event {due} cannot be read: {text}"));
                continue;
            };
            if event.seq != due {
                checked.complaints.push(format!("{session}: event {} stands where {due} is due", event.seq));
            }
            let Some(task) = event.task_id else { continue };
            let ending = checked.ends.entry(task).or_default();
            if ending.terminal.is_some() {
                checked.complaints.push(format!("{session}: event {due} of task {task} comes behind its end: {text}"));
            }
            match &event.body {
                EventBody::TaskRecovering(_) => ending.recovered += 1,
                body if body.event_type().is_terminal() => ending.terminal = Some(body.event_type().as_str()),
                _ => {}
            }
        }
        let endless = checked.ends.iter().filter(|(_, ending)| ending.terminal.is_none());
        let endless: Vec<String> = endless.map(|(task, _)| format!("{session}: task {task} has no end")).collect();
        checked.complaints.extend(endless);
        checked
    }
}

/// How a task ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ending {
    /// The type of its terminal event.
    pub terminal: Option<&'static str>,
    /// How often it was taken up again after a stop of the hub.
    pub recovered: u32,
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

    const TOKEN: &str = r#"token {"token":"a","messageId":"m2"}"#;
    const DONE: &str = r#"task_completed {"result":"a","usage":{"inputTokens":1,"outputTokens":1}}"#;

    fn applied(log: &Log, base: u64) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.restart(base);
        for (seq, text) in (1..).zip(&log.texts).skip(base as usize) {
            ledger.apply(seq, text.as_bytes()).expect("in order");
        }
        ledger
    }

    #[test]
    fn what_was_seen_must_stand_in_the_log_word_for_word() {
        let (_, whole) = log(&[(TOKEN, 1), (TOKEN, 2), (DONE, 3)]);
        for base in [0, 2] {
            assert_eq!(applied(&whole, base).compare(&whole), Differences::default());
        }
        let shorter = Log { texts: whole.texts[..2].to_vec() };
        assert_eq!(applied(&whole, 0).compare(&shorter), Differences { invented: 1, ..Differences::default() });
        assert_eq!(applied(&shorter, 0).compare(&whole), Differences { behind: 1, ..Differences::default() });
        let mut other = Log { texts: whole.texts.clone() };
        other.texts[1] = other.texts[1].replace("\"a\"", "\"b\"").into();
        assert_eq!(applied(&whole, 0).compare(&other), Differences { altered: vec![2], ..Differences::default() });
        assert_eq!(applied(&whole, 0).apply(5, b""), Err(4));
    }

    #[test]
    fn a_task_ends_once_and_last() {
        let count = |events: &[(&str, u64)]| {
            let (session, log) = log(events);
            log.check(session).complaints.len()
        };
        assert_eq!(count(&[(TOKEN, 1), (DONE, 2)]), 0);
        assert_eq!(count(&[(TOKEN, 1)]), 1);
        assert_eq!(count(&[(DONE, 1), (TOKEN, 2)]), 1);
        assert_eq!(count(&[(DONE, 1), (DONE, 2)]), 1);
        assert_eq!(count(&[(TOKEN, 1), (DONE, 3)]), 1);
    }
}
