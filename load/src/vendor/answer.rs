//! The body of an answer, made as it is sent.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use serde_json::{Value, json};
use tokio::{
    task::coop,
    time::{Instant, Sleep, sleep_until},
};

use super::{Fault, Outcome, Script, ScriptedCall, anthropic, calls::Tracked, openai, server::Ask};
use crate::rng::Rng;

const FILLER: [&str; 12] =
    ["Once ", "upon ", "a ", "midnight ", "dreary, ", "while ", "I ", "pondered, ", "weak ", "and ", "weary, ", "über "];

/// Long enough for what was sent before to leave, so that a cut comes after it and not instead of it.
const BEFORE_A_CUT: Duration = Duration::from_millis(30);

/// How a vendor writes an answer down.
pub(super) enum Dialect {
    OpenAi(openai::Writer),
    Anthropic(anthropic::Writer),
}

impl Dialect {
    fn open(&mut self, id: u64, input_tokens: usize) -> String {
        match self {
            Dialect::OpenAi(writer) => writer.open(id),
            Dialect::Anthropic(writer) => writer.open(id, input_tokens),
        }
    }

    fn reasoning(&mut self, text: &str) -> String {
        match self {
            Dialect::OpenAi(writer) => writer.delta(&json!({ "reasoning_content": text })),
            Dialect::Anthropic(writer) => writer.reasoning(text),
        }
    }

    fn text(&mut self, text: &str) -> String {
        match self {
            Dialect::OpenAi(writer) => writer.text(text),
            Dialect::Anthropic(writer) => writer.text(text),
        }
    }

    /// `place` is the call's number in this answer.
    fn call(&mut self, place: usize, id: &str, call: &ScriptedCall) -> String {
        match self {
            Dialect::OpenAi(writer) => writer.call(place, id, call),
            Dialect::Anthropic(writer) => writer.call(id, call),
        }
    }

    fn close(&mut self, end: &End) -> String {
        match self {
            Dialect::OpenAi(writer) => writer.close(end),
            Dialect::Anthropic(writer) => writer.close(end),
        }
    }

    pub(super) fn error_body(&self, status: u16) -> Value {
        match self {
            Dialect::OpenAi(_) => openai::error_body(status),
            Dialect::Anthropic(_) => anthropic::error_body(status),
        }
    }

    fn error_event(&self) -> String {
        match self {
            Dialect::OpenAi(_) => format!("data: {}\n\n", openai::error_body(500)),
            Dialect::Anthropic(_) => format!("event: error\ndata: {}\n\n", anthropic::error_body(529)),
        }
    }
}

/// What the last events say.
pub(super) struct End {
    pub(super) input_tokens: usize,
    pub(super) output_tokens: usize,
    pub(super) truncated: bool,
    pub(super) called: bool,
}

pub(super) struct Answer {
    script: Script,
    ask: Ask,
    tracked: Tracked,
    burst: usize,
    /// Tokens of text to send, after all limits.
    tokens: usize,
    /// The words of an echo.
    words: Vec<String>,
    step: Step,
    ticks: u32,
    started: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Set while the answer drips: the pause, and what is made but not sent.
    drip: Option<(Duration, Bytes)>,
    drip_due: Option<Instant>,
}

#[derive(Clone, Copy)]
enum Step {
    Open,
    Reasoning(usize),
    Text(usize),
    Calls,
    Close,
    Silent,
    /// The connection is cut at the given time.
    CutAt(Instant),
    /// So many bytes of one line are missing.
    LongLine(usize),
    Comments(usize),
    Done,
}

impl Answer {
    pub(super) fn new(mut script: Script, ask: Ask, tracked: Tracked, burst: usize) -> Self {
        let mut words = Vec::new();
        if let Some(echo) = script.echo.take() {
            words.extend(echo.split_inclusive(' ').map(str::to_owned));
            script.tokens = words.len();
        }
        let asks_for_call = script.calls.get(ask.results).is_some();
        let wanted = if asks_for_call { 0 } else { script.tokens };
        let tokens = wanted.min(ask.max_tokens.unwrap_or(usize::MAX));
        Answer {
            script,
            ask,
            tracked,
            burst,
            tokens,
            words,
            step: Step::Open,
            ticks: 0,
            started: None,
            timer: None,
            drip: None,
            drip_due: None,
        }
    }

    /// The next bytes at the time they are due; `None` at the end.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            let text = match self.step {
                Step::Open => {
                    self.step = Step::Reasoning(0);
                    self.ask.dialect.open(self.tracked.number(), self.ask.input_tokens)
                }
                Step::Reasoning(sent) if sent >= self.script.reasoning => {
                    self.step = Step::Text(0);
                    continue;
                }
                Step::Reasoning(sent) => {
                    ready!(self.poll_due(cx));
                    self.step = Step::Reasoning(sent + 1);
                    self.sent_token();
                    self.ask.dialect.reasoning(FILLER[sent % FILLER.len()])
                }
                Step::Text(sent) if self.script.fault.as_ref().is_some_and(|(_, after)| *after == sent) => match self.begin_fault(sent) {
                    Some(bytes) => return Poll::Ready(Some(Ok(bytes))),
                    None => continue,
                },
                Step::Text(sent) if sent >= self.tokens => {
                    self.step = Step::Calls;
                    continue;
                }
                Step::Text(sent) => {
                    ready!(self.poll_due(cx));
                    let end = self.burst_end(sent);
                    self.step = Step::Text(end);
                    let mut text = String::new();
                    for index in sent..end {
                        self.sent_token();
                        let token = self.token(index);
                        text += &self.ask.dialect.text(&token);
                    }
                    text
                }
                Step::Calls => {
                    self.step = Step::Close;
                    self.calls()
                }
                Step::Close => {
                    self.step = Step::Done;
                    self.close()
                }
                Step::Silent => return Poll::Pending,
                Step::CutAt(at) => {
                    ready!(self.poll_timer(cx, at));
                    self.tracked.end(Outcome::Cut);
                    self.step = Step::Done;
                    return Poll::Ready(Some(Err(io::Error::other("cut by the script"))));
                }
                Step::LongLine(0) => {
                    self.step = Step::Close;
                    "\n\n".to_owned()
                }
                Step::LongLine(missing) => {
                    let part = missing.min(64 * 1024);
                    self.step = Step::LongLine(missing - part);
                    "x".repeat(part)
                }
                Step::Comments(missing) => {
                    let lines = missing.min(64 * 1024).div_ceil(16);
                    let missing = missing.saturating_sub(lines * 16);
                    self.step = if missing == 0 { Step::Close } else { Step::Comments(missing) };
                    ": keep waiting.\n".repeat(lines)
                }
                Step::Done => {
                    self.tracked.end(Outcome::Finished);
                    return Poll::Ready(None);
                }
            };
            if !text.is_empty() {
                return Poll::Ready(Some(Ok(text.into())));
            }
        }
    }

    /// Waits until the next token is due: at `started + n × pace`, however late the one before was.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.script.pace.is_zero() {
            // Lets other connections have a turn.
            ready!(coop::poll_proceed(cx)).made_progress();
            return Poll::Ready(());
        }
        let started = *self.started.get_or_insert_with(Instant::now);
        let due = started + self.script.pace * (self.ticks.saturating_add(1));
        let due = due + self.script.pace.mul_f64(self.lateness());
        ready!(self.poll_timer(cx, due));
        self.ticks = self.ticks.saturating_add(1);
        Poll::Ready(())
    }

    /// How much later than its pace says the next token comes, in paces. Counted from its place, so that nothing adds up.
    fn lateness(&self) -> f64 {
        if self.script.jitter == 0.0 {
            return 0.0;
        }
        // The same for the same call and token, however often it is polled.
        let share = Rng::new(self.tracked.number()).child(u64::from(self.ticks)).fraction();
        self.script.jitter * share
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx)
    }

    /// Up to which token this write goes: one, or without a pace some more, but not past a fault.
    fn burst_end(&self, sent: usize) -> usize {
        if !self.script.pace.is_zero() {
            return sent + 1;
        }
        let fault = self.script.fault.as_ref().map_or(usize::MAX, |(_, after)| if *after > sent { *after } else { usize::MAX });
        (sent + self.burst.max(1)).min(self.tokens).min(fault).max(sent + 1)
    }

    fn sent_token(&self) {
        self.tracked.token_sent();
    }

    fn token(&self, index: usize) -> String {
        if self.script.stamp {
            return format!("{} ", SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos());
        }
        self.words.get(index).cloned().unwrap_or_else(|| FILLER[index % FILLER.len()].to_owned())
    }

    /// Starts what goes wrong; some faults begin with bytes of their own.
    fn begin_fault(&mut self, sent: usize) -> Option<Bytes> {
        let (fault, _) = self.script.fault.take()?;
        let cut_at = Step::CutAt(Instant::now() + BEFORE_A_CUT);
        let (step, bytes): (Step, Bytes) = match fault {
            Fault::Hang => (Step::Silent, Bytes::new()),
            Fault::Cut => (cut_at, Bytes::new()),
            Fault::CutInsideToken => {
                let event = self.ask.dialect.text("interrupted");
                (cut_at, event.as_bytes()[..event.len() / 2].to_vec().into())
            }
            Fault::CutInsideCharacter => {
                let event = self.ask.dialect.text("→");
                let inside = event.find('→').map_or(event.len(), |at| at + 1);
                (cut_at, event.as_bytes()[..inside].to_vec().into())
            }
            Fault::EndEarly => (Step::Done, Bytes::new()),
            Fault::BrokenJson => (Step::Text(sent), "data: {\"choices\":[{\"delta\":{\"con\n\n".into()),
            Fault::GarbageLine => (Step::Text(sent), "Segmentation fault (core dumped)\n\n".into()),
            Fault::NotUtf8 => (Step::Text(sent), Bytes::from_static(b"data: \"\xff\xfe\"\n\n")),
            Fault::ErrorEvent => (cut_at, self.ask.dialect.error_event().into()),
            Fault::LongLine(bytes) => (Step::LongLine(bytes), "data: ".into()),
            Fault::Comments(bytes) => (Step::Comments(bytes), Bytes::new()),
            Fault::Drip(pause) => {
                self.drip = Some((pause, Bytes::new()));
                // Something has to be sent whole here, and a comment means nothing.
                (Step::Text(sent), ": slowly\n".into())
            }
            // These were dealt with before the headers.
            Fault::Status(..) | Fault::EndlessError(_) | Fault::HangBeforeHeaders | Fault::CutBeforeHeaders | Fault::WebPage => {
                (Step::Text(sent), Bytes::new())
            }
        };
        self.step = step;
        (!bytes.is_empty()).then_some(bytes)
    }

    fn calls(&mut self) -> String {
        let due = if self.script.parallel { 0..self.script.calls.len() } else { self.ask.results..self.ask.results + 1 };
        if self.ask.results >= self.script.calls.len() {
            return String::new();
        }
        let mut text = String::new();
        for (place, index) in due.enumerate() {
            let id = format!("call_{}_{index}", self.tracked.number());
            text += &self.ask.dialect.call(place, &id, &self.script.calls[index]);
        }
        text
    }

    fn close(&mut self) -> String {
        let called = self.ask.results < self.script.calls.len();
        let end = End {
            input_tokens: self.ask.input_tokens,
            output_tokens: self.script.reasoning + self.tokens,
            truncated: !called && self.tokens < self.script.tokens,
            called,
        };
        self.ask.dialect.close(&end)
    }

    /// One byte at a time.
    fn poll_drip(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            let Some((pause, unsent)) = &self.drip else { return self.poll_bytes(cx) };
            let pause = *pause;
            if unsent.is_empty() {
                match ready!(self.poll_bytes(cx)) {
                    Some(Ok(bytes)) => self.drip = Some((pause, bytes)),
                    other => return Poll::Ready(other),
                }
                continue;
            }
            let due = *self.drip_due.get_or_insert_with(|| Instant::now() + pause);
            ready!(self.poll_timer(cx, due));
            self.drip_due = None;
            if let Some((_, unsent)) = &mut self.drip {
                return Poll::Ready(Some(Ok(unsent.split_to(1))));
            }
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let bytes = if self.drip.is_some() { ready!(self.poll_drip(cx)) } else { ready!(self.poll_bytes(cx)) };
        Poll::Ready(bytes.map(|bytes| bytes.map(Frame::data)))
    }
}
