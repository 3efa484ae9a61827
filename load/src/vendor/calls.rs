//! What happened to every call, visible while it happens.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use serde_json::Value;

/// A call as it stands at one moment.
#[derive(Clone, Debug)]
pub struct Call {
    /// Counts from 1.
    pub number: u64,
    /// The path asked for.
    pub path: String,
    /// The body; `null` if it was no JSON.
    pub body: Arc<Value>,
    /// When the request was complete.
    pub started_at: Instant,
    /// When the answer was whole, cut, or given up by the caller.
    pub closed_at: Option<Instant>,
    /// Tokens of text and reasoning handed to the network.
    pub tokens_sent: u64,
    /// How it went.
    pub outcome: Outcome,
}

/// How a call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on.
    Running,
    /// The whole answer was sent.
    Finished,
    /// The caller closed the connection first.
    Aborted,
    /// The script cut it.
    Cut,
    /// Answered with an error status.
    Refused(u16),
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls that arrived.
    pub calls: u64,
    /// Of these, still going on.
    pub running: u64,
    /// Whole answers.
    pub finished: u64,
    /// Given up by the caller.
    pub aborted: u64,
    /// Cut by the script.
    pub cut: u64,
    /// Answered with an error status.
    pub refused: u64,
    /// Tokens handed to the network.
    pub tokens: u64,
}

#[derive(Debug)]
pub(super) struct Calls {
    remembered: Mutex<VecDeque<Arc<Entry>>>,
    max_remembered: usize,
    started: AtomicU64,
    ended: [AtomicU64; 4],
    tokens: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    path: String,
    body: Arc<Value>,
    started_at: Instant,
    tokens: AtomicU64,
    end: OnceLock<(Instant, Outcome)>,
}

impl Entry {
    fn snapshot(&self) -> Call {
        let end = self.end.get();
        Call {
            number: self.number,
            path: self.path.clone(),
            body: self.body.clone(),
            started_at: self.started_at,
            closed_at: end.map(|(at, _)| *at),
            tokens_sent: self.tokens.load(Ordering::Relaxed),
            outcome: end.map_or(Outcome::Running, |(_, outcome)| *outcome),
        }
    }
}

impl Calls {
    pub(super) fn new(max_remembered: usize) -> Self {
        Calls {
            remembered: Mutex::default(),
            max_remembered,
            started: AtomicU64::new(0),
            ended: Default::default(),
            tokens: AtomicU64::new(0),
        }
    }

    pub(super) fn list(&self) -> Vec<Call> {
        self.remembered().iter().map(|entry| entry.snapshot()).collect()
    }

    pub(super) fn counters(&self) -> Counters {
        let [finished, aborted, cut, refused] = [0, 1, 2, 3].map(|index: usize| self.ended[index].load(Ordering::Relaxed));
        let calls = self.started.load(Ordering::Relaxed);
        let running = calls.saturating_sub(finished + aborted + cut + refused);
        Counters { calls, running, finished, aborted, cut, refused, tokens: self.tokens.load(Ordering::Relaxed) }
    }

    fn remembered(&self) -> MutexGuard<'_, VecDeque<Arc<Entry>>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way. Dropped without a verdict it was given up by the caller.
pub(super) struct Tracked {
    shared: Arc<super::Shared>,
    entry: Arc<Entry>,
}

impl Tracked {
    pub(super) fn start(shared: Arc<super::Shared>, path: &str, body: Value) -> Self {
        let calls = &shared.calls;
        let number = calls.started.fetch_add(1, Ordering::Relaxed) + 1;
        let entry = Arc::new(Entry {
            number,
            path: path.to_owned(),
            body: Arc::new(body),
            started_at: Instant::now(),
            tokens: AtomicU64::new(0),
            end: OnceLock::new(),
        });
        let mut remembered = calls.remembered();
        remembered.push_back(entry.clone());
        if remembered.len() > calls.max_remembered {
            remembered.pop_front();
        }
        drop(remembered);
        Tracked { shared, entry }
    }

    pub(super) fn number(&self) -> u64 {
        self.entry.number
    }

    pub(super) fn token_sent(&self) {
        self.entry.tokens.fetch_add(1, Ordering::Relaxed);
        self.shared.calls.tokens.fetch_add(1, Ordering::Relaxed);
    }

    /// Only the first end counts.
    pub(super) fn end(&self, outcome: Outcome) {
        let index = match outcome {
            Outcome::Running => return,
            Outcome::Finished => 0,
            Outcome::Aborted => 1,
            Outcome::Cut => 2,
            Outcome::Refused(_) => 3,
        };
        if self.entry.end.set((Instant::now(), outcome)).is_ok() {
            self.shared.calls.ended[index].fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.end(Outcome::Aborted);
    }
}
