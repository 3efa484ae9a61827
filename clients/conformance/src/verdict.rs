//! What came of a script, for people and for programs.

use std::{
    collections::VecDeque,
    fmt::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::pattern::cut;

/// Lines of a transcript that are kept; the last ones tell what went wrong.
const KEPT: usize = 400;
/// Lines of a transcript that are shown to a person.
const SHOWN: usize = 30;

/// What came of one script.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The script.
    pub name: String,
    /// What it holds a client or server to.
    pub about: String,
    /// How it went.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Milliseconds.
    pub took_ms: u64,
    /// What was said, in order; empty if it passed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transcript: Vec<String>,
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// As the protocol asks.
    Passed,
    /// Otherwise.
    Failed(Failure),
    /// Something it needs was not given.
    Skipped {
        /// What.
        reason: String,
    },
}

/// Where and why a script failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{step}: {problem}")]
pub struct Failure {
    /// Its number, from 1, and the step as the script has it; or what comes after the last.
    pub step: String,
    /// What was expected, and what came.
    pub problem: String,
}

impl Verdict {
    /// Whether it did not fail.
    pub fn kept(&self) -> bool {
        !matches!(self.outcome, Outcome::Failed(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Passed => write!(f, "ok       {} ({} ms)", self.name, self.took_ms),
            Outcome::Skipped { reason } => write!(f, "skipped  {}: {reason}", self.name),
            Outcome::Failed(failure) => {
                write!(f, "FAILED   {}: {}\n         {failure}", self.name, self.about)?;
                for line in &self.transcript[self.transcript.len().saturating_sub(SHOWN)..] {
                    write!(f, "\n         | {line}")?;
                }
                Ok(())
            }
        }
    }
}

/// What is said during a script, written down from several places.
#[derive(Clone, Debug)]
pub struct Transcript {
    started: Instant,
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl Default for Transcript {
    fn default() -> Self {
        Self { started: Instant::now(), lines: Arc::default() }
    }
}

impl Transcript {
    /// Who says what.
    pub fn note(&self, who: &str, what: &str) {
        let mut lines = self.lines();
        if lines.len() == KEPT {
            lines.pop_front();
        }
        let mut line = String::new();
        // Writing to a text does not fail.
        let _ = write!(line, "{:7.3} {who:<9} {}", self.started.elapsed().as_secs_f64(), cut(what.trim_end()));
        lines.push_back(line);
    }

    /// All of it, or the end if it is long.
    pub fn take(&self) -> Vec<String> {
        self.lines().drain(..).collect()
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn lines(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
