//! Results as one HTML file that needs nothing else.

use std::fmt::Write as _;

use super::{
    Distribution, Results,
    compare::time_or_number,
    plot::{Chart, Line, escaped},
    short, short_time, with_unit,
};
use crate::{
    run::figures::{Count, Timing, Unit},
    scenario::Stat,
};

const STYLE: &str = "
:root{color-scheme:light dark;--back:#fff;--text:#1b1f24;--weak:#667;--rule:#d8dce2;--good:#1a7f37;--bad:#b3261e;
--c0:#2f6fde;--c1:#d9730d;--c2:#1a8f6a;--c3:#b3369a;--c4:#8a6d00;--c5:#5b5bd6;--c6:#c2410c;--c7:#0b7285}
@media (prefers-color-scheme:dark){:root{--back:#14171c;--text:#e6e8eb;--weak:#9aa3ad;--rule:#2c323a;--good:#56d364;--bad:#ff7b72;
--c0:#79a8ff;--c1:#ffb068;--c2:#5fd3a8;--c3:#f08bd8;--c4:#e3c65b;--c5:#b0b0ff;--c6:#ff9a76;--c7:#66d0e0}}
body{font:15px/1.5 system-ui,sans-serif;background:var(--back);color:var(--text);max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.3rem 0;color:var(--weak)}
.verdict{font-weight:600;color:var(--good)}.verdict.bad{color:var(--bad)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}
th,td{text-align:right;padding:.25rem .6rem;border-bottom:1px solid var(--rule);white-space:nowrap}th:first-child,td:first-child{text-align:left}
.bad{color:var(--bad)}.good{color:var(--good)}ul{padding-left:1.2rem}li{overflow-wrap:anywhere}
figure{margin:1rem 0}figcaption{font-weight:600}svg{width:100%;height:auto}svg text{font-size:11px;fill:var(--weak)}
.grid{stroke:var(--rule)}.line{fill:none;stroke-width:1.6;stroke-linejoin:round}.k::before{content:'';display:inline-block;width:.8em;height:.8em;margin-right:.3em;background:currentColor}
.k{margin-right:1em}.c0{stroke:var(--c0);color:var(--c0)}.c1{stroke:var(--c1);color:var(--c1)}.c2{stroke:var(--c2);color:var(--c2)}.c3{stroke:var(--c3);color:var(--c3)}
.c4{stroke:var(--c4);color:var(--c4)}.c5{stroke:var(--c5);color:var(--c5)}.c6{stroke:var(--c6);color:var(--c6)}.c7{stroke:var(--c7);color:var(--c7)}";

/// The page. Writing to a String cannot fail.
pub fn page(results: &Results) -> String {
    let mut body = String::new();
    heading(&mut body, results);
    thresholds(&mut body, results);
    distributions(&mut body, results);
    charts(&mut body, results);
    counts(&mut body, results);
    trouble(&mut body, results);
    let title = escaped(&results.scenario);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}: load on agent-hub</title><style>{STYLE}</style></head><body>\n{body}</body></html>\n"
    )
}

fn heading(body: &mut String, results: &Results) {
    let (class, verdict) = if results.kept() { ("", "all thresholds kept") } else { (" bad", "not all thresholds kept") };
    let _ = writeln!(
        body,
        "<h1>{}</h1><p>{}</p><p>{} sockets against {}, {:.0} s, {} load process(es), {} source addresses, {} cores, seed {}</p><p class=\"verdict{class}\">{verdict}</p>",
        escaped(&results.scenario),
        escaped(&results.about),
        results.sockets,
        escaped(&results.target),
        results.seconds,
        results.processes,
        results.sources,
        results.cores,
        results.seed
    );
}

fn thresholds(body: &mut String, results: &Results) {
    body.push_str("<h2>Thresholds</h2><div class=\"wide\"><table><tr><th>figure</th><th>reached</th><th>bound</th><th></th></tr>\n");
    for judged in &results.thresholds {
        let reached = judged.reached.map_or_else(|| "not measured".to_owned(), |reached| with_unit(reached, judged.unit));
        let bound = match (judged.at_most, judged.at_least) {
            (Some(most), _) => format!("≤ {}", with_unit(most, judged.unit)),
            (None, Some(least)) => format!("≥ {}", with_unit(least, judged.unit)),
            (None, None) => String::new(),
        };
        let (class, mark) = if judged.kept { ("good", "kept") } else { ("bad", "not kept") };
        let _ = writeln!(
            body,
            "<tr><td>{}</td><td>{reached}</td><td>{bound}</td><td class=\"{class}\">{mark}</td></tr>",
            escaped(&judged.name)
        );
    }
    body.push_str("</table></div>\n");
}

fn distributions(body: &mut String, results: &Results) {
    body.push_str("<h2>Distributions</h2><div class=\"wide\"><table><tr><th></th><th>count</th>");
    for stat in Stat::ALL {
        let _ = write!(body, "<th>{}</th>", stat.name());
    }
    body.push_str("</tr>\n");
    for (name, found) in &results.timings {
        let _ = write!(body, "<tr><td>{}</td><td>{}</td>", escaped(name), short(found.count as f64));
        for stat in Stat::ALL {
            let _ = write!(body, "<td>{}</td>", time_or_number(found.stat(stat) as f64, found.unit));
        }
        body.push_str("</tr>\n");
    }
    body.push_str("</table></div><p>Times count from when a thing was due, not from when the load got round to it.</p>\n");
}

fn charts(body: &mut String, results: &Results) {
    body.push_str("<h2>Plots</h2>\n");
    body.push_str(&by_percentile(results));
    let seconds = results.series.len();
    let marks: Vec<(f64, String)> =
        (0..=seconds).step_by((seconds / 8).max(1)).map(|second| (second as f64, format!("{second}"))).collect();
    let chart = |title: &str, label: fn(f64) -> String, lines: Vec<Line>| {
        let lines = lines.into_iter().filter(|line| line.points.iter().any(|(_, height)| *height > 0.0)).collect();
        Chart { title, along: "seconds", lines, label, logarithmic: false, marks: marks.clone() }.figure()
    };
    let line = |name: &str, of: &dyn Fn(&crate::run::figures::Second) -> f64| Line {
        name: name.to_owned(),
        points: results.series.iter().enumerate().map(|(second, found)| (second as f64 + 1.0, of(found))).collect(),
    };
    body.push_str(&chart("Tokens a second", short, vec![line("tokens", &|second| second.tokens as f64)]));
    body.push_str(&chart(
        "Sockets",
        short,
        vec![line("open", &|second| second.open as f64), line("made in this second", &|second| second.connects as f64)],
    ));
    let late =
        vec![line("token, p99", &|second| second.token_p99 as f64), line("first token, p99", &|second| second.first_token_p99 as f64)];
    body.push_str(&chart("Delay, second by second", short_time, late));
    let Some(hub) = &results.hub else { return };
    let of_hub = |name: &str, of: fn(&super::HubSecond) -> f64| Line {
        name: name.to_owned(),
        points: hub.seconds.iter().enumerate().map(|(second, used)| (second as f64 + 1.0, of(used))).collect(),
    };
    body.push_str(&chart(
        "Memory of the hub",
        |kib| format!("{:.0} MiB", kib / 1024.0),
        vec![of_hub("resident", |used| used.rss_kib as f64)],
    ));
    body.push_str(&chart(
        "CPU of the hub",
        |percent| format!("{percent:.0} %"),
        vec![of_hub("of one core", |used| used.cpu_ms as f64 / 10.0)],
    ));
}

/// Each distribution of times, its tail drawn out: every step to the right is a tenth of the values before.
fn by_percentile(results: &Results) -> String {
    let timed = Timing::ALL.iter().filter_map(|timing| Some((timing.name(), results.timings.get(timing.name())?)));
    let lines = timed
        .filter(|(_, found)| found.unit == Unit::Time && found.count > 1)
        .map(|(name, found)| Line { name: name.to_owned(), points: tail(found) });
    let marks = [(0.0, "0"), (1.0, "90 %"), (2.0, "99 %"), (3.0, "99.9 %"), (4.0, "99.99 %"), (5.0, "99.999 %")];
    let chart = Chart {
        title: "Times by percentile",
        along: "percentile",
        lines: lines.collect(),
        label: short_time,
        logarithmic: true,
        marks: marks.map(|(at, text)| (at, text.to_owned())).to_vec(),
    };
    chart.figure()
}

fn tail(found: &Distribution) -> Vec<(f64, f64)> {
    let count = found.count as f64;
    let mut seen = 0.0;
    let point = |(value, here): &(u64, u64)| {
        seen += *here as f64;
        // The last value is one of so many, and stands where that is.
        let left = ((count - seen) / count).max(0.5 / count);
        // Two frames of one read are no time apart; a microsecond is where the axis may begin.
        (-left.log10(), (*value as f64).max(1e3))
    };
    found.buckets.iter().map(point).collect()
}

fn counts(body: &mut String, results: &Results) {
    body.push_str("<h2>Counts</h2><div class=\"wide\"><table>\n");
    for count in Count::ALL {
        let figure = results.count(count);
        let class = if count.is_always_zero() && figure > 0 { " class=\"bad\"" } else { "" };
        let _ = writeln!(body, "<tr><td>{}</td><td{class}>{figure}</td></tr>", count.name());
    }
    body.push_str("</table></div>\n");
    if let (Some(hub), Some(bytes)) = (&results.hub, results.rss_per_session()) {
        let per_token =
            results.cpu_per_1000_tokens().map_or_else(String::new, |nanos| format!(", {} CPU per 1,000 tokens", short_time(nanos)));
        let _ = writeln!(body, "<p>The hub used {:.1} s CPU{per_token} and grew by {:.1} KiB per session.</p>", hub.cpu_s, bytes / 1024.0);
    }
    for meeting in &results.meetings {
        let rss = meeting.rss_kib.map_or_else(String::new, |kib| format!(", the hub had {:.0} MiB", kib as f64 / 1024.0));
        let _ = writeln!(body, "<p>After {:.1} s all were at “{}” ({}){rss}.</p>", meeting.after_s, escaped(&meeting.name), meeting.round);
    }
}

fn trouble(body: &mut String, results: &Results) {
    if results.errors.is_empty() && results.complaints.is_empty() {
        return;
    }
    body.push_str("<h2>What went wrong</h2><ul>\n");
    for (text, count) in &results.errors {
        let _ = writeln!(body, "<li>{count} × {}</li>", escaped(text));
    }
    for complaint in &results.complaints {
        let _ = writeln!(body, "<li class=\"bad\">{}</li>", escaped(complaint));
    }
    body.push_str("</ul>\n");
}
