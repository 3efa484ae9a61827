//! A liar between the kit and what it tests, for the kit's own tests: a kit that cannot fail is worth nothing.
//!
//! It carries WebSocket messages both ways and hands each to a [`Lie`], which lets it pass, drops it, doubles it or changes it. So a good
//! client looks as if it did not resend, and a good server as if it lost an event. No lie, no difference.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_tungstenite::{
    accept_hdr_async_with_config, client_async_with_config,
    tungstenite::{
        Message,
        client::ClientRequestBuilder,
        handshake::server::{ErrorResponse, Request, Response},
        http::HeaderMap,
        protocol::{CloseFrame, WebSocketConfig},
    },
};

use crate::{driver::DriverCommand, rust_driver};

/// Where something was on its way to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
    /// From the kit to the driver: an order.
    Order,
    /// From the driver to the kit: a report.
    Report,
}

/// What was on its way.
#[derive(Clone, Debug, PartialEq)]
pub enum Thing {
    /// A message, an order or a report.
    Json(Value),
    /// The end of a connection.
    Close(u16),
}

/// What arrives instead. The number counts connections, from 0; orders and reports have 0.
pub type Lie = Arc<dyn Fn(Way, usize, Thing) -> Vec<Thing> + Send + Sync>;

/// A lie that remembers: whatever it is given, it may keep.
pub fn lie<M: Send + 'static>(memory: M, tell: impl Fn(&mut M, Way, usize, Thing) -> Vec<Thing> + Send + Sync + 'static) -> Lie {
    let memory = Mutex::new(memory);
    Arc::new(move |way, connection, thing| tell(&mut memory.lock().unwrap_or_else(PoisonError::into_inner), way, connection, thing))
}

/// Nothing but the truth.
pub fn truth() -> Lie {
    Arc::new(|_, _, thing| vec![thing])
}

/// The Rust client's driver, lied about. Each run has a lie of its own.
pub fn lying_driver(make: impl Fn() -> Lie + Send + Sync + 'static) -> DriverCommand {
    DriverCommand::Here(Arc::new(move |orders, reports| Box::pin(run(make(), orders, reports))))
}

async fn run(lie: Lie, orders: DuplexStream, reports: DuplexStream) -> anyhow::Result<()> {
    const PIPE: usize = 64 * 1024;
    let (mut order_in, order_out) = tokio::io::duplex(PIPE);
    let (report_in, report_out) = tokio::io::duplex(PIPE);
    let mut liars = JoinSet::new();
    let ordering = async {
        let mut lines = BufReader::new(orders).lines();
        while let Some(line) = lines.next_line().await? {
            for thing in lie(Way::Order, 0, Thing::Json(serde_json::from_str(&line)?)) {
                let Thing::Json(mut order) = thing else { continue };
                if let Some(url) = order["url"].as_str() {
                    let (address, lying) = start(url.trim_start_matches("ws://"), lie.clone()).await?;
                    order["url"] = format!("ws://{address}").into();
                    liars.spawn(lying);
                }
                order_in.write_all(format!("{order}\n").as_bytes()).await?;
            }
        }
        drop(order_in);
        anyhow::Ok(())
    };
    let (ordered, driven, reported) =
        tokio::join!(ordering, rust_driver::run(BufReader::new(order_out), report_in), pass_reports(&lie, report_out, reports));
    ordered.and(driven).and(reported)
}

async fn pass_reports(lie: &Lie, from: DuplexStream, mut to: DuplexStream) -> anyhow::Result<()> {
    let mut lines = BufReader::new(from).lines();
    while let Some(line) = lines.next_line().await? {
        for thing in lie(Way::Report, 0, Thing::Json(serde_json::from_str(&line)?)) {
            if let Thing::Json(report) = thing {
                to.write_all(format!("{report}\n").as_bytes()).await.context("writing a report")?;
            }
        }
    }
    Ok(())
}

/// Listens on a free port and lies about whoever listens at `host:port`. The future carries connections as long as it is polled.
///
/// # Errors
/// There is no free port.
pub async fn start(upstream: &str, lie: Lie) -> io::Result<(SocketAddr, impl Future<Output = ()> + Send + use<>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let upstream = upstream.to_owned();
    let serving = async move {
        let mut carried = JoinSet::new();
        let mut connections = 0;
        loop {
            tokio::select! {
                Ok((client, _)) = listener.accept() => {
                    carried.spawn(carry(client, upstream.clone(), lie.clone(), connections));
                    connections += 1;
                }
                Some(_) = carried.join_next() => {}
            }
        }
    };
    Ok((address, serving))
}

/// Carries one connection. Where one side breaks, the other is broken too.
async fn carry(client: TcpStream, upstream: String, lie: Lie, number: usize) -> Option<()> {
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let mut asked = (String::new(), HeaderMap::new());
    #[allow(clippy::result_large_err, reason = "the callback's type is not ours")]
    let look = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        asked = (target.to_owned(), request.headers().clone());
        let offers = |name: &str| {
            request
                .headers()
                .get("sec-websocket-protocol")
                .is_some_and(|offered| offered.to_str().is_ok_and(|offered| offered.contains(name)))
        };
        if offers("agent-hub.v1")
            && let Ok(name) = "agent-hub.v1".parse()
        {
            response.headers_mut().insert("sec-websocket-protocol", name);
        }
        Ok(response)
    };
    let mut client = accept_hdr_async_with_config(client, look, Some(config)).await.ok()?;
    let (target, headers) = asked;
    let mut request = ClientRequestBuilder::new(format!("ws://{upstream}{target}").parse().ok()?);
    if let Some(value) = headers.get("authorization").and_then(|value| value.to_str().ok()) {
        request = request.with_header("Authorization", value);
    }
    let stream = TcpStream::connect(&upstream).await.ok()?;
    let (mut server, _) = client_async_with_config(request, stream, Some(config)).await.ok()?;
    loop {
        let (way, message) = tokio::select! {
            message = client.next() => (Way::Up, message?.ok()?),
            message = server.next() => (Way::Down, message?.ok()?),
        };
        let things = match message {
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(json) => lie(way, number, Thing::Json(json)).into_iter().map(told).collect(),
                Err(_) => vec![Message::Text(text)],
            },
            Message::Close(frame) => {
                let code = frame.map_or(1005, |frame| frame.code.into());
                lie(way, number, Thing::Close(code)).into_iter().map(told).collect()
            }
            other => vec![other],
        };
        for thing in things {
            let ends = matches!(thing, Message::Close(_));
            match way {
                Way::Up => server.send(thing).await.ok()?,
                _ => client.send(thing).await.ok()?,
            }
            if ends {
                // What is on its way to the one who is told is read, so that the close frame is not lost with a reset.
                while let Some(Ok(_)) = client.next().await {}
                return None;
            }
        }
    }
}

fn told(thing: Thing) -> Message {
    match thing {
        Thing::Json(json) => Message::text(json.to_string()),
        // These have no frame of their own.
        Thing::Close(1005 | 1006) => Message::Close(None),
        Thing::Close(code) => Message::Close(Some(CloseFrame { code: code.into(), reason: "".into() })),
    }
}
