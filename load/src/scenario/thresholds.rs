//! What must hold at the end of a run.

use std::time::Duration;

use toml_edit::{Item, Value};

use super::fields::{Fields, bytes, duration};
use crate::run::figures::{Count, Timing, Unit};

/// A bound on a figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// As it was written: `first_token.p99`.
    pub name: String,
    /// Which figure.
    pub wanted: Wanted,
    /// The bound.
    pub bound: Bound,
}

/// Which figure a threshold is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A counter.
    Count(Count),
    /// A point of a distribution.
    Timing(Timing, Stat),
    /// Model tokens a second, over the whole run.
    TokensPerSecond,
    /// How much larger the hub is per session at its largest than before the run. Only of a hub that was started for the run.
    RssPerSession,
    /// CPU the hub used per thousand tokens. Only of a hub that was started for the run.
    CpuPer1000Tokens,
}

/// A point of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are called what they are")]
pub enum Stat {
    Min,
    P50,
    P90,
    P99,
    P999,
    Max,
}

impl Stat {
    /// All of them, from the smallest.
    pub const ALL: [Stat; 6] = [Stat::Min, Stat::P50, Stat::P90, Stat::P99, Stat::P999, Stat::Max];

    /// As in a threshold.
    pub const fn name(self) -> &'static str {
        match self {
            Stat::Min => "min",
            Stat::P50 => "p50",
            Stat::P90 => "p90",
            Stat::P99 => "p99",
            Stat::P999 => "p999",
            Stat::Max => "max",
        }
    }
}

/// A bound, in nanoseconds, bytes, or whatever is counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Bound {
    /// Whether a figure keeps it.
    pub fn holds(self, figure: f64) -> bool {
        match self {
            Bound::AtMost(most) => figure <= most,
            Bound::AtLeast(least) => figure >= least,
        }
    }
}

impl Wanted {
    /// The unit of its bound.
    pub const fn unit(self) -> Unit {
        match self {
            Wanted::Count(_) | Wanted::TokensPerSecond => Unit::Number,
            Wanted::Timing(timing, _) => timing.unit(),
            Wanted::RssPerSession => Unit::Bytes,
            Wanted::CpuPer1000Tokens => Unit::Time,
        }
    }

    fn named(name: &str) -> Option<Self> {
        match name {
            "tokens_per_second" => return Some(Wanted::TokensPerSecond),
            "hub.rss_per_session" => return Some(Wanted::RssPerSession),
            "hub.cpu_per_1000_tokens" => return Some(Wanted::CpuPer1000Tokens),
            _ => {}
        }
        if let Some((timing, stat)) = name.split_once('.') {
            let timing = Timing::ALL.into_iter().find(|known| known.name() == timing)?;
            let stat = Stat::ALL.into_iter().find(|known| known.name() == stat)?;
            return Some(Wanted::Timing(timing, stat));
        }
        Count::ALL.into_iter().find(|count| count.name() == name).map(Wanted::Count)
    }
}

/// Reads `[thresholds]`. What always must hold is there without being written.
pub(super) fn thresholds(fields: Option<Fields<'_>>) -> Vec<Threshold> {
    let mut found = Vec::new();
    if let Some(fields) = fields {
        for (name, item) in fields.entries() {
            match Wanted::named(name) {
                Some(wanted) => {
                    let bounds = bounds(&fields, name, wanted, item);
                    check_most(&fields, name, wanted, &bounds);
                    found.extend(bounds);
                }
                None => fields.wrong(name, unknown()),
            }
        }
    }
    for count in Count::ALL.into_iter().filter(|count| count.is_always_zero()) {
        if !found.iter().any(|threshold| threshold.wanted == Wanted::Count(count)) {
            found.push(Threshold { name: count.name().to_owned(), wanted: Wanted::Count(count), bound: Bound::AtMost(0.0) });
        }
    }
    found
}

/// What always must be none may be given another most, but not none.
fn check_most(fields: &Fields<'_>, name: &str, wanted: Wanted, bounds: &[Threshold]) {
    let always = matches!(wanted, Wanted::Count(count) if count.is_always_zero());
    if always && !bounds.is_empty() && !bounds.iter().any(|threshold| matches!(threshold.bound, Bound::AtMost(_))) {
        fields.wrong(name, "is held to none where nothing is said; expected the most it may be, such as 0".to_owned());
    }
}

fn unknown() -> String {
    let timings = Timing::ALL.map(Timing::name).join(", ");
    let stats = Stat::ALL.map(Stat::name).join(", ");
    let counts = Count::ALL.map(Count::name).join(", ");
    format!(
        "no such figure; allowed: one of [{timings}] with one of [{stats}], as in \"first_token.p99\" (in quotes); one of [{counts}]; \
         tokens_per_second, \"hub.rss_per_session\", \"hub.cpu_per_1000_tokens\""
    )
}

fn bounds(fields: &Fields<'_>, name: &str, wanted: Wanted, item: &Item) -> Vec<Threshold> {
    let one = |bound| Threshold { name: name.to_owned(), wanted, bound };
    if let Some(most) = item.as_value().and_then(|value| amount(value, wanted.unit())) {
        return vec![one(Bound::AtMost(most))];
    }
    let Some(table) = item.as_table_like().filter(|table| !table.is_empty()) else {
        fields.wrong(name, expected(wanted.unit()));
        return Vec::new();
    };
    let mut found = Vec::new();
    for (key, item) in table.iter() {
        let amount = item.as_value().and_then(|value| amount(value, wanted.unit()));
        match (key, amount) {
            ("at_most", Some(most)) => found.push(one(Bound::AtMost(most))),
            ("at_least", Some(least)) => found.push(one(Bound::AtLeast(least))),
            _ => fields.wrong(name, expected(wanted.unit())),
        }
    }
    found
}

fn expected(unit: Unit) -> String {
    let amount = match unit {
        Unit::Time => "\"20 ms\"",
        Unit::Bytes => "\"16 KiB\"",
        Unit::Number => "100",
    };
    format!("expected the most it may be, such as {amount}, or {{ at_least = {amount} }}, or {{ at_most = {amount} }}, or both")
}

fn amount(value: &Value, unit: Unit) -> Option<f64> {
    match unit {
        Unit::Time => duration(value.as_str()?).map(|time: Duration| time.as_nanos() as f64),
        Unit::Bytes => bytes(value.as_str()?),
        Unit::Number => value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64)),
    }
}
