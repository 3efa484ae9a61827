//! Clients behind a network that breaks: what each of them applied is what the log says.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::sleep;

use super::{
    Report, Setup, ledger,
    player::{Player, options},
    proxy::ChaosProxy,
};
use crate::{
    process::{Hub, HubOptions},
    rng::Rng,
    token,
};

/// How much.
#[derive(Args, Clone, Debug)]
pub struct Size {
    /// Clients, each with a session that is always at work.
    #[arg(long, default_value_t = 200)]
    pub sessions: usize,
    /// Connections to break.
    #[arg(long, default_value_t = 1000)]
    pub drops: usize,
    /// Of them in a second.
    #[arg(long, default_value_t = 25)]
    pub per_second: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self { sessions: 200, drops: 1000, per_second: 25 }
    }
}

/// Two hundred milliseconds to a second of tokens; short enough that connections break at every stage of a task.
const PROMPT: &str = "/pace 3 /tokens 150";

/// Runs it.
///
/// # Errors
/// The hub does not start, or the log cannot be read.
pub async fn run(setup: &Setup, size: Size) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let hub = Hub::start(HubOptions::new(&setup.hub)).await?;
    let proxy = ChaosProxy::start(hub.address()).await?;
    let token = token::mint("soak")?;
    let join = |_| async { anyhow::Ok(Arc::new(Player::join(options(proxy.address, &token, Duration::from_secs(1))?).await?)) };
    let players: Vec<Arc<Player>> = stream::iter(0..size.sessions).map(join).buffer_unordered(16).try_collect().await?;
    let stop = Arc::new(AtomicBool::new(false));
    let playing: Vec<_> = players
        .iter()
        .cloned()
        .map(|player| {
            let stop = stop.clone();
            tokio::spawn(async move { player.keep_busy(PROMPT, &stop).await })
        })
        .collect();
    let logs = ledger::reader(hub.address(), &token)?;
    let (struck, took) = strike(&proxy, size.drops, size.per_second, &mut Rng::new(setup.seed)).await;
    stop.store(true, Ordering::Relaxed);
    let mut submitted = 0;
    let mut events = 0;
    for (player, playing) in players.iter().zip(playing) {
        let tasks = playing.await?;
        submitted += tasks.len();
        let log = logs.read(player.session).await?;
        player.catch_up(log.texts.len(), Duration::from_secs(15)).await;
        let seen = player.known.seen();
        let missing = ledger::compare(&seen.ledger, player.session, &log, &mut report);
        report.expect(missing == 0, || format!("{}: {missing} events of the log never came", player.session));
        report.expect(seen.forgotten == 0, || format!("{}: {} attaches were not recovered", player.session, seen.forgotten));
        report.violations.extend(seen.wrong.iter().cloned());
        let ends = ledger::check(&log, player.session, &mut report);
        for task in tasks {
            let completed = ends.get(&task).is_some_and(|end| end.terminal == Some("task_completed"));
            report.expect(completed, || format!("{}: task {task} was acknowledged and is not completed", player.session));
        }
        events += log.texts.len();
    }
    let reconnects: u64 = players.iter().map(|player| player.known.seen().reconnects).sum();
    report.expect(struck == size.drops, || format!("only {struck} of {} connections could be broken", size.drops));
    report.fact(format!("{} sessions, {struck} connections broken in {:.0} s ({} made)", size.sessions, took.as_secs_f64(), proxy.made()));
    report.fact(format!("{reconnects} reconnects, {submitted} tasks, {events} events compared"));
    Ok(report)
}

/// Breaks connections at the pace asked for, give or take.
async fn strike(proxy: &ChaosProxy, drops: usize, per_second: u32, rng: &mut Rng) -> (usize, Duration) {
    let started = Instant::now();
    let pause = Duration::from_secs(1) / per_second.max(1);
    let deadline = started + pause * u32::try_from(drops).unwrap_or(u32::MAX) * 4 + Duration::from_secs(10);
    let mut struck = 0;
    while struck < drops && Instant::now() < deadline {
        sleep(rng.time(Duration::ZERO, pause * 2)).await;
        struck += usize::from(proxy.strike(rng).is_some());
    }
    (struck, started.elapsed())
}
