//! An echo server made of the hub's WebSocket parts, for the conformance suite: `agent-hub-load soak autobahn`.
//!
//! Messages may be larger here than the hub takes them, because the suite's largest have 16 MiB.

use std::{io::Write as _, time::Duration};

use agent_hub::transport::connection::{SocketSettings, websocket_config};
use futures::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{accept_async_with_config, tungstenite::protocol::WebSocketConfig};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    // The first line is for whoever started it and wants to know the port.
    writeln!(std::io::stdout(), "ws://{}", listener.local_addr()?)?;
    std::io::stdout().flush()?;
    let config = websocket_config(&SocketSettings {
        heartbeat: Duration::from_secs(20),
        stall_timeout: Duration::from_secs(30),
        window: 256 * 1024,
        message_bytes: 32 * 1024 * 1024,
        attached_sessions: 1,
        message_rate: None,
        max_age: Duration::from_secs(3600),
    });
    loop {
        let (stream, _) = listener.accept().await?;
        drop(tokio::spawn(async move {
            // Broken connections are what the suite is about.
            let _ = echo(stream, config).await;
        }));
    }
}

async fn echo(stream: TcpStream, config: WebSocketConfig) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    stream.set_nodelay(true)?;
    let mut socket = accept_async_with_config(stream, Some(config)).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}
