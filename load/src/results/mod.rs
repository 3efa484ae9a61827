//! What a run came to: as a table, as JSON, as a page, and against another run.

mod compare;
mod page;
mod plot;
mod table;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::{
    compare::{CompareArgs, compare, run as run_compare},
    page::page,
    table::table,
};
use crate::{
    run::{
        figures::{Count, Figures, Second, Timing, Unit},
        target::Loaded,
    },
    scenario::{Bound, Scenario, Stat, Threshold, Wanted},
};

/// See the module. This is also the JSON file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The scenario.
    pub scenario: String,
    /// What it is for.
    pub about: String,
    /// What was loaded.
    pub target: String,
    /// Of the random choices.
    pub seed: u64,
    /// Load processes.
    pub processes: usize,
    /// Source addresses; 0: the system chose.
    pub sources: u8,
    /// Sockets of the scenario.
    pub sockets: usize,
    /// Cores of the machine the load ran on.
    pub cores: usize,
    /// Seconds from the first start to the last end.
    pub seconds: f64,
    /// By name.
    pub counts: BTreeMap<String, u64>,
    /// By name.
    pub timings: BTreeMap<String, Distribution>,
    /// Over the whole run.
    pub tokens_per_second: f64,
    /// What the hub used, if it was started for the run.
    pub hub: Option<HubUse>,
    /// When sockets met, and how large the hub was then.
    pub meetings: Vec<AtMeeting>,
    /// What had to hold.
    pub thresholds: Vec<Judged>,
    /// What went wrong, and how often.
    pub errors: BTreeMap<String, u64>,
    /// Broken promises in words.
    pub complaints: Vec<String>,
    /// Second by second.
    pub series: Vec<Second>,
}

/// A distribution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Of its values.
    pub unit: Unit,
    /// How many.
    pub count: u64,
    /// The middle; see [`Stat`] for the others.
    pub min: u64,
    /// See `min`.
    pub p50: u64,
    /// See `min`.
    pub p90: u64,
    /// See `min`.
    pub p99: u64,
    /// See `min`.
    pub p999: u64,
    /// See `min`.
    pub max: u64,
    /// Values, with three digits, and how often each was met.
    pub buckets: Vec<(u64, u64)>,
}

impl Distribution {
    /// A point of it.
    pub const fn stat(&self, stat: Stat) -> u64 {
        match stat {
            Stat::Min => self.min,
            Stat::P50 => self.p50,
            Stat::P90 => self.p90,
            Stat::P99 => self.p99,
            Stat::P999 => self.p999,
            Stat::Max => self.max,
        }
    }
}

/// What the hub used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HubUse {
    /// Resident memory before the first socket.
    pub rss_before_kib: u64,
    /// At its largest.
    pub rss_largest_kib: u64,
    /// After the last one.
    pub rss_after_kib: u64,
    /// CPU, user and system.
    pub cpu_s: f64,
    /// Second by second.
    pub seconds: Vec<HubSecond>,
}

/// What the hub used in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubSecond {
    /// Resident memory at its end.
    pub rss_kib: u64,
    /// CPU.
    pub cpu_ms: u64,
}

/// A meeting of sockets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AtMeeting {
    /// Group and name.
    pub name: String,
    /// The n-th time.
    pub round: u32,
    /// Seconds after the begin.
    pub after_s: f64,
    /// Resident memory of the hub.
    pub rss_kib: Option<u64>,
}

/// A threshold and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// As in the scenario.
    pub name: String,
    /// Of the figure and the bound.
    pub unit: Unit,
    /// The figure; none where nothing was measured.
    pub reached: Option<f64>,
    /// The bound, if it is the most.
    pub at_most: Option<f64>,
    /// The bound, if it is the least.
    pub at_least: Option<f64>,
    /// Whether it was kept. What was not measured is not.
    pub kept: bool,
}

impl Results {
    /// Of a run's figures. `shape`: processes, source addresses, seed.
    pub(crate) fn new(
        scenario: &Scenario,
        loaded: &Loaded,
        shape: (usize, u8, u64),
        figures: &Figures,
        used: (Option<HubUse>, Vec<AtMeeting>),
    ) -> Self {
        let (processes, sources, seed) = shape;
        let (hub, meetings) = used;
        let exported = figures.export();
        let series = exported.seconds;
        let speaking = speaking(&series).len().max(1);
        let timings = Timing::ALL.into_iter().filter(|timing| !figures.timing(*timing).is_empty());
        let timings = timings.map(|timing| {
            let histogram = figures.timing(timing);
            let buckets = exported.timings.get(timing.name()).cloned().unwrap_or_default();
            let at = |share: f64| histogram.value_at_quantile(share);
            let distribution = Distribution {
                unit: timing.unit(),
                count: histogram.len(),
                min: histogram.min(),
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p999: at(0.999),
                max: histogram.max(),
                buckets,
            };
            (timing.name().to_owned(), distribution)
        });
        let mut results = Self {
            scenario: scenario.name.clone(),
            about: scenario.about.clone(),
            target: loaded.what.clone(),
            seed,
            processes,
            sources,
            sockets: scenario.sockets(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            seconds: series.len() as f64,
            counts: exported.counts,
            timings: timings.collect(),
            tokens_per_second: figures.get(Count::Tokens) as f64 / speaking as f64,
            hub,
            meetings,
            thresholds: Vec::new(),
            errors: exported.errors,
            complaints: exported.complaints,
            series,
        };
        results.thresholds = scenario.thresholds.iter().map(|threshold| results.judge(threshold)).collect();
        results
    }

    /// Whether every threshold was kept.
    pub fn kept(&self) -> bool {
        self.thresholds.iter().all(|judged| judged.kept)
    }

    /// How often something was counted.
    pub fn count(&self, count: Count) -> u64 {
        self.counts.get(count.name()).copied().unwrap_or(0)
    }

    /// Bytes the hub grew by per session, at its largest.
    pub fn rss_per_session(&self) -> Option<f64> {
        let sessions = self.count(Count::Sessions).max(1);
        let hub = self.hub.as_ref()?;
        Some(hub.rss_largest_kib.saturating_sub(hub.rss_before_kib) as f64 * 1024.0 / sessions as f64)
    }

    /// CPU of the hub per thousand tokens, in nanoseconds.
    pub fn cpu_per_1000_tokens(&self) -> Option<f64> {
        let tokens = self.count(Count::Tokens);
        (tokens > 0).then_some(self.hub.as_ref()?.cpu_s * 1e9 * 1000.0 / tokens as f64)
    }

    fn judge(&self, threshold: &Threshold) -> Judged {
        let reached = match threshold.wanted {
            Wanted::Count(count) => Some(self.count(count) as f64),
            Wanted::Timing(timing, stat) => self.timings.get(timing.name()).map(|found| found.stat(stat) as f64),
            Wanted::TokensPerSecond => Some(self.tokens_per_second),
            Wanted::RssPerSession => self.rss_per_session(),
            Wanted::CpuPer1000Tokens => self.cpu_per_1000_tokens(),
        };
        let (at_most, at_least) = match threshold.bound {
            Bound::AtMost(most) => (Some(most), None),
            Bound::AtLeast(least) => (None, Some(least)),
        };
        let kept = reached.is_some_and(|reached| threshold.bound.holds(reached));
        Judged { name: threshold.name.clone(), unit: threshold.wanted.unit(), reached, at_most, at_least, kept }
    }
}

/// The seconds from the first with a token to the last, the silent ones between them too: a server that stalls is slower for it.
fn speaking(series: &[Second]) -> &[Second] {
    let spoke = |second: &Second| second.tokens > 0;
    let (first, last) = (series.iter().position(spoke), series.iter().rposition(spoke));
    first.zip(last).map_or(&[], |(first, last)| &series[first..=last])
}

/// A figure with its unit, for people.
pub fn with_unit(figure: f64, unit: Unit) -> String {
    match unit {
        Unit::Time => short_time(figure),
        Unit::Bytes => format!("{:.1} KiB", figure / 1024.0),
        Unit::Number => short(figure),
    }
}

/// Three digits are enough for people.
pub fn short(figure: f64) -> String {
    match figure.abs() {
        large if large >= 1e6 => format!("{:.2} M", figure / 1e6),
        large if large >= 1e4 => format!("{:.1} k", figure / 1e3),
        _ if figure.fract() == 0.0 => format!("{figure:.0}"),
        large if large >= 100.0 => format!("{figure:.0}"),
        large if large >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// Nanoseconds, for people.
pub fn short_time(nanos: f64) -> String {
    match nanos {
        large if large >= 1e9 => format!("{:.2} s", nanos / 1e9),
        large if large >= 1e7 => format!("{:.0} ms", nanos / 1e6),
        large if large >= 1e6 => format!("{:.1} ms", nanos / 1e6),
        large if large >= 1e3 => format!("{:.0} us", nanos / 1e3),
        _ => format!("{nanos:.0} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_of_silence_between_tokens_count() {
        let seconds = |tokens: &[u64]| tokens.iter().map(|tokens| Second { tokens: *tokens, ..Second::default() }).collect::<Vec<_>>();
        assert_eq!(speaking(&seconds(&[0, 5, 0, 0, 5, 0])).len(), 4);
        assert_eq!(speaking(&seconds(&[0, 0])).len(), 0);
    }
}
