//! `agent-hub-load bench`: the goals, measured.
//!
//! The server has one core, the client (and the fake vendor) another. Hub and bare server run in the same rounds, one after the other,
//! each time a new process over new data; a figure is the median of the rounds. The saturated source in the hub is its own `demo`
//! provider, because no process on the client's core could feed it. Paced tokens carry the time they were made: by the demo provider in
//! the hub, by the bare server just before it writes, or by the fake vendor, a process of its own.

mod cancel;
mod durable;
mod fanout;
mod fleet;
mod memory;
mod report;
pub mod scale;
mod server;
mod stalled;
mod storm;
mod streams;
mod through;

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use clap::Args;

use self::{
    fleet::KEPT_AT_LEAST,
    report::{Better, Row, short, table},
    server::{CLIENT_CORE, Kind, Programs},
    streams::Streamed,
};
use crate::{
    figure::median,
    peers::{self, Peer, Places},
    process::{open_files_limit, pin_self},
};

/// Figures against the goals.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// The hub; the one beside this program otherwise. Build with --release.
    #[arg(long)]
    hub: Option<PathBuf>,
    /// One round, short windows, fewer sessions: whether it works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// Only these goals.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=22))]
    goal: Vec<u8>,
    /// Rounds per figure.
    #[arg(long, default_value_t = 5)]
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

/// Measures, prints the table, and says whether every floor was reached.
///
/// # Errors
/// Something does not start, or breaks.
pub async fn run(args: BenchArgs) -> anyhow::Result<bool> {
    let programs = Programs::new(args.hub.clone())?;
    if !args.no_pin {
        pin_self(CLIENT_CORE)?;
    }
    let mut bench = Bench {
        programs,
        rounds: if args.quick { 1 } else { args.rounds.max(1) },
        window: if args.quick { Duration::from_secs(2) } else { Duration::from_secs(args.seconds.max(1)) },
        quick: args.quick,
        wanted: args.goal.iter().copied().collect(),
        rows: Vec::new(),
        measured: Vec::new(),
        missing: Vec::new(),
    };
    bench.saturated().await?;
    bench.paced().await?;
    bench.first_token().await?;
    bench.cancels().await?;
    bench.storms().await?;
    bench.memory().await?;
    bench.stalled().await?;
    bench.through().await?;
    bench.fan_out().await?;
    bench.durable().await?;
    bench.peers(!args.no_pin).await?;
    bench.rows.sort_by_key(|row| row.goal);
    let missing = bench.missing.iter().map(|missing| format!("Not measured: {missing}\n")).collect::<String>();
    say(&format!("\n{}\n{missing}", table(&bench.rows)));
    if let Some(path) = args.json {
        let all = serde_json::json!({ "rounds": bench.rounds, "rows": bench.rows, "streams": bench.measured });
        std::fs::write(path, serde_json::to_string_pretty(&all)?)?;
    }
    // What could not be measured was not reached either.
    Ok(bench.missing.is_empty() && bench.rows.iter().all(|row| row.verdict != report::Verdict::Missed))
}

struct Bench {
    programs: Programs,
    rounds: usize,
    window: Duration,
    quick: bool,
    wanted: BTreeSet<u8>,
    rows: Vec<Row>,
    measured: Vec<Streamed>,
    /// What could not be measured, and why.
    missing: Vec<String>,
}

/// Figures of one kind at one number of sessions, round by round.
#[derive(Default)]
struct Rounds(Vec<Streamed>);

impl Rounds {
    fn of(&self, figure: impl Fn(&Streamed) -> f64) -> Vec<f64> {
        self.0.iter().map(figure).collect()
    }

    /// Whether every round kept its pace, so that what came can be judged.
    fn kept(&self) -> bool {
        self.0.iter().all(|found| found.kept >= KEPT_AT_LEAST)
    }

    /// Round by round, so that what slowed the machine slowed both.
    fn ratio(&self, to: &Rounds, figure: impl Fn(&Streamed) -> f64) -> Vec<f64> {
        self.0.iter().zip(&to.0).map(|(this, other)| figure(this) / figure(other)).collect()
    }
}

impl Bench {
    fn wants(&self, goals: &[u8]) -> bool {
        self.wanted.is_empty() || goals.iter().any(|goal| self.wanted.contains(goal))
    }

    fn push(&mut self, row: Row) {
        if self.wanted.is_empty() || self.wanted.contains(&row.goal) {
            say(&format!("  goal {}: {} = {} {}", row.goal, row.what, short(row.reached), row.unit));
            self.rows.push(row);
        }
    }

    fn many(&self) -> usize {
        if self.quick { 300 } else { 1000 }
    }

    /// Goals 1, 2, 15: as fast as it goes.
    async fn saturated(&mut self) -> anyhow::Result<()> {
        if !self.wants(&[1, 2, 15]) {
            return Ok(());
        }
        let mut few_and_many = Vec::new();
        for sessions in [10, 100, self.many()] {
            let (mut bare, mut memory, mut sqlite) = (Rounds::default(), Rounds::default(), Rounds::default());
            for _ in 0..self.rounds {
                for (kind, rounds) in [(Kind::Bare, &mut bare), (Kind::Memory, &mut memory), (Kind::Sqlite, &mut sqlite)] {
                    let found = streams::saturated(&self.programs, kind, sessions, self.window).await?;
                    tell("saturated", &found);
                    rounds.0.push(found);
                    self.measured.push(found);
                }
            }
            if sessions > 10 {
                let rate = |found: &Streamed| found.tokens_per_s;
                let note = |hub: &Rounds| {
                    let per_event = median(&hub.of(|found| found.tokens_per_event));
                    format!(
                        "{}/s against {}/s, {per_event:.1} tokens per event",
                        short(median(&hub.of(rate))),
                        short(median(&bare.of(rate)))
                    )
                };
                let what = |log: &str| format!("saturated, {sessions} sessions, {log}, to bare");
                self.push(Row::new(1, what("log off"), &memory.ratio(&bare, rate), "x", Better::More, 1.2, 2.0).note(note(&memory)));
                self.push(Row::new(2, what("log on"), &sqlite.ratio(&bare, rate), "x", Better::More, 0.5, 1.0).note(note(&sqlite)));
            }
            few_and_many.push(sqlite);
        }
        let [ten, hundred, many] = few_and_many.as_slice() else { return Ok(()) };
        let cpu = |found: &Streamed| found.cpu_us;
        let cost = |rounds: &Rounds| format!("{:.2}", median(&rounds.of(cpu)));
        let note = format!(
            "{} / {} / {} us per token at 10 / 100 / {}, one number after another, not interleaved",
            cost(ten),
            cost(hundred),
            cost(many),
            self.many()
        );
        self.push(Row::new(15, "CPU per token, many sessions to 100", &many.ratio(hundred, cpu), "x", Better::Less, 1.4, 1.2).note(note));
        Ok(())
    }

    /// Goals 5, 6, 7, 8, 21: at the pace of a model.
    async fn paced(&mut self) -> anyhow::Result<()> {
        if !self.wants(&[5, 6, 7, 8, 21]) {
            return Ok(());
        }
        let kinds = [Kind::Bare, Kind::Memory, Kind::Sqlite, Kind::Vendor];
        let mut found: [[Rounds; 4]; 2] = Default::default();
        for _ in 0..self.rounds {
            for (sessions, rounds) in [100, self.many()].into_iter().zip(&mut found) {
                for (kind, rounds) in kinds.into_iter().zip(rounds) {
                    let streamed = streams::paced(&self.programs, kind, sessions, self.window).await?;
                    tell("paced", &streamed);
                    rounds.0.push(streamed);
                    self.measured.push(streamed);
                }
            }
        }
        let [few, many] = &found;
        let rows = self.paced_rows(few, many);
        rows.into_iter().for_each(|row| self.push(row));
        Ok(())
    }

    fn paced_rows(&self, few: &[Rounds; 4], many: &[Rounds; 4]) -> Vec<Row> {
        let [bare_few, _, sqlite_few, vendor_few] = few;
        let [bare, memory, sqlite, vendor] = many;
        let (cpu, p50, p99) = (|s: &Streamed| s.cpu_us, |s: &Streamed| s.p50_us, |s: &Streamed| s.p99_us);
        let kept = |rounds: &Rounds| rounds.of(|s| s.kept * 100.0);
        let us = |rounds: &Rounds, figure: fn(&Streamed) -> f64| short(median(&rounds.of(figure)));
        // Judged is what the vendor stamped, outside of what is measured. The demo provider stamps inside the hub.
        let demo = |figure: fn(&Streamed) -> f64| {
            format!("from the demo provider {} us, bare {} us", us(sqlite_few, figure), us(bare_few, figure))
        };
        let to_bare = "bare stamps as it writes, and has no vendor in front";
        let at_many = format!(
            "from the demo provider {} us, with the log off {} us, bare {} us; log on to off, from the demo provider, {:.2} x, which is not judged",
            us(sqlite, p99),
            us(memory, p99),
            us(bare, p99),
            median(&sqlite.ratio(memory, p99))
        );
        let sessions = self.many();
        let less = Better::Less;
        let rows = vec![
            Row::new(5, format!("pace kept, {sessions} x 50/s, log on"), &kept(sqlite), "%", Better::More, 99.5, 99.8)
                .note(format!("bare {:.2} %", median(&kept(bare)))),
            Row::new(6, format!("CPU per token, {sessions} x 50/s, log on, to bare"), &sqlite.ratio(bare, cpu), "x", less, 1.5, 1.3)
                .note(format!("{} us against {} us", us(sqlite, cpu), us(bare, cpu))),
            Row::new(21, "CPU per token, log on to log off", &sqlite.ratio(memory, cpu), "x", less, 1.2, 1.05),
        ];
        let seven = [
            Row::new(7, "latency, 100 x 50/s, p50", &vendor_few.of(p50), "us", less, 100.0, 60.0).note(demo(p50)),
            Row::new(7, "latency, 100 x 50/s, p99", &vendor_few.of(p99), "us", less, 300.0, 150.0).note(demo(p99)),
            Row::new(7, "latency, 100 x 50/s, p50 to bare", &vendor_few.ratio(bare_few, p50), "x", less, 4.0, 4.0).note(to_bare),
            Row::new(7, "latency, 100 x 50/s, p99 to bare", &vendor_few.ratio(bare_few, p99), "x", less, 3.0, 3.0).note(to_bare),
        ];
        let eight = Row::new(8, format!("latency, {sessions} x 50/s, p99"), &vendor.of(p99), "us", less, 5000.0, 2000.0).note(at_many);
        let seven = seven.into_iter().map(|row| row.unless(!vendor_few.kept() || !bare_few.kept()));
        rows.into_iter().chain(seven).chain([eight.unless(!vendor.kept())]).collect()
    }

    /// Goal 9.
    async fn first_token(&mut self) -> anyhow::Result<()> {
        if !self.wants(&[9]) {
            return Ok(());
        }
        for (sessions, must, aim) in [(100, 5.0, 2.0), (self.many(), 20.0, 8.0)] {
            let (mut p99, mut p50) = (Vec::new(), Vec::new());
            for _ in 0..self.rounds {
                let (median, late) = streams::first_token(&self.programs, Kind::Sqlite, sessions).await?;
                p50.push(median);
                p99.push(late);
            }
            let row = Row::new(9, format!("submit to first token, {sessions} at once, p99"), &p99, "ms", Better::Less, must, aim);
            self.push(row.note(format!("p50 {:.2} ms", median(&p50))));
        }
        Ok(())
    }

    /// Goals 11 and 12.
    async fn cancels(&mut self) -> anyhow::Result<()> {
        if self.wants(&[11]) {
            for (sessions, must, aim) in [(100, 1.0, 0.2), (self.many(), 5.0, 2.0)] {
                self.cancels_acknowledged(sessions, 20, must, aim).await?;
            }
            self.cancels_acknowledged(100, 0, f64::INFINITY, f64::INFINITY).await?;
        }
        if !self.wants(&[12]) {
            return Ok(());
        }
        let (mut p99, mut notes, mut broken) = (Vec::new(), Vec::new(), false);
        for _ in 0..self.rounds {
            let found = cancel::closed_upstream(&self.programs, self.many()).await?;
            p99.push(found.closed(0.99));
            broken |= found.not_closed + found.unanswered > 0;
            notes.push(format!("p50 {:.2} ms, {} not closed, {} unanswered", found.closed(0.5), found.not_closed, found.unanswered));
        }
        let what = format!("cancel to vendor's connection closed, {} x 50/s, p99", self.many());
        let note = notes.pop().unwrap_or_default();
        self.push(Row::new(12, what, &p99, "ms", Better::Less, 10.0, 3.0).note(note).unless(broken));
        Ok(())
    }

    async fn cancels_acknowledged(&mut self, sessions: usize, pace_ms: u32, must: f64, aim: f64) -> anyhow::Result<()> {
        let (mut p99, mut bare, mut after, mut late, mut unanswered) = (Vec::new(), Vec::new(), Vec::new(), 0, 0);
        for _ in 0..self.rounds {
            bare.push(cancel::acknowledged(&self.programs, Kind::Bare, sessions, pace_ms).await?.ack(0.99));
            let found = cancel::acknowledged(&self.programs, Kind::Sqlite, sessions, pace_ms).await?;
            p99.push(found.ack(0.99));
            after.push(found.after_cancel as f64);
            late = late.max(found.after_ack);
            unanswered += found.unanswered;
        }
        let at = if pace_ms == 0 { format!("{sessions} at full speed") } else { format!("{sessions} x {pace_ms} ms") };
        let note = format!("bare {} ms, {unanswered} unanswered", short(median(&bare)));
        if must.is_finite() {
            self.push(
                Row::new(11, format!("cancel to ack, {at}, p99"), &p99, "ms", Better::Less, must, aim).note(note).unless(unanswered > 0),
            );
        }
        let worst = after.iter().copied().fold(0.0, f64::max);
        let note = format!("{late} of before it were still on their way; ack p99 {} ms", short(median(&p99)));
        self.push(
            Row::new(11, format!("tokens of after the cancel, {at}, worst"), &[worst], "", Better::Less, 0.0, 0.0)
                .note(note)
                .unless(unanswered > 0),
        );
        Ok(())
    }

    /// Goals 16, 17, 18.
    async fn storms(&mut self) -> anyhow::Result<()> {
        let clients = (open_files_limit() * 4 / 5).saturating_sub(300).min(if self.quick { 1_000 } else { 10_000 });
        for (goal, cold, must, aim) in [(16, false, 2.0, 1.3), (17, true, 8.0, 3.0)] {
            if !self.wants(&[goal]) {
                continue;
            }
            let (mut ratios, mut seconds, mut wrong) = (Vec::new(), Vec::new(), 0);
            for _ in 0..self.rounds {
                let bare = storm::bare(&self.programs, clients).await?;
                let hub = storm::hub(&self.programs, clients, cold).await?;
                let per_event = |storm: storm::Storm| storm.seconds / storm.events as f64;
                ratios.push(per_event(hub) / per_event(bare));
                seconds.push(hub.seconds);
                wrong += hub.wrong;
            }
            let from = if cold { "SQLite, hub just started" } else { "memory" };
            let what = format!("{clients} clients come back, 100 events each, from {from}, to bare");
            let note = format!("{:.2} s; {wrong} clients got anything but their log", median(&seconds));
            self.push(Row::new(goal, what, &ratios, "x", Better::Less, must, aim).note(note).unless(wrong > 0));
        }
        if !self.wants(&[18]) {
            return Ok(());
        }
        let (mut ratios, mut rates) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            let bare = storm::handshakes(&self.programs, Kind::Bare, clients / 2).await?;
            let hub = storm::handshakes(&self.programs, Kind::Sqlite, clients / 2).await?;
            ratios.push(hub / bare);
            rates.push(hub);
        }
        let row = Row::new(18, "handshakes with a signed token, to bare", &ratios, "x", Better::More, 0.4, 0.7);
        self.push(row.note(format!("{}/s; the ratio to Express is not measured", short(median(&rates)))));
        Ok(())
    }

    /// Goals 13, 14, 15. One round: memory does not vary.
    async fn memory(&mut self) -> anyhow::Result<()> {
        if self.wants(&[13, 14]) {
            // Of our files and the hub's, which keeps a fifth for itself.
            let most = (open_files_limit() * 4 / 5).saturating_sub(300);
            let sessions = most.min(if self.quick { 2_000 } else { 10_000 });
            let found = memory::connected(&self.programs, sessions).await?;
            let what = |rest: &str| format!("RSS per session, {sessions} sessions, {rest}");
            self.push(Row::new(13, what("idle, connected"), &[found.idle_kib], "KiB", Better::Less, 16.0, 8.0));
            self.push(Row::new(14, what("after 20 events, connected"), &[found.used_kib], "KiB", Better::Less, 32.0, 16.0));
            let (parked, again) = memory::parked(&self.programs, sessions).await?;
            let note = "the allocator gives nothing back, so what is reused shows";
            self.push(Row::new(14, what("parked: 20 events, never a socket"), &[parked], "KiB", Better::Less, 8.0, 4.0));
            self.push(Row::new(14, what("growth by as many more, after idle_unload"), &[again], "KiB", Better::Less, 8.0, 0.5).note(note));
        }
        if self.wants(&[15]) {
            let (few, many) = if self.quick { (1_000, 5_000) } else { (10_000, 100_000) };
            let small = memory::without_sockets(&self.programs, few).await?;
            let large = memory::without_sockets(&self.programs, many).await?;
            let note = format!("{small:.2} and {large:.2} KiB, one after the other");
            let row = Row::new(15, format!("RSS per session at {many} to {few}"), &[large / small], "x", Better::Less, 1.1, 1.02);
            self.push(row.note(note));
        }
        Ok(())
    }

    /// Goal 22.
    async fn stalled(&mut self) -> anyhow::Result<()> {
        if !self.wants(&[22]) {
            return Ok(());
        }
        let (mut ratios, mut alone_p99, mut grown, mut kept) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            let alone = stalled::beside(&self.programs, 100, false, self.window).await?;
            let beside = stalled::beside(&self.programs, 100, true, self.window).await?;
            ratios.push(beside.p99_us / alone.p99_us);
            alone_p99.push(alone.p99_us);
            kept.push(alone.kept.min(beside.kept));
            grown.push(beside.grown_kib.saturating_sub(alone.grown_kib) as f64);
        }
        // Readers that wait for the stalled one get nothing, and of nothing there is no latency.
        let worst = kept.iter().copied().fold(1.0, f64::min);
        let note = format!("{} us alone; {:.1} % of the pace kept at least", short(median(&alone_p99)), worst * 100.0);
        let row = Row::new(22, "p99 of 100 readers beside a stalled one, to alone", &ratios, "x", Better::Less, 1.1, 1.1);
        self.push(row.note(note).unless(worst < KEPT_AT_LEAST));
        self.push(Row::new(22, "memory for a stalled reader", &grown, "KiB", Better::Less, 512.0, 512.0));
        Ok(())
    }
}

impl Bench {
    /// Goal 10.
    async fn through(&mut self) -> anyhow::Result<()> {
        if !self.wants(&[10]) {
            return Ok(());
        }
        let (mut first, mut gap, mut notes) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            let (direct, through) = through::both(&self.programs, if self.quick { 5 } else { 20 }).await?;
            first.push(through.first_p50_ms - direct.first_p50_ms);
            gap.push(through.gap_p99_ms - direct.gap_p99_ms);
            notes.push(format!(
                "first {:.2} and {:.2} ms, gap off {:.2} and {:.2} ms, direct and through",
                direct.first_p50_ms, through.first_p50_ms, direct.gap_p99_ms, through.gap_p99_ms
            ));
        }
        let what = "one stream through the hub, against direct, added";
        self.push(Row::new(10, format!("{what} to the first token, p50"), &first, "ms", Better::Less, 0.5, 0.25));
        let note = notes.pop().unwrap_or_default();
        self.push(Row::new(10, format!("{what} to the gap, p99"), &gap, "ms", Better::Less, 0.2, 0.02).note(note));
        Ok(())
    }

    /// Goal 19.
    async fn fan_out(&mut self) -> anyhow::Result<()> {
        if !self.wants(&[19]) {
            return Ok(());
        }
        let (mut ratios, mut notes, mut kept) = (Vec::new(), Vec::new(), true);
        for _ in 0..self.rounds {
            let bare = fanout::fan_out(&self.programs, Kind::Bare, self.many(), self.window).await?;
            let hub = fanout::fan_out(&self.programs, Kind::Sqlite, self.many(), self.window).await?;
            ratios.push(hub.cpu_us / bare.cpu_us);
            kept &= hub.kept.min(bare.kept) >= KEPT_AT_LEAST;
            notes.push(format!(
                "{:.2} against {:.2} us; p50 {:.1} against {:.1}, p99 {:.1} against {:.1} ms; {:.1} % of the pace kept",
                hub.cpu_us,
                bare.cpu_us,
                hub.p50_ms,
                bare.p50_ms,
                hub.p99_ms,
                bare.p99_ms,
                hub.kept * 100.0
            ));
        }
        let what = format!("fan-out 1 to {} at 100/s, CPU per delivery, to a bare broadcast", self.many());
        let note = notes.pop().unwrap_or_default();
        self.push(Row::new(19, what, &ratios, "x", Better::Less, 1.3, 1.05).note(note).unless(!kept));
        Ok(())
    }

    /// Goal 20.
    async fn durable(&mut self) -> anyhow::Result<()> {
        if !self.wants(&[20]) {
            return Ok(());
        }
        let events = if self.quick { 100_000 } else { 1_000_000 };
        let Some(found) = durable::appends(&self.programs.load, self.rounds, events).await? else {
            self.missing.push("20, because the example is not built: cargo build --release --example durable".to_owned());
            return Ok(());
        };
        for appends in found {
            let note = format!("{}/s", short(appends.rate));
            self.push(Row::new(20, format!("{}, to plain rows", appends.name), &[appends.ratio], "x", Better::More, 0.6, 1.0).note(note));
            self.push(Row::new(
                20,
                format!("{}, bytes written per byte", appends.name),
                &[appends.amplification],
                "",
                Better::Less,
                3.0,
                2.4,
            ));
        }
        Ok(())
    }

    /// Goals 3 and 4.
    async fn peers(&mut self, pin: bool) -> anyhow::Result<()> {
        if !self.wants(&[3, 4]) {
            return Ok(());
        }
        let many = self.many();
        let compared = [
            (3, Peer::ExpressWs, 100, 3.0, 5.0),
            (3, Peer::ExpressWs, many, 5.0, 8.0),
            (4, Peer::FastapiSse, many, 10.0, 15.0),
            (4, Peer::Socketio, many, 5.0, 8.0),
        ];
        let places = match Places::find(Some(&self.programs.hub), None, pin) {
            Ok(places) => places,
            Err(error) => {
                self.missing.push(format!("3 and 4: {error}"));
                return Ok(());
            }
        };
        for (goal, peer, sessions, must, aim) in compared {
            if !self.wants(&[goal]) {
                continue;
            }
            match peers::ratios(&places, peer, sessions, self.rounds, self.window).await? {
                Ok((ratios, note)) => {
                    let what = format!("saturated, {sessions} sessions, log on, to {}", peer.name());
                    self.push(Row::new(goal, what, &ratios, "x", Better::More, must, aim).note(note));
                }
                Err(how) => self.missing.push(format!("{goal}: {how}")),
            }
        }
        Ok(())
    }
}

fn tell(what: &str, found: &Streamed) {
    say(&format!(
        "{what}: {:<24} {:>5} sessions {:>9}/s {:>5.2} us/token {:>5.1} tokens/event, p50 {} p99 {} us, cpu {:.0} % (client {:.0} %)",
        found.server.name(),
        found.sessions,
        short(found.tokens_per_s),
        found.cpu_us,
        found.tokens_per_event,
        short(found.p50_us),
        short(found.p99_us),
        found.server_cpu,
        found.client_cpu
    ));
}

#[allow(clippy::print_stdout, reason = "the table is the program's output")]
fn say(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: BenchArgs,
    }

    #[test]
    fn there_are_as_many_goals_as_there_are() {
        let asked = |goal: &str| Program::try_parse_from(["bench", "--goal", goal]).map(|program| program.args.goal);
        assert_eq!(asked("22").ok(), Some(vec![22]));
        assert!(asked("99").is_err() && asked("0").is_err());
    }
}
