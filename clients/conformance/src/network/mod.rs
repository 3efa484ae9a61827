//! A client at work behind a network that breaks: a real hub, a fake model vendor, a proxy that cuts. Afterwards what the client applied
//! is held against the hub's log, and what it submitted against the calls that reached the model.

mod audit;
mod desk;
mod player;
mod report;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use agent_hub_load::{
    process::{Hub, HubOptions},
    rng::Rng,
    soak::proxy::ChaosProxy,
    token,
    vendor::{FakeVendor, FakeVendorConfig},
};
use anyhow::Context;
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep},
};

pub use self::report::Report;
use self::{desk::Desk, player::Player};
use crate::{
    driver::{Driver, DriverCommand},
    verdict::Transcript,
};

/// Half of what a silent connection is kept for. Short, so that half-open connections are noticed within the run.
const HEARTBEAT: &str = "400 ms";
/// Calls of the model that are remembered; one body is some kilobytes.
const CALLS: usize = 200_000;
/// A cut takes this long at most, on average, the way back included; a run that takes longer ends with what it has, and fails.
const PER_CUT: Duration = Duration::from_secs(4);

/// How much, and with what.
#[derive(Clone, Debug, clap::Args)]
pub struct NetworkArgs {
    /// The command that starts the client's driver, see DRIVER.md.
    #[arg(long, value_name = "COMMAND")]
    pub driver: String,
    /// What is cut how often.
    #[command(flatten)]
    pub size: Size,
}

/// How much.
#[derive(Clone, Debug, clap::Args)]
pub struct Size {
    /// Connections to break.
    #[arg(long, default_value_t = 100)]
    pub cuts: usize,
    /// Drivers that run at the same time, each behind a proxy of its own.
    #[arg(long, default_value_t = 3)]
    pub clients: usize,
    /// Sessions that one driver has at the same time, all over one connection.
    #[arg(long, default_value_t = 3)]
    pub sessions: usize,
    /// The hub's program; the one beside this program otherwise.
    #[arg(long, env = "AGENT_HUB_BIN")]
    pub hub: Option<PathBuf>,
    /// Of all random choices; printed, so that a failing run can be run again.
    #[arg(long)]
    pub seed: Option<u64>,
}

/// Runs it.
///
/// # Errors
/// The hub or a driver does not start, or the log cannot be read. What goes wrong in between is in the report.
pub async fn run(args: &NetworkArgs) -> anyhow::Result<Report> {
    run_with(&DriverCommand::Program(args.driver.clone()), &args.size).await
}

/// The same, however the driver is started.
///
/// # Errors
/// As [`run`].
pub async fn run_with(driver: &DriverCommand, size: &Size) -> anyhow::Result<Report> {
    let seed = size.seed.unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0));
    let mut report = Report::new(seed);
    let vendor = FakeVendor::start(FakeVendorConfig { remembered_calls: CALLS, ..FakeVendorConfig::default() }).await?;
    let hub = Hub::start(
        HubOptions { openai: Some(vendor.base_url()), ..HubOptions::new(&hub_program(size)?) }
            .with("AGENT_HUB_SERVER__HEARTBEAT", HEARTBEAT),
    )
    .await?;
    let rng = Rng::new(seed);
    let token = token::mint("network")?;
    let plan = Arc::new(Plan::new(size.cuts));
    let mut clients = Vec::new();
    let mut playing = JoinSet::new();
    for number in 0..size.clients.max(1) {
        let proxy = ChaosProxy::start(hub.address()).await?;
        let transcript = Transcript::default();
        let desk = Desk::open(Driver::start(driver, transcript.clone())?, &format!("ws://{}", proxy.address), &token).await?;
        let line = Arc::new(Line { proxy, rng: Mutex::new(rng.child(1000 + number as u64)), plan: plan.clone() });
        for session in 0..size.sessions.max(1) {
            let rng = rng.child((number * 100 + session) as u64);
            playing.spawn(Player::new(desk.clone(), line.clone(), rng).play());
        }
        playing.spawn(cut_now_and_then(line.clone(), rng.child(2000 + number as u64)));
        clients.push((desk, line, transcript));
    }
    let deadline = Instant::now() + PER_CUT * u32::try_from(size.cuts).unwrap_or(u32::MAX) + Duration::from_secs(30);
    while plan.done.load(Ordering::Relaxed) < size.cuts && Instant::now() < deadline && clients.iter().all(|(desk, ..)| desk.fine()) {
        sleep(Duration::from_millis(20)).await;
    }
    plan.stop.store(true, Ordering::Relaxed);
    let mut works = Vec::new();
    while let Some(played) = playing.join_next().await {
        works.extend(played.context("a player panicked")?);
    }
    let wrong = clients.iter().find(|(desk, ..)| !desk.fine());
    report.cut(&plan.counts(), size.cuts, wrong.is_some());
    report.transcript = wrong.map(|(.., transcript)| transcript.take()).unwrap_or_default();
    let mut audit = audit::Audit::new(&hub, &token, vendor.calls())?;
    for (desk, line, _) in clients {
        report.connections += line.proxy.made();
        audit.client(&desk, &mut report).await?;
        desk.close(&mut report).await;
    }
    for work in &works {
        audit.work(work, &mut report);
    }
    audit.model(&mut report);
    Ok(report)
}

fn hub_program(size: &Size) -> anyhow::Result<PathBuf> {
    let program = match &size.hub {
        Some(hub) => hub.clone(),
        None => std::env::current_exe()?.with_file_name("agent-hub"),
    };
    anyhow::ensure!(program.is_file(), "there is no hub at {}; build it, or say where it is with --hub", program.display());
    Ok(std::path::absolute(program)?)
}

/// What is to be cut, shared by all who cut.
struct Plan {
    cuts: usize,
    done: AtomicUsize,
    stop: AtomicBool,
    counts: std::sync::Mutex<std::collections::BTreeMap<&'static str, usize>>,
}

impl Plan {
    fn new(cuts: usize) -> Self {
        Self { cuts, done: AtomicUsize::new(0), stop: AtomicBool::new(false), counts: std::sync::Mutex::default() }
    }

    fn counts(&self) -> std::collections::BTreeMap<&'static str, usize> {
        self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// The way of one client to the hub.
struct Line {
    proxy: ChaosProxy,
    rng: Mutex<Rng>,
    plan: Arc<Plan>,
}

impl Line {
    /// Breaks the client's connection, if it has one and if as many as planned were not broken yet.
    async fn cut(&self) {
        let mut rng = self.rng.lock().await;
        if self.plan.done.load(Ordering::Relaxed) < self.plan.cuts
            && let Some(fault) = self.proxy.strike(&mut rng)
        {
            self.plan.done.fetch_add(1, Ordering::Relaxed);
            *self.plan.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).entry(fault.name()).or_default() += 1;
        }
    }
}

/// Cuts at any moment. Players cut besides, right behind a command.
async fn cut_now_and_then(line: Arc<Line>, mut rng: Rng) -> Vec<player::Work> {
    while !line.plan.stopped() {
        sleep(rng.time(Duration::from_millis(20), Duration::from_millis(600))).await;
        line.cut().await;
    }
    Vec::new()
}
