//! A session as one scripted socket knows it.

use std::time::Instant;

use agent_hub_protocol::{SessionId, TaskId};

use super::{
    book::Book,
    figures::{Count, Figures, Timing},
};
use crate::{
    scenario::EndKind,
    wire::{Head, now_nanos, number_field, stamps_in, token_text, tokens_in},
};

/// Tasks of one session that are remembered; a script that submits more without waiting loses sight of the oldest.
const TASKS: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The same as text.
    pub name: String,
    /// What came of it.
    pub book: Book,
    /// Whether the script follows it: a reconnect attaches it again.
    pub following: bool,
    /// An attach was sent and its `caught_up` has not come.
    pub attaching: bool,
    /// What the `caught_up` that is waited for is timed as, and from when; nothing in a reconnect.
    pub timed: Option<(Timing, Instant)>,
    /// Once the epoch is known, it is to be attached again from its first event.
    pub then_from_start: bool,
    /// The attach that is waited for names a cursor.
    pub with_cursor: bool,
    /// Where the session stood when it was attached again, for [`Timing::Missed`].
    pub resumed_from: Option<u64>,
    /// Model tokens that came.
    pub tokens: u64,
    /// How many had come at the last submit or attach.
    pub tokens_before: u64,
    /// Ends of tasks that came, and how the last one ended.
    pub ends: u64,
    /// See `ends`.
    pub last_end: Option<EndKind>,
    /// How many had come at the last attach.
    pub ends_before: u64,
    /// What the script submitted, the newest last.
    pub tasks: Vec<Task>,
}

/// A task the script submitted.
#[derive(Debug)]
pub struct Task {
    /// Its id, as text.
    pub name: String,
    /// When it was due to be submitted.
    pub due: Instant,
    /// Whether its first token has come.
    pub spoke: bool,
    /// When its last token event came; nothing while it is caught up with.
    pub last_token: Option<Instant>,
    /// How it ended. One whose submit was refused counts as ended without an end; a hub that is overloaded may run it all the same.
    pub end: Option<Option<EndKind>>,
    /// When a cancel was due.
    pub cancel: Option<Instant>,
    /// The number of the event that records it; what the acknowledgement says until that has come.
    pub cancelled_at: Option<u64>,
}

/// The time of a read, looked at once for all of its frames.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For times between things here.
    pub instant: Instant,
    /// For stamps, in nanoseconds since 1970.
    pub nanos: u64,
}

impl Now {
    /// This moment.
    pub fn take() -> Self {
        Self { instant: Instant::now(), nanos: now_nanos() }
    }
}

impl Session {
    /// One that nothing is known of.
    pub fn new(id: SessionId) -> Self {
        Self {
            id,
            name: id.to_string(),
            book: Book::default(),
            following: false,
            attaching: false,
            timed: None,
            then_from_start: false,
            with_cursor: false,
            resumed_from: None,
            tokens: 0,
            tokens_before: 0,
            ends: 0,
            last_end: None,
            ends_before: 0,
            tasks: Vec::new(),
        }
    }

    /// A task is about to be submitted.
    pub fn submitting(&mut self, id: TaskId, due: Instant) {
        if self.tasks.len() >= TASKS {
            self.tasks.remove(0);
        }
        self.tasks.push(Task { name: id.to_string(), due, spoke: false, last_token: None, end: None, cancel: None, cancelled_at: None });
        self.tokens_before = self.tokens;
    }

    /// The newest task.
    pub fn task(&self) -> Option<&Task> {
        self.tasks.last()
    }

    /// Tokens since the last submit or attach.
    pub fn new_tokens(&self) -> u64 {
        self.tokens - self.tokens_before
    }

    /// How the newest task ended; of a session without tasks of this socket, whether any has ended since the attach.
    pub fn end(&self) -> Option<Option<EndKind>> {
        match self.task() {
            Some(task) => task.end,
            None => (self.ends > self.ends_before).then_some(self.last_end),
        }
    }

    /// An event came that had not been seen before.
    pub fn event(&mut self, head: &Head<'_>, frame: &[u8], now: Now, figures: &mut Figures) {
        let task = head.task.and_then(|name| self.tasks.iter_mut().rev().find(|task| task.name.as_bytes() == name));
        if let Some(task) = &task
            && matches!(task.end, Some(Some(_)))
        {
            figures.count(Count::AfterEnd);
            figures
                .complain(|| format!("{}: an event of task {} behind its end: {}", self.name, task.name, String::from_utf8_lossy(frame)));
        }
        if head.kind == b"token" {
            let Some(text) = token_text(frame) else { return };
            // What is caught up with was late because nobody listened, and that is not a delay.
            let live = !self.attaching;
            let stamps = stamps_in(text).inspect(|stamp| {
                if live {
                    figures.record(Timing::Token, now.nanos.saturating_sub(*stamp));
                }
            });
            let tokens = stamps.count().max(tokens_in(text) as usize) as u64;
            self.tokens += tokens;
            figures.add(Count::Tokens, tokens);
            figures.count(Count::TokenEvents);
            if let Some(task) = task {
                task.token(head, tokens, live.then_some(now), figures);
            }
            return;
        }
        // The log's own order counts: the acknowledgement may come behind tokens that should not be.
        if head.kind == b"cancel_requested"
            && let Some(task) = task
        {
            task.cancelled_at = head.seq;
            return;
        }
        let Some(kind) = ended(head.kind) else { return };
        self.ends += 1;
        self.last_end = Some(kind);
        if let Some(task) = task {
            task.ended(kind, now, figures);
        }
    }
}

impl Task {
    /// `live`: when it came, unless it is caught up with.
    fn token(&mut self, head: &Head<'_>, tokens: u64, live: Option<Now>, figures: &mut Figures) {
        let first = !std::mem::replace(&mut self.spoke, true);
        let last = std::mem::replace(&mut self.last_token, live.map(|now| now.instant));
        if let Some(now) = live {
            if first {
                figures.time(Timing::FirstToken, now.instant.saturating_duration_since(self.due));
            }
            if let Some(last) = last {
                figures.time(Timing::Gap, now.instant.saturating_duration_since(last));
            }
        }
        if self.cancelled_at.is_some() && head.seq > self.cancelled_at {
            figures.add(Count::TokensAfterCancel, tokens);
        }
    }

    fn ended(&mut self, kind: EndKind, now: Now, figures: &mut Figures) {
        self.end = Some(Some(kind));
        figures.count(match kind {
            EndKind::Completed => Count::Completed,
            EndKind::Failed => Count::Failed,
            EndKind::Cancelled => Count::Cancelled,
            EndKind::Timeout => Count::TimedOut,
        });
        if let (EndKind::Cancelled, Some(due)) = (kind, self.cancel) {
            figures.time(Timing::CancelStop, now.instant.saturating_duration_since(due));
        }
    }

    /// The acknowledgement of a cancel came.
    pub fn cancel_acknowledged(&mut self, frame: &[u8]) {
        self.cancelled_at = self.cancelled_at.or_else(|| number_field(frame, "seq"));
    }
}

/// What a terminal event says.
fn ended(kind: &[u8]) -> Option<EndKind> {
    Some(match kind {
        b"task_completed" => EndKind::Completed,
        b"task_failed" => EndKind::Failed,
        b"task_cancelled" => EndKind::Cancelled,
        b"task_timeout" => EndKind::Timeout,
        _ => return None,
    })
}
