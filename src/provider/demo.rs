//! The built-in offline provider: deterministic, no I/O, and able to show every feature of the hub on demand.
//!
//! What it answers depends only on the request (`/stamp`, which tells the time, excepted). Without directives it gives a friendly
//! answer about what was asked. **Directives** may stand anywhere in the last message of a person, several at once, in any order:
//!
//! | directive | effect |
//! |---|---|
//! | `/pace <ms>` | milliseconds per token, fractions allowed; default 20; `/pace 0`: as fast as it can |
//! | `/tokens <n>` | the answer has exactly `n` tokens (at most 1,000,000) |
//! | `/echo <text>` | the answer is exactly `<text>`, word by word; the text ends at the next directive or the end of the message |
//! | `/stamp` | every token is the time it was made, in nanoseconds since 1970, and a space; 50 tokens unless `/tokens` says otherwise |
//! | `/reason [n]` | `n` tokens of reasoning first (at most 10,000); default 12 |
//! | `/tool <name> [json object]` | calls the tool, then answers with its result; several are called one after another |
//! | `/ask <question>` | calls the tool `ask_user` with `{"question": …}`, then answers with what the person said |
//! | `/steps <n>` | `n` tool calls one after another (at most 100): of the tool of `/tool`, else of the first one offered that takes a `query`, else of `web_search` |
//! | `/fail [status] [after <n>]` | fails with the status (default 500), after `n` tokens of the answer if given |
//! | `/hang [n]` | falls silent for ever after `n` tokens of the answer; default 5 |
//!
//! Tools come first: `/fail`, `/hang`, `/echo`, `/tokens` and `/stamp` shape the answer that follows them. A tool is called whether or
//! not it was offered. `maxOutputTokens` (or `maxTokens`) cuts the answer like a vendor does. Usage counts words. Where the answer is to
//! fit a JSON Schema, and no directive shapes it, it is a value that does.

mod directives;
mod plan;
mod sample;

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::Stream;
use tokio::{
    task::coop,
    time::{Instant, Sleep, sleep_until},
};

use self::plan::{Part, Plan, Words};
use super::{CallEnd, ModelEvent, ModelProvider, ModelRequest, ModelStream, ProviderError, ProviderErrorKind};

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct DemoProvider {
    pace: Duration,
}

impl DemoProvider {
    /// The time per token when a prompt does not say.
    pub const DEFAULT_PACE: Duration = Duration::from_millis(20);

    /// A provider that takes `pace` per token unless a prompt says otherwise.
    pub fn new(pace: Duration) -> Self {
        DemoProvider { pace }
    }
}

impl Default for DemoProvider {
    fn default() -> Self {
        DemoProvider::new(Self::DEFAULT_PACE)
    }
}

impl ModelProvider for DemoProvider {
    fn name(&self) -> &str {
        "demo"
    }

    fn default_model(&self) -> &str {
        "demo"
    }

    /// What could make another model answer otherwise makes no difference here, so nothing is left out by not heeding it.
    fn knows_option(&self, _: &str) -> bool {
        true
    }

    fn call(&self, request: ModelRequest) -> ModelStream {
        let plan = Plan::of(&request);
        Box::pin(Performance {
            pace: plan.pace.unwrap_or(self.pace),
            parts: plan.parts,
            end: CallEnd { input_tokens: plan.input_words, output_tokens: 0, truncated: plan.truncated },
            in_part: 0,
            ticks: 0,
            started: None,
            timer: None,
        })
    }
}

/// A plan being carried out.
///
/// The n-th token is due at `started + n × pace`, whatever happened before, so that n tokens take n × pace without drift: a reader
/// that was slow gets what was due meanwhile at once. With pace 0 there is no timer at all.
struct Performance {
    pace: Duration,
    parts: VecDeque<Part>,
    end: CallEnd,
    /// Tokens of the current part already given.
    in_part: usize,
    /// Tokens and calls already given.
    ticks: u32,
    started: Option<Instant>,
    /// Made once, reset for every token.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Performance {
    /// Waits until the next token is due.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.pace.is_zero() {
            // The task is made to yield now and then; without this a fast stream would keep its thread to itself.
            let proceed = ready!(coop::poll_proceed(cx));
            proceed.made_progress();
            return Poll::Ready(());
        }
        let started = *self.started.get_or_insert_with(Instant::now);
        let due = started + self.pace * self.ticks.saturating_add(1);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx)
    }

    /// The next token of words; `None` if there are none left.
    fn token(words: &Words, index: usize) -> Option<String> {
        (index < words.len()).then(|| match words {
            Words::Stamps(_) => format!("{} ", nanos_since_epoch()),
            Words::Text(text) => text.word(index),
        })
    }

    fn tick(&mut self) {
        self.ticks = self.ticks.saturating_add(1);
        self.end.output_tokens += 1;
    }
}

impl Stream for Performance {
    type Item = Result<ModelEvent, ProviderError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match this.parts.front() {
                None => return Poll::Ready(None),
                Some(Part::Hang) => return Poll::Pending,
                Some(Part::Fail(status)) => {
                    let error = failure(*status);
                    this.parts.clear();
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Part::End) => {
                    this.parts.clear();
                    return Poll::Ready(Some(Ok(ModelEvent::End(this.end))));
                }
                Some(Part::Call(_)) => {
                    ready!(this.poll_due(cx));
                    this.tick();
                    let Some(Part::Call(call)) = this.parts.pop_front() else { continue };
                    return Poll::Ready(Some(Ok(ModelEvent::ToolCall(call))));
                }
                Some(Part::Reasoning(words) | Part::Text(words)) if this.in_part >= words.len() => {
                    this.parts.pop_front();
                    this.in_part = 0;
                }
                Some(Part::Reasoning(_) | Part::Text(_)) => {
                    ready!(this.poll_due(cx));
                    let event = match this.parts.front() {
                        Some(Part::Reasoning(words)) => Self::token(words, this.in_part).map(ModelEvent::Reasoning),
                        Some(Part::Text(words)) => Self::token(words, this.in_part).map(ModelEvent::Text),
                        _ => None,
                    };
                    this.in_part += 1;
                    this.tick();
                    if let Some(event) = event {
                        return Poll::Ready(Some(Ok(event)));
                    }
                }
            }
        }
    }
}

fn failure(status: u16) -> ProviderError {
    ProviderError {
        kind: ProviderErrorKind::Status(status),
        message: format!("demo answered with status {status}, as the prompt asked"),
        retry_after: (status == 429).then_some(Duration::from_secs(1)),
    }
}

fn nanos_since_epoch() -> u128 {
    // A clock before 1970 shows as 0.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

#[cfg(test)]
mod tests;
