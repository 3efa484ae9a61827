//! `agent-hub-load peers`: the hub beside what people would otherwise write, with the same load and the same model stream.
//!
//! Each server has one core, the load and the fake vendor another. Every token comes from the vendor over HTTP. The hub writes each of
//! them down durably (SQLite); the others keep nothing.

mod crowd;
mod dialect;
mod line;
mod measure;
mod server;

use std::{fmt::Write as _, path::PathBuf, time::Duration};

use clap::Args;

pub use self::{dialect::Peer, server::Places};
use self::{
    measure::{Found, measure, saturated},
    server::CLIENT_CORE,
};
use crate::{figure::median, process::pin_self, results::short};

/// The hub beside other servers.
#[derive(Args, Clone, Debug)]
pub struct PeersArgs {
    /// The hub; the one beside this program otherwise. Build with --release.
    #[arg(long)]
    hub: Option<PathBuf>,
    /// The directory `load/peers`; found in or above the present one otherwise.
    #[arg(long)]
    peers: Option<PathBuf>,
    /// Only these servers.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Peer>,
    /// At these numbers of sessions.
    #[arg(long, value_delimiter = ',', default_value = "100,1000")]
    sessions: Vec<usize>,
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

/// Measures and prints the table. False if a server that was asked for is not installed.
///
/// # Errors
/// A server does not start, or breaks.
pub async fn run(args: PeersArgs) -> anyhow::Result<bool> {
    let places = Places::find(args.hub.as_deref(), args.peers.as_deref(), !args.no_pin)?;
    if places.pin {
        pin_self(CLIENT_CORE)?;
    }
    let wanted = if args.only.is_empty() { Peer::ALL.to_vec() } else { args.only.clone() };
    let (there, missing): (Vec<Peer>, Vec<Peer>) = wanted.into_iter().partition(|peer| places.missing(*peer).is_none());
    for peer in &missing {
        say(&places.missing(*peer).unwrap_or_default());
    }
    let window = Duration::from_secs(args.seconds.max(1));
    let found = compare(&places, &there, &args.sessions, args.rounds.max(1), window).await?;
    say(&table(&found));
    if let Some(path) = args.json {
        std::fs::write(path, serde_json::to_string_pretty(&found)?)?;
    }
    Ok(missing.is_empty())
}

/// All rounds of all servers, interleaved so that what slows the machine slows all of them.
async fn compare(places: &Places, peers: &[Peer], sessions: &[usize], rounds: usize, window: Duration) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    for count in sessions {
        for round in 1..=rounds {
            for peer in peers {
                let measured = measure(places, *peer, *count, window).await?;
                say(&format!(
                    "round {round}: {:<12}{count:>5} sessions {:>9} tokens/s saturated, {:>9} paced, first token p99 {:.1} ms",
                    peer.name(),
                    short(measured.saturated),
                    short(measured.paced),
                    measured.first_p99_ms
                ));
                found.push(measured);
            }
        }
    }
    Ok(found)
}

/// Medians of the rounds of one server at one number of sessions.
pub(crate) struct Medians<'a>(Vec<&'a Found>);

impl Medians<'_> {
    fn of(&self, figure: impl Fn(&Found) -> f64) -> f64 {
        median(&self.0.iter().map(|found| figure(found)).collect::<Vec<_>>())
    }

    /// Of all rounds: one failure is too many to be a median.
    fn most(&self, figure: impl Fn(&Found) -> u64) -> u64 {
        self.0.iter().map(|found| figure(found)).max().unwrap_or(0)
    }

    fn maybe(&self, figure: impl Fn(&Found) -> Option<f64>) -> Option<f64> {
        let figures: Vec<f64> = self.0.iter().filter_map(|found| figure(found)).collect();
        (!figures.is_empty()).then(|| median(&figures))
    }
}

fn medians(found: &[Found], peer: Peer, sessions: usize) -> Option<Medians<'_>> {
    let of: Vec<&Found> = found.iter().filter(|found| found.peer == peer && found.sessions == sessions).collect();
    (!of.is_empty()).then_some(Medians(of))
}

/// Side by side, in Markdown.
fn table(found: &[Found]) -> String {
    let mut out = String::from(
        "\n| sessions | server | tokens/s saturated | to Express | CPU ms per 1,000 | tokens/s paced | CPU ms per 1,000 | delay p50 / p99 ms \
         | first token p50 / p99 ms | KiB per session | cancel p99 ms | frames after cancel | failed |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut counts: Vec<usize> = found.iter().map(|found| found.sessions).collect();
    counts.sort_unstable();
    counts.dedup();
    for count in counts {
        let express = medians(found, Peer::ExpressWs, count).filter(|express| express.most(|found| found.failed) == 0);
        let express = express.map(|express| express.of(|found| found.saturated));
        for peer in Peer::ALL {
            let Some(of) = medians(found, peer, count) else { continue };
            let saturated = of.of(|found| found.saturated);
            let sound = of.most(|found| found.failed) == 0;
            let ratio = express.filter(|_| sound).map_or_else(|| "-".to_owned(), |express| format!("{:.1} x", saturated / express));
            let cancel = of.maybe(|found| found.cancel_p99_ms).map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2}"));
            let after = of.maybe(|found| found.after_cancel.map(|frames| frames as f64)).map_or_else(|| "-".to_owned(), short);
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "| {count} | {} | {} | {ratio} | {:.1} | {} | {:.1} | {:.2} / {:.2} | {:.2} / {:.2} | {:.0} | {cancel} | {after} | {} |",
                peer.name(),
                short(saturated),
                of.of(|found| found.saturated_cpu_ms),
                short(of.of(|found| found.paced)),
                of.of(|found| found.paced_cpu_ms),
                of.of(|found| found.delay_p50_ms),
                of.of(|found| found.delay_p99_ms),
                of.of(|found| found.first_p50_ms),
                of.of(|found| found.first_p99_ms),
                of.of(|found| found.rss_kib),
                of.most(|found| found.failed)
            );
        }
    }
    let client = median(&found.iter().map(|found| found.client_cpu * 100.0).collect::<Vec<_>>());
    let _ = write!(
        out,
        "\nOne core for the server, one for load and vendor (the load alone used {client:.0} % of it when saturated, in the median). \
         The hub writes every token to SQLite; the others keep nothing. First tokens: all at once, the model's 20 ms taken off. \
         KiB per session: while all stream. `-`: a server without acknowledgement of cancels, or a ratio to or of one whose answers failed. Failed: in the worst round."
    );
    out
}

#[allow(clippy::print_stdout, reason = "the table is the program's output")]
fn say(text: &str) {
    println!("{text}");
}

/// Saturated tokens a second of the hub to another server's, round by round, for the goals, and a remark; or why the other cannot be started.
///
/// # Errors
/// As [`run`].
pub async fn ratios(
    places: &Places,
    other: Peer,
    sessions: usize,
    rounds: usize,
    window: Duration,
) -> anyhow::Result<Result<(Vec<f64>, String), String>> {
    if let Some(how) = places.missing(other) {
        return Ok(Err(how));
    }
    let mut found: Vec<(Peer, f64)> = Vec::new();
    let mut failed: Vec<(Peer, u64)> = Vec::new();
    for _ in 0..rounds {
        for peer in [Peer::Hub, other] {
            let (rate, _, _, failures) = saturated(places, peer, sessions, window).await?;
            found.push((peer, rate));
            failed.push((peer, failures));
        }
    }
    // Of a server whose answers fail, the rate is not of the same work.
    if let Some((peer, failures)) = failed.iter().find(|(_, failures)| *failures > 0) {
        return Ok(Err(format!("{failures} answers of {} failed at {sessions} sessions", peer.name())));
    }
    let found = &found;
    let rates = |peer: Peer| found.iter().filter(move |(of, _)| *of == peer).map(|(_, rate)| *rate);
    let ratios = rates(Peer::Hub).zip(rates(other)).map(|(hub, other)| hub / other).collect();
    let middle = |peer: Peer| short(median(&rates(peer).collect::<Vec<_>>()));
    let note = format!("{}/s against {}/s, both fed by the fake vendor", middle(Peer::Hub), middle(other));
    Ok(Ok((ratios, note)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_failed_has_no_ratio() {
        let found = |peer, saturated, failed| Found { peer, sessions: 100, saturated, failed, ..Found::nothing(peer) };
        let row = |failed| {
            let rounds = [found(Peer::Hub, 300.0, 0), found(Peer::ExpressWs, 100.0, 0), found(Peer::ExpressWs, 100.0, failed)];
            table(&rounds).lines().find(|line| line.contains(Peer::Hub.name())).unwrap_or_default().to_owned()
        };
        assert!(row(0).contains("3.0 x"), "{}", row(0));
        assert!(!row(1).contains(" x |"), "{}", row(1));
    }
}
