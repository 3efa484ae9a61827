//! A request that cannot be read at all is answered by hyper itself: with a status, and no way to give it a body. Its answer is recognised
//! on its way to the socket, and one in the shape of every other refusal is written in its place.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use agent_hub_protocol::ErrorCode;
use axum::http::StatusCode;
use tokio::io::AsyncWrite;

use crate::transport::Problem;

/// The answer that is being written in place of hyper's, and how much of it is.
#[derive(Debug, Default)]
pub(super) struct Instead(Option<(Vec<u8>, usize)>);

impl Instead {
    /// Writes `bytes`, which hyper wants written, or what stands in their place; then as if it had been `bytes`.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(&mut self, to: &mut S, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.0.is_none() {
            self.0 = refusal(bytes).map(|problem| (whole_answer(&problem), 0));
        }
        let Some((answer, written)) = &mut self.0 else { return Pin::new(to).poll_write(cx, bytes) };
        while *written < answer.len() {
            match ready!(Pin::new(&mut *to).poll_write(cx, &answer[*written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => *written += more,
            }
        }
        self.0 = None;
        Poll::Ready(Ok(bytes.len()))
    }
}

/// What hyper refuses with these bytes, if that is what they are. The hub's own answers of these statuses always have a body.
fn refusal(bytes: &[u8]) -> Option<Problem> {
    let status = bytes.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let (code, status, text) = match status {
        b"400" => (ErrorCode::InvalidMessage, StatusCode::BAD_REQUEST, "The request cannot be read"),
        b"414" => (ErrorCode::PayloadTooLarge, StatusCode::URI_TOO_LONG, "The address is too long"),
        b"431" => (ErrorCode::PayloadTooLarge, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "The header fields are too many or too large"),
        _ => return None,
    };
    let head = std::str::from_utf8(bytes).ok()?;
    let is_all = head.find("\r\n\r\n") == head.len().checked_sub(4);
    (is_all && head.contains("\r\ncontent-length: 0\r\n")).then(|| Problem::new(code, text).with_status(status))
}

fn whole_answer(problem: &Problem) -> Vec<u8> {
    let id = uuid::Uuid::new_v4().to_string();
    let (status, body) = (problem.status(), problem.body(&id));
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\nx-request-id: {id}\r\n\
         x-content-type-options: nosniff\r\ncache-control: no-store\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat()
}
