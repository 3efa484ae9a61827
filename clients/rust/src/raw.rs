//! One WebSocket, without memory of what went over it.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Sink, Stream};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, client_async_with_config,
    tungstenite::{
        Error, Message, Utf8Bytes,
        client::ClientRequestBuilder,
        http::Uri,
        protocol::{CloseFrame, WebSocketConfig},
    },
};

use crate::{ConnectError, Target};

/// Bytes a socket takes up while nothing happens on it, and the largest message it reads.
#[derive(Clone, Copy, Debug)]
pub struct SocketSizes {
    /// Read at once.
    pub read_buffer: usize,
    /// Written at once.
    pub write_buffer: usize,
    /// Larger messages break the connection.
    pub message: usize,
}

impl Default for SocketSizes {
    /// 4 KiB each: enough for one client, and small enough for ten thousand. A snapshot may be larger than what the hub takes.
    fn default() -> Self {
        Self { read_buffer: 4 * 1024, write_buffer: 4 * 1024, message: 16 * 1024 * 1024 }
    }
}

/// A connection to a hub: what is sent goes out as written, what comes in is handed out as it came.
#[derive(Debug)]
pub struct RawConnection {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    flushed: bool,
}

/// What came.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    /// A message.
    Text(Utf8Bytes),
    /// A ping, a pong or something this protocol has no use for: a sign of life.
    Life,
    /// The end, with the close code if there was one. Nothing comes after it.
    Closed(Option<u16>),
}

impl RawConnection {
    /// Connects and shakes hands. The hub's `welcome` is the first message; a refused token shows as [`Received::Closed`].
    ///
    /// # Errors
    /// [`ConnectError`], as far as the handshake.
    pub async fn connect(target: &Target, token: &str, sizes: SocketSizes) -> Result<Self, ConnectError> {
        let stream = TcpStream::connect(&target.authority).await?;
        Self::over(stream, target, token, sizes).await
    }

    /// The same over a stream that is connected already, for example from a chosen source address.
    ///
    /// # Errors
    /// As [`RawConnection::connect`].
    pub async fn over(stream: TcpStream, target: &Target, token: &str, sizes: SocketSizes) -> Result<Self, ConnectError> {
        stream.set_nodelay(true)?;
        #[cfg(feature = "tls")]
        let stream = crate::tls::wrap(stream, target, None).await?;
        #[cfg(not(feature = "tls"))]
        let stream = MaybeTlsStream::Plain(stream);
        Self::shake_hands(stream, target, token, sizes).await
    }

    /// The same, trusting whom this configuration trusts. It counts for `wss://` only.
    ///
    /// # Errors
    /// As [`RawConnection::connect`].
    #[cfg(feature = "tls")]
    pub async fn connect_trusting(
        target: &Target,
        token: &str,
        sizes: SocketSizes,
        tls: Option<std::sync::Arc<rustls::ClientConfig>>,
    ) -> Result<Self, ConnectError> {
        let stream = TcpStream::connect(&target.authority).await?;
        stream.set_nodelay(true)?;
        let stream = crate::tls::wrap(stream, target, tls).await?;
        Self::shake_hands(stream, target, token, sizes).await
    }

    async fn shake_hands(
        stream: MaybeTlsStream<TcpStream>,
        target: &Target,
        token: &str,
        sizes: SocketSizes,
    ) -> Result<Self, ConnectError> {
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConnectError::Token);
        }
        let scheme = if target.secure { "wss" } else { "ws" };
        let uri = format!("{scheme}://{}/ws/agents", target.authority).parse::<Uri>();
        let uri = uri.map_err(|error| ConnectError::Handshake(Box::new(Error::HttpFormat(error.into()))))?;
        let request = ClientRequestBuilder::new(uri)
            .with_header("Authorization", format!("Bearer {token}"))
            .with_sub_protocol(agent_hub_protocol::Version::LATEST.subprotocol());
        let config = WebSocketConfig::default()
            .read_buffer_size(sizes.read_buffer)
            .write_buffer_size(sizes.write_buffer)
            .max_message_size(Some(sizes.message))
            .max_frame_size(Some(sizes.message));
        match client_async_with_config(request, stream, Some(config)).await {
            Ok((socket, _)) => Ok(Self { socket, flushed: true }),
            Err(Error::Http(response)) => Err(ConnectError::Refused(response.status().as_u16())),
            Err(Error::Io(error)) => Err(ConnectError::Io(error)),
            Err(error) => Err(ConnectError::Handshake(Box::new(error))),
        }
    }

    /// Where it comes from.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.socket.get_ref().get_ref().local_addr()
    }

    /// Puts a message in line. It goes out while [`RawConnection::next`] is waited for, so that neither end can block the other;
    /// [`RawConnection::flush`] sends it at once. A broken connection shows in `next`.
    pub fn queue(&mut self, text: &str) {
        self.flushed = false;
        // The only failures are those of a connection that `next` is about to report.
        let _ = Pin::new(&mut self.socket).start_send(Message::Text(text.into()));
    }

    /// Sends what is in line.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn flush(&mut self) -> std::io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await.map_err(std::io::Error::other)
    }

    /// What comes next.
    ///
    /// # Cancel safety
    /// Safe: nothing is taken off the socket before it is returned.
    pub async fn next(&mut self) -> Received {
        poll_fn(|cx| {
            // An error shows again when reading.
            let _ = self.poll_flush(cx);
            Pin::new(&mut self.socket).poll_next(cx).map(received)
        })
        .await
    }

    /// Says goodbye, without waiting for the answer.
    pub async fn close(mut self) {
        let _ = self.socket.close(None).await;
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.flushed {
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.socket).poll_flush(cx);
        self.flushed = polled.is_ready();
        polled
    }
}

fn received(item: Option<Result<Message, Error>>) -> Received {
    match item {
        Some(Ok(Message::Text(text))) => Received::Text(text),
        Some(Ok(Message::Close(frame))) => Received::Closed(frame.map(|CloseFrame { code, .. }| code.into())),
        Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Received::Life,
        Some(Err(_)) | None => Received::Closed(None),
    }
}
