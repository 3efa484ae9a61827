//! What is measured of one server at one number of sessions.

use std::time::Duration;

use serde::Serialize;
use tokio::time::sleep;

use super::{
    crowd::{Crowd, PACE},
    dialect::Peer,
    say,
    server::{Places, Server},
};
use crate::{
    figure::percentile,
    process::{Process, Stopwatch},
};

/// Tokens per answer at most; no window is long enough to use them up.
const ENDLESS: usize = 1_000_000;
/// Answers before the measured ones, so that nobody is measured while it compiles itself.
const WARM_UP: usize = 20;
/// How long cancels may take to be acknowledged; a server that is behind takes its time.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(20);
/// How long tokens may follow a cancel that they are counted.
const AFTER_A_CANCEL: Duration = Duration::from_millis(1500);

/// What one server came to. Figures that a server cannot have are absent.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Found {
    /// Which.
    pub(super) peer: Peer,
    /// At how many sessions.
    pub(super) sessions: usize,
    /// Tokens a second, as fast as it goes.
    pub(super) saturated: f64,
    /// CPU per thousand tokens then, in milliseconds.
    pub(super) saturated_cpu_ms: f64,
    /// Share of its core the load used then. Near 1 the load and the vendor are what was measured.
    pub(super) client_cpu: f64,
    /// Tokens a second that came of those due at 50 a second and session.
    pub(super) paced: f64,
    /// CPU per thousand tokens then, in milliseconds.
    pub(super) paced_cpu_ms: f64,
    /// From the making of a token to its arrival then, in milliseconds.
    pub(super) delay_p50_ms: f64,
    /// See `delay_p50_ms`.
    pub(super) delay_p99_ms: f64,
    /// From submit to the first token, all at once, the model's time taken off, in milliseconds.
    pub(super) first_p50_ms: f64,
    /// See `first_p50_ms`.
    pub(super) first_p99_ms: f64,
    /// Resident KiB per session, while all stream at pace.
    pub(super) rss_kib: f64,
    /// From cancel to its acknowledgement, in milliseconds; 20,000 where none came in that time.
    pub(super) cancel_p99_ms: Option<f64>,
    /// Token frames behind the acknowledgement, in the second and a half after the last one.
    pub(super) after_cancel: Option<u64>,
    /// Answers that failed.
    pub(super) failed: u64,
}

impl Found {
    /// Of a server that was not measured yet.
    pub(super) const fn nothing(peer: Peer) -> Self {
        Self {
            peer,
            sessions: 0,
            saturated: 0.0,
            saturated_cpu_ms: 0.0,
            client_cpu: 0.0,
            paced: 0.0,
            paced_cpu_ms: 0.0,
            delay_p50_ms: 0.0,
            delay_p99_ms: 0.0,
            first_p50_ms: 0.0,
            first_p99_ms: 0.0,
            rss_kib: 0.0,
            cancel_p99_ms: None,
            after_cancel: None,
            failed: 0,
        }
    }
}

/// Everything, with two processes of the server: one at the pace of a model, one as fast as it goes.
pub(super) async fn measure(places: &Places, peer: Peer, sessions: usize, window: Duration) -> anyhow::Result<Found> {
    let mut found = paced(places, peer, sessions, window).await?;
    let (rate, cpu_ms, client, failed) = saturated(places, peer, sessions, window).await?;
    (found.saturated, found.saturated_cpu_ms, found.client_cpu) = (rate, cpu_ms, client);
    found.failed += failed;
    Ok(found)
}

async fn warm_up(peer: Peer, server: &Server) -> anyhow::Result<()> {
    let mut crowd = Crowd::open(peer, server.address, WARM_UP).await?;
    crowd.follow();
    for _ in 0..3 {
        crowd.tally.borrow_mut().reset();
        crowd.submit("/pace 1 /tokens 100", Duration::ZERO).await?;
        anyhow::ensure!(
            crowd.wait(Duration::from_secs(60), |tally| tally.seen.iter().all(|seen| seen.ended + seen.failed > 0)).await,
            "no end"
        );
    }
    Ok(())
}

async fn paced(places: &Places, peer: Peer, sessions: usize, window: Duration) -> anyhow::Result<Found> {
    let server = Server::start(peer, places).await?;
    warm_up(peer, &server).await?;
    let before = server.process.rss_kib()?;
    let mut crowd = Crowd::open(peer, server.address, sessions).await?;
    crowd.follow();
    // All at once: the first tokens.
    let sent = crowd.submit("/pace 20 /tokens 25 /stamp", Duration::ZERO).await?;
    crowd.wait(Duration::from_secs(60), |tally| tally.seen.iter().all(|seen| seen.ended + seen.failed > 0)).await;
    let mut firsts: Vec<f64> = {
        let tally = crowd.tally.borrow();
        let late = |(sent, seen): (&u64, &super::crowd::Seen)| {
            let first = seen.first_token.unwrap_or(u64::MAX / 2);
            first.saturating_sub(*sent) as f64 / 1e6 - PACE.as_secs_f64() * 1e3
        };
        sent.iter().zip(&tally.seen).map(late).collect()
    };
    firsts.sort_by(f64::total_cmp);
    // Spread over a second: the pace.
    crowd.submit(&format!("/pace 20 /tokens {ENDLESS} /stamp"), Duration::from_secs(1)).await?;
    sleep(Duration::from_secs(1)).await;
    crowd.tally.borrow_mut().reset();
    let watch = Stopwatch::start(server.process)?;
    sleep(window).await;
    let (elapsed, cpu) = watch.stop()?;
    let tokens = crowd.tally.borrow().tokens as f64;
    anyhow::ensure!(tokens > 0.0, "{}: no token arrived", peer.name());
    let rss_kib = server.process.rss_kib()?.saturating_sub(before) as f64 / sessions as f64;
    let (delay_p50_ms, delay_p99_ms) = {
        let tally = crowd.tally.borrow();
        let at = |share: f64| tally.delay.value_at_quantile(share) as f64 / 1e6;
        (at(0.5), at(0.99))
    };
    let failed = failures(peer, &crowd);
    let (cancel_p99_ms, after_cancel) = cancels(&crowd).await?;
    Ok(Found {
        sessions,
        paced: tokens / elapsed.as_secs_f64(),
        paced_cpu_ms: cpu.as_secs_f64() * 1e6 / tokens,
        delay_p50_ms,
        delay_p99_ms,
        first_p50_ms: percentile(&firsts, 0.5),
        first_p99_ms: percentile(&firsts, 0.99),
        rss_kib,
        cancel_p99_ms,
        after_cancel,
        failed,
        ..Found::nothing(peer)
    })
}

async fn cancels(crowd: &Crowd) -> anyhow::Result<(Option<f64>, Option<u64>)> {
    let sent = crowd.cancel(Duration::from_secs(1)).await?;
    if !crowd.acknowledges() {
        return Ok((None, None));
    }
    crowd.wait(ACKNOWLEDGED_WITHIN, |tally| tally.seen.iter().all(|seen| seen.acked.is_some())).await;
    sleep(AFTER_A_CANCEL).await;
    let tally = crowd.tally.borrow();
    // What was not acknowledged by now took at least as long.
    let longest = ACKNOWLEDGED_WITHIN.as_secs_f64() * 1e3;
    let took = |(sent, seen): (&u64, &super::crowd::Seen)| seen.acked.map_or(longest, |acked| acked.saturating_sub(*sent) as f64 / 1e6);
    let mut acked: Vec<f64> = sent.iter().zip(&tally.seen).map(took).collect();
    acked.sort_by(f64::total_cmp);
    Ok((Some(percentile(&acked, 0.99)), Some(tally.seen.iter().map(|seen| seen.after_ack).sum())))
}

/// Tokens a second, CPU per thousand of them in milliseconds, the load's share of its core, and answers that failed.
pub(super) async fn saturated(places: &Places, peer: Peer, sessions: usize, window: Duration) -> anyhow::Result<(f64, f64, f64, u64)> {
    let server = Server::start(peer, places).await?;
    warm_up(peer, &server).await?;
    let crowd = Crowd::open(peer, server.address, sessions).await?;
    crowd.submit(&format!("/pace 0 /tokens {ENDLESS}"), Duration::ZERO).await?;
    crowd.read_rounds(Duration::from_secs(30), |tally| tally.seen.iter().all(|seen| seen.first_token.is_some())).await?;
    crowd.read_rounds(window / 4, |_| false).await?;
    crowd.tally.borrow_mut().reset();
    let (watch, own) = (Stopwatch::start(server.process)?, Stopwatch::start(Process(std::process::id()))?);
    crowd.read_rounds(window, |_| false).await?;
    let ((elapsed, cpu), (_, client)) = (watch.stop()?, own.stop()?);
    let failed = failures(peer, &crowd);
    let tokens = crowd.tally.borrow().tokens as f64;
    anyhow::ensure!(tokens > 0.0, "{}: no token arrived", peer.name());
    let seconds = elapsed.as_secs_f64();
    Ok((tokens / seconds, cpu.as_secs_f64() * 1e6 / tokens, client.as_secs_f64() / seconds, failed))
}

/// How many answers failed so far. What the first of them said is told at once: a table has no place for it.
fn failures(peer: Peer, crowd: &Crowd) -> u64 {
    let tally = crowd.tally.borrow();
    if let Some(first) = &tally.first_failure {
        say(&format!("{}: {} answers failed, the first with {first}", peer.name(), tally.failed));
    }
    tally.failed
}
