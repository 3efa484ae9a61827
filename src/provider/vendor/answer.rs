//! The answer of a vendor, from the request on its way to the last event.

use std::{
    collections::VecDeque,
    io::ErrorKind,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream::BoxStream};
use reqwest::{
    RequestBuilder, Response,
    header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER},
};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};
use tokio::{
    task::coop,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    VendorConfig,
    sse::{SseError, SseReader},
};
use crate::provider::{ModelEvent, ProviderError, ProviderErrorKind};

/// Translates the events of one answer.
pub(crate) trait Dialect: Send + Unpin + 'static {
    /// Adds what the event means to `out`; [`ModelEvent::End`] when it was the last.
    fn on_event(&mut self, event: &str, data: &str, out: &mut VecDeque<ModelEvent>) -> Result<(), WireError>;

    /// The vendor closed the stream properly but without its last word. Adds an end if the answer is whole all the same.
    fn on_close(&mut self, _out: &mut VecDeque<ModelEvent>) {}
}

/// Why an event could not be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireError {
    /// Not the vendor's format. What it is, without quoting it.
    Garbage(&'static str),
    /// The vendor reports a failure inside the stream, which would have been this status outside.
    Vendor(u16),
}

impl From<SseError> for WireError {
    fn from(error: SseError) -> Self {
        WireError::Garbage(match error {
            SseError::TooLong => "a line that does not end",
            SseError::NotUtf8 => "text that is not UTF-8",
            SseError::UnknownField => "a line that belongs to no event",
        })
    }
}

/// Reads an answer. Dropping it drops the connection.
pub(super) struct Answer<D> {
    vendor: &'static str,
    /// How long silence may last now: long before the first line, shorter after it.
    patience: Duration,
    idle_timeout: Duration,
    bytes_left: usize,
    phase: Phase,
    reader: SseReader,
    dialect: D,
    /// Translated and not yet taken. At most what one chunk of the network holds: nothing is read while something is here.
    ready: VecDeque<ModelEvent>,
    /// Follows what is ready.
    failed: Option<ProviderError>,
    /// When silence becomes an error; `None` while nobody waits, because time the reader takes is not the vendor's. Only whole lines
    /// (and the head of the answer) end a silence.
    deadline: Option<Instant>,
    /// Moved only when it fires or has to fire earlier, so that progress costs nothing.
    timer: Option<Pin<Box<Sleep>>>,
}

enum Phase {
    Sending(BoxFuture<'static, reqwest::Result<Response>>),
    Reading(BoxStream<'static, reqwest::Result<Bytes>>),
    Done,
}

impl<D: Dialect> Answer<D> {
    pub(super) fn new(vendor: &'static str, config: &VendorConfig, request: RequestBuilder, dialect: D) -> Self {
        Answer {
            vendor,
            patience: config.first_byte_timeout,
            idle_timeout: config.idle_timeout,
            bytes_left: config.max_answer_bytes,
            phase: Phase::Sending(request.send().boxed()),
            reader: SseReader::new(config.max_line_bytes),
            dialect,
            ready: VecDeque::new(),
            failed: None,
            deadline: None,
            timer: None,
        }
    }

    /// Makes one step towards the next event.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.phase {
            Phase::Sending(sending) => match sending.as_mut().poll(cx) {
                Poll::Ready(Ok(response)) => self.on_response(response),
                Poll::Ready(Err(error)) => self.fail(unsent(self.vendor, &error)),
                Poll::Pending => return self.poll_silence(cx),
            },
            Phase::Reading(body) => {
                // A fast vendor must not keep the thread to itself.
                let proceed = ready!(coop::poll_proceed(cx));
                match body.as_mut().poll_next(cx) {
                    Poll::Ready(chunk) => {
                        proceed.made_progress();
                        self.on_chunk(chunk);
                    }
                    Poll::Pending => return self.poll_silence(cx),
                }
            }
            Phase::Done => {}
        }
        Poll::Ready(())
    }

    fn on_response(&mut self, response: Response) {
        let status = response.status();
        if !status.is_success() {
            // The body is not read: it may be endless, and it is for nobody's eyes.
            return self.fail(refused(self.vendor, status.as_u16(), response.headers()));
        }
        let content_type = response.headers().get(CONTENT_TYPE).map(|value| value.as_bytes());
        if content_type.is_some_and(|value| !value.starts_with(b"text/event-stream")) {
            return self.fail(garbage(self.vendor, "something other than an event stream"));
        }
        self.deadline = None;
        self.phase = Phase::Reading(response.bytes_stream().boxed());
    }

    fn on_chunk(&mut self, chunk: Option<reqwest::Result<Bytes>>) {
        match chunk {
            Some(Ok(bytes)) => self.on_bytes(&bytes),
            Some(Err(_)) => self.fail(cut(self.vendor)),
            None => {
                self.dialect.on_close(&mut self.ready);
                if !matches!(self.ready.back(), Some(ModelEvent::End(_))) {
                    self.fail(cut(self.vendor));
                }
            }
        }
    }

    fn on_bytes(&mut self, bytes: &[u8]) {
        let Some(bytes_left) = self.bytes_left.checked_sub(bytes.len()) else {
            return self.fail(garbage(self.vendor, "an answer that does not end"));
        };
        self.bytes_left = bytes_left;
        let (dialect, ready) = (&mut self.dialect, &mut self.ready);
        let fed = self.reader.feed(bytes, |event, data| {
            // What follows the end in the same chunk is nobody's business.
            if matches!(ready.back(), Some(ModelEvent::End(_))) { Ok(()) } else { dialect.on_event(event, data, ready) }
        });
        match fed {
            Ok(true) => {
                self.patience = self.idle_timeout;
                self.deadline = None;
            }
            Ok(false) => {}
            // The answer is whole; what came after it does not matter.
            Err(_) if matches!(self.ready.back(), Some(ModelEvent::End(_))) => {}
            Err(WireError::Garbage(what)) => self.fail(garbage(self.vendor, what)),
            Err(WireError::Vendor(status)) => self.fail(refused(self.vendor, status, &HeaderMap::new())),
        }
    }

    /// Nothing to do but wait, and not for ever. Ready once the waiting was too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + self.patience);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            // Patience is shorter after the first line.
            if timer.deadline() > deadline {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                break;
            }
            timer.as_mut().reset(deadline);
        }
        self.fail(ProviderError {
            kind: ProviderErrorKind::Timeout,
            message: format!("{} did not answer in time", self.vendor),
            retry_after: None,
        });
        Poll::Ready(())
    }

    fn fail(&mut self, error: ProviderError) {
        // Also closes the connection.
        self.phase = Phase::Done;
        self.failed = Some(error);
    }
}

impl<D: Dialect> Stream for Answer<D> {
    type Item = Result<ModelEvent, ProviderError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(event) = this.ready.pop_front() {
                this.deadline = None;
                if matches!(event, ModelEvent::End(_)) {
                    this.phase = Phase::Done;
                    this.failed = None;
                }
                return Poll::Ready(Some(Ok(event)));
            }
            if let Some(error) = this.failed.take() {
                return Poll::Ready(Some(Err(error)));
            }
            if matches!(this.phase, Phase::Done) {
                return Poll::Ready(None);
            }
            ready!(this.poll_step(cx));
        }
    }
}

/// The request got no answer. The error's own text names the URL, so it is not passed on.
fn unsent(vendor: &str, error: &reqwest::Error) -> ProviderError {
    let (kind, what) = if error.is_builder() {
        (ProviderErrorKind::Config, "cannot be asked with this configuration")
    } else if error.is_timeout() || is_io_timeout(error) {
        (ProviderErrorKind::Timeout, "could not be reached in time")
    } else if error.is_connect() {
        (ProviderErrorKind::Connection, "could not be reached")
    } else {
        (ProviderErrorKind::Connection, "closed the connection before answering")
    };
    ProviderError { kind, message: format!("{vendor} {what}"), retry_after: None }
}

/// Whether the operating system gave up connecting before we did.
fn is_io_timeout(error: &reqwest::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == ErrorKind::TimedOut) {
            return true;
        }
        source = cause.source();
    }
    false
}

fn refused(vendor: &str, status: u16, headers: &HeaderMap) -> ProviderError {
    let why = match status {
        400 | 413 | 422 => ": it does not accept the request",
        401 => ": it does not accept the API key",
        402 => ": the account has run out of credit",
        403 => ": it does not permit the request",
        404 => ": it does not know the model or the address",
        429 => ": too many requests",
        529 => ": it is overloaded",
        _ => "",
    };
    ProviderError {
        kind: ProviderErrorKind::Status(status),
        message: format!("{vendor} answered with status {status}{why}"),
        retry_after: retry_after(headers, OffsetDateTime::now_utc()),
    }
}

fn garbage(vendor: &str, what: &str) -> ProviderError {
    ProviderError { kind: ProviderErrorKind::Garbage, message: format!("{vendor} sent {what}"), retry_after: None }
}

fn cut(vendor: &str) -> ProviderError {
    ProviderError { kind: ProviderErrorKind::Connection, message: format!("{vendor} broke off before the answer ended"), retry_after: None }
}

/// Seconds, milliseconds in a header of their own, or a date.
fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let seconds = |text: &str, per_second: f64| {
        let seconds = text.parse::<f64>().ok()? / per_second;
        // More than a day is a vendor's mistake, or as good as never.
        (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(86_400.0)))
    };
    if let Some(wait) = text("retry-after-ms").and_then(|text| seconds(text, 1000.0)) {
        return Some(wait);
    }
    let value = text(RETRY_AFTER.as_str())?;
    seconds(value, 1.0).or_else(|| {
        let date = OffsetDateTime::parse(value, &Rfc2822).ok()?;
        Duration::try_from(date - now).ok()
    })
}

#[cfg(test)]
mod tests {
    // Failing loudly is what a test is for.
    #![allow(clippy::unwrap_used, clippy::panic)]

    use time::macros::datetime;

    use super::*;

    #[test]
    fn retry_after_has_three_spellings() {
        let now = datetime!(2026-01-02 03:04:05 UTC);
        let wait = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(wait("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("retry-after", "0.5"), Some(Duration::from_millis(500)));
        assert_eq!(wait("retry-after-ms", "250"), Some(Duration::from_millis(250)));
        assert_eq!(wait("retry-after", "Fri, 02 Jan 2026 03:04:35 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(wait("retry-after", "Fri, 02 Jan 2026 03:04:00 GMT"), None);
        for senseless in ["soon", "-1", "NaN", ""] {
            assert_eq!(wait("retry-after", senseless), None, "{senseless}");
        }
        assert_eq!(wait("retry-after", "1e300"), Some(Duration::from_secs(86_400)));
    }
}
