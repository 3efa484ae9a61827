//! Goals, what was reached, and the table.

use std::fmt::Write as _;

use serde::Serialize;

use crate::figure::median;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Better {
    /// Smaller figures.
    Less,
    /// Larger ones.
    More,
}

/// How a figure stands to its goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// As far as one meant to go, or further.
    Aim,
    /// Good enough.
    Must,
    /// Not good enough.
    Missed,
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// The number in the goals' table.
    pub(super) goal: u8,
    /// What was measured.
    pub(super) what: String,
    /// The median of the rounds.
    pub(super) reached: f64,
    /// The lowest and the highest round.
    pub(super) range: (f64, f64),
    /// The floor.
    pub(super) must: f64,
    /// Where it should be.
    pub(super) aim: f64,
    /// Which way is better.
    pub(super) better: Better,
    /// The unit, for people.
    pub(super) unit: &'static str,
    /// How it stands.
    pub(super) verdict: Verdict,
    /// What else is to be said.
    pub(super) note: String,
}

impl Row {
    /// Judges the figures of several rounds by their median.
    pub(super) fn new(goal: u8, what: impl Into<String>, rounds: &[f64], unit: &'static str, better: Better, must: f64, aim: f64) -> Self {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let reached = median(rounds);
        let range = (sorted.first().copied().unwrap_or(0.0), sorted.last().copied().unwrap_or(0.0));
        let good = |wanted: f64| if better == Better::Less { reached <= wanted } else { reached >= wanted };
        let verdict = match (sorted.is_empty(), good(aim), good(must)) {
            (false, true, true) => Verdict::Aim,
            (false, _, true) => Verdict::Must,
            (true, ..) | (false, _, false) => Verdict::Missed,
        };
        Self { goal, what: what.into(), reached, range, must, aim, better, unit, verdict, note: String::new() }
    }

    /// Missed whatever the figure says, if something made it worthless.
    #[must_use]
    pub(super) fn unless(mut self, broken: bool) -> Self {
        if broken {
            self.verdict = Verdict::Missed;
        }
        self
    }

    /// With a remark.
    #[must_use]
    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

/// The table, in Markdown.
pub(super) fn table(rows: &[Row]) -> String {
    let mut out = String::from("| # | goal | reached (lowest … highest) | must | aim | verdict | |\n|---|---|---|---|---|---|---|\n");
    for row in rows {
        let sign = if row.better == Better::Less { "≤" } else { "≥" };
        let verdict = match row.verdict {
            Verdict::Aim => "aim",
            Verdict::Must => "must",
            Verdict::Missed => "**missed**",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "| {} | {} | {} {} ({} … {}) | {sign} {} | {sign} {} | {verdict} | {} |",
            row.goal,
            row.what,
            short(row.reached),
            row.unit,
            short(row.range.0),
            short(row.range.1),
            short(row.must),
            short(row.aim),
            row.note
        );
    }
    out
}

/// Three digits are enough for people.
pub(super) fn short(figure: f64) -> String {
    match figure.abs() {
        never if !never.is_finite() => "never".to_owned(),
        large if large >= 1e6 => format!("{:.2} M", figure / 1e6),
        large if large >= 1e4 => format!("{:.0} k", figure / 1e3),
        large if large >= 100.0 => format!("{figure:.0}"),
        large if large >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_judged_by_their_median() {
        let row = |rounds: &[f64], better| Row::new(1, "", rounds, "x", better, 1.0, 2.0).verdict;
        assert_eq!(row(&[0.1, 1.5, 9.0], Better::More), Verdict::Must);
        assert_eq!(row(&[3.0, 2.0, 2.0], Better::More), Verdict::Aim);
        assert_eq!(row(&[0.9], Better::More), Verdict::Missed);
        assert_eq!(row(&[], Better::More), Verdict::Missed);
        assert_eq!(Row::new(1, "", &[1.5], "", Better::Less, 2.0, 1.0).verdict, Verdict::Must);
        assert_eq!(Row::new(1, "", &[0.5], "", Better::Less, 2.0, 1.0).unless(true).verdict, Verdict::Missed);
    }

    #[test]
    fn what_never_came_is_missed() {
        for never in [f64::INFINITY, f64::NAN] {
            assert_eq!(Row::new(11, "", &[never], "ms", Better::Less, 5.0, 2.0).verdict, Verdict::Missed);
            assert_eq!(short(never), "never");
        }
    }
}
