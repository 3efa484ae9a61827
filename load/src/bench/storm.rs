//! Everybody comes back at once.

use std::time::{Duration, Instant};

use agent_hub_protocol::{SessionId, TaskId};
use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    fleet::Fleet,
    memory::member,
    server::{Kind, Programs, SERVER_CORE, Server},
};
use crate::{
    process::{Hub, HubOptions},
    token,
    wire::{Wire, number_field},
};

/// A log of a hundred events: these tokens and what is around them.
const HUNDRED_EVENTS: &str = "/pace 2 /tokens 92";
/// Connections being made at the same time; more would only wait in the backlog.
const AT_ONCE: usize = 512;

/// What a storm came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storm {
    /// From the first connect to the last event, in seconds.
    pub(super) seconds: f64,
    /// Events that came.
    pub(super) events: u64,
    /// Clients whose events were not exactly those of the log, in order.
    pub(super) wrong: usize,
}

/// Sockets a second, from connect to `welcome`.
///
/// # Errors
/// The server does not start, or refuses.
pub(super) async fn handshakes(programs: &Programs, kind: Kind, count: usize) -> anyhow::Result<f64> {
    let server = Server::start(programs, kind, &[]).await?;
    let token = token::mint("bench")?;
    let open = |_| async {
        let wire = Wire::connect(server.address, &token).await?;
        wire.until(|frame| frame.starts_with(br#"{"type":"welcome""#)).await?;
        anyhow::Ok(wire)
    };
    let started = Instant::now();
    let wires: Vec<Wire> = stream::iter(0..count).map(open).buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(wires.len() as f64 / started.elapsed().as_secs_f64())
}

/// The bare server has no log: each client asks for a fresh stream of a hundred tokens.
///
/// # Errors
/// The server does not start, or breaks.
pub(super) async fn bare(programs: &Programs, clients: usize) -> anyhow::Result<Storm> {
    let server = Server::start(programs, Kind::Bare, &[]).await?;
    let ask = |_| async {
        let wire = Wire::connect(server.address, "none").await?;
        let (session, task) = (SessionId::random(), TaskId::random());
        let text = format!(r#"{{"type":"submit_task","sessionId":"{session}","taskId":"{task}","prompt":"/pace 0 /tokens 100"}}"#);
        wire.send(&text).await?;
        wire.until(|frame| frame.starts_with(br#"{"type":"task_completed""#)).await?;
        anyhow::Ok(wire)
    };
    let started = Instant::now();
    // All sockets stay, as they would.
    let wires: Vec<Wire> = stream::iter(0..clients).map(ask).buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(Storm { seconds: started.elapsed().as_secs_f64(), events: wires.len() as u64 * 100, wrong: 0 })
}

/// A hub whose clients each replay a log of a hundred events; `cold`: killed and started again before they come.
///
/// # Errors
/// The hub does not start, or breaks.
pub(super) async fn hub(programs: &Programs, clients: usize, cold: bool) -> anyhow::Result<Storm> {
    let options = HubOptions { core: Some(SERVER_CORE), ..HubOptions::new(&programs.hub) };
    let options = if cold { options } else { HubOptions { storage: "memory", ..options } };
    let options = options.with("AGENT_HUB_RUNTIME__TASKS_PER_NODE", 100_000).with("AGENT_HUB_SERVER__MAX_CONNECTIONS", clients + 200);
    let mut hub = Hub::start(options).await?;
    let token = token::mint("bench")?;
    let sessions = write_logs(&hub, &token, clients).await?;
    if cold {
        hub.kill().await?;
        hub.launch().await?;
    }
    let come_back = |(session, epoch): (SessionId, String)| {
        let (address, token) = (hub.address(), token.as_str());
        async move { replay(Wire::connect(address, token).await?, session, &epoch).await }
    };
    let started = Instant::now();
    let back: Vec<(Wire, u64, bool)> = stream::iter(sessions).map(come_back).buffer_unordered(AT_ONCE).try_collect().await?;
    let seconds = started.elapsed().as_secs_f64();
    let events = back.iter().map(|(_, events, _)| events).sum();
    Ok(Storm { seconds, events, wrong: back.iter().filter(|(_, _, right)| !right).count() })
}

/// Sessions with a finished task each, and the epochs of their logs. Their sockets are closed when this returns.
async fn write_logs(hub: &Hub, token: &str, count: usize) -> anyhow::Result<Vec<(SessionId, String)>> {
    let open = |_| async {
        let wire = Wire::connect(hub.address(), token).await?;
        let session = SessionId::random();
        wire.send(&format!(r#"{{"type":"create_session","sessionId":"{session}"}}"#)).await?;
        let epoch = std::cell::RefCell::new(None);
        wire.until(|frame| {
            if frame.starts_with(br#"{"type":"session_attached""#) {
                *epoch.borrow_mut() = epoch_of(frame);
            }
            frame.starts_with(br#"{"type":"caught_up""#)
        })
        .await?;
        anyhow::Ok((wire, session, epoch.into_inner().context("no epoch")?))
    };
    let opened: Vec<_> = stream::iter(0..count).map(open).buffer_unordered(64).try_collect().await?;
    let sessions = opened.iter().map(|(_, session, epoch)| (*session, epoch.clone())).collect();
    let fleet = Fleet::of(opened.into_iter().map(|(wire, session, _)| member(wire, session)).collect())?;
    let spread = Duration::from_micros(500) * u32::try_from(count)?;
    let (submitted, read) = tokio::join!(
        fleet.submit(HUNDRED_EVENTS, spread),
        fleet.read_rounds(spread + Duration::from_secs(60), |tally| tally.seen.iter().all(|seen| seen.terminal > 0))
    );
    submitted?;
    read?;
    Ok(sessions)
}

fn epoch_of(frame: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(frame).ok()?;
    let (_, rest) = text.split_once(r#""epoch":""#)?;
    rest.split('"').next().map(str::to_owned)
}

/// Reads the log from its start to its head; says how many events came, and whether they were all of them, in order.
async fn replay(wire: Wire, session: SessionId, epoch: &str) -> anyhow::Result<(Wire, u64, bool)> {
    wire.send(&format!(r#"{{"type":"attach_session","sessionId":"{session}","after":"{epoch}.0"}}"#)).await?;
    let (last, in_order, head) = (std::cell::Cell::new(0), std::cell::Cell::new(true), std::cell::Cell::new(None));
    wire.until(|frame| {
        if frame.starts_with(br#"{"type":"session_attached""#) {
            head.set(number_field(frame, "head"));
            return false;
        }
        let seq = number_field(frame, "seq");
        if frame.starts_with(br#"{"type":"caught_up""#) {
            return true;
        }
        if let Some(seq) = seq {
            in_order.set(in_order.get() && seq == last.get() + 1);
            last.set(seq);
        }
        false
    })
    .await?;
    Ok((wire, last.get(), in_order.get() && head.get() == Some(last.get())))
}
