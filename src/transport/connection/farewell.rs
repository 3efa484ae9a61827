//! Closing so that the peer hears why.

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::{CloseFrame, frame::coding::CloseCode as WireCode},
};

/// What a peer may go on sending while it is being closed.
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Sends a close frame and waits for the peer's; answers it where the peer was first.
pub(super) async fn say_close<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>, code: u16, reason: &'static str) {
    let frame = CloseFrame { code: WireCode::from(code), reason: reason.into() };
    // Refused where the peer was first: the answer to its frame is ready then, and only has to go out.
    if socket.close(Some(frame)).await.is_err() && SinkExt::flush(socket).await.is_err() {
        return;
    }
    // It may have ended before this, with what it was closed for.
    while let Some(Ok(_)) = socket.next().await {}
    linger(socket.get_mut()).await;
}

/// Reads away what the peer is still sending: to close over unread bytes would reset the connection, and the peer would lose the
/// close frame that says why.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    let mut unread = vec![0; 8 * 1024];
    let mut left = LINGER_BYTES;
    if stream.shutdown().await.is_err() {
        return;
    }
    while let Ok(read @ 1..) = stream.read(&mut unread).await {
        left = left.saturating_sub(read);
        if left == 0 {
            return;
        }
    }
}
