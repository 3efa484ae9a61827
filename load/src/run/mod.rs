//! `agent-hub-load run`: a scenario against a hub.
//!
//! Read in this order: [`figures`] (what is counted), `book` (one reader's view of one session, held to the hub's promises), `session`
//! and `state` (what frames change), `socket` (a connection and the next), `script` (the steps), `meeting` and `verify`, `worker` (a load
//! process), `link` (what it and the coordinator say), `target` (what is loaded), and this file, the coordinator.

mod book;
pub mod figures;
mod link;
mod meeting;
mod progress;
mod script;
mod session;
mod socket;
mod state;
pub(crate) mod target;
mod verify;
pub mod worker;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Args;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
    time::{interval, sleep_until},
};

use self::{
    figures::{Exported, Figures},
    link::{Assignment, Meeting, Order, Report},
    progress::Progress,
    target::Loaded,
};
use crate::{
    process::{Process, open_files_limit},
    results::{self, AtMeeting, HubSecond, HubUse, Results},
    scenario::{SHIPPED, Scenario},
    wire::now_nanos,
};

/// A scenario against a hub; fails if a threshold is not kept.
#[derive(Args, Clone, Debug, Default)]
pub struct RunArgs {
    /// A TOML file, or the name of a scenario that ships: see `agent-hub-load scenarios`.
    pub scenario: String,
    /// The hub to start; the one beside this program otherwise. Build with --release.
    #[arg(long)]
    pub hub: Option<PathBuf>,
    /// A hub that runs already, instead of what the scenario says: http://host:port or ws://host:port.
    #[arg(long)]
    pub url: Option<String>,
    /// The token for --url. Without it and without --secret, the hub's own `/auth/token` is asked, which exists in development mode.
    #[arg(long, env = "AGENT_HUB_LOAD_TOKEN", hide_env_values = true, requires = "url")]
    pub token: Option<String>,
    /// The secret to make tokens with, for --url.
    #[arg(long, env = "AGENT_HUB_LOAD_SECRET", hide_env_values = true, requires = "url")]
    pub secret: Option<String>,
    /// Load processes, instead of what the scenario says.
    #[arg(long)]
    pub processes: Option<usize>,
    /// Source addresses 127.0.0.2 and up, instead of what the scenario says. One address has no more than 28,000 ports.
    #[arg(long)]
    pub sources: Option<u8>,
    /// Of all random choices, instead of the scenario's.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Multiplies the sockets of every group: 0.1 for a tenth.
    #[arg(long, default_value_t = 1.0)]
    pub scale: f64,
    /// Where to write the results as JSON, for `agent-hub-load compare`.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Where to write the results as a page.
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// No progress.
    #[arg(long)]
    pub quiet: bool,
}

/// Runs a scenario, prints the table, writes what was asked for, and says whether every threshold was kept.
///
/// # Errors
/// The scenario cannot be read, the hub does not start, or a load process breaks.
pub async fn run(args: RunArgs) -> anyhow::Result<bool> {
    let found = results_of(&args).await?;
    say(&results::table(&found));
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string(&found)?).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &args.html {
        std::fs::write(path, results::page(&found)).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(found.kept())
}

/// The same, without printing or writing anything but progress.
///
/// # Errors
/// As [`run`].
pub async fn results_of(args: &RunArgs) -> anyhow::Result<Results> {
    anyhow::ensure!(args.scale > 0.0 && args.scale.is_finite(), "--scale: expected a number above 0");
    let text = text_of(&args.scenario)?;
    let scenario = worker::scenario_of(&text, args.scale).with_context(|| format!("scenario {}", args.scenario))?;
    let processes = args.processes.unwrap_or(scenario.processes).clamp(1, scenario.sockets());
    let sources = args.sources.unwrap_or(scenario.sources);
    check_room(scenario.sockets(), processes, sources)?;
    let loaded = Loaded::open(&scenario, args).await?;
    let assignment = Assignment {
        scenario: text,
        scale: args.scale,
        seed: args.seed.unwrap_or(scenario.seed),
        run: now_nanos(),
        index: 0,
        of: processes,
        sources,
        authority: loaded.authority.clone(),
        tokens: loaded.tokens.clone(),
        begins_at: 0,
    };
    let mut crew = Crew::start(assignment).await?;
    let mut watch = Watch::start(&loaded)?;
    crew.conduct(&scenario, &mut watch, args.quiet).await?;
    let mut figures = Figures::new()?;
    crew.found.iter().for_each(|found| figures.merge(found));
    Ok(Results::new(&scenario, &loaded, crew.shape(), &figures, watch.finish()))
}

fn text_of(scenario: &str) -> anyhow::Result<String> {
    if let Some(shipped) = SHIPPED.iter().find(|shipped| shipped.name == scenario) {
        return Ok(shipped.text.to_owned());
    }
    std::fs::read_to_string(scenario).with_context(|| {
        let names = SHIPPED.map(|shipped| shipped.name).join(", ");
        format!("{scenario:?} is no file that can be read, and no scenario that ships ({names})")
    })
}

/// Ports that one source address has towards one port of a server.
const PORTS: usize = 28_000;
/// Files of a load process that are no scripted sockets.
const OTHER_FILES: usize = 200;

/// Whether so many sockets can be had at all; said before anything is started.
fn check_room(sockets: usize, processes: usize, sources: u8) -> anyhow::Result<()> {
    let (each, files) = (sockets.div_ceil(processes), open_files_limit().saturating_sub(OTHER_FILES));
    if each > files {
        let needed = sockets.div_ceil(files.max(1));
        bail!("{each} sockets are more than a load process may open here ({files}): --processes {needed}, or more sessions on each socket");
    }
    let ports = PORTS * usize::from(sources.max(1));
    if sockets > ports {
        bail!("{sockets} sockets are more than {sources} source addresses have ports for: --sources {}", sockets.div_ceil(PORTS));
    }
    Ok(())
}

/// The load processes. With one, it is a thread of this one.
struct Crew {
    orders: Vec<mpsc::UnboundedSender<Order>>,
    reports: mpsc::UnboundedReceiver<(usize, Report)>,
    sources: u8,
    seed: u64,
    _children: Vec<Child>,
    found: Vec<Exported>,
    begins: Instant,
}

/// When the load begins, so that all processes have read their assignment.
const BEGINS_IN: Duration = Duration::from_millis(300);

impl Crew {
    async fn start(mut assignment: Assignment) -> anyhow::Result<Self> {
        // Its length is bounded by what workers say: a line a second, and one for each meeting.
        let (report, reports) = mpsc::unbounded_channel();
        let (mut orders, mut children) = (Vec::new(), Vec::new());
        assignment.begins_at = now_nanos() + BEGINS_IN.as_nanos() as u64;
        let begins = Instant::now() + BEGINS_IN;
        let (sources, seed) = (assignment.sources, assignment.seed);
        for index in 0..assignment.of {
            assignment.index = index;
            let (order, taken) = mpsc::unbounded_channel();
            orders.push(order);
            if assignment.of == 1 {
                start_thread(assignment.clone(), taken, report.clone())?;
            } else {
                children.push(start_process(&assignment, taken, report.clone()).await?);
            }
        }
        Ok(Self { orders, reports, sources, seed, _children: children, found: Vec::new(), begins })
    }

    fn shape(&self) -> (usize, u8, u64) {
        (self.orders.len(), self.sources, self.seed)
    }

    /// Until all have ended, or the scenario's limit has passed.
    async fn conduct(&mut self, scenario: &Scenario, watch: &mut Watch, quiet: bool) -> anyhow::Result<()> {
        let mut progress = Progress::new(scenario, self.orders.len(), quiet);
        let mut meetings = Gathering::default();
        let limit = self.begins + scenario.limit;
        let mut stopped = false;
        let mut second = interval(Duration::from_secs(1));
        while self.found.len() < self.orders.len() {
            tokio::select! {
                report = self.reports.recv() => {
                    let (worker, report) = report.context("the load processes are gone")?;
                    match report {
                        Report::Progress { so_far, finished } => progress.note(worker, &so_far, finished),
                        Report::Met(meeting) => meetings.met(worker, meeting),
                        Report::Gone { group } => meetings.gone(worker, group),
                        Report::Done { found } => self.found.push(*found),
                        Report::Failed { why } => bail!("a load process failed: {why}"),
                    }
                    for meeting in meetings.full(self.orders.len()) {
                        watch.at_meeting(&meeting, self.begins)?;
                        self.tell(&Order::Release(meeting));
                    }
                }
                _ = second.tick() => {
                    watch.second()?;
                    progress.show(self.begins.elapsed());
                }
                () = sleep_until(limit.into()), if !stopped => {
                    stopped = true;
                    self.tell(&Order::Stop);
                }
                interrupted = tokio::signal::ctrl_c(), if !stopped => {
                    interrupted?;
                    stopped = true;
                    self.tell(&Order::Stop);
                }
            }
        }
        progress.end();
        Ok(())
    }

    fn tell(&self, order: &Order) {
        for worker in &self.orders {
            // One that has ended needs no orders.
            let _ = worker.send(order.clone());
        }
    }
}

fn start_thread(
    assignment: Assignment,
    orders: mpsc::UnboundedReceiver<Order>,
    report: mpsc::UnboundedSender<(usize, Report)>,
) -> anyhow::Result<()> {
    let (reports, mut heard) = mpsc::unbounded_channel();
    let thread = std::thread::Builder::new().name("load".into());
    // It ends with its last report; the coordinator waits for that.
    thread.spawn(move || worker::work(&assignment, orders, reports))?;
    drop(tokio::spawn(async move {
        while let Some(heard) = heard.recv().await {
            let _ = report.send((0, heard));
        }
    }));
    Ok(())
}

async fn start_process(
    assignment: &Assignment,
    mut orders: mpsc::UnboundedReceiver<Order>,
    report: mpsc::UnboundedSender<(usize, Report)>,
) -> anyhow::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("starting a load process")?;
    let (mut stdin, stdout) = (child.stdin.take().context("no stdin")?, child.stdout.take().context("no stdout")?);
    stdin.write_all(format!("{}\n", serde_json::to_string(assignment)?).as_bytes()).await?;
    drop(tokio::spawn(async move {
        while let Some(order) = orders.recv().await {
            let line = serde_json::to_string(&order).unwrap_or_default();
            if stdin.write_all(format!("{line}\n").as_bytes()).await.is_err() {
                return;
            }
        }
    }));
    let index = assignment.index;
    drop(tokio::spawn(async move {
        let mut lines = BufReader::new(stdout).lines();
        let mut done = false;
        while let Ok(Some(line)) = lines.next_line().await {
            let heard = serde_json::from_str(&line).unwrap_or_else(|error| Report::Failed { why: format!("it said {line:.200}: {error}") });
            done |= matches!(heard, Report::Done { .. } | Report::Failed { .. });
            let _ = report.send((index, heard));
        }
        if !done {
            let _ = report.send((index, Report::Failed { why: "it ended before its time".to_owned() }));
        }
    }));
    Ok(child)
}

/// Which workers are at which meeting.
#[derive(Default)]
struct Gathering {
    waiting: HashMap<Meeting, HashSet<usize>>,
    gone: HashMap<String, HashSet<usize>>,
}

impl Gathering {
    fn met(&mut self, worker: usize, meeting: Meeting) {
        self.waiting.entry(meeting).or_default().insert(worker);
    }

    fn gone(&mut self, worker: usize, group: String) {
        self.gone.entry(group).or_default().insert(worker);
    }

    /// Meetings nobody else can come to; they are over.
    fn full(&mut self, workers: usize) -> Vec<Meeting> {
        let gone = &self.gone;
        let missing = |meeting: &Meeting, there: &HashSet<usize>| {
            let gone = gone.get(&meeting.group);
            (0..workers).any(|worker| !there.contains(&worker) && !gone.is_some_and(|gone| gone.contains(&worker)))
        };
        let full: Vec<Meeting> =
            self.waiting.iter().filter(|(meeting, there)| !missing(meeting, there)).map(|(meeting, _)| meeting.clone()).collect();
        for meeting in &full {
            self.waiting.remove(meeting);
        }
        full
    }
}

/// What the hub uses meanwhile, if it was started here.
struct Watch {
    process: Option<Process>,
    rss_before: u64,
    cpu_before: Duration,
    last_cpu: Duration,
    seconds: Vec<HubSecond>,
    meetings: Vec<AtMeeting>,
}

impl Watch {
    fn start(loaded: &Loaded) -> anyhow::Result<Self> {
        let process = loaded.process;
        let rss_before = process.map(Process::rss_kib).transpose()?.unwrap_or(0);
        let cpu_before = process.map(Process::cpu).transpose()?.unwrap_or_default();
        Ok(Self { process, rss_before, cpu_before, last_cpu: cpu_before, seconds: Vec::new(), meetings: Vec::new() })
    }

    fn second(&mut self) -> anyhow::Result<()> {
        let Some(process) = self.process else { return Ok(()) };
        let (rss_kib, cpu) = (process.rss_kib().context("the hub is gone")?, process.cpu()?);
        self.seconds.push(HubSecond { rss_kib, cpu_ms: cpu.saturating_sub(self.last_cpu).as_millis() as u64 });
        self.last_cpu = cpu;
        Ok(())
    }

    fn at_meeting(&mut self, meeting: &Meeting, begins: Instant) -> anyhow::Result<()> {
        let rss_kib = self.process.map(Process::rss_kib).transpose()?;
        let name = format!("{}: {}", meeting.group, meeting.name);
        self.meetings.push(AtMeeting { name, round: meeting.round, after_s: begins.elapsed().as_secs_f64(), rss_kib });
        Ok(())
    }

    fn finish(self) -> (Option<HubUse>, Vec<AtMeeting>) {
        let last = self.process.and_then(|process| Some((process.rss_kib().ok()?, process.cpu().ok()?)));
        let used = last.map(|(rss_kib, cpu)| {
            let largest = self.seconds.iter().map(|second| second.rss_kib).chain([rss_kib]).max().unwrap_or(rss_kib);
            let cpu_s = cpu.saturating_sub(self.cpu_before).as_secs_f64();
            HubUse { rss_before_kib: self.rss_before, rss_largest_kib: largest, rss_after_kib: rss_kib, cpu_s, seconds: self.seconds }
        });
        (used, self.meetings)
    }
}

#[allow(clippy::print_stdout, reason = "the table is the program's output")]
fn say(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_sockets_than_there_is_room_for_are_refused_with_what_helps() {
        assert!(check_room(10, 1, 0).is_ok());
        let text = |sockets, processes, sources| check_room(sockets, processes, sources).expect_err("too many").to_string();
        assert!(text(10_000_000, 1, 200).contains("--processes"));
        assert!(text(60_000, 60_000, 1).contains("--sources 3"));
    }

    #[test]
    fn a_meeting_is_over_when_every_process_is_there_or_gone() {
        let meeting = Meeting { group: "g".into(), name: "m".into(), round: 1 };
        let mut gathering = Gathering::default();
        gathering.met(0, meeting.clone());
        assert!(gathering.full(3).is_empty());
        gathering.gone(1, "g".into());
        gathering.gone(2, "other".into());
        assert!(gathering.full(3).is_empty());
        gathering.met(2, meeting.clone());
        assert_eq!(gathering.full(3), [meeting]);
        assert!(gathering.full(3).is_empty(), "it is over once");
    }
}
