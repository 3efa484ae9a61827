//! Cancels that race with the end of the task: one end each, and it is the one the answer said.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use agent_hub_client::CommandError;
use agent_hub_protocol::{ErrorCode, TaskId};
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
    /// Clients that cancel, each in its own session.
    #[arg(long, default_value_t = 50)]
    pub sessions: usize,
    /// Cancels of all of them.
    #[arg(long, default_value_t = 10_000)]
    pub cancels: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self { sessions: 50, cancels: 10_000 }
    }
}

/// Ends after 20 ms and what the hub needs.
const PROMPT: &str = "/pace 1 /tokens 20";
/// Cancels come from at once to well after the end.
const LATEST: Duration = Duration::from_millis(35);
/// How soon a cancelled task has ended, for 99 of 100.
const ENDED_WITHIN: Duration = Duration::from_millis(200);

/// A cancel and what came of it.
struct Race {
    task: TaskId,
    /// Acknowledged; otherwise it had ended.
    cancelled: bool,
    /// From the answer to the terminal event; nothing if that was there first.
    end_after: Duration,
}

/// Runs it.
///
/// # Errors
/// The hub does not start, or the log cannot be read.
pub async fn run(setup: &Setup, size: Size) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let hub = Hub::start(HubOptions::new(&setup.hub)).await?;
    let token = token::mint("soak")?;
    let left = Arc::new(AtomicUsize::new(size.cancels));
    let mut running = Vec::new();
    for index in 0..size.sessions {
        let player = Player::join(options(hub.address(), &token, Duration::from_secs(10))?).await?;
        let (left, rng) = (left.clone(), Rng::new(setup.seed).child(index as u64));
        running.push(tokio::spawn(async move {
            let races = race(&player, &left, rng).await;
            (player, races)
        }));
    }
    let logs = ledger::reader(hub.address(), &token)?;
    let (mut cancelled, mut too_late, mut waits) = (0, 0, Vec::new());
    for running in running {
        let (player, races) = running.await?;
        let log = logs.read(player.session).await?;
        player.catch_up(log.texts.len(), Duration::from_secs(10)).await;
        let ends = ledger::check(&log, player.session, &mut report);
        for race in races? {
            let end = ends.get(&race.task).and_then(|end| end.terminal).unwrap_or("nothing");
            report.expect((end == "task_cancelled") == race.cancelled, || {
                let said = if race.cancelled { "acknowledged" } else { "already_terminal" };
                format!("{}: the cancel of {} was answered with {said}, and it ended with {end}", player.session, race.task)
            });
            if race.cancelled {
                cancelled += 1;
                waits.push(race.end_after);
            } else {
                too_late += 1;
            }
        }
        let seen = player.known.seen();
        ledger::compare(&seen.ledger, player.session, &log, &mut report);
        report.violations.extend(seen.wrong.iter().cloned());
    }
    waits.sort();
    let p99 = waits.get(waits.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default();
    report.expect(p99 <= ENDED_WITHIN, || format!("a cancelled task ended {p99:?} after the answer (p99)"));
    report.expect(cancelled > 0 && too_late > 0, || format!("no race: {cancelled} cancelled, {too_late} too late"));
    report.fact(format!("{} cancels: {cancelled} in time, {too_late} too late", cancelled + too_late));
    report.fact(format!("ended {:.2} ms after the answer (p99)", p99.as_secs_f64() * 1000.0));
    Ok(report)
}

async fn race(player: &Player, left: &AtomicUsize, mut rng: Rng) -> anyhow::Result<Vec<Race>> {
    let mut races = Vec::new();
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        let task = player.client.submit(player.session, PROMPT).await?;
        // A tenth goes out at once, against the start.
        let offset = if rng.between(0, 10) == 0 { Duration::ZERO } else { rng.time(Duration::ZERO, LATEST) };
        sleep(offset).await;
        let cancelled = match player.client.cancel(player.session, task, None).await {
            Ok(()) => true,
            Err(CommandError::Refused(error)) if error.code == ErrorCode::AlreadyTerminal => false,
            Err(error) => return Err(error.into()),
        };
        let answered = Instant::now();
        let end = player.known.end_of(task, Duration::from_secs(10)).await;
        let end_after = end.map_or(Duration::from_secs(10), |(_, at)| at.saturating_duration_since(answered));
        races.push(Race { task, cancelled, end_after });
    }
    Ok(races)
}
