//! What a run found.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

/// Violations that are kept; of a thousand the first ones say as much.
const KEPT: usize = 50;

/// Lines of a transcript that are shown to a person.
const SHOWN: usize = 40;

/// What a run found.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Of all random choices.
    pub seed: u64,
    /// Broken connections, by how they broke.
    pub cuts: BTreeMap<String, usize>,
    /// Connections the proxies carried.
    pub connections: u64,
    /// Sessions whose log was compared.
    pub sessions: usize,
    /// Events compared.
    pub events: usize,
    /// Times a client was told to forget what it had.
    pub resets: usize,
    /// Commands whose effect was looked for, by kind.
    pub commands: BTreeMap<String, usize>,
    /// Calls that reached the model.
    pub model_calls: usize,
    /// Events of the log that a client never applied.
    pub lost: usize,
    /// Events that were applied where another was due.
    pub misplaced: usize,
    /// Commands that had an effect twice, or one that nobody asked for.
    pub repeated_effects: usize,
    /// Everything that should not have been, for people.
    pub violations: Vec<String>,
    /// How many there were, those that are not kept included.
    pub violation_count: usize,
    /// The last orders and reports of the first client that was seen to be wrong, and what it wrote to standard error.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transcript: Vec<String>,
}

impl Report {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Whether nothing was wrong.
    pub fn kept(&self) -> bool {
        self.violation_count == 0
    }

    pub(super) fn violation(&mut self, text: impl Into<String>) {
        self.violation_count += 1;
        if self.violations.len() < KEPT {
            self.violations.push(text.into());
        }
    }

    pub(super) fn expect(&mut self, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.violation(text());
        }
    }

    pub(super) fn command(&mut self, kind: &str) {
        *self.commands.entry(kind.to_owned()).or_default() += 1;
    }

    /// A run that ended because something was wrong has cut less, which is not wrong too.
    pub(super) fn cut(&mut self, counts: &BTreeMap<&'static str, usize>, planned: usize, ended_early: bool) {
        self.cuts = counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let done: usize = counts.values().sum();
        self.expect(ended_early || done == planned, || format!("only {done} of {planned} connections could be broken in time"));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: &BTreeMap<String, usize>| {
            let items: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
            items.join(", ")
        };
        let cuts: usize = self.cuts.values().sum();
        writeln!(f, "seed {}", self.seed)?;
        writeln!(f, "{cuts} cuts ({}), {} connections", list(&self.cuts), self.connections)?;
        writeln!(f, "{} sessions, {} events compared, {} resets", self.sessions, self.events, self.resets)?;
        writeln!(f, "commands: {}; calls of the model: {}", list(&self.commands), self.model_calls)?;
        write!(f, "lost {}, repeated or out of order {}, effects twice {}", self.lost, self.misplaced, self.repeated_effects)?;
        for violation in &self.violations {
            write!(f, "\n  {violation}")?;
        }
        for line in &self.transcript[self.transcript.len().saturating_sub(SHOWN)..] {
            write!(f, "\n  | {line}")?;
        }
        let verdict = if self.kept() { "kept".to_owned() } else { format!("{} VIOLATIONS", self.violation_count) };
        write!(f, "\n{verdict}")
    }
}
