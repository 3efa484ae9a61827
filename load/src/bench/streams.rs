//! Streams of tokens: as fast as they go, and at the pace of a model.

use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::sleep;

use super::{
    fleet::Fleet,
    server::{Kind, Programs, Server},
};
use crate::{
    figure::percentile,
    process::{Process, Stopwatch},
};

/// Tokens per session at most; no window is long enough to use them up.
const ENDLESS: usize = 1_000_000;

/// One measurement.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Streamed {
    /// What was measured.
    pub(super) server: Kind,
    /// How many sessions streamed.
    pub(super) sessions: usize,
    /// Model tokens that arrived, per second.
    pub(super) tokens_per_s: f64,
    /// The same per `token` event.
    pub(super) tokens_per_event: f64,
    /// Server CPU per model token, in microseconds.
    pub(super) cpu_us: f64,
    /// Share of its core the server used, in percent.
    pub(super) server_cpu: f64,
    /// Share of its core the client used, in percent. Near 100 the client is what was measured.
    pub(super) client_cpu: f64,
    /// Share of the tokens due that came; 0 if the server closed a socket, 1 where nothing is due.
    pub(super) kept: f64,
    /// From the stamp at the source to the read, microseconds; 0 without stamps.
    pub(super) p50_us: f64,
    /// See `p50_us`.
    pub(super) p99_us: f64,
}

/// As fast as it goes. The demo provider is the source in the hub; the bare server sends one text over and over.
///
/// # Errors
/// The server does not start, or breaks.
pub(super) async fn saturated(programs: &Programs, kind: Kind, sessions: usize, window: Duration) -> anyhow::Result<Streamed> {
    // A few sessions share what a core can do, so their answers are over sooner.
    let window = if sessions < 50 { window.min(Duration::from_secs(2)) } else { window };
    // No answer ends within the window, so nothing but tokens is measured.
    let long = ("AGENT_HUB_RUNTIME__ANSWER_BYTES", "64 MiB".to_owned());
    let server = Server::start(programs, kind, &[long, room_for(sessions)]).await?;
    let fleet = Fleet::open(&server, sessions).await?;
    fleet.submit(&format!("/pace 0 /tokens {ENDLESS}"), Duration::ZERO).await?;
    fleet.read_rounds(Duration::from_secs(20), |tally| tally.seen.iter().all(|seen| seen.first_token.is_some())).await?;
    fleet.read_rounds(window / 4, |_| false).await?;
    fleet.tally.borrow_mut().reset();
    let watch = Watch::start(&server)?;
    fleet.read_rounds(window, |_| false).await?;
    watch.stop(&fleet, kind, None)
}

/// Connections a hub must allow.
fn room_for(sessions: usize) -> (&'static str, String) {
    ("AGENT_HUB_SERVER__MAX_CONNECTIONS", (sessions + 200).max(1000).to_string())
}

/// Fifty tokens a second per session, out of phase, stamped at the source (by the bare server just before writing).
///
/// # Errors
/// The server does not start, or breaks.
pub(super) async fn paced(programs: &Programs, kind: Kind, sessions: usize, window: Duration) -> anyhow::Result<Streamed> {
    paced_at(programs, kind, sessions, Duration::from_millis(20), window).await
}

/// The same at another pace.
///
/// # Errors
/// As [`paced`].
pub(super) async fn paced_at(
    programs: &Programs,
    kind: Kind,
    sessions: usize,
    pace: Duration,
    window: Duration,
) -> anyhow::Result<Streamed> {
    let server = Server::start(programs, kind, &[room_for(sessions)]).await?;
    let mut fleet = Fleet::open(&server, sessions).await?;
    fleet.follow();
    let spread = pace.max(Duration::from_secs(1));
    fleet.submit(&format!("/pace {} /tokens {ENDLESS} /stamp", pace.as_secs_f64() * 1e3), spread).await?;
    sleep(spread).await;
    {
        let mut tally = fleet.tally.borrow_mut();
        tally.stamped = true;
        tally.reset();
    }
    let watch = Watch::start(&server)?;
    sleep(window).await;
    watch.stop(&fleet, kind, Some(pace))
}

/// From submit to the first token at `sessions` submits at once, the model's 20 ms taken off: median and 99th percentile in milliseconds.
///
/// # Errors
/// The server does not start, or breaks.
pub(super) async fn first_token(programs: &Programs, kind: Kind, sessions: usize) -> anyhow::Result<(f64, f64)> {
    let server = Server::start(programs, kind, &[]).await?;
    let mut fleet = Fleet::open(&server, sessions).await?;
    fleet.follow();
    let sent = fleet.submit("/pace 20 /tokens 50 /stamp", Duration::ZERO).await?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline && !fleet.tally.borrow().seen.iter().all(|seen| seen.first_token.is_some()) {
        sleep(Duration::from_millis(5)).await;
    }
    let tally = fleet.tally.borrow();
    let late = |(sent, seen): (&u64, &super::fleet::Seen)| {
        let first = seen.first_token.unwrap_or(u64::MAX / 2);
        first.saturating_sub(*sent) as f64 / 1e6 - 20.0
    };
    let mut waits: Vec<f64> = sent.iter().zip(&tally.seen).map(late).collect();
    waits.sort_by(f64::total_cmp);
    Ok((percentile(&waits, 0.5), percentile(&waits, 0.99)))
}

/// CPU of server and client over a window.
struct Watch {
    server: Stopwatch,
    client: Stopwatch,
}

impl Watch {
    fn start(server: &Server) -> anyhow::Result<Self> {
        Ok(Self { client: Stopwatch::start(Process(std::process::id()))?, server: Stopwatch::start(server.process)? })
    }

    /// `pace`: between two tokens of a session.
    fn stop(&self, fleet: &Fleet, server: Kind, pace: Option<Duration>) -> anyhow::Result<Streamed> {
        let (elapsed, cpu) = self.server.stop()?;
        let (_, client) = self.client.stop()?;
        let tally = fleet.tally.borrow();
        let (tokens, seconds) = (tally.tokens as f64, elapsed.as_secs_f64());
        anyhow::ensure!(tally.tokens > 0, "no token arrived from {}", server.name());
        Ok(Streamed {
            server,
            sessions: fleet.members.len(),
            tokens_per_s: tokens / seconds,
            tokens_per_event: tokens / tally.events.max(1) as f64,
            cpu_us: cpu.as_secs_f64() * 1e6 / tokens,
            server_cpu: cpu.as_secs_f64() / seconds * 100.0,
            client_cpu: client.as_secs_f64() / seconds * 100.0,
            kept: pace.map_or(1.0, |pace| tally.kept(seconds / pace.as_secs_f64() * fleet.members.len() as f64)),
            p50_us: tally.latency_us(50.0),
            p99_us: tally.latency_us(99.0),
        })
    }
}
