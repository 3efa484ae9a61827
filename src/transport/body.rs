//! Bodies of requests: bounded in size, and in time from the head to the last byte.

use std::{
    error::Error as _,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use agent_hub_protocol::ErrorCode;
use axum::{body::Body, http::StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Sleep;

use super::problem::Problem;

/// How much more than it may is read from a client before it is told so. A client that is still writing hears nothing.
const READ_ON: usize = 8 * 1024 * 1024;

/// A body that ends in an error once it is too large or too slow.
pub struct BoundedBody<B> {
    inner: B,
    limit: usize,
    read: usize,
    deadline: Pin<Box<Sleep>>,
}

/// Why a body was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// More bytes than the limit.
    TooLarge,
    /// Not whole in time.
    TooSlow,
    /// The client broke off, or sent something that is no HTTP.
    Broken,
}

impl<B> BoundedBody<B> {
    /// At most `limit` bytes within `time`, from now.
    pub fn new(inner: B, limit: usize, time: Duration) -> Self {
        Self { inner, limit, read: 0, deadline: Box::pin(tokio::time::sleep(time)) }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for BoundedBody<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Some(Err(BodyError::TooSlow)));
            }
            let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
            let over = self.read > self.limit;
            match frame {
                None if over => return Poll::Ready(Some(Err(BodyError::TooLarge))),
                None => return Poll::Ready(None),
                Some(Err(_)) => return Poll::Ready(Some(Err(BodyError::Broken))),
                Some(Ok(frame)) => {
                    self.read += frame.data_ref().map_or(0, Bytes::len);
                    if self.read > self.limit + READ_ON {
                        return Poll::Ready(Some(Err(BodyError::TooLarge)));
                    }
                    if self.read <= self.limit {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read <= self.limit && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The whole body.
///
/// # Errors
/// 413, 408, or 400 when the client broke off.
pub async fn whole(body: Body) -> Result<Bytes, Problem> {
    body.collect().await.map(http_body_util::Collected::to_bytes).map_err(|error| {
        let mut cause = error.source();
        while let Some(inner) = cause {
            if let Some(error) = inner.downcast_ref::<BodyError>() {
                return error.problem();
            }
            cause = inner.source();
        }
        BodyError::Broken.problem()
    })
}

impl BodyError {
    /// What the client is told.
    pub fn problem(self) -> Problem {
        match self {
            BodyError::TooLarge => Problem::new(ErrorCode::PayloadTooLarge, "Request body too large"),
            BodyError::TooSlow => {
                Problem::new(ErrorCode::InvalidMessage, "The request body did not arrive in time").with_status(StatusCode::REQUEST_TIMEOUT)
            }
            BodyError::Broken => Problem::new(ErrorCode::InvalidMessage, "The request body broke off"),
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BodyError::TooLarge => "the body is too large",
            BodyError::TooSlow => "the body did not arrive in time",
            BodyError::Broken => "the body broke off",
        })
    }
}

impl std::error::Error for BodyError {}
