//! One session, many readers: what a delivery costs, against a server that only broadcasts.

use std::time::Duration;

use agent_hub_protocol::SessionId;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use tokio::time::sleep;

use super::{
    fleet::Fleet,
    memory::member,
    server::{Kind, Programs, Server},
};
use crate::{process::Stopwatch, token, wire::Wire};

/// What a fan-out came to.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct FanOut {
    /// Server CPU per delivery, in microseconds.
    pub(super) cpu_us: f64,
    /// From stamp to read, in milliseconds.
    pub(super) p50_ms: f64,
    /// See `p50_ms`.
    pub(super) p99_ms: f64,
    /// Share of the tokens due that came; 0 if the server closed a socket.
    pub(super) kept: f64,
}

/// Tokens a second.
const RATE: f64 = 100.0;

/// One speaker at a hundred tokens a second, so many readers.
///
/// # Errors
/// The server does not start, or breaks.
pub(super) async fn fan_out(programs: &Programs, kind: Kind, readers: usize, window: Duration) -> anyhow::Result<FanOut> {
    let server = Server::start(programs, kind, &[]).await?;
    let token = token::mint("bench")?;
    let session = SessionId::random();
    let follow = |command: &'static str| {
        let (address, token) = (server.address, token.as_str());
        async move {
            let wire = Wire::connect(address, token).await?;
            wire.send(&format!(r#"{{"type":"{command}","sessionId":"{session}"}}"#)).await?;
            wire.until(|frame| frame.starts_with(br#"{"type":"caught_up""#)).await?;
            anyhow::Ok(member(wire, session))
        }
    };
    // The speaker listens too, like a person who sees his own answer.
    let mut members = vec![follow("create_session").await?];
    members.extend(stream::iter(1..readers).map(|_| follow("attach_session")).buffer_unordered(64).try_collect::<Vec<_>>().await?);
    let mut fleet = Fleet::of(members)?;
    fleet.follow();
    let speaker = &fleet.members[0];
    let prompt = "/pace 10 /tokens 1000000 /stamp /broadcast";
    let text = format!(r#"{{"type":"submit_task","sessionId":"{session}","taskId":"{}","prompt":"{prompt}"}}"#, speaker.task);
    speaker.wire.send(&text).await?;
    sleep(Duration::from_secs(2)).await;
    {
        let mut tally = fleet.tally.borrow_mut();
        tally.stamped = true;
        tally.reset();
    }
    let watch = Stopwatch::start(server.process)?;
    sleep(window).await;
    let (elapsed, cpu) = watch.stop()?;
    let tally = fleet.tally.borrow();
    anyhow::ensure!(tally.events > 0, "no token arrived from {}", kind.name());
    Ok(FanOut {
        cpu_us: cpu.as_secs_f64() * 1e6 / tally.events as f64,
        p50_ms: tally.latency_us(50.0) / 1e3,
        p99_ms: tally.latency_us(99.0) / 1e3,
        kept: tally.kept(elapsed.as_secs_f64() * RATE * readers as f64),
    })
}
