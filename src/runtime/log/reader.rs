//! A cursor on a log: reads from a position, then follows. Holds no queue of its own.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use agent_hub_protocol::{Epoch, Seq, SessionId};
use futures::future::BoxFuture;
use metrics::histogram;

use super::tail::{Behind, LogEvent, Tail, TailEnd};
use crate::store::{Page, SharedStore, StoreError, StoredEvent};

/// Bytes of wire text one read of the store brings into memory.
const PAGE: Page = Page { events: 1024, bytes: 128 * 1024 };

/// One reader of one session. Every transport reads through this and nothing else.
pub struct Reader {
    session: SessionId,
    epoch: Epoch,
    last: Seq,
    tail: Arc<Tail>,
    store: SharedStore,
    page: Option<BoxFuture<'static, Result<Vec<StoredEvent>, StoreError>>>,
    place: usize,
}

/// Why a reader has no next event.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// Nothing more will come; see [`TailEnd`].
    #[error("the log ends here")]
    End(TailEnd),
    /// The store could not be read; the position is unchanged and the read may be tried again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Reader {
    /// Joins `tail` at the position behind `last`.
    pub(crate) fn join(session: SessionId, epoch: Epoch, last: Seq, tail: Arc<Tail>, store: SharedStore) -> Self {
        let place = tail.join();
        Self { session, epoch, last, tail, store, page: None, place }
    }

    /// Whose log.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Which incarnation of it.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The last event that was taken.
    pub fn position(&self) -> Seq {
        self.last
    }

    /// Takes the next events into `out`: those that are there, up to about `max_bytes` but at least one; from memory where they are,
    /// otherwise from the store. Pending at the head until more come.
    ///
    /// # Errors
    /// [`ReadError`]; nothing was taken.
    pub fn poll_next(&mut self, cx: &mut Context<'_>, max_bytes: usize, out: &mut Vec<LogEvent>) -> Poll<Result<(), ReadError>> {
        loop {
            if let Some(page) = &mut self.page {
                let Poll::Ready(result) = page.as_mut().poll(cx) else { return Poll::Pending };
                self.page = None;
                let events = result?;
                let Some(last) = events.last().map(|e| e.seq) else {
                    // The tail says there is more than the store has: the log was taken away under us.
                    return Poll::Ready(Err(ReadError::End(TailEnd::Lost)));
                };
                self.last = last;
                out.extend(events.into_iter().map(|e| LogEvent { seq: e.seq, text: e.text }));
                return Poll::Ready(Ok(()));
            }
            let before = out.len();
            match self.tail.poll_take(self.place, self.last, max_bytes, out, cx.waker()) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(end)) => return Poll::Ready(Err(ReadError::End(end))),
                Poll::Ready(Ok(Behind::Taken)) => {
                    self.last = out[before..].last().map_or(self.last, |e| e.seq);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(Behind::Older(lag))) => {
                    histogram!("agent_hub_reader_lag_events").record(lag as f64);
                    let page = Page { bytes: PAGE.bytes.min(max_bytes.max(1)), ..PAGE };
                    self.page = Some(self.store.read(self.session, self.last, page));
                }
            }
        }
    }

    /// [`Reader::poll_next`] as a future.
    ///
    /// # Errors
    /// [`ReadError`]; nothing was taken.
    ///
    /// # Cancel safety
    /// Safe: events are taken only when it returns.
    pub async fn next(&mut self, max_bytes: usize, out: &mut Vec<LogEvent>) -> Result<(), ReadError> {
        poll_fn(|cx| self.poll_next(cx, max_bytes, out)).await
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.tail.leave(self.place);
    }
}
