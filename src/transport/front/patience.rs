//! How long a connection may do nothing. hyper bounds the time between requests; this bounds the time from the first byte of a
//! request to its whole head, and the time a peer may leave an answer unread.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    rt::{Read, Write},
    server::conn::http1::UpgradeableConnection,
    service::HttpService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::unread::Instead;

/// The two bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) head: Duration,
    pub(super) stall: Duration,
}

/// What one connection is doing, noted by its socket and its requests and read by [`drive`]; all in one task, so plain loads and
/// stores are enough. Times are milliseconds since the connection began, plus one; 0 is "not now".
#[derive(Debug)]
pub(super) struct Watch {
    patience: Patience,
    began: Instant,
    head_since: AtomicU64,
    blocked_since: AtomicU64,
    answering: AtomicUsize,
}

impl Watch {
    /// The first head is awaited from now on.
    pub(super) fn new(patience: Patience) -> Arc<Self> {
        let watch = Self {
            patience,
            began: Instant::now(),
            head_since: AtomicU64::new(1),
            blocked_since: AtomicU64::new(0),
            answering: AtomicUsize::new(0),
        };
        Arc::new(watch)
    }

    /// A head is whole; its answer is being made and written until the result is dropped.
    pub(super) fn answering(self: &Arc<Self>) -> Answering {
        self.head_since.store(0, Relaxed);
        self.answering.fetch_add(1, Relaxed);
        Answering(Arc::clone(self))
    }

    fn read(&self) {
        if self.answering.load(Relaxed) == 0 && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    fn wrote(&self, progress: bool) {
        let blocked = self.blocked_since.load(Relaxed) != 0;
        if progress && blocked {
            self.blocked_since.store(0, Relaxed);
        } else if !progress && !blocked {
            self.blocked_since.store(self.now(), Relaxed);
        }
    }

    fn now(&self) -> u64 {
        // A connection of 500 million years does not fit.
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn deadline(&self) -> Option<Instant> {
        let at = |since: u64, patience: Duration| (since != 0).then(|| self.began + Duration::from_millis(since) + patience);
        let head = at(self.head_since.load(Relaxed), self.patience.head);
        let stall = at(self.blocked_since.load(Relaxed), self.patience.stall);
        head.into_iter().chain(stall).min()
    }
}

/// Drives a connection to its end: its own, a deadline's, or the drain's.
pub(super) async fn drive<I, B, S>(
    connection: UpgradeableConnection<I, S>,
    watch: Arc<Watch>,
    stop: CancellationToken,
    cut: CancellationToken,
) where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: Read + Write + Unpin + Send + 'static,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut connection = pin!(connection);
    let mut timer = pin!(sleep_until(watch.began));
    let mut stopped = pin!(stop.cancelled());
    let mut cut_off = pin!(cut.cancelled());
    let mut draining = false;
    poll_fn(|cx| {
        if cut_off.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !draining && stopped.as_mut().poll(cx).is_ready() {
            draining = true;
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(result) = connection.as_mut().poll(cx) {
            if let Err(error) = result {
                tracing::trace!(%error, "a connection broke off");
            }
            return Poll::Ready(());
        }
        let Some(deadline) = watch.deadline() else { return Poll::Pending };
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx)
    })
    .await;
}

/// Held while a request is being answered.
#[derive(Debug)]
pub(super) struct Answering(Arc<Watch>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answering.fetch_sub(1, Relaxed);
    }
}

/// The body of an answer, which is over when it is dropped.
#[derive(Debug)]
pub(super) struct Counted<B> {
    inner: B,
    _answering: Answering,
}

impl<B> Counted<B> {
    pub(super) fn new(inner: B, answering: Answering) -> Self {
        Self { inner, _answering: answering }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A socket that notes what happens on it.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    watch: Arc<Watch>,
    instead: Instead,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, watch: Arc<Watch>) -> Self {
        Self { stream, watch, instead: Instead::default() }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.watch.read();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let result = this.instead.poll_write(&mut this.stream, cx, bytes);
        self.watch.wrote(result.is_ready());
        result
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let [bytes] = slices {
            return self.poll_write(cx, bytes);
        }
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch.wrote(result.is_ready());
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
