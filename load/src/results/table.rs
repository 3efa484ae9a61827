//! Results for a terminal.

use std::fmt::Write as _;

use super::{Judged, Results, short, short_time, with_unit};
use crate::{
    run::figures::{Count, Timing},
    scenario::Stat,
};

/// Complaints shown; all that were kept are in the JSON.
const SHOWN: usize = 10;

/// Everything in a screen or two. Writing to a String cannot fail.
pub fn table(results: &Results) -> String {
    let mut out = String::new();
    let Results { scenario, target, seed, processes, sources, sockets, cores, .. } = results;
    let _ = writeln!(out, "{scenario}: {sockets} sockets against {target}, {:.0} s", results.seconds);
    let _ = writeln!(out, "{processes} load process(es), {sources} source addresses (0: the system chose), {cores} cores, seed {seed}\n");
    distributions(&mut out, results);
    counts(&mut out, results);
    hub(&mut out, results);
    for (text, count) in &results.errors {
        let _ = writeln!(out, "  {count} x {text}");
    }
    for complaint in results.complaints.iter().take(SHOWN) {
        let _ = writeln!(out, "  ! {complaint}");
    }
    if results.complaints.len() > SHOWN {
        let _ = writeln!(out, "  ! … and more, in the JSON");
    }
    let _ = writeln!(out);
    for judged in &results.thresholds {
        let _ = writeln!(out, "{}", judgement(judged));
    }
    let broken = results.thresholds.iter().filter(|judged| !judged.kept).count();
    let verdict = if broken == 0 { "all thresholds kept".to_owned() } else { format!("{broken} THRESHOLDS NOT KEPT") };
    let _ = write!(out, "{verdict}");
    out
}

fn distributions(out: &mut String, results: &Results) {
    let _ = writeln!(out, "{:<14}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}", "", "count", "p50", "p90", "p99", "p99.9", "max");
    for timing in Timing::ALL {
        let Some(found) = results.timings.get(timing.name()) else { continue };
        let _ = write!(out, "{:<14}{:>10}", timing.name(), short(found.count as f64));
        for stat in Stat::ALL.into_iter().filter(|stat| *stat != Stat::Min) {
            let _ = write!(out, "{:>10}", with_unit(found.stat(stat) as f64, found.unit));
        }
        let _ = writeln!(out);
    }
}

fn counts(out: &mut String, results: &Results) {
    let of = |counts: &[Count]| {
        let shown: Vec<String> = counts.iter().map(|count| format!("{} {}", short(results.count(*count) as f64), count.name())).collect();
        shown.join(", ")
    };
    use Count::{
        Altered, Cancelled, CancelsTooLate, Closed, Completed, ConnectFailures, Connects, Errors, Failed, Lost, Reordered, Repeated,
        Resumes, Sessions, Submitted, TimedOut, TokenEvents, Tokens, TokensAfterCancel, Unmet, Verified,
    };
    let _ = writeln!(out, "\n{} ({}/s)", of(&[Tokens, TokenEvents, Count::Events, Count::Bytes]), short(results.tokens_per_second));
    let _ = writeln!(out, "{}", of(&[Connects, ConnectFailures, Closed, Resumes, Sessions]));
    let _ = writeln!(out, "{}", of(&[Submitted, Completed, Failed, Cancelled, TimedOut, CancelsTooLate, Errors, Unmet]));
    let _ = writeln!(out, "{}", of(&[Verified, Count::Compared, Lost, Repeated, Reordered, Altered, TokensAfterCancel]));
}

fn hub(out: &mut String, results: &Results) {
    let Some(hub) = &results.hub else { return };
    // Of a few sessions it is the process that is measured.
    let per_session = results.rss_per_session().filter(|_| results.count(Count::Sessions) >= 100);
    let per_session = per_session.map_or_else(String::new, |bytes| format!(" ({:.1} KiB per session)", bytes / 1024.0));
    let per_token = results.cpu_per_1000_tokens().map_or_else(String::new, |nanos| format!(", {} CPU per 1,000 tokens", short_time(nanos)));
    let mib = |kib: u64| kib as f64 / 1024.0;
    let _ = writeln!(
        out,
        "hub: {:.0} MiB before, {:.0} MiB at its largest{per_session}, {:.1} s CPU{per_token}",
        mib(hub.rss_before_kib),
        mib(hub.rss_largest_kib),
        hub.cpu_s
    );
    for meeting in &results.meetings {
        let sessions = results.count(Count::Sessions).max(1) as f64;
        let rss = meeting.rss_kib.map_or_else(String::new, |kib| {
            let each = kib.saturating_sub(hub.rss_before_kib) as f64 / sessions;
            format!(", hub {:.0} MiB, {each:.1} KiB for each of all sessions", mib(kib))
        });
        let _ = writeln!(out, "  met after {:.1} s at \"{}\" ({}){rss}", meeting.after_s, meeting.name, meeting.round);
    }
}

fn judgement(judged: &Judged) -> String {
    let reached = judged.reached.map_or_else(|| "not measured".to_owned(), |reached| with_unit(reached, judged.unit));
    let bound = match (judged.at_most, judged.at_least) {
        (Some(most), _) => format!("at most {}", with_unit(most, judged.unit)),
        (None, Some(least)) => format!("at least {}", with_unit(least, judged.unit)),
        (None, None) => String::new(),
    };
    let mark = if judged.kept { "ok  " } else { "FAIL" };
    format!("{mark} {:<26} {reached:>12}   {bound}", judged.name)
}
