//! `agent-hub-load scale`: the same hub at ten, a hundred, a thousand and ten thousand sessions. Does a token stay as cheap?
//!
//! Twice: at the same total rate, so that only the number of sessions differs; and as fast as it goes.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{
    say,
    server::{CLIENT_CORE, Kind, Programs},
    streams::{self, Streamed},
};
use crate::{
    figure::median,
    process::{open_files_limit, pin_self},
    results::short,
};

/// The same hub at more and more sessions.
#[derive(Args, Clone, Debug)]
pub struct ScaleArgs {
    /// The hub; the one beside this program otherwise. Build with --release.
    #[arg(long)]
    hub: Option<PathBuf>,
    /// At these numbers of sessions.
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000,10000")]
    sessions: Vec<usize>,
    /// Tokens a second of all sessions together, where they are paced.
    #[arg(long, default_value_t = 10_000)]
    rate: u32,
    /// Rounds; a figure is their median.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds per measurement.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Where to write everything as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Leave the processes where the kernel puts them, for machines with one core.
    #[arg(long)]
    no_pin: bool,
}

/// Measures and prints the table.
///
/// # Errors
/// The hub does not start, or breaks.
pub async fn run(args: ScaleArgs) -> anyhow::Result<()> {
    let programs = Programs::new(args.hub.clone())?;
    if !args.no_pin {
        pin_self(CLIENT_CORE)?;
    }
    let most = (open_files_limit() * 4 / 5).saturating_sub(300);
    let window = Duration::from_secs(args.seconds.max(1));
    let mut found: Vec<(usize, Vec<Streamed>, Vec<Streamed>)> = Vec::new();
    for sessions in args.sessions.iter().copied().filter(|sessions| *sessions > 0) {
        anyhow::ensure!(sessions <= most, "{sessions} sockets are more than may be open here ({most})");
        let pace = Duration::from_secs_f64(sessions as f64 / f64::from(args.rate.max(1)));
        let (mut paced, mut saturated) = (Vec::new(), Vec::new());
        for round in 1..=args.rounds.max(1) {
            let kept = streams::paced_at(&programs, Kind::Sqlite, sessions, pace, window).await?;
            let fast = streams::saturated(&programs, Kind::Sqlite, sessions, window).await?;
            say(&format!(
                "round {round}: {sessions:>6} sessions, {:.2} us per token at {}/s; {}/s at full speed",
                kept.cpu_us,
                short(kept.tokens_per_s),
                short(fast.tokens_per_s)
            ));
            paced.push(kept);
            saturated.push(fast);
        }
        found.push((sessions, paced, saturated));
    }
    say(&table(&found));
    if let Some(path) = args.json {
        let all: Vec<&Streamed> = found.iter().flat_map(|(_, paced, saturated)| paced.iter().chain(saturated)).collect();
        std::fs::write(path, serde_json::to_string_pretty(&all)?)?;
    }
    Ok(())
}

fn table(found: &[(usize, Vec<Streamed>, Vec<Streamed>)]) -> String {
    let mut out = String::from(
        "\n| sessions | tokens/s, paced | us CPU per token | to the first | delay p50 / p99 ms | tokens/s, full speed | us CPU per token | tokens per event |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let of = |rounds: &[Streamed], figure: fn(&Streamed) -> f64| median(&rounds.iter().map(figure).collect::<Vec<_>>());
    let first = found.first().map_or(1.0, |(_, paced, _)| of(paced, |found| found.cpu_us));
    for (sessions, paced, saturated) in found {
        let cpu = of(paced, |found| found.cpu_us);
        out += &format!(
            "| {sessions} | {} | {cpu:.2} | {:.2} x | {:.2} / {:.2} | {} | {:.2} | {:.0} |\n",
            short(of(paced, |found| found.tokens_per_s)),
            cpu / first,
            of(paced, |found| found.p50_us) / 1e3,
            of(paced, |found| found.p99_us) / 1e3,
            short(of(saturated, |found| found.tokens_per_s)),
            of(saturated, |found| found.cpu_us),
            of(saturated, |found| found.tokens_per_event)
        );
    }
    out + "\nPaced: all sessions together at the same rate, stamped in the hub's demo provider. One core for the hub, one for the load; SQLite."
}
