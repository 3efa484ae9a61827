//! Two results, figure by figure, and what got worse by more than noise.

use std::{fmt::Write as _, path::PathBuf};

use anyhow::Context;
use clap::Args;

use super::{Distribution, Results, short, short_time, speaking, with_unit};
use crate::{
    run::figures::{Count, Timing, Unit},
    scenario::Stat,
};

/// Two results of `run --json`, side by side; fails if something got worse by more than the margin.
#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// What was.
    pub before: PathBuf,
    /// What is.
    pub after: PathBuf,
    /// Differences up to this share are noise in any case, because two runs of the same program differ by more than either knows of
    /// itself: 0.15 for fifteen percent.
    #[arg(long, default_value_t = 0.15)]
    pub margin: f64,
}

/// Counted, and wanted to be few.
const UNWANTED: [Count; 5] = [Count::Errors, Count::Failed, Count::TimedOut, Count::Closed, Count::ConnectFailures];

/// Reads both, prints the comparison, and says whether nothing got worse.
///
/// # Errors
/// A file cannot be read, or is no result.
pub fn run(args: &CompareArgs) -> anyhow::Result<bool> {
    anyhow::ensure!((0.0..10.0).contains(&args.margin), "--margin: expected a share from 0 to 10");
    let read = |path: &PathBuf| -> anyhow::Result<Results> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no result of `agent-hub-load run --json`", path.display()))
    };
    let (text, worse) = compare(&read(&args.before)?, &read(&args.after)?, args.margin);
    say(&text);
    Ok(worse == 0)
}

/// One figure in both.
struct Pair {
    name: String,
    unit: Unit,
    before: Range,
    after: Range,
    more_is_better: bool,
}

/// A figure and where it could as well have been, by its own scatter.
#[derive(Clone, Copy)]
struct Range {
    low: f64,
    figure: f64,
    high: f64,
}

impl Range {
    const fn exactly(figure: f64) -> Self {
        Self { low: figure, figure, high: figure }
    }
}

/// How a figure changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Better,
    Noise,
    Worse,
}

impl Pair {
    /// Beyond noise is what leaves both the margin and the scatter of the two.
    fn change(&self, margin: f64) -> Change {
        let (before, after) = (self.before, self.after);
        let larger = after.low > before.high && after.figure > before.figure * (1.0 + margin);
        let smaller = after.high < before.low && after.figure < before.figure / (1.0 + margin);
        match (larger, smaller, self.more_is_better) {
            (true, _, true) | (_, true, false) => Change::Better,
            (true, _, false) | (_, true, true) => Change::Worse,
            (false, false, _) => Change::Noise,
        }
    }

    fn line(&self, margin: f64) -> String {
        let ratio = if self.before.figure == 0.0 { "-".to_owned() } else { format!("{:.2} x", self.after.figure / self.before.figure) };
        let mark = match self.change(margin) {
            Change::Better => "better",
            Change::Noise => "",
            Change::Worse => "WORSE",
        };
        let (before, after) = (with_unit(self.before.figure, self.unit), with_unit(self.after.figure, self.unit));
        format!("{:<26}{before:>14}{after:>14}{ratio:>10}  {mark}", self.name)
    }
}

/// The comparison, and how many figures got worse.
pub fn compare(before: &Results, after: &Results, margin: f64) -> (String, usize) {
    let (pairs, missing) = (pairs(before, after), missing(before, after));
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{} ({}) against {} ({})", after.scenario, after.target, before.scenario, before.target);
    for (what, was, is) in [("sockets", before.sockets, after.sockets), ("processes", before.processes, after.processes)] {
        if was != is {
            let _ = writeln!(out, "note: {was} {what} before, {is} after: not the same load");
        }
    }
    let _ = writeln!(out, "{:<26}{:>14}{:>14}{:>10}", "", "before", "after", "ratio");
    for pair in &pairs {
        let _ = writeln!(out, "{}", pair.line(margin));
    }
    for (name, was) in &missing {
        let _ =
            writeln!(out, "{name:<26}{:>14}{:>14}{:>10}  WORSE", if *was { "there" } else { "-" }, if *was { "-" } else { "there" }, "");
    }
    let worse = pairs.iter().filter(|pair| pair.change(margin) == Change::Worse).count() + missing.len();
    let verdict = if worse == 0 { "nothing got worse beyond margin and scatter".to_owned() } else { format!("{worse} FIGURES GOT WORSE") };
    let _ = write!(out, "{verdict} (margin {:.0} %)", margin * 100.0);
    (out, worse)
}

fn pairs(before: &Results, after: &Results) -> Vec<Pair> {
    let mut pairs = Vec::new();
    // How much was missed is what a reconnect was asked, not how well it was answered: a faster model makes it more.
    for timing in Timing::ALL.into_iter().filter(|timing| *timing != Timing::Missed) {
        let (Some(was), Some(is)) = (before.timings.get(timing.name()), after.timings.get(timing.name())) else { continue };
        for (stat, share) in [(Stat::P50, 0.5), (Stat::P90, 0.9), (Stat::P99, 0.99)] {
            let name = format!("{}.{}", timing.name(), stat.name());
            let pair = Pair { name, unit: was.unit, before: quantile(was, share), after: quantile(is, share), more_is_better: false };
            pairs.push(pair);
        }
    }
    if before.tokens_per_second > 0.0 && after.tokens_per_second > 0.0 {
        let (before, after) = (rate(before), rate(after));
        pairs.push(Pair { name: "tokens_per_second".to_owned(), unit: Unit::Number, before, after, more_is_better: true });
    }
    let used = [
        ("hub.rss_per_session", Unit::Bytes, before.rss_per_session(), after.rss_per_session()),
        ("hub.cpu_per_1000_tokens", Unit::Time, before.cpu_per_1000_tokens(), after.cpu_per_1000_tokens()),
    ];
    for (name, unit, was, is) in used {
        if let (Some(was), Some(is)) = (was, is) {
            pairs.push(Pair { name: name.to_owned(), unit, before: Range::exactly(was), after: Range::exactly(is), more_is_better: false });
        }
    }
    let wrong = Count::ALL.into_iter().filter(|count| count.is_always_zero() || UNWANTED.contains(count));
    for count in wrong.filter(|count| before.count(*count) + after.count(*count) > 0) {
        let (was, is) = (before.count(count), after.count(count));
        // Where there were none, one is news. What a scenario brings about by chance scatters as chance does.
        let by_chance = was > 0 && UNWANTED.contains(&count);
        let (before, after) =
            if by_chance { (scattered(was), scattered(is)) } else { (Range::exactly(was as f64), Range::exactly(is as f64)) };
        pairs.push(Pair { name: count.name().to_owned(), unit: Unit::Number, before, after, more_is_better: false });
    }
    pairs
}

/// Distributions and uses of the hub that one of two results has, and whether it is the first: what was not measured is not as good.
fn missing(before: &Results, after: &Results) -> Vec<(&'static str, bool)> {
    let timings = Timing::ALL.map(Timing::name);
    let timings = timings.map(|name| (name, before.timings.contains_key(name), after.timings.contains_key(name)));
    let used = [
        ("hub.rss_per_session", before.rss_per_session().is_some(), after.rss_per_session().is_some()),
        ("hub.cpu_per_1000_tokens", before.cpu_per_1000_tokens().is_some(), after.cpu_per_1000_tokens().is_some()),
        ("tokens_per_second", before.tokens_per_second > 0.0, after.tokens_per_second > 0.0),
    ];
    timings.into_iter().chain(used).filter(|(_, was, is)| was != is).map(|(name, was, _)| (name, was)).collect()
}

/// A number of independent events, and two standard errors of it to either side.
fn scattered(count: u64) -> Range {
    let (figure, error) = (count as f64, 2.0 * (count as f64).sqrt());
    Range { low: figure - error, figure, high: figure + error }
}

/// A quantile, and those two standard errors of its rank to either side, and two more: at the ends of a few values the error says little.
fn quantile(of: &Distribution, share: f64) -> Range {
    let count = of.count as f64;
    let spread = 2.0 * (count * share * (1.0 - share)).sqrt() + 2.0;
    let at = |rank: f64| {
        let rank = rank.clamp(1.0, count.max(1.0));
        let mut seen = 0.0;
        let found = of.buckets.iter().find(|(_, count)| {
            seen += *count as f64;
            seen >= rank
        });
        found.map_or(of.max, |(value, _)| *value) as f64
    };
    Range { low: at(count * share - spread), figure: at((count * share).ceil()), high: at(count * share + spread) }
}

/// Tokens a second, and two standard errors of the mean of its seconds to either side.
fn rate(of: &Results) -> Range {
    let busy: Vec<f64> = speaking(&of.series).iter().map(|second| second.tokens as f64).collect();
    let count = busy.len().max(1) as f64;
    let mean = busy.iter().sum::<f64>() / count;
    let variance = busy.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    let error = 2.0 * (variance / count).sqrt();
    Range { low: of.tokens_per_second - error, figure: of.tokens_per_second, high: of.tokens_per_second + error }
}

#[allow(clippy::print_stdout, reason = "the comparison is the program's output")]
fn say(text: &str) {
    println!("{text}");
}

/// For other parts of the report.
pub(super) fn time_or_number(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Time => short_time(value),
        Unit::Number | Unit::Bytes => short(value),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn distribution(values: impl Iterator<Item = u64>) -> Distribution {
        let buckets: Vec<(u64, u64)> = values.map(|value| (value, 1)).collect();
        let max = buckets.last().map_or(0, |(value, _)| *value);
        Distribution { unit: Unit::Time, count: buckets.len() as u64, min: 1, p50: 0, p90: 0, p99: 0, p999: 0, max, buckets }
    }

    fn pair(before: &Distribution, after: &Distribution) -> Pair {
        let (before, after) = (quantile(before, 0.99), quantile(after, 0.99));
        Pair { name: String::new(), unit: Unit::Time, before, after, more_is_better: false }
    }

    #[test]
    fn only_what_leaves_the_scatter_is_worse() {
        let before = distribution(1..=10_000);
        assert!(pair(&before, &before).change(0.0) == Change::Noise);
        let twice = distribution((1..=10_000).map(|value| value * 2));
        assert!(pair(&before, &twice).change(0.1) == Change::Worse);
        assert!(pair(&twice, &before).change(0.1) == Change::Better);
        assert!(pair(&before, &twice).change(2.0) == Change::Noise, "the margin");
        // Of twenty values the 99th percentile is the largest, and that could have been almost any.
        let few = distribution((1..=20).map(|value| value * 500));
        let others = distribution((1..=20).map(|value| value * 560));
        assert!(pair(&few, &others).change(0.1) == Change::Noise, "the scatter");
        let rate = |before, after| Pair {
            name: String::new(),
            unit: Unit::Number,
            before: Range::exactly(before),
            after: Range::exactly(after),
            more_is_better: true,
        };
        assert!(rate(100.0, 80.0).change(0.1) == Change::Worse);
        assert!(rate(100.0, 120.0).change(0.1) == Change::Better);
    }

    fn results(counts: &[(Count, u64)], timings: &[Timing]) -> Results {
        Results {
            scenario: "s".into(),
            about: String::new(),
            target: "t".into(),
            seed: 0,
            processes: 1,
            sources: 0,
            sockets: 1,
            cores: 1,
            seconds: 1.0,
            counts: counts.iter().map(|(count, number)| (count.name().to_owned(), *number)).collect(),
            timings: timings.iter().map(|timing| (timing.name().to_owned(), distribution(1..=100))).collect(),
            tokens_per_second: 0.0,
            hub: None,
            meetings: Vec::new(),
            thresholds: Vec::new(),
            errors: BTreeMap::new(),
            complaints: Vec::new(),
            series: Vec::new(),
        }
    }

    #[test]
    fn what_is_missing_and_what_goes_wrong_more_often_is_worse() {
        let worse = |before: &Results, after: &Results| compare(before, after, 0.15).1;
        let mut missed = results(&[], &[Timing::Missed]);
        missed.timings.insert(Timing::Missed.name().to_owned(), distribution((1..=100).map(|value| value * 9)));
        assert_eq!(worse(&results(&[], &[Timing::Missed]), &missed), 0);
        let failed = |number| results(&[(Count::Failed, number)], &[Timing::Connect]);
        assert_eq!(worse(&failed(100), &failed(105)), 0);
        assert_eq!(worse(&failed(100), &failed(200)), 1);
        assert_eq!(worse(&failed(0), &failed(1)), 1);
        assert_eq!(worse(&results(&[], &[]), &results(&[(Count::Forgotten, 1), (Count::Closed, 1)], &[])), 2);
        let (text, worse) = compare(&results(&[], &[Timing::Connect, Timing::Token]), &results(&[], &[Timing::Connect]), 0.15);
        assert!(worse == 1 && text.contains("token "), "{text}");
    }

    #[test]
    fn quantiles_are_found_in_buckets() {
        let found = quantile(&distribution(1..=1000), 0.5);
        assert_eq!(found.figure, 500.0);
        assert!(found.low < 500.0 && found.high > 500.0 && found.high < 550.0);
    }
}
