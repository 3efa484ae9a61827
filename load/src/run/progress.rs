//! How a run stands, while it runs: one line that is written over on a terminal, a line now and then elsewhere.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use super::figures::{Count, Exported};
use crate::{
    results::{short, short_time},
    scenario::Scenario,
};

/// Between two lines where they cannot be written over.
const EVERY: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Progress {
    name: String,
    sockets: usize,
    workers: Vec<(Exported, usize)>,
    terminal: bool,
    quiet: bool,
    said: Duration,
}

impl Progress {
    pub(super) fn new(scenario: &Scenario, workers: usize, quiet: bool) -> Self {
        let workers = (0..workers).map(|_| (Exported::default(), 0)).collect();
        let terminal = std::io::stderr().is_terminal();
        Self { name: scenario.name.clone(), sockets: scenario.sockets(), workers, terminal, quiet, said: Duration::ZERO }
    }

    pub(super) fn note(&mut self, worker: usize, so_far: &Exported, finished: usize) {
        if let Some(slot) = self.workers.get_mut(worker) {
            *slot = (so_far.clone(), finished);
        }
    }

    pub(super) fn show(&mut self, elapsed: Duration) {
        if self.quiet || (!self.terminal && elapsed < self.said + EVERY) {
            return;
        }
        self.said = elapsed;
        let line = self.line(elapsed);
        // Nobody sees it: nobody misses it.
        let _ = if self.terminal { write!(std::io::stderr(), "\r\x1b[K{line}") } else { writeln!(std::io::stderr(), "{line}") };
    }

    pub(super) fn end(&self) {
        if self.terminal && !self.quiet {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    fn line(&self, elapsed: Duration) -> String {
        let total =
            |count: Count| self.workers.iter().map(|(so_far, _)| so_far.counts.get(count.name()).copied().unwrap_or(0)).sum::<u64>();
        let last = |of: fn(&super::figures::Second) -> u64| {
            self.workers.iter().filter_map(|(so_far, _)| so_far.seconds.last()).map(of).collect::<Vec<_>>()
        };
        let finished: usize = self.workers.iter().map(|(_, finished)| finished).sum();
        let open: u64 = last(|second| second.open).iter().sum();
        let tokens: u64 = last(|second| second.tokens).iter().sum();
        let p99 = last(|second| second.token_p99).into_iter().max().unwrap_or(0);
        let delay = if p99 > 0 { format!(", token p99 {}", short_time(p99 as f64)) } else { String::new() };
        let wrong = total(Count::Lost) + total(Count::Repeated) + total(Count::Reordered) + total(Count::Altered);
        format!(
            "{} {:>4.0} s: {open} of {} sockets open, {finished} done, {} sessions, {} tokens/s{delay}, {} verified, {wrong} wrong, {} errors, {} unmet",
            self.name,
            elapsed.as_secs_f64(),
            self.sockets,
            total(Count::Sessions),
            short(tokens as f64),
            total(Count::Verified),
            total(Count::Errors) + total(Count::ConnectFailures),
            total(Count::Unmet)
        )
    }
}
