//! `agent-hub-load soak`: what is promised, under conditions that break it where it can be broken. Every part is bounded in time and
//! says what it found; a broken promise is a violation, and the program fails.

pub mod autobahn;
pub mod cancel_races;
pub mod disconnects;
pub mod kills;
pub mod proxy;
pub mod silent_sockets;
pub mod slow_reader;

mod ledger;
mod player;

use std::{fmt, path::PathBuf};

use clap::{Args, Subcommand};

/// Promises under load; fails if one is broken.
#[derive(Args, Clone, Debug)]
pub struct SoakArgs {
    /// The hub; the one beside this program otherwise. Build with --release.
    #[arg(long, global = true)]
    hub: Option<PathBuf>,
    /// Of all random choices; printed, so that a failing run can be run again.
    #[arg(long, global = true)]
    seed: Option<u64>,
    /// One part; all of them otherwise.
    #[command(subcommand)]
    part: Option<Part>,
}

/// A part, with its size.
#[derive(Subcommand, Clone, Debug)]
enum Part {
    /// Connections cut at random: nothing lost, repeated or out of order.
    Disconnects(disconnects::Size),
    /// The hub killed at random: nothing a client saw is lost, no task stays running.
    Kills(kills::Size),
    /// Cancels against the end of tasks: one terminal event each, and it agrees with the answer.
    CancelRaces(cancel_races::Size),
    /// A reader of a thousand bytes a second: cheap, and nobody else waits for it.
    SlowReader(slow_reader::Size),
    /// Sockets that say nothing: closed in time, and the hub answers others meanwhile.
    SilentSockets(silent_sockets::Size),
    /// The WebSocket conformance suite.
    Autobahn(autobahn::Size),
}

impl Part {
    /// All, in full size.
    fn all() -> Vec<Part> {
        vec![
            Part::Disconnects(disconnects::Size::default()),
            Part::Kills(kills::Size::default()),
            Part::CancelRaces(cancel_races::Size::default()),
            Part::SlowReader(slow_reader::Size::default()),
            Part::SilentSockets(silent_sockets::Size::default()),
            Part::Autobahn(autobahn::Size::default()),
        ]
    }

    fn name(&self) -> &'static str {
        match self {
            Part::Disconnects(_) => "disconnects",
            Part::Kills(_) => "kills",
            Part::CancelRaces(_) => "cancel-races",
            Part::SlowReader(_) => "slow-reader",
            Part::SilentSockets(_) => "silent-sockets",
            Part::Autobahn(_) => "autobahn",
        }
    }
}

/// Runs the parts and says whether every promise was kept.
///
/// # Errors
/// A program does not start. What goes wrong later is a violation, and the other parts still run.
pub async fn run(args: SoakArgs) -> anyhow::Result<bool> {
    let beside = std::env::current_exe()?.with_file_name("agent-hub");
    let hub = std::path::absolute(args.hub.unwrap_or(beside))?;
    let seed = args.seed.unwrap_or_else(crate::wire::now_nanos);
    let mut kept = true;
    for part in args.part.map_or_else(Part::all, |part| vec![part]) {
        let name = part.name();
        say(&format!("{name}: seed {seed}"));
        let setup = Setup { hub: hub.clone(), seed };
        let report = match part {
            Part::Disconnects(size) => disconnects::run(&setup, size).await,
            Part::Kills(size) => kills::run(&setup, size).await,
            Part::CancelRaces(size) => cancel_races::run(&setup, size).await,
            Part::SlowReader(size) => slow_reader::run(&setup, size).await,
            Part::SilentSockets(size) => silent_sockets::run(&setup, size).await,
            Part::Autobahn(size) => autobahn::run(size).await,
        };
        let report = report.unwrap_or_else(|error| Report::broken(format!("{error:#}")));
        say(&format!("{name}: {report}"));
        kept &= report.kept();
    }
    Ok(kept)
}

/// What every part that needs a hub is given.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The hub's program.
    pub hub: PathBuf,
    /// Of all random choices.
    pub seed: u64,
}

/// What a part found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What happened, for people.
    pub facts: Vec<String>,
    /// Broken promises.
    pub violations: Vec<String>,
    not_run: bool,
}

impl Report {
    fn broken(violation: String) -> Self {
        Self { violations: vec![violation], ..Self::default() }
    }

    fn fact(&mut self, text: impl Into<String>) {
        self.facts.push(text.into());
    }

    fn violation(&mut self, text: impl Into<String>) {
        self.violations.push(text.into());
    }

    /// A promise: `text` is its breach.
    fn expect(&mut self, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(text());
        }
    }

    /// Whether what it takes is not on this machine. Counts as not kept.
    pub fn not_run(&self) -> bool {
        self.not_run
    }

    /// Whether every promise was kept.
    pub fn kept(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Violations shown; of a thousand the first ones say as much.
const SHOWN: usize = 20;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.kept() { "kept".to_owned() } else { format!("{} VIOLATIONS", self.violations.len()) };
        write!(f, "{verdict}; {}", self.facts.join("; "))?;
        for violation in self.violations.iter().take(SHOWN) {
            write!(f, "\n  {violation}")?;
        }
        Ok(())
    }
}

#[allow(clippy::print_stdout, reason = "the report is the program's output")]
fn say(text: &str) {
    println!("{text}");
}
