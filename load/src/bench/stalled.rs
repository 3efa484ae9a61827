//! A reader that reads nothing, beside a hundred that do, on one session.

use std::time::{Duration, Instant};

use agent_hub_protocol::SessionId;
use serde::Serialize;
use tokio::{net::TcpSocket, time::sleep};

use super::{
    fleet::Fleet,
    memory::member,
    server::{Kind, Programs, Server},
};
use crate::{token, wire::Wire};

/// What the readers beside it saw.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Beside {
    /// From stamp to read, microseconds.
    pub(super) p50_us: f64,
    /// See `p50_us`.
    pub(super) p99_us: f64,
    /// Share of the tokens due that came to them; 0 if the hub closed one of their sockets.
    pub(super) kept: f64,
    /// What the hub grew by meanwhile, in KiB.
    pub(super) grown_kib: u64,
}

/// Tokens a second.
const RATE: f64 = 100.0;

/// One session at 100 tokens a second, read by `readers` sockets, and by one more that is never read.
///
/// # Errors
/// The hub does not start, or breaks.
pub(super) async fn beside(programs: &Programs, readers: usize, stalled: bool, window: Duration) -> anyhow::Result<Beside> {
    let server = Server::start(programs, Kind::Sqlite, &[]).await?;
    let token = token::mint("bench")?;
    let session = SessionId::random();
    let mut members = Vec::new();
    for index in 0..readers + usize::from(stalled) {
        let wire = if index < readers { Wire::connect(server.address, &token).await? } else { narrow(&server, &token).await? };
        let command = if index == 0 { "create_session" } else { "attach_session" };
        wire.send(&format!(r#"{{"type":"{command}","sessionId":"{session}"}}"#)).await?;
        wire.until(|frame| frame.starts_with(br#"{"type":"caught_up""#)).await?;
        members.push(member(wire, session));
    }
    let mut fleet = Fleet::of(members)?;
    (0..readers).for_each(|index| fleet.follow_one(index));
    let before = server.process.rss_kib()?;
    let first = &fleet.members[0];
    // A hundred events of 250 bytes a second: the narrow socket is full within seconds.
    let text =
        format!(r#"{{"type":"submit_task","sessionId":"{session}","taskId":"{}","prompt":"/pace 10 /tokens 1000000 /stamp"}}"#, first.task);
    first.wire.send(&text).await?;
    sleep(Duration::from_secs(4)).await;
    {
        let mut tally = fleet.tally.borrow_mut();
        tally.stamped = true;
        tally.reset();
    }
    let begun = Instant::now();
    sleep(window).await;
    let tally = fleet.tally.borrow();
    let grown_kib = server.process.rss_kib()?.saturating_sub(before);
    let kept = tally.kept(begun.elapsed().as_secs_f64() * RATE * readers as f64);
    Ok(Beside { kept, p50_us: tally.latency_us(50.0), p99_us: tally.latency_us(99.0), grown_kib })
}

/// A socket with the smallest receive buffer there is.
async fn narrow(server: &Server, token: &str) -> anyhow::Result<Wire> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(2048)?;
    Wire::upgrade(socket.connect(server.address).await?, token).await
}
