//! A hub that is killed over and over: what a client saw is in the log afterwards, word for word, and every task ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;
use tokio::time::sleep;

use super::{
    Report, Setup, ledger,
    player::{Player, options},
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
    #[arg(long, default_value_t = 40)]
    pub sessions: usize,
    /// Kills.
    #[arg(long, default_value_t = 100)]
    pub kills: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self { sessions: 40, kills: 100 }
    }
}

/// Short tasks and enough tokens that a kill hits commits in flight.
const PROMPT: &str = "/pace 1 /tokens 200";
/// How soon a hub answers again after a kill.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// Runs it.
///
/// # Errors
/// The hub does not start again, or the log cannot be read.
pub async fn run(setup: &Setup, size: Size) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut rng = Rng::new(setup.seed);
    let mut hub = Hub::start(HubOptions::new(&setup.hub)).await?;
    let token = token::mint("soak")?;
    let mut players = Vec::new();
    for _ in 0..size.sessions {
        players.push(Arc::new(Player::join(options(hub.address(), &token, Duration::from_secs(5))?).await?));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let playing: Vec<_> = players
        .iter()
        .cloned()
        .map(|player| {
            let stop = stop.clone();
            tokio::spawn(async move { player.keep_busy(PROMPT, &stop).await })
        })
        .collect();
    let mut ready = Vec::new();
    for _ in 0..size.kills {
        sleep(rng.time(Duration::from_millis(20), Duration::from_millis(700))).await;
        hub.kill().await?;
        ready.push(hub.launch().await?);
    }
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for (player, playing) in players.iter().zip(playing) {
        acknowledged.push((player.clone(), playing.await?));
    }
    settle(&players).await;
    // Once more, in peace: it opens its store like every time, and reads all of it.
    hub.kill().await?;
    ready.push(hub.launch().await?);
    let logs = ledger::reader(hub.address(), &token)?;
    let (mut events, mut recovered) = (0, 0);
    for (player, tasks) in acknowledged {
        let log = logs.read(player.session).await?;
        let seen = player.known.seen();
        ledger::compare(&seen.ledger, player.session, &log, &mut report);
        report.violations.extend(seen.wrong.iter().cloned());
        report.expect(seen.forgotten == 0, || format!("{}: {} attaches were not recovered", player.session, seen.forgotten));
        let ends = ledger::check(&log, player.session, &mut report);
        for task in tasks {
            report.expect(ends.contains_key(&task), || format!("{}: task {task} was acknowledged and is not in the log", player.session));
        }
        recovered += ends.values().map(|end| end.recovered).sum::<u32>();
        events += log.texts.len();
    }
    let slowest = ready.iter().max().copied().unwrap_or_default();
    report.expect(slowest <= READY_WITHIN, || format!("the hub took {slowest:?} until it answered again"));
    let reconnects: u64 = players.iter().map(|player| player.known.seen().reconnects).sum();
    ready.sort();
    let median = ready.get(ready.len() / 2).copied().unwrap_or_default();
    report.fact(format!("{} sessions, {} kills, {reconnects} broken connections", size.sessions, size.kills));
    report.fact(format!("{events} events compared, {recovered} recoveries"));
    report.fact(format!("ready again after {} ms (median), {} ms (slowest)", median.as_millis(), slowest.as_millis()));
    Ok(report)
}

/// Waits until nothing new comes: every task has ended.
async fn settle(players: &[Arc<Player>]) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let total = || players.iter().map(|player| player.known.seen().ledger.last()).sum::<u64>();
    let mut before = total();
    while Instant::now() < deadline {
        sleep(Duration::from_secs(1)).await;
        let now = total();
        if now == before {
            return;
        }
        before = now;
    }
}
